"""The explorer: a model as one HTML page that runs it in the browser.

The operations are `assets/loops.js`, a transliteration of `kernels.loops`, and `engine.js` runs a network of them;
`seeing.js` says what a number is made of, `fitting.js` turns a drawing into an image. Here is what they are given: the
layers, the weights, some images.
"""

from __future__ import annotations

import base64
import re
from typing import Any, cast

import numpy as np

from stridenet import portable
from stridenet.data.dataset import Dataset
from stridenet.errors import ShapeError, UnsupportedModelError
from stridenet.files import FilePath, refuse_existing, write_atomic
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.cost import cost, total
from stridenet.shapes import by, flag
from stridenet.viz import page

STYLES = ("explore.css",)
SCRIPTS = (
    *("loops.js", "engine.js", "seeing.js", "fitting.js"),  # the network
    *("words.js", "exact.js", "paint.js", "maps.js", "pad.js", "sources.js", "layers.js"),  # the page
    *("products.js", "tables.js", "number.js", "field.js", "why.js", "explore.js"),
)
MOST_NUMBERS = 2**24  # weights: 90 MB of page, which a browser still opens
MOST_SAMPLES = 10


def explore(model: Model, path: FilePath, *, samples: Dataset | None = None, overwrite: bool = False) -> None:
    """Write `model` as one HTML page that runs it in the browser, without any network or server.

    Equal models give equal bytes: the weights with a third on top, and 150 kB of page.

    Args:
        model: of stridenet's layers.
        path: of the page.
        samples: images that the page offers to look at; the first of each class is taken, of ten classes at most.
        overwrite: replace a file that is there.

    Raises:
        UnsupportedModelError: the network has a layer, or the pipeline a transform, that the page has not, or it is
            too large for a browser.
        ShapeError: `samples` are no images that the model takes.
        FileExistsError: `path` exists, and `overwrite` is not set.
        OSError: it cannot be written; an older file is intact.
    """
    text = explorer(model, samples)
    if not flag("explore", "overwrite", overwrite):
        refuse_existing(path)
    write_atomic(path, text.encode())


def explorer(model: Model, samples: Dataset | None = None) -> str:
    """The text of the page that `explore` writes.

    Raises:
        UnsupportedModelError, ShapeError: as there.
    """
    data = document_data(model, samples)
    return page.document(data["title"], page.asset("explore.html"), styles=STYLES, scripts=SCRIPTS, data=data)


def document_data(model: Model, samples: Dataset | None = None) -> dict[str, Any]:
    """What the scripts of the page are given, as plain values.

    Raises:
        UnsupportedModelError, ShapeError: as `explore`.
    """
    entries, weights = portable.entries(model, "explore")
    count = sum(weight.size for weight in weights.values())
    if count > MOST_NUMBERS:
        raise UnsupportedModelError(f"explore: expected at most {MOST_NUMBERS} weights for a browser, got {count}")
    recipe = model.recipe.get("name")
    framing, sums = model.framing, total(cost(model.network, model.input_shape))
    return {
        "title": recipe if isinstance(recipe, str) and recipe else "model",
        "parameters": sums.parameters,
        "fixed": sums.fixed,
        "classes": list(model.classes),
        "imageShape": list(model.image_shape),
        "framing": None if framing is None else framing.spec(),
        "layers": _layers(entries),
        "weights": _places(weights),
        "floats": _base64(b"".join(weight.astype("<f4").tobytes() for weight in weights.values())),
        "samples": [] if samples is None else _samples(model, samples),
    }


def _layers(entries: list[portable.Entry]) -> list[dict[str, Any]]:
    """The entries as tables, those inside a Residual too."""
    return [
        {
            "kind": entry.kind,
            "name": entry.name,
            "title": _short(entry.title),
            "settings": {key: _layers(way) for key, way in entry.settings.items()}
            if entry.kind == "Residual"
            else entry.settings,
            "weights": entry.weights,
        }
        for entry in entries
    ]


def _short(title: str) -> str:
    """The repr of a layer as `summary` shows it, with four digits of each number.

    >>> _short("Normalize(mean=[0.13062755], std=[0.25])")
    'Normalize(mean=[0.1306], std=[0.25])'
    """
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.4g}", title.replace("kernel_size=", ""))


def _places(weights: dict[str, Array]) -> dict[str, dict[str, Any]]:
    """The shape of each weight, and where it begins among all numbers."""
    ends = np.cumsum([0, *(weight.size for weight in weights.values())]).tolist()
    pairs = zip(weights.items(), cast("list[int]", ends), strict=False)
    return {name: {"shape": list(weight.shape), "at": at} for (name, weight), at in pairs}


def _samples(model: Model, dataset: Dataset) -> list[dict[str, str]]:
    """The first image of each class, as the page holds it."""
    if dataset.image_shape != model.image_shape:
        raise ShapeError(
            f"explore: expected images of {by(model.image_shape)}, got {by(dataset.image_shape)} in the data"
        )
    found: list[dict[str, str]] = []
    for k, name in enumerate(dataset.classes):
        places = np.flatnonzero(dataset.targets == k)
        if len(places) and len(found) < MOST_SAMPLES:
            image = dataset.images[places[0]]  # (C, H, W)
            pixels = image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)
            found.append({"pixels": _base64(pixels.tobytes()), "label": name})
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
