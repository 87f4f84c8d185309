"""Recipes: everything that a training run depends on, in a TOML file with a closed set of keys."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, cast

from stridenet.errors import ConfigError, printable, shown, suggestion
from stridenet.files import read_regular
from stridenet.shapes import choice, integer
from stridenet.strictjson import to_json
from stridenet.train.findings import KINDS

Recipe = dict[str, Any]
DEFAULT = "lenet5-mnist"
OFFLINE = "lenet5-digits"  # for want of MNIST
COLOUR = "photos"  # where no recipe is named, and the images of the data that are have colours
_MAX_BYTES = 2**20
_LONG_KEY = re.compile(r"""^[ \t]*(?:(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.[ \t]*){32}""", re.MULTILINE)


class _Key(NamedTuple):
    """What a key may hold, and its value where it is left out; None for `default` leaves it out."""

    kinds: tuple[type, ...]
    default: Any = None
    required: bool = False
    minimum: int | None = None
    keys: Mapping[str, _Key] | None = None  # of a table with keys of its own


_NUMBER, _TEXT, _LIST, _WHOLE, _TABLE = (int, float), (str,), (list,), (int,), (dict,)
_TEXT_OR_LIST, _FLAG = (str, list), (bool,)
_WORDS: dict[tuple[type, ...], str] = {  # as TOML and docs/recipes.md call them
    _NUMBER: "a number",
    _TEXT: "text",
    _LIST: "a list",
    _WHOLE: "a whole number",
    _TABLE: "a table",
    _TEXT_OR_LIST: "text or a list",
    _FLAG: "true or false",
}
SCHEMA: dict[str, dict[str, _Key]] = {
    "about": {"title": _Key(_TEXT, "")},
    "model": {"name": _Key(_TEXT, required=True), "args": _Key(_TABLE, {})},
    "data": {
        "name": _Key(_TEXT, required=True),
        "size": _Key(_WHOLE, minimum=1),
        "validation": _Key(_NUMBER, 0.1),
        "transform": _Key(_LIST, [{"name": "normalize"}]),
        "augment": _Key(_LIST, []),
    },
    "optimizer": {
        "name": _Key(_TEXT, required=True),
        "lr": _Key(_NUMBER, required=True),
        "momentum": _Key(_NUMBER),
        "nesterov": _Key(_FLAG),
        "averaging": _Key(_FLAG),
        "betas": _Key(_LIST),
        "alpha": _Key(_NUMBER),
        "rho": _Key(_NUMBER),
        "eps": _Key(_NUMBER),
        "centered": _Key(_FLAG),
        "lr_decay": _Key(_NUMBER),
        "initial_accumulator_value": _Key(_NUMBER),
        "mu": _Key(_NUMBER),
        "weight_decay": _Key(_NUMBER, 0.0),
        "decay_mode": _Key(_TEXT, "l2"),
        "decay_biases": _Key(_FLAG),
        "lr_scale": _Key(_TABLE),
    },
    "schedule": {
        "name": _Key(_TEXT, "constant"),
        "unit": _Key(_TEXT, "step"),
        "every": _Key(_WHOLE),
        "milestones": _Key(_LIST),
        "factors": _Key(_LIST),
        "factor": _Key(_NUMBER),
        "power": _Key(_NUMBER),
        "final": _Key(_NUMBER),
        "warmup": _Key(_NUMBER),
        "start_factor": _Key(_NUMBER),
        "final_factor": _Key(_NUMBER),
        "momentum": _Key(_LIST),
        "warm_up": _Key(_WHOLE, minimum=1),
    },
    "train": {
        "epochs": _Key(_WHOLE, required=True, minimum=1),
        "batch_size": _Key(_WHOLE, required=True, minimum=1),
        "seed": _Key(_WHOLE, 0, minimum=0),
        "reshuffle": _Key(_FLAG),
        "drop_last": _Key(_FLAG),
        "loss": _Key(_TEXT, "cross_entropy"),
        "class_weights": _Key(_TEXT_OR_LIST),
        "clip_norm": _Key(_NUMBER),
        "init": _Key(_TEXT),
        "freeze": _Key(_WHOLE, minimum=1),
        "early_stopping": _Key(_TABLE, keys={"patience": _Key(_WHOLE), "min_delta": _Key(_NUMBER)}),
        "reduce_on_plateau": _Key(
            _TABLE,
            keys={
                "factor": _Key(_NUMBER),
                "patience": _Key(_WHOLE),
                "min_delta": _Key(_NUMBER),
                "cooldown": _Key(_WHOLE),
            },
        ),
        "weight_average": _Key(_TABLE, keys={"decay": _Key(_NUMBER), "start_epoch": _Key(_WHOLE)}),
    },
    "published": {
        "test": _Key(_NUMBER),
        "validation": _Key(_NUMBER),
        "train": _Key(_NUMBER),
        "source": _Key(_TEXT),
    },
    "notes": {"expected_findings": _Key(_LIST, [])},
}


_ELSEWHERE = {"learning_rate": "lr", "type": "name", "epsilon": "eps", "gamma": "factor"}  # other frameworks' keys


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
        text = read_regular(Path(path), limit=_MAX_BYTES).decode("utf-8-sig")
        if _LONG_KEY.search(text):  # tomllib takes memory as the square of a key's parts
            raise ValueError("a key of more than 32 parts")
        given = tomllib.loads(text)
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
    if recipe["optimizer"]["name"] == "adamw":  # it decays unless told otherwise, in its own way
        for key in {"weight_decay", "decay_mode"} - given["optimizer"].keys():
            del recipe["optimizer"][key]
    to_json(recipe)  # refuses what recipe.json cannot hold: dates, NaN inside a list
    for i, code in enumerate(recipe["notes"]["expected_findings"]):
        choice(f"recipe.notes.expected_findings[{i}]", code, KINDS)
    return recipe


def from_record(record: Any, who: str) -> Recipe:
    """The recipe of a run folder's recipe.json, already read; ConfigError if it is none."""
    if not isinstance(record, dict) or not isinstance(cast("dict[str, Any]", record).get("name"), str):
        raise ConfigError(f"{who}: expected a recipe, got something else")
    given = cast("dict[str, Any]", record)
    return check({key: value for key, value in given.items() if key != "name"}, given["name"])


def _check_section(who: str, values: dict[str, Any], keys: Mapping[str, _Key]) -> dict[str, Any]:
    _refuse_unknown(who, values, keys)
    checked: dict[str, Any] = {}
    for name, key in keys.items():
        if name not in values:
            if key.required:
                raise ConfigError(f"{who}.{name}: expected a value, got none")
            if key.default is not None:
                checked[name] = deepcopy(key.default)
            continue
        checked[name] = _check_value(who, name, values[name], key)
    return checked


def _check_value(who: str, name: str, value: Any, key: _Key) -> Any:
    if not isinstance(value, key.kinds) or (isinstance(value, bool) and bool not in key.kinds):
        raise ConfigError(f"{who}.{name}: expected {_WORDS[key.kinds]}, got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{who}.{name}: expected a finite number, got {value}")
    if key.keys is not None:
        return _check_section(f"{who}.{name}", cast("dict[str, Any]", value), key.keys)
    return value if key.minimum is None else integer(who, name, value, minimum=key.minimum)


def _refuse_unknown(who: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known:
            same = _ELSEWHERE.get(key.lower(), "")
            hint = suggestion(same if same in known else key, known)
            raise ConfigError(f"{who}: expected keys {', '.join(known)}, got {printable(key)[:80]!r}{hint}")
