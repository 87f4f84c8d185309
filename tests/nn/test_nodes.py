"""Each kind of layer in a plan, beside the layer itself, and networks of many kinds drawn at random.

With small integers everywhere float32 has no rounding: what the plan gives must then be what the layers give in
float64, to the last bit, at every kink of a ReLU and every tie of a maximum. What divides is compared to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet import kernels
from stridenet.errors import LabelError
from stridenet.layout import Array
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import map_criterion
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.plan import InferencePlan, TrainingPlan
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape
from stridenet.zoo.models import C3

draw = np.random.default_rng(0)  # of weights that are replaced
EXACT = 2**24  # float32 has every integer up to here
BATCHES = [1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 100]
Network = Callable[[], Layer]


def linear_loss(scores: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """The sum of scores times targets (N, K): its gradient are the targets."""
    return float(np.sum(scores * targets, dtype=np.float64)), targets.astype(scores.dtype)


def whole(seed: int, *shape: int) -> Array:
    """-1, 0 and 1, float32."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)


def with_whole_numbers(network: Layer) -> Layer:
    for seed, (name, parameter) in enumerate(network.named_parameters()):
        if "running" not in name:
            parameter.value[...] = whole(seed, *parameter.value.shape)
    return network


def with_classes(network: Layer, shape: Shape) -> Layer:
    """The network, followed by a Flatten if it gives images."""
    return network if len(network.output_shape(shape)) == 1 else Sequential(network, Flatten())


def gradients(objective: LayerByLayer, x: Array, targets: Array) -> tuple[float, dict[str, Array]]:
    vector = objective.network.pack()
    vector.zero_grad()
    loss = objective.loss_and_gradient(x, targets)
    return loss, {name: vector.grad[part].copy() for name, part in vector.slices.items()}


def planned(network: Layer, x: Array) -> TrainingPlan:
    """The objective of a network that has a plan for x."""
    with kernels.use("batchlast"):
        objective = TrainingPlan(network, linear_loss, LayerByLayer(network, linear_loss))
        assert objective.step_bytes(x, len(x)) is not None
    return objective


def compare(network: Layer, x: Array, *, limit: float = 0.0) -> None:
    """Loss, gradients and scores by the plan beside those of the layers in float64."""
    network = with_classes(network, x.shape[1:])
    truth = deepcopy(network).astype(np.float64)
    targets = whole(99, len(x), *network.output_shape(x.shape[1:]))
    objective = planned(network, x)
    with kernels.use("batchlast"):
        loss, found = gradients(objective, x, targets)
        scores = InferencePlan(network.eval())(x)
    with kernels.use("im2col"):
        wanted_loss, wanted = gradients(LayerByLayer(truth, linear_loss), x.astype(np.float64), targets)
        wanted_scores = truth.eval().forward(x.astype(np.float64))
    if limit == 0.0:
        assert max(float(np.abs(each).max(initial=0)) for each in (*wanted.values(), wanted_scores)) < EXACT
    assert abs(loss - wanted_loss) <= limit * np.abs(wanted_scores * targets).sum()
    assert normwise(scores, wanted_scores) <= limit
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        off = float(np.abs(found[name] - gradient).max(initial=0))
        assert off <= limit * max(float(np.abs(gradient).max()), largest / 10), (name, off)


# --- convolutions: (channels, outs, kernel, H, W, and what else they take); every one is first, last and in the middle

