"""From logits to p_theta(x_0 | x_t): the parameterizations.

direct: softmax(f), restricted to the clean tokens from which x_t can be reached.
bayes: softmax(f)_k q_t(x_t | k), normalized (Eq. 20 with the forward likelihood supplied instead of learned).
softmax(f) is then an estimate of p(x0 | the other tokens): UDLM's and GIDD's "plug-in" x_theta, and for an absorbing
kernel this is MDLM's SUBS: zero mask probability, visible tokens carried over.
score: f are SEDD's log-ratios, estimates of log q_t(y) / q_t(x_t), which are 0 at y = x_t.

A training loss that weighs unchanged positions by lambda_same and changed ones by lambda_changed is not minimized by
the posterior, but by w(k, x_t) p(k | x_t), normalized, with w = lambda_same at k = x_t and lambda_changed elsewhere.
`unchanged_weight` = lambda_same / lambda_changed divides that weight out again; this changes one logit per position.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.former import tells_renamed
from semdlm_jax.kernels import LOG_ZERO, KernelBase
from semdlm_jax.kernels.numerics import at_least, put, safe_log, take
from semdlm_jax.kernels.shapes import TakesTimes, misfit, takes_times
from semdlm_jax.plugins import Plugin, Registry

# The smallest share of its score that a clean token keeps: learned scores need not belong to any distribution of text.
LEAST_SHARE = 1e-3
# At alpha = 0 scores hold no information on the text: they are read a little earlier, where that shift and the rounding
# of float32 cause errors of the same size.
T_SCORE_MAX = 1 - 2.0**-12


@dataclasses.dataclass(frozen=True)
class Parameterization(Plugin, TakesTimes, abc.ABC):
    """What logits mean.

    Attributes:
        any_kernel: they mean the same under every kernel, so that training may go on under another one.
        scores: they are log-ratios (SEDD).
        certain_if_visible: under masks a visible token is x_0, whatever the logits. It holds for the `log_weights` of
            the class that says so.
    """

    RETURNS = {"log_weights": lambda found, kernel, logits, xt, t: _weights_problem(found, logits)}
    any_kernel = False
    scores = False
    certain_if_visible = False

    @property
    def name(self) -> str:
        return PARAMETERIZATIONS.name_of(self)

    @property
    def is_certain(self) -> bool:
        """Whether `certain_if_visible` is said by the class whose `log_weights` these are, and `cross_entropy` is not
        that of a class that extends it."""
        owner = self.defined_by("log_weights")
        return vars(owner).get("certain_if_visible", False) and issubclass(owner, self.defined_by("cross_entropy"))

    def check(self, kernel: KernelBase) -> None:
        """UserError when the kernel has no such posterior."""

    @abc.abstractmethod
    def log_weights(self, kernel: KernelBase, logits: jax.Array, xt: jax.Array, t: jax.Array) -> jax.Array:
        """log p_theta(x_0 = k | x_t), not normalized: [..., V]. logits: [..., V], LOG_ZERO at the mask. xt, t:
        [...]."""

    def cross_entropy(self, kernel: KernelBase, logits, x0, xt, t) -> jax.Array:
        """-log p_theta(x0 | xt), shape of x0."""
        log_probs = jax.nn.log_softmax(self.log_weights(kernel, logits, xt, t), axis=-1)
        return -jnp.take_along_axis(log_probs, x0[..., None], axis=-1)[..., 0]


def _weights_problem(found, logits):
    """What is wrong with the result of a user's own `log_weights`; '' for floats of the shape of the logits."""
    wrong = misfit(found, logits.shape, jnp.floating)
    return f"{wrong}: return floats [..., V], here {list(logits.shape)}" if wrong else ""


class Direct(Parameterization):
    """softmax(f), restricted to the clean tokens from which x_t can be reached."""

    certain_if_visible = True

    def log_weights(self, kernel, logits, xt, t):
        return jnp.where(kernel.likelihoods(xt, t) > 0, logits, LOG_ZERO)


class Bayes(Parameterization):
    """softmax(f)_k q_t(x_t | k), normalized (Eq. 20)."""

    any_kernel = True
    certain_if_visible = True

    def log_weights(self, kernel, logits, xt, t):
        return at_least(kernel.add_log_likelihoods(logits, xt, t), LOG_ZERO)

    def cross_entropy(self, kernel, logits, x0, xt, t):
        """Without forming the posterior [..., V]."""
        target = jnp.take_along_axis(logits, x0[..., None], axis=-1)[..., 0] + kernel.log_prob(xt, x0, t)
        return kernel.log_evidence(logits, xt, t) - target


class Score(Parameterization):
    """SEDD's log-ratios. Their softmax is q_t(. | x_theta) = alpha x_theta + beta nu; solved for x_theta, they are then
    read as under `bayes`."""

    scores = True
    certain_if_visible = True

    def check(self, kernel):
        if not kernel.jumps_only:
            raise UserError(
                "parameterization 'score' is for kernels that only jump, such as 'absorbing' and 'uniform': "
                "give 'bayes' or 'direct'"
            )

    def log_weights(self, kernel, logits, xt, t):
        t = jnp.minimum(t, T_SCORE_MAX)
        noisy = jax.nn.softmax(network_log_ratios(kernel, logits, xt, t), axis=-1)
        clean = jnp.maximum(noisy - kernel.noise(t)[..., None] * kernel.prior_probs(t), LEAST_SHARE * noisy)
        return Bayes().log_weights(kernel, forbid_mask(kernel, jnp.log(clean)), xt, t)


