from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from stridenet import layout
from stridenet.errors import ConfigError, ShapeError
from stridenet.kernels.loops import taps
from stridenet.layout import Array
from stridenet.nn.cost import LayerCost, Total, cost, total
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.parameters import Parameter
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, window
from stridenet.zoo.models import lenet5, lenet5_1998

RNG = np.random.default_rng(0)


class Gain(Layer):
    """A kind of layer that cost does not know, with a running statistic."""

    def __init__(self) -> None:
        self.gain = Parameter(np.ones(7, np.float32))
        self.mean = Parameter(np.ones(5, np.float32), trainable=False)

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        return dy

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def published(*, side: int) -> list[LayerCost]:
    return cost(lenet5(input_size=side, rng=RNG), (1, side, side))


def random_conv(rng: np.random.Generator, **fixed: Any) -> tuple[Conv2d, Shape]:
    """A small convolution with every argument drawn, and an input that it takes."""
    groups = int(rng.integers(1, 4))
    C, K = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    R, S, *rest = (int(n) for n in rng.integers(1, 4, 6))
    stride, dilation = (rest[0], rest[1]), (rest[2], rest[3])
    bias = bool(rng.integers(2))
    layer = Conv2d(C, K, (R, S), stride=stride, dilation=dilation, groups=groups, bias=bias, rng=rng, **fixed)
    H, W = (d * (k - 1) + 1 + int(rng.integers(4)) for k, d in zip((R, S), dilation, strict=True))
    return layer, (C, H, W)


def products(layer: Conv2d, input_shape: Shape) -> int:
    """The products of the defining loops, one by one."""
    size, kernel = (input_shape[1], input_shape[2]), layer.weight.value.shape[2:]
    geometry = window("test", size, kernel, layer.stride, ((0, 0), (0, 0)), layer.dilation)
    x = np.zeros((1, *input_shape))
    K, depth = layer.weight.value.shape[:2]
    places = [(p, q) for p in range(geometry.output[0]) for q in range(geometry.output[1])]
    return sum(1 for _ in range(K * depth) for p, q in places for _ in taps(geometry, x, p, q))


