"""`stridenet export`: a model as a file for other programs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stridenet.cli.shared import check_target, file_name, model_argument
from stridenet.errors import ConfigError, UnsupportedModelError, printable

if TYPE_CHECKING:
    from stridenet.model import Model

_SUFFIXES = {"onnx": ".onnx", "python": ".py", "safetensors": ".safetensors"}
_EPILOG = """\b
Examples:
  stridenet export runs/lenet5-mnist-001 --format python
  stridenet export runs/lenet5-mnist-001 --format onnx --out digits.onnx --include-preprocessing
  stridenet export model.safetensors --format safetensors --out weights.safetensors --force
"""


@click.command(epilog=_EPILOG)
@model_argument()
@click.option(
    "--format", "kind", required=True, type=click.Choice(list(_SUFFIXES)), help="What other programs are to read."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write.  [default: the recipe's name, in the current folder]",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--include-preprocessing", is_flag=True, help="ONNX alone: the graph takes images in 0 to 1 as they are.")
def export(model: Path, kind: str, out: Path | None, force: bool, include_preprocessing: bool) -> None:
    """Write MODEL as one file for other programs.

    onnx is a graph for any runtime and needs the package onnx; python is a module and a command that need NumPy alone;
    safetensors has the weights by name, and all that stridenet itself needs.
    """
    from stridenet.loading import is_onnx, load

    if include_preprocessing and kind != "onnx":
        raise ConfigError(
            "export: expected --include-preprocessing with --format onnx alone; the others have it inside"
        )
    if out:
        _check_suffix(out, kind)
    if is_onnx(model) and model.exists():
        raise UnsupportedModelError(
            f"{printable(model)}: expected a model of stridenet to export, got an ONNX graph;"
            " give the model file or run folder that it was made from"
        )
    loaded = load(model)
    path = out or Path(_name(loaded, kind))
    quoted = shlex.quote(printable(path))
    check_target("export", path, model, force)
    if kind == "onnx":
        from stridenet.interop.onnx.export import export as export_onnx

        export_onnx(loaded, path, include_preprocessing=include_preprocessing, overwrite=force)
        use = f"stridenet predict {quoted} picture.png"
    elif kind == "python":
        from stridenet.interop.predictor import export_predictor

        export_predictor(loaded, path, overwrite=force)
        use = f"python {quoted} picture.png"
    else:
        loaded.save(path)
        use = f"stridenet predict {quoted} picture.png"
    click.echo(f"{printable(path)}  {path.stat().st_size / 1000:.0f} kB; try: {use}")


def _name(model: Model, kind: str) -> str:
    """A file name from that of the recipe; a module's name for Python."""
    name = file_name(model, _SUFFIXES[kind])
    return re.sub(r"^(?=\d)", "model_", name.replace("-", "_")) if kind == "python" else name


def _check_suffix(out: Path, kind: str) -> None:
    """Raise an error if what reads a file by its suffix would take `out` for another format."""
    suffix, wanted = out.suffix.lower(), _SUFFIXES[kind]
    if kind == "safetensors":
        right, expected = suffix not in (".onnx", ".py"), "another suffix than .onnx and .py"
    else:
        right, expected = suffix == wanted, f"the suffix {wanted}"
    if not right:
        raise click.UsageError(f"export: expected --out with {expected} for --format {kind}, got {printable(out)}")
