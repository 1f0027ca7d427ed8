"""The chain rule, for the autoregressive reference: one scan over the positions, each token from those before it."""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import LOG_ZERO


def sample_autoregressive(key, step, readout, cache, start_id, given_BxL, is_given_BxL, choose):
    """Text tokens [B, L] int32. Pure: jit it; everything but the functions may be traced.

    step: function (token_B, position, cache) -> (features [B, D], cache), the network on the token one place before
    that which it predicts. readout: function features [B, D] -> logits [B, V]. cache: what step takes first, empty and
    with room for L positions. start_id: stands before the first token, and is never drawn, as in training. given_BxL,
    is_given_BxL: tokens that are taken instead of draws, and where they stand: a prompt, or anything else. They
    condition what follows, not what comes before.
    choose: function (key, logits [B, V], text [B, L], position) -> tokens [B]. Its text holds the tokens before
    position, start_id from there on.
    """
    batch, length = given_BxL.shape

    def scan_body(carry, inputs):
        text_BxL, last_B, cache = carry
        key, position, given_B, is_given_B = inputs
        features_BxD, cache = step(last_B, position, cache)
        logits_BxV = readout(features_BxD)
        logits_BxV = jnp.where(jnp.arange(logits_BxV.shape[-1]) == start_id, LOG_ZERO, logits_BxV)
        drawn_B = choose(key, logits_BxV, text_BxL, position)
        token_B = jnp.where(is_given_B, given_B, drawn_B).astype(jnp.int32)
        return (text_BxL.at[:, position].set(token_B), token_B, cache), None

    first_BxL = jnp.full((batch, length), start_id, jnp.int32)
    columns = jax.random.split(key, length), jnp.arange(length), given_BxL.T, is_given_BxL.T
    (text_BxL, _, _), _ = jax.lax.scan(scan_body, (first_BxL, first_BxL[:, 0], cache), columns)
    return text_BxL
