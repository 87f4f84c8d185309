"""`load`, and what it gives: a graph that runs, and that is a layer for inference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from stridenet import kernels
from stridenet.errors import (
    ConfigError,
    DataLimitError,
    ModelFileError,
    ShapeError,
    UnsupportedModelError,
    printable,
    shown,
)
from stridenet.interop.onnx.forms import Prepared
from stridenet.interop.onnx.operators import DECISIVE, OPERATORS
from stridenet.interop.onnx.proto import LISTED, Contents, Limits, Node, Value, check_size, read
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.parameters import Parameter
from stridenet.shapes import Shape, product

SMALL = 4096  # elements: what is constant and no larger is computed when shapes are worked out

DEFAULT = Limits()


def load(path: str | os.PathLike[str], *, limits: Limits = DEFAULT) -> Graph:
    """The graph of the ONNX file `path`, opset 6 to 28.

    Args:
        path: of the file; no other file is opened.
        limits: the most that it may ask for.

    Raises:
        ModelFileError: the file is not ONNX, damaged, or describes a graph that cannot be.
        UnsupportedModelError: an opset, operator, type or form of graph that stridenet does not have.
        DataLimitError: the graph asks for more than a limit allows.
        ConfigError: the package onnx is missing.
        FileNotFoundError, PermissionError, IsADirectoryError: as their names say.
    """
    return Graph(read(path, limits), limits=limits, name=printable(path))


class Graph(Layer):
    """The operations of an ONNX file, one after another, each array freed after its last use.

    Args:
        contents: what `proto.read` gives.
        limits: the most that it may ask for, now and in a run.
        name: what messages call it.

    Attributes:
        inputs: what `run` takes, in order: name, dtype and shape of each.
        outputs: what it gives.
        metadata: the texts that the file carries, by their keys.

    Raises:
        ModelFileError, UnsupportedModelError, DataLimitError: as of `load`.
    """

    def __init__(self, contents: Contents, *, limits: Limits = DEFAULT, name: str = "Graph") -> None:
        self.inputs, self.outputs, self.metadata = contents.inputs, contents.outputs, contents.metadata
        self.name, self.limits = name, limits
        self._nodes = contents.nodes
        self._constants = contents.initialisers
        self._parameters = {
            key: Parameter(value, trainable=False) for key, value in self._constants.items() if value.dtype.kind == "f"
        }
        self._check_names()
        self._nodes = _pruned(self._nodes, {value.name for value in self.outputs})
        last = {name: i for i, node in enumerate(self._nodes) for name in _names(node)}
        kept = {value.name for value in self.outputs}
        self._done = [  # what nobody reads after each node
            tuple({name for name in _names(node) if last[name] == i and name not in kept})
            for i, node in enumerate(self._nodes)
        ]
        try:
            found = self._infer({value.name: shape for value in self.inputs if (shape := _assumed(value)) is not None})
        except ShapeError as error:
            raise ModelFileError(str(error)) from None
        for value in self.outputs:
            if value.name in found and found[value.name].dtype != value.dtype:
                self._fail(f"{shown(value.name)} as {value.dtype}, as declared", str(found[value.name].dtype))

    def _check_names(self) -> None:
        """Every name is made once, before it is used, by an operator that stridenet has."""
        made = {*self._constants, ""}
        for value in self.inputs:
            if value.name in made:
                self._fail("each input once", f"{shown(value.name)} again")
            made.add(value.name)
        for node in self._nodes:
            if node.op not in OPERATORS:
                raise UnsupportedModelError(
                    f"{self.name}: {node}: expected an operator of stridenet, got {node.op} of the domain 'ai.onnx';"
                    f" {LISTED}"
                )
            for name in node.inputs:
                if name not in made:
                    self._fail(f"{node} to read what is there before it", f"{shown(name)}: undefined, or a cycle")
            for name in filter(None, node.outputs):
                if name in made:
                    self._fail("each array made once", f"{shown(name)} again, by {node}")
                made.add(name)
        names = [value.name for value in self.outputs]
        if len(set(names)) < len(names) or not made.issuperset(names):
            self._fail("outputs that are made, each once", shown(names))

    def _fail(self, expected: str, got: str) -> NoReturn:
        raise ModelFileError(f"{self.name}: expected {expected}, got {got}")

    # Running

    def run(self, /, *arrays: npt.ArrayLike, **named: npt.ArrayLike) -> list[Array]:
        """All outputs, in order; they share no memory with the inputs.

        Args:
            arrays: the inputs in order.
            named: or by their names.

        Raises:
            ConfigError: not each input once, or of another type.
            ShapeError: an input does not fit.
            ModelFileError, UnsupportedModelError, DataLimitError: what shows only now.
        """
        values = dict(self._constants)
        values |= {name: parameter.value for name, parameter in self._parameters.items()}
        values |= self._given(arrays, named)
        live = sum(value.nbytes for value in values.values())
        with np.errstate(all="ignore"), kernels.use(kernels.without_compiler()):
            for node, done in zip(self._nodes, self._done, strict=True):
                prepared = self._prepare(node, values, live)
                for key, result in zip(node.outputs, self._compute(node, prepared), strict=True):
                    if key:
                        values[key] = result
                        live += result.nbytes
                for key in done:
                    live -= values.pop(key).nbytes
        return [np.array(values[value.name]) for value in self.outputs]

    def _given(self, arrays: tuple[npt.ArrayLike, ...], named: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """The inputs by name, each as the graph declares it."""
        names = [value.name for value in self.inputs]
        given = {**dict(zip(names, arrays, strict=False)), **named}
        if len(arrays) + len(named) != len(names) or given.keys() != set(names):
            got = f"{len(arrays)} in order and by name {shown(list(named))}"
            raise ConfigError(f"{self.name}: expected the inputs {shown(names)}, each once, got {got}")
        found: dict[str, Array] = {}
        for value in self.inputs:
            array = np.asarray(given[value.name])
            if array.dtype != value.dtype:
                raise ConfigError(f"{self.name}: expected {shown(value.name)} as {value.dtype}, got {array.dtype}")
            self._check_shape(value, array.shape)
            check_size(array.shape, self.limits, f"{self.name}: {shown(value.name)}")
            found[value.name] = array
        return found

    def _check_shape(self, value: Value, shape: Shape) -> None:
        if value.shape is None:
            return
        if len(shape) != len(value.shape) or any(
            isinstance(n, int) and n != m for n, m in zip(value.shape, shape, strict=True)
        ):
            raise ShapeError(f"{self.name}: expected {shown(value.name)} of shape {shown(value.shape)}, got {shape}")

    def _prepare(self, node: Node, values: Mapping[str, Array], live: int) -> Prepared:
        """The node with its inputs, within the limits; `live` bytes are in use already."""
        inputs = [values[name] if name else None for name in node.inputs]
        bound: dict[str, np.dtype[Any]] = {}
        for array, (variable, allowed) in zip(inputs, node.types, strict=True):
            if array is not None and (
                array.dtype.name not in allowed or bound.setdefault(variable, array.dtype) != array.dtype
            ):
                wanted = bound.get(variable, ", ".join(sorted(allowed)) or "another type")
                self._fail(f"{node} with an input of {wanted}", str(array.dtype))
        try:
            prepared = OPERATORS[node.op](node, *inputs)
        except (ShapeError, UnsupportedModelError) as error:
            raise type(error)(f"{self.name}: {error}") from None
        except ConfigError as error:
            raise ModelFileError(f"{self.name}: {error}") from None
        for form in prepared.forms:
            check_size(form.shape, self.limits, f"{self.name}: {node}")
        peak = live + prepared.scratch + sum(form.nbytes for form in prepared.forms)
        if peak > self.limits.peak:
            text = (
                f"{self.name}: {node}: expected arrays of at most {self.limits.peak} bytes at once, got {shown(peak)}"
            )
            raise DataLimitError(f"{text}; give fewer images", limit=self.limits.peak, value=peak)
        return prepared

    def _compute(self, node: Node, prepared: Prepared) -> tuple[Array, ...]:
        try:
            return prepared.compute()
        except (ShapeError, UnsupportedModelError) as error:
            raise type(error)(f"{self.name}: {node}: {str(error).partition(': ')[2]}") from None
        except ConfigError as error:
            raise ModelFileError(f"{self.name}: {node}: {str(error).partition(': ')[2]}") from None

    def _infer(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Stand-ins of the outputs for inputs of these shapes: right in shape and type, without memory.

        What depends on another input, or whose shape depends on numbers that only a run knows, is left out.
        """
        values = dict(self._constants)
        known = {*values, ""}
        for value in self.inputs:
            if value.name in shapes:
                check_size(shapes[value.name], self.limits, f"{self.name}: {shown(value.name)}")
                values[value.name] = _stand_in(shapes[value.name], value.dtype)
        live = sum(value.nbytes for value in values.values())
        for node, done in zip(self._nodes, self._done, strict=True):
            decisive = [node.inputs[i] for i in DECISIVE.get(node.op, ()) if i < len(node.inputs)]
            if known.issuperset(decisive) and all(name in values for name in node.inputs if name):
                prepared = self._prepare(node, values, live)
                results = [_stand_in(form.shape, form.dtype) for form in prepared.forms]
                if (node.op == "Shape" or known.issuperset(node.inputs)) and self._is_small(node, prepared, values):
                    with np.errstate(all="ignore"), kernels.use(kernels.without_compiler()):
                        results = self._compute(node, prepared)
                    known.update(node.outputs)
                values |= {name: result for name, result in zip(node.outputs, results, strict=True) if name}
                live += sum(result.nbytes for name, result in zip(node.outputs, results, strict=True) if name)
            for name in done:
                live -= values.pop(name).nbytes if name in values else 0
        return {value.name: values[value.name] for value in self.outputs if value.name in values}

    def _is_small(self, node: Node, prepared: Prepared, values: Mapping[str, Array]) -> bool:
        """Whether what is constant is computed when shapes are worked out."""
        read = 0 if node.op == "Shape" else sum(values[name].size for name in node.inputs if name)
        made = sum(product(form.shape) for form in prepared.forms)
        return read + made <= SMALL and prepared.scratch <= 8 * SMALL

    # As a layer

    def forward(self, x: Array) -> Array:
        """The output of a graph of one input and one output.

        A graph that was made for a fixed number of images takes a multiple of it piece by piece.

        Raises:
            UnsupportedModelError: the graph has several inputs or outputs; see `run`.
        """
        batch = self._batch()
        if batch and len(x) > batch and not len(x) % batch:
            return np.concatenate([self.run(x[i : i + batch])[0] for i in range(0, len(x), batch)])
        return self.run(x)[0]

    def backward(self, dy: Array, *, need_dx: bool = True) -> NoReturn:
        """There is none.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(f"{self!r}: expected inference alone, got backward; a graph of ONNX is not trained")

    def output_shape(self, input_shape: Shape) -> Shape:
        """As the operations say, without running them; UnsupportedModelError where only a run can tell."""
        shape = (self._batch() or 1, *input_shape)
        self._check_shape(self.inputs[0], shape)
        found = self._infer({self.inputs[0].name: shape})
        if self.outputs[0].name not in found:
            raise UnsupportedModelError(f"{self!r}: expected an output whose shape is known before a run, got another")
        return found[self.outputs[0].name].shape[1:]

    def _batch(self) -> int:
        """For how many images the graph was made; 0 if for any number."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            counts = f"{len(self.inputs)} inputs and {len(self.outputs)} outputs"
            raise UnsupportedModelError(f"{self!r}: expected one input and one output, got {counts}; use run")
        first = self.inputs[0].shape[0] if self.inputs[0].shape else None
        return first if isinstance(first, int) else 0

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The initialisers that are float, by their names in the file; none is trainable."""
        yield from self._parameters.items()

    def spec(self) -> NoReturn:
        """There is none: the graph stays in its ONNX file.

        Raises:
            UnsupportedModelError: always.
        """
        raise UnsupportedModelError(f"{self!r}: expected layers of stridenet, got a graph of ONNX; keep its file")

    def __repr__(self) -> str:
        return f"Graph({len(self._nodes)} nodes, {len(self._constants)} initialisers)"


def _pruned(nodes: Sequence[Node], kept: set[str]) -> tuple[Node, ...]:
    """The nodes without the outputs that nobody reads, such as the mask of a dropout; each keeps its first."""
    read = kept.union(*(node.inputs for node in nodes))
    pruned: list[Node] = []
    for node in nodes:
        outputs = [name if i == 0 or name in read else "" for i, name in enumerate(node.outputs)]
        while not outputs[-1] and len(outputs) > 1:
            outputs.pop()
        pruned.append(node._replace(outputs=tuple(outputs)))
    return tuple(pruned)


def _names(node: Node) -> list[str]:
    """The arrays that a node reads and makes."""
    return [name for name in (*node.inputs, *node.outputs) if name]


def _assumed(value: Value) -> Shape | None:
    """The shape to check a graph with when it is loaded, one image where any number may come; None if not known."""
    if value.shape is None:
        return None
    first: tuple[int | str | None, ...] = tuple(1 if not isinstance(n, int) else n for n in value.shape[:1])
    shape = first + value.shape[1:]
    return tuple(n for n in shape if isinstance(n, int)) if all(isinstance(n, int) for n in shape) else None


def _stand_in(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An array of zeros that takes the memory of one."""
    return np.broadcast_to(np.zeros((), dtype), shape)
