"""A clean context: positions of training rows that the network reads without noise and marked, as samplers give a
prompt, the text around blanks, and finished strides."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

CUTS = 4  # of `spans`: up to five parts, clean and noised by turns


def _prefix(key, place_BxL, sizes_Bx1):
    """The first tokens, as of a prompt or finished strides: 1 to n - 1 of n, each number as likely."""
    return place_BxL < jax.random.randint(key, sizes_Bx1.shape, 1, sizes_Bx1)


def _spans(key, place_BxL, sizes_Bx1):
    """Parts by turns clean and noised, as around blanks: between CUTS cuts, each as likely anywhere from before the
    first to behind the last token; the first part is clean in every other row."""
    cut_key, first_key = jax.random.split(key)
    cuts_BxC = jax.random.randint(cut_key, (sizes_Bx1.shape[0], CUTS), 0, sizes_Bx1 + 1)
    first_Bx1 = jax.random.bernoulli(first_key, shape=sizes_Bx1.shape)
    return (jnp.sum(place_BxL[..., None] >= cuts_BxC[:, None], axis=-1) + first_Bx1) % 2 == 1


def _mixed(key, place_BxL, sizes_Bx1):
    """One of these two, each as likely."""
    which_key, key = jax.random.split(key)
    parts = [layout(key, place_BxL, sizes_Bx1) for layout in (_prefix, _spans)]
    return jnp.where(jax.random.bernoulli(which_key, shape=sizes_Bx1.shape), *parts)


# name -> (key, place of each position among those of its row that count [B, L], their numbers [B, 1]) -> bool [B, L]
CLEAN_LAYOUTS: dict[str, Callable] = {"prefix": _prefix, "spans": _spans, "mixed": _mixed}


def clean_positions(key: jax.Array, mask_BxL: jax.Array, rows: float, layout: str) -> jax.Array:
    """Which positions of a training batch are clean: [B, L] bool, only where the mask is true.

    Args:
        key: a JAX random key.
        mask_BxL: the positions that count.
        rows: the chance that a row has a clean context. A row in which nothing would be left to predict has none.
        layout: a name of CLEAN_LAYOUTS.
    """
    row_key, layout_key = jax.random.split(key)
    counts_BxL = mask_BxL != 0
    place_BxL = jnp.cumsum(counts_BxL, axis=1) - 1
    sizes_Bx1 = jnp.sum(counts_BxL, axis=1, keepdims=True)
    clean_BxL = CLEAN_LAYOUTS[layout](layout_key, place_BxL, sizes_Bx1) & counts_BxL
    with_context = jax.random.bernoulli(row_key, rows, sizes_Bx1.shape)
    return clean_BxL & with_context & jnp.any(counts_BxL & ~clean_BxL, axis=1, keepdims=True)
