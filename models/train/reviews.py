"""Reads the product reviews: sentences, each with a mean rating by people from -4 to 4.

Nothing of the file is ever written into the project but what a model learnt from it, and a vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import hydraulic

FILE = "amazonReviewSnippets_GroundTruth.txt"
CREDIT = "product review snippets of VADER, MIT, C.J. Hutto, E. Gilbert, ICWSM 2014"


def path() -> Path:
    return hydraulic.folder().parent / "reviews" / FILE


def missing() -> str | None:
    """A line that says what is missing, or nothing."""
    return None if path().is_file() else f"no reviews: {FILE} not found (set SENSOR_DATA_DIR)"


@dataclass(frozen=True)
class Reviews:
    """One entry a sentence: its words as they stand, its rating, and the number of the review it is from."""

    texts: np.ndarray
    ratings: np.ndarray
    review: np.ndarray


@cache
def read() -> Reviews:
    # Lines are `review_sentence <tab> rating <tab> text`.
    lines = [line.rstrip("\n").split("\t", 2) for line in path().read_text(encoding="utf-8").splitlines(keepends=True)]
    numbers = np.array([int(label.split("_")[0]) for label, _, _ in lines])
    return Reviews(np.array([text for *_, text in lines], object), np.array([float(r) for _, r, _ in lines]), numbers)


def held_out(share: float, seed: int) -> np.ndarray:
    """Which sentences are not trained on: those of whole reviews, as sentences of one review resemble each other."""
    reviews = np.unique(read().review)
    chosen = np.random.default_rng(seed).permutation(reviews)[: round(share * reviews.size)]
    return np.isin(read().review, chosen)
