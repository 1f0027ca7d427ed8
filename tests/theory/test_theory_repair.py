"""Contraction and exposure bias against closed forms, searches and chains written out."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax import theory
from semdlm_jax.theory import chains, repair
from semdlm_jax.theory import counterexamples as small
from semdlm_jax.theory.enumeration import marginal


def divergence(q, p):
    return np.sum(q[q > 0] * np.log(q[q > 0] / p[q > 0]))


def binary(error):
    return jnp.array([[1 - error, error], [error, 1 - error]])


def random_rows(seed, inputs, outputs):
    return np.random.default_rng(seed).dirichlet(np.full(outputs, 0.6), inputs)


def test_known_channels(float64):
    """A binary symmetric channel has (1 - 2 e)^2, an erasure channel 1 - e; equal rows leave nothing, disjoint ones
    everything; a Z channel leaves 1 - e."""
    pair = theory.pair_contraction
    for e in (0.01, 0.2, 0.45):
        assert float(pair(*binary(e))) == pytest.approx((1 - 2 * e) ** 2, abs=1e-12)
        erasing = jnp.array([[1 - e, 0, e], [0, 1 - e, e]])
        assert float(pair(*erasing)) == pytest.approx(1 - e, abs=1e-12)
        assert float(pair(*jnp.array([[1.0, 0.0], [e, 1 - e]]))) == pytest.approx(1 - e, abs=1e-12)
    assert float(pair(jnp.array([0.3, 0.7]), jnp.array([0.3, 0.7]))) == 0
    assert float(pair(jnp.array([0.3, 0.7, 0, 0]), jnp.array([0, 0, 0.1, 0.9]))) == 1


def test_no_pair_of_inputs_keeps_more_and_one_comes_near(float64):
    """Eq. 67, by a search: random inputs stay below, and small changes along the best pair of rows reach it."""
    rows = random_rows(1, 4, 5)
    eta, draw = float(theory.contraction(jnp.asarray(rows))), np.random.default_rng(2)
    for _ in range(2000):
        mu, pi = draw.dirichlet(np.full(4, draw.uniform(0.2, 2)), 2) + 1e-9  # both have all inputs
        mu, pi = mu / mu.sum(), pi / pi.sum()
        assert divergence(mu @ rows, pi @ rows) <= eta * divergence(mu, pi) + 1e-12
    reached = []
    for i, j in itertools.combinations(range(4), 2):
        for b in np.linspace(0.001, 0.999, 500):
            mu, pi = np.zeros((2, 4))
            pi[[i, j]] = b, 1 - b
            mu[[i, j]] = b + 1e-4 * b * (1 - b), 1 - b - 1e-4 * b * (1 - b)
            reached.append(divergence(mu @ rows, pi @ rows) / divergence(mu, pi))
    assert max(reached) == pytest.approx(eta, abs=1e-3)


def test_bounds_lie_on_both_sides(float64):
    rows = jnp.asarray(random_rows(3, 6, 5))
    eta, dobrushin = float(theory.contraction(rows)), float(repair.dobrushin(rows))
    refresh = float(theory.refresh_mass(rows))
    least = float(repair.contraction_at_least(rows, jnp.arange(2)))
    assert 0 < least <= eta <= dobrushin <= 1 - refresh + 1e-15
    assert refresh == pytest.approx(np.asarray(rows).min(0).sum())
    apart = [np.abs(rows[i] - rows[j]).sum() / 2 for i, j in itertools.combinations(range(6), 2)]
    assert dobrushin == pytest.approx(max(apart))
    # A part of all rows that is drawn anew is what Eq. 71 is about.
    mixed = 0.3 * jnp.full(5, 0.2) + 0.7 * jnp.eye(5)
    assert float(theory.refresh_mass(mixed)) == pytest.approx(0.3)


def test_lambda_of_uniform_noise(float64):
    """Eq. 72, in closed form: min over j of (1 - a) / (V q_t(j)), a = alpha_t / alpha_s."""
    model, p = small.kernel("uniform"), small.skewed_prior()
    for t, s in ((0.5, 0.4), (0.9, 0.1)):
        rows = theory.reverse_matrix(model, p, t, s)
        kept, q = (1 - t) / (1 - s), np.asarray((1 - t) * p + t / small.TEXT)[: small.TEXT]
        expected = ((1 - kept) / (small.TEXT * q)).min()
        assert float(theory.shared_mass(rows, marginal(model, p, s))) == pytest.approx(expected, rel=1e-10)


def test_lambda_of_semantic_noise(float64):
    """Eq. 73 with the jumps of SemDLM+ between s and t: no state shares less than its part, and none keeps more of an
    error than that leaves."""
    model, p, (t, s) = small.kernel("semdlm_plus"), small.skewed_prior(), (0.5, 0.4)
    rows, q = theory.reverse_matrix(model, p, t, s), np.asarray(marginal(model, p, t))[: small.TEXT]
    jumped = 1 - (1 - t**2) / (1 - s**2)
    expected = (jumped / small.TEXT / q).min()
    shared = float(theory.shared_mass(rows, marginal(model, p, s)))
    assert expected <= shared + 1e-12 and float(theory.contraction(rows)) <= 1 - shared
    assert float(theory.shared_mass(theory.reverse_matrix(small.kernel("semantic_knn"), p, t, s), p)) == 0


def test_masks_repair_nothing(float64):
    rows = theory.reverse_matrix(small.kernel("absorbing"), small.skewed_prior(), 0.5, 0.4)
    assert float(theory.contraction(rows)) == 1


def test_many_positions_keep_everything(float64):
    """The bound for independent positions, against eta of their product, written out."""
    one = jnp.asarray(random_rows(5, 2, 3))
    rows = one
    for length in (2, 3, 4):
        rows = jnp.kron(rows, one)
        eta, bound = theory.contraction(rows), repair.sequence_repair(one[0], one[1], length)
        assert 0 < 1 - float(eta) <= float(bound) + 1e-12
    assert float(repair.sequence_repair(one[0], one[1], 128)) < 1e-3


@pytest.mark.parametrize("name", ["uniform", "absorbing"])
def test_exposure_bias_of_a_chain(name, float64):
    """Divergence and total variation of two chains, step by step, and both recursions above them; without error
    there is none."""
    model, p, count, error = small.kernel(name), small.skewed_prior(), 4, 0.05
    found = small.chain(name, count, error)
    true = learned = np.asarray(marginal(model, p, 1.0))
    for index, (t, s) in enumerate(zip(*small.grid(count))):
        rows = np.asarray(theory.reverse_matrix(model, p, t, s))
        model_rows = (1 - error) * rows + error / len(rows)
        true, learned = true @ rows, learned @ model_rows
        assert float(found.divergence[index + 1]) == pytest.approx(divergence(true, learned), abs=1e-13)
        assert float(found.variation[index + 1]) == pytest.approx(np.abs(true - learned).sum() / 2)
        ratios = np.log(rows[rows > 0] / model_rows[rows > 0])
        assert float(found.step_error[index]) == pytest.approx(ratios.max())
    np.testing.assert_allclose(true, p, atol=1e-12)
    for index in range(count):
        after = found.contraction[index] * found.divergence[index] + found.step_error[index]
        assert 0 < float(found.divergence[index + 1]) <= float(after)
    assert (found.divergence <= found.divergence_bound).all()
    assert (found.variation <= found.variation_bound + 1e-12).all()  # one step: equal
    assert float(found.variation_bound[-1]) < 1 and found.divergence_bound[0] == 0
    right = chains.exposure(jnp.asarray(p), *jnp.broadcast_to(jnp.eye(len(p)), (2, 3, len(p), len(p))))
    assert not right.divergence.any() and not right.variation_bound.any()
