"""What the one-file predictor costs: a whole process for one digit beside NumPy's import, and 10 000 digits.

Whole processes, in turns, each of which compiles the file anew, as a script does. The digits are random pixels and the
weights are those of the start: neither changes the time.

    python benchmarks/predictor.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import record
from PIL import Image
from startup import milliseconds

import stridenet
from stridenet.interop.predictor import export_predictor

MANY = """
import time, numpy, digits
images = numpy.load("images.npy")
digits.predict(images[:1000])
begin = time.perf_counter()
digits.predict(images)
print(time.perf_counter() - begin)
"""


def write_files(folder: Path) -> None:
    """digits.py with the predictor of lenet5-mnist, one picture, and 10 000 images."""
    rng = np.random.default_rng(0)
    transform = stridenet.Pipeline([stridenet.Normalize([0.1307], [0.3081])])
    network = stridenet.lenet5(rng=rng)
    framing = stridenet.Framing(0.0, 20 / 28)
    model = stridenet.Model(network, tuple("0123456789"), (1, 28, 28), transform=transform, framing=framing)
    export_predictor(model, folder / "digits.py")
    images = rng.integers(0, 256, (10_000, 28, 28), np.uint8)
    np.save(folder / "images.npy", images)
    picture = np.zeros((280, 280), np.uint8)
    picture[60:220, 120:160] = 255
    Image.fromarray(picture).save(folder / "digit.png")


def measure(folder: Path, runs: int) -> dict[str, list[float]]:
    """The milliseconds of each command, `runs` times in turns, after one run of each that is not counted."""
    commands = {
        "import numpy": [sys.executable, "-c", "import numpy"],
        "python digits.py digit.png": [sys.executable, str(folder / "digits.py"), str(folder / "digit.png")],
    }
    environment = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "OPENBLAS_NUM_THREADS": "1"}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        milliseconds(command, environment)
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(milliseconds(command, environment))
            time.sleep(0.05)
    return times


def seconds_for_many(folder: Path) -> float:
    """The seconds of 10 000 digits in one call, with one thread of the BLAS."""
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=folder,
        env={"OPENBLAS_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return round(float(done.stdout), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "predictor.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        times, size = measure(folder, options.runs), (folder / "digits.py").stat().st_size
        seconds = sorted(seconds_for_many(folder) for _ in range(5))
    numpy, ours = times.values()
    ratios = [one / other for one, other in zip(ours, numpy, strict=True)]
    figures = {
        "settings": {"runs": options.runs, "network": "lenet5, 28x28", "images": 10_000, "blas_threads": 1},
        "file_bytes": size,
        "process_ratio": {"median": median(ratios), "min": min(ratios), "max": max(ratios)},
        "seconds_for_10_000": {"median": median(seconds), "min": seconds[0], "max": seconds[-1]},
        "median_ms": {name: round(median(values), 2) for name, values in times.items()},
        "ms": times,
    }
    print(f"a process for one digit takes {median(ratios):.2f} x python -c 'import numpy'")
    print(f"10 000 digits take {median(seconds):.2f} s")
    record.write(options.out, figures)


if __name__ == "__main__":
    main()
