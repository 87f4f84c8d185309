"""Things that a file names: a closed table says what there is, the signature which arguments it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from stridenet.errors import ConfigError, shown
from stridenet.shapes import choice

Built = TypeVar("Built")


def construct(
    who: str,
    table: Mapping[str, Callable[..., Built]],
    name: Any,
    arguments: Mapping[str, Any],
    beside: Collection[str] = (),
    /,
    **given: Any,
) -> Built:
    """`table[name](**arguments)`, where name and arguments come from a file and may be anything.

    `given` is what the program adds itself: those of it that the entry takes are handed over, and no file sets them.
    `beside` are keys that the file may have here too, though the program has taken them out; a message names them.

    Raises:
        ConfigError: there is no such name, it has no such argument, or one is missing; whatever the entry itself
            refuses comes with `who` in front, and stays a ShapeError where it is one.

    >>> construct("recipe.optimizer", {"text": str, "pair": complex}, "pair", {"real": 1.5}, imag=2.0)
    (1.5+2j)
    """
    make = table[choice(f"{who}.name", name, table)]
    parameters = inspect.signature(make).parameters
    known = [key for key in parameters if key not in given]
    for key in arguments:
        if not known and not beside:
            raise ConfigError(f"{who} {name}: expected no arguments, got {shown(key)}")
        choice(f"{who} {name}", key, [*beside, *known])
    missing = [key for key in known if parameters[key].default is inspect.Parameter.empty and key not in arguments]
    if missing:
        keys = f"key{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise ConfigError(f"{who} {name}: expected the {keys} as well, got {', '.join(arguments) or 'none'}")
    used = {key: value for key, value in given.items() if key in parameters}
    try:
        return make(**arguments, **used)
    except ConfigError as error:
        raise type(error)(f"{who}: {error}") from None
