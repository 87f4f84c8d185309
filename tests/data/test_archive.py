"""A .tar.gz is read in memory, member by member; what does not belong there is refused, and no file is ever written."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import pytest

import pickles
from stridenet.data import archive
from stridenet.data.archive import members
from stridenet.errors import DataError, DataFormatError, DataLimitError

NAMES = ("d/one", "d/two")
FILES = {"d/one": b"1" * 700, "d/two": b"2" * 512}


def read(data: bytes, **options: Any) -> dict[str, bytes]:
    return dict(members(data, "x", **{"names": NAMES, "limit": 2**20} | options))


def header(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_every_usual_kind_of_tar_is_read(form: int) -> None:
    assert read(pickles.tar(FILES, format=form)) == FILES
    with_folder = {"d": header("d", tarfile.DIRTYPE), **{f"./{name}": content for name, content in FILES.items()}}
    assert read(pickles.tar(with_folder, format=form)) == FILES
    if form == tarfile.PAX_FORMAT:  # as tarfile.add writes the time, with its fraction
        assert read(pickles.tar({"d": header("d", tarfile.DIRTYPE, mtime=1.5), **FILES}, format=form)) == FILES
    assert read(pickles.tar({}, format=form)) == {}


BAD: dict[str, bytes] = {
    "a link": pickles.tar({"l": header("d/one", tarfile.SYMTYPE, linkname="/etc/passwd")}),
    "a hard link": pickles.tar({**FILES, "l": header("d/two", tarfile.LNKTYPE, linkname="d/one")}),
    "a device": pickles.tar({"l": header("d/one", tarfile.CHRTYPE, devmajor=1, devminor=5)}),
    "a FIFO": pickles.tar({"l": header("d/one", tarfile.FIFOTYPE)}),
    "a sparse file": pickles.tar({"l": header("d/one", tarfile.GNUTYPE_SPARSE)}),
    "an unknown kind": pickles.tar({"l": header("d/one", b"Z")}),
    "a path upwards": pickles.tar({"../d/one": b"1"}),
    "an absolute path": pickles.tar({"/d/one": b"1"}),
    "a path around": pickles.tar({"d/../d/one": b"1"}),
    "another file": pickles.tar({**FILES, "d/three": b"3"}),
    "another folder": pickles.tar({"l": header("e", tarfile.DIRTYPE)}),
    "a file called as a folder": pickles.tar({"d": b"1"}),
    "the same twice": pickles.tar({**FILES, "./d/one": b"3"}),
    "a long name": pickles.tar({"d/" + "n" * 65_000: b"1"}),
    "a long name in PAX": pickles.tar({"d/" + "n" * 300: b"1"}, format=tarfile.PAX_FORMAT),
    "another name in PAX": pickles.tar(
        {"l": header("d/one", pax_headers={"path": "../../pwned"})}, format=tarfile.PAX_FORMAT
    ),
    "another size in PAX": pickles.tar(
        {"l": header("d/one", pax_headers={"size": "99999"})}, format=tarfile.PAX_FORMAT
    ),
    "a sparse file in PAX": pickles.tar(
        {"l": header("d/one", pax_headers={"GNU.sparse.map": "0,1"})}, format=tarfile.PAX_FORMAT
    ),
    "a size of 8 GiB": gzip.compress(header("d/one", size=2**33).tobuf(tarfile.GNU_FORMAT)),
    "a size that is none": gzip.compress(header("d/one").tobuf().replace(b"00000000000\0", b"0000000000x\0", 1)),
    "another checksum": gzip.compress(header("d/one").tobuf(tarfile.USTAR_FORMAT)[:-1] + b"x" + bytes(1024)),
    "no tar": gzip.compress(b"text" * 999),
    "no gzip": b"text" * 999,
    "an HTML page": b"<!DOCTYPE html><html>" * 99,
    "nothing": b"",
    "two gzip members": pickles.tar(FILES) + pickles.tar(FILES),
    "something behind it": pickles.tar(FILES) + b"PK\3\4",
    "something behind its end": gzip.compress(gzip.decompress(pickles.tar(FILES)) + b"PK\3\4"),
    "a wrong CRC": pickles.tar(FILES)[:-8] + bytes(4) + pickles.tar(FILES)[-4:],
    "no end": gzip.compress(gzip.decompress(pickles.tar(FILES))[:2048]),
}


@pytest.mark.promise("C11", "F8")
@pytest.mark.parametrize("bad", BAD)
def test_what_does_not_belong_there_is_refused(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataFormatError, match=r"^x: ") as caught:
        read(BAD[bad])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("C11", "F3")
def test_bombs_are_refused() -> None:
    with pytest.raises(DataLimitError, match="expected at most 600 bytes for d/one, got 700"):
        read(pickles.tar(FILES), limit=600)
    big = header("d/one", size=2**32 - 1).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(DataLimitError, match="got 4294967295"):
        read(gzip.compress(big + bytes(2**20)))
    folders = {str(i): header("d", tarfile.DIRTYPE) for i in range(100)}
    with pytest.raises(DataLimitError, match="expected at most 64 members"):
        read(pickles.tar(folders))
    extended = header("d/one", pax_headers={"comment": "c" * 70_000})
    with pytest.raises(DataLimitError, match="an extended header of at most 65536"):
        read(pickles.tar({"l": extended}, format=tarfile.PAX_FORMAT))


@pytest.mark.promise("C05")
def test_no_cut_and_no_flip_gives_other_content() -> None:
    data = pickles.tar(FILES)
    for size in range(len(data)):
        with pytest.raises(DataFormatError):
            read(data[:size])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = read(bytes(flipped))
        except DataError:
            continue
        assert found == FILES  # the time stamp and the like


def test_small_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickles.tar({"d/one": bytes(100_000), "d/two": b"2"})
    for piece in (1, 7, 100):
        monkeypatch.setattr(archive, "_PIECE", piece)
        assert read(data) == {"d/one": bytes(100_000), "d/two": b"2"}
