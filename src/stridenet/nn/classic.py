"""The parts of the LeNet-5 of 1998, where a convolution over all maps, a maximum and a softmax stand today.

LeCun, Bottou, Bengio and Haffner 1998, *Gradient-Based Learning Applied to Document Recognition*, section II.B. Its C1,
C5 and F6 are a Conv2d or a Linear; each layer up to F6 is followed by the scaled hyperbolic tangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from stridenet import layout
from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.arrays import check
from stridenet.nn.init import Initializer, fan_in_uniform, signs
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.layers import Activation, start
from stridenet.nn.parameters import Parameter
from stridenet.shapes import IntOrPair, Shape, Window, by, integer, pair, plain, product, window

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # with them f(1) = 1 and f(-1) = -1, and |f''| is largest there


def scaled_tanh(x: Array) -> tuple[Array, Array]:
    """1.7159 tanh(2 x / 3), any shape (N, ...) (LeCun et al. 1998, equation 6 and appendix A). Saved: y."""
    check("scaled_tanh", "x", x, ("N", ...))
    y = np.tanh(SLOPE * x)
    y *= AMPLITUDE
    return y, np.copy(y)


def scaled_tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy (2 / 3) (1.7159 - y^2 / 1.7159)."""
    check("scaled_tanh_backward", "dy", dy, y.shape, y)
    return dy * (SLOPE * AMPLITUDE - (SLOPE / AMPLITUDE) * (y * y))


class ScaledTanh(Activation):
    """1.7159 tanh(2 x / 3), which takes 1 to 1 and -1 to -1 and is bent most there: targets of +-1 do not saturate."""

    function, derivative = scaled_tanh, scaled_tanh_backward


class TrainableSubsampling2d(Layer):
    """The sum of each window times a coefficient, plus a bias, both trained; of (N, C, H, W) to (N, C, P, Q).

    y[n, c, p, q] = coefficient[c] * sum of x[n, c] over window (p, q) + bias[c]. Windows stand side by side; what is
    left over at the lower and the right edge is not seen (LeCun et al. 1998, layers S2 and S4).

    Args:
        channels: C.
        kernel_size: an int or (rows, columns).
        init: start values (C, 1) of the factor on the mean of a window; the coefficient is that over its pixels.
        rng: the random numbers of `init`.

    Raises:
        ConfigError: an argument is out of range.

    >>> layer = TrainableSubsampling2d(6, rng=np.random.default_rng(0))
    >>> layer.output_shape((6, 28, 28)), len(layer.pack())
    ((6, 14, 14), 12)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: IntOrPair = 2,
        *,
        init: Initializer = fan_in_uniform,
        rng: np.random.Generator,
    ) -> None:
        who = "TrainableSubsampling2d"
        self.channels = integer(who, "channels", channels)
        self._kernel = pair(who, "kernel_size", kernel_size)
        self.kernel_size = plain(kernel_size)
        self.area = product(self._kernel)
        factor = start(who, init, rng, (self.channels, 1)).value[:, 0]
        self.coefficient = Parameter(factor / factor.dtype.type(self.area))
        self.bias = Parameter(np.zeros_like(factor), decay=False)

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, C, P, Q)."""
        with speaking_as(self):
            check("TrainableSubsampling2d", "x", x, ("N", self.channels, "H", "W"), self.bias.value)
            means, saved = F.avg_pool2d(x, self._kernel)
        self.keep((means, saved))
        return means * _per_map(self.coefficient.value * self.area) + _per_map(self.bias.value)

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, C, P, Q) to (N, C, H, W)."""
        means, saved = self.take()
        check("trainable_subsampling2d_backward", "dy", dy, means.shape, means)
        self.coefficient.add_grad(self.area * np.einsum("ncpq,ncpq->c", dy, means))
        self.bias.add_grad(dy.sum(axis=(0, 2, 3)))
        return F.avg_pool2d_backward(dy * _per_map(self.coefficient.value * self.area), saved) if need_dx else None

    def window(self, input_shape: Shape) -> Window:
        """The geometry on an image (C, H, W); ShapeError if it does not fit."""
        size = _image_of(self, self.channels, input_shape)
        return window(repr(self), size, self._kernel, self._kernel, ((0, 0), (0, 0)))

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (C, P, Q)."""
        return self.channels, *self.window(input_shape).output


