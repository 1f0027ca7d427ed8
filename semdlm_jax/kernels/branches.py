"""The weights of a kernel's branches: alpha_t (keep), beta_t (global), sigma_t (semantic); and the neighborhood size
k_t.

Each class is a frozen dataclass over a `Schedule`. Its formulas are written in the schedule's noise level n = 1 -
alpha; with the linear schedule n is t, and they are those of the papers. `weights(t)` is elementwise in t. Derivatives
in t are taken of `weights` by forward-mode differentiation, so they cannot disagree with it. Where a closed form
exists, products are used instead of differences, which lose their digits in float32 near t = 0 and t = 1: sigma = n (1
- n), never 1 - alpha - beta.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.former import RenamedMethods, renamed_fields
from semdlm_jax.kernels.numerics import at_least, derivative
from semdlm_jax.kernels.schedules import SCHEDULES, Linear, Schedule, fall, power
from semdlm_jax.kernels.shapes import TakesTimes, misfit, takes_times
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, field, part

POWER, SHARE = "[0.001, 1000]", "[0, 1]"
K_MAX = number(16, "[1, 65536]", "K: the largest neighborhood")
GAMMA = number(1.0, POWER, "k_t = 1 + (K - 1) t^gamma")
ALPHA_MIN = number(0.0, SHARE, "Eq. 117: the share of tokens kept at t = 1")
ALPHA_POWER = number(1.0, POWER, "Eq. 117: the power b of 1 - t")
BETA_MAX = number(1.0, SHARE, "Eq. 118: the share of jumps at t = 1")
BETA_POWER = number(2.0, POWER, "Eq. 118: the power eta of t")
UNIFORM_SHARE = number(0.1, "[0, 1)", "GIDD's p_u")
HYBRID_GAMMA = number(1.0, "[0.001, 100]", "GIDD's gamma")


@renamed_fields(growth="k_minus_1", spread="prior_share", masked="mask_share")
class Weights(NamedTuple):
    """Branch weights at times t, each of t's shape; alpha + beta + sigma = 1.

    Attributes:
        alpha: the token is kept.
        beta: it jumps, by the global branch.
        sigma: it drifts to a neighbor.
        k_minus_1: k_t - 1, from 0 to k_max - 1; float32 would lose its digits in k_t at small t.
        prior_share, mask_share: shares of the kernel's prior nu and of the mask in the global branch, if these change
            with t; None if the global branch is always nu.
    """

    alpha: jax.Array
    beta: jax.Array
    sigma: jax.Array
    k_minus_1: jax.Array
    prior_share: jax.Array | None = None
    mask_share: jax.Array | None = None

    @property
    def k(self):
        return 1 + self.k_minus_1


@dataclasses.dataclass(frozen=True)
class Branches(Plugin, TakesTimes, abc.ABC):
    """The weights of the branches as functions of time. jumps_only, closed_form: as in `KernelBase`."""

    RETURNS = {"weights": lambda found, t: _weights_problem(found, t)}

    schedule: Schedule = part(SCHEDULES, Linear())

    jumps_only = False
    closed_form = None

    @abc.abstractmethod
    def weights(self, t: jax.Array) -> Weights:
        """The branch weights at times t."""

    def alpha_dot(self, t: jax.Array) -> jax.Array:
        """d alpha / dt, shape of t."""
        return derivative(lambda t: self.weights(t).alpha, t)[1]

    def kept_weight(self, vocab_size: int) -> Callable[[jax.Array], jax.Array] | None:
        """`KernelBase.kept_weight` at this vocabulary."""
        return None


def _weights_problem(found, t):
    """What is wrong with the result of a user's own `weights`; '' for Weights of times t."""
    if not isinstance(found, Weights):
        return f"a {type(found).__name__}: return branches.Weights"
    for name, values in zip(found._fields[:4], found):
        if wrong := misfit(values, jnp.shape(t), jnp.floating):
            return f"{wrong} as {name}: return floats of the shape of t, here {list(jnp.shape(t))}"
    return ""


@dataclasses.dataclass(frozen=True)
class Global(Branches):
    """Every change is a jump: beta = n (Eq. 5 and 6)."""

    jumps_only = True

    def alpha_dot(self, t):
        return self.schedule.alpha_dot(t)

    def weights(self, t):
        noise = self.schedule.noise(t)
        return Weights(self.schedule.alpha(t), noise, jnp.zeros_like(noise), jnp.zeros_like(noise))


