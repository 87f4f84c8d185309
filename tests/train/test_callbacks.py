from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet import files
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import CheckpointCorruptError, CheckpointError, ConfigError
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.callbacks import BestWeights, Checkpoints, Progress
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.policies import ReduceOnPlateau, WeightAverage
from stridenet.train.trainer import Callback, Trainer


def make(*callbacks: Callback, seed: int = 0) -> Trainer:
    rng = np.random.default_rng(seed)
    network = Sequential(Flatten(), Linear(16, 8, rng=rng), Dropout(0.2), Linear(8, 2, rng=rng), input_shape=(1, 4, 4))
    return Trainer(network, SGD(network.pack(), 0.1, momentum=0.9), callbacks=callbacks)


def loader() -> Loader:
    rng = np.random.default_rng(0)
    return Loader(Dataset(rng.integers(0, 256, (20, 1, 4, 4)).astype(np.uint8), np.arange(20) % 2, ("a", "b")), 5)


# The best weights


def offered(accuracies: list[float | None]) -> tuple[BestWeights, list[np.ndarray]]:
    """BestWeights after epochs of these accuracies, and the weights of each epoch."""
    best, trainer = BestWeights(), make()
    weights: list[np.ndarray] = []
    for epoch, accuracy in enumerate(accuracies):
        trainer.params.value += 1
        weights.append(trainer.params.value.copy())
        row: dict[str, Any] = {"epoch": epoch}
        found = {"validation_accuracy": accuracy, "validation_loss": 0.1}
        best.on_epoch(trainer, row if accuracy is None else row | found)
    return best, weights


@pytest.mark.promise("B24")
@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [([0.1, 0.5, 0.3], 1), ([0.5, 0.5, 0.4], 0), ([0.0, 0.0], 0), ([0.0], 0), ([None, None, None], 2), ([0.2, 1.0], 1)],
)
def test_the_weights_of_the_best_epoch_are_restored(accuracies: list[float | None], epoch: int) -> None:
    best, weights = offered(accuracies)
    assert best.epoch == epoch
    trainer = make(seed=1)
    best.restore(trainer.network)
    assert np.array_equal(trainer.params.value, weights[epoch])


def test_of_equal_accuracies_the_lower_loss_counts() -> None:
    best, trainer = BestWeights(), make()
    for epoch, loss in enumerate([0.3, 0.1, 0.2, 0.1]):
        best.on_epoch(trainer, {"epoch": epoch, "validation_accuracy": 0.5, "validation_loss": loss})
    assert best.epoch == 1


def test_before_the_first_epoch_there_is_nothing_to_restore() -> None:
    trainer = make()
    before = trainer.params.value.copy()
    BestWeights().restore(trainer.network)
    assert np.array_equal(trainer.params.value, before)


def test_the_kept_weights_are_a_copy() -> None:
    best, trainer = BestWeights(), make()
    best.on_epoch(trainer, {"epoch": 0, "validation_accuracy": 0.5, "validation_loss": 0.1})
    trainer.params.value.fill(7)
    assert not any((value == 7).any() for value in best.weights.values())


@pytest.mark.promise("K05")
def test_the_record_goes_through_a_checkpoint(tmp_path: Path) -> None:
    best, weights = offered([0.1, 0.5, 0.3])
    store = CheckpointStore(tmp_path)
    store.save(1, best.state_dict(), {})
    second = BestWeights()
    second.load_state_dict(store.latest()[1])
    assert second.epoch == 1
    second.on_epoch(make(), {"epoch": 3, "validation_accuracy": 0.5, "validation_loss": 0.1})
    assert second.epoch == 1
    second.on_epoch(make(), {"epoch": 4, "validation_accuracy": 0.4, "validation_loss": 0.01})
    assert second.epoch == 1
    trainer = make(seed=3)
    second.restore(trainer.network)
    assert np.array_equal(trainer.params.value, weights[1])
    record = best.state_dict()["record"]
    for wrong in (None, record[:1], record.astype(np.float32), record * np.nan, record[None]):
        with pytest.raises(CheckpointCorruptError, match="expected a record of the best epoch"):
            BestWeights().load_state_dict({} if wrong is None else {"record": wrong})


# Checkpoints


