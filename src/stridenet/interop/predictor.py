"""A model as one Python file that needs NumPy alone.

The code of that file is `predictor_template` with the picture part, `predictor_pictures`, put into it; here its end is
written: the layers of a model as a literal, their geometry worked out, and the weights as text.
"""

from __future__ import annotations

import base64
import pprint
from importlib import resources
from textwrap import indent
from typing import Any, cast

import numpy as np

from stridenet.data.transforms import Normalize, Pad, Pipeline, Resize, SubtractMean
from stridenet.errors import ShapeError, UnsupportedModelError, printable, shown
from stridenet.files import FilePath, refuse_existing, write_atomic
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.classic import TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, LeakyReLU
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.rebuild import KINDS
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, by, flag, pair

Entry = tuple[str, list[str], dict[str, Any]]  # kind, names of weights, settings

_IMPORT = "from stridenet.interop.predictor_pictures import fit_image, read_png, triangles\n\n"
_WIDTH = 115  # of the lines that are written


def export_predictor(model: Model, path: FilePath, *, overwrite: bool = False) -> None:
    """Write `model` as a Python file that predicts from arrays and 8-bit PNG files; it needs NumPy and nothing else.

    The file is a module and a command, and is made to be read. Equal models give equal bytes: the weights with a
    quarter on top, and 30 kB of code.

    Raises:
        UnsupportedModelError: the network has a layer, or the pipeline a transform, that the file has not.
        FileExistsError: `path` exists, and `overwrite` is not set.
        OSError: it cannot be written; an older file is intact.
    """
    text = predictor_source(model)
    if not flag("export_predictor", "overwrite", overwrite):
        refuse_existing(path)
    write_atomic(path, text.encode())


def predictor_source(model: Model) -> str:
    """The text of the file that `export_predictor` writes.

    Raises:
        UnsupportedModelError: as there.
    """
    folder = resources.files("stridenet.interop")
    template = folder.joinpath("predictor_template.py").read_text("utf-8").replace(_IMPORT, "")
    pictures = folder.joinpath("predictor_pictures.py").read_text("utf-8").partition("\n# Picture files")
    network, mark, rest = template.partition("\n# The command\n")
    command, _, rest = rest.partition('ABOUT = ""\n')
    end = rest.partition("# The end of the model\n")[2]
    return "".join([network, *pictures[1:], "\n", mark, command, _literals(model), end.lstrip("\n")])


def _literals(model: Model) -> str:
    """The assignments that make the template a predictor of `model`."""
    weights: dict[str, Array] = {}
    layers = _transform_entries(model.transform, weights)
    layers += _entries(model.network, "", model.input_shape, weights)
    recipe = model.recipe.get("name")
    about = f"{len(model.classes)} classes, images of {by(model.image_shape)}"
    fields = {
        "ABOUT": f"{printable(recipe)}: {about}" if isinstance(recipe, str) else about,
        "CLASSES": model.classes,
        "IMAGE_SHAPE": model.image_shape,
        "ANY_SIZE": _takes_any_size(model),
        "FRAMING": None if model.framing is None else (model.framing.background, model.framing.extent),
        "LAYERS": layers,
        "SHAPES": {name: weight.shape for name, weight in weights.items()},
    }
    lines = [f"{name} = {_literal(value)}\n" for name, value in fields.items()]
    data = b"".join(weight.astype(">f4").tobytes() for weight in weights.values())
    text = base64.b85encode(data).decode()
    rows = [text[i : i + _WIDTH] for i in range(0, len(text), _WIDTH)]
    return "".join([*lines, 'DATA = """\n', *(f"{row}\n" for row in rows), '"""\n\n'])


def _literal(value: object) -> str:
    r"""`value` as Python writes it, whatever its texts hold.

    >>> _literal('"); import os #\u202e')
    '\'"); import os #\\u202e\''
    """
    if isinstance(value, list):  # the layers, one below the other
        entries = (pprint.pformat(entry, width=_WIDTH - 5, sort_dicts=False) for entry in cast("list[Entry]", value))
        return "[\n" + indent("".join(f"{entry},\n" for entry in entries), "    ") + "]"
    return pprint.pformat(value, width=_WIDTH, sort_dicts=False)


def _takes_any_size(model: Model) -> bool:
    """Whether images of other sizes give the network what it takes."""
    C, H, W = model.image_shape
    try:
        return model.transform.output_shape((C, H + 1, W + 1)) == model.input_shape
    except ShapeError:
        return False


def _transform_entries(pipeline: Pipeline, weights: dict[str, Array]) -> list[Entry]:
    """The transforms as the first layers; their weights go into `weights`."""
    entries: list[Entry] = []
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
            raise UnsupportedModelError(f"export_predictor: expected transforms of stridenet, got {shown(transform)}")
        entries.append((kind.__name__, names, settings))
    return entries


def _entries(layer: Layer, name: str, shape: Shape, weights: dict[str, Array]) -> list[Entry]:
    """The layers that `layer`, called `name`, is for an input of `shape`; its weights go into `weights`."""
    kind = type(layer)
    if kind not in (Sequential, Residual, *KINDS.values()):
        raise UnsupportedModelError(f"export_predictor: expected layers of stridenet, got a {kind.__name__}")
    if isinstance(layer, Sequential):
        inside = zip(layer.children(), layer.shapes(shape), strict=False)
        return [entry for (key, e), inner in inside for entry in _entries(e, f"{name}{key}.", inner, weights)]
    if isinstance(layer, Residual):
        ways = {"body": layer.body, "shortcut": layer.shortcut or Sequential()}
        return [("Residual", [], {way: _entries(e, f"{name}{way}.", shape, weights) for way, e in ways.items()})]
    if isinstance(layer, Dropout | Dropout2d):
        return []  # it does nothing but in training
    own = {f"{name}{key}": parameter.value for key, parameter in layer.named_parameters()}
    if isinstance(layer, TableConv2d):
        own[f"{name}weight"] = layer.dense(layer.weight.value)
    weights |= own
    return [("Conv2d" if isinstance(layer, TableConv2d) else kind.__name__, list(own), _settings(layer, shape))]


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
            return {"out_channels": layer.out_channels, "stride": pair("export_predictor", "stride", layer.stride)}
        case BatchNorm2d():
            return {"eps": layer.eps}
        case LeakyReLU():
            return {"negative_slope": layer.negative_slope}
        case _:
            return {}
