"""A graph that was loaded: it runs, it is a layer for inference, and a Model can hold it."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from helpers import LAYOUTS, normwise
from onnx_models import INT64, draw, model, network, node, saved
from stridenet import kernels
from stridenet.errors import ConfigError, DataLimitError, ModelFileError, ShapeError, UnsupportedModelError
from stridenet.interop.onnx import Graph, load
from stridenet.interop.onnx.operators import OPERATORS
from stridenet.interop.onnx.proto import Limits, Node
from stridenet.interop.onnx.windows import _window
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.layer import Layer

X = draw(6, 1, 8, 8, seed=3)


def reference(made: onnx.ModelProto, **inputs: Array) -> list[Any]:
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(made).run(None, inputs)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return load(saved(network(), tmp_path))


def test_a_graph_says_what_it_takes_and_gives(graph: Graph) -> None:
    assert [(v.name, v.dtype, v.shape) for v in graph.inputs] == [("images", np.float32, ("N", 1, 8, 8))]
    assert [(v.name, v.dtype, v.shape) for v in graph.outputs] == [("scores", np.float32, ("N", 3))]
    assert graph.metadata == {"classes": "a,b,c"}
    assert repr(graph) == "Graph(10 nodes, 11 initialisers)"


@pytest.mark.parametrize("order", LAYOUTS)
def test_a_run_in_any_memory_order_is_as_the_reference_computes(graph: Graph, order: str) -> None:
    x = LAYOUTS[order](X)
    x.flags.writeable = False
    (scores,) = graph.run(x)
    assert scores.dtype == np.float32
    assert normwise(scores, reference(network(), images=X)[0]) < 1e-5
    np.testing.assert_array_equal(scores, graph.run(images=x)[0])
    np.testing.assert_array_equal(scores, graph.forward(x))


@pytest.mark.parametrize("name", ["im2col", "loops", "batchlast"])
def test_a_run_takes_the_chosen_kernels(graph: Graph, name: str) -> None:
    with kernels.use(name):
        assert normwise(graph.run(X[:2])[0], reference(network(), images=X[:2])[0]) < 1e-5


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    made = model(
        [
            node("Add", ["a", "b"], ["s"]),
            node("MaxPool", ["s"], ["y", "place"], kernel_shape=[2, 2]),
            node("Neg", ["a"], ["n"]),
        ],
        {"a": (1, 1, 4, 4), "b": (4,)},
        {"y": None, "n": None, "a": None},
    )
    made.graph.output.append(helper.make_tensor_value_info("place", INT64, None))
    graph, a, b = load(saved(made, tmp_path)), draw(1, 1, 4, 4), draw(4, seed=1)
    found = graph.run(a, b=b)
    summed = a + b
    np.testing.assert_array_equal(found[0], summed.reshape(-1)[found[3]])  # the place of each maximum
    for one, other in zip(found[:3], reference(made, a=a, b=b)[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(np.shares_memory(one, given) for one in found for given in (a, b))
    with pytest.raises(UnsupportedModelError, match="expected one input and one output, got 2 inputs and 4 outputs"):
        graph.forward(a)


@pytest.mark.parametrize(
    ("arrays", "named", "error", "message"),
    [
        ((), {}, ConfigError, "expected the inputs \\['images'\\], each once"),
        ((X, X), {}, ConfigError, "each once, got 2 in order"),
        ((X,), {"images": X}, ConfigError, "each once"),
        ((), {"image": X}, ConfigError, "by name \\['image'\\]"),
        ((X.astype(float),), {}, ConfigError, "expected 'images' as float32, got float64"),
        ((X[:, :, 1:],), {}, ShapeError, "of shape \\('N', 1, 8, 8\\), got \\(6, 1, 7, 8\\)"),
        ((X[0],), {}, ShapeError, "got \\(1, 8, 8\\)"),
    ],
)
def test_inputs_that_do_not_fit(graph: Graph, arrays: Any, named: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        graph.run(*arrays, **named)


def test_what_shows_only_in_a_run_names_the_node(tmp_path: Path) -> None:
    anything = {"x": ("N", "C", "H", "W")}
    wide = load(saved(model([node("Conv", ["x", "w"], ["y"], name="c7")], anything, w=draw(2, 3, 3, 3)), tmp_path))
    with pytest.raises(ShapeError, match="node 'c7' \\(Conv\\): expected channels of x in group=1 parts of 3"):
        wide.run(X)
    with pytest.raises(ShapeError, match="node 'c7' \\(Conv\\): expected an image of at least 3"):
        wide.run(np.zeros((1, 3, 2, 9), np.float32))
    small = load(saved(model([node("Relu", ["x"], ["y"])], anything), tmp_path), limits=Limits(peak=1000))
    with pytest.raises(DataLimitError, match="at most 1000 bytes at once, got 3072; give fewer images"):
        small.run(X)
    where = {"x": (4,), "i": (1,)}
    pick = model([node("Gather", ["x", "i"], ["y"], name="g")], where)
    pick.graph.input[1].type.tensor_type.elem_type = INT64
    with pytest.raises(ShapeError, match="node 'g' \\(Gather\\): expected places in an axis of 4"):
        load(saved(pick, tmp_path)).run(draw(4), np.array([4]))
    variance = {name: -np.ones(1, np.float32) for name in "abcd"}
    negative = model([node("BatchNormalization", ["x", *variance], ["y"])], **variance)
    with pytest.raises(ModelFileError, match="expected a variance >= 0, got -1"):
        load(saved(negative, tmp_path)).run(draw(1, 1, 5, 5))


# As a layer


def test_it_is_a_layer_for_inference(graph: Graph) -> None:
    assert isinstance(graph, Layer)
    parameters = dict(graph.named_parameters())
    assert sorted(parameters) == ["b1", "b2", "mean", "scale", "shift", "variance", "w1", "w2"]
    assert not any(p.trainable for p in parameters.values())
    assert {p.value.dtype for p in parameters.values()} == {np.dtype(np.float32)}
    assert graph.output_shape((1, 8, 8)) == (3,)
    with pytest.raises(ShapeError):
        graph.output_shape((1, 8, 9))
    for forbidden in (lambda: graph.backward(X), graph.spec):
        with pytest.raises(UnsupportedModelError, match="ONNX"):
            forbidden()
    before = graph.run(X)[0]
    graph.load_state_dict({name: np.zeros_like(value) for name, value in graph.state_dict().items()})
    assert not graph.run(X)[0].any()
    assert before.any()


def test_copies_give_the_same(graph: Graph) -> None:
    for other in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        np.testing.assert_array_equal(other.run(X)[0], graph.run(X)[0])


def test_a_graph_for_one_image_takes_many(tmp_path: Path) -> None:
    one, two = (load(saved(network(batch), tmp_path)) for batch in (1, 2))
    wanted = reference(network(), images=X)[0]
    assert normwise(one.forward(X), wanted) < 1e-5
    assert normwise(two.forward(X), wanted) < 1e-5
    assert one.output_shape((1, 8, 8)) == two.output_shape((1, 8, 8)) == (3,)
    with pytest.raises(ShapeError):
        two.forward(X[:5])
    with pytest.raises(ShapeError):
        one.run(X)


def test_a_batch_of_0_is_one_of_any_size(tmp_path: Path) -> None:
    graph = load(saved(network(0), tmp_path))
    assert graph.inputs[0].shape == (None, 1, 8, 8)
    assert normwise(graph.forward(X), reference(network(), images=X)[0]) < 1e-5
    assert graph.output_shape((1, 8, 8)) == (3,)


@pytest.mark.parametrize("count", [6, 300])
def test_a_model_holds_a_graph(graph: Graph, count: int) -> None:
    model = Model(graph, ("a", "b", "c"), (1, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    wanted = reference(network(), images=(images / 255).astype(np.float32))[0]
    assert normwise(model.scores(images), wanted) < 1e-5
    np.testing.assert_array_equal(model.predict(images), wanted.argmax(axis=1))
    with pytest.raises(ShapeError, match="expected a score for each of 2 classes"):
        Model(graph, ("a", "b"), (1, 8, 8))


def test_a_model_with_a_graph_is_not_saved(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="keep its file"):
        Model(graph, ("a", "b", "c"), (1, 8, 8)).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_output_whose_shape_depends_on_numbers(tmp_path: Path) -> None:
    made = model([node("Cast", ["x"], ["s"], to=INT64), node("ConstantOfShape", ["s"], ["y"])], {"x": (2,)})
    graph = load(saved(made, tmp_path))
    assert graph.run(np.array([2, 3], np.float32))[0].shape == (2, 3)
    with pytest.raises(UnsupportedModelError, match="known before a run"):
        graph.output_shape(())


def test_without_the_package_one_line_says_what_to_install(graph: Graph, child: Any, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["onnx"] = None
from stridenet.errors import ConfigError
from stridenet.interop.onnx import load
try:
    load("model.onnx")
except ConfigError as error:
    sys.stdout.write(str(error))
"""
    done = child(code)
    assert done.stdout.endswith("install it with pip install 'stridenet[onnx]'"), done.stderr


