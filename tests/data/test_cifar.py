"""CIFAR-10 in each of its forms, and what is no CIFAR-10."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pickles
from stridenet.data import cifar
from stridenet.data.cifar import read_batch, read_binary, read_meta, read_names
from stridenet.errors import DataError, DataFormatError, DataLimitError, LabelError

DATA, LABELS = pickles.small(0)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def binary(count: int = 4) -> dict[str, bytes]:
    """The binary version of `pickles.batches`."""
    files: dict[str, bytes] = {}
    for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        data, labels = pickles.small(i, count)
        files[name] = np.hstack([np.array(labels, np.uint8)[:, None], data]).tobytes()
    return files | {"batches.meta.txt": "\n".join((*pickles.CLASSES, "", "")).encode()}


FORMS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda home: write(home / "cifar-10-batches-py", pickles.batches()),
    "binary": lambda home: write(home / "cifar-10-batches-bin", binary()),
    "archive": lambda home: (
        write(
            home,
            {
                "cifar-10-python.tar.gz": pickles.tar(
                    {f"cifar-10-batches-py/{k}": v for k, v in pickles.batches().items()}
                )
            },
        )
        / "cifar-10-python.tar.gz"
    ),
    "binary archive": lambda home: (
        write(home, {"x.tgz": pickles.tar({f"cifar-10-batches-bin/{k}": v for k, v in binary().items()})}) / "x.tgz"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form: str, tmp_path: Path) -> None:
    splits = cifar.load(FORMS[form](tmp_path))
    assert (splits.name, len(splits.train), len(splits.test)) == ("cifar10", 20, 4)
    assert splits.train.classes == splits.test.classes == pickles.CLASSES == cifar.CLASSES
    for part, first, dataset in ((0, 0, splits.train), (4, 16, splits.train), (5, 0, splits.test)):
        data, labels = pickles.small(part)
        images = dataset.images[first : first + 4]
        assert np.array_equal(images, data.reshape(-1, 3, 32, 32))
        assert dataset.targets[first : first + 4].tolist() == labels
    assert splits.train.images.flags.c_contiguous
    assert splits.test.images.flags.c_contiguous


def test_they_are_found(tmp_path: Path) -> None:
    assert cifar.find(tmp_path) is None
    archive = FORMS["archive"](tmp_path)
    assert cifar.find(tmp_path) == archive
    folder = FORMS["folder"](tmp_path)
    assert cifar.find(tmp_path) == cifar.find(folder) == folder
    assert cifar.find(FORMS["binary"](tmp_path / "b").parent) == tmp_path / "b" / "cifar-10-batches-bin"


def test_without_its_meta_file_it_has_the_published_classes(tmp_path: Path) -> None:
    folder = FORMS["folder"](tmp_path)
    (folder / "batches.meta").write_bytes(pickles.meta(tuple("0123456789")))
    assert cifar.load(folder).train.classes == tuple("0123456789")
    (folder / "batches.meta").unlink()
    assert cifar.load(folder).train.classes == cifar.CLASSES


@pytest.mark.promise("C10")
def test_missing_batches_are_listed(tmp_path: Path) -> None:
    folder = FORMS["folder"](tmp_path)
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").unlink()
    with pytest.raises(DataFormatError, match=r"expected all batches of CIFAR-10, got no data_batch_3, test_batch$"):
        cifar.load(folder)
    only = pickles.tar({"cifar-10-batches-py/data_batch_1": pickles.batches()["data_batch_1"]})
    (tmp_path / "x.tgz").write_bytes(only)
    with pytest.raises(DataFormatError, match="got no data_batch_2, data_batch_3, data_batch_4, data_batch_5, test_b"):
        cifar.load(tmp_path / "x.tgz")
    (tmp_path / "x.tgz").write_bytes(pickles.tar({}))
    with pytest.raises(DataFormatError, match="got no data_batch_1"):
        cifar.load(tmp_path / "x.tgz")
    both = {"cifar-10-batches-py/data_batch_1": b"", "cifar-10-batches-bin/data_batch_1.bin": b""}
    (tmp_path / "x.tgz").write_bytes(pickles.tar(dict(reversed(both.items()))))
    with pytest.raises(DataFormatError, match="expected records"):
        cifar.load(tmp_path / "x.tgz")
    both["cifar-10-batches-py/data_batch_1"] = pickles.batches()["data_batch_1"]
    (tmp_path / "x.tgz").write_bytes(pickles.tar(both))
    with pytest.raises(DataFormatError, match="expected one version of CIFAR-10, got two"):
        cifar.load(tmp_path / "x.tgz")


@pytest.mark.promise("C12")
def test_a_test_set_that_was_trained_on(tmp_path: Path) -> None:
    folder = FORMS["folder"](tmp_path)
    train, test = pickles.small(1, 4)[0], pickles.small(5, 150)[0]
    (folder / "test_batch").write_bytes((folder / "data_batch_2").read_bytes())
    with pytest.raises(DataError, match="got 4 of 4 that are training images: train and test contain the same images"):
        cifar.load(folder)
    test[7] = train[2]
    (folder / "test_batch").write_bytes(pickle.dumps({"data": test, "labels": [0] * 150}, 4))
    assert cifar.load(folder).origin == f"{folder} (1 of the test images are training images too)"


@pytest.mark.promise("C06")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": DATA, "fine_labels": LABELS, "coarse_labels": LABELS}, "it looks like CIFAR-100"),
        ({b"data": DATA, b"fine_labels": LABELS}, "it looks like CIFAR-100"),
        ({"data": DATA}, "expected the keys data and labels, got data$"),
        ({}, "expected the keys data and labels, got none"),
        ({"data": DATA, "labels": LABELS, "\x1b[31m": 1}, r"got data, labels, \\x1b\[31m"),
        ({"data": [1], "labels": LABELS}, r"expected data of shape \(N, 3072\), got a list"),
        ({"data": DATA[:, 1:], "labels": LABELS}, r"got shape \(4, 3071\)"),
        ({"data": DATA[0], "labels": LABELS}, r"got shape \(3072,\)"),
        ({"data": DATA.reshape(4, 3, 32, 32), "labels": LABELS}, r"got shape \(4, 3, 32, 32\)"),
        ({"data": DATA[:0], "labels": []}, r"got shape \(0, 3072\)"),
        ({"data": np.asfortranarray(DATA), "labels": LABELS}, "expected an array .* C order"),
        ({"data": DATA.astype(np.float64), "labels": LABELS}, "expected an array of type u1, got 'f8'"),
    ],
)
def test_batches_of_something_else(content: dict[Any, Any], message: str) -> None:
    with pytest.raises(DataFormatError, match=f"^x: .*{message}"):
        read_batch(pickle.dumps(content, 4), "x")


@pytest.mark.promise("C08")
@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (LABELS[:-1], "3 labels"),
        ([*LABELS, 0], "5 labels"),
        ([], "0 labels"),
        ("abcd", "a str"),
        (None, "a NoneType"),
        (np.array(LABELS, np.uint8), "a ndarray"),
        ([0, True, 0, 0], "True at index 1"),
        ([0, 0, 1.0, 0], "1.0 at index 2"),
        ([0, 0, 0, 10], "10 at index 3"),
        ([-1, 0, 0, 0], "-1 at index 0"),
        ([2**62, 0, 0, 0], "4611686018427387904 at index 0"),
        ([0, [1], 0, 0], "a list at index 1"),
        ([0, (1,), 0, 0], "a tuple at index 1"),
        (["0", 0, 0, 0], "'0' at index 0"),
        ([None, 0, 0, 0], "a NoneType at index 0"),
    ],
)
def test_labels_that_are_none(labels: Any, got: str) -> None:
    with pytest.raises(LabelError, match=f"^x: expected .*, got {got}$"):
        read_batch(pickle.dumps({"data": DATA, "labels": labels}, 4), "x")


def test_the_binary_version_of_something_else() -> None:
    record = bytes([3]) + bytes(3072)
    assert read_binary(record * 2, "x").labels.tolist() == [3, 3]
    for data in (b"", record[:-1], record * 2 + b"x"):
        with pytest.raises(DataFormatError, match="expected records of 3073 bytes, got"):
            read_binary(data, "x")
    with pytest.raises(LabelError, match=r"expected labels in 0\.\.9, got 10 at index 1"):
        read_binary(record + bytes([10]) + bytes(3072), "x")


def test_too_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "MAX_ROWS", 3)
    with pytest.raises(DataLimitError, match="expected at most 3 images, got 4"):
        read_batch(pickles.published(DATA, LABELS), "x")
    with pytest.raises(DataLimitError, match="expected at most 3 images, got 4"):
        read_binary(bytes(4 * 3073), "x")


@pytest.mark.parametrize(
    "names", [[], ["a"] * 10, list("abcdefghi"), [*"abcdefghi", ""], [*"abcdefghi", 1], "ten", None]
)
def test_class_names_that_are_none(names: Any) -> None:
    with pytest.raises(DataFormatError, match="expected the names of 10 classes"):
        read_meta(pickle.dumps({"label_names": names}, 2), "x")
    with pytest.raises(DataFormatError, match="expected the names of 10 classes"):
        read_names(b"airplane\nautomobile\n", "x")


def test_class_names_are_printable() -> None:
    assert read_meta(pickle.dumps({"label_names": [*"abcdefgh", b"\xff", "\x1b"]}, 4), "x")[-2:] == (r"\xff", r"\x1b")


def test_the_full_data_set(cifar10_folder: Path) -> None:
    splits = cifar.load(cifar10_folder)
    assert splits.train.images.shape == (50_000, 3, 32, 32)
    assert np.bincount(splits.train.targets).tolist() == [5000] * 10
    assert np.bincount(splits.test.targets).tolist() == [1000] * 10
    assert splits.train.classes == cifar.CLASSES
