"""The shell of a page: what is text stays text, and nothing but its own scripts runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Browse
from stridenet.viz import page

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\" onload='x'",
    "\x1b[31m",
    "\u2028",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_text_stays_text(name: str) -> None:
    document = page.document(name, f"<p>{page.text(name)}</p>", data={"name": name})
    assert name not in document.partition('id="data"')[0]
    assert "<img" not in document
    data = re.search(r'id="data">(.*?)</script>', document)
    assert data is not None
    assert json.loads(data[1]) == {"name": name}


def test_the_browser_shows_it_and_runs_nothing_else(
    tmp_path: Path, browse: Browse, accessibility: Callable[[Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "asset", lambda name: "document.title = 'mine';" if name == "mine.js" else "")
    body = f"<main><h1 onclick='document.title = 1'>{page.text(HOSTILE[0])}</h1></main>"
    path = tmp_path / "page.html"
    path.write_text(page.document("A page", body, scripts=["mine.js"], data={}), "utf-8")
    with browse(path) as shown:
        assert shown.title() == "mine"
        assert shown.inner_text("h1") == HOSTILE[0]
        assert accessibility(shown) == []
    path.write_text(path.read_text("utf-8").replace("'mine'", "'yours'"), "utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"), browse(path) as shown:
        assert shown.title() == "A page"
