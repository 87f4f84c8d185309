from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import MAIN, MAIN_WITHOUT_PICTURES
from stridenet import cli
from stridenet.errors import DownloadError
from stridenet.model import load
from stridenet.train.checkpoint import CheckpointStore, RunLock

TIME = re.compile(r'"seconds":[0-9.]+')


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *arguments: None)


def left_by(folder: Path) -> tuple[bytes, str, dict[str, bytes]]:
    """Model, history without its times, and the tensors of the last checkpoint."""
    _, tensors, _ = CheckpointStore(folder / "checkpoints").latest()
    history = TIME.sub("", (folder / "history.jsonl").read_text())
    return (folder / "model.safetensors").read_bytes(), history, {k: v.tobytes() for k, v in tensors.items()}


# What it prints


def test_a_training_prints_a_header_a_line_an_epoch_and_the_results(
    recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "2", "--seed", "5"]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""  # no bar without a terminal
    assert [line.split()[0] for line in lines] == [
        "recipe", "data", "images", "run", "epoch", "epoch", "test", "results",
    ]  # fmt: skip
    assert lines[0] == "recipe   small: lenet5, 15 116 parameters"
    assert lines[3] == "run      runs/small-001, seed 5"
    for line in lines[4:6]:
        assert re.fullmatch(
            r"epoch \d/2   loss \d\.\d{4}   validation \d+\.\d\d % \(\d+\.\d\d to \d+\.\d\d\)   \d+\.\d s", line
        )
    assert re.match(r"test     \d+\.\d\d % of 99 images \(95 % interval ", lines[6])
    assert all(len(line) < 160 for line in lines)
    recipe = json.loads(Path("runs/small-001/recipe.json").read_text())
    assert (recipe["train"]["epochs"], recipe["train"]["seed"]) == (2, 5)


@pytest.mark.promise("K4", "L02")
def test_equal_runs_give_equal_files_in_folders_of_their_own(
    recipe_file: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "small.toml", "--epochs", "2"]
    for _ in range(2):
        assert cli.run(arguments) == 0
    assert cli.run([*arguments, "--seed", "1"]) == 0
    assert cli.run([*arguments, "--out", "mine"]) == 0
    one, two, other, mine = (
        left_by(Path(name)) for name in ("runs/small-001", "runs/small-002", "runs/small-003", "mine")
    )
    assert one == two == mine
    assert one[0] != other[0]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["small-001", "small-002", "small-003"]


def test_options_replace_entries_of_the_recipe(recipe_file: Path, small_data: Path, no_pictures: None) -> None:
    data = Path("data")
    data.symlink_to(small_data)
    arguments = ["--epochs", "1", "--batch-size", "77", "--lr", "0.003", "--seed", "4", "--data", "data"]
    assert cli.run(["train", "small.toml", *arguments, "--kernels", "im2col"]) == 0
    recipe = load("runs/small-001").recipe
    assert recipe["train"] | {"loss": 0} == {"epochs": 1, "batch_size": 77, "seed": 4, "loss": 0}
    assert recipe["optimizer"]["lr"] == 0.003
    assert recipe["data"]["name"] == str(data.absolute())


