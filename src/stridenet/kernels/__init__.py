"""Backends: one module per technique, arrays in, arrays out, no state, no checks.

Every backend has the same functions with the same arguments; `loops` defines what each computes. x is
(N, C, H, W) in any memory order, results are batch innermost. `window` is the resolved geometry of
`shapes.Window`; what a forward returns beside y is for its own backward only.

    conv2d(x, weight, bias, window, groups) -> y, columns
    conv2d_backward(dy, x, weight, columns, window, groups, need_dx) -> dx or None, dweight
    max_pool2d(x, window) -> y
    max_pool2d_backward(dy, x, y, window) -> dx
    avg_pool2d(x, window, counts) -> y
    avg_pool2d_backward(dy, x, window, counts) -> dx
    batch_norm(x, mean, scale, bias) -> y
    batch_norm_backward(dy, x, mean, scale, shift, slope) -> dx
    channel_moments(x) -> mean, squares
    channel_sums(dy, x, mean) -> sum of dy, sum of dy (x - mean)
    linear(x, weight, bias) -> y
    linear_backward(dy, x, weight, need_dx) -> dx or None, dweight

The bias of a convolution or a linear layer is added per output channel; its gradient, a sum of dy, needs no kernel.
The sums that batch norm needs are float64.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from stridenet.layout import Array
from stridenet.shapes import Window, choice

NAMES = ("auto", "loops", "im2col", "batchlast")
_AUTO = os.environ.get("STRIDENET_KERNELS") or "auto"  # what "auto" stands for in this process
_chosen: ContextVar[str] = ContextVar("stridenet.kernels", default="auto")


class Backend(Protocol):
    """What a backend module offers; the arguments are those of the module docstring."""

    def conv2d(self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, Any]:
        """y (N, K, P, Q), and what the backward can reuse."""
        ...

    def conv2d_backward(
        self, dy: Array, x: Array, weight: Array, columns: Any, window: Window, groups: int, need_dx: bool
    ) -> tuple[Array | None, Array]:
        """dx (N, C, H, W) or None, dweight (K, C / groups, R, S)."""
        ...

    def max_pool2d(self, x: Array, window: Window) -> Array:
        """y (N, C, P, Q)."""
        ...

    def max_pool2d_backward(self, dy: Array, x: Array, y: Array, window: Window) -> Array:
        """dx (N, C, H, W); each window's gradient goes to its first maximum, row by row."""
        ...

    def avg_pool2d(self, x: Array, window: Window, counts: Array) -> Array:
        """y (N, C, P, Q): the sum of each window over its count, counts (P, Q) of x's type."""
        ...

    def avg_pool2d_backward(self, dy: Array, x: Array, window: Window, counts: Array) -> Array:
        """dx (N, C, H, W)."""
        ...

    def batch_norm(self, x: Array, mean: Array, scale: Array, bias: Array) -> Array:
        """y (N, C, H, W) = (x - mean) scale + bias, channel by channel; the three are (C,) of x's type."""
        ...

    def batch_norm_backward(self, dy: Array, x: Array, mean: Array, scale: Array, shift: Array, slope: Array) -> Array:
        """dx (N, C, H, W) = scale (dy - shift - slope (x - mean)), the four (C,) of x's type."""
        ...

    def channel_moments(self, x: Array) -> tuple[Array, Array]:
        """(mean, squares), float64 (C,): of each channel the mean, and the sum of squared distances from it."""
        ...

    def channel_sums(self, dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
        """The sums of dy and of dy (x - mean) over each channel, float64 (C,); mean is float64 (C,)."""
        ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """y (N, K)."""
        ...

    def linear_backward(self, dy: Array, x: Array, weight: Array, need_dx: bool) -> tuple[Array | None, Array]:
        """dx (N, D) or None, dweight (K, D)."""
        ...


def resolve(name: str | None = None) -> str:
    """The backend that `name` stands for; None is the one chosen by `use`.

    "auto" is the one that the environment variable STRIDENET_KERNELS names, else the fastest there is.

    Raises:
        ConfigError: there is no such backend.
    """
    name = _chosen.get() if name is None else choice("kernels", name, NAMES)  # what was chosen has been checked
    if name == "auto" != _AUTO:
        name = choice("STRIDENET_KERNELS", _AUTO, NAMES)
    return "batchlast" if name == "auto" else name


def without_compiler() -> str:
    """As `resolve`, but where nothing was chosen a backend for few images: one that nobody waits for, NumPy alone."""
    return "im2col" if _chosen.get() == _AUTO == "auto" else resolve()


def get(name: str | None = None) -> Backend:
    """The backend module that `name` stands for, as in `resolve`."""
    match resolve(name):
        case "loops":
            from stridenet.kernels import loops

            return loops
        case "batchlast":
            from stridenet.kernels import batchlast

            return batchlast
        case _:
            from stridenet.kernels import im2col

            return im2col


@contextmanager
def use(name: str) -> Generator[None]:
    """Choose the backend of this thread of control, inside a ``with`` block.

    >>> with use("loops"):
    ...     resolve()
    'loops'
    """
    resolve(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)
