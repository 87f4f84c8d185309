"""The bytes of an ONNX file, walked field by field before the library makes objects of them.

A file is a protobuf message: fields, each a number, a wire type and a value, and a message is a field of another. Two
bytes are enough for an empty message that takes a hundred as an object, and a cut or foreign file often still means
something to the library. So fields are counted, and each must be one that ONNX has, of its type, whole.
"""

from __future__ import annotations

from typing import Any, NoReturn

from stridenet.errors import DataLimitError, ModelFileError

MAX_FIELDS = 2**19  # of a whole file: a node has 10 to 40, and there are at most 10 000
MAX_DEPTH = 32  # messages inside messages; a tensor that is an attribute is the fifth

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_NAMES = {_VARINT: "a number", _EIGHT: "8 bytes", _BYTES: "bytes with a length", _FOUR: "4 bytes"}
_WIRES = {1: _EIGHT, 2: _FOUR, 9: _BYTES, 11: _BYTES, 12: _BYTES}  # of double, float, string, message, bytes
_STRING, _MESSAGE = 9, 11

_Fields = dict[int, tuple[str, int, Any]]  # number -> name, type, and for a message its descriptor


def check_wire(data: bytes, descriptor: Any, who: str) -> None:
    """Raise an error unless `data` is a whole message of the type that the protobuf `descriptor` describes.

    Raises:
        ModelFileError: a field that the type does not have, one that is cut, a text that is not UTF-8.
        DataLimitError: more than half a million fields.
    """
    known: dict[str, _Fields] = {}
    at, end, count = 0, len(data), 0
    message: Any = descriptor
    around: list[tuple[int, Any]] = []  # the messages that this one is inside of: where they end, and their types
    while True:
        while at == end:
            if not around:
                return
            end, message = around.pop()
        count += 1
        if count > MAX_FIELDS:
            raise DataLimitError(f"{who}: expected at most {MAX_FIELDS} fields, got more", limit=MAX_FIELDS)
        if message.full_name not in known:
            known[message.full_name] = {f.number: (f.name, f.type, f.message_type) for f in message.fields}
        begin = at
        tag, at = _varint(data, at, end, who)
        name, kind, inner = known[message.full_name].get(tag >> 3, ("", 0, None))
        wire = tag & 7
        if not name or wire not in (_WIRES.get(kind, _VARINT), _BYTES):
            if begin == 0:
                raise ModelFileError(f"{who}: expected an ONNX file, got another format: byte 0 begins no ModelProto")
            what = f"the field {name} as {_NAMES.get(wire, 'a group')}" if name else f"a field {tag >> 3}"
            _fail(who, f"a field of {message.name}", what, begin)
        begin, at = _value(data, at, end, wire, who)
        if kind == _STRING:
            _check_text(data[begin:at], name, begin, who)
        if kind == _MESSAGE:
            if len(around) == MAX_DEPTH:
                _fail(who, f"at most {MAX_DEPTH} messages inside one another", "more", begin)
            around.append((end, message))
            at, end, message = begin, at, inner


def _varint(data: bytes, at: int, end: int, who: str) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, the last byte below 128; and where it ends."""
    value = 0
    for i in range(10):
        if at + i >= end:
            _fail(who, "a number", "the end", at)
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    return _fail(who, "a number of at most 10 bytes", "more", at)


def _value(data: bytes, at: int, end: int, wire: int, who: str) -> tuple[int, int]:
    """Where the value that begins at `at` has its content, and where it ends."""
    begin, stop = at, at
    if wire == _VARINT:
        _, stop = _varint(data, at, end, who)
    elif wire == _BYTES:
        length, begin = _varint(data, at, end, who)
        stop = begin + length
    else:
        stop = at + (8 if wire == _EIGHT else 4)
    if stop > end:
        _fail(who, f"{stop - begin} bytes", f"{end - begin}: the file is cut or damaged", begin)
    return begin, stop


def _check_text(content: bytes, name: str, at: int, who: str) -> None:
    try:
        content.decode()
    except UnicodeDecodeError:
        _fail(who, f"{name} in UTF-8", "other bytes", at)


def _fail(who: str, expected: str, got: str, at: int) -> NoReturn:
    raise ModelFileError(f"{who}: expected an ONNX file with {expected} at byte {at}, got {got}")
