"""Losses: (scores, targets, weights) -> (the weighted mean over the batch, its gradient by the scores).

Loss and gradient are scaled alike, so a learning rate does not depend on the batch size.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from stridenet.errors import LabelError, ShapeError
from stridenet.layout import Array
from stridenet.shapes import number


class Loss(Protocol):
    """What a trainer expects of a loss."""

    def __call__(self, scores: Array, targets: Array, weights: Array | None = None, /) -> tuple[float, Array]:
        """(loss, dscores) of scores (N, K), targets (N,) and sample weights (N,) or None."""
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
        weights: sample weights (N,), >= 0 and not all zero; None weighs all alike.
        label_smoothing: e, in [0, 1).

    Returns:
        The loss as a Python float, and dscores (N, K) of the dtype of `scores`.

    Raises:
        ShapeError: shapes or types do not fit, N = 0, or the weights are no weights.
        LabelError: a target is no class index.
    """
    e = number("cross_entropy", "label_smoothing", label_smoothing, low=0.0, high=1.0, open_high=True)
    N, K = _check_batch("cross_entropy", scores, targets)
    share = _shares("cross_entropy", weights, N, scores.dtype)  # (N,), sums to 1
    rows = np.arange(N)
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1)
    losses = np.log(sums) - (1 - e) * shifted[rows, targets]
    if e:
        losses -= e * shifted.mean(axis=1)
    dscores = exponentials / sums[:, None] - e / K  # softmax - t
    dscores[rows, targets] -= 1 - e
    dscores *= share[:, None]
    return float(np.sum(losses * share, dtype=np.float64)), dscores


def _check_batch(who: str, scores: Array, targets: Array) -> tuple[int, int]:
    if scores.ndim != 2 or not scores.size:
        raise ShapeError(f"{who}: expected scores of shape (N, K) with N >= 1, got {scores.shape}")
    if scores.dtype.char not in "fd":
        raise ShapeError(f"{who}: expected scores of dtype float32 or float64, got {scores.dtype}")
    if targets.shape != scores.shape[:1]:
        raise ShapeError(f"{who}: expected targets of shape ({len(scores)},), got {targets.shape}")
    if targets.dtype.kind not in "iu":
        raise LabelError(f"{who}: expected integer class indices as targets, got dtype {targets.dtype}")
    N, K = scores.shape
    if targets.min() < 0 or targets.max() >= K:
        first = int(np.flatnonzero((targets < 0) | (targets >= K))[0])
        raise LabelError(f"{who}: expected targets in 0..{K - 1}, got {targets[first]} at index {first}")
    return N, K


def _shares(who: str, weights: Array | None, N: int, dtype: np.dtype[Any]) -> Array:
    """The weight of each sample as a share of the batch."""
    if weights is None:
        return np.full(N, 1 / N, dtype)
    if weights.shape != (N,):
        raise ShapeError(f"{who}: expected weights of shape ({N},), got {weights.shape}")
    total = float(np.sum(weights, dtype=np.float64))
    if not (np.isfinite(total) and total > 0 and weights.min() >= 0):
        raise ShapeError(f"{who}: expected weights >= 0 that are not all zero, got sum {total:g}")
    return (weights / total).astype(dtype)
