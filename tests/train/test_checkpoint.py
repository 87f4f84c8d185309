from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import files
from stridenet.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLockedError,
    CheckpointMismatchError,
    CheckpointVersionError,
    ConfigError,
)
from stridenet.files import save_tensors
from stridenet.train.checkpoint import CheckpointStore, RunLock, require_same


def tensors_of(step: int) -> dict[str, np.ndarray]:
    return {"weight": np.full(20, step, np.float32), "worst": np.array([np.inf])}


def store_of(folder: Path, *steps: int, keep: int = 2) -> CheckpointStore:
    store = CheckpointStore(folder, keep=keep)
    for step in steps:
        store.save(step, tensors_of(step), {"step": step, "version": "mine"})
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Saving


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    store = store_of(tmp_path, 0, 5, 860, 1_000_000_000)
    assert names(tmp_path) == ["step-000000860.safetensors", "step-1000000000.safetensors"]
    assert store.path(860).name == "step-000000860.safetensors"
    step, tensors, meta = store.latest()
    assert (step, meta) == (1_000_000_000, {"step": 1_000_000_000, "version": "mine"})
    assert tensors["weight"].tolist() == [np.float32(1_000_000_000)] * 20
    assert tensors["worst"].tolist() == [np.inf]
    tensors["weight"] += 1


def test_the_number_kept_is_chosen(tmp_path: Path) -> None:
    for keep in [1, 3]:
        store_of(tmp_path, 1, 2, 3, 4, keep=keep)
        assert len(names(tmp_path)) == keep
    for keep in [0, -1, 1.5, True]:
        with pytest.raises(ConfigError, match="CheckpointStore: expected keep"):
            CheckpointStore(tmp_path, keep=keep)  # pyright: ignore[reportArgumentType]


def test_a_checkpoint_just_written_is_not_removed_for_later_ones(tmp_path: Path) -> None:
    store_of(tmp_path, 10, 20)
    store_of(tmp_path, 5)
    assert "step-000000005.safetensors" in names(tmp_path)
    store_of(tmp_path, 12, keep=1)
    assert names(tmp_path) == ["step-000000012.safetensors", "step-000000020.safetensors"]


def test_a_saved_step_is_replaced(tmp_path: Path) -> None:
    store = store_of(tmp_path, 3)
    store.save(3, {"other": np.zeros(1)}, {})
    assert store.latest()[1].keys() == {"other"}
    for step in [-1, 1.5, True]:
        with pytest.raises(ConfigError, match=r"CheckpointStore\.save: expected step"):
            store.save(step, {}, {})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("call", ["_create", "_write", "_sync", "_replace", "_sync_folder"])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE, errno.EEXIST]
)
@pytest.mark.promise("K03")
def test_a_failed_write_leaves_the_old_ones(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, 1, 2)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, call, fail)
    reason = re.escape(os.strerror(code))
    expected = (
        rf"step-000000003\.safetensors: expected to write a checkpoint, got: {reason}; those before it are intact"
    )
    with pytest.raises(CheckpointError, match=expected):
        store.save(3, tensors_of(3), {})
    monkeypatch.undo()
    assert before.items() <= {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}.items()
    assert not any(name.endswith(".tmp") for name in names(tmp_path))
    assert store.latest()[0] in {2, 3}


