"""Signals between threads: seen when they are there, given up when they are not, and with them what came before."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from stridenet.kernels import signals
from stridenet.kernels.compiled import COMPILES
from stridenet.kernels.signals import BEGUN, LOOKS, NEXT, OWN, await_turn, begin, patience


def turns(looks: int = 10) -> Any:
    found = np.zeros(2 * OWN, np.int64)
    found[LOOKS] = looks
    return found


def test_the_next_turn_begins() -> None:
    found = turns()
    found[NEXT] = 5
    begin(found)
    assert found[BEGUN] == 5
    assert np.count_nonzero(found) == 3


@pytest.mark.parametrize(("there", "seen"), [(2, False), (3, True), (4, True)])
def test_a_turn_that_is_there_is_seen_and_one_that_is_not_is_given_up(there: int, seen: bool) -> None:
    found = turns()
    found[OWN] = there
    assert await_turn(found, BEGUN, 9, OWN, 3) is seen
    assert found[BEGUN] == 9  # one's own turn is told whatever comes
    assert found[OWN] == there


@pytest.mark.parametrize("looks", [0, -5])
def test_nobody_looks_while_there_is_rest(looks: int) -> None:
    assert not await_turn(turns(looks), BEGUN, 0, OWN, 0)


@pytest.mark.skipif(not COMPILES, reason="without a compiler a look holds Python's lock")
def test_what_was_written_before_a_signal_is_there_with_it() -> None:
    """Two threads hand a number to and fro; each adds to it between the other's turns."""
    found, number, rounds = turns(10**6), np.zeros(1, np.int64), 20_000

    def answer() -> None:
        for turn in range(1, rounds + 1):
            while not await_turn(found, OWN, turn - 1, BEGUN, turn):
                pass
            number[0] += turn
        await_turn(found, OWN, rounds, BEGUN, 0)

    other = threading.Thread(target=answer)
    other.start()
    for turn in range(1, rounds + 1):
        while not await_turn(found, BEGUN, turn, OWN, turn):
            pass
        assert number[0] == turn * (turn + 1) // 2
    other.join(30)


def test_patience_has_an_end() -> None:
    assert 0 < patience() < 10**9
    assert not signals.ALONE.any()
