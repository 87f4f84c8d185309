"""Three ways to take the maximum of windows that do not overlap: k x k pixels each, k dividing H and W.

    loops     every window by itself
    im2col    the windows as rows of a matrix, whose arg-max says where the gradient goes
    reshape   the windows as two axes of a view; whatever equals the maximum takes the gradient

The last is wrong where a window has its maximum twice: both pixels take the whole gradient, so that dx sums to more
than dy. `ties` says how often that happens: in four of five 2x2 windows of MNIST's images, and in about four of ten
behind a first convolution. The other two take the first maximum, row by row.

x is (N, C, H, W), y and dy (N, C, H / k, W / k). Each forward returns y and what its backward needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stridenet.layout import Array


class Places(NamedTuple):
    """Where the maximum of each window is, (N, C, P, Q): for loops in the flat x, for im2col in the flat window."""

    places: Array
    shape: tuple[int, ...]  # of x


class Maxima(NamedTuple):
    """The image and its maxima."""

    x: Array
    y: Array


def forward_loops(x: Array, k: int) -> tuple[Array, Places]:
    """One iteration for each window, which also finds where its maximum is."""
    N, C, H, W = x.shape
    y = np.empty((N, C, H // k, W // k), x.dtype)
    places = np.empty(y.shape, np.intp)
    for n, c, p, q in np.ndindex(y.shape):
        window = x[n, c, p * k : p * k + k, q * k : q * k + k]
        r, s = divmod(int(window.argmax()), k)
        y[n, c, p, q] = window[r, s]
        places[n, c, p, q] = ((n * C + c) * H + p * k + r) * W + q * k + s
    return y, Places(places, x.shape)


def backward_loops(dy: Array, saved: Places) -> Array:
    """No loop is left: the forward has found every place."""
    dx = np.zeros(saved.shape, dy.dtype)
    dx.reshape(-1)[saved.places] = dy
    return dx


def _windows(x: Array, k: int) -> Array:
    """x as (N, C, P, k, Q, k): a view, two of whose axes are a window."""
    N, C, H, W = x.shape
    return x.reshape(N, C, H // k, k, W // k, k)


def forward_im2col(x: Array, k: int) -> tuple[Array, Places]:
    """A copy with each window in a row, (N, C, P, Q, k*k), and the arg-max of every row."""
    windows = _windows(x, k).transpose(0, 1, 2, 4, 3, 5)  # (N, C, P, Q, k, k)
    rows = windows.reshape(*windows.shape[:4], k * k)
    places = rows.argmax(axis=-1)
    return np.take_along_axis(rows, places[..., None], axis=-1)[..., 0], Places(places, x.shape)


def backward_im2col(dy: Array, saved: Places) -> Array:
    """The gradient goes into its place of the row, the rows back into the image."""
    N, C, P, Q = dy.shape
    k = saved.shape[2] // P
    rows = np.zeros((N, C, P, Q, k * k), dy.dtype)
    np.put_along_axis(rows, saved.places[..., None], dy[..., None], axis=-1)
    return rows.reshape(N, C, P, Q, k, k).transpose(0, 1, 2, 4, 3, 5).reshape(saved.shape)


def forward_reshape(x: Array, k: int) -> tuple[Array, Maxima]:
    """The maximum over two axes of a view, one after the other: no copy of the windows."""
    y = _windows(x, k).max(axis=3).max(axis=4)  # (N, C, P, Q, k), then (N, C, P, Q)
    return y, Maxima(x, y)


def backward_reshape(dy: Array, saved: Maxima) -> Array:
    """Every pixel that equals the maximum of its window takes the gradient, at a tie each of them."""
    k = saved.x.shape[2] // dy.shape[2]
    mask = _windows(saved.x, k) == saved.y[:, :, :, None, :, None]  # (N, C, P, k, Q, k)
    return (mask * dy[:, :, :, None, :, None]).reshape(saved.x.shape)
