"""Lists of places for the kernels: where windows begin, where results go, how far each tap is from its window.

A tap of the kernel meets a pixel for each window it is in. Forward, every window has the same taps. Backward, pixels
are grouped by the taps that meet them: by the phase of the stride, and near the edge by what is left of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stridenet.shapes import Margins, Pair, Window


@dataclass(frozen=True)
class Frame:
    """An image (C, H, W) with a margin in flat memory, of one register a pixel, or of one element a pixel.

    In the second case registers hold neighbours in a row, and the last one of a channel reaches into `slack`.
    """

    shape: tuple[int, int, int]
    margins: Margins
    step: int  # elements from pixel to pixel
    slack: int = 0  # elements behind each channel
    at: int = 0  # the first element

    @property
    def row(self) -> int:
        """Elements from row to row."""
        return (sum(self.margins[1]) + self.shape[2]) * self.step

    @property
    def channel(self) -> int:
        """Elements from channel to channel."""
        return (sum(self.margins[0]) + self.shape[1]) * self.row + self.slack

    @property
    def size(self) -> int:
        """Elements in all."""
        return self.shape[0] * self.channel

    @property
    def start(self) -> int:
        """The first pixel inside the margin."""
        return self.at + self.margins[0][0] * self.row + self.margins[1][0] * self.step

    def place(self, h: int, w: int) -> int:
        """Elements from `start` to pixel (h, w) of a channel; into the margin for numbers outside."""
        return h * self.row + w * self.step


def taps(frame: Frame, window: Window, channels: Sequence[int]) -> list[int]:
    """How far each tap (c, r, s) of a window over these channels is from the window's first pixel in channel 0."""
    (R, S), (apart, aside) = window.kernel, window.dilation
    return [c * frame.channel + frame.place(r * apart, s * aside) for c in channels for r in range(R) for s in range(S)]


def starts(frame: Frame, window: Window, outputs: list[Pair]) -> list[int]:
    """Where the windows of `outputs` (p, q) begin."""
    (down, right), ((top, _), (left, _)) = window.stride, window.padding
    return [frame.place(p * down - top, q * right - left) for p, q in outputs]


def outputs(window: Window) -> list[Pair]:
    """Every output (p, q), row by row."""
    P, Q = window.output
    return [(p, q) for p in range(P) for q in range(Q)]


class Meeting(NamedTuple):
    """Pixels along one axis that meet the same taps, each at an output so many behind."""

    pixels: list[int]
    outputs: list[int]  # of tap 0 that each pixel would meet, were its place in the stride's phase
    taps: list[int]
    behind: list[int]


def meetings(window: Window, axis: int, length: int, *, exact: bool) -> list[Meeting]:
    """The pixels of an axis by the taps that meet them; without `exact` also taps that meet no output, but a margin.

    Pixel h of the padded image meets tap r of output (h - r dilation) / stride, if that is a whole number.
    """
    stride, dilation = window.stride[axis], window.dilation[axis]
    found: dict[tuple[int, ...], Meeting] = {}
    for pixel in range(length):
        i, phase = divmod(pixel + window.padding[axis][0], stride)
        reach = [
            (r, (r * dilation - phase) // stride) for r in range(window.kernel[axis]) if r * dilation % stride == phase
        ]
        if exact:
            reach = [(r, m) for r, m in reach if 0 <= i - m < window.output[axis]]
        met = [r for r, _ in reach]
        group = found.setdefault((phase, *met), Meeting([], [], met, [m for _, m in reach]))
        group.pixels.append(pixel)
        group.outputs.append(i)
    return [group for group in found.values() if group.taps]


def reach(window: Window, axis: int, groups: list[Meeting]) -> Pair:
    """How far outside the outputs the taps of `groups` read: before the first, and behind the last."""
    read = [i - m for group in groups for i in group.outputs for m in group.behind]
    return max(0, -min(read, default=0)), max(0, max(read, default=0) - window.output[axis] + 1)
