from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import experiment
from stridenet.data.dataset import Dataset, Splits
from stridenet.errors import ConfigError
from stridenet.strictjson import from_json, to_json
from stridenet.zoo import models, recipes

MINIMAL = """
model.name = "lenet5"
data.name = "digits"
optimizer = { name = "sgd", lr = 0.1 }
train = { epochs = 1, batch_size = 8 }
"""


def write(folder: Path, text: str | bytes, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def noise(shape: tuple[int, ...], n: int = 6000) -> Splits:
    rng = np.random.default_rng(0)
    data = Dataset(rng.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % 10, tuple("0123456789"))
    return Splits(data, data, "noise", "nowhere")


# The recipes that come along


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_whole_and_can_be_trained(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe["name"] == name
    assert recipe["about"]["title"]
    assert recipes.check({k: v for k, v in recipe.items() if k != "name"}, name) == recipe
    assert recipes.from_record(from_json(to_json(recipe), "test"), "test") == recipe
    shape = {"mnist": (1, 28, 28), "digits": (1, 8, 8)}[recipe["data"]["name"]]
    setup = experiment.prepare(recipe, noise(shape))
    steps = len(setup.train) * recipe["train"]["epochs"]
    rates = [setup.trainer.optimizer.lr(t) for t in range(steps)]
    assert max(rates) == pytest.approx(recipe["optimizer"]["lr"], rel=1e-2)
    assert min(rates) >= 0
    x, y, _ = next(setup.train.epoch(0))
    assert np.isfinite(setup.trainer.step(x, y))


def test_the_shipped_recipes_are_these() -> None:
    assert recipes.names() == ["lenet5-digits", "lenet5-mnist"]
    assert recipes.DEFAULT in recipes.names()
    assert recipes.OFFLINE in recipes.names()


def test_the_default_recipe_is_as_its_comments_say() -> None:
    recipe = recipes.load("lenet5-mnist")
    assert round(60_000 * recipe["data"]["validation"]) == 5000
    assert recipe["data"]["transform"] == [{"name": "resize", "size": 28}, {"name": "normalize"}]
    setup = experiment.prepare(recipe, noise((1, 28, 28)))
    assert len(setup.trainer.params) == 44_426
    assert (len(setup.train.dataset), len(setup.validation.dataset)) == (5500, 500)
    rate = setup.trainer.optimizer.lr
    steps = len(setup.train) * recipe["train"]["epochs"]
    peak = recipe["optimizer"]["lr"]
    assert max(map(rate, range(steps))) == pytest.approx(peak, rel=1e-2)  # climbs to it
    assert rate(0) == pytest.approx(peak / 25)
    assert rate(steps - 1) < 1e-4 * peak  # falls to almost nothing


@pytest.mark.parametrize("name", recipes.names())
def test_the_source_is_the_recipe(name: str, tmp_path: Path) -> None:
    text = recipes.source(name)
    assert tomllib.loads(text)["model"]["name"]
    assert recipes.load(write(tmp_path, text, f"{name}.toml")) == recipes.load(name)


# Files of one's own


def test_what_is_left_out_is_filled_in(tmp_path: Path) -> None:
    recipe = recipes.load(write(tmp_path, MINIMAL))
    assert recipe == {
        "name": "mine",
        "about": {"title": ""},
        "model": {"name": "lenet5", "args": {}},
        "data": {"name": "digits", "validation": 0.1, "transform": [{"name": "normalize"}], "augment": []},
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0, "decay_mode": "l2"},
        "schedule": {"name": "constant", "unit": "step"},
        "train": {"epochs": 1, "batch_size": 8, "seed": 0, "loss": "cross_entropy"},
        "published": {},
        "notes": {"expected_findings": []},
    }


def test_the_defaults_of_one_recipe_are_not_those_of_another(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    first = recipes.load(path)
    first["model"]["args"]["classes"] = 3
    first["data"]["transform"].append({"name": "pad"})
    first["notes"]["expected_findings"].append("x")
    assert recipes.load(path) == recipes.load(write(tmp_path, MINIMAL, "mine.toml"))
    assert recipes.load(path)["model"]["args"] == {}
    assert recipes.load(path)["data"]["transform"] == [{"name": "normalize"}]


@pytest.mark.promise("L04")
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"# a comment\r\n"])
def test_a_byte_order_mark_and_windows_lines_are_accepted(mark: bytes, tmp_path: Path) -> None:
    text = mark + MINIMAL.encode().replace(b"\n", b"\r\n")
    assert recipes.load(write(tmp_path, text))["train"]["batch_size"] == 8


