"""How hard a posterior is to fit (paper, Eq. 15, 16 and 53 to 65), and how its uncertainty changes over time.

At the optimum the loss of a position has the Hessian Sigma(q) = diag(q) - q q' in the logits. Its rank is the number of
logits to fit, its trace turns an error of the logits into loss (Eq. 55), the trace of its square into the size of
gradients (Eq. 56).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
EPSILON = 1e-4  # of `effective`


class Geometry(NamedTuple):
    """Of one posterior, or means over states; arrays of one shape.

    Attributes:
        active: d_act = |support| - 1, the rank of Sigma (Eq. 16).
        effective: d_act of the tokens of probability epsilon or more: for dense kernels, whose support is everything.
        sensitivity: I1 = tr Sigma = 1 - |q|^2.
        energy: I2 = tr Sigma^2.
        entropy: of the posterior, in nats.
    """

    active: Array
    effective: Array
    sensitivity: Array
    energy: Array
    entropy: Array


def geometry(q: Array, epsilon: float = EPSILON) -> Geometry:
    """The Geometry of posteriors q [..., V], each [...]. With epsilon above all of q, `effective` is -1."""
    square = jnp.sum(q**2, axis=-1)
    log = jnp.log(jnp.where(q > 0, q, 1))
    return Geometry(
        active=jnp.sum(q > 0, axis=-1) - 1,
        effective=jnp.sum(q >= epsilon, axis=-1) - 1,
        sensitivity=jnp.sum(q * (1 - q), axis=-1),
        # tr (diag(q) - q q')^2, multiplied out.
        energy=square - 2 * jnp.sum(q**3, axis=-1) + square**2,
        entropy=-jnp.sum(q * log, axis=-1),
    )


def dispersion(entropy: Array, weights: Array) -> Array:
    """D(Q) = Var_t h(t), in nats squared (appendix B.6.2, Figure 3).

    Args:
        entropy: [T], h(t) = E H(q(x0 | x_t)) at the times of a quadrature over [0, 1].
        weights: [T], its weights, which sum to 1.
    """
    return jnp.sum(weights * (entropy - jnp.sum(weights * entropy)) ** 2)
