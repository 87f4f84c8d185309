from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet.errors import ConfigError, LabelError, ShapeError
from stridenet.interop import cs231n
from stridenet.interop.cs231n import *  # noqa: F403  (as the coursework does)
from stridenet.interop.cs231n import (
    affine_backward,
    affine_forward,
    batchnorm_forward,
    conv_forward_naive,
    dropout_backward,
    dropout_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
    softmax_loss,
    spatial_batchnorm_forward,
    svm_loss,
)
from stridenet.layout import Array
from stridenet.nn import functional as F

CONV, POOL = {"stride": 2, "pad": 1}, {"pool_height": 2, "pool_width": 3, "stride": 1}


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[Array]:
    """Normal numbers, float64."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def spaced(*shape: int) -> Array:
    """Distinct numbers, 0.02 apart and off zero: a difference of 1e-5 changes no branch."""
    size = int(np.prod(shape))
    return (0.02 * (np.random.default_rng(1).permutation(size) - size // 2) + 0.01).reshape(shape)


# The pair of each name, its arrays, and what else it is given.
X, W, B = (3, 2, 5, 6), (4, 2, 3, 3), (4,)
PAIRS: dict[str, tuple[list[Array], list[Any]]] = {
    "affine": (draw((3, 2, 2, 3), (12, 4), (4,)), []),
    "relu": ([spaced(3, 4, 2)], []),
    "conv_NAME_naive": (draw(X, W, B), [CONV]),
    "conv_NAME_fast": (draw(X, W, B), [CONV]),
    "max_pool_NAME_naive": ([spaced(2, 3, 5, 6)], [POOL]),
    "max_pool_NAME_fast": ([spaced(2, 3, 4, 4)], [{"pool_height": 2, "pool_width": 2, "stride": 2}]),
    "batchnorm": (draw((6, 3), (3,), (3,)), [{"mode": "train"}]),
    "spatial_batchnorm": (draw((3, 2, 3, 4), (2,), (2,)), [{"mode": "train"}]),
    "dropout": (draw((5, 6)), [{"mode": "train", "p": 0.6, "seed": 3}]),
    "affine_relu": (draw((3, 2, 2, 3), (12, 4), (4,)), []),
    "conv_relu": (draw(X, W, B), [CONV]),
    "conv_bn_relu": (draw(X, W, B, (4,), (4,)), [CONV, {"mode": "train"}]),
    "conv_relu_pool": (draw(X, W, B), [{"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}]),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def function(name: str, way: str) -> Callable[..., Any]:
    return getattr(cs231n, name.replace("NAME", way) if "NAME" in name else f"{name}_{way}")


def pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return function(name, "forward"), function(name, "backward")


def as_list(gradients: Any) -> list[Array]:
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def test_every_layer_is_in_the_table_and_a_star_brings_it() -> None:
    pairs = {getattr(cs231n, name) for name in cs231n.__all__ if "forward" in name or "backward" in name}
    assert pairs == {each for name in PAIRS for each in pair(name)}
    assert {"Solver", "svm_loss", "softmax_loss", "conv_relu_pool_backward"} <= set(cs231n.__all__)
    assert set(cs231n.__all__) <= globals().keys()
    assert all(inspect.getdoc(getattr(cs231n, name)) for name in cs231n.__all__)


@every_pair
def test_gradients_are_the_slopes(name: str) -> None:
    """Central differences of every number of every array, with a random cotangent."""
    (arrays, options), (forward, backward) = PAIRS[name], pair(name)
    arrays = [array.copy() for array in arrays]
    out, cache = forward(*arrays, *options)
    (dout,) = draw(out.shape, seed=7)
    gradients = as_list(backward(dout, cache))
    assert [gradient.shape for gradient in gradients] == [array.shape for array in arrays]
    for array, gradient in zip(arrays, gradients, strict=True):
        wanted = np.empty_like(array)
        for place in np.ndindex(array.shape):
            kept, sums = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = kept + step
                sums.append(float((forward(*arrays, *options)[0] * dout).sum()))
            array[place], wanted[place] = kept, (sums[0] - sums[1]) / 2e-5
        # the bias of a convolution that is normalised has no slope: what is left is rounding
        assert normwise(gradient, wanted) < 1e-7 or np.abs(gradient - wanted).max() < 1e-9


@every_pair
@pytest.mark.parametrize("order", LAYOUTS)
def test_results_are_in_c_order_and_inputs_stay(name: str, order: str) -> None:
    (plain, options), (forward, backward) = PAIRS[name], pair(name)
    wanted, wanted_cache = forward(*plain, *options)
    arrays = [LAYOUTS[order](array) for array in plain]
    for array in arrays:
        array.flags.writeable = False
    out, cache = forward(*arrays, *options)
    dout = LAYOUTS[order](draw(out.shape)[0])
    dout.flags.writeable = False  # B15
    found = [out, *as_list(backward(dout, cache))]
    assert all(array.flags.c_contiguous for array in found)
    assert isinstance(cache, tuple)
    for a, b in zip(found, [wanted, *as_list(backward(draw(out.shape)[0], wanted_cache))], strict=True):
        assert normwise(a, b) < 1e-13


@every_pair
def test_the_type_is_the_common_one(name: str) -> None:
    (arrays, options), (forward, backward) = PAIRS[name], pair(name)
    single = [array.astype(np.float32) for array in arrays]
    out, cache = forward(*single, *options)
    assert {array.dtype for array in (out, *as_list(backward(out, cache)))} == {np.dtype("float32")}
    mixed, cache = forward(np.ones(arrays[0].shape, np.uint8), *arrays[1:], *options)
    assert mixed.dtype == (np.float64 if len(arrays) > 1 else np.float32)  # of bytes alone
    assert all(gradient.dtype == mixed.dtype for gradient in as_list(backward(np.ones_like(mixed), cache)))


def test_a_layer_is_its_operation() -> None:
    x, w, b = PAIRS["conv_NAME_naive"][0]
    out, _ = conv_forward_naive(x, w, b, CONV)
    assert np.array_equal(out, F.conv2d(x, w, b, stride=2, padding=1)[0])
    x, w, b = PAIRS["affine"][0]
    assert normwise(affine_forward(x, w, b)[0], x.reshape(3, -1) @ w + b) < 1e-14
    assert cs231n.conv_forward_fast is conv_forward_naive


# What report S4 prints


def from_rows(*rows: str) -> Array:
    return np.array([[list(map(float, row.split())) for row in channel.split("/")] for channel in rows])


def test_the_worked_convolution_as_far_as_it_is_printed() -> None:
    """Rows 0 and 1, columns 0 to 3, of a 5x5x3 image; what is not printed is seen by no output that is."""
    x = np.full((1, 3, 5, 5), np.nan)
    x[0, :, :2, :4] = from_rows("1 1 2 2/1 1 1 2", "0 1 2 0/2 2 1 1", "2 2 0 1/0 0 2 1")
    w = np.zeros((2, 3, 3, 3))
    w[0] = from_rows("1 1 1/-1 -1 0/-1 1 0", "-1 -1 1/-1 1 0/-1 1 0", "1 0 -1/0 0 0/1 -1 -1")
    with np.errstate(invalid="ignore"):
        out, _ = conv_forward_naive(x, w, np.array([1.0, 0.0]), {"stride": 2, "pad": 1})
    assert out.shape == (1, 2, 3, 3)
    assert (out[0, 0, 0, 0], out[0, 0, 0, 1]) == (3.0, -5.0)


def test_the_worked_sums_of_each_channel() -> None:
    x = np.zeros((1, 3, 5, 5))
    x[0, :, :2, :4] = from_rows("1 1 2 2/1 1 1 2", "0 1 2 0/2 2 1 1", "2 2 0 1/0 0 2 1")
    w = from_rows("1 1 1/-1 -1 0/-1 1 0", "-1 -1 1/-1 1 0/-1 1 0", "1 0 -1/0 0 0/1 -1 -1")
    parts = [
        conv_forward_naive(x[:, c : c + 1], w[None, c : c + 1], np.zeros(1), {"stride": 2, "pad": 1})[0][0, 0, 0, :2]
        for c in range(3)
    ]
    assert np.stack(parts).T.tolist() == [[0, 2, 0], [-3, 0, -3]]


def test_the_worked_mean_pool() -> None:
    assert F.avg_pool2d(np.array([[[[1.0, 1.0], [2.0, 3.0]]]]), 2)[0].item() == 7 / 4


@pytest.mark.parametrize(("W", "S", "pad", "stride"), [(5, 3, 1, 2), (32, 7, 3, 1), (7, 3, 0, 2), (8, 2, 0, 2)])
def test_the_formula_of_sizes(W: int, S: int, pad: int, stride: int) -> None:
    x, w, b = draw((1, 1, W, W), (1, 1, S, S), (1,))
    size = (W - S + 2 * pad) // stride + 1
    assert conv_forward_naive(x, w, b, {"stride": stride, "pad": pad})[0].shape == (1, 1, size, size)


# Modes


@pytest.mark.parametrize("spatial", [False, True])
def test_batch_norm_keeps_running_statistics_and_uses_them(spatial: bool) -> None:
    shape, axes = ((8, 3, 2, 2), (0, 2, 3)) if spatial else ((8, 3), 0)
    forward = spatial_batchnorm_forward if spatial else batchnorm_forward
    gamma, beta = np.array([1.0, 2, 3]), np.array([0.5, 0, -1])
    param: dict[str, Any] = {"mode": "train"}
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(3):
        (x,) = draw(shape, seed=seed)
        forward(x, gamma, beta, param)
        mean, variance = 0.9 * mean + 0.1 * x.mean(axis=axes), 0.9 * variance + 0.1 * x.var(axis=axes)
    assert normwise(param["running_mean"], mean) < 1e-13
    assert normwise(param["running_var"], variance) < 1e-13
    param["mode"] = "test"
    before = dict(param)
    (x,) = draw(shape, seed=9)
    out, _ = forward(x, gamma, beta, param)
    room = (slice(None),) + (None,) * (x.ndim - 2)
    wanted = (x - mean[room]) / np.sqrt(variance[room] + 1e-5) * gamma[room] + beta[room]
    assert normwise(out, wanted) < 1e-12
    assert all(param[name] is before[name] for name in before)


def test_dropout_keeps_p_scales_forward_and_does_nothing_in_test() -> None:
    x = np.full((200, 500), 3.0)
    out, cache = dropout_forward(x, {"mode": "train", "p": 0.7, "seed": 0})
    assert set(np.unique(out)) == {0.0, 3 / 0.7}
    assert abs(float((out > 0).mean()) - 0.7) < 0.01
    assert np.array_equal(dropout_backward(x, cache), out)  # B4
    assert not np.array_equal(dropout_forward(x, {"mode": "train", "p": 0.7})[0], out)  # no seed: another mask
    out, cache = dropout_forward(x, {"mode": "test", "p": 0.7})
    assert np.array_equal(out, x)
    assert np.array_equal(dropout_backward(x, cache), x)
    assert np.array_equal(dropout_forward(x, {"mode": "train", "p": 1})[0], x)


def test_relu_leaves_the_gradient_that_it_is_given_alone() -> None:
    """B15."""
    x, dout = np.array([[-1.0, 2.0]]), np.array([[5.0, 7.0]])
    assert relu_backward(dout, relu_forward(x)[1]).tolist() == [[0.0, 7.0]]
    assert dout.tolist() == [[5.0, 7.0]]


def test_overlapping_windows_add_and_a_tie_counts_once() -> None:
    """B10."""
    x = np.ones((1, 1, 4, 5))
    out, cache = max_pool_forward_naive(x, {"pool_height": 3, "pool_width": 2, "stride": 1})
    (dout,) = draw(out.shape)
    assert max_pool_backward_naive(dout, cache).sum() == pytest.approx(dout.sum(), rel=1e-12)


# Losses


@pytest.mark.parametrize("loss", [svm_loss, softmax_loss])
def test_losses_are_means_and_their_gradients_slopes(loss: Callable[..., tuple[float, Array]]) -> None:
    (x,), y = draw((6, 4)), np.array([0, 3, 1, 1, 2, 0])
    value, dx = loss(x, y)
    assert type(value) is float
    assert dx.flags.c_contiguous
    wanted = np.empty_like(x)
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += 1e-6
        behind[place] -= 1e-6
        wanted[place] = (loss(ahead, y)[0] - loss(behind, y)[0]) / 2e-6
    assert normwise(dx, wanted) < 1e-8


def test_losses_by_hand() -> None:
    assert svm_loss(np.array([[3.0, 5.0, 2.5]]), np.array([0]))[0] == 3.5  # (5 - 3 + 1) + (2.5 - 3 + 1)
    assert softmax_loss(np.zeros((2, 10)), np.array([1, 2]))[0] == pytest.approx(np.log(10))
    assert softmax_loss(np.array([[1000.0, 0.0, -1000.0]]), np.array([2]))[0] == 2000.0  # B11


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: conv_forward_naive(x, w, np.zeros(4), {"stride": 1}), "conv_param: expected pad, got stride"),
        (
            lambda x, w: conv_forward_naive(x, w, np.zeros(4), {"stride": 1, "padding": 1}),
            "conv_param: expected stride, pad, got 'padding'; did you mean 'pad'?",
        ),
        (
            lambda x, _: max_pool_forward_naive(x, {"pool_height": 2, "pool_with": 2, "stride": 2}),
            "pool_param: expected pool_height, pool_width, stride, got 'pool_with'; did you mean 'pool_width'?",
        ),
        (
            lambda x, _: spatial_batchnorm_forward(x, np.ones(2), np.ones(2), {"mode": "eval"}),
            "bn_param mode: expected one of train, test, got 'eval'",
        ),
        (lambda x, _: spatial_batchnorm_forward(x, np.ones(2), np.ones(2), {}), "bn_param: expected mode, got nothing"),
        (lambda x, _: dropout_forward(x, {"mode": "train", "p": 0.0}), "dropout_param: expected p in (0, 1], got 0.0"),
        (lambda x, _: dropout_forward(x, {"mode": "train"}), "dropout_param: expected p, got mode"),
    ],
)
def test_errors(call: Callable[[Array, Array], Any], message: str) -> None:
    x, w, _ = PAIRS["conv_NAME_naive"][0]
    with pytest.raises(ConfigError) as caught:
        call(x, w)
    assert str(caught.value) == message


def test_errors_of_the_operations_reach_the_caller() -> None:
    with pytest.raises(ShapeError, match=r"^linear: expected x of shape"):
        affine_forward(np.ones((2, 3)), np.ones((4, 5)), np.ones(5))
    with pytest.raises(LabelError, match=r"^hinge: expected targets in 0\.\.2, got 3"):
        svm_loss(np.ones((1, 3)), np.array([3]))
    _, cache = affine_forward(np.ones((2, 4)), np.ones((4, 5)), np.ones(5))
    with pytest.raises(ShapeError, match=r"^linear_backward: expected dy of shape \(2, 5\)"):
        affine_backward(np.ones((2, 4)), cache)
