from __future__ import annotations

import gzip
import io
import os
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from stridenet.data import images
from stridenet.data.dataset import Dataset
from stridenet.data.images import Framing, fit_image, read_image
from stridenet.errors import ConfigError, DataError, DataLimitError, ImageError, ShapeError
from stridenet.layout import Array

MNIST = Framing(0.0, 20 / 28)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pixels(rows: int, columns: int, value: int = 7) -> bytes:
    return chunk(b"IDAT", zlib.compress((b"\0" + bytes([value]) * columns) * rows, 9))


END = chunk(b"IEND", b"")
GREY = png(header(3, 2), pixels(2, 3), END)


def encoded(array: Array, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(size: int = 32) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    return encoded(noise, "JPEG", progressive=True)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], Path]:
    def store(data: bytes) -> Path:
        (tmp_path / "picture.png").write_bytes(data)
        return tmp_path / "picture.png"

    return store


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_give_the_pixels(kind: str, channels: Any, stored: Callable[[bytes], Path]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    read = read_image(stored(encoded(grey, kind)), channels=channels)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, np.stack([grey] * channels))


def test_colour_keeps_its_order_and_becomes_grey_by_luma(stored: Callable[[bytes], Path]) -> None:
    path = stored(encoded(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)))
    np.testing.assert_array_equal(read_image(path, channels=3)[:, 0], 255 * np.eye(3, dtype=np.uint8))
    np.testing.assert_array_equal(read_image(path, channels=1)[0, 0], [76, 150, 29])  # 0.299 R + 0.587 G + 0.114 B


def test_jpeg_and_cmyk(stored: Callable[[bytes], Path]) -> None:
    colour = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    for mode in (None, "CMYK"):
        read = read_image(stored(encoded(colour, "JPEG", mode, quality=95)), channels=3)
        assert np.abs(read[:, 8, 8].astype(int) - colour[8, 8]).max() <= 4, mode


def test_transparency_is_laid_on_white(stored: Callable[[bytes], Path]) -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 127]]], np.uint8)
    np.testing.assert_array_equal(read_image(stored(encoded(rgba)), channels=1)[0, 0], [255, 0, 128])
    la = encoded(rgba[..., [0, 3]])
    np.testing.assert_array_equal(read_image(stored(la), channels=1)[0, 0], [255, 0, 128])
    grey_with_key = encoded(np.array([[10, 20]], np.uint8), transparency=10)
    np.testing.assert_array_equal(read_image(stored(grey_with_key), channels=3)[:, 0, 0], [255] * 3)


def test_palettes(stored: Callable[[bytes], Path]) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([1, 0])
    for options in ({}, {"transparency": b"\xff\x00"}):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        read = read_image(stored(buffer.getvalue()), channels=3)
        np.testing.assert_array_equal(read[:, 0, 1], [10, 20, 30])
        np.testing.assert_array_equal(read[:, 0, 0], [255] * 3 if options else [200, 100, 0])


def test_sixteen_bits_are_cut_to_eight_and_one_bit_is_black_or_white(stored: Callable[[bytes], Path]) -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(read_image(stored(encoded(deep)), channels=1)[0, 0], [0, 1, 128, 255])
    pgm = b"P5 4 1 65535 " + deep.astype(">u2").tobytes()
    np.testing.assert_array_equal(read_image(stored(pgm), channels=3)[2, 0], [0, 1, 128, 255])
    flat = encoded(np.array([[0, 255]], np.uint8), mode="1")
    np.testing.assert_array_equal(read_image(stored(flat), channels=1)[0, 0], [0, 255])


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 9), (17, 8)])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_interlaced_png(mode: str, shape: tuple[int, int], stored: Callable[[bytes], Path]) -> None:
    """Adam7 by hand, as Pillow writes none: the pixels of the seven passes, one after the other."""
    rows, columns = shape
    picture = np.random.default_rng(0).integers(0, 2, (rows, columns, 3 if mode == "RGB" else 1), dtype=np.uint8) * 255
    data = b""
    for each in ("0088", "0488", "4084", "0244", "2042", "0122", "1021"):
        top, left, down, right = map(int, each)
        for row in picture[top::down, left::right]:
            if row.size:
                data += b"\0" + (np.packbits(row > 0) if mode == "1" else row).tobytes()
    head = struct.pack(">IIBBBBB", columns, rows, 1 if mode == "1" else 8, 2 if mode == "RGB" else 0, 0, 0, 1)
    path = stored(png(chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), END))
    expected = np.broadcast_to(picture, (rows, columns, 3)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(path, channels=3), expected)


