"""What a network costs, layer by layer: numbers that follow from its shapes alone, no forward needed.

The layers do not know of this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stridenet.nn.layer import Layer
from stridenet.nn.layers import Activation, Conv2d, Flatten, Linear
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential
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
        connections: for one image, as LeCun et al. 1998 count them: an output unit has one to each of its inputs and
            one to its bias. A unit of a pooling has one to each pixel of its window; other layers have none.
        macs: multiplications, each with its addition, in the forward of one image; adding a bias is none.
        receptive_field: the (rows, columns) of the image that one output unit depends on; behind a Linear or a
            global pooling the whole image. None if the input is no image, and behind a layer of an unknown kind.
        activation_bytes: of the output for the batch.
    """

    name: str
    layer: str
    output_shape: Shape
    parameters: int
    connections: int
    macs: int
    receptive_field: Pair | None
    activation_bytes: int


class Total(NamedTuple):
    """The sums over all layers; see `LayerCost`."""

    parameters: int
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
    costs: list[LayerCost] = []
    shape = input_shape
    for name, layer in _leaves(network, ""):
        parameters = sum(p.value.size for _, p in layer.named_parameters() if p.trainable)
        connections, macs, field = _through(layer, shape, field, image)
        shape = layer.output_shape(shape)
        size = None if field is None else field.size
        costs.append(
            LayerCost(name, repr(layer), shape, parameters, connections, macs, size, product(shape) * bytes_per_feature)
        )
    return costs


def total(costs: Iterable[LayerCost]) -> Total:
    """The cost of all layers together."""
    layers = list(costs)
    return Total(*(sum(getattr(layer, field) for layer in layers) for field in Total._fields))


def _leaves(layer: Layer, name: str) -> Iterator[tuple[str, Layer]]:
    """The layers that compute, each with its place; a Sequential inside a Sequential is opened."""
    if not isinstance(layer, Sequential):
        yield name, layer
        return
    for inside, child in layer.children():
        yield from _leaves(child, f"{name}.{inside}" if name else inside)


def _through(layer: Layer, shape: Shape, field: _Field | None, image: Pair | None) -> tuple[int, int, _Field | None]:
    """The connections and MACs of one image of `shape` in `layer`, and the field behind it; inside a Residual too."""
    if isinstance(layer, Residual):
        ways = [_through(way, shape, field, image) for way in (layer.body, layer.shortcut) if way is not None]
        connections, macs = sum(way[0] for way in ways), sum(way[1] for way in ways)
        return connections, macs, _wider(ways[0][2], ways[1][2] if layer.shortcut else field)
    if isinstance(layer, Sequential):
        connections = macs = 0
        for inside in layer.layers:
            more, work, field = _through(inside, shape, field, image)
            connections, macs, shape = connections + more, macs + work, inside.output_shape(shape)
        return connections, macs, field
    known = None if field is None or image is None else _behind(layer, field, image)
    return *_work(layer, shape), known


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
    if isinstance(layer, GlobalAvgPool2d | Linear):
        return _Field(image, image)
    if isinstance(layer, Conv2d):
        dilation = pair("Conv2d", "dilation", layer.dilation)
    elif isinstance(layer, MaxPool2d | AvgPool2d):
        dilation = 1, 1
    else:
        return None
    kernel = pair("cost", "kernel_size", layer.kernel_size)
    stride = kernel if layer.stride is None else pair("cost", "stride", layer.stride)
    rows, columns = (field.size[i] + dilation[i] * (kernel[i] - 1) * field.step[i] for i in (0, 1))
    return _Field((rows, columns), (field.step[0] * stride[0], field.step[1] * stride[1]))
