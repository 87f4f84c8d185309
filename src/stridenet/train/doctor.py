"""What a physician would look at before a long training: `examine` a trainer with its data, or `examine_network`.

Every check says what it measured, so that silence means something. None of it changes a bit of the training after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice

import numpy as np

from stridenet import kernels
from stridenet.data.loader import Loader
from stridenet.errors import ConfigError, NumericsError
from stridenet.layout import Array
from stridenet.nn.classic import RBF
from stridenet.nn.cost import cost, total
from stridenet.nn.layer import Layer
from stridenet.nn.losses import Loss, cross_entropy, mse
from stridenet.nn.objective import LayerByLayer
from stridenet.nn.parameters import ParameterVector
from stridenet.optim.optimizers import Optimizer
from stridenet.shapes import Shape
from stridenet.train.evaluation import blas_threads, quiet
from stridenet.train.findings import Check, Finding
from stridenet.train.lengths import LOWER, RATIOS, long_steps, short_steps
from stridenet.train.policies import CurvatureEstimate
from stridenet.train.separation import check_repeats, check_size, check_statistics, prepared
from stridenet.train.signals import Passage, check_pools, check_units, passages
from stridenet.train.slopes import check_gradients
from stridenet.train.trainer import Trainer

SAMPLE = 256  # images, drawn from the training images
ROOM = 2**26  # bytes for the outputs of all layers on these images; at least FEW go through
FEW = 20  # images to be learnt by heart; more take longer and say no more
PATIENCE = 300  # steps for that, at each lr; the default recipes take 10 to 240
# Times the highest lr of the run, for a slow recipe is no wrong one. Where the loss jumps up, a tenth of it: there may
# be a warm-up for that.
FURTHER = 10
BATCH = 16  # images whose gradient is taken twice
ROUNDING = 1e-3  # of the gradient: float32 is off by 1e-6
AWAY = 2  # times the loss at the start: it has jumped up
PACE = 20  # steps on training batches: a parameter that gets no gradient in any of them gets none
LOSS_LOW, LOSS_HIGH = 0.5, 10.0  # of the first loss to that of a network that knows nothing; in 30 seeds of the
# default recipes it is up to 6.3 times that, with images in 0..255 hundreds of times. Squared errors grow with the
# square of the scores: as much as those of scores of LOSS_HIGH is allowed
STILL = 0.01  # of the loss; less is no progress: report S2 comes 0.06 % down in twelve epochs
ONE_SCALE = 1.3  # largest to smallest scale of the weights; those of two layers that are drawn alike differ by less
FADED = 1e-2  # of the spread that the images have; it is 0.64 to 5.6 in the default recipes that scale by fan_in


def examine(
    trainer: Trainer,
    train: Loader,
    validation: Loader | None = None,
    test: Loader | None = None,
    *,
    epochs: int = 1,
    fresh: bool = True,
) -> list[Check]:
    """All that can be looked at before a training begins.

    The trainer, its network and its optimizer are as before in the end, to the bit. No step is taken on images of
    `validation` and `test`: they are compared with the training images, and how they are prepared.

    Args:
        trainer: at its first step.
        train: the training images, as they will be trained on.
        validation: the images that choose the best epoch, if any.
        test: the test images, if any.
        epochs: how many there will be, which says how high lr gets.
        fresh: whether the weights are start values; those of another model need not be as start values should.

    Raises:
        ConfigError: the images have no classes.
    """
    if not train.dataset.classes:
        raise ConfigError("examine: expected images with classes, got others; name them: Dataset(images, y, classes)")
    sets = {"training": train, "validation": validation, "test": test}
    given = {name: loader for name, loader in sets.items() if loader is not None}
    x, targets = _sample_for(trainer.network, train)
    lr = _highest_rate(trainer.optimizer, epochs * len(train))
    with blas_threads(), quiet():
        way = _way(_twin(trainer.network), x)
        broken = next((passage for passage in way if not np.isfinite(passage.y).all()), None)
        if broken is not None:
            return [_not_finite(broken.place, "its first output is not finite")]
        classes, steps = way[-1].y.shape[1], _check_steps(trainer, train, lr)
        return [
            *([_check_first_loss(trainer, way, targets), _check_start(trainer.network, way)] if fresh else []),
            check_gradients(trainer.network, x.shape[1:], trainer.loss, classes),
            *_check_rounds(trainer, train),
            *steps,
            check_units(way),
            check_pools(way),
            _check_overfit(trainer, train, lr, classes, steps),
            check_statistics(given),
            check_size(0 if validation is None else len(validation.dataset)),
            check_repeats(given),
        ]


def examine_network(network: Layer, loss: Loss, input_shape: Shape, data: Loader | None = None) -> list[Check]:
    """What can be seen of a trained network: its numbers, its gradients, and, with images, its units.

    The network is left in evaluation mode.
    """
    with blas_threads(), quiet():
        broken = [name for name, value in network.state_dict().items() if not np.isfinite(value).all()]
        if broken:
            return [_not_finite(f"parameter {broken[0]}", f"{len(broken)} of its arrays are not finite")]
        classes = network.output_shape(input_shape)[0]
        checks = [Check("finite", "every number of the network"), check_gradients(network, input_shape, loss, classes)]
        if data is None:
            return checks
        way = _way(network.eval(), _sample_for(network, data)[0])
        return [*checks, check_units(way), check_pools(way)]


def indifferent_loss(loss: Loss, network: Layer, classes: int) -> float:
    """The mean loss of a network that knows nothing: its scores are the same for every image and every class.

    That is ln K for the cross-entropy, K - 1 for the hinge loss, 1 / K for the mean squared error. The scores of an RBF
    are those of an input of zeros, minus the squared length of each code.
    """
    last = list(network.walk())[-1]
    scores = np.zeros((classes, classes))
    if isinstance(last, RBF):
        scores -= np.square(last.codes.value, dtype=np.float64).sum(axis=1)
    return loss(scores, np.arange(classes))[0]


def frequency_gain(loss: Loss, targets: Array, classes: int, weights: Array | None = None) -> float:
    """What a loss falls by if a network knows how frequent each class is, and nothing of the images.

    With shares p of the classes, by the weights of the images if they have any: ln K + sum p ln p for the
    cross-entropy, sum p^2 / K for the mean squared error. Of other losses it is not known, and taken as 0.

    >>> f"{frequency_gain(cross_entropy, np.array([0, 0, 0, 1]), 2):.3f}"
    '0.131'
    """
    counts = np.bincount(targets, weights, classes)
    shares: list[float] = (counts / counts.sum()).tolist()
    if loss is cross_entropy:
        return math.log(classes) + sum(share * math.log(share) for share in shares if share)
    return sum(share**2 for share in shares) / classes if loss is mse else 0.0


def _check_first_loss(trainer: Trainer, way: list[Passage], targets: Array) -> Check:
    scores = way[-1].y
    found, wanted = trainer.loss(scores, targets)[0], indifferent_loss(trainer.loss, trainer.network, scores.shape[1])
    low, high = LOSS_LOW * wanted, LOSS_HIGH**2 if trainer.loss is mse else LOSS_HIGH * wanted
    figure = f"{found:.4g}, to know nothing gives {wanted:.4g}; allowed {low:.3g} to {high:.3g}"
    if low <= found <= high:
        return Check("first loss", figure)
    return Check("first loss", figure, (Finding("initial-loss", way[-1].place, f"the first loss is {figure}"),))


def _check_rounds(trainer: Trainer, train: Loader) -> list[Check]:
    """Whether a batch gives the same gradient twice, and the one that its layers give in float64."""
    params, rounds, (x, y, weights) = trainer.params, list[Array](), next(train.epoch(0))
    batch = x[:BATCH], y[:BATCH], None if weights is None else weights[:BATCH]
    with _restored(trainer):
        twin = _twin(trainer.network).astype(np.float64)
        params.grad.fill(0)
        for _ in range(2):
            params.zero_grad()
            trainer.network.reseed(0, 0)
            trainer.objective.loss_and_gradient(*batch)
            rounds.append(params.grad.copy())
    exact = twin.pack()
    exact.grad.fill(0)
    with kernels.use(kernels.without_compiler()):
        LayerByLayer(twin, trainer.loss).loss_and_gradient(batch[0].astype(np.float64), *batch[1:])
    return [_compare_rounds(params, rounds), _compare_exact(params, rounds[0], exact.grad)]


def _compare_rounds(params: ParameterVector, rounds: list[Array]) -> Check:
    names = _differing(params, lambda part: not np.array_equal(*(g[part] for g in rounds), equal_nan=True))
    if not names:
        return Check("two rounds", f"the same gradient of all {len(params.slices)} parameters")
    first, second = (_norm(gradient) for gradient in rounds)
    what = f"the second gradient of the same batch is {second / first if first else math.inf:.3g} times as long"
    return Check("two rounds", what, (Finding("gradients-add-up", names, what),))


def _compare_exact(params: ParameterVector, found: Array, wanted: Array) -> Check:
    scale = _norm(wanted) or 1.0
    names = _differing(params, lambda part: _norm(found[part] - wanted[part]) > ROUNDING * scale)
    what = f"off by {_norm(found - wanted) / scale:.1g} of the layers' in float64"
    findings = (Finding("wrong-gradient", names, f"the gradient of a step is {what}"),) if names else ()
    return Check("a step", f"{what}; allowed {ROUNDING:g}", findings)


def _differing(params: ParameterVector, differs: Callable[[slice], bool]) -> str:
    names = [name for name, part in params.slices.items() if differs(part)]
    return "all parameters" if len(names) == len(params.slices) else ", ".join(names)


def _check_steps(trainer: Trainer, train: Loader, highest: float) -> list[Check]:
    """The first steps of the run: what moves, and how far."""
    parts, rates = trainer.params.slices, list[float]()
    lively, ratios = dict.fromkeys(parts, False), {name: list[float]() for name in parts}
    with _restored(trainer):
        _estimate_curvature(trainer)
        try:
            for x, y, weights in islice(train.epoch(0), PACE):
                before = trainer.params.value.copy()
                rates.append(trainer.optimizer.current_lr)
                _step(trainer, x, y, weights)
                for name, part in parts.items():
                    size, way = _norm(before[part]), _norm(trainer.params.value[part] - before[part])
                    lively[name] |= bool(trainer.params.grad[part].any()) and (way > 0 or not rates[-1])
                    ratios[name] += [way / size] if size else []
        except NumericsError as error:
            return [_not_finite(f"step {error.step}", f"{error.tensor} is the first, at lr {rates[-1]:g}")]
    still = [name for name, moves in lively.items() if not moves]
    names = [name for name, p in trainer.params.parameters.items() if p.value.ndim > 1 and ratios[name]]
    means = {name: float(np.mean(ratios[name])) for name in names}
    return [_check_moves(still, len(parts), len(rates)), _check_ratios(means, rates, highest)]


def _check_moves(still: list[str], count: int, steps: int) -> Check:
    figure = f"{count - len(still)} of {count} parameters in {steps} steps"
    findings = tuple(Finding("still-parameter", name, f"{steps} steps have not moved it") for name in still)
    return Check("moved", figure, findings)


def _check_ratios(ratios: dict[str, float], rates: list[float], highest: float) -> Check:
    """Of the length of a step and that of the weights that it moves, by their names; short is what stays so later."""
    growth = highest * len(rates) / (sum(rates) or math.inf)
    findings = [*long_steps(ratios), *short_steps({name: growth * ratio for name, ratio in ratios.items()})]
    (least, first), (most, last) = (
        pick(((r, name) for name, r in ratios.items()), default=(0.0, "")) for pick in (min, max)
    )
    low, high = (f"{bound:g}" for bound in RATIOS)
    low += "" if growth < AWAY else f" (at lr {highest:.2g})"
    figure = f"a step is {least:.2g} ({first}) to {most:.2g} ({last}) of the weights, allowed {low} to {high}"
    return Check("step size", figure, tuple(findings))


def _check_start(network: Layer, way: list[Passage]) -> Check:
    """Whether all weights have one scale, and what that does to the spread of the images."""
    weights = {name: p.value for name, p in network.named_parameters() if p.value.ndim > 1}
    scales = [_norm(value) / math.sqrt(value.size) for value in weights.values()]
    low, high = min(scales, default=0.0), max(scales, default=0.0)
    kept = _spread(way[-1].y) / (_spread(way[0].x) or 1.0)
    figure = f"weights of {low:.2g} to {high:.2g}, the scores spread {kept:.2g} times as far as the images"
    if len(scales) < 2 or high > ONE_SCALE * low or FADED <= kept <= 1 / FADED:
        return Check("start values", figure)
    what = f"all have the scale {high:.2g}, and the scores spread {kept:.2g} times as far as the images"
    return Check("start values", figure, (Finding("one-scale-start", ", ".join(weights), what),))


def _check_overfit(trainer: Trainer, train: Loader, lr: float, classes: int, steps: list[Check]) -> Check:
    """Whether a few images can be learnt by heart: at the highest lr of the run, else above it and below."""
    found = [finding for check in steps for finding in check.findings]
    if any(finding.code == "non-finite" for finding in found):
        return Check("overfit", "not tried, where numbers are not finite")
    (x, targets), cure, tried = _sample(train, FEW), _cure(found), list[str]()
    for rate in (lr, lr * FURTHER, lr / FURTHER):
        losses, right = _by_heart(trainer, x, targets, rate)
        figure = f"{right} of {len(x)} images right after {len(losses)} steps at lr {rate:.2g}"
        if right == len(x):
            return Check("overfit", f"{figure}, not at {' and '.join(tried)}" if tried else figure)
        tried.append(f"{rate:.2g}")
        jumped = len(losses) < PATIENCE or max(losses) > AWAY * losses[0]
        start = losses[0] - frequency_gain(trainer.loss, targets, classes) if losses else 0.0
        if rate == lr and not jumped and (1 - STILL) * start < min(losses):
            figure = (
                f"{len(losses)} steps on {len(x)} images take the loss from {losses[0]:.4g} to {min(losses):.4g}, where"
                f" to know nothing of the images gives {start:.4g}"
            )
            return Check("overfit", figure, (Finding("plateau", "training", figure, cure),))
    high, *others = tried
    figure = f"{PATIENCE} steps do not get all {len(x)} images right at lr {high}, the highest of the run, nor at"
    figure += f" {' and '.join(others)}"
    return Check("overfit", figure, (Finding("cannot-overfit", "training", figure, cure),))


def _cure(found: Iterable[Finding]) -> str:
    """What helps a training whose steps are too long, if one of the findings says so."""
    return LOWER if any(finding.cure == LOWER for finding in found) else ""


def _by_heart(trainer: Trainer, x: Array, targets: Array, lr: float) -> tuple[list[float], int]:
    """The losses of the steps on these images, and how many of them are right in the end."""
    losses, right = list[float](), 0
    with _restored(trainer):
        _estimate_curvature(trainer)
        trainer.optimizer.lr = lr
        while len(losses) < PATIENCE and right < len(x):
            try:
                losses.append(_step(trainer, x, targets))
            except NumericsError:
                return losses, 0
            right = _right(trainer.network, x, targets) if len(losses) % 10 == 0 else right
    return losses, right


def _not_finite(where: str, what: str) -> Check:
    return Check("finite", what, (Finding("non-finite", where, what),))


def _sample(loader: Loader, count: int) -> tuple[Array, Array]:
    """`count` images, drawn, as the network sees them, and their targets."""
    return prepared(loader, np.random.default_rng(0).permutation(len(loader.dataset))[:count])


def _sample_for(network: Layer, loader: Loader) -> tuple[Array, Array]:
    """The same, as many as there is room for on their way through the network."""
    x, targets = _sample(loader, SAMPLE)
    room = ROOM // max(total(cost(network, x.shape[1:])).activation_bytes, 1)
    return x[: max(room, FEW)], targets[: max(room, FEW)]


def _twin(network: Layer) -> Layer:
    """A copy in training mode, with the masks of the first step."""
    twin = deepcopy(network).train()
    twin.reseed(0, 0)
    return twin


def _way(network: Layer, x: Array) -> list[Passage]:
    with kernels.use(kernels.without_compiler()):
        return list(passages(network, x))


@contextmanager
def _restored(trainer: Trainer) -> Generator[None]:
    """Train inside as you like: afterwards all is as it was."""
    (tensors, meta), lr, gradient = trainer.state(), trainer.optimizer.lr, trainer.params.grad.copy()
    modes = [(layer, layer.training) for layer in trainer.network.walk()]
    trainer.network.train()
    try:
        yield
    finally:
        trainer.load_state(tensors, meta)
        trainer.optimizer.lr, trainer.params.grad[...] = lr, gradient
        trainer.network.train()
        for layer, mode in modes:
            layer.training = mode


def _step(trainer: Trainer, x: Array, y: Array, weights: Array | None = None) -> float:
    trainer.network.reseed(trainer.seed, trainer.optimizer.t)
    return trainer.step(x, y, weights)


def _estimate_curvature(trainer: Trainer) -> None:
    """What an SDLM is told before an epoch."""
    for callback in trainer.callbacks:
        if isinstance(callback, CurvatureEstimate):
            callback.on_epoch_start(trainer)


def _highest_rate(optimizer: Optimizer, steps: int) -> float:
    """The largest lr of the run, at a thousand of its steps."""
    return max(optimizer.lr(int(step)) for step in np.unique(np.linspace(0, steps - 1, 1000).astype(int)))


def _right(network: Layer, x: Array, targets: Array) -> int:
    """How many of the images the network knows."""
    scores = network.eval().forward(x)
    network.train()
    return int((scores.argmax(axis=1) == targets).sum()) if np.isfinite(scores).all() else 0


def _spread(x: Array) -> float:
    """The deviation from image to image, over all places."""
    return float(np.sqrt(x.var(axis=0, dtype=np.float64).mean()))


def _norm(x: Array) -> float:
    return float(np.linalg.norm(x.ravel().astype(np.float64)))