# Operators: what the node tests leave open


def check(made: onnx.ModelProto, folder: Path, **inputs: Array) -> None:
    """As the reference computes, in numbers, shape and type, and in the shape that is known before."""
    graph = load(saved(made, folder))
    for found, wanted in zip(graph.run(**inputs), reference(made, **inputs), strict=True):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        assert normwise(found, wanted) < 1e-5
    known = graph._infer({name: array.shape for name, array in inputs.items()})
    assert {value.name: known[value.name].shape for value in graph.outputs} == {
        value.name: found.shape for value, found in zip(graph.outputs, graph.run(**inputs), strict=True)
    }


def random_window(rng: np.random.Generator, op: str, *, more: bool = False) -> tuple[onnx.ModelProto, Array]:
    """A convolution or a pool of any geometry, one to three axes.

    `more` are pools in ceil mode, dilated, with counted padding. With auto_pad they are not: ONNX Runtime takes a
    dilated "SAME" for one without dilation, and what VALID is in ceil mode is not agreed on.
    """
    rank = int(rng.integers(1, 4))
    kernel, image = rng.integers(1, 4, rank), rng.integers(6, 10 if rank < 3 else 8, rank)
    attributes: dict[str, Any] = {"strides": rng.integers(1, 4, rank).tolist()}
    if rank == 2 and rng.random() < 0.5:  # the reference is wrong for others, and for steps over a gap
        attributes["strides"] = [int(rng.integers(1, k + 1)) for k in kernel]
        attributes["auto_pad"] = str(rng.choice(["VALID", "SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    if op == "Conv":
        group = int(rng.integers(1, 3))
        attributes |= {"dilations": rng.integers(1, 3, rank).tolist(), "group": group}
        x, w = draw(2, 4, *image, seed=int(rng.integers(99))), draw(6, 4 // group, *kernel, seed=1)
        return model([node("Conv", ["x", "w", "b"], ["y"], **attributes)], {"x": x.shape}, w=w, b=draw(6)), x
    if more and "pads" in attributes:
        attributes |= {"ceil_mode": int(rng.integers(2)), "dilations": rng.integers(1, 3, rank).tolist()}
    if more and op == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(2))
    x = draw(2, 3, *image, seed=int(rng.integers(99)))
    pool = node(op, ["x"], ["y"], kernel_shape=kernel.tolist(), **attributes)
    return model([pool], {"x": x.shape}, opset=19 if more else 17), x


@pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("op", ["Conv", "AveragePool"])
def test_windows_of_any_geometry(op: str, share: int, tmp_path: Path) -> None:
    """Twenty; slow: two hundred."""
    rng = np.random.default_rng(0)
    for _ in range(200 // share):
        made, x = random_window(rng, op)
        check(made, tmp_path, x=x)


def test_a_maximum_is_that_of_its_window(tmp_path: Path) -> None:
    """By definition: the reference loses its way in one max pool of eight."""
    rng, compared = np.random.default_rng(0), 0
    for _ in range(40):
        made, x = random_window(rng, "MaxPool")
        given = {a.name: helper.get_attribute_value(a) for a in made.graph.node[0].attribute}
        if "auto_pad" in given:
            continue
        rank, compared = x.ndim - 2, compared + 1
        pads = [(0, 0), (0, 0), *zip(given["pads"][:rank], given["pads"][rank:], strict=True)]
        framed = np.pad(x, pads, constant_values=-np.inf)
        (y,) = load(saved(made, tmp_path)).run(x)
        sizes = zip(framed.shape[2:], given["kernel_shape"], given["strides"], strict=True)
        assert y.shape[2:] == tuple((n - k) // s + 1 for n, k, s in sizes)
        for place in np.ndindex(y.shape[2:]):
            edges = zip(place, given["strides"], given["kernel_shape"], strict=True)
            window = framed[(..., *(slice(i * s, i * s + k) for i, s, k in edges))]
            np.testing.assert_array_equal(y[(..., *place)], window.max(axis=tuple(range(2, x.ndim))))
    assert compared >= 25


@pytest.mark.peer
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_windows_are_those_of_onnx_runtime(op: str, tmp_path: Path) -> None:
    from onnxruntime import InferenceSession

    rng, compared = np.random.default_rng(0), 0
    for _ in range(200):
        made, x = random_window(rng, op, more=True)
        words = {a.name: helper.get_attribute_value(a) for a in made.graph.node[0].attribute}
        if b"SAME" in words.get("auto_pad", b"") and max(words.get("dilations", [1])) > 1:
            continue  # it does not take that
        wanted = InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
        assert normwise(load(saved(made, tmp_path)).run(x)[0], wanted) < 1e-5
        compared += 1
    assert compared > 150


def test_ceil_mode_with_valid_where_both_roundings_are_one(tmp_path: Path) -> None:
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID", ceil_mode=1)
    check(model([pool], {"x": (2, 1, 6, 4)}), tmp_path, x=draw(2, 1, 6, 4))


def test_a_window_is_blind_if_none_of_its_taps_meets_the_image() -> None:
    rng, blind = np.random.default_rng(0), 0
    for _ in range(2000):
        kernel, dilation, stride, length = (int(n) for n in rng.integers(1, 6, 4))
        pads = rng.integers(0, (kernel - 1) * dilation + 1, 2)
        words = {"pads": pads.tolist(), "strides": (stride,), "dilations": (dilation,), "ceil_mode": rng.integers(2)}
        try:
            (axis,) = _window(Node("MaxPool", "", ("x",), ("y",), words, 17, ()), np.zeros((1, 1, length)), (kernel,))
        except ShapeError:
            continue
        assert axis.blind == bool((axis.taps(include_pad=False) == 0).any())
        blind += axis.blind
    assert 50 < blind < 1000


def test_nan_is_not_hidden(tmp_path: Path) -> None:
    x = draw(1, 1, 6, 6)
    x[0, 0, 2, 3] = np.nan
    pools = [
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]),
        node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]),
        node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]),
        node("Max", ["x", "x"], ["y"]),
    ]
    single = ("Relu", "LeakyRelu", "Elu", "Clip", "Sigmoid", "HardSigmoid", "Softplus", "GlobalMaxPool", "Softmax")
    for made in (*pools, *(node(op, ["x"], ["y"]) for op in single)):
        (y,) = load(saved(model([made], {"x": x.shape}), tmp_path)).run(x)
        assert np.isnan(y).any(), made.op_type
        assert made.op_type in ("GlobalMaxPool", "Softmax") or not np.isnan(y).all()
    places = model([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], {"x": x.shape})
    places.graph.output.append(helper.make_tensor_value_info("i", INT64, None))
    y, i = load(saved(places, tmp_path)).run(x)
    assert set(i[np.isnan(y)]) == {2 * 6 + 3}


