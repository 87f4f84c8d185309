"""docs/recipes.md is complete and true: every key, name and default is there, and its examples can be trained."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from stridenet import experiment
from stridenet.cli.train import train
from stridenet.data import catalogue, transforms
from stridenet.data.dataset import Dataset, Splits
from stridenet.errors import ConfigError
from stridenet.optim.optimizers import DecayMode
from stridenet.zoo import models, recipes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
KEYS = [(section, key) for section, keys in recipes.SCHEMA.items() for key in keys]
TYPES = {
    (int, float): "number",
    (int,): "whole number",
    (str,): "text",
    (bool,): "true or false",
    (list,): "list",
    (dict,): "table",
}
Table = Mapping[str, Callable[..., Any]]
TABLES: list[tuple[str, Table, set[str]]] = [  # the section, what it may name, arguments that have no key of their own
    ("model", models.MODELS, {"rng"}),
    ("optimizer", experiment._OPTIMIZERS, {"params", "lr"}),
    ("schedule", experiment._SCHEDULES, {"value", "peak", "total"}),
    ("data", transforms._TRANSFORMS, set()),
    ("data", transforms._AUGMENTATIONS, set()),
]


def rows(heading: str) -> dict[str, list[str]]:
    """The table rows under `heading` whose first cell is `code`, by that code; each row has its other cells."""
    text = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = (line.strip("| ").split(" |") for line in text.splitlines() if line.startswith("| `"))
    found = [[cell.strip() for cell in line] for line in lines]
    assert len({row[0] for row in found}) == len(found)
    return {row[0].strip("`"): row[1:] for row in found}


def default(section: str, key: str) -> Any:
    """The value of a key that is left out: of the schema, or of the optimiser or the schedule that has it."""
    wanted = recipes.SCHEMA[section][key].default
    makers = {"optimizer": experiment._OPTIMIZERS, "schedule": experiment._SCHEDULES}.get(section, {})
    if wanted is None:
        found = [inspect.signature(make).parameters.get(key) for make in makers.values()]
        wanted = next((parameter.default for parameter in found if parameter is not None), None)
    return list(wanted) if isinstance(wanted, tuple) else wanted


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_has_its_row_with_type_and_default(section: str, key: str) -> None:
    kind, value, *_, meaning = rows(f"`[{section}]`")[key]
    entry = recipes.SCHEMA[section][key]
    assert kind == TYPES[entry.kinds]
    assert meaning
    if entry.required:
        assert value == "required"
    elif default(section, key) is None:
        assert value == "none"
    else:
        assert tomllib.loads(f"x = {value.strip('`')}")["x"] == default(section, key)


@pytest.mark.parametrize(("section", "table", "without"), TABLES)
def test_every_name_has_its_row_with_its_arguments(section: str, table: Table, without: set[str]) -> None:
    for name, make in table.items():
        arguments, meaning = rows(f"`[{section}]`")[name]
        assert set(re.findall(r"`(\w+)`", arguments)) == inspect.signature(make).parameters.keys() - without
        assert meaning


def test_no_row_is_about_something_that_there_is_not() -> None:
    known = {section: set(keys) for section, keys in recipes.SCHEMA.items()}
    for section, table, _ in TABLES:
        known[section] |= table.keys()
    known["data"] |= catalogue.NAMES.keys()
    known["optimizer"] |= set(get_args(DecayMode))
    assert {section: set(rows(f"`[{section}]`")) for section in known} == known


def test_the_options_of_the_command_line_are_there() -> None:
    options = {option for parameter in train.params for option in parameter.opts if option.startswith("--")}
    assert set(rows("On the command line")) == options - {"--kernels", "--out", "--resume"}


def synthetic(shape: tuple[int, ...], classes: int) -> Splits:
    rng, n = np.random.default_rng(0), 1500
    images = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    data = Dataset(images, np.arange(n) % classes, tuple(str(k) for k in range(classes)))
    return Splits(data, data, "synthetic", "nowhere")


def test_there_are_two_examples() -> None:
    assert [tomllib.loads(text)["data"]["name"] for text in EXAMPLES] == ["letters", "mnist"]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_loads_and_trains(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    recipe = recipes.load(str(path))
    shape, classes = {"letters": ((1, 32, 32), 26), "mnist": ((1, 28, 28), 10)}[recipe["data"]["name"]]
    setup = experiment.prepare(recipe, synthetic(shape, classes))
    x, y, _ = next(setup.train.epoch(0))
    assert np.isfinite(setup.trainer.step(x, y))


ERRORS: list[dict[str, Any]] = [
    {"optimiser": {}},
    {"optimizer": {"name": "sgd"}},
    {"optimizer": {"name": "sgd", "lr": "0.1"}},
    {"optimizer": {"name": "sdg", "lr": 0.1}},
    {"data": {"name": "mnist", "transform": [{"name": "resize", "sze": 28}]}},
    {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 1.5}},
]


def test_the_errors_are_those_of_the_page() -> None:
    minimal = {
        "model": {"name": "lenet5"},
        "data": {"name": "mnist"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 1, "batch_size": 64},
    }
    splits, messages = synthetic((1, 28, 28), 10), []
    for change in ERRORS:
        with pytest.raises(ConfigError) as error:
            experiment.prepare(recipes.check(minimal | change, "mine"), splits)
        messages.append(str(error.value))
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert "".join(blocks).splitlines() == messages
