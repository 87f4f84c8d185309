"""Names and folders: what `--data` finds, in which order it looks, what it says where there is nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stridenet.data import catalogue, fetch, mnist
from stridenet.data.catalogue import NAMES, open_data, verify
from stridenet.errors import ConfigError, DataError, DataIntegrityError, DownloadError


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idx_files: dict[str, bytes]) -> None:
    """An empty cache, no STRIDENET_DATA, no mirror; the small files are what is pinned."""
    pinned = {n: fetch.Pinned(len(c), hashlib.sha256(c).hexdigest()) for n, c in idx_files.items()}
    monkeypatch.setattr(fetch, "MNIST", pinned)
    monkeypatch.setattr(fetch, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache" / "mnist")
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
    with pytest.raises(
        DataError, match=r"expected the four IDX files train-images-idx3-ubyte.*got holiday.jpg; missing"
    ):
        open_data(str(tmp_path))
    (tmp_path / "holiday.jpg").unlink()
    with pytest.raises(DataError, match="got an empty folder; missing"):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("minst", "did you mean 'mnist'"),
        ("MNIST", "did you mean 'mnist'"),
        ("digit", "did you mean 'digits'"),
        ("/no/such", "check the path"),
    ],
)
def test_a_name_that_is_none(source: str, hint: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=f"data {source}: expected a folder or one of mnist, digits, got neither; {hint}"
    ):
        open_data(source)


def test_a_file_is_no_folder(idx_folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match="give the folder that holds it"):
        open_data(str(idx_folder / f"{mnist.TRAIN[0]}.gz"))


def test_control_characters_of_a_name_are_escaped() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_data("a\x1b[31m\n")
    assert str(caught.value).isprintable()


def test_every_name_can_be_opened(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    fill(tmp_path / "cache" / "mnist", idx_files)
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
        with pytest.raises(ConfigError, match="expected mnist"):
            verify(name)


def test_the_module_knows_no_other_names() -> None:
    assert list(catalogue.NAMES) == ["mnist", "digits"]


def test_a_wrong_data_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path / "misspelt"))
    with pytest.raises(FileNotFoundError, match=r"^STRIDENET_DATA: expected a folder, got .*misspelt; correct it"):
        open_data("mnist")
    assert len(open_data("digits").train) > 0
