"""The networks that recipes name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stridenet.layout import Array
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.init import fan_in_uniform, normal
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, choice, fraction, integer
from stridenet.tables import construct
from stridenet.zoo.bitmaps import digits

# The maps of S2 that each map of C3 sees, ten times each; the table of the paper, read column by column.
C3 = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"


def lenet5(
    *, classes: int = 10, channels: int = 1, input_size: int = 28, dropout: float = 0.0, rng: np.random.Generator
) -> Sequential:
    """LeNet-5 as it is built today: ReLU and max pooling instead of squashed subsampling, no RBF output.

    28x28 digits give 44 426 parameters, 32x32 digits (28 padded by 2, the size of 1998) give 61 706. The original is
    LeCun, Bottou, Bengio and Haffner 1998, *Gradient-Based Learning Applied to Document Recognition*. With `dropout`
    that share of the outputs of the two hidden dense layers is dropped in training, as in report S0.

    >>> len(lenet5(rng=np.random.default_rng(0)).pack())
    44426
    """
    size = integer("lenet5", "input_size", input_size, minimum=16)
    side = ((size - 4) // 2 - 4) // 2  # rows of the last map: 4 for 28, 5 for 32
    share = fraction("lenet5", "dropout", dropout)
    drop = [Dropout(share) for _ in range(2 if share else 0)]
    return Sequential(
        Conv2d(channels, 6, 5, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, 120, rng=rng),
        ReLU(),
        *drop[:1],
        Linear(120, 84, rng=rng),
        ReLU(),
        *drop[1:],
        Linear(84, classes, rng=rng),
        input_shape=(channels, size, size),
    )


def pynet(*, classes: int = 10, rng: np.random.Generator) -> Sequential:
    """LeNet-5 for digits of 32x32 pixels, every weight and every bias 0.01 N(0, 1) at the start: 61 706 parameters.

    The network of report S2 (docs/systems/s2.md). Its third convolution is as large as its maps, and a ReLU follows it.

    >>> len(pynet(rng=np.random.default_rng(0)).pack())
    61706
    """
    init = normal(0.01)
    network = Sequential(
        Conv2d(1, 6, 5, init=init, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, init=init, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Conv2d(16, 120, 5, init=init, rng=rng),
        ReLU(),
        Flatten(),
        Linear(120, 84, init=init, rng=rng),
        ReLU(),
        Linear(84, classes, init=init, rng=rng),
        input_shape=(1, 32, 32),
    )
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.value[...] = init(rng, parameter.value.shape)
    return network


def lenet5_1998(*, rng: np.random.Generator) -> Sequential:
    """The LeNet-5 of 1998, for digits of 32x32 pixels: 60 000 parameters, 340 908 connections.

    The third layer sees the maps of the second by a table, poolings have a coefficient and a bias, every layer is
    squashed, and the scores are minus the squared distances from ten bitmaps, 840 numbers that are not trained. The
    input is meant to be -0.1 where there is nothing and 1.175 where there is ink, the loss to be `map_criterion`.
    Weights, coefficients and biases start uniform in +-2.4 / fan_in, the inputs of a unit, its bias not counted: four
    for a pooling. LeCun, Bottou, Bengio and Haffner 1998, *Gradient-Based Learning Applied to Document Recognition*,
    section II.B.

    >>> len(lenet5_1998(rng=np.random.default_rng(0)).pack())
    60000
    """
    init, table = fan_in_uniform, [[int(number) for number in maps] for maps in C3.split()]
    parts: list[tuple[Layer, list[int]]] = [  # with the inputs of the units of each map
        (Conv2d(1, 6, 5, init=init, rng=rng), [25]),
        (TrainableSubsampling2d(6, rng=rng), [4]),
        (TableConv2d(6, table, 5, rng=rng), [25 * len(maps) for maps in table]),
        (TrainableSubsampling2d(16, rng=rng), [4]),
        (Conv2d(16, 120, 5, init=init, rng=rng), [16 * 25]),
        (Linear(120, 84, init=init, rng=rng), [120]),
    ]
    layers: list[Layer] = []
    for layer, fan_in in parts:
        bias = dict(layer.named_parameters())["bias"].value
        bias[...] = rng.uniform(-1, 1, bias.shape) * 2.4 / np.array(fan_in)
        layers += [layer, ScaledTanh()]
    layers.insert(-2, Flatten())
    return Sequential(*layers, RBF(84, 10, init=_bitmaps, rng=rng), input_shape=(1, 32, 32))


def _bitmaps(rng: np.random.Generator, shape: Shape) -> Array:
    """The codes of the ten digits; draws nothing."""
    del rng
    return digits().reshape(shape)


def lenet5_batchnorm(
    *, classes: int = 10, channels: int = 1, input_size: int = 28, rng: np.random.Generator
) -> Sequential:
    """LeNet-5 with batch normalisation between pooling and ReLU in its first two blocks.

    28x28 digits give 61 750 parameters; the last convolution is then as large as its maps, 5x5. No ReLU follows it.
    The network of report S3 (docs/systems/s3.md); batch normalisation is Ioffe and Szegedy 2015.

    >>> len(lenet5_batchnorm(rng=np.random.default_rng(0)).pack())
    61750
    """
    size = integer("lenet5_batchnorm", "input_size", input_size, minimum=28)
    side = (size // 2 - 4) // 2 - 4  # rows of the last map: 1 for 28, 2 for 32
    return Sequential(
        Conv2d(channels, 6, 5, padding="same", rng=rng),
        MaxPool2d(2),
        BatchNorm2d(6),
        ReLU(),
        Conv2d(6, 16, 5, rng=rng),
        MaxPool2d(2),
        BatchNorm2d(16),
        ReLU(),
        Conv2d(16, 120, 5, rng=rng),
        Flatten(),
        Linear(120 * side * side, 84, rng=rng),
        ReLU(),
        Linear(84, classes, rng=rng),
        input_shape=(channels, size, size),
    )


def cifar_convnet(*, classes: int = 10, rng: np.random.Generator) -> Sequential:
    """One large convolution and two dense layers, for the 3x32x32 images of CIFAR-10: 825 046 parameters.

    The network of report S4 (docs/systems/s4.md). Weights start normal with a standard deviation of 1e-3, biases at 0.

    >>> len(cifar_convnet(rng=np.random.default_rng(0)).pack())
    825046
    """
    init = normal(1e-3)
    return Sequential(
        Conv2d(3, 32, 7, padding=3, init=init, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(32 * 16 * 16, 100, init=init, rng=rng),
        ReLU(),
        Linear(100, classes, init=init, rng=rng),
        input_shape=(3, 32, 32),
    )


def resnet20(*, classes: int = 10, rng: np.random.Generator) -> Sequential:
    """The residual network of 20 layers for the 3x32x32 images of CIFAR-10: 269 722 parameters.

    Three stages of three blocks, with 16, 32 and 64 channels; the first block of the second and of the third halves
    the image, beside a shortcut without parameters. Convolutions have no bias, batch normalisation follows each.
    He, Zhang, Ren and Sun 2016, *Deep Residual Learning for Image Recognition*, section 4.2, with option A.

    >>> len(resnet20(rng=np.random.default_rng(0)).pack())
    269722
    """
    layers: list[Layer] = [Conv2d(3, 16, 3, padding=1, bias=False, rng=rng), BatchNorm2d(16), ReLU()]
    for before, channels in (16, 16), (16, 32), (32, 64):
        for in_channels in (before, channels, channels):
            layers += _block(in_channels, channels, rng)
    layers += [GlobalAvgPool2d(), Flatten(), Linear(64, classes, rng=rng)]
    return Sequential(*layers, input_shape=(3, 32, 32))


def _block(in_channels: int, channels: int, rng: np.random.Generator) -> list[Layer]:
    """Two convolutions beside a shortcut, and the ReLU behind their sum; more channels come with half the image."""
    stride = 1 if in_channels == channels else 2
    body = Sequential(
        Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False, rng=rng),
        BatchNorm2d(channels),
        ReLU(),
        Conv2d(channels, channels, 3, padding=1, bias=False, rng=rng),
        BatchNorm2d(channels),
    )
    shortcut = None if stride == 1 else ZeroPadShortcut(in_channels, channels, stride=stride)
    return [Residual(body, shortcut), ReLU()]


MODELS: dict[str, Callable[..., Sequential]] = {
    maker.__name__: maker for maker in (lenet5, lenet5_1998, pynet, lenet5_batchnorm, cifar_convnet, resnet20)
}


def fitting(image_shape: Shape, classes: int) -> dict[str, int]:
    """The arguments that make a network fit images (C, H, W) and so many classes; rectangles leave out the size."""
    C, H, W = image_shape
    return {"classes": classes, "channels": C} | ({"input_size": H} if H == W else {})


def make(
    name: str, args: Mapping[str, Any], *, rng: np.random.Generator, fitting: Mapping[str, int] | None = None
) -> Sequential:
    """The network called `name` with arguments `args`; `fitting` has those of the data, for what `args` leaves out.

    Raises:
        ConfigError: there is no such network or argument.
    """
    known = inspect.signature(MODELS[choice("recipe.model.name", name, MODELS)]).parameters
    taken = {key: value for key, value in (fitting or {}).items() if key in known}
    return construct("recipe.model", MODELS, name, taken | dict(args), rng=rng)
