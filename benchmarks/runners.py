"""Processes that work in turns.

Each side of a race is a process of its own: it stays warm, and no thread pool of one disturbs another, since
all but one rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

PAUSE = 0.02  # seconds between two turns: OpenMP's threads spin for some milliseconds before they sleep

Answers = Mapping[str, Callable[..., Any]]  # what a runner can be asked


class RunnerError(Exception):
    """What went wrong in a runner, in a line."""


class Runner:
    """A process that calls `make(*arguments)` for its answers, and then works when it is told to.

    Raises:
        RunnerError: `make` raised.
    """

    def __init__(self, make: Callable[..., Answers], *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, arguments, other), daemon=True)
        self._process.start()
        other.close()
        try:
            self._answer()
        except RunnerError:
            self.close()
            raise

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer; RunnerError if there is none."""
        self._pipe.send((question, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            done, answer = self._pipe.recv()
        except EOFError:
            raise RunnerError("the process ended") from None
        if not done:
            raise RunnerError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(make: Callable[..., Answers], arguments: tuple[Any, ...], pipe: Connection) -> None:
    """Answer until the other end is closed."""
    answers: Answers = {}

    def begin() -> None:
        nonlocal answers
        answers = make(*arguments)

    _reply(pipe, begin)
    try:
        while True:
            question, given = pipe.recv()
            _reply(pipe, answers[question], *given)
    except EOFError:
        pass


def _reply(pipe: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    try:
        answer = True, work(*arguments)
    except Exception as error:  # noqa: BLE001  (the other process decides)
        answer = False, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200}"
    pipe.send(answer)


def burst(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """(median, minimum) milliseconds of the calls within `seconds`, at least three, after a few uncounted ones."""
    now, times = time.perf_counter, []
    warm = now() + seconds / 10
    call()
    while now() < warm:
        call()
    end = now() + seconds
    while len(times) < 3 or now() < end:
        begin = now()
        call()
        times.append(1000 * (now() - begin))
    return median(times), min(times)


def seconds_of(work: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turns(turns: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[Any]]:
    """What each turn gave, round by round; every second round goes backwards."""
    found: dict[Any, list[Any]] = {name: [] for name in turns}
    for i in range(rounds):
        for name in list(turns)[:: -1 if i % 2 else 1]:
            time.sleep(PAUSE)
            found[name].append(turns[name]())
    return found


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """The ratio above / below of the rounds: median, least and most."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": round(median(ratios), 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}
