"""Noise schedules: the branch weights alpha_t (keep), beta_t (global), sigma_t (semantic) and the neighbourhood size
k_t.

A schedule is a frozen dataclass whose `weights(t)` returns `Weights`, elementwise in t in [0, 1]. Derivatives in t come
from forward-mode differentiation of that one definition (`kernels.family`), so they cannot disagree with it. Weights
are written so that float32 keeps its relative accuracy near t = 0 and t = 1: sigma = t(1-t), never 1 - alpha - beta,
where a closed form exists.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError


class Weights(NamedTuple):
    """Branch weights at times t, each of t's shape; alpha + beta + sigma = 1 and 0 <= growth <= k_max - 1.

    The neighbourhood size is held as its growth from 1, which float32 would lose in the sum at small t.
    """

    alpha: jax.Array
    beta: jax.Array
    sigma: jax.Array
    growth: jax.Array

    @property
    def k(self):
        return 1 + self.growth


class Schedule(Protocol):
    def weights(self, t: jax.Array) -> Weights: ...


@dataclasses.dataclass(frozen=True)
class Linear:
    """alpha = 1 - t, beta = t: every change is a global one (Eq. 5 and 6 with the linear decay)."""

    def weights(self, t):
        return Weights(1 - t, t, jnp.zeros_like(t), jnp.zeros_like(t))


@dataclasses.dataclass(frozen=True)
class SemanticThenGlobal:
    """alpha = 1 - t, beta = t^2, sigma = t(1 - t), k = 1 + (k_max - 1) t^gamma (Eq. 22)."""

    k_max: int
    gamma: float = 1.0

    def __post_init__(self):
        _check_growth(self.k_max, self.gamma)

    def weights(self, t):
        return Weights(1 - t, t * t, t * (1 - t), (self.k_max - 1) * _power(t, self.gamma))


@dataclasses.dataclass(frozen=True)
class Practical:
    """alpha = a_min + (1 - a_min)(1 - t)^b, beta = b_max t^eta, sigma the rest, k as above (Eq. 117-118)."""

    k_max: int
    gamma: float = 1.0
    alpha_min: float = 0.0
    alpha_power: float = 1.0
    beta_max: float = 1.0
    beta_power: float = 2.0

    def __post_init__(self):
        _check_growth(self.k_max, self.gamma)
        if not 0 <= self.alpha_min <= 1 or self.beta_max < 0 or self.alpha_power <= 0 or self.beta_power <= 0:
            raise UserError(
                "schedule 'practical' needs 0 <= alpha_min <= 1, beta_max >= 0, alpha_power > 0 and beta_power > 0, "
                f"not {self.alpha_min}, {self.beta_max}, {self.alpha_power} and {self.beta_power}"
            )
        t = np.linspace(0.0, 1.0, 1001)
        kept = self.alpha_min + (1 - self.alpha_min) * (1 - t) ** self.alpha_power
        semantic = 1 - kept - self.beta_max * t**self.beta_power
        if semantic.min() < -1e-12:
            raise UserError(
                f"schedule 'practical' leaves the semantic branch {semantic.min():.3g} at t = "
                f"{t[semantic.argmin()]:.3f}: alpha_min + beta_max must not exceed 1 and beta_power must be at least "
                "about alpha_power"
            )

    def weights(self, t):
        room = 1 - self.alpha_min
        kept = room * _power(1 - t, self.alpha_power)
        beta = self.beta_max * _power(t, self.beta_power)
        # 1 - alpha - beta, where neither end of time subtracts what is nearly equal.
        early = room * _fall(t, self.alpha_power) - beta
        late = (room - self.beta_max) + self.beta_max * _fall(1 - t, self.beta_power) - kept
        sigma = jnp.maximum(jnp.where(t < 0.5, early, late), 0.0)
        return Weights(self.alpha_min + kept, beta, sigma, (self.k_max - 1) * _power(t, self.gamma))


def _power(base, exponent):
    # jnp.power's derivative is exact at 0 for exponent 1, and cheap.
    return base if exponent == 1 else jnp.power(base, exponent)


def _fall(t, exponent):
    """1 - (1 - t)^exponent, to full relative accuracy near t = 0."""
    return t if exponent == 1 else -jnp.expm1(exponent * jnp.log1p(-t))


def _check_growth(k_max, gamma):
    if k_max < 1 or gamma <= 0:
        raise UserError(f"a semantic kernel needs k_max >= 1 and gamma > 0, not k_max = {k_max} and gamma = {gamma}")
