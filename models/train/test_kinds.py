"""Checks what is particular to a kind of task: text, regression, forecast, generation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest

import numpy as np

import accumulator
import char_lm
import hydraulic
import machine_temperature
import reviews
import sentiment
from repository import SEED
from test_models import REPORT, ROOT, served

# Half a minute for all checks: enough rows to tell, not all there are.
SOME = 1_500


def needs(absent: str | None) -> None:
    if absent:
        print(f"\nskipped what needs it: {absent}")
        raise unittest.SkipTest(absent)


def reported(task: str) -> dict:
    return json.loads(REPORT.read_text())["tasks"][task]


class Sentiment(unittest.TestCase):
    def test_plain_words_are_understood_by_every_version(self):
        plain = np.array([["The picture is great, I love it!"], ["Terrible. It broke and the support was useless."]], object)
        for model, number in (("tfidf_logreg", 1), ("tfidf_logreg", 2), ("word_letter_logreg", 1)):
            answer = served("sentiment", model, number).predict(plain)
            self.assertEqual(answer.argmax(axis=1).tolist(), [1, 0], f"{model} {number}")

    def test_capitals_do_not_matter_and_nothing_known_is_the_bias_alone(self):
        for model in ("tfidf_logreg", "word_letter_logreg"):
            entry = served("sentiment", model)
            rows = np.array([["good sound"], ["GOOD SOUND"], [""], ["   "], ["\U0001f600" * 30], ["좋은제품" * 9]], object)
            answer = entry.predict(rows)
            np.testing.assert_array_equal(answer[0], answer[1])
            np.testing.assert_array_equal(answer[2], entry.predict(rows[2:3])[0])
            self.assertTrue(np.isfinite(answer).all())

    def test_a_text_of_the_greatest_length_is_answered(self):
        longest = sentiment.made_up_texts()[-1:]
        most = served("sentiment", "tfidf_logreg").task.table["fields"][0]["max_length"]
        self.assertEqual(len(longest[0, 0].encode()), most)
        # Four bytes a sign, and every one a token of its own.
        signs = np.array([["\U0001f600" * (most // 4)]], object)
        for model in ("tfidf_logreg", "word_letter_logreg"):
            entry = served("sentiment", model)
            self.assertTrue(np.isfinite(entry.predict(np.concatenate([longest, signs]))).all(), model)

    def test_the_graphs_load_and_answer_the_same_where_there_is_no_locale(self):
        code = (
            "import sys, numpy, onnxruntime as ort\n"
            "for path in sys.argv[1:]:\n"
            "    running = ort.InferenceSession(path, providers=['CPUExecutionProvider'])\n"
            "    rows = numpy.array([['GOOD \\u00c4 \\U0001f600'], ['']], object)\n"
            "    print(running.run(['probabilities'], {'text': rows})[0].tolist())\n"
        )
        paths = [str(path) for path in sorted((ROOT / "sentiment").glob("*/*/model.onnx"))]
        self.assertTrue(paths)
        bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LANG": "C", "LOCPATH": "/nonexistent", "PYTHONUTF8": "0"}
        answers = [
            subprocess.run([sys.executable, "-c", code, *paths], env=env, check=True, capture_output=True, text=True).stdout
            for env in (bare, {**os.environ})
        ]
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(len(answers[0].splitlines()), len(paths))

    def test_the_accuracies_are_those_of_the_files(self):
        needs(reviews.missing())
        data = reviews.read()
        test = reviews.held_out(0.3, SEED) & (np.abs(data.ratings) >= sentiment.SIDE)
        for model, number in (("tfidf_logreg", 1), ("tfidf_logreg", 2), ("word_letter_logreg", 1)):
            with self.subTest(f"{model} {number}"):
                entry = served("sentiment", model, number)
                answer = entry.predict(data.texts[test][:, None]).argmax(axis=1)
                self.assertEqual(answer.size, entry.record["samples"])
                self.assertAlmostEqual(float(np.mean(answer == (data.ratings[test] > 0))), entry.record["accuracy"], delta=2e-3)

    def test_tokens_are_cut_alike_in_python_and_in_the_graph(self):
        """All held-out sentences and the odd texts, against a model trained again on the spot."""
        needs(reviews.missing())
        data, test = reviews.read(), reviews.held_out(0.3, SEED)
        recipe = sentiment.RECIPES[1]
        fitted = sentiment.Fitted(recipe, data.texts[~test], data.ratings[~test])
        texts = np.concatenate([data.texts[test], sentiment.made_up_texts()[:, 0]])
        answer = served("sentiment", recipe.model, recipe.version).predict(texts[:, None])
        np.testing.assert_allclose(answer, fitted.probabilities(texts), atol=1e-4)


class Accumulator(unittest.TestCase):
    def test_the_record_beats_a_constant(self):
        for name, entry in reported(accumulator.NAME).items():
            self.assertLess(entry["loss"], 0.6 * entry["baseline_loss"], name)

    def test_the_shares_within_the_tolerance_are_those_of_the_files(self):
        needs(hydraulic.missing())
        rows, truth, test = accumulator.held_out()
        for name in reported(accumulator.NAME):
            entry = served(accumulator.NAME, name)
            error = np.abs(entry.predict(rows[test])[:, 0] - truth[test])
            share = float(np.mean(error <= entry.task.table["target"]["tolerance"]))
            self.assertAlmostEqual(share, entry.record["accuracy"], delta=2e-3, msg=name)
            self.assertAlmostEqual(float(error.mean()), entry.record["loss"], delta=1e-2, msg=name)


class MachineTemperature(unittest.TestCase):
    def test_the_record_beats_the_naive_forecast_now_and_two_hours_ahead(self):
        for name, entry in reported(machine_temperature.NAME).items():
            self.assertLess(entry["loss"], 0.95 * entry["baseline_loss"], name)
            self.assertLess(entry["ahead_loss"], entry["ahead_baseline_loss"], name)
            self.assertGreater(entry["accuracy"], 0.5, name)

    def test_a_still_series_stays_where_it_is(self):
        for name in reported(machine_temperature.NAME):
            entry = served(machine_temperature.NAME, name)
            for level in (-50.0, 0.0, 80.0, 250.0):
                rows = np.full((1, entry.task.width), level)
                self.assertLess(abs(float(entry.predict(rows)[0, 0]) - level), 1.0, f"{name} at {level}")

    def test_the_longest_forecast_keeps_within_the_accepted_range(self):
        rows = machine_temperature.made_up_windows(48, 16)
        for name in reported(machine_temperature.NAME):
            entry = served(machine_temperature.NAME, name)
            table = entry.task.table["forecast"]
            found = machine_temperature.iterated(entry.content, rows, table["max_steps"])
            self.assertTrue(((found >= table["min"]) & (found <= table["max"])).all(), name)

    def test_the_errors_are_those_of_the_files(self):
        needs(machine_temperature.missing())
        series = machine_temperature.values()
        for name in reported(machine_temperature.NAME):
            entry = served(machine_temperature.NAME, name)
            rows, truth = machine_temperature.windows(machine_temperature.split(series)[1], entry.task.width)
            error = np.abs(entry.predict(rows)[:, 0] - truth)
            self.assertEqual(truth.size, entry.record["samples"])
            self.assertAlmostEqual(float(error.mean()), entry.record["loss"], delta=1e-3, msg=name)
            self.assertLess(error.mean(), np.abs(rows[:, -1] - truth).mean(), name)


class CharLm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.entry = served(char_lm.NAME, "causal_conv")
        cls.alphabet = cls.entry.task.table["generation"]["alphabet"]

    def test_logits_are_finite_and_nothing_is_never_the_answer(self):
        rows = char_lm.made_up_windows(self.alphabet)
        logits = self.entry.predict(rows)
        self.assertTrue(np.isfinite(logits).all())
        chosen = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.assertLess((chosen / chosen.sum(axis=1, keepdims=True))[:, 0].max(), 1e-30)

    def test_ids_that_are_none_give_an_answer_and_no_error(self):
        rows = np.zeros((4, self.entry.task.width), np.float32)
        rows[0, -1], rows[1, -1], rows[2, -1], rows[3, -1] = -5.0, 9_999.0, np.inf, np.nan
        self.assertTrue(np.isfinite(self.entry.predict(rows)).all())

    def test_it_writes_words(self):
        text = char_lm.write(self.entry.content, "the battery ", self.alphabet, 160)
        known = {"the", "and", "is", "it", "to", "of", "a", "i", "camera", "player", "this", "you", "for", "that", "in", "not"}
        words = text.split()
        self.assertGreater(len(words), 20, text)
        self.assertGreater(sum(word in known for word in words) / len(words), 0.2, text)

    def test_the_loss_is_that_of_the_file(self):
        needs(reviews.missing())
        stream = char_lm.test_stream(self.alphabet)
        bits, right, count = char_lm.measured(char_lm.by_graph(self.entry.content), stream[: SOME * 8])
        self.assertAlmostEqual(bits, self.entry.record["loss"], delta=0.1)
        self.assertAlmostEqual(right, self.entry.record["accuracy"], delta=0.03)
        self.assertGreater(count, SOME)
        # A character drawn by its frequency alone takes more than four bits.
        self.assertLess(self.entry.record["loss"], 2.6)


if __name__ == "__main__":
    unittest.main()
