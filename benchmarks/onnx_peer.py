"""ONNX Runtime's side of a race, on a graph built here. Imported by its own process alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
from works import Work, thread_counts, variants_of

from stridenet.nn.layers import Conv2d, Flatten, Linear, ReLU
from stridenet.nn.pools import MaxPool2d
from stridenet.nn.sequential import Sequential

OPSET, IR = 17, 8  # what every runtime takes


def graph_of(network: Sequential) -> ModelProto:
    """The network as an ONNX model of any batch size."""
    nodes, weights, at = [], [], "x"
    for i, layer in enumerate(network.layers):
        inputs = [at]
        if isinstance(layer, Conv2d | Linear):
            for name in ("weight", "bias"):
                value = getattr(layer, name).value
                weights.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{i}.{name}"))
                inputs.append(f"{i}.{name}")
        match layer:
            case Conv2d():
                kind, form = "Conv", {"kernel_shape": layer.weight.value.shape[2:]}
            case MaxPool2d():
                kind, form = "MaxPool", {"kernel_shape": (layer.kernel_size,) * 2, "strides": (layer.kernel_size,) * 2}
            case Linear():
                kind, form = "Gemm", {"transB": 1}
            case ReLU() | Flatten():
                kind, form = ("Relu" if isinstance(layer, ReLU) else "Flatten"), {}
            case _:
                raise TypeError(f"{layer!r} has no ONNX node here")
        at = f"y{i}"
        nodes.append(helper.make_node(kind, inputs, [at], **form))
    (K,) = network.output_shape(network.input_shape or ())
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *(network.input_shape or ())])
    y = helper.make_tensor_value_info(at, TensorProto.FLOAT, ["N", K])
    graph = helper.make_graph(nodes, "network", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    checker.check_model(model, full_check=True)
    return model


class Onnx:
    """Inference by ONNX Runtime on the processor, with all its optimisations."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads = work, thread_counts(work, threads)
        self.model = graph_of(work.network()).SerializeToString()
        self.images, _ = work.batch()
        self._made: dict[str, Callable[[], object]] = {}

    def check(self) -> list[float]:
        """The first scores."""
        return self._session(1)(self.images[:3]).ravel().tolist()

    def variants(self) -> list[str]:
        """Batch sizes or thread counts."""
        return variants_of(self.work, self.threads)

    def begin(self, variant: str) -> Callable[[], object]:
        """The call, made once."""
        if variant not in self._made:
            self._made[variant] = self._make(variant)
        return self._made[variant]

    def _make(self, variant: str) -> Callable[[], object]:
        if self.work.task == "one image":
            session, singles = self._session(self.threads[variant]), cycle(np.split(self.images, len(self.images)))
            return lambda: session(next(singles))
        session = self._session(max(self.threads.values()))
        parts = np.split(self.images, len(self.images) // int(variant.split()[1]))
        return lambda: [session(part) for part in parts]

    def _session(self, threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"x": x})[0]
