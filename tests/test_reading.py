"""Every name that the documents mention exists, so that a reader never looks for one in vain."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAME = re.compile(r"`(stridenet(?:\.\w+)+)`")


def resolve(name: str) -> object:
    """The module, function, class or method called `name`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", ["reading.md", "architecture.md"])
def test_every_name_exists(page: str) -> None:
    names = set(NAME.findall((DOCS / page).read_text("utf-8")))
    missing = []
    for name in sorted(names):
        try:
            resolve(name)
        except (AttributeError, ModuleNotFoundError):
            missing.append(name)
    assert missing == []


def test_the_reading_order_passes_the_whole_way() -> None:
    text = (DOCS / "reading.md").read_text("utf-8")
    way = ["read_idx", "Loader.epoch", "Conv2d", "im2col.conv2d", "cross_entropy", "conv2d_backward", "Optimizer.step"]
    assert [text.find(name) for name in way] == sorted(text.find(name) for name in way)
    assert len(NAME.findall(text)) >= 40


def test_a_wrong_name_is_found() -> None:
    with pytest.raises(AttributeError):
        resolve("stridenet.nn.layers.Conv3d")
    with pytest.raises(AttributeError):
        resolve("stridenet.nothing")
