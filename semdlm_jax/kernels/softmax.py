"""The semantic kernel without a neighbor table: Eq. 8, a softmax over the similarities of all tokens.

    m_t(j | i) = (1 - alpha_t) exp(b_t sim(i, j)) / Z_b(i),
    b_t = 1 / tau_t = alpha / (tau_scale (1 - alpha) + tau_min alpha)

The temperature tau_t rises from tau_min at t = 0, where noise is the token itself or a near one, to infinity at t = 1,
where it is uniform. No V x V array is built: rows and columns come from the embeddings [V, E], sums over pairs go
through blocks of the vocabulary, and log Z is tabulated over b at the start, together with its exact slope, and
interpolated by cubics (`tests/kernels` bounds their error by 1e-6).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import derivative, ratio
from semdlm_jax.kernels.renewal import KeepOrRenew
from semdlm_jax.kernels.schedules import Schedule
from semdlm_jax.options import number

TAU_MIN = number(0.05, "[0.001, 100]", "temperature of the softmax kernel at t = 0")
TAU_SCALE = number(0.1, "[1e-6, 1000000]", "how fast it rises: tau_t = tau_min + tau_scale (1 - alpha) / alpha")
NODE_WIDTH = 1 / 3  # of b; similarities lie in [-1, 1], so that log Z is smooth on this scale
BLOCK = 128  # tokens whose similarities to all others are alive at a time


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["embeddings", "nearest", "log_sums", "slopes"],
    meta_fields=["schedule", "tau_min", "tau_scale"],
)
@dataclasses.dataclass(frozen=True)
class SoftmaxKernel(KeepOrRenew):
    """embeddings: [V, E], rows of unit length or zero. nearest: [V], the largest similarity of each row, its own
    included. log_sums, slopes: [N, V], log Z_b(i) - b nearest(i) at N even b from 0 to 1 / tau_min, and its slope."""

    embeddings: jax.Array
    nearest: jax.Array
    log_sums: jax.Array
    slopes: jax.Array
    schedule: Schedule
    tau_min: float
    tau_scale: float

    mask_id = None

    @classmethod
    def build(cls, embeddings, schedule, tau_min, tau_scale):
        """The kernel of embeddings [V, E]. UserError for temperatures out of their ranges."""
        TAU_MIN.check("tau_min", tau_min)
        TAU_SCALE.check("tau_scale", tau_scale)
        embeddings = jnp.asarray(embeddings, jnp.result_type(float))
        nearest, log_sums, slopes = _tabulate(embeddings, 1 / tau_min, nodes=1 + math.ceil(1 / tau_min / NODE_WIDTH))
        return cls(embeddings, nearest, log_sums, slopes, schedule, tau_min, tau_scale)

    @property
    def vocab_size(self):
        return self.embeddings.shape[0]

    def alpha(self, t):
        return self.schedule.alpha(t)

    def noise(self, t):
        return self.schedule.noise(t)

    def _sharpness(self, t):
        """b_t."""
        alpha = self.alpha(t)
        return alpha / (self.tau_scale * self.noise(t) + self.tau_min * alpha)

    def _log_sum(self, x0, t):
        """log Z_b(x0) - b nearest(x0), by the cubic between two nodes with their exact slopes; for x0 None, of every
        token."""
        last = self.log_sums.shape[0] - 1
        width = 1 / self.tau_min / last
        position = self._sharpness(t) / width
        node = jnp.clip(jnp.floor(position), 0, last - 1).astype(jnp.int32)
        u = position - node

        def at(table, node):
            return table[node] if x0 is None else table[node, x0]

        if x0 is None:
            u = u[..., None]
        rise = at(self.log_sums, node + 1) - at(self.log_sums, node)
        left, right = width * at(self.slopes, node), width * at(self.slopes, node + 1)
        bend = (1 - u) * (left - rise) - u * (right - rise)
        return at(self.log_sums, node) + u * rise + u * (1 - u) * bend

    def _height(self, x0, t):
        """m_t(y | x0) at the token y of the largest similarity; for x0 None, of every token x0."""
        noise = self.noise(t) if x0 is not None else self.noise(t)[..., None]
        return noise * jnp.exp(-self._log_sum(x0, t))

    def _fall(self, similarity, nearest, t):
        """m_t at a token of this similarity, over m_t at the largest similarity."""
        return jnp.exp(self._sharpness(t) * (similarity - nearest))

    def noise_prob(self, y, x0, t):
        similarity = jnp.sum(self.embeddings[y] * self.embeddings[x0], axis=-1)
        return self._height(x0, t) * self._fall(similarity, self.nearest[x0], t)

    def noise_probs(self, x0, t):
        similarity = self.embeddings[x0] @ self.embeddings.T
        return self._height(x0, t)[..., None] * self._fall(similarity, self.nearest[x0][..., None], t[..., None])

    def noise_likelihoods(self, xt, t):
        similarity = self.embeddings[xt] @ self.embeddings.T
        return self._height(None, t) * self._fall(similarity, self.nearest, t[..., None])

    def sample_noise(self, key, x0, t):
        return self._sample(key, x0, t, self.vocab_size)

    def sample_other_noise(self, key, x0, xt, t, wanted):
        return self._sample(key, x0, t, xt)

    def _sample(self, key, x0, t, without):
        """Reservoir sampling over blocks of the vocabulary: the token drawn so far is replaced by one of the next block
        with that block's share of the weight seen so far. without: a token that is not drawn; V for none."""
        block = min(BLOCK, self.vocab_size)
        here, nearest = self.embeddings[x0], self.nearest[x0][..., None]
        t, without = jnp.broadcast_to(t, x0.shape)[..., None], jnp.asarray(without)[..., None]

        def scan_body(carry, inputs):
            drawn, seen = carry
            key, tokens, rows = inputs
            block_key, token_key = jax.random.split(key)
            weight = self._fall(here @ rows.T, nearest, t) * ((tokens < self.vocab_size) & (tokens != without))
            sums = jnp.cumsum(weight, axis=-1)
            total = sums[..., -1]
            coin = jax.random.uniform(block_key, x0.shape, weight.dtype)
            target = jax.random.uniform(token_key, x0.shape, weight.dtype) * total
            index = jnp.minimum(jnp.sum(sums <= target[..., None], axis=-1), block - 1)
            takes = coin * (seen + total) < total
            return (jnp.where(takes, tokens[index], drawn), seen + total), None

        tokens, rows = _blocks(self.embeddings, block)
        start = (x0, jnp.zeros(x0.shape, self.embeddings.dtype))
        (drawn, _), _ = jax.lax.scan(scan_body, start, (jax.random.split(key, len(tokens)), tokens, rows))
        return drawn.astype(jnp.int32)

    def noise_matvec(self, w, t):
        # Positions that share a time share a block of the kernel: w as [G, n, V] with one time for each of G groups.
        shared = t.ndim and t.shape[-1] == 1 and w.ndim > 1
        leading = w.shape[:-2] if shared else w.shape[:-1]
        times = jnp.broadcast_to(t[..., 0] if shared else t, leading).reshape(-1)
        w_GxnxV = w.reshape(times.shape[0], -1, self.vocab_size)
        block = min(BLOCK, self.vocab_size)
        tokens, rows = _blocks(self.embeddings, block)

        def columns(rows):
            similarity = self.embeddings @ rows.T

            def group(w_nxV, t):
                height = self._height(None, t)[:, None]
                return w_nxV @ (height * self._fall(similarity, self.nearest[:, None], t))

            return jax.lax.map(lambda pair: group(*pair), (w_GxnxV, times))

        out = jnp.moveaxis(jax.lax.map(columns, rows), 0, -2)
        return out.reshape(*out.shape[:2], -1)[..., : self.vocab_size].reshape(w.shape)

    def noise_kept(self, x0, t, s):
        # As b falls from s to t, the nearest token loses most. All noise counts as jumps, as it is uniform at t = 1.
        lost = ratio(self._height(x0, t), self._height(x0, s))
        return jnp.clip(jnp.minimum(ratio(self.alpha(t), self.alpha(s)), lost), 0, 1)

    def noise_kept_rate(self, t):
        alpha, alpha_dot = derivative(self.alpha, t)
        height, height_dot = derivative(lambda t: self._height(None, t), t)
        return jnp.maximum(-ratio(alpha_dot, alpha)[..., None], -ratio(height_dot, height))

    def sample_prior(self, key, shape):
        return jax.random.randint(key, shape, 0, self.vocab_size, jnp.int32)

    def prior_probs(self, t):
        return jnp.full(self.vocab_size, 1 / self.vocab_size)


