import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.semantics import knn


def vectors(vocab_size=203, dimensions=16, hubs=0, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((vocab_size, dimensions))
    drawn += hubs * (np.arange(vocab_size) % 10 == 0)[:, None] * drawn.mean(0)
    return drawn.astype(np.float32)


def brute_force(embeddings, k, candidates):
    """(ids, similarities) by a full sort in float64."""
    embeddings = embeddings.astype(np.float64)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    cosines[:, ~candidates] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, 1)


@pytest.mark.parametrize("block", [1, 64, 203, 1024])
def test_against_brute_force(block):
    embeddings, candidates = vectors(), np.random.default_rng(1).random(203) < 0.8
    ids, similarities = knn.nearest_neighbours(embeddings, 12, candidates, block=block)
    expected_ids, expected = brute_force(embeddings, 12, candidates)
    assert ids.dtype == np.int32 and similarities.dtype == np.float32 and ids.shape == similarities.shape == (203, 12)
    np.testing.assert_array_equal(ids[candidates], expected_ids[candidates])
    np.testing.assert_allclose(similarities[candidates], expected[candidates], atol=2e-6)
    assert (ids[~candidates] == -1).all() and (similarities[~candidates] == 0).all()


def test_rows_end_where_candidates_do():
    candidates = np.isin(np.arange(20), [2, 5, 7])
    ids, similarities = knn.nearest_neighbours(vectors(20), 30, candidates)
    assert ids.shape == (20, 30)
    assert [sorted(ids[i, :2]) for i in (2, 5, 7)] == [[5, 7], [2, 7], [2, 5]]
    assert (ids[:, 2:] == -1).all() and (similarities[:, 2:] == 0).all()


def test_a_token_without_direction_is_no_neighbour():
    embeddings = vectors(30)
    embeddings[4] = 0
    ids, _ = knn.nearest_neighbours(embeddings, 29, np.ones(30, bool))
    assert (ids[4] == -1).all() and not (ids == 4).any()


def slow_cap(ids, similarities, k, cap):
    """The stated rule, an offer at a time."""
    lists = [[] for _ in ids]
    held = np.zeros(len(ids), int)
    for rank in range(ids.shape[1]):
        for row in sorted(range(len(ids)), key=lambda row: (-similarities[row, rank], row)):
            candidate = ids[row, rank]
            if candidate >= 0 and len(lists[row]) < k and held[candidate] < cap:
                lists[row].append(candidate)
                held[candidate] += 1
    return lists


@pytest.mark.parametrize("cap", [1, 6, 9, 300])
def test_in_degree_cap_follows_the_stated_rule(cap):
    embeddings, candidates, k = vectors(hubs=8), np.arange(203) >= 5, 6
    ids, similarities = knn.nearest_neighbours(embeddings, k, candidates, max_in_degree=cap)
    nearest, cosines = knn.nearest_neighbours(embeddings, knn.SURPLUS * k, candidates)
    assert [[j for j in row if j >= 0] for row in ids] == slow_cap(nearest, cosines, k, cap)
    assert np.bincount(ids[ids >= 0]).max() <= cap
    valid = ids >= 0
    assert (valid == (np.arange(k) < valid.sum(1)[:, None])).all()  # missing entries at the end
    assert (np.diff(np.where(valid, similarities, -2)) <= 0).all()  # nearest first


def test_the_cap_binds_on_hubs_and_a_loose_one_changes_nothing():
    embeddings, candidates = vectors(hubs=8), np.ones(203, bool)
    free, _ = knn.nearest_neighbours(embeddings, 6, candidates)
    assert np.bincount(free.ravel()).max() > 9
    loose, _ = knn.nearest_neighbours(embeddings, 6, candidates, max_in_degree=203)
    np.testing.assert_array_equal(loose, free)


@pytest.mark.parametrize("k, cap", [(0, None), (4, 0)])
def test_bad_requests_are_told(k, cap):
    with pytest.raises(UserError, match="at least 1"):
        knn.nearest_neighbours(vectors(9), k, np.ones(9, bool), max_in_degree=cap)
