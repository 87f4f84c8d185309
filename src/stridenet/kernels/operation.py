"""An operation of a program: a row of numbers that says what is done, and where in the memory.

Places are counted in elements. A frame is an image with a margin: each channel is `*_channel` elements after the one
before, each row `*_row`. `sources`, `targets`, `taps` and `weights` are where lists of places begin in the tables:
sources and targets say where windows begin and where their results go, taps how far each tap of a window is from its
beginning, and weights where its weight is. What else a field means, each operation says.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from stridenet.kernels import simd, twins
from stridenet.kernels.compiled import COMPILES
from stridenet.layout import Array

FIELDS = (
    *("code", "extras", "x", "y", "z", "w", "bias", "slot"),
    *("x_channel", "x_row", "y_channel", "y_row", "z_channel", "z_row", "w_step"),
    *("sources", "targets", "taps", "weights", "places", "count"),  # of sources and targets, of taps and weights
    *("channels", "rows", "columns"),
)
OP = np.dtype((np.record, [(name, np.int64) for name in FIELDS]))

RELU, POOL, ADD, KEEP, NO_CLASS_TOO = 1, 2, 4, 8, 16  # extras; an attribute `flags` of a record is NumPy's own

registers: Any = simd if COMPILES else twins
LANES = simd.LANES


class Code(IntEnum):
    """What an operation does. The numbers of a file stand together."""

    # of `program`: they need more than the memory
    LOAD = 0
    STORE = 1
    LOAD_GRADIENT = 2
    CROSS_ENTROPY = 3
    MOMENTS = 4
    GRADIENT_SUMS = 5

    # of `tiles`
    CORRELATE = 6
    CORRELATE_SIX = 7
    CORRELATE_FEW = 8
    COLUMN = 9
    COLUMN_SIX = 10
    COLUMN_FEW = 11
    OUTER = 12
    OUTER_SIX = 13
    OUTER_FEW = 14
    ROW_SUMS = 15
    TRANSPOSE = 16
    LINEAR_OUTER = 17
    LINEAR_FEW = 18
    LINEAR_BACK = 19

    # of `frames`
    RECTIFY = 20
    RECTIFY_BACK = 21
    ADD_FRAMES = 22
    COPY = 23
    MAX = 24
    MAX_BACK = 25
    MEAN = 26
    MEAN_BACK = 27
    NORMALIZE = 28
    NORMALIZE_BACK = 29
    SQUASH = 30
    SQUASH_BACK = 31

    # of `pixels`
    CLEAR = 32
    CLEAR_MARGINS = 33
    FLATTEN = 34
    UNFLATTEN = 35
    ADD_VECTOR = 36
    DOT = 37
    DOT_FEW = 38
    MAX_PIXELS = 39
    MAX_PIXELS_BACK = 40
    MAX_PAIRS = 41
    MAX_PAIRS_BACK = 42
    MEAN_PIXELS = 43
    MEAN_PIXELS_BACK = 44
    SUM_PAIRS = 45
    SUM_PAIRS_BACK = 46
    DISTANCES = 47
    DISTANCES_BACK = 48


class Operations:
    """Operations in the making, and the lists of places that they read."""

    def __init__(self) -> None:
        self._rows = list[tuple[int, ...]]()
        self._tables, self._seen = list[int](), dict[tuple[int, ...], int]()

    def table(self, numbers: Sequence[int]) -> int:
        """Where a list of places begins in the tables."""
        key = tuple(numbers)
        if key not in self._seen:
            self._seen[key] = len(self._tables)
            self._tables += key
        return self._seen[key]

    def tables(self) -> Array:
        """All lists of places."""
        return np.array(self._tables or [0], np.int64)

    def emit(self, code: Code, **fields: int) -> None:
        """The next operation."""
        self._rows.append(tuple({**dict.fromkeys(FIELDS, 0), "code": int(code), **fields}.values()))

    def take(self) -> Array:
        """The operations emitted since it was last called."""
        rows, self._rows = self._rows, []
        return np.array(rows, OP)
