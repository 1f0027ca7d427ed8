"""The gradient noise of Eq. 19 and 90 where it is a function of the kernel alone.

The denoiser is a table: logits for every state x, the same at all times, as of a network without time conditioning that
can learn everything. Its optimum is known, p*(k | x) = E_t[q_t(x, k)] / E_t[q_t(x)], and so is the gradient of a draw
of -log p*(x0 | x_t): p* - e_{x0} in the row x_t. With t uniform, no training is needed:

    total    E |p* - e_{x0}|^2 = sum_x q(x) (1 - |p*(x)|^2),                     q(x) = E_t q_t(x)
    between  Var_t of the mean gradient = sum_x E_t |q_t(x) p*(x) - q_t(x, .)|^2
    within   total - between

A table for every time has p* = q_t and nothing between; a denoiser that cannot tell states apart has nothing between
either (`claims`). So what lies between steps says as much of the denoiser as of the kernel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import ratio

Array = jax.Array


class GradientVariance(NamedTuple):
    """Squared norms of gradients, of a state or summed over states; see the module."""

    within: Array
    between: Array

    @property
    def total(self) -> Array:
        return self.within + self.between


def gradient_variance(joint: Array, weights: Array) -> GradientVariance:
    """Each state's share.

    Args:
        joint: [T, ..., V], q_t(x, k) = p(k) q_t(x | k) of states x [...] at the times of a quadrature over [0, 1].
        weights: [T], its weights, which sum to 1.

    Returns:
        GradientVariance of arrays [...].
    """
    time = weights.reshape(-1, *(1,) * (joint.ndim - 1))
    mean = jnp.sum(time * joint, axis=0)
    visits = jnp.sum(mean, axis=-1)
    best = ratio(mean, visits[..., None], 0)
    misses = jnp.sum(joint, axis=-1, keepdims=True) * best - joint
    between = jnp.sum(time * misses**2, axis=(0, -1))
    return GradientVariance(visits * jnp.sum(best * (1 - best), axis=-1) - between, between)
