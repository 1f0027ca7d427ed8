"""Repetition, self-BLEU and copying against sets of n-grams, values worked out by hand, and the whole library."""

import math

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import repetition as room
from semdlm_jax.evaluation.repetition import copied, longest, novel, repetition, self_bleu

DRAW = np.random.default_rng(0)
ROWS = [DRAW.integers(5, size=n) for n in (12, 30, 0, 1, 3, 2, 17)]
WORDS = [[f"w{token}" for token in row] for row in ROWS]


def grams(row, n):
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_repetition_against_sets(n):
    expected = [1 - len(set(found)) / len(found) for row in ROWS if (found := grams(row.tolist(), n))]
    np.testing.assert_allclose(repetition(ROWS, n), expected, atol=1e-15)
    np.testing.assert_array_equal(repetition(WORDS, n), repetition(ROWS, n))
    assert repetition([[7, 7, 7, 7, 7]], n)[0] == pytest.approx(1 - 1 / (6 - n))


def test_rows_without_n_grams_are_left_out():
    for rows in ([], [[]], [[], [1]]):
        assert repetition(rows, 2).tolist() == []
    assert repetition([[3, 4]], 2).tolist() == [0]


def bleu(*texts, **options):
    pytest.importorskip("sacrebleu")
    return self_bleu([text.split() for text in texts], seed=0, **options)


def test_self_bleu_by_hand():
    # 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; and nothing in common.
    assert bleu("a b c d e", "a b c d f", "x y z") == pytest.approx([0.2**0.25, 0.2**0.25, 0])
    # "a" counts as often as another text has it, 2 of 4; no longer n-gram matches: 0.1 of 3, of 2 and of 1.
    assert bleu("a a a a", "a b a c")[0] == pytest.approx((2 / 4 * 0.1 / 3 * 0.1 / 2 * 0.1) ** 0.25)
    # Matches may be those of several texts.
    assert bleu("a b c d", "a b c", "b c d")[0] == pytest.approx((0.1) ** 0.25)
    # Texts shorter than 4: precisions of the orders that they have, and the brevity penalty of the nearest length.
    assert bleu("a b", "a b c d", "a b c") == pytest.approx(
        [math.exp(1 - 3 / 2), (3 / 4 * 2 / 3 * 0.5 * 0.1) ** 0.25, 1]
    )
    assert bleu("a b c", "a b", "a b c d")[0] == pytest.approx(1)  # as far from 2 as from 4 words: the shorter
    assert bleu("a b c d e", "a b c d e") == pytest.approx([1, 1])


def test_self_bleu_is_the_library_s_of_each_text_against_the_others():
    metrics = pytest.importorskip("sacrebleu.metrics")
    whole = metrics.BLEU(tokenize="none", smooth_method="floor", smooth_value=0.1, effective_order=True, force=True)
    rows = [DRAW.integers(6, size=n) for n in DRAW.integers(1, 25, size=30)]
    texts = [" ".join(map(str, row)) for row in rows]
    expected = [whole.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)]
    np.testing.assert_allclose(self_bleu(rows, seed=0), expected, rtol=1e-10)


def test_how_many_texts_are_compared():
    same = ["a b c d"] * 3
    assert len(bleu(*same, "", "e f g h")) == 4 and len(bleu(*same, "", "e f g h", most=3)) == 3
    assert bleu().tolist() == bleu("a b c").tolist() == bleu("a b", "").tolist() == []
    texts = [f"{i} {i + 1} {i + 2} {i + 3}" for i in range(30)]
    assert bleu(*texts, most=9).tolist() == bleu(*texts, most=9).tolist()
    fewer = self_bleu([text.split() for text in texts], seed=1, most=9)
    assert fewer.tolist() != bleu(*texts, most=9).tolist() and fewer.mean() < bleu(*texts).mean()


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr("semdlm_jax.extras.is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"self-BLEU needs sacrebleu, not installed here: pip install .*\[evaluation\]"):
        self_bleu(WORDS, seed=0)


def written_out(rows, train):
    """The longest n-gram from each place on that is part of a row of train."""
    known = {gram for row in train for n in range(1, len(row) + 1) for gram in grams(row, n)}

    def at(row, i):
        return max((n for n in range(1, len(row) - i + 1) if tuple(row[i : i + n]) in known), default=0)

    return [[at(row, i) for i in range(len(row))] for row in rows]


@pytest.mark.parametrize("at_once", [10, 10**6])
def test_copying_against_all_n_grams_of_train(monkeypatch, at_once):
    monkeypatch.setattr(room, "TOKENS_AT_ONCE", at_once)
    train = [DRAW.integers(7, size=n).tolist() for n in (40, 3, 0, 25, 9)]
    rows = [*(row.tolist() for row in ROWS), train[0][5:30], train[3] + train[4], [99, 1, 99]]
    found, expected = copied(rows, iter(train)), written_out(rows, train)
    assert [each.tolist() for each in found] == expected
    assert expected[-3][0] == 25 and longest(found).tolist() == [max(each, default=0) for each in expected]
    for n in (1, 2, 4, 8):
        known = {gram for row in train for gram in grams(row, n)}
        new, whole = novel(found, n)
        assert new.tolist() == [sum(gram not in known for gram in grams(row, n)) for row in rows]
        assert whole.tolist() == [len(grams(row, n)) for row in rows]


def test_words_are_copied_as_ids_are():
    train = [DRAW.integers(7, size=50)]
    ids = copied(ROWS, train)
    texts = copied(WORDS, [[f"w{token}" for token in row] for row in train])
    assert [each.tolist() for each in texts] == [each.tolist() for each in ids]


def test_nothing_to_copy():
    assert [each.tolist() for each in copied([[1, 2], []], [])] == [[0, 0], []]
    assert copied([], [[1, 2]]) == [] and novel([], 4)[0].tolist() == longest([]).tolist() == []
    assert [each.tolist() for each in copied([[]], [[1, 2]])] == [[]]
    new, whole = novel(copied([[1, 2], []], [[2, 1]]), 3)
    assert new.tolist() == whole.tolist() == [0, 0]
