"""Downloads: what arrives is what is pinned, or nothing gets a name in the cache."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stridenet.data import fetch
from stridenet.data.fetch import Pinned, fetch_mnist
from stridenet.errors import ConfigError, DataIntegrityError, DownloadError, StridenetError

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Server:
    """Mirrors on this machine: `answers[mirror]` says how one behaves, `asked` what was asked of it."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                _, mirror, name = self.path.split("/")
                server.answers[mirror](self, gzip.compress(server.files[name.removesuffix(".gz")]))

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, mirror: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{mirror}/"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body)


def plain(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, gzip.decompress(body))


def encoded(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body, Content_Encoding="gzip")


def wrong_bytes(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    content = bytearray(gzip.decompress(body))
    content[-1] ^= 1
    send(handler, gzip.compress(bytes(content)))


def short(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body[:-9])


def broken_off(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body[:-9], Content_Length=str(len(body)))


def html(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, b"<!DOCTYPE html><html><body>Please log in</body></html>")


def too_long(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, bytes(2**20))


def bomb(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, gzip.compress(bytes(2**24)), Content_Encoding="gzip")


def moved(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, b"", status=302, Location="/good/train-images-idx3-ubyte.gz")


def absent(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, b"no", status=404)


def reset(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def silent(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    time.sleep(1)


def dripping(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(OSError):  # the other end has given up
        handler.wfile.write(body[:1500])
        for i in range(1500, len(body), 100):  # all of it, in over a second
            handler.wfile.write(body[i : i + 100])
            time.sleep(0.1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, idx_files: dict[str, bytes]) -> Iterator[Server]:
    """Two mirrors of four small files, which are what is pinned."""
    server = Server()
    server.files = idx_files
    server.answers = {"one": good, "two": good, "good": good}
    pinned = {name: Pinned(len(content), hashlib.sha256(content).hexdigest()) for name, content in idx_files.items()}
    monkeypatch.setattr(fetch, "MNIST", pinned)
    monkeypatch.setattr(fetch, "MIRRORS", (server.url("one"), server.url("two")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.close()


def held(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir()} if cache.exists() else {}


@pytest.mark.promise("F9")
@pytest.mark.parametrize("answer", [good, plain, encoded])
def test_the_cache_holds_the_pinned_content(server: Server, tmp_path: Path, answer: Answer) -> None:
    server.answers["one"] = answer
    folder = fetch_mnist(tmp_path / "new" / "cache")
    assert folder == tmp_path / "new" / "cache"
    assert held(folder) == server.files
    assert server.asked == [f"/one/{name}.gz" for name in server.files]


@pytest.mark.promise("F9")
def test_a_verified_cache_needs_no_network(server: Server, tmp_path: Path) -> None:
    fetch_mnist(tmp_path)
    server.close()
    asked = len(server.asked)
    assert fetch_mnist(tmp_path) == tmp_path
    assert len(server.asked) == asked


@pytest.mark.promise("F9")
@pytest.mark.parametrize("damage", [b"", b"<html>", None, bytes(2**16)])
def test_a_damaged_file_of_the_cache_is_fetched_again(server: Server, tmp_path: Path, damage: bytes | None) -> None:
    fetch_mnist(tmp_path)
    server.asked.clear()
    name = "t10k-labels-idx1-ubyte"
    content = bytearray(server.files[name])
    content[20] ^= 64
    (tmp_path / name).write_bytes(bytes(content) if damage is None else damage)
    fetch_mnist(tmp_path)
    assert held(tmp_path) == server.files
    assert server.asked == [f"/one/{name}.gz"]


BAD = [wrong_bytes, short, html, moved]
FAILING = [broken_off, too_long, bomb, absent, reset]


@pytest.mark.promise("F9", "D05")
@pytest.mark.parametrize("answer", BAD + FAILING)
def test_the_other_mirror_is_asked(server: Server, tmp_path: Path, answer: Answer) -> None:
    server.answers["one"] = answer
    fetch_mnist(tmp_path)
    assert held(tmp_path) == server.files
    assert server.asked == ["/one/train-images-idx3-ubyte.gz"] + [f"/two/{name}.gz" for name in server.files]


@pytest.mark.promise("F9", "D05")
@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (wrong_bytes, DataIntegrityError, "expected content of SHA-256"),
        (short, DataIntegrityError, "truncated download"),
        (html, DataIntegrityError, "got an HTML"),
        (moved, DataIntegrityError, "has 0"),
        (broken_off, DownloadError, "ConnectionError|ChunkedEncodingError"),
        (too_long, DownloadError, "more than 3920 bytes"),
        (bomb, DownloadError, "more than 3920 bytes"),
        (absent, DownloadError, "HTTP status 404"),
        (reset, DownloadError, "ConnectionError"),
    ],
)
def test_nothing_unverified_is_kept(
    server: Server, tmp_path: Path, answer: Answer, error: type[StridenetError], reason: str
) -> None:
    server.answers |= {"one": answer, "two": answer}
    with pytest.raises(
        error, match=f"train-images-idx3-ubyte from one of 2 mirrors.*({reason}).*--data FOLDER"
    ) as caught:
        fetch_mnist(tmp_path)
    assert str(caught.value).isprintable()
    assert "STRIDENET_DATA" in str(caught.value)
    assert held(tmp_path) == {}


def test_a_mirror_that_is_down_outweighs_one_that_is_wrong(server: Server, tmp_path: Path) -> None:
    server.answers |= {"one": wrong_bytes, "two": absent}
    with pytest.raises(DownloadError, match=r"expected content of SHA-256.* and .*HTTP status 404"):
        fetch_mnist(tmp_path)


def test_a_mirror_that_fails_later_keeps_what_it_gave(server: Server, tmp_path: Path) -> None:
    def labels_only(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        (absent if "t10k" in handler.path else good)(handler, body)

    server.answers |= {"one": labels_only, "two": absent}
    with pytest.raises(DownloadError, match="expected t10k-images-idx3-ubyte from one of 2 mirrors"):
        fetch_mnist(tmp_path)
    assert held(tmp_path).keys() == {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}


@pytest.mark.promise("D05")
@pytest.mark.parametrize(("answer", "seconds"), [(silent, 0.3), (dripping, 5.0)])
def test_a_slow_mirror_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, seconds: float
) -> None:
    monkeypatch.setattr(fetch, "ANSWER_SECONDS", seconds)
    monkeypatch.setattr(fetch, "TOTAL_SECONDS", 0.3)
    server.answers["one"] = answer
    fetch_mnist(tmp_path)
    assert held(tmp_path) == server.files
    assert server.asked == ["/one/train-images-idx3-ubyte.gz"] + [f"/two/{name}.gz" for name in server.files]


@pytest.mark.promise("D05")
def test_a_name_server_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def blackhole(*_: Any, **__: Any) -> Any:
        hanging.wait(20)
        raise OSError("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", blackhole)
    monkeypatch.setattr(fetch, "ANSWER_SECONDS", 0.2)
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError, match=r"no answer in time.*no answer in time"):
        fetch_mnist(tmp_path)
    hanging.set()


def test_without_a_network_it_fails_within_ten_seconds() -> None:
    assert fetch.ANSWER_SECONDS * len(fetch.MIRRORS) < 10


def test_mirrors_are_https(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert all(mirror.startswith("https://") for mirror in (*fetch.MIRRORS, fetch.CIFAR10_MIRROR))
    monkeypatch.setattr(fetch, "MIRRORS", ("http://example.org/mnist/",))
    with pytest.raises(ConfigError, match="https mirror"):
        fetch_mnist(tmp_path)


@pytest.mark.promise("D05")
def test_a_cache_that_cannot_be_written_is_the_users_to_know(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        fetch_mnist(tmp_path / "file" / "cache")


@pytest.fixture
def cifar10(server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the first mirror has as the archive of CIFAR-10, and what is pinned; as gzip, as the server sends it."""
    content = gzip.compress(b"archive", mtime=0)
    server.files = {**server.files, "cifar-10-python.tar": b"archive"}
    monkeypatch.setattr(gzip, "compress", lambda data: content)
    monkeypatch.setattr(fetch, "CIFAR10_MIRROR", server.url("one"))
    monkeypatch.setattr(fetch, "CIFAR10_PIN", Pinned(len(content), hashlib.sha256(content).hexdigest()))
    return content


@pytest.mark.promise("F9")
def test_the_archive_is_kept_as_it_is(server: Server, tmp_path: Path, cifar10: bytes) -> None:
    assert fetch.fetch_cifar10(tmp_path / "new") == tmp_path / "new" / fetch.CIFAR10
    assert held(tmp_path / "new") == {fetch.CIFAR10: cifar10}
    fetch.fetch_cifar10(tmp_path / "new")
    assert server.asked == [f"/one/{fetch.CIFAR10}"]
    (tmp_path / "new" / fetch.CIFAR10).write_bytes(cifar10[:-1])
    fetch.fetch_cifar10(tmp_path / "new")
    assert held(tmp_path / "new") == {fetch.CIFAR10: cifar10}


@pytest.mark.promise("F9", "D05")
@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (short, DataIntegrityError, "expected 27 bytes of content, got 18"),
        (html, DownloadError, "more than 27 bytes"),
        (moved, DataIntegrityError, "expected 27 bytes of content, got 0"),
        (broken_off, DownloadError, "ConnectionError|ChunkedEncodingError"),
        (too_long, DownloadError, "more than 27 bytes"),
        (absent, DownloadError, "HTTP status 404"),
    ],
)
def test_no_other_archive_is_kept(
    server: Server, tmp_path: Path, cifar10: bytes, answer: Answer, error: type[StridenetError], reason: str
) -> None:
    server.answers["one"] = answer
    with pytest.raises(error, match=rf"^fetch: expected cifar-10-python\.tar\.gz, got .*({reason}).*--data FOLDER"):
        fetch.fetch_cifar10(tmp_path)
    assert held(tmp_path) == {}


def test_two_at_once_leave_one_complete_cache(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch_mnist, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(tmp_path) == server.files


def test_the_pinned_files_are_those_of_mnist(mnist_folder: Path) -> None:
    for name in fetch.MNIST:
        (path,) = mnist_folder.glob(f"{name}*")
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        fetch.check("x", name, content)
        with pytest.raises(DataIntegrityError, match="expected content of SHA-256"):
            fetch.check("x", name, content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataIntegrityError, match="bytes of content, got"):
            fetch.check("x", name, content[:-1])
