"""All quantities of a kernel under a data prior, at vocabularies of any size.

Sums over the states x_t take all of them where they are few, and else a weighted sample; likelihoods of all clean
tokens are computed for some states at a time. Only `steps` holds rows of the reverse kernel: those it is asked for.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.kernels import KernelBase
from semdlm_jax.theory.clusters import Amplification, amplification, cluster_of
from semdlm_jax.theory.difficulty import EPSILON, Geometry, dispersion, geometry
from semdlm_jax.theory.enumeration import marginal, over_states, posterior, reverse_matrix
from semdlm_jax.theory.gradients import GradientVariance, gradient_variance
from semdlm_jax.theory.repair import contraction, contraction_at_least, refresh_mass, shared_mass

Array = jax.Array
ALIVE = 1 << 21  # entries of [times, states, V] that are computed at once
FEW = 64  # states whose pairs are all looked at
STARTS = 64  # of the search for two rows that are far apart


def time_quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(times [count], weights [count]) of Gauss and Legendre on [0, 1]: exact for polynomials of degree 2 count - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


class States(NamedTuple):
    """States that stand for all: a sum over all x of f(x) is estimated by the sum of weights f(ids).

    Attributes:
        ids: [S].
        weights: [S], 1 of a state that stands for itself alone.
        sampled: [S] bool, of states that were drawn.
    """

    ids: np.ndarray
    weights: np.ndarray
    sampled: np.ndarray


def choose_states(visits: np.ndarray, count: int, seed: int = 0) -> States:
    """All states that are visited, if there are at most `count`; else those visited most, and a systematic sample of
    the others.

    Args:
        visits: [N], how often each state is visited.
        count: the largest number of states.
        seed: of the sample.
    """
    visits = np.asarray(visits, float)
    order = np.argsort(-visits, kind="stable")[: np.count_nonzero(visits)]
    if len(order) <= count:
        order = np.sort(order)
        return States(order, np.ones(len(order)), np.zeros(len(order), bool))
    # A systematic sample, in proportion to visits, holds a state for certain if its share of what is left is 1 or more.
    left = np.cumsum(visits[order][::-1])[::-1]
    certain = int(np.argmax(visits[order] * (count - np.arange(len(order))) < left))
    rest, drawn = np.random.default_rng(seed).permutation(order[certain:]), count - certain
    chances = drawn * visits[rest] / visits[rest].sum()
    places = np.random.default_rng(seed + 1).uniform() + np.arange(drawn)
    found = np.unique(np.minimum(np.searchsorted(np.cumsum(chances), places), len(rest) - 1))
    sampled = np.arange(certain + len(found)) >= certain
    weights = np.concatenate([np.ones(certain), 1 / chances[found]])
    return States(np.concatenate([order[:certain], rest[found]]), weights, sampled)


class Survey(NamedTuple):
    """A kernel under a data prior, at the times of a quadrature; tables that `mean` and `total` reduce.

    Attributes:
        times, weights: [T] of the quadrature.
        states: the states.
        evidence: [T, S], q_t(x).
        geometry: of the posterior, [T, S] each.
        gradients: each state's share, [S] each.
        amplification: of each state's cluster, [T, S] each.
    """

    times: Array
    weights: Array
    states: States
    evidence: Array
    geometry: Geometry
    gradients: GradientVariance
    amplification: Amplification

    def mean(self, values: Array) -> tuple[Array, Array]:
        """(E over x_t of values [T, S], its standard error), [T] each; the error is 0 where all states are there."""
        share = self.evidence * self.states.weights
        total = jnp.sum(share, axis=-1)
        mean = jnp.sum(share * values, axis=-1) / total
        spread = jnp.where(self.states.sampled, share * (values - mean[:, None]), 0)
        return mean, jnp.sqrt(jnp.sum(spread**2, axis=-1)) / total

    def total(self, values: Array) -> float:
        """The sum over all states of values [S]."""
        return float(jnp.sum(self.states.weights * values))

    def over_time(self, means: Array) -> float:
        """The mean over t of values [T]."""
        return float(jnp.sum(self.weights * means))

    @property
    def dispersion(self) -> float:
        """D(Q)."""
        return float(dispersion(self.mean(self.geometry.entropy)[0], self.weights))


def survey(
    kernel: KernelBase,
    prior: Array,
    times: Any,
    weights: Any,
    clusters: Array,
    max_states: int = 2048,
    epsilon: float = EPSILON,
) -> Survey:
    """Everything about posteriors, gradients and clusters.

    Args:
        kernel: any.
        prior: [V], p(k), which sums to 1.
        times, weights: [T] of a quadrature over [0, 1].
        clusters: [V, K], the other members of each token's cluster, V where missing.
        max_states: how many states are looked at; a sample where there are more.
        epsilon: of the effective support.
    """
    times, weights = (jnp.asarray(x, jnp.result_type(float)) for x in (times, weights))
    visits = jnp.tensordot(weights, jax.lax.map(lambda t: marginal(kernel, prior, t), times), axes=1)
    states = choose_states(np.asarray(visits), max_states)

    def look(ids):
        likelihoods = kernel.likelihoods(jnp.broadcast_to(ids, (len(times), *ids.shape)), times[:, None])
        q, evidence = posterior(prior, likelihoods)
        in_text = prior[jnp.minimum(ids, kernel.vocab_size - 1)] > 0  # the mask stands for no meaning
        cluster = cluster_of(clusters, ids, kernel.vocab_size) & in_text[:, None]
        found = evidence, geometry(q, epsilon), amplification(prior, likelihoods, cluster)
        share = gradient_variance(prior * likelihoods, weights)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), found), share

    chunk = max(1, ALIVE // (len(times) * kernel.vocab_size))
    (evidence, shapes, gains), gradients = over_states(look, jnp.asarray(states.ids), chunk)
    evidence, shapes, gains = jax.tree.map(jnp.transpose, (evidence, shapes, gains))
    return Survey(times, weights, states, evidence, shapes, gradients, gains)


class Steps(NamedTuple):
    """Steps back, [T] each.

    Attributes:
        at_least: a lower bound of eta_t (Eq. 67); eta_t itself for few states.
        refresh: lambda of Eq. 71 with the best nu: eta_t is at most 1 - refresh. An upper bound of it if rows are
            missing.
        shared: lambda of Eq. 72 and 73; likewise.
    """

    at_least: Array
    refresh: Array
    shared: Array


def steps(kernel: KernelBase, prior: Array, times: Any, size: float, rows: np.ndarray | None = None) -> Steps:
    """The contraction of a step from each of the times t to t - size, or to 0.

    Args:
        kernel: any that has steps.
        prior: [V], which sums to 1.
        times: [T].
        size: of the steps.
        rows: the states whose rows of the reverse kernel are computed; None: all.

    Raises:
        UserError: the kernel has no steps of any size.
    """

    def step(pair):
        t, s = pair
        found = reverse_matrix(kernel, prior, t, s, None if rows is None else jnp.asarray(rows))
        far = jnp.unique(jnp.linspace(0, len(found) - 1, STARTS).astype(int), size=STARTS)
        least = contraction(found) if len(found) <= FEW else contraction_at_least(found, far)
        return Steps(least, refresh_mass(found), shared_mass(found, marginal(kernel, prior, s)))

    times = jnp.asarray(times, jnp.result_type(float))
    return jax.lax.map(step, (times, jnp.maximum(times - size, 0)))
