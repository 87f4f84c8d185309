from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from stridenet import cli
from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pad, Pipeline
from stridenet.errors import ModelFileError, UnsupportedModelError, WeightsFormatError
from stridenet.interop.onnx.export import export
from stridenet.loading import load
from stridenet.model import FILE, Model
from stridenet.zoo.models import lenet5, pynet

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)


def model(**options: Any) -> Model:
    return Model(lenet5(rng=np.random.default_rng(0)), tuple("abcdefghij"), (1, 28, 28), **options)


def test_a_model_file_and_a_run_folder_are_loaded_as_ever(tmp_path: Path) -> None:
    (tmp_path / "run.onnx").mkdir()  # a folder is a run, whatever it is called
    model().save(tmp_path / "run.onnx" / FILE)
    for path in (tmp_path / "run.onnx", tmp_path / "run.onnx" / FILE):
        assert np.array_equal(load(path).scores(IMAGES[:9]), model().scores(IMAGES[:9]))


@pytest.mark.big
@pytest.mark.parametrize("inside", [False, True])
def test_what_was_exported_comes_back(inside: bool, tmp_path: Path) -> None:
    pipeline, framing = Pipeline([Pad(2), Normalize([0.1], [0.4])]), Framing(0.0, 0.7)
    network = pynet(rng=np.random.default_rng(0))
    for _, parameter in network.named_parameters():
        parameter.value *= 10
    first = Model(network, tuple("abcdefghij"), (1, 28, 28), transform=pipeline, framing=framing)
    export(first, tmp_path / "digits.ONNX", include_preprocessing=inside)
    found = load(str(tmp_path / "digits.ONNX"))
    assert (found.classes, found.image_shape, found.framing) == (first.classes, first.image_shape, framing)
    assert found.transform.spec() == ([] if inside else pipeline.spec())
    for images in (IMAGES, IMAGES[:3], IMAGES[:0], IMAGES[0] / 255):
        np.testing.assert_allclose(found.scores(images), first.scores(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(UnsupportedModelError, match="keep its file"):
        found.save(tmp_path / "copy")


def onnx_file(
    path: Path, *, shape: Any = ("N", 2, 3, 4), kind: int = TensorProto.FLOAT, outputs: int = 1, op: str = "Flatten",
    weights: type = np.float32, **metadata: str,
) -> Path:  # fmt: skip
    """A graph that flattens images and multiplies them with ones: 24 pixels become 5 scores."""
    nodes = [helper.make_node(op, ["x"], ["f"])]
    if op == "Flatten":
        nodes.append(helper.make_node("MatMul", ["f", "w"], ["y"]))
    nodes += [helper.make_node("Identity", ["f"], [f"y{i}"]) for i in range(1, outputs)]
    names = ["y" if op == "Flatten" else "f", *(f"y{i}" for i in range(1, outputs))]
    ends = [helper.make_tensor_value_info(name, kind, None) for name in names]
    constants = [numpy_helper.from_array(np.ones((24, 5), weights), "w")] if op == "Flatten" else []
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], ends, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, metadata)
    save(proto, str(path))
    return path


def test_a_foreign_graph_has_numbers_as_classes(tmp_path: Path) -> None:
    for batch in ("N", None, 1):
        found = load(onnx_file(tmp_path / "g.onnx", shape=(batch, 2, 3, 4), author="someone"))
        assert (found.classes, found.image_shape) == (tuple("01234"), (2, 3, 4))
        images = np.random.default_rng(0).random((6, 2, 3, 4))
        wanted = np.repeat(images.sum(axis=(1, 2, 3))[:, None], 5, axis=1)
        np.testing.assert_allclose(found.scores(images), wanted, rtol=1e-5)
    named = load(onnx_file(tmp_path / "g.onnx", classes=json.dumps(["a", "b", "c", "d", "e"])))
    assert named.classes == tuple("abcde")


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "features": ({"shape": ("N", 24)}, r"float32 \(N, C, H, W\) of a known size"),
    "unknown size": ({"shape": ("N", 2, "H", 4)}, r"float32 \(N, C, H, W\) of a known size"),
    "seven at a time": ({"shape": (7, 2, 3, 4)}, "any number of images at a time, or one, got 7"),
    "float64": ({"kind": TensorProto.DOUBLE, "weights": np.float64}, "float32"),
    "two outputs": ({"outputs": 2}, "one input and one output, got 1 and 2"),
    "images out": ({"op": "Relu"}, r"one row of scores for each image, got an output \('N', 2, 3, 4\)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_graphs_are_refused_with_what_takes_them(name: str, tmp_path: Path) -> None:
    options, message = OTHERS[name]
    with pytest.raises(UnsupportedModelError, match=message) as refused:
        load(onnx_file(tmp_path / "g.onnx", **options))
    assert str(refused.value).endswith("; stridenet.interop.onnx.load takes other graphs")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"classes": "cat, dog"}, "classes: expected strict JSON"),
        ({"classes": '["a", "b"]'}, "expected a score for each of 2 classes"),
        ({"classes": "[1, 2, 3, 4, 5]"}, "expected class names"),
        ({"classes": '{"a": 1}'}, "expected classes as a list"),
        ({"image_shape": "[1, 3, 4]"}, "expected"),
        ({"image_shape": "[0, 3, 4]"}, r"expected image_shape \(C, H, W\)"),
        ({"transform": '[{"name": "os.system"}]'}, "os.system"),
        ({"transform": '[{"name": "resize", "size": 9}]'}, "expected"),
        ({"framing": '{"background": 7, "extent": 0}'}, "background"),
    ],
)
def test_metadata_that_cannot_be_are_refused(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(onnx_file(tmp_path / "g.onnx", **metadata))


def test_what_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("Dear model,\n")
    model().save(tmp_path / "model.onnx")
    for name in ("text.onnx", "model.onnx"):
        with pytest.raises(ModelFileError, match=name):
            load(tmp_path / name)
    onnx_file(tmp_path / "graph.bin")
    with pytest.raises(WeightsFormatError, match="expected a model file"):
        load(tmp_path / "graph.bin")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.onnx")


@pytest.mark.big
def test_the_commands_take_onnx_files(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = lenet5(classes=4, input_size=16, rng=np.random.default_rng(0))
    first = Model(network, tuple("0123"), (1, 16, 16), transform=Pipeline([Normalize([0.2], [0.4])]))
    first.save("model")
    export(first, "model.onnx")
    lines = []
    for name in ("model", "model.onnx"):
        assert cli.run(["evaluate", name, "--data", str(small_data)]) == 0
        lines.append(capfd.readouterr().out)
    assert lines[0] == lines[1]
    assert cli.run(["summary", "model.onnx"]) == 0
    out = capfd.readouterr().out
    assert "takes        images 1x16x16, Normalize" in out
    assert "training" not in out
    assert cli.run(["summary", "model.onnx", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["classes"] == list("0123")
