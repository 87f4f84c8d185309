"""Random command lines: no traceback, and no exit code but 0, 1 and 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stridenet import Flatten, Linear, Model, Sequential

SEED = 2026
TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.promise("A3", "L01")
def test_random_command_lines(count: int, tmp_path: Path, small_data: Path) -> None:
    """Recipes, models and pictures among them are changed at random too."""
    network = Sequential(Flatten(), Linear(256, 4, rng=np.random.default_rng(0)), input_shape=(1, 16, 16))
    Model(network, ("0", "1", "2", "3"), (1, 16, 16), recipe={"data": {"name": "idx"}}).save(tmp_path / "model")
    shutil.copytree(small_data, tmp_path / "idx")
    (tmp_path / "none").mkdir()
    own = {"STRIDENET_DATA": "none", "PYTHONPATH": str(TESTS), "HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    own["STRIDENET_KERNELS"] = "im2col"  # without a home of its own it would compile
    command = [sys.executable, "-m", "hostile.arguments", str(count), str(SEED), "."]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=900, errors="replace"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["failures"] == [], f"seed {SEED}"
    assert report["codes"].keys() == {"0", "1", "2"}
    assert sum(report["codes"].values()) == count
    assert min(report["codes"].values()) > count // 50, report["codes"]
    assert not any(path.suffix == ".safetensors" for path in tmp_path.rglob("*"))
