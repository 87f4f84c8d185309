"""Optimisers: SGD by hand; of all, the three decays, resume to the bit, and what they refuse."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet import kernels
from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, RMSprop
from stridenet.optim.levenberg import SDLM
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import cosine, one_cycle, one_cycle_momentum, step_decay

Make = Callable[[ParameterVector], Optimizer]


def vector(weight: Any = (1.0, -2.0), bias: Any = (0.5,), dtype: Any = np.float64, **of_weight: Any) -> ParameterVector:
    """A weight that decays and a bias that does not."""
    return ParameterVector(
        {
            "weight": Parameter(np.array(weight, dtype), **of_weight),
            "bias": Parameter(np.array(bias, dtype), decay=False),
        }
    )


def run(optimizer: Optimizer, steps: int, seed: int = 0) -> Array:
    """The values after `steps` more steps; each gradient follows from the step and the values."""
    params = optimizer.params
    for _ in range(steps):
        noise = np.random.default_rng((seed, optimizer.t)).standard_normal(len(params))
        params.grad[:] = noise + 0.3 * params.value
        optimizer.step()
    return params.value.copy()


ALL: dict[str, Make] = {
    "sgd": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, step_decay(0.1, every=4), momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "averaging": lambda p: SGD(p, 0.1, momentum=0.8, averaging=True, weight_decay=0.01, decay_mode="constant"),
    "cycle": lambda p: SGD(p, one_cycle(0.1, total=12), momentum=one_cycle_momentum(total=12)),
    "adam": lambda p: Adam(p, weight_decay=0.01),
    "adamw": lambda p: AdamW(p, cosine(0.01, total=12), weight_decay=0.1),
    "adam-cycle": lambda p: Adam(p, one_cycle(0.1, total=12), betas=(one_cycle_momentum(total=12), 0.99)),
    "rmsprop": lambda p: RMSprop(p, weight_decay=0.01, decay_mode="decoupled"),
    "rmsprop-centered": lambda p: RMSprop(p, centered=True, momentum=one_cycle_momentum(total=12), weight_decay=0.01),
    "adagrad": lambda p: Adagrad(p, 0.1, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=0.01),
    "sdlm": lambda p: SDLM(p, cosine(0.01, total=12), mu=0.1, weight_decay=0.01),
    "adadelta": lambda p: Adadelta(p, weight_decay=0.01, decay_mode="decoupled"),
}
KINDS: list[Any] = [SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, SDLM]
every_optimizer = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def test_sgd_by_hand() -> None:
    params = vector()
    optimizer = SGD(params, 0.5)
    params.grad[:] = 1.0, 2.0, 3.0
    optimizer.step()
    assert params.value.tolist() == [0.5, -3.0, -1.0]
    assert optimizer.t == 1


def test_momentum_by_hand() -> None:
    params = vector(weight=[1.0], bias=[])
    optimizer = SGD(params, 0.5, momentum=0.5)
    for gradient, expected in [(1.0, 0.5), (1.0, -0.25), (0.0, -0.625)]:  # v = 1, 1.5, 0.75
        params.grad[:] = gradient
        optimizer.step()
        assert params.value.tolist() == [expected]


def test_nesterov_by_hand() -> None:
    params = vector(weight=[1.0], bias=[])
    optimizer = SGD(params, 0.5, momentum=0.5, nesterov=True)
    for gradient, expected in [(1.0, 0.25), (1.0, -0.625), (0.0, -0.8125)]:  # g + v / 2 = 1.5, 1.75, 0.375
        params.grad[:] = gradient
        optimizer.step()
        assert params.value.tolist() == [expected]


def test_averaging_by_hand() -> None:
    params = vector(weight=[1.0], bias=[])
    optimizer = SGD(params, 0.5, momentum=0.75, averaging=True)
    for gradient, expected in [(4.0, 0.5), (4.0, -0.375), (0.0, -1.03125)]:  # v = 1, 1.75, 1.3125
        params.grad[:] = gradient
        optimizer.step()
        assert params.value.tolist() == [expected]


def test_averaging_is_momentum_at_a_larger_rate() -> None:
    averaged = run(SGD(vector(), 0.1, momentum=0.8, averaging=True), 20)
    assert averaged == pytest.approx(run(SGD(vector(), 0.02, momentum=0.8), 20), rel=1e-12)


@every_optimizer
def test_lr_scale_scales_the_step(make: Make) -> None:
    params, plain = vector(lr_scale=0.25), vector()
    for each in (params, plain):
        each.grad[:] = 1.0, 2.0, 3.0
        make(each).step()
    decays_alone = make is ALL["averaging"]  # the constant decay lies outside the learning rate
    start = np.array([1.0, -2.0]) * (0.99 if decays_alone else 1.0)
    assert start - params.value[:2] == pytest.approx(0.25 * (start - plain.value[:2]), rel=1e-12)
    assert params.value[2] == plain.value[2]


def test_lr_scale_and_decay_are_read_once() -> None:
    params, changed = vector(lr_scale=0.5), vector(lr_scale=0.5)
    optimizers = [Adam(p, 0.1, weight_decay=0.1, decay_mode="decoupled") for p in (params, changed)]
    changed.lr_scale.fill(0.0)
    changed.decay.fill(0.0)
    assert run(optimizers[0], 3).tolist() == run(optimizers[1], 3).tolist()


def test_lr_scale_zero_freezes() -> None:
    params = vector(lr_scale=0.0)
    run(Adam(params, 0.1, weight_decay=0.1, decay_mode="decoupled"), 5)
    assert params.value[:2].tolist() == [1.0, -2.0]


@pytest.mark.promise("B5")
class TestBugB5WeightDecay:
    """SYSTEMS B5: decay outside the learning rate, and on biases."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("mode", ["l2", "decoupled", "constant"])
    def test_a_decay_is_a_change_of_the_gradient_or_of_the_weights(self, kind: Any, mode: Any) -> None:
        """Each is an optimiser without decay, on a gradient or weights that have had it."""
        options = {} if kind is AdamW else {"decay_mode": mode}
        mode = "decoupled" if kind is AdamW else mode
        decayed, plain = vector(), vector()
        optimizers = kind(decayed, 0.5, weight_decay=0.125, **options), kind(plain, 0.5, weight_decay=0.0)
        for gradient in ([1.0, 2.0, 3.0], [-2.0, 0.5, 0.0]):
            decayed.grad[:] = plain.grad[:] = gradient
            factor = 0.125 * (0.5 if mode == "decoupled" else 1.0) * plain.decay
            if mode == "l2":
                plain.grad += factor * plain.value
            else:
                plain.value -= factor * plain.value
            for optimizer in optimizers:
                optimizer.step()
            assert decayed.value == pytest.approx(plain.value, rel=1e-15)

    @pytest.mark.parametrize("mode", ["l2", "decoupled"])
    def test_decay_is_proportional_to_the_rate_and_spares_biases(self, mode: Any) -> None:
        for lr in (0.5, 0.25):
            params = vector()
            SGD(params, lr, weight_decay=0.125, decay_mode=mode).step()
            assert params.value.tolist() == [1 - lr * 0.125, -2 * (1 - lr * 0.125), 0.5]

    def test_constant_decay_is_outside_the_rate_and_spares_biases(self) -> None:
        for lr in (0.5, 0.25):
            params = vector()
            SGD(params, lr, weight_decay=0.125, decay_mode="constant").step()
            assert params.value.tolist() == [0.875, -1.75, 0.5]

    def test_constant_decay_is_outside_the_momentum(self) -> None:
        params = vector()
        optimizer = SGD(params, 0.5, momentum=0.5, weight_decay=0.5, decay_mode="constant")
        optimizer.step()
        optimizer.step()
        assert params.value.tolist() == [0.25, -0.5, 0.5]

    def test_l2_decay_is_inside_the_momentum(self) -> None:
        params = vector(weight=[1.0], bias=[])
        optimizer = SGD(params, 0.5, momentum=0.5, weight_decay=0.5)
        optimizer.step()  # v = 0.5, w = 0.75
        optimizer.step()  # v = 0.25 + 0.375, w = 0.75 - 0.3125
        assert params.value.tolist() == [0.4375]

    @pytest.mark.parametrize("mode", ["l2", "decoupled", "constant"])
    def test_no_decay_is_no_decay(self, mode: Any) -> None:
        params = vector()
        Adam(params, 0.5, decay_mode=mode).step()
        assert params.value.tolist() == [1.0, -2.0, 0.5]