def test_exif_orientation_is_applied(stored: Callable[[bytes], Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    sideways = np.zeros((8, 16), np.uint8)
    sideways[:, 8:] = 255
    read = read_image(stored(encoded(sideways, "JPEG", exif=exif.tobytes())), channels=1)
    assert read.shape == (1, 16, 8)
    assert read[0, 12:].min() > 200
    assert read[0, :4].max() < 50


HOSTILE_PNG = {
    "bad signature": b"\x89PNX" + GREY[4:],
    "bad IHDR CRC": GREY[:29] + b"\0\0\0\0" + GREY[33:],
    "zero width": png(header(0, 2), pixels(2, 0), END),
    "huge height": png(header(1, 2**31 + 5), pixels(2, 1), END),
    "depth 3": png(header(3, 2, depth=3), pixels(2, 3), END),
    "colour type 5": png(header(3, 2, colour=5), pixels(2, 3), END),
    "no IDAT": png(header(3, 2), END),
    "no IEND": png(header(3, 2), pixels(2, 3)),
    "two IHDR": png(header(3, 2), header(3, 2), pixels(2, 3), END),
    "no IHDR": png(pixels(2, 3), END),
    "IDAT too short": png(header(3, 2), pixels(1, 3), END),
    "IDAT too long": png(header(3, 2), pixels(3, 3), END),
    "IDAT without its end": png(header(3, 2), chunk(b"IDAT", zlib.compress(b"\0\1\2\3" * 2)[:-4]), END),
    "IHDR of 5 bytes": png(chunk(b"IHDR", bytes(5)), pixels(2, 3), END),
    "IDAT bomb": png(header(3, 2), chunk(b"IDAT", zlib.compress(bytes(100_000_000), 9)), END),
    "IDAT no zlib": png(header(3, 2), chunk(b"IDAT", b"not zlib"), END),
    "zTXt bomb": png(header(3, 2), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000), 9)), pixels(2, 3), END),
    "iCCP bomb": png(header(3, 2), chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(100_000_000), 9)), pixels(2, 3), END),
    "animated": png(header(3, 2), chunk(b"acTL", struct.pack(">II", 2, 0)), pixels(2, 3), END),
    "cut": GREY[:-20],
    "signature only": GREY[:8],
    "empty": b"",
    "100 000 chunks": png(header(3, 2), pixels(2, 3), chunk(b"tEXt", b"k\0") * 100_000, END),
}
JPEG = jpeg()
HOSTILE_JPEG = {
    "start only": b"\xff\xd8",
    "half": JPEG[: len(JPEG) // 2],
    "cut header": JPEG[:30],
    "no end": JPEG[:-40],
    "many scans": JPEG + b"\xff\xda" * 200,
    "ends early": JPEG.replace(b"\x08\x00\x20\x00\x20", b"\x08\x10\x00\x10\x00", 1),
    "65535 x 65535": JPEG.replace(b"\x08\x00\x20\x00\x20", b"\x08\xff\xff\xff\xff", 1),
}


@pytest.mark.promise("F02")
@pytest.mark.parametrize("name", HOSTILE_PNG)
def test_hostile_png(name: str, stored: Callable[[bytes], Path]) -> None:
    with pytest.raises((ImageError, DataLimitError), match=r"picture\.png: .*"):
        read_image(stored(HOSTILE_PNG[name]), channels=1)


@pytest.mark.promise("F03")
@pytest.mark.parametrize("name", HOSTILE_JPEG)
def test_hostile_jpeg(name: str, stored: Callable[[bytes], Path]) -> None:
    with pytest.raises((ImageError, DataLimitError), match=r"picture\.png: .*"):
        read_image(stored(HOSTILE_JPEG[name]), channels=3)


@pytest.mark.promise("F03")
def test_whole_files_of_the_same_makers_are_read(stored: Callable[[bytes], Path]) -> None:
    assert read_image(stored(GREY), channels=1).tolist() == [[[7] * 3] * 2]
    assert read_image(stored(JPEG), channels=1).shape == (1, 32, 32)


@pytest.mark.promise("F3")
@pytest.mark.parametrize("side", [9000, 13_000])
def test_png_bombs_are_refused_before_decoding(side: int, stored: Callable[[bytes], Path], monkeypatch: Any) -> None:
    data = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    bomb = stored(png(header(side, side, depth=1), chunk(b"IDAT", data), END))
    assert bomb.stat().st_size < 30_000
    monkeypatch.setattr(images, "_decode", lambda *_: pytest.fail("Pillow saw the bomb"))
    with pytest.raises(DataLimitError, match=f"{side} x {side}; make the picture smaller") as caught:
        read_image(bomb, channels=1)
    assert (caught.value.limit, caught.value.value) == (64_000_000, side**2)


@pytest.mark.promise("F3")
@pytest.mark.parametrize("side", [9000, 10_000, 20_000])
def test_other_formats_have_the_same_limit(side: int, stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(DataLimitError, match="at most 64000000 pixels"):
        read_image(stored(b"P5 %d %d 255 " % (side, side)), channels=1)


@pytest.mark.promise("F3")
def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(DataLimitError):
        read_image(path, channels=1)


REFUSED = {
    "GIF": b"GIF89a" + bytes(20),
    "TIFF": b"II*\0" + bytes(20),
    "WEBP": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(20),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(20),
    "HEIF": b"\0\0\0\x20ftypheic" + bytes(20),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "PSD": b"8BPS\0\1" + bytes(20),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PDF": b"%PDF-1.7\n",
    "FITS": b"SIMPLE  =                    T" + bytes(20),
    "ICNS": b"icns" + bytes(20),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


@pytest.mark.promise("F04")
@pytest.mark.parametrize("name", REFUSED)
def test_other_formats_are_refused_by_name(name: str, stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(ImageError, match=rf"picture\.png: format {name} is not allowed; save the picture as PNG"):
        read_image(stored(REFUSED[name]), channels=1)


@pytest.mark.promise("F04")
def test_a_format_without_a_name_is_refused_too(stored: Callable[[bytes], Path]) -> None:
    for kind in ("TGA", "ICO", "PCX", "SGI"):
        with pytest.raises(ImageError, match="expected a PNG, JPEG, BMP or PPM picture"):
            read_image(stored(encoded(np.zeros((16, 16), np.uint8), kind)), channels=1)


def test_only_regular_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png", channels=1)
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path, channels=1)
    with pytest.raises(ConfigError, match="channels 1 or 3, got 4"):
        read_image(tmp_path, channels=4)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "x.png")
    started = time.monotonic()
    with pytest.raises(DataError):
        read_image(tmp_path / "x.png", channels=1)
    assert time.monotonic() - started < 10  # a hang guard


def test_names_are_printed_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m.png"
    path.write_bytes(b"nonsense")
    with pytest.raises(ImageError) as caught:
        read_image(path, channels=1)
    assert "\x1b" not in str(caught.value)
    assert r"\x1b[31m.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pillow_keeps_its_strictness(stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(ImageError):
        read_image(stored(HOSTILE_JPEG["half"]), channels=1)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        read_image(stored(GREY), channels=1)
    assert not seen


# Framing


def stroke(size: int = 28, box: tuple[int, int, int, int] = (4, 24, 10, 18)) -> Array:
    """An L of full ink that fills `box` (top, bottom, left, right), as a plane of 0..255."""
    top, bottom, left, right = box
    plane = np.zeros((size, size), np.uint8)
    plane[top:bottom, left : left + 3] = 255
    plane[bottom - 3 : bottom, left:right] = 255
    return plane


@pytest.mark.parametrize("scale", [1, 255])
def test_framing_is_found_for_light_and_for_dark_ink(scale: int) -> None:
    light = np.stack([stroke(), stroke(box=(3, 23, 5, 16)), stroke(box=(6, 26, 6, 16))])[:, np.newaxis]
    for batch, background in ((light, 0.0), (255 - light, 1.0)):
        batch = batch if scale == 255 else (batch / 255).astype(np.float32)
        framing = Framing.fit(batch)
        assert framing == Framing(background, pytest.approx(20 / 28))
        assert Framing.from_spec(framing.spec()) == framing


def test_no_framing_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    assert Framing.fit(rng.integers(0, 256, (50, 1, 32, 32), dtype=np.uint8)) is None  # borders vary
    assert Framing.fit(np.zeros((50, 3, 32, 32), np.uint8)) is None  # colour
    assert Framing.fit(np.zeros((50, 1, 8, 8), np.float32)) is None  # no ink
    assert Framing.fit(np.full((50, 1, 8, 8), 0.5)) is None  # neither dark nor light
    assert Framing.fit(np.zeros((0, 1, 8, 8))) is None


@pytest.mark.parametrize("spec", [{}, {"background": 0.0}, {"background": 0.0, "extent": 2.0}, {"extent": "1"}])
def test_bad_specs(spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Framing: expected"):
        Framing.from_spec(spec)


@pytest.mark.parametrize("background", [0.0, 1.0])
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("shape", [(28, 28), (40, 30), (1, 1), (1, 200), (700, 600)])
def test_a_plain_picture_gives_plain_background(background: float, value: int, shape: tuple[int, int]) -> None:
    result = fit_image(np.full((1, *shape), value, np.uint8), (28, 28), Framing(background, 0.7))
    np.testing.assert_array_equal(result, np.full((1, 28, 28), background, np.float32))
    assert result.dtype == np.float32


def test_a_picture_of_the_size_keeps_its_pixels() -> None:
    image = stroke()[np.newaxis]
    for framing in (MNIST, None):
        np.testing.assert_array_equal(fit_image(image, (28, 28), framing), image.astype(np.float32) / 255)
    np.testing.assert_array_equal(fit_image(255 - image, (28, 28), MNIST), image.astype(np.float32) / 255)
    dark = fit_image(image, (28, 28), Framing(1.0, 0.7))
    np.testing.assert_array_equal(dark, (255 - image).astype(np.float32) / 255)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 36)])
