"""A whole training whose disk dies, fails or loses power at every single call: it goes on to the same files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from crash.failpoints import ATOMIC, CALLS, KILLS, REFUSALS, Dead, Disk, State, build, state_of
from stridenet import cli, files
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Splits
from stridenet.errors import CheckpointError
from stridenet.experiment import Run, next_folder, open_run, prepare
from stridenet.strictjson import to_json
from stridenet.tensors import unpack_tensors
from stridenet.zoo import recipes

TIME = re.compile(rb'"seconds":[0-9.]+')
FOLDER = Path("runs/small-001")
WRITTEN = [
    "recipe.json", "step-000000000", "history.jsonl", "step-000000004", "history.jsonl", "step-000000008",
    "results.json",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridenet.experiment.Run._pictures", lambda *arguments: None)


@pytest.fixture
def recipe(recipe_file: Path) -> Path:
    """Two epochs of four steps; the second is the better one."""
    recipe_file.write_text(recipe_file.read_text().replace("epochs = 3", "epochs = 2"))
    return recipe_file


@pytest.fixture(scope="module")
def splits(small_data: Path) -> Splits:
    return open_data(str(small_data))


def silent(line: str) -> None:
    pass


def train(root: Path, recipe: Path, splits: Splits) -> None:
    """What `stridenet train` does, in `root`."""
    setup = prepare(recipes.load(str(recipe)), splits)
    Run(setup, next_folder("small", root / "runs"), echo=silent, bar=False).train()


def resume(root: Path, splits: Splits) -> None:
    """What `stridenet train --resume` does."""
    settings = open_run(root / FOLDER)[0]
    Run(prepare(settings, splits), root / FOLDER, echo=silent, bar=False).train(resume=True)


def timeless(state: State) -> dict[Path, Any]:
    """`state` without the seconds that steps took."""
    return {path: content and _timeless(path, content) for path, content in state.items()}


def _timeless(path: Path, content: bytes) -> object:
    if path.parent.name != "checkpoints":
        return TIME.sub(b"", content)
    tensors, meta = unpack_tensors(content, path.name, allow_nonfinite=True)
    return {name: value.tobytes() for name, value in tensors.items()}, TIME.sub(b"", to_json(meta).encode())


def ends_the_same(root: Path, recipe: Path, splits: Splits, wanted: dict[Path, Any]) -> None:
    """The run in `root` is resumed, or begun where not even its recipe is there, and ends with the wanted files."""
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, root)  # flushes take time
        if (root / FOLDER / "recipe.json").exists():
            resume(root, splits)
        else:
            shutil.rmtree(root / "runs", ignore_errors=True)
            train(root, recipe, splits)
    left = timeless(state_of(root))
    assert {path: left.get(path) for path in wanted} == wanted
    assert all("checkpoints/step-" in str(path) for path in left.keys() - wanted.keys())  # an old one may stay


class Whole:
    """An undisturbed run in `root`: its calls, what it leaves, and what a power loss would leave at each call."""

    def __init__(self, root: Path, recipe: Path, splits: Splits) -> None:
        self.written: list[str] = []  # in this order
        self.versions: dict[Path, list[bytes | None]] = {}
        self.states: dict[tuple[tuple[Path, bytes | None], ...], State] = {}
        self.faults: list[str] = []
        self._returned: dict[Path, int] = {}  # the version whose writing has returned
        with pytest.MonkeyPatch.context() as patch:
            self.disk = Disk(patch, build(root, {}))
            self.disk.before_call = self._look
            train(root, recipe, splits)
            self._look("the end")
        self.calls, self.state = self.disk.calls, timeless(state_of(root))

    def _look(self, call: str) -> None:
        """Before each call: take note of new versions, and check every state after a power loss."""
        now = {path.relative_to(self.disk.folder): self.disk.data[n] for path, n in self.disk.now.items()}
        for path, content in now.items():
            versions = self.versions.setdefault(path, [])
            if path.suffix != ".tmp" and content not in versions:
                versions.append(content)
                self.written.append(path.name.removesuffix(".safetensors"))
        if call not in ATOMIC[1:]:  # another write begins, or the run ends: those before it are done
            self._returned = {path: len(self.versions[path]) - 1 for path in now if path.suffix != ".tmp"}
        for state in self.disk.after_power_loss():
            named = {path: content for path, content in state.items() if path.suffix != ".tmp"}
            key = tuple(sorted(named.items()))
            self.faults += [f"before {call}: {fault}" for fault in self._judge(named, now)]
            self.states[key] = named

    def _judge(self, state: State, now: State) -> list[str]:
        torn = [f"{path.name} is torn" for path in state if state[path] not in self.versions[path]]
        lost = [f"{path.name} is lost" for path in self._returned if path in now and path not in state]
        old = [
            f"{path.name} is old"
            for path, version in self._returned.items()
            if path in state and state[path] in self.versions[path][:version]
        ]
        return torn + lost + old


@pytest.fixture
def whole(recipe: Path, splits: Splits, tmp_path: Path) -> Whole:
    return Whole(tmp_path / "whole", recipe, splits)


@pytest.mark.promise("K1")
def test_a_power_loss_takes_nothing_that_was_written(whole: Whole) -> None:
    assert [name for name in whole.written if name != "model"] == ["runs", "small-001", "checkpoints", *WRITTEN]
    folders, atomic = ["_make", "_sync_folder"] * 3, list(ATOMIC)
    assert whole.calls == [*folders, *atomic * 8, "remove", *atomic * 2]  # every call has been looked at
    assert whole.faults == []


AUDITED = """
import os, sys, json
from stridenet import experiment, files
from stridenet.cli import main
experiment.Run._pictures = lambda *arguments: None
counts = {name: 0 for name in (*CALLS, "open", "os.mkdir", "os.rename", "os.remove", "others")}

