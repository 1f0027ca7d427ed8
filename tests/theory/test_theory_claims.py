"""The paper's claims: numbers of counterexamples against other computations, and verdicts against their numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax import theory
from semdlm_jax.theory import claims
from semdlm_jax.theory import counterexamples as small

# What the numbers of a claim must show for its verdict.
SHOWN = {
    "Proposition 5 (Eq. 24, 35)": lambda n: abs(n["residual"]) < 1e-12 < n["sampling"],
    "Proposition 1 (Eq. 10)": lambda n: n["residual"] < -0.1 and abs(n["residual_with_masks"]) < 1e-12,
    "Proposition 2 (Eq. 11, 12, 40)": lambda n: n["variance"] > 0,
    "Appendix B.6.1 (Eq. 88)": lambda n: (
        n["equal_texts_sampling"] > 0.05 > n["equal_texts_approximation"] == 0
        and n["sampling"] > n["approximation"]
        and n["late_sampling"] < n["late_approximation"]
    ),
    "Propositions 3 and 6, d_act (Eq. 17, 63)": lambda n: (
        n["semantic_knn_2"] < n["absorbing"] < n["semantic_knn_6"] < n["uniform"] == pytest.approx(n["semdlm_plus"])
    ),
    "Propositions 3 and 6, I1 (Eq. 17, 64)": lambda n: (
        n["flat_pairs"] < n["flat_absorbing"] < n["flat_semantic_knn"] < n["flat_uniform"] < n["flat_semdlm_plus"]
        and n["flat_pairs_at_1"] == pytest.approx(1 - 1 / 2)
        and n["paired_semantic_knn"] < n["paired_absorbing"] < n["paired_uniform"] < n["paired_pairs"]
    ),
    "Eq. 61": lambda n: n["masks"] <= n["uniform"],
    "Theorem B.1 (Eq. 68, 69)": lambda n: n["B_s"] <= n["bound"],
    "Propositions 4 and 7, the recursion (Eq. 18)": lambda n: n["B_s"] > 1.4 * n["bound"],
    "Eq. 72, 73 and eta of masks": lambda n: (
        n["absorbing"] == n["semantic_knn"] == 1 > max(n["semdlm_plus"], n["uniform"])
    ),
    "Propositions 4 and 7, accumulation (Eq. 74 to 76)": lambda n: (
        n["repair_times_T_512"] == pytest.approx(n["repair_times_T_64"], rel=0.05)
        and min(n["growth_of_bound_absorbing"], n["growth_of_bound_uniform"]) > 3.8
        and n["growth_of_sum_absorbing"] > 2 * n["growth_of_sum_uniform"]
    ),
    "Eq. 69, in total variation": lambda n: (
        n["uniform"] < n["absorbing"] < n["uniform_bound"] < n["absorbing_bound"] < 1 - 0.999**64
    ),
    "Proposition 4, of a sequence": lambda n: n["sequence_at_most"] < n["one_token"] / 1000,
    "Proposition 8 (Eq. 93)": lambda n: n["V"] < 1e-20 < 1e-3 < n["bound"] == pytest.approx(n["c_1"] ** 2 * n["D"]),
    "Proposition 8, the constant": lambda n: n["V"] < 1e-8 < 1e-3 < n["bound"] and n["c_1"] > 0 and n["M"] < 1.001,
    "Proposition 8, the order": lambda n: (
        n["D_semdlm_plus"] > 4 * n["D_semantic_knn"]
        and n["V_semdlm_plus"] < 0.7 * n["V_semantic_knn"]
        and min(n["c_1_semdlm_plus"], n["c_1_semantic_knn"]) > 0.05
    ),
    "Appendix B.6.2, D(Q)": lambda n: n["semantic_knn"] < n["uniform"] < n["absorbing"] < n["semdlm_plus"],
    "Eq. 111": lambda n: n["guaranteed"] < 0 < n["gained"],
    "Eq. 113": lambda n: n["gained"] <= n["cap"],
}


def test_every_verdict_is_shown_by_its_numbers(float64):
    found = {claim.place: claim for claim in claims.claims()}
    assert found.keys() == SHOWN.keys()
    for place, claim in found.items():
        assert claim.verdict in (claims.HOLDS, claims.CONDITIONAL, claims.FAILS) and claim.says and claim.why
        assert SHOWN[place](claim.numbers), (place, claim.numbers)
    told = [re.findall(r"\d", place.partition("(")[0]) for place in found if place.startswith("Proposition")]
    assert {int(number) for numbers in told for number in numbers} == set(range(1, 9))


def divergence(q, p):
    return float(np.sum(q[q > 0] * np.log(q[q > 0] / p[q > 0])))


def test_two_states(float64):
    """Propositions 4 and 7 by hand, eta by a fine search over inputs."""
    found = small.two_states()
    rows, learned = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0025, 0.9975], [0.15, 0.85]])
    q, p = np.array([0.01, 0.99]), np.array([0.99, 0.01])
    assert float(found.before) == pytest.approx(divergence(q, p))
    assert float(found.after) == pytest.approx(divergence(q @ rows, p @ learned))
    ratios = []
    for a in np.linspace(0.01, 0.99, 99):
        for b in np.linspace(0.005, 0.995, 100):
            mu, pi = np.array([a, 1 - a]), np.array([b, 1 - b])
            ratios.append(divergence(mu @ rows, pi @ rows) / divergence(mu, pi) if a != b else 0)
    assert max(ratios) <= float(found.contraction) <= max(ratios) + 1e-3
    assert float(found.step_divergence) == pytest.approx(max(map(divergence, rows, learned)))


def test_biases_alone(float64):
    """The assumptions of Proposition 8: the prior is the optimum, the gradient of the loss there is zero at every time,
    by jax.grad, that of the logits has norm 1, and Eq. 92 holds with c_1 at all times."""
    found, p = small.bias_alone(), small.skewed_prior()
    model = small.kernel("semdlm_plus_practical", alpha_min=0.1, beta_max=0.9)

    @jax.jit
    def at(t):
        joint = p[:, None] * theory.forward_matrix(model, t)
        text = joint[: small.TEXT, : small.TEXT]
        loss = lambda bias: -jnp.sum(text * jax.nn.log_softmax(bias)[:, None])  # noqa: E731
        q = text / text.sum(0)
        wrong = jnp.sum(text.sum(0) * jnp.abs(p[: small.TEXT, None] - q).sum(0))
        return jax.grad(loss)(jnp.log(p[: small.TEXT])), wrong / -jnp.sum(text * jnp.log(jnp.where(q > 0, q, 1)))

    ratios = []
    for t in np.linspace(0.01, 1, 34):
        gradient, ratio = at(t)
        np.testing.assert_allclose(gradient, 0, atol=1e-14)
        ratios.append(float(ratio))
    assert min(ratios) == pytest.approx(float(found.error_per_entropy), rel=1e-6)
    assert np.linalg.norm(jax.jacobian(lambda bias: bias)(p), 2) == float(found.largest_gradient) == 1


@pytest.mark.parametrize("name", ["semdlm_plus", "semantic_knn"])
def test_bias_and_a_little_of_a_table(float64, name):
    """The assumptions of Proposition 8, and V, by jax.grad in theta and theta_x; c_1 beside errors at other times."""
    scale, size = 0.1, small.TEXT
    found, model = small.bias_and_table(name, scale), small.kernel(name)
    joint_at = jax.jit(lambda t: theory.forward_matrix(model, t)[:size, :size].T / size)
    times, weights = map(jnp.asarray, theory.time_quadrature(small.NODES))
    joints = jnp.stack([joint_at(t) for t in times])
    mean = jnp.einsum("t,txk->xk", weights, joints)
    best = mean / mean.sum(1, keepdims=True)
    logits = lambda theta, table: theta + scale * table  # noqa: E731
    loss = lambda theta, table, joint: -jnp.sum(joint * jax.nn.log_softmax(logits(theta, table)))  # noqa: E731
    at = jnp.zeros(size), jnp.log(best) / scale
    of_bias, of_table = jax.vmap(jax.grad(loss, (0, 1)), (None, None, 0))(*at, joints)
    np.testing.assert_allclose(of_bias, 0, atol=1e-14)
    np.testing.assert_allclose(jnp.einsum("t,txk->xk", weights, of_table), 0, atol=1e-14)
    assert float(found.between) == pytest.approx(float(jnp.einsum("t,txk->", weights, of_table**2)), rel=1e-9)
    rows = [np.reshape(x, (size, -1)) for x in jax.jacobian(lambda *x: logits(*x)[3], (0, 1))(*at)]
    assert np.linalg.norm(np.hstack(rows), 2) == pytest.approx(float(found.largest_gradient))
    ratios = []
    for t in np.linspace(0.02, 1, 50):
        joint = np.asarray(joint_at(t))
        q = joint / joint.sum(1, keepdims=True)
        entropy = -np.sum(joint * np.log(np.where(q > 0, q, 1)))
        ratios.append(np.sum(np.abs(joint - joint.sum(1, keepdims=True) * np.asarray(best))) / entropy)
    assert 0.9 * min(ratios) < float(found.error_per_entropy) <= min(ratios) + 1e-6


def test_noise_within_pairs(float64):
    """I1 of two candidates (1 - t/2, t/2), t - t^2/2: its mean is 1/3, that of masks 7/16. Where one pair is the text,
    uniform noise is this noise and says besides when it left the pair."""
    times = jnp.linspace(0.1, 1, 4)
    np.testing.assert_allclose(small.pairs_sensitivity(small.flat_prior(), times), times - times**2 / 2, rtol=1e-12)
    pair = jnp.zeros(small.TEXT + 1).at[:2].set(0.5)
    for t in times[:-1]:
        uniform = float(small.mean_geometry(small.kernel("uniform"), pair, t).sensitivity)
        kept, other = 1 - t + t / 8, t / 8
        assert uniform == pytest.approx(float(6 / 8 * t / 2 + 2 * kept * other / (kept + other)), rel=1e-9)
        assert uniform < float(small.pairs_sensitivity(pair, t)) == pytest.approx(float(t - t**2 / 2))


def test_runs_that_write_the_same_text(float64):
    """The assumptions of Eq. 88, by the two joint laws; the sampling variance is Jensen's gap of the laws of x_t."""
    flat, skewed = (np.asarray(x)[: small.TEXT] for x in (small.flat_prior(), small.skewed_prior()))
    joints = [np.outer(flat, law) for law in (flat, skewed)]  # (x_0, x_t)
    for joint in joints:
        np.testing.assert_allclose(joint.sum(1), flat)
        np.testing.assert_allclose(joint / joint.sum(0), flat[:, None].repeat(small.TEXT, 1))
    truth = (flat + skewed) / 2
    gap = sum(divergence(truth, law) for law in (flat, skewed)) / 2
    sampling, approximation = small.variances_of_equal_texts()
    assert float(sampling) == pytest.approx(gap) and float(approximation) == 0


