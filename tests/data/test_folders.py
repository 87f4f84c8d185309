"""Folders of pictures, one for each class: what is taken, what is left out, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stridenet.data import folders
from stridenet.data.folders import load
from stridenet.errors import DataError, DataFormatError, DataLimitError, ImageError

Array = np.ndarray


def pixels(seed: int, rows: int = 20, columns: int = 20) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def save(path: Path, picture: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten pictures 20 x 20 of cats and five of dogs."""
    for i in range(15):
        save(tmp_path / "photos" / ("cat" if i < 10 else "dog") / f"{i:02d}.png", pixels(i))
    return tmp_path / "photos"


def test_a_folder_for_each_class(photos: Path) -> None:
    splits = load(photos, seed=1)
    assert splits.name == "photos"
    assert splits.origin == f"{photos} (2 classes; 20 x 20, --size takes another; a fifth held out for the test)"
    assert splits.train.classes == splits.test.classes == ("cat", "dog")
    assert np.bincount(splits.train.targets).tolist() == [8, 4]
    assert np.bincount(splits.test.targets).tolist() == [2, 1]
    found = {image.tobytes(): int(k) for part in splits[:2] for image, k in zip(part.images, part.targets, strict=True)}
    assert found == {pixels(i).transpose(2, 0, 1).tobytes(): int(i >= 10) for i in range(15)}
    assert load(photos, seed=1).train.fingerprint() == splits.train.fingerprint()
    assert load(photos, seed=2).train.fingerprint() != splits.train.fingerprint()


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_a_split_that_is_there_is_taken(photos: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    photos.rename(root / "train")
    for i, kind in enumerate(("cat", "dog", "dog")):
        save(root / name / kind / f"{i}.png", pixels(100 + i))
    splits = load(root)
    assert (len(splits.train), splits.test.targets.tolist()) == (15, [0, 1, 1])
    assert splits.origin.endswith(f"; {name}/ for the test)")
    assert np.array_equal(splits.test.images[2], pixels(102).transpose(2, 0, 1))
    save(root / "test" / "cat" / "x.png", pixels(200))
    save(root / "test" / "dog" / "x.png", pixels(201))
    assert load(root).origin.endswith("; test/ for the test)")  # before all others


def test_training_pictures_without_test_pictures_are_split(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    photos.rename(tmp_path / "root" / "train")
    splits = load(tmp_path / "root")
    assert (len(splits.train), len(splits.test), splits.name) == (12, 3, "root")


def test_test_pictures_of_other_classes(photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "train")
    for kind in ("cat", "fox"):
        save(tmp_path / "test" / kind / "0.png", pixels(100))
    with pytest.raises(DataError, match=r"test: expected the classes of .*train, got a difference in dog, fox$"):
        load(tmp_path)


@pytest.mark.promise("F09")
def test_test_pictures_that_are_training_pictures(photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "train")
    for i, kind in enumerate(("cat", "dog")):
        save(tmp_path / "test" / kind / f"{i}.png", pixels(100 + i))
    save(tmp_path / "test" / "dog" / "again.bmp", pixels(3))
    with pytest.raises(DataError, match=r"got 1 that are training pictures too, such as .*again\.bmp; take them out"):
        load(tmp_path)


@pytest.mark.promise("F09")
def test_a_picture_that_is_there_twice_is_told_of(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        for i in range(10):
            save(tmp_path / kind / f"{i}.png", pixels(7 if kind == "cat" else i))
    assert "; 2 test pictures are training pictures too)" in load(tmp_path).origin


# Sizes and channels


@pytest.mark.promise("F05")
@pytest.mark.parametrize(
    ("sizes", "size", "side"),
    [
        ([(20, 20)] * 4, None, 20),
        ([(64, 64)] * 4, None, 64),
        ([(65, 65)] * 4, None, 32),
        ([(15, 15)] * 4, None, 32),
        ([(20, 30)] * 4, None, 32),
        ([(20, 20), (20, 20), (20, 20), (30, 30)], None, 32),
        ([(100, 80), (20, 20), (1, 1), (7, 300)], None, 32),
        ([(20, 20)] * 4, 8, 8),
        ([(20, 20), (20, 20), (20, 20), (30, 30)], 20, 20),
    ],
)
def test_the_size(tmp_path: Path, sizes: list[tuple[int, int]], size: int | None, side: int) -> None:
    for i, (rows, columns) in enumerate(sizes):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", pixels(i, rows, columns))
    splits = load(tmp_path, size=size)
    assert splits.train.image_shape == splits.test.image_shape == (3, side, side)
    assert f"; {side} x {side}, --size takes another;" in splits.origin


@pytest.mark.promise("F05")
def test_the_middle_is_kept(tmp_path: Path) -> None:
    """White in the middle third, black beside it."""
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 255
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / name, wide if name != "b/1.png" else wide.transpose(1, 0, 2))
    splits = load(tmp_path, size=16)
    assert splits.train.images.min() == splits.test.images.min() == 255


def test_grey_if_all_are(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", pixels(i)[:, :, 0])
    assert load(tmp_path).train.image_shape == (1, 20, 20)
    one = pixels(0)[:, :, :1].repeat(3, axis=2)
    one[5, 5, 2] ^= 1
    save(tmp_path / "a" / "0.png", one)
    assert load(tmp_path).train.image_shape == (3, 20, 20)


# What is there and is not taken


@pytest.mark.promise("T07")
def test_what_is_no_picture_is_left_out_and_counted(photos: Path) -> None:
    before = load(photos)
    for name in ("Thumbs.db", ".DS_Store", "._00.png", "notes.txt", "picture.webp"):
        (photos / "cat" / name).write_bytes(b"x")
    save(photos / "cat" / "old" / "1.png", pixels(1))
    save(photos / "__MACOSX" / "cat" / "1.png", pixels(1))
    save(photos / ".hidden" / "1.png", pixels(1))
    (photos / "readme.txt").touch()
    after = load(photos)
    assert after.train.fingerprint() == before.train.fingerprint()
    assert after.origin.endswith("; 6 other entries left out)")


@pytest.mark.promise("T06")
def test_the_order_of_the_file_system_does_not_count(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(photos)
    forwards = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(list(forwards(path))))
    after = load(photos)
    assert after.train.fingerprint() == before.train.fingerprint()
    assert after.test.fingerprint() == before.test.fingerprint()


# What is refused


@pytest.mark.promise("F01")
def test_fewer_than_two_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder for each of two classes or more, got none"):
        load(tmp_path)
    save(tmp_path / "cat" / "1.png", pixels(1))
    with pytest.raises(DataError, match="expected a folder for each of two classes or more, got cat"):
        load(tmp_path)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.gif").touch()
    with pytest.raises(DataError, match=r"dog: expected pictures .*, got 1 other entries; put them right into it"):
        load(tmp_path)


@pytest.mark.promise("F01")
def test_too_much(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataLimitError, match=r"photos: expected at most 4294967296 bytes .* 15 of 20000 x 20000"):
        load(photos, size=20_000)
    monkeypatch.setattr(folders, "MAX_CLASSES", 1)
    with pytest.raises(DataLimitError, match="expected at most 1 classes, got 2"):
        load(photos)


@pytest.mark.promise("F02", "F03", "F04")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "none that can be read"),
        (b"\xff\xd8\xff\xe0", "expected"),
        (b"GIF89a", "format GIF is not allowed"),
        (b"%!PS-Adobe", "format PostScript is not allowed"),
        (b"RIFF\0\0\0\0WEBP", "format WEBP is not allowed"),
    ],
)
def test_a_picture_that_is_none_is_named(photos: Path, content: bytes, message: str) -> None:
    (photos / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"bad\.png: .*{message}"):
        load(photos)


