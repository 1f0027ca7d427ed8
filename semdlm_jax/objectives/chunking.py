"""Chunks of positions, so that logits [B, L, V] are never held as a whole; and some rows of a batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

PARTS = 8  # into which the positions of a batch are cut where only some are wanted
# No part has fewer positions: each reads the table of the output and adds to its gradient, which for few positions is
# more work than their logits (benchmarks/results/mdlm.md).
LEAST = 128


def map_positions(function, features_BxLxD, *per_position, chunk=0):
    """The sum over chunks of positions of function(features chunk, *chunks); without a backward pass of its own.

    Args:
        function: maps features [B, c, D] and arrays [B, c, ...] to a pytree of sums over those positions.
        features_BxLxD: hidden states of the network.
        per_position: arrays [B, L, ...].
        chunk: positions at a time, lowered to a divisor of L; 0: all at once.
    """
    length, arrays = features_BxLxD.shape[1], (features_BxLxD, *per_position)
    if not chunk or chunk >= length:
        return function(*arrays)
    chunks = tuple(split_positions(x, divisor(length, chunk)) for x in arrays)
    sums = jax.lax.map(lambda arrays: function(*arrays), chunks)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


def sum_losses(function, readout, features_BxLxD, *per_position, chunk=0, wanted_BxL=None):
    """(loss, weight): the sums over chunks of positions of function(logits, *chunks).

    The derivative of the loss in the features and in what `readout` closes over is taken together with its value, chunk
    by chunk, so that no logits are kept or computed twice. No other is taken: that of the weight is 0, as are those in
    `per_position`, and there is none in forward mode.

    Args:
        function: maps logits [B, c, V] and arrays [B, c, ...] to two sums over those positions.
        readout: [..., D] -> logits [..., V]. Its parameters may be those of an outer derivative.
        features_BxLxD: hidden states of the network.
        per_position: arrays [B, L, ...].
        chunk: positions of each row at a time, lowered to a divisor of L; 0: all at once.
        wanted_BxL: bool, where there is a loss. Logits are computed at these positions alone, up to whole chunks, whose
            arrays are [1, c, ...]. None, or where B L has no divisor near a part of it: everywhere.
    """
    batch, length, _ = features_BxLxD.shape
    arrays = (features_BxLxD, *per_position)
    most = min(batch * (chunk or length), max(-(-batch * length // PARTS), LEAST))
    size = divisor(batch * length, most)
    if wanted_BxL is None or 4 * size < most:
        if not chunk or chunk >= length:
            return function(readout(features_BxLxD), *per_position)
        chunks = tuple(split_positions(x, divisor(length, chunk)) for x in arrays)
        return _summed_by_parameters(function, readout, chunks, None)
    order = jnp.argsort(~wanted_BxL.ravel(), stable=True)

    def sorted_chunks(x, pick=lambda x: x[order]):
        return pick(jnp.asarray(x).reshape(-1, *x.shape[2:])).reshape(-1, 1, size, *x.shape[2:])

    features = sorted_chunks(features_BxLxD, functools.partial(_permuted, order))
    chunks = (features, *map(sorted_chunks, per_position))
    needed = jnp.any(sorted_chunks(wanted_BxL), axis=(1, 2))
    loss = _summed_by_parameters(function, readout, chunks, needed)[0]
    # The weights of all positions do not depend on logits: these are never computed.
    logits = jax.eval_shape(readout, features_BxLxD)
    return loss, function(jnp.zeros(logits.shape, logits.dtype), *per_position)[1]


def _permuted(order, x):
    """x[order]. Its gradient is read in the inverse order, where JAX would add it up number by number."""
    places = order, jnp.argsort(order)
    return jax.custom_derivatives.linear_call(lambda ids, x: x[ids[0]], lambda ids, x: x[ids[1]], places, x)


def _summed_by_parameters(function, readout, chunks, needed) -> Any:
    """The sums of function over the chunks that are needed, the first with its gradient. All of it is traced here and
    now: a function that JAX keeps to trace later must not close over arrays of a branch or a loop, and this one may."""
    readout, parameters = jax.closure_convert(readout, chunks[0][0])  # those that are differentiated

    def value_and_gradient(parameters, features, *arrays):
        sums, pull = jax.vjp(lambda p, f: function(readout(f, *p), *arrays), parameters, features)
        of_parameters, of_features = pull((jnp.ones_like(sums[0]), jnp.zeros_like(sums[1])))
        return (sums, of_parameters), of_features

    constants, (features, *arrays) = jax.lax.stop_gradient((parameters, chunks))
    sums, of_features = _scan_chunks(value_and_gradient, constants, (features, *arrays), needed)
    (loss, weight), of_parameters = sums
    return _with_gradient(loss, (parameters, chunks[0]), (of_parameters, of_features)), weight


@jax.custom_vjp
def _with_gradient(loss, inputs, gradients):
    """The loss, whose derivative in the inputs is said to be `gradients`, and none else."""
    del inputs, gradients
    return loss


def _keep_gradient(loss, inputs, gradients):
    del inputs
    return loss, gradients


def _pull_back(gradients, cotangent):
    of_inputs = jax.tree.map(lambda x: (cotangent * x).astype(x.dtype), gradients)
    return None, of_inputs, None


_with_gradient.defvjp(_keep_gradient, _pull_back)


def _scan_chunks(function, parameters, chunks, needed):
    """(sums, stacked) of function(parameters, *chunk) -> (to be added, to be stacked); 0 of chunks that are not needed,
    but for the first. needed: [C] bool; None: all are."""
    first, rest = jax.tree.map(lambda x: x[0], chunks), jax.tree.map(lambda x: x[1:], (chunks, needed))
    # The first is found in any case: to fill the sums with zeros and to add to them would cost as much as few logits.
    sums, of_first = function(parameters, *first)
    blank = jax.tree.map(jnp.zeros_like, of_first)

    def add(sums, indexed):
        chunk, is_needed = indexed

        def found():
            more, stacked = function(parameters, *chunk)
            return jax.tree.map(jnp.add, sums, more), stacked

        return found() if is_needed is None else jax.lax.cond(is_needed, found, lambda: (sums, blank))

    sums, stacked = jax.lax.scan(add, sums, rest)
    return sums, jax.tree.map(lambda one, others: jnp.concatenate([one[None], others]), of_first, stacked)


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
