"""Augmentation, which is part of a training: a random variant of each image.

Every image gets its own draw from the generator that the loader hands over. Augmentations take float images
(N, C, H, W) of any memory order, give images of the same shape and type, batch innermost, and never change their input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from stridenet import layout
from stridenet.data.steps import Step, build, entries_of, pixel_value, steps_of
from stridenet.errors import ConfigError, ShapeError, shown
from stridenet.layout import Array
from stridenet.shapes import IntOrPair, Margins, Padding, Shape, flag, fraction, integer, number, padding_margins, pair


class Augmentation(Step):
    """A random variant of each image; for training only."""

    @abstractmethod
    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The variants; x (N, C, H, W) stays as it is."""

    def check(self, shape: Shape) -> None:
        """Whether it can take images of `shape` (C, H, W).

        Raises:
            ShapeError: they are too small for it.
        """


class RandomShift(Augmentation):
    """Each image moved by its own (dy, dx), uniform in -pixels..pixels; vacated pixels become `fill`.

    Raises:
        ConfigError: `pixels` is not a positive integer, or `fill` is no finite number.
        ShapeError: the images it is called with are not larger than `pixels`.
    """

    name = "random_shift"

    def __init__(self, pixels: int, fill: float = 0.0) -> None:
        self.pixels = integer("RandomShift", "pixels", pixels)
        self.fill = pixel_value("RandomShift", "fill", fill)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The moved images; one draw of (dy, dx) for each."""
        self.check(x.shape[1:])
        p = self.pixels
        dy, dx = rng.integers(-p, p, size=(2, len(x)), endpoint=True)
        return _crop(x, ((p, p), (p, p)), p - dy, p - dx, self.fill)

    def check(self, shape: Shape) -> None:
        """ShapeError if an image could move out of sight."""
        if self.pixels >= min(shape[1:]):
            raise ShapeError(
                f"RandomShift: expected images larger than {self.pixels} pixels, the largest shift, got"
                f" {shape[1]}x{shape[2]}"
            )


class RandomCrop(Augmentation):
    """Each image padded with `fill`, then cut back to its size at a random place.

    CIFAR is trained with 4 pixels of padding (He, Zhang, Ren and Sun 2016, section 4.2). `padding` is int, (vertical,
    horizontal) or ((top, bottom), (left, right)); with one number the image moves as `RandomShift` moves it.

    Raises:
        ConfigError: `padding` has another form or is 0 on all sides, or `fill` is no finite number.
        ShapeError: the images it is called with are not larger than the padding.
    """

    name = "random_crop"

    def __init__(self, padding: Padding, fill: float = 0.0) -> None:
        margins = padding_margins("RandomCrop", padding)
        if margins == "same" or not any(map(any, margins)):
            raise ConfigError(f"RandomCrop: expected padding in pixels, on some side at least 1, got {shown(padding)}")
        self.padding = margins
        self.fill = pixel_value("RandomCrop", "fill", fill)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The cut-outs; one draw of their upper left corner for each image."""
        self.check(x.shape[1:])
        top = rng.integers(0, sum(self.padding[0]), size=len(x), endpoint=True)
        left = rng.integers(0, sum(self.padding[1]), size=len(x), endpoint=True)
        return _crop(x, self.padding, top, left, self.fill)

    def check(self, shape: Shape) -> None:
        """ShapeError if a cut-out could be padding alone."""
        if any(max(margin) >= side for margin, side in zip(self.padding, shape[1:], strict=True)):
            raise ShapeError(
                f"RandomCrop: expected images larger than their padding {self.padding}, got {shape[1]}x{shape[2]}"
            )


class RandomFlip(Augmentation):
    """Each image mirrored with probability `p`: left to right, or, with `vertical`, top to bottom, drawn apart.

    Raises:
        ConfigError: neither direction is asked for, or p is not in [0, 1].
    """

    name = "random_flip"

    def __init__(self, horizontal: bool = True, vertical: bool = False, p: float = 0.5) -> None:
        self.horizontal = flag("RandomFlip", "horizontal", horizontal)
        self.vertical = flag("RandomFlip", "vertical", vertical)
        if not horizontal and not vertical:
            raise ConfigError("RandomFlip: expected horizontal or vertical, got neither")
        self.p = number("RandomFlip", "p", p, low=0.0, high=1.0)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The images, some of them mirrored."""
        y = layout.inner(layout.to_batch_inner(x))  # (C, H, W, N)
        across, down = rng.random((2, len(x))) < self.p
        if self.horizontal:
            y = np.where(across, y[:, :, ::-1], y)
        if self.vertical:
            y = np.where(down, y[:, ::-1], y)
        return layout.outer(y)


class Cutout(Augmentation):
    """A hole of `size`, one side or (rows, columns), in each image, filled with `fill`.

    Its centre is uniform over the pixels, so that it may lie partly outside (DeVries and Taylor 2017).

    Raises:
        ConfigError: `size` is no positive integer and no pair of them, or `fill` is no finite number.
        ShapeError: the images it is called with are smaller than the hole.
    """

    name = "cutout"

    def __init__(self, size: IntOrPair, fill: float = 0.0) -> None:
        self.size = pair("Cutout", "size", size)
        self.fill = pixel_value("Cutout", "fill", fill)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The images with their holes."""
        self.check(x.shape[1:])
        rows, columns = (_hit(side, length, len(x), rng) for side, length in zip(x.shape[2:], self.size, strict=True))
        hole = rows[:, None] & columns  # (H, W, N)
        return layout.outer(np.where(hole, x.dtype.type(self.fill), layout.inner(layout.to_batch_inner(x))))

    def check(self, shape: Shape) -> None:
        """ShapeError if the hole is larger than the image."""
        if any(length > side for length, side in zip(self.size, shape[1:], strict=True)):
            raise ShapeError(
                f"Cutout: expected images of at least {self.size[0]}x{self.size[1]}, the hole, got"
                f" {shape[1]}x{shape[2]}"
            )


