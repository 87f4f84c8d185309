"""The doctor: silent where nothing is wrong, and by name where the museum's bugs are planted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab import museum
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize, fit_pipeline
from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.nn.classic import RBF
from stridenet.nn.init import Initializer, he_normal
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import Loss, cross_entropy, hinge, map_criterion, mse, rbf_mse
from stridenet.nn.parameters import ParameterVector
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.optim.optimizers import SGD
from stridenet.optim.schedules import Schedule, constant, warm_up
from stridenet.train.doctor import PATIENCE, examine, examine_network, frequency_gain, indifferent_loss
from stridenet.train.findings import KINDS, Check, Finding, unexpected
from stridenet.train.separation import check_repeats, check_size, check_statistics
from stridenet.train.signals import dead_share, passages, tied_share
from stridenet.train.slopes import check_gradients
from stridenet.train.telemetry import Norms
from stridenet.train.trainer import Callback, Trainer
from stridenet.train.watch import Watch, check_history, plateau, step_sizes, still_parameters
from stridenet.zoo import models, recipes

Rng = np.random.Generator
PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
pytestmark = pytest.mark.big


@dataclass
class World:
    """All that a training needs, with nothing wrong in it."""

    network: Sequential
    loss: Loss
    train: Loader
    validation: Loader | None
    test: Loader
    lr: float = 0.02

    def trainer(self, **options: Any) -> Trainer:
        optimizer = SGD(self.network.pack(), self.lr, momentum=0.9)
        return Trainer(self.network, optimizer, self.loss, **options)

    def examine(self, **options: Any) -> list[Check]:
        return examine(self.trainer(), self.train, self.validation, self.test, epochs=3, **options)


def build(
    *, conv: type[Conv2d] = Conv2d, last: type[Linear] = Linear, init: Initializer = he_normal, kind: Any = Sequential
) -> Sequential:
    rng = np.random.default_rng(0)
    return kind(
        conv(1, 4, 5, init=init, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(144, 24, init=init, rng=rng),
        ReLU(),
        last(24, 4, init=init, rng=rng),
        input_shape=(1, 16, 16),
    )


@pytest.fixture
def world(small_data: Path) -> World:
    splits = open_data(str(small_data))
    rest, held_out = splits.train.split(128, seed=0)
    transform = fit_pipeline([{"name": "normalize"}], rest)
    train, validation, test = (Loader(part, 32, transform=transform) for part in (rest, held_out, splits.test))
    return World(build(), cross_entropy, train, validation, test)


def found(checks: list[Check]) -> dict[str, list[str]]:
    """The places of the findings by their codes."""
    places: dict[str, list[str]] = {}
    for finding in unexpected(checks, ()):
        places.setdefault(finding.code, []).append(finding.where)
    return places


def figure(checks: list[Check], name: str) -> str:
    (check,) = [check for check in checks if check.name == name]
    return check.figure


# The museum's bugs


class GrowingVector(ParameterVector):
    """B3."""

    zero_grad = museum.b03_zero_grad


class GrowingNetwork(Sequential):
    def pack(self) -> ParameterVector:
        parameters = dict(self.named_parameters())
        vector = next(p.vector for p in parameters.values())
        return vector or GrowingVector(parameters)


def sum_beside_mean(scores: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """B6: the loss is a mean, its gradient a sum."""
    loss, dscores = cross_entropy(scores, targets, weights)
    return loss, len(scores) * dscores


class BiasByItself(Linear):
    """B6: the gradient of the bias is a mean over the rows."""

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        before = self.bias.grad.copy()
        dx = super().backward(dy, need_dx=need_dx)
        self.bias.grad[...] = before + dy.mean(axis=0)
        return dx


def test_b6_is_planted_as_it_hangs_in_the_museum() -> None:
    rng = np.random.default_rng(0)
    (x, weight), bias, targets = (rng.standard_normal(s) for s in ((8, 4), (3, 4))), np.zeros(3), np.arange(8) % 3
    for wrong, kind, loss in [
        (museum.b06_sum_beside_mean, Linear, sum_beside_mean),
        (museum.b06_bias_by_itself, BiasByItself, cross_entropy),
    ]:
        layer = kind(4, 3, rng=rng).astype(np.float64)
        layer.weight.value[...], layer.bias.value[...] = weight, bias
        layer.backward(loss(layer.forward(x), targets)[1])
        _, dweight, dbias = wrong(x, weight, bias, targets)
        np.testing.assert_allclose(layer.weight.grad, dweight, rtol=1e-12)
        np.testing.assert_allclose(layer.bias.grad, dbias, rtol=1e-12, atol=1e-15)


def four_images(world: World) -> World:
    """B18: as many as the museum's Solver takes."""
    model, images = SimpleNamespace(params={"w": np.zeros(1)}, loss=None), np.zeros((9, 1))
    data = {"X_train": images, "y_train": np.zeros(9, int), "X_val": images, "y_val": np.zeros(9, int)}
    few = len(museum.B18Solver(model, data)._val_sample)
    assert few == 4
    assert world.validation is not None
    few_images = world.validation.dataset.subset(range(few))
    return replace(world, validation=Loader(few_images, 32, transform=world.train.transform))


