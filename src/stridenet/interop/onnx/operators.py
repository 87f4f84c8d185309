"""The other operators, and the table of all: those by row, and those that move numbers or make them.

An operator is a function of its node and its inputs. It looks at shapes and attributes and answers with what it will
give and how (`forms.Prepared`). Where the meaning has changed, it looks at the opset of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from stridenet.errors import ConfigError, ShapeError, UnsupportedModelError, shown
from stridenet.interop.onnx import windows
from stridenet.interop.onnx.elements import ELEMENTS
from stridenet.interop.onnx.forms import Form, Operator, Prepared, axes_of, axis_of, broadcast, like, numbers, one
from stridenet.interop.onnx.proto import Node, dtype_of
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.shapes import product

# What keeps the shape


def _cast(node: Node, x: Array) -> Prepared:
    """x as another type; what does not fit an integer is not defined, as in NumPy."""
    dtype = dtype_of(node.get("to", 0), str(node))
    return one(x.shape, dtype, lambda: x.astype(dtype))


def _dropout(node: Node, x: Array, ratio: Array | None = None, training: Array | None = None) -> Prepared:
    """x itself; in training by the stream of NumPy's legacy generator that the standard's own tests expect."""
    if (node.opset == 6 and not node.get("is_test", 0)) or (node.opset < 10 and len(node.outputs) > 1):
        raise UnsupportedModelError(f"{node}: expected is_test=1 in opset 6, and no mask before opset 10, got another")

    def compute() -> tuple[Array, ...]:
        p = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
        if training is None or not training.any() or p == 0:
            return x, np.ones(x.shape, bool)
        if "seed" not in node.attributes or not 0 < p < 1:
            raise UnsupportedModelError(f"{node}: expected a seed and a ratio below 1 to train with, got ratio {p:g}")
        generator = np.random.RandomState(node.attributes["seed"] % 2**32)
        mask = generator.uniform(0, 1, x.shape) >= p
        return x * mask * x.dtype.type(1 / (1 - p)), mask

    if any(part is not None and part.size != 1 for part in (ratio, training)):
        raise ShapeError(f"{node}: expected a ratio and a training mode that are one number, got more")
    forms = Form(x.shape, x.dtype), Form(x.shape, np.dtype(bool))
    count = len(node.outputs)
    return Prepared(forms[:count], lambda: compute()[:count], 10 * x.size)


# Rows and products


def _softmax(function: Callable[[Array], tuple[Array, Any]], node: Node, x: Array) -> Prepared:
    """Along one axis; before opset 13 over all axes from `axis` on together."""
    old = node.opset < 13
    axis = axis_of(node, node.get("axis", 1 if old else -1), x.ndim)
    end = x.ndim if old else axis + 1
    rows = product(x.shape[:axis]), product(x.shape[axis:end]), product(x.shape[end:])
    return like(x, lambda: function(x.reshape(rows))[0].reshape(x.shape) if x.size else x)


def _gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> Prepared:
    """alpha A @ B + beta C, A and B transposed if asked for."""
    if a.ndim != 2 or b.ndim != 2:
        raise ShapeError(f"{node}: expected two matrices, got {a.shape} and {b.shape}")
    a, b = a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b
    shape = a.shape[0], b.shape[1]
    if a.shape[1] != b.shape[0] or (c is not None and broadcast(node, c.shape, shape) != shape):
        raise ShapeError(
            f"{node}: expected matrices that fit, got {a.shape} and {b.shape}, C {None if c is None else c.shape}"
        )
    if c is not None and node.opset < 7 and not node.get("broadcast", 0) and c.shape != shape:
        raise ShapeError(f"{node}: expected C of shape {shape} by the rules of opset 6, got {c.shape}")
    alpha, beta = (node.get(name, 1.0) for name in ("alpha", "beta"))
    if a.dtype.kind != "f" and not alpha == beta == 1:
        raise UnsupportedModelError(f"{node}: expected alpha and beta 1 for integers, got {alpha:g} and {beta:g}")

    def compute() -> Array:
        y = a @ b if alpha == 1 else a.dtype.type(alpha) * (a @ b)
        if c is None:
            return y
        return y + (c if beta == 1 else a.dtype.type(beta) * c)

    return one(shape, a.dtype, compute)


def _matmul(node: Node, a: Array, b: Array) -> Prepared:
    """As NumPy's: stacks of matrices; a vector is a row on the left, a column on the right."""
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2:][0]:
        raise ShapeError(f"{node}: expected factors that fit, got {a.shape} and {b.shape}")
    stack = broadcast(node, a.shape[:-2], b.shape[:-2])
    return one((*stack, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), a.dtype, lambda: a @ b)


