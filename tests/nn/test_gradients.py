"""Gradients against differences: float64, random directions, random cotangents, off the kinks.

Central differences with a step of 1e-2 are exact for what is linear in each array; elsewhere a stencil of 4th order
takes 1e-3. Inputs of piecewise functions keep ten steps' distance from ties, or, inside a network, are drawn again
until no branch changes within the stencil.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from stridenet.nn.losses import cross_entropy
from stridenet.nn.sequential import Sequential

Rng = np.random.Generator
CASES = 25  # of each kind
DIRECTIONS = 4
BOUND = 1e-8


def derivative(f: Callable[[float], float], *, linear: bool) -> float:
    """f'(0)."""
    if linear:
        return (f(1e-2) - f(-1e-2)) / 2e-2
    h = 1e-3
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def along_directions(rng: Rng, value: Array, f: Callable[[], float], *, linear: bool) -> tuple[Array, list[Array]]:
    """The derivatives of f along random directions of `value`, which is changed in place and restored."""
    directions = [rng.standard_normal(value.shape) for _ in range(DIRECTIONS)]
    start = value.copy()

    def along(direction: Array) -> Callable[[float], float]:
        def moved(step: float) -> float:
            value[...] = start + step * direction / np.abs(direction).max()
            result = f()
            value[...] = start
            return result

        return moved

    return np.array([derivative(along(d), linear=linear) for d in directions]), [
        d / np.abs(d).max() for d in directions
    ]


