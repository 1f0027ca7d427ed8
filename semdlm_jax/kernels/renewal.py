"""Keep or renew: a reverse process for any noise m_t(. | x0), with one number for each clean token.

Given x0, between s and t a kept token stays kept with chance alpha_t / alpha_s, noise stays as it is with chance b(x0),
and what did not stay is drawn anew from what q_t lacks. This has the marginals q_t for any b with b m_s <= m_t. Seen
backwards:

    x_s = x_t           with chance rho = (alpha_t 1[x_t = x0] + b m_s(x_t | x0)) / q_t(x_t | x0), and otherwise
    x_s ~ m_s(. | x0)   with chance kappa = (1 - b) (1 - alpha_s) / ((1 - b) (1 - alpha_s) + alpha_s - alpha_t)
    x_s = x0            with chance 1 - kappa

With lambda = -db/dt at s = t, x_t is found to have just arrived at its value at the rate (m'_t + lambda m_t) / q_t.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import derivative, ratio, take
from semdlm_jax.kernels.reverse import Coupled, NoisePart, Origins, other_than

Array = jax.Array


class KeepOrRenew(Coupled):
    """A kernel that says which share of the noise stays as it is."""

    @abc.abstractmethod
    def noise_kept(self, x0: Array, t: Array, s: Array) -> Array:
        """b(x0), shape of x0: the chance that noise at time s is unchanged at t > s. b m_s <= m_t for every token."""

    @abc.abstractmethod
    def noise_kept_rate(self, t: Array) -> Array:
        """lambda = -db/dt at s = t of every clean token: [..., V], in 1 / unit of t."""

    def sample_other_noise(self, key: Array, x0: Array, xt: Array, t: Array, wanted: Array) -> Array:
        """As `sample_noise`, given that it is not xt, where that is wanted and possible."""
        return other_than(lambda key: self.sample_noise(key, x0, t), key, xt, wanted)

    def noise_parts(self, t):
        return (AllNoise(self, t),)

    def origins(self, xt, x0, t, s=None):
        is_kept = xt == x0
        if s is None:
            t = jnp.broadcast_to(t, xt.shape)
            noise, dot = derivative(lambda t: self.noise_prob(xt, x0, t), t)
            lost = take(self.noise_kept_rate(t), x0[..., None])[..., 0]
            return self._rates(is_kept, noise, dot, lost, t)
        after, before = self.noise_prob(xt, x0, t), self.noise_prob(xt, x0, s)
        return self._chances(is_kept, after, before, self.noise_kept(x0, t, s), t, s)

    def all_origins(self, xt, t, s=None):
        tokens = jnp.arange(self.vocab_size)
        is_kept, wide = xt[..., None] == tokens, t[..., None]
        if s is None:
            noise, dot = derivative(lambda t: self.noise_likelihoods(xt, t), t)
            return self._rates(is_kept, noise, dot, self.noise_kept_rate(t), wide)
        after, before = self.noise_likelihoods(xt, t), self.noise_likelihoods(xt, s)
        kept = self.noise_kept(jnp.broadcast_to(tokens, (*t.shape, self.vocab_size)), wide, s[..., None])
        return self._chances(is_kept, after, before, kept, wide, s[..., None])

    def _chances(self, is_kept, noise_t, noise_s, noise_kept, t, s):
        kept = jnp.where(is_kept, self.alpha(t), 0)
        stay = jnp.minimum(ratio(kept + noise_kept * noise_s, kept + noise_t, 0), 1)
        renewed = (1 - noise_kept) * self.noise(s)
        share = ratio(renewed, renewed + (self.alpha(s) - self.alpha(t)), 0)
        return Origins(stay, (1 - stay) * (1 - share), ((1 - stay) * share,))

    def _rates(self, is_kept, noise, noise_dot, lost, t):
        alpha, alpha_dot = derivative(self.alpha, t)
        arrived = ratio(jnp.maximum(noise_dot + lost * noise, 0), noise + jnp.where(is_kept, alpha, 0), 0)
        renewed = lost * self.noise(t)
        total = renewed - alpha_dot
        return Origins(None, arrived * (-alpha_dot / total), (arrived * (renewed / total),))


@dataclasses.dataclass(frozen=True)
class AllNoise(NoisePart):
    """The noise of a kernel at time t as one `reverse.NoisePart`: m_t(. | k) / (1 - alpha_t)."""

    kernel: KeepOrRenew
    t: Array

    def prob_at(self, x0, y):
        return self._each(self.kernel.noise_prob(y, x0[..., None], self.t[..., None]))

    def probs(self, x0):
        return self._each(self.kernel.noise_probs(x0, self.t))

    def likelihoods(self, xt):
        return self._each(self.kernel.noise_likelihoods(xt, self.t))

    def matvec(self, w):
        return self.kernel.noise_matvec(self._each(w), self.t)

    def matvec_at(self, w, y):
        return self.kernel.noise_matvec_at(self._each(w), y, self.t)

    def sample(self, key, x0):
        return self.kernel.sample_noise(key, x0, self.t)

    def sample_other(self, key, x0, xt, wanted):
        return self.kernel.sample_other_noise(key, x0, xt, self.t, wanted)

    def _each(self, values):
        return ratio(values, self.kernel.noise(self.t)[..., None], 0)
