"""The forward process: one family of kernels with three branches.

    q_t(j | i) = alpha_t 1[j = i]  +  sigma_t w_r(t) 1[j is neighbour r of i]  +  g_t(i) nu(j)

with w_r(t) = clip(k_t - r, 0, 1) / k_t and g_t(i) = beta_t + sigma_t max(k_t - n_i, 0) / k_t: the weight that a row of
n_i < k_t neighbours cannot place goes to the global branch (paper, E.1). A pair (i, j) enters only through its *rank*:
-1 where j = i, r where j is neighbour r of i, K elsewhere. Two elementwise functions therefore say everything:

    q_t(j | i) = excess(rank, t) + floor(i, t) nu(j)

All methods are elementwise in tokens and times: a time has a shape that broadcasts against the tokens (t[:, None] for
tokens [B, L]). Nothing here costs more than O(K) a token, except `push_forward` (V K) and `log_likelihoods` (V).
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.neighbours import NeighbourTable
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.schedules import Schedule

# Stands for log 0: finite, so that a masked entry has a zero gradient instead of a NaN.
LOG_ZERO = -1e30


def derivative(function, t):
    """(function(t), its elementwise derivative at t)."""
    return jax.jvp(function, (t,), (jnp.ones_like(t),))


def safe_log(x):
    """log x with LOG_ZERO at 0, and a zero gradient there."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), LOG_ZERO)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kernel:
    """A member of the family: a schedule, a neighbour table and a global prior; a pytree of device arrays.

    mask_id: a token that only noise produces (absorbing kernels), which no clean text contains; None otherwise.
    """

    table: NeighbourTable
    global_prior: GlobalPrior
    schedule: Schedule = dataclasses.field(metadata={"static": True})
    mask_id: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def vocab_size(self):
        return self.table.vocab_size

    def surplus(self, x0, t):
        """The semantic weight that the row of x0 is too short to place; shape of x0 and t broadcast."""
        w = self.schedule.weights(t)
        return w.sigma * jnp.maximum(w.growth - (self.table.counts[x0] - 1), 0) / w.k

    def floor(self, x0, t):
        """g_t(x0), the weight of the global branch; shape of x0 and t broadcast."""
        return self.schedule.weights(t).beta + self.surplus(x0, t)

    def excess(self, rank, t):
        """q_t(j | i) above the global branch, for a pair of this rank: -1 same, r neighbour, K neither."""
        w = self.schedule.weights(t)
        semantic = w.sigma * jnp.clip(w.growth - (rank - 1), 0, 1) / w.k
        return jnp.where(rank < 0, w.alpha, jnp.where(rank < self.table.k_max, semantic, 0))

    def rank(self, y, x0):
        """The rank of y in the row of x0: int32, -1 for x0 itself, K when y is no neighbour."""
        k_max = self.table.k_max
        hit = self.table.ids[x0] == y[..., None]
        place = jnp.min(jnp.where(hit, jnp.arange(k_max), k_max), axis=-1, initial=k_max)
        return jnp.where(y == x0, -1, place)

    def prob(self, xt, x0, t):
        """q_t(xt | x0)."""
        return self.excess(self.rank(xt, x0), t) + self.floor(x0, t) * self.global_prior.probs[xt]

    def log_prob(self, xt, x0, t):
        """log q_t(xt | x0); LOG_ZERO where impossible."""
        return safe_log(self.prob(xt, x0, t))

    def corrupt(self, key, x0, t):
        """x_t ~ q_t(. | x0), int32 of x0's shape."""
        branch_key, rank_key, jump_key = jax.random.split(key, 3)
        w = self.schedule.weights(t)
        counts = self.table.counts[x0]
        reach = jnp.minimum(counts, w.k)
        # The noise branches take the low end of the unit interval, where float32 uniforms resolve small probabilities.
        u = jax.random.uniform(branch_key, x0.shape, w.alpha.dtype)
        jumps = u < self.floor(x0, t)
        moves = u < w.beta + w.sigma
        drifted = x0
        if self.table.k_max:
            # Rank r holds the unit interval [r, r + 1) of [0, k_t), cut off at the row's length.
            position = jax.random.uniform(rank_key, x0.shape, w.alpha.dtype) * reach
            rank = jnp.clip(position.astype(jnp.int32), 0, jnp.maximum(counts - 1, 0))
            drifted = jnp.where(counts > 0, self.table.ids[x0, rank], x0)
        noise = jnp.where(jumps, self.global_prior.sample(jump_key, x0.shape), drifted)
        return jnp.where(moves, noise, x0)

    def sample_prior(self, key, shape):
        """x_1: int32 tokens from the global prior."""
        return self.global_prior.sample(key, shape)

    def push_excess(self, w, t):
        """y -> sum_k w(k) excess(rank(y; k), t): push_forward without its global branch. w: [..., V], t: [...]."""
        t = jnp.broadcast_to(t, w.shape[:-1]).reshape(-1)
        # V leads, so that every rank is one scatter of contiguous rows.
        w_VxN = w.reshape(-1, self.vocab_size).T

        def add_rank(out_VxN, rank_and_ids):
            rank, ids_V = rank_and_ids
            return out_VxN.at[ids_V].add(w_VxN * self.excess(rank, t), mode="drop"), None

        out_VxN = w_VxN * self.excess(jnp.array(-1), t)
        out_VxN, _ = jax.lax.scan(add_rank, out_VxN, (jnp.arange(self.table.k_max), self.table.ids.T))
        return out_VxN.T.reshape(w.shape)

    def push_forward(self, w, t):
        """(w K_t)(y) = sum_k w(k) q_t(y | k). w: [..., V] over clean tokens, t: [...]; returns [..., V]."""
        weight = jnp.sum(w * self.floors(t), axis=-1, keepdims=True)
        return self.push_excess(w, t) + weight * self.global_prior.probs

    def floors(self, t):
        """g_t(k) of every token k: [..., V] for t [...]."""
        return self.floor(jnp.arange(self.vocab_size), t[..., None])

    def row(self, x0, t):
        """The tokens above the global floor in the row of x0, x0 itself first.

        Returns (ids, excess), both [..., K + 1]; missing entries have the id V and excess 0.
        """
        ids = jnp.concatenate([x0[..., None], self.table.ids[x0]], axis=-1)
        ranks = jnp.arange(-1, self.table.k_max)
        excess = self.excess(ranks, t[..., None])
        return ids, jnp.where(ids < self.vocab_size, excess, 0)

    def column(self, xt):
        """The clean tokens from which xt is more likely than the global floor: itself, and the rows that hold it.

        Returns (ids, ranks), both [..., D + 1] int32; missing entries have the id V and the rank K.
        """
        ids = jnp.concatenate([xt[..., None], self.table.in_ids[xt]], axis=-1)
        ranks = jnp.concatenate([jnp.full_like(xt[..., None], -1), self.table.in_ranks[xt]], axis=-1)
        return ids, ranks

    def log_likelihoods(self, xt, t):
        """log q_t(xt | k) of every clean token k: [..., V] (Eq. 20's forward likelihood)."""
        return self.add_log_likelihoods(jnp.zeros(self.vocab_size, t.dtype), xt, t)

    def add_log_likelihoods(self, logits, xt, t):
        """logits + log_likelihoods(xt, t), without forming the latter: dense in t, and sparse where xt is near."""
        ids, ranks = self.column(xt)
        nu = self.global_prior.probs[xt][..., None]
        near = safe_log(self.excess(ranks, t[..., None]) + self.floor(ids, t[..., None]) * nu)
        near = near + take(logits, jnp.minimum(ids, self.vocab_size - 1))
        return put(logits + (safe_log(self.floors(t)) + safe_log(nu)), ids, near)


def take(values, ids):
    """values [..., V] at ids [..., D]: the leading axes broadcast, without being broadcast in memory."""
    first = ids.ndim - values.ndim
    axes = [(first + axis, size) for axis, size in enumerate(values.shape[:-1])]
    places = [jnp.arange(size).reshape([size if axis == i else 1 for i in range(ids.ndim)]) for axis, size in axes]
    return values[(*places, ids)]


def put(base, ids, values):
    """base [..., V] with values [..., D] written at ids [..., D]; the id V is dropped."""
    base = jnp.broadcast_to(base, ids.shape[:-1] + base.shape[-1:])
    return jnp.put_along_axis(base, ids, values.astype(base.dtype), axis=-1, inplace=False, mode="drop")
