"""What changes the course of a run while it goes on: its learning rate, its end, the weights that are judged.

The first two read all they need from the history, which every checkpoint holds: they have no state that could be
behind it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np

from stridenet import layout
from stridenet.data.loader import Loader
from stridenet.errors import CheckpointCorruptError, CheckpointMismatchError, ConfigError, shown
from stridenet.layout import Array
from stridenet.nn.curvature import curvature
from stridenet.optim.levenberg import SDLM
from stridenet.shapes import fraction, integer, number, positive
from stridenet.train.evaluation import blas_threads, quiet, require_loader
from stridenet.train.metrics import standing
from stridenet.train.trainer import Callback, History, Trainer


def _judged(who: str, history: History) -> History:
    """`history`, if all its epochs were judged on a validation set, or ConfigError."""
    for row in history:
        if any(type(row.get(f"validation_{name}")) is not float for name in ("loss", "accuracy")):
            raise ConfigError(f"{who}: expected a validation set in every epoch, got none in epoch {row['epoch']}")
    return history


class ReduceOnPlateau(Callback):
    """Multiplies the learning rate by `factor` whenever the validation loss has stopped falling.

    That is after more than `patience` epochs in a row without a loss below the best so far minus `min_delta`. The
    `cooldown` epochs after a reduction are not counted. The same numbers as PyTorch's ReduceLROnPlateau with
    threshold_mode="abs" and eps=0. The optimiser's schedule goes on below the factor, and its slots stay.

    >>> losses = [0.9, 0.5, 0.5, 0.6]
    >>> history = [{"epoch": e, "validation_loss": x, "validation_accuracy": 0.8} for e, x in enumerate(losses)]
    >>> ReduceOnPlateau(factor=0.5, patience=1).scale_after(history)
    0.5

    Raises:
        ConfigError: `factor` is outside [0, 1), `patience` or `cooldown` is no integer >= 0, `min_delta` is not a
            finite number >= 0; in training, an epoch has no validation, or there is a second ReduceOnPlateau.
    """

    def __init__(self, factor: float = 0.1, patience: int = 10, min_delta: float = 0.0, cooldown: int = 0) -> None:
        self.factor = fraction("ReduceOnPlateau", "factor", factor)
        self.patience = integer("ReduceOnPlateau", "patience", patience, minimum=0)
        self.min_delta = number("ReduceOnPlateau", "min_delta", min_delta, low=0.0, high=math.inf)
        self.cooldown = integer("ReduceOnPlateau", "cooldown", cooldown, minimum=0)

    def on_start(self, trainer: Trainer) -> None:
        """Reduce as far as the history says."""
        if sum(isinstance(callback, ReduceOnPlateau) for callback in trainer.callbacks) > 1:
            raise ConfigError("ReduceOnPlateau: expected one among the callbacks, got several; keep one")
        trainer.optimizer.lr_factor = self.scale_after(trainer.history)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Reduce if it is time."""
        trainer.optimizer.lr_factor = self.scale_after(trainer.history)

    def scale_after(self, history: History) -> float:
        """The product of all reductions that the epochs of `history` make."""
        scale, best, bad, resting = 1.0, math.inf, 0, 0
        for row in _judged("ReduceOnPlateau", history):
            better = row["validation_loss"] < best - self.min_delta
            best = row["validation_loss"] if better else best
            bad = 0 if better or resting else bad + 1
            resting = max(resting - 1, 0)
            if bad > self.patience:
                scale, bad, resting = scale * self.factor, 0, self.cooldown
        return scale


class EarlyStopping(Callback):
    """Finishes the training once `patience` epochs in a row have brought no progress.

    Equal accuracy with a lower loss counts as progress: an epoch must stand higher than the best so far, by
    `metrics.standing` as for `BestWeights`. So the last epoch with progress is the one whose weights are kept. With
    `min_delta` its accuracy, 0 to 1, must be higher by more than that, or by just that and the loss lower.

    Raises:
        ConfigError: `patience` is no integer >= 1, `min_delta` is not in [0, 1]; in training, an epoch has no
            validation.
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        self.patience = integer("EarlyStopping", "patience", patience)
        self.min_delta = number("EarlyStopping", "min_delta", min_delta, low=0.0, high=1.0)

    def on_start(self, trainer: Trainer) -> None:
        """A run that was killed between its last epoch and its end has nothing left to train."""
        self._look(trainer)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Finish if it is time."""
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if self.over(trainer.history):
            trainer.finish()

    def over(self, history: History) -> bool:
        """Whether the epochs of `history` end a training."""
        best, since = (-math.inf, 0.0), 0
        for row in _judged("EarlyStopping", history):
            progress = standing(row) > (best[0] + self.min_delta, best[1])
            best, since = (standing(row), 0) if progress else (best, since + 1)
        return since >= self.patience