def _reduce_mean(node: Node, x: Array, axes: Array | None = None) -> Prepared:
    """The mean along some axes, all by default; a list of none means all, or none of them."""
    given = node.get("axes", ()) if axes is None else numbers(node, "axes", axes)
    if x.dtype.kind != "f":
        raise UnsupportedModelError(f"{node}: expected x of float32 or float64, got {x.dtype}")
    if not given and node.get("noop_with_empty_axes", 0):
        return like(x, lambda: x)
    along = axes_of(node, given or range(x.ndim), x.ndim)
    if not product(tuple(x.shape[i] for i in along)):
        raise ShapeError(f"{node}: expected something to take the mean of, got x {x.shape}")
    keep = bool(node.get("keepdims", 1))
    shape = [1 if i in along else n for i, n in enumerate(x.shape) if keep or i not in along]
    return one(shape, x.dtype, lambda: x.mean(axis=along, keepdims=keep))


# Shapes


def _reshaped(x: Array, shape: Sequence[int]) -> Prepared:
    return one(shape, x.dtype, lambda: x.reshape(tuple(shape)))


def _reshape(node: Node, x: Array, shape: Array) -> Prepared:
    """x in another shape: -1 is what is left, 0 the length of x there, or with allowzero a length."""
    wanted = list(numbers(node, "a shape", shape))
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 and i < x.ndim else n for i, n in enumerate(wanted)]
    if wanted.count(-1) > 1 or min(wanted, default=0) < -1 or (-1 in wanted and 0 in wanted):
        raise ConfigError(f"{node}: expected lengths and at most one -1, got {shown(wanted)}")
    if -1 in wanted:
        wanted[wanted.index(-1)] = x.size // -product(tuple(wanted))
    if product(tuple(wanted)) != x.size:
        raise ShapeError(f"{node}: expected a shape of {x.size} elements like x {x.shape}, got {shown(wanted)}")
    return _reshaped(x, wanted)


def _flatten(node: Node, x: Array) -> Prepared:
    """x as a matrix: the axes before `axis` are its rows."""
    axis = node.get("axis", 1)
    if axis != x.ndim:  # which makes a column of all
        axis = axis_of(node, axis, x.ndim)
    return _reshaped(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Prepared:
    """x without some axes of length 1, all by default."""
    given = node.get("axes", None) if axes is None else numbers(node, "axes", axes)
    gone = axes_of(node, given, x.ndim) if given is not None else [i for i, n in enumerate(x.shape) if n == 1]
    if any(x.shape[i] != 1 for i in gone):
        raise ShapeError(f"{node}: expected axes of length 1, got {shown(tuple(gone))} of {x.shape}")
    return _reshaped(x, [n for i, n in enumerate(x.shape) if i not in gone])


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Prepared:
    """x with new axes of length 1, which stand where they say in the result."""
    given = node.get("axes", ()) if axes is None else numbers(node, "axes", axes)
    rank = x.ndim + len(given)
    new, old = set(axes_of(node, given, rank)), iter(x.shape)
    return _reshaped(x, [1 if i in new else next(old) for i in range(rank)])


def _transpose(node: Node, x: Array) -> Prepared:
    """x with its axes in another order, reversed by default."""
    order = node.get("perm", tuple(range(x.ndim))[::-1])
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"{node}: expected perm with the axes of x {x.shape}, got {shown(order)}")
    return one([x.shape[i] for i in order], x.dtype, lambda: x.transpose(order))


def _concat(node: Node, *arrays: Array) -> Prepared:
    """The arrays one behind the other."""
    axis = axis_of(node, node.get("axis", 0), arrays[0].ndim)
    rest = {(*array.shape[:axis], *array.shape[axis + 1 :], array.ndim) for array in arrays}
    if len(rest) > 1:
        raise ShapeError(
            f"{node}: expected shapes that differ in axis {axis} alone, got {shown([a.shape for a in arrays])}"
        )
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return one(shape, arrays[0].dtype, lambda: np.concatenate(arrays, axis=axis))


