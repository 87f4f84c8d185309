"""Gradients against differences: float64, random directions, random cotangents, off the kinks.

Central differences with a step of 1e-2 are exact for what is linear in each array; elsewhere a stencil of 4th order
takes 3e-4. Inputs of piecewise functions keep many steps' distance from ties, or, inside a network, are drawn again
until no branch changes within the stencil.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.losses import Loss, cross_entropy, hinge, map_criterion, mse, rbf_mse
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut

Rng = np.random.Generator
CASES, ALL_CASES = 12, 40  # of each kind, in the plain and in the slow tier
DIRECTIONS = 4
BOUND = 1e-8


def derivative(f: Callable[[float], float], *, linear: bool) -> float:
    """f'(0)."""
    if linear:
        return (f(1e-2) - f(-1e-2)) / 2e-2
    h = 3e-4
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
    """The worst normwise error of dx and of every trained parameter's gradient; two rounds must agree to the bit."""
    params = network.pack()
    trained = list(params.parameters.values())

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
        rounds.append([dx, *(np.copy(p.grad) for p in trained)])
    assert all(np.array_equal(a, b) for a, b in zip(*rounds, strict=True))
    values = [x, *(p.value for p in trained)]
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


def depthwise_case(rng: Rng) -> float:
    C = int(rng.integers(2, 5))
    multiplier, kernel = int(rng.integers(1, 4)), sizes(rng, 1, 4)
    layer = Conv2d(C, C * multiplier, kernel, stride=sizes(rng, 1, 3), padding="same", groups=C, rng=rng)
    return check64(layer, rng.standard_normal(image(rng, C)), rng, linear=True)


def linear_case(rng: Rng) -> float:
    N, D, K = sizes(rng, 1, 9, 3)
    layer = Linear(D, K, bias=bool(rng.integers(2)), rng=rng)
    return check64(layer, rng.standard_normal((N, D)), rng, linear=True)


def pool_arguments(rng: Rng) -> tuple[Any, dict[str, Any]]:
    kernel = sizes(rng, 1, 4)
    padding: Any = tuple((int(rng.integers(k)), int(rng.integers(k))) for k in kernel)
    padding = padding if rng.integers(3) else "same"
    return kernel, {"stride": sizes(rng, 1, 4), "padding": padding, "ceil_mode": bool(rng.integers(2))}


def max_pool_case(rng: Rng) -> float:
    kernel, options = pool_arguments(rng)
    return check64(MaxPool2d(kernel, **options), spaced(rng, image(rng, int(rng.integers(1, 3)))), rng, linear=False)


def avg_pool_case(rng: Rng) -> float:
    kernel, options = pool_arguments(rng)
    layer = AvgPool2d(kernel, **options, count_include_pad=bool(rng.integers(2)))
    return check64(layer, rng.standard_normal(image(rng, int(rng.integers(1, 3)))), rng, linear=True)


def global_avg_pool_case(rng: Rng) -> float:
    return check64(GlobalAvgPool2d(), rng.standard_normal(image(rng, int(rng.integers(1, 4)))), rng, linear=True)


def batch_norm(rng: Rng, channels: int) -> BatchNorm2d:
    layer = BatchNorm2d(channels, eps=float(10 ** rng.uniform(-6, -1)))
    for _, parameter in layer.named_parameters():
        parameter.value[:] = rng.uniform(0.5, 2, channels)
    return layer


def batch_norm_case(rng: Rng) -> float:
    """B14: the gradient flows through the statistics; at least 25 numbers of a channel."""
    layer = batch_norm(rng, int(rng.integers(1, 4)))
    return check64(layer, 3 + 2 * rng.standard_normal(image(rng, layer.num_features)), rng, linear=False)


def frozen_batch_norm_case(rng: Rng) -> float:
    layer = batch_norm(rng, int(rng.integers(1, 4)))
    return check64(layer.freeze(), rng.standard_normal(image(rng, layer.num_features)), rng, linear=True)


def given_batch_norm_case(rng: Rng) -> float:
    """As a frozen layer would with a weight and a bias that are trained."""
    shape = image(rng, int(rng.integers(1, 4)))
    mean, variance = rng.standard_normal(shape[1]), rng.uniform(0.1, 2, shape[1])
    arrays = [rng.standard_normal(s) for s in (shape, shape[1:2], shape[1:2])]
    dy = rng.standard_normal(shape)

    def forward() -> tuple[Array, Any]:
        return F.batch_norm(*arrays, (mean, variance), eps=1e-3)

    worst = 0.0
    for value, gradient in zip(arrays, F.batch_norm_backward(dy, forward()[1]), strict=True):
        found, directions = along_directions(rng, value, lambda: float((forward()[0] * dy).sum()), linear=True)
        worst = max(worst, normwise(found, np.array([float((gradient * d).sum()) for d in directions])))
    return worst


