"""A few threads that share the work of a step."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Threads that wait for their share of a step; no one spins.

    A thread woken by a lock starts within some 14 microseconds; one of an executor takes three times as long.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free, self._process = threading.Lock(), 0
        self._mates: list[_Mate] = []

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """All tasks, shared out in turns if the threads are free, else one after another."""
        if len(tasks) == 1 or self.count == 1 or not self._free.acquire(blocking=False):
            _do(tasks)
            return
        try:
            if self._process != os.getpid():  # those of a parent are not there after a fork
                self._mates, self._process = [_Mate() for _ in range(self.count - 1)], os.getpid()
            busy = self._mates[: len(tasks) - 1]
            try:
                for i, mate in enumerate(busy, 1):
                    mate.begin(tasks[i :: self.count])
                _do(tasks[:: self.count])
            finally:
                errors = [mate.end() for mate in busy]  # one that has not begun has nothing to wait for
            for error in errors:
                if error is not None:
                    raise error
        finally:
            self._free.release()


def _do(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


class _Mate:
    """One thread and what it is to do; it ends with this object."""

    def __init__(self) -> None:
        self._box: list[Any] = [None, None]  # the tasks, and the error that they ended with
        self._start, self._done = threading.Lock(), threading.Lock()
        self._start.acquire()
        self._done.acquire()
        arguments = self._box, self._start, self._done
        threading.Thread(target=_serve, args=arguments, name="stridenet", daemon=True).start()
        weakref.finalize(self, self._start.release)

    def begin(self, tasks: Sequence[Callable[[], None]]) -> None:
        self._box[:] = tasks, None
        self._start.release()

    def end(self) -> BaseException | None:
        """Wait until the tasks are done, through every interruption; what they or the last of those raised."""
        interrupted: BaseException | None = None
        while self._box[0] is not None:
            try:
                self._done.acquire()
            except BaseException as error:  # noqa: BLE001 - a signal: the thread still works on the memory
                interrupted = error
        error, self._box[1] = self._box[1], None
        return interrupted or error


def _serve(box: list[Any], start: Any, done: Any) -> None:
    while True:
        start.acquire()
        if box[0] is None:
            return
        try:
            _do(box[0])
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            box[1] = error
        box[0] = None
        if done.locked():
            done.release()
