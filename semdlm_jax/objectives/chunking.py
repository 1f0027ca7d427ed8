"""A function of logits, evaluated without ever holding logits [B, L, V]."""

import jax
import jax.numpy as jnp


def map_positions(function, features_BxLxD, *per_position, chunk=0):
    """The sum over chunks of positions of function(features chunk, *chunks).

    Args:
        function: maps features [B, c, D] and arrays [B, c, ...] to a pytree of sums over those positions. It is
            rematerialized in the backward pass, so that the logits of only one chunk are alive at a time.
        features_BxLxD: hidden states of the network.
        per_position: arrays [B, L, ...].
        chunk: positions at a time, lowered to a divisor of L; 0: all at once, without rematerialization.
    """
    length = features_BxLxD.shape[1]
    arrays = (features_BxLxD, *per_position)
    if not chunk or chunk >= length:
        return function(*arrays)
    chunk = max(size for size in range(1, chunk + 1) if length % size == 0)

    def split(x):
        return jnp.moveaxis(x.reshape(x.shape[0], length // chunk, chunk, *x.shape[2:]), 1, 0)

    body = jax.checkpoint(function, prevent_cse=False)
    sums = jax.lax.map(lambda chunks: body(*chunks), tuple(split(x) for x in arrays))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)
