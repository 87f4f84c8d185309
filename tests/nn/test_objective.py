from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet import kernels
from stridenet.errors import LabelError, ShapeError
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.losses import cross_entropy
from stridenet.nn.objective import LayerByLayer, Sliced
from stridenet.nn.plan import best_objective
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential

SHAPE = (1, 6, 6)


def make(seed: int = 0) -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(Conv2d(1, 2, 3, rng=rng), ReLU(), Flatten(), Linear(32, 3, rng=rng), input_shape=SHAPE).astype(
        np.float64
    )


def batch(n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, *SHAPE)), rng.integers(0, 3, n)


def test_loss_and_gradient_are_those_of_the_layers_by_hand() -> None:
    network, (x, y) = make(), batch()
    params = network.pack()
    weights = np.array([1.0, 0, 2, 3, 1])
    loss = LayerByLayer(network, cross_entropy).loss_and_gradient(x, y, weights)
    found = params.grad.copy()
    params.zero_grad()
    wanted, dscores = cross_entropy(network.forward(x), y, weights)
    network.backward(dscores)
    assert loss == wanted
    assert np.array_equal(found, params.grad)
    assert np.any(found)


@pytest.mark.promise("B3")
def test_gradients_are_added_until_they_are_set_to_zero() -> None:
    network, (x, y) = make(), batch()
    params, objective = network.pack(), LayerByLayer(network, cross_entropy)
    rounds = []
    for _ in range(2):
        params.zero_grad()
        objective.loss_and_gradient(x, y)
        rounds.append(params.grad.copy())
    assert np.array_equal(*rounds)
    objective.loss_and_gradient(x, y)
    assert np.allclose(params.grad, 2 * rounds[0], rtol=1e-15, atol=0)


@pytest.mark.promise("G6")
def test_images_and_targets_stay_as_they_are() -> None:
    network, (x, y) = make(), batch()
    network.pack()
    x.setflags(write=False)
    y.setflags(write=False)
    LayerByLayer(network, cross_entropy).loss_and_gradient(x, y)


@pytest.mark.promise("G5")
def test_the_first_place_that_is_not_finite_is_named() -> None:
    network, (x, _) = make(), batch()
    objective = LayerByLayer(network, cross_entropy)
    assert objective.first_non_finite(x) == ("", "loss")
    x[2, 0, 3, 3] = np.nan
    with np.errstate(invalid="ignore"):
        assert objective.first_non_finite(x) == ("0", "output of layer 0 Conv2d(1, 2, kernel_size=3)")
    x[2, 0, 3, 3] = 0
    last = network.layers[3]
    assert isinstance(last, Linear)
    last.weight.value[0, 0] = np.inf
    assert objective.first_non_finite(x) == ("3", "parameter 3.weight")
    last.weight.value[:] = 1e308
    with np.errstate(over="ignore", invalid="ignore"):
        layer, tensor = objective.first_non_finite(np.abs(x) * 10)
    assert (layer, tensor) == ("3", "output of layer 3 Linear(32, 3)")


@pytest.mark.promise("G5")
def test_running_statistics_do_not_hide_the_place_that_is_not_finite() -> None:
    """The forward of the loss has spoiled them already."""
    conv, norm = Conv2d(1, 2, 3, rng=np.random.default_rng(0)), BatchNorm2d(2)
    network, x = Sequential(conv, norm), np.full((2, 1, 5, 5), 1e30, np.float32)
    conv.weight.value[:] = 1e30
    with np.errstate(over="ignore", invalid="ignore"):
        network.forward(x)
        assert np.isnan(norm.running_var.value).all()
        found = LayerByLayer(network, cross_entropy).first_non_finite(x)
    assert found == ("0", "output of layer 0 Conv2d(1, 2, kernel_size=3)")


# --- in slices


def gradient_of(objective: LayerByLayer, *batch: np.ndarray | None) -> tuple[float, np.ndarray]:
    params = objective.network.pack()
    params.zero_grad()
    loss = objective.loss_and_gradient(*batch)  # pyright: ignore[reportArgumentType]
    return loss, params.grad.copy()


