"""The networks that recipes name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Sequential
from stridenet.shapes import choice, integer
from stridenet.tables import construct


def lenet5(*, classes: int = 10, channels: int = 1, input_size: int = 28, rng: np.random.Generator) -> Sequential:
    """LeNet-5 as it is built today: ReLU and max pooling instead of squashed subsampling, no RBF output.

    28x28 digits give 44 426 parameters, 32x32 digits (28 padded by 2, the size of 1998) give 61 706. The original is
    LeCun, Bottou, Bengio and Haffner 1998, *Gradient-Based Learning Applied to Document Recognition*.

    >>> len(lenet5(rng=np.random.default_rng(0)).pack())
    44426
    """
    size = integer("lenet5", "input_size", input_size, minimum=16)
    side = ((size - 4) // 2 - 4) // 2  # rows of the last map: 4 for 28, 5 for 32
    return Sequential(
        Conv2d(channels, 6, 5, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, 120, rng=rng),
        ReLU(),
        Linear(120, 84, rng=rng),
        ReLU(),
        Linear(84, classes, rng=rng),
        input_shape=(channels, size, size),
    )


MODELS: dict[str, Callable[..., Sequential]] = {"lenet5": lenet5}


def make(
    name: str, args: Mapping[str, Any], *, rng: np.random.Generator, fitting: Mapping[str, int] | None = None
) -> Sequential:
    """The network called `name` with arguments `args`; `fitting` has those of the data, for what `args` leaves out.

    Raises:
        ConfigError: there is no such network or argument.
    """
    known = inspect.signature(MODELS[choice("recipe.model.name", name, MODELS)]).parameters
    taken = {key: value for key, value in (fitting or {}).items() if key in known}
    return construct("recipe.model", MODELS, name, taken | dict(args), rng=rng)
