"""How noise is shared between the branches of a kernel: alpha_t (keep), beta_t (global), sigma_t (semantic), and the
neighbourhood size k_t.

Each is a frozen dataclass over a `Schedule`, whose noise level n = 1 - alpha is the clock: with the linear schedule
n is t, and the formulas are the papers'. `weights(t)` is elementwise in t; derivatives in t come from forward-mode
differentiation of that one definition, so they cannot disagree with it. Products are preferred to differences, which
float32 would lose near t = 0 and t = 1: sigma = n (1 - n), never 1 - alpha - beta, where a closed form exists.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.schedules import Linear, Schedule, fall, power
from semdlm_jax.keys import check_options


class Weights(NamedTuple):
    """Branch weights at times t, each of t's shape; alpha + beta + sigma = 1 and 0 <= growth <= k_max - 1.

    growth: k_t - 1, which float32 would lose in the sum at small t. spread, masked: the shares of the kernel's prior nu
    and of the mask in the global branch where these change with t; None where the global branch is nu throughout.
    """

    alpha: jax.Array
    beta: jax.Array
    sigma: jax.Array
    growth: jax.Array
    spread: jax.Array | None = None
    masked: jax.Array | None = None

    @property
    def k(self):
        return 1 + self.growth


class Branches(Protocol):
    schedule: Schedule

    def weights(self, t: jax.Array) -> Weights: ...


@dataclasses.dataclass(frozen=True)
class Global:
    """Every change is a jump: beta = n (Eq. 5 and 6)."""

    schedule: Schedule = Linear()

    def weights(self, t):
        noise = self.schedule.noise(t)
        return Weights(self.schedule.alpha(t), noise, jnp.zeros_like(noise), jnp.zeros_like(noise))


@dataclasses.dataclass(frozen=True)
class _Drifting:
    """Neighbourhoods that grow: k = 1 + (k_max - 1) n^gamma."""

    k_max: int
    gamma: float = 1.0
    schedule: Schedule = Linear()

    def __post_init__(self):
        check_options("kernel", k_max=self.k_max, gamma=self.gamma)

    def growth(self, noise):
        return (self.k_max - 1) * power(noise, self.gamma)


class Semantic(_Drifting):
    """Every change is a drift: sigma = n (Eq. 7)."""

    def weights(self, t):
        noise = self.schedule.noise(t)
        return Weights(self.schedule.alpha(t), jnp.zeros_like(noise), noise, self.growth(noise))


class SemanticThenGlobal(_Drifting):
    """beta = n^2, sigma = n (1 - n) (Eq. 22)."""

    def weights(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        return Weights(alpha, noise * noise, noise * alpha, self.growth(noise))


@dataclasses.dataclass(frozen=True)
class Practical(_Drifting):
    """alpha = a_min + (1 - a_min)(1 - n)^b, beta = b_max n^eta, sigma the rest (Eq. 117-118)."""

    alpha_min: float = 0.0
    alpha_power: float = 1.0
    beta_max: float = 1.0
    beta_power: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        names = "alpha_min alpha_power beta_max beta_power".split()
        check_options("kernel", **{name: getattr(self, name) for name in names})
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
        # 1 - alpha - beta, where neither end of time subtracts what is nearly equal.
        early = room * fall(noise, self.alpha_power) - beta
        late = (room - self.beta_max) + self.beta_max * fall(alpha, self.beta_power) - kept
        sigma = jnp.maximum(jnp.where(noise < 0.5, early, late), 0.0)
        return Weights(self.alpha_min + kept, beta, sigma, self.growth(noise))


@dataclasses.dataclass(frozen=True)
class Hybrid:
    """GIDD: masks, and a bump of uniform noise whose largest share of all tokens is uniform_share, at n = 1/2.

    alpha = (1 - n) / C, global branch (n mask + c nu) / C, c = B (n (1 - n))^(gamma / 2), C = 1 + c,
    B = 2^gamma p_u / (1 - p_u).
    """

    uniform_share: float = 0.1
    gamma: float = 1.0
    schedule: Schedule = Linear()

    def __post_init__(self):
        check_options("kernel", uniform_share=self.uniform_share, hybrid_gamma=self.gamma)

    @property
    def height(self):
        """B."""
        return 2**self.gamma * self.uniform_share / (1 - self.uniform_share)

    def weights(self, t):
        alpha, noise = self.schedule.alpha(t), self.schedule.noise(t)
        # Without a bump there is no infinite derivative to carry about.
        bump = self.height * power(noise * alpha, self.gamma / 2) if self.uniform_share else jnp.zeros_like(noise)
        jumps = noise + bump
        safe = jnp.where(jumps > 0, jumps, 1)
        nothing = jnp.zeros_like(noise)
        return Weights(alpha / (1 + bump), jumps / (1 + bump), nothing, nothing, bump / safe, noise / safe)
