from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import MAIN, MAIN_WITHOUT_PICTURES
from stridenet import cli, kernels
from stridenet.cli.train import train
from stridenet.errors import DownloadError
from stridenet.model import load
from stridenet.train.callbacks import Progress
from stridenet.train.checkpoint import CheckpointStore, RunLock
from stridenet.train.trainer import Callback

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
    recipe = load("runs/small-data-001").recipe  # the folder says on what
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


def test_verbose_names_every_choice(recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "-v", "--threads", "1"]) == 0
    lines = capfd.readouterr().out.splitlines()[4:10]
    assert [line[:9].strip() for line in lines] == ["kernels", "weights", "images", "optim", "schedule", "training"]
    assert lines[0] == f"kernels  {kernels.resolve()}, threads 1"
    assert lines[1] == "weights  15 116 trained, 15 116 with those that stay"
    assert lines[2].startswith("images   RandomShift(pixels=1, fill=0.0), Normalize(mean=[0.")
    assert lines[3] == "optim    sgd, lr 0.02, momentum 0.9, weight_decay 0.0, decay_mode l2"
    assert lines[4].startswith("schedule one_cycle, unit step; 0.0")
    assert lines[4].endswith(" in the last of 4 steps")
    assert lines[5] == "training epochs 1, batch_size 96, seed 0, loss cross_entropy"


def test_quiet_prints_nothing(recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert Path("runs/small-001/results.json").exists()
    assert cli.run(["train", "small.toml", "--epochs", "0", "--quiet"]) == 2
    assert capfd.readouterr().err == "stridenet: recipe.train: expected epochs >= 1, got 0\n"


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_json_is_one_document_at_the_end(
    quiet: list[str], recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "--json", *quiet]) == 0
    out, err = capfd.readouterr()
    assert out.count("\n") == 1
    assert len(err.splitlines()) == (0 if quiet else 7)
    results = json.loads(Path("runs/small-001/results.json").read_text())
    assert json.loads(out) == {"folder": "runs/small-001"} | results


# Cores and time


@pytest.mark.promise("K4")
def test_the_number_of_threads_changes_no_bit(recipe_file: Path, no_pictures: None) -> None:
    """A batch of 192 is shared by the workers."""
    arguments = ["train", "small.toml", "--epochs", "1", "--batch-size", "192"]
    for threads in ("1", "2", "4"):
        assert cli.run([*arguments, "--threads", threads, "--out", threads]) == 0
        assert json.loads(Path(threads, "results.json").read_text())["machine"]["threads"] == int(threads)
    one, *others = (left_by(Path(threads)) for threads in "124")
    assert all(other == one for other in others)


