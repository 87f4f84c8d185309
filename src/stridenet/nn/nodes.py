"""What each kind of layer becomes in a program: its operations forward and backward.

Runs of layers that the kernels have as one (a convolution, its ReLU and a 2x2 maximum, say) become one node. A network
with a layer that no node stands for has no plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stridenet.kernels.operation import ADD, RELU, Code
from stridenet.kernels.places import Frame
from stridenet.kernels.tiles import COLS
from stridenet.kernels.windows import index_of, pooling, tiled
from stridenet.layout import Array
from stridenet.nn.batch_norm import Statistics, given, gradients, merged
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.classic_nodes import Distances, Squash, Subsampling
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.lowering import (
    NONE,
    Node,
    NoPlanError,
    Program,
    Value,
    compact,
    copy,
    fields_of,
    rectified,
    write,
)
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.products import Convolution, Dense
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, Window, pair, product


class Rectifier(Node):
    """A ReLU that nothing before it takes over."""

    def __init__(self, x: Value) -> None:
        super().__init__(x, x.shape)

    def forward(self, p: Program) -> None:
        """Pixel by pixel."""
        p.elementwise(Code.RECTIFY, x=self.x.frame, y=self.y.allocate(p))

    def backward(self, p: Program) -> None:
        """Pixel by pixel."""
        self.x.gradients.append(rectified(p, self.y))


class Flattening(Node):
    """Channel by channel, row by row: other names for the same numbers, but for one image, whose rows are copied."""

    def __init__(self, p: Program, x: Value) -> None:
        super().__init__(x, p.vector(product(x.shape)))

    def forward(self, p: Program) -> None:
        """Other names, or a copy."""
        if p.lanes > 1:
            self.y.frame = _as(self.x.frame, self.y.shape)
        else:
            p.emit(Code.FLATTEN, **fields_of(x=self.x.frame), y=self.y.allocate(p).start, count=self.x.shape[2])

    def backward(self, p: Program) -> None:
        """Other names, or a copy."""
        dy = self.y.gradient(p)
        if p.lanes > 1:
            self.x.gradients.append(_as(dy, self.x.shape))
        else:
            dx = p.borrow(self.x.shape)
            p.emit(Code.UNFLATTEN, **fields_of(x=dx), y=dy.start, count=self.x.shape[2])
            p.give_back(dy)
            self.x.gradients.append(dx)


def _as(frame: Frame, shape: Shape) -> Frame:
    C, H, W = shape
    return replace(compact(frame), shape=(C, H, W))


class Pooling(Node):
    """A maximum or a mean over windows that lie inside the image."""

    def __init__(self, x: Value, window: Window, *, maximum: bool) -> None:
        if window.padding != NONE or window.overhang != (0, 0):
            raise NoPlanError("a pooling with padding")
        self.window, self.maximum = window, maximum
        super().__init__(x, (x.shape[0], *window.output))

    def forward(self, p: Program) -> None:
        """A maximum keeps which tap had it."""
        y = self.y.allocate(p)
        fields = pooling(p, self.window, self.x.frame, y)
        if self.maximum:
            self.index = p.frame(y.shape, y.margins)
            fields |= {"z": self.index.start}
        if self._in_pairs(p):
            p.emit(Code.MAX_PAIRS, **fields_of(x=self.x.frame, y=y), z=self.index.start)
            p.clean(y)
            return
        codes = (Code.MAX, Code.MEAN) if p.lanes > 1 else (Code.MAX_PIXELS, Code.MEAN_PIXELS)
        p.emit(codes[not self.maximum], **fields)

    def _in_pairs(self, p: Program) -> bool:
        """Whether these are maxima over pairs of neighbours in pairs of rows, for one image."""
        return p.lanes == 1 and self.maximum and self.window.kernel == self.window.stride == (2, 2)

    def backward(self, p: Program) -> None:
        """Windows that overlap, and pixels in none, need a dx of zeros."""
        dy = self.y.gradient(p)
        dx, whole = p.borrow(self.x.shape), tiled(self.window, self.x.shape)
        if not whole:
            p.emit(Code.CLEAR, y=dx.at, count=dx.size)
        if whole and self._in_pairs(p):
            p.emit(Code.MAX_PAIRS_BACK, **fields_of(x=dx, z=self.index, y=dy))
        else:
            self._back(p, dx, dy, extras=0 if whole else ADD)
        self.x.gradients.append(dx)
        p.give_back(dy)

    def _back(self, p: Program, dx: Frame, dy: Frame, *, extras: int) -> None:
        fields = pooling(p, self.window, dx, dy) | {"extras": extras}
        if self.maximum:
            fields |= index_of(p, self.window, self.index)
        back = (Code.MAX_BACK, Code.MEAN_BACK) if p.lanes > 1 else (Code.MAX_PIXELS_BACK, Code.MEAN_PIXELS_BACK)
        p.emit(back[not self.maximum], **fields)


class Sum(Node):
    """Two values added, and the ReLU behind it."""

    def __init__(self, x: Value, other: Value, relu: bool) -> None:
        super().__init__(x, x.shape)
        self.other, self.relu = other, relu
        self.y.wanted = x.wanted or other.wanted

    def forward(self, p: Program) -> None:
        """Pixel by pixel."""
        x, z, y = self.x.frame, self.other.frame, self.y.allocate(p)
        p.elementwise(Code.ADD_FRAMES, x=x, z=z, y=y, extras=RELU * self.relu)

    def backward(self, p: Program) -> None:
        """Both get the gradient, the second a copy: what is given back must be one's own."""
        dy = rectified(p, self.y) if self.relu else self.y.gradient(p)
        if self.x.wanted and self.other.wanted:
            twin = p.borrow(self.y.shape)
            copy(p, dy, twin)
            self.other.gradients.append(twin)
        (self.x if self.x.wanted else self.other).gradients.append(dy)


