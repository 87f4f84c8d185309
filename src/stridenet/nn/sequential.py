"""Layers in a row, layers beside a shortcut, and a shortcut without parameters."""

from __future__ import annotations

from textwrap import indent
from typing import Any, cast

from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.arrays import check
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.shortcut import padded_shape
from stridenet.shapes import IntOrPair, Shape, integer, pair, plain


class Sequential(Layer):
    """The layers one after another.

    Args:
        layers: the layers, in order.
        input_shape: of one image, (C, H, W); given, every shape is checked at construction.

    Raises:
        ConfigError: an argument is no layer, or the same one twice: a layer keeps one forward for its backward.
        ShapeError: a layer does not take what the one before it gives; the message names both.
    """

    def __init__(self, *layers: Layer, input_shape: Shape | None = None) -> None:
        seen: set[Layer] = set()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"Sequential[{i}]: expected a layer, got {shown(layer)}")
            if layer in seen:
                raise ConfigError(f"Sequential[{i}]: expected each layer once, got {layer!r} again; make another one")
            seen.add(layer)
        self.layers = layers
        self.reseed(0)  # each random layer draws from a stream of its own place
        self.input_shape = None if input_shape is None else _image_shape(input_shape)
        if self.input_shape is not None:
            self.output_shape(self.input_shape)

    def children(self) -> list[tuple[str, Layer]]:
        """The layers by their position: "0", "1", ..."""
        return [(str(i), layer) for i, layer in enumerate(self.layers)]

    def forward(self, x: Array) -> Array:
        """The last layer's output."""
        for i, layer in enumerate(self.layers):
            try:
                x = layer.forward(x)
            except ShapeError as error:
                raise ShapeError(f"Sequential[{i}] {error}") from None
        return x

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """From the last layer to the first; without `need_dx` to the first that is trained, which may leave dx out."""
        if not self.layers:
            return dy
        first = 0 if need_dx else next((i for i, layer in enumerate(self.layers) if not layer.frozen), 0)
        for frozen in self.layers[:first]:
            frozen.forget()
        for layer in self.layers[:first:-1]:
            dy = cast(Array, layer.backward(dy))
        return self.layers[first].backward(dy, need_dx=need_dx)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Of the last layer."""
        return self.shapes(input_shape)[-1]

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """The input's shape and that of every layer's output, without N."""
        shapes = [input_shape]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"Sequential[{i}] {error}") from None
        return shapes

    def spec(self) -> dict[str, Any]:
        """The specs of the layers, and the input's shape."""
        shape = None if self.input_shape is None else list(self.input_shape)
        return {"kind": "Sequential", "layers": [layer.spec() for layer in self.layers], "input_shape": shape}

    def __repr__(self) -> str:
        rows = (f"[{i}] {layer!r}" for i, layer in enumerate(self.layers))
        return "".join(["Sequential(", *("\n" + indent(row, "  ") for row in rows), "\n)"])


class Residual(Layer):
    """y = body(x) + shortcut(x), where a shortcut of None is x itself (He et al. 2016).

    Args:
        body: a layer, mostly a Sequential.
        shortcut: a layer that gives the same shape, or None.

    Raises:
        ConfigError: an argument is no layer, or both are the same.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        for name, layer in (("body", body), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and (layer is not None or name == "body"):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"Residual: expected {name} to be a layer, got {shown(layer)}")
        if body is shortcut:
            raise ConfigError(f"Residual: expected two layers, got one {type(body).__name__} twice; make another one")
        self.body, self.shortcut = body, shortcut
        self.reseed(0)

    def forward(self, x: Array) -> Array:
        """(N, ...) to (N, ...)."""
        y, aside = self.body.forward(x), x if self.shortcut is None else self.shortcut.forward(x)
        _check_one_shape(y.shape, aside.shape)
        return y + aside

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, ...) to (N, ...): the gradients of both ways add up."""
        dx = self.body.backward(dy, need_dx=need_dx)
        aside = dy if self.shortcut is None else self.shortcut.backward(dy, need_dx=need_dx)
        return cast(Array, dx) + cast(Array, aside) if need_dx else None

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the body, which must be that of the shortcut."""
        shape = self.body.output_shape(input_shape)
        _check_one_shape(shape, input_shape if self.shortcut is None else self.shortcut.output_shape(input_shape))
        return shape

    def spec(self) -> dict[str, Any]:
        """The specs of both ways."""
        aside = None if self.shortcut is None else self.shortcut.spec()
        return {"kind": "Residual", "body": self.body.spec(), "shortcut": aside}

    def __repr__(self) -> str:
        return "Residual(\n" + indent(f"{self.body!r},\nshortcut={self.shortcut!r}", "  ") + "\n)"


class ZeroPadShortcut(Layer):
    """A shortcut without parameters, of (N, in_channels, H, W) to (N, out_channels, P, Q).

    Every `stride`-th pixel is taken and channels of zeros are added; see `functional.zero_pad_shortcut`.

    Args:
        in_channels: C.
        out_channels: K, at least C.
        stride: an int or (rows, columns).

    Raises:
        ConfigError: an argument is out of range.

    >>> ZeroPadShortcut(16, 32, stride=2).output_shape((16, 32, 32))
    (32, 16, 16)
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: IntOrPair = 1) -> None:
        self.in_channels = integer("ZeroPadShortcut", "in_channels", in_channels)
        self.out_channels = integer("ZeroPadShortcut", "out_channels", out_channels, minimum=self.in_channels)
        self._stride = pair("ZeroPadShortcut", "stride", stride)
        self.stride = plain(stride)

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, K, P, Q)."""
        with speaking_as(self):
            check("ZeroPadShortcut", "x", x, ("N", self.in_channels, "H", "W"))
            y, saved = F.zero_pad_shortcut(x, self.out_channels, stride=self._stride)
        self.keep(saved)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, K, P, Q) to (N, C, H, W)."""
        return F.zero_pad_shortcut_backward(dy, self.take())

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (K, P, Q)."""
        if len(input_shape) != 3 or input_shape[0] != self.in_channels:
            got = ", ".join(["N", *map(str, input_shape)])
            raise ShapeError(f"{self!r}: expected x of shape (N, {self.in_channels}, H, W), got ({got})")
        return padded_shape(repr(self), self.out_channels, (input_shape[1], input_shape[2]), self._stride)


def _check_one_shape(body: Shape, shortcut: Shape) -> None:
    if body != shortcut:
        raise ShapeError(
            f"Residual: expected body and shortcut to give one shape, got {body} and {shortcut};"
            " give a shortcut such as Conv2d with kernel_size=1"
        )


def _image_shape(value: Any) -> Shape:
    if not isinstance(value, tuple | list) or not value:
        raise ConfigError(f"Sequential: expected input_shape as sizes (C, H, W), got {shown(cast(object, value))}")
    return tuple(integer("Sequential", "input_shape", size) for size in cast("list[Any]", value))
