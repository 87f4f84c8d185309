from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from stridenet.errors import ConfigError, DataIntegrityError, StridenetError, WeightsFormatError
from stridenet.tensors import pack_tensors, parse_safetensors, unpack_tensors

CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
SMALL = {
    "0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "0.bias": np.array([-1.5, 0.25]),
    "steps": np.array(7, np.int64),
    "mask": np.array([True, False, True]),
    "none": np.zeros((0, 5), np.float16),
}
META = {"classes": ["1", "zwei", "三"], "lr": 0.1, "quote": '"\\', "escape": "\x1b[31m\n"}


def packed() -> bytes:
    return pack_tensors(SMALL, META)


def raw(header: object, payload: bytes = b"") -> bytes:
    """A file of this header, whatever it is."""
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return len(text).to_bytes(8, "little") + text + payload


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def sealed(fields: dict[str, Any], payload: bytes, meta: str = "{}") -> bytes:
    """A file whose digest is right as far as its entries have a meaning: a second implementation of the format."""
    digest = hashlib.sha256(meta.encode("utf-8", "surrogatepass"))
    for name in sorted(fields):
        try:
            begin, end = fields[name]["data_offsets"]
            head = [name, fields[name]["dtype"], fields[name]["shape"]]
            digest.update(json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode())
            digest.update(payload[begin:end])
        except (TypeError, ValueError, KeyError):
            pass
    record = f'{{"meta":{meta},"sha256":"{digest.hexdigest()}"}}'
    return raw({"__metadata__": {"stridenet": record}, **fields}, payload)


def opened(data: bytes) -> tuple[dict[str, Any], bytes, str]:
    """Entries, payload and the text of the meta of a valid file."""
    length = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8 : 8 + length])
    record = fields.pop("__metadata__")["stridenet"]
    return fields, data[8 + length :], record[len('{"meta":') : -len(',"sha256":""}') - 64]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    little = a.dtype.newbyteorder("<")
    return (
        a.dtype.name == b.dtype.name and a.shape == b.shape and a.astype(little).tobytes() == b.astype(little).tobytes()
    )


# What is packed is what comes back


def test_tensors_and_meta_come_back() -> None:
    tensors, meta = unpack_tensors(packed(), "who")
    assert meta == META
    assert tensors.keys() == SMALL.keys()
    for name, array in tensors.items():
        assert same_bits(array, SMALL[name])
        assert array.flags.writeable
        assert array.flags.owndata


def test_no_tensors_and_no_meta_come_back() -> None:
    assert unpack_tensors(pack_tensors({}, {}), "who") == ({}, {})


def random_array(rng: np.random.Generator) -> np.ndarray:
    """Of any type, shape, memory order and endianness, with any bits but those of NaN and infinity."""
    dtype = np.dtype(CODES[rng.choice(list(CODES))])
    base = rng.integers(0, 256, (*rng.integers(0, 6, rng.integers(0, 5)), dtype.itemsize), np.uint8)
    if dtype == np.bool_:
        base %= 2
    array = np.ascontiguousarray(base).view(dtype)[..., 0]
    if dtype.kind == "f":
        array = np.where(np.isfinite(array), array, dtype.type(-0.0))
    layouts: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a,
        lambda a: a.T,
        np.asfortranarray,
        lambda a: a[::-1] if a.ndim else a,
        lambda a: a[..., ::2] if a.ndim else a,
        lambda a: a[..., 1:] if a.ndim else a,
        lambda a: np.moveaxis(a, 0, -1) if a.ndim else a,
        lambda a: np.broadcast_to(a, (2, *a.shape)),
        lambda a: a[None],
    ]
    array = layouts[rng.integers(len(layouts))](np.asarray(array))
    return array.astype(dtype.newbyteorder(">"), order="K") if rng.random() < 0.3 else array


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.promise("F5")
def test_every_layout_and_type_is_saved_bit_by_bit(count: int) -> None:
    rng = np.random.default_rng(5)
    arrays = [random_array(rng) for _ in range(count)]
    assert {a.dtype.name for a in arrays} == set(CODES.values())
    assert {0, 1, 2, 3, 4} <= {a.ndim for a in arrays}
    assert sum(not a.flags.c_contiguous for a in arrays) > count // 10
    for start in range(0, count, 20):
        tensors = {f"tensor {i}": array for i, array in enumerate(arrays[start : start + 20])}
        data = pack_tensors(tensors, {})
        ours, _ = unpack_tensors(data, "who")
        theirs = safetensors.numpy.load(data)
        assert all(same_bits(ours[name], array) for name, array in tensors.items())
        assert all(same_bits(theirs[name], array) for name, array in tensors.items())


