"""Every layer by one table: shapes, types, NaN, untouched inputs, no images, many threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet import kernels
from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F, init
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lenet5() -> Sequential:
    draw = rng()
    return Sequential(
        *(Conv2d(1, 6, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(256, 120, rng=draw), ReLU(), Dropout(0.5)),
        *(Linear(120, 84, rng=draw), ReLU(), Linear(84, 10, rng=draw)),
    )


def batch_norm(channels: int) -> BatchNorm2d:
    layer, draw = BatchNorm2d(channels), rng(4)
    for _, parameter in layer.named_parameters():
        parameter.value[:] = draw.uniform(0.5, 2, channels)
    return layer


def residual_block() -> Sequential:
    """A block that halves the image, as in a ResNet, and the average over what is left."""
    draw = rng()
    body = Sequential(
        *(Conv2d(2, 3, 3, stride=2, padding=1, bias=False, rng=draw), batch_norm(3), LeakyReLU(0.1)),
        *(Dropout2d(0.2), Conv2d(3, 3, 3, padding=1, bias=False, rng=draw), batch_norm(3)),
    )
    shortcut = Sequential(Conv2d(2, 3, 1, stride=2, bias=False, rng=draw), batch_norm(3))
    return Sequential(Residual(body, shortcut), ReLU(), GlobalAvgPool2d(), Flatten(), Linear(3, 4, rng=draw))


LAYERS: dict[str, tuple[Callable[[], Layer], Shape]] = {
    "Conv2d": (lambda: Conv2d(3, 4, 3, rng=rng()), (3, 7, 6)),
    "Conv2d-all": (
        lambda: Conv2d(
            4, 6, (3, 2), stride=(2, 3), padding=((2, 0), (1, 2)), dilation=(1, 2), groups=2, bias=False, rng=rng()
        ),
        (4, 7, 8),
    ),
    "Conv2d-same": (lambda: Conv2d(2, 2, (2, 5), stride=(1, 2), padding="same", rng=rng()), (2, 5, 9)),
    "Conv2d-pair": (lambda: Conv2d(2, 3, 3, padding=(0, 2), rng=rng()), (2, 5, 3)),
    "Conv2d-depthwise": (lambda: Conv2d(3, 6, 3, padding=1, groups=3, rng=rng()), (3, 5, 4)),
    "Linear": (lambda: Linear(7, 3, rng=rng()), (7,)),
    "Linear-bare": (lambda: Linear(7, 3, bias=False, init=init.glorot_uniform, rng=rng()), (7,)),
    "MaxPool2d": (lambda: MaxPool2d(2), (3, 7, 5)),
    "MaxPool2d-all": (lambda: MaxPool2d((3, 2), stride=(2, 1), padding=((2, 1), (0, 1))), (3, 7, 5)),
    "MaxPool2d-same": (lambda: MaxPool2d(3, stride=2, padding="same"), (2, 6, 5)),
    "MaxPool2d-ceil": (lambda: MaxPool2d(2, stride=2, ceil_mode=True), (3, 7, 5)),
    "AvgPool2d": (lambda: AvgPool2d(2), (3, 8, 6)),
    "AvgPool2d-ceil": (lambda: AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (3, 8, 5)),
    "AvgPool2d-all": (
        lambda: AvgPool2d((3, 2), stride=(2, 1), padding=((2, 1), (0, 1)), ceil_mode=True, count_include_pad=False),
        (3, 8, 5),
    ),
    "GlobalAvgPool2d": (GlobalAvgPool2d, (3, 4, 5)),
    "BatchNorm2d": (lambda: batch_norm(3), (3, 4, 5)),
    "BatchNorm2d-frozen": (lambda: batch_norm(3).freeze(), (3, 4, 5)),
    "ReLU": (ReLU, (3, 4, 5)),
    "ReLU-flat": (ReLU, (9,)),
    "LeakyReLU": (lambda: LeakyReLU(0.2), (3, 4, 5)),
    "Tanh": (Tanh, (3, 4, 5)),
    "Sigmoid": (Sigmoid, (3, 4, 5)),
    "Softmax": (Softmax, (9,)),
    "Softmax-image": (Softmax, (3, 4, 5)),
    "LogSoftmax": (LogSoftmax, (9,)),
    "LogSoftmax-image": (LogSoftmax, (3, 4, 5)),
    "Dropout": (lambda: Dropout(0.3), (3, 4, 5)),
    "Dropout2d": (lambda: Dropout2d(0.3), (3, 4, 5)),
    "Flatten": (Flatten, (3, 4, 5)),
    "Flatten-flat": (Flatten, (9,)),
    "Sequential": (lenet5, (1, 28, 28)),
    "Sequential-empty": (Sequential, (3, 4, 5)),
    "Residual": (lambda: Residual(Conv2d(3, 3, 3, padding=1, rng=rng())), (3, 5, 4)),
    "Residual-block": (residual_block, (2, 6, 7)),
    "ScaledTanh": (ScaledTanh, (3, 4, 5)),
    "TrainableSubsampling2d": (lambda: TrainableSubsampling2d(3, rng=rng()), (3, 6, 4)),
    "TrainableSubsampling2d-all": (lambda: TrainableSubsampling2d(2, (3, 2), rng=rng()), (2, 7, 5)),
    "TableConv2d": (lambda: TableConv2d(3, [[0, 1], [2], [0, 1, 2], [1]], (3, 2), rng=rng()), (3, 6, 5)),
    "RBF": (lambda: RBF(7, 3, rng=rng()), (7,)),
    "ZeroPadShortcut": (lambda: ZeroPadShortcut(2, 5), (2, 3, 4)),
    "ZeroPadShortcut-all": (lambda: ZeroPadShortcut(2, 3, stride=(2, 3)), (2, 5, 6)),
}
every_layer = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.big) if LAYERS[name][0] is lenet5 else name for name in LAYERS]
)


def given(shape: Shape, N: int = 4, seed: int = 1, dtype: Any = np.float64) -> Array:
    return rng(seed).standard_normal((N, *shape)).astype(dtype)


def learns_statistics(layer: Layer) -> bool:
    """Whether each image of a batch has a part in all outputs of training."""
    return any(isinstance(inside, BatchNorm2d) and not inside.frozen for inside in layer.walk())


def sha(*arrays: Array) -> list[bytes]:
    return [hashlib.sha256(a.tobytes()).digest() for a in arrays]


@every_layer
def test_output_shape_is_what_forward_gives(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    for N in 1, 2, 5:
        y = layer.forward(given(shape, N, dtype=np.float32))
        assert y.shape == (N, *layer.output_shape(shape))


def outcome(shape_of: Callable[[Any], Shape], x: Any) -> Shape | str:
    try:
        return shape_of(x)
    except ShapeError as error:
        return str(error)


def forward_shape(layer: Layer) -> Callable[[Array], Shape]:
    return lambda x: layer.forward(x).shape[1:]


@pytest.mark.promise("P05")
def test_output_shape_is_what_forward_gives_for_200_random_windows() -> None:
    for seed in range(200):
        draw = rng(seed)
        kernel: Any = tuple(draw.integers(1, 4, 2).tolist())
        stride: Any = tuple(draw.integers(1, 4, 2).tolist())
        margins: Any = tuple((int(draw.integers(k)), int(draw.integers(k))) for k in kernel)
        padding: Any = margins if seed % 3 else "same"
        shape: Any = (2, *draw.integers(1, 9, 2).tolist())
        for layer in (
            Conv2d(2, 3, kernel, stride=stride, padding=padding, rng=draw),
            MaxPool2d(kernel, stride=stride, padding=padding, ceil_mode=seed % 2 == 0),
            AvgPool2d(kernel, stride=stride, padding=padding, ceil_mode=seed % 2 == 1, count_include_pad=seed % 4 < 2),
        ):
            x = given(shape, dtype=np.float32)
            assert outcome(layer.output_shape, shape) == outcome(forward_shape(layer), x)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", LAYOUTS)
def test_the_type_stays_and_the_memory_order_does_not_matter(name: str, dtype: Any, order: str) -> None:
    make, shape = LAYERS[name]
    x = given(shape, dtype=dtype)
    results: list[list[Array]] = []
    for given_x, given_dy in (x, lambda dy: dy), (LAYOUTS[order](x), LAYOUTS[order]):
        layer = make().astype(dtype)
        y = layer.forward(given_x)
        dy = rng(2).standard_normal(y.shape).astype(dtype)
        dx = layer.backward(given_dy(dy))
        assert dx is not None
        assert dx.shape == x.shape
        results.append([y, dx, *(p.grad for _, p in layer.named_parameters())])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype == dtype
        assert normwise(b, a) < (1e-12 if dtype is np.float64 else 1e-5)


@every_layer
@pytest.mark.promise("G5")
@pytest.mark.parametrize("training", [True, False])
def test_nan_in_nan_out(name: str, training: bool) -> None:
    make, shape = LAYERS[name]
    layer = make().train(training)
    alone = not (training and learns_statistics(layer))
    positions = rng(3)
    reached = 0
    while reached < 100:
        x = given(shape, dtype=np.float32)
        place = tuple(int(positions.integers(n)) for n in x.shape)
        if "all" in name or name in ("MaxPool2d", "Conv2d-same"):
            clean = layer.forward(x)  # strides may jump over a place: one that no window sees is not used
            moved = x.copy()
            moved[place] = 100
            if np.array_equal(layer.forward(moved), clean):
                continue
        x[place] = np.nan
        y = layer.forward(x)
        assert np.isnan(y[place[0]]).any(), place
        assert np.isnan(np.delete(y, place[0], axis=0)).any() != alone
        reached += 1


@every_layer
@pytest.mark.promise("B15", "G6")
@pytest.mark.parametrize("order", LAYOUTS)
def test_b15_inputs_stay_and_results_are_the_callers(name: str, order: str) -> None:
    make, shape = LAYERS[name]
    x = LAYOUTS[order](given(shape))
    x.flags.writeable = False
    before = sha(x)
    gradients: list[list[Array]] = []
    for spoil in False, True:
        layer = make().astype(np.float64)
        y = layer.forward(x)
        dy = LAYOUTS[order](rng(2).standard_normal(y.shape))
        dy.flags.writeable = False
        dy_before = sha(dy)
        if spoil and not np.shares_memory(y, x):  # Flatten gives a view of the caller's own array
            y[...] = 17
        dx = layer.backward(dy)
        assert dx is not None
        assert sha(dy) == dy_before
        gradients.append([dx, *(p.grad for _, p in layer.named_parameters())])
    assert sha(x) == before
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))


@every_layer
@pytest.mark.promise("P02")
def test_no_images(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    y = layer.eval().forward(np.zeros((0, *shape), np.float32))
    assert y.shape == (0, *layer.output_shape(shape))
    if learns_statistics(layer):
        with pytest.raises(ShapeError, match=r"BatchNorm2d.*: expected more than one value a channel to train on, got"):
            layer.train().forward(np.zeros((0, *shape), np.float32))
        return
    assert np.array_equal(layer.train().forward(np.zeros((0, *shape), np.float32)), y)
    dx = layer.backward(y)
    assert dx is not None
    assert dx.shape == (0, *shape)
    assert not any(p.grad.any() for _, p in layer.named_parameters())


@every_layer
def test_b03_two_rounds_are_equal_and_gradients_add_up_in_between(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make().astype(np.float64)
    params = layer.pack()
    rounds: list[Array] = []
    for clear in True, True, False:
        if clear:
            params.zero_grad()
        layer.reseed(0, 0)
        y = layer.forward(given(shape))
        layer.backward(rng(2).standard_normal(y.shape))
        rounds.append(params.grad.copy())
    assert np.array_equal(rounds[0], rounds[1])
    assert normwise(rounds[2], 2 * rounds[0]) < 1e-14


@every_layer
@pytest.mark.promise("B16", "B17")
def test_b17_a_backward_changes_no_parameter(name: str) -> None:
    """A first step that the second of two gradients already sees was in public code; dx is of the forward's weights."""
    make, shape = LAYERS[name]
    layer = make().astype(np.float64)
    y = layer.forward(given(shape))
    before = layer.state_dict()
    layer.backward(np.ones_like(y))
    assert all(np.array_equal(value, before[key]) for key, value in layer.state_dict().items())
    assert all(p.grad.shape == p.value.shape for _, p in layer.named_parameters())


