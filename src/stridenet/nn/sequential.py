"""Layers in a row, and networks rebuilt from their description."""

from __future__ import annotations

import inspect
from typing import Any, cast

import numpy as np

from stridenet.errors import ConfigError, ShapeError, UnsupportedModelError, shown
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from stridenet.shapes import Shape, integer, product


class Sequential(Layer):
    """The layers one after another.

    Args:
        layers: the layers, in order.
        input_shape: of one image, (C, H, W); given, every shape is checked at construction.

    Raises:
        ConfigError: an argument is no layer, or the same one twice: a layer keeps one forward for its backward.
        ShapeError: a layer does not take what the one before it gives; the message names both.
    """

    def __init__(self, *layers: Layer, input_shape: Shape | None = None) -> None:
        seen: set[Layer] = set()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"Sequential[{i}]: expected a layer, got {shown(layer)}")
            if layer in seen:
                raise ConfigError(f"Sequential[{i}]: expected each layer once, got {layer!r} again; make another one")
            seen.add(layer)
        self.layers = layers
        self.reseed(0)  # each random layer draws from a stream of its own place
        self.input_shape = None if input_shape is None else _image_shape(input_shape)
        if self.input_shape is not None:
            self.output_shape(self.input_shape)

    def children(self) -> list[tuple[str, Layer]]:
        """The layers by their position: "0", "1", ..."""
        return [(str(i), layer) for i, layer in enumerate(self.layers)]

    def forward(self, x: Array) -> Array:
        """The last layer's output."""
        for i, layer in enumerate(self.layers):
            try:
                x = layer.forward(x)
            except ShapeError as error:
                raise ShapeError(f"Sequential[{i}] {error}") from None
        return x

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """From the last layer to the first; only the first may leave its dx out."""
        for layer in self.layers[:0:-1]:
            dy = cast(Array, layer.backward(dy))
        return self.layers[0].backward(dy, need_dx=need_dx) if self.layers else dy

    def output_shape(self, input_shape: Shape) -> Shape:
        """Of the last layer."""
        return self.shapes(input_shape)[-1]

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """The input's shape and that of every layer's output, without N."""
        shapes = [input_shape]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"Sequential[{i}] {error}") from None
        return shapes

    def spec(self) -> dict[str, Any]:
        """The specs of the layers, and the input's shape."""
        shape = None if self.input_shape is None else list(self.input_shape)
        return {"kind": "Sequential", "layers": [layer.spec() for layer in self.layers], "input_shape": shape}

    def __repr__(self) -> str:
        inside = "".join(f"\n  [{i}] {layer!r}" for i, layer in enumerate(self.layers))
        return f"Sequential({inside}\n)"


def _image_shape(value: Any) -> Shape:
    if not isinstance(value, tuple | list) or not value:
        raise ConfigError(f"Sequential: expected input_shape as sizes (C, H, W), got {shown(cast(object, value))}")
    return tuple(integer("Sequential", "input_shape", size) for size in cast("list[Any]", value))


MAX_NESTING = 12  # layers in layers; a model file's 32 levels of JSON hold that many

# The closed world of model files: nothing is ever looked up by name anywhere else.
_KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh)
}


def build(spec: Any, *, limit: int) -> Layer:
    """The network that `Layer.spec` described, its parameters zero; no random number is drawn.

    Args:
        spec: as read from a file: anything.
        limit: the number of parameters that the network may have in all.

    Raises:
        UnsupportedModelError: an unknown kind or argument, or more parameters than `limit`.
        ConfigError: an argument of a layer is out of range, or the layers do not fit each other.
    """
    left = limit

    def zeros(rng: np.random.Generator, shape: Shape) -> Array:
        nonlocal left
        del rng
        left -= product(shape)
        if left < 0:
            raise UnsupportedModelError(f"model: expected at most {limit} parameters, got a layer {shape} beyond them")
        return np.zeros(shape, np.float32)

    network = _build(spec, {"init": zeros, "rng": np.random.default_rng(0)}, MAX_NESTING)
    size = sum(parameter.value.size for _, parameter in network.named_parameters())
    if size > limit:  # the biases
        raise UnsupportedModelError(f"model: expected at most {limit} parameters, got {size}")
    return network


def _build(spec: Any, tools: dict[str, Any], depth: int) -> Layer:
    if not isinstance(spec, dict):
        raise UnsupportedModelError(f"model: expected a layer as a table, got {shown(spec)}")
    if not depth:
        raise UnsupportedModelError(f"model: expected at most {MAX_NESTING} layers in each other, got more")
    arguments = cast("dict[str, Any]", spec).copy()
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in {"Sequential", *_KINDS}:
        raise UnsupportedModelError(f"model: expected a layer of a known kind, got {shown(kind)}")
    if kind == "Sequential":
        return _build_sequential(arguments, tools, depth)
    signature = inspect.signature(_KINDS[kind])
    used = {name: tool for name, tool in tools.items() if name in signature.parameters}
    try:
        signature.bind(**arguments, **used)
    except TypeError as error:
        raise UnsupportedModelError(f"model: {kind}: {error!s:.200}") from None
    return _KINDS[kind](**arguments, **used)


def _build_sequential(arguments: dict[str, Any], tools: dict[str, Any], depth: int) -> Sequential:
    layers, shape = arguments.pop("layers", None), arguments.pop("input_shape", None)
    if arguments or not isinstance(layers, list):
        raise UnsupportedModelError("model: Sequential: expected a list of layers and an input_shape, nothing else")
    return Sequential(*(_build(layer, tools, depth - 1) for layer in cast("list[Any]", layers)), input_shape=shape)
