"""Nested partitions of the vocabulary as device arrays: blocks from which noise draws, and symbols of blocks."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.prior import alias_table

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Partitions:
    """Partitions whose blocks nest, from fine to coarse, and a base measure pi.

    On the first `drawing` levels tokens are drawn from blocks, by an alias table for each block: O(1) and exact. On the
    others a block has a symbol: a state with an id from V on.

    Attributes:
        blocks: [M, V] int32, the block of every token.
        probs: [V], pi.
        masses: [drawing, V], pi of the block of every token.
        order: [V] int32, the tokens in an order in which every block is an interval.
        first, size: [drawing, V] int32, where the block of every token begins in that order, and how many it has.
        threshold, alias: [drawing, V], the alias tables in that order; an alias is a token.
        symbols: [M - drawing, V] int32, the symbol of the block of every token.
        members: [N - V] int32, a token of the block of every symbol.
        drawing: how many levels draw.
        whole: the level, from 0 on, whose one block is the whole vocabulary; -1: none.
    """

    blocks: Array
    probs: Array
    masses: Array
    order: Array
    first: Array
    size: Array
    threshold: Array
    alias: Array
    symbols: Array
    members: Array
    drawing: int = dataclasses.field(metadata={"static": True})
    whole: int = dataclasses.field(default=-1, metadata={"static": True})

    @classmethod
    def from_blocks(cls, blocks, probs, drawing: int, apart: int | None = None) -> "Partitions":
        """Builds the arrays on the host.

        Args:
            blocks: [M, V] int from fine to coarse; M may be 0.
            probs: [V], pi, normalized here.
            drawing: how many of the levels draw tokens; the others have symbols.
            apart: a token that is a block of its own on every level, and its own symbol.

        Raises:
            UserError: blocks that do not nest, or one that draws and has no mass.
        """
        probs = np.asarray(probs, np.float64) / np.sum(probs)
        blocks = _with_apart(np.asarray(blocks).reshape(-1, len(probs)), apart)
        _check_nested(blocks)
        order = np.lexsort(blocks) if len(blocks) else np.arange(len(probs))  # the last row is the first key
        tables = [_draws(block, probs, order, level) for level, block in enumerate(blocks[:drawing], 1)]
        masses, first, size, threshold, alias = np.array(tables).reshape(-1, 5, len(probs)).transpose(1, 0, 2)
        symbols, members = _symbols(blocks[drawing:], len(probs), apart)
        dtype = jnp.result_type(float)
        return cls(
            blocks=jnp.asarray(blocks, jnp.int32),
            probs=jnp.asarray(probs, dtype),
            masses=jnp.asarray(masses, dtype),
            order=jnp.asarray(order, jnp.int32),
            first=jnp.asarray(first, jnp.int32),
            size=jnp.asarray(size, jnp.int32),
            threshold=jnp.asarray(threshold, dtype),
            alias=jnp.asarray(alias, jnp.int32),
            symbols=jnp.asarray(symbols, jnp.int32),
            members=jnp.asarray(members, jnp.int32),
            drawing=drawing,
            whole=len(blocks) - 1 if len(blocks) and not np.ptp(blocks[-1]) else -1,
        )

    @property
    def vocab_size(self) -> int:
        return self.probs.shape[0]

    @property
    def num_states(self) -> int:
        """N: tokens and symbols."""
        return self.vocab_size + self.members.shape[0]

    def sample(self, key: Array, tokens: Array, level: Array) -> Array:
        """int32 tokens drawn from the blocks of `tokens` on a drawing level from 0 on; shapes broadcast."""
        place_key, coin_key = jax.random.split(key)
        shape = jnp.broadcast_shapes(tokens.shape, level.shape)
        size = self.size[level, tokens]
        u = jax.random.uniform(place_key, shape, self.threshold.dtype)
        place = self.first[level, tokens] + jnp.minimum((u * size).astype(jnp.int32), size - 1)
        coin = jax.random.uniform(coin_key, shape, self.threshold.dtype)
        return jnp.where(coin < self.threshold[level, place], self.order[place], self.alias[level, place])

    def block_sums(self, w: Array, level: int) -> Array:
        """The sum of w [..., V] over the block of every token, on a level from 0 on: [..., V]."""
        if level == self.whole:
            return jnp.broadcast_to(jnp.sum(w, axis=-1, keepdims=True), w.shape)
        # The sum over same blocks is its own transpose; JAX would add up a gradient number by number.
        return jax.custom_derivatives.linear_call(_same_block_sums, _same_block_sums, self.blocks[level], w)

    def symbol_sums(self, w: Sequence[Array]) -> Array:
        """The sum of w_d [..., V] over the block of every symbol, d its level: [..., N - V]; that of a token apart is
        left out. w: one array for each level that has symbols."""
        added = jnp.zeros((self.members.shape[0], w[0][..., 0].size), w[0].dtype)
        for symbols, values in zip(self.symbols, w, strict=True):
            flat = values.reshape(-1, self.vocab_size).T
            added = added.at[symbols - self.vocab_size].add(flat, mode="drop", wrap_negative_indices=False)
        return added.T.reshape(*w[0].shape[:-1], -1)


def _same_block_sums(block, w):
    flat = w.reshape(-1, w.shape[-1]).T
    return jax.ops.segment_sum(flat, block, len(block))[block].T.reshape(w.shape)


def _with_apart(blocks, apart):
    if apart is None:
        return blocks
    alone = np.arange(blocks.shape[1]) == apart
    return np.where(alone, blocks.max(1, initial=-1, keepdims=True) + 1, blocks)


def _check_nested(blocks):
    for fine, coarse in zip(blocks, blocks[1:]):
        pairs = np.unique(np.stack([fine, coarse]), axis=1)
        if len(np.unique(pairs[0])) != pairs.shape[1]:
            raise UserError("the partitions do not nest: every block must lie in one block of the next level")


def _draws(block, probs, order, level):
    """[5, V]: masses, first, size of the block of every token; threshold and alias in the order."""
    masses, first, size, threshold, alias = np.zeros((5, len(probs)))
    places = np.flatnonzero(np.diff(block[order], prepend=-1))
    for begin, end in zip(places, [*places[1:], len(order)], strict=True):
        tokens = order[begin:end]
        if not (mass := probs[tokens].sum()) > 0:
            raise UserError(f"a block of level {level} has no token that noise may draw")
        masses[tokens], first[tokens], size[tokens] = mass, begin, end - begin
        threshold[begin:end], inside = alias_table(probs[tokens] / mass)
        alias[begin:end] = tokens[inside]
    return masses, first, size, threshold, alias


def _symbols(blocks, vocab_size, apart):
    """(symbols [levels, V], members [N - V]) of blocks [levels, V]."""
    symbols, members = np.zeros(blocks.shape, int), []
    for row, block in zip(symbols, blocks, strict=True):
        text = np.flatnonzero(np.arange(vocab_size) != apart)
        _, some, number = np.unique(block[text], return_index=True, return_inverse=True)
        row[text] = vocab_size + len(members) + number
        members.extend(text[some])
    if apart is not None:
        symbols[:, apart] = apart
    return symbols, np.array(members, int)
