"""Draws of x~_0 from the posterior, with the controls a user may put on them."""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import LOG_ZERO


def draw(key, log_probs, *, greedy=False, forbidden=None):
    """Tokens [...] from log_probs [..., V] float32, not necessarily normalised.

    greedy: the most likely token instead of a draw; may be traced. forbidden: [V] bool, ids never drawn.

    The Gumbel noise has its tail resolved to about 1e-14: noise from one 24-bit uniform never exceeds 16.6, so that
    rare tokens would never be drawn, which acts like a lower temperature.
    """
    if forbidden is not None:
        log_probs = jnp.where(forbidden, LOG_ZERO, log_probs)
    noise = jax.random.gumbel(key, log_probs.shape, log_probs.dtype, mode="high")
    return jnp.argmax(log_probs + jnp.where(greedy, 0.0, noise), axis=-1).astype(jnp.int32)
