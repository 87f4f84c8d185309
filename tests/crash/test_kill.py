"""kill -9 at any time: what was saved is whole, and a resumed run ends with the bits of one that was left alone."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import MAIN_WITHOUT_PICTURES
from stridenet.errors import CheckpointError
from stridenet.train.checkpoint import CheckpointStore

TIME = re.compile(r'"seconds":[0-9.]+')


@pytest.fixture
def recipe(recipe_file: Path) -> Path:
    """36 epochs of four steps, half a second, on 384 images, 128 more for validation."""
    path = recipe_file.with_name("crash.toml")
    path.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 36"))
    return path


def train(cwd: Path, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MAIN_WITHOUT_PICTURES, "train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def left_by(folder: Path) -> tuple[bytes, str, dict[str, bytes]]:
    """Model, history without its times, tensors of the last checkpoint; and no torn file beside them."""
    assert list(folder.rglob("*.tmp")) == []
    _, tensors, _ = CheckpointStore(folder / "checkpoints").latest()
    history = TIME.sub("", (folder / "history.jsonl").read_text())
    return (folder / "model.safetensors").read_bytes(), history, {k: v.tobytes() for k, v in tensors.items()}


def last_step(folder: Path) -> int:
    """The step of the last checkpoint, which verifies without a warning; -1 before the first one."""
    try:
        return CheckpointStore(folder / "checkpoints").latest()[0]
    except CheckpointError:
        return -1


def kill_and_resume(tmp_path: Path, recipe: Path, kills: int) -> None:
    begin = time.perf_counter()
    assert train(tmp_path, recipe, "--out", "whole").wait(60) == 0
    lasts = time.perf_counter() - begin
    wanted = left_by(tmp_path / "whole")
    rng, done, runs, steps = random.Random(0), 0, 0, []
    while done < kills:
        runs += 1
        folder, reached = tmp_path / f"run-{runs}", -1
        while True:
            resume = reached >= 0
            process = train(tmp_path, "--resume", folder) if resume else train(tmp_path, recipe, "--out", folder)
            if done < kills:
                try:
                    code = process.wait(rng.uniform(0, 0.7 * lasts))
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = process.wait(60)
                    done += 1
            else:
                code = process.wait(60)
            step = last_step(folder)
            assert step >= reached  # nothing that was saved is lost
            reached = step
            steps.append(step)
            if code == 0:
                break
            assert code == -9
            if reached < 0:  # killed before the first checkpoint: there is nothing to resume
                folder = tmp_path / f"{folder.name}-again"
        assert left_by(folder) == wanted
    assert len(set(steps)) > 6  # the kills came at many different steps
    figure = f"{done} kills, {runs} runs equal to the uninterrupted one, stopped at steps {sorted(set(steps))}"
    print(figure)  # noqa: T201  (shown with -s)


@pytest.mark.promise("K1")
def test_killed_runs_go_on_to_the_same_bits(recipe: Path, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, recipe, 25)


@pytest.mark.slow
@pytest.mark.promise("K1")
def test_two_hundred_killed_runs(recipe: Path, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, recipe, 200)
