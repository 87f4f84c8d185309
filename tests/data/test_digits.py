"""The embedded digits: all of them, in two parts, as they are in the source."""

from __future__ import annotations

import numpy as np

from stridenet.data import digits


def test_the_digits_are_split_in_two() -> None:
    train, test, name, _ = digits.load()
    assert (len(train), len(test), name) == (1438, 359, "digits")
    assert train.image_shape == test.image_shape == (1, 8, 8)
    assert train.images.dtype == np.uint8
    assert train.classes == test.classes == tuple("0123456789")


def test_pixels_are_those_of_the_source_in_255ths() -> None:
    from sklearn.datasets import load_digits

    source, labels = load_digits(return_X_y=True)
    train, test, _, _ = digits.load(seed=2)
    images = np.concatenate([train.images, test.images]).reshape(1797, 64)
    assert set(np.unique(images)) == {round(v * 255 / 16) for v in range(17)}
    back = [tuple(row) for row in np.rint(images * (16 / 255)).astype(int)]
    targets = np.concatenate([train.targets, test.targets])
    expected = sorted(zip(map(tuple, source.astype(int)), labels.tolist(), strict=True))
    assert sorted(zip(back, targets.tolist(), strict=True)) == expected  # each image once, with its label


def test_the_split_is_stratified_and_depends_on_the_seed() -> None:
    prints = [digits.load(seed).test.fingerprint() for seed in (0, 0, 1, 2, 3, 4)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5
    train, test, _, _ = digits.load(3)
    shares = np.bincount(test.targets) / (np.bincount(test.targets) + np.bincount(train.targets))
    assert np.all(np.abs(shares - 0.2) < 0.006)
