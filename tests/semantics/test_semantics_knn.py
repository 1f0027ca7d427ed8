import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.semantics import knn
from semdlm_jax.semantics.embeddings import ppmi_svd


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
    ids, similarities = knn.nearest_neighbors(embeddings, 12, candidates, block=block)
    expected_ids, expected = brute_force(embeddings, 12, candidates)
    assert ids.dtype == np.int32 and similarities.dtype == np.float32 and ids.shape == similarities.shape == (203, 12)
    np.testing.assert_array_equal(ids[candidates], expected_ids[candidates])
    np.testing.assert_allclose(similarities[candidates], expected[candidates], atol=2e-6)
    assert (ids[~candidates] == -1).all() and (similarities[~candidates] == 0).all()


ROUNDING = 1e-6  # of a float32 cosine of some hundred products: nearer than this, either of two may come first


def assert_nearest(ids, similarities, embeddings, candidates, rows):
    """Rows of the table are the nearest in float64, in order, but for ties within ROUNDING."""
    unit = embeddings.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
    cosines = unit[rows] @ unit.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    cosines[:, ~candidates] = -np.inf
    expected = np.sort(cosines, axis=1)[:, ::-1][:, : ids.shape[1]]
    found = np.take_along_axis(cosines, ids[rows], 1)
    assert all(len(set(row)) == ids.shape[1] for row in ids[rows].tolist())
    np.testing.assert_allclose(found, expected, atol=ROUNDING)  # the k-th found is as near as the k-th nearest
    np.testing.assert_allclose(similarities[rows], found, atol=ROUNDING)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : ids.shape[1]]
    differing = order != ids[rows]
    assert differing.mean() < 1e-3, differing.mean()


@pytest.mark.parametrize("dimensions", [32, 384])
def test_two_thousand_rows_against_float64(dimensions):
    embeddings, candidates = vectors(2000, dimensions, hubs=3), np.random.default_rng(1).random(2000) < 0.9
    ids, similarities = knn.nearest_neighbors(embeddings, 64, candidates, block=300)
    assert_nearest(ids, similarities, embeddings, candidates, np.flatnonzero(candidates))


def test_a_real_table_against_float64(prepared):
    """PPMI vectors of a text, 200 of its tokens."""
    excluded = prepared.tokenizer.special_ids
    embeddings = ppmi_svd(prepared.splits["train"], 700, dimensions=64, excluded_ids=excluded)
    candidates = embeddings.any(1)
    ids, similarities = knn.nearest_neighbors(embeddings, 32, candidates)
    rows = np.random.default_rng(0).choice(np.flatnonzero(candidates), 200, replace=False)
    assert_nearest(ids, similarities, embeddings, candidates, rows)


def test_equal_similarities_are_ordered_by_id():
    """Small integers: every product and sum is exact, and many are equal."""
    embeddings = np.random.default_rng(0).integers(0, 2, (203, 4)).astype(np.float32)
    embeddings[:, 0] = 1
    candidates = np.random.default_rng(1).random(203) < 0.7
    ids, similarities = knn.nearest_neighbors(embeddings, 50, candidates, block=64)
    for i in np.flatnonzero(candidates):
        for r in range(49):
            assert similarities[i, r] > similarities[i, r + 1] or ids[i, r] < ids[i, r + 1], (i, r)
    expected, _ = brute_force(embeddings, 50, candidates)
    one = np.flatnonzero(candidates)[0]  # among equals those of lowest id are the ones kept
    np.testing.assert_array_equal(ids[one][similarities[one] == 1], expected[one][: (similarities[one] == 1).sum()])


@pytest.mark.parametrize("hubness, cap", [("none", None), ("cap", 9), ("csls", None)])
def test_groups_keep_to_themselves(hubness, cap):
    """As if each group were a vocabulary of its own."""
    embeddings, candidates = vectors(hubs=8), np.arange(203) >= 5
    groups = np.random.default_rng(1).random(203) < 0.3
    ids, similarities = knn.nearest_neighbors(embeddings, 6, candidates, cap, hubness=hubness, groups=groups)
    for group in (False, True):
        members = candidates & (groups == group)
        alone, cosines = knn.nearest_neighbors(embeddings, 6, members, cap, hubness=hubness)
        np.testing.assert_array_equal(ids[members], alone[members])
        np.testing.assert_allclose(similarities[members], cosines[members], atol=1e-6)


def test_a_group_smaller_than_k():
    groups = np.arange(20) // 18
    ids, _ = knn.nearest_neighbors(vectors(20), 4, np.ones(20, bool), hubness="none", groups=groups)
    assert ids[18].tolist() == [19, -1, -1, -1] and ids[19].tolist() == [18, -1, -1, -1]
    assert (ids[:18] >= 0).all() and (ids[:18] < 18).all()


