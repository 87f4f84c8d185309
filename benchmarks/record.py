"""What every benchmark shares: its JSON file, with the date and the machine in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stridenet import experiment
from stridenet.files import write_atomic

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def write(path: Path, figures: dict[str, Any]) -> None:
    """Write `figures` to `path` as JSON for people to read, with the time in UTC and the machine if they lack it."""
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": experiment.machine()} | figures
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    print(f"written to {path}")
