"""Compiled kernels: register tiles over a batch that is innermost in memory.

A convolution, its dx and its dweight are sums over pairs of places that only two tables tell: where a window begins in
the image, and how far each of its taps is from there. So one kernel serves the forward and dx, and another dweight, for
every size, stride, padding, dilation and group. A tile of OUTS outputs at COLS places stays in registers meanwhile:

    forward   y[k, place]      = bias[k] + sum over taps of weight[k, tap] x[place + tap]
    dx        dx[c, place]     = sum over taps of weight[tap, c] dy[place + tap], for each phase of the stride
    dweight   dweight[k, tap]  = sum over places and images of dy[k, place] x[place + tap]

float64 and batches of fewer than LANES images go to `im2col`, and so does what NumPy does well.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from stridenet import layout
from stridenet.kernels import im2col, simd, twins
from stridenet.kernels.compiled import COMPILES, kernel
from stridenet.kernels.im2col import (
    avg_pool2d as avg_pool2d,
    avg_pool2d_backward as avg_pool2d_backward,
    batch_norm as batch_norm,
    batch_norm_backward as batch_norm_backward,
    channel_moments as channel_moments,
    channel_sums as channel_sums,
    linear as linear,
    linear_backward as linear_backward,
    max_pool2d as max_pool2d,
    max_pool2d_backward as max_pool2d_backward,
)
from stridenet.layout import Array
from stridenet.shapes import Pair, Window, product

_operations: Any = simd if COMPILES else twins
filled, store, total = _operations.filled, _operations.store, _operations.total
add_products, add_outer = _operations.add_products, _operations.add_outer
LANES = simd.LANES
OUTS, COLS = (4, 4) if LANES == 16 else (2, 4)  # the tile, its weights and its pixels fit into 32 registers, or 16


@kernel
def correlate(
    x: Any, w: Any, bias: Any, y: Any, sources: Any, targets: Any, taps: Any, groups: int, outs: int, steps: Any, N: int
) -> None:
    """y[g, k, targets[i]] = bias[g, k] + the sum over t of w[g, t, k] x[g, sources[i] + taps[t]], for N images.

    w is (groups, taps, outs padded to OUTS), the places are padded to COLS by repeating the last. `steps` are the sizes
    of a group of x and of a map of y. The last register overlaps the one before it where LANES does not divide N.
    """
    D, padded = taps.size, bias.size // groups
    for g in range(groups):
        for i in range(0, N, LANES):
            n = min(i, N - LANES)
            for q in range(0, sources.size, COLS):
                for k in range(0, outs, OUTS):
                    tile = filled(OUTS, COLS, bias, g * padded + k)
                    for d in range(D):
                        weights, pixels = (g * D + d) * padded + k, g * steps[0] + taps[d] + n
                        tile = add_products(tile, OUTS, COLS, w, weights, x, pixels, sources, q)
                    for o in range(min(OUTS, outs - k)):
                        for c in range(COLS):
                            store(y, (g * outs + k + o) * steps[1] + targets[q + c] + n, tile[o * COLS + c])


@kernel
def correlate_outer(
    dy: Any, x: Any, dw: Any, zeros: Any, sources: Any, taps: Any, sizes: Any, images: int, first: int, count: int
) -> None:
    """dw[g, k, t] += the sum over i and n < count of dy[g, k, i, n] x[g, sources[i] + taps[t] + first + n].

    `sizes` are groups, outs (OUTS or more), taps, and the size of a group of x. dy has `images` images; `count` is a
    multiple of LANES. A last tile that is not full overlaps the one before it and adds only what is new.
    """
    groups, outs, D, step = sizes
    M = sources.size
    for g in range(groups):
        for n in range(0, count, LANES):
            for k in range(0, outs, OUTS):
                low = min(k, outs - OUTS)
                for d in range(0, D, COLS):
                    left = max(min(d, D - COLS), 0)
                    tile = filled(OUTS, COLS, zeros, 0)
                    for i in range(M):
                        at, pixels = ((g * outs + low) * M + i) * images + n, g * step + sources[i] + first + n
                        tile = add_outer(tile, OUTS, COLS, dy, at, M * images, x, pixels, taps, left)
                    for o in range(k - low, OUTS):
                        for c in range(d - left, min(COLS, D - left)):
                            dw[(g * outs + low + o) * D + left + c] += total(tile[o * COLS + c])


def _padded_to(multiple: int, table: list[int]) -> Array:
    """A table of places, made longer by repeating the last."""
    return np.array(table + table[-1:] * (-len(table) % multiple), np.intp)


class _Tables(NamedTuple):
    """Outputs that share their taps: where each begins, where it goes, how far its taps are."""

    sources: Array
    targets: Array
    taps: Array


class _Part(NamedTuple):
    """Pixels of dx that share their taps, and which taps of the kernel these are."""

    tables: _Tables
    rows: list[int]
    columns: list[int]
    pixels: int  # without those that pad the tables


@lru_cache(maxsize=256)
def _forward_tables(window: Window, size: Pair, depth: int, N: int) -> _Tables:
    """For an image that is padded to `size`."""
    (R, S), (P, Q) = window.kernel, window.output
    (down, right), (apart, aside) = window.stride, window.dilation
    sources = [(p * down * size[1] + q * right) * N for p in range(P) for q in range(Q)]
    taps = [
        ((c * size[0] + r * apart) * size[1] + s * aside) * N for c in range(depth) for r in range(R) for s in range(S)
    ]
    targets = [i * N for i in range(P * Q)]
    return _Tables(_padded_to(COLS, sources), _padded_to(COLS, targets), np.array(taps, np.intp))


@lru_cache(maxsize=256)
def _outer_tables(window: Window, size: Pair, depth: int, N: int) -> tuple[Array, Array]:
    """The same for `correlate_outer`: each source once, and at least COLS taps."""
    tables = _forward_tables(window, size, depth, N)
    return tables.sources[: window.output[0] * window.output[1]], _padded_to(COLS, tables.taps.tolist())


class _Axis(NamedTuple):
    """Pixels along one axis that meet the same taps, and each tap's distance in dy."""

    pixels: list[int]
    starts: list[int]  # where in the padded dy
    taps: list[int]
    shifts: list[int]


