"""Trains `hydraulic-valve`: the condition of a valve from one raw load cycle, 17 channels of 60 s.

Shipped are the models that saw a stratified random 70 % of the cycles; `accuracy` is that of the very
same files on the other 30 %.  Neighbouring cycles resemble each other, so this is the friendly number:
the contiguous folds, in the regimes, say what to expect of a stretch of time nobody has seen.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

import bench
import hydraulic
import linear_models
import profiles
import rocket
import scores
from graph import INPUT, Graph
from repository import SEED, Task, Trained, load_task, metadata

NAME = "hydraulic-valve"
missing = hydraulic.missing
EVALUATION = "the 30 % of all 2205 cycles that a stratified random split, seed 7, kept from training"


def train(say) -> list[Trained]:
    task = load_task(NAME)
    if tuple(task.fields) != hydraulic.CHANNELS:
        raise SystemExit(f"{NAME}: task.toml and hydraulic.py do not name the same channels in the same order")
    rows = hydraulic.raw_cycles()
    truth = np.array([task.classes.index(str(int(value))) for value in hydraulic.cycles()["valve_pct"]])
    learn, test = train_test_split(np.arange(truth.size), test_size=0.3, stratify=truth, random_state=SEED)
    learn, test = np.sort(learn), np.sort(test)
    result = []
    for build in (_logreg, _rocket):
        model = build(task, rows, truth, learn, test)
        model.profile = profiles.profile(task.table["fields"], rows[learn])
        say(f"{NAME}/{model.name}: accuracy {model.accuracy:.4f} {model.regimes}")
        result.append(model)
    return result


def _channels(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float64).reshape(len(rows), len(hydraulic.CHANNELS), hydraulic.SECONDS)


def _moments(rows: np.ndarray) -> np.ndarray:
    channels = _channels(rows)
    return np.concatenate([channels.mean(axis=2), channels.std(axis=2)], axis=1)


def _start(task: Task) -> tuple[Graph, str]:
    graph = Graph(task.width)
    shape = graph.constant("shape", np.array([-1, len(hydraulic.CHANNELS), hydraulic.SECONDS], np.int64))
    return graph, graph.node("Reshape", [INPUT, shape], "channels")


def _logreg(task: Task, rows, truth, learn, test) -> Trained:
    features = _moments(rows)
    model = linear_models.logistic(features[learn], truth[learn])
    graph, channels = _start(task)
    mean = graph.node("ReduceMean", [channels], "mean", axes=[2], keepdims=1)
    gap = graph.node("Sub", [channels, mean], "gap")
    squared = graph.node("Mul", [gap, gap], "squared")
    variance = graph.node("ReduceMean", [squared], "variance", axes=[2], keepdims=1)
    deviation = graph.node("Sqrt", [variance], "deviation")
    both = graph.node("Concat", [mean, deviation], "both", axis=1)
    model.nodes(graph, graph.node("Flatten", [both], "moments", axis=1))
    description = "Logistic regression on the mean and the standard deviation of each channel, taken inside the graph."
    return _judge(
        task, "logreg", "fast", description, graph, rows, truth, test,
        lambda some: model.probabilities(_moments(some)), features, linear_models.logistic,
    )  # fmt: skip


def _rocket(task: Task, rows, truth, learn, test) -> Trained:
    # The scale of each channel is taken from the training cycles; it holds no labels.
    centre = _channels(rows[learn]).mean(axis=(0, 2))[:, None]
    spread = _channels(rows[learn]).std(axis=(0, 2))[:, None]
    centre, inverse = centre.astype(np.float32), (1.0 / spread).astype(np.float32)
    banks = rocket.draw(len(hydraulic.CHANNELS), SEED)

    def transform(some: np.ndarray) -> np.ndarray:
        return rocket.features((_channels(some) - centre) * inverse, banks)

    features = transform(rows)
    model = linear_models.ridge(features[learn], truth[learn])
    graph, channels = _start(task)
    centred = graph.node("Sub", [channels, graph.constant("channel_mean", centre)], "channels_centred")
    series = graph.node("Mul", [centred, graph.constant("channel_inverse", inverse)], "series")
    model.nodes(graph, rocket.feature_nodes(graph, series, banks))
    kernels = sum(bank.bias.size for bank in banks)
    description = f"ROCKET: {kernels:,} random convolution kernels and a ridge classifier, one graph from the raw cycle."
    return _judge(
        task, "rocket", "accurate", description, graph, rows, truth, test,
        lambda some: model.probabilities(transform(some)), features, linear_models.ridge,
    )  # fmt: skip


def _folds(folds, features: np.ndarray, truth: np.ndarray, fit) -> float:
    right = np.zeros(truth.size, bool)
    for learn, test in folds.split(features, truth):
        right[test] = fit(features[learn], truth[learn]).probabilities(features[test]).argmax(axis=1) == truth[test]
    return float(right.mean())


def made_up_cycles(rows: np.ndarray, count: int) -> np.ndarray:
    """Cycles that nobody measured: smooth noise around the channels' means, for the parity files."""
    rng = np.random.default_rng(SEED)
    channels = _channels(rows)
    level = channels.mean(axis=(0, 2))[:, None] + channels.mean(axis=2).std(axis=0)[:, None] * rng.normal(
        size=(count, channels.shape[1], 1)
    )
    steps = rng.normal(size=(count, channels.shape[1], hydraulic.SECONDS + 8))
    smooth = np.stack([steps[:, :, at : at + hydraulic.SECONDS] for at in range(9)]).mean(axis=0) * 3.0
    cycles = level + channels.std(axis=2).mean(axis=0)[:, None] * smooth
    return np.maximum(cycles, 0.0).round(3).astype(np.float32).reshape(count, -1)


def _judge(task, name, tier, description, graph, rows, truth, test, original, features, fit) -> Trained:
    columns = [f"{channel}[{hydraulic.SECONDS}]" for channel in task.fields]
    proto = graph.finish(name, {"probabilities": len(task.classes)}, metadata(task, name, hydraulic.CREDIT, columns))
    shipped = bench.predict(proto.SerializeToString(deterministic=True), rows, "probabilities")
    answer = shipped.argmax(axis=1)
    wanted = original(rows)
    gap = np.abs(shipped - wanted).max(axis=1)
    inputs = made_up_cycles(rows, 4)
    regimes = {
        "random 3-fold": _folds(StratifiedKFold(3, shuffle=True, random_state=SEED), features, truth, fit),
        "contiguous 3-fold": _folds(KFold(3), features, truth, fit),
    }
    return Trained(
        task=task,
        name=name,
        description=description,
        tier=tier,
        type="sklearn" if name == "logreg" else "onnx",
        proto=proto,
        output={"kind": "probabilities", "name": "probabilities"},
        parity_inputs=inputs,
        parity_outputs=original(inputs),
        # A kernel's answer within rounding of 0 may count as positive on one side only; a few cycles in a
        # hundred hold such a value, so the middle is the honest measure of the graph.
        parity_error=float(np.quantile(gap, 0.9)),
        accuracy=scores.accuracy(truth[test], answer[test]),
        samples=test.size,
        evaluation=EVALUATION,
        data=hydraulic.CREDIT,
        bench_rows=rows[test],
        regimes=regimes,
        details={
            **scores.class_details(task.classes, truth, answer, test),
            "parity_rows_above_1e-5": int((gap > 1e-5).sum()),
            "parity_worst": float(gap.max()),
            "parity_class_changed": int((answer != wanted.argmax(axis=1)).sum()),
        },
    )
