from __future__ import annotations

import re

import numpy as np
import pytest

from stridenet.errors import ShapeError
from stridenet.nn.cost import cost
from stridenet.nn.layers import Conv2d, Linear
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Sequential
from stridenet.viz.summary import summary
from stridenet.zoo.models import MODELS, lenet5

pytestmark = pytest.mark.big  # each summary measures a step

RNG = np.random.default_rng(0)


def wide() -> Sequential:
    """Photos through many maps: long names and long numbers."""
    return Sequential(
        Conv2d(3, 128, (11, 11), stride=(1, 1), padding="same", rng=RNG),
        Conv2d(128, 1024, 3, padding=((1, 1), (1, 1)), dilation=(1, 1), bias=False, rng=RNG),
        MaxPool2d(3, stride=(2, 2), padding=((0, 1), (0, 1))),
    )


LENET5 = """\
    layer              output  params  connections     MACs  field
    input             1x28x28
 0  Conv2d(1, 6, 5)   6x24x24     156       89 856   86 400    5x5
 1  ReLU()            6x24x24       -            -        -    5x5
 2  MaxPool2d(2)      6x12x12       -        3 456        -    6x6
 3  Conv2d(6, 16, 5)   16x8x8   2 416      154 624  153 600  14x14
 4  ReLU()             16x8x8       -            -        -  14x14
 5  MaxPool2d(2)       16x4x4       -        1 024        -  16x16
 6  Flatten()             256       -            -        -  16x16
 7  Linear(256, 120)      120  30 840       30 840   30 720  28x28
 8  ReLU()                120       -            -        -  28x28
 9  Linear(120, 84)        84  10 164       10 164   10 080  28x28
10  ReLU()                 84       -            -        -  28x28
11  Linear(84, 10)         10     850          850      840  28x28
    total                      44 426      290 814  281 640

parameters   44 426 trained, 0 fixed
memory       0.18 MB of parameters, 2.75 MB of activations at batch 64
training     about PEAK MB at the peak of a step, beside data and optimiser"""


def test_lenet5() -> None:
    found = summary(lenet5(rng=RNG), (1, 28, 28))
    peak = re.search(r"about (\d+) MB", found)
    assert peak is not None
    assert found.replace(f"about {peak[1]}", "about PEAK") == LENET5
    assert 2 < int(peak[1]) < 20  # tests/train/test_memory.py measures it


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_zoo_fits_80_columns(name: str) -> None:
    network = MODELS[name](rng=RNG)
    assert network.input_shape is not None
    text = summary(network, network.input_shape)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) == len(cost(network, network.input_shape)) + 7
    assert ("..." in text) == (name in ("lenet5_batchnorm", "resnet20"))  # words, and names of blocks in blocks


def test_a_large_network_is_shortened_to_fit() -> None:
    lines = summary(wide(), (3, 1024, 1024)).splitlines()
    assert max(map(len, lines)) == 80
    assert [line.split("  ")[0] for line in lines[2:5]] == ["0", "1", "2"]
    assert lines[3].startswith("1  Co...  ")
    assert lines[-1] == "training     more than that at the peak of a step, beside data and optimiser"
    assert "  1024x1024x1024  1 179 648  1 236 950 581 248  1 236 950 581 248  13x13" in lines[3]
    assert re.search(r"total +1 226 240  1 288 221 753 344  1 285 671 616 512$", lines[-5])
    assert lines[-2].endswith("4.90 MB of parameters, 377 957.12 MB of activations at batch 64")


def test_numbers_end_in_one_column() -> None:
    lines = LENET5.splitlines()[:-4]
    for column in ("output", "params", "connections", "MACs"):
        end = lines[0].index(column) + len(column)
        assert all(line[end : end + 1] in ("", " ") for line in lines)
        assert all(line[end - 1] != " " for line in lines[2:-1])


def test_without_an_image_there_is_no_field() -> None:
    text = summary(Sequential(Linear(4, 3, rng=RNG)), (4,))
    assert re.search(r"^0  Linear\(4, 3\) +3 +15 +15 +12 +-$", text, re.MULTILINE)


def test_a_network_without_trained_numbers_says_what_it_counts() -> None:
    network = Sequential(Linear(400, 30, rng=RNG))
    for _, parameter in network.named_parameters():
        parameter.trainable = False
    lines = summary(network, (400,)).splitlines()
    assert lines[-2:] == [
        "parameters   12 030 constants, none trained",
        "memory       0.05 MB of parameters, 0.01 MB of activations at batch 64",
    ]


def test_an_empty_network_has_a_total() -> None:
    assert re.search(r"total +0 +0 +0$", summary(Sequential(), (1, 2, 2)), re.MULTILINE)


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError):
        summary(lenet5(rng=RNG), (1, 32, 32))
