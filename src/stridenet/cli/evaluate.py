"""`stridenet evaluate`: accuracy of a model on a test set."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stridenet.cli.shared import complete_data, echo_json, json_option, model_argument, recipe_entry
from stridenet.cli.warmup import compile_first
from stridenet.errors import ConfigError

_EPILOG = """\b
Examples:
  stridenet evaluate runs/lenet5-mnist-001
  stridenet evaluate model.safetensors --data my_idx_files/
"""


@click.command(epilog=_EPILOG)
@model_argument()
@click.option(
    "--data",
    metavar="mnist|cifar10|digits|DIR",
    help="Data set whose test images are taken.  [default: the model's]",
    shell_complete=complete_data,
)
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images at a time.")
@json_option()
def evaluate(model: Path, data: str | None, batch_size: int, as_json: bool) -> None:
    """Print the accuracy of MODEL on a test set."""
    from stridenet import kernels
    from stridenet.assembly import LOSSES
    from stridenet.data.catalogue import has_pictures, open_data
    from stridenet.data.loader import Loader
    from stridenet.loading import load
    from stridenet.nn.losses import cross_entropy
    from stridenet.nn.plan import cores
    from stridenet.train.evaluation import evaluate

    loaded = load(model)
    source = recipe_entry(loaded, "data", "name") if data is None else data
    if not isinstance(source, str):
        raise ConfigError("evaluate: expected --data, the model does not say on what it was trained")
    seed = recipe_entry(loaded, "train", "seed")
    size = loaded.image_shape[1] if has_pictures(source) else None  # what the model was trained on
    splits = open_data(source, seed=seed if isinstance(seed, int) and seed >= 0 else 0, size=size)
    if splits.test.classes != loaded.classes:
        raise ConfigError(
            f"evaluate: expected the classes {loaded.classes}, got {splits.test.classes} in {splits.name}"
        )
    name = recipe_entry(loaded, "train", "loss")
    loss = LOSSES[name] if isinstance(name, str) and name in LOSSES else cross_entropy
    if kernels.resolve() == "batchlast":
        compile_first(partial(click.echo, err=True))
    test = Loader(splits.test, batch_size, transform=loaded.transform)
    metrics = evaluate(loaded.network, test, loss, threads=cores())
    if as_json:
        about = {"data": splits.name, "origin": splits.origin, "classes": list(loaded.classes)}
        echo_json(about | metrics.as_dict())
        return
    click.echo(f"{splits.name} test: {metrics}, loss {metrics.loss:.4f}")
