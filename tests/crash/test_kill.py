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
from stridenet.data.catalogue import open_data
from stridenet.experiment import Run, prepare
from stridenet.strictjson import to_json
from stridenet.train.checkpoint import CheckpointStore
from stridenet.zoo import recipes


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *arguments: None)


TIME = re.compile(r'"seconds":[0-9.]+')


@pytest.fixture
def recipe(recipe_file: Path) -> Path:
    """36 epochs of four steps, half a second, on 384 images, 128 more for validation."""
    path = recipe_file.with_name("crash.toml")
    path.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 36"))
    return path


def train(cwd: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A child that trains; it has printed its header and takes its first steps."""
    command = [sys.executable, "-c", MAIN_WITHOUT_PICTURES, "train", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    return process


def end(process: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """The exit code of the process, which is killed after so many seconds."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=60)
    return process.returncode


Left = tuple[dict[str, bytes], str]


def checkpoint(folder: Path, step: int | None = None) -> tuple[int, Left]:
    """Step, tensors and history without its times of the last checkpoint, or of that of `step`; no warning."""
    store = CheckpointStore(folder / "checkpoints")
    step, tensors, meta = store.latest() if step is None else (step, *store._load(step))
    history = TIME.sub("", to_json(meta["trainer"]["history"]))
    return step, ({name: value.tobytes() for name, value in tensors.items()}, history)


def left_by(folder: Path) -> tuple[bytes, str]:
    """Model and history without its times; and no torn file beside them."""
    assert list(folder.rglob("*.tmp")) == []
    return (folder / "model.safetensors").read_bytes(), TIME.sub("", (folder / "history.jsonl").read_text())


def uninterrupted(recipe: Path, folder: Path, small_data: Path) -> tuple[float, dict[int, Left]]:
    """How long a run lasts, and all its checkpoints."""
    folder.mkdir()
    run = Run(prepare(recipes.load(str(recipe)), open_data(str(small_data))), folder, echo=lambda line: None, bar=False)
    run.store.keep = 100
    begin = time.perf_counter()
    run.train()
    lasts = time.perf_counter() - begin
    return lasts, dict(checkpoint(folder, step) for step in run.store.steps())


def kill_and_resume(tmp_path: Path, recipe: Path, small_data: Path, kills: int) -> None:
    """Runs are killed and resumed again and again until so many kills are done.

    After each kill the last checkpoint is, bit by bit, that of the uninterrupted run; so is the end of each run.
    """
    lasts, wanted = uninterrupted(recipe, tmp_path / "whole", small_data)
    rng, done, runs, steps = random.Random(0), 0, 0, []
    while done < kills:
        folder, reached, code = tmp_path / f"run-{runs}", -1, -9
        process = train(tmp_path, recipe, "--out", folder)
        while code != 0:
            code = end(process, rng.uniform(0, 0.7 * lasts) if done < kills else 60)
            assert code in (0, -9)
            if CheckpointStore(folder / "checkpoints").steps():  # none yet: killed within the first moment
                step, state = checkpoint(folder)
                assert state == wanted[step]
                assert step >= reached  # nothing that was saved is lost
                reached = step
            if code == -9:
                done += 1
                steps.append(reached)
                process = train(tmp_path, "--resume", folder)
        assert reached == max(wanted)
        assert left_by(folder) == left_by(tmp_path / "whole")
        runs += 1
    assert len(set(steps)) > min(kills, 20) // 3  # the kills came at many different steps
    figure = f"{done} kills and resumes, {runs} runs as the uninterrupted one, stopped at {sorted(set(steps))}"
    print(figure)  # noqa: T201  (shown with -s)


@pytest.mark.promise("K1")
def test_killed_runs_go_on_to_the_same_bits(recipe: Path, small_data: Path, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, recipe, small_data, 3)


@pytest.mark.slow
@pytest.mark.promise("K1")
def test_two_hundred_killed_runs(recipe: Path, small_data: Path, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, recipe, small_data, 200)
