"""Data by name or by folder: what `--data` takes."""

from __future__ import annotations

import os
from pathlib import Path

from stridenet.data import digits, fetch, mnist
from stridenet.data.dataset import Splits
from stridenet.data.idx import MAX_BYTES, payload
from stridenet.errors import ConfigError, DataIntegrityError, printable, suggestion
from stridenet.files import read_regular

NAMES = {
    "mnist": "70 000 handwritten digits, 28 x 28 (LeCun, Cortes, Burges); downloaded once, 11 MB",
    "digits": "1 797 handwritten digits, 8 x 8 (Alpaydin, Kaynak); part of scikit-learn, needs no network",
}


def open_data(source: str, *, seed: int = 0, download: bool = True) -> Splits:
    """The data set called `source`, a name of NAMES or a folder that is recognised by what it holds.

    "mnist" is looked for in `$STRIDENET_DATA/mnist`, then in the cache, then downloaded if `download` allows. A folder
    holds the four IDX files of MNIST or of any data set in that format. `seed` splits "digits".

    Raises:
        DataError: the folder holds no data set, or one that is not usable.
        FileNotFoundError: neither a name nor a folder; STRIDENET_DATA names none; or MNIST is not here and `download`
            is off.
        DownloadError: MNIST is not here and no mirror gave it.
    """
    if source == "digits":
        return digits.load(seed)
    if source == "mnist":
        return mnist.load(mnist_folder(download=download), classes=10)._replace(name="mnist")
    folder = Path(source)
    if not folder.exists():
        hint = suggestion(source.lower(), NAMES) or "; check the path"
        raise FileNotFoundError(
            f"data {printable(source)}: expected a folder or one of {', '.join(NAMES)}, got neither{hint}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            f"data {printable(source)}: expected a folder, got a file; give the folder that holds it"
        )
    return mnist.load(folder)


def verify(name: str) -> Path:
    """Read every file of a downloadable data set, compare it with its pinned digest; the folder that was checked.

    Raises:
        DataIntegrityError: a file differs or is missing.
        DataFormatError, DataLimitError: a file is no IDX file.
        ConfigError: there are no pinned digests for `name`.
        FileNotFoundError: the data set is not here.
    """
    if name != "mnist":
        raise ConfigError(f"verify: expected mnist, the only data set with pinned digests, got {name!r}")
    folder = _local_mnist() or fetch.cache_folder()
    if not folder.is_dir():
        raise FileNotFoundError(f"verify: no MNIST in {printable(folder)}; fetch it first")
    for file in fetch.MNIST:
        path = mnist.find(folder, file)
        if path is None:
            raise DataIntegrityError(
                f"verify: expected {file} in {printable(folder)}, got no such file; fetch it again"
            )
        fetch.check(printable(path), file, payload(printable(path), read_regular(path, limit=MAX_BYTES)))
    return folder


def _local_mnist() -> Path | None:
    folder = os.environ.get("STRIDENET_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"STRIDENET_DATA: expected a folder, got {printable(folder)}; correct it or unset it")
    places = Path(folder) / "mnist", Path(folder)  # the second for those who name the innermost folder
    return next((p for p in places if any(mnist.find(p, name) for name in fetch.MNIST)), None)


def mnist_folder(*, download: bool = True) -> Path:
    """The folder of MNIST: `$STRIDENET_DATA/mnist`, else the cache, where it is downloaded to if need be.

    Raises:
        FileNotFoundError, DownloadError: as `open_data`.
    """
    local = _local_mnist()
    if local:
        return local
    if download:
        return fetch.fetch_mnist()
    cache = fetch.cache_folder()
    if not all(fetch.is_cached(cache, name) for name in fetch.MNIST):
        raise FileNotFoundError(
            "data mnist: expected its files in STRIDENET_DATA/mnist or in the cache, got neither, and no download was"
            ' asked for; run "stridenet data fetch mnist" or give a folder'
        )
    return cache
