from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stridenet import kernels
from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.levenberg import SDLM
from stridenet.optim.optimizers import SGD
from stridenet.optim.schedules import step_decay


def vector(dtype: Any = np.float64, lr_scale: float = 1.0) -> ParameterVector:
    weight = Parameter(np.array([1.0, -2.0, 0.5], dtype), lr_scale=lr_scale)
    return ParameterVector({"weight": weight, "bias": Parameter(np.array([4.0], dtype), decay=False)})


def run(optimizer: SGD, steps: int) -> Array:
    for t in range(steps):
        optimizer.params.grad[...] = np.random.default_rng(t).standard_normal(4)
        optimizer.step()
    return optimizer.params.value.copy()


def test_by_hand() -> None:
    params = vector()
    optimizer = SDLM(params, 0.1, mu=0.5)
    optimizer.curvature = np.array([0.0, 1.5, 0.5, 9.5])
    params.grad[:] = 1, 2, 3, 10
    optimizer.step()
    assert params.value == pytest.approx([1 - 0.2, -2 - 0.1, 0.5 - 0.3, 4 - 0.1], rel=1e-15)


def test_without_curvature_it_is_sgd_at_a_rate_over_mu() -> None:
    found, wanted = vector(), vector()
    run(SDLM(found, step_decay(0.01, every=2), mu=0.02), 5)
    run(SGD(wanted, step_decay(0.5, every=2)), 5)
    assert found.value == pytest.approx(wanted.value, rel=1e-12)


def test_the_kernel_and_numpy_give_the_same_bits() -> None:
    values: list[Array] = []
    for name in "batchlast", "im2col":
        with kernels.use(name):
            optimizer = SDLM(vector(np.float32), 0.01, weight_decay=0.1)
            optimizer.curvature = np.array([0.1, 2, 30, 0], np.float32)
            values.append(run(optimizer, 5))
    assert np.array_equal(*values)


def test_lr_scale_and_a_new_curvature_count() -> None:
    params = vector(lr_scale=0.25)
    optimizer = SDLM(params, 1.0, mu=0.5)
    given = np.full(4, 0.5)
    optimizer.curvature = given
    given[:] = 99  # a copy was taken
    params.grad[:] = 1
    optimizer.step()
    assert params.value.tolist() == [0.75, -2.25, 0.25, 3]
    optimizer.curvature = np.full(4, 1.5)
    optimizer.step()
    assert params.value.tolist() == [0.625, -2.375, 0.125, 2.5]


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    whole, first, second = (SDLM(vector(np.float32), 0.01) for _ in range(3))
    for optimizer in whole, first:
        optimizer.curvature = np.array([0.1, 2, 30, 0])
        run(optimizer, 3)
    second.params.value[...] = first.params.value
    second.load_state_dict(first.state_dict())
    assert second.curvature.dtype == np.float32
    assert np.array_equal(run(second, 3), run(whole, 3))
    state = first.state_dict()
    assert sorted(state) == ["curvature", "t"]
    with pytest.raises(CheckpointMismatchError, match=r"^SDLM.load_state_dict: expected the entries"):
        second.load_state_dict({"t": state["t"]})


@pytest.mark.promise("P01", "P06")
@pytest.mark.parametrize("mu", [0, -0.02, math.nan, math.inf, "0.02", None, True])
def test_a_mu_out_of_range_is_refused(mu: Any) -> None:
    with pytest.raises(ConfigError, match=r"^SDLM: expected mu "):
        SDLM(vector(), 0.1, mu=mu)
