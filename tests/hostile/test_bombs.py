"""Small files that ask for much: each is refused before much memory is taken."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import pickles
from fuzz.formats import RECIPE, pictures, to_toml
from fuzz.mutations import chunk, idx_bytes
from stridenet.errors import StridenetError
from stridenet.tensors import pack_tensors

MIB = 2**20


def gzip_of_zeros(start: bytes, mebibytes: int) -> bytes:
    """A gzip member of `start` and then that many MiB of zeros, each the same bytes; its CRC is never reached."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = squeeze.compress(start) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(MIB)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + head + block * mebibytes + squeeze.flush() + bytes(8)


def png(width: int, height: int, *more: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(bytes(10))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def one_bit_png(side: int) -> bytes:
    row = 1 + -(-side // 8)
    data = chunk(b"IDAT", zlib.compress(bytes(side * row), 9))
    return png(side, side, data, depth=1).replace(chunk(b"IDAT", zlib.compress(bytes(10))), b"")


def jpeg(width: int, height: int, **options: Any) -> bytes:
    """A picture of 11 x 9 that says it were larger."""
    data = pictures("JPEG", "L", **options)[0]
    return data.replace(struct.pack(">HH", 9, 11), struct.pack(">HH", height, width), 1)


def bitmap(width: int, height: int, *, compression: int = 0, data: bytes = b"") -> bytes:
    bits = 8 if compression else 24
    palette = bytes(1024) if compression else b""
    offset = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + header + palette + data


def tensors(header: bytes | dict[str, Any]) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def entry(*shape: int, size: int = 0) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}


def model(network: dict[str, Any], **more: Any) -> bytes:
    """A model file of two numbers and this network."""
    meta = {"format": "stridenet model", "version": 1, "classes": ["a"], "image_shape": [1, 1, 1], "framing": None}
    meta |= {"network": network, "transform": [], "recipe": {}, "provenance": {}} | more
    return pack_tensors({"weight": np.zeros(2, np.float32)}, meta)


def tar_header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo("cifar-10-batches-py" + "/test_batch" * (kind == tarfile.REGTYPE))
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def in_a_row(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Sequential", "layers": layers, "input_shape": None}


CONV = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True}
NORM = {"kind": "BatchNorm2d", "momentum": 0.1, "eps": 1e-5}
DENSE = {"kind": "Linear", "bias": True}

# name: (the reader, the bytes)
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip of 1 GiB": ("idx", lambda: gzip_of_zeros(idx_bytes((10_000, 28, 28), 8, b""), 1024)),
    "gzip of 1 GiB, a small header": ("idx", lambda: gzip_of_zeros(idx_bytes((1, 1), 8, b""), 1024)),
    "gzip of 1 GiB without a header": ("idx", lambda: gzip_of_zeros(b"", 1024)),
    "gzip in gzip": ("idx", lambda: gzip.compress(gzip_of_zeros(idx_bytes((9, 9), 8, b""), 1024))),
    "gzip, axes of 2^96": ("idx", lambda: gzip_of_zeros(idx_bytes((2**32 - 1,) * 3, 8, b""), 64)),
    "idx, axes of 2^32": ("idx", lambda: idx_bytes((65536, 65536, 1), 8, bytes(100))),
    "idx, 1 GiB that is not there": ("idx", lambda: idx_bytes((2**30,), 8, bytes(100))),
    "PNG 9000": ("picture", lambda: one_bit_png(9000)),
    "PNG 13 000": ("picture", lambda: one_bit_png(13_000)),
    "PNG 2^31": ("picture", lambda: png(2**31 - 1, 2**31 - 1)),
    "PNG 8000, no pixels": ("picture", lambda: png(8000, 8000)),
    "PNG, pixels of 100 MB": ("picture", lambda: png(3, 2, chunk(b"IDAT", zlib.compress(bytes(10**8), 9)))),
    "PNG, text of 100 MB": ("picture", lambda: png(3, 2, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8), 9)))),
    "PNG, profile of 100 MB": ("picture", lambda: png(3, 2, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(10**8), 9)))),
    "PNG, 100 000 chunks": ("picture", lambda: png(3, 2, chunk(b"tEXt", b"k\0") * 100_000)),
    "JPEG 65 535": ("picture", lambda: jpeg(65535, 65535)),
    "JPEG 8000": ("picture", lambda: jpeg(8000, 8000)),
    "JPEG 8000, progressive": ("picture", lambda: jpeg(8000, 8000, progressive=True)),
    "JPEG, 200 scans": ("picture", lambda: jpeg(8, 8, progressive=True) + b"\xff\xda" * 200),
    "BMP 8000": ("picture", lambda: bitmap(8000, 8000)),
    "BMP 2^31": ("picture", lambda: bitmap(2**31 - 1, 2**31 - 1)),
    "BMP 7000, run lengths": ("picture", lambda: bitmap(7000, 7000, compression=1, data=b"\xff\1" * 9 + b"\0\1")),
    "PPM 8000": ("picture", lambda: b"P6 8000 8000 255 "),
    "PPM 8000 in words": ("picture", lambda: b"P3 8000 8000 255 1 2 3"),
    "PPM 10^9": ("picture", lambda: b"P5 1000000000 1000000000 255 "),
    "header of 2^63": ("weights", lambda: (2**63).to_bytes(8, "little") + b"{}"),
    "header of 15 MiB of lists": ("weights", lambda: tensors(b'{"a":[' + b"[]," * 5_000_000 + b"1]}")),
    "header of depth 100 000": ("weights", lambda: tensors(b'{"a":' * 100_000)),
    "shape 2^62 x 8": ("weights", lambda: tensors({"a": entry(2**62, 8)})),
    "shape 0 x 10^18": ("weights", lambda: tensors({"a": entry(0, 10**18)})),
    "shape 2^32 x 2^32": ("weights", lambda: tensors({"a": entry(2**32, 2**32)})),
    "20 000 tensors": ("weights", lambda: tensors({str(i): entry(0) for i in range(20_000)})),
    "metadata of 2 MiB": ("weights", lambda: safetensors.numpy.save({}, {"a": "b" * 2 * MIB})),
    "Linear of 2^52": ("model", lambda: model({**DENSE, "in_features": 2**26, "out_features": 2**26})),
    "Linear of 2^30": ("model", lambda: model({**DENSE, "in_features": 2, "out_features": 2**29})),
    "Conv2d of 2^30": (
        "model",
        lambda: model({"kind": "Conv2d", "in_channels": 2**15, "out_channels": 2**15, **CONV}),
    ),
    "BatchNorm2d of 2^30": ("model", lambda: model({**NORM, "num_features": 2**30})),
    "MaxPool2d of 2^62": (
        "model",
        lambda: model({"kind": "MaxPool2d", "kernel_size": 2**31, "stride": 2, "padding": "same", "ceil_mode": False}),
    ),
    "10 000 layers": ("model", lambda: model(in_a_row(*[{**DENSE, "in_features": 1, "out_features": 1}] * 10_000))),
    "layers in each other": ("model", lambda: model(in_a_row(*[in_a_row(in_a_row())] * 9, *[{"kind": "ReLU"}] * 9))),
    "Pad of 2^50": ("model", lambda: model(in_a_row(), transform=[{"name": "pad", "padding": 2**50, "value": 0}])),
    "image of 2^60": ("model", lambda: model(in_a_row(), image_shape=[2**20, 2**20, 2**20])),
    **{f"pickle, {name}": ("batch", partial(pickles.in_dict, part)) for name, part in pickles.LIMITS.items()},
    "pickle of 15 MiB of lists": ("batch", lambda: pickles.in_dict(b"]" * 15 * MIB)),
    "pickle of 15 MiB of numbers": ("batch", lambda: pickles.in_dict(b"(" + b"J\xff\xff\xff\x7f" * 3 * MIB)),
    "pickle of 15 MiB of dicts": ("batch", lambda: pickles.in_dict(b"(" + b"}K\1K\1s" * 2 * MIB)),
    "pickle of a text of 15 MiB": (
        "batch",
        lambda: pickles.in_dict(b"X" + struct.pack("<I", 15 * MIB) + b"a" * (15 * MIB - 4) + "\U0001f600".encode()),
    ),
    "tar.gz of 1 GiB": ("archive", lambda: gzip_of_zeros(tar_header(2**20), 1024)),
    "tar.gz, a member of 1 GiB": ("archive", lambda: gzip_of_zeros(tar_header(2**30), 1024)),
    "tar.gz, folders without end": ("archive", lambda: gzip.compress(tar_header(0, tarfile.DIRTYPE) * 20_000)),
    "recipe of 2 MiB": ("recipe", lambda: b"#" * 2 * MIB),
    "recipe nested": ("recipe", lambda: b"a = " + b"[" * 100_000),
    "recipe dotted": ("recipe", lambda: b".".join([b"a"] * 30_000) + b" = 1"),
    "recipe dotted in quotes": ("recipe", lambda: b'\n "=,." . ' + b".".join([b"'=#'", b'"\\""'] * 9000) + b" = 1"),
    "recipe with a long number": ("recipe", lambda: b"a = " + b"9" * 200_000),
    "recipe of 2^53 epochs": ("recipe", lambda: to_toml(RECIPE).replace('epochs" = 2', f'epochs" = {2**54}').encode()),
}

