"""A recipe becomes everything that a training needs: data, network, optimiser, schedule, callbacks and trainer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

from stridenet import kernels, seeding
from stridenet.data.augment import Augmentations, build_augmentations
from stridenet.data.dataset import Dataset, Splits
from stridenet.data.images import Framing
from stridenet.data.loader import Loader
from stridenet.data.transforms import Pipeline, fit_pipeline
from stridenet.errors import ConfigError, DataError, printable, shown
from stridenet.finetune import fine_tune
from stridenet.model import Model
from stridenet.nn.cost import cost, total
from stridenet.nn.losses import Loss, cross_entropy, hinge, map_criterion, mse, rbf_mse
from stridenet.nn.sequential import Sequential
from stridenet.optim import schedules
from stridenet.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, RMSprop
from stridenet.optim.levenberg import SDLM
from stridenet.optim.optimizers import SGD, Optimizer
from stridenet.shapes import by, choice, grouped, positive
from stridenet.tables import construct
from stridenet.train.callbacks import BestWeights
from stridenet.train.memory import estimate, require_memory
from stridenet.train.policies import CurvatureEstimate, EarlyStopping, ReduceOnPlateau, WeightAverage
from stridenet.train.telemetry import Norms
from stridenet.train.trainer import Callback, Trainer
from stridenet.zoo import models
from stridenet.zoo.recipes import Recipe

# The closed tables: what a recipe may name.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adadelta": Adadelta,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "sdlm": SDLM,
    "sgd": SGD,
}
SCHEDULES: dict[str, Callable[..., schedules.Schedule]] = {
    "constant": schedules.constant,
    "cosine": schedules.cosine,
    "exponential": schedules.exponential,
    "one_cycle": schedules.one_cycle,
    "piecewise": schedules.piecewise,
    "polynomial": schedules.polynomial,
    "step": schedules.step_decay,
}
LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "hinge": hinge,
    "map": map_criterion,
    "mse": mse,
    "rbf_mse": rbf_mse,
}
POLICIES: dict[str, Callable[..., Callback]] = {
    "weight_average": WeightAverage,
    "reduce_on_plateau": ReduceOnPlateau,
    "early_stopping": EarlyStopping,
}
_OF_ANY_OPTIMIZER = ("lr", "decay_biases", "lr_scale")  # keys that none takes itself
_OF_ANY_SCHEDULE = ("unit", "momentum", "warm_up")
EVALUATION_BATCH = 256


@dataclass
class Setup:
    """A recipe on its data, ready to train: what the trainer needs and what is written at the end."""

    recipe: Recipe
    splits: Splits  # its training images are those left to train on
    fingerprints: dict[str, str]  # of all images as they were published
    network: Sequential
    pipeline: Pipeline
    train: Loader
    validation: Loader | None  # where no image is held out
    trainer: Trainer
    best: BestWeights
    framing: Framing | None
    notes: list[str]  # what was taken from another model, and what was not; for people
    threads: int

    @property
    def judged(self) -> int:
        """How many images the validation after an epoch has."""
        return 0 if self.validation is None else len(self.validation.dataset)

    def loader(self, dataset: Dataset) -> Loader:
        """Every image of `dataset` once, as the network sees it."""
        return Loader(dataset, EVALUATION_BATCH, transform=self.pipeline)

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

    def ended_by(self) -> str:
        """What ended the training: "epochs", "early_stopping" or "time_budget"."""
        if self.trainer.optimizer.t == self.recipe["train"]["epochs"] * len(self.train):
            return "epochs"  # all of them, even if a callback said "enough" after the last one
        stopping = (callback for callback in self.trainer.callbacks if isinstance(callback, EarlyStopping))
        return "early_stopping" if any(c.over(self.trainer.history) for c in stopping) else "time_budget"

    def choices(self) -> list[str]:
        """Every choice that was made, by the recipe or by default; for people."""
        recipe, trainer = self.recipe, self.trainer
        steps = recipe["train"]["epochs"] * len(self.train)
        rates = [trainer.optimizer.lr(step) for step in range(steps)]
        weights = sum(p.value.size for _, p in self.network.named_parameters())
        augment = self.train.augment.augmentations if isinstance(self.train.augment, Augmentations) else ()
        images = [*map(repr, augment), *map(repr, self.pipeline.transforms)]
        lines = {
            "kernels": f"{kernels.resolve()}, threads {self.threads}",
            "weights": f"{grouped(len(trainer.params))} trained, {grouped(weights)} with those that stay",
            "images": ", ".join(images) or "as they are",
            "optim": _listed(recipe["optimizer"]),
            "schedule": f"{_listed(recipe['schedule'])}; {rates[0]:.3g} at first, {max(rates):.3g} at most,"
            f" {rates[-1]:.3g} in the last of {grouped(steps)} steps",
            "training": _listed(recipe["train"]),
        }
        return [f"{name:<9}{printable(text)}" for name, text in lines.items()]


def prepare(recipe: Recipe, splits: Splits, *, threads: int = 1, resume: bool = False) -> Setup:
    """Everything that `recipe` describes, on the data `splits`; nothing is trained or written yet.

    Args:
        recipe: as `zoo.recipes` gives it.
        splits: training and test images.
        threads: workers, see `Trainer`; results do not depend on it.
        resume: a checkpoint follows, so that the model of `train.init` is not needed.

    Raises:
        ConfigError: the recipe asks for something that there is not, or that does not fit the data.
        MemoryBudgetError: it would take more memory than is free.
    """
    data, training = recipe["data"], recipe["train"]
    seed, batch_size = training["seed"], training["batch_size"]
    fingerprints = {"train": splits.train.fingerprint(), "test": splits.test.fingerprint()}
    rest, held_out = _held_out(recipe, splits.train)
    splits = splits._replace(train=rest)  # of those held out there is a copy: MNIST need not be in memory twice
    if "class_weights" in training:
        with _speaking_of("train.class_weights"):
            rest = rest.weigh(training["class_weights"])
    pipeline = fit_pipeline(data["transform"], rest)
    augment = build_augmentations(data["augment"], rest.image_shape) if data["augment"] else None
    network = _network(recipe, pipeline, rest)
    notes = fine_tune(network, training, resume=resume)
    reshuffle = training.get("reshuffle", True)
    if not reshuffle:
        rest = rest.subset(seeding.stream(seed, "shuffle", 0).permutation(len(rest)))
    train = Loader(
        rest,
        batch_size,
        transform=pipeline,
        augment=augment,
        shuffle=reshuffle,
        drop_last=training.get("drop_last", False),
        seed=seed,
    )
    validation = None if held_out is None else Loader(held_out, EVALUATION_BATCH, transform=pipeline)
    best = BestWeights()
    if "clip_norm" in training:
        positive("recipe.train.clip_norm", "clip_norm", training["clip_norm"])
    optimizer = _optimizer(recipe, network, steps_per_epoch=len(train))
    before = [*_policies(training), *([CurvatureEstimate(train)] if isinstance(optimizer, SDLM) else [])]
    trainer = Trainer(
        network,
        optimizer,
        LOSSES[choice("recipe.train.loss", training["loss"], LOSSES)],
        callbacks=[*before, best, Norms()],
        seed=seed,
        clip_norm=training.get("clip_norm"),
        threads=threads,
    )
    shape = pipeline.output_shape(rest.image_shape)
    require_memory(total(cost(network, shape, batch_size=batch_size)).activation_bytes)  # or finding out takes too much
    require_memory(estimate(trainer, train, validation or Loader(rest, EVALUATION_BATCH, transform=pipeline)))
    framing = Framing.fit(rest.images)
    return Setup(
        recipe, splits, fingerprints, network, pipeline, train, validation, trainer, best, framing, notes, threads
    )


def _held_out(recipe: Recipe, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    """What is left of the training images, and those held out for validation; 0 holds out none."""
    part, training = recipe["data"]["validation"], recipe["train"]
    judging = [key for key in ("early_stopping", "reduce_on_plateau") if key in training]
    if part == 0 and judging:
        raise ConfigError(f"recipe.data.validation: expected validation images for {judging[0]}, got 0")
    if part == 0:
        return dataset, None
    with _speaking_of("data.validation"):
        return dataset.split(part, seed=training["seed"])


@contextmanager
def _speaking_of(key: str) -> Generator[None]:
    """Let an error from below name the key of the recipe that it is about, in place of who found it."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise ConfigError(f"recipe.{key}: {str(error).split(': ', 1)[-1]}") from None


