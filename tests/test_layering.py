"""The house rules that a program can check: who imports whom, what no file may do, how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stridenet"

# Every file, in reading order: each may import only files that stand before it. A new file is placed here.
# fmt: off
ORDER = [
    "errors",
    "shapes", "tables", "layout", "seeding", "communicator", "strictjson", "tensors", "files",
    "kernels.loops", "kernels.im2col", "kernels.places", "kernels.compiled", "kernels.vector", "kernels.simd",
    "kernels.twins", "kernels.operation", "kernels.signals", "kernels.tiles", "kernels.windows",
    "kernels.frames", "kernels.pixels", "kernels.program", "kernels.update", "kernels.batchlast", "kernels",
    "nn", "nn.arrays", "nn.activations", "nn.batch_norm", "nn.shortcut", "nn.functional", "nn.parameters",
    "nn.init", "nn.layer", "nn.layers", "nn.pools", "nn.classic", "nn.regularization", "nn.sequential",
    "nn.rebuild", "nn.losses", "nn.curvature", "nn.objective", "nn.lowering", "nn.products", "nn.classic_nodes",
    "nn.nodes", "nn.workers", "nn.step", "nn.plan", "nn.cost",
    "optim", "optim.schedules", "optim.optimizers", "optim.adaptive", "optim.levenberg",
    "data", "data.dataset", "data.loader", "data.steps", "data.transforms", "data.augment", "data.images", "data.idx",
    "data.mnist", "data.digits", "data.opcodes", "data.archive", "data.cifar", "data.folders", "data.tiny_imagenet",
    "data.fetch", "data.catalogue",
    "train", "train.metrics", "train.fields", "train.evaluation", "train.trainer", "train.checkpoint",
    "train.callbacks", "train.policies", "train.telemetry", "train.memory", "train.findings",
    "train.lengths", "train.slopes", "train.signals", "train.separation", "train.doctor", "train.watch",
    "model", "portable",
    "zoo", "zoo.bitmaps", "zoo.models", "zoo.recipes",
    "viz", "viz.page", "viz.explore", "viz.figures", "viz.pixels", "viz.plots", "viz.charts", "viz.blocks",
    "viz.summary", "viz.terminal",
    "interop", "interop.cs231n.layers", "interop.cs231n.solver", "interop.cs231n",
    "interop.onnx.wire", "interop.onnx.proto", "interop.onnx.forms", "interop.onnx.windows", "interop.onnx.elements",
    "interop.onnx.operators", "interop.onnx.graph",
    "interop.predictor_pictures", "interop.predictor_template", "interop.predictor",
    "interop.onnx.export", "interop.onnx", "interop.torch_weights",
    "loading", "finetune", "assembly", "interop.samples", "interop.networks", "interop.estimator",
    "experiment", "series", "benchmark", "viz.runs", "viz.insides", "viz.sections", "viz.report",
    "cli.shared", "cli.warmup", "cli.train", "cli.doctor", "cli.evaluate", "cli.report", "cli.predict", "cli.explore",
    "cli.export", "cli.summary", "cli.recipes", "cli.data", "cli.bench", "cli.completion", "cli",
    "__main__",
    "",
]
# fmt: on

# The files that may import a package heavier than NumPy. They do so inside a function, except those of ON_TOP.
HEAVY = {
    "PIL": ["data.images"],
    "click": ["cli"],
    "matplotlib": ["viz.charts", "viz.figures", "viz.plots"],
    "llvmlite": ["kernels.simd", "kernels.vector"],
    "numba": ["kernels.compiled", "kernels.simd", "kernels.vector"],
    "onnx": ["interop.onnx.export", "interop.onnx.proto"],
    "pooch": ["data.fetch"],
    "safetensors": ["tensors"],
    "scipy": ["series"],
    "sklearn": ["data.digits", "interop.estimator"],
    "tqdm": ["train.callbacks"],
}
ON_TOP = {"click", "llvmlite", "numba", "sklearn"}  # the files of all but the first are imported on use

# fmt: off
FORBIDDEN_MODULES = {
    "_pickle", "builtins", "cPickle", "cloudpickle", "code", "ctypes", "dill", "joblib", "marshal", "multiprocessing",
    "pickle", "pty", "runpy", "shelve", "subprocess", "yaml",
}
# fmt: on
FORBIDDEN_CALLS = {"__import__", "compile", "eval", "exec", "print"}
FORBIDDEN_NAMES = {"ProcessPoolExecutor", "as_strided"}
FORBIDDEN_OF_OS = ("exec", "fork", "popen", "posix_spawn", "spawn", "system")  # what begins so starts a program


def module_name(path: Path) -> str:
    """nn.layers for src/stridenet/nn/layers.py, nn for nn/__init__.py."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


FILES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
every_file = pytest.mark.parametrize("name", FILES)


def imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Each imported module of `tree`, and whether it is imported when the file is."""
    later = {id(node) for block in ast.walk(tree) if runs_later(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", id(node) not in later) for alias in node.names)


def runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def upward_imports(name: str, tree: ast.AST, order: list[str]) -> list[str]:
    """The files of the package that file `name` may not import, and imports."""
    above, wrong = order[: order.index(name)], []
    for module, _ in imported(tree):
        if module.startswith("."):
            wrong.append(module)
        elif module.split(".")[0] == "stridenet":
            inner = module.partition(".")[2]
            target = inner if inner in order else inner.rpartition(".")[0]  # a module, or a name in one
            if target not in above:
                wrong.append(target or module)
    return wrong


def heavy_imports(name: str, tree: ast.AST) -> list[str]:
    """Packages that file `name` may not import, or not when it is imported itself."""
    wrong: list[str] = []
    for module, on_top in imported(tree):
        package = module.split(".")[0]
        allowed = any(name == file or name.startswith(f"{file}.") for file in HEAVY.get(package, [name]))
        if not allowed or (on_top and package in HEAVY.keys() - ON_TOP):
            wrong.append(package)
    return wrong


def offences(tree: ast.AST) -> Iterator[str]:
    """What `tree` does that no file of the package may do."""
    for module, _ in imported(tree):
        if module.split(".")[0] in FORBIDDEN_MODULES or module.split(".")[-1] in FORBIDDEN_NAMES:
            yield f"import {module}"
        if module.startswith("os.") and module[3:].startswith(FORBIDDEN_OF_OS):
            yield f"import {module}"
        if module.endswith(".*"):
            yield f"star import of {module}"
    for node in ast.walk(tree):
        match node:
            case ast.Assert():
                yield f"line {node.lineno}: assert"
            case ast.Call(func=ast.Name(id=called)) if called in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {called}()"
            case ast.Attribute(value=ast.Name(id="os"), attr=attr) if attr.startswith(FORBIDDEN_OF_OS):
                yield f"line {node.lineno}: os.{attr}"
            case ast.Attribute(attr=attr) if attr in FORBIDDEN_NAMES:
                yield f"line {node.lineno}: {attr}"
            case ast.keyword(arg="allow_pickle", value=value) if not is_false(value):
                yield f"line {node.lineno}: allow_pickle"
            case ast.arguments():
                yield from (f"line {d.lineno}: mutable default" for d in defaults(node) if is_mutable(d))
            case ast.FunctionDef(end_lineno=int(end)) if end - node.lineno >= 60:
                yield f"line {node.lineno}: {node.name} has over 60 lines"
            case _:
                pass


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def is_mutable(default: ast.expr) -> bool:
    if isinstance(default, ast.Call):
        return isinstance(default.func, ast.Name) and default.func.id in {"bytearray", "dict", "list", "set"}
    return isinstance(default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def test_every_file_has_its_place() -> None:
    assert sorted(ORDER) == sorted(FILES), "place the file in ORDER, or take its name out"


@every_file
def test_imports_go_upwards(name: str) -> None:
    assert upward_imports(name, ast.parse(FILES[name].read_text()), ORDER) == []


@every_file
def test_heavy_packages_are_imported_in_their_place(name: str) -> None:
    assert heavy_imports(name, ast.parse(FILES[name].read_text())) == []


@every_file
@pytest.mark.promise("F1a")
def test_no_file_does_what_none_may(name: str) -> None:
    assert list(offences(ast.parse(FILES[name].read_text()))) == []


@every_file
def test_files_are_short(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("from stridenet.b import x", ["b"]),
        ("import stridenet.c", ["c"]),
        ("from stridenet import c", ["c"]),
        ("def f():\n    from stridenet.c.d import x", ["c.d"]),
        ("from .a import x", [".a.x"]),
        ("import stridenet", ["stridenet"]),
        ("from stridenet.unknown import x", ["unknown"]),
        ("from stridenet.a import x\nfrom stridenet import a\nimport numpy", []),
    ],
)
def test_the_check_of_imports_sees(code: str, wrong: list[str]) -> None:
    assert upward_imports("b", ast.parse(code), ["a", "b", "c", "c.d"]) == wrong


@pytest.mark.parametrize(
    ("name", "code", "wrong"),
    [
        ("viz.plots", "def f():\n    from matplotlib.figure import Figure", []),
        ("viz.plots", "from matplotlib.figure import Figure", ["matplotlib"]),
        ("viz.plots", "if TYPE_CHECKING:\n    from matplotlib.figure import Figure", []),
        ("viz.plots", "if fast:\n    import matplotlib", ["matplotlib"]),
        ("nn.layers", "def f():\n    import matplotlib", ["matplotlib"]),
        ("cli.train", "import click", []),
        ("train", "import click", ["click"]),
        ("errors", "import numpy, os", []),
    ],
)
def test_the_check_of_heavy_packages_sees(name: str, code: str, wrong: list[str]) -> None:
    assert heavy_imports(name, ast.parse(code)) == wrong


@pytest.mark.parametrize(
    "code",
    [
        "assert x",
        "print(x)",
        "from numpy import *",
        "def f(x=[]): pass",
        "def f(*, x={}): pass",
        "lambda x=set(): x",
        "import pickle",
        "def f():\n    import joblib",
        "from ctypes import cdll",
        "import subprocess as s",
        "from yaml import load",
        "eval(x)",
        "exec(x)",
        "compile(x, y, z)",
        "__import__(x)",
        "os.system(x)",
        "os.popen(x)",
        "os.execv(x, y)",
        "os.spawnl(x, y)",
        "os.posix_spawn(x, y, z)",
        "os.fork()",
        "from os import system",
        "import builtins",
        "from multiprocessing import Process",
        "from concurrent.futures import ProcessPoolExecutor",
        "import cPickle, re",
        "import dill",
        "import marshal",
        "import shelve",
        "from numpy.lib.stride_tricks import as_strided",
        "np.lib.stride_tricks.as_strided(x)",
        "np.load(x, allow_pickle=True)",
        "np.load(x, allow_pickle=unsafe)",
        "def f():\n" + "    x = 1\n" * 60,
    ],
)
@pytest.mark.promise("F1a")
def test_the_check_of_offences_sees(code: str) -> None:
    assert len(list(offences(ast.parse(code)))) == 1


def test_the_check_of_offences_lets_the_rest_pass() -> None:
    code = "import re\nre.compile(x)\nnp.load(x, allow_pickle=False)\ndef f(x=(), *, y=None):\n" + "    x = 1\n" * 59
    assert list(offences(ast.parse(code))) == []
