from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from lab import pooling, ties
from stridenet.data.catalogue import open_data
from stridenet.layout import Array
from stridenet.nn import functional as F

CASES = [((2, 3, 4, 6), 2, 2), ((1, 2, 7, 5), 3, 2), ((2, 1, 5, 6), 2, 1), ((1, 1, 6, 4), 1, 3), ((2, 2, 7, 7), 3, 3)]


def tied(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(0).integers(0, 2, shape).astype(float)


def ways(x: Array, k: int, stride: int) -> tuple[Array, Array, dict[Any, Array]]:
    y, saved = ties.forward(x, k, stride=stride)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    return y, dy, {way: ties.backward(dy, saved, ties=way) for way in ("first", "split", "all")}


@pytest.mark.parametrize(("shape", "k", "stride"), CASES)
def test_without_ties_all_are_the_gradient_of_ours(shape: tuple[int, ...], k: int, stride: int) -> None:
    x = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(float)
    y, dy, found = ways(x, k, stride)
    wanted, saved = F.max_pool2d(x, k, stride=stride)
    assert np.array_equal(y, wanted)
    for dx in found.values():
        assert normwise(dx, F.max_pool2d_backward(dy, saved)) < 1e-15


@pytest.mark.parametrize(("shape", "k", "stride"), CASES)
def test_with_ties_the_first_is_ours_and_only_all_gives_too_much(shape: tuple[int, ...], k: int, stride: int) -> None:
    x = tied(shape)
    y, dy, found = ways(x, k, stride)
    wanted, saved = F.max_pool2d(x, k, stride=stride)
    assert np.array_equal(y, wanted)
    assert normwise(found["first"], F.max_pool2d_backward(dy, saved)) < 1e-15
    assert found["split"].sum() == pytest.approx(dy.sum())
    counts = ties.forward(x, k, stride=stride)[1].maxima.sum(axis=(4, 5))
    assert found["all"].sum() == pytest.approx((counts * dy).sum())
    if k > 1:
        assert not np.allclose(found["all"], found["split"])


def test_all_is_the_equality_mask_of_report_s0() -> None:
    x = tied((2, 3, 6, 8))
    y, saved = pooling.forward_reshape(x, 2)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    assert np.array_equal(ways(x, 2, 2)[2]["all"], pooling.backward_reshape(dy, saved))


def test_by_hand() -> None:
    x, dy = np.array([[[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]), np.array([[[[6.0, 2.0]]]])
    _, saved = ties.forward(x, 2, stride=1)
    assert ties.backward(dy, saved).tolist() == [[[[6, 2, 0], [0, 0, 0]]]]
    assert ties.backward(dy, saved, ties="split").tolist() == [[[[2, 4, 0], [2, 0, 0]]]]
    assert ties.backward(dy, saved, ties="all").tolist() == [[[[6, 8, 0], [6, 0, 0]]]]


def test_the_sums_of_report_s0_on_a_4x4_image_of_ones() -> None:
    y, saved = ties.forward(np.ones((1, 1, 4, 4)), 2)
    assert ties.backward(np.ones_like(y), saved, ties="all").sum() == 16
    assert ties.backward(np.ones_like(y), saved, ties="first").sum() == y.size == 4


def test_the_report_counts_windows() -> None:
    x = tied((2, 3, 6, 8))
    found = ties.report(x, 2)
    sums = [int(window.sum()) for window in x.reshape(2, 3, 3, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4)]
    assert found.windows == len(sums)
    assert found.constant == sum(s in (0, 4) for s in sums)
    assert found.tied == sum(s != 1 for s in sums)
    assert found.excess == np.mean([s or 4 for s in sums])
    assert found.rate == found.tied / len(sums)
    assert ties.report(x, 1).tied == 0
    assert ties.report(x, 3, stride=1).windows == 2 * 3 * 4 * 6


@pytest.mark.big
def test_most_windows_of_mnist_are_tied_and_after_a_convolution_four_in_ten(mnist_folder: Path) -> None:
    """Report S0's mask then sends two to three times the gradient."""
    images = open_data(str(mnist_folder)).train.images[:1000]
    assert 0.81 < ties.report(images, 2).rate < 0.84
    weight = np.random.default_rng(0).standard_normal((6, 1, 5, 5), np.float32)
    found = ties.report(F.conv2d(images / np.float32(255), weight)[0], 2)
    assert 0.36 < found.rate < 0.44
    assert 1.9 < found.excess < 2.3
