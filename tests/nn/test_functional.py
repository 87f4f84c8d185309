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
    "linear": ([(5, 4), (3, 4), (3,)], F.linear, F.linear_backward),
    "linear-bare": ([(5, 4), (3, 4)], F.linear, F.linear_backward),
    "relu": ([(3, 2, 4, 5)], F.relu, F.relu_backward),
    "tanh": ([(3, 2, 4, 5)], F.tanh, F.tanh_backward),
    "sigmoid": ([(3, 7)], F.sigmoid, F.sigmoid_backward),
    "flatten": ([(3, 2, 4, 5)], F.flatten, F.flatten_backward),
    "log_softmax": ([(3, 7)], F.log_softmax, F.log_softmax_backward),
    "log_softmax-4d": ([(3, 4, 2, 5)], F.log_softmax, F.log_softmax_backward),
    "dropout": ([(3, 2, 4, 5)], lambda x: F.dropout(x, 0.4, rng(1)), F.dropout_backward),
    "dropout-0": ([(3, 7)], lambda x: F.dropout(x, 0.0, rng(1)), F.dropout_backward),
}
BATCH_INNERMOST = ("conv2d", "conv2d-bare", "max_pool2d", "max_pool2d-1x1", "linear", "linear-bare")
every_op = pytest.mark.parametrize("op", OPS)


def as_list(gradients: Any) -> list[Array]:
    return [g for g in (gradients if isinstance(gradients, tuple) else (gradients,)) if g is not None]


def owned(saved: Any) -> list[Array]:
    """The arrays inside what a forward saved."""
    return [a for a in (saved if isinstance(saved, tuple) else (saved,)) if isinstance(a, np.ndarray)]


@every_op
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
    if op in BATCH_INNERMOST:
        assert layout.inner(found[0]).flags.c_contiguous
        assert layout.inner(found[1]).flags.c_contiguous


@every_op
@pytest.mark.promise("G6")
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
    if name in ("conv2d", "max_pool2d", "linear"):
        for bad in good[0][0], good[0][None]:
            with pytest.raises(ShapeError, match=rf"^{name}: expected x of shape \(N, .*\), got "):
                forward(bad, *good[1:])
    y, saved = forward(*good)
    for bad in y[1:], y[None], y[..., :-1], np.zeros((0, *y.shape[1:])), np.zeros(()):
        with pytest.raises(ShapeError, match=rf"^{name}_backward: expected dy of shape \(.*\), got "):
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
    for value in 0, -2, 2.0, (2, 0), None, "2":
        with pytest.raises(ConfigError, match=r"^max_pool2d: expected kernel_size .*, got "):
            F.max_pool2d(x, value)
    with pytest.raises(ConfigError, match=r"^max_pool2d: expected padding smaller than the window's 2x2, got "):
        F.max_pool2d(x, 2, padding=2)
    for p in 1, 1.5, -0.1, float("nan"), "half", None:
        with pytest.raises(ConfigError, match=r"^dropout: expected p .*\[0, 1\), got "):
            F.dropout(x, p, rng(0))


def test_linear_shapes_that_are_refused() -> None:
    x, weight, bias = arrays(9, (5, 4), (3, 4), (4,))
    with pytest.raises(ShapeError, match=r"^linear: expected x of shape \(N, 4\), got \(5, 3\)$"):
        F.linear(x[:, 1:], weight)
    with pytest.raises(ShapeError, match=r"^linear: expected weight of shape \(K, D\), got \(3,\)$"):
        F.linear(x, weight[:, 0])
    with pytest.raises(ShapeError, match=r"^linear: expected bias of shape \(3\), got \(4,\)$"):
        F.linear(x, weight, bias)


def test_log_softmax_needs_a_class() -> None:
    with pytest.raises(ShapeError, match=r"^log_softmax: expected x"):
        F.log_softmax(np.zeros((3, 0)))


# --- what is computed


@pytest.mark.promise("P04")
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


