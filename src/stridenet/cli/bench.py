"""`stridenet bench`: our own techniques beside each other on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from stridenet.cli.shared import echo_json, json_option

if TYPE_CHECKING:
    from stridenet.benchmark import Timing

_EPILOG = """\b
Examples:
  stridenet bench ops                           each operation by itself
  stridenet bench train --threads 1 --threads 4
  stridenet bench train --model lenet5 --batch-size 512
  stridenet bench infer --json                  for programs
"""
_NOTES = """
speed: times as fast as im2col. loops: by one image, times their number.
* published by the report S0 (docs/systems.md), measured on another machine"""
_CELL = 10


@click.group(epilog=_EPILOG)
def bench() -> None:
    """Time our own techniques on this machine.

    `im2col` is NumPy, `batchlast` is compiled, `plan` is a whole network in one compiled call. They take turns, medians
    are shown. For figures beside other libraries see docs/benchmarks.md.
    """


def _model_option() -> Any:
    return click.option("--model", metavar="NAME", default="lenet5", show_default=True, help="Network of the zoo.")


def _threads_option() -> Any:
    return click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        multiple=True,
        default=(1, 2),
        show_default=True,
        help="Workers; may be given several times.",
    )


def _seconds_option(default: float) -> Any:
    return click.option(
        "--seconds", type=float, default=default, show_default=True, help="For each row, about; more is steadier."
    )


@bench.command()
@_seconds_option(0.1)
@json_option()
def ops(seconds: float, as_json: bool) -> None:
    """Time each operation at the shapes of LeNet-5, on one thread.

    And at those of the study of speed in docs/systems.md, S0, beside the times that it published.
    """
    from stridenet.benchmark import operations

    columns = {"ms": _milliseconds, "GFLOP/s": _gflops, "speed": _speedup}
    _report(operations(seconds=seconds), columns, as_json, {})
    if not as_json:
        click.echo(_NOTES)


@bench.command()
@_model_option()
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images a step.")
@_threads_option()
@_seconds_option(0.5)
@json_option()
def train(model: str, batch_size: int, threads: tuple[int, ...], seconds: float, as_json: bool) -> None:
    """Time a training step: forward, loss, backward and SGD."""
    from stridenet.benchmark import training

    timings = training(model, batch_size=batch_size, threads=threads, seconds=seconds)
    _report([timings], _OF_NETWORKS, as_json, {"model": model})


@bench.command()
@_model_option()
@click.option("--batch-size", type=click.IntRange(1), metavar="N", multiple=True, help="Images. [default: 1, 64, 1000]")
@_threads_option()
@_seconds_option(0.5)
@json_option()
def infer(model: str, batch_size: tuple[int, ...], threads: tuple[int, ...], seconds: float, as_json: bool) -> None:
    """Time the scores of images that are ready.

    Layer by layer they have one thread.
    """
    from stridenet.benchmark import INFERENCE_BATCHES, inference

    sizes = batch_size or INFERENCE_BATCHES
    timings = (inference(model, batch_size=size, threads=threads, seconds=seconds) for size in sizes)
    _report(timings, _OF_NETWORKS, as_json, {"model": model})


def _milliseconds(timing: Timing) -> str:
    return f"{timing.milliseconds:.3f}" if timing.milliseconds < 1000 else f"{timing.milliseconds:.0f}"


def _images(timing: Timing) -> str:
    from stridenet.shapes import grouped

    return grouped(round(timing.images_per_second))


def _gflops(timing: Timing) -> str:
    if timing.gflops is None:
        return "-"
    return f"{timing.gflops:.1f}" if timing.gflops >= 1 else f"{timing.gflops:.2g}"


def _speedup(timing: Timing) -> str:
    if timing.speedup is None:
        return "-"
    return f"{timing.speedup:.2f}" if timing.speedup >= 0.1 else f"1/{1 / timing.speedup:.0f}"


def _threads(timing: Timing) -> str:
    return str(timing.threads)


_Columns = dict[str, Callable[["Timing"], str]]
_OF_NETWORKS: _Columns = {
    "threads": _threads,
    "ms": _milliseconds,
    "images/s": _images,
    "GFLOP/s": _gflops,
    "speed": _speedup,
}


def _report(works: Iterable[list[Timing]], columns: _Columns, as_json: bool, about: dict[str, Any]) -> None:
    """One JSON object, or a table whose rows are printed as soon as they are known."""
    from stridenet.experiment import machine

    facts = machine()
    if as_json:
        echo_json(about | {"machine": facts, "timings": [asdict(timing) for timings in works for timing in timings]})
        return
    heading = [*about.values(), facts["processor"], f"{facts['cores']} cores", f"NumPy {facts['numpy']}"]
    title = ", ".join(heading) + "\n\n" + _row("", "", columns) + "\n"
    for timings in works:
        click.echo(title, nl=False)  # with the first of them: wrong arguments print nothing
        title, work = "", timings[0].work
        for timing in timings:
            way = f"{'*' if timing.published else ' '} {timing.technique}"
            click.echo(_row(work, way, [show(timing) for show in columns.values()]))
            work = ""


def _row(work: str, way: str, cells: Collection[str]) -> str:
    """A line of 80 columns."""
    right = f"{way:<11}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
    return f"{work:<{80 - len(right)}}{right}"
