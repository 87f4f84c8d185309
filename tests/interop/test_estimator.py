from __future__ import annotations

import json
import pickle
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import stridenet
from stridenet import cli
from stridenet.errors import ConfigError, DataError, LabelError, NumericsError, ShapeError, StridenetError
from stridenet.interop.estimator import ConvNetClassifier
from stridenet.layout import Array
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.sequential import Sequential
from stridenet.train.trainer import Trainer

pytestmark = pytest.mark.big
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "scikit-learn.md"
DIGITS: Any = load_digits()
IMAGES, LABELS = DIGITS.images, DIGITS.target


def quick(**parameters: Any) -> ConvNetClassifier:
    return ConvNetClassifier(**{"epochs": 2, "random_state": 0} | parameters)


def bits(classifier: ConvNetClassifier) -> bytes:
    return b"".join(value.tobytes() for value in classifier.model_.network.state_dict().values())


# scikit-learn's own checks


@pytest.mark.promise("A1")
@parametrize_with_checks([ConvNetClassifier()])
def test_scikit_learns_own_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.promise("A1")
def test_no_check_is_skipped_that_runs_for_the_classifier_of_scikit_learn() -> None:
    def skipped(estimator: Any) -> set[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = check_estimator(estimator, on_fail=None, on_skip=None)
        return {result["check_name"] for result in found if result["status"] == "skipped"}

    assert skipped(quick()) <= skipped(MLPClassifier(max_iter=2))


# The digits


def accuracy_of_folds(count: int) -> float:
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(IMAGES, LABELS))[:count]
    return float(np.mean(cross_val_score(ConvNetClassifier(random_state=0), IMAGES, LABELS, cv=folds)))


def test_a_fold_of_the_digits() -> None:
    assert accuracy_of_folds(1) >= 0.99


@pytest.mark.slow
def test_the_digits_as_well_as_a_support_vector_machine() -> None:
    assert accuracy_of_folds(5) >= stored()["classifiers"]["SVC(gamma=0.001)"]["mean_accuracy"]


def stored() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "results" / "estimators.json").read_text("utf-8"))


def test_the_stored_figures_are_those_of_the_page() -> None:
    found = stored()
    assert found["settings"]["folds"] == 5
    rows = re.findall(r"^\| `(.*)` \| (\S+) % \| (\S+) s \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    expected = [
        (name, f"{100 * one['mean_accuracy']:.2f}", f"{one['median_seconds']:.2f}")
        for name, one in found["classifiers"].items()
    ]
    assert rows == expected, "run python benchmarks/estimators.py and write its figures into the page"
    ours, svm, _ = found["classifiers"].values()
    assert ours["mean_accuracy"] >= svm["mean_accuracy"]
    assert len(ours["accuracy"]) == 5


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line]) <= 6
    names: dict[str, Any] = {}
    for code in blocks:
        exec(compile(code, PAGE.name, "exec"), names)
    score, best, accuracy = capsys.readouterr().out.splitlines()
    assert float(score) > 0.93
    assert "0.005" in best
    assert float(accuracy) > 0.8
    model = stridenet.load("digits.safetensors")
    assert (model.predict(IMAGES[:100] / 16) == LABELS[:100]).mean() > 0.99


# What X is


def as_classes_last(images: Array) -> Array:
    return np.moveaxis(images, 1, 3)


def test_images_are_told_by_their_shape_or_by_image_shape() -> None:
    rng = np.random.default_rng(0)
    images, y = rng.random((40, 3, 6, 5)), np.arange(40) % 2
    first = quick().fit(images, y)
    assert (first.image_shape_, first.n_features_in_) == ((3, 6, 5), 90)
    given = quick(image_shape=(3, 6, 5))
    expected = first.predict_proba(images)
    for X in (images, as_classes_last(images), images.reshape(40, -1), images.reshape(40, -1).tolist()):
        np.testing.assert_array_equal(given.fit(X, y).predict_proba(X), expected)
    np.testing.assert_array_equal(first.predict_proba(as_classes_last(images)), expected)  # it knows its images
    with pytest.raises(ShapeError, match=re.escape("if channels stand last, give image_shape=(3, 6, 5)")):
        quick().fit(as_classes_last(images), y)


