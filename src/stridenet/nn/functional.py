"""Operations as pairs: ``f(...) -> (y, saved)`` beside ``f_backward(dy, saved) -> gradients in argument order``.

Pure functions: a training loop can be written with these alone. Shapes and types are checked here, once: each function
raises ShapeError where they do not fit. The backend is chosen here, once, and named in `saved`, so that a backward
never mixes backends. Results are batch innermost in memory (see `layout`). Arrays are float32 or float64, never
changed, and results share no memory with hidden state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stridenet import kernels, layout
from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn.activations import (
    leaky_relu as leaky_relu,
    leaky_relu_backward as leaky_relu_backward,
    log_softmax as log_softmax,
    log_softmax_backward as log_softmax_backward,
    relu as relu,
    relu_backward as relu_backward,
    sigmoid as sigmoid,
    sigmoid_backward as sigmoid_backward,
    softmax as softmax,
    softmax_backward as softmax_backward,
    tanh as tanh,
    tanh_backward as tanh_backward,
)
from stridenet.nn.arrays import check
from stridenet.nn.batch_norm import (
    BatchNormSaved as BatchNormSaved,
    batch_norm as batch_norm,
    batch_norm_backward as batch_norm_backward,
)
from stridenet.nn.shortcut import (
    ZeroPadSaved as ZeroPadSaved,
    zero_pad_shortcut as zero_pad_shortcut,
    zero_pad_shortcut_backward as zero_pad_shortcut_backward,
)
from stridenet.shapes import (
    IntOrPair,
    Padding,
    Shape,
    Window,
    flag,
    fraction,
    integer,
    padding_margins,
    pair,
    pool_arguments,
    product,
    taps_of,
    window,
)


class Conv2dSaved(NamedTuple):
    """What conv2d keeps for its backward."""

    backend: kernels.Backend
    x: Array
    weight: Array
    has_bias: bool
    columns: object
    window: Window
    groups: int


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2dSaved]:
    """2-D cross-correlation, the "convolution" of neural networks.

    y[n, k, p, q] = bias[k] + sum over c, r, s of x[n, c, p*stride + r*dilation - top, ...] * weight[k, c, r, s],
    output sizes as in `shapes.window` (LeCun et al. 1998, section II; groups: Krizhevsky et al. 2012).

    Args:
        x: (N, C, H, W).
        weight: (K, C / groups, R, S).
        bias: (K,) or None.
        stride: step of the window, an int or (rows, columns).
        padding: zeros around x: an int, (vertical, horizontal), ((top, bottom), (left, right)) or "same".
        dilation: step between the taps of the kernel.
        groups: the channels are convolved in that many separate groups.

    Returns:
        y (N, K, P, Q), and what `conv2d_backward` needs.

    Raises:
        ShapeError: shapes or types do not fit.
        ConfigError: an argument is out of range.
    """
    check("conv2d", "weight", weight, ("K", "C", "R", "S"))
    groups = integer("conv2d", "groups", groups)
    K, depth = weight.shape[:2]  # depth: the channels of one group
    if K % groups or not weight.size:
        raise ShapeError(
            f"conv2d: expected weight (K, C, R, S), none 0, groups={groups} dividing K, got {weight.shape}"
        )
    check("conv2d", "x", x, ("N", depth * groups, "H", "W"), weight)
    if bias is not None:
        check("conv2d", "bias", bias, (K,), x)
    geometry = window(
        "conv2d",
        (x.shape[2], x.shape[3]),
        (weight.shape[2], weight.shape[3]),
        pair("conv2d", "stride", stride),
        padding_margins("conv2d", padding),
        pair("conv2d", "dilation", dilation),
    )
    backend = kernels.get()
    y, columns = backend.conv2d(x, weight, bias, geometry, groups)
    return y, Conv2dSaved(backend, x, weight, bias is not None, columns, geometry, groups)


def conv2d_backward(dy: Array, saved: Conv2dSaved, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """dx (N, C, H, W) or None, dweight, dbias or None, from dy (N, K, P, Q)."""
    check("conv2d_backward", "dy", dy, (len(saved.x), len(saved.weight), *saved.window.output), saved.x)
    dx, dweight = saved.backend.conv2d_backward(
        dy, saved.x, saved.weight, saved.columns, saved.window, saved.groups, need_dx
    )
    return dx, dweight, dy.sum(axis=(0, 2, 3)) if saved.has_bias else None


class MaxPool2dSaved(NamedTuple):
    """What max_pool2d keeps for its backward."""

    backend: kernels.Backend
    x: Array
    y: Array
    window: Window


def max_pool2d(
    x: Array,
    kernel_size: IntOrPair,
    *,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> tuple[Array, MaxPool2dSaved]:
    """The maximum of each window of x (N, C, H, W); y (N, C, P, Q). `stride` None means `kernel_size`.

    Padding never wins, so it must be smaller than the kernel. At a tie the first maximum counts, row by row.
    `ceil_mode` adds the windows that hang over the edge, if they begin inside.

    Raises:
        ShapeError: the window does not fit.
        ConfigError: an argument is out of range.
    """
    geometry = _pool_window("max_pool2d", x, kernel_size, stride, padding, ceil_mode)
    backend = kernels.get()
    y = backend.max_pool2d(x, geometry)
    return y, MaxPool2dSaved(backend, x, np.copy(y), geometry)


def max_pool2d_backward(dy: Array, saved: MaxPool2dSaved) -> Array:
    """dx (N, C, H, W): the gradient dy (N, C, P, Q) of each window goes whole to its first maximum."""
    check("max_pool2d_backward", "dy", dy, saved.y.shape, saved.x)
    return saved.backend.max_pool2d_backward(dy, saved.x, saved.y, saved.window)


class AvgPool2dSaved(NamedTuple):
    """What avg_pool2d keeps for its backward."""

    backend: kernels.Backend
    x: Array
    window: Window
    counts: Array


def avg_pool2d(
    x: Array,
    kernel_size: IntOrPair,
    *,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPool2dSaved]:
    """The mean of each window of x (N, C, H, W); y (N, C, P, Q). The arguments of max_pool2d, and one more.

    With `count_include_pad` the zeros of the padding count as pixels; without it the mean is over the image alone.
    What hangs over the padding in ceil mode never counts.

    Raises:
        ShapeError: the window does not fit.
        ConfigError: an argument is out of range.
    """
    geometry = _pool_window("avg_pool2d", x, kernel_size, stride, padding, ceil_mode)
    include_pad = flag("avg_pool2d", "count_include_pad", count_include_pad)
    rows, columns = taps_of(geometry, (x.shape[2], x.shape[3]), include_pad=include_pad)
    counts = np.outer(rows, columns).astype(x.dtype)  # (P, Q)
    backend = kernels.get()
    return backend.avg_pool2d(x, geometry, counts), AvgPool2dSaved(backend, x, geometry, counts)


def avg_pool2d_backward(dy: Array, saved: AvgPool2dSaved) -> Array:
    """dx (N, C, H, W): the gradient dy (N, C, P, Q) of each window in equal shares."""
    check("avg_pool2d_backward", "dy", dy, (*saved.x.shape[:2], *saved.window.output), saved.x)
    return saved.backend.avg_pool2d_backward(dy, saved.x, saved.window, saved.counts)


def global_avg_pool2d(x: Array) -> tuple[Array, AvgPool2dSaved]:
    """The mean of each channel: (N, C, H, W) to (N, C, 1, 1) (Lin, Chen and Yan 2014). Its backward is avg_pool2d's."""
    check("global_avg_pool2d", "x", x, ("N", "C", "H", "W"))
    if not x.shape[2] * x.shape[3]:
        raise ShapeError(f"global_avg_pool2d: expected images of at least one pixel, got x {x.shape}")
    return avg_pool2d(x, (x.shape[2], x.shape[3]))


