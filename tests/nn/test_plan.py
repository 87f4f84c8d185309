"""Networks as plans: a trainer and a model get what the layers give, from any memory, in any thread, at any time."""

from __future__ import annotations

import os
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest

from helpers import LAYOUTS, normwise, together
from stridenet import kernels, layout
from stridenet.communicator import Communicator
from stridenet.errors import ConfigError, LabelError, NumericsError, ShapeError
from stridenet.kernels import program
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Tanh
from stridenet.nn.losses import Loss, cross_entropy, hinge, mse
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.plan import InferencePlan, best_objective
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d, Dropout
from stridenet.nn.sequential import Residual, Sequential
from stridenet.optim.optimizers import SGD
from stridenet.train.trainer import Trainer
from stridenet.zoo.models import MODELS, lenet5

Batch = tuple[Array, Array]
SHAPE = (1, 9, 8)


@pytest.fixture(autouse=True)
def fast_kernels() -> Any:
    with kernels.use("batchlast"):
        yield


def make(*middle: Layer, seed: int = 0, classes: int = 4) -> Sequential:
    """A small network, with `middle` behind its first convolution."""
    rng = np.random.default_rng(seed)
    layers = Conv2d(1, 5, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2), *middle, Conv2d(5, 3, 3, rng=rng), Flatten()
    return Sequential(*layers, Linear(12, classes, rng=rng))


def with_norm(seed: int = 0) -> Sequential:
    return make(BatchNorm2d(5), ReLU(), seed=seed)


def batch(n: int, *, seed: int = 1, shape: tuple[int, ...] = SHAPE, classes: int = 4) -> Batch:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(0, classes, n)


def learn(
    objective: LayerByLayer, x: Array, y: Array, weights: Array | None = None, /
) -> tuple[float, dict[str, Array]]:
    vector = objective.network.pack()
    vector.zero_grad()
    loss = objective.loss_and_gradient(x, y, weights)
    return loss, {name: vector.grad[part].copy() for name, part in vector.slices.items()}


def planned(network: Layer, loss: Loss = cross_entropy, *, threads: int = 1) -> LayerByLayer:
    return best_objective(network, loss, threads=threads)


def has_plan(objective: LayerByLayer, x: Array) -> bool:
    return objective.step_bytes(x, len(x)) is not None


def agree(found: dict[str, Array], wanted: dict[str, Array], rough: dict[str, Array]) -> None:
    """As near to float64 as the layers are in float32, times a small factor."""
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        scale = max(float(np.abs(gradient).max()), largest / 100)
        off, allowed = (float(np.abs(each[name] - gradient).max()) for each in (found, rough))
        assert off <= 4 * allowed + 1e-5 * scale, name


# --- training: what the layers give


@pytest.mark.promise("G1")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 100, 300])
@pytest.mark.parametrize("maker", [make, with_norm])
def test_loss_and_gradient_are_those_of_the_layers(maker: Callable[[], Layer], n: int, weighted: bool) -> None:
    x, y = batch(n)
    weights = np.random.default_rng(2).uniform(0, 3, n) if weighted else None
    loss, found = learn(planned(maker()), x, y, weights)
    with kernels.use("im2col"):
        _, rough = learn(LayerByLayer(maker(), cross_entropy), x, y, weights)
        layers = LayerByLayer(maker().astype(np.float64), cross_entropy)
        wanted_loss, wanted = learn(layers, x.astype(np.float64), y, weights)
    assert isinstance(loss, float)
    assert abs(loss - wanted_loss) < 2e-6
    agree(found, wanted, rough)


