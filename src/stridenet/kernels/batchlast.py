"""Compiled kernels over a batch that is innermost in memory: single operations of `program`, on arrays of their own.

A register is one pixel of LANES images. In an array (C, H, W, N) neighbouring pixels are N elements apart, and blocks
of images LANES; where LANES does not divide N, the last block overlaps the one before it. The operations of a layer and
their tables follow from its sizes and are kept.

float64 and batches of fewer than LANES images go to `im2col`, and so does what NumPy does well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stridenet import layout
from stridenet.kernels import im2col
from stridenet.kernels.im2col import (
    avg_pool2d as avg_pool2d,
    batch_norm as batch_norm,
    batch_norm_backward as batch_norm_backward,
    channel_moments as channel_moments,
    channel_sums as channel_sums,
    linear as linear,
    linear_backward as linear_backward,
    max_pool2d as max_pool2d,
)
from stridenet.kernels.operation import ADD, LANES, Code, Operations
from stridenet.kernels.places import Frame
from stridenet.kernels.program import run_on
from stridenet.kernels.windows import NONE, Correlation, index_of, pooling, tiled
from stridenet.layout import Array
from stridenet.shapes import Margins, Shape, Window

_NOTHING = np.zeros(1, np.float32)


class _Job(NamedTuple):
    """Operations on arrays, and their tables."""

    ops: Array
    tables: Array

    def run(self, x: Array, y: Array, z: Array = _NOTHING, *, v: Array = _NOTHING, g: Array = _NOTHING) -> None:
        """Run them for all images of x (..., N); v are weights, g is their gradient."""
        N = x.shape[-1]
        self._run(x, y, z, v, g, 0, N // LANES)
        if N % LANES:
            self._run(x, y, z, v, g, N - LANES, 1)

    def add(self, x: Array, dy: Array, z: Array = _NOTHING, *, g: Array = _NOTHING) -> None:
        """The same for those that add to what is there; a last block that overlaps adds only what is new."""
        N = x.shape[-1]
        self._run(x, dy, z, _NOTHING, g, 0, N // LANES)
        if rest := N % LANES:
            new = np.zeros_like(dy)
            new[..., N - rest :] = dy[..., N - rest :]
            self._run(x, new, z, _NOTHING, g, N - LANES, 1)

    def _run(self, x: Array, y: Array, z: Array, v: Array, g: Array, first: int, blocks: int) -> None:
        run_on((x.reshape(-1), y.reshape(-1), z.reshape(-1)), *self, v, g, first=first, blocks=blocks)


def _frame(shape: Shape, N: int, margins: Margins = NONE) -> Frame:
    C, H, W = shape
    return Frame((C, H, W), margins, N)


def _fits(x: Array, window: Window | None = None) -> bool:
    """Whether the kernels have it; of a pool all windows must lie inside the image."""
    inside = window is None or (window.padding == NONE and window.overhang == (0, 0))
    return inside and x.dtype == np.float32 and len(x) >= LANES


def _image(x: Array) -> Array:
    """x (N, C, H, W) as (C, H, W, N), itself or a copy that begins where a register may: twice as fast to read."""
    image = x.transpose(1, 2, 3, 0)
    if image.flags.c_contiguous and image.flags.writeable and layout.address(image) % layout.ALIGNMENT == 0:
        return image
    copy = layout.buffer(image.shape, x.dtype)
    copy[...] = image
    return copy


def _flat(*arrays: Array | None) -> Array:
    """A copy of all as one vector."""
    return np.concatenate([each.reshape(-1) for each in arrays if each is not None])


@lru_cache(maxsize=256)
def _forward(c: Correlation, N: int, biased: bool) -> _Job:
    ops = Operations()
    x, y = _frame(c.shape, N, c.window.padding), _frame((c.outs, *c.window.output), N)
    c.forward(ops, x, y, weight=0, bias=c.outs * c.depth if biased else -1)
    return _Job(ops.take(), ops.tables())


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> tuple[Array, Array]:
    """One call; the padded image is what the backward reuses."""
    if not _fits(x):
        return im2col.conv2d(x, weight, bias, window, groups)
    N, C, H, W = x.shape
    image = _image(x) if window.padding == NONE else im2col.frame(x, window, 0)
    correlation = Correlation(window, (C, H, W), len(weight), groups)
    y = layout.buffer((len(weight), *window.output, N), x.dtype)
    _forward(correlation, N, bias is not None).run(image, y, v=_flat(weight, bias))
    return layout.outer(y), image


class _Backward(NamedTuple):
    """dweight and dx, the margin of dy that they read, and whether dx gets all its pixels."""

    dweight: _Job
    dx: _Job
    margins: Margins
    covered: bool


@lru_cache(maxsize=256)
def _backward(c: Correlation, N: int, need_dx: bool) -> _Backward:
    ops = Operations()
    parts, margins = c.parts(one=False) if need_dx else ([], NONE)
    x, dy = _frame(c.shape, N, c.window.padding), _frame((c.outs, *c.window.output), N, margins)
    c.dweight(ops, x, dy, weight=0)
    dweight = ops.take()
    c.dx(ops, dy, _frame(c.shape, N), parts, weight=0)
    tables = ops.tables()
    return _Backward(_Job(dweight, tables), _Job(ops.take(), tables), margins, c.covered(parts))


def conv2d_backward(
    dy: Array, x: Array, weight: Array, columns: Array, window: Window, groups: int, need_dx: bool
) -> tuple[Array | None, Array]:
    """Two calls; dweight takes of a last block that overlaps only what is new."""
    if not _fits(x):
        return im2col.conv2d_backward(dy, x, weight, columns, window, groups, need_dx)
    N, C, H, W = x.shape
    job = _backward(Correlation(window, (C, H, W), len(weight), groups), N, need_dx)
    gradient = _image(dy) if job.margins == NONE else _with_margin(dy, job.margins)
    dweight = np.zeros(weight.shape, x.dtype)
    job.dweight.add(columns, gradient, g=dweight.reshape(-1))
    if not need_dx:
        return None, dweight
    dx = layout.buffer((C, H, W, N), x.dtype)
    if not job.covered:
        dx.fill(0)
    job.dx.run(gradient, dx, v=_flat(weight))
    return layout.outer(dx), dweight


def _with_margin(dy: Array, margins: Margins) -> Array:
    """dy (N, K, P, Q) as (K, P, left + Q + right, N), zero in the margin."""
    (N, K, P, Q), (_, (left, right)) = dy.shape, margins
    padded = layout.buffer((K, P, left + Q + right, N), dy.dtype)
    padded.fill(0)
    padded[:, :, left : left + Q] = dy.transpose(1, 2, 3, 0)
    return padded


class _Pool(NamedTuple):
    """The index of a maximum, the gradient of one, and that of a mean."""

    finding: _Job
    maximum: _Job
    mean: _Job


@lru_cache(maxsize=256)
def _pool(window: Window, shape: Shape, N: int) -> _Pool:
    """The maximum itself goes to the first half of an array, its index to the second."""
    ops, x, y = Operations(), _frame(shape, N), _frame((shape[0], *window.output), N)
    fields = pooling(ops, window, x, y) | index_of(ops, window, replace(y, at=y.size))
    fields["extras"] = 0 if tiled(window, shape) else ADD
    tables, jobs = ops.tables(), list[_Job]()
    for code in (Code.MAX, Code.MAX_BACK, Code.MEAN_BACK):
        ops.emit(code, **fields)
        jobs.append(_Job(ops.take(), tables))
    return _Pool(*jobs)


def max_pool2d_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """The maximum again, for the tap that had it, and a call for dx."""
    if not _fits(x, window):
        return im2col.max_pool2d_backward(dy, x, y, window)
    (N, C), job = x.shape[:2], _pool(window, x.shape[1:], len(x))
    index = layout.buffer((2, C, *window.output, N), x.dtype)
    job.finding.run(_image(x), index, index)
    return _spread(job.maximum, dy, x, index, window)


def avg_pool2d_backward(dy: Array, x: Array, window: Window, counts: Array) -> Array:
    """One call; inside the image all counts are the same."""
    if not _fits(x, window):
        return im2col.avg_pool2d_backward(dy, x, window, counts)
    return _spread(_pool(window, x.shape[1:], len(x)).mean, dy, x, _NOTHING, window)


def _spread(job: _Job, dy: Array, x: Array, index: Array, window: Window) -> Array:
    """dx: written where each pixel is in one window, else added to zeros."""
    dx = layout.buffer((*x.shape[1:], len(x)), x.dtype)
    if tiled(window, x.shape[1:]):
        job.run(dx, _image(dy), index)
    else:
        dx.fill(0)
        job.add(dx, _image(dy), index)
    return layout.outer(dx)
