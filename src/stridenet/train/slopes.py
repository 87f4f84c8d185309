"""Gradients beside differences: is each backward the slope of its forward?

Every layer is taken by itself, in float64, on inputs that are drawn: a wrong one is named, and few numbers lie at a
kink, as many would where images have a constant background. The slope of f along d is
(f(x + h d) - f(x - h d)) / 2h; f is the sum of the outputs times a random dy, which the backward is given. It is
believed where half of h gives the same and rounding is small: where weights are too large a slope is not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from stridenet import kernels
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss
from stridenet.nn.sequential import Sequential
from stridenet.shapes import Shape
from stridenet.train.findings import Check, Finding

BOUND = 1e-4  # of the error beside the slope: right gradients come to 1e-8, wrong ones are wrong by percents
STEPS = 1e-6, 1e-7, 1e-8, 1e-3  # h, in rounds until all is right: who meets kinks with one meets a tenth with the next,
# and beside large numbers the last still tells slopes from rounding, where a layer has no kinks
DOUBT = 10  # times what the differences over h and h / 2 are apart, or rounding makes of them: a slope that is known
NOTHING = 1e-9  # a gradient that is nothing but rounding, such as that of a bias before a BatchNorm
DIRECTIONS = 3  # along which a wrong gradient can hardly be right by chance
N = 3  # images


class Slope(NamedTuple):
    """The derivatives along some directions of one array, by the backward and by differences."""

    name: str
    found: Array
    wanted: Array
    doubt: float  # how far off the differences may be

    @property
    def size(self) -> float:
        """The largest derivative."""
        return max(float(np.abs(self.found).max()), float(np.abs(self.wanted).max()))

    @property
    def is_sharp(self) -> bool:
        """Whether the differences are exact enough to judge by."""
        return self.doubt <= BOUND * self.size

    @property
    def error(self) -> float:
        """The largest difference, as a share of the largest derivative."""
        is_nothing = np.abs(self.found).max() <= NOTHING and np.abs(self.wanted).max() <= self.doubt
        return 0.0 if is_nothing else float(np.abs(self.found - self.wanted).max()) / self.size

    @property
    def is_right(self) -> bool:
        """Whether the backward gives the slope."""
        return self.error <= BOUND

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Right slopes come first, then those that are known to be wrong, then those that are not known."""
        return not self.is_right, not self.is_sharp, self.error

    @property
    def factor(self) -> float:
        """What the slope has to be multiplied by to come nearest to the gradient."""
        size = float(self.wanted @ self.wanted)
        return float(self.found @ self.wanted) / size if size else 0.0

    @property
    def finding(self) -> tuple[str, str]:
        """A code and what is wrong."""
        factor = self.factor
        rest = float(np.abs(self.found - factor * self.wanted).max())
        if abs(factor) > BOUND and rest <= BOUND * abs(factor) * float(np.abs(self.wanted).max()):
            return "gradient-scale", f"{self.name} gets {factor:.4g} times its slope"
        if not self.found.any():
            return "wrong-gradient", f"{self.name} gets the gradient 0, where the slope is not"
        return "wrong-gradient", f"{self.name} gets a gradient that is off by {100 * self.error:.2g} % of the slope"


def check_gradients(network: Layer, input_shape: Shape, loss: Loss, classes: int) -> Check:
    """The gradients of every layer and of the loss; `network` stays as it is."""
    worst, findings, unknown = (0.0, ""), list[Finding](), list[str]()
    twin, rng = deepcopy(network).train().astype(np.float64), np.random.default_rng(0)
    with kernels.use(kernels.without_compiler()):
        cases = [(place, _of_layer(layer, shape, rng)) for place, layer, shape in _layers(twin, input_shape)]
    cases.append(("loss", _of_loss(loss, classes, rng)))
    for place, slopes in cases:
        known = [slope for slope in slopes if slope.is_right or slope.is_sharp]
        worst = max([worst, *((slope.error, f"{slope.name} of {place}") for slope in known)])
        wrong = [slope.finding for slope in known if not slope.is_right]
        for code in dict.fromkeys(code for code, _ in wrong):
            findings.append(Finding(code, place, "; ".join(what for other, what in wrong if other == code)))
        if len(known) < len(slopes):
            names = ", ".join(slope.name for slope in slopes if slope not in known)
            unknown.append(f"{place} ({names})")
    figure = f"off by {worst[0]:.1g} of the slope at most, in {worst[1]}; allowed {BOUND:g}"
    if unknown:
        figure += f"; not measured in {', '.join(unknown)}: too large weights, or a forward that jumps"
    return Check("gradients", figure, tuple(findings))


