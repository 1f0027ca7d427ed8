"""Distances between two sets of texts, from features of them: [N, D] and [M, D], a row a text. In float64."""

from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.intervals import Interval, bootstrap, quotient

RESAMPLES = 200
AT_ONCE = 2**22  # distances in memory
SMALLEST = 1e-12  # variance of a direction, of the largest


def pair(measure: str, generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of features in float64, of equal widths; a set may be empty.

    Args:
        measure: names what needs them, for the message.
        generated, reference: rows of features.

    Raises:
        UserError: they are no rows of finite numbers, or of different widths.
    """
    found = [np.asarray(rows, np.float64) for rows in (generated, reference)]
    given = [rows for rows in found if rows.size]
    if not all(rows.ndim == 2 and np.isfinite(rows).all() for rows in given):
        raise UserError(f"{measure}: features are not finite rows of numbers, one a text: check the scorer's weights")
    widths = sorted({rows.shape[1] for rows in given} or {0})
    if len(widths) > 1:
        raise UserError(f"{measure}: features of {widths[0]} and {widths[1]} numbers: use one scorer for both sets")
    ours, theirs = (rows if rows.size else np.zeros((0, widths[0])) for rows in found)
    return ours, theirs


def frechet(generated: np.ndarray, reference: np.ndarray) -> float | None:
    """The squared Fréchet distance (Wasserstein-2) of the normal laws with the means and covariances of both sets.

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), with covariances of divisor N - 1. With S = A^T A of the centered
    rows A, the last trace is the sum of the singular values of A1 A2^T, which needs no root of a matrix and holds for
    covariances of any rank: with N <= D rows they are taken as they are. The distance is not 0 for two samples of one
    law, and larger with fewer rows: compare equal numbers of texts only.

    Args:
        generated, reference: features [N, D] and [M, D].

    Returns:
        0 or more; None with less than two rows in a set.

    Source: Dowson and Landau, The Fréchet distance between multivariate normal distributions (1982);
    Heusel et al. (2017, arXiv 1706.08500), for features of a network.
    """
    generated, reference = pair("Fréchet distance", generated, reference)
    if min(len(generated), len(reference)) < 2:
        return None
    roots = [_root(rows) for rows in (generated, reference)]
    between = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    means = np.sum((generated.mean(0) - reference.mean(0)) ** 2)
    return float(max(means + sum((root**2).sum() for root in roots) - 2 * between, 0.0))


def _root(rows):
    """R of at most D rows with R^T R the covariance."""
    return np.linalg.qr(rows - rows.mean(0), mode="r") / np.sqrt(len(rows) - 1)


def energy_distance(
    generated: np.ndarray, reference: np.ndarray, *, seed: int, resamples: int = RESAMPLES, unbiased: bool = True
) -> Interval:
    """The (squared) energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| with Euclidean norms.

    Args:
        generated, reference: features [N, D] and [M, D].
        seed, resamples: of the interval, in which both sets are resampled.
        unbiased: leaves pairs of a row with itself out (U-statistic): 0 in the mean for two samples of one law,
            whatever their sizes, and sometimes below. Else the V-statistic, which is never below 0.

    Source: Székely and Rizzo, Energy statistics: A class of statistics based on distances (2013).
    """
    generated, reference = pair("energy distance", generated, reference)
    if len(generated) and len(reference):
        middle = np.concatenate([generated, reference]).mean(0)  # small numbers, so that their differences keep digits
        generated, reference = generated - middle, reference - middle

    def within(rows, weights):
        own = (weights**2).sum(1) if unbiased else 0
        return quotient(_sums(rows, rows, weights, weights), weights.sum(1) ** 2 - own)

    def statistic(weights, others):
        between = _sums(generated, reference, weights, others) / (weights.sum(1) * others.sum(1))
        return 2 * between - within(generated, weights) - within(reference, others)

    return bootstrap(statistic, len(generated), len(reference), seed=seed, resamples=resamples, centered=not unbiased)


def _sums(x, y, weights, others):
    """[R]: the sum of w_i v_j |x_i - y_j| for weights w [R, N] and v [R, M]."""
    squares, total = (y**2).sum(1), np.zeros(len(weights))
    step = max(1, AT_ONCE // len(y))
    for start in range(0, len(x), step):
        rows = x[start : start + step]
        lengths = np.sqrt(np.maximum((rows**2).sum(1)[:, None] - 2 * rows @ y.T + squares, 0))
        if x is y:
            lengths[np.arange(len(rows)), np.arange(start, start + len(rows))] = 0
        total += np.sum(weights[:, start : start + step] * (others @ lengths.T), axis=1)
    return total


class Typicality(NamedTuple):
    """How typical generated texts are among real ones.

    Attributes:
        p: the mean p-value and its interval; 0.5 for texts of one law, less for texts farther from the center than
            real ones, more for texts too near to it.
        p_values: [N], one a text.
        deviation: the Kolmogorov-Smirnov distance of both sets' distances, 0 to 1, which sees texts that are too far
            and too near in balance; None where p has no value.
    """

    p: Interval
    p_values: np.ndarray
    deviation: float | None


def typicality(generated: np.ndarray, reference: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Typicality:
    """Typicality (Ledoit-Wolf) of generated texts under a normal law of features of real ones.

    The mean and the covariance (`ledoit_wolf`) are those of a random half of the reference rows. The Mahalanobis
    distance d of a text has the p-value P(d' > d) + P(d' = d) / 2 over the distances d' of the other half, which the
    fit has not seen. The mean p-value is the Mann-Whitney statistic of both sets of distances.

    Args:
        generated, reference: features [N, D] and [M, D]; without a value for M < 3.
        seed: of the halves and the interval.
        resamples: of the interval, in which generated and held-out rows are resampled for the law that was fitted.
    """
    generated, reference = pair("typicality", generated, reference)
    if not len(generated) or len(reference) < 3:
        return Typicality(Interval(None, None, None), np.zeros(0), None)
    order = np.random.default_rng(seed).permutation(len(reference))
    fitted, held_out = np.split(reference[order], [(len(order) + 1) // 2])
    ours, theirs = (mahalanobis(rows, fitted) for rows in (generated, held_out))
    farther = np.less.outer(ours, theirs) + 0.5 * np.equal.outer(ours, theirs)

    def statistic(weights, others):
        return np.sum((weights @ farther) * others, axis=1) / (weights.sum(1) * others.sum(1))

    p = bootstrap(statistic, len(ours), len(theirs), seed=seed, resamples=resamples)
    return Typicality(p, farther.mean(1), kolmogorov_smirnov(ours, theirs))


def mahalanobis(rows: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """[N]: squared Mahalanobis distances of rows [N, D] from the mean of others [M, D], by their `ledoit_wolf`.

    A direction in which these do not vary counts as one of 1e-12 of the largest variance.
    """
    variances, directions = np.linalg.eigh(ledoit_wolf(fitted)[0])
    largest = variances[-1] if variances[-1] > 0 else 1.0
    projected = (rows - fitted.mean(0)) @ directions
    return np.sum(projected**2 / np.maximum(variances, SMALLEST * largest), axis=1)


def ledoit_wolf(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """A covariance that has an inverse with few rows: (1 - s) S + s m I.

    S is the covariance of divisor N and m its mean variance. The shrinkage s estimates the best for the squared error:
    the variance of S, sum_i |x_i x_i^T - S|^2 / N^2 for centered rows x, over |S - m I|^2, at most 1.

    Args:
        rows: [N, D].

    Returns:
        [D, D], and s.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices (2004).
    """
    centered = rows - rows.mean(0)
    covariance = centered.T @ centered / len(rows)
    identity = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
    spread = np.sum((covariance - identity) ** 2)
    noise = np.sum((centered**2).sum(1) ** 2) / len(rows) ** 2 - np.sum(covariance**2) / len(rows)
    shrinkage = float(min(max(noise, 0) / spread, 1)) if spread > 0 else 0.0
    return (1 - shrinkage) * covariance + shrinkage * identity, shrinkage


def kolmogorov_smirnov(values: np.ndarray, others: np.ndarray) -> float:
    """The largest difference of the shares of values [N] and of others [M] that are at most x, over all x."""
    at = np.concatenate([values, others])
    shares = [np.searchsorted(np.sort(each), at, side="right") / len(each) for each in (values, others)]
    return float(np.abs(shares[0] - shares[1]).max())
