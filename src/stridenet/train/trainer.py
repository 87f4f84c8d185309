"""The training loop, and the state that a resumed run needs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stridenet.communicator import SOLO, Communicator
from stridenet.data.loader import Loader
from stridenet.errors import CheckpointMismatchError, ConfigError, NumericsError, shown
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss, cross_entropy
from stridenet.nn.plan import best_objective
from stridenet.optim.optimizers import Optimizer
from stridenet.shapes import integer, positive
from stridenet.train.evaluation import blas_threads, evaluate, quiet, require_loader
from stridenet.train.fields import check_steps, checked_fields
from stridenet.train.metrics import Metrics

History = list[dict[str, Any]]


class Callback:
    """Something that watches a run; every method may stay as it is. Its state is saved with the run's."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of `fit`, of a new run and of a resumed one."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or of the rest of one."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """After every step; `loss` is the mean of its batch."""

    def on_evaluation(self, trainer: Trainer) -> None:
        """At the end of an epoch, before its weights are judged; they are finite."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """After an epoch; `row` is its line of the history."""

    def on_finish(self, trainer: Trainer) -> None:
        """When `fit` ends, finished or stopped."""

    def state_dict(self) -> dict[str, Array]:
        """The arrays that a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a state of `state_dict`."""


class Trainer:
    """Trains a network; any step can be left and entered again.

    Args:
        network: trained in place.
        optimizer: made with `network.pack()`.
        loss: (scores, targets, weights) -> (mean loss, dscores).
        callbacks: called in this order.
        comm: averages the gradients of several workers.
        seed: of the random layers; step t of a run always sees the same masks.
        clip_norm: the gradient, averaged over the workers, is scaled down to this Euclidean norm; None leaves it.
        threads: workers that share a batch; no bit depends on it.
        plan: whether a step is run as a plan, see `nn.plan`, or layer by layer.

    Raises:
        ConfigError: an argument is out of range, the optimizer is of another network, or callbacks are no list of them.
    """

    def __init__(
        self,
        network: Layer,
        optimizer: Optimizer,
        loss: Loss = cross_entropy,
        *,
        callbacks: Sequence[Callback] = (),
        comm: Communicator = SOLO,
        seed: int = 0,
        clip_norm: float | None = None,
        threads: int = 1,
        plan: bool = True,
    ) -> None:
        self.network, self.optimizer, self.loss = network, optimizer, loss
        if not isinstance(callbacks, list | tuple) or not all(isinstance(each, Callback) for each in callbacks):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"Trainer: expected a list of callbacks, such as [BestWeights()], got {shown(callbacks)}")
        self.callbacks: Sequence[Callback] = callbacks
        self.comm, self.seed = comm, integer("Trainer", "seed", seed, minimum=0)
        self.clip_norm = None if clip_norm is None else positive("Trainer", "clip_norm", clip_norm)
        self.params = network.pack()
        if not isinstance(optimizer, Optimizer) or optimizer.params is not self.params:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                "Trainer: expected an optimizer of this network's parameters; make it with network.pack()"
            )
        network.connect(comm)
        threads = integer("Trainer", "threads", threads)
        self.objective = best_objective(network, loss, threads=threads, plan=plan)
        self.history: History = []
        self.epoch = self.batch = 0  # where the run is: epochs done, batches done of the one under way
        self.images = 0  # trained on in the epoch under way
        self._loss_sum, self._seconds = 0.0, 0.0  # of the same
        self._stopping, self._finishing = False, False

    @quiet()
    def step(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """One step on the batch x (N, C, H, W), y (N,), weights (N,) or None; its mean loss.

        Raises:
            NumericsError: the loss is not finite; the trained parameters are those before the step.
        """
        self.params.zero_grad()
        loss = self.objective.loss_and_gradient(x, y, weights)
        if not math.isfinite(loss):
            raise self._diverged(loss, x)
        self.comm.mean(self.params.grad)
        if self.clip_norm is not None:
            self.params.clip_grad(self.clip_norm)
        self.optimizer.step()
        return loss

    def _diverged(self, loss: float, x: Array) -> NumericsError:
        step, (layer, tensor) = self.optimizer.t, self.objective.first_non_finite(x)
        message = (
            f"step {step}: expected a finite loss, got {loss}, first not finite: {tensor}; lower the learning rate"
        )
        return NumericsError(message, step=step, layer=layer, tensor=tensor)

    def fit(self, train: Loader, validation: Loader | None = None, *, epochs: int) -> History:
        """Train until `epochs` epochs are done in all, or `finish` is called; one row an epoch.

        A row has epoch (from 0), step, lr (of its last step), train_loss (the mean over the epoch as it was trained),
        seconds, and with `validation` its loss, accuracy, interval and n.

        Raises:
            NumericsError: a loss or a parameter is not finite.
            ConfigError: `train` or `validation` is no loader.
        """
        epochs = integer("Trainer.fit", "epochs", epochs, minimum=0)
        require_loader("Trainer.fit", train)
        if validation is not None:
            require_loader("Trainer.fit", validation)
        self.network.train()
        for callback in self.callbacks:
            callback.on_start(self)
        with blas_threads():  # not for each epoch: one of a few small batches takes less time
            while self.epoch < epochs and not (self._stopping or self.finished):
                for callback in self.callbacks:
                    callback.on_epoch_start(self)
                self._train_epoch(train)
                if self.batch == len(train) or (self._finishing and not self._stopping):
                    self._finish_epoch(validation)
        self._stopping = False
        self._check_finite()
        for callback in self.callbacks:
            callback.on_finish(self)
        return self.history

    def stop(self) -> None:
        """Let `fit` end after the step under way, or the next `fit` before its first step."""
        self._stopping = True

    def finish(self) -> None:
        """End the training for good after the step under way, as if its epoch were the last and had no more steps.

        The epoch is judged as far as it came and gets its row, and no later `fit` trains further. A `stop` goes first:
        `fit` ends at once, and the next one, or that of a resumed run, judges the epoch without another step.
        """
        self._finishing = True

    @property
    def finished(self) -> bool:
        """Whether `finish` has ended the training; false while its last epoch is still to be judged."""
        return self._finishing and self.batch == 0

    def evaluate(self, data: Loader) -> Metrics:
        """Loss and accuracy on every image of `data`."""
        return evaluate(self.network, data, self.loss, threads=self.objective.threads)

    def _train_epoch(self, train: Loader) -> None:
        if self._finishing and self.batch:
            return  # it was stopped before this epoch was judged
        begin = time.perf_counter() - self._seconds
        random = any(type(layer).reseed is not Layer.reseed for layer in self.network.walk())
        for x, y, weights in train.epoch(self.epoch, start=self.batch):
            if random:
                self.network.reseed(self.seed, self.optimizer.t)
            loss = self.step(x, y, weights)
            self.batch += 1
            self._loss_sum += loss * len(y)
            self.images += len(y)
            self._seconds = time.perf_counter() - begin
            for callback in self.callbacks:
                callback.on_step(self, loss)
            if self._stopping or self._finishing:
                return

    def _finish_epoch(self, validation: Loader | None) -> None:
        self._check_finite()
        for callback in self.callbacks:
            callback.on_evaluation(self)
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.optimizer.t,
            "lr": self.optimizer.lr_factor * self.optimizer.lr(self.optimizer.t - 1),
            "train_loss": self._loss_sum / self.images,
        }
        if validation is not None:
            try:
                found = self.evaluate(validation)
            except NumericsError as error:
                error.step = self.optimizer.t
                raise
            row |= {"validation_loss": found.loss, "validation_accuracy": found.accuracy}
            row |= {"validation_interval": list(found.interval), "validation_n": found.n}
        row["seconds"] = round(self._seconds, 3)
        self.history.append(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self._loss_sum, self.images, self._seconds = 0.0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch(self, row)

    def _check_finite(self) -> None:
        """A finite loss may come before an infinite step; nothing broken is evaluated or saved."""
        for name, part in self.params.slices.items():
            if not np.isfinite(self.params.value[part]).all():
                raise NumericsError(
                    f"step {self.optimizer.t}: expected finite parameters, got others in {name}; lower the lr",
                    step=self.optimizer.t,
                    layer=name.rpartition(".")[0],
                    tensor=f"parameter {name}",
                )

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that a resumed run needs, as named arrays and a dict that JSON can hold."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state_dict().items()}
        for i, callback in enumerate(self.callbacks):
            tensors |= {f"callback{i}.{name}": value for name, value in callback.state_dict().items()}
        where = {"epoch": self.epoch, "batch": self.batch, "finished": self._finishing, "history": list(self.history)}
        sums = {"loss_sum": self._loss_sum, "images": self.images, "seconds": self._seconds}
        return tensors, where | sums

    def load_state(self, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Continue where `state` was taken: the same bits follow as if nothing had come between.

        Raises:
            CheckpointCorruptError: the numbers contradict each other.
            CheckpointMismatchError, WeightsMismatchError: it is of another network or optimizer.
        """
        parts: dict[str, dict[str, Array]] = {}
        for name, value in tensors.items():
            owner, _, rest = name.partition(".")
            parts.setdefault(owner, {})[rest] = value
        own = {"network", "optimizer", *(f"callback{i}" for i in range(len(self.callbacks)))}
        if not parts.keys() <= own:
            raise CheckpointMismatchError(f"checkpoint: expected parts {sorted(own)}, got {sorted(parts)}")
        fields = checked_fields(meta)
        check_steps(tensors.get("optimizer.t"), fields)
        self.network.load_state_dict(parts.get("network", {}))
        self.optimizer.load_state_dict(parts.get("optimizer", {}))
        for i, callback in enumerate(self.callbacks):
            callback.load_state_dict(parts.get(f"callback{i}", {}))
        self.epoch, self.batch, self.history = fields["epoch"], fields["batch"], list(fields["history"])
        self._loss_sum, self.images, self._seconds = fields["loss_sum"], fields["images"], fields["seconds"]
        self._finishing = fields["finished"]
