"""The IDX reader: what it reads, and the name of everything it refuses."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import signal
import socket
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet.data import idx
from stridenet.data.idx import payload, read_idx
from stridenet.errors import DataFormatError, DataLimitError, StridenetError

Array = np.ndarray[Any, Any]
Encode = Callable[[Array], bytes]
Saved = Callable[[bytes], Path]

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5], np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Bytes as a file."""

    def save(content: bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content)
        return path

    return save


def header(*dims: int, code: int = 0x08) -> bytes:
    return struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims)


def member(
    content: bytes, *, flags: int = 0, extra: bytes = b"", crc: int | None = None, size: int | None = None
) -> bytes:
    """A gzip member, field by field."""
    squeeze = zlib.compressobj(wbits=-15)
    body = squeeze.compress(content) + squeeze.flush()
    crc = zlib.crc32(content) if crc is None else crc
    size = len(content) if size is None else size
    return struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, flags, 0, 0, 255) + extra + body + struct.pack("<II", crc, size)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (2, 1, 3, 5)])
@pytest.mark.promise("I14")
def test_every_type_is_read_in_native_order(
    idx_bytes: Encode, saved: Saved, dtype: str, shape: tuple[int, ...]
) -> None:
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    for content in (idx_bytes(array), gzip.compress(idx_bytes(array))):
        back = read_idx(saved(content))
        assert back.dtype == array.dtype
        assert back.dtype.isnative
        assert np.array_equal(back, array)


@pytest.mark.promise("I15")
@pytest.mark.parametrize("shape", [(2, 20, 40), (3, 1, 9), (1, 1, 1)])
def test_rectangular_images_are_read(idx_bytes: Encode, saved: Saved, shape: tuple[int, ...]) -> None:
    assert read_idx(saved(idx_bytes(np.ones(shape, np.uint8))), expect="images").shape == shape


@pytest.mark.promise("I06")
def test_compression_is_told_by_the_signature_and_not_by_the_name(idx_bytes: Encode, tmp_path: Path) -> None:
    plain, packed = tmp_path / "images.gz", tmp_path / "images"
    plain.write_bytes(idx_bytes(IMAGES))
    packed.write_bytes(gzip.compress(idx_bytes(IMAGES)))
    for path in (plain, packed, str(plain)):
        assert np.array_equal(read_idx(path, expect="images"), IMAGES)


def test_payload_is_the_content(idx_bytes: Encode) -> None:
    content = idx_bytes(IMAGES)
    assert payload("x", content) == payload("x", gzip.compress(content)) == content


