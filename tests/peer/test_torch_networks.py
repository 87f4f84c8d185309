"""The networks of the zoo are those of PyTorch: scores, all gradients and running statistics, float64 to 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers import normwise
from stridenet import layout
from stridenet.nn.losses import cross_entropy
from stridenet.zoo.models import MODELS

pytestmark = [pytest.mark.peer, pytest.mark.promise("G3")]

BOUND = 1e-9


def lenet5(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def pynet(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def lenet5_1998(nn: Any) -> Any:
    c3 = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
    table = c3.split()
    ends = [(k, int(c)) for k, maps in enumerate(table) for c in maps]

    class ScaledTanh(nn.Module):
        def forward(self, x: Any) -> Any:
            return 1.7159 * (2 / 3 * x).tanh()

    class Subsampling(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.coefficient, self.bias = (nn.Parameter(nn.Conv2d(1, channels, 1).bias.detach()) for _ in range(2))

        def forward(self, x: Any) -> Any:
            sums = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
            return self.coefficient[:, None, None] * sums + self.bias[:, None, None]

    class TableConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(nn.Conv2d(1, len(ends), 5).weight.detach()[:, 0])
            self.bias = nn.Parameter(nn.Conv2d(1, len(table), 5).bias.detach())

        def forward(self, x: Any) -> Any:
            weight = x.new_zeros(len(table), 6, 5, 5)
            weight[tuple(zip(*ends, strict=True))] = self.weight
            return nn.functional.conv2d(x, weight, self.bias)

    class RBF(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", nn.Linear(84, 10).weight.detach())

        def forward(self, x: Any) -> Any:
            return -((x[:, None] - self.codes) ** 2).sum(dim=2)

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), ScaledTanh(), Subsampling(6), ScaledTanh()),
        *(TableConv(), ScaledTanh(), Subsampling(16), ScaledTanh()),
        *(nn.Conv2d(16, 120, 5), ScaledTanh(), nn.Flatten(), nn.Linear(120, 84), ScaledTanh(), RBF()),
    )


def lenet5_batchnorm(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 120, 5), nn.Flatten(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def cifar_convnet(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 7, padding=3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(8192, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


def resnet20(nn: Any) -> Any:
    class Residual(nn.Module):
        def __init__(self, before: int, channels: int, stride: int) -> None:
            super().__init__()
            self.stride, self.more = stride, channels - before
            self.body = nn.Sequential(
                nn.Conv2d(before, channels, 3, stride, 1, bias=False),
                *(nn.BatchNorm2d(channels), nn.ReLU()),
                *(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)),
            )

        def forward(self, x: Any) -> Any:
            aside = x[:, :, :: self.stride, :: self.stride]
            return self.body(x) + nn.functional.pad(aside, (0, 0, 0, 0, 0, self.more))

    blocks: list[Any] = []
    for before, channels, stride in (
        *((16, 16, 1), (16, 16, 1), (16, 16, 1)),
        *((16, 32, 2), (32, 32, 1), (32, 32, 1)),
        *((32, 64, 2), (64, 64, 1), (64, 64, 1)),
    ):
        blocks += [Residual(before, channels, stride), nn.ReLU()]
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


PEERS: dict[str, Callable[[Any], Any]] = {
    "lenet5": lenet5,
    "pynet": pynet,
    "lenet5_1998": lenet5_1998,
    "lenet5_batchnorm": lenet5_batchnorm,
    "cifar_convnet": cifar_convnet,
    "resnet20": resnet20,
}

# Batch normalisation takes off what a bias before it adds: the gradient is zero, and what is found is rounding.
WITHOUT_EFFECT = {"lenet5_batchnorm": ("0.bias", "4.bias")}


@pytest.mark.parametrize("name", MODELS)
def test_networks(torch: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    network = MODELS[name](rng=rng).astype(np.float64)
    assert network.input_shape is not None
    for _, parameter in network.named_parameters():
        if parameter.value.ndim == 1:  # a bias of zeros, a scale of ones would hide a mistake
            parameter.value[:] = rng.uniform(0.5, 1.5, parameter.value.shape)
    peer = PEERS[name](torch.nn).double()
    state = {key: torch.tensor(value) for key, value in network.state_dict().items()}
    counters = {key: value for key, value in peer.state_dict().items() if key.endswith("num_batches_tracked")}
    peer.load_state_dict(state | counters)

    x, targets = rng.standard_normal((6, *network.input_shape)), rng.integers(0, 10, 6)
    theirs_x = torch.tensor(x, requires_grad=True)
    wanted = peer(theirs_x)
    torch.nn.functional.cross_entropy(wanted, torch.tensor(targets)).backward()
    scores = network.forward(layout.to_batch_inner(x))
    dx = network.backward(cross_entropy(scores, targets)[1])
    assert dx is not None
    assert normwise(scores, wanted.detach().numpy()) < BOUND
    assert normwise(dx, theirs_x.grad.numpy()) < BOUND
    ours = dict(network.named_parameters())
    for key, parameter in peer.named_parameters():
        if key in WITHOUT_EFFECT.get(name, ()):
            assert max(np.abs(ours[key].grad).max(), parameter.grad.abs().max()) < 1e-13
        else:
            assert normwise(ours[key].grad, parameter.grad.numpy()) < BOUND, key
    for key, value in peer.named_buffers():  # the running statistics of one step
        if key not in counters:
            assert normwise(ours[key].value, value.numpy()) < BOUND, key
    with torch.no_grad():
        assert normwise(network.eval().forward(x), peer.eval()(torch.tensor(x)).numpy()) < BOUND
