from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import CheckpointCorruptError, CheckpointMismatchError, ConfigError
from stridenet.layout import Array
from stridenet.nn.classic import ScaledTanh
from stridenet.nn.curvature import curvature
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.losses import cross_entropy
from stridenet.nn.sequential import Sequential
from stridenet.optim.levenberg import SDLM
from stridenet.optim.optimizers import SGD
from stridenet.optim.schedules import cosine, exponential
from stridenet.train.callbacks import BestWeights, Checkpoints
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.metrics import standing
from stridenet.train.policies import CurvatureEstimate, EarlyStopping, ReduceOnPlateau, TimeBudget, WeightAverage
from stridenet.train.trainer import Callback, Trainer

STEPS, EPOCHS = 4, 5


def make(*callbacks: Callback, seed: int = 0, lr: Any = 0.5) -> Trainer:
    rng = np.random.default_rng(seed)
    network = Sequential(Flatten(), Linear(16, 8, rng=rng), Linear(8, 2, rng=rng), input_shape=(1, 4, 4))
    return Trainer(network, SGD(network.pack(), lr, momentum=0.9), callbacks=callbacks)


def loader(n: int = 20, seed: int = 0) -> Loader:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 1, 4, 4)).astype(np.uint8)
    return Loader(Dataset(images, np.arange(n) % 2, ("a", "b")), 5, shuffle=True)


def validation() -> Loader:
    return Loader(loader(12, seed=1).dataset, 12)


class Judge(Callback):
    """Puts losses and accuracies of its own into the history, before others look."""

    def __init__(self, losses: list[float], accuracies: list[float] | None = None) -> None:
        self.losses, self.accuracies = losses, accuracies or [0.5] * len(losses)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["validation_loss"], row["validation_accuracy"] = self.losses[row["epoch"]], self.accuracies[row["epoch"]]


# Bad arguments


@pytest.mark.promise("P01", "P06")
@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (ReduceOnPlateau, "factor", [-0.1, 1, 1.5, math.nan, "0.1", None, True]),
        (ReduceOnPlateau, "patience", [-1, 1.5, "2", None, True]),
        (ReduceOnPlateau, "min_delta", [-0.1, math.inf, math.nan, "0", None]),
        (ReduceOnPlateau, "cooldown", [-1, 0.5, None]),
        (EarlyStopping, "patience", [0, -1, 2.0, "2", None, True]),
        (EarlyStopping, "min_delta", [-0.1, 1.1, math.nan, "0", None]),
        (TimeBudget, "seconds", [0, -1, math.inf, math.nan, "60", None, True]),
        (TimeBudget, "images", [-1, 1.5, None]),
        (TimeBudget, "reserve", [-1, math.inf, None]),
        (WeightAverage, "decay", [0, 1, -0.1, 2, math.nan, "0.9", True]),
        (WeightAverage, "start_epoch", [-1, 1.5, None]),
    ],
)
def test_an_argument_out_of_range_is_refused(kind: Any, name: str, values: list[Any]) -> None:
    needed = {"seconds": 60} if kind is TimeBudget else {}
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{kind.__name__}: expected {name} "):
            kind(**needed | {name: value})


@pytest.mark.parametrize("kind", [ReduceOnPlateau, EarlyStopping])
def test_what_goes_by_the_validation_needs_one(kind: Any) -> None:
    message = rf"^{kind.__name__}: expected a validation set in every epoch, got none in epoch 0$"
    trainer = make(kind())
    with pytest.raises(ConfigError, match=message):
        trainer.fit(loader(), epochs=2)
    with pytest.raises(ConfigError, match=message):
        trainer.fit(loader(), validation(), epochs=2)
    for wrong in ({"validation_loss": "1", "validation_accuracy": 0.5}, {"validation_loss": 1.0}):
        trainer = make(kind())
        trainer.history = [{"epoch": 0} | wrong]
        with pytest.raises(ConfigError, match=message):
            trainer.fit(loader(), validation(), epochs=2)


# The learning rate