class Shortcut(Node):
    """Every so manyth pixel, and channels of zeros."""

    def __init__(self, x: Value, layer: ZeroPadShortcut) -> None:
        super().__init__(x, layer.output_shape(x.shape))
        self.step = pair("ZeroPadShortcut", "stride", layer.stride)

    def forward(self, p: Program) -> None:
        """The channels of zeros are zero already."""
        copy(p, self.x.frame, self.y.allocate(p), step=self.step)

    def backward(self, p: Program) -> None:
        """A dx of zeros takes the pixels that were taken."""
        dy = self.y.gradient(p)
        dx = p.borrow(self.x.shape)
        p.emit(Code.CLEAR, y=dx.at, count=dx.size)
        copy(p, dx, dy, step=self.step, add=True)
        self.x.gradients.append(dx)
        p.give_back(dy)


class Normalization(Node):
    """Batch norm, and the ReLU behind it; in training the whole batch meets in a join."""

    def __init__(self, x: Value, layer: BatchNorm2d, relu: bool) -> None:
        super().__init__(x, x.shape, [layer.weight, layer.bias])
        self.layer, self.relu = layer, relu

    def forward(self, p: Program) -> None:
        """The join makes mean and scale from the moments of the blocks."""
        x, C, layer = self.x.frame, self.x.shape[0], self.layer
        self.fixed = layer.frozen or not p.training
        self.constants, self.constants_back, self.sums = p.for_all(3 * C), p.for_all(4 * C), p.slot(2 * C)
        if self.fixed:
            p.prepare.append(self._prepare)
        else:
            p.emit(Code.MOMENTS, **fields_of(x=x), z=p.mask, slot=self.sums)
            p.join(self._join)
        y = self.y.allocate(p)
        p.elementwise(Code.NORMALIZE, x=x, y=y, w=self.constants, extras=RELU * self.relu)

    def backward(self, p: Program) -> None:
        """The join makes the parameters' gradients, and what dx needs of the whole batch."""
        dy = rectified(p, self.y) if self.relu else self.y.gradient(p)
        x, dx = self.x.frame, p.borrow(self.x.shape)
        if not self.fixed:
            p.emit(Code.GRADIENT_SUMS, **fields_of(x=x, y=dy), w=self.constants_back, slot=self.sums)
            p.join(self._join_back)
        if self.x.wanted:
            p.elementwise(Code.NORMALIZE_BACK, x=x, z=dy, y=dx, w=self.constants_back, slot=p.mask)
            self.x.gradients.append(dx)
        p.give_back(dy)

    def _prepare(self, step: Any) -> None:
        mean, variance = given(self.layer.running_mean.value, self.layer.running_var.value)
        self._start(step, Statistics(mean, variance, 0.0, self.layer.eps, self.layer.comm))

    def _start(self, step: Any, found: Statistics) -> None:
        """Write what the forward needs, and of the backward what is known."""
        self.found, scale = found, self.layer.weight.value * found.inverse
        write(step, self.constants, found.mean, scale, self.layer.bias.value)
        write(step, self.constants_back, found.mean, scale)

    def _join(self, step: Any) -> None:
        layer, (C, H, W) = self.layer, self.x.shape
        means, squares = self._columns(step)
        counts = step.images[:, None] * (H * W)
        own = (counts * means).sum(axis=0) / counts.sum()
        squares = (squares + counts * np.square(means - own)).sum(axis=0)
        with speaking_as(layer):
            pixels, mean, variance = merged((step.count, C, H, W), own, squares, layer.comm)
        self._start(step, Statistics(mean, variance, pixels, layer.eps, layer.comm))
        layer.follow(self.found)

    def _join_back(self, step: Any) -> None:
        plain, weighted = (column.sum(axis=0) for column in self._columns(step))
        dweight, dbias, shift, slope = gradients(plain, weighted, self.found)
        self.layer.weight.add_grad(dweight.astype(np.float32))
        self.layer.bias.add_grad(dbias.astype(np.float32))
        write(step, self.constants_back + 2 * len(shift), shift, slope)

    def _columns(self, step: Any) -> tuple[Array, Array]:
        """The two sums of every block and channel, each (blocks, C)."""
        sums = step.sums[:, self.sums : self.sums + 2 * self.x.shape[0]]
        return sums[:, ::2], sums[:, 1::2]


