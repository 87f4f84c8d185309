"""Data sets of four IDX files: what is found, how many classes there are, what does not fit together."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet.data import mnist
from stridenet.data.idx import read_idx
from stridenet.errors import DataError, DataFormatError, LabelError

Array = np.ndarray[Any, Any]
Encode = Callable[[Array], bytes]


def relabel(folder: Path, labels: Array, idx_bytes: Encode, part: str = "train") -> None:
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))


def test_the_four_files_become_two_data_sets(idx_folder: Path) -> None:
    train, test, name, origin = mnist.load(idx_folder)
    assert train.images.shape == (40, 1, 9, 8)
    assert test.images.shape == (20, 1, 9, 8)
    assert train.images.dtype == np.uint8
    assert train.classes == test.classes == tuple("0123456789")
    assert train.targets.tolist() == [i % 10 for i in range(40)]
    assert np.array_equal(test.images[:, 0], read_idx(idx_folder / "t10k-images-idx3-ubyte.gz"))
    assert (name, origin) == ("tiny", str(idx_folder))


@pytest.mark.parametrize("spelling", ["{}", "{}.gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_names_and_compression_may_vary(
    tmp_path: Path, idx_files: dict[str, bytes], spelling: str, dotted: bool
) -> None:
    for name, content in idx_files.items():
        file = spelling.format(name.replace("-idx", ".idx") if dotted else name)
        (tmp_path / file).write_bytes(content)
    assert len(mnist.load(tmp_path).train) == 40


@pytest.mark.parametrize("missing", [mnist.TRAIN[0], mnist.TEST[1]])
def test_a_missing_file_is_named_with_what_is_there(idx_folder: Path, missing: str) -> None:
    (idx_folder / f"{missing}.gz").unlink()
    (idx_folder / "notes\n.txt").touch()
    with pytest.raises(DataError, match=rf"expected the four IDX files.*got notes\\n.txt, .*; missing: {missing}$"):
        mnist.load(idx_folder)


def test_a_long_folder_is_listed_in_short(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i:03}.png").touch()
    with pytest.raises(DataError, match=r"got 000.png, .*, 007.png and 92 more; missing"):
        mnist.load(tmp_path)


@pytest.mark.promise("I09")
def test_as_many_labels_as_images(idx_folder: Path, idx_bytes: Encode) -> None:
    relabel(idx_folder, np.zeros(39, np.uint8), idx_bytes)
    with pytest.raises(LabelError, match=r"train-labels.*got 39 labels for the 40 images of .*train-images"):
        mnist.load(idx_folder)


@pytest.mark.promise("I10")
@pytest.mark.parametrize("bad", [10, 11, 255])
@pytest.mark.parametrize("part", ["train", "t10k"])
def test_a_label_without_a_class(idx_folder: Path, idx_bytes: Encode, bad: int, part: str) -> None:
    labels = np.arange(40 if part == "train" else 20, dtype=np.uint8) % 10
    labels[[7, 9]] = bad
    relabel(idx_folder, labels, idx_bytes, part)
    with pytest.raises(LabelError, match=f"{part}-labels.*labels in 0..9 for 10 classes, got {bad} at index 7"):
        mnist.load(idx_folder, classes=10)


@pytest.mark.promise("I10")
@pytest.mark.parametrize(("bad", "gap"), [(11, 10), (200, 10)])
def test_a_gap_in_the_labels_is_a_damaged_label(idx_folder: Path, idx_bytes: Encode, bad: int, gap: int) -> None:
    labels = np.arange(40, dtype=np.uint8) % 10
    labels[31] = bad
    relabel(idx_folder, labels, idx_bytes)
    with pytest.raises(LabelError, match=f"without a gap, got {bad} at index 31 and none that is {gap};"):
        mnist.load(idx_folder)


@pytest.mark.parametrize(("first", "last", "classes"), [(0, 3, 4), (1, 26, 27), (0, 0, 1)])
def test_the_number_of_classes_comes_from_the_training_labels(
    idx_folder: Path, idx_bytes: Encode, first: int, last: int, classes: int
) -> None:
    relabel(idx_folder, np.linspace(first, last, 40).astype(np.uint8), idx_bytes)
    relabel(idx_folder, np.full(20, last, np.uint8), idx_bytes, "t10k")
    splits = mnist.load(idx_folder)
    assert splits.train.classes == splits.test.classes == tuple(str(k) for k in range(classes))


def test_labels_of_another_type(idx_folder: Path, idx_bytes: Encode) -> None:
    relabel(idx_folder, np.arange(40, dtype=np.int32) % 10, idx_bytes)
    assert mnist.load(idx_folder).train.targets.dtype == np.int64
    relabel(idx_folder, (np.arange(40) % 10).astype(np.float32), idx_bytes)
    with pytest.raises(LabelError, match=r"train-labels.*integer labels"):
        mnist.load(idx_folder)
    relabel(idx_folder, (np.arange(40) % 10 - 1).astype(np.int8), idx_bytes)
    with pytest.raises(LabelError, match=r"train-labels.*got -1 at index 0"):
        mnist.load(idx_folder)


def test_images_of_another_type_are_named_with_their_file(idx_folder: Path, idx_bytes: Encode) -> None:
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(idx_bytes(np.zeros((20, 9, 8), np.int16)))
    with pytest.raises(DataError, match=r"t10k-images.*got int16"):
        mnist.load(idx_folder)


@pytest.mark.promise("I02")
def test_files_in_each_others_place(idx_folder: Path) -> None:
    images, labels = (idx_folder / f"{name}.gz" for name in mnist.TRAIN)
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)
    with pytest.raises(DataFormatError, match="did you swap images and labels"):
        mnist.load(idx_folder)


def test_a_missing_folder_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mnist.load(tmp_path / "absent")


def test_mnist_itself(mnist_folder: Path) -> None:
    train, test, _, _ = mnist.load(mnist_folder)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.images.mean() == pytest.approx(33.3184, abs=1e-4)