class TestBugB23RateChange:
    """SYSTEMS B23: the optimiser was rebuilt to change the learning rate, and the velocity was lost."""

    def test_a_schedule_leaves_the_velocity_alone(self) -> None:
        gradient_only = [SGD(vector(), lr, momentum=0.9) for lr in (0.1, step_decay(0.1, every=3, factor=0.0))]
        for optimizer in gradient_only:
            for step in range(7):
                optimizer.params.grad[:] = np.random.default_rng(step).standard_normal(3)
                optimizer.step()
        constant_rate, decayed = (o.state_dict()["velocity"] for o in gradient_only)
        assert constant_rate.tobytes() == decayed.tobytes()
        assert np.all(constant_rate != 0)

    def test_an_assigned_rate_leaves_the_velocity_alone(self) -> None:
        optimizer = SGD(vector(), 0.1, momentum=0.9)
        run(optimizer, 3)
        before = optimizer.state_dict()
        optimizer.lr = 0.01
        assert optimizer.current_lr == 0.01
        assert all(np.array_equal(before[name], array) for name, array in optimizer.state_dict().items())


def test_current_lr_is_the_rate_of_the_next_step() -> None:
    optimizer = SGD(vector(weight=[0.0], bias=[]), step_decay(1.0, every=1, factor=0.5))
    optimizer.params.grad[:] = 1.0
    for rate, value in [(1.0, -1.0), (0.5, -1.5), (0.25, -1.75)]:
        assert optimizer.current_lr == rate
        optimizer.step()
        assert optimizer.params.value.tolist() == [value]


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_works_in_place_and_keeps_gradient_and_dtype(make: Make, dtype: Any) -> None:
    params = vector(dtype=dtype)
    optimizer, value = make(params), params.value
    params.grad[:] = 1.0, 2.0, 3.0
    before = params.grad.tobytes()
    for _ in range(3):
        optimizer.step()
    assert params.value is value
    assert value.tolist() != [1.0, -2.0, 0.5]
    assert params.grad.tobytes() == before
    state = optimizer.state_dict()
    assert state.pop("t").tolist() == 3
    assert {value.dtype, *(slot.dtype for slot in state.values())} == {np.dtype(dtype)}


