"""Arrays as pictures inside a page: PNG, as text that an `img` takes.

PNG: W3C, Portable Network Graphics specification, third edition (2025).
"""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np

from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.viz.figures import mosaic

_COLOUR = {1: 0, 3: 2, 4: 6}  # PNG's types, by channels: grey, RGB, RGB with opacity
_NEGATIVE, _POSITIVE, _GAP = (0, 114, 178), (213, 94, 0), (128, 128, 128, 110)  # BLUE and ORANGE of `figures`

_FINE = 4  # pixels for a weight, each way


def png(pixels: Array) -> bytes:
    r"""The PNG file of pixels uint8 (H, W, channels): 1 grey, 3 RGB, 4 RGB with opacity.

    >>> png(np.zeros((2, 3, 1), np.uint8))[:4]
    b'\x89PNG'

    Raises:
        ShapeError: they have another shape, or there are none.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in _COLOUR or not pixels.size:
        raise ShapeError(f"png: expected pixels (H, W, 1, 3 or 4), got {pixels.shape}")
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def source(pixels: Array) -> str:
    """Pixels as `png` takes them, as the address that is their content."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def photo(image: Array) -> Array:
    """An image (C, H, W), uint8 or float 0..1, as pixels (H, W, 1 or 3); of other channels the first is shown."""
    shown = image if len(image) in (1, 3) else image[:1]
    values = shown if shown.dtype == np.uint8 else np.rint(255 * shown.clip(0, 1)).astype(np.uint8)
    return np.moveaxis(values, 0, -1)


def signed(tiles: Array, columns: int) -> Array:
    """Tiles (n, R, S) in rows of `columns` as pixels (H, W, 4), a line of grey between them.

    Zero is clear; the more opaque, the further from it, blue below and orange above, on one scale for all.
    """
    values = mosaic(tiles[:, None].astype(np.float64), columns)[..., 0]
    values = np.nan_to_num(values)
    limit = float(np.abs(values).max(initial=0)) or 1.0
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] < 0, _NEGATIVE, _POSITIVE)
    pixels[..., 3] = np.rint(255 * (np.abs(values) / limit))
    return _ruled(pixels, tiles.shape[1], tiles.shape[2])


def _ruled(pixels: Array, r: int, s: int) -> Array:
    """The pixels with lines of grey between tiles of r x s."""
    pixels[r :: r + 1] = pixels[:, s :: s + 1] = _GAP
    return pixels


def filters(weight: Array) -> Array:
    """The filters (K, C, R, S) of a convolution as pixels (H, W, 4).

    One channel is blue below zero and orange above, three are the colours of a pixel whose zero is grey. Of other
    channels the first 16 have a tile each, in a row for each channel; of 32 filters then, else of 64.
    """
    weight = np.nan_to_num(weight).repeat(_FINE, 2).repeat(_FINE, 3)  # so that the lines between the filters are thin
    k, c, r, s = weight.shape
    columns = math.ceil(math.sqrt(1.5 * min(k, 64)))  # a little wider than high
    if c == 3:
        limit = float(np.abs(weight).max()) or 1.0
        values = mosaic(weight[:64].astype(np.float64), columns)
        colours = np.rint(255 * (0.5 + np.nan_to_num(values) / (2 * limit)))
        there = 255 * np.isfinite(values[..., :1])
        return _ruled(np.concatenate([colours, there], axis=2).astype(np.uint8), r, s)
    if c == 1:
        return signed(weight[:64, 0], columns)
    shown = min(k, 32)
    return signed(weight[:shown, :16].swapaxes(0, 1).reshape(-1, r, s), shown)
