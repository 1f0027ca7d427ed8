"""Nested kernels whose blocks have symbols, against generators and differential equations on all N states."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_members import FINE, MASK, MEMBERS, VOCABULARY, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import Vocabulary, make_kernel, schedules
from semdlm_jax.objectives import bound, closed_forms

P_DATA = np.array([0.3, 0.05, 0.25, 0.1, 0.3, 0.0])
ENTROPY = -np.sum(P_DATA[:5] * np.log(P_DATA[:5]))
TIMES = (0.2, 0.55, 0.9)
every_member = pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
TEXT = np.flatnonzero(P_DATA)


def marginals(kernel, t):
    """[V, N]: q_t of the code."""
    x0, xt = np.indices((V, kernel.num_states))
    return np.asarray(toys.compiled("prob", kernel, xt, x0, float(t)))


@every_member
def test_the_chain_is_its_generator(float64, member):
    kernel, states = member.build(), np.arange(member.N)
    assert kernel.num_states == member.N
    for t in TIMES:
        expected = member.generator(t)
        np.fill_diagonal(expected, 0)
        found = np.array(toys.compiled("jump_rates", kernel, states, np.full(member.N, t))).T
        np.fill_diagonal(found, 0)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    start = 1e-3  # where the rates of all levels are finite
    first = marginals(kernel, start)
    for t in TIMES:
        np.testing.assert_allclose(marginals(kernel, t)[TEXT], (first @ member.moved(start, t))[TEXT], atol=1e-8)
    np.testing.assert_allclose(first[TEXT].sum(1), 1, atol=1e-14)
    assert (marginals(kernel, 0.0) == np.eye(V, member.N)).all()
    s, t = 0.3, 0.8
    steps = np.asarray(toys.compiled("transitions", kernel, states, np.full(member.N, t), np.full(member.N, s))).T
    np.testing.assert_allclose(steps, member.moved(s, t), atol=1e-8)


@jax.jit
def _sums_and_prior(kernel, w, v, t):
    return (
        kernel.push_forward(w, t),
        kernel.expectations(v, t),
        kernel.likelihoods(jnp.arange(kernel.num_states), jnp.full(kernel.num_states, t[1])),
        kernel.alpha(t[1]),
        kernel.prior_probs(t[1]),
        bound.prior_divergences(kernel, 0.999),
    )


@every_member
def test_sums_and_prior(float64, member):
    kernel, rng = member.build(), np.random.default_rng(0)
    q = np.stack([marginals(kernel, t) for t in TIMES])
    w, v, t = rng.random((3, V)), rng.random((3, member.N)), np.array(TIMES)
    pushed, expected, columns, alpha, prior, divergences = _sums_and_prior(kernel, w, v, t)
    np.testing.assert_allclose(pushed, np.einsum("tk,tky->ty", w, q), atol=1e-14)
    np.testing.assert_allclose(expected, np.einsum("ty,tky->tk", v, q), atol=1e-14)
    np.testing.assert_allclose(columns, q[1].T, atol=1e-15)
    flat = np.where(np.arange(V) == MASK, 0, 0.2)
    noise = q[1] - float(alpha) * np.eye(V, member.N)
    np.testing.assert_allclose(prior, flat @ noise / noise[0].sum(), atol=1e-14)
    assert (np.asarray(divergences)[TEXT] < 0.02).all() and (np.asarray(divergences)[TEXT] > 0).all()


@pytest.mark.usefixtures("quick_compile")
@every_member
def test_float32_keeps_relative_accuracy(member):
    t = np.float32([1e-3, 0.4, 0.7, 1 - 1e-3])
    single = [marginals(member.build(), float(time)) for time in t]
    with jax.enable_x64(True):
        double = [marginals(member.build(), float(time)) for time in t]
    np.testing.assert_allclose(single, double, rtol=1e-5)


# Powers that are near each other or large, speeds far apart: q_t(y | x0 = 0) by `math`, of the symbol and the mask.
EXTREMES = [
    ({"powers": "1.02"}, lambda n: (-n * math.expm1(0.02 * math.log(n)), n**1.02)),
    ({"powers": "1000"}, lambda n: (-n * math.expm1(999 * math.log(n)), n**1000)),
    ({"path": "sequential", "speeds": "0.1,0.1"}, lambda n: _erlang(0.1, n)),
    ({"path": "sequential", "speeds": "1000,1000"}, lambda n: _erlang(1000, n)),
]


def _erlang(speed, n):
    passed = -speed * math.log1p(-n) if n < 1 else math.inf
    once = passed * math.exp(-passed) if n < 1 else 0.0
    return once, -math.expm1(-passed) - once


@pytest.mark.parametrize("options, exact", EXTREMES, ids=["near", "far", "slow", "fast"])
def test_extreme_powers_and_speeds_keep_digits_in_float32(options, exact):
    """Also with a schedule whose alpha is 1 in float32 where there is noise."""
    schedule = schedules.Polynomial(power=2.0)
    kernel = make_kernel("nested", VOCABULARY, blocks="3", resampled=0, schedule=schedule, **options)
    t = jnp.float32([1e-4, 0.1, 0.9, 1.0])
    found = [kernel.prob(jnp.full(4, y), jnp.zeros(4, int), t) for y in (0, V, MASK)]
    np.testing.assert_allclose(sum(found), 1, rtol=1e-6)
    symbol, _ = zip(*(exact(float(time) ** 2) for time in t))
    np.testing.assert_allclose(found[1], symbol, rtol=2e-4, atol=1e-15)


@pytest.mark.parametrize("member", ["symbols", "hdlm"])
def test_short_steps_keep_digits_in_float32(member):
    """From t = 0 on a step's chances are those of the marginals; a schedule that is done before t = 1 has rates."""
    kernel = MEMBERS[member].build()
    t, states = jnp.float32([1e-6, 0.3, 1.0]), jnp.full(3, V)
    steps = kernel.transitions(states, t, jnp.zeros(3))[:, 0]
    np.testing.assert_allclose(steps, kernel.prob(states, jnp.zeros(3, int), t), rtol=1e-5, atol=1e-12)
    options = {"path": "sequential"} if member == "hdlm" else {}
    ends_early = schedules.Geometric(sigma_max=1e4)
    kernel = make_kernel("nested", VOCABULARY, blocks="3", resampled=0, schedule=ends_early, **options)
    (rates,) = kernel.process.rates(jnp.float32([0.5, 0.9, 0.999]))
    assert all((np.isfinite(rate) & (rate >= 0)).all() for row in rates for rate in row[1:])


