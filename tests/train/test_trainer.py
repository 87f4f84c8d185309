from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from helpers import StopAt
from stridenet.communicator import Communicator
from stridenet.data.augment import RandomShift, build_augmentations
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    ConfigError,
    LabelError,
    NumericsError,
    StridenetError,
    WeightsMismatchError,
)
from stridenet.layout import Array
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import cross_entropy
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.plan import InferencePlan
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.optim.adaptive import Adam
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import cosine, one_cycle, one_cycle_momentum, step_decay
from stridenet.strictjson import to_json
from stridenet.train.callbacks import BestWeights, Checkpoints
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.evaluation import blas_threads, evaluate, scores_of
from stridenet.train.metrics import standing
from stridenet.train.trainer import Callback, Trainer

SHAPE = (1, 8, 8)
EPOCHS, STEPS, BATCH = 3, 7, 6  # the last batch has 4 images


def network(seed: int = 0, dropout: float = 0.3) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(1, 3, 3, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Dropout(dropout),
        Flatten(),
        Linear(27, 8, rng=rng),
        ReLU(),
        Dropout(dropout),
        Linear(8, 3, rng=rng),
        input_shape=SHAPE,
    )


def dataset(n: int = 40, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, n)
    images = rng.integers(0, 80, (n, *SHAPE))
    images[np.arange(n), 0, 2 + targets, 2:6] += 150
    return Dataset(images.astype(np.uint8), targets, ("a", "b", "c"))


def trainer_of(net: Sequential, lr: Any = 0.05, **options: Any) -> Trainer:
    return Trainer(net, SGD(net.pack(), lr, momentum=0.9), **options)


# A step


@pytest.mark.promise("B1")
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_one_step_moves_every_parameter(kind: type[Optimizer]) -> None:
    net = network(dropout=0.0)
    trainer = Trainer(net, kind(net.pack(), 0.1))
    before = net.state_dict()
    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    trainer.step(x, y)
    assert [name for name, value in net.state_dict().items() if np.array_equal(value, before[name])] == []
    assert trainer.optimizer.t == 1


@pytest.mark.promise("B3")
def test_two_rounds_from_the_same_start_give_the_same_gradient() -> None:
    net = network(dropout=0.0)
    trainer = trainer_of(net, lr=step_decay(0.0, every=1))
    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    gradients = [(trainer.step(x, y), trainer.params.grad.copy())[1] for _ in range(2)]
    assert np.array_equal(*gradients)


def test_the_loss_falls_and_the_images_are_learned() -> None:
    net, data = network(dropout=0.0), dataset()
    history = trainer_of(net).fit(Loader(data, 8, shuffle=True), Loader(data, 16), epochs=15)
    losses = [row["train_loss"] for row in history]
    assert losses[-1] < 0.1 * losses[0]
    assert history[-1]["validation_accuracy"] == 1.0


def test_weights_of_zero_leave_images_out() -> None:
    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    moved = []
    for keep, weights in ((slice(None), np.repeat([1.0, 0.0], 20)), (slice(20), None)):
        net = network(dropout=0.0)
        trainer_of(net).step(x[keep], y[keep], weights)
        moved.append(net.pack().value.copy())
    assert np.allclose(*moved, rtol=0, atol=1e-6)


@pytest.mark.promise("G6", "P03")
def test_step_changes_nothing_of_its_arguments_and_refuses_wrong_labels() -> None:
    trainer = trainer_of(network())
    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    x.setflags(write=False)
    y.setflags(write=False)
    trainer.step(x, y)
    before = trainer.params.value.copy()
    for wrong in (np.where(y == 0, 3, y), np.where(y == 0, -1, y), y.astype(np.float32), y > 0):
        with pytest.raises(LabelError):
            trainer.step(x, wrong)
    for wrong in (y[:-1], y[:, None]):
        with pytest.raises(StridenetError):
            trainer.step(x, wrong)
    assert np.array_equal(trainer.params.value, before)


