"""The child of test_calls: random calls of operations, layers, losses, data sets and loaders, right and wrong."""

from __future__ import annotations

import inspect
import json
import os
import random
import resource
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from stridenet import Dataset, Loader, Sequential, StridenetError, functional as F
from stridenet.nn import losses, rebuild

# The arrays of each operation: a letter is a length of the case. A new operation is one line here; what it takes
# besides arrays is drawn by name from VALUES.
OPERATIONS: dict[str, dict[str, str]] = {
    "conv2d": {"x": "nchw", "weight": "kcrs", "bias": "k"},
    "max_pool2d": {"x": "nchw"},
    "avg_pool2d": {"x": "nchw"},
    "global_avg_pool2d": {"x": "nchw"},
    "batch_norm": {"x": "nchw", "weight": "c", "bias": "c"},
    "linear": {"x": "nd", "weight": "kd", "bias": "k"},
    "zero_pad_shortcut": {"x": "nchw"},
    "flatten": {"x": "nchw"},
    "relu": {"x": "nchw"},
    "leaky_relu": {"x": "nd"},
    "tanh": {"x": "nd"},
    "sigmoid": {"x": "nchw"},
    "softmax": {"x": "nk"},
    "log_softmax": {"x": "nk"},
    "dropout": {"x": "nchw"},
    "dropout2d": {"x": "nchw"},
    "cross_entropy": {"scores": "nk", "weights": "n"},
    "hinge": {"scores": "nk", "weights": "n"},
    "map_criterion": {"scores": "nk", "weights": "n"},
    "mse": {"scores": "nk", "weights": "n"},
    "rbf_mse": {"scores": "nk", "weights": "n"},
}
LAYERS = rebuild.KINDS
BACKWARD = {"dropout2d": "dropout_backward", "global_avg_pool2d": "avg_pool2d_backward"}

ODD: list[Any] = [
    0, -1, 2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**62, 2**63, 2**64, 10**30, True, False, None, 0.5, 1.5, -0.0, 1e308,
    float("nan"), float("inf"), "same", "a", "", b"a", (1,), (1, 2), (1, 2, 3), (0, 0), (-1, 1), [1, 1], (2**62, 2**62),
    ((0, 1), (1, 0)), ((1, 1),), ((-1, 0), (0, 0)), {}, [], np.int64(2), np.float32(0.5), np.array(2), np.zeros(3), 1j,
]  # fmt: skip
WRONG_TYPES = ["f2", "i4", "i8", "u1", "?", "c8", ">f4", "U1", "O", "M8[s]"]


