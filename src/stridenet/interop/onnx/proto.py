"""An ONNX file as plain tuples, dicts and arrays: the only file that lets the onnx package read.

The package parses, and knows which operator has which inputs and attributes in which opset. It is no guard: its
checker passes a stride of 0 and a padding of 2^40. So nothing is believed before the limits are checked, nothing but
the file itself is opened, and what stridenet does not have is refused by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

import numpy as np

from stridenet.errors import (
    ConfigError,
    DataError,
    DataLimitError,
    ModelFileError,
    UnsupportedModelError,
    printable,
    shown,
)
from stridenet.files import read_regular
from stridenet.interop.onnx.wire import check_wire
from stridenet.layout import Array
from stridenet.shapes import Shape, product
from stridenet.tensors import MAX_DIMENSIONS

if TYPE_CHECKING:
    import onnx

OPSETS = (6, 28)  # the first and the last
MAX_NAME = 1024  # characters


class Limits(NamedTuple):
    """The most that an ONNX file may ask for."""

    file: int = 2**31  # bytes
    nodes: int = 10_000
    initialisers: int = 10_000
    elements: int = 2**31  # of one array
    peak: int = 2**32  # bytes of all arrays that live at the same time


class Value(NamedTuple):
    """An input or an output of a graph. A length is a number, a name that stands for one, or None: unknown."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None


class Node(NamedTuple):
    """One operation: arrays by name in, arrays by name out; "" stands for one that is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    types: tuple[tuple[str, frozenset[str]], ...]  # of each input: a variable, and the types that it may stand for

    def get(self, attribute: str, default: Any) -> Any:
        """An attribute: a number, a text, an array, or a tuple of them."""
        return self.attributes.get(attribute, default)

    def __str__(self) -> str:
        return f"node {shown(self.name)} ({self.op})" if self.name else f"the {self.op} of {shown(self.outputs[0])}"


class Contents(NamedTuple):
    """All of a file that means something here."""

    nodes: tuple[Node, ...]
    initialisers: dict[str, Array]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    metadata: dict[str, str]


# ONNX's numbers of the types of arrays, and where a tensor keeps numbers that are not in raw_data.
_TYPES = {
    1: ("float32", "float_data"), 2: ("uint8", "int32_data"), 3: ("int8", "int32_data"), 4: ("uint16", "int32_data"),
    5: ("int16", "int32_data"), 6: ("int32", "int32_data"), 7: ("int64", "int64_data"), 9: ("bool", "int32_data"),
    11: ("float64", "double_data"), 12: ("uint32", "uint64_data"), 13: ("uint64", "uint64_data"),
}  # fmt: skip
_TYPE_NAMES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip

# What an attribute of this name may be, in whatever operator.
_LEAST = {"strides": 1, "dilations": 1, "kernel_shape": 1, "group": 1, "size": 1, "perm": 0}
_FLAGS = {
    "allowzero", "broadcast", "ceil_mode", "count_include_pad", "is_test", "keepdims", "noop_with_empty_axes",
    "spatial", "storage_order", "training_mode", "transA", "transB",
}  # fmt: skip
_MAY_BE_INFINITE = {"min", "max", "value", "value_float", "value_floats"}


LISTED = "docs/onnx-operators.md lists those that are known"


def read(path: str | os.PathLike[str], limits: Limits) -> Contents:
    """The contents of the ONNX file `path`.

    Raises:
        ModelFileError: it is not an ONNX file, damaged, or describes a graph that cannot be.
        UnsupportedModelError: an opset, an operator, a type or a form of graph that stridenet does not have.
        DataLimitError: more than a limit allows.
        ConfigError: the package onnx is missing.
        FileNotFoundError, PermissionError, IsADirectoryError: as their names say.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ConfigError(
            "onnx.load: expected the package onnx, got none; install it with pip install 'stridenet[onnx]'"
        ) from None
    who = printable(path)
    try:
        data = read_regular(Path(path), limit=limits.file)
    except DataError as problem:
        raise ModelFileError(str(problem)) from None
    if not data:
        _fail(who, "an ONNX file", "0 bytes")
    check_wire(data, onnx.ModelProto.DESCRIPTOR, who)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ModelFileError(f"{who}: expected an ONNX file, got what protobuf cannot parse") from None
    return _contents(model, limits, who)


