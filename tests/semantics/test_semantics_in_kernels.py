"""A built table in the kernel that uses it: capped and empty rows, neighborhoods that grow between whole numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_semantics_knn import vectors

from semdlm_jax.kernels import NeighborTable, Vocabulary, make_kernel
from semdlm_jax.semantics import knn

V, K, MASK = 203, 6, 1


@pytest.fixture(scope="module")
def lists():
    """The cap leaves short rows and empty ones; the first five tokens have none."""
    ids, similarities = knn.nearest_neighbors(vectors(hubs=8), K, np.arange(V) >= 5, max_in_degree=4)
    counts = (ids >= 0).sum(1)
    assert (counts[5:] == K).any() and ((counts[5:] > 0) & (counts[5:] < K)).any() and (counts[:5] == 0).all()
    return ids, similarities


def test_inverted_index(lists):
    """Every entry of the table, once, and in-degrees within the cap."""
    ids, similarities = lists
    table = NeighborTable.from_lists(ids, similarities)
    assert table.in_ids.shape[1] <= 4
    found = {
        (int(i), int(r), j)
        for j in range(V)
        for i, r in zip(np.asarray(table.in_ids)[j], np.asarray(table.in_ranks)[j], strict=True)
        if r < K
    }
    assert found == {(i, r, int(ids[i, r])) for i, r in zip(*np.nonzero(ids >= 0), strict=True)}


@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.95])
def test_fractional_neighborhoods_of_short_and_empty_rows(lists, t):
    """Against the definition, a row at a time: alpha = 1 - t, beta = t^2 to the uniform prior, the rest to the top
    k_t = 1 + (K - 1) t neighbors, rank r with weight clip(k_t - r, 0, 1) / k_t; what a row lacks goes to the prior."""
    ids, similarities = lists
    vocabulary = Vocabulary(V, MASK, table=NeighborTable.from_lists(ids, similarities))
    kernel = make_kernel("semdlm_plus", vocabulary)
    k, expected = 1 + (K - 1) * t, np.zeros((V, V))
    assert k % 1
    for i in range(V):
        expected[i, i] += 1 - t
        left = t - t**2
        for r in range(K):
            weight = np.clip(k - r, 0, 1) / k * (t - t**2)
            if ids[i, r] >= 0:
                expected[i, ids[i, r]] += weight
                left -= weight
        expected[i] += (t**2 + left) / V
    grid = jnp.meshgrid(jnp.arange(V), jnp.arange(V), indexing="ij")
    found = np.exp(np.asarray(kernel.log_prob(grid[1], grid[0], jnp.full((V, V), t))))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)  # float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
