"""`stridenet predict`: the class of picture files."""

from __future__ import annotations

from pathlib import Path

import click

from stridenet.cli.shared import message_of, model_argument
from stridenet.errors import DataError, printable

_EPILOG = """\b
Examples:
  stridenet predict runs/lenet5-mnist-001 photo.png
  stridenet predict model.safetensors scans/*.jpg
"""


@click.command(epilog=_EPILOG)
@model_argument()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(model: Path, images: tuple[Path, ...]) -> None:
    """Print the class of picture files.

    IMAGES are PNG, JPEG, BMP or PPM files; each gets its class and its probability. Size and polarity do not matter:
    a dark digit on white paper is framed and inverted as the training images were.
    """
    from stridenet.model import load

    loaded = load(model)
    width = max(len(printable(path)) for path in images)
    failed = False
    for path in images:
        try:
            image = loaded.read(path)
        except (DataError, OSError) as error:
            click.echo(f"stridenet: {message_of(error)}", err=True)
            failed = True
            continue
        if image.min() == image.max():
            click.echo(f"{printable(path):<{width}}  nothing to recognise: the picture has one tone")
            continue
        probabilities: list[float] = loaded.predict_proba(image)[0].tolist()
        best, *others = sorted(zip(probabilities, map(printable, loaded.classes), strict=True), reverse=True)
        then = f"   (then {others[0][1]}, {others[0][0]:.1%})" if others else ""
        click.echo(f"{printable(path):<{width}}  {best[1]}  {best[0]:.1%}{then}")
    if failed:
        raise click.exceptions.Exit(1)
