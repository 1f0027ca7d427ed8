"""Forward and reverse kernels of one token, by enumeration.

The setting of the paper's appendix B: one position whose clean token k has the prior p(k), the other positions being
given. Everything follows from p and the kernel: the marginals q_t, the posterior (Eq. 57), and the true reverse kernel

    Q_t(y | x) = q(x_s = y | x_t = x) = sum_k q(k | x) q(x_s = y | x_t = x, k)        (Eq. 2 and 66).

Quantities near 0 and 1 are differences of nearly equal numbers: call these functions in float64 (jax.enable_x64).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.kernels.shapes import check_shape

Array = jax.Array


def as_prior(kernel: KernelBase, prior: Any) -> Array:
    """Weights of the clean tokens as a distribution: [V] floats that sum to 1. UserError for other shapes or signs."""
    check_shape("prior", prior, (kernel.vocab_size,), f"[{kernel.vocab_size}], a weight for each clean token")
    weights = jnp.asarray(prior, jnp.result_type(float))
    if not (jnp.all(weights >= 0) and jnp.isfinite(total := jnp.sum(weights)) and total > 0):
        raise UserError("prior holds negative or no weights: give how often each clean token occurs")
    return weights / total


def forward_matrix(kernel: KernelBase, t: Any) -> Array:
    """q_t(j | i) in row i, column j: [V, N]. For small vocabularies: this is the only V x N array of this room."""
    tokens = jnp.arange(kernel.vocab_size)
    rows = kernel.noise_probs(tokens, jnp.full(tokens.shape, t, jnp.result_type(float)))
    return rows.at[tokens, tokens].add(kernel.alpha(jnp.asarray(t, jnp.result_type(float))))


def posterior(prior: Array, likelihoods: Array) -> tuple[Array, Array]:
    """Bayes' rule (Eq. 57).

    Args:
        prior: [V], p(k).
        likelihoods: [..., V], q_t(x | k).

    Returns:
        (q(k | x), [..., V], zero where x is impossible; q_t(x), [...]).
    """
    joint = prior * likelihoods
    evidence = jnp.sum(joint, axis=-1)
    return ratio(joint, evidence[..., None], 0), evidence


def reverse_rows(kernel: KernelBase, weights: Array, xt: Array, t: Any, s: Any) -> Array:
    """Rows of a reverse kernel from t to s < t (Eq. 2).

    Args:
        kernel: its `reverse` must know steps: a `MarkovKernel` needs `transitions`.
        weights: [R, V], a posterior of the clean token for each state: the true one, or a model's.
        xt: [R] states.
        t, s: numbers.

    Returns:
        [R, N]: the chance of every x_s; a row of zeros where the weights are zero.

    Raises:
        UserError: the kernel has no steps of any size.
    """
    t, s = (jnp.full(1, time, jnp.result_type(float)) for time in (t, s))
    back = kernel.reverse(xt, t, s)
    assert back.stay is not None  # of a step
    stays = jnp.sum(weights * back.stay, axis=-1)
    here = xt[:, None] == jnp.arange(kernel.num_states)
    return back.mixed(weights) + jnp.where(here, stays[:, None], 0)


def reverse_matrix(kernel: KernelBase, prior: Array, t: Any, s: Any, states: Array | None = None) -> Array:
    """The true reverse kernel from t to s < t: [N, N], or [R, N] for states [R].

    A state that no clean text can become has the row q_s, so that this is a Markov kernel on all states. That changes
    no coefficient of `contraction`: q_s is a mixture of the other rows. UserError as for `reverse_rows`.
    """
    states = jnp.arange(kernel.num_states) if states is None else states

    def rows(xt):
        weights, _ = posterior(prior, kernel.likelihoods(xt, jnp.full(1, t, jnp.result_type(float))))
        return reverse_rows(kernel, weights, xt, t, s)

    found = over_states(rows, states)
    return jnp.where(jnp.sum(found, axis=-1, keepdims=True) > 0, found, marginal(kernel, prior, s))


def marginal(kernel: KernelBase, prior: Array, t: Any) -> Array:
    """q_t: [N]."""
    return kernel.push_forward(prior, jnp.asarray(t, jnp.result_type(float)))


def over_states(function: Callable[[Array], Any], states: Array, chunk: int = 64) -> Any:
    """function of states, `chunk` at a time, so that no more of its intermediate results are alive.

    Args:
        function: states [C] -> a tree of arrays [C, ...].
        states: [S].
        chunk: C.

    Returns:
        The tree, with arrays [S, ...].
    """
    size = min(chunk, len(states))
    count = -(-len(states) // size)
    padded = jnp.resize(states, (count, size))
    found = jax.lax.map(function, padded)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: len(states)], found)
