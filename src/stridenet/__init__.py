"""Convolutional networks in plain Python on NumPy.

Everything a user needs is here by name; a name is loaded when it is first used, so that importing stridenet costs
next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stridenet import errors as errors, kernels as kernels, layout as layout
    from stridenet.data.augment import (
        Affine as Affine,
        Cutout as Cutout,
        Elastic as Elastic,
        RandomCrop as RandomCrop,
        RandomFlip as RandomFlip,
        RandomShift as RandomShift,
    )
    from stridenet.data.catalogue import open_data as open_data
    from stridenet.data.dataset import Dataset as Dataset, Splits as Splits
    from stridenet.data.images import Framing as Framing
    from stridenet.data.loader import Loader as Loader
    from stridenet.data.transforms import (
        Normalize as Normalize,
        Pad as Pad,
        Pipeline as Pipeline,
        Resize as Resize,
        SubtractMean as SubtractMean,
    )
    from stridenet.errors import StridenetError as StridenetError
    from stridenet.interop.estimator import ConvNetClassifier as ConvNetClassifier
    from stridenet.loading import load as load
    from stridenet.model import Model as Model
    from stridenet.nn import functional as functional, init as init
    from stridenet.nn.classic import (
        RBF as RBF,
        ScaledTanh as ScaledTanh,
        TableConv2d as TableConv2d,
        TrainableSubsampling2d as TrainableSubsampling2d,
    )
    from stridenet.nn.layer import Layer as Layer
    from stridenet.nn.layers import (
        Conv2d as Conv2d,
        Flatten as Flatten,
        LeakyReLU as LeakyReLU,
        Linear as Linear,
        LogSoftmax as LogSoftmax,
        ReLU as ReLU,
        Sigmoid as Sigmoid,
        Softmax as Softmax,
        Tanh as Tanh,
    )
    from stridenet.nn.losses import (
        cross_entropy as cross_entropy,
        hinge as hinge,
        map_criterion as map_criterion,
        mse as mse,
        rbf_mse as rbf_mse,
    )
    from stridenet.nn.parameters import Parameter as Parameter, ParameterVector as ParameterVector
    from stridenet.nn.plan import InferencePlan as InferencePlan
    from stridenet.nn.pools import AvgPool2d as AvgPool2d, GlobalAvgPool2d as GlobalAvgPool2d, MaxPool2d as MaxPool2d
    from stridenet.nn.regularization import BatchNorm2d as BatchNorm2d, Dropout as Dropout, Dropout2d as Dropout2d
    from stridenet.nn.sequential import (
        Residual as Residual,
        Sequential as Sequential,
        ZeroPadShortcut as ZeroPadShortcut,
    )
    from stridenet.optim import schedules as schedules
    from stridenet.optim.adaptive import (
        Adadelta as Adadelta,
        Adagrad as Adagrad,
        Adam as Adam,
        AdamW as AdamW,
        RMSprop as RMSprop,
    )
    from stridenet.optim.levenberg import SDLM as SDLM
    from stridenet.optim.optimizers import SGD as SGD
    from stridenet.train.callbacks import BestWeights as BestWeights, Checkpoints as Checkpoints, Progress as Progress
    from stridenet.train.checkpoint import CheckpointStore as CheckpointStore
    from stridenet.train.evaluation import evaluate as evaluate
    from stridenet.train.metrics import Metrics as Metrics
    from stridenet.train.policies import (
        CurvatureEstimate as CurvatureEstimate,
        EarlyStopping as EarlyStopping,
        ReduceOnPlateau as ReduceOnPlateau,
        TimeBudget as TimeBudget,
        WeightAverage as WeightAverage,
    )
    from stridenet.train.trainer import Callback as Callback, Trainer as Trainer
    from stridenet.zoo.models import (
        cifar_convnet as cifar_convnet,
        lenet5 as lenet5,
        lenet5_1998 as lenet5_1998,
        lenet5_batchnorm as lenet5_batchnorm,
        pynet as pynet,
        resnet20 as resnet20,
    )

_MODULES = ("errors", "kernels", "layout", "nn.functional", "nn.init", "optim.schedules")
_NAMES: dict[str, tuple[str, ...]] = {
    "data.augment": (
        "Affine",
        "Cutout",
        "Elastic",
        "RandomCrop",
        "RandomFlip",
        "RandomShift",
    ),
    "data.catalogue": ("open_data",),
    "data.dataset": (
        "Dataset",
        "Splits",
    ),
    "data.images": ("Framing",),
    "data.loader": ("Loader",),
    "data.transforms": (
        "Normalize",
        "Pad",
        "Pipeline",
        "Resize",
        "SubtractMean",
    ),
    "errors": ("StridenetError",),
    "interop.estimator": ("ConvNetClassifier",),
    "loading": ("load",),
    "model": ("Model",),
    "nn.classic": (
        "RBF",
        "ScaledTanh",
        "TableConv2d",
        "TrainableSubsampling2d",
    ),
    "nn.layer": ("Layer",),
    "nn.layers": (
        "Conv2d",
        "Flatten",
        "LeakyReLU",
        "Linear",
        "LogSoftmax",
        "ReLU",
        "Sigmoid",
        "Softmax",
        "Tanh",
    ),
    "nn.losses": (
        "cross_entropy",
        "hinge",
        "map_criterion",
        "mse",
        "rbf_mse",
    ),
    "nn.parameters": (
        "Parameter",
        "ParameterVector",
    ),
    "nn.plan": ("InferencePlan",),
    "nn.pools": (
        "AvgPool2d",
        "GlobalAvgPool2d",
        "MaxPool2d",
    ),
    "nn.regularization": (
        "BatchNorm2d",
        "Dropout",
        "Dropout2d",
    ),
    "nn.sequential": (
        "Residual",
        "Sequential",
        "ZeroPadShortcut",
    ),
    "optim.adaptive": (
        "Adadelta",
        "Adagrad",
        "Adam",
        "AdamW",
        "RMSprop",
    ),
    "optim.levenberg": ("SDLM",),
    "optim.optimizers": ("SGD",),
    "train.callbacks": (
        "BestWeights",
        "Checkpoints",
        "Progress",
    ),
    "train.checkpoint": ("CheckpointStore",),
    "train.evaluation": ("evaluate",),
    "train.metrics": ("Metrics",),
    "train.policies": (
        "CurvatureEstimate",
        "EarlyStopping",
        "ReduceOnPlateau",
        "TimeBudget",
        "WeightAverage",
    ),
    "train.trainer": (
        "Callback",
        "Trainer",
    ),
    "zoo.models": (
        "cifar_convnet",
        "lenet5",
        "lenet5_1998",
        "lenet5_batchnorm",
        "pynet",
        "resnet20",
    ),
}

_MODULE_OF = {path.rpartition(".")[2]: path for path in _MODULES}
_HOME_OF = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted([*_MODULE_OF, *_HOME_OF, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("stridenet")
    if name in _MODULE_OF:
        return import_module(f"stridenet.{_MODULE_OF[name]}")
    if name in _HOME_OF:
        return getattr(import_module(f"stridenet.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'stridenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
