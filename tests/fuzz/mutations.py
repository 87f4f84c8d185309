"""Changes to files that know what a file is made of, and seals that make a changed file look whole again.

A change alone rarely gets past the checksum of a format. So most mutants are sealed anew: CRC, digest, lengths and
header fit again, and the layers behind them see what was changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

POWERS = (4, 7, 8, 12, 15, 16, 24, 31, 32, 53, 62, 63, 64)
NUMBERS = [0, 1, -1, 2, 3, 5, 100, *(2**k for k in POWERS), *(2**k - 1 for k in POWERS)]
ODD: list[Any] = [
    *NUMBERS, None, True, False, 0.5, -0.0, 1e308, -1.5, "", "a", "F32", "same", "../../etc/passwd", "os.system",
    "__class__", "\x00", "\x1b[2J", "\u202e", "数字", "a" * 1000, [], [[]], [0], [1, 2, 3], [1] * 100, {}, {"a": 1},
    {"kind": "os.system"}, {"kind": "Sequential", "layers": []}, {"name": "pad", "padding": 2**50},
    {"__class__": {"__reduce__": ["os.system", "true"]}},
]  # fmt: skip

Mutate = Callable[[random.Random, bytes], bytes]


# Changes


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to three edits anywhere: bits, numbers, sections cut, doubled, moved, spliced or made up."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + rng.choice((1, 8, 64, len(data))))
        match rng.randrange(9):
            case 0:
                data = flipped(rng, data)
            case 1:
                data = with_number(rng, data, at)
            case 2:
                data = data[:at]
            case 3:
                data = data + rng.choice((bytes(rng.randrange(40)), rng.randbytes(rng.randrange(40)), data[at:to]))
            case 4:
                data = data[:at] + data[to:]
            case 5:
                data = data[:to] + data[at:]  # the section twice
            case 6:
                data = data[to:] + data[at:to] + data[:at]
            case 7:
                data = data[:at] + rng.randbytes(to - at) + data[to:]
            case _:
                data = data[:at] + data[at:to][::-1] + data[to:]
    return data


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def with_number(rng: random.Random, data: bytes, at: int) -> bytes:
    """A number of 1 to 8 bytes, in either byte order, written over what stands at `at`."""
    size = rng.choice((1, 2, 4, 8))
    number = (rng.choice(NUMBERS) % 256**size).to_bytes(size, rng.choice(("big", "little")))
    return data[:at] + number + data[at + size :]


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """A copy of a tree of dicts and lists with one to three changes: entries gone, renamed, doubled, moved, odd."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(walk(tree))
        if not places:
            break
        parent, key = rng.choice(places)
        other, place = rng.choice(places)
        odd = json.loads(json.dumps(rng.choice(ODD)))
        match rng.randrange(8):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[rng.choice((f"{key}x", key[:-1], key.upper(), "", "__class__"))] = parent.pop(key)
            case 1 | 2 if isinstance(parent, list):
                parent.insert(key, json.loads(json.dumps(parent[key])))
            case 2:
                parent[rng.choice(("kind", "name", "init", "rng", "extra", "layers", "input_shape"))] = odd
            case 3:
                parent[key] = json.loads(json.dumps(other[place]))
            case 4 if isinstance(parent[key], int | float):
                parent[key] = rng.choice((-parent[key], parent[key] + 1, float(parent[key]), str(parent[key])))
            case 5 if isinstance(parent, list):
                rng.shuffle(parent)
            case _:
                parent[key] = odd
    return tree


def walk(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (dict or list, key) of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from walk(value)


# IDX: two zero bytes, type, axes, lengths, values; gzip around it


def idx_bytes(dims: tuple[int, ...], code: int, payload: bytes) -> bytes:
    return struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims) + payload


