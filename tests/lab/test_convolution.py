from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from lab import convolution
from stridenet.kernels import loops
from stridenet.nn import functional as F
from stridenet.shapes import padding_margins, window

WAYS = ["loops", "im2col", "strided", "offsets", "fft"]


def draw(N: int, C: int, K: int, kernel: tuple[int, int], size: tuple[int, int]) -> tuple[Any, ...]:
    rng = np.random.default_rng(N + C + K + sum(kernel) + sum(size))
    return rng.standard_normal((N, C, *size)), rng.standard_normal((K, C, *kernel)), rng.standard_normal(K)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("sizes", "stride", "padding"),
    [
        ((2, 3, 4, (3, 3), (6, 7)), 1, 0),
        ((3, 1, 2, (5, 5), (5, 5)), 1, 0),
        ((1, 2, 3, (3, 2), (6, 5)), 1, 2),
        ((2, 2, 3, (2, 3), (8, 7)), 2, 1),  # the last row is in no window
        ((1, 3, 1, (1, 1), (5, 4)), 3, 0),
    ],
)
def test_each_way_equals_the_definition(way: str, sizes: Any, stride: int, padding: int) -> None:
    x, weight, bias = draw(*sizes)
    geometry = window("test", x.shape[2:], weight.shape[2:], (stride, stride), padding_margins("test", padding), (1, 1))
    kept = [array.copy() for array in (x, weight, bias)]
    y, saved = getattr(convolution, f"forward_{way}")(x, weight, bias, stride=stride, padding=padding)
    wanted, _ = loops.conv2d(x, weight, bias, geometry, 1)
    assert normwise(y, wanted) <= 1e-13

    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx, dweight, dbias = getattr(convolution, f"backward_{way}")(dy, saved)
    wanted_dx, wanted_dweight = loops.conv2d_backward(dy, x, weight, None, geometry, 1, True)
    assert wanted_dx is not None
    assert normwise(dx, wanted_dx) <= 1e-13
    assert normwise(dweight, wanted_dweight) <= 1e-13
    assert normwise(dbias, dy.sum(axis=(0, 2, 3))) <= 1e-13
    assert all(np.array_equal(array, before) for array, before in zip((x, weight, bias), kept, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_float32_stays_float32(way: str) -> None:
    x, weight, bias = (array.astype(np.float32) for array in draw(2, 2, 3, (3, 3), (5, 5)))
    y, saved = getattr(convolution, f"forward_{way}")(x, weight, bias, padding=1)
    gradients = getattr(convolution, f"backward_{way}")(y, saved)
    assert {array.dtype for array in (y, *gradients)} == {np.dtype("float32")}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_our_convolution_and_its_gradients(way: str) -> None:
    x, weight, bias = draw(3, 2, 4, (3, 2), (7, 8))
    y, saved = getattr(convolution, f"forward_{way}")(x, weight, bias, stride=2, padding=1)
    wanted, kept = F.conv2d(x, weight, bias, stride=2, padding=1)
    assert normwise(y, wanted) <= 1e-13
    for ours, theirs in zip(F.conv2d_backward(y, kept), getattr(convolution, f"backward_{way}")(y, saved), strict=True):
        assert ours is not None
        assert normwise(theirs, ours) <= 1e-13
