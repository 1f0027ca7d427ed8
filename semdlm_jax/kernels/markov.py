"""Kernels whose noise is a Markov chain: what happens to a token depends on what is there, not on the clean token.

The reverse process given x0 follows from Bayes' rule,

    q(x_s = y | x_t = z, x0) = q_{t|s}(z | y) q_s(y | x0) / q_t(z | x0),

and the likelihood bound is tight: with the exact posterior it is the entropy of the text. Its limit for small steps is
the rate R(z -> y | x0) = Q_t(y, z) q_t(y | x0) / q_t(z | x0), with Q the generator of the chain.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import at_token, ratio, take
from semdlm_jax.kernels.protocol import KernelBase, coin
from semdlm_jax.kernels.reverse import Reverse
from semdlm_jax.kernels.shapes import as_times, as_tokens

Array = jax.Array


class MarkovKernel(KernelBase):
    """A kernel that says how a state at s becomes another at t, beside its closed-form q_t.

    A kernel of one's own needs `jump_rates`. Without `transitions` it has the bound in continuous time and the sampler
    `tau_leaping`, and no steps of any size: the loss `d3pm` and the other samplers.
    """

    @abc.abstractmethod
    def jump_rates(self, xt: Array, t: Array) -> Array:
        """Q_t(y, xt) of every earlier state y, in 1 / unit of t: [..., N]. At y = xt: the rate of events that
        lead back to xt, if such are counted, and else 0."""

    def transitions(self, xt: Array, t: Array, s: Array) -> Array:
        """q_{t|s}(xt | y) of every earlier state y: [..., N]."""
        raise UserError(
            f"{type(self).__name__} has no `transitions`, which steps from a time to another need: write it, or give "
            "the sampler tau_leaping"
        )

    def expectations(self, values: Array, t: Array) -> Array:
        """sum_y v(y) q_t(y | k) of every clean token k: [..., V] of v [..., N]."""

        def of(k):
            return jnp.sum(values * self._states_given(jnp.full(values.shape[:-1], k), t), axis=-1)

        return jnp.moveaxis(jax.lax.map(of, jnp.arange(self.vocab_size)), 0, -1)

    def reverse(self, xt, t, s=None):
        xt = as_tokens("xt", xt, self.num_states)
        t = as_times(t, "xt", xt, more=True)
        likelihoods = self.likelihoods(xt, t)
        if s is None:
            return FromChain(self, xt, t, self.jump_rates(xt, t), likelihoods, False)
        s = as_times(s, "xt", xt, more=True, which="s")
        return FromChain(self, xt, s, self.transitions(xt, t, s), likelihoods, True)

    def reverse_step(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        return draw(key, self.reverse(xt, t, s).true(x0), x0)

    def reverse_leap(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        numbers, rest = coin(key, xt)
        rates = jnp.where(self._is_state(xt), 0, self.reverse(xt, t).true(x0))
        leaps = numbers < -jnp.expm1(-jnp.sum(rates, axis=-1) * (t - s))
        return jnp.where(leaps, draw(rest, rates, x0), xt)

    def arrival_rate(self, xt, x0, t):
        xt, x0 = as_tokens("xt", xt, self.num_states), as_tokens("x0", x0, self.vocab_size)
        return jnp.sum(self.reverse(xt, as_times(t, "xt", xt)).true(x0), axis=-1)

    def _states_given(self, x0, t):
        """q_t(y | x0) of every state y: [..., N]."""
        return self.noise_probs(x0, t) + jnp.where(self._is_state(x0), self.alpha(t)[..., None], 0)


def draw(key: Array, weights: Array, otherwise: Array) -> Array:
    """int32 states [...] in proportion to weights [..., N]; `otherwise` where all are zero."""
    sums = jnp.cumsum(weights, axis=-1)
    u = jax.random.uniform(key, weights.shape[:-1], weights.dtype) * sums[..., -1]
    drawn = jnp.minimum(jnp.sum(sums <= u[..., None], axis=-1), weights.shape[-1] - 1)
    return jnp.where(sums[..., -1] > 0, drawn, otherwise).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class FromChain(Reverse):
    """Bayes' rule on a chain.

    Args:
        kernel: the chain.
        xt: [...].
        time: of what x_t came from.
        forward: [..., N], how every state y comes to be x_t: rates, or chances.
        likelihoods: [..., V], q_t(x_t | k) of every clean token.
        is_step: whether `forward` are chances.
    """

    kernel: MarkovKernel
    xt: Array
    time: Array
    forward: Array
    likelihoods: Array
    is_step: bool

    @property
    def stay(self):
        """What stays is among the changes to x_t itself."""
        return jnp.zeros_like(self.likelihoods) if self.is_step else None

    @property
    def total(self):
        return ratio(self.kernel.expectations(self.forward, self.time), self.likelihoods, 0)

    @property
    def unseen(self):
        here = jnp.where(self.kernel._is_state(self.xt), self.forward, 0)
        return ratio(self.kernel.expectations(here, self.time), self.likelihoods, 0)

    def true(self, x0):
        before = self.kernel._states_given(x0, self.time)
        return ratio(self.forward * before, at_token(self.likelihoods, x0)[..., None], 0)

    def mixed(self, posterior):
        return self.forward * self.kernel.push_forward(ratio(posterior, self.likelihoods, 0), self.time)

    def true_at(self, x0, y):
        before = self.kernel.prob(y, x0[..., None], self.time[..., None])
        return ratio(take(self.forward, y) * before, at_token(self.likelihoods, x0)[..., None], 0)

    def mixed_at(self, posterior, y):
        return take(self.mixed(posterior), y)

    def sample(self, key, x0, count):
        rows = self.true(x0)
        return jax.vmap(lambda key: draw(key, rows, x0), out_axes=-1)(jax.random.split(key, count))
