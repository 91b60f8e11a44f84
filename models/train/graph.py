"""Builds small ONNX graphs by hand, node by node.

Generic exporters turn these models into graphs that are up to a hundred times slower than they need
be (one node per tree, a Scan per neighbour, a ZipMap at the end), so every graph here is written out.
The opset is the oldest that has what is needed: onnxruntime 1.24 to 1.31 all run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = (("", 17), ("ai.onnx.ml", 3), ("com.microsoft", 1))
IR_VERSION = 8
INPUT = "features"


class Graph:
    """Collects nodes and constants; every node's output is named after its role."""

    def __init__(
        self, width: int, precision: type = np.float32, source: str = INPUT, kind: int = TensorProto.FLOAT
    ) -> None:
        self.width = width
        self.precision = precision
        self.source = source
        self.kind = kind
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray | Sequence[float]) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.precision)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: object) -> str:
        return self.nodes(kind, inputs, [output], domain=domain, **attributes)[0]

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: object
    ) -> list[str]:
        self._nodes.append(helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes))
        return list(outputs)

    def finish(self, name: str, outputs: Mapping[str, int], metadata: Mapping[str, str]) -> onnx.ModelProto:
        """`outputs` maps each output's name to its number of columns."""

        def tensor(label: str, columns: int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(label, kind, ["batch", columns])

        graph = helper.make_graph(
            self._nodes,
            name,
            [tensor(self.source, self.width, self.kind)],
            [tensor(label, columns) for label, columns in outputs.items()],
            self._constants,
        )
        used = {node.domain for node in self._nodes}
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS if domain in used | {""}]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="infer-router models/train"
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model


def linear(graph: Graph, source: str, weights: np.ndarray, bias: np.ndarray, output: str) -> str:
    """`source @ weights.T + bias`; `weights` is [columns out, columns in], as scikit-learn keeps it."""
    w = graph.constant(f"{output}_weights", weights)
    b = graph.constant(f"{output}_bias", bias)
    return graph.node("Gemm", [source, w, b], output, transB=1)
