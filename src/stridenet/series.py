"""The same recipe with several seeds: a run folder for each below one folder, and what they say together.

seeds.json        the recipe, the seeds, what each finished run found, their mean and its interval
seed-0/ ...       the run folders
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, cast

from stridenet.errors import ConfigError, printable, shown
from stridenet.experiment import is_finished
from stridenet.files import read_regular, write_atomic
from stridenet.shapes import integer
from stridenet.strictjson import MAX_BYTES, from_json, to_json
from stridenet.zoo import recipes
from stridenet.zoo.recipes import Recipe

FILE = "seeds.json"
_MOST = 1000  # seeds
_SEEDS = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")  # one, or from one to another
_KEPT = ("accuracy", "correct", "n", "interval", "loss")  # of what a run says about its test


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval (low, high) of the mean of `values` by Student's t; None for one value.

    mean ± t s / sqrt(n), with s the standard deviation and t the 97.5 % quantile for n - 1 degrees of freedom
    (Student, The probable error of a mean, Biometrika 6 (1908) 1-25).

    >>> low, high = t_interval([0.98, 0.99, 0.97])
    >>> f"{low:.4f} {high:.4f}"
    '0.9552 1.0048'
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


class Series(NamedTuple):
    """Runs of `recipe` with `seeds`, below `folder`."""

    folder: Path
    recipe: Recipe
    seeds: list[int]

    def run_folder(self, seed: int) -> Path:
        """The run folder of a seed."""
        return self.folder / f"seed-{seed}"

    def recipe_of(self, seed: int) -> Recipe:
        """The recipe with that seed."""
        recipe = deepcopy(self.recipe)
        recipe["train"]["seed"] = seed
        return recipe

    def finished(self, seed: int) -> bool:
        """Whether the run of a seed is done."""
        return is_finished(self.run_folder(seed))

    def record(self) -> dict[str, Any]:
        """What the finished runs found, for seeds.json."""
        runs: list[dict[str, Any]] = []
        for seed in filter(self.finished, self.seeds):
            path = self.run_folder(seed) / "results.json"
            results = from_json(read_regular(path, limit=MAX_BYTES), printable(path))
            try:
                runs.append({"seed": seed} | {key: results["test"][key] for key in _KEPT})
            except (KeyError, TypeError):
                raise ConfigError(f"{printable(path)}: expected the results of a run, got something else") from None
        accuracies = [run["accuracy"] for run in runs]
        interval = t_interval(accuracies)
        return {
            "recipe": self.recipe | {"train": {k: v for k, v in self.recipe["train"].items() if k != "seed"}},
            "seeds": self.seeds,
            "runs": runs,
            "mean": mean(accuracies) if accuracies else None,
            "interval": interval and (max(interval[0], 0.0), min(interval[1], 1.0)),  # no accuracy lies outside
        }

    def write(self) -> dict[str, Any]:
        """Bring seeds.json up to date; its content."""
        record = self.record()
        write_atomic(self.folder / FILE, (to_json(record) + "\n").encode())
        return record


def is_series(folder: Path) -> bool:
    """Whether `folder` holds several seeds."""
    return (folder / FILE).exists()


def open_series(folder: Path) -> Series:
    """The series of an existing folder.

    Raises:
        ConfigError: its seeds.json is none.
        OSError: it cannot be read.
    """
    path = folder / FILE
    record = from_json(read_regular(path, limit=MAX_BYTES), printable(path))
    fields = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
    if not isinstance(fields.get("seeds"), list) or not fields["seeds"]:
        raise ConfigError(f"{printable(path)}: expected a list of seeds, got {shown(fields.get('seeds'))}")
    checked = [integer(printable(path), "seeds", seed, minimum=0) for seed in fields["seeds"]]
    return Series(folder, recipes.from_record(fields.get("recipe"), printable(path)), checked)


def parse_seeds(text: str) -> list[int]:
    """The seeds that a text names.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]

    Raises:
        ConfigError: it names none, one twice, or more than 1 000.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _SEEDS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise ConfigError(f"--seeds: expected seeds such as 0-4 or 0,1,7, got {shown(text)}")
        if last - first >= _MOST:
            raise ConfigError(f"--seeds: expected at most {_MOST} seeds, got {shown(text)}")
        seeds += range(first, last + 1)
    if len(seeds) > _MOST:
        raise ConfigError(f"--seeds: expected at most {_MOST} seeds, got {shown(text)}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds: expected each seed once, got {shown(text)}")
    return seeds
