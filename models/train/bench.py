"""Runs and times ONNX models under onnxruntime, on one thread, as the service does."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

BATCHES = (1, 32)


def session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tensor(rows: np.ndarray) -> np.ndarray:
    """Rows as onnxruntime takes them: text is an array of objects, all else float32."""
    return np.ascontiguousarray(rows, object if np.asarray(rows).dtype.kind in "OU" else np.float32)


def predict(model: bytes, rows: np.ndarray, output: str, batch: int = 256) -> np.ndarray:
    """All rows through the model in batches: float32 or text in, float32 out."""
    running = session(model)
    name = running.get_inputs()[0].name
    rows = tensor(rows)
    parts = [running.run([output], {name: rows[at : at + batch]})[0] for at in range(0, len(rows), batch)]
    return np.concatenate(parts)


def microseconds_per_row(model: bytes, rows: np.ndarray, output: str, seconds: float = 1.2) -> dict[int, float]:
    """The best of many blocks per batch size; rows rotate, since a row sent again is answered from warm caches."""
    running = session(model)
    name = running.get_inputs()[0].name
    rows = tensor(np.resize(rows, (max(2048, len(rows)), rows.shape[1])))
    result = {}
    for batch in BATCHES:
        chunks = [rows[at : at + batch] for at in range(0, len(rows) - batch + 1, batch)]
        best, end, position, steps = np.inf, time.perf_counter() + seconds, 0, 1
        while time.perf_counter() < end:
            block = [chunks[(position + step) % len(chunks)] for step in range(steps)]
            position += steps
            start = time.perf_counter()
            for chunk in block:
                running.run([output], {name: chunk})
            taken = time.perf_counter() - start
            # Blocks of some milliseconds: longer than the clock is coarse, shorter than a neighbour's disturbance.
            steps = steps * 2 if taken < 0.003 else steps
            best = min(best, taken / len(block))
        result[batch] = round(best * 1e6 / batch, 3)
    return result


def call_overhead() -> float:
    """Microseconds of one Python call that does next to nothing: what the other numbers hold at least."""
    one = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 7])
    two = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 7])
    graph = helper.make_graph([helper.make_node("Relu", ["features"], ["out"])], "floor", [one], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return microseconds_per_row(model.SerializeToString(), np.zeros((2048, 7), np.float32), "out", 0.5)[1]
