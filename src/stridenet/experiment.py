"""A run and its folder: what is written while a recipe is trained, and at the end.

recipe.json         the whole recipe, with every default
model.safetensors   the network of the best epoch so far, by validation accuracy; without validation of the last
history.jsonl       one line an epoch
checkpoints/        where the run can be continued: step 0 and every epoch, the last two kept
results.json        the test result, the versions and the machine
curves.png confusion.png mistakes.png filters.png
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from stridenet import kernels
from stridenet.assembly import EVALUATION_BATCH, Setup as Setup, prepare as prepare
from stridenet.data.catalogue import open_data
from stridenet.data.dataset import Splits
from stridenet.errors import CheckpointCorruptError, ConfigError, printable
from stridenet.files import clean_temporaries, new_folder, read_regular, write_atomic
from stridenet.layout import Array
from stridenet.model import FILE, Model
from stridenet.nn.functional import log_softmax
from stridenet.nn.layers import Conv2d
from stridenet.shapes import by, grouped
from stridenet.strictjson import MAX_BYTES, from_json, to_json
from stridenet.train.callbacks import Checkpoints, Progress
from stridenet.train.checkpoint import CheckpointStore, RunLock, require_same
from stridenet.train.evaluation import blas_threads, scores_of
from stridenet.train.metrics import Metrics, measure
from stridenet.train.policies import TimeBudget
from stridenet.train.trainer import Callback, Trainer
from stridenet.train.watch import Watch
from stridenet.viz import plots
from stridenet.zoo import recipes
from stridenet.zoo.recipes import Recipe

Echo = Callable[[str], None]
_PACE = 50  # steps that show the pace; the first is slow and says little


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
        deadline: the time of `time.monotonic` at which all must be done, pictures included; None sets none.
        verbose: whether the header names every choice that was made.
    """

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        *,
        echo: Echo,
        bar: bool | None = None,
        deadline: float | None = None,
        verbose: bool = False,
    ) -> None:
        self.setup, self.folder, self.echo, self.verbose = setup, folder, echo, verbose
        self.deadline = deadline
        self.store = CheckpointStore(folder / "checkpoints")
        self.identity = {"recipe": setup.recipe, "data": setup.fingerprints, "kernels": kernels.resolve()}
        trainer, epochs = setup.trainer, setup.recipe["train"]["epochs"]
        self._progress = Progress(len(setup.train), epochs, echo, bar=bar)
        trainer.callbacks = [
            *trainer.callbacks,
            _Journal(setup, folder),
            Checkpoints(self.store, self.identity),
            self._progress,
            Watch(echo, setup.train, judged=setup.judged, expected=setup.recipe["notes"]["expected_findings"]),
        ]
        if deadline is not None:
            trainer.callbacks = [*trainer.callbacks, self._budget(deadline)]

    def _budget(self, deadline: float) -> TimeBudget:
        """Ends the training early enough for the test and the pictures."""
        test = self.setup.splits.test
        images, reserve = self.setup.judged + len(test), _reserve(test.classes)
        return TimeBudget(max(deadline - time.monotonic(), 0.001), images=images, reserve=reserve)

    def train(self, *, resume: bool = False) -> Metrics | None:
        """Train to the end and test once; None if the run was stopped before that.

        Raises:
            CheckpointError: a checkpoint cannot be written, or read, or is of another run.
            NumericsError: the training diverged; the last checkpoint is from before that.
        """
        if not self.store.folder.is_dir():
            new_folder(self.store.folder)
        with RunLock(self.folder):
            self.store.clean()
            clean_temporaries(self.folder)
            if resume:
                self._restore()
            else:
                write_atomic(self.folder / "recipe.json", (to_json(self.setup.recipe) + "\n").encode())
            self._header()
            epochs = self.setup.recipe["train"]["epochs"]
            with closing(self._progress):
                self.setup.trainer.fit(self.setup.train, self.setup.validation, epochs=epochs)
            done = self.setup.trainer.epoch >= epochs or self.setup.trainer.finished
            return self._finish() if done else None

    def _restore(self) -> None:
        if not self.store.steps():
            return  # it was ended before its first checkpoint, so it begins
        step, tensors, meta = self.store.latest()
        require_same(meta.get("identity", {}), self.identity)
        self.setup.trainer.load_state(tensors, meta.get("trainer", {}))
        self._check_step(step)

    def _check_step(self, step: int) -> None:
        """Check that the checkpoint of `step` is where its epochs and batches say."""
        trainer, batches = self.setup.trainer, len(self.setup.train)
        steps = trainer.epoch * batches + trainer.batch
        early = trainer.finished and step < steps  # its last epoch was cut short
        if trainer.batch > batches or trainer.optimizer.t != step or not (step == steps or early):
            raise CheckpointCorruptError(
                f"checkpoint: expected step {steps} after {trainer.epoch} epochs and {trainer.batch} batches of"
                f" {batches}, got {trainer.optimizer.t}"
            )

    def _header(self) -> None:
        recipe, splits, trainer = self.setup.recipe, self.setup.splits, self.setup.trainer
        counts = len(self.setup.train.dataset), self.setup.judged, len(splits.test)
        train, validation, test = map(grouped, counts)
        network = f"{recipe['model']['name']}, {grouped(len(trainer.params))} parameters"
        network += " left to train" if "freeze" in recipe["train"] else ""
        self.echo(f"recipe   {printable(recipe['name'])}: {network}")
        self.echo(f"data     {splits.name} from {printable(splits.origin)}")
        self.echo(f"images   {train} train, {validation} validation, {test} test, {by(splits.train.image_shape)} each")
        at = f", continued at step {trainer.optimizer.t}" if trainer.optimizer.t else ""
        self.echo(f"run      {printable(self.folder)}, seed {recipe['train']['seed']}{at}")
        for line in [*self.setup.notes, *(self.setup.choices() if self.verbose else ())]:
            self.echo(line)

    def _finish(self) -> Metrics:
        """The test, touched once, with the weights of the best epoch; results and pictures."""
        setup, splits = self.setup, self.setup.splits
        model, ended_by = setup.model(), setup.ended_by()
        model.save(self.folder / FILE)
        with blas_threads():
            parts = list(scores_of(model.network, setup.loader(splits.test), threads=setup.threads))
        scores, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        metrics = measure(scores, targets, setup.trainer.loss(scores, targets)[0])
        results = {
            "recipe": setup.recipe["name"],
            "seed": setup.recipe["train"]["seed"],
            "best_epoch": setup.best.epoch,
            "epochs": setup.trainer.epoch,
            "ended_by": ended_by,
            "test": metrics.as_dict(),
            "published": setup.recipe["published"],
            "seconds": round(sum(row["seconds"] for row in setup.trainer.history), 1),
            "data": {"name": splits.name, "origin": splits.origin, **setup.fingerprints},
            "machine": machine() | {"threads": setup.threads},
        }
        self._pictures(model, scores, metrics)
        write_atomic(self.folder / "results.json", (to_json(results) + "\n").encode())
        if ended_by != "epochs":
            epochs = setup.recipe["train"]["epochs"]
            self.echo(f"ended    by {ended_by.replace('_', ' ')} in epoch {setup.trainer.epoch}/{epochs}")
        self.echo(_test_line(metrics, setup.best.epoch))
        late = 0.0 if self.deadline is None else time.monotonic() - self.deadline
        than = f"; {late:.1f} s longer than the time budget" if late > 0.05 else ""
        self.echo(f"results  {printable(self.folder)}: {FILE}, history.jsonl, results.json and four pictures{than}")
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


