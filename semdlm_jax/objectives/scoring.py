"""The likelihood bound of rows of text, by one corruption of each.

NELBO = integral of E l_t over [t_min, t_max]  +  KL(q_{t_max} || prior)  +  E -log p_theta(x0 | x_{t_min})
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import at_token
from semdlm_jax.objectives.base import Scoring, SequenceTerms
from semdlm_jax.objectives.bound import nelbo_rate
from semdlm_jax.objectives.chunking import each_position
from semdlm_jax.objectives.posterior import Posterior


class ScoredRows(NamedTuple):
    """Rows to score.

    Attributes:
        keys: of their noise, [B].
        t: [B], each uniform on [t_min, t_max] if the bound's integral is to be unbiased.
        x0: clean tokens [B, L].
        mask: [B, L] bool, the positions that count.
        given: [B, L] bool, positions that the network reads without noise and marked, if it has a mark. They do not
            count: the bound is that of the other positions given these. None for none.
    """

    keys: jax.Array
    t: jax.Array
    x0: jax.Array
    mask: jax.Array
    given: jax.Array | None = None


def bound_terms(
    denoiser, kernel: KernelBase, posterior: Posterior, scoring: Scoring, prior_V: jax.Array, params, rows: ScoredRows
) -> SequenceTerms:
    """The NELBO's terms at each position [B, L], 0 where it does not count, from one corruption of the row to its time
    and one to t_min. Pure: jit it.

    Args:
        denoiser: the network, as `Objective.score_terms` takes it; params: its parameters.
        kernel, posterior: what corrupts, and what makes p(x0 | x_t) of logits.
        scoring: Scoring.
        prior_V: `prior_divergences` at t_max.
        rows: ScoredRows.
    """
    _, t_B, x0_BxL, mask_BxL, given_BxL = rows
    hidden = scoring.lengths(mask_BxL)
    marks = {} if given_BxL is None else {"clean_BxL": given_BxL}
    mask_BxL = mask_BxL if given_BxL is None else mask_BxL & ~given_BxL
    noise_keys_B, last_keys_B = jnp.moveaxis(jax.vmap(jax.random.split)(rows.keys), 1, 0)

    def score(function, keys_B, t_B):
        xt_BxL = jax.vmap(kernel.corrupt)(keys_B, x0_BxL, t_B[:, None])
        read_BxL = xt_BxL if given_BxL is None else jnp.where(given_BxL, x0_BxL, xt_BxL)
        features = denoiser.features(params, read_BxL, t_B, **hidden, **marks)

        def positions(features, x0, xt, mask):
            logits = denoiser.logits(params, features)
            log_posterior = posterior.log_probs(kernel, logits, xt, t_B[:, None])
            return function(log_posterior, x0, xt) * mask

        return each_position(positions, features, x0_BxL, xt_BxL, mask_BxL, chunk=scoring.chunk)

    def integrand(log_posterior, x0, xt):
        return nelbo_rate(kernel, log_posterior, x0, xt, t_B[:, None])

    def reconstruction(log_posterior, x0, xt):
        del xt
        return -at_token(log_posterior, x0)

    return SequenceTerms(
        integral=(scoring.t_max - scoring.t_min) * score(integrand, noise_keys_B, t_B),
        prior=prior_V[x0_BxL] * mask_BxL,
        reconstruction=score(reconstruction, last_keys_B, jnp.full_like(t_B, scoring.t_min)),
        tokens=mask_BxL,
    )
