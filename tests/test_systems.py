"""The recipes of the five systems are those of their reports, as far as these say."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import seeding
from stridenet.assembly import Setup, prepare
from stridenet.data.dataset import Dataset, Splits
from stridenet.data.loader import Loader
from stridenet.data.mnist import load
from stridenet.data.transforms import Normalize
from stridenet.errors import ConfigError
from stridenet.nn.init import normal
from stridenet.nn.layers import Flatten, Linear, ReLU
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.evaluation import blas_threads
from stridenet.train.trainer import Trainer
from stridenet.zoo import recipes

pytestmark = pytest.mark.big

PARAMETERS = {
    "s0-dropout": 44_426,
    "s0-plain": 44_426,
    "s1-mnist": 44_426,
    "s1-mnist-adam": 44_426,
    "s1-mnist-momentum": 44_426,
    "s2-pynet": 61_706,
    "s3-batchnorm": 61_750,
    "s4-cifar10": 825_046,
}


def system(name: str, n: int = 2000, **train: Any) -> Setup:
    """The recipe `name` on n random images of its data's shape."""
    shape = (3, 32, 32) if name == "s4-cifar10" else (1, 28, 28)
    images = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)
    data = Dataset(images, np.arange(n) % 10, tuple("0123456789"))
    recipe = recipes.load(name)
    recipe["train"] |= train
    return prepare(recipe, Splits(data, data, "noise", "nowhere"))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_system_has_its_parameters_and_trains(name: str) -> None:
    setup = system(name)
    assert len(setup.trainer.params) == PARAMETERS[name]
    params, before = setup.trainer.params, setup.trainer.params.value.copy()
    for x, y, _ in islice(setup.train.epoch(0), 3):
        assert np.isfinite(setup.trainer.step(x, y))
        assert all(params.grad[part].any() for part in params.slices.values())
    weights = [part for key, part in params.slices.items() if key.endswith("weight")]
    assert all((params.value[part] != before[part]).any() for part in weights)