def rates(losses: list[float], **options: Any) -> list[float]:
    """The learning rate of the last step of each epoch."""
    trainer = make(Judge(losses), ReduceOnPlateau(**options), lr=1.0)
    return [row["lr"] for row in trainer.fit(loader(), validation(), epochs=len(losses))]


@pytest.mark.parametrize(
    ("losses", "options", "wanted"),
    [
        ([5, 4, 3, 2, 1], {"patience": 0}, [1, 1, 1, 1, 1]),
        ([1, 1, 1, 1], {"patience": 0}, [1, 1, 0.5, 0.25]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1}, [1, 1, 1, 0.5, 0.5, 0.25]),
        ([1, 2, 0.5, 2, 2, 2], {"patience": 1}, [1, 1, 1, 1, 1, 0.5]),  # counted in a row
        ([1, 0.95, 0.9, 0.85, 0.8], {"patience": 0, "min_delta": 0.1}, [1, 1, 0.5, 0.25, 0.25]),  # 0.85 is better
        ([1, 1, 1, 1, 1, 1], {"patience": 0, "cooldown": 2}, [1, 1, 0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_the_learning_rate_falls_on_a_plateau(losses: list[float], options: Any, wanted: list[float]) -> None:
    assert rates([float(loss) for loss in losses], factor=0.5, **options) == wanted


def test_a_plateau_scales_the_schedule_and_leaves_the_slots() -> None:
    schedule = cosine(1.0, total=40)
    trainer = make(Judge([1.0] * 10), ReduceOnPlateau(factor=0.5, patience=0), lr=schedule)
    trainer.fit(loader(), validation(), epochs=2)
    velocity = trainer.optimizer.state_dict()["velocity"]
    assert velocity.any()
    for expected in (2, 3):
        trainer.fit(loader(), validation(), epochs=expected)  # on_start again: the scale is put on once
        step = trainer.optimizer.t
        assert trainer.optimizer.current_lr == schedule(step) * 0.5 ** (expected - 1)
    trainer.optimizer.lr = 3.0  # a new one is scaled too
    assert trainer.fit(loader(), validation(), epochs=4)[-1]["lr"] == 3.0 * 0.5**2


def test_two_plateaus_are_refused() -> None:
    trainer = make(ReduceOnPlateau(), ReduceOnPlateau())
    with pytest.raises(ConfigError, match="ReduceOnPlateau: expected one among the callbacks, got several; keep one"):
        trainer.fit(loader(), validation(), epochs=1)


# The end


@pytest.mark.parametrize(
    ("accuracies", "losses", "options", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1] * 6, {"patience": 1}, 6),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], [1] * 6, {"patience": 1}, 2),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], [1] * 6, {"patience": 3}, 4),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1, 0.9, 0.8, 0.8, 0.9, 1], {"patience": 2}, 5),  # the loss counts as well
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.7], [1] * 6, {"patience": 2}, 5),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1] * 6, {"patience": 2, "min_delta": 0.15}, 6),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1] * 6, {"patience": 2, "min_delta": 0.25}, 3),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1] * 6, {"patience": 2, "min_delta": 1}, 3),
    ],
)
def test_training_ends_early_without_progress(
    accuracies: list[float], losses: list[float], options: Any, epochs: int
) -> None:
    best = BestWeights()
    judge = Judge([float(loss) for loss in losses], accuracies)
    trainer = make(judge, best, EarlyStopping(**options))
    history = trainer.fit(loader(), validation(), epochs=6)
    assert len(history) == epochs
    assert trainer.finished is (epochs < 6)
    if "min_delta" not in options:
        waited = options["patience"] if trainer.finished else history[-1]["epoch"] - best.epoch
        assert best.epoch == epochs - 1 - waited  # patience and the best weights agree


# The budget of time


class Clock:
    """A clock that shows what a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Durations(Callback):
    """Lets a step take `step` seconds, the first one `first`."""

    def __init__(self, clock: Clock, step: float, first: float | None = None) -> None:
        self.clock, self.step, self.first = clock, step, first

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.clock.now += self.first if self.first is not None and trainer.optimizer.t == 1 else self.step


class Judging(Callback):
    """Stands behind the budget: its time falls into the validation."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def on_evaluation(self, trainer: Trainer) -> None:
        self.clock.now += self.seconds


