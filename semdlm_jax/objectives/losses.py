"""Training losses. To add one: extend `Loss` and list it in LOSSES, or name it in a configuration as `module:Class`.

For every loss, a training step minimizes sum(loss) / sum(weight) over the positions that count. Gradient accumulation
can therefore add up both sums and divide once.
"""

import abc
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import at_token
from semdlm_jax.kernels.shapes import TakesTimes, misfit
from semdlm_jax.objectives import bound, closed_forms, sampled
from semdlm_jax.objectives.posterior import Bayes, Parameterization, forbid_mask, network_log_ratios
from semdlm_jax.options import number, text
from semdlm_jax.plugins import Plugin, Registry, field

if TYPE_CHECKING:
    from semdlm_jax.objectives.objective import Objective

WEIGHT = "[0, 1000000]"


class LossInput(NamedTuple):
    """What a loss is computed from.

    Attributes:
        logits: of the network, [B, c, V].
        x0, xt: clean and noisy tokens, [B, c].
        t: times, [B, 1] or [B, c].
        importance: the density of uniform times over that of the times drawn, shape of t.
        key: of the random numbers of losses that are estimated.
    """

    logits: jax.Array
    x0: jax.Array
    xt: jax.Array
    t: jax.Array
    importance: jax.Array
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class Loss(Plugin, TakesTimes, abc.ABC):
    """A loss of every position.

    Attributes:
        scores: it trains log-ratios (SEDD) instead of a posterior.
        quiet_if_certain: `terms` gives 0, with no gradient, where x_t leaves no doubt of x_0: at the visible tokens of
            masks, where logits are then not computed. It holds for the `terms` of the class that says so.
        unchanged_weight: the weight of unchanged positions relative to changed ones.
    """

    RETURNS = {"terms": lambda found, objective, x: _terms_problem(found, x)}
    scores = False
    quiet_if_certain = False

    @property
    def unchanged_weight(self) -> float:
        return 1.0

    @property
    def is_quiet(self) -> bool:
        """Whether `quiet_if_certain` is said by the class whose `terms` this is."""
        return vars(self.defined_by("terms")).get("quiet_if_certain", False)

    @abc.abstractmethod
    def terms(self, objective: "Objective", x: LossInput) -> tuple[jax.Array, jax.Array]:
        """(loss, weight) of every position, [B, c] each."""

    def check(self, kernel: KernelBase, parameterization: Parameterization) -> None:
        """UserError when this loss cannot train this kernel under this parameterization. Call it from an own `check`:
        it makes sure that losses of scores meet parameterizations of scores."""
        if self.scores != parameterization.scores:
            raise UserError(
                f"objective {LOSSES.name_of(self)!r} does not train parameterization {parameterization.name!r}: "
                "'score_entropy' and 'score' go together"
            )

    def check_times(self, objective: "Objective") -> None:
        """UserError when the objective never draws times that this loss needs."""

    def times(self, t: jax.Array) -> jax.Array:
        """The times at which it is trained, for times t that were drawn."""
        return t

    def importance(self, objective: "Objective", t: jax.Array) -> jax.Array:
        """The weight that makes unevenly drawn times count like evenly drawn ones; shape of t."""
        return objective.even_importance(t)


def _terms_problem(found, x):
    """What is wrong with the result of a user's own `terms`; '' for a loss and a weight of every position."""
    told = f"return (loss, weight), two float arrays [B, c], here {list(x.x0.shape)}"
    if not isinstance(found, tuple | list) or len(found) != 2:
        return f"{misfit(found, (), bool)}: {told}"
    wrong = [misfit(values, x.x0.shape, jnp.floating) for values in found]
    return f"({wrong[0] or 'a loss'}, {wrong[1] or 'a weight'}): {told}" if any(wrong) else ""


@dataclasses.dataclass(frozen=True)
class Denoising(Loss):
    """The change-aware cross-entropy (Eq. 3 and 120)."""

    quiet_if_certain = True

    lambda_changed: float = field(number(1.0, "(0, 1000000]", "weight of changed tokens (Eq. 120)"))
    lambda_same: float = field(number(1.0, WEIGHT, "weight of unchanged tokens"))

    @property
    def unchanged_weight(self):
        return self.lambda_same / self.lambda_changed

    def terms(self, objective, x):
        weight = x.importance * jnp.where(x.xt != x.x0, self.lambda_changed, self.lambda_same)
        return weight * objective.posterior.cross_entropy(objective.kernel, x.logits, x.x0, x.xt, x.t), weight