def spaced(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Distinct values, at least 0.02 from each other and 0.01 from zero."""
    size = int(np.prod(shape))
    return (0.02 * (rng.permutation(size) - size // 2) + 0.01).reshape(shape)


def check64(network: Layer, x: Array, rng: Rng, *, linear: bool) -> float:
    return check(network.astype(np.float64), x, rng, linear=linear)


def check(network: Layer, x: Array, rng: Rng, *, linear: bool) -> float:
    """The worst normwise error of dx and of every parameter's gradient; two rounds must agree to the bit."""
    params = network.pack()

    def forward() -> Array:
        network.reseed(0, 1)  # the same masks every time
        return network.forward(x)

    dy = rng.standard_normal(forward().shape)
    rounds: list[list[Array]] = []
    for _ in range(2):
        params.zero_grad()
        forward()
        dx = network.backward(dy)
        assert dx is not None
        rounds.append([dx, *(np.copy(p.grad) for _, p in network.named_parameters())])
    assert all(np.array_equal(a, b) for a, b in zip(*rounds, strict=True))
    values = [x, *(p.value for _, p in network.named_parameters())]
    worst = 0.0
    for value, gradient in zip(values, rounds[0], strict=True):
        assert gradient.shape == value.shape
        found, directions = along_directions(rng, value, lambda: float((forward() * dy).sum()), linear=linear)
        wanted = np.array([float((gradient * d).sum()) for d in directions])
        worst = max(worst, normwise(found, wanted))
    return worst


def sizes(rng: Rng, low: int, high: int, count: int = 2) -> Any:
    return tuple(rng.integers(low, high, count).tolist())


def conv(rng: Rng) -> Conv2d:
    groups = int(rng.integers(1, 3))
    (before, after), (left, right) = sizes(rng, 0, 2), sizes(rng, 0, 2)
    kernel = sizes(rng, 2, 4)
    padding: Any = [before, (before, left), ((before, after), (left, right)), "same"][rng.integers(4)]
    return Conv2d(
        groups * int(rng.integers(1, 4)),
        groups * int(rng.integers(1, 4)),
        kernel,
        stride=sizes(rng, 1, 4),
        padding=padding,
        dilation=sizes(rng, 1, 3),
        groups=groups,
        bias=bool(rng.integers(2)),
        rng=rng,
    )


def image(rng: Rng, channels: int) -> tuple[int, ...]:
    return int(rng.integers(1, 4)), channels, *sizes(rng, 5, 9)


def conv_case(rng: Rng) -> float:
    layer = conv(rng)
    return check64(layer, rng.standard_normal(image(rng, layer.in_channels)), rng, linear=True)


def linear_case(rng: Rng) -> float:
    N, D, K = sizes(rng, 1, 9, 3)
    layer = Linear(D, K, bias=bool(rng.integers(2)), rng=rng)
    return check64(layer, rng.standard_normal((N, D)), rng, linear=True)


def pool_case(rng: Rng) -> float:
    kernel = sizes(rng, 1, 4)
    padding: Any = tuple((int(rng.integers(k)), int(rng.integers(k))) for k in kernel)
    layer = MaxPool2d(kernel, stride=sizes(rng, 1, 4), padding=padding if rng.integers(3) else "same")
    return check64(layer, spaced(rng, image(rng, int(rng.integers(1, 3)))), rng, linear=False)


def relu_case(rng: Rng) -> float:
    return check64(ReLU(), spaced(rng, sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=False)


def smooth_case(kind: type[Layer]) -> Callable[[Rng], float]:
    return lambda rng: check64(
        kind(), 2 * rng.standard_normal(sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=False
    )


def dropout_case(rng: Rng) -> float:
    layer = Dropout(float(rng.uniform(0, 0.8)))
    return check64(layer, rng.standard_normal((3, *sizes(rng, 2, 5, 3))), rng, linear=True)


def flatten_case(rng: Rng) -> float:
    return check64(Flatten(), rng.standard_normal(sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=True)


def smooth_network_case(rng: Rng) -> float:
    first = Conv2d(2, int(rng.integers(1, 5)), sizes(rng, 2, 4), stride=sizes(rng, 1, 3), padding=(0, 1), rng=rng)
    shape = image(rng, 2)
    second = Conv2d(first.out_channels, 3, sizes(rng, 1, 4), padding="same", dilation=sizes(rng, 1, 3), rng=rng)
    body: list[Layer] = [first, Tanh(), second, Sigmoid(), Flatten(), Dropout(0.3)]
    features = Sequential(*body).output_shape(shape[1:])[0]
    network = Sequential(*body, Sequential(Linear(features, 5, rng=rng), Tanh()), Linear(5, 3, rng=rng))
    return check64(network, rng.standard_normal(shape), rng, linear=False)


def branches(network: Sequential, x: Array) -> Iterator[bytes]:
    """Which side of its kinks every ReLU and pooling of a network is on."""
    for layer in network.layers:
        if isinstance(layer, ReLU):
            yield (x > 0).tobytes()
        if isinstance(layer, MaxPool2d):
            y, saved = F.max_pool2d(x, layer.kernel_size, stride=layer.stride, padding=layer.padding)
            yield F.max_pool2d_backward(np.arange(1.0, y.size + 1).reshape(y.shape), saved).tobytes()
        x = layer.forward(x)


class Watched(Sequential):
    """A Sequential that remembers on which branches it has been."""

    seen: set[tuple[bytes, ...]]

    def forward(self, x: Array) -> Array:
        self.seen.add(tuple(branches(self, x)))
        return super().forward(x)


def piecewise_network_case(rng: Rng) -> float:
    first = Conv2d(2, int(rng.integers(1, 5)), sizes(rng, 2, 4), stride=sizes(rng, 1, 3), padding=(1, 1), rng=rng)
    shape = image(rng, 2)
    body: list[Layer] = [first, ReLU(), MaxPool2d(2, stride=1, padding=1), Flatten()]
    features = Sequential(*body).output_shape(shape[1:])[0]
    network = Watched(*body, Linear(features, 3, rng=rng)).astype(np.float64)
    while True:
        network.seen = set()
        worst = check(network, rng.standard_normal(shape), rng, linear=False)
        if len(network.seen) == 1:
            return worst


def log_softmax_case(rng: Rng) -> float:
    x = 2 * rng.standard_normal(sizes(rng, 2, 6, int(rng.integers(2, 5))))
    dy = rng.standard_normal(x.shape)
    dx = F.log_softmax_backward(dy, F.log_softmax(x)[1])
    found, directions = along_directions(rng, x, lambda: float((F.log_softmax(x)[0] * dy).sum()), linear=False)
    return normwise(found, np.array([float((dx * d).sum()) for d in directions]))


def loss_case(rng: Rng) -> float:
    """B6, B25: the gradient is that of the mean, weighted and smoothed; N and K differ."""
    N, K = int(rng.integers(1, 7)), int(rng.integers(2, 9))
    scores, targets = 3 * rng.standard_normal((N, K)), rng.integers(0, K, N)
    weights = rng.uniform(0.1, 3, N) if rng.integers(2) else None
    smoothing = float(rng.uniform(0, 0.9)) if rng.integers(2) else 0.0

    def loss() -> tuple[float, Array]:
        return cross_entropy(scores, targets, weights, label_smoothing=smoothing)

    gradient = loss()[1]
    found, directions = along_directions(rng, scores, lambda: loss()[0], linear=False)
    return normwise(found, np.array([float((gradient * d).sum()) for d in directions]))


KINDS: dict[str, Callable[[Rng], float]] = {
    "Conv2d": conv_case,
    "Linear": linear_case,
    "MaxPool2d": pool_case,
    "ReLU": relu_case,
    "Tanh": smooth_case(Tanh),
    "Sigmoid": smooth_case(Sigmoid),
    "Dropout": dropout_case,
    "Flatten": flatten_case,
    "log_softmax": log_softmax_case,
    "cross_entropy": loss_case,
    "smooth network": smooth_network_case,
    "piecewise network": piecewise_network_case,
}


@pytest.mark.promise("G1")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    for seed in range(CASES):
        worst = KINDS[kind](np.random.default_rng((ord(kind[0]), seed)))
        assert worst < BOUND, (kind, seed, worst)


def test_the_configurations_are_300() -> None:
    assert CASES * len(KINDS) == 300


@pytest.mark.parametrize("fault", ["scale", "sign", "one element"])
def test_the_check_sees_a_wrong_gradient(fault: str) -> None:
    class Wrong(Linear):
        def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
            dx = super().backward(dy)
            assert dx is not None
            if fault == "scale":
                self.weight.grad *= 1 + 1e-6
            elif fault == "sign":
                dx = -dx
            else:
                dx[0, 0] *= 1 + 1e-6
            return dx

    rng = np.random.default_rng(0)
    layer = Wrong(3, 2, rng=rng).astype(np.float64)
    assert check(layer, rng.standard_normal((2, 3)), rng, linear=True) > BOUND
