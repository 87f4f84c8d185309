"""Batch normalisation: the formulas, one worker or several, and what is too little to learn from."""

from __future__ import annotations

import threading
from copy import deepcopy

import numpy as np
import pytest

from helpers import LAYOUTS, Together, normwise, together
from stridenet import kernels
from stridenet.communicator import Communicator
from stridenet.errors import ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.layers import Conv2d
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Sequential

rng = np.random.default_rng


def example(seed: int, *shape: int) -> tuple[Array, Array, Array, Array]:
    """x, weight, bias and dy."""
    draw = rng(seed)
    x, dy = (draw.standard_normal(shape) for _ in range(2))
    return 3 + 2 * x, draw.uniform(0.5, 2, shape[1]), draw.standard_normal(shape[1]), dy


@pytest.mark.parametrize("name", ["loops", "im2col"])
def test_forward_and_backward_by_the_formulas(name: str) -> None:
    """As Ioffe and Szegedy 2015 print them, term by term."""
    x, weight, bias, dy = example(0, 4, 3, 5, 2)
    with kernels.use(name):
        y, saved = F.batch_norm(x, weight, bias, eps=1e-3)
        dx, dweight, dbias = F.batch_norm_backward(dy, saved)
    for c in range(3):
        values, m = x[:, c], 40
        mean, variance = values.sum() / m, ((values - values.mean()) ** 2).sum() / m
        hat = (values - mean) / np.sqrt(variance + 1e-3)
        assert normwise(y[:, c], weight[c] * hat + bias[c]) < 1e-14
        assert (saved.statistics.mean[c], saved.statistics.variance[c]) == (
            pytest.approx(mean),
            pytest.approx(variance),
        )
        dhat = dy[:, c] * weight[c]
        dvariance = (dhat * (values - mean)).sum() * -0.5 * (variance + 1e-3) ** -1.5
        dmean = -dhat.sum() / np.sqrt(variance + 1e-3) - dvariance * 2 * (values - mean).sum() / m
        wanted = dhat / np.sqrt(variance + 1e-3) + dvariance * 2 * (values - mean) / m + dmean / m
        assert normwise(dx[:, c], wanted) < 1e-13
        assert dweight[c] == pytest.approx((dy[:, c] * hat).sum())
        assert dbias[c] == pytest.approx(dy[:, c].sum())


def test_given_statistics_are_constants() -> None:
    x, weight, bias, dy = example(1, 4, 3, 5, 2)
    mean, variance = np.arange(3.0), np.array([0.5, 1, 2])
    y, saved = F.batch_norm(x, weight, bias, (mean, variance), eps=1e-3)
    scale = (weight / np.sqrt(variance + 1e-3))[:, None, None]
    assert normwise(y, (x - mean[:, None, None]) * scale + bias[:, None, None]) < 1e-15
    assert normwise(F.batch_norm_backward(dy, saved)[0], dy * scale) < 1e-15
    assert saved.statistics.pixels == 0


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("offset", [0, 100, 10_000])
def test_float32_far_from_zero_is_as_good_as_its_input(order: str, offset: int) -> None:
    """The sums are float64 and the mean is taken off first: only what x itself has lost is lost."""
    x, weight, bias, _ = example(2, 16, 3, 8, 8)
    x32 = LAYOUTS[order]((x + offset).astype(np.float32))
    wanted = F.batch_norm(x32.astype(np.float64), weight, bias)[0]
    found, saved = F.batch_norm(x32, *(v.astype(np.float32) for v in (weight, bias)))
    assert found.dtype == np.float32
    assert saved.statistics.mean.dtype == saved.statistics.variance.dtype == np.float64
    assert normwise(found, wanted) < 1e-6 + offset * 1e-7


@pytest.mark.promise("B14")
def test_b14_one_image_is_enough_and_one_number_is_not() -> None:
    x, weight, bias, dy = example(3, 1, 2, 1, 2)
    y, saved = F.batch_norm(x, weight, bias, eps=1e-12)
    sign = np.sign(x - x.mean(axis=3, keepdims=True))
    assert normwise(y, weight[:, None, None] * sign + bias[:, None, None]) < 1e-9  # two numbers: -1 and 1
    assert np.abs(F.batch_norm_backward(dy, saved)[0]).max() < 1e-9  # wherever they are
    for shape in (1, 2, 1, 1), (0, 2, 3, 3), (3, 2, 0, 3):
        x = np.ones(shape)
        with pytest.raises(ShapeError) as caught:
            F.batch_norm(x, weight, bias)
        assert str(caught.value) == f"batch_norm: expected more than one value a channel to train on, got x {shape}"
        assert F.batch_norm(x, weight, bias, (bias, weight))[0].shape == shape


