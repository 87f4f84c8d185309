"""The numbers of a checkpoint: read from a file, so nothing about them is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from stridenet.errors import CheckpointCorruptError, shown
from stridenet.layout import Array

_WHERE = {"epoch": int, "batch": int, "finished": bool, "history": list}
_SUMS = {"loss_sum": float, "images": int, "seconds": float}

_NUMBER = (int, float)
_ROW = {"epoch": int, "step": int, "lr": _NUMBER, "train_loss": _NUMBER, "seconds": _NUMBER}
_JUDGED = {"loss": _NUMBER, "accuracy": _NUMBER, "interval": list, "n": int}


def checked_fields(meta: Any) -> Mapping[str, Any]:
    """`meta`, from a file, as `Trainer.state` made it, or CheckpointCorruptError."""
    if not isinstance(meta, dict):
        raise CheckpointCorruptError(f"checkpoint: expected the state of a trainer, got {shown(meta)}")
    meta = cast("dict[str, Any]", meta)
    for name, kind in (_WHERE | _SUMS).items():
        value: Any = meta.get(name)
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise CheckpointCorruptError(f"checkpoint: expected {name} as a {kind.__name__}, got {shown(value)}")
    rows, done = cast("list[Any]", meta["history"]), meta["epoch"]
    if len(rows) != done or not all(is_row(row, i) for i, row in enumerate(rows)):
        raise CheckpointCorruptError(f"checkpoint: expected a history of {done} epochs, got {len(rows)} others")
    if (meta["images"] > 0) != (meta["batch"] > 0):
        raise CheckpointCorruptError(
            f"checkpoint: expected the images of {meta['batch']} batches, got {meta['images']} images"
        )
    return meta


def is_row(row: Any, epoch: int) -> bool:
    """Whether it is a line of the history for `epoch`."""
    if not isinstance(row, dict):
        return False
    values = cast("dict[str, Any]", row)
    kinds = _ROW | ({f"validation_{name}": kind for name, kind in _JUDGED.items()} if "validation_n" in values else {})
    fits = all(isinstance(values.get(name), kind) and values[name] is not True for name, kind in kinds.items())
    return fits and values["epoch"] == epoch and are_norms(values.get("norms", {}))


def are_norms(value: Any) -> bool:
    """Whether it is what `telemetry.Norms` puts into a row: three numbers >= 0 by the name of a parameter."""
    if not isinstance(value, dict):
        return False
    triples = cast("dict[str, Any]", value).values()
    return all(isinstance(triple, list) and _are_three(cast("list[Any]", triple)) for triple in triples)


def _are_three(values: list[Any]) -> bool:
    return len(values) == 3 and all(type(value) in _NUMBER and value >= 0 for value in values)


def check_steps(t: Array | None, fields: Mapping[str, Any]) -> None:
    """Check that the optimiser has counted at least the steps that the history and the epoch under way have."""
    steps = (fields["history"][-1]["step"] if fields["history"] else 0) + fields["batch"]
    if t is not None and (t < steps).any():
        raise CheckpointCorruptError(f"checkpoint: expected at least {steps} steps of the optimizer, got {t}")
