"""Training losses. To add one: a function of `LossInput` that returns (loss, weight) a position, and a line in LOSSES.

A training step minimises sum(loss) / sum(weight) over the positions that count, whatever the loss: that is what lets
gradient accumulation add up weighted sums and divide once.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.kernels import Kernel
from semdlm_jax.objectives import bound, closed_forms
from semdlm_jax.objectives.chunking import map_positions
from semdlm_jax.objectives.posterior import Posterior


class LossInput(NamedTuple):
    """logits [B, c, V]; clean and noisy tokens [B, c]; t [B, 1]; importance [B, 1], of uniform times over those drawn."""

    logits: jax.Array
    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    importance: jax.Array


def _denoising(objective, x: LossInput):
    """The change-aware cross-entropy (Eq. 3 and 120)."""
    weight = x.importance * jnp.where(x.xt != x.x0, objective.lambda_changed, objective.lambda_same)
    return weight * objective.posterior.cross_entropy(objective.kernel, x.logits, x.x0, x.xt, x.t), weight


def _nelbo(objective, x: LossInput):
    """The likelihood bound, by a closed form where the kernel has one; nats a token."""
    log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
    rate = closed_forms.CLOSED_FORMS.get(objective.kernel_name, bound.nelbo_rate)
    return _integral(objective, x, rate(objective.kernel, log_posterior, x.x0, x.xt, x.t))


def _joint_nelbo(objective, x: LossInput):
    """`bound.joint_nelbo_rate`: an upper bound of the NELBO at the cost of a cross-entropy; nats a token."""
    log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
    return _integral(objective, x, bound.joint_nelbo_rate(objective.kernel, log_posterior, x.x0, x.xt, x.t))


def _integral(objective, x, rate):
    """(loss, weight) whose mean over times is the integral of the rate."""
    return rate * x.importance * (objective.t_max - objective.t_min), jnp.ones_like(rate)


LOSSES = {"denoising": _denoising, "nelbo": _nelbo, "joint_nelbo": _joint_nelbo}


def stratified_times(key, batch_size, t_min, t_max, power=1.0):
    """[B] times t_min + (t_max - t_min) u^power: one uniform u in each of B equal strata of the whole global batch."""
    u = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    return jnp.clip(t_min + (t_max - t_min) * u**power, t_min, t_max)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training loss for a kernel.

    name: of LOSSES. kernel_name: of the kernel registry, to find its closed form. lambda_changed, lambda_same: Eq.
    120's weights (the likelihood losses take none). t_min, t_max: range of times. time_power: times are drawn as u^power
    of that range and their losses reweighted, so that the objective stays what it is; above 1 small times are drawn
    more often, where a few changed tokens make large gradients. chunk: positions of logits alive at a time.
    """

    name: str
    kernel: Kernel
    kernel_name: str
    parameterisation: str = "bayes"
    lambda_changed: float = 1.0
    lambda_same: float = 1.0
    t_min: float = 1e-3
    t_max: float = 1.0 - 1e-5
    time_power: float = 1.0
    chunk: int = 0

    def __post_init__(self):
        choose("objective", self.name, LOSSES)
        if not 0 < self.t_min < self.t_max < 1:
            raise UserError(f"times must satisfy 0 < t_min < t_max < 1, not t_min = {self.t_min}, t_max = {self.t_max}")
        if not self.time_power >= 1:
            raise UserError(f"time_power must be at least 1 (uniform times), not {self.time_power}")
        if not self.lambda_changed > 0:
            raise UserError(f"lambda_changed must be above 0, not {self.lambda_changed}: changed tokens teach the most")
        _ = self.posterior  # refuses a weight it could not undo

    @property
    def posterior(self):
        weighted = self.name == "denoising"
        return Posterior(self.parameterisation, self.lambda_same / self.lambda_changed if weighted else 1.0)

    def corrupt(self, key, x0_BxL):
        """(x_t [B, L], t [B]): stratified times and tokens corrupted to them."""
        time_key, noise_key = jax.random.split(key)
        t_B = stratified_times(time_key, x0_BxL.shape[0], self.t_min, self.t_max, self.time_power)
        return self.kernel.corrupt(noise_key, x0_BxL, t_B[:, None]), t_B

    def importance(self, t):
        """Uniform density over that of the times drawn, at t: power u^(power - 1); shape of t."""
        u = ((t - self.t_min) / (self.t_max - self.t_min)) ** (1 / self.time_power)
        return self.time_power * u ** (self.time_power - 1)

    def sums(self, readout, features_BxLxD, x0_BxL, xt_BxL, t_B, mask_BxL):
        """(sum of losses, sum of weights) over the positions that mask marks. readout: [..., D] -> logits [..., V]."""

        importance_B = self.importance(t_B)

        def positions(features, x0, xt, mask):
            x = LossInput(readout(features), x0, xt, t_B[:, None], importance_B[:, None])
            loss, weight = LOSSES[self.name](self, x)
            return jnp.sum(loss * mask), jnp.sum(weight * mask)

        return map_positions(positions, features_BxLxD, x0_BxL, xt_BxL, mask_BxL, chunk=self.chunk)
