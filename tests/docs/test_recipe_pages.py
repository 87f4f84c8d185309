"""The pages of the recipes are what their files render to, alike in both languages."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from stridenet.train.findings import KINDS
from stridenet.zoo import recipes

pytestmark = pytest.mark.big  # a page has a summary, which measures a step
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "recipe_pages.py"))


def test_the_pages_are_what_their_files_render_to(script: dict[str, Any]) -> None:
    made = {(DOCS / path): text for path, text in script["pages"]()}
    assert {path for folder in ("recipes", "zh/recipes") for path in (DOCS / folder).iterdir()} == set(made)
    old = [path.name for path, text in made.items() if path.read_text("utf-8") != text]
    assert old == [], "run python benchmarks/recipe_pages.py"
    assert len(made) == 2 * (len(recipes.names()) + 1)


def skeleton(text: str) -> list[Any]:
    """The blocks, links and figures of a page, and how many headings, rows and points it has."""
    prose = BLOCK.sub("", text)
    links = [Path(link).name for link in re.findall(r"\]\(([^)]+)\)", prose)]
    counts = [sum(line.startswith(start) for line in prose.splitlines()) for start in ("# ", "## ", "| ", "- ")]
    return [BLOCK.findall(text), links, re.findall(r"\d+\.\d\d", prose), counts]


@pytest.mark.parametrize("name", [*recipes.names(), "index"])
def test_both_languages_have_the_same_skeleton(name: str) -> None:
    english, chinese = ((DOCS / folder / f"{name}.md").read_text("utf-8") for folder in ("recipes", "zh/recipes"))
    assert skeleton(english) == skeleton(chinese)


def test_each_recipe_has_its_words_in_both_languages(script: dict[str, Any]) -> None:
    said = script["words"]()
    assert sorted(said["recipes"]) == recipes.names()
    for words in said["recipes"].values():
        assert len(words["en"].split()) > 30
        assert words["en"].isascii()
        assert len(HAN.findall(words["zh"])) > 40
        assert HAN.search(words["title"])


def test_a_page_says_what_was_measured(script: dict[str, Any]) -> None:
    text = script["page"]("s1-mnist", "en", script["words"]())
    found = script["figures"]("s1-mnist")
    low, high = (f"{100 * bound:.2f} %" for bound in found["accuracy"]["test"]["interval"])
    mean = f"{100 * found['accuracy']['test']['mean']:.2f} %"
    assert f"| test images | 98.61 % | **{mean}** of 3 seeds | {low} to {high} |" in text
    assert f"```toml\n{recipes.source('s1-mnist').strip()}\n```" in text
    assert "44 426" in text
    assert script["figures"]("photos") == {}


def test_findings_are_listed(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.load("lenet5-digits")
    recipe["notes"]["expected_findings"] = ["plateau", "dead-relu"]
    monkeypatch.setattr(recipes, "load", lambda name: recipe)
    said = script["words"]()
    english, chinese = (script["page"]("lenet5-digits", language, said) for language in ("en", "zh"))
    assert f"\n- [`plateau`](../doctor.md#all-findings): {KINDS['plateau'].what}\n- [`dead-relu`]" in english
    assert "\n- [`plateau`](../../doctor.md#all-findings)" in chinese
    assert said["zh"]["kinds"]["plateau"] in chinese
    assert list(said["zh"]["kinds"]) == list(KINDS)
