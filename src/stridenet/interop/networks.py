"""The network that an estimator trains: given, named, or made for the data."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import numpy as np

from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Pipeline, fit_pipeline
from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.interop.samples import standardize
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.shapes import Shape, choice, product
from stridenet.zoo import models, recipes


def prepared(
    who: str, network: Any, data: Dataset, *, features: bool, rng: np.random.Generator
) -> tuple[Pipeline, Sequential]:
    """The preprocessing, fitted to `data`, and the network behind it, with its start values.

    Args:
        who: for messages.
        network: None, a name of the zoo or of a recipe, a Sequential or a list of layers; what is given is copied.
        data: images (N, C, H, W); features are (N, D, 1, 1).
        features: whether they are those; a network for them begins with a Flatten.
        rng: draws the start values.

    Raises:
        ConfigError: `network` is something else.
        ShapeError: it does not take such images, or does not give a score for each class.
    """
    entries, arguments = None, {}
    if isinstance(network, str):
        choice(f"{who}.network", network, [*models.MODELS, *recipes.names()])
        if features:
            raise ShapeError(f"{who}: expected images for {network}, got features; give image_shape=(C, H, W)")
    if isinstance(network, str) and network in recipes.names():
        recipe = recipes.load(network)
        entries, network = recipe["data"]["transform"], recipe["model"]["name"]
        arguments = cast("dict[str, Any]", recipe["model"]["args"])
    pipeline = Pipeline([standardize(Loader(data, 256))]) if entries is None else fit_pipeline(entries, data)
    shape, k = pipeline.output_shape(data.image_shape), len(data.classes)
    if isinstance(network, str):
        made = models.make(network, arguments, rng=rng, fitting=models.fitting(shape, k))
    elif network is None:
        made = _dense(shape, k, rng) if features else _convolutional(shape, k, rng)
    else:
        made = _copied(who, network)
    made = Sequential(Flatten(), *made.layers) if features else made
    try:
        scores = made.output_shape(shape)
    except ShapeError as error:
        hint = "; features that are images need image_shape=(C, H, W)" if features else ""
        raise ShapeError(f"{who}.network: {error}{hint}") from None
    if scores != (k,):
        raise ShapeError(f"{who}.network: expected a score for each of the {k} classes, got {scores}")
    return pipeline, made


def _copied(who: str, network: Any) -> Sequential:
    if isinstance(network, Sequential):
        return deepcopy(network)
    if not isinstance(network, list | tuple):
        raise ConfigError(
            f"{who}: expected network as None, a name, a Sequential or a list of layers, got {shown(network)}"
        )
    return Sequential(*deepcopy(list(cast("list[Layer]", network))))


def _dense(shape: Shape, k: int, rng: np.random.Generator) -> Sequential:
    """A hidden layer of 100 units."""
    return Sequential(Linear(product(shape), 100, rng=rng), ReLU(), Linear(100, k, rng=rng))


def _convolutional(shape: Shape, k: int, rng: np.random.Generator) -> Sequential:
    """3x3 convolutions of 32, 32 and 64 channels for images of any size, with pooling to 4x4 or less between and after.

    Larger images have further ones of 64. Half of what the last layer sees is dropped in training.
    """
    channels, rows, columns = shape
    layers: list[Layer] = []
    for width in (32, 32):
        layers += [Conv2d(channels, width, 3, padding=1, rng=rng), ReLU()]
        channels = width
    while min(rows, columns) > 1 and (channels == 32 or max(rows, columns) > 8):
        layers += [MaxPool2d(2), Conv2d(channels, 64, 3, padding=1, rng=rng), ReLU()]
        channels, rows, columns = 64, rows // 2, columns // 2
    if min(rows, columns) > 1:
        layers.append(MaxPool2d(2))
        rows, columns = rows // 2, columns // 2
    return Sequential(*layers, Flatten(), Dropout(0.5), Linear(channels * rows * columns, k, rng=rng))
