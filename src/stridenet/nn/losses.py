"""Losses: (scores, targets, weights) -> (the weighted mean over the batch, its gradient by the scores).

Loss and gradient are scaled alike, so a learning rate does not depend on the batch size. A weight of a class is one
of its samples: weights = class_weights[targets].
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from stridenet.errors import LabelError, ShapeError
from stridenet.layout import Array
from stridenet.shapes import fraction, number

NO_CLASS = 0.1  # j of the criterion of 1998: minus the score of the class that is none


class Loss(Protocol):
    """What a trainer expects of a loss."""

    def __call__(self, scores: Array, targets: Array, weights: Array | None = None, /) -> tuple[float, Array]:
        """(loss, dscores) of scores (N, K), targets (N,) or (N, K) and sample weights (N,) or None."""
        ...


def cross_entropy(
    scores: Array, targets: Array, weights: Array | None = None, *, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    """Cross-entropy of softmax(scores), from the logits themselves.

    E = sum_n w_n (log sum_k exp s_nk - sum_k t_nk s_nk) / sum_n w_n, with t the one-hot target, or, smoothed,
    (1 - e) one-hot + e / K (Szegedy et al. 2016). The maximum is taken off first: finite scores give a finite loss.

    Args:
        scores: logits (N, K), N >= 1.
        targets: class indices (N,), integers in 0..K-1.
        weights: sample weights (N,), >= 0; None weighs all alike; where all are 0, loss and gradient are 0.
        label_smoothing: e, in [0, 1).

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ShapeError: shapes or types do not fit, N = 0, or the weights are no weights.
        LabelError: a target is no class index.
    """
    e = fraction("cross_entropy", "label_smoothing", label_smoothing)
    share = shares_of("cross_entropy", scores, weights)
    rows = check_classes("cross_entropy", scores, targets)
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1)
    losses = np.log(sums) - (1 - e) * shifted[rows, targets]
    if e:
        losses -= e * shifted.mean(axis=1)
    dscores = exponentials / sums[:, None] - e / scores.shape[1]  # softmax - t
    dscores[rows, targets] -= 1 - e
    return _mean(losses, dscores, share)


def hinge(scores: Array, targets: Array, weights: Array | None = None, *, margin: float = 1.0) -> tuple[float, Array]:
    """Multiclass hinge loss (Weston and Watkins 1999): what the other classes lack to be `margin` below the target's.

    E = sum_n w_n sum_(j != y_n) max(0, margin + s_nj - s_ny) / sum_n w_n. The slope at the kink is 0, as ReLU's.

    Args:
        scores: (N, K), N >= 1.
        targets: class indices y (N,), integers in 0..K-1.
        weights: sample weights (N,), >= 0; None weighs all alike; where all are 0, loss and gradient are 0.
        margin: a number >= 0.

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ConfigError, ShapeError, LabelError: as for `cross_entropy`.
    """
    margin = number("hinge", "margin", margin, low=0.0, high=math.inf)
    share = shares_of("hinge", scores, weights)
    rows = check_classes("hinge", scores, targets)
    slack = scores - scores[rows, targets, None]
    slack += margin  # last: the difference of two near scores is exact
    slack[rows, targets] -= margin  # 0, or NaN
    dscores = np.heaviside(slack, 0.0)  # of NaN, NaN
    dscores[rows, targets] -= dscores.sum(axis=1)
    return _mean(np.maximum(slack, 0.0).sum(axis=1, dtype=np.float64), dscores, share)


def mse(scores: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Mean squared error, of numbers or of classes: E = sum_n w_n mean_k (s_nk - t_nk)^2 / sum_n w_n.

    Args:
        scores: predictions (N, K), N >= 1.
        targets: numbers (N, K), or (N,) for K = 1, of a floating type; or class indices (N,), integers in 0..K-1,
            which stand for one-hot rows.
        weights: sample weights (N,), >= 0; None weighs all alike; where all are 0, loss and gradient are 0.

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ShapeError: shapes or types do not fit, N = 0, or the weights are no weights.
        LabelError: a target is no class index, or no finite number.
    """
    share = shares_of("mse", scores, weights)
    if targets.dtype.kind == "f":
        differences = scores - _check_numbers("mse", scores, targets)
    else:
        rows, differences = check_classes("mse", scores, targets), scores.copy(order="K")
        differences[rows, targets] -= 1
    losses = np.square(differences, dtype=np.float64).mean(axis=1)
    differences *= 2 / scores.shape[1]
    return _mean(losses, differences, share)


