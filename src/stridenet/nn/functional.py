"""Operations as pairs: ``f(...) -> (y, saved)`` beside ``f_backward(dy, saved) -> gradients in argument order``.

Pure functions: a training loop can be written with these alone. Shapes and types are checked here, once: each function
raises ShapeError where they do not fit. The backend is chosen here, once, and named in `saved`, so that a backward
never mixes backends. Results are batch innermost in memory (see `layout`). Arrays are float32 or float64, never
changed, and results share no memory with hidden state.
"""

from __future__ import annotations

from types import EllipsisType
from typing import NamedTuple

import numpy as np

from stridenet import kernels, layout
from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.shapes import (
    IntOrPair,
    Padding,
    Shape,
    Window,
    integer,
    number,
    padding_margins,
    pair,
    pool_arguments,
    product,
    window,
)


def _check(
    who: str, name: str, x: Array, shape: tuple[int | str | EllipsisType, ...], like: Array | None = None
) -> None:
    """Raise ShapeError unless `x` is a float array of `shape`; a word stands for any length, ... for any axes."""
    known = [s for s in shape if s is not ...]
    fits = x.ndim == len(known) if ... not in shape else x.ndim >= len(known)
    if not fits or any(isinstance(s, int) and s != n for s, n in zip(known, x.shape, strict=False)):
        text = ", ".join("..." if s is ... else str(s) for s in shape)
        raise ShapeError(f"{who}: expected {name} of shape ({text}), got {x.shape}")
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        raise ShapeError(f"{who}: expected {name} of dtype float32 or float64, got {x.dtype}; use {name}.astype")
    if like is not None and x.dtype != like.dtype:
        raise ShapeError(f"{who}: expected arrays of one dtype, got {like.dtype} and {name} {x.dtype}; use astype")


class Conv2dSaved(NamedTuple):
    """What conv2d keeps for its backward."""

    backend: kernels.Backend
    x: Array
    weight: Array
    has_bias: bool
    columns: object
    window: Window
    groups: int


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2dSaved]:
    """2-D cross-correlation, the "convolution" of neural networks.

    y[n, k, p, q] = bias[k] + sum over c, r, s of x[n, c, p*stride + r*dilation - top, ...] * weight[k, c, r, s],
    output sizes as in `shapes.window` (LeCun et al. 1998, section II; groups: Krizhevsky et al. 2012).

    Args:
        x: (N, C, H, W).
        weight: (K, C / groups, R, S).
        bias: (K,) or None.
        stride: step of the window, an int or (rows, columns).
        padding: zeros around x: an int, (vertical, horizontal), ((top, bottom), (left, right)) or "same".
        dilation: step between the taps of the kernel.
        groups: the channels are convolved in that many separate groups.

    Returns:
        y (N, K, P, Q), and what `conv2d_backward` needs.

    Raises:
        ShapeError: shapes or types do not fit.
        ConfigError: an argument is out of range.
    """
    _check("conv2d", "weight", weight, ("K", "C", "R", "S"))
    groups = integer("conv2d", "groups", groups)
    K, depth = weight.shape[:2]  # depth: the channels of one group
    if K % groups or not weight.size:
        raise ShapeError(
            f"conv2d: expected weight (K, C, R, S), none 0, groups={groups} dividing K, got {weight.shape}"
        )
    _check("conv2d", "x", x, ("N", depth * groups, "H", "W"), weight)
    if bias is not None:
        _check("conv2d", "bias", bias, (K,), x)
    geometry = window(
        "conv2d",
        (x.shape[2], x.shape[3]),
        (weight.shape[2], weight.shape[3]),
        pair("conv2d", "stride", stride),
        padding_margins("conv2d", padding),
        pair("conv2d", "dilation", dilation),
    )
    backend = kernels.get()
    y, columns = backend.conv2d(x, weight, bias, geometry, groups)
    return y, Conv2dSaved(backend, x, weight, bias is not None, columns, geometry, groups)


