"""Do two models answer the same? ONNX Runtime runs both on the same rows and every output is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

TOLERANCE = 1e-5
ROWS = 2000
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


class CannotCompare(Exception):
    """Why these two models cannot be run side by side."""


@dataclass
class Difference:
    """The row that differs most, in the output where it does."""

    output: str
    row: int
    was: object
    now: object


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def only_input(running: onnxruntime.InferenceSession):
    inputs = running.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in TYPES or len(inputs[0].shape) != 2 or not isinstance(inputs[0].shape[1], int):
        raise CannotCompare("rows can be made for one numeric input [N, width] only")
    return inputs[0]


def likely_rows(model: onnx.ModelProto, width: int, count: int, seed: int) -> np.ndarray:
    """Normal rows where the model's own thresholds and stored points lie, a third of them much wider."""
    seen: list[list[float]] = [[] for _ in range(width)]
    for node in model.graph.node:
        given = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_featureids" in given and "nodes_values" in given:
            for column, value, mode in zip(
                given["nodes_featureids"].ints, given["nodes_values"].floats, given["nodes_modes"].strings, strict=True
            ):
                if mode != b"LEAF" and column < width:
                    seen[column].append(value)
    searched = {name for node in model.graph.node if node.op_type in ("Scan", "CDist") for name in node.input}
    for tensor in model.graph.initializer:
        points = numpy_helper.to_array(tensor) if tensor.name in searched else None
        if points is not None and points.ndim == 2 and points.shape[1] == width:
            for column in range(width):
                seen[column].extend(points[:, column].tolist())
    centre = np.array([np.mean(values) if values else 0.0 for values in seen])
    spread = np.array([np.std(values) or 1.0 if values else 1.0 for values in seen])
    random = np.random.default_rng(seed)
    wide = np.where(np.arange(count) % 3 == 2, 10.0, 1.5)
    return centre + spread * wide[:, None] * random.standard_normal((count, width))


def table(answer, classes: list | None) -> np.ndarray:
    """An output as one line per row; a list of maps as its values in the order of the classes."""
    if isinstance(answer, list) and classes:
        return np.array([[each.get(name, np.nan) for name in classes] for each in answer])
    return np.asarray(answer)


def compare(
    before: onnx.ModelProto, after: onnx.ModelProto, rows: np.ndarray | None = None, zip_maps: dict | None = None, seed: int = 1
) -> Difference | None:
    """Runs both on made rows and on `rows`; None where every output agrees, numbers within `TOLERANCE`.

    `zip_maps` are the classes of the outputs that were maps (`Report.zip_maps`).
    """
    old, new = session(before), session(after)
    entry = only_input(old)
    made = likely_rows(before, entry.shape[1], ROWS, seed)
    rows = made if rows is None else np.vstack([made, rows])
    feed = {entry.name: rows.astype(TYPES[entry.type])}
    worst: tuple[float, Difference | None] = (0.0, None)
    for output, was, now in zip(old.get_outputs(), old.run(None, feed), new.run(None, feed), strict=True):
        was, now = table(was, (zip_maps or {}).get(output.name)), table(now, None)
        if was.size != now.size:
            raise CannotCompare(f"output {output.name} has {was.shape} before and {now.shape} after")
        was, now = (array.reshape(len(rows), -1) for array in (was, now))
        if was.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                error = np.abs(was - now) / np.maximum(1.0, np.abs(was))
            error = np.where((was == now) | (np.isnan(was) & np.isnan(now)), 0.0, np.nan_to_num(error, nan=np.inf)) / TOLERANCE
        else:
            error = np.where(was == now, 0.0, np.inf)
        row = int(error.max(axis=1).argmax())
        if error[row].max() > max(1.0, worst[0]):
            worst = (error[row].max(), Difference(output.name, row, was[row].tolist(), now[row].tolist()))
    return worst[1]
