"""Augmentations: each image by its own draw, exact where nothing is to do, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS
from stridenet import layout
from stridenet.data.augment import (
    AUGMENTATIONS,
    Affine,
    Augmentation,
    Augmentations,
    Cutout,
    Elastic,
    RandomCrop,
    RandomFlip,
    RandomShift,
    build_augmentations,
)
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array

STEPS: list[Augmentation] = [
    RandomShift(2, 0.25),
    RandomCrop(2),
    RandomCrop(((0, 3), (1, 0)), -1.0),
    RandomFlip(),
    RandomFlip(vertical=True),
    Cutout(3),
    Cutout((2, 5), 0.5),
    Affine(rotation=20, translate=0.1, scale=(0.8, 1.2), squeeze=1.3, shear=15, fill=0.5),
    Elastic(8, 1.5),
    Elastic(34, 4, -1.0),
]
every_step = pytest.mark.parametrize("step", STEPS, ids=repr)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photos(shape: tuple[int, ...] = (12, 3, 7, 6), dtype: Any = np.float32, seed: int = 0) -> Array:
    return layout.to_batch_inner(rng(seed).random(shape).astype(dtype))


def numbered(n: int = 40, H: int = 9, W: int = 8) -> Array:
    """Images that are all alike and hold another whole number in each pixel, from 1 on."""
    return np.broadcast_to(np.arange(1.0, H * W + 1).reshape(1, 1, H, W), (n, 1, H, W))


def test_every_augmentation_is_tested_here() -> None:
    assert {type(step) for step in STEPS} == set(AUGMENTATIONS.values())
    assert all(name == kind.name for name, kind in AUGMENTATIONS.items())


@every_step
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(12, 3, 7, 6), (1, 1, 5, 9), (0, 2, 8, 8)])
def test_it_keeps_shape_and_type_and_gives_batch_inner_memory(
    step: Augmentation, shape: tuple[int, ...], dtype: Any
) -> None:
    y = step(photos(shape, dtype), rng())
    assert y.shape == shape
    assert y.dtype == dtype
    layout.inner(y)  # raises if its memory is another


@every_step
@pytest.mark.promise("G6")
def test_every_memory_order_gives_the_same_and_stays_as_it_is(step: Augmentation) -> None:
    x = photos()
    expected = step(x, rng())
    for arrange in LAYOUTS.values():
        given = arrange(x)
        given.flags.writeable = False
        y = step(given, rng())
        assert np.array_equal(y, expected)
        assert not np.shares_memory(y, given)
        layout.inner(y)
        assert np.array_equal(given, x)


@every_step
@pytest.mark.promise("K4")
def test_it_draws_from_the_generator_alone(step: Augmentation) -> None:
    x = photos((20, 1, 8, 8))
    one, same, other = (step(x, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@every_step
def test_every_image_has_its_own_draw_and_its_channels_share_it(step: Augmentation) -> None:
    one = photos((1, 1, 9, 9))
    y = step(np.repeat(np.repeat(one, 3, axis=1), 30, axis=0), rng())
    assert np.array_equal(y[:, 0], y[:, 1])
    assert np.array_equal(y[:, 0], y[:, 2])
    variants = len({image.tobytes() for image in y[:, 0]})
    assert variants == (2 if step.spec() == RandomFlip().spec() else 4) or variants > 5


@every_step
def test_an_image_does_not_see_the_others(step: Augmentation) -> None:
    x = photos()
    changed = x.copy()
    changed[5] = 0.75
    kept = np.arange(len(x)) != 5
    assert np.array_equal(step(x, rng())[kept], step(changed, rng())[kept])


@every_step
def test_it_is_built_back_from_its_spec(step: Augmentation) -> None:
    (back,) = build_augmentations(json.loads(json.dumps([step.spec()]))).augmentations
    assert type(back) is type(step)
    assert back.spec() == step.spec()
    assert np.array_equal(back(photos(), rng()), step(photos(), rng()))


@every_step
def test_what_lies_outside_is_fill(step: Augmentation) -> None:
    """An image of its fill stays one, whatever is done to it, to the last bit."""
    fill = step.spec().get("fill", 0.3)
    x = np.full((8, 2, 7, 6), fill, np.float32)
    assert np.array_equal(step(x, rng()), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3, 9, 7), (5, 1, 8, 8), (3, 2, 1, 4)])
@pytest.mark.parametrize(
    "step", [Affine(fill=0.7), Elastic(0.0, 4.0, 0.7), RandomFlip(p=0.0), RandomFlip(False, True, 0.0)], ids=repr
)
def test_identity_parameters_give_the_image_back_exactly(
    step: Augmentation, shape: tuple[int, ...], dtype: Any
) -> None:
    x = photos(shape, dtype)
    assert np.array_equal(step(x, rng()), x)


# random_shift and random_crop


def shifted(image: Array, dy: int, dx: int, fill: float) -> Array:
    """The definition: pixel (i, j) moves to (i + dy, j + dx)."""
    H, W = image.shape[1:]
    result = np.full_like(image, fill)
    for i in range(H):
        for j in range(W):
            if 0 <= i + dy < H and 0 <= j + dx < W:
                result[:, i + dy, j + dx] = image[:, i, j]
    return result


@pytest.mark.parametrize(("pixels", "fill"), [(1, 0.0), (2, 0.25), (4, -1.0)])
def test_random_shift_moves_each_image_by_its_own_draw(pixels: int, fill: float) -> None:
    x = photos((40, 2, 7, 5))
    y = RandomShift(pixels, fill)(x, rng(3))
    draws = rng(3).integers(-pixels, pixels, (2, 40), endpoint=True)
    for image, moved, dy, dx in zip(x, y, *draws.tolist(), strict=True):
        assert np.array_equal(shifted(image, dy, dx, fill), moved)


def test_random_shift_is_uniform() -> None:
    x = np.zeros((9000, 1, 5, 5), np.float32)
    x[:, :, 2, 2] = 1
    counts = RandomShift(1)(x, rng())[:, 0, 1:4, 1:4].sum(axis=0)
    assert counts.sum() == 9000
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


def test_random_crop_is_a_place_in_the_padded_image() -> None:
    x, fill, margins = photos((60, 2, 6, 5)), 0.5, ((2, 1), (0, 3))
    y = RandomCrop(margins, fill)(x, rng())
    padded = np.pad(x, ((0, 0), (0, 0), *margins), constant_values=fill)
    places: set[tuple[int, int]] = set()
    for whole, cut in zip(padded, y, strict=True):
        at = {(i, j) for i in range(4) for j in range(4) if np.array_equal(whole[:, i : i + 6, j : j + 5], cut)}
        assert len(at) == 1
        places |= at
    assert len(places) == 16  # every place is drawn


def test_random_crop_is_uniform() -> None:
    x = np.zeros((9000, 1, 5, 5), np.float32)
    x[:, :, 2, 2] = 1
    counts = RandomCrop(1)(x, rng())[:, 0, 1:4, 1:4].sum(axis=0)
    assert counts.sum() == 9000
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


# random_flip


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_random_flip_mirrors_each_image_with_probability_p(horizontal: bool, vertical: bool) -> None:
    x = photos((4000, 1, 3, 4))
    y = RandomFlip(horizontal, vertical, 0.3)(x, rng())
    images = [x, x[:, :, :, ::-1], x[:, :, ::-1], x[:, :, ::-1, ::-1]]
    found = [int((y == image).all(axis=(1, 2, 3)).sum()) for image in images]
    across, down = 0.3 * horizontal, 0.3 * vertical
    shares = [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down]
    assert sum(found) == 4000
    assert np.all(np.abs(np.array(found) - 4000 * np.array(shares)) <= 5 * np.sqrt(4000 * np.array(shares)))


def test_random_flip_with_p_1_mirrors_all() -> None:
    x = photos()
    assert np.array_equal(RandomFlip(p=1.0)(x, rng()), x[:, :, :, ::-1])
    assert np.array_equal(RandomFlip(False, True, p=1)(x, rng()), x[:, :, ::-1])


# cutout


@pytest.mark.parametrize("size", [1, 2, 3, (4, 1), (5, 7)])
def test_cutout_makes_one_hole_about_a_pixel_of_the_image(size: Any) -> None:
    x = photos((800, 2, 5, 7))
    y = Cutout(size, -3.0)(x, rng())
    R, S = (size, size) if isinstance(size, int) else size
    centres: set[tuple[int, int]] = set()
    for image, cut in zip(x, y, strict=True):
        hole = cut[0] == -3
        assert np.array_equal(cut, np.where(hole, np.float32(-3), image))
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        matching = {
            (i, j)
            for i in range(5)
            for j in range(7)
            if np.array_equal(rows, np.arange(max(i - R // 2, 0), min(i - R // 2 + R, 5)))
            and np.array_equal(columns, np.arange(max(j - S // 2, 0), min(j - S // 2 + S, 7)))
        }
        assert matching
        assert hole.sum() == len(rows) * len(columns)
        centres |= matching
    assert len(centres) == 35


# affine and elastic


def bilinear(image: Array, row: float, column: float, fill: float) -> float:
    """The definition: each of the four pixels around the point, weighted with how near it is; outside is fill."""
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
            pixel = float(image[i, j]) if inside else fill
            total += (1 - abs(row - i)) * (1 - abs(column - j)) * pixel
    return total


def affine_reference(image: Array, step: Affine, draws: list[float], size: float) -> Array:
    """R S D as a matrix, inverted by NumPy, and each pixel looked up by itself."""
    turn, lean, wide, down, right = draws
    H, W = image.shape
    angle, slope = math.radians(step.rotation * turn), math.tan(math.radians(step.shear * lean))
    ratio = step.squeeze ** (wide / 2)
    turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    sheared = np.array([[1, 0], [slope, 1]])
    inverse = np.linalg.inv(turned @ sheared @ np.diag([size * ratio, size / ratio]))
    moved = np.array([step.translate * H * down, step.translate * W * right])
    centre = np.array([(H - 1) / 2, (W - 1) / 2])
    points = {(i, j): inverse @ (np.array([i, j]) - centre - moved) + centre for i in range(H) for j in range(W)}
    return np.array([[bilinear(image, *points[i, j], step.fill) for j in range(W)] for i in range(H)])


@pytest.mark.parametrize(
    "step",
    [
        Affine(rotation=180),
        Affine(translate=0.9, fill=0.5),
        Affine(scale=(0.3, 3.0)),
        Affine(squeeze=2.5),
        Affine(shear=60, fill=-1.0),
        Affine(30, 0.2, (0.7, 1.4), 1.5, 25, 0.25),
    ],
    ids=repr,
)
def test_affine_is_its_definition(step: Affine) -> None:
    x = photos((8, 1, 6, 9), np.float64)
    y = step(x, rng(4))
    again = rng(4)
    draws = again.uniform(-1, 1, (5, 8))
    sizes = again.uniform(*step.scale, 8)
    for n in range(8):
        expected = affine_reference(x[n, 0], step, draws[:, n].tolist(), float(sizes[n]))
        np.testing.assert_allclose(y[n, 0], expected, atol=1e-11)


def test_elastic_is_its_definition() -> None:
    N, H, W, alpha, sigma, fill = 5, 7, 6, 9.0, 1.5, 0.5
    x = photos((N, 1, H, W), np.float64)
    y = Elastic(alpha, sigma, fill)(x, rng(4))
    noise = rng(4).uniform(-1, 1, (2, H, W, N))
    for n in range(N):
        for i in range(H):
            for j in range(W):
                near = np.exp(-((np.arange(H)[:, None] - i) ** 2 + (np.arange(W) - j) ** 2) / (2 * sigma**2))
                down, right = alpha * (noise[..., n] * near).sum(axis=(1, 2)) / (2 * np.pi * sigma**2)
                assert y[n, 0, i, j] == pytest.approx(bilinear(x[n, 0], i + down, j + right, fill), abs=1e-12)


def test_elastic_moves_as_far_as_its_docstring_says_and_smoothly() -> None:
    ramps = np.indices((28, 28)).astype(np.float64)[:, None]  # the row of each pixel, the column of each pixel
    x = np.repeat(ramps[1:], 1000, axis=0)
    moved = (Elastic(34, 4)(x, rng()) - x)[:, 0, 10:18, 10:18]
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(34 / (8 * np.sqrt(3 * np.pi)), rel=0.05)
    assert np.abs(np.diff(moved, axis=1)).mean() < 0.2 * np.abs(moved).mean()
    assert abs(moved.mean()) < 0.1


def test_a_turn_by_half_a_circle_and_a_whole_shift_are_exact() -> None:
    """Points that fall on pixels up to rounding: the sampler neither shifts nor blurs."""
    x = photos((1, 1, 5, 5), np.float64)

    class Fixed(np.random.Generator):
        def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
            return np.full(size, high)

    fixed = Fixed(np.random.PCG64(0))
    np.testing.assert_allclose(Affine(rotation=180)(x, fixed), x[:, :, ::-1, ::-1], atol=1e-14)
    quarter = Affine(rotation=90)(x, fixed)  # clockwise
    np.testing.assert_allclose(quarter[0, 0], np.rot90(x[0, 0], -1), atol=1e-14)
    moved = Affine(translate=0.4, fill=9.0)(x, fixed)  # by 2 of 5 pixels, down and right
    np.testing.assert_allclose(moved[0, 0], shifted(x[0], 2, 2, 9.0)[0], atol=1e-14)
    leaning = Affine(shear=45)(x, fixed)  # the row below the centre moves right by 1
    np.testing.assert_allclose(leaning[0, 0, 3, 1:], x[0, 0, 3, :4], atol=1e-14)
    taller = Affine(squeeze=4.0)(x, fixed)  # twice as high, half as wide
    np.testing.assert_allclose(taller[0, 0, 4, 2], x[0, 0, 3, 2], atol=1e-14)
    np.testing.assert_allclose(taller[0, 0, 2, 3], x[0, 0, 2, 4], atol=1e-14)


# streams, sizes and arguments


@pytest.mark.promise("K5")
@pytest.mark.parametrize(
    ("step", "digest"),
    [
        (RandomShift(3), "66fae84957201736"),
        (RandomCrop(((1, 3), (4, 2))), "b14ee381b5b3c885"),
        (RandomFlip(True, True), "2d1dfbe1ff29876e"),
        (Cutout((4, 3)), "2fb1f43fbe314bf6"),
    ],
    ids=repr,
)
def test_what_is_drawn_never_changes(step: Augmentation, digest: str) -> None:
    """Whole numbers go through, whole numbers come out: the same on every machine."""
    found = hashlib.sha256()
    dataset = Dataset(numbered().astype(np.uint8), np.arange(40) % 2, ("a", "b"))
    for seed in range(5):
        for x, y, _ in Loader(dataset, 16, shuffle=True, augment=step, seed=seed).epoch(seed):
            found.update(np.rint(255 * x).astype("<i8").tobytes() + y.astype("<i8").tobytes())
    assert found.hexdigest()[:16] == digest


@pytest.mark.promise("K5")
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Affine(20, 0.1, (0.8, 1.2), 1.3, 15), [43.083853742684376, 38.45518955831691, 40.892842162380944]),
        (Elastic(8, 1.5), [39.46922977367729, 38.34503946353403, 32.301875137253035]),
    ],
    ids=repr,
)
def test_distortions_of_a_seed_never_change(step: Augmentation, expected: list[float]) -> None:
    """Sines and matrix products may differ in the last digits from machine to machine."""
    x = numbered(3)
    found = [step(x, rng(seed))[2, 0, 4, 4] for seed in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


SMALL: list[tuple[Augmentation, tuple[int, ...], str]] = [
    (RandomShift(5), (3, 7, 5), "RandomShift: expected images larger than 5 pixels, the largest shift, got 7x5"),
    (RandomShift(5), (3, 5, 7), "RandomShift: expected images larger than 5 pixels, the largest shift, got 5x7"),
    (RandomCrop(4), (1, 9, 4), "RandomCrop: expected images larger than their padding ((4, 4), (4, 4)), got 9x4"),
    (RandomCrop((0, 3)), (1, 1, 3), "RandomCrop: expected images larger than their padding ((0, 0), (3, 3)), got 1x3"),
    (Cutout(6), (1, 5, 9), "Cutout: expected images of at least 6x6, the hole, got 5x9"),
    (Cutout((2, 6)), (1, 5, 5), "Cutout: expected images of at least 2x6, the hole, got 5x5"),
]


@pytest.mark.promise("P02")
@pytest.mark.parametrize(("step", "shape", "message"), SMALL)
def test_images_that_are_too_small_are_refused_before_the_first_batch(
    step: Augmentation, shape: tuple[int, ...], message: str
) -> None:
    larger = (shape[0], shape[1] + 5, shape[2] + 5)
    entries = [{"name": "random_flip"}, step.spec()]
    for refused in (lambda: step(photos((2, *shape)), rng()), lambda: step.check(shape)):
        with pytest.raises(ShapeError) as caught:
            refused()
        assert str(caught.value) == message
    with pytest.raises(ShapeError) as caught:
        build_augmentations(entries, shape)
    assert str(caught.value) == f"recipe.data.augment[1]: {message}"
    assert build_augmentations(entries, larger).augmentations[1].spec() == step.spec()
    step(photos((2, *larger)), rng())


def test_the_smallest_images_that_fit_are_taken() -> None:
    for step, shape in [(RandomShift(5), (1, 6, 6)), (RandomCrop((0, 3)), (1, 1, 4)), (Cutout((2, 6)), (1, 2, 6))]:
        step.check(shape)
        assert step(photos((2, *shape)), rng()).shape == (2, *shape)
    for step in (Affine(20, 0.5, (0.5, 2)), Elastic(34, 4), RandomFlip(vertical=True)):
        assert step(photos((2, 1, 1, 1)), rng()).shape == (2, 1, 1, 1)


def test_augmentations_are_applied_in_order_from_one_generator() -> None:
    x = photos((6, 1, 9, 9))
    steps = build_augmentations(
        [{"name": "random_shift", "pixels": 1}, {"name": "random_shift", "pixels": 3, "fill": 1.0}]
    )
    one = rng(5)
    expected = RandomShift(3, 1.0)(RandomShift(1)(x, one), one)
    assert np.array_equal(steps(x, rng(5)), expected)
    assert Augmentations()(x, one) is x


BAD_NUMBERS = [-1, float("nan"), float("inf"), 1e31, True, "1", None, [1]]
BAD_SIZES = [0, -1, 1.5, True, "3", None, (1, 2, 3), (1, 0), 2**53 + 1]
BAD: list[tuple[type[Augmentation], dict[str, Any], str, list[Any]]] = [
    (RandomShift, {}, "pixels", [0, -1, 1.5, True, "3", None, (1, 2), 2**53 + 1]),
    (
        RandomCrop,
        {},
        "padding",
        [0, (0, 0), ((0, 0), (0, 0)), -1, 1.5, True, "3", "same", None, ((1, 2), 3)],
    ),
    (RandomFlip, {}, "horizontal", [0, 1, "yes", None, False]),  # False leaves nothing to do
    (RandomFlip, {}, "vertical", [0, 1, "yes", None]),
    (RandomFlip, {}, "p", [*BAD_NUMBERS, 1.1]),
    (Cutout, {}, "size", BAD_SIZES),
    (Affine, {}, "rotation", [*BAD_NUMBERS, 181]),
    (Affine, {}, "translate", [*BAD_NUMBERS, 1.0]),
    (Affine, {}, "scale", [1.0, None, "ab", (1,), (1, 2, 3), (2, 1), (0, 1), (-1, 1), (1, 11), ("a", 1), (True, 1)]),
    (Affine, {}, "squeeze", [*BAD_NUMBERS, 0.5, 11]),
    (Affine, {}, "shear", [*BAD_NUMBERS, 81]),
    (Elastic, {"sigma": 4}, "alpha", BAD_NUMBERS),
    (Elastic, {"alpha": 34}, "sigma", [*BAD_NUMBERS, 0.4, 0]),
    *[(kind, {key: 4}, "fill", [-1e31, *BAD_NUMBERS[1:]]) for kind, key in [(RandomShift, "pixels"), (Cutout, "size")]],
    *[(kind, more, "fill", BAD_NUMBERS[1:]) for kind, more in [(Affine, {}), (Elastic, {"alpha": 1, "sigma": 1})]],
    (RandomCrop, {"padding": 4}, "fill", BAD_NUMBERS[1:]),
]


@pytest.mark.promise("P01")
@pytest.mark.parametrize(("kind", "others", "name", "values"), BAD)
def test_arguments_it_refuses(kind: type[Augmentation], others: dict[str, Any], name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{kind.__name__}: expected .*{name}") as caught:
            kind(**others, **{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.promise("L04")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "random_shfit", "pixels": 1}, r"^recipe\.data\.augment\[0\]\.name: .*did you mean 'random_shift'\?"),
        ({"name": "random_shift", "pixel": 1}, r"^recipe\.data\.augment\[0\] random_shift: .*did you mean 'pixels'\?"),
        ({"name": "random_shift"}, "expected the key pixels as well"),
        ({"name": "elastic", "alpha": 34}, "expected the key sigma as well"),
        (
            {"name": "random_shift", "pixels": 0},
            r"augment\[0\]: RandomShift: expected pixels >= 1, got 0",
        ),
        ({"name": "normalize"}, r"augment\[0\]\.name: expected one of affine, cutout"),
        ({"pixels": 1}, r"^recipe\.data\.augment\[0\]: expected an entry with a name"),
    ],
)
def test_entries_that_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_augmentations([entry])


@pytest.mark.parametrize("entries", [None, 5, "random_flip", {"name": "random_flip"}])
def test_entries_are_a_list(entries: Any) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.data\.augment: expected a list of entries"):
        build_augmentations(entries)


@pytest.mark.parametrize("value", [RandomFlip(), [RandomFlip], None])
def test_augmentations_are_made_from_a_list_of_augmentations(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Augmentations: expected a list of Augmentation objects, got "):
        Augmentations(value)
