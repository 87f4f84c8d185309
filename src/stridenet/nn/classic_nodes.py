"""The layers of 1998 in a program. Poolings and distances go one image at a time, as that network learns."""

from __future__ import annotations

from typing import Any

from stridenet.kernels.operation import Code
from stridenet.kernels.windows import tiled
from stridenet.nn.classic import RBF, TrainableSubsampling2d
from stridenet.nn.lowering import Node, NoPlanError, Program, Value, compact, fields_of, write


class Squash(Node):
    """The scaled hyperbolic tangent."""

    def __init__(self, x: Value) -> None:
        super().__init__(x, x.shape)

    def forward(self, p: Program) -> None:
        """Pixel by pixel."""
        p.elementwise(Code.SQUASH, x=self.x.frame, y=self.y.allocate(p))

    def backward(self, p: Program) -> None:
        """Pixel by pixel."""
        dy, dx = self.y.gradient(p), p.borrow(self.x.shape)
        p.elementwise(Code.SQUASH_BACK, x=dy, z=self.y.frame, y=dx)
        p.give_back(dy)
        self.x.gradients.append(dx)


class Subsampling(Node):
    """The sum of 2x2 windows that cover the image, times a coefficient, plus a bias."""

    def __init__(self, x: Value, layer: TrainableSubsampling2d) -> None:
        window, parameters = layer.window(x.shape), [layer.coefficient, layer.bias]
        if window.kernel != (2, 2) or not tiled(window, x.shape) or not all(each.trainable for each in parameters):
            raise NoPlanError("other windows, or a pooling that is not trained")
        super().__init__(x, (x.shape[0], *window.output), parameters)
        self.layer = layer

    def forward(self, p: Program) -> None:
        """The sums are kept."""
        y = self.y.allocate(p)
        self.sums = p.frame(y.shape)
        p.emit(Code.SUM_PAIRS, **fields_of(x=self.x.frame, z=self.sums, y=y), **self._parameters(p))
        p.clean(y)

    def backward(self, p: Program) -> None:
        """The gradients of both parameters, and of all pixels of a window the same."""
        dy, dx = self.y.gradient(p), p.borrow(self.x.shape)
        p.emit(Code.SUM_PAIRS_BACK, **fields_of(x=dx, z=self.sums, y=dy), **self._parameters(p))
        p.give_back(dy)
        self.x.gradients.append(dx)

    def _parameters(self, p: Program) -> dict[str, int]:
        layer = self.layer
        return {"w": p.place(layer.coefficient), "bias": p.place(layer.bias), "count": self.y.shape[2]}


class Distances(Node):
    """Minus the squared distance from each code; the codes are copied to the shared memory before every run."""

    def __init__(self, p: Program, x: Value, layer: RBF) -> None:
        super().__init__(x, p.vector(layer.out_features))
        self.layer = layer

    def forward(self, p: Program) -> None:
        """From a vector to a vector."""
        codes = self.layer.codes.value
        self.codes = p.for_all(codes.size)
        p.prepare.append(self._prepare)
        y = self.y.allocate(p)
        p.emit(Code.DISTANCES, x=compact(self.x.frame).start, y=y.start, **self._sizes())

    def backward(self, p: Program) -> None:
        """The gradient of the vector."""
        dy, dx = self.y.gradient(p), p.borrow(self.x.shape)
        p.emit(Code.DISTANCES_BACK, x=self.x.frame.start, y=dy.start, z=dx.start, **self._sizes())
        p.give_back(dy)
        self.x.gradients.append(dx)

    def _sizes(self) -> dict[str, int]:
        return {"w": self.codes, "channels": self.layer.out_features, "count": self.layer.in_features}

    def _prepare(self, step: Any) -> None:
        write(step, self.codes, self.layer.codes.value)