def test_an_image_shape_with_the_channels_last_is_refused() -> None:
    X, y = np.random.default_rng(0).random((12, 9, 8, 3)), np.arange(12) % 2
    said = "image_shape is (C, H, W), got (9, 8, 3); for images with the channels last give image_shape=(3, 9, 8)"
    with pytest.raises(ShapeError, match=f"{re.escape(said)}$"):
        quick(image_shape=(9, 8, 3)).fit(X, y)
    assert quick(image_shape=(3, 9, 8)).fit(X, y).image_shape_ == (3, 9, 8)
    for shape in ((16, 4, 4), (9, 1, 1)):  # many channels of few pixels
        assert quick(image_shape=shape).fit(np.ones((12, *shape)) * y[:, None, None, None], y).image_shape_ == shape


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 6, 5)])
def test_one_image_is_no_list_of_images(shape: tuple[int, int, int]) -> None:
    images, y = np.random.default_rng(0).random((12, *shape)), np.arange(12) % 2
    classifier = quick().fit(images, y)
    one = images[0].squeeze()  # (6, 5) or (3, 6, 5)
    with pytest.raises(ShapeError, match=re.escape(f"got one image: {one.shape}; give X[None]")):
        classifier.predict(one)
    np.testing.assert_array_equal(classifier.predict(one[None]), classifier.predict(images[:1]))


def test_a_row_of_one_line_is_an_image() -> None:
    images, y = np.random.default_rng(0).random((12, 1, 5)), np.arange(12) % 2
    classifier = quick().fit(images, y)
    np.testing.assert_array_equal(classifier.predict(images[0]), classifier.predict(images[:1]))


def test_columns_are_features_unless_image_shape_says_otherwise() -> None:
    features = quick().fit(DIGITS.data[:200], LABELS[:200])
    assert features.image_shape_ == (64, 1, 1)
    assert {type(layer).__name__ for layer in features.model_.network.walk()} == {
        "Sequential",
        "Flatten",
        "Linear",
        "ReLU",
    }
    images = quick(image_shape=(1, 8, 8)).fit(DIGITS.data[:200], LABELS[:200])
    assert any(isinstance(layer, Conv2d) for layer in images.model_.network.walk())
    assert bits(images) == bits(quick().fit(IMAGES[:200], LABELS[:200]))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (13, 7), (40, 24)])
def test_images_of_any_size_have_a_network(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((12, *size)), np.arange(12) % 3
    assert quick(epochs=1).fit(X, y).predict_proba(X).shape == (12, 3)


def test_the_scale_of_images_does_not_matter() -> None:
    bytes_ = np.rint(IMAGES * 255 / 16).astype(np.uint8)[:300]
    expected = quick().fit(bytes_, LABELS[:300]).predict_proba(bytes_)
    for X in (bytes_ / 255, bytes_.astype(np.float32), 1e6 + 40.0 * bytes_, bytes_.astype(np.int64) - 1000):
        found = quick().fit(X, LABELS[:300]).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_later_images_have_the_scale_of_the_first() -> None:
    bytes_, y = np.rint(IMAGES * 255 / 16).astype(np.uint8)[:60], LABELS[:60]
    of_bytes, of_floats = (quick(warm_start=True).fit(X, y) for X in (bytes_, bytes_ / 255))
    for classifier, other, message in (
        (of_bytes, bytes_ / 255, "expected bytes 0..255 as in fit, got floats up to 1; multiply"),
        (of_floats, bytes_, "expected images in 0..1 as in fit, got bytes up to 255; divide by 255"),
    ):
        before = bits(classifier)
        for method, labels in (("predict", ()), ("partial_fit", (y,)), ("fit", (y,))):
            with pytest.raises(DataError, match=re.escape(message)):
                getattr(classifier, method)(other, *labels)
        assert bits(classifier) == before
        np.testing.assert_array_equal(classifier.predict(0 * other), classifier.predict(np.zeros_like(bytes_)))
    found = of_bytes.predict_proba(bytes_.astype(float))
    np.testing.assert_allclose(found, of_bytes.predict_proba(bytes_), atol=1e-5)


def test_a_feature_may_have_any_scale_or_none() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 4))
    y = (X[:, 0] > 0).astype(int)
    expected = ConvNetClassifier(random_state=0).fit(X, y)
    assert expected.score(X, y) > 0.95
    scaled = X * [1e-9, 1e3, 1e12, 1] + [0, 1e6, 0, 5]
    found = ConvNetClassifier(random_state=0).fit(scaled, y).predict_proba(scaled)
    np.testing.assert_allclose(found, expected.predict_proba(X), atol=1e-3)
    constant = np.column_stack([X, np.full(150, 7.0)])
    assert ConvNetClassifier(random_state=0).fit(constant, y).score(constant, y) > 0.95


