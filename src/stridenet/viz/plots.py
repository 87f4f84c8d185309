"""The four pictures of a run: curves, confusion, mistakes, filters."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stridenet.errors import ConfigError, ShapeError
from stridenet.files import write_atomic
from stridenet.layout import Array
from stridenet.shapes import grouped
from stridenet.train.metrics import standing, wilson_interval
from stridenet.viz import figures
from stridenet.viz.figures import BLUE, GREEN, INK, ORANGE, PALE, RULE, column, percent, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss, validation error with its 95 % interval and best epoch, and learning rate over the epochs.

    A row of history has epoch (from 0), train_loss, lr and, where there was a validation, validation_loss,
    validation_accuracy (0 to 1) and validation_n.

    Raises:
        ConfigError: history is empty.
    """
    if not history:
        raise ConfigError("plots.curves: expected at least one epoch, got an empty history")
    figure = figures.figure(7.2, 6.6 if validated(history) else 4.4)
    title, below = draw_curves(figure, history)
    figures.title(figure.axes[0], title, below)
    _save(figure, path)


def validated(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any epoch of the history was judged on validation images."""
    return bool(np.isfinite(column(history, "validation_accuracy")).any())


def draw_curves(figure: Figure, history: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Draw loss, validation error and learning rate into an empty figure; what they show, in two lines."""
    from matplotlib.ticker import MaxNLocator

    epochs, accuracy = column(history, "epoch") + 1, column(history, "validation_accuracy")
    ratios = [3, 3, 1.2] if validated(history) else [3, 1.2]
    panels: list[Axes] = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios))
    for panel in panels:
        quiet(panel)
        panel.grid(color=RULE, linewidth=0.6)
    _loss_panel(panels[0], epochs, history)
    if validated(history):
        best = max(range(len(history)), key=lambda i: standing(history[i]))
        title = f"Validation accuracy {percent(accuracy[best])} (best, epoch {epochs[best]:.0f})"
        below = _error_panel(panels[1], epochs, accuracy, column(history, "validation_n"), best)
    else:
        title = f"Training loss {figures.number(column(history, 'train_loss')[-1], 4)} after epoch {epochs[-1]:.0f}"
        below = "no validation images"
    figures.line(panels[-1], epochs, column(history, "lr"), GREEN, "learning rate")
    panels[-1].set(xlabel="epoch", ylabel="learning rate", ylim=(0, None), xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels(panels)
    return title, below


def _loss_panel(axes: Axes, epochs: Array, history: Sequence[Mapping[str, Any]]) -> None:
    train, validation = column(history, "train_loss"), column(history, "validation_loss")
    figures.line(axes, epochs, train, BLUE, "training")
    if np.isfinite(validation).any():
        figures.line(axes, epochs, validation, ORANGE, "validation")
    figures.value_axis(axes, np.concatenate([train, validation]))
    axes.set_ylabel("loss")
    figures.legend(axes)


def _error_panel(axes: Axes, epochs: Array, accuracy: Array, n: Array, best: int) -> str:
    """Draw the validation error; the words for the best epoch's n and interval."""
    error = 100 * (1 - accuracy)
    figures.line(axes, epochs, error, ORANGE, "validation")
    axes.plot(epochs[best], error[best], "o", ms=10, mfc="none", mec=INK, mew=1.2, label=f"best: {error[best]:.2f} %")
    words = "number of validation images not recorded"
    if np.isfinite(n[best]):
        known = [i for i in range(len(n)) if np.isfinite(n[i]) and np.isfinite(accuracy[i])]
        bounds = np.array([wilson_interval(round(accuracy[i] * n[i]), int(n[i])) for i in known])  # (known, 2)
        upper, lower = 100 * (1 - bounds.T)
        x = epochs[known] if len(known) > 1 else epochs[known] + [-0.06, 0.06]  # one epoch: a bar, not a line
        axes.fill_between(x, lower, upper, color=ORANGE, alpha=0.15, linewidth=0, label="95 % interval")
        low, high = 100 * bounds[known.index(best)]
        words = f"of {grouped(int(n[best]))} validation images, 95 % interval {low:.2f} to {high:.2f}"
    figures.value_axis(axes, error)
    axes.set_ylabel("error (%)")
    figures.legend(axes)
    return words


def confusion(matrix: Array, classes: Sequence[str], path: Path) -> None:
    """The counts of matrix (K, K), rows true and columns predicted class; errors coloured, the diagonal neutral.

    The colour of a cell is its share of the images of the true class. Over 20 classes the counts are left out.

    Raises:
        ShapeError: the matrix does not fit the classes, or counts no image.
    """
    k = len(classes)
    if matrix.shape != (k, k) or matrix.sum() == 0:
        raise ShapeError(f"plots.confusion: expected counts ({k}, {k}) of at least one image, got {matrix.shape}")
    names, fonts = figures.labels(classes, 22)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, math.nan)
    top = float(np.nanmax(share, initial=0)) or 1.0
    side = min(max(4.6, 1.5 + 0.5 * k), 10.5)
    figure = figures.figure(side + 1.0, side + 0.7)
    axes = figure.add_subplot()
    axes.set_facecolor(PALE)
    image = axes.imshow(share, figures.colours("#ffffff", "#fdd9bd", "#f08a4b", "#8f2d00"), vmin=0, vmax=top)
    if k <= 20:
        _cell_counts(axes, matrix, share / top)
    wide = max(map(figures.letters, names)) > 9 * side / k  # letters that fit beside each other under a cell
    ticks, size = range(0, k, -(-k // 100)), 9 if k <= 20 else 5
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if wide else 0)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    axes.set(xlabel="predicted class", ylabel="true class")
    quiet(axes, size)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_fontfamily(fonts)
    if np.trace(matrix) < matrix.sum():
        figures.colour_bar(axes, image, "share of the true class (%)")
    n, correct = int(matrix.sum()), int(np.trace(matrix))
    low, high = (100 * bound for bound in wilson_interval(correct, n))
    below = f"95 % interval {low:.2f} to {high:.2f}{most_frequent(matrix, names)}"
    figures.title(axes, f"Accuracy {percent(correct / n)} of {grouped(n)} images", below, fonts)
    _save(figure, path)


def _cell_counts(axes: Axes, matrix: Array, strength: Array) -> None:
    size = 9.5 if matrix.max() < 10_000 else 7
    for (i, j), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if strength[i, j] > 0.78 else INK
            axes.text(j, i, str(count), color=colour, fontsize=size, ha="center", va="center")


def most_frequent(matrix: Array, names: Sequence[str]) -> str:
    """The end of a sentence about the mistake that is made most often."""
    errors = matrix - np.diag(np.diag(matrix))
    if not errors.any():
        return ", no mistake"
    if errors.max() == 1:
        return "\nno mistake more than once"
    true, predicted = divmod(int(errors.argmax()), len(names))
    return f"\nmost frequent mistake: {names[true]} taken for {names[predicted]}, {errors[true, predicted]} times"


def mistakes(
    images: Array, targets: Array, probabilities: Array, classes: Sequence[str], path: Path, *, count: int = 36
) -> None:
    """The `count` most confident mistakes among images (N, C, H, W), uint8 or float 0..1, C 1 or 3, as a grid.

    Each is labelled with its true class, the predicted one, and the probability (N, K) of that.

    Raises:
        ShapeError: images, targets (N,), probabilities and classes do not fit each other, or C is not 1 or 3.
    """
    fits = images.ndim == 4 and images.shape[1] in (1, 3) and len(images) == len(targets) == len(probabilities)
    if not fits or probabilities.shape[1:] != (len(classes),):
        raise ShapeError(
            f"plots.mistakes: expected images (N, 1 or 3, H, W), targets (N,), probabilities (N, {len(classes)}),"
            f" got {images.shape}, {targets.shape}, {probabilities.shape}"
        )
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    shown, wrong = most_confident(probabilities, targets, count)
    names, fonts = figures.labels(classes, 10)
    short = max(map(figures.letters, names)) <= 3
    height, text = images.shape[2] / images.shape[3], 0.18 if short else 0.32  # a tile is 1 wide
    columns, step = min(6, max(4, len(shown))), height + text + 0.14
    rows = -(-len(shown) // columns)
    figure = figures.figure(1.35 * columns, 1.2 * rows * step + 0.8)
    axes = figure.add_subplot()
    for place, index in enumerate(shown):
        x, y = place % columns * 1.15, place // columns * step
        _tile(axes, images[index], (x, x + 1, y + height, y))
        true, wrongly = names[targets[index]], names[predicted[index]]
        label = f"{true}{' ' if short else chr(10)}→ {wrongly} ({confidence[index]:.3f})"
        axes.text(x, y - 0.03, label, color=INK, fontsize=8 if short else 7.5, family=fonts, va="bottom")
    axes.set(xlim=(0, 1.15 * columns - 0.15), ylim=(max(rows * step - text, 0.1), -text), aspect="equal")
    axes.axis("off")
    figures.title(axes, *_mistake_words(len(shown), wrong, len(images)))
    _save(figure, path)


def most_confident(probabilities: Array, targets: Array, count: int) -> tuple[Array, int]:
    """The indices of the `count` most confident mistakes, the worst first, and how many mistakes there are in all."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    order = np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")
    return wrong[order][:count], len(wrong)


def _mistake_words(shown: int, wrong: int, n: int) -> tuple[str, str]:
    if wrong == 0:
        return f"No mistakes in {grouped(n)} images", "every image was given its true class"
    what = f"The {shown} most confident of" if shown < wrong else "All"
    plural = "mistake" if wrong == 1 else "mistakes"
    title = f"{what} {grouped(wrong)} {plural} in {grouped(n)} images"
    return title, "true → predicted class, probability of the latter"


def _tile(axes: Axes, image: Array, extent: tuple[float, float, float, float]) -> None:
    x = image.astype(np.float64) / (255 if image.dtype == np.uint8 else 1)
    pixels = np.repeat(x, 4 - len(x), axis=0)[:3] if len(x) == 1 else x
    axes.imshow(pixels.transpose(1, 2, 0).clip(0, 1), extent=extent, interpolation="nearest")  # (H, W, 3)


def filters(weight: Array, path: Path) -> None:
    """First-layer filters, weight (K, C, R, S), as tiles of one colour scale that is symmetric about zero.

    Three channels are drawn as one RGB tile, grey being zero; of these and of one-channel filters the first 64 are
    drawn. Other channels have a tile each: columns are the first 32 filters, rows the first 16 input channels.

    Raises:
        ShapeError: weight is not (K, C, R, S), or empty.
    """
    if weight.ndim != 4 or weight.size == 0:
        raise ShapeError(f"plots.filters: expected weight (K, C, R, S), got {weight.shape}")
    k, c, r, s = weight.shape
    limit = float(np.abs(weight).max()) or 1.0
    spread = c not in (1, 3)
    shown = min(k, 32 if spread else 64)
    tiles = weight[:shown, :16].swapaxes(0, 1).reshape(-1, 1, r, s) if spread else weight[:shown]
    columns = shown if spread else min(8, shown)
    rows = -(-len(tiles) // columns)
    mosaic = figures.mosaic(tiles, columns)  # (rows, columns, 1 or 3)
    tile = 0.32 if spread else 0.8  # inches
    figure = figures.figure(max(3.0, columns * tile + 1.6), max(2.6, rows * tile * (r + 1) / (s + 1) + 1.4))
    axes = figure.add_subplot()
    if c == 3:
        axes.imshow(np.where(np.isnan(mosaic), 1, 0.5 + mosaic / (2 * limit)), interpolation="nearest")
    else:
        colours = figures.colours("#053e63", "#4b9ccc", "#ffffff", "#ee8f4e", "#7f2a00")
        axes.set_facecolor(PALE)  # the gaps: white is a weight of zero
        image = axes.imshow(mosaic[..., 0], colours, vmin=-limit, vmax=limit, interpolation="nearest")
        figures.colour_bar(axes, image, "weight")
    axes.set_xticks(np.arange(columns) * (s + 1) + (s - 1) / 2, [str(i) for i in range(columns)])
    axes.set_yticks(np.arange(rows) * (r + 1) + (r - 1) / 2, [str(i if spread else i * columns) for i in range(rows)])
    axes.set(xlabel="filter" if spread or rows == 1 else "filter: row + column")
    axes.set(ylabel="input channel" if spread else "filter")
    axes.yaxis.set_visible(spread or rows > 1)
    quiet(axes)
    axes.tick_params(length=0)
    number = f"{shown} of {k}" if shown < k else str(k)
    words = "colours: input channels, grey is zero" if c == 3 else "blue negative, white zero, orange positive"
    figures.title(axes, f"First-layer filters ({number}): weights {weight.min():.2f} to {weight.max():.2f}", words)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    buffer = BytesIO()
    # "tight": nothing is clipped, whatever the labels. No "Software", which holds a version: equal bytes.
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
