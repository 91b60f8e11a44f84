"""Keeps `report.json` and the readable `REPORT.md`; a run of some tasks leaves the others' entries alone."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import bench
from repository import Trained, trained_with


class Report:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "report.json"
        self.table = json.loads(self.path.read_text()) if self.path.is_file() else {"tasks": {}}
        self.table["trained_with"] = trained_with()
        self.table["measured_on"] = f"{platform.system()} {platform.machine()}, {_processor()}, one thread"
        self.table["call_overhead_us"] = bench.call_overhead()

    def add(self, model: Trained, path: Path) -> dict:
        content = path.read_bytes()
        times = bench.microseconds_per_row(content, model.bench_rows, model.output["name"])
        entry = {
            "tier": model.tier,
            "version": model.version,
            "measure": model.measure,
            "accuracy": model.accuracy,
            "samples": model.samples,
            "evaluation": model.evaluation,
            "regimes": model.regimes,
            "us_per_row": {str(batch): value for batch, value in times.items()},
            "file_bytes": len(content),
            "nodes": len(model.proto.graph.node),
            "parity_error": model.parity_error,
            **({} if model.loss is None else {"loss": model.loss}),
            **model.details,
        }
        models = self.table["tasks"].setdefault(model.task.name, {})
        # The newest version is the entry; of the older ones only their accuracies stay.
        older = models.get(model.name, {})
        older_version = older.get("version", 0)
        if 0 < older_version < model.version:
            entry["earlier"] = {**older.get("earlier", {}), str(older_version): older["accuracy"]}
        models[model.name] = entry
        return entry

    def write(self) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.table, indent=2) + "\n")
        readable = self.folder / "REPORT.md"
        readable.write_text(self._markdown())
        return [self.path.name, readable.name]

    def _markdown(self) -> str:
        lines = [
            "# The models, measured",
            "",
            "Written by `models/train/run`. Times are microseconds a row under onnxruntime from Python, "
            f"{self.table['measured_on']}; a call that does nothing takes {self.table['call_overhead_us']} us there "
            "and is contained in the first column.",
            "",
        ]
        for task, models in self.table["tasks"].items():
            lines += _task(task, models)
        return "\n".join(lines).rstrip() + "\n"


def _task(task: str, models: dict) -> list[str]:
    measure = next(iter(models.values())).get("measure", "accuracy")
    lines = [
        f"## {task}",
        "",
        f"| model | tier | {measure} | held-out rows | us a row, alone | us a row, in 32s | KB | nodes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(models.items(), key=lambda item: item[1]["us_per_row"]["1"]):
        us = entry["us_per_row"]
        lines.append(
            f"| {name} | {entry['tier'] or 'none'} | {entry['accuracy']:.4f} | {entry['samples']} | {us['1']:.1f} "
            f"| {us['32']:.2f} | {entry['file_bytes'] / 1000:.0f} | {entry['nodes']} |"
        )
    for name, entry in models.items():
        lines += ["", f"**{name}**: {entry['evaluation']}.", ""]
        if "confusion" in entry:
            lines += _confusion(entry)
        lines += [f"- version {number}, on the same rows: {value:.4f}" for number, value in entry.get("earlier", {}).items()]
        for regime, value in entry["regimes"].items():
            lines.append(f"- {regime}: {value:.4f}")
        if "faults_found" in entry:
            found = ", ".join(f"{kind.replace('_', ' ')} {share:.2f}" for kind, share in entry["faults_found"].items())
            lines.append(f"- found of each fault: {found}; false alarms {entry['false_alarms']:.3f}")
        if "balanced_accuracy" in entry:
            lines.append(f"- balanced accuracy: {entry['balanced_accuracy']:.4f}")
        if "replay_accuracy" in entry:
            lines.append(f"- replay of all {entry['replay_rows']} rows: {entry['replay_accuracy']:.4f} ({entry['replay_note']})")
        lines += [f"- {note}" for note in entry.get("notes", [])]
        if "parity_worst" in entry:
            lines.append(
                f"- against the NumPy and scikit-learn original: {entry['parity_rows_above_1e-5']} rows differ by more "
                f"than 1e-5, the worst by {entry['parity_worst']:.1e}, {entry['parity_class_changed']} change their class"
            )
        else:
            lines.append(f"- largest difference to the original: {entry['parity_error']:.1e}")
    return [*lines, ""]


def _confusion(entry: dict) -> list[str]:
    labels = entry["labels"]
    lines = [f"| truth \\ answer | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for label, row in zip(labels, entry["confusion"], strict=True):
        lines.append(f"| {label} | {' | '.join(str(count) for count in row)} |")
    return [*lines, ""]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
