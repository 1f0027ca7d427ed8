"""The likelihood bound of rows of text, by one corruption of each.

NELBO = integral of E l_t over [t_min, t_max]  +  KL(q_{t_max} || prior)  +  E -log p_theta(x0 | x_{t_min})
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from semdlm_jax.kernels import KernelBase
from semdlm_jax.kernels.numerics import at_token
from semdlm_jax.objectives.base import Scoring, SequenceTerms
from semdlm_jax.objectives.chunking import each_position, of_chosen_rows
from semdlm_jax.objectives.closed_forms import integrand
from semdlm_jax.objectives.posterior import Posterior

# The reconstruction of one row in so many is scored, and counts so many times. It is small beside the integral, whose
# noise the estimate keeps, and a whole network call for every draw would cost as much as the integral.
ONE_IN = 8
# Folded into the key of that choice. The key of a row's noise has the index of the row here, which is smaller.
ROWS_END = 2**32 - 1


class ScoredRows(NamedTuple):
    """Rows to score.

    Attributes:
        keys: of their noise, [B].
        t: [B], each uniform on [t_min, t_max] if the bound's integral is to be unbiased.
        x0: clean tokens [B, L].
        mask: [B, L] bool, the positions that count.
        given: [B, L] bool, positions that the network reads without noise and marked, if it has a mark. They do not
            count: the bound is that of the other positions given these. None for none.
        rebuilt: [B] bool, rows whose reconstruction is scored, each for ONE_IN rows (`rebuilt_rows`). None: all are
            scored, each for itself.
    """

    keys: jax.Array
    t: jax.Array
    x0: jax.Array
    mask: jax.Array
    given: jax.Array | None = None
    rebuilt: jax.Array | None = None


def rebuilt_rows(key, row_B, draw):
    """[B] bool: which rows have their reconstruction scored in a draw. row_B: their indices among all.

    Each row and draw is chosen with chance 1 / ONE_IN, by a key of its block of ONE_IN rows and as many draws. Every
    row of a block is chosen in one of its draws, and every draw of it has one row, so that the choice adds little noise
    and the rows of a batch that is in order are chosen evenly.
    """

    key = jax.random.fold_in(key, ROWS_END)

    def chosen(row):
        block = jax.random.fold_in(jax.random.fold_in(key, row // ONE_IN), draw // ONE_IN)
        return (row + draw + jax.random.randint(block, (), 0, ONE_IN)) % ONE_IN == 0

    return jax.vmap(chosen)(row_B)


def bound_terms(
    denoiser, kernel: KernelBase, posterior: Posterior, scoring: Scoring, prior_V: jax.Array, params, rows: ScoredRows
) -> SequenceTerms:
    """The NELBO's terms at each position [B, L], 0 where it does not count, from one corruption of the row to its time
    and, of rows whose reconstruction is scored, one to t_min. Pure: jit it.

    Args:
        denoiser: the network, as `Objective.score_terms` takes it; params: its parameters.
        kernel, posterior: what corrupts, and what makes p(x0 | x_t) of logits.
        scoring: Scoring.
        prior_V: `prior_divergences` at t_max.
        rows: ScoredRows.
    """
    counted = rows.mask if rows.given is None else rows.mask & ~rows.given
    rate = integrand(kernel)

    def integral(log_posterior, x0, xt, t_B):
        return (scoring.t_max - scoring.t_min) * rate(kernel, log_posterior, x0, xt, t_B[:, None])

    def reconstruction(log_posterior, x0, xt, t_B):
        del xt, t_B
        return -at_token(log_posterior, x0)

    def score(function, keys_B, rows):
        xt_BxL = jax.vmap(kernel.corrupt)(keys_B, rows.x0, rows.t[:, None])
        marks = {} if rows.given is None else {"clean_BxL": rows.given}
        read_BxL = xt_BxL if rows.given is None else jnp.where(rows.given, rows.x0, xt_BxL)
        features = denoiser.features(params, read_BxL, rows.t, **scoring.lengths(rows.mask), **marks)

        def positions(features, x0, xt):
            logits = denoiser.logits(params, features)
            return function(posterior.log_probs(kernel, logits, xt, rows.t[:, None]), x0, xt, rows.t)

        return each_position(positions, features, rows.x0, xt_BxL, chunk=scoring.chunk)

    noise_keys_B, last_keys_B = jnp.moveaxis(jax.vmap(jax.random.split)(rows.keys), 1, 0)
    first = rows._replace(rebuilt=None)
    last = first._replace(keys=last_keys_B, t=jnp.full_like(rows.t, scoring.t_min))

    def rebuild(rows):
        return score(reconstruction, rows.keys, rows)

    rebuilt = rebuild(last) if rows.rebuilt is None else ONE_IN * of_chosen_rows(rebuild, rows.rebuilt, last, ONE_IN)
    return SequenceTerms(
        integral=score(integral, noise_keys_B, first) * counted,
        prior=prior_V[rows.x0] * counted,
        reconstruction=rebuilt * counted,
        tokens=counted,
    )
