"""Names and folders: what `--data` finds, in which order it looks, what it says where there is nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pickles
from stridenet.data import catalogue, fetch, mnist
from stridenet.data.catalogue import NAMES, has_pictures, open_data, verify
from stridenet.errors import ConfigError, DataError, DataIntegrityError, DownloadError


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idx_files: dict[str, bytes]) -> None:
    """An empty cache, no STRIDENET_DATA, no mirror; the small files are what is pinned."""
    pinned = {n: fetch.Pinned(len(c), hashlib.sha256(c).hexdigest()) for n, c in idx_files.items()}
    monkeypatch.setattr(fetch, "MNIST", pinned)
    monkeypatch.setattr(fetch, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setattr(fetch, "cache_folder", lambda name="mnist": tmp_path / "cache" / name)
    monkeypatch.setattr(fetch, "CIFAR10_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.delenv("STRIDENET_DATA", raising=False)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_mnist_is_taken_from_the_folder_of_data_sets_first(
    tmp_path: Path, idx_files: dict[str, bytes], idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = fill(tmp_path / "cache" / "mnist", idx_files)
    assert open_data("mnist").origin == str(cached)
    (tmp_path / "data").mkdir()
    idx_folder.rename(tmp_path / "data" / "mnist")
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "data"))
    splits = open_data("mnist", download=False)
    assert splits.origin == str(tmp_path / "data" / "mnist")
    assert splits.name == "mnist"
    assert len(splits.train) == 40
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))  # a folder of other data sets
    assert open_data("mnist").origin == str(cached)


def test_mnist_has_ten_classes_whatever_its_labels_say(
    tmp_path: Path, idx_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = bytearray(idx_files[mnist.TRAIN[1]])
    labels[8] = 10
    fill(tmp_path / "mnist", idx_files | {mnist.TRAIN[1]: bytes(labels)})
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))
    with pytest.raises(DataError, match="for 10 classes, got 10 at index 0"):
        open_data("mnist")


def test_mnist_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no download was asked for.*stridenet data fetch mnist"):
        open_data("mnist", download=False)
    with pytest.raises(DownloadError, match="--data FOLDER"):
        open_data("mnist")
    assert not (tmp_path / "cache").exists()


def test_a_cache_is_verified(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    cached = fill(tmp_path / "cache" / "mnist", idx_files)
    assert open_data("mnist", download=False).origin == str(cached)
    content = bytearray(idx_files[mnist.TEST[0]])
    content[-1] ^= 1
    (cached / mnist.TEST[0]).write_bytes(bytes(content))
    with pytest.raises(FileNotFoundError):
        open_data("mnist", download=False)


def test_digits_need_nothing() -> None:
    assert open_data("digits", download=False).name == "digits"
    prints = {open_data("digits", seed=seed).test.fingerprint() for seed in (0, 1)}
    assert len(prints) == 2


def test_a_folder_is_recognised_by_what_it_holds(idx_folder: Path) -> None:
    splits = open_data(str(idx_folder))
    assert (splits.name, splits.origin) == ("tiny", str(idx_folder))
    assert np.bincount(splits.test.targets).tolist() == [2] * 10


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    kinds = r"four IDX files .*, the batches of CIFAR-10, TinyImageNet, or a folder of pictures for each class"
    with pytest.raises(DataError, match=rf"expected {kinds}, got holiday\.jpg$"):
        open_data(str(tmp_path))
    (tmp_path / "holiday.jpg").unlink()
    with pytest.raises(DataError, match=rf"expected {kinds}, got an empty folder$"):
        open_data(str(tmp_path))
    (tmp_path / mnist.TRAIN[0]).touch()  # one of the four: the others are missing
    with pytest.raises(DataError, match=rf"expected the four IDX files .*; missing: {', '.join(mnist.TRAIN[1:])}, "):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("minst", "did you mean 'mnist'"),
        ("MNIST", "did you mean 'mnist'"),
        ("digit", "did you mean 'digits'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("/no/such", "check the path"),
    ],
)
def test_a_name_that_is_none(source: str, hint: str) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=f"data {source}: expected a folder or one of mnist, cifar10, digits, got neither; {hint}",
    ):
        open_data(source)


def test_a_file_is_no_folder(idx_folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match="give the folder that holds it"):
        open_data(str(idx_folder / f"{mnist.TRAIN[0]}.gz"))


def test_control_characters_of_a_name_are_escaped() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_data("a\x1b[31m\n")
    assert str(caught.value).isprintable()


def test_every_name_can_be_opened(tmp_path: Path, idx_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "cache" / "mnist", idx_files)
    fill(tmp_path / "data" / "cifar-10-batches-py", pickles.batches())
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "data"))
    for name, line in NAMES.items():
        assert open_data(name).name == name
        assert line.isprintable()


@pytest.mark.promise("F9")
@pytest.mark.parametrize("where", ["cache", "folder"])
def test_verify_reads_every_file(
    tmp_path: Path, idx_files: dict[str, bytes], idx_folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "cache":
        folder = fill(tmp_path / "cache" / "mnist", idx_files)
    else:
        folder = idx_folder.rename(tmp_path / "mnist")  # compressed: the content is what is pinned
        monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))
    assert verify("mnist") == folder
    for name, content in idx_files.items():
        path = mnist.find(folder, name)
        assert path is not None
        before = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataIntegrityError, match=f"{name}.*expected content of SHA-256"):
            verify("mnist")
        path.unlink()
        with pytest.raises(DataIntegrityError, match=f"expected {name} in .*got no such file"):
            verify("mnist")
        path.write_bytes(before)


def test_verify_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"no MNIST in .*; fetch it first"):
        verify("mnist")
    for name in ("digits", "x"):
        with pytest.raises(ConfigError, match="expected mnist or cifar10"):
            verify(name)


def test_the_module_knows_no_other_names() -> None:
    assert list(catalogue.NAMES) == ["mnist", "cifar10", "digits"]


def test_a_wrong_data_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "misspelt"))
    with pytest.raises(FileNotFoundError, match=r"^STRIDENET_DATA: expected a folder, got .*misspelt; correct it"):
        open_data("mnist")
    assert len(open_data("digits").train) > 0


# CIFAR-10


def archive(files: dict[str, bytes]) -> bytes:
    return pickles.tar({f"cifar-10-batches-py/{name}": content for name, content in files.items()})


@pytest.fixture
def pinned_archive(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small archive, which is what is pinned."""
    content = archive(pickles.batches())
    monkeypatch.setattr(fetch, "CIFAR10_PIN", fetch.Pinned(len(content), hashlib.sha256(content).hexdigest()))
    return content