@pytest.mark.promise("F06")
@pytest.mark.parametrize("name", [b"a\xff", b"two\nlines", b"\x1b[31mred", b"<script>", "数字".encode(), b"a b"])
def test_any_class_name_can_be_shown(photos: Path, name: bytes) -> None:
    (photos / "dog").rename(photos / os.fsdecode(name))
    splits = load(photos)
    assert all(kind.isprintable() for kind in splits.train.classes)
    assert len(set(splits.train.classes)) == 2


@pytest.mark.promise("F07")
def test_links(photos: Path, tmp_path: Path) -> None:
    outside = save(tmp_path / "outside" / "secret.png", pixels(99))
    before = load(photos)
    (tmp_path / "link").symlink_to(photos)
    assert load(tmp_path / "link").train.fingerprint() == before.train.fingerprint()  # the user named it
    (photos / "dog" / "inside.png").symlink_to(photos / "dog" / "12.png")
    assert len(load(photos).train) == 13
    cases: dict[str, Callable[[Path], None]] = {
        "dog/x.png": lambda path: path.symlink_to(outside),
        "dog/y.png": lambda path: path.symlink_to("/dev/zero"),
        "fox": lambda path: path.symlink_to(outside.parent),
    }
    for name, make in cases.items():
        make(photos / name)
        with pytest.raises(DataError, match=f"{name}: expected no link out of the data, got one; copy what it names"):
            load(photos)
        (photos / name).unlink()
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "train").symlink_to(photos)  # all of it is elsewhere
    with pytest.raises(DataError, match="train: expected no link out of the data"):
        load(whole)
    (photos / "fox").symlink_to("fox")  # in itself: no folder
    assert len(load(photos).train) == 13
    (photos / "dog" / "x.png").symlink_to("x.png")
    with pytest.raises(OSError, match=r"x\.png"):
        load(photos)


@pytest.mark.promise("F07")
def test_a_pipe_does_not_make_it_wait(photos: Path) -> None:
    os.mkfifo(photos / "dog" / "x.png")
    with pytest.raises(DataFormatError, match=r"x\.png: not a regular file: expected one, got a FIFO"):
        load(photos)


@pytest.mark.promise("F08")
@pytest.mark.parametrize(("one", "two"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")])
def test_names_that_are_one_elsewhere(photos: Path, one: str, two: str) -> None:
    (photos / "cat").rename(photos / one)
    (photos / "dog").rename(photos / two)
    with pytest.raises(DataError, match="expected class names that differ in more than case or form, got '") as caught:
        load(photos)
    assert ascii(one) in str(caught.value)
    assert ascii(two) in str(caught.value)