def map_criterion(
    scores: Array, targets: Array, weights: Array | None = None, *, j: float = NO_CLASS
) -> tuple[float, Array]:
    """The discriminative criterion of the LeNet-5 of 1998, of scores that are minus distances, as RBF gives them.

    E = sum_n w_n (-s_nt + log(exp(-j) + sum_k exp s_nk)) / sum_n w_n, t the target: the cross-entropy with one more
    score, of no class, that is always -j. A wrong class that is much farther away than j is pushed no further (LeCun,
    Bottou, Bengio and Haffner 1998, equation 9, which calls -s_nk the penalty y_k). Nothing overflows.

    Args:
        scores: (N, K), N >= 1.
        targets: class indices (N,), integers in 0..K-1.
        weights: sample weights (N,), >= 0; None weighs all alike; where all are 0, loss and gradient are 0.
        j: in [0, 1e30]; the paper does not print its value.

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ShapeError: shapes or types do not fit, N = 0, or the weights are no weights.
        LabelError: a target is no class index.
        ConfigError: j is out of range.
    """
    nothing = -number("map_criterion", "j", j, low=0.0, high=1e30)
    share = shares_of("map_criterion", scores, weights)
    rows = check_classes("map_criterion", scores, targets)
    top = np.maximum(scores.max(axis=1), nothing)
    shifted = scores - top[:, None]
    dscores = np.exp(shifted)
    sums = dscores.sum(axis=1, dtype=np.float64) + np.exp(nothing - top)  # one rounding less where the loss is small
    losses = np.log(sums) - shifted[rows, targets]
    dscores /= sums[:, None]  # the probability of each class
    dscores[rows, targets] -= 1
    return _mean(losses, dscores, share)


def rbf_mse(scores: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Minus the score of the right class: the squared distance from its code, where an RBF gives the scores.

    E = -sum_n w_n s_nt / sum_n w_n (LeCun, Bottou, Bengio and Haffner 1998, equation 8). Nothing keeps the other
    classes away, so that only codes that are fixed can be learnt with it.

    Args:
        scores: (N, K), N >= 1.
        targets: class indices (N,), integers in 0..K-1.
        weights: sample weights (N,), >= 0; None weighs all alike; where all are 0, loss and gradient are 0.

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ShapeError: shapes or types do not fit, N = 0, or the weights are no weights.
        LabelError: a target is no class index.
    """
    share = shares_of("rbf_mse", scores, weights)
    rows = check_classes("rbf_mse", scores, targets)
    dscores = scores - scores  # zeros, but NaN stays NaN
    dscores[rows, targets] -= 1
    return _mean((dscores * scores).sum(axis=1), dscores, share)


def _mean(losses: Array, dscores: Array, share: Array) -> tuple[float, Array]:
    """The loss of the batch and its gradient, from the loss (N,) and gradient (N, K) of each sample."""
    dscores *= share[:, None]
    return float(np.sum(losses * share, dtype=np.float64)), dscores


def check_classes(who: str, scores: Array, targets: Array) -> Array:
    """The rows 0..N-1, once it is clear that `targets` has a class for each."""
    N, K = len(scores), scores.shape[1]
    if targets.shape != (N,):
        raise ShapeError(f"{who}: expected targets of shape ({N},), got {targets.shape}")
    if targets.dtype.kind not in "iu":
        raise LabelError(f"{who}: expected integer class indices as targets, got dtype {targets.dtype}")
    if targets.min() < 0 or targets.max() >= K:
        first = int(np.flatnonzero((targets < 0) | (targets >= K))[0])
        raise LabelError(f"{who}: expected targets in 0..{K - 1}, got {targets[first]} at index {first}")
    return np.arange(N)


def _check_numbers(who: str, scores: Array, targets: Array) -> Array:
    """`targets` with the shape and type of `scores`."""
    N, K = scores.shape
    if targets.shape != (N, K) and (K > 1 or targets.shape != (N,)):
        raise ShapeError(f"{who}: expected targets of shape ({N}, {K}), got {targets.shape}")
    if not np.isfinite(targets).all():
        raise LabelError(f"{who}: expected finite targets, got {targets[~np.isfinite(targets)][0]}")
    return targets.astype(scores.dtype).reshape(N, K)


def shares_of(who: str, scores: Array, weights: Array | None) -> Array:
    """The weight of each sample as a share of the batch (N,), once the scores are checked."""
    if scores.ndim != 2 or not scores.size:
        raise ShapeError(f"{who}: expected scores of shape (N, K) with N >= 1, got {scores.shape}")
    if scores.dtype.char not in "fd":
        raise ShapeError(f"{who}: expected scores of dtype float32 or float64, got {scores.dtype}")
    N = len(scores)
    if weights is None:
        return np.full(N, 1 / N, scores.dtype)
    if weights.shape != (N,):
        raise ShapeError(f"{who}: expected weights of shape ({N},), got {weights.shape}")
    if weights.dtype.kind not in "fiub":
        raise ShapeError(f"{who}: expected weights that are numbers, got dtype {weights.dtype}")
    total = float(np.sum(weights, dtype=np.float64))
    if not (np.isfinite(total) and weights.min() >= 0):
        raise ShapeError(f"{who}: expected weights >= 0, got {weights.min():g} and a sum of {total:g}")
    return (weights / (total or 1.0)).astype(scores.dtype)  # a batch without weight has loss 0 and no gradient
