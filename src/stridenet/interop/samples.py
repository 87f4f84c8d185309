"""From the X, y and weights that scikit-learn's users have to a data set of images in 0..1, and back to any X later."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize
from stridenet.errors import ConfigError, DataError, LabelError, ShapeError, StridenetError, shown
from stridenet.layout import Array
from stridenet.shapes import Shape, by, integer, product

_SMALLEST_STD = 1e-6  # of values in 0..1: what differs by less does not differ


@contextmanager
def refusing(who: str, error: type[DataError] = DataError) -> Generator[None]:
    """Let a value that scikit-learn refuses be an error of ours, on one line."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # it sums, and looks at the numbers if the sum is none
            yield
    except StridenetError:
        raise
    except ValueError as problem:
        raise error(f"{who}: {str(problem).partition(chr(10))[0]}") from None


def checked_image_shape(who: str, value: Any) -> Shape | None:
    """`value`, None or (C, H, W), as a shape; ConfigError if it is neither."""
    if value is None:
        return None
    sizes = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []
    if len(sizes) != 3:
        raise ConfigError(f"{who}: expected image_shape as (channels, rows, columns), got {shown(cast(object, value))}")
    return tuple(integer(who, "image_shape", size) for size in sizes)


def as_rows(who: str, X: Any, image_shape: Shape | None) -> tuple[Any, Shape | None]:
    """X with a row for each sample, and the shape (C, H, W) of a row's image; None where X holds features.

    (n, H, W) has images of one channel. (n, H, W, C) is told from (n, C, H, W) by `image_shape` alone.

    Raises:
        ShapeError: X has another number of axes, its images another shape, or which axis is the channels is not clear;
            X is one image, or `image_shape` has the channels last.
        DataError: a list of entries of different shapes.
    """
    if hasattr(X, "toarray"):
        raise DataError(f"{who}: expected dense X, got a sparse {type(X).__name__}; use X.toarray()")
    if isinstance(X, list | tuple):
        with refusing(who):
            X = np.asarray(cast("list[Any]", X))  # pyright: ignore[reportConstantRedefinition]
    if image_shape is not None:
        _refuse_one_image(who, getattr(X, "shape", ()), image_shape)
    axes = getattr(X, "ndim", 2)  # what has none is a table: scikit-learn looks at it
    if axes == 2:
        return X, image_shape
    if axes not in (3, 4):
        raise ShapeError(
            f"{who}: expected X of shape (n, features), (n, H, W), (n, C, H, W) or (n, H, W, C), got"
            f" {np.shape(X)}. Reshape your data: X.reshape(1, -1) for a single sample"
        )
    images = np.asarray(X)
    images = images[:, None] if axes == 3 else images
    C, H, W = sizes = images.shape[1:]
    if image_shape is None and C > 4 >= W:
        raise ShapeError(
            f"{who}: expected images (n, C, H, W), got {images.shape}; if channels stand last, give"
            f" image_shape=({W}, {C}, {H})"
        )
    if image_shape == sizes and min(C, H) > 4 and W in (1, 3, 4):  # 16 channels of 4x4 are images, of 20x3 are not
        raise ShapeError(
            f"{who}: image_shape is (C, H, W), got {image_shape}; for images with the channels last give"
            f" image_shape=({W}, {C}, {H})"
        )
    if image_shape is not None and sizes != image_shape:
        if axes == 3 or image_shape != (W, C, H):
            raise ShapeError(f"{who}: expected images {by(image_shape)}, (C, H, W), got {np.shape(X)[1:]}")
        images = np.moveaxis(images, 3, 1)
    shape = image_shape or sizes
    return images.reshape(len(images), product(shape)), shape


def _refuse_one_image(who: str, given: Shape, image_shape: Shape) -> None:
    """ShapeError if X of shape `given` is an image of its own, with no axis for the samples."""
    C, H, W = image_shape
    one = {(C, H, W), (H, W, C)} if C > 1 else {(H, W)} if H > 1 else set[Shape]()  # (1, W) is a row as well
    if tuple(given) in one:
        raise ShapeError(f"{who}: expected images (n, {C}, {H}, {W}), got one image: {tuple(given)}; give X[None]")


def encoded(who: str, y: Array, classes: Array) -> Array:
    """The index of each label in `classes`, int64 (n,); LabelError if one is none of them."""
    known = {label: i for i, label in enumerate(classes.tolist())}
    indices = np.array([known.get(label, -1) for label in y.tolist()], np.int64)
    if (unknown := np.flatnonzero(indices < 0)).size:
        first, names = int(unknown[0]), shown(classes.tolist())
        raise LabelError(f"{who}: expected labels among {names}, got {shown(y.tolist()[first])} at index {first}")
    return indices


