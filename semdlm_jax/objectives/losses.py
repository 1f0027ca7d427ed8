"""Training losses. To add one: a function of an objective and a `LossInput` that returns (loss, weight) a position,
and a line in LOSSES.

A training step minimises sum(loss) / sum(weight) over the positions that count, whatever the loss: that is what lets
gradient accumulation add up weighted sums and divide once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.kernels.branches import Hybrid
from semdlm_jax.objectives import bound, closed_forms, sampled
from semdlm_jax.objectives.posterior import forbid_mask, jumps_only, log_scores


class LossInput(NamedTuple):
    """logits [B, c, V]; clean and noisy tokens [B, c]; t [B, 1]; importance [B, 1], of uniform times over those drawn;
    key, for losses that are estimated."""

    logits: jax.Array
    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    importance: jax.Array
    key: jax.Array


def denoising(objective, x: LossInput):
    """The change-aware cross-entropy (Eq. 3 and 120)."""
    weight = x.importance * jnp.where(x.xt != x.x0, objective.lambda_changed, objective.lambda_same)
    return weight * objective.posterior.cross_entropy(objective.kernel, x.logits, x.x0, x.xt, x.t), weight


def nelbo(objective, x: LossInput):
    """The likelihood bound, by a closed form where the kernel has one; nats a token."""
    kernel = objective.kernel
    arguments = kernel, objective.posterior.log_probs(kernel, x.logits, x.xt, x.t), x.x0, x.xt, x.t
    rate = closed_forms.closed_form(kernel)
    if rate is not None:
        return _integral(objective, x, rate(*arguments))
    if objective.y_samples:
        return _integral(objective, x, sampled.nelbo_rate(*arguments, x.key, objective.y_samples))
    return _integral(objective, x, bound.nelbo_rate(*arguments))


def d3pm(objective, x: LossInput):
    """D3PM's L_lambda: KL(q(x_s | x_t, x0) || p_theta(x_s | x_t)) + ce_weight times the cross-entropy, over one of
    `timesteps` equal steps; the first step, from 1 / timesteps to text, is the reconstruction. Nats a token and
    step."""
    log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
    s = jnp.maximum(x.t - 1 / objective.timesteps, 0)
    loss = bound.nelbo_step(objective.kernel, log_posterior, x.x0, x.xt, x.t, s)
    loss = loss - objective.ce_weight * bound.at_token(log_posterior, x.x0)
    return loss * x.importance, jnp.ones_like(loss)


def score_entropy(objective, x: LossInput):
    """SEDD's: sigma' nu(x_t) times the sum over y != x_t of e^s_y - r_y s_y + r_y (log r_y - 1), for the log-scores
    s and the true ratios r_y = q_t(y | x0) / q_t(x_t | x0). A likelihood bound of its own; nats a token."""
    x, kernel = _before_the_end(x), objective.kernel
    scores = log_scores(kernel, forbid_mask(kernel, x.logits), x.xt, x.t)
    alpha = kernel.alpha(x.t)[..., None]
    clean = jnp.arange(kernel.vocab_size) == x.x0[..., None]
    row = kernel.noise(x.t)[..., None] * kernel.prior_probs(x.t) + jnp.where(clean, alpha, 0)
    true = row / bound.at_token(row, x.xt)[..., None]
    entropy = (
        jnp.exp(scores) - true * scores + jnp.where(true > 0, true * (jnp.log(jnp.where(true > 0, true, 1)) - 1), 0)
    )
    entropy = jnp.sum(jnp.where(jnp.arange(kernel.vocab_size) == x.xt[..., None], 0, entropy), axis=-1)
    rate = -kernel.branches.schedule.alpha_dot(x.t) / kernel.alpha(x.t) * kernel.nu(x.xt, x.t)
    return _integral(objective, x, rate * entropy)


def gidd(objective, x: LossInput):
    """GIDD's: w times KL(q_t(. | x0) || q_t(. | x_theta)) + r - log r - 1, x_theta the network's softmax.

    gidd_weights: `none` is the likelihood bound; `clip` bounds its weight w by 2; `dynamic` keeps only how w differs
    between tokens: 2 for masks, 1 for other noise, (B / (V - 1)) ((1 - alpha) / alpha)^(gamma / 2) for kept tokens, at
    most 2. (The authors' code takes sigmoid(-t) for the log-ratio of the last; this is their paper's.)
    """
    x = _before_the_end(x)
    log_x_theta = jax.nn.log_softmax(forbid_mask(objective.kernel, x.logits), axis=-1)
    loss = closed_forms.gidd_divergence(objective.kernel, log_x_theta, x.x0, x.xt, x.t)
    weight = GIDD_WEIGHTS[objective.gidd_weights](objective.kernel, x)
    return _integral(objective, x, weight * loss)


def _bound_weight(kernel, x):
    return kernel.fresh_rate(x.xt, x.x0, x.t)


def _dynamic_weight(kernel, x):
    branches = kernel.branches
    odds = branches.schedule.noise(x.t) / branches.schedule.alpha(x.t)
    kept = branches.height / (kernel.vocab_size - 1) * odds ** (branches.gamma / 2)
    return jnp.where(x.xt == kernel.mask_id, 2.0, jnp.where(x.xt == x.x0, jnp.minimum(kept, 2.0), 1.0))


GIDD_WEIGHTS = {
    "none": _bound_weight,
    "clip": lambda kernel, x: jnp.minimum(_bound_weight(kernel, x), 2.0),
    "dynamic": _dynamic_weight,
}


def _before_the_end(x):
    return x._replace(t=jnp.minimum(x.t, bound.LATEST))


def _integral(objective, x, rate):
    """(loss, weight) whose mean over times is the integral of the rate."""
    return rate * x.importance * (objective.t_max - objective.t_min), jnp.ones_like(rate)


LOSSES = {"denoising": denoising, "nelbo": nelbo, "d3pm": d3pm, "score_entropy": score_entropy, "gidd": gidd}


def check(objective):
    """UserError when this loss cannot train this kernel and parameterisation, or its options are impossible."""
    name, kernel, parameterisation = objective.name, objective.kernel, objective.parameterisation
    choose("objective", name, LOSSES)
    if (name == "score_entropy") != (parameterisation == "score"):
        raise UserError(
            f"objective {name!r} does not train parameterisation {parameterisation!r}: "
            "'score_entropy' and 'score' go together"
        )
    if name == "score_entropy" and not jumps_only(kernel):
        raise UserError("objective 'score_entropy' is for kernels that only jump, such as 'absorbing' and 'uniform'")
    if name == "gidd" and (not isinstance(getattr(kernel, "branches", None), Hybrid) or parameterisation != "bayes"):
        raise UserError(
            "objective 'gidd' needs kernel 'hybrid' and parameterisation 'bayes', whose softmax is its x_theta"
        )
