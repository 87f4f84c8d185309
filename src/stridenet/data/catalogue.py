"""Data by name or by folder: what `--data` takes."""

from __future__ import annotations

import os
from pathlib import Path

from stridenet.data import cifar, digits, fetch, folders, mnist, tiny_imagenet
from stridenet.data.dataset import Splits
from stridenet.data.idx import MAX_BYTES, payload
from stridenet.errors import ConfigError, DataError, DataIntegrityError, printable, suggestion
from stridenet.files import read_regular
from stridenet.shapes import integer

NAMES = {
    "mnist": "70 000 handwritten digits, 28 x 28 (LeCun, Cortes, Burges); downloaded once, 11 MB",
    "cifar10": "60 000 photos of ten classes, 32 x 32 (Krizhevsky); downloaded once, 170 MB",
    "digits": "1 797 handwritten digits, 8 x 8 (Alpaydin, Kaynak); part of scikit-learn, needs no network",
}


def open_data(source: str, *, seed: int = 0, download: bool = True, size: int | None = None) -> Splits:
    """The data set called `source`, a name of NAMES or a folder that is recognised by what it holds.

    "mnist" is looked for in `$STRIDENET_DATA/mnist`, then in the cache, then downloaded if `download` allows; "cifar10"
    in `$STRIDENET_DATA/cifar-10-batches-py` (or its .tar.gz, or the binary version) and so on. A folder holds the four
    IDX files of MNIST or of any data set in that format, the batches of CIFAR-10, TinyImageNet, or one folder of
    pictures for each class; a file is the .tar.gz of CIFAR-10. `seed` splits "digits" and folders of pictures; `size`
    is what the pictures of the last two become, in pixels a side.

    Raises:
        DataError: the folder holds no data set, or one that is not usable.
        ConfigError: `size` is given for data that are no picture files.
        FileNotFoundError: neither a name nor a folder; STRIDENET_DATA names none; or the data set is not here and
            `download` is off.
        DownloadError: the data set is not here and no mirror gave it.
    """
    if size is not None:
        size = integer("data", "size", size)
        if not has_pictures(source):
            raise ConfigError(
                f"data {printable(source)}: expected no size but for a folder of pictures, got {size}; to resize put"
                f' {{ name = "resize", size = {size} }} into recipe.data.transform'
            )
    if source == "digits":
        return digits.load(seed)
    if source == "mnist":
        return mnist.load(mnist_folder(download=download), classes=10)._replace(name="mnist")
    if source == "cifar10":
        return cifar.load(cifar10_place(download=download))
    place = _existing(Path(source), source)
    if (batches := place if place.is_file() else cifar.find(place)) is not None:
        return cifar.load(batches)
    if _holds_idx(place):
        return mnist.load(place)
    if not has_pictures(source):
        raise DataError(
            f"{printable(place)}: expected four IDX files (such as {mnist.TRAIN[0]}), the batches of CIFAR-10,"
            f" TinyImageNet, or a folder of pictures for each class, got {mnist.listing(place)}"
        )
    if (place / tiny_imagenet.LIST).exists():
        return tiny_imagenet.load(place, size=size)
    return folders.load(place, size=size, seed=seed)


def has_pictures(source: str) -> bool:
    """Whether `source` is a folder of picture files: TinyImageNet, or one folder for each class."""
    place = Path(source)
    if source in NAMES or not place.is_dir() or _holds_idx(place) or cifar.find(place) is not None:
        return False
    return (place / tiny_imagenet.LIST).exists() or folders.is_class_folders(place)


def _holds_idx(folder: Path) -> bool:
    return any(mnist.find(folder, name) for name in mnist.TRAIN + mnist.TEST)


def _existing(place: Path, source: str) -> Path:
    if not place.exists():
        hint = suggestion(source.lower(), NAMES) or "; check the path"
        raise FileNotFoundError(
            f"data {printable(source)}: expected a folder or one of {', '.join(NAMES)}, got neither{hint}"
        )
    if not place.is_dir() and not place.name.endswith((".tar.gz", ".tgz")):
        raise NotADirectoryError(
            f"data {printable(source)}: expected a folder, got a file; give the folder that holds it"
        )
    return place


def verify(name: str) -> Path:
    """Read every file of a downloadable data set, compare it with its pinned digest; what was checked.

    Of CIFAR-10 that is the archive.

    Raises:
        DataIntegrityError: a file differs or is missing.
        DataFormatError, DataLimitError: a file is no IDX file.
        ConfigError: there are no pinned digests for `name`, or for what is here of it.
        FileNotFoundError: the data set is not here.
    """
    if name == "cifar10":
        return _verify_cifar10()
    if name != "mnist":
        raise ConfigError(f"verify: expected mnist or cifar10, the data sets with pinned digests, got {name!r}")
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


def _verify_cifar10() -> Path:
    place = _local_cifar10() or fetch.cache_folder("cifar10") / fetch.CIFAR10
    if not place.exists():
        raise FileNotFoundError(f"verify: no CIFAR-10 in {printable(place)}; fetch it first")
    if place.name != fetch.CIFAR10:
        raise ConfigError(f"verify: expected {fetch.CIFAR10}, which has a pinned digest, got {printable(place)}")
    if not fetch.is_cached(place.parent, place.name):
        raise DataIntegrityError(f"verify: expected {printable(place)} as published, got other bytes; fetch it again")
    return place


def _data_folder() -> Path | None:
    """What STRIDENET_DATA names."""
    folder = os.environ.get("STRIDENET_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"STRIDENET_DATA: expected a folder, got {printable(folder)}; correct it or unset it")
    return Path(folder)


def _local_mnist() -> Path | None:
    folder = _data_folder()
    places = () if folder is None else (folder / "mnist", folder)  # the second for who names the innermost folder
    return next((p for p in places if any(mnist.find(p, name) for name in fetch.MNIST)), None)


def _local_cifar10() -> Path | None:
    folder = _data_folder()
    return None if folder is None else cifar.find(folder)


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


def cifar10_place(*, download: bool = True) -> Path:
    """The folder or archive of CIFAR-10: in `$STRIDENET_DATA`, else the cache, where it is downloaded to if need be.

    Raises:
        FileNotFoundError, DownloadError: as `open_data`.
    """
    local = _local_cifar10()
    if local:
        return local
    if download:
        return fetch.fetch_cifar10()
    cache = fetch.cache_folder("cifar10")
    if not fetch.is_cached(cache, fetch.CIFAR10):
        raise FileNotFoundError(
            "data cifar10: expected cifar-10-batches-py in STRIDENET_DATA or its archive in the cache, got neither, and"
            ' no download was asked for; run "stridenet data fetch cifar10" or give a folder'
        )
    return cache / fetch.CIFAR10
