"""Nested partitions: noise over tokens of like meaning that is a Markov chain, so that its bound is tight.

Partitions of the vocabulary P_1, ..., P_D, every block inside one of the next, P_D of one block alone. An event of
level d draws the token anew from its block of P_d, in proportion to a base measure pi; or it replaces the token by the
symbol of that block. The symbol of the last level is the mask; a symbol hides events of the levels below it. Then

    q_t(j | i) = sum over d of a_d(t) E_d(i, j),   E_0 = 1,

with E_d(i, .) the measure pi within i's block of level d, or its symbol, and a_d(t) the chance of level d at time t
(`levels`). Events of a higher level hide those of lower ones, E_d E_e = E_max(d, e), and so a step back is drawn in
O(D^2) without a sum over the vocabulary.

Tokens may become symbols at rates of their own, by classes that are blocks of all levels that draw: then each class has
weights a_d of its own, and all else is as above.

D = 1 is absorbing, uniform or unigram noise. D = 2 with S_1 = 1 - n^2 has the weights of SemDLM+ (Eq. 22), with a block
for the neighborhood. With symbols alone it is HDLM, and TDLM where D > 2.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.kernels import leaving
from semdlm_jax.kernels.level_classes import ProcessByClass
from semdlm_jax.kernels.markov import MarkovKernel
from semdlm_jax.kernels.numerics import at_token, pick, ratio
from semdlm_jax.kernels.partitions import Partitions
from semdlm_jax.kernels.protocol import coin
from semdlm_jax.kernels.reverse import other_than
from semdlm_jax.kernels.shapes import as_times, as_tokens

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NestedKernel(MarkovKernel):
    """A chain of nested events; a pytree of device arrays.

    Args:
        partitions: of all levels but that of the mask; with the mask apart if there is one.
        process: when events of each level happen.
        mask_id: the symbol of the last level; None: the last level draws, or has a symbol of its own.

    Raises:
        UserError: the process has another number of levels.
    """

    partitions: Partitions
    process: ProcessByClass
    mask_id: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def vocab_size(self):
        return self.partitions.vocab_size

    @property
    def num_states(self):
        return self.partitions.num_states

    @property
    def levels(self):
        """D."""
        return self.partitions.blocks.shape[0] + (self.mask_id is not None)

    @property
    def closed_form(self):
        return None if self.partitions.drawing or self.process.several else "symbols"

    def alpha(self, t):
        return self.process.alpha(t)

    def noise(self, t):
        return self.process.noise(t)

    # The forward process.

    def noise_prob(self, y, x0, t):
        return self._event_prob(self.process.weights(x0, t), y, x0)

    def _event_prob(self, weights, y, x0):
        """sum over d of w_d E_d(x0, y); shapes broadcast. w_0 is not read if there is one class."""
        p = self.partitions
        token = jnp.minimum(y, self.vocab_size - 1)
        drawn = sum(
            jnp.where(block[x0] == block[token], w, 0) / mass[x0]
            for w, block, mass in zip(weights[1:], p.blocks, p.masses)
        )
        found = jnp.where(y < self.vocab_size, drawn * p.probs[token], 0) + sum(
            jnp.where(symbol == y, w, 0)
            for w, symbol in zip(weights[p.drawing + 1 :], self._symbols_of(x0), strict=True)
        )
        return found + jnp.where(x0 == y, weights[0], 0) if self.process.several else found

    def _symbols_of(self, x0):
        """The symbol of the block of x0 on every level that has symbols; shape of x0 each."""
        symbols = [symbols[x0] for symbols in self.partitions.symbols]
        return symbols if self.mask_id is None else [*symbols, jnp.full_like(x0, self.mask_id)]

    def noise_probs(self, x0, t):
        return self.noise_prob(jnp.arange(self.num_states), x0[..., None], t[..., None])

    def noise_likelihoods(self, xt, t):
        return self.noise_prob(xt[..., None], jnp.arange(self.vocab_size), t[..., None])

    def noise_matvec(self, w, t):
        p = self.partitions
        kept, *weights = self.process.weights(jnp.arange(self.vocab_size), t[..., None])
        drawn = sum(a * p.block_sums(w, d) / mass for d, (a, mass) in enumerate(zip(weights, p.masses)))
        carried = jnp.broadcast_to(drawn * p.probs, jnp.broadcast_shapes(jnp.shape(drawn), w.shape))
        if self.process.several:
            carried = carried + w * kept
        if self.mask_id is not None:
            # The mask, which no clean text holds, is its own symbol on every level.
            own = sum(jnp.where(self._is_mask, a, 0) for a in weights[p.drawing : -1])
            masked = jnp.sum(w * (weights[-1] + own), axis=-1, keepdims=True)
            carried = carried + jnp.where(self._is_mask, masked, 0)
        if not p.members.shape[0]:
            return carried
        of_levels = weights[p.drawing : p.drawing + len(p.symbols)]
        return jnp.concatenate([carried, p.symbol_sums([w * a for a in of_levels])], axis=-1)

    @property
    def _is_mask(self):
        """[V] bool."""
        return jnp.arange(self.vocab_size) == self.mask_id

    def _by_symbol(self, weights):
        """[..., N - V] of [..., 1] for every level that has symbols."""
        levels = self.state_levels[self.vocab_size :] - self.partitions.drawing - 1
        return jnp.take(jnp.concatenate(weights, axis=-1), levels, axis=-1)

    def expectations(self, values, t):
        p, text = self.partitions, values[..., : self.vocab_size]
        kept, *weights = self.process.weights(jnp.arange(self.vocab_size), t[..., None])
        means = [p.block_sums(text * p.probs, d) / mass for d, mass in enumerate(p.masses)]
        means += [jnp.take(values, symbols, axis=-1) for symbols in p.symbols]
        means += [] if self.mask_id is None else [values[..., self.mask_id, None]]
        return text * (self.alpha(t)[..., None] + kept) + sum(a * mean for a, mean in zip(weights, means, strict=True))

    def sample_noise(self, key, x0, t):
        level_key, token_key = jax.random.split(key)
        level = pick(level_key, self.process.weights(x0, t), x0.shape)
        return self._event(token_key, x0, level)

    def _event(self, key, x, level):
        """int32 states: what an event of a level makes of the states x; of level 0: x itself."""
        p = self.partitions
        drawn, text = x, self._member(x)
        if p.drawing:
            drawn = jnp.where(level > 0, p.sample(key, text, jnp.clip(level - 1, 0, p.drawing - 1)), x)
        for d, symbol in enumerate(self._symbols_of(text), p.drawing + 1):
            drawn = jnp.where(level == d, symbol, drawn)
        return jnp.where(level < self.state_levels[x], x, drawn).astype(jnp.int32)

    def _member(self, x):
        """A token of the block of every symbol; tokens themselves."""
        members = self.partitions.members
        return jnp.where(x < self.vocab_size, x, members[x - self.vocab_size]) if members.shape[0] else x

    @property
    def state_levels(self):
        """[N] int32: 0 for tokens, d for symbols of level d."""
        p, levels = self.partitions, jnp.zeros(self.num_states, jnp.int32)
        for d, symbols in enumerate(p.symbols, p.drawing + 1):
            levels = levels.at[symbols].set(d)
        return levels if self.mask_id is None else levels.at[self.mask_id].set(self.levels)

    def sample_prior(self, key, shape):
        return self._event(key, jnp.full(shape, self.partitions.order[0]), jnp.full(shape, self.levels))

    def prior_probs(self, t):
        """What noise of time t makes of a token from pi: where symbols are left before the end, they are in it."""
        p = self.partitions
        if p.drawing == self.levels:
            return p.probs
        text = p.probs if self.mask_id is None else p.probs.at[self.mask_id].set(0)
        return ratio(self.noise_matvec(text / jnp.sum(text), t), self.noise(t)[..., None], 0)

    def members(self, state):
        of_symbol = (np.asarray(self.partitions.symbols) == state).any(0)
        return np.flatnonzero(of_symbol) if state >= self.vocab_size else super().members(state)

    # The reverse process.

    def jump_rates(self, xt, t):
        return self._into(xt, self.process.rates(t[..., None]))

    def transitions(self, xt, t, s):
        chances = self.process.chances(t[..., None], s[..., None])
        level, rows = self.state_levels[xt][..., None], self.process.table(self._member(xt)[..., None], chances)
        stays = sum((jnp.where(level == row, each[0], 0) for row, each in enumerate(rows)), start=jnp.zeros(()))
        return self._into(xt, chances) + jnp.where(self._is_state(xt), stays, 0)

    def _into(self, xt, found):
        """sum over e >= 1 of c[l(y)][e] E_e(y, xt) of every state y: [..., N]. found: the Table c of every class, of
        arrays [..., 1]."""
        p, tokens = self.partitions, jnp.arange(self.vocab_size)
        table = self.process.table(tokens, found)
        into = self._event_prob([jnp.zeros(()), *table[0][1:]], xt[..., None], tokens)
        if self.mask_id is not None:
            into = jnp.where(tokens == self.mask_id, 0, into)
        if not p.members.shape[0]:
            return into
        events = [self._by_symbol([row[e] for row in table[p.drawing + 1 :]]) for e in range(self.levels + 1)]
        above = enumerate(self._symbols_of(p.members), p.drawing + 1)
        return jnp.concatenate(
            [into, sum(jnp.where(symbol == xt[..., None], events[e], 0) for e, symbol in above)], axis=-1
        )

    def reverse_step(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        histories = self._histories(xt, x0, s, self.process.chances(t, s))
        others, total = self._leaving(xt, x0, histories), sum(histories.values())
        stepped = self._leave(key, ratio(sum(others.values()), total, 0), others, xt, x0)
        return jnp.where(total > 0, stepped, x0).astype(jnp.int32)

    def reverse_leap(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        others = self._leaving(xt, x0, self._events(xt, x0, t))
        rate = ratio(sum(others.values()), self.prob(xt, x0, t), 0)
        return self._leave(key, -jnp.expm1(-rate * (t - s)), others, xt, x0)

    def arrival_rate(self, xt, x0, t):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t = as_times(t, "xt", xt)
        return ratio(sum(self._events(xt, x0, t).values()), self.prob(xt, x0, t), 0)

    def _events(self, xt, x0, t):
        """`_histories` whose event happens at time t."""
        found = self._histories(xt, x0, t, self.process.rates(t))
        return {(d, e): weight for (d, e), weight in found.items() if e}

    def _histories(self, xt, x0, s, found):
        """{(d, e): weight}: that x0 was on level d at time s, and the highest event after it, of level e, led to xt.
        found: the Table of every class for what comes after s."""
        p, table = self.partitions, self.process.table(x0, found)
        kept, *weights = self.process.weights(x0, s)
        before = [self.alpha(s) + kept, *weights]
        if self.mask_id is not None:  # which stays, were it ever clean
            table = [[c if e == 0 else jnp.where(x0 == self.mask_id, 0, c) for e, c in enumerate(row)] for row in table]
        reached = [xt == x0, *(self._event_prob([0, *unit], xt, x0) for unit in np.eye(self.levels))]
        return {
            (d, e): before[d] * table[d if d > p.drawing else 0][e] * reached[max(d, e)]
            for d in range(self.levels + 1)
            for e in range(self.levels + 1)
            if e == 0 or e > d or d <= p.drawing
        }

    def _leaving(self, xt, x0, histories):
        """The share of each history that begins at another state than xt."""

        def stays(d, e):
            base, level = (x0, d) if d <= e else (xt, e)
            if level == 0:
                return jnp.where(base == xt, 1, 0)
            return self._event_prob([0, *np.eye(self.levels)[level - 1]], xt, self._member(base))

        return {(d, e): weight * jnp.maximum(1 - stays(d, e), 0) for (d, e), weight in histories.items() if e}

    def _leave(self, key, chance, others, xt, x0):
        """int32: xt, and with this chance another state by the histories of `_leaving`: a draw of the lower of the two
        events, from x0 or x_t's block."""
        (numbers, rest), weights = coin(key, xt), [jnp.broadcast_to(weight, xt.shape) for weight in others.values()]
        leaves, (pair_key, token_key) = numbers < chance, jax.random.split(rest)
        index = pick(pair_key, weights, xt.shape)
        d, e = jnp.array(list(others), jnp.int32)[index].transpose(-1, *range(xt.ndim))
        wanted = leaves & (at_token(jnp.stack(weights, axis=-1), index) > 0)
        drawn = other_than(
            lambda key: self._event(key, jnp.where(d <= e, x0, xt), jnp.minimum(d, e)), token_key, xt, wanted
        )
        return jnp.where(leaves, drawn, xt).astype(jnp.int32)

    def leaving_bound(self, xt, t, s=None):
        return leaving.of_nested(self, xt, t, s)

    def certain(self, xt):
        """Tokens are, if noise consists of symbols alone."""
        return jnp.full(xt.shape, not self.partitions.drawing) & (self.state_levels[xt] == 0)

    # Cross-entropies of ancestors, for `objectives.closed_forms`.

    def ancestor_rates(self, xt: Array, t: Array) -> list[Array]:
        """[r_e a_e / a_d for e < D], shape of xt: the rates, back in time, at which the symbol xt of level d becomes
        one of level e, or the token for e = 0; 0 where xt is no higher."""
        (rates,), level = self.process.rates(t), self.state_levels[xt]
        weights = [self.alpha(t), *self.process.weights(xt, t)[1:]]
        nothing, above = jnp.zeros_like(level, t.dtype), self.levels + 1

        def back_to(e):
            found = (
                jnp.where(level == d, ratio(rates[e][d] * weights[e], weights[d], 0), 0) for d in range(e + 1, above)
            )
            return sum(found, start=nothing)

        return [back_to(e) for e in range(self.levels)]

    def same_ancestor(self, x0: Array, level: int) -> Array:
        """[..., V] bool: the clean tokens that have the same symbol of a level as x0; of level 0: x0 itself."""
        if level == 0:
            return self._is(x0)
        symbols = self.partitions.symbols[level - 1]
        return symbols[x0][..., None] == symbols