def test_names_that_there_are_not() -> None:
    with pytest.raises(
        ConfigError, match=r"recipe: expected one of .*, got 'lenet5-minst'; did you mean 'lenet5-mnist'\?"
    ):
        recipes.load("lenet5-minst")
    for name in ("", "..", "../zoo/recipes/lenet5-mnist", "x\x1b[31m", "lenet5-mnist\n"):
        with pytest.raises(ConfigError, match="recipe: expected one of"):
            recipes.load(name)
    with pytest.raises(FileNotFoundError):
        recipes.load("there-is-none.toml")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "section": ({"optimiser": {}}, r"recipe: expected keys about, .*, got 'optimiser'; did you mean 'optimizer'\?"),
    "dunder section": ({"__class__": {}}, r"recipe: expected keys .*, got '__class__'"),
    "key": ({"optimizer.learning_rat": 1}, r"recipe\.optimizer: expected keys name, lr, .*, got 'learning_rat'"),
    "near key": ({"optimizer.l": 1}, r"recipe\.optimizer: .*, got 'l'; did you mean 'lr'\?"),
    "dunder key": ({"train.__class__": 1}, r"recipe\.train: expected keys .*, got '__class__'"),
    "escape": ({"train.\x1b[31m": 1}, r"recipe\.train: expected keys .*, got '\\\\x1b\[31m'"),
    "no table": ({"train": 3}, r"recipe\.train: expected a table \[train\], got 3"),
    "missing": ({"optimizer.lr": None}, r"recipe\.optimizer\.lr: expected a value, got none"),
    "missing section": ({"model": None}, r"recipe\.model\.name: expected a value, got none"),
    "text for number": ({"optimizer.lr": "0.1"}, r"recipe\.optimizer\.lr: expected int or float, got '0\.1'"),
    "bool for number": ({"optimizer.lr": True}, r"recipe\.optimizer\.lr: expected int or float, got True"),
    "bool for integer": ({"train.epochs": True}, r"recipe\.train\.epochs: expected int, got True"),
    "float for integer": ({"train.epochs": 2.0}, r"recipe\.train\.epochs: expected int, got 2\.0"),
    "number for bool": ({"optimizer.nesterov": 1}, r"recipe\.optimizer\.nesterov: expected bool, got 1"),
    "number for text": ({"model.name": 5}, r"recipe\.model\.name: expected str, got 5"),
    "text for list": ({"data.transform": "normalize"}, r"recipe\.data\.transform: expected list, got 'normalize'"),
    "NaN": ({"optimizer.lr": float("nan")}, r"recipe\.optimizer\.lr: expected a finite number, got nan"),
    "infinity": ({"published.test": float("inf")}, r"recipe\.published\.test: expected a finite number, got inf"),
    "NaN inside": ({"schedule.momentum": [float("nan")]}, r"expected a value that JSON has"),
    "huge integer": ({"model.args": {"classes": 2**70}}, r"the integer .*, beyond 2\^53"),
    "no epoch": ({"train.epochs": 0}, r"recipe\.train: expected epochs >= 1, got 0"),
    "negative epochs": ({"train.epochs": -1}, r"recipe\.train: expected epochs >= 1, got -1"),
    "no batch": ({"train.batch_size": 0}, r"recipe\.train: expected batch_size >= 1, got 0"),
    "negative seed": ({"train.seed": -1}, r"recipe\.train: expected seed >= 0, got -1"),
    "huge seed": ({"train.seed": 2**60}, r"recipe\.train: expected seed <= "),
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    recipe = tomllib.loads(MINIMAL)
    for path, value in changes.items():
        section, _, key = path.partition(".")
        table = recipe.setdefault(section, {}) if key else recipe
        if value is None:
            del table[key or section]
        else:
            table[key or section] = value
    return recipe


@pytest.mark.promise("L04")
@pytest.mark.parametrize("name", CHANGES)
def test_wrong_entries_are_named_by_their_path(name: str) -> None:
    changes, message = CHANGES[name]
    with pytest.raises(ConfigError, match=message):
        recipes.check(changed(changes), "mine")