def test_cifar10_is_taken_from_the_folder_of_data_sets_first(
    tmp_path: Path, pinned_archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = fill(tmp_path / "cache" / "cifar10", {fetch.CIFAR10: pinned_archive}) / fetch.CIFAR10
    assert open_data("cifar10").origin == str(cached)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "data"))
    assert open_data("cifar10", download=False).origin == str(cached)
    (tmp_path / "data" / fetch.CIFAR10).write_bytes(pinned_archive)
    assert open_data("cifar10").origin == str(tmp_path / "data" / fetch.CIFAR10)
    folder = fill(tmp_path / "data" / "cifar-10-batches-py", pickles.batches())
    assert open_data("cifar10").origin == str(folder)
    monkeypatch.setenv("STRIDENET_DATA", str(folder))  # the innermost
    assert open_data("cifar10").origin == str(folder)


def test_cifar10_that_is_nowhere(tmp_path: Path, pinned_archive: bytes) -> None:
    with pytest.raises(FileNotFoundError, match=r"no download was asked for.*stridenet data fetch cifar10"):
        open_data("cifar10", download=False)
    with pytest.raises(DownloadError, match=r"cifar-10-python\.tar\.gz.*--data FOLDER"):
        open_data("cifar10")
    fill(tmp_path / "cache" / "cifar10", {fetch.CIFAR10: pinned_archive[:-1] + b"x"})
    with pytest.raises(FileNotFoundError):
        open_data("cifar10", download=False)


@pytest.mark.promise("F9")
def test_verify_compares_the_archive(tmp_path: Path, pinned_archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 in .*; fetch it first"):
        verify("cifar10")
    place = fill(tmp_path / "cache" / "cifar10", {fetch.CIFAR10: pinned_archive}) / fetch.CIFAR10
    assert verify("cifar10") == place
    place.write_bytes(pinned_archive[:-1] + b"x")
    with pytest.raises(DataIntegrityError, match="as published, got other bytes"):
        verify("cifar10")
    fill(tmp_path / "data" / "cifar-10-batches-py", pickles.batches())
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=r"which has a pinned digest, got .*cifar-10-batches-py"):
        verify("cifar10")


@pytest.mark.parametrize("name", ["", "cifar-10-batches-py", fetch.CIFAR10])
def test_cifar10_is_recognised(tmp_path: Path, name: str) -> None:
    if name == fetch.CIFAR10:
        (tmp_path / name).write_bytes(archive(pickles.batches()))
    else:
        fill(tmp_path / "cifar-10-batches-py", pickles.batches())
    splits = open_data(str(tmp_path / name))
    assert (splits.name, len(splits.train), splits.train.image_shape) == ("cifar10", 20, (3, 32, 32))


# Pictures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(10):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), (i, 0, 9), np.uint8)).save(path)
    return tmp_path / "photos"


def test_a_folder_for_each_class_is_recognised(photos: Path) -> None:
    assert has_pictures(str(photos))
    assert open_data(str(photos)).train.image_shape == (3, 20, 20)
    assert open_data(str(photos), size=7).train.image_shape == (3, 7, 7)
    assert open_data(str(photos), seed=1).train.fingerprint() != open_data(str(photos), seed=2).train.fingerprint()


def test_tiny_imagenet_is_recognised(photos: Path) -> None:
    (photos / "wnids.txt").touch()
    assert has_pictures(str(photos))
    with pytest.raises(DataError, match=r"wnids\.txt: expected a class in each line, got none"):
        open_data(str(photos))


def test_a_size_is_for_pictures(photos: Path, idx_folder: Path) -> None:
    for source in ("mnist", "digits", "cifar10", str(idx_folder), "/no/such"):
        assert not has_pictures(source)
        with pytest.raises(ConfigError, match=r'expected no size but for a folder of pictures, got 32; .*"resize"'):
            open_data(source, size=32)
    for size in (0, -1, 2.5, True):
        with pytest.raises(ConfigError, match="data: expected size"):
            open_data(str(photos), size=size)  # type: ignore[arg-type]
