"""What tests compare with: frequencies of draws, posteriors, rates and divergences of toys, written out."""

import functools

import jax
import numpy as np
import scipy.stats
from toy_vocabulary import V


def key(seed):
    """A key whose draws compile in a fifth of the time."""
    return jax.random.key(seed, impl="unsafe_rbg")


@functools.partial(jax.jit, static_argnums=0)
def compiled(method, kernel, *arguments):
    """What this method of the kernel gives: one program instead of one for each of its operations."""
    return getattr(kernel, method)(*arguments)


def assert_frequencies(drawn, probs, false_alarm=1e-6):
    """Chi-squared test of drawn tokens against probs [V]; what is impossible must not occur.

    false_alarm: the chance that a correct sampler fails. Seeds are fixed, so a pass stays a pass.
    """
    drawn = np.asarray(drawn).ravel()
    counts = np.bincount(drawn, minlength=len(probs)).astype(float)
    assert len(counts) == len(probs), "a token outside the vocabulary was drawn"
    assert counts[probs == 0].sum() == 0, "an impossible token was drawn"
    expected = len(drawn) * probs
    rare = expected < 5
    observed, expected = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert observed[-1] < 5 + scipy.stats.poisson.isf(false_alarm, 5)
        observed, expected = observed[:-1], expected[:-1]
    if len(expected) > 1:
        statistic = np.sum((observed - expected) ** 2 / expected)
        assert statistic < scipy.stats.chi2.isf(false_alarm, len(expected) - 1), (observed, expected)


def random_posteriors(toy, t, rng, sharpness=2.0):
    """[V, V] by x_t: posteriors that are nobody's Bayes posterior, on the clean tokens that x_t can come from."""
    reach = toy.matrix(t).T > 0
    if toy.mask_id is not None:
        reach[:, toy.mask_id] = False
    weight = np.where(reach, np.exp(sharpness * rng.standard_normal((V, V))), 0)
    total = weight.sum(1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1), 0)


def log(p):
    """log p, and the code's stand-in for log 0."""
    return np.where(p > 0, np.log(np.where(p > 0, p, 1)), -1e30)


def true_rates(toy, posterior, t):
    """[V, V] by (x0, x_t): the integrand of the NELBO for posteriors [V, V] by x_t, written out: with the rate
    R(z -> y | k) = `toy.changed` / q_t(z | k), R_theta(y) = sum_k p(k) R(y | k), the sum over y != z of
    R_theta - R + R log(R / R_theta). NaN where x_t cannot come from x0.
    """
    q, changed = toy.matrix(t), toy.changed(t)
    assert changed.min() > -1e-6 * (1 + np.abs(changed).max())
    rate = np.maximum(changed, 0) / np.where(q > 0, q, 1)[..., None] * (q > 0)[..., None]
    model = np.broadcast_to(np.einsum("zk,kzy->zy", posterior, rate), rate.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = model - rate + np.where(rate > 0, rate * np.log(rate / model), 0)
    terms = np.where(np.eye(V, dtype=bool)[None], 0, terms)
    return np.where(q > 0, terms.sum(-1), np.nan)


def possible(toy, times):
    """[T, V, V]: how often x0 becomes x_t; no text holds the mask."""
    chances = np.stack([toy.matrix(t) for t in times])
    if toy.mask_id is not None:
        chances[:, toy.mask_id] = 0
    return chances


def divergence(p, q):
    """KL(p || q) in nats."""
    return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))


def mixed_prior(toy, t):
    """[V]: what the model starts from at t: the prior, and a flat share for what is still kept."""
    alpha = toy.alpha(t)
    return alpha / V + (1 - alpha) * toy.prior(t)