def _contents(model: onnx.ModelProto, limits: Limits, who: str) -> Contents:
    opset = _opset(model, who)
    graph = model.graph
    for name, found in {
        "local functions": model.functions,
        "a training graph": model.training_info,
        "sparse initialisers": graph.sparse_initializer,
        "quantisation": graph.quantization_annotation,
    }.items():
        if len(found):
            _refuse(who, "a plain graph", name)
    for name, count, limit in (
        ("nodes", len(graph.node), limits.nodes),
        ("initialisers", len(graph.initializer), limits.initialisers),
    ):
        if count > limit:
            raise DataLimitError(f"{who}: expected at most {limit} {name}, got {count}", limit=limit, value=count)
    if not graph.node or not graph.output:
        _fail(who, "a graph of nodes with an output", "no output" if graph.node else "no node")
    initialisers: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in initialisers:
            _fail(who, "each initialiser once", f"{shown(tensor.name)} again")
        initialisers[_name(tensor.name, who)] = array_of(tensor, limits, f"{who}: initialiser {shown(tensor.name)}")
    return Contents(
        tuple(_node(node, opset, limits, who) for node in graph.node),
        initialisers,
        tuple(_value(value, who) for value in graph.input if value.name not in initialisers),
        tuple(_value(value, who) for value in graph.output),
        {entry.key: entry.value for entry in model.metadata_props},
    )


def _opset(model: onnx.ModelProto, who: str) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions and model.opset_import:
        _refuse(who, "an opset of ONNX itself", f"the domain {shown(model.opset_import[0].domain)}")
    if len(versions) != 1:
        _fail(who, "an ONNX file that names its opset", f"{len(versions) or 'no'} opsets")
    low, high = OPSETS
    if not low <= versions[0] <= high:
        raise UnsupportedModelError(f"{who}: opset {versions[0]}, supported {low}..{high}; export the model again")
    return versions[0]


def _name(name: str, who: str) -> str:
    if not 0 < len(name) <= MAX_NAME:
        _fail(who, f"names of 1 to {MAX_NAME} characters", shown(name))
    return name


def _value(value: onnx.ValueInfoProto, who: str) -> Value:
    """An input or output of the graph: a tensor of a known type."""
    name, kind = _name(value.name, who), value.type.WhichOneof("value")
    if kind != "tensor_type":
        _refuse(who, f"{shown(name)} as a tensor", str(kind).replace("_", " "))
    tensor = value.type.tensor_type
    dtype = dtype_of(tensor.elem_type, f"{who}: {shown(name)}")
    if not tensor.HasField("shape"):
        return Value(name, dtype, None)
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in tensor.shape.dim)
    if len(shape) > MAX_DIMENSIONS or any(isinstance(n, int) and n < 0 for n in shape):
        _fail(who, f"{shown(name)} with at most {MAX_DIMENSIONS} lengths, none below 0", shown(shape))
    if shape[:1] == (0,):  # some programs write an unknown batch so
        shape = (None, *shape[1:])
    return Value(name, dtype, shape)


def dtype_of(code: int, who: str) -> np.dtype[Any]:
    """The type of array that ONNX gives the number `code`.

    Raises:
        UnsupportedModelError: float16, text, 4-bit numbers and others that no operator here computes with.
    """
    if code not in _TYPES:
        import onnx

        names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        _refuse(who, "float32, float64, bool or integers of 8 to 64 bits", str(names.get(code, f"type {code}")))
    return np.dtype(_TYPES[code][0])


