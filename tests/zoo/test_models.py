from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stridenet.errors import ConfigError
from stridenet.layout import Array
from stridenet.model import Model, load
from stridenet.nn.classic import RBF, TableConv2d
from stridenet.nn.layers import Conv2d, Linear
from stridenet.nn.losses import cross_entropy
from stridenet.nn.regularization import BatchNorm2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.optim.optimizers import SGD
from stridenet.train.trainer import Trainer
from stridenet.zoo import models
from stridenet.zoo.bitmaps import digits
from stridenet.zoo.models import MODELS, cifar_convnet, lenet5, lenet5_1998, lenet5_batchnorm, pynet, resnet20


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def given(network: Sequential, N: int) -> Array:
    assert network.input_shape is not None
    return np.random.default_rng(1).standard_normal((N, *network.input_shape)).astype(np.float32)


@pytest.mark.big
@pytest.mark.parametrize(
    ("make", "arguments", "count", "shape"),
    [
        (lenet5, {}, 44_426, (1, 28, 28)),
        (lenet5, {"input_size": 32}, 61_706, (1, 32, 32)),
        (lenet5, {"dropout": 0.5}, 44_426, (1, 28, 28)),
        (pynet, {}, 61_706, (1, 32, 32)),
        (lenet5_1998, {}, 60_000, (1, 32, 32)),
        (lenet5, {"classes": 3}, 44_426 - 7 * 85, (1, 28, 28)),
        (lenet5, {"channels": 3}, 44_426 + 2 * 6 * 25, (3, 28, 28)),
        (lenet5, {"input_size": 16, "classes": 1}, 156 + 2416 + 17 * 120 + 121 * 84 + 85, (1, 16, 16)),
        (lenet5_batchnorm, {}, 61_750, (1, 28, 28)),
        (lenet5_batchnorm, {"input_size": 31, "channels": 2}, 61_750 + 6 * 25, (2, 31, 31)),
        (lenet5_batchnorm, {"input_size": 32, "classes": 3}, 61_750 + 3 * 120 * 84 - 7 * 85, (1, 32, 32)),
        (cifar_convnet, {}, 825_046, (3, 32, 32)),
        (cifar_convnet, {"classes": 3}, 825_046 - 7 * 101, (3, 32, 32)),
        (resnet20, {}, 269_722, (3, 32, 32)),
        (resnet20, {"classes": 100}, 269_722 + 90 * 65, (3, 32, 32)),
    ],
)
def test_networks_have_the_parameters_of_their_docstrings(
    make: Callable[..., Sequential], arguments: dict[str, Any], count: int, shape: tuple[int, ...]
) -> None:
    network = make(**arguments, rng=rng())
    assert len(network.pack()) == count
    assert network.input_shape == shape
    x = np.zeros((2, *shape), np.float32)
    assert network.eval().forward(x).shape == (2, arguments.get("classes", 10))
    assert network.output_shape(shape) == (arguments.get("classes", 10),)


