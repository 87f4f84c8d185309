"""What a report is made of: sections, tables, charts, pictures; all as HTML, and all that is given as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from stridenet.errors import printable
from stridenet.layout import Array
from stridenet.viz import page, pixels
from stridenet.viz.charts import Chart

DASH = "-"  # in place of a number that there is not
_LONGEST = 60  # characters of a name
_WIDEST, _MOST = 560, 10  # pixels of a picture on the page, and of one of its pixels


class AbsentError(Exception):
    """What a section would show is not there; the message is a sentence for the page."""


def four_digits(values: Iterable[float]) -> list[str]:
    """Numbers for a table."""
    return [f"{value:.4g}" if math.isfinite(value) else DASH for value in values]


def four_places(values: Iterable[float]) -> list[str]:
    """Shares for a table, 0 to 1."""
    return [f"{value:.4f}" if math.isfinite(value) else DASH for value in values]


def brief(name: str, longest: int = _LONGEST) -> str:
    """A name of bearable length, in letters that can be printed."""
    name = printable(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph; `kind` is "how" for what explains, "note" for what is missing."""
    return f'<p class="{kind}">{page.text(words)}</p>' if kind else f"<p>{page.text(words)}</p>"


def heading(level: int, words: str, key: str) -> str:
    """A heading that a link finds by `key`."""
    return f'<h{level} id="{key}">{page.text(words)}</h{level}>'


def contents(label: str, places: Iterable[tuple[str, str]]) -> str:
    """Links to places of the page: the words and the key of each."""
    links = "".join(f'<li><a href="#{key}">{page.text(words)}</a></li>' for words, key in places)
    return f'<nav aria-label="{page.text(label)}"><ul>{links}</ul></nav>'


def band(*columns: Iterable[str]) -> str:
    """Columns of sections, beside each other where there is room; one alone has the whole width of the page."""
    inside = "".join(f"<div>{''.join(sections)}</div>" for sections in columns)
    return f'<div class="band">{inside}</div>'


def section(title: str, key: str, level: int, parts: Iterable[str]) -> str:
    """A section with its heading."""
    inside = "\n".join([heading(level, title, key), *parts])
    return f'<section aria-labelledby="{key}">\n{inside}\n</section>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """A table whose first column names the rows; with `numbers` the others stand to the right."""
    top = "".join(f'<th scope="col">{page.text(name)}</th>' for name in head)
    lines = [
        f'<tr><th scope="row">{page.text(first)}</th>{"".join(f"<td>{page.text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    ]
    words = page.text(caption)
    inside = f"<caption>{words}</caption><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody>"
    whole = f'<table class="{"numbers" if numbers else "words"}">{inside}</table>'
    return f'<div class="scroll" role="group" aria-label="{words}" tabindex="0">{whole}</div>'  # by keyboard too


def details(words: str, inside: str) -> str:
    """What is shown when somebody asks."""
    return f"<details><summary>{page.text(words)}</summary>{inside}</details>"


def drawing(chart: Chart, numbers: str) -> str:
    """A chart with what it shows, and the table of its numbers."""
    words = f"<strong>{page.text(chart.title)}</strong> <span>{page.text(chart.below)}</span>"
    return f'<figure class="chart"><figcaption>{words}</figcaption>{chart.svg}{details("Numbers", numbers)}</figure>'


def picture(values: Array, words: str, *, widest: int = _WIDEST, most: int = _MOST) -> str:
    """Pixels (H, W, channels) as squares of at most `most` pixels; `words` say what they are."""
    height, width = values.shape[:2]
    shown = width * max(min(widest // width, most), 1)
    size = f'width="{width}" height="{height}" style="width:{shown}px"'
    return f'<img src="{pixels.source(values)}" alt="{page.text(words)}" {size}>'
