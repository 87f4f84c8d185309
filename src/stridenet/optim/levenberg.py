"""Stochastic diagonal Levenberg-Marquardt: gradient descent in which each parameter has the step its curvature allows.

LeCun, Bottou, Orr and Mueller 1998, *Efficient BackProp*, section 9.1; LeCun et al. 1998, appendix C.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stridenet.layout import Array
from stridenet.nn.parameters import ParameterVector
from stridenet.optim.optimizers import SGD, DecayMode
from stridenet.optim.schedules import Schedule
from stridenet.shapes import number


class SDLM(SGD):
    """w -= lr / (mu + h) g, where h is an estimate of the second derivative of the loss by w.

    It is SGD whose `lr_scale` is 1 / (mu + h). The slot `curvature` has h, which somebody else estimates from time to
    time: `train.policies.CurvatureEstimate` before each epoch. Until then it is 0.

    Args:
        params: the packed network, `network.pack()`.
        lr: the learning rate, a number > 0 or a schedule of the step.
        mu: keeps the step small where the loss is nearly flat; in [1e-30, 1e30].
        weight_decay: as of every optimiser.
        decay_mode: as of every optimiser.

    Raises:
        ConfigError: `mu` is out of range, or as for every optimiser.

    >>> from stridenet.nn.parameters import Parameter
    >>> params = ParameterVector({"weight": Parameter(np.array([1.0, 1.0]))})
    >>> optimizer = SDLM(params, lr=0.1, mu=0.5)
    >>> optimizer.curvature = np.array([0.0, 1.5])
    >>> params.grad += 1.0
    >>> optimizer.step()
    >>> params.value
    array([0.8 , 0.95])
    """

    def __init__(
        self,
        params: ParameterVector,
        lr: float | Schedule,
        *,
        mu: float = 0.02,
        weight_decay: float = 0.0,
        decay_mode: DecayMode = "l2",
    ) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, decay_mode=decay_mode)
        self._mu = number("SDLM", "mu", mu, low=1e-30, high=1e30)
        self.curvature = np.zeros_like(params.value)

    @property
    def curvature(self) -> Array:
        """h (P,), each >= 0. Assign another estimate at any time."""
        return self._slots["curvature"]

    @curvature.setter
    def curvature(self, curvature: Array) -> None:
        self._slots["curvature"] = curvature.astype(self.params.value.dtype)
        self._lr_scale = self.params.lr_scale / (self._mu + self._slots["curvature"])

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """As of every optimiser; the steps follow from the curvature."""
        super().load_state_dict(state)
        self.curvature = self._slots["curvature"]
