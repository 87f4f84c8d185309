"""Files of our own with one bit changed, cut, or with a tail: none of them loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stridenet import SGD, BestWeights, CheckpointStore, Flatten, Linear, Model, Sequential, Trainer, load
from stridenet.errors import CheckpointCorruptError, DataIntegrityError, WeightsFormatError

FLIPS, CUTS, TAILS = 1000, 1000, 200


def damaged(data: bytes) -> Iterator[bytes]:
    """Every bit of the length, and others anywhere; cuts everywhere; tails of zeros, noise and of the file itself."""
    rng = np.random.default_rng(4)
    for bit in [*range(64), *(64 + rng.choice(len(data) * 8 - 64, FLIPS - 64, replace=False))]:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    for size in rng.choice(len(data), CUTS, replace=False):
        yield data[:size]
    for i in range(TAILS):
        size = int(rng.integers(1, 100))
        yield data + (bytes(size), rng.bytes(size), data[:size], data)[i % 4]


def network() -> Sequential:
    return Sequential(Flatten(), Linear(36, 3, rng=np.random.default_rng(0)), input_shape=(1, 6, 6))


@pytest.mark.promise("F4")
def test_no_damaged_model_file_loads(tmp_path: Path) -> None:
    path, found = tmp_path / "model", 0
    Model(network(), ("a", "b", "c"), (1, 6, 6), recipe={"name": "mine"}).save(path)
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises((WeightsFormatError, DataIntegrityError)):
            load(path)
        found += 1
    assert found == FLIPS + CUTS + TAILS


@pytest.mark.promise("F4")
def test_no_damaged_checkpoint_loads(tmp_path: Path) -> None:
    store, net, found = CheckpointStore(tmp_path), network(), 0
    trainer = Trainer(net, SGD(net.pack(), lr=0.1, momentum=0.9), callbacks=[BestWeights()])
    tensors, meta = trainer.state()
    store.save(3, tensors, {"trainer": meta})
    for data in damaged(store.path(3).read_bytes()):
        store.path(3).write_bytes(data)
        with pytest.raises(CheckpointCorruptError):
            store.latest()
        found += 1
    assert found == FLIPS + CUTS + TAILS
