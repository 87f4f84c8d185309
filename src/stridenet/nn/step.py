"""A plan: the program of a network for images of one shape, and a step, which runs it on a batch.

The blocks of a batch are shared out in slices that follow from the batch alone, and the gradients of the slices are
added in their order: the number of workers changes no bit.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from stridenet import layout
from stridenet.kernels.operation import NO_CLASS_TOO, Code
from stridenet.kernels.program import run
from stridenet.kernels.signals import begin
from stridenet.layout import Array
from stridenet.nn.arrays import check
from stridenet.nn.layer import Layer
from stridenet.nn.losses import NO_CLASS, Loss, check_classes, cross_entropy, map_criterion, shares_of
from stridenet.nn.lowering import NoPlanError, Program, Value, write
from stridenet.nn.nodes import Normalization, trace
from stridenet.nn.parameters import Parameter
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.workers import Workers
from stridenet.shapes import Shape, product

MUCH = 500_000  # numbers to add up, worth waking the workers again
MOST_SLICES = 8  # of a batch: so many workers can share it

_NO_TARGETS, NOTHING = np.zeros(1, np.int64), np.zeros(1, np.float32)


class Values:
    """The parameters that a program uses as one vector, and where each begins in it.

    It is the network's own vector, if that has them all; what is not trained is copied behind it.
    """

    def __init__(self, network: Layer) -> None:
        vectors = [p.vector for _, p in network.named_parameters() if p.trainable]
        one = vectors[0] if vectors and all(vector is vectors[0] for vector in vectors) else None
        self._trained = np.zeros(0, np.float32) if one is None else one.value
        self._places = {} if one is None else {p: one.slices[name].start for name, p in one.parameters.items()}
        self._others: list[Parameter] = []
        self._size = self._trained.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of those that are copied; the network's own vector cannot change its."""
        return self._others[0].value.dtype if self._others else self._trained.dtype

    def place(self, parameter: Parameter) -> int:
        """Where a parameter begins."""
        if parameter not in self._places:
            self._places[parameter] = self._size
            self._size += parameter.value.size
            self._others.append(parameter)
        return self._places[parameter]

    def array(self) -> Array:
        """The vector as it is now."""
        if not self._others:
            return self._trained
        return np.concatenate([self._trained, *(parameter.value.reshape(-1) for parameter in self._others)])


