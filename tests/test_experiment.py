from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet import experiment
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset, Splits
from stridenet.data.transforms import Normalize
from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.experiment import Run, make_folder, next_folder, open_run, prepare
from stridenet.model import load
from stridenet.strictjson import from_json
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.evaluation import evaluate, scores_of
from stridenet.zoo import recipes

PICTURES = {"curves.png", "confusion.png", "mistakes.png", "filters.png"}
FILES = {"recipe.json", "model.safetensors", "history.jsonl", "results.json", ".lock", "checkpoints"} | PICTURES


@pytest.fixture
def setup(recipe_file: Path, small_data: Path) -> experiment.Setup:
    return prepare(recipes.load(str(recipe_file)), open_data(str(small_data)))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests here look at no picture, and drawing takes most of a short run's time."""
    monkeypatch.setattr(Run, "_pictures", lambda *arguments: None)


def run_of(setup: experiment.Setup, folder: Path, lines: list[str] | None = None) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(setup, folder, echo=([] if lines is None else lines).append, bar=False)


def shown(folder: Path) -> dict[str, Any]:
    """What a run leaves, without the columns of time."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for row in history:
        del row["seconds"]
    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    model = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    _, tensors, _ = CheckpointStore(folder / "checkpoints").latest()
    return {
        "history": history,
        "results": results,
        "model": model,
        "tensors": {name: value.tobytes() for name, value in tensors.items()},
    }


# A whole run


def test_a_run_folder_holds_what_it_should(setup: experiment.Setup, tmp_path: Path) -> None:
    lines: list[str] = []
    run = run_of(setup, tmp_path / "run", lines)
    metrics = run.train()
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "step-000000008.safetensors",
        "step-000000012.safetensors",
    }
    for name in PICTURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    documented = (experiment.__doc__ or "").split()
    assert all(name in documented or f"{name}/" in documented for name in FILES - {".lock"})

    assert from_json((folder / "recipe.json").read_text(), "test") == from_json(json.dumps(setup.recipe), "test")
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == [4, 8, 12]
    assert metrics is not None
    results = json.loads((folder / "results.json").read_text())
    assert results.keys() == {
        "recipe", "seed", "best_epoch", "epochs", "ended_by", "test", "published", "seconds", "data", "machine",
    }  # fmt: skip
    assert (results["recipe"], results["seed"]) == ("small", 0)
    assert (results["epochs"], results["ended_by"]) == (3, "epochs")
    assert results["test"] == metrics.as_dict()
    assert results["test"]["n"] == 99
    low, high = results["test"]["interval"]
    assert low <= results["test"]["accuracy"] <= high
    accuracies = [row["validation_accuracy"] for row in history]
    assert accuracies[results["best_epoch"]] == max(accuracies)
    assert results["data"]["train"] == experiment.data_of(setup.recipe).train.fingerprint()
    assert {"processor", "cores", "python", "numpy", "stridenet", "blas", "kernels"} <= results["machine"].keys()

    assert [line.split()[0] for line in lines] == [
        "recipe", "data", "images", "run", *["epoch"] * 3, "test", "results",
    ]  # fmt: skip
    assert lines[2] == "images   384 train, 128 validation, 99 test, 1x16x16 each"
    assert "of 99 images (95 % interval " in lines[-2]


def test_the_model_is_that_of_the_best_epoch(setup: experiment.Setup, tmp_path: Path, no_pictures: None) -> None:
    run_of(setup, tmp_path / "run").train()
    model = load(tmp_path / "run")
    weights = model.network.state_dict()
    assert weights.keys() == setup.best.weights.keys()
    assert all(np.array_equal(weights[name], value) for name, value in setup.best.weights.items())
    found = evaluate(model.network, setup.loader(setup.splits.test))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found.correct == results["test"]["correct"]
    assert found.loss == pytest.approx(results["test"]["loss"], rel=1e-5)  # a run takes one thread
    assert np.mean(model.predict(setup.splits.test.images) == setup.splits.test.targets) == found.accuracy
    assert model.provenance["epoch"] == results["best_epoch"]
    assert model.provenance["images"] == 384
    assert model.recipe["train"]["epochs"] == 3
    assert model.framing is not None


def test_a_run_without_validation_images_keeps_its_last_epoch(
    recipe_file: Path, small_data: Path, tmp_path: Path
) -> None:
    recipe = recipes.load(str(recipe_file))
    recipe["data"]["validation"] = 0
    setup, lines = prepare(recipe, open_data(str(small_data))), list[str]()
    assert experiment.epochs_within(setup, 1e4) > 3
    folder = make_folder(tmp_path / "run")
    run = Run(setup, folder, echo=lines.append, bar=False, deadline=time.monotonic() + 1000)
    assert run.train() is not None
    assert lines[2] == "images   512 train, 0 validation, 99 test, 1x16x16 each"
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert all("validation_accuracy" not in row for row in history)
    assert json.loads((folder / "results.json").read_text())["best_epoch"] == 2
    assert {path.name for path in folder.iterdir()} == FILES
    last, best = setup.network.state_dict(), load(folder).network.state_dict()
    assert all(np.array_equal(last[name], value) for name, value in best.items())


# What may be seen of the data


@pytest.mark.promise("G9", "B18")
def test_the_test_images_are_used_once_at_the_end(
    setup: experiment.Setup, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    names = {id(setup.splits.test): "test", id(setup.validation.dataset): "validation"}

    def watched(network: Any, data: Any, **options: Any) -> Any:
        seen.append((names[id(data.dataset)], len(setup.trainer.history)))
        return scores_of(network, data, **options)

    monkeypatch.setattr("stridenet.experiment.scores_of", watched)
    monkeypatch.setattr("stridenet.train.evaluation.scores_of", watched)
    run_of(setup, tmp_path / "run").train()
    assert seen == [("validation", 0), ("validation", 1), ("validation", 2), ("test", 3)]


@pytest.mark.promise("G9")
def test_training_validation_and_test_images_are_different_ones(setup: experiment.Setup) -> None:
    def images(dataset: Dataset) -> set[bytes]:
        return {image.tobytes() for image in dataset.images}

    parts = [images(part) for part in (setup.train.dataset, setup.validation.dataset, setup.splits.test)]
    assert [len(part) for part in parts] == [384, 128, 99]
    assert len(set.union(*parts)) == 384 + 128 + 99


@pytest.mark.promise("G9", "B20")
def test_the_statistics_are_those_of_the_training_images_alone(setup: experiment.Setup) -> None:
    splits = experiment.data_of(setup.recipe)
    (normalize,) = setup.pipeline.transforms
    assert isinstance(normalize, Normalize)
    wanted = Normalize.fit([setup.train.dataset.images.astype(np.float32) / np.float32(255)])
    assert normalize.mean == pytest.approx(wanted.mean, rel=1e-6)
    assert normalize.std == pytest.approx(wanted.std, rel=1e-6)

    held_out = np.flatnonzero([image.tobytes() in {i.tobytes() for i in setup.validation.dataset.images}
                               for image in splits.train.images])  # fmt: skip
    images = splits.train.images.copy()
    images[held_out] = 255
    other = Splits(
        Dataset(images, splits.train.targets, splits.train.classes),
        Dataset(255 - splits.test.images, splits.test.targets, splits.test.classes),
        "other",
        "nowhere",
    )
    assert prepare(setup.recipe, other).pipeline.spec() == setup.pipeline.spec()


# Stopping and going on


def test_a_stopped_run_goes_on_to_the_same_files(
    recipe_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    recipe, splits = recipes.load(str(recipe_file)), open_data(str(small_data))
    run_of(prepare(recipe, splits), tmp_path / "whole").train()
    for stop in (1, 4, 7, 12):
        folder = tmp_path / f"stopped-{stop}"
        setup = prepare(recipe, splits)
        run = run_of(setup, folder)
        setup.trainer.callbacks = [*setup.trainer.callbacks, StopAt(stop)]
        assert (run.train() is None) == (stop < 12)
        assert (folder / "results.json").exists() == (stop == 12)
        lines: list[str] = []
        again = run_of(prepare(*open_run(folder)), folder, lines)
        assert again.train(resume=True) is not None
        assert f"continued at step {stop}" in lines[3]
        assert shown(folder) == shown(tmp_path / "whole")


EVERYTHING = """
class_weights = [1, 2, 1, 0.5]
clip_norm = 1.0
early_stopping = { patience = 2, min_delta = 0.9 }
reduce_on_plateau = { patience = 0, min_delta = 9.0 }
weight_average = { decay = 0.5 }
"""


@pytest.fixture
def rich_file(recipe_file: Path) -> Path:
    """small.toml with all that a training may have; it is to end after two of its three epochs, or three of four."""
    text = recipe_file.read_text().replace("train = { epochs = 3, batch_size = 96 }", "")
    text = text.replace('name = "sgd", lr = 0.02, momentum = 0.9', 'name = "adamw", lr = 0.002')
    recipe_file.write_text(f"{text}\n[train]\nepochs = 6\nbatch_size = 96\n{EVERYTHING}")
    return recipe_file


def test_early_stopping_ends_a_run_and_the_folder_says_so(
    rich_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    lines: list[str] = []
    setup = prepare(recipes.load(str(rich_file)), open_data(str(small_data)))
    assert run_of(setup, tmp_path / "run", lines).train() is not None
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["epochs"], results["ended_by"]) == (3, "early_stopping")
    assert lines[-3] == "ended    by early stopping in epoch 3/6"
    rates = [json.loads(line)["lr"] for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert len(rates) == 3
    one_cycle = prepare(recipes.load(str(rich_file)), open_data(str(small_data))).trainer.optimizer.lr
    assert rates == pytest.approx([one_cycle(3), one_cycle(7), one_cycle(11) * 0.1])  # reduced after the second epoch


def test_a_callback_that_has_enough_after_the_last_epoch_has_ended_nothing(
    rich_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    lines: list[str] = []
    recipe = recipes.load(str(rich_file))
    recipe["train"]["epochs"] = 3
    setup = prepare(recipe, open_data(str(small_data)))
    run_of(setup, tmp_path / "run", lines).train()
    assert setup.trainer.finished
    assert json.loads((tmp_path / "run" / "results.json").read_text())["ended_by"] == "epochs"
    assert not any(line.startswith("ended") for line in lines)


def test_a_stopped_run_with_everything_goes_on_to_the_same_files(
    rich_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    recipe, splits = recipes.load(str(rich_file)), open_data(str(small_data))
    run_of(prepare(recipe, splits), tmp_path / "whole").train()
    for stop in (3, 4, 6, 11, 12):
        folder = tmp_path / f"stopped-{stop}"
        setup = prepare(recipe, splits)
        run = run_of(setup, folder)
        setup.trainer.callbacks = [*setup.trainer.callbacks, StopAt(stop)]
        run.train()
        run_of(prepare(*open_run(folder)), folder).train(resume=True)
        assert shown(folder) == shown(tmp_path / "whole")


def test_a_deadline_ends_a_run_with_its_best_weights_and_pictures(
    setup: experiment.Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has passed already leaves a single step."""
    monkeypatch.setattr(experiment, "_reserve", lambda classes: 1.4)
    folder, lines = tmp_path / "run", list[str]()
    folder.mkdir()
    assert Run(setup, folder, echo=lines.append, bar=False, deadline=time.monotonic() - 1).train() is not None
    assert {path.name for path in folder.iterdir()} == FILES
    results = json.loads((folder / "results.json").read_text())
    assert (results["epochs"], results["ended_by"], results["best_epoch"]) == (1, "time_budget", 0)
    assert lines[-3] == "ended    by time budget in epoch 1/3"
    assert re.search(r"and four pictures; [1-9]\d*\.\d s longer than the time budget$", lines[-1])
    history = (folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in history] == [1]
    before = shown(folder)
    again = run_of(prepare(*open_run(folder)), folder)
    assert again.train(resume=True) is not None
    assert shown(folder) == before