# Parameters


def test_the_model_is_one_that_the_command_line_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = ConvNetClassifier(epochs=8, random_state=0).fit(IMAGES[:600], [f"digit {y}" for y in LABELS[:600]])
    classifier.model_.save(tmp_path / "digits.safetensors")
    model = stridenet.load(tmp_path / "digits.safetensors")
    named = np.array(model.classes)[model.predict(IMAGES[600:] / 16)]
    np.testing.assert_array_equal(named, classifier.predict(IMAGES[600:]))
    assert model.image_shape == (1, 8, 8)
    path = tmp_path / "seven.png"
    Image.fromarray(np.rint(IMAGES[7] * 255 / 16).astype(np.uint8)).resize((80, 80)).save(path)
    assert cli.run(["predict", str(tmp_path / "digits.safetensors"), str(path)]) == 0
    assert "digit 7" in capsys.readouterr().out
    np.testing.assert_allclose(
        model.predict_proba(IMAGES[600:700] / 16), classifier.predict_proba(IMAGES[600:700]), atol=1e-5
    )


def test_the_model_of_features_takes_them_in_0_to_1() -> None:
    X, y = DIGITS.data[:300, 2:6], LABELS[:300]
    classifier = quick(epochs=30).fit(X, y)
    low, high = X.min(axis=0), X.max(axis=0)
    unit = ((X - low) / (high - low)).reshape(300, 4, 1, 1)
    np.testing.assert_allclose(classifier.model_.predict_proba(unit), classifier.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("network", ["lenet5-digits", "layers", "sequential"])
def test_networks_of_ones_own(network: str) -> None:
    rng = np.random.default_rng(0)
    layers = [Conv2d(1, 8, 3, rng=rng), ReLU(), Flatten(), Linear(8 * 36, 10, rng=rng)]
    given = {"layers": layers, "sequential": Sequential(*layers)}.get(network, network)
    before = layers[0].weight.value.copy()
    classifier = quick(network=given, epochs=4).fit(IMAGES[:800], LABELS[:800])
    assert classifier.score(IMAGES[800:], LABELS[800:]) > 0.5
    np.testing.assert_array_equal(layers[0].weight.value, before)  # the caller's are not trained
    assert layers[0].weight.vector is None
    resized = [type(step).__name__ for step in classifier.model_.transform.transforms]
    assert resized == (["Resize", "Normalize"] if network == "lenet5-digits" else ["Normalize"])


def test_layers_for_features_need_no_flatten() -> None:
    layers = [Linear(64, 16, rng=np.random.default_rng(0)), ReLU(), Linear(16, 10, rng=np.random.default_rng(1))]
    assert quick(network=layers, epochs=20).fit(DIGITS.data, LABELS).score(DIGITS.data, LABELS) > 0.8


def test_a_name_of_the_zoo() -> None:
    images = np.repeat(np.repeat(IMAGES[:100], 2, axis=1), 2, axis=2)  # 16 x 16
    classifier = quick(network="lenet5", epochs=1).fit(images, LABELS[:100])
    assert classifier.model_.network.input_shape == (1, 16, 16)


def test_one_seed_is_one_classifier() -> None:
    def trained(seed: Any) -> bytes:
        return bits(quick(random_state=seed).fit(IMAGES[:100], LABELS[:100]))

    assert trained(0) == trained(0) == trained(np.int64(0))
    assert trained(0) != trained(1)
    assert trained(np.random.RandomState(3)) == trained(np.random.RandomState(3))
    assert bits(quick(threads=2).fit(IMAGES[:100], LABELS[:100])) == trained(0)


def test_early_stopping_keeps_the_best_weights() -> None:
    classifier = quick(early_stopping=True, epochs=60, n_iter_no_change=2, learning_rate=0.02)
    classifier.fit(IMAGES[:400], LABELS[:400])
    accuracies = [row["validation_accuracy"] for row in classifier.history_]
    assert 3 <= len(accuracies) < 60
    assert {row["validation_n"] for row in classifier.history_} == {40}
    assert {row["lr"] for row in classifier.history_} == {0.02}
    data = stridenet.Dataset(IMAGES[:400, None] / 16, LABELS[:400], tuple("0123456789"))
    _, held_out = data.split(0.1, seed=classifier._seed)
    kept = (classifier.predict(16 * held_out.images) == held_out.targets).mean()
    assert kept == pytest.approx(max(accuracies))


def test_warm_start_goes_on() -> None:
    classifier = quick(warm_start=True).fit(IMAGES[:200], LABELS[:200])
    scale, first = classifier._range, classifier.history_
    classifier.fit(3 * IMAGES[:200], LABELS[:200])
    assert classifier._range is scale  # that of the first fit
    assert [row["epoch"] for row in classifier.history_] == [0, 1, 2, 3]
    assert classifier.history_[:2] == first
    assert classifier.set_params(warm_start=False).fit(IMAGES[:200], LABELS[:200])
    assert [row["epoch"] for row in classifier.history_] == [0, 1]
    with pytest.raises(LabelError, match="expected the classes of before"):
        classifier.set_params(warm_start=True).fit(IMAGES[:20], np.arange(20) % 2)


def test_partial_fit_learns_from_parts() -> None:
    classifier = quick(learning_rate=0.003)
    for _ in range(4):
        for i in range(0, 1500, 300):
            classifier.partial_fit(IMAGES[i : i + 300], LABELS[i : i + 300], classes=np.arange(10))
    assert len(classifier.history_) == 20
    assert {row["lr"] for row in classifier.history_} == {0.003}
    assert [row["step"] for row in classifier.history_[:3]] == [10, 20, 30]  # one optimizer for all of them
    assert classifier.score(IMAGES[1500:], LABELS[1500:]) > 0.9


def test_another_optimizer_begins_afresh() -> None:
    classifier = quick()
    for parameters in ({"optimizer": "adam"}, {"optimizer": "adamw"}, {"optimizer": "sgd"}, {"momentum": 0.0}, {}):
        classifier.set_params(**parameters).partial_fit(IMAGES[:64], LABELS[:64], classes=np.arange(10))
    assert [row["step"] for row in classifier.history_] == [2, 2, 2, 2, 4]


def test_it_says_how_many_epochs_it_did_and_of_how_many_images() -> None:
    classifier = quick().fit(IMAGES[:50], LABELS[:50])
    assert (classifier.n_iter_, classifier.model_.provenance["images"]) == (2, 50)
    classifier.partial_fit(IMAGES[:20], LABELS[:20])
    assert classifier.n_iter_ == 3
    assert "images" not in classifier.model_.provenance  # nobody counted all of them


def test_parts_may_leave_the_range_of_the_first() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2))
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    classifier = ConvNetClassifier(random_state=0)
    for i in [*range(0, 400, 20)] * 3:
        classifier.partial_fit(X[i : i + 20], y[i : i + 20], classes=["no", "yes"])
    assert classifier.score(X, y) > 0.95


