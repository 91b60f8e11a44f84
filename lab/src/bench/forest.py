"""Writes an isolation forest of 100 trees as skl2onnx exports it: `forest.py FILE`."""

import sys

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest

rng = np.random.default_rng(7)
rows = rng.normal(size=(4096, 7)).astype(np.float32)
forest = IsolationForest(n_estimators=100, random_state=7).fit(rows)
model = to_onnx(forest, rows[:1], target_opset={"": 17, "ai.onnx.ml": 3})
with open(sys.argv[1], "wb") as file:
    file.write(model.SerializeToString())
print(f"{len(model.graph.node)} nodes", file=sys.stderr)
