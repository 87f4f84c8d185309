"""The wrong code of the bug museum, each in as few lines as show it: never to be used.

Every bug is from one of five reports on networks in NumPy, or from the public code behind them, written anew. Its
number is that of docs/museum.md. `tests/test_bug_museum.py` holds the check that catches it beside the right code.
"""

# ruff: noqa: ARG001  (not to read an argument is one way to be wrong)

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lab import ties
from stridenet.interop.cs231n import Solver
from stridenet.layout import Array
from stridenet.nn import functional as F
from stridenet.nn.layers import Conv2d, Linear
from stridenet.nn.losses import cross_entropy
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.nn.regularization import BatchNorm2d
from stridenet.optim.optimizers import SGD

Rng = np.random.Generator


class B01Conv2d(Conv2d):
    """Its gradients are computed and stored nowhere."""

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """dx alone."""
        dx, _dweight, _dbias = F.conv2d_backward(dy, self.take())
        return dx


def _full(dy: Array, weight: Array, margin: int) -> Array:
    """dy (N, K, P, Q) within `margin` zeros, convolved with weight (C, K, R, S): what dx is made of, stride 1."""
    return F.conv2d(dy, weight, padding=margin)[0]


def b02_dx_rotated(x: Array, weight: Array, dy: Array) -> Array:
    """The kernel is turned on the axes of its channels, not of its rows and columns."""
    return _full(dy, np.rot90(weight, 2, axes=(0, 1)).transpose(1, 0, 2, 3), weight.shape[2] - 1)


def b02_dx_padded(x: Array, weight: Array, dy: Array) -> Array:
    """Padded by F, where it is F - 1."""
    return _full(dy, weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), weight.shape[2])


def b03_zero_grad(params: ParameterVector) -> None:
    """There was none."""


def b04_dropout(x: Array, p: float, rng: Rng) -> tuple[Array, Array]:
    """Forward drops and does not scale ..."""
    mask = rng.random(x.shape) >= p
    return x * mask, mask / (1 - p)


def b04_dropout_backward(dy: Array, mask: Array) -> Array:
    """... backward does both."""
    return dy * mask


def b05_step(parameters: Mapping[str, Parameter], lr: float, decay: float) -> None:
    """The decay stands outside the learning rate, and biases have it too."""
    for parameter in parameters.values():
        parameter.value -= lr * parameter.grad + decay * parameter.value


def b06_sum_beside_mean(x: Array, weight: Array, bias: Array, targets: Array) -> tuple[float, Array, Any]:
    """The loss is a mean, its gradient a sum."""
    y, saved = F.linear(x, weight, bias)
    loss, dy = cross_entropy(y, targets)
    _, dweight, dbias = F.linear_backward(len(x) * dy, saved)
    return loss, dweight, dbias


def b06_bias_by_itself(x: Array, weight: Array, bias: Array, targets: Array) -> tuple[float, Array, Array]:
    """The gradient of the bias is a mean over the rows, that of the weights a sum."""
    y, saved = F.linear(x, weight, bias)
    loss, dy = cross_entropy(y, targets)
    return loss, F.linear_backward(dy, saved)[1], dy.mean(axis=0)


def b07_stride_ignored(x: Array, weight: Array, *, stride: int, **rest: Any) -> Array:
    """An argument that nobody reads."""
    return F.conv2d(x, weight, **rest)[0]


def b07_dx_without_zeros(x: Array, weight: Array, dy: Array, *, stride: int, **rest: Any) -> Any:
    """The way back takes dy as if the windows had stood side by side."""
    y, saved = F.conv2d(x, weight, **rest)
    dense = np.zeros_like(y)
    dense[:, :, : dy.shape[2], : dy.shape[3]] = dy  # and not [:, :, ::stride, ::stride]
    return F.conv2d_backward(dense, saved)[0]


def b08_conv2d(x: Array, weight: Array, *, stride: int) -> Array:
    """im2col whose rows are numbered by pixels, not by windows: right for stride 1."""
    (N, _, H, W), (K, _, R, S) = x.shape, weight.shape
    P, Q = (H - R) // stride + 1, (W - S) // stride + 1
    rows = np.zeros((N, P * Q, weight[0].size))
    for i in range(0, H - R + 1, stride):
        for j in range(0, W - S + 1, stride):
            rows[:, i * Q + j] = x[:, :, i : i + R, j : j + S].reshape(N, -1)
    return (rows @ weight.reshape(K, -1).T).reshape(N, P, Q, K).transpose(0, 3, 1, 2)


def b09_dx(x: Array, weight: Array, dy: Array, padding: int) -> Any:
    """The gradient of the padded image, padding and all."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return F.conv2d_backward(dy, F.conv2d(padded, weight)[1])[0]


def b10_dx_to_all(x: Array, dy: Array, k: int, stride: int) -> Array:
    """Each of several maxima takes the whole gradient."""
    return ties.backward(dy, ties.forward(x, k, stride=stride)[1], ties="all")


def b10_dx_assigned(x: Array, dy: Array, k: int, stride: int) -> Array:
    """Where windows overlap the last one wins."""
    dx = np.zeros_like(x)
    for n, c, p, q in np.ndindex(dy.shape):
        i, j = p * stride, q * stride
        r, s = divmod(int(x[n, c, i : i + k, j : j + k].argmax()), k)
        dx[n, c, i + r, j + s] = dy[n, c, p, q]  # and not +=
    return dx


def b10_dx_exchanged(x: Array, dy: Array, k: int, stride: int) -> Array:
    """An image of W rows and H columns: nothing happens while they are equal."""
    N, C, H, W = x.shape
    dx = np.zeros((N, C, W, H))
    for n, c, p, q in np.ndindex(dy.shape):
        i, j = p * stride, q * stride
        r, s = divmod(int(x[n, c, i : i + k, j : j + k].argmax()), k)
        dx[n, c, i + r, j + s] += dy[n, c, p, q]
    return dx


def b11_log_of_softmax(scores: Array, targets: Array) -> float:
    """The softmax of what is far below the maximum is 0, and its logarithm infinite."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return float(-np.log(shares[np.arange(len(scores)), targets]).mean())


