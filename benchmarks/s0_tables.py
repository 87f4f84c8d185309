"""The two tables of times of report S0, measured again, and how often the windows of a pooling are tied on MNIST.

Its techniques are those of `lab`, on arrays in C order; stridenet stands beside them. One thread, float32, medians.

    python benchmarks/s0_tables.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import record

from stridenet.data.catalogue import open_data
from stridenet.nn import functional as F
from stridenet.zoo.models import lenet5

IMAGES = 10_000  # of MNIST's training images, of which ties are counted


def times(seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds here, and published ones where there are any, by work and technique."""
    from lab import s0

    found: dict[str, dict[str, dict[str, float]]] = {}
    for work, technique, here, published in s0.rows(seconds=seconds):
        figures = {"here": round(here, 4)} | ({} if published is None else {"published": published})
        found.setdefault(work, {})[technique] = figures
        print(f"{work:<18} {technique:<20} {here:10.3f} ms")
    return found


def tied() -> dict[str, dict[str, Any]]:
    """The tie reports of 2x2 windows: of the images, and behind the first convolution of an untrained LeNet-5."""
    from lab import ties

    images = open_data("mnist").train.images[:IMAGES]
    layer = lenet5(rng=np.random.default_rng(0)).layers[0]
    maps = np.concatenate([layer.forward(part / np.float32(255)) for part in np.split(images, 10)])
    works = {"images": images, "first convolution": maps, "first convolution and ReLU": F.relu(maps)[0]}
    found: dict[str, dict[str, Any]] = {}
    for name, x in works.items():
        report = ties.report(x, 2)
        found[name] = report._asdict() | {"rate": round(report.rate, 4), "excess": round(report.excess, 3)}
        print(f"{name}: {100 * report.rate:.1f} % of {report.windows} windows are tied")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each technique, about")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "s0_tables.json")
    options = parser.parse_args()
    sys.path.append(str(record.RESULTS.parents[1]))  # lab
    settings = {"seconds": options.seconds, "threads": 1, "images": IMAGES}
    record.write(options.out, {"settings": settings, "milliseconds": times(options.seconds), "ties": tied()})


if __name__ == "__main__":
    main()
