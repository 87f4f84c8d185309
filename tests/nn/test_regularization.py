"""What is one thing in training and another in evaluation: running statistics, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.errors import ConfigError, ShapeError
from stridenet.nn import functional as F
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Sequential
from stridenet.seeding import stream

rng = np.random.default_rng


def batches(count: int) -> list[np.ndarray[Any, Any]]:
    return [2 + 3 * rng(i).standard_normal((4, 2, 3, 5)).astype(np.float32) for i in range(count)]


def test_a_new_layer_has_weight_1_bias_0_mean_0_and_variance_1_without_decay() -> None:
    state = dict(BatchNorm2d(2).named_parameters())
    assert {name: p.value.tolist() for name, p in state.items()} == {
        "weight": [1, 1],
        "bias": [0, 0],
        "running_mean": [0, 0],
        "running_var": [1, 1],
    }
    assert {name: p.trainable for name, p in state.items()} == {
        "weight": True,
        "bias": True,
        "running_mean": False,
        "running_var": False,
    }
    assert not any(p.decay for p in (state["weight"], state["bias"]))
    assert len(BatchNorm2d(2).pack()) == 4


@pytest.mark.promise("B14", "G8")
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0])
def test_b14_running_statistics_follow_training_and_serve_evaluation(momentum: float) -> None:
    """new = (1 - momentum) old + momentum batch, the variance unbiased; evaluation uses them and leaves them."""
    layer = BatchNorm2d(2, momentum=momentum)
    mean, variance = np.zeros(2), np.ones(2)
    for x in batches(5):
        layer.forward(x)
        mean = (1 - momentum) * mean + momentum * x.mean(axis=(0, 2, 3), dtype=np.float64)
        variance = (1 - momentum) * variance + momentum * x.var(axis=(0, 2, 3), ddof=1, dtype=np.float64)
    assert normwise(layer.running_mean.value, mean) < 1e-6
    assert normwise(layer.running_var.value, variance) < 1e-6
    before = layer.eval().state_dict()
    x = batches(1)[0]
    wanted = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
    assert normwise(layer.forward(x), wanted) < 1e-5
    assert normwise(layer.forward(x[:1]), wanted[:1]) < 1e-5  # one image gives what it gives among others
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())


def test_a_forward_in_training_is_of_the_batch_not_of_the_running_statistics() -> None:
    layer = BatchNorm2d(2)
    layer.running_mean.value[:], layer.running_var.value[:] = 100, 1e-4
    y = layer.forward(batches(1)[0])
    assert np.abs(y.mean(axis=(0, 2, 3))).max() < 1e-6
    assert np.abs(y.var(axis=(0, 2, 3)) - 1).max() < 1e-4


@pytest.mark.promise("B14", "P02")
def test_b14_one_image_trains_and_one_pixel_does_not() -> None:
    layer = BatchNorm2d(2)
    layer.forward(batches(1)[0][:1])
    before = layer.state_dict()
    with pytest.raises(ShapeError) as caught:
        layer.forward(np.ones((1, 2, 1, 1), np.float32))
    assert str(caught.value) == (
        "BatchNorm2d(2): expected more than one value a channel to train on, got x (1, 2, 1, 1)"
    )
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.eval().forward(np.ones((1, 2, 1, 1), np.float32)).shape == (1, 2, 1, 1)


def test_a_frozen_layer_trains_as_it_evaluates() -> None:
    layer = BatchNorm2d(2)
    for x in batches(3):
        layer.forward(x)
    layer.freeze()
    before, x = layer.state_dict(), batches(4)[3]
    y = layer.forward(x)
    assert np.array_equal(y, layer.eval().forward(x))
    layer.train().forward(x)
    dx = layer.backward(np.ones_like(x))
    scale = before["weight"] / np.sqrt(before["running_var"] + 1e-5)
    assert dx is not None
    assert normwise(dx, np.broadcast_to(scale[:, None, None], x.shape)) < 1e-6
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not any(p.grad.any() for _, p in layer.named_parameters())
    assert len(layer.pack()) == 0


@pytest.mark.promise("P01")
def test_more_channels_than_any_machine_holds() -> None:
    for channels in 2**31 + 1, 2**50:
        with pytest.raises(ConfigError, match=rf"^BatchNorm2d: expected num_features <= 2\^31, got {channels}$"):
            BatchNorm2d(channels)


@pytest.mark.promise("G8")
@pytest.mark.parametrize("kind", [Dropout, Dropout2d])
def test_dropout_in_training_and_in_evaluation(kind: Any) -> None:
    layer, x = kind(0.4), np.ones((20, 30, 1, 2))
    first, second = layer.forward(x), layer.forward(x)
    assert not np.array_equal(first, second)
    assert np.array_equal(kind(0.4).forward(x), first)
    both = Sequential(kind(0.4), kind(0.4)).layers
    assert not np.array_equal(both[0].forward(x), both[1].forward(x))
    assert set(np.unique(first)) == {0.0, 1 / (1 - 0.4)}
    assert np.array_equal(layer.backward(x), second)  # the mask of the last forward
    assert np.array_equal(layer.eval().forward(x), x)
    assert np.array_equal(kind(0.0).forward(x), x)


def test_dropout2d_is_the_function() -> None:
    x = rng(0).standard_normal((5, 3, 2, 2))
    layer = Dropout2d(0.4)
    layer.reseed(3, 1)
    assert np.array_equal(layer.forward(x), F.dropout2d(x, 0.4, stream(3, "dropout", 1))[0])
