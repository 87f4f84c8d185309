"""TinyImageNet: its lists and tables line by line, its images whatever their kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stridenet.data import tiny_imagenet
from stridenet.data.tiny_imagenet import load, read_wnids
from stridenet.errors import DataError, DataFormatError, DataLimitError, ImageError

WNIDS = ["n02124075", "n01443537", "n04067472"]
WORDS = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn04067472\treel\n"


def save(path: Path, seed: int, *, side: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*side, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, "JPEG")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes with three images each, and five to validate."""
    root = tmp_path / "tiny"
    for i, wnid in enumerate(WNIDS):
        for k in range(3):
            save(root / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", 10 * i + k)
        boxes = "".join(f"{wnid}_{k}.JPEG\t0\t10\t63\t58\n" for k in range(3))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
    for k in range(5):
        save(root / "val" / "images" / f"val_{k}.JPEG", 100 + k)
    annotations = "".join(f"val_{k}.JPEG\t{WNIDS[k % 3]}\t0\t32\t44\t62\n" for k in (3, 1, 4, 0, 2))
    (root / "val" / "val_annotations.txt").write_text(annotations)
    save(root / "test" / "images" / "test_0.JPEG", 200)
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    (root / "words.txt").write_text(WORDS)
    return root


def test_the_published_layout(tiny: Path) -> None:
    splits = load(tiny)
    assert (splits.name, splits.origin) == ("tiny", f"{tiny} (the images of val/ for the test)")
    assert splits.train.classes == ("Egyptian cat", "goldfish", "reel")  # the order of wnids.txt
    assert splits.train.images.shape == (9, 3, 64, 64)
    assert splits.train.targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert splits.test.targets.tolist() == [0, 1, 2, 0, 1]  # in the order of their names
    first = np.asarray(Image.open(tiny / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_0.JPEG")).transpose(2, 0, 1)
    assert np.array_equal(splits.train.images[3], first)


def test_another_size(tiny: Path) -> None:
    assert load(tiny, size=16).test.images.shape == (5, 3, 16, 16)


def test_what_may_be_missing(tiny: Path) -> None:
    before = load(tiny)
    (tiny / "words.txt").unlink()
    (tiny / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt").unlink()
    (tiny / "test" / "images" / "test_0.JPEG").unlink()
    after = load(tiny)
    assert after.train.classes == tuple(WNIDS)
    assert after.train.fingerprint() == before.train.fingerprint()


def test_words_that_two_classes_share(tiny: Path) -> None:
    (tiny / "words.txt").write_text("n02124075\treel, cat\nn01443537\tgoldfish\nn04067472\treel\n")
    assert load(tiny).train.classes == ("n02124075", "goldfish", "n04067472")


@pytest.mark.promise("T06")
def test_the_order_of_the_file_system_does_not_count(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(tiny)
    forwards = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(list(forwards(path))))
    after = load(tiny)
    assert after.train.fingerprint() == before.train.fingerprint()
    assert after.test.fingerprint() == before.test.fingerprint()


@pytest.mark.promise("T01")
@pytest.mark.parametrize("content", ["\ufeffa\nb", "a\r\nb\r\n", "\na\n\n \nb\n\n", "a \nb"])
def test_ways_to_write_a_list(tmp_path: Path, content: str) -> None:
    (tmp_path / "wnids.txt").write_bytes(content.encode())
    assert read_wnids(tmp_path / "wnids.txt") == ["a", "b"]


@pytest.mark.promise("T01", "T02")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a class in each line, got none"),
        (b"\n\r\n", "expected a class in each line, got none"),
        (b"a\nb\na\n", "line 3: expected each class once, it is in line 1 too, got 'a'"),
        (b"a\n../../etc\n", "line 2: expected the number of a class such as n01443537, got '../../etc'"),
        (b"/etc/passwd", "line 1: .*got '/etc/passwd'"),
        (b".", "line 1: "),
        (b"..", "line 1: "),
        (b"a\0b", r"line 1: .*got 'a\\x00b'"),
        (b"a/b", "line 1: "),
        (b"a\\b", "line 1: "),
        (b"a\tb", "line 1: "),
        (b"\xff\xfea\0", "line 1: "),
        (b"\x1b[31m", "line 1: "),
        (b"n" * 300, "line 1: "),
        (b"<!DOCTYPE html>", "line 1: "),
    ],
)
def test_lists_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "wnids.txt").write_bytes(content)
    with pytest.raises(DataFormatError, match=rf"wnids\.txt(, |: ){message}") as caught:
        read_wnids(tmp_path / "wnids.txt")
    assert str(caught.value).isprintable()


@pytest.mark.promise("T01")
def test_a_list_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wnids.txt"
    path.write_bytes(b"\n" * 10**7)
    with pytest.raises(DataLimitError, match="expected at most 1048576 bytes, got 10000000"):
        read_wnids(path)
    path.write_text("\n".join(map(str, range(10_001))))
    with pytest.raises(DataLimitError, match="expected at most 10000 classes"):
        read_wnids(path)


@pytest.mark.promise("T03")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../val_0.JPEG\tn02124075\t0\t0\t1\t1", "the name of a file in the first column, got '../val_0.JPEG'"),
        ("/etc/passwd\tn02124075\t0\t0\t1\t1", "the name of a file in the first column, got '/etc/passwd'"),
        ("..\tn02124075\t0\t0\t1\t1", "the name of a file in the first column"),
        ("val_0.JPEG n02124075 0 0 1 1", "6 columns with tabs between them, got 'val_0.JPEG n02124075"),
        ("val_0.JPEG\tn02124075", "6 columns with tabs between them"),
        ("val_0.JPEG\tn00000000\t0\t0\t1\t1", "a class of wnids.txt, got 'n00000000'"),
        ("val_9.JPEG\tn02124075\t0\t0\t1\t1", "the name of an image in val/images, got 'val_9.JPEG'"),
        ("val_3.JPEG\tn02124075\t0\t0\t1\t1", "each image once, got 'val_3.JPEG'"),
    ],
)
def test_annotations_that_are_none(tiny: Path, line: str, message: str) -> None:
    path = tiny / "val" / "val_annotations.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(DataFormatError, match=rf"val_annotations\.txt, line 3: expected {message}"):
        load(tiny)


