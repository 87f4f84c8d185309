"""Train the recipes for real, once for every seed, and store what they reach on the test images.

    python benchmarks/reproduce.py                                   all, for seeds 0 to 4
    python benchmarks/reproduce.py --only lenet5-digits --seeds 0-1

A run that is finished is not repeated, one that was interrupted is continued: call it again. For the digits of
scikit-learn the seed also draws the test images, so that five seeds are five stratified splits.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import record

from stridenet import experiment
from stridenet.data.catalogue import open_data
from stridenet.zoo import recipes

NAMES = ("lenet5-mnist", "lenet5-digits")


def run(recipe: dict[str, Any], folder: Path, threads: int = 1) -> None:
    """Bring the run in `folder` to its end, wherever it is."""
    if (folder / "recipe.json").exists() and json.loads((folder / "recipe.json").read_text("utf-8")) != recipe:
        raise SystemExit(f"{folder} holds a run of another recipe: remove it, or give another --runs")
    if (folder / "results.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun = any((folder / "checkpoints").glob("step-*.safetensors"))
    splits = open_data(recipe["data"]["name"], seed=recipe["train"]["seed"])
    experiment.Run(experiment.prepare(recipe, splits, threads=threads), folder, echo=print).train(resume=begun)


def collect(folder: Path) -> dict[str, Any]:
    """What a finished run says about its test."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    test = {key: results["test"][key] for key in ("accuracy", "correct", "n", "interval", "loss")}
    best = results["best_epoch"]
    return {
        "seed": results["seed"],
        "test": test,
        "best_epoch": best + 1,  # as the command line counts
        "validation_accuracy": history[best]["validation_accuracy"],
        "seconds": results["seconds"],
        "machine": results["machine"],
        "date": datetime.fromtimestamp((folder / "results.json").stat().st_mtime, UTC).isoformat(timespec="seconds"),
    }


def summarize(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a recipe over all its seeds, of one machine and the day of the last run."""
    recipe = recipes.load(name)
    del recipe["train"]["seed"]
    accuracies = [run["test"]["accuracy"] for run in runs]
    machines, dates = [run.pop("machine") for run in runs], [run.pop("date") for run in runs]
    if any(machine != machines[0] for machine in machines):
        raise SystemExit(f"{name}: the runs are of several machines or versions; repeat them on one")
    return {
        "date": max(dates),
        "machine": machines[0],
        "recipe": recipe,
        "mean": mean(accuracies),
        "standard_deviation": stdev(accuracies) if len(accuracies) > 1 else None,
        "runs": runs,
    }


def seeds_of(text: str) -> list[int]:
    """The seeds of "0-4" or "3"."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, help="this recipe alone")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-4"), metavar="0-4")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the run folders")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the JSON files")
    options = parser.parse_args()
    for name in [options.only] if options.only else NAMES:
        folders = {seed: options.runs / f"{name}-seed{seed}" for seed in options.seeds}
        for seed, folder in folders.items():
            recipe = recipes.load(name)
            recipe["train"]["seed"] = seed
            run(recipe, folder)
        found = summarize(name, [collect(folder) for folder in folders.values()])
        print(f"{name}: mean {100 * found['mean']:.2f} % of {len(folders)} runs")
        record.write(options.out / f"{name}.json", found)


if __name__ == "__main__":
    main()
