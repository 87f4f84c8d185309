"""Random streams with a name: any point of a run can be entered again.

A Generator is made from (seed, purpose, key), never carried from step to step: the shuffle of epoch 7 is
`stream(seed, "shuffle", 7)`, whether the run came there or was resumed there. There is no global state.
"""

from __future__ import annotations

import numpy as np

from stridenet.shapes import integer

# Numbers, not names, enter the streams. They never change: a change would change every run.
_PURPOSES = {"init": 0, "shuffle": 1, "augment": 2, "dropout": 3, "split": 4}


def stream(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """The Generator of `purpose` ("init", "shuffle", "augment", "dropout", "split") at `key` (epoch, step ...).

    Raises:
        ConfigError: `seed` is not an integer >= 0.

    >>> int(stream(0, "shuffle", 3).integers(1000)) == int(stream(0, "shuffle", 3).integers(1000))
    True
    """
    seed = integer("stream", "seed", seed, minimum=0)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_PURPOSES[purpose], *key))))
