"""The same numbers as PyTorch: forward and backward, float64 to 1e-10, float32 to 1e-5, ties exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from peer.operations import DRAW, ours, output_shape, theirs
from stridenet.layout import Array
from stridenet.nn import functional as F

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

ORDERS = list(LAYOUTS.values())
BOUND = {"float32": 1e-5, "float64": 1e-10}
COUNTS = {"conv2d": 2000, "max_pool2d": 1000, "avg_pool2d": 1000, "batch_norm": 500, "linear": 500}


def values(draw: np.random.Generator, op: str, seed: int, shape: tuple[int, ...]) -> Array:
    """Of the normal distribution; for a maximum mostly 0 and 1, or 0 and -inf, so that it is a tie."""
    if op != "max_pool2d" or seed % 5 == 0:
        return draw.standard_normal(shape)
    ties = draw.integers(0, 2, shape).astype(float)
    if seed % 5 == 1:
        ties[ties > 0] = -np.inf
    return ties


def differences(torch: Any, op: str, seed: int, dtype: str) -> list[str]:
    """One line for each result of one configuration that is not PyTorch's.

    Where a result in float32 is further from PyTorch's than the bound, both are held against PyTorch's in float64.
    """
    draw = np.random.default_rng((list(DRAW).index(op), seed))
    options, shapes = DRAW[op](draw, 2)
    arrays = [values(draw, op, seed, shape) for shape in shapes]
    dy = draw.standard_normal(output_shape(op, options, shapes))
    if op == "max_pool2d":
        dy = draw.integers(-20, 21, dy.shape).astype(float)  # sums are exact in any order
    move = ORDERS[seed % len(ORDERS)]
    *arrays, dy = (move(a.astype(dtype)) for a in (*arrays, dy))
    found, wanted = ours(op, options, arrays, dy), theirs(torch, op, options, arrays, dy)
    exact: list[Array] | None = None
    faults: list[str] = []
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == b.dtype == dtype
        if op == "max_pool2d":
            fits = np.array_equal(a, b)
        elif not (fits := normwise(a, b) <= BOUND[dtype]) and dtype == "float32":
            exact = exact or theirs(torch, op, options, [a.astype(float) for a in arrays], dy.astype(float))
            fits = normwise(a, exact[i]) <= max(BOUND[dtype], normwise(b, exact[i]))
        if not fits:
            faults.append(f"{op} {seed} {dtype}: result {i} of {shapes} with {options}")
    return faults


@pytest.mark.promise("B14", "G2")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", DRAW)
def test_operations(torch: Any, op: str, dtype: str) -> None:
    """2 000 convolutions, 1 000 of each pooling, ties exactly, 500 batch norms and dense layers, 100 of each other."""
    faults = [line for seed in range(COUNTS.get(op, 100)) for line in differences(torch, op, seed, dtype)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("padding", [1, (2, 0), "same"])
def test_padding_forms_mean_the_same(torch: Any, padding: Any) -> None:
    draw = np.random.default_rng(0)
    x, weight = draw.standard_normal((2, 3, 7, 6)), draw.standard_normal((4, 3, 3, 5))
    wanted = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weight), padding=padding)
    assert normwise(F.conv2d(x, weight, padding=padding)[0], wanted.numpy()) < 1e-13
