"""Batch innermost in memory, whatever the shape says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS
from stridenet import layout
from stridenet.errors import LayoutError

SHAPES = [(4, 3, 5, 2), (1, 3, 5, 2), (4, 1, 1, 1), (0, 3, 5, 2), (7, 3), (1, 3), (0, 3), (5,)]


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_is_batch_innermost(shape: tuple[int, ...]) -> None:
    for dtype in np.float32, np.float64:
        x = layout.empty(shape, dtype)
        assert (x.shape, x.dtype) == (shape, dtype)
        assert layout.inner(x).flags.c_contiguous
        assert layout.inner(x).shape == (*shape[1:], shape[0])
    assert layout.empty(shape).dtype == np.float32


def test_inner_and_outer_are_views_and_inverse() -> None:
    x = layout.empty((4, 3, 5, 2))
    x[...] = np.arange(120).reshape(x.shape)
    assert np.shares_memory(layout.inner(x), x)
    assert np.shares_memory(layout.outer(layout.inner(x)), x)
    assert np.array_equal(layout.outer(layout.inner(x)), x)
    assert layout.inner(x)[2, 4, 1, 3] == x[3, 2, 4, 1]
    assert layout.inner(layout.to_batch_inner(np.arange(6).reshape(2, 3))).ravel().tolist() == [0, 3, 1, 4, 2, 5]


def test_inner_refuses_another_order() -> None:
    x = np.zeros((4, 3, 5, 2))
    with pytest.raises(LayoutError, match=r"^layout.inner: expected .* got shape \(4, 3, 5, 2\) with strides .*; use"):
        layout.inner(x)


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_to_batch_inner_keeps_the_values(order: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    x = LAYOUTS[order](values)
    moved = layout.to_batch_inner(x)
    assert np.array_equal(moved, values)
    assert layout.inner(moved).flags.c_contiguous


def test_to_batch_inner_copies_only_if_it_must() -> None:
    x = layout.empty((4, 3, 5, 2))
    assert layout.to_batch_inner(x) is x
    c_order = np.zeros((4, 3, 5, 2))
    assert not np.shares_memory(layout.to_batch_inner(c_order), c_order)


def test_what_the_module_says_keeps_the_order_and_loses_it() -> None:
    x = layout.empty((4, 3, 5, 2))
    x[...] = 1
    kept: list[Any] = [x + 1, np.maximum(x, 0), x.reshape(4, 30), x.astype(np.float64), np.copy(x)]
    for y in kept:
        assert layout.inner(y).flags.c_contiguous
    for y in x.copy(), np.pad(x, 1), np.ascontiguousarray(x), x[[0, 1]]:
        with pytest.raises(LayoutError):
            layout.inner(y)


def test_importing_it_keeps_no_memory() -> None:
    code = "import numpy, tracemalloc as t; t.start(); import stridenet.layout; print(t.get_traced_memory()[0])"
    held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(held) < 8 << 20
