"""The bound with its sum over the vocabulary sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import MECHANISMS, V

from semdlm_jax.objectives import bound, sampled

every_mechanism = pytest.mark.parametrize("toy", MECHANISMS.values(), ids=MECHANISMS)


@every_mechanism
def test_the_sampled_bound_is_unbiased(float64, toy):
    """The estimate from each y, weighed by the chance that it is drawn, against the exact sum: in value, and in the
    gradient along one direction. That sum is the definition's for every toy (test_bound.py)."""
    kernel = toy.build()
    direction = np.random.default_rng(5).standard_normal((V, V))
    x0, xt = np.indices((V, V)).reshape(2, -1)
    for t in (0.3, 0.9):
        posteriors = toys.random_posteriors(toy, t, np.random.default_rng(4))
        found = _exact_and_expected(kernel, toys.log(posteriors), direction, x0, xt, np.full(x0.shape, t))
        occurs = toys.possible(toy, [t])[0].ravel() > 0
        wanted, expected = (np.asarray(x)[:, occurs] for x in found)
        np.testing.assert_allclose(expected, wanted, rtol=max(1e-9, 100 * toy.rtol), atol=1e-9)


@jax.jit
def _exact_and_expected(kernel, log_posterior, direction, x0, xt, t):
    rates = kernel.reverse(xt, t)
    chance = rates.true(x0)
    chance = chance / jnp.maximum(jnp.sum(chance, axis=-1, keepdims=True), 1e-300)
    everything = jnp.broadcast_to(jnp.arange(V), chance.shape)

    def exact(size):
        return bound.nelbo_rate(kernel, jax.nn.log_softmax(log_posterior + size * direction)[xt], x0, xt, t)

    def expected(size):
        tilted = jax.nn.log_softmax(log_posterior + size * direction)[xt]
        estimates = sampled.rate_at(rates, tilted, x0, xt, everything)
        # Where nothing arrives nothing is drawn, and every estimate is the sum itself.
        return jnp.sum(jnp.where(jnp.any(chance > 0, axis=-1, keepdims=True), chance, 1 / V) * estimates, axis=-1)

    return tuple(jnp.stack(jax.jvp(f, (0.0,), (1.0,))) for f in (exact, expected))


@jax.jit
def _drawn(kernel, log_posterior, x0, xt, t):
    """(8000 targets a pair; of three more the estimate, and the estimates from each)."""
    rates = kernel.reverse(xt, t)
    y = rates.sample(toys.key(7), x0, 3)
    return (
        rates.sample(toys.key(6), x0, 8000),
        sampled.nelbo_rate(kernel, log_posterior, x0, xt, t, toys.key(7), 3),
        sampled.rate_at(rates, log_posterior, x0, xt, y),
    )


@pytest.mark.usefixtures("quick_compile")
@every_mechanism
def test_targets_are_drawn_in_proportion_to_their_rate(toy):
    """False alarms: 1e-6 for each of 12 pairs a toy; and the estimate is their mean."""
    t = 0.4
    changed = np.maximum(toy.changed(t), 0)
    pairs = np.argwhere((changed.sum(-1) > 1e-9) & (np.arange(V) != toy.mask_id)[:, None])
    x0, xt = pairs[np.linspace(0, len(pairs) - 1, 12).astype(int)].T
    posteriors = toys.random_posteriors(toy, t, np.random.default_rng(4))
    log_posterior = toys.log(posteriors).astype(np.float32)[xt]
    drawn, one, each = _drawn(toy.build(), log_posterior, x0, xt, np.full(x0.shape, t, np.float32))
    for targets, clean, noisy in zip(np.asarray(drawn), x0, xt, strict=True):
        source = np.where(changed[clean, noisy] > 1e-12, changed[clean, noisy], 0)
        toys.assert_frequencies(targets, source / source.sum())
    np.testing.assert_allclose(one, each.mean(-1), rtol=1e-4, atol=1e-4)
