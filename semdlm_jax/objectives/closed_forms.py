"""NELBO integrands that need no push-forward: fast paths for training, oracles for testing.

Same signature and result as `bound.nelbo_rate`.
"""

import jax.numpy as jnp

from semdlm_jax.kernels.family import derivative


def absorbing(kernel, log_posterior, x0, xt, t):
    """MDLM: -alpha' / (1 - alpha) times the cross-entropy at masked positions; 1/t for the linear schedule."""
    (alpha, beta), (alpha_dot, _) = _weights(kernel, t)
    cross_entropy = -jnp.take_along_axis(log_posterior, x0[..., None], axis=-1)[..., 0]
    return jnp.where(xt == kernel.mask_id, -alpha_dot / beta * cross_entropy, 0.0)


def uniform(kernel, log_posterior, x0, xt, t):
    """UDLM (PEERS 2.6): with xbar = V alpha onehot(x0) + 1 - alpha and its counterpart under the model,

    l = alpha' / (V alpha) { V / xbar_z - V / xbar_theta_z - sum_j xbar_j / xbar_z log[(xbar_theta_z xbar_j) / (xbar_theta_j xbar_z)] }.
    """
    (alpha, beta), (alpha_dot, _) = _weights(kernel, t[..., None])
    V = kernel.vocab_size
    onehot = x0[..., None] == jnp.arange(V)
    true = V * alpha * onehot + beta
    model = V * alpha * jnp.exp(log_posterior) + beta
    true_z = jnp.take_along_axis(true, xt[..., None], axis=-1)
    model_z = jnp.take_along_axis(model, xt[..., None], axis=-1)
    gap = jnp.log(model_z) - jnp.log(model) + jnp.log(true) - jnp.log(true_z)
    inner = V / true_z - V / model_z - jnp.sum(true / true_z * gap, axis=-1, keepdims=True)
    return (alpha_dot / (V * alpha) * inner)[..., 0]


def _weights(kernel, t):
    """((alpha, beta), their derivatives) at t."""
    return derivative(lambda t: kernel.schedule.weights(t)[:2], t)


CLOSED_FORMS = {"absorbing": absorbing, "uniform": uniform}
