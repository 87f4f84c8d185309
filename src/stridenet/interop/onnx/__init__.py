"""ONNX: graphs of other frameworks run here, networks of stridenet run there."""

from __future__ import annotations

from stridenet.interop.onnx.export import export as export
from stridenet.interop.onnx.graph import Graph as Graph, load as load
