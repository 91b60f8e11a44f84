"""Trains `char-lm`: which character comes next in a product review, and so texts of its own making.

A toy among language models, and made to be one: it shows generation step by step, at some tens of
microseconds a character on one core.  It learns spelling and short phrases from 300 KB of sentences.
"""

from __future__ import annotations

from functools import cache

import numpy as np

import bench
import char_net
import reviews
import scores
from char_net import WINDOW, Adam, Network
from repository import SEED, WINDOWS, Task, Trained, load_task, metadata

NAME = "char-lm"
missing = reviews.missing
INPUT = WINDOWS["generation"]
CHANNELS, STEPS, STEP, DROP = 96, 2_400, 0.006, 0.1
STRETCHES, LENGTH = 8, 256
CONTEXT = WINDOW - 1


def encode(text: str, alphabet: list[str]) -> np.ndarray:
    """Ids of the characters that the alphabet knows; the others are left out, in training as well as in the test."""
    number = {letter: index for index, letter in enumerate(alphabet)}
    return np.array([number[letter] for letter in text.lower() if letter in number], np.int64)


@cache
def _texts() -> tuple[list[str], list[str]]:
    """The reviews to learn from and those held out; a review's sentences stand one a line."""
    data, test = reviews.read(), reviews.held_out(0.1, SEED)
    parts: tuple[list[str], list[str]] = ([], [])
    for number in np.unique(data.review):
        of_it = data.review == number
        lines = [" ".join(text.split()) for text in data.texts[of_it]]
        parts[int(test[of_it][0])].append("\n" + "\n".join(lines) + "\n")
    return parts


def stream(texts: list[str], alphabet: list[str]) -> np.ndarray:
    """All texts in a row, each after as many empty places as a window needs to see nothing of the one before."""
    return np.concatenate([part for text in texts for part in (np.zeros(CONTEXT, np.int64), encode(text, alphabet))])


def test_stream(alphabet: list[str]) -> np.ndarray:
    return stream(_texts()[1], alphabet)


