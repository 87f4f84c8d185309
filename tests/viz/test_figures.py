"""What can be drawn: names, fonts, and tiles in rows."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from stridenet.viz import figures


def test_names_without_a_font_become_numbers_silently(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(figures, "CHINESE", ())
    with caplog.at_level(logging.WARNING):
        names, _ = figures.labels(["猫", "dog", "鸟\x1b[31m"], 22)
    assert not caplog.records
    assert names == ["class 0", "dog", "class 2"]


def test_a_font_with_the_characters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.font_manager import fontManager

    monkeypatch.setattr(fontManager, "get_font_names", lambda: [figures.LATIN, "SimHei"])
    characters = figures._characters
    monkeypatch.setattr(figures, "_characters", lambda family: {"猫"} if family == "SimHei" else characters(family))
    assert figures.labels(["猫", "dog", "鸟"], 9) == (["猫", "dog", "class 2"], [figures.LATIN, "SimHei"])


def test_long_and_wide_names_are_cut() -> None:
    assert figures.shortened("hippopotamus", 12) == "hippopotamus"
    assert figures.shortened("hippopotamus", 10) == "hippopota…"
    assert figures.shortened("便携式计算机", 10) == "便携式计…"


@pytest.mark.parametrize("values", [(1, 1e30), (2e-7, 0.3), (0.3, 4), (1, 2000), (0, 2e30), (3e30, 3.2e30), (0, 7e7)])
def test_an_axis_of_any_values_has_numbers(values: tuple[float, float]) -> None:
    figure = figures.figure(4, 3)
    axes = figure.add_subplot()
    figures.line(axes, np.arange(2), np.array(values), figures.BLUE, "loss")
    figures.value_axis(axes, np.array(values))
    figure.canvas.draw()
    low, high = axes.get_ylim()
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    shown = [label.get_text() for place, label in ticks if low <= place <= high]
    assert 3 <= len(shown) <= 12
    assert len(set(shown)) == len(shown)
    assert max(map(len, shown)) <= 8
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_numbers_of_any_size_can_be_read() -> None:
    wanted = {0.0: "0", 12.5: "12.5", 1e5: "10⁵", -2.5e30: "-2.5·10³⁰", 1e-7: "10⁻⁷", -1e9: "-10⁹", 11e9: "1.1·10¹⁰"}
    assert {value: figures.number(value) for value in wanted} == wanted


def test_a_column_has_gaps() -> None:
    found = figures.column([{"lr": 1}, {}, {"lr": None}], "lr")
    np.testing.assert_array_equal(found, [1.0, math.nan, math.nan])


def test_tiles_stand_in_rows_with_gaps_between_them() -> None:
    tiles = np.arange(12.0).reshape(3, 1, 2, 2)
    found = figures.mosaic(tiles, 2)[..., 0]
    assert found.shape == (5, 5)
    np.testing.assert_array_equal(found[:2, 3:], tiles[1, 0])
    np.testing.assert_array_equal(found[3:, :2], tiles[2, 0])
    assert np.isnan(found[2]).all()
    assert np.isnan(found[3:, 3:]).all()  # nothing stands there
