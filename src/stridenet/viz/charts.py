"""The charts of a report: matplotlib's figures as SVG inside a page, in its colours and its font.

The colours of `figures` become those of the page, so that a chart follows it into the dark and onto paper. Equal data
give equal bytes, and no two charts of a page share an id.
"""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stridenet.layout import Array
from stridenet.shapes import grouped
from stridenet.train.metrics import Reliability, wilson_interval
from stridenet.viz import figures, page, plots
from stridenet.viz.figures import BLUE, GREEN, INK, ORANGE, PALE, QUIET, RULE, column, percent, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]

MOST_LINES = 9  # that can be told apart
_LINES = [(colour, style) for style, colour in product(("-", "--", ":"), (BLUE, ORANGE, GREEN))]
_WIDTH = 4.4  # inches: on a phone the letters are as large as they are drawn
_VARIABLES = {INK: "ink", QUIET: "quiet", RULE: "rule", PALE: "pale", BLUE: "blue", ORANGE: "orange", GREEN: "green"}
_WRONG, _RIGHT = (0.835, 0.369, 0.0), (0.5, 0.5, 0.5, 0.22)  # cells of a confusion matrix: ORANGE, and a grey
_USUAL = 1e-3  # of update to weight: CS231n's notes "Neural networks 3" call it a rough heuristic


class Chart(NamedTuple):
    """A picture, and what it shows in words: the finding, and a lesser line."""

    svg: str
    title: str
    below: str


def curves(history: History, key: str) -> Chart:
    """Loss, validation error with its interval, and the learning rate under them; `history` as in `plots.curves`."""
    figure = figures.figure(_WIDTH, 5.2 if plots.validated(history) else 3.4)
    title, below = plots.draw_curves(figure, history)
    return _chart(figure, key, title, below)


def comparison(runs: Sequence[tuple[str, History]], key: str) -> Chart:
    """Training loss and, where there was a validation, its error of several runs, each with its name."""
    shown = runs[:MOST_LINES]
    names, _ = figures.labels([name for name, _ in shown], 40)
    judged = any(plots.validated(history) for _, history in shown)
    figure = figures.figure(_WIDTH, (5.2 if judged else 3.2) + 0.18 * len(shown))
    panels = _panels(figure, 1 + judged)
    for word, (_, history), (colour, style) in zip(names, shown, _LINES, strict=False):
        epochs = column(history, "epoch") + 1
        figures.line(panels[0], epochs, column(history, "train_loss"), colour, word, style)
        if plots.validated(history):
            error = 100 * (1 - column(history, "validation_accuracy"))
            figures.line(panels[1], epochs, error, colour, word, style)
    for panel, label in zip(panels, ("training loss", "validation error (%)"), strict=False):
        panel.set_ylabel(label)
        _value_axis(panel)
    _legend_below(figure, panels[0], columns=1)
    some = f"Curves of {len(runs)} runs" if len(shown) == len(runs) else f"Curves of the first {len(shown)} runs"
    return _chart(figure, key, some, "training loss" + ", and validation error where there is one" * judged)


