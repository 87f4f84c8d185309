from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stridenet.kernels.compiled import COMPILES

TWO = """
from stridenet.kernels.compiled import kernel

@kernel
def one(x):
    return x + 1

@kernel
def other(x):
    return x + 2
"""

WARM = """
import sys
sys.path.insert(0, sys.argv[1])
import two
from stridenet.kernels import compiled
before = compiled.warm()
if "use" in sys.argv:
    two.one(3)
    if "all" in sys.argv:
        two.other(3)
print(before, compiled.warm())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a module with two kernels."""
    (tmp_path / "two.py").write_text(TWO)
    return tmp_path


@pytest.mark.skipif(not COMPILES, reason="nothing is compiled with NUMBA_DISABLE_JIT")
def test_warm_once_every_kernel_is_compiled(child: Any, folder: Path) -> None:
    """The kernels of a module, in the process that compiles them and in those that find them kept."""
    cache = {"XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}

    def warm(*arguments: str) -> list[str]:
        done = child(WARM, folder, *arguments, **cache)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert warm("use") == ["False", "False"]  # one kernel of several
    assert warm("use", "all") == ["False", "True"]
    assert warm() == ["True", "True"]
    index = next((folder / "cache").rglob("two.other-*.nbi"))
    index.rename(index.with_name(index.name.replace(".py3", ".py2")))  # of another Python
    assert warm() == ["False", "False"]


@pytest.mark.promise("L05")
@pytest.mark.skipif(not COMPILES, reason="nothing is compiled with NUMBA_DISABLE_JIT")
def test_warm_where_nothing_is_kept(child: Any, folder: Path) -> None:
    (folder / "file").touch()
    done = child(WARM, folder, "use", "all", XDG_CACHE_HOME=str(folder / "file"))
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True"]), done.stderr
