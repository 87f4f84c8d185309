"""The operators that slide a window, and those that look at channels: over images of any number of axes.

Images of two axes go through the kernels of stridenet; others, and what the kernels do not do (integers, dilated
pools, the place of a maximum), through NumPy, tap by tap: a tap is what one position of the kernel meets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from stridenet.errors import ShapeError, UnsupportedModelError, shown
from stridenet.interop.onnx.forms import Form, Prepared, one
from stridenet.interop.onnx.proto import Node
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.shapes import Shape, product

MOST_TAPS = 2**16  # of one kernel: they are visited one by one
MOST_NEIGHBOURS = 2**10  # channels that a local response normalisation looks at


class _Axis(NamedTuple):
    """A window along one axis of an image."""

    length: int  # of the image
    kernel: int
    stride: int
    dilation: int
    before: int  # padding
    after: int
    outputs: int
    overhang: int  # how far the last window reaches beyond the padding, in ceil mode

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def blind(self) -> bool:
        """Whether a window sees no pixel: it begins before the image, and a step of its taps leads over all of it."""
        if self.length >= self.dilation:
            return False
        starts = range(0, min(self.before, self.outputs * self.stride, MOST_TAPS), self.stride)
        return self.before > MOST_TAPS or any((i - self.before) % self.dilation >= self.length for i in starts)

    @property
    def padded(self) -> int:
        return self.before + self.length + self.after + self.overhang

    def slice(self, start: int) -> slice:
        """What the tap that begins at `start` meets."""
        return slice(start, start + (self.outputs - 1) * self.stride + 1, self.stride)

    def taps(self, *, include_pad: bool) -> Array:
        """How many taps of each window meet the image, or with `include_pad` the image and its padding."""
        low, high = self.before, self.before + self.length
        if include_pad:
            low, high = 0, high + self.after
        places = np.arange(self.outputs)[:, None] * self.stride + np.arange(self.kernel) * self.dilation
        return ((low <= places) & (places < high)).sum(axis=1)


def _window(node: Node, x: Array, kernel: Shape) -> tuple[_Axis, ...]:
    """The window on x (N, C, *image) that the attributes of the node describe.

    An axis has (length + before + after - extent) // stride + 1 outputs; ceil mode rounds up, but for a window that
    would begin behind the image, and is refused with auto_pad VALID where it matters. SAME gives ceil(length / stride)
    outputs, and the odd pixel of padding to the end (SAME_UPPER) or the beginning (SAME_LOWER).
    """
    rank, auto = x.ndim - 2, node.get("auto_pad", "NOTSET")
    pads = node.get("pads", (0,) * 2 * rank)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    if rank < 1 or not len(kernel) == len(strides) == len(dilations) == len(pads) / 2 == rank:
        raise ShapeError(
            f"{node}: expected x (N, C, ...) and a kernel, strides, dilations and pads for its axes, got x {x.shape},"
            f" {shown(kernel)}, {shown(strides)}, {shown(dilations)}, {shown(pads)}"
        )
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or (auto != "NOTSET" and any(pads)):
        raise ShapeError(
            f"{node}: expected pads, or auto_pad VALID, SAME_UPPER or SAME_LOWER, got {shown(auto)}, {pads}"
        )
    if product(kernel) > MOST_TAPS:
        raise UnsupportedModelError(f"{node}: expected a kernel of at most {MOST_TAPS} taps, got {shown(kernel)}")
    axes: list[_Axis] = []
    for i, length in enumerate(x.shape[2:]):
        before, after = pads[i], pads[rank + i]
        extent = (kernel[i] - 1) * dilations[i] + 1
        if auto.startswith("SAME"):
            total = max((-(-length // strides[i]) - 1) * strides[i] + extent - length, 0)
            before = (total + (auto == "SAME_LOWER")) // 2
            after = total - before
        room = length + before + after - extent
        if room < 0 or not length:
            raise ShapeError(f"{node}: expected an image of at least {extent} along axis {i}, got {x.shape}")
        last = room // strides[i]
        if auto == "VALID" and node.get("ceil_mode", 0) and room % strides[i]:
            raise UnsupportedModelError(
                f"{node}: expected auto_pad NOTSET with ceil_mode=1, got VALID, which programs round in two ways"
            )
        if auto == "NOTSET" and node.get("ceil_mode", 0) and room % strides[i]:
            last += (last + 1) * strides[i] < length + before
        overhang = max(last * strides[i] - room, 0)
        axes.append(_Axis(length, kernel[i], strides[i], dilations[i], before, after, last + 1, overhang))
    return tuple(axes)


def _frame(x: Array, window: tuple[_Axis, ...], fill: Any) -> Array:
    """x with its padding and what hangs over it, all `fill`."""
    widths = [(0, 0), (0, 0), *((axis.before, axis.after + axis.overhang) for axis in window)]
    return np.pad(x, widths, constant_values=fill) if np.any(widths) else x


def _taps(framed: Array, window: tuple[_Axis, ...]) -> Iterator[Array]:
    """For every position of the kernel, the last axis fastest: the view (N, C, *outputs) that it meets."""
    for position in np.ndindex(*(axis.kernel for axis in window)):
        starts = [tap * axis.dilation for tap, axis in zip(position, window, strict=True)]
        yield framed[(..., *(axis.slice(start) for axis, start in zip(window, starts, strict=True)))]


def _frame_bytes(x: Array, window: tuple[_Axis, ...]) -> int:
    return math.prod(x.shape[:2]) * math.prod(axis.padded for axis in window) * x.itemsize


def _arguments(window: tuple[_Axis, ...]) -> dict[str, Any]:
    """The arguments of a function of `functional`, for two axes."""
    return {
        "stride": tuple(axis.stride for axis in window),
        "padding": tuple((axis.before, axis.after) for axis in window),
    }


def _pool_arguments(window: tuple[_Axis, ...]) -> dict[str, Any]:
    """As `_arguments`, for a pool."""
    kernel_size, ceil_mode = tuple(axis.kernel for axis in window), any(axis.overhang for axis in window)
    return {"kernel_size": kernel_size, "ceil_mode": ceil_mode, **_arguments(window)}


def conv(node: Node, x: Array, weight: Array, bias: Array | None = None) -> Prepared:
    """Cross-correlation of x (N, C, *image) with weight (K, C / group, *kernel)."""
    kernel, group = weight.shape[2:], node.get("group", 1)
    if not weight.size or weight.ndim != x.ndim or node.get("kernel_shape", kernel) != kernel:
        raise ShapeError(
            f"{node}: expected weight (K, C / group, ...) with a kernel for each axis of x {x.shape}, got"
            f" {weight.shape} and kernel_shape {shown(node.get('kernel_shape', kernel))}"
        )
    window = _window(node, x, kernel)
    K, depth = weight.shape[:2]
    if x.shape[1] != depth * group or K % group or (bias is not None and bias.shape != (K,)):
        raise ShapeError(
            f"{node}: expected channels of x in group={group} parts of {depth}, and a bias for each of {K} outputs, got"
            f" x {x.shape}, weight {weight.shape}, bias {None if bias is None else bias.shape}"
        )
    shape = (len(x), K, *(axis.outputs for axis in window))
    columns = x.shape[1] * product(kernel) * len(x) * product(shape[2:]) * x.itemsize

    def compute() -> Array:
        if x.ndim != 4 or not x.size:
            return _conv(x, weight, bias, window, group)
        dilation = window[0].dilation, window[1].dilation
        return F.conv2d(x, weight, bias, dilation=dilation, groups=group, **_arguments(window))[0]

    return one(shape, x.dtype, compute, scratch=_frame_bytes(x, window) + columns)


def _conv(x: Array, weight: Array, bias: Array | None, window: tuple[_Axis, ...], group: int) -> Array:
    """The sum over the taps of weight (group, K / group, C / group) @ tap (N, group, C / group, pixels)."""
    N, K, shape = len(x), len(weight), tuple(axis.outputs for axis in window)
    y = np.zeros((N, group, K // group, product(shape)), x.dtype)
    parts = weight.reshape(group, K // group, weight.shape[1], -1)
    for i, tap in enumerate(_taps(_frame(x, window, 0), window)):
        y += parts[..., i] @ tap.reshape(N, group, weight.shape[1], product(shape))
    y = y.reshape(N, K, *shape)
    return y if bias is None else y + bias.reshape(K, *[1] * len(shape))


def max_pool(node: Node, x: Array) -> Prepared:
    """The maximum of each window; with a second output its place in x as one row of numbers, the first at a tie."""
    window = _pool_window(node, x)
    shape = (*x.shape[:2], *(axis.outputs for axis in window))
    places = len(node.outputs) > 1

    def compute() -> tuple[Array, ...]:
        if places:
            return _max_and_place(x, window, column_major=bool(node.get("storage_order", 0)))
        if _has_kernel(x, window):
            return (F.max_pool2d(x, **_pool_arguments(window))[0],)
        return (reduce(np.maximum, _taps(_frame(x, window, _lowest(x.dtype)), window)).copy(),)

    forms = Form(shape, x.dtype), Form(shape, np.dtype(np.int64))
    scratch = 3 * _frame_bytes(x, window)
    return Prepared(forms[: 1 + places], compute, scratch * 8 // x.itemsize if places else scratch)


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_and_place(x: Array, window: tuple[_Axis, ...], *, column_major: bool) -> tuple[Array, Array]:
    """The maxima, and where in x they are; in column-major order the first axis of each image counts fastest."""
    image, order = x.shape[2:], "F" if column_major else "C"
    place = np.arange(product(image)).reshape(image, order=order)
    place = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(image)) * product(image) + place
    framed = _frame(x, window, _lowest(x.dtype)), _frame(place, window, -1)
    pairs = zip(_taps(framed[0], window), _taps(framed[1], window), strict=True)
    value, where = (first.copy() for first in next(pairs))
    for tap, at in pairs:
        better = (tap > value) | (np.isnan(tap) & ~np.isnan(value)) | (where < at) & (where < 0)  # -1 is padding
        value[better], where[better] = tap[better], at[better]
    return value, where


def average_pool(node: Node, x: Array) -> Prepared:
    """The mean of each window: of the image alone, or with count_include_pad of the padding too."""
    window = _pool_window(node, x)
    shape = (*x.shape[:2], *(axis.outputs for axis in window))
    include_pad = bool(node.get("count_include_pad", 0))

    def compute() -> Array:
        if _has_kernel(x, window):
            return F.avg_pool2d(x, count_include_pad=include_pad, **_pool_arguments(window))[0]
        counts = reduce(np.multiply.outer, [axis.taps(include_pad=include_pad) for axis in window])
        total = np.zeros(shape, x.dtype)
        for tap in _taps(_frame(x, window, 0), window):
            total += tap
        return total / np.asarray(counts, x.dtype)

    return one(shape, x.dtype, compute, scratch=_frame_bytes(x, window) + product(shape[2:]) * x.itemsize)


def _has_kernel(x: Array, window: tuple[_Axis, ...]) -> bool:
    """Whether a pool of stridenet does it."""
    return x.ndim == 4 and x.dtype.kind == "f" and x.size > 0 and all(axis.dilation == 1 for axis in window)


def _pool_window(node: Node, x: Array) -> tuple[_Axis, ...]:
    """The window of a pool; each sees a pixel of the image."""
    window = _window(node, x, node.get("kernel_shape", ()))
    if any(max(axis.before, axis.after) >= axis.extent for axis in window):
        pads = [(axis.before, axis.after) for axis in window]
        raise UnsupportedModelError(f"{node}: expected pads smaller than the window, got {shown(pads)}")
    if any(axis.blind for axis in window):
        raise UnsupportedModelError(
            f"{node}: expected windows that see a pixel each, got one that steps over x {x.shape}"
        )
    return window


def global_average_pool(node: Node, x: Array) -> Prepared:
    """The mean of each channel: (N, C, *image) to (N, C, 1, ...)."""
    axes = _image_axes(node, x)
    return one((*x.shape[:2], *[1] * len(axes)), x.dtype, lambda: x.mean(axis=axes, keepdims=True))


def global_max_pool(node: Node, x: Array) -> Prepared:
    """The maximum of each channel: (N, C, *image) to (N, C, 1, ...)."""
    axes = _image_axes(node, x)
    return one((*x.shape[:2], *[1] * len(axes)), x.dtype, lambda: x.max(axis=axes, keepdims=True))


def _image_axes(node: Node, x: Array) -> tuple[int, ...]:
    if x.ndim < 3 or not product(x.shape[2:]):
        raise ShapeError(f"{node}: expected x (N, C, ...) of at least one pixel, got {x.shape}")
    return tuple(range(2, x.ndim))


def batch_normalization(node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Prepared:
    """x (N, C, ...) normalised channel by channel; in training mode also the moving mean and variance."""
    training = bool(node.get("training_mode", 0))
    if not node.get("spatial", 1) or (node.opset == 6 and not node.get("is_test", 0)):
        raise UnsupportedModelError(f"{node}: expected spatial=1 and, in opset 6, is_test=1, got another")
    if len(node.outputs) > 1 and not training:
        raise UnsupportedModelError(f"{node}: expected one output, or training_mode=1, got {len(node.outputs)} outputs")
    channels = x.shape[1:2]
    if not channels or any(vector.shape != channels for vector in (scale, bias, mean, variance)):
        raise ShapeError(
            f"{node}: expected x (N, C, ...) and four vectors (C,), got {x.shape}, {scale.shape}, {bias.shape},"
            f" {mean.shape}, {variance.shape}"
        )
    if training and not x.size:
        raise ShapeError(f"{node}: expected at least one value a channel, got x {x.shape}")
    momentum = node.get("momentum", 0.9)

    def compute() -> tuple[Array, ...]:
        if not training:
            return (normalise(mean, variance),)
        rest = tuple(axis for axis in range(x.ndim) if axis != 1)
        own = x.mean(axis=rest, dtype=np.float64), x.var(axis=rest, dtype=np.float64)
        moved = (old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), own, strict=True))
        return normalise(*own), *(vector.astype(mean.dtype) for vector in moved)

    def normalise(mean: Array, variance: Array) -> Array:
        flat = x.reshape(*x.shape[:2], product(x.shape[2:]), 1)
        vectors = (vector.astype(x.dtype) for vector in (scale, bias, mean, variance))
        weight, shift, *statistics = vectors
        y, _ = F.batch_norm(flat, weight, shift, (statistics[0], statistics[1]), eps=node.get("epsilon", 1e-5))
        return y.reshape(x.shape)

    forms = Form(x.shape, x.dtype), Form(mean.shape, mean.dtype), Form(variance.shape, variance.dtype)
    return Prepared(forms[: len(node.outputs)], lambda: compute()[: len(node.outputs)], x.nbytes)


def lrn(node: Node, x: Array) -> Prepared:
    """x / (bias + alpha / size * sum of x^2 over `size` neighbouring channels)^beta (Krizhevsky et al. 2012)."""
    size = node.get("size", 1)
    if x.ndim < 2 or size > MOST_NEIGHBOURS:
        raise ShapeError(f"{node}: expected x (N, C, ...) and size <= {MOST_NEIGHBOURS}, got {x.shape}, {shown(size)}")
    C = x.shape[1]
    before, after = min((size - 1) // 2, C), min(size // 2, C)  # channels; there are no more

    def compute() -> Array:
        squares = np.pad(np.square(x), [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
        total = sum(squares[:, i : i + C] for i in range(before + after + 1))
        return x / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * total) ** node.get("beta", 0.75)

    return one(x.shape, x.dtype, compute, scratch=4 * x.nbytes)
