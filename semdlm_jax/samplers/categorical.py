"""Draws from unnormalized log-weights [..., V], and their truncation to the likeliest tokens."""

import math

import jax
import jax.numpy as jnp

# Blocks of a large vocabulary hold a multiple of this: such sums take two thirds of the time on a CPU.
VECTOR = 128


def draw(key: jax.Array, log_weights: jax.Array, *, greedy: jax.Array | bool = False):
    """Draws a token from each row of weights.

    A block of about sqrt(V) tokens is drawn first, then a token of it, each by the largest log-weight + Gumbel noise.
    This is exact, and takes 2 sqrt(V) random numbers instead of V, which would take longer than the network on a CPU.
    The noise resolves its tail to about 1e-14; made of one 23-bit uniform it would never exceed 16, so that rare tokens
    would never be drawn, as at a lower temperature.

    Args:
        key: a JAX random key.
        log_weights: [..., V] float32, not normalized.
        greedy: whether the most likely token is taken instead; may be traced.

    Returns:
        (tokens, log_total): [...] int32, and [...] the log of the sum of the weights.
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
    """Keeps the likeliest tokens, and those as likely as the last one kept.

    The smallest weight kept is found by bisection over the bits of a float, without a sorted copy of the weights; for
    top_p only over those that are large enough. On a CPU rows pass through this one by one, so that their weights stay
    in the cache: for 256 rows of 30,522 weights at once it took 3 to 6 times as long.

    Args:
        log_weights: [..., V] float32.
        top_k: how many tokens; None: all. May be traced.
        top_p: the fewest tokens of what top_k kept whose share of its sum reaches top_p; None: all. May be traced.

    Returns:
        log_weights, -inf at all other tokens.
    """
    if top_k is None and top_p is None:
        return log_weights
    if jax.default_backend() != "cpu":
        return _truncate(log_weights, top_k, top_p)
    rows = log_weights.reshape(-1, log_weights.shape[-1])
    return jax.lax.map(lambda row: _truncate(row, top_k, top_p), rows).reshape(log_weights.shape)


def _truncate(log_weights, top_k, top_p):
    if top_k is not None:
        log_weights = _keep(log_weights, lambda kept: jnp.sum(kept, axis=-1), jnp.asarray(top_k), -jnp.inf)
    if top_p is not None:
        highest = jnp.max(log_weights, axis=-1, keepdims=True)
        weights = jnp.exp(log_weights - highest)
        # The total is summed as the parts are: at top_p = 1 rounding cannot ask for more than there is.
        total = jnp.sum(weights, axis=-1)
        # V weights below this would not fill the share that may be left out; -1 leaves room for rounding.
        room = jnp.maximum(1 - top_p, 0) * total / log_weights.shape[-1]
        least = highest[..., 0] + jnp.where(room > 0, jnp.log(room), -jnp.inf) - 1
        log_weights = _keep(
            log_weights, lambda kept: jnp.sum(jnp.where(kept, weights, 0), axis=-1), top_p * total, least
        )
    return log_weights


def _keep(log_weights, measure, target, least):
    """log_weights where they are at least the largest threshold at which measure({weights >= threshold}) >= target.
    least: a threshold that is low enough."""
    order = _ordered(log_weights)

    def bisect(ends):
        low, high = ends  # enough at low, not at high
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        enough = measure(order >= middle[..., None]) >= target
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    highest = jnp.max(order, axis=-1)
    low = jnp.broadcast_to(jnp.minimum(_ordered(jnp.asarray(least, log_weights.dtype)), highest), highest.shape)
    low, _ = jax.lax.while_loop(lambda ends: jnp.any(ends[0] + 1 < ends[1]), bisect, (low, highest + 1))
    return jnp.where(order >= low[..., None], log_weights, -jnp.inf)


def _ordered(values):
    """The bits of floats, read so that integers are ordered as the floats are, -0 and 0 alike."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, jnp.iinfo(jnp.int32).min - bits, bits)
