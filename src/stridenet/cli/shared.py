"""What the commands share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from stridenet.errors import ConfigError, NumericsError, printable

if TYPE_CHECKING:
    from stridenet.model import Model

_LONGEST = 1000  # characters of a message; who gives a megabyte as an argument knows what was in it


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """A signal ended the command, after it saved its work."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message, signal)
        self.message, self.signal = message, signal


def model_argument() -> Any:
    """The MODEL of a command, as a path."""
    return click.argument("model", type=click.Path(path_type=Path))


def json_option() -> Any:
    """--json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead, for programs.")


def echo_json(document: Any) -> None:
    """Print one line of JSON, in ASCII: no terminal and no pipe can spoil it."""
    try:
        click.echo(json.dumps(document, allow_nan=False))
    except ValueError as error:
        raise NumericsError(f"--json: expected finite numbers, got: {error}") from None


def message_of(error: BaseException) -> str:
    """One printable line of bearable length that says what went wrong."""
    if isinstance(error, click.ClickException):
        text = " ".join(error.format_message().split())  # click lists choices one below the other
        text += "" if text.endswith((".", "?", "?)")) else "."
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        hint = "; check the path" if isinstance(error, FileNotFoundError) else ""
        text = f"{error.filename}: {error.strerror.lower()}{hint}"
    else:
        text = str(error)
    line = printable(text) or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def recipe_entry(model: Model, section: str, key: str) -> Any:
    """An entry of the model's recipe, or None: a file may hold anything there."""
    table: Any = model.recipe.get(section)
    return cast("dict[str, Any]", table).get(key) if isinstance(table, dict) else None


def file_name(model: Model, suffix: str) -> str:
    """A file name from that of the model's recipe."""
    recipe = model.recipe.get("name")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", recipe)[:100] if isinstance(recipe, str) and recipe else "model"
    return name + suffix


def check_target(who: str, path: Path, model: Path, force: bool) -> None:
    """Raise an error if `path`, to be written, is the model itself, or exists without `force`."""
    from stridenet.files import refuse_existing
    from stridenet.model import FILE

    if not force:
        refuse_existing(path, "--force")
    source = model / FILE if model.is_dir() else model
    if path.exists() and path.samefile(source):
        raise ConfigError(f"{who}: expected another file than MODEL itself, got {printable(path)}; give --out")


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Shell completion: the recipes that come along, and TOML files."""
    from click.shell_completion import CompletionItem

    from stridenet.zoo import recipes

    names = [CompletionItem(name) for name in recipes.names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def complete_kernels(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Shell completion: the kernels by name."""
    from click.shell_completion import CompletionItem

    from stridenet.kernels import NAMES

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


def complete_data(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Shell completion: the data sets by name, and folders."""
    from click.shell_completion import CompletionItem

    from stridenet.data.catalogue import NAMES

    names = [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="dir")]
