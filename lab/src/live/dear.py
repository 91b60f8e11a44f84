"""Makes the models of `lab live`: those of `hydraulic-valve`, with an accurate one dear enough to be the bound.

    dear.py OUT [CHUNKS]

The committed accurate model takes a tenth of a millisecond a reading, less than HTTP does: no policy could gain by
it on one machine.  Here its kernels are CHUNKS times as many (ROCKET's paper goes to 100,000), which costs CHUNKS
times as much, on the same split of the cycles and with the same kind of classifier.  OUT gets the model repository
and `held-out.csv`: the cycles that no model saw, in random order, with `held-out-labels.csv` beside them.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "train"))

import numpy as np
from sklearn.model_selection import train_test_split

import bench
import hydraulic
import rocket
import valve
from graph import INPUT, Graph
from linear_models import fit_temperature
from profiles import profile
from repository import MODELS, SEED, Trained, load_task, metadata, write_model
from scores import softmax

# Standardised features make the Gram matrix's scale the number of features; this is 1 % of it.
RIDGE = 0.01
# Kernels' answers of one chunk stay in the processor's cache; those of all chunks would be 60 MB a reading.
ROWS = 64


def chunk_nodes(graph: Graph, series: str, banks: list[rocket.Bank], number: int) -> str:
    """One chunk's features; its nodes and constants get names of their own."""
    plain = Named(graph, f"_{number}")
    return rocket.feature_nodes(plain, series, banks)


class Named:
    """A graph whose new names end in a suffix."""

    def __init__(self, graph: Graph, suffix: str) -> None:
        self.graph, self.suffix = graph, suffix

    def constant(self, name, value):
        return self.graph.constant(name + self.suffix, value)

    def node(self, kind, inputs, output, **attributes):
        return self.graph.node(kind, inputs, output + self.suffix, **attributes)


def series_of(graph: Graph, channels: str, centre: np.ndarray, inverse: np.ndarray) -> str:
    centred = graph.node("Sub", [channels, graph.constant("channel_mean", centre)], "channels_centred")
    return graph.node("Mul", [centred, graph.constant("channel_inverse", inverse)], "series")