def test_the_optimizer_must_be_of_the_same_network() -> None:
    with pytest.raises(ConfigError, match=r"Trainer: expected an optimizer of this network's parameters"):
        Trainer(network(), SGD(network().pack(), 0.1))
    for seed in (-1, 1.5, None, True):
        with pytest.raises(ConfigError, match="Trainer: expected seed"):
            trainer_of(network(), seed=seed)


@pytest.mark.promise("P01", "P06")
@pytest.mark.parametrize("norm", [0, 0.0, -1.0, math.nan, math.inf, "1", True, [1.0]])
def test_a_norm_to_clip_to_that_cannot_be_is_refused(norm: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Trainer: expected clip_norm "):
        trainer_of(network(), clip_norm=norm)


def test_the_gradient_is_clipped_after_the_mean_over_workers_and_before_the_step() -> None:
    class Twice(Communicator):
        def mean(self, vector: Array) -> None:
            vector *= 2

    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    plain = Trainer(net := network(dropout=0.0), SGD(net.pack(), 1.0))
    before = plain.params.value.copy()
    plain.step(x, y)
    length = np.linalg.norm(plain.params.grad)
    for share in (0.5, 1.5, 2.5):
        clipped = Trainer(net := network(dropout=0.0), SGD(net.pack(), 1.0), comm=Twice(), clip_norm=share * length)
        clipped.step(x, y)
        wanted = min(share, 2.0) * (plain.params.value - before)
        assert np.allclose(clipped.params.value - before, wanted, rtol=1e-4, atol=1e-7)


# Divergence


@pytest.mark.promise("G5")
def test_a_loss_that_is_not_finite_leaves_the_parameters_alone() -> None:
    net = network()
    trainer = trainer_of(net)
    x, y, _ = next(Loader(dataset(), 40).epoch(0))
    trainer.step(x, y)
    before, slots = net.state_dict(), trainer.optimizer.state_dict()
    x[3, 0, 4, 4] = np.nan
    with pytest.raises(NumericsError, match=r"step 1: expected a finite loss, got nan, first not finite: output") as e:
        trainer.step(x, y)
    assert (e.value.step, e.value.layer) == (1, "0")
    assert e.value.tensor == "output of layer 0 Conv2d(1, 3, kernel_size=3)"
    assert all(np.array_equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(np.array_equal(value, slots[name]) for name, value in trainer.optimizer.state_dict().items())


@pytest.mark.promise("G5")
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 50))])
def test_a_diverging_run_stops_and_its_checkpoint_loads(seed: int, tmp_path: Path) -> None:
    net, data = network(seed), dataset()
    store = CheckpointStore(tmp_path)
    train = Loader(data, BATCH, shuffle=True, seed=seed)
    optimizer = SGD(net.pack(), 0.05, momentum=0.9, weight_decay=5e-4)
    gentle = Trainer(net, optimizer, callbacks=[Checkpoints(store, {})], seed=seed)
    gentle.fit(train, epochs=1)
    gentle.optimizer.lr = 1e6
    with pytest.raises(NumericsError) as error:
        gentle.fit(train, Loader(data, 64), epochs=30)
    assert error.value.step is not None
    assert error.value.step > STEPS
    assert error.value.layer in {"0", "5", "8", ""}
    assert error.value.tensor
    step, tensors, meta = store.latest()
    assert step <= error.value.step
    again = trainer_of(network(seed + 1), callbacks=[Checkpoints(store, {})])
    again.load_state(tensors, meta["trainer"])
    assert np.isfinite(again.params.value).all()
    assert again.optimizer.t == step


