"""Toys on which the paper's claims are put to the test; everything is enumerated. Call them in float64."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.kernels import KernelBase, NeighborTable, Vocabulary, make_kernel
from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.theory.chains import Exposure, divergence, exposure, with_step_error
from semdlm_jax.theory.clusters import Amplification, amplification, cluster_of
from semdlm_jax.theory.decomposition import ErrorTerms, bias_and_variance, error_terms
from semdlm_jax.theory.difficulty import Geometry, dispersion, geometry
from semdlm_jax.theory.enumeration import forward_matrix, marginal, posterior, reverse_matrix, reverse_rows
from semdlm_jax.theory.gradients import GradientVariance, gradient_variance
from semdlm_jax.theory.quantities import time_quadrature
from semdlm_jax.theory.repair import contraction, pair_contraction, sequence_repair

Array = jax.Array
TEXT = 8  # tokens that text has; one more is the mask
MASK = TEXT
NODES = 16  # of quadratures over time


def ring(near: int) -> Vocabulary:
    """TEXT tokens on a ring and the mask. A token's neighbors are the `near` nearest, in both directions in turn."""
    offsets = [(-1) ** r * (1 + r // 2) for r in range(near)]
    ids = [[(i + offset) % TEXT for offset in offsets] for i in range(TEXT)] + [[-1] * near]
    ids = np.array(ids, np.int32).reshape(TEXT + 1, near)
    table = NeighborTable.from_lists(ids, np.where(ids >= 0, 0.5, 0.0))
    return Vocabulary(
        TEXT + 1, MASK, table=table, unigram=np.append(np.ones(TEXT), 0), valid=np.arange(TEXT + 1) < TEXT
    )


def kernel(name: str, near: int = 2, **options: Any) -> Any:
    """A kernel of the package on the ring. Jumps lead to text alone."""
    jumps = {"prior": "unigram"} if name in ("semdlm_plus", "semdlm_plus_practical", "semantic_knn") else {}
    name = "unigram" if name == "uniform" else name  # of text that is flat
    return make_kernel(name, ring(near), **(jumps | {"min_count": 0} if jumps else {}), **options)


def flat_prior() -> Array:
    """Every token of text equally likely."""
    return jnp.where(jnp.arange(TEXT + 1) < TEXT, 1 / TEXT, 0)


def paired_prior() -> Array:
    """Two neighbors make up nearly all of the text."""
    weights = jnp.array([1.0, 1.0] + [1e-3] * (TEXT - 2) + [0.0])
    return weights / jnp.sum(weights)


def skewed_prior() -> Array:
    """Frequencies as 1, 1/2, 1/3, …"""
    weights = jnp.append(1 / jnp.arange(1.0, TEXT + 1), 0.0)
    return weights / jnp.sum(weights)


def posteriors(kernel: KernelBase, prior: Array, t: Any) -> tuple[Array, Array]:
    """(q(k | x) of all states, [N, V]; q_t, [N])."""
    return posterior(prior, kernel.likelihoods(jnp.arange(kernel.num_states), jnp.full(1, t, jnp.result_type(float))))


def mean_geometry(kernel: KernelBase, prior: Array, t: float) -> Geometry:
    """E over x_t of the Geometry, at one time."""
    q, evidence = posteriors(kernel, prior, t)
    return Geometry(*(jnp.sum(evidence * values) for values in geometry(q)))


@jax.jit
def geometry_over_time(kernel: KernelBase, prior: Array) -> tuple[Geometry, Array]:
    """(the mean over t of `mean_geometry`, the dispersion D(Q))."""
    times, weights = map(jnp.asarray, time_quadrature(NODES))
    found = jax.lax.map(functools.partial(mean_geometry, kernel, prior), times)
    return Geometry(*(jnp.sum(weights * values) for values in found)), dispersion(found.entropy, weights)


@jax.jit
def table_gradients(kernel: KernelBase, prior: Array) -> GradientVariance:
    """`gradients.gradient_variance` of all states together."""
    times, weights = map(jnp.asarray, time_quadrature(NODES))
    states = jnp.arange(kernel.num_states)
    joint = jax.lax.map(lambda t: prior * kernel.likelihoods(states, jnp.full(1, t)), times)
    return GradientVariance(*(jnp.sum(values) for values in gradient_variance(joint, weights)))


# Propositions 3 and 6.


def pairs_sensitivity(prior: Array, t: Any) -> Array:
    """E I1 at times t [...] of noise within the pairs of tokens 0 and 1, 2 and 3, …: with the chance t a token is drawn
    anew from its pair (Eq. 7 with k = 2). At t = 1 the posterior of flat text is flat over its two candidates."""
    pairs = jnp.kron(jnp.eye(TEXT // 2), jnp.full((2, 2), 1 / 2))

    def at(t):
        q, evidence = posterior(prior[:TEXT], (1 - t) * jnp.eye(TEXT) + t * pairs)
        return jnp.sum(evidence * geometry(q).sensitivity)

    return jnp.vectorize(at)(jnp.asarray(t, prior.dtype))


# Propositions 1 and 5.


def joint_terms(t: float = 0.5) -> ErrorTerms:
    """Eq. 10 for two joint laws with the same forward kernel."""
    forward = forward_matrix(kernel("semdlm_plus"), t)
    return error_terms(skewed_prior()[:, None] * forward, flat_prior()[:, None] * forward)


def sampler_terms(name: str = "uniform", sharpness: float = 0.5, count: int = 16) -> ErrorTerms:
    """The terms of Eq. 10 as the paper reads them, means over the times of a sampler's grid above 0: p_t is what the
    sampler has at t, p(x0 | x_t) is the network's.

    The network's posterior is q(k | x)^sharpness, normalized; the sampler starts from q_1 and takes `count` steps.
    """
    model, prior = kernel(name), skewed_prior()
    states = jnp.arange(model.num_states)

    def step(now, times):
        q, evidence = posteriors(model, prior, times[0])
        flattened = jnp.where(q > 0, jnp.where(q > 0, q, 1) ** sharpness, 0)
        weights = ratio(flattened, jnp.sum(flattened, axis=-1, keepdims=True), 0)
        sampling = divergence(evidence, now)
        approximation = jnp.sum(jnp.where(evidence > 0, evidence * divergence(q, weights), 0))
        return now @ reverse_rows(model, weights, states, *times), (sampling, approximation)

    end, terms = jax.lax.scan(step, marginal(model, prior, 1.0), grid(count))
    sampling, approximation = map(jnp.mean, terms)
    return ErrorTerms(divergence(prior, end), sampling, approximation, jnp.zeros(()))


def grid(count: int) -> tuple[Array, Array]:
    """(t, s) of `count` equal steps from 1 to 0, [count] each."""
    times = jnp.linspace(1.0, 0.0, count + 1)
    return times[:-1], times[1:]


# Proposition 2.


def variances_of_equal_texts() -> tuple[Array, Array]:
    """(sampling variance, approximation variance) of two runs that meet what Eq. 88 assumes: both write flat text, and
    E_S of their posteriors is the true one. In either run x_t tells nothing of x_0, as at t = 1, and follows flat
    frequencies in one, skewed ones in the other; the truth is their mean."""
    runs = jnp.stack([flat_prior(), skewed_prior()])
    truth, rows = jnp.mean(runs, axis=0), jnp.broadcast_to(flat_prior(), (2, len(flat_prior())))
    return bias_and_variance(truth, runs)[1], bias_and_variance(flat_prior(), rows)[1]


def variances(t: float = 0.1) -> tuple[Array, Array]:
    """(sampling variance of Eq. 43, approximation variance of Eq. 42) of two training runs with one forward kernel: one
    has learned flat text, the other skewed text; the truth is their mean. Without the assumption of Eq. 88 that all
    runs write the same text: with it, one forward kernel makes both variances 0."""
    forward = forward_matrix(kernel("uniform"), t)
    runs = jnp.stack([flat_prior(), skewed_prior()])
    truth = jnp.mean(runs, axis=0)
    at_t, marginals = runs @ forward, truth @ forward
    rows = jnp.stack([posterior(run, forward.T)[0] for run in runs])
    _, approximation = bias_and_variance(posterior(truth, forward.T)[0], rows)
    return bias_and_variance(marginals, at_t)[1], jnp.sum(jnp.where(marginals > 0, marginals * approximation, 0))


# Proposition 4.


class TwoStates(NamedTuple):
    """A step on two states: KL before and after, eta of the true kernel, and the two readings of rho."""

    before: Array
    after: Array
    contraction: Array
    step_divergence: Array
    step_ratio: Array


def two_states() -> TwoStates:
    """Found by a search over random kernels: with rho as in the main text, the largest KL of two rows, the recursion
    B_s <= eta B_t + rho fails."""
    rows, learned = jnp.array([[0.5, 0.5], [0.9, 0.1]]), jnp.array([[0.0025, 0.9975], [0.15, 0.85]])
    q, p = jnp.array([0.01, 0.99]), jnp.array([0.99, 0.01])
    ratios = jnp.max(jnp.log(rows / learned))
    return TwoStates(
        divergence(q, p),
        divergence(q @ rows, p @ learned),
        pair_contraction(rows[0], rows[1]),
        jnp.max(divergence(rows, learned)),
        ratios,
    )


def step_contraction(name: str, t: float, sizes: tuple[float, ...]) -> Array:
    """eta of steps of these sizes from t, under skewed text: [len(sizes)]."""
    model = kernel(name)
    return jax.lax.map(lambda s: contraction(reverse_matrix(model, skewed_prior(), t, s)), t - jnp.array(sizes))


def chain(name: str, count: int, error: float = 1e-3) -> Exposure:
    """A sampler of `count` steps, each of which draws from all states with the chance `error`: from the mask, too, so
    that no ratio of Eq. 68 is infinite."""
    model, prior = kernel(name), skewed_prior()
    rows = jax.lax.map(lambda times: reverse_matrix(model, prior, *times), grid(count))
    wrong = jnp.full(model.num_states, 1 / model.num_states)
    return exposure(marginal(model, prior, 1.0), rows, with_step_error(rows, error, wrong))


def sequence_step(name: str, t: float, size: float, length: int) -> tuple[Array, Array]:
    """(1 - eta of one position, an upper bound of 1 - eta of `length` independent ones)."""
    rows = reverse_matrix(kernel(name), skewed_prior(), t, t - size)
    return 1 - contraction(rows), jnp.min(sequence_repair(rows[:, None], rows, length))


# Proposition 8.


class Heterogeneity(NamedTuple):
    """Both sides of Eq. 93 and its constants.

    Attributes:
        between: V(Q) = Var_t of the gradient of the loss at t.
        dispersion: D(Q).
        error_per_entropy: c_1, the least of E |p - q(. | x_t)|_1 / h(t) over time (Eq. 92).
        largest_gradient: M, the norm of the gradient of the logits.
    """

    between: Array
    dispersion: Array
    error_per_entropy: Array
    largest_gradient: Array

    @property
    def bound(self) -> Array:
        """c^2 D(Q), which Proposition 8 says V(Q) is at least."""
        return (self.error_per_entropy / self.largest_gradient) ** 2 * self.dispersion


def bias_alone(alpha_min: float = 0.1) -> Heterogeneity:
    """A network whose only parameters are a bias of the logits: f(x) = theta, so that its gradient is the identity and
    M = 1.

    At its optimum it predicts the prior everywhere, and the gradient of the loss at t is p - E q(. | x_t) = 0 at every
    time: the errors of single states cancel. The kernel keeps a share of the tokens at t = 1, so that Eq. 92 holds with
    c_1 > 0 at all times (under a kernel that forgets, the posterior at t = 1 is the prior, which this network knows, so
    that no c_1 > 0 exists).
    """
    model = kernel("semdlm_plus_practical", alpha_min=alpha_min, beta_max=1 - alpha_min)
    prior = skewed_prior()
    times, weights = map(jnp.asarray, time_quadrature(NODES))

    def at(t):
        q, evidence = posteriors(model, prior, t)
        wrong = jnp.sum(evidence * jnp.sum(jnp.abs(prior - q), axis=-1))
        gradient = prior - evidence @ q
        return jnp.sum(gradient**2), wrong, jnp.sum(evidence * geometry(q).entropy)

    squares, wrong, entropy = jax.lax.map(at, times)
    # The ratio is least at t = 1, and grows without end towards t = 0.
    _, last_wrong, last_entropy = at(jnp.ones(()))
    ratios = jnp.append(wrong / entropy, last_wrong / last_entropy)
    return Heterogeneity(jnp.sum(weights * squares), dispersion(entropy, weights), jnp.min(ratios), jnp.ones(()))


def bias_and_table(name: str, scale: float = 1e-3) -> Heterogeneity:
    """A network whose logits are theta + scale * theta_x: a bias, and a little of the table of `gradients`. Flat text.

    Its optimum is that of the table, wherever scale > 0. The gradient of its logits in (theta, theta_x) is [1, scale]
    in every state, of norm M = sqrt(1 + scale^2), and hardly changes its direction from state to state. On the ring all
    tokens are alike, so that the gradient of the bias is zero at every time; that of the table is multiplied by scale.
    """
    model, prior = kernel(name), flat_prior()
    times, weights = map(jnp.asarray, time_quadrature(NODES))
    states, grid = jnp.arange(model.num_states), jnp.linspace(0, 1, 1025)[1:]

    def joint(t):
        return prior * model.likelihoods(states, jnp.full(1, t))

    mean = jnp.tensordot(weights, jax.lax.map(joint, times), axes=1)
    best = ratio(mean, jnp.sum(mean, axis=-1, keepdims=True), 0)

    def error_per_entropy(t):
        wrong = jnp.abs(jnp.sum(joint(t), axis=-1, keepdims=True) * best - joint(t))
        return jnp.sum(wrong) / mean_geometry(model, prior, t).entropy

    return Heterogeneity(
        table_gradients(model, prior).between * scale**2,
        geometry_over_time(model, prior)[1],
        jnp.min(jax.lax.map(error_per_entropy, grid)),
        jnp.sqrt(1 + scale**2),
    )


# Equations 111 and 113.


def one_sided_cluster(t: float = 0.5) -> Amplification:
    """SemDLM+ on a ring where the only neighbor of a token is the next one, and the cluster of a token is the token and
    its neighbor: noise of the neighbor does not lead back."""
    model = kernel("semdlm_plus", near=1)
    states = jnp.zeros(1, jnp.int32)
    cluster = cluster_of(model.table.ids, states, model.vocab_size)
    return amplification(flat_prior(), model.likelihoods(states, jnp.full(1, t)), cluster)
