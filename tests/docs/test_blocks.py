"""Every code block of every page of docs runs, or is run by another test, or is text.

The blocks of a page run in order, in one folder and one namespace. A first line such as `# mine.toml` saves the block
under that name.
"""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image, ImageDraw

from conftest import write_idx
from stridenet import cli
from stridenet.errors import ConfigError
from stridenet.zoo import recipes
from test_readme import check_command

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCED = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"# (\w[\w-]*\.(?:py|toml|json))\n")
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))

# Pages whose blocks of some kinds have a test of their own, which knows what they need and what they say.
ELSEWHERE = {
    "coursework.md": ("interop/test_coursework.py", {"python"}),
    "deploy.md": ("test_deploy.py", {"python", "sh"}),
    "onnx.md": ("interop/test_onnx_export.py", {"python"}),
    "pytorch-weights.md": ("interop/test_torch_weights.py", {"python"}),
    "scikit-learn.md": ("interop/test_estimator.py", {"python"}),
    **{page: ("test_reference.py", {"python"}) for page in PAGES if page.startswith("reference/")},
}
LET_BE = {"pip", "git", "cd", "source", "pytest"}  # what prepares a machine
NOT_HERE = {"bench", "completion", "data", "warmup"}  # commands that take long, or need a network
AFAR = {"mnist", "cifar10"}  # data sets on which nothing is trained here


def blocks(page: str) -> list[tuple[str, str]]:
    """Kind and text of each block."""
    return [(kind, code) for _, kind, code in FENCED.findall((DOCS / page).read_text("utf-8"))]


def own(page: str) -> list[tuple[str, str]]:
    """The blocks that run here."""
    _, others = ELSEWHERE.get(page, ("", set()))
    return [(kind, code) for kind, code in blocks(page) if kind in RUN and kind not in others]


# What each kind of block is


