"""Size formulas, and the checks that turn a bad size into one clear line.

Letters, here and everywhere: N batch, C H W input channels, rows, columns, K output channels, R S kernel rows,
columns, P Q output rows, columns, D features.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from numbers import Real
from typing import Any, Literal, NamedTuple, cast

from stridenet.errors import ConfigError, ShapeError, shown, suggestion

Shape = tuple[int, ...]
Pair = tuple[int, int]
IntOrPair = int | Pair
Margins = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Same = Literal["same"]
Padding = int | Pair | Margins | Same

LARGEST = 2**53  # beyond, JSON does not carry an integer
MOST_PIXELS = 2**31  # of one image as a window sees it, padding included


class Window(NamedTuple):
    """A sliding window over an image of known size: (rows, columns) of everything, padding as margins."""

    kernel: Pair  # (R, S)
    stride: Pair
    padding: Margins
    dilation: Pair
    output: Pair  # (P, Q)
    overhang: Pair = (0, 0)  # how far the last windows reach beyond the padding, in ceil mode


def integer(who: str, name: str, value: Any, *, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum` and at most 2^53.

    Raises:
        ConfigError: it is not an integer (a bool and a float are none), too small or too large.
    """
    try:
        result = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        result = None
    if result is None:
        raise ConfigError(f"{who}: expected {name} to be an integer >= {minimum}, got {shown(value)}")
    if not minimum <= result <= LARGEST:
        limit = f"<= {LARGEST}" if result > LARGEST else f">= {minimum}"
        raise ConfigError(f"{who}: expected {name} {limit}, got {shown(result)}")
    return result


def number(
    who: str, name: str, value: Any, *, low: float, high: float, open_low: bool = False, open_high: bool = False
) -> float:
    """`value` as a float in [low, high], without `low` with `open_low`, without `high` with `open_high`.

    Raises:
        ConfigError: it is not a real number (a bool is none), not finite or out of range.
    """
    limits = f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if high == math.inf:
        limits = f"{'>' if open_low else '>='} {low:g}"
    try:
        result = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ConfigError(f"{who}: expected {name} to be a finite number {limits}, got {shown(value)}")
    if not low <= result <= high or (open_low and result == low) or (open_high and result == high):
        raise ConfigError(f"{who}: expected {name} {limits}, got {shown(value)}")
    return result


def positive(who: str, name: str, value: Any) -> float:
    """`value` as a float above 0.

    Raises:
        ConfigError: it is not a real number, not finite, or not above 0.
    """
    return number(who, name, value, low=0.0, high=math.inf, open_low=True)


def fraction(who: str, name: str, value: Any, *, open_low: bool = False) -> float:
    """`value` as a float in [0, 1), or in (0, 1) with `open_low`.

    Raises:
        ConfigError: it is not a real number, or not in that range.
    """
    return number(who, name, value, low=0.0, high=1.0, open_low=open_low, open_high=True)


def flag(who: str, name: str, value: Any) -> bool:
    """`value`, if it is True or False.

    Raises:
        ConfigError: it is anything else, 0 and 1 too.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{who}: expected {name} to be True or False, got {shown(value)}")
    return value


def choice(who: str, value: Any, known: Collection[str]) -> str:
    """`value`, if it is one of the `known` words.

    Raises:
        ConfigError: it is another; the message has the word that is near, if any.
    """
    if not isinstance(value, str) or value not in known:
        hint = suggestion(value, known) if isinstance(value, str) else ""
        raise ConfigError(f"{who}: expected one of {', '.join(known)}, got {shown(value)}{hint}")
    return value


def pair(who: str, name: str, value: Any, *, minimum: int = 1) -> Pair:
    """`value`, an int or two of them (rows, columns), as two ints of at least `minimum`."""
    entries = _entries(value)
    if entries is None:
        one = integer(who, name, value, minimum=minimum)
        return one, one
    if len(entries) != 2:
        raise ConfigError(f"{who}: expected {name} to be an integer or a pair (rows, columns), got {shown(value)}")
    return integer(who, name, entries[0], minimum=minimum), integer(who, name, entries[1], minimum=minimum)


def padding_margins(who: str, value: Any) -> Margins | Same:
    """Padding in any of its forms as margins ((top, bottom), (left, right)), or "same"."""
    if isinstance(value, str):
        if value != "same":
            raise ConfigError(
                f'{who}: expected padding to be an integer, a pair, two pairs or "same", got {shown(value)}'
            )
        return "same"
    entries = _entries(value)
    if entries is not None and len(entries) == 2 and all(_entries(entry) is not None for entry in entries):
        return pair(who, "padding", entries[0], minimum=0), pair(who, "padding", entries[1], minimum=0)
    vertical, horizontal = pair(who, "padding", value, minimum=0)
    return (vertical, vertical), (horizontal, horizontal)


def plain(value: Any) -> Any:
    """A checked argument in Python's own types, as a model file stores it: ints and tuples of them."""
    entries = _entries(value)
    if entries is not None:
        return tuple(plain(entry) for entry in entries)
    return operator.index(value) if hasattr(value, "__index__") else value