@pytest.mark.promise("I01")
@pytest.mark.parametrize("size", range(16))
def test_a_file_shorter_than_its_header(idx_bytes: Encode, saved: Saved, size: int) -> None:
    content = idx_bytes(IMAGES)[:size]
    with pytest.raises(DataFormatError, match=f"needs at least 16 bytes, has {size}"):
        read_idx(saved(content), expect="images")
    with pytest.raises(DataFormatError, match=f"needs at least 16 bytes, has {size}"):
        read_idx(saved(gzip.compress(content)), expect="images")
    content = idx_bytes(LABELS)[: size // 2]
    with pytest.raises(DataFormatError, match=f"needs at least 8 bytes, has {size // 2}"):
        read_idx(saved(content), expect="labels")


@pytest.mark.promise("I02")
def test_images_and_labels_swapped(idx_bytes: Encode, saved: Saved) -> None:
    with pytest.raises(
        DataFormatError, match=r"magic 0x00000803 \(images\), got 0x00000801; did you swap images and labels\?"
    ):
        read_idx(saved(idx_bytes(LABELS)), expect="images")
    with pytest.raises(
        DataFormatError, match=r"magic 0x00000801 \(labels\), got 0x00000803; did you swap images and labels\?"
    ):
        read_idx(saved(idx_bytes(IMAGES)), expect="labels")
    with pytest.raises(DataFormatError, match=r"magic 0x00000803 \(images\), got 0x00000802$"):
        read_idx(saved(idx_bytes(np.ones((2, 2), np.uint8))), expect="images")


@pytest.mark.promise("I03")
@pytest.mark.parametrize(
    "magic",
    [
        "03080000",
        "01080000",
        "00010803",
        "01000803",
        "00000703",
        "00000a03",
        "00000f03",
        "00000800",
        "00000805",
        "000008ff",
    ],
)
def test_a_wrong_magic_number(saved: Saved, magic: str) -> None:
    with pytest.raises(DataFormatError, match=f"at offset 0, big-endian.*got 0x{magic}") as caught:
        read_idx(saved(bytes.fromhex(magic) + bytes(40)))
    assert caught.value.offset == 0
    assert caught.value.path is not None
    assert caught.value.path.endswith("file")


@pytest.mark.promise("I04")
@pytest.mark.parametrize("dims", [(0, 28, 28), (2, 0, 3), (2, 3, 0), (0,)])
def test_an_axis_of_no_length(saved: Saved, dims: tuple[int, ...]) -> None:
    with pytest.raises(DataFormatError, match=r"at least one value, got axes \([0-9, ]+\): 0 values"):
        read_idx(saved(header(*dims)))


@pytest.mark.promise("I04", "F3")
@pytest.mark.parametrize("dims", [(65536, 65536, 1), (2**32 - 1,) * 3, (2**32 - 1,), (2**31,) * 4, (2**30 + 1,)])
def test_more_than_the_limit_is_refused_before_memory_is_taken(saved: Saved, dims: tuple[int, ...]) -> None:
    size = int(np.prod([int(d) for d in dims], dtype=object))
    for content in (header(*dims), gzip.compress(header(*dims) + bytes(1000))):
        with pytest.raises(DataLimitError, match=f"at most {2**30} bytes, got axes .*: {size} bytes") as caught:
            read_idx(saved(content))
        assert (caught.value.limit, caught.value.value) == (2**30, size)


@pytest.mark.promise("I04")
def test_the_limit_counts_bytes_and_not_values(saved: Saved) -> None:
    with pytest.raises(DataLimitError, match=f"of float64: {8 * 2**28} bytes"):
        read_idx(saved(header(2**28, code=0x0E)))
    with pytest.raises(DataFormatError, match=f"expected {2**30 + 8} bytes.*truncated"):
        read_idx(saved(header(2**30)))


@pytest.mark.promise("I05", "F4")
@pytest.mark.parametrize("change", [-24, -12, -4, -1])
def test_a_payload_that_is_too_short(idx_bytes: Encode, saved: Saved, change: int) -> None:
    content = idx_bytes(IMAGES)[:change]
    with pytest.raises(DataFormatError, match=rf"expected 40 bytes .*, got {40 + change}; truncated download\?"):
        read_idx(saved(content))
    with pytest.raises(DataFormatError, match=rf"{40 + change}.*; truncated download\?"):
        read_idx(saved(gzip.compress(content)))


@pytest.mark.promise("I05", "F4")
@pytest.mark.parametrize("change", [1, 4, 12, 1000])
def test_a_payload_that_is_too_long(idx_bytes: Encode, saved: Saved, change: int) -> None:
    content = idx_bytes(IMAGES) + bytes(change)
    with pytest.raises(DataFormatError, match=f"expected 40 bytes .*, got {40 + change}; something follows"):
        read_idx(saved(content))
    with pytest.raises(DataFormatError, match=r"expected 40 bytes .*, got 41 or more; something follows"):
        read_idx(saved(gzip.compress(content)))


@pytest.mark.promise("I07")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: member(c, crc=1), "incorrect data check"),
        (lambda c: member(c, size=1), "incorrect length check"),
        (lambda c: gzip.compress(c)[:-1], "truncated download"),
        (lambda c: gzip.compress(c)[:-8], "truncated download"),
        (lambda c: gzip.compress(c)[:20], "truncated download"),
        (lambda c: gzip.compress(c)[:5], "truncated download"),
        (lambda c: gzip.compress(c)[:2], "truncated download"),
        (lambda c: gzip.compress(c) * 2, "got a second member"),
        (lambda c: gzip.compress(c) + bytes(9) + gzip.compress(c), "got a second member"),
        (lambda c: gzip.compress(c) + b"x", "got other bytes"),
        (lambda c: gzip.compress(c) + bytes(100) + b"x", "got other bytes"),
        (lambda c: member(c, flags=0x20), "unknown header flags"),
        (lambda c: member(c, flags=0x80), "unknown header flags"),
        (lambda c: member(c, flags=2, extra=b"xx"), "header crc mismatch"),
        (lambda c: b"\x1f\x8b\x07" + member(c)[3:], "unknown compression method"),
    ],
)
def test_damaged_gzip(idx_bytes: Encode, saved: Saved, change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(DataFormatError, match=f"gzip: .*{reason}"):
        read_idx(saved(change(idx_bytes(IMAGES))))


@pytest.mark.promise("I07")
@pytest.mark.parametrize(
    "pack",
    [
        lambda c: gzip.compress(c) + bytes(1),
        lambda c: gzip.compress(c) + bytes(5000),
        lambda c: member(c, flags=4, extra=struct.pack("<H", 65535) + bytes(65535)),
        lambda c: member(c, flags=8, extra=b"n" * 65536 + b"\0"),
        lambda c: member(c, flags=28, extra=struct.pack("<H", 3) + b"abc" + b"name\0" + b"comment\0"),
    ],
)
def test_unusual_but_valid_gzip(idx_bytes: Encode, saved: Saved, pack: Callable[[bytes], bytes]) -> None:
    assert np.array_equal(read_idx(saved(pack(idx_bytes(IMAGES)))), IMAGES)


@pytest.mark.promise("I08", "F3")
def test_a_bomb_is_inflated_to_one_byte_more_than_declared(monkeypatch: pytest.MonkeyPatch, saved: Saved) -> None:
    inflated: list[int] = []
    inflate = idx._inflate  # pyright: ignore[reportPrivateUsage]

    def counting(data: bytes, limit: int) -> tuple[bytes, bytes]:
        content, rest = inflate(data, limit)
        inflated.append(len(content))
        return content, rest

    monkeypatch.setattr(idx, "_inflate", counting)
    path = saved(gzip.compress(header(10, 28, 28) + bytes(2**26)))
    with pytest.raises(DataFormatError, match=f"expected {16 + 7840} bytes .*, got {16 + 7841} or more"):
        read_idx(path)
    assert inflated == [512, 16 + 7841]


@pytest.mark.promise("I11")
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\xef\xbb\xbf\r\n  <html>", "HTML"),
        (b"<?xml version='1.0'?><Error>", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9912422\n", "Git LFS"),
        (b"PK\x03\x04" + bytes(30), "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(30), "7z"),
        (b"\xfd7zXZ\x00" + bytes(30), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "zstd"),
        (b"BZh91AY", "bzip2"),
        (b"train-images".ljust(257, b"\0") + b"ustar\x0000" + bytes(248), "tar"),
        (gzip.compress(b"x"), "gzip data inside gzip"),
    ],
)
def test_another_type_of_file_is_named(saved: Saved, content: bytes, kind: str) -> None:
    if not content.startswith(b"\x1f\x8b"):
        with pytest.raises(DataFormatError, match=f"expected an IDX file, got .*{kind}"):
            read_idx(saved(content))
    with pytest.raises(DataFormatError, match=f"expected an IDX file, got .*{kind}"):
        read_idx(saved(gzip.compress(content)))


@pytest.fixture
def alarm() -> Iterator[None]:
    """No test may hang: 60 seconds."""

    def ring(*_: object) -> None:
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.promise("I12")
@pytest.mark.usefixtures("alarm")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_idx(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for missing in ("absent", "broken"):
        with pytest.raises(FileNotFoundError):
            read_idx(tmp_path / missing)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s"))
        for special in (tmp_path / "fifo", tmp_path / "s", "/dev/zero", "/dev/full"):
            with pytest.raises(DataFormatError, match="not a regular file"):
                read_idx(special)


@pytest.mark.promise("I12")
def test_an_unreadable_file_stays_a_permission_error(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(b"")
    if os.geteuid() == 0:  # root reads everything
        real = os.open
        refuse = PermissionError(13, "Permission denied", str(path))
        monkeypatch.setattr(
            os, "open", lambda p, *a, **k: (_ for _ in ()).throw(refuse) if Path(p) == path else real(p, *a, **k)
        )
    path.chmod(0)
    with pytest.raises(PermissionError):
        read_idx(path)


@pytest.mark.promise("I12")
@pytest.mark.skipif(sys.platform == "darwin", reason="APFS takes no such names")
def test_control_characters_of_a_name_are_escaped(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\n\x1b[31m\xff"))
    path.write_bytes(b"<html>")
    with pytest.raises(DataFormatError, match=r"a\\n\\x1b\[31m\\udcff: expected") as caught:
        read_idx(path)
    assert str(caught.value).isprintable()


@pytest.mark.promise("I13")
@pytest.mark.parametrize("change", [-5, 5])
def test_a_file_that_changes_while_it_is_read(
    idx_bytes: Encode, saved: Saved, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    path = saved(idx_bytes(IMAGES))
    real = os.fstat

    def late(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        path.write_bytes(idx_bytes(IMAGES)[:change] if change < 0 else idx_bytes(IMAGES) + bytes(change))
        return status

    monkeypatch.setattr(os, "fstat", late)
    with pytest.raises(DataFormatError, match="size changed"):
        read_idx(path)


@pytest.mark.promise("I13")
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_is_replaced_while_it_is_read_is_one_of_the_two(
    idx_bytes: Encode, saved: Saved, monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    path, real = saved(idx_bytes(IMAGES)), os.open
    other = path.with_name("other")
    other.write_bytes(idx_bytes(LABELS))

    def late(*arguments: Any) -> int:
        descriptor = real(*arguments)
        if not opened:
            os.close(descriptor)
        other.replace(path)
        return descriptor if opened else real(*arguments)

    monkeypatch.setattr(os, "open", late)
    assert np.array_equal(read_idx(path), IMAGES if opened else LABELS)


def test_a_file_beyond_the_limit_is_not_read(saved: Saved) -> None:
    path = saved(b"")
    os.truncate(path, 2**30 + 17)  # sparse
    with pytest.raises(DataLimitError):
        read_idx(path)


SPECIAL = [0, 1, 2, 3, 4, 7, 8, 9, 13, 14, 27, 28, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1]


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A valid file with one to three edits, then perhaps compressed, then perhaps edited again."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(0, 3)):
        edit(rng, content, seeds)
    if rng.random() < 0.5:
        return bytes(content)
    wrong = (
        {"crc": rng.getrandbits(32)}
        if rng.random() < 0.1
        else {"size": rng.choice(SPECIAL)}
        if rng.random() < 0.1
        else {}
    )
    packed = bytearray(member(bytes(content), **wrong))  # CRC and length as the mutated content has them
    for _ in range(rng.choice([0, 0, 1, 2])):
        edit(rng, packed, seeds)
    return bytes(packed)


def edit(rng: random.Random, content: bytearray, seeds: list[bytes]) -> None:
    at = rng.randrange(len(content) + 1)
    match rng.randrange(8):
        case 0:  # a length of the header
            at = 4 * rng.randint(0, 4)
            content[at : at + 4] = struct.pack(">I", rng.choice(SPECIAL))
        case 1:  # the type, the number of axes
            content[2:4] = bytes(
                [rng.choice([0, 7, 8, 9, 10, 11, 12, 13, 14, 255]), rng.choice([0, 1, 2, 3, 4, 5, 255])]
            )
        case 2:
            del content[at:]
        case 3:
            content += rng.randbytes(rng.choice([1, 4, 12, 300])) if rng.random() < 0.7 else bytes(64)
        case 4:
            if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
        case 5:
            content[at:at] = rng.choice(seeds)[: rng.randrange(40)]
        case 6:
            content[:] = content + content[: rng.choice([len(content), 16])]
        case _:
            content[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))


@pytest.mark.promise("F2")
@pytest.mark.usefixtures("alarm")
def test_mutated_files_are_read_or_refused(idx_bytes: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [IMAGES, LABELS, IMAGES.astype(np.float32), LABELS.astype(np.int16), np.ones((1, 1, 2, 2), np.float64)]
    seeds = [idx_bytes(array) for array in arrays]
    outcomes: Counter[str] = Counter()
    for seed in range(10_000):
        rng = random.Random(seed)
        content = mutated(rng, seeds)
        monkeypatch.setattr(idx, "read_regular", lambda path, *, limit, content=content: content)
        try:
            array = read_idx("x", expect=rng.choice([None, "images", "labels"]))
        except (StridenetError, OSError) as error:
            outcomes[type(error).__name__ if str(error).isprintable() else "unprintable"] += 1
        else:  # what is read is what the file says, to the byte
            assert idx_bytes(array) == payload("x", content)
            outcomes["read"] += 1
    assert outcomes["read"] > 500  # the mutations reach deep layers
    assert outcomes["DataFormatError"] > 5000
    assert outcomes["DataLimitError"] > 100
    assert set(outcomes) == {"read", "DataFormatError", "DataLimitError"}


@pytest.mark.promise("F4")
def test_no_cut_and_no_flip_of_a_packed_file_gives_other_content(idx_bytes: Encode) -> None:
    packed = gzip.compress(idx_bytes(IMAGES), mtime=0)
    for size in range(len(packed)):
        with pytest.raises(DataFormatError):
            payload("x", packed[:size])
    for bit in range(len(packed) * 8):  # no flip gives other content: some lie in the time stamp or in padding
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(DataFormatError, DataLimitError):
            assert payload("x", bytes(flipped)) == idx_bytes(IMAGES)
