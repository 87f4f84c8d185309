"""Whether the images that judge stand apart from those that are trained on, and are enough to judge by."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stridenet.data.dataset import Dataset, repeated
from stridenet.data.loader import Loader
from stridenet.layout import Array
from stridenet.shapes import grouped
from stridenet.train.findings import Check, Finding
from stridenet.train.metrics import wilson_interval

REACH = 0.1  # the 95 % interval of an accuracy, either way: 93 images; epochs seldom differ by more than ten points
REPEATED_SHARE = 0.001  # of the images that judge; MNIST, CIFAR-10 and the digits have none, measured to the byte
ALIKE = 1e-5  # of the deviation of the pixels: rounding of float32, where two transforms are the same
EXACT = 1e-3  # of the standard error of a mean: nearer to zero than that comes one in a thousand by chance
SAMPLE = 64  # images that are prepared in two ways


def prepared(loader: Loader, rows: Array) -> tuple[Array, Array]:
    """Some images of a set as the network sees them, but for augmentation, and their targets; all weigh alike."""
    data = loader.dataset
    few = Dataset(data.images[rows], data.targets[rows], data.classes)
    x, targets, _ = next(Loader(few, len(few), transform=loader.transform).epoch(0))
    return x, targets


def check_size(n: int) -> Check:
    """Whether an accuracy on `n` validation images says enough to choose an epoch by; 0 chooses none."""
    if not n:
        return Check("validation", "no images held out, the last epoch is taken")
    low, high = wilson_interval(n // 2, n)
    reach = (high - low) / 2
    figure = f"{grouped(n)} images tell an accuracy to {100 * reach:.1f} points, allowed {100 * REACH:.0f}"
    what = f"an accuracy on {grouped(n)} images is known to {100 * reach:.0f} points either way"
    findings = (Finding("small-validation", "validation images", what),) if reach > REACH else ()
    return Check("validation", figure, findings)


def check_repeats(sets: dict[str, Loader]) -> Check:
    """Images that are equal to the byte, between any two of the sets, each named by what it is for."""
    findings, figures, names = list[Finding](), list[str](), list(sets)
    for name, other in ((b, a) for i, b in enumerate(names) for a in names[:i]):
        mine, theirs = sets[name].dataset.images, sets[other].dataset.images
        alike = mine.shape[1:] == theirs.shape[1:] and mine.dtype == theirs.dtype
        count = len(repeated(theirs, mine)) if alike else 0
        figures.append(f"{grouped(count)} {name} in {other}")
        if count > REPEATED_SHARE * len(mine):
            what = f"{grouped(count)} of {grouped(len(mine))} {name} images are {other} images"
            findings.append(Finding("repeated-images", f"{name} images", what))
    return Check("repeated", f"images: {', '.join(figures) or 'one set alone'}", tuple(findings))


def check_statistics(sets: dict[str, Loader]) -> Check:
    """Whether all sets are prepared as the training images, the first of `sets`, are.

    The same image must come out the same from the transform of its own set and from that of the training images, by
    itself and among others. And no set must have the mean 0, by itself or together with the training images, that only
    the training images may have: a mean that was estimated elsewhere misses by about a standard error.
    """
    (_, train), *others = sets.items()
    known, findings, figures = _mean(train), list[Finding](), list[str]()
    for name, loader in others:
        off, own = _difference(loader, train), _mean(loader)
        figures.append(f"{name} {own.value:+.4f} +- {own.error:.4f}")
        if off > ALIKE:
            what = f"the same image comes out {off:.2g} deviations away from where the transform of training has it"
            findings.append(Finding("test-statistics", f"{name} images", what))
        if own.is_exact or (own.together(known).is_exact and not known.is_exact):
            what = "their mean is 0 to rounding" + ("" if own.is_exact else ", together with that of training")
            why = f"{what}, where one that was fitted on training images alone misses by about {own.error:.2g}"
            findings.append(Finding("test-statistics", f"{name} images", why))
    figure = f"the same transform, mean of {', '.join(figures)}" if figures else "no other images"
    return Check("statistics", figure, tuple(findings))


class _Mean(NamedTuple):
    """The mean of all prepared pixels of n images, and the standard error that a sample of so many has."""

    value: float
    error: float
    n: int

    @property
    def is_exact(self) -> bool:
        return abs(self.value) < EXACT * self.error

    def together(self, other: _Mean) -> _Mean:
        """That of both sets."""
        n = self.n + other.n
        error = math.hypot(self.n * self.error, other.n * other.error) / n
        return _Mean((self.n * self.value + other.n * other.value) / n, error, n)


def _difference(loader: Loader, train: Loader) -> float:
    """How far apart some images are by the two transforms, together and one by one, in deviations of the pixels."""
    rows = np.arange(min(SAMPLE, len(loader.dataset)))
    wanted = prepared(Loader(loader.dataset, 1, transform=train.transform), rows)[0]
    together = prepared(loader, rows)[0]
    singly = np.concatenate([prepared(loader, row)[0] for row in rows[:, None]])
    return max(_apart(way, wanted) for way in (together, singly)) / (float(wanted.std()) or 1.0)


def _apart(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else math.inf


def _mean(loader: Loader) -> _Mean:
    plain = Loader(loader.dataset, max(loader.batch_size, SAMPLE), transform=loader.transform)
    means = np.concatenate([x.mean(axis=tuple(range(1, x.ndim)), dtype=np.float64) for x, _, _ in plain.epoch(0)])
    return _Mean(float(means.mean()), float(means.std()) / math.sqrt(len(means)), len(means))
