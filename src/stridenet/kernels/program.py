"""A network as a program: a table of operations over one array of memory, run by one compiled call.

Images go through in blocks: LANES of them, one pixel of a block being one register, so that a block of a small network
stays in the cache from its input to its gradient. Three arrays hold what the operations work on: `m`, the memory,
where each block has a part of its own, `v`, the parameters, and `g`, their gradient.
"""

# pyright: basic

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stridenet.kernels import frames, pixels, tiles
from stridenet.kernels.compiled import kernel
from stridenet.kernels.operation import LANES, NO_CLASS_TOO, OP, Code, registers
from stridenet.kernels.signals import ALONE, begin, patience

load, store, loaded, turned = registers.load, registers.store, registers.loaded, registers.turned


@kernel
def read_images(op: Any, m: Any, base: int, x: Any, strides: Any, first: int, images: int) -> None:
    """The frame y from images x (N, C, H, W) with these strides; lanes without an image repeat the last.

    There are `count` lanes a pixel. At z is the mask of those that have an image: 1 or 0.
    """
    by_image, by_channel, by_row, by_column = strides
    lanes, last = op.count, op.columns - LANES  # the last register of a row may overlap the one before
    for c in range(op.channels):
        for h in range(op.rows):
            at, pixel = base + op.y + c * op.y_channel + h * op.y_row, first * by_image + c * by_channel + h * by_row
            done = 0
            if by_image == 1 and images == LANES:
                for w in range(op.columns):
                    store(m, at + w * LANES, load(x, pixel + w * by_column))
                done = op.columns
            elif by_column == 1 and last >= 0 and (images == LANES or lanes == 1):
                for start in range(0, op.columns, LANES):
                    w = min(start, last)
                    if lanes == 1:
                        store(m, at + w, load(x, pixel + w))
                    else:
                        square = turned(loaded(LANES, x, pixel + w, by_image))
                        for i in range(LANES):
                            store(m, at + (w + i) * LANES, square[i])
                done = op.columns
            for lane in range(lanes):
                source = pixel + min(lane, images - 1) * by_image
                for w in range(done, op.columns):
                    m[at + w * lanes + lane] = x[source + w * by_column]
    for lane in range(LANES):
        m[base + op.z + lane] = np.float32(1) if lane < images or lanes == 1 else np.float32(0)


@kernel
def read_gradient(op: Any, m: Any, base: int, dscores: Any, first: int, images: int) -> None:
    """The vectors y (K, lanes) from the gradient dscores (N, K); 0 in lanes without an image."""
    for k in range(op.channels):
        for lane in range(op.count):
            value = dscores[first + lane, k] if lane < images else np.float32(0)
            m[base + op.y + k * op.count + lane] = value


@kernel
def write_scores(op: Any, m: Any, base: int, scores: Any, first: int, images: int) -> None:
    """scores (N, K) from the vectors x (K, lanes)."""
    for lane in range(images):
        for k in range(op.channels):
            scores[first + lane, k] = m[base + op.x + k * op.count + lane]


@kernel
def cross_entropy(op: Any, m: Any, base: int, targets: Any, shares: Any, first: int, images: int) -> float:
    """The loss of a block, and its gradient y, from the scores x, both (K, lanes). See `losses.cross_entropy`.

    With NO_CLASS_TOO there is one more score, of no class, at w in the shared memory. See `losses.map_criterion`.
    """
    K, lanes, x, y, loss = op.channels, op.count, base + op.x, base + op.y, 0.0
    for lane in range(lanes):
        if lane >= images:
            for k in range(K):
                m[y + k * lanes + lane] = np.float32(0)
            continue
        top = m[x + lane]
        for k in range(1, K):
            top = max(top, m[x + k * lanes + lane])
        whole = np.float32(0)
        if op.extras & NO_CLASS_TOO:
            top = max(top, m[op.w])
            whole = np.exp(m[op.w] - top)
        for k in range(K):
            power = np.exp(m[x + k * lanes + lane] - top)
            m[y + k * lanes + lane] = power
            whole += power
        share, target = shares[first + lane], targets[first + lane]
        loss += share * (math.log(whole) - (m[x + target * lanes + lane] - top))
        for k in range(K):
            m[y + k * lanes + lane] *= share / whole
        m[y + target * lanes + lane] -= share
    return loss


@kernel
def run(
    ops: Any,
    tables: Any,
    memory: Any,
    v: Any,
    g: Any,
    batch: Any,
    strides: Any,
    scores: Any,
    targets: Any,
    shares: Any,
    sums: Any,
    turns: Any,
    where: Any,
) -> None:
    """All operations of `ops` for a slice of the blocks, block after block.

    Args:
        ops: the operations.
        tables: the lists of places.
        memory: the arrays where x, y and z of an operation are; in a plan all are the memory.
        v: the parameters.
        g: their gradient, which is added to.
        batch: the numbers of the images (N, C, H, W), in the order of their memory.
        strides: the steps from one to the next along each axis.
        scores: (N, K); written by STORE, read as a gradient by LOAD_GRADIENT.
        targets: classes (N,).
        shares: the weight of each image in the loss (N,).
        sums: for each block its loss and what batch norms need of it, float64 (blocks, slots).
        turns: of `signals`; the next one begins.
        where: the first block, the last, the images of a block, those of the batch, where the first block's part of
            the memory begins, and the step to the next one's.
    """
    begin(turns)
    x, y, z = memory
    first_block, last_block, lanes, count, base, step = where
    for block in range(first_block, last_block):
        first = block * lanes
        images = min(lanes, count - first)
        for i in range(ops.size):
            op = ops[i]
            if op.code == Code.LOAD:
                read_images(op, y, base, batch, strides, first, images)
            elif op.code == Code.CROSS_ENTROPY:
                sums[block, 0] = cross_entropy(op, y, base, targets, shares, first, images)
            elif op.code == Code.MOMENTS:
                frames.moments(op, x, base, images, sums[block], op.slot)
            elif op.code == Code.GRADIENT_SUMS:
                frames.gradient_sums(op, x, base, sums[block], op.slot)
            elif op.code == Code.LOAD_GRADIENT:
                read_gradient(op, y, base, scores, first, images)
            elif op.code == Code.STORE:
                write_scores(op, x, base, scores, first, images)
            elif op.code < Code.RECTIFY:
                tiles.tile_operation(op, tables, x, y, base, v, g)
            elif op.code < Code.CLEAR:
                frames.frame_operation(op, tables, x, y, z, base)
            else:
                pixels.pixel_operation(op, tables, x, base, v, g)
        base += step


_NUMBERS, _PLACES = np.zeros(LANES, np.float32), np.zeros(1, np.int64)
_SCORES, _SUMS = np.zeros((1, 1), np.float32), np.zeros((1, 1))


def run_on(arrays: Any, ops: Any, tables: Any, v: Any, g: Any, *, first: int, blocks: int) -> None:
    """Run operations that need no more than x, y and z, `arrays` in that order, from place `first` on."""
    where = 0, blocks, LANES, 0, first, LANES
    run(ops, tables, arrays, v, g, _NUMBERS, (0, 0, 0, 0), _SCORES, _PLACES, _NUMBERS, _SUMS, ALONE, where)


def warm_up() -> None:
    """Have `run` compiled, or loaded, and what its threads wait with."""
    patience()
    run_on((_NUMBERS,) * 3, np.zeros(0, OP), _PLACES, _NUMBERS, _NUMBERS, first=0, blocks=0)
