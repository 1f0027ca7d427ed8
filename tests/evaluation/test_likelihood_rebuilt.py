"""The rows whose reconstruction is scored: an even choice, and what is scored of them in a batch of any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_terms import PARAMS, Prior
from toys import P_DATA, TOYS, V

from semdlm_jax.objectives import Scoring, make_posterior
from semdlm_jax.objectives.chunking import of_chosen_rows
from semdlm_jax.objectives.scoring import ONE_IN, ScoredRows, bound_terms, rebuilt_rows

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_every_row_has_its_turn_and_every_draw_its_row():
    """In each block of ONE_IN rows and draws; and each pair is chosen with chance 1 / ONE_IN: within 5 standard
    deviations, over 2,000 keys."""
    keys, side = jax.random.split(jax.random.key(0), 2000), 2 * ONE_IN
    of_draw = jax.vmap(rebuilt_rows, (None, None, 0), 1)
    chosen = np.asarray(jax.vmap(of_draw, (0, None, None))(keys, jnp.arange(side), jnp.arange(side)))
    blocks = chosen.reshape(len(keys), 2, ONE_IN, 2, ONE_IN)
    assert (blocks.sum(2) == 1).all() and (blocks.sum(4) == 1).all()
    deviation = np.sqrt((1 - 1 / ONE_IN) / ONE_IN / len(keys))
    assert np.abs(chosen.mean(0) - 1 / ONE_IN).max() < 5 * deviation
    shifts = blocks[:, :, 0].argmax(-1)  # of the four blocks, by the first row of each
    assert np.abs(np.mean(shifts[:, 0, 0] == shifts[:, 1, 1]) - 1 / ONE_IN) < 5 * deviation


@pytest.mark.parametrize(("rows", "chosen"), [(16, [3, 9]), (13, [0, 1, 2, 12]), (3, [1]), (8, []), (5, range(5))])
def test_chosen_rows_are_found_wherever_they_are(rows, chosen):
    calls = []

    def squares(pair):
        jax.debug.callback(lambda: calls.append(None))
        numbers, keys = pair
        return numbers**2 + 0 * jax.vmap(jax.random.uniform)(keys)[:, None]

    numbers, keys = jnp.arange(1.0, 2 * rows + 1).reshape(rows, 2), jax.random.split(jax.random.key(0), rows)
    marked = np.isin(np.arange(rows), list(chosen))
    found = jax.jit(lambda *x: of_chosen_rows(squares, x[0], x[1:], 8))(jnp.asarray(marked), numbers, keys)
    np.testing.assert_array_equal(found, np.where(marked[:, None], numbers**2, 0))
    jax.effects_barrier()
    assert len(calls) == max(np.bincount(np.flatnonzero(marked) // 8), default=0)


def test_the_chosen_rows_estimate_all():
    """Of 4,000 rows at t_min = 1/2, where half of the tokens are masks: the mean of what is scored is the mean of all
    reconstructions, within 5 standard errors of the choice."""
    kernel, count = TOYS["absorbing"].build(), 4000
    x0 = jnp.asarray(np.random.default_rng(3).choice(V, (count, 2), p=P_DATA))
    rows = ScoredRows(jax.random.split(jax.random.key(3), count), jnp.full(count, 0.6), x0, jnp.ones(x0.shape, bool))
    scoring = Scoring(0.5, 0.75)
    score = jax.jit(lambda rows: bound_terms(Prior(), kernel, make_posterior(), scoring, jnp.zeros(V), PARAMS, rows))
    whole = np.asarray(score(rows).reconstruction).sum(1)
    some = np.asarray(
        score(rows._replace(rebuilt=rebuilt_rows(jax.random.key(4), jnp.arange(count), 5))).reconstruction
    )
    np.testing.assert_allclose(some.sum(1)[some.any(1)], ONE_IN * whole[some.any(1)], rtol=1e-6)
    error = np.sqrt(np.mean(whole**2) * (ONE_IN - 1) / count)
    assert abs(some.sum(1).mean() - whole.mean()) < 5 * error < 0.3 * whole.mean()
