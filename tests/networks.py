"""Networks for tests: every kind of layer in some geometries, and networks at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stridenet.errors import ConfigError
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape


def lively(network: Layer, seed: int = 0) -> Layer:
    """The network with random numbers in every parameter: no bias is 0, no variance 1."""
    rng = np.random.default_rng(seed)
    for name, parameter in network.named_parameters():
        low = 0.5 if name.endswith("running_var") else -0.5
        parameter.value[...] = rng.uniform(low, low + 1, parameter.value.shape)
    return network


# Every kind of layer, for images of 3 x 11 x 10

RNG = np.random.default_rng(0)
TABLE = [[0, 1], [1, 2], [0, 1, 2], [2]]
CASES: dict[str, list[Layer]] = {
    "Conv2d": [
        Conv2d(3, 4, 3, rng=RNG),
        Conv2d(3, 4, (2, 3), stride=(2, 1), padding=((1, 0), (2, 1)), bias=False, rng=RNG),
        Conv2d(3, 6, 3, padding="same", dilation=2, groups=3, rng=RNG),
        Conv2d(3, 4, (4, 3), stride=(3, 2), padding="same", rng=RNG),
    ],
    "MaxPool2d": [
        MaxPool2d(2),
        MaxPool2d((3, 2), stride=(2, 3), padding=((1, 0), (1, 1)), ceil_mode=True),
        MaxPool2d(3, stride=2, padding="same"),
    ],
    "AvgPool2d": [
        AvgPool2d(2),
        *(
            AvgPool2d((3, 2), stride=(2, 3), padding=((1, 0), (1, 1)), ceil_mode=True, count_include_pad=count)
            for count in (True, False)
        ),
        AvgPool2d(3, stride=2, padding="same", count_include_pad=False),
    ],
    "ZeroPadShortcut": [ZeroPadShortcut(3, 5, stride=(2, 3)), ZeroPadShortcut(3, 3)],
    "TableConv2d": [TableConv2d(3, TABLE, (3, 2), rng=RNG)],
    "TrainableSubsampling2d": [TrainableSubsampling2d(3, (2, 3), rng=RNG)],
    "BatchNorm2d": [BatchNorm2d(3, eps=0.1)],
    "LeakyReLU": [LeakyReLU(0.2)],
    "Dropout": [Dropout(0.5)],
    "Dropout2d": [Dropout2d(0.5)],
    "RBF": [Sequential(Flatten(), RBF(3 * 11 * 10, 4, rng=RNG))],
    "Linear": [Sequential(Flatten(), Linear(3 * 11 * 10, 4, bias=False, rng=RNG))],
    "Residual": [
        Residual(Sequential(Conv2d(3, 4, 1, rng=RNG), Tanh()), Conv2d(3, 4, 1, rng=RNG)),
        Residual(Sequential(ReLU(), Residual(Sigmoid()))),
    ],
    **{
        kind.__name__: [kind()]
        for kind in (Flatten, GlobalAvgPool2d, LogSoftmax, ReLU, ScaledTanh, Sigmoid, Softmax, Tanh)
    },
}


# Networks at random

ELEMENTWISE = (ReLU, LeakyReLU, Tanh, Sigmoid, ScaledTanh, Softmax, LogSoftmax, Dropout, Dropout2d)

Rng = np.random.Generator


def random_network(seed: int) -> Sequential:
    """Images, then for most networks features; every parameter and every running statistic is random."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 4)), int(rng.integers(5, 14)), int(rng.integers(5, 14))
    first, layers = shape, list[Layer]()
    for _ in range(rng.integers(2, 7)):
        layer = random_layer(rng, shape)
        shape = layer.output_shape(shape)
        layers.append(layer)
    if rng.random() < 0.8:
        layers += [Flatten(), *random_head(rng, int(np.prod(shape)))]
    network = Sequential(*layers, input_shape=first).eval()
    for name, parameter in network.named_parameters():
        if name.endswith(("bias", "running_mean", "running_var")):
            low = 0.1 if name.endswith("var") else -1.0
            parameter.value[...] = rng.uniform(low, 1.0, parameter.value.shape)
    return network


