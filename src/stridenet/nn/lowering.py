"""A program in the making: operations in phases, the memory they need, and what goes from one to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from stridenet.kernels.operation import ADD, LANES, Code, Operations
from stridenet.kernels.places import Frame
from stridenet.kernels.windows import NONE, register_starts
from stridenet.layout import Array
from stridenet.nn.parameters import Parameter
from stridenet.shapes import Margins, Pair, Shape


class NoPlanError(Exception):
    """A layer has no operations, or not on images of this shape."""


class Program(Operations):
    """Operations in phases, their tables, and the memory they need.

    Args:
        place: says where a parameter begins among the values.
        lanes: the images of a block: LANES, each pixel of them a register, or 1, whose rows the registers go along.
        training: whether the backward will read what the forward writes.
    """

    def __init__(self, place: Callable[[Parameter], int], *, lanes: int, training: bool) -> None:
        super().__init__()
        self.lanes, self.training = lanes, training
        self.phases: list[Array] = []
        self.joins: list[Callable[[Any], None]] = []  # between the phases, when all blocks are there
        self.prepare: list[Callable[[Any], None]] = []  # before the first
        self.size = self.shared = 0
        self.slots = 1  # the first is the loss
        self.mask = self.room(1)
        self._place = place
        self._free: dict[tuple[Any, Margins], list[Frame]] = {}

    def place(self, parameter: Parameter | None) -> int:
        """Where a parameter begins among the values; -1 for none."""
        return -1 if parameter is None else self._place(parameter)

    def room(self, registers: int) -> int:
        """A new part of a block's memory."""
        self.size += registers * LANES
        return self.size - registers * LANES

    def for_all(self, numbers: int) -> int:
        """A new part of the memory that all blocks share."""
        place, self.shared = self.shared, self.shared + -(-numbers // LANES) * LANES  # blocks begin where registers may
        return place

    def slot(self, numbers: int) -> int:
        """A new part of a block's sums."""
        self.slots += numbers
        return self.slots - numbers

    def frame(self, shape: Shape, margins: Margins = NONE) -> Frame:
        """A frame of its own; its margin stays zero."""
        C, H, W = shape
        frame = Frame((C, H, W), margins, self.lanes, 0 if self.lanes > 1 else 2 * LANES)
        return replace(frame, at=self.room(-(-frame.size // LANES)))

    def vector(self, length: int) -> Shape:
        """The shape of so many numbers an image: pixels of a row, or channels of one pixel."""
        return (length, 1, 1) if self.lanes > 1 else (1, 1, length)

    def borrow(self, shape: Shape, margins: Margins = NONE) -> Frame:
        """A frame that is given back; frames of one form are handed on, so that margins stay zero."""
        free = self._free.setdefault((shape, margins), [])
        return free.pop() if free else self.frame(shape, margins)

    def give_back(self, frame: Frame) -> None:
        """Let others borrow `frame`."""
        self._free.setdefault((frame.shape, frame.margins), []).append(frame)

    def elementwise(self, code: Code, *, y: Frame, extras: int = 0, w: int = 0, slot: int = 0, **read: Frame) -> None:
        """The next operation, which goes through frames pixel by pixel and writes y."""
        self.emit(code, **fields_of(y=y, **read), extras=extras, w=w, slot=slot)
        self.clean(y)

    def clean(self, frame: Frame) -> None:
        """Set the margin to zero again, where the last registers of rows reach into it."""
        if frame.step == 1 and frame.margins != NONE:
            channels, rows, columns = frame.shape
            at = dict(y=frame.start, y_channel=frame.channel, y_row=frame.row)
            sizes = dict(channels=channels, rows=rows, columns=columns, count=sum(frame.margins[1]))
            self.emit(Code.CLEAR_MARGINS, **at, **sizes)

    def join(self, callback: Callable[[Any], None]) -> None:
        """End the phase: `callback` runs once all blocks have come so far."""
        self.phases.append(self.take())
        self.joins.append(callback)

    def finish(self) -> None:
        """End the last phase."""
        self.phases.append(self.take())


class Value:
    """What goes from node to node: an image (C, H, W), the margin its readers want, and the gradients they send."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.margins: Margins = NONE
        self.wanted = False  # whether anything before it learns
        self.frame = Frame((0, 0, 0), NONE, 1)
        self.gradients: list[Frame] = []

    def want(self, margins: Margins) -> None:
        """Make the margin at least so wide."""
        (a, b), (c, d) = self.margins
        (e, f), (g, h) = margins
        self.margins = (max(a, e), max(b, f)), (max(c, g), max(d, h))

    def allocate(self, p: Program) -> Frame:
        """Its frame."""
        self.frame = p.frame(self.shape, self.margins)
        return self.frame

    def gradient(self, p: Program) -> Frame:
        """The sum of the gradients sent, in a frame that the caller may give back."""
        total = self.gradients.pop()
        for other in self.gradients:
            x, total = total, p.borrow(self.shape)  # not in place: the last register of a row may reach into the next
            p.elementwise(Code.ADD_FRAMES, x=x, z=other, y=total)
            p.give_back(x)
            p.give_back(other)
        self.gradients = []
        return total


def fields_of(**frames: Frame) -> dict[str, int]:
    """The fields of an operation that goes through frames pixel by pixel."""
    fields: dict[str, int] = {}
    for name, frame in frames.items():
        fields |= {name: frame.start, f"{name}_channel": frame.channel, f"{name}_row": frame.row}
        C, H, W = frame.shape
        fields |= {"channels": C, "rows": H, "columns": W if frame.step > 1 else -(-W // LANES)}
    return fields


class Node(ABC):
    """A run of layers that is one for the kernels."""

    def __init__(self, x: Value, shape: Shape, parameters: Sequence[Parameter | None] = ()) -> None:
        self.x, self.y = x, Value(shape)
        self.learns = any(parameter is not None and parameter.trainable for parameter in parameters)
        self.y.wanted = x.wanted or self.learns

    @abstractmethod
    def forward(self, p: Program) -> None:
        """Emit y from x."""

    @abstractmethod
    def backward(self, p: Program) -> None:
        """Emit the gradients of the parameters and, where it is wanted, of x; called where that of y is."""


def copy(p: Program, x: Frame, y: Frame, *, step: Pair = (1, 1), add: bool = False) -> None:
    """Emit a copy of every `step`-th pixel of x to y, in the channels that both have; with `add` of y's to x's."""
    _, P, Q = y.shape
    order = register_starts(y, range(P), range(Q))
    ends = [[frame.place(h * a, w * b) for h, w in order] for frame, (a, b) in ((x, step), (y, (1, 1)))]
    x, y, (sources, targets) = (y, x, ends[::-1]) if add else (x, y, ends)
    fields = dict(x=x.start, x_channel=x.channel, y=y.start, y_channel=y.channel, extras=ADD * add)
    lists = dict(sources=p.table(sources), targets=p.table(targets), places=len(order))
    p.emit(Code.COPY, **fields, **lists, channels=min(x.shape[0], y.shape[0]))
    p.clean(y)


def compact(frame: Frame) -> Frame:
    """`frame`, if it has no margin and so is one vector."""
    if frame.margins != NONE:
        raise NoPlanError("a vector with a margin")
    return frame


def rectified(p: Program, y: Value) -> Frame:
    """The gradient of what came before the ReLU of `y`."""
    dy, before = y.gradient(p), p.borrow(y.shape)
    p.elementwise(Code.RECTIFY_BACK, x=dy, z=y.frame, y=before)
    p.give_back(dy)
    return before


def write(step: Any, place: int, *rows: Array) -> None:
    """Vectors, one after another, into the memory that all blocks of a step share."""
    for row in rows:
        step.memory[place : place + row.size] = row.reshape(-1)
        place += row.size
