"""The compiled kernels in other processes: without a compiler, with checked places, with narrow registers, cached."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Convolutions, pools and batch norm beside im2col: tails, strides, dilations, groups, every padding.
COMPARE = """
import itertools
import numpy as np
from stridenet import layout
from stridenet.kernels import batchlast, im2col
from stridenet.kernels.tiles import LANES, OUTS
from stridenet.shapes import padding_margins, window

rng = np.random.default_rng(0)
cases = itertools.product((LANES, LANES + 3, 2 * LANES), (1, 2, 3), (1, 2), (((0, 1), (2, 0)), "same"), (1, 2))
for N, stride, dilation, padding, groups in cases:
    x = rng.standard_normal((N, 2 * groups, 7, 5)).astype(np.float32)
    weight, bias = (rng.standard_normal(s).astype(np.float32) for s in ((3 * groups, 2, 3, 2), 3 * groups))
    geometry = window("w", (7, 5), (3, 2), (stride, 3 - stride % 3), padding_margins("w", padding), (dilation, 1))
    found, wanted = [], []
    for backend, results in ((batchlast, found), (im2col, wanted)):
        y, kept = backend.conv2d(x, weight, bias, geometry, groups)
        dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
        results += [y, *backend.conv2d_backward(dy, x, weight, kept, geometry, groups, True)]
        assert layout.inner(y).flags.c_contiguous
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), (N, stride, dilation, padding)

cases = itertools.product((LANES, LANES + 3), (1, 2, 3), (1, 2, 3))
for N, kernel, stride in cases:
    x = rng.integers(-3, 4, (N, 2, 5, 7)).astype(np.float32)
    geometry = window("w", (5, 7), (kernel, 2), (stride, 2), ((0, 0), (0, 0)))
    counts, vectors = np.full(geometry.output, 2 * kernel, np.float32), rng.standard_normal((4, 2), np.float32)
    found, wanted = [], []
    for backend, results in ((batchlast, found), (im2col, wanted)):
        y = backend.max_pool2d(x, geometry)
        dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
        results += [y, backend.max_pool2d_backward(dy, x, y, geometry)]
        results += [backend.avg_pool2d(x, geometry, counts), backend.avg_pool2d_backward(dy, x, geometry, counts)]
        results += [backend.batch_norm(x, *vectors[:3]), backend.batch_norm_backward(x, x + 1, *vectors)]
    for a, b in zip(found, wanted, strict=True):
        assert layout.inner(a).flags.c_contiguous
        assert a.dtype == b.dtype and np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), (N, kernel, stride)
print(LANES, OUTS)
"""


NARROW = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+sse4.2"}


@pytest.mark.parametrize(
    "environment",
    [
        {"NUMBA_DISABLE_JIT": "1"},
        {"NUMBA_DISABLE_JIT": "1", **NARROW},
        pytest.param({"NUMBA_BOUNDSCHECK": "1"}, marks=pytest.mark.slow),  # compiles all kernels once more
        pytest.param(NARROW, marks=pytest.mark.slow),
    ],
    ids=["not compiled", "not compiled, narrow registers", "checked places", "narrow registers"],
)
def test_other_ways_to_run_give_the_same(environment: dict[str, str], child: Any, tmp_path: Path) -> None:
    done = child(COMPARE, XDG_CACHE_HOME=str(tmp_path), **environment)
    assert done.returncode == 0, done.stderr
    if "NUMBA_CPU_NAME" in environment:
        assert done.stdout.split() == ["8", "2"]


PLANTED = """
import numpy as np
from stridenet.kernels import frames
from stridenet.kernels.operation import LANES, Code, Operations

ops, x, y = Operations(), np.ones(4 * LANES, np.float32), np.zeros(LANES, np.float32)
ops.emit(Code.COPY, sources=ops.table([{place}]), targets=ops.table([0]), places=1, channels=1)
try:
    frames.copy(ops.take()[0], ops.tables(), x, y, 0)
except IndexError as error:
    print(error)
else:
    print(y[0])
"""


LEFT = "a kernel left its array"


@pytest.mark.promise("G7")
@pytest.mark.parametrize("switch", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
@pytest.mark.parametrize(
    ("place", "wanted"), [(0, "1.0"), (63, "a kernel left its array"), (-1, "a kernel left its array")]
)
def test_a_planted_place_outside_is_found(switch: str, place: int, wanted: str, child: Any, tmp_path: Path) -> None:
    done = child(PLANTED.format(place=place), XDG_CACHE_HOME=str(tmp_path), **{switch: "1"})
    assert done.stdout.strip() == wanted, done.stderr


FOLDER = "from stridenet.kernels import compiled; print(compiled._FOLDER)"


@pytest.mark.promise("L05")
def test_compiled_kernels_are_kept_in_a_folder_of_our_own(child: Any, tmp_path: Path) -> None:
    shown = child(FOLDER, XDG_CACHE_HOME=str(tmp_path)).stdout.strip()
    folder = Path(shown)
    assert folder.parent == tmp_path / "stridenet"
    assert folder.stat().st_mode & 0o777 == 0o700
    done = child(PLANTED.format(place=0), XDG_CACHE_HOME=str(tmp_path), NUMBA_DISABLE_JIT=None)
    assert done.stdout.strip() == "1.0", done.stderr
    assert list(folder.rglob("*.nbi"))
    folder.chmod(0o777)  # what others may write is not read: it would run as code
    assert child(FOLDER, XDG_CACHE_HOME=str(tmp_path)).stdout == "None\n"
    done = child(PLANTED.format(place=0), XDG_CACHE_HOME=str(tmp_path))
    assert done.stdout.strip() == "1.0", done.stderr


@pytest.mark.promise("L05")
def test_without_a_home_kernels_work_uncached(child: Any) -> None:
    done = child(PLANTED.format(place=0), XDG_CACHE_HOME=os.devnull)
    assert done.stdout.strip() == "1.0", done.stderr
