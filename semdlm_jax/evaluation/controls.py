"""Texts without any model, which stand beside generated text in every table: a measure that prefers one of them to
held-out text does not measure quality.

Each function takes held-out rows of token ids and gives as many rows of the same lengths.
"""

from collections.abc import Collection, Sequence

import numpy as np

from semdlm_jax.entropy import entropy
from semdlm_jax.errors import UserError

Rows = Sequence[np.ndarray]


def shuffled(rows: Rows, *, seed: int, special_ids: Collection[int] = ()) -> list[np.ndarray]:
    """The tokens of every row in random order; special tokens stay where they are."""
    rng = np.random.default_rng(seed)
    found = []
    for row in rows:
        row = np.array(row)
        inner = np.flatnonzero(~np.isin(row, list(special_ids)))
        row[inner] = row[rng.permutation(inner)]
        found.append(row)
    return found


def unigram(rows: Rows, counts: np.ndarray, *, seed: int, special_ids: Collection[int] = ()) -> list[np.ndarray]:
    """Rows of independent tokens from the frequencies of the training text.

    Args:
        rows: for their lengths.
        counts: [V], of every token in the training text.
        seed: of the draws.
        special_ids: tokens that are not drawn.

    Raises:
        UserError: no other token was counted.
    """
    weights = np.array(counts, np.float64)
    weights[list(special_ids)] = 0
    if not weights.sum() > 0:
        raise UserError("the training text has no tokens but special ones: give counts of a text with words")
    lengths = [len(row) for row in rows]
    drawn = np.random.default_rng(seed).choice(len(weights), sum(lengths), p=weights / weights.sum())
    return np.split(drawn, np.cumsum(lengths)[:-1]) if lengths else []


def periodic(rows: Rows, *, seed: int, special_ids: Collection[int] = ()) -> list[np.ndarray]:
    """Rows that say one chunk of different tokens again and again, with the entropy of real text.

    The row that stands for a held-out row of L tokens is x_i = c_(i mod P). The chunk c is the first P different
    tokens of the held-out text read from a random place on (rows joined, special tokens and repeated ones left out).
    P is the period, from 1 to L / 2, whose entropy (`periodic_entropy`) is nearest to that of the held-out row. So
    every row says its chunk at least twice, and its entropy is ln(L / 2) where that of the held-out row is larger.

    Such texts are predictable, hence of low perplexity, at normal entropy, and say nothing. The idea is that of
    Franca and Tong, Hacking Generative Perplexity (2026, arXiv 2606.08417); this definition is our own.

    Args:
        rows: held-out rows.
        seed: of the places.
        special_ids: tokens that no chunk holds.
    """
    rng = np.random.default_rng(seed)
    text = np.concatenate([np.asarray(row) for row in rows]) if len(rows) else np.zeros(0, int)
    text = text[~np.isin(text, list(special_ids))]
    if not len(text) and any(len(row) for row in rows):
        raise UserError("the held-out text has no tokens but special ones: give rows with words")
    different = len(np.unique(text))
    found = []
    for row in map(np.asarray, rows):
        if len(row):
            chunk = _different(text, rng.integers(len(text)), min(_period(row), different))
            row = np.resize(chunk, len(row))
        found.append(row)
    return found


def periodic_entropy(periods: np.ndarray, length: int) -> np.ndarray:
    """Nats of `length` tokens of which each period [P] holds as many different ones as it is long, 1 to `length`.

    With length = a P + b, 0 <= b < P: b tokens occur a + 1 times, P - b tokens a times.
    """
    often, rest = np.divmod(length, periods)
    more, less = (often + 1) / length, often / length
    return 0.0 - rest * more * np.log(more) - (periods - rest) * less * np.log(less)


def _period(row):
    """The period of the row that stands for this one."""
    periods = np.arange(1, max(len(row) // 2, 1) + 1)
    target = entropy(np.unique(row, return_counts=True)[1])
    return int(periods[np.abs(periodic_entropy(periods, len(row)) - target).argmin()])


def _different(text, start, wanted):
    """The first `wanted` different tokens of a text, read from `start` on and then from its beginning."""
    read = wanted
    while True:
        window = np.take(text, np.arange(start, start + min(read, len(text))), mode="wrap")
        first = np.sort(np.unique(window, return_index=True)[1])[:wanted]
        if len(first) == wanted:
            return window[first]
        read *= 2
