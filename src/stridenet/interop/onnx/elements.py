"""The operators that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import numpy.typing as npt

from stridenet.errors import ShapeError, shown
from stridenet.interop.onnx.forms import Operator, Prepared, broadcast, like, one
from stridenet.interop.onnx.proto import Node
from stridenet.layout import Array
from stridenet.nn import functional as F

_MOST = float(np.finfo(np.float32).max)


def _plain(function: Callable[[Array], npt.ArrayLike], _: Node, x: Array) -> Prepared:
    """function(x)."""
    return like(x, lambda: function(x))


def _leaky_relu(node: Node, x: Array) -> Prepared:
    """x where x >= 0, else alpha x."""
    return like(x, lambda: np.where(x < 0, x * x.dtype.type(node.get("alpha", 0.01)), x))


def _elu(node: Node, x: Array) -> Prepared:
    """x where x >= 0, else alpha (exp x - 1)."""
    return like(x, lambda: np.where(x < 0, x.dtype.type(node.get("alpha", 1.0)) * np.expm1(np.minimum(x, 0)), x))


def _hard_sigmoid(node: Node, x: Array) -> Prepared:
    """alpha x + beta, between 0 and 1."""
    slope, shift = (x.dtype.type(node.get(name, default)) for name, default in (("alpha", 0.2), ("beta", 0.5)))
    return like(x, lambda: np.clip(x * slope + shift, 0, 1))


def _hard_swish(x: Array) -> Array:
    return x * np.clip(x * x.dtype.type(1 / 6) + x.dtype.type(0.5), 0, 1)


def _sigmoid(x: Array) -> Array:
    return F.sigmoid(np.atleast_1d(x))[0].reshape(x.shape)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def _binary(function: Callable[[Array, Array], Array], node: Node, a: Array, b: Array) -> Prepared:
    """function(a, b) with both brought to one shape."""
    if node.opset < 7:
        b = _aligned(node, a, b)
    return one(broadcast(node, a.shape, b.shape), a.dtype, lambda: function(a, b))


def _aligned(node: Node, a: Array, b: Array) -> Array:
    """b as opset 6 lays it over a: not at all, or from `axis` on, by default at the end."""
    if a.shape == b.shape:
        return b
    after = a.ndim - b.ndim - node.get("axis", a.ndim - b.ndim)  # axes of a behind those of b
    over = b.reshape((*b.shape, *[1] * after)) if 0 <= after <= a.ndim - b.ndim else a[..., None]
    if not node.get("broadcast", 0) or broadcast(node, a.shape, over.shape) != a.shape:
        raise ShapeError(f"{node}: expected shapes that fit by the rules of opset 6, got {a.shape} and {b.shape}")
    return over


def _divide(a: Array, b: Array) -> Array:
    """a / b; of integers without what is behind the point, as in C."""
    if a.dtype.kind == "f":
        return a / b
    quotient = a // b
    return quotient + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def _several(function: Callable[[Array, Array], Array], node: Node, *arrays: Array) -> Prepared:
    """function(...function(a, b), c...), brought to one shape; before opset 8 they have one already."""
    shape = broadcast(node, *(array.shape for array in arrays))
    if node.opset < 8 and any(array.shape != shape for array in arrays):
        raise ShapeError(f"{node}: expected one shape, got {shown([array.shape for array in arrays])}")
    return one(shape, arrays[0].dtype, lambda: reduce(function, arrays))


def _prelu(node: Node, x: Array, slope: Array) -> Prepared:
    """x where x >= 0, else slope x; before opset 7 there is a slope for each channel, or one."""
    if node.opset < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size in (1, x.shape[1]):
        slope = slope.reshape((-1, *[1] * (x.ndim - 2)))
    if broadcast(node, x.shape, slope.shape) != x.shape:
        raise ShapeError(f"{node}: expected a slope that fits x {x.shape}, got {slope.shape}")
    return like(x, lambda: np.where(x < 0, x * slope, x))


def _clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Prepared:
    """x between two numbers; where the lower is greater, the upper."""
    if node.opset < 11:
        low, high = (np.asarray(node.get(n, d), x.dtype) for n, d in (("min", -_MOST), ("max", _MOST)))
    for bound in (low, high):
        if bound is not None and bound.shape not in ((), (1,)):
            raise ShapeError(f"{node}: expected bounds that are one number, got shape {bound.shape}")

    def compute() -> Array:
        y = x if low is None else np.maximum(x, low.reshape(()))
        return y if high is None else np.minimum(y, high.reshape(()))

    return like(x, compute)


_PLAIN: dict[str, Callable[[Array], npt.ArrayLike]] = {
    "Relu": _relu, "Tanh": np.tanh, "Sigmoid": _sigmoid, "HardSwish": _hard_swish, "Softplus": _softplus,
    "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Neg": np.negative, "Abs": np.abs,
}  # fmt: skip
_OF_TWO = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide}
_OF_SEVERAL = {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}

ELEMENTS: dict[str, Operator] = {
    **{name: partial(_plain, function) for name, function in _PLAIN.items()},
    **{name: partial(_binary, function) for name, function in _OF_TWO.items()},
    **{name: partial(_several, function) for name, function in _OF_SEVERAL.items()},
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "PRelu": _prelu,
    "Clip": _clip,
}
