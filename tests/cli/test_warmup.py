from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers import MAIN
from stridenet import cli
from stridenet.kernels import compiled

warmup = importlib.import_module("stridenet.cli.warmup")  # the file, not the command


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels that have to be compiled; each time they are, it is told."""
    told: list[str] = []
    monkeypatch.setattr(compiled, "warm", lambda: bool(told))
    monkeypatch.setattr(warmup, "_warm_up", lambda: told.append("compiled"))
    return told


ONE_KERNEL = """
from stridenet.kernels import compiled, program, update
compiled._kernels[:] = [each for each in compiled._kernels if each.py_func.__module__ == update.__name__]
program.warm_up = lambda: None
"""


@pytest.mark.parametrize(
    "kernels", [pytest.param(ONE_KERNEL, id="of SGD"), pytest.param("", id="all", marks=pytest.mark.slow)]
)
def test_the_first_time_compiles_and_keeps_and_the_second_loads(kernels: str, child: Any, tmp_path: Path) -> None:
    """In processes of their own, with a cache folder of their own."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "NUMBA_DISABLE_JIT": None}
    for verb in ("compiled", "loaded"):
        done = child(kernels + MAIN, "warmup", **cache)
        assert (done.returncode, done.stderr) == (0, "")
        first, second = done.stdout.splitlines()
        assert re.fullmatch(rf"kernels  {verb} in \d+\.\d s", first)
    folder = Path(second.removeprefix("kept     "))
    assert folder.is_relative_to(tmp_path)
    assert list(folder.rglob("*.nbi"))
    done = child(kernels + MAIN, "warmup", "--json", **cache)
    found = json.loads(done.stdout)
    assert found.keys() == {"folder", "compiled", "seconds"}
    assert (found["folder"], found["compiled"]) == (str(folder), False)


def test_without_a_folder_it_says_that_nothing_is_kept(
    cold: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "COMPILES", True)
    monkeypatch.setattr(compiled, "private_folder", lambda: None)
    assert cli.run(["warmup"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"kernels  compiled in \d+\.\d s\n"
        r"kept     nowhere: there is no cache folder that can be written and is yours alone\n",
        out,
    )
    assert cli.run(["warmup", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["folder"] is None
    assert cold == ["compiled"] * 2


def test_where_nothing_is_compiled_it_says_why(
    cold: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "COMPILES", False)
    assert cli.run(["warmup"]) == 0
    assert capfd.readouterr().out == "kernels  not compiled: NUMBA_DISABLE_JIT is set\n"


@pytest.mark.parametrize(("folder", "how"), [(Path("kept"), "once"), (None, "which cannot be kept here")])
def test_a_training_says_that_it_compiles_before_and_after(
    folder: Path | None, how: str, cold: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "private_folder", lambda: folder)
    said: list[tuple[str, int]] = []
    warmup.compile_first(lambda line: said.append((line, len(cold))))
    warmup.compile_first(lambda line: said.append((line, len(cold))))  # by now they are compiled
    (before, none), (after, one) = said
    assert (none, one) == (0, 1)
    assert before.startswith(f"compiling kernels, {how}")
    assert before.endswith(": some 15 to 30 s on a quiet machine")
    assert re.fullmatch(r"compiled in \d+\.\d s", after)


@pytest.mark.parametrize(
    ("arguments", "lines", "compiled_"),
    [
        (
            ["--kernels", "batchlast", "--seeds", "0-1"],
            ["compiling kernels, once: some 15 to 30 s on a quiet machine", "compiled in"],
            True,
        ),
        (["--kernels", "batchlast", "--quiet"], [], True),
        (["--kernels", "im2col"], [], False),
    ],
)
def test_a_first_training(
    arguments: list[str],
    lines: list[str],
    compiled_: bool,
    cold: list[str],
    recipe_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(recipe_file.parent)
    monkeypatch.setattr(compiled, "private_folder", lambda: Path("kept"))
    assert cli.run(["train", "small.toml", "--epochs", "1", *arguments]) == 0
    said = capfd.readouterr().err.splitlines()
    assert [line[: len(wanted)] for line, wanted in zip(said, lines, strict=True)] == lines
    assert bool(cold) == compiled_
