"""A trained network with all that a prediction needs: its classes, its preprocessing, where it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stridenet import kernels, layout
from stridenet.data.images import Framing, fit_image, read_image
from stridenet.data.loader import to_unit
from stridenet.data.transforms import Pipeline
from stridenet.errors import (
    ConfigError,
    DataError,
    ShapeError,
    UnsupportedModelError,
    WeightsFormatError,
    WeightsMismatchError,
    printable,
    shown,
)
from stridenet.files import load_tensors, save_tensors
from stridenet.layout import Array
from stridenet.nn.functional import log_softmax
from stridenet.nn.layer import Layer
from stridenet.nn.plan import InferencePlan, cores
from stridenet.nn.rebuild import build
from stridenet.shapes import Shape, by, integer
from stridenet.train.evaluation import quiet

FORMAT = "stridenet model"
VERSION = 1
MANY = 256  # images for which it is worth while to load compiled kernels
FILE = "model.safetensors"  # its name in a run folder


class Model:
    """A network that takes images as they are.

    Args:
        network: put into evaluation mode.
        classes: the name of each class; other things than texts become texts.
        image_shape: (C, H, W) of the images that it was trained on.
        transform: what happens to an image in 0..1 before the network sees it.
        framing: how objects stood in the training images; photos are framed alike.
        recipe: what it was trained with, a plain dict.
        provenance: where it came from, a plain dict.

    Raises:
        ShapeError: the network does not give one score per class for such images.
        ConfigError: the network is not float32.
    """

    def __init__(
        self,
        network: Layer,
        classes: Sequence[object],
        image_shape: Shape,
        *,
        transform: Pipeline | None = None,
        framing: Framing | None = None,
        recipe: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if any(parameter.value.dtype != np.float32 for _, parameter in network.named_parameters()):
            raise ConfigError("Model: expected a network of float32, got another type; use network.astype(np.float32)")
        self.network, self.image_shape = network.eval(), image_shape
        self.classes = tuple(str(name) for name in classes)
        self.transform, self.framing = transform or Pipeline(), framing
        self.recipe, self.provenance = dict(recipe or {}), dict(provenance or {})
        self._plan = InferencePlan(self.network, threads=cores())
        self.input_shape = self.transform.output_shape(image_shape)  # of the network
        scores = network.output_shape(self.input_shape)
        if scores != (len(classes),):
            raise ShapeError(
                f"Model: expected a score for each of {len(classes)} classes, got {scores} from the network"
            )

    def scores(self, images: npt.ArrayLike, *, batch_size: int = 256) -> Array:
        """The network's scores (N, K), before any softmax; memory is that of one batch.

        256 images and more go through compiled kernels, fewer through NumPy alone; both agree to rounding. For many
        calls with few images each, `InferencePlan(model.network)` is faster.

        Args:
            images: uint8, or float in 0..1; (N, C, H, W), (N, H, W) for one channel, or one image without N.
            batch_size: images at a time.

        Raises:
            ShapeError: the network does not take images of that shape.
            DataError: another type, numbers outside 0..1, or images of different shapes.
        """
        batch, batch_size = self._images(images), integer("Model.scores", "batch_size", batch_size)
        few = len(batch) < MANY
        self.network.eval()
        scores = layout.empty((len(batch), len(self.classes)))
        with quiet(), kernels.use(kernels.without_compiler() if few else kernels.resolve()):
            for i in range(0, len(batch), batch_size):
                x = to_unit(batch[i : i + batch_size])
                scores[i : i + batch_size] = self._plan(self.transform(x))
        return scores

    def predict(self, images: npt.ArrayLike) -> Array:
        """The class index of each image, int64 (N,); images as in `scores`."""
        return self.scores(images).argmax(axis=1)

    def predict_proba(self, images: npt.ArrayLike) -> Array:
        """The probability of each class, (N, K); images as in `scores`."""
        with quiet():  # of scores that are not finite too
            return np.exp(log_softmax(self.scores(images))[0])

    def read(self, path: str | os.PathLike[str]) -> Array:
        """The picture file `path` (PNG, JPEG, BMP, PPM) as an image (1, C, H, W) that the model takes, float32 0..1.

        It is brought to the size and, for one channel, to the framing of the training images, and inverted if it
        is dark on light where they were light on dark.

        Raises:
            ImageError, DataLimitError: not a picture that can be read; OSError as for any file.
        """
        channels, H, W = self.image_shape
        if channels not in (1, 3):
            raise ShapeError(
                f"Model.read: expected a model of 1 or 3 channels, got {channels}; use predict with arrays"
            )
        return fit_image(read_image(path, channels=channels), (H, W), self.framing)[None]  # pyright: ignore[reportArgumentType]

    def _images(self, images: npt.ArrayLike) -> Array:
        try:
            x = np.asarray(images)
        except ValueError:
            raise DataError("Model: expected images as one array, got entries of different shapes") from None
        if x.dtype.kind == "f":
            if x.size and not (x.min() >= 0 and x.max() <= 1):
                raise DataError(
                    f"Model: expected float images in 0..1, got {x.min():g} to {x.max():g}; scale them, 0..255 by 1/255"
                )
            x = x.astype(np.float32, copy=False)
        elif x.dtype != np.uint8:
            hint = "; Model.read takes the path of a picture" if x.dtype.kind == "U" else ""
            raise DataError(f"Model: expected images of type uint8, or float in 0..1, got {x.dtype}{hint}")
        C, H, W = self.image_shape
        if x.shape == (H, W) or (x.ndim == 3 and C > 1):
            x = x[None]
        if x.ndim == 3 and C == 1:
            x = x[:, None]
        if x.ndim != 4 or x.shape[1] != C or self.transform.output_shape(x.shape[1:]) != self.input_shape:
            raise ShapeError(
                f"Model: expected images of shape (N, {C}, {H}, {W}), got {np.shape(images)}; channels stand before"
                " rows and columns, and flat features need a reshape"
            )
        return x

    def __repr__(self) -> str:
        return f"Model({len(self.classes)} classes, images {by(self.image_shape)}, {self.network!r})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, whole or not at all; equal models give equal bytes."""
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "network": self.network.spec(),
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "transform": self.transform.spec(),
            "framing": None if self.framing is None else self.framing.spec(),
            "recipe": self.recipe,
            "provenance": self.provenance,
        }
        save_tensors(Path(path), self.network.state_dict(), meta)


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a model file or of a run folder.

    Raises:
        FileNotFoundError: there is none.
        ModelFileError, DataError: the file is damaged, holds something else, or describes a network or a preprocessing
            that cannot be; nothing in it can run code.
    """
    file = Path(path)
    if file.is_dir():
        if not (file / FILE).exists():
            raise FileNotFoundError(f"{printable(path)}: expected a run folder with {FILE}, got none{_instead(file)}")
        file = file / FILE
    tensors, meta = load_tensors(file)
    who = printable(file)
    if meta.get("format") != FORMAT:
        raise WeightsFormatError(f"{who}: expected a {FORMAT}, got {shown(meta.get('format'))}")
    if meta.get("version") != VERSION:
        raise UnsupportedModelError(
            f"{who}: expected version {VERSION}, got {shown(meta.get('version'))}; update stridenet"
        )
    try:
        fields = checked_fields(meta, who)
        network = build(meta.get("network"), limit=sum(tensor.size for tensor in tensors.values()))
        network.load_state_dict(tensors)
        return Model(network, **fields)
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{who}: {error}") from None
    except (ConfigError, UnsupportedModelError) as error:
        raise UnsupportedModelError(f"{who}: {error}") from None


def _instead(folder: Path) -> str:
    """What to do about a folder without a model, as the end of a message."""
    runs = sorted(folder.glob(f"*/{FILE}"))
    if runs:
        several = "several seeds" if (folder / "seeds.json").exists() else "several runs"
        return f", this holds {several}: give {printable(runs[0].parent)}"
    if (folder / "history.jsonl").exists():  # every run has a model from its first epoch on
        return "; the run has epochs, so the file is missing"
    begun = (folder / "recipe.json").exists()
    return "; the run has begun, its first epoch writes one" if begun else "; check the path"


def checked_fields(meta: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The arguments of `Model` beside the network, from what a file says of them: anything.

    Raises:
        WeightsFormatError: a field is missing, or of another type.
        ConfigError: the transform or the framing cannot be.
    """
    for name, kind in {
        "classes": list,
        "image_shape": list,
        "transform": list,
        "recipe": dict,
        "provenance": dict,
    }.items():
        if not isinstance(meta.get(name), kind):
            raise WeightsFormatError(f"{who}: expected {name} as a {kind.__name__}, got {shown(meta.get(name))}")
    classes, shape, framing = meta["classes"], meta["image_shape"], meta.get("framing")
    if not classes or not all(isinstance(name, str) for name in classes):
        raise WeightsFormatError(f"{who}: expected class names, got {shown(classes)}")
    if len(shape) != 3 or not all(type(n) is int and 0 < n <= 1 << 20 for n in shape):
        raise WeightsFormatError(f"{who}: expected image_shape (C, H, W), got {shown(shape)}")
    if not all(isinstance(entry, dict) for entry in meta["transform"]) or not isinstance(framing, dict | None):
        raise WeightsFormatError(f"{who}: expected transform and framing as tables, got others")
    return {
        "classes": tuple(classes),
        "image_shape": tuple(shape),
        "transform": Pipeline.from_spec(meta["transform"]),
        "framing": None if framing is None else Framing.from_spec(cast("dict[str, Any]", framing)),
        "recipe": meta["recipe"],
        "provenance": meta["provenance"],
    }