def test_equal_content_has_equal_bytes() -> None:
    weight = SMALL["0.weight"]
    shuffled = {**dict(reversed(SMALL.items())), "0.weight": np.asfortranarray(weight).astype(">f4", order="F")}
    assert pack_tensors(shuffled, dict(reversed(META.items()))) == packed()
    other = {**SMALL, "0.weight": weight + np.float32(1)}
    assert pack_tensors(other, META) != packed()


def test_memory_beside_a_view_is_not_written() -> None:
    memory = np.frombuffer(b"SECRETKEY" * 100, np.uint8).copy()
    memory[450:500] = 0
    assert b"SECRET" not in pack_tensors({"view": memory[450:500][::-1]}, {})


def test_a_library_that_writes_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    save = safetensors.numpy.save

    def wrong(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
        return save({name: array[::-1].copy() for name, array in tensors.items()}, metadata)

    monkeypatch.setattr(safetensors.numpy, "save", wrong)
    with pytest.raises(DataIntegrityError, match="pack_tensors: expected content with digest"):
        pack_tensors({"weight": np.arange(4.0)}, {})


# What is not packed


@pytest.mark.parametrize("array", [np.zeros(2, complex), np.array(["a"]), np.array([None]), np.zeros(2, "f4,f4")])
def test_types_that_the_file_cannot_hold_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="pack_tensors: expected 'weight' to be one of bool, uint8,"):
        pack_tensors({"weight": array}, {})


@pytest.mark.parametrize("name", ["", "a" * 257, "a\n", "\x1b[31m", "\ud800", "\u202eab", "__metadata__"])
@pytest.mark.promise("S07")
def test_names_that_could_not_be_read_are_refused(name: str) -> None:
    with pytest.raises(WeightsFormatError) as caught:
        pack_tensors({name: np.zeros(2)}, {})
    assert str(caught.value).isprintable()


def test_sizes_that_could_not_be_read_are_refused() -> None:
    with pytest.raises(WeightsFormatError, match="at most 8 integers"):
        pack_tensors({"a": np.zeros((1,) * 9)}, {})
    with pytest.raises(WeightsFormatError, match="at most 10000 tensors, got 10001"):
        pack_tensors({str(i): np.zeros(0) for i in range(10_001)}, {})
    with pytest.raises(WeightsFormatError, match="1048576 bytes"):
        pack_tensors({}, {"a": "b" * (2**20 - 50)})
    with pytest.raises(ConfigError, match=r"^to_json: expected a value that JSON has"):
        pack_tensors({}, {"lr": float("nan")})
    assert len(unpack_tensors(pack_tensors({"a" * 256: np.zeros((1,) * 8)}, {}), "who")[0]) == 1


# What is not a safetensors file (rows of the catalogue of bad inputs)

