"""The layers. The mathematics of each is in `functional`; here are its parameters and its place in a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.init import Initializer, he_normal
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.parameters import Parameter
from stridenet.shapes import (
    IntOrPair,
    Margins,
    Padding,
    Same,
    Shape,
    Window,
    check_reach,
    extent_of,
    flag,
    integer,
    number,
    padding_margins,
    pair,
    plain,
    product,
    window,
)

MOST_WEIGHTS = 2**31  # of one layer: 8 GiB


def start(who: str, init: Initializer, rng: np.random.Generator, shape: Shape) -> Parameter:
    """A weight of `shape`, drawn; ConfigError if it is too large or nothing can be drawn."""
    if not isinstance(rng, np.random.Generator):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"{who}: expected rng to be a Generator, got {shown(rng)}; use np.random.default_rng(seed)")
    if product(shape) > MOST_WEIGHTS:
        raise ConfigError(f"{who}: expected at most 2^31 weights, got {shape}")
    return Parameter(init(rng, shape))


def _bias(who: str, bias: bool, weight: Parameter) -> Parameter | None:
    if not flag(who, "bias", bias):
        return None
    return Parameter(np.zeros(len(weight.value), weight.value.dtype), decay=False)


class Conv2d(Layer):
    """2-D convolution of (N, in_channels, H, W) to (N, out_channels, P, Q); see `functional.conv2d`.

    Args:
        in_channels: C.
        out_channels: K.
        kernel_size: an int or (rows, columns).
        stride: an int or (rows, columns).
        padding: an int, (vertical, horizontal), ((top, bottom), (left, right)) or "same".
        dilation: an int or (rows, columns).
        groups: divides both channel counts.
        bias: whether a bias is added; it starts at zero and has no weight decay.
        init: start values of the weight (out_channels, in_channels / groups, rows, columns).
        rng: the random numbers of `init`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer = he_normal,
        rng: np.random.Generator,
    ) -> None:
        self.in_channels = integer("Conv2d", "in_channels", in_channels)
        self.out_channels = integer("Conv2d", "out_channels", out_channels)
        self.groups = integer("Conv2d", "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ConfigError(f"Conv2d: expected groups to divide {in_channels} and {out_channels}, got {groups}")
        self._kernel = pair("Conv2d", "kernel_size", kernel_size)
        self._stride = pair("Conv2d", "stride", stride)
        self._dilation = pair("Conv2d", "dilation", dilation)
        self._padding: Margins | Same = padding_margins("Conv2d", padding)
        check_reach("Conv2d", self._padding, extent_of(self._kernel, self._dilation))
        self.kernel_size, self.stride = plain(kernel_size), plain(stride)
        self.padding, self.dilation = plain(padding), plain(dilation)
        shape = self.out_channels, self.in_channels // self.groups, *self._kernel
        self.weight = start("Conv2d", init, rng, shape)
        self.bias = _bias("Conv2d", bias, self.weight)

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, K, P, Q)."""
        with speaking_as(self):
            y, saved = F.conv2d(
                x,
                self.weight.value,
                None if self.bias is None else self.bias.value,
                stride=self._stride,
                padding=self._padding,
                dilation=self._dilation,
                groups=self.groups,
            )
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, K, P, Q) to (N, C, H, W)."""
        dx, dweight, dbias = F.conv2d_backward(dy, self.take(), need_dx=need_dx)
        self.weight.add_grad(dweight)
        if self.bias is not None:
            self.bias.add_grad(dbias)
        return dx

    def window(self, input_shape: Shape) -> Window:
        """The geometry on an image (C, H, W); ShapeError if it does not fit."""
        if len(input_shape) != 3 or input_shape[0] != self.in_channels:
            got = ", ".join(["N", *map(str, input_shape)])
            hint = f"; use in_channels={input_shape[0]}" if len(input_shape) == 3 else "; one image is (C, H, W)"
            raise ShapeError(f"{self!r}: expected x of shape (N, {self.in_channels}, H, W), got ({got}){hint}")
        size = input_shape[1], input_shape[2]
        return window(repr(self), size, self._kernel, self._stride, self._padding, self._dilation)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (K, P, Q)."""
        return self.out_channels, *self.window(input_shape).output

    def spec(self) -> dict[str, Any]:
        """The arguments; `bias` as a bool."""
        return {**super().spec(), "bias": self.bias is not None}


class Linear(Layer):
    """y = x @ weight.T + bias, of (N, in_features) to (N, out_features).

    Args:
        in_features: D.
        out_features: K.
        bias: whether a bias is added; it starts at zero and has no weight decay.
        init: start values of the weight (out_features, in_features).
        rng: the random numbers of `init`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        init: Initializer = he_normal,
        rng: np.random.Generator,
    ) -> None:
        self.in_features = integer("Linear", "in_features", in_features)
        self.out_features = integer("Linear", "out_features", out_features)
        self.weight = start("Linear", init, rng, (self.out_features, self.in_features))
        self.bias = _bias("Linear", bias, self.weight)

    def forward(self, x: Array) -> Array:
        """(N, D) to (N, K)."""
        with speaking_as(self):
            y, saved = F.linear(x, self.weight.value, None if self.bias is None else self.bias.value)
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, K) to (N, D)."""
        dx, dweight, dbias = F.linear_backward(dy, self.take(), need_dx=need_dx)
        self.weight.add_grad(dweight)
        if self.bias is not None:
            self.bias.add_grad(dbias)
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        """(D,) to (K,)."""
        if input_shape != (self.in_features,):
            features = product(input_shape)
            flatten = "put Flatten() before it and " if len(input_shape) > 1 else ""
            raise ShapeError(
                f"{self!r}: expected {self.in_features} features, got {features} {input_shape} from the layer before; "
                f"{flatten}use in_features={features}"
            )
        return (self.out_features,)

    def spec(self) -> dict[str, Any]:
        """The arguments; `bias` as a bool."""
        return {**super().spec(), "bias": self.bias is not None}


class Activation(Layer):
    """A function without parameters that keeps the shape (N, ...)."""

    function: ClassVar[Callable[[Array], tuple[Array, Array]]]
    derivative: ClassVar[Callable[[Array, Array], Array]]

    def forward(self, x: Array) -> Array:
        """(N, ...) to (N, ...)."""
        with speaking_as(self):
            y, saved = type(self).function(x)
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, ...) to (N, ...)."""
        return type(self).derivative(dy, self.take())

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape


