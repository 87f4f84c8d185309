"""What a start imports: no test of time, but of what takes the time."""

from __future__ import annotations

from typing import Any

import pytest

HEAVY = {
    "PIL", "click", "matplotlib", "numba", "pooch", "requests", "safetensors", "scipy", "sklearn",
    "threadpoolctl", "tqdm",
}  # fmt: skip
LIST = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def imported(child: Any, code: str) -> set[str]:
    done = child(f"{code}\n{LIST}")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")[-2].split())


def test_importing_stridenet_imports_not_even_numpy(child: Any) -> None:
    found = imported(child, "import stridenet")
    assert found & (HEAVY | {"numpy"}) == set()
    assert "stridenet" in found


def test_help_of_the_command_line_needs_click_alone(child: Any) -> None:
    code = "from stridenet import cli\n"
    for arguments in (["--help"], ["--version"], *([name, "--help"] for name in ("train", "predict", "data"))):
        code += f"assert cli.run({arguments!r}) == 0\n"
    assert imported(child, code) & (HEAVY | {"numpy"}) == {"click"}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("from stridenet import Trainer, Sequential, Model, load, lenet5, SGD, Loader", {"numpy"}),
        ("from stridenet.zoo import recipes; recipes.load('lenet5-mnist')", {"numpy"}),
        ("from stridenet import cli; assert cli.run(['recipes']) == 0", {"numpy", "click"}),
        ("from stridenet import experiment", {"numpy"}),
    ],
)
def test_names_bring_nothing_heavier_than_numpy(code: str, allowed: set[str], child: Any) -> None:
    assert imported(child, code) & (HEAVY | {"numpy"}) <= allowed


def test_loading_a_model_needs_safetensors_and_numpy_alone(child: Any, tmp_path: Any) -> None:
    import numpy as np

    from stridenet.model import Model
    from stridenet.zoo.models import lenet5

    Model(lenet5(rng=np.random.default_rng(0)), tuple("0123456789"), (1, 28, 28)).save(tmp_path / "model")
    code = "import stridenet, numpy; stridenet.load('model').predict(numpy.zeros((2, 28, 28), numpy.uint8))"
    assert imported(child, code) & HEAVY == {"safetensors"}
