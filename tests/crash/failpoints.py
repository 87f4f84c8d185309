"""A disk that fails where it is told to, and that knows what a power loss would leave.

`Disk` stands between stridenet and a folder: it takes the place of the small functions of `stridenet.files` that change
the file system. It counts them, lets an `Act` come in the place of one, and keeps a model of what is on the disk (what
was flushed) and what only seems to be (the rest).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stridenet import files
from stridenet.train import checkpoint

CALLS = ("_make", "_create", "_write", "_sync", "_replace", "_sync_folder", "remove")
ATOMIC = ("_create", "_write", "_sync", "_replace", "_sync_folder")  # what `write_atomic` does
REAL = {name: getattr(files, name) for name in CALLS}

State = dict[Path, bytes | None]  # what a folder holds, by relative path; None is a folder
Do = Callable[..., Any]
Act = Callable[["Disk", Do, tuple[Any, ...]], Any]


class Dead(BaseException):
    """The process is gone: nothing that it would still have done happens."""


class Disk:
    """The disk below `folder`, as long as `patch` lasts.

    Args:
        at: the number of the call, from 0, that `act` replaces; `act` gets the disk, the call and its arguments.
        lasting: every later call is replaced too.
        most: bytes that one write takes at most.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        folder: Path,
        at: int = -1,
        act: Act | None = None,
        *,
        lasting: bool = False,
        most: int | None = None,
    ) -> None:
        self.folder, self.at, self.act, self.lasting, self.most = folder, at, act, lasting, most
        self.calls: list[str] = []
        self.dead = False
        self.before_call: Callable[[str], None] = lambda name: None
        # The model: numbered contents, names now, names and contents on the disk, changes of names on their way to it.
        self.data: dict[int, bytes | None] = {}
        self.now: dict[Path, int] = {}
        for path, content in state_of(folder).items():
            self.now[folder / path] = self._number(content)
        self.flushed_data = dict(self.data)
        self.flushed: dict[Path, int | None] = {**self.now}
        self.changes: list[tuple[dict[Path, int | None], ...]] = []  # for each the ways in which it may have come
        self._open: dict[int, int] = {}
        for name in CALLS:
            patch.setattr(files, name, partial(self._call, name))
        patch.setattr(checkpoint, "remove", partial(self._call, "remove"))

    def die(self) -> None:
        """Let the process end here."""
        self.dead = True
        raise Dead

    def _call(self, name: str, *arguments: Any) -> Any:
        if self.dead:
            raise Dead
        self.before_call(name)
        number, do = len(self.calls), getattr(self, f"_do_{name.lstrip('_')}")
        self.calls.append(name)
        here = number == self.at or (self.lasting and number > self.at >= 0)
        return self.act(self, do, arguments) if self.act is not None and here else do(*arguments)

    def _number(self, content: bytes | None) -> int:
        number = len(self.data)
        self.data[number] = content
        return number

    # The calls

    def _do_make(self, folder: Path) -> None:
        REAL["_make"](folder)
        self.now[folder] = self._number(None)
        self.flushed_data[self.now[folder]] = None
        self.changes.append(({folder: self.now[folder]},))

    def _do_create(self, path: Path) -> int:
        descriptor = REAL["_create"](path)
        self._open[descriptor] = self.now[path] = self._number(b"")
        self.changes.append(({path: self.now[path]},))
        return descriptor

    def _do_write(self, descriptor: int, data: memoryview) -> int:
        count = REAL["_write"](descriptor, data[: self.most])
        self.data[self._open[descriptor]] = (self.data[self._open[descriptor]] or b"") + bytes(data[:count])
        return count

    def _do_sync(self, descriptor: int) -> None:
        self.flushed_data[self._open[descriptor]] = self.data[self._open[descriptor]]

    def _do_replace(self, source: Path, target: Path) -> None:
        REAL["_replace"](source, target)
        self.now[target] = self.now.pop(source)
        self.changes.append(({target: self.now[target], source: None}, {target: self.now[target]}))

    def _do_sync_folder(self, folder: Path) -> None:
        rest = self.changes
        self.changes = []
        for ways in rest:
            if next(iter(ways[0])).parent == folder:
                self.flushed |= ways[0]
            else:
                self.changes.append(ways)

    def _do_remove(self, path: Path) -> None:
        REAL["remove"](path)
        del self.now[path]
        self.changes.append(({path: None},))

    # Power loss

    def after_power_loss(self) -> Iterator[State]:
        """Every state that the folder may have if the power fails now.

        Any of the changes of names may have reached the disk, whatever their order; a content that was not flushed may
        be the old one, empty, cut, zeros or whole.
        """
        for kept in itertools.product(*([{}, *ways] for ways in self.changes)):
            names = dict(self.flushed)
            for change in kept:
                names |= change
            there = {path: number for path, number in names.items() if number is not None}
            there = {path: number for path, number in there.items() if self._reachable(path, there)}
            numbers = sorted(set(there.values()))
            for contents in itertools.product(*(self._contents(number) for number in numbers)):
                content = dict(zip(numbers, contents, strict=True))
                yield {path.relative_to(self.folder): content[number] for path, number in there.items()}

    def _reachable(self, path: Path, there: dict[Path, int]) -> bool:
        return all(parent in there for parent in path.parents if self.folder in parent.parents)

    def _contents(self, number: int) -> list[bytes | None]:
        data, old = self.data[number], self.flushed_data.get(number, b"")
        if data == old or data is None or old is None:
            return [data]
        return list(dict.fromkeys([old, b"", data[: len(data) // 2], data[:-1], bytes(len(data)), data]))


def state_of(folder: Path) -> State:
    """What is in `folder`; locks do not count."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    return {path.relative_to(folder): None if path.is_dir() else path.read_bytes() for path in sorted(paths)}


def build(folder: Path, state: State) -> Path:
    """Make a new folder that holds `state`."""
    folder.mkdir()
    for path, content in sorted(state.items()):
        (folder / path).mkdir() if content is None else (folder / path).write_bytes(content)
    return folder


# What may happen at a call


def killed_before(disk: Disk, do: Do, arguments: tuple[Any, ...]) -> None:
    """The process dies, the call was not made."""
    disk.die()


def killed_after(disk: Disk, do: Do, arguments: tuple[Any, ...]) -> None:
    """The call was made, then the process dies."""
    do(*arguments)
    disk.die()


def refused(code: int) -> Act:
    """The call fails and does nothing."""

    def act(disk: Disk, do: Do, arguments: tuple[Any, ...]) -> None:
        raise OSError(code, os.strerror(code))

    return act


def done_and_refused(code: int) -> Act:
    """The call does its work and fails, as a rename over a network may whose answer is lost."""

    def act(disk: Disk, do: Do, arguments: tuple[Any, ...]) -> None:
        done = do(*arguments)
        if isinstance(done, int) and disk.calls[-1] == "_create":
            os.close(done)
        raise OSError(code, os.strerror(code))

    return act


def short(count: int, then: Act | None = None) -> Act:
    """A write takes `count` bytes; then it returns, or `then` happens."""

    def act(disk: Disk, do: Do, arguments: tuple[Any, ...]) -> Any:
        descriptor, data = arguments
        written = do(descriptor, data[:count])
        return written if then is None else then(disk, do, (descriptor, data[:0]))

    return act


ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
KILLS: dict[str, Act] = {"killed before": killed_before, "killed after": killed_after}
REFUSALS: dict[str, Act] = {errno.errorcode[code]: refused(code) for code in ERRORS}
LOST_ANSWERS: dict[str, Act] = {f"{errno.errorcode[code]} after": done_and_refused(code) for code in ERRORS[:2]}


def short_writes(*counts: int) -> dict[str, Act]:
    """Writes of so many bytes that return, die or fail."""
    thens = {"": None, ", killed": killed_before, ", EIO": refused(errno.EIO), ", ENOSPC": refused(errno.ENOSPC)}
    return {f"{count} bytes{name}": short(count, then) for count in counts for name, then in thens.items()}
