"""CIFAR batches as they were published, byte by byte, and pickles that are meant to do harm."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def published(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2.7 and NumPy 1 wrote it in protocol 2; `data` is (N, 3072) uint8."""
    size = struct.pack("<H", len(data))
    return (
        b"\x80\x02}q\x01(" + short(b"batch_label") + b"q\x02" + short(b"training batch 1 of 5") + b"q\x03"
        + short(b"labels") + b"q\x04" + numbers(labels) + short(b"data") + b"q\x05"
        + b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85q\x08"
        + short(b"b") + b"\x87Rq\x09"
        + b"(K\x01M" + size + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0a" + short(b"u1") + b"K\x00K\x01\x87Rq\x0b"
        + b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", data.size) + data.tobytes() + b"tb"
        + short(b"filenames") + b"](" + b"".join(short(b"%d.png" % i) + b"q\x0c" for i in range(len(data))) + b"eu."
    )  # fmt: skip


def meta(names: tuple[str, ...] = CLASSES) -> bytes:
    """The file batches.meta."""
    label_names = b"](" + b"".join(short(name.encode()) for name in names) + b"e"
    head = b"\x80\x02}q\x01(" + short(b"num_cases_per_batch") + b"M\x10'" + short(b"label_names")
    return head + label_names + short(b"num_vis") + b"M\x00\x0cu."


def small(seed: int, count: int = 4) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count).tolist()


def batches(count: int = 4) -> dict[str, bytes]:
    """All files of a small CIFAR-10."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {name: published(*small(i, count)) for i, name in enumerate(names)} | {"batches.meta": meta()}


def tar(files: Mapping[str, bytes | tarfile.TarInfo], **options: Any) -> bytes:
    """A .tar.gz of these members, a name with its content or a header of its own."""
    archive = io.BytesIO()
    options = {"format": tarfile.GNU_FORMAT, "compresslevel": 1} | options
    with tarfile.open(fileobj=archive, mode="w:gz", **options) as out:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                out.addfile(content)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                out.addfile(header, io.BytesIO(content))
    return archive.getvalue()


# What a pickle may try. All of protocol 2 to 4, so that nothing is refused for its first bytes.


class Gadget:
    """A pickle of it calls what it says."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def calls(module: str, name: str, argument: str = "touch pwned") -> bytes:
    return (
        b"\x80\x02c"
        + f"{module}\n{name}\n".encode()
        + b"X"
        + struct.pack("<I", len(argument))
        + argument.encode()
        + b"\x85R."
    )


