"""The IDX format of MNIST, EMNIST, Fashion-MNIST and their kin, plain or gzip-compressed.

Everything in it is big-endian: two zero bytes, one byte for the type, one for the number of axes, the length of each
axis (uint32), then the values, row-major. http://yann.lecun.com/exdb/mnist describes it.

The reader is strict: a file is read whole or refused. Lengths must fit to the byte, a header is checked before memory
is taken for what it promises, and of compressed data no more than one byte past that is ever inflated.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Literal, NamedTuple

import numpy as np

from stridenet.errors import DataFormatError, DataLimitError, printable
from stridenet.files import read_regular
from stridenet.layout import Array
from stridenet.shapes import Shape, product

MAX_BYTES = 2**30  # of a file, and of what it holds; EMNIST, the largest of the kin, has 0.55 GB
Expect = Literal["images", "labels"]

_AXES = {"images": 3, "labels": 1}
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE = 2**18  # bytes that are inflated at a time
_HEAD = 512  # bytes that tell what a file is; the mark of tar is at 257
_GZIP = b"\x1f\x8b"
_SIGNATURES = [
    (_GZIP, "gzip data inside gzip data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
    (b"version https://git-lfs", 'a Git LFS pointer; run "git lfs pull"'),
]


class _Header(NamedTuple):
    dtype: np.dtype[np.generic]
    dims: Shape
    start: int  # of the values, in bytes
    length: int  # of the whole content, in bytes


def read_idx(path: str | os.PathLike[str], *, expect: Expect | None = None) -> Array:
    """The array of an IDX file, in native byte order; it may be read-only.

    `expect` says what it must hold: "images" (N, H, W) or "labels" (N,). Whether it is compressed tells its first
    bytes, not its name.

    Raises:
        DataFormatError: not an IDX file, or not one whole gzip member, or not of the length its header promises.
        DataLimitError: it promises more than a gibibyte.
        OSError: it is missing or not readable.
    """
    content, header = _content(printable(path), read_regular(path, limit=MAX_BYTES), expect)
    values = np.frombuffer(content, header.dtype, offset=header.start).reshape(header.dims)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def payload(who: str, data: bytes) -> bytes | memoryview:
    """The IDX content of a file's bytes: inflated if it is compressed, and checked; `who` names it in errors.

    Raises:
        DataFormatError, DataLimitError: as `read_idx`.
    """
    return _content(who, data)[0]


def _content(who: str, data: bytes, expect: Expect | None = None) -> tuple[bytes | memoryview, _Header]:
    compressed = data.startswith(_GZIP)
    try:
        head = bytes(_inflate(data, _HEAD)[0]) if compressed else data[:_HEAD]
        header = _parse(head, expect)
        content = _member(data, header.length) if compressed else data
        if len(content) != header.length:
            inflated = " or more" if compressed and len(content) > header.length else ""
            hint = "truncated download?" if len(content) < header.length else "something follows the last value"
            raise DataFormatError(
                f"expected {header.length} bytes for axes {header.dims} of {header.dtype.name}, got"
                f" {len(content)}{inflated}; {hint}"
            )
    except DataFormatError as error:
        raise DataFormatError(f"{who}: {error}", path=who, offset=error.offset) from None
    except DataLimitError as error:
        raise DataLimitError(f"{who}: {error}", limit=error.limit, value=error.value) from None
    return content, header


def _parse(head: bytes, expect: Expect | None) -> _Header:
    kind = _recognised(head)
    if kind:
        raise DataFormatError(f"expected an IDX file, got {kind}", offset=0)
    if len(head) < 4:
        least = 16 if expect == "images" else 8
        raise DataFormatError(f"expected an IDX file, which needs at least {least} bytes, has {len(head)}", offset=0)
    zero, code, axes = struct.unpack(">HBB", head[:4])
    magic = f"0x{head[:4].hex()}"
    if zero or code not in _DTYPES or not 1 <= axes <= 4:
        raise DataFormatError(
            "expected two zero bytes, a type and 1 to 4 axes at offset 0, big-endian as in 0x00000803 (images) or"
            f" 0x00000801 (labels), got {magic}; is the file damaged, or written little-endian?",
            offset=0,
        )
    if expect and axes != _AXES[expect]:
        hint = "; did you swap images and labels?" if axes in _AXES.values() else ""
        raise DataFormatError(f"expected magic 0x0000080{_AXES[expect]} ({expect}), got {magic}{hint}", offset=0)
    start = 4 + 4 * axes
    if len(head) < start:
        raise DataFormatError(f"the header of {axes} axes needs at least {start} bytes, has {len(head)}", offset=4)
    dims: Shape = struct.unpack(f">{axes}I", head[4:start])
    dtype = np.dtype(_DTYPES[code])
    return _Header(dtype, dims, start, start + _size(dims, dtype))


def _size(dims: Shape, dtype: np.dtype[np.generic]) -> int:
    if 0 in dims:
        raise DataFormatError(f"expected at least one value, got axes {dims}: 0 values", offset=4)
    size = product(dims) * dtype.itemsize
    if size > MAX_BYTES:
        raise DataLimitError(
            f"expected at most {MAX_BYTES} bytes, got axes {dims} of {dtype.name}: {size} bytes",
            limit=MAX_BYTES,
            value=size,
        )
    return size


def _recognised(head: bytes) -> str | None:
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "an HTML or XML page; the download was answered with a web page"
    return None


def _member(data: bytes, length: int) -> memoryview:
    """The content of the one gzip member that `data` is, or its first `length` + 1 bytes if it has more."""
    content, rest = _inflate(data, length + 1)
    rest = rest.lstrip(b"\0")  # zeros pad a file to whole blocks
    if rest:
        what = "a second member" if rest.startswith(_GZIP) else "other bytes"
        raise DataFormatError(f"gzip: expected one member and nothing after it, got {what}")
    return content


def _inflate(data: bytes, limit: int) -> tuple[memoryview, bytes]:
    """The content of a gzip member, up to `limit` bytes of it, and what follows a member that was read to its end.

    It is read in pieces, since zlib has twice in memory what it gives at once; memory not yet written takes none.
    """
    content, size = np.empty(limit, np.uint8).data, 0
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)  # 16: with gzip's header, CRC and length, all checked
    for end in range(_PIECE, len(data) + _PIECE, _PIECE):
        try:
            piece = member.decompress(data[end - _PIECE : end], limit - size)
        except zlib.error as error:
            raise DataFormatError(f"gzip: expected valid compressed data, got {error}") from None
        content[size : size + len(piece)] = piece
        size += len(piece)
        if member.eof or size == limit:
            return content[:size], member.unused_data + data[end:] if member.eof else b""
    raise DataFormatError(
        f"gzip: expected the end of the member, got none after {size} bytes of content; truncated download?"
    )