@every_layer
@pytest.mark.promise("G8")
def test_evaluation_changes_no_state_and_gives_the_same_bits_twice(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make().eval(), given(shape, dtype=np.float32)
    before = layer.state_dict()
    first = layer.forward(x)
    assert np.array_equal(layer.forward(x), first)
    assert all(np.array_equal(value, before[key]) for key, value in layer.state_dict().items())
    assert all(inside.saved is None for inside in layer.walk())


@every_layer
def test_without_dx_the_parameters_get_the_same_gradients(name: str) -> None:
    make, shape = LAYERS[name]
    layers = make().astype(np.float64), make().astype(np.float64)
    for layer, need_dx in zip(layers, (True, False), strict=True):
        y = layer.forward(given(shape))
        dx = layer.backward(rng(2).standard_normal(y.shape), need_dx=need_dx)
        if name.startswith(("Conv", "Linear", "Residual")) or name == "Sequential":
            assert (dx is None) is not need_dx
    for (_, a), (_, b) in zip(*(layer.named_parameters() for layer in layers), strict=True):
        assert np.array_equal(a.grad, b.grad)


@every_layer
@pytest.mark.promise("A4")
def test_8_threads_predict_as_one(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make().eval()
    batches = [given(shape, 2, seed, np.float32) for seed in range(50)]
    serial = [layer.forward(x) for x in batches]
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def predict(shift: int) -> None:
        start.wait(30)
        try:
            for i in range(50):
                j = (i + 7 * shift) % 50
                if not np.array_equal(layer.forward(batches[j]), serial[j]):
                    wrong.append((shift, j))
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=predict, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)


def test_layers_compute_what_the_functions_do() -> None:
    x = given((4, 7, 8))
    conv = Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2, groups=2, rng=rng()).astype(np.float64)
    assert conv.bias is not None
    conv.bias.value[:] = rng(9).standard_normal(6)
    options: Any = {"stride": (2, 1), "padding": (1, 0), "dilation": 2, "groups": 2}
    assert np.array_equal(conv.forward(x), F.conv2d(x, conv.weight.value, conv.bias.value, **options)[0])
    options = {"stride": 3, "padding": 1, "ceil_mode": True}
    assert np.array_equal(MaxPool2d(2, **options).forward(x), F.max_pool2d(x, 2, **options)[0])
    options |= {"count_include_pad": False}
    assert np.array_equal(AvgPool2d(2, **options).forward(x), F.avg_pool2d(x, 2, **options)[0])
    assert np.array_equal(GlobalAvgPool2d().forward(x), F.global_avg_pool2d(x)[0])
    dense = Linear(8, 3, rng=rng()).astype(np.float64)
    assert np.array_equal(dense.forward(x[:, 0, 0]), F.linear(x[:, 0, 0], dense.weight.value, np.zeros(3))[0])
    assert np.array_equal(LeakyReLU(0.2).forward(x), F.leaky_relu(x, 0.2)[0])
    for layer in ReLU(), LeakyReLU(), Tanh(), Sigmoid(), Softmax(), LogSoftmax():
        name = {"LeakyReLU": "leaky_relu", "LogSoftmax": "log_softmax"}.get(type(layer).__name__)
        assert np.array_equal(layer.forward(x), getattr(F, name or type(layer).__name__.lower())(x)[0])
    assert np.array_equal(Flatten().forward(x), x.reshape(4, -1))


def test_bias_starts_at_zero_without_decay_and_weights_as_init_says() -> None:
    layers = Conv2d(4, 6, 3, groups=2, rng=rng(5)), Linear(7, 3, init=init.normal(0.01), rng=rng(5))
    assert np.array_equal(layers[0].weight.value, init.he_normal(rng(5), (6, 2, 3, 3)))
    assert np.array_equal(layers[1].weight.value, init.normal(0.01)(rng(5), (3, 7)))
    for layer in layers:
        assert layer.bias is not None
        assert not layer.bias.value.any()
        assert (layer.weight.decay, layer.bias.decay) == (True, False)
        assert layer.weight.value.dtype == layer.bias.value.dtype == np.float32


def test_the_chosen_backend_is_used() -> None:
    layer, x = Conv2d(1, 1, 2, rng=rng()), given((1, 3, 3), dtype=np.float32)
    with kernels.use("loops"):
        layer.forward(x)
    assert layer.saved.backend is kernels.get("loops")


@every_layer
def test_backward_refuses_another_shape(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    if name == "Sequential-empty":
        return
    y = layer.forward(given(shape, dtype=np.float32))
    with pytest.raises(ShapeError, match=r"_backward: expected dy of shape .*, got "):
        layer.backward(y[1:])
