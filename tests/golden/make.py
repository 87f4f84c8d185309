"""The golden files: a model and a checkpoint as this version writes them. Every later version must load them.

`python tests/golden/make.py FOLDER` writes them into a new folder. Those that are committed are never made again: a
version that writes something else adds a folder of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from stridenet import (
    SGD,
    AvgPool2d,
    BatchNorm2d,
    BestWeights,
    CheckpointStore,
    Conv2d,
    Dropout,
    Dropout2d,
    Flatten,
    Framing,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool2d,
    Model,
    Normalize,
    Pad,
    Pipeline,
    ReLU,
    Residual,
    Resize,
    Sequential,
    Sigmoid,
    Softmax,
    SubtractMean,
    Tanh,
    Trainer,
)
from stridenet.train.policies import WeightAverage

STEP = 6


def numbers(shape: tuple[int, ...], start: int, dtype: Any = np.float32) -> np.ndarray:
    """Values that every machine has exactly: sixteenths between 1/16 and 1."""
    count = int(np.prod(shape, dtype=np.int64))
    return ((np.arange(start, start + count) * 7 % 16 + 1) / 16).astype(dtype).reshape(shape)


def filled(network: Layer) -> Layer:
    """`network` with such numbers in place of its random ones."""
    state = network.state_dict()
    network.load_state_dict(
        {name: numbers(value.shape, start, value.dtype) for start, (name, value) in enumerate(sorted(state.items()))}
    )
    return network


def model() -> Model:
    """A model with every kind of layer and of transform."""
    rng = np.random.default_rng(0)
    body = Sequential(Conv2d(4, 4, 3, padding=1, groups=2, bias=False, rng=rng), BatchNorm2d(4), Tanh())
    network = Sequential(
        Conv2d(1, 4, (3, 5), stride=(1, 2), padding=2, rng=rng),
        ReLU(),
        MaxPool2d(2, ceil_mode=True),
        Residual(body, Conv2d(4, 4, 1, rng=rng)),
        Dropout2d(0.1),
        LeakyReLU(0.1),
        AvgPool2d(2, padding=1, count_include_pad=False),
        Residual(Sigmoid()),
        GlobalAvgPool2d(),
        Flatten(),
        Linear(4, 5, rng=rng),
        Softmax(),
        Dropout(0.25),
        Linear(5, 3, bias=False, rng=rng),
        LogSoftmax(),
        input_shape=(1, 16, 16),
    )
    return Model(
        filled(network),
        ("cat", "chat", "猫"),
        (1, 14, 14),
        transform=Pipeline(
            [Resize(12), Pad(2, value=0.5), SubtractMean(numbers((1, 16, 16), 5)), Normalize([0.25], [0.5])]
        ),
        framing=Framing(0.0, 0.75),
        recipe={"name": "golden", "train": {"epochs": 2, "lr": 0.1, "notes": [1, None, True, "ü"]}},
        provenance={"data": "none", "epoch": 1},
    )


def images() -> np.ndarray:
    """Three images for the model."""
    return (numbers((3, 1, 14, 14), 3) * 255).astype(np.uint8)


def trainer() -> Trainer:
    """A trainer before its first step."""
    rng = np.random.default_rng(1)
    network = Sequential(
        Conv2d(1, 2, 3, rng=rng), BatchNorm2d(2), ReLU(), Flatten(), Linear(72, 3, rng=rng), input_shape=(1, 8, 8)
    )
    optimizer = SGD(network.pack(), 0.05, momentum=0.9)
    return Trainer(network, optimizer, callbacks=[WeightAverage(0.5), BestWeights()], seed=2)


def row(epoch: int) -> dict[str, Any]:
    """A line of the history."""
    validation = {"loss": 0.5, "accuracy": 0.75, "interval": [0.5, 0.875], "n": 16}
    return {"epoch": epoch, "step": 4, "lr": 0.05, "train_loss": 0.625, "seconds": 0.25} | {
        f"validation_{name}": value for name, value in validation.items()
    }


def state() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What the trainer saves after six steps: in the second epoch of four steps, exact numbers everywhere."""
    run = trainer()
    filled(run.network)
    run.callbacks[1].on_epoch(run, row(0))
    run.callbacks[0].on_step(run, 0.5)
    run.optimizer.load_state_dict(
        {name: numbers(value.shape, 9, value.dtype) for name, value in run.optimizer.state_dict().items()}
        | {"t": np.array(STEP, np.int64)}
    )
    tensors, meta = run.state()
    where = {"epoch": 1, "batch": 2, "history": [row(0)], "loss_sum": 1.5, "images": 8, "seconds": 0.125}
    return tensors, meta | where


def main(folder: Path) -> None:
    """Write both."""
    folder.mkdir(parents=True)
    model().save(folder / "model.safetensors")
    tensors, meta = state()
    CheckpointStore(folder).save(STEP, tensors, {"identity": {"seed": 2, "data": "none"}, "trainer": meta})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
