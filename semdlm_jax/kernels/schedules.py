"""Noise schedules: alpha_t, the probability that a token has not changed; it falls from 1 at t = 0.

A schedule says how fast noise is added; `kernels.branches` says what the noise is. Every schedule works with every
kernel. Each is a plug-in with three elementwise functions of t in [0, 1]. They are written so that float32 keeps the
relative accuracy of alpha near t = 1 and of the noise 1 - alpha near t = 0. To add one, write its class and list it in
SCHEDULES.
"""

import abc
import dataclasses
import math

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.shapes import TakesTimes, misfit
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, Registry, field

LEFT = number(1e-3, "[0, 1)", "alpha at t = 1")
LARGEST_SIGMA = 80.0


class Schedule(Plugin, TakesTimes, abc.ABC):
    """How alpha falls with time; all methods are elementwise in t."""

    RETURNS = {name: lambda found, t: _elementwise_problem(found, t) for name in ("alpha", "noise", "alpha_dot")}

    @abc.abstractmethod
    def alpha(self, t: jax.Array) -> jax.Array:
        """The probability that a token has not changed."""

    @abc.abstractmethod
    def noise(self, t: jax.Array) -> jax.Array:
        """1 - alpha."""

    @abc.abstractmethod
    def alpha_dot(self, t: jax.Array) -> jax.Array:
        """d alpha / dt."""

    def log_noise(self, t: jax.Array) -> jax.Array:
        """log(1 - alpha), to full relative accuracy at both ends; finite where there is no noise."""
        noise, alpha = self.noise(t), self.alpha(t)
        early = jnp.log(jnp.maximum(noise, jnp.finfo(noise.dtype).tiny))
        return jnp.where(noise < 0.5, early, jnp.log1p(-jnp.minimum(alpha, 0.5)))


def _elementwise_problem(found, t):
    """What is wrong with the result of a user's own method of times t; '' for floats of their shape."""
    wrong = misfit(found, jnp.shape(t), jnp.floating)
    return f"{wrong}: return floats of the shape of t, here {list(jnp.shape(t))}" if wrong else ""


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """alpha = 1 - t."""

    def alpha(self, t):
        return 1 - t

    def noise(self, t):
        return t

    def alpha_dot(self, t):
        return -jnp.ones_like(t)


@dataclasses.dataclass(frozen=True)
class LogLinear(Schedule):
    """alpha = 1 - (1 - eps) t, so that -log alpha stays finite (MDLM and SEDD, eps = 1e-3)."""

    eps: float = field(LEFT)

    def alpha(self, t):
        return self.eps + (1 - self.eps) * (1 - t)

    def noise(self, t):
        return (1 - self.eps) * t

    def alpha_dot(self, t):
        return jnp.full_like(t, -(1 - self.eps))


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = eps + (1 - eps) cos(pi t / 2) (MDLM, eps = 1e-3): the noise grows slowly at first."""

    eps: float = field(LEFT)

    def alpha(self, t):
        return self.eps + (1 - self.eps) * jnp.sin(math.pi / 2 * (1 - t))

    def noise(self, t):
        return 2 * (1 - self.eps) * jnp.square(jnp.sin(math.pi / 4 * t))

    def alpha_dot(self, t):
        return -(1 - self.eps) * math.pi / 2 * jnp.sin(math.pi / 2 * t)


@dataclasses.dataclass(frozen=True)
class Geometric(Schedule):
    """alpha = exp(-sigma), sigma = sigma_min^(1 - t) sigma_max^t (SEDD). A little noise is left at t = 0."""

    sigma_min: float = field(number(1e-4, "[1e-9, 1000]", "total noise at t = 0"))
    sigma_max: float = field(number(20.0, "[1e-9, 10000]", "total noise at t = 1"))

    def __post_init__(self):
        super().__post_init__()
        if not self.sigma_min < self.sigma_max:
            raise UserError(
                f"schedule 'geometric' needs sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )

    def _sigma(self, t):
        # Beyond, alpha would be 0 in float32, and the rate -alpha_dot / alpha no number.
        return jnp.minimum(self.sigma_min * jnp.exp(math.log(self.sigma_max / self.sigma_min) * t), LARGEST_SIGMA)

    def alpha(self, t):
        return jnp.exp(-self._sigma(t))

    def noise(self, t):
        return -jnp.expm1(-self._sigma(t))

    def alpha_dot(self, t):
        return -math.log(self.sigma_max / self.sigma_min) * self._sigma(t) * self.alpha(t)


@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """alpha = 1 - t^power: with a power above 1 the noise grows slowly at first (MD4)."""

    power: float = field(number(2.0, "[0.001, 1000]", "above 1 the noise grows slowly at first"))

    def alpha(self, t):
        late = t > 0.5
        return jnp.where(late, fall(jnp.where(late, 1 - t, 0.5), self.power), 1 - power(t, self.power))

    def noise(self, t):
        return power(t, self.power)

    def alpha_dot(self, t):
        return -self.power * power(t, self.power - 1)


def power(base, exponent):
    """base^exponent. For exponent 1 without jnp.power, whose derivative is not exact at 0 and costs time."""
    return base if exponent == 1 else jnp.power(base, exponent)


def fall(t, exponent):
    """1 - (1 - t)^exponent, to full relative accuracy near t = 0."""
    return t if exponent == 1 else -jnp.expm1(exponent * jnp.log1p(-t))


SCHEDULES = Registry(
    "schedule",
    Schedule,
    {
        "linear": Linear,
        "loglinear": LogLinear,
        "cosine": Cosine,
        "geometric": Geometric,
        "polynomial": Polynomial,
    },
)
