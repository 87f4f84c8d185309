"""The figures of docs/from-loops.md are the stored ones, of the code that stands on the page."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "from-loops.md"
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "steps.py"))


def found() -> dict[str, Any]:
    return json.loads((RESULTS / "steps.json").read_text("utf-8"))


def test_the_figures_are_the_stored_ones(script: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert text == script["fill"](text, RESULTS), "run python benchmarks/tables.py"
    marked = [name for _, name, _ in script["MARKED"].findall(text)]
    assert sorted(marked) == sorted([*script["WAYS"], "training", "all"])


def test_what_was_measured_is_the_code_of_the_page(script: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert found()["settings"]["code"] == script["digest"](text), "run python benchmarks/steps.py"
    functions = [node.name for node in ast.parse(script["code"](text)).body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if name in script["WAYS"]] == list(script["WAYS"])
    assert list(found()["convolution"]) == list(script["WAYS"])
    assert list(found()["training"]) == list(script["TRAINING"])


def test_each_step_is_faster_than_the_one_before(script: dict[str, Any]) -> None:
    times = [time for name, time in found()["convolution"].items() if name != script["DETOUR"]]
    assert times == sorted(times, reverse=True)
    assert times[0] > 100 * times[-1]  # what the title says
    training = list(found()["training"].values())
    assert training == sorted(training, reverse=True)


def test_a_page_with_other_figures_is_seen(script: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert script["fill"](re.sub(r"\*\*\d+ ms\.\*\*", "**1 ms.**", text), RESULTS) == text
    assert script["digest"](text.replace("total = bias[k]", "total = 0")) != script["digest"](text)