@pytest.mark.big
@pytest.mark.parametrize("n", [2, 19])
@pytest.mark.parametrize("name", MODELS)
def test_the_networks_of_the_zoo(name: str, n: int) -> None:
    network = MODELS[name](rng=np.random.default_rng(0))
    shape = network.input_shape
    assert shape is not None
    x, y = batch(n, shape=shape, classes=10)
    layers, truth = deepcopy(network), deepcopy(network).astype(np.float64)
    objective = planned(network)
    assert has_plan(objective, x)
    loss, found = learn(objective, x, y)
    scores = InferencePlan(network.eval())(x)
    with kernels.use("im2col"):
        _, rough = learn(LayerByLayer(layers, cross_entropy), x, y)
        wanted_loss, wanted = learn(LayerByLayer(truth, cross_entropy), x.astype(np.float64), y)
        wanted_scores = truth.eval().forward(x.astype(np.float64))
    assert abs(loss - wanted_loss) < 5e-6
    agree(found, wanted, rough)
    assert normwise(scores, wanted_scores) < 1e-5


def squares(scores: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """A user's own loss; it writes into what it is given."""
    loss = float(np.square(scores).sum()) / len(scores)
    scores *= 2 / len(scores)
    return loss, scores


LOSSES: dict[str, Loss] = {
    "hinge": hinge,
    "mse": mse,
    "own": squares,
    "smoothed": partial(cross_entropy, label_smoothing=0.1),
}


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("name", LOSSES)
def test_any_loss(name: str, n: int) -> None:
    x, y = batch(n)
    weights = np.linspace(0, 1, n)
    objective = planned(make(), LOSSES[name])
    assert has_plan(objective, x)
    for _ in range(2):
        loss, found = learn(objective, x, y, weights)
        wanted_loss, wanted = learn(LayerByLayer(make(), LOSSES[name]), x, y, weights)
        assert loss == pytest.approx(wanted_loss, rel=1e-5)
        agree(found, wanted, wanted)


@pytest.mark.promise("B3")
def test_gradients_are_added() -> None:
    objective = planned(make())
    vector = objective.network.pack()
    for n in 4, 100:
        vector.zero_grad()
        objective.loss_and_gradient(*batch(n))
        once = vector.grad.copy()
        objective.loss_and_gradient(*batch(n))
        assert normwise(vector.grad, 2 * once) < 1e-6


def test_a_batch_without_weight_teaches_nothing() -> None:
    for n in 3, 40:
        loss, found = learn(planned(make()), *batch(n), np.zeros(n))
        assert loss == 0.0
        assert not any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("loss", [cross_entropy, hinge], ids=["in the program", "between"])
def test_a_batch_leaves_nothing_behind_for_the_next(loss: Loss) -> None:
    """Large numbers, NaN, other sizes, an error: the next step is as the first."""
    for n in 3, 37:
        objective, (x, y) = planned(make(), loss), batch(n)
        first = learn(objective, x, y)
        learn(objective, 1e6 * x, y)
        with np.errstate(invalid="ignore"):
            learn(objective, np.full_like(x, np.nan), y)
            learn(objective, np.full_like(x, np.inf), y)
        learn(objective, *batch(n + 13))
        with pytest.raises(LabelError):
            learn(objective, x, y + 9)
        again = learn(objective, x, y)
        assert again[0] == first[0]
        assert all(np.array_equal(again[1][name], first[1][name]) for name in first[1])


# --- where there is no plan

WITHOUT: dict[str, Callable[[], Sequential]] = {
    "padded maximum": lambda: make(MaxPool2d(3, stride=1, padding=1)),
    "padded mean": lambda: make(AvgPool2d(3, stride=1, padding=1)),
    "ceil mode": lambda: Sequential(
        MaxPool2d(2, ceil_mode=True), Flatten(), Linear(20, 4, rng=np.random.default_rng(0))
    ),
    "dropout": lambda: make(Dropout(0.5)),
    "dropout in a sum": lambda: make(Residual(Sequential(ReLU(), Dropout(0.5)))),
    "tanh": lambda: make(Tanh()),
    "a user's layer": lambda: make(Twice()),
}


class Twice(ReLU):
    """A layer of a user's, made from one of ours."""

    def forward(self, x: Array) -> Array:
        return 2 * super().forward(x)

    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        return super().backward(2 * dy, need_dx=need_dx)


def test_a_loss_whose_gradient_has_another_shape_is_an_error() -> None:
    (x, y), network = batch(20), make()
    objective = best_objective(network.train(), lambda scores, targets, weights=None: (0.0, scores[:, :1]))
    with pytest.raises(ShapeError, match="loss: expected dscores of shape"):
        objective.loss_and_gradient(x, y)


@pytest.mark.parametrize("n", [3, 70, 130])
@pytest.mark.parametrize("name", WITHOUT)
def test_without_a_plan_the_layers_do_it(name: str, n: int) -> None:
    (x, y), network = batch(n), WITHOUT[name]()
    objective = planned(network)
    assert not has_plan(objective, x)
    found, wanted = learn(objective, x, y), learn(best_objective(WITHOUT[name](), cross_entropy, plan=False), x, y)
    assert found[0] == wanted[0]
    assert all(np.array_equal(found[1][key], wanted[1][key]) for key in wanted[1])
    found, wanted = InferencePlan(network.eval())(x), network.forward(x)
    assert normwise(found, wanted) < 1e-6  # in evaluation dropout has a plan


@pytest.mark.parametrize("maker", [make, with_norm])
def test_other_types_and_other_kernels_have_no_plan(maker: Callable[[], Layer]) -> None:
    x, y = batch(20)
    x64 = x.astype(np.float64)
    wide = planned(maker().astype(np.float64))
    assert not has_plan(wide, x64)
    assert not has_plan(wide, x)  # the layers say what is wrong
    found, wanted = learn(wide, x64, y), learn(LayerByLayer(maker().astype(np.float64), cross_entropy), x64, y)
    assert found[0] == wanted[0]
    objective = planned(maker())
    assert has_plan(objective, x)
    with kernels.use("loops"):
        assert not has_plan(objective, x)
        assert learn(objective, x, y)[0] == learn(LayerByLayer(maker(), cross_entropy), x, y)[0]
    assert not has_plan(best_objective(make(), cross_entropy, plan=False), x)


def outcome(objective: LayerByLayer, *given: Any) -> str:
    try:
        return str(learn(objective, *given)[0])
    except (ShapeError, LabelError, ConfigError) as error:
        return f"{type(error).__name__}: {error}"


X, Y = batch(20)
FAULTS: dict[str, tuple[Any, ...]] = {
    "labels too large": (X, Y + 4),
    "labels below 0": (X, Y - 4),
    "labels of a float type": (X, Y.astype(float)),
    "few labels": (X, Y[:-1]),
    "labels as one-hot rows": (X, np.eye(4)[Y]),
    "few weights": (X, Y, np.ones(19)),
    "weights below 0": (X, Y, -np.ones(20)),
    "NaN weights": (X, Y, np.full(20, np.nan)),
    "no images": (X[:0], Y[:0]),
    "float64": (X.astype(np.float64), Y),
    "integers": (X.astype(np.int32), Y),
    "another size": (X[:, :, :-2], Y),
    "two channels": (np.concatenate([X, X], axis=1), Y),
    "no channels": (X[:, 0], Y),
    "vectors": (X.reshape(20, -1), Y),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said_in_the_same_words(fault: str) -> None:
    found, wanted = (
        outcome(planned(make()), *FAULTS[fault]),
        outcome(LayerByLayer(make(), cross_entropy), *FAULTS[fault]),
    )
    assert found == wanted
    assert "expected" in found


def test_scores_that_are_images_are_refused_in_the_same_words() -> None:
    def images() -> Sequential:
        return Sequential(Conv2d(1, 4, (9, 8), rng=np.random.default_rng(0)))

    found, wanted = outcome(planned(images()), X, Y), outcome(LayerByLayer(images(), cross_entropy), X, Y)
    assert found == wanted
    assert "scores of shape (N, K)" in found
    assert InferencePlan(images().eval())(X).shape == (20, 4, 1, 1)


def test_evaluation_is_no_mode_to_train_in() -> None:
    """Of the whole network, or of its batch norm alone."""
    for n in 3, 20:
        for layer in (0, 3):
            messages = []
            for objective in planned(with_norm()), LayerByLayer(with_norm(), cross_entropy):
                learn(objective, *batch(n))
                network: Any = objective.network
                (network if layer == 0 else network.layers[layer]).eval()
                messages.append(outcome(objective, *batch(n)))
            assert messages[0] == messages[1]
            assert "train()" in messages[0]


@pytest.mark.promise("G5")
@pytest.mark.parametrize("n", [2, 50])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("maker", [make, with_norm])
def test_numbers_that_are_not_finite_end_the_step(maker: Callable[[], Layer], value: float, n: int) -> None:
    for where in "x", "weight":
        network = maker()
        trainer = Trainer(network, SGD(network.pack(), 0.1))
        (x, y), good = batch(n), deepcopy(network)
        if where == "x":
            x[-1, 0, 4, 4] = value
        else:
            dict(network.named_parameters())["0.weight"].value[0] = value
        before = trainer.params.value.copy()
        with pytest.raises(NumericsError, match="step 0: expected a finite loss") as caught:
            trainer.step(x, y)
        assert caught.value.layer == "0"
        assert np.array_equal(trainer.params.value, before, equal_nan=True)
        with np.errstate(invalid="ignore"):
            assert not np.isfinite(InferencePlan(good.eval())(x)).all() or where == "weight"


# --- the same bits


def same(a: tuple[float, dict[str, Array]], b: tuple[float, dict[str, Array]]) -> bool:
    return a[0] == b[0] and all(np.array_equal(a[1][name], b[1][name]) for name in a[1])


@pytest.mark.promise("K4")
@pytest.mark.parametrize("loss", [cross_entropy, hinge], ids=["cross_entropy", "hinge"])
@pytest.mark.parametrize("maker", [make, with_norm])
def test_neither_the_number_of_threads_nor_the_run_changes_a_bit(maker: Callable[[], Layer], loss: Loss) -> None:
    for n in 3, 33, 300:
        first = learn(planned(maker(), loss), *batch(n))
        for threads in 1, 2, 3, 4:
            objective = planned(maker(), loss, threads=threads)
            assert all(same(learn(objective, *batch(n)), first) for _ in range(3))


@pytest.mark.promise("K4")
@pytest.mark.parametrize("n", [1, 3, 33])
@pytest.mark.parametrize("order", [*LAYOUTS, "read-only", "read-only inner", "at an odd byte", "turned", "repeated"])
def test_the_memory_of_a_batch_changes_no_bit(order: str, n: int) -> None:
    x, y = batch(n)
    if order == "repeated":
        x = np.repeat(x[:1], n, axis=0)
    odd = np.zeros(x.nbytes + 1, np.uint8)
    odd[1:] = x.reshape(-1).view(np.uint8)
    others: dict[str, Callable[[Array], Array]] = {
        "at an odd byte": lambda x: odd[1:].view(np.float32).reshape(x.shape),
        "turned": lambda x: x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2),
        "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
        "read-only": lambda x: x.copy(),
        "read-only inner": LAYOUTS["batch-inner"],
    }
    copy = (LAYOUTS | others)[order](x)
    if order.startswith("read-only"):
        copy.setflags(write=False)
    plan, before = InferencePlan(make().eval()), copy.copy()
    wanted, scores = learn(planned(make()), x, y), plan(x)
    compiled = len(getattr(program.run, "signatures", ()))
    assert same(learn(planned(make()), copy, y), wanted)
    assert np.array_equal(plan(copy), scores)
    assert len(getattr(program.run, "signatures", ())) == compiled  # none is compiled for itself
    assert np.array_equal(copy, before)


# --- batch norm


def test_running_statistics_follow_step_by_step() -> None:
    network, layers = with_norm(), with_norm()
    trainers = [Trainer(n, SGD(n.pack(), 0.05), plan=plan) for n, plan in ((network, True), (layers, False))]
    for step in range(5):
        for trainer in trainers:
            trainer.step(*batch(40, seed=step))
    state = network.state_dict()
    for name, value in layers.state_dict().items():
        assert normwise(state[name], value) < 1e-4, name
    assert not np.allclose(state["3.running_mean"], 0)


def test_several_workers_learn_as_one_with_the_whole_batch() -> None:
    x, y = batch(36)
    loss, wanted = learn(LayerByLayer(with_norm().astype(np.float64), cross_entropy), x.astype(np.float64), y)

    whole = with_norm()
    learn(LayerByLayer(whole, cross_entropy), x, y)

    def half(comm: Communicator) -> tuple[float, Array, dict[str, Array]]:
        with kernels.use("batchlast"):
            network, part = with_norm(), slice(18 * comm.rank, 18 * comm.rank + 18)
            network.connect(comm)
            found, _ = learn(planned(network, threads=2), x[part], y[part])
            vector = network.pack()
            comm.mean(vector.grad)
            return found, vector.grad, network.state_dict()

    results = together(2, half)
    assert not any(isinstance(result, Exception) for result in results), results
    assert np.mean([result[0] for result in results]) == pytest.approx(loss, rel=1e-5)
    for _, gradient, state in results:
        assert normwise(gradient, np.concatenate(list(wanted.values()))) < 1e-5
        for name, value in whole.state_dict().items():
            assert normwise(state[name], value) < 1e-5, name


# --- predictions


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 100, 300])
@pytest.mark.parametrize("maker", [make, with_norm])
def test_a_prediction_is_that_of_the_layers(maker: Callable[[], Layer], n: int) -> None:
    network = maker().train()
    network.forward(batch(50, seed=5)[0])  # running statistics that are not 0 and 1
    plan, x = InferencePlan(network.eval(), threads=2), batch(n)[0]
    scores = plan(x)
    assert scores.shape == (n, 4)
    assert scores.dtype == np.float32
    assert normwise(scores, network.forward(x)) < 1e-5
    single = np.concatenate([InferencePlan(network)(x[i : i + 1]) for i in range(min(n, 5))])
    assert normwise(single, scores[:5]) < 1e-5


