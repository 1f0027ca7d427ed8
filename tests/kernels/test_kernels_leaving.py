"""Bounds on the chance that a step back changes a token, against the largest of these over all clean tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, V

from semdlm_jax.kernels import make_kernel

pytestmark = pytest.mark.usefixtures("float64")

STEPS = ((0.31, 0.3), (0.62, 0.55), (0.62, 0.15), (0.97, 0.93), (0.2, 0.199), (0.999, 0.001), (1.0, 0.75), (0.4, 0.0))
TIMES = (0.01, 0.31, 0.62, 0.97, 1 - 2.0**-17)
BOUNDED = {name: toy for name, toy in TOYS.items() if name not in ("semantic_softmax", "two_digits")}
# Where the clean token that leaves first has no other way to this state.
TIGHT = ("absorbing", "absorbing_cosine", "uniform", "unigram", "uniform_geometric", "mask_rates")
CERTAIN = ("absorbing", "absorbing_cosine", "mask_rates")


@jax.jit
def bounds(kernel, t, s, times):
    """[N, states] of steps and of rates."""
    states = jnp.arange(kernel.num_states)
    of_steps = kernel.leaving_bound(jnp.broadcast_to(states, (*t.shape, len(states))), t[:, None], s[:, None])
    of_rates = kernel.leaving_bound(jnp.broadcast_to(states, (*times.shape, len(states))), times[:, None])
    return of_steps, of_rates, kernel.certain(states), kernel.leaving_bound(states, t[0], s[0])


def found(kernel):
    return map(
        np.asarray, bounds(kernel, *(jnp.array(column) for column in zip(*STEPS, strict=True)), jnp.array(TIMES))
    )


def largest(chances, possible):
    """[V] by x_t: over the clean tokens."""
    return np.max(np.where(possible, chances, 0), axis=0)


@pytest.mark.parametrize("name", BOUNDED)
def test_no_clean_token_leaves_sooner(name):
    """By Bayes' rule on V x V x V arrays; and one does nearly as soon, or just as soon where the mediants lose nothing.
    Small steps are known to leave most tokens of their time alone: else nothing would be gained."""
    toy = TOYS[name]
    of_steps, of_rates, certain, of_numbers = found(toy.build())
    np.testing.assert_allclose(of_numbers, of_steps[0], rtol=1e-12)
    text = np.arange(V) != toy.mask_id
    for (t, s), bound in zip(STEPS, of_steps, strict=True):
        true = largest(1 - np.einsum("kzz->kz", toy.reverse(t, s)), (toy.matrix(t) > 0) & text[:, None])
        assert (bound > true - 1e-9).all() and (bound <= 1 + 1e-9).all(), (t, s, bound, true)
        if name in TIGHT:
            np.testing.assert_allclose(bound[true > 0], true[true > 0], atol=1e-12)
        # Near noise that drifts back to the neighbor that it was is all that may be lost.
        assert (bound[true > 0] < 1.08 * true[true > 0]).all(), (t, s, bound, true)
        if t - s < 0.02:
            assert toys.P_DATA @ toy.matrix(t) @ bound < 5 * (t - s) / min(t, 1 - t)
    for t, bound in zip(TIMES, of_rates, strict=True):
        q, rates = toy.matrix(t), np.maximum(toy.changed(t), 0) * (1 - np.eye(V))
        true = largest(rates.sum(-1) / np.where(q > 0, q, 1), (q > 0) & text[:, None])
        assert (bound > true * (1 - 1e-6) - 1e-6).all() and np.isfinite(bound).all(), (t, bound, true)
        if name in TIGHT:
            np.testing.assert_allclose(bound[true > 0], true[true > 0], rtol=1e-9)
    sources = np.where(text[:, None], toy.matrix(0.5), 0) > 0
    alone = (sources.sum(0) == 1) & np.diag(sources)
    assert (alone | ~sources.any(0) | ~certain).all() and certain.any() == (name in CERTAIN)


BY_FREQUENCY = {"frequency_powers": "0.7,1.4", "powers": "2,3"}


@pytest.mark.parametrize("options", [{"resampled": 0}, {"resampled": 1}, {"resampled": 1, **BY_FREQUENCY}])
def test_of_symbols(options):
    """States beyond tokens, against `reverse` of the chain, which other tests compare with its definition."""
    kernel = make_kernel("nested", toys.vocabulary(), blocks="4,2", **options)
    text = np.delete(np.arange(V), toys.MASK)
    of_steps, of_rates, certain, _ = found(kernel)
    t, s = (jnp.array(column) for column in zip(*STEPS, strict=True))
    for times, earlier, rows in ((t, s, of_steps), (jnp.array(TIMES), None, of_rates)):
        leaving, chances = map(np.asarray, _leaving(kernel, text, times, earlier))
        true = np.max(np.where(chances > 0, leaving, 0), axis=0)
        assert (rows > true * (1 - 1e-6) - 1e-9).all()
        if not kernel.partitions.drawing:
            np.testing.assert_allclose(rows[true > 0], true[true > 0], rtol=1e-6)
    assert certain.any() == (kernel.partitions.drawing == 0) and not certain[V:].any() and not certain[toys.MASK]


@jax.jit
def _leaving(kernel, text, t, s):
    """(the chance or rate of leaving, q_t) by clean token, time and state."""
    xt = jnp.broadcast_to(jnp.arange(kernel.num_states), (t.shape[0], kernel.num_states))
    reverse = kernel.reverse(xt, t[:, None], None if s is None else s[:, None])

    def of(k):
        other = jnp.where(jnp.eye(kernel.num_states) > 0, 0, reverse.true(jnp.full(xt.shape, k)))
        return jnp.sum(other, axis=-1), kernel.prob(xt, jnp.full(xt.shape, k), t[:, None])

    return jax.lax.map(of, text)
