"""Images with their targets, checked once, at the door.

Everything behind this door may rely on it: shapes fit, every label has a class, every pixel and weight is finite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from stridenet import seeding
from stridenet.errors import ConfigError, DataError, LabelError, shown
from stridenet.layout import Array
from stridenet.shapes import Shape, by, choice, grouped, integer, number


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, one target for each, and the names of the classes.

    images: uint8 (0 to 255), float32 or float64 (0 to 1), of shape (N, C, H, W).
    targets: class indices (N,), any integer type, kept as int64; without classes float values (N,) or (N, D).
    weights: how much each image counts in the loss (N,), >= 0 and not all zero, kept as float64; None is all alike.

    Raises:
        DataError: wrong number of axes, wrong type, a pixel that is not finite or a float outside 0..1, or weights that
            are none.
        LabelError: not one target per image, or a label that is no index into `classes`.
        ConfigError: `classes` is not a sequence of strings.

    >>> dataset = Dataset(np.zeros((2, 1, 28, 28), np.uint8), np.array([1, 0]), ("cat", "dog"))
    >>> len(dataset), dataset.image_shape
    (2, (1, 28, 28))
    """

    images: Array
    targets: Array
    classes: tuple[str, ...] = ()
    weights: Array | None = None

    def __post_init__(self) -> None:
        classes = _checked_classes(self.classes)
        images = _checked_images(self.images)
        targets = _array("targets", self.targets)
        if targets.ndim == 0 or len(targets) != len(images):
            count = "no axis" if targets.ndim == 0 else f"{len(targets)} labels"
            raise LabelError(f"Dataset: expected one label per image, got {len(images)} images and {count}")
        targets = _checked_labels(targets, classes) if classes else _checked_values(targets)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "classes", classes)
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, len(images)))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        images = f"{grouped(len(self))} images {by(self.image_shape)} {self.images.dtype}"
        return f"Dataset({images}, {len(self.classes)} classes)"

    @property
    def image_shape(self) -> Shape:
        """The shape (C, H, W) of one image."""
        return self.images.shape[1:]

    def subset(self, indices: Sequence[int] | Array) -> Dataset:
        """The images of `indices`, in that order, as a data set of its own.

        Raises:
            ConfigError: an index is not an integer in 0 to N - 1.
        """
        rows = np.asarray(indices)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ConfigError(f"Dataset.subset: expected a list of integers, got {rows.dtype} of shape {rows.shape}")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise ConfigError(f"Dataset.subset: expected indices in 0..{len(self) - 1}, got {rows.min()}..{rows.max()}")
        rows = rows.astype(np.int64)
        weights = None if self.weights is None else self.weights[rows]
        return Dataset(self.images[rows], self.targets[rows], self.classes, weights)

    def weigh(self, class_weights: Sequence[float] | Literal["balanced"]) -> Dataset:
        """The same images, each weighted by its class, times the weight that it has already.

        "balanced" weighs the K classes that have images alike: each of their n_k images gets n / (K n_k), as in
        scikit-learn.

        Raises:
            ConfigError: there are no classes, or not one finite number >= 0 for each.
            DataError: no image would have a weight.

        >>> dataset = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.array([1, 0, 1]), ("cat", "dog"))
        >>> dataset.weigh("balanced").weights.tolist()
        [0.75, 1.5, 0.75]
        """
        if not self.classes:
            raise ConfigError("Dataset.weigh: expected a data set with classes, got none; give Dataset the weights")
        weights = _class_weights(class_weights, self.targets, len(self.classes))[self.targets]
        weights = weights if self.weights is None else weights * self.weights
        return Dataset(self.images, self.targets, self.classes, weights)

    def split(self, part: int | float, *, seed: int) -> tuple[Dataset, Dataset]:
        """Two data sets (rest, part), drawn at random; every image is in exactly one, in its old order.

        `part` is a number of images (int) or a fraction of them (float). With classes the split is stratified: each
        class gives its share, rounded so that the parts add up (largest remainders first).

        Raises:
            ConfigError: one of the two would be empty.
        """
        count = self._part_size(part)
        order = seeding.stream(seed, "split").permutation(len(self))
        chosen = _stratified(order, self.targets, count) if self.classes else order[:count]
        in_part = np.zeros(len(self), bool)
        in_part[chosen] = True
        return self.subset(np.flatnonzero(~in_part)), self.subset(np.flatnonzero(in_part))

    def _part_size(self, part: int | float) -> int:
        n = len(self)
        if isinstance(part, float):
            if not 0 < part < 1:
                raise ConfigError(f"Dataset.split: expected a fraction in (0, 1), got {part!r}")
            count = round(part * n)
        else:
            count = integer("Dataset.split", "part", part)
        if n < 2:
            raise ConfigError(f"Dataset.split: expected at least 2 images to split, got {n}; add images")
        if not 0 < count < n:
            raise ConfigError(
                f"Dataset.split: expected a part of 1 to {n - 1} of the {n} images, got {part!r} ({count} images)"
            )
        return count

    def fingerprint(self) -> str:
        """The SHA-256 of shapes, types and bytes of images, targets and weights: equal exactly if the data are."""
        digest = hashlib.sha256()
        for array in (self.images, self.targets, *([] if self.weights is None else [self.weights])):
            digest.update(f"{array.shape} {array.dtype.str};".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).data)
        return digest.hexdigest()


class Splits(NamedTuple):
    """A data set as published: what to train on, what to test on once, its name, where it came from."""

    train: Dataset
    test: Dataset
    name: str
    origin: str


