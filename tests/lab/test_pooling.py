from __future__ import annotations

import numpy as np
import pytest

from lab import pooling
from stridenet.kernels import loops
from stridenet.layout import Array
from stridenet.shapes import Window, padding_margins, window

WAYS = ["loops", "im2col", "reshape"]
FIRST_MAXIMUM = ["loops", "im2col"]


def geometry(x: Array, k: int) -> Window:
    return window("test", (x.shape[2], x.shape[3]), (k, k), (k, k), padding_margins("test", 0), (1, 1))


def pooled(way: str, x: Array, dy: Array, k: int) -> tuple[Array, Array]:
    y, saved = getattr(pooling, f"forward_{way}")(x, k)
    return y, getattr(pooling, f"backward_{way}")(dy, saved)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shape", "k"), [((2, 3, 4, 6), 2), ((3, 1, 9, 3), 3), ((1, 2, 5, 4), 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_way_equals_the_definition_where_nothing_ties(
    way: str, shape: tuple[int, ...], k: int, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(dtype)
    wanted = loops.max_pool2d(x, geometry(x, k))
    dy = rng.standard_normal(wanted.shape).astype(dtype)
    y, dx = pooled(way, x, dy, k)
    assert y.dtype == dx.dtype == x.dtype
    assert np.array_equal(y, wanted)
    assert np.array_equal(dx, loops.max_pool2d_backward(dy, x, wanted, geometry(x, k)))


@pytest.mark.parametrize("way", FIRST_MAXIMUM)
def test_at_a_tie_the_first_maximum_takes_the_gradient(way: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 2, 6, 8)).astype(float)
    wanted = loops.max_pool2d(x, geometry(x, 2))
    dy = np.random.default_rng(1).standard_normal(wanted.shape)
    y, dx = pooled(way, x, dy, 2)
    assert np.array_equal(y, wanted)
    assert np.array_equal(dx, loops.max_pool2d_backward(dy, x, wanted, geometry(x, 2)))


def test_the_equality_mask_gives_a_tied_gradient_to_every_maximum() -> None:
    """The error of the third way, as it was: dx sums to more than dy."""
    x = np.array([[[[1.0, 1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0]]]])
    dy = np.array([[[[2.0, 3.0]]]])
    _, dx = pooled("reshape", x, dy, 2)
    assert dx.tolist() == [[[[2.0, 2.0, 0.0, 3.0], [2.0, 0.0, 0.0, 0.0]]]]
    assert dx.sum() == dy.sum() + 2 * 2