CONVOLUTIONS: list[tuple[int, int, Any, int, int, dict[str, Any]]] = [
    (1, 1, 1, 1, 1, {}),
    (1, 2, 1, 3, 5, {"bias": False}),
    (3, 4, 1, 4, 4, {"stride": 2}),
    (2, 5, 1, 5, 5, {"stride": 3}),
    (1, 6, 5, 12, 12, {}),
    (2, 3, 2, 5, 4, {}),
    (2, 3, (2, 3), 6, 7, {"stride": (2, 1)}),
    (3, 8, 3, 6, 6, {"padding": 1}),
    (3, 9, 3, 7, 5, {"padding": "same", "bias": False}),
    (2, 7, (4, 2), 6, 5, {"padding": "same"}),
    (2, 4, 3, 6, 5, {"padding": ((2, 0), (1, 2))}),
    (2, 4, 3, 7, 8, {"padding": ((0, 2), (2, 1)), "stride": 2}),
    (2, 4, 3, 8, 8, {"padding": 2, "stride": 3}),
    (2, 5, 3, 9, 9, {"dilation": 2}),
    (2, 5, (3, 2), 9, 10, {"dilation": (2, 3), "stride": (3, 2), "padding": 2}),
    (1, 4, 7, 7, 7, {}),
    (2, 4, 7, 8, 9, {"padding": 3}),
    (1, 3, 7, 15, 13, {"padding": "same", "stride": 1}),
    (2, 3, 5, 6, 18, {"padding": 4}),
    (4, 4, 3, 5, 5, {"groups": 2, "padding": 1}),
    (4, 6, 3, 6, 5, {"groups": 2, "stride": 2, "padding": 1}),
    (5, 5, 3, 5, 5, {"groups": 5, "padding": 1}),
    (3, 6, 2, 5, 5, {"groups": 3}),
    (16, 16, 3, 4, 4, {"padding": 1}),
    (20, 33, 1, 3, 3, {}),
    (33, 20, 2, 4, 3, {}),
    (2, 3, 3, 5, 16, {"padding": 1}),
    (2, 3, 3, 4, 17, {"padding": "same"}),
    (2, 3, 3, 4, 33, {}),
    (2, 4, 6, 6, 7, {"padding": 5}),
    (2, 4, 2, 3, 4, {"padding": ((1, 1), (1, 1)), "stride": 3}),
]


def convolution(case: tuple[int, int, Any, int, int, dict[str, Any]]) -> Conv2d:
    channels, outs, kernel, _, _, others = case
    return Conv2d(channels, outs, kernel, rng=draw, **others)


@pytest.mark.parametrize("n", [1, 3, 5, 16, 33])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_a_convolution(case: tuple[int, int, Any, int, int, dict[str, Any]], n: int) -> None:
    channels, outs, _, H, W, _ = case
    layer, x = convolution(case), whole(1, n, channels, H, W)
    compare(with_whole_numbers(layer), x)
    first = Conv2d(channels, channels, 1, rng=draw)  # then its dx is wanted
    behind = Conv2d(outs, 2, 1, rng=draw)
    compare(with_whole_numbers(Sequential(first, convolution(case), ReLU(), behind)), x)


@pytest.mark.parametrize("size", [(4, 4), (5, 5), (6, 9), (7, 4), (2, 2)], ids=str)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_with_its_relu_and_a_maximum(size: tuple[int, int], relu: bool, padding: int) -> None:
    """Odd sizes leave pixels over; whole numbers tie in most windows."""
    for n in 2, 17:
        pixels = tuple(length + 2 - 2 * padding for length in size)
        layers = [Conv2d(2, 5, 3, padding=padding, rng=draw), *[ReLU()] * relu, MaxPool2d(2)]
        network = Sequential(Conv2d(1, 2, 1, rng=draw), *layers, Conv2d(5, 2, 1, rng=draw))
        compare(with_whole_numbers(network), whole(2, n, 1, *pixels))


# --- pools, dense layers, sums

MAXIMA: list[tuple[Any, Any]] = [(2, None), (3, None), (3, 2), (2, 1), (2, 3), ((1, 3), 1), ((3, 2), (1, 2)), (5, 5)]


