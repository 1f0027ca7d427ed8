"""The survey of a kernel and its steps back against matrices of the toys' definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import P_DATA, ROWS, K, V

from semdlm_jax import theory
from semdlm_jax.errors import UserError
from semdlm_jax.theory.clusters import cluster_of
from semdlm_jax.theory.enumeration import as_prior
from semdlm_jax.theory.quantities import choose_states

TIMES, WEIGHTS = np.array([0.15, 0.55, 0.9]), np.array([0.25, 0.5, 0.25])
T, S = 0.6, 0.45
CLUSTERS = np.array([list(row) + [V] * (K - len(row)) for row in ROWS])


def by_definition(toy):
    """{field: [T]} of the means over x_t, and (within, between), from the toy's own matrices."""
    found, joints = {"active": [], "sensitivity": [], "energy": [], "entropy": []}, []
    for t in TIMES:
        q, chances = toy.bayes(t), P_DATA @ toy.matrix(t)
        hessians = [np.diag(row) - np.outer(row, row) for row in q]
        logs = np.log(np.where(q > 0, q, 1))
        found["active"].append(chances @ ((q > 0).sum(1) - 1))
        found["sensitivity"].append(chances @ [np.trace(h) for h in hessians])
        found["energy"].append(chances @ [np.trace(h @ h) for h in hessians])
        found["entropy"].append(-chances @ (q * logs).sum(1))
        joints.append(P_DATA[:, None] * toy.matrix(t))
    joints = np.stack(joints).transpose(0, 2, 1)  # [T, x_t, x0]
    mean = np.einsum("t,txk->xk", WEIGHTS, joints)
    visits = mean.sum(1, keepdims=True)
    best = np.where(visits > 0, mean / np.where(visits > 0, visits, 1), 0)
    gradients = joints.sum(2, keepdims=True) * best - joints
    between = np.einsum("t,txk->", WEIGHTS, gradients**2)
    draws = np.einsum("xk,xkj->", mean, (best[:, None, :] - np.eye(V)) ** 2)
    return found, (draws - between, between)


@pytest.mark.parametrize("name", toys.MECHANISMS)
def test_survey_and_steps(name, float64):
    """Means, gradients, and the reverse kernel whose coefficients `steps` gives: one program a toy."""
    toy = toys.TOYS[name]
    kernel, p = toy.build(), jnp.asarray(P_DATA)
    compute = jax.jit(lambda prior: theory.reverse_matrix(kernel, prior, T, S))
    found = theory.survey(kernel, p, TIMES, WEIGHTS, jnp.asarray(CLUSTERS))
    expected, (within, between) = by_definition(toy)
    for field, values in expected.items():
        means, errors = found.mean(getattr(found.geometry, field))
        np.testing.assert_allclose(means, values, atol=1e-11, rtol=10 * toy.rtol, err_msg=field)
        assert not errors.any()
    loose = 1e-6 if name == "semantic_softmax" else 1e-11  # its normalizer is interpolated
    assert found.total(found.gradients.within) == pytest.approx(within, abs=loose)
    assert found.total(found.gradients.between) == pytest.approx(between, abs=loose)
    spread = WEIGHTS @ (expected["entropy"] - WEIGHTS @ expected["entropy"]) ** 2
    assert found.dispersion == pytest.approx(spread, abs=10 * loose)

    rows = np.asarray(compute(p))
    chances = P_DATA @ toy.matrix(T)
    written_out = np.einsum("xk,kxy->xy", toy.bayes(T), toy.reverse(T, S))
    np.testing.assert_allclose(rows[chances > 0], written_out[chances > 0], atol=loose)
    np.testing.assert_allclose(rows.sum(1), 1, atol=loose)
    np.testing.assert_allclose(chances @ rows, P_DATA @ toy.matrix(S), atol=loose)


def test_steps_are_those_of_the_matrix(float64):
    kernel, p = toys.TOYS["semdlm_plus"].build(), jnp.asarray(P_DATA)
    rows = theory.reverse_matrix(kernel, p, T, S)
    found = theory.steps(kernel, p, [T, 0.1], T - S)
    assert float(found.at_least[0]) == pytest.approx(float(theory.contraction(rows)), rel=1e-9)
    assert float(found.refresh[0]) == pytest.approx(np.asarray(rows).min(0).sum(), rel=1e-9)
    some = theory.steps(kernel, p, [T], T - S, rows=np.arange(3, 9))
    assert float(some.at_least[0]) <= float(found.at_least[0]) + 1e-12
    assert float(some.refresh[0]) >= float(found.refresh[0])
    last = theory.reverse_matrix(kernel, p, 0.1, 0.0)  # no step goes below 0
    assert float(found.at_least[1]) == pytest.approx(float(theory.contraction(last)), rel=1e-9)