@every_optimizer
def test_float32_follows_float64(make: Make) -> None:
    single, double = (run(make(vector(dtype=dtype)), 12) for dtype in (np.float32, np.float64))
    assert single == pytest.approx(double, rel=1e-5, abs=1e-5)


@every_optimizer
@pytest.mark.promise("K2")
def test_resume_at_any_step_gives_the_same_bits(make: Make) -> None:
    straight = make(vector(dtype=np.float32))
    states = [(straight.state_dict(), straight.params.value.copy())]
    for _ in range(12):
        states.append((run(straight, 1), straight.state_dict())[::-1])
    for state, value in states:
        resumed = make(vector(dtype=np.float32))
        resumed.params.value[:] = value
        resumed.load_state_dict(state)
        assert run(resumed, 12 - resumed.t).tobytes() == straight.params.value.tobytes()
        assert resumed.t == straight.t


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["im2col", "batchlast"])
def test_a_step_allocates_nothing(make: Make, dtype: Any, backend: str) -> None:
    params = vector(weight=np.ones(50_000), bias=np.ones(50_000), dtype=dtype, lr_scale=0.5)
    optimizer = make(params)
    params.grad.fill(1.0)
    with kernels.use(backend):
        optimizer.step()  # the first may load a kernel
        tracemalloc.start()
        try:
            optimizer.step()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10_000


def test_without_momentum_there_is_no_velocity() -> None:
    assert SGD(vector(), 0.1).state_dict().keys() == {"t"}


