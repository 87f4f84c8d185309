"""The file that stridenet writes for a model, beside the model."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import venv
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fuzz.mutations import mutate_png
from helpers import drawn, normwise
from networks import CASES, lively
from stridenet import cli
from stridenet.data.catalogue import open_data
from stridenet.data.idx import read_idx
from stridenet.data.images import Framing
from stridenet.data.transforms import Normalize, Pad, Pipeline, Resize, SubtractMean, Transform
from stridenet.errors import DataError, UnsupportedModelError
from stridenet.interop import predictor_pictures
from stridenet.interop.predictor import export_predictor, predictor_source
from stridenet.interop.predictor_pictures import read_png, shrink
from stridenet.layout import Array
from stridenet.model import Model, load
from stridenet.nn import layers as L
from stridenet.nn.rebuild import KINDS
from stridenet.nn.sequential import Sequential
from stridenet.zoo.models import MODELS

DIGITS = tuple("0123456789")


def exported(model: Model, path: Path) -> Any:
    """The module that `export_predictor` makes of a model."""
    export_predictor(model, path, overwrite=True)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(classes: tuple[str, ...] = ("a", "b"), **options: Any) -> Model:
    network = Sequential(L.Flatten(), L.Linear(64, len(classes), rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    return Model(network, classes, (1, 8, 8), **options)


# Networks


@pytest.mark.big
@pytest.mark.parametrize(
    "name", [n if n != "cifar_convnet" else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_the_networks_of_the_zoo(name: str, tmp_path: Path) -> None:
    network = MODELS[name](rng=np.random.default_rng(0))
    if name != "lenet5_1998":
        lively(network)
    model = Model(network, DIGITS, network.input_shape)
    images = np.random.default_rng(1).integers(0, 256, (9, *network.input_shape), np.uint8)
    module = exported(model, tmp_path / "p.py")
    assert normwise(module.scores(images), model.scores(images)) < 1e-5
    assert np.array_equal(module.predict(images), model.predict(images))
    assert np.abs(module.predict_proba(images) - model.predict_proba(images)).max() < 1e-5
    if name in ("lenet5", "pynet"):  # 44 426 and 61 706 parameters
        assert (tmp_path / "p.py").stat().st_size < 400_000


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_of_layer(kind: str, tmp_path: Path) -> None:
    shape = 3, 11, 10
    images = np.random.default_rng(2).random((5, *shape), np.float32)
    for layer in CASES[kind]:
        body = Sequential(L.Conv2d(3, 3, 1, rng=np.random.default_rng(3)), layer, L.Flatten(), input_shape=shape)
        (count,) = body.output_shape(shape)
        model = Model(lively(body), range(count), shape)
        module = exported(model, tmp_path / "p.py")
        assert normwise(module.scores(images), model.scores(images)) < 1e-5
        assert normwise(module.predict_proba(images), model.predict_proba(images)) < 1e-5


def test_no_kind_is_left_out() -> None:
    assert CASES.keys() - {"Residual"} == KINDS.keys()


class Strange(L.ReLU):
    """Not what stridenet means by it."""

    def forward(self, x: Array) -> Array:
        return super().forward(-x)


class Upside(Transform):
    name = "upside"

    def __call__(self, x: Array) -> Array:
        return x[:, :, ::-1]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


def test_what_the_file_has_not_is_refused_by_name(tmp_path: Path) -> None:
    network = Sequential(Strange(), L.Flatten(), input_shape=(1, 2, 1))
    with pytest.raises(UnsupportedModelError, match="expected layers of stridenet, got a Strange"):
        export_predictor(Model(network, ("a", "b"), (1, 2, 1)), tmp_path / "p.py")
    with pytest.raises(UnsupportedModelError, match=r"expected transforms of stridenet, got .*Upside"):
        export_predictor(small(transform=Pipeline([Upside()])), tmp_path / "p.py")
    assert list(tmp_path.iterdir()) == []


# Images


MEAN = np.random.default_rng(5).random((1, 12, 10))
PIPELINES = {
    "normalize": Pipeline([Normalize([0.1307], [0.3081])]),
    "mean image": Pipeline([Pad(((2, 2), (1, 1)), value=0.25), SubtractMean(MEAN), Resize(8)]),
    "resize": Pipeline([Resize((5, 13)), Pad(1), Resize(8), Normalize([0.5], [0.2])]),
    "none": Pipeline(),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_transforms_and_the_ways_to_give_images(name: str, tmp_path: Path) -> None:
    model = small(transform=PIPELINES[name])
    module = exported(model, tmp_path / "p.py")
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), np.uint8)
    for given in (images, images[:, 0], images[0], images[0, 0], images / 255, images[:0], images[:, 0].tolist()):
        if isinstance(given, list):
            given = np.array(given, np.uint8)[::-1]
        found, wanted = module.scores(given), model.scores(given)
        assert found.dtype == np.float32
        assert normwise(found, wanted) < 1e-5
        assert module.predict(given).dtype == np.int64
    other = np.random.default_rng(1).random((3, 9, 17))
    if name == "resize":
        assert normwise(module.scores(other), model.scores(other)) < 1e-5
    else:
        with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, 8, 8\), got \(3, 9, 17\)"):
            module.scores(other)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 64)), "shape"),
        (np.zeros((2, 3, 8, 8)), "shape"),
        (np.zeros((2, 8, 8), np.int64), "uint8, or float"),
        (np.full((8, 8), 255.0), r"0\.\.1, got 255 to 255"),
        (np.full((8, 8), np.nan), r"0\.\.1"),
        ("digit.png", "path"),
    ],
)
def test_other_images_are_refused(images: Any, message: str, tmp_path: Path) -> None:
    module = exported(small(), tmp_path / "p.py")
    with pytest.raises(ValueError, match=message):
        module.predict(images)


# Picture files


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encoded(pixels: Array, colour: int, filters: Callable[[int], int] = lambda row: row % 5, **extra: bytes) -> bytes:
    """Pixels (H, W, C) as a PNG whose rows have the filters that are asked for."""
    height, width, channels = pixels.shape
    raw = np.zeros((height + 1, width + 1, channels), np.int64)
    raw[1:, 1:] = pixels
    left, above, corner = raw[1:, :-1], raw[:-1, 1:], raw[:-1, :-1]
    nearest = np.argmin(np.abs(np.stack([left, above, corner]) - (left + above - corner)), axis=0)
    guesses = [0 * left, left, above, (left + above) // 2, np.choose(nearest, [left, above, corner])]
    rows = [
        bytes([filters(i)]) + ((pixels[i] - guesses[filters(i)][i]) % 256).astype(np.uint8).tobytes()
        for i in range(height)
    ]
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))]
    parts += [chunk(kind.encode(), data) for kind, data in extra.items()]
    data = zlib.compress(b"".join(rows))
    parts += [chunk(b"IDAT", data[i : i + 1000]) for i in range(0, len(data), 1000)]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IEND", b"")])


def as_pillow(path: Path, channels: int) -> Array:
    from stridenet.data.images import read_image

    return read_image(path, channels=channels)  # pyright: ignore[reportArgumentType]


def smooth(height: int, width: int, channels: int) -> Array:
    """Pixels that rise and fall, so that no filter is like another, with some noise."""
    rng = np.random.default_rng(height)
    waves = np.sin(np.arange(height)[:, None, None] / 3 + np.arange(width)[:, None] / 5 + np.arange(channels))
    return np.clip(128 + 130 * waves + rng.integers(-9, 9, waves.shape), 0, 255).astype(np.uint8)


PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8).tobytes()


@pytest.mark.parametrize("filters", [*range(5), "all"])
@pytest.mark.parametrize(
    ("colour", "count", "extra"),
    [
        (0, 1, {}),
        (0, 1, {"tRNS": b"\0\x80"}),
        (2, 3, {}),
        (2, 3, {"tRNS": b"\0\x80\0\x81\0\x82"}),
        (3, 1, {"PLTE": PALETTE}),
        (3, 1, {"PLTE": PALETTE, "tRNS": bytes(range(0, 200, 3))}),
        (4, 2, {}),
        (6, 4, {}),
    ],
)
def test_pictures_are_read_as_pillow_reads_them(
    colour: int, count: int, extra: dict[str, bytes], filters: Any, tmp_path: Path
) -> None:
    for height, width in ((1, 1), (23, 17), (6, 31)):
        pixels = smooth(height, width, count)
        pixels[0, 0, : min(count, 3)] = range(0x80, 0x80 + min(count, 3))
        path = tmp_path / "p.png"
        rows = (lambda row: row % 5) if filters == "all" else (lambda row: filters)
        path.write_bytes(encoded(pixels, colour, rows, **extra))
        for channels in (1, 3):
            assert np.array_equal(read_png(path, channels), as_pillow(path, channels))


def test_every_opacity_and_every_gray(tmp_path: Path) -> None:
    pixels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).astype(np.uint8)
    (tmp_path / "p.png").write_bytes(encoded(pixels, 4))
    assert np.array_equal(read_png(tmp_path / "p.png", 1), as_pillow(tmp_path / "p.png", 1))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_sizes_change_as_in_pillow(kind: type) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width, rows, columns = map(int, rng.integers(1, 60, 4))
        plane = rng.integers(0, 256, (height, width)).astype(kind) / (1 if kind is np.uint8 else 255)
        plane = plane.astype(kind)
        top, left = rng.random() * height / 2, rng.random() * width / 2
        boxes = [(0, 0, width, height), (left, top, width - left / 2, height - top / 3)]
        for box in boxes:
            wanted = np.asarray(Image.fromarray(plane).resize((columns, rows), Image.Resampling.BILINEAR, box))
            found = shrink(plane, (rows, columns), box)
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if kind is np.uint8 else 2e-7)


FRAMINGS = [None, Framing(0.0, 20 / 28), Framing(1.0, 0.9), Framing(0.02, 0.5)]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_picture_becomes_the_image_that_the_model_reads(framing: Framing | None, tmp_path: Path) -> None:
    network = Sequential(L.Flatten(), L.Linear(28 * 26, 10, rng=np.random.default_rng(0)), input_shape=(1, 28, 26))
    model = Model(network, DIGITS, (1, 28, 26), framing=framing)
    module, rng = exported(model, tmp_path / "p.py"), np.random.default_rng(0)
    sizes = [(28, 26), (60, 40), (31, 90), (12, 11), (700, 530)]
    for size, (ink, paper) in product(sizes, [(20, 240), (250, 5), (90, 96)]):
        Image.fromarray(drawn(rng, size, ink, paper)).save(tmp_path / "p.png")
        found, wanted = module.read(tmp_path / "p.png"), model.read(tmp_path / "p.png")
        assert (found.dtype, found.shape) == (np.float32, (1, 1, 28, 26))
        assert np.abs(found - wanted).max() < 1e-6
    Image.new("L", (40, 40), 9).save(tmp_path / "p.png")
    assert np.array_equal(module.read(tmp_path / "p.png"), model.read(tmp_path / "p.png"))


def test_colour_and_other_channels(tmp_path: Path) -> None:
    for channels in (3, 2):
        network = Sequential(
            L.Flatten(), L.Linear(64 * channels, 2, rng=np.random.default_rng(0)), input_shape=(channels, 8, 8)
        )
        model = Model(network, ("a", "b"), (channels, 8, 8))
        module = exported(model, tmp_path / "p.py")
        Image.fromarray(smooth(19, 33, 4)).save(tmp_path / "p.png")
        if channels == 3:
            assert np.array_equal(module.read(tmp_path / "p.png"), model.read(tmp_path / "p.png"))
        else:
            with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
                module.read(tmp_path / "p.png")


GRAY = encoded(smooth(9, 7, 1), 0)


def declared(width: int, height: int, depth: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(2**26), 9)) + chunk(b"IEND", b"")


REFUSED = {
    "16 bits": (declared(4, 4, 16), "8 bits .* got 16 bits"),
    "1 bit": (declared(4, 4, 1), "8 bits .* got 1 bits"),
    "interlaced": (declared(4, 4, interlaced=1), "interlacing 1"),
    "colour type 5": (declared(4, 4, colour=5), "colour type 5"),
    "no pixels": (declared(0, 4), "got 0 x 4"),
    "too many pixels": (declared(2**20, 2**20), "1 to 16777216 pixels"),
    "a thread": (declared(1, 2**24), "at most 16384 in a row, got 1 x 16777216"),  # each diagonal takes its time
    "a bomb": (declared(4, 4), "20 bytes of pixels, got another"),
    "cut": (GRAY[:-20], "cut or changed chunk"),
    "cut in a length": (GRAY[:-10], "cut or changed chunk"),
    "changed": (GRAY[:60] + bytes([GRAY[60] ^ 1]) + GRAY[61:], "cut or changed chunk"),
    "many chunks": (GRAY[:33] + chunk(b"tEXt", b"") * 100 + GRAY[33:], "one too many"),
    "another order": (GRAY[:8] + chunk(b"tEXt", b"") + GRAY[8:], "got another order"),
    "a short header": (GRAY[:8] + chunk(b"IHDR", b"1") + chunk(b"IEND", b""), "got another order"),
    "a palette behind the pixels": (
        GRAY[:33] + chunk(b"IDAT", b"") + chunk(b"PLTE", PALETTE) + GRAY[33:],
        "got another order",
    ),
    "two palettes": (
        encoded(smooth(9, 7, 1), 3, PLTE=PALETTE)[:-12] + chunk(b"PLTE", PALETTE) + chunk(b"IEND", b""),
        "order",
    ),
    "an animation": (GRAY[:33] + chunk(b"acTL", bytes(8)) + GRAY[33:], "animation"),
    "no data": (GRAY[:33] + chunk(b"IEND", b""), "72 bytes of pixels"),
    "no zlib data": (GRAY[:33] + chunk(b"IDAT", b"abc") + chunk(b"IEND", b""), "cannot be inflated"),
    "too few pixels": (GRAY[:33] + chunk(b"IDAT", zlib.compress(bytes(71))) + chunk(b"IEND", b""), "72 bytes"),
    "filter 5": (GRAY[:33] + chunk(b"IDAT", zlib.compress(b"\5" * 72)) + chunk(b"IEND", b""), "got 5"),
    "a short palette": (encoded(smooth(9, 7, 1), 3, PLTE=PALETTE[:9]), "palette of more than"),
    "no palette": (encoded(smooth(9, 7, 1), 3), "got 0"),
    "a short tRNS": (encoded(smooth(9, 7, 3), 2, tRNS=b"\0\1\0\2"), "one transparent colour"),
    "a JPEG": (b"\xff\xd8\xff\xe0", "got another kind"),
    "nothing": (b"", "got another kind"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_pictures_are_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, message = REFUSED[name]
    monkeypatch.setattr(predictor_pictures, "MAX_CHUNKS", 100)
    (tmp_path / "p.png").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as refused:
            read_png(tmp_path / "p.png", 1)
        assert tracemalloc.get_traced_memory()[1] < 2**24 + len(data)
    finally:
        tracemalloc.stop()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 30))])
def test_damaged_pictures_are_refused_or_read_as_pillow_reads_them(seed: int, tmp_path: Path) -> None:
    """What both read is the same; Pillow refuses more, such as ancillary chunks that are wrong."""
    rng, path, same = random.Random(seed), tmp_path / "p.png", 0
    seeds = [
        encoded(smooth(5, 7, count), colour, PLTE=PALETTE) for colour, count in ((0, 1), (2, 3), (3, 1), (4, 2), (6, 4))
    ]
    for _ in range(300):
        data = mutate_png(rng, rng.choice(seeds))
        path.write_bytes(data)
        try:
            found = read_png(path, 3)
        except ValueError as error:
            assert str(error).isprintable()  # noqa: PT017
            continue
        if b"eXIf" not in data:  # it may turn the picture
            with contextlib.suppress(DataError):
                assert np.array_equal(found, as_pillow(path, 3))
                same += 1
    assert same > 5


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "p.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="at most 67108864 bytes, got 1099511627776"):
        read_png(tmp_path / "p.png", 1)


def test_a_folder_a_pipe_and_nothing_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, got in (("pipe", "a folder or a device"), ("", "a folder or a device"), ("missing", "none")):
        with pytest.raises(ValueError, match=f"expected a PNG file, got {got}"):
            read_png(tmp_path / name, 1)


# The file


def test_equal_models_give_equal_bytes_and_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    export_predictor(small(), path)
    first = path.read_bytes()
    with pytest.raises(
        FileExistsError, match=r"p\.py: expected a path that is not there yet; overwrite=True replaces it$"
    ):
        export_predictor(small(("c", "d")), path)
    assert path.read_bytes() == first
    export_predictor(small(), path, overwrite=True)
    assert path.read_bytes() == first
    export_predictor(small(("c", "d")), path, overwrite=True)
    assert path.read_bytes() != first


def test_names_cannot_become_code(tmp_path: Path) -> None:
    names = ("'''\"\"\"); raise SystemExit #", "\\", "\x1b[31m\n", "\u202e", "{0!r}", "汉字", "\udc80")
    model = small(names, recipe={"name": '"\nraise SystemExit\n"'})
    module = exported(model, tmp_path / "p.py")
    assert names == module.CLASSES
    assert "stridenet" not in (tmp_path / "p.py").read_text("utf-8").partition("import")[2]


def test_the_code_is_that_of_the_package() -> None:
    """Nothing of the two parts is lost but what stands above the pictures and the empty model."""
    text, folder = predictor_source(small()), Path(export_predictor.__code__.co_filename).parent
    for part in ("predictor_template", "predictor_pictures"):
        missing = [line for line in (folder / f"{part}.py").read_text().splitlines() if line not in text]
        assert len(missing) <= 16
        assert not any(line.startswith(("def ", "    return")) for line in missing)
    assert all(len(line) <= 120 for line in text.splitlines())


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"numpy", "digits"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, ".")
"""


