"""Short waits of threads for one another, outside Python's lock.

A thread that the system puts to sleep and wakes again loses some 20 microseconds, and as much again if another holds
Python's lock at that moment. Between two steps there is less to wait for, so a thread looks for its signal a while
before it sleeps. Signals are turns, numbers that grow, in an array that all threads have.
"""

# pyright: basic

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np

from stridenet.kernels.compiled import kernel
from stridenet.kernels.operation import registers

PATIENCE = 200e-6  # seconds to look for a signal: the longest that the work between two steps takes
BEGUN, NEXT = 0, 1  # places: the turn that has begun, and the one that will
LOOKS = 2  # the place of the patience: how often a thread looks; below 0, how many turns nobody looks at all
OWN = 8  # the place of the first other thread; each has a line of the cache
ALONE = np.zeros(OWN, np.int64)  # turns that nobody waits for

peek, poke = registers.peek, registers.poke


@kernel
def begin(turns: Any) -> None:
    """Tell those who wait for it that the next turn has begun."""
    poke(turns, BEGUN, turns[NEXT])


@kernel
def await_turn(turns: Any, own: int, turn: int, place: int, wanted: int) -> bool:
    """Set turns[own] = turn; look up to turns[LOOKS] times whether turns[place] has come to `wanted`."""
    poke(turns, own, turn)
    for _ in range(turns[LOOKS]):  # noqa: SIM110 - no generators in a kernel
        if peek(turns, place) >= wanted:
            return True
    return False


@cache
def patience() -> int:
    """How many looks take PATIENCE here."""
    turns, least = np.zeros(OWN, np.int64), 1.0
    turns[LOOKS] = 1000
    for _ in range(4):
        begun = time.perf_counter()
        await_turn(turns, BEGUN, 0, NEXT, 1)
        least = min(least, time.perf_counter() - begun)
    return int(1000 * PATIENCE / least)