def mutate_idx(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, data)
    axes = data[3]
    dims = [*struct.unpack_from(f">{axes}I", data, 4)]
    code, payload = data[2], data[4 + 4 * axes :]
    match rng.randrange(4):
        case 0:
            dims[rng.randrange(axes)] = rng.choice(NUMBERS) % 2**32
        case 1:
            dims.insert(rng.randrange(axes + 1), rng.choice((0, 1, 2, 2**32 - 1)))
        case 2:
            code = rng.choice((0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255))
        case _:
            dims = dims[1:] if axes > 1 else [*dims, 1, 1]
    size = rng.choice((1, 1, 2, 4, 8))
    for length in dims:
        size *= length
    if size < 2000 and rng.random() < 0.7:  # the payload that these axes ask for
        payload = (payload * 2000)[:size]
    return idx_bytes(tuple(dims), code, payload)


def is_idx(data: bytes) -> bool:
    """Whether the header is one, and the file as long as it says for values of one byte."""
    if len(data) < 4 or data[:2] != b"\0\0" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        return False
    size = {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}.get(data[2], 0)
    for length in struct.unpack_from(f">{data[3]}I", data, 4):
        size *= length
    return len(data) == 4 + 4 * data[3] + size


def mutate_gzip(rng: random.Random, data: bytes) -> bytes:
    """The content changed and compressed again, or the compressed bytes changed, or a field of the member."""
    content = gzip.decompress(data)
    match rng.randrange(5):
        case 0:
            return mutate_bytes(rng, data)
        case 1:  # CRC and length of something else
            return data[:-8] + struct.pack("<II", rng.choice((zlib.crc32(content), 0)), rng.choice(NUMBERS) % 2**32)
        case 2:  # flags, and the fields that they announce
            return data[:3] + bytes([rng.choice((1, 2, 4, 8, 16, 31, 32, 128))]) + data[4:10] + rng.randbytes(9)
        case _:
            packed = gzip.compress(mutate_idx(rng, content), rng.choice((0, 1, 9)))
            return packed + rng.choice((b"", b"", b"", bytes(9), packed, b"x"))


def is_gzip(data: bytes) -> bool:
    try:
        return data.startswith(b"\x1f\x8b") and bool(gzip.decompress(data))
    except (OSError, EOFError, zlib.error):
        return False


# tar: blocks of 512 bytes, headers with a sum

FIELDS = ((0, 100), (124, 136), (156, 157), (257, 265), (345, 500))
WORDS_OF_TAR = (
    b"", b"../../pwned", b"/etc/passwd", b"cifar-10-batches-py/data_batch_1", b"cifar-10-batches-py", b"0", b"1", b"2",
    b"5", b"x", b"g", b"L", b"S", b"77777777777", b"00000000001", b"-1", b"\x80" + bytes(10) + b"\xff", b"\xff" * 12,
    b"ustar\x0000", b"ustar  \0", b" 17 \0", b"\x1b[31m",
)  # fmt: skip


