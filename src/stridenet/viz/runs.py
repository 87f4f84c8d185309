"""A run folder as a report reads it: what is there, and for what is not there, why. Nothing in it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from stridenet.data.catalogue import has_pictures, open_data
from stridenet.data.dataset import Dataset
from stridenet.errors import ConfigError, DataError, DataFormatError, printable, shown
from stridenet.experiment import is_finished, recipe_of
from stridenet.files import read_regular
from stridenet.layout import Array
from stridenet.model import FILE, Model, load
from stridenet.series import is_series, open_series
from stridenet.shapes import by
from stridenet.strictjson import MAX_BYTES, from_json
from stridenet.train.fields import is_row
from stridenet.train.metrics import Metrics
from stridenet.zoo.recipes import Recipe

_MOST = 2**26  # bytes of a history
_LARGEST = 1e100  # of a history: no training comes near, and the charts stay finite
_RECIPE, _NAMED = "recipe.json", 5  # runs, of those that a folder holds
_NUMBERS = {"best_epoch": int, "epochs": int, "seconds": (int, float), "data": dict, "machine": dict, "ended_by": str}


@dataclass
class Record:
    """A run.

    Attributes:
        folder: of the run.
        recipe: whole.
        history: a row for each epoch, as `Trainer.fit` gives it; empty before the first is done.
        results: what results.json holds, None if the run is not finished.
        metrics: of its test, None likewise.
        model: None before the first epoch is done, or where its file is missing.
        test: the test images, None where they are not to be had.
        why: there are no test images, as a sentence.
        date: of the last of its files, in UTC.
    """

    folder: Path
    recipe: Recipe
    history: list[dict[str, Any]]
    results: Mapping[str, Any] | None
    metrics: Metrics | None
    model: Model | None
    test: Dataset | None
    why: str
    date: datetime

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; numbers where nothing names them."""
        if self.model is not None:
            return self.model.classes
        return () if self.metrics is None else tuple(map(str, range(len(self.metrics.confusion))))

    @cached_property
    def probabilities(self) -> Array | None:
        """Of each test image, (N, K); None where the run is not finished: its test images are not to be judged yet."""
        if self.model is None or self.test is None or self.results is None:
            return None
        return self.model.predict_proba(self.test.images)


def folders_of(folder: Path) -> list[Path]:
    """The run folders that a folder stands for: itself, or those of a series of seeds that have begun.

    Raises:
        FileNotFoundError: it is neither; the message says what it is.
        ConfigError: no run of the series has begun.
    """
    if not is_series(folder):
        if not (folder / _RECIPE).exists():
            raise FileNotFoundError(f"{printable(folder)}: {_no_run(folder)}")
        return [folder]
    series = open_series(folder)
    begun = [run for run in map(series.run_folder, series.seeds) if (run / "recipe.json").exists()]
    if not begun:
        raise ConfigError(f"{printable(folder)}: expected a series with a run that has begun, got none")
    return begun


def _no_run(path: Path) -> str:
    """What is wrong with a path that is no run folder, as the end of a message."""
    wanted = f"expected a run folder with {_RECIPE}"
    if not path.exists():
        return "no such file or folder; check the path"
    if not path.is_dir():
        own = (path.parent / _RECIPE).exists()
        return f"{wanted}, got a file" + f"; give {printable(path.parent)}" * own
    runs = [printable(found.parent) for found in sorted(path.glob(f"*/{_RECIPE}"))]
    if not runs:
        return f"{wanted}, got none; check the path"
    more = f" or {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"{wanted}, got a folder of runs; give one or more of {', '.join(runs[:_NAMED])}{more}"


def each_once(folders: Iterable[Path]) -> list[Path]:
    """The folders without those that are there already under another name."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def read(folder: Path, data: str | None = None) -> Record:
    """The run in `folder`; its test images from `data`, else from where the recipe had them, if they are still there.

    Raises:
        FileNotFoundError: it is no run folder; `data` is not there.
        ConfigError, DataFormatError: recipe.json, history.jsonl or results.json hold something else.
        ModelFileError, DataError: the model or `data` is damaged; `data` are not the images of the run.
    """
    recipe = recipe_of(folder)
    history = history_of(folder)
    results, metrics = _results(folder / "results.json") if is_finished(folder) else (None, None)
    model = load(folder) if (folder / FILE).exists() else None
    if model is not None and metrics is not None and len(metrics.confusion) != len(model.classes):
        _refuse(folder / "results.json", f"the counts of {len(model.classes)} classes", len(metrics.confusion))
    test, why = _test(recipe, model, results, data) if model is not None else (None, without_model(history))
    files = (folder / name for name in ("recipe.json", "history.jsonl", "results.json"))
    latest = max(path.stat().st_mtime for path in files if path.exists())
    return Record(folder, recipe, history, results, metrics, model, test, why, datetime.fromtimestamp(latest, UTC))


def without_model(history: Sequence[object]) -> str:
    """Why a run has no model, as a sentence."""
    if history:
        return f"The file {FILE} of the run is missing."
    return "The run has no model yet; its first epoch writes one."


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of the run in `folder`, whose file is not believed; none before its first epoch is done."""
    path = folder / "history.jsonl"
    if not path.exists():
        return []
    lines, who = read_regular(path, limit=_MOST).splitlines(), printable(path)
    rows = [from_json(line, f"{who}: line {i + 1}", DataFormatError) for i, line in enumerate(lines)]
    for i, row in enumerate(rows):
        if not is_row(row, i) or not _is_judged(row) or not _is_bounded(row):
            _refuse(path, f"the row of epoch {i}", row)
    return rows


