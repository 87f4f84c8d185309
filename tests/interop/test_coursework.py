from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stridenet.interop import cs231n
from stridenet.interop.cs231n.solver import _RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coursework.md"


@pytest.mark.big
def test_the_example_of_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text, names = PAGE.read_text("utf-8"), {}
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    first, second, _, last = re.findall(r"^    (.+)$", text.partition("```\n\n")[2], re.MULTILINE)
    for line, said in ((printed[0], first), (printed[1], second), (printed[-1], last)):
        assert re.fullmatch(re.escape(said).replace(r"\.\.\.", r"\d*"), line)
    solver: Any = names["solver"]
    assert len(solver.loss_history) == 80
    assert len(solver.val_acc_history) == 11
    assert solver.best_val_acc > 0.9


def test_the_page_has_every_name() -> None:
    text = PAGE.read_text("utf-8").partition("## The names")[2].partition("\n\nShapes")[0]
    found: set[str] = set()
    for name in set(re.findall(r"`([\w*]+)`", text)) - _RULES.keys():
        pair = name if "*" in name else f"{name}_*"
        found |= {name} if hasattr(cs231n, name) else {pair.replace("*", way) for way in ("forward", "backward")}
    assert found == set(cs231n.__all__)


def test_links_lead_somewhere() -> None:
    for page, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", PAGE.read_text("utf-8")):
        headings = re.findall(r"^#+ (.+)$", (PAGE.parent / page).read_text("utf-8"), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
