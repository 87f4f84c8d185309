"""A model as plain entries; the predictor and the explorer, which are written from them, are tested in their rooms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from networks import CASES, TABLE, lively
from stridenet import portable
from stridenet.data.transforms import Normalize, Pipeline
from stridenet.errors import UnsupportedModelError
from stridenet.model import Model
from stridenet.nn.classic import TableConv2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, ReLU
from stridenet.nn.pools import AvgPool2d
from stridenet.nn.regularization import Dropout
from stridenet.nn.sequential import Residual, Sequential


def entries_of(network: Layer, shape: tuple[int, ...], **options: Pipeline) -> tuple[list[portable.Entry], set[str]]:
    network = Sequential(network, Flatten(), input_shape=shape)
    (count,) = network.output_shape(shape)
    entries, weights = portable.entries(Model(network, range(count), shape, **options), "who")
    return entries[:-1], set(weights)


def test_places_and_names_are_those_of_the_parameters() -> None:
    rng = np.random.default_rng(0)
    body = Sequential(ReLU(), Dropout(0.5), Conv2d(1, 1, 3, padding="same", rng=rng))
    entries, weights = entries_of(Residual(body), (1, 4, 4), transform=Pipeline([Normalize([0.5], [0.25])]))
    assert [(e.kind, e.name, e.weights) for e in entries] == [("Normalize", "transform.0", []), ("Residual", "0", [])]
    ways = entries[1].settings
    assert [(e.kind, e.name) for e in ways["body"]] == [("ReLU", "0.body.0"), ("Conv2d", "0.body.2")]
    assert ways["shortcut"] == []
    assert set(ways["body"][1].weights) == weights == {"0.body.2.weight", "0.body.2.bias"}
    assert ways["body"][1].settings["padding"] == ((1, 1), (1, 1))


def test_geometry_is_worked_out() -> None:
    (entry,), _ = entries_of(AvgPool2d(3, stride=2, ceil_mode=True), (1, 6, 5))
    overhang = (0, 1), (0, 0)
    assert entry.settings["overhang"] == overhang
    assert entry.settings["kernel"] == (3, 3)


def test_a_table_becomes_a_whole_kernel() -> None:
    layer = TableConv2d(3, TABLE, 2, rng=np.random.default_rng(0))
    (entry,), names = entries_of(lively(layer), (3, 5, 5))
    assert (entry.kind, entry.title, names) == ("Conv2d", repr(layer), {"0.weight", "0.bias"})


@pytest.mark.parametrize("kind", CASES)
def test_settings_are_plain(kind: str) -> None:
    for layer in CASES[kind]:
        json.dumps(entries_of(layer, (3, 11, 10))[0])


def test_what_is_not_known_is_refused_in_the_name_of_the_caller() -> None:
    class Strange(ReLU):
        """Not what stridenet means by it."""

    with pytest.raises(UnsupportedModelError, match="who: expected layers of stridenet, got a Strange"):
        entries_of(Strange(), (1, 2, 2))
