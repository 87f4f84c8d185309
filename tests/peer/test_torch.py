"""The same numbers as PyTorch: forward and backward, float64 to 1e-10, float32 to 1e-5, ties exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.losses import cross_entropy

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

ORDERS = list(LAYOUTS)
BOUND = {np.float32: 1e-5, np.float64: 1e-10}


@pytest.fixture(scope="module")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


def tensor(torch: Any, x: Array) -> Any:
    return torch.tensor(np.ascontiguousarray(x), requires_grad=True)


def draw_conv(seed: int) -> dict[str, Any]:
    """A configuration that fits; printed whole when it fails."""
    draw = np.random.default_rng(seed)
    while True:
        groups = int(draw.choice([1, 1, 2, 4]))
        depth, per_group = (int(draw.integers(1, 8 // groups + 1)) for _ in range(2))
        config = {
            "N": int(draw.integers(0, 6)),
            "channels": (groups * depth, groups * per_group),
            "size": tuple(draw.integers(1, 18, 2).tolist()),
            "kernel": tuple(draw.integers(1, 6, 2).tolist()),
            "stride": tuple(draw.integers(1, 5, 2).tolist()),
            "padding": tuple(tuple(draw.integers(0, 4, 2).tolist()) for _ in range(2)),
            "dilation": tuple(draw.integers(1, 4, 2).tolist()),
            "groups": groups,
            "bias": bool(draw.integers(2)),
            "order": ORDERS[seed % len(ORDERS)],
        }
        reach = zip(config["size"], config["kernel"], config["dilation"], config["padding"], strict=True)
        if all(length + sum(margin) > d * (k - 1) for length, k, d, margin in reach):
            return config


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_500_convolutions(torch: Any, dtype: Any) -> None:
    for seed in range(500):
        c = draw_conv(seed)
        draw = np.random.default_rng((seed, 1))
        (C, K), move = c["channels"], LAYOUTS[c["order"]]
        x = move(draw.standard_normal((c["N"], C, *c["size"])).astype(dtype))
        weight = move(draw.standard_normal((K, C // c["groups"], *c["kernel"])).astype(dtype))
        bias = draw.standard_normal(K).astype(dtype) if c["bias"] else None
        options = {name: c[name] for name in ("stride", "dilation", "groups")}
        y, saved = F.conv2d(x, weight, bias, padding=c["padding"], **options)
        dy = move(draw.standard_normal(y.shape).astype(dtype))
        found = [y, *F.conv2d_backward(dy, saved)]

        inputs = [tensor(torch, a) for a in (x, weight)] + ([] if bias is None else [tensor(torch, bias)])
        (top, bottom), (left, right) = c["padding"]
        padded = torch.nn.functional.pad(inputs[0], (left, right, top, bottom))
        wanted = torch.nn.functional.conv2d(padded, *inputs[1:], **options)
        wanted.backward(torch.tensor(np.ascontiguousarray(dy)))
        for a, b in zip(found, [wanted, *(t.grad for t in inputs)], strict=False):
            assert normwise(a, b.detach().numpy()) <= BOUND[dtype], (seed, c)
        assert (found[3] is None) == (bias is None)


@pytest.mark.parametrize("padding", [1, (2, 0), "same"])
def test_padding_forms_mean_the_same(torch: Any, padding: Any) -> None:
    draw = np.random.default_rng(0)
    x, weight = draw.standard_normal((2, 3, 7, 6)), draw.standard_normal((4, 3, 3, 5))
    wanted = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weight), padding=padding)
    assert normwise(F.conv2d(x, weight, padding=padding)[0], wanted.numpy()) < 1e-13


@pytest.mark.promise("G2")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_300_max_poolings_exactly(torch: Any, dtype: Any) -> None:
    """Element by element, with values from {0, 1}, {-inf, 0} and the normal distribution."""
    for seed in range(300):
        draw = np.random.default_rng(seed)
        kernel = tuple(draw.integers(1, 6, 2).tolist())
        stride = tuple(draw.integers(1, 5, 2).tolist())
        padding = tuple(int(draw.integers(0, k // 2 + 1)) for k in kernel)  # torch allows half a kernel
        size = tuple(int(draw.integers(max(1, k - 2 * p), 18)) for k, p in zip(kernel, padding, strict=True))
        shape = (int(draw.integers(1, 6)), int(draw.integers(1, 5)), *size)
        values = draw.standard_normal(shape) if seed % 5 == 0 else draw.integers(0, 2, shape).astype(float)
        if seed % 5 == 1:
            values[values > 0] = -np.inf
        move = LAYOUTS[ORDERS[seed // 5 % len(ORDERS)]]
        x = move(values.astype(dtype))
        y, saved = F.max_pool2d(x, kernel, stride=stride, padding=padding)
        dy = draw.integers(-20, 21, y.shape).astype(dtype)  # integers: sums are exact in any order
        dx = F.max_pool2d_backward(move(dy), saved)
        x_torch = tensor(torch, x)
        wanted = torch.nn.functional.max_pool2d(x_torch, kernel, stride, padding)
        wanted.backward(torch.tensor(dy))
        what = (seed, shape, kernel, stride, padding)
        assert np.array_equal(y, wanted.detach().numpy()), what
        assert np.array_equal(dx, x_torch.grad.numpy()), what


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_200_linear(torch: Any, dtype: Any) -> None:
    for seed in range(200):
        draw = np.random.default_rng(seed)
        N, D, K = int(draw.integers(0, 20)), int(draw.integers(1, 40)), int(draw.integers(1, 40))
        move = LAYOUTS[ORDERS[seed % len(ORDERS)]]
        arrays = [move(draw.standard_normal(s).astype(dtype)) for s in [(N, D), (K, D), (K,)][: 2 + seed % 2]]
        y, saved = F.linear(*arrays)
        dy = move(draw.standard_normal(y.shape).astype(dtype))
        inputs = [tensor(torch, a) for a in arrays]
        wanted = torch.nn.functional.linear(*inputs)
        wanted.backward(torch.tensor(np.ascontiguousarray(dy)))
        found = [y, *F.linear_backward(dy, saved)]
        for a, b in zip(found, [wanted, *(t.grad for t in inputs)], strict=False):
            assert normwise(a, b.detach().numpy()) <= BOUND[dtype], (seed, N, D, K)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_500_cross_entropies(torch: Any, dtype: Any) -> None:
    """PyTorch weighs classes, not samples: its losses one by one are weighed here, and differentiated there."""
    for seed in range(500):
        draw = np.random.default_rng(seed)
        N, K = int(draw.integers(1, 20)), int(draw.integers(1, 30))
        scores = (draw.standard_normal((N, K)) * 10 ** draw.uniform(-1, 2)).astype(dtype)
        targets = draw.integers(0, K, N)
        weights = draw.uniform(0, 2, N).astype(dtype) if seed % 2 else None
        smoothing = float(draw.uniform(0, 0.9)) if seed % 3 else 0.0
        loss, dscores = cross_entropy(scores, targets, weights, label_smoothing=smoothing)
        x = tensor(torch, scores)
        each = torch.nn.functional.cross_entropy(x, torch.tensor(targets), reduction="none", label_smoothing=smoothing)
        shares = torch.tensor(np.ones(N, dtype) if weights is None else weights)
        wanted = (each * shares).sum() / shares.sum()
        wanted.backward()
        floor = 1e-7 if dtype is np.float32 else 1e-15
        assert loss == pytest.approx(wanted.item(), rel=BOUND[dtype], abs=floor), seed
        assert normwise(dscores, x.grad.numpy()) <= BOUND[dtype], (seed, N, K)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementwise_functions(torch: Any, dtype: Any) -> None:
    for seed in range(50):
        draw = np.random.default_rng(seed)
        x = LAYOUTS[ORDERS[seed % len(ORDERS)]]((3 * draw.standard_normal((4, 3, 5, 2))).astype(dtype))
        x.reshape(-1)[:3] = 0
        for name in "relu", "tanh", "sigmoid", "log_softmax":
            y, saved = getattr(F, name)(x)
            dy = draw.standard_normal(y.shape).astype(dtype)
            dx = getattr(F, f"{name}_backward")(dy, saved)
            x_torch = tensor(torch, x)
            wanted = torch.log_softmax(x_torch, 1) if name == "log_softmax" else getattr(torch, name)(x_torch)
            wanted.backward(torch.tensor(dy))
            assert normwise(y, wanted.detach().numpy()) <= BOUND[dtype]
            assert normwise(dx, x_torch.grad.numpy()) <= BOUND[dtype]
