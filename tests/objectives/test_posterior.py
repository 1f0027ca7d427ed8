"""From logits to p(x_0 | x_t) against dense softmaxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import MASK, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import Posterior

LIKELIHOODS = ("direct", "bayes")  # `score` has its own tests among the losses

TIMES = np.array([1e-3, 0.31, 0.97])
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
LOGITS = 3 * np.random.default_rng(0).standard_normal((len(TIMES), V, V))


def weighted(toy, parameterisation, t):
    """[V, V] by (x_t, k): what softmax weights are multiplied with before they are normalised."""
    likelihood = toy.matrix(t).T
    weight = likelihood if parameterisation == "bayes" else 1.0 * (likelihood > 0)
    if toy.mask_id is not None:
        weight[:, toy.mask_id] = 0
    return weight


def dense(toy, parameterisation, logits, t, tilt=1.0):
    """[V, V] by (x_t, k); rows of an x_t that no text reaches are NaN."""
    joint = np.exp(logits) * weighted(toy, parameterisation, t)
    with np.errstate(invalid="ignore"):
        posterior = joint / joint.sum(1, keepdims=True)
        posterior = posterior / np.where(np.eye(V, dtype=bool), tilt, 1)
        return posterior / posterior.sum(1, keepdims=True)


@every_toy
@pytest.mark.parametrize("parameterisation", LIKELIHOODS)
@pytest.mark.parametrize("tilt", [1.0, 0.1])
def test_posteriors(float64, toy, parameterisation, tilt):
    xt = jnp.broadcast_to(jnp.arange(V), (len(TIMES), V))
    t = jnp.asarray(TIMES)[:, None]
    got = np.exp(Posterior(parameterisation, tilt).log_probs(toy.build(), jnp.asarray(LOGITS), xt, t))
    for t, logits, rows in zip(TIMES, LOGITS, got, strict=True):
        expected = dense(toy, parameterisation, logits, t, tilt)
        real = np.isfinite(expected[:, 0])
        assert real.any()
        np.testing.assert_allclose(rows[real], expected[real], rtol=1e-9 + 10 * toy.rtol, atol=1e-300)


@pytest.mark.parametrize("parameterisation", LIKELIHOODS)
def test_absorbing_is_subs(parameterisation):
    """Zero mask probability and the softmax of the others at a mask; visible tokens carried over; bfloat16 logits."""
    logits = jnp.asarray(LOGITS[0], jnp.bfloat16)
    posterior = Posterior(parameterisation).log_probs(
        TOYS["absorbing"].build(), logits, jnp.arange(V), jnp.array([0.4])
    )
    assert posterior.dtype == jnp.float32
    probs = np.exp(np.asarray(posterior))
    expected = np.exp(np.asarray(logits[MASK], float)) * (np.arange(V) != MASK)
    np.testing.assert_allclose(probs[MASK], expected / expected.sum(), rtol=1e-5)
    assert probs[MASK, MASK] == 0
    visible = np.arange(V) != MASK
    np.testing.assert_array_equal(probs[visible], np.eye(V)[visible])


@every_toy
@pytest.mark.parametrize("parameterisation", LIKELIHOODS)
def test_cross_entropy_and_its_gradient(float64, toy, parameterisation):
    """The value is -log p(x0); the gradient in the logits is p - onehot(x0)."""
    kernel, posterior = toy.build(), Posterior(parameterisation)
    x0, xt = (jnp.broadcast_to(x, (len(TIMES), V, V)) for x in toys.pairs())
    t = jnp.asarray(TIMES)[:, None, None]
    logits = jnp.broadcast_to(jnp.asarray(LOGITS)[:, None], (len(TIMES), V, V, V))

    def total(logits):
        values = posterior.cross_entropy(kernel, logits, x0, xt, t)
        return jnp.sum(values), values

    (_, values), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(logits)
    values, gradients = np.asarray(values), np.asarray(gradients)
    for index, t in enumerate(TIMES):
        occurs = toy.matrix(t) > 0
        if toy.mask_id is not None:
            occurs[toy.mask_id] = False
        expected = dense(toy, parameterisation, LOGITS[index], t)
        for x0, xt in np.argwhere(occurs):
            loose = 1e-9 + 10 * toy.rtol
            assert values[index, x0, xt] == pytest.approx(-np.log(expected[xt, x0]), rel=loose, abs=loose)
            np.testing.assert_allclose(gradients[index, x0, xt], expected[xt] - np.eye(V)[x0], atol=loose)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("toy", [TOYS[name] for name in ("absorbing", "semdlm_plus", "gapped", "semantic_mask")])
def test_float32_gradients_of_the_cross_entropy_are_finite(toy):
    """Even for pairs that cannot occur, such as padding that holds the mask, and for logits far apart."""
    kernel, posterior = toy.build(), Posterior()
    x0, xt = toys.pairs()
    logits = jnp.broadcast_to(30 * jnp.asarray(LOGITS[0], jnp.float32), (V, V, V))

    def total(logits, t):
        return jnp.sum(jnp.where(toy.matrix(0.5) > 0, posterior.cross_entropy(kernel, logits, x0, xt, t), 0))

    gradient = jax.jit(jax.grad(total))
    for t in (1e-3, 1 - 1e-5):
        assert np.isfinite(gradient(logits, jnp.full((V, V), t))).all()


def test_refusals():
    with pytest.raises(UserError, match="unknown parameterisation 'bays'.*'bayes'"):
        Posterior("bays")
    for tilt in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="lambda_same must be above 0"):
            Posterior("bayes", tilt)