def _axis(window: Window, axis: int, length: int, *, exact: bool) -> tuple[int, list[_Axis]]:
    """The margin that dy needs along an axis, and the pixels by the taps that meet them.

    Pixel h of the padded image meets tap r of output (h - r dilation) / stride, if that is a whole number: which taps
    these are depends on the phase of h. With `exact` taps that meet no output are left out, else they read the margin.
    """
    kernel, stride = window.kernel[axis], window.stride[axis]
    dilation, outputs = window.dilation[axis], window.output[axis]
    before = window.padding[axis][0]
    margin = dilation * (kernel - 1) // stride
    found: dict[tuple[int, ...], _Axis] = {}
    for pixel in range(length):
        i, phase = divmod(pixel + before, stride)
        reach = [(r, (r * dilation - phase) // stride) for r in range(kernel) if r * dilation % stride == phase]
        if exact:
            reach = [(r, m) for r, m in reach if 0 <= i - m < outputs]
        taps = [r for r, _ in reach]
        group = found.setdefault((phase, *taps), _Axis([], [], taps, [margin - m for _, m in reach]))
        group.pixels.append(pixel)
        group.starts.append(i)
    return margin, [group for group in found.values() if group.taps]


@lru_cache(maxsize=256)
def _backward_tables(window: Window, size: Pair, outs: int, N: int) -> tuple[Pair, Pair, list[_Part]]:
    """Margin and size of the padded dy, and the parts of dx, for images of `size` and `outs` maps of dy a group."""
    (above, down), (aside, right) = _axis(window, 0, size[0], exact=True), _axis(window, 1, size[1], exact=False)
    H = max([window.output[0], *(1 + group.starts[-1] for group in down)]) + 2 * above
    W = max([window.output[1], *(1 + group.starts[-1] for group in right)]) + 2 * aside
    parts: list[_Part] = []
    for rows in down:
        for columns in right:
            sources = [(i * W + j) * N for i in rows.starts for j in columns.starts]
            targets = [(h * size[1] + w) * N for h in rows.pixels for w in columns.pixels]
            taps = [((k * H + m) * W + n) * N for k in range(outs) for m in rows.shifts for n in columns.shifts]
            tables = _Tables(_padded_to(COLS, sources), _padded_to(COLS, targets), np.array(taps, np.intp))
            parts.append(_Part(tables, rows.taps, columns.taps, len(sources)))
    return (above, aside), (H, W), parts


def _weights(weight: Array) -> Array:
    """Weights (groups, outs, ...) as (groups, taps, outs padded to OUTS), flat."""
    G, outs = weight.shape[:2]
    by_tap = np.zeros((G, weight[0, 0].size, outs + -outs % OUTS), weight.dtype)
    by_tap[:, :, :outs] = weight.reshape(G, outs, -1).transpose(0, 2, 1)
    return by_tap.reshape(-1)


def _aligned(image: Array) -> Array:
    """`image` (C, H, W, N) itself, or a copy that begins where a register may: twice as fast to read."""
    if layout.address(image) % layout.ALIGNMENT == 0:
        return image
    copy = layout.buffer(image.shape, image.dtype)
    copy[...] = image
    return copy


def _fits(x: Array) -> bool:
    return x.dtype == np.float32 and len(x) >= LANES


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, Array]:
    """One call; the padded image is what the backward reuses."""
    if not _fits(x):
        return im2col.conv2d(x, weight, bias, window, groups)
    (N, C), K = x.shape[:2], len(weight)
    image = _aligned(im2col.frame(x, window, 0))  # (C, rows, columns, N)
    tables = _forward_tables(window, (image.shape[1], image.shape[2]), C // groups, N)
    outs, (P, Q) = K // groups, window.output
    by_tap = _weights(weight.reshape(groups, outs, *weight.shape[1:]))
    starts = np.zeros((groups, outs + -outs % OUTS), x.dtype)
    if bias is not None:
        starts[:, :outs] = bias.reshape(groups, outs)
    y = layout.buffer((K, P, Q, N), x.dtype)
    steps = np.array([image.size // groups, P * Q * N], np.intp)
    correlate(
        *(image.reshape(-1), by_tap, starts.reshape(-1), y.reshape(-1)),
        *(*tables, groups, outs, steps, N),
    )
    return layout.outer(y), image


def conv2d_backward(
    dy: Array, x: Array, weight: Array, columns: Array, window: Window, groups: int, need_dx: bool
) -> tuple[Array | None, Array]:
    """dweight with one call, dx with one for each phase of the stride and each set of rows that meet the same taps."""
    if not _fits(x):
        return im2col.conv2d_backward(dy, x, weight, columns, window, groups, need_dx)
    gradient = _aligned(layout.inner(layout.to_batch_inner(dy)))  # (K, P, Q, N)
    dweight = _dweight(gradient, columns, weight, window, groups)
    return _dx(gradient, x, weight, window, groups) if need_dx else None, dweight


def _dweight(gradient: Array, image: Array, weight: Array, window: Window, groups: int) -> Array:
    N, outs = image.shape[-1], len(weight) // groups
    sources, taps = _outer_tables(window, (image.shape[1], image.shape[2]), weight.shape[1], N)
    maps = gradient.reshape(groups, outs, sources.size, N)
    if outs < OUTS:
        maps = np.concatenate([maps, np.zeros((groups, OUTS - outs, sources.size, N), maps.dtype)], axis=1)
    D = product(weight.shape[1:])
    dw = np.zeros(groups * maps.shape[1] * D, weight.dtype)
    sizes = groups, maps.shape[1], D, image.size // groups
    zeros, rest = np.zeros(OUTS, weight.dtype), N % LANES
    flat = image.reshape(-1)
    correlate_outer(maps.reshape(-1), flat, dw, zeros, sources, taps, sizes, N, 0, N - rest)
    if rest:
        last = maps[..., N - LANES :].copy()
        last[..., : LANES - rest] = 0  # these were added above
        correlate_outer(last.reshape(-1), flat, dw, zeros, sources, taps, sizes, LANES, N - LANES, LANES)
    return dw.reshape(groups, maps.shape[1], D)[:, :outs].reshape(weight.shape)


def _dx(gradient: Array, x: Array, weight: Array, window: Window, groups: int) -> Array:
    N, C, H, W = x.shape
    outs = len(weight) // groups
    (above, aside), (rows, columns), parts = _backward_tables(window, (H, W), outs, N)
    P, Q = window.output
    padded = layout.buffer((len(weight), rows, columns, N), x.dtype)
    padded.fill(0)
    padded[:, above : above + P, aside : aside + Q] = gradient
    dx = layout.buffer((C, H, W, N), x.dtype)
    if sum(part.pixels for part in parts) < H * W:
        dx.fill(0)  # a stride that leaves pixels out
    depth = C // groups
    by_channel = weight.reshape(groups, outs, depth, *window.kernel).transpose(0, 2, 1, 3, 4)  # (G, c, k, R, S)
    zeros = np.zeros(groups * (depth + -depth % OUTS), x.dtype)
    steps = np.array([padded.size // groups, H * W * N], np.intp)
    for part in parts:
        by_tap = _weights(by_channel[:, :, :, part.rows][..., part.columns])
        correlate(
            *(padded.reshape(-1), by_tap, zeros, dx.reshape(-1)),
            *(*part.tables, groups, depth, steps, N),
        )
    return layout.outer(dx)
