from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from stridenet import cli, files
from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.loading import load
from stridenet.model import FILE, Model
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential

FORMATS = {"onnx": "small-net.onnx", "python": "small_net.py", "safetensors": "small-net.safetensors"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder with a model of 8x8 images."""
    return model_in(tmp_path / "run", "small-net")


def model_in(folder: Path, recipe: object) -> Path:
    network = Sequential(Flatten(), Linear(64, 3, rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    options: dict[str, Any] = {"recipe": {} if recipe is None else {"name": recipe}, "framing": Framing(0.0, 0.8)}
    folder.mkdir()
    Model(network, "abc", (1, 8, 8), transform=Pipeline([Normalize([0.3], [0.7])]), **options).save(folder / FILE)
    return folder


def digit(path: Path) -> Path:
    pixels = np.zeros((30, 24), np.uint8)
    pixels[5:25, 9:13] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("source", ["run", f"run/{FILE}"])
def test_one_line_says_what_was_written(
    kind: str, source: str, run_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", source, "--format", kind]) == 0
    out, err = capfd.readouterr()
    assert (out.count("\n"), err) == (1, "")
    size = Path(FORMATS[kind]).stat().st_size
    assert out.startswith(f"{FORMATS[kind]}  {size / 1000:.0f} kB; try: ")
    assert FORMATS[kind] in out.partition("try: ")[2]
    assert sorted(path.name for path in Path().iterdir()) == sorted(["run", FORMATS[kind]])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("options", [[], ["--include-preprocessing"]], ids=["plain", "with preprocessing"])
def test_all_formats_predict_alike(
    kind: str, options: list[str], run_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the line suggests is done, on a picture."""
    digit(Path("picture.png"))
    assert cli.run(["predict", "run", "picture.png"]) == 0
    wanted = capfd.readouterr().out
    code = cli.run(["export", "run", "--format", kind, *options])
    out, err = capfd.readouterr()
    if options and kind != "onnx":
        assert (code, out, list(Path().glob("small*"))) == (2, "", [])
        assert "expected --include-preprocessing with --format onnx alone" in err
        return
    words = shlex.split(out.partition("try: ")[2])
    if words[0] == "python":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == wanted
    else:
        assert cli.run(words[1:]) == 0
        assert capfd.readouterr().out == wanted


def test_the_weights_have_their_names(run_folder: Path) -> None:
    assert cli.run(["export", "run", "--format", "safetensors", "--out", "w.safetensors"]) == 0
    found, wanted = load_file("w.safetensors"), load("run").network.state_dict()
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert Path("w.safetensors").read_bytes() == (run_folder / FILE).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        (None, ["model.onnx", "model.py"]),
        ("", ["model.onnx", "model.py"]),
        (7, ["model.onnx", "model.py"]),
        ("5x5", ["5x5.onnx", "model_5x5.py"]),
        ("../a b\x1b/ö", ["_a_b_.onnx", "_a_b_.py"]),
        ("x" * 500, ["x" * 100 + ".onnx", "x" * 100 + ".py"]),
    ],
)
def test_the_name_comes_from_the_recipe(
    recipe: object, names: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model_in(tmp_path / "run", recipe)
    for kind, name in zip(("onnx", "python"), names, strict=True):
        assert cli.run(["export", "run", "--format", kind]) == 0
        assert capfd.readouterr().out.startswith(f"{name}  ")
        assert Path(name).is_file()


# What must not be overwritten


def refused(arguments: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; every file is as it was."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert cli.run(["export", *arguments]) == code
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return err


@pytest.mark.promise("L02")
@pytest.mark.parametrize("kind", FORMATS)
def test_outputs_that_cannot_be(kind: str, run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    suffix = Path(FORMATS[kind]).suffix
    there, folder, link, alias = (name + suffix for name in ("there", "folder", "link", "alias"))
    Path(there).write_text("mine")
    Path(folder).mkdir()
    Path(link).symlink_to("nowhere")
    for name in ("same", alias):
        Path(name).symlink_to(run_folder / FILE)
    written = ["run", "--format", kind, "--out"]
    for name in (there, folder, link, alias):
        assert f"{name}: expected a path that is not there yet; --force replaces it" in refused(
            [*written, name], 1, capfd
        )
    assert f"{folder}: is a directory" in refused([*written, folder, "--force"], 1, capfd)
    assert "none: no such file or directory" in refused([*written, "none/out" + suffix], 1, capfd)
    for name in (alias, f"run/{FILE}") if kind == "safetensors" else (alias,):
        for source in ("run", f"run/{FILE}", "same"):
            message = refused([source, "--format", kind, "--out", name, "--force"], 2, capfd)
            assert "expected another file than MODEL itself" in message
    assert cli.run(["export", *written, there, "--force"]) == 0
    assert Path(there).read_bytes() != b"mine"


@pytest.mark.promise("L02")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_and_a_folder_for_reading_leave_the_old_file(
    kind: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    there = "there" + Path(FORMATS[kind]).suffix
    Path(there).write_text("mine")
    written = ["run", "--format", kind, "--force", "--out", there]
    for place, number in (("_write", errno.ENOSPC), ("_create", errno.EACCES)):
        problem = OSError(number, os.strerror(number))

        def fail(*_: Any, problem: OSError = problem) -> None:
            raise problem

        with monkeypatch.context() as broken:
            broken.setattr(files, place, fail)
            assert f"{there}: {os.strerror(number).lower()}" in refused(written, 1, capfd)


def test_wrong_usage(run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "Missing option" in refused(["run"], 2, capfd)
    assert "'keras' is not one of" in refused(["run", "--format", "keras"], 2, capfd)
    assert "missing: no such file" in refused(["missing", "--format", "onnx"], 1, capfd)


def test_a_graph_stays_onnx(run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", "run", "--format", "onnx", "--out", "graph.onnx"]) == 0
    capfd.readouterr()
    for kind in FORMATS:
        message = refused(["graph.onnx", "--format", kind], 1, capfd)
        assert "graph.onnx: expected a model of stridenet to export, got an ONNX graph; " in message
        assert "missing.onnx: no such file" in refused(["missing.onnx", "--format", kind], 1, capfd)


@pytest.mark.parametrize(
    ("kind", "out", "expected"),
    [
        ("onnx", "a.py", "the suffix .onnx"),
        ("onnx", "a", "the suffix .onnx"),
        ("python", "a.onnx", "the suffix .py"),
        ("python", "a.pyc", "the suffix .py"),
        ("safetensors", "a.ONNX", "another suffix than .onnx and .py"),
        ("safetensors", "a.py", "another suffix than .onnx and .py"),
    ],
)
def test_a_suffix_of_another_format(
    kind: str, out: str, expected: str, run_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = refused(["run", "--format", kind, "--out", out], 2, capfd)
    assert f"expected --out with {expected} for --format {kind}, got {out}" in message


@pytest.mark.parametrize("kind", FORMATS)
def test_the_command_to_try_is_quoted(kind: str, run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = "it's a; b" + Path(FORMATS[kind]).suffix.upper()
    assert cli.run(["export", "run", "--format", kind, "--out", out]) == 0
    assert out in shlex.split(capfd.readouterr().out.partition("try: ")[2])


def test_help_says_which_commands_take_a_graph(run_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", "run", "--format", "onnx", "--out", "graph.onnx"]) == 0
    digit(Path("picture.png"))
    capfd.readouterr()
    assert cli.run(["--help"]) == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "MODEL is a model file or a run folder; predict, evaluate and summary take an ONNX file too." in text
    assert cli.run(["predict", "graph.onnx", "picture.png"]) == 0
    assert cli.run(["summary", "graph.onnx"]) == 0
    assert "parameters   195 constants, none trained" in capfd.readouterr().out
    assert cli.run(["train", "lenet5-digits", "--init", "graph.onnx", "--out", "new"]) == 2
    _, err = capfd.readouterr()
    assert (err.count("\n"), Path("new").exists()) == (1, False)
    assert "got an ONNX file, " in err