def test_escapes_in_the_name_of_a_recipe_are_shown_escaped(
    recipe_file: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe_file.rename("\x1b[31mred.toml")
    assert cli.run(["train", "\x1b[31mred.toml", "--epochs", "1"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[31mred" in out


@pytest.mark.promise("G5", "A3")
def test_a_training_that_diverges_is_one_line_and_its_start_is_saved(
    recipe_file: Path, stridenet_child: Any, tmp_path: Path
) -> None:
    done = stridenet_child("train", "small.toml", "--lr", "1e6")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr  # no warnings of NumPy before it
    assert re.match(r"stridenet: step \d+: expected a finite loss, got .*; lower the learning rate\n", done.stderr)
    assert CheckpointStore(tmp_path / "runs/small-001/checkpoints").latest()[0] >= 0


# Data


def test_without_mnist_the_digits_are_taken_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    def unreachable() -> None:
        raise DownloadError("fetch: no network")

    monkeypatch.delenv("STRIDENET_DATA", raising=False)
    monkeypatch.setattr("stridenet.data.fetch.fetch_mnist", unreachable)
    assert cli.run(["train", "--epochs", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("MNIST is not here and could not be downloaded, so this trains on the 1 797 digits")
    assert "--data FOLDER" in lines[0]
    assert lines[1].startswith("recipe   lenet5-digits")
    assert lines[4].startswith("run      runs/lenet5-digits-001")
    for arguments in (["lenet5-mnist"], ["--data", "mnist"]):  # who asks for MNIST gets MNIST or an error
        assert cli.run(["train", *arguments, "--epochs", "1"]) == 1
        out, err = capfd.readouterr()
        assert (out, err) == ("", "stridenet: fetch: no network\n")


OFFLINE = """
import socket
def refuse(*arguments, **options):
    raise OSError(101, "Network is unreachable")
socket.getaddrinfo = socket.socket.connect = refuse
"""


@pytest.mark.promise("L05")
@pytest.mark.parametrize("home", ["", None])
def test_a_machine_without_network_data_and_home(home: str | None, child: Any, tmp_path: Path) -> None:
    folders = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = folders if home == "" else {"HOME": None, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = OFFLINE + MAIN_WITHOUT_PICTURES
    done = child(code, "train", "--epochs", "1", STRIDENET_DATA=None, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MNIST is not here")
    assert done.stderr == ""
    assert not list((tmp_path).rglob("*ubyte*"))


def test_the_digits_come_with_their_recipe(capfd: pytest.CaptureFixture[str], no_pictures: None) -> None:
    """The default recipe is for MNIST: it holds 5 000 images back and takes 28 x 28."""
    assert cli.run(["train", "--data", "digits", "--epochs", "1"]) == 0
    assert "recipe   lenet5-digits" in capfd.readouterr().out


# Going on


@pytest.mark.promise("K6", "K04")
def test_two_trainers_do_not_share_a_folder(
    recipe_file: Path, tmp_path: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "small.toml", "--out", "run"]) == 0
    before = left_by(Path("run"))
    capfd.readouterr()
    with RunLock("run"):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "train", "--resume", "run"], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    message = f"stridenet: run: expected no other process here, got process {os.getpid()}; wait for it, or stop it\n"
    assert (done.stdout, done.stderr) == ("", message)
    assert left_by(Path("run")) == before
    assert cli.run(["train", "--resume", "run"]) == 0


def race(tmp_path: Path, recipe_file: Path, number: int) -> None:
    """Two resume one run at once: one goes on, the other is refused."""
    endless = tmp_path / "endless.toml"
    endless.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 100000"))
    stopped = start(tmp_path, "train", endless, "--out", f"race-{number}")
    header(stopped)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate(timeout=30)
    both = [start(tmp_path, "train", "--resume", f"race-{number}") for _ in "ab"]
    while all(process.poll() is None for process in both):
        time.sleep(0.01)
    loser, winner = sorted(both, key=lambda process: process.poll() is None)
    err = loser.communicate()[1]
    refused = rf"stridenet: race-{number}: expected no other process here, got process (\d+|unknown); .*\n"
    assert (loser.returncode, re.fullmatch(refused, err) is not None) == (1, True), err
    header(winner)
    winner.send_signal(signal.SIGINT)
    winner.communicate(timeout=30)
    assert winner.returncode == 130


@pytest.mark.promise("K6")
def test_a_race_has_one_winner(recipe_file: Path, tmp_path: Path) -> None:
    race(tmp_path, recipe_file, 0)


@pytest.mark.slow
@pytest.mark.promise("K6")
def test_twenty_races_have_one_winner_each(recipe_file: Path, tmp_path: Path) -> None:
    for number in range(20):
        race(tmp_path, recipe_file, number)


def test_a_run_does_not_go_on_when_its_data_changed(
    recipe_file: Path, small_data: Path, tmp_path: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for file in small_data.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    assert cli.run(["train", "small.toml", "--data", "data", "--out", "run"]) == 0
    images = data / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\x07")
    capfd.readouterr()
    assert cli.run(["train", "--resume", "run"]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("stridenet: checkpoint: expected the values it was saved with, got data.train: ")
    images.unlink()
    assert cli.run(["train", "--resume", "run"]) == 1
    assert "missing: train-images-idx3-ubyte" in capfd.readouterr().err


# Signals


@pytest.fixture
def long_recipe(recipe_file: Path) -> Path:
    """long.toml: small.toml with 24 epochs, half a second or so."""
    path = recipe_file.with_name("long.toml")
    path.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 24"))
    return path


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A child that trains without pictures."""
    command = [sys.executable, "-c", MAIN_WITHOUT_PICTURES, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def header(process: subprocess.Popen[str]) -> None:
    """Wait for the four lines before the first step."""
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()


def stop_and_go_on(tmp_path: Path, number: int, seconds: float, *signals: signal.Signals) -> tuple[int, float]:
    """Send the signals after the header and `seconds`, resume to the end; the exit code and how long the end took."""
    process = start(tmp_path, "train", "long.toml", "--out", f"run-{number}")
    header(process)
    time.sleep(seconds)
    begin = time.perf_counter()
    for name in signals:
        process.send_signal(name)
    err = process.communicate(timeout=30)[1]
    took = time.perf_counter() - begin
    assert "Traceback" not in err
    if process.returncode in (130, 143):
        line = rf"stopped and saved in epoch \d+, step \d+; continue with: stridenet train --resume run-{number}\n"
        assert re.fullmatch(line, err)
    CheckpointStore(tmp_path / f"run-{number}" / "checkpoints").latest()
    resumed = start(tmp_path, "train", "--resume", f"run-{number}")
    err = resumed.communicate(timeout=60)[1]
    assert (resumed.returncode, err) == (0, "")
    return process.returncode, took


INT, TERM = signal.SIGINT, signal.SIGTERM


def signals_at_random(tmp_path: Path, each: int) -> None:
    whole = start(tmp_path, "train", "long.toml", "--out", "whole")
    header(whole)
    begin = time.perf_counter()
    assert whole.communicate(timeout=60)[1] == ""
    lasts, rng = time.perf_counter() - begin, random.Random(0)
    wanted = left_by(tmp_path / "whole")
    cases = [((INT,), {130, 0})] * each + [((TERM,), {143, 0})] * each
    cases += [((INT, INT), {130, -INT, 0}), ((TERM, TERM), {143, -TERM, 0}), ((INT, TERM), {130, -TERM, -INT, 0})]
    codes: list[int] = []
    for number, (signals, allowed) in enumerate(cases):
        code, took = stop_and_go_on(tmp_path, number, rng.uniform(0, 0.7 * lasts), *signals)
        assert code in allowed
        assert took < 5
        assert left_by(tmp_path / f"run-{number}") == wanted
        codes.append(code)
    assert {130, 143} <= set(codes)


@pytest.mark.promise("K3")
def test_signals_stop_a_run_that_goes_on_to_the_same_bits(long_recipe: Path, tmp_path: Path) -> None:
    signals_at_random(tmp_path, each=2)


@pytest.mark.slow
@pytest.mark.promise("K3")
def test_a_hundred_signals(long_recipe: Path, tmp_path: Path) -> None:
    signals_at_random(tmp_path, each=50)


@pytest.mark.promise("K3")
@pytest.mark.parametrize("place", ["RunLock.__enter__", "CheckpointStore.save", "Checkpoints.on_start"])
def test_a_signal_before_the_first_step_is_not_lost(place: str, child: Any, recipe_file: Path) -> None:
    """It comes in `place`, once, before the loop has begun."""
    name, method = place.split(".")
    code = f"""
import os, signal
from stridenet.train.checkpoint import CheckpointStore, RunLock
from stridenet.train.callbacks import Checkpoints
before = {name}.{method}
def struck(self, *arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    {name}.{method} = before
    return before(self, *arguments)
{name}.{method} = struck
{MAIN}
"""
    done = child(code, "train", "small.toml", "--out", "run")
    assert done.returncode == 143, done.stderr
    expected = "stopped and saved in epoch 1, step 0; continue with: stridenet train --resume run\n"
    assert done.stderr == expected
