"""Networks: the shapes of the reports, who is named when layers do not fit, two ways that add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, ShapeError
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Sigmoid, Tanh
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential
from stridenet.strictjson import to_json
from stridenet.zoo.models import lenet5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def size(network: Layer) -> int:
    return len(network.pack())


# --- the reports' networks


def test_s0_has_44_426_parameters() -> None:
    network = lenet5(rng=rng())
    assert size(network) == 44_426
    assert network.output_shape((1, 28, 28)) == (10,)
    assert network.shapes((1, 28, 28))[::3] == [(1, 28, 28), (6, 12, 12), (16, 4, 4), (120,), (10,)]


def test_the_shapes_of_report_s2() -> None:
    draw = rng()
    network = Sequential(
        *(Conv2d(1, 6, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Conv2d(16, 120, 5, rng=draw), ReLU(), Flatten()),
        *(Linear(120, 84, rng=draw), ReLU(), Linear(84, 10, rng=draw)),
        input_shape=(1, 32, 32),
    )
    assert network.shapes((1, 32, 32)) == [
        *[(1, 32, 32), (6, 28, 28), (6, 28, 28), (6, 14, 14)],
        *[(16, 10, 10), (16, 10, 10), (16, 5, 5)],
        *[(120, 1, 1), (120, 1, 1), (120,)],
        *[(84,), (84,), (10,)],
    ]
    assert size(network) == 61_706
    x = rng(1).standard_normal((3, 1, 32, 32)).astype(np.float32)
    dx = network.backward(network.forward(x))
    assert dx is not None
    assert dx.shape == x.shape
    assert all(p.grad.shape == p.value.shape for _, p in network.named_parameters())


def test_the_shapes_of_report_s4() -> None:
    draw = rng()
    network = Sequential(
        *(Conv2d(3, 32, 7, padding=3, rng=draw), ReLU(), MaxPool2d(2), Flatten()),
        *(Linear(8192, 100, rng=draw), ReLU(), Linear(100, 10, rng=draw)),
        input_shape=(3, 32, 32),
    )
    assert network.shapes((3, 32, 32))[1:5] == [(32, 32, 32), (32, 32, 32), (32, 16, 16), (8192,)]
    assert size(network) == 825_046


def test_the_front_of_report_s3() -> None:
    layers = Conv2d(1, 6, 5, padding="same", rng=rng()), MaxPool2d(2), Conv2d(6, 16, 5, rng=rng()), MaxPool2d(2)
    assert Sequential(*layers, Conv2d(16, 120, 5, rng=rng())).output_shape((1, 28, 28)) == (120, 1, 1)


# --- layers that do not fit


def test_construction_names_the_layer_and_what_it_gets() -> None:
    draw = rng()
    layers = [
        *(Conv2d(1, 6, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5, rng=draw), ReLU(), MaxPool2d(2), Flatten()),
        Linear(400, 120, rng=draw),
    ]
    with pytest.raises(ShapeError) as caught:
        Sequential(*layers, input_shape=(1, 28, 28))
    assert str(caught.value) == (
        "Sequential[7] Linear(400, 120): expected 400 features, got 256 (256,) from the layer before; "
        "use in_features=256"
    )
    with pytest.raises(ShapeError) as caught:
        Sequential(*layers[:6], Linear(400, 120, rng=draw), input_shape=(1, 28, 28))
    assert str(caught.value) == (
        "Sequential[6] Linear(400, 120): expected 400 features, got 256 (16, 4, 4) from the layer before; "
        "put Flatten() before it and use in_features=256"
    )


def test_forward_names_the_place_also_inside() -> None:
    network = Sequential(ReLU(), Sequential(ReLU(), Conv2d(3, 32, 7, rng=rng())))
    with pytest.raises(ShapeError) as caught:
        network.forward(np.zeros((64, 1, 28, 28), np.float32))
    assert str(caught.value) == (
        "Sequential[1] Sequential[1] Conv2d(3, 32, kernel_size=7): "
        "expected x of shape (N, 3, H, W), got (64, 1, 28, 28)"
    )
    with pytest.raises(
        ShapeError, match=r"^Sequential\[1\] Sequential\[1\] Conv2d\(3, 32, kernel_size=7\): expected x"
    ):
        network.output_shape((1, 28, 28))


@pytest.mark.parametrize("thing", [ReLU, None, "ReLU", [ReLU()], np.zeros(3)])
def test_only_layers_are_layers(thing: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Sequential\[1\]: expected a layer, got "):
        Sequential(ReLU(), thing)


def test_input_shape_is_kept_as_a_tuple() -> None:
    network = Sequential(Linear(784, 10, rng=rng()), input_shape=[np.int64(784)])
    assert network.input_shape == (784,)
    assert to_json(network.spec())


def test_repr_lists_the_layers() -> None:
    network = Sequential(Linear(1, 2, rng=rng()), Residual(Sequential(ReLU())), Sequential(Flatten()))
    assert repr(network).splitlines() == [
        "Sequential(",
        "  [0] Linear(1, 2)",
        "  [1] Residual(",
        "    Sequential(",
        "      [0] ReLU()",
        "    ),",
        "    shortcut=None",
        "  )",
        "  [2] Sequential(",
        "    [0] Flatten()",
        "  )",
        ")",
    ]
    assert repr(Sequential()) == "Sequential(\n)"


# --- residuals


def down(body: Layer | None = None) -> Residual:
    """A block that halves the image, with a shortcut that does so too."""
    draw = rng(2)
    body = body or Sequential(Conv2d(2, 4, 3, stride=2, padding=1, rng=draw), BatchNorm2d(4), ReLU(), Dropout(0.5))
    return Residual(body, Conv2d(2, 4, 1, stride=2, bias=False, rng=draw))


def test_a_residual_adds_its_two_ways() -> None:
    x, body = rng(1).standard_normal((3, 2, 4, 5)), Conv2d(2, 2, 3, padding=1, rng=rng())
    body.astype(np.float64)
    dy = rng(3).standard_normal(x.shape)
    plain = Residual(body)
    assert np.array_equal(plain.forward(x), body.forward(x) + x)
    dx = plain.backward(dy)
    body.forward(x)
    assert np.array_equal(dx, body.backward(dy) + dy)
    crossed = Residual(Tanh(), Sigmoid())
    assert np.array_equal(crossed.forward(x), Tanh().forward(x) + Sigmoid().forward(x))
    assert plain.output_shape((2, 4, 5)) == crossed.output_shape((2, 4, 5)) == (2, 4, 5)
    assert down().output_shape((2, 7, 6)) == (4, 4, 3)
    assert down().forward(x.astype(np.float32)).shape == (3, 4, 2, 3)


def test_names_of_a_residual() -> None:
    network = Sequential(ReLU(), down(Residual(Conv2d(2, 4, 1, rng=rng()), Conv2d(2, 4, 1, bias=False, rng=rng()))))
    assert [name for name, _ in network.named_parameters()] == [
        *("1.body.body.weight", "1.body.body.bias", "1.body.shortcut.weight", "1.shortcut.weight")
    ]
    assert [name for name, _ in down().named_parameters()][2:] == [
        *("body.1.weight", "body.1.bias", "body.1.running_mean", "body.1.running_var", "shortcut.weight")
    ]
    assert len(network.pack()) == 8 + 4 + 8 + 8


def test_the_dropouts_of_a_residual_have_streams_of_their_own() -> None:
    x = np.ones((40, 3, 2, 2))

    def masks(network: Sequential) -> list[bytes]:
        network.forward(x)
        layers = [layer for layer in network.walk() if isinstance(layer, Dropout | Dropout2d)]
        return [(np.broadcast_to(layer.saved, x.shape)[:, 0, 0, 0] != 0).tobytes() for layer in layers]

    network = Sequential(
        Residual(Sequential(Dropout(0.5), Dropout(0.5)), Sequential(Dropout2d(0.5))),
        Residual(Dropout(0.5)),
        Dropout(0.5),
    )
    assert len(set(masks(Sequential(Residual(Dropout(0.5), Dropout(0.5)))))) == 2
    alone = Residual(Dropout(0.5), Dropout(0.5))  # in no Sequential
    alone.forward(x)
    assert alone.shortcut is not None
    assert not np.array_equal(alone.body.saved, alone.shortcut.saved)
    for step in range(2):
        network.reseed(7, step)
        first = masks(network)
        assert len(set(first)) == 5  # none draws what another draws
        network.reseed(7, step)
        assert masks(network) == first


def test_a_residual_refuses_one_layer_twice_in_one_line() -> None:
    body = Sequential(ReLU())
    with pytest.raises(
        ConfigError, match=r"^Residual: expected two layers, got one Sequential twice; make another one$"
    ):
        Residual(body, body)


def test_a_residual_that_does_not_fit_is_named_by_its_place() -> None:
    with pytest.raises(
        ShapeError, match=r"^Sequential\[1\] Residual: expected .*, got \(4, 5, 5\) and \(3, 5, 5\); give"
    ):
        Sequential(ReLU(), Residual(Conv2d(3, 4, 1, rng=rng())), input_shape=(3, 5, 5))
    with pytest.raises(ShapeError, match=r"^Sequential\[0\] Sequential\[0\] Linear\(2, 3\): expected 2"):
        Sequential(Residual(Sequential(Linear(2, 3, rng=rng()))), input_shape=(3,))