def test_the_framing_is_that_of_the_first_part() -> None:
    classifier = quick().partial_fit(IMAGES[:300], LABELS[:300], classes=np.arange(10))
    framing = classifier.model_.framing
    assert framing is not None
    classifier.partial_fit(IMAGES[300:301], LABELS[300:301])
    assert classifier.model_.framing == framing


def test_weights_of_classes_and_of_samples() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 2)), np.where(np.arange(200) < 180, "many", "few")

    def few(**parameters: Any) -> float:
        return float((ConvNetClassifier(random_state=0, epochs=20, **parameters).fit(X, y).predict(X) == "few").mean())

    assert few() < 0.2
    assert 0.3 < few(class_weight="balanced") < 0.8
    assert few(class_weight={"many": 1e-3, "few": 1.0}) > 0.9
    balanced = ConvNetClassifier(random_state=0, epochs=20, class_weight="balanced").fit(X, y)
    by_hand = ConvNetClassifier(random_state=0, epochs=20, class_weight={"many": 200 / 360, "few": 5.0}).fit(X, y)
    more = ConvNetClassifier(random_state=0, epochs=20, class_weight={"many": 200 / 360, "few": 5.0, "none": -1.0})
    assert bits(more.fit(X, y)) == bits(by_hand)
    by_sample = ConvNetClassifier(random_state=0, epochs=20).fit(X, y, np.where(y == "many", 200 / 360, 5.0))
    np.testing.assert_allclose(by_hand.predict_proba(X), balanced.predict_proba(X))
    assert np.abs(by_sample.predict_proba(X) - balanced.predict_proba(X)).max() < 0.05  # its scaling is weighted too


