"""Weights of PyTorch find their places, all of them or none; the names are those that PyTorch gives."""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from helpers import normwise
from stridenet.errors import ConfigError, WeightsFormatError, WeightsMismatchError
from stridenet.interop.torch_weights import compare_with_torch, load_torch_weights
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU, Tanh
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Residual, Sequential
from stridenet.zoo.models import lenet5, resnet20


def small(*, seed: int = 0) -> Sequential:
    """Two convolutions of one shape, each with batch norm, and a Linear."""
    rng = np.random.default_rng(seed)
    return Sequential(
        *(Conv2d(3, 3, 3, padding=1, bias=False, rng=rng), BatchNorm2d(3), ReLU()),
        *(Conv2d(3, 3, 3, padding=1, bias=False, rng=rng), BatchNorm2d(3), ReLU()),
        *(Flatten(), Linear(48, 5, rng=rng)),
        input_shape=(3, 4, 4),
    )


TORCH = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "fc": "7"}


def renamed(network: Layer, names: dict[str, str]) -> dict[str, Array]:
    """Other values for the parameters of `network`, under the names of modules."""
    modules, rng = {layer: module for module, layer in names.items()}, np.random.default_rng(1)
    state: dict[str, Array] = {}
    for name, value in network.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        state[f"{modules[layer]}.{leaf}"] = rng.uniform(0.1, 1, value.shape).astype(value.dtype)
        if leaf == "running_mean":
            state[f"{modules[layer]}.num_batches_tracked"] = np.array(7)
    return state


def written(path: Path, state: dict[str, Array]) -> Path:
    (path / "w.safetensors").write_bytes(save({name: np.array(value) for name, value in state.items()}))
    return path / "w.safetensors"


def holds(network: Layer, state: dict[str, Array], names: dict[str, str]) -> bool:
    own = network.state_dict()
    places = {f"{names[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": v for n, v in state.items()}
    return all(np.array_equal(own[name], places[name], equal_nan=True) for name in own)


@pytest.mark.parametrize(
    ("names", "how"),
    [
        ({layer: layer for layer in TORCH.values()}, {"name"}),
        (TORCH, {"order", "shape"}),
        (dict(zip([f"net.{i}" for i in (2, 4, 9, 10, 11)], TORCH.values(), strict=True)), {"order", "shape"}),
        ({"1.conv": "0", "1.bn": "1", "2.conv": "3", "2.bn": "4", "head": "7"}, {"order", "shape"}),
    ],
)  # fmt: skip
def test_modules_find_their_layers(names: dict[str, str], how: set[str], tmp_path: Path) -> None:
    network = small()
    state = renamed(network, names)
    report = load_torch_weights(network, written(tmp_path, state))
    assert holds(network, state, names)
    assert {match.how for match in report.matched} == how
    assert [match.parameter for match in report.matched] == list(network.state_dict())
    assert (report.missing, report.unexpected) == ([], [])
    assert sorted(report.ignored) == sorted(name for name in state if name.endswith("tracked"))


def test_numbers_are_numbers(tmp_path: Path) -> None:
    """Module 10 comes after module 9, wherever the file has it."""
    rng = np.random.default_rng(0)
    network = Sequential(*(Linear(4, 4, rng=rng) for _ in range(12)))
    names = {f"fc{i + 1}": str(i) for i in range(12)}
    state = renamed(network, names)
    load_torch_weights(network, written(tmp_path, state))
    assert holds(network, state, names)


def test_names_that_some_share_by_chance_mean_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = Sequential(*(Linear(4, 4, rng=rng) for _ in range(3)))
    names = {"1": "0", "2": "1", "3": "2"}
    state = renamed(network, names)
    load_torch_weights(network, written(tmp_path, state))
    assert holds(network, state, names)


