"""Each measure against the sum it stands for, written out."""

import math

import numpy as np
import pytest

from semdlm_jax.evaluation import quality
from semdlm_jax.evaluation.counted_measures import BigramsInTrain
from semdlm_jax.evaluation.samples import Samples

V, K = 11, 3
DRAW = np.random.default_rng(0)
TOKENS = DRAW.integers(V, size=(4, 9))
# Rows of 0 to 3 neighbors, padded with V and similarity 0; one similarity is negative.
IDS = np.full((V, K), V)
SIMILARITIES = np.zeros((V, K), np.float32)
for token in range(V):
    near = DRAW.permutation([other for other in range(V) if other != token])[: token % (K + 1)]
    IDS[token, : len(near)] = near
    SIMILARITIES[token, : len(near)] = DRAW.uniform(0.1, 0.9, len(near))
SIMILARITIES[6, 1] = -0.5


def test_entropy_of_known_sequences():
    rows = [[1, 1, 1, 1], [1, 1, 2, 2], [1, 2, 3, 4], [1, 1, 1, 2]]
    uneven = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(quality.unigram_entropy(rows), [0, math.log(2), math.log(4), uneven], atol=1e-12)


def test_affinity_against_a_double_loop():
    expected = []
    for row in TOKENS:
        total = 0.0
        for i, token in enumerate(row):
            for j, other in enumerate(row):
                if i != j and other in IDS[token]:
                    total += max(float(SIMILARITIES[token, list(IDS[token]).index(other)]), 0)
        expected.append(total / (len(row) * (len(row) - 1)))
    assert max(expected) > 0
    np.testing.assert_allclose(quality.neighbor_affinity(TOKENS, IDS, SIMILARITIES), expected, rtol=1e-12)


def test_affinity_does_not_depend_on_the_order():
    found = quality.neighbor_affinity(TOKENS, IDS, SIMILARITIES)
    np.testing.assert_allclose(quality.neighbor_affinity(TOKENS[:, ::-1], IDS, SIMILARITIES), found)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_against_a_set(n):
    rows = TOKENS % 3
    grams = [tuple(row[i : i + n]) for row in rows.tolist() for i in range(len(row) - n + 1)]
    assert quality.distinct(rows, n) == len(set(grams)) / len(grams)


def test_rows_may_differ_in_length():
    """Each counts by itself: what is measured of rows apart is what is measured of them together."""
    rows = [TOKENS[0], TOKENS[1][:4], TOKENS[2][:1]]
    for measure in (quality.unigram_entropy, lambda some: quality.neighbor_affinity(some, IDS, SIMILARITIES)):
        np.testing.assert_array_equal(measure(rows), [measure([row])[0] for row in rows])
    grams = [pair for row in rows for pair in zip(row.tolist(), row.tolist()[1:])]
    assert quality.distinct(rows, 2) == len(set(grams)) / len(grams)


def test_words_and_their_bigrams():
    text = "The king's men -- 2 of them -- aren't HERE."
    assert quality.words(text) == ["the", "king's", "men", "2", "of", "them", "aren't", "here"]
    assert quality.word_bigrams("one two, three") == [("one", "two"), ("two", "three")]
    assert quality.word_bigrams("one") == quality.word_bigrams("") == []


def test_share_of_known_bigrams():
    """No pair reaches from one text into the next; a column without pairs has no share."""
    texts = {"generated": ["the sea and the moon", "the old"], "heldout": ["", "word"]}
    train = np.zeros(1, int), lambda tokens: "the old man and the sea"
    found = BigramsInTrain().of(Samples(texts, texts, [], None, *train))
    assert found["generated"].value == 3 / 5 and found["heldout"].value is None
