"""Bounds by several paths a row, by hand and in the limit."""

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.importance import importance_bounds


def test_by_hand():
    """Weights 1 and 3 of a row of one token, 1 and 1 of a row of three: K = 2 is -log of their means."""
    weights, tokens = np.log([[1.0, 1.0], [3.0, 1.0]]), np.array([1, 3])
    found = importance_bounds(weights, tokens, (1, 2))
    assert found[1].nats == pytest.approx(-np.log(3) / 2 / 4)
    assert found[2].nats == pytest.approx(-np.log(2) / 4)
    assert importance_bounds(weights[:, :1], tokens[:1], (1,))[1].error is None


def test_they_fall_to_the_likelihood():
    """Log-normal weights: K = 1 is the mean of -log w, 0.5 s^2 above the likelihood, to which large K come near."""
    weights = np.random.default_rng(0).normal(-0.5, 1, (4096, 200))
    tokens = np.full(200, 10)
    bounds = importance_bounds(weights, tokens, (1, 4, 64, 4096))
    nats = [bound.nats for bound in bounds.values()]
    assert nats == sorted(nats, reverse=True)
    assert nats[0] == pytest.approx(0.05, abs=5 * bounds[1].error)
    assert abs(nats[-1]) < 5 * bounds[4096].error + (np.e - 1) / 2 / 4096 / 10


def test_rows_without_tokens_do_not_count_and_paths_must_be_there():
    weights, tokens = np.array([[-2.0, 0.0], [-4.0, 0.0]]), np.array([2, 0])
    assert importance_bounds(weights, tokens, (1,))[1].nats == pytest.approx(1.5)
    for copies in (0, 3):
        with pytest.raises(UserError, match="there are 2"):
            importance_bounds(weights, tokens, (copies,))
