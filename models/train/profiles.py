"""What the rows looked like that a model was trained on: `profile.json`, one entry a field.

An explanation compares a reading with it, and a drift is a distance from it.  Text has no profile.
"""

from __future__ import annotations

import numpy as np

QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}
NUMBERS = ("mean", "std", *QUANTILES, "min", "max")


def profile(fields: list[dict], rows: np.ndarray) -> dict:
    """`fields` as in task.toml, `rows` [samples, width]; an array field is taken over all its positions."""
    entries, column = [], 0
    for field in fields:
        length = field.get("length", 1)
        values = rows[:, column : column + length].astype(np.float64)
        entries.append(_category(field, values) if field["type"] == "category" else _number(field["name"], values))
        column += length
    if column != rows.shape[1]:
        raise ValueError(f"the rows have {rows.shape[1]} columns, the fields {column}")
    return {"samples": len(rows), "fields": entries}


def series(values: np.ndarray) -> dict:
    """The profile of one series of values, for a forecast: a single entry named `value`."""
    return {"samples": values.size, "fields": [_number("value", values.astype(np.float64))]}


def _number(name: str, values: np.ndarray) -> dict:
    quantiles = dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())), strict=True))
    found = {"mean": values.mean(), "std": values.std(), **quantiles, "min": values.min(), "max": values.max()}
    # Seven digits: what a float32 holds, and no more than another machine would give too.
    return {"name": name, **{key: float(f"{found[key]:.7g}") for key in NUMBERS}}


def _category(field: dict, values: np.ndarray) -> dict:
    """An index has no mean: the numbers are null, and the share of every value stands instead."""
    shares = {value: round(float(np.mean(values == number)), 6) for number, value in enumerate(field["values"])}
    return {"name": field["name"], **dict.fromkeys(NUMBERS), "frequencies": shares}