@takes_times
def network_log_ratios(kernel, logits, xt, t):
    """SEDD's log-ratios from the network's output: 0 at x_t; an absorbing kernel's are scaled by what is expected of
    them, alpha / (1 - alpha) shared by the V - 1 tokens of text."""
    if kernel.mask_id is not None:
        expected = jnp.log(kernel.alpha(t)) - jnp.log(kernel.noise(t)) - jnp.log(kernel.vocab_size - 1)
        logits = logits + expected[..., None]
    return put(logits, xt[..., None], jnp.zeros_like(logits, shape=(*xt.shape, 1)))


def forbid_mask(kernel: KernelBase, logits):
    """logits with LOG_ZERO at the mask, which no text holds; in float32 at least."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if kernel.mask_id is None:
        return logits
    return jnp.where(jnp.arange(kernel.vocab_size) == kernel.mask_id, LOG_ZERO, logits)


PARAMETERIZATIONS = Registry("parameterization", Parameterization, {"direct": Direct, "bayes": Bayes, "score": Score})


@dataclasses.dataclass(frozen=True)
class Posterior(TakesTimes):
    """How logits become p_theta(x_0 | x_t) for a kernel.

    unchanged_weight: lambda_same / lambda_changed of the training loss, above 0; 1 when the loss weighs all positions
    alike.
    """

    parameterization: Parameterization = Bayes()
    unchanged_weight: float = 1.0

    def __post_init__(self):
        if not self.unchanged_weight > 0:
            raise UserError(
                "lambda_same must be above 0: the loss would not teach whether a token changed, "
                "and its weight could not be divided out of the posterior"
            )

    def check(self, kernel: KernelBase):
        """UserError when the kernel has no such posterior."""
        self.parameterization.check(kernel)

    def trained_log_weights(self, kernel: KernelBase, logits, xt, t):
        """`trained_log_probs`, not normalized."""
        return self.parameterization.log_weights(kernel, forbid_mask(kernel, logits), xt, t)

    def trained_log_probs(self, kernel: KernelBase, logits, xt, t):
        """log p' [..., V] float32: what the training loss fits, its weights included. logits [..., V], xt, t [...]."""
        return jax.nn.log_softmax(self.trained_log_weights(kernel, logits, xt, t), axis=-1)

    def log_weights(self, kernel: KernelBase, logits, xt, t):
        """`log_probs`, not normalized: enough for drawing."""
        trained = self.trained_log_weights(kernel, logits, xt, t)
        if self.unchanged_weight == 1.0:
            return trained
        place = xt[..., None]  # of no token, if it is a symbol
        same = take(trained, jnp.minimum(place, trained.shape[-1] - 1)) - jnp.log(self.unchanged_weight)
        return put(trained, place, same)

    def log_probs(self, kernel: KernelBase, logits, xt, t):
        """log p_theta(x_0 = k | x_t): [..., V] float32, for bounds and samplers."""
        return jax.nn.log_softmax(self.log_weights(kernel, logits, xt, t), axis=-1)

    def x_theta(self, kernel: KernelBase, logits, xt, t):
        """log p_theta(x_0 = k | the other tokens), not normalized: the posterior without what x_t says of itself,
        UDLM's and GIDD's x_theta. [..., V] float32; LOG_ZERO where x_t cannot come from k."""
        likelihoods = kernel.likelihoods(xt, t)
        without = self.log_weights(kernel, logits, xt, t) - safe_log(likelihoods)
        return jnp.where(likelihoods > 0, without, LOG_ZERO)

    def log_scores(self, kernel: KernelBase, logits, xt, t, s=None):
        """log q_s(y) / q_t(x_t) of every token y, for s <= t; s is t when None: then 0 at x_t. [..., V] float32.

        For kernels that only jump. SEDD's "staggered" score: q_t = a q_s + (1 - a) nu with a = alpha_t / alpha_s is
        solved for q_s, which is at least (1 - alpha_s) nu.
        """
        s = t if s is None else s
        kept, noise = kernel.alpha(s)[..., None], kernel.noise(s)[..., None]
        if self.parameterization.scores:
            t = jnp.minimum(t, T_SCORE_MAX)
            scores = network_log_ratios(kernel, logits, xt, t)
            total = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
            share, nu = jnp.exp(scores - total), kernel.prior_probs(t)
            stays = kernel.alpha(t)[..., None] / kept
            before = jnp.maximum(nu + (share - nu) / stays, noise * nu)
            return jnp.where(stays < 1, safe_log(before) + total, scores)
        # x_t came from k with p(k | x_t): sum over k of p(k | x_t) q_s(y | k) / q_t(x_t | k).
        likelihoods = kernel.likelihoods(xt, t)
        without = self.log_probs(kernel, logits, xt, t) - safe_log(likelihoods)
        without = jnp.where(likelihoods > 0, without, LOG_ZERO)
        jumped = safe_log(noise) + safe_log(kernel.prior_probs(t)) + jax.nn.logsumexp(without, axis=-1, keepdims=True)
        return jnp.logaddexp(safe_log(kept) + without, jumped)

    def cross_entropy(self, kernel: KernelBase, logits, x0, xt, t):
        """-log p'(x0 | xt), shape of x0."""
        return self.parameterization.cross_entropy(kernel, forbid_mask(kernel, logits), x0, xt, t)


@tells_renamed()
def make_posterior(parameterization: str = "bayes", unchanged_weight: float = 1.0, **options: Any) -> Posterior:
    """A Posterior by its parameterization's name. UserError for an unknown name or option."""
    return Posterior(PARAMETERIZATIONS.make(parameterization, **options), unchanged_weight)
