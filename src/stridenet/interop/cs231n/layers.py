"""The layers of the coursework as pairs: ``*_forward(x, ...) -> (out, cache)``, ``*_backward(dout, cache) -> grads``.

Each calls its operation of `nn.functional`; a cache is a tuple that only its backward reads. Images are (N, C, H, W),
and results are in C order. Weights of an affine layer are (D, M), ours the other way round. Arrays of different types
are brought to one, at least float32.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from stridenet import seeding
from stridenet.errors import ConfigError, shown, suggestion
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.losses import cross_entropy, hinge
from stridenet.shapes import choice, fraction, number, product

Cache = tuple[Any, ...]
Options = Mapping[str, Any]


def _floats(*arrays: Array) -> list[Array]:
    """The arrays in their common type, float32 or float64."""
    dtype = np.result_type(np.float32, *arrays)
    return [np.asarray(array, dtype) for array in arrays]


def _plain(x: Array | None) -> Any:
    """In C order; None where there is no gradient."""
    return None if x is None else np.ascontiguousarray(x)


def check_names(who: str, options: Options, known: Sequence[str]) -> None:
    """Raise ConfigError if `options` has a name that is not `known`."""
    for name in options:
        if name not in known:
            raise ConfigError(f"{who}: expected {', '.join(known)}, got {shown(name)}{suggestion(str(name), known)}")


def needed(who: str, options: Options, name: str) -> Any:
    """The entry `name`; ConfigError if there is none."""
    if name not in options:
        raise ConfigError(f"{who}: expected {name}, got {', '.join(map(str, options)) or 'nothing'}")
    return options[name]


# One layer each


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """out (N, M) = x w + b, of x (N, ...) with D numbers a row, w (D, M) and b (M,).

    Raises:
        ShapeError: shapes do not fit.
    """
    x, w, b = _floats(x, w, b)
    out, saved = F.linear(x.reshape(len(x), product(x.shape[1:])), w.T, b)
    return _plain(out), (x.shape, saved)


def affine_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx (N, ...), dw (D, M) and db (M,)."""
    shape, saved = cache
    dx, dweight, db = F.linear_backward(np.asarray(dout, saved.x.dtype), saved)
    return _plain(dx).reshape(shape), _plain(dweight.T), _plain(db)


def relu_forward(x: Array) -> tuple[Array, Cache]:
    """max(x, 0), any shape (N, ...)."""
    out, saved = F.relu(_floats(x)[0])
    return _plain(out), (saved,)


def relu_backward(dout: Array, cache: Cache) -> Array:
    """dx; `dout` stays as it is."""
    return _plain(F.relu_backward(_floats(dout)[0], cache[0]))


def conv_forward_naive(x: Array, w: Array, b: Array, conv_param: Options) -> tuple[Array, Cache]:
    """out (N, K, P, Q) of x (N, C, H, W), w (K, C, R, S) and b (K,); `conv_param` has "stride" and "pad".

    An axis has (H - R + 2 pad) // stride + 1 outputs.

    Raises:
        ConfigError: `conv_param` lacks an entry or has another, or it is out of range.
        ShapeError: shapes do not fit.
    """
    check_names("conv_param", conv_param, ("stride", "pad"))
    stride, padding = (needed("conv_param", conv_param, name) for name in ("stride", "pad"))
    x, w, b = _floats(x, w, b)
    out, saved = F.conv2d(x, w, b, stride=stride, padding=padding)
    return _plain(out), (saved,)