def _network(recipe: Recipe, pipeline: Pipeline, dataset: Dataset) -> Sequential:
    """The recipe's network with its start values, if it takes the images and gives a score for each class."""
    name, args, seed = recipe["model"]["name"], recipe["model"]["args"], recipe["train"]["seed"]
    got, classes = pipeline.output_shape(dataset.image_shape), len(dataset.classes)
    network = models.make(name, args, rng=seeding.stream(seed, "init"), fitting=models.fitting(got, classes))
    want = network.input_shape
    if want is not None and want != got:
        resize = f'put {{ name = "resize", size = {want[1]} }} first into recipe.data.transform'
        hint = resize if want[0] == got[0] else f"give args = {{ channels = {got[0]} }} under [model]"
        raise ConfigError(f"recipe.model: expected images of {by(want)} for {name}, got {by(got)}; {hint}")
    scores = network.output_shape(got)
    if scores != (classes,):
        raise ConfigError(
            f"recipe.model: expected a score for each of the {classes} classes of the data, got {by(scores)};"
            f" give args = {{ classes = {classes} }} under [model]"
        )
    return network


def _optimizer(recipe: Recipe, network: Sequential, *, steps_per_epoch: int) -> Optimizer:
    arguments, entry = dict(recipe["optimizer"]), dict(recipe["schedule"])
    name, epochs = arguments.pop("name"), recipe["train"]["epochs"]
    known = inspect.signature(OPTIMIZERS[choice("recipe.optimizer.name", name, OPTIMIZERS)]).parameters
    _tune(network, arguments.pop("decay_biases", False), arguments.pop("lr_scale", {}))
    momentum = entry.pop("momentum", None)
    given: dict[str, Any] = {"lr": _schedule(arguments.pop("lr"), entry, epochs, steps_per_epoch)}
    if momentum is not None:
        if not arguments.keys().isdisjoint({"momentum", "betas"}):
            raise ConfigError("recipe.schedule.momentum: expected no momentum or betas in recipe.optimizer, got both")
        if entry["unit"] != "step" or "warm_up" in entry:
            raise ConfigError('recipe.schedule.momentum: expected unit = "step" and no warm_up beside it, got others')
        if len(momentum) != 2:
            raise ConfigError(f"recipe.schedule.momentum: expected [high, low], got {shown(momentum)}")
        if "momentum" not in known and "betas" not in known:
            raise ConfigError(f"recipe.schedule.momentum: expected an optimizer that has momentum, got {name}")
        steps, share = epochs * steps_per_epoch, entry.get("warmup", 0.3)
        with _speaking_of("schedule.momentum"):
            cycle = schedules.one_cycle_momentum(*momentum, total=steps, warmup=share)
        if momentum[0] < momentum[1]:
            raise ConfigError(f"recipe.schedule.momentum: expected [high, low], got {shown(momentum)}; turn them round")
        given |= {"momentum": cycle} if "momentum" in known else {"betas": (cycle, 0.999)}
    return construct("recipe.optimizer", OPTIMIZERS, name, arguments, _OF_ANY_OPTIMIZER, params=network.pack(), **given)


