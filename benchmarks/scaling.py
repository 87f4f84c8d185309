"""How the time of a LeNet-5 training step grows with the batch, the channels, the image and the workers.

stridenet and PyTorch eager in turns, as in speed.py; one of batch, channels, image size and workers changes, the others
are those of LeNet-5 at batch 64 on two threads (512 for the workers).

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only batch --rounds 3 --out scaling.json      a short look
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import record
from runners import Runner, in_turns
from speed import summary
from works import OURS, SGEMM, THREADS, Work, serve, wide_lenet

PEER = "eager"
BATCH, WORKERS_BATCH = 64, 512


def _points() -> dict[str, dict[int, tuple[Work, int]]]:
    """Of each axis the work and the threads at every point."""

    def step(batch: int = BATCH, **form: int) -> Work:
        return Work("training", partial(wide_lenet, **form), batch)

    return {
        "batch": {n: (step(n), THREADS) for n in (2**i for i in range(13))},
        "channels": {w: (step(width=w), THREADS) for w in (1, 2, 3, 4, 6, 8)},
        "image": {s: (step(size=s), THREADS) for s in (16, 20, 24, 28, 32, 40, 48, 56, 64)},
        "workers": {n: (step(WORKERS_BATCH), n) for n in range(1, (os.cpu_count() or 1) + 1)},
    }


POINTS = _points()


def measure(work: Work, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The milliseconds of a step on both sides, each in its best variant, and the rate of SGEMM."""
    names = (OURS, PEER, SGEMM)
    runners = {name: Runner(serve, name, work, threads) for name in names}
    lanes = [(name, variant) for name in names for variant in runners[name].ask("variants")]
    turns = {lane: partial(runners[lane[0]].ask, "burst", lane[1], seconds) for lane in lanes}
    found = in_turns(turns, rounds)
    for runner in runners.values():
        runner.close()
    best = {
        name: min((summary(times) for lane, times in found.items() if lane[0] == name), key=lambda s: s["median_ms"])
        for name in names
    }
    return {"gflop": round(work.gflop(), 6), "threads": threads} | {name: best[name] for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=POINTS, nargs="+", default=list(POINTS), metavar="AXIS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of a turn")
    parser.add_argument("--out", type=Path, help="docs/results/scaling.json if all axes are measured")
    options = parser.parse_args()
    axes: dict[str, dict[int, Any]] = {}
    for axis in options.only:
        axes[axis] = {}
        for at, (work, threads) in POINTS[axis].items():
            point = axes[axis][at] = measure(work, threads, options.rounds, options.seconds)
            print(
                f"{axis} {at:5}   " + "   ".join(f"{name} {point[name]['median_ms']:.4g} ms" for name in (OURS, PEER))
            )
    out = options.out or (record.RESULTS / "scaling.json" if len(axes) == len(POINTS) else None)
    if out is not None:
        settings = {"rounds": options.rounds, "seconds_of_a_turn": options.seconds, "threads": THREADS}
        settings |= {"batch": BATCH, "batch_of_workers": WORKERS_BATCH}
        record.write(out, {"versions": {"torch": version("torch")}, "settings": settings, "axes": axes})


if __name__ == "__main__":
    main()
