"""The same numbers as PyTorch where PyTorch is not installed: what it answered is in tests/golden/torch.npz."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers import LAYOUTS, normwise
from peer.operations import DRAW, ours
from stridenet.layout import Array

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "torch.npz"
BOUND = {"float32": 1e-5, "float64": 1e-10}


def cut(flat: Array, shapes: list[list[int]]) -> Iterator[Array]:
    """The first numbers of `flat` as arrays of these shapes."""
    start = 0
    for shape in shapes:
        stop = start + math.prod(shape)
        yield flat[start:stop].reshape(shape)
        start = stop


@pytest.mark.promise("G3")
@pytest.mark.parametrize("dtype", BOUND)
def test_415_answers_of_torch(dtype: str) -> None:
    with np.load(GOLDEN, allow_pickle=False) as file:
        cases, inputs, outputs = json.loads(file["cases"].tobytes()), file["inputs"], file["outputs"]
    orders = list(LAYOUTS.values())
    faults: list[str] = []
    for i, (op, options, given, answered) in enumerate(cases):
        *arrays, dy = (orders[i % len(orders)]((a / 8).astype(dtype)) for a in cut(inputs, given))
        wanted = list(cut(outputs, answered))
        inputs, outputs = (flat[sum(map(math.prod, s)) :] for flat, s in ((inputs, given), (outputs, answered)))
        for j, (a, b) in enumerate(zip(ours(op, options, arrays, dy), wanted, strict=True)):
            if not normwise(a, b) <= BOUND[dtype]:
                faults.append(f"{op} {i}: result {j} of {given} with {options}")
    assert not faults, "\n".join(faults)
    assert len(cases) == 415
    assert {op for op, *_ in cases} == set(DRAW)
    assert len(inputs) == len(outputs) == 0


def test_the_file_is_small() -> None:
    assert GOLDEN.stat().st_size < 1 << 20
