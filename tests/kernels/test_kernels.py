"""Every backend equals `loops`, the definition; and `loops` equals what was worked out by hand."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet import kernels, layout
from stridenet.errors import ConfigError
from stridenet.kernels import loops
from stridenet.layout import Array
from stridenet.shapes import Window, padding_margins, taps_of, window

FAST = [name for name in kernels.NAMES if name not in ("auto", "loops")]
FUNCTIONS = [name for name, _ in inspect.getmembers(kernels.Backend, inspect.isfunction) if not name.startswith("_")]
BOUND = {"float32": 1e-5, "float64": 1e-13}
POOLS = 48  # windows of each kind of pool

every_backend = pytest.mark.parametrize("name", FAST)
every_order = pytest.mark.parametrize("order", LAYOUTS)
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw_window(rng: np.random.Generator, seed: int, *, pool: bool = False) -> tuple[Window, tuple[int, int]]:
    """A window that fits, and its image's size; each of the four forms of padding comes every fourth time.

    Those of a pool round their number up half of the time, and then may hang over the edge.
    """
    while True:
        size: Any = tuple(rng.integers(1, 8, 2).tolist())
        kernel: Any = tuple(rng.integers(1, 4, 2).tolist())
        stride: Any = tuple(rng.integers(1, 5, 2).tolist())
        dilation: Any = (1, 1) if pool else tuple(rng.integers(1, 4, 2).tolist())
        top, bottom, left, right = rng.integers(0, 3, 4).tolist()
        padding = padding_margins("draw", [top, (top, left), ((top, bottom), (left, right)), "same"][seed % 4])
        reach = zip(kernel, () if padding == "same" else padding, strict=False)
        if pool and any(max(margin) >= length for length, margin in reach):
            continue
        try:
            return window("draw", size, kernel, stride, padding, dilation, ceil_mode=pool and seed % 8 < 4), size
        except ConfigError:
            continue


def values(rng: np.random.Generator, order: str, dtype: str, *shape: int) -> Array:
    return LAYOUTS[order](rng.standard_normal(shape).astype(dtype))


def draw_conv(seed: int, order: str, dtype: str) -> tuple[Array, Array, Array | None, Array, Window, int]:
    """x, weight, bias, dy, window and groups; N is 1, 3 and 16 in turn."""
    rng = np.random.default_rng(seed)
    geometry, size = draw_window(rng, seed)
    groups, depth, per_group = rng.integers(1, 4), rng.integers(1, 3), rng.integers(1, 3)
    N, C, K = (1, 3, 16)[seed % 3], int(groups * depth), int(groups * per_group)
    x = values(rng, order, dtype, N, C, *size)
    weight = values(rng, order, dtype, K, int(depth), *geometry.kernel)
    bias = values(rng, order, dtype, K) if rng.random() < 0.7 else None
    return x, weight, bias, values(rng, order, dtype, N, K, *geometry.output), geometry, int(groups)


def assert_same(found: Array, wanted: Array, what: Any) -> None:
    """Equal to rounding, of the same type, and batch innermost."""
    assert found.dtype == wanted.dtype, what
    assert normwise(found, wanted) <= BOUND[found.dtype.name], what


def assert_activation(found: Array | None, wanted: Array | None, what: Any) -> None:
    assert found is not None, what
    assert wanted is not None, what
    assert_same(found, wanted, what)
    assert layout.inner(found).flags.c_contiguous, what
    assert layout.inner(wanted).flags.c_contiguous, what


@every_backend
@every_order
@both_types
def test_conv2d_equals_loops(name: str, order: str, dtype: str) -> None:
    backend = kernels.get(name)
    for seed in range(24):
        x, weight, bias, dy, geometry, groups = draw_conv(seed, order, dtype)
        what = (seed, x.shape, weight.shape, geometry, groups)
        y, columns = backend.conv2d(x, weight, bias, geometry, groups)
        wanted, _ = loops.conv2d(x, weight, bias, geometry, groups)
        assert_activation(y, wanted, what)
        dx, dweight = backend.conv2d_backward(dy, x, weight, columns, geometry, groups, True)
        wanted_dx, wanted_dweight = loops.conv2d_backward(dy, x, weight, None, geometry, groups, True)
        assert_activation(dx, wanted_dx, what)
        assert_same(dweight, wanted_dweight, what)
        no_dx, again = backend.conv2d_backward(dy, x, weight, columns, geometry, groups, False)
        assert no_dx is None
        assert np.array_equal(again, dweight)


@every_backend
@every_order
@both_types
def test_max_pool2d_equals_loops(name: str, order: str, dtype: str) -> None:
    """To the bit, also where values tie, are NaN, or are minus infinity like the padding."""
    backend = kernels.get(name)
    for seed in range(POOLS):
        rng = np.random.default_rng(seed)
        geometry, size = draw_window(rng, seed, pool=True)
        shape = (1, 3, 16)[seed % 3], int(rng.integers(1, 4)), *size
        kind = seed % 5
        x = rng.standard_normal(shape) if kind == 0 else rng.integers(0, 2, shape).astype(float)
        if kind == 2:
            x[rng.random(shape) < 0.2] = np.nan
        if kind == 3:
            x[rng.random(shape) < 0.7] = -np.inf
        x = LAYOUTS[order](x.astype(dtype))
        dy = LAYOUTS[order](rng.integers(-8, 9, (*shape[:2], *geometry.output)).astype(dtype))
        what = (seed, shape, geometry)
        y, wanted = backend.max_pool2d(x, geometry), loops.max_pool2d(x, geometry)
        assert y.dtype == x.dtype
        assert layout.inner(y).flags.c_contiguous
        assert np.array_equal(y, wanted, equal_nan=True), what
        dx = backend.max_pool2d_backward(dy, x, y, geometry)
        assert dx.dtype == x.dtype
        assert layout.inner(dx).flags.c_contiguous
        assert np.array_equal(dx, loops.max_pool2d_backward(dy, x, y, geometry)), what


@every_backend
@every_order
@both_types
def test_avg_pool2d_equals_loops(name: str, order: str, dtype: str) -> None:
    backend = kernels.get(name)
    for seed in range(POOLS):
        rng = np.random.default_rng(seed)
        geometry, size = draw_window(rng, seed, pool=True)
        counts = np.outer(*taps_of(geometry, size, include_pad=bool(rng.integers(2)))).astype(dtype)
        shape = (1, 3, 16)[seed % 3], int(rng.integers(1, 4)), *size
        x, dy = (values(rng, order, dtype, *s) for s in (shape, (*shape[:2], *geometry.output)))
        what = (seed, shape, geometry)
        assert_activation(backend.avg_pool2d(x, geometry, counts), loops.avg_pool2d(x, geometry, counts), what)
        dx = backend.avg_pool2d_backward(dy, x, geometry, counts)
        assert_activation(dx, loops.avg_pool2d_backward(dy, x, geometry, counts), what)


def test_the_drawn_pool_windows_hang_over_on_either_axis() -> None:
    drawn = [draw_window(np.random.default_rng(seed), seed, pool=True)[0].overhang for seed in range(POOLS)]
    assert sum(rows > 0 for rows, _ in drawn) >= 4
    assert sum(columns > 0 for _, columns in drawn) >= 4


@every_backend
@every_order
@both_types
def test_the_kernels_of_batch_norm_equal_loops(name: str, order: str, dtype: str) -> None:
    """Their sums in float64, whatever the type of x and however far it is from zero."""
    backend = kernels.get(name)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shape = (1, 3, 16)[seed % 3], *rng.integers(1, 6, 3).tolist()
        x, dy = (values(rng, order, dtype, *shape) for _ in range(2))
        x += rng.choice([0, 1000])
        moments, wanted = backend.channel_moments(x), loops.channel_moments(x)
        sums, wanted_sums = backend.channel_sums(dy, x, wanted[0]), loops.channel_sums(dy, x, wanted[0])
        for found, right in zip((*moments, *sums), (*wanted, *wanted_sums), strict=True):
            assert found.dtype == right.dtype == np.float64
            assert np.abs(found - right).max() <= 1e-10 * max(1, np.abs(right).max()), (seed, shape)
        vectors = [rng.standard_normal(shape[1]).astype(dtype) for _ in range(4)]
        vectors[0] = wanted[0].astype(dtype)
        assert_activation(backend.batch_norm(x, *vectors[:3]), loops.batch_norm(x, *vectors[:3]), (seed, shape))
        dx, wanted_dx = (b.batch_norm_backward(dy, x, *vectors) for b in (backend, loops))
        assert_activation(dx, wanted_dx, (seed, shape))


@every_backend
@every_order
@both_types
def test_linear_equals_loops(name: str, order: str, dtype: str) -> None:
    backend = kernels.get(name)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        N, D, K = (1, 3, 16)[seed % 3], int(rng.integers(1, 9)), int(rng.integers(1, 9))
        x, weight, dy = (values(rng, order, dtype, *shape) for shape in [(N, D), (K, D), (N, K)])
        bias = values(rng, order, dtype, K) if seed % 2 else None
        what = (seed, N, D, K)
        assert_activation(backend.linear(x, weight, bias), loops.linear(x, weight, bias), what)
        dx, dweight = backend.linear_backward(dy, x, weight, True)
        wanted_dx, wanted_dweight = loops.linear_backward(dy, x, weight, True)
        assert_activation(dx, wanted_dx, what)
        assert_same(dweight, wanted_dweight, what)
        assert backend.linear_backward(dy, x, weight, False)[0] is None


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_a_backend_is_its_functions_and_nothing_more(name: str) -> None:
    backend = kernels.get(name)
    assert backend.__name__ == f"stridenet.kernels.{name}"
    assert len(FUNCTIONS) == 12
    for function in FUNCTIONS:
        wanted = list(inspect.signature(getattr(kernels.Backend, function)).parameters.values())[1:]  # without self
        found = list(inspect.signature(getattr(backend, function)).parameters.values())
        assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in wanted]


def test_the_module_docstring_shows_the_same_arguments() -> None:
    for function in FUNCTIONS:
        names = list(inspect.signature(getattr(kernels.Backend, function)).parameters)[1:]
        assert f"    {function}({', '.join(names)}) -> " in (kernels.__doc__ or "")


# --- by hand


def from_rows(*channels: str) -> Array:
    """One image; each channel is a text of rows of digits."""
    return np.array([[[[float(digit) for digit in row] for row in text.split()] for text in channels]])


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_conv2d_as_worked_by_hand_in_report_s4(name: str) -> None:
    """What the report prints: the padded rows 0 to 2, columns 0 to 4 of 5x5x3, stride 2; 0+2+0+1 and -3+0-3+1."""
    padded = from_rows("00000 01122 01112", "00000 00120 02211", "00000 02201 00021")
    weight = np.array(
        [
            [
                [[1, 1, 1], [-1, -1, 0], [-1, 1, 0]],
                [[-1, -1, 1], [-1, 1, 0], [-1, 1, 0]],
                [[1, 0, -1], [0, 0, 0], [1, -1, -1]],
            ]
        ],
        float,
    )
    bias = np.array([1.0])
    conv2d = kernels.get(name).conv2d
    y, _ = conv2d(padded, weight, bias, window("w", (3, 5), (3, 3), (2, 2), ((0, 0), (0, 0))), 1)
    assert y.tolist() == [[[[3, -5]]]]
    inside = np.ascontiguousarray(padded[:, :, 1:, 1:])  # and with the padding left to the kernel
    y, _ = conv2d(inside, weight, bias, window("w", (2, 4), (3, 3), (2, 2), ((1, 0), (1, 0))), 1)
    assert y.tolist() == [[[[3, -5]]]]
    parts = [
        conv2d(padded[:, c : c + 1], weight[:, c : c + 1], None, y_window, 1)[0].ravel().tolist() for c in range(3)
    ]
    assert parts == [[0, -3], [2, 0], [0, -3]]


y_window = window("w", (3, 5), (3, 3), (2, 2), ((0, 0), (0, 0)))


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_conv2d_of_5x5x3_gives_3x3x2(name: str) -> None:
    geometry = window("w", (5, 5), (3, 3), (2, 2), ((1, 1), (1, 1)))
    y, _ = kernels.get(name).conv2d(np.ones((1, 3, 5, 5)), np.ones((2, 3, 3, 3)), None, geometry, 1)
    counts = [[12.0, 18, 12], [18, 27, 18], [12, 18, 12]]  # the taps that meet the image
    assert y.tolist() == [[counts, counts]]


@pytest.mark.promise("B8")
@pytest.mark.parametrize("name", ["loops", *FAST])
def test_b08_windows_start_at_multiples_of_the_stride(name: str) -> None:
    """The same as NumPy's own window view, for stride, dilation and groups 1."""
    rng = np.random.default_rng(8)
    for stride in range(1, 5):
        x, weight = rng.standard_normal((2, 3, 11, 9)), rng.standard_normal((4, 3, 3, 2))
        view = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(2, 3))[:, :, ::stride, :: stride + 1]
        y, _ = kernels.get(name).conv2d(
            x, weight, None, window("w", (11, 9), (3, 2), (stride, stride + 1), ((0, 0), (0, 0))), 1
        )
        assert normwise(y, np.einsum("ncpqrs,kcrs->nkpq", view, weight)) < 1e-14


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_max_pool2d_by_hand(name: str) -> None:
    x = from_rows("1230 4110 0509")
    geometry = window("w", (3, 4), (2, 2), (1, 2), ((0, 0), (0, 0)))
    backend = kernels.get(name)
    y = backend.max_pool2d(x, geometry)
    assert y.tolist() == [[[[4, 3], [5, 9]]]]
    dx = backend.max_pool2d_backward(np.array([[[[1.0, 2], [4, 8]]]]), x, y, geometry)
    assert dx.tolist() == [[[[0, 0, 2, 0], [1, 0, 0, 0], [0, 4, 0, 8]]]]


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_avg_pool2d_as_worked_by_hand_in_report_s4(name: str) -> None:
    """(1 + 1 + 2 + 3) / 4 = 7 / 4; then windows that overlap, and one that hangs over the edge."""
    backend = kernels.get(name)
    geometry, counts = window("w", (2, 2), (2, 2), (2, 2), ((0, 0), (0, 0))), np.full((1, 1), 4.0)
    x = from_rows("11 23")
    assert backend.avg_pool2d(x, geometry, counts).tolist() == [[[[7 / 4]]]]
    assert backend.avg_pool2d_backward(np.full((1, 1, 1, 1), 4.0), x, geometry, counts).tolist() == [[[[1, 1], [1, 1]]]]
    x = from_rows("123 456")
    geometry = window("w", (2, 3), (2, 2), (2, 1), ((0, 0), (0, 0)))
    assert backend.avg_pool2d(x, geometry, np.full((1, 2), 4.0)).tolist() == [[[[3, 4]]]]
    dx = backend.avg_pool2d_backward(np.array([[[[4.0, 8]]]]), x, geometry, np.full((1, 2), 4.0))
    assert dx.tolist() == [[[[1, 3, 2], [1, 3, 2]]]]
    geometry = window("w", (2, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), ceil_mode=True)
    counts = np.array([[4.0, 2]])
    assert backend.avg_pool2d(x, geometry, counts).tolist() == [[[[3, 4.5]]]]
    dx = backend.avg_pool2d_backward(np.array([[[[4.0, 8]]]]), x, geometry, counts)
    assert dx.tolist() == [[[[1, 1, 4], [1, 1, 4]]]]


