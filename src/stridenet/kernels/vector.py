"""One register of images: a Numba type that is an LLVM vector, and what is done with it lane by lane.

With the batch innermost, LANES neighbours in memory are one pixel of LANES images; with one image they are neighbours
in a row. LLVM does not go along them by itself; here it is said.

Arrays are flat, contiguous and float32, places are counted in elements. Nothing is checked, but that with
NUMBA_BOUNDSCHECK every place is compared with the array. `twins` has the same operations in NumPy.
"""

# pyright: basic, reportCallIssue=false

from __future__ import annotations

import operator
import platform
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config as numba_config
from numba.extending import intrinsic, models, overload, register_model

config: Any = numba_config
_FEATURES = config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()  # as Numba itself finds them
LANES = 16 if "+avx512f" in _FEATURES else 8  # float32 in a register
REGISTER = ir.VectorType(ir.FloatType(), LANES)
INT = ir.IntType(32)
_PAUSES = platform.machine() in ("x86_64", "AMD64")  # have an instruction that leaves the core to its other thread


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, REGISTER)


class Flat:
    """An array inside an operation: what is loaded from it and stored, by place."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.context, self.builder = context, builder
        self.array = context.make_array(kind)(context, builder, value)

    def at(self, place: Any, length: int = 1) -> Any:
        """The address of `place`, after which there are `length` elements."""
        if config.BOUNDSCHECK:
            builder, number = self.builder, lambda value: ir.Constant(place.type, value)
            low = builder.icmp_signed("<", place, number(0))
            high = builder.icmp_signed(">", builder.add(place, number(length)), self.array.nitems)
            with builder.if_then(builder.or_(low, high), likely=False):
                self.context.call_conv.return_user_exc(builder, IndexError, ("a kernel left its array",))
        return self.builder.gep(self.array.data, [place])

    def _lanes(self, place: Any) -> Any:
        return self.builder.bitcast(self.at(place, LANES), ir.PointerType(REGISTER))

    def number(self, place: Any) -> Any:
        """The number at `place`."""
        return self.builder.load(self.at(place))

    def register(self, place: Any) -> Any:
        """The LANES numbers from `place` on."""
        value = self.builder.load(self._lanes(place))
        value.align = 4
        return value

    def store(self, place: Any, value: Any) -> None:
        """Write LANES numbers from `place` on."""
        self.builder.store(value, self._lanes(place)).align = 4


def ahead(builder: Any, place: Any, count: int) -> Any:
    """place + count."""
    return builder.add(place, ir.Constant(place.type, count))


def everywhere(builder: Any, number: Any) -> Any:
    """The number in every lane."""
    undefined = ir.Constant(REGISTER, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))


def pack(builder: Any, registers: list[Any]) -> Any:
    """The registers as a tile."""
    tile = ir.Constant(ir.ArrayType(REGISTER, len(registers)), ir.Undefined)
    for i, register in enumerate(registers):
        tile = builder.insert_value(tile, register, i)
    return tile


def mask_of(lanes: list[int]) -> Any:
    """Which lanes of two registers a shuffle takes, those of the second from LANES on."""
    return ir.Constant(ir.VectorType(INT, len(lanes)), lanes)


@intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """array[place : place + LANES]."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return Flat(context, builder, signature.args[0], values[0]).register(values[1])

    return vector(array, types.intp), code


@intrinsic
def spread(typing: Any, number: Any) -> Any:
    """The number in every lane."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return everywhere(builder, values[0])

    return vector(types.float32), code


@intrinsic
def store(typing: Any, array: Any, place: Any, register: Any) -> Any:
    """array[place : place + LANES] = register."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        Flat(context, builder, signature.args[0], values[0]).store(*values[1:])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@intrinsic
