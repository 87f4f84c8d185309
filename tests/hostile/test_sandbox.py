"""Hostile files under an audit hook: nothing is run, imported, written or connected, and only the file is opened."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models
import pickles
from fuzz.formats import CHECKPOINT, RECIPE, pictures, to_toml
from fuzz.mutations import chunk, idx_bytes
from stridenet.tensors import pack_tensors


class Gadget:
    """A pickle of it runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch pwned",)


WEIGHTS = {"1.weight": np.zeros((2, 4), np.float32), "1.bias": np.zeros(2, np.float32)}
DENSE = {"kind": "Linear", "in_features": 4, "out_features": 2, "bias": True}
META: dict[str, Any] = {
    "format": "stridenet model", "version": 1, "classes": ["a", "b"], "image_shape": [1, 2, 2], "transform": [],
    "framing": None, "recipe": {}, "provenance": {},
    "network": {"kind": "Sequential", "layers": [{"kind": "Flatten"}, DENSE], "input_shape": None},
}  # fmt: skip
CALLS = [
    "os.system", "builtins.eval", "Lambda", "stridenet.nn.layers.Linear", "__import__('os')", "../../layers", "eval",
    "subprocess", "type", "Layer", "torch.nn.Linear", "keras.layers.Lambda", "__main__.Gadget", "getattr",
]  # fmt: skip
SPECS: list[Any] = [
    *({"kind": name} for name in CALLS),
    *({"kind": name, "args": ["touch pwned"]} for name in CALLS[:3]),
    {"kind": "Linear", "in_features": 4, "out_features": 2, "init": "os.system"},
    {"kind": "Linear", "in_features": 4, "out_features": 2, "rng": "os.urandom"},
    {"kind": "Linear", "in_features": 4, "out_features": 2, "__class__": "os.system"},
    {"kind": "Linear", "in_features": "__import__('os').system('touch pwned')", "out_features": 2},
    {"__reduce__": ["os.system", ["touch pwned"]]}, {"class_name": "Lambda", "config": {"function": "4wAAAAAA"}},
    {"kind": {"__class__": "os.system"}}, "os.system", None, ["Linear", 4, 2],
]  # fmt: skip
CHANGES: list[dict[str, Any]] = [
    {"transform": [{"name": "os.system", "command": "touch pwned"}]},
    {"transform": [{"name": "normalize", "mean": "open('pwned', 'w')", "std": [1]}]},
    {"transform": [{"name": "__class__"}]},
    {"framing": {"__reduce__": ["os.system", "touch pwned"]}},
    {"classes": ["../../pwned", "<script>alert(1)</script>", "\x1b]0;pwned\x07"]},
    {"recipe": {"data": {"name": "../../../etc/passwd"}, "__class__": "os.system"}},
    {"provenance": {"path": "file:///etc/passwd", "url": "http://127.0.0.1:1/pwned"}},
    {"format": "keras", "module": "os", "class_name": "system"},
    {"version": {"__reduce__": "os.system"}},
]


def model(**changes: Any) -> bytes:
    return pack_tensors(WEIGHTS, META | changes)


def png_with(kind: bytes, content: bytes) -> bytes:
    data = pictures("PNG", "L")[0]
    return data[:33] + chunk(kind, content) + data[33:]


def recipe(**changes: Any) -> bytes:
    return to_toml(RECIPE | changes).encode()


