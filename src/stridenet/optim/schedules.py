"""Schedules: how a learning rate or a momentum changes from step to step.

A schedule is a function step -> value. It is pure: it keeps nothing between calls, so that a resumed run needs
only the step number. Values are Python floats, which leave float32 arrays float32. Steps count from 0.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from stridenet.errors import ConfigError, shown
from stridenet.shapes import fraction, integer, number, positive

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Always `value`.

    Raises:
        ConfigError: `value` is not a finite number >= 0.
    """
    held = number("constant", "value", value, low=0.0, high=math.inf)
    return lambda _: held


def step_decay(
    value: float, *, every: int | None = None, milestones: Sequence[int] | None = None, factor: float = 0.1
) -> Schedule:
    """`value`, multiplied by `factor` at every `every`-th step, or at each step of `milestones` (rising).

    >>> rate = step_decay(0.1, milestones=(10_000, 20_000), factor=0.5)
    >>> rate(9_999), rate(10_000), rate(20_000)
    (0.1, 0.05, 0.025)

    Raises:
        ConfigError: `value` is not a finite number >= 0, `factor` is outside [0, 1], the milestones do not rise, or
            not exactly one of `every` and `milestones` is given.
    """
    who = "step_decay"
    start = number(who, "value", value, low=0.0, high=math.inf)
    ratio = number(who, "factor", factor, low=0.0, high=1.0)
    if milestones is None and every is not None:
        period = integer(who, "every", every)
        return lambda step: start * ratio ** (step // period)
    if milestones is None or every is not None:
        raise ConfigError(f"{who}: expected one of every and milestones, got {shown(every)} and {shown(milestones)}")
    marks = _rising(who, milestones)
    return lambda step: start * ratio ** bisect_right(marks, step)


def piecewise(value: float, *, milestones: Sequence[int], factors: Sequence[float]) -> Schedule:
    """`value` times 1, and from each step of `milestones` (rising) on times the number of `factors` at its place.

    >>> rate = piecewise(5e-4, milestones=(2, 5), factors=(0.4, 0.1))
    >>> [rate(step) for step in (0, 1, 2, 4, 5, 100)]
    [0.0005, 0.0005, 0.0002, 0.0002, 5e-05, 5e-05]

    Raises:
        ConfigError: `value` is not a finite number >= 0, the milestones do not rise, a factor is not a finite number
            >= 0, or there is not one for each milestone.
    """
    who = "piecewise"
    start, marks = number(who, "value", value, low=0.0, high=math.inf), _rising(who, milestones)
    if not isinstance(factors, list | tuple) or len(factors) != len(marks):
        raise ConfigError(f"{who}: expected factors as a list with one for each milestone, got {shown(factors)}")
    scales = [1.0, *(number(who, "factors", factor, low=0.0, high=math.inf) for factor in factors)]
    return lambda step: start * scales[bisect_right(marks, step)]


def exponential(value: float, *, factor: float) -> Schedule:
    """`value`, multiplied by `factor` at every step: value factor^step.

    >>> rate = exponential(0.1, factor=0.5)
    >>> rate(0), rate(1), rate(2)
    (0.1, 0.05, 0.025)

    Raises:
        ConfigError: `value` is not a finite number >= 0, `factor` is outside [0, 1].
    """
    start = number("exponential", "value", value, low=0.0, high=math.inf)
    ratio = number("exponential", "factor", factor, low=0.0, high=1.0)
    return lambda step: start * ratio**step


def polynomial(value: float, *, total: int, power: float = 1.0, final: float = 0.0) -> Schedule:
    """From `value` at step 0 to `final` at step `total`, along a power of what is left, and `final` from there on.

    final + (value - final) (1 - step / total)^power. A power of 1 is a straight line.

    >>> rate = polynomial(0.4, total=4)
    >>> [round(rate(step), 3) for step in (0, 1, 2, 3, 4, 5)]
    [0.4, 0.3, 0.2, 0.1, 0.0, 0.0]

    Raises:
        ConfigError: `value` or `final` is not a finite number >= 0, `power` is not a finite number > 0, `total` is
            not an integer >= 1.
    """
    start = number("polynomial", "value", value, low=0.0, high=math.inf)
    end = number("polynomial", "final", final, low=0.0, high=math.inf)
    exponent, length = positive("polynomial", "power", power), integer("polynomial", "total", total)
    return lambda step: end + (start - end) * max(1.0 - step / length, 0.0) ** exponent


def cosine(value: float, *, total: int, final: float = 0.0) -> Schedule:
    """Half a cosine wave from `value` at step 0 to `final` at step `total`, and `final` from there on.

    final + (value - final) (1 + cos(pi step / total)) / 2: Loshchilov and Hutter 2017, *SGDR*, no restarts.

    Raises:
        ConfigError: `value` or `final` is not a finite number >= 0, `total` is not an integer >= 1.
    """
    start = number("cosine", "value", value, low=0.0, high=math.inf)
    end = number("cosine", "final", final, low=0.0, high=math.inf)
    length = integer("cosine", "total", total)
    return lambda step: _arc(start, end, step / length)


def one_cycle(
    peak: float, *, total: int, warmup: float = 0.3, start_factor: float = 25.0, final_factor: float = 1e4
) -> Schedule:
    """A learning rate that climbs to `peak` in the share `warmup` of `total` steps and falls to almost nothing.

    It starts at peak / start_factor and ends, at step total - 1, at peak / (start_factor final_factor). Both ways
    are half cosine waves. Smith 2018, *A disciplined approach to neural network hyper-parameters*.

    Raises:
        ConfigError: `peak` or a factor is not a finite number > 0, `warmup` is outside [0, 1), `total` is no
            integer >= 1.
    """
    top = positive("one_cycle", "peak", peak)
    start = top / positive("one_cycle", "start_factor", start_factor)
    final = start / positive("one_cycle", "final_factor", final_factor)
    return _cycle("one_cycle", start, top, final, total, warmup)


def one_cycle_momentum(high: float = 0.95, low: float = 0.85, *, total: int, warmup: float = 0.3) -> Schedule:
    """The momentum beside `one_cycle`: `high` to `low` while the learning rate climbs, then back to `high`.

    Raises:
        ConfigError: `high`, `low` or `warmup` is outside [0, 1), `total` is not an integer >= 1.
    """
    outer, inner = fraction("one_cycle_momentum", "high", high), fraction("one_cycle_momentum", "low", low)
    return _cycle("one_cycle_momentum", outer, inner, outer, total, warmup)


def warm_up(schedule: Schedule, *, steps: int, start_factor: float = 0.0) -> Schedule:
    """A straight line of `steps` steps from start_factor schedule(0) to schedule(0), then `schedule` from its step 0.

    Of `total` steps with their warm-up, `schedule` has total - steps. Goyal et al. 2017, *Accurate, large minibatch
    SGD*.

    >>> rate = warm_up(exponential(0.8, factor=0.5), steps=4)
    >>> [round(rate(step), 3) for step in range(7)]
    [0.0, 0.2, 0.4, 0.6, 0.8, 0.4, 0.2]

    Raises:
        ConfigError: `steps` is not an integer >= 1, `start_factor` is outside [0, 1].
    """
    length = integer("warm_up", "steps", steps)
    low = number("warm_up", "start_factor", start_factor, low=0.0, high=1.0)

    def value(step: int) -> float:
        if step >= length:
            return schedule(step - length)
        return schedule(0) * (low + (1.0 - low) * step / length)

    return value


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """`schedule`, which counts epochs, as one that counts steps: its value is held for an epoch.

    >>> rate = per_epoch(step_decay(1.0, every=1, factor=0.5), steps_per_epoch=100)
    >>> rate(0), rate(99), rate(100)
    (1.0, 1.0, 0.5)

    Raises:
        ConfigError: `steps_per_epoch` is not an integer >= 1.
    """
    length = integer("per_epoch", "steps_per_epoch", steps_per_epoch)
    return lambda step: schedule(step // length)


def _rising(who: str, milestones: Sequence[int]) -> list[int]:
    """The milestones, checked."""
    marks = [integer(who, "milestones", mark) for mark in milestones]
    if not marks or marks != sorted(set(marks)):
        raise ConfigError(f"{who}: expected milestones to be rising steps, got {shown(milestones)}")
    return marks


def _cycle(who: str, start: float, middle: float, final: float, total: int, warmup: float) -> Schedule:
    """`start` to `middle` at step warmup * total - 1, which need not be whole, to `final` at total - 1."""
    last = integer(who, "total", total) - 1
    turn = fraction(who, "warmup", warmup) * (last + 1) - 1

    def value(step: int) -> float:
        if turn > 0 and step <= turn:
            return _arc(start, middle, step / turn)
        return _arc(middle, final, (step - turn) / (last - turn))

    return value


def _arc(start: float, end: float, share: float) -> float:
    """The point at `share` (1 where it is above) of half a cosine wave from `start` to `end`."""
    return end + (start - end) * (1.0 + math.cos(math.pi * min(share, 1.0))) / 2.0
