"""One HTML file that stands alone: its style, its scripts and its data are in it, and nothing is fetched.

What comes from files is untrusted: class names, paths, recipes. It goes into the text of a page through `text`, and to
its scripts as JSON. The Content-Security-Policy of a page allows its own scripts, by hash, and no connection.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from stridenet.errors import printable
from stridenet.files import FilePath

_AS_TEXT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&"})  # what could end the element of a script


def text(value: FilePath | bytes) -> str:
    r"""`value` as text of HTML, in an element or between the quotes of an attribute.

    >>> text("<b> & \x1b[1m")
    '&lt;b&gt; &amp; \\x1b[1m'
    """
    return html.escape(printable(value))


def asset(name: str) -> str:
    """The text of a file of `viz/assets`: a style sheet or a script."""
    return resources.files("stridenet.viz").joinpath("assets", name).read_text("utf-8")


def document(
    title: str,
    body: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    language: str = "en",
) -> str:
    """A whole HTML page with `body`, which is HTML already; `title` is text.

    `styles` and `scripts` are names of assets: `page.css` comes first, the scripts last and in their order. They find
    `data` as JSON in the element with the id `data`.
    """
    sources = [asset(name) for name in scripts]
    policy = [
        "default-src 'none'",
        "script-src " + (" ".join(map(_hash, sources)) or "'none'"),
        "style-src 'unsafe-inline'",  # charts carry their style in attributes
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{text(language)}">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        f"<title>{text(title)}</title>",
        *(f"<style>\n{asset(name)}</style>" for name in ("page.css", *styles)),
        "</head>",
        "<body>",
        body,
        *([f'<script type="application/json" id="data">{_json(data)}</script>'] if data is not None else []),
        *(f"<script>{source}</script>" for source in sources),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_AS_TEXT)
