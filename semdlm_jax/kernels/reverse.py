"""The reverse process when the clean token is known.

A kernel chooses a joint law of x_s and x_t given x0 with the marginals q_s and q_t. Here it is told by *origins*: given
x0 and the token x_t, with which chance x_t is x_s itself (it stayed), and with which chance it has changed since, from
x0 or from a part of the noise of time s. For times that approach each other these chances become rates.

`renewal` and `split` choose such laws. The tighter of two has less information about x0 in a step back, and the
likelihood bound is the tighter for it; the marginals, and so what `corrupt` draws, are the same.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels.numerics import add_at, at_token, take
from semdlm_jax.kernels.protocol import KernelBase, coin
from semdlm_jax.kernels.shapes import as_times, as_tokens

Array = jax.Array

# Redraws after which `other_than` gives up: this loses a chance of 1 / (e TRIES) at most, which float32 cannot tell.
TRIES = 2**20


class Origins(NamedTuple):
    """Where x_t came from, given x_t and a clean token.

    Chances of a step to s, which sum to 1; or rates at t, in 1 / unit of t, without `stay`. All zero where x_t cannot
    come from the clean token.

    Attributes:
        stay: x_s is x_t, because it did not change.
        kept: it has changed, and x_s is the clean token.
        noise: it has changed, and x_s is noise: one array for each of the kernel's parts of noise.
    """

    stay: Array | None
    kept: Array
    noise: tuple[Array, ...]

    @property
    def changed(self) -> Array:
        """The chance, or rate, of having changed: shape of `kept`."""
        return sum(self.noise, start=self.kept)

    def leaving(self, xt: Array, x0: Array, parts: "Sequence[NoisePart]") -> "Origins":
        """The share of each that is another token than xt, without `stay`; of origins given x0, arrays of its shape."""
        noise = (weight * part.other_prob(x0, xt) for weight, part in zip(self.noise, parts, strict=True))
        return Origins(None, jnp.where(xt == x0, 0, self.kept), tuple(noise))


class NoisePart(abc.ABC):
    """A part of the noise at a certain time: a distribution over tokens for every clean token k."""

    @abc.abstractmethod
    def prob_at(self, x0: Array, y: Array) -> Array:
        """The chances of the tokens y [..., S] given x0 [...]: [..., S]."""

    @abc.abstractmethod
    def probs(self, x0: Array) -> Array:
        """The chance of every token: [..., V]."""

    @abc.abstractmethod
    def likelihoods(self, xt: Array) -> Array:
        """The chance of xt given every clean token: [..., V]."""

    @abc.abstractmethod
    def matvec(self, w: Array) -> Array:
        """y -> sum_k w(k) P(y | k): [..., V] of w [..., V]."""

    @abc.abstractmethod
    def matvec_at(self, w: Array, y: Array) -> Array:
        """`matvec` at the tokens y [..., S] alone: [..., S]."""

    @abc.abstractmethod
    def sample(self, key: Array, x0: Array) -> Array:
        """int32 tokens of x0's shape. All parts are given the same key."""

    def other_prob(self, x0: Array, xt: Array) -> Array:
        """The chance of a token other than xt: shape of x0."""
        return jnp.maximum(1 - self.prob_at(x0, xt[..., None])[..., 0], 0)

    def sample_other(self, key: Array, x0: Array, xt: Array, wanted: Array) -> Array:
        """As `sample`, given that it is not xt, where that is wanted and possible."""
        return other_than(lambda key: self.sample(key, x0), key, xt, wanted)


def other_than(sample: Callable[[Array], Array], key: Array, xt: Array, wanted: Array) -> Array:
    """sample(key) given that it is not xt where that is wanted, by drawing again: int32 of xt's shape."""

    def missed(state):
        key, drawn, tries = state
        return jnp.any((drawn == xt) & wanted) & (tries < TRIES)

    def again(state):
        key, drawn, tries = state
        key, now = jax.random.split(key)
        return key, jnp.where((drawn == xt) & wanted, sample(now), drawn), tries + 1

    key, first = jax.random.split(key)
    # Under vmap the numbers of JAX's other generators come from the key of the first row: with that row done, it would
    # stand still, and the loop would see the same numbers for ever.
    own = jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
    return jax.lax.while_loop(missed, again, (own, sample(first), 0))[1]


class Reverse(abc.ABC):
    """The changes of x_t back in time, for every clean token k: R(x_t -> y | k), rates or chances.

    Attributes:
        stay: [..., V], the chance that x_t did not change, for a step; None for rates.
        total: [..., V], the sum over all y of R(x_t -> y | k).
        unseen: [..., V], R(x_t -> x_t | k): changes that lead to the same token.
    """

    stay: Array | None
    total: Array
    unseen: Array

    @abc.abstractmethod
    def true(self, x0: Array) -> Array:
        """R(x_t -> y | x0) of every token y: [..., V]. x0: [...]."""

    @abc.abstractmethod
    def mixed(self, posterior: Array) -> Array:
        """sum_k p(k) R(x_t -> y | k) of every token y: [..., V]. posterior: [..., V]."""

    @abc.abstractmethod
    def true_at(self, x0: Array, y: Array) -> Array:
        """`true` at the tokens y [..., S] alone: [..., S]."""

    @abc.abstractmethod
    def mixed_at(self, posterior: Array, y: Array) -> Array:
        """`mixed` at the tokens y [..., S] alone: [..., S]."""

    @abc.abstractmethod
    def sample(self, key: Array, x0: Array, count: int) -> Array:
        """int32 tokens [..., count] from R(x_t -> . | x0), normalized; x_t itself included."""


