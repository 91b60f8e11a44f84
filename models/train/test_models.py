"""Checks every committed model: `models/train/run --check`. What needs the public data says so where it is absent."""

from __future__ import annotations

import json
import os
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import bench
import contract
import graph
import hydraulic
import pump
import pump_train
import sentiment
import text_graph
from repository import MODELS, WINDOWS, Task, load_model, load_task, sha256

ROOT = Path(os.environ.get("MODELS_CHECKED") or MODELS)
REPORT = ROOT / "report.json" if os.environ.get("MODELS_CHECKED") else MODELS / "train" / "report.json"
# Of numbers beyond 1 it is a share.
TOLERANCE = 1e-5
# Kinds whose models have a profile.json of the rows they were trained on.
PROFILED = {"anomaly", "classification", "regression", "forecast"}


@dataclass(frozen=True)
class Served:
    """One version of a model of the repository."""

    task: Task
    model: dict
    number: int
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.task.name}/{self.model['name']} {self.number}"

    @property
    def record(self) -> dict:
        return self.model["versions"][str(self.number)]

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def output(self) -> str:
        return self.model["output"]["name"]

    def predict(self, rows: np.ndarray, batch: int = 256) -> np.ndarray:
        return bench.predict(self.content, rows, self.output, batch)


def served(task: str, model: str, number: int | None = None) -> Served:
    """The version that is served unless another is asked for."""
    table = load_model(task, model, ROOT)
    number = number or table["default_version"]
    return Served(load_task(task, ROOT), table, number, ROOT / task / model / str(number))


def every_version() -> Iterator[Served]:
    for table in sorted(ROOT.glob("*/*/model.toml")):
        task, model = table.parent.parent.name, table.parent.name
        for number in load_model(task, model, ROOT)["versions"]:
            yield served(task, model, int(number))


def own_versions() -> Iterator[Served]:
    """Those that this folder's code made; a model of another origin need not be built the same way."""
    made = json.loads(REPORT.read_text())["tasks"]
    return (entry for entry in every_version() if entry.model["name"] in made.get(entry.task.name, {}))


def likely_rows(task: Task, count: int) -> np.ndarray:
    """Rows spread over a part of the accepted range; their answers need not mean anything."""
    rng = np.random.default_rng(11)
    if task.text:
        return np.resize(sentiment.made_up_texts()[:-1], (count, 1))
    if task.kind == "generation":
        return rng.integers(0, task.answers, (count, task.width)).astype(np.float32)
    if task.kind == "forecast":
        low, high = (task.table["forecast"][key] for key in ("min", "max"))
        return rng.uniform(low, high, (count, task.width)).astype(np.float32)
    low, high = task.bounds()
    rows = low + (high - low) * rng.uniform(0.0, 0.4, (count, task.width))
    column = 0
    for entry in task.table["fields"]:
        if entry["type"] == "category":
            rows[:, column] = np.round(rows[:, column])
        column += entry.get("length", 1)
    return rows.astype(np.float32)


class Contract(unittest.TestCase):
    def test_there_are_the_models_this_folder_promises(self):
        names = {f"{entry.task.name}/{entry.model['name']}" for entry in every_version()}
        promised = {f"{task}/{model}" for task, models in json.loads(REPORT.read_text())["tasks"].items() for model in models}
        self.assertTrue(names)
        self.assertLessEqual(promised, names)

    def test_tables_keep_the_contract(self):
        faults = [fault for path in sorted(ROOT.glob("*/task.toml")) for fault in contract.task_faults(path)]
        faults += [fault for path in sorted(ROOT.glob("*/*/model.toml")) for fault in contract.model_faults(path)]
        self.assertEqual(faults, [])

    def test_profiles_fit_the_schema(self):
        for entry in own_versions():
            with self.subTest(entry.label):
                path = entry.folder / "profile.json"
                wanted = entry.task.kind in PROFILED and not entry.task.text
                self.assertEqual(path.is_file(), wanted)
                if wanted:
                    self.assertEqual(contract.profile_faults(path, entry.task), [])

    def test_digests_are_those_of_the_files(self):
        for entry in every_version():
            with self.subTest(entry.label):
                self.assertEqual(entry.record["sha256"], sha256(entry.path))

    def test_tiers_grow_dearer_and_no_worse(self):
        for task, models in json.loads(REPORT.read_text())["tasks"].items():
            with self.subTest(task):
                by_tier = {entry["tier"]: entry for entry in models.values() if entry["tier"]}
                order = [by_tier[tier] for tier in load_task(task, ROOT).table["tiers"]]
                for cheap, dear in zip(order, order[1:], strict=False):
                    for batch in ("1", "32"):
                        self.assertLess(cheap["us_per_row"][batch], dear["us_per_row"][batch])
                    self.assertLessEqual(cheap["accuracy"], dear["accuracy"])

    def test_a_newer_version_is_the_default_and_no_worse(self):
        for entry in own_versions():
            versions = {int(number): record for number, record in entry.model["versions"].items()}
            with self.subTest(entry.label):
                self.assertEqual(entry.model["default_version"], max(versions))
                ordered = [versions[number] for number in sorted(versions)]
                for older, newer in zip(ordered, ordered[1:], strict=False):
                    self.assertEqual((older["evaluation"], older["samples"]), (newer["evaluation"], newer["samples"]))
                    self.assertGreater(newer["accuracy"], older["accuracy"])


