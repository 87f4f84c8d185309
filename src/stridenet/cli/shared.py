"""What the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stridenet.errors import printable


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """A signal ended the command, after it saved its work."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message, signal)
        self.message, self.signal = message, signal


def model_argument() -> Any:
    """The MODEL of a command: a model file or a run folder."""
    return click.argument("model", type=click.Path(path_type=Path))


def message_of(error: BaseException) -> str:
    """One printable line that says what went wrong."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        hint = "; check the path" if isinstance(error, FileNotFoundError) else ""
        return printable(f"{error.filename}: {error.strerror.lower()}{hint}")
    return printable(str(error)) or type(error).__name__
