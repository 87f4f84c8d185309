"""CIFAR-10 as it is published: its Python batches or its binary version, in a folder or as the .tar.gz.

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
The Python batches are pickles, which `opcodes` reads as data; nothing is ever unpickled or extracted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stridenet.data.archive import members
from stridenet.data.dataset import Dataset, Splits, repeated
from stridenet.data.opcodes import MAX_BYTES, Value, read_pickle
from stridenet.errors import DataError, DataFormatError, DataLimitError, LabelError, printable, shown
from stridenet.files import read_regular
from stridenet.layout import Array
from stridenet.shapes import Shape

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_ARCHIVE = 2**28  # bytes of a .tar.gz; the published ones have 0.17 GB
MAX_ROWS = 100_000  # of a file

_SHAPE: Shape = (3, 32, 32)
_ROW = 3 * 32 * 32
_KEYS = {"data", "labels", "batch_label", "filenames"}
_MUCH = 0.01  # of the test images; from there on they are no test


class Batch(NamedTuple):
    """What a file holds: images uint8 (N, 3, 32, 32) and labels int64 (N,)."""

    images: Array
    labels: Array


def read_batch(data: bytes, who: str) -> Batch:
    """The images and labels of a Python batch; `who` names the file in errors.

    Raises:
        DataFormatError, DataLimitError: not a batch of CIFAR-10.
        LabelError: not one label in 0..9 for each image.
    """
    found = read_pickle(data, who)
    if "fine_labels" in found:
        raise DataFormatError(f"{who}: expected CIFAR-10, got fine_labels: it looks like CIFAR-100", path=who)
    if not {"data", "labels"} <= found.keys() <= _KEYS:
        keys = ", ".join(printable(key)[:40] for key in list(found)[:8])
        raise DataFormatError(f"{who}: expected the keys data and labels, got {keys or 'none'}", path=who)
    rows = found["data"]
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != _ROW or not len(rows):
        got = f"shape {rows.shape}" if isinstance(rows, np.ndarray) else f"a {type(rows).__name__}"
        raise DataFormatError(f"{who}: expected data of shape (N, {_ROW}), got {got}", path=who)
    _check_rows(len(rows), who)
    return Batch(rows.reshape(-1, *_SHAPE), _labels(found["labels"], len(rows), who))


def read_binary(data: bytes, who: str) -> Batch:
    """The images and labels of a file of the binary version: records of a label and 3072 pixels.

    Raises:
        DataFormatError, DataLimitError: not whole records, or too many.
        LabelError: a label is not in 0..9.
    """
    if not data or len(data) % (_ROW + 1):
        raise DataFormatError(
            f"{who}: expected records of {_ROW + 1} bytes, got {len(data)} bytes; truncated download?", path=who
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _ROW + 1)
    _check_rows(len(records), who)
    return Batch(records[:, 1:].reshape(-1, *_SHAPE), _in_range(records[:, 0].astype(np.int64), who))


def read_meta(data: bytes, who: str) -> tuple[str, ...]:
    """The names of the classes in batches.meta.

    Raises:
        DataFormatError: there are not ten different ones.
    """
    names = read_pickle(data, who).get("label_names")
    found = [_name(item) for item in names] if isinstance(names, list) else []
    return _ten(found, who)


def read_names(data: bytes, who: str) -> tuple[str, ...]:
    """The names of the classes in batches.meta.txt, one word each.

    Raises:
        DataFormatError: there are not ten different ones.
    """
    return _ten([printable(name.decode("ascii", "backslashreplace")) for name in data.split()], who)


def _ten(names: list[str], who: str) -> tuple[str, ...]:
    if len(set(names)) != len(CLASSES) or len(names) != len(CLASSES) or not all(names):
        raise DataFormatError(f"{who}: expected the names of {len(CLASSES)} classes, got {len(set(names))}", path=who)
    return tuple(names)


def _name(item: Any) -> str:
    if isinstance(item, bytes):
        return printable(item.decode("utf-8", "backslashreplace"))
    return printable(item) if isinstance(item, str) else ""


def _check_rows(count: int, who: str) -> None:
    if count > MAX_ROWS:
        raise DataLimitError(f"{who}: expected at most {MAX_ROWS} images, got {count}", limit=MAX_ROWS, value=count)


def _labels(labels: Value, count: int, who: str) -> Array:
    if not isinstance(labels, list) or len(labels) != count:
        got = f"{len(labels)} labels" if isinstance(labels, list) else f"a {type(labels).__name__}"
        raise LabelError(f"{who}: expected a list of one label for each of {count} images, got {got}")
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(CLASSES):
            got = shown(label) if isinstance(label, int | float | str | bytes) else f"a {type(label).__name__}"
            raise LabelError(f"{who}: expected labels as integers in 0..{len(CLASSES) - 1}, got {got} at index {i}")
    return np.array(labels, np.int64)


def _in_range(labels: Array, who: str) -> Array:
    bad = np.flatnonzero(labels >= len(CLASSES))
    if bad.size:
        raise LabelError(f"{who}: expected labels in 0..{len(CLASSES) - 1}, got {labels[bad[0]]} at index {bad[0]}")
    return labels


# Where the files are


class Layout(NamedTuple):
    """How a version is published: its folder, its archive, its files and their readers."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    meta: str
    read: Callable[[bytes, str], Batch]
    read_meta: Callable[[bytes, str], tuple[str, ...]]