def chosen_by_the_test(world: World) -> World:
    """B18: the test images choose the epoch."""
    images = museum.b18_validation(world.train.dataset.images, world.test.dataset.images)
    dataset = Dataset(images, world.test.dataset.targets, world.test.dataset.classes)
    return replace(world, validation=Loader(dataset, 32, transform=world.train.transform))


def by_itself(world: World) -> World:
    """B20: each batch of test images is centred by itself."""
    test = Loader(world.test.dataset, 32, transform=lambda x: museum.b20_prepared(x, x))
    return replace(world, test=test)


def by_its_own_mean(world: World) -> World:
    """B20: the whole test set is."""
    images = world.test.dataset.images / np.float32(255)
    shift = float((images - museum.b20_prepared(images, images)).mean())
    (normalize,) = world.train.transform.transforms  # type: ignore[union-attr]
    return replace(world, test=Loader(world.test.dataset, 32, transform=Normalize([shift], normalize.std)))


PLANTS: dict[str, tuple[Callable[[World], World], str, str]] = {
    "B1": (lambda w: replace(w, network=build(conv=museum.B01Conv2d)), "still-parameter", "0.weight"),
    "B1 by its slope": (
        lambda w: replace(w, network=build(conv=museum.B01Conv2d)),
        "wrong-gradient",
        "layer 0 B01Conv2d",
    ),
    "B3": (lambda w: replace(w, network=build(kind=GrowingNetwork)), "gradients-add-up", "all parameters"),
    "B6": (lambda w: replace(w, loss=sum_beside_mean), "gradient-scale", "loss"),
    "B6 of a bias": (lambda w: replace(w, network=build(last=BiasByItself)), "gradient-scale", "layer 6 BiasByItself"),
    "B18": (four_images, "small-validation", "validation images"),
    "B18 by the test": (chosen_by_the_test, "repeated-images", "test images"),
    "B20": (by_itself, "test-statistics", "test images"),
    "B20 as a whole": (by_its_own_mean, "test-statistics", "test images"),
    "B22": (
        lambda w: replace(w, network=build(init=museum.b22_weights)),
        "one-scale-start",
        "0.weight, 4.weight, 6.weight",
    ),
}


@pytest.mark.promise("B1", "B3", "B6", "B18", "B20", "B22")
@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str, world: World) -> None:
    plant, code, where = PLANTS[bug]
    findings = found(plant(world).examine())
    assert where in findings[code]


