"""Exported networks: the checker takes them, other programs compute what we compute."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_max_pool

import stridenet
from helpers import normwise
from networks import random_network
from stridenet.data.images import Framing
from stridenet.data.transforms import (
    TRANSFORMS as TRANSFORM_KINDS,
    Normalize,
    Pad,
    Pipeline,
    Resize,
    SubtractMean,
    Transform,
)
from stridenet.errors import ConfigError, UnsupportedModelError
from stridenet.interop.onnx import export, load as load_graph
from stridenet.interop.onnx.export import to_proto
from stridenet.layout import Array
from stridenet.model import Model, load
from stridenet.nn.classic import TableConv2d
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, ReLU
from stridenet.nn.pools import AvgPool2d
from stridenet.nn.rebuild import KINDS
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.zoo.models import MODELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
BOUND = 1e-5


# Random networks


def images_of(network: Sequential, N: int = 3) -> Array:
    shape = network.input_shape or ()
    return np.random.default_rng(7).standard_normal((N, *shape)).astype(np.float32)


class MaxPool(op_max_pool.MaxPool):
    """The reference's general way for any stride: its way for a stride of 1 takes uneven padding apart wrongly."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        return self._max_pool(x, **attributes)


def reference(proto: onnx.ModelProto, x: Array) -> Array:
    return ReferenceEvaluator(proto, new_ops=[MaxPool]).run(None, {"images": x})[0]  # pyright: ignore[reportReturnType]


