"""The page of a model: what is in it, and that no name in it is ever more than text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Browse
from helpers import HOSTILE_NAMES
from networks import CASES, lively
from stridenet.data.dataset import Dataset
from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pipeline, SubtractMean
from stridenet.errors import ShapeError, UnsupportedModelError
from stridenet.model import Model
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.viz import explore as module
from stridenet.viz.explore import document_data, explore, explorer
from stridenet.zoo.models import lenet5, pynet

DIGITS = tuple("0123456789")


def small(classes: tuple[str, ...] = ("a", "b"), **options: Any) -> Model:
    network = Sequential(Flatten(), Linear(64, len(classes), rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    return Model(network, classes, (1, 8, 8), **options)


def data_of(text: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert len(found) == 1
    return json.loads(found[0])


# What the scripts are given


def test_the_layers_with_their_weights() -> None:
    rng = np.random.default_rng(0)
    body = Sequential(Conv2d(2, 2, 3, padding=1, rng=rng), Dropout(0.5), ReLU())
    network = Sequential(Conv2d(1, 2, 3, rng=rng), Residual(body), Flatten(), input_shape=(1, 4, 4))
    pipeline = Pipeline([Normalize([0.123456789], [0.25]), SubtractMean(np.full((1, 4, 4), 0.25))])
    model = Model(lively(network), DIGITS[:8], (1, 4, 4), transform=pipeline, framing=Framing(0.0, 0.75))
    data = document_data(model)
    assert (data["title"], data["imageShape"], data["classes"]) == ("model", [1, 4, 4], list(DIGITS[:8]))
    assert (data["framing"], data["samples"]) == ({"background": 0.0, "extent": 0.75}, [])
    assert (data["parameters"], data["fixed"]) == (2 * 9 + 2 + 2 * 18 + 2, 0)
    titles = [(layer["name"], layer["title"]) for layer in data["layers"]]
    assert titles == [
        ("transform.0", "Normalize(mean=[0.1235], std=[0.25])"),
        ("transform.1", "SubtractMean(mean of 1x4x4)"),
        ("0", "Conv2d(1, 2, 3)"),
        ("1", "Residual"),
        ("2", "Flatten()"),
    ]
    ways = data["layers"][3]["settings"]
    assert [layer["name"] for layer in ways["body"]] == ["1.body.0", "1.body.2"]
    assert ways["shortcut"] == []
    assert ways["body"][0]["settings"]["padding"] == ((1, 1), (1, 1))
    floats = np.frombuffer(base64.b64decode(data["floats"]), "<f4")
    wanted = network.state_dict() | {"transform.1.mean": np.full((1, 4, 4), 0.25)}
    assert data["weights"].keys() == wanted.keys()
    for name, place in data["weights"].items():
        weight = wanted[name]
        assert place["shape"] == list(weight.shape)
        assert np.array_equal(floats[place["at"] : place["at"] + weight.size], weight.ravel())
    assert len(floats) == sum(weight.size for weight in wanted.values())


def test_one_sample_of_each_class_at_most_ten() -> None:
    targets = np.array([1, 0, 1, *range(11, -1, -1)])
    images = np.arange(15 * 64, dtype=np.int64).reshape(15, 1, 8, 8) % 251
    names = tuple(f"class {k}" for k in range(12))
    for given in (images.astype(np.uint8), images / 255):
        samples = document_data(small(names), Dataset(given, targets, names))["samples"]
        assert [sample["label"] for sample in samples] == list(names[:10])
        for sample, place in zip(samples, [1, 0, *range(12, 4, -1)], strict=True):
            pixels = np.frombuffer(base64.b64decode(sample["pixels"]), np.uint8)
            assert np.array_equal(pixels, images[place].ravel())
    with pytest.raises(ShapeError, match=r"explore: expected images of 1x8x8, got 1x4x16 in the data"):
        document_data(small(names), Dataset(images.astype(np.uint8).reshape(15, 1, 4, 16), targets, names))


# The page


@pytest.mark.parametrize(("make", "size"), [(lenet5, 28), (pynet, 32)])
def test_lenet5_takes_less_than_600_kb(make: Any, size: int, tmp_path: Path) -> None:
    """With the samples of ten classes, 44 426 and 61 706 weights."""
    model = Model(make(rng=np.random.default_rng(0)), DIGITS, (1, size, size), framing=Framing(0.0, 20 / 28))
    images = np.random.default_rng(0).integers(0, 256, (10, 1, size, size), np.uint8)
    explore(model, tmp_path / "page.html", samples=Dataset(images, np.arange(10), DIGITS))
    assert (tmp_path / "page.html").stat().st_size < 600_000


def test_equal_models_give_equal_bytes_and_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    explore(small(), path)
    first = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"page\.html: expected a path that is not there yet; overwrite=True"):
        explore(small(("c", "d")), path)
    assert path.read_bytes() == first
    explore(small(), path, overwrite=True)
    assert path.read_bytes() == first
    explore(small(("c", "d")), path, overwrite=True)
    assert path.read_bytes() != first


def test_it_names_no_place_but_itself() -> None:
    """No address of anything, in no script and no style: what a page cannot name it cannot fetch."""
    text = explorer(small())
    assert not re.search(r"(?:src|href|url|import)\s*[=(]\s*[\"']?(?!data:|#)\w*:?//", text)
    assert "Content-Security-Policy" in text


@pytest.mark.promise("S6")
def test_no_hostile_name_stands_in_the_page_as_it_is() -> None:
    names = HOSTILE_NAMES
    model = small(names, recipe={"name": names[0]}, framing=Framing(0.0, 0.5))
    samples = Dataset(np.zeros((40, 1, 8, 8), np.uint8), np.arange(40), names)
    text = explorer(model, samples)
    assert [name for name in names if name in text] == []
    assert data_of(text)["classes"] == list(names)
    assert len(re.findall("<script", text)) == len(module.SCRIPTS) + 1
    for name in names:
        page = explorer(small(("a",), recipe={"name": name}))
        assert name not in page
        assert data_of(page)["title"] == name


@pytest.mark.promise("S6")
@pytest.mark.parametrize("start", range(0, 40, 20))
def test_the_browser_shows_hostile_names_and_runs_none(start: int, browse: Browse, tmp_path: Path) -> None:
    names = HOSTILE_NAMES[start : start + 20]
    model = small(names, recipe={"name": names[0]}, framing=Framing(0.0, 0.5))
    samples = Dataset(np.full((20, 1, 8, 8), 200, np.uint8), np.arange(20), names)
    explore(model, tmp_path / "page.html", samples=samples)
    with browse(tmp_path / "page.html") as shown:
        said: list[str] = []
        shown.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        shown.wait_for_timeout(100)  # milliseconds
        scripts = shown.evaluate("document.scripts.length")
        assert (said, scripts) == ([], len(module.SCRIPTS) + 1)
        assert shown.evaluate("document.querySelectorAll('iframe, base, embed, object, img[onerror]').length") == 0


SOME = ("AvgPool2d", "LogSoftmax", "RBF", "Residual", "TableConv2d")


@pytest.mark.parametrize(
    "kind", [kind if kind in SOME else pytest.param(kind, marks=pytest.mark.slow) for kind in CASES]
)
def test_every_kind_of_layer_has_its_page(kind: str, browse: Browse, tmp_path: Path) -> None:
    """All its parts at once; `browse` finds what goes wrong."""
    network = Sequential(*(Sequential(layer, Flatten()) for layer in CASES[kind][:1]), input_shape=(3, 11, 10))
    (count,) = network.output_shape((3, 11, 10))
    names = [str(k) for k in range(count)]
    samples = Dataset(np.random.default_rng(0).random((1, 3, 11, 10)), np.array([0]), tuple(names))
    explore(Model(network, names, (3, 11, 10)), tmp_path / "page.html", samples=samples)
    with browse(tmp_path / "page.html") as shown:
        assert shown.evaluate("Stride.build(JSON.parse(document.getElementById('data').textContent)).steps.length") > 0


# What cannot be


class Strange(ReLU):
    """Not what stridenet means by it."""


def test_what_the_page_has_not_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(Sequential(Strange(), Flatten(), input_shape=(1, 2, 1)), ("a", "b"), (1, 2, 1))
    with pytest.raises(UnsupportedModelError, match=r"^explore: expected layers of stridenet, got a Strange$"):
        explore(model, tmp_path / "page.html")
    monkeypatch.setattr(module, "MOST_NUMBERS", 129)
    with pytest.raises(UnsupportedModelError, match="expected at most 129 weights for a browser, got 130"):
        explore(small(), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
