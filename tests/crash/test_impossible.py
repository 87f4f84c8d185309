"""Checkpoints with a right digest and a content that cannot be: a run does not go on with them, and says why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet.data.catalogue import open_data
from stridenet.errors import CheckpointError, ConfigError, StridenetError, WeightsMismatchError
from stridenet.experiment import Run, open_run, prepare
from stridenet.train.checkpoint import CheckpointStore
from stridenet.zoo import recipes

STEP, BATCHES = 6, 4  # the second batch of the second epoch

Saved = tuple[dict[str, np.ndarray], dict[str, Any]]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *arguments: None)


@pytest.fixture
def folder(recipe_file: Path, small_data: Path, tmp_path: Path) -> Path:
    """A run that was stopped, with every policy that a recipe can name."""
    policies = "early_stopping = { patience = 5 }, reduce_on_plateau = {}, weight_average = { decay = 0.9 }"
    recipe_file.write_text(recipe_file.read_text().replace("batch_size = 96", f"batch_size = 96, {policies}"))
    setup = prepare(recipes.load(str(recipe_file)), open_data(str(small_data)))
    folder = tmp_path / "run"
    folder.mkdir()
    run = Run(setup, folder, echo=lambda line: None, bar=False)
    setup.trainer.callbacks = [*setup.trainer.callbacks, StopAt(STEP)]
    assert run.train() is None
    return folder


def resume(folder: Path, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> Run:
    """Go on from a checkpoint of this content, the only one."""
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    CheckpointStore(folder / "checkpoints").save(STEP, tensors, meta)
    run = Run(prepare(*open_run(folder)), folder, echo=lambda line: None, bar=False)
    run.train(resume=True)
    return run


def saved(folder: Path) -> Saved:
    step, tensors, meta = CheckpointStore(folder / "checkpoints").latest()
    assert (step, meta["trainer"]["epoch"], meta["trainer"]["batch"]) == (STEP, 1, STEP - BATCHES)
    return tensors, meta


@pytest.mark.promise("K05")
@pytest.mark.parametrize("t", [-1, 0, STEP - 1, STEP + 1, 10**9, 6.0, [6], True])
def test_a_step_that_cannot_be(t: Any, folder: Path) -> None:
    tensors, meta = saved(folder)
    with pytest.raises(CheckpointError, match="expected"):
        resume(folder, tensors | {"optimizer.t": np.array(t)}, meta)


@pytest.mark.promise("K05")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", 0), ("epoch", 2), ("epoch", 10**6), ("batch", 0), ("batch", 3), ("batch", 5), ("batch", 10**12),
        ("images", 0), ("history", []), ("history", [{"epoch": 0}]), ("history", [None]),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be(name: str, value: Any, folder: Path) -> None:
    tensors, meta = saved(folder)
    with pytest.raises(CheckpointError, match="checkpoint: expected"):
        resume(folder, tensors, meta | {"trainer": meta["trainer"] | {name: value}})


@pytest.mark.promise("K05")
def test_a_history_that_cannot_be(folder: Path) -> None:
    tensors, meta = saved(folder)
    (row,) = meta["trainer"]["history"]
    wrong = [[row, row], [row | {"epoch": 1}], *([{k: v for k, v in row.items() if k != name}] for name in row)]
    wrong += [[row | {name: value}] for name in row for value in ("x", [], True) if row[name] != value]
    for history in wrong:
        if history == [{k: v for k, v in row.items() if k != "validation_n"}]:
            continue  # without n nothing is judged
        if history == [{k: v for k, v in row.items() if k != "norms"}]:
            continue  # an earlier version measured none
        if history[0].get("validation_interval") == []:
            continue  # is shown nowhere else
        with pytest.raises(CheckpointError, match="checkpoint: expected a history of 1 epochs"):
            resume(folder, tensors, meta | {"trainer": meta["trainer"] | {"history": history}})
    for value in (np.nan, np.inf):  # not even written
        with pytest.raises(ConfigError):
            resume(folder, tensors, meta | {"trainer": meta["trainer"] | {"history": [row | {"lr": value}]}})


@pytest.mark.promise("K05")
def test_tensors_that_cannot_be(folder: Path) -> None:
    """Each is left out, made larger, of another type, or NaN: one error of the family, and a run that ends in none."""
    tensors, meta = saved(folder)
    kinds: set[type[Exception]] = set()
    for name in (name for name in tensors if "weights" not in name):  # a better epoch may take their place
        value = tensors[name]
        others = [np.stack([value] * 2), value.astype(np.float16)]
        others += [value * np.nan] if value.dtype.kind == "f" else []
        absent = [] if "norms" in name else [{k: v for k, v in tensors.items() if k != name}]  # they may be
        for changed in (*absent, *(tensors | {name: other} for other in others)):
            with pytest.raises(StridenetError) as caught:
                resume(folder, changed, meta)
            assert str(caught.value).isprintable()
            kinds.add(type(caught.value))
    assert WeightsMismatchError in kinds
    for extra in ("callback9.x", "network.x", "optimizer.x", "callback0.x", "x"):
        with pytest.raises(StridenetError):
            resume(folder, tensors | {extra: np.zeros(3)}, meta)
    assert resume(folder, tensors, meta).setup.trainer.optimizer.t == 3 * BATCHES


@pytest.mark.promise("K01", "K05")
@pytest.mark.parametrize("name", ["trainer", "identity"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 1, {"epoch": 1}])
def test_a_record_that_cannot_be(name: str, value: Any, folder: Path) -> None:
    tensors, meta = saved(folder)
    with pytest.raises(CheckpointError, match="checkpoint: expected"):
        resume(folder, tensors, meta | {name: value})
