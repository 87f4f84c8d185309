"""Preprocessing, which is part of a model: deterministic, stored in its file, applied at prediction too.

What a transform learns (the mean of `Normalize`) it learns from training images alone. Transforms take and give float
images (N, C, H, W), batch innermost, and never change their input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stridenet import layout
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.steps import LARGEST, Spec, Step, build, entries_of, pixel_value, steps_of
from stridenet.errors import ConfigError, DataError, ShapeError, shown
from stridenet.layout import Array
from stridenet.shapes import IntOrPair, Padding, Shape, by, number, padding_margins, pair, product

MEAN_IMAGE = 2**15  # numbers in a mean image: as JSON, with 20 digits each, well within the 1 MiB of a file's metadata
_FIT_ELEMENTS = 2**18  # in memory at once while a transform is fitted: 2 MiB of float64
_SMALLEST = 1e-30  # a standard deviation that float32 can divide by


class Transform(Step):
    """A deterministic change of images."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """The changed images; x (N, C, H, W) stays as it is."""

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """The shape (C, H, W) that images of `shape` (C, H, W) get.

        Raises:
            ShapeError: such images cannot be taken.
        """


class Normalize(Transform):
    """(x - mean) / std, with one mean and one standard deviation for each channel.

    Raises:
        ConfigError: not one positive std for each mean.
    """

    name = "normalize"

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = _numbers("mean", mean, -LARGEST)
        self.std = _numbers("std", std, _SMALLEST)
        if len(self.mean) != len(self.std):
            raise ConfigError(
                f"Normalize: expected one std for each mean, got {len(self.mean)} means, {len(self.std)} stds"
            )

    @classmethod
    def fit(cls, batches: Iterable[Array]) -> Self:
        """The statistics of these batches (N, C, H, W), summed in float64, merged batch by batch.

        Chan, Golub, LeVeque (1979): the squared deviations of two parts add up, plus delta^2 * n_a * n_b / (n_a + n_b)
        for the difference delta of their means. No digits cancel, however far the mean is from zero.

        Raises:
            DataError: a channel has one value only, or there is no batch.
        """
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for x in batches:
            inner = layout.inner(layout.to_batch_inner(x))
            pixels = inner.reshape(len(inner), -1).astype(np.float64)  # (C, H*W*N)
            n, batch_mean = pixels.shape[1], pixels.mean(axis=1)
            delta = batch_mean - mean
            squares = squares + np.square(pixels - batch_mean[:, None]).sum(axis=1) + delta**2 * count * n / (count + n)
            mean = mean + delta * n / (count + n)
            count += n
        if count == 0:
            raise DataError("Normalize.fit: expected at least one batch of images, got none")
        std = np.sqrt(squares / count)
        for channel in np.flatnonzero(std <= np.finfo(np.float32).eps * np.abs(mean)):
            raise DataError(
                f"Normalize.fit: expected pixels that differ, got {mean[channel]:g} in every pixel of channel"
                f" {channel}; leave that channel out, or give mean and std"
            )
        return cls(mean.tolist(), std.tolist())

    def __call__(self, x: Array) -> Array:
        """(x - mean) / std, channel by channel."""
        self.output_shape(x.shape[1:])
        y = layout.empty(x.shape, x.dtype)
        np.subtract(x, _per_channel(self.mean, x), out=y)
        return np.divide(y, _per_channel(self.std, x), out=y)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape, of as many channels as there are means."""
        if shape[0] != len(self.mean):
            raise ShapeError(f"Normalize: expected images of {len(self.mean)} channels, got shape {shape}")
        return shape


