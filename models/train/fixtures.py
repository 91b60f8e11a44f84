"""Writes the ONNX files that the service's tests read: models as other people's tools export them.

    python3 -m venv VENV && VENV/bin/pip install -r models/train/requirements-fixtures.txt
    VENV/bin/python models/train/fixtures.py --out worker-native/tests/fixtures

Beside each `<name>.onnx` lies a `<name>.json`: `inputs`, and `outputs` as the original library answers
to them; for a classifier the columns are in the order of `classes`.  Triton's examples have none: their
answers are a sum and a difference.  All data is made from one seed.
The exports are stock ones, with all that makes them slow or awkward: the tests want them so.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

SEED = 7
ROWS = 32
TARGET_OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8


class Data:
    """Rows of 7 features, of which the first four also serve alone; classes and a quantity that depend on them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(SEED)
        centres = rng.normal(0.0, 2.0, (3, 7))
        self.classes = rng.integers(3, size=632)
        self.rows = (centres[self.classes] + rng.normal(size=(632, 7))).round(3).astype(np.float32)
        self.quantity = (self.rows[:, 0] * self.rows[:, 1] + 2.0 * np.sin(self.rows[:, 2])).astype(np.float64)
        # The last rows are not trained on; an outlier is among them.
        self.test = self.rows[-ROWS:].copy()
        self.test[0] += 9.0
        self.rows, self.classes, self.quantity = self.rows[:-ROWS], self.classes[:-ROWS], self.quantity[:-ROWS]


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the ONNX files that the service's tests read.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    data = Data()
    for write in (_classifiers, _regressors, _detectors, _autoencoder, _arithmetic, _looping):
        write(out, data)


def _classifiers(out: Path, data: Data) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.rows[:, :4], data.classes)
    # Without an option the exporter appends a ZipMap: a sequence of maps from class to probability.
    _sklearn(out, "zipmap_logreg", pipeline, data.rows[:1, :4], data.test[:, :4], "predict_proba", zipmap=True)
    named = np.array(["blue", "green", "red"])[data.classes]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.rows[:, :4], named)
    _sklearn(out, "zipmap_logreg_names", pipeline, data.rows[:1, :4], data.test[:, :4], "predict_proba", zipmap=True)
    small = {"random_state": SEED}
    two = (data.classes > 0).astype(int)
    for name, model, truth in (
        ("rf_classifier", RandomForestClassifier(20, max_depth=6, **small), data.classes),
        ("gbc", GradientBoostingClassifier(n_estimators=20, **small), data.classes),
        ("gbc_binary", GradientBoostingClassifier(n_estimators=20, **small), two),
        ("hgb", HistGradientBoostingClassifier(max_iter=20, **small), data.classes),
        ("hgb_binary", HistGradientBoostingClassifier(max_iter=20, **small), two),
    ):
        _sklearn(out, name, model.fit(data.rows, truth), data.rows[:1], data.test, "predict_proba", zipmap=False)


def _regressors(out: Path, data: Data) -> None:
    for name, model in (
        ("decision_tree_regressor", DecisionTreeRegressor(max_depth=8, random_state=SEED)),
        ("extra_trees_regressor", ExtraTreesRegressor(20, max_depth=6, random_state=SEED)),
    ):
        _sklearn(out, name, model.fit(data.rows, data.quantity), data.rows[:1], data.test, "predict")


def _detectors(out: Path, data: Data) -> None:
    forest = IsolationForest(n_estimators=20, max_samples=128, random_state=SEED).fit(data.rows)
    _sklearn(out, "stock_iforest", forest, data.rows[:1], data.test, "decision_function")
    lof = LocalOutlierFactor(n_neighbors=10, novelty=True).fit(data.rows[:200])
    _sklearn(out, "stock_lof", lof, data.rows[:1], data.test, "decision_function")