def main() -> int:
    out, chunks = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 48
    task = load_task(valve.NAME)
    rows = hydraulic.raw_cycles()
    truth = np.array([task.classes.index(str(int(value))) for value in hydraulic.cycles()["valve_pct"]])
    # The same split as the committed models'.
    learn, test = train_test_split(np.arange(truth.size), test_size=0.3, stratify=truth, random_state=SEED)
    learn, test = np.sort(learn), np.sort(test)
    centre = valve._channels(rows[learn]).mean(axis=(0, 2))[:, None].astype(np.float32)
    inverse = (1.0 / valve._channels(rows[learn]).std(axis=(0, 2))[:, None]).astype(np.float32)

    banks = [rocket.draw(len(hydraulic.CHANNELS), SEED + 1_000 * number) for number in range(chunks)]
    # What all cycles have in common with those learnt from: all that a ridge classifier of so many features needs.
    gram = np.zeros((truth.size, learn.size))
    parts = []
    for number, bank in enumerate(banks):
        graph, channels = valve._start(task)
        last = chunk_nodes(graph, series_of(graph, channels, centre, inverse), bank, number)
        proto = graph.finish("features", {last: 2 * sum(one.bias.size for one in bank)}, {})
        features = bench.predict(proto.SerializeToString(), rows, last, ROWS)
        mean, scale = features[learn].mean(axis=0), features[learn].std(axis=0)
        scale = np.where(scale < 1e-4, 1.0, scale)
        standard = ((features - mean) / scale).astype(np.float32)
        gram += standard @ standard[learn].T
        parts.append((standard[learn], mean, scale))
    total = sum(mean.size for _, mean, _ in parts)

    def fit(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ridge regression, in its dual form, of a column of -1 and 1 for each class on some of `learn`."""
        target = np.where(truth[learn[places]][:, None] == np.arange(len(task.classes)), 1.0, -1.0)
        bias = target.mean(axis=0)
        among = gram[np.ix_(learn[places], places)] + RIDGE * total * np.eye(places.size)
        return np.linalg.solve(among, target - bias), bias

    everyone = np.arange(learn.size)
    unseen = np.empty((learn.size, len(task.classes)))
    for fold in np.array_split(everyone, 3):
        others = np.delete(everyone, fold)
        weights, bias = fit(others)
        unseen[fold] = gram[np.ix_(learn[fold], others)] @ weights + bias
    temperature = fit_temperature(unseen, truth[learn])
    dual, bias = fit(everyone)
    wanted = softmax(temperature * (gram @ dual + bias))

    graph, channels = valve._start(task)
    series = series_of(graph, channels, centre, inverse)
    logits = graph.constant("class_bias", temperature * bias)
    for number, (bank, (standard, mean, scale)) in enumerate(zip(banks, parts, strict=True)):
        named = Named(graph, f"_{number}")
        weights = temperature * (standard.T.astype(np.float64) @ dual) / scale[:, None]
        centred = named.node(
            "Sub", [chunk_nodes(graph, series, bank, number), named.constant("feature_mean", mean)], "features_centred"
        )
        share = named.node("MatMul", [centred, named.constant("feature_weights", weights)], "share")
        logits = named.node("Add", [share, logits], "logits")
    graph.node("Softmax", [logits], "probabilities", axis=1)
    columns = [f"{channel}[{hydraulic.SECONDS}]" for channel in task.fields]
    proto = graph.finish(
        "rocket", {"probabilities": len(task.classes)}, metadata(task, "rocket", hydraulic.CREDIT, columns)
    )
    shipped = bench.predict(proto.SerializeToString(deterministic=True), rows[test], "probabilities", ROWS)
    accuracy = float((shipped.argmax(axis=1) == truth[test]).mean())
    kernels = sum(one.bias.size for bank in banks for one in bank)
    inputs = rows[test][:4]
    model = Trained(
        task=task,
        name="rocket",
        description=f"ROCKET: {kernels:,} random convolution kernels and a ridge classifier, one graph from the raw cycle.",
        tier="accurate",
        type="onnx",
        proto=proto,
        output={"kind": "probabilities", "name": "probabilities"},
        parity_inputs=inputs,
        parity_outputs=bench.predict(proto.SerializeToString(), inputs, "probabilities", ROWS),
        parity_error=float(np.quantile(np.abs(shipped - wanted[test]).max(axis=1), 0.9)),
        accuracy=accuracy,
        samples=test.size,
        evaluation=valve.EVALUATION,
        data=hydraulic.CREDIT,
        bench_rows=rows[test],
        profile=profile(task.table["fields"], rows[learn]),
    )
    folder = out / valve.NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(MODELS / valve.NAME / "task.toml", folder)
    shutil.copytree(MODELS / valve.NAME / "logreg", folder / "logreg")
    write_model([model], out)
    hold_out(out, test)
    print(f"{kernels:,} kernels: accuracy {accuracy:.4f} on {test.size} cycles, parity {model.parity_error:.1e}, in {out}")
    return 0


def hold_out(out: Path, test: np.ndarray) -> None:
    """The raw rows of the cycles that no model saw, in random order: each load then meets a like mixture."""
    order = np.random.default_rng(SEED).permutation(test)
    with gzip.open(hydraulic.folder() / "hydraulic_1hz.csv.gz", "rt", newline="") as file:
        head, *lines = file.read().splitlines()
    seconds = hydraulic.SECONDS
    with open(out / "held-out.csv", "w") as file:
        file.write(head + "\n")
        for cycle in order:
            file.write("\n".join(lines[cycle * seconds : (cycle + 1) * seconds]) + "\n")
    labels = hydraulic.cycles()
    with open(out / "held-out-labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["cycle", "valve_pct"])
        rows.writerows([int(labels["cycle"][cycle]), int(labels["valve_pct"][cycle])] for cycle in order)


if __name__ == "__main__":
    sys.exit(main())
