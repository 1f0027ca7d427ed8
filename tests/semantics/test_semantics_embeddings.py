import math

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.semantics import embeddings

# Two documents framed by 0 … 1; token 2 is excluded (a newline, say) but holds its place.
TOKENS = np.array([0, 3, 4, 5, 2, 3, 4, 1, 0, 5, 3, 3, 1], np.uint16)
V, WINDOW = 6, 2


def slow_counts(tokens=TOKENS):
    counts = np.zeros((V, V))
    for i, left in enumerate(tokens):
        for j, right in enumerate(tokens):
            framed = {0, 1} & set(tokens[min(i, j) : max(i, j) + 1].tolist())
            if i != j and abs(i - j) <= WINDOW and not framed and 2 not in (left, right):
                counts[left, right] += 1
    return counts


def slow_ppmi(counts, smoothing):
    result = np.zeros_like(counts)
    context = [sum(row[j] for row in counts) ** smoothing for j in range(len(counts))]
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                joint, word = count / counts.sum(), row.sum() / counts.sum()
                result[i, j] = max(0, math.log(joint / (word * context[j] / sum(context))))
    return result


def test_counts_by_hand(monkeypatch):
    counts = embeddings.count_pairs(TOKENS, V, WINDOW, excluded_ids=(2,), boundary_ids=(0, 1)).toarray()
    assert counts[3, 4] == counts[4, 3] == 2 and counts[3, 5] == 4 and counts[3, 3] == 2  # read off the stream
    np.testing.assert_array_equal(counts, slow_counts())
    for chunk in (1, 2, 5):
        monkeypatch.setattr(embeddings, "CHUNK", chunk)
        chunked = embeddings.count_pairs(TOKENS, V, WINDOW, excluded_ids=(2,), boundary_ids=(0, 1)).toarray()
        np.testing.assert_array_equal(chunked, counts)


@pytest.mark.parametrize("smoothing", [1.0, 0.75])
def test_ppmi_by_hand(smoothing):
    counts = slow_counts()
    found = embeddings.ppmi(embeddings.scipy.sparse.csr_matrix(counts), smoothing).toarray()
    np.testing.assert_allclose(found, slow_ppmi(counts, smoothing), atol=1e-12)


def test_vectors_against_a_dense_svd():
    tokens = np.random.default_rng(0).integers(2, 6, 60)
    counts = embeddings.count_pairs(tokens, V, WINDOW, excluded_ids=(2,)).toarray()
    left, strengths, _ = np.linalg.svd(slow_ppmi(counts, 0.75))
    expected = left[:, :2] * np.sqrt(strengths[:2])
    expected[3:] -= expected[3:].mean(0)
    expected[:3] = 0
    found = embeddings.ppmi_svd(tokens, V, WINDOW, dimensions=2, excluded_ids=(2,))
    assert found.dtype == np.float32 and found.shape == (V, 2)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)  # free of the vectors' signs


def test_deterministic():
    tokens = np.random.default_rng(1).zipf(1.3, 20_000) % 200
    first, second = (embeddings.ppmi_svd(tokens, 200, dimensions=32) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_tokens_of_like_context_lie_near():
    # a/A and b/B are interchangeable: every word keeps the company of its twin.
    random = np.random.default_rng(0)
    topics = np.repeat(random.integers(0, 2, 4000), 4)
    tokens = 4 * topics + random.integers(0, 4, len(topics))
    vectors = embeddings.ppmi_svd(tokens, 8, dimensions=3)
    cosines = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    same = np.equal.outer(np.arange(8) // 4, np.arange(8) // 4)
    assert cosines[same].min() > cosines[~same].max()


@pytest.mark.parametrize(
    "tokens, dimensions, message", [(TOKENS, 6, "choose 1 to 5"), (np.zeros(9, int), 2, "more text")]
)
def test_hopeless_requests_are_told(tokens, dimensions, message):
    with pytest.raises(UserError, match=message):
        embeddings.ppmi_svd(tokens, V, dimensions=dimensions, excluded_ids=(0,))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("components", [0, 1, 3])
def test_what_most_share_is_removed(center, components):
    """Against numpy's SVD, to the rounding of float32."""
    random = np.random.default_rng(2)
    vectors = random.standard_normal((40, 7)) * [9, 5, 3, 1, 1, 1, 1] + 2
    known = random.random(40) < 0.8
    found = embeddings.remove_common(vectors.astype(np.float32), known, center, components)
    kept = vectors.astype(np.float32).astype(np.float64)[known]
    kept -= kept.mean(0) if center else 0
    left, strengths, right = np.linalg.svd(kept, full_matrices=False)
    expected = (left[:, components:] * strengths[components:]) @ right[components:]
    assert found.dtype == np.float32 and not found[~known].any()
    np.testing.assert_allclose(found[known], expected, atol=2e-6)


def test_ppmi_without_its_mean_or_top_component():
    tokens = np.random.default_rng(1).zipf(1.3, 20_000) % 200
    plain = embeddings.ppmi_svd(tokens, 200, dimensions=32, center=False)
    known = plain.any(1)
    for center, components in ((True, 0), (True, 2), (False, 1)):
        found = embeddings.ppmi_svd(tokens, 200, dimensions=32, center=center, remove_components=components)
        expected = embeddings.remove_common(plain, known, center, components)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_removing_all_components_is_told():
    with pytest.raises(UserError, match="leaves none of 4 dimensions"):
        embeddings.remove_common(np.ones((9, 4)), np.ones(9, bool), True, 4)
