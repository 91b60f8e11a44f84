"""Reads and writes the model repository: `<task>/task.toml`, `<task>/<model>/model.toml`, `<version>/…`.

`task.toml` is written by hand and never by this code; a trainer takes its field order from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent
SEED = 7
# What the input of a kind that reads no fields is called.
WINDOWS = {"generation": "window", "forecast": "window"}


@dataclass(frozen=True)
class Task:
    """What `task.toml` says."""

    name: str
    table: dict

    @property
    def kind(self) -> str:
        return self.table["kind"]

    @property
    def fields(self) -> list[str]:
        if self.kind in WINDOWS:
            return [WINDOWS[self.kind]]
        return [entry["name"] for entry in self.table["fields"]]

    @property
    def width(self) -> int:
        """Columns of the input tensor."""
        if self.kind in WINDOWS:
            return self.table[self.kind]["window"]
        return sum(entry.get("length", 1) for entry in self.table["fields"])

    @property
    def text(self) -> bool:
        return any(entry["type"] == "text" for entry in self.table.get("fields", []))

    @property
    def classes(self) -> list[str]:
        return self.table.get("classes", [])

    @property
    def answers(self) -> int:
        """Columns of the output tensor."""
        return len(self.table["generation"]["alphabet"]) if self.kind == "generation" else len(self.classes) or 1

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest accepted value of every column of the input tensor."""
        low, high = [], []
        for entry in self.table["fields"]:
            category = entry["type"] == "category"
            low += [0.0 if category else entry["min"]] * entry.get("length", 1)
            high += [len(entry["values"]) - 1.0 if category else entry["max"]] * entry.get("length", 1)
        return np.array(low), np.array(high)


def load_task(name: str, root: Path = MODELS) -> Task:
    with open(root / name / "task.toml", "rb") as file:
        return Task(name, tomllib.load(file))


def load_model(task: str, model: str, root: Path = MODELS) -> dict:
    with open(root / task / model / "model.toml", "rb") as file:
        return tomllib.load(file)


@dataclass
class Trained:
    """One version of a model as a trainer hands it over: the graph, what it was before, and what is known of it."""

    task: Task
    name: str
    description: str
    tier: str | None
    # `sklearn`: scikit-learn fitted what the graph holds; `onnx`: a network, or a graph of our own making.
    type: str
    proto: onnx.ModelProto
    output: dict
    # The original's answers to a few inputs; the committed graph is checked against them for ever.
    parity_inputs: np.ndarray
    parity_outputs: np.ndarray
    parity_error: float
    accuracy: float
    samples: int
    evaluation: str
    data: str
    # Held-out rows, to time the model on.
    bench_rows: np.ndarray
    regimes: dict[str, float] = field(default_factory=dict)
    version: int = 1
    # What training made small, in the unit that `evaluation` names; where `accuracy` does not say it all.
    loss: float | None = None
    # See profiles.py; text has none.
    profile: dict | None = None
    # What `accuracy` is, and further lines: only for the report.
    measure: str = "accuracy"
    details: dict = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return Path(self.task.name) / self.name


def metadata(
    task: Task, model: str, data: str, features: Sequence[str] | None = None, version: int = 1
) -> dict[str, str]:
    """What a graph says of itself; `features` where the fields' names alone do not name the columns."""
    classes = {"classes": ",".join(task.classes)} if task.classes else {}
    return {
        "task": task.name,
        "model": model,
        "version": str(version),
        "features": ",".join(features or task.fields),
        "features_hash": _features_hash(task.fields),
        **classes,
        "trained_with": trained_with(),
        "data": data,
    }


def _features_hash(names: Sequence[str]) -> str:
    """A fingerprint of the feature order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def trained_with() -> str:
    import sklearn

    return f"scikit-learn {sklearn.__version__}, onnx {onnx.__version__}, numpy {np.__version__}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_model(versions: list[Trained], root: Path) -> list[Path]:
    """Writes all versions of one model and its model.toml; returns the paths of the graphs."""
    paths = []
    for model in versions:
        folder = root / model.folder / str(model.version)
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / "model.onnx")
        _replace(paths[-1], model.proto.SerializeToString(deterministic=True))
        parity = {"inputs": _plain(model.parity_inputs), "outputs": _plain(model.parity_outputs)}
        _replace(folder / "parity.json", (json.dumps(parity, separators=(",", ":")) + "\n").encode())
        if model.profile:
            _replace(folder / "profile.json", (json.dumps(model.profile, indent=1) + "\n").encode())
    _replace(root / versions[0].folder / "model.toml", _model_toml(versions, [sha256(path) for path in paths]).encode())
    return paths


def _replace(path: Path, content: bytes) -> None:
    """Never leaves half a file where the service may be reading."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def _plain(rows: np.ndarray) -> list[list]:
    # float() of a float32 prints with all the digits that give the same float32 back.
    return [[value if isinstance(value, str) else float(value) for value in row] for row in rows]


def _model_toml(versions: list[Trained], digests: list[str]) -> str:
    """The newest version is the default one, and its description the model's."""
    newest = max(versions, key=lambda model: model.version)
    if any(model.output != newest.output or model.tier != newest.tier for model in versions):
        raise ValueError(f"{newest.folder}: the versions differ in output or tier")
    lines = [
        "# Written by models/train/run; change the trainer, not this file.",
        f"name = {_value(newest.name)}",
        f"description = {_value(newest.description)}",
    ]
    if newest.tier:
        lines.append(f"tier = {_value(newest.tier)}")
    lines += [f"type = {_value(newest.type)}", f"default_version = {newest.version}", "", "[output]"]
    lines += [f"{key} = {_value(value)}" for key, value in newest.output.items()]
    for model, digest in zip(versions, digests, strict=True):
        lines += _version(model, digest)
    return "\n".join(lines) + "\n"


def _version(model: Trained, digest: str) -> list[str]:
    loss = {} if model.loss is None else {"loss": round(model.loss, 4)}
    record = {
        "accuracy": round(model.accuracy, 4),
        **loss,
        "samples": model.samples,
        "evaluation": model.evaluation,
        "sha256": digest,
        "trained_with": trained_with(),
        "data": model.data,
        "seed": SEED,
        "command": f"models/train/run {model.task.name}",
    }
    lines = ["", f"[versions.{model.version}]"]
    lines += [f"{key} = {_value(value)}" for key, value in record.items()]
    if model.regimes:
        lines += ["", f"[versions.{model.version}.regimes]"]
        lines += [f"{_value(key)} = {_value(round(number, 4))}" for key, number in model.regimes.items()]
    return lines


def _value(value: object) -> str:
    """TOML's basic strings and numbers are written as JSON's."""
    return json.dumps(value, ensure_ascii=False)