class SubtractMean(Transform):
    """x - mean, with a mean for each pixel: a nested list of the shape (C, H, W) of the images, the "mean image".

    Raises:
        ConfigError: `mean` is no such list of finite numbers, or has more than 32 768, which a model file cannot hold.
    """

    name = "mean_image"

    def __init__(self, mean: npt.ArrayLike) -> None:
        self._mean = _checked_mean(mean)  # (C, H, W)

    @property
    def mean(self) -> list[Any]:
        """The mean image, as a file holds it."""
        return self._mean.tolist()

    @classmethod
    def fit(cls, batches: Iterable[Array]) -> Self:
        """The mean of these batches (N, C, H, W), pixel by pixel, summed in float64.

        Raises:
            DataError: there is no batch.
            ConfigError: the images are too large for a model file to hold their mean.
        """
        count, total = 0, np.zeros(())
        for x in batches:
            total = total + x.sum(axis=0, dtype=np.float64)  # (C, H, W)
            count += len(x)
        if count == 0:
            raise DataError("SubtractMean.fit: expected at least one batch of images, got none")
        return cls(total / count)

    def __call__(self, x: Array) -> Array:
        """x - mean, pixel by pixel."""
        self.output_shape(x.shape[1:])
        y = layout.empty(x.shape, x.dtype)
        return np.subtract(x, self._mean.astype(x.dtype), out=y)

    def output_shape(self, shape: Shape) -> Shape:
        """The same shape, which is that of the mean image."""
        if shape != self._mean.shape:
            raise ShapeError(f"SubtractMean: expected images of {by(self._mean.shape)}, got {by(shape)}")
        return shape

    def __repr__(self) -> str:
        return f"SubtractMean(mean of {by(self._mean.shape)})"


class Pad(Transform):
    """`value` around every image; padding is int, (vertical, horizontal) or ((top, bottom), (left, right)).

    Raises:
        ConfigError: padding has another form, such as "same", or value is no finite number.
    """

    name = "pad"

    def __init__(self, padding: Padding, value: float = 0.0) -> None:
        margins = padding_margins("Pad", padding)
        if margins == "same":
            raise ConfigError('Pad: expected padding in pixels, got "same"; it has no meaning without a kernel')
        self.padding = margins
        self.value = pixel_value("Pad", "value", value)

    def __call__(self, x: Array) -> Array:
        """The images with a frame of `value`."""
        H, W = x.shape[2:]
        (top, _), (left, _) = self.padding
        y = layout.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        y.fill(self.value)
        y[:, :, top : top + H, left : left + W] = x
        return y

    def output_shape(self, shape: Shape) -> Shape:
        """The shape with its frame."""
        C, H, W = shape
        return C, H + sum(self.padding[0]), W + sum(self.padding[1])


class Resize(Transform):
    """Images of `size`, one side or (rows, columns), by bilinear interpolation.

    Pixel j covers [j, j + 1); output pixel i lies at (i + 1/2) * in / out. Its value is the mean of the input pixels
    weighted with a triangle that reaches one pixel to each side, or in / out pixels when the image shrinks, so that no
    input pixel is skipped. This is the BILINEAR of Pillow. Images of that size already are returned as they are.

    Raises:
        ConfigError: `size` is no positive integer and no pair of them.
    """

    name = "resize"

    def __init__(self, size: IntOrPair) -> None:
        self.size = pair("Resize", "size", size)

    def __call__(self, x: Array) -> Array:
        """The images in their new size: one matrix product for the rows, one for the columns."""
        N, C, H, W = x.shape
        if self.size == (H, W):
            return x
        P, Q = self.size
        rows, columns = _triangles(H, P).astype(x.dtype), _triangles(W, Q).astype(x.dtype)
        y = rows @ layout.inner(layout.to_batch_inner(x)).reshape(C, H, W * N)  # (C, P, W*N)
        y = columns @ y.reshape(C * P, W, N)  # (C*P, Q, N)
        return np.moveaxis(y.reshape(C, P, Q, N), -1, 0)  # (N, C, P, Q)

    def output_shape(self, shape: Shape) -> Shape:
        """The channels of `shape`, the size of this transform."""
        return shape[0], *self.size


# The closed table: what a recipe or a model file may name, and what of it is fitted where no arguments are given.
TRANSFORMS: dict[str, type[Transform]] = {
    "mean_image": SubtractMean,
    "normalize": Normalize,
    "pad": Pad,
    "resize": Resize,
}
_FITTED: dict[str, Callable[[Iterable[Array]], Transform]] = {
    "mean_image": SubtractMean.fit,
    "normalize": Normalize.fit,
}


