"""What holds for every command: exit codes, one line for an error, and no surprise from the terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from helpers import MAIN
from stridenet import cli
from stridenet.model import Model
from stridenet.nn.layers import Flatten, Linear
from stridenet.nn.sequential import Sequential
from stridenet.zoo import recipes

RECIPES = ", ".join(recipes.names())
COMMANDS = [
    "train",
    "doctor",
    "evaluate",
    "report",
    "predict",
    "explore",
    "export",
    "summary",
    "recipes",
    "data",
    "bench",
    "warmup",
    "completion",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def model_file(path: Path, classes: tuple[str, ...] = ("a", "b")) -> str:
    network = Sequential(Flatten(), Linear(64, len(classes), rng=np.random.default_rng(0)), input_shape=(1, 8, 8))
    Model(network, classes, (1, 8, 8)).save(path)
    return str(path)


def picture(path: Path) -> str:
    from PIL import Image

    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:6, 3:5] = 255
    Image.fromarray(pixels).save(path)
    return str(path)


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing on standard output."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.rstrip("\n").isprintable()
    return err


# Help


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_with_examples(command: str, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, option]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: stridenet {command} ")
    examples = out.partition("Examples:")[2].split("\n")
    assert sum(line.strip().startswith("stridenet ") for line in examples) >= 2


def test_the_examples_of_the_help_are_valid_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example parses: its command and options exist."""
    seen = []
    for name, command in [("", cli.cli), *cli.cli.commands.items()]:
        for line in (command.epilog or "").split("\n"):
            words = re.split(r"\s{2,}|\s>>?\s", line.strip())[0].split()
            if words[:1] != ["stridenet"]:
                continue
            used = cli.cli.commands[words[1]]
            rest = words[2:]
            if words[1] == "data":
                continue
            used.make_context(words[1], rest)
            seen.append(name)
    assert len(seen) >= 12


