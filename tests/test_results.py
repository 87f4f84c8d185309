"""The stored measurements: the page says what the files say, and the files what was promised."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from stridenet.train.metrics import wilson_interval
from stridenet.zoo import recipes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def stored(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize(("script", "page"), [("tables", "results"), ("speed_page", "benchmarks")])
def test_a_page_is_what_the_files_render_to(monkeypatch: pytest.MonkeyPatch, script: str, page: str) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    render = runpy.run_path(str(ROOT / "benchmarks" / f"{script}.py"))["render"]
    assert (ROOT / "docs" / f"{page}.md").read_text("utf-8") == render(RESULTS), "run python benchmarks/tables.py"


@pytest.mark.parametrize(("name", "images", "figure"), [("lenet5-mnist", 10_000, 0.991), ("lenet5-digits", 359, 0.975)])
def test_a_recipe_reaches_its_figure(name: str, images: int, figure: float) -> None:
    found = stored(name)
    tests = [run["test"] for run in found["runs"]]
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2, 3, 4]
    assert [test["n"] for test in tests] == [images] * 5
    for test in tests:
        assert test["accuracy"] == test["correct"] / images
        assert test["interval"] == pytest.approx(wilson_interval(test["correct"], images))
    assert found["mean"] == pytest.approx(mean(test["accuracy"] for test in tests))
    assert found["mean"] >= figure


@pytest.mark.parametrize("name", ["lenet5-mnist", "lenet5-digits"])
def test_the_figures_are_of_the_recipe_as_it_is(name: str) -> None:
    recipe = recipes.load(name)
    del recipe["train"]["seed"]
    assert stored(name)["recipe"] == recipe, "run python benchmarks/reproduce.py again"


def test_an_epoch_takes_at_most_1_6_times_that_of_pytorch() -> None:
    found = stored("lenet5_epoch")
    settings, seconds = found["settings"], found["seconds"]
    assert settings["recipe"] == recipes.load("lenet5-mnist")
    assert settings["steps"] is None
    assert settings["pairs"] >= 5
    assert {len(times) for times in seconds.values()} == {settings["pairs"]}
    assert found["ratio"]["median"] <= 1.6
    accuracies = found["validation_accuracy_of_one_epoch"].values()
    assert max(accuracies) - min(accuracies) <= 0.01


def test_the_start_is_quick() -> None:
    found = stored("startup")
    assert found["settings"]["runs"] >= 20
    assert found["import_added_ms"]["median"] <= 30
    assert found["help_ratio"]["median"] < 3


@pytest.mark.promise("M1")
def test_an_evaluation_takes_little_memory() -> None:
    found = stored("memory")
    assert found["settings"] == {"images": 60_000, "batch_size": 256}
    assert found["added_mb"] <= 64
    assert found["peak_mb"] < 300
