from __future__ import annotations

import numpy as np
import pytest

from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import cross_entropy
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.sequential import Sequential

SHAPE = (1, 6, 6)


def make(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(Conv2d(1, 2, 3, rng=rng), ReLU(), Flatten(), Linear(32, 3, rng=rng), input_shape=SHAPE).astype(
        np.float64
    )


def batch(n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, *SHAPE)), rng.integers(0, 3, n)


def test_loss_and_gradient_are_those_of_the_layers_by_hand() -> None:
    network, (x, y) = make(), batch()
    params = network.pack()
    weights = np.array([1.0, 0, 2, 3, 1])
    loss = LayerByLayer(network, cross_entropy).loss_and_gradient(x, y, weights)
    found = params.grad.copy()
    params.zero_grad()
    wanted, dscores = cross_entropy(network.forward(x), y, weights)
    network.backward(dscores)
    assert loss == wanted
    assert np.array_equal(found, params.grad)
    assert np.any(found)


@pytest.mark.promise("B3")
def test_gradients_are_added_until_they_are_set_to_zero() -> None:
    network, (x, y) = make(), batch()
    params, objective = network.pack(), LayerByLayer(network, cross_entropy)
    rounds = []
    for _ in range(2):
        params.zero_grad()
        objective.loss_and_gradient(x, y)
        rounds.append(params.grad.copy())
    assert np.array_equal(*rounds)
    objective.loss_and_gradient(x, y)
    assert np.allclose(params.grad, 2 * rounds[0], rtol=1e-15, atol=0)


@pytest.mark.promise("G6")
def test_images_and_targets_stay_as_they_are() -> None:
    network, (x, y) = make(), batch()
    network.pack()
    x.setflags(write=False)
    y.setflags(write=False)
    LayerByLayer(network, cross_entropy).loss_and_gradient(x, y)


@pytest.mark.promise("G5")
def test_the_first_place_that_is_not_finite_is_named() -> None:
    network, (x, _) = make(), batch()
    objective = LayerByLayer(network, cross_entropy)
    assert objective.first_non_finite(x) == ("", "loss")
    x[2, 0, 3, 3] = np.nan
    with np.errstate(invalid="ignore"):
        assert objective.first_non_finite(x) == ("0", "output of layer 0 Conv2d(1, 2, kernel_size=3)")
    x[2, 0, 3, 3] = 0
    last = network.layers[3]
    assert isinstance(last, Linear)
    last.weight.value[0, 0] = np.inf
    assert objective.first_non_finite(x) == ("3", "parameter 3.weight")
    last.weight.value[:] = 1e308
    with np.errstate(over="ignore", invalid="ignore"):
        layer, tensor = objective.first_non_finite(np.abs(x) * 10)
    assert (layer, tensor) == ("3", "output of layer 3 Linear(32, 3)")
