"""MNIST and CIFAR-10 from the network, once, into the user's cache.

The cache holds the four files of MNIST uncompressed and the archive of CIFAR-10 as it is, each exactly the bytes whose
SHA-256 is pinned here; nothing else ever gets a final name there. They are checked at every start (0.05 s, 0.2 s) and
then need no network.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from stridenet.data.idx import payload
from stridenet.errors import ConfigError, DataError, DataIntegrityError, DownloadError
from stridenet.files import read_regular, write_atomic

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
CIFAR10_MIRROR = "https://www.cs.toronto.edu/~kriz/"
ANSWER_SECONDS = 4.0  # for the first kibibyte, name resolution included, which no socket timeout covers
TOTAL_SECONDS = 600.0  # for one file


class Pinned(NamedTuple):
    """What a file of the cache must be."""

    size: int
    sha256: str


MNIST = {
    "train-images-idx3-ubyte": Pinned(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": Pinned(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": Pinned(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": Pinned(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}


CIFAR10 = "cifar-10-python.tar.gz"
CIFAR10_PIN = Pinned(170_498_071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")


def cache_folder(name: str = "mnist") -> Path:
    """Where downloads are kept: `name` in the user's cache of stridenet."""
    import pooch  # pyright: ignore[reportMissingTypeStubs]

    return Path(pooch.os_cache("stridenet")) / name


def fetch_mnist(cache: Path | None = None) -> Path:
    """The folder that holds the four files of MNIST, verified; what is missing there is downloaded.

    Without a network this fails within ten seconds.

    Raises:
        DownloadError: no mirror gave every file.
        DataIntegrityError: every mirror answered, but with other bytes than the pinned ones.
        OSError: the cache cannot be written.
    """
    folder = cache or cache_folder()
    missing = [name for name in MNIST if not is_cached(folder, name)]
    failures: list[DownloadError | DataIntegrityError] = []
    for mirror in MIRRORS:
        try:
            while missing:
                content = _download(mirror, missing[0])
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(folder / missing.pop(0), content)
        except (DownloadError, DataIntegrityError) as failure:
            failures.append(failure)
    if missing:
        tampered = all(isinstance(failure, DataIntegrityError) for failure in failures)
        raise (DataIntegrityError if tampered else DownloadError)(
            f"fetch: expected {missing[0]} from one of {len(MIRRORS)} mirrors, got"
            f" {' and '.join(str(failure) for failure in failures)}; put the four MNIST files in a folder and give"
            " --data FOLDER, or set STRIDENET_DATA to the folder that has it as mnist/"
        )
    return folder


def fetch_cifar10(cache: Path | None = None) -> Path:
    """The archive of the Python batches, verified; downloaded if it is not there.

    Raises:
        DownloadError: the site did not give it.
        DataIntegrityError: it gave other bytes than the pinned ones.
        OSError: the cache cannot be written.
    """
    folder = cache or cache_folder("cifar10")
    if not is_cached(folder, CIFAR10):
        try:
            content = _received(CIFAR10_MIRROR, CIFAR10, CIFAR10_PIN.size)
            _check_pin(f"{urlsplit(CIFAR10_MIRROR).hostname}: {CIFAR10}", CIFAR10_PIN, content)
        except (DownloadError, DataIntegrityError) as failure:
            raise type(failure)(
                f"fetch: expected {CIFAR10}, got {failure}; put it, or its folder cifar-10-batches-py, somewhere and"
                " give --data FOLDER, or set STRIDENET_DATA to the folder that has it"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / CIFAR10, content)
    return folder / CIFAR10


def is_cached(folder: Path, name: str) -> bool:
    """Whether the file `name` of the cache is there with the pinned bytes."""
    pin = CIFAR10_PIN if name == CIFAR10 else MNIST[name]
    try:
        return _digest(read_regular(folder / name, limit=pin.size)) == pin.sha256
    except (FileNotFoundError, DataError):
        return False


def check(who: str, name: str, content: bytes | memoryview) -> None:
    """Refuse IDX content that is not the pinned one of the MNIST file `name`.

    Raises:
        DataIntegrityError: its length or digest differs.
    """
    _check_pin(who, MNIST[name], content)


def _check_pin(who: str, pin: Pinned, content: bytes | memoryview) -> None:
    size, sha256 = pin
    if len(content) != size:
        raise DataIntegrityError(f"{who}: expected {size} bytes of content, got {len(content)}")
    if _digest(content) != sha256:
        raise DataIntegrityError(f"{who}: expected content of SHA-256 {sha256}, got {_digest(content)}")


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _download(mirror: str, name: str) -> bytes:
    who = f"{urlsplit(mirror).hostname}: {name}.gz"
    received = _received(mirror, f"{name}.gz", MNIST[name].size + 2**10)  # gzip may make it a little longer
    try:
        content = bytes(payload(who, received))
    except DataError as error:
        raise DataIntegrityError(str(error)) from None
    check(who, name, content)
    return content


def _received(mirror: str, file: str, limit: int) -> bytes:
    """What `mirror` sends as `file`, if that is at most `limit` bytes."""
    address = urlsplit(mirror)
    if address.scheme != "https" and address.hostname != "127.0.0.1":
        raise ConfigError(f"fetch: expected an https mirror, got {mirror}")
    who, body = f"{address.hostname}: {file}", _Body(limit)
    # A thread, because nothing else can give up on a name server that does not answer; a daemon, so that the
    # process can end meanwhile.
    thread = threading.Thread(target=body.receive, args=(f"{mirror}{file}",), daemon=True)
    thread.start()
    if body.started.wait(ANSWER_SECONDS):
        thread.join(TOTAL_SECONDS)
    if thread.is_alive():
        body.limit = 0  # ends the thread at the next bytes, if any come
        raise DownloadError(f"{who}: no answer in time")
    if body.failure:
        raise DownloadError(f"{who}: {body.failure}")
    return bytes(body.content)


class _Body:
    """What a mirror sends, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.content = bytearray()
        self.limit = limit
        self.started = threading.Event()  # the first bytes are here, or the end is
        self.failure = ""

    def write(self, chunk: bytes) -> None:
        self.started.set()
        if len(self.content) + len(chunk) > self.limit:
            raise DownloadError(f"more than {self.limit} bytes")
        self.content += chunk

    def flush(self) -> None:
        """Nothing waits to be written; the downloader asks."""

    def receive(self, url: str) -> None:
        from pooch import HTTPDownloader  # pyright: ignore[reportMissingTypeStubs]

        try:
            HTTPDownloader(timeout=ANSWER_SECONDS, allow_redirects=False)(url, self, None)
        except DownloadError as error:
            self.failure = str(error)
        except OSError as error:  # all errors of requests are; their texts are long
            response = getattr(error, "response", None)
            self.failure = type(error).__name__ if response is None else f"HTTP status {response.status_code}"
        finally:
            self.started.set()
