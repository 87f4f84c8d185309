"""The definition of every kernel in plain Python loops: what the other backends must equal.

Nothing here is fast. Read it to know what is computed; the tests compare all others with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stridenet import layout
from stridenet.layout import Array
from stridenet.shapes import Pair, Shape, Window


def _zeros(shape: Shape, dtype: np.dtype[Any]) -> Array:
    x = layout.empty(shape, dtype)
    x[...] = 0
    return x


def taps(window: Window, x: Array, p: int, q: int) -> Iterator[tuple[int, int, int, int]]:
    """Kernel position (r, s) and image position (h, w) of output (p, q), row by row, padding left out."""
    (top, _), (left, _) = window.padding
    for r, s in np.ndindex(window.kernel):
        h = p * window.stride[0] + r * window.dilation[0] - top
        w = q * window.stride[1] + s * window.dilation[1] - left
        if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
            yield r, s, h, w


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, None]:
    """y[n, k, p, q] = bias[k] + sum over c, r, s of x[n, c, h, w] * weight[k, c, r, s] (a cross-correlation)."""
    K, depth = weight.shape[:2]  # depth: the channels of one group
    y = _zeros((len(x), K, *window.output), x.dtype)
    for n, k, p, q in np.ndindex(y.shape):
        first = k // (K // groups) * depth  # the first channel of k's group
        for c in range(depth):
            for r, s, h, w in taps(window, x, p, q):
                y[n, k, p, q] += x[n, first + c, h, w] * weight[k, c, r, s]
        if bias is not None:
            y[n, k, p, q] += bias[k]
    return y, None


def conv2d_backward(
    dy: Array, x: Array, weight: Array, columns: None, window: Window, groups: int, need_dx: bool
) -> tuple[Array | None, Array]:
    """Each product of the forward passes its gradient to both of its factors."""
    del columns  # the forward keeps nothing
    K, depth = weight.shape[:2]
    dx, dweight = _zeros(x.shape, x.dtype), np.zeros_like(weight)
    for n, k, p, q in np.ndindex(dy.shape):
        first = k // (K // groups) * depth
        for c in range(depth):
            for r, s, h, w in taps(window, x, p, q):
                dweight[k, c, r, s] += dy[n, k, p, q] * x[n, first + c, h, w]
                dx[n, first + c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]
    return dx if need_dx else None, dweight


def _first_maximum(x: Array, n: int, c: int, window: Window, p: int, q: int) -> Pair:
    """Where the window (p, q) has its first maximum, row by row; a NaN is greater than every number."""
    best, *others = [(h, w) for _, _, h, w in taps(window, x, p, q)]
    for place in others:
        value, record = x[n, c, *place], x[n, c, *best]
        if value > record or (np.isnan(value) and not np.isnan(record)):
            best = place
    return best


def max_pool2d(x: Array, window: Window) -> Array:
    """y[n, c, p, q] = the maximum of its window; padding never wins."""
    y = layout.empty((*x.shape[:2], *window.output), x.dtype)
    for n, c, p, q in np.ndindex(y.shape):
        y[n, c, p, q] = x[n, c, *_first_maximum(x, n, c, window, p, q)]
    return y


def max_pool2d_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """The whole gradient of a window goes to its first maximum; overlapping windows add up."""
    del y  # found again
    dx = _zeros(x.shape, x.dtype)
    for n, c, p, q in np.ndindex(dy.shape):
        dx[n, c, *_first_maximum(x, n, c, window, p, q)] += dy[n, c, p, q]
    return dx


def avg_pool2d(x: Array, window: Window, counts: Array) -> Array:
    """y[n, c, p, q] = the sum of its window / counts[p, q]; padding adds nothing to the sum."""
    y = _zeros((*x.shape[:2], *window.output), x.dtype)
    for n, c, p, q in np.ndindex(y.shape):
        for _, _, h, w in taps(window, x, p, q):
            y[n, c, p, q] += x[n, c, h, w] / counts[p, q]
    return y


def avg_pool2d_backward(dy: Array, x: Array, window: Window, counts: Array) -> Array:
    """Each pixel of a window gets an equal share; overlapping windows add up."""
    dx = _zeros(x.shape, x.dtype)
    for n, c, p, q in np.ndindex(dy.shape):
        for _, _, h, w in taps(window, x, p, q):
            dx[n, c, h, w] += dy[n, c, p, q] / counts[p, q]
    return dx


def channel_moments(x: Array) -> tuple[Array, Array]:
    """mean[c] = the mean over n, h, w of x[n, c, h, w]; squares[c] = the sum of (x[n, c, h, w] - mean[c])^2."""
    mean, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for n, c, h, w in np.ndindex(x.shape):
        mean[c] += float(x[n, c, h, w]) / (x.size // x.shape[1])
    for n, c, h, w in np.ndindex(x.shape):
        squares[c] += (x[n, c, h, w] - mean[c]) ** 2
    return mean, squares


def channel_sums(dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """The sums over n, h, w of dy[n, c, h, w] and of dy[n, c, h, w] (x[n, c, h, w] - mean[c])."""
    plain, weighted = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for n, c, h, w in np.ndindex(x.shape):
        plain[c] += dy[n, c, h, w]
        weighted[c] += dy[n, c, h, w] * (x[n, c, h, w] - mean[c])
    return plain, weighted


def batch_norm(x: Array, mean: Array, scale: Array, bias: Array) -> Array:
    """y[n, c, h, w] = (x[n, c, h, w] - mean[c]) scale[c] + bias[c]."""
    y = layout.empty(x.shape, x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c, h, w] = (x[n, c, h, w] - mean[c]) * scale[c] + bias[c]
    return y


def batch_norm_backward(dy: Array, x: Array, mean: Array, scale: Array, shift: Array, slope: Array) -> Array:
    """dx[n, c, h, w] = scale[c] (dy[n, c, h, w] - shift[c] - slope[c] (x[n, c, h, w] - mean[c]))."""
    dx = layout.empty(x.shape, x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        dx[n, c, h, w] = scale[c] * (dy[n, c, h, w] - shift[c] - slope[c] * (x[n, c, h, w] - mean[c]))
    return dx


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """y[n, k] = bias[k] + sum over d of x[n, d] * weight[k, d]."""
    y = _zeros((len(x), len(weight)), x.dtype)
    for n, k in np.ndindex(y.shape):
        for d in range(x.shape[1]):
            y[n, k] += x[n, d] * weight[k, d]
        if bias is not None:
            y[n, k] += bias[k]
    return y


def linear_backward(dy: Array, x: Array, weight: Array, need_dx: bool) -> tuple[Array | None, Array]:
    """Each product of the forward passes its gradient to both of its factors."""
    dx, dweight = _zeros(x.shape, x.dtype), np.zeros_like(weight)
    for n, k in np.ndindex(dy.shape):
        for d in range(x.shape[1]):
            dweight[k, d] += dy[n, k] * x[n, d]
            dx[n, d] += dy[n, k] * weight[k, d]
    return dx if need_dx else None, dweight