LAYOUTS = (
    Layout(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        read_batch,
        read_meta,
    ),
    Layout(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
        read_binary,
        read_names,
    ),
)
_EXTRA = "readme.html"


def find(folder: Path) -> Path | None:
    """The folder of batches that `folder` is or holds, or the archive that it holds; None if there is none."""
    for layout in LAYOUTS:
        for place in (folder, folder / layout.folder):
            if any((place / name).exists() for name in (*layout.train, layout.test)):
                return place
        if (folder / layout.archive).is_file():
            return folder / layout.archive
    return None


def load(place: Path) -> Splits:
    """CIFAR-10 from the folder of its batches, or from its .tar.gz.

    Without batches.meta the classes have their published names. Test images that are training images too are told of
    in `origin`.

    Raises:
        DataFormatError: a file is missing or is not what it should be; DataLimitError: it is too large.
        LabelError: labels that are none.
        DataError: a hundredth of the test images or more are training images too.
        OSError: a file is not readable.
    """
    who = printable(place)
    layout, files = _archived(place, who) if place.is_file() else _in_folder(place)
    batches: dict[str, Batch] = {}
    classes = CLASSES
    for name, data in files:
        if name == layout.meta:
            classes = layout.read_meta(data, f"{who}: {name}")
        elif name != _EXTRA:
            batches[name] = layout.read(data, f"{who}: {name}")
    missing = [name for name in (*layout.train, layout.test) if name not in batches]
    if missing:
        raise DataFormatError(f"{who}: expected all batches of CIFAR-10, got no {', '.join(missing)}", path=who)
    parts = [batches[name] for name in layout.train]
    train = Dataset(np.concatenate([b.images for b in parts]), np.concatenate([b.labels for b in parts]), classes)
    test = Dataset(np.ascontiguousarray(batches[layout.test].images), batches[layout.test].labels, classes)
    return Splits(train, test, "cifar10", f"{who}{_told(train, test, who)}")


def _told(train: Dataset, test: Dataset, who: str) -> str:
    """What is said of test images that are training images; nothing where there are none."""
    twice = len(repeated(train.images, test.images))
    if twice >= _MUCH * len(test):
        raise DataError(
            f"{who}: expected test images of their own, got {twice} of {len(test)} that are training images: train and"
            " test contain the same images"
        )
    return f" ({twice} of the test images are training images too)" if twice else ""


def _in_folder(folder: Path) -> tuple[Layout, Iterator[tuple[str, bytes]]]:
    layout = next((ly for ly in LAYOUTS if any((folder / name).exists() for name in (*ly.train, ly.test))), LAYOUTS[0])
    names = [name for name in (*layout.train, layout.test, layout.meta) if (folder / name).exists()]
    return layout, ((name, read_regular(folder / name, limit=MAX_BYTES)) for name in names)


def _archived(path: Path, who: str) -> tuple[Layout, Iterator[tuple[str, bytes]]]:
    """The layout that the first member tells, and the files."""
    data = read_regular(path, limit=MAX_ARCHIVE)
    known = {
        f"{layout.folder}/{name}": layout
        for layout in LAYOUTS
        for name in (*layout.train, layout.test, layout.meta, _EXTRA)
    }
    found = members(data, who, names=known, limit=MAX_BYTES)
    name, content = next(found, ("", b""))
    layout = known.get(name, LAYOUTS[0])

    def files() -> Iterator[tuple[str, bytes]]:
        if name:
            yield name.rpartition("/")[2], content
        for other, data in found:
            if known[other] is not layout:
                raise DataFormatError(f"{who}: expected one version of CIFAR-10, got two", path=who)
            yield other.rpartition("/")[2], data

    return layout, files()