def conv_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx (N, C, H, W), dw (K, C, R, S) and db (K,)."""
    (saved,) = cache
    dx, dw, db = F.conv2d_backward(np.asarray(dout, saved.x.dtype), saved)
    return _plain(dx), _plain(dw), _plain(db)


def max_pool_forward_naive(x: Array, pool_param: Options) -> tuple[Array, Cache]:
    """The maximum of each window of x (N, C, H, W); `pool_param` has "pool_height", "pool_width" and "stride".

    Windows may overlap. At a tie the first maximum, row by row, takes the gradient.

    Raises:
        ConfigError: `pool_param` lacks an entry or has another, or it is out of range.
        ShapeError: a window is larger than the image.
    """
    names = ("pool_height", "pool_width", "stride")
    check_names("pool_param", pool_param, names)
    height, width, stride = (needed("pool_param", pool_param, name) for name in names)
    out, saved = F.max_pool2d(_floats(x)[0], (height, width), stride=stride)
    return _plain(out), (saved,)


def max_pool_backward_naive(dout: Array, cache: Cache) -> Array:
    """dx (N, C, H, W); what several windows send to a pixel is added."""
    (saved,) = cache
    return _plain(F.max_pool2d_backward(np.asarray(dout, saved.x.dtype), saved))


# There is one convolution and one pooling here, whatever they were called.
conv_forward_fast, conv_backward_fast = conv_forward_naive, conv_backward_naive
max_pool_forward_fast, max_pool_backward_fast = max_pool_forward_naive, max_pool_backward_naive


def spatial_batchnorm_forward(
    x: Array, gamma: Array, beta: Array, bn_param: MutableMapping[str, Any]
) -> tuple[Array, Cache]:
    """x (N, C, H, W) with mean 0 and variance 1 in each channel, times gamma (C,), plus beta (C,).

    `bn_param` has "mode", "train" or "test", and may have "eps" (1e-5) and "momentum" (0.9), the share of the old in
    the running statistics. Training keeps "running_mean" and "running_var" in it, "test" uses them (0 and 1 if none).

    Raises:
        ConfigError: an entry is unknown, missing or out of range.
        ShapeError: shapes do not fit, or there is one value a channel to train on.
    """
    who = "bn_param"
    check_names(who, bn_param, ("mode", "eps", "momentum", "running_mean", "running_var"))
    mode = choice(f"{who} mode", needed(who, bn_param, "mode"), ("train", "test"))
    keep = number(who, "momentum", bn_param.get("momentum", 0.9), low=0.0, high=1.0)
    x, gamma, beta = _floats(x, gamma, beta)
    running = [
        np.asarray(bn_param.get(name, np.full(len(gamma), start)), np.float64)
        for name, start in (("running_mean", 0.0), ("running_var", 1.0))
    ]
    given = (running[0].astype(x.dtype), running[1].astype(x.dtype)) if mode == "test" else None
    out, saved = F.batch_norm(x, gamma, beta, given, eps=bn_param.get("eps", 1e-5))
    if mode == "train":
        batch = saved.statistics.mean, saved.statistics.variance
        mean, variance = (keep * old + (1 - keep) * new for old, new in zip(running, batch, strict=True))
        bn_param["running_mean"], bn_param["running_var"] = mean.astype(x.dtype), variance.astype(x.dtype)
    return _plain(out), (saved,)


def spatial_batchnorm_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx (N, C, H, W), dgamma (C,) and dbeta (C,); through the statistics of the batch if it was normalised by them."""
    (saved,) = cache
    dx, dgamma, dbeta = F.batch_norm_backward(np.asarray(dout, saved.x.dtype), saved)
    return _plain(dx), dgamma, dbeta


def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: MutableMapping[str, Any]) -> tuple[Array, Cache]:
    """As `spatial_batchnorm_forward`, each of the D columns of x (N, D) a channel."""
    out, cache = spatial_batchnorm_forward(x[:, :, None, None], gamma, beta, bn_param)
    return out[:, :, 0, 0], cache