def mutate_tar(rng: random.Random, data: bytes) -> bytes:
    """The compressed bytes changed, or a field of a header, with a sum that fits, or a block gone, doubled or moved."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    content = bytearray(gzip.decompress(data))
    headers = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    match rng.randrange(4):
        case 0:
            content = bytearray(mutate_bytes(rng, bytes(content)))
        case 1:
            other = rng.choice(headers)
            block = content[other : other + 512]
            content[at : at + rng.choice((0, 512, 4096))] = block * rng.choice((0, 1, 2, 70))
        case _:
            begin, end = rng.choice(FIELDS)
            content[at + begin : at + end] = rng.choice(WORDS_OF_TAR)[: end - begin].ljust(end - begin, b"\0")
            content[at + 148 : at + 156] = b" " * 8
            content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return gzip.compress(bytes(content), 1)


# safetensors, with the digest of stridenet


def opened(data: bytes) -> tuple[dict[str, Any], bytes, Any]:
    """Entries, payload and meta of a valid file."""
    length = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8 : 8 + length])
    record = fields.pop("__metadata__")["stridenet"]
    return fields, data[8 + length :], json.loads(record)["meta"]


def sealed(fields: dict[str, Any], payload: bytes, meta: Any) -> bytes:
    """A file whose digest is right as far as its entries have a meaning; a header of 8-byte steps, as usual."""
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "replace"))
    for name in sorted(fields):
        entry = fields[name]
        try:
            begin, end = entry["data_offsets"]
            head = [name, entry["dtype"], entry["shape"]]
            digest.update(json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode() + payload[begin:end])
        except (TypeError, ValueError, KeyError):
            pass
    record = f'{{"meta":{text},"sha256":"{digest.hexdigest()}"}}'
    header = json.dumps({"__metadata__": {"stridenet": record}, **fields}, ensure_ascii=False).encode(
        "utf-8", "replace"
    )
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + payload


def mutate_tensors(rng: random.Random, data: bytes) -> bytes:
    """Bytes, entries, payload or meta changed; in all but the first the digest fits again."""
    fields, payload, meta = opened(data)
    match rng.randrange(6):
        case 0:
            return mutate_bytes(rng, data)
        case 1:
            return sealed(mutate_tree(rng, fields), payload, meta)
        case 2:
            return sealed(*recast(rng, fields, payload), meta)
        case 3:
            at = rng.randrange(len(payload))
            return sealed(fields, with_number(rng, payload, at)[: len(payload)], meta)
        case _:
            return sealed(fields, payload, mutate_tree(rng, meta))


def recast(rng: random.Random, fields: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """One tensor with another name, shape or type, the payload fitted, so that the container is sound."""
    name = rng.choice(sorted(fields))
    parts = {key: payload[slice(*entry["data_offsets"])] for key, entry in fields.items()}
    entry = fields.pop(name)
    content, shape = parts.pop(name), entry["shape"]
    match rng.randrange(5):
        case 0:
            return repacked(fields, parts)
        case 1:
            name = rng.choice((name.upper(), f"{name}x", "extra", "network.0.weight", "a" * 256))
        case 2:
            shape = rng.choice((shape[::-1], [*shape, 1], [len(content) // 4], [0, *shape], shape[1:]))
        case 3:
            entry["dtype"] = rng.choice(("F64", "F16", "I64", "I32", "U8", "BOOL"))
        case _:
            content = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\xff", bytes(4), b"\xff" * 4)) * (len(content) // 4)
    size = {"F64": 8, "I64": 8, "F16": 2, "U8": 1, "BOOL": 1}.get(entry["dtype"], 4)
    for length in shape:
        size *= length
    entry = {"dtype": entry["dtype"], "shape": shape}
    return repacked({**fields, name: entry}, {**parts, name: (content * 9 + bytes(size))[:size]})


def repacked(fields: dict[str, Any], parts: dict[str, bytes]) -> tuple[dict[str, Any], bytes]:
    """The entries one after another, with offsets that fit."""
    position, packed = 0, {}
    for name, content in parts.items():
        packed[name] = {**fields[name], "data_offsets": [position, position + len(content)]}
        position += len(content)
    return packed, b"".join(parts.values())


# Texts


WORDS = (b"NaN", b"Infinity", b"1e999", b"{", b"[" * 40, b'"\\ud800"', b"9" * 5000, b'"a":1,"a":2,', b"null")


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """The tree changed, a word of JSON put in, or bytes changed."""
    match rng.randrange(4):
        case 0:
            return mutate_bytes(rng, data)
        case 1:
            words = (
                b"NaN",
                b"Infinity",
                b"1e999",
                b"{",
                b"[" * 40,
                b'"\\ud800"',
                b"9" * 5000,
                b'"a":1,"a":2,',
                b"null",
            )
            at = rng.choice([i for i, byte in enumerate(data) if byte in b'{["1,:'])
            return data[:at] + rng.choice(words) + data[at + rng.randrange(2) :]
        case _:
            return json.dumps(mutate_tree(rng, json.loads(data)), ensure_ascii=rng.random() < 0.5).encode()


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


# PNG: a signature, then chunks of length, name, content and CRC


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks that a PNG has, as far as their lengths lead."""
    found, at = [], 8
    while at + 12 <= len(data) and (end := at + 12 + int.from_bytes(data[at : at + 4])) <= len(data):
        found.append((data[at + 4 : at + 8], data[at + 8 : end - 4]))
        at = end
    return found


