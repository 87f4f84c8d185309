from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import cli
from stridenet.cli.summary import summary as command
from stridenet.data.transforms import Normalize, Pad, Pipeline
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.layer import Layer
from stridenet.viz.summary import summary
from stridenet.zoo import recipes
from stridenet.zoo.models import MODELS, lenet5


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(autouse=True)
def the_same_peak_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured may be another number the next time: an array is copied where its memory lies badly."""

    def peak(network: Layer, images: Callable[[int], Array], n: int) -> int:
        return 20 * images(n).nbytes

    monkeypatch.setattr("stridenet.viz.summary.step_bytes", peak)


@pytest.fixture
def stridenet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """`stridenet ARGUMENTS`, run in an empty folder."""
    monkeypatch.setitem(cli.cli.commands, "summary", command)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        code = cli.run(list(arguments))
        return Outcome(code, *capsys.readouterr())

    return run


def make_model(**changes: Any) -> Model:
    """LeNet-5 for 28x28 digits in a frame of two."""
    arguments: dict[str, Any] = {
        "transform": Pipeline([Pad(2), Normalize([0.13066047712053577], [0.30810780385646264])]),
        "recipe": {"name": "lenet5-mnist"},
        "provenance": {"data": "mnist", "images": 55000},
    }
    network = lenet5(input_size=32, rng=np.random.default_rng(0))
    classes = changes.pop("classes", tuple("0123456789"))
    return Model(network, classes, (1, 28, 28), **arguments | changes)


def table(side: int) -> str:
    return summary(lenet5(input_size=side, rng=np.random.default_rng(0)), (1, side, side)) + "\n"


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe(stridenet: Any, name: str) -> None:
    done = stridenet("summary", name)
    network = MODELS[(model := recipes.load(name)["model"])["name"]](rng=np.random.default_rng(0), **model["args"])
    assert network.input_shape is not None
    assert (done.code, done.err) == (0, "")
    assert done.out == summary(network, network.input_shape) + "\n"


def test_a_recipe_of_ones_own(stridenet: Any) -> None:
    text = recipes.source("lenet5-mnist").replace('name = "lenet5"', 'name = "lenet5"\nargs = { input_size = 32 }')
    Path("mine.toml").write_text(text)
    done = stridenet("summary", "mine.toml")
    assert (done.code, done.out) == (0, table(32))


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_may_name_every_network_of_the_zoo(stridenet: Any, name: str) -> None:
    Path("mine.toml").write_text(recipes.source("lenet5-mnist").replace('name = "lenet5"', f'name = "{name}"'))
    network = MODELS[name](rng=np.random.default_rng(0))
    assert network.input_shape is not None
    done = stridenet("summary", "mine.toml")
    assert (done.code, done.err) == (0, "")
    assert done.out == summary(network, network.input_shape) + "\n"


def test_a_model_file_and_a_run_folder(stridenet: Any) -> None:
    Path("run").mkdir()
    make_model().save("run/model.safetensors")
    done = stridenet("summary", "run/model.safetensors")
    assert (done.code, done.err) == (0, "")
    origin = """
classes      10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
trained      with recipe lenet5-mnist on 55 000 images of mnist
takes        images 1x28x28, Pad(padding=[[2, 2], [2, 2]], value=0.0),
             Normalize(mean=[0.13066047712053577], std=[0.30810780385646264])
"""
    assert done.out == table(32) + origin
    assert stridenet("summary", "run").out == done.out


def test_a_model_of_unknown_origin(stridenet: Any) -> None:
    make_model(recipe=None, provenance=None).save("model.safetensors")
    assert "\ntrained      with no recipe on unknown data\n" in stridenet("summary", "model.safetensors").out


@pytest.mark.parametrize("odd", ["\x1b[31m\a\n", "x" * 500, ["a"] * 200, {"a": None}, "数"])
def test_whatever_the_file_says_is_shown_in_short_clean_lines(stridenet: Any, odd: Any) -> None:
    classes = tuple(f"{odd}{i}" for i in range(10))
    make_model(classes=classes, recipe={"name": odd}, provenance={"data": odd, "images": odd}).save("m.safetensors")
    done = stridenet("summary", "m.safetensors")
    assert done.code == 0
    lines = done.out.splitlines()
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    assert len(lines) <= len(table(32).splitlines()) + 7


def test_a_recipe_goes_before_a_folder_of_its_name(stridenet: Any) -> None:
    Path("lenet5-mnist").mkdir()
    make_model().save("lenet5-mnist/model.safetensors")
    assert stridenet("summary", "lenet5-mnist").out == table(28)
    assert stridenet("summary", "./lenet5-mnist").out.startswith(table(32))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lenet5-minst", "did you mean 'lenet5-mnist'?"),
        ("qqq", "`stridenet recipes` lists the recipes"),
        ("", "`stridenet recipes` lists the recipes"),
        ("a\x1b[31mb", "`stridenet recipes` lists the recipes"),
    ],
)
def test_an_unknown_name(stridenet: Any, name: str, hint: str) -> None:
    done = stridenet("summary", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("stridenet: summary: expected a recipe or a path (of a .toml file, a model file, a run")
    assert done.err.endswith(f"; {hint}\n")
    assert done.err[:-1].isprintable()


def test_a_missing_toml_file(stridenet: Any) -> None:
    done = stridenet("summary", "absent.toml")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("stridenet: absent.toml: ")
    assert done.err.count("\n") == 1


def test_a_folder_that_is_no_run(stridenet: Any) -> None:
    Path("empty").mkdir()
    done = stridenet("summary", "empty")
    assert (done.code, done.out) == (1, "")
    assert "empty: expected a run folder" in done.err


def test_a_file_that_is_no_model(stridenet: Any) -> None:
    Path("photo.png").write_bytes(b"\x89PNG")
    done = stridenet("summary", "photo.png")
    assert (done.code, done.out) == (1, "")
    assert "photo.png" in done.err


@pytest.mark.parametrize("arguments", [[], ["lenet5-mnist", "lenet5-digits"]])
def test_exactly_one_source(stridenet: Any, arguments: list[str]) -> None:
    done = stridenet("summary", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("See stridenet summary --help.\n")


def test_the_same_as_one_json_document(stridenet: Any) -> None:
    done = stridenet("summary", "lenet5-mnist", "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    found = json.loads(done.out)
    assert found.keys() == {"input_shape", "layers", "total"}
    assert found["input_shape"] == [1, 28, 28]
    assert found["total"]["parameters"] == sum(layer["parameters"] for layer in found["layers"]) == 44_426
    assert found["layers"][0]["layer"].startswith("Conv2d(1, 6")
    make_model(classes=tuple(f"数{i}" for i in range(10))).save("model.safetensors")
    done = stridenet("summary", "model.safetensors", "--json")
    assert done.out.isascii()
    found = json.loads(done.out)
    assert found.keys() == {
        "input_shape", "layers", "total", "classes", "image_shape", "transform", "recipe", "provenance",
    }  # fmt: skip
    assert (found["classes"][9], found["input_shape"], found["image_shape"]) == ("数9", [1, 32, 32], [1, 28, 28])


def test_help_has_examples(stridenet: Any) -> None:
    done = stridenet("summary", "--help")
    assert done.code == 0
    assert "RECIPE|MODEL" in done.out
    assert "stridenet summary runs/lenet5-mnist-001" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
