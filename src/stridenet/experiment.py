"""A recipe becomes a run folder: the one place that wires data, network, optimiser, trainer and files together.

recipe.json         the whole recipe, with every default
model.safetensors   the network of the best epoch so far, by validation accuracy
history.jsonl       one line an epoch
checkpoints/        where the run can be continued: step 0 and every epoch, the last two kept
results.json        the test result, the versions and the machine
curves.png confusion.png mistakes.png filters.png
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from stridenet import kernels, seeding
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Dataset, Splits
from stridenet.data.images import Framing
from stridenet.data.loader import Loader
from stridenet.data.transforms import Pipeline, build_augmentations, fit_pipeline
from stridenet.errors import ConfigError, printable, shown
from stridenet.files import clean_temporaries, read_regular, write_atomic
from stridenet.layout import Array
from stridenet.model import FILE, Model
from stridenet.nn.functional import log_softmax
from stridenet.nn.layers import Conv2d
from stridenet.nn.losses import cross_entropy
from stridenet.nn.sequential import Sequential
from stridenet.optim import schedules
from stridenet.optim.optimizers import SGD, Adam, Optimizer
from stridenet.shapes import by, choice, grouped
from stridenet.strictjson import MAX_BYTES, from_json, to_json
from stridenet.train.callbacks import BestWeights, Checkpoints, Progress
from stridenet.train.checkpoint import CheckpointStore, RunLock, require_same
from stridenet.train.metrics import Metrics, measure
from stridenet.train.trainer import Callback, Trainer, blas_threads, scores_of
from stridenet.viz import plots
from stridenet.zoo import models, recipes
from stridenet.zoo.recipes import Recipe

Echo = Callable[[str], None]
_OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "sgd": SGD}
_LOSSES = {"cross_entropy": cross_entropy}
_EVALUATION_BATCH = 256


@dataclass
class Setup:
    """A recipe on its data, ready to train: what the trainer needs and what is written at the end."""

    recipe: Recipe
    splits: Splits
    network: Sequential
    pipeline: Pipeline
    train: Loader
    validation: Loader
    trainer: Trainer
    best: BestWeights
    framing: Framing | None

    def loader(self, dataset: Dataset) -> Loader:
        """Every image of `dataset` once, as the network sees it."""
        return Loader(dataset, _EVALUATION_BATCH, transform=self.pipeline)

    def model(self) -> Model:
        """The network with the best weights so far, as a model that needs nothing else."""
        train = self.splits.train
        twin = deepcopy(self.network)  # the training goes on with its own
        self.best.restore(twin)
        provenance = {"data": self.splits.name, "images": len(self.train.dataset), "epoch": self.best.epoch}
        return Model(
            twin,
            train.classes,
            train.image_shape,
            transform=self.pipeline,
            framing=self.framing,
            recipe=self.recipe,
            provenance=provenance | {"stridenet": version("stridenet")},
        )


def prepare(recipe: Recipe, splits: Splits) -> Setup:
    """Everything that `recipe` describes, on the data `splits`; nothing is trained or written yet.

    Raises:
        ConfigError: the recipe asks for something that there is not, or that does not fit the data.
    """
    data, training = recipe["data"], recipe["train"]
    seed, batch_size = training["seed"], training["batch_size"]
    try:
        rest, held_out = splits.train.split(data["validation"], seed=seed)
    except ConfigError as error:
        raise ConfigError(f"recipe.data.validation: {error}") from None
    pipeline = fit_pipeline(data["transform"], rest)
    augment = build_augmentations(data["augment"]) if data["augment"] else None
    network = _network(recipe, pipeline, rest)
    train = Loader(rest, batch_size, transform=pipeline, augment=augment, shuffle=True, seed=seed)
    validation = Loader(held_out, _EVALUATION_BATCH, transform=pipeline)
    best = BestWeights()
    optimizer = _optimizer(recipe, network, steps_per_epoch=len(train))
    loss = _LOSSES[choice("recipe.train.loss", training["loss"], _LOSSES)]
    trainer = Trainer(network, optimizer, loss, callbacks=[best], seed=seed)
    return Setup(recipe, splits, network, pipeline, train, validation, trainer, best, Framing.fit(rest.images))


def _network(recipe: Recipe, pipeline: Pipeline, dataset: Dataset) -> Sequential:
    """The recipe's network with its start values, if it takes the images and gives a score for each class."""
    name, args, seed = recipe["model"]["name"], recipe["model"]["args"], recipe["train"]["seed"]
    network = models.make(name, args, rng=seeding.stream(seed, "init"))
    want, got = network.input_shape, pipeline.output_shape(dataset.image_shape)
    if want is not None and want != got:
        resize = f'put {{ name = "resize", size = {want[1]} }} first into recipe.data.transform'
        hint = resize if want[0] == got[0] else f"give args = {{ channels = {got[0]} }}"
        raise ConfigError(f"recipe.model: expected images of {by(want)} for {name}, got {by(got)}; {hint}")
    if network.output_shape(got) != (len(dataset.classes),):
        raise ConfigError(
            f"recipe.model: expected a score for each of {len(dataset.classes)} classes; set args.classes"
        )
    return network