def test_ink_is_scaled_centred_and_full(size: tuple[int, int]) -> None:
    page = np.full((300, 400), 230, np.uint8)
    page[200:280, 310:390] = np.where(np.kron(stroke(20, (0, 20, 0, 20)), np.ones((4, 4))) > 0, 60, 230)
    result = fit_image(page[np.newaxis], size, MNIST)[0]
    assert result.max() == 1
    assert (result[[0, -1]] == 0).all()
    rows, columns = np.nonzero(result > 0.3)
    assert max(np.ptp(rows) + 1, np.ptp(columns) + 1) == round(min(size) * 20 / 28)
    for axis, length in enumerate(size):
        centre = np.average(np.arange(length), weights=result.sum(axis=1 - axis))
        assert abs(centre - length / 2) <= 0.5
    assert result[rows.min() + 2, columns.max() - 2] == 0  # an L, not its mirror image
    assert result[rows.max() - 1, columns.max() - 2] > 0.9


def test_specks_and_grey_paper_do_not_mislead() -> None:
    rng = np.random.default_rng(0)
    page = np.full((300, 300), 120.0)  # nearer to black than to white, and the ink is darker
    page[100:200, 140:160] = 20
    page += 60 * np.linspace(0, 1, 300) + rng.normal(0, 4, (300, 300))
    clean = fit_image(page.astype(np.uint8)[np.newaxis], (28, 28), MNIST)[0]
    page[10, 10] = 0
    specked = fit_image(page.astype(np.uint8)[np.newaxis], (28, 28), MNIST)[0]
    for result in (clean, specked):
        rows, columns = np.nonzero(result > 0.5)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 4)
        assert result[:, :8].max() < 0.1


