"""What a diffusion model trains and is scored by: a loss on a kernel's noise, and the likelihood bound."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.former import tells_renamed
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.shapes import TakesTimes
from semdlm_jax.objectives.base import NoisyBatch, ObjectiveBase, Scoring, check_tokens
from semdlm_jax.objectives.bound import prior_divergences
from semdlm_jax.objectives.chunking import sum_losses
from semdlm_jax.objectives.context import clean_positions
from semdlm_jax.objectives.losses import LOSSES, Denoising, Loss, LossInput
from semdlm_jax.objectives.paths import PathRows, check_order, step_log_weights, unmasking_log_weights
from semdlm_jax.objectives.posterior import PARAMETERIZATIONS, Bayes, Parameterization, Posterior
from semdlm_jax.objectives.scoring import ScoredRows, bound_terms, rebuilt_rows
from semdlm_jax.options import number, text
from semdlm_jax.plugins import Plugin, field, options_of

CHUNK = number(0, "[0, 1048576]", "positions of logits alive at a time; 0: all")


def stratified_times(key, batch_size, t_min, t_max, power=1.0):
    """[B] times t_min + (t_max - t_min) u^power: one uniform u in each of B equal strata of the whole global batch."""
    u = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
    return jnp.clip(t_min + (t_max - t_min) * u**power, t_min, t_max)


@dataclasses.dataclass(frozen=True)
class Objective(Plugin, TakesTimes, ObjectiveBase):
    """A training loss for a kernel.

    t_min, t_max: range of times. time_power: times are drawn as u^power of that range and their losses reweighted, so
    that the objective stays what it is; above 1 small times are drawn more often, where a few changed tokens make large
    gradients. chunk: positions of logits alive at a time. clean_rows: the chance that a row of a training batch has a
    clean context, which is marked and not predicted; clean_layout: which positions that are, by a name of
    context.CLEAN_LAYOUTS.
    UserError where these do not fit together.
    """

    kernel: KernelBase
    loss: Loss = Denoising()
    parameterization: Parameterization = Bayes()
    t_min: float = field(number(1e-3, "[1e-9, 1)", "range of times"))
    t_max: float = field(number(1.0 - 1e-5, "(0, 1]", "range of times"))
    time_power: float = field(
        number(1.0, "[1, 100]", "times are u^power of their range, reweighted; 2 draws small times more often")
    )
    chunk: int = field(CHUNK)
    clean_rows: float = field(
        number(0.0, "[0, 1]", "chance that a training row has clean positions, which network.clean_mark marks")
    )
    clean_layout: str = field(text("mixed", "which positions these are", "objectives.context:CLEAN_LAYOUTS"))

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
        """Stratified times and tokens corrupted to them, but for those of a clean context."""
        check_tokens(x0_BxL, mask_BxL)
        time_key, noise_key = jax.random.split(key)
        t_B = self.loss.times(stratified_times(time_key, x0_BxL.shape[0], self.t_min, self.t_max, self.time_power))
        xt_BxL = self.kernel.corrupt(noise_key, x0_BxL, t_B[:, None])
        if not self.clean_rows:
            return NoisyBatch(x0_BxL, xt_BxL, t_B, mask_BxL)
        # A third key, so that times and noise are those of a training without clean rows.
        clean_BxL = clean_positions(jax.random.fold_in(key, 2), mask_BxL, self.clean_rows, self.clean_layout)
        return NoisyBatch(x0_BxL, jnp.where(clean_BxL, x0_BxL, xt_BxL), t_B, mask_BxL, clean_BxL)

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
        """(sum of losses, sum of weights) over the noisy positions that count. readout: [..., D] -> logits."""
        x0_BxL, xt_BxL, mask_BxL = batch.predicted()
        place_BxL = jnp.arange(x0_BxL.size).reshape(x0_BxL.shape)

        def positions(logits, x0, xt, mask, place, t=batch.t[:, None]):
            x = LossInput(logits, x0, xt, t, self.importance(t), jax.random.fold_in(key, place[0, 0]))
            loss, weight = self.loss.terms(self, x)
            return jnp.sum(loss * mask), jnp.sum(weight * mask)

        arrays = (x0_BxL, xt_BxL, mask_BxL, place_BxL)
        if not self._only_at_masks:
            return sum_losses(positions, readout, features_BxLxD, *arrays, chunk=self.chunk)
        t_BxL = jnp.broadcast_to(batch.t[:, None], x0_BxL.shape)
        wanted_BxL = (xt_BxL == self.kernel.mask_id) & (mask_BxL > 0)
        return sum_losses(positions, readout, features_BxLxD, *arrays, t_BxL, chunk=self.chunk, wanted_BxL=wanted_BxL)

    @property
    def _only_at_masks(self):
        """Whether the loss is known to be 0 elsewhere. Rows are in the order of their times: of several devices the
        last ones would have to do all of theirs, so there all positions are computed."""
        certain = self.kernel.only_masks and self.parameterization.is_certain
        return certain and self.loss.is_quiet and jax.device_count() == 1

    def position_terms(self, denoiser, scoring: Scoring, posterior: Posterior | None = None) -> Callable:
        """The likelihood bound by one corruption of each row, and another of one row in ONE_IN for its reconstruction;
        see `bound_terms`. The keys of a row's noise depend on its index and the draw alone."""
        posterior = posterior or self.posterior
        prior_V = np.asarray(jax.jit(lambda: prior_divergences(self.kernel, scoring.t_max))())

        def terms(params, key, batch, draw):
            keys_B = _row_keys(key, batch["row"], draw)
            t_B = scoring.t_min + (scoring.t_max - scoring.t_min) * batch["uniform"][:, draw]
            tokens, mask, given = batch["tokens"], batch["mask"], batch.get("given")
            rebuilt_B = rebuilt_rows(key, batch["row"], draw)
            rows = ScoredRows(keys_B, jnp.minimum(t_B, scoring.t_max), tokens, mask, given, rebuilt_B)
            return bound_terms(denoiser, self.kernel, posterior, scoring, jnp.asarray(prior_V), params, rows)

        return terms

    def path_log_weights(self, denoiser, scoring: Scoring, path: int | str) -> Callable:
        if isinstance(path, str):
            check_order(self.kernel, path)
            weights = functools.partial(unmasking_log_weights, order=path)
        else:
            weights = functools.partial(step_log_weights, steps=path)

        def log_weights(params, key, batch, draw):
            rows = PathRows(_row_keys(key, batch["row"], draw), batch["tokens"], batch["mask"])
            return weights(denoiser, self.kernel, self.posterior, scoring, params, rows)

        return log_weights


def _row_keys(key, row_B, draw):
    """[B] keys that depend on a row's index and the draw alone."""
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), draw))(row_B)


@tells_renamed()
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
