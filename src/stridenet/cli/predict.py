"""`stridenet predict`: the class of picture files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stridenet.cli.shared import echo_json, json_option, message_of, model_argument
from stridenet.errors import DataError, printable

if TYPE_CHECKING:
    from stridenet.layout import Array
    from stridenet.model import Model

_EPILOG = """\b
Examples:
  stridenet predict runs/lenet5-mnist-001 photo.png
  stridenet predict model.safetensors scans/*.jpg
"""


@click.command(epilog=_EPILOG)
@model_argument()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--show/--no-show", default=None, help="Show the image and a bar for each class; a terminal does.")
@json_option()
def predict(model: Path, images: tuple[Path, ...], show: bool | None, as_json: bool) -> None:
    """Print the class of picture files.

    IMAGES are PNG, JPEG, BMP or PPM files; each gets its class and its probability. Size and polarity do not matter:
    a dark digit on white paper is framed and inverted as the training images were. A terminal shows below each line
    what the network was given, in blocks, and a bar for each class; a pipe gets the lines alone.
    """
    from stridenet.loading import load
    from stridenet.viz.terminal import can_show, card

    loaded = load(model)
    screen: Any = sys.stdout  # None if it was closed
    show = bool(screen and screen.isatty()) if show is None else show
    ascii_only = not (screen and can_show(screen.encoding or "utf-8"))
    width = max(len(printable(path)) for path in images)
    answers: list[dict[str, Any]] = []
    failed = False
    for path in images:
        try:
            image = loaded.read(path)
            answer = _answer(loaded, image)
        except (DataError, OSError) as error:
            answer = {"error": message_of(error)}
            click.echo(f"stridenet: {answer['error']}", err=True)
            failed = True
        else:
            if not as_json:
                click.echo(f"{printable(path):<{width}}  {_line(answer)}")
                if show and "probabilities" in answer:
                    click.echo(card(image[0], loaded.classes, answer["probabilities"], ascii_only=ascii_only))
        answers.append({"path": str(path)} | answer)
    if as_json:
        echo_json({"classes": list(loaded.classes), "images": answers})
    if failed:
        raise click.exceptions.Exit(1)


def _answer(model: Model, image: Array) -> dict[str, Any]:
    """The classes of one image, the most probable first, or what there is to say instead."""
    if image.min() == image.max():
        return {"nothing": "nothing to recognise: the picture has one tone"}
    probabilities: list[float] = model.predict_proba(image)[0].tolist()
    best, *others = sorted(zip(probabilities, model.classes, strict=True), reverse=True)
    then = {"then": {"class": others[0][1], "probability": others[0][0]}} if others else {}
    return {"class": best[1], "probability": best[0], "probabilities": probabilities} | then


def _line(answer: dict[str, Any]) -> str:
    if "nothing" in answer:
        return answer["nothing"]
    line, then = f"{printable(answer['class'])}  {answer['probability']:.1%}", answer.get("then")
    return line + (f"   (then {printable(then['class'])}, {then['probability']:.1%})" if then else "")
