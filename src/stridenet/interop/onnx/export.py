"""Networks as ONNX files that every runtime takes: opset 17, IR 8, a batch of any size.

Padding is written in pixels, computed from the size of the image, because runtimes differ in what they make of "same"
and of ceil mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stridenet.data.transforms import TRANSFORMS, Normalize, Pad, Pipeline, Resize, SubtractMean, Transform
from stridenet.errors import ConfigError, UnsupportedModelError, shown
from stridenet.files import FilePath, refuse_existing, write_atomic
from stridenet.model import Model
from stridenet.nn.classic import AMPLITUDE, RBF, SLOPE, ScaledTanh, TableConv2d, TrainableSubsampling2d
from stridenet.nn.layer import Layer
from stridenet.nn.layers import Conv2d, Flatten, LeakyReLU, Linear, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from stridenet.nn.pools import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from stridenet.nn.rebuild import KINDS
from stridenet.nn.regularization import BatchNorm2d, Dropout, Dropout2d
from stridenet.nn.sequential import Residual, Sequential, ZeroPadShortcut
from stridenet.shapes import Shape, Window, flag, integer, pair
from stridenet.strictjson import to_json

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSETS = range(15, 18)  # those of IR 8; before 14 a runtime may take BatchNormalization for a training step
IR_VERSION = 8
INPUT, OUTPUT = "images", "scores"
MAX_BYTES = 2**31 - 2**24  # of all constants; a file has at most 2 GiB
_LARGEST = float(np.finfo(np.float32).max)


def export(
    model: Model | Sequential,
    path: FilePath,
    *,
    include_preprocessing: bool = False,
    opset: int = 17,
    overwrite: bool = False,
) -> None:
    """Write `model` as an ONNX file, whole or not at all; equal models give equal bytes.

    The graph takes "images", float32 (N, C, H, W), and gives "scores" (N, K). The file's metadata has the class names,
    the image_shape (C, H, W) and the transform that the caller still has to apply, each as JSON.

    Args:
        model: a Model, or a Sequential that has an input_shape and float32 weights.
        path: where to write.
        include_preprocessing: the graph takes images in 0..1 of the model's image_shape, and begins with its
            transform; otherwise it takes what the network takes.
        opset: 15 to 17.
        overwrite: replace a file that exists.

    Raises:
        UnsupportedModelError: a layer or a transform has no ONNX form here, weights are not finite or beyond 2 GiB.
        ConfigError: an argument is out of range, a Sequential has no input_shape or is not float32, or the package
            onnx is missing.
        FileExistsError: `path` exists.
    """
    flag("export", "include_preprocessing", include_preprocessing)
    if not flag("export", "overwrite", overwrite):
        refuse_existing(path)
    proto = to_proto(model, include_preprocessing=include_preprocessing, opset=opset)
    write_atomic(Path(path), proto.SerializeToString(deterministic=True))


def to_proto(model: Model | Sequential, *, include_preprocessing: bool = False, opset: int = 17) -> ModelProto:
    """The ModelProto that `export` writes; arguments and errors are its own."""
    helper = _import_onnx().helper
    if integer("export", "opset", opset) not in OPSETS:
        raise ConfigError(f"export: expected opset {OPSETS[0]} to {OPSETS[-1]}, got {opset}; every runtime takes 17")
    network, shape, transform, metadata = _parts_of(model)
    inside = transform if include_preprocessing else Pipeline()
    outside = Pipeline() if include_preprocessing else transform
    graph = _Graph()
    value, taken = INPUT, shape if include_preprocessing else transform.output_shape(shape)
    inner = taken
    for i, step in enumerate(inside.transforms):
        value = _add_transform(graph, f"transform.{i}.", step, value, inner)
        inner = step.output_shape(inner)
    _add_layer(graph, "", network, value, inner)
    graph.finish()
    values = [
        helper.make_tensor_value_info(name, 1, ["N", *sizes])  # 1 is float32
        for name, sizes in ((INPUT, taken), (OUTPUT, network.output_shape(inner)))
    ]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "network", values[:1], values[1:], graph.constants),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
        producer_name="stridenet",
        producer_version=version("stridenet"),
    )
    texts = {"image_shape": list(shape), "transform": outside.spec(), **metadata}
    helper.set_model_props(proto, {name: to_json(value) for name, value in texts.items()})
    return proto


def _parts_of(model: Any) -> tuple[Layer, Shape, Pipeline, dict[str, Any]]:
    """The network, the shape of an image, its transform, and what the metadata say beside them."""
    if isinstance(model, Model):
        framing = None if model.framing is None else model.framing.spec()
        metadata = {"classes": list(model.classes), "framing": framing}
        return model.network, model.image_shape, model.transform, metadata
    if not isinstance(model, Sequential):
        raise ConfigError(f"export: expected a Model, or a Sequential with an input_shape, got {shown(model)}")
    if model.input_shape is None:
        raise ConfigError("export: expected a Sequential with an input_shape, got one without; its sizes are not known")
    if any(parameter.value.dtype != np.float32 for _, parameter in model.named_parameters()):
        raise ConfigError("export: expected a network of float32, got another type; use network.astype(np.float32)")
    return model, model.input_shape, Pipeline(), {}


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ConfigError(
            "export: expected the package onnx, got none; install it with pip install 'stridenet[onnx]'"
        ) from None
    return onnx


class _Graph:
    """Nodes and constants of a graph that grows; a value has the name of the node that gives it."""

    def __init__(self) -> None:
        self._onnx = _import_onnx()
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._bytes = 0

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; the name of its output."""
        for key, value in attributes.items():
            if isinstance(value, float) and abs(value) > _LARGEST:
                raise UnsupportedModelError(f"export: {name}: expected {key} within float32, got {value:g}")
        self.nodes.append(self._onnx.helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a constant; its name."""
        array = np.asarray(value, dtype, order="C")
        if not np.isfinite(array).all():
            raise UnsupportedModelError(f"export: expected {name} with finite numbers, got NaN or infinity")
        self._bytes += array.nbytes
        if self._bytes > MAX_BYTES:
            raise UnsupportedModelError(
                f"export: expected weights of at most {MAX_BYTES} bytes, as an ONNX file holds them, got more"
            )
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def parameters(self, at: str, layer: Any, *names: str) -> list[str]:
        """The parameters `names` of a layer as constants; one that is None is left out."""
        found = [(name, getattr(layer, name)) for name in names]
        return [self.constant(at + name, parameter.value) for name, parameter in found if parameter is not None]

    def pad(self, name: str, x: str, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> str:
        """Add `value` before and behind each of the four axes."""
        pads = self.constant(f"{name}.pads", [*begins, *ends], np.int64)
        return self.add("Pad", name, [x, pads, self.constant(f"{name}.value", value)])

    def finish(self) -> None:
        """Give the last node's output the graph's name; it is the output of the whole network."""
        if not self.nodes:
            self.add("Identity", OUTPUT, [INPUT])
        self.nodes[-1].output[0] = OUTPUT


# The layers; `at` is the place of one, such as "3.body.0.", and names of parameters are those of the state_dict

_PLAIN: dict[type[Layer], tuple[str, dict[str, int]]] = {  # one node without parameters
    Flatten: ("Flatten", {"axis": 1}),
    GlobalAvgPool2d: ("GlobalAveragePool", {}),
    LogSoftmax: ("LogSoftmax", {"axis": 1}),
    ReLU: ("Relu", {}),
    Sigmoid: ("Sigmoid", {}),
    Softmax: ("Softmax", {"axis": 1}),
    Tanh: ("Tanh", {}),
}


def _add_layer(graph: _Graph, at: str, layer: Layer, x: str, shape: Shape) -> str:
    """Add the nodes of `layer`, whose input is the value x of `shape`, without N; the name of its output."""
    if type(layer) not in {Sequential, Residual, *KINDS.values()}:  # a subclass may compute anything
        raise _unsupported(at, layer)
    match layer:
        case Sequential():
            for i, (child, inner) in enumerate(zip(layer.layers, layer.shapes(shape), strict=False)):
                x = _add_layer(graph, f"{at}{i}.", child, x, inner)
            return x
        case Residual():
            y = _add_layer(graph, f"{at}body.", layer.body, x, shape)
            aside = x if layer.shortcut is None else _add_layer(graph, f"{at}shortcut.", layer.shortcut, x, shape)
            return graph.add("Add", f"{at}Add", [y, aside])
        case Dropout() | Dropout2d():
            return x
        case LeakyReLU():
            return graph.add("LeakyRelu", f"{at}LeakyRelu", [x], alpha=layer.negative_slope)
        case MaxPool2d():
            return graph.add("MaxPool", f"{at}MaxPool", [x], **_form(layer.window(shape)))
        case AvgPool2d():
            return _avg_pool2d(graph, at, x, layer.window(shape), layer.count_include_pad)
        case ZeroPadShortcut():
            return _zero_pad_shortcut(graph, at, x, layer)
        case ScaledTanh():
            return _scaled_tanh(graph, at, x)
        case TrainableSubsampling2d():
            return _trainable_subsampling2d(graph, at, layer, x, shape)
        case _ if type(layer) in _PLAIN:
            op, attributes = _PLAIN[type(layer)]
            return graph.add(op, at + op, [x], **attributes)
        case _:
            return _add_weighted(graph, at, layer, x, shape)


def _add_weighted(graph: _Graph, at: str, layer: Layer, x: str, shape: Shape) -> str:
    """Add a layer that multiplies by weights."""
    match layer:
        case Conv2d():
            inputs, window = [x, *graph.parameters(at, layer, "weight", "bias")], layer.window(shape)
            return graph.add(
                "Conv", f"{at}Conv", inputs, dilations=window.dilation, group=layer.groups, **_form(window)
            )
        case TableConv2d():
            weight = graph.constant(f"{at}weight", layer.dense(layer.weight.value))  # (K, C, R, S), zero: no connection
            inputs = [x, weight, *graph.parameters(at, layer, "bias")]
            return graph.add("Conv", f"{at}Conv", inputs, **_form(layer.window(shape)))
        case BatchNorm2d():
            inputs = [x, *graph.parameters(at, layer, "weight", "bias", "running_mean", "running_var")]
            return graph.add("BatchNormalization", f"{at}BatchNormalization", inputs, epsilon=layer.eps)
        case RBF():
            row = graph.add("Unsqueeze", f"{at}Unsqueeze", [x, graph.constant(f"{at}axes", [1], np.int64)])  # (N, 1, D)
            way = graph.add("Sub", f"{at}Sub", [row, *graph.parameters(at, layer, "codes")])  # (N, K, D)
            squares = graph.add("Mul", f"{at}Mul", [way, way])
            minus = graph.constant(f"{at}minus", np.full(layer.in_features, -1))
            return graph.add("MatMul", f"{at}MatMul", [squares, minus])  # (N, K)
        case Linear():
            return graph.add("Gemm", f"{at}Gemm", [x, *graph.parameters(at, layer, "weight", "bias")], transB=1)
        case _:
            raise _unsupported(at, layer)


def _unsupported(at: str, layer: Layer) -> UnsupportedModelError:
    place = f" at {at.removesuffix('.')!r}" if at else ""
    return UnsupportedModelError(f"export: expected layers that ONNX can hold, got {type(layer).__name__}{place}")


def _avg_pool2d(graph: _Graph, at: str, x: str, window: Window, count_include_pad: bool) -> str:
    if count_include_pad and any(window.overhang):  # padding counts, what hangs over it does not: make it pixels
        (top, bottom), (left, right) = window.padding
        x = graph.pad(f"{at}Pad", x, [0, 0, top, left], [0, 0, bottom, right])
        window, count_include_pad = window._replace(padding=((0, 0), (0, 0))), False
    form = _form(window)
    return graph.add("AveragePool", f"{at}AveragePool", [x], count_include_pad=int(count_include_pad), **form)


def _zero_pad_shortcut(graph: _Graph, at: str, x: str, layer: ZeroPadShortcut) -> str:
    form = {"kernel_shape": (1, 1), "strides": pair(repr(layer), "stride", layer.stride)}
    taken = graph.add("AveragePool", f"{at}AveragePool", [x], **form)  # of one pixel each: every stride-th
    return graph.pad(f"{at}Pad", taken, [0] * 4, [0, layer.out_channels - layer.in_channels, 0, 0])


def _scaled_tanh(graph: _Graph, at: str, x: str) -> str:
    inner = graph.add("Mul", f"{at}inner", [x, graph.constant(f"{at}slope", SLOPE)])
    squashed = graph.add("Tanh", f"{at}Tanh", [inner])
    return graph.add("Mul", f"{at}Mul", [squashed, graph.constant(f"{at}amplitude", AMPLITUDE)])


def _trainable_subsampling2d(graph: _Graph, at: str, layer: TrainableSubsampling2d, x: str, shape: Shape) -> str:
    means = graph.add("AveragePool", f"{at}AveragePool", [x], **_form(layer.window(shape)))
    sums = graph.add("Mul", f"{at}sums", [means, graph.constant(f"{at}area", layer.area)])
    per_map = {name: parameter.value[:, None, None] for name, parameter in layer.named_parameters()}  # (C, 1, 1)
    coefficient, bias = (graph.constant(at + name, per_map[name]) for name in ("coefficient", "bias"))
    return graph.add("Add", f"{at}Add", [graph.add("Mul", f"{at}Mul", [sums, coefficient]), bias])


def _form(window: Window) -> dict[str, Any]:
    """Kernel, stride and padding as attributes; what hangs over in ceil mode is more padding, and changes no count."""
    (top, bottom), (left, right) = window.padding
    pads = top, left, bottom + window.overhang[0], right + window.overhang[1]
    return {"kernel_shape": window.kernel, "strides": window.stride, "pads": pads}


# The transforms


def _add_transform(graph: _Graph, at: str, step: Transform, x: str, shape: Shape) -> str:
    """Add the nodes of a transform of images of `shape`; the name of its output."""
    match step if type(step) in TRANSFORMS.values() else None:  # a subclass may compute anything
        case Normalize(mean=mean, std=std):
            centred = graph.add("Sub", f"{at}Sub", [x, graph.constant(f"{at}mean", _per_channel(mean))])
            return graph.add("Div", f"{at}Div", [centred, graph.constant(f"{at}std", _per_channel(std))])
        case SubtractMean(mean=mean):
            return graph.add("Sub", f"{at}Sub", [x, graph.constant(f"{at}mean", mean)])
        case Pad(padding=padding, value=value):
            (top, bottom), (left, right) = padding
            return graph.pad(f"{at}Pad", x, [0, 0, top, left], [0, 0, bottom, right], value)
        case Resize(size=(P, Q)):
            H, W = shape[1:]
            rows = graph.constant(f"{at}rows", _weights(H, P))
            columns = graph.constant(f"{at}columns", _weights(W, Q).T)
            return graph.add("MatMul", f"{at}MatMul", [graph.add("MatMul", f"{at}high", [rows, x]), columns])
        case _:
            raise UnsupportedModelError(f"export: expected transforms that ONNX can hold, got {type(step).__name__}")


def _per_channel(values: Sequence[float]) -> Any:
    return np.reshape(values, (-1, 1, 1))  # (C, 1, 1)


def _weights(size: int, target: int) -> Any:
    """The matrix (target, size) with which Resize multiplies an axis: what it makes of the unit vectors."""
    return Resize((target, size))(np.eye(size)[None, None])[0, 0]
