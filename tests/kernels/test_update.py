"""The compiled step of SGD beside the one in NumPy: the same bits, however it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# Every form of SGD, on vectors of several registers and a tail, with zeros of both signs and the smallest numbers.
COMPARE = """
import itertools
import numpy as np
from stridenet import kernels
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.optimizers import SGD
from stridenet.optim.schedules import cosine, one_cycle_momentum

def run(backend, dtype, lr_scale, options):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((2, 75)).astype(dtype)
    weight[:4] = 0.0, -0.0, 1e-45, -1e-39
    params = ParameterVector({"w": Parameter(weight, lr_scale=lr_scale), "b": Parameter(bias, decay=False)})
    optimizer = SGD(params, cosine(0.1, total=7), **options)
    for step in range(5):
        params.grad[:] = rng.standard_normal(150)
        params.grad[step : step + 3] = 0.0, -0.0, 1e-44
        before = params.grad.tobytes()
        with kernels.use(backend):
            optimizer.step()
        assert params.grad.tobytes() == before
    return [params.value, *optimizer.state_dict().values()]

momenta = [{}, {"momentum": 0.9}, {"momentum": one_cycle_momentum(total=7)}]
momenta += [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "averaging": True}]
decays = [{}, *({"weight_decay": 0.03, "decay_mode": mode} for mode in ("l2", "decoupled", "constant"))]
for dtype, lr_scale, momentum, decay in itertools.product(("f4", "f8"), (1.0, 0.3), momenta, decays):
    found, wanted = (run(backend, dtype, lr_scale, momentum | decay) for backend in ("batchlast", "im2col"))
    assert [a.tobytes() for a in found] == [a.tobytes() for a in wanted], (dtype, lr_scale, momentum, decay)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NUMBA_BOUNDSCHECK": "1"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+sse4.2"},
        {"NUMBA_DISABLE_JIT": "1"},
    ],
    ids=["compiled", "checked places", "narrow registers", "not compiled"],
)
def test_every_form_of_sgd_has_the_bits_of_numpy(environment: dict[str, str], child: Any, tmp_path: Path) -> None:
    done = child(COMPARE, XDG_CACHE_HOME=str(tmp_path), **environment)
    assert done.returncode == 0, done.stderr


COMPILED = """
import numpy as np
from stridenet import kernels
from stridenet.kernels import update
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.optimizers import SGD

def signatures(dtype):
    with kernels.use("batchlast"):
        for options in ({}, {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "nesterov": True}):
            SGD(ParameterVector({"w": Parameter(np.ones(3, dtype))}), 0.1, **options).step()
    return len(update._sgd.signatures)

print(signatures(np.float64), signatures(np.float32))
"""


def test_one_compiled_kernel_serves_every_form_of_float32(child: Any, tmp_path: Path) -> None:
    done = child(COMPILED, XDG_CACHE_HOME=str(tmp_path), NUMBA_DISABLE_JIT=None)
    assert done.stdout.split() == ["0", "1"], done.stderr
