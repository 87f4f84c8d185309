from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from stridenet import cli
from stridenet.data.catalogue import open_data
from stridenet.data.loader import Loader
from stridenet.model import Model, load
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.train.evaluation import evaluate


def test_a_run_is_evaluated_on_the_test_images_of_its_data(digits_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", str(digits_run)]) == 0
    out, err = capfd.readouterr()
    results = json.loads((digits_run / "results.json").read_text())["test"]
    found = re.fullmatch(r"digits test: (.*) % of 359 images \(95 % interval (.*) to (.*)\), loss (.*)\n", out)
    assert found
    low, high = results["interval"]
    assert [*found.groups()] == [
        f"{100 * results['accuracy']:.2f}", f"{100 * low:.2f}", f"{100 * high:.2f}", f"{results['loss']:.4f}"
    ]  # fmt: skip
    assert err == ""
    assert results["accuracy"] > 0.8
    for batch_size in ("1", "7", "1000"):
        assert cli.run(["evaluate", str(digits_run / "model.safetensors"), "--batch-size", batch_size]) == 0
        assert capfd.readouterr().out == out


def test_the_same_as_one_json_document(digits_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", str(digits_run), "--json"]) == 0
    out, err = capfd.readouterr()
    assert (err, out.count("\n")) == ("", 1)
    found = json.loads(out)
    assert found.keys() == {
        "data", "origin", "classes", "n", "correct", "accuracy", "interval", "loss", "confusion",
    }  # fmt: skip
    results = json.loads((digits_run / "results.json").read_text())["test"]
    assert (found["data"], found["n"], found["correct"]) == ("digits", 359, results["correct"])
    assert found["confusion"] == results["confusion"]
    assert found["classes"] == list("0123456789")


def test_evaluating_writes_nothing(digits_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits_run.rglob("*")}
    assert cli.run(["evaluate", str(digits_run), "--data", "digits"]) == 0
    assert {path: path.stat().st_mtime_ns for path in digits_run.rglob("*")} == before


def test_other_data_must_have_the_same_classes(
    digits_run: Path, small_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", str(digits_run), "--data", str(small_data)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("stridenet: evaluate: expected the classes ('0', '1', ")


@pytest.mark.promise("F2", "A3")
@pytest.mark.parametrize(
    "recipe",
    [{}, {"data": 3}, {"data": {"name": 3}}, {"data": ["digits"]}, {"data": {"name": "digits"}, "train": "x"},
     {"data": {"name": "digits"}, "train": {"seed": -1}}, {"data": {"name": "digits"}, "train": {"seed": "x"}},
     {"data": {"name": "\x1b[31m"}}, {"data": {"name": ""}}, {"data": {"name": "/dev/zero"}}],
)  # fmt: skip
def test_a_model_may_hold_anything_as_its_recipe(
    recipe: dict[str, object],
    digits_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load(digits_run)
    Model(
        model.network, model.classes, model.image_shape, transform=model.transform, framing=model.framing, recipe=recipe
    ).save("model")
    code = cli.run(["evaluate", "model"])
    out, err = capfd.readouterr()
    assert (code == 0) == (recipe.get("train") is not None)
    assert err.count("\n") == (code != 0)
    assert "\x1b" not in err + out
    assert cli.run(["evaluate", "model", "--data", "digits"]) == 0
    accuracy = evaluate(model.network, Loader(open_data("digits").test, 64, transform=model.transform)).accuracy
    assert f"{100 * accuracy:.2f} % of 359" in capfd.readouterr().out


def test_images_of_another_shape_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], small_data: Path
) -> None:
    network = Sequential(Flatten(), Linear(64, 4, rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    Model(network, tuple("0123"), (1, 8, 8)).save(tmp_path / "model")
    assert cli.run(["evaluate", str(tmp_path / "model"), "--data", str(small_data)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "Linear(64, 4)" in err
