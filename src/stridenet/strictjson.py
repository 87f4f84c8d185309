"""JSON that means one thing: one text for a value, and no value that only some readers accept.

Model files, checkpoints and histories hold JSON, and may come from strangers.
"""

from __future__ import annotations

import json
import math
from typing import Any, cast

from stridenet.errors import ConfigError, StridenetError

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_INTEGER = 2**53  # beyond, a reader that keeps numbers as float64 sees another one


def to_json(value: Any) -> str:
    """`value` as canonical JSON: keys sorted, no blanks. What `from_json` would not read is not written.

    Raises:
        ConfigError: JSON has no such value (NaN, an array, a circle), or it is beyond a limit of `from_json`.

    >>> to_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"to_json: expected a value that JSON has, got: {problem}") from problem
    from_json(text, "to_json")
    return text


def from_json(text: str | bytes, who: str, error: type[StridenetError] = ConfigError, *, limit: int = MAX_BYTES) -> Any:
    """The value of a JSON text of at most `limit` bytes in UTF-8 and 32 levels.

    Stricter than Python: NaN, Infinity, numbers beyond float64, integers beyond 2^53, duplicate keys and lone
    surrogates are refused.

    Raises:
        error: the text is not such JSON; the message begins with `who`.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > limit:
            raise ValueError(f"{len(raw)} bytes, more than {limit}")
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        _check_tree(value, 0)
    except (ValueError, RecursionError) as problem:
        raise error(f"{who}: expected strict JSON, got: {problem}") from problem
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"the key {key[:80]!r} twice")
        fields[key] = value
    return fields


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:  # the length first: int() is slow on long ones
        raise ValueError(f"the integer {text[:20]}, beyond 2^53")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return number


def _check_tree(value: Any, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # a lone surrogate has no UTF-8
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        fields = cast("dict[str, Any] | list[Any]", value)
        for entry in fields if isinstance(fields, list) else (*fields.keys(), *fields.values()):
            _check_tree(entry, depth + 1)