class TableConv2d(Layer):
    """2-D convolution in which each output map sees some of the input maps, of (N, C, H, W) to (N, K, P, Q).

    There is a kernel for each connection of the table and none for the others, so that the weight is (connections, R,
    S), in the order of the table: 60 of 5x5 and 16 biases are the 1 516 parameters of C3 (LeCun et al. 1998, table I).
    No padding, a stride of 1.

    Args:
        in_channels: C.
        table: for each output map the input maps that it sees, counted from 0 and rising.
        kernel_size: an int or (rows, columns).
        init: start values, map by map as of a weight (1, input maps, rows, columns).
        rng: the random numbers of `init`.

    Raises:
        ConfigError: an argument is out of range.

    >>> layer = TableConv2d(3, [[0, 1], [1, 2], [0, 1, 2]], 5, rng=np.random.default_rng(0))
    >>> layer.weight.value.shape, layer.output_shape((3, 14, 14))
    ((7, 5, 5), (3, 10, 10))
    """

    def __init__(
        self,
        in_channels: int,
        table: Sequence[Sequence[int]],
        kernel_size: IntOrPair,
        *,
        init: Initializer = fan_in_uniform,
        rng: np.random.Generator,
    ) -> None:
        self.in_channels = integer("TableConv2d", "in_channels", in_channels)
        self.table = _checked_table(table, self.in_channels)
        self.out_channels = len(self.table)
        self._kernel = pair("TableConv2d", "kernel_size", kernel_size)
        self.kernel_size = plain(kernel_size)
        counts = [len(maps) for maps in self.table]
        self._ends = np.repeat(np.arange(self.out_channels), counts), np.concatenate(self.table)  # to, from
        kernels = [start("TableConv2d", init, rng, (1, count, *self._kernel)).value[0] for count in counts]
        self.weight = Parameter(np.concatenate(kernels))
        self.bias = Parameter(np.zeros(self.out_channels, self.weight.value.dtype), decay=False)

    def dense(self, kernels: Array) -> Array:
        """`kernels` (connections, R, S) as the weight (K, C, R, S) of a convolution over all maps, zero elsewhere."""
        weight = np.zeros((self.out_channels, self.in_channels, *self._kernel), kernels.dtype)
        weight[self._ends] = kernels
        return weight

    def connected(self, weight: Array) -> Array:
        """The part (connections, R, S) of a `weight` (K, C, R, S) that belongs to connections."""
        return weight[self._ends]

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, K, P, Q)."""
        with speaking_as(self):
            check("TableConv2d", "x", x, ("N", self.in_channels, "H", "W"), self.weight.value)
            y, saved = F.conv2d(x, self.dense(self.weight.value), self.bias.value)
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, K, P, Q) to (N, C, H, W)."""
        dx, dweight, dbias = F.conv2d_backward(dy, self.take(), need_dx=need_dx)
        self.weight.add_grad(self.connected(dweight))
        self.bias.add_grad(dbias)
        return dx

    def window(self, input_shape: Shape) -> Window:
        """The geometry on an image (C, H, W); ShapeError if it does not fit."""
        size = _image_of(self, self.in_channels, input_shape)
        return window(repr(self), size, self._kernel, (1, 1), ((0, 0), (0, 0)))

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (K, P, Q)."""
        return self.out_channels, *self.window(input_shape).output

    def __repr__(self) -> str:
        return f"TableConv2d({self.in_channels}, {self.out_channels} maps, kernel_size={self.kernel_size})"


class RBF(Layer):
    """Minus the squared Euclidean distance of x (N, D) from a code for each class, (N, K).

    y[n, k] = -sum over d of (x[n, d] - codes[k, d])^2, so that the largest is that of the nearest code. The codes are
    not trained; they are saved with the weights (LeCun et al. 1998, equation 7, with the sign turned).

    Args:
        in_features: D.
        out_features: K.
        init: the codes (K, D).
        rng: the random numbers of `init`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, in_features: int, out_features: int, *, init: Initializer = signs, rng: np.random.Generator
    ) -> None:
        self.in_features = integer("RBF", "in_features", in_features)
        self.out_features = integer("RBF", "out_features", out_features)
        self.codes = start("RBF", init, rng, (self.out_features, self.in_features))
        self.codes.trainable = False

    def forward(self, x: Array) -> Array:
        """(N, D) to (N, K)."""
        with speaking_as(self):
            check("RBF", "x", x, ("N", self.in_features), self.codes.value)
        x = layout.inner(layout.to_batch_inner(x))  # (D, N)
        way = x - self.codes.value[:, :, None]  # (K, D, N)
        self.keep(x)
        return layout.outer(-np.einsum("kdn,kdn->kn", way, way))

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, K) to (N, D): dx = 2 (dy @ codes - x sum(dy))."""
        x = self.take()
        check("rbf_backward", "dy", dy, (x.shape[1], self.out_features), x)
        dy = layout.inner(layout.to_batch_inner(dy))  # (K, N)
        return layout.outer(2 * (self.codes.value.T @ dy - x * dy.sum(axis=0))) if need_dx else None

    def output_shape(self, input_shape: Shape) -> Shape:
        """(D,) to (K,)."""
        if input_shape != (self.in_features,):
            raise ShapeError(f"{self!r}: expected {self.in_features} features, got an input of {by(input_shape)}")
        return (self.out_features,)


def _per_map(values: Array) -> Array:
    return values[:, None, None]  # (C, 1, 1)


def _image_of(layer: Layer, channels: int, shape: Shape) -> tuple[int, int]:
    """The size of an image of `shape`, which must have so many channels."""
    if len(shape) != 3 or shape[0] != channels:
        got = ", ".join(["N", *map(str, shape)])
        raise ShapeError(f"{layer!r}: expected x of shape (N, {channels}, H, W), got ({got})")
    return shape[1], shape[2]


def _checked_table(table: Any, in_channels: int) -> tuple[tuple[int, ...], ...]:
    """The table in Python's own types; ConfigError if it is none of `in_channels` maps."""
    rows: list[tuple[int, ...]] = []
    for k, maps in enumerate(_entries("table", table)):
        row = tuple(integer("TableConv2d", f"table[{k}]", i, minimum=0) for i in _entries(f"table[{k}]", maps))
        if list(row) != sorted({*row}) or row[-1] >= in_channels:
            expected = f"rising numbers below {in_channels}"
            raise ConfigError(f"TableConv2d: expected table[{k}] to be {expected}, got {shown(row)}")
        rows.append(row)
    return tuple(rows)


def _entries(name: str, value: Any) -> list[Any]:
    entries = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []
    if not entries:
        raise ConfigError(
            f"TableConv2d: expected {name} to be a list of at least one, got {shown(cast(object, value))}"
        )
    return entries
