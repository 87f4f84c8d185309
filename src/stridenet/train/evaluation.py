"""The same evaluation for every set: scores batch by batch, and what they are worth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from stridenet.data.loader import Loader
from stridenet.errors import ConfigError, NumericsError
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss, cross_entropy
from stridenet.nn.plan import InferencePlan
from stridenet.train.metrics import Metrics, combined, measure

# The products of a batch are too small to share: threads gain little on a quiet machine and wait for each other on a
# busy one, and sums in another order have other bits.
BLAS_THREADS = 1


def blas_threads() -> AbstractContextManager[object]:
    """The context in which networks are trained and evaluated: BLAS_THREADS threads for a matrix product.

    The limit is the process's. Only the main thread sets it: threads that set and lift it in turns would leave it.
    """
    from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

    main = threading.current_thread() is threading.main_thread()
    return threadpool_limits(limits=BLAS_THREADS, user_api="blas") if main else nullcontext()


def quiet() -> np.errstate:
    """What diverges is an error in the end, not a warning before."""
    return np.errstate(over="ignore", invalid="ignore")


def require_loader(who: str, data: Any) -> None:
    """ConfigError if `data` is no loader."""
    if not isinstance(data, Loader):
        raise ConfigError(f"{who}: expected a Loader, got {type(data).__name__}; Loader(dataset, batch_size)")


def scores_of(network: Layer, data: Loader, *, threads: int = 1) -> Iterator[tuple[Array, Array]]:
    """The scores (N, K) and targets (N,) of every image of `data`, batch by batch; `network` is in evaluation mode.

    Raises:
        ConfigError: it is no loader, or one that leaves images out or changes them.
        NumericsError: a score is not finite.
    """
    require_loader("evaluate", data)
    if data.drop_last or data.augment:
        raise ConfigError("evaluate: expected a loader of every image as it is, got drop_last or augment")
    plan = InferencePlan(network, threads=threads)
    for x, y, _ in data.epoch(0):
        with quiet():
            scores = plan(x)
        if not np.isfinite(scores).all():
            raise NumericsError("evaluate: expected finite scores, got NaN or infinity; the network has diverged")
        yield scores, y


def evaluate(network: Layer, data: Loader, loss: Loss = cross_entropy, *, threads: int = 1) -> Metrics:
    """Loss and accuracy of `network` on every image of `data`, by `threads` workers; memory is that of one batch."""
    mode = network.training
    network.eval()
    try:
        with blas_threads():  # not for each batch: to find the libraries takes longer than a batch
            found = scores_of(network, data, threads=threads)
            return combined([measure(scores, y, loss(scores, y)[0]) for scores, y in found])
    finally:
        network.train(mode)