@pytest.mark.promise("G5")
def test_infinite_parameters_are_found_before_they_are_evaluated_or_saved(tmp_path: Path) -> None:
    net = network(dropout=0.0)
    trainer = trainer_of(net, lr=1e39, callbacks=[Checkpoints(CheckpointStore(tmp_path), {})])
    with pytest.raises(NumericsError) as error:
        trainer.fit(Loader(dataset(), 40), Loader(dataset(), 40), epochs=1)
    assert "expected finite parameters" in str(error.value)
    assert (error.value.step, trainer.history) == (1, [])
    assert CheckpointStore(tmp_path).latest()[0] == 0


# Evaluation


@pytest.mark.promise("B19")
@pytest.mark.parametrize("n", [1, 5, 31, 32, 33, 40])
def test_evaluation_drops_no_image_and_equals_one_shot(n: int) -> None:
    net, data = network(), dataset(n)
    net.eval()
    x, y, _ = next(Loader(data, n).epoch(0))
    scores = net.forward(x)
    for batch_size in (1, 7, 16, 100):
        found = evaluate(net, Loader(data, batch_size))
        assert found.n == n
        assert found.correct == np.sum(scores.argmax(axis=1) == y)
        assert found.loss == pytest.approx(cross_entropy(scores, y)[0], rel=1e-6)
        assert found.confusion.sum() == n
    shuffled = evaluate(net, Loader(data, 7, shuffle=True))
    assert (shuffled.n, shuffled.correct) == (n, found.correct)