def train(say) -> list[Trained]:
    task = load_task(NAME)
    alphabet = task.table["generation"]["alphabet"]
    if task.width != WINDOW:
        raise SystemExit(f"{NAME}: task.toml has the window {task.width}, char_net.py {WINDOW}")
    learn, test = (stream(texts, alphabet) for texts in _texts())
    rng = np.random.default_rng(SEED)
    network = Network.draw(len(alphabet), CHANNELS, rng)
    adam = Adam(network.parameters(), STEP, STEPS)
    places = np.arange(CONTEXT + LENGTH)
    for step in range(STEPS):
        ids = learn[rng.integers(0, learn.size - CONTEXT - LENGTH, STRETCHES)[:, None] + np.arange(CONTEXT + LENGTH + 1)]
        wanted = ids[:, CONTEXT + 1 :]
        ids = ids[:, places]
        # A prompt may begin anywhere, also in the middle of a sentence.
        ids[rng.random(STRETCHES) < 0.25, :CONTEXT] = 0
        adam.update(network.gradients(ids, wanted, DROP, rng))
        if (step + 1) % (STEPS // 3) == 0:
            bits, right, _ = measured(network.logits, test)
            say(f"{NAME}/causal_conv: step {step + 1}, {bits:.4f} bits a character, {right:.4f} right")
    return [_judge(task, network, test)]


def measured(answer, test: np.ndarray, block: int = 4_096) -> tuple[float, float, int]:
    """Bits a character, the share of characters that the likeliest one is, and how many there are."""
    bits, right, count = 0.0, 0, 0
    for at in range(0, test.size - CONTEXT - 1, block):
        part = test[at : at + block + CONTEXT + 1]
        wanted = part[CONTEXT + 1 :]
        logits = answer(part[None, :-1])[0]
        known = wanted > 0
        chosen = logits[np.arange(wanted.size), wanted].astype(np.float64)
        above = logits.max(axis=1)
        loss = np.log(np.exp(logits.astype(np.float64) - above[:, None]).sum(axis=1)) + above - chosen
        bits += float(loss[known].sum() / np.log(2.0))
        right += int((logits.argmax(axis=1) == wanted)[known].sum())
        count += int(known.sum())
    return bits / count, right / count, count


def by_graph(content: bytes):
    """The shipped graph in the place of `Network.logits`: one window for every position."""

    def answer(ids: np.ndarray) -> np.ndarray:
        rows = np.lib.stride_tricks.sliding_window_view(ids[0], WINDOW)
        return bench.predict(content, rows, "logits")[None]

    return answer


def made_up_windows(alphabet: list[str]) -> np.ndarray:
    """[N, 64] ids: prompts that nobody wrote in a review, an empty window, and ids in no order."""
    prompts = ["the ", "This camera is ", "i bought this player because the battery ", "great", "\n", "0123456789" * 8]
    rows = np.zeros((len(prompts) + 6, WINDOW), np.float32)
    for row, prompt in zip(rows, prompts, strict=False):
        ids = encode(prompt, alphabet)[-WINDOW:]
        row[WINDOW - ids.size :] = ids
    rows[-5:] = np.random.default_rng(SEED).integers(0, len(alphabet), (5, WINDOW))
    return rows


def write(content: bytes, prompt: str, alphabet: list[str], count: int, temperature: float = 0.5) -> str:
    """`prompt` and so many characters after it, drawn with a fixed seed as the service does."""
    rng, running = np.random.default_rng(SEED), bench.session(content)
    ids = [0] * WINDOW + encode(prompt, alphabet).tolist()
    for _ in range(count):
        logits = running.run(["logits"], {INPUT: np.array([ids[-WINDOW:]], np.float32)})[0][0].astype(np.float64)
        chance = np.exp((logits - logits.max()) / temperature)
        ids.append(int(rng.choice(len(alphabet), p=chance / chance.sum())))
    return "".join(alphabet[number] for number in ids[WINDOW:])


def _judge(task: Task, network: Network, test: np.ndarray) -> Trained:
    alphabet = task.table["generation"]["alphabet"]
    name = "causal_conv"
    said = metadata(task, name, reviews.CREDIT, [f"{INPUT}[{WINDOW}]"])
    proto = network.graph(INPUT).finish(name, {"logits": len(alphabet)}, said)
    content = proto.SerializeToString(deterministic=True)
    bits, right, count = measured(by_graph(content), test)
    inputs = made_up_windows(alphabet)
    wanted = network.logits(inputs.astype(np.int64))[:, 0]
    rows = np.lib.stride_tricks.sliding_window_view(test, WINDOW)[:8_192].astype(np.float32)
    original = network.logits(test[None, : len(rows) + CONTEXT])[0]
    sample = write(content, "the battery ", alphabet, 160)
    return Trained(
        task=task,
        name=name,
        description=f"Causal convolutions over characters, six layers of {CHANNELS} channels: sees {WINDOW} characters.",
        tier="fast",
        type="onnx",
        proto=proto,
        output={"kind": "logits", "name": "logits"},
        parity_inputs=inputs,
        parity_outputs=wanted,
        parity_error=scores.gap(bench.predict(content, rows, "logits"), original),
        accuracy=right,
        loss=bits,
        samples=count,
        evaluation="share of characters that the likeliest one is, in the 10 % of all reviews that a random choice, seed 7, "
        "kept from training; loss is bits a character",
        data=reviews.CREDIT,
        bench_rows=rows,
        measure="next character right",
        details={
            "bits_per_character": bits,
            "notes": [
                f"{bits:.3f} bits a character; one drawn from the alphabet at random takes {np.log2(len(alphabet) - 1):.2f}",
                f"it goes on from `the battery `: {' '.join(sample.split())}",
            ],
        },
    )
