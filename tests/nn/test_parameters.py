"""One vector of values, one of gradients, and the views that share them."""

from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.nn.sequential import Sequential


def network(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(Conv2d(1, 2, 3, rng=rng), ReLU(), Flatten(), Linear(8, 3, rng=rng), input_shape=(1, 4, 4))


def step(net: Layer, seed: int = 1) -> None:
    """One step of plain gradient descent on the packed vector."""
    params = net.pack()
    params.zero_grad()
    rng = np.random.default_rng(seed)
    net.backward(net.forward(rng.standard_normal((5, 1, 4, 4)).astype(np.float32)) - np.float32(1))
    params.value -= 0.1 * params.grad


def test_pack_is_idempotent_and_keeps_the_values() -> None:
    net = network()
    before = net.state_dict()
    params = net.pack()
    assert net.pack() is params
    assert len(params) == 18 + 2 + 24 + 3
    assert all(np.array_equal(p.value, before[name]) for name, p in net.named_parameters())


def test_the_vector_and_the_parameters_are_views_of_each_other() -> None:
    net = network()
    params = net.pack()
    own = dict(net.named_parameters())
    assert list(params.slices) == list(own) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    params.value[:] = np.arange(len(params))
    params.grad[:] = -np.arange(len(params))
    for name, part in params.slices.items():
        assert np.array_equal(own[name].value.ravel(), np.arange(len(params))[part])
        assert np.array_equal(own[name].grad.ravel(), -params.value[part])
    own["3.bias"].value[1] = 99
    assert params.value[params.slices["3.bias"]][1] == 99
    assert sorted(i for part in params.slices.values() for i in range(part.start, part.stop)) == [*range(len(params))]


def test_decay_and_lr_scale_come_from_the_parameters() -> None:
    rng = np.random.default_rng(0)
    net = Sequential(Linear(2, 2, rng=rng), Linear(2, 1, bias=False, rng=rng))
    dict(net.named_parameters())["1.weight"].lr_scale = 0.25
    params = net.pack()
    assert params.decay.tolist() == [1, 1, 1, 1, 0, 0, 1, 1]
    assert params.lr_scale.tolist() == [1, 1, 1, 1, 1, 1, 0.25, 0.25]


def test_all_four_vectors_have_the_type_of_the_parameters() -> None:
    for dtype in np.float32, np.float64:
        params = network().astype(dtype).pack()
        assert {a.dtype.type for a in (params.value, params.grad, params.decay, params.lr_scale)} == {dtype}


def test_two_types_are_refused() -> None:
    net = network()
    net.layers[0].astype(np.float64)
    with pytest.raises(ConfigError, match=r"^ParameterVector: expected one dtype, got \['float32', 'float64'\]"):
        net.pack()
    assert all(p.vector is None for _, p in net.named_parameters())


def test_a_part_of_a_packed_network_is_not_packed_again() -> None:
    net = network()
    params = net.pack()
    for part in net.layers[0], Sequential(net.layers[0]), Sequential(net):
        with pytest.raises(
            ConfigError, match=r"in no vector yet, got '.*weight' which is; pack the whole network first"
        ):
            part.pack()
    assert net.pack() is params
    step(net)  # and it still works


def test_a_network_of_other_layers_is_another_network_even_where_the_names_are_the_same() -> None:
    """A new head on an old body: all names agree, and the head must not be left out of training."""
    net = network()
    net.pack()
    new_head = Sequential(*net.layers[:-1], Linear(8, 3, rng=np.random.default_rng(9)))
    with pytest.raises(ConfigError, match="in no vector yet"):
        new_head.pack()
    rng = np.random.default_rng(0)
    a, b = Linear(3, 3, rng=rng), Linear(3, 3, rng=rng)
    Sequential(a, b).pack()
    with pytest.raises(ConfigError, match="in no vector yet"):
        Sequential(b, a).pack()


def test_one_parameter_twice_is_refused() -> None:
    layer = Linear(3, 3, rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="Sequential"):
        Sequential(layer, ReLU(), layer)
    relu = ReLU()
    with pytest.raises(ConfigError, match=r"Sequential\[2\]: .*once, got ReLU\(\) again"):
        Sequential(relu, layer, relu)


def test_statistics_stay_outside_the_vector_and_inside_the_state() -> None:
    class Statistics(Linear):
        def __init__(self) -> None:
            super().__init__(2, 2, rng=np.random.default_rng(0))
            self.mean = Parameter(np.full(2, 7, np.float32), trainable=False)

    layer = Statistics()
    assert list(layer.pack().slices) == ["weight", "bias"]
    assert list(layer.state_dict()) == ["weight", "bias", "mean"]
    assert layer.pack() is layer.pack()


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_is_independent_and_works(twin: Callable[[Any], Any], packed: bool) -> None:
    net = network()
    if packed:
        step(net)
        net.forward(np.ones((2, 1, 4, 4), np.float32))  # with something saved
    other = twin(net)
    before = net.state_dict()
    assert all(np.array_equal(a, before[name]) for name, a in other.state_dict().items())
    assert repr(other) == repr(net)
    assert all(layer.saved is None for layer in other.layers)
    assert other.pack() is other.pack()
    assert other.pack() is not net.pack()
    step(other)
    for name, p in other.named_parameters():
        assert not np.array_equal(p.value, before[name])
        assert not np.shares_memory(p.value, dict(net.named_parameters())[name].value)
        assert np.shares_memory(p.value, other.pack().value)
    assert all(np.array_equal(a, before[name]) for name, a in net.state_dict().items())
    step(net)
    assert all(np.array_equal(a, net.state_dict()[name]) for name, a in other.state_dict().items())


def test_a_copy_of_one_parameter_is_no_view() -> None:
    net = network()
    net.pack()
    own = dict(net.named_parameters())["0.weight"]
    for twin in copy.copy(own), copy.deepcopy(own):
        assert twin.vector is None
        assert np.array_equal(twin.value, own.value)
        assert not np.shares_memory(twin.value, own.value)
        assert not np.shares_memory(twin.grad, own.grad)


def test_zero_grad() -> None:
    net = network()
    params = net.pack()
    params.grad[:] = np.nan
    params.zero_grad()
    assert not any(p.grad.any() for _, p in net.named_parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad(dtype: Any) -> None:
    params = ParameterVector({"a": Parameter(np.zeros(2, dtype)), "b": Parameter(np.zeros((1, 2), dtype))})
    params.grad[:] = 1, -2, 4, 2
    assert params.clip_grad(5.0) == 5.0
    assert params.grad.tolist() == [1, -2, 4, 2]
    assert params.clip_grad(4.0) == 5.0
    assert params.grad == pytest.approx(np.array([0.8, -1.6, 3.2, 1.6]))
    params.grad[:] = 1, -2, 4, 2
    before = params.clip_grad(1.0)
    assert (before, type(before)) == (5.0, float)
    assert params.grad == pytest.approx(np.array([0.2, -0.4, 0.8, 0.4]))
    assert params.grad.dtype == dtype
    params.grad[:] = 1e30
    assert params.clip_grad(2.0) == pytest.approx(2e30)  # float32 squares would overflow
    assert np.linalg.norm(params.grad.astype(float)) == pytest.approx(2.0)
    params.grad[0] = np.nan
    assert np.isnan(params.clip_grad(1.0))


def test_clip_grad_is_exact_and_copies_no_gradient() -> None:
    gradient = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    params = ParameterVector({"a": Parameter(np.zeros_like(gradient))})
    params.grad[:] = gradient
    tracemalloc.start()
    try:
        before = params.clip_grad(1.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert before == pytest.approx(math.sqrt(math.fsum(gradient.astype(float) ** 2)), rel=1e-13)
    assert peak < 300_000  # NumPy's buffers; the gradient has 1 200 000 bytes


@pytest.mark.promise("P01")
@pytest.mark.parametrize("norm", [-1.0, float("nan"), float("inf"), "1", None])
def test_clip_grad_refuses(norm: Any) -> None:
    params = ParameterVector({"a": Parameter(np.zeros(2, np.float32))})
    params.grad[:] = 3
    with pytest.raises(ConfigError, match=r"^clip_grad: expected norm .*, got "):
        params.clip_grad(norm)
    assert params.grad.tolist() == [3, 3]


def test_astype_comes_before_pack() -> None:
    net = network().astype(np.float64)
    assert {p.value.dtype for _, p in net.named_parameters()} == {p.grad.dtype for _, p in net.named_parameters()}
    assert net.forward(np.ones((1, 1, 4, 4))).dtype == np.float64
    net.pack()
    with pytest.raises(ConfigError, match=r"^Parameter.astype: .*; call astype before pack$"):
        net.astype(np.float32)
    for dtype in np.float16, np.int32, ">f4", object:
        with pytest.raises(ConfigError, match=r"^Parameter.astype: expected float32 or float64, got "):
            network().astype(dtype)


def test_b01_every_parameter_moves_in_one_step() -> None:
    net = network()
    net.pack()
    before = net.state_dict()
    step(net)
    assert all((p.value != before[name]).all() for name, p in net.named_parameters())


def test_b16_gradients_have_the_shape_of_their_values() -> None:
    net = network()
    shapes = {name: p.value.shape for name, p in net.named_parameters()}
    for i in range(100):
        step(net, i)
    for name, p in net.named_parameters():
        assert p.value.shape == p.grad.shape == shapes[name]


def test_b17_backward_leaves_the_values_alone() -> None:
    net = network()
    params = net.pack()
    before = params.value.copy()
    net.backward(net.forward(np.ones((5, 1, 4, 4), np.float32)))
    assert np.array_equal(params.value, before)
    assert params.grad.any()


def test_repr() -> None:
    assert repr(Parameter(np.zeros((2, 3), np.float32))) == "Parameter(shape=(2, 3), dtype=float32)"
