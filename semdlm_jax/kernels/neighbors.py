"""The neighbor table as device arrays, in both directions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.neighbor_lists import invert


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NeighborTable:
    """N(i), nearest first, and its inverted index: which rows hold j, at which rank.

    Missing entries have the id V (`missing`), which scatters drop and gathers mask by the rank. On the host they are
    neighbor_lists.MISSING; `from_lists` is where one becomes the other.

    ids: [V, K] int32, the neighbors of each token; i itself never among them.
    counts: [V] int32, how many entries of each row are valid (they come first).
    similarities: [V, K] float32, sim(i, ids[i, r]); 0 where missing.
    in_ids: [V, D] int32, the rows that hold token j, D the largest in-degree.
    in_ranks: [V, D] int32, the rank of j in those rows; K where missing.
    """

    ids: jax.Array
    counts: jax.Array
    similarities: jax.Array
    in_ids: jax.Array
    in_ranks: jax.Array

    @property
    def vocab_size(self):
        return self.ids.shape[0]

    @property
    def missing(self):
        """The id that stands where there is no neighbor: V."""
        return self.vocab_size

    @property
    def k_max(self):
        return self.ids.shape[1]

    @classmethod
    def empty(cls, vocab_size):
        """A table in which no token has neighbors: the weight of the semantic branch goes to the global one."""
        return cls.from_lists(np.zeros((vocab_size, 0), np.int32), np.zeros((vocab_size, 0), np.float32))

    @classmethod
    def from_lists(cls, ids, similarities, k_max=None, inverted=None):
        """Builds the table from host arrays.

        Args:
            ids: [V, K'] int, nearest first, negative where missing.
            similarities: [V, K'] float.
            k_max: neighbors kept, K; all by default.
            inverted: the InvertedIndex of ids, where it is known.

        Raises:
            UserError: the lists are shorter than k_max, or malformed.
        """
        ids, similarities = np.asarray(ids), np.asarray(similarities, np.float32)
        vocab_size, available = ids.shape
        k_max = available if k_max is None else k_max
        if k_max > available:
            raise UserError(f"k_max = {k_max} but the neighbor table holds {available} a token: rebuild it with more")
        ids, similarities = ids[:, :k_max], similarities[:, :k_max]
        valid = ids >= 0
        counts = valid.sum(1)
        if (ids >= vocab_size).any() or (valid != (np.arange(k_max) < counts[:, None])).any():
            raise UserError("the neighbor table is malformed: ids must be below V and missing entries must come last")
        if (ids == np.arange(vocab_size)[:, None]).any():
            raise UserError("the neighbor table is malformed: a token is listed as its own neighbor")
        in_order = np.sort(ids, axis=1)
        if ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any():
            raise UserError("the neighbor table is malformed: a row lists a token twice")
        inverted = invert(ids) if inverted is None else inverted.nearest(k_max)
        if len(inverted.rows) != counts.sum():
            raise UserError("the neighbor table is malformed: its inverted index is that of other lists")
        in_ids, in_ranks = inverted.padded(vocab_size, k_max)
        return cls(
            ids=jnp.asarray(np.where(valid, ids, vocab_size), jnp.int32),
            counts=jnp.asarray(counts, jnp.int32),
            similarities=jnp.asarray(np.where(valid, similarities, 0.0)),
            in_ids=jnp.asarray(in_ids),
            in_ranks=jnp.asarray(in_ranks),
        )