@pytest.fixture(scope="session")
def runtime() -> Any:
    """runtime(proto, x): what ONNX Runtime gives for x."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(proto: onnx.ModelProto, x: Array) -> Array:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        data = proto.SerializeToString()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": x})[0]

    return run


SOME = [*range(30), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(30, 300))]


@pytest.mark.promise("A6")
@pytest.mark.parametrize("seed", SOME)
def test_the_checker_takes_random_networks_and_the_reference_agrees(seed: int) -> None:
    network = random_network(seed)
    x, proto = images_of(network), to_proto(network)
    onnx.checker.check_model(proto, full_check=True)
    assert normwise(reference(proto, x), network.forward(x)) <= BOUND


@pytest.mark.peer
@pytest.mark.promise("A6")
@pytest.mark.parametrize("seed", range(300))
def test_onnx_runtime_agrees_on_random_networks(seed: int, runtime: Any) -> None:
    network = random_network(seed)
    for N in (1, 3):
        x = images_of(network, N)
        assert normwise(runtime(to_proto(network), x), network.forward(x)) <= BOUND


@pytest.mark.promise("A6")
@pytest.mark.parametrize("seed", SOME)
def test_what_is_read_back_has_the_same_bits(seed: int, tmp_path: Path) -> None:
    network = random_network(seed)
    x = images_of(network)
    export(network, tmp_path / "m.onnx")
    graph = load_graph(tmp_path / "m.onnx")
    found = {name: parameter.value for name, parameter in graph.named_parameters()}
    for name, value in stored(network).items():
        assert found[name].reshape(value.shape).tobytes() == value.tobytes()
    assert normwise(graph.forward(x), network.forward(x)) <= BOUND


def stored(network: Sequential) -> dict[str, Array]:
    """The parameters by name; of a table of connections the weight of the convolution over all maps."""
    state = network.state_dict()
    for i, layer in enumerate(network.layers):
        if isinstance(layer, TableConv2d):
            state[f"{i}.weight"] = layer.dense(layer.weight.value)
    return state


def test_every_kind_of_layer_is_among_the_random_networks() -> None:
    """In the first thirty too, with what is easily got wrong."""
    layers = [layer for seed in range(30) for layer in random_network(seed).walk()]
    assert {type(layer) for layer in layers} == {Sequential, Residual, *KINDS.values()}
    pools = [layer for layer in layers if isinstance(layer, AvgPool2d)]
    assert any(p.ceil_mode and p.count_include_pad and p.padding not in (0, "same") for p in pools)
    convolutions = [layer for layer in layers if isinstance(layer, Conv2d)]
    assert any(c.groups > 1 for c in convolutions)
    assert any(c.padding == "same" and c.stride != 1 for c in convolutions)
    assert any(np.shape(c.padding) == (2, 2) for c in convolutions)
    assert any(c.dilation not in (1, (1, 1)) for c in convolutions)


@pytest.mark.big
@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("opset", [15, 16, 17])
def test_the_zoo_at_every_form_of_opset(name: str, opset: int) -> None:
    network = MODELS[name](rng=np.random.default_rng(0)).eval()
    x, proto = images_of(network, 2), to_proto(network, opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.opset_import[0].version, proto.ir_version) == (opset, 8)
    assert normwise(reference(proto, x), network.forward(x)) <= BOUND


@pytest.mark.parametrize(("ceil_mode", "include_pad"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_edge_of_an_average(ceil_mode: bool, include_pad: bool) -> None:
    """What hangs over the padding never counts, the padding itself by choice."""
    words: Any = {"padding": ((1, 0), (0, 1)), "ceil_mode": ceil_mode, "count_include_pad": include_pad}
    network = Sequential(AvgPool2d(3, stride=2, **words), input_shape=(1, 6, 6)).eval()
    x = images_of(network)
    assert normwise(reference(to_proto(network), x), network.forward(x)) <= 1e-6


def test_a_network_of_nothing() -> None:
    network = Sequential(Dropout(), Residual(Sequential()), Sequential(), input_shape=(2, 3, 4)).eval()
    x = images_of(network)
    assert np.array_equal(reference(to_proto(network), x), 2 * x)
    assert np.array_equal(reference(to_proto(Sequential(Dropout(), input_shape=(2, 3, 4))), x), x)


# Models


def small_model(transform: Pipeline | None = None, **more: Any) -> Model:
    transform = transform or Pipeline()
    C, H, W = transform.output_shape((2, 7, 6))
    rng = np.random.default_rng(0)
    network = Sequential(Conv2d(C, 3, 3, padding=1, rng=rng), ReLU(), Flatten(), Linear(3 * H * W, 3, rng=rng))
    return Model(network, ("a", "数字", '"\x1b'), (2, 7, 6), transform=transform, **more)


TRANSFORMS = [
    Normalize([0.25, 0.5], [0.125, 3.0]),
    SubtractMean(np.random.default_rng(1).random((2, 7, 6))),
    Pad(((1, 2), (0, 3)), 0.75),
    Resize((5, 11)),
    Resize((7, 6)),
]


@pytest.mark.parametrize("transform", [*([t] for t in TRANSFORMS), TRANSFORMS])
def test_preprocessing_in_the_graph(transform: list[Transform]) -> None:
    model = small_model(Pipeline(transform))
    images = np.random.default_rng(2).integers(0, 256, (4, 2, 7, 6), np.uint8)
    inside, outside = to_proto(model, include_preprocessing=True), to_proto(model)
    x = (images / 255).astype(np.float32)
    for proto, given in ((inside, x), (outside, model.transform(x))):
        onnx.checker.check_model(proto, full_check=True)
        assert normwise(reference(proto, given), model.scores(images)) <= BOUND
    assert [entry["name"] for entry in metadata(outside)["transform"]] == [t.name for t in transform]
    assert metadata(inside)["transform"] == []


def metadata(proto: onnx.ModelProto) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in proto.metadata_props}


def test_what_a_file_says(tmp_path: Path) -> None:
    model = small_model(Pipeline([Pad(1)]), framing=Framing(0.0, 0.75))
    export(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert (proto.producer_name, proto.producer_version) == ("stridenet", stridenet.__version__)
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (8, [("", 17)])
    assert metadata(proto) == {
        "classes": list(model.classes),
        "image_shape": [2, 7, 6],
        "transform": [{"name": "pad", "padding": [[1, 1], [1, 1]], "value": 0.0}],
        "framing": {"background": 0.0, "extent": 0.75},
    }
    values = [
        (v.name, v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*proto.graph.input, *proto.graph.output)
    ]
    assert values == [("images", 1, ["N", 2, 9, 8]), ("scores", 1, ["N", 3])]
    names = {tensor.name for tensor in proto.graph.initializer}
    assert names == set(model.network.state_dict())


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    model = small_model(Pipeline(TRANSFORMS))
    model.save(tmp_path / "m.safetensors")
    for name, made in (("a", model), ("b", load(tmp_path / "m.safetensors"))):
        export(made, tmp_path / name, include_preprocessing=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_network_stays_as_it_is() -> None:
    network = Sequential(BatchNorm2d(2), input_shape=(2, 3, 3))
    before = network.state_dict()
    to_proto(network)
    assert network.training
    assert all(np.array_equal(before[name], value) for name, value in network.state_dict().items())


# Refused


class Doubled(LeakyReLU):
    def forward(self, x: Array) -> Array:
        return 2 * super().forward(x)


class Inverted(Pad):
    def __call__(self, x: Array) -> Array:
        return 1 - super().__call__(x)


def broken(value: float) -> Sequential:
    network = Sequential(Linear(2, 2, rng=np.random.default_rng(0)), input_shape=(2,))
    next(network.named_parameters())[1].value[0, 0] = value
    return network


@pytest.mark.promise("O11")
@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        (Sequential(Residual(Sequential(Doubled())), input_shape=(2,)), UnsupportedModelError, "Doubled at '0.body.0'"),
        (broken(np.nan), UnsupportedModelError, "0.weight with finite numbers"),
        (broken(np.inf), UnsupportedModelError, "0.weight with finite numbers"),
        (Sequential(LeakyReLU(1e300), input_shape=(2,)), UnsupportedModelError, "alpha within float32, got 1e+300"),
        (small_model(Pipeline([Inverted(1)])), UnsupportedModelError, "that ONNX can hold, got Inverted"),
        (Sequential(ReLU()), ConfigError, "one without; its sizes are not known"),
        (broken(0).astype(np.float64), ConfigError, "use network.astype(np.float32)"),
        (ReLU(), ConfigError, "expected a Model, or a Sequential with an input_shape, got ReLU()"),
        (None, ConfigError, "got None"),
    ],
)
def test_what_cannot_be_exported(model: Any, kind: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=f"^export: .*{re.escape(said)}"):
        export(model, tmp_path / "m.onnx", include_preprocessing=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("O11")
@pytest.mark.parametrize("words", [{"opset": n} for n in (14, 18, 0, -1, 2**60, True, "17", 17.0, None)])
def test_opsets_out_of_range(words: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^export: expected opset"):
        export(small_model(), tmp_path / "m.onnx", **words)


@pytest.mark.parametrize("name", ["include_preprocessing", "overwrite"])
def test_flags_are_flags(name: str, tmp_path: Path) -> None:
    words: Any = {name: 1}
    with pytest.raises(ConfigError, match=f"expected {name} to be True or False"):
        export(small_model(), tmp_path / "m.onnx", **words)


@pytest.mark.promise("O11")
def test_weights_beyond_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(value.nbytes for value in small_model().network.state_dict().values())
    module = sys.modules[to_proto.__module__]
    monkeypatch.setattr(module, "MAX_BYTES", size)
    to_proto(small_model())
    monkeypatch.setattr(module, "MAX_BYTES", size - 1)
    with pytest.raises(UnsupportedModelError, match=f"at most {size - 1} bytes"):
        to_proto(small_model())


@pytest.mark.promise("O11")
def test_a_file_that_exists_is_replaced_on_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=re.escape(f"{path}: expected a path that is not there yet; overwrite=")):
        export(small_model(), path)
    with monkeypatch.context() as patch:  # the disk is full
        patch.setattr("stridenet.files._write", lambda descriptor, data: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            export(small_model(), path, overwrite=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.onnx", b"mine")]
    export(small_model(), path, overwrite=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'stridenet[onnx]'")):
        export(small_model(), tmp_path / "m.onnx")


# LeNet-5


@pytest.mark.peer
@pytest.mark.big
def test_lenet5_on_the_test_digits(
    tmp_path: Path, mnist_folder: Path, runtime: Any, record_property: pytest.RecordProperty
) -> None:
    """Of 10 000 digits ONNX Runtime gives at least 9 999 the class that we give."""
    from stridenet import cli

    run = tmp_path / "run"
    assert cli.run(["train", "lenet5-mnist", "--data", str(mnist_folder), "--epochs", "1", "--out", str(run)]) == 0
    model, test = load(run), stridenet.open_data(str(mnist_folder)).test
    export(model, tmp_path / "m.onnx", include_preprocessing=True)
    scores = runtime(onnx.load(tmp_path / "m.onnx"), (test.images / 255).astype(np.float32))
    same = int((scores.argmax(axis=1) == model.predict(test.images)).sum())
    record_property("same", same)
    sys.stdout.write(f"same class: {same} of {len(test.images)}\n")  # shown by pytest -s
    assert len(test.images) == 10_000
    assert same >= 9_999
    assert normwise(scores, model.scores(test.images)) <= BOUND


# The page


@pytest.mark.peer
def test_the_page_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, in one namespace; peer, because one block needs ONNX Runtime."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for code, said in re.findall(r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)*)", PAGE.read_text("utf-8"), re.M | re.S):
        exec(compile(code, PAGE.name, "exec"), namespace)
        assert capsys.readouterr().out == re.sub(r"^    ", "", said, flags=re.M)
    assert namespace["scores"].shape == (5, 10)


def test_the_page_has_every_layer_and_transform() -> None:
    table = "".join(line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|"))
    for kind in (*KINDS, "Residual", *(transform.__name__ for transform in TRANSFORM_KINDS.values())):
        assert re.search(rf"\b{kind}\b", table), kind