def _layers(network: Layer, input_shape: Shape) -> Iterator[tuple[str, Layer, Shape]]:
    """Each layer with its place and the shape of its input; a network of another kind is one layer."""
    if not isinstance(network, Sequential):
        yield type(network).__name__, network, input_shape
        return
    for (name, layer), shape in zip(network.children(), network.shapes(input_shape), strict=False):
        yield f"layer {name} {type(layer).__name__}", layer, shape


def _of_layer(layer: Layer, shape: Shape, rng: np.random.Generator) -> list[Slope]:
    """dx and the gradients of all parameters, from the round in which they are nearest to the slopes."""
    return _best(lambda h: _round(layer, rng.standard_normal((N, *shape)), h, rng))


def _best(measure: Callable[[float], list[Slope]]) -> list[Slope]:
    best: list[Slope] = []
    for h in STEPS:
        slopes = measure(h)
        best = [min(pair, key=lambda slope: slope.rank) for pair in zip(best or slopes, slopes, strict=True)]
        if all(slope.is_right for slope in best):
            break
    return best


def _round(layer: Layer, x: Array, h: float, rng: np.random.Generator) -> list[Slope]:
    params = {name: parameter for name, parameter in layer.named_parameters() if parameter.trainable}

    def forward() -> Array:
        layer.reseed(0, 1)  # the same masks every time
        return layer.forward(x)

    y = forward()
    dy = rng.standard_normal(y.shape)
    for parameter in params.values():
        parameter.grad.fill(0)
    dx = layer.backward(dy)
    arrays = [("x", x, dx), *((name, parameter.value, parameter.grad) for name, parameter in params.items())]

    def total() -> tuple[float, float]:
        terms = forward() * dy
        return float(terms.sum()), float(np.abs(terms).sum())

    slopes = [_along(name, value, given, total, h, rng) for name, value, given in arrays]
    layer.forget()
    return slopes


def _of_loss(loss: Loss, classes: int, rng: np.random.Generator) -> list[Slope]:
    """dscores."""

    def measure(h: float) -> list[Slope]:
        scores, targets = rng.standard_normal((N + 2, classes)), rng.integers(0, classes, N + 2)
        dscores = loss(scores, targets)[1]
        return [_along("scores", scores, dscores, lambda: (loss(scores, targets)[0], 1.0), h, rng)]

    return _best(measure)


def _along(
    name: str,
    value: Array,
    gradient: Array | None,
    f: Callable[[], tuple[float, float]],
    h: float,
    rng: np.random.Generator,
) -> Slope:
    """The slopes of f along random directions of `value`, which is changed in place and put back.

    f gives its value and the sum of the sizes of its terms, which says how exact that is. The step is h, or that share
    of large numbers.
    """
    found, wanted, doubt, start = np.zeros(DIRECTIONS), np.zeros(DIRECTIONS), 0.0, value.copy()
    h *= max(1.0, float(np.abs(start).max(initial=0.0)))
    for i in range(DIRECTIONS):
        direction = rng.standard_normal(value.shape)
        ends: list[float] = []
        size = 0.0
        for step in (h, -h, h / 2, -h / 2):
            value[...] = start + step * direction
            end, size = f()
            ends.append(end)
        value[...] = start
        wanted[i], nearer = (ends[0] - ends[1]) / (2 * h), (ends[2] - ends[3]) / h
        rounding = float(np.finfo(np.float64).eps) * size / h
        doubt = max(doubt, DOUBT * abs(wanted[i] - nearer), DOUBT * rounding)
        if gradient is not None and gradient.shape == value.shape:
            found[i] = float(np.sum(gradient * direction))
    return Slope(name, found, wanted, doubt)
