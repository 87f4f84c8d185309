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

from stridenet import portable
from stridenet.errors import ShapeError, printable
from stridenet.files import FilePath, refuse_existing, write_atomic
from stridenet.model import Model
from stridenet.shapes import by, flag

Line = tuple[str, list[str], dict[str, Any]]  # of a layer: kind, names of weights, settings

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
    entries, weights = portable.entries(model, "export_predictor")
    recipe = model.recipe.get("name")
    about = f"{len(model.classes)} classes, images of {by(model.image_shape)}"
    fields = {
        "ABOUT": f"{printable(recipe)}: {about}" if isinstance(recipe, str) else about,
        "CLASSES": model.classes,
        "IMAGE_SHAPE": model.image_shape,
        "ANY_SIZE": _takes_any_size(model),
        "FRAMING": None if model.framing is None else (model.framing.background, model.framing.extent),
        "LAYERS": _lines(entries),
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
        entries = (pprint.pformat(entry, width=_WIDTH - 5, sort_dicts=False) for entry in cast("list[Line]", value))
        return "[\n" + indent("".join(f"{entry},\n" for entry in entries), "    ") + "]"
    return pprint.pformat(value, width=_WIDTH, sort_dicts=False)


def _lines(entries: list[portable.Entry]) -> list[Line]:
    """The entries as the file has them, those inside a Residual too."""
    return [
        (kind, weights, {key: _lines(ways) for key, ways in settings.items()} if kind == "Residual" else settings)
        for kind, _, _, weights, settings in entries
    ]


def _takes_any_size(model: Model) -> bool:
    """Whether images of other sizes give the network what it takes."""
    C, H, W = model.image_shape
    try:
        return model.transform.output_shape((C, H + 1, W + 1)) == model.input_shape
    except ShapeError:
        return False