class Affine(Augmentation):
    """Each image turned, moved, scaled, squeezed and sheared about its centre, by its own draws.

    LeCun et al. 1998 trained LeNet-5 on digits distorted like this (section III.C). Bilinear; outside is `fill`.

    Args:
        rotation: the largest angle, in degrees, either way.
        translate: the largest way, as a share of the height and of the width, either way.
        scale: (smallest, largest) factor of the size.
        squeeze: the largest ratio by which the height grows and the width shrinks, or the other way round; 1 is none.
        shear: the largest angle, in degrees, by which upright lines lean, either way.
        fill: what lies outside of the image.

    Raises:
        ConfigError: an argument is out of its range.
    """

    name = "affine"

    def __init__(
        self,
        rotation: float = 0.0,
        translate: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        squeeze: float = 1.0,
        shear: float = 0.0,
        fill: float = 0.0,
    ) -> None:
        self.rotation = number("Affine", "rotation", rotation, low=0.0, high=180.0)
        self.translate = fraction("Affine", "translate", translate)
        if not isinstance(scale, list | tuple) or len(scale) != 2:
            raise ConfigError(f"Affine: expected scale as two numbers (smallest, largest), got {shown(scale)}")
        smallest = number("Affine", "scale[0]", scale[0], low=0.1, high=10.0)
        self.scale = smallest, number("Affine", "scale[1]", scale[1], low=smallest, high=10.0)
        self.squeeze = number("Affine", "squeeze", squeeze, low=1.0, high=10.0)
        self.shear = number("Affine", "shear", shear, low=0.0, high=80.0)
        self.fill = pixel_value("Affine", "fill", fill)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The distorted images.

        A point u of the image, seen from its centre, goes to R S D u + t: stretched by D, sheared by S, turned by R,
        moved by t. So the pixel at v shows the point (R S D)^-1 (v - t).
        """
        H, W = x.shape[2:]
        turn, lean, wide, down, right = cast("list[Array]", list(rng.uniform(-1, 1, (5, len(x)))))
        angle, slope = np.radians(self.rotation * turn), np.tan(np.radians(self.shear * lean))
        size, ratio = rng.uniform(self.scale[0], self.scale[1], len(x)), self.squeeze ** (wide / 2)
        middle, centre = (H - 1) / 2, (W - 1) / 2
        rows, columns = _grid(H, W)
        i = rows - middle - self.translate * H * down  # (H, 1, N)
        j = columns - centre - self.translate * W * right  # (W, N)
        sine, cosine = np.sin(angle), np.cos(angle)
        rows, columns = cosine * i - sine * j, sine * i + cosine * j  # R^-1, (H, W, N)
        columns = columns - slope * rows  # S^-1
        return _sample(x, rows / (size * ratio) + middle, columns * (ratio / size) + centre, self.fill)  # D^-1


class Elastic(Augmentation):
    """Each pixel shows a point nearby; the ways there are random, and alike for neighbours.

    A field of uniform random numbers in [-1, 1], one for the rows and one for the columns, smoothed by a Gaussian of
    `sigma` pixels, zero outside of the image, times `alpha` (Simard, Steinkraus and Platt 2003). Bilinear; outside is
    `fill`. For handwritten digits of 28 pixels alpha = 34 and sigma = 4 move a pixel by 1.4 in the root mean square.

    Raises:
        ConfigError: alpha is negative, or sigma is below 0.5.
    """

    name = "elastic"

    def __init__(self, alpha: float, sigma: float, fill: float = 0.0) -> None:
        self.alpha = number("Elastic", "alpha", alpha, low=0.0, high=1e6)
        self.sigma = number("Elastic", "sigma", sigma, low=0.5, high=1e6)
        self.fill = pixel_value("Elastic", "fill", fill)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The distorted images."""
        N, _, H, W = x.shape
        field = _gaussian(H, self.sigma) @ rng.uniform(-1, 1, (2, H, W * N))  # (2, H, W*N)
        field = _gaussian(W, self.sigma) @ field.reshape(2 * H, W, N)  # (2*H, W, N)
        down, right = self.alpha * field.reshape(2, H, W, N)
        rows, columns = _grid(H, W)
        return _sample(x, rows + down, columns + right, self.fill)


