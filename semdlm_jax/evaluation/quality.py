"""Measures of generated text that need no other model. They run on the host in float64, on N rows of tokens, whose
lengths may differ, or on texts."""

import re

import numpy as np

from semdlm_jax.entropy import entropy

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def unigram_entropy(rows):
    """[N] nats: the entropy of each sequence's own token counts. Comparable under one tokenizer and length only."""
    return np.array([entropy(np.unique(row, return_counts=True)[1]) for row in rows])


def neighbor_affinity(rows, ids_VxK, similarities_VxK):
    """[N]: mean S+(x_i, x_j) over ordered pairs i != j of a sequence.

    S+(k, l) = max(sim(k, l), 0) where k is among the neighbors of l, else 0. Rows of ids are padded with V.
    """
    ids_VxK, similarities_VxK = np.asarray(ids_VxK), np.maximum(np.asarray(similarities_VxK, np.float64), 0)
    vocab_size = len(ids_VxK)
    affinities = []
    for row in map(np.asarray, rows):
        counts = np.bincount(row, minlength=vocab_size + 1)
        pairs = max(len(row) * (len(row) - 1), 1)
        affinities.append(np.sum(similarities_VxK[row] * counts[ids_VxK[row]]) / pairs)
    return np.array(affinities)


def ratio(value: float, whole: float) -> float | None:
    """value / whole; None where whole is 0."""
    return float(value / whole) if whole else None


def distinct(rows, n) -> float | None:
    """Distinct n-grams over all n-grams of the rows; None where every row is shorter than n."""
    windows = np.lib.stride_tricks.sliding_window_view
    grams = [windows(np.asarray(row), n) for row in rows if len(row) >= n]
    if not grams:
        return None
    grams = np.concatenate(grams)
    return len(np.unique(grams, axis=0)) / len(grams)


def words(text):
    """The words of a text, lower case, without punctuation."""
    return WORD.findall(text.lower())


def word_bigrams(text):
    """Neighboring words of one text, as pairs."""
    found = words(text)
    return list(zip(found, found[1:], strict=False))