def confusion(matrix: Array, classes: Sequence[str], key: str) -> Chart:
    """The counts of matrix (K, K), rows true and columns predicted class, as `plots.confusion` but for the colours."""
    k, n, correct = len(classes), int(matrix.sum()), int(np.trace(matrix))
    names, _ = figures.labels(classes, 14)
    errors = matrix - np.diag(np.diag(matrix))
    share = errors / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = np.empty((k, k, 4))
    colours[..., :3] = _WRONG
    colours[..., 3] = 0.5 * share / (share.max() or 1.0)  # half of the colour at most: counts can be read on it
    colours[np.arange(k), np.arange(k)] = _RIGHT
    figure = figures.figure(_WIDTH, _WIDTH)
    axes = figure.add_subplot()
    axes.imshow(colours, interpolation="none")
    if k <= 20:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                size = 9 if k <= 10 and n < 100_000 else 6
                axes.text(j, i, str(count), color=INK, fontsize=size, ha="center", va="center")
    ticks = range(0, k, -(-k // 40))
    wide = k > 20 or max(map(figures.letters, names)) > 40 / k  # letters that fit beside each other under a cell
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if wide else 0)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    axes.set(xlabel="predicted class", ylabel="true class")
    quiet(axes, 9 if k <= 20 else 5)
    low, high = (100 * bound for bound in wilson_interval(correct, n))
    title = f"Accuracy {percent(correct / n)} of {grouped(n)} images"
    plain = [name.replace(r"\$", "$") for name in names]
    most = plots.most_frequent(matrix, plain).replace("\n", "; ").lstrip(",; ")
    return _chart(figure, key, title, f"95 % interval {low:.2f} to {high:.2f}; {most}")


def reliability(found: Reliability, key: str) -> Chart:
    """Accuracy over confidence with its 95 % interval in each bin, and how many images are in it."""
    figure = figures.figure(_WIDTH, 4.6)
    axes, counts = _panels(figure, 2, ratios=(3, 1))
    axes.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1, label="as sure as right")
    known = np.flatnonzero(found.images)
    intervals = [wilson_interval(int(found.correct[i]), int(found.images[i])) for i in known]
    bounds = np.array(intervals)  # (bins with images, 2)
    around = np.abs(bounds.T - found.accuracy[known])  # below and above
    marks: dict[str, Any] = {"fmt": "o", "ms": 4, "color": BLUE, "elinewidth": 1.2}
    axes.errorbar(found.confidence[known], found.accuracy[known], around, label="accuracy, 95 % interval", **marks)
    axes.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.03, 1.03))
    figures.legend(axes)
    counts.bar(found.edges[:-1], found.images, np.diff(found.edges), align="edge", color=BLUE, alpha=0.6)
    counts.set(xlabel="confidence", ylabel="images", yscale="log", ylim=(0.7, 2 * found.images.max()))
    powers = range(0, 1 + int(math.log10(found.images.max())), 1 + int(math.log10(found.images.max()) / 4))
    counts.set_yticks([10**power for power in powers], [grouped(10**power) for power in powers])
    counts.minorticks_off()
    n, confidence = int(found.images.sum()), float(np.nansum(found.images * found.confidence))
    title = f"Expected calibration error {percent(found.error)}"
    below = f"mean confidence {percent(confidence / n)}, accuracy {percent(found.correct.sum() / n)}"
    return _chart(figure, key, title, f"{below}, {grouped(n)} images in {len(found.images)} bins")


