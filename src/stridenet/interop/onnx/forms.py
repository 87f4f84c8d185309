"""What an operator answers: the forms of its outputs, known before anything is computed, and the computing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.interop.onnx.proto import Node
from stridenet.layout import Array
from stridenet.shapes import Shape, product


class Form(NamedTuple):
    """Shape and type of an array."""

    shape: Shape
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """As a Python int, which cannot overflow."""
        return product(self.shape) * self.dtype.itemsize


class Prepared(NamedTuple):
    """A node that has seen its inputs: nothing of the size of an array has been allocated yet."""

    forms: tuple[Form, ...]
    compute: Callable[[], tuple[Array, ...]]  # arrays of these forms
    scratch: int = 0  # bytes that it needs beside


Operator = Callable[..., Prepared]  # of a Node and its inputs, None for one that is left out


def one(
    shape: Sequence[int], dtype: npt.DTypeLike, compute: Callable[[], npt.ArrayLike], *, scratch: int = 0
) -> Prepared:
    """A node with one output."""
    return Prepared((Form(tuple(shape), np.dtype(dtype)),), lambda: (np.asarray(compute()),), scratch)


def like(x: Array, compute: Callable[[], npt.ArrayLike]) -> Prepared:
    """A node with one output, of the form of `x`."""
    return one(x.shape, x.dtype, compute)


def numbers(node: Node, name: str, values: Array) -> tuple[int, ...]:
    """An array of integers that says something about shapes, such as the axes of a Squeeze."""
    if values.ndim > 1 or values.dtype.kind not in "iu":
        raise ConfigError(f"{node}: expected {name} as a row of integers, got {values.dtype} of shape {values.shape}")
    return tuple(int(n) for n in values.reshape(-1))


def axis_of(node: Node, axis: int, rank: int) -> int:
    """`axis`, which may count from the end, as one of 0 to rank - 1."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{node}: expected an axis of {-rank} to {rank - 1}, got {shown(axis)}")
    return axis % rank


def axes_of(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Several axes, each once, as `axis_of`."""
    found = tuple(axis_of(node, axis, rank) for axis in axes)
    if len(set(found)) < len(found):
        raise ShapeError(f"{node}: expected each axis once, got {shown(tuple(axes))}")
    return found


def broadcast(node: Node, *shapes: Shape) -> Shape:
    """The shape that arrays of these have together, by NumPy's rule, which is ONNX's."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{node}: expected shapes that fit together, got {shown(shapes)}") from None
