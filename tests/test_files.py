from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet import files
from stridenet.errors import DataFormatError, DataIntegrityError, DataLimitError, StridenetError, WeightsFormatError
from stridenet.files import clean_temporaries, load_tensors, new_folder, read_regular, save_tensors, write_atomic

LIMIT = 2**20


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process, which may die."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_descriptors() -> int:
    return len(names(Path("/dev/fd")))


# Writes


def test_the_file_holds_the_data_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in [b"", b"old", bytes(range(256)) * 10_000]:
        write_atomic(path, data)
        assert path.read_bytes() == data
    write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    for mask, mode in [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)]:
        old = os.umask(mask)
        try:
            write_atomic(tmp_path / "file", b"")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_the_calls_come_in_the_order_that_survives_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ["_create", "_write", "_sync", "_replace", "_sync_folder", "remove"]:
        call = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *args, name=name, call=call: (calls.append(name), call(*args))[1])
    write_atomic(tmp_path / "file", b"data")
    assert calls == ["_create", "_write", "_sync", "_replace", "_sync_folder"]


def test_a_new_folder_is_flushed_and_not_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(files, "_sync_folder", flushed.append)
    new_folder(tmp_path / "a")
    new_folder(str(tmp_path / "a" / "b"))
    assert flushed == [tmp_path, tmp_path / "a"]
    with pytest.raises(FileExistsError):
        new_folder(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        new_folder(tmp_path / "c" / "d")
    assert (names(tmp_path), len(flushed)) == (["a"], 2)


def test_what_stands_there_is_refused_a_broken_link_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(FileExistsError) as caught:
            files.refuse_existing(path)
        assert str(caught.value) == f"{path}: expected a path that is not there yet; overwrite=True replaces it"
    files.refuse_existing(tmp_path / "new")


def test_file_and_folder_are_really_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: kinds.append(stat.S_IFMT(os.fstat(descriptor).st_mode)))
    write_atomic(tmp_path / "file", b"data")
    assert kinds == [stat.S_IFREG, stat.S_IFDIR]


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("call", ["_create", "_write", "_sync", "_replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.promise("K03")
def test_a_failed_write_leaves_the_old_file(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(files, call, failing(OSError(code, os.strerror(code))))
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        write_atomic(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(files, "_sync", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_write", lambda descriptor, data: os.write(descriptor, data[:3]))
    write_atomic(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    "lie",
    [
        lambda descriptor, data: os.write(descriptor, bytes(len(data))),
        lambda descriptor, data: len(data),
        lambda descriptor, data: os.write(descriptor, bytes(data) + b"x") - 1,
        lambda descriptor, data: os.write(descriptor, data[:-1]) + 1,
    ],
)
def test_a_disk_that_keeps_something_else_is_noticed(
    lie: Callable[[int, memoryview], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(files, "_write", lie)
    with pytest.raises(OSError, match="what is read back differs") as caught:
        write_atomic(tmp_path / "file", b"new data" * 2**18)
    assert caught.value.errno == errno.EIO
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_no_descriptor_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    write_atomic(tmp_path / "file", b"data")
    read_regular(tmp_path / "file", limit=LIMIT)
    monkeypatch.setattr(files, "_sync", failing(OSError(errno.EIO, "no")))
    with pytest.raises(OSError, match="no"):
        write_atomic(tmp_path / "file", b"data")
    assert open_descriptors() == before


def test_a_folder_that_cannot_be_flushed_is_reported_or_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    for code in [errno.EINVAL, errno.EIO]:

        def fail(descriptor: int, code: int = code) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(code, os.strerror(code))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fail)
        if code == errno.EINVAL:  # a file system that does not know it
            write_atomic(tmp_path / "file", b"data")
        else:
            with pytest.raises(OSError, match=os.strerror(code)):
                write_atomic(tmp_path / "file", b"data")


@pytest.mark.promise("K07")
def test_a_link_planted_at_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, planted = tmp_path / "victim", tmp_path / f".file.{'0' * 16}.tmp"
    victim.write_bytes(b"precious")
    planted.symlink_to(victim)
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "file", b"data")
    assert victim.read_bytes() == b"precious"
    assert planted.is_symlink()
    assert not (tmp_path / "file").exists()


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataFormatError, match="fifo: not a regular file: expected one, got a FIFO"):
        write_atomic(tmp_path / "fifo", b"data")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        write_atomic(tmp_path, b"data")
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "missing" / "file", b"data")
    assert str(caught.value) == f"[Errno {errno.ENOENT}] No such file or directory: {str(tmp_path / 'missing')!r}"
    assert names(tmp_path) == ["fifo"]


def test_only_temporaries_are_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"file", "file.tmp", ".file.tmp", f".file.{'g' * 16}.tmp", f".file.{'0' * 15}.tmp", f"file.{'0' * 16}.tmp"}
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / f".folder.{'0' * 16}.tmp").mkdir()
    (tmp_path / f".link.{'0' * 16}.tmp").symlink_to(tmp_path / "file")
    with monkeypatch.context() as context:
        context.setattr(files, "_replace", failing(OSError(errno.EIO, "no")))
        context.setattr(files, "remove", failing(OSError(errno.EIO, "no")))
        for name in ["file", "file with\nnewline"]:
            with pytest.raises(OSError, match="no"):
                write_atomic(tmp_path / name, b"data")
    assert len(names(tmp_path)) == len(kept) + 4
    clean_temporaries(tmp_path)
    assert set(names(tmp_path)) == kept | {f".folder.{'0' * 16}.tmp"}


WRITE_FOR_EVER = """
import sys
from stridenet.files import write_atomic
for i in range(10**9):
    write_atomic(sys.argv[1], bytes([i % 256]) * 100_000)
    if i == 0: sys.stdout.write("ready\\n"); sys.stdout.flush()
"""


@pytest.mark.promise("K1")
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        command = [sys.executable, "-c", WRITE_FOR_EVER, tmp_path / "file"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            threading.Event().wait(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        data = (tmp_path / "file").read_bytes()
        assert len(data) == 100_000
        assert len(set(data)) == 1
    clean_temporaries(tmp_path)
    assert names(tmp_path) == ["file"]


# Reads


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in [b"", b"0123456789"]:
        path.write_bytes(data)
        assert read_regular(path, limit=10) == data
    (tmp_path / "link").symlink_to(path)
    assert read_regular(str(tmp_path / "link"), limit=10) == b"0123456789"
    with pytest.raises(DataLimitError, match="file: expected at most 9 bytes, got 10") as caught:
        read_regular(path, limit=9)
    assert (caught.value.limit, caught.value.value) == (9, 10)


def test_a_huge_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataLimitError):
        read_regular(tmp_path / "file", limit=LIMIT)
    with pytest.raises(WeightsFormatError, match="at most 4294967296 bytes, got 1099511627776"):
        load_tensors(tmp_path / "file")


@pytest.mark.promise("I12")
def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    previous = Path.cwd()
    os.chdir(tmp_path)  # a socket's path is short
    try:
        listener.bind("socket")
    finally:
        os.chdir(previous)
    specials = [
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path / "socket", "a socket"),
        ("/dev/zero", "a device"),
        ("/dev/full", "a device"),
    ]
    with listener:
        for path, kind in specials:
            with pytest.raises(DataFormatError, match=f"not a regular file: expected one, got {kind}"):
                read_regular(path, limit=LIMIT)
            with pytest.raises(WeightsFormatError, match="not a regular file"):
                load_tensors(path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for read in [lambda path: read_regular(path, limit=LIMIT), load_tensors]:
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "broken")


def test_a_file_that_becomes_a_fifo_is_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    check = files._require_regular

    def swap(path: Path, status: os.stat_result) -> None:
        check(path, status)
        if path.is_file():
            path.unlink()
            os.mkfifo(path)

    monkeypatch.setattr(files, "_require_regular", swap)
    with pytest.raises(DataFormatError, match="got a FIFO"):
        read_regular(path, limit=LIMIT)


@pytest.mark.parametrize("size", [0, 99, 101, 1000])
@pytest.mark.promise("I13")
def test_a_file_that_changes_its_size_while_read_is_refused(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    check, calls = files._require_regular, []

    def change(path: Path, status: os.stat_result) -> None:
        check(path, status)
        calls.append(path)
        if len(calls) == 2:  # the file is open now
            os.truncate(path, size)

    monkeypatch.setattr(files, "_require_regular", change)
    with pytest.raises(DataFormatError, match=r"file: expected 100 bytes, .*size changed while it was read"):
        read_regular(path, limit=LIMIT)


def test_names_are_shown_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\n\x1b[31m\xff")
    path.write_bytes(b"data")
    for read in [lambda path: read_regular(path, limit=1), load_tensors]:
        with pytest.raises(StridenetError) as caught:
            read(path)
        assert r"a\n\x1b[31m\udcff: expected" in str(caught.value)


# Weights


def test_tensors_go_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    tensors = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(3, ">i2")}
    save_tensors(path, tensors, {"epoch": 1})
    loaded, meta = load_tensors(path)
    assert meta == {"epoch": 1}
    assert loaded["a"].tolist() == tensors["a"].tolist()
    assert loaded["b"].shape == ()
    assert names(tmp_path) == ["weights"]
    with pytest.raises(WeightsFormatError, match="weights: expected at most 10 bytes"):
        load_tensors(path, limit=10)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataIntegrityError, match="weights: expected content with digest"):
        load_tensors(path)


def test_nonfinite_tensors_are_loaded_on_demand(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights", {"a": np.array([np.nan])}, {})
    with pytest.raises(WeightsFormatError, match="finite"):
        load_tensors(tmp_path / "weights")
    assert np.isnan(load_tensors(tmp_path / "weights", allow_nonfinite=True)[0]["a"]).all()


LOAD_WHILE_CUT = """
import os, sys, threading
from stridenet.errors import StridenetError
from stridenet.files import load_tensors
path, done = sys.argv[1], threading.Event()
whole = open(path, "rb").read()
def cut():
    while not done.is_set():
        os.truncate(path, len(whole) // 2)
        with open(path, "r+b") as file:
            file.write(whole)
thread = threading.Thread(target=cut)
thread.start()
good = bad = 0
while good + bad < 200:
    try:
        load_tensors(path)
        good += 1
    except StridenetError:
        bad += 1
done.set()
thread.join()
sys.stdout.write(f"{good + bad} {bad > 0}")
"""


@pytest.mark.promise("S10")
def test_a_file_cut_while_it_is_loaded_raises_no_signal(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights", {"a": np.arange(100_000.0)}, {})
    result = child(LOAD_WHILE_CUT, tmp_path / "weights")
    assert (result.returncode, result.stdout, result.stderr) == (0, "200 True", "")


def test_loading_holds_the_file_and_its_tensors_and_no_more(tmp_path: Path) -> None:
    size = 2**22
    save_tensors(tmp_path / "weights", {str(i): np.zeros(size // 32) for i in range(16)}, {})
    load_tensors(tmp_path / "weights")
    tracemalloc.start()
    try:
        load_tensors(tmp_path / "weights")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * 4 * size  # the bytes, the tensors and one of them twice


FULL_DISK = """
import resource, sys
import numpy as np
from stridenet.files import load_tensors, save_tensors
path, size = sys.argv[1], int(sys.argv[2])
failed = 0
for limit in range(0, size, size // 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_tensors(path, {"a": np.ones(10_000)}, {})
    except OSError as error:
        failed += error.filename == path
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not load_tensors(path)[0]["a"].any()
sys.stdout.write(f"{failed}")
"""


@pytest.mark.promise("K03")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights", {"a": np.zeros(10_000)}, {})
    result = child(FULL_DISK, tmp_path / "weights", 80_000)
    assert (result.returncode, result.stdout, result.stderr) == (0, "20", "")
    assert names(tmp_path) == ["weights"]
