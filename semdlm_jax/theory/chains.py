"""Exposure bias of a reverse chain whose steps have a known error (paper, Theorem B.1 and Eq. 74 to 76)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.theory.repair import contraction, dobrushin, total_variation

Array = jax.Array


class Exposure(NamedTuple):
    """A chain of T steps; index 0 is t = 1, index T is clean text.

    Attributes:
        divergence: [T + 1], B_t = KL(q_t || p_t), in nats.
        divergence_bound: [T + 1], by B_s <= eta_t B_t + rho_t (Eq. 69).
        variation: [T + 1], the total variation of q_t and p_t.
        variation_bound: [T + 1], by the same recursion with Dobrushin's coefficient and the largest total variation of
            the two kernels' rows.
        contraction: [T], eta_t.
        step_error: [T], rho_t = max log Q / P (Eq. 68).
    """

    divergence: Array
    divergence_bound: Array
    variation: Array
    variation_bound: Array
    contraction: Array
    step_error: Array


def divergence(q: Array, p: Array) -> Array:
    """KL(q || p) in nats over the last axis; infinite where p lacks what q has."""
    return jnp.sum(jnp.where(q > 0, q * jnp.log(ratio(jnp.where(q > 0, q, 1), p)), 0), axis=-1)


def with_step_error(rows: Array, chance: float, wrong: Array) -> Array:
    """The rows [N, N] of a model that errs: with this chance its step is a draw from `wrong` [N]."""
    return (1 - chance) * rows + chance * wrong


@jax.jit
def exposure(start: Array, rows: Array, learned: Array) -> Exposure:
    """Runs the true chain and the model's side by side.

    Args:
        start: [N], q_1: both begin with it.
        rows, learned: [T, N, N] by (step, from, to): the true reverse kernels and the model's. For small N.
    """

    def step(carry, kernels):
        true, model, bound, apart = carry
        rows, learned = kernels
        eta, rho = contraction(rows), jnp.max(jnp.where(rows > 0, jnp.log(ratio(rows, learned)), -jnp.inf))
        apart = dobrushin(rows) * apart + jnp.max(total_variation(rows, learned))
        after = (true @ rows, model @ learned, eta * bound + rho, apart)
        return after, (*after, eta, rho)

    zero = jnp.zeros((), start.dtype)
    _, (true, model, bound, apart, eta, rho) = jax.lax.scan(step, (start, start, zero, zero), (rows, learned))

    def from_start(values):
        return jnp.concatenate([jnp.zeros(1, values.dtype), values])

    return Exposure(
        divergence=from_start(divergence(true, model)),
        divergence_bound=from_start(bound),
        variation=from_start(total_variation(true, model)),
        variation_bound=from_start(apart),
        contraction=eta,
        step_error=rho,
    )