class Step:
    """What a plan needs to run on batches of one size again and again; nodes find their numbers here at the joins.

    Args:
        plan: what is run.
        images: N.
        workers: who shares the slices.
        slices: of the batch; in training it must follow from N alone.
        gradient: the network's (P,), which is added to; the slices but the first have one of their own.
    """

    def __init__(
        self, plan: Plan, images: int, workers: Workers, *, slices: int, gradient: Array | None = None
    ) -> None:
        program, lanes = plan.program, plan.program.lanes
        blocks = -(-images // lanes)
        self.plan, self.count = plan, images
        self.images = np.full(blocks, lanes, np.int64)  # of each block
        self.images[-1] = images - lanes * (blocks - 1)
        self.memory = layout.buffer((plan.memory(images, slices),))
        self.memory.fill(0)  # margins are zero and stay so
        self.sums = np.zeros((blocks, program.slots))
        self.scores = np.empty((images, plan.outputs), np.float32)
        self.labels: tuple[Array, Array | None] = _NO_TARGETS, None
        self._workers, self._even = workers, np.full(images, 1 / images, np.float32)
        own = [] if gradient is None else [np.empty_like(gradient) for _ in range(slices - 1)]
        self._gradients = [NOTHING] * slices if gradient is None else [gradient, *own]
        cuts = [s * blocks // slices for s in range(slices + 1)]
        step = program.size if program.joins else 0  # from one block's memory to the next's
        starts = [program.shared + (first if step else s) * program.size for s, first in enumerate(cuts[:-1])]
        self._where = [(*cut, lanes, images, start, step) for cut, start in zip(pairwise(cuts), starts, strict=True)]

    def infer(self, x: Array) -> Array:
        """The scores (N, K) of images x (N, C, H, W)."""
        self.scores = np.empty((self.count, self.plan.outputs), np.float32)
        self._run(x, _NO_TARGETS, NOTHING)
        return self.scores

    def train(self, x: Array, y: Array, weights: Array | None) -> float:
        """The loss of images x (N, C, H, W) with targets y and weights (N,) or None; adds to the gradient."""
        self.labels = y, weights
        if who := self.plan.criterion:
            check_classes(who, self.scores, y)
            shares = self._even if weights is None else shares_of(who, self.scores, weights)
            targets = np.require(y, np.int64, ["C", "A", "W"])  # read-only would be another type to the compiler
            self._run(x, targets, shares)
        else:
            self._run(x, _NO_TARGETS, NOTHING)
        return sum(self.sums[:, 0].tolist())

    def _run(self, x: Array, targets: Array, shares: Array) -> None:
        """Every phase for all slices, what joins them, and the sum of their gradients."""
        plan, program, workers = self.plan, self.plan.program, self._workers
        memory, values = (self.memory,) * 3, plan.values.array()
        batch = *_numbers(x.reshape(self.count, *plan.shape)), self.scores, targets, shares, self.sums, workers.turns
        for prepare in program.prepare:
            prepare(self)
        for i, ops in enumerate(program.phases):
            if i:
                program.joins[i - 1](self)
            workers.run(
                [
                    partial(_run_slice, i > 0 or s == 0, own, ops, plan.tables, memory, values, own, *batch, where)
                    for s, (own, where) in enumerate(zip(self._gradients, self._where, strict=True))
                ]
            )
        first, *others = self._gradients
        if others and first is not NOTHING:
            count = workers.count if first.size * len(others) >= MUCH else 1
            cuts = [s * first.size // count for s in range(count + 1)]
            parts = [slice(*cut) for cut in pairwise(cuts)]
            workers.run([partial(_add_up, workers.turns, first[part], [own[part] for own in others]) for part in parts])


def _run_slice(begun: bool, gradient: Array, *arguments: Any) -> None:
    if not begun:
        gradient.fill(0)
    run(*arguments)


def _add_up(turns: Array, total: Array, others: list[Array]) -> None:
    begin(turns)
    for other in others:
        total += other


def _numbers(x: Array) -> tuple[Array, tuple[int, ...]]:
    """The numbers of a batch (N, C, H, W) in the order of their memory, and the steps along each axis."""
    inner = x.transpose(1, 2, 3, 0)
    if inner.flags.carray:  # contiguous, aligned, and not read-only, which would be another type to the compiler
        flat = inner.reshape(-1)
    else:
        x = x if x.flags.carray else x.copy(order="C")
        flat = x.reshape(-1)
    return flat, tuple([stride // 4 for stride in x.strides])


class Plan:
    """The program of a network for images of one shape.

    Raises:
        NoPlanError: there is none.
    """

    def __init__(self, network: Layer, shape: Shape, loss: Loss | None, *, lanes: int) -> None:
        self.values, self.loss = Values(network), loss
        compiled = [each for each in (cross_entropy, map_criterion) if each is loss]
        self.criterion = compiled[0].__name__ if compiled else ""  # the loss, if the program has it
        self._modal = [layer for layer in network.walk() if isinstance(layer, BatchNorm2d) or layer is network]
        self.program = p = Program(self.values.place, lanes=lanes, training=loss is not None)
        x = Value(shape if len(shape) == 3 else p.vector(shape[0]))
        nodes, y = trace(p, [network], x)
        self.outputs = product(y.shape)
        if y.shape != p.vector(self.outputs) or len(network.output_shape(shape)) != 1:
            raise NoPlanError("scores that are no vector")
        frame = x.allocate(p)
        self.shape = C, H, W = frame.shape  # of an image, or of a vector as one
        at = dict(y=frame.start, y_channel=frame.channel, y_row=frame.row, z=p.mask, count=lanes)
        p.emit(Code.LOAD, **at, channels=C, rows=H, columns=W)
        for node in nodes:
            node.forward(p)
        scores = dict(x=y.frame.start, channels=self.outputs, count=lanes)
        if loss is None:
            p.emit(Code.STORE, **scores)
        else:
            dy = p.borrow(y.shape)
            if loss is cross_entropy:
                p.emit(Code.CROSS_ENTROPY, **scores, y=dy.start)
            elif loss is map_criterion:
                place, nothing = p.for_all(1), np.array([-NO_CLASS], np.float32)
                p.prepare.append(lambda step: write(step, place, nothing))
                p.emit(Code.CROSS_ENTROPY, **scores, y=dy.start, w=place, extras=NO_CLASS_TOO)
            else:
                p.emit(Code.STORE, **scores)
                p.join(partial(_judge, loss))
                p.emit(Code.LOAD_GRADIENT, y=dy.start, channels=self.outputs, count=lanes)
            y.gradients.append(dy)
            for node in reversed(nodes):
                if node.y.wanted:
                    node.backward(p)
        self._fewest = min([product(node.x.shape[1:]) for node in nodes if isinstance(node, Normalization)], default=2)
        p.finish()
        self.tables = p.tables()

    def holds(self, images: int) -> bool:
        """Whether the layers are in the mode that it was made for, and there is more than one number to normalise."""
        training = self.loss is not None
        for layer in self._modal:
            if layer.training != training:
                return False
        return self.values.dtype == np.float32 and (not self.program.joins or images * self._fewest > 1)

    def memory(self, images: int, slices: int) -> int:
        """The numbers in the memory of a step: of one block for each slice, or of all blocks where they meet."""
        blocks = -(-images // self.program.lanes) if self.program.joins else slices
        return self.program.shared + blocks * self.program.size

    def step_bytes(self, images: int, slices: int) -> int:
        """What a step on so many images takes, but for the gradients of the slices."""
        return 4 * (self.memory(images, slices) + 3 * images * self.outputs)


def slices_of(images: int, lanes: int) -> int:
    """How many slices a batch has: it follows from the batch alone."""
    blocks = -(-images // lanes)
    return min(blocks, MOST_SLICES, max(2, blocks // 2))


def _judge(loss: Loss, step: Step) -> None:
    """Any loss, at a join: the scores become their gradient."""
    step.sums[:, 0] = 0
    step.sums[0, 0], dscores = loss(step.scores.copy(), *step.labels)
    check("loss", "dscores", dscores, step.scores.shape, step.scores)
    step.scores[...] = dscores
