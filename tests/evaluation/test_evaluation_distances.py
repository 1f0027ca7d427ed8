"""Distances of features against laws whose distances are known, other implementations, and sums written out."""

import numpy as np
import pytest
from scipy import linalg, stats

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import distances, intervals
from semdlm_jax.evaluation.distances import energy_distance, frechet, ledoit_wolf, mahalanobis, typicality
from semdlm_jax.evaluation.intervals import Interval

DRAW = np.random.default_rng(0)
NONE = Interval(None, None, None)


def sample(mean, covariance, rows=40):
    """Rows with exactly this mean and covariance."""
    drawn = DRAW.normal(size=(rows, len(mean)))
    drawn -= drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def rotated(variances):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    return turn @ np.diag(variances) @ turn.T


def test_frechet_distance_of_normal_laws_that_commute():
    a, b, shift = np.array([9.0, 4, 1, 0.25]), np.array([1.0, 4, 16, 1]), np.array([1.0, 0, -2, 0])
    found = frechet(sample(shift, rotated(a)), sample(np.zeros(4), rotated(b), 55))
    assert found == pytest.approx(5 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-12)


@pytest.mark.parametrize("rows", [(40, 30), (5, 40), (4, 6), (2, 2)])
def test_frechet_distance_of_any_rank(rows):
    x, y = (DRAW.normal(size=(n, 8)) @ DRAW.normal(size=(8, 8)) + DRAW.normal(size=8) for n in rows)
    product = np.cov(x.T) @ np.cov(y.T)
    trace = np.sqrt(np.maximum(np.linalg.eigvals(product).real, 0)).sum()
    if min(rows) > 8:
        assert trace == pytest.approx(np.trace(linalg.sqrtm(product)).real, rel=1e-9)
    means = np.sum((x.mean(0) - y.mean(0)) ** 2)
    assert frechet(x, y) == pytest.approx(means + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * trace, rel=1e-7)
    assert frechet(x, x) == pytest.approx(0, abs=1e-12 * np.trace(np.cov(x.T)))


def test_energy_distance_in_one_dimension():
    x, y = DRAW.normal(size=30), DRAW.exponential(size=20)
    found = energy_distance(x[:, None], y[:, None], seed=0, resamples=2, unbiased=False)
    assert found.value == pytest.approx(stats.energy_distance(x, y) ** 2, rel=1e-10)


def pairs(x, y):
    return np.linalg.norm(x[:, None] - y, axis=2)


def test_energy_distance_leaves_a_row_with_itself_out(monkeypatch):
    x, y = DRAW.normal(size=(9, 3)), DRAW.normal(size=(7, 3)) + 1
    within = [pairs(rows, rows)[~np.eye(len(rows), dtype=bool)].mean() for rows in (x, y)]
    expected = 2 * pairs(x, y).mean() - sum(within)
    assert energy_distance(x, y, seed=0, resamples=2).value == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(distances, "AT_ONCE", 20)
    far = energy_distance(x + 1e6, y + 1e6, seed=0, resamples=2)
    assert far.value == pytest.approx(expected, rel=1e-7)


def test_the_interval_of_an_energy_distance_is_that_of_resampled_rows():
    x, y = DRAW.normal(size=(15, 2)), DRAW.normal(size=(12, 2)) + 0.5

    def of(x, y):
        return 2 * pairs(x, y).mean() - pairs(x, x).mean() - pairs(y, y).mean()

    expected = intervals.bootstrap(intervals.of_rows(of, x, y), 15, 12, seed=3, resamples=60, centered=True)
    found = energy_distance(x, y, seed=3, resamples=60, unbiased=False)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_pairs_of_a_row_drawn_twice_are_pairs_of_a_row_with_itself():
    x, y = DRAW.normal(size=(15, 2)), DRAW.normal(size=(12, 2))

    def within(rows, drawn):
        return pairs(rows[drawn], rows[drawn])[drawn[:, None] != drawn].mean()

    def of(i, j):
        return 2 * pairs(x[i], y[j]).mean() - within(x, i) - within(y, j)

    statistic = intervals.of_rows(of, np.arange(15), np.arange(12))
    expected = intervals.bootstrap(statistic, 15, 12, seed=3, resamples=60)
    np.testing.assert_allclose(energy_distance(x, y, seed=3, resamples=60), expected, rtol=1e-9)


def test_two_samples_of_one_law_have_no_energy_distance_in_the_mean():
    found = [energy_distance(*np.split(DRAW.normal(size=(30, 2)), [10]), seed=0, resamples=2).value for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)


def test_shrinkage_of_ledoit_and_wolf_written_out():
    rows = DRAW.normal(size=(12, 5)) * [1, 2, 3, 4, 5]
    x = rows - rows.mean(0)
    covariance = sum(np.outer(row, row) for row in x) / 12
    target = np.trace(covariance) / 5 * np.eye(5)
    noise = sum(np.sum((np.outer(row, row) - covariance) ** 2) for row in x) / 12**2
    shrinkage = noise / np.sum((covariance - target) ** 2)
    found, share = ledoit_wolf(rows)
    assert share == pytest.approx(shrinkage, rel=1e-10) and 0.05 < share < 1
    np.testing.assert_allclose(found, shrinkage * target + (1 - shrinkage) * covariance, rtol=1e-10)
    assert ledoit_wolf(np.repeat(rows, 10_000, axis=0))[1] < 1e-4
    assert ledoit_wolf(DRAW.normal(size=(2000, 30)))[1] == pytest.approx(1, abs=0.1)
    assert ledoit_wolf(rows[:, :1])[1] == 0


