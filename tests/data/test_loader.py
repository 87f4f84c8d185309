"""Loader: which images come, in which order, with which values, in which memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet import layout, seeding
from stridenet.data.augment import Augmentations, RandomFlip, RandomShift
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Batch, Loader, to_unit
from stridenet.errors import ConfigError, DataError, ShapeError

Array = np.ndarray[Any, Any]


def numbered(n: int, dtype: Any = np.float32, shape: tuple[int, int, int] = (1, 1, 1)) -> Dataset:
    """Image i holds i / n in every pixel; its target is i."""
    x = np.broadcast_to(np.arange(n).reshape(n, 1, 1, 1) / n, (n, *shape)).astype(dtype)
    return Dataset(x, np.arange(n), tuple(str(i) for i in range(n)))


def pictures(n: int = 50, dtype: Any = np.uint8) -> Dataset:
    rng = np.random.default_rng(1)
    x = (rng.integers(0, 256, (n, 3, 5, 4)) / (1 if dtype == np.uint8 else 255)).astype(dtype)
    return Dataset(x, rng.integers(0, 10, n), tuple("0123456789"))


def drawn(loader: Loader, e: int = 0, start: int = 0) -> list[int]:
    return [int(i) for _, y, _ in loader.epoch(e, start) for i in y]


def assert_equal_batches(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for (x1, y1, w1), (x2, y2, w2) in zip(one, other, strict=True):
        assert np.array_equal(x1, x2)
        assert np.array_equal(y1, y2)
        assert w1 is w2 is None


@pytest.mark.promise("B21", "B26")
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000])
def test_museum_b21_b26_each_index_exactly_once_every_epoch(n: int) -> None:
    """B21: slices instead of shuffling, index 0 never drawn. B26: batches drawn with replacement."""
    for seed in range(100 if n == 65 else 5):
        loader = Loader(numbered(n), 64, shuffle=True, seed=seed)
        for e in range(2):
            assert sorted(drawn(loader, e)) == list(range(n))


@pytest.mark.promise("B21")
def test_museum_b21_order_is_shuffled_and_other_in_every_epoch_and_seed() -> None:
    dataset = numbered(100)
    orders = {tuple(drawn(Loader(dataset, 10, shuffle=True, seed=seed), e)) for seed in range(5) for e in range(5)}
    assert len(orders) == 25
    assert tuple(range(100)) not in orders
    batches = [set(drawn(Loader(dataset, 10, shuffle=True), e)[:10]) for e in range(5)]
    assert not any(batch == set(range(min(batch), min(batch) + 10)) for batch in batches)


def test_order_is_the_permutation_of_the_stream() -> None:
    loader = Loader(numbered(30), 7, shuffle=True, seed=4)
    assert drawn(loader, e=9) == seeding.stream(4, "shuffle", 9).permutation(30).tolist()


@pytest.mark.parametrize("drop_last", [False, True])
def test_weights_come_with_their_images(drop_last: bool) -> None:
    plain = numbered(10)
    dataset = Dataset(plain.images, plain.targets, plain.classes, np.arange(10.0) + 0.5)
    loader = Loader(dataset, 4, shuffle=True, drop_last=drop_last, seed=3)
    for x, targets, weights in (*loader.epoch(0), *loader.epoch(1, 1)):
        assert weights is not None
        assert weights.dtype == np.float64
        assert np.array_equal(weights, targets + 0.5)
        assert np.array_equal(weights, np.rint(10 * x.ravel()) + 0.5)
        assert not np.shares_memory(weights, dataset.weights)
    assert drawn(loader) == drawn(Loader(plain, 4, shuffle=True, drop_last=drop_last, seed=3))


@pytest.mark.promise("K5")
def test_the_order_of_a_seed_never_changes() -> None:
    digest = hashlib.sha256()
    for seed in range(10):
        for e in (0, 3):
            digest.update(np.array(drawn(Loader(numbered(300), 64, shuffle=True, seed=seed), e), "<i8").tobytes())
    assert digest.hexdigest() == "e42f28b40e3853b7a75c63f7075f8a623c0ea8cfd1fa67c4d557ba1c7fa8d4f3"


def test_without_shuffle_images_come_in_order() -> None:
    assert drawn(Loader(numbered(10), 3), e=5) == list(range(10))


@pytest.mark.promise("B19")
@pytest.mark.parametrize(("n", "size", "sizes"), [(10, 3, [3, 3, 3, 1]), (9, 3, [3, 3, 3]), (2, 5, [2])])
def test_the_last_batch_is_smaller_or_left_out(n: int, size: int, sizes: list[int]) -> None:
    loader = Loader(numbered(n), size)
    assert [len(x) for x, _, _ in loader.epoch(0)] == sizes
    assert len(loader) == len(sizes)
    if n >= size:
        loader = Loader(numbered(n), size, drop_last=True)
        assert [len(x) for x, _, _ in loader.epoch(0)] == [s for s in sizes if s == size]
        assert len(loader) == n // size


def scale(x: Array) -> Array:
    return x * 2 + 1


def jitter(x: Array, rng: np.random.Generator) -> Array:
    return x + rng.random((len(x), 1, 1, 1)).astype(x.dtype)


@pytest.mark.promise("K2")
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_entered_at_any_batch_goes_on_with_the_same_bits(drop_last: bool) -> None:
    def loader() -> Loader:
        return Loader(pictures(), 8, transform=scale, augment=jitter, shuffle=True, drop_last=drop_last, seed=5)

    for e in (0, 3):
        whole = list(loader().epoch(e))
        for start in range(len(whole) + 1):
            assert_equal_batches(list(loader().epoch(e, start)), whole[start:])


def test_augmentation_of_a_batch_is_drawn_from_its_own_stream() -> None:
    seen: list[float] = []

    def draw(x: Array, rng: np.random.Generator) -> Array:
        seen.append(rng.random())
        return x

    loader = Loader(pictures(), 8, augment=draw, seed=6)
    list(loader.epoch(2, 3))
    assert seen == [seeding.stream(6, "augment", 2, b).random() for b in range(3, 7)]


def test_augmentation_sees_the_unit_image_and_the_transform_comes_after_it() -> None:
    calls: list[str] = []

    def augment(x: Array, rng: np.random.Generator) -> Array:
        calls.append("augment")
        assert 0.5 < x.max() <= 1
        return x + 10

    def transform(x: Array) -> Array:
        calls.append("transform")
        assert x.min() >= 10
        return x * 0

    x, _, _ = next(Loader(pictures(), 8, transform=transform, augment=augment).epoch(0))
    assert calls == ["augment", "transform"]
    assert not x.any()


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (3, 3, 5, 4), (64, 1, 28, 28), (5, 2, 1, 7)])
def test_bytes_become_exactly_their_255th(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    dataset = Dataset(images, np.zeros(len(images), int), ("a",))
    ((x, y, weights),) = Loader(dataset, 64).epoch(0)
    expected = images.astype(np.float32) / np.float32(255)
    for result in (x, to_unit(images)):
        assert result.dtype == np.float32
        assert np.array_equal(result, expected)
        layout.inner(result)  # raises if its memory is another
    assert y.dtype == np.int64
    assert weights is None


def test_every_byte_value_is_scaled_as_division_in_float32() -> None:
    x = to_unit(np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)).ravel()
    assert x.tolist() == [float(np.float32(v / 255)) for v in range(256)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_images_keep_their_values_in_float32(dtype: Any) -> None:
    dataset = pictures(dtype=dtype)
    batches = list(Loader(dataset, 8, shuffle=True).epoch(0))
    order = seeding.stream(0, "shuffle", 0).permutation(50)
    for b, (x, y, _) in enumerate(batches):
        rows = order[b * 8 : b * 8 + 8]
        assert x.dtype == np.float32
        assert np.array_equal(x, dataset.images[rows].astype(np.float32))
        assert np.array_equal(y, dataset.targets[rows])
        layout.inner(x)


@pytest.mark.parametrize(
    "arrange", [np.asfortranarray, lambda x: x[:, :, ::-1], lambda x: x.swapaxes(2, 3), layout.to_batch_inner]
)
def test_the_memory_order_of_the_data_set_does_not_matter(arrange: Callable[[Array], Array]) -> None:
    dataset = pictures()
    arranged = Dataset(arrange(dataset.images), dataset.targets, dataset.classes)
    plain = Dataset(np.ascontiguousarray(arranged.images), dataset.targets, dataset.classes)
    assert_equal_batches(list(Loader(arranged, 8).epoch(0)), list(Loader(plain, 8).epoch(0)))


@pytest.mark.promise("G6")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_data_set_is_not_changed_and_batches_do_not_alias_it(dtype: Any) -> None:
    dataset = pictures(dtype=dtype)
    dataset.images.flags.writeable = False
    before = dataset.fingerprint()
    for size in (1, 50):
        for x, y, _ in Loader(dataset, size).epoch(0):
            assert not np.shares_memory(x, dataset.images)
            assert not np.shares_memory(y, dataset.targets)
            x += 1
            y += 1
    assert dataset.fingerprint() == before


def test_two_epochs_can_run_at_once() -> None:
    loader = Loader(pictures(), 8, shuffle=True, augment=jitter)
    alone = [list(loader.epoch(e)) for e in (0, 1)]
    pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    assert_equal_batches([one for one, _ in pairs], alone[0])
    assert_equal_batches([other for _, other in pairs], alone[1])


@pytest.mark.promise("P02")
def test_a_data_set_without_images_is_refused() -> None:
    empty = Dataset(np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, int), ("a",))
    with pytest.raises(DataError, match="at least one image"):
        Loader(empty, 4)


@pytest.mark.promise("P06")
@pytest.mark.parametrize("size", [0, -1, 1.5, True, "4", None])
def test_batch_sizes_it_refuses(size: Any) -> None:
    with pytest.raises(ConfigError, match="Loader: expected batch_size"):
        Loader(numbered(5), size)


@pytest.mark.promise("P06")
def test_drop_last_must_leave_a_batch() -> None:
    with pytest.raises(ConfigError, match=r"expected batch_size <= 5.*got 6 with drop_last"):
        Loader(numbered(5), 6, drop_last=True)


@pytest.mark.parametrize(("e", "start"), [(-1, 0), (0, -1), (0, 3), (0.0, 0), (0, "1")])
def test_epochs_and_starts_it_refuses_before_the_first_batch(e: Any, start: Any) -> None:
    with pytest.raises(ConfigError, match=r"Loader\.epoch: expected"):
        Loader(numbered(4), 2).epoch(e, start)


def test_several_steps_are_taken_in_their_order() -> None:
    def double(x: Array) -> Array:
        return x * 2

    steps: list[Any] = [jitter, RandomShift(2), jitter]
    one = Loader(pictures(), 8, augment=Augmentations([RandomShift(2)]), transform=lambda x: scale(double(x)), seed=3)
    listed = Loader(pictures(), 8, augment=[RandomShift(2)], transform=(double, scale), seed=3)
    assert_equal_batches(list(listed.epoch(1)), list(one.epoch(1)))
    rng, x = seeding.stream(0, "augment", 0, 0), to_unit(pictures().images)
    for step in steps:
        x = step(x, rng)
    assert np.array_equal(next(Loader(pictures(), 50, augment=steps).epoch(0))[0], x)
    assert_equal_batches(
        list(Loader(pictures(), 8, augment=[], transform=[]).epoch(0)), list(Loader(pictures(), 8).epoch(0))
    )


@pytest.mark.parametrize("name", ["augment", "transform"])
@pytest.mark.parametrize("value", [3, [scale, 3], RandomFlip, [RandomFlip], "flip"])
def test_steps_that_cannot_be_called_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"Loader: expected {name} as a callable or a list of them, got "):
        Loader(pictures(), 8, **{name: value})


@pytest.mark.parametrize("augment", [RandomShift(4), [RandomFlip(), RandomShift(4)], Augmentations([RandomShift(4)])])
def test_images_too_small_for_an_augmentation_are_found_before_training(augment: Any) -> None:
    with pytest.raises(ShapeError, match=r"RandomShift: expected images larger than 4 pixels.*got 5x4"):
        Loader(pictures(), 8, augment=augment)
