"""From a batch to the loss and the gradient: the one thing that a trainer asks of a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from copy import deepcopy

import numpy as np

from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss

SLICE = 64  # images: few enough that the columns of a convolution stay in the cache

Part = tuple[Array, Array, Array | None, float]  # x, y, weights and the share of the batch's weight


class LayerByLayer:
    """Forward through every layer, loss, backward through every layer."""

    threads = 1

    def __init__(self, network: Layer, loss: Loss) -> None:
        self.network, self.loss = network, loss

    def loss_and_gradient(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """The mean loss of the batch; its gradient is added to the parameters'.

        Args:
            x: images (N, C, H, W).
            y: targets (N,).
            weights: sample weights (N,) or None.
        """
        return self._run(self.network, (x, y, weights, 1.0))

    def at_once(self, n: int) -> int:
        """How many images of a batch of `n` are in the network at the same time."""
        return n

    def step_bytes(self, x: Array, n: int) -> int | None:
        """What a step on `n` images like x takes, if that is known beforehand."""
        return None

    def _run(self, network: Layer, part: Part) -> float:
        x, y, weights, share = part
        scores = network.forward(x)  # (N, K)
        loss, dscores = self.loss(scores, y, weights)
        if share != 1:
            dscores *= share
        network.backward(dscores, need_dx=False)
        return share * loss

    def first_non_finite(self, x: Array) -> tuple[str, str]:
        """(layer, tensor) where a number that is not finite first appears on the way of `x`; for error messages."""
        for name, parameter in self.network.named_parameters():
            if parameter.trainable and not np.isfinite(parameter.value).all():  # running statistics only follow
                return name.rpartition(".")[0], f"parameter {name}"
        for name, layer in self.network.children():
            x = layer.forward(x)
            if not np.isfinite(x).all():
                return name, f"output of layer {name} {layer!r}"
        return "", "loss"


class Sliced(LayerByLayer):
    """The same, slice of the batch by slice, which `threads` workers share.

    The slices follow from the batch alone and their gradients are added in their order: the number of threads changes
    no bit. Each image must go its own way through the network: no layer is one of `whole_batch`.
    """

    def __init__(self, network: Layer, loss: Loss, *, threads: int = 1) -> None:
        super().__init__(network, loss)
        self.params, self.threads = network.pack(), threads
        self._twins: list[Layer] = []
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def loss_and_gradient(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """As of LayerByLayer, to rounding."""
        parts, loss = list(_parts(x, y, weights)), 0.0
        if self.threads == 1 or len(parts) == 1:
            for part in parts:
                loss += self._run(self.network, part)
            return loss
        workers = self._workers()
        self._twins = self._twins or [_twin(self.network) for _ in range(self.threads)]
        for i in range(0, len(parts), self.threads):
            round_ = list(zip(self._twins, parts[i:], strict=False))
            for twin, _ in round_:
                twin.pack().zero_grad()  # an error may have left something
            tasks = [workers.submit(copy_context().run, self._run, twin, part) for twin, part in round_]
            wait(tasks)  # none goes on behind an error of another
            for (twin, _), task in zip(round_, tasks, strict=True):
                loss += task.result()
                self.params.grad += twin.pack().grad
        return loss

    def _workers(self) -> ThreadPoolExecutor:
        """The threads of this process: those of a parent are not there after a fork."""
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self.threads), os.getpid()
        return self._pool

    def at_once(self, n: int) -> int:
        """The images of a slice for each worker."""
        count = _slices(n)
        return -(-n // count) * min(count, self.threads)


def _twin(network: Layer) -> Layer:
    """A copy that has the parameters of `network` and gradients of its own."""
    twin, own = deepcopy(network).train(), dict(network.named_parameters())
    twin.pack()
    for name, parameter in twin.named_parameters():
        parameter.value = own[name].value
    return twin


def _slices(n: int) -> int:
    return max(1, n // SLICE)


def _parts(x: Array, y: Array, weights: Array | None) -> Iterator[Part]:
    """The slices of a batch, of SLICE images and up; those without weight are left out."""
    N = len(x)
    count = _slices(N)
    total = float(N) if weights is None else float(np.sum(weights, dtype=np.float64))
    if count == 1 or len(y) != N or not total > 0 or (weights is not None and len(weights) != N):
        yield x, y, weights, 1.0  # nothing to cut, or nothing right: the loss says what is wrong
        return
    for i in range(count):
        part = slice(i * N // count, (i + 1) * N // count)
        own = None if weights is None else weights[part]
        share = len(y[part]) if own is None else float(np.sum(own, dtype=np.float64))
        if share:
            yield x[part], y[part], own, share / total
