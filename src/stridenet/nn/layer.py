"""The base of all layers: thin objects that own parameters and what one forward saves for its backward.

The mathematics is in `functional`. A layer keeps `saved` only while training; in evaluation a forward changes
nothing, so that one network may predict in many threads.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stridenet.communicator import Communicator
from stridenet.errors import ConfigError, ShapeError, WeightsMismatchError
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.shapes import Shape


@contextmanager
def speaking_as(layer: Layer) -> Generator[None]:
    """Let a ShapeError from below name the layer instead of the function."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{layer!r}: {str(error).partition(': ')[2]}") from None


def _form(value: Array) -> str:
    known = isinstance(value, np.ndarray)  # pyright: ignore[reportUnnecessaryIsInstance]
    return f"{value.shape} {value.dtype}" if known else type(value).__name__


class Layer(ABC):
    """What every layer can do. Shapes given to `output_shape` leave the batch axis out."""

    training = True
    frozen = False
    whole_batch = False  # whether an image's output depends on the others of its batch, or on its place there
    saved: Any = None

    def __init__(self) -> None:  # noqa: B027
        """A layer without arguments. Without this method `spec` would find that out by compiling a text.

        `inspect.signature` does so for a class that has only the `__init__` of `object`, and a model file, whose
        layers are made by their signatures, must never cause code to be compiled.
        """

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """The output of the layer; in training it also keeps what `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array, *, need_dx: bool = True) -> Array | None:
        """dx from dy; adds to the gradients of the parameters and frees what was kept.

        With `need_dx=False` a layer may leave dx out and return None.
        """

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """The output's shape for an input of `input_shape`, both without N; ShapeError if it does not fit."""

    def spec(self) -> dict[str, Any]:
        """The layer as a plain dict: its kind and its arguments; `build` makes the layer from it again."""
        names = [name for name in inspect.signature(type(self)).parameters if name not in ("init", "rng")]
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def __repr__(self) -> str:
        words: list[str] = []
        signature = inspect.signature(type(self)).parameters
        for name, value in list(self.spec().items())[1:]:
            if signature[name].default is inspect.Parameter.empty:
                words.append(repr(value) if len(words) < 2 else f"{name}={value!r}")
            elif value != signature[name].default:
                words.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(words)})"

    def keep(self, saved: Any) -> None:
        """Keep what the backward needs, while training."""
        if self.training:
            self.saved = saved

    def take(self) -> Any:
        """What the last forward kept, once.

        Raises:
            ConfigError: there was no forward in training mode since the last backward.
        """
        if self.saved is None:
            raise ConfigError(
                f"{self!r}: expected a forward in training mode before backward; call train() and forward"
            )
        saved, self.saved = self.saved, None
        return saved

    def forget(self) -> None:
        """Free what was kept, here and inside, where no backward will take it."""
        for layer in self.walk():
            layer.saved = None

    def children(self) -> list[tuple[str, Layer]]:
        """The layers directly inside this one, by name."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Layer)]

    def walk(self) -> Iterator[Layer]:
        """This layer and all inside it."""
        yield self
        for _, child in self.children():
            yield from child.walk()

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its name, such as "0.weight"; running statistics too."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value
        for name, child in self.children():
            for inside, parameter in child.named_parameters():
                yield f"{name}.{inside}", parameter

    def pack(self) -> ParameterVector:
        """All trainable parameters as one vector; the same vector whenever it is called again.

        Raises:
            ConfigError: they have several dtypes, or some of them are in the vector of another network already.
        """
        trainable = {name: p for name, p in self.named_parameters() if p.trainable}
        vector = next((p.vector for p in trainable.values()), None)
        if vector is not None and vector.parameters == trainable:
            return vector
        return ParameterVector(trainable)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation with `mode=False`, here and inside; the layer itself is returned."""
        self.training, self.saved = mode, None
        for _, child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: no randomness, nothing kept."""
        return self.train(False)

    def reseed(self, seed: int, *key: int) -> None:
        """Give every random layer inside its stream for `key`, so that any step can be entered again."""
        for i, (_, child) in enumerate(self.children()):
            child.reseed(seed, *key, i)

    def connect(self, comm: Communicator) -> None:
        """Let the layers that look at the whole batch look at those of all workers of `comm`."""
        for _, child in self.children():
            child.connect(comm)

    def freeze(self) -> Self:
        """Keep all parameters and running statistics inside as they are, whatever is trained around them.

        Raises:
            ConfigError: the network is packed already.
        """
        for name, parameter in self.named_parameters():
            if parameter.vector is not None:
                raise ConfigError(f"freeze: expected a network that is not packed yet, got {name}; freeze before pack")
        for _, parameter in self.named_parameters():
            parameter.trainable = False
        for layer in self.walk():
            layer.frozen = True
        return self

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Turn all parameters into float32 or float64.

        Raises:
            ConfigError: `dtype` is another, or the network is packed already.
        """
        for _, parameter in self.named_parameters():
            parameter.astype(dtype)
        return self

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter's value, by name."""
        return {name: parameter.value.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over the values of `state`: all, or none.

        Raises:
            WeightsMismatchError: names, shapes or types differ; the message lists every difference (at most 20).
        """
        own = dict(self.named_parameters())
        faults = [f"{name!r} is missing" for name in own if name not in state]
        faults += [f"{name!r} is unexpected" for name in state if name not in own]
        for name, parameter in own.items():
            if name in state and (found := _form(state[name])) != (wanted := _form(parameter.value)):
                faults.append(f"{name!r} is {found}, expected {wanted}")
        if faults:
            more = f" and {len(faults) - 20} more" if len(faults) > 20 else ""
            raise WeightsMismatchError(f"{type(self).__name__}.load_state_dict: {'; '.join(faults[:20])}{more}")
        for name, parameter in own.items():
            parameter.value[...] = state[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "saved": None}  # parameters unpack themselves
