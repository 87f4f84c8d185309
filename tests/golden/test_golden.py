"""Files of every version since the first load bit by bit, for ever."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stridenet
from golden import make
from stridenet import CheckpointStore, Dataset, Loader
from stridenet.errors import CheckpointVersionError, UnsupportedModelError
from stridenet.files import load_tensors, save_tensors

HERE = Path(__file__).parent
VERSIONS = sorted(folder for folder in HERE.iterdir() if (folder / "model.safetensors").exists())


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.promise("K7")
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_a_golden_model_loads(folder: Path) -> None:
    found, wanted = stridenet.load(folder / "model.safetensors"), make.model()
    same(found.network.state_dict(), wanted.network.state_dict())
    assert found.network.spec() == wanted.network.spec()
    assert (found.classes, found.image_shape) == (wanted.classes, wanted.image_shape)
    assert (found.recipe, found.provenance) == (wanted.recipe, wanted.provenance)
    assert (found.transform.spec(), found.framing) == (wanted.transform.spec(), wanted.framing)
    assert found.scores(make.images()).tobytes() == wanted.scores(make.images()).tobytes()
    assert np.allclose(np.exp(found.scores(make.images())).sum(axis=1), 1, atol=1e-6)


@pytest.mark.promise("K7")
@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_a_golden_checkpoint_loads_and_goes_on(folder: Path) -> None:
    step, tensors, meta = CheckpointStore(folder).latest()
    wanted = make.state()
    assert (step, meta["identity"]) == (make.STEP, {"seed": 2, "data": "none"})
    assert meta["trainer"] == {name: wanted[1][name] for name in meta["trainer"]}
    same(tensors, wanted[0])
    images = np.arange(16 * 64).reshape(16, 1, 8, 8) % 251
    loader = Loader(Dataset(images.astype(np.uint8), np.arange(16) % 3, ("a", "b", "c")), 4, shuffle=True)
    ends: list[Any] = []
    for state in ((tensors, meta["trainer"]), wanted):
        run = make.trainer()
        run.load_state(*state)
        assert (run.epoch, run.batch, run.optimizer.t) == (1, 2, make.STEP)
        assert [row["step"] for row in run.fit(loader, loader, epochs=3)] == [4, 8, 12]
        ends.append(run.params.value.tobytes())
    assert ends[0] == ends[1]


@pytest.mark.promise("K7")
def test_a_later_version_is_named(tmp_path: Path) -> None:
    shutil.copytree(VERSIONS[-1], tmp_path / "later")
    (checkpoint,) = (tmp_path / "later").glob("step-*")
    for path in (tmp_path / "later" / "model.safetensors", checkpoint):
        tensors, meta = load_tensors(path, allow_nonfinite=True)
        save_tensors(path, tensors, meta | {"version": meta["version"] + 1})
    with pytest.raises(UnsupportedModelError, match="expected version 1, got 2; update stridenet"):
        stridenet.load(tmp_path / "later" / "model.safetensors")
    with pytest.raises(CheckpointVersionError, match="expected a checkpoint of version 1, got 2; use a newer"):
        CheckpointStore(tmp_path / "later").latest()


def test_the_golden_files_are_small_and_can_be_made(tmp_path: Path) -> None:
    assert len(VERSIONS) >= 1
    for folder in VERSIONS:
        assert sum(path.stat().st_size for path in folder.iterdir()) < 30_000
    make.main(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        path.name for path in VERSIONS[-1].iterdir()
    )
