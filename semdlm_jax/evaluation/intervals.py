"""Bootstrap intervals of statistics over samples.

A resample is written as weights: how often each row was drawn. Means, ratios of sums, histograms and pair sums are
then products with a matrix of weights, for many resamples at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000
DRAWS_AT_ONCE = 2**22  # weights in memory
Statistic = Callable[..., np.ndarray]


class Interval(NamedTuple):
    """A statistic of the samples and its interval.

    Attributes:
        value: the statistic; None where the samples do not define it.
        low, high: the ends of its 95 % bootstrap interval; None where the value is, or with a group of one row.
    """

    value: float | None
    low: float | None
    high: float | None


def bootstrap(
    statistic: Statistic, *sizes: int, seed: int, resamples: int = RESAMPLES, centered: bool = False
) -> Interval:
    """The 95 % percentile interval over rows drawn with replacement, from each group as many as it has.

    Args:
        statistic: takes an array of weights a group, each [R, rows of the group], and returns [R] values, NaN where
            it is not defined. Such resamples are left out.
        sizes: the rows of every group; the groups are drawn independently.
        seed: of the draws. Equal seeds give equal intervals.
        resamples: how many.
        centered: moves the interval so that the mean of the resamples falls on the value. For statistics that
            repeated rows shift (MAUVE and distinct n-grams fall, distances rise): the interval then shows the spread
            at this number of samples, not that shift.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993): percentile intervals.
    """
    if not all(sizes):
        return Interval(None, None, None)
    streams = [(np.random.default_rng([seed, group]), size) for group, size in enumerate(sizes)]
    at_once = max(1, DRAWS_AT_ONCE // sum(sizes))
    found = np.zeros(0)
    while len(found) <= resamples:  # the first row of weights is that of the samples themselves
        part = min(at_once, resamples + 1 - len(found))
        found = np.append(found, statistic(*(_weights(rng, part, size, not len(found)) for rng, size in streams)))
    value, found = float(found[0]), found[1:]
    if not np.isfinite(value):
        return Interval(None, None, None)
    if min(sizes) < 2:
        return Interval(value, None, None)
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(value, None, None)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    shift = value - found.mean() if centered else 0.0
    return Interval(value, float(low + shift), float(high + shift))


def _weights(rng, resamples, size, with_ones):
    """[resamples, size] float64: how often each row was drawn, or once in the first."""
    drawn = rng.integers(size, size=(resamples, size))
    if with_ones:
        drawn[0] = np.arange(size)
    places = drawn + size * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def mean(values: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The mean of the values [N] of N independent rows."""
    return ratio(values, np.ones(len(values)), seed=seed, resamples=resamples)


def ratio(parts: np.ndarray, wholes: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """sum(parts) / sum(wholes) over rows, such as a rate over all tokens of the texts.

    Args:
        parts, wholes: [N], of the same rows. Resamples whose wholes sum to 0 are left out.
        seed, resamples: as in `bootstrap`.
    """
    parts, wholes = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    return bootstrap(
        lambda weights: quotient(weights @ parts, weights @ wholes), len(parts), seed=seed, resamples=resamples
    )


def quotient(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """parts / wholes; NaN where wholes is 0."""
    return np.divide(parts, wholes, out=np.full(np.shape(parts), np.nan), where=wholes != 0)


def ratio_of_means(values: np.ndarray, reference: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Interval:
    """mean(values) / mean(reference), [N] and [M]; both groups are resampled."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)

    def statistic(weights, others):
        return quotient(weights @ values / len(values), others @ reference / len(reference))

    return bootstrap(statistic, len(values), len(reference), seed=seed, resamples=resamples)


def of_rows(function: Callable[..., float | None], *groups: np.ndarray) -> Statistic:
    """A statistic of weights from a function of rows, for those that have no short form in weights.

    Args:
        function: takes the rows of every group and returns a number, or None where they do not define it.
        groups: arrays of rows [N, …].
    """

    def statistic(*weights):
        found = []
        for each in zip(*weights, strict=True):
            value = function(*(np.repeat(rows, w.astype(int), axis=0) for rows, w in zip(groups, each, strict=True)))
            found.append(np.nan if value is None else value)
        return np.array(found, np.float64)

    return statistic