def epochs_within(setup: Setup, seconds: float) -> int:
    """How many epochs, with the test and the pictures behind them, fit into `seconds`; `setup` stays as it is.

    A few steps and a batch of training images show the pace. They take a twentieth of `seconds`, or two steps.
    """
    begin, test = time.monotonic(), setup.splits.test
    reserve = _reserve(test.classes)
    step, image = _pace(setup, seconds / 20)
    left = seconds - (time.monotonic() - begin) - reserve - len(test) * image
    return max(int(left / (len(setup.train) * step + setup.judged * image)), 0)


def _pace(setup: Setup, patience: float) -> tuple[float, float]:
    """Seconds of a training step, and of an image that is evaluated."""
    trainer, images = setup.trainer, setup.train.dataset
    tensors, meta = trainer.state()
    few = setup.loader(images.subset(np.arange(min(len(images), EVALUATION_BATCH))))
    with blas_threads():
        times = [time.monotonic()]
        for x, y, weights in islice(setup.train.epoch(0), _PACE):
            trainer.network.train().reseed(trainer.seed, trainer.optimizer.t)
            trainer.step(x, y, weights)
            times.append(time.monotonic())
            if len(times) > 2 and times[-1] > times[0] + patience:
                break
        begin = time.monotonic()
        for _ in scores_of(trainer.network.eval(), few):
            pass
        image = (time.monotonic() - begin) / len(few.dataset)
    trainer.load_state(tensors, meta)
    start = min(1, len(times) - 2)  # an epoch of a single step has no second one
    return (times[-1] - times[start]) / (len(times) - 1 - start), image