@pytest.mark.parametrize("path", ["direct", "sequential"])
def test_rates_keep_digits_in_float32_where_alpha_is_tiny(path):
    """Down to alpha = exp(-20); there the first event is due at the rate -alpha' / alpha = sigma'."""
    schedule, t = schedules.Geometric(), np.float32([0.5, 0.9, 0.97, 1.0])
    single, double = [], []
    for found, is_double in ((single, False), (double, True)):
        with jax.enable_x64(is_double):
            kernel = make_kernel("nested", VOCABULARY, blocks="3", resampled=0, path=path, schedule=schedule)
            found.extend(kernel.process.rates(jnp.asarray(t, float))[0][0][1:])
    np.testing.assert_allclose(single, double, rtol=3e-5)
    speed = {"direct": 1, "sequential": 2}[path]
    np.testing.assert_allclose(np.sum(single, axis=0)[-1], speed * 20 * math.log(20 / 1e-4), rtol=1e-4)


@jax.jit
def _integrand(kernel, posterior, x0, xt, t):
    """[V, N]: the bound's integrand by its closed form, or else in general; and in general."""
    log_posterior = jnp.broadcast_to(jnp.log(jnp.maximum(posterior, 1e-300)), (V, *posterior.shape))
    general = bound.nelbo_rate(kernel, log_posterior, x0, xt, jnp.broadcast_to(t, x0.shape))
    closed = closed_forms.closed_form(kernel)
    return general if closed is None else closed(kernel, log_posterior, x0, xt, jnp.broadcast_to(t, x0.shape)), general


