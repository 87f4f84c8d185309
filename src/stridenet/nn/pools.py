"""The pooling layers. The mathematics of each is in `functional`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.layer import Layer, speaking_as
from stridenet.shapes import IntOrPair, Padding, Shape, Window, flag, plain, pool_arguments, window


class _Pool2d(Layer):
    """A window that slides over each channel by itself."""

    def __init__(
        self, kernel_size: IntOrPair, *, stride: IntOrPair | None = None, padding: Padding = 0, ceil_mode: bool = False
    ) -> None:
        who = type(self).__name__
        self._window = pool_arguments(who, kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = plain(kernel_size), plain(stride), plain(padding)
        self.ceil_mode = flag(who, "ceil_mode", ceil_mode)

    @abstractmethod
    def _pool(self, x: Array) -> tuple[Array, Any]:
        """The function of this layer."""

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, C, P, Q)."""
        with speaking_as(self):
            y, saved = self._pool(x)
        self.keep(saved)
        return y

    def window(self, input_shape: Shape) -> Window:
        """The geometry on an image (C, H, W); ShapeError if it does not fit."""
        _, H, W = image(self, input_shape)
        return window(repr(self), (H, W), *self._window, ceil_mode=self.ceil_mode)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (C, P, Q)."""
        C, _, _ = image(self, input_shape)
        return C, *self.window(input_shape).output


def image(layer: Layer, shape: Shape) -> tuple[int, int, int]:
    """`shape`, if it is that of an image (C, H, W); ShapeError otherwise."""
    if len(shape) != 3:
        raise ShapeError(f"{layer!r}: expected an input (C, H, W), got {shape}")
    return shape[0], shape[1], shape[2]


class MaxPool2d(_Pool2d):
    """The maximum of each window, of (N, C, H, W) to (N, C, P, Q); see `functional.max_pool2d`.

    Args:
        kernel_size: an int or (rows, columns).
        stride: an int or (rows, columns); None means `kernel_size`.
        padding: as in Conv2d, smaller than the kernel; padding never wins.
        ceil_mode: add the windows that hang over the edge, if they begin inside.

    Raises:
        ConfigError: an argument is out of range.
    """

    def _pool(self, x: Array) -> tuple[Array, Any]:
        return F.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode)

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, C, P, Q) to (N, C, H, W)."""
        return F.max_pool2d_backward(dy, self.take())


class AvgPool2d(_Pool2d):
    """The mean of each window, of (N, C, H, W) to (N, C, P, Q); see `functional.avg_pool2d`.

    Args:
        kernel_size: an int or (rows, columns).
        stride: an int or (rows, columns); None means `kernel_size`.
        padding: as in Conv2d, smaller than the kernel.
        ceil_mode: add the windows that hang over the edge, if they begin inside.
        count_include_pad: whether the zeros of the padding count as pixels.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        *,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
        self.count_include_pad = flag("AvgPool2d", "count_include_pad", count_include_pad)

    def _pool(self, x: Array) -> tuple[Array, Any]:
        return F.avg_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, C, P, Q) to (N, C, H, W)."""
        return F.avg_pool2d_backward(dy, self.take())


class GlobalAvgPool2d(Layer):
    """The mean of each channel, of (N, C, H, W) to (N, C, 1, 1); see `functional.global_avg_pool2d`."""

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, C, 1, 1)."""
        with speaking_as(self):
            y, saved = F.global_avg_pool2d(x)
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, C, 1, 1) to (N, C, H, W)."""
        return F.avg_pool2d_backward(dy, self.take())

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (C, 1, 1)."""
        C, H, W = image(self, input_shape)
        if not H * W:
            raise ShapeError(f"{self!r}: expected an image of at least one pixel, got {input_shape}")
        return C, 1, 1
