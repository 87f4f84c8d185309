from __future__ import annotations

import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import assembly, experiment
from stridenet.data.dataset import Dataset, Splits
from stridenet.errors import ConfigError
from stridenet.nn.losses import hinge
from stridenet.optim.schedules import cosine
from stridenet.strictjson import from_json, to_json
from stridenet.train.policies import EarlyStopping, ReduceOnPlateau, WeightAverage
from stridenet.train.telemetry import Norms
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


@pytest.mark.big
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_whole_and_can_be_trained(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe["name"] == name
    assert recipe["about"]["title"]
    assert recipes.check({k: v for k, v in recipe.items() if k != "name"}, name) == recipe
    assert recipes.from_record(from_json(to_json(recipe), "test"), "test") == recipe
    shape = {"mnist": (1, 28, 28), "digits": (1, 8, 8), "cifar10": (3, 32, 32)}[recipe["data"]["name"]]
    setup = experiment.prepare(recipe, noise(shape))
    steps = len(setup.train) * recipe["train"]["epochs"]
    rates = [setup.trainer.optimizer.lr(t) for t in range(steps)]
    assert max(rates) == pytest.approx(recipe["optimizer"]["lr"], rel=1e-2)
    assert min(rates) >= 0
    x, y, _ = next(setup.train.epoch(0))
    assert np.isfinite(setup.trainer.step(x, y))


def test_the_shipped_recipes_are_these() -> None:
    systems = [name for name in recipes.names() if name.startswith("s")]
    assert [name for name in recipes.names() if name not in systems] == ["lenet5-digits", "lenet5-mnist", "photos"]
    assert {name[:2] for name in systems} == {"s0", "s1", "s2", "s3", "s4"}
    assert recipes.DEFAULT in recipes.names()
    assert recipes.OFFLINE in recipes.names()


@pytest.mark.big
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
    "key of another framework": (
        {"optimizer.learning_rate": 0.1},
        r"recipe\.optimizer: .*, got 'learning_rate'; did you mean 'lr'\?$",
    ),
    "key of another framework, elsewhere": ({"data.learning_rate": 0.1}, r"recipe\.data: .*, got 'learning_rate'$"),
    "near key": ({"optimizer.l": 1}, r"recipe\.optimizer: .*, got 'l'; did you mean 'lr'\?"),
    "dunder key": ({"train.__class__": 1}, r"recipe\.train: expected keys .*, got '__class__'"),
    "escape": ({"train.\x1b[31m": 1}, r"recipe\.train: expected keys .*, got '\\\\x1b\[31m'"),
    "no table": ({"train": 3}, r"recipe\.train: expected a table \[train\], got 3"),
    "missing": ({"optimizer.lr": None}, r"recipe\.optimizer\.lr: expected a value, got none"),
    "missing section": ({"model": None}, r"recipe\.model\.name: expected a value, got none"),
    "text for number": ({"optimizer.lr": "0.1"}, r"recipe\.optimizer\.lr: expected a number, got '0\.1'"),
    "bool for number": ({"optimizer.lr": True}, r"recipe\.optimizer\.lr: expected a number, got True"),
    "bool for integer": ({"train.epochs": True}, r"recipe\.train\.epochs: expected a whole number, got True"),
    "float for integer": ({"train.epochs": 2.0}, r"recipe\.train\.epochs: expected a whole number, got 2\.0"),
    "number for bool": ({"optimizer.nesterov": 1}, r"recipe\.optimizer\.nesterov: expected true or false, got 1"),
    "number for text": ({"model.name": 5}, r"recipe\.model\.name: expected text, got 5"),
    "text for list": ({"data.transform": "normalize"}, r"recipe\.data\.transform: expected a list, got 'normalize'"),
    "NaN": ({"optimizer.lr": float("nan")}, r"recipe\.optimizer\.lr: expected a finite number, got nan"),
    "infinity": ({"published.test": float("inf")}, r"recipe\.published\.test: expected a finite number, got inf"),
    "NaN inside": ({"schedule.momentum": [float("nan")]}, r"expected a value that JSON has"),
    "huge integer": ({"model.args": {"classes": 2**70}}, r"the integer .*, beyond 2\^53"),
    "no epoch": ({"train.epochs": 0}, r"recipe\.train: expected epochs >= 1, got 0"),
    "negative epochs": ({"train.epochs": -1}, r"recipe\.train: expected epochs >= 1, got -1"),
    "no batch": ({"train.batch_size": 0}, r"recipe\.train: expected batch_size >= 1, got 0"),
    "negative seed": ({"train.seed": -1}, r"recipe\.train: expected seed >= 0, got -1"),
    "an option": ({"train.--epochs": 3}, r"recipe\.train: expected keys epochs, .*, got '--epochs'; did you mean 'ep"),
    "policy": ({"train.early_stopping": 5}, r"recipe\.train\.early_stopping: expected a table, got 5"),
    "its key": (
        {"train.early_stopping": {"patienc": 5}},
        r"recipe\.train\.early_stopping: expected keys patience, min_delta, got 'patienc'; did you mean 'patience'\?",
    ),
    "its type": (
        {"train.early_stopping": {"patience": "5"}},
        r"recipe\.train\.early_stopping\.patience: expected a whole number, got '5'",
    ),
    "its bool": (
        {"train.weight_average": {"start_epoch": True}},
        r"weight_average\.start_epoch: expected a whole number, got True",
    ),
    "its NaN": (
        {"train.reduce_on_plateau": {"factor": float("nan")}},
        r"recipe\.train\.reduce_on_plateau\.factor: expected a finite number, got nan",
    ),
    "class weights": ({"train.class_weights": 3}, r"recipe\.train\.class_weights: expected text or a list, got 3"),
    "no frozen layer": ({"train.freeze": 0}, r"recipe\.train: expected freeze >= 1, got 0"),
    "init": ({"train.init": ["a"]}, r"recipe\.train\.init: expected text, got \['a'\]"),
    "no warm-up": ({"schedule.warm_up": 0}, r"recipe\.schedule: expected warm_up >= 1, got 0"),
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
    "NaN": (MINIMAL.replace("lr = 0.1", "lr = nan"), r"recipe\.optimizer\.lr: expected a finite number, got nan"),
    "infinity": (
        MINIMAL.replace("lr = 0.1", "lr = -inf"),
        r"recipe\.optimizer\.lr: expected a finite number, got -inf",
    ),
    "dunder": (f"{MINIMAL}\n[__class__]\nx = 1\n", r"recipe: expected keys .*, got '__class__'"),
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
    "optimizer": (
        {"optimizer.name": "sdg"},
        r"recipe\.optimizer\.name: expected one of adadelta, .*, sgd, got 'sdg'; did you",
    ),
    "its keys": ({"optimizer.betas": [0.9, 0.99]}, r"recipe\.optimizer sgd: expected one of lr, .*, got 'betas'"),
    "no lr": ({"optimizer.lr": 0}, "recipe.optimizer: expected lr > 0, got 0"),
    "negative lr": ({"optimizer.lr": -1}, "recipe.optimizer: expected lr > 0, got -1"),
    "momentum": ({"optimizer.momentum": 1.0}, r"SGD: expected momentum.* in \[0, 1\)"),
    "decay": ({"optimizer.weight_decay": -1}, "SGD: expected weight_decay"),
    "decay mode": (
        {"optimizer.decay_mode": "L2"},
        r"SGD\.decay_mode: expected one of l2, decoupled, constant, got 'L2'",
    ),
    "betas": ({"optimizer.name": "adam", "optimizer.betas": [0.9]}, "Adam: expected betas"),
    "schedule": ({"schedule.name": "cosin"}, r"recipe\.schedule\.name: expected one of .*; did you mean 'cosine'\?"),
    "its key": (
        {"schedule.every": 3},
        r"recipe\.schedule constant: expected one of unit, momentum, warm_up, got 'every'",
    ),
    "warmup": (
        {"schedule.name": "cosine", "schedule.warmup": 50},
        r"schedule cosine: expected one of unit, momentum, warm_up, final, got 'warmup'; did you mean 'warm_up'\?",
    ),
    "final above lr": (
        {"schedule.name": "cosine", "schedule.final": 0.5},
        r"recipe\.schedule\.final: expected at most the lr of 0\.1, got 0\.5",
    ),
    "unit": ({"schedule.unit": "batch"}, r"recipe\.schedule\.unit: expected one of epoch, step, got 'batch'"),
    "no step": ({"schedule.name": "step"}, "expected one of every and milestones"),
    "cycle": ({"schedule.momentum": [0.9, 0.8, 0.7]}, r"recipe\.schedule\.momentum: expected \[high, low\], got"),
    "cycle of texts": (
        {"schedule.momentum": ["a", "b"]},
        r"recipe\.schedule\.momentum: expected high to be a finite number in \[0, 1\), got 'a'",
    ),
    "cycle the wrong way round": (
        {"schedule.momentum": [0.85, 0.95]},
        r"recipe\.schedule\.momentum: expected \[high, low\], got \[0\.85, 0\.95\]; turn",
    ),
    "no cycle": ({"schedule.momentum": []}, r"recipe\.schedule\.momentum: expected \[high, low\], got \[\]"),
    "cycle by epochs": (
        {"schedule.momentum": [0.9, 0.8], "schedule.unit": "epoch"},
        r'recipe\.schedule\.momentum: expected unit = "step" and no warm_up beside it',
    ),
    "loss": (
        {"train.loss": "msw"},
        r"recipe\.train\.loss: expected one of cross_entropy, hinge, map, mse, rbf_mse, got 'msw'; did you",
    ),
    "model": ({"model.name": "resnet"}, r"recipe\.model\.name: expected one of lenet5, .*resnet20, got 'resnet'"),
    "argument": ({"model.args": {"clases": 10}}, r"recipe\.model lenet5: .*; did you mean 'classes'\?"),
    "classes": (
        {"model.args": {"classes": 9}},
        r"recipe\.model: expected a score for each of the 10 classes of the data, got 9; give args = { classes = 10 }",
    ),
    "channels": (
        {"model.args": {"channels": 3}},
        r"expected images of 3x28x28 for lenet5, got 1x28x28; give args = { channels = 1 } under \[model\]",
    ),
    "size": (
        {"model.args": {"input_size": 32}},
        r'expected images of 1x32x32 for lenet5, got 1x28x28; put { name = "resize", size = 32 } first into',
    ),
    "transform": ({"data.transform": [{"name": "normalise"}]}, r"transform\[0\]\.name: .*; did you mean 'normalize'\?"),
    "augment": ({"data.augment": [{"name": "flip"}]}, r"augment\[0\]\.name: expected one of affine, .*, got 'flip'"),
    "augment as text": ({"data.augment": ["random_shift"]}, r"augment\[0\]: expected an entry with a name"),
    "negative clip": ({"train.clip_norm": -1}, r"recipe\.train\.clip_norm: expected clip_norm > 0, got -1"),
    "class weight": ({"train.class_weights": [1, 2]}, r"recipe\.train\.class_weights: expected \"balanced\" or "),
    "no weights": (
        {"train.class_weights": [0] * 10},
        r"recipe\.train\.class_weights: expected weights >= 0 that are not all zero",
    ),
    "unknown weights": ({"train.class_weights": "equal"}, r"recipe\.train\.class_weights: expected .*balanced"),
    "patience": (
        {"train.early_stopping": {"patience": -1}},
        r"recipe\.train\.early_stopping: EarlyStopping: expected patience >= 1, got -1",
    ),
    "plateau": (
        {"train.reduce_on_plateau": {"factor": 1.5}},
        r"recipe\.train\.reduce_on_plateau: ReduceOnPlateau: exp",
    ),
    "average": (
        {"train.weight_average": {"decay": 1}},
        r"recipe\.train\.weight_average: WeightAverage: expected decay in \(0, 1\), got 1",
    ),
    "no average": (
        {"train.weight_average": {"decay": 0}},
        r"recipe\.train\.weight_average: WeightAverage: expected decay in \(0, 1\), got 0",
    ),
    "average too late": (
        {"train.weight_average": {"start_epoch": 1}},
        r"recipe\.train\.weight_average\.start_epoch: expected less than the epochs of the run, 1, got 1",
    ),
    "frozen alone": ({"train.freeze": 1}, r"recipe\.train\.freeze: expected train\.init beside it, got none"),
    "key of adam": (
        {"optimizer.name": "adamw", "optimizer.decay_mode": "l2"},
        r"optimizer adamw: .*, got 'decay_mode'",
    ),
    "no factor": (
        {"schedule.name": "exponential"},
        r"recipe\.schedule exponential: expected the key factor as well, got none",
    ),
    "long warm-up": (
        {"schedule.warm_up": 23},
        r"recipe\.schedule\.warm_up: expected fewer than the 23 steps of the run, got 23",
    ),
    "names before a long warm-up": (
        {"schedule.warm_up": 23, "schedule.name": "cosin"},
        r"recipe\.schedule\.name: expected one of",
    ),
    "optimizer before a long warm-up": (
        {"schedule.warm_up": 23, "optimizer.name": "sdg"},
        r"recipe\.optimizer\.name: expected one of",
    ),
    "momentum of adagrad": (
        {"optimizer.name": "adagrad", "schedule.momentum": [0.9, 0.8]},
        r"recipe\.schedule\.momentum: expected an optimizer that has momentum, got adagrad",
    ),
    "negative validation": ({"data.validation": -1}, r"recipe\.data\.validation: expected part >= 1, got -1"),
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


@pytest.mark.big
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 5), ((3, 28, 28), 10)])
def test_classes_and_channels_that_args_leave_out_are_those_of_the_data(shape: tuple[int, ...], classes: int) -> None:
    data = noise(shape, 200).train
    data = Dataset(data.images, data.targets % classes, tuple(map(str, range(classes))))
    recipe = recipes.check(changed({}), "mine")
    network = experiment.prepare(recipe, Splits(data, data, "noise", "nowhere")).network
    assert (network.input_shape, network.output_shape(shape)) == (shape, (classes,))
    assert recipe["model"]["args"] == {}  # the run is that of the recipe as it was written


