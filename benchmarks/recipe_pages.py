"""Make docs/recipes/NAME.md and docs/zh/recipes/NAME.md, and a list of them, from the recipes and what they reach.

A page is the recipe, the summary of its network and the stored figures, with the words of recipe_words.toml.

    python benchmarks/recipe_pages.py
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from textwrap import fill
from typing import Any

import numpy as np
from pages import percent, table

from stridenet.series import t_interval
from stridenet.shapes import grouped
from stridenet.train.findings import KINDS
from stridenet.viz.summary import summary
from stridenet.zoo import models, recipes

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FOLDERS = {"en": "", "zh": "zh/"}  # below docs
IMAGES = {"mnist": 60_000, "cifar10": 50_000, "digits": 1_438}  # to train and validate on
WIDE = re.compile(r"(?<=[\u3001-\u9fff\uff00-\uffef])\n(?=[\u3001-\u9fff\uff00-\uffef])")  # a break in Chinese
Words = dict[str, Any]


def words() -> Words:
    """The words of both languages, and those of each recipe."""
    return tomllib.loads((ROOT / "benchmarks" / "recipe_words.toml").read_text("utf-8"))


def pages() -> Iterator[tuple[Path, str]]:
    """Every file that is made here, below docs, and its text."""
    said = words()
    for language, folder in FOLDERS.items():
        for name in recipes.names():
            yield Path(f"{folder}recipes/{name}.md"), page(name, language, said)
        yield Path(f"{folder}recipes/index.md"), _index(language, said)


def page(name: str, language: str, said: Words) -> str:
    """The page of a recipe in a language."""
    here, recipe, found = said[language], recipes.load(name), figures(name)
    example = f"stridenet train {name}" + ("" if found else " --data my_photos/")
    parts = [
        f"# `{name}`",
        here["languages"].format(name=name),
        f"**{_title(name, language, said)}{here['stop']}**",
        said["recipes"][name][language].strip(),
        f"## {here['train']}",
        f"```sh\n{example}\nstridenet recipes --show {name} > mine.toml\n```",
        _time(recipe, found, here),
        f"## {here['measured']}",
        *([_table(found, here), _origin(name, found, here, FOLDERS[language])] if found else [here["unmeasured"]]),
        f"## {here['findings']}",
        _expected(recipe, here, FOLDERS[language]),
        f"## {here['network']}",
        f"```text\n{_network(recipe)}\n```",
        f"## {here['recipe']}",
        f"```toml\n{recipes.source(name).strip()}\n```",
    ]
    return "\n\n".join(_wrapped(part.strip("\n")) for part in parts if part) + "\n"


def _wrapped(text: str) -> str:
    """A long line of words in lines of 120; lines of Chinese, where a break would be a space, as one."""
    if text.isascii() and "\n" not in text:
        return fill(text, 120, break_long_words=False, break_on_hyphens=False)
    return WIDE.sub("", text)


def figures(name: str) -> dict[str, Any]:
    """What is stored of a recipe: its file, its runs, and (mean, interval, n) by part; empty if nothing is."""
    for file in (f"results/{name}.json", f"results/systems/{name}.json"):
        if (DOCS / file).exists():
            found = json.loads((DOCS / file).read_text("utf-8"))
            break
    else:
        return {}
    accuracy = found.get("accuracy")
    if accuracy is None:
        values = [run["test"]["accuracy"] for run in found["runs"]]
        accuracy = {"test": {"mean": mean(values), "interval": t_interval(values), "n": len(values)}}
    return found | {"accuracy": accuracy, "file": file}


def _title(name: str, language: str, said: Words) -> str:
    return said["recipes"][name]["title"] if language == "zh" else recipes.load(name)["about"]["title"]


def _time(recipe: recipes.Recipe, found: dict[str, Any], here: Words) -> str:
    """How long a run takes, and on what."""
    if not found:
        return ""
    seconds, name = median(run["seconds"] for run in found["runs"]), recipe["data"]["name"]
    unit, n = ("s", f"{seconds:.0f}") if seconds < 100 else ("min", f"{seconds / 60:.0f}")
    share = recipe["data"]["validation"]
    held = round(share * IMAGES[name]) if isinstance(share, float) else share
    return here["time"].format(
        seconds=here["units"][unit].format(n=n),
        epochs=recipe["train"]["epochs"],
        images=grouped(IMAGES[name]),
        held=here["held"].format(held=grouped(held)) if held else "",
        data=here["data"][name],
    )


def _table(found: dict[str, Any], here: Words) -> str:
    published, rows = found["recipe"]["published"], []
    for part, title in here["parts"].items():
        if part in found["accuracy"]:
            measured, wanted = found["accuracy"][part], published.get(part)
            count = here["seeds"].format(n=measured["n"])  # with the space before it that the language wants
            rows.append(
                [
                    title,
                    here["none"] if wanted is None else percent(wanted),
                    f"**{percent(measured['mean'])}**{count}",
                    f" {here['to']} ".join(map(percent, measured["interval"])),
                    _verdict(measured, wanted, here),
                ]
            )
    return table(here["heads"], rows)


def _verdict(measured: dict[str, Any], wanted: float | None, here: Words) -> str:
    """As on the pages of the systems."""
    if wanted is None:
        return here["alone"]
    if measured["mean"] >= wanted:
        return here["reached"]
    within = measured["interval"][1] >= wanted
    return here["within" if within else "short"].format(points=f"{100 * (wanted - measured['mean']):.2f}")


def _origin(name: str, found: dict[str, Any], here: Words, folder: str) -> str:
    """Where the figures come from: the command, the file, the machine, and the page with more of them."""
    source, up, machine = found["recipe"]["published"].get("source"), "../" * (1 + folder.count("/")), found["machine"]
    of_a_report = "systems" in found["file"]
    return here["again"].format(
        published=here["published"].format(source=source) if source else "",
        command=f"python benchmarks/{'systems' if of_a_report else 'reproduce'}.py --only {name}",
        data=f"{up}{found['file']}",
        date=found["date"][:10],
        where=here["report" if of_a_report else "results"],
        page=f"{up}systems/{name[:2]}.md#{name}" if of_a_report else f"{up}results.md",
        what=here["of_a_report" if of_a_report else "of_ours"],
        **{key: machine[key] for key in ("processor", "python", "numpy", "stridenet")},
    )


def _expected(recipe: recipes.Recipe, here: Words, folder: str) -> str:
    """What the doctor says of it."""
    codes, page = recipe["notes"]["expected_findings"], "../" * (1 + folder.count("/")) + "doctor.md"
    kinds = here.get("kinds") or {code: kind.what for code, kind in KINDS.items()}
    found = [here["finding"].format(code=code, page=page, what=kinds[code]) for code in codes]
    return "\n".join([here["found"], "", *found]) if found else here["nothing"]


def _network(recipe: recipes.Recipe) -> str:
    """The layers, without what is measured of their memory."""
    args = recipe["model"]["args"]
    if recipe["name"] == recipes.COLOUR:  # its data say more
        args = {"channels": 3, "input_size": 32}
    network = models.make(recipe["model"]["name"], args, rng=np.random.default_rng(0))
    return summary(network, network.input_shape).partition("\n\n")[0]


def _index(language: str, said: Words) -> str:
    """The page that lists all recipes."""
    here, rows = said[language] | said[language]["index"], list[list[str]]()
    for name in recipes.names():
        found, wanted = figures(name), recipes.load(name)["published"].get("test")
        measured = percent(found["accuracy"]["test"]["mean"]) if found else here["none"]
        published = here["none"] if wanted is None else percent(wanted)
        rows.append([f"[`{name}`]({name}.md)", _title(name, language, said), published, measured])
    return f"{here['top']}\n{table(here['heads'], rows)}\n{here['end']}"


def main() -> None:
    for path, text in pages():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, "utf-8")
    print("written to docs/recipes, docs/zh/recipes")


if __name__ == "__main__":
    main()
