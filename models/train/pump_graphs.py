"""The three detectors of `pump-anomaly` as ONNX graphs; each ends in `score` [N, 1], higher = stranger."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from graph import INPUT, Graph, linear
from trees import Tree, tree_sum


def average_path(samples: np.ndarray) -> np.ndarray:
    """The mean depth of an unsuccessful search in a binary tree of so many samples: c(n) of the paper."""
    samples = np.asarray(samples, np.float64)
    many = np.maximum(samples, 3.0)
    path = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, path))


def isolation_forest(forest: IsolationForest, metadata: dict[str, str]) -> onnx.ModelProto:
    """score = 2^(-mean path / c(sample)), the negative of scikit-learn's `score_samples`; two nodes.

    Every leaf's weight is its share of the exponent, so a sum over the trees and one `Exp` do it all.
    """
    scale = -np.log(2.0) / (len(forest.estimators_) * float(average_path(forest.max_samples_)))
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        depth = np.zeros(tree.node_count)
        # A parent's number is below its children's, so one pass in order is enough.
        for node in range(tree.node_count):
            if tree.children_left[node] >= 0:
                depth[tree.children_left[node]] = depth[tree.children_right[node]] = depth[node] + 1
        value = scale * (depth + average_path(tree.n_node_samples))
        trees.append(Tree(tree.children_left, tree.children_right, tree.feature, tree.threshold, value))
    graph = Graph(forest.n_features_in_)
    exponent = tree_sum(graph, INPUT, trees, "exponent")
    graph.node("Exp", [exponent], "score")
    return graph.finish("isolation_forest", {"score": 1}, metadata)


def _scaled(graph: Graph, scaler: StandardScaler, source: str = INPUT) -> str:
    centred = graph.node("Sub", [source, graph.constant("mean", scaler.mean_)], "centred")
    return graph.node("Mul", [centred, graph.constant("inverse_scale", 1.0 / scaler.scale_)], "scaled")


def lof(scaler: StandardScaler, model: LocalOutlierFactor, metadata: dict[str, str]) -> onnx.ModelProto:
    """score = log(local outlier factor) of a new reading against the stored ones.

    `CDist` multiplies matrices and so loses digits for near points: it only picks the neighbours, and
    their distances are taken again by difference.
    """
    neighbours = model.n_neighbors_
    graph = Graph(model.n_features_in_)
    scaled = _scaled(graph, scaler)
    points = graph.constant("points", model._fit_X)
    far = graph.node("CDist", [scaled, points], "far", domain="com.microsoft", metric="sqeuclidean")
    count = graph.constant("count", np.array([neighbours], np.int64))
    _, nearest = graph.nodes("TopK", [far, count], ["nearest_far", "nearest"], axis=1, largest=0, sorted=0)
    # [N, k, 7] minus [N, 1, 7]
    there = graph.node("Gather", [points, nearest], "there")
    axis = graph.constant("axis", np.array([1], np.int64))
    here = graph.node("Unsqueeze", [scaled, axis], "here")
    gap = graph.node("Sub", [there, here], "gap")
    distance = graph.node("ReduceL2", [gap], "distance", axes=[2], keepdims=0)
    # A neighbour's own k-distance; it is 0 only among equal rows, and then scikit-learn adds the same 1e-10.
    own = graph.constant("k_distance", model._distances_fit_X_[:, neighbours - 1])
    reach = graph.node("Max", [distance, graph.node("Gather", [own, nearest], "own")], "reach")
    mean_reach = graph.node("ReduceMean", [reach], "mean_reach", axes=[1], keepdims=1)
    padded = graph.node("Add", [mean_reach, graph.constant("tiny", np.array([1e-10]))], "padded")
    density = graph.constant("density", model._lrd)
    around = graph.node("Gather", [density, nearest], "around")
    mean_density = graph.node("ReduceMean", [around], "mean_density", axes=[1], keepdims=1)
    factor = graph.node("Mul", [mean_density, padded], "factor")
    graph.node("Log", [factor], "score")
    return graph.finish("lof", {"score": 1}, metadata)


def autoencoder(
    scaler: StandardScaler, network: MLPRegressor, usual: np.ndarray, metadata: dict[str, str]
) -> onnx.ModelProto:
    """`reconstruction` [N, 7] in the fields' own units, and score = log(1 + mean squared residual).

    `contributions` [N, 7] is each field's share of the sum of squared residuals, from which the score comes:
    not negative, and 1 in sum.
    `usual` is the residual's size on ordinary readings, in scaled units.  scikit-learn's exporter would
    give `reconstruction` the shape [7 N, 1], which no batcher can split.
    """
    # In float64: a residual is the difference of two nearly equal numbers, and float32 would leave it too
    # few digits.  At this size it costs a few tenths of a microsecond.
    graph = Graph(network.n_features_in_, np.float64)
    flow = _scaled(graph, scaler, graph.node("Cast", [INPUT], "precise", to=TensorProto.DOUBLE))
    last = len(network.coefs_) - 1
    for layer, (weights, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        flow = linear(graph, flow, weights.T, bias, f"layer{layer}")
        if layer < last:
            flow = graph.node("Relu", [flow], f"relu{layer}")
    residual = graph.node("Sub", ["scaled", flow], "residual")
    weighed = graph.node("Mul", [residual, graph.constant("inverse_usual", 1.0 / usual)], "weighed")
    squared = graph.node("Mul", [weighed, weighed], "squared")
    error = graph.node("ReduceMean", [squared], "error", axes=[1], keepdims=1)
    above = graph.node("Add", [error, graph.constant("one", np.array([1.0]))], "above")
    graph.node("Cast", [graph.node("Log", [above], "precise_score")], "score", to=TensorProto.FLOAT)
    # A reading that is rebuilt to the last digit has nothing to share out: all zeros, not 0 / 0.
    total = graph.node("ReduceSum", [squared, graph.constant("fields", np.array([1], np.int64))], "total", keepdims=1)
    above_zero = graph.node("Max", [total, graph.constant("tiny", np.array([1e-30]))], "above_zero")
    shares = graph.node("Div", [squared, above_zero], "precise_contributions")
    graph.node("Cast", [shares], "contributions", to=TensorProto.FLOAT)
    units = graph.node("Mul", [flow, graph.constant("scale", scaler.scale_)], "units")
    rebuilt = graph.node("Add", [units, "mean"], "precise_reconstruction")
    graph.node("Cast", [rebuilt], "reconstruction", to=TensorProto.FLOAT)
    columns = network.n_outputs_
    return graph.finish("autoencoder", {"score": 1, "reconstruction": columns, "contributions": columns}, metadata)
