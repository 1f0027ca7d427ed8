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
    """logits [B, c, V]; clean and noisy tokens [B, c]; t [B, 1]."""

    logits: jax.Array
    x0: jax.Array
    xt: jax.Array
    t: jax.Array


def _denoising(objective, x: LossInput):
    """The change-aware cross-entropy (Eq. 3 and 120)."""
    weight = jnp.where(x.xt != x.x0, objective.lambda_changed, objective.lambda_same)
    return weight * objective.posterior.cross_entropy(objective.kernel, *x), weight


def _nelbo(objective, x: LossInput):
    """The likelihood bound, by a closed form where the kernel has one; nats a token."""
    log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
    rate = closed_forms.CLOSED_FORMS.get(objective.kernel_name, bound.nelbo_rate)
    loss = rate(objective.kernel, log_posterior, x.x0, x.xt, x.t) * (objective.t_max - objective.t_min)
    return loss, jnp.ones_like(loss)


def _joint_nelbo(objective, x: LossInput):
    """`bound.joint_nelbo_rate`: an upper bound of the NELBO at the cost of a cross-entropy; nats a token."""
    log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
    rate = bound.joint_nelbo_rate(objective.kernel, log_posterior, x.x0, x.xt, x.t)
    loss = rate * (objective.t_max - objective.t_min)
    return loss, jnp.ones_like(loss)


LOSSES = {"denoising": _denoising, "nelbo": _nelbo, "joint_nelbo": _joint_nelbo}


def stratified_times(key, batch_size, t_min, t_max):
    """[B] times in [t_min, t_max]: one uniform draw in each of B equal strata of the whole global batch."""
    u = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    return jnp.clip(t_min + (t_max - t_min) * u, t_min, t_max)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training loss for a kernel.

    name: of LOSSES. kernel_name: of the kernel registry, to find its closed form. lambda_changed, lambda_same: Eq.
    120's weights (the likelihood losses take none). t_min, t_max: range of times. chunk: positions of logits alive at a
    time.
    """

    name: str
    kernel: Kernel
    kernel_name: str
    parameterisation: str = "bayes"
    lambda_changed: float = 1.0
    lambda_same: float = 1.0
    t_min: float = 1e-3
    t_max: float = 1.0 - 1e-5
    chunk: int = 0

    def __post_init__(self):
        choose("objective", self.name, LOSSES)
        if not 0 < self.t_min < self.t_max < 1:
            raise UserError(f"times must satisfy 0 < t_min < t_max < 1, not t_min = {self.t_min}, t_max = {self.t_max}")
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
        t_B = stratified_times(time_key, x0_BxL.shape[0], self.t_min, self.t_max)
        return self.kernel.corrupt(noise_key, x0_BxL, t_B[:, None]), t_B

    def sums(self, readout, features_BxLxD, x0_BxL, xt_BxL, t_B, mask_BxL):
        """(sum of losses, sum of weights) over the positions that mask marks. readout: [..., D] -> logits [..., V]."""

        def positions(features, x0, xt, mask):
            loss, weight = LOSSES[self.name](self, LossInput(readout(features), x0, xt, t_B[:, None]))
            return jnp.sum(loss * mask), jnp.sum(weight * mask)

        return map_positions(positions, features_BxLxD, x0_BxL, xt_BxL, mask_BxL, chunk=self.chunk)
