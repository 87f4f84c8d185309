"""Optimisers, schedules and clipping as PyTorch's: 100 steps in float64 to 1e-10, every rate of 1 000 to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, RMSprop
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import (
    Schedule,
    constant,
    cosine,
    exponential,
    one_cycle,
    one_cycle_momentum,
    polynomial,
    step_decay,
    warm_up,
)

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

STEPS = 100


class Pair:
    """A weight at half the learning rate and a bias without decay, here and in PyTorch, from one start."""

    def __init__(self, torch: Any, seed: int) -> None:
        self.torch, self.draw = torch, np.random.default_rng(seed)
        start = self.draw.standard_normal((2, 5)) * 10 ** self.draw.uniform(-1, 1)
        self.ours = ParameterVector(
            {"weight": Parameter(start[0].copy(), lr_scale=0.5), "bias": Parameter(start[1].copy(), decay=False)}
        )
        self.theirs = [torch.tensor(row, requires_grad=True) for row in start]

    def optimizer(self, name: str, options: dict[str, Any]) -> Any:
        weight, bias = self.theirs
        groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
        optimizer = getattr(self.torch.optim, name)(groups, **options)
        optimizer.param_groups[0]["lr"] *= 0.5
        return optimizer

    def set_gradients(self) -> None:
        """Noise and a pull to zero: an error in the values goes on into the next steps."""
        noise = self.draw.standard_normal((2, 5))
        self.ours.grad[:] = noise.ravel() + 0.3 * self.ours.value
        for tensor, row in zip(self.theirs, noise, strict=True):
            tensor.grad = self.torch.tensor(row) + 0.3 * tensor.detach()

    def difference(self) -> float:
        return normwise(self.ours.value, np.concatenate([tensor.detach().numpy() for tensor in self.theirs]))


OPTIONS: list[tuple[type[Any], dict[str, Any]]] = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adam, {}),
    (Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
    (AdamW, {}),
    (AdamW, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.02, "alpha": 0.9, "eps": 1e-6}),
    (RMSprop, {"momentum": 0.9}),
    (RMSprop, {"centered": True}),
    (RMSprop, {"alpha": 0.9, "momentum": 0.5, "centered": True}),
    (Adagrad, {}),
    (Adagrad, {"lr": 0.1, "lr_decay": 0.05}),
    (Adagrad, {"initial_accumulator_value": 0.5, "eps": 1e-6}),
    (Adadelta, {}),
    (Adadelta, {"lr": 0.5, "rho": 0.95, "eps": 1e-4}),
]


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.02}], ids=["", "decay"])
@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_optimizers_from_50_starts(torch: Any, kind: Any, options: dict[str, Any], decay: dict[str, float]) -> None:
    """PyTorch's names and, where nothing is said, its defaults."""
    for seed in range(50):
        pair = Pair(torch, seed)
        ours = kind(pair.ours, **options, **decay)
        theirs = pair.optimizer(kind.__name__, {**options, **decay})
        for _ in range(STEPS):
            pair.set_gradients()
            ours.step()
            theirs.step()
        assert pair.difference() <= 1e-10, seed


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("SGD", lambda p, lr, momentum: SGD(p, lr, momentum=momentum)),
        ("Adam", lambda p, lr, momentum: Adam(p, lr, betas=(momentum, 0.999))),
        ("AdamW", lambda p, lr, momentum: AdamW(p, lr, betas=(momentum, 0.999))),
        ("RMSprop", lambda p, lr, momentum: RMSprop(p, lr, momentum=momentum)),
    ],
)
def test_one_cycle_of_rate_and_momentum(torch: Any, name: str, make: Callable[..., Optimizer]) -> None:
    total = STEPS + 1
    for seed in range(10):
        pair = Pair(torch, seed)
        ours = make(pair.ours, one_cycle(0.01, total=total), one_cycle_momentum(total=total))
        theirs = pair.optimizer(name, {"lr": 0.01} | ({} if "Adam" in name else {"momentum": 0.9}))
        plan = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=[0.005, 0.01], total_steps=total)
        for _ in range(STEPS):
            pair.set_gradients()
            ours.step()
            theirs.step()
            plan.step()
        assert pair.difference() <= 1e-10, seed


@pytest.mark.parametrize("norm", [0.5, 4.0, 100.0])
def test_clipping(torch: Any, norm: float) -> None:
    """PyTorch divides by the norm + 1e-6; that much larger, its gradient is ours."""
    clipped = 0
    for seed in range(20):
        pair = Pair(torch, seed)
        ours, theirs = SGD(pair.ours, 0.1, momentum=0.9), pair.optimizer("SGD", {"lr": 0.1, "momentum": 0.9})
        for _ in range(STEPS):
            pair.set_gradients()
            found = pair.ours.clip_grad(norm)
            wanted = torch.nn.utils.clip_grad_norm_(pair.theirs, norm).item()
            assert found == pytest.approx(wanted, rel=1e-10)
            if wanted > norm:
                clipped += 1
                for tensor in pair.theirs:
                    tensor.grad *= (wanted + 1e-6) / wanted
            ours.step()
            theirs.step()
        assert pair.difference() <= 1e-10, seed
    assert (clipped > 0) == (norm < 100)


