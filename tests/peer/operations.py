"""One operation, done by stridenet and by PyTorch: configurations that both take, and all results of each.

Results are y, the gradients in argument order, and, where there are any, the running statistics behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.regularization import BatchNorm2d
from stridenet.shapes import padding_margins, window

Rng = np.random.Generator
Options = dict[str, Any]
Shapes = list[tuple[int, ...]]

ELEMENTWISE = ("relu", "leaky_relu", "tanh", "sigmoid", "softmax", "log_softmax")


def numbers(draw: Rng, low: int, high: int, count: int = 2) -> Any:
    return tuple(draw.integers(low, high, count).tolist())


# --- configurations; `large` is a factor on the sizes


def draw_conv2d(draw: Rng, large: int) -> tuple[Options, Shapes]:
    """N from 0, sizes to 17, strides beyond the kernel, padding on each side by itself, dilation, groups."""
    while True:
        groups = int(draw.choice([1, 1, 2, 4]))
        depth, per_group = numbers(draw, 1, 4 * large // groups + 1)
        size, kernel = numbers(draw, 1, 8 * large + 2), numbers(draw, 1, 2 * large + 2)
        options = {
            "stride": numbers(draw, 1, 5),
            "padding": (numbers(draw, 0, 4), numbers(draw, 0, 4)),
            "dilation": numbers(draw, 1, 4),
            "groups": groups,
        }
        try:
            window("draw", size, kernel, options["stride"], options["padding"], options["dilation"])
        except ShapeError:
            continue
        shapes = [(int(draw.integers(0, 6)), groups * depth, *size), (groups * per_group, depth, *kernel)]
        return options, shapes + [(groups * per_group,)] * int(draw.integers(2))


def draw_pool(draw: Rng, large: int) -> tuple[Options, Shapes]:
    """PyTorch allows padding to half the kernel."""
    while True:
        kernel, size = numbers(draw, 1, 2 * large + 2), numbers(draw, 1, 8 * large + 2)
        options = {
            "kernel_size": kernel,
            "stride": None if draw.integers(4) == 0 else numbers(draw, 1, 5),
            "padding": tuple(int(draw.integers(0, k // 2 + 1)) for k in kernel),
            "ceil_mode": bool(draw.integers(2)),
        }
        margins: Any = padding_margins("draw", options["padding"])
        try:
            window("draw", size, kernel, options["stride"] or kernel, margins, ceil_mode=options["ceil_mode"])
        except ShapeError:
            continue
        return options, [(int(draw.integers(1, 6)), int(draw.integers(1, 5)), *size)]


def draw_avg_pool(draw: Rng, large: int) -> tuple[Options, Shapes]:
    options, shapes = draw_pool(draw, large)
    return options | {"count_include_pad": bool(draw.integers(2))}, shapes


def draw_batch_norm(draw: Rng, large: int) -> tuple[Options, Shapes]:
    """Every third with one image; at least 4 numbers a channel."""
    N = int(draw.choice([1, *draw.integers(1, 9, 2)]))
    C, (H, W) = int(draw.integers(1, 6)), numbers(draw, 1, 4 * large + 1)
    if N * H * W < 4:
        H += 3
    options = {
        "training": bool(draw.integers(2)),
        "momentum": float(draw.choice([0.0, 0.1, 0.3, 1.0])),
        "eps": float(draw.choice([1e-5, 1e-3, 0.1])),
    }
    return options, [(N, C, H, W), *[(C,)] * 4]


def draw_linear(draw: Rng, large: int) -> tuple[Options, Shapes]:
    N, D, K = int(draw.integers(0, 20)), *numbers(draw, 1, 20 * large)
    return {}, [(N, D), (K, D), *[(K,)] * int(draw.integers(2))]


def draw_elementwise(draw: Rng, large: int) -> tuple[Options, Shapes]:
    return {}, [(int(draw.integers(1, 6)), *numbers(draw, 1, 4 * large, int(draw.choice([1, 3]))))]


def draw_leaky_relu(draw: Rng, large: int) -> tuple[Options, Shapes]:
    return {"negative_slope": float(draw.uniform(0, 1))}, draw_elementwise(draw, large)[1]


def draw_image(draw: Rng, large: int) -> tuple[Options, Shapes]:
    return {}, [numbers(draw, 1, 4 * large, 4)]


DRAW: dict[str, Callable[[Rng, int], tuple[Options, Shapes]]] = {
    "conv2d": draw_conv2d,
    "max_pool2d": draw_pool,
    "avg_pool2d": draw_avg_pool,
    "global_avg_pool2d": draw_image,
    "batch_norm": draw_batch_norm,
    "linear": draw_linear,
    **dict.fromkeys(ELEMENTWISE, draw_elementwise),
    "leaky_relu": draw_leaky_relu,
}


# --- stridenet


def output_shape(op: str, options: Options, shapes: Shapes) -> tuple[int, ...]:
    """Of y, and of the gradient that comes back to it."""
    if op == "batch_norm":
        return shapes[0]
    return getattr(F, op)(*(np.zeros(shape) for shape in shapes), **options)[0].shape


def ours(op: str, options: Options, arrays: list[Array], dy: Array) -> list[Array]:
    if op == "batch_norm":
        return _our_batch_norm(options, arrays, dy)
    y, saved = getattr(F, op)(*arrays, **options)
    backward = F.avg_pool2d_backward if op == "global_avg_pool2d" else getattr(F, f"{op}_backward")
    gradients = backward(dy, saved)
    return [y, *(gradients if isinstance(gradients, tuple) else [gradients])[: len(arrays)]]


def _our_batch_norm(options: Options, arrays: list[Array], dy: Array) -> list[Array]:
    x, weight, bias, mean, variance = arrays
    layer = BatchNorm2d(x.shape[1], momentum=options["momentum"], eps=options["eps"]).astype(x.dtype)
    for parameter, value in (
        *((layer.weight, weight), (layer.bias, bias)),
        *((layer.running_mean, mean), (layer.running_var, np.abs(variance))),
    ):
        parameter.value[:] = value
    if options["training"]:
        y = layer.forward(x)
        dx = layer.backward(dy)
        assert dx is not None
        gradients = [dx, layer.weight.grad, layer.bias.grad]
    else:
        y = layer.eval().forward(x)
        given = mean, np.abs(variance)
        gradients = list(F.batch_norm_backward(dy, F.batch_norm(x, weight, bias, given, eps=options["eps"])[1]))
    return [y, *gradients, layer.running_mean.value, layer.running_var.value]


# --- PyTorch


def theirs(torch: Any, op: str, options: Options, arrays: list[Array], dy: Array) -> list[Array]:
    functional, options = torch.nn.functional, dict(options)
    tensors = [torch.tensor(a.copy(order="C"), requires_grad=True) for a in arrays]
    x, behind = tensors[0], []
    if op == "conv2d":
        (top, bottom), (left, right) = options.pop("padding")
        y = functional.conv2d(functional.pad(x, (left, right, top, bottom)), *tensors[1:], **options)
    elif op == "global_avg_pool2d":
        y = functional.adaptive_avg_pool2d(x, 1)
    elif op == "batch_norm":
        behind = [tensors[3].detach(), tensors[4].detach().abs()]
        tensors = tensors[:3]
        y = functional.batch_norm(x, *behind, *tensors[1:], **options)
    elif op in ("softmax", "log_softmax"):
        y = getattr(torch, op)(x, 1)
    elif op in ("relu", "tanh", "sigmoid"):
        y = getattr(torch, op)(x)
    else:
        y = getattr(functional, op)(*tensors, **options)
    y.backward(torch.tensor(dy.copy(order="C")))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors), *(t.numpy() for t in behind)]
