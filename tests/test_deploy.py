"""What docs/deploy.md says is true: its blocks run as written, one after another, its figures are the stored ones."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stridenet
from stridenet import cli

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "deploy.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the run that the page exports, and a picture."""
    rng = np.random.default_rng(0)
    transform, framing = stridenet.Pipeline([stridenet.Normalize([0.1], [0.3])]), stridenet.Framing(0.0, 20 / 28)
    model = stridenet.Model(
        stridenet.lenet5(rng=rng),
        tuple("0123456789"),
        (1, 28, 28),
        transform=transform,
        framing=framing,
        recipe={"name": "lenet5-mnist"},
    )
    folder = tmp_path / "runs" / "lenet5-mnist-001"
    folder.mkdir(parents=True)
    model.save(folder / "model.safetensors")
    pixels = np.full((90, 70), 250, np.uint8)
    pixels[20:26, 20:50] = pixels[20:70, 44:50] = 10
    Image.fromarray(pixels).save(tmp_path / "seven.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(runtime: bool, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What the blocks print; those of ONNX Runtime are left out without `runtime`."""
    printed: list[str] = []
    for language, code in BLOCKS:
        if language == "python" and (runtime or "onnxruntime" not in code):
            exec(compile(code, "deploy.md", "exec"), {})
        for line in code.splitlines() if language == "sh" else ():
            program, *words = shlex.split(line)
            if program == "stridenet":
                assert cli.run(words) == 0
            else:
                assert program == "python"
                assert subprocess.run([sys.executable, *words], timeout=60).returncode == 0
        printed.append(capfd.readouterr().out)
    sys.modules.pop("lenet5_mnist", None)
    return printed


def test_the_blocks_run_as_written(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 6
    exported, command, module, _, loaded, weights = run(False, capfd)
    assert exported.count("\n") == 3
    (best,) = stridenet.load(place / "runs" / "lenet5-mnist-001").predict(
        stridenet.load("lenet5-mnist.onnx").read("seven.png")
    )
    assert command.startswith(f"seven.png  {best}  ")
    assert module.startswith(f"{best} ")
    assert (loaded, weights) == (f"[{best}]\n", "(6, 1, 5, 5)\n")
    size = Path("lenet5_mnist.py").stat().st_size
    assert f"has {size / 1000:.0f} kB" in TEXT


@pytest.mark.peer
def test_the_blocks_run_with_onnx_runtime_too(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert re.fullmatch(r"\d\n", run(True, capfd)[3])


def test_the_figures_are_the_stored_ones() -> None:
    found = json.loads((DOCS / "results" / "predictor.json").read_text("utf-8"))
    assert found["settings"]["runs"] >= 20
    assert found["process_ratio"]["median"] <= 3
    assert f"takes {found['process_ratio']['median']:.1f} times as long" in TEXT
    assert f"10 000 digits take {found['seconds_for_10_000']['median']:.1f} s" in " ".join(TEXT.split())


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        page, _, anchor = link.partition("#")
        assert (DOCS / page).exists(), link
        assert not anchor or f"## {anchor.title()}\n" in (DOCS / page).read_text("utf-8")
