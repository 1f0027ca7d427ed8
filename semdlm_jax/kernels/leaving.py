"""How likely a step back changes a token at most, whatever the clean token is: known before a network is asked.

Given x_t = z and a clean token, both the chance that a step changes z and q_t(z | x0) are sums over the same ways in
which noise makes z. Their ratio is at most the largest ratio of two terms. What remains depends on z alone, or on
little more, and is looked up in a small table.
"""

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.kernels import split
from semdlm_jax.kernels.numerics import ratio, take

if TYPE_CHECKING:
    from semdlm_jax.kernels.levels import LevelProcess
    from semdlm_jax.kernels.nested import NestedKernel
    from semdlm_jax.kernels.protocol import KernelBase
    from semdlm_jax.kernels.sparse import Kernel

Array = jax.Array


def of_sparse(kernel: "Kernel", xt: Array, t: Array, s: Array | None) -> Array:
    """`KernelBase.leaving_bound` of the family of three branches.

    Far noise z has jumped with the same chance for every row of n neighbors, and what jumps within far noise leads back
    to z with chance nu(z). Near noise has drifted with a chance that depends on its rank r in the row and on n. From a
    row that holds z it may be either: the largest is looked for among these rows, and among the n of all others. A kept
    token stays.
    """
    now, change = split.with_change(lambda t: split.levels(kernel, t), t, s)
    f = split.flows(now, change)
    after = now if s is None else jax.tree.map(jnp.add, now, change)
    back = ratio(f.far_to_far, f.kept_to_far + f.near_to_far + f.far_to_far, 0)
    lasting = back * kernel.global_prob(xt, t if s is None else s)[..., None]
    hits = [kernel.global_prior.probs[xt], xt == kernel.mask_id]

    def far(parts):
        """[..., n]."""
        found = (hit[..., None] * part for hit, part in zip(hits, parts, strict=False))
        return sum(found, start=jnp.zeros(()))

    came = [jnp.maximum(dot + f.far_lost * part, 0) for part, dot in zip(now.far, change.far, strict=True)]
    jumped, is_far = far(came) * (1 - lasting), far(after.far)
    bound = jnp.max(ratio(jumped, is_far, 0), axis=-1)
    if not kernel.table.k_max:
        return bound
    ids, ranks = kernel.in_neighbors(xt)
    count = kernel.table.counts[jnp.minimum(ids, kernel.vocab_size - 1)]
    rank = jnp.minimum(ranks, kernel.table.k_max - 1)
    near, dot, end = (take(x, rank) for x in (now.near, change.near, after.near))
    drifted = jnp.maximum(dot + take(f.near_lost, count) * near, 0)
    found = ratio(drifted + take(jumped, count), end + take(is_far, count), 0)
    return jnp.maximum(bound, jnp.max(jnp.where(ranks < kernel.table.k_max, found, 0), axis=-1, initial=0))


def by_trying(kernel: "KernelBase", xt: Array, t: Array) -> Array:
    """The largest rate at which x_t leaves its value, over all clean tokens from which it can come, one after the
    other: tight, for any kernel, in O(V) for each token; in O(V^2) for a chain that does not say `expectations`."""
    rates = kernel.reverse(xt, t)
    return jnp.max(jnp.where(kernel.likelihoods(xt, t) > 0, rates.total - rates.unseen, 0), axis=-1)


def of_nested(kernel: "NestedKernel", xt: Array, t: Array, s: Array | None) -> Array:
    """`KernelBase.leaving_bound` of nested partitions.

    The state z stays with chance q_{t|s}(z | z) q_s(z | x0) / q_t(z | x0), and that ratio of sums over levels is at
    least the smallest ratio of the weights of a level. A symbol has one level, a token is kept or of a level that
    draws.
    """
    level, drawing = kernel.state_levels[xt], kernel.partitions.drawing
    # Whether an event of level e leads from z to z: for tokens; a symbol has none of its own level.
    token = jnp.minimum(xt, kernel.vocab_size - 1)
    again = [kernel._event_prob([0, *unit], xt, token) for unit in np.eye(kernel.levels)]
    again = [jnp.where(level > 0, 0, chance) for chance in again]
    # A symbol may come from tokens of several classes.
    found = [_of_process(process, level, drawing, again, t, s) for process in kernel.process.processes]
    return functools.reduce(jnp.maximum, found)


def _of_process(process: "LevelProcess", level: Array, drawing: int, again: list[Array], t: Array, s: Array | None):
    """`of_nested` for clean tokens of one class."""
    tokens, levels, nothing = range(drawing + 1), range(process.levels + 1), jnp.zeros(())
    weights_t = [process.kept(t)[0], *process.weights(t)]

    def by_state(of_tokens, of_symbol):
        found = of_tokens
        for d in range(drawing + 1, process.levels + 1):
            found = jnp.where(level == d, of_symbol(d), found)
        return found

    if s is None:
        rates = process.rates(t)
        rates = [rates[d if d > drawing else 0] for d in levels]
        gains = [sum((weights_t[low] * rates[low][d] for low in range(d)), start=nothing) for d in levels]
        losses = [sum(rates[d][d + 1 :], start=nothing) for d in levels]
        growth = [ratio(gains[d], weights_t[d], 0 if d == 0 else -jnp.inf) - losses[d] for d in levels]
        largest = by_state(jnp.max(jnp.stack([growth[d] for d in tokens]), axis=0), lambda d: growth[d])
        leaves = by_state(
            sum(rate * (1 - back) for rate, back in zip(rates[0][1:], again, strict=True)), lambda d: losses[d]
        )
        return jnp.maximum(leaves + largest, 0)
    chances = process.chances(t, s)
    weights_s = [process.kept(s)[0], *process.weights(s)]
    shrink = [ratio(before, after, jnp.inf) for before, after in zip(weights_s, weights_t, strict=True)]
    smallest = by_state(jnp.min(jnp.stack([shrink[d] for d in tokens]), axis=0), lambda d: shrink[d])
    stays = by_state(
        chances[0][0] + sum(chance * back for chance, back in zip(chances[0][1:], again, strict=True)),
        lambda d: chances[d][0],
    )
    # The rounding of a difference from 1, which chances of small steps are not far above.
    rounding = 4 * jnp.finfo(stays.dtype).eps
    return jnp.clip(1 - jnp.where(stays > 0, stays * smallest, 0) + rounding, 0, 1)
