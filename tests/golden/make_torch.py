"""Makes tests/golden/torch.npz: what PyTorch answers, for machines without it.

`python tests/golden/make_torch.py`, with tests/ on PYTHONPATH and PyTorch there. The inputs are eighths, stored as
bytes; three arrays hold all cases, one behind the other, and `cases` says how they are cut.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from peer.operations import DRAW, output_shape, theirs

COUNTS = {"conv2d": 100, "max_pool2d": 60, "avg_pool2d": 60, "batch_norm": 60, "linear": 30}
OTHERS = 15


def main() -> None:
    import torch

    cases, inputs, outputs = [], [], []
    for i, op in enumerate(DRAW):
        seed = made = 0
        while made < COUNTS.get(op, OTHERS):
            seed += 1
            draw = np.random.default_rng((i, seed))
            options, shapes = DRAW[op](draw, 1)
            shapes.append(output_shape(op, options, shapes))
            if sum(map(math.prod, shapes)) > 250:
                continue
            made += 1
            eighths = [draw.integers(-16, 17, shape).astype(np.int8) for shape in shapes]
            if op == "max_pool2d" and seed % 2:
                eighths[0] = eighths[0] % 2  # mostly ties
            if op == "batch_norm":
                eighths[4] = eighths[4] % 8 + 1  # a variance
            *arrays, dy = (a / 8 for a in eighths)
            results = theirs(torch, op, options, arrays, dy)
            inputs += [a.ravel() for a in eighths]
            outputs += [a.ravel() for a in results]
            cases.append([op, options, shapes, [a.shape for a in results]])
    path = Path(__file__).with_name("torch.npz")
    text = np.frombuffer(json.dumps(cases).encode(), np.uint8)
    np.savez_compressed(path, cases=text, inputs=np.concatenate(inputs), outputs=np.concatenate(outputs))
    sys.stdout.write(f"{path}: {len(cases)} cases of PyTorch {torch.__version__}, {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