@pytest.mark.parametrize("n", [1, 4, 17])
@pytest.mark.parametrize("behind", ["image", "ReLU", "convolution"])
@pytest.mark.parametrize(("kernel", "stride"), MAXIMA, ids=str)
def test_a_maximum(kernel: Any, stride: Any, behind: str, n: int) -> None:
    """Windows apart, touching, overlapping, and pixels in none."""
    before: dict[str, list[Layer]] = {
        "image": [],
        "ReLU": [Conv2d(2, 2, 1, rng=draw), ReLU()],
        "convolution": [Conv2d(2, 2, 1, rng=draw)],
    }
    network = Sequential(*before[behind], MaxPool2d(kernel, stride=stride), Conv2d(2, 3, 1, rng=draw))
    compare(with_whole_numbers(network), whole(3, n, 2, 8, 7))


@pytest.mark.parametrize("n", [1, 3, 5, 33])
@pytest.mark.parametrize(
    "layer",
    [AvgPool2d(2), AvgPool2d(3, stride=2), AvgPool2d((1, 4)), AvgPool2d(2, stride=3), GlobalAvgPool2d()],
    ids=str,
)
def test_a_mean(layer: Layer, n: int) -> None:
    network = Sequential(Conv2d(1, 3, 3, padding=1, rng=draw), deepcopy(layer), Conv2d(3, 2, 1, rng=draw))
    compare(with_whole_numbers(network), whole(4, n, 1, 8, 7), limit=1e-6)


@pytest.mark.parametrize("size", [(6, 40), (4, 24), (2, 70)])
def test_maxima_of_an_image_wider_than_a_register(size: tuple[int, int]) -> None:
    network = Sequential(Conv2d(1, 3, 1, rng=draw), MaxPool2d(2), Conv2d(3, 2, 1, rng=draw))
    compare(with_whole_numbers(network), whole(7, 1, 1, *size))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 16, 17])
@pytest.mark.parametrize("depth", [1, 2, 3, 15, 16, 17, 100])
@pytest.mark.parametrize("outs", [1, 2, 3, 8, 11, 40])
def test_a_dense_layer(depth: int, outs: int, n: int) -> None:
    layers = Linear(depth, outs, rng=draw), ReLU(), Linear(outs, depth, bias=False, rng=draw), ReLU()
    compare(with_whole_numbers(Sequential(*layers, Linear(depth, 2, rng=draw))), whole(5, n, depth))


@pytest.mark.parametrize("n", [1, 5, 33])
def test_a_large_dense_layer_behind_an_image(n: int) -> None:
    layers = Conv2d(2, 3, 3, padding=1, rng=draw), ReLU(), Flatten(), Linear(3 * 11 * 13, 130, rng=draw), ReLU()
    compare(with_whole_numbers(Sequential(*layers, Linear(130, 10, rng=draw))), whole(6, n, 2, 11, 13))


@pytest.mark.parametrize("n", [1, 4, 17])
def test_a_convolution_as_large_as_its_image(n: int) -> None:
    """It is a dense layer, with a ReLU or without."""
    layers = Conv2d(1, 3, 2, rng=draw), Conv2d(3, 9, (4, 3), rng=draw), ReLU(), Conv2d(9, 2, 1, rng=draw), Flatten()
    compare(with_whole_numbers(Sequential(*layers)), whole(7, n, 1, 5, 4))


def body(channels: int, outs: int, stride: int = 1) -> Sequential:
    first = Conv2d(channels, outs, 3, stride=stride, padding=1, rng=draw)
    return Sequential(first, ReLU(), Sequential(Conv2d(outs, outs, 3, padding=1, bias=False, rng=draw)))


SUMS: dict[str, Network] = {
    "image": lambda: Residual(body(2, 2)),
    "of nothing": lambda: Residual(Sequential()),
    "of nothing twice": lambda: Residual(Sequential(), Sequential()),
    "zeros": lambda: Residual(body(2, 5), ZeroPadShortcut(2, 5)),
    "zeros, half": lambda: Residual(body(2, 4, 2), ZeroPadShortcut(2, 4, stride=2)),
    "convolution": lambda: Residual(body(2, 3, 2), Conv2d(2, 3, 1, stride=2, rng=draw)),
    "two convolutions": lambda: Residual(body(2, 3), Sequential(Conv2d(2, 3, 1, rng=draw), ReLU())),
    "maximum": lambda: Residual(Sequential(body(2, 2), MaxPool2d(2)), MaxPool2d(2)),
    "sums in a sum": lambda: Residual(Sequential(Residual(body(2, 2)), ReLU(), Residual(body(2, 2)))),
    "a padding aside": lambda: Residual(Conv2d(2, 2, 1, rng=draw), Conv2d(2, 2, 5, padding=2, rng=draw)),
}


