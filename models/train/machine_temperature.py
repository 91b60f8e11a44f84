"""Trains `machine-temperature`: the next value of a machine's temperature from the last 48, five minutes apart.

The models forecast the change against the last value, so that a level they never saw does not throw them.
Trained on the first 70 % of the series; the rest, with the machine's failures in it, is the test.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import HuberRegressor

import bench
import hydraulic
import profiles
import scores
from graph import Graph, linear
from repository import SEED, WINDOWS, Task, Trained, load_task, metadata
from trees import boosted, tree_sum

NAME = "machine-temperature"
FILE = "machine_temperature_system_failure.csv"
CREDIT = "machine temperature of the Numenta Anomaly Benchmark, MIT, Ahmad, Lavin, Purdy, Agha, doi 10.1016/j.neucom.2017.04.070"
LEARN_SHARE = 0.7
INPUT = WINDOWS["forecast"]


def path() -> Path:
    return hydraulic.folder().parent / "nab" / FILE


def missing() -> str | None:
    """A line that says what is missing, or nothing."""
    return None if path().is_file() else f"no temperatures: {FILE} not found (set SENSOR_DATA_DIR)"


def values() -> np.ndarray:
    with open(path(), newline="") as file:
        rows = list(csv.DictReader(file))
    # The one hour that the clocks repeat in autumn is the only gap in the times; the values run on.
    return np.array([float(row["value"]) for row in rows], np.float32)


def split(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is learnt from, and what comes after it."""
    cut = round(LEARN_SHARE * series.size)
    return series[:cut], series[cut:]


def windows(series: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Every window of `width` values, and the value after it."""
    every = sliding_window_view(series, width + 1)
    return np.ascontiguousarray(every[:, :-1]), np.ascontiguousarray(every[:, -1])


def train(say) -> list[Trained]:
    task = load_task(NAME)
    learn, test = split(values())
    result = []
    for build in (_linear, _boosting):
        model = _judge(task, build, learn, test)
        model.profile = profiles.series(learn)
        say(f"{NAME}/{model.name}: mean error {model.loss:.4f}, naive {model.details['baseline_loss']:.4f}")
        result.append(model)
    return result


def _changes(rows: np.ndarray) -> np.ndarray:
    """Each earlier value against the last one; in float32, as in the graph."""
    return rows[:, :-1] - rows[:, -1:]


def _start(width: int) -> tuple[Graph, str, str]:
    graph = Graph(width, source=INPUT)
    sizes = graph.constant("sizes", np.array([width - 1, 1], np.int64))
    earlier, last = graph.nodes("Split", [INPUT, sizes], ["earlier", "last"], axis=1)
    return graph, graph.node("Sub", [earlier, last], "changes"), last


def _linear(rows: np.ndarray, change: np.ndarray):
    # Huber's loss, as the failures' jumps would pull a least-squares fit away from everything else.
    model = HuberRegressor(alpha=0.01, fit_intercept=False, max_iter=500).fit(_changes(rows).astype(np.float64), change)
    graph, changes, last = _start(rows.shape[1])
    step = linear(graph, changes, model.coef_[None], np.zeros(1), "step")
    graph.node("Add", [last, step], "next")
    description = f"Linear autoregression over {rows.shape[1]} values: one product of two vectors."
    return "linear_autoregression", "fast", description, graph, lambda some: model.predict(_changes(some).astype(np.float64))


def _boosting(rows: np.ndarray, change: np.ndarray):
    # The absolute error for the same reason.
    model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=100, max_depth=4, random_state=SEED)
    model.fit(_changes(rows), change)
    trees, base = boosted(model)
    graph, changes, last = _start(rows.shape[1])
    graph.node("Add", [last, tree_sum(graph, changes, trees, "step", (base,))], "next")
    description = f"Histogram gradient boosting on the changes against the last value, {len(trees)} trees in one node."
    return "hist_gradient_boosting", "accurate", description, graph, lambda some: model.predict(_changes(some))


def iterated(content: bytes, rows: np.ndarray, steps: int) -> np.ndarray:
    """[N, steps]: each forecast is the newest value of the next window, as the service does it."""
    found, rows = [], rows.astype(np.float32)
    for _ in range(steps):
        found.append(bench.predict(content, rows, "next"))
        rows = np.concatenate([rows[:, 1:], found[-1]], axis=1)
    return np.concatenate(found, axis=1)


def _ahead(content: bytes, series: np.ndarray, width: int, steps: int) -> tuple[float, float]:
    """Mean absolute error at the last of so many steps, and that of the last known value."""
    every = sliding_window_view(series, width + steps)[::8]
    found = iterated(content, every[:, :width], steps)[:, -1]
    truth = every[:, -1]
    return float(np.abs(found - truth).mean()), float(np.abs(every[:, width - 1] - truth).mean())


def made_up_windows(width: int, count: int) -> np.ndarray:
    """Temperatures that nobody measured, for the parity file: slow waves with noise, level and still ones too."""
    rng = np.random.default_rng(SEED)
    time = np.arange(width)
    level, swing, period = rng.uniform(60, 100, (count, 1)), rng.uniform(0, 6, (count, 1)), rng.uniform(20, 200, (count, 1))
    rows = level + swing * np.sin(time / period * 2 * np.pi + level) + rng.normal(0, 0.8, (count, width))
    rows[0], rows[1] = 90.0, np.linspace(100.0, 40.0, width)
    return rows.round(3).astype(np.float32)


def _judge(task: Task, build, learn: np.ndarray, test: np.ndarray) -> Trained:
    width = task.width
    rows, truth = windows(learn, width)
    name, tier, description, graph, original = build(rows, truth.astype(np.float64) - rows[:, -1])
    proto = graph.finish(name, {"next": 1}, metadata(task, name, CREDIT, [f"{INPUT}[{width}]"]))
    content = proto.SerializeToString(deterministic=True)
    rows, truth = windows(test, width)
    shipped = bench.predict(content, rows, "next")[:, 0].astype(np.float64)
    error, naive = np.abs(shipped - truth), np.abs(rows[:, -1].astype(np.float64) - truth)
    steps = task.table["forecast"]["default_steps"]
    far, far_naive = _ahead(content, test, width, steps)
    inputs = made_up_windows(width, 16)
    return Trained(
        task=task,
        name=name,
        description=description,
        tier=tier,
        type="sklearn",
        proto=proto,
        output={"kind": "next", "name": "next"},
        parity_inputs=inputs,
        parity_outputs=(inputs[:, -1] + original(inputs))[:, None],
        parity_error=scores.gap(shipped, rows[:, -1] + original(rows)),
        accuracy=float(np.mean(error < np.median(naive))),
        loss=float(error.mean()),
        samples=truth.size,
        evaluation="share of one-step errors below the median error of the naive forecast, which repeats the last value and "
        "so has 0.5; over the last 30 % of the series, none of it trained on; loss is the mean absolute error in the series' "
        f"unit, of the naive forecast {naive.mean():.4f}",
        data=CREDIT,
        bench_rows=rows,
        measure="errors below the naive median",
        details={
            "baseline_loss": float(naive.mean()),
            "ahead_loss": far,
            "ahead_baseline_loss": far_naive,
            "notes": [
                f"mean absolute error of one step {error.mean():.4f}; of the naive forecast {naive.mean():.4f}",
                f"mean absolute error {steps} steps ahead {far:.4f}; of the naive forecast {far_naive:.4f}",
            ],
        },
    )
