"""`stridenet train`: a recipe becomes a run folder."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from stridenet.cli.shared import Interrupted
from stridenet.errors import ConfigError, DownloadError, printable

if TYPE_CHECKING:
    from stridenet.data.dataset import Splits
    from stridenet.train.trainer import Trainer
    from stridenet.zoo.recipes import Recipe

_EPILOG = """\b
Examples:
  stridenet train                               the default recipe, lenet5-mnist
  stridenet train lenet5-digits --seed 3        another recipe, another seed
  stridenet train --data my_idx_files/          the same network on other data
  stridenet train my_recipe.toml --out runs/a   your own recipe, in a folder of your choice
  stridenet train --resume runs/lenet5-mnist-001
"""


@click.command(epilog=_EPILOG)
@click.argument("recipe", required=False)
@click.option("--data", metavar="mnist|digits|DIR", help="Data set, or a folder of the four IDX files.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--lr", type=float, help="Learning rate, at its peak.")
@click.option("--seed", type=int, help="Of everything random.  [default: the recipe's, 0]")
@click.option("--kernels", type=str, default="auto", help="auto, loops or im2col.", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to make.  [default: runs/RECIPE-NNN]")
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="RUN", help="Continue this run; beside it only --kernels."
)
def train(
    recipe: str | None, resume: Path | None, out: Path | None, data: str | None, kernels: str, **changes: Any
) -> None:
    """Train a network and test it once.

    RECIPE is a name (default lenet5-mnist) or a .toml file. Ctrl-C finishes the step and saves; --resume continues to
    the same result as if nothing had happened.
    """
    from stridenet import experiment, kernels as backends
    from stridenet.zoo import recipes

    with backends.use(kernels):
        if resume is not None:
            if any(value is not None for value in (recipe, out, data, *changes.values())):
                raise click.UsageError("--resume goes on with the run's own recipe: give only --kernels beside it")
            settings, splits = experiment.open_run(resume)
            folder = resume
        else:
            fallback = recipe is None and data is None
            if recipe is None:
                recipe = recipes.OFFLINE if data == "digits" else recipes.DEFAULT
            settings, splits = _settings_and_data(recipe, data, changes, fallback=fallback)
            folder = None
        setup = experiment.prepare(settings, splits)
        if folder is None:
            folder = experiment.next_folder(settings["name"]) if out is None else experiment.make_folder(out)
        run = experiment.Run(setup, folder, echo=click.echo)
        with _stopping_on_signals(setup.trainer) as caught:
            metrics = run.train(resume=resume is not None)
        if metrics is None:
            where = f"epoch {setup.trainer.epoch + 1}, step {setup.trainer.optimizer.t}"
            again = f"stridenet train --resume {quote(printable(folder))}"
            again += "" if kernels == "auto" else f" --kernels {kernels}"
            raise Interrupted(f"stopped and saved in {where}; continue with: {again}", caught[0])


def _settings_and_data(
    name: str, data: str | None, changes: dict[str, Any], *, fallback: bool
) -> tuple[Recipe, Splits]:
    """The recipe with the changes of the command line, and its data; with `fallback` the digits, if MNIST is away."""
    from stridenet.data.catalogue import open_data
    from stridenet.zoo import recipes

    recipe = _changed(recipes.load(name), data, changes)
    try:
        return recipe, open_data(recipe["data"]["name"], seed=recipe["train"]["seed"])
    except DownloadError:
        if not fallback:
            raise
        click.echo(
            "MNIST is not here and could not be downloaded, so this trains on the 1 797 digits that scikit-learn ships;"
            " for MNIST put its four files into a folder and give --data FOLDER, or set STRIDENET_DATA"
        )
        recipe = _changed(recipes.load(recipes.OFFLINE), None, changes)
        return recipe, open_data(recipe["data"]["name"], seed=recipe["train"]["seed"])


def _changed(recipe: Recipe, data: str | None, changes: dict[str, Any]) -> Recipe:
    from stridenet.data.catalogue import NAMES
    from stridenet.zoo import recipes

    if data is not None:
        if not data:
            raise ConfigError("--data: expected a name or a folder, got an empty text")
        recipe["data"]["name"] = data if data in NAMES else str(Path(data).absolute())
    for key, section in (("epochs", "train"), ("batch_size", "train"), ("seed", "train"), ("lr", "optimizer")):
        if changes[key] is not None:
            recipe[section][key] = changes[key]
    return recipes.from_record(recipe, "recipe")


@contextmanager
def _stopping_on_signals(trainer: Trainer) -> Generator[list[int]]:
    """Let the first SIGINT or SIGTERM stop the training after its step; a second one ends the process at once."""
    caught: list[int] = []

    def stop(number: int, frame: object) -> None:
        del frame
        if caught:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        caught.append(number)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
