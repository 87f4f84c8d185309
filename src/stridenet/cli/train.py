"""`stridenet train`: a recipe becomes a run folder."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from stridenet.cli.shared import Interrupted, complete_data, complete_kernels, complete_recipe, echo_json, json_option
from stridenet.cli.warmup import compile_first
from stridenet.errors import ConfigError, DownloadError, printable

if TYPE_CHECKING:
    from stridenet.assembly import Setup
    from stridenet.data.dataset import Splits
    from stridenet.series import Series
    from stridenet.train.trainer import Trainer
    from stridenet.zoo.recipes import Recipe

_EPILOG = """\b
Examples:
  stridenet train                               the default recipe, lenet5-mnist
  stridenet train lenet5-digits --seed 3        another recipe, another seed
  stridenet train lenet5-digits --seeds 0-4     five runs, their mean and its interval
  stridenet train --time-budget 60s             done within a minute, with the best weights
  stridenet train --data my_idx_files/          the same network on other data
  stridenet train --data my_photos/ --size 48   on photos in a folder for each class, 48 x 48
  stridenet train my_recipe.toml --out runs/a   your own recipe, in a folder of your choice
  stridenet train my_recipe.toml --init runs/a --freeze 6
  stridenet train --resume runs/lenet5-mnist-001
"""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Duration(click.ParamType[float]):
    """A time in seconds, minutes or hours."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` in seconds."""
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh]?)", value, re.ASCII)
        seconds = float(match[1]) * _UNITS[match[2]] if match else 0
        if not seconds:
            self.fail(f"{value!r} is no time such as 60s, 5m, 1h or 90.", param, ctx)
        return seconds


class _Session(NamedTuple):
    """What holds for every run of one command."""

    echo: Callable[[str], None]
    quiet: bool
    verbose: bool
    kernels: str
    threads: int
    deadline: float | None

    def compile(self) -> None:
        """Have the kernels compiled; better before there are data, since the compiler takes a lot of memory."""
        from stridenet.kernels import resolve

        if resolve() == "batchlast":
            compile_first(_silent if self.quiet else partial(click.echo, err=True))

    def prepare(self, recipe: Recipe, splits: Splits, *, resume: bool = False) -> Setup:
        from stridenet.experiment import prepare

        self.compile()
        return prepare(recipe, splits, threads=self.threads, resume=resume)

    def fitted(self, setup: Setup, runs: int) -> Setup:
        """`setup` with as many epochs as a run's share of the budget has room for, if its own do not fit."""
        from stridenet.experiment import data_of, epochs_within

        if self.deadline is None:
            return setup
        seconds, recipe = (self.deadline - time.monotonic()) / runs, deepcopy(setup.recipe)
        epochs, wanted = epochs_within(setup, seconds), recipe["train"]["epochs"]
        if epochs >= wanted:
            return setup
        fit = f"{epochs} of {wanted} epochs fit" if epochs else "less than an epoch fits"
        recipe["train"]["epochs"] = max(epochs, 1)
        length = "as long as that" if epochs else "that of one"
        self.echo(f"budget   {fit} into the {max(seconds, 0):.3g} s of a run, so the schedule is {length}")
        return self.prepare(recipe, data_of(recipe))  # of these images some are held out in `setup`

    def run(self, setup: Setup, folder: Path, *, resume: bool, whole: Path | None = None, runs: int = 1) -> None:
        """Train in `folder`, which is one of the `runs` that are still to come in the folder `whole`."""
        from stridenet.experiment import Run

        deadline, now = self.deadline, time.monotonic()
        share = None if deadline is None else now + (deadline - now) / runs
        bar = False if self.quiet else None
        run = Run(setup, folder, echo=self.echo, bar=bar, deadline=share, verbose=self.verbose)
        with _stopping_on_signals(setup.trainer) as caught:
            metrics = run.train(resume=resume)
        again = self.again(whole or folder)
        if metrics is None:
            where = f"epoch {setup.trainer.epoch + 1}, step {setup.trainer.optimizer.t}"
            raise Interrupted(f"stopped and saved in {where}; {again}", caught[0])
        if caught and runs > 1:
            raise Interrupted(f"stopped between two runs; {again}", caught[0])

    def again(self, folder: Path) -> str:
        """How to go on."""
        options = "" if self.kernels == "auto" else f" --kernels {self.kernels}"
        return f"continue with: stridenet train --resume {quote(printable(folder))}{options}"

    def go_on(self, folder: Path) -> None:
        """Resume the run, or the runs of several seeds, in `folder`."""
        from stridenet import experiment, series

        if series.is_series(folder):
            self.run_series(series.open_series(folder))
        elif experiment.is_finished(folder):
            self.echo(experiment.result_line(folder))
            self.echo(f"results  {printable(folder)}: the run is finished, nothing was left to do")
        else:
            self.run(self.prepare(*experiment.open_run(folder), resume=True), folder, resume=True)

    def run_series(self, series: Series) -> None:
        """Train with every seed whose run is not done, then say what all of them found."""
        from stridenet import experiment

        open_seeds = [seed for seed in series.seeds if not series.finished(seed)]
        try:
            for i, seed in enumerate(open_seeds):
                folder = series.run_folder(seed)
                if resume := (folder / "recipe.json").exists():
                    setup = self.prepare(*experiment.open_run(folder), resume=True)
                else:
                    recipe = series.recipe_of(seed)
                    setup = self.prepare(recipe, experiment.data_of(recipe))
                folder.mkdir(exist_ok=True)
                self.run(setup, folder, resume=resume, whole=series.folder, runs=len(open_seeds) - i)
                series.write()
                self.echo("")
        except KeyboardInterrupt:
            raise Interrupted(f"stopped between two runs; {self.again(series.folder)}", signal.SIGINT) from None
        record = series.write()
        for run in record["runs"]:
            self.echo(f"seed {run['seed']:<4}{100 * run['accuracy']:.2f} % of the test images")
        if record["interval"]:  # there is more than one
            low, high = (100 * bound for bound in record["interval"])
            mean = f"{100 * record['mean']:.2f} % over {len(record['runs'])} seeds"
            self.echo(f"mean     {mean} (95 % interval {low:.2f} to {high:.2f})")
        self.echo(f"results  {printable(series.folder)}: seeds.json and a run folder for each seed")


