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


def zeros(outs: int, cols: int) -> Tile:
    """tile[o, c] = 0 in every lane."""
    return [np.zeros(LANES, np.float32) for _ in range(outs * cols)]


def add_products(
    tile: Tile,
    outs: int,
    cols: int,
    w: Array,
    w_at: int,
    w_step: int,
    x: Array,
    x_at: int,
    places: Array,
    first: int,
) -> Tile:
    """tile[o, c] += w[w_at + o w_step] * x[x_at + places[first + c]]."""
    pixels = [load(x, x_at + places[first + c]) for c in range(cols)]
    return [tile[o * cols + c] + w[w_at + o * w_step] * pixels[c] for o in range(outs) for c in range(cols)]


def add_outer(
    tile: Tile, outs: int, cols: int, dy: Array, dy_at: int, step: int, x: Array, x_at: int, places: Array, first: int
) -> Tile:
    """tile[o, c] += dy[dy_at + o step] * x[x_at + places[first + c]]."""
    rows = [load(dy, dy_at + o * step) for o in range(outs)]
    columns = [load(x, x_at + places[first + c]) for c in range(cols)]
    return [tile[o * cols + c] + rows[o] * columns[c] for o in range(outs) for c in range(cols)]


def load(array: Array, place: int) -> Array:
    """array[place : place + LANES]."""
    return _register(array, place).copy()


def spread(number: float) -> Array:
    """The number in every lane."""
    return np.full(LANES, number, np.float32)


def store(array: Array, place: int, register: Array) -> None:
    """array[place : place + LANES] = register."""
    _register(array, place)[...] = register


def total(register: Array) -> np.float32:
    """The sum of the lanes."""
    return register.sum()


def totals(tile: Tile) -> Tile:
    """Registers in which lane i % LANES of number i // LANES is the total of tile[i]."""
    sums = [total(register) for register in tile]
    return [np.array(sums[i : i + LANES]) for i in range(0, len(sums), LANES)]


def loaded(count: int, array: Array, place: int, step: int) -> Tile:
    """tile[i] = array[place + i step :][:LANES]."""
    return [load(array, place + i * step) for i in range(count)]


def turned(tile: Tile) -> Tile:
    """The transpose of a tile of LANES registers."""
    return list(np.array(tile).T)


def parted(array: Array, place: int) -> Tile:
    """The even and the odd elements of array[place : place + 2 LANES]."""
    pair = np.concatenate([load(array, place), load(array, place + LANES)])
    return [pair[::2], pair[1::2]]


def store_merged(array: Array, place: int, even: Array, odd: Array) -> None:
    """array[place : place + 2 LANES] = the elements of two registers in turns."""
    pair = np.stack([even, odd], axis=1).ravel()
    store(array, place, pair[:LANES])
    store(array, place + LANES, pair[LANES:])


def lane(register: Array, i: int) -> np.float32:
    """register[i]."""
    return register[i]


def where_greater(a: Array, b: Array, yes: Array, no: Array) -> Array:
    """Lane by lane `yes` where a > b, else `no`."""
    return np.where(a > b, yes, no)


def where_equal(a: Array, b: Array, yes: Array, no: Array) -> Array:
    """Lane by lane `yes` where a == b, else `no`."""
    return np.where(a == b, yes, no)


def where_beaten(a: Array, b: Array, yes: Array, no: Array) -> Array:
    """Lane by lane `yes` where b is greater than a, or the first NaN; else `no`."""
    return np.where((b > a) | (np.isnan(b) & ~np.isnan(a)), yes, no)


def peek(turns: Array, place: int) -> int:
    """turns[place]."""
    return int(turns[place])


def poke(turns: Array, place: int, turn: int) -> None:
    """turns[place] = turn."""
    turns[place] = turn
