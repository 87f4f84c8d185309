"""Our own techniques beside each other on this machine: an operation, a training step, an inference.

What is compared is called in turns, so that a machine which slows down does so for all, and the median counts. Arrays
are made before and are batch innermost, as the layers pass them on. A matrix product has one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from stridenet import kernels, layout
from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.nn import functional
from stridenet.nn.cost import cost
from stridenet.nn.layer import Layer
from stridenet.nn.plan import InferencePlan
from stridenet.nn.sequential import Sequential
from stridenet.optim.optimizers import SGD
from stridenet.shapes import Shape, by, choice, integer, positive
from stridenet.train.evaluation import blas_threads, quiet
from stridenet.train.trainer import Trainer
from stridenet.zoo import models

TECHNIQUES = ("im2col", "batchlast")  # the first is what all others are compared with
INFERENCE_BATCHES = (1, 64, 1000)
RATE = 1e-6  # of learning: so small that the weights stay where they are

# Milliseconds that the report S0 printed for the two shapes of `operations` that are its own; see docs/systems.md.
PUBLISHED = {
    "conv forward": {"loops": 484, "im2col": 28.4, "strided": 3.63},
    "conv backward": {"loops": 132, "im2col": 66.2, "strided": 19.6},
    "max pool forward": {"loops": 133, "im2col": 1.21, "reshape": 0.108},
    "max pool backward": {"loops": 0.556, "im2col": 0.282, "reshape": 0.753},
}

_Way = TypeVar("_Way")


@dataclass(frozen=True)
class Timing:
    """How long one piece of work takes in one way.

    Attributes:
        work: what is done, such as "conv 6@5x5 forward, 64x1x28x28" or "step, batch 64".
        technique: the kernels, which a network uses layer by layer; or "plan".
        threads: workers.
        milliseconds: of a call, the median.
        images_per_second: at that.
        gflops: thousand million additions and multiplications a second; None where the work is not made of them.
        speedup: how many times as fast as the first way, im2col; None for a published time.
        published: the time is a report's, measured on another machine.
    """

    work: str
    technique: str
    threads: int
    milliseconds: float
    images_per_second: float
    gflops: float | None
    speedup: float | None
    published: bool = False


def medians(calls: Mapping[_Way, Callable[[], object]], *, seconds: float) -> dict[_Way, float]:
    """The median seconds of each call; all are called in turns, every second round backwards.

    A first round is not counted. Three more follow, and then more until `seconds` for each call have passed.

    >>> medians({"sum": lambda: sum(range(100))}, seconds=0.01)["sum"] > 0
    True
    """
    for call in calls.values():
        call()
    times: dict[_Way, list[float]] = {way: [] for way in calls}
    end, rounds = time.perf_counter() + seconds * len(calls), 0
    while rounds < 3 or time.perf_counter() < end:
        for way in list(calls)[:: -1 if rounds % 2 else 1]:
            times[way].append(_timed(calls[way])[1])
        rounds += 1
    return {way: median(found) for way, found in times.items()}


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call` returns, and its seconds."""
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


class _Work(NamedTuple):
    """Work that is done in several ways."""

    name: str
    images: int
    flops: int | None

    def timings(self, seconds: Mapping[tuple[str, int], float]) -> list[Timing]:
        """One for each (technique, threads), compared with the first."""
        first = next(iter(seconds.values()))
        return [self.timing(*way, each, first / each) for way, each in seconds.items()]

    def timing(
        self, technique: str, threads: int, seconds: float, speedup: float | None, *, published: bool = False
    ) -> Timing:
        gflops = None if self.flops is None else self.flops / seconds / 1e9
        return Timing(self.name, technique, threads, 1e3 * seconds, self.images / seconds, gflops, speedup, published)


# Operations


class _Operation(NamedTuple):
    """A pair of `nn.functional` with its arguments."""

    name: str
    kernel: str  # its size
    x: Array
    forward: Callable[[Array], tuple[Array, Any]]
    backward: Callable[[Array, Any], object]
    products: int  # of the forward of one image, each with its addition; 0: it is not made of them
    published: bool = False


