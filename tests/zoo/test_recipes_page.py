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

from stridenet import assembly
from stridenet.cli.train import train
from stridenet.data import augment, catalogue, transforms
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
    (str, list): "text or list",
    (dict,): "table",
}
Table = Mapping[str, Callable[..., Any]]
TABLES: list[tuple[str, Table, set[str]]] = [  # the section, what it may name, arguments that have no key of their own
    ("model", models.MODELS, {"rng"}),
    ("optimizer", assembly.OPTIMIZERS, {"params", "lr"}),
    ("schedule", assembly.SCHEDULES, {"value", "peak", "total"}),
    ("data", transforms.TRANSFORMS, set()),
    ("data", augment.AUGMENTATIONS, set()),
    ("train", assembly.POLICIES, set()),
]


def rows(heading: str, columns: int | None = None) -> dict[str, list[str]]:
    """The table rows under `heading` whose first cell is `code`, by that code; each row has its other cells.

    With `columns`, those of the tables that have so many columns.
    """
    text = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = (line.strip("| ").split(" |") for line in text.splitlines() if line.startswith("| `"))
    found = [[cell.strip() for cell in line] for line in lines if columns in (None, len(line))]
    assert columns is None or len({row[0] for row in found}) == len(found)
    return {row[0].strip("`"): row[1:] for row in found}


def defaults(section: str, key: str) -> list[Any]:
    """The values of a key that is left out: of the schema, or of the optimisers or schedules that have it."""
    wanted = recipes.SCHEMA[section][key].default
    makers = {"optimizer": assembly.OPTIMIZERS, "schedule": assembly.SCHEDULES}.get(section, {})
    if wanted is None:
        found = [inspect.signature(make).parameters.get(key) for make in makers.values()]
        values = [p.default for p in found if p is not None and p.default not in (None, inspect.Parameter.empty)]
        return [plain(value) for i, value in enumerate(values) if value not in values[:i]]
    return [wanted]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_has_its_row_with_type_and_default(section: str, key: str) -> None:
    kind, value, *_, meaning = rows(f"`[{section}]`", 5)[key]
    entry = recipes.SCHEMA[section][key]
    assert kind == TYPES[entry.kinds]
    assert meaning
    if entry.required:
        assert value == "required"
    elif len(wanted := defaults(section, key)) != 1:
        assert value == ("see below" if wanted else "none")
    else:
        assert tomllib.loads(f"x = {value.strip('`')}")["x"] == wanted[0]


@pytest.mark.parametrize(("section", "table", "without"), TABLES)
def test_every_name_has_its_row_with_its_arguments(section: str, table: Table, without: set[str]) -> None:
    for name, make in table.items():
        arguments, meaning = rows(f"`[{section}]`", 3)[name]
        given = dict(re.findall(r"`(\w+)`(?: \(([^a-z][^)]*|true|false)\))?", arguments))
        parameters = inspect.signature(make).parameters
        given.pop("pad", None)
        assert given.keys() == parameters.keys() - without
        assert meaning
        for key, text in given.items():
            value = parameters[key].default
            if text and section != "model":
                assert tomllib.loads(f"x = {text}")["x"] == plain(value), (name, key)
            elif key in recipes.SCHEMA[section] and value is not inspect.Parameter.empty:
                assert len(defaults(section, key)) <= 1, (name, key)  # else each names its own
            elif section in ("data", "train"):
                assert value in (None, inspect.Parameter.empty), (name, key)


def test_no_row_is_about_something_that_there_is_not() -> None:
    known = {section: set(keys) for section, keys in recipes.SCHEMA.items()}
    for section, table, _ in TABLES:
        known[section] |= table.keys()
    known["data"] |= catalogue.NAMES.keys()
    known["optimizer"] |= set(get_args(DecayMode))
    assert {section: set(rows(f"`[{section}]`")) for section in known} == known


NOT_OF_A_RECIPE = {
    "--kernels", "--out", "--resume", "--threads", "--time-budget", "--seeds", "--verbose", "--quiet", "--json"
}  # fmt: skip


def test_the_options_of_the_command_line_are_there() -> None:
    options = {option for parameter in train.params for option in parameter.opts if option.startswith("--")}
    assert set(rows("On the command line")) == options - NOT_OF_A_RECIPE


def synthetic(shape: tuple[int, ...], classes: int) -> Splits:
    rng, n = np.random.default_rng(0), 1500
    images = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    data = Dataset(images, np.arange(n) % classes, tuple(str(k) for k in range(classes)))
    return Splits(data, data, "synthetic", "nowhere")


def test_there_are_two_examples() -> None:
    assert [tomllib.loads(text)["data"]["name"] for text in EXAMPLES] == ["letters", "mnist"]


@pytest.mark.big
@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_loads_and_trains(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    recipe = recipes.load(str(path))
    shape, classes = {"letters": ((1, 32, 32), 26), "mnist": ((1, 28, 28), 10)}[recipe["data"]["name"]]
    setup = assembly.prepare(recipe, synthetic(shape, classes))
    x, y, _ = next(setup.train.epoch(0))
    assert np.isfinite(setup.trainer.step(x, y))


ERRORS: list[dict[str, Any]] = [
    {"optimiser": {}},
    {"optimizer": {"name": "sgd"}},
    {"optimizer": {"name": "sgd", "lr": "0.1"}},
    {"optimizer": {"name": "sdg", "lr": 0.1}},
    {"data": {"name": "mnist", "transform": [{"name": "resize", "sze": 28}]}},
    {"train": {"epochs": 1, "batch_size": 64, "early_stopping": {"patience": "5"}}},
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
            assembly.prepare(recipes.check(minimal | change, "mine"), splits)
        messages.append(str(error.value))
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert "".join(blocks).splitlines() == messages
