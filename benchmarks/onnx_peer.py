"""ONNX Runtime's side of a race, on the graph that we export. Imported by its own process alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np
import onnxruntime
from works import Work, thread_counts, variants_of

from stridenet.interop.onnx.export import to_proto


class Onnx:
    """Inference by ONNX Runtime on the processor, with all its optimisations."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.threads = work, thread_counts(work, threads)
        self.model = to_proto(work.network()).SerializeToString()
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
        return lambda x: session.run(None, {"images": x})[0]
