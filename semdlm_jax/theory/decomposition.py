"""Decompositions of errors, on laws that are written out (paper, Eq. 9 to 12 and 24 to 43)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.theory.chains import divergence

Array = jax.Array


class ErrorTerms(NamedTuple):
    """Eq. 35, in nats: generation = sampling + approximation - mismatch.

    Attributes:
        generation: KL(q(x0) || p(x0)).
        sampling: KL(q_t || p_t).
        approximation: E KL(q(x0 | x_t) || p(x0 | x_t)).
        mismatch: E KL(q(x_t | x0) || p(x_t | x0)).
    """

    generation: Array
    sampling: Array
    approximation: Array
    mismatch: Array

    @property
    def residual(self) -> Array:
        """What is left of the identity: 0, if all terms are those of two joint laws."""
        return self.generation - self.sampling - self.approximation + self.mismatch


def error_terms(q: Array, p: Array) -> ErrorTerms:
    """The terms of two joint laws of (x0, x_t): [..., V, N], each of sum 1."""

    def conditional(one, other, axis):
        mass = jnp.sum(one, axis=axis)
        rows, rows_other = (ratio(x, jnp.sum(x, axis=axis, keepdims=True), 0) for x in (one, other))
        rows, rows_other = (jnp.moveaxis(x, axis, -1) for x in (rows, rows_other))
        return jnp.sum(jnp.where(mass > 0, mass * divergence(rows, rows_other), 0), axis=-1)

    return ErrorTerms(
        divergence(jnp.sum(q, axis=-1), jnp.sum(p, axis=-1)),
        divergence(jnp.sum(q, axis=-2), jnp.sum(p, axis=-2)),
        conditional(q, p, -2),
        conditional(q, p, -1),
    )


def bias_and_variance(target: Array, predictions: Array) -> tuple[Array, Array]:
    """(bias, variance) of Eq. 40 in nats; their sum is the mean of KL(target || prediction).

    Args:
        target: [..., V].
        predictions: [S, ..., V], of S training runs, equally likely.
    """
    mean = jnp.mean(predictions, axis=0)
    bias = divergence(target, mean)
    return bias, jnp.mean(divergence(target, predictions), axis=0) - bias