def _entries(value: Any) -> list[Any] | None:
    return list(cast("list[Any]", value)) if isinstance(value, tuple | list) else None


def window(
    who: str,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Margins | Same,
    dilation: Pair = (1, 1),
    *,
    ceil_mode: bool = False,
) -> Window:
    """The window of these (checked) arguments on an image of `size` (H, W).

    An axis has (size + before + after - extent) // stride + 1 outputs, extent = dilation * (kernel - 1) + 1. "same"
    gives ceil(size / stride) outputs and puts the odd row or column of padding last, as ONNX SAME_UPPER does.
    `ceil_mode` rounds the division up, but for a window that would begin behind the image: none does.

    Raises:
        ShapeError: the window is larger than the padded image, or that has more than 2^31 pixels.
    """
    extents = extent_of(kernel, dilation)
    if padding == "same":
        padding = _same(size[0], extents[0], stride[0]), _same(size[1], extents[1], stride[1])
    output: list[int] = []
    overhang: list[int] = []
    for length, extent, step, margin in zip(size, extents, stride, padding, strict=True):
        room = length + sum(margin) - extent
        last = room // step
        if ceil_mode and room % step and (last + 1) * step < length + margin[0]:
            last += 1
        if last < 0 or length == 0:
            raise ShapeError(
                f"{who}: expected an image of at least {extents[0]}x{extents[1]} with its padding, got"
                f" {size[0]}x{size[1]} with padding {padding}; use a smaller kernel or more padding"
            )
        output.append(last + 1)
        overhang.append(max(last * step - room, 0))
    rows, columns = (n + sum(margin) + over for n, margin, over in zip(size, padding, overhang, strict=True))
    if rows * columns > MOST_PIXELS:
        raise ShapeError(
            f"{who}: expected an image of at most 2^31 pixels with its padding, got {rows}x{columns}; use a smaller"
            " kernel or less padding"
        )
    return Window(kernel, stride, padding, dilation, (output[0], output[1]), (overhang[0], overhang[1]))


def extent_of(kernel: Pair, dilation: Pair) -> Pair:
    """The rows and columns from the first tap of a kernel to its last, both included."""
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _same(length: int, extent: int, stride: int) -> Pair:
    total = max((-(-length // stride) - 1) * stride + extent - length, 0)
    return total // 2, total - total // 2


def taps_of(window: Window, size: Pair, *, include_pad: bool) -> tuple[list[int], list[int]]:
    """How many rows each row of windows averages, and how many columns, on an image of `size` (H, W).

    With `include_pad` the padding counts; what hangs over it in ceil mode never does.
    """
    counts: list[list[int]] = []
    for axis, length in enumerate(size):
        before, after = window.padding[axis]
        low, high = (-before, length + after) if include_pad else (0, length)
        starts = [i * window.stride[axis] - before for i in range(window.output[axis])]
        counts.append([min(start + window.kernel[axis], high) - max(start, low) for start in starts])
    return counts[0], counts[1]


def pool_arguments(
    who: str, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding
) -> tuple[Pair, Pair, Margins | Same]:
    """Kernel, stride (`kernel_size` where it is None) and padding of a pooling, checked.

    Raises:
        ConfigError: an argument is out of range, or a window could lie in the padding alone.
    """
    kernel = pair(who, "kernel_size", kernel_size)
    step = kernel if stride is None else pair(who, "stride", stride)
    margins = padding_margins(who, padding)
    check_reach(who, margins, kernel)
    return kernel, step, margins


def check_reach(who: str, padding: Margins | Same, extent: Pair) -> None:
    """Raise ConfigError if the padding is so wide that a window of `extent` could see nothing else."""
    if padding != "same" and any(max(margin) >= reach for margin, reach in zip(padding, extent, strict=True)):
        raise ConfigError(
            f"{who}: expected padding smaller than the window's {extent[0]}x{extent[1]}, got {padding}; "
            "such a window would see padding alone"
        )


def product(shape: Shape) -> int:
    """The number of elements of an array of `shape`, as a Python int that cannot overflow."""
    return math.prod(shape)


def grouped(number: int) -> str:
    """A number as people read it.

    >>> grouped(44426)
    '44 426'
    """
    return f"{number:,}".replace(",", " ")


def by(shape: Shape) -> str:
    """A shape as people say it.

    >>> by((1, 28, 28))
    '1x28x28'
    """
    return "x".join(map(str, shape))
