"""One image by itself: what registers of neighbouring pixels cannot do, pixel by pixel, and products of rows.

With one image there are no lanes of images, so a register goes along a row. The products of `tiles` need no more than
other tables for that. Windows that move by more than a pixel, and vectors, do: they are here.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np

from stridenet.kernels.compiled import inlined, kernel
from stridenet.kernels.operation import ADD, LANES, RELU, Code, registers
from stridenet.kernels.tiles import TALL

zeros, add_outer, total = registers.zeros, registers.add_outer, registers.total
load, store, spread = registers.load, registers.store, registers.spread
parted, store_merged = registers.parted, registers.store_merged
where_beaten, where_equal = registers.where_beaten, registers.where_equal


@inlined
def dot_rows(OUTS: int, op: Any, tables: Any, m: Any, base: int, w: Any) -> None:
    """y[k] = bias[k] + the sum over d of w[k, d] x[d], and no less than 0 with RELU. OUTS rows at a time."""
    outs, depth = op.channels, op.count
    whole = depth - depth % LANES
    for k in range(0, outs, OUTS):
        low = min(k, outs - OUTS)
        tile = zeros(OUTS, 1)
        for d in range(0, whole, LANES):
            tile = add_outer(tile, OUTS, 1, w, op.w + low * depth + d, depth, m, base + op.x + d, tables, op.sources)
        for o in range(OUTS):
            value = total(tile[o]) + (w[op.bias + low + o] if op.bias >= 0 else np.float32(0))
            for d in range(whole, depth):
                value += w[op.w + (low + o) * depth + d] * m[base + op.x + d]
            m[base + op.y + low + o] = np.float32(0) if op.extras & RELU and value < 0 else value


@kernel
def add_vector(op: Any, m: Any, base: int, sums: Any) -> None:
    """sums[k] += the `count` numbers of x[k]."""
    for k in range(op.channels):
        value = np.float32(0)
        for lane in range(op.count):
            value += m[base + op.x + k * op.x_channel + lane]
        sums[op.bias + k] += value


@kernel
def flatten(op: Any, m: Any, base: int, back: bool) -> None:
    """The vector y from the frame x, `count` pixels a row; with `back` the frame from the vector."""
    at = base + op.y
    for c in range(op.channels):
        for h in range(op.rows):
            row = base + op.x + c * op.x_channel + h * op.x_row
            for w in range(op.count):
                if back:
                    m[row + w] = m[at]
                else:
                    m[at] = m[row + w]
                at += 1


@kernel
def clear_margins(op: Any, m: Any, base: int) -> None:
    """Zeros between the end of each row of y and the beginning of the next; behind the last one, as far as LANES."""
    for c in range(op.channels):
        for h in range(op.rows):
            at = base + op.y + c * op.y_channel + h * op.y_row + op.columns
            for i in range(op.count if h < op.rows - 1 else LANES):
                m[at + i] = np.float32(0)


@kernel
def max_pixels(op: Any, tables: Any, m: Any, base: int) -> None:
    """As `frames.max_taps`."""
    for c in range(op.channels):
        for i in range(op.places):
            x_at = base + op.x + c * op.x_channel + tables[op.sources + i]
            best, index = m[x_at + tables[op.taps]], 0
            for t in range(1, op.count):
                value = m[x_at + tables[op.taps + t]]
                if value > best or (value != value and best == best):
                    best, index = value, t
            at = base + c * op.y_channel + tables[op.targets + i]
            m[op.y + at], m[op.z + at] = best, np.float32(index)


@kernel
def max_pixels_back(op: Any, tables: Any, m: Any, base: int) -> None:
    """As `frames.max_taps_back`."""
    for c in range(op.channels):
        for i in range(op.places):
            gradient = m[base + op.y + c * op.y_channel + tables[op.targets + i]]
            index = m[base + op.z + c * op.z_channel + tables[op.weights + i]]
            for t in range(op.count):
                at = base + op.x + c * op.x_channel + tables[op.sources + i] + tables[op.taps + t]
                value = gradient if index == t else np.float32(0)
                m[at] = m[at] + value if op.extras & ADD else value


@kernel
def max_pairs(op: Any, m: Any, base: int) -> None:
    """The maximum of windows of 2 x 2 side by side, a register of windows at a time; y, its index z, x from rows."""
    for c in range(op.channels):
        for h in range(op.rows):
            for q in range(0, op.columns * LANES, LANES):
                x_at = base + op.x + c * op.x_channel + 2 * h * op.x_row + 2 * q
                best, right = parted(m, x_at)
                lower, corner = parted(m, x_at + op.x_row)
                index = where_beaten(best, right, spread(np.float32(1)), spread(np.float32(0)))
                best = where_beaten(best, right, right, best)
                index = where_beaten(best, lower, spread(np.float32(2)), index)
                best = where_beaten(best, lower, lower, best)
                index = where_beaten(best, corner, spread(np.float32(3)), index)
                best = where_beaten(best, corner, corner, best)
                at = base + c * op.y_channel + h * op.y_row + q
                store(m, op.y + at, best)
                store(m, op.z + at, index)


@kernel
def max_pairs_back(op: Any, m: Any, base: int) -> None:
    """x = y in the pixel of each window that z says, else 0."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        for row in range(2 * op.rows):  # one after another: the last register of each reaches into the next
            h, tap = row // 2, 2 * (row % 2)
            for q in range(0, op.columns * LANES, LANES):
                gradient = load(m, base + op.y + c * op.y_channel + h * op.y_row + q)
                index = load(m, base + op.z + c * op.z_channel + h * op.z_row + q)
                left = where_equal(index, spread(np.float32(tap)), gradient, zero)
                right = where_equal(index, spread(np.float32(tap + 1)), gradient, zero)
                store_merged(m, base + op.x + c * op.x_channel + row * op.x_row + 2 * q, left, right)