def repeated(train: Array, test: Array) -> list[tuple[int, int]]:
    """The pairs (index in `test`, index in `train`) of images (N, C, H, W) that are equal to the byte.

    >>> repeated(np.arange(6).reshape(6, 1, 1, 1), np.array([7, 4]).reshape(2, 1, 1, 1))
    [(1, 4)]
    """
    known = {_print(image): i for i, image in enumerate(train)}
    places = (known.get(_print(image)) for image in test)
    return [(i, place) for i, place in enumerate(places) if place is not None]


def _print(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).reshape(-1).data, digest_size=16).digest()


def _checked_classes(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, list | tuple):
        names = cast("list[Any] | tuple[Any, ...]", classes)
        if all(isinstance(name, str) for name in names):
            return tuple(names)
    raise ConfigError(f"Dataset: expected classes to be a tuple of names, got {classes!r}")


def _array(name: str, value: npt.ArrayLike) -> Array:
    try:
        return np.asarray(value)
    except ValueError:
        raise DataError(f"Dataset: expected {name} to be one array, got entries of different shapes") from None


def _checked_images(value: npt.ArrayLike) -> Array:
    images = _array("images", value)
    if images.dtype not in (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64)):
        native = images.dtype.newbyteorder("=")
        if native not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise DataError(
                f"Dataset: expected images of type uint8 (0 to 255), float32 or float64 (0 to 1), got {images.dtype};"
                " convert them with .astype(...)"
            )
        images = images.astype(native)
    if images.ndim != 4:
        hint = "; add the channel axis with images[:, None]" if images.ndim == 3 else ""
        raise DataError(f"Dataset: expected images of shape (N, C, H, W), got {images.shape}{hint}")
    if 0 in images.shape[1:]:
        raise DataError(f"Dataset: expected images of at least one pixel, got shape {images.shape}")
    if images.dtype.kind == "f" and images.size:
        low, high = _range_of(images, DataError, "pixel")
        if not 0 <= low <= high <= 1:
            raise DataError(
                f"Dataset: expected float images in 0..1, got {low:g} to {high:g}; scale them, 0..255 by 1/255"
            )
    return images


def _checked_labels(labels: Array, classes: tuple[str, ...]) -> Array:
    k = len(classes)
    if labels.ndim != 1:
        raise LabelError(
            f"Dataset: expected labels of shape (N,), got {labels.shape}; one-hot labels become indices with"
            " labels.argmax(axis=1)"
        )
    if labels.dtype.kind not in "iu":
        first = f" (labels[0] is {shown(labels[:1].tolist()[0])})" if labels.size else ""
        raise LabelError(
            f"Dataset: expected integer labels in 0..{k - 1}, got {labels.dtype}{first}; leave classes empty for"
            " regression"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= k))
    if bad.size:
        raise LabelError(
            f"Dataset: expected labels in 0..{k - 1} for {k} classes, got {labels[bad[0]]} at index {bad[0]}"
            f" ({bad.size} such labels)"
        )
    return labels.astype(np.int64)


def _checked_values(values: Array) -> Array:
    if values.dtype.kind != "f":
        raise LabelError(
            f"Dataset: expected float targets without classes, got {values.dtype}; for class labels name the classes:"
            ' classes=("cat", "dog")'
        )
    if values.size:
        _range_of(values, LabelError, "target")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _checked_weights(value: npt.ArrayLike, count: int) -> Array:
    weights = _array("weights", value)
    if weights.shape != (count,) or weights.dtype.kind not in "iuf":
        raise DataError(
            f"Dataset: expected weights as {count} numbers, one an image, got {weights.dtype} of shape {weights.shape}"
        )
    weights = weights.astype(np.float64)
    if not count:
        return weights
    low, _ = _range_of(weights, DataError, "weight")
    if low < 0 or not weights.any():
        at = int(weights.argmin())
        raise DataError(f"Dataset: expected weights >= 0 that are not all zero, got {weights[at]:g} at index {at}")
    return weights


def _class_weights(value: Any, targets: Array, k: int) -> Array:
    """One weight for each of k classes, (k,)."""
    if isinstance(value, str):
        choice("Dataset.weigh", value, ("balanced",))
        counts = np.bincount(targets, minlength=k)
        return len(targets) / (max(np.count_nonzero(counts), 1) * np.maximum(counts, 1))  # no division by zero
    entries = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple | np.ndarray) else []
    if len(entries) != k:
        got = shown(cast(object, value))
        raise ConfigError(f'Dataset.weigh: expected "balanced" or a list of {k} weights, one a class, got {got}')
    return np.array([number("Dataset.weigh", f"weights[{i}]", w, low=0.0, high=1e30) for i, w in enumerate(entries)])


def _range_of(values: Array, error: type[DataError], what: str) -> tuple[float, float]:
    """The smallest and the largest of `values`, or `error` if one is not finite."""
    low, high = values.min(), values.max()  # both carry NaN along; no array is allocated
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    first = np.unravel_index(np.argmin(np.isfinite(values)), values.shape)
    index = ", ".join(str(i) for i in first)
    raise error(f"Dataset: expected finite {what}s, got {values[first]} at index ({index})")


def _stratified(order: Array, labels: Array, count: int) -> Array:
    sizes = np.bincount(labels)
    share, remainder = np.divmod(sizes * count, len(labels))  # exact: integers
    largest = np.argsort(-remainder, kind="stable")
    share[largest[: count - share.sum()]] += 1
    drawn = labels[order]
    return np.concatenate([order[drawn == k][:n] for k, n in enumerate(share)])