class Pipeline:
    """Transforms, one after another; a pipeline of none gives the images as they are.

    Raises:
        ConfigError: not a list of transforms.
    """

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms = steps_of("Pipeline", transforms, Transform)

    def __call__(self, x: Array) -> Array:
        """The images (N, C, H, W) after every transform."""
        if x.ndim != 4:
            raise ShapeError(f"Pipeline: expected images of shape (N, C, H, W), got {x.shape}")
        for transform in self.transforms:
            x = transform(x)
        return x

    def output_shape(self, shape: Shape) -> Shape:
        """The shape (C, H, W) that images of `shape` (C, H, W) get."""
        for transform in self.transforms:
            shape = transform.output_shape(shape)
        return shape

    def spec(self) -> list[Spec]:
        """What a model file stores."""
        return [transform.spec() for transform in self.transforms]

    @classmethod
    def from_spec(cls, entries: Sequence[Mapping[str, Any]]) -> Self:
        """The pipeline that `spec` described.

        Raises:
            ConfigError: an entry has an unknown name or key, or a value of the wrong type.
        """
        return cls([build(place, entry, TRANSFORMS) for place, entry in entries_of("transform", entries)])

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(repr, self.transforms))}])"


def fit_pipeline(entries: Sequence[Mapping[str, Any]], dataset: Dataset) -> Pipeline:
    """The pipeline of a recipe's entries; what has to be fitted is fitted on `dataset`, the training images.

    A `{"name": "normalize"}` without mean and std takes those of the images as the transforms before it leave them, a
    `{"name": "mean_image"}` their mean image.

    >>> dataset = Dataset(np.array([[[[0, 255]]]], np.uint8), np.array([0]), ("zero",))
    >>> fit_pipeline([{"name": "normalize"}], dataset)
    Pipeline([Normalize(mean=[0.5], std=[0.5])])

    Raises:
        ConfigError: an entry has an unknown name or key, or a value of the wrong type.
        DataError: a channel of the training images is constant.
    """
    pipeline = Pipeline()
    for place, entry in entries_of("recipe.data.transform", entries):
        fit = next((fit for name, fit in _FITTED.items() if entry == {"name": name}), None)
        step = build(place, entry, TRANSFORMS) if fit is None else fit(_batches(dataset, pipeline))
        pipeline = Pipeline([*pipeline.transforms, step])
    return pipeline


def _batches(dataset: Dataset, pipeline: Pipeline) -> Iterator[Array]:
    """The images after `pipeline`, some at a time."""
    batch_size = max(1, _FIT_ELEMENTS // product(dataset.image_shape))
    return (x for x, _, _ in Loader(dataset, batch_size, transform=pipeline).epoch(0))


def _checked_mean(mean: npt.ArrayLike) -> Array:
    try:
        image = np.asarray(mean)
    except (OverflowError, ValueError):  # an integer beyond float64, lists of different lengths
        image = np.asarray(None)
    if image.dtype.kind not in "iuf" or image.ndim != 3 or not image.size:
        raise ConfigError(f"SubtractMean: expected mean to be numbers of a shape (C, H, W), got {shown(mean)}")
    if image.size > MEAN_IMAGE:
        raise ConfigError(
            f"SubtractMean: expected a mean image of at most {MEAN_IMAGE} numbers, which a model file can hold, got"
            f" {by(image.shape)}; put resize before it, or use normalize"
        )
    if not np.max(np.abs(image)) <= LARGEST:  # NaN is not
        raise ConfigError(f"SubtractMean: expected a mean in [{-LARGEST:g}, {LARGEST:g}], got {shown(mean)}")
    return image.astype(np.float64)


def _numbers(name: str, values: Sequence[float], low: float) -> list[float]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"Normalize: expected {name} to be a list of numbers, one a channel, got {shown(values)}")
    return [number("Normalize", f"{name}[{i}]", v, low=low, high=LARGEST) for i, v in enumerate(values)]


def _per_channel(values: list[float], x: Array) -> Array:
    return np.array(values, x.dtype).reshape(-1, 1, 1)  # (C, 1, 1)


def _triangles(size: int, target: int) -> Array:
    scale = size / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)  # (target, size): each row adds up to 1
