"""Optimisers that scale the step of each parameter by the size of its own gradients.

Each is PyTorch's: its form, its names and its defaults. g is the gradient, t = 1, 2, ... the step, and all operations
are element by element.
"""

from __future__ import annotations

import math

import numpy as np

from stridenet.errors import ConfigError, shown
from stridenet.layout import Array
from stridenet.nn.parameters import ParameterVector
from stridenet.optim.optimizers import DecayMode, Optimizer
from stridenet.optim.schedules import Schedule
from stridenet.shapes import flag, fraction, number, positive


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): the gradient's running mean over the root of its running mean square.

    m = b1 m + (1 - b1) g, s = b2 s + (1 - b2) g^2, w -= lr m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps).
    b1 may be a schedule; the correction then takes its present value to the power t, as PyTorch does.

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
            raise ConfigError(f"{self._who}: expected betas to be two numbers in [0, 1), got {shown(betas)}")
        self._beta1 = self._fraction("betas[0]", betas[0])
        self._beta2 = fraction(self._who, "betas[1]", betas[1])
        self._eps = positive(self._who, "eps", eps)
        self._slots["mean"] = np.zeros_like(params.value)
        self._slots["mean_square"] = np.zeros_like(params.value)

    def _direction(self, gradient: Array, out: Array) -> Array:
        mean, mean_square = self._slots["mean"], self._slots["mean_square"]
        beta1, beta2 = self._beta1(self.t), self._beta2
        _average(mean, beta1, gradient, out)
        _average(mean_square, beta2, np.multiply(gradient, gradient, out=out), out)

        correction1, correction2 = 1.0 - beta1 ** (self.t + 1), 1.0 - beta2 ** (self.t + 1)
        np.sqrt(mean_square, out=out)
        out *= correction1 / math.sqrt(correction2)  # correction1 is a factor of the whole denominator
        out += correction1 * self._eps
        return np.divide(mean, out, out=out)


class AdamW(Adam):
    """AdamW (Loshchilov and Hutter 2019): w -= lr lambda w, then the step of Adam, which sees no decay.

    It is `Adam(..., decay_mode="decoupled")`, and decays unless told otherwise.

    Raises:
        ConfigError: as for Adam.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule = 1e-3,
        *,
        betas: tuple[float | Schedule, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay, decay_mode="decoupled")


class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e): the gradient over the root of its running mean square.

    s = alpha s + (1 - alpha) g^2, w -= lr g / (sqrt(s) + eps). `centered` takes the running variance in place of s
    (Graves 2013), with the running mean m of the gradient: d = g - m, m += (1 - alpha) d,
    s = alpha (s + (1 - alpha) d^2). That is PyTorch's mean square less squared mean, but never falls below zero.
    With `momentum` mu, v = mu v + g / (sqrt(s) + eps) and w -= lr v.

    Raises:
        ConfigError: `alpha` or `momentum` is outside [0, 1), `eps` is not > 0, or as for every optimiser.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float | Schedule = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        self._alpha = fraction(self._who, "alpha", alpha)
        self._eps = positive(self._who, "eps", eps)
        self._momentum = self._fraction("momentum", momentum)
        if flag(self._who, "centered", centered):
            self._slots["variance"] = np.zeros_like(params.value)
            self._slots["mean"] = np.zeros_like(params.value)
        else:
            self._slots["mean_square"] = np.zeros_like(params.value)
        if momentum != 0:
            self._slots["velocity"] = np.zeros_like(params.value)

    def _direction(self, gradient: Array, out: Array) -> Array:
        momentum, velocity = self._momentum(self.t), self._slots.get("velocity")
        np.sqrt(self._spread(gradient, out), out=out)
        out += self._eps
        np.divide(gradient, out, out=out)
        if velocity is None:
            return out
        velocity *= momentum
        velocity += out
        return velocity

    def _spread(self, gradient: Array, work: Array) -> Array:
        """The running mean square, or variance, of the gradients with this one."""
        mean, rest = self._slots.get("mean"), 1.0 - self._alpha
        if mean is None:
            mean_square = self._slots["mean_square"]
            _average(mean_square, self._alpha, np.multiply(gradient, gradient, out=work), work)
            return mean_square
        variance = self._slots["variance"]
        np.subtract(gradient, mean, out=work)
        work *= rest
        mean += work
        np.multiply(work, work, out=work)  # ((1 - alpha) d)^2
        variance += np.divide(work, rest, out=work)
        variance *= self._alpha
        return variance


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011): the gradient over the root of the sum of all its squares.

    s += g^2, w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps), with s = `initial_accumulator_value` at first.
    `current_lr` has the decay of the learning rate in it, and so has what depends on it.

    Raises:
        ConfigError: `lr_decay` or `initial_accumulator_value` is not a finite number >= 0, `eps` is not > 0, or as
            for every optimiser.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule = 1e-2,
        *,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        self._lr_decay = number(self._who, "lr_decay", lr_decay, low=0.0, high=math.inf)
        start = number(self._who, "initial_accumulator_value", initial_accumulator_value, low=0.0, high=math.inf)
        self._eps = positive(self._who, "eps", eps)
        self._slots["sum_of_squares"] = np.full_like(params.value, start)

    @property
    def current_lr(self) -> float:
        """The learning rate of the next step, its decay included."""
        return super().current_lr / (1.0 + self.t * self._lr_decay)

    def _direction(self, gradient: Array, out: Array) -> Array:
        total = self._slots["sum_of_squares"]
        total += np.multiply(gradient, gradient, out=out)
        np.sqrt(total, out=out)
        out += self._eps
        return np.divide(gradient, out, out=out)


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): steps as large as those before, measured in gradients as large as those before.

    s = rho s + (1 - rho) g^2, d = sqrt(u + eps) / sqrt(s + eps) g, u = rho u + (1 - rho) d^2, w -= lr d.

    Raises:
        ConfigError: `rho` is outside [0, 1), `eps` is not > 0, or as for every optimiser.
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule = 1.0,
        *,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        self._rho = fraction(self._who, "rho", rho)
        self._eps = positive(self._who, "eps", eps)
        self._work = np.empty_like(params.value)
        self._slots["mean_square"] = np.zeros_like(params.value)
        self._slots["mean_square_step"] = np.zeros_like(params.value)

    def _direction(self, gradient: Array, out: Array) -> Array:
        mean_square, mean_square_step = self._slots["mean_square"], self._slots["mean_square_step"]
        work = self._work
        _average(mean_square, self._rho, np.multiply(gradient, gradient, out=work), work)
        np.add(mean_square_step, self._eps, out=out)
        out /= np.add(mean_square, self._eps, out=work)
        np.sqrt(out, out=out)
        out *= gradient
        _average(mean_square_step, self._rho, np.multiply(out, out, out=work), work)
        return out


def _average(mean: Array, share: float, value: Array, work: Array) -> None:
    """mean = share mean + (1 - share) value, in place; `work` may be `value`."""
    mean *= share
    mean += np.multiply(value, 1.0 - share, out=work)
