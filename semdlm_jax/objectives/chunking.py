"""Chunks of positions, so that logits [B, L, V] are never held as a whole; and some rows of a batch."""

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
    chunk = divisor(length, chunk)
    body = jax.checkpoint(function, prevent_cse=False)
    sums = jax.lax.map(lambda chunks: body(*chunks), tuple(split_positions(x, chunk) for x in arrays))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


def each_position(function, features_BxLxD, *per_position, chunk=0):
    """function(features chunk, *chunks) -> [B, c, ...] of all positions, put together: [B, L, ...]. Arguments as for
    `map_positions`; without a backward pass of its own."""
    length, arrays = features_BxLxD.shape[1], (features_BxLxD, *per_position)
    if not chunk or chunk >= length:
        return function(*arrays)
    chunks = tuple(split_positions(x, divisor(length, chunk)) for x in arrays)
    return join_positions(jax.lax.map(lambda arrays: function(*arrays), chunks))


def of_chosen_rows(function, chosen_B, rows, group):
    """function(rows) -> [C, L] at the rows that are chosen, and 0 at the others: [B, L].

    The batch is divided into groups of neighbors, and each call of the function has one row of every group: as many
    calls are made as the group with the most chosen rows needs. Groups keep to their devices where the batch is split.

    Args:
        function: of a pytree of C = ceil(B / group) rows.
        chosen_B: [B] bool.
        rows: a pytree of [B, ...].
        group: the number of rows in a group.
    """
    count = chosen_B.shape[0]
    groups = -(-count // group)
    place = jnp.arange(groups * group)

    def grouped(x):
        x = x if count == groups * group else x[jnp.minimum(place, count - 1)]
        return x.reshape(groups, group, *x.shape[1:])

    rows = jax.tree.map(grouped, rows)
    length = jax.eval_shape(function, jax.tree.map(lambda x: x[:, 0], rows))

    def one_of_each(state):
        left, out = state
        first = jnp.argmax(left, axis=1)
        now = (jnp.arange(group) == first[:, None]) & left
        found = function(jax.tree.map(lambda x: jax.vmap(lambda of_group, index: of_group[index])(x, first), rows))
        return left & ~now, jnp.where(now[..., None], found[:, None], out)

    left = grouped(chosen_B) & (place < count).reshape(groups, group)
    none = jnp.zeros((groups, group, *length.shape[1:]), length.dtype)
    _, out = jax.lax.while_loop(lambda state: jnp.any(state[0]), one_of_each, (left, none))
    return out.reshape(groups * group, *length.shape[1:])[:count]


def divisor(length: int, most: int) -> int:
    """The largest divisor of `length` that is at most `most`, which is at least 1."""
    return max(size for size in range(1, min(most, length) + 1) if length % size == 0)


def split_positions(x: jax.Array, chunk: int) -> jax.Array:
    """[B, L, ...] as [L / chunk, B, chunk, ...]."""
    batch, length, *rest = x.shape
    return jnp.moveaxis(x.reshape(batch, length // chunk, chunk, *rest), 1, 0)


def join_positions(x: jax.Array) -> jax.Array:
    """[L / chunk, B, chunk, ...] as [B, L, ...]: undoes `split_positions`."""
    chunks, batch, chunk, *rest = x.shape
    return jnp.moveaxis(x, 0, 1).reshape(batch, chunks * chunk, *rest)
