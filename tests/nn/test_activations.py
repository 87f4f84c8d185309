"""The activation functions: kinks, and what is far out."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import normwise
from stridenet.nn import functional as F

rng = np.random.default_rng


@pytest.mark.promise("G2")
def test_relu_has_no_slope_at_zero() -> None:
    x = np.array([[-1.0, -0.0, 0.0, 5e-324, 2.0]])
    y, saved = F.relu(x)
    assert y.tolist() == [[0, 0, 0, 5e-324, 2]]
    assert F.relu_backward(np.full_like(x, 3.0), saved).tolist() == [[0, 0, 0, 3, 3]]


@pytest.mark.promise("G2")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, 2.0])
def test_leaky_relu_has_the_negative_slope_at_zero(slope: float, dtype: type) -> None:
    x = np.array([[-2.0, -0.0, 0.0, 2.0]], dtype)
    y, saved = F.leaky_relu(x, slope)
    assert y.tolist() == [[-2 * slope, 0, 0, 2]]
    assert F.leaky_relu_backward(np.full_like(x, 3), saved).tolist() == [[3 * slope, 3 * slope, 3 * slope, 3]]
    assert np.array_equal(F.leaky_relu(x)[0], F.leaky_relu(x, 0.01)[0])


def test_leaky_relu_without_a_slope_is_relu() -> None:
    x = rng(1).standard_normal((4, 3, 2, 5)).astype(np.float32)
    assert np.array_equal(F.leaky_relu(x, 0.0)[0], F.relu(x)[0])


def test_smooth_functions_far_out() -> None:
    for dtype in np.float32, np.float64:
        x = np.array([[-1e4, -50.0, 0.0, 50.0, 1e4]], dtype)
        assert F.sigmoid(x)[0].tolist() == [[0, pytest.approx(0, abs=1e-7), 0.5, pytest.approx(1), 1]]
        assert F.tanh(x)[0].tolist() == [[-1, -1, 0, 1, 1]]
        assert F.softmax(x)[0].tolist() == [[0, 0, 0, 0, 1]]
        for forward, backward in (
            *((F.sigmoid, F.sigmoid_backward), (F.tanh, F.tanh_backward)),
            *((F.softmax, F.softmax_backward), (F.log_softmax, F.log_softmax_backward)),
        ):
            assert np.isfinite(backward(np.ones_like(x), forward(x)[1])).all()
    x = rng(12).standard_normal((4, 5)) * 5
    assert normwise(F.sigmoid(x)[0], 1 / (1 + np.exp(-x))) < 1e-15


def test_softmax_and_its_logarithm_are_exact_and_shifted() -> None:
    x = np.array([[1000.0, 0.0, -1000.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]])
    log2, log3 = -float(np.log(2)), -float(np.log(3))
    assert F.log_softmax(x)[0].tolist() == [[0, -1000, -2000], [log2, log2, log2 - 2e4], [log3, log3, log3]]
    assert F.softmax(x)[0].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]
    x = rng(13).standard_normal((3, 4, 2, 2))
    assert normwise(np.exp(F.log_softmax(x)[0]), F.softmax(x)[0]) < 1e-15
    assert normwise(F.softmax(x)[0].sum(axis=1), np.ones((3, 2, 2))) < 1e-15


@pytest.mark.promise("B25")
def test_b25_the_gradient_of_softmax_is_its_jacobian_image_by_image() -> None:
    """diag(y) - y y^T for each of 5 images with 3 classes, and the identity - 1 y^T for the logarithm."""
    x, dy = rng(14).standard_normal((2, 5, 3))
    y = F.softmax(x)[0]
    wanted = [(np.diag(row) - np.outer(row, row)) @ d for row, d in zip(y, dy, strict=True)]
    assert normwise(F.softmax_backward(dy, F.softmax(x)[1]), np.array(wanted)) < 1e-14
    wanted = [(np.eye(3) - np.outer(row, np.ones(3))) @ d for row, d in zip(y, dy, strict=True)]
    assert normwise(F.log_softmax_backward(dy, F.log_softmax(x)[1]), np.array(wanted)) < 1e-14
