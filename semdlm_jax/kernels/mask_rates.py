"""Masks at a rate of each token's own: frequent tokens are masked earlier or later than rare ones.

A token k is a mask at time t with chance n^w_k, where n is the noise level of the schedule and w_k its power. A larger
power masks it later. Since visible tokens are certain, this is a Markov chain, whose bound is tight. At a mask it is

    (n' / n) (-w_x0 log p(x0) + sum over k of p(k) w_k - w_x0).

Source:
    Shi et al. (2024), "Simplified and generalized masked diffusion for discrete data" (GenMD4), with fixed powers.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.markov import MarkovKernel
from semdlm_jax.kernels.numerics import ratio
from semdlm_jax.kernels.protocol import coin
from semdlm_jax.kernels.schedules import Schedule, fall, power
from semdlm_jax.kernels.shapes import as_times, as_tokens
from semdlm_jax.options import text

Array = jax.Array
FREQUENCY_POWERS = text(
    "",
    "w,w,…: the chance n^p of MASK or a symbol becomes n^(w p), a speed to it is divided by w; for classes of equal "
    "shares of the text, the frequent first; '': all alike",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MaskRates(MarkovKernel):
    """Absorbing noise with a power for every token; a pytree of device arrays.

    alpha is that of the token that is masked first. What another keeps beyond it counts as noise that gives the token
    itself.

    Args:
        powers: [V], w, above 0.
        schedule: of n.
        mask_id: the mask.
        least: the smallest power.
    """

    powers: Array
    schedule: Schedule = dataclasses.field(metadata={"static": True})
    mask_id: int = dataclasses.field(metadata={"static": True})
    least: float = dataclasses.field(metadata={"static": True})

    closed_form = "mask_rates"

    @classmethod
    def build(cls, powers, schedule: Schedule, mask_id: int) -> "MaskRates":
        """powers: [V], above 0; that of the mask is not read. UserError for other powers."""
        if not (np.delete(powers, mask_id) > 0).all():
            raise UserError("powers of tokens must be numbers above 0")
        powers = np.where(np.arange(len(powers)) == mask_id, np.delete(powers, mask_id).min(), powers)
        return cls(jnp.asarray(powers, jnp.result_type(float)), schedule, mask_id, float(powers.min()))

    @property
    def vocab_size(self):
        return self.powers.shape[0]

    def alpha(self, t):
        return fall(self.schedule.alpha(t), self.least)

    def noise(self, t):
        return power(self.schedule.noise(t), self.least)

    def masked(self, x0: Array, t: Array) -> Array:
        """The chance that x0 is a mask at time t; shapes broadcast."""
        return jnp.power(self.schedule.noise(t), self.powers[x0])

    def noise_prob(self, y, x0, t):
        return jnp.where(y == self.mask_id, self.masked(x0, t), 0) + jnp.where(y == x0, self._beyond(x0, t), 0)

    def _beyond(self, x0, t):
        """What x0 is kept beyond alpha, n^least - n^w."""
        return self.noise(t) * -jnp.expm1((self.powers[x0] - self.least) * self.schedule.log_noise(t))

    def noise_probs(self, x0, t):
        return self.noise_prob(jnp.arange(self.vocab_size), x0[..., None], t[..., None])

    def noise_likelihoods(self, xt, t):
        return self.noise_prob(xt[..., None], jnp.arange(self.vocab_size), t[..., None])

    def noise_matvec(self, w, t):
        tokens = jnp.arange(self.vocab_size)
        total = jnp.sum(w * self.masked(tokens, t[..., None]), axis=-1, keepdims=True)
        kept = w * self._beyond(tokens, t[..., None])
        return kept + jnp.where(tokens == self.mask_id, total, 0)

    def sample_noise(self, key, x0, t):
        masks = jax.random.uniform(key, x0.shape) * self.noise(t) < self.masked(x0, t)
        return jnp.where(masks, self.mask_id, x0).astype(jnp.int32)

    def sample_prior(self, key, shape):
        return jnp.full(shape, self.mask_id, jnp.int32)

    def prior_probs(self, t):
        return jnp.zeros(self.vocab_size, self.powers.dtype).at[self.mask_id].set(1)

    def transitions(self, xt, t, s):
        lost = self._lost(t, s)
        return jnp.where(xt[..., None] == self.mask_id, lost, 0) + jnp.where(self._is(xt), 1 - lost, 0)

    def _lost(self, t, s):
        """The chance that every token becomes a mask between s and t: [..., V]."""
        tokens = jnp.arange(self.vocab_size)
        before, after = self.masked(tokens, s[..., None]), self.masked(tokens, t[..., None])
        return jnp.where(tokens == self.mask_id, 0, ratio(after - before, self._kept(s), 0))

    def _kept(self, t):
        """[..., V]: the chance that every token is not masked."""
        return -jnp.expm1(self.powers * self.schedule.log_noise(t)[..., None])

    def jump_rates(self, xt, t):
        noise, slope = self.schedule.noise(t)[..., None], -self.schedule.alpha_dot(t)[..., None]
        rates = self.powers * jnp.power(noise, self.powers - 1) * slope / self._kept(t)
        return jnp.where((xt == self.mask_id)[..., None] & ~self._is(xt), rates, 0)

    def reverse_step(self, key, xt, x0, t, s):
        """A mask is still one with chance (n_s / n_t)^w."""
        xt, x0 = as_tokens("xt", xt, self.vocab_size), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        leaves = (xt == self.mask_id) & (coin(key, xt)[0] < self._shown(self.powers[x0], t, s))
        return jnp.where(leaves, x0, xt).astype(jnp.int32)

    def _shown(self, power, t, s):
        """The chance that a mask is one no longer."""
        return 1 - jnp.power(ratio(self.schedule.noise(s), self.schedule.noise(t), 0), power)

    def reverse_leap(self, key, xt, x0, t, s):
        """A mask is one no longer at the rate w n' / n."""
        xt, x0 = as_tokens("xt", xt, self.vocab_size), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        chance = -jnp.expm1(-self.powers[x0] * self._pace(t) * (t - s))
        leaves = (xt == self.mask_id) & (coin(key, xt)[0] < chance)
        return jnp.where(leaves, x0, xt).astype(jnp.int32)

    def _pace(self, t):
        return ratio(-self.schedule.alpha_dot(t), self.schedule.noise(t))

    def leaving_bound(self, xt, t, s=None):
        largest = jnp.max(self.powers)
        most = largest * self._pace(t) if s is None else self._shown(largest, t, s)
        return jnp.where(xt == self.mask_id, most, 0)

    def certain(self, xt):
        return xt != self.mask_id


def frequency_powers(counts: np.ndarray, powers: tuple[float, ...]) -> np.ndarray:
    """[V]: the powers by `frequency_classes`."""
    return np.asarray(powers)[frequency_classes(counts, len(powers))]


def frequency_classes(counts: np.ndarray, number: int) -> np.ndarray:
    """[V]: classes 0, ..., number - 1 of frequency, each of an equal share of the text, the most frequent first.

    UserError where a token, or a block, has so much of the text that nothing is left for a class.
    """
    order = np.argsort(-counts, kind="stable")
    share = np.cumsum(counts[order]) - counts[order] / 2
    classes = np.empty(len(counts), int)
    classes[order] = np.minimum(share / max(counts.sum(), 1) * number, number - 1).astype(int)
    classes[counts == 0] = number - 1
    if (empty := np.setdiff1d(np.arange(number), classes)).size:
        raise UserError(
            f"kernel.frequency_powers has {number} numbers, but no token would have number {empty[0] + 1}: a token, or "
            "a block that is drawn from, has more than such a share of the text; give fewer numbers"
        )
    return classes