READ = """
import json, signal, sys
from pathlib import Path
from stridenet import load
from stridenet.data import cifar
from stridenet.data.idx import read_idx
from stridenet.data.images import read_image
from stridenet.errors import StridenetError
from stridenet.files import load_tensors
from stridenet.zoo import recipes
READERS = {
    "idx": read_idx,
    "batch": lambda path: cifar.read_batch(path.read_bytes(), "x"),
    "archive": cifar.load,
    "picture": lambda path: read_image(path, channels=3),
    "weights": load_tensors,
    "model": load,
    "recipe": lambda path: recipes.load(str(path)),
}
class Hang(BaseException): pass
def ring(*_): raise Hang
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
signal.signal(signal.SIGPROF, ring)
folder, found = Path(sys.argv[1]), {}
for round in ("warm-up", "measured"):
    for path in sorted(folder.glob("warm*" if round == "warm-up" else "bomb*")):
        before = peak()
        signal.setitimer(signal.ITIMER_PROF, 2)
        try:
            READERS[path.suffixes[-2][1:]](path)
            outcome = "read"
        except StridenetError as error:
            outcome = type(error).__name__
        except (Exception, Hang) as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
        signal.setitimer(signal.ITIMER_PROF, 0)
        found[path.name] = outcome, peak() - before
sys.stdout.write(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.promise("F3", "C03", "C04", "I08", "S01", "S02", "S04")
def test_bombs_are_refused_and_take_no_memory(tmp_path: Path, child: Any) -> None:
    """The file itself is read, and it may be a few MiB; what counts is what comes on top of the largest of them."""
    for reader, warm in {"idx": idx_bytes((2, 2), 8, bytes(4)), "picture": pictures("PNG", "RGB")[0]}.items():
        (tmp_path / f"warm.{reader}.toml").write_bytes(warm)
    (tmp_path / "warm2.picture.toml").write_bytes(pictures("JPEG", "RGB")[0])
    (tmp_path / "warm3.picture.toml").write_bytes(bytes(16 * MIB))  # what a file of that size takes
    (tmp_path / "warm.batch.toml").write_bytes(pickles.published(*pickles.small(0)))
    (tmp_path / "warm.archive.toml").write_bytes(pickles.tar({}))
    (tmp_path / "warm.weights.toml").write_bytes(pack_tensors({"a": np.zeros(2)}, {}))
    (tmp_path / "warm.model.toml").write_bytes(model(in_a_row()))
    (tmp_path / "warm.recipe.toml").write_text(to_toml(RECIPE))
    names: dict[str, str] = {}
    for i, (name, (reader, make)) in enumerate(BOMBS.items()):
        path = tmp_path / f"bomb{i:02d}.{reader}.toml"
        path.write_bytes(make())
        assert path.stat().st_size < 16 * MIB
        names[path.name] = name
    done = child(READ, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {names[file]: tuple(said) for file, said in json.loads(done.stdout).items() if file in names}
    assert found.keys() == BOMBS.keys()
    family = {kind.__name__ for kind in subclasses(StridenetError)}
    wrong = {name: said for name, said in found.items() if said[0] not in family or said[1] > 16}
    assert not wrong


def subclasses(kind: type) -> list[type]:
    return [kind, *(sub for direct in kind.__subclasses__() for sub in subclasses(direct))]
