"""Schedules: their values by hand, their ends, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stridenet.errors import ConfigError
from stridenet.optim.schedules import (
    Schedule,
    constant,
    cosine,
    exponential,
    one_cycle,
    one_cycle_momentum,
    per_epoch,
    piecewise,
    polynomial,
    step_decay,
    warm_up,
)
from stridenet.shapes import fraction, positive


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


def test_exponential() -> None:
    assert [exponential(8.0, factor=0.5)(step) for step in range(5)] == [8, 4, 2, 1, 0.5]
    assert exponential(8.0, factor=0.5)(10**9) == 0
    assert [exponential(8.0, factor=1)(step) for step in (0, 10**9)] == [8, 8]
    assert [exponential(8.0, factor=0)(step) for step in range(3)] == [8, 0, 0]


@pytest.mark.parametrize(
    ("power", "values"), [(1, [3, 2.5, 2, 1.5, 1]), (2, [3, 2.125, 1.5, 1.125, 1]), (0.5, [3, 1 + math.sqrt(3)])]
)
def test_polynomial(power: float, values: list[float]) -> None:
    rate = polynomial(3.0, total=4, power=power, final=1.0)
    assert [rate(step) for step in range(len(values))] == pytest.approx(values, rel=1e-15)
    assert [rate(step) for step in (4, 5, 10**9)] == [1.0] * 3
    assert polynomial(3.0, total=4, power=power)(4) == 0.0


def test_polynomial_may_rise() -> None:
    rate = polynomial(0.0, total=2, final=3.0)
    assert [rate(step) for step in range(4)] == [0, 1.5, 3, 3]


def test_warm_up_leads_to_the_schedule_and_then_is_it() -> None:
    after = cosine(8.0, total=10)
    rate = warm_up(after, steps=4)
    assert [rate(step) for step in range(5)] == [0, 2, 4, 6, 8]
    assert [rate(4 + step) for step in range(12)] == [after(step) for step in range(12)]
    half = warm_up(constant(8.0), steps=4, start_factor=0.5)
    assert [half(step) for step in range(6)] == [4, 5, 6, 7, 8, 8]
    assert [warm_up(constant(8.0), steps=1)(step) for step in range(3)] == [0, 8, 8]


def test_warm_up_of_steps_before_a_schedule_of_epochs() -> None:
    rate = warm_up(per_epoch(step_decay(8.0, every=1, factor=0.5), 3), steps=2)
    assert [rate(step) for step in range(9)] == [0, 4, 8, 8, 8, 4, 4, 4, 2]


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


def test_piecewise_holds_each_factor_until_the_next_milestone() -> None:
    rate = piecewise(5e-4, milestones=[2, 5, 8, 12], factors=[0.4, 0.2, 0.1, 0.02])  # that of LeNet-5 in 1998
    wanted = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert [rate(epoch) for epoch in range(20)] == pytest.approx(wanted, rel=1e-15)


SCHEDULES: list[Schedule] = [
    constant(1),
    step_decay(1, every=2),
    step_decay(1, milestones=[1]),
    piecewise(1, milestones=[1, 4], factors=[2, 0]),
    exponential(1, factor=1),
    polynomial(1, total=5, power=2, final=2),
    warm_up(cosine(1, total=5), steps=3),
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
        (lambda: piecewise(-1.0, milestones=[1], factors=[1]), "piecewise: expected value"),
        (lambda: piecewise(1.0, milestones=[], factors=[]), "piecewise: expected milestones to be rising steps"),
        (lambda: piecewise(1.0, milestones=[2, 1], factors=[1, 1]), "milestones to be rising steps, got [2, 1]"),
        (
            lambda: piecewise(1.0, milestones=[1, 2], factors=[1]),
            "factors as a list with one for each milestone, got [1]",
        ),
        (lambda: piecewise(1.0, milestones=[1], factors=0.5), "factors as a list with one for each milestone, got 0.5"),
        (lambda: piecewise(1.0, milestones=[1], factors=[-0.5]), "factors >= 0"),
        (lambda: step_decay(1.0, every=0), "every >= 1, got 0"),
        (lambda: step_decay(1.0, every=1.5), "every to be an integer"),
        (lambda: step_decay(1.0, every=1, factor=1.5), "factor"),
        (lambda: step_decay(1.0, milestones=[]), "rising"),
        (lambda: step_decay(1.0, milestones=[3, 2]), "rising"),
        (lambda: step_decay(1.0, milestones=[2, 2]), "rising"),
        (lambda: step_decay(1.0, milestones=[0]), "milestones >= 1"),
        (lambda: exponential(-1.0, factor=0.5), "exponential: expected value >= 0, got -1"),
        (lambda: exponential(1.0, factor=1.5), "factor in [0, 1], got 1.5"),
        (lambda: exponential(1.0, factor=math.nan), "factor"),
        (lambda: polynomial(math.nan, total=3), "value"),
        (lambda: polynomial(1.0, total=0), "polynomial: expected total >= 1, got 0"),
        (lambda: polynomial(1.0, total=3, power=0), "power > 0, got 0"),
        (lambda: polynomial(1.0, total=3, power=True), "power"),
        (lambda: polynomial(1.0, total=3, final=-1.0), "final"),
        (lambda: warm_up(constant(1), steps=0), "warm_up: expected steps >= 1, got 0"),
        (lambda: warm_up(constant(1), steps=2.0), "steps"),
        (lambda: warm_up(constant(1), steps=2, start_factor=1.1), "start_factor in [0, 1], got 1.1"),
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
        (lambda: fraction("me", "it", 1.0), "me: expected it in [0, 1), got 1.0"),
    ],
)
@pytest.mark.promise("P06")
def test_bad_arguments(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert says in str(error.value)
