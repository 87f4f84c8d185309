"""`stridenet data`: what there is to train on."""

from __future__ import annotations

import click

from stridenet.cli.shared import echo_json, json_option
from stridenet.errors import printable

_EPILOG = """\b
Examples:
  stridenet data                 the data sets by name
  stridenet data fetch mnist     download MNIST into the cache; cifar10 likewise
  stridenet data verify mnist    compare what is here with the pinned digests
"""


@click.group(epilog=_EPILOG, invoke_without_command=True)
@json_option()
@click.pass_context
def data(context: click.Context, as_json: bool) -> None:
    """List, fetch and verify data sets.

    STRIDENET_DATA names a folder that is searched first, with mnist/, cifar-10-batches-py/ and so on inside.
    """
    from stridenet.data.catalogue import NAMES

    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"--json stands behind {context.invoked_subcommand}", context)
    elif as_json:
        echo_json([{"name": name, "about": text} for name, text in NAMES.items()])
    else:
        for name, text in NAMES.items():
            click.echo(f"{name:<8}{text}")


@data.command()
@click.argument("name", type=click.Choice(["mnist", "cifar10"]))
@json_option()
def fetch(name: str, as_json: bool) -> None:
    """Download the data set NAME into the cache, unless it is here, and say where it is."""
    from stridenet.data.catalogue import cifar10_place, mnist_folder

    folder = mnist_folder() if name == "mnist" else cifar10_place()
    if as_json:
        echo_json({"name": name, "folder": str(folder)})
        return
    click.echo(f"{name} is in {printable(folder)}")


@data.command()
@click.argument("name", type=click.Choice(["mnist", "cifar10"]))
@json_option()
def verify(name: str, as_json: bool) -> None:
    """Read every file of the data set NAME and compare it with its pinned digest."""
    from stridenet.data.catalogue import verify

    folder = verify(name)
    if as_json:
        echo_json({"name": name, "folder": str(folder), "as_published": True})
        return
    click.echo(f"{name} in {printable(folder)} is as published")
