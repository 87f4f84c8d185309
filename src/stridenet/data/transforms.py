"""Preprocessing, which is part of a model, and augmentation, which is part of its training.

A transform is deterministic. It is stored in the model file and applied at prediction too; what it learns (the mean and
standard deviation of `Normalize`) it learns from training images alone. An augmentation draws a random variant of each
training image. Both take and give float images (N, C, H, W), batch innermost, and never change their input.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from stridenet import layout
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import ConfigError, DataError, ShapeError
from stridenet.layout import Array
from stridenet.shapes import IntOrPair, Padding, Shape, choice, integer, number, padding_margins, pair, product

Spec = dict[str, Any]  # a name and arguments that JSON can hold
_FIT_ELEMENTS = 2**20  # in memory at once while Normalize is fitted: 8 MiB of float64
_SMALLEST, _LARGEST = 1e-30, 1e30  # statistics that float32 can divide by


class _Step(ABC):
    """Something with a name in the table and arguments that a file can hold."""

    name: ClassVar[str]

    @abstractmethod
    def spec(self) -> Spec:
        """The name and the arguments that build an equal object."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.spec().items() if key != "name")
        return f"{type(self).__name__}({arguments})"


class Transform(_Step):
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
        self.mean = _numbers("mean", mean, -_LARGEST)
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

    def spec(self) -> Spec:
        """Its entry in a recipe or a model file."""
        return {"name": self.name, "mean": self.mean, "std": self.std}


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
        self.margins = margins
        self.value = number("Pad", "value", value, low=-_LARGEST, high=_LARGEST)

    def __call__(self, x: Array) -> Array:
        """The images with a frame of `value`."""
        H, W = x.shape[2:]
        (top, _), (left, _) = self.margins
        y = layout.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        y.fill(self.value)
        y[:, :, top : top + H, left : left + W] = x
        return y

    def output_shape(self, shape: Shape) -> Shape:
        """The shape with its frame."""
        C, H, W = shape
        return C, H + sum(self.margins[0]), W + sum(self.margins[1])

    def spec(self) -> Spec:
        """Its entry in a recipe or a model file."""
        return {"name": self.name, "padding": [list(m) for m in self.margins], "value": self.value}


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

    def spec(self) -> Spec:
        """Its entry in a recipe or a model file."""
        return {"name": self.name, "size": list(self.size)}


class Pipeline:
    """Transforms, one after another; a pipeline of none gives the images as they are."""

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms = tuple(transforms)

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
        return cls(
            [_build(f"transform[{i}]", entry, _TRANSFORMS) for i, entry in enumerate(_listing("transform", entries))]
        )

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(repr, self.transforms))}])"


