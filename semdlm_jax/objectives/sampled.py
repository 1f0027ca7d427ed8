"""The NELBO integrand with an estimate of its sum over y: O(V) per position instead of O(V K), for training at large
V."""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import inner, take
from semdlm_jax.kernels.shapes import takes_times
from semdlm_jax.objectives.bound import T_NUMERIC_MAX, Rates, at_token, reverse_rates


@takes_times
def nelbo_rate(kernel: KernelBase, log_posterior, x0, xt, t, key, samples):
    """An unbiased estimate of `bound.nelbo_rate`, and of its gradient, from `samples` tokens y a position."""
    t = jnp.minimum(t, T_NUMERIC_MAX)
    rates = reverse_rates(kernel, xt, t)
    y = draw_targets(kernel, rates, key, x0, t, samples)
    return jnp.mean(rate_at(kernel, rates, log_posterior, x0, xt, t, y), axis=-1)


def draw_targets(kernel: KernelBase, rates: Rates, key, x0, t, samples):
    """Tokens [..., S] int32 from where R(x_t -> . | x0) sends a token, x_t itself included."""
    back_key, noise_key = jax.random.split(key)
    returned, redrawn = at_token(rates.returned, x0), at_token(rates.redrawn, x0)
    shape, total = (samples, *x0.shape), returned + redrawn * kernel.noise(t)
    back = jax.random.uniform(back_key, shape, total.dtype) * total < returned
    x0, t = jnp.broadcast_to(x0, shape), jnp.broadcast_to(t, shape)
    return jnp.moveaxis(jnp.where(back, x0, kernel.sample_noise(noise_key, x0, t)), 0, -1)


def rate_at(kernel: KernelBase, rates: Rates, log_posterior, x0, xt, t, y):
    """One estimate from each of the tokens y [..., S]; its expectation over `draw_targets` is the integrand.

    R_theta(z -> y) at these tokens alone needs only the tokens that have y as a neighbor. The total rates of R_theta
    and R are summed exactly, so that only the logarithm is sampled:

        sum over y != z of (R_theta - R + R log(R / R_theta))
            = sum over k of p(k) out(k) - out(x0) - E[ 1[y != z] log(R_theta / R)(y) ] sum over y of R(z -> y | x0),

    out(k) = sum over y != z of R(z -> y | k).
    """
    posterior, noise = jnp.exp(log_posterior), kernel.noise(t)[..., None]
    # The total of R(z -> . | k) without the part that stays at z.
    here = jnp.where(xt[..., None] == jnp.arange(kernel.vocab_size), rates.returned, 0)
    out = rates.returned - here + rates.redrawn * (noise - kernel.noise_likelihoods(xt, t))
    excess = inner(posterior, out - at_token(out, x0)[..., None])[..., None]

    returned, redrawn = at_token(rates.returned, x0)[..., None], at_token(rates.redrawn, x0)[..., None]
    true = jnp.where(y == x0[..., None], returned, 0)
    true = true + redrawn * kernel.noise_prob(y, x0[..., None], t[..., None])
    model = take(posterior * rates.returned, y) + kernel.noise_matvec_at(posterior * rates.redrawn, y, t)
    log_ratio = jnp.log(jnp.maximum(model, jnp.finfo(model.dtype).tiny) / jnp.where(true > 0, true, 1))
    counted = (y != xt[..., None]) & (true > 0)
    return excess - (returned + redrawn * noise) * jnp.where(counted, log_ratio, 0)