@dataclasses.dataclass(frozen=True)
class Nelbo(Loss):
    """The likelihood bound, in nats per token; by a closed form where the kernel has one.

    Two options make it another loss with the same minimum, whose gradients vary less. Texts are always scored by the
    bound itself.
    """

    quiet_if_certain = True

    y_samples: int = field(
        number(0, "[0, 1000000]", "sampled tokens that estimate the bound's sum, without a closed form; 0: exact")
    )
    noise_power: float = field(
        number(0.0, "[0, 10]", "the integrand is weighed by (1 - alpha)^noise_power; 0: the bound itself")
    )
    max_weight: float = field(
        number(0.0, WEIGHT, "cross-entropies of masks and symbols weigh at most this much, as in HDLM; 0: no limit")
    )

    def check(self, kernel, parameterization):
        super().check(kernel, parameterization)
        if self.max_weight and kernel.closed_form not in closed_forms.CROSS_ENTROPIES:
            raise UserError(
                "objective.max_weight limits the weights of cross-entropies, which the bound of this kernel does not "
                "consist of: set it to 0"
            )

    def terms(self, objective, x):
        weight = objective.kernel.noise(x.t) ** self.noise_power if self.noise_power else 1.0
        loss, ones = _integral(objective, x, self._rate(objective.kernel, objective.posterior, x))
        return loss * weight, ones * weight

    def _rate(self, kernel, posterior, x):
        arguments = kernel, posterior.log_probs(kernel, x.logits, x.xt, x.t), x.x0, x.xt, x.t
        if self.max_weight:
            weights = closed_forms.CROSS_ENTROPIES[kernel.closed_form](kernel, x.xt, x.t)
            return closed_forms.cross_entropies(*arguments[:3], [jnp.minimum(w, self.max_weight) for w in weights])
        if (rate := closed_forms.closed_form(kernel)) is not None:
            return rate(*arguments)
        if self.y_samples:
            return sampled.nelbo_rate(*arguments, x.key, self.y_samples)
        return bound.nelbo_rate(*arguments)


@dataclasses.dataclass(frozen=True)
class D3pm(Loss):
    """D3PM's L_lambda: KL(q(x_s | x_t, x0) || p_theta(x_s | x_t)) + ce_weight times the cross-entropy, in nats per
    token, for one of `timesteps` equal steps from t to s. The step from 1 / timesteps to 0 is the reconstruction."""

    quiet_if_certain = True

    timesteps: int = field(number(1000, "[1, 100000]", "equal steps"))
    ce_weight: float = field(number(0.0, WEIGHT, "of the cross-entropy"))

    def terms(self, objective, x):
        log_posterior = objective.posterior.log_probs(objective.kernel, x.logits, x.xt, x.t)
        s = jnp.maximum(x.t - 1 / self.timesteps, 0)
        loss = bound.nelbo_step(objective.kernel, log_posterior, x.x0, x.xt, x.t, s)
        loss = loss - self.ce_weight * at_token(log_posterior, x.x0)
        return loss * x.importance, jnp.ones_like(loss)

    def times(self, t):
        return jnp.ceil(t * self.timesteps) / self.timesteps

    def check_times(self, objective):
        missed = np.sum(self.step_chances(objective) == 0)
        if missed:
            raise UserError(
                f"objective 'd3pm' would never train {missed} of its {self.timesteps} steps: set objective.t_min below "
                "1 / timesteps and objective.t_max above 1 - 1 / timesteps, not "
                f"{objective.t_min} and {objective.t_max}"
            )

    def step_chances(self, objective: "Objective") -> np.ndarray:
        """[timesteps]: the probability that a drawn time is rounded up to the k-th step, k / timesteps. It is
        u_k - u_{k-1}; u_k in [0, 1] is the uniform number whose time is k / timesteps, clipped to the range."""
        t_min, t_max = objective.t_min, objective.t_max
        share = (np.arange(self.timesteps + 1) / self.timesteps - t_min) / (t_max - t_min)
        return np.diff(np.clip(share, 0, 1) ** (1 / objective.time_power))

    def importance(self, objective, t):
        """1 / timesteps over the probability of the step, so that every step counts alike. With power 1 the loss stays
        as its authors have it: a step that the range of times cuts is drawn less often by the share that is cut (the
        first step, in D3PM's systems with t_min = 1e-6 and 1,000 steps, by 0.1 %)."""
        if objective.time_power == 1:
            return objective.even_importance(t)
        chances = self.step_chances(objective)
        worth = np.divide(1 / self.timesteps, chances, out=np.zeros_like(chances), where=chances > 0)
        return jnp.asarray(worth, t.dtype)[jnp.round(t * self.timesteps).astype(jnp.int32) - 1]


