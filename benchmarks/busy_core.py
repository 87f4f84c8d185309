"""How much longer a LeNet-5 training step takes while another process keeps one core busy.

Quiet and busy seconds take turns in one process with two threads. A figure is the mean over its seconds, waits and all.

    python benchmarks/busy_core.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import record
from works import THREADS, Ours, Work

from stridenet.zoo.models import lenet5

REQUIRED = 2.2  # times as long, at most


def _spin() -> None:
    while True:
        pass


def mean_ms(call: Callable[[], object], seconds: float) -> float:
    """Milliseconds of a call, over so many seconds."""
    count, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < seconds:
        call()
        count += 1
    return 1000 * taken / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "busy_core.json")
    options = parser.parse_args()
    step = Ours(Work("training", lenet5, 64), THREADS).begin(f"{THREADS} threads")
    found: dict[str, list[float]] = {"quiet": [], "busy": []}
    for _ in range(options.rounds):
        found["quiet"].append(mean_ms(step, options.seconds))
        other = get_context("spawn").Process(target=_spin, daemon=True)
        other.start()
        time.sleep(1)  # until it spins
        found["busy"].append(mean_ms(step, options.seconds))
        other.terminate()
        other.join()
        print("   ".join(f"{name} {times[-1]:.3f} ms" for name, times in found.items()))
    times = median(b / q for q, b in zip(found["quiet"], found["busy"], strict=True))
    print(f"{times:.2f} times as long beside a busy core")
    settings = {"threads": THREADS, "batch": 64, "seconds_of_a_turn": options.seconds}
    figures = {f"{name}_ms": [round(t, 4) for t in ts] for name, ts in found.items()}
    record.write(options.out, {"settings": settings, "required": REQUIRED, "times": round(times, 3)} | figures)


if __name__ == "__main__":
    main()
