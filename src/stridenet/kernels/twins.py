"""The operations of `simd` in NumPy, for NUMBA_DISABLE_JIT: a register is an array, a tile a list of them."""

from __future__ import annotations

import numpy as np

from stridenet.kernels.simd import LANES
from stridenet.layout import Array

Tile = list[Array]


def _register(array: Array, place: int) -> Array:
    if not 0 <= place <= array.size - LANES:
        raise IndexError("a kernel left its array")
    return array[place : place + LANES]


def filled(outs: int, cols: int, numbers: Array, first: int) -> Tile:
    """tile[o, c] = numbers[first + o] in every lane."""
    return [np.full(LANES, numbers[first + o]) for o in range(outs) for _ in range(cols)]


def add_products(
    tile: Tile, outs: int, cols: int, w: Array, w_at: int, x: Array, x_at: int, places: Array, first: int
) -> Tile:
    """tile[o, c] += w[w_at + o] * x[x_at + places[first + c]]."""
    pixels = [_register(x, x_at + places[first + c]) for c in range(cols)]
    return [tile[o * cols + c] + w[w_at + o] * pixels[c] for o in range(outs) for c in range(cols)]


def add_outer(
    tile: Tile, outs: int, cols: int, dy: Array, dy_at: int, step: int, x: Array, x_at: int, places: Array, first: int
) -> Tile:
    """tile[o, c] += dy[dy_at + o step] * x[x_at + places[first + c]]."""
    rows = [_register(dy, dy_at + o * step) for o in range(outs)]
    columns = [_register(x, x_at + places[first + c]) for c in range(cols)]
    return [tile[o * cols + c] + rows[o] * columns[c] for o in range(outs) for c in range(cols)]


def store(array: Array, place: int, register: Array) -> None:
    """array[place : place + LANES] = register."""
    _register(array, place)[...] = register


def total(register: Array) -> np.float32:
    """The sum of the lanes."""
    return register.sum()
