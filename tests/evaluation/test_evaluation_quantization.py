"""k-means against scipy's, and principal components against a decomposition."""

import numpy as np
import pytest
from scipy.cluster import vq

from semdlm_jax.evaluation import quantization
from semdlm_jax.evaluation.quantization import k_means, principal

ROWS = np.random.default_rng(0).normal(size=(300, 4)) * [3, 2, 1, 0.2]


def inertia(labels):
    return sum(((ROWS[labels == k] - ROWS[labels == k].mean(0)) ** 2).sum() for k in set(labels))


def test_no_row_is_nearer_to_another_mean():
    labels = k_means(ROWS, 12, seed=0)[0]
    means = np.stack([ROWS[labels == k].mean(0) for k in range(12)])
    np.testing.assert_array_equal(labels, ((ROWS[:, None] - means) ** 2).sum(2).argmin(1))


def test_as_good_as_another_implementation():
    theirs = [vq.kmeans2(ROWS, 12, 100, minit="++", rng=np.random.default_rng(i))[1] for i in range(20)]
    assert inertia(k_means(ROWS, 12, seed=0)[0]) <= 1.01 * min(map(inertia, theirs))


def test_the_best_of_the_restarts_is_first():
    found = list(map(inertia, k_means(ROWS, 12, seed=1, restarts=8)))
    assert found == sorted(found) and found[0] < found[-1]
    assert [inertia(each) for each in k_means(ROWS, 12, seed=1, restarts=8)] == found


def test_first_centers_lie_apart():
    """Of 40 planted groups, rows drawn alike would miss 15."""
    centers = 100 * np.random.default_rng(1).normal(size=(40, 3))
    rows = np.repeat(centers, 20, axis=0) + np.random.default_rng(2).normal(size=(800, 3))
    chosen = quantization._first_centers(rows, 40, np.random.default_rng(3))
    assert len({((centers - row) ** 2).sum(1).argmin() for row in chosen}) >= 36


def test_fewer_different_rows_than_clusters():
    rows = np.repeat(np.eye(3), 4, axis=0)
    labels = k_means(rows, 7, seed=0)[0]
    assert len(set(zip(labels.tolist(), np.arange(12) // 4))) == len(set(labels)) == 3
    assert len(set(k_means(np.zeros((5, 2)), 5, seed=0)[0])) == 1


def test_principal_components():
    rows = ROWS @ np.linalg.qr(np.random.default_rng(4).normal(size=(4, 4)))[0] + 5
    found, share = principal(rows, 0.9)
    left, values, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert found.shape == (300, 2) and share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())
    np.testing.assert_allclose(np.abs(found), np.abs(left * values)[:, :2], atol=1e-9)
    assert principal(np.ones((5, 3)), 0.9)[0].tolist() == [[0]] * 5
    assert principal(rows, 1.0)[0].shape == (300, 4)