def test_without_a_bug_nothing_is_found_and_all_is_measured(world: World) -> None:
    checks = world.examine()
    assert found(checks) == {}
    names = "first loss,start values,gradients,two rounds,a step,moved,step size,dead ReLUs,tied pools,overfit"
    assert [check.name for check in checks] == [*names.split(","), "statistics", "validation", "repeated"]
    assert all(re.search(r"\d", check.figure) for check in checks)
    assert figure(checks, "first loss").endswith("to know nothing gives 1.386; allowed 0.693 to 13.9")  # ln 4
    assert figure(checks, "overfit").startswith("20 of 20 images right after")
    assert figure(checks, "moved") == "6 of 6 parameters in 12 steps"
    assert figure(checks, "repeated") == "images: 0 validation in training, 0 test in training, 0 test in validation"


@pytest.mark.parametrize("bug", ["B3", "B6", "B6 of a bias"])
def test_a_wrong_size_is_named(bug: str, world: World) -> None:
    finding = next(f for f in unexpected(PLANTS[bug][0](world).examine(), ()) if f.code == PLANTS[bug][1])
    size = {"B3": "2 times as long", "B6": "5 times its slope", "B6 of a bias": "bias gets 0.3333 times its slope"}
    assert size[bug] in finding.what


def test_a_training_after_it_has_the_same_bits(world: World) -> None:
    results = []
    for look in (True, False):
        network = build()
        network.layers = (*network.layers[:5], Dropout(0.3), *network.layers[5:])
        trainer = replace(world, network=network).trainer(seed=3)
        trainer.fit(world.train, epochs=1)
        if look:
            gradient = trainer.params.grad.copy()
            examine(trainer, world.train, world.validation, world.test)
            assert np.array_equal(trainer.params.grad, gradient)
            assert trainer.network.training
            network.layers[5].eval()
            examine(trainer, world.train)
            assert [layer.training for layer in network.layers[4:7]] == [True, False, True]
        trainer.fit(world.train, epochs=2)
        results.append(trainer.params.value.tobytes() + trainer.optimizer.state_dict()["velocity"].tobytes())
    assert results[0] == results[1]


# The other findings


def test_images_that_are_not_scaled_make_the_first_loss_large(world: World) -> None:
    transform = Normalize([0.0], [1 / 255])
    parts = [Loader(loader.dataset, 32, transform=transform) for loader in (world.train, world.test)]
    findings = found(replace(world, train=parts[0], validation=None, test=parts[1]).examine())
    assert findings["initial-loss"] == ["layer 6 Linear"]


def test_weights_of_another_model_need_not_be_start_values(world: World) -> None:
    trained = replace(world, network=build(init=museum.b22_weights))
    assert "one-scale-start" in found(trained.examine())
    assert "one-scale-start" not in found(replace(world, network=build(init=museum.b22_weights)).examine(fresh=False))


def test_a_rate_that_does_nothing(world: World) -> None:
    findings = found(replace(world, lr=1e-9).examine())
    assert findings == {"plateau": ["training"], "update-ratio": ["training"]}
    ratio, plateau = unexpected(replace(world, network=build(), lr=1e-9).examine(), ())
    assert re.search(r"steps are only \S+e-\d\d of the weights in 3 layers \(0.weight \.\.\.\), expected", ratio.what)
    assert (ratio.do, plateau.do) == ("Raise lr.", KINDS["plateau"].do)


def test_a_rate_that_is_too_high(world: World) -> None:
    checks = replace(world, lr=1.0).examine()
    (finding,) = unexpected(checks, ())
    assert finding[:2] == ("update-ratio", "training")
    assert re.match(r"steps are \S+ times as long as the weights in 3 layers \(0.weight \.\.\.\), exp", finding.what)
    assert finding.do == "Lower lr."
    assert figure(checks, "overfit").endswith(" at lr 0.1, not at 1 and 10")


def test_after_numbers_that_are_not_finite_no_other_rate_is_advised(world: World) -> None:
    checks = replace(world, lr=1e30).examine()
    (finding,) = unexpected(checks, ())
    assert finding.code == "non-finite"
    assert re.fullmatch(r"step \d+", finding.where)
    assert "output of layer" in finding.what
    assert figure(checks, "overfit") == "not tried, where numbers are not finite"


