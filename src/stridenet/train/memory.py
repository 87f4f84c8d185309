"""How much memory a training takes, found out before it begins.

The layers are asked, not modelled: two tiny batches go through a copy of the network while Python counts what NumPy
takes, and since every array of a step has a fixed part and a part for each image, two points give the line. The fixed
part is small beside Python itself and what is loaded; the estimate adds both from what the process holds already.
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
from stridenet.train.trainer import Trainer

_FEW, _MORE = 2, 4  # images of the tiny batches
_COPIES = 2  # of all that is saved, while a checkpoint is written
_GAPS = 1.1  # memory lost between arrays: measured, 1.0 to 1.27 on twenty networks

Bytes = Callable[[int], int]  # images -> bytes
T = TypeVar("T")


def _zeros(scores: Array, *_: object) -> tuple[float, Array]:
    """A gradient to send back, whatever the network gives."""
    return 0.0, np.zeros_like(scores)


def step_bytes(network: Layer, images: Callable[[int], Array], loss: Loss = _zeros) -> Bytes:
    """The peak that one step of `network` takes, as a function of the number of images.

    Args:
        network: any; it stays as it is.
        images: makes a batch x (n, C, H, W) of n images.
        loss: of the network; its targets are all 0.
    """
    objective = LayerByLayer(deepcopy(network).train(), loss)
    return _line(images, lambda x: objective.loss_and_gradient(x, np.zeros(len(x), np.int64)))


def estimate(trainer: Trainer, train: Loader, validation: Loader) -> int:
    """The bytes that `trainer` will take at its peak, beyond what the process holds now."""
    threads = trainer.objective.threads
    network = deepcopy(trainer.network).eval()

    def images(loader: Loader, n: int) -> Array:
        data, rows = loader.dataset, np.arange(n) % len(loader.dataset)
        few = Dataset(data.images[rows], data.targets[rows], data.classes)  # so few could all have a weight of 0
        return next(Loader(few, n, transform=loader.transform, augment=loader.augment).epoch(0))[0]

    def batches(loader: Loader, use: Bytes, at_once: Callable[[int], int]) -> int:
        """A batch, and beside it the larger of the next batch in the making and what is done with it."""
        n = min(loader.batch_size, len(loader.dataset))
        held = images(loader, _FEW).nbytes // _FEW * n
        return held + max(_line(lambda n: n, lambda n: images(loader, n))(n), use(at_once(n)))

    step = step_bytes(trainer.network, lambda n: images(train, n), trainer.loss)
    forward = _line(lambda n: images(validation, n), network.forward)
    training = batches(train, step, trainer.objective.at_once)
    evaluating = batches(validation, forward, lambda n: n)
    tensors, _ = trainer.state()
    own = sum(tensor.nbytes for tensor in tensors.values())
    best = sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
    saving = _COPIES * (own + best)
    # Threads keep what they freed to themselves; otherwise one phase takes what another has left.
    work = max(training, evaluating, saving) if threads == 1 else max(training + evaluating, saving)
    return int(_GAPS * (own + best + work))


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


def _line(make: Callable[[int], T], use: Callable[[T], object]) -> Bytes:
    use(make(_FEW))  # what the first call alone takes is none of a step's
    few, more = (_peak(make(n), use) for n in (_FEW, _MORE))
    slope = max(more - few, 0) / (_MORE - _FEW)
    return lambda n: int(few + slope * (n - _FEW))


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
