"""The reverse process given x0 against Bayes' rule on V x V x V arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import MECHANISMS, TOYS, V

from semdlm_jax.kernels import split
from semdlm_jax.kernels.reverse import Coupled

pytestmark = pytest.mark.usefixtures("quick_compile")

# Steps small and large, within a neighborhood size and across several, from the start and to the end.
STEPS = ((0.31, 0.3), (0.62, 0.15), (0.97, 0.93), (0.999, 0.001), (1.0, 0.75), (0.4, 0.0), (1.0, 0.0))
TIMES = (0.05, 0.31, 0.62, 0.9, 0.999)
SMALL = tuple((t, t - 1e-4 * (1 - t) / part) for t in TIMES for part in (1, 2))
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
every_mechanism = pytest.mark.parametrize("toy", MECHANISMS.values(), ids=MECHANISMS)
COUPLED = {name: toy for name, toy in TOYS.items() if not isinstance(toy, toys.Chain)}


def _true(reverse, xt):
    """[N, V, V, V] by (time, x0, x_t, y), from all clean tokens at once."""
    return jnp.moveaxis(jax.lax.map(lambda x0: reverse.true(jnp.full(xt.shape, x0)), jnp.arange(V)), 0, 1)


def _steps(kernel, t, s):
    """(stay, R) by (time, x0, x_t): [N, V, V] and with y [N, V, V, V]; and `_origins`."""
    xt = jnp.broadcast_to(jnp.arange(V), (t.shape[0], V))
    reverse = kernel.reverse(xt, t[:, None], s[:, None])
    return jnp.swapaxes(reverse.stay, 1, 2), _true(reverse, xt), _origins(kernel, reverse, t, s)


def _rates(kernel, t):
    """(R, `arrival_rate`) by (time, x0, x_t): [N, V, V, V] by y and [N, V, V]; and `_origins`."""
    xt = jnp.broadcast_to(jnp.arange(V), (t.shape[0], V))
    reverse = kernel.reverse(xt, t[:, None])
    x0, to = (jnp.broadcast_to(x, (t.shape[0], V, V)) for x in toys.pairs())
    return _true(reverse, xt), kernel.arrival_rate(to, x0, t[:, None, None]), _origins(kernel, reverse, t)


def _origins(kernel, reverse, t, s=None):
    """(of pairs, of all clean tokens), arrays [N, V, V] by (time, x_t, x0); None of a chain, which has no such."""
    if not isinstance(kernel, Coupled):
        return None
    x0, xt = (jnp.broadcast_to(x.T, (t.shape[0], V, V)) for x in toys.pairs())
    s = None if s is None else s[:, None, None]
    return kernel.origins(xt, x0, t[:, None, None], s), reverse.origins


@functools.cache
def steps_of(name):
    """`_steps` of a toy, of STEPS and then SMALL, and `_rates` at TIMES, a whole k_t and 1: in a test in float64."""
    toy = TOYS[name]
    t, s = (jnp.array(column) for column in zip(*STEPS, *SMALL, strict=True))
    times = jnp.array((*TIMES, *toy.kinks[:1], 1.0))
    return jax.tree.map(np.asarray, _steps_and_rates(toy.build(), t, s, times))


@jax.jit
def _steps_and_rates(kernel, t, s, times):
    return _steps(kernel, t, s), _rates(kernel, times)


def posteriors(toy):
    """[N, V, V, V] by STEPS: q(x_s | x_t, x0) of the code."""
    (stay, changes, _), _ = steps_of(toy.name)
    return (changes + stay[..., None] * np.eye(V))[: len(STEPS)]


@every_mechanism
def test_float32_chances_are_chances(toy):
    t, s = (jnp.array(column) for column in zip(*STEPS, strict=True))
    stay, changes, _ = jax.tree.map(np.asarray, jax.jit(_steps)(toy.build(), t, s))
    assert np.isfinite(stay).all() and np.isfinite(changes).all()
    assert min(stay.min(), changes.min()) >= 0 and (stay + changes.sum(-1)).max() <= 1 + 3e-6


@every_toy
def test_a_step_is_the_posterior(float64, toy):
    """By Bayes' rule on the forward process given x0; it sums to one; and the marginals at s come from those at t."""
    loose = max(1e-12, 10 * toy.rtol)
    for (t, s), posterior in zip(STEPS, posteriors(toy), strict=True):
        at_t, at_s = toy.matrix(t), toy.matrix(s)
        possible = at_t > 0
        np.testing.assert_allclose(posterior[possible], toy.reverse(t, s)[possible], atol=loose)
        np.testing.assert_allclose(posterior[possible].sum(-1), 1, atol=loose)
        assert (posterior[~possible] == 0).all()
        np.testing.assert_allclose(np.einsum("ij,ijy->iy", at_t, posterior), at_s, atol=loose)


