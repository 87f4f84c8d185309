"""`stridenet warmup`: the compiled kernels made ready before they are needed."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from stridenet.cli.shared import echo_json, json_option
from stridenet.errors import printable

_EPILOG = """\b
Examples:
  stridenet warmup          when an image is built, so that no training waits
  stridenet warmup --json   where the kernels are, for programs
"""


@click.command(epilog=_EPILOG)
@json_option()
def warmup(as_json: bool) -> None:
    """Compile the kernels, or load them, and say where they are kept.

    The first training does the same. They stay in the user's cache folder until stridenet or Numba changes; where that
    cannot be written, every process compiles its own.
    """
    from stridenet.kernels import compiled

    was_warm, folder = _is_warm(), compiled.private_folder()
    seconds = _seconds_of(_warm_up)
    if as_json:
        known = None if folder is None else str(folder)
        echo_json({"folder": known, "compiled": compiled.COMPILES and not was_warm, "seconds": seconds})
    elif not compiled.COMPILES:
        click.echo("kernels  not compiled: NUMBA_DISABLE_JIT is set")
    elif folder is None:
        click.echo(f"kernels  compiled in {seconds:.1f} s")
        click.echo("kept     nowhere: there is no cache folder that can be written and is yours alone")
    else:
        click.echo(f"kernels  {'loaded' if was_warm else 'compiled'} in {seconds:.1f} s")
        click.echo(f"kept     {printable(folder)}")


def compile_first(say: Callable[[str], None]) -> None:
    """Compile the kernels now, or load them; `say` hears of it before and after, if they are compiled."""
    from stridenet.kernels.compiled import private_folder

    if _is_warm():
        _warm_up()
        return
    how = "once" if private_folder() else "which cannot be kept here (stridenet warmup says why)"
    say(f"compiling kernels, {how}: some 15 to 30 s on a quiet machine")
    say(f"compiled in {_seconds_of(_warm_up):.1f} s")


def _seconds_of(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _is_warm() -> bool:
    from stridenet.kernels import batchlast as batchlast, compiled, program as program, update as update

    return compiled.warm()  # of the kernels that were imported: all


def _warm_up() -> None:
    """Every kernel: the program, which all operations are part of, and the step of SGD."""
    import numpy as np

    from stridenet import kernels
    from stridenet.kernels import program
    from stridenet.nn.parameters import Parameter, ParameterVector
    from stridenet.optim.optimizers import SGD

    program.warm_up()
    with kernels.use("batchlast"):
        SGD(ParameterVector({"weight": Parameter(np.zeros(1, np.float32))}), 0.1).step()