def test_threads_of_a_prediction_change_no_bit() -> None:
    network = with_norm().eval()
    for n in 3, 200:
        x = batch(n)[0]
        first = InferencePlan(network)(x)
        assert all(np.array_equal(InferencePlan(network, threads=threads)(x), first) for threads in (2, 3, 5))


@pytest.mark.parametrize("n", [2, 20])
@pytest.mark.parametrize("packed", [False, True])
def test_a_plan_follows_the_weights(packed: bool, n: int) -> None:
    """Changed in place, trained, loaded; packed before the plan was made, or after it."""
    network, x = with_norm(), batch(n)[0]
    if packed:
        network.pack()
    plan = InferencePlan(network.eval())

    def right() -> bool:
        return normwise(plan(x), network.forward(x)) < 1e-5

    before = plan(x)
    for name, parameter in network.named_parameters():
        parameter.value[...] *= 1.5
        assert right(), name
    network.load_state_dict(with_norm(seed=7).state_dict())
    assert right()
    network.pack()
    assert right()
    Trainer(network.train(), SGD(network.pack(), 0.1)).step(*batch(30))
    network.eval()
    assert right()
    assert not np.allclose(plan(x), before)


def test_a_prediction_leaves_nothing_behind() -> None:
    for n in 1, 20:
        plan, x = InferencePlan(make().eval()), batch(n)[0]
        first = plan(x)
        kept = first.copy()
        plan(np.full_like(x, np.nan))
        plan(np.full_like(x, 1e30))
        assert np.array_equal(plan(x), kept)
        assert np.array_equal(first, kept)  # a caller's scores stay


