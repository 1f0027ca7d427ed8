"""The global prior nu over the vocabulary: what a token becomes when it jumps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.former import tells_renamed
from semdlm_jax.options import number, text

PRIOR = text("uniform", "what jumps, or draws from blocks, give: uniform, or unigram (Eq. 119)", "kernels.named:PRIORS")
UNIGRAM = "kernel.prior: unigram"
EXPONENT = number(1.0, "(0, 1]", "the unigram prior is the training frequency to this power")
MIN_COUNT = number(
    1, "[0, 1000000000]", "training occurrences below which the unigram prior (Eq. 119) leaves a token out"
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GlobalPrior:
    """A distribution over V tokens, drawn from in O(1) by Walker's alias method (exact for point masses and uniform).

    probs: [V] float32, sums to 1. threshold, alias: [V], the alias table. flat: every token has the same chance. alone:
    the token that has all of it; None: there are several.
    """

    probs: jax.Array
    threshold: jax.Array
    alias: jax.Array
    flat: bool = dataclasses.field(default=False, metadata={"static": True})
    alone: int | None = dataclasses.field(default=None, metadata={"static": True})

    @classmethod
    def from_probs(cls, probs):
        """probs: [V] non-negative, normalized here in float64."""
        probs = np.asarray(probs, np.float64)
        probs = probs / probs.sum()
        threshold, alias = alias_table(probs)
        dtype = jnp.result_type(float)
        flat = bool((probs == probs[0]).all())
        alone = int(probs.argmax()) if np.count_nonzero(probs) == 1 else None
        return cls(jnp.asarray(probs, dtype), jnp.asarray(threshold, dtype), jnp.asarray(alias, jnp.int32), flat, alone)

    @classmethod
    def uniform(cls, vocab_size):
        return cls.from_probs(np.ones(vocab_size))

    @classmethod
    def uniform_without(cls, vocab_size, token):
        """Every token but one."""
        return cls.from_probs(np.arange(vocab_size) != token)

    @classmethod
    @tells_renamed(tau="exponent", least="min_count")
    def unigram(cls, counts, valid=None, exponent=1.0, min_count=1):
        """nu(j) proportional to counts(j)^exponent over the valid tokens.

        Args:
            counts: [V], occurrences in training text.
            valid: [V] bool; all tokens by default.
            exponent: in (0, 1].
            min_count: occurrences below which a token is left out.

        Raises:
            UserError: no token is left, or an option is out of its range.

        Source:
            Eq. 119.
        """
        counts = np.asarray(counts, np.float64)
        keep = counts >= max(min_count, 1)
        keep = keep if valid is None else keep & np.asarray(valid)
        EXPONENT.check("prior_exponent", exponent)
        MIN_COUNT.check("min_count", min_count)
        if not keep.any():
            raise UserError(f"no token occurs {min_count} times or more: lower the floor of the unigram prior")
        return cls.from_probs(np.where(keep, counts, 0) ** exponent * keep)

    @classmethod
    def point(cls, vocab_size, token):
        return cls.from_probs(np.arange(vocab_size) == token)

    def sample(self, key, shape):
        """int32 tokens of the given shape."""
        column_key, coin_key = jax.random.split(key)
        column = jax.random.randint(column_key, shape, 0, self.probs.shape[0], jnp.int32)
        coin = jax.random.uniform(coin_key, shape, self.threshold.dtype)
        return jnp.where(coin < self.threshold[column], column, self.alias[column])


def alias_table(probs):
    scaled = probs * len(probs)
    threshold, alias = np.ones(len(probs)), np.arange(len(probs))
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large.pop()
        threshold[low], alias[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        (small if scaled[high] < 1 else large).append(high)
    return threshold, alias
