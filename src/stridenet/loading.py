"""`stridenet.load`: the model that a path leads to, in whichever format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from stridenet import model
from stridenet.errors import ConfigError, UnsupportedModelError, printable, shown
from stridenet.model import Model
from stridenet.shapes import Shape
from stridenet.strictjson import from_json

if TYPE_CHECKING:
    from stridenet.interop.onnx import Graph

_FIELDS = ("classes", "image_shape", "transform", "framing")  # what stridenet writes into an ONNX file, each as JSON


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a model file, of a run folder, or of an ONNX file, whose name ends in .onnx.

    An ONNX file must take one batch of images (N, C, H, W), float32, and give one row of scores for each. Its metadata
    have the classes and the preprocessing if stridenet wrote it; else the classes are "0", "1", ... and the images go
    in as they are, 0 to 1. `stridenet.interop.onnx.load` takes any other graph.

    Raises:
        FileNotFoundError: there is none.
        ModelFileError, DataError: the file is damaged, holds something else, or describes a network or a preprocessing
            that cannot be; nothing in it can run code.
        ConfigError: the package onnx is missing.
    """
    return _of_onnx(path) if is_onnx(path) else model.load(path)


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is read as an ONNX file: by its name, unless it is a folder."""
    return Path(path).suffix.lower() == ".onnx" and not Path(path).is_dir()


def _of_onnx(path: str | os.PathLike[str]) -> Model:
    from stridenet.interop import onnx

    graph, who = onnx.load(path), printable(path)
    shape, texts = _image_shape(graph, who), graph.metadata
    given = {name: from_json(texts[name], f"{who}: {name}", UnsupportedModelError) for name in _FIELDS if name in texts}
    try:
        scores = graph.output_shape(shape)
        if len(scores) != 1:
            _refuse(who, "one row of scores for each image", f"an output {('N', *scores)}")
        about: Mapping[str, Any] = {
            "classes": [str(k) for k in range(scores[0])],
            "image_shape": list(shape),
            "transform": [],
            "recipe": {},
            "provenance": {},
        }
        return Model(graph, **model.checked_fields(about | given, who))
    except ConfigError as error:
        raise UnsupportedModelError(f"{who}: {error}") from None


def _image_shape(graph: Graph, who: str) -> Shape:
    """(C, H, W) of the images that the graph takes."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        _refuse(who, "one input and one output", f"{len(graph.inputs)} and {len(graph.outputs)}")
    (images,) = graph.inputs
    batch, *shape = images.shape or (None,)
    if images.dtype != "float32" or len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        _refuse(who, "images float32 (N, C, H, W) of a known size", f"{images.dtype} {shown(images.shape)}")
    if isinstance(batch, int) and batch != 1:
        _refuse(who, "any number of images at a time, or one", f"{batch}")
    return cast("Shape", tuple(shape))


def _refuse(who: str, expected: str, got: str) -> NoReturn:
    raise UnsupportedModelError(
        f"{who}: expected {expected}, got {got}; stridenet.interop.onnx.load takes other graphs"
    )
