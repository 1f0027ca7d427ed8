"""Draws from what the network says: at all positions, or at those alone whose draws are needed."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import put
from semdlm_jax.kernels.shapes import check_shape
from semdlm_jax.objectives import Posterior
from semdlm_jax.objectives.chunking import divisor, join_positions, split_positions
from semdlm_jax.samplers.categorical import draw, truncate
from semdlm_jax.samplers.controls import Controls
from semdlm_jax.samplers.methods import Method, Proposal

# Logits are computed for a few positions at a time, about so many numbers at once. On a CPU these fit the cache. On an
# accelerator more at once launch fewer programs; at most 1 / ACCELERATOR_SHARE of all logits are held, to save memory.
CPU_NUMBERS, ACCELERATOR_NUMBERS, ACCELERATOR_SHARE = 2**23, 2**26, 4
# Of chosen positions, each row gives at most 1 / CHOSEN_SHARE of its positions to a chunk: of 128 steps that write 128
# masks, most write no more at once.
CHOSEN_SHARE = 32


class Network(NamedTuple):
    """A trained network as two functions, so that logits can be computed for a few positions at a time.

    Args:
        features: (tokens [B, L], t [B], lengths [B]) -> features [B, L, ...]; where `reads_clean`, with a fourth
            argument [B, L] bool: the positions whose tokens are clean, because they were given or are finished.
        logits: features of some positions [B, C, ...] -> logits [B, C, V].
        reads_clean: whether `features` takes the fourth argument.
    """

    features: Callable[..., jax.Array]
    logits: Callable[[jax.Array], jax.Array]
    reads_clean: bool = False

    def read(self, tokens_BxL: jax.Array, t: jax.Array, seen: "Seen") -> jax.Array:
        """Features of tokens at the time t: a number, or [B] of the rows."""
        t_B = jnp.broadcast_to(t, tokens_BxL.shape[:1])
        return self.features(tokens_BxL, t_B, seen.ends_B, *([seen.clean_BxL] if self.reads_clean else []))


class Seen(NamedTuple):
    """What the network is told of the rows. ends_B: it sees the positions before. clean_BxL: bool, positions without
    noise."""

    ends_B: jax.Array
    clean_BxL: jax.Array


@dataclasses.dataclass(frozen=True)
class Proposer:
    """What turns tokens into proposals: the network, and how its logits are read."""

    network: Network
    kernel: KernelBase
    posterior: Posterior
    controls: Controls

    @property
    def can_choose(self) -> bool:
        """Whether `propose` may leave positions out: a window of the penalty slides over all of them."""
        return self.controls.penalty is None or self.controls.penalty.window is None

    def propose(
        self,
        key: jax.Array,
        method: Method,
        xt_BxL: jax.Array,
        t,
        s,
        seen: Seen,
        chosen_BxL: jax.Array | None = None,
        at_once: int | None = None,
    ) -> Proposal:
        """One network evaluation, and a draw at every position.

        t, s: numbers, or [B] of the rows.
        chosen_BxL: bool, draws at these positions alone; the others propose x_t with probability 0, or a draw unless
        `can_choose`. If there are none the network is not evaluated. None: all.
        at_once: how many chosen positions of a row have their logits computed at once; None: 1 / CHOSEN_SHARE of all.
        """

        def evaluate():
            features, carry = self.network.read(xt_BxL, t, seen), None
            if self.controls.penalty is not None:
                visible = jnp.arange(xt_BxL.shape[1]) < seen.ends_B[:, None]
                carry = self.controls.penalty.begin(xt_BxL, visible)
            chunk = self._chunk(key, method, t, s)
            if chosen_BxL is None or not self.can_choose:
                return _by_positions(chunk, carry, (features, xt_BxL), self.kernel.vocab_size)
            batch, length = xt_BxL.shape
            most = positions_at_once(batch, length, self.kernel.vocab_size, jax.default_backend())
            size = divisor(length, min(most, at_once or max(length // CHOSEN_SHARE, 1)))
            return _at_chosen(lambda *inputs: chunk(carry, inputs)[1], chosen_BxL, size, features, xt_BxL, nothing)

        nothing = Proposal(xt_BxL, *[jnp.zeros(xt_BxL.shape)] * 2)
        if chosen_BxL is None:
            return evaluate()
        return jax.lax.cond(jnp.any(chosen_BxL), evaluate, lambda: nothing)

    def _chunk(self, key, method, t, s):
        """A function of (what is carried, (features [B, C, ...], tokens [B, C], the first position, or another number
        that no other chunk has)) to (what is carried, Proposal [B, C])."""
        penalty, controls = self.controls.penalty, self.controls

        def propose_chunk(carry, inputs):
            features, xt, start = inputs
            logits = self.network.logits(features)
            shape = *xt.shape, self.kernel.vocab_size
            check_shape("what network.logits gives", logits, shape, f"[B, positions, V], here {list(shape)}")
            if penalty is not None:
                carry, logits = penalty.apply(carry, logits, xt, start)
            # The positions of a row share a time: shapes [1, 1] or [B, 1], so that what depends on it alone is computed
            # once.
            times = jnp.reshape(t, (-1, 1)), jnp.reshape(s, (-1, 1))
            logits = controls.sharpen(logits)
            if not method.clean_drafts:
                # Drafts are noisy tokens: only noise may produce forbidden ids, until the last step writes text.
                logits = controls.forbid(logits)
            weights = method.log_weights(self.kernel, self.posterior, logits, xt, *times)
            if method.clean_drafts:
                weights = controls.forbid(weights)
            else:
                weights = jnp.where(times[1][..., None] == 0, controls.forbid(weights), weights)
            kept = truncate(weights, controls.top_k, controls.top_p)
            drafts, total = draw(jax.random.fold_in(key, start), kept, greedy=controls.greedy(times[1][..., None]))
            if controls.truncates:
                total = jax.nn.logsumexp(weights, axis=-1)
            # A symbol of noise is no draft: its probability as text is 0.
            picked = jnp.take_along_axis(
                weights, jnp.stack([drafts, xt], axis=-1), axis=-1, mode="fill", fill_value=-jnp.inf
            )
            return carry, Proposal(drafts, *jnp.moveaxis(jnp.exp(picked - total[..., None]), -1, 0))

        return propose_chunk


def evaluations_of(chosen_BxL: jax.Array | None) -> jax.Array:
    """How often `Proposer.propose` evaluates the network when it is given these: int32, 0 or 1."""
    return jnp.ones((), jnp.int32) if chosen_BxL is None else jnp.any(chosen_BxL).astype(jnp.int32)


def positions_at_once(batch, length, vocab_size, backend):
    """How many of the L positions have their logits alive at once: a divisor of L."""
    numbers = CPU_NUMBERS
    if backend != "cpu":
        numbers = max(numbers, min(ACCELERATOR_NUMBERS, batch * length * vocab_size // ACCELERATOR_SHARE))
    most = max(numbers // (batch * vocab_size), 1)
    return divisor(length, most)


def _by_positions(function, carry, arrays, vocab_size):
    """function(carry, (*arrays [B, C, ...], first position)) -> (carry, pytree of [B, C, ...]), over all positions."""
    batch, length = arrays[-1].shape
    chunk = positions_at_once(batch, length, vocab_size, jax.default_backend())
    if chunk == length:
        return function(carry, (*arrays, 0))[1]
    chunks = [split_positions(x, chunk) for x in arrays]
    _, out = jax.lax.scan(function, carry, (*chunks, jnp.arange(0, length, chunk)))
    return jax.tree.map(join_positions, out)


def _at_chosen(function, chosen_BxL, size, features, xt_BxL, otherwise):
    """function(features [B, C, ...], tokens [B, C], a number) -> Proposal [B, C] at the chosen positions, and
    `otherwise` [B, L] at the others.

    Each row lines up its chosen positions, and C = size of each row make a chunk, as long as a row has some left: the
    rows of a batch that is split over devices stay where they are.
    """
    batch, length = chosen_BxL.shape
    count_B = jnp.sum(chosen_BxL, axis=1)
    order_BxL = jnp.argsort(~chosen_BxL, axis=1, stable=True).astype(jnp.int32)

    def at(values, places_BxC):
        index = places_BxC.reshape(batch, size, *[1] * (values.ndim - 2))
        return jnp.take_along_axis(values, index, axis=1)

    def chunk(state):
        first, found = state
        places_BxC = jax.lax.dynamic_slice_in_dim(order_BxL, first, size, axis=1)
        new = function(at(features, places_BxC), at(xt_BxL, places_BxC), first)
        left = first + jnp.arange(size) < count_B[:, None]
        ids = jnp.where(left, places_BxC, length)
        return first + size, jax.tree.map(lambda old, values: put(old, ids, values), found, new)

    most = jnp.max(count_B)
    return jax.lax.while_loop(lambda state: state[0] < most, chunk, (jnp.zeros((), jnp.int32), otherwise))[1]