def test_augmentation_is_for_training_alone() -> None:
    plain, shifted = quick(), quick(augment=stridenet.RandomShift(1))
    plain.fit(IMAGES[:100], LABELS[:100])
    shifted.fit(IMAGES[:100], LABELS[:100])
    assert bits(plain) != bits(shifted)
    np.testing.assert_array_equal(shifted.predict_proba(IMAGES[:9]), shifted.predict_proba(IMAGES[:9]))


def test_verbose_prints_a_line_for_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    quick().fit(IMAGES[:50], LABELS[:50])
    assert capsys.readouterr().out == ""
    for yes in (True, 1, 10):
        quick(verbose=yes).fit(IMAGES[:50], LABELS[:50])
        assert [line[:9] for line in capsys.readouterr().out.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    quick(verbose=0).fit(IMAGES[:50], LABELS[:50])
    assert capsys.readouterr().out == ""


def test_epochs_follow_the_number_of_steps() -> None:
    found = [ConvNetClassifier()._epochs(steps) for steps in (1, 45, 10_000)]
    assert found == [100, 33, 10]


# Copies, pickles, pages and processes


@pytest.mark.promise("P07")
def test_copies_are_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = Sequential(Flatten(), Linear(64, 10, rng=rng))
    classifier = quick(network=network).fit(IMAGES[:100], LABELS[:100])
    expected = classifier.predict_proba(IMAGES[:300])
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    for copy in (pickle.loads(pickle.dumps(classifier)), joblib.load(tmp_path / "classifier.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(IMAGES[:300]), expected)
        copy.partial_fit(IMAGES[:100], LABELS[:100])
        same = pickle.loads(pickle.dumps(classifier)).partial_fit(IMAGES[:100], LABELS[:100])
        assert bits(copy) == bits(same)
    np.testing.assert_array_equal(classifier.predict_proba(IMAGES[:300]), expected)  # the original stays
    fresh = clone(classifier)
    assert not hasattr(fresh, "classes_")
    assert fresh.network is not network
    np.testing.assert_array_equal(fresh.fit(IMAGES[:100], LABELS[:100]).predict_proba(IMAGES[:300]), expected)


def test_it_shows_itself() -> None:
    classifier = quick(network=Sequential(Flatten(), Linear(64, 10, rng=np.random.default_rng(0))))
    assert repr(quick()) == "ConvNetClassifier(epochs=2, random_state=0)"
    assert "Linear(64, 10)" in repr(classifier)
    assert "ConvNetClassifier" in classifier._repr_html_()
    assert "ConvNetClassifier" in classifier.fit(IMAGES[:50], LABELS[:50])._repr_html_()


def test_a_search_in_a_pipeline_by_two_processes() -> None:
    pipeline = make_pipeline(StandardScaler(), ConvNetClassifier(epochs=20, random_state=0))
    grid = {"convnetclassifier__learning_rate": [1e-7, 0.01]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(DIGITS.data[:300], LABELS[:300])
    assert search.best_params_ == {"convnetclassifier__learning_rate": 0.01}
    assert search.score(DIGITS.data[300:], LABELS[300:]) > 0.7


# Bad input


X, Y = IMAGES[:20], LABELS[:20] % 2


@pytest.mark.promise("P02")
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(5), ShapeError, "Reshape your data"),
        (np.zeros((2, 1, 2, 2, 2)), ShapeError, "expected X of shape"),
        ([[1, 2], [3]], DataError, "inhomogeneous"),
        (np.full((20, 3), np.nan), DataError, "NaN"),
        (np.full((20, 3), np.inf), DataError, "infinity"),
        (np.full((20, 3), 1j), DataError, "Complex data not supported"),
        (np.full((20, 3), "one"), DataError, "could not convert string to float"),
        (np.zeros((0, 3)), DataError, "0 sample"),
        (np.zeros((0, 8, 8)), DataError, "0 sample"),
        (np.zeros((20, 0)), DataError, "0 feature"),
        (np.array([[-1e308], [1e308]] * 10), DataError, "scale it"),
        (np.array([-1e308, 1e308] * 10).reshape(20, 1, 1), DataError, "scale it"),
    ],
)
def test_an_x_that_is_refused(X: Any, error: type[StridenetError], message: str) -> None:
    classifier = quick()
    with pytest.raises(error, match=message) as caught:
        classifier.fit(X, Y)
    assert "\n" not in str(caught.value)
    assert vars(classifier) == vars(quick())


@pytest.mark.promise("P02")
def test_an_x_that_is_converted() -> None:
    expected = quick().fit(X, Y).predict_proba(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    for same in (read_only, X.astype(">f8"), X[:, ::-1][:, ::-1], np.asfortranarray(X), X.astype(object), X.tolist()):
        np.testing.assert_array_equal(quick().fit(same, Y).predict_proba(same), expected)


@pytest.mark.promise("P02")
def test_no_sample_has_no_prediction() -> None:
    for X in (IMAGES[:20], DIGITS.data[:20]):
        classifier = quick().fit(X, Y)
        assert classifier.predict_proba(X[:0]).shape == (0, 2)
        assert classifier.predict(X[:0]).shape == (0,)
    with pytest.raises(ShapeError, match=r"expected images 1x8x8, \(C, H, W\), got \(9, 8\)"):
        quick().fit(IMAGES[:20], Y).predict(np.zeros((2, 9, 8)))


@pytest.mark.promise("P03")
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(20) + 0.5, "Unknown label type: continuous"),
        (np.full(20, np.nan), "NaN"),
        (np.eye(2)[Y], "1d array"),
        (Y[:-1], "inconsistent numbers of samples"),
        (np.zeros(20, int), "got 1 class"),
        (None, "1d array"),
    ],
)
def test_labels_that_are_refused(y: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        quick().fit(X, y)
    assert "\n" not in str(caught.value)


@pytest.mark.promise("P03")
def test_labels_of_any_kind() -> None:
    for names in (np.array([-1, 7]), np.array([False, True]), np.array(["b", "a"]), np.array(["b", "a"], object)):
        classifier = quick(epochs=30).fit(X, names[Y])
        assert classifier.classes_.dtype == names.dtype
        assert classifier.score(X, names[Y]) == 1
    with pytest.warns(DataConversionWarning):
        assert quick(epochs=30).fit(X, Y[:, None]).score(X, Y) == 1
    with pytest.raises(
        LabelError, match=r"expected labels among \[0, 1\], got 5 at index 1|got np.int64\(5\) at index 1"
    ):
        quick().partial_fit(X[:2], [0, 5], classes=[0, 1])


BAD_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size >= 1, got 0"),
    ({"epochs": 0}, "epochs >= 1, got 0"),
    ({"epochs": 1.5}, "epochs to be an integer"),
    ({"learning_rate": 0}, "learning_rate > 0"),
    ({"learning_rate": np.nan}, "finite number > 0, got nan"),
    ({"learning_rate": np.inf}, "finite number > 0, got inf"),
    ({"weight_decay": -1}, "weight_decay >= 0"),
    ({"momentum": 1}, "momentum in"),
    ({"optimizer": "adma"}, "did you mean 'adam'"),
    ({"optimizer": "sdlm"}, "expected one of"),
    ({"early_stopping": True, "validation_fraction": 0.0}, "validation_fraction in"),
    ({"early_stopping": True, "validation_fraction": 1}, "validation_fraction in"),
    ({"early_stopping": True, "n_iter_no_change": 0}, "n_iter_no_change >= 1, got 0"),
    ({"early_stopping": "yes"}, "early_stopping to be True or False"),
    ({"warm_start": 1}, "warm_start to be True or False"),
    ({"verbose": -1}, "verbose >= 0, got -1"),
    ({"verbose": "yes"}, "verbose to be an integer"),
    ({"threads": 0}, "threads >= 1"),
    ({"class_weight": {0: 1.0}}, "got none for 1"),
    ({"class_weight": {0: 1.0, 1: -1.0}}, r"weights\[1\]"),
    ({"class_weight": "balance"}, "class_weight as None"),
    ({"image_shape": (8, 8)}, r"image_shape as \(channels, rows, columns\)"),
    ({"image_shape": (1, 8, 0)}, "image_shape >= 1"),
    ({"network": "lenet"}, "expected one of"),
    ({"network": 3}, "expected network as None"),
    ({"network": [3]}, r"Sequential\[0\]: expected a layer"),
]


