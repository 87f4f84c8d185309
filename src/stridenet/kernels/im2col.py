"""NumPy kernels: a view of all windows, copied into columns, and one matrix product.

With the batch innermost the columns of a convolution are copied in runs of N, and the product is already the next
layer's layout (Chellapilla, Puri and Simard 2006, with the batch moved inside):

    x       (C, H, W, N)        ->  windows (C, R, S, P, Q, N), a strided view
    columns (C*R*S, P*Q*N)      =   its copy
    y       (K, P*Q*N)          =   weight (K, C*R*S) @ columns
    dweight (K, C*R*S)          =   dy (K, P*Q*N) @ columns.T
    dx                          =   weight.T @ dy, each row of columns added back where it was taken
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stridenet import layout
from stridenet.layout import Array
from stridenet.shapes import Pair, Window


def _tap_views(image: Array, window: Window) -> Iterator[Array]:
    """For every kernel position (r, s), row by row: the view (C, P, Q, N) of a padded image that it meets."""
    (R, S), (down, right), (P, Q) = window.kernel, window.stride, window.output
    for r in range(R):
        for s in range(S):
            h, w = r * window.dilation[0], s * window.dilation[1]
            yield image[:, h : h + (P - 1) * down + 1 : down, w : w + (Q - 1) * right + 1 : right]


def frame(x: Array, window: Window, fill: float) -> Array:
    """x (N, C, H, W) as a padded image (C, top + H + bottom, left + W + right, N), with what hangs over it."""
    image = layout.inner(layout.to_batch_inner(x))
    C, H, W, N = image.shape
    rows, columns = _padded_size(x, window)
    if (rows, columns) == (H, W):
        return image
    (top, _), (left, _) = window.padding
    framed = layout.buffer((C, rows, columns, N), x.dtype)
    framed.fill(fill)
    framed[:, top : top + H, left : left + W] = image
    return framed


def _padded_size(x: Array, window: Window) -> Pair:
    rows, columns = (sum(window.padding[i]) + window.overhang[i] + x.shape[2 + i] for i in (0, 1))
    return rows, columns


def _crop(padded: Array, x: Array, window: Window) -> Array:
    """The inside of a padded image (C, H', W', N), as (N, C, H, W)."""
    (top, _), (left, _) = window.padding
    inside = padded[:, top : top + x.shape[2], left : left + x.shape[3]]
    return layout.to_batch_inner(layout.outer(inside))


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, Array]:
    """Columns times weights, group by group."""
    N, C, K = x.shape[0], x.shape[1], weight.shape[0]
    (R, S), (P, Q) = window.kernel, window.output
    columns = layout.buffer((C, R * S, P, Q, N), x.dtype)
    for i, tap in enumerate(_tap_views(frame(x, window, 0), window)):
        columns[:, i] = tap
    columns = columns.reshape(groups, C // groups * R * S, P * Q * N)
    y = weight.reshape(groups, K // groups, -1) @ columns  # (groups, K / groups, P*Q*N)
    if bias is not None:
        y += bias.reshape(groups, -1, 1)
    return layout.outer(y.reshape(K, P, Q, N)), columns  # (N, K, P, Q)


def conv2d_backward(
    dy: Array, x: Array, weight: Array, columns: Array, window: Window, groups: int, need_dx: bool
) -> tuple[Array | None, Array]:
    """Two matrix products; the columns' gradient is added back tap by tap."""
    (N, C), K = x.shape[:2], weight.shape[0]
    (R, S), (P, Q) = window.kernel, window.output
    gradient = layout.inner(layout.to_batch_inner(dy)).reshape(groups, K // groups, P * Q * N)
    dweight = (columns @ gradient.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(weight.shape)
    if not need_dx:
        return None, dweight
    dcolumns = weight.reshape(groups, K // groups, -1).transpose(0, 2, 1) @ gradient  # (groups, C/groups*R*S, P*Q*N)
    dcolumns = dcolumns.reshape(C, R * S, P, Q, N)
    padded = np.zeros((C, *_padded_size(x, window), N), x.dtype)
    for i, tap in enumerate(_tap_views(padded, window)):
        tap += dcolumns[:, i]
    return _crop(padded, x, window), dweight


def max_pool2d(x: Array, window: Window) -> Array:
    """The maximum over the taps; NumPy's maximum keeps NaN."""
    views = _tap_views(frame(x, window, -np.inf), window)
    y = next(views).copy()  # (C, P, Q, N)
    for tap in views:
        np.maximum(y, tap, out=y)
    return layout.outer(y)


def max_pool2d_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """The first tap that equals the maximum, or is NaN, takes the gradient."""
    image = frame(x, window, np.nan)  # NaN equals nothing: padding takes no gradient, even where x is -inf
    inside = frame(np.ones((1, 1, *x.shape[2:]), bool), window, False)
    gradient, best = layout.inner(layout.to_batch_inner(dy)), layout.inner(layout.to_batch_inner(y))
    unclaimed = np.ones(best.shape, bool)  # (C, P, Q, N)
    padded = np.zeros(image.shape, x.dtype)
    has_nan = bool(np.isnan(best).any())
    views = (_tap_views(a, window) for a in (image, inside, padded))
    for tap, real, target in zip(*views, strict=True):
        hit = tap == best
        if has_nan:
            hit |= np.isnan(tap) & real
        hit &= unclaimed
        unclaimed ^= hit
        target += gradient * hit
    return _crop(padded, x, window)


def avg_pool2d(x: Array, window: Window, counts: Array) -> Array:
    """The sum of the taps over their count."""
    views = _tap_views(frame(x, window, 0), window)
    y = next(views).copy()  # (C, P, Q, N)
    for tap in views:
        y += tap
    y /= counts[:, :, None]
    return layout.outer(y)


def avg_pool2d_backward(dy: Array, x: Array, window: Window, counts: Array) -> Array:
    """Every tap takes an equal share."""
    share = layout.inner(layout.to_batch_inner(dy)) / counts[:, :, None]  # (C, P, Q, N)
    padded = np.zeros((x.shape[1], *_padded_size(x, window), len(x)), x.dtype)
    for tap in _tap_views(padded, window):
        tap += share
    return _crop(padded, x, window)


def _rows(x: Array) -> Array:
    """x (N, C, H, W) as a matrix (C, H*W*N): a channel a row."""
    return layout.inner(layout.to_batch_inner(x)).reshape(x.shape[1], -1)


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Two passes: no digits cancel, however far the mean is from zero."""
    rows = _rows(x)
    mean = rows.mean(axis=1, dtype=np.float64)
    return mean, np.square(rows - mean[:, None]).sum(axis=1)


def channel_sums(dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """A channel is a row."""
    gradient, rows = _rows(dy), _rows(x)
    return gradient.sum(axis=1, dtype=np.float64), (gradient * (rows - mean[:, None])).sum(axis=1)


def _by_channel(*vectors: Array) -> list[Array]:
    """Vectors (C,) for use beside images (C, H, W, N)."""
    return [vector[:, None, None, None] for vector in vectors]


def batch_norm(x: Array, mean: Array, scale: Array, bias: Array) -> Array:
    """Elementwise; the mean is taken off first, so that no digits cancel."""
    mean, scale, bias = _by_channel(mean, scale, bias)
    y = layout.inner(layout.to_batch_inner(x)) - mean
    y *= scale
    y += bias
    return layout.outer(y)


def batch_norm_backward(dy: Array, x: Array, mean: Array, scale: Array, shift: Array, slope: Array) -> Array:
    """Elementwise."""
    mean, scale, shift, slope = _by_channel(mean, scale, shift, slope)
    dx = mean - layout.inner(layout.to_batch_inner(x))
    dx *= slope
    dx += layout.inner(layout.to_batch_inner(dy))
    dx -= shift
    dx *= scale
    return layout.outer(dx)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """One matrix product, batch innermost: (K, D) @ (D, N)."""
    y = weight @ layout.inner(layout.to_batch_inner(x))  # (K, N)
    if bias is not None:
        y += bias[:, None]
    return y.T


def linear_backward(dy: Array, x: Array, weight: Array, need_dx: bool) -> tuple[Array | None, Array]:
    """Two matrix products."""
    gradient = layout.inner(layout.to_batch_inner(dy))  # (K, N)
    dweight = gradient @ x
    return (weight.T @ gradient).T if need_dx else None, dweight
