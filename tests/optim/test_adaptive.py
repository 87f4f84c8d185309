"""Adaptive optimisers: each is its equation, to the digit, and refuses what is out of range."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, RMSprop
from stridenet.optim.schedules import one_cycle_momentum

Reference = Callable[..., float]
Memory = defaultdict[str, float]


def vector(*weights: float, dtype: Any = np.float64) -> ParameterVector:
    return ParameterVector({"weight": Parameter(np.array(weights, dtype))})


# The equations, for one parameter in Python floats: the gradient g, the step t = 1, 2, ... and the memory to the step


def adam(g: float, t: int, m: Memory, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> float:
    m["mean"] = betas[0] * m["mean"] + (1 - betas[0]) * g
    m["square"] = betas[1] * m["square"] + (1 - betas[1]) * g * g
    return m["mean"] / (1 - betas[0] ** t) / (math.sqrt(m["square"] / (1 - betas[1] ** t)) + eps)


def rmsprop(
    g: float, t: int, m: Memory, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0, centered: bool = False
) -> float:
    m["mean"] = alpha * m["mean"] + (1 - alpha) * g
    m["square"] = alpha * m["square"] + (1 - alpha) * g * g
    spread = m["square"] - m["mean"] ** 2 if centered else m["square"]
    m["velocity"] = momentum * m["velocity"] + g / (math.sqrt(spread) + eps)
    return m["velocity"]


def adagrad(
    g: float, t: int, m: Memory, lr_decay: float = 0.0, initial_accumulator_value: float = 0.0, eps: float = 1e-10
) -> float:
    m["sum"] += g * g + (initial_accumulator_value if t == 1 else 0.0)
    return g / (math.sqrt(m["sum"]) + eps) / (1 + (t - 1) * lr_decay)


def adadelta(g: float, t: int, m: Memory, rho: float = 0.9, eps: float = 1e-6) -> float:
    m["square"] = rho * m["square"] + (1 - rho) * g * g
    step = math.sqrt(m["steps"] + eps) / math.sqrt(m["square"] + eps) * g
    m["steps"] = rho * m["steps"] + (1 - rho) * step * step
    return step


CASES: list[tuple[Any, Reference, dict[str, Any]]] = [
    (Adam, adam, {}),
    (Adam, adam, {"betas": (0.5, 0.75), "eps": 0.25}),
    (Adam, adam, {"betas": (0.0, 0.0)}),
    (RMSprop, rmsprop, {}),
    (RMSprop, rmsprop, {"alpha": 0.5, "eps": 0.25}),
    (RMSprop, rmsprop, {"momentum": 0.75}),
    (RMSprop, rmsprop, {"centered": True}),
    (RMSprop, rmsprop, {"alpha": 0.75, "centered": True, "momentum": 0.5}),
    (Adagrad, adagrad, {}),
    (Adagrad, adagrad, {"lr_decay": 0.5, "initial_accumulator_value": 2.0, "eps": 0.25}),
    (Adadelta, adadelta, {}),
    (Adadelta, adadelta, {"rho": 0.5, "eps": 0.25}),
]


@pytest.mark.parametrize(("kind", "reference", "options"), CASES)
def test_equations(kind: Any, reference: Reference, options: dict[str, Any]) -> None:
    """60 steps on gradients of several sizes, among them zeros; a small difference would grow with the steps."""
    draw = np.random.default_rng(0)
    params = vector(1.0, -2.0, 0.5, 3.0)
    optimizer = kind(params, 0.1, **options)
    wanted, memories = params.value.tolist(), [defaultdict[str, float](float) for _ in range(4)]
    for t in range(1, 61):
        params.grad[:] = draw.standard_normal(4) * [1.0, 1e-3, 1e2, float(t % 3 == 0)]
        optimizer.step()
        steps = [reference(g, t, m, **options) for g, m in zip(params.grad.tolist(), memories, strict=True)]
        wanted = [w - 0.1 * step for w, step in zip(wanted, steps, strict=True)]
        assert params.value == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "lr"), [(Adam, 1e-3), (AdamW, 1e-3), (RMSprop, 1e-2), (Adagrad, 1e-2), (Adadelta, 1.0)]
)
def test_rates_by_default(kind: Any, lr: float) -> None:
    assert kind(vector(1.0)).current_lr == lr


def test_adamw_is_adam_with_a_decoupled_decay() -> None:
    optimizers = [
        AdamW(vector(1.0, -2.0)),
        Adam(vector(1.0, -2.0), weight_decay=0.01, decay_mode="decoupled"),
    ]
    for optimizer in optimizers:
        for step in range(5):
            optimizer.params.grad[:] = np.random.default_rng(step).standard_normal(2)
            optimizer.step()
    assert optimizers[0].params.value.tobytes() == optimizers[1].params.value.tobytes()
    params = vector(1.0)
    AdamW(params, 0.5).step()  # no gradient: the decay alone
    assert params.value.tolist() == [1 - 0.5 * 0.01]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_variance_of_a_constant_gradient_does_not_fall_below_zero(dtype: Any) -> None:
    """As mean square less squared mean it would, by rounding; its root is NaN."""
    params = vector(*np.random.default_rng(0).standard_normal(500), dtype=dtype)
    params.grad[:] = 3 * params.value
    optimizer = RMSprop(params, alpha=0.9, centered=True)
    for _ in range(400):
        optimizer.step()
    assert np.isfinite(params.value).all()
    assert optimizer.state_dict()["variance"].min() >= 0


def test_the_rate_of_adagrad_has_its_decay() -> None:
    params = vector(1.0)
    optimizer = Adagrad(params, 0.5, lr_decay=1.0, weight_decay=0.5, decay_mode="decoupled")
    for rate, value in [(0.5, 0.75), (0.25, 0.65625), (0.5 / 3, 0.65625 * (1 - 0.25 / 3))]:
        assert optimizer.current_lr == rate
        optimizer.step()  # no gradient: the decay alone
        assert params.value == pytest.approx([value], rel=1e-15)


@pytest.mark.parametrize(
    ("make", "slots"),
    [
        (Adam, {"mean", "mean_square"}),
        (AdamW, {"mean", "mean_square"}),
        (RMSprop, {"mean_square"}),
        (lambda p: RMSprop(p, momentum=0.5), {"mean_square", "velocity"}),
        (lambda p: RMSprop(p, momentum=one_cycle_momentum(total=9)), {"mean_square", "velocity"}),
        (lambda p: RMSprop(p, centered=True), {"mean", "variance"}),
        (Adagrad, {"sum_of_squares"}),
        (Adadelta, {"mean_square", "mean_square_step"}),
    ],
)
@pytest.mark.promise("K2")
def test_the_state_is_whole(make: Any, slots: set[str]) -> None:
    """Every slot is in it, moves with a step, and comes back."""
    optimizer, other = make(vector(1.0, 2.0)), make(vector(1.0, 2.0))
    optimizer.params.grad[:] = 1.0, -2.0
    optimizer.step()
    state = optimizer.state_dict()
    assert state.keys() == slots | {"t"}
    assert all(np.all(state[name] != 0) for name in slots)
    other.load_state_dict(state)
    assert {name: a.tobytes() for name, a in other.state_dict().items()} == {n: a.tobytes() for n, a in state.items()}
    missing = {name: array for name, array in state.items() if name != min(slots)}
    with pytest.raises(CheckpointMismatchError, match=min(slots)):
        other.load_state_dict(missing)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: Adam(p, betas=(1.0, 0.999)), "Adam: expected betas[0] in [0, 1), got 1.0"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "betas[1]"),
        (lambda p: Adam(p, betas=(0.9, math.nan)), "betas[1]"),
        (lambda p: Adam(p, betas=0.9), "betas to be two numbers"),
        (lambda p: Adam(p, betas=(0.9,)), "betas to be two numbers"),
        (lambda p: Adam(p, eps=0.0), "Adam: expected eps > 0"),
        (lambda p: Adam(p, eps=math.nan), "eps"),
        (lambda p: Adam(p, decay_mode="l1"), "Adam.decay_mode: expected one of l2, decoupled, constant, got 'l1'"),
        (lambda p: AdamW(p, betas=(0.9, 2.0)), "AdamW: expected betas[1] in [0, 1), got 2.0"),
        (lambda p: AdamW(p, eps=-1.0), "AdamW: expected eps"),
        (lambda p: AdamW(p, weight_decay=-0.1), "AdamW: expected weight_decay"),
        (lambda p: RMSprop(p, alpha=1.0), "RMSprop: expected alpha in [0, 1), got 1.0"),
        (lambda p: RMSprop(p, alpha="0.9"), "alpha"),
        (lambda p: RMSprop(p, eps=0), "RMSprop: expected eps > 0, got 0"),
        (lambda p: RMSprop(p, momentum=1.0), "RMSprop: expected momentum in [0, 1), got 1.0"),
        (lambda p: RMSprop(p, weight_decay=math.inf), "RMSprop: expected weight_decay"),
        (lambda p: Adagrad(p, lr_decay=-1.0), "Adagrad: expected lr_decay >= 0, got -1"),
        (lambda p: Adagrad(p, initial_accumulator_value=-0.1), "initial_accumulator_value"),
        (lambda p: Adagrad(p, initial_accumulator_value=math.nan), "initial_accumulator_value"),
        (lambda p: Adagrad(p, eps=0.0), "Adagrad: expected eps > 0"),
        (lambda p: Adadelta(p, rho=1.0), "Adadelta: expected rho in [0, 1), got 1.0"),
        (lambda p: Adadelta(p, rho=True), "rho"),
        (lambda p: Adadelta(p, eps=-1e-6), "eps"),
        (lambda p: Adadelta(p.value), "Adadelta: expected params to be a ParameterVector, got ndarray"),
    ],
)
@pytest.mark.promise("P01", "P06")
def test_bad_arguments(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(vector(1.0))
    assert says in str(error.value)
