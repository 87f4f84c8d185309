"""stridenet beside PyTorch in three modes and ONNX Runtime: training steps, inference, one image, a convolution.

All sides begin with the same weights and images, and do the same work: their first losses or scores are compared.
Each is a process of its own; they take short turns, round by round, so that all see the same machine. The rate of
NumPy's matrix product is taken in the same rounds.

    python benchmarks/speed.py                                   all, some minutes
    python benchmarks/speed.py --only lenet5-64 --rounds 3       a short look; written only if --out says where
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from runners import Runner, RunnerError, in_turns, ratio
from works import ONNX, OURS, PEERS, SGEMM, SGEMM_SIZE, THREADS, Work, convolution, serve

from stridenet.nn.losses import map_criterion
from stridenet.zoo import models

AGREE = 1e-4  # the sides' losses and scores, relative to the largest
PYTORCH = "PyTorch"

# What is timed: its title, the work, and how many times as fast as a peer stridenet must be.
WORKS: dict[str, tuple[str, Work, dict[str, float]]] = {
    "lenet5-64": ("LeNet-5 training step, batch 64", Work("training", models.lenet5, 64), {PYTORCH: 5}),
    "lenet5-512": ("LeNet-5 training step, batch 512", Work("training", models.lenet5, 512), {PYTORCH: 3}),
    "lenet5-batchnorm": (
        "LeNet-5 with batch norm (S3) training step, batch 64",
        Work("training", models.lenet5_batchnorm, 64),
        {PYTORCH: 4},
    ),
    "cifar": (
        "CIFAR-10 three-layer net training step, batch 50",
        Work("training", models.cifar_convnet, 50),
        {PYTORCH: 2},
    ),
    "resnet20": (
        "ResNet-20 for CIFAR-10 training step, batch 64",
        Work("training", models.resnet20, 64),
        {PYTORCH: 1},
    ),
    "inference": (
        "LeNet-5 inference, 10 000 images",
        Work("inference", models.lenet5, 10_000),
        {PYTORCH: 6, ONNX: 2},
    ),
    "one-image": (
        "LeNet-5 inference, one image, NumPy in to NumPy out",
        Work("one image", models.lenet5, 1),
        {PYTORCH: 7, ONNX: 1},
    ),
    "online": (
        "LeNet-5 online learning: batch 1, plain SGD",
        Work("training", models.lenet5, 1, momentum=0.0),
        {PYTORCH: 10},
    ),
    "online-1998": (
        "LeNet-5 of 1998, online learning: batch 1, plain SGD",
        Work("training", models.lenet5_1998, 1, momentum=0.0, loss=map_criterion),
        {PYTORCH: 10},
    ),
    "conv-forward": ("Conv 6@5x5 on 16x1x28x28, forward", Work("convolution", convolution, 16), {}),
    "conv-backward": ("Conv 6@5x5 on 16x1x28x28, backward", Work("its gradients", convolution, 16), {}),
}
PUBLISHED_MS = {"conv-forward": 3.63, "conv-backward": 19.6}  # report S0's best


def start(work: Work) -> tuple[dict[str, Runner], dict[str, str]]:
    """A runner for each side, and the sides that do not work here, with the reason."""
    names = [SGEMM, OURS, *PEERS, *([ONNX] if work.task in ("inference", "one image") else [])]
    runners, missing = {}, {}
    for name in names:
        try:
            runners[name] = Runner(serve, name, work)
            for variant in runners[name].ask("variants"):
                runners[name].ask("burst", variant, 0.0)  # compiles, and fails now if it must
        except RunnerError as error:
            missing[name] = str(error)
            if name in runners:
                runners.pop(name).close()
    if OURS in missing:
        raise SystemExit(f"{OURS}: {missing[OURS]}")
    return runners, missing


def check(runners: dict[str, Runner]) -> dict[str, list[float]]:
    """The first losses or scores of each side, which must agree."""
    found = {name: runner.ask("check") for name, runner in runners.items() if name != SGEMM}
    wanted = np.array(found[OURS])
    for name, numbers in found.items():
        if not np.abs(np.array(numbers) - wanted).max() <= AGREE * np.abs(wanted).max():
            raise SystemExit(f"{name} does other work than {OURS}: {numbers[:4]}, not {found[OURS][:4]}")
    return {name: [float(f"{x:.7g}") for x in numbers[:4]] for name, numbers in found.items()}


def measure(title: str, work: Work, required: dict[str, float], rounds: int, seconds: float) -> dict[str, Any]:
    """All that is known of one work after `rounds` rounds."""
    runners, missing = start(work)
    agreed = check(runners)
    lanes = [(name, variant) for name, runner in runners.items() for variant in runner.ask("variants")]
    turns = {(name, variant): partial(runners[name].ask, "burst", variant, seconds) for name, variant in lanes}
    times = in_turns(turns, rounds)
    for runner in runners.values():
        runner.close()
    sides: dict[str, dict[str, Any]] = {}
    for (name, variant), found in times.items():
        sides.setdefault(name, {})[variant] = summary(found)
    sgemm = sides.pop(SGEMM)["1024^3"]
    figures = {
        "title": title,
        "task": work.task,
        "images": work.images,
        "gflop": round(work.gflop(), 6),
        "sgemm_gflops": round(2e-6 * SGEMM_SIZE**3 / sgemm["median_ms"], 1),
        "required": required,
        "ratio": ratios(sides),
        "best": {name: min(variants, key=lambda v: variants[v]["median_ms"]) for name, variants in sides.items()},
        "sides": sides,
        "missing": missing,
        "agreed": agreed,
    }
    _tell(figures)
    return figures


def summary(found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The median of the rounds' medians, the least time of all, and the medians of the rounds, in milliseconds."""
    medians = [ms for ms, _ in found]
    return {
        "median_ms": _short(median(medians)),
        "min_ms": _short(min(least for _, least in found)),
        "rounds_ms": [_short(ms) for ms in medians],
    }