def fit_pipeline(entries: Sequence[Mapping[str, Any]], dataset: Dataset) -> Pipeline:
    """The pipeline of a recipe's entries; what has to be fitted is fitted on `dataset`, the training images.

    A `{"name": "normalize"}` without mean and std takes those of the images as the transforms before it leave them.

    >>> dataset = Dataset(np.array([[[[0, 255]]]], np.uint8), np.array([0]), ("zero",))
    >>> fit_pipeline([{"name": "normalize"}], dataset)
    Pipeline([Normalize(mean=[0.5], std=[0.5])])

    Raises:
        ConfigError: an entry has an unknown name or key, or a value of the wrong type.
        DataError: a channel of the training images is constant.
    """
    pipeline = Pipeline()
    for i, entry in enumerate(_listing("transform", entries)):
        if entry == {"name": Normalize.name}:
            batch_size = max(1, _FIT_ELEMENTS // product(dataset.image_shape))
            loader = Loader(dataset, batch_size, transform=pipeline)
            step: Transform = Normalize.fit(x for x, _, _ in loader.epoch(0))
        else:
            step = _build(f"transform[{i}]", entry, _TRANSFORMS)
        pipeline = Pipeline([*pipeline.transforms, step])
    return pipeline


class Augmentation(_Step):
    """A random variant of each image; for training only."""

    @abstractmethod
    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The variants; x (N, C, H, W) stays as it is."""


class RandomShift(Augmentation):
    """Each image moved by its own (dy, dx), uniform in -pixels..pixels; vacated pixels become `fill`.

    Raises:
        ConfigError: `pixels` is not a positive integer, or `fill` is no finite number.
        ShapeError: the images it is called with are not larger than `pixels`.
    """

    name = "random_shift"

    def __init__(self, pixels: int, fill: float = 0.0) -> None:
        self.pixels = integer("RandomShift", "pixels", pixels)
        self.fill = number("RandomShift", "fill", fill, low=-_LARGEST, high=_LARGEST)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The moved images; one draw of (dy, dx) for each."""
        N, C, H, W = x.shape
        p = self.pixels
        if p >= min(H, W):
            raise ShapeError(f"RandomShift: expected images larger than {p} pixels, the largest shift, got {H}x{W}")
        framed = np.full((N, C, H + 2 * p, W + 2 * p), self.fill, x.dtype)
        framed[:, :, p : p + H, p : p + W] = x
        dy, dx = rng.integers(-p, p, size=(2, N), endpoint=True)
        windows = np.lib.stride_tricks.sliding_window_view(framed, (H, W), axis=(2, 3))  # (N, C, 2p+1, 2p+1, H, W)
        return layout.to_batch_inner(windows[np.arange(N), :, p - dy, p - dx])  # (N, C, H, W)

    def spec(self) -> Spec:
        """Its entry in a recipe or a model file."""
        return {"name": self.name, "pixels": self.pixels, "fill": self.fill}


class Augmentations:
    """Augmentations, one after another, drawing from one generator."""

    def __init__(self, augmentations: Sequence[Augmentation] = ()) -> None:
        self.augmentations = tuple(augmentations)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The images after every augmentation."""
        for augmentation in self.augmentations:
            x = augmentation(x, rng)
        return x

    def spec(self) -> list[Spec]:
        """The entries of a recipe."""
        return [augmentation.spec() for augmentation in self.augmentations]

    def __repr__(self) -> str:
        return f"Augmentations([{', '.join(map(repr, self.augmentations))}])"


def build_augmentations(entries: Sequence[Mapping[str, Any]]) -> Augmentations:
    """The augmentations of a recipe's entries.

    >>> build_augmentations([{"name": "random_shift", "pixels": 2}])
    Augmentations([RandomShift(pixels=2, fill=0.0)])

    Raises:
        ConfigError: an entry has an unknown name or key, or a value of the wrong type.
    """
    return Augmentations(
        [_build(f"augment[{i}]", entry, _AUGMENTATIONS) for i, entry in enumerate(_listing("augment", entries))]
    )


# The closed tables: what a recipe or a model file may name.
_TRANSFORMS: dict[str, type[Transform]] = {"normalize": Normalize, "pad": Pad, "resize": Resize}
_AUGMENTATIONS: dict[str, type[Augmentation]] = {"random_shift": RandomShift}


_Built = TypeVar("_Built")


def _listing(who: str, entries: Any) -> list[Any]:
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"{who}: expected a list of entries, got {entries!r}")
    return list(cast("list[Any]", entries))


def _build(who: str, entry: Any, table: Mapping[str, type[_Built]]) -> _Built:
    fields = cast("dict[Any, Any]", entry) if isinstance(entry, dict) else {}
    name = fields.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{who}: expected an entry with a name, one of {', '.join(table)}, got {entry!r}")
    choice(f"{who}.name", name, table)
    who = f"{who} {name}"
    arguments = {str(key): value for key, value in fields.items() if key != "name"}
    parameters = inspect.signature(table[name]).parameters
    for key in arguments:
        choice(who, key, parameters)
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ConfigError(f"{who}: expected the keys {', '.join(missing)} as well, got {entry!r}")
    try:
        return table[name](**arguments)
    except ConfigError as error:
        raise ConfigError(f"{who}: {error}") from None


def _numbers(name: str, values: Sequence[float], low: float) -> list[float]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"Normalize: expected {name} to be a list of numbers, one a channel, got {values!r}")
    return [number("Normalize", f"{name}[{i}]", v, low=low, high=_LARGEST) for i, v in enumerate(values)]


def _per_channel(values: list[float], x: Array) -> Array:
    return np.array(values, x.dtype).reshape(-1, 1, 1)  # (C, 1, 1)


def _triangles(size: int, target: int) -> Array:
    scale = size / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)  # (target, size): each row adds up to 1
