"""Train the recipes of the five systems in full, once for every seed, and store what they reach beside their reports.

    python benchmarks/systems.py                                     all, for seeds 0 to 2
    python benchmarks/systems.py --only s2-pynet s3-batchnorm --seeds 0-4

It may be ended at any moment: call it again, and what is finished is not repeated, what was interrupted is continued
from its last epoch. The file of a recipe is written when all its seeds are done; then `benchmarks/tables.py` makes the
pages and the pictures.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import record
from reproduce import run, seeds_of

from stridenet import experiment, model
from stridenet.data.dataset import Dataset
from stridenet.train.evaluation import evaluate
from stridenet.zoo import recipes

NAMES = tuple(name for name in recipes.names() if re.match(r"s\d-", name))
TESTED = {"s4-cifar10": 1000}  # the first so many test images, where the report takes no more
LOG = {  # the losses that report S2 prints, by epoch
    1: 2.30256, 10: 2.30146, 12: 2.30126, 13: 2.27543, 14: 1.01515, 15: 0.12957, 16: 0.07925,
    20: 0.03440, 30: 0.00938, 50: 0.000579, 100: 4.31e-5, 250: 2.708e-5,
}  # fmt: skip
BEGINS, SETTLED = 2.0, 2  # learning has set in at a loss below BEGINS; SETTLED epochs later the logs are comparable


def collect(folder: Path, name: str, threads: int) -> dict[str, Any]:
    """What a finished run reached on its training, validation and test images, and its losses."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    setup = experiment.prepare(*experiment.open_run(folder), threads=threads)
    network, best, test = model.load(folder).network, results["best_epoch"], setup.splits.test

    def judge(dataset: Dataset) -> dict[str, Any]:
        found = evaluate(network, setup.loader(dataset), setup.trainer.loss, threads=threads)
        return {"accuracy": found.accuracy, "correct": found.correct, "n": found.n, "interval": list(found.interval)}

    images = {"test": test, "train": setup.train.dataset}
    if setup.validation is not None:
        images["validation"] = setup.validation.dataset
    if name in TESTED:
        images |= {"test": test.subset(range(TESTED[name])), "whole test": test}
    curve = {key: [row[key] for row in history] for key in ("train_loss", "validation_accuracy") if key in history[0]}
    return {
        "seed": results["seed"],
        **{part: judge(dataset) for part, dataset in images.items()},
        "best_epoch": best + 1,  # as the command line counts
        "seconds": results["seconds"],
        "seconds_per_epoch": median(row["seconds"] for row in history),
        "curve": curve,
        "machine": results["machine"],
        "date": datetime.fromtimestamp((folder / "results.json").stat().st_mtime, UTC).isoformat(timespec="seconds"),
    }


def summarize(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a recipe over all its seeds, of one machine and the day of the last run."""
    recipe = recipes.load(name)
    del recipe["train"]["seed"]
    machines, dates = [run.pop("machine") for run in runs], [run.pop("date") for run in runs]
    for machine in machines:
        machine["blas"].sort()  # their order is that of loading
    if any(machine != machines[0] for machine in machines):
        raise SystemExit(f"{name}: the runs are of several machines or versions; repeat them on one")
    parts = [part for part in ("test", "whole test", "validation", "train") if part in runs[0]]
    found = {
        "date": max(dates),
        "machine": machines[0],
        "recipe": recipe,
        "accuracy": {part: over_seeds([run[part]["accuracy"] for run in runs]) for part in parts},
        "seconds_per_epoch": median(run["seconds_per_epoch"] for run in runs),
        "runs": runs,
    }
    return found | ({"log": [compare(run["curve"]["train_loss"]) for run in runs]} if name == "s2-pynet" else {})


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean and 95 % interval of the mean: Student's t of n - 1 degrees of freedom times s / sqrt(n)."""
    from scipy.stats import t

    middle, n = mean(values), len(values)
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / n**0.5 if n > 1 else None
    interval = None if half is None else [max(middle - half, 0.0), min(middle + half, 1.0)]
    return {"mean": middle, "interval": interval, "n": n}


def compare(losses: list[float], log: dict[int, float] = LOG) -> dict[str, Any]:
    """The losses of a run beside the published ones, moved so that learning sets in at the same epoch.

    How late it sets in depends on the seed, and how low the loss is right then on the moment within the epoch: those
    epochs are shown and not judged. An epoch beyond the end of the run is compared with its last.
    """
    published = min(epoch for epoch, loss in log.items() if loss < BEGINS)
    onset = next((epoch for epoch, loss in enumerate(losses, 1) if loss < BEGINS), None)
    if onset is None:
        return {"onset": None, "published_onset": published, "rows": [], "to_30": None, "later": None}
    rows = []
    for epoch, loss in log.items():
        ours = min(max(epoch + onset - published, 1), len(losses))
        rows.append({"epoch": epoch, "published": loss, "our_epoch": ours, "measured": losses[ours - 1]})
        rows[-1]["ratio"] = losses[ours - 1] / loss
    apart = {row["epoch"]: max(row["ratio"], 1 / row["ratio"]) for row in rows}
    settled = {epoch: factor for epoch, factor in apart.items() if epoch >= published + SETTLED}
    early = max(factor for epoch, factor in settled.items() if epoch <= 30)
    later = max(factor for epoch, factor in settled.items() if epoch > 30)
    return {"onset": onset, "published_onset": published, "rows": rows, "to_30": early, "later": later}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, nargs="+", metavar="RECIPE", default=NAMES, help="these alone")
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-2"), metavar="0-2")
    parser.add_argument("--threads", type=int, default=1, help="no figure depends on it but the time")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="folder of the run folders")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "systems", help="folder of the JSON files")
    options = parser.parse_args()
    for name in options.only:
        folders = {seed: options.runs / f"{name}-seed{seed}" for seed in options.seeds}
        for seed, folder in folders.items():
            recipe = recipes.load(name)
            recipe["train"]["seed"] = seed
            run(recipe, folder, options.threads)
        found = summarize(name, [collect(folder, name, options.threads) for folder in folders.values()])
        print(f"{name}: mean {100 * found['accuracy']['test']['mean']:.2f} % of {len(folders)} runs")
        record.write(options.out / f"{name}.json", found)


if __name__ == "__main__":
    main()
