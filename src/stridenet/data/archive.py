"""A .tar.gz read member by member, in memory: nothing is ever extracted, no name in it becomes a path.

Blocks of 512 bytes (POSIX.1-1988, with the GNU mark too): a header for each member, then its content. What a data set
does not need is refused: links, devices, sparse files, and extended headers that give a member another name or size.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator

from stridenet.errors import DataFormatError, DataLimitError, printable

MAX_MEMBERS = 64
MAX_EXTENDED = 2**16  # bytes of an extended header
MAX_PADDING = 2**20  # zeros behind the last member

_BLOCK = 512
_PIECE = 2**16  # compressed bytes at a time
_REGULAR, _FOLDER, _EXTENDED = (b"0", b"\0"), b"5", (b"x", b"g")
_HARMLESS = {b"atime", b"ctime", b"mtime", b"uid", b"gid", b"uname", b"gname", b"comment"}
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_KINDS = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}


def members(data: bytes, who: str, *, names: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Each file of the archive `data` with its content; `who` names the archive in errors.

    `names` are the members that there may be, as paths in it; `limit` bounds the bytes of each.

    Raises:
        DataFormatError: it is no whole .tar.gz, or holds anything but these files, each once, and their folders.
        DataLimitError: a member is larger than `limit`, or there are too many.
    """
    stream = _Inflated(data, who)
    seen: set[str] = set()
    folders = {name.rpartition("/")[0] for name in names}
    for _ in range(MAX_MEMBERS):
        header = stream.read(_BLOCK)
        if not any(header):
            stream.finish()
            return
        name, kind, size = _parse(header, who)
        if kind in _EXTENDED:
            if size > MAX_EXTENDED:
                raise DataLimitError(f"{who}: expected an extended header of at most {MAX_EXTENDED} bytes, got {size}")
            _check_extended(stream.padded(size), who)
        elif kind == _FOLDER and name.rstrip("/") in {*folders, "."} and size == 0:
            continue
        elif kind not in _REGULAR or name not in names or name in seen:
            what = "the same name twice" if name in seen and kind in _REGULAR else _KINDS.get(kind, "another member")
            raise DataFormatError(
                f"{who}: expected the files {', '.join(sorted(names))}, got {what}: {printable(name)[:80]!r}", path=who
            )
        elif size > limit:
            raise DataLimitError(
                f"{who}: expected at most {limit} bytes for {name}, got {size}", limit=limit, value=size
            )
        else:
            seen.add(name)
            yield name, stream.padded(size)
    raise DataLimitError(f"{who}: expected at most {MAX_MEMBERS} members, got more", limit=MAX_MEMBERS)


def _parse(header: bytes, who: str) -> tuple[str, bytes, int]:
    """The name, the kind and the size of a member."""
    blank = header[:148] + b" " * 8 + header[156:]
    if header[257:262] != b"ustar" or _octal(header[148:156]) != sum(blank):
        raise DataFormatError(
            f"{who}: expected the header of a tar member, got other bytes; is it a .tar.gz?", path=who
        )
    size = _octal(header[124:136])
    if size is None:
        raise DataFormatError(f"{who}: expected the size of a tar member in octal digits, got others", path=who)
    prefix, name = (header[i:j].split(b"\0")[0] for i, j in ((345, 500), (0, 100)))
    if header[257:265] == b"ustar  \0":  # GNU, which keeps times there
        prefix = b""
    path = (prefix + b"/" + name if prefix else name).decode("ascii", "backslashreplace")
    return path.removeprefix("./") or ".", header[156:157], size


def _octal(field: bytes) -> int | None:
    match = _OCTAL.fullmatch(field)
    return int(match[1], 8) if match else None


def _check_extended(records: bytes, who: str) -> None:
    """Refuse an extended header, lines of LENGTH KEY=VALUE, that says more than times and owners."""
    while records:
        length, _, rest = records[:80].partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 6 else 0
        key = rest.partition(b"=")[0]
        if not len(length) < end <= len(records) or key not in _HARMLESS:
            raise DataFormatError(
                f"{who}: expected extended headers of times and owners only, got {printable(key)[:80]!r}", path=who
            )
        records = records[end:]


class _Inflated:
    """The content of the one gzip member that `data` is, a part at a time."""

    def __init__(self, data: bytes, who: str) -> None:
        self.rest, self.who, self.tail = memoryview(data), who, b""
        self.member = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)  # 16: with the header and CRC of gzip

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        content = self._some(count)
        if len(content) < count:
            raise DataFormatError(
                f"{self.who}: gzip: expected {count} bytes more, got {len(content)}; truncated download?", path=self.who
            )
        return content

    def padded(self, size: int) -> bytes:
        """The content of a member of `size` bytes; zeros fill up its last block."""
        content = self.read(size)
        self.read(-size % _BLOCK)
        return content

    def finish(self) -> None:
        """Check that nothing but zeros follows, and the end of the gzip member with its CRC."""
        padding = self._some(MAX_PADDING)
        rest = bytes(self.member.unused_data[:_PIECE]) + bytes(self.rest[:_PIECE])
        if any(padding) or any(rest) or not self.member.eof:
            raise DataFormatError(
                f"{self.who}: gzip: expected zeros and the end of the archive, got other bytes or no end", path=self.who
            )

    def _some(self, count: int) -> bytes:
        content = bytearray()
        try:
            while len(content) < count and not self.member.eof:
                piece = self.tail or bytes(self.rest[:_PIECE])
                if not self.tail:
                    self.rest = self.rest[_PIECE:]
                content += self.member.decompress(piece, count - len(content))
                self.tail = self.member.unconsumed_tail
                if not (piece or self.tail):
                    break
        except zlib.error as error:
            raise DataFormatError(
                f"{self.who}: gzip: expected valid compressed data, got {error}", path=self.who
            ) from None
        return bytes(content)
