"""Transforms: values, shapes, memory, and the closed table they are built from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stridenet import layout
from stridenet.data.dataset import Dataset
from stridenet.data.transforms import (
    MEAN_IMAGE,
    Normalize,
    Pad,
    Pipeline,
    Resize,
    SubtractMean,
    Transform,
    fit_pipeline,
)
from stridenet.errors import ConfigError, DataError, ShapeError
from stridenet.strictjson import to_json
from stridenet.tensors import MAX_METADATA

Array = np.ndarray[Any, Any]


def photos(shape: tuple[int, ...] = (4, 3, 7, 5), dtype: Any = np.float32, seed: int = 0) -> Array:
    return layout.to_batch_inner(np.random.default_rng(seed).random(shape).astype(dtype))


def digits(n: int = 300, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    x = (rng.random((n, 2, 6, 5)) ** 2 * 255).astype(np.uint8)
    return Dataset(x, rng.integers(0, 10, n), tuple("0123456789"))


TRANSFORMS = [
    Normalize([0.1, 0.2, 0.3], [1.0, 2.0, 0.5]),
    Pad(2),
    Pad(((0, 1), (2, 3)), -1.0),
    Resize(9),
    Resize((3, 4)),
    Resize((7, 5)),
    SubtractMean(np.random.default_rng(9).random((3, 7, 5))),
]
every_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)


@every_transform
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 16])
def test_a_transform_keeps_type_and_memory_and_tells_its_shape(transform: Transform, dtype: Any, n: int) -> None:
    x = photos((n, 3, 7, 5), dtype)
    x.flags.writeable = False
    y = transform(x)
    assert y.shape == (n, *transform.output_shape((3, 7, 5)))
    assert y.dtype == dtype
    layout.inner(y)  # raises if its memory is another
    spread = transform(np.ascontiguousarray(x))
    assert np.array_equal(y, spread)


@every_transform
@pytest.mark.promise("G9")
def test_a_transform_is_built_back_from_its_spec(transform: Transform) -> None:
    (entry,) = Pipeline([transform]).spec()
    (back,) = Pipeline.from_spec(json.loads(json.dumps([entry]))).transforms
    assert type(back) is type(transform)
    assert back.spec() == entry
    assert np.array_equal(back(photos()), transform(photos()))


def test_normalize_by_hand() -> None:
    x = np.array([0.0, 1.0, 0.5, 3.0], np.float32).reshape(1, 2, 1, 2)
    y = Normalize([0.5, 1.0], [0.25, 2.0])(x)
    assert y.ravel().tolist() == [-2.0, 2.0, -0.25, 1.0]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_fit_gives_mean_and_deviation_of_all_pixels(offset: float) -> None:
    x = photos((50, 3, 6, 6), np.float64) + offset
    fitted = Normalize.fit(x[i : i + 8] for i in range(0, 50, 8))
    np.testing.assert_allclose(fitted.mean, x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, x.std(axis=(0, 2, 3)), rtol=1e-9)
    y = fitted(x)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-7)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-7)


def test_fit_of_float32_sums_in_float64() -> None:
    x = np.full((4, 1, 64, 64), 0.1, np.float32)
    x[0, 0, 0, 0] = 0.9
    fitted = Normalize.fit([x] * 20)
    assert fitted.mean[0] == pytest.approx(x.astype(np.float64).mean(), rel=1e-13)
    assert fitted.std[0] == pytest.approx(x.astype(np.float64).std(), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1e5])
def test_a_constant_channel_cannot_be_normalised(value: float) -> None:
    x = photos()
    x[:, 1] = value
    with pytest.raises(DataError, match="in every pixel of channel 1; leave that channel out"):
        Normalize.fit([x, x[:1]])


def test_nothing_cannot_be_fitted() -> None:
    with pytest.raises(DataError, match="at least one batch"):
        Normalize.fit([])


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0], [0.0], r"expected std\[0\]"),
        ([0.0], [-1.0], r"expected std\[0\]"),
        ([0.0], [float("nan")], r"expected std\[0\]"),
        ([float("inf")], [1.0], r"expected mean\[0\]"),
        ([0.0, "x"], [1.0, 1.0], r"mean\[1\] to be a finite number"),
        ([0.0], [True], r"std\[0\] to be a finite number"),
        ([0.0], [1.0, 1.0], "1 means, 2 stds"),
        (0.5, [1.0], "mean to be a list"),
        ("0", [1.0], "mean to be a list"),
    ],
)
def test_statistics_it_refuses(mean: Any, std: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Normalize(mean, std)


def test_normalize_refuses_other_channels() -> None:
    for shape in [(1, 7, 5), (4, 7, 5)]:
        with pytest.raises(ShapeError, match="Normalize: expected images of 3 channels"):
            TRANSFORMS[0](photos((2, *shape)))


def test_pad_by_hand() -> None:
    x = np.array([[1.0, 2.0]], np.float32)[None, None]
    assert Pad(((1, 0), (0, 2)), 9.0)(x)[0, 0].tolist() == [[9, 9, 9, 9], [1, 2, 9, 9]]
    assert Pad((1, 0))(x)[0, 0].tolist() == [[0, 0], [1, 2], [0, 0]]
    assert Pad(1)(x).shape == (1, 1, 3, 4)


@pytest.mark.parametrize("padding", ["same", -1, 1.5, (1, 2, 3), "2", None])
def test_paddings_it_refuses(padding: Any) -> None:
    with pytest.raises(ConfigError, match="Pad: expected padding"):
        Pad(padding)


SIZES = [
    ((7, 5), (9, 16)),
    ((7, 5), (3, 2)),
    ((28, 28), (32, 32)),
    ((100, 37), (28, 28)),
    ((5, 9), (9, 5)),
    ((1, 1), (3, 2)),
]


@pytest.mark.parametrize(("size", "target"), [*SIZES, ((300, 400), (28, 28)), ((6, 6), (1, 1))])
def test_resize_is_the_bilinear_of_pillow(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image")
    x = photos((2, 2, *size))
    y = Resize(target)(x)
    for n in range(2):
        for c in range(2):
            picture = image.fromarray(np.ascontiguousarray(x[n, c]))
            expected = np.asarray(picture.resize(target[::-1], image.Resampling.BILINEAR))
            np.testing.assert_allclose(y[n, c], expected, atol=2e-6)


@pytest.mark.peer
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_resize_is_the_antialiased_bilinear_of_pytorch(size: tuple[int, int], target: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = photos((2, 3, *size), np.float64)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(x)), target, mode="bilinear", align_corners=False, antialias=True
    )
    np.testing.assert_allclose(Resize(target)(x), expected.numpy(), atol=1e-12)


def test_resize_by_hand() -> None:
    x = np.array([[0.0, 4.0]], np.float64)[None, None]
    assert Resize((1, 4))(x)[0, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]]
    assert Resize((2, 2))(x)[0, 0].tolist() == [[0.0, 4.0], [0.0, 4.0]]
    assert Resize((1, 1))(x)[0, 0].tolist() == [[2.0]]


def test_resize_skips_no_pixel_and_keeps_a_constant() -> None:
    x = np.zeros((1, 1, 97, 97))
    x[0, 0] = 0.7
    np.testing.assert_allclose(Resize(9)(x), 0.7, rtol=1e-14)
    for row in range(97):  # a line one pixel high is seen wherever it lies
        line = np.zeros((1, 1, 97, 4))
        line[:, :, row] = 1
        assert Resize((9, 4))(line).max() > 0.02


def test_images_of_the_right_size_are_returned_as_they_are() -> None:
    x = photos()
    assert Resize((7, 5))(x) is x
    assert Pipeline()(x) is x


@pytest.mark.parametrize("size", [0, -3, 2.0, "28", (28, 28, 1), None, True])
def test_sizes_it_refuses(size: Any) -> None:
    with pytest.raises(ConfigError, match="Resize: expected size"):
        Resize(size)


def test_a_pipeline_applies_its_transforms_in_order() -> None:
    x = photos()
    one, other = Pipeline([Pad(1), Resize(6)]), Pipeline([Resize(6), Pad(1)])
    assert np.array_equal(one(x), Resize(6)(Pad(1)(x)))
    assert one.output_shape((3, 7, 5)) == (3, 6, 6)
    assert other.output_shape((3, 7, 5)) == (3, 8, 8)
    assert one.spec() == [
        {"name": "pad", "padding": [[1, 1], [1, 1]], "value": 0.0},
        {"name": "resize", "size": [6, 6]},
    ]
    assert repr(one) == "Pipeline([Pad(padding=[[1, 1], [1, 1]], value=0.0), Resize(size=[6, 6])])"


@pytest.mark.promise("P02")
def test_a_pipeline_refuses_what_is_no_batch() -> None:
    with pytest.raises(ShapeError, match=r"shape \(N, C, H, W\), got \(28, 28\)"):
        Pipeline()(np.zeros((28, 28), np.float32))


def test_normalize_is_fitted_after_the_transforms_before_it() -> None:
    dataset = digits()
    pipeline = fit_pipeline(
        [{"name": "pad", "padding": 3, "value": 1}, {"name": "normalize"}, {"name": "resize", "size": 4}], dataset
    )
    padded = Pad(3, 1.0)(dataset.images / 255)
    fitted = pipeline.transforms[1]
    assert isinstance(fitted, Normalize)
    np.testing.assert_allclose(fitted.mean, padded.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(fitted.std, padded.std(axis=(0, 2, 3)), rtol=1e-6)
    assert [type(t) for t in pipeline.transforms] == [Pad, Normalize, Resize]


def test_given_statistics_are_not_fitted() -> None:
    pipeline = fit_pipeline([{"name": "normalize", "mean": [0.5, 0.25], "std": [1.0, 2.0]}], digits())
    assert pipeline.spec() == [{"name": "normalize", "mean": [0.5, 0.25], "std": [1.0, 2.0]}]


def test_fitting_in_several_batches_gives_the_statistics_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_pipeline([{"name": "normalize"}], digits()).transforms[0]
    monkeypatch.setattr("stridenet.data.transforms._FIT_ELEMENTS", 500)  # 8 images a batch
    parts = fit_pipeline([{"name": "normalize"}], digits()).transforms[0]
    assert isinstance(whole, Normalize)
    assert isinstance(parts, Normalize)
    np.testing.assert_allclose(parts.mean + parts.std, whole.mean + whole.std, rtol=1e-12)
    x = digits().images / np.float32(255)
    np.testing.assert_allclose(parts.std, x.astype(np.float64).std(axis=(0, 2, 3)), rtol=1e-12)


@pytest.mark.promise("G9", "B20")
def test_museum_b20_statistics_do_not_see_the_test_images() -> None:
    """B20: the test set centred by its own mean."""
    both = digits(400)
    train, test = both.subset(range(300)), both.subset(range(300, 400))
    entries = [{"name": "normalize"}]
    pipeline = fit_pipeline(entries, train)
    changed = both.images.copy()
    changed[300:] = 255 - changed[300:]
    again = fit_pipeline(entries, Dataset(changed, both.targets, both.classes).subset(range(300)))
    assert again.spec() == pipeline.spec()  # bit by bit: floats are compared with ==
    dark = test.images // 4
    moved = pipeline((dark / 255).astype(np.float32))
    assert abs(float(moved.mean())) > 0.3  # its own mean would make it zero
    assert pipeline.spec() == again.spec()  # a call fits nothing


@pytest.mark.promise("L04")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"name": "normalise"},
            r"transform\[1\]\.name: expected one of mean_image, normalize, pad, resize, .*; did you mean 'normalize'",
        ),
        ({"name": "__class__"}, r"transform\[1\].*got '__class__'$"),
        ({"name": "random_shift", "pixels": 2}, r"transform\[1\]\.name: expected one of mean_image, normalize"),
        ({"size": 4}, r"transform\[1\]: expected an entry with a name"),
        ({"name": 3}, r"transform\[1\]: expected an entry with a name"),
        ("pad", r"transform\[1\]: expected an entry with a name"),
        (
            {"name": "resize", "sise": 4},
            r"transform\[1\] resize: expected one of size, got 'sise'; did you mean 'size'\?",
        ),
        ({"name": "resize"}, r"transform\[1\] resize: expected the key size as well"),
        ({"name": "resize", "size": "4"}, r"transform\[1\]: Resize: expected size to be an integer"),
        ({"name": "normalize", "mean": [0.0, 0.0]}, r"transform\[1\] normalize: expected the key std as well"),
        ({"name": "pad", "padding": 1, "value": "x"}, r"transform\[1\]: Pad: expected value to be a finite number"),
    ],
)
def test_entries_that_are_refused(entry: Any, message: str) -> None:
    for build in (Pipeline.from_spec, lambda entries: fit_pipeline(entries, digits(4))):
        with pytest.raises(ConfigError, match=message) as caught:
            build([{"name": "pad", "padding": 1}, entry])
        assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("recipe.data.transform[1]")  # a model file's begins with transform[1]


@pytest.mark.parametrize("entries", [None, 5, "pad", {"name": "pad", "padding": 1}])
def test_entries_are_a_list(entries: Any) -> None:
    for build in (Pipeline.from_spec, lambda entries: fit_pipeline(entries, digits(4))):
        with pytest.raises(ConfigError, match="expected a list of entries"):
            build(entries)


def test_a_stored_pipeline_is_complete() -> None:
    with pytest.raises(ConfigError, match="expected the keys mean, std as well"):
        Pipeline.from_spec([{"name": "normalize"}])
    with pytest.raises(ConfigError, match="expected the key mean as well"):
        Pipeline.from_spec([{"name": "mean_image"}])


def test_three_channels_are_normalised_each_by_its_own() -> None:
    x = photos((90, 3, 6, 5)) * np.float32([[[1.0]], [[0.25]], [[0.5]]]) + np.float32([[[0.0]], [[0.5]], [[0.25]]])
    dataset = Dataset(x, np.arange(90) % 2, ("a", "b"))
    pipeline = fit_pipeline([{"name": "normalize"}], dataset)
    y = pipeline(x)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-6)
    (entry,) = pipeline.spec()
    np.testing.assert_allclose(entry["mean"], [0.5, 0.625, 0.5], atol=0.02)
    assert entry["std"][0] > 1.9 * entry["std"][2] > 3.6 * entry["std"][1]


def test_the_mean_image_is_the_mean_of_each_pixel() -> None:
    dataset = digits()
    (step,) = fit_pipeline([{"name": "mean_image"}], dataset).transforms
    assert isinstance(step, SubtractMean)
    x = (dataset.images / 255).astype(np.float32)
    np.testing.assert_allclose(step.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(step(x).mean(axis=0), 0, atol=1e-6)
    assert repr(step) == "SubtractMean(mean of 2x6x5)"


def test_subtract_mean_by_hand() -> None:
    x = np.array([[[1.0, 2.0]], [[5.0, 0.5]]], np.float32)[None]  # (1, 2, 1, 2)
    assert SubtractMean([[[0.5, 1]], [[2, 3]]])(x).ravel().tolist() == [0.5, 1.0, 3.0, -2.5]


def test_the_mean_image_is_fitted_in_parts_and_after_the_transforms_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridenet.data.transforms._FIT_ELEMENTS", 500)  # 8 images a batch
    dataset = digits()
    step = fit_pipeline([{"name": "pad", "padding": 1, "value": 2.0}, {"name": "mean_image"}], dataset).transforms[1]
    assert isinstance(step, SubtractMean)
    padded = Pad(1, 2.0)((dataset.images / 255).astype(np.float32))
    np.testing.assert_allclose(step.mean, padded.mean(axis=0, dtype=np.float64), rtol=1e-12)


@pytest.mark.promise("G9", "B20")
def test_the_mean_image_does_not_see_the_test_images() -> None:
    both = digits(60)
    changed = both.images.copy()
    changed[40:] = 255 - changed[40:]
    other = Dataset(changed, both.targets, both.classes)
    one, same = (fit_pipeline([{"name": "mean_image"}], data.subset(range(40))).spec() for data in (both, other))
    assert one == same  # bit by bit: floats are compared with ==
    assert one != fit_pipeline([{"name": "mean_image"}], other).spec()


def test_a_model_file_can_hold_the_largest_mean_image() -> None:
    largest = np.full((2, 128, 128), -1.2345678901234567e-100)  # as many characters as a number can have
    assert largest.size == MEAN_IMAGE
    assert len(to_json(Pipeline([SubtractMean(largest)]).spec())) < MAX_METADATA - 2**16
    with pytest.raises(ConfigError, match=r"at most 32768 numbers.*got 3x105x105; put resize before"):
        SubtractMean(np.zeros((3, 105, 105)))


def test_nothing_has_no_mean_image() -> None:
    with pytest.raises(DataError, match="at least one batch"):
        SubtractMean.fit([])


@pytest.mark.promise("P01")
@pytest.mark.parametrize(
    "mean",
    [
        None,
        0.5,
        [],
        [[]],
        [[[]]],
        [[0.5]],
        [[[[0.5]]]],
        [[[0.5], [0.5, 1.0]]],
        [[["x"]]],
        [[[None]]],
        [[[True]]],
        [[[10**400]]],
        [[[10**400, 0.5]]],
        [[[float("nan"), 0.0]]],
        [[[float("-inf")]]],
        [[[1e31]]],
        {"a": 1},
        np.zeros((1, 1, 1), complex),
    ],
)
def test_means_it_refuses(mean: Any) -> None:
    with pytest.raises(ConfigError, match="SubtractMean: expected") as caught:
        SubtractMean(mean)
    assert len(str(caught.value)) < 200


def test_a_mean_image_refuses_other_shapes() -> None:
    step = SubtractMean(np.zeros((3, 7, 5)))
    for shape in [(3, 5, 7), (1, 7, 5), (3, 7, 6)]:
        with pytest.raises(ShapeError, match="SubtractMean: expected images of 3x7x5, got"):
            step(photos((2, *shape)))


@pytest.mark.parametrize("value", [Resize(4), [Resize], [Pipeline([Resize(4)])], [np.negative], None, "resize"])
def test_a_pipeline_is_made_from_a_list_of_transforms(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Pipeline: expected a list of Transform objects, got "):
        Pipeline(value)
