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
from stridenet.shapes import Window


def _tap_views(image: Array, window: Window) -> Iterator[Array]:
    """For every kernel position (r, s), row by row: the view (C, P, Q, N) of a padded image that it meets."""
    (R, S), (down, right), (P, Q) = window.kernel, window.stride, window.output
    for r in range(R):
        for s in range(S):
            h, w = r * window.dilation[0], s * window.dilation[1]
            yield image[:, h : h + (P - 1) * down + 1 : down, w : w + (Q - 1) * right + 1 : right]


def _pad(x: Array, window: Window, fill: float) -> Array:
    """x (N, C, H, W) as a padded image (C, H + top + bottom, W + left + right, N)."""
    image = layout.inner(layout.to_batch_inner(x))
    (top, bottom), (left, right) = window.padding
    if not (top or bottom or left or right):
        return image
    C, H, W, N = image.shape
    padded = np.full((C, top + H + bottom, left + W + right, N), fill, x.dtype)
    padded[:, top : top + H, left : left + W] = image
    return padded


def _crop(padded: Array, x: Array, window: Window) -> Array:
    """The inside of a padded image (C, H', W', N), as (N, C, H, W)."""
    (top, _), (left, _) = window.padding
    inside = padded[:, top : top + x.shape[2], left : left + x.shape[3]]
    return layout.to_batch_inner(layout.outer(inside))


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, Array]:
    """Columns times weights, group by group."""
    N, C, K = x.shape[0], x.shape[1], weight.shape[0]
    (R, S), (P, Q) = window.kernel, window.output
    columns = np.empty((C, R * S, P, Q, N), x.dtype)
    for i, tap in enumerate(_tap_views(_pad(x, window, 0), window)):
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
    (top, bottom), (left, right) = window.padding
    padded = np.zeros((C, top + x.shape[2] + bottom, left + x.shape[3] + right, N), x.dtype)
    for i, tap in enumerate(_tap_views(padded, window)):
        tap += dcolumns[:, i]
    return _crop(padded, x, window), dweight


def max_pool2d(x: Array, window: Window) -> Array:
    """The maximum over the taps; NumPy's maximum keeps NaN."""
    views = _tap_views(_pad(x, window, -np.inf), window)
    y = next(views).copy()  # (C, P, Q, N)
    for tap in views:
        np.maximum(y, tap, out=y)
    return layout.outer(y)


def max_pool2d_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """The first tap that equals the maximum, or is NaN, takes the gradient."""
    image = _pad(x, window, np.nan)  # NaN equals nothing: padding takes no gradient, even where x is -inf
    inside = _pad(np.ones((1, 1, *x.shape[2:]), bool), window, False)
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
