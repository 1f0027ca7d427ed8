"""A layer of the backbone, and the embedding of time. Shape suffixes as in backbone.py."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from semdlm_jax.network.attention import SelfAttention, tokenwise
from semdlm_jax.network.dropout import dropped, seeds_of
from semdlm_jax.network.sharding import by_rows


def dense(features, dtype, name, *, zero=False, bias=False):
    init = nn.initializers.zeros if zero else nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=init, name=name)


def normalize(x):
    """Layer normalization without parameters (adaLN supplies them), in float32."""
    x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    return x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(3,))
def _gated(y_BxLxD, gate_BxD, dropout_seeds, dropout):
    """y times (gate + 1), in float32, because the gradient of the gate is a sum over positions; and its dropout.

    Rematerialized, so that the backward pass stores y in its own dtype, no float32 copy, and no mask of dropout.
    """
    gated_BxLxD = y_BxLxD * (gate_BxD + 1)[:, None]
    # Before it is rounded: in bfloat16 1 - 0.1 is 0.8984, and all that stays would be 0.17 % too large.
    kept_BxLxD = gated_BxLxD if dropout_seeds is None else dropped(gated_BxLxD, dropout_seeds, dropout)
    return kept_BxLxD.astype(y_BxLxD.dtype)


def modulate(x, shift, scale, dtype):
    return (normalize(x) * (1 + scale[:, None]) + shift[:, None]).astype(dtype)


class MLP(nn.Module):
    expansion: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BxLxD):
        width = x_BxLxD.shape[-1]
        hidden = tokenwise(dense(self.expansion * width, self.dtype, "up"), x_BxLxD)
        return tokenwise(dense(width, self.dtype, "down", zero=True), nn.gelu(hidden, approximate=True))


class Block(nn.Module):
    """One layer: attention and MLP, each shifted, scaled and gated by the condition; cache as in SelfAttention."""

    heads: int
    expansion: int
    causal: bool
    dropout: float
    attention: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BxLxD, condition_BxC, lengths_B, deterministic, cache=None, position=None):
        width = x_BxLxD.shape[-1]
        modulation = dense(6 * width, jnp.float32, "modulation", zero=True, bias=True)(condition_BxC)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(modulation, 6, axis=-1)
        drops = self.dropout > 0 and not deterministic
        seeds_a, seeds_m = (seeds_of(self.make_rng("dropout")) if drops else None for _ in range(2))
        y, new = SelfAttention(self.heads, self.causal, self.attention, self.dtype, name="attention")(
            modulate(x_BxLxD, shift_a, scale_a, self.dtype), lengths_B, cache, position
        )
        x_BxLxD = by_rows(x_BxLxD + _gated(y, gate_a, seeds_a, self.dropout))
        y = MLP(self.expansion, self.dtype, name="mlp")(modulate(x_BxLxD, shift_m, scale_m, self.dtype))
        return by_rows(x_BxLxD + _gated(y, gate_m, seeds_m, self.dropout)), new


class TimeEmbedding(nn.Module):
    """Sinusoids of t in [0, 1] through a two-layer perceptron: [B] -> [B, C]."""

    width: int

    @nn.compact
    def __call__(self, t_B):
        half = 64
        frequencies = 1000.0 * jnp.exp(-math.log(10000.0) * jnp.arange(half) / half)
        angles = t_B.astype(jnp.float32)[:, None] * frequencies
        waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        hidden = nn.silu(dense(self.width, jnp.float32, "hidden", bias=True)(waves))
        return nn.silu(dense(self.width, jnp.float32, "out", bias=True)(hidden))
