"""Losses as PyTorch's, with their gradients: float64 to 1e-10, float32 to 1e-5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from stridenet.layout import Array
from stridenet.nn.losses import cross_entropy, hinge, mse

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

ORDERS = list(LAYOUTS.values())
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(scope="module")
def functional(torch: Any) -> Any:
    return torch.nn.functional


def tensor(x: Array, **options: Any) -> Any:
    import torch

    return torch.tensor(np.ascontiguousarray(x), **options)


def draw_batch(seed: int, dtype: Any) -> tuple[Array, Array, Array, Array]:
    """Scores (N, K) of any scale, classes (N,), weights of samples (N,) and of classes (K,)."""
    draw = np.random.default_rng(seed)
    N, K = int(draw.integers(1, 20)), int(draw.integers(1, 30))
    scores = (draw.standard_normal((N, K)) * 10 ** draw.uniform(-1, 2)).astype(dtype)
    weights = draw.uniform(0, 2, N), draw.uniform(0.1, 2, K)
    return ORDERS[seed % len(ORDERS)](scores), draw.integers(0, K, N), *(w.astype(dtype) for w in weights)


def check(found: tuple[float, Array], x: Any, wanted: Any, seed: int) -> None:
    """The loss and the gradient are those of `wanted`, a function of the tensor `x`."""
    loss, dscores = found
    wanted.backward()
    bound, floor = (1e-5, 1e-7) if dscores.dtype == np.float32 else (1e-10, 1e-15)
    assert loss == pytest.approx(wanted.item(), rel=bound, abs=floor), seed
    assert normwise(dscores, x.grad.numpy()) <= bound, seed


def mean(each: Any, weights: Array | None) -> Any:
    """The weighted mean of the losses of the samples: PyTorch has weights of classes alone."""
    if weights is None:
        return each.mean()
    shares = tensor(weights)
    return (each * shares).sum() / shares.sum()


@every_dtype
def test_500_cross_entropies(functional: Any, dtype: Any) -> None:
    """With and without smoothing and sample weights; class weights by PyTorch's own argument."""
    for seed in range(500):
        scores, targets, of_samples, of_classes = draw_batch(seed, dtype)
        x, y = tensor(scores, requires_grad=True), tensor(targets)
        if seed % 4 == 3:
            wanted = functional.cross_entropy(x, y, weight=tensor(of_classes))
            check(cross_entropy(scores, targets, of_classes[targets]), x, wanted, seed)
            continue
        weights = of_samples if seed % 2 else None
        smoothing = float(np.random.default_rng((seed, 1)).uniform(0, 0.9)) if seed % 3 else 0.0
        each = functional.cross_entropy(x, y, reduction="none", label_smoothing=smoothing)
        found = cross_entropy(scores, targets, weights, label_smoothing=smoothing)
        check(found, x, mean(each, weights), seed)


@every_dtype
def test_300_hinges(functional: Any, dtype: Any) -> None:
    """PyTorch divides by the number of classes; every fifth batch is of integers, with many scores at the kink."""
    for seed in range(300):
        scores, targets, of_samples, of_classes = draw_batch(seed, dtype)
        if seed % 5 == 0:
            scores = np.rint(scores).clip(-2, 2)
        margin = [1.0, 0.0, 2.5][seed % 3]
        weights = [None, of_samples, of_classes[targets]][seed // 3 % 3]
        x = tensor(scores, requires_grad=True)
        each = functional.multi_margin_loss(x, tensor(targets), margin=margin, reduction="none") * scores.shape[1]
        check(hinge(scores, targets, weights, margin=margin), x, mean(each, weights), seed)


@every_dtype
def test_300_squared_errors(functional: Any, dtype: Any) -> None:
    """Of classes, of rows of numbers, and of one number each."""
    for seed in range(300):
        scores, targets, of_samples, of_classes = draw_batch(seed, dtype)
        numbers = np.random.default_rng((seed, 1)).standard_normal(scores.shape).astype(dtype)
        weights = [None, of_samples, of_classes[targets]][seed // 3 % 3]
        given, goal = (targets, np.eye(scores.shape[1], dtype=dtype)[targets]) if seed % 3 == 0 else (numbers, numbers)
        if seed % 3 == 1:
            scores, given, goal = scores[:, :1], numbers[:, 0], numbers[:, :1]
        x = tensor(scores, requires_grad=True)
        each = functional.mse_loss(x, tensor(goal), reduction="none").mean(dim=1)
        check(mse(scores, given, weights), x, mean(each, weights), seed)
