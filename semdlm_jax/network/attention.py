"""Self-attention with rotary positions, over a whole sequence or over a cache of the preceding tokens."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from semdlm_jax.errors import UserError, choose

# name -> what it is. Both compute the same up to the rounding of the compute dtype.
ATTENTION = {
    "auto": "cudnn where it can run, else xla",
    "xla": "products and softmax of their own: any device and dtype, scores of 256 queries in memory at a time",
    "cudnn": "cuDNN's fused attention: NVIDIA cards of compute capability 8.0 and later, bfloat16",
}
LARGEST_HEAD = 128  # of cuDNN's on every such card
# Queries at a time: on a CPU 256 cost at most 7 % of attention's gradient at 512 and 1,024 positions, fewer 13 %
# or more (benchmarks/results/train_step.md).
QUERIES = 256


class Cache(NamedTuple):
    """Keys (already rotated) and values of the positions decoded so far: [..., B, L, H, d] each, compute dtype."""

    keys: jax.Array
    values: jax.Array

    def write(self, new: "Cache", position: int | jax.Array) -> "Cache":
        """The cache with `new` [..., B, 1, H, d] at one of the L positions, which may be traced."""
        return jax.tree.map(lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, position, axis=-3), self, new)


def rotate(x_BxLxHxd: jax.Array, base: float = 10000.0, first: int | jax.Array = 0) -> jax.Array:
    """Rotary position embedding: rotates the pairs (x_i, x_{i + d/2}) at position l by the angle l / base^(2i/d).

    Args:
        x_BxLxHxd: queries or keys.
        base: of the wavelengths.
        first: the position of the first token of x; may be traced.

    Returns:
        [B, L, H, d] of the same dtype.
    """
    length, half = x_BxLxHxd.shape[1], x_BxLxHxd.shape[-1] // 2
    angles_Lxh = (first + jnp.arange(length))[:, None] * base ** (-jnp.arange(half) / half)
    # At least in float32, rounded once: a cosine of 8 bits would rotate and scale each position with an error.
    wide = jnp.promote_types(x_BxLxHxd.dtype, jnp.float32)
    cos, sin = (wave(angles_Lxh)[None, :, None].astype(wide) for wave in (jnp.cos, jnp.sin))
    a, b = x_BxLxHxd[..., :half], x_BxLxHxd[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BxLxHxd.dtype)


def choose_attention(name: str, dtype: str, head_width: int) -> str:
    """The implementation of attention for the devices of this process.

    Args:
        name: a name of ATTENTION.
        dtype: of matrix products.
        head_width: d.

    Returns:
        'xla' or 'cudnn'.

    Raises:
        UserError: the name is unknown, or 'cudnn' is asked for and cannot run.
    """
    choose("network.attention", name, ATTENTION)
    if name == "xla":
        return name
    missing = _missing_for_cudnn(dtype, head_width)
    if name == "cudnn" and missing:
        raise UserError(f"network.attention = 'cudnn' needs {missing}: set it to 'auto' or 'xla'")
    return "xla" if missing else "cudnn"


def _missing_for_cudnn(dtype, head_width):
    """What stands in the way of cuDNN's attention here, in words; '' when nothing does."""
    if dtype != "bfloat16":
        return f"network.dtype = 'bfloat16', not {dtype!r}"
    if head_width % 8 or head_width > LARGEST_HEAD:
        return f"heads whose width is a multiple of 8 up to {LARGEST_HEAD}, not {head_width}"
    # '9.0' of an NVIDIA card; other devices have none, or the name of an architecture.
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))
    if not capability.replace(".", "").isdigit() or float(capability) < 8.0:
        return "an NVIDIA card of compute capability 8.0 or later"
    return ""