FILES: dict[str, tuple[str | bytes, str]] = {
    "syntax": (f"{MINIMAL}\n[published\n", r"mine\.toml: expected a recipe in TOML, got: .*\(at line 7, column 11\)"),
    "YAML tag": ("!!python/object/apply:os.system ['true']", r"at line 1, column 1"),
    "duplicate key": (f"{MINIMAL}\n[about]\ntitle = 'a'\ntitle = 'b'\n", r"at line 9, column"),
    "duplicate table": (f"{MINIMAL}\n[train]\nseed = 1\n", r"at line 7, column"),
    "too long": (
        MINIMAL + "#" * 2**20,
        r"mine\.toml: expected a recipe in TOML, got: .*expected at most 1048576 bytes",
    ),
    "not UTF-8": (MINIMAL.encode() + b"\n# caf\xe9\n", r"mine\.toml: expected a recipe in TOML, got: 'utf-8' codec"),
    "UTF-16": (MINIMAL.encode("utf-16"), r"mine\.toml: expected a recipe in TOML"),
    "NUL": (MINIMAL + "\x00", r"mine\.toml: expected a recipe in TOML"),
    "nested": ("a = " + "[" * 5000, r"mine\.toml: expected a recipe in TOML"),
    "dotted": (".".join("a" * 5000) + " = 1", "expected"),
    "long number": (f"{MINIMAL}\n[published]\ntest = {'9' * 5000}\n", "expected"),
    "date": (f"{MINIMAL}\n[notes]\nexpected_findings = [1979-05-27]\n", "expected a value that JSON has"),
    "empty": ("", r"recipe\.model\.name: expected a value, got none"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), r"mine\.toml: expected a recipe in TOML"),
}


@pytest.mark.promise("L04")
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_recipes(name: str, tmp_path: Path) -> None:
    text, message = FILES[name]
    with pytest.raises(ConfigError, match=message) as error:
        recipes.load(write(tmp_path, text))
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(IsADirectoryError):
        recipes.load(str(tmp_path / "folder.toml"))


# What a recipe asks for and cannot get


WANTED: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": ({"optimizer.name": "sdg"}, r"recipe\.optimizer\.name: expected one of adam, sgd, got 'sdg'; did you"),
    "its keys": ({"optimizer.betas": [0.9, 0.99]}, r"recipe\.optimizer: expected keys that sgd has, got \['betas'\]"),
    "no lr": ({"optimizer.lr": 0}, "recipe.optimizer: expected lr > 0, got 0"),
    "negative lr": ({"optimizer.lr": -0.1}, "recipe.optimizer: expected lr"),
    "momentum": ({"optimizer.momentum": 1.0}, r"SGD: expected momentum.* in \[0, 1\)"),
    "decay": ({"optimizer.weight_decay": -1}, "SGD: expected weight_decay"),
    "decay mode": (
        {"optimizer.decay_mode": "L2"},
        r"SGD\.decay_mode: expected one of l2, decoupled, constant, got 'L2'",
    ),
    "betas": ({"optimizer.name": "adam", "optimizer.betas": [0.9]}, "Adam: expected betas"),
    "schedule": ({"schedule.name": "cosin"}, r"recipe\.schedule\.name: expected one of .*; did you mean 'cosine'\?"),
    "its key": ({"schedule.every": 3}, r"recipe\.schedule: expected keys that constant has, got name, unit, every"),
    "unit": ({"schedule.unit": "batch"}, r"recipe\.schedule\.unit: expected one of epoch, step, got 'batch'"),
    "no step": ({"schedule.name": "step"}, "expected one of every and milestones"),
    "cycle": ({"schedule.momentum": [0.9, 0.8, 0.7]}, r"recipe\.schedule\.momentum: expected \[high, low\], got"),
    "cycle of texts": ({"schedule.momentum": ["a", "b"]}, "one_cycle_momentum: expected high"),
    "no cycle": ({"schedule.momentum": []}, r"recipe\.schedule\.momentum: expected \[high, low\], got \[\]"),
    "loss": ({"train.loss": "mse"}, r"recipe\.train\.loss: expected one of cross_entropy, got 'mse'"),
    "model": ({"model.name": "resnet"}, r"recipe\.model\.name: expected one of lenet5, got 'resnet'"),
    "argument": ({"model.args": {"clases": 10}}, r"recipe\.model\.args: .*; did you mean 'classes'\?"),
    "classes": ({"model.args": {"classes": 9}}, r"recipe\.model: expected a score for each of 10 classes"),
    "size": (
        {"model.args": {"input_size": 32}},
        r'expected images of 1x32x32 for lenet5, got 1x28x28; put { name = "resize", size = 32 } first into',
    ),
    "transform": ({"data.transform": [{"name": "normalise"}]}, r"transform\[0\]\.name: .*; did you mean 'normalize'\?"),
    "augment": ({"data.augment": [{"name": "flip"}]}, r"augment\[0\]\.name: expected one of random_shift, got 'flip'"),
    "augment as text": ({"data.augment": ["random_shift"]}, r"augment\[0\]: expected an entry with a name"),
    "no validation": ({"data.validation": 0}, "expected part >= 1, got 0"),
    "all validation": ({"data.validation": 1.0}, r"expected a fraction in \(0, 1\), got 1\.0"),
    "more validation": ({"data.validation": 5000}, r"expected a part of 1 to 199 of the 200 images, got 5000"),
}