@pytest.mark.parametrize("name", ["loops", *FAST])
def test_the_kernels_of_batch_norm_by_hand(name: str) -> None:
    backend = kernels.get(name)
    x, dy = from_rows("13 31", "50 50"), from_rows("10 02", "11 11")
    mean, squares = backend.channel_moments(x)
    assert (mean.tolist(), squares.tolist()) == ([2, 2.5], [4, 25])
    plain, weighted = backend.channel_sums(dy, x, mean)
    assert (plain.tolist(), weighted.tolist()) == ([3, 4], [-3, 0])
    scale, bias = np.array([2.0, 1]), np.array([10.0, 0.5])
    assert backend.batch_norm(x, mean, scale, bias).tolist() == [[[[8, 12], [12, 8]], [[3, -2], [3, -2]]]]
    shift, slope = np.array([1.0, 0]), np.array([0.5, 0])
    dx = backend.batch_norm_backward(dy, x, mean, scale, shift, slope)
    assert dx.tolist() == [[[[1, -3], [-3, 3]], [[1, 1], [1, 1]]]]


# --- choosing


def test_auto_is_the_default_and_is_not_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_AUTO", "auto")
    assert kernels.get() is kernels.get("auto") is kernels.get("batchlast")


def test_the_environment_says_what_auto_is(child: Any) -> None:
    code = """
from stridenet import kernels
with kernels.use("batchlast"):
    print(kernels.resolve(), kernels.resolve("auto"))
print(kernels.resolve())
"""
    for name in ("loops", "im2col"):
        assert child(code, STRIDENET_KERNELS=name).stdout.split() == ["batchlast", name, name]
    assert child(code, STRIDENET_KERNELS="").stdout == child(code, STRIDENET_KERNELS=None).stdout