def attend(
    q_BxLxHxd: jax.Array, k_BxLxHxd: jax.Array, v_BxLxHxd: jax.Array, lengths_B: Any, causal: bool, implementation: Any
) -> jax.Array:
    """Attention of all positions, [B, L, H, d].

    With 'xla', long rows are taken QUERIES at a time, and scores are computed again in the backward pass: the memory
    grows with L, not with its square.

    Args:
        q_BxLxHxd, k_BxLxHxd, v_BxLxHxd: queries, keys and values.
        lengths_B: keys from there on are hidden; None: none.
        causal: whether later keys are hidden.
        implementation: 'xla' or 'cudnn'.
    """
    length = q_BxLxHxd.shape[1]
    fused = functools.partial(jax.nn.dot_product_attention, key_value_seq_lengths=lengths_B)
    if implementation != "xla" or length <= QUERIES:
        return fused(q_BxLxHxd, k_BxLxHxd, v_BxLxHxd, is_causal=causal, implementation=implementation)
    parts = -(-length // QUERIES)
    size = -(-length // parts)
    # Positions that fill up the last part are computed in vain, at most one a part.
    filled = jnp.pad(q_BxLxHxd, ((0, 0), (0, parts * size - length), (0, 0), (0, 0)))

    # The gradients of keys and values are sums over the parts, and bfloat16 would round each of them.
    dtype, wide = q_BxLxHxd.dtype, jnp.promote_types(k_BxLxHxd.dtype, jnp.float32)
    k_BxLxHxd, v_BxLxHxd = k_BxLxHxd.astype(wide), v_BxLxHxd.astype(wide)

    @jax.checkpoint
    def part(indexed):
        first, q = indexed
        seen = (first + jnp.arange(size))[:, None] >= jnp.arange(length)
        mask = seen[None, None] if causal else None
        return fused(q, k_BxLxHxd.astype(dtype), v_BxLxHxd.astype(dtype), mask=mask, implementation="xla")

    queries = jnp.moveaxis(filled.reshape(len(filled), parts, size, *filled.shape[2:]), 1, 0)
    found = jnp.moveaxis(jax.lax.map(part, (size * jnp.arange(parts), queries)), 0, 1)
    return found.reshape(filled.shape)[:, :length]


def tokenwise(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a layer to every token of x [..., D], as one matrix [N, D].

    With more axes XLA computes the weight gradient on a CPU through an elementwise transpose, which takes a third of
    the time of a step.
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class SelfAttention(nn.Module):
    """Self-attention, [B, L, D] -> ([B, L, D], None).

    With a cache [B, L, H, d] it reads one token [B, 1, D] at `position`, attends to this token and the cached ones
    before it, and returns ([B, 1, D], Cache of the token's own key and value [B, 1, H, d]). The caller writes these
    into the cache: the caches of all layers are one array, which is updated in place instead of copied for each layer.

    `lengths_B` hides the keys from that position on; None hides none.

    Attributes:
        heads: H.
        causal: whether later keys are hidden.
        attention: 'xla' or 'cudnn'.
        dtype: of matrix products.
    """

    heads: int
    causal: bool
    attention: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x_BxLxD: jax.Array,
        lengths_B: jax.Array | None,
        cache: Cache | None = None,
        position: int | jax.Array | None = None,
    ) -> tuple[jax.Array, Cache | None]:
        batch, length, width = x_BxLxD.shape
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        qkv = nn.Dense(3 * width, use_bias=False, dtype=self.dtype, kernel_init=init, name="qkv")
        # Heads lead, so that a tensor-sharded kernel keeps each head's q, k and v on one device.
        q, k, v = jnp.split(tokenwise(qkv, x_BxLxD).reshape(batch, length, self.heads, -1), 3, axis=-1)
        first, new = 0 if position is None else position, None
        q, k = rotate(q, first=first), rotate(k, first=first)
        if cache is None:
            y = attend(q, k, v, lengths_B, self.causal, self.attention)
        else:  # one query: nothing to fuse
            new = Cache(k, v)
            k, v = cache.write(new, first)
            y = attend(q, k, v, jnp.full(batch, first + 1, jnp.int32), False, "xla")
        # Zero: every layer starts as the identity, as adaLN-Zero's gates make it.
        out = nn.Dense(width, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")
        return tokenwise(out, y.reshape(batch, length, width)), new
