"""The shortcut without parameters of residual networks, as a pair. Part of `functional`, see there."""

from __future__ import annotations

from typing import NamedTuple

from stridenet import layout
from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn.arrays import check
from stridenet.shapes import MOST_PIXELS, IntOrPair, Pair, Shape, integer, pair, product, window


class ZeroPadSaved(NamedTuple):
    """What zero_pad_shortcut keeps for its backward."""

    input: Shape
    output: Shape
    stride: Pair


def zero_pad_shortcut(x: Array, out_channels: int, *, stride: IntOrPair = 1) -> tuple[Array, ZeroPadSaved]:
    """Every `stride`-th pixel of x (N, C, H, W), and channels of zeros behind its own; y (N, K, P, Q).

    y[n, k, p, q] = x[n, k, p*stride, q*stride] for k < C, else 0; P = ceil(H / stride) (He, Zhang, Ren and Sun 2016,
    section 3.3, option A).

    Raises:
        ShapeError: x is no batch of images, or one of y has more than 2^31 numbers.
        ConfigError: an argument is out of range; out_channels is at least C.
    """
    who = "zero_pad_shortcut"
    check(who, "x", x, ("N", "C", "H", "W"))
    N, C, H, W = x.shape
    K, (rows, columns) = integer(who, "out_channels", out_channels, minimum=C), pair(who, "stride", stride)
    y = layout.empty((N, *padded_shape(who, K, (H, W), (rows, columns))), x.dtype)
    y[:, :C] = x[:, :, ::rows, ::columns]
    y[:, C:] = 0
    return y, ZeroPadSaved(x.shape, y.shape, (rows, columns))


def zero_pad_shortcut_backward(dy: Array, saved: ZeroPadSaved) -> Array:
    """dx (N, C, H, W): dy (N, K, P, Q) where a pixel was taken, else 0; what came to the zeros is lost."""
    check("zero_pad_shortcut_backward", "dy", dy, saved.output)
    rows, columns = saved.stride
    dx = layout.empty(saved.input, dy.dtype)
    dx[...] = 0
    dx[:, :, ::rows, ::columns] = dy[:, : dx.shape[1]]
    return dx


def padded_shape(who: str, out_channels: int, size: Pair, stride: Pair) -> Shape:
    """(K, P, Q) of an image of `size` (H, W); the (checked) arguments are those of zero_pad_shortcut."""
    shape = out_channels, *window(who, size, (1, 1), stride, ((0, 0), (0, 0))).output
    if product(shape) > MOST_PIXELS:
        raise ShapeError(f"{who}: expected an output of at most 2^31 numbers an image, got {shape}; use fewer channels")
    return shape