def within(
    seconds: float, step: float, judging: float = 0.0, *, first: float | None = None, **options: Any
) -> tuple[Trainer, float]:
    """A run of at most 10 epochs of 4 steps of 5 images, judged on 12; and the seconds that it took."""
    clock = Clock()
    budget = TimeBudget(seconds, clock=clock, **options)
    trainer = make(Durations(clock, step, first=first), budget, Judging(clock, judging))
    trainer.fit(loader(), validation(), epochs=10)
    return trainer, clock.now - 1000


@pytest.mark.parametrize(
    ("seconds", "options", "steps", "used"),
    [
        (1000, {}, 40, 40),  # all
        (10.5, {}, 10, 10),
        (10, {}, 10, 10),
        (9.99, {}, 9, 9),
        (0.1, {}, 1, 1),  # always one
        (10, {"reserve": 2.5}, 7, 7),
        (10, {"reserve": 20}, 1, 1),
    ],
)
def test_no_step_is_begun_that_would_end_too_late(seconds: float, options: Any, steps: int, used: float) -> None:
    trainer, took = within(seconds, 1.0, **options)
    assert (trainer.optimizer.t, took) == (steps, used)
    assert trainer.finished is (steps < 40)
    assert trainer.history[-1]["step"] == steps  # what came of the last epoch is judged


@pytest.mark.parametrize("seconds", range(10, 60, 3))
def test_there_is_time_left_to_judge_and_to_test(seconds: int) -> None:
    """A step of 1 s for 5 images, a validation of 2 s for 12, a test of 30, 2 s for the rest."""
    trainer, took = within(seconds, 1.0, 2.0, images=12 + 30, reserve=2)
    after = 30 * 2 / 12 + 2
    if trainer.optimizer.t > 2:
        assert took + after <= seconds
    if trainer.optimizer.t > STEPS:  # a validation has been measured: what is left is less than a step, or a validation
        assert took + after + 1 + 2 > seconds
    assert trainer.finished


def test_the_first_step_which_is_slow_is_no_measure_of_an_evaluation() -> None:
    """5 images in 2 s would be 400 s for 1 000 images; in the steps to come they are 0.005 s."""
    trainer, _ = within(60, 0.005, first=2.0, images=1000)
    assert (trainer.optimizer.t, trainer.finished) == (40, False)
    trainer, _ = within(60, 0.5, first=2.0, images=1000)
    assert (trainer.optimizer.t, trainer.finished) == (2, True)


def test_a_budget_has_no_state_and_a_resumed_run_one_of_its_own() -> None:
    trainer, _ = within(10, 1.0)
    assert TimeBudget(1).state_dict() == {}
    clock = Clock()
    stopped = make(Durations(clock, 1.0), TimeBudget(10, clock=clock), StopAt(6))
    stopped.fit(loader(), validation(), epochs=10)
    resumed = make(Durations(clock, 1.0), TimeBudget(10, clock=clock), Callback())
    resumed.load_state(*stopped.state())
    resumed.fit(loader(), validation(), epochs=10)
    assert (trainer.optimizer.t, resumed.optimizer.t) == (10, 16)


def test_the_clock_is_a_real_one_by_default() -> None:
    trainer = make(TimeBudget(1e-6))
    assert len(trainer.fit(loader(), epochs=3)) == 1
    assert trainer.optimizer.t == 1


# The average of weights


class Path(Callback):
    """Writes down the weights after each step, and those in place when an epoch is done."""

    def __init__(self) -> None:
        self.raw: list[Array] = []
        self.judged: list[Array] = []

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.raw.append(trainer.params.value.copy())

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.judged.append(trainer.params.value.copy())