@kernel
def sum_pairs(op: Any, m: Any, base: int, v: Any) -> None:
    """y = w[c] times the sum of windows of 2 x 2 side by side + bias[c], and at z the sum; as `max_pairs`."""
    for c in range(op.channels):
        coefficient, bias = spread(v[op.w + c]), spread(v[op.bias + c])
        for h in range(op.rows):
            for q in range(0, op.columns * LANES, LANES):
                x_at = base + op.x + c * op.x_channel + 2 * h * op.x_row + 2 * q
                left, right = parted(m, x_at)
                lower, corner = parted(m, x_at + op.x_row)
                whole = (left + right) + (lower + corner)
                store(m, base + op.z + c * op.z_channel + h * op.z_row + q, whole)
                store(m, base + op.y + c * op.y_channel + h * op.y_row + q, coefficient * whole + bias)


@kernel
def sum_pairs_back(op: Any, m: Any, base: int, v: Any, g: Any) -> None:
    """x = w[c] y in all pixels of each window, y the gradient, and the gradients of w and bias; `count` columns."""
    for c in range(op.channels):
        coefficient, weighted, plain = spread(v[op.w + c]), np.float32(0), np.float32(0)
        for row in range(2 * op.rows):  # one after another: the last register of each reaches into the next
            at = base + op.y + c * op.y_channel + row // 2 * op.y_row
            z_at = base + op.z + c * op.z_channel + row // 2 * op.z_row
            if row % 2 == 0:
                for w in range(op.count):
                    weighted += m[at + w] * m[z_at + w]
                    plain += m[at + w]
            for q in range(0, op.columns * LANES, LANES):
                value = coefficient * load(m, at + q)
                store_merged(m, base + op.x + c * op.x_channel + row * op.x_row + 2 * q, value, value)
        g[op.w + c] += weighted
        g[op.bias + c] += plain


@kernel
def distances(op: Any, m: Any, base: int) -> None:
    """y[k] = minus the squared distance of the vector x from row k of w, `count` numbers of the shared memory."""
    for k in range(op.channels):
        value = np.float32(0)
        for d in range(op.count):
            way = m[base + op.x + d] - m[op.w + k * op.count + d]
            value -= way * way
        m[base + op.y + k] = value


@kernel
def distances_back(op: Any, m: Any, base: int) -> None:
    """z = the gradient of the vector x of `distances`, from that of its y."""
    for d in range(op.count):
        value = np.float32(0)
        for k in range(op.channels):
            value += m[base + op.y + k] * (m[op.w + k * op.count + d] - m[base + op.x + d])
        m[base + op.z + d] = value + value


@kernel
def mean_pixels(op: Any, tables: Any, m: Any, base: int) -> None:
    """As `frames.mean_taps`."""
    share = np.float32(1 / op.count)
    for c in range(op.channels):
        for i in range(op.places):
            x_at, value = base + op.x + c * op.x_channel + tables[op.sources + i], np.float32(0)
            for t in range(op.count):
                value += m[x_at + tables[op.taps + t]]
            m[base + op.y + c * op.y_channel + tables[op.targets + i]] = value * share


@kernel
def mean_pixels_back(op: Any, tables: Any, m: Any, base: int) -> None:
    """As `frames.mean_taps_back`."""
    share = np.float32(1 / op.count)
    for c in range(op.channels):
        for i in range(op.places):
            value = m[base + op.y + c * op.y_channel + tables[op.targets + i]] * share
            for t in range(op.count):
                at = base + op.x + c * op.x_channel + tables[op.sources + i] + tables[op.taps + t]
                m[at] = m[at] + value if op.extras & ADD else value


@kernel
def pixel_operation(op: Any, tables: Any, m: Any, base: int, v: Any, g: Any) -> None:
    """Any operation of this file."""
    if op.code == Code.CLEAR:
        m[base + op.y : base + op.y + op.count] = np.float32(0)
    elif op.code == Code.ADD_VECTOR:
        add_vector(op, m, base, g)
    elif op.code == Code.CLEAR_MARGINS:
        clear_margins(op, m, base)
    elif op.code == Code.FLATTEN:
        flatten(op, m, base, False)
    elif op.code == Code.UNFLATTEN:
        flatten(op, m, base, True)
    elif op.code == Code.DOT:
        dot_rows(TALL, op, tables, m, base, v)
    elif op.code == Code.DOT_FEW:
        dot_rows(1, op, tables, m, base, v)
    elif op.code == Code.MAX_PIXELS:
        max_pixels(op, tables, m, base)
    elif op.code == Code.MAX_PIXELS_BACK:
        max_pixels_back(op, tables, m, base)
    elif op.code == Code.MAX_PAIRS:
        max_pairs(op, m, base)
    elif op.code == Code.MAX_PAIRS_BACK:
        max_pairs_back(op, m, base)
    elif op.code == Code.MEAN_PIXELS:
        mean_pixels(op, tables, m, base)
    elif op.code == Code.MEAN_PIXELS_BACK:
        mean_pixels_back(op, tables, m, base)
    elif op.code == Code.SUM_PAIRS:
        sum_pairs(op, m, base, v)
    elif op.code == Code.SUM_PAIRS_BACK:
        sum_pairs_back(op, m, base, v, g)
    elif op.code == Code.DISTANCES:
        distances(op, m, base)
    elif op.code == Code.DISTANCES_BACK:
        distances_back(op, m, base)
