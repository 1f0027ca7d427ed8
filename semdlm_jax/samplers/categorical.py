"""Draws from unnormalized log-weights [..., V], and which tokens a draw may take."""

import math

import jax
import jax.numpy as jnp

# Of large vocabularies blocks hold a multiple of so many tokens: on a CPU such sums take two thirds of the time.
VECTOR = 128


def draw(key: jax.Array, log_weights: jax.Array, *, greedy: jax.Array | bool = False):
    """(tokens, log_total): tokens [...] int32 from log_weights [..., V] float32, and log sum exp of these, [...].

    greedy: the most likely token instead of a draw; may be traced.

    A block of about sqrt(V) tokens is drawn first, then a token of it, each by the largest log-weight + Gumbel noise:
    exact, with 2 sqrt(V) random numbers in place of V, which on a CPU would take longer than the network. The noise has
    its tail resolved to about 1e-14: from one 23-bit uniform it never exceeds 16, so that rare tokens would never be
    drawn, which acts like a lower temperature.
    """
    vocab_size = log_weights.shape[-1]
    size = math.isqrt(max(vocab_size - 1, 0)) + 1
    if size > VECTOR:
        size = -(-size // VECTOR) * VECTOR
    whole = vocab_size // size * size
    parts = [log_weights[..., :whole].reshape(*log_weights.shape[:-1], whole // size, size)]
    if whole < vocab_size:
        # By itself: padded to a block, all weights would be copied.
        parts.append(log_weights[..., None, whole:])
    highest, totals = (jnp.concatenate(values, axis=-1) for values in zip(*map(_sum_up, parts)))
    block_key, token_key = jax.random.split(key)
    block = _argmax(block_key, jnp.where(greedy, highest, totals), greedy)
    ids = block[..., None] * size + jnp.arange(size)
    inside = jnp.take_along_axis(log_weights, jnp.minimum(ids, vocab_size - 1), axis=-1)
    inside = jnp.where(ids < vocab_size, inside, -jnp.inf)
    tokens = block * size + _argmax(token_key, inside, greedy)
    return tokens.astype(jnp.int32), jax.nn.logsumexp(totals, axis=-1)


def _sum_up(blocks):
    """(largest, log sum exp) of blocks [..., C, S], each [..., C]."""
    # Clipped: a block without weight would give inf - inf.
    highest = jnp.maximum(jnp.max(blocks, axis=-1), jnp.finfo(blocks.dtype).min)
    return highest, highest + jnp.log(jnp.sum(jnp.exp(blocks - highest[..., None]), axis=-1))


def _argmax(key, log_weights, greedy):
    noise = jax.random.gumbel(key, log_weights.shape, log_weights.dtype, mode="high")
    noisy = log_weights + jnp.where(greedy, 0.0, noise)
    # As jnp.argmax, which on a CPU would compute the noise without vector instructions, at twice the time.
    last = noisy.shape[-1] - 1
    largest = noisy == jnp.max(noisy, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, jnp.arange(last + 1), last), axis=-1)


def truncate(log_weights, top_k=None, top_p=None):
    """log_weights [..., V] float32 with -inf at all but the likeliest tokens; None: no limit.

    top_k: so many tokens, an int. top_p: the fewest tokens whose share of the sum reaches top_p, of what top_k left.
    Both may be traced. Tokens as likely as the last one kept are kept too. The least weight kept is found by bisection
    over the 32 bits of a float: 32 passes over the weights, and no sorted copy of them.
    """
    if top_k is not None:
        log_weights = _keep(log_weights, lambda kept: jnp.sum(kept, axis=-1), jnp.asarray(top_k))
    if top_p is not None:
        highest = jnp.max(log_weights, axis=-1, keepdims=True)
        weights = jnp.exp(log_weights - highest)
        # The total is summed as the parts are: at top_p = 1 rounding cannot ask for more than there is.
        log_weights = _keep(
            log_weights, lambda kept: jnp.sum(jnp.where(kept, weights, 0), axis=-1), top_p * jnp.sum(weights, axis=-1)
        )
    return log_weights


def _keep(log_weights, measure, target):
    """log_weights where they are at least the largest threshold at which measure({weights >= threshold}) >= target."""
    # The bits of a float, read so that integers are ordered as the floats are, -0 and 0 alike.
    bits = jax.lax.bitcast_convert_type(log_weights, jnp.int32)
    order = jnp.where(bits < 0, jnp.iinfo(jnp.int32).min - bits, bits)

    def bisect(_, ends):
        low, high = ends  # enough at low, not at high
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        enough = measure(order >= middle[..., None]) >= target
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.full(log_weights.shape[:-1], jnp.iinfo(jnp.int32).min)
    low, _ = jax.lax.fori_loop(0, 32, bisect, (low, jnp.max(order, axis=-1) + 1))
    return jnp.where(order >= low[..., None], log_weights, -jnp.inf)
