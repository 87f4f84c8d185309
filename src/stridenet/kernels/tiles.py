"""The products of a network, as tiles of registers: convolutions, dense layers, and their gradients.

A convolution, its dx and its dweight are sums over pairs of places that only tables tell: where a window begins in the
image, and how far each of its taps is from there. So one kernel serves every size, stride, padding and dilation:

    forward   y[k, place]      = bias[k] + sum over taps of weight[k, tap] x[place + tap]
    dx        dx[c, place]     = sum over taps of weight[tap, c] dy[place + tap], for each phase of the stride
    dweight   dweight[k, tap]  = sum over places and lanes of dy[k, place] x[place + tap]

A tile of OUTS outputs at COLS places stays in registers while its taps are added. The sizes of a tile are literals.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np

from stridenet.kernels.compiled import inlined, kernel
from stridenet.kernels.operation import KEEP, LANES, POOL, RELU, Code, registers

filled, zeros, load, store, spread = (getattr(registers, n) for n in ("filled", "zeros", "load", "store", "spread"))
add_products, add_outer = registers.add_products, registers.add_outer
total, totals, lane = registers.total, registers.totals, registers.lane
loaded, turned = registers.loaded, registers.turned
where_greater, where_beaten = registers.where_greater, registers.where_beaten

OUTS, COLS = (4, 4) if LANES == 16 else (2, 4)  # the tile, its weights and its pixels fit into 32 registers, or 16
SIX = 6 if LANES == 16 else 3  # outputs of a tile for six, or twelve, that OUTS would fill badly
TALL = 16 if LANES == 16 else 8  # outputs of a tile of one place: enough sums to keep the processor busy


@inlined
def correlate(
    OUTS: int, COLS: int, op: Any, tables: Any, x: Any, x_at: int, w: Any, w_at: int, y: Any, y_at: int
) -> None:
    """y[k, targets[i]] = bias[k] + the sum over t of w[weights[t] + k w_step] x[sources[i] + taps[t]].

    With RELU the sums are cut at 0. With POOL the COLS sums of a channel become their maximum, and with
    KEEP z the index of it.
    The places are a multiple of COLS; a last tile that is not full overlaps the one before it.
    """
    outs, count, taps, weights = op.channels, op.count, op.taps, op.weights
    w_step, y_channel = op.w_step, op.y_channel
    relu, pool, keep = op.extras & RELU, op.extras & POOL, op.extras & KEEP
    x_at, y_at, z_at = x_at + op.x, y_at + op.y, y_at + op.z
    zero = spread(np.float32(0))
    for q in range(0, op.places, COLS):
        for k in range(0, outs, OUTS):
            low = min(k, outs - OUTS)
            tile = filled(OUTS, COLS, w, op.bias + low) if op.bias >= 0 else zeros(OUTS, COLS)
            first = w_at + op.w + low * w_step
            for t in range(count):
                pixels, at = x_at + tables[taps + t], first + tables[weights + t]
                tile = add_products(tile, OUTS, COLS, w, at, w_step, x, pixels, tables, op.sources + q)
            for o in range(OUTS):
                if pool:
                    best, index = tile[o * COLS], zero
                    for c in range(1, COLS):
                        if keep:
                            index = where_beaten(best, tile[o * COLS + c], spread(np.float32(c)), index)
                        best = where_beaten(best, tile[o * COLS + c], tile[o * COLS + c], best)
                    at = (low + o) * y_channel + tables[op.targets + q // COLS]
                    if keep:
                        if relu:
                            index = where_greater(best, zero, index, spread(np.float32(COLS)))  # no tap
                        store(y, z_at + at, index)
                    store(y, y_at + at, where_greater(zero, best, zero, best) if relu else best)
                else:
                    for c in range(COLS):
                        value = tile[o * COLS + c]
                        if relu:
                            value = where_greater(zero, value, zero, value)
                        store(y, y_at + (low + o) * y_channel + tables[op.targets + q + c], value)


@inlined
def correlate_outer(OUTS: int, op: Any, tables: Any, x: Any, x_at: int, dy: Any, dy_at: int, dw: Any) -> None:
    """dw[k, t] += the sum over i and the lanes of dy[k, targets[i]] x[sources[i] + taps[t]].

    There are at least COLS taps in the table. A last tile that is not full overlaps the one before it and adds only
    what is new.
    """
    outs, count, sources, targets = op.channels, op.count, op.sources, op.targets
    x_at, dy_at, step = x_at + op.x, dy_at + op.y, op.y_channel
    for k in range(0, outs, OUTS):
        low = min(k, outs - OUTS)
        for d in range(0, count, COLS):
            left = max(min(d, count - COLS), 0)
            tile = zeros(OUTS, COLS)
            for i in range(op.places):
                at, pixels = dy_at + low * step + tables[targets + i], x_at + tables[sources + i]
                tile = add_outer(tile, OUTS, COLS, dy, at, step, x, pixels, tables, op.taps + left)
            sums, place = totals(tile), op.w + low * count + left
            if low == k and left == d and d + COLS <= count:
                for o in range(OUTS):
                    for c in range(COLS):
                        i = o * COLS + c
                        dw[place + o * count + c] += lane(sums[i // LANES], i % LANES)
            else:
                for o in range(k - low, OUTS):
                    for c in range(d - left, min(COLS, count - left)):
                        i = o * COLS + c
                        dw[place + o * count + c] += lane(sums[i // LANES], i % LANES)


@kernel
def row_sums(op: Any, tables: Any, dy: Any, dy_at: int, sums: Any) -> None:
    """sums[k] += the sum over i and the lanes of dy[k, targets[i]]."""
    for k in range(op.channels):
        register = spread(np.float32(0))
        for i in range(op.places):
            register = register + load(dy, dy_at + op.y + k * op.y_channel + tables[op.targets + i])
        sums[op.bias + k] += total(register)


@kernel
def transpose(op: Any, x: Any, y: Any, base: int) -> None:
    """y (LANES, y_row) from x (channels, LANES), square by square."""
    whole = op.channels - op.channels % LANES
    for first in range(0, whole, LANES):
        square = turned(loaded(LANES, x, base + op.x + first * LANES, LANES))
        for n in range(LANES):
            store(y, base + op.y + n * op.y_row + first, square[n])
    for d in range(whole, op.channels):
        for n in range(LANES):
            y[base + op.y + n * op.y_row + d] = x[base + op.x + d * LANES + n]


@inlined
def linear_outer(OUTS: int, op: Any, tables: Any, x: Any, y: Any, base: int, dw: Any) -> None:
    """dw (channels, columns) += dy (channels, rows) x (rows, columns), rows of images; z in y has room for LANES."""
    outs, columns, images = op.channels, op.columns, op.rows
    scratch = base + op.z
    for d in range(0, columns, LANES):
        for k in range(0, outs, OUTS):
            low = min(k, outs - OUTS)
            tile = zeros(OUTS, 1)
            for n in range(images):
                at, row = base + op.y + low * op.y_channel + n, base + op.x + n * op.x_row + d
                tile = add_products(tile, OUTS, 1, y, at, op.y_channel, x, row, tables, op.sources)
            for o in range(k - low, OUTS):
                at = op.w + (low + o) * columns + d
                if d + LANES <= columns:
                    store(dw, at, load(dw, at) + tile[o])
                else:
                    store(y, scratch, tile[o])
                    for n in range(columns - d):
                        dw[at + n] += y[scratch + n]


@kernel
def tile_operation(op: Any, tables: Any, x: Any, y: Any, base: int, v: Any, g: Any) -> None:
    """Any operation of this file: from x to y with the weights v, or from x and y to their gradient g."""
    if op.code == Code.CORRELATE:
        correlate(OUTS, COLS, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.CORRELATE_SIX:
        correlate(SIX, COLS, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.CORRELATE_FEW:
        correlate(1, COLS, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.COLUMN:
        correlate(TALL, 1, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.COLUMN_SIX:
        correlate(SIX, 1, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.COLUMN_FEW:
        correlate(1, 1, op, tables, x, base, v, 0, y, base)
    elif op.code == Code.OUTER:
        correlate_outer(OUTS, op, tables, x, base, y, base, g)
    elif op.code == Code.OUTER_SIX:
        correlate_outer(SIX, op, tables, x, base, y, base, g)
    elif op.code == Code.OUTER_FEW:
        correlate_outer(1, op, tables, x, base, y, base, g)
    elif op.code == Code.ROW_SUMS:
        row_sums(op, tables, y, base, g)
    elif op.code == Code.TRANSPOSE:
        transpose(op, x, y, base)
    elif op.code == Code.LINEAR_OUTER:
        linear_outer(TALL, op, tables, x, y, base, g)
    elif op.code == Code.LINEAR_FEW:
        linear_outer(1, op, tables, x, y, base, g)
    elif op.code == Code.LINEAR_BACK:
        correlate(1, COLS, op, tables, v, 0, x, base, y, base)
