"""ROCKET: random convolution kernels turn a load cycle into numbers that a linear classifier can use.

After Dempster, Petitjean and Webb, "ROCKET: exceptionally fast and accurate time series classification
using random convolutional kernels" (2020).  Every kernel sees one channel and gives two features: the
proportion of positive values and the maximum.  Kernels of one length and dilation form one grouped
convolution, so 1,071 kernels cost nine nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graph import Graph

LENGTHS = (7, 9, 11)
DILATIONS = (1, 2, 4)
PER_CHANNEL = 7


@dataclass(frozen=True)
class Bank:
    """The kernels of one length and dilation: weights [channels, kernels, length], bias [channels, kernels]."""

    weights: np.ndarray
    bias: np.ndarray
    dilation: int

    @property
    def padding(self) -> int:
        return (self.weights.shape[2] - 1) * self.dilation // 2


def draw(channels: int, seed: int) -> list[Bank]:
    rng = np.random.default_rng(seed)
    banks = []
    for length in LENGTHS:
        for dilation in DILATIONS:
            weights = rng.standard_normal((channels, PER_CHANNEL, length))
            weights -= weights.mean(axis=2, keepdims=True)
            bias = rng.uniform(-1.0, 1.0, (channels, PER_CHANNEL))
            # As float32 from the start: the ONNX graph and this code then use the same kernels.
            banks.append(Bank(weights.astype(np.float32), bias.astype(np.float32), dilation))
    return banks


def features(series: np.ndarray, banks: list[Bank]) -> np.ndarray:
    """[rows, channels, time], already normalised, to [rows, 2 * kernels]: proportions first, then maxima."""
    proportions, maxima = [], []
    for bank in banks:
        padded = np.pad(series, ((0, 0), (0, 0), (bank.padding, bank.padding)))
        reach = (bank.weights.shape[2] - 1) * bank.dilation + 1
        windows = sliding_window_view(padded, reach, axis=2)[..., :: bank.dilation]
        for channel in range(series.shape[1]):
            answer = windows[:, channel] @ bank.weights[channel].T.astype(np.float64) + bank.bias[channel]
            proportions.append((answer > 0).mean(axis=1))
            maxima.append(answer.max(axis=1))
    return np.concatenate(proportions + maxima, axis=1)


def feature_nodes(graph: Graph, series: str, banks: list[Bank]) -> str:
    """The same in ONNX."""
    answers = []
    for number, bank in enumerate(banks):
        channels, kernels, length = bank.weights.shape
        weights = graph.constant(f"kernels{number}", bank.weights.reshape(channels * kernels, 1, length))
        bias = graph.constant(f"bias{number}", bank.bias.reshape(-1))
        answers.append(
            graph.node(
                "Conv",
                [series, weights, bias],
                f"answer{number}",
                group=channels,
                dilations=[bank.dilation],
                kernel_shape=[length],
                pads=[bank.padding, bank.padding],
            )
        )
    answer = graph.node("Concat", answers, "answer", axis=1)
    maxima = graph.node("ReduceMax", [answer], "maxima", axes=[2], keepdims=0)
    positive = graph.node("Greater", [answer, graph.constant("zero", np.array(0.0))], "positive")
    ones = graph.node("Cast", [positive], "ones", to=1)
    proportions = graph.node("ReduceMean", [ones], "proportions", axes=[2], keepdims=0)
    return graph.node("Concat", [proportions, maxima], "rocket_features", axis=1)