@pytest.mark.parametrize(
    ("name", "steps", "asked"),
    [("s0-dropout", 30_016, 30_000), ("s0-plain", 25_326, 25_000), ("s1-mnist", 19_698, 20_000), ("s2-pynet", 0, 0)],
)
def test_a_run_has_the_iterations_of_its_report(name: str, steps: int, asked: int) -> None:
    recipe, batches = recipes.load(name)["train"], -(-60_000 // recipes.load(name)["train"]["batch_size"])
    if name == "s2-pynet":
        assert (60_000 // recipe["batch_size"], recipe["drop_last"], recipe["epochs"]) == (468, True, 250)
    else:
        assert recipe["epochs"] * batches == steps
        assert abs(steps - asked) <= batches


# What a step of each does


def test_s0_averages_its_gradients_and_decays_every_parameter_outside_the_learning_rate() -> None:
    setup = system("s0-dropout")
    trainer, params = setup.trainer, setup.trainer.params
    assert [layer.p for layer in setup.network.layers if isinstance(layer, Dropout)] == [0.5, 0.5]
    velocity = np.zeros(len(params))
    for x, y, _ in islice(setup.train.epoch(0), 2):
        before = params.value.astype(np.float64)
        trainer.step(x, y)
        velocity = 0.8 * velocity + 0.2 * params.grad
        np.testing.assert_allclose(params.value, (1 - 3e-5) * before - 6.4e-3 * velocity, atol=1e-7)
    rates = [trainer.optimizer.lr(step) for step in (9_999, 10_000, 19_999, 20_000)]
    assert rates == pytest.approx([6.4e-3, 6.4e-4, 6.4e-4, 6.4e-5])
    x = next(iter(setup.train.epoch(0)))[0]
    assert x.min() == pytest.approx(-0.1307)
    assert x.max() == pytest.approx(1 - 0.1307)


def test_biases_decay_only_where_a_recipe_says_so() -> None:
    decays = {flag: system_with(decay_biases=flag).trainer.params for flag in (False, True)}
    for params in decays.values():
        for name, part in params.slices.items():
            assert (params.decay[part] == float(params is decays[True] or name.endswith("weight"))).all()


def system_with(**optimizer: Any) -> Setup:
    """S1's network, with other keys for its optimiser."""
    data = Dataset(np.zeros((20, 1, 28, 28), np.uint8), np.arange(20) % 10, tuple("0123456789"))
    recipe = recipes.load("s1-mnist")
    recipe["optimizer"] |= optimizer
    return prepare(recipe, Splits(data, data, "dark", "nowhere"))


@pytest.mark.promise("B6")
def test_s2_scales_its_biases_by_their_rows_and_decays_its_weights_alone() -> None:
    setup = system("s2-pynet")
    params = setup.trainer.params
    params.grad[...] = np.random.default_rng(0).standard_normal(len(params))  # of the mean over 128 images
    before = params.value.astype(np.float64)
    setup.trainer.optimizer.step()
    rows = {"0.bias": 784, "3.bias": 100, "6.bias": 1, "9.bias": 1, "11.bias": 1}
    for name, part in params.slices.items():
        # the report's own numbers: the gradient of the sum; that of a bias is the mean over its N * P * Q rows
        total = 128.0 * params.grad[part]
        step = 1e-3 * (total / (128 * rows[name]) if name in rows else total + 1e-3 * before[part])
        np.testing.assert_allclose(before[part] - params.value[part], step, atol=1e-8, rtol=1e-5, err_msg=name)


def test_s2_starts_small_and_takes_its_batches_in_one_order() -> None:
    setup = system("s2-pynet")
    for name, parameter in setup.network.named_parameters():
        assert np.abs(parameter.value).max() > 0, name
        assert np.abs(parameter.value).max() < 0.06
    assert setup.trainer.params.value.std() == pytest.approx(0.01, rel=0.02)
    first, second = (list(setup.train.epoch(e)) for e in (0, 1))
    assert [len(x) for x, _, _ in first] == [128] * 15
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    targets = np.concatenate([y for _, y, _ in first])
    assert not np.array_equal(targets, np.arange(len(targets)) % 10)  # it is shuffled
    other = np.concatenate([y for _, y, _ in system("s2-pynet", seed=1).train.epoch(0)])
    assert not np.array_equal(targets, other)
    x = first[0][0]
    assert x.shape[1:] == (1, 32, 32)
    assert (x.min() >= -0.5, x.max() <= 0.5) == (True, True)


def test_s4_takes_the_mean_image_off_pixels_up_to_255() -> None:
    setup = system("s4-cifar10")
    assert (len(setup.train.dataset), setup.judged) == (1000, 1000)
    x = np.concatenate([x for x, _, _ in setup.train.epoch(0)])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-3)
    assert 200 < np.ptp(x) < 2 * 255


# Keys that they brought


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such parameter": ({"lr_scale": {"1.bias": 0.1}}, r"recipe\.optimizer\.lr_scale: expected one of 0\.weight, .*"),
    "no factor": ({"lr_scale": {"0.bias": "x"}}, r"recipe\.optimizer\.lr_scale: expected 0\.bias .*, got 'x'"),
    "zero": ({"lr_scale": {"0.bias": 0}}, r"recipe\.optimizer\.lr_scale: expected 0\.bias .*, got 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_lr_scale_refuses(name: str) -> None:
    keys, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        system_with(**keys)


def test_without_validation_images_all_are_trained_on() -> None:
    setup = system("s1-mnist", 200)
    assert (len(setup.train.dataset), setup.validation, setup.judged) == (200, None, 0)
    for key in ("early_stopping", "reduce_on_plateau"):
        with pytest.raises(
            ConfigError, match=rf"recipe\.data\.validation: expected validation images for {key}, got 0"
        ):
            system("s1-mnist", 200, **{key: {}})


def test_what_drop_last_refuses() -> None:
    with pytest.raises(ConfigError, match=r"expected batch_size <= 100, the number of images, got 128"):
        system("s2-pynet", 100)


# The figures


@pytest.mark.parametrize("epochs", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_s2_and_its_ten_second_regression(epochs: int, mnist_folder: Path) -> None:
    """784-200-10: the report's loss, which holds the L2 term, goes from 0.684 to 0.193, its test accuracy to 96.8 %."""
    splits, rng, init = load(mnist_folder, classes=10), np.random.default_rng(1), normal(0.01)
    layers = Flatten(), Linear(784, 200, init=init, rng=rng), ReLU(), Linear(200, 10, init=init, rng=rng)
    network = Sequential(*layers, input_shape=(1, 28, 28))
    trainer = Trainer(network, SGD(network.pack(), 128 * 1e-3, weight_decay=1e-3 / 128))
    images, params = Normalize([0.5], [1.0]), trainer.params
    ordered = splits.train.subset(seeding.stream(0, "shuffle", 0).permutation(60_000))
    train, losses = Loader(ordered, 128, transform=images, drop_last=True), []
    with blas_threads():
        for epoch in range(epochs):
            total = 0.0
            for x, y, _ in train.epoch(epoch):
                total += 0.5 * 1e-3 * float(np.dot(params.decay * params.value, params.value))
                total += trainer.step(x, y)
            losses.append(total / len(train))
    assert losses[0] == pytest.approx(0.684, abs=0.01)
    if epochs == 1:
        return
    assert losses[9] == pytest.approx(0.193, abs=0.01)
    assert 0.965 <= trainer.evaluate(Loader(splits.test, 256, transform=images)).accuracy <= 0.975