def _optimizer(recipe: Recipe, network: Sequential, *, steps_per_epoch: int) -> Optimizer:
    arguments = dict(recipe["optimizer"])
    kind = _OPTIMIZERS[choice("recipe.optimizer.name", arguments.pop("name"), _OPTIMIZERS)]
    schedule = dict(recipe["schedule"])
    momentum = schedule.pop("momentum", None)
    arguments["lr"] = _schedule(arguments["lr"], schedule, recipe["train"]["epochs"], steps_per_epoch)
    if momentum is not None:
        if not arguments.keys().isdisjoint({"momentum", "betas"}):
            raise ConfigError("recipe.schedule.momentum: expected no momentum or betas in recipe.optimizer, got both")
        if len(momentum) != 2:
            raise ConfigError(f"recipe.schedule.momentum: expected [high, low], got {shown(momentum)}")
        total = recipe["train"]["epochs"] * steps_per_epoch
        cycle = schedules.one_cycle_momentum(*momentum, total=total, warmup=schedule.get("warmup", 0.3))
        arguments |= {"momentum": cycle} if kind is SGD else {"betas": (cycle, 0.999)}
    try:
        return kind(network.pack(), **arguments)
    except TypeError:
        words = [word for word in arguments if word not in kind.__init__.__annotations__]
        raise ConfigError(
            f"recipe.optimizer: expected keys that {recipe['optimizer']['name']} has, got {words}"
        ) from None


