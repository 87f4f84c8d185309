"""A few threads that share the work of a step."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stridenet.kernels import signals
from stridenet.layout import Array

Task = Callable[[], None]
REST = 100  # turns


class Workers:
    """Threads that do their tasks of each turn, look a while for the next turn, and then sleep.

    Locks tell that a turn has begun, or ended; signals only spare a thread its sleep. Who looks for one holds no lock.
    When the caller has looked in vain, because another process has the core of a thread, say, nobody looks for the
    next REST turns: a thread that sleeps is the first to get a core back.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.turns = np.zeros(signals.OWN * count, np.int64)  # for a task that tells when it begins
        self._free, self._process = threading.Lock(), 0
        self._mates: list[_Mate] = []

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks, shared out in turns if the threads are free, else one after another."""
        if len(tasks) == 1 or self.count == 1 or not self._free.acquire(blocking=False):
            _do(tasks)
            return
        try:
            if self._process != os.getpid():  # those of a parent are not there after a fork
                self._mates, self._process = [_Mate(self.turns, i) for i in range(1, self.count)], os.getpid()
            busy = self._mates[: len(tasks) - 1]
            rest = self.turns[signals.LOOKS] + 1
            self.turns[signals.LOOKS] = rest if rest < 0 else signals.patience()
            self.turns[signals.NEXT] += 1
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


def _do(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task()


class _Mate:
    """One thread and what it is to do; it ends with this object."""

    def __init__(self, turns: Array, number: int) -> None:
        self._box: list[Any] = [None, None]  # the tasks, and the error that they ended with
        self._start, self._done = threading.Lock(), threading.Lock()
        self._start.acquire()
        self._done.acquire()
        self._turns, self._place = turns, signals.OWN * number
        arguments = self._box, self._start, self._done, turns, self._place
        threading.Thread(target=_serve, args=arguments, name="stridenet", daemon=True).start()
        weakref.finalize(self, self._start.release)

    def begin(self, tasks: Sequence[Task]) -> None:
        self._box[:] = tasks, None
        self._start.release()

    def end(self) -> BaseException | None:
        """Wait until the tasks are done, through every interruption; what they or the last of those raised."""
        interrupted: BaseException | None = None
        turns, turn = self._turns, self._turns[signals.NEXT]
        while self._box[0] is not None:
            try:
                if not signals.await_turn(turns, signals.BEGUN, turn, self._place, turn):
                    if turns[signals.LOOKS] > 0:
                        turns[signals.LOOKS] = -REST - 1
                    self._done.acquire()
            except BaseException as error:  # noqa: BLE001 - a signal: the thread still works on the memory
                interrupted = error
        error, self._box[1] = self._box[1], None
        return interrupted or error


def _serve(box: list[Any], start: Any, done: Any, turns: Array, place: int) -> None:
    while True:
        start.acquire()
        if box[0] is None:
            return
        turn = turns[signals.NEXT]
        try:
            _do(box[0])
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            box[1] = error
        box[0] = None
        if done.locked():
            done.release()
        signals.await_turn(turns, place, turn, signals.BEGUN, turn + 1)