@pytest.mark.promise("P06")
@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS, ids=[str(entry[0]) for entry in BAD_PARAMETERS])
def test_parameters_that_are_refused(parameters: dict[str, Any], message: str) -> None:
    classifier = quick(**parameters)  # the constructor only stores
    before = dict(vars(classifier))
    with pytest.raises(ConfigError, match=message) as caught:
        classifier.fit(X, Y)
    assert "\n" not in str(caught.value)
    assert vars(classifier) == before


@pytest.mark.promise("P06")
def test_a_batch_may_be_larger_than_the_data() -> None:
    assert quick(batch_size=10_000).fit(X, Y).history_[-1]["step"] == 2


@pytest.mark.promise("P06")
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(20), "not all zero"),
        (np.arange(20) - 1, "got -1 at index 0"),
        (np.ones(19), r"shape \(20,\), got \(19,\)"),
        (np.ones((20, 1)), r"shape \(20,\), got \(20, 1\)"),
        (2.0, r"shape \(20,\), got \(1,\)"),
        (np.full(20, np.nan), "NaN"),
    ],
)
def test_weights_that_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quick().fit(X, Y, sample_weight=weights)


@pytest.mark.parametrize(
    ("network", "message"),
    [("lenet5", r"give image_shape=\(C, H, W\)"), ([Linear(64, 3, rng=np.random.default_rng(0))], "each of the 2")],
)
def test_networks_that_do_not_fit(network: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        quick(network=network).fit(DIGITS.data[:20], Y)
    with pytest.raises(ShapeError, match="expected 48 columns for images 3x4x4, got 64"):
        quick(image_shape=(3, 4, 4)).fit(DIGITS.data[:20], Y)


@pytest.mark.promise("P07")
def test_before_and_after_a_fit() -> None:
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(ConvNetClassifier(), method)(X)
    with pytest.raises(ConfigError, match="expected classes in the first call"):
        ConvNetClassifier().partial_fit(X, Y)
    with pytest.raises(ConfigError, match="class_weight as None or a dict"):
        ConvNetClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1])
    classifier = quick().fit(X, Y)
    with pytest.raises(LabelError, match="expected the classes of before"):
        classifier.partial_fit(X, Y, classes=[0, 1, 2])
    fit_again = bits(classifier.fit(DIGITS.data[:30], LABELS[:30]))  # other features, other classes
    assert fit_again == bits(quick().fit(DIGITS.data[:30], LABELS[:30]))