def _gather(node: Node, x: Array, places: Array) -> Prepared:
    """The parts of x at some places of an axis, which may count from the end."""
    axis = axis_of(node, node.get("axis", 0), x.ndim)

    def compute() -> Array:
        if places.size and not (-x.shape[axis] <= places.min() and places.max() < x.shape[axis]):
            raise ShapeError(f"{node}: expected places in an axis of {x.shape[axis]}, got others")
        return np.take(x, places, axis=axis)

    return one((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]), x.dtype, compute)


def _pad(
    node: Node, x: Array, pads: Array | None = None, fill: Array | None = None, axes: Array | None = None
) -> Prepared:
    """x with more at the ends of its axes: one number, or what is in x, repeated or mirrored."""
    widths = node.get("pads", ()) if pads is None else numbers(node, "pads", pads)
    where = range(x.ndim) if axes is None else axes_of(node, numbers(node, "axes", axes), x.ndim)
    mode = node.get("mode", "constant")
    if len(widths) != 2 * len(where):
        raise ConfigError(f"{node}: expected two pads for each of {len(where)} axes, got {shown(widths)}")
    if min(widths, default=0) < 0:
        raise UnsupportedModelError(f"{node}: expected pads >= 0, got {shown(widths)}; stridenet does not crop")
    if mode not in ("constant", "edge", "reflect"):
        raise UnsupportedModelError(f"{node}: expected mode constant, edge or reflect, got {shown(mode)}")
    both = {axis: (widths[i], widths[len(where) + i]) for i, axis in enumerate(where)}
    amounts = [both.get(axis, (0, 0)) for axis in range(x.ndim)]
    most = [{"constant": np.inf, "edge": np.inf if n else 0, "reflect": max(n - 1, 0)}[mode] for n in x.shape]
    if any(max(amount) > room for amount, room in zip(amounts, most, strict=True)):
        raise ShapeError(f"{node}: expected an x that can be repeated so far, got {x.shape} and pads {shown(widths)}")
    if fill is not None and fill.size != 1:
        raise ShapeError(f"{node}: expected one number to pad with, got shape {fill.shape}")

    def compute() -> Array:
        if mode != "constant":
            return np.pad(x, amounts, mode=mode)
        number = node.get("value", 0.0) if fill is None else fill.reshape(-1)[0]
        return np.pad(x, amounts, constant_values=x.dtype.type(number))

    return one([sum(a) + n for a, n in zip(amounts, x.shape, strict=True)], x.dtype, compute)


def _shape(node: Node, x: Array) -> Prepared:
    """The lengths of x."""
    lengths = np.array(x.shape[slice(node.get("start", 0), node.get("end", None))], np.int64)
    return like(lengths, lambda: lengths)


# Numbers out of nothing


def _constant(node: Node) -> Prepared:
    """A number, a row of numbers, or an array."""
    given = dict(node.attributes)
    if len(given) != 1 or not given.keys() <= {"value", "value_int", "value_ints", "value_float", "value_floats"}:
        raise UnsupportedModelError(f"{node}: expected one value of numbers, got {', '.join(given) or 'none'}")
    ((name, value),) = given.items()
    array = value if name == "value" else np.asarray(value, np.float32 if "float" in name else np.int64)
    return like(array, lambda: array)


def _constant_of_shape(node: Node, shape: Array) -> Prepared:
    """An array full of one number, 0 of float32 by default."""
    lengths, value = numbers(node, "a shape", shape), node.get("value", np.zeros(1, np.float32))
    if value.size != 1 or min(lengths, default=0) < 0:
        raise ConfigError(f"{node}: expected lengths >= 0 and one value, got {shown(lengths)} and {value.size} values")
    return one(lengths, value.dtype, lambda: np.full(lengths, value.reshape(-1)[0]))


def _identity(_: Node, x: Array) -> Prepared:
    """x itself."""
    return like(x, lambda: x)


OPERATORS: dict[str, Operator] = {
    **ELEMENTS,
    "Cast": _cast,
    "Dropout": _dropout,
    "Softmax": partial(_softmax, F.softmax),
    "LogSoftmax": partial(_softmax, F.log_softmax),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
    "Shape": _shape,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _identity,
    "Conv": windows.conv,
    "MaxPool": windows.max_pool,
    "AveragePool": windows.average_pool,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "BatchNormalization": windows.batch_normalization,
    "LRN": windows.lrn,
}

# The inputs whose numbers, not only their shape, say what the output is like.
DECISIVE: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "ReduceMean": (1,),
    "Pad": (1, 3),
    "ConstantOfShape": (0,),
}