def relu_case(rng: Rng) -> float:
    return check64(ReLU(), spaced(rng, sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=False)


def leaky_relu_case(rng: Rng) -> float:
    layer = LeakyReLU(float(rng.uniform(0, 1)))
    return check64(layer, spaced(rng, sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=False)


def smooth_case(kind: type[Layer]) -> Callable[[Rng], float]:
    return lambda rng: check64(
        kind(), 2 * rng.standard_normal(sizes(rng, 1, 5, int(rng.integers(2, 5)))), rng, linear=False
    )


def dropout_case(rng: Rng) -> float:
    layer = Dropout(float(rng.uniform(0, 0.8)))
    return check64(layer, rng.standard_normal((3, *sizes(rng, 2, 5, 3))), rng, linear=True)


def dropout2d_case(rng: Rng) -> float:
    layer = Dropout2d(float(rng.uniform(0, 0.8)))
    return check64(layer, rng.standard_normal((3, *sizes(rng, 2, 5, 3))), rng, linear=True)


def residual_case(rng: Rng) -> float:
    """Without a shortcut, with one of its own stride, and a residual in a residual."""
    C, kind = int(rng.integers(1, 4)), rng.integers(3)
    if kind == 0:
        layer = Residual(Sequential(Conv2d(C, 3, 3, padding=1, rng=rng), Conv2d(3, C, 1, rng=rng)))
    elif kind == 1:
        layer = Residual(
            Sequential(Conv2d(C, 2, 3, stride=2, padding=1, rng=rng), Dropout(0.3)),
            Conv2d(C, 2, 1, stride=2, bias=False, rng=rng),
        )
    else:
        layer = Residual(Residual(Conv2d(C, C, 2, padding="same", rng=rng)), AvgPool2d(3, stride=1, padding=1))
    return check64(layer, rng.standard_normal(image(rng, C)), rng, linear=True)


def zero_pad_case(rng: Rng) -> float:
    """Alone, and beside a body of the same stride."""
    C, more, stride = int(rng.integers(1, 4)), int(rng.integers(3)), sizes(rng, 1, 4)
    layer: Layer = ZeroPadShortcut(C, C + more, stride=stride)
    if rng.integers(2):
        layer = Residual(Conv2d(C, C + more, 3, stride=stride, padding=1, rng=rng), layer)
    return check64(layer, rng.standard_normal(image(rng, C)), rng, linear=True)


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


def residual_network_case(rng: Rng) -> float:
    """Batch normalisation inside and around residuals, as He et al. 2016 put it together, of smooth parts.

    Before it a convolution has no bias: the true gradient would be zero, and nothing but rounding left to compare.
    """
    C = int(rng.integers(2, 4))
    body = Sequential(Conv2d(C, C, 3, padding=1, bias=False, rng=rng), batch_norm(rng, C), Tanh(), Dropout2d(0.2))
    down = Sequential(Conv2d(C, 3, 3, stride=2, padding=1, bias=False, rng=rng), batch_norm(rng, 3))
    network = Sequential(
        *(Conv2d(2, C, 3, padding=1, bias=False, rng=rng), batch_norm(rng, C), Sigmoid(), Residual(body)),
        *(Residual(down, Conv2d(C, 3, 1, stride=2, rng=rng)), Tanh()),
        *(AvgPool2d(2, stride=1, padding=1, count_include_pad=False), GlobalAvgPool2d(), Flatten()),
        *(Linear(3, 4, rng=rng), LogSoftmax()),
    )
    return check64(network, rng.standard_normal((3, 2, *sizes(rng, 5, 8))), rng, linear=False)


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


def loss_case(loss: Loss, scores: Array, targets: Array, rng: Rng) -> float:
    """B6, B25: the gradient is that of the mean, weighted and smoothed; N and K differ."""
    weights = rng.uniform(0.1, 3, len(scores)) if rng.integers(2) else None

    def value() -> float:
        return loss(scores, targets, weights)[0]

    gradient = loss(scores, targets, weights)[1]
    found, directions = along_directions(rng, scores, value, linear=False)
    return normwise(found, np.array([float((gradient * d).sum()) for d in directions]))


def draw_scores(rng: Rng) -> tuple[Array, Array]:
    """Scores (N, K) and classes (N,)."""
    N, K = int(rng.integers(1, 7)), int(rng.integers(2, 9))
    return 3 * rng.standard_normal((N, K)), rng.integers(0, K, N)


def cross_entropy_case(rng: Rng) -> float:
    smoothing = float(rng.uniform(0, 0.9)) if rng.integers(2) else 0.0
    return loss_case(functools.partial(cross_entropy, label_smoothing=smoothing), *draw_scores(rng), rng)


def hinge_case(rng: Rng) -> float:
    margin = float(rng.uniform(0, 4))
    while True:
        scores, targets = draw_scores(rng)
        slack = margin + scores - scores[np.arange(len(scores)), targets, None]
        slack[np.arange(len(scores)), targets] = 1
        if np.abs(slack).min() > 0.01:
            return loss_case(functools.partial(hinge, margin=margin), scores, targets, rng)


def mse_case(rng: Rng) -> float:
    scores, targets = draw_scores(rng)
    return loss_case(mse, scores, targets if rng.integers(2) else rng.standard_normal(scores.shape), rng)


def map_case(rng: Rng) -> float:
    return loss_case(functools.partial(map_criterion, j=float(rng.uniform(0, 4))), *draw_scores(rng), rng)


def table(rng: Rng, channels: int) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() or [0] for row in rng.integers(0, 2, (int(rng.integers(1, 5)), channels))]


def table_conv_case(rng: Rng) -> float:
    C = int(rng.integers(1, 5))
    layer = TableConv2d(C, table(rng, C), sizes(rng, 1, 4), rng=rng)
    return check64(layer, rng.standard_normal(image(rng, C)), rng, linear=True)


def subsampling_case(rng: Rng) -> float:
    layer = TrainableSubsampling2d(int(rng.integers(1, 4)), sizes(rng, 1, 4), rng=rng)
    return check64(layer, rng.standard_normal(image(rng, layer.channels)), rng, linear=True)


def rbf_case(rng: Rng) -> float:
    N, D, K = sizes(rng, 1, 9, 3)
    return check64(RBF(D, K, rng=rng), rng.standard_normal((N, D)), rng, linear=False)


def classic_network_case(rng: Rng) -> float:
    C = int(rng.integers(1, 4))
    body: list[Layer] = [Conv2d(1, C, 3, rng=rng), ScaledTanh(), TrainableSubsampling2d(C, rng=rng), ScaledTanh()]
    body += [TableConv2d(C, table(rng, C), 2, rng=rng), ScaledTanh(), Flatten()]
    shape = 2, 1, *sizes(rng, 6, 9)
    features = Sequential(*body).output_shape(shape[1:])[0]
    network = Sequential(*body, Linear(features, 5, rng=rng), ScaledTanh(), RBF(5, 3, rng=rng))
    return check64(network, rng.standard_normal(shape), rng, linear=False)


KINDS: dict[str, Callable[[Rng], float]] = {
    "Conv2d": conv_case,
    "Conv2d, depthwise": depthwise_case,
    "Linear": linear_case,
    "MaxPool2d": max_pool_case,
    "AvgPool2d": avg_pool_case,
    "GlobalAvgPool2d": global_avg_pool_case,
    "BatchNorm2d": batch_norm_case,
    "BatchNorm2d, frozen": frozen_batch_norm_case,
    "batch_norm, given": given_batch_norm_case,
    "ReLU": relu_case,
    "LeakyReLU": leaky_relu_case,
    "Tanh": smooth_case(Tanh),
    "Sigmoid": smooth_case(Sigmoid),
    "Softmax": smooth_case(Softmax),
    "LogSoftmax": smooth_case(LogSoftmax),
    "Dropout": dropout_case,
    "Dropout2d": dropout2d_case,
    "Residual": residual_case,
    "Flatten": flatten_case,
    "cross_entropy": cross_entropy_case,
    "hinge": hinge_case,
    "mse": mse_case,
    "smooth network": smooth_network_case,
    "piecewise network": piecewise_network_case,
    "residual network": residual_network_case,
    "ZeroPadShortcut": zero_pad_case,
    "ScaledTanh": smooth_case(ScaledTanh),
    "TableConv2d": table_conv_case,
    "TrainableSubsampling2d": subsampling_case,
    "RBF": rbf_case,
    "network of 1998": classic_network_case,
    "map_criterion": map_case,
    "rbf_mse": lambda rng: loss_case(rbf_mse, *draw_scores(rng), rng),
}


@pytest.mark.promise("G1", "B6", "B13", "B14", "B25")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.big) if "network" in kind else kind for kind in KINDS]
)
@pytest.mark.parametrize("cases", [CASES, pytest.param(ALL_CASES, marks=pytest.mark.slow)])
def test_gradients(kind: str, cases: int) -> None:
    for seed in range(cases):
        worst = KINDS[kind](np.random.default_rng((list(KINDS).index(kind), seed)))
        assert worst < BOUND, (kind, seed, worst)


def test_the_configurations_are_300_and_1_000() -> None:
    assert CASES * len(KINDS) >= 300
    assert ALL_CASES * len(KINDS) >= 1000


@pytest.mark.promise("B7", "B9")
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_b07_gradients_over_a_grid(stride: Any, dilation: int) -> None:
    """Every stride, padding and dilation on odd sizes and rectangles; dx has the size of x, whatever was padded."""
    rng = np.random.default_rng(7)
    for padding in 0, 1, (2, 1), ((0, 2), (1, 0)), "same":
        for size in (7, 7), (6, 9):
            layer = Conv2d(2, 3, (3, 2), stride=stride, padding=padding, dilation=dilation, rng=rng)
            worst = check64(layer, rng.standard_normal((2, 2, *size)), rng, linear=True)
            assert worst < BOUND, (padding, size, worst)


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
