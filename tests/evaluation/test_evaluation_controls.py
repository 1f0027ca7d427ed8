"""Control texts keep what they promise: lengths, tokens, frequencies, entropy."""

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import controls, quality

V, FIRST, LAST = 60, 0, 1  # the first and last token of every row are special
DRAW = np.random.default_rng(0)
FREQUENCIES = 1 / np.arange(1, V - 1)
LENGTHS = [*DRAW.integers(20, 90, size=60), 1, 2, 3, 0]


def held_out():
    frequencies = FREQUENCIES / FREQUENCIES.sum()
    inner = [2 + DRAW.choice(V - 2, max(n - 2, 0), p=frequencies) for n in LENGTHS]
    return [np.concatenate([[FIRST], row, [LAST]])[:n].astype(int) for row, n in zip(inner, LENGTHS)]


ROWS = held_out()
SPECIAL = (FIRST, LAST)
MAKERS = {
    "shuffled": lambda rows, **kw: controls.shuffled(rows, special_ids=SPECIAL, **kw),
    "unigram": lambda rows, **kw: controls.unigram(rows, np.ones(V), special_ids=SPECIAL, **kw),
    "periodic": lambda rows, **kw: controls.periodic(rows, special_ids=SPECIAL, **kw),
}


@pytest.mark.parametrize("name", MAKERS)
def test_lengths_and_seeds(name):
    make, before = MAKERS[name], [row.copy() for row in ROWS]
    found = make(ROWS, seed=1)
    assert [len(row) for row in found] == LENGTHS
    assert make([], seed=1) == []
    again, other = make(ROWS, seed=1), make(ROWS, seed=2)
    assert all(map(np.array_equal, found, again)) and not all(map(np.array_equal, found, other))
    assert all(map(np.array_equal, ROWS, before))


def test_shuffling_moves_all_but_special_tokens():
    found = controls.shuffled(ROWS, seed=0, special_ids=SPECIAL)
    for row, before in zip(found, ROWS):
        np.testing.assert_array_equal(np.sort(row), np.sort(before))
        np.testing.assert_array_equal(np.isin(row, SPECIAL), np.isin(before, SPECIAL))
    assert np.mean(np.concatenate(found) == np.concatenate(ROWS)) < 0.2
    (whole,) = controls.shuffled([np.arange(1000)], seed=0)
    assert abs(np.corrcoef(whole, np.arange(1000))[0, 1]) < 0.1


def test_unigram_samples_have_the_frequencies_of_train():
    counts = np.arange(V) ** 2
    rows = [np.zeros(500, int)] * 40
    drawn = np.concatenate(controls.unigram(rows, counts, seed=0, special_ids=(0, 50)))
    expected = np.where(np.isin(np.arange(V), (0, 50)), 0, counts)
    expected = len(drawn) * expected / expected.sum()
    found = np.bincount(drawn, minlength=V)
    assert found[0] == found[50] == 0
    assert np.sum((found - expected)[expected > 0] ** 2 / expected[expected > 0]) < 100  # chi2 with 57 degrees
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.03
    with pytest.raises(UserError, match="no tokens but special ones"):
        controls.unigram(rows, np.eye(V)[3], seed=0, special_ids=(3,))


def test_entropy_of_a_period_in_closed_form():
    for length, period in [(10, 1), (10, 3), (10, 5), (10, 10), (7, 4)]:
        (entropy,) = quality.unigram_entropy([np.resize(np.arange(period), length)])
        assert controls.periodic_entropy(np.array([period]), length)[0] == pytest.approx(entropy, abs=1e-14)


def test_periodic_rows_repeat_different_tokens_at_the_entropy_of_real_text():
    found = controls.periodic(ROWS, seed=0, special_ids=SPECIAL)
    real, entropies = quality.unigram_entropy(ROWS), quality.unigram_entropy(found)
    for row, target, entropy in zip(found, real, entropies):
        length, period = len(row), len(np.unique(row))
        np.testing.assert_array_equal(row, np.resize(row[:period], length))
        assert not np.isin(row, SPECIAL).any()
        assert period <= max(length // 2, 1)
        if length > 3:  # one token more or less would be farther from the target, or would not repeat
            near = [p for p in (period - 1, period + 1) if 1 <= p <= length // 2]
            others = controls.periodic_entropy(np.array(near), length)
            assert (np.abs(others - target) >= abs(entropy - target) - 1e-12).all()
    long = np.array(LENGTHS) >= 20
    assert abs((entropies - real)[long].mean()) < 0.05


def test_a_chunk_is_real_text_without_repeats():
    text = np.array([5, 6, 5, 7, 8, 6, 9, 4])
    chunks = {tuple(controls._different(text, start, 4)) for start in range(len(text))}
    assert (5, 6, 7, 8) in chunks and (9, 4, 5, 6) in chunks
    assert {len(set(chunk)) for chunk in chunks} == {4}
    # Few different tokens in all: the period is no longer than they are.
    (row,) = controls.periodic([np.array([3, 4, 3, 4, 3, 4, 3, 4])], seed=0)
    assert sorted(set(row.tolist())) == [3, 4] and (row[2:] == row[:-2]).all()
    with pytest.raises(UserError, match="no tokens but special ones"):
        controls.periodic([np.array([1, 1])], seed=0, special_ids=(1,))
    assert controls.periodic([np.zeros(0, int)], seed=0)[0].tolist() == []
