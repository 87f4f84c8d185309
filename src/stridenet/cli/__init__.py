"""The command line: one file per command, collected here."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from typing import Any

import click

from stridenet.cli.bench import bench
from stridenet.cli.completion import completion
from stridenet.cli.data import data
from stridenet.cli.doctor import doctor
from stridenet.cli.evaluate import evaluate
from stridenet.cli.explore import explore
from stridenet.cli.export import export
from stridenet.cli.predict import predict
from stridenet.cli.recipes import recipes
from stridenet.cli.report import report
from stridenet.cli.shared import Interrupted, message_of
from stridenet.cli.summary import summary
from stridenet.cli.train import train
from stridenet.cli.warmup import warmup
from stridenet.errors import ConfigError, StridenetError

EPILOG = """\b
Examples:
  stridenet train                          LeNet-5 on MNIST; the digits of scikit-learn without it
  stridenet train --epochs 3 --seed 1      the same, shorter, with another seed
  stridenet evaluate runs/lenet5-mnist-001
  stridenet predict runs/lenet5-mnist-001 photo.png
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.option("--debug", is_flag=True, help="Show the traceback of an error; it may stand anywhere.")
@click.version_option(package_name="stridenet", message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """Train convolutional networks in plain Python on NumPy, and use them.

    MODEL is a model file or a run folder; predict, evaluate and summary take an ONNX file too.
    """


_EVERYDAY = (train, doctor, evaluate, report, predict, explore, export, summary)
for _command in (*_EVERYDAY, recipes, data, bench, warmup, completion):
    cli.add_command(_command)


def main() -> None:
    """Run the command line: exit 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."""
    out: Any = sys.stdout  # None if it was closed
    if out:
        out.reconfigure(errors="backslashreplace")  # class names may hold what a terminal cannot show
    atexit.register(gc.freeze)  # or Python looks through half a million objects, Numba's mostly, before it ends
    code = run(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # all is done and said: the exit code is that of the work
    try:
        if out:
            out.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # or Python complains at exit
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of `stridenet ARGUMENTS`; an error is one line on standard error."""
    end = arguments.index("--") if "--" in arguments else len(arguments)  # behind it all is a name
    options = [word for word in arguments[:end] if word != "--debug"]
    try:
        return cli.main([*options, *arguments[end:]], prog_name="stridenet", standalone_mode=False) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.format_message(), err=True)
        return nothing.exit_code
    except click.ClickException as error:
        context: click.Context | None = getattr(error, "ctx", None)
        hint = f" See {context.command_path} --help." if context else ""
        click.echo(f"stridenet: {message_of(error)}{hint}", err=True)
        return error.exit_code
    except Interrupted as stopped:
        click.echo(stopped.message, err=True)
        return 128 + stopped.signal
    except (KeyboardInterrupt, click.Abort):
        return 130
    except (StridenetError, OSError, MemoryError) as error:
        if len(options) < end:  # --debug was among them
            raise
        click.echo(f"stridenet: {message_of(error)}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