def test_without_framing_the_middle_is_kept() -> None:
    wide = np.zeros((3, 20, 60), np.uint8)
    wide[:, :, 20:40] = np.array([255, 128, 0]).reshape(3, 1, 1)
    for image in (wide, wide.transpose(0, 2, 1)):
        result = fit_image(np.ascontiguousarray(image), (10, 10), None)
        assert result.dtype == np.float32
        for plane, value in zip(result, (1.0, 128 / 255, 0.0), strict=True):
            np.testing.assert_allclose(plane[1:-1, 1:-1], value, rtol=1e-6)
    tall = fit_image(wide[:, :, 20:40], (10, 40), None)  # enlarged, cut above and below
    np.testing.assert_allclose(tall[1], 128 / 255, rtol=1e-6)


def test_shrinking_averages() -> None:
    stripes = np.zeros((1, 200, 200), np.uint8)
    stripes[:, :, ::2] = 255
    assert np.abs(fit_image(stripes, (20, 20), None) - 0.5).max() < 0.05  # a sample of every tenth would be 0 or 1


def test_fit_image_refuses() -> None:
    for image, framing in (
        (np.zeros((28, 28), np.uint8), None),
        (np.zeros((1, 0, 3), np.uint8), None),
        (np.zeros((1, 3, 3), np.float32), None),
        (np.zeros((3, 28, 28), np.uint8), MNIST),
    ):
        with pytest.raises(ShapeError, match="fit_image: expected a picture uint8"):
            fit_image(image, (28, 28), framing)