def test_a_part_of_a_packed_network_predicts() -> None:
    network = with_norm()
    network.pack()
    part = Sequential(*network.layers[4:]).eval()
    x = np.random.default_rng(0).standard_normal((20, 5, 4, 4)).astype(np.float32)
    assert normwise(InferencePlan(part)(x), part.forward(x)) < 1e-5


def test_a_plan_for_predictions_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="evaluation mode"):
        InferencePlan(make())(X)
    with pytest.raises(ConfigError, match="threads"):
        InferencePlan(make(), threads=0)
    with pytest.raises(ShapeError) as caught:
        InferencePlan(make().eval())(X[:, :, :-2])
    with pytest.raises(ShapeError) as wanted:
        make().eval().forward(X[:, :, :-2])
    assert str(caught.value) == str(wanted.value)


def model() -> Model:
    return Model(with_norm(), list("abcd"), SHAPE)


@pytest.mark.big
@pytest.mark.promise("A4")
def test_sixteen_threads_predict_at_the_same_time() -> None:
    ours = model()
    sizes = 1, 3, 17
    images = [batch(n, seed=n)[0] % 1 for n in sizes]
    wanted, wrong = [ours.scores(each) for each in images], []

    def predict(first: int) -> None:
        with kernels.use("batchlast"):
            for i in range(1000):
                which = (first + i) % len(sizes)
                if not np.array_equal(ours.scores(images[which]), wanted[which]):
                    wrong.append(which)

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "copy", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_a_model_predicts_by_itself(copy: Callable[[Model], Model]) -> None:
    ours, images = model(), batch(17)[0] % 1
    wanted = ours.scores(images)
    twin = copy(ours)
    assert np.array_equal(twin.scores(images), wanted)
    for _, parameter in ours.network.named_parameters():
        parameter.value[...] = 0
    assert np.array_equal(twin.scores(images), wanted)
    assert not np.array_equal(ours.scores(images), wanted)


