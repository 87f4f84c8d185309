"""Weights of PyTorch, a `state_dict` saved as safetensors, in a network of ours; and both compared layer by layer.

What is matched is a module with a layer, whole: weight, bias and running statistics. PyTorch is not imported.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stridenet.errors import ConfigError, DataError, WeightsFormatError, WeightsMismatchError, printable, shown
from stridenet.files import WEIGHTS_BYTES, FilePath, read_regular
from stridenet.layout import Array, to_batch_inner
from stridenet.nn.layer import Layer
from stridenet.nn.sequential import Residual, Sequential
from stridenet.shapes import Shape, by
from stridenet.tensors import parse_safetensors

_COUNTER = "num_batches_tracked"  # of PyTorch's batch norm: no prediction uses it
_MOST = 20  # differences in a message
_PICKLES = b"PK\x03\x04", b"\x80"  # how a file of torch.save begins

_Shapes = dict[str, dict[str, Shape]]  # module or layer -> its tensors


class Match(NamedTuple):
    """A tensor of the file and the parameter that took it over."""

    tensor: str
    parameter: str
    shape: Shape
    how: str  # "names", "name", "shape" or "order"


class Report(NamedTuple):
    """What came from where; `str` makes a table of it."""

    matched: list[Match]
    missing: list[str]  # parameters without a tensor: they stayed as they were
    unexpected: list[str]  # tensors without a parameter
    ignored: list[str]  # tensors that no prediction uses

    def __str__(self) -> str:
        rows = [("PyTorch", "stridenet", "shape", "matched by")]
        rows += [(tensor, parameter, by(shape), how) for tensor, parameter, shape, how in self.matched]
        rows += [("-", name, "", "missing") for name in self.missing]
        rows += [(name, "-", "", "unexpected") for name in self.unexpected]
        return _table([*rows, *((name, "-", "", "ignored") for name in self.ignored)])


def load_torch_weights(
    network: Layer,
    path: FilePath,
    *,
    names: Mapping[str, str] | None = None,
    strict: bool = True,
    allow_nonfinite: bool = False,
) -> Report:
    """Give `network` the weights of a safetensors file that holds a `state_dict` of PyTorch: all, or none.

    A module goes where `names` says. The others go by name if all names of one side are on the other. Else they go
    by shape: to the only layer with such tensors, or in their order to as many layers, if the modules' names differ in
    numbers alone. Nothing else is guessed: where names decide, what has no namesake has no match with strict=False
    either, whatever its shape. float16 is widened, which is exact; nothing is rounded.

    Args:
        network: float32 or float64.
        path: written by `safetensors.torch.save_file(module.state_dict(), path)`.
        names: from modules of PyTorch to layers of `network`, such as {"conv1": "0"}.
        strict: whether every tensor and every parameter must have its match.
        allow_nonfinite: whether NaN and infinity are taken.

    Raises:
        WeightsMismatchError: something has no match, or another shape or type; nothing was changed.
        WeightsFormatError: the file is not safetensors within the limits, or has numbers that are not finite.
        ConfigError: `names` has a module or a layer that is not there, or a layer twice; `network` is no network of
            ours, or `path` is a `state_dict` itself.
    """
    _check_sides(network, path)
    who = printable(path)
    tensors, _ = parse_safetensors(_read(path, who), who, allow_nonfinite=allow_nonfinite)
    ignored = [name for name in tensors if _split(name)[1] == _COUNTER]
    own, theirs = network.state_dict(), {name: array for name, array in tensors.items() if name not in ignored}
    places = _places(_shapes_of(theirs), _shapes_of(own), names or {})
    state, matched, unexpected, faults = dict(own), dict[str, Match](), list[str](), list[str]()
    for name, array in theirs.items():
        parameter, how = places.get(name, ("", ""))
        if parameter not in own:
            unexpected.append(name)
        elif fault := _difference(array, own[parameter]):
            faults.append(f"{name!r} for {parameter!r} is {fault}")
        else:
            matched[parameter] = Match(name, parameter, array.shape, how)
            state[parameter] = array.astype(own[parameter].dtype)
    taken = {parameter for parameter, _ in places.values()}
    missing = [name for name in own if name not in taken]
    if strict:
        faults += [f"{name!r} is missing" for name in _briefly(missing, own)]
        faults += [f"{name!r} is unexpected" for name in _briefly(unexpected, theirs)]
    if faults:
        more = f" and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
        raise WeightsMismatchError(f"{who}: {'; '.join(faults[:_MOST])}{more}; names= says which module is which layer")
    network.load_state_dict(state)
    return Report([matched[name] for name in own if name in matched], missing, unexpected, ignored)


def _check_sides(network: object, path: object) -> None:
    if not isinstance(network, Layer):
        got = f"{type(network).__module__}.{type(network).__qualname__}"
        raise ConfigError(f"load_torch_weights: expected network as a stridenet network, got {got}")
    if isinstance(path, Mapping):
        hint = "safetensors.torch.save_file(module.state_dict(), path) first"
        raise ConfigError(f"load_torch_weights: expected the path of a file, got a state_dict; {hint}")


def _read(path: FilePath, who: str) -> bytes:
    try:
        data = read_regular(path, limit=WEIGHTS_BYTES)
    except DataError as problem:
        raise WeightsFormatError(str(problem)) from problem
    if data.startswith(_PICKLES) and data[8:9] != b"{":  # a header of safetensors may have 128 bytes too
        hint = "write safetensors.torch.save_file(module.state_dict(), path)"
        raise WeightsFormatError(f"{who}: expected safetensors, got a pickle, which is never read; {hint}")
    return data


def _difference(array: Array, wanted: Array) -> str:
    """What is wrong with `array` where `wanted` stands; nothing, if it holds the same or fewer digits."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if array.shape == wanted.shape and kind == "f" and size <= wanted.dtype.itemsize:
        return ""
    return f"{array.shape} {array.dtype}, expected {wanted.shape} {wanted.dtype}"


