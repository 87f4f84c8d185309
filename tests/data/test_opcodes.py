"""The reader of pickles that is none: what CIFAR needs is read alike however it was written, the rest is refused."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import numpy as np
import pytest

import pickles
from stridenet.data import opcodes
from stridenet.data.opcodes import read_pickle
from stridenet.errors import DataFormatError, DataLimitError

DATA, LABELS = pickles.small(0)


def with_numpy_1(data: bytes) -> bytes:
    """The same file as NumPy 1 writes it."""
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(b"c" + new, b"c" + old)
    if data[2:3] == b"\x95":  # one frame around it all
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    return data


@pytest.mark.promise("C09")
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("keys", [str, str.encode])
@pytest.mark.parametrize("numpy", [bytes, with_numpy_1])
def test_a_re_saved_batch_reads_as_the_published_one(protocol: int, keys: Any, numpy: Any) -> None:
    wanted = read_pickle(pickles.published(DATA, LABELS), "x")
    names = [keys(f"{i}.png") for i in range(len(DATA))]
    values = {"batch_label": keys("training batch 1 of 5"), "labels": LABELS, "data": DATA, "filenames": names}
    for dumps in (pickle.dumps, pickle._dumps):  # type: ignore[attr-defined]
        found = read_pickle(numpy(dumps({keys(k): v for k, v in values.items()}, protocol)), "x")
        assert found.keys() == wanted.keys() == values.keys()
        assert np.array_equal(found["data"], DATA)
        assert np.array_equal(wanted["data"], DATA)
        assert found["labels"] == wanted["labels"] == LABELS
        assert [keys(n) if isinstance(n, str) else n for n in found["filenames"]] == names or keys is str


@pytest.mark.promise("C09")
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_pickle_reads_is_what_is_read(protocol: int) -> None:
    """Long texts and arrays, both kinds of numbers, empty and one-element containers."""
    values = {
        "large": np.random.default_rng(1).integers(0, 256, (100, 1000), np.uint8), "flat": np.arange(9, dtype=np.uint8),
        "whole": [0, 1, 255, 256, 65535, 65536, -1, 2**31, 2**62, -(2**40), True, False], "real": [0.5, -1e300],
        "text": ["", "a", "ÿ", "数字", "a" * 300, b"", b"\xff", b"b" * 300], "none": None, "empty": [], "no": b"",
    }  # fmt: skip
    found = read_pickle(pickle.dumps(values, protocol), "x")
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert np.array_equal(found[name], value) if isinstance(value, np.ndarray) else found[name] == value


@pytest.mark.parametrize("protocol", [0, 1, 5])
def test_other_protocols_are_refused(protocol: int) -> None:
    with pytest.raises(DataFormatError, match="expected a pickle of protocol 2, 3 or 4, got the bytes"):
        read_pickle(pickle.dumps({"data": DATA}, protocol), "x")


@pytest.mark.promise("C01")
@pytest.mark.parametrize(("module", "name"), pickles.NAMES)
def test_names_are_refused_and_said(module: str, name: str) -> None:
    for data in (pickles.calls(module, name), pickles.stacked(module, name)):
        with pytest.raises(DataFormatError, match=r"^x: global .* is not allowed, at offset \d+$") as caught:
            read_pickle(data, "x")
        assert str(caught.value).isprintable()
        assert caught.value.offset is not None
        assert caught.value.path == "x"


@pytest.mark.promise("C02")
@pytest.mark.parametrize("place", pickles.PLACES)
def test_opcodes_out_of_their_place_are_refused(place: str) -> None:
    for protocol in (2, 4):
        with pytest.raises(DataFormatError, match=r"^x: .*, at offset \d+$"):
            read_pickle(pickles.in_dict(pickles.PLACES[place], protocol), "x")


@pytest.mark.promise("C03", "C04")
@pytest.mark.parametrize("bomb", pickles.LIMITS)
def test_what_would_take_memory_is_refused(bomb: str) -> None:
    with pytest.raises(DataLimitError, match=r"^x: expected .*, at offset \d+$"):
        read_pickle(pickles.in_dict(pickles.LIMITS[bomb]), "x")


@pytest.mark.promise("C04")
def test_a_memo_that_was_never_written() -> None:
    with pytest.raises(DataFormatError, match="expected a value in place 7 of the memo, got none, at offset 5"):
        read_pickle(pickles.in_dict(b"U\1ah\7s").replace(b"U\1a", b"K\1"), "x")


def test_a_file_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcodes, "MAX_BYTES", 100)
    with pytest.raises(DataLimitError, match="expected at most 100 bytes, got"):
        read_pickle(pickles.meta(), "x")


@pytest.mark.promise("C05")
def test_a_cut_file_is_refused_wherever_it_is_cut() -> None:
    data = pickles.published(*pickles.small(0, 2))
    places = [*range(4096), *np.random.default_rng(0).integers(4096, len(data), 500).tolist()]
    for place in places:
        with pytest.raises(DataFormatError, match=r"^x: "):
            read_pickle(data[:place], "x")
    with pytest.raises(DataFormatError, match="expected the end of the file, got 1 bytes more"):
        read_pickle(data + b"\0", "x")


STATE = {"version": b"K\1", "shape": b"M\4\0M\0\x0c\x86", "order": b"\x89"}


def changed(**parts: bytes) -> bytes:
    """The published file with another state of its array, or another type."""
    data = pickles.published(DATA, LABELS)
    state = STATE | parts
    data = data.replace(b"(K\1M\4\0M\0\x0c\x86cnumpy", b"(" + state["version"] + state["shape"] + b"cnumpy")
    data = data.replace(b"tb\x89T", b"tb" + state["order"] + b"T")
    return data.replace(b"U\2u1", parts.get("type", b"U\2u1")).replace(b"(K\3U\1|", parts.get("kind", b"(K\3U\1|"))


@pytest.mark.promise("C07")
@pytest.mark.parametrize(
    "parts",
    [
        *({"type": pickles.short(code)} for code in (b"O", b"V8", b"U4", b">i4", b"f8", b"i1", b"u2", b"u1,u1")),
        {"shape": b"M\4\0M\xff\x0b\x86"},
        {"shape": b"J\xff\xff\xff\xffJ\x00\xd0\xff\xff\x86"},
        {"shape": b")"},
        {"shape": b"\x88M\0\x0c\x86"},
        {"shape": b"G" + struct.pack(">d", 4.0) + b"M\0\x0c\x86"},
        {"shape": b"]"},
        {"order": b"\x88"},
        {"order": b"K\1"},
        {"order": b"N"},
        {"version": b"K\2"},
        {"version": b"U\x011"},
        {"kind": b"(K\4U\1|"},
        {"kind": b"(K\3U\1>"},
    ],
)
def test_arrays_of_another_kind_are_refused(parts: dict[str, bytes]) -> None:
    assert np.array_equal(read_pickle(changed(), "x")["data"], DATA)
    assert changed(**parts) != changed()
    with pytest.raises(DataFormatError, match=r"^x: expected "):
        read_pickle(changed(**parts), "x")
