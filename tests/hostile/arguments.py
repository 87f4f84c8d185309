"""The child of test_arguments: random command lines in this process, with what they would train on left out."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz import mutations as m
from fuzz.formats import OTHER, RECIPE, mutate_toml, pictures, to_toml
from stridenet import StridenetError, cli, experiment
from stridenet.cli import cli as group
from stridenet.data import fetch

VALUES = [
    "", "-", "--", "0", "1", "-1", "3", "1e-3", "0.5", "1e400", "nan", "inf", "-inf", "0x10", "1_000", "٣", "9" * 5000,
    "true", "None", "mnist", "cifar10", "lenet5-mnist", "digits", "lenet5-mnst", "model", "idx", "runs/none",
    "mine.toml", "odd.toml", "mutant", "mutant.toml", "picture.png", "folder",
    "missing", "..", "/", "/dev/null", "/dev/zero", "*",
    "@file", "%s", "{0}", "$(true)", ";true", "a\nb", "\x1b[31m", "\udcff", "\u202e", "数字", "x" * 2**20, "loops",
]  # fmt: skip


STARTS = [
    ["train"], ["train", "mine.toml"], ["train", "mutant.toml"], ["train", "--resume", "run"], ["evaluate", "model"],
    ["evaluate", "mutant"], ["predict", "model", "picture.png"], ["predict", "model", "mutant"], ["predict"],
    ["summary", "model"], ["summary", "mutant.toml"], ["summary", "mutant"], ["recipes"], ["data"], ["data", "fetch"],
    ["data", "verify", "mnist"], ["doctor", "mutant"], ["doctor", "model"], ["explore", "model"], ["explore", "mutant"],
    ["report", "run"], ["trian"], [],
]  # fmt: skip


def options(command: Any) -> list[str]:
    """The options of a command, and some that no command has."""
    own = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
    return [*own, *own, "--help", "-h", "--epoch", "--x", "-x"]


def line(rng: random.Random) -> list[str]:
    """A command that may be right, and up to four words more: options with a value beside or behind, and values."""
    words = [*rng.choice(STARTS)] or [*rng.choice(list(group.commands.items()))[:1]]
    known = options(group.commands.get(words[0], group))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        option, value = rng.choice(known), rng.choice(VALUES)
        words += rng.choice(([option, value], [option, value], [f"{option}={value}"], [option], [value]))
    return words


def refuse(*arguments: object, **options: object) -> None:
    raise StridenetError("nothing is trained or downloaded here")


def main(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """What `count` command lines in `folder` did."""
    experiment.Run.train = refuse  # type: ignore[method-assign]
    fetch.fetch_mnist = fetch.fetch_cifar10 = refuse
    valid = [to_toml(recipe).replace('"noise"', '"idx"').encode() for recipe in (RECIPE, OTHER)]
    (folder / "mine.toml").write_bytes(valid[0])
    (folder / "odd.toml").write_bytes(b"a = [")
    (folder / "picture.png").write_bytes(pictures("PNG", "L")[0])
    (folder / "folder").mkdir()
    (folder / "run").mkdir()
    seeds = [(folder / "model").read_bytes(), *pictures("PNG", "L")]
    record = json.dumps({"name": "mine", **RECIPE, "data": {"name": "idx"}}).encode()
    codes: Counter[str] = Counter()
    failures: list[str] = []
    for i in range(count):
        rng = random.Random(f"{seed} {i}")
        words = line(rng)
        if any("mutant" in word or word == "run" for word in words):
            (folder / "mutant").write_bytes(m.mutate_bytes(rng, rng.choice(seeds)))
            (folder / "mutant.toml").write_bytes(mutate_toml(rng, rng.choice(valid)))
            (folder / "run/recipe.json").write_bytes(m.mutate_json(rng, record))
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.run(words)
        except BaseException:  # noqa: BLE001
            failures.append(f"case {i}: {words!r:.300}: {traceback.format_exc()[-600:]}")
            code = -1
        said = err.getvalue()
        codes[str(code)] += 1
        faults = [code == -1, code > 0 and not said, len(said) > 5000, "Traceback" in said]
        if any(faults) or "\x1b" in said + out.getvalue():
            failures.append(f"case {i}: {words!r:.300}: {code}: {said[:300]!r}")
        if len(failures) > 9:
            break
    return {"codes": codes, "failures": failures}


if __name__ == "__main__":
    count, seed, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(main(int(count), int(seed), Path(folder))))
