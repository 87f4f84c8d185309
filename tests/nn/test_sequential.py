"""Networks: the shapes of the reports, who is named when layers do not fit, and rebuilding from a description."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, ShapeError, StridenetError, UnsupportedModelError
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from stridenet.nn.sequential import Sequential, build
from stridenet.strictjson import from_json, to_json


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lenet5(classes: int = 10) -> Sequential:
    draw = rng()
    return Sequential(
        *(Conv2d(1, 6, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5, rng=draw), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(256, 120, rng=draw), ReLU(), Linear(120, 84, rng=draw), ReLU()),
        Linear(84, classes, rng=draw),
        input_shape=(1, 28, 28),
    )


def size(network: Layer) -> int:
    return len(network.pack())


# --- the reports' networks


def test_s0_has_44_426_parameters() -> None:
    network = lenet5()
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
    assert (
        repr(Sequential(ReLU(), Sequential(Flatten())))
        == "Sequential(\n  [0] ReLU()\n  [1] Sequential(\n  [0] Flatten()\n)\n)"
    )


# --- rebuilding


def zoo() -> list[Layer]:
    draw = rng()
    return [
        lenet5(),
        Sequential(),
        ReLU(),
        Linear(3, 4, bias=False, rng=draw),
        Sequential(
            Conv2d(
                4, 6, (3, 2), stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 2), groups=2, bias=False, rng=draw
            ),
            *(Tanh(), Conv2d(6, 2, 3, padding="same", rng=draw), Sigmoid(), Dropout(0.25)),
            Sequential(MaxPool2d(3, stride=2, padding=(1, 0)), MaxPool2d((2, 1)), Flatten()),
        ),
    ]


@pytest.mark.parametrize("i", range(5))
def test_a_spec_goes_through_json_and_comes_back(i: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = zoo()[i]
    text = to_json(network.spec())
    generator = rng(1)
    before = str(generator.bit_generator.state)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: generator)
    twin = build(from_json(text, "test"), limit=100_000)
    assert str(generator.bit_generator.state) == before  # no random number was drawn
    assert type(twin) is type(network)
    assert twin.spec() == network.spec()
    assert to_json(twin.spec()) == text
    assert repr(twin) == repr(network)
    values, wanted = twin.state_dict(), network.state_dict()
    assert {name: (a.shape, a.dtype) for name, a in values.items()} == {
        name: (a.shape, a.dtype) for name, a in wanted.items()
    }
    assert not any(a.any() for a in values.values())
    assert [p.decay for _, p in twin.named_parameters()] == [p.decay for _, p in network.named_parameters()]


def test_a_rebuilt_network_predicts_as_the_first() -> None:
    network = lenet5().eval()
    twin = build(from_json(to_json(network.spec()), "test"), limit=44_426).eval()
    assert isinstance(twin, Sequential)
    assert twin.input_shape == network.input_shape == (1, 28, 28)
    twin.load_state_dict(network.state_dict())
    x = rng(1).standard_normal((5, 1, 28, 28)).astype(np.float32)
    assert np.array_equal(twin.forward(x), network.forward(x))


def test_the_limit_counts_every_parameter() -> None:
    for network in lenet5(), Linear(1, 1000, rng=rng()), Sequential(Linear(1, 9, rng=rng()), Linear(9, 1, rng=rng())):
        assert size(build(network.spec(), limit=size(network))) == size(network)
        with pytest.raises(UnsupportedModelError, match=r"expected at most \d+ parameters, got"):
            build(network.spec(), limit=size(network) - 1)


CONV = {"kind": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 3}
LINEAR = {"kind": "Linear", "in_features": 2, "out_features": 3}


def nested(levels: int) -> Any:
    spec: Any = {"kind": "ReLU"}
    for _ in range(levels):
        spec = {"kind": "Sequential", "layers": [spec], "input_shape": None}
    return spec


def deep(levels: int = 10_000) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "as a table, got None"),
        ([], "as a table"),
        ("ReLU", "as a table, got 'ReLU'"),
        ({}, "of a known kind, got None"),
        ({"kind": "Lambda"}, "of a known kind, got 'Lambda'"),
        ({"kind": "Layer"}, "of a known kind"),
        ({"kind": "os.system"}, "of a known kind"),
        ({"kind": ["ReLU"]}, "of a known kind"),
        ({"kind": {"kind": "ReLU"}}, "of a known kind"),
        ({"kind": "ReLU", "inplace": True}, "ReLU: .*'inplace'"),
        ({"kind": "Linear", "in_features": 2}, "Linear: .*'out_features'"),
        ({**LINEAR, "rng": 3}, "Linear: .*'rng'"),
        ({**LINEAR, "init": "zeros"}, "Linear: .*'init'"),
        ({**LINEAR, 3: 4}, "Linear: .*strings"),
        ({**CONV, "self": 1}, "Conv2d: .*'self'"),
        ({"kind": "Sequential"}, "Sequential: expected a list of layers"),
        ({"kind": "Sequential", "layers": [], "more": 1}, "Sequential: expected a list of layers"),
        ({"kind": "Sequential", "layers": {"0": {"kind": "ReLU"}}}, "Sequential: expected a list of layers"),
        ({"kind": "Sequential", "layers": [3]}, "as a table, got 3"),
        ({**LINEAR, "in_features": 2**20}, "at most 1000 parameters"),
        ({**LINEAR, "in_features": 2**40}, r"at most 2\^31 weights"),
        ({**CONV, "kernel_size": [2**20, 2**20]}, r"at most 2\^31 weights"),
        ({"kind": "Sequential", "layers": [LINEAR] * 200}, "at most 1000 parameters"),
        (nested(12), "at most 12 layers in each other"),
        (nested(10_000), "at most 12 layers in each other"),
        (deep(), "as a table, got a list"),
        ({"kind": deep()}, "of a known kind, got a list"),
    ],
)
def test_specs_of_another_world(spec: Any, message: str) -> None:
    with pytest.raises((UnsupportedModelError, ConfigError), match=f"{message}") as caught:
        build(spec, limit=1000)
    assert len(str(caught.value)) < 400


def test_the_deepest_network_that_can_be_built_can_be_saved() -> None:
    conv = Conv2d(1, 1, 1, padding=((0, 0), (0, 0)), rng=rng())
    network: Layer = conv
    for _ in range(11):
        network = Sequential(network)
    text = to_json({"network": network.spec()})
    assert build(from_json(text, "test")["network"], limit=2).spec() == network.spec()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({**CONV, "kernel_size": "3"}, "Conv2d: expected kernel_size .*'3'"),
        ({**CONV, "kernel_size": 3.0}, "Conv2d: expected kernel_size .*3.0"),
        ({**CONV, "kernel_size": deep()}, "Conv2d: expected kernel_size"),
        ({**CONV, "padding": deep()}, "Conv2d: expected padding"),
        ({**CONV, "bias": "no"}, "Conv2d: expected bias"),
        ({**CONV, "groups": 2}, "Conv2d: expected groups"),
        ({**CONV, "out_channels": 10**5000}, "Conv2d: expected out_channels"),
        ({"kind": "Dropout", "p": 1}, r"Dropout: expected p .*\[0, 1\)"),
        ({"kind": "Dropout", "p": 10**400}, "Dropout: expected p"),
        ({"kind": "Sequential", "layers": [], "input_shape": 28}, "Sequential: expected input_shape"),
        ({"kind": "Sequential", "layers": [], "input_shape": [1, 0]}, "Sequential: expected input_shape"),
        (
            {"kind": "Sequential", "layers": [LINEAR], "input_shape": [3]},
            r"^Sequential\[0\] Linear\(2, 3\): expected 2",
        ),
    ],
)
def test_arguments_of_a_spec_are_checked_as_at_construction(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(spec, limit=1000)


def test_huge_sizes_are_refused_before_anything_is_made() -> None:
    specs = [
        *({**LINEAR, "in_features": size} for size in (10**6, 2**31, 2**53)),
        *({**LINEAR, "out_features": size} for size in (10**6, 2**31, 2**53)),
        {**CONV, "kernel_size": [10**5, 10**5]},
        {"kind": "Sequential", "layers": [{**LINEAR, "out_features": 300}] * 70_000},
    ]
    for spec in specs:
        tracemalloc.start()
        with pytest.raises(StridenetError):
            build(spec, limit=1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20, spec


HOSTILE: list[Callable[[np.random.Generator], Any]] = [
    lambda draw: int(draw.choice([0, -1, 1, 2, 3, 2**31, 2**53, 2**62])),
    lambda draw: float(draw.choice([0.5, -1.0, np.nan, np.inf, 1e300, 2.0])),
    lambda draw: [None, True, False, "", "same", "Conv2d", "\x1b[31m\n", "x" * 10_000][draw.integers(8)],
    lambda draw: [[], {}, [1, 2], [[1, 2], [3, 4]], [[0, 1]], {"kind": "ReLU"}, [None], (2, 2)][draw.integers(8)],
    lambda draw: [10**400, -(10**5000), 3j, b"x", np.zeros((2, 2)), object, {1, 2}, np.float32(2)][draw.integers(8)],
    lambda draw: deep(2000),
    lambda draw: nested(int(draw.integers(14))),
]


def places(spec: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a spec."""
    found: list[tuple[Any, Any]] = []
    waiting = [spec]
    while waiting:
        container = waiting.pop()
        keys = [*container] if isinstance(container, dict) else [*range(len(container))]
        found += [(container, key) for key in keys]
        waiting += [container[key] for key in keys if isinstance(container[key], dict | list)]
    return found