def hostile_files() -> dict[str, bytes]:
    png, jpeg, idx = pictures("PNG", "L")[0], pictures("JPEG", "L")[0], idx_bytes((2, 2), 8, bytes(4))
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    run = "__import__('os').system('touch pwned')"
    files: dict[str, bytes] = {f"pickle {protocol}": pickle.dumps(Gadget(), protocol) for protocol in range(6)}
    files |= pickles.hostile()
    files |= {f"batch {protocol}": pickle.dumps({"data": Gadget(), "labels": [1]}, protocol) for protocol in range(6)}
    files["archive"] = pickles.tar({"cifar-10-batches-py/data_batch_1": pickle.dumps(Gadget(), 2)})
    files["archive of paths"] = pickles.tar({"../../pwned": b"touch pwned"})
    files |= {f"layer {i}": model(network=spec) for i, spec in enumerate(SPECS)}
    files |= {f"layers {i}": model(network=META["network"] | {"layers": [spec]}) for i, spec in enumerate(SPECS)}
    files |= {f"meta {i}": model(**change) for i, change in enumerate(CHANGES)}
    files |= {
        "torch": archive[:30] + b"archive/data.pkl" + pickle.dumps(Gadget(), 2) + archive,
        "numpy object": b"\x93NUMPY\1\0v\0{'descr':'|O','fortran_order':False,'shape':(1,),}" + pickle.dumps(Gadget()),
        "numpy header": b"\x93NUMPY\1\0v\0" + f"{{'descr':{run},'shape':(1,)}}".encode(),
        "npz": archive[:30] + b"a.npy" + archive,
        "gzip of a pickle": gzip.compress(pickle.dumps(Gadget())),
        "zlib of a pickle": zlib.compress(pickle.dumps(Gadget())),
        "python": f"import os; {run}\n".encode(),
        "shell": b"#!/bin/sh\ntouch pwned\n",
        "elf": b"\x7fELF\2\1\1" + bytes(60),
        "html": f"<html><script>{run}</script>".encode(),
        "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(pwned) (w) file\n",
        "tiff": b"II*\0\x08\0\0\0" + bytes(60),
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9912422\n",
        "yaml": b"!!python/object/apply:os.system ['touch pwned']",
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(60),
        "onnx": b"\x08\x07\x12\x04test:\x20" + bytes(60),
        "toml": recipe(),
        "toml class": recipe(__class__={"__reduce__": run}),
        "toml model": recipe(model={"name": "os.system", "args": {"command": "touch pwned"}}),
        "toml argument": recipe(model={"name": "lenet5", "args": {"rng": run, "classes": 4}}),
        "toml optimizer": recipe(optimizer={"name": "subprocess.Popen", "lr": 0.1}),
        "toml schedule": recipe(schedule={"name": "__import__", "factor": 0.1}),
        "toml loss": recipe(train={"epochs": 1, "batch_size": 1, "loss": run}),
        "toml transform": recipe(data={"name": "/etc/passwd", "transform": [{"name": "eval", "code": run}]}),
        "json": json.dumps({"name": "mine", **RECIPE}).encode(),
        "json class": json.dumps({"name": "mine", "__class__": run, **RECIPE}).encode(),
        "json deep": b"[" * 100_000,
        "json module": json.dumps({"name": "os", "model": {"name": run}}).encode(),
        "safetensors": struct.pack("<Q", 60) + b'{"a":{"dtype":"__import__(\'os\')","shape":[2],"data_offsets":[0,8]}}',
        "safetensors path": struct.pack("<Q", 2) + b"{}" + b"../../pwned",
        "model and zip": model() + archive,
        "model and pdf": model() + b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>",
        "png and zip": png + archive,
        "png and pickle": png + pickle.dumps(Gadget()),
        "png profile": png_with(b"iCCP", b"k\0\0" + zlib.compress(bytes(500))),
        "png text": png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='file:///etc/passwd'/>"),
        "png exif": png_with(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        "jpeg and zip": jpeg + archive,
        "jpeg mpo": jpeg[:2] + b"\xff\xe2\0\x20MPF\0MM\0*\0\0\0\x08" + bytes(18) + jpeg[2:],
        "jpeg photoshop": jpeg[:2] + b"\xff\xed\0\x1ePhotoshop 3.0\x008BIM\x03\xed" + bytes(8) + jpeg[2:],
        "jpeg adobe": jpeg[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1" + jpeg[2:],
        "idx and zip": idx + archive,
        "idx": idx,
        "idx gzip name": b"\x1f\x8b\x08\x08\0\0\0\0\0\xff../../pwned\0" + gzip.compress(idx)[10:],
        "empty": b"",
    }  # fmt: skip
    return files


VALID = {
    "batch": pickles.published(*pickles.small(0)),
    "batch again": pickle.dumps({"data": pickles.small(0)[0], "labels": pickles.small(0)[1]}, 4),
    "archive": pickles.tar({f"cifar-10-batches-py/{name}": content for name, content in pickles.batches().items()}),
    "idx": idx_bytes((1, 2, 2), 8, bytes(4)),
    "gz": gzip.compress(idx_bytes((1, 2, 2), 8, bytes(4))),
    "model": model(),
    "onnx": onnx_models.network().SerializeToString(),
    "checkpoint": pack_tensors({"a": np.zeros(2)}, {"version": 1, "step": 4, "run": {}}),
    "recipe": recipe(),
    "record": json.dumps({"name": "mine", **RECIPE}).encode(),
    "png": pictures("PNG", "RGBA")[0],
    "jpeg": pictures("JPEG", "CMYK", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")[0],
    "bmp": pictures("BMP", "P")[0],
    "ppm": pictures("PPM", "RGB")[0],
}

AUDITED = """
import json, os, sys
from pathlib import Path
from stridenet import CheckpointStore, StridenetError, load
from stridenet.data import cifar
from stridenet.data.idx import read_idx
from stridenet.data.images import read_image
from stridenet.files import read_regular
from stridenet.interop import onnx
from stridenet.strictjson import from_json
from stridenet.zoo import recipes
home = Path(sys.argv[1])
READERS = {  # each with the name that it wants
    "idx": ("images.gz", read_idx),
    "batch": ("data_batch_1", lambda path: cifar.read_batch(read_regular(path, limit=2**26), "x")),
    "archive": ("cifar-10-python.tar.gz", cifar.load),
    "model": ("model.safetensors", load),
    "onnx": ("model.onnx", onnx.load),
    "checkpoint": (sys.argv[2], lambda path: CheckpointStore(path.parent).latest()),
    "recipe": ("mine.toml", lambda path: recipes.load(str(path))),
    "record": ("recipe.json", lambda path: recipes.from_record(from_json(read_regular(path, limit=2**20), "x"), "x")),
    "picture": ("picture.png", lambda path: read_image(path, channels=3)),
}
RUNS = ("pickle.", "exec", "compile", "import", "marshal.", "os.system", "os.exec", "os.fork", "os.posix_spawn",
        "os.spawn", "subprocess.", "socket.", "ctypes.", "code.", "shutil.", "tempfile.", "urllib.", "os.remove",
        "os.rename", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "os.putenv", "webbrowser.")
seen, watched = [], None
def hook(event, arguments):
    if watched is None:
        return
    if event == "open":
        name, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes or not (isinstance(name, int) or os.fsdecode(name) == str(watched)):
            seen.append((event, repr(arguments)[:200]))
    elif event.startswith(RUNS):
        seen.append((event, repr(arguments)[:200]))
sys.addaudithook(hook)
def read_all(folder):
    global watched
    outcomes = {"read": 0}
    for file in sorted((home / folder).iterdir()):
        content = file.read_bytes()
        for name, read in READERS.values():
            path = home / "work" / name
            path.write_bytes(content)
            watched = path if folder != "warm-up" else None
            try:
                read(path)
                outcome = "read"
            except (StridenetError, OSError) as error:
                outcome = type(error).__name__
            watched = None
            path.unlink()
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes
(home / "work").mkdir()
read_all("warm-up")  # what is imported on first use, by files that can be read and by files that cannot
outcomes = read_all("hostile")
if len(sys.argv) > 3:  # the hook sees what it is there for
    watched = home / "work"
    try:
        eval("1")
        __import__("this_module_does_not_exist")
    except ImportError:
        pass
    try:
        open(home / "pwned", "x")
    finally:
        watched = None
sys.stdout.write(json.dumps([outcomes, seen]))
"""


def audited(child: Any, folder: Path, *more: str) -> tuple[dict[str, int], list[list[str]]]:
    warm_up = VALID | {"cut": model()[:-9], "text": b"text", "escape": pickles.stacked("numpy", "\x1b")}
    for name, files in {"warm-up": warm_up, "hostile": hostile_files()}.items():
        (folder / name).mkdir()
        for i, content in enumerate(files.values()):
            (folder / name / f"{i:03d}").write_bytes(content)
    done = child(AUDITED, folder, CHECKPOINT, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.promise("F1b")
def test_hostile_files_run_import_write_and_open_nothing(child: Any, tmp_path: Path) -> None:
    assert len(hostile_files()) >= 100
    outcomes, seen = audited(child, tmp_path)
    assert seen == []
    assert sum(outcomes.values()) == 9 * len(hostile_files())
    assert 0 < outcomes["read"] < 50  # a recipe, a picture and the like are what they say
    assert not {"FileNotFoundError", "PermissionError", "IsADirectoryError"} & outcomes.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile", "warm-up", "work"]


def test_the_hook_sees_what_it_is_there_for(child: Any, tmp_path: Path) -> None:
    _, seen = audited(child, tmp_path, "plant")
    assert {event for event, _ in seen} >= {"compile", "exec", "import", "open"}
