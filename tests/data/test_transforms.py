"""Transforms and augmentations: values, shapes, memory, and the closed tables they are built from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stridenet import layout
from stridenet.data.dataset import Dataset
from stridenet.data.transforms import (
    Augmentations,
    Normalize,
    Pad,
    Pipeline,
    RandomShift,
    Resize,
    Transform,
    build_augmentations,
    fit_pipeline,
)
from stridenet.errors import ConfigError, DataError, ShapeError

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
        ([0.0, "x"], [1.0, 1.0], r"mean\[1\] to be a number"),
        ([0.0], [True], r"std\[0\] to be a number"),
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
            r"transform\[1\]\.name: expected one of normalize, pad, resize, got 'normalise'; did you mean 'normalize'",
        ),
        ({"name": "__class__"}, r"transform\[1\].*got '__class__'$"),
        ({"name": "random_shift", "pixels": 2}, r"transform\[1\]\.name: expected one of normalize"),
        ({"size": 4}, r"transform\[1\]: expected an entry with a name"),
        ({"name": 3}, r"transform\[1\]: expected an entry with a name"),
        ("pad", r"transform\[1\]: expected an entry with a name"),
        (
            {"name": "resize", "sise": 4},
            r"transform\[1\] resize: expected one of size, got 'sise'; did you mean 'size'\?",
        ),
        ({"name": "resize"}, r"transform\[1\] resize: expected the keys size as well"),
        ({"name": "resize", "size": "4"}, r"transform\[1\] resize: Resize: expected size to be an integer"),
        ({"name": "normalize", "mean": [0.0, 0.0]}, r"transform\[1\] normalize: expected the keys std as well"),
        ({"name": "pad", "padding": 1, "value": "x"}, r"transform\[1\] pad: Pad: expected value to be a number"),
    ],
)
def test_entries_that_are_refused(entry: Any, message: str) -> None:
    for build in (Pipeline.from_spec, lambda entries: fit_pipeline(entries, digits(4))):
        with pytest.raises(ConfigError, match=message) as caught:
            build([{"name": "pad", "padding": 1}, entry])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entries", [None, 5, "pad", {"name": "pad", "padding": 1}])
def test_entries_are_a_list(entries: Any) -> None:
    for build in (Pipeline.from_spec, build_augmentations, lambda entries: fit_pipeline(entries, digits(4))):
        with pytest.raises(ConfigError, match="expected a list of entries"):
            build(entries)


def test_a_stored_pipeline_is_complete() -> None:
    with pytest.raises(ConfigError, match="expected the keys mean, std as well"):
        Pipeline.from_spec([{"name": "normalize"}])


def shifted(image: Array, dy: int, dx: int, fill: float) -> Array:
    """The definition: pixel (i, j) moves to (i + dy, j + dx)."""
    H, W = image.shape[1:]
    result = np.full_like(image, fill)
    for i in range(H):
        for j in range(W):
            if 0 <= i + dy < H and 0 <= j + dx < W:
                result[:, i + dy, j + dx] = image[:, i, j]
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("pixels", "fill"), [(1, 0.0), (2, 0.25), (4, -1.0)])
def test_random_shift_moves_each_image_by_its_own_draw(pixels: int, fill: float, dtype: Any) -> None:
    x = photos((40, 2, 7, 5), dtype)
    x.flags.writeable = False
    y = RandomShift(pixels, fill)(x, np.random.default_rng(3))
    draws = np.random.default_rng(3).integers(-pixels, pixels, (2, 40), endpoint=True)
    for image, moved, dy, dx in zip(x, y, *draws.tolist(), strict=True):
        assert np.array_equal(shifted(image, dy, dx, fill), moved)
    assert y.dtype == dtype
    layout.inner(y)


def test_random_shift_is_uniform() -> None:
    x = np.zeros((9000, 1, 5, 5), np.float32)
    x[:, :, 2, 2] = 1
    counts = RandomShift(1)(x, np.random.default_rng(0))[:, 0, 1:4, 1:4].sum(axis=0)
    assert counts.sum() == 9000
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


def test_random_shift_draws_from_the_generator_alone() -> None:
    x = photos((20, 1, 8, 8))
    shift = RandomShift(2)
    one, same, other = (shift(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_random_shift_needs_room() -> None:
    with pytest.raises(ShapeError, match=r"RandomShift: expected images larger than 5 pixels.*got 7x5"):
        RandomShift(5)(photos(), np.random.default_rng(0))


def test_augmentations_are_applied_in_order_from_one_generator() -> None:
    x = photos((6, 1, 9, 9))
    steps = build_augmentations(
        [{"name": "random_shift", "pixels": 1}, {"name": "random_shift", "pixels": 3, "fill": 1.0}]
    )
    rng = np.random.default_rng(5)
    expected = RandomShift(3, 1.0)(RandomShift(1)(x, rng), rng)
    assert np.array_equal(steps(x, np.random.default_rng(5)), expected)
    assert build_augmentations(json.loads(json.dumps(steps.spec()))).spec() == steps.spec()
    assert Augmentations()(x, rng) is x


@pytest.mark.promise("L04")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "random_shfit", "pixels": 1}, r"augment\[0\].*did you mean 'random_shift'\?"),
        ({"name": "random_shift", "pixel": 1}, r"augment\[0\] random_shift: .*did you mean 'pixels'\?"),
        ({"name": "random_shift"}, "expected the keys pixels as well"),
        ({"name": "random_shift", "pixels": 0}, "expected pixels >= 1, got 0"),
        ({"name": "random_shift", "pixels": 1.5}, "expected pixels to be an integer"),
        ({"name": "random_shift", "pixels": 1, "fill": float("nan")}, "expected fill"),
        ({"name": "normalize"}, "augment\\[0\\]\\.name: expected one of random_shift"),
    ],
)
def test_augmentation_entries_that_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_augmentations([entry])
