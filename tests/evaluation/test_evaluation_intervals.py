"""Bootstrap intervals against the law of a mean, written-out resamples, and rows that define nothing."""

import numpy as np
import pytest

from semdlm_jax.evaluation import intervals
from semdlm_jax.evaluation.intervals import Interval

VALUES = np.random.default_rng(0).exponential(size=400)


def test_interval_of_a_mean_is_that_of_the_central_limit():
    found = intervals.mean(VALUES, seed=1, resamples=4000)
    half = 1.96 * VALUES.std() / np.sqrt(len(VALUES))
    assert found.value == pytest.approx(VALUES.mean(), rel=1e-12)
    np.testing.assert_allclose([found.low, found.high], [found.value - half, found.value + half], atol=0.15 * half)


def test_it_covers_the_truth_as_often_as_it_says():
    drawn = np.random.default_rng(2).normal(3, 2, size=(300, 60))
    found = [intervals.mean(values, seed=i, resamples=200) for i, values in enumerate(drawn)]
    assert 0.90 <= np.mean([low <= 3 <= high for _, low, high in found]) <= 0.98


def test_a_ratio_of_sums_is_resampled_by_rows():
    wholes = np.random.default_rng(3).integers(1, 9, size=50)
    parts = wholes * np.random.default_rng(4).uniform(size=50)
    found = intervals.ratio(parts, wholes, seed=5)
    kept = np.random.default_rng([5, 0]).integers(50, size=(intervals.RESAMPLES + 1, 50))[1:]
    expected = np.quantile(parts[kept].sum(1) / wholes[kept].sum(1), [0.025, 0.975])
    np.testing.assert_allclose(found, [parts.sum() / wholes.sum(), *expected], rtol=1e-12)


def test_both_groups_are_resampled():
    """The variance of log(mean / mean) is the sum of both parts."""
    a, b = VALUES[:200] + 1, 2 * VALUES[200:] + 1
    found = intervals.ratio_of_means(a, b, seed=0, resamples=4000)
    spread = np.sqrt(sum(x.var() / x.mean() ** 2 / len(x) for x in (a, b)))
    assert found.value == pytest.approx(a.mean() / b.mean(), rel=1e-12)
    assert np.log(found.high / found.low) / (2 * 1.96) == pytest.approx(spread, rel=0.07)
    itself = intervals.ratio_of_means(a, a, seed=0)
    assert itself.value == 1 and itself.high - itself.low > 0.1  # the groups are drawn independently


def test_equal_seeds_give_equal_intervals_however_many_fit_in_memory(monkeypatch):
    def of(seed):
        return intervals.ratio_of_means(VALUES[:150], VALUES[150:], seed=seed)

    expected = of(7)
    assert of(7) == expected and abs(of(8).low - expected.low) > 1e-6
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 900)
    np.testing.assert_allclose(of(7), expected, rtol=1e-12)


def test_functions_of_rows():
    statistic = intervals.of_rows(lambda rows: float(np.median(rows)) if rows.sum() < 500 else None, VALUES)
    found = intervals.bootstrap(statistic, len(VALUES), seed=5, resamples=50)
    kept = np.random.default_rng([5, 0]).integers(len(VALUES), size=(51, len(VALUES)))[1:]
    expected = np.quantile(np.median(VALUES[kept], axis=1), [0.025, 0.975])
    np.testing.assert_allclose(found, [np.median(VALUES), *expected], rtol=1e-12)


def test_a_centered_interval_is_moved_to_the_value():
    """The share of different rows falls when rows are drawn with replacement."""

    def different(weights):
        return (weights > 0).mean(1)

    plain, centered = (intervals.bootstrap(different, 100, seed=0, centered=moved) for moved in (False, True))
    assert plain.high < 0.75 < plain.value == 1
    assert centered.low < 1 < centered.high
    assert centered.high - centered.low == pytest.approx(plain.high - plain.low)


def test_rows_that_define_nothing():
    none = Interval(None, None, None)
    assert intervals.mean(np.zeros(0), seed=0) == none
    assert intervals.ratio([0, 0], [0, 0], seed=0) == none
    assert intervals.ratio_of_means(VALUES, [0.0, 0.0], seed=0) == none
    assert intervals.mean([2.5], seed=0) == Interval(2.5, None, None)
    assert intervals.ratio_of_means([2.0, 2.0], [4.0], seed=0) == Interval(0.5, None, None)
    assert intervals.mean([1.0, 2.0], seed=0) == Interval(1.5, 1.0, 2.0)
    # Resamples without the only row that has a whole are left out.
    assert intervals.ratio([1, 0], [2, 0], seed=0) == Interval(0.5, 0.5, 0.5)
    nothing = intervals.of_rows(lambda rows: 1.0 if len(np.unique(rows)) == 400 else None, VALUES)
    assert intervals.bootstrap(nothing, 400, seed=0, resamples=3) == Interval(1.0, None, None)
