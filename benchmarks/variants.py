"""Train a recipe of the five systems again with one part of it changed, seed 0, in full, and store what it reaches.

    python benchmarks/variants.py
    python benchmarks/variants.py --only s1-mnist

It may be ended at any moment and goes on where it was, as `benchmarks/systems.py` does. `benchmarks/tables.py` puts the
figures on the pages of the systems.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import record
from reproduce import run
from systems import collect

from stridenet.zoo import recipes

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {  # recipe -> what differs -> section.key -> value
    "s1-lenet5-1998": {
        "mu 0.02, as in the paper": {"optimizer.mu": 0.02},
        "mu 1": {"optimizer.mu": 1.0},
        "twice the learning rate": {"optimizer.lr": 1e-3},
        "a weight decay of 1e-3": {"optimizer.weight_decay": 1e-3},
    },
    "s1-mnist": {
        "inputs of deviation 1": {"data.transform": [{"name": "normalize", "mean": [0.1307], "std": [0.3081]}]},
        "twice the learning rate": {"optimizer.lr": 0.0128},
        "four times the learning rate": {"optimizer.lr": 0.0256},
    },
}


def changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe `name` with these values in it."""
    recipe = recipes.load(name)
    recipe["train"]["seed"] = 0
    for place, value in changes.items():
        section, key = place.split(".")
        recipe[section][key] = value
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=VARIANTS, nargs="+", default=list(VARIANTS), help="of these recipes alone")
    parser.add_argument("--threads", type=int, default=1, help="no figure depends on it but the time")
    parser.add_argument("--runs", type=Path, default=Path("runs/variants"), help="folder of the run folders")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "variants.json")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only:
        for i, (what, changes) in enumerate(VARIANTS[name].items()):
            folder = options.runs / f"{name}-{i}"
            run(changed(name, changes), folder, options.threads)
            reached = collect(folder, name, options.threads)
            figures = {part: reached[part]["accuracy"] for part in ("test", "train")}
            found.setdefault(name, []).append({"what": what, "changes": changes, **figures})
            print(f"{name}, {what}: {100 * figures['test']:.2f} %")
    record.write(options.out, {"recipes": found})


if __name__ == "__main__":
    main()
