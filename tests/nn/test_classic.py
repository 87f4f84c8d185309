"""The parts of 1998 against their definitions, written out as loops, and against the numbers of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet.errors import ConfigError, ShapeError
from stridenet.layout import Array
from stridenet.nn import functional as F, init
from stridenet.nn.classic import RBF, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layers import Conv2d

TABLE = [[0, 1], [2], [0, 1, 2]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_scaled_tanh_takes_one_to_one_and_never_reaches_its_end() -> None:
    x = np.array([[-1.0, 0.0, 1.0, 100.0]])
    assert ScaledTanh().forward(x)[0] == pytest.approx([-1, 0, 1, 1.7159], abs=2e-5)
    assert ScaledTanh().forward(2 * x)[0] == pytest.approx(1.7159 * np.tanh(4 * x[0] / 3), rel=1e-15)


@pytest.mark.parametrize("kernel", [2, (3, 2)])
def test_subsampling_is_the_loops(kernel: Any) -> None:
    layer = TrainableSubsampling2d(3, kernel, rng=rng()).astype(np.float64)
    layer.bias.value[:] = rng(1).standard_normal(3)
    x = rng(2).standard_normal((2, 3, 7, 6))
    y = layer.forward(x)
    R, S = (kernel, kernel) if isinstance(kernel, int) else kernel
    assert y.shape == (2, 3, 7 // R, 6 // S)
    for n, c, p, q in np.ndindex(y.shape):
        total = sum(x[n, c, p * R + r, q * S + s] for r in range(R) for s in range(S))
        assert y[n, c, p, q] == pytest.approx(layer.coefficient.value[c] * total + layer.bias.value[c], rel=1e-12)


def test_a_coefficient_starts_in_the_range_of_four_inputs() -> None:
    values = TrainableSubsampling2d(10_000, rng=rng()).coefficient.value
    assert 0.599 < np.abs(values).max() <= 0.6  # 2.4 / 4
    assert abs(values.mean()) < 0.02
    assert not TrainableSubsampling2d(4, rng=rng()).bias.value.any()


def masked(layer: TableConv2d) -> Array:
    """The weight of the convolution over all maps, with zeros where there is no connection, one by one."""
    weight = np.zeros((len(layer.table), layer.in_channels, *layer.weight.value.shape[1:]))
    kernels = iter(layer.weight.value)
    for k, maps in enumerate(layer.table):
        for c in maps:
            weight[k, c] = next(kernels)
    return weight


def test_a_table_convolution_is_a_convolution_with_zeros() -> None:
    layer = TableConv2d(3, TABLE, (3, 2), rng=rng()).astype(np.float64)
    layer.bias.value[:] = rng(1).standard_normal(3)
    x, dy = rng(2).standard_normal((2, 3, 6, 5)), rng(3).standard_normal((2, 3, 4, 4))
    y, saved = F.conv2d(x, masked(layer), layer.bias.value)
    assert np.array_equal(layer.forward(x), y)
    dx, dweight, _ = F.conv2d_backward(dy, saved)
    found = layer.backward(dy)
    assert found is not None
    assert dx is not None
    assert np.array_equal(found, dx)
    wanted = np.stack([dweight[k, c] for k, maps in enumerate(TABLE) for c in maps])
    assert np.array_equal(layer.weight.grad, wanted)


def test_a_table_of_all_maps_is_a_conv2d_with_as_many_parameters() -> None:
    table = TableConv2d(2, [[0, 1]] * 4, 3, rng=rng())
    conv = Conv2d(2, 4, 3, init=init.fan_in_uniform, rng=rng())
    assert len(table.pack()) == len(conv.pack())
    x = rng(1).standard_normal((3, 2, 6, 6)).astype(np.float32)
    assert normwise(table.forward(x), conv.forward(x)) < 1e-6  # and as many random numbers


def test_each_map_starts_in_the_range_of_its_own_inputs() -> None:
    layer = TableConv2d(9, [[4], list(range(9))], 30, rng=rng())
    few, many = layer.weight.value[:1], layer.weight.value[1:]
    assert np.abs(few).max() == pytest.approx(2.4 / 900, rel=0.01)
    assert np.abs(many).max() == pytest.approx(2.4 / 8100, rel=0.01)


def test_rbf_is_minus_the_squared_distance_and_the_nearest_code_wins() -> None:
    layer = RBF(5, 3, rng=rng()).astype(np.float64)
    codes, x = layer.codes.value, rng(1).standard_normal((4, 5))
    y = layer.forward(x)
    for n, k in np.ndindex(y.shape):
        assert y[n, k] == pytest.approx(-sum((x[n, d] - codes[k, d]) ** 2 for d in range(5)), rel=1e-12)
    assert layer.forward(codes).argmax(axis=1).tolist() == [0, 1, 2]
    assert np.abs(layer.forward(codes).diagonal()).max() == 0


def test_codes_are_saved_and_never_trained() -> None:
    layer = RBF(5, 3, rng=rng())
    assert len(layer.pack()) == 0
    assert list(layer.state_dict()) == ["codes"]
    assert set(np.unique(layer.codes.value)) == {-1.0, 1.0}
    layer.forward(np.ones((2, 5), np.float32))
    layer.backward(np.ones((2, 3), np.float32))
    assert not layer.codes.grad.any()


def test_the_repr_of_a_table_is_short() -> None:
    assert repr(TableConv2d(3, TABLE, (3, 2), rng=rng())) == "TableConv2d(3, 3 maps, kernel_size=(3, 2))"


@pytest.mark.promise("P06")
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "table to be a list of at least one, got "),
        (None, "table to be a list of at least one, got None"),
        ("012", "table to be a list of at least one, got '012'"),
        ([[0], []], r"table\[1\] to be a list of at least one, got "),
        ([[0], 1], r"table\[1\] to be a list of at least one, got 1"),
        ([[0, 3]], r"table\[0\] to be rising numbers below 3, got \(0, 3\)"),
        ([[1, 0]], r"table\[0\] to be rising numbers below 3, got \(1, 0\)"),
        ([[1, 1]], r"table\[0\] to be rising numbers below 3, got \(1, 1\)"),
        ([[-1]], r"table\[0\] >= 0, got -1"),
        ([[0.0]], r"table\[0\] to be an integer >= 0, got 0\.0"),
        ([["0"]], r"table\[0\] to be an integer >= 0, got '0'"),
        ([[True]], r"table\[0\] to be an integer >= 0, got True"),
    ],
)
def test_a_table_that_is_none_is_refused(table: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^TableConv2d: expected {message}"):
        TableConv2d(3, table, 5, rng=rng())


def test_images_that_do_not_fit_are_refused() -> None:
    wide, rows = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 4), np.float32)
    table, pool, rbf = TableConv2d(3, TABLE, 3, rng=rng()), TrainableSubsampling2d(3, rng=rng()), RBF(5, 3, rng=rng())
    for layer in table, pool:
        with pytest.raises(ShapeError, match=r"\): expected x of shape \(N, 3, H, W\), got \(1, 4, 8, 8\)"):
            layer.forward(wide)
        with pytest.raises(ShapeError, match=r"\): expected x of shape \(N, 3, H, W\), got \(N, 4, 8, 8\)"):
            layer.output_shape((4, 8, 8))
        with pytest.raises(ShapeError, match="expected an image of at least"):
            layer.output_shape((3, 1, 1))
    with pytest.raises(ShapeError, match=r"^RBF\(5, 3\): expected x of shape \(N, 5\), got \(1, 4\)"):
        rbf.forward(rows)
    with pytest.raises(ShapeError, match=r"^RBF\(5, 3\): expected 5 features, got an input of 4$"):
        rbf.output_shape((4,))
    with pytest.raises(ConfigError, match="expected rng to be a Generator"):
        RBF(5, 3, rng=0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="expected channels >= 1, got 0"):
        TrainableSubsampling2d(0, rng=rng())
