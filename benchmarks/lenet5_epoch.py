"""An epoch of the recipe lenet5-mnist by stridenet, and by PyTorch in its fastest mode, in turns on the same machine.

Both begin with the same weights and take the same steps: network, batch size, SGD with its decay (none for biases),
one-cycle schedule, the shift of every image. Both hold the images as bytes, draw a new order each epoch, and pick,
convert and normalise batch by batch. The time is that of the training steps; validation is in neither.

Each runner is a process of its own, so that no thread pool disturbs another; only one of them works at a time.

    python benchmarks/lenet5_epoch.py                         5 rounds, and the accuracy of one whole epoch of each
    python benchmarks/lenet5_epoch.py --steps 100 --out x.json   a short look
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from threadpoolctl import threadpool_limits

from stridenet import experiment
from stridenet.data.catalogue import open_data
from stridenet.train.trainer import BLAS_THREADS
from stridenet.zoo import recipes

RECIPE = "lenet5-mnist"
OURS = "stridenet"
PEERS = {"eager": "PyTorch eager", "channels_last": "PyTorch channels_last", "compile": "PyTorch compiled"}
CHECK_POINTS = 0.01  # two accuracies after the same epoch differ by less


@dataclass(frozen=True)
class Settings:
    """What a runner needs to know; `steps` None is the whole epoch, `epochs` the length of the schedule."""

    epochs: int
    threads: int
    steps: int | None


def prepare(settings: Settings) -> experiment.Setup:
    """The recipe on its data, with an epoch of `steps` steps."""
    recipe = recipes.load(RECIPE)
    recipe["train"]["epochs"] = settings.epochs
    splits = open_data(recipe["data"]["name"])
    if settings.steps is not None:
        recipe["data"]["validation"] = 500
        count = settings.steps * recipe["train"]["batch_size"] + recipe["data"]["validation"]
        splits = splits._replace(train=splits.train.subset(np.arange(count)))
    return experiment.prepare(recipe, splits)


class Ours:
    """stridenet, by the calls of `stridenet train`."""

    def __init__(self, setup: experiment.Setup) -> None:
        self.setup = setup

    def epoch(self) -> None:
        """Train one more epoch."""
        self.setup.trainer.fit(self.setup.train, epochs=self.setup.trainer.epoch + 1)

    def accuracy(self) -> float:
        """The validation accuracy."""
        return self.setup.trainer.evaluate(self.setup.validation).accuracy


class Peer:
    """The same training by PyTorch, as its users write it."""

    def __init__(self, setup: experiment.Setup, mode: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        recipe = setup.recipe
        self.torch, self.batch_size = torch, recipe["train"]["batch_size"]
        self.format = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        self.shift = _shift_of(recipe["data"]["augment"])
        _, normalize = setup.pipeline.spec()  # before it a resize, to the size that MNIST has already
        self.mean, self.std = 255 * normalize["mean"][0], 255 * normalize["std"][0]
        self.train = [torch.from_numpy(a) for a in (setup.train.dataset.images, setup.train.dataset.targets)]
        self.held_out = [
            torch.from_numpy(a) for a in (setup.validation.dataset.images, setup.validation.dataset.targets)
        ]
        p = self.shift
        framed = torch.nn.functional.pad(self.train[0][:, 0], (p, p, p, p))
        self.windows = framed.unfold(1, 28, 1).unfold(2, 28, 1)  # (N, 2p+1, 2p+1, 28, 28), a view
        plain = _network(torch).to(memory_format=self.format)
        weights = setup.network.state_dict()
        plain.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self._optimizer(plain, recipe, len(setup.train))
        self.network = torch.compile(plain) if mode == "compile" else plain

    def _optimizer(self, network: Any, recipe: dict[str, Any], steps: int) -> None:
        torch, sgd = self.torch, recipe["optimizer"]
        weights = [p for p in network.parameters() if p.ndim > 1]
        biases = [p for p in network.parameters() if p.ndim == 1]
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        options = {"momentum": sgd["momentum"], "weight_decay": sgd["weight_decay"]}
        self.optimizer = torch.optim.SGD(groups, lr=sgd["lr"], fused=True, **options)
        total = recipe["train"]["epochs"] * steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, sgd["lr"], total_steps=total, cycle_momentum=False
        )

    def epoch(self) -> None:
        """Train one more epoch."""
        torch, (images, targets) = self.torch, self.train
        self.network.train()
        loss_sum = 0.0
        for rows in torch.randperm(len(images)).split(self.batch_size):
            if self.shift:
                dy, dx = torch.randint(0, 2 * self.shift + 1, (2, len(rows)))
                x = self.windows[rows, dy, dx][:, None]  # (N, 1, 28, 28)
            else:
                x = images[rows]
            y = targets[rows]
            loss = torch.nn.functional.cross_entropy(self.network(self._normalized(x)), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            loss_sum += loss.item() * len(y)

    def accuracy(self) -> float:
        """The validation accuracy."""
        images, targets = self.held_out
        self.network.eval()
        with self.torch.no_grad():
            parts = [self.network(self._normalized(x)).argmax(1) for x in images.split(256)]
        return float((self.torch.cat(parts) == targets).double().mean())

    def _normalized(self, x: Any) -> Any:
        return x.float().sub_(self.mean).div_(self.std).contiguous(memory_format=self.format)


def _shift_of(augment: list[dict[str, Any]]) -> int:
    """The pixels of the recipe's random_shift; 0 without one."""
    if [entry["name"] for entry in augment] not in ([], ["random_shift"]) or any("fill" in e for e in augment):
        raise SystemExit(f"the PyTorch side knows no augmentation but random_shift, the recipe has {augment}")
    return augment[0]["pixels"] if augment else 0