def test_mahalanobis_distances():
    fitted, rows = DRAW.normal(size=(30, 4)) @ DRAW.normal(size=(4, 4)) + 3, DRAW.normal(size=(6, 4))
    shifted = rows - fitted.mean(0)
    expected = np.einsum("ni,ij,nj->n", shifted, np.linalg.inv(ledoit_wolf(fitted)[0]), shifted)
    np.testing.assert_allclose(mahalanobis(rows, fitted), expected, rtol=1e-9)


def test_typicality_of_one_law_is_a_half_in_the_mean():
    """Distances of rows that the fit has seen would be smaller: 0.39 here."""
    draws = [np.split(DRAW.normal(size=(60, 10)), [20]) for _ in range(60)]
    found = [typicality(x, y, seed=i, resamples=2).p.value for i, (x, y) in enumerate(draws)]
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / np.sqrt(60) < 0.06


def test_typicality_of_far_texts_and_of_too_near_ones():
    mix = DRAW.normal(size=(6, 6))
    reference, one_law, far, near, nearest = (DRAW.normal(size=(n, 6)) for n in (400, 150, 150, 75, 75))
    laws = one_law, far + 3, near / 5, np.concatenate([nearest / 5, 3 * far[:75]])
    same, far, near, balanced = (typicality(rows @ mix + 4, reference @ mix + 4, seed=0) for rows in laws)
    assert abs(same.p.value - 0.5) < 0.1 and 0.05 < same.p.high - same.p.low < 0.2 and same.deviation < 0.2
    assert same.p.low < same.p.value < same.p.high and np.ptp(same.p_values) > 0.9
    assert same.p_values.mean() == pytest.approx(same.p.value, rel=1e-12)
    assert far.p.high < 0.02 and far.deviation > 0.9
    assert near.p.low > 0.9 and near.deviation > 0.8
    assert abs(balanced.p.value - 0.5) < 0.1 and balanced.deviation > 0.4


def test_typicality_is_the_rank_statistic_of_distances_that_the_fit_has_not_seen():
    x, y = DRAW.normal(size=(20, 3)) * 1.3, DRAW.normal(size=(31, 3))
    order = np.random.default_rng(7).permutation(31)
    ours, theirs = (mahalanobis(rows, y[order[:16]]) for rows in (x, y[order[16:]]))
    found = typicality(x, y, seed=7, resamples=2)
    assert found.p.value == pytest.approx(stats.mannwhitneyu(theirs, ours).statistic / (20 * 15), rel=1e-12)
    assert found.deviation == pytest.approx(stats.ks_2samp(ours, theirs).statistic, rel=1e-12)
    ties = distances.kolmogorov_smirnov(np.array([1.0, 2, 2]), np.array([2.0, 3]))
    assert ties == pytest.approx(stats.ks_2samp([1, 2, 2], [2, 3]).statistic)


def test_a_direction_without_variance_makes_what_leaves_it_untypical():
    reference = np.stack([DRAW.normal(size=50), np.full(50, 2.0)], axis=1)
    inside, outside = ([[0.1, 2.0]], [[0.1, 2.5]])
    assert mahalanobis(np.array(outside), reference)[0] > 1 > mahalanobis(np.array(inside), reference)[0]
    still = np.ones((8, 3))
    assert typicality(still[:2], still, seed=0).p == (0.5, 0.5, 0.5)
    assert typicality(still[:2] + 1, still, seed=0).p == (0, 0, 0)


def test_sets_that_are_too_small_have_no_distance():
    one, two, few = (DRAW.normal(size=(n, 3)) for n in (1, 2, 5))
    empty = np.zeros((0, 3))
    for small in ([], empty, one):
        assert frechet(small, few) is None and frechet(few, small) is None
        assert energy_distance(small, few, seed=0) == NONE == energy_distance(few, small, seed=0)
        assert typicality(few, small, seed=0).p == NONE
    assert energy_distance(one, one + 1, seed=0, unbiased=False) == (pytest.approx(2 * np.sqrt(3)), None, None)
    assert energy_distance(two, two[::-1], seed=0).value == pytest.approx(-pairs(two, two)[0, 1])
    assert typicality(few, two, seed=0) == (NONE, pytest.approx([]), None) == typicality(empty, few, seed=0)
    assert typicality(one, np.concatenate([two, one]), seed=0).p.value in (0, 0.5, 1)
    assert typicality(few, few[:, :1] @ np.ones((1, 3)), seed=0).p.value is not None


def test_features_that_do_not_fit():
    with pytest.raises(UserError, match="Fréchet distance: features of 3 and 4 numbers: use one scorer"):
        frechet(np.zeros((5, 4)), np.zeros((5, 3)))
    for wrong in (np.zeros(5), np.full((5, 3), np.inf), np.zeros((5, 3, 1))):
        with pytest.raises(UserError, match="energy distance: features are not finite rows"):
            energy_distance(np.zeros((5, 3)), wrong, seed=0)
