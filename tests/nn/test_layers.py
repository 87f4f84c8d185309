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
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from stridenet.nn.sequential import Sequential
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
    "Linear": (lambda: Linear(7, 3, rng=rng()), (7,)),
    "Linear-bare": (lambda: Linear(7, 3, bias=False, init=init.glorot_uniform, rng=rng()), (7,)),
    "MaxPool2d": (lambda: MaxPool2d(2), (3, 7, 5)),
    "MaxPool2d-all": (lambda: MaxPool2d((3, 2), stride=(2, 1), padding=((2, 1), (0, 1))), (3, 7, 5)),
    "MaxPool2d-same": (lambda: MaxPool2d(3, stride=2, padding="same"), (2, 6, 5)),
    "ReLU": (ReLU, (3, 4, 5)),
    "ReLU-flat": (ReLU, (9,)),
    "Tanh": (Tanh, (3, 4, 5)),
    "Sigmoid": (Sigmoid, (3, 4, 5)),
    "Dropout": (lambda: Dropout(0.3), (3, 4, 5)),
    "Flatten": (Flatten, (3, 4, 5)),
    "Flatten-flat": (Flatten, (9,)),
    "Sequential": (lenet5, (1, 28, 28)),
    "Sequential-empty": (Sequential, (3, 4, 5)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def given(shape: Shape, N: int = 4, seed: int = 1, dtype: Any = np.float64) -> Array:
    return rng(seed).standard_normal((N, *shape)).astype(dtype)


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
            MaxPool2d(kernel, stride=stride, padding=padding),
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
    positions = rng(3)
    reached = 0
    while reached < 20:
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
        assert not np.isnan(np.delete(y, place[0], axis=0)).any()
        reached += 1


@every_layer
@pytest.mark.promise("G6")
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
    for mode in False, True:
        y = layer.train(mode).forward(np.zeros((0, *shape), np.float32))
        assert y.shape == (0, *layer.output_shape(shape))
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
def test_without_dx_the_parameters_get_the_same_gradients(name: str) -> None:
    make, shape = LAYERS[name]
    layers = make().astype(np.float64), make().astype(np.float64)
    for layer, need_dx in zip(layers, (True, False), strict=True):
        y = layer.forward(given(shape))
        dx = layer.backward(rng(2).standard_normal(y.shape), need_dx=need_dx)
        if name == "Sequential" or name.startswith(("Conv", "Linear")):
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
    pool = MaxPool2d(3, stride=2, padding=1)
    assert np.array_equal(pool.forward(x), F.max_pool2d(x, 3, stride=2, padding=1)[0])
    dense = Linear(8, 3, rng=rng()).astype(np.float64)
    assert np.array_equal(dense.forward(x[:, 0, 0]), F.linear(x[:, 0, 0], dense.weight.value, np.zeros(3))[0])
    for layer, function in (ReLU(), F.relu), (Tanh(), F.tanh), (Sigmoid(), F.sigmoid):
        assert np.array_equal(layer.forward(x), function(x)[0])
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


@pytest.mark.promise("G8")
def test_dropout_in_training_and_in_evaluation() -> None:
    layer, x = Dropout(0.4), np.ones((20, 30))
    first, second = layer.forward(x), layer.forward(x)
    assert not np.array_equal(first, second)
    assert np.array_equal(Dropout(0.4).forward(x), first)
    both = Sequential(Dropout(0.4), Dropout(0.4)).layers
    assert not np.array_equal(both[0].forward(x), both[1].forward(x))
    assert set(np.unique(first)) == {0.0, 1 / (1 - 0.4)}
    assert np.array_equal(layer.backward(x), second)  # the mask of the last forward
    assert np.array_equal(layer.eval().forward(x), x)
    assert np.array_equal(Dropout(0.0).forward(x), x)


@every_layer
def test_backward_refuses_another_shape(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    if name == "Sequential-empty":
        return
    y = layer.forward(given(shape, dtype=np.float32))
    with pytest.raises(ShapeError, match=r"_backward: expected dy of shape .*, got "):
        layer.backward(y[1:])
