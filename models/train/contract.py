"""What a table of the model repository must say, and whether real rows fit it; models/README.md has it in words."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np

import hydraulic
import profiles
from repository import Task

COMMON_KEYS = {"name", "title", "description", "kind", "tiers"}
# What a kind's task.toml has beyond those: (required, optional).
KIND_KEYS = {
    "anomaly": ({"fields"}, {"replay"}),
    "classification": ({"fields", "classes"}, {"normal", "replay"}),
    "regression": ({"fields", "target"}, {"replay"}),
    "forecast": ({"forecast"}, set()),
    "generation": ({"generation"}, set()),
}
FIELD_KEYS = {
    "number": ({"name", "type", "min", "max"}, {"unit", "description", "length", "default"}),
    "category": ({"name", "type", "values"}, {"description", "default"}),
    "text": ({"name", "type", "max_length"}, {"description"}),
}
TARGET_KEYS = {"name", "unit", "tolerance"}
FORECAST_KEYS = {"window", "min_history", "max_steps", "default_steps", "unit", "min", "max", "interval_seconds"}
GENERATION_KEYS = {"alphabet", "window", "max_new_tokens", "default_new_tokens", "lowercase"}
MODEL_KEYS = {"name", "description", "tier", "type", "default_version", "output", "versions"}
MODEL_TYPES = {"sklearn", "onnx"}
# (required, optional)
OUTPUT_KEYS = {
    "probabilities": ({"kind", "name"}, {"contributions"}),
    "score": ({"kind", "name", "threshold", "slope"}, {"contributions"}),
    "value": ({"kind", "name"}, {"contributions"}),
    "next": ({"kind", "name"}, set()),
    "logits": ({"kind", "name"}, set()),
}
OUTPUT_OF = {
    "classification": "probabilities",
    "anomaly": "score",
    "regression": "value",
    "forecast": "next",
    "generation": "logits",
}
VERSION_KEYS = {"accuracy", "samples", "evaluation", "sha256", "trained_with", "data", "seed", "command"}


class Faults(list[str]):
    """What is wrong, each line led by the file it is wrong in."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def need(self, holds: bool, fault: str) -> None:
        if not holds:
            self.append(f"{self.where}: {fault}")


def task_faults(path: Path) -> list[str]:
    table = tomllib.loads(path.read_text())
    faults = Faults(f"{path.parent.name}/task.toml")
    need = faults.need
    kind = table.get("kind")
    need(kind in KIND_KEYS, f"kind is none of {sorted(KIND_KEYS)}")
    required, optional = KIND_KEYS.get(kind, (set(), set()))
    required = required | COMMON_KEYS
    need(required <= set(table), f"keys are missing: {sorted(required - set(table))}")
    need(set(table) <= required | optional, f"unknown keys {sorted(set(table) - required - optional)}")
    need(table.get("name") == path.parent.name, "name is not the folder's")
    need(all(table.get(key) for key in ("title", "description", "tiers")), "a text or the tiers are empty")
    if kind == "classification":
        need(len(table.get("classes", [])) >= 2, "fewer than two classes")
        need(set(table.get("normal", [])) <= set(table.get("classes", [])), "normal names no class")
    if kind == "regression":
        target = table.get("target", {})
        need(set(target) == TARGET_KEYS and target["tolerance"] > 0, f"target has the keys {sorted(target)}, or no tolerance")
    if kind == "forecast":
        _forecast_faults(table.get("forecast", {}), need)
    if kind == "generation":
        _generation_faults(table.get("generation", {}), need)
    _field_faults(table.get("fields", []), need)
    return faults


def _forecast_faults(table: dict, need) -> None:
    if set(table) != FORECAST_KEYS:
        return need(False, f"forecast has the keys {sorted(table)}")
    need(1 <= table["min_history"] <= table["window"], "min_history is not between 1 and the window")
    need(1 <= table["default_steps"] <= table["max_steps"], "default_steps is not between 1 and max_steps")
    need(table["min"] < table["max"] and table["interval_seconds"] > 0, "the range or the interval")


def _generation_faults(table: dict, need) -> None:
    if set(table) != GENERATION_KEYS:
        return need(False, f"generation has the keys {sorted(table)}")
    alphabet = table["alphabet"]
    need(alphabet[:1] == ["\0"] and len(alphabet) > 1, "the alphabet does not begin with the empty place")
    need(len(set(alphabet)) == len(alphabet), "the alphabet has a character twice")
    need(all(len(letter) == 1 for letter in alphabet), "the alphabet has more than a character in one place")
    need(not table["lowercase"] or all(letter == letter.lower() for letter in alphabet), "a capital letter can never be met")
    need(1 <= table["default_new_tokens"] <= table["max_new_tokens"], "default_new_tokens is not between 1 and max_new_tokens")
    need(table["window"] >= 1, "the window")


