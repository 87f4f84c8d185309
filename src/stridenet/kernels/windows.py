"""What sliding windows become: the operations of convolutions and pools, by frames and lists of places.

One image or LANES of them, in a memory of blocks or in arrays of their own: the frames say how the numbers lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
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


class _Group(NamedTuple):
    """Outputs that see the same channels, and how far their weights are behind the first of all."""

    channels: Sequence[int]
    outs: range
    weights: int


class Correlation(NamedTuple):
    """A convolution of images of one shape; its weights begin at `weight`, its biases at `bias`, -1 for none."""

    window: Window
    shape: tuple[int, int, int]  # (C, H, W)
    outs: int  # of all groups
    groups: int
    table: tuple[tuple[int, ...], ...] = ()  # in place of groups: the channels that each output sees

    @property
    def area(self) -> int:
        """The taps of a channel."""
        return product(self.window.kernel)

    @property
    def depth(self) -> int:
        """The taps of an output, without a table."""
        return self.shape[0] // self.groups * self.area

    def _groups(self) -> list[_Group]:
        if self.table:
            before = accumulate((len(channels) * self.area for channels in self.table[:-1]), initial=0)
            pairs = zip(self.table, before, strict=True)
            return [_Group(channels, range(k, k + 1), w) for k, (channels, w) in enumerate(pairs)]
        C, K = self.shape[0] // self.groups, self.outs // self.groups
        places = [(range(g * C, g * C + C), range(g * K, g * K + K)) for g in range(self.groups)]
        return [_Group(channels, outs, outs[0] * self.depth) for channels, outs in places]

    def _readers(self) -> list[tuple[Sequence[int], list[Pair]]]:
        """Channels that the same outputs see, and these with the place of their weights of the first channel."""
        groups = self._groups()
        if not self.table:
            return [(g.channels, [(k, k * self.depth) for k in g.outs]) for g in groups]
        places = [{c: g.weights + i * self.area for i, c in enumerate(g.channels)} for g in groups]
        return [([c], [(k, place[c]) for k, place in enumerate(places) if c in place]) for c in range(self.shape[0])]

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
        P, Q = self.window.output
        order = register_starts(y, range(P), range(Q))
        targets = [y.place(h, w) for h, w in order]
        index = None if pool is None else pool[1]
        if pool is not None:
            corners = outputs(pool[0])
            order = [(2 * h + r, 2 * w + s) for h, w in corners for r in (0, 1) for s in (0, 1)]
            targets = [y.place(h, w) for h, w in corners]
        if len(order) >= COLS:
            order, targets = padded(order), targets if pool else padded(targets)
        fields = dict(
            sources=ops.table(starts(x, self.window, order)),
            targets=ops.table(targets),
            places=len(order),
            y_channel=y.channel,
            extras=RELU * relu + POOL * (pool is not None) + KEEP * (index is not None),
        )
        for channels, outs, w in self._groups():
            first, depth = outs[0], len(channels) * self.area
            ops.emit(
                tile(len(outs), len(order)),
                **dict(x=x.start + channels[0] * x.channel, y=y.start + first * y.channel, channels=len(outs)),
                **dict(z=0 if index is None else index.start + first * y.channel),
                **dict(w=weight + w, w_step=depth, bias=bias if bias < 0 else bias + first),
                **dict(taps=ops.table(self._taps(x, channels)), weights=ops.table(range(depth)), count=depth),
                **fields,
            )

    def dweight(self, ops: Operations, x: Frame, dy: Frame, *, weight: int) -> None:
        """Emit what adds to the gradient of the weights."""
        P, Q = self.window.output
        order = register_starts(dy, range(P), range(Q))
        fields = dict(
            sources=ops.table(starts(x, self.window, order)),
            targets=ops.table([dy.place(h, w) for h, w in order]),
            **dict(places=len(order), y_channel=dy.channel),
        )
        for channels, outs, w in self._groups():
            ops.emit(
                _outer_tile(len(outs)),
                **dict(x=x.start + channels[0] * x.channel, y=dy.start + outs[0] * dy.channel, channels=len(outs)),
                **dict(w=weight + w, taps=ops.table(padded(self._taps(x, channels))), count=len(channels) * self.area),
                **fields,
            )

    def _taps(self, x: Frame, channels: Sequence[int]) -> list[int]:
        """How far the taps of these channels are from the first one's."""
        return taps(x, self.window, [c - channels[0] for c in channels])

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
        S, readers = self.window.kernel[1], self._readers()
        for rows, columns in parts:
            met = [(r * S + s, dy.place(m, n))
                   for r, m in zip(rows.taps, rows.behind, strict=True)
                   for s, n in zip(columns.taps, columns.behind, strict=True)]  # fmt: skip
            sources = [dy.place(i, j) for i, j in register_starts(dy, rows.outputs, columns.outputs)]
            targets = [dx.place(h, w) for h, w in register_starts(dx, rows.pixels, columns.pixels)]
            if len(sources) >= COLS:
                sources, targets = padded(sources), padded(targets)
            fields = dict(
                **dict(bias=-1, w_step=self.area, y_channel=dx.channel),
                **dict(sources=ops.table(sources), targets=ops.table(targets), places=len(sources)),
            )
            for channels, seen in readers:
                first, start = seen[0] if seen else (0, 0)
                ops.emit(
                    tile(len(channels), len(sources)),
                    **dict(x=dy.start + first * dy.channel, y=dx.start + channels[0] * dx.channel, w=weight + start),
                    taps=ops.table([(k - first) * dy.channel - behind for k, _ in seen for _, behind in met]),
                    weights=ops.table([w - start + tap for _, w in seen for tap, _ in met]),
                    **dict(count=len(seen) * len(met), channels=len(channels)),
                    **fields,
                )


def pooling(ops: Operations, window: Window, x: Frame, y: Frame) -> dict[str, int]:
    """The fields of a maximum or a mean over windows that lie inside the image, and of its gradient."""
    order = outputs(window)
    return dict(
        **dict(x=x.start, x_channel=x.channel, y=y.start, y_channel=y.channel, channels=x.shape[0]),
        sources=ops.table(starts(x, window, order)),
        targets=ops.table([y.place(h, w) for h, w in order]),
        taps=ops.table(taps(x, window, [0])),
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
