"""Curvature: the exact diagonal of the Gauss-Newton matrix where the rules are exact, the recursion by brute force."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.curvature import curvature
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Sigmoid, Tanh
from stridenet.nn.losses import Loss, cross_entropy, hinge, map_criterion, mse, rbf_mse
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.zoo.models import lenet5_1998


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def jacobian(f: Callable[[], Array], value: Array) -> Array:
    """df / dvalue (outputs..., values...) by central differences; f is at most quadratic, or smooth, in a step."""
    columns: list[Array] = []
    for place in np.ndindex(value.shape):
        start = value[place]
        ends: list[Array] = []
        for step in (1e-5, -1e-5):
            value[place] = start + step
            ends.append(f().copy())  # Flatten gives a view
        value[place] = start
        columns.append((ends[0] - ends[1]) / 2e-5)
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *value.shape)


def of_scores(loss: Loss, scores: Array, targets: Array) -> tuple[Array, Array]:
    """The gradient (K,) and the Hessian (K, K) of the loss of one image, by differences."""
    return loss(scores, targets)[1][0], jacobian(lambda: loss(scores, targets)[1][0], scores)[:, 0]


def recursion(layers: list[Layer], x: Array, targets: Array, loss: Loss) -> Array:
    """h of all parameters for one image x (1, ...): each layer's derivatives by differences, squared and summed.

    A weight that is used in several places counts as so many weights.
    """
    inputs = [x]
    for layer in layers:
        inputs.append(layer.forward(inputs[-1]))
    gradient, hessian = of_scores(loss, inputs[-1], targets)
    h, found = np.diagonal(hessian)[None], []
    for layer, given in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
        own = [np.zeros(p.value.shape) for _, p in layer.named_parameters() if p.trainable]
        for sums, (_, p) in zip(own, layer.named_parameters(), strict=False):
            slopes = jacobian(partial(layer.forward, given), p.value)  # (1, K, ..., *parameter)
            sums += np.tensordot(h, slopes**2, axes=h.ndim)
        slopes = jacobian(partial(layer.forward, given), given)
        own_curvature = np.maximum(-2 * gradient.sum(), 0) if isinstance(layer, RBF) else 0.0
        h = np.tensordot(h, slopes**2, axes=h.ndim) + own_curvature
        found = [part.ravel() for part in own] + found
    return np.concatenate(found) if found else np.empty(0)


def smooth(seed: int) -> list[Layer]:
    """Without a shared weight: each kernel is as large as its image."""
    draw = rng(seed)
    return [
        *(TableConv2d(2, [[0], [0, 1], [1]], (3, 4), rng=draw), ScaledTanh(), Flatten()),
        *(Linear(3, 4, rng=draw), Tanh(), Linear(4, 5, rng=draw), Sigmoid(), RBF(5, 3, rng=draw)),
    ]


@pytest.mark.parametrize("loss", [map_criterion, cross_entropy, rbf_mse, mse])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_recursion_by_brute_force(loss: Loss, seed: int) -> None:
    network = Sequential(*smooth(seed)).astype(np.float64)
    for layer in network.layers:
        for name, p in layer.named_parameters():
            if name == "weight":
                p.value[...] = rng(seed).standard_normal(p.value.shape)
    network.pack()
    x, y = rng(seed + 9).standard_normal((4, 2, 3, 4)), np.array([0, 2, 1, 1])
    wanted = np.mean([recursion(list(network.layers), x[n : n + 1], y[n : n + 1], loss) for n in range(4)], axis=0)
    found = curvature(network, loss, x, y)
    assert found.shape == (len(network.pack()),)
    assert (found >= 0).all()
    assert normwise(found, wanted) < 1e-6


@pytest.mark.parametrize("loss", [cross_entropy, map_criterion, mse])
def test_a_linear_layer_has_the_exact_diagonal(loss: Loss) -> None:
    """J^T H J, which of one layer is d2E / dw2 itself."""
    network = Sequential(Linear(3, 4, rng=rng())).astype(np.float64)
    params = network.pack()
    x, y = rng(1).standard_normal((5, 3)), np.array([0, 1, 2, 3, 3])

    def gradient() -> Array:
        params.zero_grad()
        network.backward(loss(network.forward(x), y)[1])
        return params.grad.copy()

    exact = jacobian(gradient, params.value).diagonal()
    assert normwise(curvature(network, loss, x, y), exact) < 1e-8


def test_the_distance_from_a_code_has_the_exact_curvature() -> None:
    """E = |x w - c|^2: d2E / dw2 = 2 x^2, all of it the distance's own; with the criterion too, while none is near."""
    network = Sequential(Linear(3, 4, rng=rng()), RBF(4, 2, rng=rng())).astype(np.float64)
    network.pack()
    x, y = 1e-3 * rng(1).standard_normal((5, 3)), np.array([0, 1, 1, 0, 0])
    weights = np.broadcast_to(2 * (x**2).mean(axis=0), (4, 3)).ravel()
    wanted = np.concatenate([weights, np.full(4, 2.0)])
    assert normwise(curvature(network, rbf_mse, x, y), wanted) < 1e-12
    far = partial(map_criterion)  # the same function under another name has no rule
    with pytest.raises(ConfigError, match=r"^curvature: expected the loss cross_entropy, map_criterion"):
        curvature(network, far, x, y)
    network.layers[1].codes.value[...] *= 5  # type: ignore[attr-defined]
    assert normwise(curvature(network, map_criterion, x, y), wanted) < 1e-12


