"""What both READMEs say is true: their code runs, their links lead somewhere, their commands exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import stridenet
from stridenet.cli import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "README.zh-CN.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`]+)`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, language: str = "") -> list[str]:
    """The code blocks of a page, in order; those of one language, if given."""
    return [code for name, code in BLOCK.findall(text_of(page)) if language in ("", name)]


def links(page: str) -> list[str]:
    """The links of a page to files beside it, without those to the other language."""
    prose = BLOCK.sub("", text_of(page))
    return [link for link in LINK.findall(prose) if "://" not in link and link not in PAGES]


def commands(page: str) -> list[list[str]]:
    """Every `stridenet ...` of the shell blocks and of the text, as words without the first."""
    shell = "\n".join(blocks(page, "sh")).replace("&&", "\n")
    lines = [*shell.splitlines(), *SPAN.findall(BLOCK.sub("", text_of(page)).replace("\n", " "))]
    words = [shlex.split(line.partition(">")[0], comments=True) for line in lines if "stridenet " in line]
    return [line[1:] for line in words if line and line[0] == "stridenet"]


def test_both_languages_have_the_same_skeleton() -> None:
    english, chinese = PAGES
    assert BLOCK.findall(text_of(english)) == BLOCK.findall(text_of(chinese))
    assert links(english) == [link.replace("docs/zh/", "docs/") for link in links(chinese)]
    for start in ("#", "|", "<!--"):
        count = [sum(line.startswith(start) for line in BLOCK.sub("", text_of(page)).splitlines()) for page in PAGES]
        assert count[0] == count[1], f"lines that begin with {start}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert [link for link in links(page) if not (ROOT / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page: str) -> None:
    found = commands(page)
    assert {words[0] for words in found} == set(cli.commands)
    for words in found:
        check_command(words)


def check_command(words: list[str]) -> None:
    """Follow `words` through the command line: groups, options with their values, arguments."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        command, words = command.commands[words[0]], words[1:]
    command.make_context("stridenet", list(words))


def test_a_wrong_command_is_found() -> None:
    with pytest.raises(KeyError):
        check_command(["trian"])
    with pytest.raises(click.NoSuchOption):
        check_command(["train", "--epoch-count", "5"])


class Thinned(stridenet.Dataset):
    """Made-up digits, each of which stands for twenty: 5 000 put aside are 250, and an epoch is short."""

    @classmethod
    def make(cls, count: int, *, seed: int) -> Thinned:
        images = np.random.default_rng(seed).integers(0, 256, (count, 1, 28, 28), np.uint8)
        return cls(images, np.arange(count) % 10, tuple("0123456789"))

    def split(self, part: int | float, *, seed: int) -> tuple[stridenet.Dataset, stridenet.Dataset]:
        return super().split(part // 20, seed=seed)


@pytest.mark.big
def test_the_python_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks in one namespace, in a folder where the first one finds its run; only the data are fewer."""
    splits = stridenet.Splits(Thinned.make(380, seed=1), Thinned.make(70, seed=2), "mnist", "made up")
    monkeypatch.setitem(vars(stridenet), "open_data", lambda source: {"mnist": splits}[source])
    monkeypatch.chdir(tmp_path)
    network = a_run(tmp_path)
    save_file(dict(torch_names(network)), "lenet.safetensors")

    namespace: dict[str, object] = {}
    for code in blocks("README.md", "python"):
        exec(compile(code, "README.md", "exec"), namespace)

    shown = capsys.readouterr().out
    assert "% of 70 images" in shown
    assert "conv2.weight" in shown
    score = float(next(line for line in shown.splitlines() if re.fullmatch(r"0\.\d+", line)))
    assert score > 0.9  # of scikit-learn's digits
    trained = stridenet.load("lenet5.safetensors")
    assert trained.predict(splits.test.images).shape == (70,)
    assert not np.array_equal(trained.scores(splits.test.images), trained.scores(255 - splits.test.images))


def a_run(folder: Path) -> stridenet.Sequential:
    """The network of a run of LeNet-5 in `folder`, as `stridenet train` would leave it."""
    run = folder / "runs" / "lenet5-mnist-001"
    run.mkdir(parents=True)
    network = stridenet.lenet5(rng=np.random.default_rng(3))
    stridenet.Model(network, tuple("0123456789"), (1, 28, 28)).save(run / "model.safetensors")
    return network


def torch_names(network: stridenet.Sequential) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters of a LeNet-5 under the names that a module of PyTorch would give them."""
    modules = ("conv1", "conv1", "conv2", "conv2", "fc1", "fc1", "fc2", "fc2", "fc3", "fc3")  # weight and bias
    for module, (name, value) in zip(modules, network.state_dict().items(), strict=True):
        yield f"{module}.{name.rpartition('.')[2]}", np.ascontiguousarray(value)


@pytest.mark.parametrize("page", PAGES)
def test_the_predictor_runs_as_written(page: str, tmp_path: Path) -> None:
    (code,) = (code for code in blocks(page, "sh") if "stridenet export" in code)
    a_run(tmp_path)
    Image.fromarray(np.full((28, 28), 255, np.uint8)).save(tmp_path / "seven.png")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["/bin/sh", "-e", "-c", code], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, timeout=300
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "seven.png" in ended.stdout.decode().splitlines()[-1]


@pytest.mark.parametrize("page", PAGES)
def test_each_door_takes_six_lines_at_most(page: str) -> None:
    doors = [
        code for code in blocks(page) if re.search("ConvNetClassifier|onnx.export|torch_weights|export runs", code)
    ]
    assert len(doors) == 4
    assert max(len([line for line in code.splitlines() if line]) for code in doors) <= 6


def test_the_lines_that_are_counted() -> None:
    """The ten lines of the heading, without the imports."""
    code = next(code for code in blocks("README.md", "python") if "Trainer" in code)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 10


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_are_the_stored_ones(page: str) -> None:
    """Each figure of the table of results, as its JSON file has it."""

    def stored(name: str) -> dict[str, Any]:
        return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text("utf-8"))

    text = (ROOT / page).read_text("utf-8")
    for name in ("lenet5-mnist", "lenet5-digits"):
        found = stored(name)
        accuracies = [run["test"]["accuracy"] for run in found["runs"]]
        assert f"**{100 * found['mean']:.2f} %**" in text
        assert re.search(rf"{100 * min(accuracies):.2f} (to|至) {100 * max(accuracies):.2f}", text)
    assert re.search(rf"\| {stored('lenet5_epoch')['ratio']['median']:.2f} (x|倍)", text)
    assert f"| {stored('memory')['added_mb']:.0f} MB |" in text
    for work in stored("speed")["works"].values():
        if "published_ms" not in work:
            cells = [f"{work['ratio'][peer]['median']:.1f}" for peer in work["ratio"]]
            assert f" | {' | '.join(cells)} |" in text
    for ratio in stored("whole_recipe")["ratio"].values():
        assert f" | {ratio['median']:.1f} | |" in text
