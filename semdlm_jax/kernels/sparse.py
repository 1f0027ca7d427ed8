"""The forward process: one family of kernels with three branches.

    q_t(j | i) = alpha_t 1[j = i]  +  sigma_t w_r(t) 1[j is neighbor r of i]  +  g_t(i) nu_t(j)

with w_r(t) = clip(k_t - r, 0, 1) / k_t and g_t(i) = beta_t + sigma_t max(k_t - n_i, 0) / k_t: the weight that a row of
n_i < k_t neighbors cannot place goes to the global branch (paper, E.1). nu_t is the kernel's prior nu, or a mixture of
nu and the mask (GIDD). A pair (i, j) enters only through its *rank*: -1 where j = i, r where j is neighbor r of i, K
elsewhere. Two elementwise functions therefore say everything:

    q_t(j | i) = excess(rank, t) + global_weight(i, t) nu_t(j)

All methods are elementwise in tokens and times: a time has a shape that broadcasts against the tokens (t[:, None] for
tokens [B, L]). Nothing here costs more than O(K) a token, except `noise_matvec` (V K) and what returns [..., V].

`kernels.protocol` says what the rest of the package asks of a kernel; `kernels.softmax` is one outside this family.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import leaving, split
from semdlm_jax.kernels.branches import Branches
from semdlm_jax.kernels.neighbors import NeighborTable
from semdlm_jax.kernels.numerics import LOG_ZERO, add_at, at_least, inner, put, ramp, ramp_to_one, safe_log, solve, take
from semdlm_jax.kernels.prior import GlobalPrior
from semdlm_jax.kernels.reverse import Coupled, other_than
from semdlm_jax.kernels.shapes import as_times


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kernel(Coupled):
    """A kernel of three branches; a pytree of device arrays.

    Args:
        table: the neighbors.
        global_prior: nu, what a jump draws from.
        branches: the branch weights over time.
        mask_id: a token that only noise produces (absorbing kernels) and no clean text contains; None otherwise.
        start: the distribution that x_1 is drawn from and scored against; None: nu.
    """

    table: NeighborTable
    global_prior: GlobalPrior
    branches: Branches = dataclasses.field(metadata={"static": True})
    mask_id: int | None = dataclasses.field(default=None, metadata={"static": True})
    start: GlobalPrior | None = None

    @property
    def vocab_size(self):
        return self.table.vocab_size

    @property
    def jumps_only(self):
        return self.branches.jumps_only

    @property
    def only_masks(self):
        return self.jumps_only and self.mask_id is not None and self.global_prior.alone == self.mask_id

    @property
    def closed_form(self):
        if self.jumps_only:
            return "masks" if self.only_masks else "uniform" if self.global_prior.flat else None
        return self.branches.closed_form

    @property
    def kept_weight(self):
        return self.branches.kept_weight(self.vocab_size)

    def alpha(self, t):
        return self.branches.weights(t).alpha

    def alpha_dot(self, t):
        return self.branches.alpha_dot(t)

    def noise(self, t):
        w = self.branches.weights(t)
        return w.beta + w.sigma

    def global_prob(self, y, t):
        """nu_t(y); shape of y and t broadcast."""
        probs, w = self.global_prior.probs[y], self.branches.weights(t)
        if w.prior_share is None or w.mask_share is None:
            return probs
        return w.prior_share * probs + jnp.where(y == self.mask_id, w.mask_share, 0)

    def global_probs(self, t):
        """nu_t of every token: [..., V] for t [...], or [V] where it does not depend on t."""
        w = self.branches.weights(t)
        return (
            self.global_prior.probs
            if w.prior_share is None
            else self.global_prob(jnp.arange(self.vocab_size), t[..., None])
        )

    def overflow_weight(self, count, t):
        """The semantic weight that a row of `count` neighbors cannot place; shape of count and t broadcast."""
        w = self.branches.weights(t)
        return w.sigma * ramp(w.k_minus_1 - (count - 1)) / w.k

    def near_weight(self, count, t):
        """The semantic weight that a row of `count` neighbors places; shape of count and t broadcast."""
        w = self.branches.weights(t)
        return w.sigma * jnp.minimum(count, w.k) / w.k

    def global_weight(self, x0, t):
        """g_t(x0), the weight of the global branch; shape of x0 and t broadcast."""
        return self.branches.weights(t).beta + self.overflow_weight(self.table.counts[x0], t)

    def global_weights(self, t):
        """g_t(k) of every token k: [..., V] for t [...]."""
        return self.global_weight(jnp.arange(self.vocab_size), t[..., None])

    def near(self, rank, t):
        """sigma_t w_r(t), the semantic branch of a pair of this rank; 0 unless the rank is a neighbor's."""
        w = self.branches.weights(t)
        semantic = w.sigma * ramp_to_one(w.k_minus_1 - (rank - 1)) / w.k
        return jnp.where((rank >= 0) & (rank < self.table.k_max), semantic, 0)

    def rank(self, y, x0):
        """The rank of y in the row of x0: int32, -1 for x0 itself, K when y is no neighbor."""
        k_max = self.table.k_max
        hit = self.table.ids[x0] == y[..., None]
        found = jnp.min(jnp.where(hit, jnp.arange(k_max), k_max), axis=-1, initial=k_max)
        return jnp.where(y == x0, -1, found)

    def noise_prob(self, y, x0, t):
        return self.near(self.rank(y, x0), t) + self.global_weight(x0, t) * self.global_prob(y, t)

    def sample_noise(self, key, x0, t):
        jump_key, rank_key, global_key = jax.random.split(key, 3)
        w = self.branches.weights(t)
        # Jumps, the rarer at small t, take the low end of the unit interval.
        u = jax.random.uniform(jump_key, x0.shape, w.alpha.dtype)
        jumps = u * (w.beta + w.sigma) < self.global_weight(x0, t)
        jumped = self.sample_global(global_key, x0.shape, t)
        return jnp.where(jumps, jumped, self.sample_near(rank_key, x0, t)) if self.table.k_max else jumped

    def sample_near(self, key, x0, t):
        """int32 neighbors of x0 from the semantic branch; x0 where its row is empty."""
        if not self.table.k_max:
            return x0
        w, counts = self.branches.weights(t), self.table.counts[x0]
        # Rank r holds the unit interval [r, r + 1) of [0, k_t), cut off at the row's length.
        reach = jnp.minimum(counts, w.k)
        position = jax.random.uniform(key, x0.shape, w.alpha.dtype) * reach
        rank = jnp.clip(position.astype(jnp.int32), 0, jnp.maximum(counts - 1, 0))
        return jnp.where(counts > 0, self.table.ids[x0, rank], x0)

    def sample_global(self, key, shape, t):
        """int32 tokens of this shape from nu_t."""
        prior_key, mask_key = jax.random.split(key)
        drawn, w = self.global_prior.sample(prior_key, shape), self.branches.weights(t)
        if w.prior_share is None:
            return drawn
        assert self.mask_id is not None  # a mixture's other part
        # The rarer of the two takes the low end, where float32 uniforms resolve small probabilities.
        from_prior = jax.random.uniform(mask_key, shape, w.prior_share.dtype) < w.prior_share
        return jnp.where(from_prior, drawn, self.mask_id)

    def other_global_prob(self, xt, t):
        """The chance under nu_t of a token other than xt; shape of xt and t broadcast."""
        other, w = 1 - self.global_prior.probs[xt], self.branches.weights(t)
        if w.prior_share is None or w.mask_share is None:
            return other
        return w.prior_share * other + jnp.where(xt == self.mask_id, 0, w.mask_share)

    def sample_other_global(self, key, xt, t, wanted):
        """int32 tokens of xt's shape from nu_t given that they are not xt, where that is wanted and possible."""
        prior_key, mask_key = jax.random.split(key)
        drawn = other_than(lambda key: self.global_prior.sample(key, xt.shape), prior_key, xt, wanted)
        w = self.branches.weights(t)
        if w.prior_share is None:
            return drawn
        assert self.mask_id is not None  # a mixture's other part
        from_prior = w.prior_share * (1 - self.global_prior.probs[xt])
        u = jax.random.uniform(mask_key, xt.shape, from_prior.dtype) * self.other_global_prob(xt, t)
        return jnp.where(u < from_prior, drawn, self.mask_id)

    def sample_prior(self, key, shape):
        return self.start.sample(key, shape) if self.start else self.sample_global(key, shape, jnp.ones(shape))

    def prior_probs(self, t):
        return self.start.probs if self.start else self.global_probs(t)

    def noise_matvec(self, w, t):
        weight = jnp.sum(w * self.global_weights(t), axis=-1, keepdims=True)
        return self.near_matvec(w, t) + weight * self.global_probs(t)

    def noise_matvec_at(self, w, y, t):
        weight = inner(w, self.global_weights(t))[..., None]
        return self.near_matvec_at(w, y, t) + weight * self.global_prob(y, t[..., None])

    def near_matvec_at(self, w, y, t):
        """`near_matvec` at the tokens y [..., S] alone: [..., S]."""
        ids, ranks = self.in_neighbors(y)
        near = take(w[..., None, :], jnp.minimum(ids, self.vocab_size - 1)) * self.near(ranks, t[..., None, None])
        return jnp.sum(near, axis=-1)

    def near_matvec(self, w, t):
        """y -> sum_k w(k) near(rank(y; k), t). w: [..., V], t: [...]."""
        if not self.table.k_max:
            return jnp.zeros_like(w)
        t = jnp.broadcast_to(t, w.shape[:-1]).reshape(-1)
        # V leads, so that every rank is one scatter of contiguous rows.
        w_VxN = w.reshape(-1, self.vocab_size).T

        def add_rank(out_VxN, rank_and_ids):
            rank, ids_V = rank_and_ids
            return out_VxN.at[ids_V].add(w_VxN * self.near(rank, t), mode="drop"), None

        ranks = jnp.arange(self.table.k_max)
        out_VxN, _ = jax.lax.scan(add_rank, jnp.zeros_like(w_VxN), (ranks, self.table.ids.T))
        return out_VxN.T.reshape(w.shape)

    def noise_probs(self, x0, t):
        ids, near = self.table.ids[x0], self.near(jnp.arange(self.table.k_max), t[..., None])
        far = self.global_weight(x0, t)[..., None] * self.global_probs(t)
        return add_at(far, ids, jnp.where(ids < self.table.missing, near, 0))

    def noise_likelihoods(self, xt, t):
        ids, ranks = self.in_neighbors(xt)
        far = self.global_weights(t) * self.global_prob(xt, t)[..., None]
        return add_at(far, ids, self.near(ranks, t[..., None]))

    def in_neighbors(self, xt):
        """The rows that hold xt: (ids, ranks), both [..., D] int32; missing entries have the id V and the rank K."""
        return self.table.in_ids[xt], self.table.in_ranks[xt]

    def _excess_over_global(self, xt, t):
        """(ids, excess), both [..., D + 1]: the clean tokens from which xt can come without a jump, xt itself first,
        and the probability of that. Missing entries have the id V and no excess."""
        t = as_times(t, "xt", xt, more=True)
        ids, ranks = self.in_neighbors(xt)
        ids = jnp.concatenate([xt[..., None], ids], axis=-1)
        ranks = jnp.concatenate([jnp.full_like(xt[..., None], -1), ranks], axis=-1)
        return ids, jnp.where(ranks < 0, self.alpha(t)[..., None], self.near(ranks, t[..., None]))

    def add_log_likelihoods(self, logits, xt, t):
        """Dense in t, and sparse where xt is near: log_likelihoods itself is never formed."""
        ids, excess = self._excess_over_global(xt, t)
        nu = self.global_prob(xt, t)[..., None]
        near = safe_log(excess + self.global_weight(ids, t[..., None]) * nu)
        near = near + take(logits, jnp.minimum(ids, self.vocab_size - 1))
        return put(logits + (safe_log(self.global_weights(t)) + safe_log(nu)), ids, near)

    def log_evidence(self, logits, xt, t):
        """As two log-sum-exps: one dense for the jumps, one over the in-neighbors of xt alone."""
        ids, excess = self._excess_over_global(xt, t)
        near = jnp.take_along_axis(logits, jnp.minimum(ids, self.vocab_size - 1), axis=-1)
        near = jax.nn.logsumexp(near + safe_log(excess), axis=-1)
        far = jax.nn.logsumexp(logits + safe_log(self.global_weights(t)), axis=-1) + safe_log(self.global_prob(xt, t))
        return jnp.logaddexp(near, at_least(far, LOG_ZERO))

    def origins(self, xt, x0, t, s=None):
        return split.origins(self, xt, x0, t, s)

    def all_origins(self, xt, t, s=None):
        return split.all_origins(self, xt, t, s)

    def leaving_bound(self, xt, t, s=None):
        return leaving.of_sparse(self, xt, t, s)

    def kinks(self):
        """Where k_t passes a whole number: just above, a token of the rank that has come within reach has just arrived,
        and must leave soon."""
        if self.jumps_only or not self.table.k_max:
            return jnp.zeros(0)
        return solve(lambda t: self.branches.weights(t).k_minus_1, jnp.arange(1.0, self.table.k_max))

    def noise_parts(self, t):
        return split.Near(self, jnp.minimum(t, split.LAST_NEAR)), split.Far(self, t)