def _tune(network: Sequential, decay_biases: bool, lr_scale: Mapping[str, Any]) -> None:
    """Let the biases decay too, and give the parameters that `lr_scale` names their factor, before they are packed."""
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.trainable}
    for parameter in trained.values():
        parameter.decay = parameter.decay or decay_biases
    for name, factor in lr_scale.items():
        parameter = trained[choice("recipe.optimizer.lr_scale", name, trained)]
        parameter.lr_scale = positive("recipe.optimizer.lr_scale", name, factor)


def _schedule(lr: float, entry: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> schedules.Schedule:
    """The schedule that a recipe names, counted in steps."""
    arguments = dict(entry)
    name, unit, climb = arguments.pop("name"), arguments.pop("unit"), arguments.pop("warm_up", 0)
    choice("recipe.schedule.name", name, SCHEDULES)
    choice("recipe.schedule.unit", unit, ("epoch", "step"))
    length = epochs if unit == "epoch" else epochs * steps_per_epoch
    if climb >= length:
        raise ConfigError(f"recipe.schedule.warm_up: expected fewer than the {length} {unit}s of the run, got {climb}")
    peak = positive("recipe.optimizer", "lr", lr)
    given = {"value": peak, "peak": peak, "total": length - climb}
    schedule = construct("recipe.schedule", SCHEDULES, name, arguments, _OF_ANY_SCHEDULE, **given)
    if arguments.get("final", 0.0) > peak:
        raise ConfigError(f"recipe.schedule.final: expected at most the lr of {peak:g}, got {arguments['final']:g}")
    if unit == "epoch":
        schedule, climb = schedules.per_epoch(schedule, steps_per_epoch), climb * steps_per_epoch
    return schedules.warm_up(schedule, steps=climb) if climb else schedule


def _policies(training: Mapping[str, Any]) -> list[Callback]:
    """The callbacks that the section names, those that change the weights first."""
    epochs, first = training["epochs"], training.get("weight_average", {}).get("start_epoch", 0)
    if first >= epochs:
        raise ConfigError(
            f"recipe.train.weight_average.start_epoch: expected less than the epochs of the run, {epochs}, got {first}"
        )
    return [construct(f"recipe.train.{name}", POLICIES, name, training[name]) for name in POLICIES if name in training]


def _listed(section: Mapping[str, Any]) -> str:
    """A section in a line."""
    words: list[str] = []
    for key, value in section.items():
        text = f"({_listed(cast('dict[str, Any]', value))})" if isinstance(value, dict) else str(value)
        words.append(text if key == "name" else f"{key} {text}")
    return ", ".join(words)
