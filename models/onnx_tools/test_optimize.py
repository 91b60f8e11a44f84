"""Checks the rewrites on the exports that also test the Rust command; from the folder `models`:

`python -m unittest onnx_tools.test_optimize`, in the environment that `models/train/run` makes.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_tools import optimize as rewrite
from onnx_tools import parity
from onnx_tools.edit import attributes

FIXTURES = Path(__file__).parents[2] / "worker-native" / "tests" / "fixtures"


def load(name: str) -> onnx.ModelProto:
    return onnx.load(FIXTURES / f"{name}.onnx")


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


class Rewrites(unittest.TestCase):
    def rewritten(self, name: str):
        before = load(name)
        after, report = rewrite(before)
        onnx.checker.check_model(after)
        self.assertEqual([each.name for each in before.graph.output], [each.name for each in after.graph.output])
        sample = json.loads((FIXTURES / f"{name}.json").read_text())
        rows = np.array(sample["inputs"])
        self.assertIsNone(parity.compare(before, after, rows, report.zip_maps))
        return after, report

    def test_an_isolation_forest_becomes_one_ensemble_and_answers_bit_by_bit_the_same(self):
        after, report = self.rewritten("stock_iforest")
        self.assertEqual(report.trees, 20)
        self.assertEqual(kinds(after), ["TreeEnsembleRegressor", "Div", "Pow", "Sub", "Less", "Where"])
        rows = parity.likely_rows(load("stock_iforest"), 7, 500, 3).astype(np.float32)
        for was, now in zip(*(parity.session(m).run(None, {"X": rows}) for m in (load("stock_iforest"), after)), strict=True):
            np.testing.assert_array_equal(was, now)

    def test_trees_that_see_some_columns_in_another_order_are_fused_too(self):
        before = load("stock_iforest")
        gathers = [node for node in before.graph.node if node.op_type == "Gather"]
        order = numpy_helper.from_array(np.array([6, 5, 4, 3, 2, 1, 0], np.int64), "order")
        before.graph.initializer.append(order)
        gathers[0].input[1] = "order"
        after, report = rewrite(before)
        self.assertEqual(report.trees, 20)
        self.assertIsNone(parity.compare(before, after))

    def test_a_forest_with_an_unknown_node_is_left_alone(self):
        before = load("stock_iforest")
        next(node for node in before.graph.node if node.op_type == "Log").op_type = "Cos"
        after, report = rewrite(before)
        self.assertEqual(report.trees, 0)
        self.assertIn("Cos", kinds(after))

    def test_the_distance_loop_becomes_cdist(self):
        after, report = self.rewritten("stock_lof")
        self.assertEqual(report.distances, 1)
        self.assertNotIn("Scan", kinds(after))
        node = next(node for node in after.graph.node if node.op_type == "CDist")
        self.assertEqual((node.domain, attributes(node)["metric"]), ("com.microsoft", b"euclidean"))

    def test_far_rows_move_to_the_middle_and_far_clouds_want_the_exact_form(self):
        def moved(by: np.ndarray) -> onnx.ModelProto:
            model = load("stock_lof")
            tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "Sc_Scancst")
            points = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((points + by).astype(np.float32), tensor.name))
            return model

        far = moved(np.array(1000.0))
        self.assertIsNone(parity.compare(far, rewrite(far)[0]))
        clouds = moved(np.arange(200)[:, None] % 2 * 5000.0)
        self.assertIsNotNone(parity.compare(clouds, rewrite(clouds)[0]))
        after, report = rewrite(clouds, "exact")
        self.assertEqual(report.distances, 1)
        self.assertIsNone(parity.compare(clouds, after))

    def test_a_loop_over_other_distances_is_left_alone(self):
        before = load("stock_lof")
        scan = next(node for node in before.graph.node if node.op_type == "Scan")
        body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
        next(node for node in body.node if node.op_type == "Sub").op_type = "Add"
        self.assertEqual(rewrite(before)[1].distances, 0)

    def test_a_zip_map_leaves_a_tensor_of_its_name(self):
        for name, classes in (("zipmap_logreg", [0, 1, 2]), ("zipmap_logreg_names", ["blue", "green", "red"])):
            after, report = self.rewritten(name)
            self.assertEqual(report.zip_maps, {"output_probability": classes})
            tensor = after.graph.output[1].type.tensor_type
            self.assertEqual((tensor.elem_type, tensor.shape.dim[1].dim_value), (onnx.TensorProto.FLOAT, 3))

    def test_a_network_of_seven_outputs_answers_in_seven_columns(self):
        after, report = self.rewritten("mlp_fixed_reshape")
        self.assertEqual(report.reshapes, {"variable": 7})
        answer = parity.session(after).run(None, {"X": np.zeros((3, 7), np.float32)})[0]
        self.assertEqual(answer.shape, (3, 7))

    def test_the_committed_models_are_already_good(self):
        for file in sorted(Path(__file__).parents[1].glob("*/*/*/model.onnx")):
            report = rewrite(onnx.load(file))[1]
            self.assertFalse(report.trees or report.distances or report.zip_maps or report.reshapes, file)


class Parity(unittest.TestCase):
    def test_a_wrong_leaf_is_found(self):
        before = load("stock_iforest")
        after, _ = rewrite(before)
        weights = next(each for each in after.graph.node[0].attribute if each.name == "target_weights")
        for index in range(len(weights.floats)):
            weights.floats[index] *= 1.001
        self.assertIsNotNone(parity.compare(before, after))


class Command(unittest.TestCase):
    def run_command(self, *arguments: object) -> tuple[int, str]:
        said = io.StringIO()
        with mock.patch("sys.argv", ["optimize", *map(str, arguments)]):
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as end:
                # As `python -m` does it, without putting the module in the place of the function of its name.
                runpy.run_module("onnx_tools.optimize", run_name="__main__")
        return end.exception.code, said.getvalue()

    def test_it_writes_beside_the_input_and_not_over_it(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            file.write_bytes((FIXTURES / "stock_lof.onnx").read_bytes())
            code, said = self.run_command(file)
            self.assertEqual(code, 0, said)
            self.assertTrue((Path(folder) / "model.optimized.onnx").is_file())
            self.assertEqual(self.run_command(file, "-o", file)[0], 1)
            self.assertEqual(file.read_bytes(), (FIXTURES / "stock_lof.onnx").read_bytes())

    def test_it_writes_nothing_where_the_answers_differ(self):
        with tempfile.TemporaryDirectory() as folder:
            # Two classes of one name: a map has one value for both, the tensor has two.
            model = load("zipmap_logreg")
            node = next(node for node in model.graph.node if node.op_type == "ZipMap")
            node.attribute[0].ints[:] = [0, 0, 2]
            file, out = Path(folder) / "model.onnx", Path(folder) / "out.onnx"
            onnx.save(model, file)
            code, said = self.run_command(file, "-o", out)
            self.assertEqual((code, out.exists()), (1, False), said)
            self.assertIn("the answers differ", said)


if __name__ == "__main__":
    unittest.main()
