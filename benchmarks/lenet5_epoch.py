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
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from runners import Answers, Runner, RunnerError, in_turns, ratio, seconds_of
from threadpoolctl import threadpool_limits
from works import OURS, PEERS

from stridenet import experiment
from stridenet.data.catalogue import open_data
from stridenet.train.evaluation import BLAS_THREADS
from stridenet.zoo import recipes

RECIPE = "lenet5-mnist"
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


def serve(mode: str, settings: Settings) -> Answers:
    """The answers of a runner: "epoch", its seconds, and "accuracy"."""
    threadpool_limits(BLAS_THREADS if mode == OURS else settings.threads)  # for good
    setup = prepare(settings)
    runner = Ours(setup) if mode == OURS else _peer(setup, mode, settings.threads)
    return {"epoch": lambda: seconds_of(runner.epoch), "accuracy": runner.accuracy}


def _peer(setup: experiment.Setup, mode: str, threads: int) -> Any:
    from torch_recipe import Training

    _, normalize = setup.pipeline.spec()  # before it a resize, to the size that MNIST has already
    statistics = normalize["mean"][0], normalize["std"][0]
    data = setup.train.dataset, setup.validation.dataset
    return Training(setup.recipe, *data, statistics, setup.network, mode, threads)


def start(settings: Settings) -> tuple[dict[str, Runner], dict[str, float], dict[str, str]]:
    """The runners after their first epoch, which warms up; its seconds; the modes that do not work here, and why."""
    runners, warm_up, missing = {}, {}, {}
    for mode in (OURS, *PEERS):
        try:
            runner = Runner(serve, mode, settings)
            warm_up[mode] = round(runner.ask("epoch"), 3)
            runners[mode] = runner
        except RunnerError as error:
            missing[mode] = str(error)
        print(f"{PEERS.get(mode, mode):24} first epoch  {missing.get(mode) or f'{warm_up[mode]:.2f} s'}")
    if OURS not in runners or len(runners) == 1:
        raise SystemExit(f"nothing to compare: {missing}")
    return runners, warm_up, missing


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
    turns = {mode: partial(runner.ask, "epoch") for mode, runner in runners.items()}
    seconds = {mode: [round(s, 3) for s in found] for mode, found in in_turns(turns, options.pairs).items()}
    accuracy = {mode: float(runner.ask("accuracy")) for mode, runner in runners.items()}
    for runner in runners.values():
        runner.close()
    medians = {mode: median(times) for mode, times in seconds.items()}
    peer = min(runners.keys() - {OURS}, key=lambda mode: medians[mode])
    compared = ratio(seconds[OURS], seconds[peer])
    print(f"stridenet / {PEERS[peer]}: {compared['median']:.2f} ({compared['min']:.2f} to {compared['max']:.2f})")

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
            "ratio": compared,
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
