"""Size formulas against counting, and what a bad size is told."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from stridenet import shapes
from stridenet.errors import ConfigError, ShapeError


def deep(levels: int = 10_000) -> list[Any]:
    """A list in a list in a list ..."""
    inside: list[Any] = []
    for _ in range(levels):
        inside = [inside]
    return inside


def positions(length: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """How many windows fit, by trying every start."""
    last = length + after - (dilation * (kernel - 1) + 1)
    return sum((start + before) % stride == 0 for start in range(-before, last + 1))


def test_output_size_equals_counting() -> None:
    for length, kernel, stride, before, after, dilation in product(
        range(1, 9), (1, 2, 3, 5), (1, 2, 3, 6), (0, 1, 2), (0, 1, 3), (1, 2, 3)
    ):
        count = positions(length, kernel, stride, before, after, dilation)
        # The axis under test is the rows once and the columns once; the other axis differs from it.
        rows = (length, 7), (kernel, 3), (stride, 2), ((before, after), (1, 0)), (dilation, 1)
        columns = tuple((second, first) for first, second in rows)
        if count == 0:
            for arguments in rows, columns:
                with pytest.raises(ShapeError):
                    shapes.window("w", *arguments)
        else:
            assert shapes.window("w", *rows).output == (count, 3)
            assert shapes.window("w", *columns).output == (3, count)


def test_the_formula_of_report_s4() -> None:
    for width, size, pad, stride in product(range(1, 34), (1, 3, 5, 7), (0, 1, 2, 3), (1, 2, 3)):
        if (room := width - size + 2 * pad) >= 0:
            window = shapes.window("w", (width, width), (size, size), (stride, stride), ((pad, pad), (pad, pad)))
            assert window.output == (room // stride + 1,) * 2
    assert shapes.window("w", (5, 5), (3, 3), (2, 2), ((1, 1), (1, 1))).output == (3, 3)


def test_same_gives_ceil_of_size_by_stride_and_the_odd_margin_last() -> None:
    for length, kernel, stride, dilation in product(range(1, 12), range(1, 7), range(1, 6), (1, 2, 3)):
        window = shapes.window("w", (length, 6), (kernel, 2), (stride, 1), "same", (dilation, 1))
        (before, after), sideways = window.padding
        assert window.output == (-(-length // stride), 6)
        assert after - before in (0, 1)
        assert sideways == (0, 1)
        extent = dilation * (kernel - 1) + 1
        assert before + after == max((window.output[0] - 1) * stride + extent - length, 0)  # no more than is needed


def hanging(length: int, kernel: int, stride: int, before: int, after: int) -> list[int]:
    """The starts of all windows in ceil mode: one more where pixels are left over, if it begins before the end."""
    starts, end = [], length + after
    for start in range(-before, end, stride):
        if start + kernel <= end or (start - stride + kernel < end and start < length):
            starts.append(start)
    return starts


def test_ceil_mode_equals_counting_and_so_do_the_pixels_of_each_window() -> None:
    for length, kernel, stride, before, after in product(range(1, 9), (1, 2, 3, 5), (1, 2, 3, 6), (0, 1, 2), (0, 1, 2)):
        if max(before, after) >= kernel:
            continue
        starts = hanging(length, kernel, stride, before, after)
        rows = (length, 7), (kernel, 3), (stride, 2), ((before, after), (1, 0))
        columns = tuple((second, first) for first, second in rows)
        for axis, arguments in enumerate((rows, columns)):
            if not starts:
                with pytest.raises(ShapeError):
                    shapes.window("w", *arguments, ceil_mode=True)
                continue
            window = shapes.window("w", *arguments, ceil_mode=True)
            assert window.output[axis] == len(starts)
            assert window.overhang[axis] == max(starts[-1] + kernel - length - after, 0)
            assert (window.output[1 - axis], window.overhang[1 - axis]) == (4, 1)
            for include_pad, seen in (False, range(length)), (True, range(-before, length + after)):
                counts = [sum(place in seen for place in range(start, start + kernel)) for start in starts]
                assert shapes.taps_of(window, arguments[0], include_pad=include_pad)[axis] == counts
                assert min(counts) > 0


def test_ceil_mode_adds_nothing_to_same() -> None:
    for length, kernel, stride in product(range(1, 12), range(1, 7), range(1, 6)):
        given = (length, 6), (kernel, 2), (stride, 1), "same"
        assert shapes.window("w", *given, ceil_mode=True) == shapes.window("w", *given)


def test_window_is_resolved() -> None:
    assert shapes.window("w", (5, 8), (3, 2), (1, 2), ((1, 0), (2, 3)), (2, 1)) == (
        (3, 2),
        (1, 2),
        ((1, 0), (2, 3)),
        (2, 1),
        (2, 6),
        (0, 0),
    )


@pytest.mark.promise("P02")
def test_a_window_larger_than_the_image_names_both() -> None:
    with pytest.raises(ShapeError, match=r"^conv2d: expected an image of at least 9x3 .* got 8x8 with padding .*; use"):
        shapes.window("conv2d", (8, 8), (5, 3), (1, 1), ((0, 0), (0, 0)), (2, 1))
    for size, padding in product([(0, 4), (4, 0), (0, 0)], ["same", ((3, 3), (3, 3))]):
        with pytest.raises(ShapeError, match=f"got {size[0]}x{size[1]}"):
            shapes.window("w", size, (3, 3), (1, 1), padding)


def test_integer_takes_what_is_one() -> None:
    for value in (3, np.int64(3), np.uint8(3), np.array(3)):
        number = shapes.integer("who", "name", value)
        assert (number, type(number)) == (3, int)
    assert shapes.integer("who", "name", 0, minimum=0) == 0
    assert shapes.integer("who", "name", -2, minimum=-2) == -2


BAD_INTEGERS = [
    0,
    -1,
    1.0,
    2.5,
    np.float32(3),
    True,
    np.True_,
    "3",
    b"3",
    None,
    1j,
    [3],
    {},
    np.array([1, 2]),
    float("nan"),
]


@pytest.mark.promise("P01")
@pytest.mark.parametrize("value", [*BAD_INTEGERS, 10**5000, deep()], ids=lambda value: type(value).__name__)
def test_integer_refuses(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Conv2d: expected groups .*[<>]= \d+.*, got "):
        shapes.integer("Conv2d", "groups", value)


def test_number_takes_what_is_one() -> None:
    for value in (0, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1), 1):
        number = shapes.number("who", "p", value, low=0.0, high=1.0)
        assert (number, type(number)) == (float(value), float)
    assert shapes.number("who", "std", 1e300, low=0.0, high=float("inf")) == 1e300


@pytest.mark.promise("P01")
@pytest.mark.parametrize(
    "value",
    [
        1,
        -0.1,
        2,
        float("nan"),
        float("inf"),
        -float("inf"),
        True,
        np.True_,
        "0.5",
        None,
        0.5j,
        [0.5],
        np.array([0.1, 0.2]),
        10**400,
        -(10**5000),
        deep(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_number_refuses(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Dropout: expected p .*\[0, 1\), got "):
        shapes.number("Dropout", "p", value, low=0.0, high=1.0, open_high=True)


def test_number_refuses_infinity_where_there_is_no_limit() -> None:
    with pytest.raises(ConfigError, match="who: expected std to be a finite number >= 0, got inf"):
        shapes.number("who", "std", float("inf"), low=0.0, high=float("inf"))


def test_flag() -> None:
    assert shapes.flag("who", "bias", True) is True
    assert shapes.flag("who", "bias", False) is False


@pytest.mark.promise("P01")
@pytest.mark.parametrize("value", [0, 1, None, "yes", np.True_, [True], deep()], ids=lambda value: type(value).__name__)
def test_flag_refuses(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^AvgPool2d: expected ceil_mode to be True or False, got "):
        shapes.flag("AvgPool2d", "ceil_mode", value)


def test_pair() -> None:
    assert shapes.pair("who", "stride", 2) == (2, 2)
    assert shapes.pair("who", "stride", (2, 3)) == shapes.pair("who", "stride", [np.int32(2), 3]) == (2, 3)


@pytest.mark.promise("P01")
@pytest.mark.parametrize(
    "value", [*BAD_INTEGERS, (), (1,), (1, 2, 3), (1, 0), (1.0, 2), (1, None), ((1, 1), 1), deep()]
)
def test_pair_refuses(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^MaxPool2d: expected stride .*, got "):
        shapes.pair("MaxPool2d", "stride", value)


@pytest.mark.parametrize(
    ("given", "margins"),
    [
        (0, ((0, 0), (0, 0))),
        (np.int64(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([[1, 2], (3, 4)], ((1, 2), (3, 4))),
        ("same", "same"),
    ],
)
def test_padding_in_every_form(given: Any, margins: Any) -> None:
    assert shapes.padding_margins("who", given) == margins


@pytest.mark.promise("P01")
@pytest.mark.parametrize(
    "value",
    [
        ((1, 2), (3, -4)),
        ((1, 2), (3, 4), (5, 6)),
        {"top": 1},
        -1,
        1.5,
        True,
        None,
        "valid",
        "SAME",
        (),
        (1,),
        (1, 2, 3),
        (1, -1),
        ((1, 2),),
        ((1, 2), 3),
        ((1, 2), (3,)),
        deep(),
    ],
)
def test_padding_refuses(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Conv2d: expected padding .*, got "):
        shapes.padding_margins("Conv2d", value)


@pytest.mark.promise("P01")
def test_a_window_may_not_see_padding_alone() -> None:
    shapes.check_reach("who", ((1, 2), (0, 4)), (3, 5))
    shapes.check_reach("who", "same", (1, 1))
    for margins in [((3, 0), (0, 0)), ((0, 3), (0, 0)), ((0, 0), (5, 0)), ((0, 0), (0, 5))]:
        with pytest.raises(ConfigError, match=r"^who: expected padding smaller than the window's 3x5, got "):
            shapes.check_reach("who", margins, (3, 5))


def test_pool_arguments() -> None:
    assert shapes.pool_arguments("who", 2, None, 0) == ((2, 2), (2, 2), ((0, 0), (0, 0)))
    assert shapes.pool_arguments("who", (3, 2), 1, (2, 1)) == ((3, 2), (1, 1), ((2, 2), (1, 1)))
    with pytest.raises(ConfigError, match="smaller than the window's 2x2"):
        shapes.pool_arguments("who", 2, 1, 2)


def test_product_does_not_overflow() -> None:
    assert shapes.product(()) == 1
    assert shapes.product((65536, 65536, 65536, 65536, 3)) == 3 * 2**64


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (1000, "1 000"), (1234567, "1 234 567")])
def test_grouped(number: int, text: str) -> None:
    assert shapes.grouped(number) == text


def test_by() -> None:
    assert shapes.by((3, 4, 5)) == "3x4x5"
    assert shapes.by((10,)) == "10"


@pytest.mark.promise("P06")
@pytest.mark.parametrize(
    ("limits", "refused", "message"),
    [
        ({"low": 0.0, "high": float("inf")}, -1, ">= 0"),
        ({"low": 0.0, "high": float("inf"), "open_low": True}, 0, "> 0"),
        ({"low": 0.0, "high": float("inf"), "open_low": True}, -1, "> 0"),
        ({"low": 0.0, "high": 1.0}, 2, "in [0, 1]"),
        ({"low": 0.0, "high": 1.0, "open_high": True}, 1, "in [0, 1)"),
        ({"low": 0.0, "high": 1.0, "open_low": True, "open_high": True}, 0, "in (0, 1)"),
    ],
)
def test_a_range_is_said_in_one_form(limits: dict[str, Any], refused: int, message: str) -> None:
    assert shapes.number("who", "it", 0.5, **limits) == 0.5
    with pytest.raises(ConfigError) as caught:
        shapes.number("who", "it", refused, **limits)
    assert str(caught.value) == f"who: expected it {message}, got {refused}"
    with pytest.raises(ConfigError) as caught:
        shapes.number("who", "it", "x", **limits)
    assert str(caught.value) == f"who: expected it to be a finite number {message}, got 'x'"