class TimeBudget(Callback):
    """Finishes the training early enough for all that follows the last step to end within `seconds`.

    After the last step, `images` images are evaluated, those of the validation and of the test set; then come `reserve`
    seconds for the rest, such as saving and pictures. An image takes what it took in the last validation, before the
    first one what it takes to train on it, which is longer. The next step takes as long as the last. At least one step
    is made. Where the run ends depends on the machine and its load: it is no part of what two runs have in common.

    Args:
        seconds: the budget.
        images: how many are evaluated after the last step.
        reserve: seconds for what else follows.
        clock: gives the time in seconds.

    Raises:
        ConfigError: `seconds` is not a finite number > 0, `images` no integer >= 0, `reserve` no finite number >= 0.
    """

    def __init__(
        self,
        seconds: float,
        *,
        images: int = 0,
        reserve: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = positive("TimeBudget", "seconds", seconds)
        self.images = integer("TimeBudget", "images", images, minimum=0)
        self.reserve = number("TimeBudget", "reserve", reserve, low=0.0, high=math.inf)
        self._clock = clock
        self._end = clock() + self.seconds
        self._before, self._seen = 0.0, 0  # the time and the images of the epoch before the step under way
        self._step = 0.0  # seconds of the last step
        self._trained, self._judged = math.inf, math.inf  # seconds of an image

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Begin to measure a step."""
        self._before, self._seen = self._clock(), trainer.images

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Finish if there is no time for another step."""
        first, now = not self._step, self._clock()
        self._step, images = now - self._before, trainer.images - self._seen
        if not first:  # the first step of a process is slow and says little
            self._trained = min(self._trained, self._step / images)
        self._before, self._seen = now, trainer.images
        self._look(trainer, now)

    def on_evaluation(self, trainer: Trainer) -> None:
        """Begin to measure a validation."""
        self._before = self._clock()

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Finish if there is no time for another step and another validation."""
        now = self._clock()
        if "validation_n" in row:
            self._judged = (now - self._before) / row["validation_n"]
        self._look(trainer, now)

    def _look(self, trainer: Trainer, now: float) -> None:
        an_image = next((s for s in (self._judged, self._trained) if s < math.inf), 0.0)
        if now + self._step + self.images * an_image + self.reserve > self._end:
            trainer.finish()


class CurvatureEstimate(Callback):
    """Gives an SDLM a new estimate of the curvature before each epoch, from the first images of that epoch.

    They are the ones that are about to be trained on, in their order and with their augmentation. LeCun et al. 1998
    took 500. An epoch that is continued keeps its estimate, which the optimiser has saved.

    Args:
        train: the loader of the training.
        samples: so many images, or a few more to fill a batch; fewer where there are no more.

    Raises:
        ConfigError: an argument is out of range; in training, the optimiser is no SDLM, or `nn.curvature` has no rule
            for a layer or for the loss.
    """

    def __init__(self, train: Loader, samples: int = 500) -> None:
        require_loader("CurvatureEstimate", train)
        self.train, self.samples = train, integer("CurvatureEstimate", "samples", samples)

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Estimate, if the epoch is new."""
        if not isinstance(trainer.optimizer, SDLM):
            raise ConfigError(f"CurvatureEstimate: expected an SDLM, got {type(trainer.optimizer).__name__}")
        if trainer.batch:
            return
        batches = islice(self.train.epoch(trainer.epoch), -(-self.samples // self.train.batch_size))
        images, targets = zip(*((x, y) for x, y, _ in batches), strict=True)
        with blas_threads(), quiet():
            x, y = layout.to_batch_inner(np.concatenate(images)), np.concatenate(targets)
            trainer.optimizer.curvature = curvature(trainer.network, trainer.loss, x, y)


class WeightAverage(Callback):
    """Has the average of the weights along the way judged, saved and kept, in place of where the way has led.

    With `decay` it is their exponential moving average, a = decay a + (1 - decay) w after each step. Without, it is the
    plain mean of the weights at the end of each epoch; those of single steps lie too close together: Izmailov et al.
    2018, *Averaging weights leads to wider optima and better generalization*. Either begins with a copy of the first
    weights that it counts, in epoch `start_epoch`.

    The average takes the place of the raw weights before an epoch is judged, and stays until the next epoch starts:
    after the last one, the network has it. A run that is stopped within an epoch has its raw weights. The running
    statistics of a batch norm are those of the raw network, whichever weights are in place.

    Args:
        decay: in (0, 1), such as 0.999; None is the mean over epochs.
        start_epoch: counted from 0.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, decay: float | None = None, start_epoch: int = 0) -> None:
        who = "WeightAverage"
        self.decay = None if decay is None else fraction(who, "decay", decay, open_low=True)
        self.start_epoch = integer(who, "start_epoch", start_epoch, minimum=0)
        self._average: Array | None = None
        self._raw: Array | None = None  # given exactly while the average is in place
        self._count, self._step = 0, 0  # weights in the average, and the step of the last of them

    def on_start(self, trainer: Trainer) -> None:
        """Check that the average is one of this network.

        Raises:
            CheckpointMismatchError: it is of another.
        """
        found, value = self._average, trainer.params.value
        if found is not None and (found.shape != value.shape or found.dtype != value.dtype):
            raise CheckpointMismatchError(
                f"WeightAverage: expected an average of {value.shape} {value.dtype}, got {found.shape} {found.dtype}"
            )

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Put the raw weights back; count those of a step after which the state was saved before this was called."""
        if self._raw is not None:
            trainer.params.value[...] = self._raw
            self._raw = None
        if trainer.batch and self.decay is not None:
            self._count_in(trainer)

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Move the moving average."""
        if self.decay is not None:
            self._count_in(trainer)

    def on_evaluation(self, trainer: Trainer) -> None:
        """Move the mean over epochs; put the average in place."""
        if self.decay is None:
            self._count_in(trainer)
        if self._average is not None:
            self._raw = trainer.params.value.copy()
            trainer.params.value[...] = self._average

    def _count_in(self, trainer: Trainer) -> None:
        """a += share (w - a), at most once for the weights of a step."""
        value, step = trainer.params.value, trainer.optimizer.t
        if trainer.epoch < self.start_epoch or step == self._step:
            return
        self._count, self._step = self._count + 1, step
        if self._average is None:
            self._average = value.copy()
            return
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is the trainer's to find
            way = value - self._average
            way *= 1 / self._count if self.decay is None else 1 - self.decay
            self._average += way

    def state_dict(self) -> dict[str, Array]:
        """The counts, the average, and the raw weights while they are not in place."""
        state = {"counts": np.array([self._count, self._step], np.int64)}
        if self._average is not None:
            state["average"] = self._average.copy()
        if self._raw is not None:
            state["raw"] = self._raw.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take them over."""
        counts, vectors = state.get("counts"), {name: value for name, value in state.items() if name != "counts"}
        if counts is None or counts.shape != (2,) or counts.dtype != np.int64 or (counts < 0).any():
            raise CheckpointCorruptError("checkpoint: expected the counts of an average, got none")
        possible = ("average", "average raw") if counts[0] else ("",)
        forms = {(value.shape, value.dtype) for value in vectors.values()}
        fine = all(v.ndim == 1 and v.dtype.kind == "f" and np.isfinite(v).all() for v in vectors.values())
        if " ".join(sorted(vectors)) not in possible or len(forms) > 1 or not fine:
            raise CheckpointCorruptError(
                "checkpoint: expected an average of weights, and the weights themselves, finite and of one form,"
                f" got {shown({name: (value.shape, str(value.dtype)) for name, value in vectors.items()})}"
            )
        average, raw = vectors.get("average"), vectors.get("raw")
        self._average, self._raw = None if average is None else average.copy(), raw
        self._count, self._step = (int(number) for number in counts)