@pytest.mark.parametrize("n", [1, 3, 5, 17])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", SUMS)
def test_a_sum(name: str, relu: bool, n: int) -> None:
    for before in [], [Conv2d(2, 2, 3, padding=1, rng=draw), ReLU()]:
        behind = Conv2d(SUMS[name]().output_shape((2, 6, 7))[0], 3, 3, padding=1, rng=draw)
        network = Sequential(*before, SUMS[name](), *[ReLU()] * relu, behind)
        compare(with_whole_numbers(network), whole(8, n, 2, 6, 7))


@pytest.mark.parametrize("n", [1, 4, 17])
def test_layers_that_compute_nothing_new(n: int) -> None:
    """ReLU after ReLU, nested runs, a Flatten of a Flatten, a network that only turns its image into a vector."""
    layers = ReLU(), Sequential(Sequential(ReLU()), Sequential()), Conv2d(1, 2, 3, padding=1, rng=draw), ReLU(), ReLU()
    compare(with_whole_numbers(Sequential(*layers, Flatten(), Flatten(), ReLU())), whole(9, n, 1, 5, 6))


# --- the layers of 1998

TABLES: list[list[list[int]]] = [
    [[0]],
    [[0, 1], [1], [0, 2], [1, 2], [0, 1, 2]],
    [[1], [3], [1, 3]],  # nobody sees maps 0 and 2
    [[int(number) for number in maps] for maps in C3.split()],
]


@pytest.mark.parametrize("n", [1, 3, 17])
@pytest.mark.parametrize("size", [(5, 5), (6, 18), (3, 2)], ids=str)
@pytest.mark.parametrize("table", TABLES, ids=len)
def test_a_convolution_by_a_table(table: list[list[int]], size: tuple[int, int], n: int) -> None:
    """First, last and in the middle."""
    channels = 1 + max(map(max, table))
    compare(with_whole_numbers(TableConv2d(channels, table, (3, 2), rng=draw)), whole(10, n, channels, *size))
    layer = TableConv2d(channels, table, (3, 2), rng=draw)
    first, last = Conv2d(2, channels, 3, padding=1, rng=draw), Conv2d(len(table), 2, 3, padding=1, rng=draw)
    compare(with_whole_numbers(Sequential(first, ReLU(), layer, last)), whole(11, n, 2, *size))


@pytest.mark.parametrize("n", [1, 4, 17])
@pytest.mark.parametrize("size", [(4, 4), (2, 6), (6, 40), (10, 32)], ids=str)
@pytest.mark.parametrize("behind", ["nothing", "convolution"])
def test_a_trained_subsampling(behind: str, size: tuple[int, int], n: int) -> None:
    layers = [Conv2d(2, 3, 3, padding=1, rng=draw), TrainableSubsampling2d(3, rng=draw)]
    layers += [Conv2d(3, 2, 3, padding=1, rng=draw)] * (behind == "convolution")
    compare(with_whole_numbers(Sequential(*layers)), whole(12, n, 2, *size))


@pytest.mark.parametrize("n", [1, 4, 17])
@pytest.mark.parametrize("depth", [1, 15, 84])
def test_distances_from_codes(depth: int, n: int) -> None:
    layers = Flatten(), Linear(12, depth, rng=draw), RBF(depth, 5, rng=draw)
    compare(with_whole_numbers(Sequential(*layers)), whole(13, n, 3, 2, 2))


