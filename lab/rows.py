"""The row layouts of report S2: the windows of a batch as the rows of one matrix, and two ways back.

    im2row        (N, C, H, W) to (N*P*Q, C*R*S): a row is what all filters see at one place
    pool2row      (N, C, H, W) to (N*C*P*Q, R*S): a row is one window of one channel

Back, a pixel is in several rows where windows overlap. `sum` adds what they say: that is the gradient, the transpose
of the way there. `mean` averages it: that is the inverse, and gives the image back exactly (`isstinct` in the report).
A pixel in no window is 0 both ways.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stridenet.layout import Array

Back = Literal["sum", "mean"]


class Places(NamedTuple):
    """Where the windows stand."""

    shape: tuple[int, ...]  # of the image, (N, C, H, W)
    kernel: tuple[int, int]  # (R, S)
    stride: tuple[int, int]
    padding: int

    @property
    def output(self) -> tuple[int, int]:
        """(P, Q)."""
        P, Q = (
            (size + 2 * self.padding - extent) // step + 1
            for size, extent, step in zip(self.shape[2:], self.kernel, self.stride, strict=True)
        )
        return P, Q


def _windows(x: Array, places: Places) -> Array:
    """All windows (N, C, P, Q, R, S), a view of the padded image."""
    p, (down, across) = places.padding, places.stride
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    return sliding_window_view(padded, places.kernel, axis=(2, 3))[:, :, ::down, ::across]


def im2row(x: Array, places: Places) -> Array:
    """(N*P*Q, C*R*S) of x (N, C, H, W)."""
    windows = _windows(x, places).transpose(0, 2, 3, 1, 4, 5)  # (N, P, Q, C, R, S)
    return windows.reshape(-1, windows[0, 0, 0].size)


def pool2row(x: Array, places: Places) -> Array:
    """(N*C*P*Q, R*S) of x (N, C, H, W)."""
    windows = _windows(x, places)
    return windows.reshape(-1, windows[0, 0, 0, 0].size)


def row2im(rows: Array, places: Places, *, back: Back = "sum") -> Array:
    """(N, C, H, W) of rows (N*P*Q, C*R*S)."""
    N, C = places.shape[:2]
    return _gathered(rows.reshape(N, *places.output, C, *places.kernel).transpose(0, 3, 1, 2, 4, 5), places, back)


def row2pool(rows: Array, places: Places, *, back: Back = "sum") -> Array:
    """(N, C, H, W) of rows (N*C*P*Q, R*S)."""
    N, C = places.shape[:2]
    return _gathered(rows.reshape(N, C, *places.output, *places.kernel), places, back)


def _gathered(windows: Array, places: Places, back: Back) -> Array:
    """The image of windows (N, C, P, Q, R, S), tap by tap: all windows at once have another pixel at each."""
    (N, C, H, W), (P, Q), (down, across), p = places.shape, places.output, places.stride, places.padding
    total = np.zeros((N, C, H + 2 * p, W + 2 * p), windows.dtype)
    count = np.zeros(total.shape[2:], windows.dtype)
    for r, s in np.ndindex(places.kernel):
        pixels = slice(r, r + P * down, down), slice(s, s + Q * across, across)
        total[(..., *pixels)] += windows[..., r, s]
        count[pixels] += 1
    if back == "mean":
        total /= np.maximum(count, 1)
    return total[:, :, p : H + p, p : W + p]
