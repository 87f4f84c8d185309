"""The study of speed S0, done again: its three convolutions and three poolings, what it published, and stridenet.

    python -m lab.s0

Every technique of the report is written anew in `lab`, on arrays in C order, and runs here, beside the times that the
report printed for its own machine; two more convolutions run with them. stridenet has its arrays batch innermost.
float32, one thread, medians.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lab import convolution, pooling
from stridenet import layout
from stridenet.benchmark import PUBLISHED, TECHNIQUES, medians
from stridenet.kernels import use
from stridenet.layout import Array
from stridenet.nn import functional
from stridenet.train.trainer import blas_threads

Calls = dict[str, Callable[[], Any]]


def convolutions() -> tuple[Calls, Calls]:
    """Forward and backward of 6 filters 5x5 on 16 images 28x28, by technique."""
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((16, 1, 28, 28), (6, 1, 5, 5), (6,)))
    forward: Calls = {
        "loops": partial(convolution.forward_loops, x, weight, bias),
        "im2col": partial(convolution.forward_im2col, x, weight, bias),
        "strided": partial(convolution.forward_strided, x, weight, bias),
        "offsets": partial(convolution.forward_offsets, x, weight, bias),
        "fft": partial(convolution.forward_fft, x, weight, bias),
    }
    ways: dict[str, Callable[..., Any]] = {
        "loops": convolution.backward_loops,
        "im2col": convolution.backward_im2col,
        "strided": convolution.backward_strided,
        "offsets": convolution.backward_offsets,
        "fft": convolution.backward_fft,
    }
    ours = partial(functional.conv2d, layout.to_batch_inner(x), weight, bias)
    return _with_ours(forward, ways, ours, functional.conv2d_backward)


def poolings() -> tuple[Calls, Calls]:
    """Forward and backward of the maximum of windows 2x2 on 64 images 28x28, by technique."""
    x = np.random.default_rng(0).standard_normal((64, 1, 28, 28), np.float32)
    forward: Calls = {
        "loops": partial(pooling.forward_loops, x, 2),
        "im2col": partial(pooling.forward_im2col, x, 2),
        "reshape": partial(pooling.forward_reshape, x, 2),
    }
    ways: dict[str, Callable[..., Any]] = {
        "loops": pooling.backward_loops,
        "im2col": pooling.backward_im2col,
        "reshape": pooling.backward_reshape,
    }
    ours = partial(functional.max_pool2d, layout.to_batch_inner(x), 2)
    return _with_ours(forward, ways, ours, functional.max_pool2d_backward)


def _with_ours(
    forward: Calls, ways: dict[str, Callable[..., Any]], ours: Callable[[], Any], ours_back: Callable[..., Any]
) -> tuple[Calls, Calls]:
    """The forwards with stridenet's, and all backwards with a gradient in their own memory order."""
    forward = forward | {f"stridenet {name}": partial(_within, name, ours) for name in TECHNIQUES}
    backward: Calls = {}
    for name, call in forward.items():
        y, saved = call()
        dy: Array = np.random.default_rng(1).standard_normal(y.shape, np.float32)
        if name in ways:
            backward[name] = partial(ways[name], dy, saved)
        else:
            backward[name] = partial(ours_back, layout.to_batch_inner(dy), saved)
    return forward, backward


def _within(name: str, call: Callable[[], Any]) -> Any:
    with use(name):
        return call()


def rows(*, seconds: float = 0.2) -> list[tuple[str, str, float, float | None]]:
    """(work, technique, milliseconds here, milliseconds published or None)."""
    found: list[tuple[str, str, float, float | None]] = []
    with blas_threads():
        for work, both in (("conv", convolutions()), ("max pool", poolings())):
            for direction, calls in zip(("forward", "backward"), both, strict=True):
                published = PUBLISHED[f"{work} {direction}"]
                for name, each in medians(calls, seconds=seconds).items():
                    found.append((f"{work} {direction}", name, 1e3 * each, published.get(name)))
    return found


def main() -> None:
    """Print the table."""
    print("milliseconds: conv 6@5x5 on 16x1x28x28; max pool 2x2 on 64x1x28x28\n")
    print(f"{'':<20}{'technique':<22}{'here':>10}{'published, on another machine':>32}")
    before = ""
    for work, name, here, published in rows():
        theirs = "" if published is None else f"{published:g}"
        print(f"{work if work != before else '':<20}{name:<22}{here:>10.3f}{theirs:>32}")
        before = work


if __name__ == "__main__":
    main()