def test_the_reserve_is_measured(setup: experiment.Setup, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert 1 < experiment._reserve(setup.splits.test.classes) < 60
    budget = Run(setup, tmp_path / "run", echo=[].append, deadline=time.monotonic() + 1000)._budget(1e9)
    assert budget.images == 128 + 99
    assert budget.reserve > 1


def test_the_epochs_that_fit_follow_from_the_pace(setup: experiment.Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """384 images in 4 steps and 128 validation images an epoch, 99 test images, and what is reserved."""
    monkeypatch.setattr(experiment, "_reserve", lambda classes: 10.0)
    monkeypatch.setattr(experiment, "_pace", lambda setup, patience: (1.0, 1 / 128))
    needed = 10 + 99 / 128
    found = [experiment.epochs_within(setup, seconds) for seconds in (-5, needed, needed + 4.9, needed + 5.5, 1e4)]
    assert found[:4] == [0, 0, 0, 1]
    assert found[4] == int((1e4 - needed) / 5)


def test_the_pace_is_that_of_the_machine_and_leaves_no_trace(
    rich_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    recipe, splits = recipes.load(str(rich_file)), open_data(str(small_data))
    run_of(prepare(recipe, splits), tmp_path / "one").train()
    setup = prepare(recipe, splits)
    for patience in (0, 1):
        step, image = experiment._pace(setup, patience)
        assert 0 < image < step < 10
    run_of(setup, tmp_path / "two").train()
    assert shown(tmp_path / "one") == shown(tmp_path / "two")
    recipe["train"]["batch_size"] = 1000  # a single step
    assert min(experiment._pace(prepare(recipe, splits), 1)) > 0


def test_the_result_of_a_finished_run_is_told_again(setup: experiment.Setup, tmp_path: Path, no_pictures: None) -> None:
    folder, lines = tmp_path / "run", list[str]()
    run = run_of(setup, folder, lines)
    assert not experiment.is_finished(folder)
    run.train()
    assert experiment.is_finished(folder)
    assert experiment.result_line(folder) == lines[-2]
    for text in ("{}", "[]", '{"test": {"n": 0, "correct": 0, "loss": 0, "confusion": []}, "best_epoch": 0}', "x"):
        (folder / "results.json").write_text(text)
        with pytest.raises(ConfigError):
            experiment.result_line(folder)


def test_a_finished_run_may_be_resumed(setup: experiment.Setup, tmp_path: Path, no_pictures: None) -> None:
    folder = tmp_path / "run"
    run_of(setup, folder).train()
    before = shown(folder)
    (folder / "results.json").unlink()
    (folder / "model.safetensors").unlink()
    lines: list[str] = []
    assert run_of(prepare(*open_run(folder)), folder, lines).train(resume=True) is not None
    assert not any(line.startswith("epoch") for line in lines)
    assert shown(folder) == before


@pytest.mark.promise("K01")
def test_a_run_does_not_go_on_with_other_data_or_another_recipe(
    setup: experiment.Setup, tmp_path: Path, no_pictures: None
) -> None:
    folder = tmp_path / "run"
    run_of(setup, folder).train()
    recipe, splits = open_run(folder)
    images = splits.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    other = splits._replace(train=Dataset(images, splits.train.targets, splits.train.classes))
    with pytest.raises(CheckpointMismatchError, match=r"got data\.train: \"[0-9a-f]{64}\" -> \"[0-9a-f]{64}\"$"):
        run_of(prepare(recipe, other), folder).train(resume=True)
    test = Dataset(splits.test.images[1:], splits.test.targets[1:], splits.test.classes)
    with pytest.raises(CheckpointMismatchError, match=r"data\.test"):
        run_of(prepare(recipe, splits._replace(test=test)), folder).train(resume=True)
    recipe["train"]["seed"] = 1
    with pytest.raises(CheckpointMismatchError, match=r"recipe\.train\.seed: 0 -> 1"):
        run_of(prepare(recipe, splits), folder).train(resume=True)


def test_a_run_that_was_ended_before_its_first_checkpoint_begins(
    recipe_file: Path, small_data: Path, tmp_path: Path, no_pictures: None
) -> None:
    recipe, splits = recipes.load(str(recipe_file)), open_data(str(small_data))
    run_of(prepare(recipe, splits), tmp_path / "whole").train()
    run_of(prepare(recipe, splits), tmp_path / "begun").train(resume=True)
    (tmp_path / "begun" / "recipe.json").write_bytes((tmp_path / "whole" / "recipe.json").read_bytes())
    assert shown(tmp_path / "begun") == shown(tmp_path / "whole")


def test_folders_that_are_no_runs(tmp_path: Path, setup: experiment.Setup) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"expected a run folder with recipe\.json, got none"):
            open_run(folder)
    for text in ("", "{}", "[1]", "no json", '{"name": "x"}', '{"name": "x", "name": "y"}', "[" * 10_000):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(ConfigError):
            open_run(tmp_path)


# Folders


@pytest.mark.promise("L02")
def test_folders_are_numbered_and_never_used_again(tmp_path: Path) -> None:
    assert [next_folder("x", tmp_path / "runs").name for _ in range(3)] == ["x-001", "x-002", "x-003"]
    shutil.rmtree(tmp_path / "runs" / "x-002")
    (tmp_path / "runs" / "x-004").write_text("a file is in the way too")
    assert [next_folder("x", tmp_path / "runs").name for _ in range(2)] == ["x-002", "x-005"]
    assert next_folder("y", tmp_path / "runs").name == "y-001"
    for number in range(6, 1001):
        (tmp_path / "runs" / f"x-{number:03d}").touch()
    assert next_folder("x", tmp_path / "runs").name == "x-1001"


@pytest.mark.promise("L02")
def test_a_folder_of_choice_must_be_new_in_one_that_exists(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a").is_dir()
    (tmp_path / "a" / "thesis.txt").write_text("precious")
    (tmp_path / "f").write_text("precious")
    for taken in ("a", "f"):
        with pytest.raises(FileExistsError, match="expected a folder that is not there yet; --resume continues a run"):
            make_folder(tmp_path / taken)
    with pytest.raises(FileNotFoundError, match="expected a parent folder that exists; make it first"):
        make_folder(tmp_path / "b" / "c")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "f" / "c")
    assert (tmp_path / "a" / "thesis.txt").read_text() == (tmp_path / "f").read_text() == "precious"


def test_the_machine_is_described() -> None:
    found = experiment.machine()
    assert found["cores"] >= 1
    assert found["numpy"] == np.__version__
    assert found["processor"]
    assert found["kernels"] in ("im2col", "loops", "batchlast")