def test_steps_are_those_of_the_schedule(world: World) -> None:
    """A rate that is too high from the start is not with its warm-up; short steps on the way up are no short steps."""

    def findings(lr: float | Schedule) -> dict[str, list[str]]:
        network = build()
        trainer = Trainer(network, SGD(network.pack(), lr, momentum=0.9))
        return found(examine(trainer, world.train, world.validation, world.test, epochs=1000))

    assert "update-ratio" in findings(0.5)
    assert findings(warm_up(constant(0.5), steps=1000)) == {}
    assert findings(warm_up(constant(0.02), steps=12_000)) == {}
    assert "update-ratio" in findings(warm_up(constant(1e-6), steps=20))


def test_squared_errors_have_larger_first_losses(world: World) -> None:
    assert found(replace(world, loss=mse, lr=0.005).examine()) == {}  # this gets all images right, 0.02 does not
    assert found(replace(world, network=build(), loss=mse).examine()) == {"update-ratio": ["training"]}
    network = build()
    network.layers[6].weight.value *= 100
    assert found(replace(world, network=network, loss=mse).examine())["initial-loss"] == ["layer 6 Linear"]


def test_weights_that_are_infinite(world: World) -> None:
    world.network.layers[4].weight.value[0, 0] = np.inf
    assert found(world.examine()) == {"non-finite": ["layer 4 Linear"]}
    network = world.network
    assert found(examine_network(network, cross_entropy, (1, 16, 16))) == {"non-finite": ["parameter 4.weight"]}


def test_labels_that_contradict_each_other_cannot_be_learnt_by_heart(world: World) -> None:
    dataset = world.train.dataset
    targets = dataset.targets.copy()
    targets[::3] = (targets[::3] + 1) % 4
    images = dataset.images.copy()
    for k in range(4):
        images[dataset.targets == k] = images[dataset.targets == k][0]
    train = Loader(Dataset(images, targets, dataset.classes), 32, transform=world.train.transform)
    checks = replace(world, train=train).examine()
    assert found(checks)["cannot-overfit"] == ["training"]
    assert "plateau" not in found(checks)
    said = "300 steps do not get all 20 images right at lr 0.02, the highest of the run, nor at 0.2 and 0.002"
    assert figure(checks, "overfit") == said


def test_images_without_classes_are_refused(world: World) -> None:
    images = world.train.dataset.images
    numbers = Loader(Dataset(images, np.zeros(len(images))), 32)
    with pytest.raises(ConfigError, match=r"examine: expected images with classes, got others"):
        examine(world.trainer(), numbers)


def test_units_that_are_dead(world: World) -> None:
    world.network.layers[4].bias.value[:20] = -100
    assert found(world.examine())["dead-relu"] == ["layer 5 ReLU"]


def test_pools_on_constant_images(world: World) -> None:
    images = np.zeros_like(world.train.dataset.images)
    images[:, :, :2, :2] = 255
    train = Loader(Dataset(images, world.train.dataset.targets, world.train.dataset.classes), 32)
    assert found(replace(world, train=train).examine())["tied-pools"] == ["layer 2 MaxPool2d"]


# Its parts


@pytest.mark.parametrize("name", models.MODELS)
def test_every_network_of_the_zoo_has_right_gradients(name: str) -> None:
    network = models.make(name, {}, rng=np.random.default_rng(0))
    loss = map_criterion if name == "lenet5_1998" else cross_entropy
    assert network.input_shape is not None
    assert check_gradients(network, network.input_shape, loss, 10).findings == ()


@pytest.mark.parametrize("loss", [cross_entropy, hinge, mse, map_criterion, rbf_mse])
def test_every_loss_has_its_slope(loss: Loss) -> None:
    assert check_gradients(Sequential(Flatten()), (1, 2, 2), loss, 4).findings == ()


class Shifted(Linear):
    """Its dx is of another layer."""

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        dx = super().backward(dy, need_dx=need_dx)
        return None if dx is None else np.roll(dx, 1, axis=1)