def _schedule(lr: float, entry: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> schedules.Schedule:
    """The schedule that a recipe names, counted in steps."""
    arguments = dict(entry)
    name, unit = arguments.pop("name"), arguments.pop("unit")
    make = _SCHEDULES[choice("recipe.schedule.name", name, _SCHEDULES)]
    choice("recipe.schedule.unit", unit, ("epoch", "step"))
    if name in ("cosine", "one_cycle"):
        arguments["total"] = epochs if unit == "epoch" else epochs * steps_per_epoch
    try:
        schedule = make(schedules.positive("recipe.optimizer", "lr", lr), **arguments)
    except TypeError:
        raise ConfigError(f"recipe.schedule: expected keys that {name} has, got {', '.join(entry)}") from None
    return schedules.per_epoch(schedule, steps_per_epoch) if unit == "epoch" else schedule


_SCHEDULES: dict[str, Callable[..., schedules.Schedule]] = {
    "constant": schedules.constant,
    "cosine": schedules.cosine,
    "one_cycle": schedules.one_cycle,
    "step": schedules.step_decay,
}


class _Journal(Callback):
    """Writes what a reader of the folder sees while the run goes on: the history and the best model."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup, self.folder = setup, folder

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Rewrite the history; rewrite the model if this epoch is the best."""
        write_atomic(self.folder / "history.jsonl", "".join(to_json(r) + "\n" for r in trainer.history).encode())
        if self.setup.best.epoch == row["epoch"]:
            self.setup.model().save(self.folder / FILE)


class Run:
    """A run and its folder, which must exist.

    Args:
        setup: what `prepare` made.
        folder: the run folder.
        echo: prints a line.
        bar: whether to show a progress bar; None shows it on a terminal.
    """

    def __init__(self, setup: Setup, folder: Path, *, echo: Echo, bar: bool | None = None) -> None:
        self.setup, self.folder, self.echo = setup, folder, echo
        self.store = CheckpointStore(folder / "checkpoints")
        self.fingerprints = {"train": setup.splits.train.fingerprint(), "test": setup.splits.test.fingerprint()}
        self.identity = {"recipe": setup.recipe, "data": self.fingerprints, "kernels": kernels.resolve()}
        trainer, epochs = setup.trainer, setup.recipe["train"]["epochs"]
        trainer.callbacks = [
            *trainer.callbacks,
            _Journal(setup, folder),
            Checkpoints(self.store, self.identity),
            Progress(len(setup.train), epochs, echo, bar=bar),
        ]

    def train(self, *, resume: bool = False) -> Metrics | None:
        """Train to the end and test once; None if the run was stopped before that.

        Raises:
            CheckpointError: a checkpoint cannot be written, or read, or is of another run.
            NumericsError: the training diverged; the last checkpoint is from before that.
        """
        self.store.folder.mkdir(exist_ok=True)
        with RunLock(self.folder):
            self.store.clean()
            clean_temporaries(self.folder)
            if resume:
                self._restore()
            else:
                write_atomic(self.folder / "recipe.json", (to_json(self.setup.recipe) + "\n").encode())
            self._header()
            epochs = self.setup.recipe["train"]["epochs"]
            self.setup.trainer.fit(self.setup.train, self.setup.validation, epochs=epochs)
            return self._finish() if self.setup.trainer.epoch >= epochs else None

    def _restore(self) -> None:
        if not self.store.steps():
            return  # it was ended before its first checkpoint, so it begins
        _, tensors, meta = self.store.latest()
        require_same(meta.get("identity", {}), self.identity)
        self.setup.trainer.load_state(tensors, meta.get("trainer", {}))

    def _header(self) -> None:
        recipe, splits, trainer = self.setup.recipe, self.setup.splits, self.setup.trainer
        parts = self.setup.train.dataset, self.setup.validation.dataset, splits.test
        train, validation, test = (grouped(len(part)) for part in parts)
        network = f"{recipe['model']['name']}, {grouped(len(trainer.params))} parameters"
        self.echo(f"recipe   {printable(recipe['name'])}: {network}")
        self.echo(f"data     {splits.name} from {printable(splits.origin)}")
        self.echo(f"images   {train} train, {validation} validation, {test} test, {by(splits.train.image_shape)} each")
        at = f", continued at step {trainer.optimizer.t}" if trainer.optimizer.t else ""
        self.echo(f"run      {printable(self.folder)}, seed {recipe['train']['seed']}{at}")

    def _finish(self) -> Metrics:
        """The test, touched once, with the weights of the best epoch; results and pictures."""
        setup, splits = self.setup, self.setup.splits
        model = setup.model()
        model.save(self.folder / FILE)
        parts = list(scores_of(model.network, setup.loader(splits.test)))
        scores, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        metrics = measure(scores, targets, setup.trainer.loss(scores, targets)[0])
        results = {
            "recipe": setup.recipe["name"],
            "seed": setup.recipe["train"]["seed"],
            "best_epoch": setup.best.epoch,
            "test": metrics.as_dict(),
            "published": setup.recipe["published"],
            "seconds": round(sum(row["seconds"] for row in setup.trainer.history), 1),
            "data": {"name": splits.name, "origin": splits.origin, **self.fingerprints},
            "machine": machine(),
        }
        self._pictures(model, scores, metrics)
        write_atomic(self.folder / "results.json", (to_json(results) + "\n").encode())
        self.echo(f"test     {metrics}, with the weights of epoch {setup.best.epoch + 1}")
        self.echo(f"results  {printable(self.folder)}: {FILE}, history.jsonl, results.json and four pictures")
        return metrics

    def _pictures(self, model: Model, scores: Array, metrics: Metrics) -> None:
        test = self.setup.splits.test
        plots.curves(self.setup.trainer.history, self.folder / "curves.png")
        plots.confusion(metrics.confusion, test.classes, self.folder / "confusion.png")
        probabilities = np.exp(log_softmax(scores)[0])
        plots.mistakes(test.images, test.targets, probabilities, test.classes, self.folder / "mistakes.png")
        first = next((layer for _, layer in model.network.children() if isinstance(layer, Conv2d)), None)
        if first is not None:
            plots.filters(first.weight.value, self.folder / "filters.png")


def open_run(folder: Path) -> tuple[Recipe, Splits]:
    """The recipe and the data of an existing run folder.

    Raises:
        FileNotFoundError: there is no such folder, or its data set is gone.
        ConfigError: the folder is not a run's.
    """
    path = folder / "recipe.json"
    if not path.exists():
        raise FileNotFoundError(f"{printable(folder)}: expected a run folder with recipe.json, got none")
    recipe = recipes.from_record(from_json(read_regular(path, limit=MAX_BYTES), printable(path)), printable(path))
    return recipe, open_data(recipe["data"]["name"], seed=recipe["train"]["seed"])


def next_folder(name: str, parent: Path = Path("runs")) -> Path:
    """Make the next free folder parent/NAME-001, -002 ...; one that exists is never used again."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"{name}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def make_folder(folder: Path) -> Path:
    """Make the folder that the user named; what exists is never written into.

    Raises:
        FileExistsError: it exists.
        FileNotFoundError: its parent does not.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        message = f"{printable(folder)}: expected a folder that is not there yet; --resume continues a run"
        raise FileExistsError(message) from None
    except FileNotFoundError:
        message = f"{printable(folder)}: expected a parent folder that exists; make it first"
        raise FileNotFoundError(message) from None
    return folder


def machine() -> dict[str, Any]:
    """What a measured figure depends on: processor, cores, versions, the BLAS and its threads."""
    from threadpoolctl import threadpool_info  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    with blas_threads():
        pools = cast("list[dict[str, Any]]", threadpool_info())
    blas = [f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in pools]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "stridenet": version("stridenet"),
        "blas": blas,
        "kernels": kernels.resolve(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