@pytest.mark.parametrize("n", [1, 63, 64, 127, 128, 200, 321])
@pytest.mark.parametrize("kind", ["alike", "weighted", "a slice without weight", "none"])
def test_slices_give_the_gradient_of_the_whole_batch(n: int, kind: str) -> None:
    x, y = batch(n)
    weights = None if kind == "alike" else np.random.default_rng(2).uniform(0, 3, n)
    if weights is not None and kind == "a slice without weight":
        weights[: n // 2] = 0
    if weights is not None and kind == "none":
        weights[:] = 0
    loss, wanted = gradient_of(LayerByLayer(make(), cross_entropy), x, y, weights)
    found = gradient_of(Sliced(make(), cross_entropy), x, y, weights)
    assert abs(found[0] - loss) < 1e-14
    assert normwise(found[1], wanted) < 1e-14
    assert np.any(wanted) == (kind != "none")


@pytest.mark.promise("K4")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_number_of_threads_changes_no_bit(dtype: type) -> None:
    x, y = batch(400)  # six slices: four workers get four, then two
    for kernel in "im2col", "loops":
        n = 400 if kernel == "im2col" else 130
        with kernels.use(kernel):
            found = [
                gradient_of(Sliced(make().astype(dtype), cross_entropy, threads=threads), x[:n].astype(dtype), y[:n])
                for threads in (1, 2, 4)
            ]
        for loss, gradient in found[1:]:
            assert loss == found[0][0]
            assert np.array_equal(gradient, found[0][1])


def test_the_workers_use_the_kernels_of_their_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    forward = Conv2d.forward

    def watched(self: Conv2d, x: np.ndarray) -> np.ndarray:
        used.append(kernels.resolve())
        return forward(self, x)

    monkeypatch.setattr(Conv2d, "forward", watched)
    with kernels.use("loops"):
        gradient_of(Sliced(make(), cross_entropy, threads=2), *batch(128))
    assert used == ["loops"] * 2


def test_the_workers_follow_the_parameters() -> None:
    objective, (x, y) = Sliced(make(), cross_entropy, threads=2), batch(128)
    first = gradient_of(objective, x, y)[1]
    objective.network.pack().value[...] *= 0.5
    changed = gradient_of(objective, x, y)[1]
    assert np.array_equal(gradient_of(Sliced(objective.network, cross_entropy), x, y)[1], changed)
    assert not np.array_equal(first, changed)


@pytest.mark.parametrize("layer", [BatchNorm2d(2), Dropout(0.5), Dropout2d(0.5), Residual(BatchNorm2d(2))])
def test_a_layer_that_needs_the_whole_batch_gets_it(layer: Layer) -> None:
    rng = np.random.default_rng(0)
    network = Sequential(Conv2d(1, 2, 3, rng=rng), layer, Flatten(), Linear(32, 3, rng=rng), input_shape=SHAPE)
    assert type(best_objective(network, cross_entropy, threads=2, plan=False)) is LayerByLayer
    assert type(best_objective(make(), cross_entropy, threads=2, plan=False)) is Sliced


@pytest.mark.parametrize("fault", ["few labels", "many labels", "few weights", "NaN weight", "negative"])
def test_what_is_wrong_in_a_batch_is_refused_as_ever(fault: str) -> None:
    x, y = batch(200)
    weights = np.ones(200)
    y = {"few labels": y[:-1], "many labels": np.append(y, 0)}.get(fault, y)
    if fault == "few weights":
        weights = weights[:-1]
    weights[-1] = {"NaN weight": np.nan, "negative": -1}.get(fault, weights[-1])
    with pytest.raises(ShapeError) as wanted:
        LayerByLayer(make(), cross_entropy).loss_and_gradient(x, y, weights)
    with pytest.raises(ShapeError) as found:
        Sliced(make(), cross_entropy).loss_and_gradient(x, y, weights)
    assert str(found.value).split(", got")[0].replace("(50,)", "(200,)") == str(wanted.value).split(", got")[0]


def test_after_an_error_nothing_is_left_of_it() -> None:
    objective, (x, y) = Sliced(make().eval(), cross_entropy, threads=2), batch(256)
    wanted = gradient_of(objective, x, y)
    wrong = y.copy()
    wrong[70] = 9  # in the second of four slices
    with pytest.raises(LabelError):
        objective.loss_and_gradient(x, wrong)
    found = gradient_of(objective, x, y)
    assert found[0] == wanted[0]
    assert np.array_equal(found[1], wanted[1])


FORK = """
import os, warnings
import numpy as np
from stridenet import Sequential, Flatten, Linear, cross_entropy
from stridenet.nn.objective import Sliced

warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
network = Sequential(Flatten(), Linear(4, 3, rng=np.random.default_rng(0)))
objective = Sliced(network, cross_entropy, threads=2)
batch = np.ones((128, 1, 2, 2), np.float32), np.zeros(128, int)
before = objective.loss_and_gradient(*batch)
child = os.fork()
if child == 0:
    os._exit(0 if objective.loss_and_gradient(*batch) == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.promise("P09")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_workers_of_its_own(child: Any) -> None:
    done = child(FORK)  # a child that waited for the parent's threads would never end
    assert done.stdout == "0\n", done.stderr
