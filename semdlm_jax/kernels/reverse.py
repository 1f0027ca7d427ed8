"""The reverse process when the clean token is known: stay, or go back to one of its earlier states.

Given x0, between s and t a kept token stays kept with chance alpha_t / alpha_s, noise stays as it is with chance
b(x0), and what did not stay is noise anew. This has the marginals q_t for any b with b m_s <= m_t; the kernel's b is
the largest that is at most (1 - beta_t) / (1 - beta_s): a jump redraws any token, a drift moves only a kept one. For
kernels without a semantic branch that is alpha_t / alpha_s, "keep with a chance of all tokens or redraw", and the
reverse of the papers' Markov chains. Seen backwards:

    x_s = x_t           with probability  rho = (alpha_t 1[x_t = x0] + b m_s(x_t | x0)) / q_t(x_t | x0), and otherwise
    x_s = x0            with probability  1 - kappa
    x_s ~ m_s(. | x0)   with probability  kappa = (1 - b) (1 - alpha_s) / ((1 - b) (1 - alpha_s) + alpha_s - alpha_t)
"""

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import derivative, ratio
from semdlm_jax.kernels.protocol import KernelBase
from semdlm_jax.kernels.shapes import as_times, as_tokens, takes_times


def stay_probability(kernel: KernelBase, xt, x0, t, s):
    """rho, shape of xt: the posterior probability that the token did not change between s and t.

    0 where q_t(xt | x0) = 0: such a pair has no posterior, and the step redraws.
    """
    t, s = as_times(t, "xt", xt, more=True), as_times(s, "xt", xt, more=True, which="s")
    kept = jnp.where(xt == x0, kernel.alpha(t), 0)
    survived = kernel.noise_kept(x0, t, s) * kernel.noise_prob(xt, x0, s)
    return jnp.minimum(ratio(kept + survived, kernel.prob(xt, x0, t), 0), 1)


@takes_times
def noise_share(kernel: KernelBase, noise_kept, t, s):
    """kappa: the share of noise among the tokens at s that change until t; shapes of noise_kept and t broadcast."""
    renewed = (1 - noise_kept) * kernel.noise(s)
    return ratio(renewed, renewed + (kernel.alpha(s) - kernel.alpha(t)), 0)


def reverse_step(kernel: KernelBase, key, xt, x0, t, s):
    """Draws x_s ~ q(x_s | x_t, x0), exact for any step size s < t.

    Args:
        kernel: the process.
        key: a JAX random key.
        xt, x0: noisy and clean tokens of one shape.
        t, s: numbers, or times as for `KernelBase.corrupt`.

    Returns:
        int32 tokens of xt's shape.
    """
    xt, x0 = as_tokens("xt", xt), as_tokens("x0", x0)
    t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
    stay_key, return_key, noise_key = jax.random.split(key, 3)
    stay = stay_probability(kernel, xt, x0, t, s)
    share = noise_share(kernel, kernel.noise_kept(x0, t, s), t, s)
    stays = jax.random.uniform(stay_key, xt.shape, stay.dtype) < stay
    noisy = jax.random.uniform(return_key, xt.shape, share.dtype) < share
    return jnp.where(stays, xt, jnp.where(noisy, kernel.sample_noise(noise_key, x0, s), x0))


@takes_times
def return_rates(kernel: KernelBase, t):
    """Where a token came from that has just arrived at its value, given the clean token k.

    Args:
        kernel: the process.
        t: [...].

    Returns:
        (returned, redrawn), both [..., V] over k: P(the token was k) = returned(k), and
        P(it was the noise y) = redrawn(k) m_t(y | k).
    """
    alpha, alpha_dot = derivative(kernel.alpha, t)
    lost = kernel.noise_kept_rate(t)
    total = lost * kernel.noise(t)[..., None] - alpha_dot[..., None]
    return -alpha_dot[..., None] / total, lost / total
