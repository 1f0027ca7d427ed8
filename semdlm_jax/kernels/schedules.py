"""Noise schedules: alpha_t, the chance that a token is still what it was, falling from 1 at t = 0.

A schedule says how fast noise comes; `kernels.branches` says what noise is. Any schedule goes with any kernel. Each
is a frozen dataclass of three elementwise functions of t in [0, 1], written so that float32 keeps the relative
accuracy of alpha near t = 1 and of the noise 1 - alpha near t = 0. To add one: write it and list it in SCHEDULES.
"""

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.keys import check_options


class Schedule(Protocol):
    def alpha(self, t: jax.Array) -> jax.Array: ...

    def noise(self, t: jax.Array) -> jax.Array:
        """1 - alpha."""

    def alpha_dot(self, t: jax.Array) -> jax.Array:
        """d alpha / dt."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """alpha = 1 - t."""

    def alpha(self, t):
        return 1 - t

    def noise(self, t):
        return t

    def alpha_dot(self, t):
        return -jnp.ones_like(t)


@dataclasses.dataclass(frozen=True)
class LogLinear:
    """alpha = 1 - (1 - eps) t, so that -log alpha stays finite (MDLM and SEDD, eps = 1e-3)."""

    eps: float = 1e-3

    def __post_init__(self):
        _check(self)

    def alpha(self, t):
        return self.eps + (1 - self.eps) * (1 - t)

    def noise(self, t):
        return (1 - self.eps) * t

    def alpha_dot(self, t):
        return jnp.full_like(t, -(1 - self.eps))


@dataclasses.dataclass(frozen=True)
class Cosine:
    """alpha = eps + (1 - eps) cos(pi t / 2) (MDLM, eps = 1e-3): little noise for long."""

    eps: float = 1e-3

    def __post_init__(self):
        _check(self)

    def alpha(self, t):
        return self.eps + (1 - self.eps) * jnp.sin(math.pi / 2 * (1 - t))

    def noise(self, t):
        return 2 * (1 - self.eps) * jnp.square(jnp.sin(math.pi / 4 * t))

    def alpha_dot(self, t):
        return -(1 - self.eps) * math.pi / 2 * jnp.sin(math.pi / 2 * t)


@dataclasses.dataclass(frozen=True)
class Geometric:
    """alpha = exp(-sigma), sigma = sigma_min^(1 - t) sigma_max^t (SEDD). A little noise is left at t = 0."""

    sigma_min: float = 1e-4
    sigma_max: float = 20.0

    def __post_init__(self):
        _check(self)
        if not self.sigma_min < self.sigma_max:
            raise UserError(
                f"schedule 'geometric' needs sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )

    def _sigma(self, t):
        return self.sigma_min * jnp.exp(math.log(self.sigma_max / self.sigma_min) * t)

    def alpha(self, t):
        return jnp.exp(-self._sigma(t))

    def noise(self, t):
        return -jnp.expm1(-self._sigma(t))

    def alpha_dot(self, t):
        return -math.log(self.sigma_max / self.sigma_min) * self._sigma(t) * self.alpha(t)


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """alpha = 1 - t^power: above 1, little noise for long (MD4)."""

    power: float = 2.0

    def __post_init__(self):
        _check(self)

    def alpha(self, t):
        late = t > 0.5
        return jnp.where(late, fall(jnp.where(late, 1 - t, 0.5), self.power), 1 - power(t, self.power))

    def noise(self, t):
        return power(t, self.power)

    def alpha_dot(self, t):
        return -self.power * power(t, self.power - 1)


def power(base, exponent):
    """base^exponent; jnp.power's derivative is neither exact at 0 for exponent 1 nor cheap."""
    return base if exponent == 1 else jnp.power(base, exponent)


def fall(t, exponent):
    """1 - (1 - t)^exponent, to full relative accuracy near t = 0."""
    return t if exponent == 1 else -jnp.expm1(exponent * jnp.log1p(-t))


def _check(schedule):
    check_options("kernel.schedule", **dataclasses.asdict(schedule))


SCHEDULES = {
    "linear": Linear,
    "loglinear": LogLinear,
    "cosine": Cosine,
    "geometric": Geometric,
    "polynomial": Polynomial,
}


def make_noise_schedule(name, **options):
    """The named schedule, from those of the options that it has. UserError for an unknown name or impossible values."""
    build = choose("schedule", name, SCHEDULES)
    return build(**{field.name: options[field.name] for field in dataclasses.fields(build) if field.name in options})
