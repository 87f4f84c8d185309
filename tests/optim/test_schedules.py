"""Schedules: their values by hand and as PyTorch's, their ends, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stridenet.errors import ConfigError
from stridenet.optim.schedules import (
    Schedule,
    constant,
    cosine,
    one_cycle,
    one_cycle_momentum,
    per_epoch,
    positive,
    step_decay,
)


def test_constant() -> None:
    assert [constant(0.3)(step) for step in (0, 1, 10**9)] == [0.3] * 3


def test_step_decay_every() -> None:
    rate = step_decay(8.0, every=3, factor=0.5)
    assert [rate(step) for step in range(7)] == [8, 8, 8, 4, 4, 4, 2]


def test_step_decay_milestones() -> None:
    rate = step_decay(8.0, milestones=[2, 5], factor=0.5)
    assert [rate(step) for step in range(7)] == [8, 8, 4, 4, 4, 2, 2]


def test_step_decay_keeps_its_own_milestones() -> None:
    marks = [2]
    rate = step_decay(1.0, milestones=marks)
    marks[0] = 1
    assert rate(1) == 1.0


def test_cosine() -> None:
    rate = cosine(3.0, total=4, final=1.0)
    root = math.sqrt(0.5)
    assert [rate(step) for step in range(5)] == pytest.approx([3, 2 + root, 2, 2 - root, 1], abs=1e-15)
    assert [rate(step) for step in (4, 5, 10**9)] == [1.0] * 3


def test_one_cycle_turns_where_it_should() -> None:
    rate = one_cycle(1.0, total=10, warmup=0.5, start_factor=10, final_factor=100)
    assert rate(0) == pytest.approx(0.1)
    assert rate(2) == pytest.approx(0.55)
    assert rate(4) == 1.0
    assert [rate(step) for step in (9, 10, 10**9)] == pytest.approx([1e-3] * 3, rel=1e-12)


def test_one_cycle_momentum_mirrors_the_rate() -> None:
    momentum = one_cycle_momentum(total=10, warmup=0.5)
    assert [momentum(step) for step in (0, 2, 4, 9, 10)] == pytest.approx([0.95, 0.9, 0.85, 0.95, 0.95])


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.5, 0.9])
def test_one_cycle_of_any_length_stays_between_its_ends(total: int, warmup: float) -> None:
    rate = one_cycle(1.0, total=total, warmup=warmup)
    values = [rate(step) for step in range(total + 2)]
    assert all(1 / 25e4 - 1e-18 <= value <= 1.0 for value in values)
    assert values[-2:] == pytest.approx([1 / 25e4] * 2, rel=1e-9)


def test_per_epoch_holds_a_value_for_an_epoch() -> None:
    rate = per_epoch(cosine(1.0, total=2), steps_per_epoch=3)
    assert [rate(step) for step in range(7)] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0], abs=1e-15)


SCHEDULES: list[Schedule] = [
    constant(1),
    step_decay(1, every=2),
    step_decay(1, milestones=[1]),
    cosine(1, total=5),
    one_cycle(1, total=5),
    one_cycle_momentum(total=5),
    per_epoch(constant(1), 2),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_values_are_python_floats_and_depend_on_the_step_alone(schedule: Schedule) -> None:
    forwards = [schedule(step) for step in range(8)]
    assert [schedule(step) for step in reversed(range(8))] == forwards[::-1]
    assert all(type(value) is float for value in forwards)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: constant(math.nan), "value"),
        (lambda: constant(-1.0), "value"),
        (lambda: constant(True), "value"),
        (lambda: constant("fast"), "'fast'"),
        (lambda: step_decay(1.0), "one of every and milestones, got None and None"),
        (lambda: step_decay(1.0, every=1, milestones=[1]), "one of every and milestones"),
        (lambda: step_decay(1.0, every=0), "every >= 1, got 0"),
        (lambda: step_decay(1.0, every=1.5), "every to be an integer"),
        (lambda: step_decay(1.0, every=1, factor=1.5), "factor"),
        (lambda: step_decay(1.0, milestones=[]), "rising"),
        (lambda: step_decay(1.0, milestones=[3, 2]), "rising"),
        (lambda: step_decay(1.0, milestones=[2, 2]), "rising"),
        (lambda: step_decay(1.0, milestones=[0]), "milestones >= 1"),
        (lambda: cosine(math.inf, total=3), "value"),
        (lambda: cosine(1.0, total=0), "total >= 1"),
        (lambda: cosine(1.0, total=3, final=-1.0), "final"),
        (lambda: one_cycle(0.0, total=3), "peak > 0, got 0"),
        (lambda: one_cycle(1.0, total=3.0), "total"),
        (lambda: one_cycle(1.0, total=3, warmup=1.0), "warmup"),
        (lambda: one_cycle(1.0, total=3, start_factor=0), "start_factor > 0"),
        (lambda: one_cycle(1.0, total=3, final_factor=-1), "final_factor"),
        (lambda: one_cycle_momentum(1.0, total=3), "high"),
        (lambda: one_cycle_momentum(low=-0.1, total=3), "low"),
        (lambda: per_epoch(constant(1), 0), "steps_per_epoch >= 1"),
        (lambda: positive("me", "it", 0), "me: expected it > 0, got 0"),
        (lambda: positive("me", "it", None), "it"),
    ],
)
@pytest.mark.promise("P06")
def test_bad_arguments(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert says in str(error.value)


@pytest.mark.peer
@pytest.mark.promise("G3")
class TestLikePyTorch:
    """The numbers of torch.optim.lr_scheduler, at every step, to 1e-12."""

    @staticmethod
    def optimizer(lr: float) -> Any:
        torch = pytest.importorskip("torch")
        return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)

    @staticmethod
    def follow(optimizer: Any, scheduler: Any, steps: int, key: str = "lr") -> list[float]:
        values: list[float] = []
        for _ in range(steps):
            values.append(optimizer.param_groups[0][key])
            optimizer.step()
            scheduler.step()
        return values

    @pytest.mark.parametrize(("total", "warmup"), [(5, 0.3), (100, 0.3), (937, 0.25), (50, 0.0), (3, 0.1)])
    @pytest.mark.parametrize("key", ["lr", "momentum"])
    def test_one_cycle(self, total: int, warmup: float, key: str) -> None:
        torch = pytest.importorskip("torch")
        optimizer = self.optimizer(0.1)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.2, total_steps=total, pct_start=warmup, anneal_strategy="cos"
        )
        ours = {
            "lr": one_cycle(0.2, total=total, warmup=warmup),
            "momentum": one_cycle_momentum(total=total, warmup=warmup),
        }[key]
        theirs = self.follow(optimizer, scheduler, total, key)
        assert [ours(step) for step in range(total)] == pytest.approx(theirs, rel=1e-12, abs=0)

    def test_one_cycle_with_other_factors(self) -> None:
        torch = pytest.importorskip("torch")
        optimizer = self.optimizer(0.1)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.2, total_steps=60, div_factor=7, final_div_factor=30
        )
        ours = one_cycle(0.2, total=60, start_factor=7, final_factor=30)
        theirs = self.follow(optimizer, scheduler, 60)
        assert [ours(step) for step in range(60)] == pytest.approx(theirs, rel=1e-12, abs=0)

    def test_cosine(self) -> None:
        torch = pytest.importorskip("torch")
        optimizer = self.optimizer(0.3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80, eta_min=0.01)
        ours = cosine(0.3, total=80, final=0.01)
        theirs = self.follow(optimizer, scheduler, 81)
        assert [ours(step) for step in range(81)] == pytest.approx(theirs, rel=1e-12, abs=0)

    def test_step_decay(self) -> None:
        torch = pytest.importorskip("torch")
        for ours, make in [
            (
                step_decay(0.3, every=7, factor=0.4),
                lambda o: torch.optim.lr_scheduler.StepLR(o, 7, gamma=0.4),
            ),
            (
                step_decay(0.3, milestones=[5, 21, 22]),
                lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [5, 21, 22]),
            ),
        ]:
            optimizer = self.optimizer(0.3)
            theirs = self.follow(optimizer, make(optimizer), 60)
            assert [ours(step) for step in range(60)] == pytest.approx(theirs, rel=1e-12, abs=0)
