"""A report: what one or several runs did, as one HTML page that needs nothing else. No script runs in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from stridenet.errors import ConfigError, printable
from stridenet.files import FilePath, refuse_existing, write_atomic
from stridenet.shapes import LARGEST, flag, grouped, integer
from stridenet.viz import charts, page
from stridenet.viz.blocks import DASH, band, brief, contents, drawing, four_digits, heading, paragraph, section, table
from stridenet.viz.figures import column, percent
from stridenet.viz.runs import Record, each_once, folders_of, read
from stridenet.viz.sections import leaves, places, sections, some_epochs, summary, thinned, trained

FILE = "report.html"  # its name in a run folder


def report(
    runs: Sequence[FilePath],
    path: FilePath,
    *,
    data: str | None = None,
    image: int | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write a report about `runs` as one HTML page; give back why something is not in it, a sentence each.

    Args:
        runs: run folders, each taken once; the folder of several seeds stands for all that have begun.
        path: of the page.
        data: where the test images are, as `open_data` takes it; None is where the recipe has them. They are not
            downloaded: where they are not to be had, the page says so, unless `data` names them.
        image: the test image whose way through the layers is shown; None is the first that is classified correctly.
        overwrite: replace a file that is there.

    Raises:
        FileNotFoundError: there is no run folder, or no `data`.
        ConfigError, DataError, ModelFileError: a file of a run holds something else; there is no such image.
        FileExistsError: `path` exists, and `overwrite` is not set.
        OSError: it cannot be written; an older file is intact.
    """
    if not flag("report", "overwrite", overwrite):
        refuse_existing(path, "--force")
    records = _records(runs, data, image)
    write_atomic(path, page_about(records, image).encode())
    return [run.why if len(records) == 1 else f"{printable(run.folder)}: {run.why}" for run in records if run.why]


def text_of(runs: Sequence[FilePath], *, data: str | None = None, image: int | None = None) -> str:
    """The text of the page that `report` writes; arguments and errors as there."""
    return page_about(_records(runs, data, image), image)


def _records(runs: Sequence[FilePath], data: str | None, image: int | None) -> list[Record]:
    """The runs, read; arguments and errors as of `report`."""
    image = None if image is None else integer("report", "image", image, minimum=0)
    folders = each_once(folder for run in runs for folder in folders_of(Path(run)))
    if not folders:
        raise ConfigError("report: expected one run or more, got none")
    records = [read(folder, data) for folder in folders]
    least = min((len(run.test) for run in records if run.test is not None), default=LARGEST)
    if image is not None and image >= least:
        raise ConfigError(f"report: expected an image below the {grouped(least)} of the test set, got {image}")
    return records


def page_about(runs: Sequence[Record], image: int | None = None) -> str:
    """The page about runs that have been read; see `report`."""
    title, body = f"Report of {len(runs)} runs", _several
    if len(runs) == 1:
        title, body = f"Report: {brief(runs[0].folder.resolve().name)}", _one
    foot = paragraph(f"Made by stridenet {version('stridenet')}. Nothing on this page is fetched, and no script runs.")
    top = f"<header><h1>{page.text(title)}</h1></header>"
    return page.document(
        title, f"{top}\n<main>{body(runs, image)}</main>\n<footer>{foot}</footer>", styles=["report.css"]
    )


def _one(runs: Sequence[Record], image: int | None) -> str:
    (run,) = runs
    links = contents("Sections", places("run"))
    return "\n".join([summary(run), links, *sections(run, "run", 2, image)])


def _several(runs: Sequence[Record], image: int | None) -> str:
    names = [brief(printable(run.folder)) for run in runs]
    parts = [contents("Runs", [(name, f"run{i}") for i, name in enumerate(names)])]
    parts += [band([_results(runs, names)]), band([_differences(runs, names)], [_curves(runs, names)])]
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        inside = [heading(2, name, f"run{i}"), summary(run), *sections(run, f"run{i}", 3, image)]
        parts += ["<article>", *inside, "</article>"]
    return "\n".join(parts)


def _results(runs: Sequence[Record], names: Sequence[str]) -> str:
    """What the runs found, beside each other."""
    rows: list[tuple[str, ...]] = []
    for name, run in zip(names, runs, strict=True):
        accuracy, interval, count = "not finished", DASH, DASH
        if run.metrics is not None:
            low, high = (100 * bound for bound in run.metrics.interval)
            accuracy, interval = percent(run.metrics.accuracy), f"{low:.2f} to {high:.2f}"
            count = grouped(run.metrics.n)
        size = DASH if run.model is None else grouped(trained(run.model.network))
        seconds = f"{column(run.history, 'seconds').sum():.1f}" if run.history else DASH
        rows.append((name, accuracy, interval, count, size, str(len(run.history)), seconds))
    head = ["run", "test accuracy", "95 % interval (%)", "test images", "parameters", "epochs", "seconds"]
    how = "An interval says what the number of test images leaves open, not what another seed would bring."
    return section("Results", "results", 2, [paragraph(how, "how"), table("The test of each run", head, rows)])


def _differences(runs: Sequence[Record], names: Sequence[str]) -> str:
    """The keys of the recipes that are not the same everywhere."""
    recipes = [dict(leaves(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = [(key, *(recipe.get(key, DASH) for recipe in recipes)) for key in keys]
    differing = [(key, *map(brief, values)) for key, *values in rows if len(set(values)) > 1]
    shown = table("What is not the same in all recipes", ["key", *names], differing, numbers=False)
    return section("Recipes", "recipes", 2, [shown if differing else paragraph("All recipes are the same.")])


def _curves(runs: Sequence[Record], names: Sequence[str]) -> str:
    """The histories over each other."""
    histories = [(name, run.history) for name, run in zip(names, runs, strict=True) if run.history]
    if not histories:
        return section("Curves", "curves", 2, [paragraph("No epoch is done yet.", "note")])
    keys = ("train_loss", "validation_accuracy")
    rows = [
        (name, str(row["epoch"] + 1), *four_digits(float(row.get(key, math.nan)) for key in keys))
        for name, history in histories
        for row in some_epochs(history)
    ]
    caption = "The histories" + thinned(*(history for _, history in histories))
    numbers = table(caption, ["run", "epoch", "training loss", "validation accuracy"], rows)
    return section("Curves", "curves", 2, [drawing(charts.comparison(histories, "curves"), numbers)])