class Case:
    """The lengths of one case, and what is drawn for it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wrong = rng.random() < 0.5  # half of the cases have nothing odd on purpose
        self.lengths = {letter: rng.randint(1, 5) for letter in "nckrsd"}
        self.lengths |= {letter: rng.randint(3, 8) for letter in "hw"}
        self.dtype = rng.choice(("f4", "f8"))
        if rng.random() < 0.05:
            self.lengths["n"] = 0

    def odd(self, share: float = 0.15) -> bool:
        return self.wrong and self.rng.random() < share

    def shape(self, letters: str) -> tuple[int, ...]:
        if self.odd():
            return tuple(self.rng.choice((0, 1, 2, 3, 7)) for _ in range(self.rng.randrange(6)))
        return tuple(self.lengths[letter] for letter in letters)

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Of the shape, in some memory order, of a wrong type or with NaN now and then."""
        x = np.full([2 * n for n in shape], np.nan, self.dtype)[(..., *(slice(None, None, 2) for _ in shape))]
        x[...] = np.arange(x.size).reshape(shape) % 7 / 8 - 0.25
        if self.odd(0.1) and x.size:
            x.flat[self.rng.randrange(x.size)] = self.rng.choice((np.nan, np.inf, -np.inf, 1e30))
        if self.odd(0.1):
            dtype = self.rng.choice(WRONG_TYPES)
            return np.zeros(shape, dtype) if dtype in ("U1", "O", "M8[s]") else np.nan_to_num(x).astype(dtype)
        match self.rng.randrange(5):
            case 0:
                return x
            case 1:
                return np.asfortranarray(x)
            case 2:
                return np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x
            case 3:
                return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0) if x.ndim else x
            case _:
                return np.array(x)

    def labels(self) -> np.ndarray:
        n, k = self.lengths["n"], self.lengths["k"]
        if self.odd():
            return self.array(self.shape("n"))
        labels = np.arange(n) % k
        if self.odd(0.1) and n:
            labels[self.rng.randrange(n)] = self.rng.choice((-1, k, 2**31, -(2**62)))
        return labels.astype(self.rng.choice(("i8", "i4", "u1", "i8")), casting="unsafe")

    def value(self, name: str) -> Any:
        if name in OBJECTS or not self.odd():
            return VALUES[name](self)
        odd = self.rng.choice(ODD)
        return -1 if name in SIZES and is_large(odd) else odd

    def arguments(self, make: Any, shapes: dict[str, str]) -> dict[str, Any]:
        """Arguments for a signature, those with a default now and then."""
        found: dict[str, Any] = {}
        for name, parameter in inspect.signature(make).parameters.items():
            required = parameter.default is parameter.empty
            if not required and (name in UNTOUCHED or self.rng.random() < 0.5):
                continue
            if name in shapes:
                none = not required and self.rng.random() < 0.2
                found[name] = None if none else self.array(self.shape(shapes[name]))
            else:
                found[name] = self.value(name)
        return found


# Where a size of gibibytes is allowed, and would be taken.
SIZES = {"channels", "in_channels", "out_channels", "num_features", "in_features", "out_features", "padding"}


def is_large(value: Any) -> bool:
    return type(value) is int and 1000 < value <= 2**53


UNTOUCHED = {"comm", "init"}
OBJECTS = {"rng", "targets", "statistics"}  # of the right Python type always, as the arrays are
VALUES: dict[str, Any] = {
    "kernel_size": lambda c: c.rng.choice((1, 2, 3, (1, 2), (3, 2))),
    "stride": lambda c: c.rng.choice((1, 2, 5, (1, 2), None)),
    "padding": lambda c: c.rng.choice((0, 1, (0, 1), ((1, 0), (0, 1)), "same")),
    "dilation": lambda c: c.rng.choice((1, 2, (1, 3))),
    "groups": lambda c: c.rng.choice((1, 1, c.lengths["c"], 2)),
    "ceil_mode": lambda c: c.rng.random() < 0.5,
    "count_include_pad": lambda c: c.rng.random() < 0.5,
    "p": lambda c: c.rng.choice((0, 0.5, 0.9)),
    "rng": lambda c: np.random.default_rng(0),
    "negative_slope": lambda c: c.rng.choice((0.0, 0.01, 1.0)),
    "momentum": lambda c: c.rng.choice((0.0, 0.1, 1.0)),
    "eps": lambda c: 1e-5,
    "statistics": lambda c: c.rng.choice((None, (c.array(c.shape("c")), np.ones(c.shape("c"), c.dtype)))),
    "bias": lambda c: c.rng.random() < 0.5,
    "in_channels": lambda c: c.lengths["c"],
    "out_channels": lambda c: c.lengths["k"],
    "channels": lambda c: c.lengths["c"],
    "table": lambda c: c.rng.choice(([[0]], [[*range(c.lengths["c"])], [0]], ((0, 1), (1,)), [[1, 0]], [0], [[]])),
    "j": lambda c: c.rng.choice((0.1, 0.0, 10.0)),
    "num_features": lambda c: c.lengths["c"],
    "in_features": lambda c: c.lengths["d"],
    "out_features": lambda c: c.lengths["k"],
    "label_smoothing": lambda c: 0.1,
    "margin": lambda c: 1.0,
    "targets": lambda c: c.labels(),
    "classes": lambda c: tuple(str(i) for i in range(c.lengths["k"])),
    "batch_size": lambda c: c.rng.randint(1, 6),
    "shuffle": lambda c: c.rng.random() < 0.5,
    "drop_last": lambda c: c.rng.random() < 0.5,
    "seed": lambda c: c.rng.randrange(3),
    "part": lambda c: c.rng.choice((1, 2, 0.5)),
    "small": lambda c: c.rng.randrange(3),
}