def test_lenet5_is_that_of_1998_in_its_shapes() -> None:
    maps = [(1, 32, 32), (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert list(dict.fromkeys(lenet5(input_size=32, rng=rng()).shapes((1, 32, 32)))) == maps


def test_lenet5_1998_is_that_of_its_paper_layer_by_layer() -> None:
    network = lenet5_1998(rng=rng())
    counts = [sum(p.value.size for _, p in layer.named_parameters()) for layer in network.layers]
    assert [n for n in counts if n] == [156, 12, 1516, 32, 48_120, 10_164, 840]
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds[1::2][:5] == ["ScaledTanh"] * 5
    assert kinds[0:9:2] == ["Conv2d", "TrainableSubsampling2d", "TableConv2d", "TrainableSubsampling2d", "Conv2d"]
    assert kinds[10:] == ["Flatten", "Linear", "ScaledTanh", "RBF"]
    c3, output = network.layers[4], network.layers[13]
    assert isinstance(c3, TableConv2d)
    seen = [c for maps in c3.table for c in maps]
    assert [seen.count(c) for c in range(6)] == [10] * 6
    assert [len(maps) for maps in c3.table] == [3] * 6 + [4] * 9 + [6]
    assert isinstance(output, RBF)
    assert np.array_equal(output.codes.value, digits())


def test_lenet5_1998_starts_in_the_range_of_each_unit() -> None:
    values = dict(lenet5_1998(rng=rng()).named_parameters())
    fan_ins = {"0": 25, "2": 4, "6": 4, "8": 400, "11": 120}
    for layer, fan_in in fan_ins.items():
        for name in ("weight", "coefficient", "bias"):
            value = values[f"{layer}.{name}"].value if f"{layer}.{name}" in values else np.zeros(0)
            assert np.abs(value).max(initial=0) <= 2.4 / fan_in * (1 + 1e-6)
            assert value.size < 80 or np.abs(value).max() > 0.95 * 2.4 / fan_in
            assert value.size == 0 or np.abs(value).min() > 0
    biases = np.abs(values["4.bias"].value)
    assert (biases <= 2.4 / (25 * np.array([3] * 6 + [4] * 9 + [6]))).all()
    assert biases.min() > 0


def test_lenet5_drops_behind_its_hidden_dense_layers() -> None:
    kinds = [type(layer).__name__ for layer in lenet5(dropout=0.5, rng=rng()).layers]
    assert kinds[6:] == ["Flatten", *["Linear", "ReLU", "Dropout"] * 2, "Linear"]
    assert not any("Dropout" in repr(layer) for layer in lenet5(rng=rng()).layers)
    with pytest.raises(ConfigError, match=r"lenet5: expected dropout in \[0, 1\), got 1"):
        lenet5(dropout=1, rng=rng())


def test_pynet_is_that_of_its_report_layer_by_layer() -> None:
    """The table of docs/systems/s2.md."""
    network = pynet(rng=rng())
    counts = [sum(p.value.size for p in layer.pack().parameters.values()) for layer in pynet(rng=rng()).layers]
    assert [n for n in counts if n] == [156, 2416, 48_120, 10_164, 850]
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [*["Conv2d", "ReLU", "MaxPool2d"] * 2, "Conv2d", "ReLU", "Flatten", "Linear", "ReLU", "Linear"]
    assert network.pack().value.std() == pytest.approx(0.01, rel=0.02)
    biases = np.concatenate([p.value for key, p in network.named_parameters() if key.endswith("bias")])
    assert biases.std() == pytest.approx(0.01, rel=0.1)


def test_lenet5_batchnorm_is_that_of_its_report_layer_by_layer() -> None:
    """The table of docs/systems/s3.md."""
    network = lenet5_batchnorm(rng=rng())
    shapes = network.shapes((1, 28, 28))
    assert list(dict.fromkeys(shapes[1:])) == [
        *((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (120,), (84,), (10,))
    ]
    kinds = [type(layer).__name__ for layer in network.layers]
    block = ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
    assert kinds == [*block, *block, "Conv2d", "Flatten", "Linear", "ReLU", "Linear"]
    counts = [sum(p.value.size for p in layer.pack().parameters.values()) for layer in network.layers]
    assert [n for n in counts if n] == [156, 12, 2416, 32, 48_120, 10_164, 850]


def test_cifar_convnet_starts_small() -> None:
    for key, parameter in cifar_convnet(rng=rng()).named_parameters():
        if key.endswith("bias"):
            assert not parameter.value.any()
        else:
            assert parameter.value.std() == pytest.approx(1e-3, rel=0.1)
            assert abs(parameter.value.mean()) < 1e-4


def test_resnet20_is_that_of_the_paper() -> None:
    """20 layers with weights, half the image and twice the channels at two of nine blocks, no other shortcut."""
    network = resnet20(rng=rng())
    layers = list(network.walk())
    assert sum(isinstance(layer, Conv2d | Linear) for layer in layers) == 20
    assert sum(isinstance(layer, BatchNorm2d) for layer in layers) == 19
    assert all(layer.bias is None for layer in layers if isinstance(layer, Conv2d))
    blocks = [layer for layer in network.layers if isinstance(layer, Residual)]
    assert [repr(block.shortcut) for block in blocks] == [
        *("None",) * 3,
        *("ZeroPadShortcut(16, 32, stride=2)", "None", "None"),
        *("ZeroPadShortcut(32, 64, stride=2)", "None", "None"),
    ]
    assert list(dict.fromkeys(network.shapes((3, 32, 32)))) == [
        (3, 32, 32),
        (16, 32, 32),
        (32, 16, 16),
        (64, 8, 8),
        (64, 1, 1),
        (64,),
        (10,),
    ]
    behind = [type(after).__name__ for layer, after in pairwise(network.layers) if layer in blocks]
    assert behind == ["ReLU"] * 9
    assert sum(isinstance(layer, ZeroPadShortcut) for layer in layers) == 2


@pytest.mark.big
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_lowers_the_loss(name: str) -> None:
    network = MODELS[name](rng=rng())
    x, y = given(network, 8), np.arange(8)
    trainer = Trainer(network, SGD(network.pack(), 1e-4 if name == "lenet5_1998" else 0.02))
    first = trainer.step(x, y)
    assert cross_entropy(network.forward(x), y)[0] < first


@pytest.mark.big
@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_brings_every_network_back(name: str, tmp_path: Path) -> None:
    network = MODELS[name](rng=rng())
    network.forward(given(network, 4))  # running statistics of its own
    assert network.input_shape is not None
    model = Model(network, tuple("0123456789"), network.input_shape)
    model.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert repr(twin.network) == repr(network)
    images = np.random.default_rng(2).random((3, *network.input_shape), np.float32)
    assert np.array_equal(twin.scores(images), model.scores(images))


@pytest.mark.promise("K4")
@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_make_equal_networks(name: str) -> None:
    a, b = (MODELS[name](rng=rng()).pack().value for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, MODELS[name](rng=np.random.default_rng(1)).pack().value)


@pytest.mark.promise("P01")
def test_arguments_that_cannot_be() -> None:
    for name, values in {
        "input_size": (15, 0, -28, 28.0, "28", None, True),
        "classes": (0, -1, 10.0, "10", None, True),
        "channels": (0, -1, 1.0, None),
    }.items():
        for value in values:
            with pytest.raises(ConfigError, match="expected"):
                lenet5(**{name: value}, rng=rng())  # pyright: ignore[reportArgumentType]
    for size in range(16, 40):  # every size from 16 on works
        lenet5(input_size=size, rng=rng())
    for make in lenet5_batchnorm, cifar_convnet, resnet20:
        with pytest.raises(ConfigError, match="expected"):
            make(classes=0, rng=rng())
    with pytest.raises(ConfigError, match=r"^lenet5_batchnorm: expected input_size >= 28, got 27$"):
        lenet5_batchnorm(input_size=27, rng=rng())
    for size in range(28, 40):
        lenet5_batchnorm(input_size=size, rng=rng())


def test_networks_are_made_by_name() -> None:
    assert repr(models.make("lenet5", {"classes": 3}, rng=rng())) == repr(lenet5(classes=3, rng=rng()))
    fitting = {"classes": 4, "channels": 3, "depth": 9}  # what the network has no argument for is left aside
    wanted = repr(lenet5(classes=3, channels=3, rng=rng()))
    assert repr(models.make("lenet5", {"classes": 3}, rng=rng(), fitting=fitting)) == wanted
    with pytest.raises(
        ConfigError, match=r"recipe\.model\.name: expected one of lenet5, .*, got 'lenet6'; did you mean 'lenet5'\?"
    ):
        models.make("lenet6", {}, rng=rng())
    for key in ("clases", "rng", "__class__"):
        with pytest.raises(ConfigError, match=rf"recipe\.model lenet5: expected one of classes, .*, got '{key}'"):
            models.make("lenet5", {key: 3}, rng=rng())
    with pytest.raises(ConfigError, match=r"^recipe\.model: lenet5: expected input_size >= 16, got 3"):
        models.make("lenet5", {"input_size": 3}, rng=rng())
