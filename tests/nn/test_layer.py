"""What every layer inherits: names, modes, state that loads whole or not at all, and its description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, ShapeError, WeightsMismatchError
from stridenet.layout import Array
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential
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
            return self.left.backward(dy) + self.right.backward(dy)  # pyright: ignore[reportOptionalOperand]

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


# --- freezing


def frozen_and_free(seed: int = 0) -> tuple[Sequential, Sequential]:
    """Two networks with the same weights; the first three layers of the first are frozen."""

    def make() -> Sequential:
        rng = np.random.default_rng(seed)
        block = Residual(Sequential(Conv2d(2, 2, 3, padding=1, rng=rng), BatchNorm2d(2)), BatchNorm2d(2))
        return Sequential(
            *(Conv2d(1, 2, 3, rng=rng), BatchNorm2d(2), block),
            *(ReLU(), Conv2d(2, 3, 2, rng=rng), BatchNorm2d(3), Flatten(), Linear(3, 2, rng=rng)),
        ).astype(np.float64)

    frozen, free = make(), make()
    for layer in frozen.layers[:3]:
        assert layer.freeze() is layer
    return frozen, free


def test_frozen_parameters_are_outside_the_vector_and_never_move() -> None:
    network, x = frozen_and_free()[0], X.astype(np.float64)
    params, before = network.pack(), network.state_dict()
    dy = np.random.default_rng(1).standard_normal((6, 2))
    assert {int(name[0]) for name in params.slices} == {4, 5, 7}
    assert not any(p.trainable for name, p in network.named_parameters() if int(name[0]) < 3)
    for _ in range(3):
        params.zero_grad()
        network.forward(x)
        network.backward(dy, need_dx=False)
        params.value -= 0.1 * params.grad
    for name, value in network.state_dict().items():
        stays = int(name[0]) < 3
        assert np.array_equal(value, before[name]) == stays, name
    assert not any(p.grad.any() for name, p in network.named_parameters() if int(name[0]) < 3)


def test_the_gradients_behind_a_frozen_part_are_those_of_a_network_that_evaluates_it() -> None:
    network, free = frozen_and_free()
    x = X.astype(np.float64)
    y = network.forward(x)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = network.backward(dy)
    head, tail = free.layers[:3], Sequential(*free.layers[3:])
    inside = x
    for layer in head:
        inside = layer.eval().forward(inside)
    assert np.array_equal(tail.forward(inside), y)
    tail.backward(dy)
    wanted = dict(tail.named_parameters())
    for name, parameter in network.named_parameters():
        place, _, rest = name.partition(".")
        if int(place) >= 3:
            assert np.array_equal(parameter.grad, wanted[f"{int(place) - 3}.{rest}"].grad)
    assert dx is not None  # asked for, it goes through the frozen part too
    assert dx.shape == x.shape


@pytest.mark.parametrize("need_dx", [True, False])
def test_the_backward_stops_behind_what_is_frozen(need_dx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network, calls = frozen_and_free()[0], list[str]()
    for name, layer in network.children():

        def backward(dy: Array, *, name: str = name, whole: Any = layer.backward, **options: bool) -> Array | None:
            calls.append(name)
            return whole(dy, **options)

        monkeypatch.setattr(layer, "backward", backward)
    dx = network.backward(np.ones_like(network.forward(X.astype(np.float64))), need_dx=need_dx)
    assert calls == list("76543210" if need_dx else "76543")
    assert (dx is not None) == need_dx or calls[-1] == "3"  # ReLU gives its dx in any case


def test_a_frozen_network_inside_another_is_left_out_whole() -> None:
    rng = np.random.default_rng(0)
    inside = Sequential(Sequential(Conv2d(1, 2, 3, rng=rng), ReLU()).freeze(), Conv2d(2, 2, 1, rng=rng))
    network = Sequential(inside, Flatten(), Linear(8, 3, rng=rng))
    frozen = inside.layers[0].layers[0]
    frozen.backward = None  # pyright: ignore  (no backward comes)
    network.backward(np.ones_like(network.forward(X)), need_dx=False)
    assert frozen.saved is None  # and what was kept for it is free
    assert list(network.pack().slices) == ["0.1.weight", "0.1.bias", "2.weight", "2.bias"]


def test_freeze_after_pack_is_refused_and_freezes_nothing() -> None:
    net = network()
    net.layers[2].pack()
    with pytest.raises(
        ConfigError, match=r"^freeze: expected a network that is not packed yet, got 2\.weight; freeze bef"
    ):
        net.freeze()
    assert all(p.trainable for _, p in net.named_parameters())
    assert not any(layer.frozen for layer in net.walk())


def test_walk_and_whole_batch() -> None:
    net = Sequential(ReLU(), Residual(Sequential(BatchNorm2d(1), Dropout2d(0.1)), Dropout(0.1)))
    assert [type(layer).__name__ for layer in net.walk()] == [
        *("Sequential", "ReLU", "Residual", "Sequential", "BatchNorm2d", "Dropout2d", "Dropout")
    ]
    assert [layer.whole_batch for layer in net.walk()] == [False, False, False, False, True, True, True]


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
