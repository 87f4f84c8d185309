"""The family of errors: one root, the built-in class beside it, pickles, and names that cannot fool a terminal."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from stridenet import errors
from stridenet.errors import StridenetError, printable, shown, suggestion

FAMILY: dict[str, tuple[type[Exception], ...]] = {
    "StridenetError": (Exception,),
    "DataError": (StridenetError, ValueError),
    "DataFormatError": (errors.DataError,),
    "DataIntegrityError": (errors.DataError,),
    "DataLimitError": (errors.DataError,),
    "LabelError": (errors.DataError,),
    "ImageError": (errors.DataError,),
    "DownloadError": (StridenetError, OSError),
    "ModelFileError": (StridenetError, ValueError),
    "WeightsFormatError": (errors.ModelFileError,),
    "WeightsMismatchError": (errors.ModelFileError,),
    "UnsupportedModelError": (errors.ModelFileError,),
    "CheckpointError": (StridenetError,),
    "CheckpointCorruptError": (errors.CheckpointError,),
    "CheckpointVersionError": (errors.CheckpointError,),
    "CheckpointLockedError": (errors.CheckpointError,),
    "CheckpointMismatchError": (errors.CheckpointError,),
    "ConfigError": (StridenetError, ValueError),
    "ShapeError": (errors.ConfigError,),
    "LayoutError": (StridenetError, ValueError),
    "NumericsError": (StridenetError, ArithmeticError),
    "MemoryBudgetError": (StridenetError, MemoryError),
    "DeviceError": (StridenetError, RuntimeError),
    "DistributedError": (StridenetError, RuntimeError),
}
EXTRAS = {
    errors.DataFormatError: {"path": "train.idx", "offset": 4},
    errors.DataLimitError: {"limit": 10, "value": 11},
    errors.NumericsError: {"step": 3, "layer": "Conv2d", "tensor": "dx"},
}


def test_the_family_is_complete() -> None:
    found = {n: c for n, c in vars(errors).items() if isinstance(c, type) and c.__module__ == errors.__name__}
    assert found.keys() == FAMILY.keys()
    for name, bases in FAMILY.items():
        assert found[name].__bases__ == bases, name
        assert issubclass(found[name], StridenetError)


@pytest.mark.parametrize("name", FAMILY)
def test_errors_copy_and_pickle(name: str) -> None:
    kind = getattr(errors, name)
    for extras in {}, EXTRAS.get(kind, {}):
        error = kind("conv2d: expected this, got that; do so", **extras)
        for twin in pickle.loads(pickle.dumps(error)), copy.deepcopy(error):
            assert type(twin) is kind
            assert str(twin) == "conv2d: expected this, got that; do so"
            assert vars(twin) == vars(error)
            assert all(getattr(twin, key) == value for key, value in extras.items())


@pytest.mark.parametrize("kind", EXTRAS)
def test_extras_are_optional_keywords(kind: type[Exception]) -> None:
    error = kind("message")
    assert all(getattr(error, name) is None for name in EXTRAS[kind])
    with pytest.raises(TypeError):
        kind("message", "train.idx")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("数字.png", "数字.png"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\rc\td\0", r"a\nb\rc\td\x00"),
        ("right\u202eleft", r"right\u202eleft"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        (b"bad \xff byte", r"bad \udcff byte"),
    ],
)
def test_printable(name: str | bytes, shown: str) -> None:
    assert printable(name) == shown
    assert shown.isprintable()
    printable(name).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1b\n", r"'a\x1b\n'"),
        (np.zeros((2, 2)), r"array([[0., 0.],\n       [0., 0.]])"),
        ("x" * 100, "'" + "x" * 79),
        (10**5000, "a int too large to show"),
    ],
    ids=["text", "lines", "long", "digits"],
)
def test_shown_is_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text


def test_shown_of_what_is_nested_too_deep() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "a list too large to show"


@pytest.mark.parametrize("word", ["AdamW", "adamW", "Adam_W", "adamww"])
def test_a_suggestion_does_not_mind_capitals(word: str) -> None:
    assert suggestion(word, ["adam", "adamw", "sgd"]) == "; did you mean 'adamw'?"
    assert suggestion("ADAM", ["Adam", "sgd"]) == "; did you mean 'Adam'?"
    assert suggestion("zzz", ["adam"]) == ""
