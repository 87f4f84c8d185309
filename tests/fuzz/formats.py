"""Every format that stridenet reads: small valid files, how they are changed, and the readers that get them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import onnx_models
import pickles
from fuzz import mutations as m
from stridenet import (
    SGD,
    BestWeights,
    CheckpointStore,
    Conv2d,
    Dataset,
    Dropout,
    Flatten,
    Framing,
    Linear,
    Loader,
    MaxPool2d,
    Model,
    Normalize,
    Pad,
    Pipeline,
    ReLU,
    Resize,
    Sequential,
    Splits,
    StridenetError,
    Tanh,
    Trainer,
    experiment,
    load,
)
from stridenet.data import cifar, tiny_imagenet
from stridenet.data.idx import read_idx
from stridenet.data.images import read_image
from stridenet.files import read_regular
from stridenet.interop import onnx
from stridenet.interop.onnx.proto import Limits
from stridenet.strictjson import MAX_BYTES, from_json, to_json
from stridenet.tensors import unpack_tensors
from stridenet.train.checkpoint import require_same
from stridenet.zoo import recipes


class Format(NamedTuple):
    """A file name, valid files, a mutator, a reader that raises what it likes, and a test of the outer layers."""

    file: str
    seeds: Callable[[Path], list[bytes]]
    mutate: m.Mutate
    read: Callable[[Path], object]
    is_sound: Callable[[bytes], bool]  # whether the outer layers let a mutant pass


# IDX


def gzip_seeds(folder: Path) -> list[bytes]:
    return [gzip.compress(data) for data in idx_seeds(folder)]


def idx_seeds(folder: Path) -> list[bytes]:
    rng = random.Random(0)
    shapes = [((2, 3, 4), 8, 1), ((9,), 8, 1), ((3, 5), 9, 1), ((4,), 11, 2), ((1, 2, 2), 13, 4), ((1, 1, 2, 2), 14, 8)]
    return [m.idx_bytes(dims, code, rng.randbytes(int(np.prod(dims)) * size)) for dims, code, size in shapes]


def read_as_idx(path: Path) -> None:
    for expect in (None, "images", "labels"):
        try:
            values = read_idx(path, expect=expect)
        except StridenetError:
            if expect is None:
                raise
        else:
            assert values.size > 0
            assert values.dtype.isnative


# Model files and checkpoints


def network(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(1, 2, (3, 2), padding=((1, 0), (0, 1)), rng=rng),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Sequential(Conv2d(2, 2, 1, bias=False, rng=rng), Tanh()),
        Dropout(0.5),
        Flatten(),
        Linear(50, 3, rng=rng),
    )


def model_seeds(folder: Path) -> list[bytes]:
    transform = Pipeline([Resize(8), Pad(1, 0.5), Normalize([0.2], [0.3])])
    recipe = {"name": "mine", "data": {"name": "digits"}, "lr": 0.1}
    model = Model(network(), ("a", "二", "c"), (1, 6, 6), transform=transform, framing=Framing(0.0, 0.7), recipe=recipe)
    model.save(folder / "first")
    flat = Sequential(Flatten(), Linear(12, 2, rng=np.random.default_rng(0)), input_shape=(3, 2, 2))
    Model(flat, ("x", "y"), (3, 2, 2), provenance={"data": "noise"}).save(folder / "second")
    return [(folder / name).read_bytes() for name in ("first", "second")]


def read_model(path: Path) -> None:
    """A model that loads must predict, or say why not; not where it would be large."""
    model = load(path)
    if np.prod(model.image_shape, dtype=float) < 1e4 and np.prod(model.input_shape, dtype=float) < 1e5:
        with np.errstate(all="ignore"):
            scores = model.scores(np.zeros((2, *model.image_shape), np.uint8))
        assert scores.shape == (2, len(model.classes))


def noise(side: int = 16) -> Splits:
    rng = np.random.default_rng(0)
    parts = [
        Dataset(rng.integers(0, 256, (n, 1, side, side)).astype(np.uint8), np.arange(n) % 4, tuple("abcd"))
        for n in (40, 8)
    ]
    return Splits(*parts, name="noise", origin="memory")


RECIPE: dict[str, Any] = {
    "about": {"title": "a title"},
    "model": {"name": "lenet5", "args": {"classes": 4, "input_size": 16}},
    "data": {
        "name": "noise",
        "validation": 0.2,
        "transform": [{"name": "pad", "padding": 0}, {"name": "normalize", "mean": [0.5], "std": [0.25]}],
        "augment": [{"name": "random_shift", "pixels": 1}],
    },
    "optimizer": {"name": "sgd", "lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    "schedule": {"name": "cosine", "unit": "epoch", "final": 0.001},
    "train": {"epochs": 2, "batch_size": 16, "seed": 3, "loss": "cross_entropy"},
    "published": {"test": 0.99, "source": "a paper"},
    "notes": {"expected_findings": ["plateau"]},
}
OTHER: dict[str, Any] = {
    "model": {"name": "lenet5", "args": {"classes": 4, "input_size": 16}},
    "data": {"name": "noise"},
    "optimizer": {"name": "adam", "lr": 0.001, "eps": 1e-8},
    "schedule": {"name": "one_cycle", "warmup": 0.3, "momentum": [0.95, 0.85]},
    "train": {"epochs": 1, "batch_size": 8},
}
CHECKPOINT = "step-000000004.safetensors"
_trainers: list[Trainer] = []  # one, made at the first checkpoint


def trainer() -> Trainer:
    if not _trainers:
        small = Sequential(Flatten(), Linear(36, 4, rng=np.random.default_rng(0)), ReLU())
        optimizer = SGD(small.pack(), lr=0.01, momentum=0.9)
        _trainers.append(Trainer(small, optimizer, callbacks=[BestWeights()]))
    return _trainers[0]


def checkpoint_seeds(folder: Path) -> list[bytes]:
    """A checkpoint of a small training after two epochs."""
    data, store = noise(6).train, CheckpointStore(folder)
    trainer().fit(Loader(data, 20), Loader(data, 40), epochs=2)
    tensors, meta = trainer().state()
    store.save(4, tensors, {"identity": {"recipe": RECIPE}, "trainer": meta})
    return [(folder / CHECKPOINT).read_bytes()]


def read_checkpoint(path: Path) -> None:
    """As a run is resumed."""
    _, tensors, meta = CheckpointStore(path.parent).latest()
    require_same(meta.get("identity", {}), meta.get("identity", {}))
    trainer().load_state(tensors, meta.get("trainer", {}))
    trainer().callbacks[0].restore(trainer().network)


def has_its_digest(data: bytes) -> bool:
    try:
        unpack_tensors(data, "", allow_nonfinite=True)
    except StridenetError:
        return False
    return True


# Recipes and JSON


def is_small(value: Any) -> bool:
    """Whether no number in a recipe asks for a large network or large images: that is allowed, and no test of bytes."""
    if isinstance(value, dict | list):
        return all(map(is_small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= 64


def use_recipe(recipe: recipes.Recipe) -> None:
    """A recipe that is read must become a trainer, or say why not; start weights are another file."""
    recipe["train"].pop("init", None)
    if is_small(recipe["model"]) and is_small(recipe["data"]) and is_small(recipe["train"]["batch_size"]):
        with np.errstate(all="ignore"):
            experiment.prepare(recipe, noise())


def to_toml(tree: dict[str, Any]) -> str:
    """The TOML of a recipe: a table a section, everything else in line. JSON writes what both have in common."""
    lines: list[str] = []
    for section, value in tree.items():
        if isinstance(value, dict):
            lines += [f"[{json.dumps(section)}]", *(f"{json.dumps(key)} = {in_line(v)}" for key, v in value.items())]
        else:
            lines.insert(0, f"{json.dumps(section)} = {in_line(value)}")
    return "\n".join(lines)


def in_line(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {in_line(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_line, value)) + "]"
    return "1979-05-27" if value is None else json.dumps(value)


def toml_seeds(folder: Path) -> list[bytes]:
    return [to_toml(recipe).encode() for recipe in (RECIPE, OTHER)]


def mutate_toml(rng: random.Random, data: bytes) -> bytes:
    return m.mutate_bytes(rng, data) if rng.random() < 0.3 else to_toml(m.mutate_tree(rng, _toml(data))).encode()


def _toml(data: bytes) -> dict[str, Any]:
    return tomllib.loads(data.decode())


def is_toml(data: bytes) -> bool:
    try:
        _toml(data)
    except (ValueError, RecursionError):
        return False
    return True


def record_seeds(folder: Path) -> list[bytes]:
    return [to_json(recipes.check(recipe, "mine")).encode() for recipe in (RECIPE, OTHER)]


def read_record(path: Path) -> None:
    """As experiment.open_run reads recipe.json."""
    use_recipe(recipes.from_record(from_json(read_regular(path, limit=MAX_BYTES), str(path)), str(path)))


def json_seeds(folder: Path) -> list[bytes]:
    meta = {"a": [1, -2.5, 1e-300, True, None, {}], "数字": {"": [[]]}, "text": '"\\\x1b\n', "big": 2**53}
    return [to_json(meta).encode(), b"[]", b'"text"', json.dumps(meta, indent=1).encode()]


def read_json(path: Path) -> None:
    """What is read is what Python reads, and can be written and read again."""
    data = path.read_bytes()
    value = from_json(data, str(path))
    assert value == json.loads(data)
    assert from_json(to_json(value), str(path)) == value


# Pictures


def pictures(kind: str, *modes: str, **options: Any) -> list[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(7).integers(0, 256, (9, 11, 4), dtype=np.uint8)
    found: list[bytes] = []
    for mode in modes:
        file = io.BytesIO()
        image = Image.fromarray(pixels)
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        image.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def png_seeds(folder: Path) -> list[bytes]:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return [*pictures("PNG", "1", "L", "P", "RGB", "RGBA", "I;16"), *pictures("PNG", "RGB", exif=exif.tobytes())]


def jpeg_seeds(folder: Path) -> list[bytes]:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    return [
        *pictures("JPEG", "L", "RGB", "CMYK"),
        *pictures("JPEG", "RGB", progressive=True),
        *pictures("JPEG", "L", exif=exif),
    ]


def bitmap_seeds(folder: Path) -> list[bytes]:
    plain = b"P2\n# grey\n3 2\n255\n0 9 200\n1 2 3\n"
    return [*pictures("BMP", "1", "L", "P", "RGB", "RGBA"), *pictures("PPM", "1", "L", "RGB", "I;16"), plain]


def read_picture(path: Path) -> None:
    for channels in (3, 1):
        picture = read_image(path, channels=channels)
        assert (picture.dtype, picture.ndim, len(picture)) == (np.uint8, 3, channels)


# CIFAR-10 and TinyImageNet


def batch_seeds(folder: Path) -> list[bytes]:
    """One image of one tone, so that most changes meet something else."""
    data, labels = np.full((1, 3072), 7, np.uint8), [3]
    again = [pickle.dumps({"data": data, "labels": labels, "filenames": [b"a.png"]}, p) for p in (2, 3, 4)]
    return [pickles.published(data, labels), *again]


def mutate_batch(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed before or behind the pixels, or an opcode put there that has no place in a batch."""
    at = data.index(bytes([7]) * 3000)
    begin, pixels, end = data[:at], data[at : at + 3000], data[at + 3000 :]
    if rng.random() < 0.3:
        at, part = rng.randrange(len(begin)), rng.choice([*pickles.PLACES.values(), *pickles.LIMITS.values()])
        return begin[:at] + part[:5000] + begin[at:] + pixels + end
    if rng.random() < 0.5:
        return m.mutate_bytes(rng, begin) + pixels + end
    return begin + pixels + m.mutate_bytes(rng, end)


