"""What a network does register by register: rectifiers, sums of frames, pools, batch norm."""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np

from stridenet.kernels.compiled import kernel
from stridenet.kernels.operation import ADD, LANES, RELU, Code, registers

load, store, spread, total = registers.load, registers.store, registers.spread, registers.total
where_greater, where_equal, where_beaten = registers.where_greater, registers.where_equal, registers.where_beaten

# Of Lambert's fraction u (135135 + 17325 u^2 + 378 u^4 + u^6) / (135135 + 62370 u^2 + 3150 u^4 + 28 u^6).
A2, A4, A6, B2, B4, B6 = (np.float32(n / 135135) for n in (17325, 378, 1, 62370, 3150, 28))


@kernel
def rectify(op: Any, x: Any, y: Any, base: int) -> None:
    """y = max(x, 0)."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            for w in range(0, op.columns * LANES, LANES):
                value = load(x, x_at + w)
                store(y, y_at + w, where_greater(zero, value, zero, value))


@kernel
def rectify_back(op: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """y = x where z > 0, else 0: x and y are gradients, z the output."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            z_at = base + op.z + c * op.z_channel + h * op.z_row
            for w in range(0, op.columns * LANES, LANES):
                store(y, y_at + w, where_greater(load(z, z_at + w), zero, load(x, x_at + w), zero))


@kernel
def squash(op: Any, x: Any, y: Any, base: int) -> None:
    """y = 1.7159 tanh(2 x / 3), see `nn.classic`.

    Lambert's continued fraction for the tangent of a quarter of the argument, good to float32, and twice the formula
    tanh 2u = 2 tanh u / (1 + tanh^2 u), for p / q in place of tanh u. Beyond 9 the tangent is 1.
    """
    most, least, one = spread(np.float32(9)), spread(np.float32(-9)), spread(np.float32(1))
    for c in range(op.channels):
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            for w in range(0, op.columns * LANES, LANES):
                u = spread(np.float32(2 / 3)) * load(x, x_at + w)
                u = where_greater(u, most, most, where_greater(least, u, least, u)) * spread(np.float32(0.25))
                s = u * u
                p = u * (one + s * (spread(A2) + s * (spread(A4) + s * spread(A6))))
                q = one + s * (spread(B2) + s * (spread(B4) + s * spread(B6)))
                p, q = p * q + p * q, q * q + p * p
                p, q = p * q + p * q, q * q + p * p
                store(y, y_at + w, spread(np.float32(1.7159)) * p / q)


