"""The 1 797 handwritten digits of 8 x 8 pixels that scikit-learn ships: a data set that needs no network."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from stridenet.data.dataset import Dataset, Splits


def load(seed: int = 0) -> Splits:
    """The digits, split at random, stratified by class: four fifths to train on, one fifth to test on.

    Pixels are 0 to 16 in the source, 0 to 255 here (rounded).
    """
    from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]

    bunch = cast(Any, load_digits())
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    train, test = Dataset(images, bunch.target, tuple("0123456789")).split(0.2, seed=seed)
    return Splits(train, test, "digits", "scikit-learn's load_digits, after Alpaydin and Kaynak (UCI, 1998)")
