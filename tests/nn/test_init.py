"""Start values: their spread, their type, and that they follow from the generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError
from stridenet.nn import functional as F, init

rng = np.random.default_rng


def test_fans() -> None:
    assert init.fans((120, 400)) == (400, 120)
    assert init.fans((16, 6, 5, 4)) == (6 * 20, 16 * 20)


@pytest.mark.parametrize(
    ("initializer", "std"),
    [
        (init.he_normal, (2 / 150) ** 0.5),
        (init.lecun_normal, (1 / 150) ** 0.5),
        (init.glorot_uniform, (2 / (150 + 10_000)) ** 0.5),
        (init.fan_in_uniform, 2.4 / 150 / 3**0.5),
        (init.signs, 1.0),
        (init.normal(0.01), 0.01),
        (init.normal(0.0), 0.0),
        (init.zeros, 0.0),
    ],
)
def test_the_spread(initializer: init.Initializer, std: float) -> None:
    weight = initializer(rng(0), (400, 6, 5, 5))
    assert weight.shape == (400, 6, 5, 5)
    assert weight.dtype == np.float32
    assert weight.std() == pytest.approx(std, rel=0.02)
    assert abs(weight.mean()) <= 5 * std / weight.size**0.5
    assert np.array_equal(initializer(rng(0), (400, 6, 5, 5)), weight)
    if std:
        assert not np.array_equal(initializer(rng(1), (400, 6, 5, 5)), weight)


def test_glorot_is_uniform_to_its_limit() -> None:
    weight, limit = init.glorot_uniform(rng(0), (300, 200)), (6 / 500) ** 0.5
    assert limit * 0.999 < np.abs(weight).max() <= np.float32(limit)


def test_fan_in_uniform_is_uniform_to_its_limit_and_signs_are_signs() -> None:
    weight, limit = init.fan_in_uniform(rng(0), (300, 200)), 2.4 / 200
    assert limit * 0.999 < np.abs(weight).max() <= np.float32(limit)
    assert set(np.unique(init.signs(rng(0), (10, 84)))) == {-1.0, 1.0}


def test_zeros_draw_nothing() -> None:
    generator = rng(0)
    init.zeros(generator, (3, 3))
    assert generator.random() == rng(0).random()


@pytest.mark.promise("P01")
@pytest.mark.parametrize("std", [-1, float("nan"), float("inf"), "1", None, True])
def test_normal_refuses(std: Any) -> None:
    with pytest.raises(ConfigError, match=r"^init.normal: expected std .*>= 0, got "):
        init.normal(std)


@pytest.mark.big
@pytest.mark.promise("B22")
def test_b22_the_variance_stays_through_a_deep_relu_stack() -> None:
    x = rng(0).standard_normal((256, 300)).astype(np.float32)
    for i in range(20):
        x = F.linear(F.relu(x)[0] if i else x, init.he_normal(rng(i + 1), (300, 300)))[0]
    assert 0.5 < x.var() / 2 < 2
    x = rng(0).standard_normal((256, 300)).astype(np.float32)
    for i in range(5):  # without ReLU
        x = F.linear(x, init.lecun_normal(rng(i + 1), (300, 300)))[0]
    assert 0.7 < x.var() < 1.4
