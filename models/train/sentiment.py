"""Trains `sentiment`: does a sentence of a product review speak well or badly of the product?

The ratings are means of twenty people's, from -4 to 4.  A sentence rated within half a point of zero takes
no side and is in no test.  Reviews are held out whole, since sentences of one review share its words.
The vocabularies hold runs of words that stand in several sentences, and no sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

import bench
import reviews
import scores
import text_graph
from repository import SEED, Trained, load_task, metadata
from text_graph import WORD, WORD_OR_SIGN, Tokens

NAME = "sentiment"
missing = reviews.missing
EVALUATION = "the sentences rated 0.5 or more from zero in the 30 % of all reviews that a random choice, seed 7, kept from training"
SIDE = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a version is made of: bags of tokens with the number of sentences a gram must stand in."""

    model: str
    version: int
    tier: str
    description: str
    bags: tuple[tuple[Tokens, int], ...]
    strength: float
    # Learn from weakly rated sentences too, each as strongly as it is rated.
    graded: bool


WORDS = Tokens("words", WORD, 1, 1)
PAIRS = Tokens("pairs", WORD_OR_SIGN, 1, 2)
LETTERS = Tokens("letters", None, 3, 5)
RECIPES = (
    Recipe(
        "tfidf_logreg", 1, "fast", "Logistic regression on single words, weighed by their rarity.",
        ((WORDS, 2),), 1.0, False,
    ),
    Recipe(
        "tfidf_logreg", 2, "fast", "Logistic regression on words, signs and pairs of them, weighed by their rarity.",
        ((PAIRS, 2),), 3.0, True,
    ),
    Recipe(
        "word_letter_logreg", 1, "accurate",
        "Logistic regression on words, pairs of words, and runs of 3 to 5 letters: knows parts of words it never saw.",
        ((PAIRS, 2), (LETTERS, 5)), 2.0, True,
    ),
)  # fmt: skip


class Fitted:
    def __init__(self, recipe: Recipe, texts: np.ndarray, ratings: np.ndarray) -> None:
        learn = np.abs(ratings) > 0.1 if recipe.graded else np.abs(ratings) >= SIDE
        texts, ratings = texts[learn], ratings[learn]
        self.bags = [(tokens, tokens.vectorizer(min_df=least)) for tokens, least in recipe.bags]
        for _, vectorizer in self.bags:
            vectorizer.fit(texts)
        weight = np.minimum(np.abs(ratings), 2.0) if recipe.graded else None
        self.model = LogisticRegression(C=recipe.strength, max_iter=2_000, class_weight="balanced")
        self.model.fit(self._features(texts), ratings > 0, sample_weight=weight)

    def _features(self, texts: np.ndarray):
        from scipy.sparse import hstack

        return hstack([vectorizer.transform(texts) for _, vectorizer in self.bags]).tocsr()

    def probabilities(self, texts: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(self._features(texts))

    def graph(self, recipe: Recipe, data: dict[str, str]):
        graph = text_graph.text_graph()
        lower = text_graph.start(graph)
        weights = np.split(self.model.coef_[0], np.cumsum([len(v.vocabulary_) for _, v in self.bags])[:-1])
        margins = [
            text_graph.margin(graph, lower, tokens, vectorizer, part)
            for (tokens, vectorizer), part in zip(self.bags, weights, strict=True)
        ]
        text_graph.probabilities(graph, margins, float(self.model.intercept_[0]))
        return graph.finish(recipe.model, {"probabilities": 2}, data)


def train(say) -> list[Trained]:
    task = load_task(NAME)
    data = reviews.read()
    test = reviews.held_out(0.3, SEED)
    result = []
    for recipe in RECIPES:
        fitted = Fitted(recipe, data.texts[~test], data.ratings[~test])
        said = metadata(task, recipe.model, reviews.CREDIT, version=recipe.version)
        proto = fitted.graph(recipe, said)
        model = _judge(task, recipe, fitted, proto, data, test & (np.abs(data.ratings) >= SIDE))
        model = replace(model, regimes={"5 folds of whole reviews": _folds(recipe, data)})
        say(f"{NAME}/{recipe.model} {recipe.version}: accuracy {model.accuracy:.4f} {model.regimes}")
        result.append(model)
    return result


def _folds(recipe: Recipe, data: reviews.Reviews) -> float:
    right = np.zeros(data.ratings.size, bool)
    for learn, test in GroupKFold(5).split(data.texts, groups=data.review):
        fitted = Fitted(recipe, data.texts[learn], data.ratings[learn])
        right[test] = (fitted.probabilities(data.texts[test])[:, 1] > 0.5) == (data.ratings[test] > 0)
    return float(right[np.abs(data.ratings) >= SIDE].mean())


def _judge(task, recipe: Recipe, fitted: Fitted, proto, data: reviews.Reviews, test: np.ndarray) -> Trained:
    content = proto.SerializeToString(deterministic=True)
    texts, truth = data.texts[test], (data.ratings[test] > 0).astype(int)
    shipped = bench.predict(content, texts[:, None], "probabilities")
    answer = shipped.argmax(axis=1)
    odd = bench.predict(content, made_up_texts(), "probabilities")
    gaps = [np.abs(shipped - fitted.probabilities(texts)), np.abs(odd - fitted.probabilities(made_up_texts()[:, 0]))]
    kept = made_up_texts()[:-1]
    return Trained(
        task=task,
        name=recipe.model,
        version=recipe.version,
        description=recipe.description,
        tier=recipe.tier,
        type="sklearn",
        proto=proto,
        output={"kind": "probabilities", "name": "probabilities"},
        parity_inputs=kept,
        parity_outputs=fitted.probabilities(kept[:, 0]),
        parity_error=float(max(gap.max() for gap in gaps)),
        accuracy=scores.accuracy(truth, answer),
        samples=int(test.sum()),
        evaluation=EVALUATION,
        data=reviews.CREDIT,
        bench_rows=texts[:, None],
        details={
            "labels": task.classes,
            "confusion": scores.confusion(truth, answer, 2),
            "balanced_accuracy": round(scores.balanced_accuracy(truth, answer), 4),
        },
    )


def made_up_texts() -> np.ndarray:
    """[N, 1] texts that nobody wrote in a review, with all that a tokenizer may stumble over; the last is the longest."""
    texts = [
        "The picture is great and the sound is even better.",
        "It broke after two days, and the support was no help at all!",
        "NOT good. Not good at all... NEVER AGAIN",
        "Works fine; does what it says.",
        "i don't like the battery - it can't hold a charge",
        "excellent, excellent, excellent",
        "",
        "   \t\n ",
        "zzxqy wvut qqqq",
        "?!?! ... --- ***",
        "Größe und Gewicht sind gut, aber très cher \U0001f600\U0001f44d",
        "좋은 제품\u3000よい\u00a0製品",
        "a",
        "it's o'clock ''quoted'' 'n' 24/7 100% $5.99 (a+b)",
        "tab\tseparated\r\nlines\nand\x0bvertical \x1f control",
        "İstanbul ǅ ß \u0301 combining",
    ]
    longest = ("The battery is bad but the screen is really good, I love it! " * 200)[:10_000]
    return np.array([*texts, longest], object)[:, None]
