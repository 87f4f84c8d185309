"""What a run does besides training: keep the best weights, save checkpoints, show progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from stridenet.errors import CheckpointCorruptError, CheckpointError
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.shapes import choice
from stridenet.train.checkpoint import CheckpointStore
from stridenet.train.metrics import standing
from stridenet.train.trainer import Callback, Trainer


class BestWeights(Callback):
    """Keeps the weights of the epoch that stands highest: see `metrics.standing`."""

    def __init__(self) -> None:
        self.epoch = -1
        self.weights: dict[str, Array] = {}
        self._record = (-1.0, 0.0)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Compare the epoch with the record."""
        if standing(row) > self._record:
            self._record, self.epoch, self.weights = standing(row), row["epoch"], trainer.network.state_dict()

    def restore(self, network: Layer) -> None:
        """Give `network` the best weights, if an epoch was finished."""
        if self.weights:
            network.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Array]:
        """The weights and the record."""
        record = np.array([self.epoch, *self._record], np.float64)
        return {"record": record} | {f"weights.{name}": value for name, value in self.weights.items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take both over."""
        record = state.get("record")
        if record is None or record.shape != (3,) or record.dtype != np.float64 or not np.isfinite(record).all():
            raise CheckpointCorruptError("checkpoint: expected a record of the best epoch, got none")
        self.epoch, self._record = int(record[0]), (float(record[1]), float(record[2]))
        self.weights = {name.removeprefix("weights."): value for name, value in state.items() if name != "record"}


class Checkpoints(Callback):
    """Saves the run at step 0, after every epoch, and where it is stopped or finished.

    Callbacks with a state of their own stand before it, so that it saves what they know of the epoch.

    Args:
        store: the folder.
        identity: what must be the same when the run is resumed; saved with every checkpoint.
        on_error: "raise" ends the run with a checkpoint that cannot be written, "warn" goes on; older ones stay.
    """

    def __init__(
        self, store: CheckpointStore, identity: Mapping[str, Any], *, on_error: Literal["raise", "warn"] = "raise"
    ) -> None:
        self.store, self.identity = store, identity
        self.on_error = choice("Checkpoints.on_error", on_error, ("raise", "warn"))

    def on_start(self, trainer: Trainer) -> None:
        """A run that has not begun is saved too: a kill in the first epoch loses no start value."""
        if trainer.optimizer.t == 0:
            self._save(trainer)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Save the finished epoch."""
        self._save(trainer)

    def on_finish(self, trainer: Trainer) -> None:
        """Save an epoch that was stopped half-way, and that the run is done if a callback behind this one said so."""
        if trainer.batch or trainer.finished:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        tensors, meta = trainer.state()
        try:
            self.store.save(trainer.optimizer.t, tensors, {"identity": dict(self.identity), "trainer": meta})
        except CheckpointError as error:
            if self.on_error == "raise":
                raise
            warnings.warn(str(error), stacklevel=2)


class Progress(Callback):
    """A progress bar for the epoch under way, and one line for each that is done.

    Args:
        steps: batches of an epoch.
        epochs: of the run.
        echo: prints a line.
        bar: whether to show the bar, on standard error; None shows it on a terminal.
    """

    def __init__(self, steps: int, epochs: int, echo: Callable[[str], None], *, bar: bool | None = None) -> None:
        self.steps, self.epochs, self.echo = steps, epochs, echo
        self._disable = None if bar is None else not bar
        self._bar: Any = None

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Open the bar where the epoch is."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=self.steps,
            initial=trainer.batch,
            desc=f"epoch {trainer.epoch + 1:>{len(str(self.epochs))}}/{self.epochs}",
            unit="batch",
            leave=False,
            dynamic_ncols=True,
            disable=self._disable,
        )

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Move the bar."""
        self._bar.update()

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Replace the bar by the epoch's line."""
        self._bar.close()
        line = f"epoch {row['epoch'] + 1:>{len(str(self.epochs))}}/{self.epochs}   loss {row['train_loss']:.4f}"
        if "validation_accuracy" in row:
            low, high = (100 * bound for bound in row["validation_interval"])
            line += f"   validation {100 * row['validation_accuracy']:.2f} % ({low:.2f} to {high:.2f})"
        rate = ""
        if row["lr"] != trainer.optimizer.lr(row["step"] - 1):  # another callback has lowered it
            rate = f"   lr {row['lr']:.3g}"
        self.echo(f"{line}   {row['seconds']:.1f} s{rate}")

    def on_finish(self, trainer: Trainer) -> None:
        """Remove the bar of an epoch that was stopped."""
        self.close()

    def close(self) -> None:
        """Remove the bar, if one is there: an error must not land on its line."""
        if self._bar is not None:
            self._bar.close()
