"""The part of a one-file predictor that turns a picture file into an image; NumPy and zlib do all.

It gives what `Model.read` gives, which reads and resizes with Pillow. `stridenet export` puts what stands below the
imports into the file that it writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Pair = tuple[int, int]

# Picture files: PNG, a list of chunks, each a length, a kind, data and a checksum. The pixels are the IDAT chunks, put
# together and inflated; then each row has the number of a filter before it.

MAX_BYTES, MAX_CHUNKS, MAX_PIXELS, MAX_SIDE = 2**26, 2**16, 2**24, 2**14
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of grey, RGB, palette, grey with alpha, RGB with alpha


def read_png(path: Path, channels: int) -> Array:
    """The picture in an 8-bit PNG file as uint8 (C, H, W), grey or RGB; ValueError if it is another.

    What is transparent is laid on white. The orientation in EXIF data is not looked at.
    """
    if not path.is_file():
        raise ValueError("expected a PNG file, got " + ("a folder or a device" if path.exists() else "none"))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"expected a PNG file of at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    chunks = _chunks(path.read_bytes())
    width, height, colour = _header(chunks)
    count = CHANNELS[colour]
    rows = _inflate(b"".join(part for kind, part in chunks if kind == b"IDAT"), (height, 1 + width * count))
    pixels = _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, count))
    parts = dict(chunks)
    return _to_channels(_on_white(pixels, colour, parts.get(b"PLTE", b""), parts.get(b"tRNS")), channels)


def _header(chunks: list[tuple[bytes, bytes]]) -> tuple[int, int, int]:
    """Width, height and colour type; ValueError if the chunks are not those of a picture that can be read."""
    kinds = [kind for kind, _ in chunks if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT")]
    others = [kind for kind in kinds if kind != b"IDAT"]
    ordered = len(set(others)) == len(others) and kinds[: len(others)] == others
    first, header = chunks[0]
    if not ordered or first != b"IHDR" or len(header) != 13:
        raise ValueError("expected a PNG with its size, its colours and then its pixels, got another order")
    if any(kind == b"acTL" for kind, _ in chunks):
        raise ValueError("expected a PNG of one picture, got an animation")
    width, height, (depth, colour, packing, filters, interlaced) = _number(header[:4]), _number(header[4:8]), header[8:]
    if depth != 8 or colour not in CHANNELS or packing or filters or interlaced:
        raise ValueError(
            f"expected a PNG of 8 bits that is not interlaced, got {depth} bits, colour type {colour}, interlacing"
            f" {interlaced}; save it again as 8-bit PNG"
        )
    if not 0 < width * height <= MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"expected 1 to {MAX_PIXELS} pixels, at most {MAX_SIDE} in a row, got {width} x {height}; make the picture"
            " smaller"
        )
    return width, height, colour


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The kind and the data of each chunk, from IHDR to IEND; lengths and checksums are right."""
    import zlib

    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("expected a PNG file, got another kind")
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while not chunks or chunks[-1][0] != b"IEND":
        end = at + 12 + _number(data[at : at + 4])
        if (
            end > len(data)
            or len(chunks) == MAX_CHUNKS
            or zlib.crc32(data[at + 4 : end - 4]) != _number(data[end - 4 : end])
        ):
            raise ValueError(f"expected a whole PNG, got a cut or changed chunk, or one too many, at byte {at}")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : end - 4]))
        at = end
    return chunks