EXTRA = (b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"gAMA", b"sRGB", b"\0\1\2\3")


def mutate_png(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, or chunks changed, cut, doubled, moved or repacked, with a right CRC each."""
    parts = chunks(data)
    at = rng.randrange(len(parts))
    kind, content = parts[at]
    match rng.randrange(7):
        case 0:
            return mutate_bytes(rng, data)
        case 1:
            del parts[at]
        case 2:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 3:
            rng.shuffle(parts)
        case 4:
            extra = rng.choice(
                (b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"gAMA", b"sRGB", b"\0\1\2\3")
            )
            parts.insert(at, (extra, rng.choice((b"", b"k\0\0" + zlib.compress(bytes(9999)), rng.randbytes(30)))))
        case 5:
            header = bytearray(parts[0][1])
            place = rng.choice((0, 4, 8, 9, 10, 11, 12))
            size = 4 if place < 8 else 1
            header[place : place + size] = (rng.choice((*range(17), *NUMBERS)) % 256**size).to_bytes(size)
            parts[0] = (parts[0][0], bytes(header))
        case _ if kind == b"IDAT":
            parts[at] = (kind, zlib.compress(mutate_bytes(rng, zlib.decompress(content))))
        case _:
            parts[at] = (kind, mutate_bytes(rng, content))
    return data[:8] + b"".join(chunk(*part) for part in parts)


def is_png(data: bytes) -> bool:
    """Whether it is chunks with right CRCs from IHDR to IEND."""
    parts = chunks(data)
    whole = data[:8] + b"".join(chunk(*part) for part in parts)
    return data.startswith(whole) and len(parts) > 2 and parts[0][0] == b"IHDR" and parts[-1][0] == b"IEND"


# JPEG: segments of 0xFF, a marker and a length, then the scan


def mutate_jpeg(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, or a segment changed, cut, doubled or moved, with a right length each."""
    parts, scan = segments(data)
    if rng.random() < 0.3 or not parts:
        return mutate_bytes(rng, data)
    at = rng.randrange(len(parts))
    marker, content = parts[at]
    match rng.randrange(6):
        case 0:
            del parts[at]
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 2:
            rng.shuffle(parts)
        case 3:
            parts[at] = (rng.choice((*b"\xc0\xc1\xc2\xc3\xc4\xc9\xcc\xdb\xdd\xe0\xe1\xe2\xee", marker)), content)
        case 4:
            scan = mutate_bytes(rng, scan)
        case _:
            parts[at] = (marker, mutate_bytes(rng, content)[:65_000])
    head = b"".join(bytes([0xFF, m]) + struct.pack(">H", len(c) + 2) + c for m, c in parts)
    return b"\xff\xd8" + head + scan


def segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The segments up to the first scan, and the rest."""
    found, at = [], 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        found.append((data[at + 1], data[at + 4 : end]))
        at = end
    return found, data[at:]


def is_jpeg(data: bytes) -> bool:
    """Whether it begins and ends as one and has the four kinds of segments that a baseline picture needs."""
    if not data.startswith(b"\xff\xd8") or b"\xff\xd9" not in data:
        return False
    try:
        markers = {marker for marker, _ in segments(data)[0]}
    except IndexError:
        return False
    return {0xDB, 0xC4} <= markers and bool({0xC0, 0xC1, 0xC2} & markers)
