"""What goes through a network: the output of every layer, units that are always zero, windows with several maxima."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.layers import ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Residual, Sequential
from stridenet.train.findings import Check, Finding

DEAD_SHARE = 0.5  # of the units of a layer; the recipes start with 21 % at most in 30 seeds and end with 18 %
TIED_SHARE = 0.9  # of the windows; the recipes have 35 to 65 % at the start (30 seeds), 74 % at most in the end


class Passage(NamedTuple):
    """A layer, its name such as "3" or "3.body.0", and what came in and went out, (N, ...)."""

    name: str
    layer: Layer
    x: Array
    y: Array

    @property
    def place(self) -> str:
        """The layer for people."""
        return f"layer {self.name} {type(self.layer).__name__}"


def passages(network: Layer, x: Array, name: str = "") -> Iterator[Passage]:
    """The way of x (N, ...) through every layer, in order; the output of the last is that of the network."""
    inside = f"{name}." if name else ""
    if isinstance(network, Sequential):
        for i, layer in network.children():
            for passage in passages(layer, x, f"{inside}{i}"):
                yield passage
                x = passage.y
        return
    if isinstance(network, Residual):
        aside = body = x
        for passage in passages(network.body, x, f"{inside}body"):
            yield passage
            body = passage.y
        for passage in () if network.shortcut is None else passages(network.shortcut, x, f"{inside}shortcut"):
            yield passage
            aside = passage.y
        yield Passage(name, network, x, body + aside)
        return
    yield Passage(name, network, x, network.forward(x))


def dead_share(y: Array) -> float:
    """The share of units that are 0 for every image; a map of y (N, C, H, W) is one unit, everywhere."""
    return 1 - float((y > 0).any(axis=(0, *range(2, y.ndim))).mean())


def tied_share(layer: MaxPool2d, x: Array) -> float:
    """The share of windows on x (N, C, H, W) whose maximum is there twice or more."""
    window = layer.window(x.shape[1:])
    (R, S), (down, right), (P, Q) = window.kernel, window.stride, window.output
    margins = [(before, after + more) for (before, after), more in zip(window.padding, window.overhang, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *margins], constant_values=-np.inf)
    view = np.lib.stride_tricks.sliding_window_view(padded, (R, S), axis=(2, 3))
    windows = view[:, :, ::down, ::right][:, :, :P, :Q]  # (N, C, P, Q, R, S)
    maxima = (windows == windows.max(axis=(4, 5), keepdims=True)).sum(axis=(4, 5))
    return float((maxima > 1).mean())


def check_units(way: Iterable[Passage]) -> Check:
    """Dead units of every ReLU."""
    shares = {p.place: dead_share(p.y) for p in way if isinstance(p.layer, ReLU)}
    return _check("dead ReLUs", shares, DEAD_SHARE, "dead-relu", "of its units are zero for every image of the sample")


def check_pools(way: Iterable[Passage]) -> Check:
    """Ties of every max pooling."""
    shares = {p.place: tied_share(p.layer, p.x) for p in way if isinstance(p.layer, MaxPool2d)}
    return _check("tied pools", shares, TIED_SHARE, "tied-pools", "of its windows have several equal maxima")


def _check(name: str, shares: dict[str, float], allowed: float, code: str, what: str) -> Check:
    wrong = {place: share for place, share in shares.items() if share > allowed}
    findings = [Finding(code, place, f"{100 * share:.0f} % {what}") for place, share in wrong.items()]
    worst = max(shares, key=shares.__getitem__, default=None)
    figure = "no such layer" if worst is None else f"{100 * shares[worst]:.0f} % in {worst}"
    return Check(name, f"{figure}, allowed {100 * allowed:.0f} %", tuple(findings))
