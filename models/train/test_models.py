"""Checks the committed models: `models/train/run --check`. What needs the public data says so where it is absent."""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path

import numpy as np
import onnx

import bench
import contract
import graph
import hydraulic
import pump
import pump_train
from repository import MODELS, VERSION, load_model, load_task, sha256

ROOT = Path(os.environ.get("MODELS_CHECKED") or MODELS)
REPORT = ROOT / "report.json" if os.environ.get("MODELS_CHECKED") else MODELS / "train" / "report.json"
TOLERANCE = 1e-5


def every_model():
    for table in sorted(ROOT.glob("*/*/model.toml")):
        yield load_task(table.parent.parent.name, ROOT), load_model(table.parent.parent.name, table.parent.name, ROOT), table.parent


def own_models():
    """Those that this folder's code made; a model of another origin need not be built the same way."""
    made = json.loads(REPORT.read_text())["tasks"]
    return (entry for entry in every_model() if entry[1]["name"] in made.get(entry[0].name, {}))


def content(folder: Path) -> bytes:
    return (folder / str(VERSION) / "model.onnx").read_bytes()


def likely_rows(task, count: int) -> np.ndarray:
    """Rows spread over a part of the accepted range; their answers need not mean anything."""
    low, high = task.bounds()
    rows = low + (high - low) * np.random.default_rng(11).uniform(0.0, 0.4, (count, task.width))
    column = 0
    for entry in task.table["fields"]:
        if entry["type"] == "category":
            rows[:, column] = np.round(rows[:, column])
        column += entry.get("length", 1)
    return rows.astype(np.float32)


class Contract(unittest.TestCase):
    def test_there_are_the_models_this_folder_promises(self):
        names = {f"{task.name}/{model['name']}" for task, model, _ in every_model()}
        promised = {f"{task}/{model}" for task, models in json.loads(REPORT.read_text())["tasks"].items() for model in models}
        self.assertTrue(names)
        self.assertLessEqual(promised, names)

    def test_tables_keep_the_contract(self):
        faults = [fault for path in sorted(ROOT.glob("*/task.toml")) for fault in contract.task_faults(path)]
        faults += [fault for path in sorted(ROOT.glob("*/*/model.toml")) for fault in contract.model_faults(path)]
        self.assertEqual(faults, [])

    def test_digests_are_those_of_the_files(self):
        for _, model, folder in every_model():
            with self.subTest(folder.name):
                path = folder / str(VERSION) / "model.onnx"
                self.assertEqual(model["versions"][str(VERSION)]["sha256"], sha256(path))

    def test_tiers_grow_dearer_and_no_worse(self):
        for task, models in json.loads(REPORT.read_text())["tasks"].items():
            with self.subTest(task):
                by_tier = {entry["tier"]: entry for entry in models.values() if entry["tier"]}
                order = [by_tier[tier] for tier in load_task(task, ROOT).table["tiers"]]
                for cheap, dear in zip(order, order[1:], strict=False):
                    for batch in ("1", "32"):
                        self.assertLess(cheap["us_per_row"][batch], dear["us_per_row"][batch])
                    self.assertLessEqual(cheap["accuracy"], dear["accuracy"])