def integrand(kernel, posterior, t):
    return [np.asarray(x) for x in _integrand(kernel, posterior, *np.indices((V, kernel.num_states)), np.asarray(t))]


def bayes(q, p=P_DATA):
    """[N, V]: the exact posterior; zero where x_t cannot occur."""
    joint = (p[:, None] * q).T
    total = joint.sum(1, keepdims=True)
    return np.where(total > 0, joint / np.where(total > 0, total, 1), 0)


@every_member
def test_the_exact_denoiser_reaches_the_entropy(float64, member):
    kernel = member.build()
    edges = [1e-9, 1e-4, 1e-2, 0.2, 0.8, 0.99, 0.9999, bound.T_NUMERIC_MAX, 1]
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = 0.0
    for low, high in zip(edges, edges[1:]):
        for node, weight in zip(nodes, weights, strict=True):
            t = min((low + high) / 2 + (high - low) / 2 * node, bound.T_NUMERIC_MAX)
            q = marginals(kernel, t)
            rate = np.where(P_DATA[:, None] * q > 0, integrand(kernel, bayes(q), t)[0], 0)
            total += (high - low) / 2 * weight * np.sum(P_DATA[:, None] * q * rate)
    assert total == pytest.approx(ENTROPY, abs=1e-4)


@every_member
def test_the_closed_form_is_the_bound(float64, member):
    """For posteriors that are nobody's Bayes posterior."""
    kernel, rng = member.build(), np.random.default_rng(1)
    for t in TIMES:
        q = marginals(kernel, t)
        posterior = bayes(np.where(q > 0, rng.random(q.shape), 0), np.where(np.arange(V) == MASK, 0, 1))
        closed, general = integrand(kernel, posterior, t)
        occurs = (q > 0) & (np.arange(V) != MASK)[:, None]
        np.testing.assert_allclose(closed[occurs], general[occurs], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 2.5])
def test_weights_of_hdlm(float64, gamma):
    """As its authors write them: w_c gamma (1 - t)^(gamma - 1) / c_t at a symbol; at the mask the rate of symbols."""
    kernel, t = MEMBERS["hdlm" if gamma == 1 else "hdlm_gamma"].build(), np.array(TIMES)
    c = -(1 - t) * np.log(1 - t) if gamma == 1 else gamma * (1 - t) * (1 - (1 - t) ** (gamma - 1)) / (gamma - 1)
    m = t + (1 - t) * np.log(1 - t) if gamma == 1 else 1 - (1 - t) ** gamma - c
    symbol = jnp.full(3, V)
    token_rate, none = kernel.ancestor_rates(symbol, jnp.asarray(t))
    np.testing.assert_allclose(token_rate, gamma * (1 - t) ** (gamma - 1) / c, rtol=1e-10)
    nothing, symbol_rate = kernel.ancestor_rates(jnp.full(3, MASK), jnp.asarray(t))
    np.testing.assert_allclose(symbol_rate, c / (1 - t) / m, rtol=1e-10)
    assert not np.any(none) and not np.any(nothing)


@pytest.mark.usefixtures("quick_compile")
@every_member
def test_steps_back_draw_from_the_posterior(member):
    """Whole marginals, and one x_t at a time. False alarms: 1e-6 each, for at most 20 pairs a member."""
    kernel, t, s = member.build(), 0.8, 0.3
    q_t, q_s = marginals(kernel, t), marginals(kernel, s)
    times = (np.full(member.N, time, np.float32) for time in (t, s))
    forward = np.asarray(toys.compiled("transitions", kernel, np.arange(member.N), *times)).T
    pairs = np.argwhere((q_t > 1e-4) & (np.arange(V) != MASK)[:, None])
    pairs = pairs[np.linspace(0, len(pairs) - 1, 20).astype(int)]
    shape = (4000, len(pairs))
    x0, xt = (np.broadcast_to(x, shape) for x in pairs.T)
    drawn = np.asarray(toys.compiled("reverse_step", kernel, toys.key(3), xt, x0, t, s))
    for place, (clean, noisy) in enumerate(pairs):
        joint = q_s[clean] * forward[:, noisy]
        toys.assert_frequencies(drawn[:, place], np.where(joint > 1e-9, joint, 0) / joint[joint > 1e-9].sum())


