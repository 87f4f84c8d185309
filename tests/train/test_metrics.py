from __future__ import annotations

import json

import numpy as np
import pytest

from stridenet.errors import ConfigError, LabelError, NumericsError, ShapeError
from stridenet.train.metrics import Metrics, measure, per_class, reliability, wilson_interval

Z = 1.959963984540054


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 4), (9912, 10_000), (1, 10_000)])
def test_bounds_solve_the_score_equation(correct: int, n: int) -> None:
    """|p - bound| = z * sqrt(bound (1 - bound) / n): what Wilson's interval is, without its closed form."""
    low, high = wilson_interval(correct, n)
    p = correct / n
    assert 0 <= low <= p <= high <= 1
    for bound in (low, high):
        assert abs(p - bound) == pytest.approx(Z * (bound * (1 - bound) / n) ** 0.5, abs=1e-12)


def test_interval_of_a_known_table() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_interval_covers_the_truth_in_95_of_100() -> None:
    draws = np.random.default_rng(0).binomial(200, 0.97, size=4000)
    covered = [low <= 0.97 <= high for low, high in (wilson_interval(int(k), 200) for k in draws)]
    assert 0.93 < np.mean(covered) < 0.98


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (5, 4), (-1, 4), (1, -4), (True, 4), (1.0, 4)])
def test_interval_refuses(correct: int, n: int) -> None:
    with pytest.raises(ConfigError, match="wilson_interval: expected"):
        wilson_interval(correct, n)


@pytest.mark.promise("G9")
def test_an_accuracy_is_written_with_n_and_interval() -> None:
    metrics = Metrics(10_000, 9912, 0.03, np.diag([9912, 88]))
    assert str(metrics) == "99.12 % of 10 000 images (95 % interval 98.92 to 99.29)"
    assert metrics.accuracy == 0.9912
    assert metrics.interval == wilson_interval(9912, 10_000)


@pytest.mark.promise("G9")
def test_dict_is_json_with_n_and_interval() -> None:
    metrics = measure(np.eye(3, dtype=np.float32), np.array([0, 1, 1]), np.float32(0.5))
    stored = json.loads(json.dumps(metrics.as_dict()))
    assert stored == {
        "n": 3,
        "correct": 2,
        "accuracy": 2 / 3,
        "interval": list(wilson_interval(2, 3)),
        "loss": 0.5,
        "confusion": [[1, 0, 0], [0, 1, 1], [0, 0, 0]],
    }


def test_measure_equals_counting_one_by_one() -> None:
    rng = np.random.default_rng(1)
    scores, targets = rng.integers(0, 3, (500, 7)).astype(np.float32), rng.integers(0, 7, 500)  # many ties
    expected = np.zeros((7, 7), np.int64)
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        expected[target, row.index(max(row))] += 1  # index: the first maximum
    metrics = measure(scores, targets, 1.5)
    np.testing.assert_array_equal(metrics.confusion, expected)
    assert metrics.confusion.dtype == np.int64
    assert (metrics.n, metrics.correct, metrics.loss) == (500, int(np.trace(expected)), 1.5)
    assert isinstance(metrics.correct, int)


def test_minus_infinity_is_a_score() -> None:
    assert measure(np.array([[-np.inf, 0.0]]), np.array([1], np.uint8), 0.0).correct == 1


def test_measure_refuses() -> None:
    scores = np.zeros((2, 3))
    with pytest.raises(ShapeError, match=r"measure: expected scores \(N, K\) and targets \(N,\)"):
        measure(scores, np.array([0]), 0.0)
    with pytest.raises(ShapeError):
        measure(np.zeros((0, 3)), np.zeros(0, np.int64), 0.0)
    for targets in (np.array([0, 3]), np.array([-1, 0]), np.array([0.0, 1.0])):
        with pytest.raises(LabelError, match="integer targets in 0 to 2"):
            measure(scores, targets, 0.0)
    scores[1, 2] = np.nan
    with pytest.raises(NumericsError, match="NaN"):
        measure(scores, np.array([0, 1]), 0.0)


def predictions(seed: int, classes: int = 6, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, classes) and targets of a network that is right about half of the time."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), n)
    right = rng.random(n) < 0.5
    return probabilities, np.where(right, probabilities.argmax(axis=1), rng.integers(0, classes - 1, n))


@pytest.mark.parametrize("seed", range(5))
def test_per_class_is_what_scikit_learn_says(seed: int) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    probabilities, targets = predictions(seed)
    found = per_class(measure(probabilities, targets, 0.0).confusion)
    classes = np.arange(probabilities.shape[1])
    wanted = precision_recall_fscore_support(
        targets, probabilities.argmax(axis=1), labels=classes, average=None, zero_division=np.nan
    )
    for mine, theirs in zip((found.precision, found.recall, found.f1, found.images), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_a_class_without_images_or_predictions_has_none() -> None:
    found = per_class(np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]]))
    np.testing.assert_array_equal(found.precision, [0.6, 0.0, np.nan])
    np.testing.assert_array_equal(found.recall, [0.75, np.nan, 0.0])
    np.testing.assert_allclose(found.f1, [2 / 3, 0.0, 0.0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_bins_of_reliability_are_those_of_scikit_learn(seed: int, bins: int) -> None:
    from sklearn.calibration import calibration_curve

    probabilities, targets = predictions(seed)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    found = reliability(probabilities, targets, bins=bins)
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy="uniform")  # of bins with images
    known = found.images > 0
    np.testing.assert_allclose(found.accuracy[known], accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[known], mean, rtol=1e-12)
    assert (found.images.sum(), found.correct.sum()) == (len(targets), right.sum())
    one_by_one = sum(
        abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
        for low in np.arange(bins) / bins
        if (inside := (confidence > low) & (confidence <= low + 1 / bins + 1e-15)).any()
    )
    assert found.error == pytest.approx(one_by_one, rel=1e-9)


def test_a_network_that_is_as_sure_as_right_has_no_calibration_error() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]] * 3)
    found = reliability(probabilities, np.array([0, 0, 0, 1, 1, 1, 1]))
    assert found.error == pytest.approx(0, abs=1e-15)
    assert found.images[-1] == 3  # of certainty the last bin
    assert np.isnan(found.accuracy[0])
