"""Options of the loss `nelbo` that change how its terms weigh, against the terms written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import FINE, MASK, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import make_kernel
from semdlm_jax.objectives import make_objective
from semdlm_jax.objectives.losses import LossInput

B, C = 5, 40
T = np.array([0.05, 0.2, 0.5, 0.8, 0.95], np.float32)[:, None]
WIDTH = (1 - 1e-5) - 1e-3  # of the range of times


def terms(kernel, **options):
    """(loss, weight, x0, xt, log posterior) of random text and logits."""
    trained = make_objective("nelbo", kernel, **options)
    x0 = jnp.asarray(np.random.default_rng(0).choice(np.delete(np.arange(V), MASK), (B, C)), jnp.int32)
    logits = jax.random.normal(toys.key(1), (B, C, V))
    xt = kernel.corrupt(toys.key(2), x0, jnp.asarray(T))
    x = LossInput(logits, x0, xt, jnp.asarray(T), jnp.ones((B, 1)), toys.key(3))
    loss, weight = trained.loss.terms(trained, x)
    log_posterior = trained.posterior.log_probs(kernel, logits, xt, jnp.asarray(T))
    return [np.asarray(values, np.float64) for values in (loss, weight)] + [
        np.asarray(v) for v in (x0, xt, log_posterior)
    ]


@pytest.mark.parametrize("name", ["uniform", "nested"])
def test_a_power_of_the_noise_weighs_the_integrand(name):
    """And the mean over positions is one of weights, so that the size of the loss stays comparable."""
    kernel = toys.TOYS[name].build()
    plain, ones, *_ = terms(kernel)
    loss, weight, *_ = terms(kernel, noise_power=1.5)
    assert (ones == 1).all()
    np.testing.assert_allclose(weight, np.broadcast_to(T**1.5, (B, C)), rtol=1e-6)
    np.testing.assert_allclose(loss, plain * T**1.5, rtol=1e-6)


def test_cross_entropies_of_masks_weigh_at_most_so_much():
    """min(1 / t, 2) under the linear schedule."""
    loss, _, x0, xt, log_posterior = terms(toys.TOYS["absorbing"].build(), max_weight=2.0)
    entropy = -np.take_along_axis(log_posterior, x0[..., None], -1)[..., 0]
    expected = np.where(xt == MASK, np.minimum(1 / T, 2) * entropy, 0) * WIDTH
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    assert (xt[1] == MASK).any()  # where 1 / t is above 2


def test_cross_entropies_of_symbols_weigh_at_most_so_much():
    """HDLM's: of the token at a symbol, w_c = (1 - t)^0 / c_t; of its block at the mask, w_m = -ln(1 - t) / m_t."""
    kernel = make_kernel("nested", toys.vocabulary(), blocks="4", resampled=0, path="sequential", speeds="1,1")
    loss, _, x0, xt, log_posterior = terms(kernel, max_weight=2.0)
    c, left = -(1 - T) * np.log(1 - T), -np.log(1 - T)
    m = T - c
    token = -np.take_along_axis(log_posterior, x0[..., None], -1)[..., 0]
    same = FINE[x0][..., None] == FINE
    block = -np.log(np.sum(np.exp(np.float64(log_posterior)) * same, -1))
    expected = np.where(xt >= V, np.minimum(1 / c, 2) * token, np.where(xt == MASK, np.minimum(left / m, 2) * block, 0))
    np.testing.assert_allclose(loss, expected * WIDTH, rtol=2e-5, atol=1e-6)
    assert (xt >= V).any() and (1 / c > 2).any() and (left / m > 2).any()


def test_other_bounds_have_no_such_weights():
    with pytest.raises(UserError, match="set it to 0"):
        make_objective("nelbo", toys.TOYS["uniform"].build(), max_weight=2.0)
