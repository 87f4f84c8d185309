"""What a network costs, layer by layer: numbers that follow from its shapes alone, no forward needed.

The layers do not know of this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stridenet.nn.classic import RBF, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Activation, Conv2d, Flatten, Linear
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Pair, Shape, integer, pair, product


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer.

    Padding counts as if it were image: each output of a convolution sees its whole window.

    Attributes:
        name: its place in the network, as in the names of its parameters: "0", "1", ...
        layer: its repr.
        output_shape: without N.
        parameters: trainable numbers.
        fixed: numbers of its state that are not trained: codes, running statistics, what is frozen.
        connections: for one image, as LeCun et al. 1998 count them: an output unit has one to each of its inputs and
            one to its bias. A unit of a pooling has one to each pixel of its window; other layers have none.
        macs: multiplications, each with its addition, in the forward of one image; adding a bias is none. A product
            with itself of a difference from a code is one.
        receptive_field: the (rows, columns) of the image that one output unit depends on, at most all of them; behind a
            Linear or a global pooling just that. None if the input is no image, and behind a layer of an unknown kind.
        activation_bytes: of the output for the batch.
    """

    name: str
    layer: str
    output_shape: Shape
    parameters: int
    fixed: int
    connections: int
    macs: int
    receptive_field: Pair | None
    activation_bytes: int


class Total(NamedTuple):
    """The sums over all layers; see `LayerCost`."""

    parameters: int
    fixed: int
    connections: int
    macs: int
    activation_bytes: int


def cost(
    network: Layer, input_shape: Shape, *, batch_size: int = 1, dtype: npt.DTypeLike = np.float32
) -> list[LayerCost]:
    """The cost of each layer of `network`, those of a Sequential inside it too, in the order of the forward.

    A layer of an unknown kind counts its parameters, and neither connections nor MACs.

    Args:
        network: a Sequential, or one layer.
        input_shape: of one image, (C, H, W), or (D,).
        batch_size: for the activations; the other numbers are for one image.
        dtype: of the activations.

    Raises:
        ShapeError: the network does not take such an input.
        ConfigError: batch_size is not positive.

    >>> rng = np.random.default_rng(0)
    >>> (c1,) = cost(Conv2d(1, 6, 5, rng=rng), (1, 32, 32))  # C1 of LeNet-5
    >>> c1.output_shape, c1.parameters, c1.connections, c1.receptive_field
    ((6, 28, 28), 156, 122304, (5, 5))
    """
    bytes_per_feature = integer("cost", "batch_size", batch_size) * np.dtype(dtype).itemsize
    network.output_shape(input_shape)  # whatever is wrong, it says best
    image = (input_shape[1], input_shape[2]) if len(input_shape) == 3 else None
    field = None if image is None else _Field((1, 1), (1, 1))
    rows, _ = _rows(network, "", _Place(input_shape, field, image))
    return [replace(row, activation_bytes=product(row.output_shape) * bytes_per_feature) for row in rows]


def total(costs: Iterable[LayerCost]) -> Total:
    """The cost of all layers together."""
    layers = list(costs)
    return Total(*(sum(getattr(layer, field) for layer in layers) for field in Total._fields))


class _Place(NamedTuple):
    """Where an image has come: its shape, what a unit there sees, and the image's size; None if there is none."""

    shape: Shape
    field: _Field | None
    image: Pair | None