def stacked(module: str, name: str) -> bytes:
    """The same by STACK_GLOBAL."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + texts + b"\x93\x8c\x0btouch pwned\x85R."


NAMES = [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
    ("__builtin__", "eval"), ("subprocess", "Popen"), ("numpy.testing._private.utils", "runstring"), ("numpy", "load"),
    ("numpy.f2py", "compile"), ("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor"),
    ("importlib", "import_module"),
    ("numpy", "dtype.__class__"), ("numpy.core.multiarray", "_reconstruct.__globals__"), ("pickle", "loads"),
    ("torch.storage", "_load_from_bytes"), ("numpy.core.multiarray", "scalar"), ("", ""), ("numpy", "\x1b[31m"),
]  # fmt: skip

ENCODE = b"c_codecs\nencode\n"
PLACES: dict[str, bytes] = {  # C02
    "REDUCE of nothing": b"R", "REDUCE of numbers": b"K\1K\2R", "BUILD of nothing": b"b", "BUILD of a dict": b"}}b",
    "BUILD of a number": b"K\1(tb", "NEWOBJ": b"cnumpy\nndarray\n)\x81", "NEWOBJ_EX": b"cnumpy\nndarray\n)}\x92",
    "INST": b"(ios\nsystem\n", "OBJ": b"(cnumpy\nndarray\no", "PERSID": b"P1\n",
    "BINPERSID": b"K\1Q", "EXT1": b"\x82\1",
    "EXT2": b"\x83\1\0", "EXT4": b"\x84\1\0\0\0", "BYTEARRAY8": b"\x96" + bytes(8), "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"\x98", "MEMOIZE of nothing": b"(\x94", "BINPUT of nothing": b"(q\0", "MARK alone": b"(",
    "TUPLE without a mark": b"t", "APPENDS to a number": b"K\1(e", "SETITEMS of three": b"(K\1K\2K\3u",
    "STACK_GLOBAL of numbers": b"K\1K\2\x93", "EMPTY_SET": b"\x8f", "FROZENSET": b"(\x91", "POP": b"0", "DUP": b"2",
    "DICT": b"(d", "LIST": b"(l", "INT": b"I1\n", "STRING": b"S'a'\n", "UNICODE": b"Va\n", "FLOAT": b"F1\n",
    "protocol again": b"\x80\x02", "a second dict": b"}", "a key that is a dict": b"}}s",
    "a key twice": b"U\1aK\1sU\1aK\2s",
    "a name as a value": b"U\1acnumpy\ndtype\ns", "a tuple as a value": b"U\1a)s",
    "an odd codec": ENCODE + b"U\1aU\4zlib\x86R",
    "a codec of a number": ENCODE + b"K\1U\6latin1\x86R",
    "characters above 255": ENCODE + b"X\2\0\0\0\xc4\x80U\6latin1\x86R",
    "an array without values": b"U\1acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87Rs",
    "an array of another class": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\0\x85U\1b\x87R",
    "a name without an end": b"cnumpy",
}  # fmt: skip

LIMITS: dict[str, bytes] = {  # C03, C04: what must be a DataLimitError
    "LONG_BINPUT of 2^27": b"K\1r" + struct.pack("<I", 2**27),
    "LONG_BINPUT of 2^31": b"K\1r" + struct.pack("<I", 2**31 - 1),
    "BINBYTES8 of 2^62": b"\x8e" + struct.pack("<Q", 2**62),
    "BINUNICODE8 of 2^62": b"\x8d" + struct.pack("<Q", 2**62),
    "BINBYTES of 2^31": b"B" + struct.pack("<I", 2**31),
    "LONG4 of 2^31": b"\x8b" + struct.pack("<I", 2**31 - 1),
    "LONG1 of 255": b"\x8a\xff" + bytes(255),
    "FRAME of 2^62": b"\x95" + struct.pack("<Q", 2**62),
    "200 000 nested tuples": b"U\1a)" + b"\x85" * 200_000 + b"s",
    "20 nested lists": b"U\1a" + b"]" * 20 + b"a" * 19 + b"s",
    "500 000 numbers": b"K\1" * 500_000,
    "150 000 dicts": b"}" * 150_000,
    "100 001 places of the memo": b"K\1" + b"\x94" * 100_001,
    "a list in itself": b"U\1a]q\0h\0as",
    "a dict in itself": b"q\0U\1ah\0s",
    "a billion laughs": b"U\1a](](U\3lolq\0"
    + b"h\0" * 9
    + b"eq\1"
    + b"".join(b"](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(1, 20))
    + b"es",
    "one text encoded again and again": b"X\0\1\0\0" + b"a" * 256 + b"q\0" + (ENCODE + b"h\0U\6latin1\x86R") * 100,
    "a long key in many dicts": b"U\1a](X\x60\xea\0\0" + b"k" * 60_000 + b"q\0" + b"}h\0K\1s" * 40_000 + b"es",
    "a long list for many keys": b"(U\1a]("
    + b"K\1" * 100_000
    + b"eq\0"
    + b"".join(b"U\4%04dh\0" % i for i in range(9999))
    + b"u",
    "many texts": b"U\1a](" + (b"X\0\xff\0\0" + b"a" * (0xFF00 - 4) + "\U0001f600".encode()) * 100 + b"es",
    "a long text": b"U\1aX" + struct.pack("<I", 70_000) + bytes(70_000) + b"s",
}


def in_dict(part: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + b"}" + part + b"."


def hostile() -> dict[str, bytes]:
    """Every one of them by name."""
    found = {f"global {m}.{n}": calls(m, n) for m, n in NAMES} | {
        f"stack global {m}.{n}": stacked(m, n) for m, n in NAMES
    }
    found |= {name: in_dict(part) for name, part in (PLACES | LIMITS).items()}
    return found | {f"system {protocol}": pickle.dumps(Gadget(eval, "1"), protocol) for protocol in range(6)}
