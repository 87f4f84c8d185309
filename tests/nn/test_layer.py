"""What every layer inherits: names, modes, state that loads whole or not at all, and its description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, ShapeError, WeightsMismatchError
from stridenet.layout import Array
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU
from stridenet.nn.sequential import Sequential
from stridenet.shapes import Shape


def network(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    body = Sequential(Conv2d(1, 2, 3, rng=rng), ReLU(), Dropout(0.5))
    return Sequential(body, Flatten(), Linear(8, 3, rng=rng))


X = np.random.default_rng(5).standard_normal((6, 1, 4, 4)).astype(np.float32)


def test_names_walk_the_tree() -> None:
    assert [name for name, _ in network().named_parameters()] == ["0.0.weight", "0.0.bias", "2.weight", "2.bias"]
    assert [name for name, _ in network().children()] == ["0", "1", "2"]


def test_a_layer_that_holds_layers_by_name() -> None:
    class Pair(Layer):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.left, self.right = Linear(2, 2, rng=rng), Linear(2, 2, bias=False, rng=rng)

        def forward(self, x: Array) -> Array:
            return self.left.forward(x) + self.right.forward(x)

        def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
            raise NotImplementedError

        def output_shape(self, input_shape: Shape) -> Shape:
            return input_shape

    layer = Pair()
    assert list(layer.state_dict()) == ["left.weight", "left.bias", "right.weight"]
    assert list(layer.pack().slices) == ["left.weight", "left.bias", "right.weight"]
    layer.eval()
    assert not layer.left.training
    assert not layer.right.training


def test_train_and_eval_reach_every_layer_and_return_the_network() -> None:
    net = network()
    body = net.layers[0]
    assert net.training
    assert net.eval() is net
    assert not any(layer.training for layer in [net, *net.layers, *(child for _, child in body.children())])
    assert net.train() is net
    assert all(layer.training for layer in [net, *net.layers, *(child for _, child in body.children())])


def test_backward_needs_a_forward_in_training_and_takes_it_once() -> None:
    layer = Linear(4, 2, rng=np.random.default_rng(0))
    dy = np.zeros((3, 2), np.float32)
    for prepare in (
        lambda: None,
        lambda: layer.eval().forward(np.zeros((3, 4), np.float32)),
        lambda: layer.train().forward(np.zeros((3, 4), np.float32)) is layer.eval(),
        lambda: layer.train().forward(np.zeros((3, 4), np.float32)) is layer.backward(dy),
    ):
        prepare()
        with pytest.raises(
            ConfigError, match=r"^Linear\(4, 2\): expected a forward in training mode before backward; "
        ):
            layer.backward(dy)
        assert layer.saved is None


@pytest.mark.promise("G8")
def test_evaluation_changes_nothing_and_draws_nothing() -> None:
    net = network().eval()
    before = net.state_dict()
    first = net.forward(X)
    for _ in range(3):
        assert np.array_equal(net.forward(X), first)
    assert all(layer.saved is None for layer in net.layers)
    assert all(np.array_equal(a, before[name]) for name, a in net.state_dict().items())
    one, other = network(), network().eval()
    other.forward(X)
    assert np.array_equal(one.forward(X), other.train().forward(X))  # the streams stand where they stood


def test_reseed_enters_the_dropout_stream_at_any_step() -> None:
    net = network()
    net.reseed(1, 5)
    first = net.forward(X)
    assert not np.array_equal(net.forward(X), first)
    net.reseed(1, 6)
    assert not np.array_equal(net.forward(X), first)
    net.reseed(2, 5)
    assert not np.array_equal(net.forward(X), first)
    net.reseed(1, 5)
    assert np.array_equal(net.forward(X), first)


def test_two_dropouts_have_different_masks() -> None:
    net = Sequential(Dropout(0.5), Dropout(0.5))
    net.reseed(0, 0)
    x = np.ones((50, 20))
    kept = [layer.forward(x) != 0 for layer in net.layers]
    assert not np.array_equal(*kept)


# --- state


def test_state_is_a_copy_and_loads() -> None:
    net, other = network(0), network(1)
    state = net.state_dict()
    assert not any(np.shares_memory(state[name], p.value) for name, p in net.named_parameters())
    params = other.pack()
    values = {name: p.value for name, p in other.named_parameters()}
    other.load_state_dict(state)
    for name, p in other.named_parameters():
        assert np.array_equal(p.value, state[name])
        assert p.value is values[name]  # assigned in place: still a view
        assert np.shares_memory(p.value, params.value)
    assert np.array_equal(net.eval().forward(X), other.eval().forward(X))


def mismatch(state: dict[str, Any], kind: int, rng: np.random.Generator) -> list[str]:
    """Spoil `state`; what the message must say about it."""
    name = sorted(state)[rng.integers(len(state))]
    a = state[name]
    if kind == 0:
        del state[name]
        return [f"{name!r} is missing"]
    if kind == 1:
        state[name.upper()] = state.pop(name)
        return [f"{name!r} is missing", f"{name.upper()!r} is unexpected"]
    if kind == 2:
        state["extra"] = a
        return ["'extra' is unexpected"]
    shapes = [(*a.shape, 1), a.shape[1:], (a.size,) if a.ndim > 1 else (a.size, 1), (0,)]
    if kind == 3:
        state[name] = np.zeros(shapes[rng.integers(4)], np.float32)
        return [f"{name!r} is {state[name].shape} float32, expected {a.shape} float32"]
    state[name] = a.astype(["f8", "f2", "i4", ">f4"][rng.integers(4)])
    return [f"{name!r} is {a.shape} {state[name].dtype}, expected {a.shape} float32"]


@pytest.mark.promise("F6")
def test_60_mismatching_states_leave_every_bit() -> None:
    net = network()
    net.pack()
    before = net.pack().value.copy()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        state = {name: a + 1 for name, a in net.state_dict().items()}
        wanted = mismatch(state, seed % 5, rng)
        if seed % 2 and seed % 5 == 3:
            wanted += mismatch(state, 2, rng)
        with pytest.raises(WeightsMismatchError, match=r"^Sequential.load_state_dict: ") as caught:
            net.load_state_dict(state)
        said = str(caught.value).partition(": ")[2].split("; ")
        assert sorted(said) == sorted(wanted)
        assert np.array_equal(net.pack().value, before)


@pytest.mark.promise("F6")
def test_at_most_20_differences_are_listed() -> None:
    net = network()
    with pytest.raises(WeightsMismatchError) as caught:
        net.load_state_dict({f"name{i}": X for i in range(30)})
    assert str(caught.value).count(" is missing") == 4
    assert str(caught.value).count(" is unexpected") == 16
    assert str(caught.value).endswith(" and 14 more")


@pytest.mark.promise("F6")
@pytest.mark.parametrize("value", [None, 1.0, [[1.0]], "text"])
def test_a_state_of_other_things_than_arrays(value: Any) -> None:
    net = network()
    with pytest.raises(WeightsMismatchError, match=r"'2\.bias' is "):
        net.load_state_dict({**net.state_dict(), "2.bias": value})


# --- description


def test_repr_shows_what_was_given() -> None:
    rng = np.random.default_rng(0)
    assert repr(Conv2d(3, 32, 7, rng=rng)) == "Conv2d(3, 32, kernel_size=7)"
    assert (
        repr(Conv2d(2, 4, (3, 2), stride=2, padding="same", groups=2, bias=False, rng=rng))
        == "Conv2d(2, 4, kernel_size=(3, 2), stride=2, padding='same', groups=2, bias=False)"
    )
    assert repr(Linear(400, 120, rng=rng)) == "Linear(400, 120)"
    assert repr(MaxPool2d(2)) == "MaxPool2d(2)"
    assert repr(MaxPool2d(3, stride=(2, 1), padding=1)) == "MaxPool2d(3, stride=(2, 1), padding=1)"
    assert repr(Dropout(0.25)) == "Dropout(p=0.25)"
    assert repr(Dropout()) == "Dropout()"
    assert repr(ReLU()) == "ReLU()"


def test_spec_is_the_kind_and_the_arguments() -> None:
    layer = Conv2d(1, 6, 5, padding=((1, 2), (0, 0)), bias=False, rng=np.random.default_rng(0))
    assert layer.spec() == {
        "kind": "Conv2d",
        "in_channels": 1,
        "out_channels": 6,
        "kernel_size": 5,
        "stride": 1,
        "padding": ((1, 2), (0, 0)),
        "dilation": 1,
        "groups": 1,
        "bias": False,
    }
    assert Dropout(0.1).spec() == {"kind": "Dropout", "p": 0.1}
    assert Flatten().spec() == {"kind": "Flatten"}


def test_speaking_as_names_the_layer_and_lets_other_errors_pass() -> None:
    with pytest.raises(ShapeError, match=r"^ReLU\(\): expected x: y$"), speaking_as(ReLU()):
        raise ShapeError("relu: expected x: y")
    with pytest.raises(ConfigError, match=r"^who: z$"), speaking_as(ReLU()):
        raise ConfigError("who: z")