def seen(network: Layer, input_shape: Shape) -> tuple[int, int]:
    """How many rows and columns of pixels the middle output depends on: NaNs in one of them reach it."""
    C, H, W = input_shape
    x = layout.empty((H + W, C, H, W))
    x[...] = RNG.standard_normal(x.shape)
    for row in range(H):
        x[row, :, row] = np.nan
    for column in range(W):
        x[H + column, :, :, column] = np.nan
    y = network.eval().forward(x)
    P, Q = y.shape[2:]
    reached = np.isnan(y[:, 0, P // 2, Q // 2])
    rows, columns = np.flatnonzero(reached[:H]), np.flatnonzero(reached[H:])
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_lenet5_has_the_published_parameters() -> None:
    assert total(published(side=28)).parameters == 44_426
    assert total(published(side=32)).parameters == 61_706
    wanted = [156, 0, 0, 2_416, 0, 0, 0, 48_120, 0, 10_164, 0, 850]
    assert [layer.parameters for layer in published(side=32)] == wanted


def test_lenet5_layer_by_layer() -> None:
    costs = published(side=28)
    assert [layer.output_shape for layer in costs] == [
        *[(6, 24, 24), (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 8, 8), (16, 4, 4)],
        *[(256,), (120,), (120,), (84,), (84,), (10,)],
    ]
    assert [layer.receptive_field for layer in costs] == [
        *[(5, 5), (5, 5), (6, 6), (14, 14), (14, 14), (16, 16), (16, 16)],
        *[(28, 28)] * 5,
    ]
    assert [layer.macs for layer in costs] == [86_400, 0, 0, 153_600, 0, 0, 0, 30_720, 0, 10_080, 0, 840]
    assert [layer.name for layer in costs] == [str(i) for i in range(12)]
    assert costs[0].layer == "Conv2d(1, 6, kernel_size=5)"


def test_connections_of_1998() -> None:
    """C1, C5 and F6 as LeCun et al. give them; C3 and the pools are built differently today."""
    network = Sequential(
        *[Conv2d(1, 6, 5, rng=RNG), Tanh(), MaxPool2d(2), Conv2d(6, 16, 5, rng=RNG), Tanh(), MaxPool2d(2)],
        *[Conv2d(16, 120, 5, rng=RNG), Tanh(), Flatten(), Linear(120, 84, rng=RNG)],
    )
    costs = cost(network, (1, 32, 32))
    c1, c5, f6 = costs[0], costs[6], costs[9]
    assert (c1.parameters, c1.connections) == (156, 122_304)
    assert (c5.parameters, c5.connections, c5.output_shape, c5.receptive_field) == (
        48_120,
        48_120,
        (120, 1, 1),
        (32, 32),
    )
    assert (f6.parameters, f6.connections) == (10_164, 10_164)


def test_the_lenet5_of_1998_has_the_published_counts_layer_by_layer() -> None:
    """Trained parameters and connections as the paper gives them; its 60 840 counts the codes, which are fixed."""
    costs = [layer for layer in cost(lenet5_1998(rng=RNG), (1, 32, 32)) if layer.connections]
    assert [(layer.output_shape, layer.parameters, layer.fixed, layer.connections) for layer in costs] == [
        ((6, 28, 28), 156, 0, 122_304),
        ((6, 14, 14), 12, 0, 5_880),
        ((16, 10, 10), 1_516, 0, 151_600),
        ((16, 5, 5), 32, 0, 2_000),
        ((120, 1, 1), 48_120, 0, 48_120),
        ((84,), 10_164, 0, 10_164),
        ((10,), 0, 840, 840),
    ]
    assert [layer.receptive_field for layer in costs] == [(5, 5), (6, 6), (14, 14), (16, 16), *[(32, 32)] * 3]
    assert [layer.macs for layer in costs] == [117_600, 1_176, 150_000, 400, 48_000, 10_080, 840]
    sums = total(costs)
    assert (sums.parameters, sums.fixed, sums.connections) == (60_000, 840, 340_908)


@pytest.mark.parametrize("seed", range(40))
def test_macs_and_connections_are_what_the_loops_do(seed: int) -> None:
    layer, shape = random_conv(np.random.default_rng(seed))
    (found,) = cost(layer, shape)
    assert found.macs == products(layer, shape)
    biases = 0 if layer.bias is None else int(np.prod(found.output_shape))
    assert found.connections == found.macs + biases


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer_of_ones_counts_its_connections(bias: bool) -> None:
    layer = Linear(7, 3, bias=bias, rng=RNG)
    for _, parameter in layer.named_parameters():
        parameter.value[...] = 1
    (found,) = cost(layer, (7,))
    assert (found.connections, found.macs) == (layer.forward(np.ones((1, 7), np.float32)).sum(), 21)


def test_pooling_connects_its_windows_and_multiplies_nothing() -> None:
    (found,) = cost(MaxPool2d((3, 2), stride=(2, 1)), (4, 7, 5))
    assert found.output_shape == (4, 3, 4)
    assert (found.connections, found.macs, found.parameters) == (4 * 3 * 4 * 6, 0, 0)


def test_padding_counts_as_image() -> None:
    (padded,) = cost(Conv2d(2, 3, 3, padding=((1, 0), (2, 2)), rng=RNG), (2, 6, 6))
    (larger,) = cost(Conv2d(2, 3, 3, rng=RNG), (2, 7, 10))
    assert (padded.macs, padded.connections) == (larger.macs, larger.connections)


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([Conv2d(1, 2, (3, 2), rng=RNG), ReLU(), Dropout()], (3, 2)),
        ([Conv2d(1, 2, 3, stride=(2, 1), rng=RNG), Sigmoid(), Conv2d(2, 1, 3, rng=RNG)], (7, 5)),
        ([Conv2d(1, 1, 3, dilation=(2, 3), rng=RNG), MaxPool2d(2)], (6, 8)),
        ([MaxPool2d(3, stride=2), MaxPool2d((2, 3)), Conv2d(1, 1, 2, dilation=2, rng=RNG)], (13, 19)),
        ([Conv2d(1, 2, 3, padding=1, rng=RNG), MaxPool2d(2), Conv2d(2, 2, 3, padding="same", rng=RNG)], (8, 8)),
    ],
)
def test_the_receptive_field_is_what_an_output_depends_on(layers: list[Layer], wanted: tuple[int, int]) -> None:
    network = Sequential(*layers)
    shape = 1, 24, 26
    assert cost(network, shape)[-1].receptive_field == wanted
    assert seen(network, shape) == wanted


def test_without_an_image_there_is_no_receptive_field() -> None:
    network = Sequential(Linear(4, 3, rng=RNG), ReLU())
    assert [layer.receptive_field for layer in cost(network, (4,))] == [None, None]


def test_an_unknown_layer_counts_its_trainable_parameters_only() -> None:
    network = Sequential(ReLU(), Gain(), MaxPool2d(2), Flatten(), Linear(4, 2, rng=RNG))
    costs = cost(network, (1, 4, 4))
    assert (costs[1].parameters, costs[1].connections, costs[1].macs) == (7, 0, 0)
    assert [layer.receptive_field for layer in costs] == [(1, 1), None, None, None, None]


def test_networks_inside_are_opened_and_named_as_their_parameters() -> None:
    inner = Sequential(Conv2d(1, 2, 3, rng=RNG), ReLU())
    network = Sequential(inner, Flatten(), Sequential(Sequential(Linear(32, 3, rng=RNG))))
    costs = cost(network, (1, 6, 6))
    assert [layer.name for layer in costs] == ["0.0", "0.1", "1", "2.0.0"]
    with_parameters = {name.rpartition(".")[0] for name, _ in network.named_parameters()}
    assert {layer.name for layer in costs if layer.parameters} == with_parameters
    assert total(costs).parameters == len(network.pack())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_bytes_are_those_of_the_outputs(dtype: type[np.floating[Any]]) -> None:
    network = lenet5(rng=np.random.default_rng(1)).astype(dtype).eval()
    x = np.zeros((3, 1, 28, 28), dtype)
    for found, layer in zip(cost(network, (1, 28, 28), batch_size=3, dtype=dtype), network.layers, strict=True):
        x = layer.forward(x)
        assert found.activation_bytes == x.nbytes
        assert found.output_shape == x.shape[1:]


