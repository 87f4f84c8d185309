"""How long each step of docs/from-loops.md takes: its convolution in every way, and a training step of LeNet-5.

The functions are those that stand on the page. All ways take turns, and the median counts; where a call is short, a
turn is as many of them as take about 20 ms. float32; one thread, but for the last line.

    python benchmarks/steps.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import record
from pages import table

from stridenet import benchmark
from stridenet.train.evaluation import blas_threads

PAGE = record.RESULTS.parent / "from-loops.md"
TURN = 0.02  # seconds, about
WAYS = {  # the functions of the page in its order: what they are called in the table, and the image that they take
    "seven_loops": ("1. seven loops", "x"),
    "four_loops": ("2. a window at a time", "x"),
    "columns_one_by_one": ("3. columns, and a matrix product", "x"),
    "a_view": ("4. a view instead of a loop", "x"),
    "batch_innermost": ("5. the batch innermost", "inner"),
    "compiled_loops": ("(the seven loops, compiled)", "inner"),
    "register_tiles": ("6. tiles of registers", "inner"),
}
DETOUR = "compiled_loops"
TRAINING = {  # (technique, threads) of `stridenet.benchmark.training`
    "im2col": ("layer by layer, as in step 5", ("im2col", 1)),
    "batchlast": ("layer by layer, with tiles", ("batchlast", 1)),
    "plan": ("7. one program, block by block", ("plan", 1)),
    "threads": ("8. the same on two threads", ("plan", 2)),
}
BATCH = 64
MARKED = re.compile(r"(<!-- step: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code(text: str) -> str:
    """The Python of the page."""
    return "\n\n".join(PYTHON.findall(text))


def digest(text: str) -> str:
    """What the code of the page is known by."""
    return hashlib.sha256(code(text).encode()).hexdigest()


def _times(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def convolutions(rounds: int) -> dict[str, float]:
    """The median milliseconds of each way."""
    page: dict[str, Any] = {}
    exec(compile(code(PAGE.read_text("utf-8")), str(PAGE), "exec"), page)
    calls = {name: partial(page[name], page[image], page["weight"], page["bias"]) for name, (_, image) in WAYS.items()}
    counts = {name: max(1, round(TURN / _times(call, 2))) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            found[name].append(_times(calls[name], counts[name]))
    return {name: round(1e3 * median(times), 5) for name, times in found.items()}


def training(seconds: float) -> dict[str, float]:
    """The median milliseconds of a training step of LeNet-5, in each way."""
    timings = benchmark.training("lenet5", batch_size=BATCH, threads=(1, 2), seconds=seconds)
    found = {(timing.technique, timing.threads): timing.milliseconds for timing in timings}
    return {name: round(found[way], 5) for name, (_, way) in TRAINING.items()}


def fill(text: str, folder: Path) -> str:
    """`text` with the figures of steps.json between its marks."""
    found = json.loads((folder / "steps.json").read_text("utf-8"))
    return MARKED.sub(lambda mark: mark[1] + _figures(mark[2], found) + mark[3], text)


def _figures(name: str, found: dict[str, Any]) -> str:
    if name == "all":
        return _everything(found)
    if name == "training":
        return _training(found)
    times, names = found["convolution"], [way for way in WAYS if way != DETOUR or way == name]
    here, first, at = times[name], times["seven_loops"], names.index(name)
    if at == 0:
        return f"**{_ms(here)}.** Here we begin.\n"
    before = times[names[at - 1]] / here
    if before < 1:
        return f"**{_ms(here)}**: {_times_as(1 / before)} as long as step 5.\n"
    return f"**{_ms(here)}**: {_times_as(before)} as fast as the step before, {_times_as(first / here)} as the loops.\n"


def _everything(found: dict[str, Any]) -> str:
    times, machine, settings = found["convolution"], found["machine"], found["settings"]
    first = times["seven_loops"]
    rows = [[WAYS[name][0], _ms(each), _factor(first / each)] for name, each in times.items()]
    return f"""\
{table(["step", "time", "times as fast as the loops"], rows)}
Medians of {settings["rounds"]} turns on one thread of {machine["processor"]}, Python {machine["python"]}, NumPy
{machine["numpy"]}, {found["date"][:10]} ([data](results/steps.json)).

![The time of each step on a logarithmic scale, from the loops to the tiles](images/steps.png)
"""


def _training(found: dict[str, Any]) -> str:
    times = found["training"]
    first = times["im2col"]
    rows = [[TRAINING[name][0], _ms(each), _factor(first / each)] for name, each in times.items()]
    return table([f"a training step of LeNet-5, batch {BATCH}", "time", "times as fast as the first line"], rows)


def draw(folder: Path, images: Path) -> None:
    """The times of the convolution, on a scale where each line is a tenth of the next."""
    from matplotlib.figure import Figure

    from stridenet.viz.figures import BLUE, RULE

    times = json.loads((folder / "steps.json").read_text("utf-8"))["convolution"]
    figure = Figure((7, 3.4), dpi=110, layout="constrained")
    panel = figure.subplots()
    panel.plot(list(times.values()), [WAYS[name][0] for name in times], "o", color=BLUE)
    for row, milliseconds in enumerate(times.values()):
        panel.annotate(_ms(milliseconds), (milliseconds, row), (9, -4), textcoords="offset points")
    panel.set(xscale="log", xlim=(0.008, 3000), xlabel="milliseconds, logarithmic")
    panel.grid(axis="x", color=RULE)
    panel.set_axisbelow(True)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(images / "steps.png", metadata={"Software": None})
    print("drawn steps.png")


def _ms(milliseconds: float) -> str:
    """Three digits, in the unit that suits them."""
    return f"{milliseconds:.3g} ms" if milliseconds >= 0.1 else f"{1e3 * milliseconds:.3g} us"


def _factor(ratio: float) -> str:
    """Two digits, in groups of three."""
    return f"{ratio:.1f}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}".replace(",", " ")


def _times_as(ratio: float) -> str:
    return f"{_factor(ratio)} times"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="turns of the convolution")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each way of training, about")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "steps.json")
    options = parser.parse_args()
    with blas_threads():
        found = convolutions(options.rounds)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "batch_size": BATCH}
    settings["code"] = digest(PAGE.read_text("utf-8"))
    record.write(options.out, {"settings": settings, "convolution": found, "training": training(options.seconds)})
    for name, milliseconds in found.items():
        print(f"{name:<20} {milliseconds:10.4f} ms")


if __name__ == "__main__":
    main()
