"""A checkpoint is saved on a disk that dies, fails or loses power at every single call: old or new, never nothing."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from crash.failpoints import (
    ATOMIC,
    CALLS,
    KILLS,
    LOST_ANSWERS,
    REFUSALS,
    Act,
    Dead,
    Disk,
    State,
    build,
    short_writes,
    state_of,
)
from stridenet import files
from stridenet.errors import CheckpointError
from stridenet.files import write_atomic
from stridenet.train.checkpoint import CheckpointStore

NEW = 4  # the step that is saved
STARTS = {"no checkpoint": [], "one": [1], "three": [1, 2, 3], "the same step": [3, NEW]}
MOST = 150  # bytes that the disk takes at a time, so that a save needs several writes

Found = tuple[int, str] | None


def save(folder: Path, step: int, mark: str, keep: int = 2) -> None:
    tensors = {"weight": np.full((3, 4), step, np.float32), "worst": np.array([np.inf])}
    CheckpointStore(folder, keep=keep).save(step, tensors, {"mark": mark})


def found(folder: Path) -> Found:
    """What a resume takes, (step, mark); None where there is no checkpoint; a file that is torn is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            step, tensors, meta = CheckpointStore(folder).latest()
        except CheckpointError:
            if CheckpointStore(folder).steps():
                raise
            return None
    assert tensors["weight"].tolist() == np.full((3, 4), step).tolist()
    assert tensors["worst"].tolist() == [np.inf]
    return step, meta["mark"]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, State]:
    """The folders before the save."""
    states: dict[str, State] = {}
    for name, steps in STARTS.items():
        folder = tmp_path_factory.mktemp("start")
        for step in steps:
            save(folder, step, "old", keep=3)
        states[name] = state_of(folder)
    return states


class Enumeration:
    """Every call of a save x everything that may happen at it; `faults` are the cases that ended wrongly."""

    def __init__(self, root: Path, start: State, steps: list[int], *, keep: int = 2) -> None:
        self.root, self.start, self.keep = root, start, keep
        old = (steps[-1], "old") if steps else None
        self.legal: dict[str, set[Found]] = {"saved": {(NEW, "new")}, "died": {old, (NEW, "new")}}
        self.legal["refused"] = self.legal["died"]
        self.cases = self.states = 0
        self.faults: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._judged: dict[tuple[tuple[Path, bytes | None], ...], str] = {}

    def run(self) -> list[str]:
        """Try all; the calls of a save without a fault."""
        calls = self._power_losses()
        for at in range(len(calls)):
            for name, act, lasting in self._acts(calls[at]):
                self.cases += 1
                disk, end = self._attempt(at, act, lasting=lasting)
                assert len(disk.calls) > at  # it came to the call
                case = f"{calls[at]} {name}, {end}"
                self._check(case, end, self._judge(disk.folder))
                for state in disk.after_power_loss():
                    self._check(f"{case}, power lost", end, self._judge_state(state))
                if not self.faults:
                    self._goes_on(disk.folder)
        disk, end = self._attempt(len(calls), KILLS["killed before"])
        assert (disk.calls, end) == (calls, "saved")  # there is no further call
        return calls

    def _acts(self, call: str) -> Iterator[tuple[str, Act, bool]]:
        shorts = short_writes(1, 7, MOST // 2, MOST - 1) if call == "_write" else {}
        yield from ((name, act, False) for name, act in (KILLS | REFUSALS | LOST_ANSWERS | shorts).items())
        yield from ((f"{name} from here on", act, True) for name, act in REFUSALS.items())

    def _attempt(self, at: int, act: Act | None, *, lasting: bool = False) -> tuple[Disk, str]:
        folder = build(self.root / str(next(self._numbers)), self.start)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, folder, at, act, lasting=lasting, most=MOST)
            return disk, self._save(folder)

    def _save(self, folder: Path) -> str:
        try:
            save(folder, NEW, "new", self.keep)
        except Dead:
            return "died"
        except CheckpointError:
            return "refused"
        return "saved"

    def _power_losses(self) -> list[str]:
        """The power fails before each call, and after the last."""
        folder = build(self.root / "lost", self.start)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, folder, most=MOST)
            disk.before_call = lambda name: self._check_power_loss(disk, "died")
            assert self._save(folder) == "saved"
            self._check_power_loss(disk, "saved")
        assert {path.relative_to(folder): disk.data[number] for path, number in disk.now.items()} == state_of(folder)
        return disk.calls

    def _check_power_loss(self, disk: Disk, end: str) -> None:
        for state in disk.after_power_loss():
            case = f"power lost after {disk.calls[-1] if disk.calls else 'nothing'}, {end}"
            self._check(case, end, self._judge_state(state))

    def _judge_state(self, state: State) -> Found | str:
        key = tuple(sorted(state.items()))
        if key not in self._judged:
            self._judged[key] = self._judge(build(self.root / str(next(self._numbers)), state))
        return self._judged[key]

    def _judge(self, folder: Path) -> Found | str:
        self.states += 1
        try:
            return found(folder)
        except (CheckpointError, UserWarning, AssertionError) as error:
            return f"torn: {error}"

    def _check(self, case: str, end: str, result: Found | str) -> None:
        if result not in self.legal[end]:
            self.faults[case] += 1

    def _goes_on(self, folder: Path) -> None:
        """The next trainer cleans up, finds the same, and its save succeeds."""
        before = found(folder)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, folder)
            CheckpointStore(folder).clean()
            assert [path for path in folder.iterdir() if path.suffix == ".tmp"] == []
            assert found(folder) == before
            save(folder, NEW + 1, "newer")
        assert found(folder) == (NEW + 1, "newer")