class ReLU(Activation):
    """max(x, 0); the derivative at 0 is 0."""

    function, derivative = F.relu, F.relu_backward


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope x; the derivative at 0 is negative_slope.

    Args:
        negative_slope: a finite number >= 0.

    Raises:
        ConfigError: it is another.
    """

    function, derivative = F.leaky_relu, F.leaky_relu_backward

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, low=0.0, high=math.inf)

    def forward(self, x: Array) -> Array:
        """(N, ...) to (N, ...)."""
        with speaking_as(self):
            y, slopes = F.leaky_relu(x, self.negative_slope)
        self.keep(slopes)
        return y


class Tanh(Activation):
    """Hyperbolic tangent."""

    function, derivative = F.tanh, F.tanh_backward


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function, derivative = F.sigmoid, F.sigmoid_backward


class Softmax(Activation):
    """exp x / sum exp x over the channels or features, axis 1. For training, losses take the scores before it."""

    function, derivative = F.softmax, F.softmax_backward


class LogSoftmax(Activation):
    """x - log sum exp x over the channels or features, axis 1."""

    function, derivative = F.log_softmax, F.log_softmax_backward


class Flatten(Layer):
    """(N, C, H, W) to (N, C*H*W), channel by channel, row by row."""

    def forward(self, x: Array) -> Array:
        """(N, ...) to (N, D)."""
        with speaking_as(self):
            y, shape = F.flatten(x)
        self.keep(shape)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, D) to (N, ...)."""
        return F.flatten_backward(dy, self.take())

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (C*H*W,)."""
        return (product(input_shape),)