def _random(*shape: int) -> Array:
    """Normal float32 numbers; always the same."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _images(*shape: int) -> Array:
    """The same, batch innermost."""
    return layout.to_batch_inner(_random(*shape))


def _conv(shape: Shape, filters: int, size: int, *, published: bool = False) -> _Operation:
    weight, bias = _random(filters, shape[1], size, size), _random(filters)
    forward = partial(functional.conv2d, weight=weight, bias=bias)
    products = (shape[2] - size + 1) * (shape[3] - size + 1) * weight.size
    kernel, backward = f"{filters}@{size}x{size}", functional.conv2d_backward
    return _Operation("conv", kernel, _images(*shape), forward, backward, products, published)


def _pool(shape: Shape, *, published: bool = False) -> _Operation:
    forward = partial(functional.max_pool2d, kernel_size=2)
    return _Operation("max pool", "2x2", _images(*shape), forward, functional.max_pool2d_backward, 0, published)


def _linear(shape: Shape, outs: int) -> _Operation:
    forward = partial(functional.linear, weight=_random(outs, shape[1]), bias=_random(outs))
    return _Operation("linear", str(outs), _images(*shape), forward, functional.linear_backward, shape[1] * outs)


def _batch_norm(shape: Shape) -> _Operation:
    ones = np.ones(shape[1], np.float32)
    forward = partial(functional.batch_norm, weight=ones, bias=ones)
    return _Operation("batch norm", "", _images(*shape), forward, functional.batch_norm_backward, 0)


def operations(*, seconds: float = 0.1) -> Iterator[list[Timing]]:
    """Each operation forward and backward at the shapes of LeNet-5, and at those of the report S0, on one thread.

    A backward gives the gradients of everything. `loops` is timed once, for one image, times the number of images.

    Args:
        seconds: for each way of doing it, about.

    Yields:
        The timings of one piece of work: im2col first, published ones last.

    Raises:
        ConfigError: seconds is not above 0.
    """
    positive("benchmark", "seconds", seconds)
    for operation in (
        _conv((64, 1, 28, 28), 6, 5),  # C1 of LeNet-5, then C3
        _conv((64, 6, 12, 12), 16, 5),
        _conv((16, 1, 28, 28), 6, 5, published=True),
        _pool((64, 6, 24, 24)),
        _pool((64, 1, 28, 28), published=True),
        _linear((64, 256), 120),
        _batch_norm((64, 6, 24, 24)),
    ):
        yield from _both_directions(operation, seconds)


def _both_directions(operation: _Operation, seconds: float) -> Iterator[list[Timing]]:
    """The timings of the forward, and those of the backward."""
    x, images = operation.x, len(operation.x)
    forwards = {name: partial(_run, name, partial(operation.forward, x)) for name in TECHNIQUES}
    backwards: dict[str, Callable[[], object]] = {}
    for name, forward in forwards.items():
        y, saved = forward()
        backwards[name] = partial(operation.backward, _images(*y.shape), saved)
    (y, saved), looped = _timed(partial(_run, "loops", partial(operation.forward, x[:1])))
    _, looped_back = _timed(partial(operation.backward, _images(*y.shape), saved))
    for direction, calls, loops, factor in (
        ("forward", forwards, looped, 2),
        ("backward", backwards, looped_back, 4),
    ):
        with blas_threads():
            found = medians(calls, seconds=seconds) | {"loops": images * loops}
        name = " ".join(filter(None, (operation.name, operation.kernel, direction)))
        work = _Work(f"{name}, {by(x.shape)}", images, factor * images * operation.products or None)
        published = PUBLISHED[f"{operation.name} {direction}"] if operation.published else {}
        theirs = [work.timing(technique, 1, ms / 1e3, None, published=True) for technique, ms in published.items()]
        yield work.timings({(technique, 1): each for technique, each in found.items()}) + theirs


def _run(name: str, call: Callable[[], Any]) -> Any:
    """What `call` returns with the kernels `name`."""
    with kernels.use(name):
        return call()


# Networks


def _network(model: str) -> tuple[Sequential, Shape]:
    """The network of the zoo and its input shape."""
    choice("benchmark", model, models.MODELS)
    network = models.make(model, {}, rng=np.random.default_rng(0))
    return network, cast("Shape", network.input_shape)  # the zoo's networks all know it


def _counts(threads: Sequence[int]) -> list[int]:
    if not threads:
        raise ConfigError("benchmark: expected one number of threads or more, got none")
    return [integer("benchmark", "threads", count) for count in threads]


def training(model: str, *, batch_size: int = 64, threads: Sequence[int] = (1,), seconds: float = 0.5) -> list[Timing]:
    """A training step of a zoo network: layer by layer with im2col and batchlast, and as a plan.

    Forward, cross-entropy, backward and SGD with momentum, on a batch that is ready.

    Args:
        model: its name in the zoo.
        batch_size: images a step.
        threads: the numbers of workers to try.
        seconds: for each way, about.

    Raises:
        ConfigError: there is no such network, or a number is out of range.
    """
    positive("benchmark", "seconds", seconds)
    network, shape = _network(model)
    x = _images(integer("benchmark", "batch_size", batch_size), *shape)
    y = np.arange(batch_size) % network.output_shape(shape)[0]
    with blas_threads():
        steps: dict[tuple[str, int], Callable[[], object]] = {}
        for count in _counts(threads):
            for technique in TECHNIQUES:
                steps[technique, count] = _step(model, technique, x, y, count, plan=False)
            steps["plan", count] = _step(model, "batchlast", x, y, count, plan=True)
        found = medians(steps, seconds=seconds)
    macs = [layer.macs for layer in cost(network, shape)]
    first = next((each for each in macs if each), 0)  # its dx is not needed
    work = _Work(f"step, batch {batch_size}", batch_size, 2 * batch_size * (3 * sum(macs) - first))
    return work.timings(found)


def _step(model: str, technique: str, x: Array, y: Array, threads: int, *, plan: bool) -> Callable[[], float]:
    """A training step of a network of its own."""
    network, _ = _network(model)
    with kernels.use(technique):
        trainer = Trainer(network, SGD(network.pack(), RATE, momentum=0.9), threads=threads, plan=plan)
    return partial(_run, technique, partial(trainer.step, x, y))


def inference(model: str, *, batch_size: int = 64, threads: Sequence[int] = (1,), seconds: float = 0.5) -> list[Timing]:
    """The scores of a batch by a zoo network: layer by layer with im2col and batchlast, and by an `InferencePlan`.

    The layers have one thread. Arguments and errors are those of `training`.
    """
    positive("benchmark", "seconds", seconds)
    network, shape = _network(model)
    x = _images(integer("benchmark", "batch_size", batch_size), *shape)
    network.eval()
    with blas_threads():
        calls: dict[tuple[str, int], Callable[[], object]] = {
            (technique, 1): partial(_run, technique, partial(network.forward, x)) for technique in TECHNIQUES
        }
        for count in _counts(threads):
            calls["plan", count] = partial(_run, "batchlast", partial(InferencePlan(network, threads=count), x))
        found = medians(calls, seconds=seconds)
    flops = 2 * batch_size * sum(layer.macs for layer in cost(network, shape))
    return _Work(f"scores, batch {batch_size}", batch_size, flops).timings(found)


# Layers


class LayerTime(NamedTuple):
    """How long a layer takes for a batch, in milliseconds."""

    name: str
    layer: Layer
    forward: float
    backward: float


def by_layer(network: Layer, shape: Shape, *, batch_size: int = 64, seconds: float = 0.5) -> list[LayerTime]:
    """The medians of the forward and the backward of each layer in training, on one thread; `network` stays as it is.

    The first layer leaves out the gradient of the images, as in training. What is inside a layer counts as the layer's.

    Args:
        network: any; of a Sequential the layers directly inside it are timed.
        shape: of its input (C, H, W); the images are random.
        batch_size: of the images.
        seconds: for all together, about; a first round is not counted, three more are.

    Raises:
        ConfigError: a number is out of range.
        ShapeError: the network does not take such images.
    """
    positive("benchmark", "seconds", seconds)
    x = _images(integer("benchmark", "batch_size", batch_size), *shape)
    whole, rounds = deepcopy(network).train(), list[list[float]]()
    layers = (whole if isinstance(whole, Sequential) else Sequential(whole)).children()
    with blas_threads(), quiet():  # the gradients add up, round after round
        _round(layers, x)
        end = time.perf_counter() + seconds
        while len(rounds) < 3 or time.perf_counter() < end:
            rounds.append(_round(layers, x))
    found = 1e3 * np.median(rounds, axis=0).reshape(2, -1)
    return [LayerTime(*layer, *times) for layer, times in zip(layers, found.T.tolist(), strict=True)]


def _round(layers: Sequence[tuple[str, Layer]], x: Array) -> list[float]:
    """The seconds of each layer forward, then of each backward."""
    forward: list[float] = []
    for _, layer in layers:
        x, taken = _timed(partial(layer.forward, x))
        forward.append(taken)
    backward: list[float] = []
    for i, (_, layer) in reversed(list(enumerate(layers))):
        x, taken = _timed(partial(layer.backward, x, need_dx=i > 0))  # the scores, as a gradient, will do
        backward.append(taken)
    return forward + backward[::-1]
