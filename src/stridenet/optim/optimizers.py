"""Optimisers: each turns the flat gradient into a step of the flat parameter vector, in place.

Three ways to decay the weights w by lambda; `decay` of the vector, 1 or 0, says which of them decay at all:

    "l2"         the gradient gets + lambda w, before momentum or moments see it
    "decoupled"  w -= lr lambda w before the step (AdamW: Loshchilov and Hutter 2019)
    "constant"   w -= lambda w before the step, whatever the learning rate
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from stridenet.errors import CheckpointMismatchError, ConfigError
from stridenet.layout import Array
from stridenet.nn.parameters import ParameterVector
from stridenet.optim.schedules import Schedule, constant, positive
from stridenet.shapes import choice, number

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
        self.t = 0
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
        return number(self._who, "lr", self._lr(self.t), low=0.0, high=math.inf)

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
        if nesterov and (averaging or momentum == 0):
            raise ConfigError(
                f"SGD: expected nesterov with momentum > 0 and without averaging, got momentum={momentum!r} and"
                f" averaging={averaging!r}"
            )
        self._momentum = _share_schedule("SGD", "momentum", momentum)
        self._nesterov, self._averaging = nesterov, averaging
        if momentum != 0:
            self._slots["velocity"] = np.zeros_like(params.value)

    def _direction(self, gradient: Array, out: Array) -> Array:
        velocity = self._slots.get("velocity")
        if velocity is None:
            return gradient
        momentum = _share("SGD", "momentum", self._momentum(self.t))
        velocity *= momentum
        velocity += np.multiply(gradient, 1.0 - momentum, out=out) if self._averaging else gradient
        if not self._nesterov:
            return velocity
        np.multiply(velocity, momentum, out=out)
        out += gradient
        return out


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): the gradient's running mean over the root of its running mean square.

    At step t = 1, 2, ...: m = b1 m + (1 - b1) g, s = b2 s + (1 - b2) g^2,
    w -= lr m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps). b1 may be a schedule; the correction then takes its
    present value to the power t, as PyTorch does. `decay_mode="decoupled"` makes it AdamW.

    Raises:
        ConfigError: a beta is outside [0, 1), `eps` is not > 0, or as for every optimiser.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float | Schedule, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        if not isinstance(betas, tuple | list) or len(betas) != 2:  # pyright: ignore[reportUnnecessaryComparison, reportUnnecessaryIsInstance]
            raise ConfigError(f"Adam: expected betas to be two numbers in [0, 1), got {betas!r}")
        self._beta1 = _share_schedule("Adam", "betas[0]", betas[0])
        self._beta2 = _share("Adam", "betas[1]", betas[1])
        self._eps = positive("Adam", "eps", eps)
        self._slots["mean"] = np.zeros_like(params.value)
        self._slots["mean_square"] = np.zeros_like(params.value)

    def _direction(self, gradient: Array, out: Array) -> Array:
        mean, mean_square = self._slots["mean"], self._slots["mean_square"]
        beta1, beta2 = _share("Adam", "betas[0]", self._beta1(self.t)), self._beta2
        mean *= beta1
        mean += np.multiply(gradient, 1.0 - beta1, out=out)
        mean_square *= beta2
        np.multiply(gradient, gradient, out=out)
        mean_square += np.multiply(out, 1.0 - beta2, out=out)

        correction1, correction2 = 1.0 - beta1 ** (self.t + 1), 1.0 - beta2 ** (self.t + 1)
        np.sqrt(mean_square, out=out)
        out *= correction1 / math.sqrt(correction2)  # correction1 is a factor of the whole denominator
        out += correction1 * self._eps
        return np.divide(mean, out, out=out)


def _share(who: str, name: str, value: float) -> float:
    return number(who, name, value, low=0.0, high=1.0, open_high=True)


def _share_schedule(who: str, name: str, value: float | Schedule) -> Schedule:
    return value if callable(value) else constant(_share(who, name, value))