@pytest.mark.promise("P06", "L04")
@pytest.mark.parametrize("name", WANTED)
def test_a_recipe_that_cannot_be_made_is_refused(name: str) -> None:
    changes, message = WANTED[name]
    recipe = recipes.check(changed(changes), "mine")
    with pytest.raises(ConfigError, match=message):
        experiment.prepare(recipe, noise((1, 28, 28), 200))


def test_every_optimizer_and_schedule_can_be_named() -> None:
    splits = noise((1, 28, 28), 200)
    for changes, rates in [
        ({"schedule.name": "cosine", "schedule.final": 0.01}, [0.1, 0.01]),
        ({"schedule.name": "cosine", "schedule.unit": "epoch"}, [0.1, 0.1]),
        ({"schedule.name": "step", "schedule.every": 5, "schedule.factor": 0.5}, [0.1, 0.1 * 0.5**4]),
        ({"schedule.name": "step", "schedule.milestones": [3, 9]}, [0.1, 0.1 * 0.01]),
        ({"optimizer.name": "adam", "optimizer.betas": [0.8, 0.9], "optimizer.eps": 1e-6}, [0.1, 0.1]),
        ({"optimizer.nesterov": True, "optimizer.momentum": 0.9}, [0.1, 0.1]),
        ({"optimizer.averaging": True, "optimizer.momentum": 0.9, "optimizer.lr": 1}, [1, 1]),
    ]:
        setup = experiment.prepare(recipes.check(changed(changes), "mine"), splits)
        assert len(setup.train) == 23
        assert [setup.trainer.optimizer.lr(t) for t in (0, 22)] == pytest.approx(rates, rel=0.07)
    for name in ("sgd", "adam"):
        cycle = {"optimizer.name": name, "schedule.name": "one_cycle", "schedule.momentum": [0.95, 0.85]}
        trainer = experiment.prepare(recipes.check(changed(cycle), "mine"), splits).trainer
        share = getattr(trainer.optimizer, "_momentum" if name == "sgd" else "_beta1")
        assert (share(0), share(22)) == pytest.approx((0.95, 0.95))
        assert min(share(t) for t in range(23)) == pytest.approx(0.85, abs=1e-3)


def test_records_that_are_no_recipes() -> None:
    for record in (None, [], "x", {}, {"name": 3}, {"name": None}):
        with pytest.raises(ConfigError, match=r"recipe\.json: expected a recipe, got something else"):
            recipes.from_record(record, "recipe.json")
    with pytest.raises(ConfigError, match=r"recipe\.model\.name"):
        recipes.from_record({"name": "x"}, "recipe.json")


def test_the_schema_is_the_one_of_the_default_recipe_and_more() -> None:
    for name in recipes.names():
        given = tomllib.loads(recipes.source(name))
        for section, table in given.items():
            assert table.keys() <= recipes.SCHEMA[section].keys()
    assert not any(re.search(r"[^a-z_]", key) for table in recipes.SCHEMA.values() for key in table)
    assert set(models.MODELS) == {"lenet5"}
