"""The curvature of a loss along each parameter by itself: second derivatives, propagated back layer by layer.

For a layer y = f(x, w) the second derivatives h of the loss by its outputs give those by its inputs and parameters:

    h_x = sum over y of (dy/dx)^2 h_y        h_w = sum over y of (dy/dw)^2 h_y

This leaves out the curvature of f itself (Gauss and Newton), so that nothing gets below zero, and all mixed
derivatives, those between the places of a shared weight too: its h is the sum of what each place would have. LeCun et
al. 1998, appendix C, and LeCun, Bottou, Orr and Mueller 1998, *Efficient BackProp*, section 7.

The layers do not know of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Activation, Conv2d, Flatten, Linear, ReLU, Sigmoid, Tanh
from stridenet.nn.losses import Loss, cross_entropy, map_criterion, mse, rbf_mse
from stridenet.nn.parameters import Parameter
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Sequential

Found = dict[Parameter | None, Array]  # the h of each parameter, of its shape
Behind = tuple[Array, Found]
Rule = Callable[[Any, Array, Array], Behind]  # (layer, x, h of y) -> h of x, and those of the parameters


def curvature(network: Layer, loss: Loss, x: Array, targets: Array) -> Array:
    """The second derivative of the loss by each trained parameter, roughly: the mean over images x, (P,), >= 0.

    Args:
        network: packed; of the layers that RULES has, one after another; an RBF may be the last.
        loss: cross_entropy, map_criterion, rbf_mse or mse.
        x: images (N, C, H, W), or features (N, D).
        targets: (N,), as the loss takes them.

    Raises:
        ConfigError: there is no rule for a layer or for the loss.
    """
    layers = list(_flat(network))
    for i, layer in enumerate(layers):
        if type(layer) not in RULES and not (type(layer) is RBF and i == len(layers) - 1):
            names = ", ".join(kind.__name__ for kind in RULES)
            raise ConfigError(f"curvature: expected layers among {names}, and an RBF at the end, got {layer!r}")
    inputs = [x]
    for layer in layers:
        inputs.append(layer.forward(inputs[-1]))
    network.forget()
    gradient, h = _of_scores(loss, inputs.pop(), targets)
    found: Found = {}
    if layers and isinstance(layers[-1], RBF):
        h = _through_codes(layers.pop(), inputs.pop(), gradient, h)
    for layer, given in zip(reversed(layers), reversed(inputs), strict=True):
        h, more = RULES[type(layer)](layer, given, h)
        found |= more
    params = network.pack()
    return np.concatenate([found[p].ravel() for p in params.parameters.values()] or [params.value])


def _flat(network: Layer) -> Iterator[Layer]:
    """The layers one after another."""
    if not isinstance(network, Sequential):
        yield network
        return
    for layer in network.layers:
        yield from _flat(layer)


def _of_scores(loss: Loss, scores: Array, targets: Array) -> tuple[Array, Array]:
    """First and second derivative (N, K) of each image's loss by its scores, the second over N."""
    N, K = scores.shape
    gradient = N * loss(scores, targets)[1]
    if loss in (cross_entropy, map_criterion):
        p = gradient.copy()
        p[np.arange(N), targets] += 1  # the probability of each class
        return gradient, np.maximum(p * (1 - p), 0) / N
    if loss in (rbf_mse, mse):
        return gradient, np.full_like(scores, 0.0 if loss is rbf_mse else 2 / K / N)
    raise ConfigError("curvature: expected the loss cross_entropy, map_criterion, rbf_mse or mse, got another")


def _through_codes(layer: Any, x: Array, gradient: Array, h: Array) -> Array:
    """h of the inputs (N, D) of an RBF: h_x = sum over k of 4 (x - c_k)^2 h_k - 2 g_k.

    The second term is the curvature of the distance itself, which Gauss and Newton leave out as it may be negative.
    Here it is not: with map_criterion -sum g is the probability of no class. It is most of all where a training begins,
    when every code is far away and the loss is the squared distance from one of them.
    """
    way = x.T - layer.codes.value[:, :, None]  # (K, D, N)
    own = np.maximum(-2 * gradient.sum(axis=1), 0) / len(x)  # (N,)
    return 4 * np.einsum("nk,kdn->nd", h, way * way) + own[:, None]


def _conv2d(layer: Conv2d, x: Array, h: Array) -> Behind:
    """The rule of the gradient, with all factors squared."""
    arguments = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    _, saved = F.conv2d(x * x, np.square(layer.weight.value), **arguments)
    dx, dweight, _ = F.conv2d_backward(h, saved)
    return cast(Array, dx), {layer.weight: dweight, layer.bias: h.sum(axis=(0, 2, 3))}


def _table_conv2d(layer: TableConv2d, x: Array, h: Array) -> Behind:
    _, saved = F.conv2d(x * x, layer.dense(np.square(layer.weight.value)))
    dx, dweight, _ = F.conv2d_backward(h, saved)
    return cast(Array, dx), {layer.weight: layer.connected(dweight), layer.bias: h.sum(axis=(0, 2, 3))}


def _linear(layer: Linear, x: Array, h: Array) -> Behind:
    _, saved = F.linear(x * x, np.square(layer.weight.value))
    dx, dweight, _ = F.linear_backward(h, saved)
    return cast(Array, dx), {layer.weight: dweight, layer.bias: h.sum(axis=0)}


def _subsampling(layer: TrainableSubsampling2d, x: Array, h: Array) -> Behind:
    """The coefficient is one weight on the sum of a window."""
    means, saved = F.avg_pool2d(x, layer.kernel_size)
    sums, coefficient = layer.area * means, layer.coefficient.value[:, None, None]
    dx = layer.area * F.avg_pool2d_backward(h * (coefficient * coefficient), saved)
    return dx, {layer.coefficient: np.einsum("ncpq,ncpq->c", h, sums * sums), layer.bias: h.sum(axis=(0, 2, 3))}


def _activation(layer: Activation, x: Array, h: Array) -> Behind:
    kind = type(layer)
    _, saved = kind.function(x)
    return kind.derivative(kind.derivative(h, saved), saved), {}


def _max_pool2d(layer: MaxPool2d, x: Array, h: Array) -> Behind:
    arguments = {name: getattr(layer, name) for name in ("stride", "padding", "ceil_mode")}
    return F.max_pool2d_backward(h, F.max_pool2d(x, layer.kernel_size, **arguments)[1]), {}


def _flatten(_: Flatten, x: Array, h: Array) -> Behind:
    return h.reshape(x.shape), {}


RULES: dict[type[Layer], Rule] = {
    Conv2d: _conv2d,
    TableConv2d: _table_conv2d,
    Linear: _linear,
    TrainableSubsampling2d: _subsampling,
    MaxPool2d: _max_pool2d,
    Flatten: _flatten,
    **dict.fromkeys((ScaledTanh, ReLU, Tanh, Sigmoid), _activation),
}
