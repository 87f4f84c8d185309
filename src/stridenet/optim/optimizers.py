"""Optimisers: each turns the flat gradient into a step of the flat parameter vector, in place.

Here are what all share, and SGD; those that scale the step of each parameter by itself are in `adaptive`.

Three ways to decay the weights w by lambda; `decay` of the vector, 1 or 0, says which of them decay at all:

    "l2"         the gradient gets + lambda w, before momentum or moments see it
    "decoupled"  w -= lr lambda w before the step (Loshchilov and Hutter 2019)
    "constant"   w -= lambda w before the step, whatever the learning rate
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from stridenet import kernels
from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.layout import Array
from stridenet.nn.parameters import ParameterVector
from stridenet.optim.schedules import Schedule, constant
from stridenet.shapes import choice, flag, fraction, number, positive

DecayMode = Literal["l2", "decoupled", "constant"]


class Optimizer(ABC):
    """What all optimisers share: the step number, the learning rate, the decay, and their saved state.

    A subclass keeps its memory, the slots, in arrays of shape (P,) like the parameters, and says where to go.
    `decay` and `lr_scale` of the vector are read once, here. `lr_scale` is a factor on a parameter's learning
    rate: on its step and on its decoupled decay.

    Args:
        params: the packed network, `network.pack()`.
        lr: the learning rate, a number > 0 or a schedule of the step.
        weight_decay: lambda, 0 for none.
        decay_mode: where lambda acts, see the module.

    Raises:
        ConfigError: an argument is not allowed.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        who = self._who = type(self).__name__
        if not isinstance(params, ParameterVector):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(params).__name__
            raise ConfigError(f"{who}: expected params to be a ParameterVector, got {kind}; use network.pack()")
        strength = number(who, "weight_decay", weight_decay, low=0.0, high=math.inf)
        self.params = params
        self.lr = lr
        self.t: int = 0
        self.lr_factor = 1.0  # on the schedule; what sets it knows it again after a resume
        self._slots: dict[str, Array] = {}
        self._update = np.empty_like(params.value)
        self._lr_scale = None if np.all(params.lr_scale == 1) else params.lr_scale.copy()
        self._decay_mode = choice(f"{who}.decay_mode", decay_mode, get_args(DecayMode))
        self._decay = strength * params.decay if strength else None
        self._decay_term = np.empty(len(params) if strength else 0, params.value.dtype)
        if self._decay is not None and decay_mode == "decoupled":
            self._decay *= params.lr_scale

    @property
    def lr(self) -> Schedule:
        """The schedule of the learning rate. Assign a number or a schedule at any time: the slots stay."""
        return self._lr

    @lr.setter
    def lr(self, lr: float | Schedule) -> None:
        self._lr = lr if callable(lr) else constant(positive(self._who, "lr", lr))

    @property
    def current_lr(self) -> float:
        """The learning rate of the next step.

        Raises:
            ConfigError: the schedule gives no finite number >= 0.
        """
        return number(self._who, "lr", self.lr_factor * self._lr(self.t), low=0.0, high=math.inf)

    def step(self) -> None:
        """Move the parameters once along their gradient, which stays as it is, and count the step."""
        lr, value = self.current_lr, self.params.value
        gradient = self.params.grad if self._decay is None else self._decayed(self._decay, lr)
        update = np.multiply(self._direction(gradient, self._update), lr, out=self._update)
        if self._lr_scale is not None:
            update *= self._lr_scale
        value -= update
        self.t += 1

    def _decayed(self, decay: Array, lr: float) -> Array:
        """The gradient to follow, once the decay has been added to it ("l2") or taken off the weights."""
        value, gradient = self.params.value, self.params.grad
        term = np.multiply(decay, value, out=self._decay_term)
        if self._decay_mode == "l2":
            term += gradient
            return term
        if self._decay_mode == "decoupled":
            term *= lr
        value -= term
        return gradient

    @abstractmethod
    def _direction(self, gradient: Array, out: Array) -> Array:
        """The step (P,) at a learning rate of 1: `gradient`, a slot, or `out` filled. Updates the slots."""

    def _fraction(self, name: str, value: float | Schedule) -> Schedule:
        """`value` as a schedule whose values are checked, now or step by step, to be in [0, 1)."""
        if callable(value):
            return lambda step: fraction(self._who, name, value(step))
        return constant(fraction(self._who, name, value))

    def state_dict(self) -> dict[str, Array]:
        """All that a resumed run needs: copies of the slots, and "t", the steps done (int64, 0-d)."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a state of `state_dict`, all of it or nothing.

        Raises:
            CheckpointMismatchError: names, shapes or types differ from this optimiser's, or "t" is negative.
        """
        who, own = f"{self._who}.load_state_dict", self._state()
        if state.keys() != own.keys():
            raise CheckpointMismatchError(f"{who}: expected the entries {sorted(own)}, got {sorted(state)}")
        for name, mine in own.items():
            given = state[name]
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise CheckpointMismatchError(
                    f"{who}: expected {name} of shape {mine.shape} and type {mine.dtype}, got {given.shape} and"
                    f" {given.dtype}"
                )
        if state["t"] < 0:
            raise CheckpointMismatchError(f"{who}: expected t >= 0, got {state['t']}")
        self.t = int(state["t"])
        for name, slot in self._slots.items():
            slot[...] = state[name]

    def _state(self) -> dict[str, Array]:
        return {**self._slots, "t": np.array(self.t, np.int64)}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum m in PyTorch's form: v = m v + g, w -= lr v.

    `nesterov` steps along g + m v instead of v. `averaging` makes v a mean of gradients, v = m v + (1 - m) g:
    the same path at a learning rate 1 / (1 - m) times as large. The velocity holds no learning rate, so that a
    change of the one leaves the other alone.

    >>> from stridenet.nn.parameters import Parameter, ParameterVector
    >>> weight = Parameter(np.array([1.0, 2.0]))
    >>> optimizer = SGD(ParameterVector({"weight": weight}), lr=0.5)
    >>> weight.grad += 1.0
    >>> optimizer.step()
    >>> weight.value
    array([0.5, 1.5])

    Raises:
        ConfigError: `momentum` is outside [0, 1), `nesterov` comes with averaging or without momentum, or as for
            every optimiser.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule,
        *,
        momentum: float | Schedule = 0.0,
        nesterov: bool = False,
        averaging: bool = False,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        self._nesterov, self._averaging = flag("SGD", "nesterov", nesterov), flag("SGD", "averaging", averaging)
        if nesterov and (averaging or momentum == 0):
            raise ConfigError(
                f"SGD: expected nesterov with momentum > 0 and without averaging, got momentum={momentum!r} and"
                f" averaging={averaging!r}"
            )
        self._momentum = self._fraction("momentum", momentum)
        if momentum != 0:
            self._slots["velocity"] = np.zeros_like(params.value)

    def step(self) -> None:
        """As of every optimiser; the compiled kernels take one pass over a float32 vector, to the same bits."""
        if kernels.resolve() != "batchlast" or self.params.value.dtype != np.float32:
            super().step()
            return
        from stridenet.kernels import update

        lr, momentum = self.current_lr, self._momentum(self.t)
        share, rate = 1.0 - momentum if self._averaging else 1.0, lr if self._decay_mode == "decoupled" else 1.0
        vectors = self.params.value, self.params.grad, self._slots.get("velocity"), self._decay, self._lr_scale
        update.sgd(*vectors, lr, momentum, share, rate, self._decay_mode == "l2", self._nesterov)
        self.t += 1

    def _direction(self, gradient: Array, out: Array) -> Array:
        velocity = self._slots.get("velocity")
        if velocity is None:
            return gradient
        momentum = self._momentum(self.t)
        velocity *= momentum
        velocity += np.multiply(gradient, 1.0 - momentum, out=out) if self._averaging else gradient
        if not self._nesterov:
            return velocity
        np.multiply(velocity, momentum, out=out)
        out += gradient
        return out
