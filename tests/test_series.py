from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from stridenet.errors import ConfigError
from stridenet.series import Series, is_series, open_series, parse_seeds, t_interval
from stridenet.zoo import recipes


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-4", [0, 1, 2, 3, 4]), ("0,1,7", [0, 1, 7]), ("3", [3]), ("5-5", [5]), ("2-3, 0", [2, 3, 0]), ("0-999", None)],
)
def test_seeds_as_people_write_them(text: str, seeds: list[int] | None) -> None:
    assert parse_seeds(text) == (list(range(1000)) if seeds is None else seeds)


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "-1", "4-0", "1-2-3", "0x1", "1.5", "٣", "0-1000", "9" * 30, "0-4,2", "0-600,700-1200"]
)
def test_what_names_no_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds: expected "):
        parse_seeds(text)


def test_the_interval_is_that_of_students_t() -> None:
    """Two figures by hand: t = 4.3027 for three values, 2.7764 for five."""
    low, high = t_interval([0.97, 0.98, 0.99]) or (0, 0)
    assert (low, high) == pytest.approx((0.98 - 4.302653 * 0.01 / 3**0.5, 0.98 + 4.302653 * 0.01 / 3**0.5), abs=1e-8)
    low, high = t_interval([1, 2, 3, 4, 5]) or (0, 0)
    assert (low, high) == pytest.approx((3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5), abs=1e-6)
    assert t_interval([0.9]) is None


def series(folder: Path) -> Series:
    return Series(folder, recipes.load("lenet5-digits"), [0, 3, 5])


def finish(folder: Path, accuracy: float) -> None:
    folder.mkdir()
    test = {"accuracy": accuracy, "correct": 9, "n": 10, "interval": [0.5, 1.0], "loss": 0.1, "confusion": [[1]]}
    (folder / "results.json").write_text(json.dumps({"test": test, "seed": -1}))


def test_the_record_has_what_is_finished(tmp_path: Path) -> None:
    runs = series(tmp_path)
    assert runs.write() == runs.record()
    assert "seed" not in runs.record()["recipe"]["train"]  # it would say one of several
    assert runs.record() | {"recipe": None} == {
        "recipe": None, "seeds": [0, 3, 5], "runs": [], "mean": None, "interval": None
    }  # fmt: skip
    finish(tmp_path / "seed-5", 0.9)
    assert [runs.finished(seed) for seed in runs.seeds] == [False, False, True]
    (tmp_path / "seed-3").mkdir()  # begun
    assert runs.record()["mean"] == 0.9
    finish(tmp_path / "seed-0", 0.8)
    record = runs.write()
    assert json.loads((tmp_path / "seeds.json").read_text()) == json.loads(json.dumps(record))
    assert [(run["seed"], run["accuracy"]) for run in record["runs"]] == [(0, 0.8), (5, 0.9)]
    assert record["runs"][0].keys() == {"seed", "accuracy", "correct", "n", "interval", "loss"}
    assert record["mean"] == mean([0.8, 0.9])
    low, high = t_interval([0.8, 0.9]) or (0, 0)
    assert record["interval"] == (low, 1.0)
    assert high > 1  # no accuracy lies there


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    assert not is_series(tmp_path)
    series(tmp_path).write()
    assert is_series(tmp_path)
    assert open_series(tmp_path) == series(tmp_path)
    assert series(tmp_path).recipe_of(3)["train"]["seed"] == 3
    assert series(tmp_path).recipe["train"]["seed"] == 0


def test_files_that_are_no_series(tmp_path: Path) -> None:
    recipe = recipes.load("lenet5-digits")
    wrong: list[Any] = [
        [],
        {},
        {"seeds": 3},
        {"seeds": []},
        {"seeds": [], "recipe": recipe},
        {"seeds": [-1]},
        {"seeds": ["0"], "recipe": recipe},
    ]
    wrong += [{"seeds": [0]}, {"seeds": [0], "recipe": {}}, {"seeds": ["../../x"], "recipe": recipe}]
    for text in ["", "[", *map(json.dumps, wrong)]:
        (tmp_path / "seeds.json").write_text(text)
        with pytest.raises(ConfigError, match=r"seeds\.json: expected|recipe"):
            open_series(tmp_path)


def test_an_interval_ends_at_every_image_and_none(tmp_path: Path) -> None:
    runs = series(tmp_path)
    for seed, accuracy in zip(runs.seeds, (1.0, 0.9, 1.0), strict=True):
        test = {"accuracy": accuracy, "correct": 1, "n": 1, "interval": [0, 1], "loss": 0.1}
        runs.run_folder(seed).mkdir()
        (runs.run_folder(seed) / "results.json").write_text(json.dumps({"test": test}))
    low, high = runs.record()["interval"]
    assert 0.8 < low < 0.9
    assert high == 1


@pytest.mark.parametrize("text", ["[]", "{}", '{"test": 3}', '{"test": {"accuracy": 1}}'])
def test_results_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    runs = series(tmp_path)
    runs.run_folder(0).mkdir()
    (runs.run_folder(0) / "results.json").write_text(text)
    with pytest.raises(ConfigError, match=r"results\.json: expected the results of a run, got something else"):
        runs.record()


def test_a_message_says_what_is_wrong_with_the_seeds() -> None:
    for text in ("1,1", "0-2,2"):
        with pytest.raises(ConfigError, match="expected each seed once"):
            parse_seeds(text)
    for text in ("0-1000", "0-600,700-1200"):
        with pytest.raises(ConfigError, match="expected at most 1000 seeds"):
            parse_seeds(text)
