"""What the layers refuse, at construction and at forward, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


NOT_SIZES = [0, -1, 1.0, 2.5, True, "3", None, float("nan"), [1, 2, 3], {}, 2**60, 10**5000]
NOT_MARGINS = [-1, 2, (2, 0), ((0, 0), (0, 2)), 1.0, True, None, "valid", 2**60]
NOT_FLAGS = [1, 0, None, "yes", [True], np.True_]
NOT_SHARES = [-0.1, 1, 1.0, 2, float("nan"), float("inf"), True, "0.5", None, [0.5], 10**400]  # of [0, 1)
NOT_NUMBERS = [-0.1, -1, float("nan"), float("inf"), True, "0.5", None, [0.5], 1j, 10**400]  # finite and >= 0
BAD: dict[str, tuple[Callable[[Any], Layer], list[Any]]] = {
    "Conv2d in_channels": (lambda v: Conv2d(v, 4, 3, rng=rng()), [*NOT_SIZES, (1, 2)]),
    "Conv2d out_channels": (lambda v: Conv2d(4, v, 3, rng=rng()), [*NOT_SIZES, (1, 2)]),
    "Conv2d kernel_size": (lambda v: Conv2d(4, 4, v, rng=rng()), [*NOT_SIZES, (3, 0), (3, 3, 3), ((1, 1), 2), "same"]),
    "Conv2d stride": (lambda v: Conv2d(4, 4, 3, stride=v, rng=rng()), [*NOT_SIZES, (1, 0), (1,)]),
    "Conv2d dilation": (lambda v: Conv2d(4, 4, 3, dilation=v, rng=rng()), [*NOT_SIZES, (0, 1)]),
    "Conv2d groups": (lambda v: Conv2d(4, 4, 3, groups=v, rng=rng()), [*NOT_SIZES, 3, 8, (1, 1)]),
    "Conv2d padding": (
        lambda v: Conv2d(4, 4, 3, padding=v, rng=rng()),
        [-1, 3, (0, 3), ((0, 3), (0, 0)), ((0, 0), (-1, 0)), 1.0, True, None, "valid", (1, 2, 3), {}, 2**60],
    ),
    "Conv2d bias": (lambda v: Conv2d(4, 4, 3, bias=v, rng=rng()), NOT_FLAGS),
    "Conv2d rng": (lambda v: Conv2d(4, 4, 3, rng=v), [None, 0, "seed", np.random.RandomState(0)]),
    "Conv2d weights": (lambda v: Conv2d(v, v, 3, rng=rng()), [2**15, 2**40]),
    "Linear in_features": (lambda v: Linear(v, 4, rng=rng()), [*NOT_SIZES, (1, 2)]),
    "Linear out_features": (lambda v: Linear(4, v, rng=rng()), [*NOT_SIZES, (1, 2)]),
    "Linear bias": (lambda v: Linear(4, 4, bias=v, rng=rng()), NOT_FLAGS),
    "Linear rng": (lambda v: Linear(4, 4, rng=v), [None, 0]),
    "Linear weights": (lambda v: Linear(v, v, rng=rng()), [2**16, 2**50]),
    "MaxPool2d kernel_size": (lambda v: MaxPool2d(v), [*NOT_SIZES, (2, 0), (2, 2, 2)]),
    "MaxPool2d stride": (lambda v: MaxPool2d(2, stride=v), [v for v in NOT_SIZES if v is not None]),
    "MaxPool2d padding": (lambda v: MaxPool2d(2, padding=v), NOT_MARGINS),
    "MaxPool2d ceil_mode": (lambda v: MaxPool2d(2, ceil_mode=v), NOT_FLAGS),
    "AvgPool2d kernel_size": (lambda v: AvgPool2d(v), [*NOT_SIZES, (2, 0), (2, 2, 2)]),
    "AvgPool2d stride": (lambda v: AvgPool2d(2, stride=v), [v for v in NOT_SIZES if v is not None]),
    "AvgPool2d padding": (lambda v: AvgPool2d(2, padding=v), NOT_MARGINS),
    "AvgPool2d ceil_mode": (lambda v: AvgPool2d(2, ceil_mode=v), NOT_FLAGS),
    "AvgPool2d count_include_pad": (lambda v: AvgPool2d(2, count_include_pad=v), NOT_FLAGS),
    "BatchNorm2d num_features": (lambda v: BatchNorm2d(v), [*NOT_SIZES, (1, 2), 2**31 + 1, 2**50]),
    "BatchNorm2d momentum": (lambda v: BatchNorm2d(2, momentum=v), [*NOT_NUMBERS, 1.1, 2]),
    "BatchNorm2d eps": (lambda v: BatchNorm2d(2, eps=v), [*NOT_NUMBERS, 0, 0.0]),
    "LeakyReLU negative_slope": (lambda v: LeakyReLU(v), NOT_NUMBERS),
    "Dropout p": (lambda v: Dropout(v), NOT_SHARES),
    "Dropout2d p": (lambda v: Dropout2d(v), NOT_SHARES),
    "Residual body": (lambda v: Residual(v), [None, ReLU, "ReLU", 3, [ReLU()]]),
    "Residual shortcut": (lambda v: Residual(ReLU(), v), [ReLU, "ReLU", 3, [ReLU()], False]),
    "ZeroPadShortcut in_channels": (lambda v: ZeroPadShortcut(v, 2**53), [*NOT_SIZES, (1, 2)]),
    "ZeroPadShortcut out_channels": (lambda v: ZeroPadShortcut(4, v), [*NOT_SIZES, 1, 3, (4, 4)]),
    "ZeroPadShortcut stride": (lambda v: ZeroPadShortcut(4, 4, stride=v), [*NOT_SIZES, (1, 0), (1,), "same"]),
    "Sequential input_shape": (
        lambda v: Sequential(input_shape=v),
        [28, (), (0,), (1, -1), (1.0, 2), "28", {1: 2}, np.array([1, 2]), (None, 28)],
    ),
}


@pytest.mark.promise("P01")
@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_name_themselves_at_construction(case: str) -> None:
    who, argument = case.split()
    make, bad = BAD[case]
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            make(value)
        message = str(caught.value)
        assert message.startswith(f"{who}: expected "), message
        assert argument in message, message
        assert ", got " in message, message
        assert "\n" not in message
        assert len(message) < 300
        assert not isinstance(caught.value, ShapeError)


def test_good_arguments_in_other_types_are_stored_plainly() -> None:
    conv = Conv2d(
        np.int64(2),
        np.int32(4),
        [np.int64(3), 2],
        stride=np.int8(2),
        padding=[[1, np.int64(0)], [0, 1]],
        rng=rng(),
    )
    assert repr(conv) == "Conv2d(2, 4, kernel_size=(3, 2), stride=2, padding=((1, 0), (0, 1)))"
    pool = MaxPool2d(np.int64(2), stride=[1, np.int64(2)])
    assert repr(pool) == "MaxPool2d(2, stride=(1, 2))"
    assert type(pool.kernel_size) is int
    kernel = [3, 3]
    layer = MaxPool2d(kernel)
    kernel[0] = 1  # the caller's list is the caller's
    assert layer.output_shape((1, 6, 6)) == layer.forward(np.zeros((1, 1, 6, 6))).shape[1:] == (1, 2, 2)


TOO_SMALL = (
    "expected an image of at least 7x7 with its padding, got 6x28 with padding ((0, 0), (0, 0)); "
    "use a smaller kernel or more padding"
)


TOO_LARGE = "expected an output of at most 2^31 numbers an image, got (1073741824, 3, 1); use fewer channels"


TWO_SHAPES = (
    "expected body and shortcut to give one shape, got (2, 4, 5, 5) and (2, 3, 5, 5); "
    "give a shortcut such as Conv2d with kernel_size=1"
)


@pytest.mark.promise("P02")
@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            Conv2d(3, 32, 7, rng=rng()),
            np.zeros((64, 1, 28, 28), np.float32),
            "Conv2d(3, 32, kernel_size=7): expected x of shape (N, 3, H, W), got (64, 1, 28, 28)",
        ),
        (
            Conv2d(3, 32, 7, rng=rng()),
            np.zeros((3, 28, 28), np.float32),
            "Conv2d(3, 32, kernel_size=7): expected x of shape (N, 3, H, W), got (3, 28, 28)",
        ),
        (
            Conv2d(3, 32, 7, rng=rng()),
            np.zeros((2, 3, 6, 28), np.float32),
            f"Conv2d(3, 32, kernel_size=7): {TOO_SMALL}",
        ),
        (
            Conv2d(1, 2, 3, rng=rng()),
            np.zeros((2, 1, 6, 6), np.uint8),
            "Conv2d(1, 2, kernel_size=3): expected x of dtype float32 or float64, got uint8; use x.astype",
        ),
        (
            Conv2d(1, 2, 3, rng=rng()),
            np.zeros((2, 1, 6, 6)),
            "Conv2d(1, 2, kernel_size=3): expected arrays of one dtype, got float32 and x float64; use astype",
        ),
        (
            Linear(400, 120, rng=rng()),
            np.zeros((5, 256), np.float32),
            "Linear(400, 120): expected x of shape (N, 400), got (5, 256)",
        ),
        (
            Linear(4, 2, rng=rng()),
            np.zeros((5, 4)),
            "Linear(4, 2): expected arrays of one dtype, got float32 and x float64; use astype",
        ),
        (MaxPool2d(2), np.zeros((5, 4)), "MaxPool2d(2): expected x of shape (N, C, H, W), got (5, 4)"),
        (ReLU(), np.zeros((5, 4), int), "ReLU(): expected x of dtype float32 or float64, got int64; use x.astype"),
        (AvgPool2d(2), np.zeros((5, 4)), "AvgPool2d(2): expected x of shape (N, C, H, W), got (5, 4)"),
        (
            AvgPool2d(7),
            np.zeros((2, 3, 6, 28)),
            f"AvgPool2d(7): {TOO_SMALL}",
        ),
        (
            GlobalAvgPool2d(),
            np.zeros((2, 3)),
            "GlobalAvgPool2d(): expected x of shape (N, C, H, W), got (2, 3)",
        ),
        (
            GlobalAvgPool2d(),
            np.zeros((2, 3, 0, 4)),
            "GlobalAvgPool2d(): expected images of at least one pixel, got x (2, 3, 0, 4)",
        ),
        (
            BatchNorm2d(3),
            np.zeros((2, 4, 5, 5), np.float32),
            "BatchNorm2d(3): expected x of shape (N, 3, H, W), got (2, 4, 5, 5)",
        ),
        (
            BatchNorm2d(3),
            np.zeros((2, 3), np.float32),
            "BatchNorm2d(3): expected x of shape (N, 3, H, W), got (2, 3)",
        ),
        (
            BatchNorm2d(3),
            np.zeros((2, 3, 5, 5)),
            "BatchNorm2d(3): expected arrays of one dtype, got float32 and x float64; use astype",
        ),
        (
            LeakyReLU(),
            np.zeros((5, 4), int),
            "LeakyReLU(): expected x of dtype float32 or float64, got int64; use x.astype",
        ),
        (Softmax(), np.zeros(5), "Softmax(): expected x of shape (N, K, ...), got (5,)"),
        (LogSoftmax(), np.zeros((5, 0)), "LogSoftmax(): expected x with at least one class, got (5, 0)"),
        (Dropout2d(), np.zeros((5, 4)), "Dropout2d(): expected x of shape (N, C, H, W), got (5, 4)"),
        (
            Residual(Conv2d(3, 4, 1, rng=rng())),
            np.zeros((2, 3, 5, 5), np.float32),
            f"Residual: {TWO_SHAPES}",
        ),
        (
            Residual(ReLU(), Conv2d(3, 4, 7, rng=rng())),
            np.zeros((2, 3, 6, 28), np.float32),
            f"Conv2d(3, 4, kernel_size=7): {TOO_SMALL}",
        ),
        (
            ZeroPadShortcut(3, 4),
            np.zeros((2, 4, 5, 5), np.float32),
            "ZeroPadShortcut(3, 4): expected x of shape (N, 3, H, W), got (2, 4, 5, 5)",
        ),
        (
            ZeroPadShortcut(3, 4),
            np.zeros((2, 3, 5, 5), int),
            "ZeroPadShortcut(3, 4): expected x of dtype float32 or float64, got int64; use x.astype",
        ),
        (
            ZeroPadShortcut(1, 2**30, stride=2),
            np.zeros((2, 1, 5, 1), np.float32),
            f"ZeroPadShortcut(1, 1073741824, stride=2): {TOO_LARGE}",
        ),
        (Tanh(), np.zeros(()), "Tanh(): expected x of shape (N, ...), got ()"),
        (
            Dropout(),
            np.zeros((5, 4), ">f4"),
            "Dropout(): expected x of dtype float32 or float64, got >f4; use x.astype",
        ),
        (Flatten(), np.zeros(()), "Flatten(): expected x of shape (N, ...), got ()"),
    ],
)
def test_forward_names_the_layer(layer: Layer, x: Array, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        layer.forward(x)
    assert str(caught.value) == message
    assert layer.saved is None


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv2d(3, 4, 3, rng=rng()),
            (1, 8, 8),
            r"^Conv2d\(3, 4, kernel_size=3\): .*\(N, 3, H, W\), got \(N, 1, 8, 8\); use in_channels=1$",
        ),
        (Conv2d(3, 4, 3, rng=rng()), (3, 8), r"got \(N, 3, 8\); one image is \(C, H, W\)$"),
        (Conv2d(3, 4, 3, rng=rng()), (3, 2, 8), r"^Conv2d\(3, 4, kernel_size=3\): expected an image of at least 3x3"),
        (Linear(9, 4, rng=rng()), (1, 3, 3), r"^Linear\(9, 4\): .* got 9 \(1, 3, 3\).*; put Flatten\(\) before it"),
        (Linear(9, 4, rng=rng()), (8,), r"^Linear\(9, 4\): expected 9 features, got 8 .*; use in_features=8$"),
        (MaxPool2d(2), (9,), r"^MaxPool2d\(2\): expected .*, got \(9,\)$"),
        (AvgPool2d(2), (1, 1, 5), r"^AvgPool2d\(2\): expected an image of at least 2x2"),
        (GlobalAvgPool2d(), (9,), r"^GlobalAvgPool2d\(\): expected an input \(C, H, W\), got \(9,\)$"),
        (
            GlobalAvgPool2d(),
            (3, 0, 2),
            r"^GlobalAvgPool2d\(\): expected an image of at least one pixel, got \(3, 0, 2\)",
        ),
        (BatchNorm2d(3), (4, 5, 5), r"^BatchNorm2d\(3\): expected x of shape \(N, 3, H, W\), got \(N, 4, 5, 5\)$"),
        (BatchNorm2d(3), (3,), r"^BatchNorm2d\(3\): expected x of shape \(N, 3, H, W\), got \(N, 3\)$"),
        (
            Residual(Conv2d(3, 4, 1, rng=rng())),
            (3, 5, 5),
            r"^Residual: .*, got \(4, 5, 5\) and \(3, 5, 5\); give a shortc",
        ),
        (MaxPool2d(2), (1, 1, 5), r"^MaxPool2d\(2\): expected an image of at least 2x2"),
        (ZeroPadShortcut(3, 4), (4, 5, 5), r"^ZeroPadShortcut\(3, 4\): .*\(N, 3, H, W\), got \(N, 4, 5, 5\)$"),
        (ZeroPadShortcut(3, 4), (3,), r"^ZeroPadShortcut\(3, 4\): .*\(N, 3, H, W\), got \(N, 3\)$"),
        (ZeroPadShortcut(3, 4), (3, 0, 5), r"^ZeroPadShortcut\(3, 4\): expected an image of at least 1x1 .* got 0x5"),
        (ZeroPadShortcut(1, 2**40), (1, 1, 1), r"^ZeroPadShortcut\(1, 1099511627776\): .* of at most 2\^31 numbers"),
    ],
)
def test_output_shape_refuses(layer: Layer, shape: Shape, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)