def _network(torch: Any) -> Any:
    nn = torch.nn
    features = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, nn.Flatten(), *head)


def serve(mode: str, settings: Settings, pipe: Connection) -> None:
    """Answer the questions "epoch" (its seconds) and "accuracy" until the other end is closed."""
    with threadpool_limits(BLAS_THREADS if mode == OURS else settings.threads):
        setup = prepare(settings)
        runner = Ours(setup) if mode == OURS else Peer(setup, mode, settings.threads)
        answers: dict[str, Callable[[], float]] = {"epoch": lambda: _seconds(runner.epoch), "accuracy": runner.accuracy}
        try:
            while True:
                question = pipe.recv()
                try:
                    pipe.send(answers[question]())
                except Exception as error:  # noqa: BLE001  (the other process decides)
                    pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0]:.200}")
        except EOFError:
            pass


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Runner:
    """A process that trains when it is told to."""

    def __init__(self, mode: str, settings: Settings) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(mode, settings, other), daemon=True)
        self.process.start()
        other.close()

    def ask(self, question: str) -> float | str:
        """The answer, or what went wrong."""
        self.pipe.send(question)
        return self.pipe.recv()

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join()


def start(settings: Settings) -> tuple[dict[str, Runner], dict[str, float], dict[str, str]]:
    """The runners after their first epoch, which warms up; its seconds; the modes that do not work here, and why."""
    runners, warm_up, missing = {}, {}, {}
    for mode in (OURS, *PEERS):
        runner = Runner(mode, settings)
        answer = runner.ask("epoch")
        if isinstance(answer, str):
            runner.close()
            missing[mode] = answer
        else:
            runners[mode], warm_up[mode] = runner, round(answer, 3)
        print(f"{PEERS.get(mode, mode):24} first epoch  {answer if isinstance(answer, str) else f'{answer:.2f} s'}")
    if OURS not in runners or len(runners) == 1:
        raise SystemExit(f"nothing to compare: {missing}")
    return runners, warm_up, missing


def race(runners: dict[str, Runner], pairs: int) -> dict[str, list[float]]:
    """The seconds of `pairs` epochs of each runner, in turns; every second round goes backwards."""
    seconds: dict[str, list[float]] = {mode: [] for mode in runners}
    for i in range(pairs):
        for mode in list(runners)[:: -1 if i % 2 else 1]:
            seconds[mode].append(round(float(runners[mode].ask("epoch")), 3))
        print(f"round {i + 1}/{pairs}   " + "   ".join(f"{mode} {times[-1]:.2f} s" for mode, times in seconds.items()))
    return seconds


def check(settings: Settings) -> dict[str, float]:
    """The validation accuracy of every runner after a training of one epoch; they must agree if it is whole."""
    runners, _, _ = start(Settings(1, settings.threads, settings.steps))
    found = {mode: float(runner.ask("accuracy")) for mode, runner in runners.items()}
    for runner in runners.values():
        runner.close()
    print("one epoch gives " + "   ".join(f"{mode} {100 * a:.2f} %" for mode, a in found.items()))
    if settings.steps is None and max(found.values()) - min(found.values()) > CHECK_POINTS:
        raise SystemExit(f"the runners do not train the same network: {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="timed epochs of each")
    parser.add_argument("--steps", type=int, help="steps of an epoch; the whole epoch if left out")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; stridenet takes those of `stridenet train`")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True, help="compare the accuracies")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "lenet5_epoch.json")
    options = parser.parse_args()
    epochs = max(recipes.load(RECIPE)["train"]["epochs"], options.pairs + 1)
    settings = Settings(epochs, options.threads, options.steps)

    checked = check(settings) if options.check else None
    runners, warm_up, missing = start(settings)
    seconds = race(runners, options.pairs)
    accuracy = {mode: float(runner.ask("accuracy")) for mode, runner in runners.items()}
    for runner in runners.values():
        runner.close()
    medians = {mode: median(times) for mode, times in seconds.items()}
    peer = min(runners.keys() - {OURS}, key=lambda mode: medians[mode])
    ratios = [ours / theirs for ours, theirs in zip(seconds[OURS], seconds[peer], strict=True)]
    ratio = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    print(f"stridenet / {PEERS[peer]}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")

    recipe = recipes.load(RECIPE)
    with threadpool_limits(BLAS_THREADS):
        figures = {
            "settings": {
                "recipe": recipe,
                "pairs": options.pairs,
                "steps": options.steps,
                "threads": {"stridenet": BLAS_THREADS, "PyTorch": options.threads},
                "timed": "training steps with their data; no validation",
            },
            "torch": version("torch"),
            "peer": PEERS[peer],
            "ratio": ratio,
            "median_seconds": medians,
            "seconds": seconds,
            "warm_up_seconds": warm_up,
            "missing": missing,
            "validation_accuracy": accuracy,
            "validation_accuracy_of_one_epoch": checked,
        }
        record.write(options.out, figures)


if __name__ == "__main__":
    main()