def slow_csls(embeddings, k, candidates):
    """(ids, cosines) by the definition, a pair at a time, in float64."""
    unit = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    tokens = np.flatnonzero(candidates).tolist()
    cosine = {i: {j: float(unit[i] @ unit[j]) for j in tokens if j != i} for i in tokens}
    density = {i: np.mean(sorted(cosine[i].values())[-knn.DENSITY :]) for i in tokens}
    rows = {}
    for i in tokens:
        score = {j: 2 * cosine[i][j] - density[i] - density[j] for j in cosine[i]}
        rows[i] = sorted(score, key=lambda j: (-score[j], j))[:k]
    return rows, cosine


@pytest.mark.parametrize("count, k", [(203, 6), (8, 7), (203, 150)])
def test_csls_follows_its_definition(count, k):
    """8 tokens: fewer than the mean of a token's density is taken over."""
    embeddings, candidates = vectors(count, hubs=3), np.arange(count) >= 2
    ids, similarities = knn.nearest_neighbors(embeddings, k, candidates, hubness="csls", block=64)
    rows, cosine = slow_csls(embeddings, k, candidates)
    for i, expected in rows.items():
        assert ids[i][ids[i] >= 0].tolist() == expected, i
        np.testing.assert_allclose(similarities[i, : len(expected)], [cosine[i][j] for j in expected], atol=1e-6)
    assert (ids[:2] == -1).all()


def test_csls_ignores_the_cap_and_has_fewer_hubs():
    """Tokens that lie near the mean of all are near to everything."""
    spread = np.random.default_rng(3).uniform(0.3, 2, (203, 1)).astype(np.float32)
    embeddings, candidates = 1 + spread * vectors(), np.ones(203, bool)
    free, _ = knn.nearest_neighbors(embeddings, 6, candidates, hubness="none")
    scaled, _ = knn.nearest_neighbors(embeddings, 6, candidates, 3, hubness="csls")
    assert 3 < np.bincount(scaled.ravel()).max() < np.bincount(free.ravel()).max()
    alone = [(np.bincount(ids.ravel(), minlength=203) == 0).sum() for ids in (scaled, free)]
    assert alone[0] < alone[1]


def test_rows_end_where_candidates_do():
    candidates = np.isin(np.arange(20), [2, 5, 7])
    ids, similarities = knn.nearest_neighbors(vectors(20), 30, candidates)
    assert ids.shape == (20, 30)
    assert [sorted(ids[i, :2]) for i in (2, 5, 7)] == [[5, 7], [2, 7], [2, 5]]
    assert (ids[:, 2:] == -1).all() and (similarities[:, 2:] == 0).all()


def test_a_token_without_direction_is_no_neighbor():
    embeddings = vectors(30)
    embeddings[4] = 0
    ids, _ = knn.nearest_neighbors(embeddings, 29, np.ones(30, bool))
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
    ids, similarities = knn.nearest_neighbors(embeddings, k, candidates, max_in_degree=cap)
    nearest, cosines = knn.nearest_neighbors(embeddings, knn.CANDIDATES * k, candidates)
    assert [[j for j in row if j >= 0] for row in ids] == slow_cap(nearest, cosines, k, cap)
    assert np.bincount(ids[ids >= 0]).max() <= cap
    valid = ids >= 0
    assert (valid == (np.arange(k) < valid.sum(1)[:, None])).all()  # missing entries at the end
    assert (np.diff(np.where(valid, similarities, -2)) <= 0).all()  # nearest first


def test_the_cap_binds_on_hubs_and_a_loose_one_changes_nothing():
    embeddings, candidates = vectors(hubs=8), np.ones(203, bool)
    free, _ = knn.nearest_neighbors(embeddings, 6, candidates)
    assert np.bincount(free.ravel()).max() > 9
    loose, _ = knn.nearest_neighbors(embeddings, 6, candidates, max_in_degree=203)
    np.testing.assert_array_equal(loose, free)


@pytest.mark.parametrize("k, cap", [(0, None), (4, 0)])
def test_bad_requests_are_told(k, cap):
    with pytest.raises(UserError, match="at least 1"):
        knn.nearest_neighbors(vectors(9), k, np.ones(9, bool), max_in_degree=cap)


def test_an_unknown_hubness_control_is_told():
    with pytest.raises(UserError, match="did you mean 'csls'"):
        knn.nearest_neighbors(vectors(9), 2, np.ones(9, bool), hubness="clss")
