"""The sections of a report about one run, each as HTML, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from stridenet.errors import printable
from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.shapes import by, grouped
from stridenet.train.metrics import Metrics, PerClass, per_class, reliability, standing
from stridenet.viz import charts, pixels
from stridenet.viz.blocks import (
    DASH,
    AbsentError,
    band,
    brief,
    drawing,
    four_digits,
    four_places,
    paragraph,
    picture,
    section,
    table,
)
from stridenet.viz.charts import History
from stridenet.viz.figures import column, percent
from stridenet.viz.insides import filters, maps, norms, times
from stridenet.viz.page import text
from stridenet.viz.plots import most_confident
from stridenet.viz.runs import Record

_MISTAKES = 36  # shown
_MOST_ROWS = 1000  # of a table of epochs
_LONGEST = 500  # characters of a value
_WIDEST_TABLE = 30  # classes whose counts are a whole table


class _Section(NamedTuple):
    """A section: its title, its key in links, how to read it, and what makes it."""

    title: str
    key: str
    how: str
    make: Callable[[Record, str], Sequence[str]]


_Band = tuple[list[_Section], ...]  # columns beside each other, as high as each other for ten classes


def sections(run: Record, key: str, level: int, image: int | None) -> list[str]:
    """All sections about a run, in bands; where a section has nothing to show it says why, in a line.

    Args:
        run: the run.
        key: begins every id.
        level: of the headings.
        image: of which the feature maps are; None is the first that is classified correctly.
    """
    return [
        band(*([_made(each, run, key, level) for each in column] for column in columns)) for columns in _bands(image)
    ]


def _made(each: _Section, run: Record, key: str, level: int) -> str:
    own = f"{key}-{each.key}"
    try:
        parts = [paragraph(each.how, "how"), *each.make(run, own)]
    except AbsentError as nothing:
        parts = [paragraph(str(nothing), "note")]
    return section(each.title, own, level, parts)


def _bands(image: int | None) -> list[_Band]:
    return [_RESULTS, _WRONG, *_inside(image), _MADE_WITH]


def places(key: str) -> list[tuple[str, str]]:
    """The title and the id of each section about a run whose ids begin with `key`."""
    return [(each.title, f"{key}-{each.key}") for columns in _bands(None) for part in columns for each in part]


def summary(run: Record) -> str:
    """What a run is, and what it found."""
    recipe, model = run.recipe, run.model
    rows = [("recipe", recipe["name"]), ("data", recipe["data"]["name"]), *_ending(run)]
    if model is not None:
        rows += [("parameters", grouped(trained(model.network))), ("images", by(model.image_shape))]
    rows += [("seed", str(recipe["train"]["seed"])), ("date", f"{run.date:%Y-%m-%d %H:%M} UTC")]
    big, small = "Not finished", f"{len(run.history)} of {recipe['train']['epochs']} epochs are done"
    if run.metrics is not None:
        low, high = (100 * bound for bound in run.metrics.interval)
        big = percent(run.metrics.accuracy)
        small = f"of {grouped(run.metrics.n)} test images, 95 % interval {low:.2f} to {high:.2f}"
    terms = "".join(f"<div><dt>{text(name)}</dt><dd>{text(brief(value))}</dd></div>" for name, value in rows)
    return f'<p class="result"><strong>{text(big)}</strong> <span>{text(small)}</span></p><dl>{terms}</dl>'


def _ending(run: Record) -> list[tuple[str, str]]:
    """How the training went, if it has ended."""
    if run.results is None:
        return []
    ended = run.results["ended_by"].replace("_", " ")
    by_what = "" if ended == "epochs" else f", ended by {ended}"
    return [
        ("origin", str(run.results["data"].get("origin", DASH))),
        ("epochs", f"{run.results['epochs']} in {run.results['seconds']} s{by_what}"),
        ("weights", f"of epoch {run.results['best_epoch'] + 1}"),
    ]


def trained(network: Layer) -> int:
    """The number of trained parameters."""
    return sum(parameter.value.size for _, parameter in network.named_parameters() if parameter.trainable)


def leaves(value: Any, name: str = "") -> list[tuple[str, str]]:
    """The values at the ends of nested dicts by their path, each as a text.

    >>> leaves({"train": {"epochs": 3, "loss": "mse"}})
    [('train.epochs', '3'), ('train.loss', 'mse')]
    """
    if isinstance(value, dict) and value:
        fields = cast("dict[str, Any]", value)
        return [leaf for key in fields for leaf in leaves(fields[key], f"{name}.{key}" if name else key)]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]


def some_epochs(history: History) -> History:
    """The epochs that a table shows: all, or of many some, evenly, with the first, the last and the best."""
    if len(history) <= _MOST_ROWS:
        return history
    best = max(range(len(history)), key=lambda i: standing(history[i]))
    even = np.linspace(0, len(history) - 1, _MOST_ROWS - 1).round().astype(int).tolist()
    return [history[i] for i in sorted({*even, best})]


def thinned(*histories: History) -> str:
    """The end of the caption of a table of histories: which epochs it has, if not all."""
    if max(map(len, histories)) <= _MOST_ROWS:
        return ""
    return f"; of more than {grouped(_MOST_ROWS)} epochs so many, evenly, with the first, the last and the best"


# What a section needs; AbsentError says why it is not there


def _metrics(run: Record) -> Metrics:
    """What the test found."""
    if run.metrics is None:
        again = f"stridenet train --resume {printable(run.folder)}"
        raise AbsentError(f"The run is not finished, so no test image has been judged yet; {again} goes on with it.")
    return run.metrics


def _probabilities(run: Record) -> tuple[Array, Array, Array]:
    """The test images, their targets, and the probabilities of their classes."""
    _metrics(run)
    if run.test is None or run.probabilities is None:
        raise AbsentError(run.why)
    return run.test.images, run.test.targets, run.probabilities


# The sections that need no model


def _curves(run: Record, key: str) -> list[str]:
    if not run.history:
        raise AbsentError("No epoch is done yet.")
    head = ["epoch", "training loss", "validation loss", "validation accuracy", "learning rate", "seconds"]
    names = ("train_loss", "validation_loss", "validation_accuracy", "lr", "seconds")
    some = some_epochs(run.history)
    columns = [four_digits(column(some, name)) for name in names]
    rows = [(str(row["epoch"] + 1), *cells) for row, *cells in zip(some, *columns, strict=True)]
    caption = "The history" + thinned(run.history)
    return [drawing(charts.curves(run.history, key), table(caption, head, rows))]


def _confusion(run: Record, key: str) -> list[str]:
    names, matrix = [brief(name) for name in run.classes], _metrics(run).confusion
    if len(names) <= _WIDEST_TABLE:
        counts = [(name, *map(str, row)) for name, row in zip(names, matrix.tolist(), strict=True)]
        numbers = table("Images by true class (row) and predicted class (column)", ["", *names], counts)
    else:
        wrong = matrix - np.diag(np.diag(matrix))
        worst = [divmod(int(cell), len(names)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:100]]
        rows = [(names[i], names[j], str(wrong[i, j])) for i, j in worst if wrong[i, j]]
        numbers = table("The most frequent mistakes", ["true class", "predicted class", "images"], rows)
    return [drawing(charts.confusion(matrix, run.classes, key), numbers)]


def _classes(run: Record, _key: str) -> list[str]:
    found = per_class(_metrics(run).confusion)
    rows = [
        (brief(name), str(images), *four_places(shares))
        for name, images, *shares in zip(run.classes, found.images, *found[1:], strict=True)
    ]
    known = [values[np.isfinite(values)] for values in found[1:]]
    rows.append(("mean", "", *four_places([values.mean() if len(values) else np.nan for values in known])))
    return [table("Each class of the test", ["class", "images", *PerClass._fields[1:]], rows)]


def _calibration(run: Record, key: str) -> list[str]:
    _, targets, probabilities = _probabilities(run)
    found = reliability(probabilities, targets)
    bins = zip(found.edges[:-1], found.edges[1:], found.images, found.confidence, found.accuracy, strict=True)
    rows = [(f"{low:.3f} to {high:.3f}", str(images), *four_places(shares)) for low, high, images, *shares in bins]
    numbers = table("The bins", ["confidence", "images", "mean confidence", "accuracy"], rows)
    return [drawing(charts.reliability(found, key), numbers)]


def _mistakes(run: Record, _key: str) -> list[str]:
    images, targets, probabilities = _probabilities(run)
    shown, wrong = most_confident(probabilities, targets, _MISTAKES)
    if not wrong:
        return [paragraph(f"There is none in {grouped(len(images))} images.")]
    tiles: list[str] = []
    for i in shown.tolist():
        taken = int(probabilities[i].argmax())
        true, said = brief(run.classes[targets[i]]), brief(run.classes[taken])
        image = picture(pixels.photo(images[i]), f"test image {i}: {true}, taken for {said}", widest=96)
        words = f"<b>{text(true)} → {text(said)}</b> <span>{probabilities[i, taken]:.3f}, image {i}</span>"
        tiles.append(f"<li>{image}{words}</li>")
    some = f"The {len(shown)} most confident of {grouped(wrong)}" if len(shown) < wrong else f"All {wrong}"
    return [paragraph(f"{some}, in {grouped(len(images))} images."), f'<ul class="tiles">{"".join(tiles)}</ul>']


def _recipe(run: Record, _key: str) -> list[str]:
    return [_values("Every key, the defaults too", run.recipe)]


def _machine(run: Record, _key: str) -> list[str]:
    _metrics(run)
    record = {name: (run.results or {})[name] for name in ("machine", "data")}
    return [_values("What the run was made with", record)]


def _values(caption: str, record: dict[str, Any]) -> str:
    rows = [(brief(name), brief(value, _LONGEST)) for name, value in leaves(record)]
    return table(caption, ["name", "value"], rows, numbers=False)


_RESULTS: _Band = (
    [
        _Section(
            *("Curves", "curves"),
            "Both losses should fall. Where the validation error no longer does, more epochs bring no more.",
            _curves,
        ),
        _Section(
            *("Each class", "classes"),
            "Precision: of the images that were given the class, the share that show it. Recall: of the images that"
            " show it, the share that were given it. F1 is their harmonic mean.",
            _classes,
        ),
    ],
    [
        _Section(
            *("Confusion matrix", "confusion"),
            "A row is what the images show, a column what the network said. The stronger the colour of a mistake,"
            " the larger its share of the row.",
            _confusion,
        ),
        _Section(
            *("Calibration", "calibration"),
            "Confidence is the highest probability of an image. On the dashed line a network is right as often as it"
            " says; below it, it is too sure. The expected calibration error is the mean distance: Guo, Pleiss, Sun"
            " and Weinberger 2017, On calibration of modern neural networks.",
            _calibration,
        ),
    ],
)
_WRONG: _Band = (
    [
        _Section(
            *("Most confident mistakes", "mistakes"),
            "True class → predicted class, its probability, and the image's place in the test set. They show what the"
            " network has not understood, and labels that are wrong.",
            _mistakes,
        ),
    ],
)


def _inside(image: int | None) -> list[_Band]:
    """The sections that look into the network."""
    measured = [
        _Section(
            *("First-layer filters", "filters"),
            "What each filter of the first convolution looks for: a part of the image that looks like the filter gives"
            " the highest output.",
            filters,
        ),
        _Section(
            *("Time by layer", "time"),
            "Measured when this report was made, on the machine that made it: layer by layer, on random images, the"
            " median of several rounds. A training runs the layers as one plan, which is faster.",
            times,
        ),
    ]
    learnt = [
        _Section(
            *("Weights, gradients and updates", "norms"),
            "An update of about a thousandth of the weight is usual; with far more the training leaps, with far less it"
            " hardly moves. Where the gradient is zero, nothing reaches the layer.",
            norms,
        ),
    ]
    followed = [
        _Section(
            *("One image through every layer", "maps"),
            "Orange is above zero, blue below it, clear is zero; each layer has a scale of its own.",
            partial(maps, image=image),
        ),
    ]
    return [(measured, learnt), (followed,)]


_MADE_WITH: _Band = (
    [_Section("Recipe", "recipe", "With this the run can be made again.", _recipe)],
    [_Section("Versions and machine", "machine", "Other versions and machines may give other last digits.", _machine)],
)
