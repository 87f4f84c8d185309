"""Thousands of changed files of every format: each is read, or refused with one error of the family.

A failure prints its input. Decoded and saved as tests/fuzz/corpus/FORMAT/NAME.bin it is read again by every run.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuzz.formats import FORMATS, PLANTED

SEED = 2026
TESTS = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def fuzz(name: str, count: int, folder: Path, *, planted: str = "", seconds: float = 2) -> dict[str, Any]:
    """What a child reported of `count` mutants; if it died, that is the failure."""
    command = [sys.executable, "-W", "error", "-m", "fuzz.worker", name, str(count), str(SEED), folder, planted]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(seconds)], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    if done.returncode >= 0:
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)
    last = base64.b64encode((folder / FORMATS[name].file).read_bytes()).decode()
    return {"failures": [{"case": "the last", "fault": f"died: signal {-done.returncode}", "input": last}]}


def check(name: str, count: int, folder: Path) -> None:
    report = fuzz(name, count, folder)
    failures = [f"{f['case']}: {f['fault']}\n  base64 {f['input']}" for f in report["failures"]]
    assert not failures, f"seed {SEED}; save as tests/fuzz/corpus/{name}/NAME.bin what follows base64\n" + "\n".join(
        failures
    )
    assert sum(report["classes"].values()) == count + report["kept"]
    assert report["sound"] > count // 8, report  # deep layers are reached
    assert len(report["classes"]) > 1, report
    assert report["classes"]["read"] > count // 100, report


@pytest.mark.big
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.promise("F2")
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    check(name, 500, tmp_path)


@pytest.mark.big
@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.promise("F2")
def test_ten_thousand_mutated_files_of_each_format(name: str, tmp_path: Path) -> None:
    check(name, 10_000, tmp_path)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_reader_with_a_mistake_is_found(fault: str, tmp_path: Path) -> None:
    """Behind the digest: a fuzzer that does not seal its mutants would never get there."""
    report = fuzz("model", 300, tmp_path, planted=fault, seconds=1)
    assert fault in report["failures"][0]["fault"]
    assert base64.b64decode(report["failures"][0]["input"])
