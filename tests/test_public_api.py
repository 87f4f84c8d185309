"""The public names, frozen; each of them documented; none of them slow to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stridenet

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stridenet"

# What a user may rely on. Adding a name is a decision; taking one away breaks programs.
# fmt: off
PUBLIC = [
    "Adadelta", "Adagrad", "Adam", "AdamW", "Affine", "AvgPool2d", "BatchNorm2d", "BestWeights", "Callback",
    "CheckpointStore", "Checkpoints", "Conv2d", "ConvNetClassifier", "CurvatureEstimate", "Cutout", "Dataset",
    "Dropout", "Dropout2d", "EarlyStopping", "Elastic", "Flatten", "Framing", "GlobalAvgPool2d", "InferencePlan",
    "Layer", "LeakyReLU", "Linear", "Loader", "LogSoftmax", "MaxPool2d", "Metrics", "Model", "Normalize", "Pad",
    "Parameter", "ParameterVector", "Pipeline", "Progress", "RBF", "RMSprop", "RandomCrop", "RandomFlip", "RandomShift",
    "ReLU", "ReduceOnPlateau", "Residual", "Resize", "SDLM", "SGD", "ScaledTanh", "Sequential", "Sigmoid", "Softmax",
    "Splits", "StridenetError", "SubtractMean", "TableConv2d", "Tanh", "TimeBudget", "TrainableSubsampling2d",
    "Trainer", "WeightAverage", "ZeroPadShortcut", "__version__", "cifar_convnet", "cross_entropy", "errors",
    "evaluate", "functional", "hinge", "init", "kernels", "layout", "lenet5", "lenet5_1998", "lenet5_batchnorm", "load",
    "map_criterion", "mse", "open_data", "pynet", "rbf_mse", "resnet20", "schedules",
]
# fmt: on

# Packages that `import stridenet` leaves to the functions that use them.
HEAVY = {"PIL", "click", "matplotlib", "numba", "pooch", "requests", "safetensors", "sklearn", "tqdm"}


def undocumented(tree: ast.Module) -> Iterator[str]:
    """The public classes, functions and methods of a file that say nothing about themselves."""
    if ast.get_docstring(tree) is None:
        yield "the file"
    bodies = [(tree.body, "")]
    for body, owner in bodies:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                bodies.append((node.body, f"{node.name}."))
            if ast.get_docstring(node) is None and not is_setter(node):
                yield f"{owner}{node.name}"


def is_setter(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in node.decorator_list)


def test_public_names_are_frozen() -> None:
    assert sorted(stridenet.__all__) == sorted(PUBLIC)


def test_public_names_exist() -> None:
    assert [name for name in PUBLIC if not hasattr(stridenet, name)] == []
    assert set(PUBLIC) <= set(dir(stridenet))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_everything_public_is_documented(path: Path) -> None:
    assert list(undocumented(ast.parse(path.read_text()))) == []


def test_the_check_of_documentation_sees() -> None:
    code = """
class A:
    def f(self): ...
    def _g(self): ...
    @f.setter
    def f(self, x): ...
def h():
    def inner(): ...
class _B:
    def f(self): ...
"""
    assert list(undocumented(ast.parse(code))) == ["the file", "A", "h", "A.f"]


def test_importing_stridenet_imports_nothing_heavier_than_numpy() -> None:
    code = "import stridenet, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY & set(done.stdout.split()) == set()