PAIR = bytes(8)
LONG = {str(i): entry(shape=[0], offsets=[0, 0]) for i in range(10_001)}
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "S01-empty": (b"", "at least 8 bytes"),
    "S01-7": (bytes(7), "at least 8 bytes"),
    "S01-zero": (bytes(8), "header of 2"),
    "S01-one": (bytes([1]) + bytes(20), "header of 2"),
    "S01-2^63": ((2**63).to_bytes(8, "little") + b"{}", "got another kind of file"),
    "S01-2^64-1": (b"\xff" * 8 + b"{}", "got another kind of file"),
    "S01-beyond": (
        raw({"a": entry()})[:-1],
        "expected a safetensors header of 61 bytes, got 60; the file is cut off or damaged",
    ),
    "S01-16MiB": (raw(b"{" + b" " * 2**24 + b"}"), "header of 2 to 16777216 bytes, got 16777218"),
    "S02-utf8": (raw(b'{"\xff":1}'), "utf-8"),
    "S02-not-json": (raw(b"{weights}"), "strict JSON"),
    "S02-array": (raw([]), 'begins with "{"'),
    "S02-leading-blank": (raw(b" {}"), 'begins with "{"'),
    "S02-bom": (raw(b"\xef\xbb\xbf{}"), 'begins with "{"'),
    "S02-surrogate": (raw(b'{"\\ud800":{}}'), "surrogates"),
    "S02-depth": (raw(b'{"a":' * 100_000), "strict JSON"),
    "S02-nan": (raw(b'{"a":NaN}'), "not finite"),
    "S02-duplicate": (raw(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), PAIR), "twice"),
    "S02-duplicate-inside": (
        raw(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', PAIR),
        "twice",
    ),
    "S03-no-dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, PAIR), "dtype, shape and data_offsets"),
    "S03-no-shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, PAIR), "dtype, shape and data_offsets"),
    "S03-no-offsets": (raw({"a": {"dtype": "F32", "shape": [2]}}, PAIR), "dtype, shape and data_offsets"),
    "S03-extra-key": (raw({"a": entry(more=1)}, PAIR), "dtype, shape and data_offsets"),
    "S03-null": (raw({"a": None}, PAIR), "dtype, shape and data_offsets"),
    "S03-float": (raw({"a": entry(shape=[2.0])}, PAIR), "shape of at most"),
    "S03-negative": (raw({"a": entry(shape=[-2])}, PAIR), "shape of at most"),
    "S03-bool": (raw({"a": entry(shape=[2, True])}, PAIR), "shape of at most"),
    "S03-string": (raw({"a": entry(shape=["2"])}, PAIR), "shape of at most"),
    "S03-shape-number": (raw({"a": entry(shape=2)}, PAIR), "shape of at most"),
    "S03-2^53": (raw({"a": entry(shape=[2**53 + 1])}, PAIR), "beyond 2^53"),
    "S03-offset-float": (raw({"a": entry(offsets=[0, 8.0])}, PAIR), "two integers"),
    "S03-offset-bool": (raw({"a": entry(offsets=[False, 8])}, PAIR), "two integers"),
    "S03-offset-negative": (raw({"a": entry(offsets=[-8, 0])}, PAIR), "two integers"),
    "S03-three-offsets": (raw({"a": entry(offsets=[0, 8, 8])}, PAIR), "two integers"),
    "S04-begin>end": (raw({"a": entry(offsets=[8, 0])}, PAIR), "8 bytes by its shape"),
    "S04-overlap": (raw({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "without gap or overlap"),
    "S04-same": (raw({"a": entry(), "b": entry()}, PAIR), "without gap or overlap"),
    "S04-hole": (raw({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)), "without gap or overlap"),
    "S04-hole-first": (raw({"a": entry(offsets=[4, 12])}, bytes(12)), "without gap or overlap"),
    "S04-beyond": (raw({"a": entry()}, bytes(7)), "cut, or something was appended"),
    "S04-trailing": (raw({"a": entry()}, bytes(9)), "cut, or something was appended"),
    "S04-size": (raw({"a": entry(shape=[3])}, PAIR), "12 bytes by its shape"),
    "S04-overflow": (raw({"a": entry(shape=[2**53, 2**9, 2], offsets=[0, 0])}), "at most 1099511627776 bytes"),
    "S04-overflow-to-8": (raw({"a": entry(shape=[2**32, 2**32])}, PAIR), "at most 1099511627776 bytes"),
    "S04-zero-x-2^53": (raw({"a": entry(shape=[0, 2**53], offsets=[0, 0])}), "at most 1099511627776 bytes"),
    "S04-2^62-x-8": (raw({"a": entry(shape=[2**62, 8], offsets=[0, 0])}), "beyond 2^53"),
    "S04-zero-x-10^18": (raw({"a": entry(shape=[0, 10**18], offsets=[0, 0])}), "beyond 2^53"),
    "S04-empty-outside": (raw({"a": entry(), "b": entry(shape=[0], offsets=[9, 9])}, PAIR), "without gap or overlap"),
    "S05-BF16": (raw({"a": entry("BF16", offsets=[0, 4])}, bytes(4)), "of type BOOL"),
    "S05-F8": (raw({"a": entry("F8_E4M3", offsets=[0, 2])}, bytes(2)), "of type BOOL"),
    "S05-C64": (raw({"a": entry("C64", offsets=[0, 16])}, bytes(16)), "of type BOOL"),
    "S05-lower": (raw({"a": entry("f32")}, PAIR), "of type BOOL"),
    "S05-list": (raw({"a": entry(["F32"])}, PAIR), "of type BOOL"),
    "S05-bool-2": (raw({"a": entry("BOOL", offsets=[0, 2])}, b"\x01\x02"), "booleans of 0 and 1"),
    "S06-9": (raw({"a": entry(shape=[1] * 8 + [2])}, PAIR), "at most 8 integers"),
    "S06-65": (raw({"a": entry(shape=[1] * 64 + [2])}, PAIR), "at most 8 integers"),
    "S06-100": (raw({"a": entry(shape=[1] * 99 + [2])}, PAIR), "at most 8 integers"),
    "S07-null": (raw({"__metadata__": None}), "__metadata__ with texts"),
    "S07-list": (raw({"__metadata__": ["a"]}), "__metadata__ with texts"),
    "S07-number": (raw({"__metadata__": {"a": 1}}), "__metadata__ with texts"),
    "S07-nested": (raw({"__metadata__": {"a": {}}}), "__metadata__ with texts"),
    "S07-long": (raw({"__metadata__": {"a": "b" * 2**20}}), "at most 1048576 bytes"),
    "S07-control": (raw({"__metadata__": {"a": "b\x1b[31m"}}), "without control characters"),
    "S07-control-key": (raw({"__metadata__": {"a\n": "b"}}), "without control characters"),
    "S07-name": (raw({"a\x1b[31m": entry()}, PAIR), "printable characters"),
    "S07-no-name": (raw({"": entry()}, PAIR), "printable characters"),
    "S07-long-name": (raw({"a" * 257: entry()}, PAIR), "printable characters"),
    "S09-nan": (raw({"a": entry()}, np.float32([0, np.nan]).tobytes()), "finite numbers"),
    "S09-inf": (raw({"a": entry("F64", [1])}, np.float64([-np.inf]).tobytes()), "finite numbers"),
    "S09-half": (raw({"a": entry("F16", [4])}, np.float16([0, 0, np.inf, 0]).tobytes()), "finite numbers"),
    "S11-zip": (raw({"a": entry()}, PAIR + b"PK\x05\x06" + bytes(18)), "cut, or something was appended"),
    "S11-pdf": (raw({"a": entry()}, PAIR + b"%PDF-1.7"), "cut, or something was appended"),
    "tensors": (raw(LONG), "at most 10000 tensors, got 10001"),
    "many-lists": (raw(b'{"a":[%s1]}' % (b"[]," * 1_200_000)), "at most 10000 tensors, got more entries"),
}


@pytest.mark.parametrize("row", BAD_FILES)
@pytest.mark.promise("S01", "S02", "S03", "S04", "S05", "S06", "S07", "S09", "S11")
def test_bad_files_are_refused(row: str) -> None:
    data, reason = BAD_FILES[row]
    for read in (parse_safetensors, unpack_tensors):
        if read is unpack_tensors and row.startswith(("S09", "S05-bool")):
            data = sealed(*opened_foreign(data))
        with pytest.raises(WeightsFormatError) as caught:
            read(data, "who")
        message = str(caught.value)
        assert reason in message
        assert message.startswith("who: expected ")
        assert message.isprintable()
        assert len(message) < 400


def opened_foreign(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def test_a_foreign_file_is_read_as_it_is() -> None:
    data = safetensors.numpy.save(SMALL, {"format": "np"})
    tensors, metadata = parse_safetensors(data, "who")
    assert metadata == {"format": "np"}
    assert all(same_bits(tensors[name], array) for name, array in SMALL.items())
    assert parse_safetensors(raw({"a": entry(), "z": entry("F16", [0, 3], [0, 0])}, PAIR), "who")[0]["z"].shape == (
        0,
        3,
    )


@pytest.mark.promise("S07")
def test_only_files_of_stridenet_have_a_meta() -> None:
    for metadata in [
        None,
        {"format": "pt"},
        {"stridenet": ""},
        {"stridenet": '{"meta":[],"sha256":"%s"}' % ("0" * 64)},
    ]:
        with pytest.raises(WeightsFormatError, match="expected a file of stridenet"):
            unpack_tensors(safetensors.numpy.save(SMALL, metadata), "who")


@pytest.mark.promise("S07")
def test_a_wrong_digest_is_an_integrity_error() -> None:
    fields, payload, meta = opened(packed())
    assert unpack_tensors(sealed(fields, payload, meta), "who")[1] == META
    for other in [meta.replace("zwei", "drei"), meta.replace("0.1", "0.10"), meta.replace("\\u001b", "\\u001B")]:
        assert other != meta
        good, bad = (json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in (meta, other))
        data = sealed(fields, payload, meta).replace(good, bad)
        length = int.from_bytes(data[:8], "little") + len(bad) - len(good)
        with pytest.raises(DataIntegrityError, match="who: expected content with digest"):
            unpack_tensors(length.to_bytes(8, "little") + data[8:], "who")
    with pytest.raises(DataIntegrityError):
        unpack_tensors(packed().replace(b"0.bias", b"1.bias"), "who")
    with pytest.raises(DataIntegrityError):  # a NaN that was never saved is damage, not a number
        unpack_tensors(packed()[:-8] + np.float64([np.nan]).tobytes(), "who")


def test_a_meta_that_is_not_json_is_refused_even_with_its_digest() -> None:
    for meta in ['{"a":NaN}', '{"a":1,"a":1}', "{a}", "{" + '"a":{' * 40 + "}" * 41]:
        with pytest.raises(WeightsFormatError, match="who: expected strict JSON"):
            unpack_tensors(sealed({}, b"", meta), "who")


@pytest.mark.promise("S09")
def test_nonfinite_numbers_are_loaded_on_demand() -> None:
    wild = {"a": np.array([np.nan, -np.inf, 1.0])}
    data = pack_tensors(wild, {})
    with pytest.raises(WeightsFormatError, match="'a' with finite numbers, got NaN or infinity; allow_nonfinite=True"):
        unpack_tensors(data, "who")
    assert same_bits(unpack_tensors(data, "who", allow_nonfinite=True)[0]["a"], wild["a"])
    assert same_bits(parse_safetensors(data, "who", allow_nonfinite=True)[0]["a"], wild["a"])


def test_what_only_the_library_refuses_is_one_of_our_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> None:
        raise SafetensorError("a new rule")

    monkeypatch.setattr(safetensors.numpy, "load", refuse)
    with pytest.raises(WeightsFormatError, match=r"who: .* what the library refuses: a new rule"):
        unpack_tensors(packed(), "who")


# Damage


def damaged(rng: np.random.Generator, flips: int, cuts: int, tails: int) -> Iterable[bytes]:
    data = packed()
    bits = rng.choice(len(data) * 8, min(flips, len(data) * 8), replace=False)
    header = range((8 + int.from_bytes(data[:8], "little")) * 8)
    for bit in {*bits.tolist(), *(header if flips >= 1000 else ())}:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    for _ in range(cuts):
        yield data[: rng.integers(len(data))]
    for _ in range(tails):
        yield data + rng.bytes(rng.integers(1, 100))


@pytest.mark.parametrize("counts", [(300, 200, 50), pytest.param((1000, 1000, 200), marks=pytest.mark.slow)])
@pytest.mark.promise("F4")
def test_every_damage_is_detected(counts: tuple[int, int, int]) -> None:
    found = 0
    for data in damaged(np.random.default_rng(4), *counts):
        with pytest.raises((WeightsFormatError, DataIntegrityError)):
            unpack_tensors(data, "who")
        found += 1
    assert found >= sum(counts)


# Mutation

NUMBERS = [0, 1, -1, 2, 3, 7, 8, 255, 2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**62, 2**63, 2**64, 10**30]
VALUES = [*NUMBERS, None, True, 1.5, float("nan"), "", "F32", "\x1b", [], {}, [[]], [1] * 100, {"a": 1}]


def mutate_fields(rng: np.random.Generator, fields: dict[str, Any]) -> None:
    """Change one thing in the entries of a header."""
    name = str(rng.choice(list(fields)))
    key = str(rng.choice(["dtype", "shape", "data_offsets"]))
    value = VALUES[rng.integers(len(VALUES))]
    match rng.integers(8):
        case 0:
            fields[name][key] = value
        case 1:
            del fields[name][key]
        case 2:
            fields[str(value)] = fields.pop(name)
        case 3:
            fields[name] = value
        case 4:
            fields[name]["shape"] = [*fields[name]["shape"], value]
        case 5:
            fields[name]["data_offsets"][rng.integers(2)] = NUMBERS[rng.integers(len(NUMBERS))]
        case 6:
            fields[name]["dtype"] = str(rng.choice([*CODES, "BF16", "F8_E5M2", "C64"]))
        case _:
            fields["copy"] = fields[name]


def mutate_bytes(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Change some bytes of a part of a file."""
    at, to = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    match rng.integers(6):
        case 0:
            return data[:at] + rng.bytes(to - at) + data[to:]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + data[at:to] * 2 + data[to:]
        case 3:
            return data[:at] + other[at:]
        case 4:
            number = NUMBERS[rng.integers(len(NUMBERS))] % 2**64
            return data[:at] + number.to_bytes(8, "little") + data[at + 8 :]
        case _:
            changed = bytearray(data)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                changed[place] ^= 1 << rng.integers(8)
            return bytes(changed)


def mutant(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """A mutated file; in most the length or the digest fits again, so that deeper checks are reached."""
    fields, payload, meta = opened(data)
    match rng.integers(4):
        case 0:
            return mutate_bytes(rng, data, other)
        case 1:
            header = data[8 : len(data) - len(payload)]
            return raw(mutate_bytes(rng, header, other[8:]), payload)
        case 2:
            mutate_fields(rng, fields)
            return sealed(fields, payload, meta)
        case _:
            if rng.random() < 0.5:
                return data[: -len(payload)] + mutate_bytes(rng, payload, bytes(range(256)))[: len(payload)]
            return sealed(fields, payload, mutate_bytes(rng, meta.encode(), b'{"b":[1,2]}').decode("utf-8", "replace"))


@pytest.mark.promise("F2")
def test_two_thousand_mutants_raise_nothing_foreign() -> None:
    rng = np.random.default_rng(2)
    valid, other = packed(), pack_tensors({"x": np.arange(9.0)}, {"b": [1, 2]})
    outcomes: Counter[str] = Counter()
    for _ in range(2000):
        data = mutant(rng, valid, other)
        for read in (unpack_tensors, parse_safetensors):
            try:
                tensors, _ = read(data, "who")
                outcome, message = "read", ""
                assert sum(array.nbytes for array in tensors.values()) < len(data)
            except StridenetError as error:
                outcome, message = type(error).__name__, str(error)
            outcomes[outcome] += 1
            assert len(message) < 500
            assert message.isprintable()
    assert outcomes.keys() == {"WeightsFormatError", "DataIntegrityError", "read"}
    assert min(outcomes.values()) > 100, outcomes