class Place:
    """The folder and the namespace of a page; with `epochs`, no training of its commands is longer than that."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.epochs: int | None = None
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def python(self, code: str) -> None:
        """Statements, or examples with what they print."""
        if not code.startswith(">>>"):
            exec(compile(code, self.page, "exec"), self.names)
            return
        test = doctest.DocTestParser().get_doctest(code, self.names, self.page, None, None)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert runner.run(test, clear_globs=False).failed == 0
        self.names.update(test.globs)

    def toml(self, code: str) -> None:
        """A recipe."""
        recipes.check(tomllib.loads(code), self.page)

    def json(self, code: str) -> None:
        """Any JSON."""
        json.loads(code)

    def sh(self, code: str) -> None:
        """A command a line, or several with && between them."""
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                self.command(words[:end])
                words = words[end + 1 :]

    def command(self, words: list[str]) -> None:
        """One command, with > FILE behind it, maybe."""
        program, *rest = words
        if program == "stridenet":
            self.stridenet(rest)
        elif program == "python" and rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]), f"no module {rest[1]}"
        elif program == "python" and (self.folder / rest[0]).exists():
            done = subprocess.run([sys.executable, *rest], cwd=self.folder, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
        elif program == "python":
            assert (ROOT / rest[0]).is_file(), f"no file {rest[0]}"
        else:
            assert program in LET_BE, f"{self.page}: {program} is not known here; its block may be text"

    def stridenet(self, words: list[str]) -> None:
        """Run the command line, which must succeed; follow the words only where that would take long."""
        target, mode = None, "w"
        if words[-2:-1] in ([">"], [">>"]):
            words, mode, target = words[:-2], {">": "w", ">>": "a"}[words[-2]], words[-1]
        check_command(words)
        if words[0] in NOT_HERE or self.is_afar(words):
            return
        if self.epochs is not None and words[0] == "train" and "--resume" not in words:
            words = [*words, "--epochs", str(self.epochs)]
        if target is None:
            assert cli.run(words) == 0, words
        else:
            child = [sys.executable, "-c", "from stridenet.cli import main; main()", *words]
            with (self.folder / target).open(mode) as file:
                subprocess.run(child, cwd=self.folder, stdout=file, check=True, timeout=120)

    def is_afar(self, words: list[str]) -> bool:
        """Whether a command would train on a data set that is not made here."""
        if words[0] not in ("train", "doctor") or "--resume" in words:
            return False
        if "--data" in words:
            return words[words.index("--data") + 1] in AFAR
        name = next((word for word in words[1:] if not word.startswith("-")), "lenet5-mnist")
        if Path(name).exists() and not name.endswith(".toml"):
            return False  # a run or a model
        return recipes.load(name)["data"]["name"] in AFAR


RUN: dict[str, Callable[[Place, str], None]] = {
    "python": Place.python,
    "sh": Place.sh,
    "toml": Place.toml,
    "json": Place.json,
}


# What lies in the folder of a page


@pytest.fixture(scope="session")
def furniture(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A folder with pictures, data sets and two runs of LeNet-5 that pages may use."""
    folder, rng = tmp_path_factory.mktemp("furniture"), np.random.default_rng(0)
    seven = Image.new("L", (90, 70), 250)
    ImageDraw.Draw(seven).line([(25, 12), (60, 12), (40, 60)], fill=10, width=6)
    seven.save(folder / "seven.png")
    for name, draw in shapes().items():
        (folder / "my_photos" / name).mkdir(parents=True)
        for i in range(40):
            photo = Image.fromarray(rng.integers(0, 60, (32, 32), np.uint8))
            draw(ImageDraw.Draw(photo), *map(int, rng.integers(3, 10, 2)))
            photo.save(folder / "my_photos" / name / f"{i}.png")
    (folder / "my_digits").mkdir()
    for name, count in (("train", 600), ("t10k", 200)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 60, (count, 28, 28))
        images[np.arange(count), 4 + 2 * labels, 4:24] = 255  # a line, lower and lower
        write_idx(folder / "my_digits" / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / "my_digits" / f"{name}-labels-idx1-ubyte", labels)
    run = folder / "runs" / "lenet5-mnist-001"
    run.parent.mkdir()
    words = ["train", "--data", str(folder / "my_digits"), "--epochs", "1", "--out", str(run), "--quiet"]
    assert cli.run(words) == 0
    shutil.copytree(run, folder / "runs" / "lenet5-mnist-002")
    return folder


def shapes() -> dict[str, Callable[..., None]]:
    """The classes of my_photos, and how each is drawn."""
    return {
        "circle": lambda pen, x, y: pen.ellipse([x, y, x + 18, y + 18], outline=255, width=3),
        "cross": lambda pen, x, y: pen.line(
            [(x, y), (x + 18, y + 18), (x + 9, y + 9), (x + 18, y), (x, y + 18)], 255, 3
        ),
        "line": lambda pen, x, y: pen.line([(x, y), (x + 18, y + 4)], fill=255, width=3),
    }


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, furniture: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The folder of the page that the test has as its parameter."""
    page = request.node.callspec.params["page"]
    shutil.copytree(furniture, tmp_path, dirs_exist_ok=True)
    if "stridenet train lenet5-digits" not in "".join(code for kind, code in blocks(page) if kind == "sh"):
        shutil.copytree(request.getfixturevalue("digits_run"), tmp_path / "runs" / "lenet5-digits-001")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Place(page, tmp_path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


# The tests

WITH_BLOCKS = [page for page in PAGES if own(page) and not page.startswith("zh/")]


def run(page: str, place: Place) -> None:
    """All blocks of a page, in order."""
    for kind, code in own(page):
        if saved := SAVED.match(code):
            (place.folder / saved[1]).write_text(code, "utf-8")
        RUN[kind](place, code)


@pytest.mark.big
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_the_blocks_run(page: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, but for trainings from the command line: two epochs, no pictures, and a report's times: short."""
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *given: None)
    monkeypatch.setattr("stridenet.viz.insides.SECONDS", 0.001)
    place.epochs = 2
    run(page, place)


