"""What a report shows of the inside of a network: filters, norms, feature maps, times. Each section as HTML."""

from __future__ import annotations

import math

import numpy as np

from stridenet import kernels, layout
from stridenet.benchmark import by_layer
from stridenet.data.loader import to_unit
from stridenet.experiment import machine
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.cost import cost, total
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d
from stridenet.nn.sequential import Sequential
from stridenet.shapes import by
from stridenet.train.evaluation import quiet
from stridenet.viz import charts, pixels
from stridenet.viz.blocks import AbsentError, brief, drawing, four_digits, paragraph, picture, table
from stridenet.viz.page import text
from stridenet.viz.runs import Record, without_model

BATCH, SECONDS = 64, 0.5  # of a timing
ROOM = 2**28  # bytes for the outputs of all layers in it; of large images fewer fit
_MAPS, _CELLS = 64, 30  # shown of a layer: maps; numbers in a row
_PIXELS = 2**18  # of all maps of a layer, or a page of large images is no page any more
_FIRST = 200  # images among which one is looked for


def _model(run: Record) -> Model:
    if run.model is None:
        raise AbsentError(without_model(run.history))
    return run.model


def filters(run: Record, _key: str) -> list[str]:
    """The weights of the first convolution."""
    first = next((layer for layer in _model(run).network.walk() if isinstance(layer, Conv2d)), None)
    if first is None:
        raise AbsentError("The network has no convolution.")
    weight = first.weight.value
    k, c, r, s = weight.shape
    words = f"Weights {weight.min():.2f} to {weight.max():.2f} of {k} filters {r}x{s}"
    colours = "orange above zero, blue below it, clear at zero"
    if c == 3:
        colours = "the three input channels as red, green and blue, grey at zero"
    elif c > 1:
        words += f" on {c} channels, a row for each"
    shown = picture(pixels.filters(weight), words, widest=480, most=24)
    return [f"<figure>{shown}<figcaption>{text(words)}; {text(colours)}.</figcaption></figure>"]


def norms(run: Record, key: str) -> list[str]:
    """The norms of weights, gradients and updates over the epochs."""
    rows = [row for row in run.history if row.get("norms")]
    rows = [row for row in rows if row["norms"].keys() == rows[0]["norms"].keys()]
    if not rows:
        raise AbsentError("The history has no norms: no epoch is done yet, or an earlier version trained the run.")
    names = sorted(rows[0]["norms"], key=_place)  # recorded by name: JSON sorts
    found = {_layer(run.model, name): np.array([row["norms"][name] for row in rows], np.float64) for name in names}
    weights = {name: values for name, values in found.items() if name.endswith("weight")} or found
    cells = [(name, *four_digits([*each[0], *each[-1], _usual_ratio(each)])) for name, each in found.items()]
    head = [f"{name}, {when} epoch" for when in ("first", "last") for name in ("weight", "gradient", "update")]
    numbers = table("Norms of every parameter", ["parameter", *head, "median update / weight"], cells)
    return [drawing(charts.norms(np.array([row["epoch"] for row in rows]), weights, key), numbers)]


def _usual_ratio(values: Array) -> float:
    """The median of update / weight over the epochs (epochs, 3)."""
    known = charts.ratio(values[:, 0], values[:, 2])
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else math.nan


def _place(name: str) -> list[tuple[int, bool, str]]:
    """Where a parameter stands in its network: "2.weight" before "2.bias" before "10.weight"."""
    parts = name.split(".")
    return [(int(x) if x.isdecimal() and len(x) < 10 else -1, x != "weight", x) for x in parts]


def _layer(model: Model | None, name: str) -> str:
    """A parameter with the kind of its layer, if that is known: "0 Conv2d weight"."""
    path, _, own = name.rpartition(".")
    layer: Layer | None = None if model is None else model.network
    for part in path.split("."):
        layer = None if layer is None else dict(layer.children()).get(part)
    return name if layer is None else f"{path} {type(layer).__name__} {own}"


def maps(run: Record, _key: str, image: int | None) -> list[str]:
    """What every layer gives for a test image: number `image`, or the first that is classified correctly."""
    model, test = _model(run), run.test
    if test is None:
        raise AbsentError(run.why)
    chosen = _first_right(model, test.images[:_FIRST], test.targets[:_FIRST]) if image is None else image
    one = test.images[chosen : chosen + 1]
    chances = model.predict_proba(one)[0]
    taken, true = int(chances.argmax()), brief(run.classes[int(test.targets[chosen])])
    words = f"Test image {chosen}, {true}: taken for {brief(run.classes[taken])} with probability {chances[taken]:.3f}."
    shown = picture(pixels.photo(one[0]), f"test image {chosen}: {true}", widest=140)
    rows = [_row("input", by(one.shape[1:]), shown)]
    network = model.network.eval()
    with quiet(), kernels.use(kernels.without_compiler()):
        x = layout.to_batch_inner(model.transform(to_unit(one)))
        for name, layer in (network if isinstance(network, Sequential) else Sequential(network)).children():
            y = layer.forward(x)
            same = np.array_equal(y.reshape(-1), x.reshape(-1))
            what = "passes on what it is given" if same else by(y.shape[1:])
            rows.append(_row(f"{name} {type(layer).__name__}", what, "" if same else _tiles(y[0], name)))
            x = y
    return [paragraph(words), f'<ol class="maps">{"".join(rows)}</ol>']


def _first_right(model: Model, images: Array, targets: Array) -> int:
    """The first image that is classified correctly; 0 if none is."""
    return int((model.predict(images) == targets).argmax())


def _tiles(values: Array, name: str) -> str:
    """The maps of a layer (C, H, W), or its numbers (D,)."""
    if values.ndim != 3 or values.shape[1:] == (1, 1):
        flat = np.tile(values.reshape(-1, 1, 1), (1, 3, 3))  # larger than the lines between them
        return picture(pixels.signed(flat, min(len(flat), _CELLS)), f"{len(flat)} outputs of layer {name}")
    some = values[: min(_MAPS, max(1, _PIXELS // values[0].size))]
    shown = picture(pixels.signed(some, min(len(some), 8)), f"{len(values)} maps of layer {name}")
    return shown + (f"<span>the first {len(some)}</span>" if len(some) < len(values) else "")


def _row(name: str, words: str, inside: str) -> str:
    return f"<li><div><b>{text(name)}</b> <span>{text(words)}</span></div><div>{inside}</div></li>"


def times(run: Record, key: str) -> list[str]:
    """How long each layer takes, forward and backward, here and now."""
    model = _model(run)
    batch = min(BATCH, max(1, ROOM // max(1, total(cost(model.network, model.input_shape)).activation_bytes)))
    found = by_layer(model.network, model.input_shape, batch_size=batch, seconds=SECONDS)
    names = [f"{each.name} {type(each.layer).__name__}" for each in found]
    milliseconds = np.array([(each.forward, each.backward) for each in found])
    cells = [(name, *four_digits(each)) for name, each in zip(names, milliseconds, strict=True)]
    numbers = table("Milliseconds of a batch", ["layer", "forward", "backward"], cells)
    where = f"{machine()['processor']}, {kernels.resolve()} kernels, one thread, batch of {batch}"
    return [drawing(charts.times(names, milliseconds, key, where), numbers)]