def _pool_window(
    who: str, x: Array, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding, ceil_mode: bool
) -> Window:
    check(who, "x", x, ("N", "C", "H", "W"))
    kernel, step, margins = pool_arguments(who, kernel_size, stride, padding)
    ceil_mode = flag(who, "ceil_mode", ceil_mode)
    return window(who, (x.shape[2], x.shape[3]), kernel, step, margins, ceil_mode=ceil_mode)


def flatten(x: Array) -> tuple[Array, Shape]:
    """(N, C, H, W) to (N, C*H*W), channel by channel, row by row; a view of x if it can be. Saved: x's shape."""
    check("flatten", "x", x, ("N", ...))
    return x.reshape(len(x), product(x.shape[1:])), x.shape


def flatten_backward(dy: Array, shape: Shape) -> Array:
    """dx (N, C, H, W) from dy (N, C*H*W)."""
    check("flatten_backward", "dy", dy, (shape[0], product(shape[1:])))
    return dy.reshape(shape)


class LinearSaved(NamedTuple):
    """What linear keeps for its backward."""

    backend: kernels.Backend
    x: Array
    weight: Array
    has_bias: bool


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearSaved]:
    """y = x @ weight.T + bias, of x (N, D), weight (K, D) and bias (K,) or None; y (N, K).

    Raises:
        ShapeError: shapes or types do not fit.
    """
    check("linear", "weight", weight, ("K", "D"))
    check("linear", "x", x, ("N", weight.shape[1]), weight)
    if bias is not None:
        check("linear", "bias", bias, (weight.shape[0],), x)
    backend = kernels.get()
    return backend.linear(x, weight, bias), LinearSaved(backend, x, weight, bias is not None)


def linear_backward(dy: Array, saved: LinearSaved, *, need_dx: bool = True) -> tuple[Array | None, Array, Array | None]:
    """dx (N, D) or None, dweight (K, D), dbias (K,) or None, from dy (N, K)."""
    check("linear_backward", "dy", dy, (len(saved.x), len(saved.weight)), saved.x)
    dx, dweight = saved.backend.linear_backward(dy, saved.x, saved.weight, need_dx)
    return dx, dweight, dy.sum(axis=0) if saved.has_bias else None


def dropout(x: Array, p: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each element dropped with probability `p`, the others divided by 1 - p, so that E[y] = x. Saved: the mask.

    Srivastava et al. 2014, in its inverted form: nothing is left to do at evaluation.
    """
    check("dropout", "x", x, ("N", ...))
    mask = _mask("dropout", x, x.shape[1:], p, rng)
    return x * mask, mask


def dropout2d(x: Array, p: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """As `dropout`, but of whole channels of x (N, C, H, W): neighbouring pixels say the same (Tompson et al. 2015)."""
    check("dropout2d", "x", x, ("N", "C", "H", "W"))
    mask = _mask("dropout2d", x, (x.shape[1], 1, 1), p, rng)
    return x * mask, np.broadcast_to(mask, x.shape)


def _mask(who: str, x: Array, shape: Sequence[int], p: float, rng: np.random.Generator) -> Array:
    """Of shape (N, *shape): 0 where dropped, else 1 / (1 - p)."""
    fraction(who, "p", p)
    kept = rng.random((*shape, len(x)), np.float32) >= p
    return layout.outer(kept) * x.dtype.type(1 / (1 - p))


def dropout_backward(dy: Array, mask: Array) -> Array:
    """dx = dy times the same mask."""
    check("dropout_backward", "dy", dy, mask.shape, mask)
    return dy * mask