@pytest.mark.promise("G2")
@pytest.mark.parametrize("name", ["loops", "im2col"])
def test_b10_ties_give_the_whole_gradient_to_the_first_maximum(name: str) -> None:
    for seed in range(1000 if name == "im2col" else 30):
        draw = rng(seed)
        kernel = tuple(draw.integers(1, 4, 2).tolist())
        stride = tuple(draw.integers(1, 4, 2).tolist())
        padding = tuple((int(draw.integers(0, k)), int(draw.integers(0, k))) for k in kernel)
        x = draw.integers(0, 2, (2, 2, *draw.integers(3, 8, 2))).astype(float)
        with kernels.use(name):
            y, saved = F.max_pool2d(x, kernel, stride=stride, padding=padding)
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
        assert np.array_equal(dx, wanted), (seed, kernel, stride, padding)
        assert dx.sum() == dy.sum()


@pytest.mark.promise("G2")
def test_relu_has_no_slope_at_zero() -> None:
    x = np.array([[-1.0, -0.0, 0.0, 5e-324, 2.0]])
    y, saved = F.relu(x)
    assert y.tolist() == [[0, 0, 0, 5e-324, 2]]
    assert F.relu_backward(np.full_like(x, 3.0), saved).tolist() == [[0, 0, 0, 3, 3]]


def test_smooth_functions_far_out() -> None:
    for dtype in np.float32, np.float64:
        x = np.array([[-1e4, -50.0, 0.0, 50.0, 1e4]], dtype)
        assert F.sigmoid(x)[0].tolist() == [[0, pytest.approx(0, abs=1e-7), 0.5, pytest.approx(1), 1]]
        assert F.tanh(x)[0].tolist() == [[-1, -1, 0, 1, 1]]
        for forward, backward in (F.sigmoid, F.sigmoid_backward), (F.tanh, F.tanh_backward):
            assert np.isfinite(backward(np.ones_like(x), forward(x)[1])).all()
    x = rng(12).standard_normal((4, 5)) * 5
    assert normwise(F.sigmoid(x)[0], 1 / (1 + np.exp(-x))) < 1e-15


def test_log_softmax_is_exact_and_shifted() -> None:
    x = np.array([[1000.0, 0.0, -1000.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]])
    log2, log3 = -float(np.log(2)), -float(np.log(3))
    assert F.log_softmax(x)[0].tolist() == [[0, -1000, -2000], [log2, log2, log2 - 2e4], [log3, log3, log3]]
    x = rng(13).standard_normal((3, 4, 2, 2))
    assert normwise(np.exp(F.log_softmax(x)[0]).sum(axis=1), np.ones((3, 2, 2))) < 1e-15


@pytest.mark.promise("G8")
def test_b04_the_mean_over_masks_is_the_input() -> None:
    for p in 0.1, 0.5, 0.9:
        x, draw, masks = rng(14).standard_normal((4, 6)) + 3, rng(15), 10_000
        total, gradient = np.zeros_like(x), np.zeros_like(x)
        for _ in range(masks):
            y, mask = F.dropout(x, p, draw)
            total += y
            gradient += F.dropout_backward(x, mask)
            assert set(np.unique(mask)) <= {0.0, 1 / (1 - p)}
        sigma = np.abs(x) * np.sqrt(p / (1 - p) / masks)
        assert (np.abs(total / masks - x) < 4 * sigma).all()
        assert np.array_equal(total, gradient)  # backward scales as forward does


def test_the_dropout_mask_does_not_depend_on_type_or_memory_order() -> None:
    x = rng(16).standard_normal((8, 3, 4, 5))
    masks = [F.dropout(LAYOUTS[order](x), 0.5, rng(0))[1] != 0 for order in LAYOUTS]
    masks.append(F.dropout(x.astype(np.float32), 0.5, rng(0))[1] != 0)
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


@pytest.mark.promise("P02")
@every_op
def test_no_images_give_no_results(op: str) -> None:
    shapes, forward, backward = OPS[op]
    first, *others = arrays(17, *shapes)
    y, saved = forward(first[:0], *others)
    assert y.shape == (0, *forward(first, *others)[0].shape[1:])
    gradients = as_list(backward(y, saved))
    assert [g.shape for g in gradients] == [(0, *first.shape[1:]), *(a.shape for a in others)]
    assert not any(g.any() for g in gradients)


def test_a_backward_stays_with_the_backend_of_its_forward() -> None:
    class Backend:
        """Answers with what no other backend would."""

        conv2d_backward = linear_backward = staticmethod(lambda *arguments: ("dx", "dweight"))
        max_pool2d_backward = staticmethod(lambda *arguments: "dx")

    for op, answer in ("conv2d", ("dx", "dweight")), ("linear", ("dx", "dweight")), ("max_pool2d", "dx"):
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