@pytest.mark.parametrize("names", [("first", "second"), ("down", "up"), ("conv1", "shortcut1")])
def test_an_order_that_the_names_do_not_tell_is_not_guessed(names: tuple[str, str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = Sequential(Linear(4, 4, rng=rng), Linear(4, 4, rng=rng), Linear(4, 1, rng=rng))
    places = {names[0]: "1", names[1]: "0", "last": "2"}
    state = renamed(network, places)
    before = network.state_dict()
    with pytest.raises(WeightsMismatchError, match=r"'0\.\*' is missing.*names= says which module is which layer"):
        load_torch_weights(network, written(tmp_path, state))
    assert same(before, network.state_dict())
    load_torch_weights(network, written(tmp_path, state), names={names[0]: "1"})  # the other is the only one left
    assert holds(network, state, places)


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_one_layer_has_no_name(tmp_path: Path) -> None:
    network = Linear(3, 2, rng=np.random.default_rng(0))
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    report = load_torch_weights(network, written(tmp_path, {"weight": weight, "bias": np.ones(2, np.float32)}))
    assert np.array_equal(network.weight.value, weight)
    assert [match.how for match in report.matched] == ["name", "name"]


def test_the_report_is_a_table(tmp_path: Path) -> None:
    network = Sequential(
        Conv2d(1, 2, 3, rng=np.random.default_rng(0)), BatchNorm2d(2), Linear(2, 1, rng=np.random.default_rng(0))
    )
    state = renamed(network, {"conv": "0", "bn": "1", "fc": "2"})
    state["aux.weight"] = np.zeros((4, 4), np.float32)
    del state["fc.weight"], state["fc.bias"]
    report = load_torch_weights(network, written(tmp_path, state), strict=False)
    assert str(report).splitlines() == [
        "PyTorch                 stridenet       shape    matched by",
        "conv.weight             0.weight        2x1x3x3  shape",
        "conv.bias               0.bias          2        shape",
        "bn.weight               1.weight        2        shape",
        "bn.bias                 1.bias          2        shape",
        "bn.running_mean         1.running_mean  2        shape",
        "bn.running_var          1.running_var   2        shape",
        "-                       2.weight                 missing",
        "-                       2.bias                   missing",
        "aux.weight              -                        unexpected",
        "bn.num_batches_tracked  -                        ignored",
    ]  # fmt: skip


def test_without_strict_the_rest_stays(tmp_path: Path) -> None:
    """A head of other classes: by name, as in PyTorch; what has no match is reported and left."""
    network, names = small(), {layer: layer for layer in TORCH.values()}
    state = renamed(network, names)
    head = network.state_dict()["7.weight"]
    del state["7.weight"], state["7.bias"]
    with pytest.raises(WeightsMismatchError, match=r"'7\.\*' is missing"):
        load_torch_weights(network, written(tmp_path, state))
    report = load_torch_weights(network, written(tmp_path, state), strict=False)
    assert report.missing == ["7.weight", "7.bias"]
    assert np.array_equal(network.state_dict()["7.weight"], head)
    assert np.array_equal(network.state_dict()["3.weight"], state["3.weight"])


@pytest.mark.parametrize(
    ("network_type", "file_type", "fits"),
    [
        ("float32", "float32", True),
        ("float32", "float16", True),
        ("float64", "float32", True),
        ("float64", "float64", True),
        ("float32", "float64", False),
        ("float32", "int64", False),
        ("float64", "int8", False),
        ("float32", "bool", False),
    ],
)
@pytest.mark.promise("S05", "S08")
def test_types_are_widened_and_never_rounded(network_type: str, file_type: str, fits: bool, tmp_path: Path) -> None:
    network = small().astype(network_type)
    state = {name: value.astype(file_type) for name, value in renamed(small(), TORCH).items() if "num" not in name}
    before, path = network.state_dict(), written(tmp_path, state)
    if fits:
        load_torch_weights(network, path)
        assert network.state_dict()["0.weight"].dtype == network_type
        assert holds(network, state, TORCH)
    else:
        with pytest.raises(WeightsMismatchError, match=rf"'conv1.weight' for '0.weight' is \(3, 3, 3, 3\) {file_type}"):
            load_torch_weights(network, path)
        assert same(before, network.state_dict())


def faulty() -> list[tuple[str, dict[str, Array], str]]:
    state = renamed(small(), {layer: layer for layer in TORCH.values()})
    without = {name: value for name, value in state.items() if name != "4.bias"}
    turned = {**state, "7.weight": state["7.weight"].T}
    flat = {**state, "0.weight": state["0.weight"].reshape(3, 27)}
    upper = {name.replace("7.weight", "7.Weight"): value for name, value in state.items()}
    return [
        ("missing", without, "'4.bias' is missing"),
        ("extra", {**state, "4.scale": np.ones(3, np.float32)}, "'4.scale' is unexpected"),
        ("another module", {**state, "8.weight": np.ones(3, np.float32)}, "'8.weight' is unexpected"),
        ("turned", turned, "'7.weight' for '7.weight' is (48, 5) float32, expected (5, 48) float32"),
        ("flat", flat, "'0.weight' for '0.weight' is (3, 27) float32, expected (3, 3, 3, 3) float32"),
        ("upper", upper, "'7.weight' is missing; '7.Weight' is unexpected"),
        ("nothing", {}, "'0.weight' is missing; '1.*' is missing; '3.weight' is missing"),
        ("two faults", {**turned, **flat, "7.weight": turned["7.weight"]}, "'7.weight' for '7.weight' is"),
    ]


@pytest.mark.promise("F6", "S08")
@pytest.mark.parametrize(("state", "said"), [case[1:] for case in faulty()], ids=[case[0] for case in faulty()])
def test_all_or_nothing(state: dict[str, Array], said: str, tmp_path: Path) -> None:
    network = small()
    before, path = network.state_dict(), written(tmp_path, state)
    with pytest.raises(WeightsMismatchError, match=f"^{re.escape(str(path))}: .*{re.escape(said)}"):
        load_torch_weights(network, path)
    assert same(before, network.state_dict())


@pytest.mark.promise("S09")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite(value: float, tmp_path: Path) -> None:
    network, state = small(), renamed(small(), TORCH)
    state["fc.bias"][2] = value
    before, path = network.state_dict(), written(tmp_path, state)
    with pytest.raises(WeightsFormatError, match=r"'fc.bias' with finite numbers"):
        load_torch_weights(network, path)
    assert same(before, network.state_dict())
    load_torch_weights(network, path, allow_nonfinite=True)
    assert holds(network, state, TORCH)


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    """A pickle is never read; the message says what to write instead."""
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    for data in (path.read_bytes(), pickle.dumps({"weight": 1})):
        path.write_bytes(data)
        with pytest.raises(
            WeightsFormatError, match=r"got a pickle, which is never read; write safetensors\.torch\.sa"
        ):
            load_torch_weights(small(), path)
    for data in (b"", b"\x89PNG\r\n\x1a\n" * 9, written(tmp_path, renamed(small(), TORCH)).read_bytes()[:-1]):
        path.write_bytes(data)
        with pytest.raises(WeightsFormatError, match=re.escape(str(path))):
            load_torch_weights(small(), path)
    with pytest.raises(FileNotFoundError):
        load_torch_weights(small(), tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        load_torch_weights(small(), tmp_path)


def test_what_is_no_network_and_what_is_no_file() -> None:
    """A module of PyTorch is no network of ours; a state_dict is to be saved first."""
    with pytest.raises(ConfigError, match=r"expected network as a stridenet network, got builtins\.object$"):
        load_torch_weights(object(), "w.safetensors")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"got a state_dict; safetensors\.torch\.save_file\(module\.state_dict\(\), pa"
    ):
        load_torch_weights(small(), small().state_dict())  # type: ignore[arg-type]


def test_a_header_that_begins_as_a_pickle_does(tmp_path: Path) -> None:
    """Its length in bytes comes first: 128 is 80 hexadecimal, 640 is 80 02."""
    network = Linear(1, 1, bias=False, rng=np.random.default_rng(0))
    for length, start in ((128, b"\x80\0"), (640, b"\x80\x02")):
        header = b'{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'.ljust(length)
        (tmp_path / "w").write_bytes(length.to_bytes(8, "little") + header + np.float32(length).tobytes())
        assert (tmp_path / "w").read_bytes().startswith(start)
        load_torch_weights(network, tmp_path / "w")
        assert network.weight.value.item() == length


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"conv9": "0"}, "names: expected one of bn1, bn2, conv1, conv2, fc, got 'conv9'"),
        ({"conv1": "2"}, "names: expected one of 0, 1, 3, 4, 7, got '2'"),
        ({"conv1": "0", "conv2": "0"}, "names: expected each layer once"),
    ],
)
def test_wrong_names(names: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        load_torch_weights(small(), written(tmp_path, renamed(small(), TORCH)), names=names)


# With PyTorch


@pytest.fixture(scope="module")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


def torch_lenet(torch: Any) -> Any:
    nn, F = torch.nn, torch.nn.functional

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc3, self.fc2, self.fc1 = nn.Linear(84, 10), nn.Linear(120, 84), nn.Linear(256, 120)
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = F.relu(self.fc1(x.flatten(1)))  # the order of our Flatten: channel by channel, row by row
            return self.fc3(F.relu(self.fc2(x)))

    return LeNet()


def torch_block(torch: Any) -> Any:
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)
            self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            self.downsample = nn.Sequential(nn.Conv2d(2, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4))
            self.fc = nn.Linear(4 * 3 * 3, 5)

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
            return self.fc(nn.functional.relu(y + self.downsample(x)).flatten(1))

    block = Block()
    block(torch.randn(8, 2, 6, 6))  # running statistics that are not 0 and 1
    return block


