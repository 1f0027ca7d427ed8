"""Dropout by a cheap hash of positions, in place of JAX's generator.

The bit of an element depends on the key and on the element's place alone: it is the same on every mesh, no array of
random numbers is stored, and the backward pass makes it again instead of keeping it. It is no cryptographic generator
and need not be one; tests/network/test_network_dropout.py holds what dropout needs of it.
"""

import jax
import jax.numpy as jnp

BITS = jnp.uint32


def seeds_of(key: jax.Array) -> jax.Array:
    """[2] uint32 of a key of JAX, for `dropped`."""
    return jax.random.bits(key, (2,), BITS)


def dropped(x_BxLxD: jax.Array, seeds: jax.Array, rate: float) -> jax.Array:
    """x with this share of its elements 0, and the others divided by the share of those that stay.

    Args:
        x_BxLxD: values, in float32: a narrower dtype would round the share that stays.
        seeds: of `seeds_of`.
        rate: the share, in [0, 1); it holds to 2^-32.
    """
    return jnp.where(kept(seeds, x_BxLxD.shape, rate), x_BxLxD / (1 - rate), 0)


def kept(seeds: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """bool [B, L, D]: the elements that stay."""
    batch, length, width = shape
    # A number for each position and one for each channel; an element mixes the two, which costs two products.
    rows_BxL = jnp.arange(batch, dtype=BITS)[:, None] * BITS(length) + jnp.arange(length, dtype=BITS)
    rows_BxL = _mixed(_mixed(rows_BxL ^ seeds[0]) + seeds[1])
    channels_D = _mixed(_mixed(jnp.arange(width, dtype=BITS) ^ seeds[1]) + seeds[0])
    return _mixed(rows_BxL[..., None] ^ channels_D) >= BITS(min(round(rate * 2**32), 2**32 - 1))


def _mixed(x):
    """A permutation of 32-bit numbers in which every bit depends on every other: shifts, and products with the
    constants that C. Wellons' search of such functions found, of low bias."""
    x = (x ^ (x >> 16)) * BITS(0x21F0AAAD)
    x = (x ^ (x >> 15)) * BITS(0xD35A2D97)
    return x ^ (x >> 15)
