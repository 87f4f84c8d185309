"""A folder of checkpoints: written whole or not at all, chosen by step and digest, one trainer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from stridenet.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLockedError,
    CheckpointMismatchError,
    CheckpointVersionError,
    DataError,
    ModelFileError,
    WeightsFormatError,
    printable,
)
from stridenet.files import FilePath, clean_temporaries, load_tensors, remove, save_tensors
from stridenet.layout import Array
from stridenet.shapes import integer
from stridenet.strictjson import to_json

VERSION = 1
_NAME = re.compile(r"step-([0-9]{9,18})\.safetensors")
_MAX_SHOWN = 20
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK}


class CheckpointStore:
    """The checkpoints `step-000000860.safetensors` ... of an existing folder; the last `keep` are kept.

    Other names are ignored, and so are times: a clock may be wrong.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = CheckpointStore(folder)
    ...     store.save(10, {"weight": np.zeros(3)}, {"epoch": 1})
    ...     step, tensors, meta = store.latest()
    >>> step, tensors["weight"].shape, meta
    (10, (3,), {'epoch': 1})
    """

    def __init__(self, folder: FilePath, *, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = integer("CheckpointStore", "keep", keep)

    def path(self, step: int) -> Path:
        """The file of the checkpoint of `step`."""
        return self.folder / _file_name(step)

    def save(self, step: int, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step`, then remove those before it beyond `keep`.

        Raises:
            CheckpointError: it cannot be written; those before it are intact.
            ConfigError, WeightsFormatError: a value that a file cannot hold, as in `save_tensors`.
        """
        path = self.path(integer("CheckpointStore.save", "step", step, minimum=0))
        try:
            save_tensors(path, tensors, {"version": VERSION, "step": step, "run": dict(meta)})
        except (OSError, DataError) as problem:
            hint = "those before it are intact" if self.folder.is_dir() else "its folder must exist; make it first"
            raise CheckpointError(
                f"{printable(path)}: expected to write a checkpoint, got: {_reason(problem)}; {hint}"
            ) from problem
        for old in [s for s in self.steps() if s < step][self.keep - 1 :]:
            with contextlib.suppress(OSError):  # the next save tries again
                remove(self.path(old))

    def latest(self) -> tuple[int, dict[str, Array], dict[str, Any]]:
        """Step, tensors and meta of the newest checkpoint that verifies; warns if a newer one does not.

        Raises:
            CheckpointCorruptError: there are checkpoints, or beginnings of one, and none verifies.
            CheckpointVersionError: the newest was written by a later version of stridenet.
            CheckpointError: there is none, or the folder cannot be read.
        """
        problems: list[str] = []
        for step in self.steps():
            try:
                tensors, meta = self._load(step)
            except (ModelFileError, DataError, OSError) as problem:
                problems.append(f"{self.path(step).name}: {_reason(problem)}")
                continue
            if problems:
                warnings.warn(f"{problems[0]}; using {self.path(step).name} instead", stacklevel=2)
            return step, tensors, meta
        where = printable(self.folder)
        if problems:
            raise CheckpointCorruptError(
                f"{where}: expected a checkpoint that verifies, got {len(problems)} that do not; {problems[0]}"
            )
        if any(self.folder.glob(".step-*.tmp")):
            raise CheckpointCorruptError(f"{where}: expected a checkpoint, got only the beginning of one; start anew")
        raise CheckpointError(f"{where}: expected a checkpoint, got none; give the folder of a run that was saved")

    def clean(self) -> None:
        """Remove what killed writers left; call it with the lock held."""
        clean_temporaries(self.folder)

    def steps(self) -> list[int]:
        """The steps that have a file, newest first."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except OSError as problem:
            raise CheckpointError(
                f"{printable(self.folder)}: expected a folder of checkpoints, got: {_reason(problem)}"
            ) from problem
        steps = [(int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))]
        return sorted((step for step, name in steps if name == _file_name(step)), reverse=True)

    def _load(self, step: int) -> tuple[dict[str, Array], dict[str, Any]]:
        path = self.path(step)
        tensors, record = load_tensors(path, allow_nonfinite=True)
        version = record.get("version")
        if type(version) is int and version > VERSION:
            raise CheckpointVersionError(
                f"{printable(path)}: expected a checkpoint of version {VERSION}, got {version}; use a newer stridenet"
            )
        if version != VERSION or record.get("step") != step or not isinstance(record.get("run"), dict):
            raise WeightsFormatError(f"{printable(path)}: expected the checkpoint of step {step}, got another file")
        return tensors, record["run"]


def _file_name(step: int) -> str:
    return f"step-{step:09d}.safetensors"


def _reason(problem: Exception) -> str:
    return problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)


class RunLock:
    """A context in which no other process can hold the lock of the same existing folder.

    The lock is flock's, on the file `.lock` that names the holder: it ends with its process, however that dies.
    Where a file system has no locks, a warning says so; Windows has no flock and gets no lock.

    Raises:
        CheckpointLockedError: another holder works in the folder; the message gives its process number.
    """

    def __init__(self, folder: FilePath) -> None:
        self.path = Path(folder) / ".lock"

    def __enter__(self) -> RunLock:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            self._acquire()
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def _acquire(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise CheckpointLockedError(
                f"{printable(self.path.parent)}: expected no other process here, got process {printable(holder)};"
                " wait for it, or stop it"
            ) from None
        except OSError as problem:
            if problem.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{printable(self.path.parent)}: this file system has no locks; do not train here twice at once",
                stacklevel=3,
            )


def require_same(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Check that a run goes on with the values it was begun with: recipe, data, seed, network.

    Raises:
        CheckpointMismatchError: some differ; each is named, with the old and the new value.

    >>> require_same({"seed": 1, "pads": (2, 2)}, {"seed": 1, "pads": [2, 2]})
    """
    old, new = _leaves(saved), _leaves(current)
    lines = [
        f"{'.'.join(name)}: {old.get(name, 'absent')[:80]} -> {new.get(name, 'absent')[:80]}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if lines:
        more = f" and {len(lines) - _MAX_SHOWN} more" if len(lines) > _MAX_SHOWN else ""
        shown = printable("; ".join(lines[:_MAX_SHOWN]))
        raise CheckpointMismatchError(f"checkpoint: expected the values it was saved with, got {shown}{more}")


def _leaves(value: Any, name: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The values at the ends of nested dicts and lists, as JSON, by their path."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(cast("Sequence[Any]", value))
    leaves = {path: text for key, entry in items for path, text in _leaves(entry, (*name, str(key))).items()}
    return leaves or {name: to_json(value)}