def conv2d_backward(dy: Array, saved: Conv2dSaved, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """dx (N, C, H, W) or None, dweight, dbias or None, from dy (N, K, P, Q)."""
    _check("conv2d_backward", "dy", dy, (len(saved.x), len(saved.weight), *saved.window.output), saved.x)
    dx, dweight = saved.backend.conv2d_backward(
        dy, saved.x, saved.weight, saved.columns, saved.window, saved.groups, need_dx
    )
    return dx, dweight, dy.sum(axis=(0, 2, 3)) if saved.has_bias else None


class MaxPool2dSaved(NamedTuple):
    """What max_pool2d keeps for its backward."""

    backend: kernels.Backend
    x: Array
    y: Array
    window: Window


def max_pool2d(
    x: Array, kernel_size: IntOrPair, *, stride: IntOrPair | None = None, padding: Padding = 0
) -> tuple[Array, MaxPool2dSaved]:
    """The maximum of each window of x (N, C, H, W); y (N, C, P, Q). `stride` None means `kernel_size`.

    Padding never wins, so it must be smaller than the kernel. At a tie the first maximum counts, row by row.

    Raises:
        ShapeError: the window does not fit.
        ConfigError: an argument is out of range.
    """
    _check("max_pool2d", "x", x, ("N", "C", "H", "W"))
    kernel, step, margins = pool_arguments("max_pool2d", kernel_size, stride, padding)
    geometry = window("max_pool2d", (x.shape[2], x.shape[3]), kernel, step, margins)
    backend = kernels.get()
    y = backend.max_pool2d(x, geometry)
    return y, MaxPool2dSaved(backend, x, np.copy(y), geometry)


def max_pool2d_backward(dy: Array, saved: MaxPool2dSaved) -> Array:
    """dx (N, C, H, W): the gradient dy (N, C, P, Q) of each window goes whole to its first maximum."""
    _check("max_pool2d_backward", "dy", dy, saved.y.shape, saved.x)
    return saved.backend.max_pool2d_backward(dy, saved.x, saved.y, saved.window)


def flatten(x: Array) -> tuple[Array, Shape]:
    """(N, C, H, W) to (N, C*H*W), channel by channel, row by row; a view of x if it can be. Saved: x's shape."""
    _check("flatten", "x", x, ("N", ...))
    return x.reshape(len(x), product(x.shape[1:])), x.shape


def flatten_backward(dy: Array, shape: Shape) -> Array:
    """dx (N, C, H, W) from dy (N, C*H*W)."""
    _check("flatten_backward", "dy", dy, (shape[0], product(shape[1:])))
    return dy.reshape(shape)


class LinearSaved(NamedTuple):
    """What linear keeps for its backward."""

    backend: kernels.Backend
    x: Array
    weight: Array
    has_bias: bool


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearSaved]:
    """y = x @ weight.T + bias, of x (N, D), weight (K, D) and bias (K,) or None; y (N, K).

    Raises:
        ShapeError: shapes or types do not fit.
    """
    _check("linear", "weight", weight, ("K", "D"))
    _check("linear", "x", x, ("N", weight.shape[1]), weight)
    if bias is not None:
        _check("linear", "bias", bias, (weight.shape[0],), x)
    backend = kernels.get()
    return backend.linear(x, weight, bias), LinearSaved(backend, x, weight, bias is not None)


def linear_backward(dy: Array, saved: LinearSaved, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """dx (N, D) or None, dweight (K, D), dbias (K,) or None, from dy (N, K)."""
    _check("linear_backward", "dy", dy, (len(saved.x), len(saved.weight)), saved.x)
    dx, dweight = saved.backend.linear_backward(dy, saved.x, saved.weight, need_dx)
    return dx, dweight, dy.sum(axis=0) if saved.has_bias else None


def relu(x: Array) -> tuple[Array, Array]:
    """max(x, 0) elementwise, any shape (N, ...); NaN stays NaN. Saved: the mask x > 0."""
    _check("relu", "x", x, ("N", ...))
    zeros = np.zeros((len(x), *[1] * (x.ndim - 1)), x.dtype)  # NumPy has no vector loop for a maximum with a scalar
    return np.maximum(x, zeros), x > 0


def relu_backward(dy: Array, positive: Array) -> Array:
    """dx = dy where x > 0, else 0; the derivative at 0 is 0."""
    _check("relu_backward", "dy", dy, positive.shape)
    return dy * positive


def tanh(x: Array) -> tuple[Array, Array]:
    """Hyperbolic tangent, any shape (N, ...). Saved: y."""
    _check("tanh", "x", x, ("N", ...))
    y = np.tanh(x)
    return y, np.copy(y)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy (1 - y^2)."""
    _check("tanh_backward", "dy", dy, y.shape, y)
    return dy * (1 - y * y)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """1 / (1 + exp(-x)), any shape (N, ...), without overflow: (1 + tanh(x / 2)) / 2. Saved: y."""
    _check("sigmoid", "x", x, ("N", ...))
    y = 0.5 + 0.5 * np.tanh(0.5 * x)
    return y, np.copy(y)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy y (1 - y)."""
    _check("sigmoid_backward", "dy", dy, y.shape, y)
    return dy * y * (1 - y)


def log_softmax(x: Array) -> tuple[Array, Array]:
    """x - log sum exp x over axis 1 of x (N, K, ...), shifted by the maximum so that nothing overflows. Saved: y."""
    _check("log_softmax", "x", x, ("N", "K", ...))
    if not x.shape[1]:
        raise ShapeError(f"log_softmax: expected x with at least one class, got {x.shape}")
    shifted = x - x.max(axis=1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return y, np.copy(y)


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dx = dy - softmax(x) sum(dy), the sum over axis 1."""
    _check("log_softmax_backward", "dy", dy, y.shape, y)
    return dy - np.exp(y) * dy.sum(axis=1, keepdims=True)


def dropout(x: Array, p: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each element dropped with probability `p`, the others divided by 1 - p, so that E[y] = x. Saved: the mask.

    Srivastava et al. 2014, in its inverted form: nothing is left to do at evaluation.
    """
    _check("dropout", "x", x, ("N", ...))
    number("dropout", "p", p, low=0.0, high=1.0, open_high=True)
    kept = rng.random((*x.shape[1:], len(x)), np.float32) >= p
    mask = layout.outer(kept) * x.dtype.type(1 / (1 - p))
    return x * mask, mask


def dropout_backward(dy: Array, mask: Array) -> Array:
    """dx = dy times the same mask."""
    _check("dropout_backward", "dy", dy, mask.shape, mask)
    return dy * mask