# Photos of MNIST digits


@pytest.fixture(scope="module")
def digits(mnist_folder: Path) -> Array:
    payload = gzip.decompress((mnist_folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(payload, np.uint8, offset=16).reshape(-1, 28, 28)[:500]


def page(digit: Array, factor: int, top: int, left: int, paper: float = 255, ink: float = 0) -> Array:
    """A digit enlarged by `factor`, drawn with ink on a sheet of 300 x 400 paper, its top left corner there."""
    large = Image.fromarray(digit).resize((28 * factor, 28 * factor), Image.Resampling.BICUBIC)
    mask = np.zeros((300, 400))
    mask[top : top + 28 * factor, left : left + 28 * factor] = np.asarray(large) / 255
    return paper * (1 - mask) + ink * mask


def photo(digit: Array) -> Array:
    light = np.linspace(1.0, 0.7, 400) * np.linspace(1.0, 0.85, 300)[:, np.newaxis]
    noise = np.random.default_rng(0).normal(0, 6, (300, 400))
    return page(digit, 6, 30, 200, paper=210, ink=70) * light + noise


VIEWS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "as it is": (lambda digit: digit, 1.0),
    "inverted": (lambda digit: 255 - digit, 1.0),
    "with a margin": (lambda digit: np.pad(digit, 6), 0.93),
    "ten times as large, black on white": (lambda digit: page(digit, 10, 10, 60), 0.9),
    "small, off centre": (lambda digit: page(digit, 3, 5, 300), 0.9),
    "chalk on a blackboard": (lambda digit: page(digit, 8, 40, 90, paper=50, ink=230), 0.9),
    "in uneven light, with noise": (photo, 0.87),
}


def test_threads_that_read_pictures_leave_the_warning_filters_alone(stored: Callable[[bytes], Path]) -> None:
    """The filters are those of the process: whoever restores them in the wrong order leaves "error" behind."""
    path = stored(encoded(np.zeros((300, 300), np.uint8)))

    def work(_: int) -> None:
        for _ in range(100):
            read_image(path, channels=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest's own filter is "error", which would hide another one
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_digit_comes_back(view: str, kind: str, digits: Array, tmp_path: Path) -> None:
    framing = Framing.fit(digits[:, np.newaxis])
    assert framing == Framing(0.0, pytest.approx(20 / 28))
    make, least = VIEWS[view]
    similarities: list[float] = []
    for digit in digits[:50]:
        path = tmp_path / "digit"
        path.write_bytes(encoded(make(digit).clip(0, 255).astype(np.uint8), kind, quality=90))
        result = fit_image(read_image(path, channels=1), (28, 28), framing)
        assert result.shape == (1, 28, 28)
        assert result.min() >= 0
        assert result.max() <= 1
        assert np.median(result) < 0.2  # light ink on a dark ground
        similarities.append(float(np.corrcoef(result.ravel(), digit.ravel())[0, 1]))
    assert round(float(np.mean(similarities)), 9) >= (least if kind == "PNG" else least - 0.02)


def test_framing_is_fitted_on_an_array() -> None:
    dataset = Dataset(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), ("a", "b"))
    with pytest.raises(DataError, match=r"Framing\.fit: expected an array of images, got .*; use dataset\.images"):
        Framing.fit(dataset)  # pyright: ignore[reportArgumentType]
