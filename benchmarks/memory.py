"""The memory that evaluating MNIST's 60 000 training images takes, at batch 256 and untrained LeNet-5. Linux only.

A fresh process maps in everything it needs, notes its memory, evaluates, and reads the highest its memory ever was.
The images come from a plain file, so that no unpacking is the highest point. VmHWM is the peak of ru_maxrss, without
the memory of the parent process that ru_maxrss inherits.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import record

from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.kernels.program import warm_up
from stridenet.train.evaluation import evaluate
from stridenet.zoo.models import lenet5

MB = 10**6


def memory(field: str) -> int:
    """VmRSS, the memory of this process now, or VmHWM, the highest it was, in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def child(folder: Path, batch_size: int) -> None:
    """Evaluate the images of `folder`; print the figures as JSON."""
    images, targets = np.load(folder / "images.npy"), np.load(folder / "targets.npy")
    dataset = Dataset(images, targets, tuple("0123456789"))
    network = lenet5(rng=np.random.default_rng(0))
    loader = Loader(dataset, batch_size, transform=Pipeline([Normalize([0.1307], [0.3081])]))
    warm_up()  # the compiler is one of the imports
    before, peak_before = memory("VmRSS"), memory("VmHWM")
    metrics = evaluate(network, loader)
    after = memory("VmHWM")
    print(json.dumps({"images": metrics.n, "before": before, "peak_before": peak_before, "peak": after}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "memory.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.batch_size)
        return
    train = open_data("mnist").train
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", train.images[: options.images])
        np.save(Path(folder) / "targets.npy", train.targets[: options.images])
        command = [sys.executable, __file__, "--child", folder, "--batch-size", str(options.batch_size)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = json.loads(answer)
    figures = {
        "settings": {"images": found["images"], "batch_size": options.batch_size},
        "added_mb": round((found["peak"] - found["before"]) / MB, 1),  # over what was there, not over its peak
        "before_mb": round(found["before"] / MB, 1),
        "peak_before_mb": round(found["peak_before"] / MB, 1),
        "peak_mb": round(found["peak"] / MB, 1),
    }
    print(f"evaluating {found['images']} images adds {figures['added_mb']} MB, {figures['peak_mb']} MB in all")
    record.write(options.out, figures)


if __name__ == "__main__":
    main()