def test_an_unknown_backend_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_AUTO", "loop")
    with pytest.raises(ConfigError) as caught:
        kernels.resolve()
    message = f"STRIDENET_KERNELS: expected one of {', '.join(kernels.NAMES)}, got 'loop'; did you mean 'loops'?"
    assert str(caught.value) == message
    assert kernels.resolve("loops") == "loops"


def test_use_nests_and_ends_also_after_an_error() -> None:
    with kernels.use("loops"):
        assert kernels.get() is loops
        with kernels.use("im2col"):
            assert kernels.get() is kernels.get("im2col")
        with pytest.raises(ZeroDivisionError), kernels.use("im2col"):
            raise ZeroDivisionError
        assert kernels.get() is loops
        assert kernels.get("im2col") is not loops
    assert kernels.get() is kernels.get("auto")


def test_use_is_of_its_own_thread() -> None:
    found: list[Any] = []
    with kernels.use("loops"):
        thread = threading.Thread(target=lambda: found.append(kernels.get()))
        thread.start()
        thread.join()
    assert found == [kernels.get("auto")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("im2cl", "; did you mean 'im2col'?"), ("Loops", "; did you mean 'loops'?"), ("numpy", ""), (3, "")],
)
def test_an_unknown_backend_is_refused(name: Any, hint: str) -> None:
    message = f"kernels: expected one of {', '.join(kernels.NAMES)}, got {name!r}{hint}"
    for function in kernels.get, kernels.resolve, lambda name: kernels.use(name).__enter__():
        with pytest.raises(ConfigError) as caught:
            function(name)
        assert str(caught.value) == message
    assert kernels.get() is kernels.get("auto")
