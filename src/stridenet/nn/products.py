"""Convolutions and dense layers in a program, with the ReLU and the 2x2 maximum that the kernels take along."""

from __future__ import annotations

from stridenet.kernels.operation import LANES, RELU, Code
from stridenet.kernels.places import Frame, outputs
from stridenet.kernels.tiles import TALL
from stridenet.kernels.windows import Correlation, Parts, padded, register_starts, tile
from stridenet.nn.classic import TableConv2d
from stridenet.nn.layers import Conv2d, Linear
from stridenet.nn.lowering import NONE, Node, NoPlanError, Program, Value, compact, copy, rectified
from stridenet.shapes import Margins, Window, product


class Convolution(Node):
    """A convolution, the ReLU behind it, and a 2x2 maximum behind that."""

    def __init__(self, x: Value, layer: Conv2d | TableConv2d, relu: bool = False, pool: Window | None = None) -> None:
        self.layer, self.relu, self.pool = layer, relu, pool
        C, H, W = x.shape
        self.window = layer.window(x.shape)
        groups, table = (layer.groups, ()) if isinstance(layer, Conv2d) else (1, layer.table)
        self.correlation = Correlation(self.window, (C, H, W), layer.out_channels, groups, table)
        self.map = layer.out_channels, *self.window.output
        super().__init__(
            x, self.map if pool is None else (layer.out_channels, *pool.output), [layer.weight, layer.bias]
        )
        x.want(self.window.padding)

    def forward(self, p: Program) -> None:
        """One operation for each group."""
        y, pool = self.y.allocate(p), None
        if self.pool is not None:
            self.index = p.frame(y.shape, y.margins) if p.training else None
            pool = self.pool, self.index
        at = dict(weight=p.place(self.layer.weight), bias=p.place(self.layer.bias))
        self.correlation.forward(p, self.x.frame, y, relu=self.relu, pool=pool, **at)
        p.clean(y)

    def backward(self, p: Program) -> None:
        """dy of the map before the maximum and the ReLU, then dweight, dbias and dx from it."""
        dy = self.y.gradient(p)
        parts, margins = self.correlation.parts(one=p.lanes == 1) if self.x.wanted else ([], NONE)
        if p.lanes == 1:  # the last registers of rows reach over their end, where there must be zeros
            vertical, (left, right) = margins
            margins = vertical, (left, max(right, -self.window.output[1] % LANES))
        full = self._before(p, dy, margins)
        if self.learns:
            self._parameters(p, full)
        if self.x.wanted:
            self._dx(p, full, parts)
        p.give_back(full)

    def _before(self, p: Program, dy: Frame, margins: Margins) -> Frame:
        """The gradient of what the convolution itself gave, in a frame with these margins."""
        y = self.y.frame
        if self.pool is None and not self.relu and margins == NONE:
            return dy
        full = p.borrow(self.map, margins)
        if self.pool is not None and self.index is not None:
            index, (rows, columns) = self.index, self.pool.output
            if (2 * rows, 2 * columns) != self.window.output:
                p.emit(Code.CLEAR, y=full.at, count=full.size)
            corners = outputs(self.pool)
            p.emit(
                Code.MAX_BACK,
                **dict(x=full.start, x_channel=full.channel, y=dy.start, y_channel=dy.channel),
                **dict(z=index.start, z_channel=index.channel, places=len(corners), count=4, channels=dy.shape[0]),
                sources=p.table([full.place(2 * h, 2 * w) for h, w in corners]),
                targets=p.table([dy.place(h, w) for h, w in corners]),
                weights=p.table([index.place(h, w) for h, w in corners]),
                taps=p.table([full.place(r, s) for r in (0, 1) for s in (0, 1)]),
            )
        elif self.relu:
            p.elementwise(Code.RECTIFY_BACK, x=dy, z=y, y=full)
        else:
            copy(p, dy, full)
        p.give_back(dy)
        return full

    def _parameters(self, p: Program, dy: Frame) -> None:
        layer, (P, Q) = self.layer, self.window.output
        if layer.weight.trainable:
            self.correlation.dweight(p, self.x.frame, dy, weight=p.place(layer.weight))
        if layer.bias is not None and layer.bias.trainable:
            places = [dy.place(h, w) for h, w in register_starts(dy, range(P), range(Q))]
            at = dict(y=dy.start, y_channel=dy.channel, bias=p.place(layer.bias))
            p.emit(Code.ROW_SUMS, **at, targets=p.table(places), places=len(places), channels=layer.out_channels)

    def _dx(self, p: Program, dy: Frame, parts: Parts) -> None:
        dx = p.borrow(self.x.shape)
        if p.lanes == 1 and [h for rows, _ in parts for h in rows.pixels] != list(range(dx.shape[1])):
            raise NoPlanError("rows not in their order: the last register of each reaches into the next")
        if not self.correlation.covered(parts):
            p.emit(Code.CLEAR, y=dx.at, count=dx.size)
        self.correlation.dx(p, dy, dx, parts, weight=p.place(self.layer.weight))
        self.x.gradients.append(dx)


