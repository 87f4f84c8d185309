"""Fine-tuning: a network begins with the weights of another model, and some of its layers stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stridenet.errors import ConfigError, printable
from stridenet.loading import is_onnx
from stridenet.model import load
from stridenet.nn.sequential import Sequential


def fine_tune(network: Sequential, training: Mapping[str, Any], *, resume: bool = False) -> list[str]:
    """Do what `init` and `freeze` of a recipe's section [train] ask for; what was done, in lines.

    Args:
        network: with its start values, not packed yet.
        training: the section.
        resume: the weights come from a checkpoint, so that the model of `init` need not be there.

    Raises:
        ConfigError: the model has no layer for this network, or `freeze` does not fit.
        OSError, ModelFileError: the model cannot be read.
    """
    count, total, notes = training.get("freeze", 0), len(network.layers), list[str]()
    if count and "init" not in training:
        raise ConfigError("recipe.train.freeze: expected train.init beside it, got none; the layers would stay random")
    if count > total:
        raise ConfigError(f"recipe.train.freeze: expected at most the network's {total} layers, got {count}")
    if "init" in training and not resume:
        taken, notes = take_weights(network, training["init"])
        random = [name for name in _layers(network) if name not in taken and int(name.split(".")[0]) < count]
        if random:
            raise ConfigError(f"recipe.train.freeze: expected layers that init gives, got {', '.join(random)} too")
    for layer in network.layers[:count]:
        layer.freeze()
    if not any(parameter.trainable for _, parameter in network.named_parameters()):
        raise ConfigError(f"recipe.train.freeze: expected a layer that is left to train, got all in the first {count}")
    if count:
        notes.append(f"frozen   the first {count} of {total} layers")
    return notes


def take_weights(network: Sequential, source: str) -> tuple[list[str], list[str]]:
    """Give `network` what fits of the model `source`, a file or a run folder.

    A layer gets the weights of the layer of the same name, if all of them have its shapes; else it keeps its own.

    Returns:
        The names of the layers that got weights, and what was done, in one line or two.

    Raises:
        ConfigError: no layer does, or the source is an ONNX file.
        OSError, ModelFileError: the model cannot be read.
    """
    if is_onnx(source):
        raise ConfigError(
            "recipe.train.init: expected a model file or a run folder of stridenet, whose weights alone it takes, got"
            f" an ONNX file, {printable(source)}"
        )
    theirs, own = load(source).network.state_dict(), network.state_dict()
    shapes = {name: value.shape for name, value in theirs.items()}
    layers = _layers(network)
    taken = [layer for layer, names in layers.items() if all(shapes.get(n) == own[n].shape for n in names)]
    if not taken:
        raise ConfigError(
            f"recipe.train.init: expected a model with a layer of this network's, got none in {printable(source)}"
        )
    network.load_state_dict(own | {name: theirs[name] for layer in taken for name in layers[layer]})
    fresh = [layer for layer in layers if layer not in taken]
    notes = [f"init     layers {', '.join(taken)} from {printable(source)}"]
    if fresh:
        notes.append(f"fresh    layers {', '.join(fresh)}: not there with these shapes")
    return taken, notes


def _layers(network: Sequential) -> dict[str, list[str]]:
    """The names of the parameters of each layer that has some."""
    layers: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return layers