@pytest.mark.parametrize("scale", [1e3, 1e7, 1e12, 1e30])
def test_large_weights_make_no_gradient_wrong(scale: float) -> None:
    networks = [build(), models.lenet5_batchnorm(rng=np.random.default_rng(0))]
    for network in networks:
        for _, parameter in network.named_parameters():
            parameter.value *= scale
        assert network.input_shape is not None
        check = check_gradients(network, network.input_shape, cross_entropy, 4)
        assert check.findings == ()
        assert ("not measured in" in check.figure) is (scale >= 1e12)
    assert ("layer 6 Linear (bias)" in check_gradients(networks[0], (1, 16, 16), cross_entropy, 4).figure) is (
        scale > 1e7
    )


def test_a_forward_that_jumps_is_not_measured() -> None:
    class Rounded(Linear):
        def forward(self, x: Array) -> Array:
            return np.round(super().forward(x), 9)

    check = check_gradients(Rounded(6, 6, rng=np.random.default_rng(0)), (6,), cross_entropy, 3)
    assert check.findings == ()


class Slightly(Linear):
    """Its gradients are off by a thousandth."""

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        before = self.weight.grad.copy(), self.bias.grad.copy()
        dx = super().backward(dy, need_dx=need_dx)
        for parameter, grad in zip((self.weight, self.bias), before, strict=True):
            parameter.grad += 1e-3 * np.roll(parameter.grad - grad, 1, axis=0)
        return None if dx is None else dx + 1e-3 * np.roll(dx, 1, axis=1)


@pytest.mark.parametrize("scale", [1, 1e3])
def test_an_error_of_a_thousandth_is_found(scale: float) -> None:
    network = build(last=Slightly)
    for _, parameter in network.named_parameters():
        parameter.value *= scale
    (finding,) = check_gradients(network, (1, 16, 16), cross_entropy, 4).findings
    assert finding[:2] == ("wrong-gradient", "layer 6 Slightly")
    assert [part.split()[0] for part in finding.what.split("; ")] == ["x", "weight", "bias"]


def test_a_wrong_dx_is_found_inside_a_residual_and_in_a_network_that_is_no_row() -> None:
    rng = np.random.default_rng(0)
    network = Sequential(Linear(6, 6, rng=rng), Residual(Shifted(6, 6, rng=rng)))
    (finding,) = check_gradients(network, (6,), cross_entropy, 3).findings
    assert finding[:2] == ("wrong-gradient", "layer 1 Residual")
    assert finding.what.startswith("x gets a gradient that is off by ")
    (finding,) = check_gradients(Shifted(6, 6, rng=rng), (6,), cross_entropy, 3).findings
    assert finding.where == "Shifted"


def test_a_bias_before_a_batch_norm_has_no_slope_and_that_is_right() -> None:
    rng = np.random.default_rng(0)
    layers = [Conv2d(2, 2, 3, padding=1, rng=rng), BatchNorm2d(2)]
    for block in (Residual(*layers), Sequential(*layers)):
        assert check_gradients(Sequential(block), (2, 8, 8), cross_entropy, 3).findings == ()


def test_a_gradient_of_another_shape_is_none() -> None:
    class Padded(Linear):
        def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
            dx = super().backward(dy, need_dx=need_dx)
            return None if dx is None else np.pad(dx, 1)

    (finding,) = check_gradients(Padded(3, 2, rng=np.random.default_rng(0)), (3,), cross_entropy, 3).findings
    assert finding.what == "x gets the gradient 0, where the slope is not"


def test_frozen_layers_have_no_gradient_to_check() -> None:
    network = build()
    network.layers[0].freeze()
    assert check_gradients(network, (1, 16, 16), cross_entropy, 4).findings == ()


def test_the_way_through_a_network_is_that_of_its_forward() -> None:
    rng = np.random.default_rng(0)
    for network, shape in [
        (models.resnet20(rng=rng), (2, 3, 32, 32)),
        (Sequential(Residual(Linear(4, 4, rng=rng), Linear(4, 4, rng=rng)), Sequential(ReLU())), (2, 4)),
    ]:
        x = rng.standard_normal(shape).astype(np.float32)
        way = list(passages(network.eval(), x))
        assert np.array_equal(way[-1].y, network.forward(x))
    assert [passage.name for passage in way] == ["0.body", "0.shortcut", "0", "1.0"]