class Dense(Node):
    """A linear layer, or a convolution that sees all of its image at once, and the ReLU behind it."""

    def __init__(self, p: Program, x: Value, layer: Linear | Conv2d, relu: bool) -> None:
        self.layer, self.relu = layer, relu
        self.outs, self.depth = len(layer.weight.value), product(x.shape)
        super().__init__(x, p.vector(self.outs), [layer.weight, layer.bias])

    def forward(self, p: Program) -> None:
        """A convolution at one place; or, for one image, products of rows."""
        x, y = compact(self.x.frame), self.y.allocate(p)
        dot = Code.DOT if self.outs >= TALL else Code.DOT_FEW
        p.emit(
            tile(self.outs, 1) if p.lanes > 1 else dot,
            **dict(x=x.start, y=y.start, w=p.place(self.layer.weight), bias=p.place(self.layer.bias)),
            **dict(w_step=self.depth, y_channel=y.step, channels=self.outs, places=1, count=self.depth),
            **dict(sources=p.table([0]), targets=p.table([0]), extras=RELU * self.relu),
            taps=p.table([d * x.step for d in range(self.depth)]),
            weights=p.table(range(self.depth)),
        )

    def backward(self, p: Program) -> None:
        """The gradients of the parameters, and of x where it is wanted."""
        dy = rectified(p, self.y) if self.relu else self.y.gradient(p)
        if self.layer.weight.trainable:
            self._dweight(p, dy)
        if self.layer.bias is not None and self.layer.bias.trainable:
            at = dict(x=dy.start, x_channel=dy.step, bias=p.place(self.layer.bias), count=p.lanes)
            p.emit(Code.ADD_VECTOR, **at, channels=self.outs)
        if self.x.wanted:
            self.x.gradients.append(self._dx(p, dy))
        p.give_back(dy)

    def _dweight(self, p: Program, dy: Frame) -> None:
        """A product over the images, so x is turned: one image a row."""
        x, row = compact(self.x.frame), (-(-self.depth // LANES) | 1) * LANES  # odd: rows on other lines of the cache
        at, rest = x.start, p.room(1)
        if p.lanes > 1:
            at = p.room(row)
            p.emit(Code.TRANSPOSE, x=x.start, y=at, y_row=row, channels=self.depth)
        p.emit(
            Code.LINEAR_OUTER if self.outs >= TALL else Code.LINEAR_FEW,
            **dict(x=at, x_row=row, y=dy.start, y_channel=dy.step, z=rest, w=p.place(self.layer.weight)),
            **dict(channels=self.outs, rows=p.lanes, columns=self.depth, sources=p.table([0])),
        )

    def _dx(self, p: Program, dy: Frame) -> Frame:
        dx, outs = p.borrow(self.x.shape), range(self.outs)
        fields = dict(y=dx.start, w=p.place(self.layer.weight), bias=-1, count=self.outs)
        if p.lanes > 1:
            p.emit(
                tile(self.depth, 1),
                **dict(x=dy.start, w_step=1, y_channel=dx.step, channels=self.depth, places=1),
                **dict(sources=p.table([0]), targets=p.table([0]), taps=p.table([k * dy.step for k in outs])),
                weights=p.table([k * self.depth for k in outs]),
                **fields,
            )
        else:  # registers go along the rows of the weight; the last one overlaps
            if self.depth < LANES:
                raise NoPlanError("rows shorter than a register")
            places = padded([min(d, self.depth - LANES) for d in range(0, self.depth, LANES)])
            rows = p.table([k * self.depth for k in outs])
            fields |= dict(x=fields["w"], w=dy.start, channels=1, places=len(places), sources=p.table(places))
            p.emit(Code.LINEAR_BACK, **fields, targets=p.table(places), taps=rows, weights=p.table(outs))
        return dx
