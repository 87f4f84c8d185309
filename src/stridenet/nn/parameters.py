"""Parameters, and the two flat vectors that hold all of a network's values and gradients.

A network is packed once: its parameters become views into one contiguous vector of values and one of gradients. An
optimiser, gradient clipping, an average over machines and a checkpoint then each touch one array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.shapes import number


class Parameter:
    """An array that a layer owns, and its gradient of the same shape.

    Args:
        value: the start value; float32 or float64.
        trainable: False for running statistics and frozen layers: outside the flat vector, inside `state_dict`.
        decay: whether weight decay applies; biases have none.
        lr_scale: factor on the learning rate of this parameter.
    """

    def __init__(self, value: Array, *, trainable: bool = True, decay: bool = True, lr_scale: float = 1.0) -> None:
        self.value = value
        self.grad = np.zeros_like(value)
        self.trainable, self.decay, self.lr_scale = trainable, decay, lr_scale
        self.vector: ParameterVector | None = None

    def add_grad(self, gradient: Array | None) -> None:
        """Add to the gradient, if the parameter is trained."""
        if self.trainable:
            self.grad += gradient

    def astype(self, dtype: npt.DTypeLike) -> None:
        """Change the type of value and gradient.

        Raises:
            ConfigError: `dtype` is not float32 or float64, or the network is packed already.
        """
        if np.dtype(dtype).str not in (np.dtype(np.float32).str, np.dtype(np.float64).str):
            raise ConfigError(f"Parameter.astype: expected float32 or float64, got {np.dtype(dtype)}")
        if self.vector is not None:
            raise ConfigError("Parameter.astype: expected a network that is not packed yet; call astype before pack")
        self.value, self.grad = self.value.astype(dtype), self.grad.astype(dtype)

    def __getstate__(self) -> dict[str, Any]:
        # A copied view would no longer be one: copies and pickles start unpacked.
        return {**self.__dict__, "value": self.value.copy(), "grad": self.grad.copy(), "vector": None}

    def __repr__(self) -> str:
        return f"Parameter(shape={self.value.shape}, dtype={self.value.dtype})"


class ParameterVector:
    """All trainable parameters of a network as one vector of P numbers.

    `value`, `grad`, `decay` (1 where weight decay applies, else 0) and `lr_scale` have shape (P,) and one dtype;
    `slices` maps each name to its part, `parameters` to its Parameter. The `value` and `grad` of the given parameters
    become views of it.

    Raises:
        ConfigError: the parameters have several dtypes, or one is in a vector already.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = dict(parameters)
        self.slices: dict[str, slice] = {}
        size, dtypes = 0, {p.value.dtype for p in parameters.values()}
        if len(dtypes) > 1:
            raise ConfigError(f"ParameterVector: expected one dtype, got {sorted(map(str, dtypes))}; use astype")
        for name, parameter in parameters.items():
            if parameter.vector is not None:
                raise ConfigError(
                    f"ParameterVector: expected parameters that are in no vector yet, got {name!r} which is;"
                    " pack the whole network first, not a part of it"
                )
            self.slices[name] = slice(size, size + parameter.value.size)
            size += parameter.value.size
        dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
        self.value, self.grad = np.empty(size, dtype), np.empty(size, dtype)
        self.decay, self.lr_scale = np.empty(size, dtype), np.empty(size, dtype)
        for name, parameter in parameters.items():
            self._adopt(parameter, self.slices[name])

    def _adopt(self, parameter: Parameter, part: slice) -> None:
        shape = parameter.value.shape
        self.value[part], self.grad[part] = parameter.value.ravel(), parameter.grad.ravel()
        self.decay[part], self.lr_scale[part] = float(parameter.decay), parameter.lr_scale
        parameter.value, parameter.grad = self.value[part].reshape(shape), self.grad[part].reshape(shape)
        parameter.vector = self

    def __len__(self) -> int:
        return self.value.size

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        self.grad.fill(0)

    def clip_grad(self, norm: float) -> float:
        """Scale the gradient so that its Euclidean norm is at most `norm`; the norm before that is returned.

        Raises:
            ConfigError: `norm` is not a finite number >= 0.
        """
        norm = number("clip_grad", "norm", norm, low=0.0, high=float("inf"))
        before = float(np.sqrt(np.einsum("i,i->", self.grad, self.grad, dtype=np.float64)))  # no float64 copy
        if before > norm:
            self.grad *= norm / before
        return before