def test_state_is_a_copy() -> None:
    optimizer = SGD(vector(), 0.1, momentum=0.9)
    state = optimizer.state_dict()
    run(optimizer, 1)
    assert state["velocity"].tolist() == [0.0] * 3
    assert (state["t"].dtype, state["t"].shape, int(state["t"])) == (np.dtype(np.int64), (), 0)
    optimizer.load_state_dict(state)
    run(optimizer, 1)
    assert state["velocity"].tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"velocity": None}, "expected the entries ['t', 'velocity'], got ['t']"),
        ({"extra": np.zeros(3)}, "got ['extra', 't', 'velocity']"),
        ({"velocity": np.zeros(2)}, "velocity of shape (3,) and type float64, got (2,) and float64"),
        ({"velocity": np.zeros(3, np.float32)}, "got (3,) and float32"),
        ({"t": np.array(1.0)}, "t of shape () and type int64"),
        ({"t": np.array(-1)}, "expected t >= 0, got -1"),
    ],
)
def test_a_wrong_state_changes_nothing(change: dict[str, Any], says: str) -> None:
    optimizer = SGD(vector(), 0.1, momentum=0.9)
    run(optimizer, 2)
    before = optimizer.state_dict()
    good = {"t": np.array(7), "velocity": np.ones(3)}
    state = {name: array for name, array in {**good, **change}.items() if array is not None}
    with pytest.raises(CheckpointMismatchError) as error:
        optimizer.load_state_dict(state)
    assert says in str(error.value)
    after = optimizer.state_dict()
    assert {name: array.tobytes() for name, array in after.items()} == {
        name: array.tobytes() for name, array in before.items()
    }


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("lr", [0, 0.0, -0.1, math.nan, math.inf, True, "fast", None])
@pytest.mark.promise("P06")
def test_a_bad_rate(make: Any, lr: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{make.__name__}: expected lr"):
        make(vector(), lr)
    optimizer = make(vector(), 0.1)
    with pytest.raises(ConfigError, match=rf"^{make.__name__}: expected lr"):
        optimizer.lr = lr
    assert optimizer.current_lr == 0.1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: SGD(p, 0.1, momentum=1.0), "SGD: expected momentum in [0, 1), got 1.0"),
        (lambda p: SGD(p, 0.1, momentum=-0.1), "momentum"),
        (lambda p: SGD(p, 0.1, momentum="0.9"), "momentum"),
        (lambda p: SGD(p, 0.1, momentum=True), "momentum"),
        (lambda p: SGD(p, 0.1, nesterov=True), "SGD: expected nesterov with momentum > 0"),
        (lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True, averaging=True), "averaging=True"),
        (lambda p: SGD(p, 0.1, weight_decay=-1.0), "weight_decay"),
        (lambda p: SGD(p, 0.1, weight_decay=math.inf), "weight_decay"),
        (lambda p: SGD(p, 0.1, decay_mode="l1"), "one of l2, decoupled, constant, got 'l1'"),
        (
            lambda p: SGD(p, 0.1, decay_mode="decopled"),
            "SGD.decay_mode: expected one of l2, decoupled, constant, got 'decopled'",
        ),
        (lambda p: SGD(p, 0.1, decay_mode="decopled"), "did you mean 'decoupled'?"),
        (lambda p: SGD(p, 0.1, decay_mode=None), "got None"),
        (lambda p: SGD(p.value, 0.1), "SGD: expected params to be a ParameterVector, got ndarray; use network.pack()"),
    ],
)
@pytest.mark.promise("P06")
def test_bad_arguments(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(vector())
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: SGD(p, lambda step: math.nan), "lr"),
        (lambda p: SGD(p, lambda step: -0.1), "lr"),
        (lambda p: SGD(p, 0.1, momentum=lambda step: 1.0), "momentum"),
        (lambda p: Adam(p, betas=(lambda step: 1.0, 0.9)), r"betas\[0\]"),
        (lambda p: RMSprop(p, momentum=lambda step: 1.0), "momentum"),
    ],
)
def test_a_schedule_that_leaves_its_range_moves_nothing(make: Make, name: str) -> None:
    params = vector()
    optimizer = make(params)
    params.grad.fill(1.0)
    with pytest.raises(ConfigError, match=rf"expected {name} (in|>= 0|to be a finite number >= 0)"):
        optimizer.step()
    assert params.value.tolist() == [1.0, -2.0, 0.5]
    assert optimizer.t == 0


def test_a_network_without_parameters() -> None:
    optimizer = Adam(ParameterVector({}), weight_decay=0.1)
    optimizer.step()
    assert optimizer.t == 1
