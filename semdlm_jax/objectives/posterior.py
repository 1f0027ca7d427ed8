"""From logits to p_theta(x_0 | x_t): the parameterisations.

direct: softmax(f), restricted to the clean tokens from which x_t can be reached.
bayes: softmax(f)_k q_t(x_t | k), normalised (Eq. 20 with the forward likelihood supplied instead of learned). For an
absorbing kernel it is MDLM's SUBS: zero mask probability, visible tokens carried over.

A training loss that weighs unchanged positions by lambda_same and changed ones by lambda_changed has as its minimiser
not the posterior but w(k, x_t) p(k | x_t), normalised, with w = lambda_same at k = x_t and lambda_changed elsewhere.
`tilt` = lambda_same / lambda_changed takes that weight out again; it moves one logit a position.
"""

import dataclasses

import jax
import jax.numpy as jnp

from semdlm_jax.errors import UserError, choose
from semdlm_jax.kernels import LOG_ZERO, Kernel
from semdlm_jax.kernels.family import put, safe_log


def _forbid_mask(kernel: Kernel, logits):
    if kernel.mask_id is None:
        return logits
    return jnp.where(jnp.arange(kernel.vocab_size) == kernel.mask_id, LOG_ZERO, logits)


def _direct(kernel, logits, xt, t):
    return jnp.where(kernel.log_likelihoods(xt, t) > LOG_ZERO / 2, logits, LOG_ZERO)


def _bayes(kernel, logits, xt, t):
    return jnp.maximum(kernel.add_log_likelihoods(logits, xt, t), LOG_ZERO)


PARAMETERISATIONS = {"direct": _direct, "bayes": _bayes}


@dataclasses.dataclass(frozen=True)
class Posterior:
    """How logits become p_theta(x_0 | x_t) for a kernel.

    parameterisation: a name of PARAMETERISATIONS. tilt: lambda_same / lambda_changed of the training loss, above 0; 1
    when the loss weighs all positions alike.
    """

    parameterisation: str = "bayes"
    tilt: float = 1.0

    def __post_init__(self):
        choose("parameterisation", self.parameterisation, PARAMETERISATIONS)
        if not self.tilt > 0:
            raise UserError(
                "lambda_same must be above 0: the loss would not teach whether a token changed, "
                "and its weight could not be divided out of the posterior"
            )

    def trained_log_probs(self, kernel: Kernel, logits, xt, t):
        """log p' [..., V] float32: what the training loss fits, its weights included. logits [..., V], xt, t [...]."""
        logits = _forbid_mask(kernel, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        return jax.nn.log_softmax(PARAMETERISATIONS[self.parameterisation](kernel, logits, xt, t), axis=-1)

    def log_probs(self, kernel: Kernel, logits, xt, t):
        """log p_theta(x_0 = k | x_t): [..., V] float32, for bounds and samplers."""
        trained = self.trained_log_probs(kernel, logits, xt, t)
        if self.tilt == 1.0:
            return trained
        same = jnp.take_along_axis(trained, xt[..., None], axis=-1) - jnp.log(self.tilt)
        return jax.nn.log_softmax(put(trained, xt[..., None], same), axis=-1)

    def cross_entropy(self, kernel: Kernel, logits, x0, xt, t):
        """-log p'(x0 | xt), shape of x0, without forming p' [..., V].

        With `bayes` the likelihood is a floor plus a few entries, so its normaliser is a sum of two log-sum-exps:
        log sum_k e^f_k (g(k) nu(x_t) + excess(k)), the first dense, the second over the column of x_t alone.
        """
        if self.parameterisation != "bayes":
            trained = self.trained_log_probs(kernel, logits, xt, t)
            return -jnp.take_along_axis(trained, x0[..., None], axis=-1)[..., 0]
        logits = _forbid_mask(kernel, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        ids, ranks = kernel.column(xt)
        near = jnp.take_along_axis(logits, jnp.minimum(ids, kernel.vocab_size - 1), axis=-1)
        near = jax.nn.logsumexp(near + safe_log(kernel.excess(ranks, t[..., None])), axis=-1)
        far = jax.nn.logsumexp(logits + safe_log(kernel.floors(t)), axis=-1) + safe_log(kernel.global_prior.probs[xt])
        target = jnp.take_along_axis(logits, x0[..., None], axis=-1)[..., 0] + kernel.log_prob(xt, x0, t)
        return jnp.logaddexp(near, jnp.maximum(far, LOG_ZERO)) - target
