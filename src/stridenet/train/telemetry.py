"""What each epoch says about its parameters: how long they are, their gradients, and the way they go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stridenet.errors import CheckpointCorruptError, CheckpointMismatchError, shown
from stridenet.layout import Array
from stridenet.nn.parameters import ParameterVector
from stridenet.train.evaluation import quiet
from stridenet.train.trainer import Callback, Trainer

MOST = 10_000  # triples in a history: a checkpoint holds it as JSON of at most a megabyte


class Norms(Callback):
    """Adds to the row of an epoch the Euclidean norms of each trained parameter, taken at the epoch's first step.

    `row["norms"]` is {name: [weight, gradient, update]} with four significant digits: the norm of the parameter before
    the step; of its gradient as the optimiser got it, averaged over the workers and clipped; and of the step itself,
    what the parameter is after it minus what it was. The names are those of `named_parameters`.

    A row has no norms where there is no room: from the epoch on at which those of the run would be more than MOST
    triples. Nor has it any if its first step was made by a version that measured none.
    """

    def __init__(self) -> None:
        self._before: Array | None = None  # the parameters before the first step of an epoch
        self._found: Array | None = None  # (parameters, 3), from that step to the end of the epoch

    def on_start(self, trainer: Trainer) -> None:
        """Check that norms taken over are of this network.

        Raises:
            CheckpointMismatchError: they are of another.
        """
        wanted = (len(trainer.params.slices), 3)
        if self._found is not None and self._found.shape != wanted:
            raise CheckpointMismatchError(f"Norms: expected norms {wanted}, got {self._found.shape}")

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Keep the parameters, if the epoch is new."""
        if not trainer.batch:
            self._before = trainer.params.value.copy()

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Measure, if it was the first step of the epoch."""
        if self._before is not None:
            self._found, self._before = _measured(trainer.params, self._before), None

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Put the norms into the row."""
        names = trainer.params.slices
        if self._found is not None and len(names) * len(trainer.history) <= MOST:
            row["norms"] = dict(zip(names, self._found.tolist(), strict=True))
        self._found = None

    def state_dict(self) -> dict[str, Array]:
        """The norms of an epoch under way."""
        return {} if self._found is None else {"norms": self._found.copy()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take them over."""
        found = state.get("norms")
        form = found is None or (found.ndim == 2 and found.dtype == np.float64)
        if state.keys() - {"norms"} or not form or not (found is None or (np.isfinite(found) & (found >= 0)).all()):
            got = {name: (value.shape, str(value.dtype)) for name, value in state.items()}
            raise CheckpointCorruptError(f"checkpoint: expected norms of parameters, finite and >= 0, got {shown(got)}")
        self._before, self._found = None, None if found is None else found.copy()


def _measured(params: ParameterVector, before: Array) -> Array:
    """The norms of weight, gradient and update, float64 (parameters, 3)."""
    with quiet():  # what diverges is the trainer's to find
        vectors = before, params.grad, params.value - before
        rows = [[_norm(vector[part]) for vector in vectors] for part in params.slices.values()]
    return np.array(rows).reshape(-1, 3)


def _norm(vector: Array) -> float:
    """The Euclidean norm, to four digits: more would say nothing, and every row is kept."""
    return float(f"{math.sqrt(np.einsum('i,i->', vector, vector, dtype=np.float64)):.4g}")
