"""The recipe lenet5-mnist in PyTorch, in one of its modes: as a class, and as a process that does the whole of it.

Network, start values, batch size, SGD with its decay (none for biases), one-cycle schedule and the shift of every image
are those of stridenet's recipe. The process trains, validates after every epoch, keeps the best weights, tests them
once, and writes weights and results. It reads the data by stridenet's reader, and takes nothing else of it but the
recipe and the start values. It draws no pictures, which `stridenet train` does.

    python benchmarks/torch_recipe.py --mode channels_last --out runs/torch
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch_peer import cross_entropy, twin_of

from stridenet import seeding
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset
from stridenet.nn.sequential import Sequential
from stridenet.zoo import models, recipes

RECIPE = "lenet5-mnist"
MODES = ("eager", "channels_last", "compile")
EVALUATED = 256  # images at once


class Training:
    """A training by PyTorch, as its users write it; `statistics` are mean and deviation of pixels from 0 to 1."""

    def __init__(
        self,
        recipe: dict[str, Any],
        train: Dataset,
        held_out: Dataset,
        statistics: tuple[float, float],
        network: Sequential,
        mode: str,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(recipe["train"]["seed"])
        self.batch_size = recipe["train"]["batch_size"]
        self.format = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        self.shift = shift_of(recipe["data"]["augment"])
        self.mean, self.std = 255 * statistics[0], 255 * statistics[1]
        self.train, self.held_out = tensors_of(train), tensors_of(held_out)
        p = self.shift
        framed = torch.nn.functional.pad(self.train[0][:, 0], (p, p, p, p))
        self.windows = framed.unfold(1, 28, 1).unfold(2, 28, 1)  # (N, 2p+1, 2p+1, 28, 28), a view
        self.plain: Any = twin_of(network).to(memory_format=self.format)
        self._optimizer(recipe, -(-len(train) // self.batch_size))
        self.network: Any = torch.compile(self.plain) if mode == "compile" else self.plain

    def _optimizer(self, recipe: dict[str, Any], steps: int) -> None:
        sgd = recipe["optimizer"]
        weights = [p for p in self.plain.parameters() if p.ndim > 1]
        biases = [p for p in self.plain.parameters() if p.ndim == 1]
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        options = {"momentum": sgd["momentum"], "weight_decay": sgd["weight_decay"]}
        self.optimizer = torch.optim.SGD(groups, lr=sgd["lr"], fused=True, **options)
        total = recipe["train"]["epochs"] * steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, sgd["lr"], total_steps=total, cycle_momentum=False
        )

    def epoch(self) -> None:
        """Train one more epoch."""
        images, targets = self.train
        self.network.train()
        loss_sum = 0.0
        for rows in torch.randperm(len(images)).split(self.batch_size):
            if self.shift:
                dy, dx = torch.randint(0, 2 * self.shift + 1, (2, len(rows)))
                x = self.windows[rows, dy, dx][:, None]  # (N, 1, 28, 28)
            else:
                x = images[rows]
            y = targets[rows]
            loss = cross_entropy(self.network(self._normalized(x)), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            loss_sum += loss.item() * len(y)

    def accuracy(self) -> float:
        """The validation accuracy."""
        return self.accuracy_on(*self.held_out)

    def accuracy_on(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        """The accuracy on these images."""
        self.network.eval()
        with torch.no_grad():
            parts = [self.network(self._normalized(x)).argmax(1) for x in images.split(EVALUATED)]
        return float((torch.cat(parts) == targets).double().mean())

    def _normalized(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().sub_(self.mean).div_(self.std).contiguous(memory_format=self.format)


def tensors_of(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as bytes, and targets."""
    return torch.from_numpy(dataset.images), torch.from_numpy(dataset.targets)


def statistics_of(dataset: Dataset) -> tuple[float, float]:
    """Mean and deviation of the pixels, from 0 to 1, by how often each byte occurs."""
    counts = torch.bincount(tensors_of(dataset)[0].ravel(), minlength=256).double()
    share, value = counts / counts.sum(), torch.arange(256).double() / 255
    mean = (share * value).sum()
    return float(mean), float((share * (value - mean) ** 2).sum().sqrt())


def shift_of(augment: list[dict[str, Any]]) -> int:
    """The pixels of the recipe's random_shift; 0 without one."""
    if [entry["name"] for entry in augment] not in ([], ["random_shift"]) or any("fill" in e for e in augment):
        raise SystemExit(f"the PyTorch side knows no augmentation but random_shift, the recipe has {augment}")
    return augment[0]["pixels"] if augment else 0


def run(recipe: dict[str, Any], mode: str, threads: int, folder: Path) -> None:
    """The whole recipe, from the files to the results in `folder`."""
    seed, splits = recipe["train"]["seed"], open_data(recipe["data"]["name"])
    train, held_out = splits.train.split(recipe["data"]["validation"], seed=seed)
    network = models.make(recipe["model"]["name"], recipe["model"]["args"], rng=seeding.stream(seed, "init"))
    training = Training(recipe, train, held_out, statistics_of(train), network, mode, threads)
    best, weights = -1.0, {}
    for _ in range(recipe["train"]["epochs"]):
        training.epoch()
        accuracy = training.accuracy()
        if accuracy > best:
            best, weights = accuracy, {name: value.clone() for name, value in training.plain.state_dict().items()}
    training.plain.load_state_dict(weights)
    test = training.accuracy_on(*tensors_of(splits.test))
    folder.mkdir(parents=True)
    torch.save(weights, folder / "model.pt")
    results = {"validation": best, "test": {"accuracy": test}}
    (folder / "results.json").write_text(json.dumps(results), "utf-8")
    print(f"test     {100 * test:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="those of the recipe if left out")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    options = parser.parse_args()
    recipe = recipes.load(RECIPE)
    recipe["train"]["seed"] = options.seed
    recipe["train"]["epochs"] = options.epochs or recipe["train"]["epochs"]
    run(recipe, options.mode, options.threads, options.out)


if __name__ == "__main__":
    main()
