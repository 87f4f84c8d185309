"""docs/benchmarks.md and its charts, from the files of docs/results that NAMES has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import s0_page
from pages import machines, table

NAMES = ("speed", "whole_recipe", "scaling", "busy_core", "s0_tables")
OURS, FIRST, EAGER, SGEMM = "stridenet", "stridenet, first run", "eager", "SGEMM"
PYTORCH, ONNX = "PyTorch", "ONNX Runtime"
MODES = {"eager": "PyTorch eager", "channels_last": "PyTorch channels_last", "compile": "PyTorch compiled"}

AXES = {"batch": "images in a batch", "channels": "times the channels", "image": "pixels a side", "workers": "threads"}
TITLES = {"batch": "The batch", "channels": "The channels", "image": "The image", "workers": "The workers"}
# Why each curve bends where it does.
REASONS = {
    "batch": """\
Up to four images go through one by one, registers along the rows: each costs the same. From five to sixteen they share
one block, a register of sixteen lanes for each pixel, so that eight images cost what sixteen do. Behind that a second
block and a second worker come in, and from 64 on time grows with the number of blocks. PyTorch's curve is flat at
first, where it is the cost of its calls, and rises where its memory no longer fits into the caches.
""",
    "channels": """\
The work of the second convolution grows with the square of the width, that of the others with the width. With few
channels the cost of a step that is none of the operations' (waking a worker, adding up, the update) still counts. From
six times the width on, a block of images with its gradients, and the weights of the first dense layer, leave the
second-level cache.
""",
    "image": """\
Time grows with the area of the maps. In small images the margin weighs more: the gradient of the input reads zeros
beside each row of the map. Between 28 and 32 a block outgrows the second-level cache, and the first dense layer grows
with the area too: from 256 to 2 704 inputs.
""",
    "workers": """\
Eight slices of the batch are shared out. Two workers take a little more than half the time of one: what is left is the
update, the sum of the slices' gradients, and the wait for the slower of the two. On a machine that lends two threads of
one core, as virtual machines sometimes do, the second worker brings less.
""",
}

# What keeps a work from what was asked for, and what was tried; printed while it is short of it.
LIMITS = {
    "cifar": """\
Fifty images are three blocks of sixteen and two images, so that a fifth of the work is for nobody. The 3.3 MB of
weights of the first dense layer do not fit into the second-level cache and are read three times for every block, and
with one register of images each weight is spread over a register for a single product. Tried, without a gain: tiles of
4 to 20 outputs, four registers of weights to four images, either loop outermost. With a gain: turning the images in
registers (from 280 to 13 microseconds a block). Not tried: dense layers over two blocks at a time.
""",
}


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The files; FileNotFoundError if one has not been measured."""
    return {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in NAMES}


def render(folder: Path) -> str:
    """The whole page."""
    found = load(folder)
    parts = [_INTRODUCTION, _works(found["speed"]), _convolution(found["speed"]), _recipe(found["whole_recipe"])]
    parts += [_modes(found["speed"]), _scaling(found["scaling"]), _busy(found["busy_core"])]
    parts += [s0_page.section(found["s0_tables"]), _HOW, machines(found)]
    return "\n".join(parts)


_INTRODUCTION = """\
# Benchmarks

stridenet beside PyTorch and ONNX Runtime on one machine, in one run. Every figure was measured by a script of
`benchmarks/` and is stored in `docs/results/` with its date and machine. `python benchmarks/tables.py` makes this page
and its charts of those files; nothing is typed by hand.
"""

_HOW = """\
## How it is measured

```sh
pip install -e '.[bench]'
python benchmarks/speed.py && python benchmarks/whole_recipe.py && python benchmarks/scaling.py
python benchmarks/busy_core.py && python benchmarks/s0_tables.py && python benchmarks/tables.py
```

`--only NAME --rounds 3` gives a short look at one work. What the figures mean:

- Each side is a process of its own that stays warm. They work in short turns, A B C, C B A, and only one at a time. A
  time is the median over the rounds of the median of a turn; a ratio is the median of the ratios of the rounds.
- All sides have the same number of threads and compute in float32. For a single image, and for the convolution by
  itself, one thread is tried too, and the better is taken. PyTorch is its best mode of eager, channels_last and
  `torch.compile`, with its fused SGD.
- All sides begin with the same weights and the same images. Before anything is timed, the losses of three steps, or the
  first scores, are compared: they agree to 1e-4, or the script ends.
- A training step is forward, cross-entropy, backward and update, and the loss is read. Its batch lies ready in the
  memory order that the side likes best. Images for inference lie in C order for all sides, and each side takes them in
  its best batch size.
- Many steps on few images would train the network until its gradients are tiny numbers, which are slow. Timed steps
  have a learning rate of 1e-7, so that the work stays the same.
- SGEMM is NumPy's product of two float32 matrices of 1024 x 1024, on as many threads, taken in the same rounds. The
  operations of a work count each multiplication and each addition of its convolutions and matrix products.
"""