def test_dead_units_are_maps_that_are_zero_everywhere() -> None:
    y = np.zeros((3, 4, 2, 2))
    y[1, 0, 1, 1] = y[2, 1, 0, 0] = 0.1
    assert dead_share(y) == 0.5
    assert dead_share(y[:, :, 1, 1]) == 0.75


def test_ties_are_counted_in_every_geometry() -> None:
    x = np.array([[1.0, 1, 0, 0], [0, 0, 2, 1], [3, 0, 4, 4], [0, 0, 0, 4]])[None, None]
    assert tied_share(MaxPool2d(2), x) == 0.5
    assert tied_share(MaxPool2d(2, stride=1), x) == 3 / 9
    assert tied_share(MaxPool2d(3, stride=2, padding=1), x) == 2 / 4
    assert tied_share(MaxPool2d(3, stride=2, ceil_mode=True), x) == 2 / 4


def test_ties_are_as_many_as_the_benchmarks_say(mnist_folder: Path) -> None:
    images = open_data(str(mnist_folder)).train.images[:10_000] / np.float32(255)
    assert round(100 * tied_share(MaxPool2d(2), images), 1) == 82.7


@pytest.mark.parametrize(("n", "fine"), [(1, False), (4, False), (92, False), (93, True), (5000, True), (0, True)])
def test_how_many_validation_images_are_enough(n: int, fine: bool) -> None:
    assert (check_size(n).findings == ()) is fine


def test_what_a_network_that_knows_nothing_loses() -> None:
    rng = np.random.default_rng(0)
    plain, codes = Sequential(Linear(84, 10, rng=rng)), Sequential(RBF(84, 10, rng=rng))
    assert indifferent_loss(cross_entropy, plain, 10) == pytest.approx(np.log(10))
    assert indifferent_loss(hinge, plain, 10) == 9
    assert indifferent_loss(mse, plain, 10) == pytest.approx(0.1)
    assert indifferent_loss(rbf_mse, codes, 10) == pytest.approx(84)
    assert indifferent_loss(map_criterion, codes, 10) == pytest.approx(83.9)


def test_what_the_frequencies_of_the_classes_are_worth() -> None:
    targets, scores = np.array([0, 0, 0, 1]), np.log(np.full((4, 2), [0.75, 0.25]))
    gain = frequency_gain(cross_entropy, targets, 2)
    assert gain == pytest.approx(np.log(2) - cross_entropy(scores, targets)[0])
    assert frequency_gain(mse, targets, 2) == pytest.approx(0.5 - mse(np.exp(scores), targets)[0])
    assert frequency_gain(hinge, targets, 2) == 0
    weights = np.array([1.0, 1, 1, 3])  # balanced: nothing to gain
    assert frequency_gain(cross_entropy, targets, 2, weights) == pytest.approx(0)


def test_statistics_of_three_sets(world: World) -> None:
    train, test = world.train, world.test
    assert check_statistics({"training": train}).findings == ()
    other = Loader(test.dataset, 32, transform=Normalize([0.5], [1.0]))
    (finding,) = check_statistics({"training": train, "validation": test, "test": other}).findings
    assert finding[:2] == ("test-statistics", "test images")
    both = np.concatenate([train.dataset.images, test.dataset.images])
    leaky = fit_pipeline([{"name": "normalize"}], Dataset(both, np.zeros(len(both), int), ("a",)))
    sets = [Loader(part.dataset, 32, transform=leaky) for part in (train, test)]
    (finding,) = check_statistics(dict(zip(("training", "test"), sets, strict=True))).findings
    assert finding.what.startswith("their mean is 0 to rounding, together with that of training")
    resized = fit_pipeline([{"name": "resize", "size": 8}], train.dataset)
    assert check_statistics({"training": train, "test": Loader(test.dataset, 32, transform=resized)}).findings