@cache
def _reserve(classes: tuple[str, ...]) -> float:
    """Seconds for four pictures and the files: the first picture of a process loads much, the second shows the pace."""
    times = [time.monotonic()]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            plots.confusion(np.eye(len(classes), dtype=np.int64), classes, Path(folder) / "confusion.png")
            times.append(time.monotonic())
    return 1.5 + 4 * (times[2] - times[1])  # Python began before the budget was counted


def result_line(folder: Path) -> str:
    """What the finished run in `folder` said of its test.

    Raises:
        ConfigError: its results.json holds something else.
    """
    path = folder / "results.json"
    results = from_json(read_regular(path, limit=MAX_BYTES), printable(path))
    try:
        test, epoch = results["test"], results["best_epoch"]
        return _test_line(Metrics(test["n"], test["correct"], test["loss"], np.array(test["confusion"])), epoch)
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{printable(path)}: expected the results of a run, got something else") from None


def _test_line(metrics: Metrics, epoch: int) -> str:
    return f"test     {metrics}, with the weights of epoch {epoch + 1}"


def open_run(folder: Path) -> tuple[Recipe, Splits]:
    """The recipe and the data of an existing run folder.

    Raises:
        FileNotFoundError: there is no such folder, or its data set is gone.
        ConfigError: the folder is not a run's.
    """
    recipe = recipe_of(folder)
    return recipe, data_of(recipe)


def recipe_of(folder: Path) -> Recipe:
    """The recipe of an existing run folder; errors as of `open_run`."""
    path = folder / "recipe.json"
    if not path.exists():
        raise FileNotFoundError(f"{printable(folder)}: expected a run folder with recipe.json, got none")
    return recipes.from_record(from_json(read_regular(path, limit=MAX_BYTES), printable(path)), printable(path))


def data_of(recipe: Recipe) -> Splits:
    """The data that `recipe` names, split and sized as it says.

    Raises:
        DataError, FileNotFoundError, DownloadError: as `open_data`.
    """
    data = recipe["data"]
    return open_data(data["name"], seed=recipe["train"]["seed"], size=data.get("size"))


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` is done: its results are written last."""
    return (folder / "results.json").exists()


def next_folder(name: str, parent: Path = Path("runs")) -> Path:
    """Make the next free folder parent/NAME-001, -002 ...; one that exists is never used again."""
    with suppress(FileExistsError):
        new_folder(parent)
    number = 1
    while True:
        folder = parent / f"{name}-{number:03d}"
        try:
            new_folder(folder)
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
        new_folder(folder)
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
