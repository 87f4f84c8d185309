"""How much memory an evaluation takes, measured in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

import pytest

CODE = """
import sys
from pathlib import Path
import numpy as np
from stridenet.data.dataset import Dataset
from stridenet.data.loader import Loader
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.kernels.program import warm_up
from stridenet.model import Model
from stridenet.train.evaluation import evaluate
from stridenet.zoo.models import lenet5

def peak():
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent of this process held
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024  # MiB

n = int(sys.argv[1])
rng = np.random.default_rng(0)
images = np.empty((n, 1, 28, 28), np.uint8)
for i in range(0, n, 1000):
    images[i : i + 1000] = rng.integers(0, 256, (min(1000, n - i), 1, 28, 28), np.uint8)
dataset = Dataset(images, rng.integers(0, 10, n), tuple("0123456789"))
network, transform = lenet5(rng=rng), Pipeline([Normalize([0.13], [0.31])])
warm_up()  # the compiler is one of the imports
before = peak()
if sys.argv[2] == "evaluate":
    assert evaluate(network, Loader(dataset, 256, transform=transform)).n == n
else:
    assert len(Model(network, dataset.classes, (1, 28, 28), transform=transform).predict(images)) == n
print(round(peak() - before, 1), round(peak(), 1))
"""


def measured(child: Any, n: int, what: str) -> tuple[float, float]:
    done = child(CODE, n, what)
    assert done.returncode == 0, done.stderr
    added, total = map(float, done.stdout.split())
    print(f"{what} of {n} images: {added} MiB more, {total} MiB in all")  # noqa: T201  (shown with -s)
    return added, total


@pytest.mark.big
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.promise("M1", "B19")
@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_sixty_thousand_images_take_at_most_64_mib_more(what: str, child: Any) -> None:
    added, total = measured(child, 60_000, what)
    assert added <= 64
    assert total < 300


@pytest.mark.big
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.promise("M1")
def test_ten_times_the_images_take_no_more(child: Any) -> None:
    assert measured(child, 600_000, "evaluate")[0] <= measured(child, 60_000, "evaluate")[0] + 10
