"""How much of an error of a reverse chain a step leaves (paper, Eq. 67 to 73).

Eq. 67 asks for eta = sup KL(mu Q || pi Q) / KL(mu || pi) over all pairs of distributions. Two known facts make it
computable: the coefficient of KL is that of chi-squared, and two inputs attain it (Ordentlich and Polyanskiy 2021,
Strong data processing constant is achieved by binary inputs). Of two rows P and R of Q, with b the weight of the first,

    eta(P, R) = max over b of  1 - sum_y P(y) R(y) / (b P(y) + (1 - b) R(y)),

a concave function of b, and eta is the largest over all pairs of rows. Above it lie Dobrushin's coefficient, the
largest total variation of two rows, and 1 - lambda of Eq. 71, at best with lambda = sum_y min_x Q(y | x).
"""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import ratio

Array = jax.Array
HALVINGS = 50  # of [0, 1], in search of b
PAIRS = 1 << 20  # entries of pairs of rows that are alive at a time


def pair_contraction(one: Array, other: Array) -> Array:
    """eta(P, R), [...], of pairs of distributions [..., N] each: 0 where they are equal, 1 where nothing is common."""

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        mixture = middle[..., None] * one + (1 - middle[..., None]) * other
        slope = jnp.sum((one - other) * ratio(one * other, mixture**2, 0), axis=-1)
        return jnp.where(slope > 0, middle, low), jnp.where(slope > 0, high, middle)

    zeros = jnp.zeros(jnp.broadcast_shapes(one.shape, other.shape)[:-1], one.dtype)
    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (zeros, zeros + 1))
    b = ((low + high) / 2)[..., None]
    common = jnp.sum(ratio(one * other, b * one + (1 - b) * other, 0), axis=-1)
    return jnp.clip(1 - common, 0, 1)


def total_variation(one: Array, other: Array) -> Array:
    """Half the sum of |P - R| over the last axis."""
    return jnp.sum(jnp.abs(one - other), axis=-1) / 2


def _largest(function, rows, others):
    """[R]: the largest of function(row, each of `others`), and which of these; a few rows at a time."""
    chunk = max(1, min(len(rows), PAIRS // max(1, others.size)))

    def best(row):
        values = function(row, others)
        return jnp.max(values), jnp.argmax(values)

    return jax.lax.map(best, rows, batch_size=chunk)


def contraction(rows: Array) -> Array:
    """eta of Eq. 67, exactly: over all pairs of rows [R, N]. For small R: R^2 N HALVINGS operations."""
    return jnp.max(_largest(pair_contraction, rows, rows)[0])


def dobrushin(rows: Array) -> Array:
    """The largest total variation of two of the rows [R, N]: what is left of an error in total variation, at most."""
    return jnp.max(_largest(total_variation, rows, rows)[0])


def contraction_at_least(rows: Array, starts: Array) -> Array:
    """A lower bound of `contraction`: that of the rows at `starts` [S], each beside the row farthest from it in total
    variation."""
    chosen = rows[starts]
    _, farthest = _largest(total_variation, chosen, rows)
    return jnp.max(pair_contraction(chosen, rows[farthest]))


def refresh_mass(rows: Array) -> Array:
    """The largest lambda of Eq. 71, with the best nu: sum over y of the least Q(y | x) of the rows [R, N]."""
    return jnp.sum(jnp.min(rows, axis=0))


def shared_mass(rows: Array, marginal: Array) -> Array:
    """The lambda of Eq. 72 and 73, for any kernel: the largest with Q(y | x) >= lambda q_s(y) in all rows [R, N]."""
    least = jnp.min(rows, axis=0)
    return jnp.min(jnp.where(marginal > 0, ratio(least, marginal, 1), 1))


def sequence_repair(one: Array, other: Array, length: int) -> Array:
    """An upper bound of 1 - eta for `length` independent positions: BC^length, BC = sum_y sqrt(P(y) R(y)) of two rows.

    Of two inputs eta is at least half their squared Hellinger distance, 1 - BC, and BC is multiplied over positions. So
    eta of a sequence tends to 1 under every kernel with two different rows.
    """
    return jnp.sum(jnp.sqrt(one * other), axis=-1) ** length
