"""Cross-entropy: exact where it is known, finite wherever the scores are, and strict about targets and weights."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet.errors import ConfigError, LabelError, ShapeError
from stridenet.nn.losses import cross_entropy

rng = np.random.default_rng


def scores_and_targets(seed: int, N: int, K: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    return 3 * rng(seed).standard_normal((N, K)).astype(dtype), rng(seed).integers(0, K, N)


@pytest.mark.promise("G4")
def test_b11_10_000_logit_vectors_against_longdouble() -> None:
    """Relative 1e-6; below, float32 ends: log(1 + tiny) cannot be nearer than its epsilon."""
    for seed in range(20):
        draw = rng(seed)
        K = int(draw.integers(2, 12))
        spread = 10 ** draw.uniform(-1, 4, (500, 1))
        scores = (draw.uniform(-1, 1, (500, K)) * spread).astype(np.float32)
        targets = draw.integers(0, K, 500)
        exact = scores.astype(np.longdouble)
        top = exact.max(axis=1)
        wanted = np.log(np.exp(exact - top[:, None]).sum(axis=1)) + top - exact[np.arange(500), targets]
        found = np.array([cross_entropy(scores[i : i + 1], targets[i : i + 1])[0] for i in range(500)])
        assert np.isfinite(found).all()
        assert (np.abs(found - wanted) <= 1e-6 * wanted + np.finfo(np.float32).eps).all()
        assert cross_entropy(scores, targets)[0] == pytest.approx(float(wanted.mean()), rel=1e-6)


@pytest.mark.promise("G4")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("row", "target", "loss"),
    [
        ([1000, 0, -1000], 2, 2000.0),
        ([0, -800, 0], 1, 800 + np.log(2)),
        ([1e4, -1e4], 0, 0.0),
        ([1e4, -1e4], 1, 2e4),
        ([-1e4, -1e4, -1e4, -1e4], 3, np.log(4)),
        ([5], 0, 0.0),
    ],
)
def test_exact_cases(dtype: Any, row: list[float], target: int, loss: float) -> None:
    found, dscores = cross_entropy(np.array([row], dtype), np.array([target]))
    assert found == pytest.approx(loss, rel=1e-7 if dtype is np.float32 else 1e-15)
    assert type(found) is float
    assert np.isfinite(dscores).all()


def test_b12_softmax_is_taken_once() -> None:
    for scale in 10, 100, 1000, 10_000:
        scores = np.array([[scale, 0, 0], [0, 0, scale]], np.float32)
        loss, dscores = cross_entropy(scores, np.array([0, 2]))
        assert loss <= 2 * np.exp(-scale) + 1e-7
        assert np.abs(dscores).max() <= 2 * np.exp(-scale) + 1e-7
    assert cross_entropy(np.zeros((2, 10)), np.array([3, 7]))[0] == pytest.approx(np.log(10))


def test_b06_loss_and_gradient_are_means_of_the_batch() -> None:
    scores, targets = scores_and_targets(0, 6, 4)
    loss, dscores = cross_entropy(scores, targets)
    each = [cross_entropy(scores[i : i + 1], targets[i : i + 1]) for i in range(6)]
    assert loss == pytest.approx(np.mean([one for one, _ in each]), rel=1e-15)
    assert normwise(dscores, np.concatenate([gradient for _, gradient in each]) / 6) < 1e-15
    twice = cross_entropy(np.tile(scores, (2, 1)), np.tile(targets, 2))
    assert twice[0] == pytest.approx(loss, rel=1e-15)
    assert normwise(twice[1][:6], dscores / 2) < 1e-15


def test_weights_are_shares() -> None:
    scores, targets = scores_and_targets(1, 5, 3)
    weights = np.array([0.5, 0, 2, 1, 3])
    loss, dscores = cross_entropy(scores, targets, weights)
    each = np.array([cross_entropy(scores[i : i + 1], targets[i : i + 1])[0] for i in range(5)])
    assert loss == pytest.approx(float((weights * each).sum() / 6.5), rel=1e-14)
    assert not dscores[1].any()
    again = cross_entropy(scores, targets, 1000 * weights)
    assert again[0] == pytest.approx(loss, rel=1e-14)
    assert normwise(again[1], dscores) < 1e-14
    same = cross_entropy(scores, targets, np.ones(5))
    assert same[0] == pytest.approx(cross_entropy(scores, targets)[0], rel=1e-15)
    counted = cross_entropy(scores[[2, 2, 3]], targets[[2, 2, 3]])  # a weight of 2 is the sample twice
    assert cross_entropy(scores, targets, np.array([0, 0, 2, 1, 0]))[0] == pytest.approx(counted[0], rel=1e-14)


def test_label_smoothing() -> None:
    scores, targets = scores_and_targets(2, 5, 4)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    t = 0.9 * np.eye(4)[targets] + 0.1 / 4
    loss, dscores = cross_entropy(scores, targets, label_smoothing=0.1)
    assert loss == pytest.approx(float(-(t * log_p).sum(axis=1).mean()), rel=1e-14)
    assert normwise(dscores, (np.exp(log_p) - t) / 5) < 1e-14
    assert cross_entropy(scores, targets, label_smoothing=0.0)[0] == cross_entropy(scores, targets)[0]


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_order_changes_nothing_and_the_type_stays(order: str, dtype: Any) -> None:
    scores, targets = scores_and_targets(3, 6, 4, dtype)
    weights = rng(3).uniform(0, 1, 6)
    wanted, wanted_gradient = cross_entropy(scores, targets, weights, label_smoothing=0.2)
    for kind in np.int64, np.uint8, np.int32:
        loss, dscores = cross_entropy(
            LAYOUTS[order](scores),
            LAYOUTS[order](targets.astype(kind)) if order != "sliced" else targets.astype(kind),
            LAYOUTS[order](weights),
            label_smoothing=0.2,
        )
        assert loss == pytest.approx(wanted, rel=1e-6)
        assert dscores.dtype == dtype
        assert normwise(dscores, wanted_gradient) < 1e-6


@pytest.mark.promise("G6")
def test_b15_the_callers_arrays_stay_as_they_are() -> None:
    scores, targets = scores_and_targets(4, 6, 4)
    weights = rng(4).uniform(0, 1, 6)
    arrays = [scores, targets, weights]
    for a in arrays:
        a.flags.writeable = False
    before = [hashlib.sha256(a.tobytes()).digest() for a in arrays]
    _, dscores = cross_entropy(scores, targets, weights, label_smoothing=0.1)
    assert [hashlib.sha256(a.tobytes()).digest() for a in arrays] == before
    assert not any(np.shares_memory(dscores, a) for a in arrays)


@pytest.mark.promise("G5")
def test_nan_in_nan_out() -> None:
    scores, targets = scores_and_targets(5, 4, 5)
    for n, k in np.ndindex(scores.shape):
        bad = scores.copy()
        bad[n, k] = np.nan
        loss, dscores = cross_entropy(bad, targets)
        assert np.isnan(loss)
        assert np.isnan(dscores[n]).all()


@pytest.mark.promise("P03")
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, -1, 2], r"expected targets in 0\.\.3, got -1 at index 1$"),
        ([0, 1, 4], r"expected targets in 0\.\.3, got 4 at index 2$"),
        ([5000, 1, -1], r"got 5000 at index 0$"),
        ([0, 1.5, 2], r"integer class indices as targets, got dtype float64$"),
        ([0, np.nan, 2], r"got dtype float64$"),
        ([True, False, True], r"got dtype bool$"),
        (["a", "b", "c"], r"got dtype <U1$"),
        ([None, 1, 2], r"got dtype object$"),
    ],
)
def test_labels_that_are_refused(targets: list[Any], message: str) -> None:
    with pytest.raises(LabelError, match=f"^cross_entropy: .*{message}"):
        cross_entropy(np.zeros((3, 4)), np.array(targets))


@pytest.mark.promise("P03")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
def test_labels_of_other_integer_types(dtype: Any) -> None:
    assert cross_entropy(np.zeros((2, 4)), np.array([0, 3], dtype))[0] == pytest.approx(np.log(4))
    with pytest.raises(LabelError, match="got 4 at index 1"):
        cross_entropy(np.zeros((2, 4)), np.array([0, 4], dtype))


@pytest.mark.parametrize(
    ("scores", "targets", "weights", "message"),
    [
        (np.zeros((0, 4)), np.zeros(0, int), None, r"scores of shape \(N, K\) with N >= 1, got \(0, 4\)"),
        (np.zeros((3, 0)), np.zeros(3, int), None, r"got \(3, 0\)"),
        (np.zeros(3), np.zeros(3, int), None, r"got \(3,\)"),
        (np.zeros((3, 4, 1)), np.zeros(3, int), None, r"got \(3, 4, 1\)"),
        (np.zeros((3, 4), int), np.zeros(3, int), None, r"scores of dtype float32 or float64, got int64"),
        (np.zeros((3, 4), np.float16), np.zeros(3, int), None, r"got float16"),
        (np.zeros((3, 4)), np.zeros(2, int), None, r"targets of shape \(3,\), got \(2,\)"),
        (np.zeros((3, 4)), np.zeros((3, 1), int), None, r"targets of shape \(3,\), got \(3, 1\)"),
        (np.zeros((3, 4)), np.zeros((3, 4), int), None, r"targets of shape \(3,\), got \(3, 4\)"),
        (np.zeros((3, 4)), np.zeros(3, int), np.ones(4), r"weights of shape \(3,\), got \(4,\)"),
        (np.zeros((3, 4)), np.zeros(3, int), np.zeros(3), r"weights >= 0 that are not all zero"),
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, -1, 2]), r"weights >= 0 that are not all zero"),
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, np.nan, 2]), r"weights >= 0 that are not all zero"),
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, np.inf, 2]), r"weights >= 0 that are not all zero"),
    ],
)
def test_arrays_that_are_refused(scores: Any, targets: Any, weights: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"^cross_entropy: expected {message}|^cross_entropy: expected .*{message}"):
        cross_entropy(scores, targets, weights)


@pytest.mark.promise("P01")
@pytest.mark.parametrize("value", [-0.1, 1, 2, float("nan"), "0.1", None, True])
def test_label_smoothing_that_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^cross_entropy: expected label_smoothing .*\[0, 1\), got "):
        cross_entropy(np.zeros((2, 3)), np.array([0, 1]), label_smoothing=value)