def _is_judged(row: dict[str, Any]) -> bool:
    """Whether the row of an epoch has an accuracy that can be, and a loss beside it, or none."""
    if "validation_accuracy" not in row:
        return True
    accuracy, loss, n = (row.get(f"validation_{name}") for name in ("accuracy", "loss", "n"))
    numbers = all(type(value) in (int, float) for value in (accuracy, loss))
    return numbers and 0 <= cast("float", accuracy) <= 1 and (n is None or n > 0)


def _is_bounded(row: dict[str, Any]) -> bool:
    """Whether no number of the row is too large to be drawn."""
    values = (value for triple in (row.values(), *row.get("norms", {}).values()) for value in triple)
    return all(abs(value) < _LARGEST for value in values if isinstance(value, float))


def _results(path: Path) -> tuple[Mapping[str, Any], Metrics]:
    """What results.json holds, and the metrics of the test."""
    results: Any = from_json(read_regular(path, limit=MAX_BYTES), printable(path), DataFormatError)
    if not isinstance(results, dict) or not isinstance(cast("dict[str, Any]", results).get("test"), dict):
        _refuse(path, "the results of a run", cast("object", results))
    fields = cast("dict[str, Any]", results)
    for name, kind in _NUMBERS.items():
        if not isinstance(fields.get(name), kind) or fields[name] is True or fields[name] is False:
            _refuse(path, f"{name} of a run", fields.get(name))
    test, confusion = fields["test"], _counts(fields["test"].get("confusion"))
    sums = None if confusion is None else (int(confusion.sum()), int(np.trace(confusion)))
    if confusion is None or sums != (test.get("n"), test.get("correct")) or not isinstance(test.get("loss"), float):
        _refuse(path, "a loss, n, correct and the counts that they are of", test)
    return fields, Metrics(*sums, test["loss"], confusion)  # pyright: ignore[reportOptionalIterable, reportCallIssue]


def _counts(value: Any) -> Array | None:
    """A confusion matrix (K, K) of one image at least, or None."""
    rows = cast("list[Any]", value) if isinstance(value, list) else []
    for row in rows:
        if not isinstance(row, list) or len(cast("list[Any]", row)) != len(rows):
            return None
        if not all(type(count) is int and count >= 0 for count in cast("list[Any]", row)):
            return None
    return np.array(rows, np.int64) if any(map(any, rows)) else None


def _test(
    recipe: Recipe, model: Model, results: Mapping[str, Any] | None, data: str | None
) -> tuple[Dataset | None, str]:
    """The test images, or why there are none; with `data` that is an error."""
    source = recipe["data"]["name"] if data is None else data
    try:
        size = model.image_shape[1] if has_pictures(source) else None
        test = open_data(source, seed=recipe["train"]["seed"], download=False, size=size).test
        _require_same(test, model, results, source)
    except (ConfigError, DataError, OSError) as error:
        if data is not None:
            raise
        return None, f"The test images are not here: {error}. With --data the report finds them elsewhere."
    return test, ""


def _require_same(test: Dataset, model: Model, results: Mapping[str, Any] | None, source: str) -> None:
    """Raise ConfigError if these are not the images that the run was tested on."""
    who = f"data {printable(source)}"
    if test.classes != model.classes:
        raise ConfigError(f"{who}: expected the classes {shown(model.classes)}, got {shown(test.classes)}")
    if test.image_shape != model.image_shape:
        raise ConfigError(f"{who}: expected images {by(model.image_shape)}, got {by(test.image_shape)}")
    if results is not None and results["data"].get("test") != test.fingerprint():
        raise ConfigError(f"{who}: expected the test images of the run, got others: their fingerprint differs")


def _refuse(path: Path, expected: str, got: object) -> None:
    raise DataFormatError(f"{printable(path)}: expected {expected}, got {shown(got)}; it is damaged", path=str(path))
