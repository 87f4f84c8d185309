"""What an evaluation found: accuracy with the number of images and its interval, loss and confusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
