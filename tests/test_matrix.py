"""The kernels and all that stands on them, without a compiler and with every place checked, in other processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FILES = sorted(path for room in ("kernels", "nn") for path in (HERE / room).glob("test_*.py"))
SWITCHES = ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"]
PLAIN = "not slow and not peer"
TIERS = {"NUMBA_DISABLE_JIT": f"{PLAIN} and not big", "NUMBA_BOUNDSCHECK": PLAIN}  # big would take hours in Python

PYTEST = "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"

# The first tap of every convolution, but those of one image, is far before the first pixel.
PLANTED = f"""
from stridenet.kernels import batchlast
right = batchlast._forward.__wrapped__
def wrong(*sizes):
    job = right(*sizes)
    job.tables[job.ops["taps"]] = -(2**20)
    return job
batchlast._forward = wrong
{PYTEST}
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where checked kernels are kept, so that they are compiled once and not for every file."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
@pytest.mark.promise("G7")
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_passes(path: Path, switch: str, child: Any, cache: str) -> None:
    done = child(PYTEST, "--kernels", "batchlast", "-m", TIERS[switch], path, XDG_CACHE_HOME=cache, **{switch: "1"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.promise("G7")
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_tests_find_a_planted_access_outside(switch: str, child: Any, tmp_path: Path) -> None:
    path = HERE / "kernels" / "test_kernels.py"
    done = child(PLANTED, path, "-k", "conv2d_equals_loops", XDG_CACHE_HOME=str(tmp_path), **{switch: "1"})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "IndexError: a kernel left its array" in done.stdout
