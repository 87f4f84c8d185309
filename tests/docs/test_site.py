"""The site is built without a warning, holds every page, and asks for nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conftest import SIZES
from test_public_api import PUBLIC
from test_reference import THINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md"))
NEEDED = ("sphinx", "furo", "myst_parser", "sphinx_design", "sphinx_copybutton", "latex2mathml")

pytestmark = pytest.mark.slow


def build(target: Path, docs: Path = DOCS, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site in `target`; every warning is an error."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"no {', '.join(missing)}; install stridenet's extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *options]
    return subprocess.run([*command, str(docs), str(target)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    if done.returncode:
        pytest.fail(f"warnings: {done.stderr}", pytrace=False)
    return folder


class Reader(HTMLParser):
    """What a page loads and links to, its identities, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loads.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loads.append(str(given["href"]))
        if tag == "a":
            self.links.append(str(given.get("href")))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_page_is_in_the_site(site: Path) -> None:
    assert [page for page in PAGES if not (site / page).with_suffix(".html").is_file()] == []


def test_a_page_says_its_language(site: Path) -> None:
    for page in PAGES:
        language = "zh-CN" if page.parts[0] == "zh" else "en"
        assert f'<html class="no-js" lang="{language}"' in (site / page).with_suffix(".html").read_text("utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        for address in Reader(path).loads:
            assert "//" not in address, f"{path.name}: {address}"
            assert (path.parent / re.sub("[?#].*", "", address)).is_file(), f"{path.name}: {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", path.read_text("utf-8")), path.name


def test_formulas_are_mathml(site: Path) -> None:
    page = Reader(site / "reference" / "Conv2d.html")
    assert page.tags.count("math") >= 10
    assert "\\sum" not in page.text


@pytest.mark.parametrize("name", THINGS["layer"])
def test_a_layer_page_shows_its_code(site: Path, name: str) -> None:
    text = Reader(site / "reference" / f"{name}.html").text
    source = (DOCS / "reference" / f"{name}.md").read_text("utf-8")
    listed = re.findall(r"^- \[\w+\.py\]\((.+?)\): (.+(?:\n  .+)*)$", source, re.MULTILINE)
    assert listed
    for _, names in listed:
        for function in re.findall(r"`(?:\w+\.)?(\w+)`", names):
            assert f"def {function}(" in text


def test_the_reference_has_every_public_name(site: Path) -> None:
    pages = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    text = "".join(Reader(path).text for path in (site / "api").glob("*.html"))
    for name in PUBLIC:
        assert f'id="stridenet.{name}"' in pages or f"stridenet.{name}" in text, name


@pytest.mark.parametrize(("size", "dark"), [("desk", False), ("phone", True)])
@pytest.mark.parametrize("name", ["index", "reference/Conv2d", "api/layers", "benchmarks"])
def test_a_page_in_the_browser(
    site: Path, name: str, size: str, dark: bool, chromium: Any, accessibility: Callable[[Any], list[str]]
) -> None:
    """Nothing wrong is said on the console, no request leaves the site, nothing is too wide, everybody can use it."""
    width, height = SIZES[size]
    view = {"width": width, "height": height}
    context = chromium.new_context(viewport=view, color_scheme="dark" if dark else "light")
    page, wrong = context.new_page(), []
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith((site.as_uri(), "data:")) or wrong.append(request.url))
    page.goto((site / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []
    assert accessibility(page) == []  # itself reads the style sheets once more, which a file may not
    context.close()


def test_links_into_the_repository_are_text_until_its_address_is_known(tmp_path: Path) -> None:
    docs = tmp_path / "repository" / "docs"
    docs.mkdir(parents=True)
    (docs.parent / "README.md").write_text("# Read me\n", "utf-8")
    (docs.parent / "lab").mkdir()
    shutil.copy(DOCS / "conf.py", docs)
    for name in ("extensions", "static"):
        shutil.copytree(DOCS / name, docs / name)
    text = "[a](../README.md#read-me) [b](../lab) [c](conf.py) [d](index.md) [e](https://example.org)\n"
    (docs / "index.md").write_text(f"# Page\n\n{text}", "utf-8")
    base = "https://example.org/tree/main"
    for options, wanted in (
        ([], set[str]()),
        (["-D", f"repository={base}"], {f"{base}/README.md#read-me", f"{base}/lab", f"{base}/docs/conf.py"}),
    ):
        done = build(tmp_path / "out", docs, *options)
        assert (done.returncode, done.stderr) == (0, "")
        links = Reader(tmp_path / "out" / "index.html").links
        assert {link for link in links if link.startswith(base)} == wanted
    (docs / "index.md").write_text("# Page\n\n[a](../nothing.py)\n", "utf-8")
    assert "nothing.py" in build(tmp_path / "out", docs).stderr