@pytest.mark.parametrize(("stop", "steps"), [(99, [0, 4, 8, 12]), (4, [0, 4]), (6, [0, 4, 6]), (1, [0, 1])])
def test_the_start_every_epoch_and_a_stop_are_saved(
    stop: int, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = CheckpointStore.save
    monkeypatch.setattr(
        CheckpointStore, "save", lambda self, step, *rest: (saved.append(step), save(self, step, *rest))
    )
    make(StopAt(stop), Checkpoints(CheckpointStore(tmp_path), {"seed": 3})).fit(loader(), epochs=3)
    assert saved == steps
    step, _, meta = CheckpointStore(tmp_path).latest()
    assert step == steps[-1]
    assert meta["identity"] == {"seed": 3}
    assert meta["trainer"]["batch"] == step % 4


def test_a_resumed_run_does_not_save_its_start_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    make(StopAt(6), Checkpoints(store, {})).fit(loader(), epochs=3)
    trainer = make(StopAt(0), Checkpoints(store, {}))
    trainer.load_state(store.latest()[1], store.latest()[2]["trainer"])
    store.path(6).unlink()
    store.path(4).unlink()
    trainer.stop()
    trainer.callbacks[1].on_start(trainer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("K03")
def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    trainer = make(Checkpoints(store, {}))
    trainer.fit(loader(), epochs=1)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(CheckpointError, match="No space left on device; those before it are intact"):
        trainer.fit(loader(), epochs=2)
    assert store.latest()[0] == 4


@pytest.mark.parametrize("when", ["on_step", "on_epoch"])
def test_a_finish_is_saved_whoever_asked_for_it(when: str, tmp_path: Path) -> None:
    """Also a callback behind Checkpoints."""
    store, last = CheckpointStore(tmp_path), Callback()
    setattr(last, when, lambda trainer, _: trainer.finish() if trainer.optimizer.t >= 4 else None)
    make(Checkpoints(store, {}), last).fit(loader(), epochs=3)
    step, tensors, meta = store.latest()
    resumed = make(Checkpoints(store, {}), Callback())
    resumed.load_state(tensors, meta["trainer"])
    assert len(resumed.fit(loader(), epochs=3)) == 1
    assert (step, store.latest()[0], resumed.finished) == (4, 4, True)


@pytest.mark.promise("K03")
def test_a_run_may_go_on_without_a_checkpoint_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write = CheckpointStore(tmp_path), files._write
    trainer = make(Checkpoints(store, {}, on_error="warn"))
    trainer.fit(loader(), epochs=1)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", full)
    with pytest.warns(UserWarning, match=r"step-000000008.*No space left on device; those before it are intact"):
        trainer.fit(loader(), epochs=2)
    assert store.latest()[0] == 4
    monkeypatch.setattr(files, "_write", write)
    trainer.fit(loader(), epochs=3)
    assert store.steps() == [12, 4]
    with pytest.raises(ConfigError, match=r"Checkpoints\.on_error: expected one of raise, warn, got 'ignore'"):
        Checkpoints(store, {}, on_error="ignore")  # pyright: ignore[reportArgumentType]


@pytest.mark.promise("K03")
def test_a_folder_that_is_deleted_during_the_training_ends_it(tmp_path: Path) -> None:
    class Deleted(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.optimizer.t == 6:
                shutil.rmtree(tmp_path)

    with pytest.raises(CheckpointError, match=r"step-000000008.*No such file or directory"):
        make(Deleted(), Checkpoints(CheckpointStore(tmp_path), {})).fit(loader(), epochs=3)


# Interrupts at the level of the library


def points() -> list[tuple[str, int]]:
    """25 places of a fit, as (function, n-th call) to interrupt."""
    places = {
        "stridenet.nn.functional.linear": (1, 4, 9),
        "stridenet.nn.functional.linear_backward": (2, 5),
        "stridenet.nn.parameters.ParameterVector.zero_grad": (1, 6),
        "stridenet.optim.optimizers.SGD.step": (1, 5, 8),
        "stridenet.data.loader.to_unit": (1, 7),
        "stridenet.train.trainer.Trainer._finish_epoch": (1, 2),
        "stridenet.train.evaluation.measure": (1, 2),
        "stridenet.train.trainer.Trainer.finish": (1,),
        "stridenet.train.policies.WeightAverage.on_epoch_start": (2,),
        "stridenet.train.policies.WeightAverage.on_evaluation": (1, 3),
        "stridenet.train.policies.WeightAverage._count_in": (6,),
        "stridenet.files._write": (2,),
        "stridenet.files._sync": (2,),
        "stridenet.files._replace": (2,),
        "stridenet.files._sync_folder": (2,),
    }
    return [(place, call) for place, calls in places.items() for call in calls]


def test_there_are_25_points() -> None:
    assert len(points()) == 25


class FinishAt(Callback):
    """Finishes a training after step `step`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.optimizer.t == self.step:
            trainer.finish()


@pytest.mark.promise("P08")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("place", "call"), points())
def test_an_interrupt_anywhere_leaves_a_folder_to_resume(
    place: str, call: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt just before or just after the call, in a run of two epochs and a half."""

    def run(*others: Callback, seed: int = 0) -> Trainer:
        return make(WeightAverage(0.8), BestWeights(), FinishAt(10), *others, seed=seed)

    whole = run()
    whole.fit(loader(), loader(), epochs=3)
    assert whole.optimizer.t == 10

    store = CheckpointStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupted(resolve(place), call, after))
        with pytest.raises(KeyboardInterrupt):
            run(Checkpoints(store, {})).fit(loader(), loader(), epochs=3)
    store.clean()
    trainer = run(Checkpoints(store, {}), seed=1)
    _, tensors, meta = store.latest()
    trainer.load_state(tensors, meta["trainer"])
    trainer.fit(loader(), loader(), epochs=3)
    assert np.array_equal(trainer.params.value, whole.params.value)
    for name in "step", "train_loss", "validation_loss":
        assert [row[name] for row in trainer.history] == [row[name] for row in whole.history]


def resolve(place: str) -> Any:
    import importlib

    parts = place.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name)
        return value
    raise LookupError(place)


def interrupted(function: Any, call: int, after: bool) -> Any:
    left = call

    def wrapper(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise KeyboardInterrupt
        result = function(*arguments, **options)
        if left == 0:
            raise KeyboardInterrupt
        return result

    return wrapper


# Progress


def test_a_line_for_each_epoch_and_no_bar_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    make(Progress(4, 10, lines.append)).fit(loader(), loader(), epochs=2)
    assert len(lines) == 2
    assert lines[0].startswith("epoch  1/10   loss 0.")
    assert "   validation " in lines[0]
    assert " % (" in lines[0]  # the interval: no accuracy without it
    assert lines[1].endswith(" s")
    assert capfd.readouterr() == ("", "")


def test_without_validation_the_line_has_no_accuracy() -> None:
    lines: list[str] = []
    make(Progress(4, 1, lines.append, bar=False)).fit(loader(), epochs=1)
    assert "validation" not in lines[0]


def test_a_learning_rate_that_a_callback_lowered_is_shown() -> None:
    lines: list[str] = []
    trainer = make(ReduceOnPlateau(factor=0.5, patience=0, min_delta=9.0), Progress(4, 3, lines.append, bar=False))
    trainer.fit(loader(), loader(), epochs=3)
    assert [line.rpartition(" s")[2] for line in lines] == ["", "", f"   lr {trainer.history[2]['lr']:.3g}"]
    assert trainer.history[2]["lr"] == 0.5 * trainer.history[0]["lr"]


def test_the_bar_shows_epoch_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    lines: list[str] = []
    make(StopAt(6), Progress(4, 2, lines.append, bar=True)).fit(loader(), epochs=2)
    assert "epoch 1/2" in screen.getvalue()
    assert "epoch 2/2" in screen.getvalue()
    assert "/4" in screen.getvalue()
    assert screen.getvalue().endswith("\r")  # the bar of the stopped epoch is gone
    assert len(lines) == 1


def test_a_stop_before_the_first_step_needs_no_bar() -> None:
    trainer = make(Progress(4, 2, fail, bar=True))
    trainer.stop()
    assert trainer.fit(loader(), epochs=2) == []


def fail(line: str) -> None:
    raise AssertionError(line)
