from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError
from stridenet.finetune import fine_tune, take_weights
from stridenet.model import Model
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Sequential


def network(seed: int, *, classes: int = 3, channels: int = 2, width: int = 5) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(1, channels, 3, rng=rng),
        BatchNorm2d(channels),
        ReLU(),
        Flatten(),
        Linear(channels * 36, width, rng=rng),
        Linear(width, classes, rng=rng),
        input_shape=(1, 8, 8),
    )


@pytest.fixture
def source(tmp_path: Path) -> str:
    model = network(1)
    for _, parameter in model.named_parameters():
        parameter.value += 0.5
    Model(model, ("a", "b", "c"), (1, 8, 8)).save(tmp_path / "model")
    return str(tmp_path / "model")


def taken_from(source: str, mine: Sequential) -> tuple[set[str], list[str]]:
    """The parameters of `mine` that became those of the source, and the lines; all others kept their value."""
    from stridenet.model import load

    before, theirs = mine.state_dict(), load(source).network.state_dict()
    _, notes = take_weights(mine, source)
    after = mine.state_dict()
    taken = {name for name, value in after.items() if np.array_equal(value, theirs.get(name))}
    assert all(np.array_equal(after[name], before[name]) for name in after.keys() - taken)
    return taken, notes


def test_an_equal_network_takes_everything(source: str) -> None:
    mine = network(2)
    taken, notes = taken_from(source, mine)
    assert taken == mine.state_dict().keys()
    assert {"1.running_mean", "1.running_var"} <= taken
    assert notes == [f"init     layers 0, 1, 4, 5 from {source}"]


def test_a_layer_for_other_classes_keeps_its_start_values(source: str) -> None:
    taken, notes = taken_from(source, network(2, classes=4))
    assert {name.split(".")[0] for name in taken} == {"0", "1", "4"}
    assert notes == [f"init     layers 0, 1, 4 from {source}", "fresh    layers 5: not there with these shapes"]


def test_a_layer_is_taken_whole_or_not(source: str) -> None:
    """The bias of the last layer would fit; without its weight it is worth nothing."""
    taken, _ = taken_from(source, network(2, width=6))
    assert {name.split(".")[0] for name in taken} == {"0", "1"}


def test_a_model_that_gives_nothing_is_refused(source: str) -> None:
    mine = Sequential(Flatten(), Linear(64, 3, rng=np.random.default_rng(0)))
    before = mine.state_dict()
    with pytest.raises(
        ConfigError, match=r"recipe\.train\.init: expected a model with a layer of this network's, got n"
    ):
        take_weights(mine, source)
    assert all(np.array_equal(value, before[name]) for name, value in mine.state_dict().items())


def test_frozen_layers_are_not_trained_and_their_statistics_stay(source: str) -> None:
    mine = network(2, classes=4)
    notes = fine_tune(mine, {"init": source, "freeze": 3})
    assert notes[-1] == "frozen   the first 3 of 6 layers"
    before = mine.state_dict()
    vector = mine.pack()
    assert {name.split(".")[0] for name in vector.parameters} == {"4", "5"}
    mine.train()
    mine.forward(np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32))
    after = mine.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "alone": ({"freeze": 1}, r"expected train\.init beside it, got none; the layers would stay random"),
    "too many": ({"init": "", "freeze": 7}, r"expected at most the network's 6 layers, got 7"),
    "all": ({"init": "", "freeze": 6}, r"expected a layer that is left to train, got all in the first 6"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_frozen(name: str, source: str) -> None:
    training, message = REFUSED[name]
    training = training | ({"init": source} if "init" in training else {})
    with pytest.raises(ConfigError, match=rf"recipe\.train\.freeze: {message}"):
        fine_tune(network(2), training)


def test_a_layer_that_init_does_not_give_is_not_frozen(source: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.train\.freeze: expected layers that init gives, got 4 too"):
        fine_tune(network(2, width=6), {"init": source, "freeze": 5})


def test_a_graph_gives_no_weights(tmp_path: Path) -> None:
    path = str(tmp_path / "x.onnx")
    with pytest.raises(
        ConfigError, match=r"expected a model file or a run folder of stridenet, .* got an ONNX file, .*"
    ):
        take_weights(network(2), path)


def test_a_resumed_run_needs_no_model(tmp_path: Path) -> None:
    mine = network(2)
    assert fine_tune(mine, {"init": str(tmp_path / "gone"), "freeze": 2}, resume=True) == [
        "frozen   the first 2 of 6 layers"
    ]
    assert {name.split(".")[0] for name in mine.pack().parameters} == {"4", "5"}
    assert fine_tune(network(3), {}) == []
