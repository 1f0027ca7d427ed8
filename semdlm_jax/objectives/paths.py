"""Likelihoods by whole paths from noise to text, instead of by single corruptions.

A sampler that takes T steps gives a text the chance p(x0), a sum over all paths x_T, ..., x_1 that end in it. One path
drawn from q, the noise given x0, has the weight

    w = p(x_T) prod_steps p_theta(x_s | x_t) p_theta(x0 | x_1)  /  q(x_T | x0) prod_steps q(x_s | x_t, x0),

whose mean is p(x0). E -log w is therefore the bound in T steps, and E -log mean(w_1 .. w_K) is a bound of the same
likelihood that falls to -log p(x0) as K grows (Burda et al., 2016).

Under masks a path is an order in which tokens are revealed. With one token at a time, the orders are equally likely,
and w = prod_i p_theta(x_i | what was revealed before it). Where the order is no chance but a rule that reads only
what is revealed, there is one path, and w is the likelihood itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import at_token, safe_log
from semdlm_jax.objectives.base import Scoring
from semdlm_jax.objectives.bound import prior_law
from semdlm_jax.objectives.chunking import each_position, map_positions
from semdlm_jax.objectives.posterior import Posterior

ORDERS = {
    "random": "drawn for each row, all equally likely; log w is then one draw of a bound",
    "left_to_right": "a rule: log w is log p(x0)",
    "confidence": "a rule: next is the position whose likeliest token is the most probable, the leftmost of equals",
}
GRID = 2**16  # times among which the one is looked up at which a certain share of the tokens is masked


class PathRows(NamedTuple):
    """keys: of their noise [B]. x0: clean tokens [B, L]. mask: [B, L] bool, the positions that count."""

    keys: jax.Array
    x0: jax.Array
    mask: jax.Array


def step_log_weights(
    denoiser, kernel: KernelBase, posterior: Posterior, scoring: Scoring, params, rows: PathRows, *, steps: int
) -> jax.Array:
    """log w of one path of each row, [B] nats, for the sampler `ancestral` at `steps` equally distant times from t_max
    to t_min, the last of which writes the text. Pure: jit it.

    Args:
        denoiser: the network, as `Objective.score_terms` takes it; params: its parameters.
        kernel, posterior: what corrupts, and what makes p(x0 | x_t) of logits.
        scoring: Scoring.
        rows: PathRows.
        steps: calls of the network, at least 1.
    """
    keys_B, x0_BxL, mask_BxL = rows
    hidden = scoring.lengths(mask_BxL)
    keys_BxS = jax.vmap(lambda key: jax.random.split(key, steps))(keys_B)
    times_S = jnp.linspace(scoring.t_max, scoring.t_min, steps) if steps > 1 else jnp.array([scoring.t_max])
    first, last = times_S[0], times_S[-1]

    def summed(function, xt_BxL, t, *more):
        """sum over positions of function(log_posterior, x0, xt, *more): [B]."""
        t_B = jnp.broadcast_to(t, keys_B.shape)
        features = denoiser.features(params, xt_BxL, t_B, **hidden)

        def positions(features, x0, xt, mask, *more):
            log_posterior = posterior.log_probs(kernel, denoiser.logits(params, features), xt, t_B[:, None])
            return jnp.sum(jnp.where(mask, function(log_posterior, x0, xt, *more), 0), axis=1)

        return map_positions(positions, features, x0_BxL, xt_BxL, mask_BxL, *more, chunk=scoring.chunk)

    def step(carry, inputs):
        xt_BxL, log_weights_B = carry
        keys_B, t, s = inputs
        xs_BxL = jax.vmap(lambda key, xt, x0: kernel.reverse_step(key, xt, x0, t, s))(keys_B, xt_BxL, x0_BxL)

        def log_ratio(log_posterior, x0, xt, xs):
            model, true = step_probs(kernel, log_posterior, x0, xt, xs, t, s)
            return safe_log(model) - safe_log(true)

        return (xs_BxL, log_weights_B + summed(log_ratio, xt_BxL, t, xs_BxL)), None

    xt_BxL = jax.vmap(lambda key, x0: kernel.corrupt(key, x0, first))(keys_BxS[:, 0], x0_BxL)
    at_start = safe_log(prior_law(kernel, first))[xt_BxL] - kernel.log_prob(xt_BxL, x0_BxL, first)
    carry = xt_BxL, jnp.sum(jnp.where(mask_BxL, at_start, 0), axis=1)
    inputs = jnp.moveaxis(keys_BxS[:, 1:], 1, 0), times_S[:-1], times_S[1:]
    (xt_BxL, log_weights_B), _ = jax.lax.scan(step, carry, inputs)
    return log_weights_B + summed(lambda log_posterior, x0, xt: at_token(log_posterior, x0), xt_BxL, last)


def step_probs(kernel: KernelBase, log_posterior, x0, xt, xs, t, s) -> tuple[jax.Array, jax.Array]:
    """(p_theta(x_s | x_t), q(x_s | x_t, x0)) of tokens [...]; log_posterior: [..., V]; t, s: numbers."""
    changes, posterior = kernel.reverse(xt, jnp.full(xt.shape, t), jnp.full(xt.shape, s)), jnp.exp(log_posterior)
    assert changes.stay is not None  # of a step
    stays = xs == xt
    model = changes.mixed_at(posterior, xs[..., None])[..., 0]
    true = changes.true_at(x0, xs[..., None])[..., 0]
    model = model + jnp.where(stays, jnp.sum(posterior * changes.stay, axis=-1), 0)
    return model, true + jnp.where(stays, at_token(changes.stay, x0), 0)


def unmasking_log_weights(
    denoiser, kernel: KernelBase, posterior: Posterior, scoring: Scoring, params, rows: PathRows, *, order: str
) -> jax.Array:
    """log w of each row, [B] nats, when tokens are revealed one at a time. Pure: jit it.

    Args:
        denoiser, kernel, posterior, scoring, params, rows: as for `step_log_weights`. A network that reads times is
            given the one at which as large a share of tokens is masked on average.
        order: of ORDERS.
    """
    assert kernel.mask_id is not None  # see `check_order`
    mask_id = kernel.mask_id
    keys_B, x0_BxL, mask_BxL = rows
    hidden, length = scoring.lengths(mask_BxL), x0_BxL.shape[1]
    scores_BxL = jnp.broadcast_to(-jnp.arange(length, dtype=jnp.float32), x0_BxL.shape)  # the greatest is next
    if order == "random":
        scores_BxL = jax.vmap(lambda key: jax.random.uniform(key, (length,)))(keys_B)
    counts_B = jnp.maximum(jnp.sum(mask_BxL, axis=1), 1)
    share_of_masks = kernel.noise(jnp.linspace(scoring.t_min, scoring.t_max, GRID))

    def step(carry, _):
        masked_BxL, log_weights_B = carry
        xt_BxL = jnp.where(masked_BxL, mask_id, x0_BxL)
        left_B = jnp.sum(masked_BxL, axis=1)
        place_B = jnp.minimum(jnp.searchsorted(share_of_masks, left_B / counts_B), GRID - 1)
        t_B = scoring.t_min + (scoring.t_max - scoring.t_min) * place_B / (GRID - 1)
        features = denoiser.features(params, xt_BxL, t_B, **hidden)

        def log_probs(features):
            masks = jnp.full(features.shape[:2], mask_id)
            return posterior.log_probs(kernel, denoiser.logits(params, features), masks, t_B[:, None])

        scores = scores_BxL
        if order == "confidence":
            scores = each_position(lambda x: jnp.max(log_probs(x), axis=-1), features, chunk=scoring.chunk)
        next_B = jnp.argmax(jnp.where(masked_BxL, scores, -jnp.inf), axis=1)[:, None]
        of_next = log_probs(jnp.take_along_axis(features, next_B[..., None], axis=1))
        revealed = at_token(of_next, jnp.take_along_axis(x0_BxL, next_B, axis=1))[:, 0]
        log_weights_B = log_weights_B + jnp.where(left_B > 0, revealed, 0)
        return (masked_BxL & (jnp.arange(length) != next_B), log_weights_B), None

    start = mask_BxL, jnp.zeros(x0_BxL.shape[0])
    return jax.lax.scan(step, start, length=length)[0][1]


def check_order(kernel: KernelBase, order: str) -> None:
    """UserError: there is no such order, or the kernel's noise is not masks alone."""
    choose("order", order, ORDERS)
    if not kernel.only_masks:
        raise UserError("tokens are revealed in an order only where noise is masks alone (kernel absorbing)")
