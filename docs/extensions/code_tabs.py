"""The code itself where a page lists functions: a tab for each file, the same techniques side by side.

A page has lines such as

    - [loops.py](../../src/stridenet/kernels/loops.py): `taps`, `conv2d`

which lead to the files in the repository. Here each run of such lines becomes tabs with the source of what they name.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

LINE = re.compile(r"- \[(\w+)\.py\]\((\S+\.py)\): (`[\w.]+`(?:,\s+`[\w.]+`)*)\n")
LINES = re.compile(f"^(?:{LINE.pattern})+", re.MULTILINE)


def tabs(lines: str) -> str:
    """What a run of lines becomes."""
    return "::::{tab-set}\n" + "".join(tab(*found) for found in LINE.findall(lines)) + "::::\n"


def tab(title: str, path: str, names: str) -> str:
    """One file: its functions and methods, one below the other."""
    code = [f"```{{literalinclude}} {path}\n:pyobject: {name}\n```\n" for name in re.findall(r"`(.+?)`", names)]
    return f":::{{tab-item}} {title}\n:sync: {title}\n" + "".join(code) + ":::\n"


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Called with the text of each page."""
    source[0] = LINES.sub(lambda found: tabs(found[0]), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
