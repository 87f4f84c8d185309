"""Named arrays as bytes: safetensors, with a digest of all that the file says.

The header is checked here, strictly, before the library sees it: the library takes duplicate keys and shapes of
10^18 and fails in foreign ways. Nothing of a file is believed before its limits are checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeGuard, cast

import numpy as np

from stridenet.errors import ConfigError, DataIntegrityError, WeightsFormatError, printable, shown
from stridenet.layout import Array
from stridenet.shapes import Shape, product
from stridenet.strictjson import from_json, to_json

MAX_HEADER = 2**24  # bytes
MAX_METADATA = 2**20  # bytes
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 8
MAX_NAME = 256  # characters
MAX_TENSOR = 2**40  # bytes, counting an axis of length 0 as one of 1
_MAX_COMMAS = MAX_METADATA + 12 * MAX_TENSORS  # one more value in a list needs one more; metadata may be full of them

_DTYPES = {
    code: np.dtype(kind)
    for code, kind in {
        "BOOL": "?", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I8": "i1", "I16": "<i2", "I32": "<i4",
        "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    }.items()
}  # fmt: skip
_CODES = {dtype.name: code for code, dtype in _DTYPES.items()}
_RECORD = re.compile(r'\{"meta":(?P<meta>\{.*\}),"sha256":"(?P<digest>[0-9a-f]{64})"\}', re.DOTALL)


class _Entry(NamedTuple):
    """A tensor in the file: its type and shape, and its bytes data[start:stop]."""

    code: str
    shape: Shape
    start: int
    stop: int


def pack_tensors(tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> bytes:
    """`tensors` and `meta`, a dict that JSON can hold, as the bytes of one safetensors file.

    Arrays may have any memory order and endianness. Equal content gives equal bytes.

    Raises:
        ConfigError: a type of array or a value of `meta` that the file cannot hold.
        WeightsFormatError: a name or a shape beyond the limits of `unpack_tensors`.

    >>> tensors, meta = unpack_tensors(pack_tensors({"w": np.arange(3)}, {"version": 1}), "example")
    >>> tensors["w"].tolist(), meta
    ([0, 1, 2], {'version': 1})
    """
    from safetensors.numpy import save

    who = "pack_tensors"
    arrays: dict[str, Array] = {}
    for name, array in tensors.items():
        _check_name(name, who)
        if array.dtype.name not in _CODES:
            raise ConfigError(f"{who}: expected {name!r} to be one of {', '.join(_CODES)}, got {array.dtype}")
        # The library writes wrong bytes for what is not contiguous; ascontiguousarray would make 0-d arrays 1-d.
        arrays[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    text = to_json(dict(meta))
    digest = _digest(text, ((name, _CODES[a.dtype.name], a.shape, a.data) for name, a in arrays.items()))
    # One key: the library orders several at random.
    data = save(arrays, {"stridenet": f'{{"meta":{text},"sha256":"{digest}"}}'})
    _verify(data, who)  # it reads back, and the library wrote what the arrays hold
    return data


def unpack_tensors(data: bytes, who: str, *, allow_nonfinite: bool = False) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the meta of the bytes that `pack_tensors` made; the arrays own their memory.

    Raises:
        WeightsFormatError: not such bytes, or NaN or infinity among the numbers; the message begins with `who`.
        DataIntegrityError: the content is not what was packed.
    """
    entries, meta = _verify(data, who)
    return _arrays(data, entries, who, allow_nonfinite), meta