def test_a_constant_channel_gives_its_bias() -> None:
    y, saved = F.batch_norm(np.full((4, 1, 2, 2), 7.0), np.ones(1), np.full(1, 0.25))
    assert (y == 0.25).all()
    dx, dweight, _ = F.batch_norm_backward(rng(4).standard_normal(y.shape), saved)
    assert np.isfinite(dx).all()
    assert dweight[0] == 0


# --- several workers


@pytest.mark.parametrize("cuts", [[6], [1], [3, 7], [0], [5, 5]])
def test_several_workers_do_as_one_with_the_whole_batch(cuts: list[int]) -> None:
    """Halves, uneven parts, and a worker without an image."""
    x, weight, bias, dy = example(5, 12, 3, 2, 3)
    parts, gradients = np.split(x, cuts), np.split(dy, cuts)

    def work(comm: Communicator) -> tuple[Array, ...]:
        y, saved = F.batch_norm(parts[comm.rank], weight, bias, comm=comm)
        return y, *F.batch_norm_backward(gradients[comm.rank], saved), saved.statistics.mean, saved.statistics.variance

    results = together(len(parts), work)
    assert not any(isinstance(result, Exception) for result in results), results
    y, saved = F.batch_norm(x, weight, bias)
    dx, dweight, dbias = F.batch_norm_backward(dy, saved)
    ys, dxs, dweights, dbiases, means, variances = zip(*results, strict=True)
    assert normwise(np.concatenate(ys), y) < 1e-12
    assert normwise(np.concatenate(dxs), dx) < 1e-12
    assert normwise(sum(dweights), dweight) < 1e-12  # each worker has its own share
    assert normwise(sum(dbiases), dbias) < 1e-12
    for mean, variance in zip(means, variances, strict=True):
        assert normwise(mean, saved.statistics.mean) < 1e-12
        assert normwise(variance, saved.statistics.variance) < 1e-12


def test_workers_with_too_little_all_stop() -> None:
    one, none = np.ones((1, 2, 1, 1)), np.ones((0, 2, 1, 1))
    vectors = np.ones(2), np.zeros(2)
    results = together(2, lambda comm: F.batch_norm((one, none)[comm.rank], *vectors, comm=comm))
    assert [type(result) for result in results] == [ShapeError, ShapeError]
    results = together(2, lambda comm: F.batch_norm(one, *vectors, comm=comm)[0].shape)
    assert results == [(1, 2, 1, 1)] * 2  # two numbers in all are enough


def network() -> Sequential:
    draw = rng(6)
    return Sequential(
        *(Conv2d(1, 3, 3, rng=draw), BatchNorm2d(3), Conv2d(3, 2, 3, rng=draw), Sequential(BatchNorm2d(2)))
    ).astype(np.float64)


def test_connected_networks_learn_as_one() -> None:
    """The mean of their gradients, as the Trainer takes it, and the running statistics are those of one network."""
    x, dy = rng(7).standard_normal((8, 1, 7, 6)), rng(8).standard_normal((8, 2, 3, 2))
    whole = network()
    params = whole.pack()
    y = whole.forward(x)
    dx = whole.backward(dy)

    def work(comm: Communicator) -> tuple[Array, ...]:
        half, part = network(), slice(4 * comm.rank, 4 * comm.rank + 4)
        half.connect(comm)
        vector = half.pack()
        found = half.forward(x[part])
        found_dx = half.backward(2 * dy[part])  # of the mean of the half
        comm.mean(vector.grad)
        assert found_dx is not None
        state = half.state_dict()
        return found, found_dx / 2, vector.grad, np.concatenate([state[name] for name in state if "running" in name])

    results = together(2, work)
    assert not any(isinstance(result, Exception) for result in results), results
    assert dx is not None
    assert normwise(np.concatenate([result[0] for result in results]), y) < 1e-12
    assert normwise(np.concatenate([result[1] for result in results]), dx) < 1e-12
    state = whole.state_dict()
    running = np.concatenate([state[name] for name in state if "running" in name])
    for _, _, gradient, own in results:
        assert normwise(gradient, params.grad) < 1e-12
        assert normwise(own, running) < 1e-12


def test_a_copy_of_a_connected_network_works_alone() -> None:
    """It is made to be saved, or tried; the way to the other workers is no part of it and may be no thing to copy."""
    net = network()
    net.connect(Together(0, [], threading.Barrier(2)))
    twin = deepcopy(net)
    alone = network()
    x = rng(9).standard_normal((8, 1, 7, 6))
    assert np.array_equal(twin.forward(x), alone.forward(x))  # waits for nobody