@click.command(epilog=_EPILOG)
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@click.option(
    "--data",
    metavar="mnist|cifar10|digits|DIR",
    help="Data set, or a folder of one: pictures in a folder for each class, IDX files, CIFAR-10 or TinyImageNet.",
    shell_complete=complete_data,
)
@click.option("--size", type=int, help="Side of the images, in pixels, that a folder of pictures gives.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--lr", type=float, help="Learning rate, at its peak.")
@click.option("--seed", type=int, help="Of everything random.  [default: the recipe's, 0]")
@click.option("--seeds", metavar="A-B|A,B,...", help="One run for each of these seeds, and their mean.")
@click.option("--init", metavar="MODEL", help="Begin with the weights of this model, layer by layer where they fit.")
@click.option("--freeze", type=int, metavar="N", help="Leave the first N layers as --init gives them.")
@click.option(
    "--kernels",
    type=str,
    default="auto",
    help="auto, loops, im2col, or batchlast, which is compiled when first used.",
    show_default=True,
    shell_complete=complete_kernels,
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Workers that share a batch; results do not depend on it.  [default: one for each core]",
)
@click.option(
    "--time-budget", type=_Duration(), metavar="TIME", help="Be done, with test and pictures, in 60s, 5m or 1h."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run folder to make.  [default: runs/RECIPE-NNN, with --data DIR runs/RECIPE-DIR-NNN]",
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Continue this run, or runs of --seeds.")
@click.option("-v", "--verbose", is_flag=True, help="Print every choice that was made.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors, and what --json asks for.")
@json_option()
def train(
    recipe: str | None,
    resume: Path | None,
    out: Path | None,
    data: str | None,
    seeds: str | None,
    time_budget: float | None,
    quiet: bool,
    as_json: bool,
    verbose: bool,
    kernels: str,
    threads: int | None,
    **changes: Any,
) -> None:
    """Train a network and test it once.

    RECIPE is a name (default lenet5-mnist) or a .toml file. Ctrl-C finishes the step and saves; --resume continues to
    the same result as if nothing had happened. Beside --resume only --kernels, --threads, --time-budget and what is
    printed can be given.
    """
    from stridenet import experiment, kernels as backends, series
    from stridenet.nn.plan import cores

    deadline = None if time_budget is None else time.monotonic() + time_budget
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose cannot be given together")
    if seeds is not None and changes["seed"] is not None:
        raise click.UsageError("--seed and --seeds cannot be given together")
    echo: Callable[[str], None] = _silent if quiet else partial(click.echo, err=as_json)
    session = _Session(echo, quiet, verbose, kernels, threads or cores(), deadline)
    with backends.use(kernels):
        if kernels == "loops":
            echo("kernels  loops is the definition of each layer, to be read: it takes very long")
        if resume is not None:
            if any(value is not None for value in (recipe, out, data, seeds, *changes.values())):
                raise click.UsageError(
                    "--resume goes on with the run's own recipe; beside it give only --kernels, --threads or"
                    " --time-budget"
                )
            folder = resume
            session.go_on(folder)
        else:
            chosen = None if seeds is None else series.parse_seeds(seeds)
            if chosen is not None:
                changes["seed"] = chosen[0]
            setup = session.prepare(*_settings_and_data(recipe, data, changes, session))
            setup = session.fitted(setup, 1 if chosen is None else len(chosen))
            folder = experiment.next_folder(_name(setup.recipe, data)) if out is None else experiment.make_folder(out)
            if chosen is None:
                session.run(setup, folder, resume=False)
            else:
                several = series.Series(folder, setup.recipe, chosen)
                several.write()
                session.run_series(several)
    if as_json:
        _echo_results(folder)


def _silent(line: str) -> None:
    del line


def _echo_results(folder: Path) -> None:
    """What the run folder, or the folder of several, says at the end."""
    from stridenet import series
    from stridenet.files import read_regular
    from stridenet.strictjson import MAX_BYTES, from_json

    path = folder / (series.FILE if series.is_series(folder) else "results.json")
    echo_json({"folder": str(folder)} | from_json(read_regular(path, limit=MAX_BYTES), printable(path)))


def _settings_and_data(
    name: str | None, data: str | None, changes: dict[str, Any], session: _Session
) -> tuple[Recipe, Splits]:
    """The recipe with the changes of the command line, and its data.

    Who names neither gets the digits if MNIST is away. Who names data alone gets the recipe for images of their
    channels.
    """
    from stridenet.experiment import data_of
    from stridenet.zoo import recipes

    fallback, unnamed = name is None and data is None, name is None
    if name is None:
        name = recipes.OFFLINE if data == "digits" else recipes.DEFAULT
    recipe = changed(with_places(recipes.load(name), name), data, changes)
    session.compile()
    try:
        splits = data_of(recipe)
    except DownloadError:
        if not fallback:
            raise
        session.echo(
            "MNIST is not here and could not be downloaded, so this trains on the 1 797 digits that scikit-learn ships;"
            " for MNIST put its four files into a folder and give --data FOLDER, or set STRIDENET_DATA"
        )
        recipe = changed(recipes.load(recipes.OFFLINE), None, changes)
        return recipe, data_of(recipe)
    if unnamed and splits.train.image_shape[0] == 3:
        session.echo(f"recipe   none was named; the images have colours, so it is {recipes.COLOUR}")
        recipe = changed(recipes.load(recipes.COLOUR), data, changes)
    return recipe, splits


def _name(recipe: Recipe, data: str | None) -> str:
    """What the run folder is called after: the recipe, and the folder of data that --data names."""
    from stridenet.data.catalogue import NAMES

    return recipe["name"] if data is None or data in NAMES else f"{recipe['name']}-{Path(data).absolute().name[:40]}"


def with_places(recipe: Recipe, file: str) -> Recipe:
    """`recipe` with the paths in it made absolute; those of a file begin at its folder."""
    from stridenet.data.catalogue import NAMES

    if file.endswith(".toml"):
        base, data, training = Path(file).parent.absolute(), recipe["data"], recipe["train"]
        data["name"] = data["name"] if data["name"] in NAMES else str(base / data["name"])
        training |= {"init": str(base / training["init"])} if "init" in training else {}
    return recipe


_SECTIONS = {"lr": "optimizer", "size": "data"}  # of the keys that options set; of all others it is [train]


def changed(recipe: Recipe, data: str | None, changes: dict[str, Any]) -> Recipe:
    """`recipe` on other data, and with the values that options have set."""
    from stridenet.data.catalogue import NAMES
    from stridenet.zoo import recipes

    if data == "":
        raise ConfigError("--data: expected a name or a folder, got an empty text")
    if changes.get("init") == "":
        raise ConfigError("--init: expected a model file or a run folder, got an empty text")
    if data is not None:
        recipe["data"]["name"] = data if data in NAMES else str(Path(data).absolute())
    for key, value in changes.items():
        if value is not None:
            recipe[_SECTIONS.get(key, "train")][key] = str(Path(value).absolute()) if key == "init" else value
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