# Interrupts and failures


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = iter(range(step + 1)), Trainer.step

    def stopped(*arguments: Any) -> float:
        if next(calls) == step:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(Trainer, "step", stopped)


@pytest.mark.promise("P08")
def test_an_interrupt_leaves_what_was_there_or_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    for fitted in (False, True):
        for step in range(6):  # two in an epoch
            classifier = quick(epochs=3).fit(DIGITS.data[:20], Y) if fitted else quick(epochs=3)
            before = dict(vars(classifier))
            with monkeypatch.context() as patch:
                interrupt_at(step, patch)
                with pytest.raises(KeyboardInterrupt):
                    classifier.fit(IMAGES[:64], LABELS[:64])
            if step < 2:
                assert vars(classifier) == before
            else:
                assert len(classifier.history_) == step // 2
                assert classifier.predict(IMAGES).shape == (1797,)
                assert pickle.loads(pickle.dumps(classifier)).partial_fit(IMAGES[:64], LABELS[:64])


@pytest.mark.promise("P08")
def test_an_interrupted_partial_fit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = quick().fit(X, Y)
    before, state = bits(classifier), dict(vars(classifier))
    interrupt_at(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        classifier.partial_fit(X, Y)
    assert bits(classifier) == before
    assert vars(classifier) == state


def test_what_diverges_says_so_and_changes_nothing() -> None:
    classifier = quick().fit(X, Y)
    before = bits(classifier)
    with pytest.raises(NumericsError):
        classifier.set_params(learning_rate=1e30, optimizer="sgd", warm_start=True, epochs=20).fit(X, Y)
    assert bits(classifier) == before


def test_several_threads_may_predict() -> None:
    classifier = quick().fit(IMAGES[:100], LABELS[:100])
    expected, found = classifier.predict_proba(IMAGES), []
    threads = [threading.Thread(target=lambda: found.append(classifier.predict_proba(IMAGES))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, expected)
