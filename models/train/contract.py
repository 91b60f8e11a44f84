"""What a table of the model repository must say, and whether real rows fit it; models/README.md has it in words."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np

import hydraulic
from repository import Task

TASK_KEYS = {"name", "title", "description", "kind", "tiers", "classes", "normal", "fields", "replay"}
MODEL_KEYS = {"name", "description", "tier", "default_version", "output", "versions"}
FIELD_KEYS = {
    "number": ({"name", "type", "min", "max"}, {"unit", "description", "length", "default"}),
    "category": ({"name", "type", "values"}, {"description", "default"}),
}
OUTPUT_KEYS = {"probabilities": {"kind", "name"}, "score": {"kind", "name", "threshold", "slope"}}
OUTPUT_OF = {"classification": "probabilities", "anomaly": "score"}
VERSION_KEYS = {"accuracy", "samples", "evaluation", "sha256", "trained_with", "data", "seed", "command"}


def task_faults(path: Path) -> list[str]:
    table = tomllib.loads(path.read_text())
    faults = []

    def need(holds: bool, fault: str) -> None:
        if not holds:
            faults.append(f"{path.parent.name}/task.toml: {fault}")

    need(table.get("name") == path.parent.name, "name is not the folder's")
    need(set(table) <= TASK_KEYS, f"unknown keys {sorted(set(table) - TASK_KEYS)}")
    need(all(table.get(key) for key in ("title", "description", "tiers", "fields")), "a text, the tiers or the fields are missing")
    need(table.get("kind") in OUTPUT_OF, "kind is neither classification nor anomaly")
    if table.get("kind") == "classification":
        need(len(table.get("classes", [])) >= 2, "fewer than two classes")
        need(set(table.get("normal", [])) <= set(table.get("classes", [])), "normal names no class")
    names = [field.get("name") for field in table.get("fields", [])]
    need(len(set(names)) == len(names), "two fields have one name")
    for field in table.get("fields", []):
        required, optional = FIELD_KEYS.get(field.get("type"), (set(), set()))
        need(bool(required), f"{field.get('name')}: type is neither number nor category")
        need(required <= set(field) <= required | optional, f"{field.get('name')}: keys {sorted(field)}")
        if field.get("type") == "number":
            need(np.isfinite([field["min"], field["max"]]).all() and field["min"] < field["max"], f"{field['name']}: range")
        elif "default" in field:
            need(field["default"] in field["values"], f"{field['name']}: default is none of the values")
    return faults


def model_faults(path: Path) -> list[str]:
    table = tomllib.loads(path.read_text())
    task = tomllib.loads((path.parent.parent / "task.toml").read_text())
    faults = []

    def need(holds: bool, fault: str) -> None:
        if not holds:
            faults.append(f"{path.parent.parent.name}/{path.parent.name}/model.toml: {fault}")

    need(table.get("name") == path.parent.name, "name is not the folder's")
    need(set(table) <= MODEL_KEYS, f"unknown keys {sorted(set(table) - MODEL_KEYS)}")
    need(bool(table.get("description")), "no description")
    need(table.get("tier") in [None, *task["tiers"]], "tier is none of the task's")
    output = table.get("output", {})
    need(output.get("kind") == OUTPUT_OF[task["kind"]], "output.kind does not fit the task's kind")
    need(set(output) == OUTPUT_KEYS.get(output.get("kind"), set()), f"output has the keys {sorted(output)}")
    need(output.get("slope", 1.0) > 0, "a slope is not above 0")
    need(str(table.get("default_version")) in table.get("versions", {}), "default_version is none of the versions")
    for number, version in table.get("versions", {}).items():
        need(VERSION_KEYS <= set(version) <= VERSION_KEYS | {"regimes"}, f"version {number} has the keys {sorted(version)}")
        need(0.0 <= version.get("accuracy", -1) <= 1.0 and version.get("samples", 0) > 0, f"version {number}: accuracy or samples")
        need(all(0.0 <= value <= 1.0 for value in version.get("regimes", {}).values()), f"version {number}: regimes")
        need((path.parent / number / "model.onnx").is_file(), f"version {number} has no model.onnx")
    same = [p for p in path.parent.parent.glob("*/model.toml") if tomllib.loads(p.read_text()).get("tier") == table.get("tier")]
    need(table.get("tier") is None or len(same) == 1, "another model has the same tier")
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
