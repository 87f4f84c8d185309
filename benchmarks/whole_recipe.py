"""The recipe lenet5-mnist as a process, from start to results: `stridenet train` beside the same recipe in PyTorch.

In turns, seed by seed: `stridenet train` with an empty cache folder, where it compiles its kernels; with them cached;
PyTorch in three modes (torch_recipe.py). A run of one epoch before, not counted, fills the caches of all. The seconds
are those of the whole process with its imports; the peak of its memory is what the system says.

    python benchmarks/whole_recipe.py                                           5 seeds, some minutes
    python benchmarks/whole_recipe.py --only stridenet eager --rounds 1         a short look
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import record
from runners import in_turns, ratio
from works import OURS, PEERS, THREADS

from stridenet.zoo import recipes

RECIPE = "lenet5-mnist"
FIRST = "stridenet, first run"
LANES = (FIRST, OURS, *PEERS)
REQUIRED = {OURS: 3, FIRST: 1}  # times as fast as PyTorch's best mode
MB = 10**6


class Processes:
    """Runs of the recipe in folders below `folder`, which also holds the caches."""

    def __init__(self, folder: Path, epochs: int | None) -> None:
        self.folder, self.epochs = folder, epochs
        self._runs = count()

    def run(self, lane: str, seed: int, epochs: int | None = None) -> dict[str, Any]:
        """Seconds, peak memory and test accuracy of one process; or why it failed."""
        number = next(self._runs)
        out = self.folder / f"run-{number}"
        cache = self.folder / (f"empty-{number}" if lane == FIRST else "cache")
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
        command = [*_command(lane), "--seed", str(seed), "--threads", str(THREADS), "--out", str(out)]
        if epochs or self.epochs:
            command += ["--epochs", str(epochs or self.epochs)]
        with (self.folder / "output").open("w+b") as output:
            begin = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                output.seek(0)
                return {"failed": (output.read().decode(errors="replace").strip().splitlines() or ["?"])[-1][:200]}
        accuracy = json.loads((out / "results.json").read_text("utf-8"))["test"]["accuracy"]
        return {"seconds": round(seconds, 2), "peak_mb": round(1024 * usage.ru_maxrss / MB), "test_accuracy": accuracy}


def _command(lane: str) -> list[str]:
    if lane in (FIRST, OURS):
        return [str(Path(sys.executable).with_name("stridenet")), "train", RECIPE]
    return [sys.executable, str(Path(__file__).with_name("torch_recipe.py")), "--mode", lane]


def measure(processes: Processes, lanes: list[str], rounds: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The runs of each lane, one for each seed, and the lanes that do not work here, with the reason."""
    warm = {lane: processes.run(lane, 0, epochs=1) for lane in lanes if lane != FIRST}
    missing = {lane: found["failed"] for lane, found in warm.items() if "failed" in found}
    if OURS in missing:
        raise SystemExit(f"{OURS}: {missing[OURS]}")
    seeds = {lane: count() for lane in lanes}

    def turn(lane: str) -> dict[str, Any]:
        found = processes.run(lane, next(seeds[lane]))
        if "failed" in found:
            raise SystemExit(f"{lane}: {found['failed']}")
        print(
            f"{PEERS.get(lane, lane):24} {found['seconds']:7.2f} s   {100 * found['test_accuracy']:.2f} %", flush=True
        )
        return found

    runs = in_turns({lane: partial(turn, lane) for lane in lanes if lane not in missing}, rounds)
    return {lane: _columns(found) for lane, found in runs.items()}, missing


def _columns(runs: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [run[name] for run in runs] for name in runs[0]}
    return {f"median_{name}": median(values) for name, values in columns.items()} | columns


def ratios(runs: dict[str, Any]) -> dict[str, Any]:
    """How many times as fast as PyTorch's best mode, seed by seed."""
    modes = [mode for mode in PEERS if mode in runs]
    if not modes:
        return {}
    best = min(modes, key=lambda mode: runs[mode]["median_seconds"])
    ours = [lane for lane in (OURS, FIRST) if lane in runs]
    return {lane: {"mode": PEERS[best]} | ratio(runs[best]["seconds"], runs[lane]["seconds"]) for lane in ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=LANES, nargs="+", default=list(LANES), metavar="NAME", help=", ".join(LANES))
    parser.add_argument("--rounds", type=int, default=5, help="seeds")
    parser.add_argument("--epochs", type=int, help="those of the recipe if left out")
    parser.add_argument(
        "--out", type=Path, help="docs/results/whole_recipe.json if it is the whole recipe on all sides"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, missing = measure(Processes(Path(folder), options.epochs), options.only, options.rounds)
    found = ratios(runs)
    for lane, r in found.items():
        print(f"{lane}: {r['median']:.2f} x {r['mode']} ({r['min']:.2f} to {r['max']:.2f})")
    whole = options.epochs is None and len(options.only) == len(LANES)
    out = options.out or (record.RESULTS / "whole_recipe.json" if whole else None)
    if out is not None:
        recipe = recipes.load(RECIPE)
        recipe["train"]["epochs"] = options.epochs or recipe["train"]["epochs"]
        settings = {"recipe": recipe, "rounds": options.rounds, "threads": THREADS}
        figures = {"versions": {"torch": version("torch")}, "settings": settings, "required": REQUIRED, "ratio": found}
        record.write(out, figures | {"runs": runs, "missing": missing})


if __name__ == "__main__":
    main()
