"""The reference: every public name is described on some page, and nothing on it is wrong.

The layers, losses, optimisers, schedules, callbacks and transforms are found in the modules, so that a new one needs
its page; the rest are the public names.
"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stridenet as sn
from stridenet import Dataset, Flatten, Linear, Loader, Parameter, ParameterVector, ReLU, Sequential
from stridenet.communicator import SOLO
from stridenet.data.augment import Augmentation
from stridenet.data.steps import Step
from stridenet.data.transforms import Transform
from stridenet.errors import ConfigError
from stridenet.nn import init
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Activation
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.optim.schedules import constant
from stridenet.train.trainer import Callback
from stridenet.zoo.models import MODELS
from test_public_api import PUBLIC
from test_reading import NAME, resolve

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PICTURE = re.compile(r"^!\[([^\]]+)\]\(\.\./images/layers/(\w+)\.svg\)$", re.MULTILINE)
# What docs/extensions/code_tabs.py makes tabs of.
LISTED = re.compile(r"^- \[(\w+\.py)\]\((\S+)\): ((?:`[\w.]+`,\s+)*`[\w.]+`)\n", re.MULTILINE)
EXAMPLE = re.compile(r"^example: (\(.*\)) -> (\(.*\))$", re.MULTILINE)
RANGE = re.compile(r"(integer|number) (?:(>=?) (\S+?)|in ([\[(])(\S+), (\S+)([\])]))(?=[ ,]|$)")
FORMS = ["(N, C, H, W)", "(N, D)", "(N, K, ...)", "(N, ...)"]  # of a layer's input

SECTIONS = {  # in this order; others may stand between them
    "layer": ["Equation", "Shapes", "Arguments", "Example", "Code", "In PyTorch"],
    "loss": ["Equation", "Shapes", "Arguments", "Example", "Code", "In PyTorch"],
    "optimizer": ["Equation", "Slots", "Arguments", "Example", "Code", "In PyTorch"],
    "schedule": ["Equation", "Arguments", "Example", "Code", "In PyTorch"],
    **{kind: ["Arguments", "Example", "Code"] for kind in ("callback", "transform", "data", "network")},
    **{kind: ["Arguments", "Example", "Code"] for kind in ("training", "model")},
}


# What there is to describe.


def public(room: str, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    """What the files of a room define for others, by name."""
    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(import_module(f"stridenet.{room}").__path__):
        module = import_module(f"stridenet.{room}.{info.name}")
        for name, thing in vars(module).items():
            if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__ and wanted(thing):
                found[name] = thing
    return found


def kinds_of(*bases: type) -> Callable[[Any], bool]:
    """Whether something is a class that can be used, of one of `bases`."""
    apart = (*bases, Activation)
    return lambda thing: (
        isinstance(thing, type) and issubclass(thing, bases) and thing not in apart and not inspect.isabstract(thing)
    )


def makes_a_schedule(thing: Any) -> bool:
    return inspect.isfunction(thing) and thing.__annotations__.get("return") == "Schedule"


def takes_scores_and_targets(thing: Any) -> bool:
    return inspect.isfunction(thing) and list(inspect.signature(thing).parameters)[:2] == ["scores", "targets"]


THINGS: dict[str, dict[str, Any]] = {
    "layer": public("nn", kinds_of(Layer)),
    "loss": public("nn", takes_scores_and_targets),
    "optimizer": public("optim", kinds_of(Optimizer)),
    "schedule": public("optim", makes_a_schedule),
    "callback": {**public("train", kinds_of(Callback)), "Gradient clipping": ParameterVector.clip_grad},
    "transform": public("data", kinds_of(Transform, Augmentation)),
    "data": {name: getattr(sn, name) for name in ("Dataset", "Splits", "open_data", "Loader", "Pipeline")},
    "network": {
        **{name: getattr(sn, name) for name in ("Layer", "Parameter", "ParameterVector", "InferencePlan")},
        **{name: getattr(sn, name) for name in MODELS},
        "Start values": init.normal,
        "Kernels": sn.kernels.use,
    },
    "training": {name: getattr(sn, name) for name in ("Trainer", "evaluate", "Metrics", "Callback", "CheckpointStore")},
    "model": {name: getattr(sn, name) for name in ("Model", "load", "Framing")},
}
SHARED = {  # the pages that describe several
    "callback": "callbacks",
    "transform": "transforms",
    **{name: name for name in ("data", "network", "training", "model")},
}
WITH_MEMBERS = ("data", "network", "training", "model")  # kinds whose classes list what can be done with them


@dataclasses.dataclass(frozen=True)
class Entry:
    """A thing and what is written about it."""

    kind: str
    name: str
    thing: Any
    text: str

    def sections(self) -> dict[str, str]:
        """The text under each heading, in order; under "" what stands before the first."""
        level = "###" if self.kind in SHARED else "##"
        title, *rest = re.split(rf"^{level} (.+)\n", self.text, flags=re.MULTILINE)
        return {"": title, **dict(zip(rest[::2], rest[1::2], strict=True))}

    def summary(self) -> str:
        """The first paragraph, as one line."""
        return self.text.split("\n\n")[1].replace("\n", " ")


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text("utf-8")


def parts(name: str) -> dict[str, str]:
    """What a page that describes several says about each."""
    found = re.split(r"^## (.+)\n", page(name), flags=re.MULTILINE)
    return {name: f"{name}\n{text}" for name, text in zip(found[1::2], found[2::2], strict=True)}


def entries() -> Iterator[Entry]:
    for kind, things in THINGS.items():
        texts = parts(SHARED[kind]) if kind in SHARED else {name: page(name) for name in PAGES}
        for name, thing in things.items():
            yield Entry(kind, name, thing, texts.get(name, ""))


def table(text: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


# What each must say. A check gets an entry, so that a test can hand it a lie.


def check_sections(entry: Entry) -> None:
    sections = entry.sections()
    wanted = list(SECTIONS[entry.kind])
    if getattr(entry.thing, "whole_batch", False):
        wanted.insert(3, "In training and evaluation")
    assert [name for name in sections if name in {*wanted, "In training and evaluation"}] == wanted
    assert all(text.strip() for text in sections.values())
    assert entry.text.removeprefix("# ").startswith(f"{entry.name}\n\n")
    summary = entry.summary()
    assert summary.endswith(".")
    assert ". " not in summary  # one sentence
    formulas = FORMULA.findall(sections.get("Equation", ""))
    assert len(formulas) >= (2 if entry.kind in ("layer", "loss") else 0)


def check_layer_page(entry: Entry) -> None:
    """A layer has a picture that says what it shows, its equation in both directions, and the code of both."""
    if entry.kind != "layer":
        return
    sections = entry.sections()
    assert [name for _, name in PICTURE.findall(sections[""])] == [entry.name]
    assert len(PICTURE.findall(sections[""])[0][0]) >= 40
    assert (FOLDER.parent / "images" / "layers" / f"{entry.name}.svg").is_file()
    formulas = FORMULA.findall(sections["Equation"])
    assert any(re.match(r"(?!d)\\?\w", formula) for formula in formulas)
    assert any(re.search(r"\bdx\b|\bdx_", formula) for formula in formulas)
    listed = LISTED.findall(sections["Code"])
    names = [name for file, path, found in listed for name in check_listed(file, path, found)]
    assert any("backward" in name for name in names)
    assert any("backward" not in name for name in names)
    kernels = [file for file, path, _ in listed if "/kernels/" in path]
    assert kernels in ([], ["loops.py", "im2col.py"])


def check_listed(file: str, path: str, found: str) -> list[str]:
    """The functions and methods that a line of code lists; its file has them all."""
    target = (FOLDER / path).resolve()
    assert target.name == file
    assert target.is_relative_to(FOLDER.parents[1] / "src" / "stridenet")
    there: set[str] = set()
    for node in ast.parse(target.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            there |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            there.add(node.name)
    names = re.findall(r"`(.+?)`", found)
    assert {*names} <= there
    return names


def check_arguments(entry: Entry) -> None:
    """Each argument with its default, and no other."""
    signature, text = arguments_of(entry.thing), entry.sections()["Arguments"]
    assert signature or text.strip().startswith("None.")
    rows = {row[0].strip("`"): row[1] for row in table(text)}
    stars = {name: "*" * (p.kind is p.VAR_POSITIONAL) + name for name, p in signature.items()}
    assert list(rows) == list(stars.values())
    for name, parameter in signature.items():
        check_default(rows[stars[name]], parameter)


def check_default(text: str, parameter: inspect.Parameter) -> None:
    default = parameter.default
    if parameter.kind is parameter.VAR_POSITIONAL:
        assert text == "none"
    elif default is parameter.empty:
        assert text == "required"
    elif default is SOLO:
        assert text == "`SOLO`"
    elif callable(default):
        assert text.strip("`").rpartition(".")[2] == default.__name__
    else:
        said = ast.literal_eval(text.strip("`"))
        assert (said, type(said)) == (default, type(default))


def arguments_of(thing: Any) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(thing).parameters.items() if name != "self"}


def check_members(entry: Entry) -> None:
    """Each method with its arguments, and no other; the attributes are there."""
    sections, thing = entry.sections(), entry.thing
    assert ("Members" in sections) == (entry.kind in WITH_MEMBERS and isinstance(thing, type))
    if "Members" not in sections:
        return
    names = [name for row in table(sections["Members"]) for name in re.findall(r"`(.+?)`", row[0])]
    public = [name for name in vars(thing) if not name.startswith("_")]
    methods = {name for name in public if inspect.isroutine(getattr(thing, name))}
    assert sorted(name for name in names if "(" in name) == sorted(called(thing, name) for name in methods)
    others = {name for name in names if "(" not in name}
    assert {*public} - methods - arguments_of(thing).keys() <= others  # properties and what all have in common
    found = next(value for value in run_examples(page(SHARED[entry.kind])).values() if isinstance(value, thing))
    assert [name for name in others if not hasattr(found, name)] == []


def called(thing: type, name: str) -> str:
    """A method and its arguments, as the table has them: "fit(train, validation=None, *, epochs)"."""
    signature = inspect.signature(getattr(thing, name))
    own = isinstance(inspect.getattr_static(thing, name), classmethod | staticmethod)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()][0 if own else 1 :]
    return f"{name}{signature.replace(parameters=parameters, return_annotation=signature.empty)}"


def check_ranges(entry: Entry) -> None:
    """What the table allows is taken, at both ends of a range too, and what lies just beyond is refused."""
    signature = arguments_of(entry.thing)
    for name, _, allowed, *_ in table(entry.sections()["Arguments"]):
        good, bad = probes(allowed)
        default = signature[name.strip("`*")].default
        assert good or "unchecked" in allowed or not isinstance(default, bool | int | float)
        for value in good:
            use(entry, {name.strip("`"): value})
        taken = [value for value in bad if not is_refused(entry, name.strip("`"), value)]
        assert taken == [], f"{entry.name}: {name}, {allowed}"


def probes(allowed: str) -> tuple[list[Any], list[Any]]:
    """Values that are just allowed and values that are just not; none for what has no range."""
    if allowed == "True or False":
        return [True, False], [2, "yes"]
    if allowed.startswith('"'):
        return re.findall(r'"(\w+)"', allowed), ["another", None]
    found = RANGE.match(allowed)
    if found is None:
        return [], []
    kind, sign, bound, left, low, high, right = found.groups()
    if kind == "integer":
        good, bad = around_integer(int(bound) + (sign == ">"), pairs="a pair" in allowed)
    else:
        good, bad = around(float(bound or low), is_open=sign == ">" or left == "(", inwards=math.inf)
        if high:
            good, bad = map(list.__add__, (good, bad), around(float(high), is_open=right == ")", inwards=-math.inf))
        bad += [math.nan, math.inf, True, "1"]
    good += [constant(0.5)] * ("schedule" in allowed) + ["same"] * ('"same"' in allowed)
    return good, bad if "None" in allowed else [*bad, None]


def around_integer(lowest: int, *, pairs: bool) -> tuple[list[Any], list[Any]]:
    good, bad = [lowest, lowest + 1], [lowest - 1, lowest + 0.5, True, "1"]
    if pairs:
        good, bad = [*good, (lowest, lowest + 1)], [*bad, (lowest, lowest - 1), (lowest, lowest, lowest)]
    return good, bad


def around(end: float, *, is_open: bool, inwards: float) -> tuple[list[Any], list[Any]]:
    """The numbers next to an end of a range."""
    inside, outside = [math.nextafter(end, inwards)], [math.nextafter(end, -inwards)]
    return (inside, [*outside, end]) if is_open else ([*inside, end], outside)


# What a thing is called with where only one argument matters.
NETWORK = Sequential(Flatten(), Linear(4, 2, rng=np.random.default_rng(0)))
DATASET = Dataset(np.zeros((3, 1, 2, 2), np.uint8), np.array([0, 1, 0]), ("cat", "dog"))
# fmt: off
NEEDED: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "kernel_size": 3, "in_features": 4, "out_features": 4, "num_features": 4,
    "rng": np.random.default_rng(0), "body": ReLU(), "scores": np.zeros((2, 3)), "targets": np.array([0, 1]),
    "self": ParameterVector({}), "params": ParameterVector({"weight": Parameter(np.zeros(3))}), "lr": 0.1,
    "value": 0.5, "total": 10, "factor": 0.5, "peak": 0.5, "schedule": constant(0.5), "steps_per_epoch": 2,
    "steps": 2, "epochs": 2, "echo": print, "store": None, "identity": {}, "seconds": 1.0, "norm": 1.0,
    "network": NETWORK, "optimizer": SGD(NETWORK.pack(), 0.1), "dataset": DATASET, "batch_size": 2, "folder": ".",
    "data": Loader(DATASET, 2), "source": "digits", "mean": [0.0], "std": [1.0], "padding": 1, "size": 2, "pixels": 1,
    "alpha": 1.0, "sigma": 1.0, "channels": 4, "table": [[0, 1], [2, 3]], "milestones": [1], "factors": [0.5],
    "train": Loader(DATASET, 2),
}
TOGETHER: dict[str, dict[str, Any]] = {
    "RandomFlip": {"vertical": True}, "SGD": {"momentum": 0.5}, "SubtractMean": {"mean": [[[0.0]]]},
    "Start values": {"std": 1.0}, "step_decay": {"every": 2},
}
# fmt: on


def use(entry: Entry, given: dict[str, Any]) -> Any:
    """Call the thing with `given`, and what else it needs."""
    parameters = inspect.signature(entry.thing).parameters.values()
    required = {p.name: NEEDED[p.name] for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    return entry.thing(**{**required, **TOGETHER.get(entry.name, {}), **given})


def is_refused(entry: Entry, name: str, value: Any) -> bool:
    try:
        use(entry, {name: value})
    except ConfigError:
        return True
    return False


def check_code(entry: Entry) -> None:
    """The section on the code begins with the full name; a transform has the name that a recipe calls it by."""
    text, thing = entry.sections()["Code"], entry.thing
    assert text.strip().startswith(f"`{thing.__module__}.{thing.__qualname__}`")
    if entry.kind == "transform":
        assert issubclass(thing, Step)
        assert f"in a recipe `{thing.name}`" in text


def check_shapes(entry: Entry) -> None:
    """The tables of shapes and slots."""
    special = {"layer": check_layer, "loss": check_loss, "optimizer": check_slots}
    special.get(entry.kind, lambda _: None)(entry)


def check_layer(entry: Entry) -> None:
    """The shapes of the example, of the table and of the parameters agree with each other and with the layer."""
    text, layer = entry.sections()["Shapes"], run_examples(entry.text)["layer"]
    assert type(layer) is entry.thing
    example = EXAMPLE.search(text)
    assert example is not None
    given, wanted = map(ast.literal_eval, example.groups())
    assert layer.output_shape(given) == wanted
    x = np.ones((2, *given), np.float32)
    y = layer.forward(x)
    assert y.shape == (2, *wanted)

    rows = {row[0].split("`")[1]: row[1:] for row in table(text)}
    inside = {} if layer.children() else dict(layer.named_parameters())
    assert list(rows) == ["x", "y", *inside]
    sizes = {"N": 2, "groups": getattr(layer, "groups", 1)}
    if rows["x"][0].startswith("`"):
        assert rows["x"][0].strip("`") in FORMS
        check_shape(rows["x"][0], x.shape, sizes, new="CDHKW")
    if rows["y"][0].startswith("`"):
        check_shape(rows["y"][0], y.shape, sizes, new="PQ" if y.shape[1] == x.shape[1] else "KPQ")
    for name, parameter in inside.items():
        check_shape(rows[name][0], parameter.value.shape, sizes, new="MRS")
    if inside:
        check_starts(entry, {name: rows[name][1].strip("`") for name in inside})


def check_starts(entry: Entry, starts: dict[str, str]) -> None:
    numbers = {"zeros": 0, "ones": 1, "init": 7, "init / 4": 7 / 4}
    drawn = any(start.startswith("init") for start in starts.values())
    init = {"init": lambda rng, shape: np.full(shape, 7, np.float32)} if drawn else {}
    fresh = dict(use(entry, init).named_parameters())
    for name, start in starts.items():
        assert (fresh[name].value == numbers[start]).all(), name


def check_shape(said: str, shape: tuple[int, ...], sizes: dict[str, Any], *, new: str = "") -> None:
    """`said` such as "(N, C / groups)" is `shape`; letters of `new` that have no size yet get theirs."""
    words = [word.strip() for word in said.strip("`()").split(",") if word.strip()]
    if words[-1:] == ["..."]:
        assert sizes.setdefault("...", shape[len(words) - 1 :]) == shape[len(words) - 1 :]
        words, shape = words[:-1], shape[: len(words) - 1]
    assert len(words) == len(shape), said
    for word, size in zip(words, shape, strict=True):
        if word in list(new):
            sizes.setdefault(word, size)
        assert {*re.findall("[A-Z]", word)} <= sizes.keys(), said
        assert eval(word, {}, sizes) == size, said


def check_loss(entry: Entry) -> None:
    """The arrays of the example have the shapes of the table."""
    names = run_examples(entry.text)
    rows = {row[0].strip("`"): row[1] for row in table(entry.sections()["Shapes"])}
    assert list(rows) == ["scores", "targets", "weights", "loss", "dscores"]
    assert type(names["loss"]) is float
    sizes = dict(zip("NK", names["scores"].shape, strict=True))
    weights = np.ones(sizes["N"])
    entry.thing(names["scores"], names["targets"], weights)
    for name, said in rows.items():
        check_shape(said, np.shape(names.get(name, weights)), sizes)


def check_slots(entry: Entry) -> None:
    """Which slots there are, when, and what they start as."""
    rows = table(entry.sections()["Slots"])
    optional = [{}, {"momentum": 0.9}, {"centered": True}, {"initial_accumulator_value": 0.5}]
    signature = arguments_of(entry.thing)
    for options in [option for option in optional if option.keys() <= signature.keys()]:
        optimizer = use(entry, {"momentum": 0.0, **options} if "momentum" in signature else options)
        values = {name: p.default for name, p in signature.items()} | options
        slots = {name: slot for name, slot in optimizer.state_dict().items() if name != "t"}
        there = [row for row in rows if row[3] == "always" or eval(row[3].strip("`"), {}, values)]
        assert {row[0].strip("`") for row in there} == slots.keys()
        for name, said, start, _ in there:
            slot = slots[name.strip("`")]
            check_shape(said, slot.shape, {"P": len(optimizer.params)})
            assert (slot == (0 if start == "zeros" else values[start.strip("`")])).all()


@cache
def run_examples(text: str) -> dict[str, Any]:
    """Run all examples of a page, one after another; they print what they say. What they leave behind."""
    code = "\n".join(BLOCK.findall(text))
    test = doctest.DocTestParser().get_doctest(code, {}, "examples", None, None)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
    assert result.attempted > 0
    assert result.failed == 0
    return test.globs


CHECKS = [check_sections, check_layer_page, check_arguments, check_members, check_ranges, check_code, check_shapes]
ENTRIES = list(entries())
BY_NAME = {entry.name: entry for entry in ENTRIES}


def test_each_has_its_page_and_each_page_has_one() -> None:
    alone = {name for kind, things in THINGS.items() if kind not in SHARED for name in things}
    assert set(PAGES) == {"index", *SHARED.values(), *alone}
    for kind, name in SHARED.items():
        assert parts(name).keys() == THINGS[kind].keys()
    assert len(ENTRIES) >= 50


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry(entry: Entry, check: Callable[[Entry], None]) -> None:
    check(entry)


@pytest.mark.parametrize("name", [name for name in PAGES if name != "index"])
def test_examples(name: str) -> None:
    run_examples(page(name))


def test_the_index_has_all_of_them() -> None:
    rows = [line for line in page("index").splitlines() if line.startswith("| [")]
    wanted = []
    for entry in ENTRIES:
        slug = entry.name.lower().replace(" ", "-")
        target = f"{SHARED[entry.kind]}.md#{slug}" if entry.kind in SHARED else f"{entry.name}.md"
        wanted.append(f"| [{entry.name}]({target}) | {entry.summary()} |")
    assert sorted(rows) == sorted(wanted)


def test_every_public_name_is_described() -> None:
    rows = re.findall(r"^\| `stridenet\.(\w+)` \| .+ \|$", page("index"), re.MULTILINE)
    assert sorted({*PUBLIC} - BY_NAME.keys()) == sorted(rows)


def test_start_values_are_spread_as_their_table_says() -> None:
    rows = table(parts("network")["Start values"])[:7]
    functions = {name for name, thing in vars(init).items() if getattr(thing, "__module__", "") == init.__name__}
    assert {row[0].strip("`") for row in rows} == functions - {"fans"}
    shape = 40, 20, 5, 5
    fan_in, fan_out = init.fans(shape)
    for name, _, spread, _ in rows:
        wanted = eval(spread.strip("`"), {"fan_in": fan_in, "fan_out": fan_out, "std": 0.3})
        function = getattr(init, name.strip("`"))
        values = (function(0.3) if name == "`normal`" else function)(np.random.default_rng(0), shape)
        assert float(values.std()) == pytest.approx(wanted, rel=0.02), name


def test_the_rows_of_a_history_have_the_keys_of_their_table() -> None:
    rows = table(BY_NAME["Trainer"].sections()["Rows"])
    assert [row[0].strip("`") for row in rows] == list(run_examples(page("training"))["history"][0])


@pytest.mark.parametrize("name", PAGES)
def test_every_link_and_name_leads_somewhere(name: str) -> None:
    for link in LINK.findall(BLOCK.sub("", page(name))):
        target, _, anchor = link.partition("#")
        assert not target or (FOLDER / target).is_file(), link
        if target and not target.endswith(".md"):
            continue
        text = page(target.removesuffix(".md") or name)
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], link
    for full in NAME.findall(page(name)):
        resolve(full)


@pytest.mark.parametrize("name", PAGES)
def test_formulas_can_be_drawn(name: str) -> None:
    """Each is closed, and has nothing that GitHub reads as Markdown or HTML."""
    prose = BLOCK.sub("", page(name))
    rest = FORMULA.sub("", prose)
    assert "$$" not in rest
    assert all(paragraph.count("$") % 2 == 0 for paragraph in rest.split("\n\n"))
    for formula in [*FORMULA.findall(prose), *re.findall(r"\$([^$]+)\$", rest)]:
        assert formula.count("{") == formula.count("}"), formula
        assert len(re.findall(r"\\left\b", formula)) == len(re.findall(r"\\right\b", formula)), formula
        assert not re.search(r"\\[^A-Za-z]|[<*`]", formula), formula


LIES: list[tuple[Callable[[Entry], Any], str, str, str]] = [
    (check_sections, "ReLU", "## Shapes", "## Sizes"),
    (check_sections, "Dropout", "## In training and evaluation", "## Otherwise"),
    (check_layer_page, "Tanh", "layers/Tanh.svg", "layers/Sigmoid.svg"),
    (check_layer_page, "Linear", "![Three rows", "![](../images/layers/Linear.svg)\n\n[Three rows"),
    (check_layer_page, "Conv2d", "$$dx_{nchw}", "$$g_{nchw}"),
    (check_layer_page, "Conv2d", "`taps`, `conv2d`, `conv2d_backward`", "`taps`, `conv2d`, `backward`"),
    (check_layer_page, "AvgPool2d", "- [im2col.py]", "- im2col.py"),
    (check_layer_page, "RBF", "`RBF.forward`, ", ""),
    (check_arguments, "Conv2d", "| `stride` | `1` |", "| `stride` | `2` |"),
    (check_arguments, "Adam", "| `eps` | `1e-8` |", "| `eps` | `1e-7` |"),
    (check_arguments, "LeakyReLU", "| `negative_slope`", "| `slope`"),
    (check_arguments, "Linear", "`he_normal`", "`lecun_normal`"),
    (
        check_members,
        "Trainer",
        "| `fit(train, validation=None, *, epochs)` |",
        "| `fit(train, validation, *, epochs)` |",
    ),
    (check_members, "Trainer", "| `finished` |", "| `is_finished` |"),
    (check_members, "Dataset", "`subset(indices)`", "`take(indices)`"),
    (check_members, "Parameter", "| `grad` |", "| `gradient` |"),
    (check_members, "Layer", "### Members", "### Methods"),
    (check_ranges, "BatchNorm2d", "number in [0, 1]", "number in [0, 1)"),
    (check_ranges, "Dropout", "number in [0, 1)", "number in [0, 1]"),
    (check_ranges, "SGD", "| required | number > 0", "| required | number >= 0"),
    (check_ranges, "EarlyStopping", "integer >= 1", "integer >= 0"),
    (check_ranges, "AdamW", "| number > 0 or a schedule |", "| number > 1 or a schedule |"),
    (check_code, "hinge", "nn.losses.hinge", "nn.losses.mse"),
    (check_code, "Pad", "`pad`", "`frame`"),
    (check_shapes, "Conv2d", "-> (6, 28, 20)", "-> (6, 28, 21)"),
    (check_shapes, "Conv2d", "(K, C / groups, R, S)", "(C / groups, K, R, S)"),
    (check_shapes, "BatchNorm2d", "| `running_var` | `(C,)` | ones |", "| `running_var` | `(C,)` | zeros |"),
    (check_shapes, "Linear", "| `bias` | `(K,)` | zeros |\n", ""),
    (check_shapes, "mse", "| `dscores` | `(N, K)`", "| `dscores` | `(K, N)`"),
    (check_shapes, "RMSprop", "`not centered`", "`centered`"),
    (check_shapes, "Adagrad", "| `initial_accumulator_value` | always", "| zeros | always"),
    (lambda entry: run_examples(entry.text), "cosine", "0.3414", "0.3415"),
]


@pytest.mark.parametrize(("check", "name", "truth", "lie"), LIES)
def test_a_lie_is_found(check: Callable[[Entry], Any], name: str, truth: str, lie: str) -> None:
    text = BY_NAME[name].text
    assert truth in text
    with pytest.raises((AssertionError, ConfigError)):
        check(dataclasses.replace(BY_NAME[name], text=text.replace(truth, lie, 1)))


@pytest.mark.peer
def test_every_name_of_pytorch_exists() -> None:
    torch = pytest.importorskip("torch")
    names = {full for name in PAGES for full in re.findall(r"`(torch(?:\.\w+)+)`", page(name))}
    assert len(names) >= 39
    for full in names:
        found: Any = torch
        for part in full.split(".")[1:]:
            found = getattr(found, part)
