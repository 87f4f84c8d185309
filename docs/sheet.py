"""Paper for the pictures: cells with numbers, boxes, arrows and words, measured in cells."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

UNIT, WIDEST = 0.4, 5.4  # inches: of a cell, and of a sheet, whose cells are smaller where it would be wider
INK, QUIET, RULE, GROUND = "#1f2933", "#55616c", "#c3cbd3", "#fbfcfd"
BLUE, ORANGE = "#0072b2", "#b84d00"
PALE = {"blue": "#cfe6f5", "orange": "#fbdcc3", "green": "#cdebe1", "grey": "#e6eaee", "none": "#ffffff"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "stridenet", "font.family": ["DejaVu Sans"], "font.size": 10}


class Sheet:
    """Paper with cells of one unit; x goes to the right, y goes down."""

    def __init__(self, width: float, height: float) -> None:
        unit = min(UNIT, WIDEST / width)
        self.figure = Figure(figsize=(unit * width, unit * height), facecolor=GROUND)
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis("off")

    def svg(self) -> bytes:
        """The sheet as a file: texts stay texts, and the same drawing gives the same bytes."""
        target = BytesIO()
        with mpl.rc_context(STYLE):
            self.figure.savefig(target, format="svg", metadata={"Date": None}, facecolor=GROUND)
        return target.getvalue()

    def text(self, x: float, y: float, words: str, *, color: str = INK, size: float = 10, **more: Any) -> None:
        """Words about the point (x, y)."""
        more = {"ha": "center", "va": "center"} | more
        self.axes.text(x, y, words, color=color, fontsize=size, **more)

    def cells(self, x: float, y: float, values: Any, title: str = "", fills: Any = "none", *, size: float = 10) -> None:
        """A matrix with its upper left corner at (x, y); `fills` is one name of PALE or one for each cell."""
        values = np.atleast_2d(values)
        fills = np.broadcast_to(np.atleast_2d(np.array(fills)), values.shape)
        for (i, j), value in np.ndenumerate(values):
            color = PALE[str(fills[i, j])]
            self.axes.add_patch(Rectangle((x + j, y + i), 1, 1, facecolor=color, edgecolor=RULE, linewidth=1))
            self.text(x + j + 0.5, y + i + 0.53, number(value), size=size)
        if title:
            self.text(x + values.shape[1] / 2, y - 0.5, title, color=QUIET)

    def frame(self, x: float, y: float, width: float, height: float, color: str = ORANGE) -> None:
        """A thick line around some cells."""
        self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=2.2, zorder=3))

    def box(self, x: float, y: float, width: float, words: str, fill: str = "blue") -> None:
        """A rounded box, two units high, with words in it."""
        style, outline = "round,pad=0,rounding_size=0.25", {"facecolor": PALE[fill], "edgecolor": RULE}
        self.axes.add_patch(FancyBboxPatch((x, y), width, 2, boxstyle=style, **outline))
        self.text(x + width / 2, y + 1, words)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], color: str = QUIET, words: str = "") -> None:
        """An arrow, with words above its middle."""
        line = {"arrowstyle": "-|>", "color": color, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", end, start, arrowprops=line)
        if words:
            self.text((start[0] + end[0]) / 2, min(start[1], end[1]) - 0.5, words, color=color)


def number(value: Any) -> str:
    """A value as it stands in a cell: texts as they are, whole numbers without a point, a true minus."""
    if isinstance(value, str):
        return value
    return f"{float(value):.3g}".replace("-", "\N{MINUS SIGN}")
