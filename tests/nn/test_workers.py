"""A few threads that share work: every task once, every error told, no thread left behind."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from stridenet.kernels.signals import PATIENCE
from stridenet.nn.plan import cores
from stridenet.nn.workers import Workers


class Stopped(BaseException):
    """As KeyboardInterrupt, which pytest keeps for itself."""


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stridenet"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Any:
    before = set(ours())
    yield
    for thread in set(ours()) - before:
        thread.join(0.2)
        if thread.is_alive():
            gc.collect()  # an error's traceback may hold the workers
            thread.join(30)
        assert not thread.is_alive()


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 5, 8, 20])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_task_is_done_once(count: int, tasks: int) -> None:
    workers, before = Workers(count), set(ours())
    for _ in range(3):
        done: list[int] = []
        workers.run([partial(done.append, i) for i in range(tasks)])
        assert sorted(done) == list(range(tasks))
    assert len(set(ours()) - before) <= count - 1


def test_two_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2)
    Workers(2).run([partial(meeting.wait, 30)] * 2)  # alone, each would wait for ever


def test_no_thread_starts_before_there_is_work() -> None:
    before = set(ours())
    workers = Workers(8)
    workers.run([lambda: None])
    assert not set(ours()) - before


@pytest.mark.parametrize("kind", [ValueError, Stopped])
@pytest.mark.parametrize("where", range(4))
def test_an_error_reaches_the_caller_when_all_others_are_done(where: int, kind: type[BaseException]) -> None:
    """Of the caller's own tasks, and of another thread's."""
    workers, done = Workers(4), []

    def late(i: int) -> None:
        time.sleep(0.02)
        done.append(i)

    tasks: list[Callable[[], None]] = [partial(late, i) for i in range(4)]
    tasks[where] = partial(fail, kind("here"))
    for _ in range(3):
        done.clear()
        with pytest.raises(kind, match="here"):
            workers.run(tasks)
        assert sorted(done) == sorted(set(range(4)) - {where})  # nobody still writes into the memory
    workers.run([partial(late, i) for i in range(4)])
    assert len(done) == 7


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_ends_its_own_share(count: int) -> None:
    done: list[int] = []
    tasks: list[Callable[[], None]] = [partial(done.append, i) for i in range(6)]
    tasks[1] = partial(fail, ValueError("second"))
    with pytest.raises(ValueError, match="second"):
        Workers(count).run(tasks)
    assert sorted(done) == ([0] if count == 1 else [0, 2, 4])


def test_turn_after_turn_whoever_is_late() -> None:
    """A turn begins while the others still look for it, or sleep already, and ends before its caller goes on."""
    workers, rng = Workers(3), random.Random(0)
    for turn in range(600):
        done: list[int] = []
        waits = [rng.choice([0, 0, PATIENCE, 3 * PATIENCE]) for _ in range(rng.randint(1, 7))]

        def work(i: int, seconds: float, done: list[int] = done) -> None:
            time.sleep(seconds)
            done.append(i)

        workers.run([partial(work, i, seconds) for i, seconds in enumerate(waits)])
        assert sorted(done) == list(range(len(waits))), turn
        time.sleep(rng.choice([0, PATIENCE, 3 * PATIENCE]))


def test_while_the_threads_are_busy_others_do_their_tasks_themselves() -> None:
    workers, inside, leave = Workers(2), threading.Barrier(3), threading.Event()

    def wait() -> None:
        inside.wait(30)
        leave.wait(30)

    first = threading.Thread(target=workers.run, args=([wait, wait],))
    first.start()
    inside.wait(30)
    names: list[str] = []
    workers.run([lambda: names.append(threading.current_thread().name)] * 5)
    assert names == [threading.current_thread().name] * 5
    leave.set()
    first.join(30)
    assert not first.is_alive()
    meeting = threading.Barrier(2)
    workers.run([partial(meeting.wait, 30)] * 2)  # free again


def test_a_task_may_share_out_tasks() -> None:
    workers, done = Workers(2), []
    workers.run([lambda: workers.run([lambda: done.append(1)] * 3)] * 2)
    assert done == [1] * 6


def test_what_was_worked_on_is_let_go() -> None:
    class Memory:
        alive = 0

        def __init__(self) -> None:
            Memory.alive += 1

        def __del__(self) -> None:
            Memory.alive -= 1

        def use(self) -> None:
            pass

    workers, memory = Workers(2), Memory()
    workers.run([memory.use] * 2)
    with pytest.raises(ValueError, match="one"):
        workers.run([memory.use, partial(fail, ValueError("one"))])
    del memory
    gc.collect()
    assert Memory.alive == 0


INTERRUPTED = """
import os, signal, threading, time
from stridenet.nn.workers import Workers

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background deaf to it
workers, done = Workers(2), []
workers.run([lambda: None] * 2)  # the threads are there

def slow():
    time.sleep(0.5)
    done.append("slow")

for first in lambda: None, lambda: time.sleep(10):
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    done.clear()
    try:
        workers.run([first, slow])
    except KeyboardInterrupt:
        print(done)
    workers.run([lambda: done.append(1)] * 4)
    print(len(done))
"""


@pytest.mark.skipif(os.name == "nt", reason="no signals on this system")
def test_an_interruption_waits_for_the_others(child: Any) -> None:
    """While the caller waits, and while it works; the threads are as good as new afterwards."""
    done = child(INTERRUPTED)
    assert done.stdout.split() == ["['slow']", "5"] * 2, done.stderr


def test_cores_of_this_process() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
