"""What sliding windows become: the operations of convolutions and pools, by frames and lists of places.

One image or LANES of them, in a memory of blocks or in arrays of their own: the frames say how the numbers lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from stridenet.kernels.operation import KEEP, LANES, POOL, RELU, Code, Operations
from stridenet.kernels.places import Frame, Meeting, meetings, outputs, reach, starts, taps
from stridenet.kernels.tiles import COLS, OUTS, SIX, TALL
from stridenet.shapes import Margins, Pair, Window, product

T = TypeVar("T")
Parts = list[tuple[Meeting, Meeting]]
NONE: Margins = ((0, 0), (0, 0))


def register_starts(frame: Frame, rows: Sequence[int], columns: Sequence[int]) -> list[Pair]:
    """The pixels of a frame where registers begin, in these rows and neighbouring columns."""
    return [(h, w) for h in rows for w in columns[:: 1 if frame.step > 1 else LANES]]


def padded(table: list[T]) -> list[T]:
    """A list of places, made a multiple of COLS long by repeating the last."""
    return table + table[-1:] * (-len(table) % COLS)


def tile(outs: int, places: int) -> Code:
    """The tile for so many outputs at so many places."""
    if places < COLS:
        return Code.COLUMN if outs >= TALL else Code.COLUMN_SIX if outs >= SIX else Code.COLUMN_FEW
    if -(-outs // SIX) * SIX < -(-outs // OUTS) * OUTS and outs >= SIX:
        return Code.CORRELATE_SIX
    return Code.CORRELATE if outs >= OUTS else Code.CORRELATE_FEW


def _outer_tile(outs: int) -> Code:
    """The tile for dweight."""
    return Code(tile(outs, COLS) - Code.CORRELATE + Code.OUTER)


class Correlation(NamedTuple):
    """A convolution of images of one shape; its weights begin at `weight`, its biases at `bias`, -1 for none."""

    window: Window
    shape: tuple[int, int, int]  # (C, H, W)
    outs: int  # of all groups
    groups: int

    @property
    def depth(self) -> int:
        """The taps of an output."""
        return self.shape[0] // self.groups * product(self.window.kernel)

    def _of_group(self) -> Pair:
        """The channels and the outputs of a group."""
        return self.shape[0] // self.groups, self.outs // self.groups

    def _groups(self) -> list[tuple[int, int, int]]:
        """Of each group its first channel, its first output, and how far its weights are behind the first."""
        channels, outs = self._of_group()
        return [(g * channels, g * outs, g * outs * self.depth) for g in range(self.groups)]

    def forward(
        self,
        ops: Operations,
        x: Frame,
        y: Frame,
        *,
        weight: int,
        bias: int,
        relu: bool = False,
        pool: tuple[Window, Frame | None] | None = None,
    ) -> None:
        """Emit y from x; its places are windows of four, where a 2x2 maximum follows, whose index may go to a frame."""
        (channels, outs), (P, Q) = self._of_group(), self.window.output
        order = register_starts(y, range(P), range(Q))
        targets = [y.place(h, w) for h, w in order]
        index = None if pool is None else pool[1]
        if pool is not None:
            corners = outputs(pool[0])
            order = [(2 * h + r, 2 * w + s) for h, w in corners for r in (0, 1) for s in (0, 1)]
            targets = [y.place(h, w) for h, w in corners]
        code = tile(outs, len(order))
        if len(order) >= COLS:
            order, targets = padded(order), targets if pool else padded(targets)
        fields = dict(
            sources=ops.table(starts(x, self.window, order)),
            targets=ops.table(targets),
            taps=ops.table(taps(x, self.window, channels)),
            weights=ops.table(range(self.depth)),
            places=len(order),
            count=self.depth,
            w_step=self.depth,
            y_channel=y.channel,
            channels=outs,
            extras=RELU * relu + POOL * (pool is not None) + KEEP * (index is not None),
        )
        for c, k, w in self._groups():
            z = 0 if index is None else index.start + k * y.channel
            at = dict(x=x.start + c * x.channel, y=y.start + k * y.channel, z=z)
            ops.emit(code, **at, w=weight + w, bias=bias if bias < 0 else bias + k, **fields)

    def dweight(self, ops: Operations, x: Frame, dy: Frame, *, weight: int) -> None:
        """Emit what adds to the gradient of the weights."""
        (channels, outs), (P, Q) = self._of_group(), self.window.output
        order = register_starts(dy, range(P), range(Q))
        fields = dict(
            sources=ops.table(starts(x, self.window, order)),
            targets=ops.table([dy.place(h, w) for h, w in order]),
            taps=ops.table(padded(taps(x, self.window, channels))),
            **dict(places=len(order), count=self.depth, channels=outs, y_channel=dy.channel),
        )
        for c, k, w in self._groups():
            at = dict(x=x.start + c * x.channel, y=dy.start + k * dy.channel, w=weight + w)
            ops.emit(_outer_tile(outs), **at, **fields)

    def parts(self, *, one: bool) -> tuple[Parts, Margins]:
        """The pixels of dx, by the taps that meet them, and the margin of dy that these read; `one` image by itself?

        Rows are always exact. For each, columns are where that costs less: it leaves fewer pixels than a tile has.
        """
        _, H, W = self.shape
        choices = [meetings(self.window, 1, W, exact=exact) for exact in ((False,) if one else (False, True))]
        parts: Parts = []
        for rows in meetings(self.window, 0, H, exact=True):
            height = len(rows.pixels)

            def cost(columns: list[Meeting], height: int = height) -> int:
                """The taps that are added, those included that fill up a tile."""
                tiles = (max(-(-height * len(each.pixels) // COLS) * COLS, COLS // 2) for each in columns)
                return sum(tile * len(each.taps) for tile, each in zip(tiles, columns, strict=True))

            parts += [(rows, columns) for columns in min(choices, key=cost)]
        return parts, ((0, 0), reach(self.window, 1, [columns for _, columns in parts]))

    def covered(self, parts: Parts) -> bool:
        """Whether every pixel of dx is in a part; a stride may leave some out, whose gradient is 0."""
        return sum(len(a.pixels) * len(b.pixels) for a, b in parts) == product(self.shape[1:])

    def dx(self, ops: Operations, dy: Frame, dx: Frame, parts: Parts, *, weight: int) -> None:
        """Emit the gradient of x, part by part."""
        (channels, outs), (R, S) = self._of_group(), self.window.kernel
        for rows, columns in parts:
            met = [(k, r, m, s, n) for k in range(outs)
                   for r, m in zip(rows.taps, rows.behind, strict=True)
                   for s, n in zip(columns.taps, columns.behind, strict=True)]  # fmt: skip
            sources = [dy.place(i, j) for i, j in register_starts(dy, rows.outputs, columns.outputs)]
            targets = [dx.place(h, w) for h, w in register_starts(dx, rows.pixels, columns.pixels)]
            code = tile(channels, len(sources))
            if len(sources) >= COLS:
                sources, targets = padded(sources), padded(targets)
            fields = dict(
                sources=ops.table(sources),
                targets=ops.table(targets),
                taps=ops.table([k * dy.channel - dy.place(m, n) for k, _, m, _, n in met]),
                weights=ops.table([k * self.depth + r * S + s for k, r, _, s, _ in met]),
                **dict(places=len(sources), count=len(met), w_step=R * S, y_channel=dx.channel, channels=channels),
            )
            for c, k, w in self._groups():
                at = dict(x=dy.start + k * dy.channel, y=dx.start + c * dx.channel, w=weight + w)
                ops.emit(code, **at, bias=-1, **fields)


def pooling(ops: Operations, window: Window, x: Frame, y: Frame) -> dict[str, int]:
    """The fields of a maximum or a mean over windows that lie inside the image, and of its gradient."""
    order = outputs(window)
    return dict(
        **dict(x=x.start, x_channel=x.channel, y=y.start, y_channel=y.channel, channels=x.shape[0]),
        sources=ops.table(starts(x, window, order)),
        targets=ops.table([y.place(h, w) for h, w in order]),
        taps=ops.table(taps(x, window, 1)),
        places=len(order),
        count=product(window.kernel),
    )


def index_of(ops: Operations, window: Window, index: Frame) -> dict[str, int]:
    """The fields by which the gradient of a maximum finds the tap that had it."""
    places = [index.place(h, w) for h, w in outputs(window)]
    return dict(z=index.start, z_channel=index.channel, weights=ops.table(places))


def tiled(window: Window, shape: Sequence[int]) -> bool:
    """Whether every pixel of an image (C, H, W) is in one window."""
    (R, S), (P, Q) = window.kernel, window.output
    return window.stride == window.kernel and tuple(shape[1:]) == (P * R, Q * S)
