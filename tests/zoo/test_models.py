from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError
from stridenet.zoo import models
from stridenet.zoo.models import lenet5


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("arguments", "count", "shape"),
    [
        ({}, 44_426, (1, 28, 28)),
        ({"input_size": 32}, 61_706, (1, 32, 32)),
        ({"classes": 3}, 44_426 - 7 * 85, (1, 28, 28)),
        ({"channels": 3}, 44_426 + 2 * 6 * 25, (3, 28, 28)),
        ({"input_size": 16, "classes": 1}, 156 + 2416 + 17 * 120 + 121 * 84 + 85, (1, 16, 16)),
    ],
)
def test_lenet5_has_the_parameters_of_its_docstring(
    arguments: dict[str, Any], count: int, shape: tuple[int, ...]
) -> None:
    network = lenet5(**arguments, rng=rng())
    assert len(network.pack()) == count
    assert network.input_shape == shape
    x = np.zeros((2, *shape), np.float32)
    assert network.eval().forward(x).shape == (2, arguments.get("classes", 10))
    assert network.output_shape(shape) == (arguments.get("classes", 10),)


def test_lenet5_is_that_of_1998_in_its_shapes() -> None:
    maps = [(1, 32, 32), (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert list(dict.fromkeys(lenet5(input_size=32, rng=rng()).shapes((1, 32, 32)))) == maps


@pytest.mark.promise("K4")
def test_equal_seeds_make_equal_networks() -> None:
    a, b = (lenet5(rng=rng()).pack().value for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, lenet5(rng=np.random.default_rng(1)).pack().value)


@pytest.mark.promise("P01")
def test_arguments_that_cannot_be() -> None:
    for name, values in {
        "input_size": (15, 0, -28, 28.0, "28", None, True),
        "classes": (0, -1, 10.0, "10", None, True),
        "channels": (0, -1, 1.0, None),
    }.items():
        for value in values:
            with pytest.raises(ConfigError, match="expected"):
                lenet5(**{name: value}, rng=rng())  # pyright: ignore[reportArgumentType]
    for size in range(16, 40):  # every size from 16 on works
        lenet5(input_size=size, rng=rng())


def test_networks_are_made_by_name() -> None:
    assert repr(models.make("lenet5", {"classes": 3}, rng=rng())) == repr(lenet5(classes=3, rng=rng()))
    fitting = {"classes": 4, "channels": 3, "depth": 9}  # what the network has no argument for is left aside
    wanted = repr(lenet5(classes=3, channels=3, rng=rng()))
    assert repr(models.make("lenet5", {"classes": 3}, rng=rng(), fitting=fitting)) == wanted
    with pytest.raises(
        ConfigError, match=r"recipe\.model\.name: expected one of lenet5, got 'lenet6'; did you mean 'lenet5'\?"
    ):
        models.make("lenet6", {}, rng=rng())
    for key in ("clases", "rng", "__class__"):
        with pytest.raises(ConfigError, match=rf"recipe\.model lenet5: expected one of classes, .*, got '{key}'"):
            models.make("lenet5", {key: 3}, rng=rng())
    with pytest.raises(ConfigError, match=r"^recipe\.model: lenet5: expected input_size >= 16, got 3"):
        models.make("lenet5", {"input_size": 3}, rng=rng())
