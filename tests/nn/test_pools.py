"""Pooling: which pixels a window averages, and where its gradient goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.nn import functional as F
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d

X = np.arange(1.0, 13).reshape(1, 1, 3, 4)  # 1 2 3 4, 5 6 7 8, 9 10 11 12


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [[3.5, 5.5]]),
        ({"ceil_mode": True}, [[3.5, 5.5], [9.5, 11.5]]),  # what hangs over does not count
        ({"padding": 1}, [[1 / 4, 5 / 4, 4 / 4], [14 / 4, 34 / 4, 20 / 4]]),
        ({"padding": 1, "count_include_pad": False}, [[1, 2.5, 4], [7, 8.5, 10]]),
        (
            {"padding": ((0, 1), (1, 0)), "ceil_mode": True},
            [[6 / 4, 18 / 4, 12 / 2], [9 / 4, 21 / 4, 12 / 2]],  # 2 pixels and 2 of padding; 1 pixel, 1 of padding
        ),
        (
            {"padding": ((0, 1), (1, 0)), "ceil_mode": True, "count_include_pad": False},
            [[3, 4.5, 6], [9, 10.5, 12]],
        ),
        ({"padding": "same"}, [[3.5, 5.5], [19 / 4, 23 / 4]]),
        ({"stride": (2, 3), "ceil_mode": True}, [[3.5, 6], [9.5, 12]]),
    ],
)
def test_average_by_hand(options: dict[str, Any], wanted: list[list[float]]) -> None:
    y, saved = F.avg_pool2d(X, 2, **options)
    assert y.tolist() == [[wanted]]
    dx = F.avg_pool2d_backward(np.ones_like(y), saved)
    assert normwise(np.array((dx * X).sum()), y.sum()) < 1e-15  # the transposed map


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_of_all_pixels(dtype: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 5)).astype(dtype)
    y, saved = F.global_avg_pool2d(x)
    assert y.shape == (3, 2, 1, 1)
    assert normwise(y[:, :, 0, 0], x.mean(axis=(2, 3))) < 1e-6
    dx = F.avg_pool2d_backward(np.full_like(y, 20), saved)
    assert dx.tolist() == np.ones_like(x).tolist()
    assert np.array_equal(GlobalAvgPool2d().forward(x), y)


@pytest.mark.promise("B10", "G2")
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_b10_constant_images_keep_the_sum_of_the_gradient(value: float) -> None:
    """Overlapping, rectangular, padded and overhanging windows; each reaches its first pixel alone."""
    for options in (
        {"stride": 1},
        {"stride": (1, 2), "padding": ((1, 0), (0, 1))},
        {"stride": 2, "ceil_mode": True},
        {"stride": (3, 2), "padding": 1, "ceil_mode": True},
    ):
        y, saved = F.max_pool2d(np.full((2, 1, 5, 4), value), (2, 3), **options)
        dy = np.arange(1.0, y.size + 1).reshape(y.shape)
        dx = F.max_pool2d_backward(dy, saved)
        assert (y == value).all()
        assert dx.sum() == dy.sum()
        assert np.count_nonzero(dx) <= y.size


def test_the_stride_is_the_kernel_unless_given() -> None:
    for kind in MaxPool2d, AvgPool2d:
        assert kind((2, 3)).output_shape((1, 6, 9)) == kind((2, 3), stride=(2, 3)).output_shape((1, 6, 9)) == (1, 3, 3)
        assert kind((2, 3), stride=1).output_shape((1, 6, 9)) == (1, 5, 7)
        assert repr(kind(3, stride=2, ceil_mode=True)) == f"{kind.__name__}(3, stride=2, ceil_mode=True)"
    assert repr(AvgPool2d(2, count_include_pad=False)) == "AvgPool2d(2, count_include_pad=False)"
    assert repr(GlobalAvgPool2d()) == "GlobalAvgPool2d()"
