"""Bags of words and of characters, once in Python for training and once as ONNX nodes, with the same answer.

Only A to Z are made lower case.  That is what the locale `C` does, the one locale that every machine has:
a StringNormalizer without a locale asks for en_US.UTF-8, and a slim container then cannot load the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from sklearn.feature_extraction.text import TfidfVectorizer

from graph import Graph

INPUT = "text"
_LOWER = str.maketrans({letter: letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})


@dataclass(frozen=True)
class Tokens:
    """How a text is cut, and which runs of tokens count; `pattern` is read alike by `re` and by RE2."""

    name: str
    # None: every character is a token.
    pattern: str | None
    shortest: int
    longest: int

    def cut(self, text: str) -> list[str]:
        lower = text.translate(_LOWER)
        return list(lower) if self.pattern is None else re.findall(self.pattern, lower)

    def grams(self, text: str) -> list[tuple[str, ...]]:
        tokens = self.cut(text)
        return [
            tuple(tokens[at : at + size])
            for size in range(self.shortest, self.longest + 1)
            for at in range(len(tokens) - size + 1)
        ]

    def vectorizer(self, **options) -> TfidfVectorizer:
        """Marks which grams a text holds, weighs each by its rarity, and gives the row the length 1."""
        return TfidfVectorizer(analyzer=self.grams, binary=True, **options)


WORD = "[a-z0-9']+"
# A sign is a token of its own; white space parts tokens and is none.
WORD_OR_SIGN = WORD + "|[^a-z0-9' \\t\\r\\n]"


def start(graph: Graph) -> str:
    """[N, 1] text to [N] in lower case."""
    flat = graph.node("Reshape", [INPUT, graph.constant("flat", np.array([-1], np.int64))], "flat_text")
    return graph.node(
        "StringNormalizer", [flat], "lower", case_change_action="LOWER", is_case_sensitive=1, locale="C"
    )


def text_graph() -> Graph:
    return Graph(1, source=INPUT, kind=TensorProto.STRING)


def margin(graph: Graph, lower: str, tokens: Tokens, fitted: TfidfVectorizer, weights: np.ndarray) -> str:
    """`weights` times the row of the vectorizer, [N, 1]; a text without a known gram gives 0."""
    cut = {"separators": [""]} if tokens.pattern is None else {"tokenexp": tokens.pattern}
    # Rows are filled up with the empty text, which is no token of the pool.
    found = graph.node(
        "Tokenizer", [lower], f"{tokens.name}_tokens", domain="com.microsoft", mark=0, mincharnum=1, pad_value="", **cut
    )
    pool, starts, columns = _pool(fitted.vocabulary_, tokens.longest)
    here = graph.node(
        "TfIdfVectorizer",
        [found],
        f"{tokens.name}_weights",
        mode="IDF",
        min_gram_length=tokens.shortest,
        max_gram_length=tokens.longest,
        max_skip_count=0,
        pool_strings=pool,
        ngram_counts=starts,
        ngram_indexes=list(range(len(columns))),
        weights=fitted.idf_[columns].astype(np.float32).tolist(),
    )
    # The row's length is divided out at the end: one division instead of one for each column.
    column = graph.constant(f"{tokens.name}_coefficients", weights[columns][:, None])
    total = graph.node("MatMul", [here, column], f"{tokens.name}_total")
    length = graph.node("ReduceL2", [here], f"{tokens.name}_length", axes=[1], keepdims=1)
    tiny = graph.constant(f"{tokens.name}_tiny", np.array([1e-6]))
    above_zero = graph.node("Max", [length, tiny], f"{tokens.name}_above_zero")
    return graph.node("Div", [total, above_zero], f"{tokens.name}_margin")


def _pool(vocabulary: dict[tuple[str, ...], int], longest: int) -> tuple[list[str], list[int], np.ndarray]:
    """The grams' tokens one after the other, shortest grams first; where each length starts; the columns in that order."""
    ordered = sorted(vocabulary, key=lambda gram: (len(gram), gram))
    sizes = [sum(len(gram) * (len(gram) == size) for gram in ordered) for size in range(1, longest + 1)]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()
    return [token for gram in ordered for token in gram], starts, np.array([vocabulary[gram] for gram in ordered])


def probabilities(graph: Graph, margins: Sequence[str], bias: float) -> str:
    """[N, 2]: softmax of [0, margin] is the sigmoid of the margin, with both columns at once."""
    total = margins[0] if len(margins) == 1 else graph.node("Sum", list(margins), "total_margin")
    shifted = graph.node("Add", [total, graph.constant("bias", np.array([bias]))], "logit")
    both = graph.node("Mul", [shifted, graph.constant("sides", np.array([[0.0, 1.0]]))], "logits")
    return graph.node("Softmax", [both], "probabilities", axis=1)
