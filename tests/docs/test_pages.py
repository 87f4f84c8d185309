"""The pages beside the blocks: the docstrings' reference is complete, names exist, pictures are as they are drawn."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.text import Text

import stridenet
from stridenet import functional
from test_public_api import PUBLIC
from test_reading import NAME, resolve
from test_reference import THINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"
API = "\n".join(path.read_text("utf-8") for path in sorted((DOCS / "api").glob("*.md")))
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_public_name_is_in_the_reference_of_the_docstrings() -> None:
    shown = re.findall(r"^\.\. auto(?:class|function):: stridenet\.(\w+)$", API, re.MULTILINE)
    modules = re.findall(r"^\.\. automodule:: (stridenet[\w.]*)$", API, re.MULTILINE)
    assert len(shown) == len({*shown})
    for name in PUBLIC:
        thing = getattr(stridenet, name)
        if isinstance(thing, ModuleType):
            assert thing.__name__ in modules
        elif thing is not stridenet.StridenetError:  # in the module of errors, with the rest of its family
            assert name in shown or f"`stridenet.{name}`" in API, name


def test_every_operation_is_there_with_its_backward() -> None:
    shown = re.findall(r"^\.\. autofunction:: stridenet\.functional\.(\w+)$", API, re.MULTILINE)
    there = {
        name
        for name, thing in vars(functional).items()
        if inspect.isfunction(thing) and f"{name}_backward" in vars(functional)
    }
    assert {*there, *(f"{name}_backward" for name in there)} <= {*shown}
    assert [name for name in shown if not hasattr(functional, name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_name_exists(page: str) -> None:
    for name in NAME.findall((DOCS / page).read_text("utf-8")):
        resolve(name)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script that draws the layers."""
    monkeypatch.syspath_prepend(DOCS)
    return runpy.run_path(str(DOCS / "pictures.py"))


def test_every_layer_has_a_picture(drawn: dict[str, Any]) -> None:
    assert drawn["PICTURES"].keys() == THINGS["layer"].keys()
    assert {path.stem for path in (DOCS / "images" / "layers").iterdir()} == THINGS["layer"].keys()


def test_the_pictures_show_the_numbers_that_the_layers_compute(drawn: dict[str, Any]) -> None:
    for name, draw in drawn["PICTURES"].items():
        tree = ElementTree.parse(DOCS / "images" / "layers" / f"{name}.svg")
        stored = {"".join(node.itertext()) for node in tree.iter("{http://www.w3.org/2000/svg}text")}
        words = [line for text in draw().axes.texts if isinstance(text, Text) for line in text.get_text().split("\n")]
        assert {word for word in words if word} <= stored, f"run python docs/pictures.py {name}"
        assert len(words) >= 2