@kernel
def squash_back(op: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """y = x (2 / 3) (1.7159 - z^2 / 1.7159): x and y are gradients, z the output."""
    top, bend = spread(np.float32(1.7159 * 2 / 3)), spread(np.float32(2 / 3 / 1.7159))
    for c in range(op.channels):
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            z_at = base + op.z + c * op.z_channel + h * op.z_row
            for w in range(0, op.columns * LANES, LANES):
                value = load(z, z_at + w)
                store(y, y_at + w, load(x, x_at + w) * (top - bend * (value * value)))


@kernel
def add_frames(op: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """y = x + z, and no less than 0 with RELU."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            z_at = base + op.z + c * op.z_channel + h * op.z_row
            for w in range(0, op.columns * LANES, LANES):
                value = load(x, x_at + w) + load(z, z_at + w)
                if op.extras & RELU:
                    value = where_greater(zero, value, zero, value)
                store(y, y_at + w, value)


@kernel
def copy(op: Any, tables: Any, x: Any, y: Any, base: int) -> None:
    """y[targets[i]] = x[sources[i]] in each channel; with ADD it is added."""
    for c in range(op.channels):
        for i in range(op.places):
            value = load(x, base + op.x + c * op.x_channel + tables[op.sources + i])
            at = base + op.y + c * op.y_channel + tables[op.targets + i]
            store(y, at, load(y, at) + value if op.extras & ADD else value)


@kernel
def max_taps(op: Any, tables: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """y[targets[i]] = the maximum over t of x[sources[i] + taps[t]], and z the first t that has it."""
    for c in range(op.channels):
        for i in range(op.places):
            x_at = base + op.x + c * op.x_channel + tables[op.sources + i]
            best, index = load(x, x_at + tables[op.taps]), spread(np.float32(0))
            for t in range(1, op.count):
                value = load(x, x_at + tables[op.taps + t])
                index = where_beaten(best, value, spread(np.float32(t)), index)
                best = where_beaten(best, value, value, best)
            at = base + c * op.y_channel + tables[op.targets + i]
            store(y, op.y + at, best)
            store(z, op.z + at, index)


@kernel
def max_taps_back(op: Any, tables: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """x[sources[i] + taps[t]] = y[targets[i]] where t is z[weights[i]], else 0; with ADD it is added."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        for i in range(op.places):
            gradient = load(y, base + op.y + c * op.y_channel + tables[op.targets + i])
            index = load(z, base + op.z + c * op.z_channel + tables[op.weights + i])
            for t in range(op.count):
                x_at = base + op.x + c * op.x_channel + tables[op.sources + i] + tables[op.taps + t]
                value = where_equal(index, spread(np.float32(t)), gradient, zero)
                store(x, x_at, load(x, x_at) + value if op.extras & ADD else value)


@kernel
def mean_taps(op: Any, tables: Any, x: Any, y: Any, base: int) -> None:
    """y[targets[i]] = the sum over t of x[sources[i] + taps[t]] over `count`."""
    share = spread(np.float32(1 / op.count))
    for c in range(op.channels):
        for i in range(op.places):
            x_at, value = base + op.x + c * op.x_channel + tables[op.sources + i], spread(np.float32(0))
            for t in range(op.count):
                value = value + load(x, x_at + tables[op.taps + t])
            store(y, base + op.y + c * op.y_channel + tables[op.targets + i], value * share)


@kernel
def mean_taps_back(op: Any, tables: Any, x: Any, y: Any, base: int) -> None:
    """x[sources[i] + taps[t]] = y[targets[i]] over `count`, for each t; with ADD it is added."""
    share = spread(np.float32(1 / op.count))
    for c in range(op.channels):
        for i in range(op.places):
            value = load(y, base + op.y + c * op.y_channel + tables[op.targets + i]) * share
            for t in range(op.count):
                at = base + op.x + c * op.x_channel + tables[op.sources + i] + tables[op.taps + t]
                store(x, at, load(x, at) + value if op.extras & ADD else value)


@kernel
def moments(op: Any, m: Any, base: int, images: int, sums: Any, at: int) -> None:
    """sums[at + 2 c] = the mean of channel c of x over the first `images` lanes; after it the squares around it.

    The mask of those lanes is at z, 1 or 0 in each.
    """
    mask, count = load(m, base + op.z), images * op.rows * op.columns
    for c in range(op.channels):
        whole, squares = 0.0, 0.0
        for h in range(op.rows):
            register, row = spread(np.float32(0)), base + op.x + c * op.x_channel + h * op.x_row
            for w in range(0, op.columns * LANES, LANES):
                register = register + load(m, row + w)
            whole += total(register * mask)
        mean = whole / count
        centre = spread(np.float32(mean))
        for h in range(op.rows):
            register, row = spread(np.float32(0)), base + op.x + c * op.x_channel + h * op.x_row
            for w in range(0, op.columns * LANES, LANES):
                distance = load(m, row + w) - centre
                register = register + distance * distance
            squares += total(register * mask)
        squares -= count * (mean - np.float64(np.float32(mean))) ** 2  # they were taken around the rounded mean
        sums[at + 2 * c], sums[at + 2 * c + 1] = mean, squares


@kernel
def normalize(op: Any, x: Any, y: Any, base: int) -> None:
    """y = (x - mean) scale + bias, and no less than 0 with RELU; the three (channels,) are at w, for all blocks."""
    zero = spread(np.float32(0))
    for c in range(op.channels):
        at, step = op.w + c, op.channels
        mean, scale, bias = spread(x[at]), spread(x[at + step]), spread(x[at + 2 * step])
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            for i in range(0, op.columns * LANES, LANES):
                value = (load(x, x_at + i) - mean) * scale + bias
                if op.extras & RELU:
                    value = where_greater(zero, value, zero, value)
                store(y, y_at + i, value)


@kernel
def gradient_sums(op: Any, m: Any, base: int, sums: Any, at: int) -> None:
    """sums[at + 2 c] = the sum of y, a gradient, over channel c; after it that of y (x - mean), with the mean at w."""
    for c in range(op.channels):
        mean, plain, weighted = spread(m[op.w + c]), 0.0, 0.0
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            first, second = spread(np.float32(0)), spread(np.float32(0))
            for w in range(0, op.columns * LANES, LANES):
                gradient = load(m, y_at + w)
                first, second = first + gradient, second + gradient * (load(m, x_at + w) - mean)
            plain += total(first)
            weighted += total(second)
        sums[at + 2 * c], sums[at + 2 * c + 1] = plain, weighted


@kernel
def normalize_back(op: Any, x: Any, y: Any, z: Any, base: int, mask_at: int) -> None:
    """y = scale (z - shift - slope (x - mean)) in the lanes of the mask; the four (channels,) are at w, all blocks'."""
    mask = load(x, base + mask_at)
    for c in range(op.channels):
        at, step = op.w + c, op.channels
        mean, scale = spread(x[at]), spread(x[at + step]) * mask
        shift, slope = spread(x[at + 2 * step]), spread(x[at + 3 * step])
        for h in range(op.rows):
            x_at = base + op.x + c * op.x_channel + h * op.x_row
            y_at = base + op.y + c * op.y_channel + h * op.y_row
            z_at = base + op.z + c * op.z_channel + h * op.z_row
            for i in range(0, op.columns * LANES, LANES):
                store(y, y_at + i, scale * (load(z, z_at + i) - shift - slope * (load(x, x_at + i) - mean)))


@kernel
def frame_operation(op: Any, tables: Any, x: Any, y: Any, z: Any, base: int) -> None:
    """Any operation of this file, but those that need the sums of all blocks.

    Its x, y and z are in the arrays of these names.
    """
    if op.code == Code.RECTIFY:
        rectify(op, x, y, base)
    elif op.code == Code.RECTIFY_BACK:
        rectify_back(op, x, y, z, base)
    elif op.code == Code.ADD_FRAMES:
        add_frames(op, x, y, z, base)
    elif op.code == Code.COPY:
        copy(op, tables, x, y, base)
    elif op.code == Code.MAX:
        max_taps(op, tables, x, y, z, base)
    elif op.code == Code.MAX_BACK:
        max_taps_back(op, tables, x, y, z, base)
    elif op.code == Code.MEAN:
        mean_taps(op, tables, x, y, base)
    elif op.code == Code.MEAN_BACK:
        mean_taps_back(op, tables, x, y, base)
    elif op.code == Code.NORMALIZE:
        normalize(op, x, y, base)
    elif op.code == Code.NORMALIZE_BACK:
        normalize_back(op, x, y, z, base, op.slot)
    elif op.code == Code.SQUASH:
        squash(op, x, y, base)
    elif op.code == Code.SQUASH_BACK:
        squash_back(op, x, y, z, base)
