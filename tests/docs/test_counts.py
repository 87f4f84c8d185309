"""The counts of docs/promises.md are those of the last reports, and a promise that is not kept is found."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import pytest_collection_modifyitems
from test_promises import promised

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite>
<testcase classname="a" name="one"><properties><property name="promise" value="F1"/></properties></testcase>
<testcase classname="a" name="two"><properties>
<property name="promise" value="F1"/><property name="promise" value="K2"/></properties></testcase>
<testcase classname="a" name="three"/>
<testcase classname="a" name="four"><properties><property name="promise" value="K2"/></properties>{}</testcase>
</testsuite></testsuites>"""
PAGE = """| | promise | test |
|---|---|---|
| F1 | Files. | `test_a.py` |
| K2 | It is 3. | `test_a.py` (plain, slow), `test_b.py` |
| K3 | New. | `test_c.py` |
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return runpy.run_path(str(ROOT / "benchmarks" / "promises.py"))


def test_the_page_has_the_counts_that_are_stored(script: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "promises.md").read_text("utf-8")
    assert text == script["fill"](text, script["load"]()), "run python benchmarks/promises.py"
    assert "| | promise | test |" not in text


def test_counts_go_into_the_rows_and_nothing_else_changes(script: dict[str, Any]) -> None:
    stored = {"passed": {"F1": {"plain": 1000, "slow": 34}, "K2": {"peer": 2}}}
    filled = script["fill"](PAGE, stored)
    assert filled.splitlines() == [
        "| | promise | passed | test |",
        "|---|---|---|---|",
        "| F1 | Files. | 1034 | `test_a.py` |",
        "| K2 | It is 3. | 2 | `test_a.py` (plain, slow), `test_b.py` |",
        "| K3 | New. |  | `test_c.py` |",
    ]
    assert script["fill"](filled, stored) == filled
    assert script["fill"](filled, {"passed": {}}) == script["fill"](PAGE, {"passed": {}})
    assert promised(filled) == promised(PAGE)


@pytest.mark.parametrize(
    ("outcome", "passed", "wrong"),
    [
        ("", {"F1": {"plain": 2}, "K2": {"plain": 2}}, []),
        ("<skipped/>", {"F1": {"plain": 2}, "K2": {"plain": 1}}, []),
        ("<failure/>", {"F1": {"plain": 2}, "K2": {"plain": 1}}, ["K2: a::four failed"]),
        ("<error/>", {"F1": {"plain": 2}, "K2": {"plain": 1}}, ["K2: a::four failed"]),
    ],
)
def test_a_report_is_counted(
    script: dict[str, Any], tmp_path: Path, outcome: str, passed: dict[str, Any], wrong: list[str]
) -> None:
    (tmp_path / "plain.xml").write_text(REPORT.format(outcome))
    assert script["count"]([tmp_path / "plain.xml"]) == (passed, wrong)


def test_a_promise_without_a_test_that_passed_is_not_kept(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "peer.xml").write_text(REPORT.format("").replace("</properties>", "</properties><skipped/>"))
    passed, wrong = script["count"]([tmp_path / "peer.xml"])
    assert passed == {"F1": {"peer": 0}, "K2": {"peer": 0}}
    assert wrong == ["F1: no test has passed", "K2: no test has passed"]
    with pytest.raises(SystemExit, match="F1: no test has passed"):
        script["main"]([tmp_path / "peer.xml"])


def test_a_test_carries_its_promises_into_the_report() -> None:
    marks = [pytest.mark.promise("K2").mark, pytest.mark.promise("F1", "K2").mark]
    item: Any = SimpleNamespace(user_properties=[], iter_markers=lambda name: marks if name == "promise" else [])
    pytest_collection_modifyitems([item])
    assert item.user_properties == [("promise", "F1"), ("promise", "K2")]