def test_a_sample_of_states(float64):
    """With fewer states than there are: means within five standard errors of those of all, and these are honest: over
    seeds the weighted sum of a sample is the sum itself."""
    visits = np.random.default_rng(0).dirichlet(np.full(200, 0.3))
    values, count = np.random.default_rng(1).random(200), 40
    sums = []
    for seed in range(400):
        states = choose_states(visits, count, seed)
        assert len(states.ids) == len(set(states.ids)) <= count and (states.weights[~states.sampled] == 1).all()
        assert set(np.argsort(-visits)[:5]) <= set(states.ids)
        sums.append(np.sum(states.weights * (visits * values)[states.ids]))
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - visits @ values) < 4 * error and error > 0
    everything = choose_states(visits, 200)
    np.testing.assert_array_equal(everything.ids, np.arange(200))
    few = choose_states(np.where(np.arange(200) % 10 == 0, visits, 0), count)  # most states are never visited
    np.testing.assert_array_equal(few.ids, np.arange(0, 200, 10))
    assert (few.weights == 1).all() and not few.sampled.any()

    kernel, p = toys.TOYS["unigram"].build(), jnp.asarray(P_DATA)
    whole, part = (theory.survey(kernel, p, TIMES, WEIGHTS, jnp.asarray(CLUSTERS), states) for states in (V, 8))
    (all_means, _), (means, errors) = (one.mean(one.geometry.entropy) for one in (whole, part))
    assert (errors > 0).all() and (np.abs(means - all_means) < 5 * errors).all()


def test_amplification(float64):
    """Against its definition; the guarantee lies below the gain and the gain below the cap, for any likelihoods."""
    rng = np.random.default_rng(7)
    prior, likelihoods = rng.dirichlet(np.ones(6)), rng.random((50, 6)) + 0.01
    cluster = rng.random((50, 6)) < 0.5
    cluster[:, 0], cluster[:, 1] = True, False
    found = theory.amplification(jnp.asarray(prior), jnp.asarray(likelihoods), jnp.asarray(cluster))
    for i in range(50):
        inside, outside = np.flatnonzero(cluster[i]), np.flatnonzero(~cluster[i])
        joint = prior * likelihoods[i]
        odds, before = (w[inside].sum() / w[outside].sum() for w in (joint, prior))
        assert float(found.gained[i]) == pytest.approx(np.log(odds / before))
        ratio = likelihoods[i, inside].min() / likelihoods[i, outside].max()
        assert float(found.guaranteed[i]) == pytest.approx(np.log(ratio))
        assert float(found.cap[i]) == pytest.approx(np.log(likelihoods[i].max() / likelihoods[i].min()))
    assert (found.guaranteed <= found.gained + 1e-12).all() and (found.gained <= found.cap + 1e-12).all()
    # Equality where a likelihood has one value in the cluster and one outside.
    two = jnp.where(jnp.asarray(cluster), 0.3, 0.1)
    flat = theory.amplification(jnp.asarray(prior), two, jnp.asarray(cluster))
    for values in flat:
        np.testing.assert_allclose(values, np.log(3))
    # A token of the cluster that cannot become j; nothing else that can.
    none = theory.amplification(jnp.asarray(prior), jnp.array([1.0, 0, 0, 0, 0, 0]), jnp.arange(6) < 2)
    assert (float(none.guaranteed), float(none.gained), float(none.cap)) == (-np.inf, np.inf, np.inf)


def test_the_cap_of_jumps(float64):
    """Eq. 113 by its terms: SemDLM+, k_in = j, a token whose row is full and which others are not near to at t."""
    kernel, j, t = toys.TOYS["semdlm_plus"].build(), 3, 0.5
    likelihoods = kernel.likelihoods(jnp.array([j]), jnp.full(1, t))
    found = theory.amplification(jnp.asarray(P_DATA), likelihoods, cluster_of(kernel.table.ids, jnp.array([j]), V))
    assert float(found.cap[0]) == pytest.approx(np.log((1 - t + t**2 / V) / (t**2 / V)))


def test_clusters(float64):
    """A token and its neighbors; nothing for a token without any, and for a symbol beyond the tokens."""
    found = np.asarray(cluster_of(jnp.asarray(CLUSTERS), jnp.array([4, 9, V + 1]), V))
    np.testing.assert_array_equal(np.flatnonzero(found[0]), [3, 4, 5])
    assert not found[1:].any()
    assert not cluster_of(jnp.zeros((V, 0), int), jnp.arange(3), V).any()


def test_priors_are_checked():
    kernel = toys.TOYS["uniform"].build()
    np.testing.assert_allclose(as_prior(kernel, np.full(V, 3)), 1 / V)
    for wrong in (np.ones(V + 1), np.zeros(V), -np.ones(V), np.full(V, np.nan)):
        with pytest.raises(UserError, match="^prior "):
            as_prior(kernel, wrong)
