"""The norms of an epoch: what they are of, that they survive a stop, and that they leave the training alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import CheckpointCorruptError, CheckpointMismatchError
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train import telemetry
from stridenet.train.callbacks import BestWeights
from stridenet.train.policies import WeightAverage
from stridenet.train.telemetry import Norms
from stridenet.train.trainer import Callback, Trainer

NAMES = ["0.weight", "0.bias", "4.weight", "4.bias"]
STEPS = 4


class Watch(Callback):
    """Keeps value and gradient before and after every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, ...]] = []

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.before = trainer.params.value.copy()

    def on_step(self, trainer: Trainer, loss: float) -> None:
        after = trainer.params.value.copy()
        self.seen.append((self.before, trainer.params.grad.copy(), after))
        self.before = after


def loader() -> Loader:
    rng = np.random.default_rng(0)
    data = Dataset(rng.integers(0, 256, (22, 1, 6, 6), dtype=np.uint8), rng.integers(0, 3, 22), ("a", "b", "c"))
    return Loader(data, 6, shuffle=True, seed=1)


def trainer(*callbacks: Callback, seed: int = 0, frozen: int = 0, **options: Any) -> Trainer:
    rng = np.random.default_rng(seed)
    network = Sequential(
        Conv2d(1, 2, 3, rng=rng), ReLU(), Dropout(0.3), Flatten(), Linear(32, 3, rng=rng), input_shape=(1, 6, 6)
    )
    for layer in network.layers[:frozen]:
        layer.freeze()
    return Trainer(network, SGD(network.pack(), 0.05, momentum=0.9), callbacks=callbacks, seed=3, **options)


@pytest.mark.parametrize("plan", [True, False])
def test_they_are_of_the_first_step_of_each_epoch(plan: bool) -> None:
    watch = Watch()
    run = trainer(watch, Norms(), clip_norm=0.3, plan=plan)
    history = run.fit(loader(), epochs=3)
    for row, (before, gradient, after) in zip(history, watch.seen[::STEPS], strict=True):
        assert list(row["norms"]) == NAMES
        for name, found in row["norms"].items():
            part = run.params.slices[name]
            wanted = [np.linalg.norm(v[part].astype(np.float64)) for v in (before, gradient, after - before)]
            np.testing.assert_allclose(found, wanted, rtol=6e-4)
    assert np.linalg.norm(watch.seen[0][1]) == pytest.approx(0.3, rel=1e-5)  # as the optimiser got it: clipped


def test_of_an_average_of_weights_the_raw_ones_are_measured() -> None:
    plain, averaged = (trainer(*own, Norms()).fit(loader(), epochs=3) for own in ([], [WeightAverage(0.5)]))
    assert [row["norms"] for row in averaged] == [row["norms"] for row in plain]


def test_they_change_no_bit_of_the_training() -> None:
    runs = trainer(), trainer(Norms())
    for run in runs:
        run.fit(loader(), epochs=2)
    assert np.array_equal(runs[0].params.value, runs[1].params.value)


@pytest.mark.promise("K2")
@pytest.mark.parametrize("stop", range(1, 2 * STEPS + 1))
def test_a_resumed_run_has_the_same_norms(stop: int) -> None:
    whole = trainer(BestWeights(), Norms(), StopAt(0))
    wanted = [row["norms"] for row in whole.fit(loader(), epochs=2)]
    first = trainer(BestWeights(), Norms(), StopAt(stop))
    first.fit(loader(), epochs=2)
    assert "callback1.norms" in first.state()[0] or stop % STEPS == 0
    second = trainer(BestWeights(), Norms(), StopAt(0), seed=7)
    second.load_state(*first.state())
    assert [row["norms"] for row in second.fit(loader(), epochs=2)] == wanted
    assert whole.state()[0].keys() == second.state()[0].keys()


def test_an_epoch_begun_without_them_has_none() -> None:
    first = trainer(BestWeights(), StopAt(2))
    first.fit(loader(), epochs=2)
    second = trainer(BestWeights(), Norms(), seed=7)
    second.load_state(*first.state())
    assert ["norms" in row for row in second.fit(loader(), epochs=2)] == [False, True]


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MOST", 2 * len(NAMES))
    assert ["norms" in row for row in trainer(Norms()).fit(loader(), epochs=3)] == [True, True, False]


@pytest.mark.parametrize(
    "state",
    [
        {"norms": np.zeros(3)},
        {"norms": np.zeros((4, 3), np.float32)},
        {"norms": np.full((4, 3), np.nan)},
        {"norms": np.full((4, 3), -1.0)},
        {"others": np.zeros((4, 3))},
    ],
)
def test_a_state_that_cannot_be(state: dict[str, Any]) -> None:
    with pytest.raises(CheckpointCorruptError, match="checkpoint: expected norms of parameters"):
        Norms().load_state_dict(state)


def test_a_state_of_another_network() -> None:
    norms = Norms()
    norms.load_state_dict({"norms": np.zeros((3, 3))})
    with pytest.raises(CheckpointMismatchError, match=r"Norms: expected norms \(4, 3\), got \(3, 3\)"):
        trainer(norms).fit(loader(), epochs=1)


def test_a_run_folder_has_them(digits_run: Path) -> None:
    rows = [json.loads(line) for line in (digits_run / "history.jsonl").read_text().splitlines()]
    norms = [row["norms"] for row in rows]
    assert len(norms) == 6
    assert all(n.keys() == norms[0].keys() for n in norms)
    assert all(len(triple) == 3 and min(triple) > 0 for n in norms[1:] for triple in n.values())
    assert norms[0]["0.bias"][0] == 0  # biases begin there


def test_frozen_layers_have_none() -> None:
    (row,) = trainer(Norms(), frozen=4).fit(loader(), epochs=1)
    assert list(row["norms"]) == ["4.weight", "4.bias"]
