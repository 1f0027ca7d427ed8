"""The judge of benchmarks/neighbors.py on a stream short enough to judge by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import neighbors

BEGIN, END, V = 0, 1, 8
TOKENIZER = SimpleNamespace(vocab_size=V, bos_id=BEGIN, eos_id=END, special_ids=(BEGIN, END))


@pytest.fixture
def judge(monkeypatch):
    """Of tokens 2 and 3, three occurrences each, all of which are looked at."""
    monkeypatch.setattr(neighbors, "OCCURRENCES", 3)
    tokens = np.array([0, 4, 2, 5, 4, 3, 5, 1, 0, 4, 2, 6, 4, 3, 5, 7, 3, 2, 1], np.int32)
    half = neighbors.Half(tokens, np.bincount(tokens, minlength=V))
    return neighbors.Judge(half, np.array([2, 3]), TOKENIZER)


def test_context(judge):
    """Cosines of rows of PPMI, of 2 with 3 and 4, of 3 with 5 alone."""
    company = judge.company.toarray()
    known = company.any(1)
    np.testing.assert_allclose((company**2).sum(1)[known], 1)
    cosines = company @ company.T
    mean, error = judge.context(np.array([[3, 4], [5, -1]]))
    values = [(cosines[2, 3] + cosines[2, 4]) / 2, cosines[3, 5]]
    assert math.isclose(mean, np.mean(values)) and math.isclose(error, abs(values[0] - values[1]) / 2)
    assert math.isclose(judge.context(judge.types[:, None])[0], 1)


def test_in_place(judge):
    """A pair at a time: 2 stands in 4_5, 4_6 and 3_1; 3 in 4_5, 4_5 and 7_2."""
    tokens = judge.half.tokens.tolist()
    pairs = list(zip(tokens, tokens[1:]))

    def fit(first, second):
        expected = tokens.count(first) * tokens.count(second) / len(tokens)
        return math.log((pairs.count((first, second)) + 1) / (expected + 1))

    def fits(other, places):
        return np.mean([(fit(left, other) + fit(other, right)) / 2 for left, right in places])

    wanted = (fits(3, [(4, 5), (4, 6), (3, 1)]) + np.mean([fits(o, [(4, 5), (4, 5), (7, 2)]) for o in (2, 5)])) / 2
    assert math.isclose(judge.in_place(np.array([[3, -1], [2, 5]]))[0], wanted)
    alone = judge.in_place(np.array([[3], [-1]]))  # a row without neighbors does not count
    assert math.isclose(alone[0], fits(3, [(4, 5), (4, 6), (3, 1)]))


def test_every_variant_is_named_once():
    rows = neighbors.variants(["a", "b"])
    assert len(set(rows)) == len(rows)
    assert {row.hubness for row in rows} == {"none", "cap", "csls"}
    assert neighbors.Variant("ppmi", False, 3).removed == "3 PC"
    assert neighbors.Variant("ppmi", False).removed == "nothing"
