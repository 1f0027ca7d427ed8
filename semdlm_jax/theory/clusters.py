"""How much the noise itself favors a cluster, and what jumps allow at most (paper, Eq. 111 and 113)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import ratio, safe_log

Array = jax.Array


class Amplification(NamedTuple):
    """Of a state x_t = j and a cluster C of clean tokens; in nats, arrays of one shape.

    Attributes:
        guaranteed: log(a_in / a_out), a_in the least q_t(j | k) of the cluster, a_out the largest outside (Eq. 111).
            Infinite where nothing outside can become j, -infinite where a token of the cluster cannot.
        gained: log of the posterior odds of C over its prior odds: never below `guaranteed`.
        cap: log of the largest q_t(j | k) over the least of all: never below `gained`. The least is beta_t nu_t(j), if
            some token is no neighbor of j, and then this is Eq. 113 at its largest; infinite without jumps.
    """

    guaranteed: Array
    gained: Array
    cap: Array


def amplification(prior: Array, likelihoods: Array, cluster: Array) -> Amplification:
    """The Amplification of states.

    Args:
        prior: [V], p(k). Tokens without weight count in no bound: no text has them.
        likelihoods: [..., V], q_t(j | k).
        cluster: [..., V] bool, C.

    Returns:
        Arrays [...]; NaN where j is impossible, or where all of the prior lies in C or none.
    """
    occurs = prior > 0
    inside, outside = cluster & occurs, ~cluster & occurs
    least_in = jnp.min(jnp.where(inside, likelihoods, jnp.inf), axis=-1)
    most_out = jnp.max(jnp.where(outside, likelihoods, 0), axis=-1)
    most = jnp.max(jnp.where(occurs, likelihoods, 0), axis=-1)
    least = jnp.min(jnp.where(occurs, likelihoods, jnp.inf), axis=-1)
    joint = prior * likelihoods
    gain = _log_odds(joint, inside, outside) - _log_odds(jnp.broadcast_to(prior, joint.shape), inside, outside)
    real = (most > 0) & inside.any(-1) & outside.any(-1)
    found = (_log_ratio(least_in, most_out), gain, _log_ratio(most, least))
    return Amplification(*(jnp.where(real, x, jnp.nan) for x in found))


def _log_odds(weights, inside, outside):
    return _log_ratio(jnp.sum(weights, where=inside, axis=-1), jnp.sum(weights, where=outside, axis=-1))


def _log_ratio(above, below):
    """log(above / below): -infinite where `above` is 0, else infinite where `below` is."""
    log = safe_log(ratio(jnp.where(above > 0, above, 1), below, 1))
    return jnp.where(above > 0, jnp.where(below > 0, log, jnp.inf), -jnp.inf)


def cluster_of(ids: Array, states: Array, vocab_size: int) -> Array:
    """[S, V] bool: each state of `states` [S] that is a token, with its neighbors in ids [V, K]; empty for a token
    without neighbors and for a state that is no token. Missing neighbors have the id V."""
    if not ids.shape[1]:
        return jnp.zeros((len(states), vocab_size), bool)
    near = ids[jnp.minimum(states, vocab_size - 1)]
    some = (states < vocab_size) & jnp.any(near < vocab_size, axis=-1)
    members = jnp.where(some[:, None], jnp.concatenate([states[:, None], near], axis=1), vocab_size)
    return (
        jnp.zeros((len(states), vocab_size), bool).at[jnp.arange(len(states))[:, None], members].set(True, mode="drop")
    )
