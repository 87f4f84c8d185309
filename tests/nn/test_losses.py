"""Losses: exact where they are known, finite wherever the scores are, and strict about targets and weights."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet.errors import ConfigError, LabelError, ShapeError
from stridenet.layout import Array
from stridenet.nn.losses import Loss, cross_entropy, hinge, map_criterion, mse, rbf_mse

rng = np.random.default_rng
LOSSES: list[Loss] = [cross_entropy, hinge, mse, map_criterion, rbf_mse]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def scores_and_targets(seed: int, N: int, K: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    return 3 * rng(seed).standard_normal((N, K)).astype(dtype), rng(seed).integers(0, K, N)


def by_definition(loss: Loss, scores: Array, targets: Array) -> Array:
    """The loss of each sample, in the precision of `scores`."""
    rows = np.arange(len(scores))
    if loss is cross_entropy:
        top = scores.max(axis=1)
        return np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[rows, targets]
    if loss is map_criterion:
        more = np.append(scores, np.full((len(scores), 1), -0.1, scores.dtype), axis=1)
        return by_definition(cross_entropy, more, targets)
    if loss is rbf_mse:
        return -scores[rows, targets]
    if loss is hinge:
        return np.maximum(1 + scores - scores[rows, targets, None], 0).sum(axis=1) - 1  # j = y has given 1
    return ((scores - np.eye(scores.shape[1])[targets]) ** 2).mean(axis=1)


@every_loss
@pytest.mark.promise("B11", "G4")
def test_b11_10_000_logit_vectors_against_longdouble(loss: Loss) -> None:
    """Relative 1e-6; below, float32 ends: log(1 + tiny) cannot be nearer than its epsilon."""
    for seed in range(20):
        draw = rng(seed)
        K = int(draw.integers(2, 12))
        spread = 10 ** draw.uniform(-1, 4, (500, 1))
        scores = (draw.uniform(-1, 1, (500, K)) * spread).astype(np.float32)
        targets = draw.integers(0, K, 500)
        wanted = by_definition(loss, scores.astype(np.longdouble), targets)
        found = np.array([loss(scores[i : i + 1], targets[i : i + 1])[0] for i in range(500)])
        assert np.isfinite(found).all()
        assert (np.abs(found - wanted) <= 1e-6 * np.abs(wanted) + np.finfo(np.float32).eps).all()
        assert loss(scores, targets)[0] == pytest.approx(float(wanted.mean()), rel=1e-6, abs=1e-6)


@pytest.mark.promise("G4")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "row", "target", "wanted"),
    [
        (cross_entropy, [1000, 0, -1000], 2, 2000.0),
        (cross_entropy, [0, -800, 0], 1, 800 + np.log(2)),
        (cross_entropy, [1e4, -1e4], 0, 0.0),
        (cross_entropy, [1e4, -1e4], 1, 2e4),
        (cross_entropy, [-1e4, -1e4, -1e4, -1e4], 3, np.log(4)),
        (cross_entropy, [5], 0, 0.0),
        (hinge, [1000, 0, -1000], 2, 3002.0),
        (hinge, [1e4, 1e4, 1e4 - 0.5], 0, 1.5),
        (hinge, [2, 1, 0], 0, 0.0),
        (hinge, [5], 0, 0.0),
        (map_criterion, [-1000, 0, -1000], 2, 1000 + np.log(1 + np.exp(-0.1))),
        (map_criterion, [-1e4, -2e4], 0, 1e4 - 0.1),
        (map_criterion, [1e4, -1e4], 0, 0.0),
        (map_criterion, [0], 0, np.log(1 + np.exp(-0.1))),
        (rbf_mse, [-3, -1e4, 5], 1, 1e4),
        (mse, [1000, 0, -1000], 2, 2_002_001 / 3),
        (mse, [1e4, 1], 1, 5e7),
        (mse, [2.0**66, 1], 1, 2.0**131),
        (mse, [0, 1, 0], 1, 0.0),
        (mse, [5], 0, 16.0),
    ],
)
def test_exact_cases(dtype: Any, loss: Loss, row: list[float], target: int, wanted: float) -> None:
    found, dscores = loss(np.array([row], dtype), np.array([target]))
    assert found == pytest.approx(wanted, rel=1e-7 if dtype is np.float32 else 1e-15)
    assert type(found) is float
    assert np.isfinite(dscores).all()


@pytest.mark.promise("B12")
def test_b12_softmax_is_taken_once() -> None:
    for scale in 10, 100, 1000, 10_000:
        scores = np.array([[scale, 0, 0], [0, 0, scale]], np.float32)
        loss, dscores = cross_entropy(scores, np.array([0, 2]))
        assert loss <= 2 * np.exp(-scale) + 1e-7
        assert np.abs(dscores).max() <= 2 * np.exp(-scale) + 1e-7
    assert cross_entropy(np.zeros((2, 10)), np.array([3, 7]))[0] == pytest.approx(np.log(10))


@every_loss
@pytest.mark.promise("B6")
def test_b06_loss_and_gradient_are_means_of_the_batch(loss: Loss) -> None:
    scores, targets = scores_and_targets(0, 6, 4)
    whole, dscores = loss(scores, targets)
    each = [loss(scores[i : i + 1], targets[i : i + 1]) for i in range(6)]
    assert whole == pytest.approx(np.mean([one for one, _ in each]), rel=1e-15)
    assert normwise(dscores, np.concatenate([gradient for _, gradient in each]) / 6) < 1e-15
    twice = loss(np.tile(scores, (2, 1)), np.tile(targets, 2))
    assert twice[0] == pytest.approx(whole, rel=1e-15)
    assert normwise(twice[1][:6], dscores / 2) < 1e-15


@every_loss
@pytest.mark.promise("B6", "G1")
def test_gradients_are_the_slopes_of_the_loss(loss: Loss) -> None:
    """Central differences along random directions, with sample weights, with class weights and with neither."""
    for seed in range(60):
        draw = rng(seed)
        N, K = int(draw.integers(1, 9)), int(draw.integers(1, 7))
        scores, targets = scores_and_targets(seed, N, K)
        weights = [None, draw.uniform(0, 2, N), draw.uniform(0.1, 2, K)[targets]][seed % 3]
        dscores, direction = loss(scores, targets, weights)[1], draw.standard_normal((N, K))
        ahead, behind = (loss(scores + step * direction, targets, weights)[0] for step in (1e-6, -1e-6))
        assert np.sum(dscores * direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-7, abs=1e-8), seed


@every_loss
def test_weights_are_shares(loss: Loss) -> None:
    scores, targets = scores_and_targets(1, 5, 3)
    weights = np.array([0.5, 0, 2, 1, 3])
    whole, dscores = loss(scores, targets, weights)
    each = np.array([loss(scores[i : i + 1], targets[i : i + 1])[0] for i in range(5)])
    assert whole == pytest.approx(float((weights * each).sum() / 6.5), rel=1e-14)
    assert not dscores[1].any()
    again = loss(scores, targets, 1000 * weights)
    assert again[0] == pytest.approx(whole, rel=1e-14)
    assert normwise(again[1], dscores) < 1e-14
    same = loss(scores, targets, np.ones(5))
    assert same[0] == pytest.approx(loss(scores, targets)[0], rel=1e-15)
    counted = loss(scores[[2, 2, 3]], targets[[2, 2, 3]])  # a weight of 2 is the sample twice
    assert loss(scores, targets, np.array([0, 0, 2, 1, 0]))[0] == pytest.approx(counted[0], rel=1e-14)


def test_label_smoothing() -> None:
    scores, targets = scores_and_targets(2, 5, 4)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    t = 0.9 * np.eye(4)[targets] + 0.1 / 4
    loss, dscores = cross_entropy(scores, targets, label_smoothing=0.1)
    assert loss == pytest.approx(float(-(t * log_p).sum(axis=1).mean()), rel=1e-14)
    assert normwise(dscores, (np.exp(log_p) - t) / 5) < 1e-14
    assert cross_entropy(scores, targets, label_smoothing=0.0)[0] == cross_entropy(scores, targets)[0]


def test_hinge_by_hand() -> None:
    scores = np.array([[1.0, 3.0, 2.5], [4.0, 1.0, 0.0]])
    loss, dscores = hinge(scores, np.array([1, 2]), margin=2.0)  # 0 + 1.5, 6 + 3
    assert loss == 10.5 / 2
    assert dscores.tolist() == [[0, -0.5, 0.5], [0.5, 0.5, -1]]


@pytest.mark.parametrize("j", [0.0, 0.1, 3.0, 1e4, 1e30])
def test_the_map_criterion_is_the_cross_entropy_with_one_more_score(j: float) -> None:
    scores, targets = scores_and_targets(9, 6, 4)
    loss, dscores = map_criterion(scores, targets, j=j)
    wanted, gradient = cross_entropy(np.append(scores, np.full((6, 1), -j), axis=1), targets)
    assert loss == pytest.approx(wanted, rel=1e-12)
    assert normwise(dscores, gradient[:, :4]) < 1e-12


def test_the_map_criterion_pushes_no_class_that_is_far_away() -> None:
    gradient = map_criterion(np.array([[-80.0, -90.0]]), np.array([0]))[1]
    assert gradient[0, 0] == -1
    assert 0 < gradient[0, 1] < 1e-30


@pytest.mark.promise("P06")
@pytest.mark.parametrize("j", [-0.1, 1e31, np.nan, np.inf, "1", None, True])
def test_a_j_out_of_range_is_refused(j: Any) -> None:
    with pytest.raises(ConfigError, match=r"^map_criterion: expected j "):
        map_criterion(np.zeros((1, 2)), np.array([0]), j=j)


@pytest.mark.promise("G2")
def test_the_slope_of_the_hinge_at_its_kink_is_zero() -> None:
    for margin in 0.0, 1.0, 2.5:
        loss, dscores = hinge(np.array([[3.0 - margin, 3.0, 3.0 - margin]]), np.array([1]), margin=margin)
        assert loss == 0
        assert not dscores.any()
        above = np.array([[3.0 - margin + 1e-12, 3.0, 3.0 - margin]])
        assert hinge(above, np.array([1]), margin=margin)[1].tolist() == [[1, -1, 0]]


def test_mse_of_numbers_by_hand() -> None:
    scores, targets = np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[0.0, 4.0], [0.0, 1.0]])
    loss, dscores = mse(scores, targets)
    assert loss == ((1 + 4) / 2 + (0 + 4) / 2) / 2
    assert dscores.tolist() == [[0.5, -1], [0, -1]]
    weighted, dscores = mse(scores, targets, np.array([3.0, 1.0]))
    assert weighted == (3 * 2.5 + 2) / 4
    assert dscores.tolist() == [[0.75, -1.5], [0, -0.5]]


def test_mse_takes_classes_rows_and_a_column() -> None:
    scores, targets = scores_and_targets(6, 5, 4)
    classes, rows = mse(scores, targets), mse(scores, np.eye(4)[targets])
    assert classes[0] == rows[0]
    assert np.array_equal(classes[1], rows[1])
    numbers = rng(6).standard_normal(5)
    flat, column = mse(scores[:, :1], numbers), mse(scores[:, :1], numbers[:, None])
    assert flat[0] == column[0] == pytest.approx(np.mean((scores[:, 0] - numbers) ** 2), rel=1e-15)
    assert np.array_equal(flat[1], column[1])


@every_loss
@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_order_changes_nothing_and_the_type_stays(loss: Any, order: str, dtype: Any) -> None:
    scores, targets = scores_and_targets(3, 6, 4, dtype)
    weights, options = rng(3).uniform(0, 1, 6), {"label_smoothing": 0.2} if loss is cross_entropy else {}
    wanted, wanted_gradient = loss(scores, targets, weights, **options)
    for kind in np.int64, np.uint8, np.int32:
        found, dscores = loss(
            LAYOUTS[order](scores),
            LAYOUTS[order](targets.astype(kind)) if order != "sliced" else targets.astype(kind),
            LAYOUTS[order](weights),
            **options,
        )
        assert found == pytest.approx(wanted, rel=1e-6)
        assert dscores.dtype == dtype
        assert normwise(dscores, wanted_gradient) < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of_targets", [np.float16, np.float32, np.float64])
def test_the_type_of_the_numbers_is_not_that_of_the_gradient(dtype: Any, of_targets: Any) -> None:
    assert mse(np.zeros((3, 2), dtype), np.ones((3, 2), of_targets))[1].dtype == dtype


@every_loss
@pytest.mark.promise("G6")
def test_b15_the_callers_arrays_stay_as_they_are(loss: Any) -> None:
    scores, targets = scores_and_targets(4, 6, 4)
    numbers, weights = rng(4).standard_normal((6, 4)), rng(4).uniform(0, 1, 6)
    arrays = [scores, targets, numbers, weights]
    for a in arrays:
        a.flags.writeable = False
    before = [hashlib.sha256(a.tobytes()).digest() for a in arrays]
    gradients = [loss(scores, targets, weights)[1]]
    if loss is mse:
        gradients.append(loss(scores, numbers, weights)[1])
    if loss is cross_entropy:
        gradients.append(loss(scores, targets, weights, label_smoothing=0.1)[1])
    assert [hashlib.sha256(a.tobytes()).digest() for a in arrays] == before
    assert not any(np.shares_memory(dscores, a) for a in arrays for dscores in gradients)


@every_loss
@pytest.mark.parametrize("K", [1, 5])
@pytest.mark.promise("G5")
def test_nan_in_nan_out(loss: Loss, K: int) -> None:
    """The gradient has it too: all of the row where one score depends on all."""
    scores, targets = scores_and_targets(5, 4, K)
    for n, k in np.ndindex(scores.shape):
        bad = scores.copy()
        bad[n, k] = np.nan
        found, dscores = loss(bad, targets)
        assert np.isnan(found)
        assert np.isnan(dscores[n, k])
        assert np.isnan(dscores[n]).all() or loss is not cross_entropy
        assert np.isfinite(np.delete(dscores, n, axis=0)).all()


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
    given = np.array(targets)
    for loss in [loss for loss in LOSSES if given.dtype.kind != "f" or loss is not mse]:
        with pytest.raises(LabelError, match=f"^{loss.__name__}: .*{message}"):
            loss(np.zeros((3, 4)), given)


@pytest.mark.promise("P03")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_refused(bad: float) -> None:
    with pytest.raises(LabelError, match=rf"^mse: expected finite targets, got {bad}$"):
        mse(np.zeros((3, 1)), np.array([0, bad, 1]))


@pytest.mark.promise("P03")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
@pytest.mark.parametrize(("loss", "wanted"), [(cross_entropy, np.log(4)), (hinge, 3), (mse, 0.25)])
def test_labels_of_other_integer_types(dtype: Any, loss: Loss, wanted: float) -> None:
    assert loss(np.zeros((2, 4)), np.array([0, 3], dtype))[0] == pytest.approx(wanted)
    with pytest.raises(LabelError, match="got 4 at index 1"):
        loss(np.zeros((2, 4)), np.array([0, 4], dtype))


@every_loss
@pytest.mark.promise("P06")
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
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, -1, 2]), r"weights >= 0"),
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, np.nan, 2]), r"weights >= 0"),
        (np.zeros((3, 4)), np.zeros(3, int), np.array([1, np.inf, 2]), r"weights >= 0"),
    ],
)
def test_arrays_that_are_refused(loss: Loss, scores: Any, targets: Any, weights: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"^{loss.__name__}: expected .*{message}"):
        loss(scores, targets, weights)


@pytest.mark.promise("P02")
@pytest.mark.parametrize(
    ("shape", "targets"), [((3, 2), (3,)), ((3, 2), (2, 2)), ((3, 2), (3, 3)), ((3, 1), (2,)), ((3, 1), (3, 1, 1))]
)
def test_numbers_of_another_shape_are_refused(shape: tuple[int, int], targets: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"^mse: expected targets of shape \({shape[0]}, {shape[1]}\), got \("):
        mse(np.zeros(shape), np.zeros(targets))


@pytest.mark.promise("P01")
@pytest.mark.parametrize("value", [-0.1, 1, 2, float("nan"), "0.1", None, True])
def test_label_smoothing_that_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^cross_entropy: expected label_smoothing .*\[0, 1\), got "):
        cross_entropy(np.zeros((2, 3)), np.array([0, 1]), label_smoothing=value)


@pytest.mark.promise("P01")
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1", None, True])
def test_a_margin_that_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^hinge: expected margin .*>= 0, got "):
        hinge(np.zeros((2, 3)), np.array([0, 1]), margin=value)


@pytest.mark.parametrize("loss", [cross_entropy, hinge, mse])
def test_a_batch_without_weight_has_no_loss_and_no_gradient(loss: Loss) -> None:
    """As happens where class weights leave a class out."""
    found, dscores = loss(np.ones((3, 4)), np.zeros(3, int), np.zeros(3))
    assert found == 0
    assert not dscores.any()