@pytest.mark.slow
@pytest.mark.big
@pytest.mark.parametrize(
    "page", [page for page in WITH_BLOCKS if "stridenet train" in (DOCS / page).read_text("utf-8")]
)
def test_the_blocks_run_as_written(page: str, place: Place) -> None:
    run(page, place)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_kind(page: str) -> None:
    site = ("index.md", "reference/index.md", "systems.md", "recipes/index.md", "zh/recipes/index.md")
    directives = {"{toctree}"} if page in site else {"{toctree}", "{eval-rst}"} if page.startswith("api/") else set()
    assert {kind for kind, _ in blocks(page)} <= {*RUN, "text", *directives}
    text = (DOCS / page).read_text("utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(page))  # none is left open


def test_no_page_and_no_block_is_forgotten() -> None:
    for page in PAGES:
        kinds = {kind for kind, _ in blocks(page)} & RUN.keys()
        _, others = ELSEWHERE.get(page, ("", set()))
        assert page in WITH_BLOCKS or page.startswith("zh/") or kinds <= others
    assert len(WITH_BLOCKS) >= 10


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_that_is_run_elsewhere_is(page: str) -> None:
    test, kinds = ELSEWHERE[page]
    code = (ROOT / "tests" / test).read_text("utf-8")
    assert f'"{page}"' in code or f'"{page.partition("/")[0]}"' in code
    assert kinds <= {kind for kind, _ in blocks(page)} or page == "reference/index.md"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("zh/")])
def test_a_chinese_page_has_the_blocks_of_the_english_one(page: str) -> None:
    english = page.removeprefix("zh/")
    run = [[block for block in blocks(name) if block[0] in RUN] for name in (english, page)]
    assert run[0] == run[1]
    for start in ("#", "|", "!["):
        texts = [FENCED.sub("", (DOCS / name).read_text("utf-8")) for name in (english, page)]
        counts = [sum(line.startswith(start) for line in text.splitlines()) for text in texts]
        assert counts[0] == counts[1], f"lines that begin with {start}"


@pytest.mark.parametrize(
    ("kind", "code", "error", "words"),
    [
        ("python", "x = 1 / 0", ZeroDivisionError, "division"),
        ("python", ">>> 1 + 1\n3\n", AssertionError, "== 0"),
        ("sh", "stridenet trian", KeyError, "trian"),
        ("sh", "stridenet predict seven.png nothing.png", AssertionError, "seven.png"),
        ("sh", "stridenet train lenet5-mnist --epoch-count 3", click.NoSuchOption, "epoch-count"),
        ("sh", "ls && rm -rf /", AssertionError, "ls is not known"),
        ("sh", "python nothing.py", AssertionError, "no file nothing.py"),
        ("sh", "python -m nothing_of_that_name", AssertionError, "no module"),
        ("toml", "[model]\nnmae = 'lenet5'", ConfigError, "nmae"),
        ("json", "{'a': 1}", ValueError, "property name"),
    ],
)
def test_a_block_that_is_wrong_is_found(
    kind: str, code: str, error: type[Exception], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=words):
        RUN[kind](Place("page.md", tmp_path), code)


def test_a_long_training_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Place("page.md", tmp_path)
    (tmp_path / "own.toml").write_text(recipes.source("lenet5-mnist").replace('"mnist"', '"digits"'), "utf-8")
    assert page.is_afar(["train"])
    assert page.is_afar(["train", "s4-cifar10"])
    assert page.is_afar(["doctor", "lenet5-mnist"])
    assert page.is_afar(["train", "own.toml", "--data", "mnist"])
    assert not page.is_afar(["train", "own.toml"])
    assert not page.is_afar(["train", "--data", "my_photos/"])
    assert not page.is_afar(["predict", "runs/lenet5-mnist-001"])