def array_of(tensor: onnx.TensorProto, limits: Limits, who: str) -> Array:
    """The array that `tensor` holds, its own memory.

    Raises:
        UnsupportedModelError: its numbers are in another file, or of a type without operators.
        ModelFileError: shape and numbers do not fit.
    """
    if tensor.data_location or len(tensor.external_data):
        _refuse(who, "the weights inside the file", "external data", "export with external_data=False")
    dtype, shape = dtype_of(tensor.data_type, who), tuple(tensor.dims)
    check_size(shape, limits, who)
    name = _TYPES[tensor.data_type][1]
    numbers: Sequence[Any] = getattr(tensor, name)
    named = {"raw_data", "string_data", *(place for _, place in _TYPES.values())}
    fields = named.intersection(field.name for field, _ in tensor.ListFields())
    size = product(shape)
    if tensor.HasField("segment") or not fields <= {"raw_data" if tensor.HasField("raw_data") else name}:
        _fail(who, f"numbers in raw_data or in {name}", ", ".join(sorted(fields)))
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size * dtype.itemsize:
            _fail(who, f"{size * dtype.itemsize} bytes by its shape {shape}", len(tensor.raw_data))
        array = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
    else:
        if len(numbers) != size:
            _fail(who, f"{size} numbers by its shape {shape}", len(numbers))
        array = np.array(numbers, np.uint64 if name == "uint64_data" else None)  # NumPy would take some for floats
    if dtype.kind == "b":
        array = array != 0
    return array.astype(dtype).reshape(shape)


def check_size(shape: Shape, limits: Limits, who: str) -> None:
    """Raise an error if an array of `shape` cannot be, or has more elements than allowed; a length of 0 counts as 1."""
    if len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
        _fail(who, f"a shape of at most {MAX_DIMENSIONS} lengths, none below 0", shown(shape))
    size = product(tuple(max(n, 1) for n in shape))
    if size > limits.elements:
        text = f"{who}: expected at most {limits.elements} elements, got {shown(size)}: the shape is {shown(shape)}"
        raise DataLimitError(text, limit=limits.elements, value=size)


# Nodes


class _Signature(NamedTuple):
    """What an operator has in some opset, by ONNX's own tables."""

    attributes: Mapping[str, tuple[int, bool]]  # their kind, and whether they are required
    inputs: tuple[tuple[str, frozenset[str], bool], ...]  # type variable, allowed types, whether it is required
    counts: tuple[int, int, int, int]  # least and most inputs, least and most outputs

    def input(self, i: int) -> tuple[str, frozenset[str], bool]:
        return self.inputs[min(i, len(self.inputs) - 1)]  # the last may stand for any number


@lru_cache(maxsize=1024)
def _signature(op: str, opset: int) -> _Signature | None:
    """The signature of the operator; None where the opset has none of that name."""
    from onnx import defs

    try:
        schema = defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    allowed = {c.type_param_str: frozenset(_known(c.allowed_type_strs)) for c in schema.type_constraints}
    optional = defs.OpSchema.FormalParameterOption.Optional
    return _Signature(
        {name: (int(cast(Any, a.type).value), a.required) for name, a in schema.attributes.items()},
        tuple(
            (p.type_str, allowed.get(p.type_str, frozenset(_known([p.type_str]))), p.option != optional)
            for p in schema.inputs
        ),
        (schema.min_input, schema.max_input, schema.min_output, schema.max_output),
    )


def _known(types: Iterable[str]) -> list[str]:
    return [_TYPE_NAMES[text] for text in types if text in _TYPE_NAMES]


