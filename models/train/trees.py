"""Whole tree ensembles as one `TreeEnsembleRegressor` node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graph import Graph


@dataclass(frozen=True)
class Tree:
    """One binary tree in arrays; a node without children (`left` < 0) is a leaf and carries `value`."""

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray


def round_down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64 threshold.

    A split asks `x <= threshold` of a float32 x, so this, and no other rounding, sends every
    float32 the same way as the float64 threshold does.
    """
    rounded = threshold.astype(np.float32)
    above = rounded.astype(np.float64) > threshold
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def boosted(model) -> tuple[list[Tree], float]:
    """The trees of one of scikit-learn's histogram boosters with one output, and the value that they start from."""
    trees = []
    for (predictor,) in model._predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        left = np.where(leaf, -1, nodes["left"].astype(np.int64))
        right = np.where(leaf, -1, nodes["right"].astype(np.int64))
        trees.append(Tree(left, right, nodes["feature_idx"], nodes["num_threshold"].astype(np.float64), nodes["value"]))
    return trees, float(model._baseline_prediction.ravel()[0])


def tree_sum(
    graph: Graph, source: str, trees: Sequence[Tree], output: str, base: Sequence[float] = (0.0,), target: int = 0
) -> str:
    """Adds up the leaves that a row reaches, onto column `target` of a row of `base` values."""
    columns: dict[str, list] = {key: [] for key in ("tree", "node", "feature", "mode", "threshold", "yes", "no")}
    leaves: dict[str, list] = {key: [] for key in ("tree", "node", "weight")}
    for number, tree in enumerate(trees):
        leaf = tree.left < 0
        size = leaf.size
        columns["tree"] += [number] * size
        columns["node"] += range(size)
        columns["feature"] += np.where(leaf, 0, tree.feature).tolist()
        columns["mode"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        columns["threshold"] += np.where(leaf, np.float32(0), round_down(tree.threshold)).tolist()
        columns["yes"] += np.where(leaf, 0, tree.left).tolist()
        columns["no"] += np.where(leaf, 0, tree.right).tolist()
        leaves["tree"] += [number] * int(leaf.sum())
        leaves["node"] += np.flatnonzero(leaf).tolist()
        leaves["weight"] += tree.value[leaf].astype(np.float32).tolist()
    return graph.node(
        "TreeEnsembleRegressor",
        [source],
        output,
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        n_targets=len(base),
        base_values=[float(value) for value in base],
        nodes_treeids=columns["tree"],
        nodes_nodeids=columns["node"],
        nodes_featureids=columns["feature"],
        nodes_modes=columns["mode"],
        nodes_values=columns["threshold"],
        nodes_truenodeids=columns["yes"],
        nodes_falsenodeids=columns["no"],
        target_treeids=leaves["tree"],
        target_nodeids=leaves["node"],
        target_ids=[target] * len(leaves["tree"]),
        target_weights=leaves["weight"],
    )
