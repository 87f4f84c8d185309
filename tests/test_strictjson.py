from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, WeightsFormatError
from stridenet.strictjson import MAX_BYTES, from_json, to_json

BAD_TEXTS = {
    "NaN": "not finite",
    "[Infinity]": "not finite",
    "-Infinity": "not finite",
    "1e999": "not finite",
    "-1e999": "not finite",
    '{"a":1,"a":1}': "'a' twice",
    '{"b":{"\\u0061":1,"a":2}}': "'a' twice",
    "9007199254740993": "beyond 2^53",
    "-9007199254740993": "beyond 2^53",
    "9" * 5000: "beyond 2^53",
    "[" * 33 + "]" * 33: "32 levels",
    '{"a":' * 33 + "1" + "}" * 33: "32 levels",
    "[" * 100_000: "",  # the reason differs with the version of Python
    '"\\ud800"': "surrogates",
    '{"\\udfff":1}': "surrogates",
    '"\ud800"': "surrogates",
    "": "line 1",
    "{'a':1}": "line 1",
    "01": "line 1",
    '"\n"': "line 1",
    "1 2": "line 1",
    "\ufeff1": "BOM",
    '"' + "a" * MAX_BYTES + '"': "1048578 bytes, more than 1048576",
}


@pytest.mark.parametrize(("text", "reason"), BAD_TEXTS.items(), ids=range(len(BAD_TEXTS)))
@pytest.mark.promise("S02")
def test_what_is_not_strict_json_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(text, "who")
    message = str(caught.value)
    assert reason in message
    assert message.startswith("who: expected strict JSON, got: ")
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize("raw", [b"\xff", b'"\xed\xa0\x80"', '"x"'.encode("utf-16")])
def test_bytes_that_are_not_utf8_are_refused(raw: bytes) -> None:
    with pytest.raises(WeightsFormatError, match=r"^who: .*utf-8"):
        from_json(raw, "who", WeightsFormatError)


def test_the_limits_themselves_are_allowed() -> None:
    assert from_json("[" * 32 + "]" * 32, "who") is not None
    assert from_json("[9007199254740992,-9007199254740992]", "who") == [2**53, -(2**53)]
    assert len(from_json('"' + "a" * (MAX_BYTES - 2) + '"', "who")) == MAX_BYTES - 2
    assert from_json(b"[1,2]", "who", limit=5) == [1, 2]
    with pytest.raises(ConfigError, match="6 bytes, more than 5"):
        from_json(b"[1,2] ", "who", limit=5)


def test_ordinary_values_come_back() -> None:
    value = {"name": "数字 é\x1b", "list": [1, -2.5, 1e-300, True, None, {}], "0": {"": []}}
    assert from_json(to_json(value), "who") == value
    assert from_json(to_json(value).encode(), "who") == json.loads(to_json(value))


def test_equal_values_have_one_text() -> None:
    assert to_json({"b": (1, 2), "a": "é"}) == to_json({"a": "é", "b": [1, 2]}) == '{"a":"é","b":[1,2]}'


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        np.float32(1),
        np.zeros(2),
        {1, 2},
        b"a",
        CIRCLE,
        {1: "a", "1": "b"},
        {1: "a", "b": "b"},
        {(1, 2): "a"},
        2**53 + 1,
        "\ud800",
        json.loads("[" * 33 + "]" * 33),
        "a" * MAX_BYTES,
    ],
    ids=range(14),
)
def test_what_could_not_be_read_is_not_written(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^to_json: expected "):
        to_json(value)