def test_other_tables_that_are_none(tiny: Path) -> None:
    (tiny / "val" / "val_annotations.txt").write_text("\n")
    with pytest.raises(DataFormatError, match="expected a line for each validation image, got none"):
        load(tiny)
    boxes = tiny / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt"
    boxes.write_text("missing.JPEG\t0\t0\t1\t1\n")
    with pytest.raises(DataFormatError, match=r"boxes\.txt, line 1: expected the name of an image that is here, got"):
        load(tiny)
    (tiny / "words.txt").write_text("n02124075 cat")
    with pytest.raises(DataFormatError, match=r"words\.txt, line 1: expected a number, a tab and words"):
        load(tiny)


def test_missing_files_are_named(tiny: Path) -> None:
    for file in (tiny / "val" / "val_annotations.txt", tiny / "wnids.txt"):
        file.unlink()
        with pytest.raises(FileNotFoundError, match=file.name):
            load(tiny)
    (tiny / "wnids.txt").write_text("n02124075\nn99999999")
    with pytest.raises(FileNotFoundError, match="n99999999"):
        load(tiny)
    (tiny / "train" / "n99999999" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"n99999999.*: expected the images of a class, got none"):
        load(tiny)


@pytest.mark.promise("T04")
@pytest.mark.parametrize(
    ("side", "mode"), [((64, 64), "L"), ((64, 64), "CMYK"), ((64, 63), "RGB"), ((1, 1), "L"), ((500, 300), "RGB")]
)
def test_other_kinds_of_images_become_rgb_of_one_size(tiny: Path, side: tuple[int, int], mode: str) -> None:
    path = tiny / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"
    before = load(tiny).train.images
    save(path, 0, side=side, mode=mode)
    after = load(tiny).train.images
    assert np.array_equal(before[2:], after[2:])
    if mode == "L":
        assert np.array_equal(after[1, 0], after[1, 1])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageError, match=f"{WNIDS[0]}_1.JPEG"):
        load(tiny)


@pytest.mark.promise("T07")
def test_what_is_no_image_is_left_out(tiny: Path) -> None:
    before = load(tiny)
    for name in ("Thumbs.db", ".DS_Store", "._n02124075_0.JPEG"):
        (tiny / "train" / WNIDS[0] / "images" / name).write_bytes(b"x")
        (tiny / "val" / "images" / name).write_bytes(b"x")
    (tiny / "__MACOSX").mkdir()
    after = load(tiny)
    assert after.train.fingerprint() == before.train.fingerprint()
    assert after.test.fingerprint() == before.test.fingerprint()


def test_its_limits_hold_what_is_published() -> None:
    assert tiny_imagenet.MAX_LIST > 200 * 10
    assert tiny_imagenet.MAX_TABLE > 2_655_750
