from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError, LabelError, NumericsError, ShapeError
from stridenet.interop.cs231n import (
    Solver,
    affine_backward,
    affine_forward,
    affine_relu_backward,
    affine_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
    softmax_loss,
)
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.adaptive import Adam, RMSprop
from stridenet.optim.optimizers import SGD

Data = dict[str, Array]


class ThreeLayerConvNet:
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax, as a student writes it, for square images."""

    def __init__(
        self, num_filters: int = 8, filter_size: int = 5, hidden_dim: int = 32, reg: float = 0.0, side: int = 32
    ) -> None:
        rng, scale = np.random.default_rng(0), 2e-2
        self.params = {
            "W1": scale * rng.standard_normal((num_filters, 3, filter_size, filter_size)),
            "b1": np.zeros(num_filters),
            "W2": scale * rng.standard_normal((num_filters * (side // 2) ** 2, hidden_dim)),
            "b2": np.zeros(hidden_dim),
            "W3": scale * rng.standard_normal((hidden_dim, 10)),
            "b3": np.zeros(10),
        }
        self.params = {name: value.astype(np.float32) for name, value in self.params.items()}
        self.reg = reg

    def loss(self, X: Array, y: Array | None = None) -> Any:
        W1, b1, W2, b2, W3, b3 = (self.params[name] for name in ("W1", "b1", "W2", "b2", "W3", "b3"))
        conv_param = {"stride": 1, "pad": (W1.shape[2] - 1) // 2}
        pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        a1, cache1 = conv_relu_pool_forward(X, W1, b1, conv_param, pool_param)
        a2, cache2 = affine_relu_forward(a1, W2, b2)
        scores, cache3 = affine_forward(a2, W3, b3)
        if y is None:
            return scores
        loss, dscores = softmax_loss(scores, y)
        grads = {}
        da2, grads["W3"], grads["b3"] = affine_backward(dscores, cache3)
        da1, grads["W2"], grads["b2"] = affine_relu_backward(da2, cache2)
        _, grads["W1"], grads["b1"] = conv_relu_pool_backward(da1, cache1)
        for name in ("W1", "W2", "W3"):
            loss += 0.5 * self.reg * float(np.sum(self.params[name] ** 2))
            grads[name] += self.reg * self.params[name]
        return loss, grads


class Affine:
    """One affine layer, which notes what it is asked."""

    def __init__(self, D: int = 4, K: int = 3) -> None:
        self.params = {"W": np.random.default_rng(0).standard_normal((D, K)), "b": np.zeros(K)}
        self.trained_on: list[Array] = []
        self.judged: list[int] = []

    def loss(self, X: Array, y: Array | None = None) -> Any:
        scores, cache = affine_forward(X, self.params["W"], self.params["b"])
        if y is None:
            self.judged.append(len(X))
            return scores
        self.trained_on.append(X[:, 0])
        loss, dscores = softmax_loss(scores, y)
        _, dW, db = affine_backward(dscores, cache)
        return loss, {"W": dW, "b": db}


def data(train: int = 30, val: int = 100, D: int = 4, K: int = 3) -> Data:
    """Column 0 is the number of the image, so that a test sees which were drawn."""
    rng, sets = np.random.default_rng(1), {}
    for name, count in (("train", train), ("val", val)):
        X, sets[f"y_{name}"] = rng.standard_normal((count, D)), rng.integers(0, K, count)
        X[:, 0] = np.arange(count)
        sets[f"X_{name}"] = X
    return sets


def solver(model: Any = None, sets: Data | None = None, **options: Any) -> Solver:
    return Solver(
        model or Affine(), sets or data(), **({"verbose": False, "optim_config": {"learning_rate": 1e-3}} | options)
    )


def images() -> Data:
    """100 pictures 3x32x32 around 0, classes 0 to 9, and 100 more."""
    rng, sets = np.random.default_rng(2), {}
    for name in ("train", "val"):
        sets[f"X_{name}"] = (40 * rng.standard_normal((100, 3, 32, 32))).astype(np.float32)
        sets[f"y_{name}"] = rng.integers(0, 10, 100)
    return sets


@pytest.mark.big
def test_a_three_layer_convnet_of_the_coursework_learns_100_images_by_heart() -> None:
    lines: list[str] = []
    model, sets = ThreeLayerConvNet(), images()
    work = Solver(
        model,
        sets,
        num_epochs=20,
        batch_size=50,
        update_rule="adam",
        optim_config={"learning_rate": 1e-3},
        verbose=True,
        print_every=20,
        log=lines.append,
    )
    work.train()
    assert work.train_acc_history[-1] >= 0.99
    assert work.loss_history[-1] < 0.2 * work.loss_history[0]
    assert len(work.loss_history) == 40
    assert len(work.train_acc_history) == len(work.val_acc_history) == 21
    assert lines[0] == f"(Iteration 1 / 40) loss: {work.loss_history[0]:f}"
    assert lines[1].startswith("(Epoch 0 / 20) train acc: 0.")
    assert lines[-1] == (
        f"(Epoch 20 / 20) train acc: {work.train_acc_history[-1]:f}; val_acc: {work.val_acc_history[-1]:f}"
    )
    assert len(lines) == 2 + 21
    assert work.check_accuracy(sets["X_val"], sets["y_val"]) == work.best_val_acc
    assert {value.dtype for value in model.params.values()} == {np.dtype("float32")}


def test_the_gradients_of_the_whole_network_are_the_slopes_of_its_loss() -> None:
    model = ThreeLayerConvNet(num_filters=2, filter_size=3, hidden_dim=5, reg=0.1, side=8)
    rng = np.random.default_rng(0)
    model.params = {name: value.astype(np.float64) for name, value in model.params.items()}
    X, y = rng.standard_normal((2, 3, 8, 8)), np.array([1, 7])
    _, grads = model.loss(X, y)
    for name, value in model.params.items():
        direction, kept = rng.standard_normal(value.shape), value.copy()
        ends = []
        for step in (1e-6, -1e-6):
            model.params[name] = kept + step * direction
            ends.append(model.loss(X, y)[0])
        model.params[name] = kept
        assert np.sum(grads[name] * direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5), name


# Updates


@pytest.mark.parametrize(
    ("rule", "config", "make"),
    [
        ("sgd", {}, lambda p: SGD(p, 1e-2)),
        ("sgd", {"learning_rate": 0.3}, lambda p: SGD(p, 0.3)),
        ("sgd_momentum", {}, lambda p: SGD(p, 1e-2, momentum=0.9)),
        ("sgd_momentum", {"learning_rate": 0.1, "momentum": 0.5}, lambda p: SGD(p, 0.1, momentum=0.5)),
        ("rmsprop", {}, lambda p: RMSprop(p, 1e-2, alpha=0.99, eps=1e-8)),
        ("rmsprop", {"decay_rate": 0.9, "epsilon": 1e-4}, lambda p: RMSprop(p, 1e-2, alpha=0.9, eps=1e-4)),
        ("adam", {}, lambda p: Adam(p, 1e-3, betas=(0.9, 0.999), eps=1e-8)),
        ("adam", {"beta1": 0.8, "epsilon": 1e-3}, lambda p: Adam(p, 1e-3, betas=(0.8, 0.999), eps=1e-3)),
        ("adam", {"beta2": 0.9}, lambda p: Adam(p, 1e-3, betas=(0.9, 0.9))),
    ],
)
def test_an_update_rule_is_an_optimiser_of_ours(rule: str, config: dict[str, float], make: Any) -> None:
    sets = data(train=5)
    plain = Affine()
    vector = ParameterVector({name: Parameter(value) for name, value in plain.params.items()})
    optimizer = make(vector)
    plain.params = {name: parameter.value for name, parameter in vector.parameters.items()}
    for _ in range(4):
        _, grads = plain.loss(sets["X_train"], sets["y_train"])
        for name, parameter in vector.parameters.items():
            parameter.grad[...] = grads[name]
        optimizer.step()
    model = Affine()
    work = solver(model, sets, update_rule=rule, optim_config=config, num_epochs=4, batch_size=5)
    seen: dict[str, Array] = {}
    work._copies = lambda: seen  # what is best does not matter
    work.train()
    for name, value in model.params.items():
        assert value == pytest.approx(plain.params[name], rel=1e-9), name  # the order of the images differs


def test_momentum_by_hand() -> None:
    class Slope(Affine):
        def loss(self, X: Array, y: Array | None = None) -> Any:
            if y is None:
                return np.zeros((len(X), 3))
            return 1.0, {"w": np.ones(1)}

    model = Slope()
    model.params = {"w": np.zeros(1)}
    places: list[float] = []
    work = solver(
        model,
        data(train=3),
        update_rule="sgd_momentum",
        optim_config={"learning_rate": 1.0},
        num_epochs=1,
        batch_size=1,
        print_every=1,
        verbose=True,
        log=lambda line: places.append(float(model.params["w"][0])) if "Iteration" in line else None,
    )
    work.train()
    assert places == pytest.approx([-1.0, -2.9, -5.61])  # v = 0.9 v + 1


def test_the_learning_rate_decays_after_each_epoch_and_the_velocity_stays() -> None:
    work = solver(lr_decay=0.5, num_epochs=3, update_rule="sgd_momentum", batch_size=10)
    rates: list[float] = []
    optimizer = work._optimizer
    step = optimizer.step
    optimizer.step = lambda: (rates.append(optimizer.current_lr), step())[1]
    work.train()
    assert rates == pytest.approx([1e-3] * 3 + [5e-4] * 3 + [2.5e-4] * 3)
    assert optimizer.t == 9
    assert optimizer.state_dict()["velocity"].any()


# Which images


@pytest.mark.parametrize(("n", "batch_size"), [(30, 7), (30, 10), (30, 100), (1, 1)])
def test_b26_every_image_comes_exactly_once_an_epoch(n: int, batch_size: int) -> None:
    """Also those behind the last full batch; each epoch in an order of its own."""
    model = Affine()
    solver(model, data(train=n), num_epochs=3, batch_size=batch_size).train()
    steps = -(-n // batch_size)
    assert len(model.trained_on) == 3 * steps
    epochs = [np.concatenate(model.trained_on[i * steps : (i + 1) * steps]) for i in range(3)]
    assert all(np.array_equal(np.sort(epoch), np.arange(n)) for epoch in epochs)
    assert n == 1 or not np.array_equal(epochs[0], epochs[1])


def test_the_same_seed_gives_the_same_bits() -> None:
    histories = []
    for seed in 3, 3, 4:
        work = solver(num_epochs=2, batch_size=7, seed=seed)
        work.train()
        histories.append(work.loss_history)
    assert histories[0] == histories[1] != histories[2]


def test_accuracies_are_of_as_many_images_as_was_said() -> None:
    model = Affine()
    solver(model, data(train=300, val=250), num_epochs=1, batch_size=300, num_train_samples=120).train()
    assert model.judged == [100, 20, 100, 100, 50]  # no more than 100 at once, none left out
    model.judged.clear()
    solver(model, data(val=250), num_epochs=1, batch_size=30, num_train_samples=None, num_val_samples=110).train()
    assert model.judged == [30, 100, 10]


def test_a_sample_has_no_image_twice_and_stays_the_same() -> None:
    work = solver(sets=data(train=50, val=200), num_train_samples=20, num_val_samples=150)
    assert len(set(work._train_sample)) == 20
    assert len(set(work._val_sample)) == 150


def test_check_accuracy_counts() -> None:
    work, sets = solver(), data(val=230)
    scores = work.model.loss(sets["X_val"])
    wanted = float((scores.argmax(axis=1) == sets["y_val"]).mean())
    assert work.check_accuracy(sets["X_val"], sets["y_val"]) == wanted
    assert work.check_accuracy(sets["X_val"], sets["y_val"], batch_size=1) == wanted
    assert work.check_accuracy(sets["X_val"], sets["y_val"], num_samples=1) in (0.0, 1.0)


# What is best


def scripted(work: Solver, accuracies: list[float]) -> Iterator[dict[str, Array]]:
    """Let every check find the next of `accuracies` in validation; the parameters at each."""
    script, found = iter(accuracies), []

    def accuracy(X: Array, *_: Any) -> float:
        if X is work.X_train:
            return 0.0
        found.append(work._copies())
        return next(script)

    work._accuracy = accuracy
    work.train()
    return iter(found)


def test_the_best_parameters_are_kept_and_put_back() -> None:
    work = solver(num_epochs=4, batch_size=15)
    found = list(scripted(work, [0.1, 0.2, 0.5, 0.5, 0.3]))
    assert work.best_val_acc == 0.5
    assert work.val_acc_history == [0.1, 0.2, 0.5, 0.5, 0.3]
    for name, value in work.model.params.items():
        assert np.array_equal(value, found[2][name])  # the first of two
        assert np.array_equal(value, work.best_params[name])
        assert not np.array_equal(value, found[4][name])
        value += 1
        assert not np.array_equal(value, work.best_params[name])


def test_b24_there_are_best_parameters_at_zero_accuracy() -> None:
    work = solver(num_epochs=2, batch_size=30)
    first, _ = scripted(work, [0.0, 0.0])
    assert work.best_val_acc == 0.0
    assert all(np.array_equal(work.model.params[name], first[name]) for name in first)


@pytest.mark.parametrize("batch_size", [7, 30])
def test_b24_the_last_iteration_is_judged(batch_size: int) -> None:
    """What the last check saw is what the last step left."""
    work = solver(num_epochs=2, batch_size=batch_size)
    checks = 2 + (batch_size < 30)  # where an epoch is one iteration, the first check is that of the epoch
    *_, last = scripted(work, [0.1 * i for i in range(checks)])
    assert len(work.train_acc_history) == len(work.val_acc_history) == checks
    values = work._optimizer.params.parameters
    assert all(np.array_equal(last[name], values[name].value) for name in last)


@pytest.mark.parametrize(("n", "samples"), [(4, None), (99, None), (200, 50)])
def test_b18_few_validation_images_are_warned_of(n: int, samples: int | None) -> None:
    wanted = f"Solver: expected at least 100 validation images to choose the best parameters by, got {samples or n};"
    with pytest.warns(UserWarning, match=wanted):
        solver(sets=data(val=n), num_val_samples=samples)


# Going on


def test_a_second_train_goes_on_from_the_parameters_of_the_model() -> None:
    model = Affine()
    work = solver(model, num_epochs=2, batch_size=10, update_rule="adam")
    work.train()
    model.params["W"] = np.zeros((4, 3))
    starts: list[Array] = []
    loss = model.loss
    model.loss = lambda X, y=None: (starts.append(model.params["W"].copy()), loss(X, y))[1]
    work.train()
    assert not starts[0].any()
    assert work.epoch == 4
    assert work._optimizer.t == len(work.loss_history) == 12
    assert len(work.val_acc_history) == 5


def test_there_are_best_parameters_before_the_first_check() -> None:
    work = solver()
    assert work.best_params.keys() == work.model.params.keys()
    assert all(np.array_equal(value, work.model.params[name]) for name, value in work.best_params.items())


def test_lines_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    work = Solver(Affine(), data(), num_epochs=1, batch_size=10, print_every=2)
    work.train()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(")")[0] for line in lines] == [
        "(Iteration 1 / 3",
        "(Epoch 0 / 1",
        "(Iteration 3 / 3",
        "(Epoch 1 / 1",
    ]
    solver(num_epochs=1).train()
    assert capsys.readouterr().out == ""


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epoch": 3}, r"^Solver: expected update_rule, .*, got 'num_epoch'; did you mean 'num_epochs'\?$"),
        ({"checkpoint_name": "x"}, r"^Solver: expected update_rule, .*, got 'checkpoint_name'"),
        ({"update_rule": "sgd_momentun"}, "did you mean 'sgd_momentum'"),
        ({"optim_config": {"lr": 1}}, r"^Solver optim_config of sgd: expected learning_rate, got 'lr'"),
        # S4's own call: the momentum did nothing
        ({"optim_config": {"momentum": 0.9}}, r"^Solver optim_config of sgd: expected learning_rate, got 'momentum'$"),
        ({"optim_config": {"learning_rate": 0}}, r"^Solver: expected learning_rate > 0, got 0$"),
        ({"update_rule": "adam", "optim_config": {"beta1": 1.0}}, r"^Adam: expected betas\[0\] in \[0, 1\), got 1"),
        ({"num_epochs": 0}, r"^Solver: expected num_epochs >= 1, got 0$"),
        ({"batch_size": 2.5}, r"^Solver: expected batch_size to be an integer >= 1, got 2.5$"),
        ({"lr_decay": 0}, r"^Solver: expected lr_decay > 0, got 0$"),
        ({"print_every": 0}, r"^Solver: expected print_every >= 1, got 0$"),
        ({"num_train_samples": 0}, r"^Solver: expected num_train_samples >= 1, got 0$"),
        ({"verbose": 1}, r"^Solver: expected verbose to be True or False, got 1$"),
        ({"seed": -1}, r"^Solver: expected seed >= 0, got -1$"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        solver(**options)


def test_data_that_is_refused() -> None:
    sets = data()
    del sets["y_val"]
    with pytest.raises(ConfigError, match=r"^Solver data: expected y_val, got y_train, X_train, X_val$"):
        solver(sets=sets)
    with pytest.raises(
        LabelError, match=r"^Solver: expected X_train \(N, \.\.\.\) and y_train \(N,\) with N >= 1, got \(30, 4\)"
    ):
        solver(sets=data() | {"y_train": np.zeros(29, int)})
    with pytest.raises(LabelError, match=r"^Solver: expected X_val"):
        solver(sets=data() | {"X_val": np.zeros((0, 4)), "y_val": np.zeros(0, int)})


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"W": np.zeros((4, 3))}, r"^Solver: the gradients of loss: expected b, got W$"),
        # B16
        (
            {"W": np.zeros((4, 3)), "b": np.zeros((1, 3))},
            r"^Solver: expected a gradient of shape \(3,\) for b, got \(1, 3\)",
        ),
    ],
)
def test_gradients_that_are_refused(grads: dict[str, Array], message: str) -> None:
    model = Affine()
    model.loss = lambda X, y=None: (1.0, grads)
    with pytest.raises(ConfigError, match=message) as caught:
        solver(model).train()
    assert isinstance(caught.value, ShapeError) == ("shape" in message)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    model = Affine()
    loss, losses = model.loss, iter([1.0, float("nan")])
    model.loss = lambda X, y=None: loss(X) if y is None else (next(losses), loss(X, y)[1])
    work = solver(model, batch_size=10)
    with pytest.raises(
        NumericsError, match=r"^Solver: expected a finite loss, got nan in iteration 2; lower"
    ) as caught:
        work.train()
    assert caught.value.step == 1
    assert work.loss_history == [1.0]
    assert work.best_val_acc >= 0
