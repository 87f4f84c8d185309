"""The checks of the bug museum: each passes on stridenet's code and fails on the wrong code of `lab.museum`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from helpers import normwise
from lab import museum
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import fit_pipeline
from stridenet.interop.cs231n import Solver
from stridenet.layout import Array
from stridenet.nn import functional as F, init
from stridenet.nn.layers import Conv2d, Flatten, Linear
from stridenet.nn.losses import cross_entropy
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD

Rng = np.random.Generator


@dataclass(frozen=True)
class Exhibit:
    """Wrong code of a bug, the right one, and the check that one passes and the other fails: it `shows` an error."""

    bug: str
    check: Callable[[Any], None]
    ours: Any
    wrong: Any
    shows: type[Exception]


EXHIBITS: list[Exhibit] = []


def exhibit(bug: str, ours: Any, *wrong: Any, shows: type[Exception] = AssertionError) -> Callable[..., Any]:
    """Hang the check below up beside the right code and each of the `wrong`."""

    def hang(check: Callable[[Any], None]) -> Callable[[Any], None]:
        EXHIBITS.extend(Exhibit(bug, check, ours, each, shows) for each in wrong)
        return check

    return hang


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def slope(f: Callable[[], float], x: Array) -> Array:
    """The numerical gradient of f by every number of x, which is changed in place and put back."""
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        kept, ends = x[place], []
        for step in (1e-5, -1e-5):
            x[place] = kept + step
            ends.append(f())
        x[place], found[place] = kept, (ends[0] - ends[1]) / 2e-5
    return found


def agree(found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    assert normwise(found, wanted) < 1e-6


# Gradients


@exhibit("B1", Conv2d, museum.B01Conv2d)
def every_parameter_moves(kind: type[Conv2d]) -> None:
    rng = np.random.default_rng(0)
    network = Sequential(kind(1, 2, 3, rng=rng), Flatten(), Linear(8, 3, rng=rng), input_shape=(1, 4, 4))
    optimizer, before = SGD(network.pack(), 0.1), network.state_dict()
    x, targets = rng.standard_normal((5, 1, 4, 4), np.float32), np.array([0, 1, 2, 0, 1])
    network.backward(cross_entropy(network.forward(x), targets)[1])
    optimizer.step()
    assert [name for name, value in network.state_dict().items() if np.array_equal(value, before[name])] == []


def conv2d_dx(x: Array, weight: Array, dy: Array, **options: Any) -> Any:
    return F.conv2d_backward(dy, F.conv2d(x, weight, **options)[1])[0]


@exhibit("B2", conv2d_dx, museum.b02_dx_rotated, museum.b02_dx_padded)
def dx_is_the_slope_where_k_is_not_c(dx: Callable[..., Array]) -> None:
    x, weight, dy = draw((2, 2, 5, 6), (3, 2, 3, 3), (2, 3, 3, 4))
    agree(dx(x, weight, dy), slope(lambda: float((F.conv2d(x, weight)[0] * dy).sum()), x))


@exhibit("B3", ParameterVector.zero_grad, museum.b03_zero_grad)
def two_rounds_are_equal(zero_grad: Callable[[ParameterVector], None]) -> None:
    network = Sequential(Linear(4, 3, rng=np.random.default_rng(0))).astype(np.float64)
    params, (x, dy), rounds = network.pack(), draw((5, 4), (5, 3)), []
    for _ in range(2):
        zero_grad(params)
        network.forward(x)
        network.backward(dy)
        rounds.append(params.grad.copy())
    assert np.array_equal(*rounds)


@exhibit("B4", (F.dropout, F.dropout_backward), (museum.b04_dropout, museum.b04_dropout_backward))
def dropout_keeps_the_mean_and_its_slope(both: tuple[Callable[..., Any], Callable[..., Array]]) -> None:
    forward, backward = both
    x = np.full((100, 1000), 2.0)
    assert abs(float(forward(x, 0.5, np.random.default_rng(0))[0].mean()) - 2) < 0.05  # in evaluation: x itself
    x, dy = draw((3, 4), (3, 4))
    _, mask = forward(x, 0.5, np.random.default_rng(1))
    agree(backward(dy, mask), slope(lambda: float((forward(x, 0.5, np.random.default_rng(1))[0] * dy).sum()), x))


def decayed(parameters: dict[str, Parameter], lr: float, decay: float) -> None:
    SGD(ParameterVector(parameters), lr, weight_decay=decay).step()


@exhibit("B5", decayed, museum.b05_step)
def decay_follows_the_learning_rate_and_spares_biases(step: Callable[..., None]) -> None:
    lost = []
    for lr in (0.1, 0.2):
        parameters = {"weight": Parameter(np.ones(2)), "bias": Parameter(np.ones(1), decay=False)}
        step(parameters, lr, 0.5)
        lost.append(1 - parameters["weight"].value[0])
        assert parameters["bias"].value[0] == 1
    assert np.isclose(lost[1], 2 * lost[0])


def dense_loss(x: Array, weight: Array, bias: Array, targets: Array) -> tuple[Any, ...]:
    y, saved = F.linear(x, weight, bias)
    loss, dy = cross_entropy(y, targets)
    return loss, *F.linear_backward(dy, saved)[1:]


@exhibit("B6", dense_loss, museum.b06_sum_beside_mean, museum.b06_bias_by_itself)
def every_gradient_is_the_slope_of_the_loss(loss: Callable[..., tuple[Any, ...]]) -> None:
    (x, weight, bias), targets = draw((8, 4), (3, 4), (3,)), np.arange(8) % 3
    _, dweight, dbias = loss(x, weight, bias, targets)
    agree(dweight, slope(lambda: loss(x, weight, bias, targets)[0], weight))
    agree(dbias, slope(lambda: loss(x, weight, bias, targets)[0], bias))


def conv2d(x: Array, weight: Array, **options: Any) -> Array:
    return F.conv2d(x, weight, **options)[0]


@exhibit("B7", (conv2d, conv2d_dx), (museum.b07_stride_ignored, conv2d_dx), (conv2d, museum.b07_dx_without_zeros))
def gradients_over_a_grid(both: tuple[Callable[..., Array], Callable[..., Array]]) -> None:
    forward, backward = both
    for stride, padding, dilation in [(1, 0, 1), (2, 1, 1), (3, 0, 1), (2, 2, 2)]:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        x, weight = draw((1, 2, 7, 9), (3, 2, 3, 2))
        y = forward(x, weight, **options)
        P, Q = ((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in ((7, 3), (9, 2)))
        assert y.shape == (1, 3, P, Q)
        (dy,) = draw(y.shape, seed=1)
        agree(backward(x, weight, dy, **options), slope(lambda: float((conv2d(x, weight, **options) * dy).sum()), x))  # noqa: B023


@exhibit("B8", conv2d, museum.b08_conv2d, shows=IndexError)
def windows_are_those_of_numpy(forward: Callable[..., Array]) -> None:
    x, weight = draw((2, 3, 9, 8), (4, 3, 3, 2))
    for stride in (1, 2, 3):
        view = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(2, 3))[:, :, ::stride, ::stride]
        agree(forward(x, weight, stride=stride), np.einsum("ncpqrs,kcrs->nkpq", view, weight))


@exhibit("B9", lambda x, weight, dy, padding: conv2d_dx(x, weight, dy, padding=padding), museum.b09_dx)
def dx_has_the_shape_of_x(dx: Callable[..., Array]) -> None:
    x, weight, dy = draw((1, 1, 6, 5), (1, 1, 3, 3), (1, 1, 6, 5))
    assert dx(x, weight, dy, 1).shape == x.shape


def pool_dx(x: Array, dy: Array, k: int, stride: int) -> Array:
    return F.max_pool2d_backward(dy, F.max_pool2d(x, k, stride=stride)[1])


@exhibit("B10", pool_dx, museum.b10_dx_to_all, museum.b10_dx_assigned, museum.b10_dx_exchanged)
def gradient_is_kept(dx: Callable[..., Array]) -> None:
    """On overlapping windows of a rectangle, constant and not."""
    dy = np.abs(*draw((1, 1, 5, 3), seed=1))
    for x in (np.ones((1, 1, 7, 5)), *draw((1, 1, 7, 5))):
        assert dx(x, dy, 3, 1).shape == x.shape
        assert np.isclose(dx(x, dy, 3, 1).sum(), dy.sum())


# Losses


def loss_of(scores: Array, targets: Array) -> float:
    return cross_entropy(scores, targets)[0]


@exhibit("B11", loss_of, museum.b11_log_of_softmax, museum.b11_500, museum.b11_no_shift)
def far_scores_have_an_exact_loss(loss: Callable[[Array, Array], float]) -> None:
    rows = [([1e4, 0, -1e4], 2, 2e4), ([0, -800, 0], 1, 800 + np.log(2)), ([1000, 0, -1000], 2, 2000)]
    for scores, target, wanted in rows:
        assert np.isclose(loss(np.array([scores], float), np.array([target])), wanted, rtol=1e-12)


@exhibit("B12", loss_of, museum.b12_cross_entropy)
def a_sure_and_right_answer_costs_nothing(loss: Callable[[Array, Array], float]) -> None:
    assert loss(np.array([[1e4, 0, 0]]), np.array([0])) < 1e-6


def linear_gradients(x: Array, weight: Array, dy: Array) -> tuple[Any, Array]:
    """For weight (D, K)."""
    dx, dweight, _ = F.linear_backward(dy, F.linear(x, weight.T)[1])
    return dx, dweight.T


@exhibit("B13", linear_gradients, museum.b13_linear_gradients, shows=ValueError)
def dense_gradients_where_n_is_not_d(gradients: Callable[..., tuple[Array, Array]]) -> None:
    x, weight, dy = draw((5, 4), (4, 3), (5, 3))
    for found, array in zip(gradients(x, weight, dy), (x, weight), strict=True):
        agree(found, slope(lambda: float(((x @ weight) * dy).sum()), array))


def batch_norm_dx(x: Array, weight: Array, dy: Array) -> Array:
    return F.batch_norm_backward(dy, F.batch_norm(x, weight, np.zeros(2))[1])[0]


@exhibit("B14", batch_norm_dx, museum.b14_batch_norm_dx)
def batch_norm_has_its_slope(dx: Callable[..., Array]) -> None:
    for N in (1, 3):
        x, weight, dy = draw((N, 2, 2, 3), (2,), (N, 2, 2, 3))
        forward = lambda: float((F.batch_norm(x, weight, np.zeros(2))[0] * dy).sum())  # noqa: B023, E731
        agree(dx(x, weight, dy), slope(forward, x))


@exhibit("B14", BatchNorm2d, museum.B14BatchNorm2d)
def evaluation_does_not_see_the_rest_of_the_batch(kind: type[BatchNorm2d]) -> None:
    layer, (x,) = kind(2).astype(np.float64), draw((4, 2, 3, 3))
    layer.forward(x)
    layer.eval()
    agree(layer.forward(x[:1]), layer.forward(x)[:1])


@exhibit("B15", F.relu_backward, museum.b15_relu_backward)
def what_a_backward_is_given_stays(backward: Callable[[Array, Array], Array]) -> None:
    x, dy = draw((3, 4), (3, 4))
    before = dy.copy()
    backward(dy, x > 0)
    assert np.array_equal(dy, before)


def dbias_of(dy: Array) -> Any:
    return F.linear_backward(dy, F.linear(np.ones((len(dy), 1)), np.ones((3, 1)), np.zeros(3))[1])[2]


@exhibit("B16", dbias_of, museum.b16_dbias)
def the_gradient_has_the_shape_of_the_bias(dbias: Callable[[Array], Array]) -> None:
    assert dbias(*draw((5, 3))).shape == (3,)


@exhibit("B17", Linear, museum.B17Linear)
def a_backward_changes_no_parameter(kind: type[Linear]) -> None:
    layer, (x, dy) = kind(4, 3, rng=np.random.default_rng(0)).astype(np.float64), draw((5, 4), (5, 3))
    before = layer.weight.value.copy()
    layer.forward(x)
    dx = layer.backward(dy)
    assert np.array_equal(layer.weight.value, before)
    assert dx is not None
    agree(dx, dy @ before)


# A whole run


def model(loss: Callable[..., Any]) -> Any:
    return SimpleNamespace(params={"w": np.zeros(1)}, loss=loss)


def arrays(n: int, val: int = 100) -> dict[str, Array]:
    """A data set of a Solver; the class of all is 0."""
    sizes = {"train": n, "val": val}
    images = {f"X_{name}": np.arange(count)[:, None] for name, count in sizes.items()}
    return images | {f"y_{name}": np.zeros(count, int) for name, count in sizes.items()}


@exhibit("B18", Solver, museum.B18Solver)
def a_choice_by_few_images_is_warned_of(kind: type[Solver]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kind(model(lambda X: X), arrays(10, val=4))
    assert any("at least 100 validation images" in str(warning.message) for warning in caught)


def validation(train: Array, test: Array) -> Array:
    return Dataset(train, np.zeros(len(train), int), ("digit",)).split(5, seed=0)[1].images


@exhibit("B18", validation, museum.b18_validation)
def no_test_image_decides(choose: Callable[[Array, Array], Array]) -> None:
    train, test = np.arange(40, dtype=np.uint8).reshape(2, 20, 1, 1, 1)
    assert not set(choose(train, test).ravel()) & set(test.ravel())


def accuracy(predict: museum.Predict, X: Array, y: Array, batch_size: int) -> float:
    solver = Solver(model(lambda part: np.eye(3)[predict(part)]), arrays(1))
    return solver.check_accuracy(X, y, batch_size=batch_size)


@exhibit("B19", accuracy, museum.b19_accuracy_without_the_rest, museum.b19_accuracy_at_once)
def all_images_are_judged_and_few_at_once(judge: Callable[..., float]) -> None:
    X, y, sizes = np.arange(10), np.arange(10) % 3, []
    found = judge(lambda part: (sizes.append(len(part)), part % 3)[1] if part[0] < 8 else part % 3, X, y, 4)
    assert found == 1.0
    assert max(sizes) <= 4
    assert judge(lambda part: np.where(part < 8, part % 3, (part + 1) % 3), X, y, 4) == 0.8  # the last two are wrong


def prepared(train: Array, test: Array) -> Array:
    dataset = Dataset(train, np.zeros(len(train), int), ("digit",))
    return fit_pipeline([{"name": "normalize"}], dataset)(test / np.float32(255))


@exhibit("B20", prepared, museum.b20_prepared)
def darker_test_images_stay_darker(prepare: Callable[[Array, Array], Array]) -> None:
    train, test = np.random.default_rng(0).integers(100, 200, (2, 20, 1, 4, 4)).astype(np.uint8)
    assert prepare(train, test // 2).mean() < prepare(train, test).mean() - 0.1


def batches(n: int, batch_size: int, rng: Rng) -> Iterator[Array]:
    dataset = Dataset(np.zeros((n, 1, 1, 1), np.uint8), np.arange(n), tuple(map(str, range(n))))
    for _, targets, _ in Loader(dataset, batch_size, shuffle=True, seed=int(rng.integers(1000))).epoch(0):
        yield targets


@exhibit("B21", batches, museum.b21_slices, museum.b21_without_the_first)
@exhibit("B26", batches, museum.b26_draws)
def every_index_once_and_shuffled(draws: Callable[..., Iterator[Array]]) -> None:
    for seed in range(20):
        order = np.concatenate(list(draws(30, 7, np.random.default_rng(seed))))
        assert np.array_equal(np.sort(order), np.arange(30))
        assert not np.array_equal(order, np.arange(30))


@exhibit("B22", init.he_normal, museum.b22_weights)
def activations_keep_their_variance(start: Callable[[Rng, tuple[int, ...]], Array]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 300), np.float32)
    for _ in range(10):
        x = np.maximum(x @ start(rng, (300, 300)).T, 0)
    assert 0.2 < x.var() < 5


def slower(optimizer: SGD, lr: float) -> SGD:
    optimizer.lr = lr
    return optimizer


@exhibit("B23", slower, museum.b23_slower)
def the_velocity_outlives_a_learning_rate(change: Callable[[SGD, float], SGD]) -> None:
    weight = Parameter(np.zeros(2))
    optimizer = SGD(ParameterVector({"weight": weight}), 0.1, momentum=0.9)
    weight.grad += 1
    optimizer.step()
    assert change(optimizer, 0.01).state_dict()["velocity"].tolist() == [1, 1]


def best_iteration(iterations: int, judge: Callable[[int], float]) -> int | None:
    """The iteration whose parameters a Solver puts back; its parameter counts the steps."""

    def loss(X: Array, y: Array | None = None) -> Any:
        if y is not None:
            return 1.0, {"w": -np.ones(1)}
        t = round(float(solver.model.params["w"][0])) - 1
        return np.eye(2)[(np.arange(len(X)) >= round(len(X) * judge(t))).astype(int)]

    solver = Solver(
        model(loss), arrays(iterations), num_epochs=1, batch_size=1, optim_config={"learning_rate": 1.0}, verbose=False
    )
    solver.train()
    return round(float(solver.model.params["w"][0])) - 1


@exhibit("B24", best_iteration, museum.b24_last_never_checked, museum.b24_no_best)
def the_last_is_judged_and_there_is_a_best(run: Callable[..., int | None]) -> None:
    assert run(5, lambda t: float(t == 4)) == 4
    assert run(5, lambda _: 0.0) is not None


def softmax_dx(y: Array, dy: Array) -> Array:
    return F.softmax_backward(dy, y)


@exhibit("B25", softmax_dx, museum.b25_softmax_dx)
def softmax_has_its_slope_where_n_is_not_c(dx: Callable[[Array, Array], Array]) -> None:
    x, dy = draw((5, 3), (5, 3))
    agree(dx(F.softmax(x)[0], dy), slope(lambda: float((F.softmax(x)[0] * dy).sum()), x))