@pytest.mark.big
def test_every_schedule_can_be_named() -> None:
    splits, named = noise((1, 28, 28), 200), set()
    for changes, rates in [
        ({"schedule.name": "constant"}, [0.1, 0.1]),
        ({"schedule.name": "cosine", "schedule.final": 0.01}, [0.1, 0.01]),
        ({"schedule.name": "cosine", "schedule.unit": "epoch"}, [0.1, 0.1]),
        ({"schedule.name": "step", "schedule.every": 5, "schedule.factor": 0.5}, [0.1, 0.1 * 0.5**4]),
        ({"schedule.name": "step", "schedule.milestones": [3, 9]}, [0.1, 0.1 * 0.01]),
        ({"schedule": {"name": "piecewise", "milestones": [3, 9], "factors": [0.5, 0.3]}}, [0.1, 0.03]),
        ({"schedule.name": "exponential", "schedule.factor": 0.9}, [0.1, 0.1 * 0.9**22]),
        ({"schedule.name": "polynomial", "schedule.power": 2, "schedule.final": 0.02}, [0.1, 0.02 + 0.08 / 23**2]),
        ({"schedule.name": "one_cycle"}, [0.1 / 25, 0.1 / 25e4]),
    ]:
        recipe = recipes.check(changed(changes), "mine")
        named.add(recipe["schedule"]["name"])
        setup = experiment.prepare(recipe, splits)
        assert len(setup.train) == 23
        assert [setup.trainer.optimizer.lr(t) for t in (0, 22)] == pytest.approx(rates, rel=0.07)
    assert named == assembly.SCHEDULES.keys()


