"""docs/promises.md is complete: each promise has its test, each test of a promise its row.

`python tests/test_promises.py` prints the count.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stridenet import errors, shapes, strictjson, tensors
from stridenet.data import fetch, idx, images, transforms
from stridenet.errors import StridenetError
from stridenet.files import WEIGHTS_BYTES
from stridenet.interop.onnx.proto import Limits
from stridenet.nn import layers
from stridenet.zoo import recipes

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "promises.md"
TIERS = ("slow", "peer")
ROW = re.compile(r"^\| ([A-Z]+\d+[a-z]?) \|.*\| (.+) \|$", re.MULTILINE)
FILE = re.compile(r"`([\w/]+\.py)`(?: \(([a-z, ]+)\))?")

Proofs = dict[str, dict[str, set[str]]]  # promise -> test file below tests/ -> tiers


def marks_of(source: str) -> Iterator[tuple[str, set[str]]]:
    """Every promise that a test file marks, with the tiers of the tests that carry the mark."""
    tree = ast.parse(source)
    assigned = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    module = [mark for value in assigned for mark in (value.elts if isinstance(value, ast.List) else [value])]
    places = [[]] if module else []
    places += [node.decorator_list for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for own in places:
        marks = [*own, *module]
        tiers = tiers_of([ast.unparse(mark) for mark in marks])
        for call in (node for mark in (own or module) for node in ast.walk(mark) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "pytest.mark.promise":
                yield from ((ast.literal_eval(name), tiers) for name in call.args)


def tiers_of(marks: list[str]) -> set[str]:
    """slow and peer as marks leave the plain tier; within a parametrisation they are some of the cases."""
    whole = {tier for tier in TIERS if f"pytest.mark.{tier}" in marks}
    some = {tier for tier in TIERS if any(f"pytest.mark.{tier}" in mark for mark in marks)}
    return whole or {"plain", *some}


@functools.cache
def marked() -> Proofs:
    """The promises that the tests mark."""
    proofs: Proofs = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for promise, tiers in marks_of(path.read_text("utf-8")):
            proofs.setdefault(promise, {}).setdefault(path.relative_to(TESTS).as_posix(), set()).update(tiers)
    return proofs


def promised(page: str) -> Proofs:
    """The promises of the page, with the files and tiers that their rows name."""
    rows = ROW.findall(page)
    assert len(rows) == len({promise for promise, _ in rows}), "a promise has two rows"
    return {
        promise: {file: set((tiers or "plain").split(", ")) for file, tiers in FILE.findall(cell)}
        for promise, cell in rows
    }


def faults(page: Proofs, tests: Proofs) -> list[str]:
    """What is wrong, one line each."""
    found = [f"{promise}: marked in {', '.join(tests[promise])}, no row" for promise in tests.keys() - page.keys()]
    for promise, files in page.items():
        if not files:
            found.append(f"{promise}: its row names no test file")
        for file, tiers in files.items():
            have = tests.get(promise, {}).get(file, set[str]())
            if have != tiers:
                found.append(f"{promise}: {file} has it in {sorted(have) or 'no test'}, the row says {sorted(tiers)}")
    return sorted(found)


def summary(page: Proofs, tests: Proofs) -> str:
    """The count of promises, and of those that a test carries."""
    return f"promises with a test / promises: {len(page.keys() & tests.keys())} / {len(page.keys() | tests.keys())}"


def test_every_promise_has_its_test_and_every_marker_its_row() -> None:
    page, tests = promised(PAGE.read_text("utf-8")), marked()
    sys.stdout.write(summary(page, tests))  # shown by pytest -s
    assert faults(page, tests) == []
    assert summary(page, tests).endswith(f"{len(page)} / {len(page)}")
    assert len(page) > 50


def test_a_missing_row_and_a_missing_marker_are_found() -> None:
    page, tests = promised(PAGE.read_text("utf-8")), marked()
    for promise, files in page.items():
        others = {key: value for key, value in page.items() if key != promise}
        assert len(faults(others, tests)) == 1
        for file in files:
            thinner = {**tests, promise: {key: value for key, value in tests[promise].items() if key != file}}
            assert len(faults(page, thinner)) == 1
    assert summary({"A1": {}}, {"B2": {}}).endswith("0 / 2")


SLOW_CASE = "@pytest.mark.parametrize('n', [1, pytest.param(2, marks=pytest.mark.slow)])"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("@pytest.mark.promise('A1', 'A2')\ndef test(): ...", [("A1", "plain"), ("A2", "plain")]),
        ("@pytest.mark.slow\n@pytest.mark.promise('A1')\ndef test(): ...", [("A1", "slow")]),
        ("pytestmark = [pytest.mark.peer, pytest.mark.promise('A1')]\ndef test(): ...", [("A1", "peer")]),
        ("pytestmark = pytest.mark.peer\n@pytest.mark.promise('A1')\nclass Test: ...", [("A1", "peer")]),
        (f"{SLOW_CASE}\n@pytest.mark.promise('A1')\ndef test(n): ...", [("A1", "plain", "slow")]),
        ("# pytest.mark.promise('A1')\ndef test(): 'pytest.mark.promise'", []),
    ],
)
def test_the_marks_of_a_file(source: str, wanted: list[tuple[str, ...]]) -> None:
    assert sorted({(promise, *sorted(tiers)) for promise, tiers in marks_of(source)}) == wanted


def test_the_errors_are_those_of_the_family() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (?:`(\w+)` )?\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    family = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StridenetError)]
    others = {kind.__name__: [b.__name__ for b in kind.__bases__ if b is not StridenetError] for kind in family}
    del others["StridenetError"]
    assert {name: [other] if other else [] for name, other in rows} == others


def spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def test_the_limits_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8").partition("## Limits")[2].partition("\n## ")[0]
    _, _, *rows = [tuple(line.strip("| ").split(" | ")) for line in text.splitlines() if line.startswith("|")]
    onnx = Limits()
    mib, chunks, count, weights = 2**20, *map(spaced, (images.MAX_CHUNKS, tensors.MAX_TENSORS, layers.MOST_WEIGHTS))
    assert dict(rows) == {
        "IDX file, and what it holds": f"{idx.MAX_BYTES // (1024 * mib)} GiB",
        "gzip": "the declared size and one byte, then stop",
        "picture file, pixels": f"{images.MAX_BYTES // mib} MiB, {images.MAX_PIXELS // 10**6} million",
        "picture formats": ", ".join(images.FORMATS),
        "chunks of a PNG, scans of a JPEG": f"{chunks}, {images.MAX_SCANS}",
        "pixels for each byte of a JPEG": spaced(images.MAX_JPEG_SHARE),
        "pixels that a window sees, with padding": spaced(shapes.MOST_PIXELS),
        "numbers of a mean image": spaced(transforms.MEAN_IMAGE),
        "weights file": f"{WEIGHTS_BYTES // (1024 * mib)} GiB",
        "its header, its metadata": f"{tensors.MAX_HEADER // mib} MiB, {tensors.MAX_METADATA // mib} MiB",
        "its tensors, axes, characters of a name": f"{count}, {tensors.MAX_DIMENSIONS}, {tensors.MAX_NAME}",
        "weights of one layer": weights,
        "ONNX: file, all arrays at a time": f"{onnx.file // 2**30} GiB, {onnx.peak // 2**30} GiB",
        "its nodes, initialisers, numbers of an array": ", ".join(
            map(spaced, (onnx.nodes, onnx.initialisers, onnx.elements))
        ),
        "JSON: size, depth, integers": f"{strictjson.MAX_BYTES // mib} MiB, {strictjson.MAX_DEPTH}, 2^53",
        "recipe file": f"{recipes._MAX_BYTES // mib} MiB",
        "a mirror: first answer, one file": f"{fetch.ANSWER_SECONDS:.0f} s, {fetch.TOTAL_SECONDS:.0f} s",
    }
    assert strictjson.MAX_INTEGER == 2**53


if __name__ == "__main__":
    sys.stdout.write(summary(promised(PAGE.read_text("utf-8")), marked()) + "\n")