@dataclasses.dataclass(frozen=True)
class FromOrigins(Reverse):
    """origins: of all clean tokens, [..., V] each. parts: of the noise at the time of the step back."""

    xt: Array
    origins: Origins
    parts: tuple[NoisePart, ...]

    @property
    def stay(self):
        return self.origins.stay

    @property
    def total(self):
        return self.origins.changed

    @property
    def unseen(self):
        here = self.xt[..., None] == jnp.arange(self.origins.kept.shape[-1])
        back = jnp.where(here, self.origins.kept, 0)
        return sum((w * part.likelihoods(self.xt) for w, part in self._noise()), back)

    def true(self, x0):
        rows = sum(at_token(w, x0)[..., None] * part.probs(x0) for w, part in self._noise())
        return add_at(rows, x0[..., None], at_token(self.origins.kept, x0)[..., None])

    def mixed(self, posterior):
        return sum((part.matvec(posterior * w) for w, part in self._noise()), posterior * self.origins.kept)

    def true_at(self, x0, y):
        back = jnp.where(y == x0[..., None], at_token(self.origins.kept, x0)[..., None], 0)
        noise = (at_token(w, x0)[..., None] * part.prob_at(x0, y) for w, part in self._noise())
        return sum(noise, back)

    def mixed_at(self, posterior, y):
        back = take(posterior * self.origins.kept, y)
        return sum((part.matvec_at(posterior * w, y) for w, part in self._noise()), back)

    def sample(self, key, x0, count):
        origins = Origins(None, at_token(self.origins.kept, x0), tuple(at_token(w, x0) for w, _ in self._noise()))
        shape = (count, *x0.shape)
        origins = jax.tree.map(lambda weight: jnp.broadcast_to(weight, shape), origins)
        drawn = draw_origin(jax.random.split(key), origins, jnp.broadcast_to(x0, shape), self.parts)
        return jnp.moveaxis(drawn, 0, -1)

    def _noise(self):
        return zip(self.origins.noise, self.parts, strict=True)


def draw_origin(keys: Array, origins: Origins, x0: Array, parts: Sequence[NoisePart]) -> Array:
    """Draws x_s of tokens that have changed: int32 of x0's shape; x0 where no origin is possible. keys: two."""
    coin_key, noise_key = keys
    u = jax.random.uniform(coin_key, x0.shape, origins.kept.dtype) * origins.changed
    drawn, below = x0, sum(origins.noise)
    for part, weight in zip(parts, origins.noise, strict=True):
        drawn = jnp.where(u < below, part.sample(noise_key, x0), drawn)
        below = below - weight
    return drawn


def _leave(key, chance, leaving, xt, x0, parts):
    """int32: xt, and with this chance another token by the origins of `Origins.leaving`."""
    numbers, rest = coin(key, xt)
    leaves, (origin_key, noise_key) = numbers < chance, jax.random.split(rest)
    u = jax.random.uniform(origin_key, x0.shape, leaving.kept.dtype) * leaving.changed
    drawn, below = x0, sum(leaving.noise)
    for part, weight in zip(parts, leaving.noise, strict=True):
        picked = leaves & (u < below) & (u >= below - weight)
        drawn = jnp.where(picked, part.sample_other(noise_key, x0, xt, picked), drawn)
        below = below - weight
    return jnp.where(leaves, drawn, xt)


class Coupled(KernelBase):
    """A kernel whose reverse process is told by origins."""

    @abc.abstractmethod
    def origins(self, xt: Array, x0: Array, t: Array, s: Array | None = None) -> Origins:
        """The Origins of xt given x0, arrays of xt's shape. s: of a step back; None for rates."""

    @abc.abstractmethod
    def all_origins(self, xt: Array, t: Array, s: Array | None = None) -> Origins:
        """The Origins of xt given every clean token: [..., V] each."""

    @abc.abstractmethod
    def noise_parts(self, t: Array) -> tuple[NoisePart, ...]:
        """The parts of the noise at time t."""

    def reverse(self, xt, t, s=None):
        xt = as_tokens("xt", xt, self.vocab_size)
        t = as_times(t, "xt", xt, more=True)
        s = s if s is None else as_times(s, "xt", xt, more=True, which="s")
        parts = self.noise_parts(t if s is None else s)
        return FromOrigins(xt=xt, origins=self.all_origins(xt, t, s), parts=parts)

    def reverse_step(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.vocab_size), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        origins, parts = self.origins(xt, x0, t, s), self.noise_parts(s)
        assert origins.stay is not None  # of a step
        leaving = origins.leaving(xt, x0, parts)
        stepped = _leave(key, leaving.changed, leaving, xt, x0, parts)
        return jnp.where(origins.stay + origins.changed > 0, stepped, x0)

    def reverse_leap(self, key, xt, x0, t, s):
        xt, x0 = as_tokens("xt", xt, self.vocab_size), as_tokens("x0", x0, self.vocab_size)
        t, s = as_times(t, "xt", xt), as_times(s, "xt", xt, which="s")
        parts = self.noise_parts(t)
        leaving = self.origins(xt, x0, t).leaving(xt, x0, parts)
        return _leave(key, -jnp.expm1(-leaving.changed * (t - s)), leaving, xt, x0, parts)

    def arrival_rate(self, xt, x0, t):
        xt, x0 = as_tokens("xt", xt, self.vocab_size), as_tokens("x0", x0, self.vocab_size)
        return self.origins(xt, x0, as_times(t, "xt", xt)).changed
