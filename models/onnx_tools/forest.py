"""Sums over trees that were exported one tree at a time, as one `TreeEnsembleRegressor`.

skl2onnx writes an isolation forest of T trees as T ensembles of one tree, each followed by some twenty small nodes that
turn the number of the leaf into `depth + c(n)`, with `c(n) = 2 (ln(n - 1) + 0.5772...) - 2 (n - 1) / n` for a leaf of n
training rows (Liu, Ting, Zhou 2008, "Isolation Forest", equation 1). All of that depends on the leaf alone. So the small
nodes are computed here once for every leaf, with their own constants and in their own precision, and the results become
the leaves of one ensemble that adds up. `-2^(-sum / (T c(psi)))` and the offset stay as the exporter wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, helper

from .edit import ML, Editor, attributes


@dataclass
class Tree:
    """One exported tree: its columns, which column of the source each of its features is, and who makes it."""

    node: NodeProto
    source: str
    columns: dict
    leaves: np.ndarray
    features: np.ndarray | None = None


class NotForest(Exception):
    """These nodes are something else; they are left alone."""


def encode(node: NodeProto, column: np.ndarray) -> np.ndarray:
    given = attributes(node)
    kinds = {"int64s": np.int64, "floats": np.float32}
    keys = next((np.array(given[f"keys_{kind}"], kinds[kind]) for kind in kinds if f"keys_{kind}" in given), None)
    kind = next((kind for kind in kinds if f"values_{kind}" in given), None)
    if keys is None or kind is None or keys.dtype != column.dtype:
        raise NotForest("a LabelEncoder of other types")
    default = given.get("default_int64", -1) if kind == "int64s" else given.get("default_float", -0.0)
    table = dict(zip(keys.tolist(), given[f"values_{kind}"], strict=True))
    return np.array([table.get(key, default) for key in column.tolist()], kinds[kind])


TYPES = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.INT64: np.int64, TensorProto.BOOL: bool}
# Each works element by element, so on a column of leaves as on a column of rows.
ELEMENTWISE: dict[str, Callable] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": lambda *given: np.maximum.reduce(np.broadcast_arrays(*given)),
    "Min": lambda *given: np.minimum.reduce(np.broadcast_arrays(*given)),
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "Log": np.log,
    "Neg": np.negative,
    "Identity": lambda given: given,
}


def leaf_values(editor: Editor, name: str, found: list[Tree], known: dict) -> np.ndarray:
    """What a value is for each leaf of the one tree behind it; a constant is an array of one."""
    if name in known:
        return known[name]
    node, constant = editor.producer.get(name), editor.constant(name)
    if constant is not None:
        if constant.size != 1 or constant.ndim > 2:
            raise NotForest(f"{name} is not one number")
        value = constant.reshape(1)
    elif node is None:
        raise NotForest(f"{name} is an input")
    elif node.op_type == "TreeEnsembleRegressor":
        found.append(read_tree(editor, node))
        value = found[-1].leaves
    elif node.op_type == "Reshape" and (shape := editor.constant(node.input[1])) is not None and shape.tolist() == [-1, 1]:
        value = leaf_values(editor, node.input[0], found, known)
    elif node.op_type == "LabelEncoder":
        value = encode(node, leaf_values(editor, node.input[0], found, known))
    elif node.op_type == "Cast" and attributes(node)["to"] in TYPES:
        value = leaf_values(editor, node.input[0], found, known).astype(TYPES[attributes(node)["to"]])
    elif node.op_type in ELEMENTWISE:
        given = [leaf_values(editor, each, found, known) for each in node.input]
        if len({array.dtype for array in given}) != 1:
            raise NotForest(f"{node.op_type} of several types")
        value = ELEMENTWISE[node.op_type](*given)
    else:
        raise NotForest(f"{node.op_type} is not known to work leaf by leaf")
    known[name] = value
    return value


def read_tree(editor: Editor, node: NodeProto) -> Tree:
    given = attributes(node)
    plain = given.get("post_transform", b"NONE") == b"NONE" and given.get("aggregate_function", b"SUM") == b"SUM"
    if not plain or any(given.get("base_values", [])) or given.get("n_targets", 1) != 1 or "nodes_values" not in given:
        raise NotForest("an ensemble with more than leaves to add up")
    if len(set(given["nodes_treeids"])) != 1:
        raise NotForest("an ensemble of several trees")
    weights = dict.fromkeys(given["nodes_nodeids"], 0.0)
    for leaf, weight in zip(given["target_nodeids"], given["target_weights"], strict=True):
        weights[leaf] += weight
    ends = [number for number, mode in zip(given["nodes_nodeids"], given["nodes_modes"], strict=True) if mode == b"LEAF"]
    tree = Tree(node, node.input[0], {**given, "ends": ends}, np.array([weights[end] for end in ends], np.float32))
    gather = editor.producer_of(node.input[0], "Gather", "ArrayFeatureExtractor")
    if gather is not None and (gather.op_type != "Gather" or attributes(gather).get("axis", 0) == 1):
        chosen = editor.constant(gather.input[1])
        if chosen is not None and (chosen >= 0).all():
            tree.source, tree.features = gather.input[0], chosen.ravel()
    return tree


def one_ensemble(trees: list[tuple[Tree, np.ndarray]], output: str) -> NodeProto:
    columns: dict[str, list] = {}

    def add(key: str, values) -> None:
        columns.setdefault(key, []).extend(values)

    for number, (tree, weights) in enumerate(trees):
        size = len(tree.columns["nodes_nodeids"])
        features = np.array(tree.columns["nodes_featureids"])
        leaf = np.array(tree.columns["nodes_modes"]) == b"LEAF"
        if tree.features is not None:
            features = np.where(leaf, 0, tree.features[np.where(leaf, 0, features)])
        add("nodes_treeids", [number] * size)
        add("nodes_featureids", features.tolist())
        for key in ("nodes_nodeids", "nodes_modes", "nodes_values", "nodes_truenodeids", "nodes_falsenodeids"):
            add(key, tree.columns[key])
        add("nodes_missing_value_tracks_true", tree.columns.get("nodes_missing_value_tracks_true") or [0] * size)
        add("target_treeids", [number] * len(weights))
        add("target_nodeids", tree.columns["ends"])
        add("target_ids", [0] * len(weights))
        add("target_weights", weights.astype(np.float32).tolist())
    if not any(columns["nodes_missing_value_tracks_true"]):
        del columns["nodes_missing_value_tracks_true"]
    kind, source = "TreeEnsembleRegressor", trees[0][0].source
    return helper.make_node(kind, [source], [output], domain=ML, n_targets=1, aggregate_function="SUM", **columns)


def fuse(editor: Editor) -> int:
    """Rewrites every such sum and says how many trees were fused."""
    fused = 0
    for total in [node for node in editor.nodes if node.op_type == "Sum"]:
        try:
            trees = []
            for name in total.input:
                found: list[Tree] = []
                weights = leaf_values(editor, name, found, {})
                if len(found) != 1:
                    raise NotForest("a term without one tree of its own")
                trees.append((found[0], weights))
            if len({tree.source for tree, _ in trees}) != 1 or len({weights.dtype for _, weights in trees}) != 1:
                raise NotForest("trees over different inputs")
        except NotForest:
            continue
        double, output = trees[0][1].dtype == np.float64, total.output[0]
        made = editor.fresh("path_lengths") if double else output
        cast = [helper.make_node("Cast", [made], [output], to=TensorProto.DOUBLE)] if double else []
        editor.replace(total, one_ensemble(trees, made), *cast)
        fused += len(trees)
    editor.sweep()
    return fused
