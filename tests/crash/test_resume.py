"""A training that stops after any step and is resumed ends with the bits of one that never stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import StopAt
from stridenet.data.augment import RandomShift
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Sequential
from stridenet.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, RMSprop
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import cosine, one_cycle_momentum
from stridenet.strictjson import to_json
from stridenet.train.callbacks import BestWeights
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.policies import EarlyStopping, ReduceOnPlateau, WeightAverage
from stridenet.train.trainer import Callback, Trainer

EPOCHS, STEPS, BATCH = 3, 10, 4  # the last batch of an epoch has 3 images
TOTAL = EPOCHS * STEPS
PURE, FULL = "plain", "everything"

OPTIMIZERS: dict[str, Callable[[Any, Any], Optimizer]] = {
    "sgd": lambda p, lr: SGD(p, lr(0.05), weight_decay=1e-3, decay_mode="constant"),
    "momentum": lambda p, lr: SGD(p, lr(0.05), momentum=one_cycle_momentum(total=TOTAL), weight_decay=1e-3),
    "nesterov": lambda p, lr: SGD(p, lr(0.05), momentum=0.9, nesterov=True),
    "averaging": lambda p, lr: SGD(p, lr(0.3), momentum=0.9, averaging=True),
    "adam": lambda p, lr: Adam(p, lr(0.01), betas=(one_cycle_momentum(total=TOTAL), 0.99)),
    "adamw": lambda p, lr: AdamW(p, lr(0.01)),
    "rmsprop": lambda p, lr: RMSprop(p, lr(0.003), momentum=0.9, centered=True),
    "adagrad": lambda p, lr: Adagrad(p, lr(0.02), lr_decay=0.01, initial_accumulator_value=0.1),
    "adadelta": lambda p, lr: Adadelta(p, lr(1.0)),
}


def dataset(n: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    images = rng.integers(0, 120, (n, 1, 8, 8))
    images[np.arange(n), 0, 2 + targets, 2:6] += 100
    return Dataset(images.astype(np.uint8), targets, ("a", "b", "c"))


def network(kind: str, seed: int) -> Sequential:
    rng = np.random.default_rng(seed)
    convolution = Conv2d(1, 3, 3, rng=rng)
    middle = [ReLU(), MaxPool2d(2)] if kind == PURE else [BatchNorm2d(3), ReLU(), MaxPool2d(2), Dropout(0.3)]
    last = [Flatten(), Linear(27, 8, rng=rng), ReLU(), *([] if kind == PURE else [Dropout(0.3)])]
    return Sequential(convolution, *middle, *last, Linear(8, 3, rng=rng), input_shape=(1, 8, 8))


def policies() -> list[Callback]:
    """They make a run of any number of epochs end after the third one, its learning rate reduced on the way."""
    return [WeightAverage(0.8), ReduceOnPlateau(0.5, patience=0, min_delta=10.0), EarlyStopping(2, min_delta=1.0)]


def train(optimizer: str, kind: str, stop: int, start: tuple[Any, Any] | None = None, seed: int = 0) -> Trainer:
    """A run, from the beginning or from a saved state, to its end or to the step at which it stops."""
    net = network(kind, seed)
    data = dataset(BATCH * STEPS - 1, seed=1)
    pipeline, augment = Pipeline([Normalize([0.3], [0.25])]), None if kind == PURE else RandomShift(1)
    loader = Loader(data, BATCH, shuffle=True, seed=5, transform=pipeline, augment=augment)
    rate = (lambda lr: lr) if kind == PURE else (lambda lr: cosine(lr, total=TOTAL))
    trainer = Trainer(
        net,
        OPTIMIZERS[optimizer](net.pack(), rate),
        callbacks=[*([] if kind == PURE else policies()), BestWeights(), StopAt(stop)],
        seed=5,
        clip_norm=None if kind == PURE else 1.0,
    )
    if start is not None:
        trainer.load_state(*start)
    trainer.fit(loader, Loader(dataset(20, seed=2), 16, transform=pipeline), epochs=EPOCHS if kind == PURE else 100)
    return trainer


def digest(trainer: Trainer) -> str:
    """SHA-256 of all that a checkpoint holds: tensors, places and the history without its seconds."""
    tensors, meta = trainer.state()
    meta = meta | {"seconds": 0, "history": [{**row, "seconds": 0} for row in meta["history"]]}
    found = hashlib.sha256(to_json(meta).encode())
    for name in sorted(tensors):
        found.update(name.encode() + str(tensors[name].dtype).encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return found.hexdigest()


def check_resumes(optimizer: str, kind: str, stops: range, folder: Path) -> None:
    whole = train(optimizer, kind, stop=0)
    assert (whole.optimizer.t, whole.finished, len(whole.history)) == (TOTAL, kind == FULL, EPOCHS)
    wanted, store = digest(whole), CheckpointStore(folder)
    for stop in stops:
        first = train(optimizer, kind, stop)
        assert first.optimizer.t == stop
        store.save(stop, *first.state())
        second = train(optimizer, kind, 0, store.latest()[1:], seed=7)  # all must come from the file
        assert digest(second) == wanted, f"stopped at step {stop}"


@pytest.mark.big
@pytest.mark.promise("K2")
@pytest.mark.parametrize("kind", [PURE, FULL])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_has_the_same_bits(optimizer: str, kind: str, tmp_path: Path) -> None:
    first = 1 + (3 * list(OPTIMIZERS).index(optimizer) + 5 * (kind == FULL)) % 15
    check_resumes(optimizer, kind, range(first, TOTAL + 1, 15), tmp_path)


@pytest.mark.big
@pytest.mark.slow
@pytest.mark.promise("K2")
@pytest.mark.parametrize("kind", [PURE, FULL])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_resumed_at_any_step_has_the_same_bits(optimizer: str, kind: str, tmp_path: Path) -> None:
    """30 steps x 9 optimisers x 2: 540 resumes."""
    check_resumes(optimizer, kind, range(1, TOTAL + 1), tmp_path)


@pytest.mark.big
@pytest.mark.promise("K2")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_change_of_any_part_of_a_state_changes_the_bits(optimizer: str) -> None:
    """Each part of a state matters, and the comparison sees it."""
    wanted, first = digest(train(optimizer, FULL, stop=0)), train(optimizer, FULL, stop=17)
    tensors, meta = first.state()
    assert digest(train(optimizer, FULL, 0, (tensors, meta))) == wanted
    for name in (name for name, value in tensors.items() if value.dtype.kind == "f"):
        if not name.startswith("callback3"):  # the best epoch of all: a later one may take its place
            changed = tensors | {name: tensors[name] * np.float32(1.5) + np.float32(1e-3)}
            assert digest(train(optimizer, FULL, 0, (changed, meta))) != wanted, name
    for name, value in {"batch": meta["batch"] - 1, "loss_sum": 0.0, "images": 1}.items():
        assert digest(train(optimizer, FULL, 0, (tensors, meta | {name: value}))) != wanted, name
