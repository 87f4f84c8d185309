"""`ConvNetClassifier`: networks as a scikit-learn classifier, for its pipelines, searches and cross-validation."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from importlib.metadata import version
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin  # pyright: ignore[reportMissingTypeStubs]
from sklearn.utils import multiclass as _multiclass, validation as _validation  # pyright: ignore[reportMissingTypeStubs]

from stridenet import layout, seeding
from stridenet.assembly import OPTIMIZERS
from stridenet.data.dataset import Dataset
from stridenet.data.images import Framing
from stridenet.data.loader import Loader, RandomChange, to_unit
from stridenet.errors import ConfigError, LabelError, ShapeError, shown
from stridenet.interop.networks import prepared
from stridenet.interop.samples import (
    Range,
    as_rows,
    checked_image_shape,
    checked_weights,
    class_weights,
    encoded,
    refusing,
)
from stridenet.layout import Array
from stridenet.model import Model
from stridenet.nn.functional import log_softmax
from stridenet.nn.layer import Layer
from stridenet.nn.plan import InferencePlan
from stridenet.nn.sequential import Sequential
from stridenet.optim import schedules
from stridenet.shapes import Shape, by, choice, flag, fraction, integer, number, positive, product
from stridenet.tables import construct
from stridenet.train.callbacks import BestWeights, Progress
from stridenet.train.policies import EarlyStopping
from stridenet.train.trainer import Callback, History, Trainer

multiclass: Any = _multiclass  # untyped
validation: Any = _validation

WHO = "ConvNetClassifier"
STEPS, EPOCHS = 1500, (10, 100)  # of a fit, where `epochs` is None; what an epoch more or less may make of them
BATCH = {True: 200, False: 32}  # samples of a step, where `batch_size` is None: features, images
EVALUATION_BATCH = 256


class ConvNetClassifier(ClassifierMixin, BaseEstimator):
    """A network as a scikit-learn classifier.

    X is (n, H, W), (n, C, H, W), or with `image_shape` also (n, H, W, C) or (n, C*H*W): images, as bytes or numbers of
    any scale, the same in `fit` and later. Without `image_shape`, (n, features) are features, each standardized by
    itself, however many they are: 64 columns are an image of 8x8 only if `image_shape=(1, 8, 8)` says so. Images are
    trained in float32, features in float64; what fits one batch is trained as a whole, so that there a weight of 2 is
    the same as the sample twice.

    Args:
        network: None is a small convolutional network for images, a hidden layer of 100 units for features. Else the
            name of a network or of a recipe (its network and its preprocessing), a Sequential or a list of layers,
            which are copied as they are: their weights are the start.
        image_shape: (C, H, W) of an image, also where the channels of X stand last; None is as X is.
        epochs: how often each sample is seen in `fit`; None makes about 1 500 steps, in 10 to 100 epochs.
        batch_size: samples of a step; None is 32 for images, 200 for features.
        learning_rate: the highest; in `fit` it goes through one cycle. It stays the same where the end is not known:
            with early stopping and in `partial_fit`.
        optimizer: "adamw", "adam", "sgd" or another that recipes name.
        momentum: of "sgd".
        weight_decay: as the optimizer has it, decoupled from the gradient for "adamw".
        class_weight: None, "balanced", or a dict with a weight for each class; others may be in it.
        augment: None, a random change of images in 0..1 such as `RandomShift(1)`, or a list of them; in training only.
        early_stopping: whether a part of the samples is held out, the weights best on it are kept, and training ends
            when they have not got better for some epochs.
        validation_fraction: the part that is held out.
        n_iter_no_change: the epochs.
        warm_start: whether `fit` goes on from the last one, with its classes, its shape and its scaling; also with
            its network and its seed, whatever `network` and `random_state` are by now.
        random_state: None, an int or a RandomState: of start weights, order, held out samples, dropout, augmentation.
        verbose: whether each epoch has a line on standard output; any number but 0 says yes.
        threads: workers that share a batch; no bit depends on them.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: values of a sample, C*H*W of an image.
        feature_names_in_: the names of columns, where X had some.
        image_shape_: (C, H, W); (features, 1, 1) for features.
        history_: a dict for each epoch, see `Trainer.fit`.
        n_iter_: the epochs done.
        model_: the `Model`, in float32: `model_.save(path)` makes a file that `stridenet predict` takes. Its images are
            bytes, or 0..1 where the training images went from their smallest to their largest value.

    Ctrl-C ends `fit` and is passed on. If an epoch was finished, what is learnt stays; else all is as before the call,
    as after any error.

    >>> from sklearn.datasets import load_digits
    >>> digits = load_digits()
    >>> classifier = ConvNetClassifier(epochs=8, random_state=0).fit(digits.images[:900], digits.target[:900])
    >>> classifier.predict(digits.images[:3])
    array([0, 1, 2])
    """

    classes_: Array
    n_features_in_: int
    image_shape_: Shape
    history_: History
    n_iter_: int
    _slots: tuple[str, dict[str, Array]]
    model_: Model

    def __init__(
        self,
        network: str | Sequential | Sequence[Layer] | None = None,
        *,
        image_shape: Shape | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.005,
        optimizer: str = "adamw",
        momentum: float = 0.9,
        weight_decay: float = 0.1,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        augment: RandomChange | Sequence[RandomChange] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool | int = False,
        threads: int = 1,
    ) -> None:
        self.network = network
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.threads = threads

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from the start, or with `warm_start` from where the last fit ended.

        Raises:
            DataError, LabelError, ShapeError: X, the weights or y cannot be used.
            ConfigError: a parameter is out of range, or does not fit the data.
            NumericsError: the training diverged.
        """
        with self._draft() as draft:
            draft._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on these samples, with a constant learning rate.

        Args:
            X: as for `fit`; the first samples decide on the shape and the scaling.
            y: the labels.
            classes: all there will be; needed in the first call.
            sample_weight: as for `fit`.

        Raises:
            As `fit`.
        """
        with self._draft() as draft:
            draft._partial_fit(X, y, classes, sample_weight)
        return self

    def predict(self, X: Any) -> Array:
        """The label of each sample (n,).

        Raises:
            NotFittedError: before `fit`.
            DataError, ShapeError: X cannot be used, such as floats in 0..1 after a fit on bytes.
        """
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class (n, K), in the order of `classes_`; X and errors as for `predict`."""
        return np.exp(log_softmax(self._scores(X))[0])

    @contextmanager
    def _draft(self) -> Generator[Self]:
        """A twin that may fail: what it has learnt is taken over at once, when it is whole."""
        draft = copy(self)
        try:
            yield draft
        except KeyboardInterrupt:
            if vars(draft).get("model_") is not vars(self).get("model_"):  # it is set last
                self.__dict__ = draft.__dict__
            raise
        self.__dict__ = draft.__dict__

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        again = flag(WHO, "warm_start", self.warm_start) and hasattr(self, "classes_")
        images, y, weights = self._checked(X, y, sample_weight, reset=not again)
        classes = np.unique(y)
        if again:
            self._require_same(f"{WHO}.fit with warm_start", classes)
        self._learn(images, y, weights, classes, again=again)

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        who, again = f"{WHO}.partial_fit", hasattr(self, "classes_")
        if self.class_weight is not None and not isinstance(self.class_weight, dict):
            raise ConfigError(f"{who}: expected class_weight as None or a dict, got {shown(self.class_weight)}")
        if classes is None and not again:
            raise ConfigError(f"{who}: expected classes in the first call, got none; classes=np.unique(y)")
        with refusing(who, LabelError):
            known: Array = self.classes_ if classes is None else np.unique(validation.column_or_1d(classes))
        if again:
            self._require_same(who, known)
        images, y, weights = self._checked(X, y, sample_weight, reset=not again)
        self._learn(images, y, weights, known, again=again, partial=True)

    def _require_same(self, who: str, classes: Array) -> None:
        """LabelError if these are not the classes that are known."""
        if classes.tolist() != self.classes_.tolist():
            known = shown(self.classes_.tolist())
            raise LabelError(f"{who}: expected the classes of before, {known}, got {shown(classes.tolist())}")

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Array, Array, Array | None]:
        """Images (n, C, H, W), labels (n,) and weights (n,) or None."""
        images = self._images(X, reset=reset)
        with refusing(WHO, LabelError):
            y = validation.check_array(
                validation.column_or_1d(y, warn=True), ensure_2d=False, dtype=None, input_name="y"
            )
            validation.check_consistent_length(images, y)
            multiclass.check_classification_targets(y)
        if sample_weight is None:
            return images, y, None
        with refusing(WHO):
            weights = validation.check_array(np.array(sample_weight, ndmin=1), ensure_2d=False, dtype=np.float64)
        return images, y, checked_weights(WHO, weights, len(images))

    def _images(self, X: Any, *, reset: bool) -> Array:
        """X as images (n, C, H, W), of the shape of the last fit unless `reset`."""
        given = checked_image_shape(WHO, self.image_shape) if reset else self.image_shape_
        table, shape = as_rows(WHO, X, given)
        types, fewest = [np.float64, np.float32, np.uint8], 1 if reset else 0
        with refusing(WHO):
            rows: Array = validation.validate_data(self, table, reset=reset, dtype=types, ensure_min_samples=fewest)
        if reset:
            self.image_shape_ = shape or (rows.shape[1], 1, 1)
            self._features = shape is None
        if rows.shape[1] != product(self.image_shape_):
            raise ShapeError(
                f"{WHO}: expected {product(self.image_shape_)} columns for images {by(self.image_shape_)}, got"
                f" {rows.shape[1]}; a row holds an image channel by channel, row by row"
            )
        rows = rows.astype(np.float64, copy=False) if self._features else rows
        if not reset:
            self._range.refuse_other(WHO, rows)
        return rows.reshape(len(rows), *self.image_shape_)

    def _learn(
        self, images: Array, y: Array, weights: Array | None, classes: Array, *, again: bool, partial: bool = False
    ) -> None:
        """Train on what is checked."""
        if len(classes) < 2:
            raise LabelError(f"{WHO}: expected labels of two classes or more, got 1 class: {shown(classes.tolist())}")
        targets = encoded(WHO, y, classes)
        if weights is not None:  # what has no weight is as if it were not there
            images, targets, weights = images[weights > 0], targets[weights > 0], weights[weights > 0]
        own = Range.fit(images, features=self._features)
        data = Dataset(own.unit(images), targets, tuple(map(str, classes.tolist())), weights)
        if self.class_weight is not None:
            data = data.weigh(class_weights(WHO, self.class_weight, classes, targets, weights))
        if again:
            self._network = deepcopy(self._network)  # its owner keeps the old one until all is done
        else:
            self.classes_, self._range, self.history_, self._slots = classes, own, [], ("", {})
            self._seed = int(validation.check_random_state(self.random_state).randint(2**31 - 1))
            rng = seeding.stream(self._seed, "init")
            self._pipeline, network = prepared(WHO, self.network, data, features=self._features, rng=rng)
            self._network = network.astype(self._dtype)
            self._framing = None if self._features else Framing.fit(data.images)
        self._train(data, own, partial=partial)

    @property
    def _dtype(self) -> type[np.float32] | type[np.float64]:
        return np.float64 if self._features else np.float32

    def _train(self, data: Dataset, own: Range, *, partial: bool) -> None:
        """Train the network in place, and take down where it got."""
        stopping = flag(WHO, "early_stopping", self.early_stopping) and not partial
        held_out = None
        if stopping:
            part = fraction(WHO, "validation_fraction", self.validation_fraction, open_low=True)
            data, held_out = data.split(part, seed=self._seed)
        size = BATCH[self._features] if self.batch_size is None else integer(WHO, "batch_size", self.batch_size)
        transform = [own.into(self._range, self._dtype), self._pipeline]
        train = Loader(data, size, transform=transform, augment=self.augment, shuffle=True, seed=self._seed)
        judged = None if held_out is None else Loader(held_out, EVALUATION_BATCH, transform=transform)
        epochs = 1 if partial else self._epochs(len(train))
        best, done = BestWeights(), len(self.history_)
        callbacks: list[Callback] = []
        if stopping:
            callbacks = [EarlyStopping(integer(WHO, "n_iter_no_change", self.n_iter_no_change)), best]
        if self.verbose if isinstance(self.verbose, bool) else integer(WHO, "verbose", self.verbose, minimum=0):
            callbacks.append(Progress(len(train), done + epochs, _write, bar=False))
        rate = positive(WHO, "learning_rate", self.learning_rate)
        schedule = rate if stopping or partial else schedules.one_cycle(rate, total=epochs * len(train))
        trainer = self._trainer(schedule, callbacks)
        name, slots = self._slots
        if partial and name == self.optimizer and slots.keys() == trainer.optimizer.state_dict().keys():
            trainer.optimizer.load_state_dict(slots)  # another one, or without its momentum, begins afresh
        trainer.epoch = done  # in another order than before
        origin = {} if partial else {"images": len(data)}  # a part is not all
        try:
            trainer.fit(train, judged, epochs=done + epochs)
        except KeyboardInterrupt:
            if trainer.history:
                self._settle(trainer, best, origin)
            raise
        self._settle(trainer, best, origin)

    def _trainer(self, schedule: float | schedules.Schedule, callbacks: list[Callback]) -> Trainer:
        names = [name for name in OPTIMIZERS if name != "sdlm"]
        name = choice(f"{WHO}.optimizer", self.optimizer, names)
        momentum = number(WHO, "momentum", self.momentum, low=0.0, high=1.0, open_high=True)
        chosen = {"momentum": momentum} if name == "sgd" else {}
        arguments = {"weight_decay": self.weight_decay, **chosen}
        parameters = self._network.train().pack()
        optimizer = construct(f"{WHO}.optimizer", OPTIMIZERS, name, arguments, params=parameters, lr=schedule)
        return Trainer(self._network, optimizer, callbacks=callbacks, seed=self._seed, threads=self.threads)

    def _epochs(self, steps: int) -> int:
        """The epochs of a fit with so many steps in each."""
        if self.epochs is not None:
            return integer(WHO, "epochs", self.epochs)
        fewest, most = EPOCHS
        return min(max(round(STEPS / steps), fewest), most)

    def _settle(self, trainer: Trainer, best: BestWeights, origin: dict[str, int]) -> None:
        """The trained network, ready to predict and as a model."""
        best.restore(self._network)
        self.history_ = [*self.history_, *trainer.history]
        self.n_iter_ = len(self.history_)
        self._slots = self.optimizer, trainer.optimizer.state_dict()
        self._plan = InferencePlan(self._network.eval(), threads=self.threads)
        self.model_ = Model(
            deepcopy(self._network).astype(np.float32) if self._features else self._network,
            self.classes_.tolist(),
            self.image_shape_,
            transform=self._pipeline,
            framing=self._framing,
            provenance={**origin, "stridenet": version("stridenet")},
        )

    def _scores(self, X: Any) -> Array:
        """The network's scores (n, K)."""
        validation.check_is_fitted(self)
        images = self._images(X, reset=False)
        scores = np.empty((len(images), len(self.classes_)), self._dtype)
        for i in range(0, len(images), EVALUATION_BATCH):
            part = self._range.unit(images[i : i + EVALUATION_BATCH])
            x = to_unit(part) if part.dtype == np.uint8 else layout.to_batch_inner(part).astype(self._dtype)
            scores[i : i + EVALUATION_BATCH] = self._plan(self._pipeline(x))
        return scores


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