class Graphs(unittest.TestCase):
    def test_no_graph_holds_a_slow_pattern(self):
        for entry in own_versions():
            with self.subTest(entry.label):
                proto = onnx.load_model_from_string(entry.content)
                kinds = [node.op_type for node in proto.graph.node]
                self.assertFalse({"ZipMap", "Scan", "Loop", "If"} & set(kinds))
                self.assertLessEqual(len(kinds), 10 if "forest" in entry.model["name"] else 45)
                self.assertLess(len(entry.content), 4_000_000)
                self.assertEqual({(item.domain, item.version) for item in proto.opset_import} - set(graph.OPSETS), set())

    def test_metadata_says_what_the_file_is(self):
        for entry in own_versions():
            with self.subTest(entry.label):
                said = {item.key: item.value for item in onnx.load_model_from_string(entry.content).metadata_props}
                wanted = (entry.task.name, entry.model["name"], str(entry.number))
                self.assertEqual((said["task"], said["model"], said["version"]), wanted)
                self.assertEqual(said["trained_with"], entry.record["trained_with"])
                self.assertEqual([name.split("[")[0] for name in said["features"].split(",")], entry.task.fields)

    def test_inputs_and_outputs_have_the_contracts_shape(self):
        for entry in every_version():
            with self.subTest(entry.label):
                (only,) = bench.session(entry.content).get_inputs()
                wanted = "tensor(string)" if entry.task.text else "tensor(float)"
                self.assertEqual((only.type, only.shape[1]), (wanted, entry.task.width))
                answer = entry.predict(likely_rows(entry.task, 3))
                self.assertEqual(answer.shape, (3, entry.task.answers))
                self.assertEqual(answer.dtype, np.float32)

    def test_inputs_are_named_as_their_kind_says(self):
        for entry in own_versions():
            (only,) = bench.session(entry.content).get_inputs()
            wanted = text_graph.INPUT if entry.task.text else WINDOWS.get(entry.task.kind, graph.INPUT)
            self.assertEqual(only.name, wanted, entry.label)

    def test_batched_rows_equal_single_rows(self):
        for entry in every_version():
            rows = likely_rows(entry.task, 32)
            single = entry.predict(rows, batch=1)
            self.assertTrue(np.isfinite(single).all(), entry.label)
            for batch in (2, 3, 32):
                with self.subTest(f"{entry.label} in {batch}s"):
                    np.testing.assert_allclose(entry.predict(rows, batch=batch), single, rtol=1e-6, atol=1e-6)


class Parity(unittest.TestCase):
    def test_graphs_answer_as_their_originals_did(self):
        for entry in every_version():
            with self.subTest(entry.label):
                path = entry.folder / "parity.json"
                self.assertLess(path.stat().st_size, 300_000)
                parity = json.loads(path.read_text())
                inputs = np.array(parity["inputs"], object if entry.task.text else float)
                wanted = np.array(parity["outputs"])
                if not entry.task.text:
                    np.testing.assert_array_equal(inputs, inputs.astype(np.float32), "inputs are float32 values")
                difference = np.abs(entry.predict(inputs) - wanted) / np.maximum(1.0, np.abs(wanted))
                self.assertLess(difference.max(), TOLERANCE)

    def test_probabilities_sum_to_one(self):
        for entry in every_version():
            if entry.model["output"]["kind"] == "probabilities":
                with self.subTest(entry.label):
                    answer = entry.predict(likely_rows(entry.task, 16))
                    np.testing.assert_allclose(answer.sum(axis=1), 1.0, atol=1e-5)

    def test_contributions_are_shares_of_the_fields(self):
        for entry in every_version():
            if name := entry.model["output"].get("contributions"):
                with self.subTest(entry.label):
                    shares = bench.predict(entry.content, likely_rows(entry.task, 16), name)
                    self.assertEqual(shares.shape, (16, entry.task.width))
                    self.assertGreaterEqual(shares.min(), 0.0)
                    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-5)


