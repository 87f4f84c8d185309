"""Recipes: everything that a training run depends on, in a TOML file with a closed set of keys."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, cast

from stridenet.errors import ConfigError, printable, shown, suggestion
from stridenet.files import read_regular
from stridenet.shapes import integer
from stridenet.strictjson import to_json

Recipe = dict[str, Any]
DEFAULT = "lenet5-mnist"
OFFLINE = "lenet5-digits"  # for want of MNIST
_MAX_BYTES = 2**20


class _Key(NamedTuple):
    """What a key may hold, and its value where it is left out; None for `default` leaves it out."""

    kinds: tuple[type, ...]
    default: Any = None
    required: bool = False
    minimum: int | None = None


_NUMBER, _TEXT, _LIST = (int, float), (str,), (list,)
SCHEMA: dict[str, dict[str, _Key]] = {
    "about": {"title": _Key(_TEXT, "")},
    "model": {"name": _Key(_TEXT, required=True), "args": _Key((dict,), {})},
    "data": {
        "name": _Key(_TEXT, required=True),
        "validation": _Key(_NUMBER, 0.1),
        "transform": _Key(_LIST, [{"name": "normalize"}]),
        "augment": _Key(_LIST, []),
    },
    "optimizer": {
        "name": _Key(_TEXT, required=True),
        "lr": _Key(_NUMBER, required=True),
        "momentum": _Key(_NUMBER),
        "nesterov": _Key((bool,)),
        "averaging": _Key((bool,)),
        "betas": _Key(_LIST),
        "eps": _Key(_NUMBER),
        "weight_decay": _Key(_NUMBER, 0.0),
        "decay_mode": _Key(_TEXT, "l2"),
    },
    "schedule": {
        "name": _Key(_TEXT, "constant"),
        "unit": _Key(_TEXT, "step"),
        "every": _Key((int,)),
        "milestones": _Key(_LIST),
        "factor": _Key(_NUMBER),
        "final": _Key(_NUMBER),
        "warmup": _Key(_NUMBER),
        "start_factor": _Key(_NUMBER),
        "final_factor": _Key(_NUMBER),
        "momentum": _Key(_LIST),
    },
    "train": {
        "epochs": _Key((int,), required=True, minimum=1),
        "batch_size": _Key((int,), required=True, minimum=1),
        "seed": _Key((int,), 0, minimum=0),
        "loss": _Key(_TEXT, "cross_entropy"),
    },
    "published": {"test": _Key(_NUMBER), "train": _Key(_NUMBER), "source": _Key(_TEXT)},
    "notes": {"expected_findings": _Key(_LIST, [])},
}


def names() -> list[str]:
    """The recipes that come with stridenet."""
    files = resources.files("stridenet.zoo").joinpath("recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """The recipe called `name`, or that of the file `name` if it ends in .toml; every section is there.

    Raises:
        ConfigError: there is no such recipe, or the file is not one; the message names the key by its path.
        FileNotFoundError: there is no such file.
    """
    if name.endswith(".toml"):
        return _from_file(name)
    if name not in names():
        hint = suggestion(name, names()) or "; a file of your own ends in .toml"
        raise ConfigError(f"recipe: expected one of {', '.join(names())}, got {printable(name)!r}{hint}")
    return check(tomllib.loads(source(name)), name)


def source(name: str) -> str:
    """The TOML text of the recipe called `name`."""
    return resources.files("stridenet.zoo").joinpath(f"recipes/{name}.toml").read_text("utf-8")


def _from_file(path: str) -> Recipe:
    who = printable(path)
    try:
        given = tomllib.loads(read_regular(Path(path), limit=_MAX_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, too long, a number of 5 000 digits
        raise ConfigError(f"{who}: expected a recipe in TOML, got: {error}") from None
    return check(given, Path(path).stem)


def check(given: Mapping[str, Any], name: str) -> Recipe:
    """`given` as a whole recipe called `name`: keys and types checked, defaults filled in.

    Raises:
        ConfigError: a key is unknown or missing, or its value has the wrong type or cannot be.
    """
    _refuse_unknown("recipe", given, SCHEMA)
    recipe: Recipe = {"name": name}
    for section, keys in SCHEMA.items():
        values = given.get(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"recipe.{section}: expected a table [{section}], got {shown(values)}")
        recipe[section] = _check_section(f"recipe.{section}", cast("dict[str, Any]", values), keys)
    to_json(recipe)  # refuses what recipe.json cannot hold: dates, NaN inside a list
    return recipe


def from_record(record: Any, who: str) -> Recipe:
    """The recipe of a run folder's recipe.json, already read; ConfigError if it is none."""
    if not isinstance(record, dict) or not isinstance(cast("dict[str, Any]", record).get("name"), str):
        raise ConfigError(f"{who}: expected a recipe, got something else")
    given = cast("dict[str, Any]", record)
    return check({key: value for key, value in given.items() if key != "name"}, given["name"])


def _check_section(who: str, values: dict[str, Any], keys: dict[str, _Key]) -> dict[str, Any]:
    _refuse_unknown(who, values, keys)
    checked: dict[str, Any] = {}
    for name, key in keys.items():
        if name not in values:
            if key.required:
                raise ConfigError(f"{who}.{name}: expected a value, got none")
            if key.default is not None:
                checked[name] = deepcopy(key.default)
            continue
        value = values[name]
        kinds = " or ".join(kind.__name__ for kind in key.kinds)
        if not isinstance(value, key.kinds) or (isinstance(value, bool) and bool not in key.kinds):
            raise ConfigError(f"{who}.{name}: expected {kinds}, got {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{who}.{name}: expected a finite number, got {value}")
        checked[name] = value if key.minimum is None else integer(who, name, value, minimum=key.minimum)
    return checked


def _refuse_unknown(who: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{who}: expected keys {', '.join(known)}, got {printable(key)!r}{suggestion(key, known)}"
            )
