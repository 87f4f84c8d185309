"""`stridenet report`: what runs did, as a page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stridenet.cli.shared import complete_data
from stridenet.cli.warmup import compile_first
from stridenet.errors import printable

_EPILOG = """\b
Examples:
  stridenet report runs/lenet5-mnist-001
  stridenet report runs/lenet5-mnist-001 --image 8 --out eight.html
  stridenet report runs/a runs/b runs/c --out compared.html
"""


@click.command(epilog=_EPILOG)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Page to write, .html.  [default: report.html in RUN, made anew each time; of several runs, in the current"
    " folder]",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option(
    "--data",
    metavar="mnist|cifar10|digits|DIR",
    help="Where the test images of the runs are.  [default: where the recipe has them, if on this machine]",
    shell_complete=complete_data,
)
@click.option(
    "--image",
    type=click.IntRange(0),
    metavar="N",
    help="Test image to follow through the layers, from 0.  [default: the first that is classified correctly]",
)
def report(runs: tuple[Path, ...], out: Path | None, force: bool, data: str | None, image: int | None) -> None:
    """Write one HTML page about one run or several.

    It shows curves, mistakes, calibration, filters, feature maps, norms, times, the recipe and the machine, and
    compares several runs. The page needs nothing else: no server, no connection. A run that is not finished has a page
    of what is known. The folder of several seeds stands for all of them.
    """
    from stridenet import kernels
    from stridenet.experiment import recipe_of
    from stridenet.viz.report import FILE, report
    from stridenet.viz.runs import each_once, folders_of

    if out and out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"report: expected --out with the suffix .html, got {printable(out)}")
    runs = tuple(each_once(runs))
    for folder in (folder for run in runs for folder in folders_of(run)):
        recipe_of(folder)  # what is no run is said before anything takes time
    if kernels.resolve() == "batchlast":
        compile_first(partial(click.echo, err=True))
    path = out or (runs[0] / FILE if len(runs) == 1 else Path(FILE))
    anew = out is None and len(runs) == 1  # it belongs to the run, as its pictures do
    missing = report(runs, path, data=data, image=image, overwrite=force or anew)
    click.echo(f"{printable(path)}  {path.stat().st_size / 1000:.0f} kB; open it in a browser")
    for why in missing:
        click.echo(why)
