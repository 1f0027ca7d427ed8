"""The global prior nu over the vocabulary: what a token becomes when it jumps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GlobalPrior:
    """A distribution over V tokens, drawn from in O(1) by Walker's alias method (exact for point masses and uniform).

    probs: [V] float32, sums to 1. threshold, alias: [V], the alias table.
    """

    probs: jax.Array
    threshold: jax.Array
    alias: jax.Array

    @classmethod
    def from_probs(cls, probs):
        """probs: [V] non-negative, normalised here in float64."""
        probs = np.asarray(probs, np.float64)
        probs = probs / probs.sum()
        threshold, alias = _alias_table(probs)
        dtype = jnp.result_type(float)
        return cls(jnp.asarray(probs, dtype), jnp.asarray(threshold, dtype), jnp.asarray(alias, jnp.int32))

    @classmethod
    def uniform(cls, vocab_size):
        return cls.from_probs(np.ones(vocab_size))

    @classmethod
    def point(cls, vocab_size, token):
        return cls.from_probs(np.arange(vocab_size) == token)

    def sample(self, key, shape):
        """int32 tokens of the given shape."""
        column_key, coin_key = jax.random.split(key)
        column = jax.random.randint(column_key, shape, 0, self.probs.shape[0], jnp.int32)
        coin = jax.random.uniform(coin_key, shape, self.threshold.dtype)
        return jnp.where(coin < self.threshold[column], column, self.alias[column])


def _alias_table(probs):
    scaled = probs * len(probs)
    threshold, alias = np.ones(len(probs)), np.arange(len(probs))
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large.pop()
        threshold[low], alias[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        (small if scaled[high] < 1 else large).append(high)
    return threshold, alias
