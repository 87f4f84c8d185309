"""How many tests have proved each promise: docs/results/promises.json and a column of docs/promises.md.

    pytest --junitxml=plain.xml; pytest -m slow --junitxml=slow.xml; pytest -m peer --junitxml=peer.xml
    python benchmarks/promises.py plain.xml slow.xml peer.xml

Without reports it fills the column from what is stored. A test carries its promises in the report (tests/conftest.py).
A promise with a test that failed, or with none that passed, is not kept: nothing is written then, and the tests are
named.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from record import RESULTS, write

from stridenet.files import write_atomic

PAGE = RESULTS.parent / "promises.md"
STORED = RESULTS / "promises.json"
HEAD = re.compile(r"^\| \| promise \|(?: passed \|)? test \|\n\|[-|]+\|$", re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z]+\d+[a-z]?) \| (.+?) \|(?: [\d\u00a0]* \|)? ([^|]+) \|$", re.MULTILINE)


def outcomes(report: Path) -> Iterator[tuple[str, str, str]]:
    """Promise, test and outcome ("passed", "failed", "skipped") of every test that carries one."""
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        for entry in case.iter("property"):
            if entry.get("name") == "promise":
                yield str(entry.get("value")), f"{case.get('classname')}::{case.get('name')}", outcome


def count(reports: Iterable[Path]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Passed tests by promise and report, and what speaks against a promise, a line each."""
    passed: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    for report in reports:
        for promise, test, outcome in outcomes(report):
            passed.setdefault(promise, Counter())[report.stem] += outcome == "passed"
            if outcome == "failed":
                wrong.append(f"{promise}: {test} failed")
    wrong += [f"{promise}: no test has passed" for promise, tests in passed.items() if not tests.total()]
    return {promise: dict(sorted(tests.items())) for promise, tests in sorted(passed.items())}, wrong


def load() -> dict[str, Any]:
    """What is stored; no counts if there were none yet."""
    return json.loads(STORED.read_text("utf-8")) if STORED.exists() else {"passed": {}}


def fill(text: str, stored: dict[str, Any]) -> str:
    """The page with the counts of `stored` in a column."""

    def row(found: re.Match[str]) -> str:
        passed = sum(stored["passed"].get(found[1], {}).values())
        return f"| {found[1]} | {found[2]} | {passed or ''} | {found[3]} |"

    text = HEAD.sub("| | promise | passed | test |\n|---|---|---|---|", text)
    return ROW.sub(row, text)


def main(reports: list[Path]) -> None:
    """Count what `reports` say, store it, and fill the page."""
    if reports:
        passed, wrong = count(reports)
        if wrong or not passed:
            sys.exit("\n".join(wrong) or "no test of these reports carries a promise: does tests/conftest.py say so?")
        versions = {package: version(package) for package in ("pytest", "torch", "onnxruntime", "onnx")}
        write(STORED, {"versions": versions, "passed": passed})
    write_atomic(PAGE, fill(PAGE.read_text("utf-8"), load()).encode())


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]])
