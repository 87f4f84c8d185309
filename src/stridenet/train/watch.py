"""The checks that go on while a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import numpy as np

from stridenet import kernels
from stridenet.data.loader import Loader
from stridenet.shapes import integer
from stridenet.train.doctor import (
    AWAY,
    PATIENCE,
    STILL,
    frequency_gain,
    indifferent_loss,
)
from stridenet.train.evaluation import quiet
from stridenet.train.findings import Check, Finding
from stridenet.train.lengths import LOWER, long_steps, short_steps
from stridenet.train.separation import check_size, prepared
from stridenet.train.signals import check_units, passages
from stridenet.train.trainer import Callback, History, Trainer

SAMPLE = 64  # training images that look for dead units: a few milliseconds for a LeNet-5
EPOCHS = 3  # after which a loss that is still that of the start is a plateau, and a step that is too small is no start


class Watch(Callback):
    """Prints each finding once, as a line, while a run goes on.

    It looks at the rows of the history, with the norms of `telemetry.Norms`, which stands before it; and, after some
    hundred steps, behind the epochs 1, 2, 4, 8 ..., at the units that all of some images leave at zero. It keeps no
    state and changes no bit of the run.

    Args:
        echo: prints a line.
        train: the loader of the training.
        judged: how many images the validation after an epoch has.
        expected: codes of findings that are not printed.

    Raises:
        ConfigError: `judged` is no number of images.
    """

    def __init__(
        self, echo: Callable[[str], None], train: Loader, *, judged: int = 0, expected: Container[str] = ()
    ) -> None:
        self.echo, self.train, self.expected = echo, train, expected
        self.judged = integer("Watch", "judged", judged, minimum=0)
        self._told: set[tuple[str, str, bool]] = set()

    def on_start(self, trainer: Trainer) -> None:
        """Look at the number of validation images."""
        self._tell(check_size(self.judged).findings)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Look at the epoch."""
        history, params = trainer.history, trainer.params.parameters
        weights = {name for name, parameter in params.items() if parameter.value.ndim > 1}
        self._tell([*still_parameters(history), *step_sizes(history, weights)])
        if trainer.optimizer.t < PATIENCE:
            return
        data, classes = self.train.dataset, len(self.train.dataset.classes)
        if classes:
            gain = frequency_gain(trainer.loss, data.targets, classes, data.weights)
            start = indifferent_loss(trainer.loss, trainer.network, classes) - gain
            self._tell(plateau(history, start, weights))
        if trainer.epoch & (trainer.epoch - 1) == 0:
            self._tell(self._dead_units(trainer))

    def _tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.code not in self.expected and _topic(finding) not in self._told:
                self._told.add(_topic(finding))
                self.echo(f"finding  {finding.line()}; see docs/doctor.md")

    def _dead_units(self, trainer: Trainer) -> tuple[Finding, ...]:
        dataset, mode = self.train.dataset, trainer.network.training
        rows = np.linspace(0, len(dataset) - 1, min(SAMPLE, len(dataset))).astype(int)  # of all classes, if sorted
        x, _ = prepared(self.train, rows)
        trainer.network.eval()
        try:
            with quiet(), kernels.use(kernels.without_compiler()):
                return check_units(passages(trainer.network, x)).findings
        finally:
            trainer.network.train(mode)


def check_history(history: History, start: float, weights: Container[str]) -> Check:
    """What a `Watch` would have said of the rows of a run, but for its units.

    Args:
        history: one row at least.
        start: the loss of a network that knows nothing of the images.
        weights: the names of the parameters whose steps are judged.
    """
    found = [finding for row in history for finding in step_sizes([row], weights)]
    found += [*step_sizes(history, weights), *still_parameters(history)]
    if history[-1]["step"] >= PATIENCE:
        found += plateau(history, start, weights)
    first, last = history[0]["train_loss"], history[-1]["train_loss"]
    once = {_topic(finding): finding for finding in reversed(found)}  # the first of each
    figure = f"the loss goes from {first:.4g} in epoch 1 to {last:.4g} in epoch {len(history)}"
    return Check("history", f"{figure}; to know nothing gives {start:.4g}", tuple(reversed(once.values())))


def _topic(finding: Finding) -> tuple[str, str, bool]:
    """What makes another finding of it; the figures change from epoch to epoch."""
    return finding.code, finding.where, finding.cure == LOWER


def plateau(history: History, start: float, weights: Container[str] = ()) -> Iterator[Finding]:
    """Whether no epoch has a loss clearly below `start`, that of a network that knows nothing of the images.

    A loss that has jumped up, or steps of the `weights` that are too long, ask for a lower lr.

    >>> next(plateau([{"train_loss": 2.3022}] * 3, start=2.3026)).line()
    'plateau in training: 3 epochs leave the loss at 2.302, where to know nothing of the images gives 2.303'
    """
    losses = [row["train_loss"] for row in history]
    if len(history) >= EPOCHS and min(losses) > (1 - STILL) * start:
        long = max(losses) > AWAY * start or any(any(long_steps(ratios)) for ratios in _ratios(history, weights))
        nothing = f"where to know nothing of the images gives {start:.4g}"
        what = f"{len(history)} epochs leave the loss at {min(losses):.4g}, {nothing}"
        yield Finding("plateau", "training", what, LOWER if long else "")


def still_parameters(history: History) -> Iterator[Finding]:
    """Parameters that had no gradient or did not move, at the first step of every epoch."""
    rows = _norms(history)
    for name in rows[0] if len(rows) >= EPOCHS else ():
        if all(row[name][1] * row[name][2] == 0 for row in rows):
            what = f"it has not moved, or had no gradient, at the first step of {len(rows)} epochs"
            yield Finding("still-parameter", name, what)


def step_sizes(history: History, weights: Container[str]) -> Iterator[Finding]:
    """Steps that are too long beside their weights now, or were too short all the time."""
    rows = _ratios(history, weights)
    now = next(rows, dict[str, float]())
    yield from long_steps(now)
    if len(history) >= EPOCHS and any(short_steps(now)):
        longest = dict(now)
        for row in rows:
            longest = {name: max(ratio, row[name]) for name, ratio in longest.items()}
        yield from short_steps({name: ratio if now[name] else 0.0 for name, ratio in longest.items()})


def _ratios(history: History, weights: Container[str]) -> Iterator[dict[str, float]]:
    """The length of a step to that of the weights, by their names, of every epoch that has norms, the last first."""
    for row in _norms(history):
        yield {name: update / size if size else 0.0 for name, (size, _, update) in row.items() if name in weights}


def _norms(history: History) -> list[dict[str, list[float]]]:
    """[weight, gradient, update] by parameter, of every epoch that has them, the last first: it mostly says all."""
    rows: list[dict[str, list[float]]] = [row["norms"] for row in reversed(history) if "norms" in row]
    return [row for row in rows if row.keys() == rows[0].keys()]