@pytest.mark.parametrize("toy", COUPLED.values(), ids=COUPLED)
@pytest.mark.parametrize("is_step", [True, False], ids=["step", "rates"])
def test_one_clean_token_is_as_all(float64, toy, is_step):
    """Origins pair by pair, which samplers draw from, against those of all clean tokens, which bounds sum over."""
    steps, rates = steps_of(toy.name)
    of_pairs, of_all = jax.tree.map(lambda x: x[: len(STEPS)], steps[-1]) if is_step else rates[-1]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), of_pairs, of_all)


def test_what_has_jumped_never_comes_back_near(float64):
    """And what is near jumps as often as anything: 1 - (1 - t^2) / (1 - s^2), where its neighbors lose no more."""
    plus, drifting = (_flows(TOYS[name].build(), 0.62, 0.15) for name in ("semdlm_plus", "semantic_knn"))
    assert (plus.far_to_near == 0).all() and (plus.kept_to_far > 0).all() and (plus.near_to_near >= 0).all()
    np.testing.assert_allclose(plus.far_lost[-1], 1 - (1 - 0.62**2) / (1 - 0.15**2), rtol=1e-12)
    assert drifting.kept_to_far[-1] == drifting.near_to_far[-1] == 0  # a full row never jumps


@jax.jit
def _flows(kernel, t, s):
    now, after = (split.levels(kernel, time) for time in (s, t))
    return split.flows(now, jax.tree.map(jnp.subtract, after, now))


def test_absorbing_is_the_ancestral_step_of_mdlm(float64):
    """A mask stays with chance s / t and else becomes x0; a visible token stays."""
    for (t, s), posterior in zip(STEPS, posteriors(TOYS["absorbing"]), strict=True):
        for x0 in set(range(V)) - {toys.MASK}:
            np.testing.assert_allclose(posterior[x0, toys.MASK][[toys.MASK, x0]], [s / t, 1 - s / t], atol=1e-14)
            if t < 1:
                np.testing.assert_allclose(posterior[x0, x0, x0], 1, atol=1e-14)


def test_uniform_is_the_posterior_of_d3pm(float64):
    """As UDLM writes it, with the clean token plugged in."""
    eye = np.eye(V)
    for (t, s), posterior in zip(STEPS, posteriors(TOYS["uniform"]), strict=True):
        at, as_, ats = 1 - t, 1 - s, (1 - t) / (1 - s)
        for x0 in range(V):
            for z in range(V):
                x, e = eye[x0], eye[z]
                expected = at * V * x * e + (ats - at) * e + (as_ - at) * x + (1 - ats) * (1 - as_) / V
                np.testing.assert_allclose(posterior[x0, z], expected / (at * V * x[z] + 1 - at), atol=1e-14)


def gidd_posterior(toy, x, z, t, s):
    """p(z_s) proportional to q_ts(z_t | z_s) q_s(z_s | x) / q_t(z_t | x), as GIDD's sampler writes it."""
    kept = toy.alpha(t) / toy.alpha(s)
    jumps = (1 - toy.alpha(t)) * toy.prior(t) - kept * (1 - toy.alpha(s)) * toy.prior(s)
    forward = kept * (np.arange(V) == z) + jumps[z]
    return forward * toy.matrix(s)[x] / toy.matrix(t)[x, z]


def test_hybrid_is_the_posterior_of_gidd(float64):
    toy = TOYS["hybrid"]
    for (t, s), posterior in zip(STEPS[:4], posteriors(toy), strict=False):
        for x in set(range(V)) - {toys.MASK}:
            for z in range(V):
                np.testing.assert_allclose(posterior[x, z], gidd_posterior(toy, x, z, t, s), atol=1e-13)


@every_toy
def test_rates_are_the_limit_of_small_steps(float64, toy):
    """The rates against the derivative of the definition, and against two small steps of the code."""
    (_, changes, _), (all_rates, all_arrived, _) = steps_of(toy.name)
    for t, rates, arrived, pair in zip(TIMES, all_rates, all_arrived, changes[len(STEPS) :].reshape(-1, 2, V, V, V)):
        if min(np.abs(np.array(toy.kinks) - t), default=1) < 0.02:
            continue
        q = toy.matrix(t)
        occurs = q > 0
        changed = toy.changed(t)[occurs] / q[occurs][:, None]
        np.testing.assert_allclose(rates[occurs], changed, rtol=max(1e-8, 100 * toy.rtol), atol=1e-9)
        step = 1e-4 * (1 - t)
        large, small = pair / np.array([step, step / 2])[:, None, None, None]
        limit = (2 * small - large)[occurs]
        if isinstance(toy, toys.Chain):  # a chain counts what stays among the changes to x_t itself
            stays = np.broadcast_to(np.eye(V, dtype=bool), occurs.shape + (V,))[occurs]
            limit = np.where(stays, rates[occurs], limit)
        np.testing.assert_allclose(rates[occurs], limit, rtol=max(1e-5, 1e3 * toy.rtol), atol=1e-4)
        np.testing.assert_allclose(arrived[occurs], rates[occurs].sum(-1), rtol=max(1e-9, 10 * toy.rtol), atol=1e-9)