def _field_faults(fields: list[dict], need) -> None:
    names = [field.get("name") for field in fields]
    need(len(set(names)) == len(names), "two fields have one name")
    need(len(fields) == 1 or all(field.get("type") != "text" for field in fields), "a text is not the only field")
    for field in fields:
        required, optional = FIELD_KEYS.get(field.get("type"), (set(), set()))
        need(bool(required), f"{field.get('name')}: type is none of {sorted(FIELD_KEYS)}")
        need(required <= set(field) <= required | optional, f"{field.get('name')}: keys {sorted(field)}")
        if field.get("type") == "number":
            need(np.isfinite([field["min"], field["max"]]).all() and field["min"] < field["max"], f"{field['name']}: range")
        elif field.get("type") == "text":
            need(field["max_length"] > 0, f"{field['name']}: max_length")
        elif "default" in field:
            need(field["default"] in field["values"], f"{field['name']}: default is none of the values")


def model_faults(path: Path) -> list[str]:
    table = tomllib.loads(path.read_text())
    task = tomllib.loads((path.parent.parent / "task.toml").read_text())
    faults = Faults(f"{path.parent.parent.name}/{path.parent.name}/model.toml")
    need = faults.need
    need(table.get("name") == path.parent.name, "name is not the folder's")
    need(set(table) <= MODEL_KEYS, f"unknown keys {sorted(set(table) - MODEL_KEYS)}")
    need(bool(table.get("description")), "no description")
    need(table.get("tier") in [None, *task["tiers"]], "tier is none of the task's")
    need(table.get("type") in [None, *MODEL_TYPES], f"type is none of {sorted(MODEL_TYPES)}")
    output = table.get("output", {})
    required, optional = OUTPUT_KEYS.get(output.get("kind"), (set(), set()))
    need(output.get("kind") == OUTPUT_OF[task["kind"]], "output.kind does not fit the task's kind")
    need(required <= set(output) <= required | optional, f"output has the keys {sorted(output)}")
    need(output.get("slope", 1.0) > 0, "a slope is not above 0")
    need(str(table.get("default_version")) in table.get("versions", {}), "default_version is none of the versions")
    for number, version in table.get("versions", {}).items():
        further = set(version) - VERSION_KEYS - {"regimes", "loss"}
        need(VERSION_KEYS <= set(version) and not further, f"version {number} has the keys {sorted(version)}")
        need(0.0 <= version.get("accuracy", -1) <= 1.0 and version.get("samples", 0) > 0, f"version {number}: accuracy or samples")
        need(np.isfinite(version.get("loss", 0.0)) and version.get("loss", 0.0) >= 0.0, f"version {number}: loss")
        need(all(0.0 <= value <= 1.0 for value in version.get("regimes", {}).values()), f"version {number}: regimes")
        need((path.parent / number / "model.onnx").is_file(), f"version {number} has no model.onnx")
    same = [p for p in path.parent.parent.glob("*/model.toml") if tomllib.loads(p.read_text()).get("tier") == table.get("tier")]
    need(table.get("tier") is None or len(same) == 1, "another model has the same tier")
    return faults


def profile_faults(path: Path, task: Task) -> list[str]:
    """Of a profile.json: one entry a field, in order, its numbers in order of size and within the field's range."""
    profile = json.loads(path.read_text())
    faults = Faults(str(Path(*path.parts[-4:])))
    need = faults.need
    fields = task.table.get("fields", [{"name": "value", "type": "number", **task.table.get("forecast", {})}])
    need(set(profile) == {"samples", "fields"} and profile.get("samples", 0) > 0, "samples or fields")
    need([entry["name"] for entry in profile["fields"]] == [field["name"] for field in fields], "the fields are not the task's")
    for entry, field in zip(profile["fields"], fields, strict=False):
        numbers = [entry.get(key) for key in profiles.NUMBERS]
        if field["type"] == "category":
            need(set(numbers) == {None}, f"{field['name']}: a category has a number")
            need(list(entry["frequencies"]) == field["values"], f"{field['name']}: the values are not the task's")
            need(abs(sum(entry["frequencies"].values()) - 1.0) < 1e-4, f"{field['name']}: the shares are not 1 in sum")
            continue
        ordered = [entry[key] for key in ("min", "p01", "p50", "p99", "max")]
        need(ordered == sorted(ordered) and entry["std"] >= 0, f"{field['name']}: the quantiles are out of order")
        need(field["min"] <= entry["min"] and entry["max"] <= field["max"], f"{field['name']}: outside the accepted range")
        need(entry["min"] <= entry["mean"] <= entry["max"], f"{field['name']}: the mean")
    return faults


def rows_outside(task: Task, rows: np.ndarray) -> int:
    low, high = task.bounds()
    return int(((rows < low) | (rows > high)).any(axis=1).sum())


def replay_rows(task: Task) -> np.ndarray:
    """The public data set as this task's input, as `infer-router load` makes it from the table `[replay]`."""
    if "group_by" in task.table["replay"]:
        return hydraulic.raw_cycles()
    return np.stack([hydraulic.cycles()[name] for name in task.fields], axis=1).astype(np.float32)


def replay_truth(task: Task) -> list[str]:
    replay = task.table["replay"]
    found = [f"{value:g}" for value in hydraulic.cycles()[replay["label"]]]
    return [replay.get("labels", {}).get(value, value) for value in found]