def our_block() -> Sequential:
    rng = np.random.default_rng(0)
    body = Sequential(
        *(Conv2d(2, 4, 3, stride=2, padding=1, bias=False, rng=rng), BatchNorm2d(4), ReLU()),
        *(Conv2d(4, 4, 3, padding=1, bias=False, rng=rng), BatchNorm2d(4)),
    )
    shortcut = Sequential(Conv2d(2, 4, 1, stride=2, bias=False, rng=rng), BatchNorm2d(4))
    return Sequential(Residual(body, shortcut), ReLU(), Flatten(), Linear(36, 5, rng=rng), input_shape=(2, 6, 6))


BLOCK = {"bn1": "0.body.1", "bn2": "0.body.4", "downsample.1": "0.shortcut.1"}  # three of one shape: names say which


def saved(module: Any, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(module.state_dict(), path / "w.safetensors")
    return path / "w.safetensors"


@pytest.mark.peer
@pytest.mark.parametrize("case", ["lenet", "block"])
def test_a_network_of_pytorch_gives_its_scores_here(case: str, torch: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = {"lenet": torch_lenet, "block": torch_block}[case](torch)
    network = {"lenet": lenet5(rng=np.random.default_rng(0)), "block": our_block()}[case]
    names = {"lenet": None, "block": BLOCK}[case]
    report = load_torch_weights(network, saved(module, tmp_path), names=names)
    module.eval(), network.eval()
    assert (report.missing, report.unexpected) == ([], [])
    x = np.random.default_rng(2).random((5, *(network.input_shape or ())), np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    assert normwise(network.forward(x), wanted) <= 1e-5
    comparison = compare_with_torch(network, module, x, names=names)
    assert [row.layer for row in comparison.rows[:-1]] == list(
        dict.fromkeys(m.parameter.rpartition(".")[0] for m in report.matched)
    )
    assert max(row.value for row in comparison.rows) <= 1e-5
    assert not any(m._forward_hooks for m in module.modules())


@pytest.mark.peer
def test_the_first_row_that_differs_is_the_layer_at_fault(torch: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch_lenet(torch)
    wrong = lenet5(rng=np.random.default_rng(0))
    layers = list(wrong.layers)
    layers[4] = Tanh()  # behind the second convolution
    wrong = Sequential(*layers, input_shape=(1, 28, 28))
    load_torch_weights(wrong, saved(module, tmp_path))
    x = np.random.default_rng(2).random((3, 1, 28, 28), np.float32)
    comparison = compare_with_torch(wrong.eval(), module.eval(), x)
    assert [row.value > 1e-3 for row in comparison.rows] == [False, False, True, True, True, True]
    head, first, *_, last = str(comparison).splitlines()
    assert head.split() == ["PyTorch", "stridenet", "output", "difference"]
    assert re.fullmatch(r"conv1 +0 +3x6x24x24 +\d\.\de-0[78]", first)
    assert re.fullmatch(r"all +all +3x10 +\d\.\de[-+]\d\d", last)


@pytest.mark.peer
def test_outputs_of_other_shapes_and_wrong_modes(torch: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(32, 2)).eval()
    rng = np.random.default_rng(0)
    network = Sequential(Conv2d(1, 2, 3, rng=rng), MaxPool2d(1), Flatten(), Linear(32, 2, rng=rng)).eval()
    x = np.zeros((1, 1, 4, 4), np.float32)
    with pytest.raises(ConfigError, match=r"network in evaluation mode; call network\.eval\(\)"):
        compare_with_torch(network.train(), module, x)
    network.eval()
    with pytest.raises(ConfigError, match=r"module in evaluation mode; call module\.eval\(\)"):
        compare_with_torch(network, module.train(), x)
    with pytest.raises(ConfigError, match="at least one layer with a match"):
        compare_with_torch(Sequential(ReLU()).eval(), module.eval(), x)
    twice = torch.nn.Sequential(module[0]).eval()
    twice.forward = lambda x: (module[0](x), x)
    with pytest.raises(ConfigError, match="modules that give one tensor each, got a tuple of the whole"):
        compare_with_torch(Sequential(Conv2d(1, 2, 3, padding=1, rng=rng)).eval(), twice, x)
    narrow = Sequential(Conv2d(1, 2, 3, rng=rng)).eval()
    (first, last) = compare_with_torch(narrow, torch.nn.Sequential(module[0]).eval(), x).rows
    assert (first.shape, first.torch_shape, first.value) == ((1, 2, 2, 2), (1, 2, 4, 4), math.inf)
    assert last.value == math.inf
    assert "1x2x2x2, not 1x2x4x4" in str(compare_with_torch(narrow, torch.nn.Sequential(module[0]).eval(), x))


@pytest.mark.peer
def test_a_module_without_parameters_is_compared_too(torch: Any) -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=False)).eval()
    x = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    rows = compare_with_torch(Sequential(BatchNorm2d(3)).eval(), module, x).rows
    assert [row.layer for row in rows] == ["0", ""]
    assert max(row.value for row in rows) < 1e-6


@pytest.mark.peer
def test_resnet20_with_the_names_of_torchvision(torch: Any, tmp_path: Path) -> None:
    """Nineteen convolutions and as many batch norms; only the stem, whose shape others share, must be named."""
    network = resnet20(rng=np.random.default_rng(0))
    stems = ["conv1", "bn1"]
    blocks = [f"layer{s}.{b}.{leaf}" for s in (1, 2, 3) for b in (0, 1, 2) for leaf in ("conv1", "bn1", "conv2", "bn2")]
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in network.state_dict()))
    names = dict(zip([*stems, *blocks, "fc"], owners, strict=True))
    state = renamed(network, names)
    with pytest.raises(WeightsMismatchError, match=r"'1\.\*' is missing; .*'bn1\.\*' is unexpected"):
        load_torch_weights(network, written(tmp_path, state))
    report = load_torch_weights(network, written(tmp_path, state), names={"bn1": names["bn1"]})
    assert holds(network, state, names)
    assert {match.how for match in report.matched} == {"names", "shape", "order"}


PAGE = Path(__file__).resolve().parents[2] / "docs" / "pytorch-weights.md"


@pytest.mark.peer
def test_the_page_prints_what_it_says(
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, in one namespace; but for the digits of a difference, which is rounding."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for code, said in re.findall(r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)*)", PAGE.read_text("utf-8"), re.M | re.S):
        exec(compile(code, PAGE.name, "exec"), namespace)
        printed, page = capsys.readouterr().out, re.sub(r"^    ", "", said, flags=re.M)
        assert len({re.sub(r"\d\.\de-0[678]$", "rounding", text, flags=re.M) for text in (printed, page)}) == 1
