"""The semantic-frequency penalty (Eq. 23, 114-115) on tokens that occur already, and on those similar to them.

    l~_i(k) = l_i(k) - lambda_freq log(1 + n_i(k)) - lambda_sem log(1 + m_i(k)),    m_i(k) = sum_l S+(k, l) n_i(l)

n_i(k) counts k at the *other* positions of a window around i; S+(k, l) = max(sim(k, l), 0) where k is a neighbor of l.
A token therefore adds to itself and its own K neighbors, and nothing of size V x V or [L, V, K] is formed.

The whole sequence as the window: one row [V] a sequence holds the counts of all its tokens, O(L K) additions, and what
position i must not count, itself, is taken out again at K + 1 tokens. A window of W positions slides along the
sequence: the row is carried on, one token enters and one leaves, O(K) changes a position, but one after another.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import NeighborTable
from semdlm_jax.kernels.numerics import add_at, put, take


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Penalty:
    """The penalty's weights and window.

    Args:
        table: the neighbors.
        lambda_freq, lambda_sem: weights; may be traced.
        window: W positions around the one penalized, itself included, an even W with one more before it than behind;
            None is the whole sequence.
    """

    table: NeighborTable
    lambda_freq: jax.Array | float
    lambda_sem: jax.Array | float
    window: int | None = dataclasses.field(default=None, metadata={"static": True})

    def _around(self, tokens):
        """(ids, similarities), both [..., K + 1]: the tokens themselves, which are not similar to themselves, and their
        neighbors; the id V is none."""
        none = self.table.missing
        inside = jnp.minimum(tokens, none - 1)
        ids = jnp.where(tokens[..., None] < none, self.table.ids[inside], none)
        similarities = jnp.maximum(self.table.similarities[inside], 0)
        return (
            jnp.concatenate([tokens[..., None], ids], axis=-1),
            jnp.concatenate([jnp.zeros_like(similarities, shape=(*tokens.shape, 1)), similarities], axis=-1),
        )

    def _size(self, n, m):
        return self.lambda_freq * jnp.log1p(jnp.maximum(n, 0)) + self.lambda_sem * jnp.log1p(jnp.maximum(m, 0))

    def _count(self, rows, tokens_BxN, weight):
        """rows (n, m) [B, V] with the tokens counted, `weight` times each; the token V counts nowhere."""
        n, m = rows
        batch = tokens_BxN.shape[0]
        ids, similarities = self._around(tokens_BxN)
        m = add_at(m, ids.reshape(batch, -1), weight * similarities.reshape(batch, -1))
        return add_at(n, tokens_BxN, jnp.full(tokens_BxN.shape, weight, n.dtype)), m

    def begin(self, tokens_BxL, visible_BxL):
        """What `apply` carries from one chunk of positions to the next. Only visible positions are counted."""
        batch, length = tokens_BxL.shape
        tokens_BxL = jnp.where(visible_BxL, tokens_BxL, self.table.vocab_size)
        empty = jnp.zeros((batch, self.table.vocab_size), jnp.float32)
        if self.window is None:
            rows = self._count((empty, empty), tokens_BxL, 1.0)
            return *rows, self._size(*rows)
        # The first window lacks the token that enters with position 0.
        ahead = min(self._after, length)
        rows = self._count((empty, empty), tokens_BxL[:, :ahead], 1.0)
        return *rows, self._size(*rows), tokens_BxL

    @property
    def _after(self):
        """Positions of the window behind the one penalized."""
        assert self.window is not None
        return (self.window - 1) // 2

    def apply(self, carry, logits_BxCxV, tokens_BxC, start):
        """(carry, penalized logits) of the positions from `start` on; where not visible they mean nothing. tokens: at
        those positions, shape [B, C]."""
        if self.window is None:
            n, m, size_BxV = carry
            own = self._without_self(n[:, None], m[:, None], size_BxV[:, None], tokens_BxC)
            return carry, add_at(logits_BxCxV - size_BxV[:, None], *own)
        *rows, tokens_BxL = carry

        def slide(rows, inputs):
            logits_BxV, token_B, position = inputs
            n, m, size = rows
            enters = self._token(tokens_BxL, position + self._after)
            leaves = self._token(tokens_BxL, position + self._after - self.window)
            n, m = self._count(self._count((n, m), enters[:, None], 1.0), leaves[:, None], -1.0)
            ids = jnp.concatenate([self._around(enters)[0], self._around(leaves)[0]], axis=-1)
            at = jnp.minimum(ids, self.table.vocab_size - 1)
            size = put(size, ids, self._size(take(n, at), take(m, at)))
            return (n, m, size), add_at(logits_BxV - size, *self._without_self(n, m, size, token_B))

        chunk = tokens_BxC.shape[1]
        by_position = (jnp.moveaxis(logits_BxCxV, 1, 0), tokens_BxC.T, start + jnp.arange(chunk))
        rows, logits_CxBxV = jax.lax.scan(slide, tuple(rows), by_position)
        return (*rows, tokens_BxL), jnp.moveaxis(logits_CxBxV, 0, 1)

    def after(self, logits_BxV, text_BxL, position):
        """Penalized logits of one position, when only the tokens before it are counted; may be traced."""
        positions = jnp.arange(text_BxL.shape[1])
        counted = positions < position
        if self.window is not None:
            counted &= positions >= position - self.window // 2
        *_, size_BxV = dataclasses.replace(self, window=None).begin(text_BxL, counted)
        return logits_BxV - size_BxV

    def _without_self(self, n, m, size, tokens):
        """(ids, what the penalty loses there) when the token of a position itself is not counted: [..., K + 1]."""
        ids, similarities = self._around(tokens)
        at = jnp.minimum(ids, self.table.vocab_size - 1)
        itself = jnp.arange(ids.shape[-1]) == 0
        return ids, take(size, at) - self._size(take(n, at) - itself, take(m, at) - similarities)

    def _token(self, tokens_BxL, position):
        """The tokens at a position; V outside the sequence."""
        length = tokens_BxL.shape[1]
        inside = (position >= 0) & (position < length)
        return jnp.where(inside, tokens_BxL[:, jnp.clip(position, 0, length - 1)], self.table.vocab_size)
