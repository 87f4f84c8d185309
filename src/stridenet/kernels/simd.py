"""One register of images: a Numba type that is an LLVM vector, and the few operations that kernels are made of.

With the batch innermost, LANES neighbours in memory are one pixel of LANES images. A tile is `outs` x `cols` such
registers: the sums of so many outputs, which stay in the processor while all that belongs to them is added. LLVM does
not arrange that by itself; here it is said. The size of a tile is a literal, so that its code has no loop.

Arrays are flat, contiguous and float32, places are counted in elements. Nothing is checked, but that with
NUMBA_BOUNDSCHECK every place is compared with the array. `twins` has the same operations in NumPy.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config as numba_config
from numba.extending import intrinsic, models, register_model

config: Any = numba_config
_FEATURES = config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()  # as Numba itself finds them
LANES = 16 if "+avx512f" in _FEATURES else 8  # float32 in a register
_REGISTER = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _REGISTER)


class _Flat:
    """An array inside an operation: what is loaded from it and stored, by place."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.context, self.builder = context, builder
        self.array = context.make_array(kind)(context, builder, value)

    def _at(self, place: Any, length: int) -> Any:
        if config.BOUNDSCHECK:
            builder, number = self.builder, lambda value: ir.Constant(place.type, value)
            low = builder.icmp_signed("<", place, number(0))
            high = builder.icmp_signed(">", builder.add(place, number(length)), self.array.nitems)
            with builder.if_then(builder.or_(low, high), likely=False):
                self.context.call_conv.return_user_exc(builder, IndexError, ("a kernel left its array",))
        return self.builder.gep(self.array.data, [place])

    def _lanes(self, place: Any) -> Any:
        return self.builder.bitcast(self._at(place, LANES), ir.PointerType(_REGISTER))

    def number(self, place: Any) -> Any:
        return self.builder.load(self._at(place, 1))

    def register(self, place: Any) -> Any:
        value = self.builder.load(self._lanes(place))
        value.align = 4
        return value

    def store(self, place: Any, value: Any) -> None:
        self.builder.store(value, self._lanes(place)).align = 4


def _ahead(builder: Any, place: Any, count: int) -> Any:
    return builder.add(place, ir.Constant(place.type, count))


def _everywhere(builder: Any, number: Any) -> Any:
    """The number in every lane."""
    undefined = ir.Constant(_REGISTER, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _fused(builder: Any) -> Any:
    """a * b + c."""
    kind = ir.FunctionType(_REGISTER, [_REGISTER] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")


def _pack(builder: Any, registers: list[Any]) -> Any:
    tile = ir.Constant(ir.ArrayType(_REGISTER, len(registers)), ir.Undefined)
    for i, register in enumerate(registers):
        tile = builder.insert_value(tile, register, i)
    return tile


def _literal(*sizes: Any) -> bool:
    return all(isinstance(size, types.IntegerLiteral) for size in sizes)


@intrinsic(prefer_literal=True)
def filled(typing: Any, outs: Any, cols: Any, numbers: Any, first: Any) -> Any:
    """tile[o, c] = numbers[first + o] in every lane."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        numbers, first = _Flat(context, builder, signature.args[2], values[2]), values[3]
        rows = [_everywhere(builder, numbers.number(_ahead(builder, first, o))) for o in range(O)]
        return _pack(builder, [row for row in rows for _ in range(C)])

    return types.UniTuple(vector, O * C)(outs, cols, numbers, types.intp), code


@intrinsic(prefer_literal=True)
def add_products(
    typing: Any, tile: Any, outs: Any, cols: Any, w: Any, w_at: Any, x: Any, x_at: Any, places: Any, first: Any
) -> Any:
    """tile[o, c] += w[w_at + o] * x[x_at + places[first + c]]: one weight for all images."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tile, _, _, _, w_at, _, x_at, _, first = values
        w, x, places = (_Flat(context, builder, signature.args[i], values[i]) for i in (3, 5, 7))
        pixels = [x.register(builder.add(x_at, places.number(_ahead(builder, first, c)))) for c in range(C)]
        weights = [_everywhere(builder, w.number(_ahead(builder, w_at, o))) for o in range(O)]
        sums = [builder.extract_value(tile, i) for i in range(O * C)]
        fused = _fused(builder)
        pairs = [(weight, pixel) for weight in weights for pixel in pixels]
        return _pack(builder, [builder.call(fused, [*pair, total]) for pair, total in zip(pairs, sums, strict=True)])

    return tile(tile, outs, cols, w, types.intp, x, types.intp, places, types.intp), code


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
    """tile[o, c] += dy[dy_at + o dy_step] * x[x_at + places[first + c]], image by image."""
    if not _literal(outs, cols):
        return None
    O, C = outs.literal_value, cols.literal_value

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tile, _, _, _, dy_at, dy_step, _, x_at, _, first = values
        dy, x, places = (_Flat(context, builder, signature.args[i], values[i]) for i in (3, 6, 8))
        steps = [builder.mul(dy_step, ir.Constant(dy_step.type, o)) for o in range(O)]
        rows = [dy.register(builder.add(dy_at, step)) for step in steps]
        columns = [x.register(builder.add(x_at, places.number(_ahead(builder, first, c)))) for c in range(C)]
        sums = [builder.extract_value(tile, i) for i in range(O * C)]
        fused = _fused(builder)
        pairs = [(row, column) for row in rows for column in columns]
        return _pack(builder, [builder.call(fused, [*pair, total]) for pair, total in zip(pairs, sums, strict=True)])

    return tile(tile, outs, cols, dy, types.intp, types.intp, x, types.intp, places, types.intp), code


@intrinsic
def store(typing: Any, array: Any, place: Any, register: Any) -> Any:
    """array[place : place + LANES] = register."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _Flat(context, builder, signature.args[0], values[0]).store(*values[1:])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@intrinsic
def total(typing: Any, register: Any) -> Any:
    """The sum of the lanes, pair by pair."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        register, width = values[0], LANES
        undefined = ir.Constant(_REGISTER, ir.Undefined)
        while width > 1:
            width //= 2
            upper = ir.Constant(ir.VectorType(_INT, LANES), [min(i + width, LANES - 1) for i in range(LANES)])
            register = builder.fadd(register, builder.shuffle_vector(register, undefined, upper))
        return builder.extract_element(register, ir.Constant(_INT, 0))

    return types.float32(vector), code
