"""Thousands of random calls: each works or raises one error of the family, and no signal ends the process."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import calls
from stridenet import Dataset, Loader, StridenetError, functional
from stridenet.nn import losses

SEED = 2026
TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.promise("G7", "P01", "P02", "P03")
def test_random_calls_raise_nothing_foreign_and_no_signal(count: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hostile.calls", str(count), str(SEED), tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"seed {SEED}, case {(tmp_path / 'case').read_text()}: {done.stderr[-2000:]}"
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["failures"] == [], f"seed {SEED}"
    outcomes = report["outcomes"]
    assert sum(outcomes.values()) == count
    assert min(outcomes["done"], outcomes["ShapeError"], outcomes["ConfigError"]) > count // 10, outcomes
    assert min(outcomes["LabelError"], outcomes["DataError"]) > count // 100, outcomes


X = np.zeros((2, 1, 4, 4), np.float32)
LABELS = np.array([0, 1])
FOUND = {  # by such calls once
    "shuffle": lambda: Loader(Dataset(X, LABELS, ("a", "b")), 1, shuffle=np.zeros(3)),  # type: ignore[arg-type]
    "seed": lambda: Loader(Dataset(X, LABELS, ("a", "b")), 1, seed=-1),
    "labels of objects": lambda: Dataset(X, np.array([0, None]), ("a", "b")),
    "weights of texts": lambda: losses.cross_entropy(X[:, 0, 0], LABELS, np.array(["", "1"])),
    "padding of 2^31": lambda: functional.max_pool2d(X, 2**31, stride=2, padding="same"),
    "overhang of 2^31": lambda: functional.max_pool2d(X, 2**31, ceil_mode=True),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_random_calls_found(name: str) -> None:
    with pytest.raises(StridenetError) as caught:
        FOUND[name]()
    assert str(caught.value).isprintable()


def test_every_operation_is_called() -> None:
    """A new one needs a line in OPERATIONS."""
    public = {
        name
        for module in (functional, losses)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and "Array" in str(inspect.signature(value))
    }
    backward = {name for name in public if name.endswith("_backward")}
    assert public - backward - {"check", "check_classes", "shares_of"} == calls.OPERATIONS.keys()
    assert {name.removesuffix("_backward") for name in backward} <= calls.OPERATIONS.keys()
