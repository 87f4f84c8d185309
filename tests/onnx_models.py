"""Small ONNX models: a short way to write them, those that are valid, and those that cannot be."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fuzz.mutations import NUMBERS, mutate_bytes
from stridenet.layout import Array

node = helper.make_node
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, shape: Sequence[int | str | None] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None] | None] | None = None,
    outputs: Mapping[str, Sequence[int | str | None] | None] | None = None,
    *,
    opset: int = 17,
    **arrays: Array,
) -> ModelProto:
    """A model with the initialisers `arrays`; x (1, 1, 5, 5) in and y out where nothing else is said."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [value(*entry) for entry in ({"x": (1, 1, 5, 5)} if inputs is None else inputs).items()],
        [value(*entry) for entry in ({"y": None} if outputs is None else outputs).items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(made: ModelProto | bytes, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(batch: int | str = "N", *, opset: int = 17) -> ModelProto:
    """A small network of (N, 1, 8, 8) to 3 scores; its flattening reads the batch from the shape of its input."""
    made = model(
        [
            node("Conv", ["images", "w1", "b1"], ["c"], pads=[1, 0, 1, 2], strides=[1, 2], name="first"),
            node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], epsilon=1e-3),
            node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Shape", ["p"], ["s"]),
            node("Gather", ["s", "zero"], ["length"], axis=0),
            node("Unsqueeze", ["length", "axes"], ["row"]),
            node("Concat", ["row", "rest"], ["shape"], axis=0),
            node("Reshape", ["p", "shape"], ["f"]),
            node("Gemm", ["f", "w2", "b2"], ["scores"], transB=1),
        ],
        {"images": (batch, 1, 8, 8)},
        {"scores": (batch, 3)},
        opset=opset,
        w1=draw(4, 1, 3, 3), b1=draw(4), scale=draw(4), shift=draw(4), mean=draw(4), variance=np.abs(draw(4)),
        zero=np.array(0), axes=np.array([0]), rest=np.array([-1]), w2=draw(3, 32), b2=draw(3),
    )  # fmt: skip
    helper.set_model_props(made, {"classes": "a,b,c"})
    return made


def mixture(opset: int) -> ModelProto:
    """One model with most operators of other kinds than those of `network`."""
    pads: dict[str, Any] = {"pads": [0, 0, 1, 1, 0, 0, 0, 1], "value": 0.5} if opset < 11 else {}
    axes: dict[str, Any] = {"axes": [2, 3]} if opset < 13 else {}
    more = {} if opset < 11 else {"p": np.array([0, 0, 1, 1, 0, 0, 0, 1]), "half": np.float32(0.5)}
    more |= {} if opset < 13 else {"last": np.array([2, 3])}
    return model(
        [
            node("Pad", ["x", *(("p", "half") if more else ())], ["a"], **pads),
            node("Conv", ["a", "w"], ["b"], auto_pad="SAME_LOWER", group=2, dilations=[1, 2]),
            node("LeakyRelu", ["b"], ["c"], alpha=0.1),
            node("AveragePool", ["c"], ["d"], kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
            node("Elu", ["c"], ["e"]),
            node("GlobalAveragePool", ["e"], ["f"]),
            node("Mul", ["d", "f"], ["g"]),
            node("Concat", ["g", "d"], ["h"], axis=1),
            node("Transpose", ["h"], ["i"], perm=[0, 1, 3, 2]),
            node("GlobalMaxPool", ["i"], ["j"]),
            node("Squeeze", ["j", *(("last",) if opset >= 13 else ())], ["k"], **axes),
            node("ConstantOfShape", ["s"], ["l"], value=numpy_helper.from_array(np.array([2], np.float32))),
            node("Sum", ["k", "l"], ["m"]),
            node("Dropout", ["m"], ["n", "mask"]),
            node("LogSoftmax", ["n"], ["o"], axis=1),
            node("Clip", ["o"], ["y"]),
        ],
        {"x": (2, 2, 6, 5)},
        {"y": (2, 8)},
        opset=opset,
        w=draw(4, 1, 3, 3), s=np.array([8]), **more,
    )  # fmt: skip


# Changes for the fuzzer


def mutated(rng: Any, data: bytes) -> bytes:
    """One to three fields of the message changed: entries gone, doubled, moved, numbers and texts that are odd."""
    made = ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        message, field, values = rng.choice(list(places(made)))
        at = rng.randrange(len(values))
        match rng.randrange(4):
            case 0:
                del values[at]
            case 1:
                values.append(values[rng.randrange(len(values))])
            case 2:
                rng.shuffle(values)
            case _ if field.message_type is None:
                values[at] = odd(rng, values[at])
            case _:
                values[at] = values[rng.randrange(len(values))]
        with contextlib.suppress(ValueError, TypeError):  # a number that its field does not hold
            set_field(message, field, values)
    return made.SerializeToString()


def places(message: Any) -> Iterator[tuple[Any, Any, list[Any]]]:
    """Every (message, field, its values) inside."""
    for field, found in message.ListFields():
        values = list(found) if is_list(found) else [found]
        yield message, field, copy.deepcopy(values)
        if field.message_type is not None:
            for value in found if is_list(found) else [found]:
                yield from places(value)


def is_list(found: Any) -> bool:
    return not isinstance(found, bytes | str) and hasattr(found, "append")


def odd(rng: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return mutate_bytes(rng, value)
    if isinstance(value, str):
        return rng.choice(("", "x", "y", "a", "w1", "Relu", "Loop", "com.evil", "\x1b[2J", "n" * 2000, value + "x"))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e38, math.nan, math.inf, value * 2))
    return rng.choice((value + 1, value - 1, -value, rng.choice(NUMBERS), rng.randrange(20)))


def set_field(message: Any, field: Any, values: list[Any]) -> None:
    repeated = is_list(getattr(message, field.name))
    message.ClearField(field.name)
    if repeated:
        getattr(message, field.name).extend(values)
    elif values and field.message_type is not None:
        getattr(message, field.name).CopyFrom(values[0])
    elif values:
        setattr(message, field.name, values[0])


def is_sound(data: bytes) -> bool:
    """Whether protobuf parses the bytes to a model with a graph."""
    try:
        return bool(ModelProto.FromString(data).graph.node)
    except Exception:  # its own class  # noqa: BLE001
        return False