SPAWN = """
import multiprocessing
import numpy as np
from stridenet import Conv2d, Flatten, Linear, Model, Sequential

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    network = Sequential(Conv2d(1, 3, 3, rng=rng), Flatten(), Linear(3 * 16, 3, rng=rng))
    model, images = Model(network, list("abc"), (1, 6, 6)), rng.random((40, 1, 6, 6), np.float32)
    wanted = model.scores(images)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(model.scores, (images,))
    print(np.array_equal(found, wanted))
"""

FORK = """
import os, warnings
import numpy as np
from stridenet import Conv2d, Flatten, Linear, Sequential, cross_entropy
from stridenet.nn.plan import InferencePlan, best_objective

warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
rng = np.random.default_rng(0)
network = Sequential(Conv2d(1, 3, 3, rng=rng), Flatten(), Linear(48, 3, rng=rng))
objective, plan = best_objective(network, cross_entropy, threads=2), InferencePlan(network, threads=2)
batch = np.ones((128, 1, 6, 6), np.float32), np.zeros(128, int)

def work():
    network.pack().zero_grad()
    loss = objective.loss_and_gradient(*batch)
    network.eval()
    scores = plan(batch[0])
    network.train()
    return loss, network.pack().grad.tobytes(), scores.tobytes()

before = work()
child = os.fork()
if child == 0:
    os._exit(0 if work() == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.promise("P09")
def test_a_spawned_child_predicts(child: Any, tmp_path: Any) -> None:
    script = tmp_path / "spawn.py"  # a child must find it again
    script.write_text(SPAWN)
    done = child(
        f"import runpy, sys; sys.argv = [{str(script)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.promise("P09")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_workers_of_its_own(child: Any) -> None:
    done = child(FORK)  # a child that waited for the parent's threads would never end
    assert done.stdout == "0\n", done.stderr


# --- memory and interruptions


@pytest.mark.big
@pytest.mark.promise("M3")
@pytest.mark.parametrize("n", [64, 512])
@pytest.mark.parametrize("maker", [lenet5, MODELS["lenet5_batchnorm"]], ids=["lenet5", "lenet5_batchnorm"])
def test_a_steady_step_makes_no_large_array(maker: Any, n: int) -> None:
    network = maker(rng=np.random.default_rng(0))
    trainer = Trainer(network, SGD(network.pack(), 0.01, momentum=0.9), threads=2)
    x, y = batch(n, shape=(1, 28, 28), classes=10)
    x = layout.to_batch_inner(x)
    for _ in range(2):
        trainer.step(x, y)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        trainer.step(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 64 << 10


class Stopped(BaseException):
    """As KeyboardInterrupt, which pytest keeps for itself."""


@pytest.mark.parametrize("kind", [ValueError, Stopped])
@pytest.mark.parametrize("thread", ["main", "mate"])
def test_after_an_error_in_a_worker_the_next_step_is_right(
    thread: str, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stridenet.nn import step

    objective, given = planned(with_norm(), threads=2), batch(100)
    first, run = learn(objective, *given), step.run

    def broken(*arguments: Any) -> None:
        if (threading.current_thread() is threading.main_thread()) == (thread == "main"):
            raise kind("a worker")
        run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(step, "run", broken)
        with pytest.raises(kind, match="a worker"):
            learn(objective, *given)
    assert same(learn(objective, *given), first)


# --- other ways to run

OTHERS = """
import numpy as np
from stridenet import kernels
from stridenet.kernels.simd import LANES
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Tanh
from stridenet.nn.losses import cross_entropy
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.plan import InferencePlan, best_objective
from stridenet.nn.pools import AvgPool2d, MaxPool2d
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut

def make():
    rng = np.random.default_rng(0)
    first = Conv2d(5, 6, 3, stride=2, padding=1, rng=rng), BatchNorm2d(6), ReLU(), Conv2d(6, 6, 3, padding=1, rng=rng)
    aside = Residual(Sequential(*first), ZeroPadShortcut(5, 6, stride=2))
    layers = Conv2d(2, 5, 3, padding="same", rng=rng), ReLU(), MaxPool2d(2), aside, ReLU()
    last = Conv2d(6, 6, 2, groups=3, padding=1, rng=rng), ReLU(), AvgPool2d(2, stride=1), Flatten()
    return Sequential(*layers, *last, Linear(24, 9, rng=rng))

def simple():
    rng = np.random.default_rng(0)
    aside = Residual(Conv2d(3, 3, 3, padding=1, rng=rng))
    layers = Conv2d(2, 3, 3, padding=1, rng=rng), ReLU(), MaxPool2d(3, stride=2), aside
    return Sequential(*layers, Flatten(), Linear(27, 17, rng=rng), ReLU(), Linear(17, 9, rng=rng))

for maker in make, simple:
    for N in 1, 3, LANES + 1:
        rng = np.random.default_rng(N)
        x, y = rng.standard_normal((N, 2, 7, 8)).astype(np.float32), rng.integers(0, 9, N)
        results = []
        for plan, name in (True, "batchlast"), (False, "im2col"):
            with kernels.use(name):
                network = maker()
                objective = best_objective(network, cross_entropy, threads=2, plan=plan)
                assert (objective.step_bytes(x, N) is not None) == plan
                loss = objective.loss_and_gradient(x, y)
                scores = InferencePlan(network.eval())(x)
                results.append([np.array([loss]), network.pack().grad, scores])
        for a, b in zip(*results, strict=True):
            assert np.abs(a - b).max() <= 2e-5 * np.abs(b).max(), (N, np.abs(a - b).max())
print(LANES)
"""


NARROW = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+sse4.2"}


@pytest.mark.promise("G7")
@pytest.mark.parametrize(
    ("environment", "lanes"),
    [
        ({"NUMBA_DISABLE_JIT": "1", **NARROW}, "8"),
        pytest.param({"NUMBA_BOUNDSCHECK": "1"}, None, marks=pytest.mark.slow),
        pytest.param(NARROW, "8", marks=pytest.mark.slow),
    ],
    ids=["not compiled, narrow registers", "checked places", "narrow registers"],
)
def test_other_ways_to_run_give_the_same(
    environment: dict[str, str], lanes: str | None, child: Any, tmp_path: Any
) -> None:
    done = child(OTHERS, XDG_CACHE_HOME=str(tmp_path), **environment)
    assert done.returncode == 0, done.stderr
    assert lanes is None or done.stdout.strip() == lanes
