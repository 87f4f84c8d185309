"""PyTorch's side of a race, as its users write it. Imported by PyTorch's own process alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import nn
from works import CHECKED_LR, CHECKED_STEPS, MEASURED_LR, Work, thread_counts, variants_of

from stridenet.nn import classic, layers as ours, losses, pools, regularization, sequential
from stridenet.nn.layer import Layer

cross_entropy = nn.functional.cross_entropy


class Residual(nn.Module):
    """y = body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, K, P, Q)."""
        return self.body(x) + self.shortcut(x)


class ZeroPadShortcut(nn.Module):
    """Every stride-th pixel, with channels of zeros behind the others (He et al. 2015, option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = out_channels - in_channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, K, P, Q)."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """A coefficient and a bias for each map, on the sum of each window."""

    def __init__(self, channels: int, kernel_size: Any) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.coefficient, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, P, Q)."""
        sums = nn.functional.avg_pool2d(x, self.kernel_size, divisor_override=1)
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


class TableConv2d(nn.Module):
    """A convolution whose kernels are there for the connections of a table alone."""

    def __init__(self, in_channels: int, table: Any, kernel_size: Any) -> None:
        super().__init__()
        pairs = [(k, c) for k, maps in enumerate(table) for c in maps]
        self.ends = tuple(torch.tensor(pairs).T)
        self.shape = len(table), in_channels, kernel_size, kernel_size
        self.weight = nn.Parameter(torch.zeros(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(table)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, K, P, Q)."""
        weight = torch.zeros(self.shape).index_put(self.ends, self.weight)
        return nn.functional.conv2d(x, weight, self.bias)


class RBF(nn.Module):
    """Minus the squared distance from each code."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(out_features, in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D) to (N, K)."""
        return -(x[:, None] - self.codes).square().sum(dim=2)


def map_criterion(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with one more score, of no class."""
    nothing = torch.full((len(scores), 1), -losses.NO_CLASS)
    return cross_entropy(torch.cat([scores, nothing], dim=1), targets)


LOSSES = {losses.cross_entropy: cross_entropy, losses.map_criterion: map_criterion}


def module_of(layer: Layer | None) -> nn.Module:
    """The same layer in PyTorch, with the weights it draws itself."""
    match layer:
        case None:
            return nn.Identity()
        case sequential.Sequential():
            return nn.Sequential(*map(module_of, layer.layers))
        case sequential.Residual():
            return Residual(module_of(layer.body), module_of(layer.shortcut))
        case ours.Conv2d():
            form = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
            bias = layer.bias is not None
            return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=bias, **form)
        case ours.Linear():
            return nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        case regularization.BatchNorm2d():
            return nn.BatchNorm2d(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        case pools.MaxPool2d() | pools.AvgPool2d():
            kind = nn.MaxPool2d if isinstance(layer, pools.MaxPool2d) else nn.AvgPool2d
            return kind(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
        case pools.GlobalAvgPool2d():
            return nn.AdaptiveAvgPool2d(1)
        case ours.ReLU():
            return nn.ReLU()
        case ours.Flatten():
            return nn.Flatten()
        case classic.ScaledTanh():
            return ScaledTanh()
        case classic.TrainableSubsampling2d():
            return Subsampling(layer.channels, layer.kernel_size)
        case classic.TableConv2d():
            return TableConv2d(layer.in_channels, layer.table, layer.kernel_size)
        case classic.RBF():
            return RBF(layer.in_features, layer.out_features)
        case _ if type(layer).__name__ == "ZeroPadShortcut":
            return ZeroPadShortcut(layer.in_channels, layer.out_channels, layer.stride)
    raise TypeError(f"{layer!r} has no PyTorch layer here")


def twin_of(network: Layer) -> nn.Module:
    """The same network with the same weights."""
    twin = module_of(network)
    state = {name: torch.from_numpy(value) for name, value in network.state_dict().items()}
    missing, unexpected = twin.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the networks differ: {missing} missing, {unexpected} unexpected")
    return twin


class Torch:
    """One mode of PyTorch: "eager", "channels_last" or "compile"."""

    def __init__(self, work: Work, mode: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.work, self.mode, self.threads = work, mode, thread_counts(work, threads)
        self.format = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        images, targets = work.batch()
        self.x, self.y = self._formatted(torch.from_numpy(images)), torch.from_numpy(targets)
        self._made: dict[str, Callable[[], object]] = {}

    def check(self) -> list[float]:
        """The losses of the first steps, or the first scores."""
        if self.work.task == "training":
            step = self._step(CHECKED_LR)
            return [step() for _ in range(CHECKED_STEPS)]
        if self.work.task in ("inference", "one image"):
            with torch.inference_mode():
                return self._network().eval()(self.x[:3]).ravel().tolist()
        y, gradients = self._convolution()
        if self.work.task == "convolution":
            return y[0, 0, :2].ravel().tolist()
        return [float(g.contiguous().ravel()[0]) for g in gradients()]

    def variants(self) -> list[str]:
        """Batch sizes or thread counts."""
        return variants_of(self.work, self.threads)

    def begin(self, variant: str) -> Callable[[], object]:
        """The call, made once; the threads are those of this variant."""
        torch.set_num_threads(self.threads.get(variant, max(self.threads.values())))
        if variant not in self._made:
            self._made[variant] = self._make(variant)
        return self._made[variant]

    def _make(self, variant: str) -> Callable[[], object]:
        if self.work.task == "training":
            return self._step(MEASURED_LR)
        if self.work.task == "one image":
            return self._one_image()
        if self.work.task == "inference":
            return self._inference(int(variant.split()[1]))
        _, gradients = self._convolution()
        if self.work.task == "its gradients":
            return gradients
        layer = self._network().requires_grad_(False)[0]
        convolve = self._compiled(lambda: nn.functional.conv2d(self.x, layer.weight, layer.bias))
        return torch.inference_mode()(convolve)

    def _step(self, lr: float) -> Callable[[], float]:
        """Forward, loss, backward and update; PyTorch's fastest SGD is the fused one."""
        network = self._network().train()
        optimizer = torch.optim.SGD(network.parameters(), lr, momentum=self.work.momentum, fused=True)
        criterion = LOSSES[self.work.loss]
        loss_of = self._compiled(lambda x, y: criterion(network(x), y))
        size = self.work.images
        parts = map(self._formatted, self.x.split(size)), self.y.split(size)
        batches = cycle(list(zip(*parts, strict=True)))

        def step() -> float:
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_of(x, y)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def _one_image(self) -> Callable[[], np.ndarray]:
        """From NumPy to NumPy."""
        images, network = self.work.batch()[0], self._compiled(self._network().eval())
        singles = cycle(np.split(images, len(images)))

        def scores() -> np.ndarray:
            with torch.inference_mode():
                return network(self._formatted(torch.from_numpy(next(singles)))).numpy()

        return scores

    def _inference(self, size: int) -> Callable[[], object]:
        network, parts = self._compiled(self._network().eval()), self.x.split(size)

        def scores() -> list[Any]:
            with torch.inference_mode():
                return [network(part) for part in parts]

        return scores

    def _convolution(self) -> tuple[torch.Tensor, Callable[[], Any]]:
        layer = self._network().requires_grad_(False)[0]
        y = layer(self.x)
        dy = self._formatted(torch.from_numpy(np.cos(np.arange(y.numel(), dtype=np.float32)).reshape(y.shape)))
        form = [6], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True]
        backward = torch.ops.aten.convolution_backward
        return y, self._compiled(lambda: backward(dy, self.x, layer.weight, *form))

    def _network(self) -> Any:
        return twin_of(self.work.network()).to(memory_format=self.format)

    def _formatted(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=self.format)

    def _compiled(self, function: Any) -> Any:
        return torch.compile(function, dynamic=False) if self.mode == "compile" else function