def batchnorm_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx (N, D), dgamma (D,) and dbeta (D,)."""
    dx, dgamma, dbeta = spatial_batchnorm_backward(dout[:, :, None, None], cache)
    return dx[:, :, 0, 0], dgamma, dbeta


def dropout_forward(x: Array, dropout_param: Options) -> tuple[Array, Cache]:
    """Each number of x kept with probability "p" and then divided by it; in mode "test" x as it is.

    `dropout_param` has "mode", "p", in (0, 1], and may have "seed", which gives the same mask each time.

    Raises:
        ConfigError: an entry is unknown, missing or out of range.
    """
    who = "dropout_param"
    check_names(who, dropout_param, ("mode", "p", "seed"))
    mode = choice(f"{who} mode", needed(who, dropout_param, "mode"), ("train", "test"))
    keep = number(who, "p", needed(who, dropout_param, "p"), low=0.0, high=1.0, open_low=True)
    drop = fraction(who, "1 - p", 1 - keep)
    (x,) = _floats(x)
    if mode == "test":
        return _plain(x.copy()), (np.ones_like(x),)
    seed = dropout_param.get("seed")
    rng = np.random.default_rng() if seed is None else seeding.stream(seed, "dropout")
    out, mask = F.dropout(x, drop, rng)
    return _plain(out), (mask,)


def dropout_backward(dout: Array, cache: Cache) -> Array:
    """dx: dout times the same mask."""
    (mask,) = cache
    return _plain(F.dropout_backward(np.asarray(dout, mask.dtype), mask))


# Several in a row


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """An affine layer and ReLU."""
    out, affine = affine_forward(x, w, b)
    out, relu = relu_forward(out)
    return out, (affine, relu)


def affine_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dw and db of both."""
    affine, relu = cache
    return affine_backward(relu_backward(dout, relu), affine)


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Options) -> tuple[Array, Cache]:
    """A convolution and ReLU."""
    out, conv = conv_forward_naive(x, w, b, conv_param)
    out, relu = relu_forward(out)
    return out, (conv, relu)


def conv_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dw and db of both."""
    conv, relu = cache
    return conv_backward_naive(relu_backward(dout, relu), conv)


def conv_bn_relu_forward(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    conv_param: Options,
    bn_param: MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """A convolution, batch normalisation of its channels, and ReLU."""
    out, conv = conv_forward_naive(x, w, b, conv_param)
    out, norm = spatial_batchnorm_forward(out, gamma, beta, bn_param)
    out, relu = relu_forward(out)
    return out, (conv, norm, relu)


def conv_bn_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array, Array, Array]:
    """dx, dw, db, dgamma and dbeta of the three."""
    conv, norm, relu = cache
    dout, dgamma, dbeta = spatial_batchnorm_backward(relu_backward(dout, relu), norm)
    return *conv_backward_naive(dout, conv), dgamma, dbeta


def conv_relu_pool_forward(
    x: Array, w: Array, b: Array, conv_param: Options, pool_param: Options
) -> tuple[Array, Cache]:
    """A convolution, ReLU and max pooling."""
    out, both = conv_relu_forward(x, w, b, conv_param)
    out, pool = max_pool_forward_naive(out, pool_param)
    return out, (both, pool)


def conv_relu_pool_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dw and db of the three."""
    both, pool = cache
    return conv_relu_backward(max_pool_backward_naive(dout, pool), both)


# Losses


def svm_loss(x: Array, y: Array) -> tuple[float, Array]:
    """The mean multiclass hinge loss of scores x (N, K) and classes y (N,), and dx (N, K).

    Raises:
        ShapeError, LabelError: as for `nn.losses.hinge`.
    """
    loss, dx = hinge(_floats(x)[0], np.asarray(y))
    return loss, _plain(dx)


def softmax_loss(x: Array, y: Array) -> tuple[float, Array]:
    """The mean cross-entropy of softmax(x), x (N, K), for classes y (N,), and dx (N, K).

    Raises:
        ShapeError, LabelError: as for `nn.losses.cross_entropy`.
    """
    loss, dx = cross_entropy(_floats(x)[0], np.asarray(y))
    return loss, _plain(dx)
