"""NELBO integrands that need no push-forward: fast paths for training, oracles for testing.

Same signature and result as `bound.nelbo_rate`.
"""

import jax.numpy as jnp

from semdlm_jax.kernels.family import derivative
from semdlm_jax.objectives.bound import divergence


def absorbing(kernel, log_posterior, x0, xt, t):
    """MDLM: -alpha' / (1 - alpha) times the cross-entropy at masked positions; 1/t for the linear schedule."""
    (alpha, beta), (alpha_dot, _) = _weights(kernel, t)
    cross_entropy = -jnp.take_along_axis(log_posterior, x0[..., None], axis=-1)[..., 0]
    return jnp.where(xt == kernel.mask_id, -alpha_dot / beta * cross_entropy, 0.0)


def uniform(kernel, log_posterior, x0, xt, t):
    """UDLM, Duo and SEDD-uniform: -alpha' / (V alpha) times the divergence of the scores q(y | .) / q(z | .) at y != z.

    Under the model the score is sum_k p(k) q(y | k) / q(z | k), which is UDLM's ratio of xbar_theta with the network's
    softmax for x_theta once p is the `bayes` posterior. With u = (1 - alpha) / V, that sum less the true score is

        alpha (p(y) - 1[y = x0]) / u  -  alpha (p(z) - 1[z = x0]) / (u + alpha).
    """
    (alpha, beta), (alpha_dot, _) = _weights(kernel, t[..., None])
    V = kernel.vocab_size
    floor, tokens = beta / V, jnp.arange(V)
    here, clean = tokens == xt[..., None], tokens == x0[..., None]
    same = (x0 == xt)[..., None]
    posterior = jnp.exp(log_posterior)
    stayed = jnp.take_along_axis(posterior, xt[..., None], axis=-1)
    elsewhere = jnp.sum(jnp.where(here, 0, posterior), axis=-1, keepdims=True)
    true = jnp.where(same, floor / (floor + alpha), jnp.where(clean, (floor + alpha) / floor, 1))
    model = alpha * posterior / floor + elsewhere + stayed * floor / (floor + alpha)
    difference = alpha * ((posterior - clean) / floor - (stayed - same) / (floor + alpha))
    terms = jnp.where(here, 0, divergence(true, model, difference))
    return -(alpha_dot / (V * alpha))[..., 0] * jnp.sum(terms, axis=-1)


def _weights(kernel, t):
    """((alpha, beta), their derivatives) at t."""
    return derivative(lambda t: kernel.schedule.weights(t)[:2], t)


CLOSED_FORMS = {"absorbing": absorbing, "uniform": uniform}
