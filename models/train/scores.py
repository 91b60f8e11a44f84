"""Numbers about answers: accuracies, confusion, and the fits that turn scores into probabilities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar


def accuracy(truth: np.ndarray, answer: np.ndarray) -> float:
    return float(np.mean(truth == answer))


def gap(answer: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference; of numbers beyond 1 as a share of them, since float32 keeps digits, not places."""
    return float((np.abs(answer - wanted) / np.maximum(1.0, np.abs(wanted))).max())


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int) -> list[list[int]]:
    """Rows are the truth, columns the answer."""
    table = np.zeros((classes, classes), int)
    np.add.at(table, (truth.astype(int), answer.astype(int)), 1)
    return table.tolist()


def balanced_accuracy(truth: np.ndarray, answer: np.ndarray) -> float:
    """The mean of the classes' recalls, so that rare classes count as much as common ones."""
    return float(np.mean([np.mean(answer[truth == label] == label) for label in np.unique(truth)]))


def class_details(classes: list[str], truth: np.ndarray, answer: np.ndarray, test: np.ndarray) -> dict:
    """What the report says of a classifier; `truth` and `answer` are of every row, `test` are the held-out ones."""
    return {
        "labels": classes,
        "confusion": confusion(truth[test], answer[test], len(classes)),
        "balanced_accuracy": round(balanced_accuracy(truth[test], answer[test]), 4),
        "replay_accuracy": accuracy(truth, answer),
        "replay_rows": int(truth.size),
        "replay_note": "the shipped file over every row of the data set, the training rows included",
    }


def best_threshold(score: np.ndarray, anomalous: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy; midway between two scores, as float32 keeps it."""
    order = np.argsort(score)
    ranked, truth = score[order].astype(np.float64), anomalous[order]
    healthy_kept = np.cumsum(~truth) / (~truth).sum()
    faults_found = 1.0 - np.cumsum(truth) / truth.sum()
    # No cut inside a run of equal scores: it could not be made.
    gain = np.where(ranked[:-1] < ranked[1:], (healthy_kept + faults_found)[:-1], -1.0)
    cut = int(np.argmax(gain))
    return round(float(ranked[cut] + ranked[cut + 1]) / 2.0, 6)


def fit_slope(score: np.ndarray, anomalous: np.ndarray, threshold: float) -> float:
    """The slope of sigmoid(slope * (score - threshold)) with the least log loss, both classes weighing the same."""
    margin = score.astype(np.float64) - threshold
    sign = np.where(anomalous, 1.0, -1.0)
    weight = np.where(anomalous, 0.5 / anomalous.mean(), 0.5 / (1.0 - anomalous.mean()))

    def loss(log_slope: float) -> float:
        return float(np.mean(weight * np.logaddexp(0.0, -sign * np.exp(log_slope) * margin)))

    return round(float(np.exp(minimize_scalar(loss, bounds=(-6.0, 8.0), method="bounded").x)), 4)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def fit_temperature(decision: np.ndarray, truth: np.ndarray) -> float:
    """The factor that makes softmax(factor * decision) fit `truth` best; the chosen class never changes."""

    def loss(log_factor: float) -> float:
        chosen = softmax(np.exp(log_factor) * decision)[np.arange(truth.size), truth]
        return float(-np.mean(np.log(np.maximum(chosen, 1e-12))))

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 6.0), method="bounded").x))