def mutate(spec: Any, draw: np.random.Generator) -> None:
    """One change somewhere."""
    everywhere = places(spec)
    if not everywhere:
        return
    container, key = everywhere[draw.integers(len(everywhere))]
    other_container, other_key = everywhere[draw.integers(len(everywhere))]
    kind = draw.integers(6)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = json.loads(json.dumps(other_container[other_key], default=str)) if draw.integers(2) else 0
    elif kind == 2 and isinstance(container, dict):
        container[["rng", "init", "kind", "self", "seed", "__class__"][draw.integers(6)]] = container[key]
    else:
        container[key] = HOSTILE[draw.integers(len(HOSTILE))](draw)


@pytest.mark.promise("F2")
def test_2_000_mutated_specs_build_or_are_refused() -> None:
    """Nothing but our own errors; a network that is built is no larger than allowed, and describes itself."""
    texts = [json.dumps(network.spec()) for network in zoo()]
    built, messages = 0, [""]
    for seed in range(2000):
        draw = rng(seed)
        spec = json.loads(texts[seed % len(texts)])
        for _ in range(int(draw.integers(1, 4))):
            if draw.integers(20) and places(spec):
                try:
                    mutate(spec, draw)
                except (ValueError, RecursionError):  # what was copied is no JSON any more
                    continue
        try:
            network = build(spec, limit=50_000)
        except StridenetError as error:
            messages.append(str(error))
        else:
            assert size(network) <= 50_000
            assert build(network.spec(), limit=50_000).spec() == network.spec()
            assert to_json(network.spec())
            built += 1
    assert built > 100
    assert len(messages) > 1000
    assert not [message for message in messages if len(message) > 600 or "\n" in message or "\x1b" in message]
