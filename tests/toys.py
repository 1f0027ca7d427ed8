"""Vocabularies so small that everything can be enumerated.

The oracles here are V x V matrices in numpy float64, written from the definitions of the process:

    q_t(j | i) = alpha 1[j = i] + beta nu(j) + sigma s(j | i),   s: neighbour r of i has weight clip(k - r, 0, 1) / k,

and what a short row cannot place goes to nu. They share nothing with the code under test.
Times may be complex: every weight is analytic between the kinks, so a derivative in t is an exact imaginary part.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from semdlm_jax.kernels import GlobalPrior, Kernel, NeighbourTable, make_kernel, schedules

V, K, MASK = 12, 4, 2

# Full, short and empty rows; 0, 1, MASK, 10 and 11 are nobody's neighbour, 9 is one without having any.
ROWS = ((), (), (), (4, 5, 6, 7), (3, 5), (4,), (3, 4, 5, 8), (8, 3, 4, 9), (9, 7, 3), (), (9, 8, 7, 3), (3, 4, 5, 6))
ALONE = ((),) * V

FLAT = np.full(V, 1 / V)
AT_MASK = np.eye(V)[MASK]
SKEWED = np.arange(1.0, V + 1) ** 2 / np.sum(np.arange(1.0, V + 1) ** 2)
# Some tokens are never jumped to: only keeping them, or a neighbour, produces them.
GAPPED = np.where(np.arange(V) % 4 == 0, 0, SKEWED) / np.where(np.arange(V) % 4 == 0, 0, SKEWED).sum()

# What the texts of the toys are made of; the mask is no text.
P_DATA = np.where(np.arange(V) == MASK, 0, np.random.default_rng(3).dirichlet(np.full(V, 0.7)) + 0.01)
P_DATA = P_DATA / P_DATA.sum()
LOG_P_DATA = np.log(np.where(P_DATA > 0, P_DATA, 1e-300))
ENTROPY = -np.sum(P_DATA * LOG_P_DATA)


def lists(rows, k=K):
    """(ids, similarities) as `NeighbourTable.from_lists` takes them."""
    ids = np.array([list(row) + [-1] * (k - len(row)) for row in rows], np.int32).reshape(len(rows), k)
    return ids, np.where(ids >= 0, 0.9 - 0.1 * np.arange(k), 0.0)


def table(rows=ROWS):
    return NeighbourTable.from_lists(*lists(rows))


@dataclasses.dataclass(frozen=True)
class Toy:
    """A kernel in the code (`build()`) beside its definition: weights(t) -> (alpha, beta, sigma, k - 1), rows, nu."""

    name: str
    build: Callable
    weights: Callable
    rows: tuple
    nu: np.ndarray
    mask_id: int | None = None

    def matrix(self, t):
        """[V, V]: q_t(j | i) in row i, column j."""
        alpha, beta, sigma, growth = self.weights(t)
        k = 1 + growth
        q = np.zeros((V, V), np.result_type(t, np.float64))
        for i, row in enumerate(self.rows):
            q[i, i] += alpha
            for r, j in enumerate(row):
                above = growth - (r - 1)
                q[i, j] += sigma * (1.0 if np.real(above) >= 1 else 0.0 if np.real(above) <= 0 else above) / k
            missing = growth - (len(row) - 1)
            short = missing / k if np.real(missing) > 0 else 0
            q[i] += (beta + sigma * short) * self.nu
        return q

    def derivative(self, t):
        """[V, V]: dq_t(j | i) / dt, exact away from whole k."""
        return self.matrix(t + 1e-30j).imag / 1e-30

    def keep(self, t, s):
        """[V]: a(x0) = min(alpha_t / alpha_s, min of q_t / q_s over the support of q_s)."""
        at_t, at_s = self.matrix(t), self.matrix(s)
        ratios = np.where(at_s > 0, at_t / np.where(at_s > 0, at_s, 1), np.inf)
        return np.minimum(self.weights(t)[0] / self.weights(s)[0], ratios.min(1))

    def leave_rate(self, t):
        """[V]: lambda(x0) = max(-alpha' / alpha, max of -q' / q over the support of q)."""
        q, q_dot = self.matrix(t), self.derivative(t)
        alpha = self.weights(t + 1e-30j)[0]
        rates = np.where(q > 0, -q_dot / np.where(q > 0, q, 1), -np.inf)
        return np.maximum(-alpha.imag / 1e-30 / alpha.real, rates.max(1))

    def reverse(self, t, s):
        """[V, V, V]: q(x_s | x_t, x0) indexed [x0, x_t, x_s], by Bayes' rule on the forward process given x0:
        it keeps the token with probability a and else draws it from (q_t - a q_s) / (1 - a). Zero for impossible x_t."""
        at_t, at_s = self.matrix(t), self.matrix(s)
        a = self.keep(t, s)[:, None]
        fresh = at_t - a * at_s
        assert fresh.min() > -1e-15, "the conditional process would need negative probabilities"
        joint = a[..., None] * np.eye(V) * at_s[:, None, :] + fresh[:, :, None] * at_s[:, None, :]
        total = joint.sum(-1, keepdims=True)
        return np.where(total > 1e-300, joint / np.where(total > 1e-300, total, 1), 0)

    def bayes(self, t, p=P_DATA):
        """[V, V]: the exact posterior p(x0 | x_t), row x_t; rows of unreachable x_t are zero."""
        joint = (p[:, None] * self.matrix(t)).T
        total = joint.sum(1, keepdims=True)
        return np.where(total > 0, joint / np.where(total > 0, total, 1), 0)


def _linear(t):
    return 1 - t, t, 0 * t, 0 * t


def _semantic(gamma):
    return lambda t: (1 - t, t**2, t - t**2, (K - 1) * t**gamma)


def _practical(gamma, alpha_min, alpha_power, beta_max, beta_power):
    def weights(t):
        alpha = alpha_min + (1 - alpha_min) * (1 - t) ** alpha_power
        beta = beta_max * t**beta_power
        return alpha, beta, 1 - alpha - beta, (K - 1) * t**gamma

    return weights


def _named(name, **options):
    return lambda: make_kernel(name, vocab_size=V, mask_id=MASK, table=table(), **options)


def _practical_toy(name, **options):
    return Toy(name, _named("semdlm_plus_practical", **options), _practical(**options), ROWS, FLAT)


def _direct(name, weights, schedule, rows, nu, mask_id=None):
    return Toy(
        name,
        lambda: Kernel(table(rows), GlobalPrior.from_probs(nu), schedule, mask_id=mask_id),
        weights,
        rows,
        nu,
        mask_id,
    )


TOYS = {
    toy.name: toy
    for toy in (
        Toy("absorbing", _named("absorbing"), _linear, ALONE, AT_MASK, MASK),
        Toy("uniform", _named("uniform"), _linear, ALONE, FLAT),
        Toy("slow_growth", _named("semdlm_plus", gamma=0.5), _semantic(0.5), ROWS, FLAT),
        Toy("semdlm_plus", _named("semdlm_plus"), _semantic(1.0), ROWS, FLAT),
        Toy("late_growth", _named("semdlm_plus", gamma=4.0), _semantic(4.0), ROWS, FLAT),
        _practical_toy("practical", gamma=1.0, alpha_min=0.0, alpha_power=1.5, beta_max=1.0, beta_power=3.0),
        _practical_toy("practical_unfinished", gamma=2.0, alpha_min=0.1, alpha_power=1.0, beta_max=0.7, beta_power=2.5),
        _direct("unigram", _linear, schedules.Linear(), ALONE, SKEWED),
        _direct("gapped", _semantic(4.0), schedules.SemanticThenGlobal(K, 4.0), ROWS, GAPPED),
        _direct("semantic_mask", _semantic(1.0), schedules.SemanticThenGlobal(K, 1.0), ROWS, AT_MASK, MASK),
    )
}
# Those whose noise at t = 1 is the prior, whatever the text was.
FORGETTING = [name for name in TOYS if name != "practical_unfinished"]


def key(seed):
    """A key whose draws compile in a fifth of the time."""
    return jax.random.key(seed, impl="unsafe_rbg")


def pairs():
    """(x0, xt), each [V, V] int32, x0 down the rows."""
    return jnp.asarray(np.indices((V, V), np.int32))


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
    """[V, V] by (x0, x_t): the integrand of the NELBO for posteriors [V, V] by x_t, written out:

    h(z | k) = q'_t(z | k) / q_t(z | k) + lambda(k);
    R(y) = h(z | x0) q_t(y | x0);   R_theta(y) = sum_k p(k) h(z | k) q_t(y | k);
    the sum over y != z of R_theta - R + R log(R / R_theta). NaN where x_t cannot come from x0.
    """
    q = toy.matrix(t)
    h = np.where(q > 0, toy.derivative(t) / np.where(q > 0, q, 1) + toy.leave_rate(t)[:, None], 0)
    assert h.min() > -1e-9
    h = np.maximum(h, 0)
    rate = h[:, :, None] * q[:, None, :]
    model = np.broadcast_to(np.einsum("zk,kzy->zy", posterior, rate), rate.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = model - rate + np.where(rate > 0, rate * np.log(rate / model), 0)
    terms = np.where(np.eye(V, dtype=bool)[None], 0, terms)
    return np.where(q > 0, terms.sum(-1), np.nan)


def divergence(p, q):
    """KL(p || q) in nats."""
    return np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))


def mixed_prior(toy, t):
    """[V]: what the model starts from at t: the prior, and a flat share for what is still kept."""
    alpha = toy.weights(t)[0]
    return alpha / V + (1 - alpha) * toy.nu