def test_help_and_version_of_the_whole(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    out = capfd.readouterr().out
    assert all(command in out for command in COMMANDS)
    assert set(cli.cli.commands) == set(COMMANDS)
    assert cli.run(["--version"]) == 0
    assert re.fullmatch(r"stridenet \d+\.\d+\.\d+\S*\n", capfd.readouterr().out)


# Wrong usage: exit 2


@pytest.mark.promise("A3", "L01")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tran"], "No such command 'tran'"),
        ([""], "No such command ''"),
        (["-"], "No such command '-'"),
        (["--epochs"], "No such option"),
        (["train", "--epoch", "3"], "--epochs"),  # a near match
        (["train", "--epochs"], "requires an argument"),
        (["train", "--epochs", "three"], "'three' is not a valid integer"),
        (["train", "--epochs", ""], "'' is not a valid integer"),
        (["train", "--epochs", "1.5"], "'1.5' is not a valid integer"),
        (["train", "--lr", "abc"], "'abc' is not a valid float"),
        (["train", "--seed", "x"], "'x' is not a valid integer"),
        (["train", "a", "b"], "unexpected extra argument"),
        (["train", "--resume", "runs/x", "--epochs", "3"], "beside it give only --kernels, --threads or --time-budget"),
        (["train", "--resume", "runs/x", "--data", ""], "beside it give only --kernels, --threads or --time-budget"),
        (["train", "lenet5-digits", "--resume", "runs/x"], "beside it give only --kernels, --threads or --time-budget"),
        (["evaluate"], "Missing argument 'MODEL'"),
        (["evaluate", "m", "--batch-size", "0"], "0 is not in the range"),
        (["evaluate", "m", "--batch-size", "-3"], "-3 is not in the range"),
        (["predict", "m"], "Missing argument"),
        (["predict"], "Missing argument 'MODEL'"),
        (["summary"], "Missing argument"),
        (["data", "fetch", "cifar"], "'cifar' is not"),
        (["data", "fetch"], "Missing argument"),
        (["data", "ftech", "mnist"], "No such command"),
        (["recipes", "extra"], "unexpected extra argument"),
        (["recipes", "--show"], "requires an argument"),
        (["train", "--\x1b[31m"], r"No such option '--\x1b[31m'. See stridenet train --help."),
        (["predcit", "m", "x.png"], "No such command 'predcit'. Did you mean 'predict'?"),
        (["train", "--time-bugdet", "5"], "No such option '--time-bugdet'. Did you mean '--time-budget'?"),
        (["train", "--threads", "0"], "0 is not in the range x>=1"),
        (["train", "--time-budget", "0"], "'0' is no time such as 60s, 5m, 1h or 90"),
        (["train", "--time-budget", "-5"], "'-5' is no time"),
        (["train", "--time-budget", "five minutes"], "'five minutes' is no time"),
        (["train", "--time-budget", "1d"], "'1d' is no time"),
        (["train", "--time-budget", "nan"], "'nan' is no time"),
        (["train", "--time-budget", ""], "'' is no time"),
        (["train", "--time-budget", "٣"], "'٣' is no time"),
        (["train", "--seed", "1", "--seeds", "0-4"], "--seed and --seeds cannot be given together"),
        (["train", "--quiet", "-v"], "--quiet and --verbose cannot be given together"),
        (["train", "--resume", "runs/x", "--init", "runs/y"], "--resume goes on with the run's own recipe"),
        (["train", "--resume", "runs/x", "--freeze", "1"], "--resume goes on with the run's own recipe"),
        (["train", "--resume", "runs/x", "--seeds", "0-1"], "--resume goes on with the run's own recipe"),
        (["train", "--resume", "runs/x", "--out", "y"], "--resume goes on with the run's own recipe"),
        (["train", "-x"], "No such option '-x'"),
        (["completion"], "Choose from: bash, zsh, fish"),
        (["completion", "powershell"], "'powershell' is not one of 'bash', 'zsh', 'fish'"),
        (["data", "verify", "digits"], "'digits' is not"),
        (["data", "--json", "fetch", "mnist"], "--json stands behind fetch"),
        (["x" * 2**20], "x ... x"),
        (["train", "--" + "y" * 2**20], "See stridenet train --help."),
        (["train", "--lr", "z" * 2**20], "is not a valid float"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    err = one_line(capfd)
    assert err.startswith("stridenet: ")
    assert message.replace(" ... ", "") in err.replace(" ... ", "")
    assert "See stridenet" in err or "requires an argument" in err
    assert len(err) < 1100


def test_the_command_alone_shows_its_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    out, err = capfd.readouterr()
    assert (out, err.startswith("Usage: stridenet ")) == ("", True)


@pytest.mark.promise("A3", "L01", "L04")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "lenet5-minst"], "got 'lenet5-minst'; did you mean 'lenet5-mnist'?"),
        (["train", ""], f"expected one of {RECIPES}, got ''"),
        (["train", "\x1b[31m"], r"got '\\x1b[31m'"),
        (["train", "lenet5-digits", "--epochs", "0"], "expected epochs >= 1, got 0"),
        (["train", "lenet5-digits", "--epochs", "-1"], "expected epochs >= 1, got -1"),
        (["train", "lenet5-digits", "--epochs", "9" * 30], "expected epochs <="),
        (["train", "lenet5-digits", "--batch-size", "0"], "expected batch_size >= 1, got 0"),
        (["train", "lenet5-digits", "--batch-size", "-8"], "expected batch_size >= 1, got -8"),
        (["train", "lenet5-digits", "--seed", "-1"], "expected seed >= 0, got -1"),
        (["train", "lenet5-digits", "--seed", "9" * 30], "expected seed <="),
        (["train", "lenet5-digits", "--lr", "0"], "expected lr > 0, got 0"),
        (["train", "lenet5-digits", "--lr", "-0.1"], "expected lr"),
        (["train", "lenet5-digits", "--lr", "nan"], "recipe.optimizer.lr: expected a finite number, got nan"),
        (["train", "lenet5-digits", "--lr", "inf"], "recipe.optimizer.lr: expected a finite number, got inf"),
        (["train", "lenet5-digits", "--kernels", "cuda"], "loops, im2col, batchlast, got 'cuda'"),
        (["train", "lenet5-digits", "--kernels", ""], "kernels: expected one of"),
        (["train", "lenet5-digits", "--data", ""], "--data: expected a name or a folder, got an empty text"),
        (["train", "broken.toml"], "broken.toml: expected a recipe in TOML, got: "),
        (["recipes", "--show", "lenet"], f"recipe: expected one of {RECIPES}, got 'lenet'"),
        (["recipes", "--show", "broken.toml"], "broken.toml: expected a recipe in TOML"),
        (["summary", "lenet"], "expected a recipe or a path"),
        (["train", "-"], f"expected one of {RECIPES}, got '-'"),
        (["train", "x" * 2**20], f"expected one of {RECIPES}, got 'xxx"),
        (["train", "lenet5-digits", "--kernels", "k" * 2**20], "kernels: expected one of"),
        (["train", "lenet5-digits", "--freeze", "3"], "recipe.train.freeze: expected train.init beside it, got none"),
        (["train", "lenet5-digits", "--freeze", "0"], "recipe.train: expected freeze >= 1, got 0"),
        (["train", "lenet5-digits", "--freeze", "-1"], "recipe.train: expected freeze >= 1, got -1"),
        (["train", "lenet5-digits", "--init", ""], "--init: expected a model file or a run folder, got an empty text"),
        (["train", "--seeds", ""], "--seeds: expected seeds such as 0-4 or 0,1,7, got ''"),
        (["train", "--seeds", "4-0"], "--seeds: expected seeds such as"),
        (["train", "--seeds", "0,0"], "--seeds: expected each seed once, got '0,0'"),
        (["train", "--seeds", "0-99999999"], "--seeds: expected at most 1000 seeds"),
        (["train", "--seeds", "-1"], "--seeds: expected seeds such as"),
        (["train", "--seeds", "1," * 2**19], "--seeds: expected seeds such as"),
        (["recipes", "--show", ""], "recipe: expected one of"),
        (["recipes", "--show", "-"], "recipe: expected one of"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.toml").write_text("[train\n")
    assert cli.run(arguments) == 2
    err = one_line(capfd)
    assert err.startswith("stridenet: ")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.toml"]


# What fails while it runs: exit 1


@pytest.mark.big
@pytest.mark.promise("A3", "L02")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "none"], "none: no such file or directory"),
        (["evaluate", "text"], "text: expected "),
        (["evaluate", "folder"], "folder: expected a run folder with model.safetensors, got none"),
        (["evaluate", ""], ".: expected a run folder with model.safetensors"),
        (["evaluate", "-"], "-: no such file or directory"),
        (["evaluate", "x\x1b[31m\n"], r"x\x1b[31m\n: no such file or directory"),
        (["evaluate", "a" * 5000], "file name too long"),
        (
            ["evaluate", "model", "--data", "none"],
            "data none: expected a folder or one of mnist, cifar10, digits, got neither",
        ),
        (["evaluate", "model", "--data", "text"], "data text: expected a folder, got a file"),
        (["evaluate", "model", "--data", "folder"], "folder: expected four IDX files"),
        (["predict", "none", "picture.png"], "none: no such file or directory"),
        (["predict", "text", "picture.png"], "text: expected a model file (safetensors), got another kind of file"),
        (["predict", "picture.png", "picture.png"], "picture.png: expected a model file (safetensors), got another"),
        (["predict", "model", "none.png"], "none.png: no such file or directory"),
        (["predict", "model", "folder"], "folder: is a directory"),
        (["predict", "model", "text"], "text: expected a PNG, JPEG, BMP or PPM picture, got none that can be read"),
        (["predict", "model", "text.png"], "text.png: expected a PNG, JPEG, BMP or PPM picture"),
        (["predict", "model", "model"], "model: expected a PNG, JPEG, BMP or PPM picture"),
        (["predict", "model", "cut.png"], "cut.png: expected a whole PNG"),
        (["summary", "text"], "text: expected "),
        (["train", "none.toml"], "none.toml: no such file or directory"),
        (["train", "folder.toml"], "folder.toml: is a directory"),
        (["train", "--data", "none"], "none: expected a folder or one of mnist, cifar10, digits, got neither"),
        (["train", "lenet5-digits", "--out", "folder"], "folder: expected a folder that is not there yet"),
        (["train", "lenet5-digits", "--out", "text"], "text: expected a folder that is not there yet"),
        (["train", "lenet5-digits", "--out", "no/parent"], "no/parent: expected a parent folder that exists"),
        (["train", "lenet5-digits", "--out", ""], ".: expected a folder that is not there yet"),
        (["train", "--resume", "none"], "none: expected a run folder with recipe.json, got none"),
        (["train", "--resume", "folder"], "folder: expected a run folder with recipe.json, got none"),
        (["train", "--resume", "text"], "text: expected a run folder with recipe.json, got none"),
        (["train", "--resume", ""], ".: expected a run folder with recipe.json, got none"),
        (["train", "--resume", "-"], "-: expected a run folder with recipe.json, got none"),
        (["train", "--data", "d" * 5000], "file name too long"),
        (["summary", "s" * 2**20], "file name too long"),
        (["predict", "model", "p" * 2**20], "file name too long"),
        (["predict", "model", "-"], "-: no such file or directory"),
        (["predict", "model", ""], ".: is a directory"),
        (["train", "lenet5-digits", "--init", "none"], "none: no such file or directory"),
        (["train", "lenet5-digits", "--init", "text"], "text: expected "),
        (["train", "lenet5-digits", "--init", "folder"], "folder: expected a run folder with model.safetensors"),
        (["train", "lenet5-digits", "--seeds", "0-1", "--out", "folder"], "folder: expected a folder that is not"),
    ],
)
def test_a_failure_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("Dear model,\n")
    (tmp_path / "text.png").write_text("Dear model,\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.toml").mkdir()
    model_file(tmp_path / "model")
    picture(tmp_path / "picture.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "picture.png").read_bytes()[:-20])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cli.run(arguments) == 1
    err = one_line(capfd)
    assert err.startswith("stridenet: ")
    assert message in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "error", [MemoryError(), MemoryError("Unable to allocate 4 TiB"), PermissionError(13, "x", "y")]
)
def test_other_failures_are_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(path: object) -> None:
        raise error

    monkeypatch.setattr("stridenet.model.load", fail)
    assert cli.run(["evaluate", "model"]) == 1
    assert one_line(capfd).startswith("stridenet: ")


