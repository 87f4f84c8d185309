"""The same numbers as PyTorch: clipped steps, the learning rate on a plateau, averaged weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.layout import Array
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.policies import ReduceOnPlateau, WeightAverage
from stridenet.train.trainer import Trainer

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

STEPS = 100


def pair(torch: Any, seed: int) -> tuple[Trainer, Any, Any]:
    """A trainer in float64, the same network in PyTorch, and its optimiser."""
    rng = np.random.default_rng(seed)
    network = Sequential(Flatten(), Linear(12, 6, rng=rng), Linear(6, 3, rng=rng)).astype(np.float64)
    trainer = Trainer(network, SGD(network.pack(), 0.05, momentum=0.9), clip_norm=0.8 + 0.1 * seed)
    layers = [torch.nn.Linear(12, 6, dtype=torch.float64), torch.nn.Linear(6, 3, dtype=torch.float64)]
    peer = torch.nn.Sequential(torch.nn.Flatten(), *layers)
    peer.load_state_dict({name: torch.tensor(value) for name, value in network.state_dict().items()})
    return trainer, peer, torch.optim.SGD(peer.parameters(), 0.05, momentum=0.9)


def batches(seed: int) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((5, 12, 1, 1)), rng.integers(0, 3, 5)) for _ in range(STEPS)]


def flat(torch: Any, parameters: Any) -> Array:
    return torch.cat([p.detach().ravel() for p in parameters]).numpy()


@pytest.mark.parametrize("seed", range(10))
def test_100_clipped_steps(torch: Any, seed: int) -> None:
    """PyTorch adds 1e-6 to the norm of the gradient before it divides by it; that is taken off here."""
    trainer, peer, optimizer = pair(torch, seed)
    clipped = 0
    for x, y in batches(seed):
        trainer.step(x, y)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(y)).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in peer.parameters()])
        clipped += int(norm > trainer.clip_norm)
        torch.nn.utils.clip_grads_with_norm_(peer.parameters(), trainer.clip_norm, norm - 1e-6)
        optimizer.step()
    assert normwise(trainer.params.value, flat(torch, peer.parameters())) <= 1e-10
    assert 10 < clipped < STEPS


def test_1000_sequences_of_losses(torch: Any) -> None:
    reductions = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        options = {
            "factor": float(rng.uniform(0.05, 0.95)),
            "patience": int(rng.integers(0, 6)),
            "cooldown": int(rng.integers(0, 4)),
        }
        min_delta = float(rng.choice([0.0, 0.01, 0.1]))
        losses = np.round(np.cumsum(rng.normal(-0.02, 0.2, 50)) + 3, int(rng.integers(1, 4)))  # rounded: ties
        ours = ReduceOnPlateau(min_delta=min_delta, **options)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="min", threshold=min_delta, threshold_mode="abs", eps=0.0, **options
        )
        history: list[dict[str, Any]] = []
        for epoch, loss in enumerate(losses.tolist()):
            history.append({"epoch": epoch, "validation_loss": loss, "validation_accuracy": 0.5})
            theirs.step(loss)
            assert ours.scale_after(history) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-14, abs=0), seed
        reductions += optimizer.param_groups[0]["lr"] < 1
    assert reductions > 500


@pytest.mark.parametrize("decay", [0.9, 0.999, None])
@pytest.mark.parametrize("seed", range(5))
def test_100_averaged_steps(torch: Any, seed: int, decay: float | None) -> None:
    """Each step is an epoch of its own, so that the mean over epochs is PyTorch's over steps.

    Its default for the mean, on lists of tensors, rounds 1 / n to float32; the form of one tensor does not.
    """
    swa = torch.optim.swa_utils
    trainer, peer, _ = pair(torch, seed)
    averaged = swa.AveragedModel(peer, avg_fn=swa.get_swa_avg_fn() if decay is None else swa.get_ema_avg_fn(decay))
    ours = WeightAverage(decay)
    for x, y in batches(seed):
        ours.on_epoch_start(trainer)
        loss = trainer.step(x, y)
        ours.on_step(trainer, loss)
        peer.load_state_dict({name: torch.tensor(value) for name, value in trainer.network.state_dict().items()})
        ours.on_evaluation(trainer)  # the average is in place
        averaged.update_parameters(peer)
        assert normwise(trainer.params.value, flat(torch, averaged.module.parameters())) <= 1e-12
        trainer.epoch += 1
