"""What a run trains: a loss on a kernel's noise, or the plain chain rule for the autoregressive reference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.keys import check_options
from semdlm_jax.objectives.chunking import map_positions
from semdlm_jax.objectives.losses import LOSSES, LossInput, check
from semdlm_jax.objectives.posterior import Posterior


def stratified_times(key, batch_size, t_min, t_max, power=1.0):
    """[B] times t_min + (t_max - t_min) u^power: one uniform u in each of B equal strata of the whole global batch."""
    u = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    return jnp.clip(t_min + (t_max - t_min) * u**power, t_min, t_max)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training loss for a kernel.

    name: of LOSSES. lambda_changed, lambda_same: Eq. 120's weights, of `denoising`. t_min, t_max: range of times.
    time_power: times are drawn as u^power of that range and their losses reweighted, so that the objective stays what
    it is; above 1 small times are drawn more often, where a few changed tokens make large gradients. timesteps,
    ce_weight: of `d3pm`. gidd_weights: of `gidd`. y_samples: of `nelbo` where the kernel has no closed form: tokens
    that estimate its sum over the vocabulary; 0 sums exactly. chunk: positions of logits alive at a time.
    """

    name: str
    kernel: KernelBase
    parameterisation: str = "bayes"
    lambda_changed: float = 1.0
    lambda_same: float = 1.0
    t_min: float = 1e-3
    t_max: float = 1.0 - 1e-5
    time_power: float = 1.0
    timesteps: int = 1000
    ce_weight: float = 0.0
    gidd_weights: str = "dynamic"
    y_samples: int = 0
    chunk: int = 0

    def __post_init__(self):
        options = (field.name for field in dataclasses.fields(self) if field.name != "kernel")
        check_options("objective", **{name: getattr(self, name) for name in options})
        check(self)
        if not self.t_min < self.t_max:
            raise UserError(f"times must satisfy t_min < t_max, not t_min = {self.t_min}, t_max = {self.t_max}")
        self.posterior.check(self.kernel)  # refuses a weight it could not undo, too

    @property
    def posterior(self):
        weighted = self.name == "denoising"
        return Posterior(self.parameterisation, self.lambda_same / self.lambda_changed if weighted else 1.0)

    def corrupt(self, key, x0_BxL):
        """(x_t [B, L], t [B]): stratified times and tokens corrupted to them."""
        time_key, noise_key = jax.random.split(key)
        t_B = stratified_times(time_key, x0_BxL.shape[0], self.t_min, self.t_max, self.time_power)
        if self.name == "d3pm":
            t_B = jnp.ceil(t_B * self.timesteps) / self.timesteps
        return self.kernel.corrupt(noise_key, x0_BxL, t_B[:, None]), t_B

    def check_times(self) -> None:
        """UserError when a loss over whole steps would never meet some of them, which its sum cannot do without."""
        missed = np.sum(self.step_chances() == 0) if self.name == "d3pm" else 0
        if missed:
            raise UserError(
                f"objective 'd3pm' would never train {missed} of its {self.timesteps} steps: set objective.t_min below "
                f"1 / timesteps and objective.t_max above 1 - 1 / timesteps, not {self.t_min} and {self.t_max}"
            )

    def step_chances(self) -> np.ndarray:
        """[timesteps]: how often a time drawn is rounded up to the k-th of d3pm's, k / timesteps: u_k - u_{k-1}, where
        u^power of the range is k / timesteps at u_k, or an end of the range that lies between two steps."""
        share = (np.arange(self.timesteps + 1) / self.timesteps - self.t_min) / (self.t_max - self.t_min)
        return np.diff(np.clip(share, 0, 1) ** (1 / self.time_power))

    def importance(self, t: jax.Array) -> jax.Array:
        """What makes times drawn unevenly count as even ones: the loss at t [...] is worth so much; 1 for power 1.

        The density of uniform times over that of those drawn: power u^(power - 1). Times of d3pm are whole steps,
        of which each is to count 1 / timesteps: that over its chance. (With power 1 the loss is left as its authors':
        a step of which the range leaves something out is drawn less often by that share; the first, in D3PM's systems
        with t_min = 1e-6 and 1,000 steps, by 0.1 %.)
        """
        if self.name == "d3pm" and self.time_power != 1:
            chances = self.step_chances()
            worth = np.divide(1 / self.timesteps, chances, out=np.zeros_like(chances), where=chances > 0)
            return jnp.asarray(worth, t.dtype)[jnp.round(t * self.timesteps).astype(jnp.int32) - 1]
        u = jnp.clip((t - self.t_min) / (self.t_max - self.t_min), 0, 1) ** (1 / self.time_power)
        return self.time_power * u ** (self.time_power - 1)

    def sums(self, readout, features_BxLxD, x0_BxL, xt_BxL, t_B, mask_BxL, key):
        """(sum of losses, sum of weights) over the positions that mask marks. readout: [..., D] -> logits [..., V]."""
        importance_B = self.importance(t_B)
        place_BxL = jnp.broadcast_to(jnp.arange(x0_BxL.shape[1]), x0_BxL.shape)

        def positions(features, x0, xt, mask, place):
            own_key = jax.random.fold_in(key, place[0, 0])
            x = LossInput(readout(features), x0, xt, t_B[:, None], importance_B[:, None], own_key)
            loss, weight = LOSSES[self.name](self, x)
            return jnp.sum(loss * mask), jnp.sum(weight * mask)

        return map_positions(positions, features_BxLxD, x0_BxL, xt_BxL, mask_BxL, place_BxL, chunk=self.chunk)


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """The chain rule: every token from those before it. The network must be causal.

    start_id: stands before the first token; no text contains it. chunk: positions of logits alive at a time.
    """

    start_id: int
    chunk: int = 0

    def check_times(self) -> None:
        """Its tokens have no times."""

    def corrupt(self, key, x0_BxL):
        """(the tokens one place later, times of zero): what the network reads."""
        del key
        return self.shifted(x0_BxL), jnp.zeros(x0_BxL.shape[0])

    def shifted(self, x0_BxL):
        start = jnp.full_like(x0_BxL[:, :1], self.start_id)
        return jnp.concatenate([start, x0_BxL[:, :-1]], axis=1)

    def log_losses(self, logits, x0):
        """-log p(x0 | the tokens before), shape of x0; the start token has no chance."""
        allowed = jnp.where(jnp.arange(logits.shape[-1]) == self.start_id, -jnp.inf, logits)
        return -jnp.take_along_axis(jax.nn.log_softmax(allowed, axis=-1), x0[..., None], axis=-1)[..., 0]

    def sums(self, readout, features_BxLxD, x0_BxL, xt_BxL, t_B, mask_BxL, key):
        """(sum of negative log-likelihoods in nats, number of tokens) over the positions that mask marks."""
        del xt_BxL, t_B, key

        def positions(features, x0, mask):
            return jnp.sum(jnp.where(mask, self.log_losses(readout(features), x0), 0)), jnp.sum(mask, dtype=jnp.float32)

        return map_positions(positions, features_BxLxD, x0_BxL, mask_BxL, chunk=self.chunk)