def parse_safetensors(
    data: bytes, who: str, *, allow_nonfinite: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors and the metadata of any safetensors file, given as bytes; no digest protects them.

    Raises:
        WeightsFormatError: the bytes are not a safetensors file within the limits.
    """
    entries, metadata = _read_header(data, who)
    return _arrays(data, entries, who, allow_nonfinite), metadata


def _verify(data: bytes, who: str) -> tuple[dict[str, _Entry], dict[str, Any]]:
    """Where the tensors stand, and the meta, of bytes whose digest is right."""
    entries, metadata = _read_header(data, who)
    record = _RECORD.fullmatch(metadata.get("stridenet", ""))
    if record is None:
        _fail(who, 'a file of stridenet, with "meta" and "sha256" in its metadata', "none")
    view = memoryview(data)
    parts = ((name, e.code, e.shape, view[e.start : e.stop]) for name, e in entries.items())
    if _digest(record["meta"], parts) != record["digest"]:
        raise DataIntegrityError(f"{who}: expected content with digest {record['digest']}, got another; it is damaged")
    return entries, from_json(record["meta"], who, WeightsFormatError)


def _digest(meta: str, tensors: Iterable[tuple[str, str, Shape, memoryview]]) -> str:
    """SHA-256 of the JSON of the meta and then, by name, of each tensor's name, type, shape (as JSON) and bytes."""
    digest = hashlib.sha256(meta.encode())
    for name, code, shape, content in sorted(tensors, key=lambda part: part[0]):
        digest.update(to_json([name, code, shape]).encode())
        digest.update(content)
    return digest.hexdigest()


def _read_header(data: bytes, who: str) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Check everything but the numbers: 8 bytes of length, a JSON header, tensors without gap or overlap."""
    if len(data) < 8:
        _fail(who, "at least 8 bytes of safetensors", f"{len(data)}; the file is cut off")
    length = int.from_bytes(data[:8], "little")
    if length > max(len(data) - 8, MAX_HEADER):  # a text or a picture: its first bytes are no length
        _fail(who, "a model file (safetensors)", "another kind of file")
    if length > len(data) - 8:
        _fail(who, f"a safetensors header of {length} bytes", f"{len(data) - 8}; the file is cut off or damaged")
    if not 2 <= length <= MAX_HEADER:
        _fail(who, f"a safetensors header of 2 to {MAX_HEADER} bytes", length)
    header = data[8 : 8 + length]
    if not header.startswith(b"{"):
        _fail(who, 'a safetensors header that begins with "{"', repr(header[:8]))
    if header.count(b",") > _MAX_COMMAS:  # as objects of Python they would take 30 times the memory of the file
        _fail(who, f"a safetensors header of at most {MAX_TENSORS} tensors", "more entries")
    fields: dict[str, Any] = from_json(header, who, WeightsFormatError, limit=MAX_HEADER)
    metadata = _check_metadata(fields.pop("__metadata__", {}), who)
    if len(fields) > MAX_TENSORS:
        _fail(who, f"at most {MAX_TENSORS} tensors", len(fields))
    entries = {name: _entry(name, field, 8 + length, who) for name, field in fields.items()}
    position = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.start != position:
            _fail(who, f"{name!r} at byte {position}, without gap or overlap", entry.start)
        position = entry.stop
    if position != len(data):
        _fail(who, f"{position} bytes", f"{len(data)}: cut, or something was appended")
    return entries, metadata


def _check_metadata(metadata: Any, who: str) -> dict[str, str]:
    if not _is_object(metadata) or not all(isinstance(text, str) for text in metadata.values()):
        _fail(who, "__metadata__ with texts", shown(metadata))
    parts: list[str] = [*metadata.keys(), *metadata.values()]
    if sum(len(part.encode()) for part in parts) > MAX_METADATA:
        _fail(who, f"__metadata__ of at most {MAX_METADATA} bytes", "more")
    if any(character < " " for part in parts for character in part):
        _fail(who, "__metadata__ without control characters", "some")
    return metadata


def _check_name(name: str, who: str) -> None:
    if not 1 <= len(name) <= MAX_NAME or name != printable(name):
        _fail(who, f"names of 1 to {MAX_NAME} printable characters", repr(name[:80]))


def _entry(name: str, field: Any, origin: int, who: str) -> _Entry:
    """The checked header entry of one tensor; `origin` is where the payload begins."""
    _check_name(name, who)
    if not _is_object(field) or field.keys() != {"dtype", "shape", "data_offsets"}:
        _fail(who, f"dtype, shape and data_offsets of {name!r}", shown(field))
    code, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        _fail(who, f"{name!r} of type {', '.join(_DTYPES)}", shown(code))
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        _fail(who, f"{name!r} with a shape of at most {MAX_DIMENSIONS} integers", shown(shape))
    if not _is_sizes(offsets) or len(offsets) != 2:
        _fail(who, f"{name!r} with data_offsets of two integers", shown(offsets))
    itemsize = _DTYPES[code].itemsize
    if product(tuple(max(length, 1) for length in shape)) * itemsize > MAX_TENSOR:
        _fail(who, f"{name!r} of at most {MAX_TENSOR} bytes", f"the shape {shape}")
    begin, end = offsets
    if end - begin != product(tuple(shape)) * itemsize:
        _fail(who, f"{name!r} of {product(tuple(shape)) * itemsize} bytes by its shape", f"offsets {offsets}")
    return _Entry(code, tuple(shape), origin + begin, origin + end)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_sizes(value: Any) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in cast("list[Any]", value))


def _arrays(data: bytes, entries: Mapping[str, _Entry], who: str, allow_nonfinite: bool) -> dict[str, Array]:
    """The arrays of bytes whose header is checked; NaN, infinity and booleans other than 0 and 1 are refused."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        loaded = load(data)
    except SafetensorError as problem:
        _fail(who, "a safetensors file", f"what the library refuses: {problem}")
    tensors: dict[str, Array] = {}
    for name in sorted(entries):
        array = tensors[name] = np.array(loaded.pop(name))  # some versions give read-only views
        if array.dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
            _fail(who, f"{name!r} with booleans of 0 and 1", "another byte")
        if array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
            _fail(who, f"{name!r} with finite numbers", "NaN or infinity; allow_nonfinite=True loads it")
    return tensors


def _fail(who: str, expected: str, got: object) -> NoReturn:
    raise WeightsFormatError(f"{who}: expected {expected}, got {got}")
