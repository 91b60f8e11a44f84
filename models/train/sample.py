"""Writes `models/pump-anomaly/sample.csv`: generated readings with their labels, for demonstrations.

Its seed is neither the training's nor the test's, so no model has seen these rows.
"""

from __future__ import annotations

import csv

import pump
from repository import MODELS

SEED = 2026
ROWS = 600
FAULT_SHARE = 0.3
TARGET = MODELS / "pump-anomaly" / "sample.csv"


def main() -> None:
    readings = pump.generate(ROWS, FAULT_SHARE, SEED)
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*pump.FIELDS, "label", "fault"])
        for row, fault in zip(readings.rows, readings.fault, strict=True):
            numbers = [f"{value:.4g}" for value in row[: pump.STATE]]
            state = pump.STATES[int(row[pump.STATE])]
            label, name = ("anomaly", pump.FAULTS[fault]) if fault >= 0 else ("normal", "")
            writer.writerow([*numbers, state, label, name])
    print(f"{TARGET}: {ROWS} rows")


if __name__ == "__main__":
    main()
