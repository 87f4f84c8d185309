"""MNIST, and every data set that is published as its four IDX files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stridenet.data.dataset import Dataset, Splits
from stridenet.data.idx import read_idx
from stridenet.errors import DataError, LabelError, printable
from stridenet.layout import Array

TRAIN = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
_SHOWN = 8  # entries of a folder that an error lists


def load(folder: str | os.PathLike[str], *, classes: int | None = None) -> Splits:
    """The data set in `folder`: its four IDX files, plain or .gz, named "...-idx3-ubyte" or "....idx3-ubyte".

    Images are uint8 (N, 1, H, W); classes are named "0", "1", ... Without `classes`, their number is the largest
    training label plus one, and every label up to it must occur (0 may be missing: EMNIST letters start at 1).

    Raises:
        DataError: a file is missing, or not usable (also DataFormatError, DataLimitError).
        LabelError: images and labels differ in number, or a label is out of range.
        OSError: the folder or a file is not readable.
    """
    folder = Path(folder)
    found = {name: path for name in TRAIN + TEST if (path := find(folder, name))}
    missing = [name for name in TRAIN + TEST if name not in found]
    if missing:
        raise DataError(
            f"{printable(folder)}: expected the four IDX files {', '.join(TRAIN + TEST)} (plain or .gz), got"
            f" {listing(folder)}; missing: {', '.join(missing)}"
        )
    train = _read(found[TRAIN[0]], found[TRAIN[1]], classes)
    test = _read(found[TEST[0]], found[TEST[1]], len(train.classes))
    return Splits(train, test, printable(folder.resolve().name), printable(folder))


def find(folder: Path, name: str) -> Path | None:
    """The file of `folder` that holds `name`, plain or compressed, in either spelling; None if there is none."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / f"{spelling}{suffix}"
            if path.exists():
                return path
    return None


def _read(image_path: Path, label_path: Path, classes: int | None) -> Dataset:
    images, labels = read_idx(image_path, expect="images"), read_idx(label_path, expect="labels")
    if len(images) != len(labels):
        raise LabelError(
            f"{printable(label_path)}: expected one label per image, got {len(labels)} labels for the {len(images)}"
            f" images of {printable(image_path)}"
        )
    try:
        count = _class_count(labels) if classes is None else classes
        return Dataset(images[:, None], labels, tuple(str(k) for k in range(count)))
    except LabelError as error:
        raise LabelError(f"{printable(label_path)}: {error}") from None
    except DataError as error:
        raise DataError(f"{printable(image_path)}: {error}") from None


def _class_count(labels: Array) -> int:
    """The largest label plus one, if the labels look like 0..k-1: a gap is a damaged label rather than a class."""
    present, first = np.unique(labels, return_index=True)
    start = 1 if present[0] == 1 else 0
    wrong = np.flatnonzero(present != np.arange(start, start + len(present)))
    if wrong.size:
        raise LabelError(
            f"expected labels 0, 1, 2 ... without a gap, got {present[wrong[0]]} at index {first[wrong[0]]} and none"
            f" that is {start + wrong[0]}; if that is meant, give the number of classes"
        )
    return int(present[-1]) + 1


def listing(folder: Path) -> str:
    """The first entries of `folder`, for an error to show."""
    names = sorted(printable(entry.name) for entry in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "an empty folder") + more