@pytest.mark.big
@pytest.mark.promise("L02", "L05")
def test_a_read_only_folder_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(path: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("stridenet.experiment.new_folder", refuse)
    assert cli.run(["train", "lenet5-digits"]) == 1
    assert one_line(capfd) == "stridenet: runs: read-only file system\n"


@pytest.mark.promise("A3")
def test_debug_shows_the_traceback(stridenet_child: Any) -> None:
    done = stridenet_child("--debug", "evaluate", "none")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "FileNotFoundError" in done.stderr
    assert "Traceback" in stridenet_child("evaluate", "none", "--debug").stderr
    behind = stridenet_child("evaluate", "--", "--debug")  # a name
    assert behind.stderr == "stridenet: --debug: no such file or directory; check the path\n"
    assert "Traceback" not in stridenet_child("evaluate", "none").stderr


def test_an_interrupt_outside_training_is_quiet(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def interrupt(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stridenet.model.load", interrupt)
    assert cli.run(["evaluate", "model"]) == 130
    assert capfd.readouterr().err.strip() == ""


# Terminals


@pytest.mark.promise("L03")
def test_a_reader_that_leaves_gets_no_traceback(tmp_path: Path) -> None:
    for arguments in ("recipes --show lenet5-mnist", "recipes", "--help", "data"):
        command = f"{sys.executable} -c '{MAIN}' {arguments} | head -n 1"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.count("\n") == 1
        assert done.stderr == ""


@pytest.mark.promise("L03")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_give_no_traceback(closed: str, tmp_path: Path) -> None:
    model_file(tmp_path / "model")
    picture(tmp_path / "picture.png")
    for arguments, code in (("predict model picture.png", 0), ("predict model none", 1), ("recipes", 0), ("x", 2)):
        command = f"{sys.executable} -c '{MAIN}' {arguments} {closed}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


@pytest.mark.promise("L03")
def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    command = f"{sys.executable} -c '{MAIN}' recipes > /dev/full"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "stridenet: [Errno 28] No space left on device\n"


@pytest.mark.promise("L03", "F06")
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "1", "TERM": "dumb"},
    ],
)
def test_any_class_name_in_any_terminal(environment: dict[str, str], tmp_path: Path, stridenet_child: Any) -> None:
    names = ("数字零", "<script>\x1b[2J\n", "\u202e\x07é")
    model_file(tmp_path / "model", names)
    picture(tmp_path / "图.png")
    for arguments in (["predict", "model", "图.png"], ["summary", "model"]):
        done = stridenet_child(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
    done = stridenet_child("evaluate", "model", "--data", "digits", **environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert stridenet_child("train", "--help", **environment).returncode == 0


# Anything


WORDS = [
    "train", "evaluate", "predict", "summary", "recipes", "data", "fetch", "verify", "mnist", "digits", "lenet5-mnist",
    "--epochs", "--lr", "--seed", "--batch-size", "--data", "--out", "--resume", "--kernels", "--show", "--help", "-h",
    "--version", "--debugg", "--json", "--quiet", "-v", "--seeds", "0-1", "--init", "--freeze", "--threads", "bash",
    "--time-budget", "ops", "infer", "--model", "--seconds",
    "completion", "--", "-", "", "0", "-1", "1e400", "nan", "0x10", "٣", "abc", "\x1b[31m", "\udcff", "..",
    "/", "model", "picture.png", "text", "folder", "x" * 3000, "--epochs=", "--lr=-1", "-e", "@file", "%s", "{0}", "*",
]  # fmt: skip


@pytest.mark.big
@pytest.mark.promise("A3")
def test_random_arguments_never_show_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fuzz(300, tmp_path, monkeypatch, capfd)


@pytest.mark.big
@pytest.mark.slow
@pytest.mark.promise("A3")
def test_five_thousand_random_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fuzz(5000, tmp_path, monkeypatch, capfd)


def fuzz(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from stridenet.errors import DownloadError

    def refuse(*arguments: object, **options: object) -> None:
        raise DownloadError("no training and no network in this test")

    monkeypatch.setattr("stridenet.experiment.Run.train", refuse)
    monkeypatch.setattr("stridenet.experiment.prepare", refuse)
    monkeypatch.setattr("stridenet.data.fetch.fetch_mnist", refuse)
    monkeypatch.setattr("stridenet.data.catalogue.verify", refuse)
    for name in ("operations", "training", "inference"):
        monkeypatch.setattr(f"stridenet.benchmark.{name}", refuse)
    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    model_file(tmp_path / "model")
    picture(tmp_path / "picture.png")
    (tmp_path / "text").write_text("text")
    (tmp_path / "folder").mkdir()
    rng, codes = np.random.default_rng(0), set()
    for _ in range(count):
        words = [WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(0, 6))]
        if rng.random() < 0.8:
            words.insert(0, COMMANDS[rng.integers(len(COMMANDS))])
        code = cli.run(words)
        out, err = capfd.readouterr()
        codes.add(code)
        assert code in (0, 1, 2), words
        assert "Traceback" not in err, words
        assert (err != "") == (code != 0) or not words, words
        assert "\x1b" not in err + out, words
    assert codes == {0, 1, 2}
    assert not any(path.suffix == ".safetensors" for path in tmp_path.rglob("*"))


def test_the_runner_of_click_works_too() -> None:
    """Standalone, as other programs may embed the group."""
    done = CliRunner().invoke(cli.cli, ["recipes"])
    assert (done.exit_code, done.output.count("\n")) == (0, len(recipes.names()))


@pytest.mark.promise("K3")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_behind_the_end_changes_nothing(name: str, child: Any) -> None:
    """It comes while Python shuts down."""
    code = f"import atexit, os, signal; atexit.register(lambda: os.kill(os.getpid(), signal.{name}))\n{MAIN}"
    done = child(code, "recipes")
    assert (done.returncode, done.stderr) == (0, "")
