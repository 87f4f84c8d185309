"""The network in the browser: what it gives, and what it says of itself, is what Python gives."""

from __future__ import annotations

import ast
import base64
import inspect
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import drawn, normwise
from networks import CASES, lively, random_network
from stridenet import cli, kernels
from stridenet.data.catalogue import open_data
from stridenet.data.images import Framing
from stridenet.data.loader import to_unit
from stridenet.data.transforms import Normalize, Pad, Pipeline, Resize, SubtractMean
from stridenet.kernels import loops
from stridenet.layout import Array
from stridenet.model import Model, load
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, ReLU
from stridenet.nn.losses import cross_entropy
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential
from stridenet.optim.optimizers import SGD
from stridenet.viz import page
from stridenet.viz.explore import document_data
from stridenet.zoo.models import MODELS, lenet5

BOUND = 1e-5
ENGINE = ["loops.js", "engine.js", "seeing.js", "fitting.js"]
DIGITS = tuple("0123456789")
SHAPE = 3, 11, 10  # of the images of CASES

Engine = Callable[..., Any]


@pytest.fixture(scope="module")
def engine(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """engine(code, model, *arguments): what the function `code` gives in a page, for the network and the arguments."""
    path = tmp_path_factory.mktemp("engine") / "page.html"
    path.write_text(page.document("engine", "", scripts=ENGINE), "utf-8")
    shown = chromium.new_page()
    shown.goto(path.as_uri())

    def run(code: str, model: Model, *arguments: Any) -> Any:
        build = f"([data, ...rest]) => ({code})(Stride.build(data), ...rest)"
        return shown.evaluate(build, [document_data(model), *arguments])

    yield run
    shown.close()


def model_of(network: Layer, shape: tuple[int, ...], **options: Any) -> Model:
    """A model around a network whose output it makes flat."""
    flat = Sequential(network, Flatten(), input_shape=shape)
    (count,) = flat.output_shape(options["transform"].output_shape(shape) if "transform" in options else shape)
    return Model(flat, range(count), shape, **options)


def steps_of(model: Model, image: Array) -> list[Array]:
    """What every layer gives for an image (C, H, W), in the order of the page's steps."""
    found, x = list[Array](), image[None].astype(np.float32)
    for transform in model.transform.transforms:
        x = transform(x)
        found.append(x[0])
    walk(model.network, x, found)
    return found


def walk(layer: Layer, x: Array, found: list[Array]) -> Array:
    if isinstance(layer, Sequential):
        for _, child in layer.children():
            x = walk(child, x, found)
        return x
    if isinstance(layer, Dropout | Dropout2d):
        return x
    if isinstance(layer, Residual):
        y = walk(layer.body, x, found)
        y = y + (x if layer.shortcut is None else walk(layer.shortcut, x, found))
    else:
        y = layer.forward(x)
    found.append(y[0])
    return y


def flat(image: Array) -> list[float]:
    return image.astype(np.float32).ravel().tolist()


# The code


def test_its_kernels_are_those_of_loops_py_under_the_same_names_and_in_the_same_order() -> None:
    code = page.asset("loops.js").partition("// What loops.py takes from")[0]
    found = re.findall(r"^  function (\w+)\((.*?)\) \{$", code, re.MULTILINE)
    tree = ast.parse(inspect.getsource(loops))
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    of_training = {"channel_moments", "channel_sums", "_zeros"}  # and what JavaScript's arrays are already
    assert [name for name, _ in found] == [f.name.lstrip("_") for f in wanted if f.name not in of_training]
    known = {function.name.lstrip("_"): [a.arg for a in function.args.args] for function in wanted}
    for name, arguments in found:
        left = iter(known[name])
        assert all(argument in left for argument in arguments.split(", ")), name  # some are left out, none is moved


@pytest.mark.parametrize("name", ENGINE)
def test_its_files_are_short_and_plain(name: str) -> None:
    lines = page.asset(name).splitlines()
    assert lines[0] == '"use strict";'
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 120
    assert not re.search(r"\beval\b|innerHTML|\bFunction\(|fetch\(|import\(", page.asset(name))


# Forward

FORWARD = """(net, images) => [
  net.steps.map((step) => step.shape),
  images.map((image) => Stride.forward(net, Float32Array.from(image)).map((y) => {
    let letters = "";
    for (const byte of new Uint8Array(y.buffer, y.byteOffset, y.byteLength)) letters += String.fromCharCode(byte);
    return btoa(letters);  // a list of numbers takes its time between two processes
  })),
]"""


def compare(engine: Engine, model: Model, images: Array, bound: float = BOUND) -> None:
    """Every step of every image (N, C, H, W) has the shape and the numbers that Python gives."""
    shapes, found = engine(FORWARD, model, [flat(image) for image in images])
    for image, outputs in zip(images, found, strict=True):
        wanted = steps_of(model, image)
        assert [tuple(shape) for shape in shapes] == [y.shape for y in wanted]
        for y, exact in zip(outputs, wanted, strict=True):
            assert normwise(np.frombuffer(base64.b64decode(y), "<f4"), exact.ravel()) < bound


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_of_layer(kind: str, engine: Engine) -> None:
    images = np.random.default_rng(2).random((2, *SHAPE))
    for layer in CASES[kind]:
        body = Sequential(Conv2d(3, 3, 1, rng=np.random.default_rng(3)), deepcopy(layer))
        with kernels.use("loops"):
            compare(engine, model_of(lively(body), SHAPE), images)


MEAN = np.random.default_rng(5).random((3, 12, 10))
PIPELINES = {
    "normalize": Pipeline([Normalize([0.1, 0.2, 0.3], [0.3, 0.2, 0.7])]),
    "mean image": Pipeline([Pad(((2, 2), (1, 1)), value=0.25), SubtractMean(MEAN), Resize(8)]),
    "resize": Pipeline([Resize((5, 13)), Pad(1), Resize(8), Resize(8)]),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_every_transform(name: str, engine: Engine) -> None:
    images = np.random.default_rng(2).random((2, 3, 8, 8))
    compare(engine, model_of(Flatten(), (3, 8, 8), transform=PIPELINES[name]), images)


SEEDS = [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 400))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(seed: int, engine: Engine) -> None:
    network = random_network(seed)
    shape = network.input_shape or ()
    with kernels.use("im2col"):
        compare(engine, model_of(network, shape), np.random.default_rng(seed).random((1, *shape)))


@pytest.mark.parametrize("name", MODELS)
def test_the_networks_of_the_zoo(name: str, engine: Engine) -> None:
    network = MODELS[name](rng=np.random.default_rng(0))
    shape = network.input_shape or ()
    with kernels.use("im2col"):
        compare(engine, model_of(network, shape), np.random.default_rng(1).random((1, *shape)))


# Probabilities

PROBABILITIES = """(net, images, shares) => images.map((bytes) => {
  const image = Float32Array.from(atob(bytes), (letter) => letter.charCodeAt(0) / 255);
  return [...Stride.probabilities(net, Stride.forward(net, image))];
})"""


def probabilities(engine: Engine, model: Model, images: Array) -> Array:
    return np.array(engine(PROBABILITIES, model, [base64.b64encode(image.tobytes()).decode() for image in images]))


def learned(images: Array, targets: Array) -> Sequential:
    """A LeNet-5 after four epochs on some digits: most are right, and few probabilities are near 0.1 or 1."""
    network = lenet5(rng=np.random.default_rng(0))
    vector, x = network.pack(), to_unit(images)
    optimizer = SGD(vector, 0.05, momentum=0.9)
    with kernels.use("im2col"):
        for _ in range(4):
            for i in range(0, len(x), 32):
                vector.zero_grad()
                _, slopes = cross_entropy(network.forward(x[i : i + 32]), targets[i : i + 32])
                network.backward(slopes, need_dx=False)
                optimizer.step()
    return network


@pytest.mark.big
def test_the_probabilities_of_100_digits_of_mnist(mnist_folder: Path, engine: Engine) -> None:
    data = open_data(str(mnist_folder))
    network = learned(data.train.images[:1600], data.train.targets[:1600])
    model, images = Model(network, DIGITS, (1, 28, 28)), data.test.images[:100]
    found, wanted = probabilities(engine, model, images), model.predict_proba(images)
    assert np.abs(found - wanted).max() < 1e-4
    assert (wanted.argmax(axis=1) == data.test.targets[:100]).mean() > 0.8
    assert 0.2 < np.quantile(wanted.max(axis=1), 0.1) < 0.9


def test_the_probabilities_of_a_run(digits_run: Path, engine: Engine) -> None:
    model, images = load(digits_run), open_data("digits").test.images[:100]
    found, wanted = probabilities(engine, model, images), model.predict_proba(images)
    assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.slow
def test_the_probabilities_of_1000_digits_after_a_recipe(mnist_folder: Path, tmp_path: Path, engine: Engine) -> None:
    for name in ("lenet5-mnist", "s1-lenet5-1998"):
        words = [name, "--data", str(mnist_folder), "--epochs", "1", "--out", str(tmp_path / name)]
        assert cli.run(["train", *words]) == 0
        model, images = load(tmp_path / name), open_data(str(mnist_folder)).test.images[:1000]
        found, wanted = probabilities(engine, model, images), model.predict_proba(images)
        assert np.abs(found - wanted).max() < 1e-4


# What a number is made of

EXPLAIN = """(net, image, places) => {
  const x = Float32Array.from(image), outputs = Stride.forward(net, x);
  return places.map(([step, index]) => ({
    ...Stride.explain(net, x, outputs, step, index),
    found: outputs[step][index],
    inputs: Stride.inputs(net, x, outputs, step).map((input) => [...input]),
    shape: net.steps[step].inputs.map((from) => from < 0 ? net.imageShape : net.steps[from].shape)[0],
    slopes: net.steps[step].inputs[0] < 0 ? [...Stride.gradient(net, x, outputs, step, index)] : null,
  }));
}"""
LINEAR = {"sum", "mean", "max", "add", "normalize", "copy"}  # a weight is a slope


def check(made: dict[str, Any]) -> None:
    """The parts of a number are its inputs, in their places, and make it up."""
    terms, shape = made["terms"], [*made["shape"], 1, 1][:3]
    assert made["value"] == made["found"]
    products = sum(term["product"] for term in terms)
    assert made["sum"] == pytest.approx(products, rel=1e-12, abs=1e-12)
    if made["rule"] != "softmax":
        assert made["value"] == pytest.approx(products + made["bias"], rel=1e-6, abs=1e-6)
    for term in terms:
        place = term["c"], term["row"], term["column"]
        inside = all(0 <= i < n for i, n in zip(place, shape, strict=True))
        assert inside == (term["at"] >= 0)
        if inside:
            assert term["at"] == np.ravel_multi_index(place, shape)
            assert term["x"] == made["inputs"][term["input"]][term["at"]]
    if made["rule"] == "mean":
        assert sum(term["weight"] for term in terms) == pytest.approx(1)
    if made["rule"] in LINEAR and made["slopes"]:
        slopes = np.zeros(len(made["slopes"]))
        for term in terms:
            slopes[term["at"]] += term["weight"] if term["at"] >= 0 else 0
        assert normwise(np.array(made["slopes"]), slopes) < 1e-6


def places_of(model: Model, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Some outputs of every step: the first, the last, and three others."""
    sizes = [y.size for y in steps_of(model, np.zeros(model.image_shape))]
    return [(i, int(j)) for i, size in enumerate(sizes) for j in {0, size - 1, *rng.integers(0, size, 3).tolist()}]


@pytest.mark.parametrize("kind", CASES)
def test_what_a_number_of_every_kind_of_layer_is_made_of(kind: str, engine: Engine) -> None:
    rng = np.random.default_rng(4)
    for layer in CASES[kind]:
        model = model_of(lively(deepcopy(layer)), SHAPE)
        for made in engine(EXPLAIN, model, flat(rng.random(SHAPE)), places_of(model, rng)):
            check(made)


@pytest.mark.parametrize("name", PIPELINES)
def test_what_a_number_of_every_transform_is_made_of(name: str, engine: Engine) -> None:
    model, rng = model_of(Flatten(), (3, 8, 8), transform=PIPELINES[name]), np.random.default_rng(4)
    for made in engine(EXPLAIN, model, flat(rng.random((3, 8, 8))), places_of(model, rng)):
        check(made)


def test_the_terms_stand_in_the_order_of_the_loops(engine: Engine) -> None:
    """A window that begins on the padding, of the second of two groups: c, then r, then s."""
    layer = Conv2d(4, 6, (2, 3), stride=2, padding=1, dilation=(1, 2), groups=2, rng=np.random.default_rng(0))
    model = model_of(layer, (4, 6, 7))
    (made,) = engine(EXPLAIN, model, flat(np.random.default_rng(1).random((4, 6, 7))), [(0, 4 * 4 * 3 + 1)])
    wanted = [(c, r - 1, 2 + 2 * s - 1) for c in (2, 3) for r in range(2) for s in range(3)]
    assert [(term["c"], term["row"], term["column"]) for term in made["terms"]] == wanted
    assert [term["weight"] for term in made["terms"]] == flat(layer.weight.value[4])
    assert [term["at"] < 0 for term in made["terms"]] == [row < 0 for _, row, _ in wanted]
    assert made["formula"] == "y = Σ x·w + b"


def from_rows(*rows: str) -> Array:
    return np.array([[list(map(float, row.split())) for row in channel.split("/")] for channel in rows])


def test_the_sums_that_report_s4_works_out_by_hand(engine: Engine) -> None:
    """0 + 2 + 0 + 1 = 3 and -3 + 0 - 3 + 1 = -5: a 5x5x3 image, a padding of 1, a 3x3x3 filter, a stride of 2."""
    image = np.zeros((3, 5, 5))
    image[:, :2, :4] = from_rows("1 1 2 2/1 1 1 2", "0 1 2 0/2 2 1 1", "2 2 0 1/0 0 2 1")  # what is printed of it
    layer = Conv2d(3, 2, 3, stride=2, padding=1, rng=np.random.default_rng(0))
    layer.weight.value[0] = from_rows("1 1 1/-1 -1 0/-1 1 0", "-1 -1 1/-1 1 0/-1 1 0", "1 0 -1/0 0 0/1 -1 -1")
    layer.bias.value[0] = 1  # pyright: ignore[reportOptionalMemberAccess]
    first, second = engine(EXPLAIN, model_of(layer, (3, 5, 5)), flat(image), [(0, 0), (0, 1)])
    for made, parts, value in ((first, [0, 2, 0], 3), (second, [-3, 0, -3], -5)):
        assert made["value"] == made["found"] == value
        assert (made["sum"], made["bias"], len(made["terms"])) == (value - 1, 1, 27)
        assert [sum(t["product"] for t in made["terms"] if t["c"] == c) for c in range(3)] == parts
    assert sum(term["at"] < 0 for term in first["terms"]) == 15  # five of nine taps of the corner are padding
    assert sum(term["at"] < 0 for term in second["terms"]) == 9


def test_the_mean_that_report_s4_works_out_by_hand(engine: Engine) -> None:
    model = model_of(deepcopy(CASES["AvgPool2d"][0]), (1, 2, 2))
    (made,) = engine(EXPLAIN, model, [0.25, 0.25, 0.5, 0.75], [(0, 0)])
    assert (made["value"], made["rule"], made["formula"]) == (7 / 16, "mean", "y = Σ x / 4")


# The gradient

GRADIENTS = """(net, image, places) => {
  const x = Float32Array.from(image), outputs = Stride.forward(net, x);
  return places.map(([step, index]) => [...Stride.gradient(net, x, outputs, step, index)]);
}"""


def gradients(model: Model, image: Array, indices: list[int]) -> list[Array]:
    """The derivative of each of these scores by the image, from the library's own backward."""
    network, found = deepcopy(model.network).freeze().train(), list[Array]()
    for layer in network.walk():
        if isinstance(layer, Dropout | Dropout2d):  # it does nothing but in training
            layer.forward = layer.backward = lambda x, **_: x
    for index in indices:
        scores = network.forward(image[None].astype(np.float32))
        dy = np.zeros_like(scores)
        dy[0, index] = 1
        dx = network.backward(dy)
        assert dx is not None
        found.append(dx[0])
    return found


def compare_gradients(engine: Engine, model: Model, image: Array, bound: float = BOUND) -> None:
    last, count = len(steps_of(model, image)) - 1, len(model.classes)
    indices = sorted({0, count // 2, count - 1})
    found = engine(GRADIENTS, model, flat(image), [(last, index) for index in indices])
    for dx, wanted in zip(found, gradients(model, image, indices), strict=True):
        assert normwise(np.array(dx), wanted.ravel()) < bound


@pytest.mark.parametrize("kind", CASES)
def test_the_gradient_of_every_kind_of_layer(kind: str, engine: Engine) -> None:
    """Images of 0, 1/2 and 1: many windows have several maxima, many numbers are 0."""
    rng = np.random.default_rng(6)
    image, smooth = rng.integers(0, 3, SHAPE) / 2, rng.random(SHAPE)
    for layer in CASES[kind]:
        with kernels.use("im2col"):
            compare_gradients(engine, model_of(lively(deepcopy(layer)), SHAPE), image)
            behind = Sequential(Conv2d(3, 3, 3, padding=1, rng=rng), deepcopy(layer))
            compare_gradients(engine, model_of(lively(behind), SHAPE), smooth)


def test_the_slope_at_zero_is_that_of_negative_numbers(engine: Engine) -> None:
    for layer, slope in ((ReLU(), 0.0), (LeakyReLU(0.25), 0.25)):
        found = engine(GRADIENTS, model_of(layer, (1, 1, 3)), [0, 0.5, 0], [(0, 0), (0, 1)])
        assert found == [[slope, 0, 0], [0, 1, 0]]


def test_of_two_maxima_the_first_has_the_gradient(engine: Engine) -> None:
    model = model_of(MaxPool2d(2), (1, 2, 2))
    assert engine(GRADIENTS, model, [0.5, 1, 1, 0], [(0, 0)]) == [[0, 1, 0, 0]]
    assert engine(GRADIENTS, model, [0, 0, 0, 0], [(0, 0)]) == [[1, 0, 0, 0]]


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_the_gradient_of_random_networks(seed: int, engine: Engine) -> None:
    """1 - y^2 of a saturated tanh has few digits left."""
    network = random_network(seed)
    shape = network.input_shape or ()
    with kernels.use("im2col"):
        compare_gradients(engine, model_of(network, shape), np.random.default_rng(seed).random(shape), 1e-3)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_gradient_of_transforms(name: str, engine: Engine) -> None:
    """They are affine: a column of the matrix is what a pixel of 1 changes."""
    pipeline, image = PIPELINES[name], np.random.default_rng(2).random((3, 8, 8))
    model = model_of(Flatten(), (3, 8, 8), transform=pipeline)
    columns = pipeline(np.eye(192).reshape(192, 3, 8, 8)) - pipeline(np.zeros((1, 3, 8, 8)))
    matrix = columns.reshape(192, -1)
    indices = [0, matrix.shape[1] // 2, matrix.shape[1] - 1]
    last = len(pipeline.transforms)
    for index, dx in zip(
        indices, engine(GRADIENTS, model, flat(image), [(last, index) for index in indices]), strict=True
    ):
        assert normwise(np.array(dx), matrix[:, index]) < 1e-6


# Occlusion

OCCLUSION = """(net, image, k, options) => {
  const x = Float32Array.from(image), seen = [];
  const work = Stride.occlusion(net, x, Stride.forward(net, x), k, options);
  let next = work.next();
  for (; !next.done; next = work.next()) seen.push(next.value);
  return { ...next.value, drop: [...next.value.drop], seen };
}"""


@pytest.mark.parametrize("options", [{}, {"size": 3, "stride": 2, "fill": 0.25}, {"size": 20, "stride": 1, "fill": 0}])
def test_what_a_covered_square_costs(options: dict[str, Any], engine: Engine) -> None:
    network = lively(Sequential(Conv2d(1, 2, 3, rng=np.random.default_rng(0)), Flatten(), input_shape=(1, 9, 8)))
    network = Sequential(network, Linear(84, 3, rng=np.random.default_rng(1)), input_shape=(1, 9, 8))
    model = Model(network, "abc", (1, 9, 8), framing=Framing(1.0, 0.5))
    image = np.random.default_rng(2).random((1, 9, 8)).astype(np.float32)
    found = engine(OCCLUSION, model, flat(image), 1, options)
    size, stride, fill = found["size"], found["stride"], options.get("fill", 1.0)
    assert (size, stride) == (options.get("size", 2), options.get("stride", 1))
    assert found["seen"][-1] == 1
    assert found["seen"] == sorted(found["seen"])
    squares = list(product(range(found["rows"]), range(found["columns"])))
    covered, seen = np.repeat(image[None], len(squares), axis=0), np.zeros((9, 8), bool)
    for i, (row, column) in enumerate(squares):
        covered[i, 0, row * stride : row * stride + size, column * stride : column * stride + size] = fill
        seen[row * stride : row * stride + size, column * stride : column * stride + size] = True
    assert seen.all()
    wanted = model.predict_proba(image)[0, 1] - model.predict_proba(covered)[:, 1]
    assert np.abs(np.array(found["drop"]) - wanted).max() < 1e-6
    assert np.ptp(wanted) > 1e-3 or len(wanted) == 1


# Pictures

FIT = """(net, pictures) => pictures.map(({ width, height, bytes }) => {
  const data = Uint8ClampedArray.from(atob(bytes), (letter) => letter.charCodeAt(0));
  return [...Stride.fit(net, { width, height, data })];
})"""


def fitted(engine: Engine, model: Model, pictures: list[Image.Image]) -> Array:
    rows = [
        {
            "width": picture.width,
            "height": picture.height,
            "bytes": base64.b64encode(picture.convert("RGBA").tobytes()).decode(),
        }
        for picture in pictures
    ]
    return np.array(engine(FIT, model, rows)).reshape(-1, *model.image_shape)


def read(model: Model, pictures: list[Image.Image], path: Path) -> Array:
    found: list[Array] = []
    for picture in pictures:
        picture.save(path)
        found.append(model.read(path)[0])
    return np.array(found)


MORE = Framing(1.0, 0.9), Framing(0.02, 0.5)
FRAMINGS = [None, Framing(0.0, 20 / 28), *(pytest.param(framing, marks=pytest.mark.slow) for framing in MORE)]
SIZES = [(28, 26), (60, 40), (31, 90), (12, 11), (280, 280)]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_picture_becomes_the_image_that_the_model_reads(
    framing: Framing | None, engine: Engine, tmp_path: Path
) -> None:
    model, rng = Model(Flatten(), range(28 * 26), (1, 28, 26), framing=framing), np.random.default_rng(0)
    tones = [(20, 240), (250, 5), (90, 96)]  # dark on light, light on dark, next to nothing
    pictures = [Image.fromarray(drawn(rng, size, *tone)) for size, tone in product(SIZES, tones)]
    faint = np.full((90, 90), 255, np.uint8)
    faint[20:60, 30:36], faint[20:60, 70:76] = 0, 185  # the second line has 0.27 of the strength: it is no ink
    pictures += [Image.fromarray(drawn(rng, (700, 530), 20, 240)), Image.fromarray(faint), Image.new("L", (40, 40), 9)]
    found, wanted = fitted(engine, model, pictures), read(model, pictures, tmp_path / "p.png")
    assert np.abs(found - wanted).max(axis=(1, 2, 3)).tolist() == pytest.approx([0] * len(pictures), abs=1e-5)
    assert (np.ptp(wanted, axis=(1, 2, 3)) > 0.5).sum() >= 11


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_and_transparency(channels: int, engine: Engine, tmp_path: Path) -> None:
    framing = Framing(0.0, 0.7) if channels == 1 else None
    shape = channels, 16, 16
    model = Model(Flatten(), range(256 * channels), shape, framing=framing)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 60, (50, 70, 4), np.uint8)
    pixels[..., 3] = 0  # it is transparent but for a line
    pixels[10:40, 30:38, 3] = rng.integers(200, 256, (30, 8))
    photo = Image.fromarray(rng.integers(0, 256, (23, 40, 3), np.uint8))
    pictures = [Image.fromarray(pixels), photo, photo.resize((16, 16)), Image.new("RGBA", (9, 9), (0, 0, 0, 0))]
    found, wanted = fitted(engine, model, pictures), read(model, pictures, tmp_path / "p.png")
    assert np.abs(found - wanted).max() < 1e-5


def test_other_channels_are_refused(engine: Engine) -> None:
    call = "Stride.fit(net, { width: 1, height: 1, data: [0, 0, 0, 0] })"
    message = engine(
        f"(net) => {{ try {{ {call}; }} catch (error) {{ return `${{error}}`; }} }}",
        Model(Flatten(), range(8), (2, 2, 2)),
    )
    assert message == "RangeError: expected a network of 1 or 3 channels, got 2"