def _works(found: dict[str, Any]) -> str:
    rows = [_row(work) for work in found["works"].values() if "published_ms" not in work]
    head = ["work", "stridenet", "PyTorch, best mode", "ONNX Runtime", "times as fast", "asked for", "of SGEMM's rate"]
    return f"""\
## Works

Milliseconds, {found["settings"]["threads"]} threads. SGEMM runs at {found["sgemm_gflops"]:.0f} GFLOP/s here.

{table(head, rows)}
![times as fast as PyTorch and ONNX Runtime](images/speed.png)
{_short(found["works"])}"""


def _short(works: dict[str, dict[str, Any]]) -> str:
    """Why a work is slower than was asked for, where that is known to be the machine's or the method's doing."""
    parts = [
        f"\n**{works[name]['title']}.** {text}"
        for name, text in LIMITS.items()
        if name in works and _is_short(works[name])
    ]
    return "".join(["\n### Short of what was asked for\n", *parts]) if parts else ""


def _is_short(work: dict[str, Any]) -> bool:
    return any(work["ratio"][peer]["median"] < least for peer, least in work["required"].items())


def _row(work: dict[str, Any]) -> list[str]:
    sides, best = work["sides"], work["best"]
    milliseconds = {name: sides[name][variant]["median_ms"] for name, variant in best.items()}
    mode = min((name for name in MODES if name in best), key=lambda name: milliseconds[name])
    rate = work["gflop"] / milliseconds[OURS] * 1000 / work["sgemm_gflops"]
    return [
        work["title"],
        _ms(milliseconds[OURS]) + _way(best[OURS], work),
        f"{_ms(milliseconds[mode])}, {mode}" + _way(best[mode], work),
        _ms(milliseconds[ONNX]) + _way(best[ONNX], work) if ONNX in best else "",
        "<br>".join(f"**{r['median']:.2f} x** {peer}" for peer, r in work["ratio"].items()),
        "<br>".join(f"{times:g} x {peer}" for peer, times in work["required"].items()),
        f"{100 * rate:.0f} %",
    ]


def _way(variant: str, work: dict[str, Any]) -> str:
    """How it was done, where there was a choice."""
    return f" ({variant})" if len(work["sides"]["eager"]) > 1 else ""


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _convolution(found: dict[str, Any]) -> str:
    rows = []
    for work in found["works"].values():
        if "published_ms" in work:
            row, published = _row(work), work["published_ms"]
            ours = work["sides"][OURS][work["best"][OURS]]["median_ms"]
            rows.append([*row[:3], f"{published:g}", f"**{published / ours:.0f} x**"])
    head = ["work", "stridenet", "PyTorch, best mode", "published", "times as fast as published"]
    return f"""\
## The convolution of report S0

Milliseconds. The published times are the best of the report, on its own machine, so the ratio is for information.

{table(head, rows)}"""


def _recipe(found: dict[str, Any]) -> str:
    rows = []
    for lane, runs in sorted(found["runs"].items(), key=lambda item: item[1]["median_seconds"]):
        r = found["ratio"].get(lane)
        row = [MODES.get(lane, lane), f"{runs['median_seconds']:.1f}", f"{runs['median_peak_mb']:.0f}"]
        row += [f"{100 * runs['median_test_accuracy']:.2f} %", f"**{r['median']:.2f} x** {r['mode']}" if r else ""]
        rows.append([*row, f"{found['required'][lane]:g} x" if lane in found["required"] else ""])
    recipe, seeds = found["settings"]["recipe"], found["settings"]["rounds"]
    often = f"Medians of {seeds} seeds" if seeds > 1 else "One seed"
    head = ["", "seconds", "peak memory, MB", "test accuracy", "times as fast", "asked for"]
    return f"""\
## A whole recipe

`stridenet train {recipe["name"]}` and the same recipe in PyTorch, each as a process: imports, data,
{recipe["train"]["epochs"]} epochs with validation, test, files. stridenet also draws its pictures. In the first run the
cache folder is empty, so that it compiles its kernels and matplotlib lists its fonts. {often}.

{table(head, rows)}"""


def _modes(found: dict[str, Any]) -> str:
    lanes = list(dict.fromkeys(name for work in found["works"].values() for name in work["sides"]))
    rows, failed = [], []
    for work in found["works"].values():
        best = {name: work["sides"][name][variant] for name, variant in work["best"].items()}
        cells = [f"{_ms(best[n]['median_ms'])} ({_ms(best[n]['min_ms'])})" if n in best else "" for n in lanes]
        rows.append([work["title"], *cells])
        failed += [f"- {work['title']}: {MODES.get(name, name)}: {reason}" for name, reason in work["missing"].items()]
    lines = "\nWhat did not work here:\n\n" + "\n".join(failed) + "\n" if failed else ""
    return f"""\
## Every mode

Milliseconds: the median, and the least time of all calls.

{table(["work", *(MODES.get(name, name) for name in lanes)], rows)}{lines}"""


