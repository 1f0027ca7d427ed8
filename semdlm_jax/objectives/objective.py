"""What a run trains: a loss on a kernel's noise, or the plain chain rule for the autoregressive reference."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.objectives.chunking import map_positions
from semdlm_jax.objectives.losses import LOSSES, Denoising, Loss, LossInput
from semdlm_jax.objectives.posterior import PARAMETERIZATIONS, Bayes, Parameterization, Posterior
from semdlm_jax.options import number
from semdlm_jax.plugins import Plugin, field, options_of

CHUNK = number(0, "[0, 1048576]", "positions of logits alive at a time; 0: all")


class NoisyBatch(NamedTuple):
    """What a step trains on. x0, xt: clean and noisy tokens [B, L] int32. t: times [B]. mask: [B, L], 1 or True at the
    positions that count."""

    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    mask: jax.Array


def stratified_times(key, batch_size, t_min, t_max, power=1.0):
    """[B] times t_min + (t_max - t_min) u^power: one uniform u in each of B equal strata of the whole global batch."""
    u = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    return jnp.clip(t_min + (t_max - t_min) * u**power, t_min, t_max)


@dataclasses.dataclass(frozen=True)
class Objective(Plugin):
    """A training loss for a kernel.

    t_min, t_max: range of times. time_power: times are drawn as u^power of that range and their losses reweighted, so
    that the objective stays what it is; above 1 small times are drawn more often, where a few changed tokens make large
    gradients. chunk: positions of logits alive at a time. exact: whether it scores a likelihood instead of a bound.
    UserError where these do not fit together.
    """

    exact = False

    kernel: KernelBase
    loss: Loss = Denoising()
    parameterization: Parameterization = Bayes()
    t_min: float = field(number(1e-3, "[1e-9, 1)", "range of times"))
    t_max: float = field(number(1.0 - 1e-5, "(0, 1]", "range of times"))
    time_power: float = field(
        number(1.0, "[1, 100]", "times are u^power of their range, reweighted; 2 draws small times more often")
    )
    chunk: int = field(CHUNK)

    def __post_init__(self):
        super().__post_init__()
        self.loss.check(self.kernel, self.parameterization)
        if not self.t_min < self.t_max:
            raise UserError(f"times must satisfy t_min < t_max, not t_min = {self.t_min}, t_max = {self.t_max}")
        self.posterior.check(self.kernel)  # refuses a weight it could not undo, too

    @property
    def posterior(self) -> Posterior:
        return Posterior(self.parameterization, self.loss.unchanged_weight)

    @property
    def any_kernel(self) -> bool:
        """Whether training may go on under another kernel."""
        return self.parameterization.any_kernel

    def corrupt(self, key: jax.Array, x0_BxL: jax.Array, mask_BxL: jax.Array) -> NoisyBatch:
        """Stratified times and tokens corrupted to them."""
        time_key, noise_key = jax.random.split(key)
        t_B = self.loss.times(stratified_times(time_key, x0_BxL.shape[0], self.t_min, self.t_max, self.time_power))
        return NoisyBatch(x0_BxL, self.kernel.corrupt(noise_key, x0_BxL, t_B[:, None]), t_B, mask_BxL)

    def check_times(self) -> None:
        """UserError when the loss would never meet times that it cannot do without."""
        self.loss.check_times(self)

    def even_importance(self, t: jax.Array) -> jax.Array:
        """The density of uniform times over that of those drawn, power u^(power - 1): shape of t."""
        u = jnp.clip((t - self.t_min) / (self.t_max - self.t_min), 0, 1) ** (1 / self.time_power)
        return self.time_power * u ** (self.time_power - 1)

    def importance(self, t: jax.Array) -> jax.Array:
        """What makes times drawn unevenly count as even ones: the loss at t [...] is worth so much; 1 for power 1."""
        return self.loss.importance(self, t)

    def sums(self, readout, features_BxLxD, batch: NoisyBatch, key) -> tuple[jax.Array, jax.Array]:
        """(sum of losses, sum of weights) over the positions that the mask marks. readout: [..., D] -> logits."""
        t_Bx1, importance_Bx1 = batch.t[:, None], self.importance(batch.t)[:, None]
        place_BxL = jnp.broadcast_to(jnp.arange(batch.x0.shape[1]), batch.x0.shape)

        def positions(features, x0, xt, mask, place):
            own_key = jax.random.fold_in(key, place[0, 0])
            x = LossInput(readout(features), x0, xt, t_Bx1, importance_Bx1, own_key)
            loss, weight = self.loss.terms(self, x)
            return jnp.sum(loss * mask), jnp.sum(weight * mask)

        return map_positions(positions, features_BxLxD, batch.x0, batch.xt, batch.mask, place_BxL, chunk=self.chunk)


def make_objective(name: str, kernel: KernelBase, parameterization: str = "bayes", **options: Any) -> Objective:
    """An Objective by the names of its loss and parameterization; options: of these and of its own. UserError for a
    name or an option that nothing knows, or where they do not fit together."""
    own = {key: options.pop(key) for key in list(options) if key in options_of(Objective)}
    reads = PARAMETERIZATIONS.options(parameterization)
    reading = PARAMETERIZATIONS.make(parameterization, **{key: options.pop(key) for key in reads if key in options})
    return Objective(loss=LOSSES.make(name, **options), parameterization=reading, kernel=kernel, **own)


def pick_objective(name: str, kernel: KernelBase, section: Mapping[str, Any]) -> Objective:
    """An Objective of a configuration's section, from those of its values that the loss and parameterization read."""
    own = {key: section[key] for key in options_of(Objective) if key in section}
    reading = PARAMETERIZATIONS.pick(section.get("parameterization", "bayes"), section)
    return Objective(loss=LOSSES.pick(name, section), parameterization=reading, kernel=kernel, **own)


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """The chain rule: every token from those before it. The network must be causal.

    start_id: stands before the first token; no text contains it. chunk: positions of logits alive at a time.
    """

    start_id: int
    chunk: int = 0

    exact = True
    any_kernel = False

    def check_times(self) -> None:
        """Its tokens have no times."""

    def corrupt(self, key, x0_BxL, mask_BxL) -> NoisyBatch:
        """The tokens one place later and times of zero: what the network reads."""
        del key
        return NoisyBatch(x0_BxL, self.shifted(x0_BxL), jnp.zeros(x0_BxL.shape[0]), mask_BxL)

    def shifted(self, x0_BxL):
        start = jnp.full_like(x0_BxL[:, :1], self.start_id)
        return jnp.concatenate([start, x0_BxL[:, :-1]], axis=1)

    def log_losses(self, logits, x0):
        """-log p(x0 | the tokens before), shape of x0; the start token has no chance."""
        allowed = jnp.where(jnp.arange(logits.shape[-1]) == self.start_id, -jnp.inf, logits)
        return -jnp.take_along_axis(jax.nn.log_softmax(allowed, axis=-1), x0[..., None], axis=-1)[..., 0]

    def sums(self, readout, features_BxLxD, batch: NoisyBatch, key):
        """(sum of negative log-likelihoods in nats, number of tokens) over the positions that the mask marks."""
        del key

        def positions(features, x0, mask):
            return jnp.sum(jnp.where(mask, self.log_losses(readout(features), x0), 0)), jnp.sum(mask, dtype=jnp.float32)

        return map_positions(positions, features_BxLxD, batch.x0, batch.mask, chunk=self.chunk)
