"""Trains `pump-anomaly`: isolation forest, autoencoder and local outlier factor on generated readings.

The training rows are unlabelled, as a plant's would be: one in a hundred is a fault.  Thresholds and
slopes are fitted on a labelled validation set, accuracies are measured on a test set; the three sets
come from different seeds.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import bench
import profiles
import pump
import pump_graphs
import scores
from repository import SEED, Task, Trained, load_task, metadata

NAME = "pump-anomaly"
DATA = "made by models/train/pump.py (a generator; no measured data)"
TRAINING_ROWS, VALIDATION_ROWS, TEST_ROWS = 12_000, 6_000, 8_000
# The local outlier factor is dearer than the autoencoder and finds no more, so it has no tier.
TIERS = {"isolation_forest": "fast", "autoencoder": "accurate"}
# How many of the training rows, from the first, a model sees.
SEEN = {"lof": 4_000}
FURTHER_OUTPUTS = {"autoencoder": {"contributions": "contributions"}}
# The two readings that the README promises an answer for: healthy, and plainly broken.
EXAMPLES = np.array(
    [[45.3, 2.8, 6.5, 152.0, 87.5, 0.75, 0.0], [78.5, 12.4, 4.2, 98.0, 125.0, 0.95, 0.0]], np.float32
)


def train(say) -> list[Trained]:
    task = load_task(NAME)
    if tuple(task.fields) != pump.FIELDS:
        raise SystemExit(f"{NAME}: task.toml and pump.py do not name the same fields in the same order")
    learn = pump.generate(TRAINING_ROWS, 0.01, SEED).rows
    validation = pump.generate(VALIDATION_ROWS, 0.3, SEED + 1)
    test = test_readings()
    result = []
    for build in (_isolation_forest, _autoencoder, _lof):
        model = _judge(task, *build(task, learn), validation, test)
        model.profile = profiles.profile(task.table["fields"], learn[: SEEN.get(model.name, TRAINING_ROWS)])
        say(f"{NAME}/{model.name}: balanced accuracy {model.accuracy:.4f}")
        result.append(model)
    return result


def missing() -> str | None:
    return None


def test_readings() -> pump.Readings:
    return pump.generate(TEST_ROWS, 0.3, SEED + 2)


def _isolation_forest(task: Task, learn: np.ndarray):
    forest = IsolationForest(n_estimators=8, max_samples=512, random_state=SEED).fit(learn)
    proto = pump_graphs.isolation_forest(forest, metadata(task, "isolation_forest", DATA))
    description = "Isolation forest of 8 trees, fused into one tree ensemble: cheap, sees single values that stick out."
    return "isolation_forest", description, proto, lambda rows: -forest.score_samples(rows)


def _lof(task: Task, learn: np.ndarray):
    # More points find more and cost more, in proportion: from 4,000 on the gain is small.
    points = learn[: SEEN["lof"]]
    scaler = StandardScaler().fit(points.astype(np.float64))
    lof = LocalOutlierFactor(n_neighbors=10, novelty=True).fit(scaler.transform(points.astype(np.float64)))
    proto = pump_graphs.lof(scaler, lof, metadata(task, "lof", DATA))
    description = "Local outlier factor against 4,000 stored readings: dear, finds readings that fit no known neighbourhood."
    return "lof", description, proto, lambda rows: np.log(-lof.score_samples(scaler.transform(rows.astype(np.float64))))


def _autoencoder(task: Task, learn: np.ndarray):
    scaler = StandardScaler().fit(learn.astype(np.float64))
    scaled = scaler.transform(learn.astype(np.float64))
    # Ever smaller steps; no early end, so that the number of passes is the same on every machine.
    network = MLPRegressor(
        hidden_layer_sizes=(64, 6, 64), n_iter_no_change=1_000, warm_start=True, random_state=SEED
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for step, passes in ((2e-3, 100), (5e-4, 30), (1e-4, 20)):
            network.set_params(learning_rate_init=step, max_iter=passes).fit(scaled, scaled)
    # How far the network is off on ordinary readings, field by field; not the worst, as the rows hold faults too.
    usual = np.maximum(np.quantile(np.abs(scaled - network.predict(scaled)), 0.9, axis=0), 0.02)

    def original(rows: np.ndarray) -> np.ndarray:
        wanted = scaler.transform(rows.astype(np.float64))
        return np.log1p(np.mean(((wanted - network.predict(wanted)) / usual) ** 2, axis=1))

    proto = pump_graphs.autoencoder(scaler, network, usual, metadata(task, "autoencoder", DATA))
    description = "Autoencoder 7-64-6-64-7: rebuilds the reading from six numbers and weighs what it cannot rebuild."
    return "autoencoder", description, proto, original


def _judge(task, name, description, proto, original, validation: pump.Readings, test: pump.Readings) -> Trained:
    content = proto.SerializeToString(deterministic=True)

    def score(rows: np.ndarray) -> np.ndarray:
        return bench.predict(content, rows, "score")[:, 0]

    threshold = scores.best_threshold(score(validation.rows), validation.anomalous)
    slope = scores.fit_slope(score(validation.rows), validation.anomalous, threshold)
    answer = score(test.rows) > threshold
    inputs = np.concatenate([EXAMPLES, test.rows[:14]])
    found = {
        kind: round(float(answer[test.fault == number].mean()), 4) for number, kind in enumerate(pump.FAULTS)
    }
    return Trained(
        task=task,
        name=name,
        description=description,
        tier=TIERS.get(name),
        type="onnx" if name == "autoencoder" else "sklearn",
        proto=proto,
        output={"kind": "score", "name": "score", "threshold": threshold, "slope": slope, **FURTHER_OUTPUTS.get(name, {})},
        parity_inputs=inputs,
        parity_outputs=original(inputs)[:, None],
        parity_error=float(np.abs(score(test.rows) - original(test.rows)).max()),
        accuracy=scores.balanced_accuracy(test.anomalous, answer),
        samples=len(test.rows),
        evaluation="balanced accuracy on generated readings of another seed, 3 in 10 drawn with a fault",
        data=DATA,
        bench_rows=test.rows,
        measure="balanced accuracy",
        details={
            "labels": ["normal", "anomaly"],
            "confusion": scores.confusion(test.anomalous, answer, 2),
            "plain_accuracy": round(scores.accuracy(test.anomalous, answer), 4),
            "false_alarms": round(float(answer[~test.anomalous].mean()), 4),
            "faults_found": found,
        },
    )