@pytest.mark.parametrize("n", [1, 17])
def test_the_squashing_function_is_right_to_float32_everywhere(n: int) -> None:
    points = np.concatenate([np.linspace(-15, 15, 9000), np.geomspace(1e-30, 1, 900), -np.geomspace(1e-30, 1, 900)])
    x = np.resize(np.concatenate([points, [0.0, -0.0, 1e30, -1e30]]), (n, 1, 40, 300)).astype(np.float32)
    network = Sequential(ScaledTanh(), Flatten()).eval()
    with kernels.use("batchlast"):
        y = InferencePlan(network)(x)
    wanted = (1.7159 * np.tanh(x.reshape(n, -1).astype(np.float64) * 2 / 3)).astype(np.float32)
    assert np.abs(y - wanted).max() <= 4 * np.finfo(np.float32).eps
    assert (np.abs(y - wanted) <= 8 * np.spacing(np.abs(wanted))).all()
    x[...] = np.nan
    with kernels.use("batchlast"):
        assert np.isnan(InferencePlan(network)(x)).all()


@pytest.mark.parametrize("n", [1, 4, 17])
def test_squashed_layers_and_a_convolution_as_large_as_its_image(n: int) -> None:
    layers = Conv2d(2, 3, 2, rng=draw), ScaledTanh(), Conv2d(3, 9, (4, 3), rng=draw), ScaledTanh(), Flatten()
    compare(Sequential(*layers, Linear(9, 4, rng=draw), ScaledTanh()), whole(14, n, 2, 5, 4), limit=3e-6)


@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_criterion_of_1998_is_part_of_the_program(weighted: bool, n: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 1, 4, 4)).astype(np.float32), rng.integers(0, 5, n)
    weights = rng.uniform(0, 2, n) if weighted else None
    network = Sequential(Flatten(), Linear(16, 6, rng=rng), ScaledTanh(), RBF(6, 5, rng=rng))
    layers = LayerByLayer(deepcopy(network), map_criterion)
    with kernels.use("batchlast"):
        plan = TrainingPlan(network, map_criterion, LayerByLayer(network, map_criterion))
        assert plan.step_bytes(x, n) is not None
        found = plan.loss_and_gradient(x, y, weights)
        with pytest.raises(LabelError, match="map_criterion: "):
            plan.loss_and_gradient(x, y + 5, weights)
    wanted = layers.loss_and_gradient(x, y, weights)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert normwise(plan.params.grad, layers.network.pack().grad) < 1e-5


# --- batch norm: not exact

NORMS: dict[str, Network] = {
    "alone": lambda: BatchNorm2d(3),
    "with its ReLU": lambda: Sequential(BatchNorm2d(3), ReLU()),
    "between": lambda: Sequential(
        *(Conv2d(3, 4, 3, padding=1, bias=False, rng=draw), BatchNorm2d(4), ReLU(), Conv2d(4, 2, 3, rng=draw)),
        *(BatchNorm2d(2), MaxPool2d(2)),
    ),
    "beside": lambda: Residual(
        Sequential(Conv2d(3, 5, 3, stride=2, padding=1, rng=draw), BatchNorm2d(5)),
        Sequential(ZeroPadShortcut(3, 5, stride=2), BatchNorm2d(5, eps=0.1)),
    ),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 16, 33, 100])