@dataclasses.dataclass(frozen=True)
class ScoreEntropy(Loss):
    """SEDD's score entropy: sigma' nu(x_t) times the sum over y != x_t of e^s_y - r_y s_y + r_y (log r_y - 1), for the
    log-scores s and the true ratios r_y = q_t(y | x0) / q_t(x_t | x0). It is a likelihood bound too, in nats per
    token."""

    scores = True
    quiet_if_certain = True

    def check(self, kernel, parameterization):
        super().check(kernel, parameterization)
        if not kernel.jumps_only:
            raise UserError(
                "objective 'score_entropy' is for kernels that only jump, such as 'absorbing' and 'uniform'"
            )

    def terms(self, objective, x):
        x, kernel = _before_the_end(x), objective.kernel
        scores = network_log_ratios(kernel, forbid_mask(kernel, x.logits), x.xt, x.t)
        alpha = kernel.alpha(x.t)[..., None]
        clean = jnp.arange(kernel.vocab_size) == x.x0[..., None]
        row = kernel.noise(x.t)[..., None] * kernel.prior_probs(x.t) + jnp.where(clean, alpha, 0)
        true = row / at_token(row, x.xt)[..., None]
        known = jnp.where(true > 0, true * (jnp.log(jnp.where(true > 0, true, 1)) - 1), 0)
        entropy = jnp.exp(scores) - true * scores + known
        entropy = jnp.sum(jnp.where(jnp.arange(kernel.vocab_size) == x.xt[..., None], 0, entropy), axis=-1)
        rate = -kernel.alpha_dot(x.t) / kernel.alpha(x.t) * at_token(kernel.prior_probs(x.t), x.xt)
        return _integral(objective, x, rate * entropy)


@dataclasses.dataclass(frozen=True)
class Gidd(Loss):
    """GIDD's loss: w (KL(q_t(. | x0) || q_t(. | x_theta)) + r - log r - 1), where x_theta is the network's softmax and
    r = q_t(x_t | x0) / q_t(x_t | x_theta).

    gidd_weights says what w is. `none`: the weight of the likelihood bound, for a hybrid_gamma up to 2. `clip`: that
    weight, at most 2. `dynamic`: 2 for masks, 1 for other noise, and (B / (V - 1)) ((1 - alpha) / alpha)^(gamma / 2),
    at most 2, for kept tokens, as in the authors' paper. (Their code has sigmoid(-t) in the place of the log-ratio of
    the last.)
    """

    gidd_weights: str = field(text("dynamic", "how GIDD weighs tokens", "objectives.losses:GIDD_WEIGHTS"))

    def check(self, kernel, parameterization):
        super().check(kernel, parameterization)
        if kernel.kept_weight is None or not isinstance(parameterization, Bayes):
            raise UserError(
                "objective 'gidd' needs kernel 'hybrid' and parameterization 'bayes', whose softmax is its x_theta"
            )

    def terms(self, objective, x):
        x = _before_the_end(x)
        log_x_theta = jax.nn.log_softmax(forbid_mask(objective.kernel, x.logits), axis=-1)
        loss = closed_forms.gidd_divergence(objective.kernel, log_x_theta, x.x0, x.xt, x.t)
        weight = GIDD_WEIGHTS[self.gidd_weights](objective.kernel, x)
        return _integral(objective, x, weight * loss)


def _bound_weight(kernel, x):
    return kernel.arrival_rate(x.xt, x.x0, x.t)


def _dynamic_weight(kernel, x):
    kept = jnp.minimum(kernel.kept_weight(x.t), 2.0)
    return jnp.where(x.xt == kernel.mask_id, 2.0, jnp.where(x.xt == x.x0, kept, 1.0))


GIDD_WEIGHTS = {
    "none": _bound_weight,
    "clip": lambda kernel, x: jnp.minimum(_bound_weight(kernel, x), 2.0),
    "dynamic": _dynamic_weight,
}


def _before_the_end(x):
    return x._replace(t=jnp.minimum(x.t, bound.T_NUMERIC_MAX))


def _integral(objective, x, rate):
    """(loss, weight) whose mean over times is the integral of the rate."""
    return rate * x.importance * (objective.t_max - objective.t_min), jnp.ones_like(rate)


LOSSES = Registry(
    "objective",
    Loss,
    {"denoising": Denoising, "nelbo": Nelbo, "d3pm": D3pm, "score_entropy": ScoreEntropy, "gidd": Gidd},
)