def shared(kind: str) -> tuple[Sequential, tuple[int, ...]]:
    draw = rng(2)
    if kind == "Conv2d":
        layer: Layer = Conv2d(2, 4, 2, stride=(1, 2), padding=(1, 0), dilation=(1, 2), groups=2, rng=draw)
    elif kind == "TableConv2d":
        layer = TableConv2d(2, [[0, 1], [1], [0]], 2, rng=draw)
    else:
        layer = TrainableSubsampling2d(2, (2, 3), rng=draw)
    return Sequential(layer, Flatten()).astype(np.float64), (2, 4, 6)


@pytest.mark.parametrize("kind", ["Conv2d", "TableConv2d", "TrainableSubsampling2d"])
def test_a_shared_weight_has_the_sum_over_its_places(kind: str) -> None:
    """With mse the scores have no mixed derivatives, so that this is the exact diagonal of one layer."""
    network, shape = shared(kind)
    params = network.pack()
    x = rng(3).standard_normal((3, *shape))
    targets = rng(4).standard_normal(network.forward(x).shape)

    def gradient() -> Array:
        params.zero_grad()
        network.backward(mse(network.forward(x), targets)[1])
        return params.grad.copy()

    exact = jacobian(gradient, params.value).diagonal()
    assert normwise(curvature(network, mse, x, targets), exact) < 1e-8


def behind(kind: str) -> list[Layer]:
    layers: dict[str, Callable[[], Layer]] = {
        "Conv2d": lambda: Conv2d(2, 4, 2, stride=(1, 2), padding=(1, 0), groups=2, bias=False, rng=rng(5)),
        "TableConv2d": lambda: TableConv2d(2, [[0, 1], [1], [0]], 2, rng=rng(5)),
        "TrainableSubsampling2d": lambda: TrainableSubsampling2d(2, rng=rng(5)),
        "MaxPool2d": lambda: MaxPool2d(3, stride=2, padding=1),
        "ReLU": ReLU,
    }
    return [Conv2d(1, 2, 1, rng=rng(6)), layers[kind](), Flatten()]


@pytest.mark.parametrize("kind", ["Conv2d", "TableConv2d", "TrainableSubsampling2d", "MaxPool2d", "ReLU"])
def test_what_lies_before_a_layer_gets_its_squared_derivatives(kind: str) -> None:
    """The bias of a 1x1 convolution before the layer: its h is the sum of those of the layer's inputs."""
    layers = behind(kind)
    network = Sequential(*layers).astype(np.float64)
    network.pack()
    x = rng(7).standard_normal((1, 1, 5, 6))
    scores = network.forward(x)
    targets = np.zeros_like(scores)
    middle = layers[0].forward(x)
    slopes = jacobian(lambda: layers[2].forward(layers[1].forward(middle)), middle)[0, :, 0]  # (K, C, H, W)
    wanted = 2 / scores.shape[1] * (slopes**2).sum(axis=(0, 2, 3))
    found = curvature(network, mse, x, targets)[2:4]  # behind the two weights of the convolution
    assert normwise(found, wanted) < 1e-6


@pytest.mark.big
def test_the_network_of_1998() -> None:
    network = lenet5_1998(rng=rng())
    params = network.pack()
    before = network.state_dict()
    x, y = rng(1).uniform(-0.1, 1.2, (20, 1, 32, 32)).astype(np.float32), np.arange(20) % 10
    whole = curvature(network, map_criterion, x, y)
    assert whole.dtype == np.float32
    assert whole.shape == (60_000,)
    assert (whole > 0).all()
    halves = [curvature(network, map_criterion, x[i : i + 10], y[i : i + 10]) for i in (0, 10)]
    assert normwise((halves[0] + halves[1]) / 2, whole) < 1e-5  # a mean over images
    assert all(np.array_equal(value, before[name]) for name, value in network.state_dict().items())
    assert not params.grad.any()
    assert all(layer.saved is None for layer in network.walk())
    assert np.array_equal(curvature(network, map_criterion, x, y), whole)
    bias = whole[params.slices["11.bias"]]  # nearly linear at the start: twice the square of the slope 1.7159 * 2 / 3
    assert bias == pytest.approx(2 * (1.7159 * 2 / 3) ** 2, rel=1e-2)


@pytest.mark.parametrize("layer", [Dropout(0.5), AvgPool2d(2)])
def test_what_has_no_rule_is_refused(layer: Any) -> None:
    network = Sequential(layer, Sequential(Flatten(), Linear(4, 2, rng=rng())))
    with pytest.raises(ConfigError, match=r"^curvature: expected layers among Conv2d, .*, and an RBF at the end, got"):
        curvature(network, mse, np.zeros((1, 1, 4, 4), np.float32), np.array([0]))
    with pytest.raises(ConfigError, match="curvature: expected the loss"):
        curvature(network.layers[1], hinge, np.zeros((1, 1, 2, 2), np.float32), np.array([0]))


def test_an_rbf_that_is_not_the_last_is_refused() -> None:
    network = Sequential(RBF(3, 2, rng=rng()), Linear(2, 2, rng=rng()))
    with pytest.raises(ConfigError, match=r"and an RBF at the end, got RBF\(3, 2\)"):
        curvature(network, mse, np.zeros((1, 3), np.float32), np.array([0]))