@pytest.mark.big
@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_a_warm_up_climbs_step_by_step_and_the_schedule_has_the_rest(unit: str) -> None:
    length, climb = (46, 6) if unit == "step" else (2, 1)
    changes = {"schedule": {"name": "cosine", "unit": unit, "warm_up": climb}, "train.epochs": 2}
    setup = experiment.prepare(recipes.check(changed(changes), "mine"), noise((1, 28, 28), 200))
    rate, steps = setup.trainer.optimizer.lr, climb * (1 if unit == "step" else 23)
    assert [rate(t) for t in range(steps)] == pytest.approx([0.1 * t / steps for t in range(steps)])
    wanted = cosine(0.1, total=length - climb)
    rest = [rate(t) for t in range(steps, 46)]
    assert rest == [wanted(t if unit == "step" else 0) for t in range(46 - steps)]


OPTIMIZER_KEYS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adam": {"betas": [0.8, 0.9], "eps": 1e-6, "decay_mode": "constant"},
    "adamw": {"betas": [0.8, 0.9], "weight_decay": 0.1},
    "rmsprop": {"alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 1e-6},
    "adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6},
    "adadelta": {"rho": 0.8, "eps": 1e-5},
    "sdlm": {"mu": 0.5},
}


@pytest.mark.big
@pytest.mark.parametrize("name", assembly.OPTIMIZERS)
def test_every_optimizer_can_be_named_with_its_keys(name: str) -> None:
    """The first step of the recipe is that of the same optimiser made by hand."""
    recipe = recipes.check(changed({"optimizer": {"name": name, "lr": 0.01, **OPTIMIZER_KEYS[name]}}), "mine")
    setup = experiment.prepare(recipe, noise((1, 28, 28), 200))
    twin = deepcopy(setup.network)
    wanted = assembly.OPTIMIZERS[name](twin.pack(), 0.01, **OPTIMIZER_KEYS[name])
    assert type(setup.trainer.optimizer) is type(wanted)
    for seed in range(3):
        gradient = np.random.default_rng(seed).normal(size=len(setup.trainer.params)).astype(np.float32)
        for optimizer in (setup.trainer.optimizer, wanted):
            optimizer.params.grad[...] = gradient
            optimizer.step()
    assert np.array_equal(setup.trainer.params.value, twin.pack().value)


