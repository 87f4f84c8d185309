"""Networks rebuilt from their description, which may come from a file and be anything."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, StridenetError, UnsupportedModelError
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.rebuild import build
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.strictjson import from_json, to_json
from stridenet.zoo.models import lenet5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def size(network: Layer) -> int:
    return len(network.pack())


def down(body: Layer | None = None) -> Residual:
    """A block that halves the image, with a shortcut that does so too."""
    draw = rng(2)
    body = body or Sequential(Conv2d(2, 4, 3, stride=2, padding=1, rng=draw), BatchNorm2d(4), ReLU(), Dropout(0.5))
    return Residual(body, Conv2d(2, 4, 1, stride=2, bias=False, rng=draw))


def zoo() -> list[Layer]:
    draw = rng()
    return [
        lenet5(rng=rng()),
        Sequential(),
        ReLU(),
        Linear(3, 4, bias=False, rng=draw),
        Sequential(
            Conv2d(
                4, 6, (3, 2), stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 2), groups=2, bias=False, rng=draw
            ),
            *(Tanh(), Conv2d(6, 2, 3, padding="same", rng=draw), Sigmoid(), Dropout(0.25)),
            Sequential(MaxPool2d(3, stride=2, padding=(1, 0)), MaxPool2d((2, 1), ceil_mode=True), Flatten()),
        ),
        Sequential(
            *(BatchNorm2d(2, momentum=0.2, eps=1e-3), LeakyReLU(0.1), down(), Dropout2d(0.25)),
            AvgPool2d((3, 2), stride=1, padding=((1, 0), (0, 1)), ceil_mode=True, count_include_pad=False),
            Residual(Sequential(Residual(Softmax()), LogSoftmax())),
            *(ZeroPadShortcut(4, 5, stride=(2, 1)), GlobalAvgPool2d(), Flatten()),
            input_shape=(2, 9, 8),
        ),
        Sequential(
            *(TrainableSubsampling2d(3, (2, 1), rng=draw), TableConv2d(3, [[0, 2], [1]], (2, 3), rng=draw)),
            *(ScaledTanh(), TrainableSubsampling2d(2, rng=draw), Flatten(), RBF(8, 3, rng=draw)),
        ),
    ]


@pytest.mark.parametrize("i", range(7))
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
    drawn = [name for name in values if name.endswith("weight") and values[name].ndim > 1]
    assert not any(values[name].any() for name in drawn)
    assert [p.decay for _, p in twin.named_parameters()] == [p.decay for _, p in network.named_parameters()]


def test_a_rebuilt_network_predicts_as_the_first() -> None:
    network = lenet5(rng=rng()).eval()
    twin = build(from_json(to_json(network.spec()), "test"), limit=44_426).eval()
    assert isinstance(twin, Sequential)
    assert twin.input_shape == network.input_shape == (1, 28, 28)
    twin.load_state_dict(network.state_dict())
    x = rng(1).standard_normal((5, 1, 28, 28)).astype(np.float32)
    assert np.array_equal(twin.forward(x), network.forward(x))


def test_a_rebuilt_residual_network_predicts_as_the_first_in_the_state_it_has() -> None:
    network = zoo()[5]
    for i in range(3):
        network.forward(rng(i).standard_normal((4, 2, 9, 8)).astype(np.float32))
    twin = build(from_json(to_json(network.spec()), "test"), limit=1000).eval()
    twin.load_state_dict(network.state_dict())
    x = rng(9).standard_normal((5, 2, 9, 8)).astype(np.float32)
    assert np.array_equal(twin.forward(x), network.eval().forward(x))


def test_the_limit_counts_every_parameter() -> None:
    two = Sequential(Linear(1, 9, rng=rng()), Linear(9, 1, rng=rng()))
    for network in (
        lenet5(rng=rng()),
        Linear(1, 1000, rng=rng()),
        two,
        BatchNorm2d(50),
        zoo()[6],
        TrainableSubsampling2d(9, rng=rng()),
        RBF(9, 3, rng=rng()),
        Sequential(down(), BatchNorm2d(3)),
    ):
        count = sum(p.value.size for _, p in network.named_parameters())
        assert size(build(network.spec(), limit=count)) == size(network)
        with pytest.raises(UnsupportedModelError, match=r"expected at most \d+ parameters, got"):
            build(network.spec(), limit=count - 1)


CONV = {"kind": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 3}
LINEAR = {"kind": "Linear", "in_features": 2, "out_features": 3}
NORM = {"kind": "BatchNorm2d", "num_features": 3}
RELU = {"kind": "ReLU"}


def nested(levels: int) -> Any:
    spec: Any = {"kind": "ReLU"}
    for _ in range(levels):
        spec = {"kind": "Sequential", "layers": [spec], "input_shape": None}
    return spec


def nested_residuals(levels: int, way: str) -> Any:
    spec: Any = {"kind": "ReLU"}
    for _ in range(levels):
        spec = {"kind": "Residual", "body": {"kind": "ReLU"}, "shortcut": None} | {way: spec}
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
        ({"kind": "Linear", "in_features": 2}, "Linear: expected the key out_features as well"),
        ({**LINEAR, "rng": 3}, "Linear: .*'rng'"),
        ({**LINEAR, "init": "zeros"}, "Linear: .*'init'"),
        ({**LINEAR, 3: 4}, "Linear: expected one of .*, got 3"),
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
        (nested_residuals(12, "body"), "at most 12 layers in each other"),
        (nested_residuals(10_000, "body"), "at most 12 layers in each other"),
        (nested_residuals(10_000, "shortcut"), "at most 12 layers in each other"),
        ({"kind": "Residual"}, "Residual: expected a body and a shortcut, nothing else"),
        ({"kind": "Residual", "body": RELU}, "Residual: expected a body and a shortcut"),
        ({"kind": "Residual", "body": RELU, "shortcut": None, "scale": 2}, "Residual: expected a body and a shortcut"),
        ({"kind": "Residual", "body": None, "shortcut": None}, "as a table, got None"),
        ({"kind": "Residual", "body": [RELU], "shortcut": None}, "as a table, got"),
        ({"kind": "Residual", "body": RELU, "shortcut": False}, "as a table, got False"),
        ({"kind": "Residual", "body": RELU, "shortcut": {}}, "of a known kind, got None"),
        ({"kind": "_Pool2d", "kernel_size": 2}, "of a known kind"),
        ({"kind": "BatchNorm2d"}, "BatchNorm2d: expected num_features .* got None"),
        ({**NORM, "running_mean": [0, 0, 0]}, "BatchNorm2d: .*'running_mean'"),
        ({**NORM, "init": 3}, "BatchNorm2d: .*'init'"),
        ({**NORM, "num_features": 251}, "at most 1000 parameters"),
        ({**NORM, "num_features": 2**40}, "at most 1000 parameters"),
        (
            {"kind": "ZeroPadShortcut", "in_channels": 4, "out_channels": 3},
            "ZeroPadShortcut: expected out_channels >= 4",
        ),
        ({"kind": "ZeroPadShortcut", "in_channels": 4}, "ZeroPadShortcut: expected the key out_channels as well"),
        ({"kind": "GlobalAvgPool2d", "kernel_size": 2}, "GlobalAvgPool2d: .*'kernel_size'"),
        ({"kind": "AvgPool2d", "kernel_size": 2, "divisor": 3}, "AvgPool2d: .*'divisor'"),
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
        ({"kind": "Dropout2d", "p": -1}, r"Dropout2d: expected p .*\[0, 1\)"),
        ({"kind": "LeakyReLU", "negative_slope": "0.1"}, "LeakyReLU: expected negative_slope"),
        ({"kind": "AvgPool2d", "kernel_size": 2, "ceil_mode": 1}, "AvgPool2d: expected ceil_mode"),
        ({"kind": "AvgPool2d", "kernel_size": 2, "count_include_pad": None}, "AvgPool2d: expected count_include_pad"),
        ({"kind": "MaxPool2d", "kernel_size": 2, "ceil_mode": "no"}, "MaxPool2d: expected ceil_mode"),
        ({**NORM, "num_features": 3.0}, "BatchNorm2d: expected num_features"),
        ({**NORM, "num_features": 10**5000}, "BatchNorm2d: expected num_features"),
        ({**NORM, "num_features": deep()}, "BatchNorm2d: expected num_features"),
        ({**NORM, "momentum": 2}, "BatchNorm2d: expected momentum"),
        ({**NORM, "eps": 0}, "BatchNorm2d: expected eps"),
        (
            {"kind": "Sequential", "layers": [nested_residuals(1, "body")] * 2 + [NORM], "input_shape": [2, 4, 4]},
            r"^Sequential\[2\] BatchNorm2d\(3\): expected x",
        ),
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
        *({**NORM, "num_features": size} for size in (10**6, 2**31, 2**53)),
        {"kind": "Sequential", "layers": [{**NORM, "num_features": 200}] * 70_000},
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
    lambda draw: nested_residuals(int(draw.integers(14)), ["body", "shortcut"][draw.integers(2)]),
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
