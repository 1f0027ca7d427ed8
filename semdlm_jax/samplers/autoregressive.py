"""The chain rule, for the autoregressive reference: one scan over the positions, each token from those before it."""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import LOG_ZERO
from semdlm_jax.samplers.checks import check_given


def sample_autoregressive(key, step, readout, cache, start_id, given_BxL, is_given_BxL, choose):
    """Samples text by the chain rule. Pure: jit it; everything but the functions may be traced.

    Args:
        key: a JAX random key.
        step: (token_B, position, cache) -> (features [B, D], cache), the network on the token before the one that it
            predicts.
        readout: features [B, D] -> logits [B, V].
        cache: what the first step is given: empty, with room for L positions.
        start_id: the token before the first one. It is never drawn, as in training.
        given_BxL: int tokens taken instead of draws where is_given_BxL, bool, is true: a prompt, or anything else. They
            condition what follows them, not what comes before.
        is_given_BxL: where.
        choose: (key, logits [B, V], text [B, L], position) -> tokens [B]. Its text holds the tokens before position,
            and start_id from there on.

    Returns:
        Tokens [B, L] int32.

    Raises:
        UserError: given tokens of a wrong shape or dtype.
    """
    check_given(given_BxL, is_given_BxL)
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
