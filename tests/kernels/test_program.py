"""Programs by hand: what goes in and out of them, the loss, and every place compared with its array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stridenet.kernels import operation, program
from stridenet.kernels.operation import FIELDS, LANES, OP, Code
from stridenet.kernels.signals import ALONE, BEGUN
from stridenet.layout import Array
from stridenet.nn.losses import cross_entropy

NOTHING = np.zeros(1, np.float32)


def make(*rows: dict[str, Any]) -> Array:
    return np.array([tuple({**dict.fromkeys(FIELDS, 0), **row}.values()) for row in rows], OP)


def execute(ops: Array, memory: Array, x: Array, scores: Array, **others: Any) -> Array:
    """Run `ops` block after block over all of x; the sums."""
    lanes = others.get("lanes", LANES)
    blocks = -(-len(x) // lanes)
    sums, strides = np.zeros((blocks, 1)), tuple(stride // 4 for stride in x.strides)
    targets, shares = others.get("targets", np.zeros(1, np.int64)), others.get("shares", NOTHING)
    where = 0, blocks, lanes, len(x), 0, 0
    arrays = np.zeros(1, np.int64), (memory,) * 3, NOTHING, NOTHING.copy(), x.reshape(-1), strides, scores
    turns = np.array([0, 7])
    program.run(ops, *arrays, targets, shares, sums, turns, where)
    assert turns[BEGUN] == 7  # who waits for it may begin too
    return sums


def test_no_field_of_an_operation_is_an_attribute_of_numpy() -> None:
    """Without a compiler, `op.flags` would be those of an array."""
    assert not set(FIELDS) & set(dir(np.record))
    assert len(set(FIELDS)) == len(FIELDS)


def test_the_codes_of_a_file_stand_together() -> None:
    """`run` finds the file of a code by comparing."""
    assert [int(code) for code in Code] == list(range(len(Code)))
    assert Code.GRADIENT_SUMS < Code.CORRELATE < Code.LINEAR_BACK < Code.RECTIFY < Code.NORMALIZE_BACK < Code.CLEAR


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("n", [1, LANES - 1, LANES, 2 * LANES + 3])
def test_images_come_in_and_scores_go_out(n: int, lanes: int) -> None:
    """Each block has its own images; lanes without one repeat the last, and the mask leaves them out."""
    x = np.random.default_rng(n).standard_normal((n, 3, 1, 1)).astype(np.float32)
    mask, frame = 0, LANES
    memory, scores = np.zeros(8 * LANES, np.float32), np.zeros((n, 3), np.float32)
    fields = {
        "channels": 3,
        "rows": 1,
        "columns": 1,
        "count": lanes,
        "y": frame,
        "y_channel": lanes,
        "y_row": lanes,
        "z": mask,
    }
    ops = make({"code": Code.LOAD, **fields}, {"code": Code.STORE, "x": frame, "channels": 3, "count": lanes})
    execute(ops, memory, x, scores, lanes=lanes)
    assert np.array_equal(scores, x[:, :, 0, 0])
    left = n - (n - 1) // lanes * lanes  # images of the last block
    wanted = np.ones(LANES) if lanes == 1 else (np.arange(LANES) < left)
    assert np.array_equal(memory[:LANES], wanted)
    last = memory[frame : frame + 3 * lanes].reshape(3, lanes)
    assert (last[:, left:] == x[-1, :, :, 0]).all()


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("K", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_cross_entropy(K: int, weighted: bool, lanes: int) -> None:
    """Large scores too: the maximum is taken off first."""
    rng, n = np.random.default_rng(K), LANES + 3
    for scale in 1, 1e4:
        x = (scale * rng.standard_normal((n, K, 1, 1))).astype(np.float32)
        targets, weights = rng.integers(0, K, n), rng.uniform(0, 2, n) if weighted else np.ones(n)
        shares = (weights / weights.sum()).astype(np.float32)
        memory, found = np.zeros((2 * K + 1) * LANES, np.float32), np.zeros((n, K), np.float32)
        frame, dy = LANES, (K + 1) * LANES
        vector = {"channels": K, "count": lanes}
        ops = make(
            {"code": Code.LOAD, **vector, "rows": 1, "columns": 1, "y": frame, "y_channel": lanes, "y_row": lanes},
            {"code": Code.CROSS_ENTROPY, **vector, "x": frame, "y": dy},
            {"code": Code.STORE, **vector, "x": dy},
        )
        sums = execute(ops, memory, x, found, targets=targets, shares=shares, lanes=lanes)
        loss, dscores = cross_entropy(x[:, :, 0, 0].astype(np.float64), targets, weights)
        assert sums.sum() == pytest.approx(loss, rel=2e-6)
        assert np.abs(found - dscores).max() <= 2e-6 * shares.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("k", [0, 2])
def test_scores_that_are_not_finite_give_no_finite_loss(value: float, k: int) -> None:
    """But for minus infinity beside the target, whose probability is 0."""
    x = np.zeros((3, 4, 1, 1), np.float32)
    x[1, k] = value
    memory, scores = np.zeros(9 * LANES, np.float32), np.zeros((3, 4), np.float32)
    vector = {"channels": 4, "count": LANES}
    ops = make(
        {"code": Code.LOAD, **vector, "rows": 1, "columns": 1, "y": LANES, "y_channel": LANES, "y_row": LANES},
        {"code": Code.CROSS_ENTROPY, **vector, "x": LANES, "y": 5 * LANES},
    )
    shares = np.full(3, 1 / 3, np.float32)
    for target in range(4):
        with np.errstate(invalid="ignore"):  # where nothing is compiled NumPy would raise, as tests have it
            sums = execute(ops, memory, x, scores, targets=np.full(3, target), shares=shares)
            wanted = cross_entropy(x[:, :, 0, 0], np.full(3, target))[0]
        assert np.isfinite(sums.sum()) == np.isfinite(wanted)


def test_a_slice_runs_its_own_blocks() -> None:
    x = np.arange(5 * LANES, dtype=np.float32).reshape(-1, 1, 1, 1)
    scores = np.full((len(x), 1), -1, np.float32)
    fields = {"channels": 1, "rows": 1, "columns": 1, "count": LANES, "y": LANES, "y_channel": LANES, "y_row": LANES}
    ops = make({"code": Code.LOAD, **fields}, {"code": Code.STORE, "x": LANES, "channels": 1, "count": LANES})
    memory, sums = np.zeros(100 + 8 * LANES, np.float32), np.zeros((5, 1))
    arrays = np.zeros(1, np.int64), (memory,) * 3, NOTHING, NOTHING.copy(), x.reshape(-1), (1, 1, 1, 1), scores
    program.run(ops, *arrays, np.zeros(1, np.int64), NOTHING, sums, ALONE, (2, 4, LANES, len(x), 100, 3 * LANES))
    assert np.array_equal(scores[2 * LANES : 4 * LANES], x[2 * LANES : 4 * LANES, :, 0, 0])
    assert (scores[: 2 * LANES] == -1).all()
    assert (scores[4 * LANES :] == -1).all()
    assert not memory[:100].any()  # the first block's part begins at 100, the next one's three registers on
    second = memory[100 + 4 * LANES : 100 + 5 * LANES]
    assert np.array_equal(second, x[3 * LANES : 4 * LANES, 0, 0, 0])


def test_warm_up_is_a_program_of_nothing() -> None:
    program.warm_up()
    assert bool(program.run.signatures) == operation.COMPILES if operation.COMPILES else True


# A place in any list of a plan, of training and of prediction, far outside: each is compared with its array.
PLANTED = """
import sys
import numpy as np
from stridenet import kernels
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import cross_entropy
from stridenet.nn.plan import best_objective
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.sequential import Residual, Sequential

