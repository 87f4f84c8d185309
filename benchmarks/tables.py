"""Make every page of figures and all charts from the files of docs/results.

docs/results.md and docs/benchmarks.md whole, the figures of docs/systems and docs/from-loops.md, the pages of recipes.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import recipe_pages
import speed_page
import steps
import systems_page
from pages import machines, percent, table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECIPES = ("lenet5-mnist", "lenet5-digits")


def render(folder: Path) -> str:
    """The whole page; FileNotFoundError if a benchmark has not been run."""
    names = (*RECIPES, "lenet5_epoch", "startup", "memory")
    found = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in names}
    recipes = {name: found[name] for name in RECIPES}
    parts = [_INTRODUCTION, _recipes(recipes), _runs(recipes), _speed(found["lenet5_epoch"])]
    parts += [_startup(found["startup"]), _memory(found["memory"]), machines(found)]
    return "\n".join(parts)


_INTRODUCTION = """\
# Measured results

Every figure here was measured by a script of `benchmarks/` and is stored in `docs/results/` with its date and machine.
`python benchmarks/tables.py` makes this page of those files; nothing is typed by hand.
"""


def _recipes(recipes: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, found in recipes.items():
        published = found["recipe"]["published"]
        accuracies = [run["test"]["accuracy"] for run in found["runs"]]
        rows.append(
            [
                f"`{name}`",
                f"{percent(published['test'])}, {published['source']}" if "test" in published else "none",
                f"**{percent(found['mean'])}**",
                percent(found["standard_deviation"]),
                f"{percent(min(accuracies))} to {percent(max(accuracies))}",
                str(len(accuracies)),
            ]
        )
    seeds = table(["recipe", "published", "mean test accuracy", "standard deviation", "range", "seeds"], rows)
    return f"""\
## Recipes

Each run chose its epoch on validation images held out of the training images, then saw the test images once. For the
digits of scikit-learn each seed draws its own stratified split.

{seeds}"""


def _runs(recipes: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, found in recipes.items():
        for run in found["runs"]:
            test = run["test"]
            low, high = (percent(bound) for bound in test["interval"])
            rows.append(
                [
                    f"`{name}`",
                    str(run["seed"]),
                    percent(test["accuracy"]),
                    f"{low} to {high}",
                    f"{test['correct']} of {test['n']}",
                    f"{run['best_epoch']} of {found['recipe']['train']['epochs']}",
                    f"{run['seconds']:.0f}",
                ]
            )
    head = ["recipe", "seed", "test accuracy", "95 % interval", "correct images", "best epoch", "seconds of training"]
    return "Every run:\n\n" + table(head, rows)


def _speed(found: dict[str, Any]) -> str:
    settings, ratio, seconds = found["settings"], found["ratio"], found["median_seconds"]
    rows = [[_mode(mode), f"{median:.2f}"] for mode, median in seconds.items()]
    recipe = settings["recipe"]
    length = "an epoch" if settings["steps"] is None else f"{settings['steps']} steps"
    return f"""\
## Speed

Seconds for {length} of `{recipe["name"]}` at batch {recipe["train"]["batch_size"]}, median of
{settings["pairs"]} in turns with PyTorch {found["torch"]}: training steps with their data, no validation. PyTorch has
{settings["threads"]["PyTorch"]} threads, stridenet {settings["threads"]["stridenet"]}, as `stridenet train` does.

{table(["", "seconds"], rows)}
stridenet takes **{ratio["median"]:.2f} x** the time of {found["peer"]}, the fastest of PyTorch's modes here
({ratio["min"]:.2f} to {ratio["max"]:.2f}, turn by turn).
"""


def _mode(mode: str) -> str:
    return mode if mode == "stridenet" else f"PyTorch, {mode}"


def _startup(found: dict[str, Any]) -> str:
    added, ratio = found["import_added_ms"], found["help_ratio"]
    rows = [[f"`{name}`", f"{median:.0f}"] for name, median in found["median_ms"].items()]
    return f"""\
## Start

Milliseconds of a whole process, median of {found["settings"]["runs"]} in turns.

{table(["", "milliseconds"], rows)}
`import stridenet` adds **{added["median"]:.1f} ms** to NumPy's import; `stridenet --help` takes
**{ratio["median"]:.2f} x** `python -c 'import click'`.
"""


def _memory(found: dict[str, Any]) -> str:
    images, batch_size = found["settings"]["images"], found["settings"]["batch_size"]
    return f"""\
## Memory

Evaluating {images} images at batch {batch_size} adds **{found["added_mb"]:.0f} MB** to a process that holds them as
bytes; its peak is {found["peak_mb"]:.0f} MB.
"""


def main() -> None:
    for page, make in (("results.md", render), ("benchmarks.md", speed_page.render)):
        (DOCS / page).write_text(make(DOCS / "results"), "utf-8")
        print(f"written to docs/{page}")
    for page in (DOCS / "systems.md", *sorted((DOCS / "systems").glob("*.md"))):
        page.write_text(systems_page.fill(page.read_text("utf-8"), DOCS / "results" / "systems"), "utf-8")
        print(f"written to {page.relative_to(DOCS.parent)}")
    steps.PAGE.write_text(steps.fill(steps.PAGE.read_text("utf-8"), DOCS / "results"), "utf-8")
    recipe_pages.main()
    steps.draw(DOCS / "results", DOCS / "images")
    speed_page.draw(DOCS / "results", DOCS / "images")
    systems_page.draw(DOCS / "results" / "systems", DOCS / "images" / "systems")


if __name__ == "__main__":
    main()
