from __future__ import annotations

import numpy as np

from stridenet.communicator import SOLO, Communicator
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.trainer import Trainer


def test_alone_nothing_changes() -> None:
    vector = np.arange(5.0)
    SOLO.mean(vector)
    SOLO.broadcast(vector)
    assert vector.tolist() == [0, 1, 2, 3, 4]
    assert (SOLO.rank, SOLO.size) == (0, 1)


def test_a_trainer_steps_along_the_mean_gradient() -> None:
    """As if a second worker had found a gradient of zero: half the step."""

    class Half(Communicator):
        def mean(self, vector: np.ndarray) -> None:
            vector /= 2

    moves = []
    for comm in (SOLO, Half()):
        network = Sequential(Flatten(), Linear(4, 2, rng=np.random.default_rng(0)), input_shape=(1, 2, 2))
        trainer = Trainer(network, SGD(network.pack(), 0.5), comm=comm)
        before = trainer.params.value.copy()
        trainer.step(np.ones((3, 1, 2, 2), np.float32), np.array([0, 1, 1]))
        moves.append(trainer.params.value - before)
    assert np.any(moves[0])
    assert np.allclose(moves[1], moves[0] / 2, rtol=1e-4, atol=1e-7)
