"""The shortcut of zeros: which pixels it takes, and where their gradient goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS
from stridenet import layout
from stridenet.errors import ConfigError, ShapeError
from stridenet.nn import functional as F
from stridenet.nn.layers import Conv2d
from stridenet.nn.sequential import Residual, ZeroPadShortcut

X = np.arange(1.0, 13).reshape(1, 1, 3, 4)  # 1 2 3 4, 5 6 7 8, 9 10 11 12
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("stride", "taken"),
    [
        (1, [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
        (2, [[1, 3], [9, 11]]),
        ((2, 3), [[1, 4], [9, 12]]),
        ((1, 4), [[1], [5], [9]]),
        (9, [[1]]),
    ],
)
def test_by_hand(stride: Any, taken: list[list[int]]) -> None:
    y, saved = F.zero_pad_shortcut(X, 3, stride=stride)
    zeros = np.zeros_like(taken).tolist()
    assert y.tolist() == [[taken, zeros, zeros]]
    dx = F.zero_pad_shortcut_backward(np.full_like(y, 7), saved)
    assert np.array_equal(dx, 7 * np.isin(X, taken))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2, (3, 2)])
def test_results_are_batch_innermost_and_adjoint_to_the_bit(dtype: Any, order: str, stride: Any) -> None:
    x = RNG.integers(-9, 10, (5, 2, 7, 6)).astype(dtype)  # whole numbers: sums are exact
    y, saved = F.zero_pad_shortcut(LAYOUTS[order](x), 4, stride=stride)
    dy = RNG.integers(-9, 10, y.shape).astype(dtype)
    dx = F.zero_pad_shortcut_backward(LAYOUTS[order](dy), saved)
    assert layout.inner(y).dtype == layout.inner(dx).dtype == dtype  # inner takes no other order
    assert (dx * x).sum() == (dy * y).sum()
    assert dx.any()
    assert np.array_equal(y, F.zero_pad_shortcut(x, 4, stride=stride)[0])


def test_sizes_are_those_of_the_convolution_beside_it() -> None:
    for size in range(1, 12):
        for stride in 1, 2, 3, 5:
            body = Conv2d(1, 2, 3, stride=stride, padding=1, rng=RNG)
            shape = Residual(body, ZeroPadShortcut(1, 2, stride=stride)).output_shape((1, size, 2 * size))
            assert shape == (2, -(-size // stride), -(-2 * size // stride))


def test_nothing_is_shared() -> None:
    x = np.copy(X)
    y, saved = F.zero_pad_shortcut(x, 1)
    dy = np.ones_like(y)
    assert not np.shares_memory(x, y)
    assert not np.shares_memory(dy, F.zero_pad_shortcut_backward(dy, saved))


def test_arguments_that_cannot_be() -> None:
    for channels in 0, 1, 2.0, True, None, 2**60:
        with pytest.raises(ConfigError, match=r"^zero_pad_shortcut: expected out_channels "):
            F.zero_pad_shortcut(np.zeros((1, 2, 3, 3)), channels)  # pyright: ignore[reportArgumentType]
    for stride in 0, (1, 0), 1.5, "2", (1, 1, 1):
        with pytest.raises(ConfigError, match=r"^zero_pad_shortcut: expected stride "):
            F.zero_pad_shortcut(X, 2, stride=stride)  # pyright: ignore[reportArgumentType]


def test_arrays_that_do_not_fit() -> None:
    for x, message in (
        (np.zeros((2, 3)), r"expected x of shape \(N, C, H, W\), got \(2, 3\)"),
        (np.zeros((2, 3, 4, 4), int), "expected x of dtype float32 or float64, got int64"),
        (np.zeros((2, 3, 0, 4)), "expected an image of at least 1x1 .* got 0x4"),
    ):
        with pytest.raises(ShapeError, match=f"^zero_pad_shortcut: {message}"):
            F.zero_pad_shortcut(x, 4)
    with pytest.raises(ShapeError, match=r"at most 2\^31 numbers an image, got \(2147483648, 3, 4\)"):
        F.zero_pad_shortcut(X, 2**31)
    y, saved = F.zero_pad_shortcut(X, 2, stride=2)
    for dy in X, y[:, :1], y[:0]:
        with pytest.raises(ShapeError, match=r"^zero_pad_shortcut_backward: expected dy of shape \(1, 2, 2, 2\), got"):
            F.zero_pad_shortcut_backward(dy, saved)


def test_the_layer_is_the_function() -> None:
    layer = ZeroPadShortcut(1, 3, stride=(2, 3))
    assert np.array_equal(layer.forward(X), F.zero_pad_shortcut(X, 3, stride=(2, 3))[0])
    assert repr(layer) == "ZeroPadShortcut(1, 3, stride=(2, 3))"
    assert repr(ZeroPadShortcut(4, 4)) == "ZeroPadShortcut(4, 4)"
    assert list(layer.named_parameters()) == []
