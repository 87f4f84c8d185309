"""The layers that do one thing in training and another in evaluation. The mathematics is in `functional`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from stridenet import seeding
from stridenet.communicator import SOLO, Communicator
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.batch_norm import Statistics
from stridenet.nn.layer import Layer, speaking_as
from stridenet.nn.layers import MOST_WEIGHTS
from stridenet.nn.parameters import Parameter
from stridenet.shapes import Shape, fraction, integer, number, positive


class BatchNorm2d(Layer):
    """Each channel of (N, C, H, W) brought to mean 0 and variance 1, then scaled and shifted.

    See `functional.batch_norm`. In training the statistics are those of the batch, over all workers, and the running
    ones follow them: new = (1 - momentum) old + momentum batch, with the unbiased variance, as in PyTorch. In
    evaluation, and where the layer is frozen, the running ones are used and stay.

    Args:
        num_features: C.
        momentum: share of the batch in the running statistics, in [0, 1].
        eps: added to the variance, > 0.

    Raises:
        ConfigError: an argument is out of range.
    """

    whole_batch = True

    def __init__(self, num_features: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.num_features = integer("BatchNorm2d", "num_features", num_features)
        if self.num_features > MOST_WEIGHTS:
            raise ConfigError(f"BatchNorm2d: expected num_features <= 2^31, got {num_features}")
        self.momentum = number("BatchNorm2d", "momentum", momentum, low=0.0, high=1.0)
        self.eps = positive("BatchNorm2d", "eps", eps)
        ones, zeros = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        self.weight, self.bias = Parameter(ones, decay=False), Parameter(zeros, decay=False)
        self.running_mean = Parameter(zeros.copy(), trainable=False)
        self.running_var = Parameter(ones.copy(), trainable=False)
        self.comm = SOLO

    def connect(self, comm: Communicator) -> None:
        """Take the statistics over the batches of all workers of `comm`."""
        self.comm = comm

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "comm": SOLO}  # a copy works alone until it is connected itself

    def forward(self, x: Array) -> Array:
        """(N, C, H, W) to (N, C, H, W)."""
        learning = self.training and not self.frozen
        given = None if learning else (self.running_mean.value, self.running_var.value)
        with speaking_as(self):
            y, saved = F.batch_norm(x, self.weight.value, self.bias.value, given, eps=self.eps, comm=self.comm)
        if learning:
            self.follow(saved.statistics)
        self.keep(saved)
        return y

    def follow(self, found: Statistics) -> None:
        """Let the running statistics follow those of a batch."""
        total = found.pixels * self.comm.size
        for running, batch in (
            (self.running_mean.value, found.mean),
            (self.running_var.value, found.variance * total / (total - 1)),
        ):
            running *= 1 - self.momentum
            running += (self.momentum * batch).astype(running.dtype)

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, C, H, W) to (N, C, H, W)."""
        dx, dweight, dbias = F.batch_norm_backward(dy, self.take())
        self.weight.add_grad(dweight)
        self.bias.add_grad(dbias)
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, H, W) to (C, H, W)."""
        if len(input_shape) != 3 or input_shape[0] != self.num_features:
            got = ", ".join(["N", *map(str, input_shape)])
            raise ShapeError(f"{self!r}: expected x of shape (N, {self.num_features}, H, W), got ({got})")
        return input_shape


class _Dropout(Layer):
    """What both dropouts share: the probability, and a stream of random numbers for the place in the network."""

    whole_batch = True  # its masks are drawn for all of it at once

    def __init__(self, p: float = 0.5) -> None:
        self.p = fraction(type(self).__name__, "p", p)
        self.reseed(0)

    def reseed(self, seed: int, *key: int) -> None:
        """Draw the next masks from the stream of `key`."""
        self._rng = seeding.stream(seed, "dropout", *key)

    @abstractmethod
    def _drop(self, x: Array) -> tuple[Array, Array]:
        """The function of this layer."""

    def forward(self, x: Array) -> Array:
        """(N, ...) to (N, ...)."""
        if not self.training:
            return x
        with speaking_as(self):
            y, mask = self._drop(x)
        self.keep(mask)
        return y

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """(N, ...) to (N, ...)."""
        return F.dropout_backward(dy, self.take())

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape


class Dropout(_Dropout):
    """In training each element is dropped with probability `p` and the others are divided by 1 - p.

    Its masks come from a stream of their own, keyed by its place in the network; a Trainer keys it by the step too.

    Args:
        p: in [0, 1).

    Raises:
        ConfigError: p is out of range.
    """

    def _drop(self, x: Array) -> tuple[Array, Array]:
        return F.dropout(x, self.p, self._rng)


class Dropout2d(_Dropout):
    """As `Dropout`, but whole channels of (N, C, H, W) are dropped.

    Args:
        p: in [0, 1).

    Raises:
        ConfigError: p is out of range.
    """

    def _drop(self, x: Array) -> tuple[Array, Array]:
        return F.dropout2d(x, self.p, self._rng)
