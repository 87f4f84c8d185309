"""ONNX files that cannot be: each gets its class of error, in one line, before anything is allocated or opened."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_models import FLOAT, INT64, draw, model, network, node, saved, value
from stridenet.errors import DataLimitError, ModelFileError, UnsupportedModelError
from stridenet.interop.onnx import load
from stridenet.interop.onnx.proto import MAX_NAME, Limits

W = draw(2, 1, 3, 3)
MIB = 2**20


def refused(made: onnx.ModelProto | bytes, folder: Path, error: type[Exception] = ModelFileError) -> str:
    """The message with which the file is refused: one printable line, without memory, of exactly that class."""
    path = saved(made, folder)
    load(saved(model([node("Relu", ["x"], ["y"])]), folder, "warm-up.onnx"))
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(path.read_bytes()) + 16 * MIB
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def conv(**attributes: Any) -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], ["y"], **attributes)], w=W)


# Bytes


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            length, size = len(data), b""
            while length > 127:
                size, length = size + bytes([length & 127 | 128]), length >> 7
            data = bytes([tag]) + size + bytes([length]) + data
    return data


GOOD = network().SerializeToString()
BYTES = {
    "empty": b"",
    "noise": np.random.default_rng(0).bytes(1000),
    "cut": GOOD[:-7],
    "cut in a tensor": GOOD[: len(GOOD) // 2],
    "text": onnx.printer.to_text(network()).encode(),
    "json": json.dumps({"irVersion": 8, "graph": {"node": []}}).encode(),
    "depth": nested(1000),
    "unknown field": GOOD + b"\xf8\x3f\x01",
    "a number as a message": GOOD + b"\x38\x01",
    "a group": GOOD + b"\x3b\x3c",
    "no end of a number": GOOD + b"\xff" * 20,
    "a name that is no text": GOOD.replace(b"images", b"im\xff\xfees"),
    "no graph": onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]).SerializeToString(),
}


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.promise("O01")
def test_bytes_that_are_no_model(name: str, tmp_path: Path) -> None:
    refused(BYTES[name], tmp_path)


@pytest.mark.parametrize(
    ("data", "got"),
    [(b"", "0 bytes"), (b"hello", "another format: "), (b"\x89PNG\r\n", "another format: "), (b'{"a": 1}', "another ")],
)
def test_a_foreign_file_is_no_onnx_file(data: bytes, got: str, tmp_path: Path) -> None:
    assert f".onnx: expected an ONNX file, got {got}" in refused(data, tmp_path)


@pytest.mark.promise("O01")
def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # sparse
    with pytest.raises(ModelFileError, match="at most 2147483648 bytes"):
        load(path)
    with pytest.raises(ModelFileError, match="at most 100 bytes"):
        load(saved(GOOD, tmp_path), limits=Limits(file=100))


@pytest.mark.promise("O01", "O05")
def test_a_million_empty_messages_are_not_made_into_objects(tmp_path: Path) -> None:
    """Two bytes each: as objects they would take a hundred times the memory of the file."""
    with pytest.raises(DataLimitError, match="fields"):
        load(saved(b"\x3a\x80\x80\x80\x01" + b"\x0a\x00" * 2**20, tmp_path))


# Tensors


def with_tensor(**fields: Any) -> onnx.ModelProto:
    made = model([node("Add", ["x", "t"], ["y"])], {"x": (1,)})
    made.graph.initializer.append(TensorProto(**{"name": "t", "data_type": FLOAT, **fields}))
    return made


TENSORS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "36 bytes of 2^40": ({"dims": [2**40, 3, 3], "raw_data": bytes(36)}, DataLimitError),
    "36 bytes of 2^20": ({"dims": [2**20, 3, 3], "raw_data": bytes(36)}, ModelFileError),
    "2^32 x 2^32": ({"dims": [2**32, 2**32], "raw_data": bytes(4)}, DataLimitError),
    "negative": ({"dims": [-1], "raw_data": bytes(4)}, ModelFileError),
    "two negative": ({"dims": [-1, -1], "raw_data": bytes(4)}, ModelFileError),
    "short": ({"dims": [2], "raw_data": bytes(7)}, ModelFileError),
    "long": ({"dims": [1], "raw_data": bytes(8)}, ModelFileError),
    "few numbers": ({"dims": [3], "float_data": [1.0, 2.0]}, ModelFileError),
    "numbers of another type": ({"dims": [1], "int64_data": [1]}, ModelFileError),
    "numbers twice": ({"dims": [1], "raw_data": bytes(4), "float_data": [1.0]}, ModelFileError),
    "no type": ({"dims": [1], "data_type": 0, "raw_data": bytes(4)}, UnsupportedModelError),
    "nine axes": ({"dims": [1] * 9, "raw_data": bytes(4)}, ModelFileError),
    "segment": ({"dims": [1], "raw_data": bytes(4), "segment": TensorProto.Segment(begin=0, end=1)}, ModelFileError),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.promise("O02")
def test_tensors_whose_shape_and_bytes_do_not_fit(name: str, tmp_path: Path) -> None:
    fields, error = TENSORS[name]
    refused(with_tensor(**fields), tmp_path, error)


# Attributes and sizes


def pool(op: str = "MaxPool", **attributes: Any) -> onnx.ModelProto:
    return model([node(op, ["x"], ["y"], **{"kernel_shape": [2, 2], **attributes})])


def norm(**attributes: Any) -> onnx.ModelProto:
    vectors = {name: np.ones(1, np.float32) for name in ("a", "b", "c", "d")}
    return model([node("BatchNormalization", ["x", *vectors], ["y"], **attributes)], **vectors)


ATTRIBUTES: dict[str, tuple[str, onnx.ModelProto, type[Exception]]] = {
    "stride 0": ("O03", conv(strides=[0, 1]), ModelFileError),
    "stride -1": ("O03", conv(strides=[1, -1]), ModelFileError),
    "stride 0 of a pool": ("O03", pool(strides=[0, 0]), ModelFileError),
    "one stride": ("O03", conv(strides=[1]), ModelFileError),
    "stride 0, any size": (
        "O03", model([node("Conv", ["x", "w"], ["y"], strides=[0, 0])], {"x": ("N", 1, "H", "W")}, w=W), ModelFileError,
    ),
    "dilation 0": ("O03", conv(dilations=[0, 1]), ModelFileError),
    "pads -9": ("O04", conv(pads=[-9, 0, 0, 0]), ModelFileError),
    "pads -9 of a pool": ("O04", pool("AveragePool", pads=[0, 0, 0, -9]), ModelFileError),
    "pads -9, any size": (
        "O04", model([node("Conv", ["x", "w"], ["y"], pads=[-9] * 4)], {"x": ("N", 1, "H", "W")}, w=W), ModelFileError,
    ),
    "pads -1 of Pad, which crops": (
        "O04", model([node("Pad", ["x", "p"], ["y"])], {"x": (4,)}, p=np.array([0, -1])), UnsupportedModelError,
    ),
    "pads -1 of Pad as an attribute": (
        "O04", model([node("Pad", ["x"], ["y"], pads=[0, -1])], {"x": (4,)}, opset=10), UnsupportedModelError,
    ),
    "auto_pad VALID and ceil mode": (
        "O04", pool(auto_pad="VALID", ceil_mode=1, strides=[2, 2]), UnsupportedModelError,
    ),
    "a window that steps over the image": (
        "O04", model([node("MaxPool", ["x"], ["y"], kernel_shape=[2], dilations=[2], pads=[1, 1])], {"x": (1, 1, 1)}),
        UnsupportedModelError,
    ),
    "two pads": ("O04", conv(pads=[1, 1]), ModelFileError),
    "pads and auto_pad": ("O04", conv(pads=[1, 1, 1, 1], auto_pad="SAME_UPPER"), ModelFileError),
    "auto_pad": ("O04", conv(auto_pad="SAME"), ModelFileError),
    "a window in the padding": ("O04", pool(pads=[2, 2, 2, 2]), UnsupportedModelError),
    "pads 2^40": ("O05", conv(pads=[2**40] * 4), DataLimitError),
    "pads and strides 2^40": ("O05", conv(pads=[2**40] * 4, strides=[2**40] * 2), DataLimitError),
    "pads 2^40 of a pool": ("O05", pool(pads=[2**40] * 4, kernel_shape=[2**41] * 2), UnsupportedModelError),
    "pads and dilation 2^40": ("O05", pool(pads=[2**40] * 4, dilations=[2**41] * 2), UnsupportedModelError),
    "kernel 0": ("O05", pool(kernel_shape=[0, 2]), ModelFileError),
    "group 3": ("O05", conv(group=3), ModelFileError),
    "group 0": ("O05", conv(group=0), ModelFileError),
    "epsilon -1": ("O05", norm(epsilon=-1.0), ModelFileError),
    "epsilon 0": ("O05", norm(epsilon=0.0), ModelFileError),
    "epsilon NaN": ("O10", norm(epsilon=math.nan), ModelFileError),
    "alpha NaN": ("O10", model([node("LeakyRelu", ["x"], ["y"], alpha=math.nan)]), ModelFileError),
    "alpha infinite": ("O10", model([node("Elu", ["x"], ["y"], alpha=math.inf)]), ModelFileError),
    "attribute of another operator": ("O10", model([node("Relu", ["x"], ["y"], alpha=1.0)]), ModelFileError),
    "attribute of another type": ("O10", conv(group=1.0), ModelFileError),
    "attribute that is missing": ("O10", model([node("MaxPool", ["x"], ["y"])]), ModelFileError),
    "flag 2": ("O10", pool(ceil_mode=2), ModelFileError),
    "the output of another type": (
        "O10", helper.make_model(
            helper.make_graph([node("Shape", ["x"], ["y"])], "g", [value("x", (1, 2))], [value("y", (2,))]),
            opset_imports=[helper.make_opsetid("", 17)],
        ), ModelFileError,
    ),
}  # fmt: skip
SIZES: dict[str, tuple[str, onnx.ModelProto, type[Exception]]] = {
    "ConstantOfShape 10^12": (
        "O06", model([node("ConstantOfShape", ["s"], ["y"])], {}, s=np.array([10**6, 10**6])), DataLimitError,
    ),
    "a chain to 8 GB": (
        "O06", model([node("ConstantOfShape", ["s"], ["a"]), node("Relu", ["a"], ["y"])], {}, s=np.array([10**9])),
        DataLimitError,
    ),
    "ConstantOfShape -1": ("O06", model([node("ConstantOfShape", ["s"], ["y"])], {}, s=np.array([-1])), ModelFileError),
    "Pad 2^40": ("O06", model([node("Pad", ["x", "p"], ["y"])], {"x": (4,)}, p=np.array([0, 2**40])), DataLimitError),
    "a product of 10^10": (
        "O06", model([
            node("Unsqueeze", ["x", "one"], ["a"]), node("Unsqueeze", ["x", "zero"], ["b"]),
            node("MatMul", ["a", "b"], ["y"]),
        ], {"x": (10**5,)}, one=np.array([1]), zero=np.array([0])), DataLimitError,
    ),
    "columns of 10^11": (
        "O06", model([
            node("ConstantOfShape", ["s"], ["w"]), node("Conv", ["x", "w"], ["y"]),
        ], {"x": (1, 1, 20000, 20000)}, s=np.array([1, 1, 200, 200])), DataLimitError,
    ),
    "two -1": ("O06", model([node("Reshape", ["x", "s"], ["y"])], s=np.array([-1, -1])), ModelFileError),
    "another number of elements": ("O06", model([node("Reshape", ["x", "s"], ["y"])], s=np.array([7])), ModelFileError),
    "Reshape -2": ("O06", model([node("Reshape", ["x", "s"], ["y"])], s=np.array([-2])), ModelFileError),
    "2^17 axes": ("O06", model([node("Unsqueeze", ["x", "a"], ["y"])], a=np.arange(2**17)), ModelFileError),
    "an input of 2^40": ("O06", model([node("Relu", ["x"], ["y"])], {"x": (2**40,)}), DataLimitError),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ATTRIBUTES, *SIZES])
@pytest.mark.promise("O03", "O04", "O05", "O06", "O10")
def test_attributes_and_sizes_that_cannot_be(name: str, tmp_path: Path) -> None:
    _, made, error = (ATTRIBUTES | SIZES)[name]
    refused(made, tmp_path, error)


def chain(length: int) -> onnx.ModelProto:
    names = ["x", *(f"a{i}" for i in range(1, length)), "y"]
    return model([node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])


@pytest.mark.promise("O05")
def test_limits_of_nodes_and_initialisers(tmp_path: Path) -> None:
    with pytest.raises(DataLimitError, match="at most 10000 nodes, got 100000"):
        load(saved(chain(100_000), tmp_path))
    many = {f"t{i}": np.zeros(1, np.float32) for i in range(11)}
    path = saved(model([node("Sum", list(many), ["y"])], {}, **many), tmp_path)
    assert len(load(path).run()[0]) == 1
    for limits in (Limits(initialisers=10), Limits(elements=0), Limits(peak=40)):
        with pytest.raises(DataLimitError):
            load(path, limits=limits)
    with pytest.raises(DataLimitError, match="at most 9 nodes, got 10"):
        load(saved(chain(10), tmp_path), limits=Limits(nodes=9))


@pytest.mark.promise("O05")
@pytest.mark.parametrize("opset", [999, 29, 5, 0, -1])
def test_opsets_that_we_do_not_have(opset: int, tmp_path: Path) -> None:
    message = refused(model([node("Relu", ["x"], ["y"])], opset=opset), tmp_path, UnsupportedModelError)
    assert f"opset {opset}, supported 6..28" in message


# Graphs


RELU = node("Relu", ["x"], ["y"])
GRAPHS: dict[str, onnx.ModelProto] = {
    "cycle": model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]),
    "cycle of one": model([node("Add", ["x", "y"], ["y"])]),
    "undefined": model([node("Add", ["x", "z"], ["y"])]),
    "an output twice": model([RELU, node("Tanh", ["x"], ["y"])]),
    "an output as an input": model([node("Relu", ["x"], ["x"])], outputs={"x": None}),
    "an output as an initialiser": model([RELU, node("Tanh", ["x"], ["w"])], w=W),
    "the graph's output twice": model([RELU]),
    "no node": model([], outputs={"x": (1, 1, 5, 5)}),
    "no output": model([RELU], outputs={}),
    "an output that nobody makes": model([RELU], outputs={"y": None, "z": None}),
    "a name of 1 MB": model([node("Relu", ["x"], ["y" * 10**6])], outputs={"y" * 10**6: None}),
    "a long name": model([node("Relu", ["x"], ["y" * (MAX_NAME + 1)])], outputs={"y" * (MAX_NAME + 1): None}),
    "no inputs": model([node("Relu", [], ["y"])]),
    "three inputs": model([node("Add", ["x", "x", "x"], ["y"])]),
    "an input that is needed, left out": model([node("Add", ["x", ""], ["y"])]),
    "an output without a name": model([node("Relu", ["x"], [""])]),
    "inputs of two types": model([node("Add", ["x", "t"], ["y"])], t=np.ones(1)),
    "integers where none may be": model([node("Sigmoid", ["t"], ["y"])], {}, t=np.array([1])),
    "an attribute twice": model([node("Elu", ["x"], ["y"], alpha=1.0)]),
    "an initialiser twice": model([node("Add", ["x", "w"], ["y"])], w=W),
    "a negative length": model([RELU], {"x": (-1, 2)}),
    "two opsets": model([RELU]),
    "no opset": model([RELU]),
}
GRAPHS["an attribute twice"].graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
GRAPHS["an initialiser twice"].graph.initializer.append(GRAPHS["an initialiser twice"].graph.initializer[0])
GRAPHS["the graph's output twice"].graph.output.append(value("y", None))
GRAPHS["two opsets"].opset_import.append(helper.make_opsetid("ai.onnx", 18))
del GRAPHS["no opset"].opset_import[:]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.promise("O07")
def test_graphs_that_cannot_be(name: str, tmp_path: Path) -> None:
    refused(GRAPHS[name], tmp_path)


# What stridenet does not have


def with_function(*, cyclic: bool) -> onnx.ModelProto:
    body = node("F", ["a"], ["b"], domain="own") if cyclic else node("Relu", ["a"], ["b"])
    made = model([node("F", ["x"], ["y"], domain="own")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], [body], opsets))
    made.opset_import.append(opsets[1])
    return made


def with_subgraph(op: str) -> onnx.ModelProto:
    inner = helper.make_graph([node("Relu", ["x"], ["z"])], "inner", [], [value("z", None)])
    names = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}[op]
    more = {"num_scan_inputs": 1} if op == "Scan" else {}
    return model([node(op, ["x"], ["y"], name="the branch", **dict.fromkeys(names, inner), **more)])


def sparse() -> onnx.ModelProto:
    made, values = model([RELU]), numpy_helper.from_array(np.ones(1, np.float32), "w")
    index = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [3]))
    return made


def typed(kind: onnx.TypeProto) -> onnx.ModelProto:
    made = model([node("Identity", ["x"], ["y"])])
    made.graph.input[0].CopyFrom(helper.make_value_info("x", kind))
    return made


TENSOR = helper.make_tensor_type_proto(FLOAT, [1])
FOREIGN: dict[str, tuple[onnx.ModelProto, str]] = {
    "unknown operator": (model([node("Frobnicate", ["x"], ["y"], name="n7")]), "n7.*Frobnicate.*ai.onnx"),
    "operator without a function here": (model([node("Erf", ["x"], ["y"], name="n7")]), "n7.*Erf.*ai.onnx"),
    "custom domain": (model([node("Relu", ["x"], ["y"], name="n7", domain="com.evil")]), "n7.*Relu.*com.evil"),
    "operator of a younger opset": (model([node("HardSwish", ["x"], ["y"])], opset=13), "HardSwish.*13"),
    "machine learning": (model([node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")]), "Scaler.*ai.onnx.ml"),
    "quantised convolution": (model([node("QLinearConv", [*"xxxxxxxx"], ["y"])]), "QLinearConv"),
    "quantised number": (model([node("DequantizeLinear", ["x", "w"], ["y"])], w=W), "DequantizeLinear"),
    "function": (with_function(cyclic=False), "local functions"),
    "function that calls itself": (with_function(cyclic=True), "local functions"),
    **{op: (with_subgraph(op), f"the branch.*{op}.*subgraph") for op in ("If", "Loop", "Scan")},
    "sparse initialiser": (sparse(), "sparse initialisers"),
    "sequence": (typed(helper.make_sequence_type_proto(TENSOR)), "sequence type"),
    "optional": (typed(helper.make_optional_type_proto(TENSOR)), "optional type"),
    "map": (typed(helper.make_map_type_proto(INT64, TENSOR)), "map type"),
    "sparse input": (typed(helper.make_sparse_tensor_type_proto(FLOAT, [1])), "sparse tensor type"),
    **{
        kind: (typed(helper.make_tensor_type_proto(getattr(TensorProto, kind), [1])), kind)
        for kind in ("FLOAT16", "BFLOAT16", "STRING", "COMPLEX64", "INT4", "FLOAT8E4M3FN")
    },
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.promise("O08", "O10")
def test_what_stridenet_does_not_have_is_named(name: str, tmp_path: Path) -> None:
    made, named = FOREIGN[name]
    message = refused(made, tmp_path, UnsupportedModelError)
    assert re.search(named, message)
    assert message.endswith("; docs/onnx-operators.md lists those that are known") == ("an operator of " in message)


# External data


PLACES = [
    "weights.bin", "./weights.bin", "sub/weights.bin", "../weights.bin", "../../../../etc/passwd", "/etc/passwd",
    "/proc/self/environ", "/dev/zero", "/dev/stdin", "link", "hardlink", "fifo", "folder/", "..", "",
    "\\\\host\\share\\w", "//host/share/w", "C:\\w.bin", "file:///etc/passwd", "http://127.0.0.1:1/w",
    "weights.bin\0x", "sub/../weights.bin",
]  # fmt: skip


def external() -> dict[str, onnx.ModelProto]:
    """25 models whose weights are elsewhere: by every kind of path, in a Constant, and half declared."""
    made: dict[str, onnx.ModelProto] = {}
    for place in PLACES:
        made[f"location {place!r}"] = part = conv()
        tensor = part.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="offset", value="0")
    made["no location"] = conv()
    made["no location"].graph.initializer[0].data_location = TensorProto.EXTERNAL
    made["a location that is not declared"] = conv()
    made["a location that is not declared"].graph.initializer[0].external_data.add(key="location", value="weights.bin")
    constant = numpy_helper.from_array(W)
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/passwd")
    made["a Constant"] = model([node("Constant", [], ["w"], value=constant), node("Conv", ["x", "w"], ["y"])])
    return made


AUDITED = """
import json, os, sys
from pathlib import Path
from stridenet.errors import UnsupportedModelError
from stridenet.interop.onnx import load
home, opened, watching = Path(sys.argv[1]), [], False
def hook(event, arguments):
    if watching and (event in ("open", "os.open") or event.startswith(("socket.", "subprocess.", "os.system", "exec"))):
        if not isinstance(arguments[0], int):  # a descriptor that is open already
            opened.append([event, os.fsdecode(arguments[0]) if event == "open" else repr(arguments)])
