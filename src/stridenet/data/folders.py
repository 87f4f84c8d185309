"""A folder of pictures with one sub-folder for each class, as people keep their photos.

Pictures are the files of a class folder that end in .png, .jpg, .jpeg, .bmp, .ppm or .pgm, in any case, and are not
hidden. Other files and deeper folders are left out; `origin` says how many there were.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stridenet.data.dataset import Dataset, Splits, repeated
from stridenet.data.images import fit_image, read_image
from stridenet.errors import DataError, DataLimitError, printable
from stridenet.layout import Array

DEFAULT_SIZE = 32
MAX_CLASSES = 10_000
MAX_BYTES = 2**32  # of all pictures, as they are held in memory
TEST_SHARE = 0.2  # of the pictures of a folder that has no test pictures of its own

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm"}
_KEPT = range(16, 65)  # sides of square pictures that stay as they are
_TESTS = ("test", "val", "valid", "validation")  # the first that is there
_IGNORED = {"__MACOSX"}
_SHOWN = 3  # examples in a message


class Tree(NamedTuple):
    """The class folders of a folder, in order, with their pictures; and how many other entries there were."""

    classes: tuple[str, ...]
    pictures: list[tuple[Path, int]]  # with the index of the class
    others: int


def is_class_folders(folder: Path) -> bool:
    """Whether `folder` holds a folder that is not hidden."""
    return any(_is_class(entry) for entry in folder.iterdir())


def load(folder: Path, *, size: int | None = None, seed: int = 0) -> Splits:
    """The pictures of the class folders of `folder`, or of train/ and test/ (else val/, valid/, validation/) in it.

    Without those, a fifth of the pictures, drawn with `seed`, stratified by class, is for the test. Images are uint8
    (N, 3, size, size), or (N, 1, size, size) where every picture is grey: the shorter side is scaled, the middle kept.
    Without `size` pictures that are all square, of one side of 16 to 64, stay as they are; others become 32 x 32.

    Raises:
        DataError: fewer than two classes, a class without pictures, two class names that only differ in case or in
            the form of their characters, a link that leads out of `folder`, or test pictures that are training
            pictures; DataLimitError: too many of them.
        ImageError: a picture cannot be read.
        OSError: a file or folder is not readable.
    """
    parts = [folder]
    if _is_class(folder / "train") and is_class_folders(folder / "train"):
        parts = [folder / "train", *[folder / name for name in _TESTS if _is_class(folder / name)][:1]]
    for part in parts:
        if part != folder:
            _check_inside(part, os.path.realpath(folder))
    trees = [tree(part, root=folder) for part in parts]
    _check_alike(trees, parts)
    images = _grey_if_all_are(read_pictures([path for t in trees for path, _ in t.pictures], size))
    targets = np.array([target for t in trees for _, target in t.pictures], np.int64)
    whole, count = Dataset(images, targets, trees[0].classes), len(trees[0].pictures)
    if len(parts) > 1:
        order = np.arange(len(whole))
        train, test = whole.subset(order[:count]), whole.subset(order[count:])
    else:
        train, test = whole.split(max(round(TEST_SHARE * count), 1), seed=seed)
    twice = repeated(train.images, test.images)
    if twice and len(parts) > 1:
        examples = ", ".join(printable(trees[1].pictures[i][0]) for i, _ in twice[:_SHOWN])
        raise DataError(
            f"{printable(folder)}: expected test pictures of their own, got {len(twice)} that are training pictures"
            f" too, such as {examples}; take them out of one of the two"
        )
    origin = f"{printable(folder)}{_about(whole, parts, sum(t.others for t in trees), len(twice))}"
    return Splits(train, test, printable(folder.resolve().name), origin)


def tree(folder: Path, *, root: Path) -> Tree:
    """The class folders of `folder` and their pictures, sorted by name; no link may lead out of `root`.

    Raises:
        DataError, DataLimitError: as `load`.
    """
    who, inside = printable(folder), os.path.realpath(root)
    found = sorted((entry for entry in folder.iterdir() if _is_class(entry)), key=lambda entry: entry.name)
    if len(found) > MAX_CLASSES:
        raise DataLimitError(f"{who}: expected at most {MAX_CLASSES} classes, got {len(found)}", limit=MAX_CLASSES)
    if len(found) < 2:
        names = ", ".join(printable(entry.name) for entry in found) or "none"
        raise DataError(f"{who}: expected a folder for each of two classes or more, got {names}")
    _check_twins([entry.name for entry in found], who)
    pictures: list[tuple[Path, int]] = []
    others = 0
    for target, entry in enumerate(found):
        _check_inside(entry, inside)
        files = sorted(entry.iterdir(), key=lambda file: file.name)
        chosen = [file for file in files if is_picture(file)]
        for file in chosen:
            _check_inside(file, inside)
        if not chosen:
            raise DataError(
                f"{printable(entry)}: expected pictures (PNG, JPEG, BMP or PPM) in the folder of a class, got"
                f" {len(files)} other entries; put them right into it, or take the folder away"
            )
        pictures += [(file, target) for file in chosen]
        others += len(files) - len(chosen)
    return Tree(tuple(printable(entry.name) for entry in found), pictures, others)


def is_picture(file: Path) -> bool:
    """Whether the name of `file` is that of a picture."""
    return file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")


def read_pictures(paths: Sequence[Path], size: int | None) -> Array:
    """The pictures as uint8 RGB (N, 3, size, size); without `size` it is chosen as `load` says.

    Raises:
        ImageError, DataLimitError: a picture cannot be read, or they would be too many; OSError as for any file.
    """
    first = read_image(paths[0], channels=3)
    rows, columns = first.shape[1:]
    side = size or (rows if rows == columns and rows in _KEPT else DEFAULT_SIZE)
    shape = (len(paths), 3, side, side)
    if (need := 3 * side * side * len(paths)) > MAX_BYTES:
        raise DataLimitError(
            f"{printable(paths[0].parent.parent)}: expected at most {MAX_BYTES} bytes of images, got {len(paths)} of"
            f" {side} x {side}: {need}; give a smaller size",
            limit=MAX_BYTES,
            value=need,
        )
    images = np.empty(shape, np.uint8)
    for i, path in enumerate(paths):
        image = read_image(path, channels=3) if i else first
        if image.shape != shape[1:]:
            if size is None and side != DEFAULT_SIZE:  # they are not all alike
                return read_pictures(paths, DEFAULT_SIZE)
            image = np.rint(fit_image(image, (side, side), None) * 255)
        images[i] = image
    return images


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".") and entry.name not in _IGNORED


def _check_inside(entry: Path, root: str) -> None:
    """Refuse a link that leads out of the folder that the user named."""
    if entry.is_symlink() and not os.path.realpath(entry).startswith(root + os.sep):
        raise DataError(f"{printable(entry)}: expected no link out of the data, got one; copy what it names")


def _check_twins(names: Sequence[str], who: str) -> None:
    """Refuse names that are one name on other file systems."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other is not name:
            got = f"{other!a} and {name!a}"
            raise DataError(f"{who}: expected class names that differ in more than case or form, got {got}; rename one")