def _blocks(embeddings, block):
    """(tokens [N, block], their rows [N, block, E]); past the vocabulary the ids are V and above, the rows zero."""
    vocab_size, width = embeddings.shape
    count = -(-vocab_size // block)
    rows = jnp.zeros((count * block, width), embeddings.dtype).at[:vocab_size].set(embeddings)
    return jnp.arange(count * block).reshape(count, block), rows.reshape(count, block, width)


@functools.partial(jax.jit, static_argnames="nodes")
def _tabulate(embeddings, largest, nodes):
    """(nearest [V], log_sums [nodes, V], slopes [nodes, V]) in blocks of rows."""
    vocab_size = embeddings.shape[0]
    sharpness = jnp.linspace(0.0, largest, nodes)

    def rows(rows):
        similarity = rows @ embeddings.T
        nearest = jnp.max(similarity, axis=-1)
        below = similarity - nearest[:, None]

        def node(b):
            weight = jnp.exp(b * below)
            total = jnp.sum(weight, axis=-1)
            return jnp.log(total), jnp.sum(weight * below, axis=-1) / total

        return nearest, *jax.lax.map(node, sharpness)

    _, blocks = _blocks(embeddings, min(BLOCK, vocab_size))
    nearest, log_sums, slopes = jax.lax.map(rows, blocks)

    def join(x):
        return jnp.moveaxis(x, 1, 0).reshape(nodes, -1)[:, :vocab_size]

    return nearest.reshape(-1)[:vocab_size], join(log_sums), join(slopes)