def test_one_repeated_image_of_many_is_measured_and_no_finding(world: World) -> None:
    dataset = world.train.dataset
    many = Dataset(
        np.arange(1001 * 256, dtype=np.uint32).view(np.uint8).reshape(-1, 1, 16, 16), np.zeros(4004, int), ("a",)
    )
    images = many.images.copy()
    images[0] = dataset.images[0]
    loaders = {"training": Loader(dataset, 32), "test": Loader(Dataset(images, many.targets, ("a",)), 32)}
    check = check_repeats(loaders)
    assert check.figure == "images: 1 test in training"
    assert check.findings == ()
    images[:5] = dataset.images[:5]
    assert check_repeats(loaders).findings[0].what == "5 of 4 004 test images are training images"


# While a network is trained


def watched(world: World, epochs: int, **options: Any) -> tuple[list[str], Trainer]:
    lines: list[str] = []
    trainer = world.trainer(callbacks=[Norms(), Watch(lines.append, world.train, **options)])
    trainer.fit(world.train, epochs=epochs)
    return lines, trainer


def test_a_good_training_says_nothing_and_has_the_same_bits(world: World) -> None:
    states: list[dict[str, Array]] = []
    for watching in (True, False):
        layers = build().layers
        network = Sequential(layers[0], BatchNorm2d(4), *layers[1:6], Dropout(0.2), layers[6])
        lines: list[str] = []
        callbacks: list[Callback] = [Norms(), Watch(lines.append, world.train, judged=128)]
        trainer = replace(world, network=network).trainer(callbacks=callbacks if watching else [])
        trainer.fit(world.train, epochs=34)  # two behind those whose units are looked at
        states.append(network.state_dict())
        assert lines == []
        assert not any(name.startswith("callback1") for name in trainer.state()[0])
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (
            lambda w: replace(w, network=build(conv=museum.B01Conv2d)),
            ["still-parameter in 0.weight", "still-parameter in 0.bias"],
        ),
        (
            lambda w: replace(w, lr=1e-9),
            ["update-ratio in training"],
        ),
    ],
)
def test_what_goes_wrong_is_said_once(plant: Callable[[World], World], said: list[str], world: World) -> None:
    lines, _ = watched(plant(world), 5)
    assert [line.removeprefix("finding  ").split(":")[0] for line in lines] == said
    assert all(line.endswith("; see docs/doctor.md") and "\n" not in line for line in lines)


def test_dead_units_and_few_images_are_said_unless_expected(world: World) -> None:
    epochs = 32  # the first power of 2 that has enough steps
    assert epochs * len(world.train) >= PATIENCE > epochs // 2 * len(world.train)
    for expected in ([], ["small-validation", "dead-relu"]):
        dead = replace(world, network=build())
        dead.network.layers[4].bias.value[:20] = -1e6
        lines, _ = watched(dead, epochs, judged=4, expected=expected)
        assert [line.split(":")[0] for line in lines] == [
            "finding  small-validation in validation images",
            "finding  dead-relu in layer 5 ReLU",
        ][: 0 if expected else 2]


