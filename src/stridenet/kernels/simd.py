"""Tiles of registers, and the few operations that kernels are made of.

A tile is `outs` x `cols` registers: the sums of so many outputs, which stay in the processor while all that belongs to
them is added. Its size is a literal, so that its code has no loop. What is done register by register is in `vector`,
and its names are here too.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stridenet.kernels.vector import (
    INT as INT,
    LANES as LANES,
    REGISTER as REGISTER,
    Flat as Flat,
    ahead as ahead,
    everywhere as everywhere,
    lane as lane,
    load as load,
    mask_of as mask_of,
    pack as pack,
    parted as parted,
    peek as peek,
    poke as poke,
    spread as spread,
    store as store,
    store_merged as store_merged,
    total as total,
    vector as vector,
    where_beaten as where_beaten,
    where_equal as where_equal,
    where_greater as where_greater,
)


def _fused(builder: Any) -> Any:
    """a * b + c."""
    kind = ir.FunctionType(REGISTER, [REGISTER] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")


def _literal(*sizes: Any) -> bool:
    return all(isinstance(size, types.IntegerLiteral) for size in sizes)


@intrinsic(prefer_literal=True)
def filled(typing: Any, outs: Any, cols: Any, numbers: Any, first: Any) -> Any:
    """tile[o, c] = numbers[first + o] in every lane."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers, first = Flat(context, builder, signature.args[2], values[2]), values[3]
        rows = [everywhere(builder, numbers.number(ahead(builder, first, o))) for o in range(O)]
        return pack(builder, [row for row in rows for _ in range(C)])

    return types.UniTuple(vector, O * C)(outs, cols, numbers, types.intp), code


@intrinsic(prefer_literal=True)
def zeros(typing: Any, outs: Any, cols: Any) -> Any:
    """tile[o, c] = 0 in every lane."""
    if not _literal(outs, cols):
        return None
    count = outs.literal_value * cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return pack(builder, [ir.Constant(REGISTER, [0.0] * LANES)] * count)

    return types.UniTuple(vector, count)(outs, cols), code


def _add_pairs(builder: Any, tile: Any, rows: list[Any], columns: list[Any]) -> Any:
    """tile[o, c] += rows[o] * columns[c]."""
    sums = [builder.extract_value(tile, i) for i in range(len(rows) * len(columns))]
    pairs = [(row, column) for row in rows for column in columns]
    fused = _fused(builder)
    return pack(builder, [builder.call(fused, [*pair, total]) for pair, total in zip(pairs, sums, strict=True)])


def _stepped(builder: Any, start: Any, step: Any, count: int) -> list[Any]:
    """start, start + step, ..."""
    return [builder.add(start, builder.mul(step, ir.Constant(step.type, i))) for i in range(count)]


@intrinsic(prefer_literal=True)
def add_products(
    typing: Any,
    tile: Any,
    outs: Any,
    cols: Any,
    w: Any,
    w_at: Any,
    w_step: Any,
    x: Any,
    x_at: Any,
    places: Any,
    first: Any,
) -> Any:
    """tile[o, c] += w[w_at + o w_step] * x[x_at + places[first + c]]: one weight for all lanes."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tile, _, _, _, w_at, w_step, _, x_at, _, first = values
        w, x, places = (Flat(context, builder, signature.args[i], values[i]) for i in (3, 6, 8))
        pixels = [x.register(builder.add(x_at, places.number(ahead(builder, first, c)))) for c in range(C)]
        weights = [everywhere(builder, w.number(at)) for at in _stepped(builder, w_at, w_step, O)]
        return _add_pairs(builder, tile, weights, pixels)

    return tile(tile, outs, cols, w, types.intp, types.intp, x, types.intp, places, types.intp), code


@intrinsic(prefer_literal=True)
def add_outer(
    typing: Any,
    tile: Any,
    outs: Any,
    cols: Any,
    dy: Any,
    dy_at: Any,
    dy_step: Any,
    x: Any,
    x_at: Any,
    places: Any,
    first: Any,
) -> Any:
    """tile[o, c] += dy[dy_at + o dy_step] * x[x_at + places[first + c]], lane by lane."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tile, _, _, _, dy_at, dy_step, _, x_at, _, first = values
        dy, x, places = (Flat(context, builder, signature.args[i], values[i]) for i in (3, 6, 8))
        rows = [dy.register(at) for at in _stepped(builder, dy_at, dy_step, O)]
        columns = [x.register(builder.add(x_at, places.number(ahead(builder, first, c)))) for c in range(C)]
        return _add_pairs(builder, tile, rows, columns)

    return tile(tile, outs, cols, dy, types.intp, types.intp, x, types.intp, places, types.intp), code


def _folded(builder: Any, registers: list[Any]) -> Any:
    """A register whose lane i is the total of registers[i], LANES of them.

    They are joined two by two: half the lanes of a pair go on with the sums of the one, half with those of the other.
    """
    width = LANES
    while width > 1:
        width //= 2
        upper = [bool(lane & width) for lane in range(LANES)]
        near = [lane + LANES - width if up else lane for lane, up in enumerate(upper)]
        far = [lane + LANES if up else lane + width for lane, up in enumerate(upper)]
        masks = mask_of(near), mask_of(far)
        pairs = zip(registers[:width], registers[width:], strict=True)
        registers = [builder.fadd(*(builder.shuffle_vector(*pair, mask) for mask in masks)) for pair in pairs]
    return registers[0]


@intrinsic
def totals(typing: Any, tile: Any) -> Any:
    """Registers in which lane i % LANES of number i // LANES is the total of tile[i], added as `total` does."""
    count = -(-len(tile) // LANES)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        registers = [builder.extract_value(values[0], i) for i in range(len(tile))]
        registers += [ir.Constant(REGISTER, [0.0] * LANES)] * (count * LANES - len(tile))
        return pack(builder, [_folded(builder, registers[i * LANES : (i + 1) * LANES]) for i in range(count)])

    return types.UniTuple(vector, count)(tile), code


@intrinsic(prefer_literal=True)
def loaded(typing: Any, count: Any, array: Any, place: Any, step: Any) -> Any:
    """tile[i] = array[place + i step :][:LANES]."""
    if not _literal(count):
        return None

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = Flat(context, builder, signature.args[1], values[1])
        return pack(
            builder, [array.register(at) for at in _stepped(builder, values[2], values[3], count.literal_value)]
        )

    return types.UniTuple(vector, count.literal_value)(count, array, types.intp, types.intp), code


@intrinsic
def turned(typing: Any, tile: Any) -> Any:
    """The transpose of a tile of LANES registers: lane j of register i becomes lane i of register j."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        rows = [builder.extract_value(values[0], i) for i in range(LANES)]
        width = LANES
        while width > 1:  # blocks of half the size change places across the diagonal
            width //= 2
            upper = [bool(lane & width) for lane in range(LANES)]
            near = mask_of([lane + LANES - width if up else lane for lane, up in enumerate(upper)])
            far = mask_of([lane + LANES if up else lane + width for lane, up in enumerate(upper)])
            for i in range(LANES):
                if not i & width:
                    pair = rows[i], rows[i + width]
                    rows[i], rows[i + width] = (builder.shuffle_vector(*pair, mask) for mask in (near, far))
        return pack(builder, rows)

    return tile(tile), code
