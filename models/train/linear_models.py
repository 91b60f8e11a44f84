"""Linear classifiers on standardised features, with their ONNX tails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import KFold

from graph import Graph, linear
from scores import fit_temperature, softmax


@dataclass(frozen=True)
class Linear:
    """softmax(((features - mean) / scale) @ weights.T + bias)"""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        return softmax(((features - self.mean) / self.scale) @ self.weights.T + self.bias)

    def nodes(self, graph: Graph, features: str) -> str:
        centred = graph.node("Sub", [features, graph.constant("feature_mean", self.mean)], "centred")
        # The scale goes into the weights; the mean may not go into the bias, where it would cost digits.
        logits = linear(graph, centred, self.weights / self.scale, self.bias, "logits")
        return graph.node("Softmax", [logits], "probabilities", axis=1)


def _standard(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # A feature that is as good as constant would only amplify rounding.
    return mean, np.where(scale < 1e-4, 1.0, scale)


def logistic(features: np.ndarray, truth: np.ndarray) -> Linear:
    """Multinomial logistic regression; `truth` are class numbers from 0."""
    mean, scale = _standard(features)
    model = LogisticRegression(max_iter=3_000, tol=1e-6).fit((features - mean) / scale, truth)
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        # scikit-learn keeps one row for two classes; against a row of zeros softmax is the same sigmoid.
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    return Linear(mean, scale, weights, bias)


def ridge(features: np.ndarray, truth: np.ndarray) -> Linear:
    """Ridge classifier; `features` must be in order of time.

    Its margins become probabilities by one temperature, fitted on contiguous folds of the training rows.
    On random folds every row has near neighbours among the others, hardly an answer is wrong, and the
    temperature would make every answer certain.
    """
    mean, scale = _standard(features)
    standard = (features - mean) / scale
    alphas = np.logspace(-1, 4, 6)
    unseen = np.empty((truth.size, truth.max() + 1))
    for learn, test in KFold(3).split(standard):
        unseen[test] = RidgeClassifierCV(alphas=alphas).fit(standard[learn], truth[learn]).decision_function(standard[test])
    temperature = fit_temperature(unseen, truth)
    model = RidgeClassifierCV(alphas=alphas).fit(standard, truth)
    return Linear(mean, scale, temperature * model.coef_, temperature * model.intercept_)
