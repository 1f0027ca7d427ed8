"""Posterior geometry and gradient noise against matrices, derivatives, closed forms and limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax import theory
from semdlm_jax.kernels import Vocabulary, make_kernel
from semdlm_jax.theory import counterexamples as small

SIZE = 7
TEXT = small.TEXT


def random_posteriors(rng, count=5):
    """[count, SIZE], with zeros in all but the first."""
    weights = rng.dirichlet(np.full(SIZE, 0.7), count) + 1e-3
    weights[1:] *= rng.random((count - 1, SIZE)) < 0.6
    weights[:, 0] += 0.1
    return weights / weights.sum(1, keepdims=True)


def test_geometry_is_that_of_the_hessian(float64):
    """Rank and traces of the second derivative of KL(q || softmax(f)) at its optimum (Eq. 49); where q has zeros,
    of the matrix diag(q) - q q'."""
    q = random_posteriors(np.random.default_rng(0))
    found = theory.geometry(jnp.asarray(q))
    loss = lambda f: -jnp.sum(q[0] * jax.nn.log_softmax(f))  # noqa: E731
    matrices = [np.asarray(jax.hessian(loss)(jnp.log(q[0])))] + [np.diag(row) - np.outer(row, row) for row in q[1:]]
    np.testing.assert_array_equal(found.active, [np.linalg.matrix_rank(matrix, tol=1e-9) for matrix in matrices])
    np.testing.assert_allclose(found.sensitivity, [np.trace(matrix) for matrix in matrices], atol=1e-14)
    np.testing.assert_allclose(found.energy, [np.trace(matrix @ matrix) for matrix in matrices], atol=1e-14)
    logs = [np.log(np.where(row > 0, row, 1)) for row in q]
    np.testing.assert_allclose(found.entropy, [-row @ log for row, log in zip(q, logs)], atol=1e-14)


def test_effective_support_counts_from_epsilon_on(float64):
    q = jnp.array([0.5, 0.25, 0.125, 0.1, 0.025])
    assert [int(theory.geometry(q, epsilon).effective) for epsilon in (1e-3, 0.1, 0.125, 0.3, 0.9)] == [4, 3, 2, 0, -1]


@functools.cache
def means(name, near=2, **options):
    """t -> the mean Geometry of skewed text, compiled once; float64 must be on."""
    model = small.kernel(name, near, **options)
    return jax.jit(lambda t: small.mean_geometry(model, small.skewed_prior(), t))


def test_closed_forms_of_masks_and_uniform_noise(float64):
    """Eq. 59 and 60."""
    p, t = np.asarray(small.skewed_prior()), 0.3
    masks, uniform = means("absorbing")(t), means("uniform")(t)
    assert masks.active == pytest.approx(t * (TEXT - 1)) and uniform.active == pytest.approx(TEXT - 1)
    assert masks.sensitivity == pytest.approx(t * (1 - np.sum(p**2)))
    assert masks.entropy == pytest.approx(-t * np.sum(p[:TEXT] * np.log(p[:TEXT])))


@pytest.mark.parametrize("name", ["absorbing", "uniform", "semdlm_plus"])
def test_clean_text_is_certain_and_noise_tells_nothing(name, float64):
    """t -> 0 and t -> 1."""
    p = small.skewed_prior()
    early, late, known = means(name)(1e-9), means(name)(1 - 1e-9), theory.geometry(p)
    assert max(early.sensitivity, early.energy, early.entropy) < 1e-6 and early.effective < 1e-6
    for field in ("sensitivity", "energy", "entropy"):
        assert getattr(late, field) == pytest.approx(float(getattr(known, field)), abs=1e-6)


def test_all_neighbors_are_uniform_noise(float64):
    """k -> V: all other tokens as neighbors. Uniform noise also draws the token itself, and so keeps more."""
    everything = means("semantic_knn", TEXT - 1, gamma=0.001)
    t = 0.5
    found, expected = everything(t), means("uniform")(t * TEXT / (TEXT - 1))
    np.testing.assert_allclose(found, expected, rtol=2e-3)  # k_t falls short of V by V ln(1 / t) gamma


def test_a_hot_softmax_is_uniform_noise(float64):
    """tau -> infinity."""
    rng = np.random.default_rng(4)
    embeddings = rng.standard_normal((TEXT + 1, 3))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    known = Vocabulary(TEXT + 1, TEXT, embeddings=embeddings)
    hot = make_kernel("semantic_softmax", known, tau_min=100.0, tau_scale=1e6)
    flat = make_kernel("uniform", known)
    found, expected = (small.mean_geometry(one, small.skewed_prior(), 0.4) for one in (hot, flat))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_dispersion_of_masks_is_that_of_a_line(float64):
    """h(t) = t H under masks, so that D = H^2 / 12."""
    _, spread = small.geometry_over_time(small.kernel("absorbing"), small.skewed_prior())
    entropy = float(theory.geometry(small.skewed_prior()).entropy)
    assert float(spread) == pytest.approx(entropy**2 / 12, rel=1e-12)


def test_less_information_cannot_lower_the_mean(float64):
    """Eq. 61, at every time: uniform noise is a mask that is replaced by a random token."""
    for t in np.linspace(0.05, 0.95, 7):
        masks, uniform = means("absorbing")(t), means("uniform")(t)
        assert masks.sensitivity < uniform.sensitivity and masks.entropy < uniform.entropy


def test_gradients_of_the_best_table(float64):
    """The optimum is one: no gradient on average over time; the parts are those of jax.grad of the loss at each time,
    and of every single draw."""
    model, p = small.kernel("semdlm_plus"), small.skewed_prior()
    times, weights = map(jnp.asarray, theory.time_quadrature(3))
    joints = jnp.stack([(p[:, None] * theory.forward_matrix(model, t)).T for t in times])  # [T, N, V]
    found = theory.gradient_variance(joints, weights)

    mean = jnp.einsum("t,txk->xk", weights, joints)
    best = jnp.log(jnp.maximum(mean, 1e-300)) - jnp.log(jnp.maximum(mean.sum(-1, keepdims=True), 1e-300))
    draw = jax.grad(lambda logits, x, k: -jax.nn.log_softmax(logits[x])[k])
    states, tokens = jnp.indices(mean.shape)
    every = jax.vmap(jax.vmap(draw, (None, 0, 0)), (None, 0, 0))(best, states, tokens)  # [N, V, N, V]
    at_t = jnp.einsum("txk,xkab->tab", joints, every)
    np.testing.assert_allclose(jnp.einsum("t,tab->ab", weights, at_t), 0, atol=1e-15)
    total = jnp.einsum("xk,xkab,xkab->", mean, every, every)
    between = jnp.einsum("t,tab,tab->", weights, at_t, at_t)
    assert float(found.between.sum()) == pytest.approx(float(between), rel=1e-12)
    assert float(found.total.sum()) == pytest.approx(float(total), rel=1e-12)
