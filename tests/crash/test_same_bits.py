"""The same seed gives the same bits: run for run, and with any number of threads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import cli
from stridenet.data.augment import RandomShift
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import LabelError
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.policies import WeightAverage
from stridenet.train.trainer import Trainer

THREADS = (1, 2, 4)


def network(seed: int, *, random: bool, frozen: bool) -> Sequential:
    rng = np.random.default_rng(seed)
    block = Residual(Sequential(Conv2d(4, 4, 3, padding=1, rng=rng), ReLU()))
    first = Conv2d(1, 4, 3, rng=rng)
    noisy = [BatchNorm2d(4), Dropout(0.2)] if random else []
    net = Sequential(
        first.freeze() if frozen else first, *noisy, block, MaxPool2d(2), Flatten(), Linear(36, 3, rng=rng),
        input_shape=(1, 8, 8),
    )  # fmt: skip
    return net.eval()  # as a loaded model is: `fit` must train it all the same


def loader(seed: int, n: int, batch_size: int = 270) -> Loader:
    """Batches of four slices, and a last one that is too small to be cut; some images have no weight."""
    rng = np.random.default_rng(seed)
    images, targets = rng.integers(0, 256, (n, 1, 8, 8)).astype(np.uint8), rng.integers(0, 3, n)
    dataset = Dataset(images, targets, ("a", "b", "c"), weights=rng.integers(0, 3, n).astype(np.float32))
    return Loader(dataset, batch_size, shuffle=True, augment=RandomShift(1), seed=seed)


def trained(seed: int, threads: int, *, random: bool = False, frozen: bool = False) -> str:
    """SHA-256 of the state after two epochs."""
    net = network(seed, random=random, frozen=frozen)
    optimizer = SGD(net.pack(), 0.05, momentum=0.9)
    trainer = Trainer(net, optimizer, callbacks=[WeightAverage(0.9)], seed=seed, clip_norm=1.0, threads=threads)
    trainer.fit(loader(seed, 600), epochs=2)
    tensors, meta = trainer.state()
    found = hashlib.sha256(json.dumps([row["train_loss"] for row in meta["history"]]).encode())
    for name in sorted(tensors):
        found.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return found.hexdigest()


def check(seeds: range) -> None:
    for seed in seeds:
        options: dict[str, Any] = {"random": seed % 4 == 3, "frozen": seed % 3 == 2}
        found = [trained(seed, threads, **options) for threads in (*THREADS, 1)]
        assert len(set(found)) == 1, (seed, options)


@pytest.mark.big
@pytest.mark.promise("K4")
def test_runs_with_any_number_of_threads_are_equal() -> None:
    check(range(4))
    assert trained(0, 1) != trained(1, 1)
    assert trained(0, 1) != trained(0, 1, frozen=True)


@pytest.mark.big
@pytest.mark.slow
@pytest.mark.promise("K4")
def test_twenty_runs_with_any_number_of_threads_are_equal() -> None:
    check(range(20))


@pytest.mark.big
@pytest.mark.promise("K4")
@pytest.mark.parametrize("threads", THREADS)
def test_a_batch_that_fails_leaves_nothing_behind(threads: int) -> None:
    """A label is wrong in one of the slices; the steps after it are as if it had not been tried."""
    found: list[bytes] = []
    for at in (None, 0, 100, 255):
        net = network(0, random=False, frozen=False).train()
        trainer = Trainer(net, SGD(net.pack(), 0.05, momentum=0.9), threads=threads)
        x, y, _ = next(loader(0, 256, 256).epoch(0))
        if at is not None:
            wrong = y.copy()
            wrong[at] = 3
            with pytest.raises(LabelError):
                trainer.step(x, wrong)
        trainer.step(x, y)
        found.append(trainer.params.value.tobytes())
    assert len(set(found)) == 1


@pytest.mark.promise("K4")
def test_the_files_of_a_run_do_not_depend_on_its_threads(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *arguments: None)
    recipe_file.write_text(recipe_file.read_text().replace("batch_size = 96", "batch_size = 192"))
    for threads in THREADS:
        out = tmp_path / str(threads)
        assert cli.run(["train", str(recipe_file), "--threads", str(threads), "--out", str(out)]) == 0
    assert len({(tmp_path / str(threads) / "model.safetensors").read_bytes() for threads in THREADS}) == 1
    # What was begun with one number goes on with another.
    for name in ("model.safetensors", "results.json"):
        (tmp_path / "4" / name).unlink()
    assert cli.run(["train", "--resume", str(tmp_path / "4"), "--threads", "2"]) == 0
    files = [(tmp_path / str(threads) / "model.safetensors").read_bytes() for threads in (1, 4)]
    assert files[0] == files[1]
