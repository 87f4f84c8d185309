"""Max pooling where a window has its maximum several times: who takes the gradient, and how often it happens.

    first   the first maximum, row by row: what stridenet and PyTorch do
    split   all of them, in equal shares
    all     each of them the whole: the mask of equal elements, whose dx sums to more than dy (bug B10)

Windows may overlap. x is (N, C, H, W), y and dy (N, C, P, Q) with P = (H - k) // stride + 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stridenet.layout import Array

Ties = Literal["first", "split", "all"]


class Saved(NamedTuple):
    """What the forward keeps: which pixels of each window are its maximum, and where the window stands."""

    maxima: Array  # (N, C, P, Q, k, k), True or False
    shape: tuple[int, ...]  # of x
    stride: int


def _windows(x: Array, k: int, stride: int) -> Array:
    """All windows (N, C, P, Q, k, k), a view."""
    return sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]


def forward(x: Array, k: int, *, stride: int | None = None) -> tuple[Array, Saved]:
    """The maximum of each window; `stride` None means k."""
    step = k if stride is None else stride
    windows = _windows(x, k, step)
    y = windows.max(axis=(4, 5))
    return y, Saved(windows == y[..., None, None], x.shape, step)


def backward(dy: Array, saved: Saved, *, ties: Ties = "first") -> Array:
    """dx (N, C, H, W); what overlapping windows send to a pixel is added."""
    maxima = saved.maxima
    k, rows = maxima.shape[-1], maxima.reshape(*maxima.shape[:4], -1)  # (N, C, P, Q, k*k)
    shares = rows.astype(dy.dtype)
    if ties == "first":
        shares *= np.cumsum(rows, axis=-1) == 1
    elif ties == "split":
        shares /= rows.sum(axis=-1, keepdims=True)
    sent = (shares * dy[..., None]).reshape(maxima.shape)
    dx, (P, Q) = np.zeros(saved.shape, dy.dtype), dy.shape[2:]
    for r, s in np.ndindex(k, k):
        rows_of, columns = slice(r, r + P * saved.stride, saved.stride), slice(s, s + Q * saved.stride, saved.stride)
        dx[:, :, rows_of, columns] += sent[..., r, s]
    return dx


class Report(NamedTuple):
    """How often windows are tied.

    Attributes:
        windows: how many there are.
        tied: how many have their maximum at least twice.
        constant: how many of these have nothing else, as in the background.
        excess: the sum of dx over the sum of dy where each maximum takes the whole gradient and dy is 1.
    """

    windows: int
    tied: int
    constant: int
    excess: float

    @property
    def rate(self) -> float:
        """The share of windows that are tied, 0 to 1."""
        return self.tied / self.windows


def report(x: Array, k: int, *, stride: int | None = None) -> Report:
    """The ties of the windows of x (N, C, H, W).

    >>> report(np.array([[[[1, 1, 0, 5], [1, 0, 0, 0], [7, 7, 3, 4], [7, 7, 5, 6]]]]), 2)
    Report(windows=4, tied=2, constant=1, excess=2.25)
    """
    windows = _windows(x, k, k if stride is None else stride)
    counts = (windows == windows.max(axis=(4, 5), keepdims=True)).sum(axis=(4, 5))
    return Report(counts.size, int((counts > 1).sum()), int((counts == k * k).sum()), float(counts.mean()))