def test_the_batch_changes_nothing_but_the_activations() -> None:
    one, many = (total(cost(lenet5(rng=RNG), (1, 28, 28), batch_size=n)) for n in (1, 64))
    assert many == one._replace(activation_bytes=64 * one.activation_bytes)


def test_total_sums_every_column() -> None:
    costs = [LayerCost("0", "a", (1,), 1, 2, 20, 300, None, 4000), LayerCost("1", "b", (1,), 5, 3, 60, 700, None, 8000)]
    assert total(costs) == Total(parameters=6, fixed=5, connections=80, macs=1000, activation_bytes=12000)
    assert total(cost(Sequential(), (1, 2, 2))) == Total(0, 0, 0, 0, 0)


def test_a_cost_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        published(side=28)[0].macs = 0  # type: ignore[misc]


def test_an_input_that_does_not_fit_is_named() -> None:
    with pytest.raises(ShapeError, match=r"Sequential\[0\] Conv2d\(1, 6, kernel_size=5\): expected .* got \(N, 3, 28"):
        cost(lenet5(rng=RNG), (3, 28, 28))


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_a_batch_has_images(batch_size: Any) -> None:
    with pytest.raises(ConfigError, match="cost: expected batch_size"):
        cost(ReLU(), (1, 4, 4), batch_size=batch_size)


def test_the_other_layers_by_hand() -> None:
    """A block of a residual network on 3x8x8, then pools; connections and MACs of both ways add up."""
    rng = np.random.default_rng(0)
    block = Residual(
        Sequential(
            *(Conv2d(3, 4, 3, stride=2, padding=1, rng=rng), BatchNorm2d(4), LeakyReLU()),
            *(Conv2d(4, 4, 3, padding=1, bias=False, rng=rng), Dropout2d(0.2)),
        ),
        Conv2d(3, 4, 1, stride=2, rng=rng),
    )
    network = Sequential(block, AvgPool2d(2), Residual(ReLU()), GlobalAvgPool2d(), Flatten(), Softmax())
    rows = {row.name: row for row in cost(network, (3, 8, 8))}
    body = ["0.body.0", "0.body.1", "0.body.2", "0.body.3", "0.body.4"]
    assert list(rows) == [*body, "0.shortcut", "0", "1", "2.body", "2", "3", "4", "5"]
    assert [rows[name].connections for name in ("0.body.0", "0.body.3", "0.shortcut")] == [64 * 28, 64 * 36, 64 * 4]
    assert [rows[name].macs for name in ("0.body.0", "0.body.3", "0.shortcut")] == [64 * 27, 64 * 36, 64 * 3]
    assert sum(rows[name].parameters for name in body) == 4 * 28 + 8 + 4 * 36
    assert [rows[name].receptive_field for name in ("0.body.4", "0.shortcut", "0")] == [(7, 7), (1, 1), (7, 7)]
    own = rows["0"]  # the sum of both ways
    assert (own.layer, own.parameters, own.connections, own.macs, own.output_shape) == ("Residual", 0, 0, 0, (4, 4, 4))
    pool, inside, whole = rows["1"], rows["2"], rows["3"]
    assert (pool.connections, pool.macs, pool.receptive_field) == (16 * 4, 0, (8, 8))  # 9, but there are only 8
    assert (inside.connections, inside.receptive_field) == (0, (8, 8))
    assert (whole.connections, whole.receptive_field) == (16, (8, 8))


def test_a_shortcut_of_zeros_costs_nothing_and_sees_every_second_pixel() -> None:
    aside = ZeroPadShortcut(1, 3, stride=(2, 3))
    block = Residual(Conv2d(1, 3, 3, stride=(2, 3), padding=1, rng=RNG), aside)
    _, own, both, behind = cost(Sequential(block, MaxPool2d(2)), (1, 12, 12))
    assert own == LayerCost("0.shortcut", repr(aside), (3, 6, 4), 0, 0, 0, 0, (1, 1), 4 * 3 * 6 * 4)
    assert (both.receptive_field, behind.receptive_field) == ((3, 3), (5, 6))  # two windows, 2 and 3 pixels apart
    pooled = cost(Sequential(aside, MaxPool2d(2)), (1, 12, 12))[1]
    assert pooled.receptive_field == (3, 4)


def test_behind_an_unknown_layer_nothing_is_seen() -> None:
    rng = np.random.default_rng(0)
    _, known, _, behind = cost(Sequential(Residual(Conv2d(1, 1, 3, padding=1, rng=rng)), Residual(Gain())), (1, 4, 4))
    assert known.receptive_field == (3, 3)
    assert behind.receptive_field is None
