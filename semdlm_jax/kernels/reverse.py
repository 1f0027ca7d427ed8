"""Keep or resample: the reverse step given a clean token, and its rates in continuous time.

Given x0, the process "keep with probability a, else redraw" has the marginals q_t exactly, for any pair s < t. Its
posterior keeps x_t with probability rho = a q_s(x_t | x0) / q_t(x_t | x0) and otherwise redraws from q_s(. | x0).
"""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.family import Kernel, derivative


def _row_levels(kernel: Kernel, x0, t):
    """q_t on the K neighbours of x0 [..., K], and which of them exist."""
    ids = kernel.table.ids[x0]
    nu = kernel.global_prior.probs[jnp.minimum(ids, kernel.vocab_size - 1)]
    exists = ids < kernel.vocab_size
    return kernel.excess(jnp.arange(kernel.table.k_max), t[..., None]) + kernel.floor(x0, t)[..., None] * nu, exists


def _ratio(numerator, denominator, possible=True):
    """numerator / denominator, infinite where the denominator has no mass (such a level does not bind)."""
    binding = possible & (denominator > 0)
    return jnp.where(binding, numerator / jnp.where(binding, denominator, 1), jnp.inf)


def keep_probability(kernel: Kernel, x0, t, s):
    """a(x0): the largest chance of keeping a token over (s, t] that leaves the marginals q_t intact; s < t.

    The minimum of alpha_t / alpha_s and of q_t / q_s over the support of q_s(. | x0): the neighbours one by one, and
    everything else at once. Shape of x0.
    """
    s, t = jnp.broadcast_to(s, x0.shape), jnp.broadcast_to(t, x0.shape)
    at_t, exists = _row_levels(kernel, x0, t)
    at_s, _ = _row_levels(kernel, x0, s)
    kept = _ratio(kernel.excess(jnp.array(-1), t), kernel.excess(jnp.array(-1), s))
    elsewhere = _ratio(kernel.floor(x0, t), kernel.floor(x0, s))
    near = jnp.min(_ratio(at_t, at_s, exists), axis=-1, initial=jnp.inf)
    return jnp.clip(jnp.minimum(jnp.minimum(kept, elsewhere), near), 0, 1)


def stay_probability(kernel: Kernel, xt, x0, t, s):
    """rho: the posterior chance that x_s = x_t because the token was kept. Shape of xt.

    0 where q_t(xt | x0) = 0: such a pair has no posterior, and the step redraws.
    """
    at_t = kernel.prob(xt, x0, t)
    at_s = kernel.prob(xt, x0, s)
    return jnp.where(at_t > 0, keep_probability(kernel, x0, t, s) * at_s / jnp.where(at_t > 0, at_t, 1), 0)


def reverse_step(kernel: Kernel, key, xt, x0, t, s):
    """x_s ~ q(x_s | x_t, x0), exact for any step size. int32 of xt's shape."""
    coin_key, redraw_key = jax.random.split(key)
    stay = stay_probability(kernel, xt, x0, t, s)
    stays = jax.random.uniform(coin_key, xt.shape, stay.dtype) < stay
    return jnp.where(stays, xt, kernel.corrupt(redraw_key, x0, s))


def redraw_rate(kernel: Kernel, x0, t):
    """lambda(x0) = max(-alpha'/alpha, max_y -q'/q): the forward rate of leaving, in 1 / unit of t. Shape of x0.

    The continuous limit of (1 - a) / (t - s). Infinite at t = 1 for schedules that keep nothing there.
    """
    t = jnp.broadcast_to(t, x0.shape)
    kept, kept_dot = derivative(lambda t: kernel.excess(jnp.array(-1), t), t)
    floor, floor_dot = derivative(lambda t: kernel.floor(x0, t), t)
    (near, exists), (near_dot, _) = jax.jvp(lambda t: _row_levels(kernel, x0, t), (t,), (jnp.ones_like(t),))
    elsewhere = -_ratio(floor_dot, floor)
    nearby = jnp.max(-_ratio(near_dot, near, exists), axis=-1, initial=-jnp.inf)
    return jnp.maximum(jnp.maximum(-_ratio(kept_dot, kept), elsewhere), nearby)
