"""How kernels are compiled: without Python's lock, and kept in a private folder of ours.

The name of the folder holds a hash of the sources of this room, since a kept function does not notice that one it calls
in another file has changed. What is kept is read back as code, so the folder must be ours alone; where there is no such
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


def _home() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def private_folder() -> Path | None:
    """The folder of compiled kernels, made if it is not there; None if it cannot be ours alone."""
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
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
_kernels: list[Any] = []


def inlined(function: Callable[..., None]) -> Any:
    """`function` as a text that its callers are compiled with, so that the sizes they give are literals in it."""
    return njit(inline="always")(function)


def kernel(function: Callable[..., Any]) -> Any:
    """`function`, compiled when it is first called."""
    before = _config.CACHE_DIR
    try:
        _config.CACHE_DIR = "" if _FOLDER is None else str(_FOLDER)  # read here, once, by the line below
        compiled = njit(nogil=True, cache=_FOLDER is not None)(function)
    finally:
        _config.CACHE_DIR = before
    if COMPILES:
        _kernels.append(compiled)
    return compiled


def warm() -> bool:
    """Whether every kernel of the modules imported so far is compiled: in this process, or kept by another one."""
    return all(each.signatures or _is_kept(each) for each in _kernels)


def _is_kept(compiled: Any) -> bool:
    """Whether Numba's folder for the file of this kernel has its index, written by this version of Python."""
    folder, function = compiled.stats.cache_path, compiled.py_func
    if folder is None:
        return False
    name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}-*"
    version = "".join(map(str, sys.version_info[:2]))
    return any(Path(folder).glob(f"{name}.py{version}{sys.abiflags}.nbi"))
