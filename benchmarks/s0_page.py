"""The section of docs/benchmarks.md on the techniques of report S0, from s0_tables.json."""

from __future__ import annotations

from typing import Any

from pages import table

from stridenet.shapes import grouped

NAMES = {
    "loops": "loops",
    "im2col": "im2col",
    "strided": "strided view",
    "reshape": "reshape and mask",
    "offsets": "kernel offsets",
    "fft": "Fourier transform",
    "stridenet im2col": "stridenet, im2col",
    "stridenet batchlast": "stridenet, batchlast",
}
WORKS = {
    "conv": "Convolution of six 5x5 kernels on 16 images 1x28x28",
    "max pool": "Max pooling 2x2 on 64 images 28x28",
}


def section(found: dict[str, Any]) -> str:
    """Both tables, and that of the ties."""
    images = grouped(found["settings"]["images"])
    tables = [f"{title}, milliseconds:\n\n{_times(found['milliseconds'], work)}" for work, title in WORKS.items()]
    return f"""\
## The techniques of report S0

The report's three convolutions and three poolings, written anew in `lab/`, on this machine and as the report printed
them for its own; kernel offsets and the Fourier transform are two ways more. Arrays are in C order, those of stridenet
batch innermost. One thread, float32, medians.

{tables[0]}
{tables[1]}
### Ties

The mask of equal elements gives the gradient to every maximum of a window. How often a 2x2 window has its maximum
twice or more, on the first {images} training images of MNIST and behind the first convolution of an
untrained LeNet-5; and how much gradient the mask then sends for each unit that arrives.

{_ties(found["ties"])}"""


def _times(found: dict[str, Any], work: str) -> str:
    both = found[f"{work} forward"], found[f"{work} backward"]
    rows = []
    for technique in both[0]:
        forward, backward = (each[technique] for each in both)
        cells = [_ms(way.get(key)) for way in (forward, backward) for key in ("published", "here")]
        rows.append([NAMES[technique], *cells])
    return table(["", "forward, published", "forward, here", "backward, published", "backward, here"], rows)


def _ties(found: dict[str, Any]) -> str:
    rows = []
    for name, report in found.items():
        constant = report["constant"] / report["windows"]
        rows.append([name, f"**{100 * report['rate']:.1f} %**", f"{100 * constant:.1f} %", f"{report['excess']:.2f}"])
    return table(["windows of", "tied", "all four alike", "gradient sent for each unit"], rows)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