def _briefly(names: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    """`names`, where "1.*" stands for all that belongs to layer 1."""
    all_of = _shapes_of(known)
    found = _shapes_of({name: known[name] for name in names})
    short: list[str] = []
    for owner, leaves in found.items():
        whole = len(leaves) > 1 and len(leaves) == len(all_of[owner])
        short += [_joined(owner, leaf) for leaf in (["*"] if whole else leaves)]
    return short


# Which module is which layer


def _places(theirs: _Shapes, ours: _Shapes, names: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """For each tensor of a matched module its place in the layer, and how that was found."""
    matches = _match(theirs, ours, names)
    return {
        _joined(module, leaf): (_joined(layer, leaf), how) for module, layer, how in matches for leaf in theirs[module]
    }


def _match(theirs: _Shapes, ours: _Shapes, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(module, layer, how) of each pair, as `load_torch_weights` says."""
    for module, layer in names.items():
        for name, known in ((module, theirs), (layer, ours)):
            if name not in known:
                raise ConfigError(f"names: expected one of {', '.join(known)}, got {shown(name)}")
    if len(set(names.values())) < len(names):
        raise ConfigError(f"names: expected each layer once, got {shown(dict(names))}")
    pairs = [(module, layer, "names") for module, layer in names.items()]
    modules = [name for name in theirs if name not in names]
    layers = [name for name in ours if name not in names.values()]
    both = set(modules) & set(layers)
    if len(both) == min(len(modules), len(layers)):
        return [*pairs, *((name, name, "name") for name in layers if name in both)]
    alike = defaultdict[Any, tuple[list[str], list[str]]](lambda: ([], []))
    for side, names_left, shapes in ((0, modules, theirs), (1, layers, ours)):
        for name in names_left:
            alike[frozenset(shapes[name].items())][side].append(name)
    for found, wanted in alike.values():
        if len(found) == len(wanted) and len({re.sub(r"\d+", "#", name) for name in found}) == 1:
            how = "shape" if len(found) == 1 else "order"
            pairs += [(m, layer, how) for m, layer in zip(sorted(found, key=_numbers), wanted, strict=True)]
    return pairs


def _shapes_of(tensors: Mapping[str, Any]) -> _Shapes:
    """The shapes of `tensors`, by what they belong to."""
    shapes: _Shapes = {}
    for name, tensor in tensors.items():
        owner, leaf = _split(name)
        shapes.setdefault(owner, {})[leaf] = tuple(tensor.shape)
    return shapes


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _split(name: str) -> tuple[str, str]:
    owner, _, leaf = name.rpartition(".")
    return owner, leaf


def _joined(owner: str, leaf: str) -> str:
    return f"{owner}.{leaf}" if owner else leaf


# Layer by layer


class Difference(NamedTuple):
    """What a module and its layer gave for one input; `value` is max |ours - theirs| / max |theirs|."""

    module: str
    layer: str
    shape: Shape
    torch_shape: Shape
    value: float  # infinite where the shapes differ


class Comparison(NamedTuple):
    """The layers in order, and the output of the whole as the last row; `str` makes a table of it."""

    rows: list[Difference]

    def __str__(self) -> str:
        rows = [("PyTorch", "stridenet", "output", "difference")]
        for module, layer, shape, torch_shape, value in self.rows:
            sizes = by(shape) if shape == torch_shape else f"{by(shape)}, not {by(torch_shape)}"
            rows.append((module or "all", layer or "all", sizes, f"{value:.1e}"))
        return _table(rows)


def compare_with_torch(
    network: Layer, module: Any, x: npt.ArrayLike, *, names: Mapping[str, str] | None = None
) -> Comparison:
    """Run a network and a `torch.nn.Module` on the same images and compare what each matched layer gives.

    The first row that differs by more than rounding names the layer at fault. Layers are matched as in
    `load_torch_weights`; those without parameters show in the layer after them.

    Args:
        network: in evaluation mode.
        module: in evaluation mode.
        x: a batch (N, C, H, W) as the first layer takes it.
        names: as in `load_torch_weights`.

    Raises:
        ConfigError: one of the two is in training mode, no layer has a match, `names` is wrong, or a module gives
            no tensor but a tuple.
    """
    for who, training in (("network", network.training), ("module", module.training)):
        if training:
            raise ConfigError(f"compare_with_torch: expected the {who} in evaluation mode; call {who}.eval()")
    theirs = {name: value for name, value in module.state_dict().items() if _split(name)[1] != _COUNTER}
    own = network.state_dict()
    pairs = {layer: owner for owner, layer, _ in _match(_shapes_of(theirs), _shapes_of(own), names or {})}
    if not pairs:
        raise ConfigError("compare_with_torch: expected at least one layer with a match, got none; use names=")
    images = np.asarray(x, next(iter(own.values())).dtype)
    ours: dict[str, Array] = {}
    _forward(network, to_batch_inner(images), "", ours)
    outputs = _outputs_of(module, list(pairs.values()), images)
    ran = [layer for layer in ours if layer and pairs.get(layer) in outputs]  # in this order
    rows = [_compared(pairs[layer], layer, ours[layer], outputs[pairs[layer]]) for layer in ran]
    return Comparison([*rows, _compared("", "", ours[""], outputs[""])])


def _forward(layer: Layer, x: Array, name: str, found: dict[str, Array]) -> Array:
    """The output of `layer`; every output inside it, and its own, is put into `found`."""
    match layer:
        case Sequential():
            for inside, child in layer.children():
                x = _forward(child, x, _joined(name, inside), found)
        case Residual():
            y = _forward(layer.body, x, _joined(name, "body"), found)
            shortcut = layer.shortcut
            x = y + (x if shortcut is None else _forward(shortcut, x, _joined(name, "shortcut"), found))
        case _:
            x = layer.forward(x)
    found[name] = x
    return x


def _outputs_of(module: Any, names: Sequence[str], images: Array) -> dict[str, Array]:
    """What the modules inside `module` give, by name, and "" for the whole."""
    found: dict[str, Array] = {}

    def hook_of(name: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            if not hasattr(output, "detach"):
                got = f"a {type(output).__name__} of {name or 'the whole'}"
                raise ConfigError(f"compare_with_torch: expected modules that give one tensor each, got {got}")
            found[name] = output.detach().cpu().numpy()

        return keep

    handles = [module.get_submodule(name).register_forward_hook(hook_of(name)) for name in {*names, ""}]
    try:
        floats = (value for value in module.state_dict().values() if value.is_floating_point())
        module(next(floats).new_tensor(images))  # of their type, where they are
    finally:
        for handle in handles:
            handle.remove()
    return found


def _compared(module: str, layer: str, ours: Array, theirs: Array) -> Difference:
    value = math.inf
    if ours.shape == theirs.shape:
        wanted = theirs.astype(np.float64)
        value = float(np.max(np.abs(ours - wanted), initial=0) / (np.max(np.abs(wanted), initial=0) or 1.0))
    return Difference(module, layer, ours.shape, theirs.shape, value)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