def test_a_time_budget_ends_the_run_also_when_it_goes_on(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    monkeypatch.setattr("stridenet.experiment._reserve", lambda classes: 1.0)
    assert cli.run(["train", "small.toml", "--time-budget", "0.001s", "--out", "a"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("budget   less than an epoch fits into the ")
    assert lines[0].endswith(" s of a run, so the schedule is that of one")
    assert "ended    by time budget in epoch 1/1" in lines
    assert lines[-1].endswith(" s longer than the time budget")
    assert cli.run(["train", "small.toml", "--time-budget", "1h", "--out", "b"]) == 0
    out = capfd.readouterr().out
    assert "budget" not in out
    assert cli.run(["train", "small.toml", "--out", "without"]) == 0
    assert left_by(Path("b")) == left_by(Path("without"))
    assert json.loads(Path("b/results.json").read_text())["ended_by"] == "epochs"
    Path("c").mkdir()
    shutil.copytree("b/checkpoints", "c/checkpoints")
    shutil.copy("b/recipe.json", "c")
    Path("c/checkpoints/step-000000012.safetensors").unlink()
    assert cli.run(["train", "--resume", "c", "--time-budget", "0.001"]) == 0
    results = json.loads(Path("c/results.json").read_text())
    assert (results["ended_by"], results["epochs"]) == ("time_budget", 3)
    assert json.loads(Path("c/history.jsonl").read_text().splitlines()[-1])["step"] == 9


def test_a_time_budget_sets_the_epochs_and_the_schedule(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    monkeypatch.setattr("stridenet.experiment.epochs_within", lambda setup, seconds: 2 if seconds < 3600 else 1 / 0)
    monkeypatch.setattr("stridenet.experiment._reserve", lambda classes: 1.0)
    assert cli.run(["train", "small.toml", "--time-budget", "10m", "--out", "a"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("budget   2 of 3 epochs fit into the 600 s of a run, so the schedule is as long as that\n")
    assert cli.run(["train", "small.toml", "--epochs", "2", "--out", "b"]) == 0
    assert left_by(Path("a")) == left_by(Path("b"))
    assert cli.run(["train", "small.toml", "--seeds", "0-1", "--time-budget", "61m", "--out", "c"]) == 0
    assert capfd.readouterr().out.count("budget ") == 1
    assert left_by(Path("c/seed-0")) == left_by(Path("b"))
    Path("a/results.json").unlink()
    assert cli.run(["train", "--resume", "a", "--time-budget", "2h"]) == 0  # its schedule is given


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("60s", 60), ("5m", 300), ("1h", 3600), ("1.5m", 90)])
def test_a_time_as_people_write_it(text: str, seconds: float) -> None:
    (option,) = (parameter for parameter in train.params if parameter.name == "time_budget")
    assert option.type.convert(text, None, None) == seconds


# Several seeds


def test_several_seeds_are_the_runs_of_each_and_their_mean(
    recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "2", "--seeds", "0,3"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sorted(path.name for path in Path("runs/small-001").iterdir()) == ["seed-0", "seed-3", "seeds.json"]
    one = ["recipe", "data", "images", "run", "epoch", "epoch", "test", "results"]
    assert [line.split()[0] for line in lines if line] == [*one, *one, "seed", "seed", "mean", "results"]
    found = json.loads(Path("runs/small-001/seeds.json").read_text())
    low, high = (100 * bound for bound in found["interval"])
    mean = f"mean     {100 * found['mean']:.2f} % over 2 seeds (95 % interval {low:.2f} to {high:.2f})"
    assert lines[-4:] == [
        *(f"seed {run['seed']}   {100 * run['accuracy']:.2f} % of the test images" for run in found["runs"]),
        mean,
        "results  runs/small-001: seeds.json and a run folder for each seed",
    ]
    assert cli.run(["train", "small.toml", "--epochs", "2", "--seed", "3", "--out", "alone"]) == 0
    assert left_by(Path("runs/small-001/seed-3")) == left_by(Path("alone"))
    results = json.loads(Path("alone/results.json").read_text())
    assert found["runs"][1]["accuracy"] == results["test"]["accuracy"]

    Path("runs/small-001/seed-3/results.json").unlink()
    before = Path("runs/small-001/seed-0/results.json").stat().st_mtime_ns
    capfd.readouterr()
    assert cli.run(["train", "--resume", "runs/small-001", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"folder": "runs/small-001"} | found
    assert err.count("recipe ") == 1  # the finished seed is skipped
    assert Path("runs/small-001/seed-0/results.json").stat().st_mtime_ns == before


def test_one_seed_has_no_mean(recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "--seeds", "3"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["seed", "results"]
    assert not any(line.startswith("mean") for line in lines)


def test_interrupted_seeds_go_on(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    arguments = ["train", "small.toml", "--epochs", "2", "--seeds", "0-2"]
    assert cli.run([*arguments, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_epoch", terminated_in_the_run_of_seed_1)
        assert cli.run([*arguments, "--out", "stopped"]) == 143
    expected = "stopped and saved in epoch 2, step 4; continue with: stridenet train --resume stopped\n"
    assert capfd.readouterr().err == expected
    assert not Path("stopped/seed-2").exists()
    assert cli.run(["train", "--resume", "stopped"]) == 0
    for seed in range(3):
        assert left_by(Path(f"stopped/seed-{seed}")) == left_by(Path(f"whole/seed-{seed}"))
    assert Path("stopped/seeds.json").read_text() == Path("whole/seeds.json").read_text()


def test_a_signal_after_the_last_step_of_a_run_ends_the_seeds_behind_it(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_epoch", terminated_in_the_run_of_seed_1)
        assert cli.run(["train", "small.toml", "--epochs", "1", "--seeds", "0-2", "--out", "stopped"]) == 143
    expected = "stopped between two runs; continue with: stridenet train --resume stopped\n"
    assert capfd.readouterr().err == expected
    assert Path("stopped/seed-1/results.json").exists()
    assert not Path("stopped/seed-2").exists()


def test_a_time_budget_is_shared_by_the_seeds(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, no_pictures: None
) -> None:
    left: list[float] = []

    def budget(self: Any, deadline: float) -> Callback:
        left.append(deadline - time.monotonic())
        return Callback()

    monkeypatch.setattr("stridenet.experiment.Run._budget", budget)
    monkeypatch.setattr("stridenet.experiment._reserve", lambda classes: 1.0)
    assert cli.run(["train", "small.toml", "--epochs", "1", "--seeds", "0-1", "--time-budget", "20m"]) == 0
    assert 0 < left[0] <= 600  # half of it
    assert 600 < left[1] <= 1200  # what the first one left


def terminated_in_the_run_of_seed_1(self: Progress, trainer: Any, row: dict[str, Any]) -> None:
    if trainer.seed == 1 and row["epoch"] == 0:
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_interrupt_between_two_seeds_says_how_to_go_on(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stridenet.series.Series.recipe_of", interrupt)
    assert cli.run(["train", "small.toml", "--seeds", "0-1", "--kernels", "im2col"]) == 130
    expected = "stopped between two runs; continue with: stridenet train --resume runs/small-001 --kernels im2col\n"
    assert capfd.readouterr().err == expected


# Fine-tuning


def test_a_run_begins_with_another_and_its_first_layers_stay(
    recipe_file: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "2", "--out", "first"]) == 0
    capfd.readouterr()
    assert cli.run(["train", "small.toml", "--init", "first", "--freeze", "6", "--out", "second"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith(" parameters left to train")
    assert lines[4] == f"init     layers 0, 3, 7, 9, 11 from {Path('first').absolute()}"
    assert lines[5] == "frozen   the first 6 of 12 layers"
    one, two = load("first").network.state_dict(), load("second").network.state_dict()
    equal = {name for name in one if np.array_equal(one[name], two[name])}
    assert equal == {"0.weight", "0.bias", "3.weight", "3.bias"}
    recipe = load("second").recipe["train"]
    assert (recipe["init"], recipe["freeze"]) == (str(Path("first").absolute()), 6)

    before = left_by(Path("second"))
    shutil.rmtree("first")
    for name in ("results.json", "model.safetensors", "checkpoints/step-000000012.safetensors"):
        Path("second", name).unlink()
    assert cli.run(["train", "--resume", "second"]) == 0
    assert left_by(Path("second")) == before


# Data


@pytest.mark.big
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


@pytest.mark.big
@pytest.mark.promise("L05")
@pytest.mark.parametrize("home", ["", None])
def test_a_machine_without_network_data_and_home(home: str | None, child: Any, tmp_path: Path) -> None:
    folders = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = folders if home == "" else {"HOME": None, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = OFFLINE + MAIN_WITHOUT_PICTURES
    environment["STRIDENET_KERNELS"] = "im2col"  # or it would compile, and say so
    done = child(code, "train", "--epochs", "1", STRIDENET_DATA=None, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MNIST is not here")
    assert done.stderr == ""
    assert not list((tmp_path).rglob("*ubyte*"))


@pytest.mark.big
def test_the_digits_come_with_their_recipe(capfd: pytest.CaptureFixture[str], no_pictures: None) -> None:
    """The default recipe is for MNIST: it holds 5 000 images back and takes 28 x 28."""
    assert cli.run(["train", "--data", "digits", "--epochs", "1"]) == 0
    assert "recipe   lenet5-digits" in capfd.readouterr().out


def test_paths_in_a_recipe_file_begin_at_its_folder(
    recipe_file: Path, small_data: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "--out", "first"]) == 0
    Path("deep").mkdir()
    Path("deep/images").symlink_to(small_data)
    text = (
        recipe_file.read_text()
        .replace(str(small_data), "images")
        .replace("epochs = 3", 'epochs = 1, init = "../first"')
    )
    Path("deep/mine.toml").write_text(text)
    assert cli.run(["train", "deep/mine.toml"]) == 0
    recipe = load("runs/mine-001").recipe
    assert recipe["data"]["name"] == str(Path("deep/images").absolute())
    assert recipe["train"]["init"] == str(Path("deep/../first").absolute())
    assert cli.run(["train", "deep/mine.toml", "--data", "digits"]) == 2  # a name is no path
    assert "got 1x8x8" in capfd.readouterr().err


# Going on


@pytest.mark.promise("K6", "K04")
def test_two_trainers_do_not_share_a_folder(
    recipe_file: Path, tmp_path: Path, no_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "small.toml", "--out", "run"]) == 0
    before = left_by(Path("run"))
    Path("run/results.json").unlink()  # it was killed before its last file
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


def test_a_finished_run_says_so_and_is_not_tested_again(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    assert cli.run(["train", "small.toml", "--epochs", "1", "--out", "run"]) == 0
    test = capfd.readouterr().out.splitlines()[-2]
    monkeypatch.setattr("stridenet.experiment.prepare", lambda *arguments, **options: 1 / 0)
    assert cli.run(["train", "--resume", "run"]) == 0
    assert capfd.readouterr() == (f"{test}\nresults  run: the run is finished, nothing was left to do\n", "")
    assert cli.run(["train", "--resume", "run", "--json", "--quiet"]) == 0
    assert json.loads(capfd.readouterr().out)["folder"] == "run"


def test_what_is_slow_by_intent_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recipe_file: Path
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise DownloadError("not in this test")

    monkeypatch.setattr("stridenet.experiment.prepare", refuse)
    for name, lines in (("loops", 1), ("im2col", 0)):
        assert cli.run(["train", "small.toml", "--kernels", name]) == 1
        out = capfd.readouterr().out
        assert (out.count("\n"), out.startswith("kernels  loops is the definition")) == (lines, lines == 1)


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
    for number in range(2):
        race(tmp_path, recipe_file, number)


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
    Path("run/results.json").unlink()
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


def stop_and_go_on(
    tmp_path: Path, number: int, seconds: float, gap: float, *signals: signal.Signals
) -> tuple[int, float]:
    """Send the signals after the header and `seconds`, resume to the end; the exit code and how long the end took."""
    process = start(tmp_path, "train", "long.toml", "--out", f"run-{number}")
    header(process)
    time.sleep(seconds)
    begin = time.perf_counter()
    for name in signals:
        process.send_signal(name)
        time.sleep(gap)
    err = process.communicate(timeout=30)[1]
    took = time.perf_counter() - begin
    assert "Traceback" not in err
    if process.returncode in (130, 143):
        line = rf"stopped and saved in epoch \d+, step \d+; continue with: stridenet train --resume run-{number}\n"
        assert re.fullmatch(line, err)
    store = CheckpointStore(tmp_path / f"run-{number}" / "checkpoints")
    assert process.returncode < 0 or store.steps()  # a second signal may come before the first checkpoint
    assert not store.steps() or store.latest()
    resumed = start(tmp_path, "train", "--resume", f"run-{number}")
    err = resumed.communicate(timeout=60)[1]
    assert (resumed.returncode, err) == (0, "")
    return process.returncode, took


INT, TERM = signal.SIGINT, signal.SIGTERM


def signals_at_random(tmp_path: Path, each: int, doubles: int) -> None:
    """So many of each signal, and so many pairs, the second up to 5 ms after the first; every run is resumed."""
    whole = start(tmp_path, "train", "long.toml", "--out", "whole")
    header(whole)
    begin = time.perf_counter()
    assert whole.communicate(timeout=60)[1] == ""
    lasts, rng = time.perf_counter() - begin, random.Random(0)
    wanted = left_by(tmp_path / "whole")
    cases = [((INT,), {130, 0})] * each + [((TERM,), {143, 0})] * each
    pairs = [((INT, INT), {130, -INT, 0}), ((TERM, TERM), {143, -TERM, 0}), ((INT, TERM), {130, -TERM, -INT, 0})]
    cases += [pairs[i % 3] for i in range(doubles)]
    codes: list[int] = []
    for number, (signals, allowed) in enumerate(cases):
        code, took = stop_and_go_on(tmp_path, number, rng.uniform(0, 0.7 * lasts), rng.uniform(0, 0.005), *signals)
        assert code in allowed
        assert took < 5
        assert left_by(tmp_path / f"run-{number}") == wanted
        codes.append(code)
    assert {130, 143} <= set(codes)
    assert doubles < 10 or any(code < 0 for code in codes)  # some of the second signals came in time


@pytest.mark.promise("K3")
def test_signals_stop_a_run_that_goes_on_to_the_same_bits(long_recipe: Path, tmp_path: Path) -> None:
    signals_at_random(tmp_path, each=1, doubles=1)


@pytest.mark.slow
@pytest.mark.promise("K3")
def test_a_hundred_signals_and_twenty_pairs(long_recipe: Path, tmp_path: Path) -> None:
    signals_at_random(tmp_path, each=50, doubles=20)


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


# Photos


def write_photos(root: Path, data_folder: Path, classes: dict[str, int]) -> Path:
    """So many of the JPEGs of each class of CIFAR-10, a folder for each class."""
    path = data_folder / "cifar10" / "cifar10-jpeg.zip"
    if not path.is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no file {path}")
    with zipfile.ZipFile(path) as archive:
        for name, count in classes.items():
            (root / name).mkdir(parents=True)
            members = sorted(member for member in archive.namelist() if member.startswith(f"train/{name}/"))
            for member in members[:count]:
                (root / name / Path(member).name).write_bytes(archive.read(member))
    return root


@pytest.mark.big
def test_a_folder_of_photos_is_trained_by_one_command(
    tmp_path: Path, data_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "photos", data_folder, {"automobile": 66, "frog": 67, "ship": 67})
    assert cli.run(["train", "--data", "photos"]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "recipe   none was named; the images have colours, so it is photos"
    assert lines[1].startswith("recipe   photos: lenet5, ")
    about = "3 classes; 32 x 32, --size takes another; a fifth held out for the test"
    assert lines[2] == f"data     photos from {tmp_path / 'photos'} ({about})"
    assert lines[3] == "images   144 train, 16 validation, 40 test, 3x32x32 each"
    run = tmp_path / "runs" / "photos-photos-001"
    test = json.loads((run / "results.json").read_text())["test"]
    assert test["n"] == 40
    assert test["correct"] >= 22  # chance gives 13 +- 3
    model = load(run)
    assert (model.classes, model.image_shape) == (("automobile", "frog", "ship"), (3, 32, 32))
    assert cli.run(["evaluate", str(run)]) == 0
    assert f"{100 * test['accuracy']:.2f} % of 40 images" in capfd.readouterr().out
    photo = next((tmp_path / "photos" / "frog").iterdir())
    assert cli.run(["predict", str(run), str(photo)]) == 0
    assert capfd.readouterr().out.startswith(str(photo))


@pytest.mark.big
def test_the_size_of_photos_is_part_of_the_run(
    tmp_path: Path, data_folder: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    write_photos(tmp_path / "photos", data_folder, {"automobile": 20, "frog": 20})
    size = ["--data", "photos", "--size", "20"]
    assert cli.run(["train", *size, "--epochs", "2", "--out", "one"]) == 0
    assert ", 3x20x20 each" in capfd.readouterr().out
    assert json.loads(Path("one/recipe.json").read_text())["data"]["size"] == 20
    assert load(tmp_path / "one").image_shape == (3, 20, 20)
    assert cli.run(["evaluate", "one"]) == 0
    assert cli.run(["evaluate", "one", "--data", "photos"]) == 0
    Path("one/results.json").unlink()
    assert cli.run(["train", "--resume", "one"]) == 0  # the same images again
    assert cli.run(["train", "lenet5-mnist", *size, "--epochs", "1", "--out", "two"]) == 0  # it resizes to 28
    assert load(tmp_path / "two").input_shape == (3, 28, 28)
    capfd.readouterr()
    assert cli.run(["train", "--data", "digits", "--size", "20"]) == 2
    assert "expected no size but for a folder of pictures, got 20" in capfd.readouterr().err
    assert cli.run(["train", *size[:3], "0"]) == 2
    assert capfd.readouterr().err == "stridenet: recipe.data: expected size >= 1, got 0\n"


@pytest.mark.big
def test_grey_pictures_get_the_recipe_for_digits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], no_pictures: None
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "grey" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(folder / f"{i}.png")
    assert cli.run(["train", "--data", "grey", "--epochs", "1", "--out", "run"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "recipe   lenet5-mnist: lenet5, 43 746 parameters"
    assert ", 1x28x28 each" in lines[2]
