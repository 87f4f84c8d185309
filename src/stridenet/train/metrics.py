"""What an evaluation found: accuracy with the number of images and its interval, loss and confusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stridenet.errors import ConfigError, LabelError, NumericsError, ShapeError
from stridenet.layout import Array
from stridenet.shapes import grouped, integer


def wilson_interval(correct: int, n: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """The score interval (low, high) of the proportion p = correct / n; the default z makes it a 95 % interval.

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): E. B. Wilson, Probable inference, the law
    of succession, and statistical inference, J. Am. Stat. Assoc. 22 (1927) 209-212. It stays inside 0 to 1 and
    has a width at 0 and at n correct, where the textbook interval has none.

    Raises:
        ConfigError: n is 0, or correct is not in 0 to n.

    >>> low, high = wilson_interval(9912, 10_000)
    >>> f"{low:.4f} {high:.4f}"
    '0.9892 0.9929'
    """
    n = integer("wilson_interval", "n", n)
    correct = integer("wilson_interval", "correct", correct, minimum=0)
    if correct > n:
        raise ConfigError(f"wilson_interval: expected correct <= n, got {correct} of {n}")
    p = correct / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = (centre - half) / scale if correct > 0 else 0.0  # exact at both ends, where rounding would pass them
    high = (centre + half) / scale if correct < n else 1.0
    return low, high


@dataclass(frozen=True, eq=False)  # a generated == would compare arrays to an array, not to a bool
class Metrics:
    """The result of evaluating `n` images, of which `correct` got the right class; loss is their mean."""

    n: int
    correct: int
    loss: float
    confusion: Array  # (classes, classes) int64, rows: true class, columns: predicted class

    @property
    def accuracy(self) -> float:
        """The share of correct images, 0 to 1."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(self.correct, self.n)

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        return f"{100 * self.accuracy:.2f} % of {grouped(self.n)} images (95 % interval {low:.2f} to {high:.2f})"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers and lists, as JSON holds them."""
        return {
            "n": self.n,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "loss": self.loss,
            "confusion": self.confusion.tolist(),
        }


def measure(scores: Array, targets: Array, loss: float) -> Metrics:
    """The metrics of scores (N, K) for targets int64 (N,): the class is the highest score, the first if several are.

    Raises:
        ShapeError: scores and targets do not fit, or there is no image.
        LabelError: a target is not in 0 to K - 1.
        NumericsError: a score is NaN, which has no order.

    >>> print(measure(np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), np.array([1, 0, 1]), loss=0.4))
    66.67 % of 3 images (95 % interval 20.77 to 93.85)
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1] or scores.size == 0:
        raise ShapeError(
            f"measure: expected scores (N, K) and targets (N,) with N >= 1, got {scores.shape} and {targets.shape}"
        )
    classes = scores.shape[1]
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= classes:
        raise LabelError(
            f"measure: expected integer targets in 0 to {classes - 1}, got {targets.dtype} from {targets.min()}"
            f" to {targets.max()}"
        )
    if np.isnan(scores).any():
        raise NumericsError("measure: expected scores that are numbers, got NaN; the network has diverged")
    cells = targets.astype(np.int64) * classes + scores.argmax(axis=1)
    confusion = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    return Metrics(len(targets), int(np.trace(confusion)), float(loss), confusion)


class PerClass(NamedTuple):
    """How well each of K classes is told from the others, (K,) each; NaN where there is nothing to divide by."""

    images: Array  # of the class
    precision: Array  # of the images that were given this class, the share that are of it
    recall: Array  # of the images of this class, the share that were given it
    f1: Array  # the harmonic mean of both


def per_class(confusion: Array) -> PerClass:
    """Precision, recall and F1 = 2 TP / (2 TP + FP + FN) of every class of a confusion matrix, as in `Metrics`.

    C. J. van Rijsbergen, Information Retrieval, 2nd edition (1979), chapter 7.

    >>> found = per_class(np.array([[8, 2], [0, 10]]))
    >>> found.precision.round(3).tolist(), found.recall.tolist(), found.f1.round(3).tolist()
    ([1.0, 0.833], [0.8, 1.0], [0.889, 0.909])
    """
    hits, images, given = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return PerClass(images, _shares(hits, given), _shares(hits, images), _shares(2 * hits, given + images))


class Reliability(NamedTuple):
    """Confidence against accuracy, in bins of equal width; (bins,) each, NaN in those without images."""

    edges: Array  # (bins + 1,)
    images: Array
    correct: Array
    confidence: Array  # the mean
    accuracy: Array
    error: float  # the expected calibration error


def reliability(probabilities: Array, targets: Array, *, bins: int = 15) -> Reliability:
    """How often a network is right when it says how sure it is: probabilities (N, K) for targets (N,).

    Bin m has the images whose highest probability is in ((m - 1) / bins, m / bins]. The expected calibration error is
    the mean over all images of |accuracy - confidence| of their bin: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger,
    On calibration of modern neural networks, ICML 2017, equation 3; they take 15 bins.

    >>> found = reliability(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), bins=2)
    >>> found.images.tolist(), found.correct.tolist(), round(found.error, 3)
    ([0, 3], [0, 2], 0.1)
    """
    highest = probabilities.max(axis=1).astype(np.float64)
    places = np.clip(np.ceil(highest * bins).astype(np.int64) - 1, 0, bins - 1)
    right = probabilities.argmax(axis=1) == targets
    images = np.bincount(places, minlength=bins)
    correct = np.bincount(places[right], minlength=bins)
    confidence = _shares(np.bincount(places, highest, bins), images)
    accuracy = _shares(correct, images)
    error = float(np.nansum(images * np.abs(accuracy - confidence)) / len(targets))
    return Reliability(np.linspace(0, 1, bins + 1), images, correct, confidence, accuracy, error)


def _shares(parts: Array, wholes: Array) -> Array:
    """parts / wholes, NaN where the whole is 0."""
    return np.divide(parts, wholes, out=np.full(len(wholes), math.nan), where=wholes > 0)


def combined(parts: Sequence[Metrics]) -> Metrics:
    """The metrics of all images of `parts` together."""
    n = sum(part.n for part in parts)
    loss = sum(part.loss * part.n for part in parts) / n
    return Metrics(n, sum(part.correct for part in parts), loss, np.sum([part.confusion for part in parts], axis=0))


def standing(row: Mapping[str, Any]) -> tuple[float, float]:
    """How good the epoch of a history row is; the better one is greater.

    By validation accuracy, among equals by a lower validation loss; without a validation by how late it is.

    >>> first = {"epoch": 0, "validation_accuracy": 0.9, "validation_loss": 0.3}
    >>> second = {"epoch": 1, "validation_accuracy": 0.9, "validation_loss": 0.2}
    >>> standing(first) < standing(second)
    True
    """
    if row.get("validation_accuracy") is None:
        return 0.0, float(row["epoch"])
    return row["validation_accuracy"], -row["validation_loss"]