@dataclasses.dataclass(frozen=True)
class Drifting(RenamedMethods, Branches):
    """Neighborhoods that grow: k = 1 + (k_max - 1) n^gamma."""

    FORMER = {"growth": "k_minus_1"}
    k_max: int = field(K_MAX)
    gamma: float = field(GAMMA)

    def k_minus_1(self, noise):
        return (self.k_max - 1) * power(noise, self.gamma)


class Semantic(Drifting):
    """Every change is a drift: sigma = n (Eq. 7)."""

    def weights(self, t):
        noise = self.schedule.noise(t)
        return Weights(self.schedule.alpha(t), jnp.zeros_like(noise), noise, self.k_minus_1(noise))


class SemanticThenGlobal(Drifting):
    """beta = n^2, sigma = n (1 - n) (Eq. 22)."""

    def weights(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        return Weights(alpha, noise * noise, noise * alpha, self.k_minus_1(noise))


@dataclasses.dataclass(frozen=True)
class Practical(Drifting):
    """alpha = a_min + (1 - a_min)(1 - n)^b, beta = b_max n^eta, sigma the rest (Eq. 117-118)."""

    alpha_min: float = field(ALPHA_MIN)
    alpha_power: float = field(ALPHA_POWER)
    beta_max: float = field(BETA_MAX)
    beta_power: float = field(BETA_POWER)

    def __post_init__(self):
        super().__post_init__()
        n = np.linspace(0.0, 1.0, 1001)
        kept = self.alpha_min + (1 - self.alpha_min) * (1 - n) ** self.alpha_power
        semantic = 1 - kept - self.beta_max * n**self.beta_power
        if semantic.min() < -1e-12:
            raise UserError(
                f"kernel 'semdlm_plus_practical' leaves the semantic branch {semantic.min():.3g} at noise "
                f"{n[semantic.argmin()]:.3f}: alpha_min + beta_max must not exceed 1 and beta_power must be at least "
                "about alpha_power"
            )

    def weights(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        room = 1 - self.alpha_min
        kept = room * power(alpha, self.alpha_power)
        beta = self.beta_max * power(noise, self.beta_power)
        # 1 - alpha - beta, written so that no nearly equal numbers are subtracted near t = 0 or t = 1.
        early = room * fall(noise, self.alpha_power) - beta
        late = (room - self.beta_max) + self.beta_max * fall(alpha, self.beta_power) - kept
        sigma = at_least(jnp.where(noise < 0.5, early, late), 0.0)  # with its derivative where it vanishes, at t = 1
        return Weights(self.alpha_min + kept, beta, sigma, self.k_minus_1(noise))


@dataclasses.dataclass(frozen=True)
class Hybrid(Branches):
    """GIDD: masks, and uniform noise whose share of all tokens is largest, uniform_share, at n = 1/2.

    alpha = (1 - n) / C, global branch (n mask + c nu) / C, c = B (n (1 - n))^(gamma / 2), C = 1 + c,
    B = 2^gamma p_u / (1 - p_u). With gamma above 2 uniform noise becomes less, near t = 1, faster than kept tokens do:
    then it is renewed more often than GIDD's formulas say, and the bound has no closed form.
    """

    uniform_share: float = field(UNIFORM_SHARE)
    gamma: float = field(HYBRID_GAMMA)

    @property
    def closed_form(self):
        if not self.uniform_share:
            return "masks"
        return "masks_and_uniform" if self.gamma <= 2 else None

    def kept_weight(self, vocab_size):
        """(B / (V - 1)) ((1 - alpha) / alpha)^(gamma / 2), by the schedule's alpha."""

        @takes_times
        def weight(t):
            odds = self.schedule.noise(t) / self.schedule.alpha(t)
            return self.height / (vocab_size - 1) * odds ** (self.gamma / 2)

        return weight

    @property
    def height(self):
        """B."""
        return 2**self.gamma * self.uniform_share / (1 - self.uniform_share)

    def weights(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        # Without uniform noise the power, whose derivative at 0 is infinite, is left out.
        bump = self.height * power(noise * alpha, self.gamma / 2) if self.uniform_share else jnp.zeros_like(noise)
        jumps = noise + bump
        safe = jnp.where(jumps > 0, jumps, 1)
        nothing = jnp.zeros_like(noise)
        return Weights(alpha / (1 + bump), jumps / (1 + bump), nothing, nothing, bump / safe, noise / safe)
