"""The stored measurements: the page says what the files say, and the files what was promised."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
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


SYSTEMS = sorted(path.stem for path in (RESULTS / "systems").glob("*.json"))
SYSTEM_PAGES = [ROOT / "docs" / "systems.md", *sorted((ROOT / "docs" / "systems").glob("*.md"))]


def systems_page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "systems_page.py"))


@pytest.mark.parametrize("page", SYSTEM_PAGES, ids=lambda page: page.stem)
def test_the_figures_of_a_system_are_those_of_its_files(monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
    text, script = page.read_text("utf-8"), systems_page(monkeypatch)
    assert text == script["fill"](text, RESULTS / "systems"), "run python benchmarks/tables.py"
    marked = [name for _, name, _ in script["MARKED"].findall(text)]
    own = [name for name in script["NAMES"] if name[:2] == page.stem]
    assert sorted(marked) == (["all"] if page.stem == "systems" else sorted(own))


def test_every_system_has_been_measured() -> None:
    assert [name for name in recipes.names() if re.match(r"s\d-", name)] == SYSTEMS, "run python benchmarks/systems.py"


def trained_by(recipe: dict[str, Any]) -> dict[str, Any]:
    """What a figure depends on: all of a recipe but its seed and what the doctor expects of it."""
    training = {key: value for key, value in recipe["train"].items() if key != "seed"}
    return {key: value for key, value in recipe.items() if key != "notes"} | {"train": training}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_reaches_its_published_figures_or_its_page_says_why_not(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found, recipe = stored(f"systems/{name}"), recipes.load(name)
    assert trained_by(found["recipe"]) == trained_by(recipe), "run python benchmarks/systems.py again"
    seeds, reached = [run["seed"] for run in found["runs"]], True
    assert seeds[:3] == [0, 1, 2][: len(seeds)]
    for part, accuracy in found["accuracy"].items():
        judged = [run[part] for run in found["runs"]]
        assert all(one["accuracy"] == one["correct"] / one["n"] for one in judged)
        assert accuracy["mean"] == pytest.approx(mean(one["accuracy"] for one in judged))
        reached = reached and accuracy["mean"] >= recipe["published"].get(part, 0.0)
    if "log" in found:
        early, later = systems_page(monkeypatch)["bands"](found["log"])
        reached = reached and early <= 1.25 and later <= 1.5
    assert reached is (name not in systems_page(monkeypatch)["SHORT"])
    assert {run["test"]["n"] for run in found["runs"]} == {1000 if name == "s4-cifar10" else 10_000}


def test_the_log_of_s2_is_compared_from_where_learning_sets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = runpy.run_path(str(ROOT / "benchmarks" / "systems.py"))
    epochs, losses = zip(*sorted(script["LOG"].items()), strict=True)
    published = np.exp(np.interp(np.arange(1, 251), epochs, np.log(losses)))
    same = script["compare"](list(published))
    assert (same["onset"], same["to_30"], same["later"]) == (14, pytest.approx(1), pytest.approx(1))
    late = script["compare"]([2.3, 2.3, *published[:-2]])
    assert (late["onset"], late["to_30"]) == (16, pytest.approx(1))
    published[19], published[99] = 1.3 * published[19], published[99] / 1.6
    other = script["compare"](list(published))
    assert (other["to_30"], other["later"]) == (pytest.approx(1.3), pytest.approx(1.6))
    assert script["compare"]([2.3] * 250)["onset"] is None
    early, later = systems_page(monkeypatch)["bands"]([same, other])
    assert (early, later) == (pytest.approx(1.15), pytest.approx(1 / ((1 + 1 / 1.6) / 2)))


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
    found = trained_by(stored(name)["recipe"])
    assert found == trained_by(recipes.load(name)), "run python benchmarks/reproduce.py again"


def test_an_epoch_takes_at_most_1_6_times_that_of_pytorch() -> None:
    found = stored("lenet5_epoch")
    settings, seconds = found["settings"], found["seconds"]
    assert trained_by(settings["recipe"]) == trained_by(recipes.load("lenet5-mnist"))
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