@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_in_training(name: str, n: int, frozen: bool) -> None:
    """Numbers far from zero, running statistics of an earlier batch; with a frozen part everything around it learns."""
    rng = np.random.default_rng(10)
    middle = NORMS[name]()
    for parameter_name, parameter in middle.named_parameters():
        if parameter.value.ndim == 1:
            low = 0.5 if parameter_name.endswith(("weight", "var")) else -1
            parameter.value[...] = rng.uniform(low, 2, parameter.value.shape)
    network = Sequential(Conv2d(2, 3, 1, rng=rng), middle.freeze() if frozen else middle, Flatten())
    size = network.output_shape((2, 7, 6))[0]
    network = Sequential(network, Linear(size, 3, rng=rng))
    truth = deepcopy(network).astype(np.float64)
    x, targets = (3 + rng.standard_normal((n, 2, 7, 6))).astype(np.float32), whole(11, n, 3)
    objective = planned(network, x)
    with kernels.use("batchlast"):
        loss, found = gradients(objective, x, targets)
    wanted_loss, wanted = gradients(LayerByLayer(truth, linear_loss), x.astype(np.float64), targets)
    assert loss == pytest.approx(wanted_loss, abs=1e-5 * n)
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    for key, gradient in wanted.items():
        assert np.abs(found[key] - gradient).max() <= 2e-5 * max(float(np.abs(gradient).max()), largest / 10), key
    state = network.state_dict()
    for key, value in truth.state_dict().items():  # running statistics follow, or stay
        assert normwise(state[key], value) < 2e-6, key
    with kernels.use("batchlast"):
        assert normwise(InferencePlan(network.eval())(x), truth.eval().forward(x.astype(np.float64))) < 1e-5


# --- what is frozen


@pytest.mark.parametrize("n", [1, 3, 17])
@pytest.mark.parametrize("frozen", [(0,), (2,), (0, 2), (5,), (0, 2, 5), (2, 5)], ids=str)
def test_frozen_layers_let_the_gradient_through_and_have_none(frozen: tuple[int, ...], n: int) -> None:
    layers = [
        *(Conv2d(1, 2, 3, padding=1, rng=draw), ReLU(), Residual(body(2, 2)), MaxPool2d(2), Flatten()),
        *(Linear(2 * 3 * 3, 17, rng=draw), Linear(17, 2, rng=draw)),
    ]
    for i in frozen:
        layers[i].freeze()
    compare(with_whole_numbers(Sequential(*layers)), whole(12, n, 1, 6, 7))


# --- at random


def random_network(rng: np.random.Generator) -> tuple[Layer, Shape]:
    """Some layers that fit after each other, and the shape of their images."""
    shape = start = (int(rng.integers(1, 4)), int(rng.integers(5, 15)), int(rng.integers(5, 20)))
    layers: list[Layer] = []
    for _ in range(rng.integers(1, 4)):
        C, H, W = shape
        room = min(H, W)
        kind = rng.choice(["convolution", "convolution", "maximum", "sum", "ReLU"])
        layer: Layer = ReLU()
        if kind == "maximum" and room > 2:
            layer = MaxPool2d(int(rng.integers(2, 4)), stride=int(rng.integers(1, 4)))
        elif kind == "sum":
            layer = (
                Residual(body(C, C))
                if rng.random() < 0.5
                else Residual(body(C, C + 1, 2), ZeroPadShortcut(C, C + 1, stride=2))
            )
        elif kind == "convolution":
            groups = int(rng.choice([1, 1, C]))
            size = tuple(int(n) for n in rng.integers(1, min(room, 7) + 1, 2))
            padding: Any = tuple(tuple(int(n) for n in rng.integers(0, k, 2)) for k in size)
            layer = Conv2d(
                *(C, int(rng.integers(1, 4)) * groups, size),
                stride=int(rng.integers(1, 4)),
                padding=padding,
                dilation=1 if max(size) * 2 > room else int(rng.integers(1, 3)),
                groups=groups,
                bias=bool(rng.integers(2)),
                rng=draw,
            )
        layers.append(layer)
        C, H, W = layer.output_shape(shape)
        shape = C, H, W
    size = int(np.prod(shape))
    layers += [Flatten(), Linear(size, int(rng.integers(1, 12)), rng=draw)]
    return Sequential(*layers), start


@pytest.mark.promise("G1")
@pytest.mark.parametrize("seed", range(120))
def test_networks_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, shape = random_network(rng)
    if not any(True for _, parameter in network.named_parameters() if parameter.trainable):
        return
    compare(with_whole_numbers(network), whole(seed, BATCHES[seed % len(BATCHES)], *shape))
