"""NELBO integrands that need no push-forward: fast paths for training, oracles for testing.

Same signature and result as `bound.nelbo_rate`. They hold for any schedule.
"""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import LOG_ZERO, at_token, safe_log
from semdlm_jax.kernels.shapes import takes_times
from semdlm_jax.objectives.bound import T_NUMERIC_MAX, divergence, nelbo_rate


@takes_times
def absorbing(kernel, log_posterior, x0, xt, t):
    """MDLM: -alpha' / (1 - alpha) times the cross-entropy at masked positions; 1/t for the linear schedule."""
    return cross_entropies(kernel, log_posterior, x0, mask_rates(kernel, xt, t))


@takes_times
def symbols(kernel, log_posterior, x0, xt, t):
    """HDLM and TDLM: at the symbol of a block, cross-entropies of the clean token and of its finer blocks, each times
    the rate of going back there."""
    return cross_entropies(kernel, log_posterior, x0, symbol_rates(kernel, xt, t))


@takes_times
def absorbing_at_rates(kernel, log_posterior, x0, xt, t):
    """GenMD4: at a mask n' / n times -w_x0 log p(x0) + sum over k of p(k) w_k - w_x0, w the powers of the tokens."""
    rate = -kernel.schedule.alpha_dot(t) / kernel.schedule.noise(t)
    own = kernel.powers[x0]
    expected = jnp.sum(jnp.exp(log_posterior) * kernel.powers, axis=-1)
    return jnp.where(xt == kernel.mask_id, rate * (expected - own - own * at_token(log_posterior, x0)), 0.0)


def mask_rates(kernel, xt, t):
    return [jnp.where(xt == kernel.mask_id, -kernel.alpha_dot(t) / kernel.noise(t), 0.0)]


def symbol_rates(kernel, xt, t):
    return kernel.ancestor_rates(xt, jnp.minimum(t, T_NUMERIC_MAX))


def cross_entropies(kernel, log_posterior, x0, weights):
    """The sum of w_e times the cross-entropy of the block of level e that x0 lies in; of x0 itself for e = 0. weights:
    [w_0, w_1, ...], each of the shape of x0."""
    terms = -weights[0] * at_token(log_posterior, x0)
    for level, weight in enumerate(weights[1:], 1):
        inside = jnp.where(kernel.same_ancestor(x0, level), log_posterior, LOG_ZERO)
        terms = terms - weight * jax.nn.logsumexp(inside, axis=-1)
    return terms


@takes_times
def uniform(kernel, log_posterior, x0, xt, t):
    """UDLM, Duo and SEDD-uniform: -alpha' / (V alpha) times the divergence of the scores q(y | .) / q(z | .) at y != z.

    Under the model the score is sum_k p(k) q(y | k) / q(z | k), which is UDLM's ratio of xbar_theta with the network's
    softmax for x_theta once p is the `bayes` posterior. With u = (1 - alpha) / V, that sum less the true score is

        alpha (p(y) - 1[y = x0]) / u  -  alpha (p(z) - 1[z = x0]) / (u + alpha).
    """
    t = jnp.minimum(t, T_NUMERIC_MAX)[..., None]
    alpha, V = kernel.alpha(t), kernel.vocab_size
    floor, tokens = kernel.noise(t) / V, jnp.arange(V)
    here, clean = tokens == xt[..., None], tokens == x0[..., None]
    same = (x0 == xt)[..., None]
    posterior = jnp.exp(log_posterior)
    stayed = jnp.take_along_axis(posterior, xt[..., None], axis=-1)
    elsewhere = jnp.sum(jnp.where(here, 0, posterior), axis=-1, keepdims=True)
    true = jnp.where(same, floor / (floor + alpha), jnp.where(clean, (floor + alpha) / floor, 1))
    model = alpha * posterior / floor + elsewhere + stayed * floor / (floor + alpha)
    difference = alpha * ((posterior - clean) / floor - (stayed - same) / (floor + alpha))
    terms = jnp.where(here, 0, divergence(true, model, difference))
    rate = -kernel.alpha_dot(t) / (V * alpha)
    return rate[..., 0] * jnp.sum(terms, axis=-1)


@takes_times
def hybrid(kernel, log_posterior, x0, xt, t):
    """GIDD: its weight w = h(z | x0) times `gidd_divergence`, with x_theta taken back out of the posterior."""
    t = jnp.minimum(t, T_NUMERIC_MAX)
    likelihoods = kernel.likelihoods(xt, t)
    clean = jnp.where(likelihoods > 0, log_posterior - safe_log(likelihoods), LOG_ZERO)
    log_x_theta = clean - jnp.log(jnp.sum(jnp.exp(clean), axis=-1, keepdims=True))
    return kernel.arrival_rate(xt, x0, t) * gidd_divergence(kernel, log_x_theta, x0, xt, t)


@takes_times
def gidd_divergence(kernel, log_x_theta, x0, xt, t):
    """KL(q_t(. | x0) || q_t(. | x_theta)) + r - log r - 1 with r = q_t(x_t | x0) / q_t(x_t | x_theta): what GIDD
    weighs.

    log_x_theta: [..., V], normalized. For kernels that only jump; nats a position.
    """
    alpha = kernel.alpha(t)[..., None]
    noise = kernel.noise(t)[..., None] * kernel.prior_probs(t)
    x_theta, clean = jnp.exp(log_x_theta), jnp.arange(kernel.vocab_size) == x0[..., None]
    true, model = alpha * clean + noise, alpha * x_theta + noise
    kl = jnp.sum(divergence(true, model, alpha * (x_theta - clean)), axis=-1)
    true_here, model_here = at_token(true, xt), at_token(model, xt)
    change = alpha[..., 0] * (at_token(x_theta, xt) - (x0 == xt))
    # log(1 / r) + r - 1, with r - 1 to full precision.
    return kl + divergence(jnp.ones_like(model_here), true_here / model_here, -change / model_here)


CLOSED_FORMS = {
    "masks": absorbing,
    "mask_rates": absorbing_at_rates,
    "symbols": symbols,
    "uniform": uniform,
    "masks_and_uniform": hybrid,
}


# Of those that are weighed cross-entropies alone: (kernel, xt, t) -> the weights.
CROSS_ENTROPIES = {"masks": mask_rates, "symbols": symbol_rates}


def closed_form(kernel):
    """The closed form of this kernel, or None."""
    return CLOSED_FORMS.get(kernel.closed_form)


def integrand(kernel):
    """The NELBO's integrand of this kernel, by the closed form if it has one."""
    return closed_form(kernel) or nelbo_rate
