"""What transforms and augmentations share: a name that a file can hold, with arguments, and back."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from stridenet.errors import ConfigError, shown
from stridenet.shapes import number
from stridenet.tables import Built, construct

Spec = dict[str, Any]  # a name and arguments that JSON can hold
LARGEST = 1e30  # of a pixel value or a statistic: float32 can still add some of them up


class Step(ABC):
    """Something with a name in a table; each argument of its constructor is an attribute of the same name."""

    name: ClassVar[str]

    def spec(self) -> Spec:
        """The name and the arguments that build an equal object, as a recipe or a model file stores them."""
        arguments = {key: getattr(self, key) for key in inspect.signature(type(self)).parameters}
        return {"name": self.name} | {key: _listed(value) for key, value in arguments.items()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.spec().items() if key != "name")
        return f"{type(self).__name__}({arguments})"


Kind = TypeVar("Kind", bound=Step)


def steps_of(who: str, steps: Any, kind: type[Kind]) -> tuple[Kind, ...]:
    """`steps`, a list of `kind`, as a tuple.

    Raises:
        ConfigError: it is no such list.
    """
    if isinstance(steps, list | tuple) and all(isinstance(step, kind) for step in cast("list[Any]", steps)):
        return tuple(cast("list[Kind]", steps))
    got = shown(cast(object, steps))
    raise ConfigError(f"{who}: expected a list of {kind.__name__} objects, got {got}")


def entries_of(who: str, entries: Any) -> list[tuple[str, Any]]:
    """The entries of a list, each with its place: `who[0]`, `who[1]` ...

    Raises:
        ConfigError: it is no list.
    """
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"{who}: expected a list of entries, got {shown(cast(object, entries))}")
    return [(f"{who}[{i}]", entry) for i, entry in enumerate(cast("list[Any]", entries))]


def build(who: str, entry: Any, table: Mapping[str, Callable[..., Built]]) -> Built:
    """The step that an entry {"name": ..., its arguments} describes.

    Raises:
        ConfigError: an unknown name or key, a key missing, or a value that the step refuses.
    """
    arguments = dict(cast("dict[str, Any]", entry)) if isinstance(entry, dict) else {}
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        got = shown(cast(object, entry))
        raise ConfigError(f"{who}: expected an entry with a name, one of {', '.join(table)}, got {got}")
    return construct(who, table, name, arguments)


def pixel_value(who: str, name: str, value: Any) -> float:
    """`value` as what a pixel may hold, at most 1e30 either way; ConfigError if it is no such number."""
    return number(who, name, value, low=-LARGEST, high=LARGEST)


def _listed(value: Any) -> Any:
    return [_listed(entry) for entry in cast("tuple[Any]", value)] if isinstance(value, tuple) else value
