"""The negative evidence lower bound of any kernel: one formula, in discrete and in continuous time.

R(z -> y | x0) is the rate at which x_t = z goes back to y, in the process given x0 that the kernel chose
(`kernels.reverse`). For kernels without a semantic branch it is h(z | x0) q_t(y | x0), with h the rate at which z has
just arrived. The model mixes these rates over its posterior: R_theta(z -> y) = sum_k p_theta(k | x_t) R(z -> y | k).
Both bounds are a generalized Kullback-Leibler divergence between the two, summed over y. All functions are elementwise
in positions: tokens [...], times [...] that broadcast against them, posteriors [..., V], results [...] in nats.

Near t = 1 both rates are of size 1 / (1 - t) and nearly equal, because noise replaces noise. The divergence is
therefore computed from their relative difference x as x - log(1 + x), so that rounding enters by its square only.
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import add_at, at_token
from semdlm_jax.kernels.shapes import takes_times

# Rates are infinite at t = 1: the integrand there is its limit, computed at this time.
T_NUMERIC_MAX = 1 - 2**-17
# Of two rates, one below this share of the other counts as none: their ratio and its inverse stay within float32.
LEAST_RATIO = 1e-30


@jax.custom_jvp
def divergence(rate, model, difference):
    """Elementwise rate log(rate / model) + model - rate, given difference = model - rate.

    Finite even where the model has no such change: rate / model is at most 1 / LEAST_RATIO.
    """
    positive = rate > LEAST_RATIO * model
    safe = jnp.where(positive, rate, 1)
    relative = difference / safe
    close = jnp.abs(relative) < 0.5
    small = relative - jnp.log1p(jnp.where(close, relative, 0))
    large = relative - jnp.log(jnp.maximum(model / safe, LEAST_RATIO))
    return jnp.where(positive, rate * jnp.where(close, small, large), model)


@functools.partial(divergence.defjvp, symbolic_zeros=True)
def _divergence_jvp(primals, tangents):
    """In (rate, difference): model is their sum. The backward pass then needs no logarithm."""
    rate, model, difference = primals
    rate_dot, _, difference_dot = tangents
    out = divergence(*primals)
    positive, seen = rate > LEAST_RATIO * model, model > LEAST_RATIO * rate
    slope = jnp.where(positive & seen, difference / jnp.where(seen, model, 1), 1)
    dot = slope * _instantiate(difference_dot, out)
    if not isinstance(rate_dot, SymbolicZero):
        # (divergence - difference) / rate = log(rate / model) is its partial derivative at a fixed model.
        at_fixed_model = jnp.where(positive, (out - difference) / jnp.where(positive, rate, 1), 0)
        dot = dot + (at_fixed_model + slope) * rate_dot
    return out, dot


def _instantiate(tangent, like):
    return jnp.zeros_like(like) if isinstance(tangent, SymbolicZero) else tangent


@takes_times
def nelbo_rate(kernel: KernelBase, log_posterior, x0, xt, t):
    """The continuous-time integrand l_t at each position, in nats per unit of t.

    The NELBO is the integral of E l_t over t, plus the prior and reconstruction terms.

    Args:
        kernel: of the noise.
        log_posterior: log p_theta(x0 = k | x_t), [..., V], normalized.
        x0, xt: clean and noisy tokens [...].
        t: times in (0, 1], which broadcast against the tokens.
    """
    t = jnp.minimum(t, T_NUMERIC_MAX)
    rates = kernel.reverse(xt, t)
    model, true = rates.mixed(jnp.exp(log_posterior)), rates.true(x0)
    terms = divergence(true, model, model - true)
    return jnp.sum(jnp.where(jnp.arange(kernel.num_states) == xt[..., None], 0, terms), axis=-1)


@takes_times
def nelbo_step(kernel: KernelBase, log_posterior, x0, xt, t, s):
    """The discrete-time term KL( q(x_s | x_t, x0) || p_theta(x_s | x_t) ) at each position, in nats."""
    changes, posterior = kernel.reverse(xt, t, s), jnp.exp(log_posterior)
    assert changes.stay is not None  # of a step
    here = xt[..., None] == jnp.arange(kernel.num_states)
    true = changes.true(x0) + at_token(changes.stay, x0)[..., None] * here
    model = changes.mixed(posterior) + jnp.sum(posterior * changes.stay, axis=-1, keepdims=True) * here
    return jnp.sum(divergence(true, model, model - true), axis=-1)


@takes_times
def prior_law(kernel: KernelBase, t):
    """[N]: where the bound's model starts, at its last time t, a number.

    pi_t = alpha_t / V + (1 - alpha_t) nu: the kernel's prior nu, and a uniform share for the clean tokens that are
    still kept where t is below 1.
    """
    kept = jnp.where(jnp.arange(kernel.num_states) < kernel.vocab_size, kernel.alpha(t) / kernel.vocab_size, 0)
    return kept + kernel.noise(t) * kernel.prior_probs(t)


@takes_times
def prior_divergences(kernel: KernelBase, t):
    """[V]: KL( q_t(. | x0) || pi_t ) of every clean token x0, in nats, at the last time t of the bound (a number);
    pi_t is `prior_law`."""
    prior = prior_law(kernel, t)

    def one(x0):
        mass = add_at(kernel.noise_probs(x0, t), x0[None], kernel.alpha(t)[None])
        divergence = jnp.sum(jnp.where(mass > 0, mass * jnp.log(jnp.where(mass > 0, mass / prior, 1)), 0))
        return jnp.maximum(divergence, 0)  # rounding alone takes it below

    return jax.lax.map(one, jnp.arange(kernel.vocab_size), batch_size=min(64, kernel.vocab_size))
