"""Batch normalisation as a pair. Part of `functional`, see there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stridenet import kernels
from stridenet.communicator import SOLO, Communicator
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn.arrays import check
from stridenet.shapes import positive


class BatchNormSaved(NamedTuple):
    """What batch_norm keeps for its backward, and the statistics it used: float64, (C,)."""

    backend: kernels.Backend
    x: Array
    weight: Array
    mean: Array
    variance: Array  # of the batch over all workers, biased
    pixels: float  # of a channel, the mean over the workers; 0 where the statistics were given
    eps: float
    comm: Communicator


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    statistics: tuple[Array, Array] | None = None,
    *,
    eps: float = 1e-5,
    comm: Communicator = SOLO,
) -> tuple[Array, BatchNormSaved]:
    """y = weight (x - mean) / sqrt(variance + eps) + bias, channel by channel (Ioffe and Szegedy 2015).

    Args:
        x: (N, C, H, W).
        weight: (C,).
        bias: (C,).
        statistics: mean and variance to use, each (C,); None takes those of the batch, in float64 sums, and the
            gradient then flows through them.
        eps: keeps the root away from zero.
        comm: the workers that the batch is spread over.

    Returns:
        y (N, C, H, W), and what `batch_norm_backward` needs.

    Raises:
        ShapeError: shapes or types do not fit, or there is only one pixel a channel and no `statistics`.
        ConfigError: eps is not a finite number > 0, or a given variance is negative.
    """
    check("batch_norm", "weight", weight, ("C",))
    check("batch_norm", "x", x, ("N", len(weight), "H", "W"), weight)
    check("batch_norm", "bias", bias, weight.shape, x)
    positive("batch_norm", "eps", eps)
    backend, count = kernels.get(), 0.0
    if statistics is None:
        count, mean, variance = _moments(x, backend, comm)
    else:
        for name, vector in zip(("mean", "variance"), statistics, strict=True):
            check("batch_norm", name, vector, (x.shape[1],))
        mean, variance = statistics[0].astype(np.float64), statistics[1].astype(np.float64)
        if (variance < 0).any():
            raise ConfigError(f"batch_norm: expected a variance >= 0, got {variance.min():g}")
    saved = BatchNormSaved(backend, x, weight, mean, variance, count, eps, comm)
    y = backend.batch_norm(x, mean.astype(x.dtype), _scale(saved).astype(x.dtype), bias)
    return y, saved


def batch_norm_backward(dy: Array, saved: BatchNormSaved) -> tuple[Array, Array, Array]:
    """dx (N, C, H, W), dweight (C,) and dbias (C,), from dy (N, C, H, W).

    With the statistics of the batch, dx = scale (dy - mean(dy) - xhat mean(dy xhat)), xhat = (x - mean) / deviation
    and scale = weight / deviation; with given ones dx = scale dy.
    """
    x, backend = saved.x, saved.backend
    check("batch_norm_backward", "dy", dy, x.shape, x)
    plain, weighted = backend.channel_sums(dy, x, saved.mean)
    inverse = 1 / np.sqrt(saved.variance + saved.eps)
    gradients = (weighted * inverse).astype(x.dtype), plain.astype(x.dtype)
    shift = slope = np.zeros_like(plain)
    if saved.pixels:
        sums = np.stack([plain, weighted])
        saved.comm.mean(sums.reshape(-1))  # a view: `sums` becomes the mean
        shift, slope = sums[0] / saved.pixels, sums[1] / saved.pixels * inverse**2
    constants = (vector.astype(x.dtype) for vector in (saved.mean, _scale(saved), shift, slope))
    return backend.batch_norm_backward(dy, x, *constants), *gradients


def _scale(saved: BatchNormSaved) -> Array:
    return saved.weight / np.sqrt(saved.variance + saved.eps)


def _moments(x: Array, backend: kernels.Backend, comm: Communicator) -> tuple[float, Array, Array]:
    """Pixels a channel (the mean over the workers), mean and biased variance of the batch over all workers."""
    n = x.size // x.shape[1] if x.size else 0
    own, squares = backend.channel_moments(x) if n else np.zeros((2, x.shape[1]))
    totals = np.append(n * own, n)
    comm.mean(totals)
    count = float(totals[-1])
    if round(count * comm.size) <= 1:  # all workers know it by now: none waits for one that stopped
        raise ShapeError(f"batch_norm: expected more than one value a channel to train on, got x {x.shape}")
    mean = totals[:-1] / count
    squares += n * np.square(own - mean)
    comm.mean(squares)
    return count, mean, squares / count
