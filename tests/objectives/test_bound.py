"""The likelihood bound against sums over everything, and against the entropy it must reach."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import ENTROPY, MECHANISMS, P_DATA, TOYS, V

from semdlm_jax.objectives import bound

every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)


FIRST = 1e-5


def quadrature(toy, nodes=10):
    """(times, weights) on (FIRST, 1), panels broken where k_t is whole and crowded at the ends."""
    edges = np.unique([FIRST, 1e-4, 1e-3, 1e-2, 0.1, 0.9, *toy.kinks])
    edges = np.append(edges, np.setdiff1d([0.2, 0.5, 0.99, 0.999, 0.9999, 0.99999], edges))[:13]
    edges = np.sort(np.append(edges[edges < 1], 1.0))
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(edges)[:, None] / 2
    times = (edges[:-1, None] + half * (x + 1)).ravel()
    return np.minimum(times, bound.T_NUMERIC_MAX), (half * w).ravel()  # where the integrand is taken for its limit


@jax.jit
def _rates(kernel, log_posterior, x0, xt, t):
    """[T, V, V] by (x0, x_t); log_posterior [T, V, V] by (x_t, k)."""
    shape = (*t.shape, V, V)
    log_posterior = jnp.broadcast_to(log_posterior[:, None], (*shape, V))
    x0, xt, t = (jnp.broadcast_to(x, shape) for x in (x0, xt, t[:, None, None]))
    return bound.nelbo_rate(kernel, log_posterior, x0, xt, t)


def rates(toy, posteriors, times):
    dtype = jnp.result_type(float)
    return np.asarray(
        _rates(toy.build(), jnp.asarray(toys.log(posteriors), dtype), *toys.pairs(), jnp.asarray(times, dtype))
    )


@every_toy
def test_integrand_for_any_posterior(float64, toy):
    """At every third time of the quadrature: three or four in each of its panels."""
    times, _ = quadrature(toy)
    rng = np.random.default_rng(0)
    posteriors = np.stack([toys.random_posteriors(toy, t, rng) for t in times])
    expected = np.stack([toys.true_rates(toy, p, t) for p, t in zip(posteriors[::3], times[::3], strict=True)])
    occurs = toys.possible(toy, times[::3]) > 0
    np.testing.assert_allclose(
        rates(toy, posteriors, times)[::3][occurs], expected[occurs], rtol=max(1e-7, 100 * toy.rtol), atol=1e-9
    )


@every_toy
def test_the_exact_denoiser_reaches_the_entropy(float64, toy):
    """H(p_data) where the conditional process is Markov in x_t; a little above it elsewhere."""
    times, weights = quadrature(toy)
    posteriors = np.stack([toy.bayes(t) for t in times])
    rate, chances = rates(toy, posteriors, times), P_DATA[:, None] * toys.possible(toy, times)
    nelbo = np.einsum("t,txz,txz->", weights, chances, np.where(chances > 0, rate, 0))
    # What the model starts from is not always where noise ends, and the integral stops short of 0.
    prior = P_DATA @ np.array([toys.divergence(row, toys.mixed_prior(toy, 1.0)) for row in toy.matrix(1.0)])
    start = toy.bayes(FIRST)
    first = P_DATA[:, None] * toy.matrix(FIRST)
    reconstruction = -np.sum(first * np.log(np.where(first > 0, start.T, 1)))
    total = nelbo + prior + reconstruction
    if toy.exact:
        # What is kept at the end is paid for as far as the prior does not expect it.
        mismatch = toys.divergence(P_DATA @ toy.matrix(1.0), toys.mixed_prior(toy, 1.0))
        assert total == pytest.approx(ENTROPY + mismatch, abs=1e-4) and mismatch < 0.01
    else:
        assert ENTROPY + 1e-3 < total < ENTROPY + (1.5 if not toy.forgets else 0.3)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    "name", [*MECHANISMS, "gapped", "absorbing_cosine", "uniform_geometric", "hybrid_loglinear", "plus_polynomial"]
)
@pytest.mark.parametrize("which", ["random", "bayes"])
def test_float32_against_float64(name, which):
    """To 1e-4, from t_min to t_max: every mechanism and every schedule."""
    toy = TOYS[name]
    times, _ = quadrature(toy)
    times[:6] = 1e-3, 1e-3, 1 - 1e-3, 1 - 1e-4, 1 - 3e-5, 1 - 1e-5
    times = np.clip(times, 1e-3, 1 - 1e-5).astype(np.float32).astype(float)
    rng = np.random.default_rng(1)
    make = {"random": lambda t: toys.random_posteriors(toy, t, rng), "bayes": toy.bayes}[which]
    posteriors = np.stack([make(t) for t in times])
    single = rates(toy, posteriors, times)
    with jax.enable_x64(True):
        double = rates(toy, posteriors, times)  # by the program of the tests above
    chances = toys.possible(toy, times)
    if which == "bayes":
        chances[:, P_DATA == 0] = 0  # what no text holds, the posterior excludes
    assert np.isfinite(single[chances > 0]).all()
    one, exact, chance = single[chances > 0], double[chances > 0], chances[chances > 0]
    error, allowed = np.abs(one - exact), 1e-4 * (1 + exact)
    # Where the prior cannot produce x_t, its rate is a difference of two of size 1 / (1 - t): what float32 loses
    # there is bounded in expectation, because so few tokens are still kept.
    if toy.name in ("gapped", "semantic_mask"):
        error, allowed = error * chance, 5e-6 * (1 + exact)
    np.testing.assert_array_less(error, allowed)


STEPS = ((1.0, 0.6), (0.6, 0.25), (0.25, 0.1), (0.1, 0.0), (0.999, 0.002), (0.62, 0.61), (0.31, 0.3))


@jax.jit
def _steps(kernel, log_posterior, x0, xt, t, s):
    shape = (*t.shape, V, V)
    log_posterior = jnp.broadcast_to(log_posterior[:, None], (*shape, V))
    t, s = (jnp.broadcast_to(x[:, None, None], shape) for x in (t, s))
    return bound.nelbo_step(kernel, log_posterior, jnp.broadcast_to(x0, shape), jnp.broadcast_to(xt, shape), t, s)


def discrete(toy, posteriors, pairs):
    t, s = (jnp.array(column) for column in zip(*pairs, strict=True))
    return np.asarray(_steps(toy.build(), jnp.asarray(toys.log(posteriors)), *toys.pairs(), t, s))


@every_toy
def test_discrete_terms(float64, toy):
    rng = np.random.default_rng(2)
    posteriors = np.stack([toys.random_posteriors(toy, t, rng) for t, _ in STEPS])
    got = discrete(toy, posteriors, STEPS)
    for (t, s), posterior, terms in zip(STEPS, posteriors, got, strict=True):
        true = toy.reverse(t, s)
        model = np.einsum("zk,kzy->zy", posterior, true)
        x0, xt = np.nonzero(toys.possible(toy, [t])[0])
        expected = [toys.divergence(true[pair], model[pair[1]]) for pair in zip(x0, xt)]
        np.testing.assert_allclose(terms[x0, xt], expected, rtol=max(1e-7, 100 * toy.rtol), atol=1e-9)


@every_toy
def test_discrete_bound_of_the_exact_denoiser(float64, toy):
    """Four uneven steps from 1 to 0: a Markov process, exactly reversed, gives back the entropy."""
    if not (toy.forgets and toy.starts_clean):
        pytest.skip("the sum starts from q_1, which is not the prior")
    got = discrete(toy, np.stack([toy.bayes(t) for t, _ in STEPS]), STEPS)[:4]
    chances = P_DATA[:, None] * toys.possible(toy, [t for t, _ in STEPS[:4]])
    total = np.sum(chances * np.where(chances > 0, got, 0))
    if toy.exact:
        assert total == pytest.approx(ENTROPY, abs=1e-9)
    else:
        assert ENTROPY < total < ENTROPY + 0.2


@every_toy
def test_discrete_terms_tend_to_the_integrand(float64, toy):
    sizes = 0.05 * 4.0 ** -np.arange(len(STEPS))
    pairs = [(0.41, 0.41 - size) for size in sizes]
    posterior = toys.random_posteriors(toy, 0.41, np.random.default_rng(3))
    got = discrete(toy, np.broadcast_to(posterior, (len(STEPS), V, V)), pairs) / sizes[:, None, None]
    occurs = toys.possible(toy, [0.41])[0] > 0
    limit = toys.true_rates(toy, posterior, 0.41)
    errors = np.array([np.abs(terms - limit)[occurs].max() for terms in got])
    if toy.name == "absorbing":
        np.testing.assert_allclose(errors, 0, atol=1e-9)
    else:
        np.testing.assert_allclose(errors[-3:-1] / errors[-2:], 4, rtol=0.02 if toy.rtol < 1e-7 else 0.2)


@pytest.mark.parametrize("name", ["semdlm_plus", "semantic_knn", "semantic_softmax"])
def test_the_bound_is_minimal_at_the_exact_posterior(float64, name):
    toy = TOYS[name]
    t = jnp.full((V, V), 0.62)
    x0, xt = toys.pairs()
    chances = P_DATA[:, None] * toy.matrix(0.62)
    exact = jnp.asarray(toys.log(toy.bayes(0.62)))
    x0 = jnp.where(chances > 0, x0, xt)
    kernel = toy.build()

    @jax.jit
    def losses(scores):
        log_posterior = jnp.broadcast_to(jax.nn.log_softmax(scores), (V, V, V))
        return jnp.sum(chances * bound.nelbo_rate(kernel, log_posterior, x0, xt, t))

    np.testing.assert_allclose(jax.grad(losses)(exact), 0, atol=max(1e-10, 10 * toy.rtol))
    lowest = losses(exact)
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal((V, V)) * 0.3
        assert losses(exact + noise) > lowest + 1e-4


@every_toy
@pytest.mark.parametrize("t", [0.5, 0.999, 1.0])
def test_prior_divergence(float64, toy, t):
    got = jax.jit(bound.prior_divergences)(toy.build(), t)
    prior = toys.mixed_prior(toy, t)
    np.testing.assert_allclose(
        got, [toys.divergence(row, prior) for row in toy.matrix(t)], atol=max(1e-12, 10 * toy.rtol)
    )
    if t == 1 and toy.forgets:
        np.testing.assert_allclose(got, 0, atol=1e-15)


def test_without_a_global_branch_the_prior_is_paid_for(float64):
    """Drift to K of V tokens alone: against a flat start log V - log K nats, the mismatch that belongs in the
    number; less against what the text of the unigram becomes; with jumps nothing."""
    x0 = 3  # whose row is full
    drifting = TOYS["semantic_knn"].build()
    flat = dataclasses.replace(drifting, start=None)
    assert bound.prior_divergences(flat, 1.0)[x0] == pytest.approx(np.log(V / 4), rel=1e-12)
    unigram = toys.SMOOTHED
    mean = [unigram @ np.asarray(bound.prior_divergences(kernel, 1.0)) for kernel in (flat, drifting)]
    assert 0.1 < mean[1] < mean[0]
    assert bound.prior_divergences(TOYS["semdlm_plus"].build(), 1.0)[x0] == pytest.approx(0, abs=1e-12)


def renewing(toy, t, lost):
    """The integrand for the exact posterior, in expectation, of another process with the same marginals: all noise is
    drawn anew at the rates `lost` [V]."""
    m, left = toy.noise(t), -toy.alpha_derivative(t)
    came, sources = toy.noise_derivative(t) + lost[:, None] * m, left * np.eye(V) + lost[:, None] * m
    assert came.min() > -1e-9
    process = dataclasses.replace(toy)
    changed = came[:, :, None] * (sources / sources.sum(1, keepdims=True))[:, None, :]
    object.__setattr__(process, "changed", lambda t: changed)
    return expected(process, t)


def expected(toy, t):
    """The integrand for the exact posterior, in expectation over texts and noise."""
    q = toy.matrix(t)
    return np.sum(P_DATA[:, None] * q * np.where(q > 0, np.nan_to_num(toys.true_rates(toy, toy.bayes(t), t)), 0))


def test_redrawing_all_noise_would_cost_infinitely_much_without_a_global_branch():
    """Why noise is not renewed at the rate at which tokens are lost, -alpha' / alpha.

    With noise that tells of x0 to the end, renewing it 1 / (1 - t) times a unit of time tells it anew every time: the
    integrand times (1 - t) tends to a constant, and the bound grows by it with every e-fold of 1 - t. The bound in use
    stays finite, and where every change is a jump the two are one.
    """
    drifting, flat = TOYS["semantic_knn"], TOYS["uniform"]
    times = (0.99, 0.999, 0.9999)
    late = np.array([renewing(drifting, t, np.full(V, 1 / (1 - t))) * (1 - t) for t in times])
    assert late.min() > 0.2 and late[2] == pytest.approx(late[1], rel=0.02)
    assert all(expected(drifting, t) < 3 for t in times)
    for t in (0.3, 0.9):
        assert renewing(flat, t, np.full(V, 1 / (1 - t))) == pytest.approx(expected(flat, t), rel=1e-12)


@pytest.mark.parametrize("name", ["semdlm_plus", "semantic_mask"])
def test_noise_that_knows_near_from_far_is_tighter(name):
    """Than noise that is renewed as often as tokens jump, 2 t / (1 - t^2), or as its smallest part shrinks. (Not in
    `late_growth`, whose neighborhoods are a third of the vocabulary.)"""
    toy = TOYS[name]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    ours, theirs = [], []
    for t in (nodes + 1) / 2:
        shrinking = np.where(toy.noise(t) > 0, -toy.noise_derivative(t) / np.maximum(toy.noise(t), 1e-300), 0).max(1)
        ours.append(expected(toy, t))
        theirs.append(renewing(toy, t, np.maximum(2 * t / (1 - t * t), shrinking)))
    slack = [weights @ terms / 2 - ENTROPY for terms in (ours, theirs)]
    assert 0 < slack[0] < 0.97 * slack[1], slack


def test_derivative_of_the_divergence(float64):
    """Its rule against differentiation of the formula, in both arguments; a rate of zero leaves the model itself."""
    rng = np.random.default_rng(7)
    rate = jnp.asarray(rng.exponential(size=60))
    difference = jnp.asarray(np.concatenate([rng.exponential(size=30), -rng.random(30) * rate[30:] * 0.99]))

    def ours(rate, difference):
        return jnp.sum(bound.divergence(rate, rate + difference, difference))

    def plain(rate, difference):
        return jnp.sum(rate * jnp.log(rate / (rate + difference)) + difference)

    assert ours(rate, difference) == pytest.approx(float(plain(rate, difference)), rel=1e-12)
    for got, expected in zip(
        jax.grad(ours, (0, 1))(rate, difference), jax.grad(plain, (0, 1))(rate, difference), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert jax.grad(ours, 1)(jnp.zeros(3), jnp.array([0.0, 1e-3, 2.0])).tolist() == [1, 1, 1]


def test_the_divergence_of_extreme_rates_is_finite():
    """In value and gradients, in float32: of posteriors that are 0 or 1 a change may be possible on one side alone."""
    sizes = jnp.array([0.0, 1e-44, 1e-38, 1e-30, 1e-10, 1.0, 1e7])
    rate, model = (x.ravel() for x in jnp.meshgrid(sizes, sizes))

    def total(rate, model):
        return jnp.sum(bound.divergence(rate, model, model - rate))

    terms = bound.divergence(rate, model, model - rate)
    assert jnp.isfinite(terms).all() and (terms >= 0).all()
    np.testing.assert_allclose(terms[rate < 1e-30 * model], model[rate < 1e-30 * model])
    for gradient in jax.grad(total, (0, 1))(rate, model):
        assert (jnp.abs(gradient) <= 1.01e30).all()