@pytest.mark.parametrize("start", [0, 2])
def test_the_moving_average_is_that_of_the_weights_after_each_step(start: int) -> None:
    path = Path()
    trainer = make(path, WeightAverage(0.9, start_epoch=start))
    trainer.fit(loader(), validation(), epochs=EPOCHS)
    plain = make(alone := Path())
    plain.fit(loader(), validation(), epochs=EPOCHS)
    assert all(np.array_equal(a, b) for a, b in zip(path.raw, alone.raw, strict=True))  # the way itself is the same
    counted = path.raw[start * STEPS :]
    wanted = counted[0].astype(float)
    for i, weights in enumerate(counted[1:], start=start * STEPS + 1):
        wanted = 0.9 * wanted + 0.1 * weights
        if (i + 1) % STEPS == 0:
            assert np.allclose(path.judged[i // STEPS], wanted, rtol=1e-5, atol=1e-6)
            assert not np.allclose(path.judged[i // STEPS], weights, rtol=1e-3)
    for epoch in range(start):
        assert np.array_equal(path.judged[epoch], path.raw[(epoch + 1) * STEPS - 1])
    assert np.array_equal(trainer.params.value, path.judged[-1])  # after the last epoch it stays


@pytest.mark.parametrize("start", [0, 3])
def test_the_mean_is_that_of_the_weights_at_the_end_of_each_epoch(start: int) -> None:
    path = Path()
    make(path, WeightAverage(start_epoch=start)).fit(loader(), validation(), epochs=EPOCHS)
    ends = path.raw[STEPS - 1 :: STEPS]
    for epoch in range(EPOCHS):
        wanted = np.mean(ends[start : epoch + 1], axis=0) if epoch >= start else ends[epoch]
        assert np.allclose(path.judged[epoch], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average_first", [True, False])
def test_what_is_judged_and_kept_are_the_averages(average_first: bool) -> None:
    best, path, average = BestWeights(), Path(), WeightAverage(0.8)
    callbacks = [average, best, path] if average_first else [best, path, average]
    trainer = make(*callbacks)
    history = trainer.fit(loader(), validation(), epochs=EPOCHS)
    assert trainer.evaluate(validation()).loss == history[-1]["validation_loss"]
    assert best.epoch == max(history, key=standing)["epoch"]
    best.restore(trainer.network)
    assert np.array_equal(trainer.params.value, path.judged[best.epoch])
    assert trainer.evaluate(validation()).loss == history[best.epoch]["validation_loss"]


def test_a_stop_within_an_epoch_leaves_the_raw_weights() -> None:
    path = Path()
    trainer = make(path, WeightAverage(0.9), StopAt(STEPS + 2))
    trainer.fit(loader(), validation(), epochs=EPOCHS)
    assert np.array_equal(trainer.params.value, path.raw[-1])
    trainer.fit(loader(), validation(), epochs=EPOCHS)
    whole = make(WeightAverage(0.9))
    whole.fit(loader(), validation(), epochs=EPOCHS)
    assert np.array_equal(trainer.params.value, whole.params.value)


@pytest.mark.parametrize("decay", [0.9, None])
def test_an_interrupted_validation_is_not_counted_twice(decay: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the same objects go on after Ctrl-C."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    trainer = make(WeightAverage(decay))
    trainer.fit(loader(), validation(), epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", interrupt)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(loader(), validation(), epochs=EPOCHS)
    trainer.fit(loader(), validation(), epochs=EPOCHS)
    whole = make(WeightAverage(decay))
    whole.fit(loader(), validation(), epochs=EPOCHS)
    assert np.array_equal(trainer.params.value, whole.params.value)


def test_a_state_stays_as_it_was_taken_and_as_it_was_given() -> None:
    first = make(WeightAverage(0.9), StopAt(STEPS + 2))
    first.fit(loader(), validation(), epochs=EPOCHS)
    tensors, meta = first.state()
    before = {name: value.copy() for name, value in tensors.items()}
    second = make(WeightAverage(0.9), Callback(), seed=1)
    second.load_state(tensors, meta)
    for trainer in (first, second):
        trainer.fit(loader(), validation(), epochs=EPOCHS)
    assert all(np.array_equal(value, before[name]) for name, value in tensors.items())


def test_weights_that_diverge_make_no_warning_of_the_average() -> None:
    trainer, average = make(), WeightAverage(0.5)
    for step, value in enumerate((3e38, -3e38, math.inf, math.nan), start=1):
        trainer.params.value.fill(value)
        trainer.optimizer.t = step
        average.on_step(trainer, 0.0)


@pytest.mark.promise("K05")
def test_a_state_of_an_average_that_cannot_be_is_refused() -> None:
    average, trainer = WeightAverage(0.9), make()
    trainer.callbacks = [average]
    assert average.state_dict().keys() == {"counts"}
    trainer.fit(loader(), validation(), epochs=2)
    state = average.state_dict()
    assert state.keys() == {"counts", "average", "raw"}
    weights, counts = state["average"], state["counts"]
    broken = [
        {},
        {"average": weights, "raw": weights},
        {"counts": counts},
        state | {"counts": counts[:1]},
        state | {"counts": counts.astype(np.float64)},
        state | {"counts": -counts},
        state | {"counts": counts * 0},
        {"counts": counts, "raw": weights},
        state | {"other": weights},
        state | {"raw": weights[:-1]},
        state | {"raw": weights.astype(np.float64)},
        state | {"average": weights[None], "raw": weights[None]},
        state | {"average": weights.astype(int), "raw": weights.astype(int)},
        state | {"average": weights * np.nan},
        state | {"raw": np.full_like(weights, np.inf)},
    ]
    before = average.state_dict()
    for wrong in broken:
        with pytest.raises(CheckpointCorruptError, match=r"^checkpoint: expected "):
            average.load_state_dict(wrong)
    assert all(np.array_equal(value, before[name]) for name, value in average.state_dict().items())
    average.load_state_dict({"counts": counts, "average": weights[1:], "raw": weights[1:]})
    with pytest.raises(CheckpointMismatchError, match=r"^WeightAverage: expected an average of \(154,\) float32, got"):
        trainer.fit(loader(), validation(), epochs=3)


# Resuming: the same bits


POLICIES: dict[str, Callable[[], list[Callback]]] = {
    "reduce_on_plateau": lambda: [ReduceOnPlateau(0.5, patience=0, cooldown=1)],
    "early_stopping": lambda: [EarlyStopping(3)],
    "moving average": lambda: [WeightAverage(0.9, start_epoch=1)],
    "mean": lambda: [WeightAverage(start_epoch=2)],
    "all": lambda: [WeightAverage(0.7), ReduceOnPlateau(0.5, patience=0), EarlyStopping(3)],
}


class Keep(Callback):
    """Keeps the state of the run at every moment at which a callback is called."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name != "on_finish":
            return lambda trainer, *_: self.states.append(trainer.state())
        return super().__getattribute__(name)


def result(trainer: Trainer) -> tuple[Any, dict[str, bytes]]:
    """The history without its times, and all bits."""
    tensors, meta = trainer.state()
    meta = meta | {"seconds": 0, "history": [row | {"seconds": 0} for row in meta["history"]]}
    return meta, {name: value.tobytes() for name, value in tensors.items()}


@pytest.mark.promise("K2")
@pytest.mark.parametrize("keep_first", [True, False])
@pytest.mark.parametrize("name", POLICIES)
def test_a_state_of_any_moment_leads_to_the_same_bits(name: str, keep_first: bool) -> None:
    """Whether it is taken before or after the policies have been called."""

    def run(keeper: Callback, seed: int) -> Trainer:
        policies = POLICIES[name]()
        order = [keeper, *policies] if keep_first else [*policies, keeper]
        return make(BestWeights(), *order, seed=seed, lr=exponential(1.0, factor=0.97))

    plain, whole, watched = make(lr=exponential(1.0, factor=0.97)), run(Callback(), 0), run(keep := Keep(), 0)
    for trainer in (plain, whole, watched):
        trainer.fit(loader(), validation(), epochs=EPOCHS)
    assert not np.array_equal(plain.params.value, whole.params.value)  # the policy has done something
    assert result(watched) == result(whole)
    assert len(keep.states) == 1 + len(watched.history) * (STEPS + 3)
    for number, state in enumerate(keep.states):
        resumed = run(Callback(), 9)
        resumed.load_state(*state)
        resumed.fit(loader(), validation(), epochs=EPOCHS)
        assert result(resumed) == result(whole), number


@pytest.mark.promise("K2")
def test_an_early_end_is_not_lost_when_the_run_is_killed_just_before_it(tmp_path: Any) -> None:
    """Checkpoints stands before EarlyStopping: the last epoch is saved, that it was the last is not yet."""
    judge = Judge([1.0] * 6)
    store = CheckpointStore(tmp_path)

    class Killed(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(judge, Checkpoints(store, {}), Killed(), EarlyStopping(1)).fit(loader(), validation(), epochs=6)
    for _ in range(2):
        resumed = make(judge, Checkpoints(store, {}), Callback(), EarlyStopping(1))
        resumed.load_state(store.latest()[1], store.latest()[2]["trainer"])
        assert len(resumed.fit(loader(), validation(), epochs=6)) == 2
        assert store.latest()[2]["trainer"]["finished"] is True


# CurvatureEstimate


def second_order(*others: Callback, data: Loader, samples: int = 8, seed: int = 0) -> Trainer:
    network = Sequential(Flatten(), Linear(16, 4, rng=np.random.default_rng(seed)), ScaledTanh())
    optimizer = SDLM(network.pack(), 0.01, mu=0.1)
    return Trainer(network, optimizer, callbacks=[CurvatureEstimate(data, samples), *others])


class Estimates(Callback):
    """Remembers the curvature of each epoch, and of what images it is."""

    def __init__(self) -> None:
        self.seen: list[Array] = []
        self.start: list[Array] = []

    def on_epoch_start(self, trainer: Trainer) -> None:
        assert isinstance(trainer.optimizer, SDLM)
        self.seen.append(trainer.optimizer.curvature.copy())
        self.start.append(trainer.params.value.copy())


def test_the_curvature_is_that_of_the_first_images_of_each_epoch() -> None:
    data, watch = loader(), Estimates()
    trainer = second_order(watch, data=data)
    trainer.fit(data, epochs=2)
    for epoch in range(2):
        batches = [batch for batch, _ in zip(data.epoch(epoch), range(2), strict=False)]  # 2 of 5 images for 8
        x, y = (np.concatenate(part) for part in list(zip(*batches, strict=True))[:2])
        twin = Sequential(Flatten(), Linear(16, 4, rng=np.random.default_rng(0)), ScaledTanh())
        twin.pack().value[...] = watch.start[epoch]
        assert watch.seen[epoch] == pytest.approx(curvature(twin, cross_entropy, x, y), rel=1e-5)
    assert not np.allclose(watch.seen[0], watch.seen[1])


def test_more_samples_than_images_are_all_of_them() -> None:
    data, watch = loader(), Estimates()
    second_order(watch, data=data, samples=10**6).fit(data, epochs=1)
    every = Estimates()
    second_order(every, data=data, samples=20).fit(data, epochs=1)
    assert np.array_equal(watch.seen[0], every.seen[0])


@pytest.mark.promise("K2")
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 11])
def test_a_run_resumed_at_any_step_estimates_what_it_would_have(stop: int) -> None:
    data = loader()
    whole = second_order(data=data)
    whole.fit(data, epochs=3)
    first = second_order(StopAt(stop), data=data)
    first.fit(data, epochs=3)
    assert first.optimizer.t == stop
    second = second_order(StopAt(0), data=data, seed=7)
    second.load_state(*first.state())
    second.fit(data, epochs=3)
    assert np.array_equal(second.params.value, whole.params.value)
    assert np.array_equal(second.optimizer.state_dict()["curvature"], whole.optimizer.state_dict()["curvature"])


@pytest.mark.promise("P06")
def test_an_estimate_that_nobody_takes_is_refused() -> None:
    data = loader()
    with pytest.raises(ConfigError, match=r"^CurvatureEstimate: expected an SDLM, got SGD$"):
        make(CurvatureEstimate(data)).fit(data, epochs=1)
    with pytest.raises(ConfigError, match=r"^CurvatureEstimate: expected a Loader, got Dataset"):
        CurvatureEstimate(data.dataset)  # pyright: ignore[reportArgumentType]
    for samples in 0, 1.5, None:
        with pytest.raises(ConfigError, match=r"^CurvatureEstimate: expected samples "):
            CurvatureEstimate(data, samples)  # pyright: ignore[reportArgumentType]
