"""SEDD's predictors (Lou et al., 2024), which draw x_s from scores at every token y.

For a kernel that only jumps to one prior nu, with a = alpha_t / alpha_s and sigma = -log alpha:

    euler      P(y) = (t - s) sigma'(t) nu(x_t) q_t(y) / q_t(x_t)  for y other than x_t, which has the rest
    analytic   P(y) ~ q_s(y) / q_t(x_t) (a 1[y = x_t] + (1 - a) nu(x_t))

Any posterior has scores; with that of a score model they are the network's own. The last step is analytic, from t_min
to text.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError
from semdlm_jax.kernels.numerics import at_token, derivative, put, safe_log
from semdlm_jax.objectives.posterior import T_SCORE_MAX
from semdlm_jax.samplers.methods import Method, step_to


def _analytic(kernel, posterior, logits, xt, t, s):
    scores = posterior.log_scores(kernel, logits, xt, t, s)
    lost = (kernel.alpha(s) - kernel.alpha(t)) / kernel.alpha(s)
    arrived = lost * at_token(kernel.prior_probs(t), xt)
    same = jnp.take_along_axis(scores, xt[..., None], axis=-1) + safe_log(1 - lost + arrived)[..., None]
    return put(scores + safe_log(arrived)[..., None], xt[..., None], same)


def _euler(kernel, posterior, logits, xt, t, s):
    t = jnp.minimum(t, T_SCORE_MAX)
    scores = posterior.log_scores(kernel, logits, xt, t)
    alpha, alpha_dot = derivative(kernel.alpha, t)
    rate = -alpha_dot / alpha * at_token(kernel.prior_probs(t), xt) * (t - s)
    # The score of x_t itself is 1.
    leaves = rate * (jnp.exp(jax.nn.logsumexp(scores, axis=-1)) - 1)
    return put(scores + safe_log(rate)[..., None], xt[..., None], safe_log(1 - leaves)[..., None])


@dataclasses.dataclass(frozen=True)
class Analytic(Method):
    """Exact for a known score: in law what `ancestral` does."""

    clean_drafts = False

    def check(self, kernel):
        if not kernel.jumps_only:
            raise UserError(
                "the sedd samplers need a kernel that only jumps, to one prior: give a run of 'absorbing', "
                "'uniform' or 'unigram', or another sampler"
            )

    def log_weights(self, kernel, posterior, logits, xt, t, s):
        return _analytic(kernel, posterior, logits, xt, t, s)

    def step(self, kernel, key, xt, proposal, context, state):
        return step_to(proposal.draft)


@dataclasses.dataclass(frozen=True)
class Euler(Analytic):
    """One step of Euler's method on the reverse rates."""

    def log_weights(self, kernel, posterior, logits, xt, t, s):
        last = (s == 0)[..., None]
        predictors = _analytic, _euler
        return jnp.where(last, *(predictor(kernel, posterior, logits, xt, t, s) for predictor in predictors))