def _check_alike(trees: Sequence[Tree], parts: Sequence[Path]) -> None:
    """Refuse classes of the test that are not those of the training."""
    if len(trees) > 1 and trees[0].classes != trees[1].classes:
        odd = sorted(set(trees[0].classes) ^ set(trees[1].classes))
        raise DataError(
            f"{printable(parts[1])}: expected the classes of {printable(parts[0])}, got a difference in"
            f" {', '.join(odd[:_SHOWN])}{' and others' if len(odd) > _SHOWN else ''}"
        )


def _grey_if_all_are(images: Array) -> Array:
    """(N, 1, H, W) if red, green and blue are equal in every pixel, else `images` (N, 3, H, W)."""
    if all((image[0] == image[1]).all() and (image[0] == image[2]).all() for image in images):
        return np.ascontiguousarray(images[:, :1])
    return images


def _about(whole: Dataset, parts: Sequence[Path], others: int, twice: int) -> str:
    """What people should know of the choices that were made."""
    _, rows, columns = whole.image_shape
    said = [f"{len(whole.classes)} classes", f"{rows} x {columns}, --size takes another"]
    said += ["a fifth held out for the test"] if len(parts) == 1 else [f"{parts[1].name}/ for the test"]
    said += [f"{others} other entries left out"] if others else []
    said += [f"{twice} test pictures are training pictures too"] if twice else []
    return f" ({'; '.join(said)})"