@pytest.mark.promise("K03")
def test_a_folder_that_is_gone_is_a_checkpoint_error(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    store.path(1).unlink()
    tmp_path.rmdir()
    with pytest.raises(
        CheckpointError, match=r"step-000000002.*No such file or directory; its folder must exist; make"
    ):
        store.save(2, tensors_of(2), {})
    with pytest.raises(CheckpointError, match="expected a folder of checkpoints, got: No such file"):
        store.latest()
    tmp_path.touch()
    with pytest.raises(CheckpointError, match="Not a directory"):
        store.save(2, tensors_of(2), {})
    with pytest.raises(CheckpointError, match="Not a directory"):
        store.latest()


def test_what_stands_in_the_way_is_a_checkpoint_error(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    store.path(2).mkdir()
    with pytest.raises(CheckpointError, match=r"step-000000002.*Is a directory"):
        store.save(2, tensors_of(2), {})
    os.mkfifo(store.path(3))
    with pytest.raises(CheckpointError, match=r"step-000000003.*not a regular file"):
        store.save(3, tensors_of(3), {})


FULL_DISK = """
import resource, sys
import numpy as np
from stridenet.errors import CheckpointError
from stridenet.train.checkpoint import CheckpointStore
store, failed = CheckpointStore(sys.argv[1]), 0
store.save(1, {"a": np.zeros(10_000)}, {})
for limit in range(0, 80_000, 4_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.save(2, {"a": np.ones(10_000)}, {})
    except CheckpointError as error:
        failed += "File too large" in str(error)
    assert store.latest()[0] == 1
sys.stdout.write(f"{failed}")
"""


@pytest.mark.promise("K03", "K1c")
def test_a_full_disk_is_a_checkpoint_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "20", "")
    assert names(tmp_path) == ["step-000000001.safetensors"]


@pytest.mark.promise("K07")
def test_a_link_at_the_temporary_name_is_a_checkpoint_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".step-000000001.safetensors.{'0' * 16}.tmp").symlink_to(victim)
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    with pytest.raises(CheckpointError, match=r"step-000000001.*File exists"):
        store_of(tmp_path, 1)
    assert victim.read_bytes() == b"precious"


def test_an_old_one_that_cannot_be_removed_does_not_stop_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, 1, 2)
    (tmp_path / "step-000000000.safetensors").mkdir()
    store.save(3, tensors_of(3), {})
    assert store.latest()[0] == 3
    assert names(tmp_path) == [f"step-00000000{n}.safetensors" for n in (0, 2, 3)]


# Choosing


@pytest.mark.promise("K01")
def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for name in ["", "notes.txt", "step-000000001.safetensors.bak", "step-1.safetensors"]:
        if name:
            (tmp_path / name).write_bytes(b"text")
        with pytest.raises(CheckpointError, match="expected a checkpoint, got none; give the folder") as caught:
            store.latest()
        assert type(caught.value) is CheckpointError


@pytest.mark.promise("K01")
def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    run: dict[str, Any] = {"version": 1, "step": 7, "run": {}}
    save_tensors(store.path(7), {}, run)
    assert store.latest() == (7, {}, {})
    changes = [{"version": None}, {"version": 0}, {"version": "2"}, {"step": 8}, {"run": None}, {"run": []}]
    for change in changes:
        save_tensors(store.path(7), {}, {**run, **change})
        with pytest.raises(CheckpointCorruptError, match="expected the checkpoint of step 7, got another file"):
            store.latest()


