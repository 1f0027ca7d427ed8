"""Bounds of the likelihood by several paths a row, from the log weights of `objectives.paths`. On the host, float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import error_of_ratio


class Bound(NamedTuple):
    """nats: per token. error: its standard error over rows; None where one row holds nearly all tokens."""

    nats: float
    error: float | None


def importance_bounds(log_weights_DxN: np.ndarray, tokens_N: np.ndarray, copies: Sequence[int]) -> dict[int, Bound]:
    """{K: sum over rows of E -log( (w_1 + … + w_K) / K ) / tokens}, for every K of `copies`.

    The D paths of a row are cut into D // K groups, whose terms are averaged: the bounds of all K share their paths.
    They fall as K grows, on average, and with K they tend to the likelihood of the sampler whose paths these are.
    The bound of a K that is much smaller than the variance of w asks for is loose, never wrong.

    Args:
        log_weights_DxN: nats.
        tokens_N: of each row; rows without tokens do not count.
        copies: each K at most D.

    Raises:
        UserError: a K is no number from 1 to D.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders (2016), Eq. 8.
    """
    weights, tokens = np.asarray(log_weights_DxN, np.float64), np.asarray(tokens_N, np.float64)
    found = {}
    for number in copies:
        groups = len(weights) // number if number > 0 else 0
        if not groups:
            raise UserError(f"a bound by {number} paths a row needs as many: there are {len(weights)}")
        parts = weights[: groups * number].reshape(groups, number, -1)
        nats_N = -(np.logaddexp.reduce(parts, axis=1) - np.log(number)).mean(0)
        found[number] = Bound(float(nats_N.sum() / tokens.sum()), error_of_ratio(nats_N, tokens))
    return found