def test_error_terms_of_any_two_laws(float64):
    """Eq. 35 for random joint laws, each term written out."""
    q, p = np.random.default_rng(1).dirichlet(np.ones(12), 2).reshape(2, 3, 4)
    found = theory.error_terms(jnp.asarray(q), jnp.asarray(p))
    mismatch = sum(q[i].sum() * divergence(q[i] / q[i].sum(), p[i] / p[i].sum()) for i in range(3))
    rows = [(q[:, j] / q[:, j].sum(), p[:, j] / p[:, j].sum()) for j in range(4)]
    approximation = sum(q[:, j].sum() * divergence(*rows[j]) for j in range(4))
    expected = divergence(q.sum(1), p.sum(1)), divergence(q.sum(0), p.sum(0)), approximation, mismatch
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert abs(float(found.residual)) < 1e-14 < float(found.mismatch)


def test_bias_and_variance(float64):
    """Eq. 40: their sum is the mean error, and the variance vanishes for equal runs alone."""
    target, *runs = np.random.default_rng(2).dirichlet(np.ones(4), 4)
    bias, variance = theory.bias_and_variance(jnp.asarray(target), jnp.asarray(runs))
    assert float(bias) == pytest.approx(divergence(target, np.mean(runs, axis=0)))
    assert float(bias + variance) == pytest.approx(np.mean([divergence(target, run) for run in runs]))
    assert float(variance) > 0 == float(theory.bias_and_variance(jnp.asarray(target), jnp.asarray(runs[:1]))[1])
