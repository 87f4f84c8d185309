"""Files that are never half written, and reads that cannot be made to wait or to fill the memory.

A write goes to a temporary file beside the target, is flushed, read back and then renamed: at every instant the
target is the old file or the new one. Every call that changes the file system is one of the small functions
`_make` to `remove`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stridenet.errors import DataError, DataFormatError, DataLimitError, WeightsFormatError, printable
from stridenet.layout import Array
from stridenet.tensors import pack_tensors, unpack_tensors

FilePath = str | os.PathLike[str]

WEIGHTS_BYTES = 2**32

_CHUNK = 2**20
_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)


# Atomic writes


def _make(folder: Path) -> None:
    folder.mkdir()


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _BINARY
    return os.open(path, flags, 0o666)


def _write(descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _replace(source: Path, target: Path) -> None:
    source.replace(target)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # some network file systems do not know it
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def new_folder(folder: FilePath) -> None:
    """Make a folder that stays: a power loss does not take it away with all that was written into it since.

    Raises:
        OSError: it exists, or cannot be made.
    """
    _make(Path(folder))
    _sync_folder(Path(folder).parent)


def refuse_existing(path: FilePath, remedy: str = "overwrite=True") -> None:
    """Raise FileExistsError if anything stands at `path`, a broken link too; `remedy` is what would replace it."""
    if os.path.lexists(path):
        raise FileExistsError(f"{printable(path)}: expected a path that is not there yet; {remedy} replaces it")


def write_atomic(path: FilePath, data: bytes) -> None:
    """Make `data` the content of the file `path`, or leave the file as it was.

    Raises:
        OSError: it cannot be written (the error names `path`, or its folder if that is missing), or reads back
            differently.
        DataFormatError: `path` is a device, a FIFO or a socket.
    """
    target = Path(path)
    with contextlib.suppress(FileNotFoundError):
        _require_regular(target, target.stat())
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = _create(temporary)  # fails on anything that stands there already, also on a link
        try:
            _fill(descriptor, data)
            _replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(temporary)
            raise
        _sync_folder(target.parent)
    except OSError as problem:
        named = target if target.parent.is_dir() else target.parent
        raise OSError(problem.errno, problem.strerror, str(named)) from problem


def _fill(descriptor: int, data: bytes) -> None:
    """Write `data` to a new file, flush it to the disk, compare what is read back, close the file."""
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[_write(descriptor, rest) :]
        _sync(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        position, same = 0, True
        while same and (chunk := os.read(descriptor, _CHUNK)):
            same = chunk == data[position : position + len(chunk)]
            position += len(chunk)
        if not same or position != len(data):
            raise OSError(errno.EIO, "what is read back differs from what was written")
    finally:
        os.close(descriptor)


def clean_temporaries(folder: FilePath) -> None:
    """Remove what killed processes left of their writes in `folder`; call it where nobody else writes."""
    for path in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            remove(path)


# Guarded reads


def read_regular(path: FilePath, *, limit: int) -> bytes:
    """The bytes of the regular file `path`; anything else is refused and cannot make the caller wait.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: as their names say.
        DataLimitError: it has more than `limit` bytes.
        DataFormatError: it is a device, a FIFO or a socket, or its size changed while it was read.
    """
    path, who = Path(path), printable(path)
    _require_regular(path, path.stat())
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY), "rb") as file:
        status = os.fstat(file.fileno())
        _require_regular(path, status)
        size = status.st_size
        if size > limit:
            raise DataLimitError(f"{who}: expected at most {limit} bytes, got {size}", limit=limit, value=size)
        data = file.read(size + 1)
    if len(data) != size:
        raise DataFormatError(
            f"{who}: expected {size} bytes, got another number: its size changed while it was read; try again",
            path=str(path),
        )
    return data


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise DataFormatError(f"{printable(path)}: not a regular file: expected one, got {kind}", path=str(path))


# Weights: the format is in tensors.py


def save_tensors(path: FilePath, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write `tensors` and `meta`, a dict that JSON can hold, into one safetensors file.

    Arrays may have any memory order and endianness. Equal content gives equal bytes.

    Raises:
        ConfigError: a type of array or a value of `meta` that the file cannot hold.
        WeightsFormatError: a name or a shape that `load_tensors` would not read.
        OSError: the file cannot be written; an older one is intact.
    """
    write_atomic(path, pack_tensors(tensors, meta))


def load_tensors(
    path: FilePath, *, allow_nonfinite: bool = False, limit: int = WEIGHTS_BYTES
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the meta that `save_tensors` wrote; the arrays are new and may be written to.

    Raises:
        WeightsFormatError: not such a file, or longer than `limit` bytes, or with NaN or infinity in it.
        DataIntegrityError: its content is not what was saved.
        FileNotFoundError, PermissionError, IsADirectoryError: as their names say.
    """
    try:
        data = read_regular(path, limit=limit)
    except DataError as problem:
        raise WeightsFormatError(str(problem)) from problem
    return unpack_tensors(data, printable(path), allow_nonfinite=allow_nonfinite)
