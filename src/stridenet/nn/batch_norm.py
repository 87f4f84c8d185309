"""Batch normalisation as a pair. Part of `functional`, see there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stridenet import kernels
from stridenet.communicator import SOLO, Communicator
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn.arrays import check
from stridenet.shapes import Shape, positive, product


class Statistics(NamedTuple):
    """What a batch is normalised with: float64, (C,)."""

    mean: Array
    variance: Array  # of the batch over all workers, biased
    pixels: float  # of a channel, the mean over the workers; 0 where the statistics were given
    eps: float
    comm: Communicator

    @property
    def inverse(self) -> Array:
        """1 / the standard deviation (C,)."""
        return 1 / np.sqrt(self.variance + self.eps)


class BatchNormSaved(NamedTuple):
    """What batch_norm keeps for its backward."""

    backend: kernels.Backend
    x: Array
    weight: Array
    statistics: Statistics


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
        n = x.size // x.shape[1] if x.size else 0
        own, squares = backend.channel_moments(x) if n else np.zeros((2, x.shape[1]))
        count, mean, variance = merged(x.shape, own, squares, comm)
    else:
        for name, vector in zip(("mean", "variance"), statistics, strict=True):
            check("batch_norm", name, vector, (x.shape[1],))
        mean, variance = given(*statistics)
    found = Statistics(mean, variance, count, eps, comm)
    y = backend.batch_norm(x, mean.astype(x.dtype), (weight * found.inverse).astype(x.dtype), bias)
    return y, BatchNormSaved(backend, x, weight, found)


def batch_norm_backward(dy: Array, saved: BatchNormSaved) -> tuple[Array, Array, Array]:
    """dx (N, C, H, W), dweight (C,) and dbias (C,), from dy (N, C, H, W).

    With the statistics of the batch, dx = scale (dy - mean(dy) - xhat mean(dy xhat)), xhat = (x - mean) / deviation
    and scale = weight / deviation; with given ones dx = scale dy.
    """
    x, backend, found = saved.x, saved.backend, saved.statistics
    check("batch_norm_backward", "dy", dy, x.shape, x)
    dweight, dbias, shift, slope = gradients(*backend.channel_sums(dy, x, found.mean), found)
    constants = (vector.astype(x.dtype) for vector in (found.mean, saved.weight * found.inverse, shift, slope))
    return backend.batch_norm_backward(dy, x, *constants), dweight.astype(x.dtype), dbias.astype(x.dtype)


def given(mean: Array, variance: Array) -> tuple[Array, Array]:
    """Statistics to use, as float64; ConfigError if a variance is negative."""
    if (variance < 0).any():
        raise ConfigError(f"batch_norm: expected a variance >= 0, got {variance.min():g}")
    return mean.astype(np.float64), variance.astype(np.float64)


def gradients(plain: Array, weighted: Array, found: Statistics) -> tuple[Array, Array, Array, Array]:
    """dweight, dbias, and the shift and slope of dx, from the sums over dy and dy (x - mean); all float64 (C,)."""
    shift = slope = np.zeros_like(plain)
    if found.pixels:
        sums = np.stack([plain, weighted])
        found.comm.mean(sums.reshape(-1))  # a view: `sums` becomes the mean
        shift, slope = sums[0] / found.pixels, sums[1] / found.pixels * found.inverse**2
    return weighted * found.inverse, plain, shift, slope


def merged(shape: Shape, own: Array, squares: Array, comm: Communicator) -> tuple[float, Array, Array]:
    """Pixels a channel (the mean over the workers), mean and biased variance of the batch over all workers.

    Args:
        shape: of x here, (N, C, H, W).
        own: the mean of each channel of it, float64 (C,).
        squares: the sum of the squared distances from it, float64 (C,).
        comm: the workers.
    """
    n = product(shape) // shape[1]
    totals = np.append(n * own, n)
    comm.mean(totals)
    count = float(totals[-1])
    if round(count * comm.size) <= 1:  # all workers know it by now: none waits for one that stopped
        raise ShapeError(f"batch_norm: expected more than one value a channel to train on, got x {shape}")
    mean = totals[:-1] / count
    squares = squares + n * np.square(own - mean)
    comm.mean(squares)
    return count, mean, squares / count