def trace(p: Program, layers: Sequence[Layer], x: Value) -> tuple[list[Node], Value]:
    """The nodes of `layers` from the value x on, in order, and the last one's value.

    Raises:
        NoPlanError: a layer has no node.
    """
    nodes: list[Node] = []
    rest = _flat(layers)
    while rest:
        taken, found = _node(p, rest, x)
        nodes += found
        x, rest = found[-1].y if found else x, rest[taken:]
    return nodes, x


def _flat(layers: Sequence[Layer]) -> list[Layer]:
    """The layers, with those of a Sequential in its place."""
    return [each for layer in layers for each in (_flat(layer.layers) if type(layer) is Sequential else [layer])]


_KINDS = {
    *(Conv2d, Linear, ReLU, Flatten, MaxPool2d, AvgPool2d, GlobalAvgPool2d),
    *(BatchNorm2d, Dropout, Dropout2d, Residual, ZeroPadShortcut),
    *(ScaledTanh, TrainableSubsampling2d, TableConv2d, RBF),
}


def _node(p: Program, layers: list[Layer], x: Value) -> tuple[int, list[Node]]:
    """How many of the first layers the next nodes stand for, and these."""
    layer, kinds = layers[0], [type(layer) for layer in layers[1:3]]
    relu = kinds[:1] == [ReLU]
    if type(layer) not in _KINDS:  # what a subclass does, it alone knows
        raise NoPlanError(repr(layer))
    match layer:
        case Conv2d():
            return _convolution(p, layer, layers[1:], x)
        case Linear():
            return 1 + relu, [Dense(p, x, layer, relu)]
        case BatchNorm2d():
            if p.lanes == 1 and p.training:
                raise NoPlanError("statistics of rows that reach over their end")
            return 1 + relu, [Normalization(x, layer, relu)]
        case Residual():
            body, y = trace(p, [layer.body], x)
            aside, other = trace(p, [] if layer.shortcut is None else [layer.shortcut], x)
            return 1 + relu, [*body, *aside, Sum(y, other, relu)]
        case Dropout() | Dropout2d() if not p.training:
            return 1, []
        case ReLU():
            return 1, [Rectifier(x)]
        case Flatten():
            return 1, [Flattening(p, x)] if x.shape != p.vector(product(x.shape)) else []
        case MaxPool2d() | AvgPool2d():
            return 1, [Pooling(x, layer.window(x.shape), maximum=type(layer) is MaxPool2d)]
        case GlobalAvgPool2d():
            _, H, W = x.shape
            return 1, [Pooling(x, Window((H, W), (H, W), NONE, (1, 1), (1, 1)), maximum=False)]
        case ZeroPadShortcut() if p.lanes > 1:
            return 1, [Shortcut(x, layer)]
        case ScaledTanh():
            return 1, [Squash(x)]
        case TableConv2d():
            return 1, [Convolution(x, layer)]
        case TrainableSubsampling2d() if p.lanes == 1:
            return 1, [Subsampling(x, layer)]
        case RBF() if p.lanes == 1:
            return 1, [Distances(p, x, layer)]
        case _:
            raise NoPlanError(repr(layer))


def _convolution(p: Program, layer: Conv2d, rest: list[Layer], x: Value) -> tuple[int, list[Node]]:
    """A convolution with what the kernels take along; where it is as large as its image, a dense layer."""
    window, kinds = layer.window(x.shape), [type(each) for each in rest[:2]]
    relu = kinds[:1] == [ReLU]
    if x.shape[1:] == window.kernel and window.padding == NONE and layer.groups == 1:
        if p.lanes > 1:
            return 1 + relu, [Dense(p, x, layer, relu)]
        squashed = relu or kinds[:1] == [ScaledTanh]
        if Flatten in kinds[: 1 + squashed]:  # one image's channels may become a vector's numbers
            flat = Flattening(p, x)
            return 1 + relu, [flat, Dense(p, flat.y, layer, relu)]
    if p.lanes == 1 and window.stride[1] > 1:
        raise NoPlanError("neighbours in a row that are no neighbours in the image")
    behind = rest[relu] if len(rest) > relu else None
    pool = _quarter(behind, (layer.out_channels, *window.output)) if p.lanes > 1 else None
    return 1 + relu + (pool is not None), [Convolution(x, layer, relu, pool)]


def _quarter(layer: Layer | None, shape: Shape) -> Window | None:
    """The window of a 2x2 maximum without padding, which a convolution can take along."""
    if type(layer) is not MaxPool2d:
        return None
    window = layer.window(shape)
    plain = window.kernel == window.stride == (2, 2) and window.padding == NONE and window.overhang == (0, 0)
    return window if plain and COLS == 4 else None