def archive_seeds(folder: Path) -> list[bytes]:
    python = {f"cifar-10-batches-py/{name}": content for name, content in pickles.batches(1).items()}
    names = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    binary = {f"cifar-10-batches-bin/{name}": bytes([i]) * 3073 for i, name in enumerate(names)}
    return [
        pickles.tar(python),
        pickles.tar(binary, format=tarfile.PAX_FORMAT),
        pickles.tar({"./" + k: v for k, v in python.items()}),
    ]


def read_annotations(path: Path) -> None:
    splits = tiny_imagenet.load(path.parents[1], size=2)
    assert len(splits.test) <= 3


def annotation_seeds(folder: Path) -> list[bytes]:
    """A table of three images in a tree of two classes."""
    picture = pictures("PNG", "RGB")[0]
    for name in ("train/n1/images/a", "train/n2/images/b", "val/images/a", "val/images/b", "val/images/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(picture)
    (folder / "wnids.txt").write_text("n1\nn2\n")
    lines = ["a.png\tn1\t0\t1\t2\t3", "b.png\tn2\t0\t1\t2\t3", "c.png\tn1\t0\t1\t2\t3"]
    return ["\n".join(lines).encode(), "\r\n".join(lines[::-1]).encode(), b"\xef\xbb\xbf" + lines[1].encode()]


# ONNX


def onnx_seeds(folder: Path) -> list[bytes]:
    return [onnx_models.network(batch).SerializeToString() for batch in ("N", 1)] + [
        onnx_models.mixture(opset).SerializeToString() for opset in (9, 17)
    ]


def mutate_onnx(rng: random.Random, data: bytes) -> bytes:
    return m.mutate_bytes(rng, data) if rng.random() < 0.3 else onnx_models.mutated(rng, data)


def read_onnx(path: Path) -> None:
    """A graph that loads must run, or say why not; not where its inputs would be large."""
    graph = onnx.load(path, limits=Limits(peak=2**24))
    shapes = [tuple(n if isinstance(n, int) else 1 for n in value.shape or ()) for value in graph.inputs]
    if sum(np.prod(shape, dtype=float) for shape in shapes) < 1e5:
        graph.run(*(np.ones(shape, value.dtype) for shape, value in zip(shapes, graph.inputs, strict=True)))


FORMATS = {
    "cifar": Format(
        "data_batch_1",
        batch_seeds,
        mutate_batch,
        lambda path: cifar.read_batch(path.read_bytes(), "x"),
        lambda data: data[:1] == b"\x80" and 2 <= data[1] <= 4,
    ),
    "cifar_tar": Format("cifar.tar.gz", archive_seeds, m.mutate_tar, cifar.load, m.is_gzip),
    "wnids": Format(
        "wnids.txt", lambda folder: [b"n1\nn2", b"a.b\r\n\r\nc-d\r\n"], m.mutate_bytes, tiny_imagenet.read_wnids, bool
    ),
    "annotations": Format("val/val_annotations.txt", annotation_seeds, m.mutate_bytes, read_annotations, bool),
    "idx": Format("images", idx_seeds, m.mutate_idx, read_as_idx, m.is_idx),
    "idx_gz": Format("images", gzip_seeds, m.mutate_gzip, read_as_idx, m.is_gzip),
    "model": Format("model.safetensors", model_seeds, m.mutate_tensors, read_model, has_its_digest),
    "checkpoint": Format(CHECKPOINT, checkpoint_seeds, m.mutate_tensors, read_checkpoint, has_its_digest),
    "recipe": Format("mine.toml", toml_seeds, mutate_toml, lambda path: use_recipe(recipes.load(str(path))), is_toml),
    "record": Format("recipe.json", record_seeds, m.mutate_json, read_record, m.is_json),
    "json": Format("meta.json", json_seeds, m.mutate_json, read_json, m.is_json),
    "png": Format("picture", png_seeds, m.mutate_png, read_picture, m.is_png),
    "jpeg": Format("picture", jpeg_seeds, m.mutate_jpeg, read_picture, m.is_jpeg),
    "onnx": Format("model.onnx", onnx_seeds, mutate_onnx, read_onnx, onnx_models.is_sound),
    "bitmap": Format("picture", bitmap_seeds, m.mutate_bytes, read_picture, lambda data: data[:1] in (b"B", b"P")),
}


# Readers with a mistake, which the fuzzer has to find


def lets_a_key_error_through(path: Path) -> None:
    try:
        load(path)
    except StridenetError as error:
        if "class names" in str(error):
            raise KeyError("classes") from None
        raise


def says_it_in_two_lines(path: Path) -> None:
    try:
        load(path)
    except StridenetError as error:
        raise StridenetError(f"{path}:\n{error}") from None


def never_ends(path: Path) -> None:
    try:
        load(path)
    except StridenetError as error:
        while "framing" in str(error):
            pass
        raise


def takes_memory(path: Path) -> None:
    try:
        load(path)
    except StridenetError as error:
        if "image_shape" in str(error):
            len(b"x" * 2**27)
        raise


def dies(path: Path) -> None:
    import os

    try:
        load(path)
    except StridenetError as error:
        if "framing" in str(error):
            os.abort()
        raise


PLANTED = {
    "KeyError": lets_a_key_error_through,
    "more than one printable line": says_it_in_two_lines,
    "Hang": never_ends,
    "MiB of memory": takes_memory,
    "died": dies,
}
