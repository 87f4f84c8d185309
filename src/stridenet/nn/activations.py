"""Activation functions as pairs: they keep the shape and have no parameters. Part of `functional`, see there."""

from __future__ import annotations

import math

import numpy as np

from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn.arrays import check
from stridenet.shapes import number


def relu(x: Array) -> tuple[Array, Array]:
    """max(x, 0) elementwise, any shape (N, ...); NaN stays NaN. Saved: the mask x > 0."""
    check("relu", "x", x, ("N", ...))
    zeros = np.zeros((len(x), *[1] * (x.ndim - 1)), x.dtype)  # NumPy has no vector loop for a maximum with a scalar
    return np.maximum(x, zeros), x > 0


def relu_backward(dy: Array, positive: Array) -> Array:
    """dx = dy where x > 0, else 0; the derivative at 0 is 0."""
    check("relu_backward", "dy", dy, positive.shape)
    return dy * positive


def leaky_relu(x: Array, negative_slope: float = 0.01) -> tuple[Array, Array]:
    """x where x > 0, else negative_slope x, any shape (N, ...) (Maas, Hannun and Ng 2013). Saved: the slopes.

    Raises:
        ConfigError: negative_slope is not a finite number >= 0.
    """
    check("leaky_relu", "x", x, ("N", ...))
    slope = number("leaky_relu", "negative_slope", negative_slope, low=0.0, high=math.inf)
    slopes = np.full_like(x, slope)
    slopes[x > 0] = 1
    return x * slopes, slopes


def leaky_relu_backward(dy: Array, slopes: Array) -> Array:
    """dx = dy where x > 0, else negative_slope dy; the derivative at 0 is negative_slope."""
    check("leaky_relu_backward", "dy", dy, slopes.shape, slopes)
    return dy * slopes


def tanh(x: Array) -> tuple[Array, Array]:
    """Hyperbolic tangent, any shape (N, ...). Saved: y."""
    check("tanh", "x", x, ("N", ...))
    y = np.tanh(x)
    return y, np.copy(y)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy (1 - y^2)."""
    check("tanh_backward", "dy", dy, y.shape, y)
    return dy * (1 - y * y)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """1 / (1 + exp(-x)), any shape (N, ...), without overflow: (1 + tanh(x / 2)) / 2. Saved: y."""
    check("sigmoid", "x", x, ("N", ...))
    y = 0.5 + 0.5 * np.tanh(0.5 * x)
    return y, np.copy(y)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy y (1 - y)."""
    check("sigmoid_backward", "dy", dy, y.shape, y)
    return dy * y * (1 - y)


def softmax(x: Array) -> tuple[Array, Array]:
    """exp x / sum exp x over axis 1 of x (N, K, ...), shifted by the maximum so that nothing overflows. Saved: y."""
    y = np.exp(_shifted("softmax", x))
    y /= y.sum(axis=1, keepdims=True)
    return y, np.copy(y)


def softmax_backward(dy: Array, y: Array) -> Array:
    """dx = y (dy - sum(dy y)), the sum over axis 1."""
    check("softmax_backward", "dy", dy, y.shape, y)
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


def log_softmax(x: Array) -> tuple[Array, Array]:
    """x - log sum exp x over axis 1 of x (N, K, ...), shifted by the maximum so that nothing overflows. Saved: y."""
    shifted = _shifted("log_softmax", x)
    y = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return y, np.copy(y)


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dx = dy - softmax(x) sum(dy), the sum over axis 1."""
    check("log_softmax_backward", "dy", dy, y.shape, y)
    return dy - np.exp(y) * dy.sum(axis=1, keepdims=True)


def _shifted(who: str, x: Array) -> Array:
    """x minus its maximum over axis 1."""
    check(who, "x", x, ("N", "K", ...))
    if not x.shape[1]:
        raise ShapeError(f"{who}: expected x with at least one class, got {x.shape}")
    return x - x.max(axis=1, keepdims=True)