@pytest.mark.promise("G8")
@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_changes_nothing(mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = network(), Loader(dataset(), 7)
    trainer = trainer_of(net)
    trainer.fit(Loader(dataset(), 8), epochs=1)
    net.train(mode)
    before = digest(trainer)
    first, second = trainer.evaluate(data), evaluate(net, data)
    assert digest(trainer) == before
    assert first.loss == second.loss  # no dropout in it
    assert np.array_equal(first.confusion, second.confusion)
    assert [layer.training for _, layer in net.children()] == [mode] * 9
    monkeypatch.setattr(InferencePlan, "__call__", fail)
    with pytest.raises(RuntimeError):
        evaluate(net, data)
    assert net.training is mode


def fail(*arguments: object) -> None:
    raise RuntimeError


def test_evaluation_needs_every_image_as_it_is() -> None:
    for options in ({"drop_last": True}, {"augment": build_augmentations([{"name": "random_shift", "pixels": 1}])}):
        with pytest.raises(ConfigError, match="evaluate: expected a loader of every image as it is"):
            evaluate(network(), Loader(dataset(), 7, **options))


@pytest.mark.promise("G5")
def test_scores_that_are_not_finite_are_an_error() -> None:
    net = network(dropout=0.0)
    trainer = trainer_of(net, lr=step_decay(0.0, every=1))
    net.layers[8].weight.value[:] = [[3e38], [0], [0]]  # pyright: ignore[reportAttributeAccessIssue]
    net.layers[5].bias.value[:] = 10  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(NumericsError, match="evaluate: expected finite scores"):
        list(scores_of(net.eval(), Loader(dataset(), 7)))
    images = dataset()
    loss = lambda scores, targets, weights=None: (0.0, np.zeros_like(scores))  # noqa: E731
    trainer.loss = loss
    trainer.objective = LayerByLayer(net, loss)
    with pytest.raises(NumericsError) as error:
        trainer.fit(Loader(images, 40), Loader(images, 40), epochs=1)
    assert error.value.step == 1


# The history


@pytest.mark.promise("B24")
def test_the_history_has_the_last_epoch_and_step() -> None:
    trainer = trainer_of(network(), lr=cosine(0.1, total=EPOCHS * STEPS))
    losses: list[float] = []

    class Watch(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            losses.append(loss)

    trainer.callbacks = [Watch()]
    history = trainer.fit(Loader(dataset(), BATCH), Loader(dataset(), 16), epochs=EPOCHS)
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert [row["step"] for row in history] == [7, 14, 21]
    assert [row["lr"] for row in history] == [cosine(0.1, total=21)(t) for t in (6, 13, 20)]
    assert {row["validation_n"] for row in history} == {40}
    sizes = [6] * 6 + [4]
    for row, part in zip(history, np.reshape(losses, (EPOCHS, STEPS)), strict=True):
        assert row["train_loss"] == pytest.approx(np.dot(part, sizes) / 40)
        low, high = row["validation_interval"]
        assert 0 <= low <= row["validation_accuracy"] <= high <= 1
    assert trainer.evaluate(Loader(dataset(), 16)).loss == history[-1]["validation_loss"]


def test_without_validation_a_row_has_only_the_training() -> None:
    row = trainer_of(network()).fit(Loader(dataset(), 8), epochs=1)[0]
    assert row.keys() == {"epoch", "step", "lr", "train_loss", "seconds"}


@pytest.mark.promise("P06", "P07")
def test_epochs_count_in_all() -> None:
    trainer, train = trainer_of(network()), Loader(dataset(), 8)
    assert trainer.fit(train, epochs=0) == []
    assert len(trainer.fit(train, epochs=2)) == 2
    assert len(trainer.fit(train, epochs=1)) == 2
    assert [row["epoch"] for row in trainer.fit(train, epochs=3)] == [0, 1, 2]
    for epochs in (-1, 1.5, "3", None, True):
        with pytest.raises(ConfigError, match=r"Trainer\.fit: expected epochs"):
            trainer.fit(train, epochs=epochs)  # pyright: ignore[reportArgumentType]


def test_callbacks_are_called_in_order() -> None:
    calls: list[str] = []

    class Recorder(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                calls.append(name)
            return super().__getattribute__(name)

    trainer = trainer_of(network(), callbacks=[Recorder()])
    trainer.fit(Loader(dataset(), 20), epochs=2)
    epoch = ["on_epoch_start", "on_step", "on_step", "on_evaluation", "on_epoch"]
    assert calls == ["on_start", *epoch, *epoch, "on_finish"]


# Finishing early


class Do(Callback):
    """Calls `what` of the trainer in `when`, at step `at`."""

    def __init__(self, what: str, at: int, when: str = "on_step") -> None:
        def call(trainer: Trainer, *_: object) -> None:
            if trainer.optimizer.t == at:
                getattr(trainer, what)()

        setattr(self, when, call)


@pytest.mark.parametrize(
    ("at", "when", "rows"),
    [
        (1, "on_step", [1]),  # the first step of all
        (STEPS + 2, "on_step", [STEPS, STEPS + 2]),
        (2 * STEPS, "on_step", [STEPS, 2 * STEPS]),  # the last step of an epoch
        (2 * STEPS, "on_evaluation", [STEPS, 2 * STEPS]),
        (STEPS, "on_epoch", [STEPS]),
        (STEPS, "on_epoch_start", [STEPS, STEPS + 1]),
        (0, "on_start", []),
    ],
)
def test_finish_ends_the_training_after_the_step_under_way(at: int, when: str, rows: list[int]) -> None:
    trainer = trainer_of(network(), callbacks=[best := BestWeights(), Do("finish", at, when)])
    train, validation = Loader(dataset(), BATCH), Loader(dataset(20, seed=1), 16)
    history = trainer.fit(train, validation, epochs=EPOCHS)
    assert trainer.finished
    assert [row["step"] for row in history] == rows
    assert (trainer.epoch, trainer.batch) == (len(rows), 0)
    if rows:
        assert history[-1]["validation_loss"] == trainer.evaluate(validation).loss
        assert best.epoch == max(history, key=standing)["epoch"]  # the weights of a part of an epoch may be the best
    trainer.fit(train, validation, epochs=2 * EPOCHS)
    assert len(trainer.history) == len(rows)
    second = trainer_of(network(1), callbacks=[BestWeights(), Callback()])
    second.load_state(*trainer.state())
    assert second.finished
    second.fit(train, validation, epochs=2 * EPOCHS)
    assert digest(second) == digest(trainer)


def test_the_loss_of_a_part_of_an_epoch_is_of_its_own_images() -> None:
    losses: list[float] = []

    class Watch(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            losses.append(loss)

    trainer = trainer_of(network(), callbacks=[Watch(), Do("finish", 3)])
    row = trainer.fit(Loader(dataset(), BATCH), epochs=1)[0]
    assert row["train_loss"] == pytest.approx(np.mean(losses))
    assert len(losses) == 3


@pytest.mark.promise("K2")
@pytest.mark.parametrize("stop", range(1, STEPS + 4))
def test_a_finish_is_kept_by_a_state_of_any_step(stop: int) -> None:
    """Also by one that is taken between the call and the end of the epoch."""
    train, validation = Loader(dataset(), BATCH), Loader(dataset(20, seed=1), 16)
    whole = trainer_of(network(), callbacks=[BestWeights(), Do("finish", STEPS + 3)])
    whole.fit(train, validation, epochs=EPOCHS)
    states: list[Any] = []
    first = trainer_of(network(), callbacks=[BestWeights(), Do("finish", STEPS + 3)])
    save = Callback()
    save.on_step = lambda trainer, loss: states.append(trainer.state())
    first.callbacks = [*first.callbacks, save]
    first.fit(train, validation, epochs=EPOCHS)
    assert len(states) == STEPS + 3
    second = trainer_of(network(1), callbacks=[BestWeights(), Do("finish", STEPS + 3), Callback()])
    second.load_state(*states[stop - 1])
    assert not second.finished
    second.fit(train, validation, epochs=EPOCHS)
    assert second.finished
    assert digest(second) == digest(whole)


@pytest.mark.parametrize("order", [("stop", "finish"), ("finish", "stop")])
def test_of_stop_and_finish_stop_goes_first(order: tuple[str, str]) -> None:
    train, validation = Loader(dataset(), BATCH), Loader(dataset(20, seed=1), 16)
    trainer = trainer_of(network(), callbacks=[Do(what, 3) for what in order])
    assert trainer.fit(train, validation, epochs=EPOCHS) == []
    assert (trainer.batch, trainer.finished) == (3, False)
    assert [row["step"] for row in trainer.fit(train, validation, epochs=EPOCHS)] == [3]
    assert trainer.finished


# Resuming: the same bits


def digest(trainer: Trainer) -> str:
    """SHA-256 of weights, slots, the best weights and the history without its seconds."""
    tensors, meta = trainer.state()
    meta = meta | {"seconds": 0, "history": [{**row, "seconds": 0} for row in meta["history"]]}
    digest = hashlib.sha256(to_json(meta).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + str(tensors[name].dtype).encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


TOTAL = EPOCHS * STEPS
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, one_cycle(0.1, total=TOTAL), momentum=one_cycle_momentum(total=TOTAL), weight_decay=1e-3),
    "adam": lambda p: Adam(p, one_cycle(0.02, total=TOTAL), betas=(one_cycle_momentum(total=TOTAL), 0.99)),
}


def make(optimizer: str, plain: bool, stop: int = 0, seed: int = 0) -> tuple[Trainer, Loader, Loader]:
    net = network(seed, 0.0 if plain else 0.3)
    train = Loader(
        dataset(),
        BATCH,
        shuffle=True,
        seed=5,
        transform=Pipeline([Normalize([0.3], [0.25])]),
        augment=None if plain else RandomShift(1),
    )
    validation = Loader(dataset(20, seed=1), 16)
    trainer = Trainer(net, OPTIMIZERS[optimizer](net.pack()), callbacks=[BestWeights(), StopAt(stop)], seed=5)
    return trainer, train, validation


def resumed(optimizer: str, plain: bool, stop: int, store: CheckpointStore) -> str:
    first, train, validation = make(optimizer, plain, stop)
    first.fit(train, validation, epochs=EPOCHS)
    assert first.optimizer.t == stop
    store.save(stop, *first.state())
    second, train, validation = make(optimizer, plain, seed=7)  # other start values: all must come from the file
    second.load_state(*store.latest()[1:])
    second.fit(train, validation, epochs=EPOCHS)
    assert second.optimizer.t == TOTAL
    return digest(second)


def uninterrupted(optimizer: str, plain: bool) -> str:
    trainer, train, validation = make(optimizer, plain)
    trainer.fit(train, validation, epochs=EPOCHS)
    return digest(trainer)


@pytest.mark.big
@pytest.mark.promise("K2", "K4")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    wanted = uninterrupted(optimizer, plain=False)
    assert wanted == uninterrupted(optimizer, plain=False)
    assert wanted != uninterrupted(optimizer, plain=True)
    store = CheckpointStore(tmp_path)
    assert [resumed(optimizer, False, stop, store) for stop in range(1, TOTAL + 1)] == [wanted] * TOTAL


@pytest.mark.promise("K2")
def test_many_stops_in_one_run(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    trainer, train, validation = make("sgd", plain=False, stop=2)
    store.save(0, *trainer.state())
    for stop in (2, 3, 7, 8, 13, 20, 21, 99):
        trainer, train, validation = make("sgd", plain=False, stop=stop)
        trainer.load_state(*store.latest()[1:])
        trainer.fit(train, validation, epochs=EPOCHS)
        store.save(trainer.optimizer.t, *trainer.state())
    assert digest(trainer) == uninterrupted("sgd", plain=False)


def test_a_stopped_fit_can_go_on_in_the_same_object() -> None:
    trainer, train, validation = make("sgd", plain=False, stop=4)
    assert trainer.fit(train, validation, epochs=EPOCHS) == []
    assert (trainer.epoch, trainer.batch) == (0, 4)
    trainer.fit(train, validation, epochs=EPOCHS)
    assert digest(trainer) == uninterrupted("sgd", plain=False)


@pytest.mark.promise("K3")
def test_a_stop_before_the_first_step_is_not_lost() -> None:
    """A signal may come while the data are read or the checkpoint is loaded."""
    trainer, train, validation = make("sgd", plain=False)
    trainer.stop()
    assert trainer.fit(train, validation, epochs=EPOCHS) == []
    assert trainer.optimizer.t == 0
    trainer.fit(train, validation, epochs=EPOCHS)
    assert digest(trainer) == uninterrupted("sgd", plain=False)


def test_a_state_stays_as_it_was_taken() -> None:
    trainer, train, validation = make("sgd", plain=False, stop=STEPS + 2)
    trainer.fit(train, validation, epochs=EPOCHS)
    state = trainer.state()
    trainer.fit(train, validation, epochs=EPOCHS)
    second, *_ = make("sgd", plain=False)
    second.load_state(*state)
    second.fit(train, validation, epochs=EPOCHS)
    assert digest(second) == digest(trainer)


# States that cannot be


def test_a_state_of_another_network_or_optimizer_is_refused() -> None:
    tensors, meta = make("sgd", plain=False)[0].state()
    with pytest.raises(CheckpointMismatchError, match="velocity"):
        make("adam", plain=False)[0].load_state(tensors, meta)
    other = Sequential(Flatten(), Linear(64, 3, rng=np.random.default_rng(0)), input_shape=SHAPE)
    with pytest.raises(WeightsMismatchError):
        trainer_of(other, callbacks=[BestWeights()]).load_state(tensors, meta)
    with pytest.raises(CheckpointMismatchError, match=r"expected parts \['network', 'optimizer'\], got .*callback0"):
        trainer_of(network()).load_state(tensors, meta)


@pytest.mark.promise("K05")
@pytest.mark.parametrize("name", ["epoch", "batch", "finished", "history", "loss_sum", "images", "seconds"])
@pytest.mark.parametrize("value", [None, -1, 1.5, "1", True, [], {}, 10**6, [{"epoch": 1}], [3], math.nan])
def test_a_field_that_cannot_be_is_refused(name: str, value: Any) -> None:
    trainer, *_ = make("sgd", plain=False)
    tensors, meta = trainer.state()
    kind = type(meta[name])
    fine = (
        type(value) is kind
        and not (name in ("epoch", "batch", "images") and value)
        and value != -1
        and value not in ([{"epoch": 1}], [3])
    )
    if fine:
        trainer.load_state(tensors, meta | {name: value})
        return
    before = digest(trainer)
    with pytest.raises(CheckpointCorruptError, match="checkpoint: expected"):
        trainer.load_state(tensors, meta | {name: value})
    assert digest(trainer) == before


def test_a_negative_loss_can_be_resumed() -> None:
    """Not every loss is positive."""

    def shifted(scores: Any, targets: Any, weights: Any = None) -> tuple[float, Any]:
        loss, dscores = cross_entropy(scores, targets, weights)
        return loss - 100, dscores

    trainer = trainer_of(network(), loss=shifted, callbacks=[StopAt(3)])
    trainer.fit(Loader(dataset(), BATCH), epochs=1)
    second = trainer_of(network(1), loss=shifted, callbacks=[StopAt(0)])
    second.load_state(*trainer.state())
    assert second.fit(Loader(dataset(), BATCH), epochs=1)[0]["train_loss"] < -90


def test_a_batch_beyond_the_epoch_is_an_error_of_the_family() -> None:
    trainer, train, validation = make("sgd", plain=False)
    tensors, meta = trainer.state()
    trainer.load_state(tensors | {"optimizer.t": np.array(99)}, meta | {"batch": 99, "images": 9})
    with pytest.raises(StridenetError):
        trainer.fit(train, validation, epochs=EPOCHS)


# Threads


def test_the_limit_of_blas_threads_is_set_and_lifted_by_the_main_thread_alone() -> None:
    def limits() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def enter() -> None:
        with blas_threads():
            barrier.wait(30)  # all are inside at once

    with threadpool_limits(2, user_api="blas"):
        with blas_threads():
            assert limits() == {1}
        assert limits() == {2}
        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert limits() == {2}


# What it refuses


@pytest.mark.parametrize("callbacks", [[BestWeights], BestWeights(), None, [BestWeights(), "stop"]])
def test_callbacks_are_a_list_of_callbacks(callbacks: Any) -> None:
    with pytest.raises(ConfigError, match=r"Trainer: expected a list of callbacks, such as \[BestWeights\(\)\], got"):
        trainer_of(network(), callbacks=callbacks)


@pytest.mark.parametrize("data", [dataset(), dataset().images, None])
def test_only_a_loader_is_trained_and_judged_on(data: Any) -> None:
    trainer, loader, got = trainer_of(network()), Loader(dataset(), 8), type(data).__name__
    with pytest.raises(
        ConfigError, match=rf"Trainer\.fit: expected a Loader, got {got}; Loader\(dataset, batch_size\)"
    ):
        trainer.fit(data, epochs=1)
    if data is not None:
        with pytest.raises(ConfigError, match=r"Trainer\.fit: expected a Loader"):
            trainer.fit(loader, data, epochs=1)
    with pytest.raises(ConfigError, match="evaluate: expected a Loader"):
        trainer.evaluate(data)
    assert trainer.optimizer.t == 0


def test_images_of_float64_are_trained_as_those_of_float32() -> None:
    x, losses = dataset(8).images / 255, []
    for images in (x, x.astype(np.float32)):
        trainer = trainer_of(network())
        trainer.fit(Loader(Dataset(images, dataset(8).targets, ("a", "b", "c")), 8), epochs=2)
        losses.append([row["train_loss"] for row in trainer.history])
    assert losses[0] == losses[1]