def test_adamw_decays_unless_told_otherwise() -> None:
    def resolved(**keys: Any) -> dict[str, Any]:
        return recipes.check(changed({"optimizer": {"name": "adamw", "lr": 0.01, **keys}}), "mine")["optimizer"]

    assert resolved() == {"name": "adamw", "lr": 0.01}
    assert resolved(weight_decay=0.0) == {"name": "adamw", "lr": 0.01, "weight_decay": 0.0}


@pytest.mark.big
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_momentum_may_cycle(name: str) -> None:
    cycle = {"optimizer": {"name": name, "lr": 0.1}, "schedule": {"name": "one_cycle", "momentum": [0.95, 0.85]}}
    trainer = experiment.prepare(recipes.check(changed(cycle), "mine"), noise((1, 28, 28), 200)).trainer
    share = getattr(trainer.optimizer, "_momentum" if name in ("sgd", "rmsprop") else "_beta1")
    assert (share(0), share(22)) == pytest.approx((0.95, 0.95))
    assert min(share(t) for t in range(23)) == pytest.approx(0.85, abs=1e-3)


@pytest.mark.big
def test_the_section_of_the_training_reaches_the_trainer() -> None:
    policies = {
        "early_stopping": {"patience": 3, "min_delta": 0.01},
        "reduce_on_plateau": {"factor": 0.5, "patience": 2, "min_delta": 0.1, "cooldown": 1},
        "weight_average": {"decay": 0.9, "start_epoch": 2},
    }
    changes = {f"train.{name}": table for name, table in policies.items()}
    changes |= {
        "train.epochs": 3,
        "train.loss": "hinge",
        "train.clip_norm": 2,
        "train.class_weights": list(range(1, 11)),
    }
    recipe = recipes.check(changed(changes), "mine")
    assert recipe["train"].items() >= policies.items()
    setup = experiment.prepare(recipe, noise((1, 28, 28), 200), threads=1)
    assert setup.trainer.loss is hinge
    assert setup.trainer.clip_norm == 2
    assert setup.train.dataset.weights is not None
    assert setup.train.dataset.weights.tolist() == (setup.train.dataset.targets + 1).tolist()
    assert setup.validation.dataset.weights is None
    *found, best, norms = setup.trainer.callbacks
    assert best is setup.best  # the average is in place when it looks
    assert type(norms) is Norms
    assert [type(callback) for callback in found] == [WeightAverage, ReduceOnPlateau, EarlyStopping]
    for callback, table in zip(found, reversed(policies.values()), strict=True):
        assert vars(callback).items() >= table.items()
    assert recipes.check(changed({"train.early_stopping": {}}), "mine")["train"]["early_stopping"] == {}


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
    assert set(models.MODELS) == {"lenet5", "lenet5_1998", "pynet", "lenet5_batchnorm", "cifar_convnet", "resnet20"}
