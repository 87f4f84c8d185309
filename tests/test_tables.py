"""Things built by name: what a file may say, and how what it may not say is refused."""

from __future__ import annotations

from typing import Any

import pytest

from stridenet.errors import ConfigError, ShapeError
from stridenet.tables import construct


def mixed(first: int, second: int = 2, *, rng: str = "own") -> tuple[int, int, str]:
    if first < 0:
        raise ConfigError(f"mixed: expected first >= 0, got {first}")
    if second < 0:
        raise ShapeError("mixed: expected a shape, got none")
    return first, second, rng


def plain() -> str:
    return "plain"


def pair(left: int, right: int) -> int:
    return left + right


TABLE = {"mixed": mixed, "plain": plain, "pair": pair}


def test_an_entry_gets_its_arguments_and_what_the_program_gives_if_it_takes_it() -> None:
    assert construct("here", TABLE, "mixed", {"first": 1}) == (1, 2, "own")
    assert construct("here", TABLE, "mixed", {"second": 3, "first": 1}, rng="given", other=0) == (1, 3, "given")
    assert construct("here", TABLE, "mixed", {}, first=7) == (7, 2, "own")
    assert construct("here", TABLE, "plain", {}, rng="given") == "plain"


@pytest.mark.promise("L04")
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mixd", {}, "here.name: expected one of mixed, plain, pair, got 'mixd'; did you mean 'mixed'?"),
        (None, {}, "here.name: expected one of mixed, plain, pair, got None"),
        (["mixed"], {}, "here.name: expected one of mixed, plain, pair, got ['mixed']"),
        ("mixed", {"frist": 1}, "here mixed: expected one of first, second, got 'frist'; did you mean 'first'?"),
        ("mixed", {3: 1}, "here mixed: expected one of first, second, got 3"),
        ("mixed", {"first": 1, "rng": 1}, "here mixed: expected one of first, second, got 'rng'"),
        ("mixed", {"second": 1}, "here mixed: expected the key first as well, got second"),
        ("pair", {}, "here pair: expected the keys left, right as well, got none"),
        ("plain", {"first": 1}, "here plain: expected no arguments, got 'first'"),
        ("mixed", {"first": -1}, "here: mixed: expected first >= 0, got -1"),
    ],
)
def test_what_is_refused(name: Any, arguments: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        construct("here", TABLE, name, arguments, rng="given")
    assert str(caught.value) == message


def test_an_error_keeps_its_class() -> None:
    with pytest.raises(ShapeError, match=r"^here: mixed: expected a shape"):
        construct("here", TABLE, "mixed", {"first": 0, "second": -1})


def test_keys_that_stand_beside_the_arguments_are_named_too() -> None:
    with pytest.raises(ConfigError, match=r"^here plain: expected one of unit, got 'unti'; did you mean 'unit'\?"):
        construct("here", TABLE, "plain", {"unti": 1}, ("unit",))
    assert construct("here", TABLE, "plain", {}, ("unit",)) == "plain"
