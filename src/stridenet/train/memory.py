"""How much memory a training takes, found out before it begins.

A plan knows what it takes. Layers are asked, not modelled: two small batches go through a copy of the network while
Python counts what NumPy takes, and since every array of a step has a fixed part and a part for each image, two points
give the line. What is beside that, Python itself and what is loaded, is what the process holds already.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import numpy as np

from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import MemoryBudgetError
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.plan import InferencePlan
from stridenet.train.trainer import Trainer

_COPIES = 2  # of all that is saved, while a checkpoint is written
_BLOCK = 16  # images; a multiple of every register's
_GAPS = 1.1  # memory lost between arrays: measured, 1.0 to 1.27 on twenty networks

T = TypeVar("T")


def _zeros(scores: Array, *_: object) -> tuple[float, Array]:
    """A gradient to send back, whatever the network gives."""
    return 0.0, np.zeros_like(scores)


def step_bytes(network: Layer, images: Callable[[int], Array], n: int, loss: Loss = _zeros) -> int:
    """The peak that one step of `network` takes, layer by layer.

    Args:
        network: any; it stays as it is.
        images: makes a batch x (n, C, H, W) of n images.
        n: images of the step.
        loss: of the network; its targets are all 0.
    """
    objective = LayerByLayer(deepcopy(network).train(), loss)
    return _bytes(n, images, lambda x: objective.loss_and_gradient(x, np.zeros(len(x), np.int64)))


def estimate(trainer: Trainer, train: Loader, judged: Loader) -> int:
    """The bytes that `trainer` will take at its peak, beyond what the process holds now; `judged` is evaluated."""
    objective, network = trainer.objective, deepcopy(trainer.network).eval()

    def step(n: int) -> int:
        """Through the layers, in slices where they allow that."""
        return step_bytes(trainer.network, lambda n: _images(train, n), objective.at_once(n), trainer.loss)

    def forward(n: int) -> int:
        return _bytes(n, lambda n: _images(judged, n), network.forward)

    plan = _plan_bytes(train, objective)
    training = _batch_bytes(train, step if plan is None else None)
    again = _plan_bytes(judged, InferencePlan(network, threads=objective.threads))
    evaluating = (again or 0) + _batch_bytes(judged, forward if again is None else None)
    tensors, _ = trainer.state()
    own = sum(tensor.nbytes for tensor in tensors.values())
    best = sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
    saving = _COPIES * (own + best)
    work = max(training, evaluating, saving)  # one phase takes what another has left
    if objective.threads > 1 and plan is None:  # but threads keep what they freed to themselves
        work = max(training + evaluating, saving)
    return int(_GAPS * (own + best + (plan or 0) + work))  # the memory of the training's plan stays


def _images(loader: Loader, n: int) -> Array:
    """A batch of n images, as `loader` makes them."""
    data, rows = loader.dataset, np.arange(n) % len(loader.dataset)
    few = Dataset(data.images[rows], data.targets[rows], data.classes)  # so few could all have a weight of 0
    return next(Loader(few, n, transform=loader.transform, augment=loader.augment).epoch(0))[0]


def _largest(loader: Loader) -> int:
    """The images of its largest batch."""
    return min(loader.batch_size, len(loader.dataset))


def _plan_bytes(loader: Loader, plan: LayerByLayer | InferencePlan) -> int | None:
    """What a plan takes for the batches of `loader`: its making, and memory for each size; None where there is none."""
    one, n = _images(loader, 1)[0], _largest(loader)
    rest = 0 if loader.drop_last else len(loader.dataset) % n

    def memory(n: int) -> int | None:
        return plan.step_bytes(np.broadcast_to(one, (n, *one.shape)), n)

    made = _peak((n, rest), lambda sizes: [memory(size) for size in sizes if size])
    kept = memory(n)
    return None if kept is None else made + kept + ((rest and memory(rest)) or 0)


def _batch_bytes(loader: Loader, use: Callable[[int], int] | None) -> int:
    """A batch, and beside it the larger of the next one in the making and what its use takes."""
    n = _largest(loader)
    making = _bytes(n, lambda n: n, lambda n: _images(loader, n))
    beside = max(0 if use is None else use(n), making if len(loader) > 1 else 0)
    return max(making, _images(loader, 1).nbytes * n + beside)


def require_memory(need: int, *, limit: int | None = None) -> None:
    """Refuse a training that would take more than there is.

    Args:
        need: bytes, as of `estimate`.
        limit: bytes that may be taken; None is what the machine has free, where it says so.

    Raises:
        MemoryBudgetError: `need` is more.
    """
    limit = available() if limit is None else limit
    if limit is not None and need > limit:
        raise MemoryBudgetError(
            f"training: expected to need at most {limit / 1e6:.0f} MB of memory, the free part, got an estimate of"
            f" {need / 1e6:.0f} MB; use a smaller batch_size"
        )


def available() -> int | None:
    """The bytes that this process may still take: of the machine, and of its control group; None if unknown."""
    lines = _text("/proc/meminfo").splitlines()
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    most, now = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if most.isdigit() and now.isdigit():
        lines = _text("/sys/fs/cgroup/memory.stat").splitlines()
        files = [int(line.split()[1]) for line in lines if line.startswith("inactive_file ")]
        found.append(int(most) - int(now) + sum(files))  # what only keeps files at hand is given up when it is needed
    return min(found, default=None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError:
        return ""


def _bytes(n: int, make: Callable[[int], T], use: Callable[[T], object]) -> int:
    """The bytes that `use(make(n))` takes at its peak, found out with fewer images if n are many."""
    few = n if n < 3 * _BLOCK else _BLOCK + n % _BLOCK  # whole blocks and what n has beyond them
    peaks: list[int] = []
    for images in {few, min(few + _BLOCK, n)}:
        use(make(images))  # what the first call alone takes is none of a step's
        peaks.append(_peak(make(images), use))
    return min(peaks) + (max(peaks) - min(peaks)) * (n - few) // _BLOCK


def _peak(given: T, use: Callable[[T], object]) -> int:
    """The bytes that `use(given)` takes at its peak."""
    own = not tracemalloc.is_tracing()
    if own:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        use(given)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if own:  # after an error too: tracing costs time
            tracemalloc.stop()
