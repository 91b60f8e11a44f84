"""The command behind `models/train/run`."""

from __future__ import annotations

import argparse
import os
import sys
import time
import unittest
from pathlib import Path

import accumulator
import char_lm
import leak
import machine_temperature
import pump_train
import report
import sentiment
import valve
from repository import MODELS, Trained, write_model

TASKS = {
    module.NAME: module for module in (pump_train, valve, leak, accumulator, sentiment, machine_temperature, char_lm)
}
# Ten times what `--check` allows: here all rows are compared, there a dozen.
PARITY_LIMIT = 1e-4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="models/train/run",
        description="Trains the models of the repository, measures them, and writes them with their records.",
        epilog="SENSOR_DATA_DIR names the folder of the public data sets (default ../shared/data beside the repository).",
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"which tasks; all by default: {', '.join(TASKS)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the model repository there instead of models/")
    parser.add_argument("--check", action="store_true", help="train nothing; check the models that are there (or in --out)")
    given = parser.parse_args()
    unknown = [task for task in given.tasks if task not in TASKS]
    if unknown:
        parser.error(f"no such task: {', '.join(unknown)}; there are {', '.join(TASKS)}")
    return given


def say(line: str) -> None:
    print(f"[{time.perf_counter() - STARTED:6.1f} s] {line}", flush=True)


def check(out: Path | None) -> int:
    if out:
        os.environ["MODELS_CHECKED"] = str(out.resolve())
    # The tool that rewrites exports lies beside this folder.
    sys.path.insert(0, str(MODELS))
    suite = unittest.defaultTestLoader.loadTestsFromNames(["test_models", "test_kinds", "onnx_tools.test_optimize"])
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


def train(names: list[str], out: Path | None) -> int:
    root = out or MODELS
    record = report.Report(out or Path(__file__).parent)
    for name in names:
        module = TASKS[name]
        if absent := module.missing():
            say(f"{name}: skipped, {absent}")
            continue
        say(f"{name}: training")
        trained = module.train(say)
        for model in trained:
            if model.parity_error > PARITY_LIMIT:
                say(f"error: {name}/{model.name}: the graph differs from its original by {model.parity_error:.2g}")
                return 1
        if out:
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "task.toml").write_bytes((MODELS / name / "task.toml").read_bytes())
        for versions in by_model(trained):
            for model, path in zip(versions, write_model(versions, root), strict=True):
                entry = record.add(model, path)
                us = entry["us_per_row"]
                say(
                    f"{name}/{model.name} {model.version}: {path.stat().st_size / 1000:.0f} KB, "
                    f"{us['1']} us a row alone, {us['32']} in 32s"
                )
    say(f"wrote {', '.join(record.write())}")
    return 0


def by_model(trained: list[Trained]) -> list[list[Trained]]:
    """The versions of each model, oldest first."""
    names = dict.fromkeys(model.name for model in trained)
    return [sorted((m for m in trained if m.name == name), key=lambda m: m.version) for name in names]


def main() -> int:
    given = arguments()
    if given.check:
        return check(given.out)
    return train(given.tasks or list(TASKS), given.out)


STARTED = time.perf_counter()
if __name__ == "__main__":
    sys.exit(main())
