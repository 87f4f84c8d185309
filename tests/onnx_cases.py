"""The backend tests that come with the package onnx, and the page that says which of them pass.

`python tests/onnx_cases.py` writes docs/onnx-operators.md.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from stridenet.errors import UnsupportedModelError
from stridenet.interop.onnx import Graph, load
from stridenet.interop.onnx.operators import OPERATORS
from stridenet.layout import Array

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "onnx-operators.md"

# The operators whose node tests are promised, and how many of these there are.
PROMISED = {
    "Conv": 6, "MaxPool": 19, "AveragePool": 20, "GlobalAveragePool": 2, "BatchNormalization": 4, "Gemm": 11, "Relu": 1,
    "Sigmoid": 2, "Tanh": 2, "Softmax": 7, "LogSoftmax": 7, "Flatten": 9, "Reshape": 10, "Dropout": 12, "Add": 8,
    "Concat": 12, "LeakyRelu": 3,
}  # fmt: skip

# Its expected numbers are written with four digits: compared at the tolerance that it states itself.
ROUNDED = {"averagepool_2d_ceil_last_window_starts_on_pad"}


class Case(NamedTuple):
    """A model as bytes, and pairs of inputs and outputs."""

    name: str
    data: bytes
    sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]

    @property
    def operators(self) -> list[str]:
        return [node.op_type for node in onnx.load_from_string(self.data).graph.node]


def array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@functools.cache
def node_cases() -> dict[str, Case]:
    """The node tests, by their names without "test_"; building them takes some seconds."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    cases: dict[str, Case] = {}
    for case in found:
        sets = [([array(x) for x in inputs], [array(y) for y in outputs]) for inputs, outputs in case.data_sets]
        cases[case.name.removeprefix("test_")] = Case(case.name, case.model.SerializeToString(), sets)
    return cases


@functools.cache
def own_cases() -> dict[str, list[Case]]:
    """Of each operator of stridenet its node tests; the expansions into other operators are not among them."""
    own: dict[str, list[Case]] = {op: [] for op in OPERATORS}
    for name, case in node_cases().items():
        operators = case.operators
        if len(operators) == 1 and operators[0] in own and "_expanded" not in name:
            own[operators[0]].append(case)
    return own


@functools.cache
def stored_cases(kind: str) -> dict[str, Case]:
    """The tests that are files: "pytorch-converted", "pytorch-operator" or "simple"."""
    cases: dict[str, Case] = {}
    for folder in sorted((DATA / kind).glob("test_*/")):
        sets = [
            ([*tensors(part, "input")], [*tensors(part, "output")]) for part in sorted(folder.glob("test_data_set_*"))
        ]
        name = folder.name.removeprefix("test_").removeprefix("operator_")
        cases[name] = Case(folder.name, (folder / "model.onnx").read_bytes(), sets)
    return cases


def tensors(folder: Path, word: str) -> Iterable[Any]:
    for i in range(len(list(folder.glob(f"{word}_*.pb")))):
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString((folder / f"{word}_{i}.pb").read_bytes())
        except Exception:  # a sequence: its model is refused  # noqa: BLE001
            yield None
        else:
            yield numpy_helper.to_array(tensor)


def graph_of(data: bytes) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        return load(path)


def compare(found: Sequence[Array], wanted: Sequence[Any], *, rtol: float = 1e-5, atol: float = 1e-7) -> None:
    """Raise AssertionError unless the arrays are equal to tolerance, in shape and type exactly."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.dtype) == (np.shape(b), np.asarray(b).dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def refusal(case: Case) -> str:
    """Run a case: "" if it passes, the message if it is refused; a wrong number is an AssertionError."""
    try:
        graph = graph_of(case.data)
        for inputs, outputs in case.sets:
            rtol = 1e-3 if case.name.removeprefix("test_") in ROUNDED else 1e-5
            compare(graph.run(*inputs), outputs, rtol=rtol)
    except UnsupportedModelError as error:
        return re.sub(r"^.*?\.onnx: ", "", str(error))
    return ""


def render() -> str:
    """The page."""
    own = own_cases()
    lines = [HEAD.format(version=onnx.__version__, opset=onnx.defs.onnx_opset_version())]
    lines += ["| operator | node tests | pass | refused | SHA-256 of the models |", "|---|---:|---:|---:|---|"]
    refused: dict[str, str] = {}
    for op in sorted(own, key=lambda op: (op not in PROMISED, op)):
        found = {case.name.removeprefix("test_"): refusal(case) for case in own[op]}
        refused |= {name: message for name, message in found.items() if message}
        digest = hashlib.sha256(b"".join(case.data for case in own[op])).hexdigest()[:16] if found else ""
        good = sum(not message for message in found.values())
        name = f"**{op}**" if op in PROMISED else op
        lines.append(f"| {name} | {len(found)} | {good} | {len(found) - good} | {digest} |")
    lines += ["", "Refused, each with one line:", ""]
    lines += [f"- `{name}`: {message.partition(': ')[2]}" for name, message in sorted(refused.items())]
    lines += ["", "## Models of other programs", "", "| kind | models | pass | refused |", "|---|---:|---:|---:|"]
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        found = [refusal(case) for case in stored_cases(kind).values()]
        lines.append(f"| {kind} | {len(found)} | {found.count('')} | {len(found) - found.count('')} |")
    lines += ["", "## The node tests by name", ""]
    for op in sorted(PROMISED):
        lines.append(f"- {op}: " + ", ".join(f"`{case.name.removeprefix('test_')}`" for case in own[op]))
    return "\n".join(lines) + "\n"


HEAD = """# ONNX operators that stridenet runs

`stridenet.interop.onnx.load` runs graphs of these operators, opsets 6 to 28. The table is made by
`python tests/onnx_cases.py` from the backend node tests of onnx {version} (opset {opset}), and a test compares it. A
node test passes if every output has the expected shape and type, and its numbers within rtol 1e-5, atol 1e-7
(`{rounded}`, whose expected numbers have four digits, within its own
1e-3). What does not pass is refused by one line; no test gives a wrong number. The operators in bold are promised.

The nine light ImageNet networks of the package run too. Their weights are constants, so they test the wiring alone.
""".replace("{rounded}", next(iter(ROUNDED)))

if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.write_text(render(), 'utf-8')} characters\n")
