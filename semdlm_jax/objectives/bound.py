"""The negative evidence lower bound of any kernel: one formula, in discrete and in continuous time.

A step back redraws a token from q(. | x0) at a rate h(z | x0), z = x_t: R(z -> y | x0) = h(z | x0) q(y | x0). The model
mixes these over its posterior: R_theta(z -> y) = sum_k p_theta(k | x_t) h(z | k) q(y | k). Both bounds are a
generalised Kullback-Leibler divergence between the two, summed over y. All functions are elementwise in positions:
tokens [...], times [...] that broadcast against them, posteriors [..., V], results [...] in nats.

Near t = 1 both rates are of size 1 / (1 - t) and nearly equal (noise is redrawn as noise). Their difference is
therefore summed apart, from terms that stay finite, and enters through x - log(1 + x).
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from semdlm_jax.kernels import Kernel, redraw_rate, stay_probability
from semdlm_jax.kernels.family import derivative, put, take
from semdlm_jax.kernels.reverse import keep_probability


def _at(values_V, x0):
    """values [..., V] at the clean token x0 [...]."""
    return take(values_V, x0[..., None])[..., 0]


@jax.custom_jvp
def divergence(rate, model, difference):
    """Elementwise rate log(rate / model) + model - rate, given difference = model - rate to full precision."""
    positive = rate > 0
    ratio = difference / jnp.where(positive, rate, 1)
    close = jnp.abs(ratio) < 0.5
    small = ratio - jnp.log1p(jnp.where(close, ratio, 0))
    tiny = jnp.finfo(rate.dtype).tiny
    large = ratio - jnp.log(jnp.maximum(model, tiny) / jnp.where(positive, rate, 1))
    return jnp.where(positive, rate * jnp.where(close, small, large), model)


@functools.partial(divergence.defjvp, symbolic_zeros=True)
def _divergence_jvp(primals, tangents):
    """In (rate, difference): model is their sum. The backward pass then needs no logarithm."""
    rate, model, difference = primals
    rate_dot, _, difference_dot = tangents
    safe = jnp.maximum(model, jnp.finfo(model.dtype).tiny)
    out = divergence(*primals)
    dot = jnp.where(rate > 0, difference / safe, 1) * _instantiate(difference_dot, out)
    if not isinstance(rate_dot, SymbolicZero):
        # (divergence - difference) / rate = log(rate / model) is its partial derivative at a fixed model.
        at_fixed_model = jnp.where(rate > 0, (out - difference) / jnp.where(rate > 0, rate, 1), 0)
        dot = dot + (at_fixed_model + jnp.where(rate > 0, difference / safe, 1)) * rate_dot
    return out, dot


def _instantiate(tangent, like):
    return jnp.zeros_like(like) if isinstance(tangent, SymbolicZero) else tangent


def _rates(kernel: Kernel, xt, t):
    """h(z | k) for every clean token k, split so that nothing large cancels.

    Returns (h [..., V], global_rate [..., V]): global_rate(k) = h(z | k) g(k) - c, the rate of redrawing from the
    global branch less a constant c of t alone, finite at t = 1.
    """
    all_tokens, t_V = jnp.arange(kernel.vocab_size), t[..., None]
    kept, kept_dot = derivative(lambda t: kernel.excess(jnp.array(-1), t), t_V)
    base_rate = -kept_dot / kept
    rate = redraw_rate(kernel, jnp.broadcast_to(all_tokens, t.shape + all_tokens.shape), t_V)
    floor, floor_dot = derivative(kernel.floors, t)
    growth = jnp.where(floor > 0, floor_dot / jnp.where(floor > 0, floor, 1), 0)
    other = rate + growth
    # other * floor - base_rate * beta, with the large parts taken out by hand.
    global_other = (rate - base_rate) * floor + base_rate * kernel.surplus(all_tokens, t_V) + floor_dot

    ids, ranks = kernel.column(xt)
    safe_ids = jnp.minimum(ids, kernel.vocab_size - 1)

    def near(values):
        return take(values, safe_ids)

    excess, excess_dot = derivative(lambda t: kernel.excess(ranks, t), jnp.broadcast_to(t_V, ids.shape))
    nu = kernel.global_prior.probs[xt][..., None]
    mass = excess + near(floor) * nu
    safe_mass = jnp.where(mass > 0, mass, 1)
    # h = rate + mass' / mass; for the token itself, which mostly stays, alpha and its rate cancel exactly.
    gain = jnp.where(ranks < 0, (near(rate) - base_rate) * excess, near(rate) * excess + excess_dot)
    near_h = jnp.where(mass > 0, (gain + nu * (near(rate) * near(floor) + near(floor_dot))) / safe_mass, near(other))
    # d/dt log q(z | k) less that of the global branch.
    change = jnp.where(mass > 0, (excess_dot - excess * near(growth)) / safe_mass, 0)
    h = put(other, ids, jnp.maximum(near_h, 0))
    return h, put(global_other, ids, near(global_other) + change * near(floor))


def _global_difference(posterior, global_rate, x0):
    """sum_k p(k) h(k) g(k) - h(x0) g(x0): how far the two redraw through the global branch at different rates."""
    at_x0 = _at(global_rate, x0)
    return jnp.sum(posterior * (global_rate - at_x0[..., None]), axis=-1)


def nelbo_rate(kernel: Kernel, log_posterior, x0, xt, t):
    """The continuous-time integrand l_t at each position, in nats per unit of t.

    log_posterior: [..., V], normalised. t: [...], inside (0, 1). The NELBO is the integral of E l_t over t plus the
    prior and reconstruction terms below.
    """
    posterior = jnp.exp(log_posterior)
    h, global_rate = _rates(kernel, xt, t)
    nu = kernel.global_prior.probs
    floors = kernel.floors(t)
    weighted = posterior * h
    h_x0, floor_x0 = _at(h, x0)[..., None], kernel.floor(x0, t)[..., None]
    excess_model = kernel.push_excess(weighted, t)
    row_ids, row_excess = kernel.row(x0, t)
    excess_true = put(jnp.zeros_like(posterior), row_ids, row_excess)
    true = h_x0 * (excess_true + floor_x0 * nu)
    model = excess_model + jnp.sum(weighted * floors, axis=-1, keepdims=True) * nu
    difference = excess_model - h_x0 * excess_true + _global_difference(posterior, global_rate, x0)[..., None] * nu
    terms = divergence(true, model, difference)
    return jnp.sum(jnp.where(jnp.arange(kernel.vocab_size) == xt[..., None], 0, terms), axis=-1)


def joint_nelbo_rate(kernel: Kernel, log_posterior, x0, xt, t):
    """An upper bound of `nelbo_rate` at O(V) a position instead of O(V K): the divergence of the joint law of (clean
    token, branch, new token), which dominates that of the new token alone. Equal for absorbing kernels.

    h(z|x0) m(x0) (-log p(x0)) + [sum_k p(k) h(z|k) m(k) - h(z|x0) m(x0)] + the divergence of the two global rates,
    m(k) = 1 - g(k) - excess(z; k) being the chance of a redraw outside the global branch that changes the token.
    """
    posterior = jnp.exp(log_posterior)
    h, global_rate = _rates(kernel, xt, t)
    floors = kernel.floors(t)
    ids, ranks = kernel.column(xt)
    weights = kernel.schedule.weights(t[..., None])
    placed = jnp.minimum(kernel.table.counts, weights.k) / weights.k
    outside = weights.alpha + weights.sigma * placed
    near = take(outside, jnp.minimum(ids, kernel.vocab_size - 1))
    moved = h * put(outside, ids, jnp.maximum(near - kernel.excess(ranks, t[..., None]), 0))
    moved_x0 = _at(moved, x0)
    clean = jnp.sum(posterior * moved, axis=-1) - moved_x0 - moved_x0 * _at(log_posterior, x0)
    global_true = _at(h, x0) * kernel.floor(x0, t)
    global_model = jnp.sum(posterior * h * floors, axis=-1)
    jumped = divergence(global_true, global_model, _global_difference(posterior, global_rate, x0))
    return clean + (1 - kernel.global_prior.probs[xt]) * jumped


def nelbo_step(kernel: Kernel, log_posterior, x0, xt, t, s):
    """The discrete-time term KL( q(x_s | x_t, x0) || p_theta(x_s | x_t) ) at each position, in nats."""
    all_tokens = jnp.broadcast_to(jnp.arange(kernel.vocab_size), t.shape + (kernel.vocab_size,))
    keep = keep_probability(kernel, all_tokens, t[..., None], s[..., None])
    floor_t, floor_s = kernel.floors(t), kernel.floors(s)
    elsewhere = keep * jnp.where(floor_t > 0, floor_s / jnp.where(floor_t > 0, floor_t, 1), 0)
    ids, _ = kernel.column(xt)
    near = stay_probability(kernel, xt[..., None], jnp.minimum(ids, kernel.vocab_size - 1), t[..., None], s[..., None])
    stay = put(elsewhere, ids, near)
    posterior = jnp.exp(log_posterior)
    moved = kernel.push_forward(posterior * (1 - stay), s)
    moved_x0 = 1 - _at(stay, x0)
    row_ids, row_excess = kernel.row(x0, s)
    redraw = put(jnp.zeros_like(posterior), row_ids, row_excess)
    redraw = redraw + kernel.floor(x0, s)[..., None] * kernel.global_prior.probs
    here = jax.nn.one_hot(xt, kernel.vocab_size, dtype=posterior.dtype)
    true = moved_x0[..., None] * redraw + _at(stay, x0)[..., None] * here
    model = moved + jnp.sum(posterior * stay, axis=-1, keepdims=True) * here
    return jnp.sum(divergence(true, model, model - true), axis=-1)


def prior_divergence(kernel: Kernel, x0, t):
    """KL( q_t(. | x0) || pi_t ) at the latest time t of the bound, in nats; pi_t = alpha_t / V + (1 - alpha_t) nu.

    pi_t is the kernel's prior, mixed with the little that is still kept when t stops short of 1 (at t = 1 it is nu).
    """
    nu = kernel.global_prior.probs
    kept = kernel.excess(jnp.array(-1), t)
    ids, excess = kernel.row(x0, t)
    exists = ids < kernel.vocab_size
    nu_row = jnp.where(exists, nu[jnp.minimum(ids, kernel.vocab_size - 1)], 0)
    floor = kernel.floor(x0, t)

    def against(mass, nu_mass):
        prior = kept[..., None] / kernel.vocab_size + (1 - kept[..., None]) * nu_mass
        return jnp.where(mass > 0, mass * (jnp.log(jnp.where(mass > 0, mass, 1)) - jnp.log(prior)), 0)

    near = jnp.where(exists, against(excess + floor[..., None] * nu_row, nu_row), 0)
    everywhere = against(floor[..., None] * nu, nu)
    already = jnp.where(exists, against(floor[..., None] * nu_row, nu_row), 0)
    return jnp.sum(near - already, axis=-1) + jnp.sum(everywhere, axis=-1)
