"""Reads the hydraulic test rig's public data set; nothing of it is ever written into the project.

ZeMA, 2,205 load cycles of 60 s, 17 channels.  The folder is `SENSOR_DATA_DIR`, by default
`../shared/data` seen from the root of the repository.
"""

from __future__ import annotations

import csv
import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np

from repository import MODELS, SEED

CHANNELS = (
    "PS1", "PS2", "PS3", "PS4", "PS5", "PS6", "EPS1", "FS1", "FS2",
    "TS1", "TS2", "TS3", "TS4", "VS1", "CE", "CP", "SE",
)  # fmt: skip
SECONDS = 60
CREDIT = "ZeMA hydraulic test rig, CC BY 4.0, Helwig, Pignanelli, Schuetze 2015, doi 10.1109/I2MTC.2015.7151267"


def folder() -> Path:
    return Path(os.environ.get("SENSOR_DATA_DIR") or MODELS.parent / ".." / "shared" / "data") / "hydraulic"


def missing() -> str | None:
    """A line that says what is missing, or nothing."""
    absent = [name for name in ("hydraulic_1hz.csv.gz", "hydraulic_cycles.csv") if not (folder() / name).is_file()]
    return f"no hydraulic data: {', '.join(absent)} not found (set SENSOR_DATA_DIR)" if absent else None


@cache
def cycles() -> dict[str, np.ndarray]:
    """Every column of the table that has one row a cycle."""
    with open(folder() / "hydraulic_cycles.csv", newline="") as file:
        rows = csv.reader(file)
        names = next(rows)
        table = np.array([[float(cell) for cell in row] for row in rows])
    return dict(zip(names, table.T, strict=True))


@cache
def raw_cycles() -> np.ndarray:
    """[cycles, 17 * 60] float32, channel by channel: the input of `hydraulic-valve`."""
    with gzip.open(folder() / "hydraulic_1hz.csv.gz", "rt", newline="") as file:
        names = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",")
    columns = [names.index(channel) for channel in CHANNELS]
    numbers = table[:, names.index("cycle")].reshape(-1, SECONDS)
    if (numbers != cycles()["cycle"][:, None]).any():
        raise SystemExit("hydraulic_1hz.csv.gz does not hold 60 rows for each cycle of hydraulic_cycles.csv, in order")
    by_channel = table[:, columns].reshape(-1, SECONDS, len(CHANNELS)).transpose(0, 2, 1)
    return np.ascontiguousarray(by_channel, np.float32).reshape(len(by_channel), -1)


def made_up_means(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows of means and deviations that nobody measured, for the parity files: mixtures of two cycles, and noise on top."""
    rng = np.random.default_rng(SEED)
    pairs = rows[rng.integers(len(rows), size=(2, count))].astype(np.float64)
    share = rng.random((count, 1))
    mixed = share * pairs[0] + (1.0 - share) * pairs[1] + 0.1 * rows.std(axis=0) * rng.normal(size=(count, rows.shape[1]))
    return np.maximum(mixed, 0.0).round(4).astype(np.float32)