def counted(name, real):
    def call(*arguments):
        counts[name] += 1
        return real(*arguments)
    return call

for name in CALLS:
    setattr(files, name, counted(name, getattr(files, name)))
from stridenet.train import checkpoint
checkpoint.remove = files.remove
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OTHERS = ("os.truncate", "os.link", "os.symlink", "os.rmdir", "os.chmod", "os.chown", "os.utime", "shutil")

def audit(event, arguments):
    here = arguments and isinstance(arguments[0], (str, os.PathLike)) and "/runs" in os.path.abspath(arguments[0])
    if here and event in counts and (event != "open" or arguments[2] & WRITES):
        counts[event] += 1
    elif event.startswith(OTHERS):
        counts["others"] += 1

sys.addaudithook(audit)
try:
    main()
finally:
    sys.stderr.write(json.dumps(counts))
"""


@pytest.mark.promise("K1")
def test_no_other_call_changes_the_folder(recipe: Path, child: Any, whole: Whole) -> None:
    """An audit hook sees what Python does to files; the lock file alone is made and cut beside the counted calls."""
    done = child(f"CALLS = {CALLS}\n{AUDITED}", "train", recipe)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stderr)
    assert {name: counts[name] for name in CALLS} == {name: whole.calls.count(name) for name in CALLS}
    assert counts["open"] == counts["_create"] + 1
    assert (counts["os.mkdir"], counts["os.rename"]) == (counts["_make"], counts["_replace"])
    assert (counts["os.remove"], counts["others"]) == (counts["remove"], 1)


def hasty(path: Path, data: bytes) -> None:
    if path.exists():
        files.remove(path)
    descriptor = files._create(path)
    files._write(descriptor, memoryview(data))
    os.close(descriptor)


@pytest.mark.parametrize(
    ("place", "wrong", "fault"),
    [
        ("new_folder", lambda folder: files._make(folder), "small-001 is lost"),
        ("write_atomic", hasty, "recipe.json is torn"),
        ("write_atomic", hasty, "history.jsonl is lost"),
    ],
)
def test_what_is_not_flushed_is_found(
    place: str, wrong: Any, fault: str, recipe: Path, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"stridenet.experiment.{place}", wrong)
    faults = Whole(tmp_path / "whole", recipe, splits).faults
    assert any(fault in line for line in faults), faults


def disturbed(tmp_path: Path, recipe: Path, splits: Splits, whole: Whole, every: int) -> int:
    """Each `every`th call x everything that may happen at it; the number of runs that went on to the same files."""
    cases = [
        (name, act, lasting)
        for name, act in (KILLS | {name: REFUSALS[name] for name in ("EIO", "ENOSPC")}).items()
        for lasting in ((False, True) if name in REFUSALS else (False,))
    ]
    chosen = [(at, case) for at in range(len(whole.calls)) for case in cases][::every]
    for number, (at, (name, act, lasting)) in enumerate(chosen):
        root = build(tmp_path / str(number), {})
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, root, at, act, lasting=lasting)
            try:
                train(root, recipe, splits)
            except Dead:
                assert name in KILLS
            except (CheckpointError, OSError):
                assert name in REFUSALS
            else:
                assert disk.calls[at] == "remove"  # what cannot be removed does not stop a run
        assert whole.calls[: at + 1] == disk.calls[: at + 1]
        ends_the_same(root, recipe, splits, whole.state)
        shutil.rmtree(root)
    return len(chosen)


@pytest.mark.promise("K1")
def test_a_disturbed_run_goes_on_to_the_same_files(tmp_path: Path, recipe: Path, splits: Splits, whole: Whole) -> None:
    assert disturbed(tmp_path, recipe, splits, whole, every=31) > 8


@pytest.mark.slow
@pytest.mark.promise("K1")
def test_a_run_disturbed_at_any_call_goes_on(tmp_path: Path, recipe: Path, splits: Splits, whole: Whole) -> None:
    assert disturbed(tmp_path, recipe, splits, whole, every=1) == 6 * len(whole.calls)


@pytest.mark.promise("K1")
def test_a_run_goes_on_after_any_power_loss(tmp_path: Path, recipe: Path, splits: Splits, whole: Whole) -> None:
    assert len(whole.states) > 10
    for number, state in enumerate(whole.states.values()):
        ends_the_same(build(tmp_path / str(number), state), recipe, splits, whole.state)


@pytest.mark.promise("K03", "L02")
@pytest.mark.parametrize(
    ("name", "place"), [("EROFS", 0), ("EACCES", 1), ("ENOSPC", 2), ("EIO", 6), ("EDQUOT", 7), ("ENOSPC", 9)]
)
def test_a_write_that_fails_is_one_line(
    name: str, place: int, recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Recipe, checkpoint, history, model, results: the folder is named, and the run can go on."""
    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        at = 5 + 5 * place + (place > 7) + 1  # the write of that file
        disk = Disk(patch, build(tmp_path / "runs", {}), at, REFUSALS[name], lasting=True)
        assert cli.run(["train", str(recipe)]) == 1
    assert disk.calls[at] == "_write"
    out, err = capfd.readouterr()
    assert (err.count("\n"), err.startswith("stridenet: runs/small-001/")) == (1, True), err
    assert os.strerror(getattr(errno, name)).lower() in err.lower()
    assert "Traceback" not in out + err
    assert cli.run(["train", "--resume", "runs/small-001"]) == (1 if place == 0 else 0)