@pytest.mark.parametrize("x", [np.zeros((1, 1, 2, 2), np.uint8), np.full((1, 1, 2, 2), -np.inf, np.float32)])
def test_the_place_of_a_maximum_is_never_in_the_padding(x: Array, tmp_path: Path) -> None:
    """Where the largest value is the smallest that there is, too: the first pixel of the window."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    names = [helper.make_tensor_value_info(name, kind, None) for name in ("x", "y")]
    outputs = [names[1], helper.make_tensor_value_info("i", INT64, None)]
    pool = node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    made = helper.make_model(
        helper.make_graph([pool], "g", names[:1], outputs), opset_imports=[helper.make_opsetid("", 12)], ir_version=8
    )
    y, i = load(saved(made, tmp_path)).run(x)
    assert np.array_equal(y, np.full((1, 1, 3, 3), x[0, 0, 0, 0]))
    assert i.tolist() == [[[[0, 0, 1], [0, 0, 1], [2, 2, 3]]]]


def test_large_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    """A list of small and large ones is for NumPy a list of floats."""
    numbers = [1, 2**63 + 1, 2**64 - 1]
    constant = helper.make_tensor("t", onnx.TensorProto.UINT64, [3], numbers)
    made = model([node("Constant", [], ["y"], value=constant)], {}, {"y": None})
    made.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT64
    assert constant.uint64_data
    assert load(saved(made, tmp_path)).run()[0].tolist() == numbers


def source_of(operator: Any) -> str:
    """The source of its function, and of all functions of the same package that it names."""
    sources, left = dict[Any, str](), [operator]
    while left:
        function = left.pop()
        if isinstance(function, partial):
            left += [function.func, *function.args]
        elif function not in sources and getattr(function, "__module__", "").startswith("stridenet.interop.onnx"):
            sources[function] = inspect.getsource(function)
            words = set(re.findall(r"\w+", sources[function]))
            left += [found for word in words if inspect.isfunction(found := function.__globals__.get(word))]
    return "".join(sources.values())


@pytest.mark.parametrize("op", OPERATORS)
def test_no_operator_leaves_an_attribute_out(op: str) -> None:
    """Each attribute, in every opset, stands by its name in the code of its operator; a few are said to do nothing."""
    source = source_of(OPERATORS[op])
    nothing = {"consumed_inputs", "saturate", "round_mode", "sparse_value", "value_string", "value_strings"}
    of_training = {"ratio"} if op == "Dropout" else set[str]()
    for opset in range(6, 29):
        try:
            schema = onnx.defs.get_schema(op, opset, "")
        except onnx.defs.SchemaError:
            continue
        for attribute in schema.attributes.keys() - nothing - of_training:
            assert f'"{attribute}"' in source, attribute
