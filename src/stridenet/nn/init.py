"""Start values of weights: each initialiser is a function (rng, shape) -> float32 array.

The shape is a weight's, (K, C / groups, R, S) or (K, D): fan_in, the inputs of one output, is the product of all axes
but the first; fan_out, the outputs that one input reaches, of all but the second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stridenet.layout import Array
from stridenet.shapes import Shape, number, product

Initializer = Callable[[np.random.Generator, Shape], Array]


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of `shape`."""
    return product(shape[1:]), shape[0] * product(shape[2:])


def he_normal(rng: np.random.Generator, shape: Shape) -> Array:
    """Normal with std sqrt(2 / fan_in): keeps the variance through ReLU layers (He et al. 2015, eq. 10)."""
    return normal((2 / fans(shape)[0]) ** 0.5)(rng, shape)


def lecun_normal(rng: np.random.Generator, shape: Shape) -> Array:
    """Normal with std sqrt(1 / fan_in) (LeCun, Bottou, Orr and Mueller 1998, eq. 16)."""
    return normal((1 / fans(shape)[0]) ** 0.5)(rng, shape)


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    limit = (6 / sum(fans(shape))) ** 0.5
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def fan_in_uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Uniform in +-2.4 / fan_in (LeCun, Bottou, Bengio and Haffner 1998, appendix A)."""
    limit = 2.4 / fans(shape)[0]
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def normal(std: float) -> Initializer:
    """Normal with a constant `std`.

    Raises:
        ConfigError: `std` is not a finite number >= 0.
    """
    std = number("init.normal", "std", std, low=0.0, high=float("inf"))
    return lambda rng, shape: (std * rng.standard_normal(shape)).astype(np.float32)


def zeros(rng: np.random.Generator, shape: Shape) -> Array:
    """All zeros; draws nothing."""
    del rng
    return np.zeros(shape, np.float32)


def signs(rng: np.random.Generator, shape: Shape) -> Array:
    """-1 or +1, as by a coin: codes of classes that are far from each other."""
    return rng.choice(np.array([-1, 1], np.float32), shape)