def _scaling(found: dict[str, Any]) -> str:
    settings = found["settings"]
    parts = [
        f"""\
## How the cost grows

The time of a LeNet-5 training step when one thing changes; the rest stays as it is: batch {settings["batch"]}, images
of 28x28, {settings["threads"]} threads (batch {settings["batch_of_workers"]} for the workers).
"""
    ]
    for axis, points in found["axes"].items():
        rows = [
            [
                at,
                _ms(p[OURS]["median_ms"]),
                _ms(p[EAGER]["median_ms"]),
                f"{p['gflop'] / p[OURS]['median_ms'] * 1000:.0f}",
            ]
            for at, p in points.items()
        ]
        head = [AXES[axis], "stridenet, ms", "PyTorch eager, ms", "stridenet, GFLOP/s"]
        reason = f"{REASONS[axis]}\n" if REASONS[axis] else ""
        image = f"![milliseconds of a step against {AXES[axis]}](images/scaling-{axis}.png)"
        parts.append(f"### {TITLES[axis]}\n\n{image}\n\n{reason}{table(head, rows)}")
    return "\n".join(parts)


def _busy(found: dict[str, Any]) -> str:
    quiet, busy = (sum(found[f"{name}_ms"]) / len(found[f"{name}_ms"]) for name in ("quiet", "busy"))
    return f"""\
## Beside a busy core

While another process keeps one core busy, a LeNet-5 training step (batch {found["settings"]["batch"]},
{found["settings"]["threads"]} threads) takes **{found["times"]:.2f} times** as long, {_ms(busy)} ms in place of
{_ms(quiet)}; at most {found["required"]:g} was asked for. A thread looks for its signal
for 200 microseconds at most; after it did so in vain, threads sleep at once for the next hundred steps.
"""


def draw(results: Path, images: Path) -> None:
    """The charts of the page."""
    found = load(results)
    _bars(found["speed"], found["whole_recipe"], images / "speed.png")
    for axis, points in found["scaling"]["axes"].items():
        _curve(axis, points, images / f"scaling-{axis}.png")


def _bars(speed: dict[str, Any], whole: dict[str, Any], path: Path) -> None:
    """How many times as fast, for every work and peer, with the range of the rounds."""
    from matplotlib.figure import Figure

    from stridenet.viz.figures import BLUE, INK, ORANGE

    bars = [
        (work["title"], peer, r)
        for work in speed["works"].values()
        if "published_ms" not in work
        for peer, r in work["ratio"].items()
    ]
    names = {OURS: "lenet5-mnist, whole process", FIRST: "lenet5-mnist, very first run"}
    bars += [(names[lane], PYTORCH, r) for lane, r in whole["ratio"].items()]
    figure = Figure((8, 0.42 * len(bars) + 1.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for i, (_, peer, r) in enumerate(bars):
        axes.barh(i, r["median"], color=BLUE if peer == PYTORCH else ORANGE, label=peer)
        axes.plot([r["min"], r["max"]], [i, i], color=INK, linewidth=1)
        axes.text(max(r["median"], r["max"]), i, f" {r['median']:.1f} x", va="center", color=INK)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_yticks(range(len(bars)), [title for title, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as the peer; the line is the range of the rounds")
    axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, loc="lower right")
    axes.margins(x=0.1)
    figure.savefig(path)
    print(f"drawn {path.name}")


def _curve(axis: str, points: dict[str, Any], path: Path) -> None:
    """The milliseconds of a step, and those that the operations would take at SGEMM's rate."""
    from matplotlib.figure import Figure

    from stridenet.viz.figures import BLUE, INK, ORANGE, QUIET

    at = [int(key) for key in points]
    figure = Figure((7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, title, color in ((EAGER, "PyTorch eager", ORANGE), (OURS, "stridenet", BLUE)):
        axes.plot(at, [p[name]["median_ms"] for p in points.values()], "o-", color=color, label=title, markersize=4)
    # 2 n^3 operations of the product of n = 1024
    limit = [p["gflop"] * p[SGEMM]["median_ms"] / (2e-9 * 1024**3) for p in points.values()]
    axes.plot(at, limit, "--", color=QUIET, label="the operations at SGEMM's rate")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(at, [str(n) for n in at])
    axes.minorticks_off()
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel("milliseconds of a step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=INK, alpha=0.12)
    axes.legend(frameon=False)
    figure.savefig(path)
    print(f"drawn {path.name}")
