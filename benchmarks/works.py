"""What is timed: one work with its network, its weights and its images, which every side does; and stridenet's side.

A side of a race has `check`, numbers that must be the same on all sides; `variants`, the ways that it may do the work,
of which the best counts; and `begin(variant)`, which gives the call to be timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import numpy as np
from runners import Answers, burst
from threadpoolctl import threadpool_limits

from stridenet import layout
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.cost import cost
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import Loss, cross_entropy
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.evaluation import blas_threads
from stridenet.train.trainer import Trainer

THREADS = 2
OURS, ONNX, SGEMM = "stridenet", "ONNX Runtime", "SGEMM"
PEERS = {"eager": "PyTorch eager", "channels_last": "PyTorch channels_last", "compile": "PyTorch compiled"}
BATCHES = (80, 200, 500, 1000, 2500, 10_000)  # of the inference; all divide its images
IMAGES = 32  # single images in turn, where one at a time is the work
MEASURED_LR = 1e-7  # the weights stay about where they are, however many steps are timed
CHECKED_LR = 0.01
CHECKED_STEPS = 3
SGEMM_SIZE = 1024


@dataclass(frozen=True)
class Work:
    """One thing that all sides do.

    Attributes:
        task: "training", "inference", "one image", "convolution" or "its gradients".
        build: makes the network, from `rng`.
        images: of a batch, or of the whole inference.
        momentum: of SGD.
        loss: of a training.
    """

    task: str
    build: Callable[..., Sequential]
    images: int
    momentum: float = 0.9
    loss: Loss = cross_entropy

    def network(self) -> Sequential:
        """The network with the weights that every side begins with."""
        return self.build(rng=np.random.default_rng(0))

    def batch(self) -> tuple[Array, Array]:
        """Images (N, C, H, W), float32 in C order, and targets (N,)."""
        rng, shape = np.random.default_rng(1), self.network().input_shape
        N = IMAGES if self.images == 1 else self.images
        x = rng.standard_normal((N, *(shape or ())), np.float32)
        return x, rng.integers(0, 10, N)

    def gflop(self) -> float:
        """10^9 multiplications and additions of one call; the gradient of the images is not needed in training."""
        network = self.network()
        macs = [row.macs for row in cost(network, network.input_shape or ())]
        products = 3 * sum(macs) - next(m for m in macs if m) if self.task == "training" else sum(macs)
        return 2e-9 * self.images * products * (2 if self.task == "its gradients" else 1)


def convolution(*, rng: np.random.Generator) -> Sequential:
    """The layer that report S0 timed: 6 kernels of 5x5 on images of 1x28x28."""
    return Sequential(Conv2d(1, 6, 5, rng=rng), input_shape=(1, 28, 28))


def wide_lenet(*, width: int = 1, size: int = 28, rng: np.random.Generator) -> Sequential:
    """LeNet-5 with `width` times as many channels, on images of `size`; what follows the convolutions stays."""
    side = ((size - 4) // 2 - 4) // 2
    return Sequential(
        *(Conv2d(1, 6 * width, 5, rng=rng), ReLU(), MaxPool2d(2)),
        *(Conv2d(6 * width, 16 * width, 5, rng=rng), ReLU(), MaxPool2d(2), Flatten()),
        *(Linear(16 * width * side * side, 120, rng=rng), ReLU(), Linear(120, 84, rng=rng), ReLU()),
        Linear(84, 10, rng=rng),
        input_shape=(1, size, size),
    )


class Side(Protocol):
    """A framework at its work."""

    def check(self) -> list[float]:
        """Numbers that are the same on all sides."""
        ...

    def variants(self) -> list[str]:
        """The ways to do it; the best one counts."""
        ...

    def begin(self, variant: str) -> Callable[[], object]:
        """The call to be timed."""
        ...


def serve(name: str, work: Work, threads: int = THREADS) -> Answers:
    """The answers of a runner: "check", "variants", and "burst" of (variant, seconds)."""
    side = _side(name, work, threads)
    return {
        "check": side.check,
        "variants": side.variants,
        "burst": lambda variant, seconds: burst(side.begin(variant), seconds),
    }


def _side(name: str, work: Work, threads: int) -> Side:
    if name == OURS:
        return Ours(work, threads)
    if name == ONNX:
        from onnx_peer import Onnx

        return Onnx(work, threads)
    if name == SGEMM:
        return Sgemm(threads)
    from torch_peer import Torch

    return Torch(work, name, threads)


def thread_counts(work: Work, threads: int) -> dict[str, int]:
    """The variants of a work in which one thread may be faster than all: a single image, or a single layer."""
    small = threads > 1 and (work.images == 1 or work.task in ("convolution", "its gradients"))
    return ({"1 thread": 1} if small else {}) | {f"{threads} threads": threads}


def variants_of(work: Work, threads: dict[str, int]) -> list[str]:
    """The ways that every side may take: batch sizes for many images, else thread counts."""
    return [f"batch {size}" for size in BATCHES] if work.task == "inference" else list(threads)


class Ours:
    """stridenet: a training step by `Trainer`, inference by `InferencePlan`, a convolution by `functional`."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads = work, thread_counts(work, threads)
        self.images, self.targets = work.batch()
        self._made: dict[str, Callable[[], object]] = {}
        blas_threads().__enter__()  # for good: the process does nothing else

    def check(self) -> list[float]:
        """The losses of the first steps, or the first scores."""
        work = self.work
        if work.task == "training":
            step = self._step(CHECKED_LR, max(self.threads.values()))
            return [step() for _ in range(CHECKED_STEPS)]
        if work.task in ("inference", "one image"):
            return np.ravel(self._plan(1)(self.images[:3])).tolist()
        y, saved, dy = self._convolution()
        if work.task == "convolution":
            return np.ravel(y[0, 0, :2]).tolist()
        return [float(g.ravel()[0]) for g in F.conv2d_backward(dy, saved) if g is not None]

    def variants(self) -> list[str]:
        """Batch sizes or thread counts."""
        if self.work.task in ("convolution", "its gradients"):
            return ["1 thread"]  # a function has no workers
        return variants_of(self.work, self.threads)

    def begin(self, variant: str) -> Callable[[], object]:
        """The call, made once."""
        if variant not in self._made:
            self._made[variant] = self._make(variant)
        return self._made[variant]

    def _make(self, variant: str) -> Callable[[], object]:
        task, layer = self.work.task, self.work.network().layers[0]
        if task == "training":
            return self._step(MEASURED_LR, self.threads[variant])
        if task == "one image":
            plan, singles = self._plan(self.threads[variant]), cycle(np.split(self.images, len(self.images)))
            return lambda: plan(next(singles))
        if task == "inference":
            size, plan = int(variant.split()[1]), self._plan(max(self.threads.values()))
            parts = np.split(self.images, len(self.images) // size)
            return lambda: [plan(part) for part in parts]
        _, saved, dy = self._convolution()
        if task == "convolution":
            return lambda: F.conv2d(saved.x, saved.weight, layer.bias.value)
        return lambda: F.conv2d_backward(dy, saved)

    def _step(self, lr: float, threads: int) -> Callable[[], float]:
        """A step on the next batch, which is there in the memory order of the loader."""
        network = self.work.network().train()
        optimizer = SGD(network.pack(), lr, momentum=self.work.momentum)
        trainer = Trainer(network, optimizer, self.work.loss, threads=threads, plan=True)
        count = len(self.images) // self.work.images
        parts = np.split(self.images, count), np.split(self.targets, count)
        batches = cycle([(layout.to_batch_inner(x), y) for x, y in zip(*parts, strict=True)])
        return lambda: trainer.step(*next(batches))

    def _plan(self, threads: int) -> Callable[[Array], Array]:
        from stridenet.nn.plan import InferencePlan

        network = self.work.network().eval()
        network.pack()  # as that of a trainer is; else the parameters are copied for each call
        return InferencePlan(network, threads=threads)

    def _convolution(self) -> tuple[Array, Any, Array]:
        layer = self.work.network().layers[0]
        y, saved = F.conv2d(layout.to_batch_inner(self.images), layer.weight.value, layer.bias.value)
        return y, saved, layout.to_batch_inner(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))


class Sgemm:
    """The machine's rate: NumPy's product of two float32 matrices of 1024 x 1024."""

    def __init__(self, threads: int) -> None:
        threadpool_limits(threads)
        self.matrix = np.random.default_rng(0).standard_normal((SGEMM_SIZE, SGEMM_SIZE), np.float32)
        self.out = np.empty_like(self.matrix)

    def check(self) -> list[float]:
        """Nothing to compare."""
        return []

    def variants(self) -> list[str]:
        """One."""
        return ["1024^3"]

    def begin(self, variant: str) -> Callable[[], object]:
        """The product."""
        return lambda: np.matmul(self.matrix, self.matrix, out=self.out)