def after_warm_up(L: Any, optimizer: Any, steps: int, factor: float, after: Any) -> Any:
    """PyTorch's warm-up, and the schedule after it."""
    return L.SequentialLR(optimizer, [L.LinearLR(optimizer, factor, total_iters=steps), after], milestones=[steps])


SCHEDULES: list[tuple[Schedule, Callable[[Any, Any], Any]]] = [
    (constant(0.3), lambda L, o: L.ConstantLR(o, factor=1.0)),
    (exponential(0.3, factor=0.99), lambda L, o: L.ExponentialLR(o, 0.99)),
    (exponential(0.3, factor=0.5), lambda L, o: L.ExponentialLR(o, 0.5)),
    (polynomial(0.3, total=1000), lambda L, o: L.PolynomialLR(o, 1000)),
    (polynomial(0.3, total=700, power=2.0), lambda L, o: L.PolynomialLR(o, 700, power=2.0)),
    (polynomial(0.3, total=1000, power=0.5), lambda L, o: L.PolynomialLR(o, 1000, power=0.5)),
    (polynomial(0.3, total=400, final=0.06), lambda L, o: L.LinearLR(o, 1.0, 0.2, total_iters=400)),
    (step_decay(0.3, every=70, factor=0.4), lambda L, o: L.StepLR(o, 70, gamma=0.4)),
    (step_decay(0.3, milestones=[5, 210, 211, 900]), lambda L, o: L.MultiStepLR(o, [5, 210, 211, 900])),
    (cosine(0.3, total=1000), lambda L, o: L.CosineAnnealingLR(o, 1000)),
    (cosine(0.3, total=1000, final=0.01), lambda L, o: L.CosineAnnealingLR(o, 1000, eta_min=0.01)),
    (one_cycle(0.3, total=1000), lambda L, o: L.OneCycleLR(o, 0.3, total_steps=1000)),
    (one_cycle(0.3, total=1000, warmup=0.0), lambda L, o: L.OneCycleLR(o, 0.3, total_steps=1000, pct_start=0.0)),
    (
        one_cycle(0.3, total=1000, warmup=0.25, start_factor=7, final_factor=30),
        lambda L, o: L.OneCycleLR(o, 0.3, total_steps=1000, pct_start=0.25, div_factor=7, final_div_factor=30),
    ),
    (
        warm_up(constant(0.3), steps=200, start_factor=0.1),
        lambda L, o: L.LinearLR(o, 0.1, total_iters=200),
    ),
    (
        warm_up(exponential(0.3, factor=0.99), steps=50, start_factor=0.2),
        lambda L, o: after_warm_up(L, o, 50, 0.2, L.ExponentialLR(o, 0.99)),
    ),
    (
        warm_up(cosine(0.3, total=900), steps=100, start_factor=0.01),
        lambda L, o: after_warm_up(L, o, 100, 0.01, L.CosineAnnealingLR(o, 900)),
    ),
    (
        warm_up(step_decay(0.3, every=200), steps=333, start_factor=1.0),
        lambda L, o: after_warm_up(L, o, 333, 1.0, L.StepLR(o, 200)),
    ),
]


@pytest.mark.parametrize(("ours", "make"), SCHEDULES)
def test_schedules_over_1000_steps(torch: Any, ours: Schedule, make: Callable[[Any, Any], Any]) -> None:
    assert normwise(np.array([ours(step) for step in range(1000)]), follow(torch, make, 1000)) <= 1e-12


@pytest.mark.parametrize(("total", "warmup"), [(3, 0.1), (5, 0.3), (50, 0.0), (937, 0.25)])
@pytest.mark.parametrize("key", ["lr", "momentum"])
def test_one_cycles_of_any_length(torch: Any, total: int, warmup: float, key: str) -> None:
    cycles = {"lr": one_cycle(0.2, total=total, warmup=warmup)}
    cycles["momentum"] = one_cycle_momentum(total=total, warmup=warmup)
    found = np.array([cycles[key](step) for step in range(total)])
    wanted = follow(torch, lambda L, o: L.OneCycleLR(o, 0.2, total_steps=total, pct_start=warmup), total, key)
    assert np.all(np.abs(found - wanted) <= 1e-12 * wanted)


def follow(torch: Any, make: Callable[[Any, Any], Any], steps: int, key: str = "lr") -> Any:
    """The value of each step by a scheduler of PyTorch, made on an optimiser at a rate of 0.3."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3, momentum=0.9)
    scheduler, values = make(torch.optim.lr_scheduler, optimizer), []
    for step in range(steps):
        values.append(optimizer.param_groups[0][key])
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    return np.array(values)