class Graphs(unittest.TestCase):
    def test_no_graph_holds_a_slow_pattern(self):
        for task, model, folder in own_models():
            with self.subTest(folder.name):
                proto = onnx.load_model_from_string(content(folder))
                kinds = [node.op_type for node in proto.graph.node]
                self.assertFalse({"ZipMap", "Scan", "Loop", "If"} & set(kinds))
                self.assertLessEqual(len(kinds), 10 if "forest" in model["name"] else 35)
                self.assertLess(len(content(folder)), 4_000_000)
                self.assertEqual({(item.domain, item.version) for item in proto.opset_import} - set(graph.OPSETS), set())

    def test_metadata_says_what_the_file_is(self):
        for task, model, folder in own_models():
            with self.subTest(folder.name):
                said = {item.key: item.value for item in onnx.load_model_from_string(content(folder)).metadata_props}
                self.assertEqual((said["task"], said["model"], said["version"]), (task.name, model["name"], str(VERSION)))
                self.assertEqual(said["trained_with"], model["versions"][str(VERSION)]["trained_with"])
                self.assertEqual(said["features"].replace("[60]", "").split(","), task.fields)

    def test_inputs_and_outputs_have_the_contracts_shape(self):
        for task, model, folder in every_model():
            with self.subTest(folder.name):
                running = bench.session(content(folder))
                (only,) = running.get_inputs()
                self.assertEqual((only.type, only.shape[1]), ("tensor(float)", task.width))
                answer = bench.predict(content(folder), likely_rows(task, 3), model["output"]["name"])
                self.assertEqual(answer.shape, (3, len(task.classes) or 1))
                self.assertEqual(answer.dtype, np.float32)

    def test_batched_rows_equal_single_rows(self):
        for task, model, folder in every_model():
            rows = likely_rows(task, 32)
            single = bench.predict(content(folder), rows, model["output"]["name"], batch=1)
            self.assertTrue(np.isfinite(single).all(), folder.name)
            for batch in (2, 3, 32):
                with self.subTest(f"{folder.name} in {batch}s"):
                    batched = bench.predict(content(folder), rows, model["output"]["name"], batch=batch)
                    np.testing.assert_allclose(batched, single, rtol=1e-6, atol=1e-6)


class Parity(unittest.TestCase):
    def test_graphs_answer_as_their_originals_did(self):
        for _, model, folder in every_model():
            with self.subTest(folder.name):
                path = folder / str(VERSION) / "parity.json"
                self.assertLess(path.stat().st_size, 300_000)
                parity = json.loads(path.read_text())
                inputs, wanted = (np.array(parity[key]) for key in ("inputs", "outputs"))
                np.testing.assert_array_equal(inputs, inputs.astype(np.float32), "inputs are float32 values")
                answer = bench.predict(content(folder), inputs, model["output"]["name"])
                np.testing.assert_allclose(answer, wanted, rtol=0, atol=TOLERANCE)

    def test_probabilities_sum_to_one(self):
        for task, model, folder in every_model():
            if model["output"]["kind"] == "probabilities":
                with self.subTest(folder.name):
                    answer = bench.predict(content(folder), likely_rows(task, 16), "probabilities")
                    np.testing.assert_allclose(answer.sum(axis=1), 1.0, atol=1e-5)


class Pump(unittest.TestCase):
    def test_the_two_example_readings_come_out_as_promised(self):
        for name in ("isolation_forest", "lof", "autoencoder"):
            with self.subTest(name):
                output = load_model("pump-anomaly", name, ROOT)["output"]
                score = bench.predict(content(ROOT / "pump-anomaly" / name), pump_train.EXAMPLES, "score")[:, 0]
                self.assertLess(score[0], output["threshold"])
                self.assertGreater(score[1], output["threshold"])

    def test_accuracies_are_those_of_the_files(self):
        test = pump_train.test_readings()
        for name in ("isolation_forest", "lof", "autoencoder"):
            with self.subTest(name):
                model = load_model("pump-anomaly", name, ROOT)
                answer = bench.predict(content(ROOT / "pump-anomaly" / name), test.rows, "score")[:, 0]
                found = answer > model["output"]["threshold"]
                recalls = [found[test.anomalous].mean(), (~found[~test.anomalous]).mean()]
                self.assertAlmostEqual(float(np.mean(recalls)), model["versions"][str(VERSION)]["accuracy"], delta=1e-3)

    def test_the_autoencoder_rebuilds_ordinary_readings_in_their_units(self):
        folder = ROOT / "pump-anomaly" / "autoencoder"
        rebuilt = bench.predict(content(folder), pump_train.EXAMPLES, "reconstruction")
        self.assertEqual(rebuilt.shape, (2, len(pump.FIELDS)))
        np.testing.assert_allclose(rebuilt[0], pump_train.EXAMPLES[0], rtol=0.1, atol=0.1)

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
                    answer = bench.predict(content(ROOT / name / model), rows, "probabilities").argmax(axis=1)
                    right = float(np.mean([task.classes[number] == label for number, label in zip(answer, truth, strict=True)]))
                    self.assertAlmostEqual(right, entry["replay_accuracy"], delta=1e-6)


if __name__ == "__main__":
    unittest.main()