def norms(epochs: Array, found: Mapping[str, Array], key: str) -> Chart:
    """Norms of weight and gradient, and of the update to the weight, over the epochs: (epochs, 3) by parameter."""
    names = list(found)
    if len(names) > MOST_LINES:  # the first, the last, and those between in equal steps
        names = [names[i * (len(names) - 1) // (MOST_LINES - 1)] for i in range(MOST_LINES)]
    words, _ = figures.labels(names, 24)
    figure = figures.figure(_WIDTH, 6.2 + 0.18 * -(-len(names) // 2))
    panels = _panels(figure, 3)
    ratios: list[Array] = []
    for word, name, (colour, style) in zip(words, names, _LINES, strict=False):
        weight, gradient, update = found[name].T
        ratios.append(ratio(weight, update))
        for panel, values in zip(panels, (weight, gradient, ratios[-1]), strict=True):
            figures.line(panel, epochs + 1, values, colour, word, style)
    for panel, label in zip(panels, ("weight", "gradient", "update / weight"), strict=True):
        panel.set_ylabel(label)
        _value_axis(panel)
    panels[2].axhline(_USUAL, color=QUIET, linewidth=1, linestyle="--")
    _legend_below(figure, panels[0], columns=2)
    usual = [float(np.median(known)) for known in (values[np.isfinite(values)] for values in ratios) if len(known)]
    title = "Weights and gradients"
    if usual and max(usual) > 0:
        low, high = (figures.number(value, 2) for value in (min(usual), max(usual)))
        title = f"A step moves the weights by {low} to {high} {'of' if max(usual) < 1 else 'times'} their norm"
    elif usual:
        title = "The weights do not move"
    return _chart(figure, key, title, "Euclidean norms at the first step of each epoch; dashed: one in a thousand")


def ratio(weight: Array, update: Array) -> Array:
    """update / weight, NaN where the weight is zero, or so small that only a forged history has it."""
    return np.divide(update, weight, out=np.full(weight.shape, math.nan), where=weight > 1e-100)


def times(layers: Sequence[str], milliseconds: Array, key: str, about: str) -> Chart:
    """Milliseconds (layers, 2) of the forward and the backward of each layer, in bars."""
    figure = figures.figure(_WIDTH, 0.9 + 0.3 * len(layers))
    axes = figure.add_subplot()
    places, (forward, backward) = np.arange(len(layers)), milliseconds.T
    axes.barh(places - 0.2, forward, 0.36, color=BLUE, label="forward")
    axes.barh(places + 0.2, backward, 0.36, color=ORANGE, label="backward")
    axes.set_yticks(places, figures.labels(layers, 26)[0])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.grid(color=RULE, linewidth=0.6, axis="x")
    axes.set_axisbelow(True)
    quiet(axes)
    figures.legend(axes)
    slowest = int(milliseconds.sum(axis=1).argmax())
    total = float(milliseconds.sum())
    share = milliseconds[slowest].sum() / total
    return _chart(figure, key, f"{total:.3g} ms in all, {100 * share:.0f} % of it in {layers[slowest]}", about)


def _panels(figure: Figure, count: int, ratios: Sequence[float] | None = None) -> list[Axes]:
    """Panels under each other on one axis of epochs, or of what the last one says."""
    from matplotlib.ticker import MaxNLocator

    panels: list[Axes] = list(figure.subplots(count, 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0])
    for panel in panels:
        quiet(panel)
        panel.grid(color=RULE, linewidth=0.6)
        panel.set_axisbelow(True)
    if ratios is None:
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return panels


def _value_axis(panel: Axes) -> None:
    """The axis of the values that are drawn."""
    figures.value_axis(panel, np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in panel.lines]))


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    handles, names = axes.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside lower left", "ncols": columns}
    figure.legend(handles, names, frameon=False, fontsize=9, labelcolor=QUIET, **place)


def _chart(figure: Figure, key: str, title: str, below: str) -> Chart:
    return Chart(_svg(figure, key, f"{title}; {below}"), title, below)


def _svg(figure: Figure, key: str, label: str) -> str:
    """The figure as an element of a page; `key` makes its ids its own, `label` says what it shows."""
    from matplotlib import rc_context

    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)  # the ground is the page's
    buffer, nothing = StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.04, metadata=nothing)
    whole = _STYLE.sub("", buffer.getvalue())  # or it would be one of the whole page
    box, inside = whole[whole.index("<svg") :].split(">", 1)
    view = " ".join(re.findall(r'viewBox="[^"]*"', box))
    return f'<svg role="img" aria-label="{page.text(label)}" {view}>{_TAG.sub(_of_page, inside).strip()}'


def _of_page(tag: re.Match[str]) -> str:
    """A tag of matplotlib's as the page wants it."""
    text = tag[0]
    for pattern, better in _PAGE:
        text = pattern.sub(better, text)
    return text


_STYLE, _TAG = re.compile(r"<style.*?</style>", re.DOTALL), re.compile(r"<[^>]*>")
_PAGE = [
    (re.compile(pattern), better)
    for pattern, better in (
        (r"^<g id=\"[^\"]*\"", "<g"),  # names that every figure gives; what is referred to has another
        (r"xlink:href", "href"),
        (r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1"),
        (r"; font-family: [^;\"]*", ""),
        (r"(\.\d\d)\d+", r"\1"),  # a hundredth of a point is enough
        *((colour, f"var(--{name})") for colour, name in _VARIABLES.items()),
    )
]
