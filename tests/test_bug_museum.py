"""Bugs of five reports on networks written by hand: each is hung up here, and caught.

The checks are in `exhibits`, the wrong code in `lab.museum`, what there is to say in docs/museum.md. Tests that prove
more than a check needs stand beside the code that they concern, marked with the number of their bug: `promise("B1")`
and so on. Here are those that concern a whole run.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exhibits import EXHIBITS, Exhibit
from lab import museum
from stridenet import experiment
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.plan import InferencePlan
from stridenet.nn.sequential import Sequential
from stridenet.optim.adaptive import Adam
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import step_decay
from stridenet.train.callbacks import BestWeights
from stridenet.train.trainer import Callback, Trainer
from stridenet.zoo import recipes
from stridenet.zoo.models import lenet5

PAGE = Path(__file__).resolve().parents[1] / "docs" / "museum.md"
BUGS = [f"B{i}" for i in range(1, 27)]


def name_of(thing: Any) -> str:
    return "-".join(map(name_of, thing)) if isinstance(thing, tuple) else thing.__name__


every_exhibit = pytest.mark.parametrize("shown", EXHIBITS, ids=lambda shown: f"{shown.bug}-{name_of(shown.wrong)}")


@every_exhibit
def test_the_check_passes_on_our_code(shown: Exhibit) -> None:
    shown.check(shown.ours)


@every_exhibit
def test_the_check_catches_the_bug(shown: Exhibit) -> None:
    with np.errstate(all="ignore"), pytest.raises(shown.shows):
        shown.check(shown.wrong)


def test_every_bug_is_on_show_and_nothing_lies_in_the_cellar() -> None:
    assert sorted({shown.bug for shown in EXHIBITS}, key=BUGS.index) == BUGS
    on_show = {
        part for shown in EXHIBITS for part in (shown.wrong if isinstance(shown.wrong, tuple) else [shown.wrong])
    }
    own = [thing for thing in vars(museum).values() if getattr(thing, "__module__", "") == museum.__name__]
    assert [thing.__name__ for thing in own if not thing.__name__.startswith("_") and thing not in on_show] == []


def test_the_page_has_every_bug_with_its_code_and_its_check() -> None:
    _title, *parts = re.split(r"^### (B\d+): .+\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(parts[::2], key=BUGS.index) == BUGS
    for bug, text in zip(parts[::2], parts[1::2], strict=True):
        assert re.findall(r"^- \*\*(\w[\w ]+)\.\*\*", text, re.MULTILINE) == ["Where", "Caught by", "Cost"]
        shown = [each for each in EXHIBITS if each.bug == bug]
        names = {name for each in shown for name in name_of(each.wrong).split("-") if hasattr(museum, name)}
        assert names | {each.check.__name__ for each in shown} == set(re.findall(r"`(\w+)`", text))
    assert "(museum.md)" in (PAGE.parent / "systems.md").read_text("utf-8")
    assert len(inspect.getsource(museum).splitlines()) <= 400


@pytest.mark.slow
@pytest.mark.big
def test_what_b1_costs(mnist_folder: Path) -> None:
    """The recipe of S1b. Filters whose gradients are never stored never move, as those that are frozen."""
    splits, accuracies = open_data(str(mnist_folder)), []
    transform = Normalize([0.1307], [1.0])
    for frozen in (0, 3), ():
        network = lenet5(rng=np.random.default_rng(0))
        for i in frozen:
            network.layers[i].freeze()
        trainer = Trainer(network, SGD(network.pack(), 64 * 1e-4))
        trainer.fit(Loader(splits.train, 64, transform=transform, shuffle=True), epochs=21)  # of 938 iterations
        accuracies.append(trainer.evaluate(Loader(splits.test, 250, transform=transform)).accuracy)
    wrong, right = accuracies
    assert 0.95 < wrong < 0.972
    assert right > 0.98


def make(**options: Any) -> Trainer:
    network = Sequential(Flatten(), Linear(4, 2, rng=np.random.default_rng(0)), input_shape=(1, 2, 2))
    return Trainer(network, SGD(network.pack(), 0.1, momentum=0.9), **options)


def loader(n: int = 10, batch_size: int = 4) -> Loader:
    rng = np.random.default_rng(0)
    return Loader(
        Dataset(rng.integers(0, 256, (n, 1, 2, 2)).astype(np.uint8), np.arange(n) % 2, ("a", "b")), batch_size
    )


@pytest.mark.promise("B18")
def test_b18_the_best_model_is_not_chosen_on_four_images_or_on_the_test_set(
    recipe_file: Path, small_data: Path
) -> None:
    """A declared share of the training images decides, and each accuracy comes with its n and its interval."""
    splits = open_data(str(small_data))
    setup = experiment.prepare(recipes.load(str(recipe_file)), splits)
    assert len(setup.validation.dataset) == setup.recipe["data"]["validation"] == 128
    test = {image.tobytes() for image in splits.test.images}
    assert not any(image.tobytes() in test for image in setup.validation.dataset.images)
    (row,) = setup.trainer.fit(setup.train, setup.validation, epochs=1)
    low, high = row["validation_interval"]
    assert row["validation_n"] == 128
    assert high - low > 0.03


@pytest.mark.promise("B19")
@pytest.mark.parametrize("n", [1, 3, 4, 5, 10])
def test_b19_evaluation_counts_the_last_partial_batch(n: int) -> None:
    found = make().evaluate(loader(n))
    assert found.n == found.confusion.sum() == n


@pytest.mark.promise("B19")
def test_b19_evaluation_takes_no_more_than_a_batch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, sizes = make(), []
    call = InferencePlan.__call__
    monkeypatch.setattr(InferencePlan, "__call__", lambda self, x: (sizes.append(len(x)), call(self, x))[1])
    trainer.evaluate(loader(10))
    assert sizes == [4, 4, 2]


@pytest.mark.promise("B23")
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_b23_a_change_of_the_learning_rate_keeps_the_velocity(kind: type[Optimizer]) -> None:
    """By schedule and by hand: after the change the next step still knows the gradients before it."""
    network = Sequential(Flatten(), Linear(4, 2, rng=np.random.default_rng(0)), input_shape=(1, 2, 2))
    options = {"momentum": 0.9} if kind is SGD else {}
    optimizer = kind(network.pack(), step_decay(0.1, milestones=[3], factor=0.0), **options)
    trainer = Trainer(network, optimizer)
    trainer.fit(loader(), epochs=1)  # three steps
    before = optimizer.state_dict()
    assert all(np.any(before[name]) for name in before)
    assert optimizer.current_lr == 0
    optimizer.lr = 0.01
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    network.pack().grad.fill(0)
    value = network.pack().value.copy()
    optimizer.step()
    assert np.any(network.pack().value != value)  # a gradient of zero, and still it moves


@pytest.mark.promise("B24")
def test_b24_the_last_step_and_epoch_are_in_the_history() -> None:
    steps = []

    class Count(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            steps.append(trainer.optimizer.t)

    history = make(callbacks=[Count()]).fit(loader(), loader(), epochs=3)
    assert steps == list(range(1, 10))
    assert [row["step"] for row in history] == [3, 6, 9]
    assert all("validation_accuracy" in row for row in history)


@pytest.mark.promise("B24")
def test_b24_there_are_best_weights_at_zero_accuracy() -> None:
    best = BestWeights()
    trainer = make(callbacks=[best])
    trainer.optimizer.lr = 1e-12
    trainer.fit(loader(), never_right(trainer), epochs=2)
    assert [row["validation_accuracy"] for row in trainer.history] == [0, 0]
    assert best.epoch == 0
    trainer.params.value.fill(9)
    best.restore(trainer.network)
    assert not (trainer.params.value == 9).any()


def never_right(trainer: Trainer) -> Loader:
    """Images with the class that the network does not give them."""
    images = loader().dataset.images
    x = next(Loader(Dataset(images, np.zeros(len(images), np.int64), ("a", "b")), 10).epoch(0))[0]
    given = trainer.network.eval().forward(x).argmax(axis=1)
    trainer.network.train()
    return Loader(Dataset(images, 1 - given, ("a", "b")), 4)