def b11_500(scores: Array, targets: Array) -> float:
    """The same, with 500 in the place of infinity."""
    loss = b11_log_of_softmax(scores, targets)
    return 500.0 if np.isinf(loss) else loss


def b11_no_shift(scores: Array, targets: Array) -> float:
    """The maximum is not taken off: exp overflows."""
    exponentials = np.exp(scores)
    return float(-np.log(exponentials[np.arange(len(scores)), targets] / exponentials.sum(axis=1)).mean())


def b12_cross_entropy(scores: Array, targets: Array) -> float:
    """The network ends in a softmax, and the loss takes another."""
    return cross_entropy(F.softmax(scores)[0], targets)[0]


def b13_linear_gradients(x: Array, weight: Array, dy: Array) -> tuple[Array, Array]:
    """dweight without its transpose; x (N, D), weight (D, K): it fits if N = D."""
    return dy @ weight.T, x @ dy


def b14_batch_norm_dx(x: Array, weight: Array, dy: Array) -> Array:
    """The two means of the gradient are sums."""
    axes, room = (0, 2, 3), (slice(None), None, None)
    mean, scale = x.mean(axis=axes)[room], 1 / np.sqrt(x.var(axis=axes) + 1e-5)[room]
    xhat = (x - mean) * scale
    return weight[room] * scale * (dy - dy.sum(axis=axes)[room] - xhat * (dy * xhat).sum(axis=axes)[room])


class B14BatchNorm2d(BatchNorm2d):
    """Told once that it trains, it does so for ever."""

    def forward(self, x: Array) -> Array:
        """By the statistics of x."""
        return F.batch_norm(x, self.weight.value, self.bias.value)[0]


def b15_relu_backward(dy: Array, positive: Array) -> Array:
    """Writes into what it was given."""
    dy[~positive] = 0
    return dy


def b16_dbias(dy: Array) -> Array:
    """(1, M) for a bias of (M,)."""
    return dy.sum(axis=0, keepdims=True)


class B17Linear(Linear):
    """Learns on the way back, and then passes on a gradient by weights that no forward has seen."""

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """dx, too late."""
        self.weight.value -= 0.1 * dy.T @ self.take().x
        return dy @ self.weight.value


class B18Solver(Solver):
    """Chooses the best parameters by four images, and says nothing."""

    def __init__(self, model: Any, data: Mapping[str, Array], **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(model, data, num_val_samples=4, **options)


def b18_validation(train: Array, test: Array) -> Array:
    """The test set decides, and then is the test."""
    return test


Predict = Callable[[Array], Array]


def b19_accuracy_without_the_rest(predict: Predict, X: Array, y: Array, batch_size: int) -> float:
    """Whole batches only."""
    found = [predict(X[i * batch_size : (i + 1) * batch_size]) for i in range(len(X) // batch_size)]
    return float((np.concatenate(found) == y[: batch_size * len(found)]).mean())


def b19_accuracy_at_once(predict: Predict, X: Array, y: Array, batch_size: int) -> float:
    """All images in one batch: 7 GB of activations for MNIST's training images."""
    return float((predict(X) == y).mean())


def b20_prepared(train: Array, test: Array) -> Array:
    """The test images centred by their own mean."""
    return test - test.mean()


def b21_slices(n: int, batch_size: int, rng: Rng) -> Iterator[Array]:
    """The order of the file."""
    for start in range(0, n, batch_size):
        yield np.arange(n)[start : start + batch_size]


def b21_without_the_first(n: int, batch_size: int, rng: Rng) -> Iterator[Array]:
    """Index 0 is never drawn."""
    order = rng.permutation(n - 1) + 1
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def b22_weights(rng: Rng, shape: tuple[int, ...]) -> Array:
    """One scale for layers of any width."""
    return 0.01 * rng.standard_normal(shape, np.float32)


def b23_slower(optimizer: SGD, lr: float) -> SGD:
    """Another optimiser for another learning rate: its velocity is zero."""
    return SGD(optimizer.params, lr, momentum=0.9)


def b24_last_never_checked(iterations: int, judge: Callable[[int], float]) -> int | None:
    """The last iteration has the number n - 1, not n + 1."""
    best, record = None, -1.0
    for t in range(iterations):
        if (t == 0 or t == iterations + 1) and (accuracy := judge(t)) > record:
            best, record = t, accuracy
    return best


def b24_no_best(iterations: int, judge: Callable[[int], float]) -> int | None:
    """A record of 0 that 0 does not break."""
    best, record = None, 0.0
    for t in range(iterations):
        if t in (0, iterations - 1) and (accuracy := judge(t)) > record:
            best, record = t, accuracy
    return best


def b25_softmax_dx(y: Array, dy: Array) -> Array:
    """A Jacobian for each sample, and then a sum over the samples, not over the classes: it fits if N = C."""
    jacobians = y[:, :, None] * (np.eye(y.shape[1]) - y[:, None, :])  # (N, C, C)
    return (jacobians * dy[:, :, None]).sum(axis=0)


def b26_draws(n: int, batch_size: int, rng: Rng) -> Iterator[Array]:
    """Each batch is drawn from all images again."""
    for _ in range(-(-n // batch_size)):
        yield rng.choice(n, batch_size)
