"""A pickled dict of arrays, lists, texts and numbers, read as data: nothing in it is imported, called or built by name.

Unpickling cannot be made safe, so this is no unpickler. It knows the opcodes that Python 2 and 3 write in protocols 2
to 4 for such a dict (pickletools.py of CPython describes them), and of names those that NumPy 1 and 2 put into a uint8
array: they are compared with a closed table and stand for a case of `_reduce`. Everything else is refused.

Memory and time are bounded by the length of the file: arrays are views of its bytes, what is decoded is no longer than
they are, and opcodes, containers, keys, texts and memo entries are counted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, cast

import numpy as np

from stridenet.errors import DataFormatError, DataLimitError, printable, shown
from stridenet.layout import Array
from stridenet.shapes import product

MAX_BYTES = 64 * 2**20  # of a file; a published batch has 31 MB
MAX_OPCODES = 400_000  # a published batch has 45 000
MAX_CONTAINERS = 100_000
MAX_MEMO = 100_000
MAX_DEPTH = 16
MAX_TEXT = 2**16  # bytes; only the values of an array may be longer
MAX_TEXTS = 2**22  # bytes of all texts; a published batch has 0.2 MB of file names
MAX_KEYS = 16  # of a dict, and the bytes of each are at most MAX_KEY
MAX_KEY = 256

Value = int | float | str | bytes | list[Any] | Array | None


class _Name(Enum):
    """What a name may stand for."""

    RECONSTRUCT = "an empty array"
    NDARRAY = "the type of an array"
    DTYPE = "the type of its elements"
    ENCODE = "bytes that are written as text"
    BYTES = "no bytes at all"


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("_codecs", "encode"): _Name.ENCODE,
    ("__builtin__", "bytes"): _Name.BYTES,
    ("builtins", "bytes"): _Name.BYTES,
}


class _Dtype:
    """The type uint8, the only one."""


class _Array:
    """An array, whose values come after it."""

    def __init__(self) -> None:
        self.value: Array | None = None


class _Long:
    """A text or bytes of more than `MAX_TEXT`, as they stand in the file."""

    def __init__(self, data: memoryview, *, is_text: bool) -> None:
        self.data, self.is_text = data, is_text


def read_pickle(data: bytes, who: str) -> dict[str, Value]:
    """The dict that the bytes `data` hold: keys as text; values are numbers, texts, bytes, lists or uint8 arrays.

    Arrays are views of `data` where they can be. `who` names the file in errors.

    Raises:
        DataFormatError: an opcode or a name that is not known, or anything out of its place; the offset says where.
        DataLimitError: more of something than the limits of this file allow.
    """
    reader = _Reader(data)
    try:
        if len(data) > MAX_BYTES:
            raise DataLimitError(f"expected at most {MAX_BYTES} bytes, got {len(data)}", limit=MAX_BYTES)
        return reader.read()
    except DataFormatError as error:
        raise DataFormatError(f"{who}: {error}, at offset {reader.start}", path=who, offset=reader.start) from None
    except DataLimitError as error:
        raise DataLimitError(
            f"{who}: {error}, at offset {reader.start}", limit=error.limit, value=error.value
        ) from None


class _Reader:
    """The stack, the marks in it and the memo, as an unpickler has them; `start` is the offset of the opcode."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.start = memoryview(data), 0, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.containers = self.texts = self.decoded = 0

    def read(self) -> dict[str, Value]:
        if bytes(self.data[:1]) != b"\x80" or len(self.data) < 2 or not 2 <= self.data[1] <= 4:
            begin = bytes(self.data[:8]).hex(" ") or "none"
            raise DataFormatError(f"expected a pickle of protocol 2, 3 or 4, got the bytes {begin}; is it a batch?")
        self.at = 2
        for _ in range(MAX_OPCODES):
            self.start = self.at
            opcode = bytes(self.take(1))
            if opcode == b".":  # STOP
                return self.result()
            if opcode not in _OPERATIONS:
                raise DataFormatError(f"opcode {opcode!r} is not allowed")
            _OPERATIONS[opcode](self)
        raise DataLimitError(f"expected at most {MAX_OPCODES} opcodes, got more", limit=MAX_OPCODES)

    def result(self) -> dict[str, Value]:
        if self.at != len(self.data):
            raise DataFormatError(f"expected the end of the file, got {len(self.data) - self.at} bytes more")
        if len(self.stack) != 1 or self.marks or not isinstance(self.stack[0], dict):
            raise DataFormatError("expected one dict, got something else")
        found = cast("dict[str, Any]", self.stack[0])
        _check_depth(found)
        return {key: _finished(key, value) for key, value in found.items()}

    # The stream

    def take(self, count: int) -> memoryview:
        if count > MAX_BYTES:
            raise DataLimitError(f"expected a length of at most {MAX_BYTES}, got {count}", limit=MAX_BYTES, value=count)
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise DataFormatError(f"expected {count} bytes more, got {len(part)}; truncated download?")
        self.at += count
        return part

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = bytes(self.data[self.at : self.at + 256]).find(b"\n")
        if end < 0:
            raise DataFormatError("expected a name and the end of its line, got neither")
        return _text(bytes(self.take(end + 1))[:-1])

    def frame(self, length: int) -> None:
        at = self.at
        self.take(length)  # it is only announced here
        self.at = at

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int = 1) -> list[Any]:
        first = len(self.stack) - count
        if first < (self.marks[-1] if self.marks else 0):
            raise DataFormatError("expected a value before this opcode, got none")
        return self.cut(first)

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise DataFormatError("expected a mark before this opcode, got none")
        return self.cut(self.marks.pop())

    def cut(self, first: int) -> list[Any]:
        items = self.stack[first:]
        del self.stack[first:]
        return items

    def top(self, kind: type) -> Any:
        self.push(*self.pop())
        if not isinstance(self.stack[-1], kind):
            raise DataFormatError(f"expected a {kind.__name__} before this opcode, got another value")
        return self.stack[-1]

    def container(self, value: Any) -> None:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise DataLimitError(f"expected at most {MAX_CONTAINERS} containers, got more", limit=MAX_CONTAINERS)
        self.push(value)

    def remember(self, index: int) -> None:
        if index >= MAX_MEMO:
            raise DataLimitError(f"expected a memo of at most {MAX_MEMO} entries, got {index}", limit=MAX_MEMO)
        self.push(*self.pop())
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise DataFormatError(f"expected a value in place {index} of the memo, got none")
        self.push(self.memo[index])

    # The values

    def text(self, length: int, *, is_text: bool) -> None:
        data = self.take(length)
        if length > MAX_TEXT:
            self.push(_Long(data, is_text=is_text))
            return
        self.texts += length
        if self.texts > MAX_TEXTS:
            raise DataLimitError(f"expected at most {MAX_TEXTS} bytes of texts, got more", limit=MAX_TEXTS)
        self.push(_utf8(data) if is_text else bytes(data))

    def integer(self, length: int) -> None:
        if length > 8:
            raise DataLimitError(f"expected a number of at most 8 bytes, got {length}", limit=8, value=length)
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def name(self, module: Any, attribute: Any) -> None:
        words = _text(module), _text(attribute)
        if words not in _NAMES:
            raise DataFormatError(f"global {' '.join(printable(word)[:80] for word in words)} is not allowed")
        self.push(_NAMES[words])

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        found: dict[str, Any] = self.top(dict)
        if len(items) % 2:
            raise DataFormatError("expected keys and values in turn, got a key alone")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str | bytes) and (len(key) > MAX_KEY or len(found) == MAX_KEYS):
                raise DataLimitError(f"expected at most {MAX_KEYS} keys of {MAX_KEY} bytes, got more", limit=MAX_KEYS)
            name = _text(key)
            if not name or name in found:
                raise DataFormatError(f"expected keys that are texts, each once, got {_said(key)}")
            found[name] = value

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise DataFormatError("expected a known name and its arguments to reduce, got others")
        self.push(self.made(function, cast("tuple[Any, ...]", arguments)))

    def made(self, function: _Name, arguments: tuple[Any, ...]) -> Any:
        if function is _Name.RECONSTRUCT and arguments[:2] == (_Name.NDARRAY, (0,)) and _texts(arguments[2:]) == ("b",):
            return _Array()
        if function is _Name.DTYPE and arguments[1:] == (0, 1):
            if _texts(arguments[:1]) not in (("u1",), ("|u1",)):
                raise DataFormatError(f"expected an array of type u1, got {_said(arguments[0])}")
            return _Dtype()
        if function is _Name.ENCODE and _texts(arguments[1:]) in (("latin1",), ("latin-1",)):
            return self.encoded(arguments[0])
        if function is _Name.BYTES and not arguments:
            return b""
        raise DataFormatError(f"expected the arguments of {function.value}, got others")

    def encoded(self, text: Any) -> Any:
        """The bytes that Python 3 writes as the text of their characters, for protocols that have no bytes."""
        match text:
            case _Long(is_text=True):
                raw = bytes(text.data)
            case str():
                raw = text.encode("utf-8", "surrogatepass")
            case _:
                raise DataFormatError("expected a text to encode, got another value")
        self.decoded += len(raw)
        if self.decoded > len(self.data):
            raise DataLimitError("expected to encode each text once, got more", limit=len(self.data))
        if len(raw) and np.frombuffer(raw, np.uint8).max() > 0xC3:  # a character above 255, which takes memory to hold
            raise DataFormatError("expected a text of characters up to 255, got others")
        data = _utf8(raw).encode("latin1")
        return _Long(memoryview(data), is_text=False) if len(data) > MAX_TEXT else data

    def build(self) -> None:
        target, state = self.pop(2)
        if not isinstance(state, tuple):
            raise DataFormatError("expected a state to build with, got another value")
        if isinstance(target, _Dtype):
            version, *order = cast("tuple[Any, ...]", (*state, None))  # never empty
            if (version, *_texts(order[:1]), *order[1:]) != (3, "|", None, None, None, -1, -1, 0, None):
                raise DataFormatError("expected a plain type of version 3, got another")
        elif isinstance(target, _Array) and target.value is None:
            target.value = _array_of(cast("tuple[Any, ...]", state))
        else:
            raise DataFormatError("expected an array or its type to build, got another value")
        self.push(target)