def random_layer(rng: Rng, shape: Shape) -> Layer:
    """A layer that takes images of `shape`, by trial."""
    draws = (random_conv, random_pool, random_elementwise, random_classic, random_shortcut)
    while True:
        try:
            layer = draws[rng.choice(5, p=(0.3, 0.25, 0.2, 0.1, 0.15))](rng, shape)
            layer.output_shape(shape)
        except ConfigError:  # ShapeError is one
            continue
        return layer


def random_padding(rng: Rng) -> Any:
    top, bottom, left, right = (int(n) for n in rng.integers(0, 3, 4))
    return [0, "same", top, (top, left), ((top, bottom), (left, right))][rng.integers(5)]


def pair(rng: Rng, high: int) -> tuple[int, int]:
    return int(rng.integers(1, high)), int(rng.integers(1, high))


def random_conv(rng: Rng, shape: Shape) -> Layer:
    groups = int(rng.choice([n for n in (1, 2, 3) if shape[0] % n == 0]))
    return Conv2d(
        shape[0],
        groups * int(rng.integers(1, 4)),
        pair(rng, 5),
        stride=pair(rng, 4),
        padding=random_padding(rng),
        dilation=pair(rng, 3),
        groups=groups,
        bias=bool(rng.random() < 0.7),
        rng=rng,
    )


def random_pool(rng: Rng, shape: Shape) -> Layer:
    if rng.random() < 0.1:
        return GlobalAvgPool2d()
    words: dict[str, Any] = {"padding": random_padding(rng), "ceil_mode": bool(rng.random() < 0.6)}
    if rng.random() < 0.7:
        words["stride"] = pair(rng, 4)
    if rng.random() < 0.4:
        return MaxPool2d(pair(rng, 4), **words)
    return AvgPool2d(pair(rng, 4), count_include_pad=bool(rng.random() < 0.6), **words)


def random_elementwise(rng: Rng, shape: Shape) -> Layer:
    if rng.random() < 0.3:
        return BatchNorm2d(shape[0], eps=float(rng.choice([1e-5, 1e-3])))
    return ELEMENTWISE[rng.integers(len(ELEMENTWISE))]()


def random_classic(rng: Rng, shape: Shape) -> Layer:
    if rng.random() < 0.5:
        return TrainableSubsampling2d(shape[0], pair(rng, 3), rng=rng)
    maps = [sorted(rng.choice(shape[0], rng.integers(1, shape[0] + 1), replace=False).tolist()) for _ in range(3)]
    return TableConv2d(shape[0], maps, pair(rng, 4), rng=rng)


def random_shortcut(rng: Rng, shape: Shape) -> Layer:
    C, K, stride = shape[0], shape[0] + int(rng.integers(0, 3)), pair(rng, 4)
    if rng.random() < 0.3:
        return Residual(Sequential(BatchNorm2d(C), ReLU(), Conv2d(C, C, 3, padding=1, rng=rng)))
    body = Sequential(Conv2d(C, K, 3, stride=stride, padding="same", bias=False, rng=rng), BatchNorm2d(K))
    if rng.random() < 0.5:
        return Residual(body, Conv2d(C, K, 1, stride=stride, rng=rng))
    return Residual(body, ZeroPadShortcut(C, K, stride=stride))


def random_head(rng: Rng, features: int) -> Iterator[Layer]:
    yield Linear(features, 9, bias=bool(rng.random() < 0.5), rng=rng)
    yield ELEMENTWISE[rng.integers(len(ELEMENTWISE))]()
    yield RBF(9, 4, rng=rng) if rng.random() < 0.3 else Linear(9, 4, rng=rng)
