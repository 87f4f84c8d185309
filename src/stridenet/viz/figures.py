"""How every figure looks: its colours, its axes, its words, and which letters can be drawn.

matplotlib is used through its objects, never through pyplot: drawing changes no state of the caller's. Colours are
those of M. Okabe and K. Ito, Color Universal Design (2008), which stay apart for colour-blind eyes.
"""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stridenet.errors import printable
from stridenet.layout import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK, QUIET, RULE, PALE = "#1f2933", "#5f6b76", "#dde2e7", "#e9eef3"  # text, lesser text, grid, neutral cells
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#007a5a"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DECADES, _HUGE = 10**3.5, 1e5  # of an axis: with ticks at 2 and 5; from where numbers are written as powers
LATIN = "DejaVu Sans"  # comes with matplotlib
CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Microsoft YaHei", "SimHei"),
)


def column(history: Sequence[Mapping[str, Any]], key: str) -> Array:
    """The values of a key as float64 (epochs,), NaN where there is none."""
    values = (row.get(key) for row in history)
    return np.array([math.nan if value is None else float(value) for value in values])


def mosaic(tiles: Array, columns: int) -> Array:
    """Tiles (n, C, R, S) in rows of `columns`, with a gap of one NaN pixel between them, as (rows, columns, C)."""
    n, c, r, s = tiles.shape
    rows = -(-n // columns)
    grid = np.full((rows * columns, c, r + 1, s + 1), math.nan)
    grid[:n, :, :r, :s] = tiles
    grid = grid.reshape(rows, columns, c, r + 1, s + 1).transpose(0, 3, 1, 4, 2)  # (rows, R + 1, columns, S + 1, C)
    return grid.reshape(rows * (r + 1), columns * (s + 1), c)[:-1, :-1]


def figure(width: float, height: float) -> Figure:
    """An empty white figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def quiet(axes: Axes, size: float = 9) -> None:
    """Give the axes quiet colours, and lines only at the left and below."""
    axes.tick_params(which="both", colors=QUIET, labelsize=size, width=0.6, length=3)
    axes.xaxis.label.set(color=QUIET, fontsize=9.5)
    axes.yaxis.label.set(color=QUIET, fontsize=9.5)
    for name, spine in axes.spines.items():
        spine.set(color=RULE, linewidth=0.8, visible=name in ("left", "bottom"))


def title(axes: Axes, title: str, below: str, fonts: Sequence[str] = (LATIN,)) -> None:
    """A title that states the finding, and a lesser line or two beneath it."""
    lines = below.count("\n") + 1 if below else 0
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=9 + 13 * lines)
    axes.annotate(
        *(below, (0, 1), (0, 8)),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=QUIET,
        family=list(fonts),
    )


def line(axes: Axes, x: Array, y: Array, colour: str, label: str, style: str = "-") -> None:
    """Draw y over x, with a dot at each point if they are few."""
    marker = "o" if len(x) <= 40 else ""
    axes.plot(x, y, style, color=colour, label=label, linewidth=1.6, marker=marker, markersize=3.5)


def legend(axes: Axes) -> None:
    """A legend in one line above the panel, where it can hide no data."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=9, labelcolor=QUIET, ncols=3, **place)


def value_axis(axes: Axes, values: Array) -> None:
    """A logarithmic axis for values that span more than a decade, else one from zero."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = values[np.isfinite(values)]
    largest = float(finite.max(initial=0))
    if len(finite) and finite.min() > 0 and largest > 10 * finite.min():
        axes.set_yscale("log")
        few = largest < _DECADES * finite.min()  # of more, LogLocator would give too many ticks, or none
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
        if largest >= _HUGE:
            axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _place: int | None) -> str:
    return number(value)


def colour_bar(axes: Axes, image: AxesImage, label: str) -> None:
    """A bar as high as the picture, at its right."""
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.02, 0, 0.022, 1)))
    bar.set_label(label)
    quiet(bar.ax)


def colours(*stops: str) -> Any:
    """A colour map through `stops`; what is no number has no colour."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("stridenet", stops).with_extremes(bad=(0, 0, 0, 0))


def labels(classes: Sequence[str], width: int) -> tuple[list[str], list[str]]:
    """Class names as they can be drawn, at most `width` wide, and the font families for them.

    A name that no font here has the characters of becomes its number: matplotlib would warn and draw boxes.
    """
    families, drawable = [LATIN], _characters(LATIN)
    names = [printable(name) for name in classes]
    if any(not drawable.issuperset(name) for name in names):
        from matplotlib.font_manager import fontManager

        families += [family for family in CHINESE if family in fontManager.get_font_names()][:1]
        drawable = drawable.union(*map(_characters, families))
    names = [name if drawable.issuperset(name) else f"class {i}" for i, name in enumerate(names)]
    return [shortened(name, width).replace("$", r"\$") for name in names], families


def _characters(family: str) -> set[str]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return set(map(chr, get_font(findfont(FontProperties(family=[family]))).get_charmap()))


def letters(text: str) -> int:
    """How many Latin letters wide a text is: a Chinese one is two.

    >>> letters("cat"), letters("猫")
    (3, 2)
    """
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shortened(name: str, width: int, dots: str = "…") -> str:
    """`name` at most `width` letters wide; dots show where it was cut.

    >>> shortened("caterpillar", 6)
    'cater…'
    """
    if len(name) <= width and letters(name) <= width:
        return name
    name = name[:width]  # a name may be a book
    while letters(name) > width - len(dots):
        name = name[:-1]
    return name + dots


def number(value: float, digits: int = 5) -> str:
    """A number of so many digits as people read it, however large.

    >>> number(0.25), number(1e6), number(1.26e-7, 2)
    ('0.25', '10⁶', '1.3·10⁻⁷')
    """
    digits_, _, power = f"{value:.{digits}g}".partition("e")
    if not power:
        return digits_
    factor = {"1": "", "-1": "-"}.get(digits_, f"{digits_}·")
    return f"{factor}10" + str(int(power)).translate(_RAISED)


def percent(share: float) -> str:
    """A share as people read it: "99.12 %"."""
    return f"{100 * share:.2f} %"