def checked_weights(who: str, weights: Array, n: int) -> Array:
    """Sample weights float64 (n,); DataError unless they are >= 0 and not all zero."""
    if weights.shape != (n,):
        raise DataError(f"{who}: expected sample_weight of shape ({n},), got {weights.shape}")
    if weights.min() < 0 or not weights.any():
        at = int(weights.argmin())
        raise DataError(f"{who}: expected sample weights >= 0 that are not all zero, got {weights[at]:g} at index {at}")
    return weights


def class_weights(who: str, value: Any, classes: Array, targets: Array, sample_weight: Array | None) -> list[float]:
    """One weight for each of `classes`, from "balanced" or a dict with each of them; it may have others too.

    "balanced" lets each class weigh alike: total / (K of the class), where samples count with their weights.

    Raises:
        ConfigError: it is something else, or lacks a class.
    """
    if isinstance(value, str) and value == "balanced":
        counts = np.bincount(targets, sample_weight, minlength=len(classes))
        return (counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, np.inf))).tolist()
    names = classes.tolist()
    if not isinstance(value, Mapping):
        raise ConfigError(f'{who}: expected class_weight as None, "balanced" or a dict, got {shown(value)}')
    given = cast("Mapping[Any, Any]", value)
    if missing := [name for name in names if name not in given]:
        raise ConfigError(
            f"{who}: expected a class_weight for each of {shown(names)}, got none for {shown(missing[0])}"
        )
    return [given[name] for name in names]


@dataclass(frozen=True)
class Range:
    """What becomes 0..1: (x - low) / span; a number each for images, one for every feature, (D, 1, 1), else."""

    low: Array | float
    span: Array | float

    @classmethod
    def fit(cls, images: Array, *, features: bool) -> Range:
        """The smallest values and the way to the largest.

        Bytes have the range of bytes, images of floats in 0..1 that of such images, whichever they reach.

        Raises:
            DataError: the way is no finite number.
        """
        if features:
            low, high = images.min(axis=0), images.max(axis=0)
            with np.errstate(over="ignore"):
                span = high - low
            if not np.isfinite(span).all():
                raise DataError(f"ConvNetClassifier: expected X within +-8e307, got {images.min():g}; scale it")
            return cls(low, np.where(span > 0, span, 1.0))
        if images.dtype == np.uint8:
            return cls(0.0, 255.0)
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high <= 1:
            return cls(0.0, 1.0)
        if not np.isfinite(high - low):
            raise DataError(f"ConvNetClassifier: expected X within +-8e307, got {low:g} to {high:g}; scale it")
        return cls(low, high - low or 1.0)

    @property
    def of_bytes(self) -> bool:
        """Whether it is that of bytes."""
        return isinstance(self.span, float) and (self.low, self.span) == (0.0, 255.0)

    def refuse_other(self, who: str, images: Array) -> None:
        """DataError for images of 0..1 where these are bytes or 0..255, and for bytes where these are 0..1.

        Told by the largest of all values given; where that is 0, both scales mean the same.
        """
        top = float(images.max(initial=0))
        if self.of_bytes and images.dtype != np.uint8 and 0 < top <= 1:
            raise DataError(
                f"{who}: expected bytes 0..255 as in fit, got floats up to {top:g}; multiply 0..1 by 255, or give bytes"
            )
        if (
            isinstance(self.span, float)
            and (self.low, self.span) == (0.0, 1.0)
            and images.dtype == np.uint8
            and top > 1
        ):
            raise DataError(f"{who}: expected images in 0..1 as in fit, got bytes up to {top:g}; divide by 255")

    def unit(self, images: Array) -> Array:
        """Images as a data set or a network takes them: bytes as they are, where these are bytes; else floats."""
        if images.dtype == np.uint8 and self.of_bytes:
            return images
        return (images - self.low) / self.span

    def into(self, other: Range, dtype: npt.DTypeLike) -> Callable[[Array], Array]:
        """The transform of images that are 0..1 by this range into what they are by `other`, of type `dtype`."""
        factor = self.span / other.span
        shift = (self.low - other.low) / other.span
        if np.all(factor == 1) and np.all(shift == 0):
            return lambda x: x.astype(dtype, copy=False)
        return lambda x: (x * factor + shift).astype(dtype, copy=False)


def standardize(data: Loader) -> Normalize:
    """Mean 0 and standard deviation 1 for each channel of the images, counted with their weights.

    A channel of one value only is left at 0.
    """
    total, first, second = 0.0, np.zeros(()), np.zeros(())
    for x, _, weights in data.epoch(0):
        w = np.ones(len(x)) if weights is None else weights
        x = x.astype(np.float64)  # (N, C, H, W)
        total += float(w.sum()) * product(x.shape[2:])
        first = first + np.einsum("n,nchw->c", w, x)
        second = second + np.einsum("n,nchw->c", w, x * x)
    mean = first / total
    std = np.sqrt(np.maximum(second / total - mean**2, 0.0))
    return Normalize(mean.tolist(), np.where(std > _SMALLEST_STD, std, 1.0).tolist())