@every_toy
def test_rates_move_the_marginals(float64, toy):
    """What comes to a token less what leaves it is the derivative of q_t, up to the end t = 1 and at a whole k_t."""
    finite = isinstance(toy, toys.Toy) and toy.name != "hybrid"  # at t = 1
    times = (*TIMES, *toy.kinks[:1], 1.0)
    _, (rates, *_) = steps_of(toy.name)
    for t, rate in zip(times, rates, strict=True):
        if t not in (0.31, *toy.kinks, 1.0) or (t == 1 and not finite):
            continue
        flow = toy.matrix(t)[..., None] * rate
        if t in (1.0, *toy.kinks):
            # Loose: a curve may end as (1 - t)^1.5.
            expected, loose = (toy.matrix(t) - toy.matrix(t - 1e-7)) / 1e-7, 2e-3
        else:
            expected, loose = toy.noise_derivative(t) + toy.alpha_derivative(t) * np.eye(V), 1e-9
        np.testing.assert_allclose(flow.sum(2) - flow.sum(1), expected, atol=max(loose, 100 * toy.rtol))


@functools.partial(jax.jit, static_argnums=0)
def _back(method, kernel, key, xt, x0, t, s):
    return getattr(kernel, method)(key, xt, x0, t, s)


@pytest.mark.parametrize("method", ["reverse_step", "reverse_leap"])
@every_mechanism
def test_steps_back_draw_from_their_law(toy, method):
    """The posterior, or that of tau-leaping. False alarms: 1e-6 for each of 3 x 12 pairs a toy. Of those left out
    `test_one_clean_token_is_as_all` has the chances that are drawn with."""
    chosen = ((0.31, 0.3), (0.62, 0.15), (0.97, 0.5))
    reachable = np.argwhere((toy.matrix(0.31) > 0) & (np.arange(V) != toy.mask_id)[:, None])
    x0, xt = reachable[np.linspace(0, len(reachable) - 1, 12).astype(int)].T
    t, s = (jnp.array(column)[:, None, None] for column in zip(*chosen, strict=True))
    of_tokens = (np.broadcast_to(x, (3, 4000, len(x0))) for x in (xt, x0))
    drawn = np.asarray(_back(method, toy.build(), toys.key(8), *of_tokens, t, s))
    for index, (t, s) in enumerate(chosen):
        law = toy.reverse(t, s) if method == "reverse_step" else toy.leap(t, s)
        for place, (clean, noisy) in enumerate(zip(x0, xt, strict=True)):
            probs = np.where(law[clean, noisy] > 1e-12, law[clean, noisy], 0)
            toys.assert_frequencies(drawn[index, :, place], probs / probs.sum())


@pytest.mark.parametrize("name", ["late_growth", "practical_unfinished", "gapped", "hybrid", "late_knn"])
def test_steps_compose(name):
    """Three steps back from t = 0.99 reach q_0.2 by draws alone. False alarms: 1e-6 for each of 12 rows."""
    toy, kernel = TOYS[name], TOYS[name].build()
    x0 = np.tile(np.arange(V), (3, 4000, 1))
    keys = jax.random.split(toys.key(9), 4)
    x = jax.jit(type(kernel).corrupt)(kernel, keys[0], x0, jnp.full((3, 1, 1), 0.99))
    for key, t, s in zip(keys[1:], (0.99, 0.8, 0.35), (0.8, 0.35, 0.2), strict=True):
        x = _back("reverse_step", kernel, key, x, x0, jnp.full((3, 1, 1), t), jnp.full((3, 1, 1), s))
    for token in range(V):
        toys.assert_frequencies(np.asarray(x)[..., token], toy.matrix(0.2)[token])


@pytest.mark.parametrize("numbers", [5, split.FUSED + 1])
def test_tables_are_read_at_numbers_of_neighbors(numbers):
    table = np.random.default_rng(0).random((2, 3, numbers)).astype(np.float32)
    counts = np.array([0, numbers - 1, 2, 0, 1])
    np.testing.assert_array_equal(split.at_counts(jnp.asarray(table), jnp.asarray(counts)), table[..., counts])
