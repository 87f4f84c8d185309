from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stridenet import cli
from stridenet.data.catalogue import NAMES
from stridenet.errors import DataIntegrityError, DownloadError


def test_the_data_sets_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [list(item) for item in NAMES.items()]
    assert cli.run(["data", "--json"]) == 0
    wanted = [{"name": name, "about": text} for name, text in NAMES.items()]
    assert json.loads(capfd.readouterr().out) == wanted


def test_fetch_says_where_the_files_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    monkeypatch.setattr("stridenet.data.fetch.fetch_mnist", lambda: tmp_path)
    assert cli.run(["data", "fetch", "mnist"]) == 0
    assert capfd.readouterr().out == f"mnist is in {tmp_path}\n"
    assert cli.run(["data", "fetch", "mnist", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"name": "mnist", "folder": str(tmp_path)}
    monkeypatch.setattr("stridenet.data.fetch.fetch_cifar10", lambda: tmp_path / "x.tar.gz")
    assert cli.run(["data", "fetch", "cifar10"]) == 0
    assert capfd.readouterr().out == f"cifar10 is in {tmp_path / 'x.tar.gz'}\n"


@pytest.mark.parametrize("inside", ["", "mnist"])
def test_fetch_takes_what_the_data_folder_holds(
    inside: str, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRIDENET_DATA", str(mnist_folder.parent / inside))
    assert cli.run(["data", "fetch", "mnist"]) == 0
    assert capfd.readouterr().out == f"mnist is in {mnist_folder}\n"


@pytest.mark.parametrize("error", [DownloadError("fetch: no network"), DataIntegrityError("fetch: other bytes")])
def test_a_failed_fetch_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    monkeypatch.setattr("stridenet.data.fetch.fetch_mnist", fail)
    assert cli.run(["data", "fetch", "mnist"]) == 1
    assert capfd.readouterr() == ("", f"stridenet: {error}\n")


@pytest.mark.promise("F9")
def test_verify_compares_with_the_pinned_digests(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRIDENET_DATA", str(mnist_folder.parent))
    assert cli.run(["data", "verify", "mnist"]) == 0
    assert capfd.readouterr().out == f"mnist in {mnist_folder} is as published\n"
    assert cli.run(["data", "verify", "mnist", "--json"]) == 0
    wanted = {"name": "mnist", "folder": str(mnist_folder), "as_published": True}
    assert json.loads(capfd.readouterr().out) == wanted
    (tmp_path / "mnist").mkdir()
    for file in mnist_folder.iterdir():
        shutil.copy(file, tmp_path / "mnist")
    victim = next((tmp_path / "mnist").glob("t10k-labels*"))
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1])
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))
    assert cli.run(["data", "verify", "mnist"]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    victim.unlink()
    assert cli.run(["data", "verify", "mnist"]) == 1
    assert "expected t10k-labels-idx1-ubyte in" in capfd.readouterr().err


def test_verify_without_data_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    monkeypatch.setattr("stridenet.data.fetch.cache_folder", lambda name="mnist": tmp_path / "none")
    assert cli.run(["data", "verify", "mnist"]) == 1
    assert capfd.readouterr() == ("", f"stridenet: verify: no MNIST in {tmp_path / 'none'}; fetch it first\n")