def _array_of(state: tuple[Any, ...]) -> Array:
    """The array of the state (1, shape, type, whether in Fortran order, values)."""
    kinds = [int, tuple, _Dtype, int, bytes | _Long]
    fits = len(state) == len(kinds) and all(isinstance(part, kind) for part, kind in zip(state, kinds, strict=True))
    if not fits or state[0] != 1 or state[3] or (isinstance(state[4], _Long) and state[4].is_text):
        raise DataFormatError("expected an array (version 1, shape, u1, C order, bytes), got another state")
    sizes: tuple[Any, ...] = state[1]
    values: bytes | _Long = state[4]
    data = values.data if isinstance(values, _Long) else memoryview(values)
    if not 1 <= len(sizes) <= 4 or not all(type(n) is int and n >= 0 for n in sizes) or product(sizes) != len(data):
        raise DataFormatError(f"expected an array of as many bytes as its shape says, got {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(sizes)


def _utf8(data: memoryview | bytes) -> str:
    try:
        return str(data, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise DataFormatError("expected a text in UTF-8, got other bytes") from None


def _text(value: Any) -> str:
    """A text or ASCII bytes as text; of anything else, the empty text."""
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return value if isinstance(value, str) else ""


def _said(value: Any) -> str:
    """A value in a message; of a container only its kind, for its repr may have no end."""
    return shown(value) if isinstance(value, int | float | str | bytes | None) else f"a {type(value).__name__}"


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _check_depth(found: dict[str, Any]) -> None:
    """Refuse what is nested deep, or holds itself: level by level, each container once a level."""
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        inner: dict[int, Any] = {}
        for container in level:
            items = cast("Iterable[Any]", container.values() if isinstance(container, dict) else container)
            inner |= {id(item): item for item in items if isinstance(item, list | tuple | dict)}  # pyright: ignore[reportUnknownArgumentType]
        if not inner:
            return
        level = list(inner.values())
    raise DataLimitError(f"expected containers at most {MAX_DEPTH} deep, got more", limit=MAX_DEPTH)


def _finished(key: str, value: Any) -> Value:
    if isinstance(value, _Array):
        if value.value is None:
            raise DataFormatError(f"expected the values of the array {printable(key)[:80]!r}, got none")
        return value.value
    if isinstance(value, _Long):
        size = len(value.data)
        raise DataLimitError(f"expected a text of at most {MAX_TEXT} bytes, got {size}", limit=MAX_TEXT, value=size)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if all(isinstance(item, int | float | str | bytes | list | tuple | None) for item in items):
            return items
    elif isinstance(value, int | float | str | bytes | None):
        return value
    raise DataFormatError(f"expected {printable(key)[:80]!r} to be a number, a text, a list or an array, got another")


_OPERATIONS: dict[bytes, Callable[[_Reader], None]] = {
    b"(": lambda r: r.marks.append(len(r.stack)),
    b"}": lambda r: r.container({}),
    b"]": lambda r: r.container([]),
    b")": lambda r: r.push(()),
    b"\x85": lambda r: r.container(tuple(r.pop(1))),
    b"\x86": lambda r: r.container(tuple(r.pop(2))),
    b"\x87": lambda r: r.container(tuple(r.pop(3))),
    b"t": lambda r: r.container(tuple(r.pop_to_mark())),
    b"a": lambda r: r.extend(r.pop()),
    b"e": lambda r: r.extend(r.pop_to_mark()),
    b"s": lambda r: r.set_items(r.pop(2)),
    b"u": lambda r: r.set_items(r.pop_to_mark()),
    b"q": lambda r: r.remember(r.number("<B")),
    b"r": lambda r: r.remember(r.number("<I")),
    b"\x94": lambda r: r.remember(len(r.memo)),
    b"h": lambda r: r.recall(r.number("<B")),
    b"j": lambda r: r.recall(r.number("<I")),
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"J": lambda r: r.push(r.number("<i")),
    b"\x8a": lambda r: r.integer(r.number("<B")),
    b"\x8b": lambda r: r.integer(r.number("<I")),
    b"G": lambda r: r.push(r.number(">d")),
    b"U": lambda r: r.text(r.number("<B"), is_text=False),
    b"T": lambda r: r.text(r.number("<I"), is_text=False),
    b"C": lambda r: r.text(r.number("<B"), is_text=False),
    b"B": lambda r: r.text(r.number("<I"), is_text=False),
    b"\x8e": lambda r: r.text(r.number("<Q"), is_text=False),
    b"\x8c": lambda r: r.text(r.number("<B"), is_text=True),
    b"X": lambda r: r.text(r.number("<I"), is_text=True),
    b"\x8d": lambda r: r.text(r.number("<Q"), is_text=True),
    b"c": lambda r: r.name(r.line(), r.line()),
    b"\x93": lambda r: r.name(*r.pop(2)),
    b"R": lambda r: r.reduce(),
    b"b": lambda r: r.build(),
    b"\x95": lambda r: r.frame(r.number("<Q")),
}