rng = np.random.default_rng(0)
aside = Residual(Conv2d(2, 2, 3, padding=1, rng=rng))
layers = Conv2d(1, 2, 2, rng=rng), ReLU(), MaxPool2d(2), aside, MaxPool2d(2, stride=1), AvgPool2d(1), Flatten()
network, seen = Sequential(*layers, Linear(2 * 2 * 3, 9, rng=rng)), 0
network.pack()
kernels._AUTO = "batchlast"
for n in 2, 5:
    objective = best_objective(network, cross_entropy)
    x, y = rng.standard_normal((n, 1, 7, 9)).astype(np.float32), rng.integers(0, 9, n)
    objective.loss_and_gradient(x, y)
    plan = objective._plans.find(x)
    right = plan.tables.copy()
    for i in range(0, len(right), 11):
        for far in -(2**24), 2**24:
            plan.tables[i] = far
            try:
                objective.loss_and_gradient(x, y)
            except IndexError:
                seen += 1
            else:
                sys.exit(f"place {i} of {len(right)} was not compared, {n} images")
        plan.tables[i] = right[i]
    objective.loss_and_gradient(x, y)
print(seen)
"""


@pytest.mark.promise("G7")
@pytest.mark.parametrize("switch", ["NUMBA_DISABLE_JIT", pytest.param("NUMBA_BOUNDSCHECK", marks=pytest.mark.slow)])
def test_a_planted_place_outside_is_found(switch: str, child: Any, tmp_path: Any) -> None:
    done = child(PLANTED, XDG_CACHE_HOME=str(tmp_path), **{switch: "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
