"""A graph that is being rewritten: who makes a value, who uses it, what is constant, and the exact clean-ups.

It owns no pattern: `forest` and `patterns` know those.
"""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"


def attributes(node: NodeProto) -> dict:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def bodies(node: NodeProto) -> list[GraphProto]:
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def mentioned(graph: GraphProto) -> set[str]:
    """Every name that a nested graph mentions, and so may take from the graph around it."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in bodies(node):
            names |= mentioned(body)
    return names


class Editor:
    """Works on its own list of nodes; `finish` puts them back into the model."""

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.graph = model.graph
        self.nodes = list(model.graph.node)
        self.inputs = {value.name for value in model.graph.input}
        self.outputs = {value.name: value for value in model.graph.output}
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.pinned = set().union(*(mentioned(body) for node in self.nodes for body in bodies(node)))
        self.index()

    def index(self) -> None:
        """Reads the nodes anew; called after they came, went or were renamed."""
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initialiser that no caller can override, or of a `Constant` node."""
        if name in self.initializers and name not in self.inputs:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer_of(name, "Constant")
        value = attributes(node).get("value") if node is not None else None
        return None if value is None else numpy_helper.to_array(value)

    def producer_of(self, name: str, *kinds: str) -> NodeProto | None:
        node = self.producer.get(name)
        return node if node is not None and node.op_type in kinds else None

    def only_user(self, name: str, *kinds: str) -> NodeProto | None:
        """The one node that reads a value, when nothing else does and it is of these kinds."""
        users = self.users.get(name, [])
        if len(users) != 1 or name in self.outputs or name in self.pinned or users[0].op_type not in kinds:
            return None
        return users[0]

    def fresh(self, wish: str) -> str:
        taken = self.inputs | set(self.producer) | set(self.initializers) | self.pinned
        return next(name for name in (wish, *(f"{wish}_{n}" for n in range(len(taken) + 1))) if name not in taken)

    def add_constant(self, wish: str, value: np.ndarray) -> str:
        name = self.fresh(wish)
        self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def replace(self, old: NodeProto, *new: NodeProto) -> None:
        at = next(index for index, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new
        self.index()

    def bypass(self, node: NodeProto) -> bool:
        """Takes out a node whose only output equals its first input; no output of the graph changes its name."""
        keep, drop = node.input[0], node.output[0]
        if keep in self.pinned or drop in self.pinned:
            return False
        if drop in self.outputs:
            maker = self.producer.get(keep)
            if maker is None or keep in self.outputs:
                return False
            keep, drop = drop, keep
            maker.output[:] = [keep if name == drop else name for name in maker.output]
        self.nodes = [other for other in self.nodes if other is not node]
        for other in self.users.get(drop, []):
            other.input[:] = [keep if name == drop else name for name in other.input]
        self.index()
        return True

    def import_domain(self, domain: str, version: int) -> None:
        if domain not in {opset.domain for opset in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    def sweep(self) -> int:
        """Takes out nodes that no output needs, and says how many."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input, *(mentioned(body) for body in bodies(node)))
        gone = len(self.nodes) - len(kept)
        self.nodes = kept[::-1]
        self.index()
        self.initializers = {name: tensor for name, tensor in self.initializers.items() if name in needed or name in self.inputs}
        return gone

    def finish(self) -> onnx.ModelProto:
        infos = [info for info in self.graph.value_info if info.name in self.producer and info.name not in self.outputs]
        for field, values in (("node", self.nodes), ("initializer", self.initializers.values()), ("value_info", infos)):
            kept = [copy.deepcopy(value) for value in values]
            del getattr(self.graph, field)[:]
            getattr(self.graph, field).extend(kept)
        return self.model


# The types of these follow their first input.
SAME_TYPE = {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Relu", "Tanh", "Sigmoid", "Softmax", "MatMul", "Gemm", "Reshape"}
SAME_TYPE |= {"Identity", "Gather", "Transpose", "Concat", "Squeeze", "Unsqueeze", "Flatten", "Exp", "Sqrt", "ReduceMean"}
FLOAT_OUT = {"Scaler", "Normalizer", "LinearRegressor", "TreeEnsembleRegressor", "SVMRegressor"}


def element_type(editor: Editor, name: str, depth: int = 0) -> int | None:
    """The element type of a value, where it can be told without running the graph."""
    if name in editor.initializers:
        return editor.initializers[name].data_type
    if name in editor.inputs:
        value = next(value for value in editor.graph.input if value.name == name)
        return value.type.tensor_type.elem_type or None
    node = editor.producer.get(name)
    if node is None or depth > 64:
        return None
    if node.op_type == "Cast":
        return attributes(node)["to"]
    if node.domain in ("", "ai.onnx") and node.op_type in SAME_TYPE:
        return element_type(editor, node.input[0], depth + 1)
    if node.domain == ML and node.op_type.endswith("Classifier"):
        if name != node.output[0]:
            return TensorProto.FLOAT
        given = attributes(node)
        return TensorProto.INT64 if given.get("classlabels_int64s") or given.get("classlabels_ints") else None
    if node.domain == ML and node.op_type in FLOAT_OUT:
        return TensorProto.FLOAT
    return None


def clean(editor: Editor) -> Counter:
    """Drops `Identity`, casts to the type that a value has already, and what nobody needs."""
    done: Counter = Counter()
    for node in list(editor.nodes):
        if node.op_type == "Identity":
            done["identity"] += editor.bypass(node)
        elif node.op_type == "Cast" and element_type(editor, node.input[0]) == attributes(node)["to"]:
            done["cast"] += editor.bypass(node)
    done["dead"] += editor.sweep()
    return +done
