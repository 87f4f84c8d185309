from __future__ import annotations

import numpy as np

from stridenet.zoo.bitmaps import digits


def test_the_codes_are_ten_pictures_of_84_signs() -> None:
    codes = digits()
    assert codes.shape == (10, 12 * 7)
    assert codes.dtype == np.float32
    assert set(np.unique(codes)) == {-1.0, 1.0}


def test_no_two_digits_are_near() -> None:
    codes = digits()
    distances = (codes[:, None] != codes).sum(axis=2)  # marks
    assert distances[~np.eye(10, dtype=bool)].min() >= 8
    assert distances[0, 1] > distances[0, 6]  # what looks alike lies nearer


def test_the_pictures_look_like_their_digits() -> None:
    pictures = digits().reshape(10, 12, 7) > 0
    assert np.array_equal(pictures[0], pictures[0, :, ::-1])
    assert np.array_equal(pictures[8], pictures[8, :, ::-1])
    assert np.array_equal(pictures[0, :11], pictures[0, 10::-1])  # from above as from below
    assert pictures[1].any(axis=0)[1:6].all()
    assert pictures[7, 0].all()
    assert pictures[4, 6].all()
    assert not pictures[:, 11].any()  # room below
