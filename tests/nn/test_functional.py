"""The op pairs: what they compute, what they refuse, and that they touch nothing of the caller's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet import kernels, layout
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F

rng = np.random.default_rng  # with a seed, everywhere below


def arrays(seed: int, *shapes: tuple[int, ...], dtype: Any = np.float64) -> list[Array]:
    return [rng((seed, i)).standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)]


def given(channels: int) -> tuple[Array, Array]:
    """Statistics for batch_norm."""
    return rng(20).standard_normal(channels), rng(21).uniform(0.5, 2, channels)


# Each op as (shapes of its arrays, forward, backward); the backward gives all gradients as a list.
Op = tuple[list[tuple[int, ...]], Callable[..., tuple[Array, Any]], Callable[[Array, Any], Any]]
OPS: dict[str, Op] = {
    "conv2d": (
        [(3, 4, 6, 5), (6, 2, 3, 2), (6,)],
        lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=((1, 0), (0, 2)), groups=2),
        F.conv2d_backward,
    ),
    "conv2d-bare": ([(3, 2, 4, 5), (3, 2, 1, 1)], F.conv2d, F.conv2d_backward),
    "max_pool2d": ([(3, 2, 6, 5)], lambda x: F.max_pool2d(x, 3, stride=2, padding=1), F.max_pool2d_backward),
    "max_pool2d-1x1": ([(3, 2, 4, 5)], lambda x: F.max_pool2d(x, 1), F.max_pool2d_backward),
    "max_pool2d-ceil": ([(3, 2, 6, 5)], lambda x: F.max_pool2d(x, 2, stride=3, ceil_mode=True), F.max_pool2d_backward),
    "avg_pool2d": (
        [(3, 2, 6, 5)],
        lambda x: F.avg_pool2d(x, 3, stride=2, padding=((1, 0), (2, 1)), ceil_mode=True, count_include_pad=False),
        F.avg_pool2d_backward,
    ),
    "avg_pool2d-1x1": ([(3, 2, 4, 5)], lambda x: F.avg_pool2d(x, 1), F.avg_pool2d_backward),
    "global_avg_pool2d": ([(3, 2, 4, 5)], F.global_avg_pool2d, F.avg_pool2d_backward),
    "batch_norm": ([(3, 2, 4, 5), (2,), (2,)], F.batch_norm, F.batch_norm_backward),
    "batch_norm-given": (
        [(3, 2, 4, 5), (2,), (2,)],
        lambda x, w, b: F.batch_norm(x, w, b, given(2)),
        F.batch_norm_backward,
    ),
    "linear": ([(5, 4), (3, 4), (3,)], F.linear, F.linear_backward),
    "linear-bare": ([(5, 4), (3, 4)], F.linear, F.linear_backward),
    "relu": ([(3, 2, 4, 5)], F.relu, F.relu_backward),
    "leaky_relu": ([(3, 2, 4, 5)], F.leaky_relu, F.leaky_relu_backward),
    "tanh": ([(3, 2, 4, 5)], F.tanh, F.tanh_backward),
    "sigmoid": ([(3, 7)], F.sigmoid, F.sigmoid_backward),
    "flatten": ([(3, 2, 4, 5)], F.flatten, F.flatten_backward),
    "softmax": ([(3, 7)], F.softmax, F.softmax_backward),
    "softmax-4d": ([(3, 4, 2, 5)], F.softmax, F.softmax_backward),
    "log_softmax": ([(3, 7)], F.log_softmax, F.log_softmax_backward),
    "log_softmax-4d": ([(3, 4, 2, 5)], F.log_softmax, F.log_softmax_backward),
    "dropout": ([(3, 2, 4, 5)], lambda x: F.dropout(x, 0.4, rng(1)), F.dropout_backward),
    "dropout-0": ([(3, 7)], lambda x: F.dropout(x, 0.0, rng(1)), F.dropout_backward),
    "dropout2d": ([(3, 2, 4, 5)], lambda x: F.dropout2d(x, 0.4, rng(1)), F.dropout_backward),
}
BATCH_INNERMOST = ("conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool2d", "batch_norm", "linear")
FOUR_AXES = ("conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool2d", "batch_norm", "dropout2d", "linear")
every_op = pytest.mark.parametrize("op", OPS)


def as_list(gradients: Any) -> list[Array]:
    return [g for g in (gradients if isinstance(gradients, tuple) else (gradients,)) if g is not None]


def owned(saved: Any) -> list[Array]:
    """The arrays inside what a forward saved."""
    return [a for a in (saved if isinstance(saved, tuple) else (saved,)) if isinstance(a, np.ndarray)]


@every_op
@pytest.mark.promise("B9", "B16")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", LAYOUTS)
def test_memory_order_changes_nothing_and_the_type_stays(op: str, dtype: Any, order: str) -> None:
    shapes, forward, backward = OPS[op]
    plain = arrays(1, *shapes, dtype=dtype)
    inputs = [LAYOUTS[order](a) for a in plain]
    y, saved = forward(*inputs)
    wanted, wanted_saved = forward(*plain)
    dy = rng(2).standard_normal(y.shape).astype(dtype)
    found = [y, *as_list(backward(LAYOUTS[order](dy), saved))]
    for a, b in zip(found, [wanted, *as_list(backward(dy, wanted_saved))], strict=True):
        assert a.dtype == dtype
        assert normwise(a, b) <= (1e-13 if dtype is np.float64 else 1e-5)
    for gradient, given in zip(found[1:], plain, strict=True):
        assert gradient.shape == given.shape  # also B9: padding is cropped; B16: the bias stays (K,)
    if op.split("-")[0] in BATCH_INNERMOST:
        assert layout.inner(found[0]).flags.c_contiguous
        assert layout.inner(found[1]).flags.c_contiguous


@every_op
@pytest.mark.promise("B15", "G6")
@pytest.mark.parametrize("order", LAYOUTS)
def test_b15_the_callers_arrays_stay_as_they_are(op: str, order: str) -> None:
    shapes, forward, backward = OPS[op]
    inputs = [LAYOUTS[order](a) for a in arrays(3, *shapes)]
    for a in inputs:
        a.flags.writeable = False
    before = [hashlib.sha256(a.tobytes()).digest() for a in inputs]
    y, saved = forward(*inputs)
    dy = LAYOUTS[order](rng(4).standard_normal(y.shape))
    dy.flags.writeable = False
    first = as_list(backward(dy, saved))
    assert [hashlib.sha256(a.tobytes()).digest() for a in inputs] == before
    if op == "flatten":
        return  # its results are views by design, and it saves no array
    hidden = [a for a in owned(saved) if not any(a is given for given in inputs)]
    for result in [y, *first]:
        assert not any(np.shares_memory(result, a) for a in [*hidden, *inputs, dy])
        assert result.flags.writeable
    kept = [np.copy(gradient) for gradient in first]
    for result in [y, *first]:
        result[...] = 17  # what a caller does with results must not reach a later backward
    for a, b in zip(as_list(backward(dy, saved)), kept, strict=True):
        assert np.array_equal(a, b)


@every_op
@pytest.mark.promise("P02")
def test_types_that_are_refused(op: str) -> None:
    shapes, forward, backward = OPS[op]
    good = arrays(5, *shapes)
    for i in range(len(good)):
        for dtype in ["i4", "u1", "f2", "c16", "O", "U3", "?", "M8[s]", np.dtype("f8").newbyteorder(), np.longdouble]:
            bad = [*good]
            bad[i] = np.zeros(good[i].shape, dtype)
            with pytest.raises(ShapeError, match=r"expected \w+ of dtype float32 or float64, got .*; use \w+\.astype"):
                forward(*bad)
        if len(good) > 1:
            bad = [*good]
            bad[i] = good[i].astype(np.float32)
            with pytest.raises(ShapeError, match=r"one dtype.*float"):
                forward(*bad)
    y, saved = forward(*good)
    others = [] if op in ("relu", "flatten") else [y.astype(np.float32)]  # what these save has no type
    for wrong in *others, y.astype(int), y.astype(">f8"):
        with pytest.raises(ShapeError, match=r"_backward: expected .*dtype.*"):
            backward(wrong, saved)


@every_op
@pytest.mark.promise("P02")
def test_shapes_that_are_refused(op: str) -> None:
    shapes, forward, backward = OPS[op]
    name = op.split("-")[0]
    good = arrays(6, *shapes)
    with pytest.raises(ShapeError, match=rf"^{name}: expected \w+ of shape \(.*\), got \(\)$"):
        forward(np.float64(1) * np.ones(()), *good[1:])
    if name in FOUR_AXES:  # linear has two
        for bad in good[0][0], good[0][None]:
            with pytest.raises(ShapeError, match=rf"^{name}: expected x of shape \(N, .*\), got "):
                forward(bad, *good[1:])
    y, saved = forward(*good)
    for bad in y[1:], y[None], y[..., :-1], np.zeros((0, *y.shape[1:])), np.zeros(()):
        with pytest.raises(ShapeError, match=rf"^{backward.__name__}: expected dy of shape \(.*\), got "):
            backward(bad, saved)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(2, 1, 28, 28), (32, 3, 7, 7)], {}, r"^conv2d: expected x of shape \(N, 3, H, W\), got \(2, 1, 28, 28\)$"),
        ([(2, 3, 8, 8), (4, 1, 3, 3)], {"groups": 2}, r"expected x of shape \(N, 2, H, W\), got \(2, 3, 8, 8\)$"),
        ([(2, 2, 8, 8), (3, 1, 3, 3)], {"groups": 2}, r"groups=2.*3"),
        ([(2, 2, 8, 8), (3, 2, 3)], {}, r"expected weight of shape \(.*\), got \(3, 2, 3\)$"),
        ([(2, 2, 8, 8), ()], {}, r"expected weight of shape \(.*\), got \(\)$"),
        ([(2, 2, 8, 8), (3, 2, 3, 3), (4,)], {}, r"expected bias of shape \(3\), got \(4,\)$"),
        ([(2, 2, 8, 8), (3, 2, 3, 3), (3, 1)], {}, r"expected bias of shape \(3\), got \(3, 1\)$"),
        ([(2, 2, 2, 8), (3, 2, 3, 3)], {}, r"expected an image of at least 3x3 .* got 2x8"),
        ([(2, 2, 8, 8), (0, 2, 3, 3)], {}, r"expected weight"),
        ([(2, 0, 8, 8), (3, 0, 3, 3)], {}, r"expected weight"),
        ([(2, 2, 8, 8), (3, 2, 0, 3)], {}, r"expected weight"),
        ([(2, 2, 0, 8), (3, 2, 3, 3)], {"padding": 2}, r"got 0x8"),
    ],
)
def test_conv2d_shapes_that_are_refused(shapes: Any, options: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        F.conv2d(*arrays(7, *shapes), **options)


@pytest.mark.promise("P01")
def test_arguments_that_are_refused() -> None:
    x, weight = arrays(8, (2, 2, 8, 8), (2, 2, 3, 3))
    for name in "stride", "dilation", "groups", "padding":
        for value in -1, 1.5, "1", None, True:
            with pytest.raises(ConfigError, match=f"^conv2d: expected {name} .*, got "):
                F.conv2d(x, weight, **{name: value})
    for pool in F.max_pool2d, F.avg_pool2d:
        for value in 0, -2, 2.0, (2, 0), None, "2":
            with pytest.raises(ConfigError, match=f"^{pool.__name__}: expected kernel_size .*, got "):
                pool(x, value)
        for value in 0, -1, 1.5, True, (1, 0), "1":
            with pytest.raises(ConfigError, match=f"^{pool.__name__}: expected stride .*, got "):
                pool(x, 2, stride=value)
        with pytest.raises(
            ConfigError, match=f"^{pool.__name__}: expected padding smaller than the window's 2x2, got "
        ):
            pool(x, 2, padding=2)
        for value in 0, 1, None, "yes":
            with pytest.raises(ConfigError, match=f"^{pool.__name__}: expected ceil_mode to be True or False, got "):
                pool(x, 2, ceil_mode=value)
    with pytest.raises(ConfigError, match=r"^avg_pool2d: expected count_include_pad to be True or False, got 0$"):
        F.avg_pool2d(x, 2, count_include_pad=0)
    for drop in F.dropout, F.dropout2d:
        for p in 1, 1.5, -0.1, float("nan"), "half", None:
            with pytest.raises(ConfigError, match=rf"^{drop.__name__}: expected p .*\[0, 1\), got "):
                drop(x, p, rng(0))
    for slope in -0.1, float("nan"), float("inf"), "0.1", None, True:
        with pytest.raises(ConfigError, match=r"^leaky_relu: expected negative_slope .*>= 0, got "):
            F.leaky_relu(x, slope)
    for eps in 0, 0.0, -1e-5, float("nan"), float("inf"), "1e-5", None, True:
        with pytest.raises(ConfigError, match=r"^batch_norm: expected eps .*, got "):
            F.batch_norm(x, np.ones(2), np.zeros(2), eps=eps)


def test_linear_shapes_that_are_refused() -> None:
    x, weight, bias = arrays(9, (5, 4), (3, 4), (4,))
    with pytest.raises(ShapeError, match=r"^linear: expected x of shape \(N, 4\), got \(5, 3\)$"):
        F.linear(x[:, 1:], weight)
    with pytest.raises(ShapeError, match=r"^linear: expected weight of shape \(K, D\), got \(3,\)$"):
        F.linear(x, weight[:, 0])
    with pytest.raises(ShapeError, match=r"^linear: expected bias of shape \(3\), got \(4,\)$"):
        F.linear(x, weight, bias)


@pytest.mark.promise("P02")
def test_nothing_has_no_mean_and_no_softmax() -> None:
    for function in F.softmax, F.log_softmax:
        with pytest.raises(
            ShapeError, match=rf"^{function.__name__}: expected x with at least one class, got \(3, 0\)$"
        ):
            function(np.zeros((3, 0)))
    for shape in (2, 3, 0, 4), (2, 3, 4, 0):
        with pytest.raises(ShapeError, match=r"^global_avg_pool2d: expected images of at least one pixel, got x \(2"):
            F.global_avg_pool2d(np.zeros(shape))


@pytest.mark.promise("P02")
def test_batch_norm_shapes_that_are_refused() -> None:
    x, weight, bias = arrays(22, (2, 3, 4, 5), (3,), (3,))
    for bad, message in (
        ((x, x, bias), r"weight of shape \(C\), got \(2, 3, 4, 5\)"),
        ((x, weight[1:], bias), r"x of shape \(N, 2, H, W\), got \(2, 3, 4, 5\)"),
        ((x, weight, bias[None]), r"bias of shape \(3\), got \(1, 3\)"),
    ):
        with pytest.raises(ShapeError, match=f"^batch_norm: expected {message}$"):
            F.batch_norm(*bad)
    for name, bad in ("mean", (bias[1:], bias)), ("variance", (bias, bias[None])):
        with pytest.raises(ShapeError, match=rf"^batch_norm: expected {name} of shape \(3\), got "):
            F.batch_norm(x, weight, bias, bad)


# --- what is computed


@pytest.mark.promise("B7", "P04")
def test_b07_stride_and_padding_are_not_ignored() -> None:
    (x, weight) = arrays(10, (1, 1, 9, 9), (1, 1, 2, 2))
    full, _ = F.conv2d(x, weight, padding=1)
    for stride in range(1, 6):
        y, _ = F.conv2d(x, weight, padding=1, stride=stride)
        assert np.array_equal(y, full[:, :, ::stride, ::stride])


@pytest.mark.promise("P05")
def test_odd_sizes_and_rectangles() -> None:
    x = np.arange(35.0).reshape(1, 1, 5, 7)
    assert F.max_pool2d(x, 2)[0].tolist() == [[[[8, 10, 12], [22, 24, 26]]]]  # the odd row and column stay out
    assert F.max_pool2d(x, (3, 2), stride=(2, 3))[0].tolist() == [[[[15, 18], [29, 32]]]]
    assert F.max_pool2d(x, (1, 7))[0].tolist() == [[[[6], [13], [20], [27], [34]]]]
    y, _ = F.conv2d(x, np.ones((1, 1, 2, 3)), stride=(3, 2))
    assert y.tolist() == [[[[27.0, 39, 51], [153, 165, 177]]]]


def test_same_padding_of_conv2d() -> None:
    x, weight = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 4))
    assert F.conv2d(x, weight, padding="same")[0].tolist() == [[[[6.0, 8, 6, 4]] * 3 + [[3, 4, 3, 2]]]]


@pytest.mark.promise("B2")
def test_b02_channels_are_not_rotated() -> None:
    """dx of a single cotangent is the kernel itself, unrotated, in its place."""
    weight = rng(11).standard_normal((3, 2, 2, 3))
    x = np.zeros((1, 2, 4, 5))
    y, saved = F.conv2d(x, weight)
    for k, p, q in np.ndindex(y.shape[1:]):
        dy = np.zeros_like(y)
        dy[0, k, p, q] = 1
        wanted = np.zeros_like(x)
        wanted[0, :, p : p + 2, q : q + 3] = weight[k]
        assert np.array_equal(F.conv2d_backward(dy, saved)[0], wanted)


@pytest.mark.promise("B13")
def test_b13_the_gradients_of_a_dense_layer_with_three_different_sizes() -> None:
    x, weight, dy = arrays(23, (5, 4), (3, 4), (5, 3))
    dx, dweight, _ = F.linear_backward(dy, F.linear(x, weight)[1])
    assert dx is not None
    assert normwise(dx, np.einsum("nk,kd->nd", dy, weight)) < 1e-15
    assert normwise(dweight, np.einsum("nk,nd->kd", dy, x)) < 1e-15


@pytest.mark.promise("B10", "G2")
@pytest.mark.parametrize("name", ["loops", "im2col", "batchlast"])
def test_b10_ties_give_the_whole_gradient_to_the_first_maximum(name: str) -> None:
    for seed in range(1000 if name == "im2col" else 30):
        draw = rng(seed)
        kernel = tuple(draw.integers(1, 4, 2).tolist())
        stride = tuple(draw.integers(1, 4, 2).tolist())
        padding = tuple((int(draw.integers(0, k)), int(draw.integers(0, k))) for k in kernel)
        x = draw.integers(0, 2, (2, 2, *draw.integers(3, 8, 2))).astype(float)
        ceil_mode = bool(draw.integers(2))
        with kernels.use(name):
            y, saved = F.max_pool2d(x, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        dy = draw.integers(-9, 10, y.shape).astype(float)
        wanted = np.zeros_like(x)
        for n, c, p, q in np.ndindex(y.shape):
            top, left = p * stride[0] - padding[0][0], q * stride[1] - padding[1][0]
            h, w = slice(max(top, 0), top + kernel[0]), slice(max(left, 0), left + kernel[1])
            inside = x[n, c, h, w]
            r, s = np.unravel_index(inside.argmax(), inside.shape)  # argmax: the first, row by row
            wanted[n, c, h.start + r, w.start + s] += dy[n, c, p, q]
            assert y[n, c, p, q] == inside.max()
        dx = F.max_pool2d_backward(dy, saved)
        assert np.array_equal(dx, wanted), (seed, kernel, stride, padding, ceil_mode)
        assert dx.sum() == dy.sum()


@pytest.mark.promise("B4", "G8")
@pytest.mark.parametrize("drop", [F.dropout, F.dropout2d])
def test_b04_the_mean_over_masks_is_the_input(drop: Any) -> None:
    shape = (4, 6) if drop is F.dropout else (3, 4, 1, 2)
    for p in 0.1, 0.5, 0.9:
        x, draw, masks = rng(14).standard_normal(shape) + 3, rng(15), 10_000
        total, gradient = np.zeros_like(x), np.zeros_like(x)
        for _ in range(masks):
            y, mask = drop(x, p, draw)
            total += y
            gradient += F.dropout_backward(x, mask)
            assert set(np.unique(mask)) <= {0.0, 1 / (1 - p)}
        sigma = np.abs(x) * np.sqrt(p / (1 - p) / masks)
        assert (np.abs(total / masks - x) < 4 * sigma).all()
        assert np.array_equal(total, gradient)  # backward scales as forward does


def test_the_dropout_mask_does_not_depend_on_type_or_memory_order() -> None:
    x = rng(16).standard_normal((8, 3, 4, 5))
    for drop in F.dropout, F.dropout2d:
        masks = [drop(LAYOUTS[order](x), 0.5, rng(0))[1] != 0 for order in LAYOUTS]
        masks.append(drop(x.astype(np.float32), 0.5, rng(0))[1] != 0)
        assert all(np.array_equal(mask, masks[0]) for mask in masks)


def test_dropout2d_drops_whole_channels() -> None:
    y, mask = F.dropout2d(np.ones((50, 20, 3, 2)), 0.25, rng(24))
    kept = y[:, :, 0, 0] != 0
    assert np.array_equal(y, np.broadcast_to(kept[:, :, None, None] / 0.75, y.shape))
    assert np.array_equal(F.dropout_backward(np.ones(y.shape), mask), y)
    assert 0.7 < kept.mean() < 0.8
    assert len({row.tobytes() for row in kept}) > 40  # each image has its own


@pytest.mark.promise("P02")
@every_op
def test_no_images_give_no_results(op: str) -> None:
    shapes, forward, backward = OPS[op]
    first, *others = arrays(17, *shapes)
    if op == "batch_norm":
        with pytest.raises(ShapeError, match=r"^batch_norm: expected more than one value a channel .*, got x \(0, 2"):
            forward(first[:0], *others)
        return
    y, saved = forward(first[:0], *others)
    assert y.shape == (0, *forward(first, *others)[0].shape[1:])
    gradients = as_list(backward(y, saved))
    assert [g.shape for g in gradients] == [(0, *first.shape[1:]), *(a.shape for a in others)]
    assert not any(g.any() for g in gradients)


def test_a_backward_stays_with_the_backend_of_its_forward() -> None:
    class Backend:
        """Answers with what no other backend would."""

        conv2d_backward = linear_backward = staticmethod(lambda *arguments: ("dx", "dweight"))
        max_pool2d_backward = avg_pool2d_backward = staticmethod(lambda *arguments: "dx")
        batch_norm_backward = staticmethod(lambda *arguments: "dx")
        channel_sums = staticmethod(lambda *arguments: np.zeros((2, 2)))

    both, one = ("dx", "dweight"), "dx"
    ops: Any = {"conv2d": both, "linear": both, "max_pool2d": one, "avg_pool2d": one, "batch_norm": (one,)}
    for op, answer in ops.items():
        shapes, forward, backward = OPS[op]
        y, saved = forward(*arrays(18, *shapes))
        assert saved.backend is kernels.get("auto")
        with kernels.use("loops"):
            assert forward(*arrays(18, *shapes))[1].backend is kernels.get("loops")
        found = backward(y, saved._replace(backend=Backend))
        assert found[: len(answer)] == answer


def test_dx_is_left_out_on_demand() -> None:
    for op, forward, backward in ("conv2d-bare", F.conv2d, F.conv2d_backward), ("linear", F.linear, F.linear_backward):
        y, saved = forward(*arrays(19, *OPS[op][0]))
        with_dx, without = backward(y, saved), backward(y, saved, need_dx=False)
        assert without[0] is None
        assert np.array_equal(without[1], with_dx[1])
