"""TinyImageNet as it is published: 200 classes of 64 x 64 photos in a folder (Stanford, cs231n).

wnids.txt                        the classes, one a line, as WordNet numbers
words.txt                        what the numbers mean: number, tab, words (may be missing)
train/WNID/images/*.JPEG         the training images
train/WNID/WNID_boxes.txt        their names and boxes (may be missing; names must be there, boxes are not used)
val/val_annotations.txt          the class of each image in val/images, and its box

The published test images have no labels, so those of val/ are what is tested on, once; they take no part in training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from stridenet.data.dataset import Dataset, Splits
from stridenet.data.folders import MAX_CLASSES, is_picture, read_pictures
from stridenet.errors import DataError, DataFormatError, DataLimitError, printable
from stridenet.files import read_regular

SIDE = 64
LIST = "wnids.txt"
MAX_LIST = 2**20  # bytes of wnids.txt
MAX_TABLE = 2**24  # bytes of a table; words.txt has 2.7 MB

_WORDS = "words.txt"
_ANNOTATIONS = "val_annotations.txt"
_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,64}")  # of classes and files: no path


def load(folder: Path, *, size: int | None = None) -> Splits:
    """The data set in `folder`: training images, and the validation images as the test; uint8 (N, 3, size, size).

    Grey images become RGB; an image of another size than `size` (64 without it) has its shorter side scaled and its
    middle kept. Classes are called by the first of their words, or by their number where that is not unique.

    Raises:
        DataFormatError, DataLimitError: a list or table is not what it should be; the line is named.
        DataError: a class without images.
        ImageError: an image cannot be read.
        OSError: a file is missing or not readable.
    """
    wnids = read_wnids(folder / LIST)
    classes = _names(folder, wnids)
    train = [(path, k) for k, wnid in enumerate(wnids) for path in _training(folder / "train" / wnid, wnid)]
    test = _validation(folder / "val", {wnid: k for k, wnid in enumerate(wnids)})
    images = read_pictures([path for path, _ in (*train, *test)], size or SIDE)
    targets = np.array([k for _, k in (*train, *test)], np.int64)
    parts = (Dataset(images[at], targets[at], classes) for at in (slice(len(train)), slice(len(train), None)))
    origin = f"{printable(folder)} (the images of val/ for the test)"
    return Splits(*parts, name=printable(folder.resolve().name), origin=origin)


def read_wnids(path: Path) -> list[str]:
    """The class numbers of wnids.txt.

    Raises:
        DataFormatError: none, one twice, or one that is no name; the line is named.
        DataLimitError: too many.
    """
    found: dict[str, int] = {}
    for line, text in _lines(path, MAX_LIST):
        if not _NAME.fullmatch(text):
            raise _wrong(path, line, "the number of a class such as n01443537", text)
        if text in found:
            raise _wrong(path, line, f"each class once, it is in line {found[text]} too", text)
        found[text] = line
        if len(found) > MAX_CLASSES:
            raise DataLimitError(f"{printable(path)}: expected at most {MAX_CLASSES} classes", limit=MAX_CLASSES)
    if not found:
        raise DataFormatError(f"{printable(path)}: expected a class in each line, got none", path=str(path))
    return list(found)


def _names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """What the classes are called."""
    path, words = folder / _WORDS, {wnid: wnid for wnid in wnids}
    if path.exists():
        for line, text in _lines(path, MAX_TABLE):
            wnid, tab, meaning = text.partition("\t")
            if not tab:
                raise _wrong(path, line, "a number, a tab and words", text)
            if wnid in words:
                words[wnid] = printable(meaning.split(",")[0].strip()) or wnid
    times = Counter(words.values())
    return tuple(name if times[name] == 1 else wnid for wnid, name in words.items())


def _training(folder: Path, wnid: str) -> list[Path]:
    """The images of a class; every one that its table of boxes names must be there."""
    images, boxes = folder / "images", folder / f"{wnid}_boxes.txt"
    found = sorted((path for path in images.iterdir() if is_picture(path)), key=lambda path: path.name)
    if not found:
        raise DataError(f"{printable(images)}: expected the images of a class, got none")
    if boxes.exists():
        names = {path.name for path in found}
        for line, row in _rows(boxes, 5):
            if row[0] not in names:
                raise _wrong(boxes, line, "the name of an image that is here", row[0])
    return found


def _validation(folder: Path, targets: dict[str, int]) -> list[tuple[Path, int]]:
    """The images that val_annotations.txt lists with their classes, sorted by name."""
    path, found = folder / _ANNOTATIONS, dict[str, int]()
    here = {entry.name for entry in (folder / "images").iterdir()}
    for line, (name, wnid, *_) in _rows(path, 6):
        if wnid not in targets:
            raise _wrong(path, line, f"a class of {LIST}", wnid)
        if name in found or name not in here:
            raise _wrong(path, line, "each image once" if name in found else "the name of an image in val/images", name)
        found[name] = targets[wnid]
    if not found:
        raise DataFormatError(f"{printable(path)}: expected a line for each validation image, got none", path=str(path))
    return [(folder / "images" / name, found[name]) for name in sorted(found)]


def _rows(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table whose first column is the name of a file."""
    for line, text in _lines(path, MAX_TABLE):
        row = text.split("\t")
        if len(row) != columns:
            raise _wrong(path, line, f"{columns} columns with tabs between them", text)
        if not _NAME.fullmatch(row[0]):
            raise _wrong(path, line, "the name of a file in the first column", row[0])
        yield line, row


def _lines(path: Path, limit: int) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers from 1."""
    data = BytesIO(read_regular(path, limit=limit).removeprefix(b"\xef\xbb\xbf"))
    for i, line in enumerate(data, 1):
        if line.strip():
            yield i, line.decode("utf-8", "backslashreplace").strip("\r\n ")


def _wrong(path: Path, line: int, expected: str, got: str) -> DataFormatError:
    return DataFormatError(
        f"{printable(path)}, line {line}: expected {expected}, got '{printable(got)[:80]}'", path=str(path)
    )
