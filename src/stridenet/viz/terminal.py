"""An image and the probabilities of its classes as text that a terminal shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stridenet.errors import printable
from stridenet.layout import Array
from stridenet.viz.figures import letters, shortened

SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"  # from black to white
_EIGHTHS = "▏▎▍▌▋▊▉"
_WIDEST = 32  # columns of an image
_BAR, _NAME = 20, 14
_MOST = 14  # bars


def card(image: Array, classes: Sequence[str], probabilities: Sequence[float], *, ascii_only: bool = False) -> str:
    """The image (C, H, W), values 0 to 1, in blocks and beside it a bar for each class, in at most 80 columns.

    Up to 14 classes stand in their own order; of more, the 14 most probable, the highest first.

    >>> print(card(np.eye(8)[None], ["cat", "dog"], [0.75, 0.25], ascii_only=True))
    ::
      ::       cat  ###############        75.0%
        ::     dog  #####                  25.0%
          ::
    """
    left, right = blocks(image, ascii_only=ascii_only), bars(classes, probabilities, ascii_only=ascii_only)
    height, width = max(len(left), len(right)), len(left[0])
    rows = zip(_centred(left, height), _centred(right, height), strict=True)
    return "\n".join(f"{a:<{width}}   {b}".rstrip() for a, b in rows)


def can_show(encoding: str) -> bool:
    """Whether a stream of this encoding can show blocks.

    >>> can_show("utf-8"), can_show("latin-1")
    (True, False)
    """
    try:
        (SHADES + _EIGHTHS).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def blocks(image: Array, *, ascii_only: bool = False) -> list[str]:
    """The brightness of an image (C, H, W), values 0 to 1, a character for two pixels one above the other.

    A wider image than 32 pixels is brought to 32 columns.
    """
    grey = image.mean(axis=0)  # (H, W)
    H, W = grey.shape
    across = min(W, _WIDEST)
    down = max(1, round(H * across / W / 2))
    grey = _means(_means(grey, down).T, across).T  # (down, across)
    shades = ASCII_SHADES if ascii_only else SHADES
    levels = np.rint(grey * (len(shades) - 1)).astype(int).clip(0, len(shades) - 1)
    return ["".join(shades[level] for level in row) for row in levels]


def _means(x: Array, count: int) -> Array:
    """The rows of x brought to `count` rows, each the mean of neighbours."""
    starts = np.arange(count) * len(x) // count
    return (np.add.reduceat(x, starts).T / np.diff(starts, append=len(x))).T


def bars(classes: Sequence[str], probabilities: Sequence[float], *, ascii_only: bool = False) -> list[str]:
    """For each class its name, a bar and its probability."""
    shown = list(zip(map(printable, classes), probabilities, strict=True))
    if len(shown) > _MOST:
        shown = sorted(shown, key=lambda each: -each[1])[:_MOST]
    names = [shortened(name, _NAME, "..." if ascii_only else "…") for name, _ in shown]
    width = max(map(letters, names))
    return [
        f"{name}{' ' * (width - letters(name))}  {_bar(p, ascii_only):<{_BAR}}  {p:6.1%}"
        for name, (_, p) in zip(names, shown, strict=True)
    ]


def _bar(share: float, ascii_only: bool) -> str:
    eighths = round(share * _BAR * 8)
    whole, rest = divmod(eighths, 8)
    if ascii_only:
        return "#" * round(share * _BAR)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def _centred(lines: list[str], height: int) -> list[str]:
    above = (height - len(lines)) // 2
    return [""] * above + lines + [""] * (height - len(lines) - above)
