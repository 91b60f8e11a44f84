"""A small causal network over characters, in NumPy for training and as ONNX nodes for serving.

After WaveNet (van den Oord and others, 2016) without its gates: each layer joins a position with the one
`dilation` before it and adds what comes out to what went in.  Six layers with the dilations 1, 2, 4 … 32
see 64 characters.  Training runs over whole stretches at once; the graph, which only wants the answer to
the last position, computes in each layer every second position of the one before and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from graph import Graph, linear

DILATIONS = (1, 2, 4, 8, 16, 32)
WINDOW = 2 * DILATIONS[-1]
# What the answer for id 0, which stands for nothing, is fixed to: no sampling can draw it.
NEVER = -100.0


@dataclass
class Layer:
    """relu(earlier @ weights[:C] + here @ weights[C:] + bias), added to `here`."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass
class Network:
    embedding: np.ndarray
    layers: list[Layer]
    weights: np.ndarray
    bias: np.ndarray

    @classmethod
    def draw(cls, ids: int, channels: int, rng: np.random.Generator) -> Network:
        def normal(*shape: int, scale: float) -> np.ndarray:
            return (scale * rng.standard_normal(shape)).astype(np.float32)

        layers = [
            Layer(normal(2 * channels, channels, scale=channels**-0.5), np.zeros(channels, np.float32)) for _ in DILATIONS
        ]
        last = normal(channels, ids, scale=0.1 * channels**-0.5)
        return cls(normal(ids, channels, scale=0.5), layers, last, np.zeros(ids, np.float32))

    def parameters(self) -> list[np.ndarray]:
        inner = (part for layer in self.layers for part in (layer.weights, layer.bias))
        return [self.embedding, *inner, self.weights, self.bias]

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """[N, T] ids to [N, T - 63, ids]: the answers to all positions that see a whole window."""
        flow = self.embedding[ids]
        for layer, dilation in zip(self.layers, DILATIONS, strict=True):
            flow = flow[:, dilation:] + np.maximum(_joined(flow, dilation) @ layer.weights + layer.bias, 0.0)
        answer = flow @ self.weights + self.bias
        answer[..., 0] = NEVER
        return answer

    def gradients(self, ids: np.ndarray, wanted: np.ndarray, drop: float, rng: np.random.Generator) -> list[np.ndarray]:
        """Of the mean cross entropy over `wanted` [N, T - 63]; positions that want id 0 do not count."""
        tape, flow = [], self.embedding[ids]
        for layer, dilation in zip(self.layers, DILATIONS, strict=True):
            joined = _joined(flow, dilation)
            open_ = joined @ layer.weights + layer.bias
            # What passes: where relu is open, and a random share of it, made larger to weigh the same.
            mask = (open_ > 0) & (rng.random(open_.shape, dtype=np.float32) > drop)
            factor = mask * np.float32(1.0 / (1.0 - drop))
            tape.append((joined, factor))
            flow = flow[:, dilation:] + open_ * factor
        columns = flow.shape[2]
        flat, wanted = flow.reshape(-1, columns), wanted.ravel()
        error = _softmax(flat @ self.weights + self.bias)
        error[np.arange(wanted.size), wanted] -= 1.0
        error *= ((wanted > 0) / np.float32(max(1, (wanted > 0).sum())))[:, None]
        found = [flat.T @ error, error.sum(axis=0)]
        back = (error @ self.weights.T).reshape(flow.shape)
        for layer, dilation, (joined, factor) in zip(self.layers[::-1], DILATIONS[::-1], tape[::-1], strict=True):
            inner = (back * factor).reshape(-1, columns)
            found[:0] = [joined.reshape(-1, 2 * columns).T @ inner, inner.sum(axis=0)]
            apart = (inner @ layer.weights.T).reshape(joined.shape)
            below = np.zeros((back.shape[0], back.shape[1] + dilation, columns), np.float32)
            below[:, dilation:] = back + apart[..., columns:]
            below[:, :-dilation] += apart[..., :columns]
            back = below
        one_hot = np.zeros((ids.size, len(self.embedding)), np.float32)
        one_hot[np.arange(ids.size), ids.ravel()] = 1.0
        return [one_hot.T @ back.reshape(-1, columns), *found]

    def graph(self, source: str) -> Graph:
        """One window a row, its ids as float32, to `logits` [N, ids]."""
        ids, columns = self.embedding.shape
        graph = Graph(WINDOW, source=source)
        whole = graph.node("Cast", [source], "whole", to=TensorProto.INT64)
        # Whatever comes in, an id outside the alphabet is none that `Gather` ever sees.
        least, most = graph.constant("least", np.array(0, np.int64)), graph.constant("most", np.array(ids - 1, np.int64))
        known = graph.node("Clip", [whole, least, most], "known")
        flow = graph.node("Gather", [graph.constant("embedding", self.embedding), known], "embedded", axis=0)
        sizes = graph.constant("halves", np.array([columns, columns], np.int64))
        for number, (layer, length) in enumerate(zip(self.layers, (WINDOW >> (n + 1) for n in range(6)), strict=True)):
            pairs = graph.constant(f"pairs{number}_shape", np.array([-1, length, 2 * columns], np.int64))
            joined = graph.node("Reshape", [flow, pairs], f"pairs{number}")
            # Which of a pair stands later is its second half.
            _, here = graph.nodes("Split", [joined, sizes], [f"earlier{number}", f"here{number}"], axis=2)
            product = graph.node("MatMul", [joined, graph.constant(f"weights{number}", layer.weights)], f"product{number}")
            total = graph.node("Add", [product, graph.constant(f"bias{number}", layer.bias)], f"sum{number}")
            open_ = graph.node("Relu", [total], f"open{number}")
            flow = graph.node("Add", [here, open_], f"layer{number}")
        weights, bias = self.weights.copy(), self.bias.copy()
        weights[:, 0], bias[0] = 0.0, NEVER
        linear(graph, graph.node("Flatten", [flow], "last", axis=1), weights.T, bias, "logits")
        return graph


def _joined(flow: np.ndarray, dilation: int) -> np.ndarray:
    return np.concatenate([flow[:, :-dilation], flow[:, dilation:]], axis=2)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class Adam:
    """Kingma and Ba (2014) with decoupled weight decay, a warm-up, and a cosine down to nothing."""

    def __init__(self, parameters: list[np.ndarray], step: float, steps: int, decay: float = 0.05) -> None:
        self.parameters, self.step, self.steps, self.decay = parameters, step, steps, decay
        self.first = [np.zeros_like(part) for part in parameters]
        self.second = [np.zeros_like(part) for part in parameters]
        self.done = 0

    def update(self, gradients: list[np.ndarray]) -> None:
        self.done += 1
        at = self.done
        norm = float(np.sqrt(sum(float(np.vdot(part, part)) for part in gradients)))
        shrink = np.float32(min(1.0, 1.0 / max(norm, 1e-12)))
        step = self.step * min(1.0, at / 100) * (0.505 + 0.495 * np.cos(np.pi * at / self.steps))
        for part, first, second, gradient in zip(self.parameters, self.first, self.second, gradients, strict=True):
            gradient = gradient * shrink
            first += np.float32(0.1) * (gradient - first)
            second += np.float32(0.01) * (gradient * gradient - second)
            moved = first / np.float32(1 - 0.9**at) / (np.sqrt(second / np.float32(1 - 0.99**at)) + np.float32(1e-8))
            part -= np.float32(step) * (moved + np.float32(self.decay) * part)
