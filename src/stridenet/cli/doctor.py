"""`stridenet doctor`: what would go wrong in a training, or is wrong with a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import click

from stridenet.cli.shared import complete_data, complete_recipe, echo_json, json_option, recipe_entry
from stridenet.cli.warmup import compile_first
from stridenet.errors import ConfigError, StridenetError, printable, suggestion

if TYPE_CHECKING:
    from stridenet.data.dataset import Dataset, Splits
    from stridenet.model import Model
    from stridenet.nn.losses import Loss
    from stridenet.train.findings import Check
    from stridenet.zoo.recipes import Recipe

_EPILOG = """\b
Examples:
  stridenet doctor lenet5-mnist               before a training
  stridenet doctor my_recipe.toml --data my_photos/
  stridenet doctor runs/lenet5-mnist-001      after it: its history, the gradients and units of the trained network
"""


class _Report(NamedTuple):
    """What was looked at, and the codes of the findings that the recipe declares."""

    checks: list[Check]
    expected: list[str]


@click.command(epilog=_EPILOG)
@click.argument("source", metavar="RECIPE|MODEL", shell_complete=complete_recipe)
@click.option(
    "--data",
    metavar="mnist|cifar10|digits|DIR",
    help="Data set to take in place of that of the recipe or the model.",
    shell_complete=complete_data,
)
@json_option()
def doctor(source: str, data: str | None, as_json: bool) -> None:
    """Look for what makes trainings fail, before they do.

    Each check prints what it measured. A finding says what, where, why it matters and what to do; those that a recipe
    declares in its expected_findings are named and do not count. Exit 0 if nothing else was found, 1 if something was.
    All findings are explained in docs/doctor.md.
    """
    from stridenet.zoo import recipes

    if source in recipes.names() or source.endswith(".toml"):
        report = _of_recipe(source, data)
    elif source and Path(source).exists():
        report = _of_model(Path(source), data)
    else:
        hint = suggestion(source, recipes.names()) or "; `stridenet recipes` lists the recipes"
        raise ConfigError(
            f"doctor: expected a recipe or a path (of a .toml file, a model file or a run folder), got"
            f" {printable(source)!r}{hint}"
        )
    if _echo(source, report, as_json):
        raise click.exceptions.Exit(1)


def _of_recipe(name: str, data: str | None) -> _Report:
    """The trainer that `stridenet train` would make, examined with its data."""
    from stridenet.cli.train import changed, with_places
    from stridenet.experiment import prepare
    from stridenet.nn.plan import cores
    from stridenet.train.doctor import examine
    from stridenet.zoo import recipes

    recipe = changed(with_places(recipes.load(name), name), data, {})
    _compile()
    setup = prepare(recipe, _data_of(recipe), threads=cores())
    test, training = setup.loader(setup.splits.test), recipe["train"]
    checks = examine(
        setup.trainer, setup.train, setup.validation, test, epochs=training["epochs"], fresh="init" not in training
    )
    return _Report(checks, recipe["notes"]["expected_findings"])


def _data_of(recipe: Recipe) -> Splits:
    """The data of `recipe`; that they are downloaded is said before."""
    from stridenet.data.catalogue import NAMES, open_data
    from stridenet.experiment import data_of

    data = recipe["data"]
    if data["name"] in NAMES:
        try:
            return open_data(data["name"], seed=recipe["train"]["seed"], size=data.get("size"), download=False)
        except FileNotFoundError:
            click.echo(f"data {data['name']} is not here: {NAMES[data['name']]}", err=True)
    return data_of(recipe)


def _of_model(path: Path, data: str | None) -> _Report:
    """A trained network and the history of its run, with the training images of its data if they are here."""
    from stridenet.assembly import LOSSES
    from stridenet.data.loader import Loader
    from stridenet.loading import is_onnx
    from stridenet.model import load
    from stridenet.nn.losses import cross_entropy
    from stridenet.train.doctor import examine_network

    if is_onnx(path):
        raise ConfigError(f"doctor: expected a model of stridenet, which has gradients, got {printable(path)}")
    model = load(path)
    loss, images = recipe_entry(model, "train", "loss"), _training_images(model, data)
    loader = None if images is None else Loader(images, 256, transform=model.transform)
    _compile()
    known = LOSSES[loss] if isinstance(loss, str) and loss in LOSSES else cross_entropy
    expected = recipe_entry(model, "notes", "expected_findings")
    checks = [
        *examine_network(model.network, known, model.input_shape, loader),
        *_of_history(path, model, known, images),
    ]
    return _Report(checks, cast("list[str]", expected) if isinstance(expected, list) else [])


def _of_history(path: Path, model: Model, loss: Loss, images: Dataset | None) -> list[Check]:
    """What the rows of a run folder say, if there are any."""
    from stridenet.train.doctor import frequency_gain, indifferent_loss
    from stridenet.train.watch import check_history
    from stridenet.viz.runs import history_of

    history = history_of(path) if path.is_dir() else []
    if not history:
        return []
    start = indifferent_loss(loss, model.network, len(model.classes))
    if images is not None and recipe_entry(model, "train", "class_weights") is None:
        start -= frequency_gain(loss, images.targets, len(model.classes))
    weights = {name for name, parameter in model.network.named_parameters() if parameter.value.ndim > 1}
    return [check_history(history, start, weights)]


def _training_images(model: Model, data: str | None) -> Dataset | None:
    """Those of `data`, or of the data of the model's recipe if they are here."""
    from stridenet.data.catalogue import has_pictures, open_data

    source = recipe_entry(model, "data", "name") if data is None else data
    if not isinstance(source, str):
        return None
    size = model.image_shape[1] if has_pictures(source) else None  # what the model was trained on
    try:
        return open_data(source, size=size, download=data is not None).train
    except (StridenetError, OSError):
        if data is not None:
            raise
        click.echo(f"no images: {printable(source)} is not here; give --data for dead ReLUs and tied pools", err=True)
        return None


def _compile() -> None:
    from stridenet.kernels import resolve

    if resolve() == "batchlast":
        compile_first(partial(click.echo, err=True))


def _echo(source: str, report: _Report, as_json: bool) -> bool:
    """Print the report; whether something was found that was not expected."""
    from stridenet.train.findings import unexpected

    findings = unexpected(report.checks, report.expected)
    known = [finding for check in report.checks for finding in check.findings if finding not in findings]
    if as_json:
        checks = [{"name": check.name, "figure": check.figure} for check in report.checks]
        about = {"findings": [f.as_dict() for f in findings], "expected": [f.as_dict() for f in known]}
        echo_json({"source": source, "checks": checks} | about)
        return bool(findings)
    for check in report.checks:
        click.echo(f"{check.name:<14}{check.figure}")
    for finding in known:
        click.echo(f"{'expected':<14}{finding.line()}")
    for finding in findings:
        click.echo(f"\n{finding.block()}")
    count = "nothing" if not findings else f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
    click.echo(f"\n{printable(source)}: {count} {'that was not expected' if known else 'to report'}")
    return bool(findings)