def total(typing: Any, register: Any) -> Any:
    """The sum of the lanes, pair by pair."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        register, width = values[0], LANES
        undefined = ir.Constant(REGISTER, ir.Undefined)
        while width > 1:
            width //= 2
            upper = ir.Constant(ir.VectorType(INT, LANES), [min(i + width, LANES - 1) for i in range(LANES)])
            register = builder.fadd(register, builder.shuffle_vector(register, undefined, upper))
        return builder.extract_element(register, ir.Constant(INT, 0))

    return types.float32(vector), code


@intrinsic
def parted(typing: Any, array: Any, place: Any) -> Any:
    """The even and the odd elements of array[place : place + 2 LANES], a register each."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, place = Flat(context, builder, signature.args[0], values[0]), values[1]
        pair = [array.register(at) for at in (place, ahead(builder, place, LANES))]
        even, odd = (mask_of(list(range(first, 2 * LANES, 2))) for first in (0, 1))
        return pack(builder, [builder.shuffle_vector(*pair, mask) for mask in (even, odd)])

    return types.UniTuple(vector, 2)(array, types.intp), code


@intrinsic
def store_merged(typing: Any, array: Any, place: Any, even: Any, odd: Any) -> Any:
    """array[place : place + 2 LANES] = the elements of two registers in turns."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, (place, even, odd) = Flat(context, builder, signature.args[0], values[0]), values[1:]
        turns = [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
        for half in (0, 1):
            mask = mask_of(turns[half * LANES : (half + 1) * LANES])
            array.store(ahead(builder, place, half * LANES), builder.shuffle_vector(even, odd, mask))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, vector), code


@intrinsic
def lane(typing: Any, register: Any, i: Any) -> Any:
    """register[i]."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.extract_element(values[0], builder.trunc(values[1], INT))

    return types.float32(vector, types.intp), code


@intrinsic
def _add(typing: Any, a: Any, b: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fadd(*values)

    return vector(vector, vector), code


@intrinsic
def _subtract(typing: Any, a: Any, b: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fsub(*values)

    return vector(vector, vector), code


@intrinsic
def _multiply(typing: Any, a: Any, b: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fmul(*values)

    return vector(vector, vector), code


@intrinsic
def _divide(typing: Any, a: Any, b: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fdiv(*values)

    return vector(vector, vector), code


# Numba compares the names of these arguments with those of the function returned, annotations included.
@overload(operator.add)
def _plus(a, b):
    return (lambda a, b: _add(a, b)) if a == b == vector else None


@overload(operator.sub)
def _minus(a, b):
    return (lambda a, b: _subtract(a, b)) if a == b == vector else None


@overload(operator.mul)
def _times(a, b):
    return (lambda a, b: _multiply(a, b)) if a == b == vector else None


@overload(operator.truediv)
def _over(a, b):
    return (lambda a, b: _divide(a, b)) if a == b == vector else None


@intrinsic
def where_greater(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Lane by lane `yes` where a > b, else `no`; NaN is not greater than anything, nor is anything greater than NaN."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values[:2]), *values[2:])

    return vector(vector, vector, vector, vector), code


@intrinsic
def where_equal(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Lane by lane `yes` where a == b, else `no`."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", *values[:2]), *values[2:])

    return vector(vector, vector, vector, vector), code


@intrinsic
def where_beaten(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Lane by lane `yes` where b takes over from a as the maximum: it is greater, or the first NaN; else `no`."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, yes, no = values
        beaten = builder.and_(builder.fcmp_unordered("<", a, b), builder.fcmp_ordered("ord", a, a))
        return builder.select(beaten, yes, no)

    return vector(vector, vector, vector, vector), code


@intrinsic
def peek(typing: Any, turns: Any, place: Any) -> Any:
    """turns[place] at this moment, another thread's; what that thread wrote before can be read from now on."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if _PAUSES:
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        pointer = Flat(context, builder, signature.args[0], values[0]).at(values[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(turns, types.intp), code


@intrinsic
def poke(typing: Any, turns: Any, place: Any, turn: Any) -> Any:
    """turns[place] = turn for other threads to see, after all that was written before."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = Flat(context, builder, signature.args[0], values[0]).at(values[1])
        builder.store_atomic(values[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(turns, types.intp, types.int64), code
