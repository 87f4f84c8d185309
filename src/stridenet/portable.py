"""A model as plain entries that any language can run: kinds, settings with all geometry worked out, weights by name.

The one-file predictor and the explorer are written from them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stridenet.data.transforms import Normalize, Pad, Pipeline, Resize, SubtractMean
from stridenet.errors import UnsupportedModelError, shown
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.classic import TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, LeakyReLU
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.rebuild import KINDS
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, pair


class Entry(NamedTuple):
    """A layer or a transform. Its settings are plain; those of a Residual are the entries of its two ways."""

    kind: str
    name: str  # its place, as in the names of its weights
    title: str  # its repr
    weights: list[str]
    settings: dict[str, Any]


def entries(model: Model, who: str) -> tuple[list[Entry], dict[str, Array]]:
    """The transforms and the layers of `model` in their order, and their weights by name, for images of its own size.

    A TableConv2d becomes a Conv2d, dropout is left out.

    Raises:
        UnsupportedModelError: a layer or a transform is none of stridenet's; `who` says so.
    """
    weights: dict[str, Array] = {}
    before = _transforms(model.transform, weights, who)
    return before + _layers(model.network, "", model.input_shape, weights, who), weights


def _transforms(pipeline: Pipeline, weights: dict[str, Array], who: str) -> list[Entry]:
    """The entries of the transforms; their weights go into `weights`."""
    found: list[Entry] = []
    for i, transform in enumerate(pipeline.transforms):
        kind, names, settings = type(transform), list[str](), dict[str, Any]()
        if isinstance(transform, SubtractMean):
            names = [f"transform.{i}.mean"]
            weights[names[0]] = np.array(transform.mean, np.float32)
        elif isinstance(transform, Normalize):
            settings = {"mean": transform.mean, "std": transform.std}
        elif isinstance(transform, Pad):
            settings = {"padding": transform.padding, "value": transform.value}
        elif isinstance(transform, Resize):
            settings = {"size": transform.size}
        if kind not in (SubtractMean, Normalize, Pad, Resize):
            raise UnsupportedModelError(f"{who}: expected transforms of stridenet, got {shown(transform)}")
        found.append(Entry(kind.__name__, f"transform.{i}", repr(transform), names, settings))
    return found


def _layers(layer: Layer, name: str, shape: Shape, weights: dict[str, Array], who: str) -> list[Entry]:
    """The entries of `layer`, called `name`, for an input of `shape`; its weights go into `weights`."""
    kind, start = type(layer), f"{name}." if name else ""
    if kind not in (Sequential, Residual, *KINDS.values()):
        raise UnsupportedModelError(f"{who}: expected layers of stridenet, got a {kind.__name__}")
    if isinstance(layer, Sequential):
        inside = zip(layer.children(), layer.shapes(shape), strict=False)
        return [e for (key, child), inner in inside for e in _layers(child, f"{start}{key}", inner, weights, who)]
    if isinstance(layer, Residual):
        ways = {"body": layer.body, "shortcut": layer.shortcut or Sequential()}
        settings = {key: _layers(way, f"{start}{key}", shape, weights, who) for key, way in ways.items()}
        return [Entry("Residual", name, "Residual", [], settings)]
    if isinstance(layer, Dropout | Dropout2d):
        return []  # it does nothing but in training
    own = {f"{start}{key}": parameter.value for key, parameter in layer.named_parameters()}
    if isinstance(layer, TableConv2d):
        own[f"{start}weight"] = layer.dense(layer.weight.value)
    weights |= own
    known = "Conv2d" if isinstance(layer, TableConv2d) else kind.__name__
    return [Entry(known, name, repr(layer), list(own), _settings(layer, shape))]


def _settings(layer: Layer, shape: Shape) -> dict[str, Any]:
    """What the function of the layer has to know, worked out for an input of `shape`."""
    match layer:
        case Conv2d() | TableConv2d():
            place, groups = layer.window(shape), layer.groups if isinstance(layer, Conv2d) else 1
            return {"stride": place.stride, "padding": place.padding, "dilation": place.dilation, "groups": groups}
        case MaxPool2d() | AvgPool2d():
            place = layer.window(shape)
            (top, bottom), (left, right) = place.padding
            below, beside = place.overhang
            settings: dict[str, Any] = {"kernel": place.kernel, "stride": place.stride}
            if isinstance(layer, MaxPool2d):
                return settings | {"padding": ((top, bottom + below), (left, right + beside))}
            overhang = (0, below), (0, beside)
            return settings | {
                "padding": place.padding, "overhang": overhang, "count_include_pad": layer.count_include_pad
            }  # fmt: skip
        case TrainableSubsampling2d():
            return {"kernel": layer.window(shape).kernel}
        case ZeroPadShortcut():
            return {"out_channels": layer.out_channels, "stride": pair("ZeroPadShortcut", "stride", layer.stride)}
        case BatchNorm2d():
            return {"eps": layer.eps}
        case LeakyReLU():
            return {"negative_slope": layer.negative_slope}
        case _:
            return {}
