from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from lab import convolution, rows
from lab.rows import Places
from stridenet.nn import functional as F

CASES = [
    Places((2, 3, 6, 7), (3, 3), (1, 1), 0),
    Places((1, 2, 6, 5), (3, 2), (1, 2), 1),
    Places((2, 1, 7, 7), (2, 2), (2, 2), 0),  # the last row is in no window
    Places((1, 3, 5, 5), (5, 5), (1, 1), 2),
    Places((2, 2, 5, 4), (1, 1), (3, 1), 0),
]
every_case = pytest.mark.parametrize("places", CASES)
BOTH: Any = pytest.mark.parametrize(("there", "back"), [(rows.im2row, rows.row2im), (rows.pool2row, rows.row2pool)])


def draw(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


@BOTH
@every_case
def test_adding_is_the_transpose_of_the_way_there(there: Any, back: Any, places: Places) -> None:
    """<there(x), r> = <x, back(r)> for any rows r: back is the gradient."""
    x, matrix = draw(*places.shape), there(draw(*places.shape), places)
    r = np.random.default_rng(1).standard_normal(matrix.shape)
    assert (there(x, places) * r).sum() == pytest.approx((x * back(r, places)).sum(), rel=1e-12)


@BOTH
@every_case
def test_averaging_is_the_inverse(there: Any, back: Any, places: Places) -> None:
    x = draw(*places.shape)
    seen = back(there(np.ones_like(x), places), places) > 0
    found = back(there(x, places), places, back="mean")
    assert normwise(found, np.where(seen, x, 0)) < 1e-15
    if places.stride == (1, 1):
        assert seen.all()
        assert not np.allclose(back(there(x, places), places), x) or places.kernel == (1, 1)


@BOTH
def test_averaging_whole_numbers_is_exact(there: Any, back: Any) -> None:
    places = CASES[1]._replace(stride=(1, 1))
    x = np.random.default_rng(0).integers(0, 256, places.shape).astype(np.float32)
    assert np.array_equal(back(there(x, places), places, back="mean"), x)


@every_case
def test_rows_times_filters_is_our_convolution_and_its_gradients(places: Places) -> None:
    (N, C, _, _), (P, Q), K = places.shape, places.output, 4
    x, weight, dy = draw(*places.shape), draw(K, C, *places.kernel), draw(N, K, P, Q)
    y, saved = F.conv2d(x, weight, stride=places.stride, padding=places.padding)
    matrix = rows.im2row(x, places)
    assert matrix.shape == (N * P * Q, C * places.kernel[0] * places.kernel[1])
    assert normwise((matrix @ weight.reshape(K, -1).T).reshape(N, P, Q, K).transpose(0, 3, 1, 2), y) < 1e-14

    dx, dweight, _ = F.conv2d_backward(dy, saved)
    dz = dy.transpose(0, 2, 3, 1).reshape(-1, K)  # (N*P*Q, K)
    assert dx is not None
    assert normwise((dz.T @ matrix).reshape(weight.shape), dweight) < 1e-14
    assert normwise(rows.row2im(dz @ weight.reshape(K, -1), places), dx) < 1e-14


def test_the_rows_are_those_of_the_strided_convolution() -> None:
    places = Places((2, 3, 6, 7), (3, 2), (2, 2), 1)
    _, saved = convolution.forward_strided(draw(2, 3, 6, 7), draw(4, 3, 3, 2), np.zeros(4), stride=2, padding=1)
    assert np.array_equal(saved.columns, rows.im2row(draw(2, 3, 6, 7), places))


@pytest.mark.parametrize("places", [case for case in CASES if not case.padding])
def test_the_maximum_of_rows_is_our_pooling_and_its_gradient(places: Places) -> None:
    x = np.random.default_rng(0).permutation(np.prod(places.shape)).reshape(places.shape).astype(float)
    y, saved = F.max_pool2d(x, places.kernel, stride=places.stride)
    matrix = rows.pool2row(x, places)
    assert np.array_equal(matrix.max(axis=1).reshape(y.shape), y)
    dy, sent = draw(*y.shape), np.zeros_like(matrix)
    sent[np.arange(len(matrix)), matrix.argmax(axis=1)] = dy.ravel()
    assert normwise(rows.row2pool(sent, places), F.max_pool2d_backward(dy, saved)) < 1e-15
