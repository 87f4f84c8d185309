"""How kernels are compiled: without Python's lock, and kept in a private folder of ours.

The name of the folder holds a hash of the kernels' sources, since a kept function does not notice that one it calls in
another file has changed. What is kept is read back as code, so the folder must be ours alone; where there is no such
folder, kernels are compiled in every process.
"""

# pyright: basic

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import config as numba_config

_config: Any = numba_config
COMPILES = not _config.DISABLE_JIT
_SOURCES = ("simd.py", "batchlast.py")


def _home() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def private_folder() -> Path | None:
    """The folder of compiled kernels, made if it is not there; None if it cannot be ours alone."""
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join((here / name).read_bytes() for name in _SOURCES))
    try:
        checked = "-checked" if _config.BOUNDSCHECK else ""  # other code from the same sources
        folder = _home() / "stridenet" / f"kernels-{numba.__version__}-{sources.hexdigest()[:16]}{checked}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return folder if os.access(folder, os.W_OK) else None


_FOLDER = private_folder()


def kernel(function: Callable[..., None]) -> Any:
    """`function`, compiled when it is first called."""
    before = _config.CACHE_DIR
    try:
        _config.CACHE_DIR = "" if _FOLDER is None else str(_FOLDER)  # read here, once, by the line below
        return njit(nogil=True, cache=_FOLDER is not None)(function)
    finally:
        _config.CACHE_DIR = before
