"""Five ways to convolve. The first three, of report S0, go from one Python iteration per output to one matrix product.

    loops     every output by itself: the sum of a window times a filter
    im2col    the windows of an image are copied into columns, position by position; then a product for the image
    strided   the windows are a view; one copy and one product for the whole batch
    offsets   no windows: for each tap of the kernel the image, moved by the tap's place, times the tap's weights
    fft       no taps: a convolution of images is a product of their Fourier transforms

x is (N, C, H, W), weight (K, C, R, S), bias (K,), y and dy (N, K, P, Q), with P = (H + 2 padding - R) // stride + 1.
Each forward returns y and what its backward needs; each backward returns dx, dweight and dbias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stridenet.layout import Array


class Saved(NamedTuple):
    """What a forward keeps: the padded image, the columns made of it, and its arguments."""

    padded: Array  # (N, C, H + 2 padding, W + 2 padding)
    columns: Any  # None for loops
    weight: Array
    stride: int
    padding: int


def _pad(x: Array, padding: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _crop(padded: Array, padding: int) -> Array:
    H, W = padded.shape[2:]
    return padded[:, :, padding : H - padding, padding : W - padding]


def _output(padded: Array, weight: Array, stride: int) -> tuple[int, int]:
    (H, W), (R, S) = padded.shape[2:], weight.shape[2:]
    return (H - R) // stride + 1, (W - S) // stride + 1


def _window(p: int, q: int, weight: Array, stride: int) -> tuple[slice, slice]:
    """The rows and columns of the padded image that output (p, q) sees."""
    R, S = weight.shape[2:]
    return slice(p * stride, p * stride + R), slice(q * stride, q * stride + S)


def forward_loops(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> tuple[Array, Saved]:
    """One iteration for each image, filter and position: N K P Q in all."""
    padded, K = _pad(x, padding), len(weight)
    y = np.empty((len(x), K, *_output(padded, weight, stride)), x.dtype)
    for n, k, p, q in np.ndindex(y.shape):
        rows, columns = _window(p, q, weight, stride)
        y[n, k, p, q] = np.sum(padded[n, :, rows, columns] * weight[k]) + bias[k]
    return y, Saved(padded, None, weight, stride, padding)


def backward_loops(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """One iteration for each image and position: all filters share the window, so they go together."""
    padded, _, weight, stride, padding = saved
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    N, K, P, Q = dy.shape
    for n, p, q in np.ndindex(N, P, Q):
        rows, columns = _window(p, q, weight, stride)
        gradient = dy[n, :, p, q].reshape(K, 1, 1, 1)
        dpadded[n, :, rows, columns] += (gradient * weight).sum(axis=0)
        dweight += gradient * padded[n, :, rows, columns]
    return _crop(dpadded, padding), dweight, dy.sum(axis=(0, 2, 3))


def forward_im2col(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> tuple[Array, Saved]:
    """N P Q windows become columns one by one; each image then costs one product."""
    padded, K = _pad(x, padding), len(weight)
    P, Q = _output(padded, weight, stride)
    columns = np.empty((len(x), weight[0].size, P * Q), x.dtype)  # (N, C*R*S, P*Q)
    for n, p, q in np.ndindex(len(x), P, Q):
        rows, across = _window(p, q, weight, stride)
        columns[n, :, p * Q + q] = padded[n, :, rows, across].ravel()
    y = np.empty((len(x), K, P, Q), x.dtype)
    for n in range(len(x)):
        y[n] = (weight.reshape(K, -1) @ columns[n]).reshape(K, P, Q) + bias.reshape(K, 1, 1)
    return y, Saved(padded, columns, weight, stride, padding)


def backward_im2col(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """Two products for each image; the gradient of each column is added back to its window (col2im)."""
    padded, columns, weight, stride, padding = saved
    N, K, P, Q = dy.shape
    dpadded, dweight = np.zeros_like(padded), np.zeros((K, weight[0].size), weight.dtype)
    for n in range(N):
        gradient = dy[n].reshape(K, P * Q)
        dweight += gradient @ columns[n].T  # (K, C*R*S)
        dcolumns = weight.reshape(K, -1).T @ gradient  # (C*R*S, P*Q)
        for p, q in np.ndindex(P, Q):
            rows, across = _window(p, q, weight, stride)
            dpadded[n, :, rows, across] += dcolumns[:, p * Q + q].reshape(weight.shape[1:])
    return _crop(dpadded, padding), dweight.reshape(weight.shape), dy.sum(axis=(0, 2, 3))


def _columns(padded: Array, kernel: tuple[int, int], stride: int) -> Array:
    """All windows as rows (N*P*Q, C*R*S): a view of them costs nothing, putting it in order is the one copy."""
    windows = sliding_window_view(padded, kernel, axis=(2, 3))[:, :, ::stride, ::stride]  # (N, C, P, Q, R, S)
    rows = windows.transpose(0, 2, 3, 1, 4, 5)  # (N, P, Q, C, R, S)
    return rows.reshape(-1, rows[0, 0, 0].size)


def forward_strided(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> tuple[Array, Saved]:
    """No Python loop at all: a view of every window, a copy, a product."""
    padded, K = _pad(x, padding), len(weight)
    P, Q = _output(padded, weight, stride)
    columns = _columns(padded, weight.shape[2:], stride)
    y = (columns @ weight.reshape(K, -1).T + bias).reshape(len(x), P, Q, K)
    return y.transpose(0, 3, 1, 2), Saved(padded, columns, weight, stride, padding)  # (N, K, P, Q)


def backward_strided(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """dx is a convolution too: of dy, spread out by the stride and framed by R - 1 zeros, with the turned filters."""
    padded, columns, weight, stride, padding = saved
    (N, K, P, Q), (R, S) = dy.shape, weight.shape[2:]
    gradient = dy.transpose(0, 2, 3, 1).reshape(-1, K)  # (N*P*Q, K)
    dweight = (gradient.T @ columns).reshape(weight.shape)
    H, W = padded.shape[2:]
    spread = np.zeros((N, K, H + R - 1, W + S - 1), dy.dtype)  # rows that no window reached stay zero
    spread[:, :, R - 1 : R - 1 + P * stride : stride, S - 1 : S - 1 + Q * stride : stride] = dy
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)  # (C, K*R*S)
    dpadded = (_columns(spread, (R, S), 1) @ turned.T).reshape(N, H, W, -1).transpose(0, 3, 1, 2)
    return _crop(dpadded, padding), dweight, dy.sum(axis=(0, 2, 3))


def _moved(padded: Array, r: int, s: int, output: tuple[int, int], stride: int) -> Array:
    """What tap (r, s) sees in all windows at once, (N, C, P, Q): a view."""
    (P, Q), (down, right) = output, (r, s)
    return padded[:, :, down : down + P * stride : stride, right : right + Q * stride : stride]


def forward_offsets(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> tuple[Array, Saved]:
    """R S products, each of the moved image with the weights (K, C) of one tap, added up."""
    padded = _pad(x, padding)
    output = _output(padded, weight, stride)
    y = np.zeros((len(x), len(weight), *output), x.dtype)
    for r, s in np.ndindex(weight.shape[2:]):
        y += np.einsum("kc,ncpq->nkpq", weight[:, :, r, s], _moved(padded, r, s, output, stride))
    return y + bias[:, None, None], Saved(padded, None, weight, stride, padding)


def backward_offsets(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """Tap by tap too: the same moved images, read for dweight and added to for dx."""
    padded, _, weight, stride, padding = saved
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for r, s in np.ndindex(weight.shape[2:]):
        dweight[:, :, r, s] = np.einsum("nkpq,ncpq->kc", dy, _moved(padded, r, s, dy.shape[2:], stride))
        _moved(dpadded, r, s, dy.shape[2:], stride)[...] += np.einsum("kc,nkpq->ncpq", weight[:, :, r, s], dy)
    return _crop(dpadded, padding), dweight, dy.sum(axis=(0, 2, 3))


def _spectrum(x: Array, size: tuple[int, ...]) -> Array:
    """The transform of the last two axes, filled up with zeros to `size`: no sum that is kept wraps around."""
    return np.fft.rfft2(x, size)


def forward_fft(x: Array, weight: Array, bias: Array, *, stride: int = 1, padding: int = 0) -> tuple[Array, Saved]:
    """Correlation is the product with the conjugate. All places are computed; a stride then takes some of them."""
    padded = _pad(x, padding)
    (P, Q), size = _output(padded, weight, stride), padded.shape[2:]
    product = np.einsum("ncij,kcij->nkij", _spectrum(padded, size), _spectrum(weight, size).conj())
    y = np.fft.irfft2(product, size)[:, :, : P * stride : stride, : Q * stride : stride] + bias[:, None, None]
    return y.astype(x.dtype), Saved(padded, None, weight, stride, padding)


def backward_fft(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """dweight correlates the image with dy, dx convolves dy with the filters: one product of spectra each."""
    padded, _, weight, stride, padding = saved
    (P, Q), (R, S), size = dy.shape[2:], weight.shape[2:], padded.shape[2:]
    spread = np.zeros((*dy.shape[:2], *size), dy.dtype)
    spread[:, :, : P * stride : stride, : Q * stride : stride] = dy
    spectrum = _spectrum(spread, size)
    dweight = np.fft.irfft2(np.einsum("nkij,ncij->kcij", spectrum.conj(), _spectrum(padded, size)), size)
    dpadded = np.fft.irfft2(np.einsum("nkij,kcij->ncij", spectrum, _spectrum(weight, size)), size)
    dx = _crop(dpadded, padding).astype(dy.dtype)
    return dx, dweight[:, :, :R, :S].astype(dy.dtype), dy.sum(axis=(0, 2, 3))