@pytest.mark.promise("K01")
def test_a_newer_version_is_named_and_not_passed_over(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    save_tensors(store.path(2), {}, {"version": 2, "other": "format"})
    with pytest.raises(
        CheckpointVersionError, match="expected a checkpoint of version 1, got 2; use a newer stridenet"
    ):
        store.latest()


def damages(data: bytes) -> Iterator[bytes]:
    for part in range(50):
        yield data[: len(data) * part // 50]
    rng = np.random.default_rng(2)
    for bit in rng.choice(len(data) * 8, 50, replace=False).tolist():
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    yield bytes(len(data))
    yield data[:100] + bytes(len(data) - 100)
    yield data + b"\0"


@pytest.mark.promise("K02")
def test_a_damaged_checkpoint_gives_the_one_before(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    whole = store.path(2).read_bytes()
    for data in damages(whole):
        store.path(2).write_bytes(data)
        with pytest.warns(UserWarning, match="step-000000002.*; using step-000000001.safetensors instead") as caught:
            step, tensors, _ = store.latest()
        assert step == 1
        assert tensors["weight"].tolist() == [1] * 20
        assert len(caught) == 1
        assert str(caught[0].message).isprintable()
        assert caught[0].filename == __file__
    store.path(2).write_bytes(whole)
    assert store.latest()[0] == 2


@pytest.mark.promise("K02")
def test_none_left(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    for step in (1, 2):
        store.path(step).write_bytes(b"")
    with pytest.raises(
        CheckpointCorruptError, match="expected a checkpoint that verifies, got 2 that do not; step-000000002"
    ):
        store.latest()


@pytest.mark.promise("K02")
def test_only_the_beginning_of_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (tmp_path / f".step-000000001.safetensors.{'0' * 16}.tmp").write_bytes(b"half")
    with pytest.raises(CheckpointCorruptError, match="got only the beginning of one; start anew"):
        store.latest()
    store.clean()
    assert names(tmp_path) == []


@pytest.mark.promise("K02")
def test_what_cannot_be_opened_gives_the_one_before(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    store.path(2).mkdir()
    with pytest.warns(UserWarning, match="step-000000002.safetensors: Is a directory; using"):
        assert store.latest()[0] == 1
    store.path(3).symlink_to(tmp_path / "nowhere")
    os.mkfifo(store.path(4))
    with pytest.warns(UserWarning, match="step-000000004.safetensors: .*not a regular file.*; using step-000000001"):
        assert store.latest()[0] == 1


@pytest.mark.promise("K06")
def test_times_and_other_names_do_not_count(tmp_path: Path) -> None:
    store = store_of(tmp_path, 8, 9, 10)
    numbers = [
        "step-11",
        "step-0000000011",
        "Step-000000011",
        " step-000000011",
        "step-00000001\u0661",
        "step-000000011.bak",
    ]
    others = [f"{number}.safetensors" for number in numbers]
    others += ["step-000000011.safetensors.bak", "step-000000011.safetensors\n"]
    for name in others:
        (tmp_path / name).write_bytes(store.path(10).read_bytes())
    os.utime(store.path(9), (2e9, 2e9))
    os.utime(store.path(10), (1, 1))
    assert store.latest()[0] == 10
    os.utime(store.path(9), (1, 1))
    assert store.latest()[0] == 10
    store.save(11, {}, {})
    assert set(names(tmp_path)) == {*others, store.path(10).name, store.path(11).name}


@pytest.mark.promise("K06")
def test_ten_thousand_old_files(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=20_000)
    for step in range(10_000):
        store.path(step).touch()
    store.save(10_000, {}, {"a": 1})
    assert store.latest() == (10_000, {}, {"a": 1})
    CheckpointStore(tmp_path).save(10_001, {}, {})
    assert names(tmp_path) == [store.path(10_000).name, store.path(10_001).name]


# The lock

HOLD = """
import sys
from stridenet.errors import CheckpointLockedError
from stridenet.train.checkpoint import RunLock
try:
    with RunLock(sys.argv[1]):
        sys.stdout.write("held\\n"); sys.stdout.flush()
        sys.stdin.read()
except CheckpointLockedError:
    sys.stdout.write("locked\\n"); sys.stdout.flush()
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that tries to hold the lock, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.promise("K04")
def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert answer(process) == "held"
        with pytest.raises(CheckpointLockedError, match=f"got process {process.pid}; wait for it"), RunLock(tmp_path):
            pytest.fail("two hold the lock")
        process.kill()
        process.wait()
        with RunLock(tmp_path):  # the lock of a dead process is free
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.promise("K04")
def test_the_lock_is_free_afterwards_and_held_until_then(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("99999999999999999999 an old and longer text")
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(CheckpointLockedError, match=f"got process {os.getpid()};"), RunLock(tmp_path):
            pytest.fail("two hold the lock")
        with holder(tmp_path) as process:
            assert answer(process) == "locked"
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with holder(tmp_path) as process:
        assert answer(process) == "held"


@pytest.mark.promise("K04", "K6")
def test_of_several_at_once_one_wins(tmp_path: Path) -> None:
    for _ in range(3):
        with holder(tmp_path) as a, holder(tmp_path) as b, holder(tmp_path) as c:
            assert sorted(answer(process) for process in (a, b, c)) == ["held", "locked", "locked"]


@pytest.mark.promise("K04")
def test_the_message_is_one_line_whatever_the_lock_file_says(tmp_path: Path) -> None:
    for content, shown in [(b"", "unknown"), (b"\x1b[31m\xff", r"\\x1b\[31m")]:
        (tmp_path / ".lock").write_bytes(content)
        with (tmp_path / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(CheckpointLockedError, match=shown) as caught, RunLock(tmp_path):
                pytest.fail("two hold the lock")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK])
@pytest.mark.promise("K04")
def test_a_file_system_without_locks_is_a_warning(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="this file system has no locks") as caught, RunLock(tmp_path):
        pass
    assert caught[0].filename == __file__


def test_other_failures_of_the_lock_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = len(names(Path("/dev/fd")))
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), RunLock(tmp_path):
        pytest.fail("not locked")
    with pytest.raises(FileNotFoundError), RunLock(tmp_path / "missing"):
        pytest.fail("not locked")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"), RunLock(tmp_path):
        pytest.fail("not locked")
    assert (tmp_path / "victim").read_text() == "precious"
    assert len(names(Path("/dev/fd"))) == before


@pytest.mark.promise("K04")
def test_without_flock_there_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with RunLock(tmp_path), RunLock(tmp_path):
        pass


# The same run

SAVED: dict[str, Any] = {
    "recipe": {"name": "lenet5-mnist", "optimizer": {"lr": 0.1, "momentum": 0.9}, "augment": []},
    "dataset": "sha256:aa",
    "seed": 1,
    "network": [{"kind": "Conv2d", "kernel_size": [5, 5]}, {"kind": "ReLU"}],
}


@pytest.mark.promise("K01")
def test_the_same_run_may_go_on() -> None:
    require_same(SAVED, SAVED)
    reordered = dict(reversed(SAVED.items()))
    require_same(SAVED, {**reordered, "network": ({"kernel_size": (5, 5), "kind": "Conv2d"}, {"kind": "ReLU"})})
    require_same({}, {})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 2}, "got seed: 1 -> 2"),
        ({"seed": True}, "got seed: 1 -> true"),
        ({"seed": "1"}, 'got seed: 1 -> "1"'),
        ({"dataset": "sha256:bb"}, 'got dataset: "sha256:aa" -> "sha256:bb"'),
        ({"network": SAVED["network"][:1]}, 'got network.1.kind: "ReLU" -> absent'),
        (
            {"network": [{"kind": "Conv2d", "kernel_size": [5, 3]}, {"kind": "ReLU"}]},
            "got network.0.kernel_size.1: 5 -> 3",
        ),
        ({"network": []}, "network: absent -> []; network.0"),
        ({"recipe": None}, "recipe: absent -> null; recipe.augment: [] -> absent"),
        ({"recipe": {**SAVED["recipe"], "augment": {}}}, "got recipe.augment: [] -> {}"),
        ({"recipe": {**SAVED["recipe"], "optimizer": {"lr": 0.1}}}, "got recipe.optimizer.momentum: 0.9 -> absent"),
        ({"new": "\x9b\n"}, r'got new: absent -> "\x9b\n"'),
        ({"seed": 2, "dataset": ""}, 'got dataset: "sha256:aa" -> ""; seed: 1 -> 2'),
    ],
)
@pytest.mark.promise("K01")
def test_another_run_may_not(change: dict[str, Any], line: str) -> None:
    with pytest.raises(CheckpointMismatchError) as caught:
        require_same(SAVED, {**SAVED, **change})
    assert line in str(caught.value)
    assert str(caught.value).startswith("checkpoint: expected the values it was saved with, got ")
    assert str(caught.value).isprintable()


def test_many_and_long_differences_are_cut() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"3: 0 -> 1.* and 80 more$") as caught:
        require_same({str(i): 0 for i in range(100)}, {str(i): 1 for i in range(100)})
    assert str(caught.value).count("->") == 20
    with pytest.raises(CheckpointMismatchError) as caught:
        require_same({"a": "b" * 10_000}, {"a": "c" * 10_000})
    assert len(str(caught.value)) < 300


def test_the_store_warns_of_nothing_when_all_is_well(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with RunLock(tmp_path):
            assert store_of(tmp_path, 1, 2).latest()[0] == 2
