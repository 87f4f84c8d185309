"""Batches of a data set: each image once an epoch, and any epoch can be entered at any batch.

The order of epoch e and the augmentation of its batch b are functions of (seed, e, b), never of what was drawn before.
A run that was interrupted continues with the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from stridenet import layout, seeding
from stridenet.data.dataset import Dataset
from stridenet.errors import ConfigError, DataError, shown
from stridenet.layout import Array
from stridenet.shapes import flag, integer

Batch = tuple[Array, Array, Array | None]  # x (N, C, H, W), targets (N, ...), sample weights (N,)
Change = Callable[[Array], Array]
RandomChange = Callable[[Array, np.random.Generator], Array]


def to_unit(images: Array) -> Array:
    """Images (N, C, H, W) as a network's input: batch innermost, float32; uint8 0..255 becomes 0..1.

    >>> float(to_unit(np.full((1, 1, 2, 2), 255, np.uint8)).max())
    1.0
    """
    return _scaled(layout.to_batch_inner(images))  # bytes are transposed, floats would be four times the traffic


def _scaled(x: Array) -> Array:
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x.astype(np.float32, copy=False)


class Loader:
    """Batches (x, targets, weights) of `dataset`; `len(loader)` is their number in an epoch.

    x is (N, C, H, W), batch innermost, float32; weights are (N,), or None where the data set has none.
    `augment(x, rng)` sees images in 0..1, then `transform(x)` is applied; either may be a list, applied in its order.
    The last batch is smaller, or left out with `drop_last`.

    Raises:
        DataError: the data set holds no image.
        ConfigError: an argument is out of range, or `drop_last` leaves no batch.
        ShapeError: the images are too small for an augmentation.

    >>> dataset = Dataset(np.zeros((5, 1, 2, 2), np.uint8), np.arange(5), tuple("abcde"))
    >>> [x.shape for x, targets, weights in Loader(dataset, 2, shuffle=True).epoch(0)]
    [(2, 1, 2, 2), (2, 1, 2, 2), (1, 1, 2, 2)]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        transform: Change | Sequence[Change] | None = None,
        augment: RandomChange | Sequence[RandomChange] | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(dataset, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                f"Loader: expected a Dataset, got {type(dataset).__name__}; Dataset(images, targets, classes)"
            )
        self.dataset = dataset
        self.batch_size = integer("Loader", "batch_size", batch_size)
        self.transform, self.augment = transform, augment
        self._transforms, self._augmentations = _steps("transform", transform), _steps("augment", augment)
        for step in self._augmentations:
            if hasattr(step, "check"):
                step.check(dataset.image_shape)
        self.shuffle, self.drop_last = flag("Loader", "shuffle", shuffle), flag("Loader", "drop_last", drop_last)
        self.seed = integer("Loader", "seed", seed, minimum=0)
        self._images = np.ascontiguousarray(dataset.images)  # np.take would copy all of them for every batch
        if len(dataset) == 0:
            raise DataError("Loader: expected at least one image, got an empty data set")
        if len(self) == 0:
            raise ConfigError(
                f"Loader: expected batch_size <= {len(dataset)}, the number of images, got {batch_size} with"
                " drop_last; no batch would be left"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `e`, from batch `start` on: the same as an epoch that ran there would give.

        Raises:
            ConfigError: e is negative, or start is not in 0..len(loader).
        """
        e = integer("Loader.epoch", "e", e, minimum=0)
        start = integer("Loader.epoch", "start", start, minimum=0)
        if start > len(self):
            raise ConfigError(f"Loader.epoch: expected start <= {len(self)}, the number of batches, got {start}")
        return self._batches(e, start)

    def _batches(self, e: int, start: int) -> Iterator[Batch]:
        n, weights = len(self.dataset), self.dataset.weights
        order = seeding.stream(self.seed, "shuffle", e).permutation(n) if self.shuffle else np.arange(n)
        for b in range(start, len(self)):
            rows = order[b * self.batch_size : (b + 1) * self.batch_size]
            images = np.take(self._images, rows, axis=0)  # (N, C, H, W)
            if self._augmentations:
                x, rng = _scaled(images), seeding.stream(self.seed, "augment", e, b)
                for augment in self._augmentations:
                    x = augment(x, rng)  # turns the batch inside itself
            else:
                x = to_unit(images)
            for transform in self._transforms:
                x = transform(x)
            yield x, self.dataset.targets[rows], None if weights is None else weights[rows]


def _steps(name: str, value: Any) -> list[Any]:
    """None, one callable or a list of them, as a list."""
    listed = isinstance(value, list | tuple)
    steps = list(cast("list[Any]", value)) if listed else [] if value is None else [value]
    for step in steps:
        if not callable(step) or isinstance(step, type):
            raise ConfigError(f"Loader: expected {name} as a callable or a list of them, got {shown(step)}")
    return steps
