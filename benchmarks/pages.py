"""The two forms that every page of figures is made of."""

from __future__ import annotations

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of text."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(share: float | None) -> str:
    """A share of 1 as "12.34 %"."""
    return "none" if share is None else f"{100 * share:.2f} %"


def machines(found: dict[str, dict[str, Any]]) -> str:
    """When and where each file of figures was measured."""
    rows = []
    for name, figures in found.items():
        machine = figures["machine"]
        blas = "; ".join(machine["blas"])
        versions = {"Python": machine["python"], "NumPy": machine["numpy"], "stridenet": machine["stridenet"]}
        listed = ", ".join(
            f"{package} {number}" for package, number in (versions | figures.get("versions", {})).items()
        )
        rows.append([f"`{name}.json`", figures["date"], machine["processor"], str(machine["cores"]), listed, blas])
    return "## Machines\n\n" + table(["file", "date", "processor", "cores", "versions", "BLAS"], rows)
