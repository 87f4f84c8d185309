"""How long stridenet takes to start: `import stridenet` beside NumPy, `stridenet --help` beside click.

Whole processes, in turns. Compiled bytecode is kept in a folder of its own, as in an installed package, whatever
PYTHONDONTWRITEBYTECODE says.

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import record

COMMANDS = {
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import numpy, stridenet": [sys.executable, "-c", "import numpy, stridenet"],
    "import click": [sys.executable, "-c", "import click"],
    "stridenet --help": [str(Path(sys.executable).with_name("stridenet")), "--help"],
}


def milliseconds(command: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return round(1000 * (time.perf_counter() - begin), 2)


def measure(runs: int) -> dict[str, list[float]]:
    """The milliseconds of each command, `runs` times in turns, after one run of each that is not counted."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for command in COMMANDS.values():
            milliseconds(command, environment)
        for _ in range(runs):
            for name, command in COMMANDS.items():
                times[name].append(milliseconds(command, environment))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "startup.json")
    options = parser.parse_args()
    times = measure(options.runs)
    medians = {name: round(median(values), 2) for name, values in times.items()}
    added = [
        ours - theirs for ours, theirs in zip(times["import numpy, stridenet"], times["import numpy"], strict=True)
    ]
    ratios = [ours / theirs for ours, theirs in zip(times["stridenet --help"], times["import click"], strict=True)]
    figures = {
        "settings": {"runs": options.runs, "commands": {n: ["python", *c[1:]] for n, c in COMMANDS.items()}},
        "import_added_ms": {"median": round(median(added), 2), "min": min(added), "max": max(added)},
        "help_ratio": {"median": median(ratios), "min": min(ratios), "max": max(ratios)},
        "median_ms": medians,
        "ms": times,
    }
    figures["settings"]["commands"]["stridenet --help"] = ["stridenet", "--help"]
    print(f"import stridenet adds {figures['import_added_ms']['median']:.1f} ms to NumPy's import")
    print(f"stridenet --help takes {figures['help_ratio']['median']:.2f} x python -c 'import click'")
    record.write(options.out, figures)


if __name__ == "__main__":
    main()
