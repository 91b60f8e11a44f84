"""A generator of pump readings: the only training data of the task `pump-anomaly`.

No public data set with a free licence has these seven fields, so the data is made.  The relations
are those of a speed-controlled centrifugal pump, in round numbers:

* flow follows the duty cycle, pressure its square, and a second branch that opens at high demand
  (as a staging valve does) trades pressure for flow, so the relation has two sheets;
* current follows the shaft power, that is flow times pressure, over an idle current;
* temperature follows ambient and dissipated power, with a lag that start-ups and stops show;
* vibration follows speed, with one resonance in the middle of the speed range.

Faults come with a severity from "barely there" to "obvious"; the mild ones are what makes the
detectors differ.  A stuck sensor keeps a value that was plausible at another time: each field alone
looks healthy, only the relation between the fields is broken.

Nothing here reads a file or a clock: the same seed gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FIELDS = ("temperature", "vibration", "pressure", "flow_rate", "current", "duty_cycle", "operational_state")
STATES = ("normal", "startup", "shutdown", "idle")
STATE_SHARE = (0.90, 0.035, 0.025, 0.04)
FAULTS = ("bearing_wear", "cavitation", "overload", "stuck_sensor")
TEMPERATURE, VIBRATION, PRESSURE, FLOW, CURRENT, DUTY, STATE = range(7)


@dataclass(frozen=True)
class Readings:
    """Rows in the task's field order, float32, and for each the index of its fault or -1."""

    rows: np.ndarray
    fault: np.ndarray

    @property
    def anomalous(self) -> np.ndarray:
        return self.fault >= 0


def generate(count: int, fault_share: float, seed: int) -> Readings:
    """`count` independent readings, of which about `fault_share` carry a fault."""
    rng = np.random.default_rng(seed)
    rows = _healthy(rng, count)
    fault = np.where(rng.random(count) < fault_share, rng.integers(len(FAULTS), size=count), -1)
    severity = 0.2 + 0.8 * rng.random(count) ** 1.2
    running = rows[:, DUTY] > 0.15
    fault[~running & (fault != FAULTS.index("stuck_sensor"))] = -1
    _bearing_wear(rng, rows, fault == 0, severity)
    _cavitation(rng, rows, fault == 1, severity)
    _overload(rng, rows, fault == 2, severity)
    fault[(fault == 3) & ~_stuck_sensor(rng, rows, fault == 3)] = -1
    np.maximum(rows[:, :DUTY], 0.0, out=rows[:, :DUTY])
    return Readings(rows.astype(np.float32), fault)


def _healthy(rng: np.random.Generator, count: int) -> np.ndarray:
    state = rng.choice(len(STATES), size=count, p=STATE_SHARE)
    # Where a start or a stop stands: 0 = begun, 1 = done.
    phase = rng.random(count)
    demand = 0.30 + 0.68 * rng.beta(3.2, 2.0, count)
    duty = np.select(
        [state == 0, state == 1, state == 2],
        [demand, demand * (0.15 + 0.85 * phase), demand * (1.0 - 0.9 * phase)],
        0.06 * rng.random(count),
    )
    # The second branch opens above a demand that differs by installation.
    branch = duty > rng.normal(0.80, 0.04, count)
    flow = 200.0 * duty * np.where(branch, 1.10, 1.0) * rng.normal(1.0, 0.016, count)
    pressure = 2.0 + 8.0 * duty**2 * np.where(branch, 0.86, 1.0) + rng.normal(0.0, 0.14, count)
    power = flow * pressure / 1000.0
    current = np.where(duty < 0.08, 12.0, 28.0) + 61.0 * power ** 0.85 + rng.normal(0.0, 1.6, count)
    # Start-ups draw an inrush current that fades, and run on cold metal; stops leave hot metal behind.
    current += np.where(state == 1, 34.0 * (1.0 - phase) ** 2 * demand, 0.0)
    ambient = rng.normal(24.0, 2.6, count)
    heat_of = np.select([state == 1, state == 2], [demand * phase, demand], duty)
    heat = 29.0 * heat_of + np.where(state == 3, 9.0 * rng.random(count), 0.0)
    temperature = ambient + heat + rng.normal(0.0, 0.7, count)
    resonance = 0.9 * np.exp(-(((duty - 0.55) / 0.05) ** 2))
    vibration = (0.5 + 2.9 * duty + resonance) * rng.normal(1.0, 0.07, count)
    vibration += np.where(state == 1, 1.6 * (1.0 - phase), 0.0)
    return np.stack([temperature, vibration, pressure, flow, current, duty, state.astype(float)], axis=1)


def _bearing_wear(rng: np.random.Generator, rows: np.ndarray, where: np.ndarray, severity: np.ndarray) -> None:
    grade = severity[where]
    rows[where, VIBRATION] += grade * rng.uniform(2.0, 9.0, grade.size)
    rows[where, TEMPERATURE] += grade * rng.uniform(4.0, 22.0, grade.size)
    rows[where, CURRENT] += grade * rng.uniform(1.0, 12.0, grade.size)


def _cavitation(rng: np.random.Generator, rows: np.ndarray, where: np.ndarray, severity: np.ndarray) -> None:
    grade = severity[where]
    rows[where, FLOW] *= 1.0 - grade * rng.uniform(0.10, 0.40, grade.size)
    rows[where, PRESSURE] *= 1.0 - grade * rng.uniform(0.10, 0.45, grade.size)
    rows[where, VIBRATION] += grade * rng.uniform(0.6, 5.0, grade.size)
    rows[where, CURRENT] *= 1.0 - grade * rng.uniform(0.0, 0.15, grade.size)


def _overload(rng: np.random.Generator, rows: np.ndarray, where: np.ndarray, severity: np.ndarray) -> None:
    grade = severity[where]
    rows[where, CURRENT] += grade * rng.uniform(10.0, 45.0, grade.size)
    rows[where, TEMPERATURE] += grade * rng.uniform(4.0, 26.0, grade.size)
    rows[where, FLOW] *= 1.0 - grade * rng.uniform(0.02, 0.16, grade.size)


# A value that happens to lie this near to the truth (in the field's unit) is no fault anybody could see.
_UNNOTICED = {TEMPERATURE: 6.0, VIBRATION: 0.7, PRESSURE: 0.6, FLOW: 12.0, CURRENT: 9.0}


def _stuck_sensor(rng: np.random.Generator, rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Replaces one field by its value in another healthy reading; returns where that can be told."""
    told = np.zeros(len(rows), bool)
    at = np.flatnonzero(where)
    other = _healthy(rng, at.size)
    field = rng.choice(list(_UNNOTICED), size=at.size)
    for position, replacement, column in zip(at, other, field, strict=True):
        told[position] = abs(rows[position, column] - replacement[column]) > _UNNOTICED[column]
        if told[position]:
            rows[position, column] = replacement[column]
    return told
