"""Small data sets in the IDX format."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def _idx_bytes(array: Array) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[Array], bytes]:
    """The IDX file of an array."""
    return _idx_bytes


@pytest.fixture(scope="session")
def idx_files() -> dict[str, bytes]:
    """A data set of ten classes by the names of its four files, 9 x 8 pixels, 40 images and 20."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for part, n in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = _idx_bytes(rng.integers(0, 256, (n, 9, 8)).astype(np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = _idx_bytes((np.arange(n) % 10).astype(np.uint8))
    return files


@pytest.fixture
def idx_folder(tmp_path: Path, idx_files: dict[str, bytes]) -> Path:
    """The folder of `idx_files`, compressed."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, content in idx_files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder
