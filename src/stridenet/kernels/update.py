"""The step of SGD in one pass over the parameters, where NumPy takes one for every operation.

The operations and their order are those of `optim.optimizers`, and so are the bits: every product is rounded before it
is added.
"""

# pyright: basic

from __future__ import annotations

from typing import Any

import numpy as np

from stridenet.kernels.compiled import kernel
from stridenet.layout import Array

_NOTHING = np.empty(0, np.float32)


def sgd(
    value: Array, gradient: Array, velocity: Array | None, decay: Array | None, lr_scale: Array | None, *numbers: float
) -> None:
    """Move the float32 vector `value` (P,) once, and `velocity` with it; `numbers` are the rest of `_sgd`'s."""
    given = [_NOTHING if vector is None else vector for vector in (velocity, decay, lr_scale)]
    _sgd(value, gradient, *given, *numbers)


@kernel
def _sgd(
    value: Any,
    gradient: Any,
    velocity: Any,
    decay: Any,
    lr_scale: Any,
    lr: Any,
    momentum: Any,
    share: Any,
    rate: Any,
    l2: bool,
    nesterov: bool,
) -> None:
    """v = momentum v + share g, w -= lr v; an empty vector stands for none, `rate` is a factor of the decay."""
    lr, momentum, share, rate = np.float32(lr), np.float32(momentum), np.float32(share), np.float32(rate)
    for i in range(value.size):
        g = gradient[i]
        if decay.size:
            term = decay[i] * value[i] * rate
            if l2:
                g = term + g
            else:
                value[i] -= term
        if velocity.size:
            v = velocity[i] * momentum + g * share
            velocity[i] = v
            g = v * momentum + g if nesterov else v
        g = g * lr
        if lr_scale.size:
            g = g * lr_scale[i]
        value[i] -= g
