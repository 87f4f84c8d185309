"""A network as a table that a terminal shows: one row a layer."""

from __future__ import annotations

import numpy as np

from stridenet.nn.cost import LayerCost, cost, total
from stridenet.nn.layer import Layer
from stridenet.shapes import Shape, by, grouped
from stridenet.train.memory import step_bytes

WIDTH = 80
_BATCH = 64
_TRIED = 10**9  # bytes of activations
_GAP = "  "
_HEAD = ("", "layer", "output", "params", "connections", "MACs", "field")
_TO_THE_LEFT = 1  # the column of the layers' names; all others are numbers


def summary(network: Layer, input_shape: Shape) -> str:
    """The layers of `network` with what they cost for an input of `input_shape`, in at most 80 columns.

    A row shows a layer's place, its output without N, its trained parameters, the connections and the
    multiply-accumulates of one image, and the rows x columns of the image that one output unit sees. `nn.cost` defines
    the numbers. A long layer is shortened.
    The peak of a training step is measured, if there is something to train: see `train.memory`.

    Raises:
        ShapeError: the network does not take such an input.
    """
    costs = cost(network, input_shape, batch_size=_BATCH)
    sums = total(costs)
    rows = [
        _HEAD,
        ("", "input", by(input_shape), "", "", "", ""),
        *(_row(layer) for layer in costs),
        ("", "total", "", grouped(sums.parameters), grouped(sums.connections), grouped(sums.macs), ""),
    ]
    counted = f"{grouped(sums.parameters)} trained, {grouped(sums.fixed)} fixed"
    if sums.fixed and not sums.parameters:  # a graph of ONNX
        counted = f"{grouped(sums.fixed)} constants, none trained"
    held, outputs = _megabytes(4 * (sums.parameters or sums.fixed)), _megabytes(sums.activation_bytes)  # float32
    lines = [
        *_aligned(rows),
        "",
        f"parameters   {counted}",
        f"memory       {held} of parameters, {outputs} of activations at batch {_BATCH}",
    ]
    if sums.parameters:
        peak = "more than that"  # a few images of a huge network are too much to try
        if sums.activation_bytes < _TRIED:
            step = step_bytes(network, lambda n: np.zeros((n, *input_shape), np.float32), _BATCH)
            peak = f"about {grouped(round(step / 1e6))} MB"
        lines.append(f"training     {peak} at the peak of a step, beside data and optimiser")
    return "\n".join(lines)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB".replace(",", " ")


def _row(layer: LayerCost) -> tuple[str, ...]:
    numbers = (grouped(n) if n else "-" for n in (layer.parameters, layer.connections, layer.macs))
    field = "-" if layer.receptive_field is None else by(layer.receptive_field)
    short = layer.layer.replace("kernel_size=", "")  # its place in the call says that
    return layer.name, short, by(layer.output_shape), *numbers, field


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows as lines of at most WIDTH columns; the layers take what the numbers leave."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths) - widths[_TO_THE_LEFT] + len(_GAP) * (len(widths) - 1)
    widths[_TO_THE_LEFT] = min(widths[_TO_THE_LEFT], max(WIDTH - others, len("total")))
    lines: list[str] = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[_TO_THE_LEFT] = _cut(row[_TO_THE_LEFT], widths[_TO_THE_LEFT])
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _cut(text: str, width: int) -> str:
    """`text` in exactly `width` columns; three dots show where it was cut."""
    return text.ljust(width) if len(text) <= width else text[: width - 3] + "..."