def test_a_plateau_is_said_after_some_hundred_steps(world: World) -> None:
    epochs, slow = -(-PATIENCE // len(world.train)), replace(world, lr=1e-9)
    assert watched(replace(slow, network=build()), epochs - 1, expected=["update-ratio"])[0] == []
    (line,) = watched(
        replace(slow, network=build(init=museum.b22_weights)), epochs, expected=["update-ratio", "dead-relu"]
    )[0]
    assert line.startswith(f"finding  plateau in training: {epochs} epochs leave the loss at ")


def test_rows_are_judged_by_themselves() -> None:
    rows = [{"train_loss": 2.3022, "norms": {"a": [1.0, 0.0, 0.1], "b": [1.0, 1.0, 1e-3]}}] * 3
    assert [f.where for f in plateau(rows, 2.3026)] == ["training"]
    assert list(plateau(rows[:2], 2.3026)) == []
    assert list(plateau([*rows, {"train_loss": 2.2}], 2.3026)) == []
    assert [f.where for f in still_parameters(rows)] == ["a"]
    assert list(still_parameters(rows[:2])) == []
    assert list(step_sizes(rows, {"a", "b"})) == []
    rows = [{"norms": {"a": [1.0, 1.0, size]}} for size in (1e-6, 1e-6, 1e-6)]
    assert [f.code for f in step_sizes(rows, {"a"})] == ["update-ratio"]
    assert list(step_sizes(rows, set())) == []
    assert list(step_sizes([{"norms": {"a": [1.0, 1.0, 1e-3]}}, *rows], {"a"})) == []  # lr has fallen since
    assert [f.code for f in step_sizes([{"norms": {"a": [1.0, 1.0, 0.5]}}], {"a"})] == ["update-ratio"]
    assert list(step_sizes([{"norms": {"a": [0.0, 1.0, 0.5]}}, {}], {"a"})) == []


def test_a_plateau_after_a_jump_asks_for_a_lower_rate() -> None:
    flat, far = {"train_loss": 2.31, "norms": {"a": [1.0, 1.0, 1e-3]}}, {"a": [1.0, 1.0, 0.5]}
    for first, cure in [(flat, ""), (flat | {"train_loss": 9e9}, "lower lr"), (flat | {"norms": far}, "lower lr")]:
        (finding,) = plateau([first, flat, flat], 2.3026, {"a"})
        assert finding.cure == cure
        assert (finding.do == "Lower lr.") is bool(cure)
        assert finding.line().endswith("gives 2.303" + (f"; {cure}" if cure else ""))


def test_a_history_is_judged_as_it_was_while_it_went_on() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 100 * (i + 1), "train_loss": loss, "norms": {"a": [1.0, 1.0, size]}}
        for i, (loss, size) in enumerate([(9.0, 0.5), (2.31, 0.2), (2.31, 1e-3)])
    ]
    check = check_history(rows, 2.3026, {"a"})
    assert [finding.line().split(",")[0] for finding in check.findings] == [
        "update-ratio in training: steps are 0.5 times as long as the weights in a",
        "plateau in training: 3 epochs leave the loss at 2.31",
    ]
    assert {finding.cure for finding in check.findings} == {"lower lr"}
    assert check.figure == "the loss goes from 9 in epoch 1 to 2.31 in epoch 3; to know nothing gives 2.303"
    assert check_history([*rows[:2], rows[2] | {"step": 299}], 2.3026, ()).findings == ()


# What it says


def test_a_finding_is_read_a_sentence_a_line() -> None:
    finding = Finding("plateau", "training", "the loss is 2.30 of 2.30")
    assert finding.line() == "plateau in training: the loss is 2.30 of 2.30"
    assert finding.block().splitlines() == [
        "plateau",
        "  what   The loss is 2.30 of 2.30.",
        "  where  training",
        f"  why    {KINDS['plateau'].why}",
        f"  do     {KINDS['plateau'].do}",
    ]
    assert finding.as_dict().keys() == {"code", "where", "what", "why", "do"}
    finding = finding._replace(cure="lower lr")
    assert finding.line() == "plateau in training: the loss is 2.30 of 2.30; lower lr"
    assert finding.block().splitlines()[-1] == "  do     Lower lr."
    assert finding.as_dict()["do"] == "Lower lr."


def test_the_page_has_every_finding() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {row[0]: tuple(row[1:]) for row in rows} == {code: tuple(kind) for code, kind in KINDS.items()}
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+|plateau", code) for code in KINDS)


def test_a_recipe_names_findings_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(recipes.source("lenet5-digits") + '\n[notes]\nexpected_findings = ["plateu"]\n')
    with pytest.raises(
        ConfigError, match=r"recipe\.notes\.expected_findings\[0\]: .*got 'plateu'; did you mean 'plateau'\?"
    ):
        recipes.load(str(path))