def call_operation(case: Case) -> None:
    name = case.rng.choice(sorted(OPERATIONS))
    function = getattr(losses, name, None) or getattr(F, name)
    y, saved = function(**case.arguments(function, OPERATIONS[name]))
    backward = getattr(F, BACKWARD.get(name, f"{name}_backward"), None)
    if backward is not None:
        backward(case.array(case.shape("nchw") if case.odd() else y.shape), saved)


def call_layer(case: Case) -> None:
    kinds = sorted(LAYERS)
    layers = [_layer(case, case.rng.choice(kinds)) for _ in range(case.rng.choice((1, 1, 2)))]
    layer = layers[0] if len(layers) == 1 else Sequential(*layers)
    layer.train(case.rng.random() < 0.7)
    repr(layer)
    shape = case.shape(case.rng.choice(("nchw", "nd", "nk")))
    rebuild.build(json.loads(json.dumps(layer.spec())), limit=10_000)
    if case.rng.random() < 0.5:
        layer.output_shape(shape[1:])
    y = layer.forward(case.array(shape))
    layer.backward(case.array(case.shape("nchw") if case.odd() else y.shape))


def _layer(case: Case, kind: str) -> Any:
    return LAYERS[kind](**case.arguments(LAYERS[kind], {}))


def call_data(case: Case) -> None:
    images = case.array(case.shape("nchw"))
    if case.rng.random() < 0.7 and images.dtype.kind in "fiub":
        images = np.nan_to_num(images).astype(np.uint8) if case.rng.random() < 0.5 else np.abs(images)
    weights = None if case.rng.random() < 0.7 else case.array(case.shape("n"))
    targets = case.rng.choice(ODD) if case.odd(0.05) else case.labels()
    data = Dataset(images, targets, case.value("classes"), weights)
    match case.rng.randrange(4):
        case 0:
            data.split(case.value("part"), seed=case.value("seed"))
        case 1:
            data.subset(case.rng.choice(([0], [-1], [99], [0.5], [], [True], [[0]], np.array([0], "u1"), "0", [2**64])))
        case 2:
            data.weigh(case.rng.choice(("balanced", "b", [1] * len(data.classes), [0, 1], [-1], [np.nan], None, 3)))
        case _:
            names = ("batch_size", "shuffle", "drop_last", "seed")
            loader = Loader(data, **{name: case.value(name) for name in names})
            for x, y, w in loader.epoch(case.value("small"), start=case.value("small")):
                assert len(x) == len(y) == (len(y) if w is None else len(w))


def main(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """What `count` calls did; the file `case` says which one was the last."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    calls = (call_operation, call_operation, call_layer, call_layer, call_data)
    last = os.open(folder / "case", os.O_WRONLY | os.O_CREAT)
    for i in range(count):
        os.pwrite(last, b"%12d" % i, 0)
        case = Case(random.Random(f"{seed} {i}"))
        call = calls[i % len(calls)]
        try:
            call(case)
            outcomes["done" if not case.wrong else "done, odd"] += 1
        except StridenetError as error:
            outcomes[type(error).__name__] += 1
            if not (str(error).isprintable() and len(str(error)) < 1000):
                failures.append(f"case {i}: {call.__name__}: {str(error)[:300]!r}")
        except Exception as error:  # noqa: BLE001
            failures.append(f"case {i}: {call.__name__}: {type(error).__name__}: {error!s:.300}")
        if len(failures) == 20:
            break
    return {"outcomes": outcomes, "failures": failures}


if __name__ == "__main__":
    count, seed, folder = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")  # numbers overflow where a case asks for it
    np.seterr(all="ignore")
    sys.stdout.write(json.dumps(main(int(count), int(seed), Path(folder))))
