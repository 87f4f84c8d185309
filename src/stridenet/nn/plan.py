"""The fast way through a network: as a program over one memory, beside the layers that say what is computed.

A plan gives what the layers give, to rounding, and knows them; they do not know of it. What has no plan goes through
the layers: other kernels than batchlast, float64, and networks with a layer that `nodes` has nothing for. The program
itself, and with it the compiler, is loaded when the first plan is made.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stridenet import kernels
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss
from stridenet.nn.objective import LayerByLayer, Sliced
from stridenet.shapes import Shape, integer

if TYPE_CHECKING:
    from stridenet.nn.step import Plan, Step
    from stridenet.nn.workers import Workers

SIZES = 4  # of batches, whose memory an InferencePlan keeps
FEW = 4  # images that are faster one by one than in registers mostly empty


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Plans:
    """The plans of a network, made when images of a shape first come, and who works on them."""

    def __init__(self, network: Layer, loss: Loss | None, threads: int) -> None:
        self._network, self._loss, self._threads = network, loss, threads
        self._made: dict[tuple[Shape, bool], Plan | None] = {}

    @cached_property
    def workers(self) -> Workers:
        """The threads that share the slices of a batch."""
        from stridenet.nn.workers import Workers

        return Workers(self._threads)

    def find(self, x: Array) -> Plan | None:
        """The plan for a batch like x, if there is one: for few images one by one, else by the register."""
        shape, few = x.shape[1:], len(x) <= FEW
        if kernels.resolve() != "batchlast" or x.dtype != np.float32 or not len(x) or len(shape) not in (1, 3):
            return None
        if (shape, few) not in self._made:
            self._made[shape, few] = self._make(shape, few)
        plan = self._made[shape, few]
        return plan if plan is not None and plan.holds(len(x)) else None

    def _make(self, shape: Shape, few: bool) -> Plan | None:
        from stridenet.kernels.operation import LANES
        from stridenet.nn.lowering import NoPlanError
        from stridenet.nn.step import Plan

        if any(parameter.value.dtype != np.float32 for _, parameter in self._network.named_parameters()):
            return None
        try:
            self._network.output_shape(shape)
        except ShapeError:  # the layers say what is wrong
            return None
        for lanes in [1, LANES] if few else [LANES, 1]:  # a network may have one kind only
            try:
                return Plan(self._network, shape, self._loss, lanes=lanes)
            except NoPlanError:
                continue
        return None


class TrainingPlan(LayerByLayer):
    """Loss and gradient by a plan where there is one, else by `layers`.

    Args:
        network: packed, or not yet.
        loss: cross_entropy and map_criterion are part of the program; any other is taken between forward and backward.
        layers: what does it where there is no plan: other kernels than batchlast, float64, a layer that no node
            stands for.
        threads: workers that share a batch; no bit depends on it.
    """

    def __init__(self, network: Layer, loss: Loss, layers: LayerByLayer, *, threads: int = 1) -> None:
        super().__init__(network, loss)
        self.params, self.threads = network.pack(), threads
        self._layers, self._plans = layers, _Plans(network, loss, threads)
        self._steps: dict[tuple[Shape, int], Step] = {}

    def loss_and_gradient(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """As of LayerByLayer, to rounding."""
        plan = self._plans.find(x)
        if plan is None:
            return self._layers.loss_and_gradient(x, y, weights)
        return self._step(plan, x).train(x, y, weights)

    def at_once(self, n: int) -> int:
        """How many images of a batch of `n` are in the network at the same time, without a plan."""
        return self._layers.at_once(n)

    def step_bytes(self, x: Array, n: int) -> int | None:
        """What a step on `n` images like x takes by a plan; None where there is none."""
        from stridenet.nn.step import slices_of

        plan = self._plans.find(x)
        if plan is None:
            return None
        slices = slices_of(n, plan.program.lanes)
        return plan.step_bytes(n, slices) + (slices - 1) * self.params.grad.nbytes

    def _step(self, plan: Plan, x: Array) -> Step:
        """The step for a batch of this size, kept for the next one; two are kept, for a smaller last batch."""
        from stridenet.nn.step import Step, slices_of

        key = x.shape[1:], len(x)
        if key not in self._steps:
            while len(self._steps) > 1:
                del self._steps[next(iter(self._steps))]
            slices = slices_of(len(x), plan.program.lanes)
            self._steps[key] = Step(plan, len(x), self._plans.workers, slices=slices, gradient=self.params.grad)
        return self._steps[key]


class InferencePlan:
    """The scores of a network in evaluation, at full speed; any number of threads may call it at the same time.

    Args:
        network: in evaluation mode; its parameters are those of the moment of a call.
        threads: workers for a call; a call that finds them busy does all by itself.

    Raises:
        ConfigError: `threads` is out of range.
    """

    def __init__(self, network: Layer, *, threads: int = 1) -> None:
        self.network, self.threads = network, integer("InferencePlan", "threads", threads)
        self._plans = _Plans(network, None, self.threads)
        self._lock = threading.Lock()
        self._free: dict[tuple[Plan, int], list[Step]] = {}  # not at work now

    def __call__(self, x: Array) -> Array:
        """The scores (N, K) of images x (N, C, H, W), of the network's type, in any memory order.

        Raises:
            ConfigError: the network is in training mode.
            ShapeError: x does not fit.
        """
        if self.network.training:
            raise ConfigError("InferencePlan: expected a network in evaluation mode, got one in training; call eval()")
        plan = self._plans.find(x)
        if plan is None:
            return self.network.forward(x)
        free = self._free.get((plan, len(x)))
        if free is None:
            free = self._room_for(plan, len(x))
        try:
            step = free.pop()
        except IndexError:  # others are at work on all there are
            step = self._step(plan, len(x))
        scores = step.infer(x)
        free.append(step)
        return scores

    def _room_for(self, plan: Plan, n: int) -> list[Step]:
        """Where steps for batches of this size wait for work; a few sizes are kept, the oldest goes."""
        with self._lock:
            while len(self._free) >= SIZES and (plan, n) not in self._free:
                del self._free[next(iter(self._free))]
            return self._free.setdefault((plan, n), [])

    def _step(self, plan: Plan, n: int) -> Step:
        from stridenet.nn.step import Step

        return Step(plan, n, self._plans.workers, slices=min(self.threads, -(-n // plan.program.lanes)))

    def step_bytes(self, x: Array, n: int) -> int | None:
        """What a call with `n` images like x takes by a plan; None where there is none."""
        plan = self._plans.find(x)
        return None if plan is None else plan.step_bytes(n, self.threads)

    def __getstate__(self) -> dict[str, Any]:
        return {"network": self.network, "threads": self.threads}  # a copy makes threads and memory of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        InferencePlan.__init__(self, **state)


def best_objective(network: Layer, loss: Loss, *, threads: int = 1, plan: bool = True) -> LayerByLayer:
    """A plan over layers in slices, if the network allows that, and layer by layer where `plan` is False."""
    whole = any(layer.whole_batch for layer in network.walk())
    layers = LayerByLayer(network, loss) if whole else Sliced(network, loss, threads=threads)
    return TrainingPlan(network, loss, layers, threads=threads) if plan else layers