def _node(node: onnx.NodeProto, opset: int, limits: Limits, who: str) -> Node:
    """A node whose operator exists in the opset, with inputs, outputs and attributes as it says."""
    title = f"{who}: node {shown(node.name)} ({shown(node.op_type)})"
    if node.domain not in ("", "ai.onnx") or node.overload:
        _refuse(title, "an operator of ONNX itself", f"the domain {shown(node.domain)}", LISTED)
    if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
        _refuse(title, "a plain graph", "a subgraph")
    signature = _signature(node.op_type, opset)
    if signature is None:
        _refuse(title, f"an operator of ONNX's opset {opset}", f"{shown(node.op_type)} of the domain 'ai.onnx'", LISTED)
    counts = len(node.input), len(node.output)
    least_in, most_in, least_out, most_out = signature.counts
    if not (least_in <= counts[0] <= most_in and least_out <= counts[1] <= most_out):
        wanted = f"{least_in} to {most_in} inputs and {least_out} to {most_out} outputs"
        _fail(title, wanted, f"{counts[0]} and {counts[1]}")
    if any(not name and signature.input(i)[2] for i, name in enumerate(node.input)) or not any(node.output):
        _fail(title, "a name for each input that is not optional, and for an output", "none")
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name in attributes or attribute.name not in signature.attributes:
            _fail(title, f"attributes {', '.join(signature.attributes) or 'none'}, each once", shown(attribute.name))
        who_else = f"{title}: attribute {attribute.name}"
        attributes[attribute.name] = _attribute(attribute, signature.attributes[attribute.name][0], limits, who_else)
    if node.op_type != "Pad" and any(pad < 0 for pad in attributes.get("pads", ())):  # those of Pad may crop
        _fail(f"{title}: attribute pads", "numbers >= 0", shown(min(attributes["pads"])))
    if missing := [name for name, (_, required) in signature.attributes.items() if required and name not in attributes]:
        _fail(title, f"the attribute {missing[0]}", "none")
    return Node(
        node.op_type,
        node.name,
        tuple(name and _name(name, title) for name in node.input),
        tuple(name and _name(name, title) for name in node.output),
        attributes,
        opset,
        tuple(signature.input(i)[:2] for i in range(len(node.input))),
    )


def _attribute(attribute: onnx.AttributeProto, kind: int, limits: Limits, who: str) -> Any:
    """The value of an attribute whose operator wants it of ONNX's `kind`."""
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type != kind or attribute.ref_attr_name:
        names = {number: name for name, number in kinds.AttributeType.items()}
        _fail(who, f"one of kind {names.get(kind, kind)}", str(names.get(attribute.type, attribute.type)))
    match kind:
        case kinds.TENSOR:
            return array_of(attribute.t, limits, who)
        case kinds.STRING:
            return _text(attribute.s, who)
        case kinds.STRINGS:
            return tuple(_text(text, who) for text in attribute.strings)
        case kinds.INT | kinds.FLOAT:
            value = attribute.i if kind == kinds.INT else attribute.f
            _check_numbers(attribute.name, (value,), who)
            return value
        case kinds.INTS | kinds.FLOATS:
            values = tuple(attribute.ints if kind == kinds.INTS else attribute.floats)
            _check_numbers(attribute.name, values, who)
            return values
        case _:
            return _refuse(who, "numbers, a text or a tensor", "a sparse tensor, a graph or a type")


def _text(value: bytes, who: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _fail(who, "a text in UTF-8", "other bytes")


def _check_numbers(name: str, values: Sequence[int | float], who: str) -> None:
    least = _LEAST.get(name)
    if any(math.isnan(v) or (math.isinf(v) and name not in _MAY_BE_INFINITE) for v in values):
        _fail(who, "a finite number", "NaN or infinity")
    if least is not None and any(v < least for v in values):
        _fail(who, f"numbers >= {least}", shown(min(values)))
    if name in _FLAGS and not set(values) <= {0, 1}:
        _fail(who, "0 or 1", shown(values[0]))
    if name == "epsilon" and not values[0] > 0:
        _fail(who, "a number > 0", shown(values[0]))


def _fail(who: str, expected: str, got: object) -> NoReturn:
    raise ModelFileError(f"{who}: expected {expected}, got {got}")


def _refuse(who: str, expected: str, got: str, hint: str = "stridenet has no other") -> NoReturn:
    raise UnsupportedModelError(f"{who}: expected {expected}, got {got}; {hint}")
