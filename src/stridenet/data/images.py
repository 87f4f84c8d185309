"""Picture files as arrays, and a photo of a drawn object framed as the model saw its training images."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stridenet.errors import ConfigError, DataError, DataLimitError, ImageError, ShapeError, printable, shown
from stridenet.files import read_regular
from stridenet.layout import Array
from stridenet.shapes import Pair, number

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "PPM")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
MAX_CHUNKS = 2**16  # of a PNG; an encoder writes one for every 8 KiB or more
MAX_SCANS = 100  # of a progressive JPEG, which is decoded once a scan; encoders write about ten
MAX_JPEG_SHARE = 1024  # pixels of a JPEG for each of its bytes; 8 x 8 of one tone take a bit at least, so 512 is real

MAX_SIDE = 512  # pixels in which ink is looked for; a larger photo is shrunk, which also averages its noise away
FAINT = 0.1  # of the range 0 to 1: weaker marks than this are paper

_FILTERS = threading.Lock()  # the filters of warnings are those of the process: one thread at a time changes them
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
# Only to name what was refused: (offset, first bytes, name).
_REFUSED = (
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIF"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "PSD"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"icns", "ICNS"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
)


def read_image(path: str | os.PathLike[str], *, channels: Literal[1, 3]) -> Array:
    """The picture in a PNG, JPEG, BMP or PPM file as uint8 (C, H, W), upright, grey or RGB as `channels` says.

    EXIF orientation is applied, transparency laid on white, 16 bits are cut to 8, colour becomes grey by the weights
    of ITU-R 601.

    Raises:
        ImageError: the file is not such a picture, or damaged.
        DataLimitError: it has more than 64 MiB, 64 million pixels or 100 scans.
        FileNotFoundError, PermissionError, IsADirectoryError: there is no file to read.
    """
    if channels not in (1, 3):
        raise ConfigError(f"read_image: expected channels 1 or 3, got {channels!r}")
    who, data = printable(path), read_regular(path, limit=MAX_BYTES)
    try:
        _check_bytes(who, data)
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("error")  # what Pillow only warns of is a damaged file
            return _decode(who, data, channels)
    except (ImageError, DataLimitError):
        raise
    except Exception as error:  # a decoder of hostile bytes raises anything, SyntaxError and struct.error included
        raise ImageError(f"{who}: expected a sound picture, got one that cannot be decoded; {_line(error)}") from error


def _check_bytes(who: str, data: bytes) -> None:
    for offset, start, name in _REFUSED:
        if data.startswith(start, offset):
            raise ImageError(f"{who}: format {name} is not allowed; save the picture as PNG or JPEG")
    if data.startswith(_PNG_SIGNATURE):
        _check_png(who, data)
    elif data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise DataLimitError(
            f"{who}: expected a JPEG of at most {MAX_SCANS} scans, got {scans}", limit=MAX_SCANS, value=scans
        )


def _check_png(who: str, data: bytes) -> None:
    """Walk the chunks before any decoder sees them: lengths, CRCs, order, the pixel limit, the amount of data."""
    chunks: list[tuple[bytes, bytes]] = []
    at = len(_PNG_SIGNATURE)
    while at < len(data) and not (chunks and chunks[-1][0] == b"IEND"):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ImageError(f"{who}: expected a whole PNG, got a cut or changed chunk {kind!r} at byte {at}")
        chunks.append((kind, data[at + 8 : end - 4]))
        at = end
        if len(chunks) > MAX_CHUNKS:
            raise DataLimitError(f"{who}: expected a PNG of at most {MAX_CHUNKS} chunks, got more", limit=MAX_CHUNKS)
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or kinds.count(b"IHDR") > 1 or kinds[-1] != b"IEND" or b"acTL" in kinds:
        raise ImageError(f"{who}: expected a PNG of one picture, from one IHDR to IEND, got {len(kinds)} other chunks")
    _check_png_data(who, chunks[0][1], [part for kind, part in chunks if kind == b"IDAT"])


def _check_png_data(who: str, header: bytes, parts: list[bytes]) -> None:
    """The pixel limit, and that the data inflate to the bytes of these pixels; Pillow would fill up with black."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    _check_pixels(who, width, height)
    expected = found = 0
    for top, left, down, right in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -((top - height) // down), -((left - width) // right)
        if rows > 0 and columns > 0:
            expected += rows * (1 + -(-columns * depth * _PNG_CHANNELS[colour] // 8))  # each with a filter byte
    inflater = zlib.decompressobj()
    for part in parts:
        rest = part
        while rest and found <= expected:
            found += len(inflater.decompress(rest, 2**24))
            rest = inflater.unconsumed_tail
    if found != expected or not inflater.eof:
        raise ImageError(f"{who}: expected a PNG with {expected} bytes of pixels, got another number")


def _check_pixels(who: str, width: int, height: int) -> None:
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise DataLimitError(
            f"{who}: expected at most {MAX_PIXELS} pixels, got {width} x {height}; make the picture smaller",
            limit=MAX_PIXELS,
            value=pixels,
        )


def _line(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


def _decode(who: str, data: bytes, channels: int) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{who}: expected a PNG, JPEG, BMP or PPM picture, got none that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataLimitError(
            f"{who}: expected at most {MAX_PIXELS} pixels; {_line(error)}", limit=MAX_PIXELS
        ) from error
    with image:
        _check_pixels(who, image.width, image.height)
        if image.format == "JPEG" and image.width * image.height > MAX_JPEG_SHARE * len(data):
            raise ValueError(f"{len(data)} bytes for {image.width} x {image.height} pixels; it is cut")
        image.load()  # a JPEG that ends early would be filled up with grey
        pixels = _eight_bits(ImageOps.exif_transpose(image), channels)  # (H, W) or (H, W, 3)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))  # (C, H, W)


def _eight_bits(image: Image.Image, channels: int) -> Array:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((deep // 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L" if channels == 1 else "RGB"))


@dataclass(frozen=True)
class Framing:
    """How one-channel training images show their object: on a plain background, filling a share of the side.

    `background` is the typical border pixel, 0 to 1. `extent` is the typical longer side of the box around the
    ink, as a share of the image's side: 20 of 28 in MNIST.
    """

    background: float
    extent: float

    @classmethod
    def fit(cls, images: Array) -> Framing | None:
        """The framing of images (N, 1, H, W), uint8 or float 0..1, from at most 500 of them evenly spaced.

        None when there is none to find: colour, no plain dark or light border, or nothing inside it.

        Raises:
            DataError: it is no array.
        """
        if not isinstance(images, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(f"Framing.fit: expected an array of images, got {shown(images)}; use dataset.images")
        if images.ndim != 4 or images.shape[1] != 1 or images.size == 0:
            return None
        sample = _unit(images[:: -(-len(images) // 500), 0])  # (N, H, W)
        border = np.concatenate([_ring(image) for image in sample])
        background = float(np.median(border))
        plain = float(np.mean(np.abs(border - background) < 0.1)) > 0.6
        if not plain or 0.25 < background < 0.75:
            return None
        boxes = [box for image in sample if (box := _ink_box(np.abs(image - background))) is not None]
        if not boxes:
            return None
        rows, columns = sample.shape[1:]
        sides = [max((bottom - top) / rows, (right - left) / columns) for top, bottom, left, right in boxes]
        return cls(background, float(np.median(sides)))

    def spec(self) -> dict[str, float]:
        """The two numbers, as a model file stores them."""
        return asdict(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Framing:
        """The framing that `spec()` gave.

        Raises:
            ConfigError: a key is missing or unknown, or a value is not in 0 to 1.
        """
        if set(spec) != {"background", "extent"}:
            raise ConfigError(f"Framing: expected the keys background and extent, got {sorted(map(str, spec))}")
        return cls(*(number("Framing", key, spec[key], low=0, high=1) for key in ("background", "extent")))


def fit_image(image: Array, size: Pair, framing: Framing | None) -> Array:
    """The picture uint8 (C, H, W) as float32 (C, *size) in 0..1, the way a model of that input size wants it.

    Without framing: the shorter side is scaled to size and the middle is kept. With framing (one channel): light and
    dark are swapped if the ink says so, and unless the picture has the size already, the ink is cut out, scaled to
    the extent, made full black or white, and laid on the background with its centre of mass in the middle, as MNIST
    was made (Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    1998). A picture without ink gives the background.

    Raises:
        ShapeError: the picture is not uint8 (C, H, W), or has several channels and a framing.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.size == 0 or (framing is not None and len(image) != 1):
        want = "(C, H, W)" if framing is None else "(1, H, W)"
        raise ShapeError(f"fit_image: expected a picture uint8 {want}, got {image.dtype} {image.shape}")
    if framing is not None:
        return _reframe(image[0], size, framing)[np.newaxis]
    return np.stack([_middle(plane, size) for plane in image])


def _unit(images: Array) -> Array:
    x = images.astype(np.float32)
    return x / 255 if images.dtype == np.uint8 else x


def _resize(plane: Array, size: Pair, box: tuple[float, float, float, float] | None = None) -> Array:
    """The box (left, top, right, bottom) of a plane (H, W) at a new size; shrinking averages, nothing aliases."""
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR, box))


def _middle(plane: Array, size: Pair) -> Array:
    rows, columns = plane.shape
    scale = min(rows / size[0], columns / size[1])  # pixels of the picture per pixel of the result
    height, width = scale * size[0], scale * size[1]
    top, left = (rows - height) / 2, (columns - width) / 2
    return _unit(_resize(plane, size, (left, top, left + width, top + height)))


def _ring(plane: Array) -> Array:
    """The border pixels of a plane (H, W), as one row."""
    return np.concatenate([plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]])


def _reframe(plane: Array, size: Pair, framing: Framing) -> Array:
    scale = min(1.0, MAX_SIDE / max(plane.shape))
    work = plane if scale == 1.0 else _resize(plane, (_scaled(plane.shape[0], scale), _scaled(plane.shape[1], scale)))
    contrast = _contrast(_unit(work))
    dark_ink = -contrast.min() > contrast.max()
    strength = -contrast if dark_ink else contrast
    box = _ink_box(strength)
    if box is None:
        return np.full(size, framing.background, np.float32)
    light_background = framing.background > 0.5
    if plane.shape == size:
        return _unit(plane if dark_ink == light_background else 255 - plane)
    ink = _centred(_scaled_ink(strength, box, size, framing.extent), size)  # 0 none to 1 full
    full = 0.0 if light_background else 1.0
    return framing.background + ink * (full - framing.background)


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def _contrast(plane: Array) -> Array:
    """How much lighter (> 0) or darker (< 0) than the paper each pixel of a plane (H, W) is.

    The paper is a linear gradient through the border pixels, by least squares; ink that touches the border is left
    out on the second and third pass.
    """
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in plane.shape)
    across = np.broadcast_to(rows[:, np.newaxis], plane.shape), np.broadcast_to(columns, plane.shape)
    border = _ring(plane)
    terms = np.stack([np.ones_like(border), _ring(across[0]), _ring(across[1])], axis=1)  # (pixels, 3)
    near = np.abs(border - np.median(border)) <= 0.5
    gradient = np.zeros(3, np.float32)
    for _ in range(3):
        gradient = np.linalg.lstsq(terms[near], border[near])[0]
        off = np.abs(border - terms @ gradient)
        near = off <= 3 * np.median(off) + 0.01
    return plane - (gradient[0] + gradient[1] * across[0] + gradient[2] * across[1])


def _ink_box(strength: Array) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of the ink in a plane (H, W); None if all of it is faint.

    Ink is what has at least 0.3 of the greatest strength. At each side 0.2 % of it is left out: specks.
    """
    strongest = float(strength.max())
    if strongest < FAINT:
        return None
    ink = np.where(strength >= 0.3 * strongest, strength, 0)
    return *_span(ink.sum(axis=1)), *_span(ink.sum(axis=0))


def _span(mass: Array) -> Pair:
    share = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(share, 0.002)), int(np.searchsorted(share, 0.998)) + 1


def _scaled_ink(strength: Array, box: tuple[int, int, int, int], size: Pair, extent: float) -> Array:
    """The ink in its box at the size that `extent` asks for, its strength stretched to 0..1."""
    top, bottom, left, right = box
    scale = extent * min(size[0] / (bottom - top), size[1] / (right - left))
    target = _scaled(bottom - top, scale), _scaled(right - left, scale)
    faint = 0.1 * float(strength.max())
    ink = _resize(np.maximum(strength - faint, 0), target, (left, top, right, bottom))
    return ink / ink.max()


def _centred(ink: Array, size: Pair) -> Array:
    """Ink (h, w) on an empty plane of `size`, its centre of mass on pixel size / 2 (14 in MNIST) as far as it fits."""
    canvas = np.zeros(size, np.float32)
    starts: list[int] = []
    masses: tuple[Array, Array] = ink.sum(axis=1), ink.sum(axis=0)
    for mass, room in zip(masses, size, strict=True):
        length = len(mass)
        centre = float(np.average(np.arange(length), weights=mass))
        starts.append(min(max(round(room / 2 - centre), 0), room - length))
    top, left = starts
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return canvas