@pytest.mark.promise("A5")
def test_it_needs_numpy_alone(digits_run: Path, tmp_path: Path, child: Any) -> None:
    model, images = load(digits_run), open_data("digits").test.images
    export_predictor(model, tmp_path / "digits.py")
    np.save(tmp_path / "images.npy", images)
    code = "import numpy as np, digits; np.save('found', digits.predict_proba(np.load('images.npy')))"
    done = child(f"{BLOCKED}\n{code}\nassert not {{'PIL', 'stridenet', 'argparse'}} & sys.modules.keys()")
    assert (done.returncode, done.stderr) == (0, "")
    found, wanted = np.load(tmp_path / "found.npy"), model.predict_proba(images)
    assert len(images) > 300
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.slow
@pytest.mark.promise("A5")
def test_it_agrees_on_all_10_000_digits_in_an_environment_of_numpy(mnist_folder: Path, tmp_path: Path) -> None:
    """NumPy's own two folders are linked into a new environment; there is nothing else in it."""
    words = ["lenet5-mnist", "--data", str(mnist_folder), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert cli.run(["train", *words]) == 0
    model, images = load(tmp_path / "run"), read_idx(mnist_folder / "t10k-images-idx3-ubyte.gz")
    export_predictor(model, tmp_path / "digits.py")
    np.save(tmp_path / "images.npy", images)
    venv.create(tmp_path / "bare", with_pip=False)
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (site / folder.name).symlink_to(folder)
    code = "import numpy as np, digits; np.save('found', digits.predict_proba(np.load('images.npy')))"
    code += "\nimport importlib.util\nassert not importlib.util.find_spec('stridenet')"
    python = str(tmp_path / "bare" / "bin" / "python")
    subprocess.run([python, "-c", code], cwd=tmp_path, check=True, timeout=120)
    found, wanted = np.load(tmp_path / "found.npy"), model.predict_proba(images)
    assert len(images) == 10_000
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
    assert np.abs(found - wanted).max() < 1e-4


# The command


def command(path: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(path), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=path.parent, **options)


def test_the_command_prints_what_stridenet_predict_prints(
    digits_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_predictor(load(digits_run), tmp_path / "digits.py")
    images = open_data("digits").test.images
    pictures = [tmp_path / f"a digit {i}.png" for i in range(12)] + [tmp_path / "blank.png"]
    for i, path in enumerate(pictures[:-1]):
        pixels = np.pad(images[i, 0], 3)
        Image.fromarray(255 - pixels if i % 2 else pixels).resize((40 + 30 * i, 60 + 20 * i)).save(path)
    Image.new("L", (30, 20), 7).save(pictures[-1])
    done = command(tmp_path / "digits.py", *pictures)
    assert (done.returncode, done.stderr) == (0, "")
    assert cli.run(["predict", str(digits_run), *map(str, pictures)]) == 0
    assert capfd.readouterr().out == done.stdout
    assert done.stdout.count("\n") == 13
    assert "nothing to recognise" in done.stdout


def test_a_broken_picture_beside_others_and_wrong_usage(tmp_path: Path) -> None:
    program = tmp_path / "small.py"
    export_predictor(small(("first", "\x1b[31m")), program)
    Image.fromarray(smooth(8, 8, 1)[..., 0]).save(tmp_path / "a.png")
    (tmp_path / "b\n.png").write_text("Dear model,\n")
    done = command(program, "b\n.png", "a.png", "c.png")
    assert done.returncode == 1
    assert done.stdout.startswith("a.png    ")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert done.stderr.splitlines() == [
        "small.py: b\\n.png: expected a PNG file, got another kind",
        "small.py: c.png: expected a PNG file, got none",
    ]
    for words in ((), ("--json", "a.png"), ("-x",)):
        done = command(program, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: python small.py PICTURE.png ...\n")
        assert done.stderr.count("\n") == 2
    for word in ("-h", "--help"):
        done = command(program, "a.png", word)
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 classes, images of 1x8x8" in done.stdout


@pytest.mark.promise("L03")
def test_no_stream_makes_it_fail(tmp_path: Path) -> None:
    program = tmp_path / "small.py"
    export_predictor(small(("汉字", "é")), program)
    Image.fromarray(smooth(8, 8, 1)[..., 0]).save(tmp_path / "a.png")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "LANG": "C", "COLUMNS": "1"}
    done = command(program, "a.png", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6c49" in done.stdout
    for redirection in (">&-", ">&- 2>&-", "<&-", "| true"):
        line = f"'{sys.executable}' small.py {'a.png ' * 50} {redirection}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