def _autoencoder(out: Path, data: Data) -> None:
    """The exporter's `Reshape(-1, 1)` turns [N, 7] into [7 N, 1]: no batcher may split this by rows."""
    network = MLPRegressor(hidden_layer_sizes=(16, 4, 16), max_iter=300, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(data.rows, data.rows)
    _sklearn(out, "mlp_fixed_reshape", network, data.rows[:1], data.test, "predict")


def _sklearn(
    out: Path, name: str, model, example: np.ndarray, rows: np.ndarray, method: str, zipmap: bool | None = None
) -> None:
    options = None if zipmap is None else {id(model): {"zipmap": zipmap}}
    proto = to_onnx(model, example, options=options, target_opset=TARGET_OPSETS)
    proto.ir_version = IR_VERSION
    # The exporter lists them in the order of a set (and some twice): sorted, a second run writes the same bytes.
    opsets = sorted(proto.opset_import, key=lambda item: (item.domain, item.version))
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    wanted = np.asarray(getattr(model, method)(rows), np.float64).reshape(len(rows), -1)
    record = {"output": proto.graph.output[-1].name, "inputs": _plain(rows), "outputs": _plain(wanted)}
    if method == "predict_proba":
        record["classes"] = model.classes_.tolist()
    if method != "predict":
        record["labels"] = model.predict(rows).tolist()
    content = _write(out, name, proto)
    (out / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    answer = ort.InferenceSession(content).run([record["output"]], {proto.graph.input[0].name: rows})[0]
    if zipmap:
        answer = np.array([[row[label] for label in record["classes"]] for row in answer])
    worst = float(np.abs(np.asarray(answer, np.float64).reshape(wanted.shape) - wanted).max())
    print(f"{name}: {len(content)} bytes, {len(proto.graph.node)} nodes, largest difference {worst:.1e}")
    if worst > 1e-4:
        raise SystemExit(f"{name}: the export does not answer as its original")


def _arithmetic(out: Path, data: Data) -> None:
    """Triton's well-known examples `simple` and `simple_string`: a sum and a difference of two inputs."""
    left = np.arange(32, dtype=np.int32).reshape(2, 16)
    right = np.array([[1] * 16, [-3] * 16], np.int32)
    answers = {"OUTPUT0": left + right, "OUTPUT1": left - right}
    for name, kind in (("simple", TensorProto.INT32), ("simple_string", TensorProto.STRING)):
        text = kind == TensorProto.STRING
        nodes, source = [], ["INPUT0", "INPUT1"]
        if text:
            nodes = [helper.make_node("Cast", [label], [f"{label}_number"], to=TensorProto.INT32) for label in source]
            source = [f"{label}_number" for label in source]
        for label, operator in (("OUTPUT0", "Add"), ("OUTPUT1", "Sub")):
            nodes.append(helper.make_node(operator, source, [f"{label}_number" if text else label]))
            if text:
                nodes.append(helper.make_node("Cast", [f"{label}_number"], [label], to=TensorProto.STRING))
        inputs, outputs = (
            [helper.make_tensor_value_info(label, kind, ["batch", 16]) for label in labels]
            for labels in (("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1"))
        )
        graph = helper.make_graph(nodes, name, inputs, outputs)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)
        given = {"INPUT0": left, "INPUT1": right}
        if text:
            given, answers = _as_text(given), _as_text(answers)
        content = _write(out, name, proto)
        found = ort.InferenceSession(content).run(list(answers), given)
        if any((one != two).any() for one, two in zip(found, answers.values(), strict=True)):
            raise SystemExit(f"{name}: wrong answer")
        print(f"{name}: {len(content)} bytes, {len(nodes)} nodes")


def _looping(out: Path, _: Data) -> None:
    """Gives back its input after as many turns of a loop as the largest number in it says: a run of any length."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["next_sum"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, []),
        ],
        [one],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "always", "zero"], ["sum"], body=body),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        helper.make_tensor("always", TensorProto.BOOL, [], [True]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    source = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])]
    answer = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])]
    graph = helper.make_graph(nodes, "looping", source, answer, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)
    given = np.array([[0.0], [3.0], [0.5]], np.float32)
    content = _write(out, "looping", proto, {"output": "y", "inputs": given.tolist(), "outputs": given.tolist()})
    if (ort.InferenceSession(content).run(["y"], {"x": given})[0] != given).any():
        raise SystemExit("looping: wrong answer")
    print(f"looping: {len(content)} bytes, {len(nodes)} nodes")


def _as_text(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {label: value.astype(str).astype(object) for label, value in table.items()}


def _plain(rows: np.ndarray) -> list[list[float]]:
    return [[float(value) for value in row] for row in rows]


def _write(out: Path, name: str, proto: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(proto)
    content = proto.SerializeToString(deterministic=True)
    (out / f"{name}.onnx").write_bytes(content)
    return content


if __name__ == "__main__":
    main()
