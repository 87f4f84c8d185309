"""`stridenet summary`: what a network is made of and what it costs."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from stridenet.cli.shared import complete_recipe, echo_json, json_option
from stridenet.errors import ConfigError, printable, suggestion

if TYPE_CHECKING:
    from stridenet.model import Model
    from stridenet.nn.layer import Layer
    from stridenet.shapes import Shape

_EPILOG = """\b
Examples:
  stridenet summary lenet5-mnist           the network before any training
  stridenet summary my_recipe.toml
  stridenet summary runs/lenet5-mnist-001  and what it was trained on
"""


@click.command(epilog=_EPILOG)
@click.argument("source", metavar="RECIPE|MODEL", shell_complete=complete_recipe)
@json_option()
def summary(source: str, as_json: bool) -> None:
    """Print the layers of a network and their cost.

    For each layer: its output, its trained parameters, the connections and the multiply-accumulates (MACs) of one
    image, and its receptive field, the part of the image that one output unit sees. Where a recipe and a folder share a
    name, the recipe is shown.
    """
    import numpy as np

    from stridenet.loading import load
    from stridenet.viz.summary import summary
    from stridenet.zoo import models, recipes

    if source in recipes.names() or source.endswith(".toml"):
        wanted = recipes.load(source)["model"]
        network = models.make(wanted["name"], wanted["args"], rng=np.random.default_rng(0))
        shape = cast("Shape", network.input_shape)  # the zoo's networks all know it
        if as_json:
            echo_json(_document(network, shape))
        else:
            click.echo(summary(network, shape))
        return
    if not (source and Path(source).exists()):
        hint = suggestion(source, recipes.names()) or "; `stridenet recipes` lists the recipes"
        raise ConfigError(
            "summary: expected a recipe or a path (of a .toml file, a model file, a run folder or an ONNX file), got"
            f" {printable(source)!r}{hint}"
        )
    model = load(source)
    if as_json:
        origin = {"classes": list(model.classes), "image_shape": list(model.image_shape)}
        origin |= {"transform": model.transform.spec(), "recipe": model.recipe, "provenance": model.provenance}
        echo_json(_document(model.network, model.input_shape) | origin)
        return
    click.echo(summary(model.network, model.input_shape))
    click.echo("\n" + "\n".join(_origin(model)))


def _document(network: Layer, input_shape: Shape) -> dict[str, Any]:
    """The same table for programs."""
    from stridenet.nn.cost import cost, total

    layers = cost(network, input_shape)
    return {
        "input_shape": list(input_shape),
        "layers": [asdict(layer) for layer in layers],
        "total": total(layers)._asdict(),
    }


def _origin(model: Model) -> list[str]:
    """Classes, training and preprocessing, in two lines each at most: a file may hold anything of any length."""
    from stridenet.shapes import by, grouped
    from stridenet.viz.summary import WIDTH

    recipe, data, images = model.recipe.get("name"), model.provenance.get("data"), model.provenance.get("images")
    count = f"{grouped(images)} images of " if isinstance(images, int) else ""
    facts = {
        "classes": f"{len(model.classes)}: {', '.join(model.classes)}",
        "trained": f"with {f'recipe {recipe}' if recipe else 'no recipe'} on {count}{data or 'unknown data'}",
        "takes": ", ".join([f"images {by(model.image_shape)}", *map(repr, model.transform.transforms)]),
    }
    return [
        textwrap.fill(
            printable(f"{name:<13}{fact}"),
            WIDTH,
            subsequent_indent=" " * 13,
            break_on_hyphens=False,
            max_lines=2,
            placeholder=" ...",
        )
        for name, fact in facts.items()
    ]