def _inflate(data: bytes, shape: Pair) -> Array:
    """The inflated bytes of `data` as rows, uint8 of `shape`; never many more than that are made."""
    import zlib

    wanted, inflater = shape[0] * shape[1], zlib.decompressobj()
    try:
        raw = inflater.decompress(data, wanted + 1)
    except zlib.error as error:
        raise ValueError(f"expected a sound PNG, got one that cannot be inflated: {error}") from None
    if len(raw) != wanted or not inflater.eof:
        raise ValueError(f"expected a PNG with {wanted} bytes of pixels, got another number")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _unfilter(kinds: Array, deltas: Array) -> Array:
    """The pixels (H, W, C) of what the filters left of them; `kinds` (H,) has the filter of each row.

    A pixel is its delta plus a guess from the pixels to the left, above, and above to the left: 0, the left one, the
    one above, the mean of both, or the one of the three that is nearest to left + above - corner, after Paeth. Those
    three are never on the same diagonal, so that all pixels of a diagonal can be done at once.
    """
    if kinds.max() > 4:
        raise ValueError(f"expected the filters 0 to 4 in a PNG, got {kinds.max()}")
    height, width, channels = deltas.shape
    pixels = np.zeros((height + 1, width + 1, channels), np.int16)  # with zeros above and to the left
    for diagonal in range(height + width - 1):
        i = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1), dtype=np.int64)
        j = diagonal - i
        left, above, corner = pixels[i + 1, j], pixels[i, j + 1], pixels[i, j]
        a, b, c = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        guess = np.choose(kinds[i, None], [np.zeros_like(left), left, above, (left + above) // 2, paeth])
        pixels[i + 1, j + 1] = (deltas[i, j] + guess) % 256
    return pixels[1:, 1:].astype(np.uint8)


def _on_white(pixels: Array, colour: int, palette: bytes, transparency: bytes | None) -> Array:
    """Grey (H, W, 1) or RGB (H, W, 3), in front of white where the picture is transparent."""
    alpha = None
    if colour == 3:
        table, index = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3), pixels[..., 0]
        if index.max() >= len(table):
            raise ValueError(f"expected a palette of more than {index.max()} colours, got {len(table)}")
        if transparency is not None:
            opacity = np.full(256, 255, np.uint8)
            opacity[: len(transparency)] = list(transparency[:256])
            alpha = opacity[index][..., None]
        pixels = table[index]
    elif colour in (4, 6):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:]
    elif transparency is not None:  # one colour is transparent; it is stored with 16 bits for each channel
        if len(transparency) != 2 * pixels.shape[2]:
            raise ValueError(f"expected one transparent colour, got {len(transparency)} bytes of it")
        alpha = np.uint8(255) * (pixels != list(transparency[1::2])).any(axis=-1, keepdims=True)
    if alpha is None:
        return pixels
    opaque = alpha.astype(np.int64)
    return ((2 * (pixels * opaque + 255 * (255 - opaque)) + 255) // 510).astype(np.uint8)


def _to_channels(pixels: Array, channels: int) -> Array:
    """(H, W, 1 or 3) as (channels, H, W); grey is the sum of the colours by the weights of ITU-R 601."""
    if channels == 1 and pixels.shape[2] == 3:
        pixels = ((pixels @ np.array([19595, 38470, 7471]) + 32768) >> 16).astype(np.uint8)[..., None]
    return np.repeat(pixels, channels // pixels.shape[2], axis=2).transpose(2, 0, 1)


# A picture as an image like those of the training: of their size, and, for one channel, framed as they are


def fit_image(picture: Array, size: Pair, framing: tuple[float, float] | None) -> Array:
    """The picture uint8 (C, H, W) as float32 (C, *size) in 0..1.

    Without framing the shorter side is scaled to size and the middle is kept. With it, (background, extent), light and
    dark are swapped if the ink says so, and unless the picture has the size already, the ink is cut out, scaled to the
    extent, and laid on the background with its centre of mass in the middle, as MNIST was made (LeCun et al. 1998).
    """
    if framing is not None:
        return _reframe(picture[0], size, *framing)[None]
    H, W = picture.shape[1:]
    scale = min(H / size[0], W / size[1])  # pixels of the picture per pixel of the result
    height, width = scale * size[0], scale * size[1]
    box = (W - width) / 2, (H - height) / 2, (W - width) / 2 + width, (H - height) / 2 + height
    return np.stack([shrink(plane, size, box) for plane in picture]).astype(np.float32) / 255


def triangles(size: int, target: int, start: float, stop: float) -> Array:
    """The weights (target, size) of each of `size` pixels in each of `target` pixels that divide start..stop evenly.

    Each is a triangle that reaches one pixel to each side of the middle, or as many as become one pixel.
    """
    scale = (stop - start) / target
    middles = start + (np.arange(target) + 0.5) * scale
    distance = abs(np.arange(size) + 0.5 - middles[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def shrink(plane: Array, size: Pair, box: tuple[float, float, float, float]) -> Array:
    """The box (left, top, right, bottom) of a plane (H, W) in another size, bit for bit as Pillow's BILINEAR does it.

    Bytes are rounded to bytes after the columns and after the rows, with weights in units of 2^-22. Pillow 13 begins
    with the rows where they become much fewer; versions before it never do, and may differ by one in 255.
    """
    left, top, right, bottom = np.array(box, np.float32)
    passes = [(1, left, right), (0, top, bottom)]  # of columns, of rows
    fewer_rows, fewer_columns = plane.shape[0] - size[0], plane.shape[1] - size[1]
    for axis, start, stop in reversed(passes) if fewer_rows > max(0, 2 * fewer_columns) else passes:
        if start == 0 and stop == plane.shape[axis] == size[axis]:
            continue
        weights = triangles(plane.shape[axis], size[axis], float(start), float(start) + float(stop - start))
        if plane.dtype == np.uint8:
            weights = np.floor(weights * 2**22 + 0.5)
            sums = weights @ plane if axis == 0 else plane @ weights.T  # whole numbers: floats hold them exactly
            plane = np.minimum((sums + 2**21) // 2**22, 255).astype(np.uint8)
        else:
            plane = (weights @ plane if axis == 0 else plane @ weights.T).astype(np.float32)
    return plane


def _reframe(plane: Array, size: Pair, background: float, extent: float) -> Array:
    work, scale = plane, min(1.0, 512 / max(plane.shape))
    if scale < 1:
        rows, columns = (max(1, round(length * scale)) for length in plane.shape)
        work = shrink(plane, (rows, columns), (0, 0, plane.shape[1], plane.shape[0]))
    contrast = _contrast(work.astype(np.float32) / 255)
    dark_ink, light_background = -contrast.min() > contrast.max(), background > 0.5
    strength = -contrast if dark_ink else contrast
    if strength.max() < 0.1:  # all is paper
        return np.full(size, background, np.float32)
    if plane.shape == size:
        return (plane if dark_ink == light_background else 255 - plane).astype(np.float32) / 255
    ink = np.where(strength >= 0.3 * float(strength.max()), strength, 0)
    (top, bottom), (left, right) = _span(ink.sum(axis=1)), _span(ink.sum(axis=0))
    scale = extent * min(size[0] / (bottom - top), size[1] / (right - left))
    rows, columns = (max(1, round(length * scale)) for length in (bottom - top, right - left))
    faint = 0.1 * float(strength.max())
    ink = shrink(np.maximum(strength - faint, 0), (rows, columns), (left, top, right, bottom))
    full = 0.0 if light_background else 1.0
    return background + _centred(ink / ink.max(), size) * (full - background)


def _contrast(plane: Array) -> Array:
    """How much lighter (> 0) or darker (< 0) than the paper each pixel of a plane (H, W) is.

    The paper is a linear gradient through the border pixels, by least squares; ink that touches the border is left
    out on the second and third pass.
    """
    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in plane.shape)
    down, across = np.broadcast_to(rows[:, None], plane.shape), np.broadcast_to(columns, plane.shape)
    border = _ring(plane)
    terms = np.stack([np.ones_like(border), _ring(down), _ring(across)], axis=1)  # (pixels, 3)
    near = abs(border - np.median(border)) <= 0.5
    gradient = np.zeros(3, np.float32)
    for _ in range(3):
        gradient = np.linalg.lstsq(terms[near], border[near])[0]
        off = abs(border - terms @ gradient)
        near = off <= 3 * np.median(off) + 0.01
    return plane - (gradient[0] + gradient[1] * down + gradient[2] * across)


def _ring(plane: Array) -> Array:
    """The border pixels of a plane (H, W)."""
    return np.concatenate([plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]])


def _span(mass: Array) -> Pair:
    """Where the ink begins and ends, but for 0.2 % at each side: specks."""
    share = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(share, 0.002)), int(np.searchsorted(share, 0.998)) + 1


def _centred(ink: Array, size: Pair) -> Array:
    """Ink (h, w) on an empty plane of `size`, its centre of mass in the middle as far as it fits."""
    canvas = np.zeros(size, np.float32)
    starts: list[int] = []
    masses: tuple[Array, Array] = ink.sum(axis=1), ink.sum(axis=0)
    for mass, room in zip(masses, size, strict=True):
        centre = float(np.average(np.arange(len(mass)), weights=mass))
        starts.append(min(max(round(room / 2 - centre), 0), room - len(mass)))
    top, left = starts
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return canvas
