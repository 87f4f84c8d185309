"""`stridenet explore`: what it writes, what it refuses, and which images it takes along."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import cli
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Splits
from stridenet.model import FILE, Model
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential

DIGITS = tuple("0123456789")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def model_in(path: Path, classes: tuple[str, ...] = DIGITS, size: int = 8, **recipe: Any) -> Path:
    network = Sequential(
        Flatten(), Linear(size * size, len(classes), rng=np.random.default_rng(0)), input_shape=(1, size, size)
    )
    path.parent.mkdir(exist_ok=True)
    Model(network, classes, (1, size, size), recipe=recipe).save(path)
    return path


def labels(path: str) -> list[str]:
    """The labels of the samples in a page."""
    data = re.search(r'id="data">(.*?)</script>', Path(path).read_text())
    assert data is not None
    return [sample["label"] for sample in json.loads(data[1])["samples"]]


def refused(arguments: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; every file is as it was."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert cli.run(["explore", *arguments]) == code
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return err


def test_one_line_says_what_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    model_in(Path("runs.1") / FILE, name="small/net", data={"name": "digits"})
    pages = {("runs.1",): "runs.1.html", (f"runs.1/{FILE}",): "model.html", ("runs.1", "--out", "p.HTML"): "p.HTML"}
    for arguments, name in pages.items():
        assert cli.run(["explore", *arguments]) == 0
        size = Path(name).stat().st_size
        assert capfd.readouterr() == (f"{name}  {size / 1000:.0f} kB; open it in a browser\n", "")
    assert len({Path(name).read_bytes() for name in pages.values()}) == 1


def test_every_run_has_its_own_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in "12":
        model_in(Path(f"net-00{number}") / FILE, name="net")
        assert cli.run(["explore", f"net-00{number}"]) == 0
    monkeypatch.chdir("net-002")
    assert cli.run(["explore", "."]) == 0
    assert [path.name for path in sorted(Path("..").rglob("*.html"))] == [
        "net-001.html",
        "net-002.html",
        "net-002.html",
    ]


def test_what_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    model_in(Path("run") / FILE)
    model_in(Path("model.html"))
    Path("there.html").write_text("mine")
    Path("folder.html").mkdir()
    for name in ("there.html", "folder.html", "model.html"):
        message = f"{name}: expected a path that is not there yet; --force replaces it"
        assert message in refused(["run", "--out", name], 1, capfd)
    assert "folder.html: is a directory" in refused(["run", "--out", "folder.html", "--force"], 1, capfd)
    assert "none: no such file or directory" in refused(["run", "--out", "none/p.html"], 1, capfd)
    assert "expected another file than MODEL itself" in refused(
        ["model.html", "--out", "model.html", "--force"], 2, capfd
    )
    assert "expected --out with the suffix .html, got page" in refused(["run", "--out", "page"], 2, capfd)
    assert cli.run(["explore", "run", "--out", "there.html", "--force"]) == 0
    assert Path("there.html").read_text().startswith("<!DOCTYPE html>")


def test_what_is_no_model(capfd: pytest.CaptureFixture[str]) -> None:
    Path("graph.onnx").write_bytes(b"any")
    Path("text").write_text("Dear model,\n")
    assert "graph.onnx: explore takes networks of stridenet's layers, got an ONNX graph; give the model" in refused(
        ["graph.onnx"], 1, capfd
    )
    assert "none.onnx: no such file" in refused(["none.onnx"], 1, capfd)
    assert "none: no such file" in refused(["none"], 1, capfd)
    assert "text: expected a model file (safetensors)" in refused(["text"], 1, capfd)
    assert "Missing argument 'MODEL'" in refused([], 2, capfd)


def test_the_samples_are_those_of_the_models_data(small_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A named data set that is here, without a download; a folder only if it is asked for."""
    names = open_data(str(small_data)).test.classes
    recipes: dict[str, tuple[dict[str, Any], list[str]]] = {
        "digits": ({"data": {"name": "digits"}, "train": {"seed": 3}}, list(DIGITS)),
        "folder": ({"data": {"name": str(small_data)}}, []),
        "nothing": ({}, []),
        "other": ({"data": {"name": ["digits"]}, "train": {"seed": "x"}}, []),
    }
    for name, (recipe, wanted) in recipes.items():
        model_in(Path(name), **recipe)
        assert cli.run(["explore", name, "--out", f"{name}.html"]) == 0
        assert labels(f"{name}.html") == wanted
    model_in(Path("shapes"), names, 16, data={"name": str(small_data)})
    assert cli.run(["explore", "shapes", "--data", str(small_data), "--out", "shapes.html"]) == 0
    assert labels("shapes.html") == list(names)
    model_in(Path("size"), size=9, data={"name": "digits"})
    assert cli.run(["explore", "size", "--out", "size.html"]) == 0
    assert labels("size.html") == []
    assert capfd.readouterr().err.splitlines() == [
        f"no samples: {why}; --data FOLDER names them"
        for why in (
            "the model was trained on a folder",
            "the model's recipe names no data",
            "the model's recipe names no data",
            "the images of digits are 1x8x8, the model's 1x9x9",
        )
    ]
    wanted = "explore: expected images of 1x9x9, got 1x8x8 in the data"
    assert wanted in refused(["size", "--data", "digits", "--out", "x.html"], 2, capfd)
    message = refused(["shapes", "--data", "digits", "--out", "x.html"], 2, capfd)
    assert "explore: expected the classes ('0', '1', '2', '3'), got ('0', '1', " in message
    assert "data none: expected a folder or one of mnist" in refused(
        ["size", "--data", "none", "--out", "x.html"], 1, capfd
    )


def test_nothing_is_downloaded_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []
    real = open_data

    def spy(source: str, **options: Any) -> Splits:
        asked.append(options["download"])
        return real(source, **options)

    monkeypatch.setattr("stridenet.data.catalogue.open_data", spy)
    monkeypatch.setenv("STRIDENET_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_in(Path("model"), size=28, data={"name": "mnist"})
    assert cli.run(["explore", "model", "--out", "page.html"]) == 0
    assert (asked, labels("page.html")) == ([False], [])
    assert capfd.readouterr().err == "no samples: mnist is not on this machine; --data FOLDER names them\n"
    model_in(Path("cats"), classes=("cat", "dog"), data={"name": "digits"})
    assert cli.run(["explore", "cats"]) == 0
    assert capfd.readouterr().err.startswith("no samples: explore: expected the classes ('cat', 'dog'), got ('0', ")