def _rows(layer: Layer, name: str, at: _Place) -> tuple[list[LayerCost], _Place]:
    """The rows of `layer` and of those inside it, and the place behind it."""
    behind = at._replace(shape=layer.output_shape(at.shape))
    if isinstance(layer, Sequential):
        rows: list[LayerCost] = []
        for inside, child in layer.children():
            more, at = _rows(child, f"{name}.{inside}" if name else inside, at)
            rows += more
        return rows, at
    if isinstance(layer, Residual):
        ways = [_rows(way, f"{name}.{inside}" if name else inside, at) for inside, way in layer.children()]
        ends = [end.field for _, end in ways] + ([] if layer.shortcut else [at.field])
        behind = behind._replace(field=_wider(*ends))
        own = _row("Residual", name, behind, (0, 0), (0, 0))  # the sum of both ways
        return [row for rows, _ in ways for row in rows] + [own], behind
    sizes = [(p.value.size, p.trainable) for _, p in layer.named_parameters()]
    numbers = sum(n for n, trained in sizes if trained), sum(n for n, trained in sizes if not trained)
    known = None if at.field is None or at.image is None else _behind(layer, at.field, at.image)
    behind = behind._replace(field=known)
    return [_row(repr(layer), name, behind, numbers, _work(layer, at.shape))], behind


def _row(layer: str, name: str, at: _Place, numbers: tuple[int, int], work: tuple[int, int]) -> LayerCost:
    size = None
    if at.field is not None and at.image is not None:  # padding is nothing to see
        size = min(at.field.size[0], at.image[0]), min(at.field.size[1], at.image[1])
    return LayerCost(name, layer, at.shape, *numbers, *work, size, 0)


def _wider(one: _Field | None, other: _Field | None) -> _Field | None:
    """What two ways see that end in one unit."""
    if one is None or other is None:
        return None
    return _Field((max(one.size[0], other.size[0]), max(one.size[1], other.size[1])), one.step)


def _work(layer: Layer, shape: Shape) -> tuple[int, int]:
    """The connections and the MACs of one image of `shape`."""
    units = product(layer.output_shape(shape))
    if isinstance(layer, Conv2d | Linear):
        fan_in = product(layer.weight.value.shape[1:])  # C / groups * R * S, or D
        return units * (fan_in + (layer.bias is not None)), units * fan_in
    if isinstance(layer, TableConv2d):
        biases, places = layer.out_channels, units // layer.out_channels
        return places * (layer.weight.value.size + biases), places * layer.weight.value.size
    if isinstance(layer, TrainableSubsampling2d):
        return units * (layer.area + 1), units
    if isinstance(layer, RBF):
        return layer.codes.value.size, layer.codes.value.size
    if isinstance(layer, MaxPool2d | AvgPool2d):
        return units * product(pair("cost", "kernel_size", layer.kernel_size)), 0
    if isinstance(layer, GlobalAvgPool2d):
        return product(shape), 0
    return 0, 0


class _Field(NamedTuple):
    """What one unit sees, and how far apart two neighbours look, in pixels of the image: (rows, columns)."""

    size: Pair
    step: Pair


def _behind(layer: Layer, field: _Field, image: Pair) -> _Field | None:
    """The receptive field of the layer's units, from that of its inputs.

    A window of k inputs, d apart, adds d * (k - 1) steps to the size; its stride multiplies the step. See Araujo,
    Norris and Sim 2019, *Computing Receptive Fields of Convolutional Neural Networks*.
    """
    if isinstance(layer, Activation | BatchNorm2d | Dropout | Dropout2d | Flatten):
        return field
    if isinstance(layer, GlobalAvgPool2d | Linear | RBF):
        return _Field(image, image)
    if isinstance(layer, ZeroPadShortcut):
        rows, columns = pair("cost", "stride", layer.stride)
        return _Field(field.size, (field.step[0] * rows, field.step[1] * columns))
    if not isinstance(layer, Conv2d | TableConv2d | MaxPool2d | AvgPool2d | TrainableSubsampling2d):
        return None
    kernel = pair("cost", "kernel_size", layer.kernel_size)
    step = getattr(layer, "stride", 1 if isinstance(layer, TableConv2d) else None)  # of a pooling None is the kernel
    stride = kernel if step is None else pair("cost", "stride", step)
    dilation = pair("cost", "dilation", getattr(layer, "dilation", 1))
    rows, columns = (field.size[i] + dilation[i] * (kernel[i] - 1) * field.step[i] for i in (0, 1))
    return _Field((rows, columns), (field.step[0] * stride[0], field.step[1] * stride[1]))