@pytest.mark.promise("K1")
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("start", STARTS)
def test_whatever_happens_at_whichever_call_old_or_new_is_there(
    start: str, keep: int, starts: dict[str, State], tmp_path: Path
) -> None:
    trial = Enumeration(tmp_path, starts[start], STARTS[start], keep=keep)
    calls = trial.run()
    assert trial.faults == {}
    create, write, *rest = ATOMIC
    writes = calls.count("_write")
    removes = max(0, len([step for step in STARTS[start] if step < NEW]) + 1 - keep)
    assert calls == [create, *[write] * writes, *rest, *["remove"] * removes]  # every call has been tried
    assert writes == 3
    print(f"{trial.cases} cases, {trial.states} states of the folder, 0 faults")  # noqa: T201  (shown with -s)


# The enumeration is able to fail


def in_place(path: Path, data: bytes) -> None:
    if path.exists():
        files.remove(path)
    files._fill(files._create(path), data)
    files._sync_folder(path.parent)


def old_ones_removed_first(path: Path, data: bytes) -> None:
    for old in path.parent.glob("step-*"):
        files.remove(old)
    write_atomic(path, data)


def steps_of(*calls: str) -> Callable[[Path, bytes], None]:
    """A writer that makes these calls, in this order."""

    def write(path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{'0' * 16}.tmp")
        descriptor = files._create(temporary)
        try:
            for call in calls:
                if call == "write":
                    rest = memoryview(data)
                    while rest:
                        rest = rest[files._write(descriptor, rest) :]
                elif call == "write once":
                    files._write(descriptor, memoryview(data))
                elif call == "sync":
                    files._sync(descriptor)
                elif call == "replace":
                    files._replace(temporary, path)
                else:
                    files._sync_folder(path.parent)
        finally:
            files.os.close(descriptor)

    return write


WRONG = {
    "in place": (in_place, "_write killed before, died"),
    "the old ones removed first": (old_ones_removed_first, "remove killed after, died"),
    "no flush of the file": (steps_of("write", "replace", "sync folder"), "power lost after _sync_folder, saved"),
    "no flush of the folder": (steps_of("write", "sync", "replace"), "power lost after _replace, saved"),
    "renamed before it is flushed": (steps_of("write", "replace", "sync", "sync folder"), "power lost after _replace"),
    "flushed before it is written": (steps_of("sync", "write", "replace", "sync folder"), "power lost after _replace"),
    "folder flushed before the renaming": (
        steps_of("write", "sync", "sync folder", "replace"),
        "power lost after _replace, saved",
    ),
    "one write, however much it took": (
        steps_of("write once", "sync", "replace", "sync folder"),
        "_replace killed after, died",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_way_to_write_is_found(
    name: str, starts: dict[str, State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, where = WRONG[name]
    trial = Enumeration(tmp_path, starts["one"], STARTS["one"])
    monkeypatch.setattr(files, "write_atomic", writer)
    trial.run()
    assert any(case.startswith(where) for case in trial.faults), trial.faults


# The disk of these tests behaves like a real one

KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from stridenet import files
from stridenet.train import checkpoint
root, number, kept = Path(sys.argv[1]), int(sys.argv[2]), {}

def killing(name, real, at, after):
    def call(*arguments):
        if name == "_write":
            arguments = arguments[0], arguments[1][:MOST]
        here, calls[0] = calls[0] == at, calls[0] + 1
        if here and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*arguments)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call

for at in range(number):
    for after in (0, 1):
        process = os.fork()
        if process == 0:
            calls = [0]
            for name in CALLS:
                setattr(files, name, killing(name, getattr(files, name), at, after))
            checkpoint.remove = files.remove
            tensors = {"weight": np.full((3, 4), NEW, np.float32), "worst": np.array([np.inf])}
            checkpoint.CheckpointStore(root / f"{at}-{after}").save(NEW, tensors, {"mark": "new"})
            os._exit(0)
        assert os.waitpid(process, 0)[1] == signal.SIGKILL
"""


def masked(state: State) -> dict[str, bytes | None]:
    """`state` without the random part of temporary names."""
    return {re.sub(r"[0-9a-f]{16}\.tmp", "tmp", path.name): content for path, content in state.items()}


@pytest.mark.promise("K1")
def test_a_real_sigkill_leaves_what_the_simulated_one_leaves(starts: dict[str, State], tmp_path: Path) -> None:
    trial = Enumeration(tmp_path, starts["three"], STARTS["three"])
    number, wanted = len(trial._attempt(-1, None)[0].calls), {}
    (tmp_path / "real").mkdir()
    for at, (after, act) in itertools.product(range(number), enumerate(KILLS.values())):
        disk, end = trial._attempt(at, act)
        assert end == "died"
        wanted[f"{at}-{after}"] = masked(state_of(disk.folder))
        build(tmp_path / "real" / f"{at}-{after}", starts["three"])
    code = f"CALLS, MOST, NEW = {CALLS}, {MOST}, {NEW}\n{KILLED}"
    command = [sys.executable, "-c", code, tmp_path / "real", str(number)]
    subprocess.run(command, check=True, timeout=60)
    assert {case: masked(state_of(tmp_path / "real" / case)) for case in wanted} == wanted
    assert len({tuple(state.items()) for state in wanted.values()}) == number + 1 - 2  # flushes do not show
