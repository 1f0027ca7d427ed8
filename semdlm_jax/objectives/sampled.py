"""The NELBO integrand with an estimate of its sum over y: O(V) per position instead of O(V K), for training at large
V."""

import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase, Reverse
from semdlm_jax.kernels.numerics import at_token, inner
from semdlm_jax.kernels.shapes import takes_times
from semdlm_jax.objectives.bound import LEAST_RATIO, T_NUMERIC_MAX


@takes_times
def nelbo_rate(kernel: KernelBase, log_posterior, x0, xt, t, key, samples):
    """An unbiased estimate of `bound.nelbo_rate`, and of its gradient, from `samples` tokens y a position."""
    rates = kernel.reverse(xt, jnp.minimum(t, T_NUMERIC_MAX))
    return jnp.mean(rate_at(rates, log_posterior, x0, xt, rates.sample(key, x0, samples)), axis=-1)


def rate_at(rates: Reverse, log_posterior, x0, xt, y):
    """One estimate from each of the tokens y [..., S]; its expectation over `rates.sample` is the integrand.

    R_theta(z -> y) at these tokens alone needs only the tokens that have y as a neighbor. The total rates of R_theta
    and R are summed exactly, so that only the logarithm is sampled:

        sum over y != z of (R_theta - R + R log(R / R_theta))
            = sum over k of p(k) out(k) - out(x0) - E[ 1[y != z] log(R_theta / R)(y) ] sum over y of R(z -> y | x0),

    out(k) = sum over y != z of R(z -> y | k).
    """
    posterior, out = jnp.exp(log_posterior), rates.total - rates.unseen
    excess = inner(posterior, out - at_token(out, x0)[..., None])[..., None]
    true, model = rates.true_at(x0, y), rates.mixed_at(posterior, y)
    positive = true > LEAST_RATIO * model
    log_ratio = jnp.log(jnp.maximum(model / jnp.where(positive, true, 1), LEAST_RATIO))
    counted = (y != xt[..., None]) & positive
    return excess - at_token(rates.total, x0)[..., None] * jnp.where(counted, log_ratio, 0)
