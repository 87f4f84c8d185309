"""`stridenet explore`: a model as a page that runs it in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stridenet.cli.shared import check_target, complete_data, message_of, model_argument, recipe_entry
from stridenet.errors import ConfigError, StridenetError, UnsupportedModelError, printable

if TYPE_CHECKING:
    from stridenet.data.dataset import Dataset
    from stridenet.model import Model

_EPILOG = """\b
Examples:
  stridenet explore runs/lenet5-mnist-001
  stridenet explore model.safetensors --out digits.html --data my_idx_files/
"""


@click.command(epilog=_EPILOG)
@model_argument()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Page to write, .html.  [default: named after MODEL, in the current folder]",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option(
    "--data",
    metavar="mnist|cifar10|digits|DIR",
    help="Data set whose test images the page offers, one of each class.  [default: the model's, if it is one of the"
    " three and on this machine]",
    shell_complete=complete_data,
)
def explore(model: Path, out: Path | None, force: bool, data: str | None) -> None:
    """Write MODEL as one HTML page that runs it in the browser.

    Draw a digit or drop a picture there and see what every layer makes of it, which numbers an output is the sum of,
    and which pixels it depends on. The page holds the network and needs nothing else: no server, no connection.
    """
    from stridenet.loading import is_onnx, load
    from stridenet.viz.explore import explore

    if out and out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"explore: expected --out with the suffix .html, got {printable(out)}")
    if is_onnx(model) and model.exists():
        raise UnsupportedModelError(
            f"{printable(model)}: explore takes networks of stridenet's layers, got an ONNX graph; give the model file"
            " or run folder that it was made from"
        )
    loaded = load(model)
    path = out or _page_of(model)
    check_target("explore", path, model, force)
    samples, why = _own_images(loaded) if data is None else (_images(loaded, data), "")
    explore(loaded, path, samples=samples, overwrite=force)
    if samples is None:
        click.echo(f"no samples: {why}; --data FOLDER names them", err=True)
    click.echo(f"{printable(path)}  {path.stat().st_size / 1000:.0f} kB; open it in a browser")


def _page_of(model: Path) -> Path:
    """The page of a run folder, or of a model file, in the current folder."""
    place = model.resolve()  # "." has a name too
    return Path(f"{place.name if place.is_dir() else place.stem}.html")


def _images(model: Model, source: str, *, download: bool = True) -> Dataset:
    """The test images of a data set; an error if they are none of the model's classes."""
    from stridenet.data.catalogue import has_pictures, open_data

    seed: Any = recipe_entry(model, "train", "seed")
    size = model.image_shape[1] if has_pictures(source) else None  # what the model was trained on
    seed = seed if isinstance(seed, int) and seed >= 0 else 0
    images = open_data(source, seed=seed, size=size, download=download).test
    if images.classes != model.classes:
        raise ConfigError(f"explore: expected the classes {model.classes}, got {images.classes} in {printable(source)}")
    return images


def _own_images(model: Model) -> tuple[Dataset | None, str]:
    """The test images that the model's recipe names; None, and why, if there are none of its own.

    A folder that it names is left alone: a page is made to be passed on, and a model file may name any folder.
    """
    from stridenet.data.catalogue import NAMES
    from stridenet.shapes import by

    source = recipe_entry(model, "data", "name")
    why = "the model was trained on a folder" if isinstance(source, str) else "the model's recipe names no data"
    if isinstance(source, str) and source in NAMES:
        try:
            images = _images(model, source, download=False)
        except OSError:
            why = f"{source} is not on this machine"
        except StridenetError as error:
            why = message_of(error)
        else:
            if images.image_shape == model.image_shape:
                return images, ""
            why = f"the images of {source} are {by(images.image_shape)}, the model's {by(model.image_shape)}"
    return None, why