def test_a_time_for_each_level_is_a_schedule_of_the_user(float64):
    """With the cosine schedule the marginals are those of the linear one at the time of equal noise."""
    there = make_kernel("nested", VOCABULARY, blocks="3", resampled=0, schedule=schedules.Cosine(eps=0.0))
    here = MEMBERS["symbols"].build()
    for t in TIMES:
        np.testing.assert_allclose(marginals(there, t), marginals(here, float(there.noise(t))), atol=1e-14)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"blocks": "4"}, "asks for 4 blocks, but the partitions have 3, 2"),
        ({"blocks": "2,3"}, "give whole numbers that fall"),
        ({"blocks": "x"}, "give whole numbers that fall"),
        ({"blocks": "3", "powers": "x"}, "holds 'x'"),
        ({"blocks": "3", "powers": "2,3"}, "has 2 numbers, but kernel.blocks = '3' makes 2 levels: give 1"),
        ({"blocks": "3", "powers": "0.5"}, "must rise"),
        ({"blocks": "3,2", "powers": "2,2.001"}, "must rise"),
        ({"blocks": "3", "path": "sequential"}, "set kernel.resampled = 0"),
        ({"blocks": "3", "frequency_powers": "1,2"}, "of which there are none here"),
        ({"blocks": "3", "resampled": 0, "frequency_powers": "1,2"}, "the first from 2; 2 of kernel.frequency"),
        ({"blocks": "3", "resampled": 3}, "give at most 2"),
        ({"blocks": "2", "resampled": 1, "frequency_powers": "1,1,1"}, "no token would have number 2"),
        ({"blocks": "3", "path": "sequential", "resampled": 0, "speeds": "1"}, "has 1 number"),
        ({"blocks": "3", "path": "sequential", "resampled": 0, "speeds": "0,1"}, "holds 0, which is not possible"),
    ],
)
def test_what_cannot_be(options, told):
    with pytest.raises(UserError, match=told):
        make_kernel("nested", VOCABULARY, **options)


def test_without_partitions():
    with pytest.raises(UserError, match="no partitions here, which this kernel needs"):
        make_kernel("nested", Vocabulary(V, MASK))


@pytest.mark.parametrize(
    "name, options, common",
    [
        ("absorbing", {"resampled": 0}, {}),
        ("absorbing", {"resampled": 0}, {"frequency_powers": "2,0.6"}),
        ("uniform", {}, {}),
        ("unigram", {"prior": "unigram"}, {}),
    ],
    ids=["absorbing", "by_frequency", "uniform", "unigram"],
)
def test_one_level_is_a_kernel_that_jumps(float64, name, options, common):
    """Marginals, the bound and the prior, with half a count more for every token of the unigram."""
    counts = np.array([1, 4, 9, 16, 25, 36])
    vocabulary = Vocabulary(V, MASK, unigram=counts, partitions=FINE[None])
    one = make_kernel("nested", vocabulary, blocks="", **options, **common)
    other = make_kernel(name, Vocabulary(V, MASK, unigram=counts + 0.5), **common)
    assert one.levels == 1 and one.num_states == V
    posterior = np.random.default_rng(2).dirichlet(np.ones(V), V) * (np.arange(V) != MASK)
    for t in TIMES:
        np.testing.assert_allclose(marginals(one, t), marginals(other, t), rtol=1e-12, atol=1e-15)
        seen = posterior * (marginals(other, t).T > 0)
        seen = seen / np.maximum(seen.sum(1, keepdims=True), 1e-300)
        closed, general = (integrand(kernel, seen, t)[0] for kernel in (one, other))
        occurs = (marginals(other, t) > 0) & (np.arange(V) != MASK)[:, None]
        np.testing.assert_allclose(closed[occurs], general[occurs], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(one.prior_probs(1.0), other.prior_probs(1.0), rtol=1e-12)
