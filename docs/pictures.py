"""The pictures of the layer pages: what each layer does to a small input. The layers themselves compute the numbers.

    python docs/pictures.py

writes docs/images/layers/NAME.svg. Each stands on a light ground of its own, so that it can be read in the dark too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from sheet import BLUE, GROUND, INK, ORANGE, QUIET, RULE, Sheet, number

import stridenet as sn
from stridenet.files import write_atomic
from stridenet.layout import Array

FOLDER = Path(__file__).resolve().parent / "images" / "layers"
FOUR = ("blue", "orange", "green", "grey")
RNG = np.random.default_rng(0)  # for layers whose start values are replaced


def image(rows: Sequence[Sequence[float]]) -> Array:
    """Rows of one channel as a batch of one image."""
    return np.array(rows, np.float32)[None, None]


def quarters(size: int) -> Array:
    """The name of a colour for each cell of an image that 2x2 windows side by side cut up."""
    half = size // 2
    return np.array(FOUR).reshape(2, 2).repeat(half, axis=0).repeat(half, axis=1)


# Convolution and products


def conv2d() -> Sheet:
    """One window: nine products and their sum."""
    x = image([[0, 0, 2, 2, 1], [0, 1, 3, 2, 0], [0, 0, 2, 3, 1], [0, 1, 2, 2, 0], [1, 0, 3, 2, 0]])
    kernel = np.array([[-1, 0, 1]] * 3, np.float32)
    layer = sn.Conv2d(1, 1, 3, rng=RNG)
    layer.weight.value[...] = kernel
    y = layer.forward(x)
    sheet, window = Sheet(18, 9), x[0, 0, 1:4, 0:3]
    sheet.cells(
        0.8, 1.6, x[0, 0], "x", [["orange" if 1 <= i < 4 and j < 3 else "none" for j in range(5)] for i in range(5)]
    )
    sheet.frame(0.8, 2.6, 3, 3)
    sheet.text(6.9, 4.1, "\N{ASTERISK OPERATOR}", size=16)
    sheet.cells(8, 2.6, kernel, "weight", "blue")
    sheet.text(12.1, 4.1, "=", size=16)
    sheet.cells(13.2, 2.6, y[0, 0], "y")
    sheet.frame(13.2, 3.6, 1, 1)
    rows = zip(window, kernel, strict=True)
    sums = [" + ".join(f"{number(a)}·{bracketed(w)}" for a, w in zip(*row, strict=True)) for row in rows]
    sheet.text(0.8, 7.4, f"{' + '.join(sums[:2])}", ha="left", size=9)
    sheet.text(0.8, 8.2, f"+ {sums[2]} = {number(y[0, 0, 1, 0])}", ha="left", size=9)
    return sheet


def bracketed(value: float) -> str:
    """A factor: (-1), 2."""
    return f"({number(value)})" if value < 0 else number(value)


def linear() -> Sheet:
    """Each output is a row of weights times the features, plus a bias."""
    layer, x = sn.Linear(4, 3, rng=RNG), np.array([[2, 1, 3, 0]], np.float32)
    layer.weight.value[...] = [[1, -1, 2, 0], [0, 3, -1, 1], [-2, 1, 1, 2]]
    layer.bias.value[...] = [1, 0, -1]
    y, weight = layer.forward(x), layer.weight.value
    sheet = Sheet(16, 7.6)
    sheet.cells(0.8, 1.6, weight, "weight", [["blue"] * 4, ["none"] * 4, ["none"] * 4])
    sheet.cells(6.2, 1.1, x.T, "x", "orange")
    sheet.text(8.2, 3.1, "+", size=14)
    sheet.cells(9.2, 1.6, layer.bias.value[:, None], "bias", [["green"], ["none"], ["none"]])
    sheet.text(11.2, 3.1, "=", size=14)
    sheet.cells(12.2, 1.6, y.T, "y")
    sheet.frame(12.2, 1.6, 1, 1)
    terms = " + ".join(f"{bracketed(w)}·{number(a)}" for w, a in zip(weight[0], x[0], strict=True))
    sheet.text(0.8, 6.4, f"{terms} + {number(layer.bias.value[0])} = {number(y[0, 0])}", ha="left")
    return sheet


def table_conv2d() -> Sheet:
    """Which input maps each output map of C3 sees."""
    layer = next(layer for layer in sn.lenet5_1998(rng=RNG).layers if isinstance(layer, sn.TableConv2d))
    sheet = Sheet(20.5, 9.6)
    for k, maps in enumerate(layer.table):
        for c in range(layer.in_channels):
            sheet.cells(
                3.6 + k, 1.8 + c, "" if c not in maps else "\N{MULTIPLICATION X}", fills="blue" if c in maps else "none"
            )
        sheet.text(4.1 + k, 1.3, str(k), color=QUIET)
    for c in range(layer.in_channels):
        sheet.text(3.1, 2.3 + c, str(c), color=QUIET)
    sheet.text(11.6, 0.6, "output map", color=QUIET)
    sheet.text(1.3, 4.8, "input\nmap", color=QUIET)
    count = sum(map(len, layer.table))
    sheet.text(11.6, 8.7, f"{count} kernels of 5x5 in place of {layer.in_channels * layer.out_channels}")
    return sheet


# Pooling


def pool(layer: Any, x: Array, dy: Array, words: str) -> Sheet:
    """Forward above, backward below; a window and what comes of it have one colour."""
    y, dx = layer.forward(x), layer.backward(dy)
    sheet, fills, small = Sheet(12.5, 12.6), quarters(4), quarters(2)
    sheet.cells(0.8, 1.4, x[0, 0], "x", fills)
    sheet.arrow((5.4, 3.4), (7.9, 3.4), words="forward")
    sheet.cells(8.8, 2.4, y[0, 0], "y", small)
    sheet.cells(8.8, 7.8, dy[0, 0], "dy", small)
    sheet.arrow((7.9, 8.8), (5.4, 8.8), words="backward")
    sheet.cells(0.8, 6.8, dx[0, 0], "dx", np.where(dx[0, 0] == 0, "none", fills))
    sheet.text(6.25, 11.8, words, color=QUIET, size=9)
    return sheet


POOLED, DY = image([[1, 3, 2, 0], [4, 2, 1, 2], [5, 5, 0, 1], [0, 2, 3, 4]]), image([[1, 2], [3, 4]])


def max_pool2d() -> Sheet:
    """The maximum of each window; its gradient goes back there."""
    return pool(sn.MaxPool2d(2), POOLED, DY, "two fives: the first one gets the whole gradient")


def avg_pool2d() -> Sheet:
    """The mean of each window; its gradient is shared out evenly."""
    return pool(sn.AvgPool2d(2), POOLED, DY, "every pixel of a window gets a quarter of its gradient")


def trainable_subsampling2d() -> Sheet:
    """The sum of a window, times a coefficient, plus a bias."""
    layer, x = sn.TrainableSubsampling2d(1, 2, rng=RNG), POOLED
    layer.coefficient.value[...], layer.bias.value[...] = 0.5, 1
    y, sheet = layer.forward(x), Sheet(13.5, 7.6)
    sheet.cells(0.8, 1.4, x[0, 0], "x", quarters(4))
    sheet.arrow((5.4, 3.4), (8.7, 3.4), words="0.5 · sum + 1")
    sheet.cells(9.6, 2.4, y[0, 0], "y", quarters(2))
    first = " + ".join(number(v) for v in x[0, 0, :2, :2].flat)
    sheet.text(0.8, 6.6, f"0.5 · ({first}) + 1 = {number(y[0, 0, 0, 0])}", ha="left")
    return sheet


def global_avg_pool2d() -> Sheet:
    """A channel becomes its mean."""
    x = np.array([[[[1, 3, 2], [0, 2, 4], [1, 1, 4]], [[6, 0, 0], [0, 6, 0], [0, 0, 6]]]], np.float32)
    y, sheet = sn.GlobalAvgPool2d().forward(x), Sheet(13, 6)
    for c, fill in enumerate(("blue", "orange")):
        sheet.cells(0.8 + 4 * c, 1.7, x[0, c], f"channel {c}", fill)
    sheet.arrow((8.3, 3.2), (10, 3.2), words="mean")
    sheet.cells(10.7, 2.2, y.reshape(2, 1), "y", [["blue"], ["orange"]])
    return sheet


# Shape only


def flatten() -> Sheet:
    """Channels, one row after another."""
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    y, sheet = sn.Flatten().forward(x), Sheet(17.5, 5)
    for c, fill in enumerate(("blue", "orange")):
        sheet.cells(0.8 + 3 * c, 1.7, x[0, c], f"channel {c}", fill)
    sheet.arrow((6.3, 2.7), (7.9, 2.7))
    sheet.cells(8.6, 2.2, y, "y", [["blue"] * 4 + ["orange"] * 4])
    return sheet


def zero_pad_shortcut() -> Sheet:
    """Every second pixel, and a channel of zeros."""
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    y, sheet = sn.ZeroPadShortcut(1, 2, stride=2).forward(x), Sheet(14, 6.6)
    taken = [["blue" if i % 2 == j % 2 == 0 else "none" for j in range(4)] for i in range(4)]
    sheet.cells(0.8, 1.6, x[0, 0], "x, 1 channel", taken)
    sheet.arrow((5.4, 3.6), (7.2, 3.6), words="stride 2")
    sheet.cells(8, 2.6, y[0, 0], "channel 0", "blue")
    sheet.cells(11, 2.6, y[0, 1], "channel 1", "grey")
    return sheet


# Normalisation and dropout


def batch_norm2d() -> Sheet:
    """The values of a channel, moved and stretched to mean 0 and deviation 1."""
    x = np.array([2, 3, 3.5, 4, 5, 6, 7.5, 9], np.float32).reshape(4, 1, 1, 2)
    layer = sn.BatchNorm2d(1)
    y, sheet = layer.forward(x), Sheet(17, 8.2)
    rows = (
        (x, 1.9, f"x: mean {x.mean():.0f}, deviation {x.std():.2f}", BLUE),
        (y, 5.5, "y: mean 0, deviation 1", ORANGE),
    )
    for values, height, words, color in rows:
        sheet.axes.plot([1, 16], [height, height], color=RULE, zorder=0)
        for tick in range(-3, 10):
            sheet.axes.plot([4.5 + 1.2 * tick] * 2, [height - 0.15, height + 0.15], color=RULE, zorder=0)
            sheet.text(4.5 + 1.2 * tick, height + 0.7, number(tick), color=QUIET, size=8)
        place = 4.5 + 1.2 * values.ravel()
        sheet.axes.scatter(place, [height] * len(place), s=46, color=color, edgecolor="white", zorder=2)
        sheet.text(1, height - 1.1, words, color=color, ha="left")
    sheet.text(1, 7.6, "the values of one channel, before weight and bias", ha="left", color=QUIET, size=9)
    return sheet


def dropout() -> Sheet:
    """Elements are dropped, the others doubled."""
    layer, x = sn.Dropout(0.5), np.array([[3, 1, 2, 4, 1, 2, 5, 1]], np.float32)
    layer.reseed(4)
    y, sheet = layer.forward(x), Sheet(13, 6.4)
    sheet.cells(3.6, 1.4, x, "", "blue")
    sheet.cells(3.6, 3.9, y, "", np.where(y == 0, "none", "blue"))
    sheet.text(1.9, 1.9, "x", color=QUIET)
    sheet.text(1.9, 4.4, "y, p = 0.5", color=QUIET)
    for j in np.flatnonzero(y):
        sheet.arrow((4.1 + j, 2.5), (4.1 + j, 3.8))
    sheet.text(6.5, 5.8, "dropped with probability 0.5, else divided by 0.5", color=QUIET, size=9)
    return sheet


def dropout2d() -> Sheet:
    """Whole channels are dropped."""
    layer, x = sn.Dropout2d(0.5), np.arange(1, 17, dtype=np.float32).reshape(1, 4, 2, 2)
    layer.reseed(1)
    y, sheet = layer.forward(x), Sheet(15, 8.4)
    for c in range(4):
        gone = not y[0, c].any()
        sheet.cells(3.1 + 3 * c, 1.5, x[0, c], f"channel {c}", "blue")
        sheet.cells(3.1 + 3 * c, 5.1, y[0, c], fills="none" if gone else "blue")
        if not gone:
            sheet.arrow((4.1 + 3 * c, 3.7), (4.1 + 3 * c, 4.9))
    sheet.text(1.4, 2.5, "x", color=QUIET)
    sheet.text(1.4, 6.1, "y, p = 0.5", color=QUIET)
    return sheet


# Activations: the curve and its slope


def curve(layer: Any, reach: float, words: str) -> Callable[[], Sheet]:
    """A function of one number in blue, its derivative in orange."""

    def draw() -> Sheet:
        x = np.linspace(-reach, reach, 401)[None]
        y, slope = layer.forward(x), layer.backward(np.ones_like(x))
        sheet = Sheet(13, 8)
        sheet.axes = axes = sheet.figure.add_axes((0.1, 0.12, 0.86, 0.83), facecolor=GROUND)
        slope[0, 1:][np.abs(np.diff(slope[0])) > 0.5] = np.nan  # a jump is no line
        axes.axhline(0, color=RULE, linewidth=1)
        axes.axvline(0, color=RULE, linewidth=1)
        axes.plot(x[0], y[0], color=BLUE, linewidth=2.4)
        axes.plot(x[0], slope[0], color=ORANGE, linewidth=2.4, linestyle="--")
        axes.tick_params(colors=QUIET, labelsize=9)
        for side, spine in axes.spines.items():
            spine.set(visible=side in ("left", "bottom"), color=RULE)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))
        top = {"transform": axes.transAxes, "ha": "left", "va": "top"}
        sheet.text(0.03, 0.98, f"y = {words}", color=BLUE, **top)
        sheet.text(0.03, 0.88, "its slope, dy/dx (dashed)", color=ORANGE, **top)
        return sheet

    return draw


def scores(layer: Any, digits: int) -> Callable[[], Sheet]:
    """Scores of four classes and what becomes of them, as numbers and as bars."""

    def draw() -> Sheet:
        x = np.array([[2.0, 1.0, -1.0, 0.0]], np.float32)
        y, sheet = layer.forward(x), Sheet(14, 8.2)
        top = np.abs(y).max()
        for j, value in enumerate(y[0]):
            sheet.cells(3.4 + 2 * j, 0.8, x[0, j], fills="blue")
            height = 3 * abs(value) / top
            sheet.axes.add_patch(Rectangle((3.4 + 2 * j, 6.2 - height), 1, height, facecolor=ORANGE))
            sheet.text(3.9 + 2 * j, 6.8, number(np.round(value, digits)))
            sheet.arrow((3.9 + 2 * j, 2), (3.9 + 2 * j, 2.8))
        sheet.text(1.6, 1.3, "x", color=QUIET)
        sheet.text(1.6, 6.8, "y", color=QUIET)
        words = f"four probabilities; their sum is {y.sum():.0f}"
        if y.min() < 0:
            words = "the logarithms of four probabilities; bars: how far below 0"
        sheet.text(7, 7.7, words, color=QUIET, size=9)
        return sheet

    return draw


# Networks


def residual() -> Sheet:
    """Two ways, and their sum."""
    x, body = np.array([[2, -1, 3]], np.float32), sn.Linear(3, 3, rng=RNG)
    body.weight.value[...] = [[0, 1, 1], [1, 0, 0], [-1, 0, 1]]
    network, sheet = sn.Residual(body), Sheet(21, 8.4)
    sheet.cells(0.8, 3.4, x, "x")
    sheet.arrow((4.1, 3.9), (5.6, 3.9))
    sheet.box(5.7, 2.9, 3.6, "body F")
    sheet.arrow((9.4, 3.9), (10.5, 3.9))
    sheet.cells(10.6, 3.4, body.forward(x), "F(x)", "blue")
    sheet.arrow((13.8, 3.9), (14.9, 3.9))
    sheet.text(15.5, 3.9, "+", size=18)
    sheet.axes.plot([4.8, 4.8, 15.5], [3.9, 6.6, 6.6], color=QUIET, linewidth=1.4)
    sheet.arrow((15.5, 6.6), (15.5, 4.7))
    sheet.text(10.2, 7.3, "shortcut: x as it is", color=QUIET)
    sheet.arrow((16.1, 3.9), (16.9, 3.9))
    sheet.cells(17.1, 3.4, network.forward(x), "y = F(x) + x", "orange")
    return sheet


def sequential() -> Sheet:
    """Shapes on the way forward, gradients on the way back."""
    layers = [sn.Conv2d(1, 6, 5, rng=RNG), sn.ReLU(), sn.MaxPool2d(2), sn.Flatten(), sn.Linear(864, 10, rng=RNG)]
    network = sn.Sequential(*layers, input_shape=(1, 28, 28))
    sheet, shapes = Sheet(13.5, 20.6), network.shapes((1, 28, 28))
    for i, layer in enumerate(layers):
        sheet.box(4.9, 2.4 + 3.5 * i, 3.7, type(layer).__name__)
    for i, shape in enumerate([(1, 28, 28), *shapes[-5:]]):
        y = 0.9 + 3.5 * i
        sheet.arrow((5.8, y), (5.8, y + 1.4), BLUE)
        sheet.arrow((7.7, y + 1.4), (7.7, y), ORANGE)
        sheet.text(9, y + 0.7, "x".join(map(str, shape)), ha="left")
    sheet.text(2.5, 10, "forward:\nthe output of\na layer is the\ninput of the\nnext", color=BLUE)
    sheet.text(11.2, 10, "backward:\ndx of a layer\nis dy of the one\nbefore", color=ORANGE)
    return sheet


def rbf() -> Sheet:
    """A code for each class, and how far the features are from it."""
    layer = next(layer for layer in sn.lenet5_1998(rng=RNG).layers if isinstance(layer, sn.RBF))
    x = layer.codes.value[7:8].copy()
    x[0, ::9] *= -0.5
    y, sheet = layer.forward(x), Sheet(20, 9.4)
    shown = [("x", x[0], "")] + [
        (f"code of {k}", layer.codes.value[k], number(np.round(y[0, k], 1))) for k in (1, 2, 7)
    ]
    for i, (title, code, score) in enumerate(shown):
        left = 0.9 + 4.8 * i
        sheet.axes.imshow(
            -code.reshape(12, 7), cmap="gray", vmin=-1, vmax=1, extent=(left, left + 3.5, 7.4, 1.4), zorder=1
        )
        sheet.frame(left, 1.4, 3.5, 6, RULE)
        sheet.text(left + 1.75, 0.8, title, color=QUIET)
        sheet.text(left + 1.75, 8.2, score and f"y = {score}", color=ORANGE if title.endswith("7") else INK)
    sheet.axes.set(xlim=(0, 20), ylim=(9.4, 0), aspect="auto")
    return sheet


PICTURES: dict[str, Callable[[], Sheet]] = {
    "AvgPool2d": avg_pool2d,
    "BatchNorm2d": batch_norm2d,
    "Conv2d": conv2d,
    "Dropout": dropout,
    "Dropout2d": dropout2d,
    "Flatten": flatten,
    "GlobalAvgPool2d": global_avg_pool2d,
    "LeakyReLU": curve(sn.LeakyReLU(0.1), 3, "x where x > 0, else 0.1 x"),
    "Linear": linear,
    "LogSoftmax": scores(sn.LogSoftmax(), 2),
    "MaxPool2d": max_pool2d,
    "RBF": rbf,
    "ReLU": curve(sn.ReLU(), 3, "max(x, 0)"),
    "Residual": residual,
    "ScaledTanh": curve(sn.ScaledTanh(), 3, "1.7159 tanh(2x/3)"),
    "Sequential": sequential,
    "Sigmoid": curve(sn.Sigmoid(), 5, "1 / (1 + exp(\N{MINUS SIGN}x))"),
    "Softmax": scores(sn.Softmax(), 2),
    "TableConv2d": table_conv2d,
    "Tanh": curve(sn.Tanh(), 3, "tanh x"),
    "TrainableSubsampling2d": trainable_subsampling2d,
    "ZeroPadShortcut": zero_pad_shortcut,
}


def main(names: Iterable[str] = ()) -> None:
    """Write the pictures, or those of `names`."""
    for name in names or PICTURES:
        write_atomic(FOLDER / f"{name}.svg", PICTURES[name]().svg())


if __name__ == "__main__":
    main(sys.argv[1:])