def ratios(sides: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How many times as fast as each peer, PyTorch's best mode being one of them; round by round."""
    best = {name: min(variants.values(), key=lambda v: v["median_ms"]) for name, variants in sides.items()}
    modes = [name for name in PEERS if name in best]
    found = {}
    for peer, names in ((PYTORCH, modes), (ONNX, [name for name in (ONNX,) if name in best])):
        if names:
            name = min(names, key=lambda n: best[n]["median_ms"])
            found[peer] = {"mode": PEERS.get(name, name)} | ratio(best[name]["rounds_ms"], best[OURS]["rounds_ms"])
    return found


def _short(ms: float) -> float:
    """Five digits."""
    return float(f"{ms:.5g}")


def _tell(figures: dict[str, Any]) -> None:
    print(f"{figures['title']}   (SGEMM {figures['sgemm_gflops']:.0f} GFLOP/s)")
    for name, variant in figures["best"].items():
        print(f"    {PEERS.get(name, name):24} {figures['sides'][name][variant]['median_ms']:10.4f} ms   {variant}")
    for name, reason in figures["missing"].items():
        print(f"    {PEERS.get(name, name):24} {reason}")
    for peer, found in figures["ratio"].items():
        asked = f", asked for {figures['required'][peer]}" if peer in figures["required"] else ""
        print(f"    {found['median']:.2f} x {peer} ({found['min']:.2f} to {found['max']:.2f}){asked}")


def versions() -> dict[str, str]:
    """Of the peers."""
    return {package: version(package) for package in ("torch", "onnxruntime", "onnx")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=WORKS, nargs="+", default=list(WORKS), metavar="NAME", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--out", type=Path, help="docs/results/speed.json if all works are timed")
    options = parser.parse_args()
    works = {}
    for name in options.only:
        works[name] = measure(*WORKS[name], options.rounds, options.seconds)
        if name in PUBLISHED_MS:
            works[name]["published_ms"] = PUBLISHED_MS[name]
    settings = {"rounds": options.rounds, "seconds_of_a_turn": options.seconds, "threads": THREADS}
    out = options.out or (record.RESULTS / "speed.json" if len(works) == len(WORKS) else None)
    if out is not None:
        sgemm = median(work["sgemm_gflops"] for work in works.values())
        figures = {"versions": versions(), "settings": settings, "sgemm_gflops": round(sgemm, 1), "works": works}
        record.write(out, figures)


if __name__ == "__main__":
    main()
