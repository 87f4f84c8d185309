"""Whole files whose weights are of another network: each is refused with every difference, and nothing is loaded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stridenet import BatchNorm2d, Conv2d, Flatten, Linear, Sequential, load
from stridenet.errors import ModelFileError, WeightsFormatError, WeightsMismatchError
from stridenet.files import load_tensors
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.tensors import pack_tensors

Tensors = dict[str, Array]


def network() -> Sequential:
    rng = np.random.default_rng(0)
    return Sequential(
        Conv2d(1, 4, (3, 2), rng=rng),
        BatchNorm2d(4),
        Sequential(Conv2d(4, 2, 2, rng=rng)),
        Flatten(),
        Linear(24, 3, rng=rng),
        input_shape=(1, 6, 6),
    )


def digest(net: Sequential) -> str:
    """Of every bit of a network, names and running statistics included."""
    state = net.state_dict()
    return hashlib.sha256(b"".join(name.encode() + state[name].tobytes() for name in sorted(state))).hexdigest()


# Each spoils `state` at `name` and says what must be reported of it.


def missing(state: Tensors, name: str) -> list[str]:
    del state[name]
    return [f"{name!r} is missing"]


def extra(state: Tensors, name: str) -> list[str]:
    state[f"{name}x"] = state[name]
    return [f"{f'{name}x'!r} is unexpected"]


def other_case(state: Tensors, name: str) -> list[str]:
    state[name.upper()] = state.pop(name)
    return [f"{name!r} is missing", f"{name.upper()!r} is unexpected"]


def replaced(change: Callable[[Array], Array]) -> Callable[[Tensors, str], list[str]]:
    def spoil(state: Tensors, name: str) -> list[str]:
        old, new = state[name], change(state[name])
        state[name] = new
        return [f"{name!r} is {new.shape} {new.dtype}, expected {old.shape} float32"]

    return spoil


def spoilers(array: Array) -> list[Callable[[Tensors, str], list[str]]]:
    """Those that change something in this array."""
    changes: list[Callable[[Array], Array]] = [
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
        lambda a: np.zeros(a.shape, np.int64),
        lambda a: np.zeros(a.shape, np.bool_),
        lambda a: a[..., :0],
        lambda a: a[None],
        lambda a: np.concatenate([a, a]),
    ]
    if array.ndim > 1:
        changes += [lambda a: a.reshape(-1), lambda a: a.reshape(len(a), -1, 1)]  # the right size, a wrong shape
    if array.shape != array.T.shape:
        changes.append(lambda a: a.T)
    return [missing, extra, other_case, *map(replaced, changes)]


@pytest.mark.promise("F6", "S08", "S05")
def test_300_files_of_other_networks_leave_every_bit(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "weights"
    net.pack()
    before, refused = digest(net), Counter[str]()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        state = {name: array + 1 for name, array in net.state_dict().items()}
        wanted: list[str] = []
        for name in rng.permutation(sorted(state))[: rng.integers(1, 6)].tolist():
            choices = spoilers(state[name])
            wanted += choices[rng.integers(len(choices))](state, name)
        path.write_bytes(pack_tensors(state, {}))
        with pytest.raises(WeightsMismatchError, match=r"load_state_dict: ") as caught:
            net.load_state_dict(load_tensors(path)[0])
        assert sorted(str(caught.value).partition(": ")[2].split("; ")) == sorted(wanted)
        assert digest(net) == before
        refused.update(line.partition(" is ")[2].partition(" ")[0] for line in wanted)
    assert min(refused["missing"], refused["unexpected"], sum(refused.values())) > 50, refused


@pytest.mark.promise("F6", "S08")
def test_more_than_20_differences_are_counted(tmp_path: Path) -> None:
    net = network()
    (tmp_path / "weights").write_bytes(pack_tensors({f"other {i}": np.zeros(2, np.float32) for i in range(30)}, {}))
    with pytest.raises(WeightsMismatchError) as caught:
        net.load_state_dict(load_tensors(tmp_path / "weights")[0])
    assert str(caught.value).count(" is ") == 20
    assert str(caught.value).endswith(f" and {30 + len(net.state_dict()) - 20} more")


@pytest.mark.promise("F6", "S09")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_that_is_not_finite_reaches_a_network(bad: float, tmp_path: Path) -> None:
    net = network()
    before = digest(net)
    for name, array in net.state_dict().items():
        array.flat[array.size // 2] = bad
        (tmp_path / "weights").write_bytes(pack_tensors({**net.state_dict(), name: array}, {}))
        with pytest.raises(WeightsFormatError, match=f"'{name}' with finite numbers"):
            net.load_state_dict(load_tensors(tmp_path / "weights")[0])
    assert digest(net) == before


@pytest.mark.promise("F6", "S08")
def test_a_model_file_with_weights_of_another_network_is_refused(tmp_path: Path) -> None:
    """The digest is right, the network is described, and its weights are not there."""
    path = tmp_path / "model"
    Model(network(), ("a", "b", "c"), (1, 6, 6)).save(path)
    tensors, meta = load_tensors(path)
    for name in tensors:
        for spoil in spoilers(tensors[name]):
            state = dict(tensors)
            wanted = spoil(state, name)
            path.write_bytes(pack_tensors(state, meta))
            with pytest.raises(ModelFileError) as caught:
                load(path)
            if isinstance(caught.value, WeightsMismatchError):
                assert all(line in str(caught.value) for line in wanted)
            else:  # fewer numbers than the network has: it is not even made
                assert "parameters" in str(caught.value)