sys.addaudithook(hook)
load(home / "warm-up.onnx")
seen = []
for file in json.loads(sys.argv[2]):
    opened.clear()
    watching = True
    try:
        load(home / file)
        outcome = "loaded"
    except Exception as error:
        outcome = type(error).__name__
    watching = False
    seen.append([outcome, list(opened)])
sys.stdout.write(json.dumps(seen))
"""


@pytest.mark.promise("F7", "O09")
def test_external_data_is_refused_and_no_other_file_is_opened(child: Callable[..., Any], tmp_path: Path) -> None:
    models = external()
    assert len(models) == 25
    (tmp_path / "weights.bin").write_bytes(W.tobytes())
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "hardlink").hardlink_to(tmp_path / "weights.bin")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    saved(conv(), tmp_path, "warm-up.onnx")
    names = [saved(made, tmp_path, f"{i}.onnx").name for i, made in enumerate(models.values())]
    done = child(AUDITED, tmp_path, json.dumps(names))
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = [["UnsupportedModelError", [["open", str(tmp_path / name)]]] for name in names]
    assert json.loads(done.stdout) == wanted
    message = refused(next(iter(models.values())), tmp_path, UnsupportedModelError)
    assert message.endswith("expected the weights inside the file, got external data; export with external_data=False")


# Types and old meanings: right by the opset, or refused


def as_reference(made: onnx.ModelProto, folder: Path, *inputs: Any) -> None:
    found = load(saved(made, folder)).run(*inputs)
    names = [value.name for value in made.graph.input]
    with np.errstate(all="ignore"):
        wanted = ReferenceEvaluator(made).run(None, dict(zip(names, inputs, strict=True)))
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.promise("O10")
def test_a_softmax_before_opset_13_is_over_all_axes_behind(tmp_path: Path) -> None:
    x = draw(2, 3, 4)
    for axis, opset, over in (
        (1, 11, (1, 2)),
        (0, 9, (0, 1, 2)),
        (2, 7, (2,)),
        (-2, 11, (1, 2)),
        (1, 13, (1,)),
        (-2, 21, (1,)),
    ):
        made = model([node("Softmax", ["x"], ["y"], axis=axis)], {"x": (2, 3, 4)}, opset=opset)
        (y,) = load(saved(made, tmp_path)).run(x)
        np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis=over, keepdims=True), rtol=1e-5)
    default = {opset: model([node("Softmax", ["x"], ["y"])], {"x": (2, 3, 4)}, opset=opset) for opset in (12, 13)}
    for opset, over in ((12, (1, 2)), (13, (2,))):
        (y,) = load(saved(default[opset], tmp_path)).run(x)
        np.testing.assert_allclose(y.sum(axis=over), 1, rtol=1e-5)


def old_norm(opset: int, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    vectors = {name: np.ones(1, np.float32) for name in ("a", "b", "c", "d")}
    names = ["y", "m", "v", "sm", "sv"][:outputs]
    made = node("BatchNormalization", ["x", *vectors], names, **attributes)
    return model([made], outputs=dict.fromkeys(names), opset=opset, **vectors)


@pytest.mark.promise("O10")
def test_old_attributes_mean_what_they_meant_or_are_refused(tmp_path: Path) -> None:
    def dropout(opset: int, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
        names = ["y", "mask"][:outputs]
        return model([node("Dropout", ["x"], names, **attributes)], outputs=dict.fromkeys(names), opset=opset)

    x = draw(1, 1, 5, 5)
    for good in (
        old_norm(6, is_test=1),
        old_norm(7, spatial=1),
        old_norm(9),
        dropout(6, is_test=1),
        dropout(7),
        dropout(10),
    ):
        assert load(saved(good, tmp_path)).run(x)[0].shape == x.shape
    for bad in (
        old_norm(6), old_norm(6, is_test=1, spatial=0), old_norm(7, spatial=0), old_norm(9, 5), dropout(6),
        dropout(7, 2),
    ):  # fmt: skip
        refused(bad, tmp_path, UnsupportedModelError)
    refused(model([node("Reshape", ["x", "s"], ["y"], shape=[25])], s=np.array([25])), tmp_path)
    refused(dropout(12, ratio=0.5), tmp_path)
    training = model([node("Dropout", ["x", "r", "t"], ["y"])], r=np.float32(0.5), t=np.array(True))
    with pytest.raises(UnsupportedModelError, match="a seed"):
        load(saved(training, tmp_path)).run(x)


@pytest.mark.promise("O10")
def test_opset_6_lays_the_second_over_the_first_from_an_axis_on(tmp_path: Path) -> None:
    x, b = draw(2, 3, 4, 5), draw(3, 4)
    made = model([node("Mul", ["x", "b"], ["y"], broadcast=1, axis=1)], {"x": x.shape}, opset=6, b=b)
    np.testing.assert_array_equal(load(saved(made, tmp_path)).run(x)[0], x * b[:, :, None])
    end = model([node("Sub", ["x", "b"], ["y"], broadcast=1)], {"x": x.shape}, opset=6, b=draw(5))
    np.testing.assert_array_equal(load(saved(end, tmp_path)).run(x)[0], x - draw(5))
    for attributes in ({}, {"broadcast": 1}, {"broadcast": 1, "axis": 3}, {"broadcast": 1, "axis": -1}):
        refused(model([node("Mul", ["x", "b"], ["y"], **attributes)], {"x": x.shape}, opset=6, b=b), tmp_path)
    refused(model([node("Sum", ["x", "b"], ["y"])], {"x": (3, 4)}, opset=7, b=draw(4)), tmp_path)


@pytest.mark.promise("O10")
def test_types_and_sizes_that_only_a_run_knows(tmp_path: Path) -> None:
    for kind in (np.int8, np.uint8, np.int32, np.uint64, np.float64):
        a = np.arange(6).reshape(2, 3).astype(kind)
        made = model([node("Add", ["x", "x"], ["y"])])
        for entry in (made.graph.input[0], made.graph.output[0]):
            entry.CopyFrom(value(entry.name, ("N", "D"), helper.np_dtype_to_tensor_dtype(a.dtype)))
        as_reference(made, tmp_path, a)
    anything = model(
        [node("Conv", ["x", "w"], ["c"]), node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2])],
        {"x": ("N", 1, "H", "W")},
        w=W,
    )
    for shape in ((3, 1, 6, 9), (1, 1, 4, 4)):
        as_reference(anything, tmp_path, draw(*shape))
    doubles = model([node("Tanh", ["x"], ["y"])])
    doubles.graph.input[0].CopyFrom(value("x", (3,), TensorProto.DOUBLE))
    doubles.graph.output[0].CopyFrom(value("y", (3,), TensorProto.DOUBLE))
    as_reference(doubles, tmp_path, np.ones(3))


def test_refusals_are_quick(tmp_path: Path) -> None:
    """A hang is what this stops, ten seconds of it; the files are refused in milliseconds."""
    started = time.perf_counter()
    for _, made, error in (ATTRIBUTES | SIZES).values():
        with pytest.raises(error):
            load(saved(made, tmp_path))
    assert time.perf_counter() - started < 10