class Augmentations:
    """Augmentations, one after another, drawing from one generator.

    Raises:
        ConfigError: not a list of augmentations.
    """

    def __init__(self, augmentations: Sequence[Augmentation] = ()) -> None:
        self.augmentations = steps_of("Augmentations", augmentations, Augmentation)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The images after every augmentation."""
        for augmentation in self.augmentations:
            x = augmentation(x, rng)
        return x

    def check(self, shape: Shape) -> None:
        """ShapeError if an augmentation cannot take images of `shape` (C, H, W)."""
        for augmentation in self.augmentations:
            augmentation.check(shape)

    def __repr__(self) -> str:
        return f"Augmentations([{', '.join(map(repr, self.augmentations))}])"


# The closed table: what a recipe may name.
AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "affine": Affine,
    "cutout": Cutout,
    "elastic": Elastic,
    "random_crop": RandomCrop,
    "random_flip": RandomFlip,
    "random_shift": RandomShift,
}


def build_augmentations(entries: Sequence[Mapping[str, Any]], image_shape: Shape | None = None) -> Augmentations:
    """The augmentations of a recipe's entries, for images of `image_shape` (C, H, W) if it is known.

    >>> build_augmentations([{"name": "random_shift", "pixels": 2}], (1, 28, 28))
    Augmentations([RandomShift(pixels=2, fill=0.0)])

    Raises:
        ConfigError: an entry has an unknown name or key, or a value of the wrong type.
        ShapeError: the images are too small for an entry.
    """
    steps: list[Augmentation] = []
    for place, entry in entries_of("recipe.data.augment", entries):
        steps.append(build(place, entry, AUGMENTATIONS))
        if image_shape is not None:
            try:
                steps[-1].check(image_shape)
            except ShapeError as error:
                raise ShapeError(f"{place}: {error}") from None
    return Augmentations(steps)


def _crop(x: Array, margins: Margins, top: Array, left: Array, fill: float) -> Array:
    """Of each image with margins of `fill`: what lies from (top, left) on, top and left (N,), in its old size."""
    N, C, H, W = x.shape
    (above, below), (before, after) = margins
    framed = np.full((N, C, above + H + below, before + W + after), fill, x.dtype)
    framed[:, :, above : above + H, before : before + W] = x
    windows = np.lib.stride_tricks.sliding_window_view(framed, (H, W), axis=(2, 3))  # (N, C, rows, columns, H, W)
    return layout.to_batch_inner(windows[np.arange(N), :, top, left])  # (N, C, H, W)


def _hit(side: int, length: int, N: int, rng: np.random.Generator) -> Array:
    """Which rows (or columns) of `side` a hole of `length` about a random centre covers, (side, N)."""
    first = rng.integers(0, side, size=N) - length // 2
    position = np.arange(side)[:, None]
    return (first <= position) & (position < first + length)


def _grid(H: int, W: int) -> tuple[Array, Array]:
    """Where the pixels are: their rows (H, 1, 1) and columns (W, 1)."""
    return np.arange(H)[:, None, None], np.arange(W)[:, None]


def _sample(x: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Each image at the points (rows, columns) (H, W, N), bilinear; beyond its pixels lies `fill`.

    A point between four pixels is worth their mean, weighted with how near it is; one on a pixel is exactly that pixel.
    """
    N, C, H, W = x.shape
    framed = np.full((C, H + 3, W + 3, N), fill, x.dtype)  # one before, two after: each point has a neighbour beyond it
    framed[:, 1:-2, 1:-2] = layout.inner(layout.to_batch_inner(x))
    (i, down), (j, right) = _parted(rows, H, x.dtype), _parted(columns, W, x.dtype)
    corner = (i * (W + 3) + j) * N + np.arange(len(x))  # (H, W, N): where the upper left pixel lies
    pixels = framed.reshape(C, -1)
    upper, upper_right, lower, lower_right = (
        pixels.take(corner + step, axis=1) for step in (0, N, (W + 3) * N, (W + 4) * N)
    )  # each (C, H, W, N)
    upper += right * (upper_right - upper)
    lower += right * (lower_right - lower)
    upper += down * (lower - upper)
    return layout.outer(upper)


def _parted(points: Array, side: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The pixel before each point, counted from 1 as there is a frame, and how far behind it the point lies."""
    points = np.clip(points, -1, side)
    before = np.floor(points)
    return before.astype(np.int64) + 1, (points - before).astype(dtype)


def _gaussian(size: int, sigma: float) -> Array:
    """The matrix (size, size) that smooths `size` values in a row by a Gaussian of deviation `sigma`."""
    distance = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-np.square(distance / sigma) / 2) / (sigma * np.sqrt(2 * np.pi))
