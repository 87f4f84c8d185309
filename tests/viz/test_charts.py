"""Charts as part of a page: its colours, its font, ids of their own, the same bytes again; and what they say."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers import HOSTILE_NAMES
from stridenet.layout import Array
from stridenet.train.metrics import reliability
from stridenet.viz import charts
from stridenet.viz.charts import Chart

DIGITS = [str(i) for i in range(10)]


def history(epochs: int, factor: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "train_loss": 2 * factor**e + 0.02, "validation_loss": 2 * factor**e, "lr": 0.1}
        | {"validation_accuracy": 0.99 - 0.3 * factor**e, "validation_n": 5000}
        for e in range(epochs)
    ]


def norms(epochs: int, count: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {f"{i} Conv2d weight": rng.random((epochs, 3)) * [1, 1, 1e-3] for i in range(count)}


def draw_all(prefix: str = "") -> dict[str, Chart]:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(10, 0.3), 500)
    found = reliability(probabilities, rng.integers(0, 10, 500))
    matrix = rng.integers(0, 9, (10, 10)) + 50 * np.eye(10, dtype=int)
    return {
        "curves": charts.curves(history(5), f"{prefix}a"),
        "comparison": charts.comparison([("runs/one", history(5)), ("runs/two", history(3, 0.3))], f"{prefix}b"),
        "confusion": charts.confusion(matrix, DIGITS, f"{prefix}c"),
        "reliability": charts.reliability(found, f"{prefix}d"),
        "norms": charts.norms(np.arange(5), norms(5, 4), f"{prefix}e"),
        "times": charts.times(["0 Conv2d", "1 ReLU"], np.array([[1.0, 2.0], [0.5, 0.1]]), f"{prefix}f", "here"),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Chart]:
    return draw_all()


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart.svg).iter("text")]


def test_equal_data_give_equal_bytes(drawn: dict[str, Chart]) -> None:
    again = charts.comparison([("runs/one", history(5)), ("runs/two", history(3, 0.3))], "b")
    assert again == drawn["comparison"]
    assert charts.curves(history(5), "a") == drawn["curves"]


def test_no_two_charts_share_an_id(drawn: dict[str, Chart]) -> None:
    every = [*drawn.values(), charts.curves(history(5), "other")]
    ids = [name for chart in every for name in re.findall(r'\bid="([^"]*)"', chart.svg)]
    assert len(ids) == len(set(ids)) > 12
    for chart in every:
        own = set(re.findall(r'\bid="([^"]*)"', chart.svg))
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', chart.svg))
        used = {a or b for a, b in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', chart.svg)}
        assert used <= own


@pytest.mark.parametrize("name", ["curves", "comparison", "confusion", "reliability", "norms", "times"])
def test_they_are_parts_of_the_page(name: str, drawn: dict[str, Chart]) -> None:
    chart = drawn[name]
    root = ElementTree.fromstring(chart.svg)  # well-formed, without a prolog
    assert chart.svg.startswith("<svg ")
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"{chart.title}; {chart.below}"
    assert root.keys() == ["role", "aria-label", "viewBox"]  # the page says how large
    for word in ("<style", "font-family", "DejaVu", "<metadata", "<?xml", "<!--", "xlink", "matplotlib"):
        assert word not in chart.svg
    assert re.findall(r"#[0-9a-fA-F]{6}\b", chart.svg) == []  # every colour is one of the page's
    assert set(re.findall(r"var\(--(\w+)\)", chart.svg)) >= {"ink" if name == "confusion" else "blue", "quiet"}
    assert all("fill: var(" in (text.get("style") or "") for text in root.iter("text"))
    addresses = [image.get("href") or "" for image in root.iter("image")]
    assert all(address.startswith("data:image/png;base64,") for address in addresses)


def test_what_they_say(drawn: dict[str, Chart]) -> None:
    assert drawn["curves"].title == "Validation accuracy 97.12 % (best, epoch 5)"
    assert drawn["comparison"].title == "Curves of 2 runs"
    assert {"runs/one", "runs/two", "training loss", "validation error (%)"} <= set(texts(drawn["comparison"]))
    assert "predicted class" in texts(drawn["confusion"])
    assert drawn["confusion"].below.startswith("95 % interval ")
    assert "most frequent mistake" in drawn["confusion"].below
    assert re.match(r"Expected calibration error \d+\.\d\d %", drawn["reliability"].title)
    assert drawn["reliability"].below.endswith("500 images in 15 bins")
    assert drawn["times"] [1:] == ("3.6 ms in all, 83 % of it in 0 Conv2d", "here")  # fmt: skip


def test_the_usual_step_is_the_median_over_the_epochs() -> None:
    one = np.array([[2.0, 1.0, 0.002], [2.0, 1.0, 0.004], [2.0, 1.0, 0.2]])
    zero = np.array([[0.0, 0.0, 0.0]] * 3)
    chart = charts.norms(np.arange(3), {"0.weight": one, "3.weight": one / [1, 1, 2], "5.weight": zero}, "k")
    assert chart.title == "A step moves the weights by 0.001 to 0.002 of their norm"
    assert charts.norms(np.arange(3), {"5.weight": zero}, "k").title == "Weights and gradients"
    still, wild = one * [1, 1, 0], one * [1e20, 1, 1e27]
    assert charts.norms(np.arange(3), {"0.weight": still}, "k").title == "The weights do not move"
    title = charts.norms(np.arange(3), {"0.weight": one, "3.weight": wild}, "k").title
    assert title == "A step moves the weights by 0.002 to 2·10⁴ times their norm"


def test_no_more_lines_than_can_be_told_apart() -> None:
    names = [text for text in texts(charts.norms(np.arange(2), norms(2, 30), "k")) if "Conv2d" in text]
    assert len(names) == charts.MOST_LINES
    assert (names[0], names[-1]) == ("0 Conv2d weight", "29 Conv2d weight")
    many = charts.comparison([(f"run {i}", history(2)) for i in range(12)], "k")
    assert many.title == "Curves of the first 9 runs"
    assert [text for text in texts(many) if text.startswith("run ")] == [f"run {i}" for i in range(9)]


def test_runs_without_a_validation_have_no_error_panel() -> None:
    bare = [{"epoch": e, "train_loss": 1.0 / (e + 1), "lr": 0.1} for e in range(3)]
    assert "validation error (%)" not in texts(charts.comparison([("a", bare), ("a", bare)], "k"))
    both = charts.comparison([("a", bare), ("b", history(3))], "k")
    assert "validation error (%)" in texts(both)
    assert charts.curves(bare, "k").title.startswith("Training loss 0.3333 after epoch 3")


@pytest.mark.parametrize("k", [2, 20, 21, 100])
def test_confusion_of_many_classes(k: int) -> None:
    matrix = np.random.default_rng(k).integers(1, 50, (k, k))
    chart = charts.confusion(matrix, [f"a class with a rather long name {i}" for i in range(k)], "k")
    assert (len([text for text in texts(chart) if text.isdecimal()]) == k * k) == (k <= 20)


@pytest.mark.promise("S6")
def test_hostile_names_are_text() -> None:
    k = len(HOSTILE_NAMES)
    chart = charts.confusion(np.ones((k, k), int) + 9 * np.eye(k, dtype=int), HOSTILE_NAMES, "k")
    ElementTree.fromstring(chart.svg)
    assert [name for name in HOSTILE_NAMES if name in chart.svg or name in chart.below] == []


def test_a_name_that_looks_like_a_colour_stays() -> None:
    chart = charts.confusion(np.array([[3, 1], [0, 4]]), ["#0072b2", "cost $5"], "k")
    assert {"#0072b2", "cost $5"} <= set(texts(chart))
    assert (
        "#0072b2 taken for cost $5" in charts.confusion(np.array([[3, 2], [0, 4]]), ["#0072b2", "cost $5"], "k").below
    )
