"""Dataset: what it refuses, and the split, the subset and the fingerprint."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from stridenet.data.dataset import Dataset
from stridenet.errors import ConfigError, DataError, LabelError, StridenetError

AB = ("a", "b")


def images(n: int = 2, dtype: Any = np.uint8) -> Any:
    x = np.arange(n * 6).reshape(n, 1, 2, 3)
    return (x if np.dtype(dtype).kind == "u" else x / 64).astype(dtype)


def labelled(labels: list[int], k: int = 10) -> Dataset:
    return Dataset(images(len(labels)), np.array(labels), tuple(str(i) for i in range(k)))


def test_it_holds_what_it_was_given() -> None:
    x, y = images(), np.array([1, 0], np.uint8)
    dataset = Dataset(x, y, AB)
    assert len(dataset) == 2
    assert dataset.image_shape == (1, 2, 3)
    assert dataset.images is x
    assert dataset.targets.dtype == np.int64
    assert dataset.targets.tolist() == [1, 0]
    assert dataset.classes == AB


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_float_targets_need_no_classes(shape: tuple[int, ...]) -> None:
    dataset = Dataset(images(), np.ones(shape, np.float32))
    assert dataset.targets.dtype == np.float32
    assert dataset.targets.shape == shape


@pytest.mark.promise("P02")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2, 3), np.uint8), r"expected images of shape \(N, C, H, W\), got \(2, 2, 3\).*images\[:, None\]"),
        (np.zeros((2, 6), np.uint8), r"shape \(N, C, H, W\), got \(2, 6\)"),
        (np.zeros((2, 1, 0, 3), np.uint8), "at least one pixel"),
        (np.zeros((2, 1, 2, 3), object), "type uint8.*got object"),
        (np.zeros((2, 1, 2, 3), complex), "got complex128"),
        (np.zeros((2, 1, 2, 3), str), "got <U1"),
        (np.zeros((2, 1, 2, 3), np.int64), "got int64"),
        ([[[[1]]], [[[1, 2]]]], "entries of different shapes"),
    ],
)
def test_images_it_refuses(x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset(x, np.array([0, 1]), AB)


@pytest.mark.promise("P02")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [(0, 0, 0, 0), (1, 0, 1, 2), (0, 0, 1, 0)])
def test_non_finite_pixels_are_named(value: float, index: tuple[int, ...]) -> None:
    x = images(dtype=np.float32)
    x[index] = value
    x[1, 0, 1, 2] = value  # the first one is named
    with pytest.raises(DataError, match=rf"finite pixels, got {value} at index \({', '.join(map(str, index))}\)"):
        Dataset(x, np.array([0, 1]), AB)


@pytest.mark.promise("P02")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 16), (-1, 1), (0, 1.001), (0, 255)])
def test_float_images_outside_the_unit_range_are_refused(dtype: Any, low: float, high: float) -> None:
    x = np.linspace(low, high, 12, dtype=dtype).reshape(2, 1, 2, 3)
    message = f"float images in 0..1, got {low:g} to {high:g}; scale them, 0..255 by 1/255"
    with pytest.raises(DataError, match=re.escape(message)):
        Dataset(x, np.array([0, 1]), AB)
    Dataset((x - x.min()) / (x.max() - x.min()), np.array([0, 1]), AB)


@pytest.mark.promise("P02")
@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_big_endian_images_are_converted(dtype: str) -> None:
    dataset = Dataset(images(dtype=dtype), np.array([0, 1]), AB)
    assert dataset.images.dtype.isnative
    assert np.array_equal(64 * dataset.images, images())


@pytest.mark.promise("P02")
def test_read_only_and_reversed_images_are_taken() -> None:
    x = images(4)[::-1]
    x.flags.writeable = False
    assert np.array_equal(Dataset(x, np.array([0, 1, 0, 1]), AB).images, images(4)[::-1])


def test_no_image_is_a_data_set() -> None:
    assert len(Dataset(images(0), np.array([], np.int64), AB)) == 0
    assert len(Dataset(images(0, np.float32), np.array([]))) == 0


@pytest.mark.promise("P03", "I10")
@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        ([0, -1], AB, "labels in 0..1 for 2 classes, got -1 at index 1"),
        ([0, 2], AB, "got 2 at index 1"),
        (np.array([0, 255], np.uint8), AB, "got 255 at index 1"),
        (np.array([2**63, 0], np.uint64), AB, "got 9223372036854775808 at index 0"),
        ([1.5, 0], AB, r"integer labels in 0..1, got float64 \(labels\[0\] is 1.5\)"),
        ([np.nan, 0], AB, "got float64"),
        ([True, False], AB, r"got bool \(labels\[0\] is True\)"),
        (["a", "b"], AB, "got <U1"),
        ([[0], [1]], AB, r"labels of shape \(N,\), got \(2, 1\)"),
        ([[1, 0], [1, 1]], AB, "argmax"),
        ([0, 1, 0], AB, "got 2 images and 3 labels"),
        (1, AB, "got 2 images and no axis"),
        ([0, 1], (), "float targets without classes, got int64"),
        ([0.0, np.nan], (), r"finite targets, got nan at index \(1\)"),
    ],
)
def test_labels_it_refuses(y: Any, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        Dataset(images(), y, classes)


@pytest.mark.parametrize("classes", ["ab", None, 2, (0, 1), {"a", "b"}])
def test_classes_it_refuses(classes: Any) -> None:
    with pytest.raises(ConfigError, match="classes to be a tuple of names"):
        Dataset(images(), np.array([0, 1]), classes)


def test_subset_keeps_images_and_targets_together() -> None:
    dataset = labelled([3, 1, 4, 1, 5])
    part = dataset.subset([4, 0])
    assert part.targets.tolist() == [5, 3]
    assert np.array_equal(part.images, dataset.images[[4, 0]])
    assert len(dataset.subset([])) == 0


@pytest.mark.parametrize("indices", [[-1], [5], [0.0], [[0]], [True] * 5])
def test_indices_that_subset_refuses(indices: Any) -> None:
    with pytest.raises(ConfigError, match=r"Dataset\.subset: expected"):
        labelled([3, 1, 4, 1, 5]).subset(indices)


@pytest.mark.parametrize("part", [1, 7, 33, 0.1, 0.5, 0.99])
def test_split_puts_every_image_into_one_of_two(part: float) -> None:
    rng = np.random.default_rng(0)
    x = np.arange(100, dtype=np.float32).reshape(100, 1, 1, 1) / 128
    dataset = Dataset(x, rng.integers(0, 3, 100), tuple("abc"))
    for seed in range(5):
        rest, chosen = dataset.split(part, seed=seed)
        assert len(chosen) == (part if isinstance(part, int) else round(part * 100))
        for half in (rest, chosen):  # in their old order, each with its own label
            rows = (128 * half.images.ravel()).astype(int)
            assert np.array_equal(rows, np.sort(rows))
            assert np.array_equal(half.targets, dataset.targets[rows])
        assert sorted(128 * np.append(rest.images, chosen.images)) == list(range(100))


def test_split_is_stratified() -> None:
    sizes = [50, 30, 13, 7]
    dataset = labelled(np.repeat(np.arange(4), sizes).tolist(), k=5)  # class 4 has no image
    for count in (1, 10, 20, 37, 50, 99):
        taken = np.bincount(dataset.split(count, seed=3)[1].targets, minlength=4)
        assert taken.sum() == count
        assert np.all(np.abs(taken - np.array(sizes) * count / 100) < 1)


def test_split_depends_on_the_seed_alone() -> None:
    dataset = labelled([0, 1] * 50)
    fingerprints = [dataset.split(20, seed=seed)[1].fingerprint() for seed in (0, 0, 1, 2)]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


def test_split_draws_each_image_equally_often() -> None:
    x = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1) / 32
    dataset = Dataset(x, np.arange(20) % 2, AB)
    drawn = np.concatenate([dataset.split(5, seed=seed)[1].images.ravel() for seed in range(800)])
    counts = np.bincount((32 * drawn).astype(int), minlength=20)
    assert np.all(np.abs(counts - 200) < 5 * np.sqrt(200))


def test_split_without_classes_is_random() -> None:
    dataset = Dataset(images(10), np.arange(10.0))
    rest, part = dataset.split(0.3, seed=0)
    assert sorted([*rest.targets, *part.targets]) == list(range(10))
    assert len(part) == 3


@pytest.mark.promise("P06")
@pytest.mark.parametrize("part", [0, 0.0, 1.0, -1, -0.5, 10, 11, 1.5, 0.01, 0.99, float("nan"), True, "1", None])
def test_parts_that_split_refuses(part: Any) -> None:
    with pytest.raises(ConfigError, match=r"Dataset\.split: expected"):
        labelled([0] * 10).split(part, seed=0)


@pytest.mark.parametrize("part", [0.1, 0.9, 1])
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_to_split(part: float, count: int) -> None:
    with pytest.raises(ConfigError, match=rf"expected at least 2 images to split, got {count}; add images$"):
        labelled([0]).subset(range(count)).split(part, seed=0)


def weighted(weights: Any, labels: tuple[int, ...] = (0, 1, 1, 0)) -> Dataset:
    return Dataset(images(len(labels)), np.array(labels), AB, weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.int32, np.uint8])
def test_weights_are_kept_as_float64(dtype: Any) -> None:
    given = np.array([0, 1, 2, 3], dtype)
    dataset = weighted(given)
    assert dataset.weights is not None
    assert dataset.weights.dtype == np.float64
    assert dataset.weights.dtype.isnative
    assert dataset.weights.tolist() == [0, 1, 2, 3]
    assert not np.shares_memory(dataset.weights, given)
    assert weighted([0.5, 0, 1, 2]).weights is not None
    assert weighted(None).weights is None


@pytest.mark.promise("P06")
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0, 1.0], r"weights as 4 numbers, one an image, got float64 of shape \(3,\)"),
        ([1.0] * 5, r"got float64 of shape \(5,\)"),
        (1.0, r"got float64 of shape \(\)"),
        ([[1.0]] * 4, r"got float64 of shape \(4, 1\)"),
        (["1"] * 4, "got <U1"),
        ([True] * 4, "got bool"),
        ([None] * 4, "got object"),
        ([1j] * 4, "got complex128"),
        ([[1], [1, 2], [], []], "weights to be one array"),
        ([1.0, np.nan, 1.0, 1.0], r"finite weights, got nan at index \(1\)"),
        ([1.0, 1.0, np.inf, 1.0], r"finite weights, got inf at index \(2\)"),
        ([1.0, 1.0, 1.0, -1e-9], "weights >= 0 that are not all zero, got -1e-09 at index 3"),
        ([0.0] * 4, "weights >= 0 that are not all zero, got 0 at index 0"),
    ],
)
def test_weights_it_refuses(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        weighted(weights)
    assert "\n" not in str(caught.value)


def test_subset_and_split_keep_each_weight_with_its_image() -> None:
    x = np.arange(1, 41, dtype=np.float32).reshape(40, 1, 1, 1) / 64
    dataset = Dataset(x, np.arange(40) % 2, AB, np.arange(1.0, 41))
    for part in (dataset.subset([7, 3]), *dataset.split(10, seed=1), dataset.subset([])):
        assert part.weights is not None
        assert np.array_equal(part.weights, 64 * part.images.ravel())
    assert all(part.weights is None for part in labelled([0, 1] * 5).split(4, seed=1))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    utilities = pytest.importorskip("sklearn.utils.class_weight")
    for labels in ([0, 1, 1, 1, 2, 2], [5, 3, 3, 3], [2]):  # classes without an image do not count
        dataset = labelled(labels).weigh("balanced")
        assert dataset.weights is not None
        np.testing.assert_allclose(dataset.weights, utilities.compute_sample_weight("balanced", labels), rtol=1e-15)
        assert dataset.weights.mean() == pytest.approx(1)


def test_class_weights_multiply_the_weights_that_are_there() -> None:
    dataset = weighted([1.0, 2.0, 3.0, 4.0])
    for given in ([10, 0.5], (10.0, 0.5), np.array([10, 0.5]), np.array([10, 0.5], np.float32)):
        twice = dataset.weigh(given)  # pyright: ignore[reportArgumentType]
        assert twice.weights is not None
        assert twice.weights.tolist() == [10, 1, 1.5, 40]
        assert twice.images is dataset.images
    assert dataset.weights is not None
    assert dataset.weights.tolist() == [1, 2, 3, 4]
    one_class = weighted(None).weigh([0, 2.0])
    assert one_class.weights is not None
    assert one_class.weights.tolist() == [0, 2, 2, 0]


@pytest.mark.promise("P06")
@pytest.mark.parametrize(
    ("class_weights", "message"),
    [
        ([1.0], r'"balanced" or a list of 2 weights, one a class, got \[1.0\]'),
        ([1.0, 1.0, 1.0], "a list of 2 weights"),
        ([], "a list of 2 weights"),
        (None, "a list of 2 weights, one a class, got None"),
        ({"a": 1, "b": 2}, "a list of 2 weights"),
        (2.0, "a list of 2 weights"),
        ("balance", "expected one of balanced, got 'balance'; did you mean 'balanced'"),
        ([1.0, -1.0], r"weights\[1\] in \[0, 1e\+30\], got -1.0"),
        ([1.0, float("nan")], r"weights\[1\]"),
        ([float("inf"), 1.0], r"weights\[0\]"),
        ([True, 1.0], r"weights\[0\] to be a finite number"),
        (["1", 1.0], r"weights\[0\] to be a finite number"),
        (np.ones((2, 2)), r"weights\[0\] to be a finite number"),
    ],
)
def test_class_weights_it_refuses(class_weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^Dataset\.weigh: .*{message}"):
        weighted(None).weigh(class_weights)


@pytest.mark.promise("P06")
def test_class_weights_need_classes_and_leave_an_image() -> None:
    with pytest.raises(ConfigError, match="expected a data set with classes"):
        Dataset(images(), np.ones(2)).weigh("balanced")
    with pytest.raises(DataError, match="not all zero"):
        weighted(None).weigh([0, 0])
    empty = Dataset(images(0), np.array([], int), AB).weigh("balanced")
    assert empty.weights is not None
    assert empty.weights.shape == (0,)


def test_fingerprint_sees_every_bit() -> None:
    x, y = images(), np.array([0, 1])
    x2, y2 = x.copy(), y.copy()
    x2[1, 0, 1, 2] ^= 1
    y2[0] = 1
    variants = [
        Dataset(x, y, AB),
        Dataset(x2, y, AB),
        Dataset(x, y2, AB),
        Dataset(x.reshape(2, 1, 3, 2), y, AB),
        Dataset((x / 16).astype(np.float32), y, AB),
        Dataset(x / 16, y, AB),
        Dataset(x, y * 0, AB),
        Dataset(x, y * 0.0),
        Dataset(x, y, AB, np.array([1.0, 1.0])),
        Dataset(x, y, AB, np.array([1.0, np.nextafter(1.0, 2.0)])),
    ]
    assert len({dataset.fingerprint() for dataset in variants}) == len(variants)
    assert Dataset(np.asfortranarray(x), y, AB).fingerprint() == variants[0].fingerprint()
    assert len(Dataset(images(0), np.array([], int), AB).fingerprint()) == 64


@pytest.mark.promise("K5")
def test_the_fingerprint_of_a_data_set_never_changes() -> None:
    """Runs are continued and results compared by it."""
    expected = "ce72d4b17feef91df865841f0f6e381deaff04464b89f26f62763b009d394905"
    assert Dataset(images(), np.array([0, 1]), AB).fingerprint() == expected


def test_a_data_set_cannot_be_changed_after_its_check() -> None:
    dataset = labelled([0])
    with pytest.raises(AttributeError):
        dataset.targets = np.array([99])  # pyright: ignore[reportAttributeAccessIssue]


def test_errors_are_of_the_family_and_one_line() -> None:
    with pytest.raises(StridenetError) as caught:
        Dataset(images(), np.array([0, 7]), AB)
    assert "\n" not in str(caught.value)


def test_its_repr_is_one_short_line() -> None:
    images = np.zeros((1200, 1, 4, 5), np.uint8)
    assert repr(Dataset(images, np.zeros(1200, int), ("a", "b"))) == "Dataset(1 200 images 1x4x5 uint8, 2 classes)"
