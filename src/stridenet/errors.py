"""Everything that stridenet raises on purpose.

One family, so that a caller can write ``except StridenetError``. Where a built-in class says the same thing, the
error is that too: a bad argument is a ``ValueError``, a failed download an ``OSError``. Files that are missing or
not readable stay ``FileNotFoundError`` and ``PermissionError``: the caller can act on those.

A message reads *who: expected what, got what; hint*. Extra attributes are optional keywords: errors pickle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches


class StridenetError(Exception):
    """The root of the family."""


class DataError(StridenetError, ValueError):
    """A data set is not usable."""


class DataFormatError(DataError):
    """Bytes do not follow their format; `path` and `offset` say where."""

    def __init__(self, message: str, *, path: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.path, self.offset = path, offset


class DataIntegrityError(DataError):
    """A digest or a length differs from the pinned one."""


class DataLimitError(DataError):
    """A file asks for more than a limit allows; `limit` and `value` are the two numbers."""

    def __init__(self, message: str, *, limit: int | None = None, value: int | None = None) -> None:
        super().__init__(message)
        self.limit, self.value = limit, value


class LabelError(DataError):
    """Labels are out of range, of a wrong type, or not as many as the images."""


class ImageError(DataError):
    """An image cannot be decoded, or its format is not allowed."""


class DownloadError(StridenetError, OSError):
    """No mirror gave the file."""


class ModelFileError(StridenetError, ValueError):
    """A file does not hold a model that can be loaded."""


class WeightsFormatError(ModelFileError):
    """The bytes are not a valid weights file."""


class WeightsMismatchError(ModelFileError):
    """Weights and network differ in names, shapes or types; nothing was loaded."""


class UnsupportedModelError(ModelFileError):
    """The model uses something that stridenet does not have."""


class CheckpointError(StridenetError):
    """A checkpoint cannot be written or read."""


class CheckpointCorruptError(CheckpointError):
    """No checkpoint of the folder verifies."""


class CheckpointVersionError(CheckpointError):
    """The file was written by another version of the format."""


class CheckpointLockedError(CheckpointError):
    """Another process works in the folder."""


class CheckpointMismatchError(CheckpointError):
    """The checkpoint belongs to another run: a field differs."""


class ConfigError(StridenetError, ValueError):
    """An argument or a recipe entry is not allowed."""


class ShapeError(ConfigError):
    """An array or a layer does not fit."""


class LayoutError(StridenetError, ValueError):
    """An array is not batch innermost where it must be."""


class NumericsError(StridenetError, ArithmeticError):
    """A number that must be finite is not; `step`, `layer` and `tensor` say where it appeared."""

    def __init__(
        self, message: str, *, step: int | None = None, layer: str | None = None, tensor: str | None = None
    ) -> None:
        super().__init__(message)
        self.step, self.layer, self.tensor = step, layer, tensor


class MemoryBudgetError(StridenetError, MemoryError):
    """The work would need more memory than it may take."""


class DeviceError(StridenetError, RuntimeError):
    """A device is missing or failed."""


class DistributedError(StridenetError, RuntimeError):
    """The workers of one run disagree, or one of them failed."""


def printable(name: str | bytes | os.PathLike[str]) -> str:
    r"""A file or class name as it may be shown: control and undecodable characters escaped.

    >>> printable("mnist\x1b[31m\n")
    'mnist\\x1b[31m\\n'
    """
    text = os.fsdecode(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    r"""A value as a message may show it, whatever it is: its repr on one line, at most 80 characters.

    >>> shown([[1, 2], "a"])
    "[[1, 2], 'a']"
    """
    try:
        return printable(f"{value!r:.80}")
    except (RecursionError, ValueError):  # nested too deep; an integer of more digits than Python writes
        return f"a {type(value).__name__} too large to show"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one that is near, if any.

    >>> suggestion("lenet5-minst", ["lenet5-mnist", "lenet5-digits"])
    "; did you mean 'lenet5-mnist'?"
    """
    by_lower = {name.lower(): name for name in known}  # AdamW is adamw before it is adam
    near = get_close_matches(word.lower(), list(by_lower), 1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