class Pump(unittest.TestCase):
    def test_the_two_example_readings_come_out_as_promised(self):
        for name in ("isolation_forest", "lof", "autoencoder"):
            with self.subTest(name):
                entry = served("pump-anomaly", name)
                output, score = entry.model["output"], entry.predict(pump_train.EXAMPLES)[:, 0]
                self.assertLess(score[0], output["threshold"])
                self.assertGreater(score[1], output["threshold"])

    def test_accuracies_are_those_of_the_files(self):
        test = pump_train.test_readings()
        for name in ("isolation_forest", "lof", "autoencoder"):
            with self.subTest(name):
                entry = served("pump-anomaly", name)
                found = entry.predict(test.rows)[:, 0] > entry.model["output"]["threshold"]
                recalls = [found[test.anomalous].mean(), (~found[~test.anomalous]).mean()]
                self.assertAlmostEqual(float(np.mean(recalls)), entry.record["accuracy"], delta=1e-3)

    def test_the_autoencoder_rebuilds_ordinary_readings_in_their_units(self):
        rebuilt = bench.predict(served("pump-anomaly", "autoencoder").content, pump_train.EXAMPLES, "reconstruction")
        self.assertEqual(rebuilt.shape, (2, len(pump.FIELDS)))
        np.testing.assert_allclose(rebuilt[0], pump_train.EXAMPLES[0], rtol=0.1, atol=0.1)

    def test_the_field_that_is_off_is_among_the_first_two_contributions(self):
        # Not always the first: the network meets a wrong current half way, by a wrong pressure.
        healthy = pump.generate(500, 0.0, 99).rows
        content = served("pump-anomaly", "autoencoder").content
        for field in (pump.PRESSURE, pump.FLOW, pump.CURRENT, pump.DUTY):
            rows = healthy[healthy[:, pump.STATE] == 0].copy()
            rows[:, field] *= 1.3
            first = np.argsort(-bench.predict(content, rows, "contributions"), axis=1)[:, :2]
            self.assertGreater(float((first == field).any(axis=1).mean()), 0.9, pump.FIELDS[field])

    def test_the_generator_gives_the_same_rows_again_and_within_the_ranges(self):
        first, second = pump.generate(500, 0.3, 5), pump.generate(500, 0.3, 5)
        np.testing.assert_array_equal(first.rows, second.rows)
        self.assertEqual(set(np.unique(first.fault)), {-1, 0, 1, 2, 3})
        self.assertEqual(contract.rows_outside(load_task("pump-anomaly", ROOT), pump_train.test_readings().rows), 0)


class PublicData(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if absent := hydraulic.missing():
            print(f"\nskipped what needs it: {absent}")
            raise unittest.SkipTest(absent)

    def test_every_real_row_is_within_the_accepted_ranges(self):
        for name in ("hydraulic-valve", "hydraulic-leak"):
            task = load_task(name, ROOT)
            with self.subTest(name):
                self.assertEqual(contract.rows_outside(task, contract.replay_rows(task)), 0)
        leak, accumulator = (load_task(name, ROOT).table["fields"] for name in ("hydraulic-leak", "hydraulic-accumulator"))
        self.assertEqual(leak, accumulator, "one rig, one form of reading")

    def test_every_row_of_the_other_pump_is_within_the_accepted_ranges(self):
        # SKAB, a small real pump, as the data folder's README maps it to this task; it has no duty cycle.
        columns = {"vibration": 1, "current": 3, "pressure": 4, "temperature": 5, "flow_rate": 8}
        fields = {entry["name"]: entry for entry in load_task("pump-anomaly", ROOT).table["fields"]}
        files = sorted((hydraulic.folder().parent / "skab").glob("*/*.csv"))
        self.assertTrue(files, "the folder skab holds no file")
        for path in files:
            rows = np.loadtxt(path, delimiter=";", skiprows=1, usecols=list(columns.values()))
            for name, values in zip(columns, rows.T, strict=True):
                with self.subTest(f"{path.name} {name}"):
                    self.assertTrue((values >= fields[name]["min"]).all() and (values <= fields[name]["max"]).all())

    def test_the_replays_accuracy_is_the_reports(self):
        recorded = json.loads(REPORT.read_text())["tasks"]
        for name in ("hydraulic-valve", "hydraulic-leak"):
            task = load_task(name, ROOT)
            rows, truth = contract.replay_rows(task), contract.replay_truth(task)
            for model, entry in recorded.get(name, {}).items():
                with self.subTest(f"{name}/{model}"):
                    answer = served(name, model).predict(rows).argmax(axis=1)
                    right = float(np.mean([task.classes[number] == label for number, label in zip(answer, truth, strict=True)]))
                    self.assertAlmostEqual(right, entry["replay_accuracy"], delta=1e-6)


if __name__ == "__main__":
    unittest.main()
