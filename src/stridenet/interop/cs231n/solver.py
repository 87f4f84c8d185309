"""The Solver of the coursework: a training loop for any object with a dict `params` and a method `loss(X, y)`.

Its name, arguments and histories are those of the coursework; the updates are stridenet's optimisers. Where it does
another thing than it did there, docs/coursework.md says what and why.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from stridenet import seeding
from stridenet.errors import LabelError, NumericsError, ShapeError
from stridenet.interop.cs231n.layers import check_names, needed
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter, ParameterVector
from stridenet.optim.adaptive import Adam, RMSprop
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.shapes import choice, flag, integer, positive

FEW = 100  # validation images: fewer decide by chance; of 100 each is a percent
SETS = ("X_train", "y_train", "X_val", "y_val")


class Model(Protocol):
    """What can be trained: `params`, arrays by name, and a loss with its gradients by the same names."""

    params: dict[str, Array]

    def loss(self, X: Array, y: Array | None = None) -> Any:
        """The scores (N, K) of X; with y, the loss and a dict of gradients."""
        ...


class _Rule(NamedTuple):
    """An optimiser, and the names and defaults that the coursework has for its arguments."""

    make: Callable[..., Optimizer]
    names: Mapping[str, str]  # in the coursework: here
    learning_rate: float


_RULES = {
    "sgd": _Rule(SGD, {}, 1e-2),
    "sgd_momentum": _Rule(SGD, {"momentum": "momentum"}, 1e-2),
    "rmsprop": _Rule(RMSprop, {"decay_rate": "alpha", "epsilon": "eps"}, 1e-2),
    "adam": _Rule(Adam, {"beta1": "beta1", "beta2": "beta2", "epsilon": "eps"}, 1e-3),
}


def _optimizer(update_rule: str, config: Mapping[str, Any], params: ParameterVector) -> Optimizer:
    """The optimiser called `update_rule`, with what the coursework takes where `config` says nothing."""
    rule = _RULES[choice("Solver update_rule", update_rule, _RULES)]
    check_names(f"Solver optim_config of {update_rule}", config, ("learning_rate", *rule.names))
    options = {rule.names[name]: value for name, value in config.items() if name != "learning_rate"}
    if update_rule == "sgd_momentum":
        options.setdefault("momentum", 0.9)
    if update_rule == "adam":
        options["betas"] = options.pop("beta1", 0.9), options.pop("beta2", 0.999)
    return rule.make(
        params, positive("Solver", "learning_rate", config.get("learning_rate", rule.learning_rate)), **options
    )


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


class Solver:
    """Trains `model` on `data`; at the end the model has the parameters that were best in validation.

    Args:
        model: its `params` are arrays of one type; `loss(X, y)` returns (loss, gradients by the same names) and
            `loss(X)` scores (N, K).
        data: "X_train" (N, ...), "y_train" (N,), "X_val", "y_val".
        update_rule: "sgd", "sgd_momentum", "rmsprop" or "adam".
        optim_config: "learning_rate", and "momentum" (0.9) of sgd_momentum, "decay_rate" (0.99) and "epsilon" (1e-8)
            of rmsprop, "beta1" (0.9), "beta2" (0.999) and "epsilon" (1e-8) of adam.
        lr_decay: factor on the learning rate after each epoch.
        num_epochs: each image once an epoch.
        batch_size: images of an iteration; the last of an epoch may have fewer.
        num_train_samples: training images that an accuracy is measured on; None takes all.
        num_val_samples: the same of validation; one draw serves all checks.
        print_every: iterations between two lines with the loss.
        verbose: whether there are lines at all.
        seed: of the order of the images.
        log: takes a line; the default writes it to standard output.

    Attributes:
        loss_history: the loss of every iteration.
        train_acc_history, val_acc_history: after the first iteration, after every epoch, and so after the last.
        best_params, best_val_acc: copies of the best parameters, and their accuracy; never empty.
        epoch: epochs done.

    Raises:
        ConfigError: an option is unknown or out of range, or `data` lacks an array.
        LabelError: there are more or fewer labels than images.
    """

    def __init__(
        self,
        model: Model,
        data: Mapping[str, Array],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        num_epochs: int = 10,
        batch_size: int = 100,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        print_every: int = 10,
        verbose: bool = True,
        seed: int = 0,
        log: Callable[[str], None] = _write,
        **unknown: object,
    ) -> None:
        check_names("Solver", unknown, tuple(Solver.__init__.__kwdefaults__ or ()))
        self.model, self.lr_decay = model, positive("Solver", "lr_decay", lr_decay)
        self.num_epochs = integer("Solver", "num_epochs", num_epochs)
        self.batch_size = integer("Solver", "batch_size", batch_size)
        self.print_every = integer("Solver", "print_every", print_every)
        self.verbose, self.seed = flag("Solver", "verbose", verbose), integer("Solver", "seed", seed, minimum=0)
        self._log = log
        self.X_train, self.y_train, self.X_val, self.y_val = _checked(data)
        self._train_sample = self._drawn(len(self.y_train), "num_train_samples", num_train_samples)
        self._val_sample = self._drawn(len(self.y_val), "num_val_samples", num_val_samples)
        if len(self._val_sample) < FEW:
            warnings.warn(
                f"Solver: expected at least {FEW} validation images to choose the best parameters by, got"
                f" {len(self._val_sample)}; which are best is then chance",
                stacklevel=2,
            )
        parameters = {name: Parameter(np.array(value)) for name, value in model.params.items()}
        self._optimizer = _optimizer(update_rule, optim_config or {}, ParameterVector(parameters))
        self.epoch, self.best_val_acc = 0, -1.0  # any accuracy is higher, 0 too
        self.best_params = self._copies()
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []

    def train(self) -> None:
        """Train for `num_epochs` epochs more, from the parameters that the model has now, and keep the best.

        Raises:
            ShapeError: a gradient has not the shape of its parameter.
            NumericsError: the loss is not finite; the model then keeps the last parameters.
        """
        for name, parameter in self._optimizer.params.parameters.items():
            parameter.value[...] = self.model.params[name]
            self.model.params[name] = parameter.value  # the optimiser's own memory: a step is seen at once
        iterations = -(-len(self.y_train) // self.batch_size)
        last, total = self.epoch + self.num_epochs, len(self.loss_history) + self.num_epochs * iterations
        while self.epoch < last:
            for rows in self._batches():
                self._step(self.X_train[rows], self.y_train[rows])
                done = len(self.loss_history)
                if (done - 1) % self.print_every == 0:
                    self._say(f"(Iteration {done} / {total}) loss: {self.loss_history[-1]:f}")
                if done == 1 and iterations > 1:
                    self._check(last)
            self.epoch += 1
            self._optimizer.lr_factor *= self.lr_decay
            self._check(last)
        for name, value in self.best_params.items():
            self.model.params[name] = value.copy()

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """The share of right classes of all images X (N, ...), or of `num_samples` of them, 0 to 1.

        Raises:
            ConfigError: a number is out of range.
        """
        return self._accuracy(X, y, self._drawn(len(y), "num_samples", num_samples), batch_size)

    def _accuracy(self, X: Array, y: Array, rows: Array, batch_size: int = 100) -> float:
        size, right = integer("Solver", "batch_size", batch_size), 0
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            right += int(np.sum(np.argmax(self.model.loss(X[part]), axis=1) == y[part]))
        return right / len(rows)

    def _batches(self) -> Iterator[Array]:
        """The rows of each batch of the epoch under way: every one once, in an order of its own."""
        order = seeding.stream(self.seed, "shuffle", self.epoch).permutation(len(self.y_train))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _step(self, X: Array, y: Array) -> None:
        loss, gradients = self.model.loss(X, y)
        iteration = len(self.loss_history) + 1
        if not math.isfinite(loss):
            raise NumericsError(
                f"Solver: expected a finite loss, got {loss} in iteration {iteration}; lower the learning rate",
                step=iteration - 1,
            )
        self.loss_history.append(float(loss))
        for name, parameter in self._optimizer.params.parameters.items():
            gradient = np.asarray(needed("Solver: the gradients of loss", gradients, name))
            if gradient.shape != parameter.grad.shape:
                raise ShapeError(
                    f"Solver: expected a gradient of shape {parameter.grad.shape} for {name}, got {gradient.shape}"
                )
            parameter.grad[...] = gradient
        self._optimizer.step()

    def _check(self, last: int) -> None:
        """Measure both accuracies; keep the parameters if they are the best so far."""
        train = self._accuracy(self.X_train, self.y_train, self._train_sample)
        val = self._accuracy(self.X_val, self.y_val, self._val_sample)
        self.train_acc_history.append(train)
        self.val_acc_history.append(val)
        self._say(f"(Epoch {self.epoch} / {last}) train acc: {train:f}; val_acc: {val:f}")
        if val > self.best_val_acc:
            self.best_val_acc, self.best_params = val, self._copies()

    def _copies(self) -> dict[str, Array]:
        return {name: np.array(value) for name, value in self.model.params.items()}

    def _drawn(self, n: int, name: str, wanted: int | None) -> Array:
        """The rows of `wanted` of n images, none twice; all of them if that is None or more."""
        if wanted is None or integer("Solver", name, wanted) >= n:
            return np.arange(n)
        return np.sort(seeding.stream(self.seed, "split").permutation(n)[:wanted])

    def _say(self, line: str) -> None:
        if self.verbose:
            self._log(line)


def _checked(data: Mapping[str, Array]) -> list[Array]:
    """The four arrays."""
    arrays = [np.asarray(needed("Solver data", data, name)) for name in SETS]
    for (images, labels), name in zip((arrays[:2], arrays[2:]), ("train", "val"), strict=True):
        if not len(labels) or labels.ndim != 1 or len(images) != len(labels):
            raise LabelError(
                f"Solver: expected X_{name} (N, ...) and y_{name} (N,) with N >= 1, got {images.shape} and"
                f" {labels.shape}"
            )
    return arrays
