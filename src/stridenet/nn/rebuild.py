"""Networks rebuilt from their description in a model file."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from stridenet.errors import UnsupportedModelError, shown
from stridenet.layout import Array
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, integer, product
from stridenet.tables import construct

MAX_NESTING = 12  # layers in layers; a model file's 32 levels of JSON hold that many

# The closed world of model files: nothing is ever looked up by name anywhere else.
KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        *(AvgPool2d, BatchNorm2d, Conv2d, Dropout, Dropout2d, Flatten, GlobalAvgPool2d, LeakyReLU, Linear),
        *(LogSoftmax, MaxPool2d, ReLU, Sigmoid, Softmax, Tanh, ZeroPadShortcut),
        *(RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d),  # of 1998
    )
}


def build(spec: Any, *, limit: int) -> Layer:
    """The network that `Layer.spec` described, its parameters zero; no random number is drawn.

    Args:
        spec: as read from a file: anything.
        limit: the number of parameters that the network may have in all.

    Raises:
        UnsupportedModelError: an unknown kind, or more parameters than `limit`.
        ConfigError: an argument of a layer is unknown or out of range, or the layers do not fit each other.
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
    if not isinstance(kind, str) or kind not in {"Residual", "Sequential", *KINDS}:
        hint = "; a layer of your own: make the network in Python and take the weights by load_state_dict"
        raise UnsupportedModelError(f"model: expected a layer of a known kind, got {shown(kind)}{hint}")
    if kind == "Sequential":
        return _build_sequential(arguments, tools, depth)
    if kind == "Residual":
        return _build_residual(arguments, tools, depth)
    if kind == "BatchNorm2d":  # no init makes its four vectors, but the limit holds for them too
        tools["init"](tools["rng"], (4, integer(kind, "num_features", arguments.get("num_features"))))
    return construct("model", KINDS, kind, arguments, **tools)


def _build_sequential(arguments: dict[str, Any], tools: dict[str, Any], depth: int) -> Sequential:
    layers, shape = arguments.pop("layers", None), arguments.pop("input_shape", None)
    if arguments or not isinstance(layers, list):
        raise UnsupportedModelError("model: Sequential: expected a list of layers and an input_shape, nothing else")
    return Sequential(*(_build(layer, tools, depth - 1) for layer in cast("list[Any]", layers)), input_shape=shape)


def _build_residual(arguments: dict[str, Any], tools: dict[str, Any], depth: int) -> Residual:
    if set(arguments) != {"body", "shortcut"}:
        raise UnsupportedModelError("model: Residual: expected a body and a shortcut, nothing else")
    body, aside = _build(arguments["body"], tools, depth - 1), arguments["shortcut"]
    return Residual(body, None if aside is None else _build(aside, tools, depth - 1))
