from __future__ import annotations

import json
from typing import Any

import pytest

from stridenet import benchmark, cli
from stridenet.benchmark import Timing

pytestmark = pytest.mark.big

BRIEF = ["--seconds", "0.000001"]


@pytest.fixture
def bench(capfd: pytest.CaptureFixture[str]) -> Any:
    """The lines of `stridenet bench ARGUMENTS`."""

    def run(*arguments: str) -> list[str]:
        assert cli.run(["bench", *arguments, *BRIEF]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out.splitlines()

    return run


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, with made-up times."""
    conv, pool = "conv 6@5x5 backward, 64x1x28x28", "max pool 2x2 forward, 64x6x24x24"
    works = [
        [
            Timing(conv, "im2col", 1, 0.25, 256_000, 80.25, 1.0),
            Timing(conv, "loops", 1, 12345.678, 5.2, 0.00123, 2e-5),
            Timing(conv, "strided", 1, 19.6, 3265.3, 1.02, None, published=True),
        ],
        [
            Timing(pool, "im2col", 1, 0.1234, 500_000, None, 1.0),
            Timing(pool, "batchlast", 1, 0.0234, 2_500_000, None, 5.274),
        ],
    ]
    monkeypatch.setattr(benchmark, "operations", lambda seconds: iter(works))


def test_operations_as_a_table(bench: Any, operations: None) -> None:
    machine, empty, *lines = bench("ops")
    assert "cores, NumPy" in machine
    assert (empty, "\n".join(lines)) == (
        "",
        """\
                                                          ms   GFLOP/s     speed
conv 6@5x5 backward, 64x1x28x28          im2col        0.250      80.2      1.00
                                         loops         12346    0.0012   1/50000
                                       * strided      19.600       1.0         -
max pool 2x2 forward, 64x6x24x24         im2col        0.123         -      1.00
                                         batchlast     0.023         -      5.27

speed: times as fast as im2col. loops: by one image, times their number.
* published by the report S0 (docs/systems.md), measured on another machine""",
    )


def test_a_training_step_as_a_table(bench: Any) -> None:
    machine, _, head, *rows = bench("train", "--threads", "1", "--threads", "3", "--batch-size", "4")
    assert head.split() == ["threads", "ms", "images/s", "GFLOP/s", "speed"]
    assert machine.startswith("lenet5, ")
    assert rows[0].startswith("step, batch 4  ")
    assert [row[19:].split()[:2] for row in rows] == [
        [way, count] for count in "13" for way in ("im2col", "batchlast", "plan")
    ]
    assert max(map(len, [head, *rows])) <= 80


def test_inference_as_a_table(bench: Any) -> None:
    _, _, _, *rows = bench("infer", "--threads", "1", "--batch-size", "1", "--batch-size", "20")
    assert [row[:19].strip() for row in rows if row[:19].strip()] == [
        "scores, batch 1",
        "scores, batch 20",
    ]
    assert [row[19:].split()[0] for row in rows] == 2 * ["im2col", "batchlast", "plan"]


KEYS = {
    "work", "technique", "threads", "milliseconds", "images_per_second", "gflops", "speedup", "published",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "about", "count"),
    [
        (["ops"], {}, 5),
        (["train", "--batch-size", "4"], {"model": "lenet5"}, 2 * 3),
        (["infer", "--threads", "1"], {"model": "lenet5"}, 3 * 3),
    ],
)
def test_one_json_document(
    bench: Any, operations: None, arguments: list[str], about: dict[str, str], count: int
) -> None:
    (line,) = bench(*arguments, "--json")
    found = json.loads(line)
    assert found.keys() == {*about, "machine", "timings"}
    assert about.items() <= found.items()
    assert {"processor", "cores", "numpy", "blas"} <= found["machine"].keys()
    assert len(found["timings"]) == count
    assert all(timing.keys() == KEYS and timing["milliseconds"] > 0 for timing in found["timings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["operations"], "No such command 'operations'"),
        (["train", "--model", "lenet6"], "benchmark: expected one of"),
        (["train", "--model", ""], "benchmark: expected one of"),
        (["train", "--batch-size", "0"], "0 is not in the range x>=1"),
        (["train", "--threads", "0"], "0 is not in the range x>=1"),
        (["infer", "--batch-size", "x"], "'x' is not a valid integer"),
        (["ops", "--seconds", "0"], "benchmark: expected seconds > 0, got 0"),
        (["ops", "--seconds", "nan"], "benchmark: expected seconds"),
        (["ops", "lenet5"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["ops"], ["train"], ["infer"]])
def test_each_has_its_help(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", *command, "--help"]) == 0
    out = capfd.readouterr().out
    assert ("--seconds" in out) == bool(command)
    assert max(map(len, out.splitlines())) <= 80
