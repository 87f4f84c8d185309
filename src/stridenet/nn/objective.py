"""From a batch to the loss and the gradient: the one thing that a trainer asks of a network."""

from __future__ import annotations

import numpy as np

from stridenet.layout import Array
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss


class LayerByLayer:
    """Forward through every layer, loss, backward through every layer."""

    def __init__(self, network: Layer, loss: Loss) -> None:
        self.network, self.loss = network, loss

    def loss_and_gradient(self, x: Array, y: Array, weights: Array | None = None) -> float:
        """The mean loss of the batch; its gradient is added to the parameters'.

        Args:
            x: images (N, C, H, W).
            y: targets (N,).
            weights: sample weights (N,) or None.
        """
        scores = self.network.forward(x)  # (N, K)
        loss, dscores = self.loss(scores, y, weights)
        self.network.backward(dscores, need_dx=False)
        return loss

    def first_non_finite(self, x: Array) -> tuple[str, str]:
        """(layer, tensor) where a number that is not finite first appears on the way of `x`; for error messages."""
        for name, parameter in self.network.named_parameters():
            if not np.isfinite(parameter.value).all():
                return name.rpartition(".")[0], f"parameter {name}"
        for name, layer in self.network.children():
            x = layer.forward(x)
            if not np.isfinite(x).all():
                return name, f"output of layer {name} {layer!r}"
        return "", "loss"
