"""Stay, return or redraw against Bayes' rule on V x V x V arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, V

from semdlm_jax.kernels import noise_share, return_rates, reverse_step, stay_probability

# Steps small and large, within a neighborhood size and across several, from the start and to the end.
STEPS = ((0.31, 0.3), (0.62, 0.15), (0.97, 0.93), (0.999, 0.001), (1.0, 0.75), (0.4, 0.0), (1.0, 0.0))
TIMES = (0.05, 0.31, 0.62, 0.9, 0.999)
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)


def steps():
    """(t, s), each [N, 1, 1]."""
    return (jnp.array(column)[:, None, None] for column in zip(*STEPS, strict=True))


@jax.jit
def _chances(kernel, x0, xt, t, s):
    kept = kernel.noise_kept(x0, t, s)
    return kept, stay_probability(kernel, xt, x0, t, s), noise_share(kernel, kept, t, s)


def chances(toy):
    """(b, rho, kappa) of the code, each [N, V, V] by x0, x_t."""
    x0, xt = (jnp.broadcast_to(x, (len(STEPS), V, V)) for x in toys.pairs())
    return [np.asarray(x) for x in _chances(toy.build(), x0, xt, *steps())]


@every_toy
def test_float32_chances_are_chances(toy):
    for chance in chances(toy):
        assert np.isfinite(chance).all() and chance.min() >= 0 and chance.max() <= 1 + 1e-6


@every_toy
def test_stay_return_or_redraw(float64, toy):
    """The chance that noise survives; the posterior by Bayes' rule, which sums to one; and so the marginals."""
    kept, stay, share = chances(toy)
    eye, loose = np.eye(V), max(1e-12, 10 * toy.rtol)
    for (t, s), b, rho, kappa in zip(STEPS, kept, stay, share, strict=True):
        at_t, at_s, noise = toy.matrix(t), toy.matrix(s), toy.noise(s)
        np.testing.assert_allclose(b[:, 0], toy.survival(t, s), atol=loose)
        # Nothing above it, so that what is drawn anew is a distribution.
        assert (toy.noise(t) - b[:, :1] * noise).min() > -1e-15 - toy.rtol

        drawn = noise / np.maximum(noise.sum(1, keepdims=True), 1e-300)
        moved = (1 - kappa)[..., None] * eye[:, None, :] + kappa[..., None] * drawn[:, None, :]
        posterior = rho[..., None] * eye + (1 - rho)[..., None] * moved
        possible = at_t > 0
        np.testing.assert_allclose(posterior[possible], toy.reverse(t, s)[possible], atol=loose)
        np.testing.assert_allclose(posterior[possible].sum(-1), 1, atol=loose)
        assert (rho[~possible] == 0).all()
        marginals = np.einsum("ij,ijy->iy", at_t, posterior)
        np.testing.assert_allclose(marginals, at_s, atol=loose)


EXACT = {name: toy for name, toy in TOYS.items() if toy.exact}


@pytest.mark.parametrize("toy", EXACT.values(), ids=EXACT)
def test_jumps_are_redrawn_like_any_token(float64, toy):
    """Where every change is a jump to one prior, noise stays as long as the token would: keep all, or redraw from
    q_s."""
    kept, _, share = chances(toy)
    for (t, s), b, kappa in zip(STEPS, kept, share, strict=True):
        np.testing.assert_allclose(b, toy.alpha(t) / toy.alpha(s), atol=1e-12)
        if b.min() < 1:
            np.testing.assert_allclose(kappa, 1 - toy.alpha(s), atol=1e-9)


def test_drift_leaves_noise_where_it_is():
    """Without jumps noise is never redrawn while neighborhoods grow slowly; with late growth the nearest lose mass."""
    for (t, s), slow, late in zip(STEPS, chances(TOYS["semantic_knn"])[0], chances(TOYS["late_knn"])[0], strict=True):
        np.testing.assert_array_equal(slow, 1)
        if t > 0.9 and s > 0.7:
            assert late[[3, 6, 7, 8]].max() < 1
    # SemDLM+ redraws as often as it jumps, 1 - b = 1 - (1 - t^2) / (1 - s^2), where its neighbors lose no more.
    b = chances(TOYS["semdlm_plus"])[0]
    np.testing.assert_allclose(b[1], (1 - 0.62**2) / (1 - 0.15**2), rtol=1e-5)
    # Near t = 1 the first neighbors lose mass faster than that, and here no jump makes up for it.
    assert b[2][3, 0] < (1 - 0.97**2) / (1 - 0.93**2) - 1e-3


def test_absorbing_is_the_ancestral_step_of_mdlm(float64):
    """A mask stays with chance s / t and else becomes x0; a visible token stays."""
    _, stay, share = chances(TOYS["absorbing"])
    eye = np.eye(V)
    for (t, s), rho, kappa in zip(STEPS, stay, share, strict=True):
        for x0 in set(range(V)) - {toys.MASK}:
            moved = (1 - kappa[x0, 0]) * eye[x0] + kappa[x0, 0] * toys.AT_MASK
            masked = rho[x0, toys.MASK] * toys.AT_MASK + (1 - rho[x0, toys.MASK]) * moved
            np.testing.assert_allclose(masked[[toys.MASK, x0]], [s / t, 1 - s / t], atol=1e-14)
            if t < 1:
                np.testing.assert_allclose(rho[x0, x0] + (1 - rho[x0, x0]) * moved[x0], 1, atol=1e-14)


def test_uniform_is_the_posterior_of_d3pm(float64):
    """As UDLM writes it, with the clean token plugged in."""
    _, stay, share = chances(TOYS["uniform"])
    eye = np.eye(V)
    for (t, s), rho, kappa in zip(STEPS, stay, share, strict=True):
        at, as_, ats = 1 - t, 1 - s, (1 - t) / (1 - s)
        for x0 in range(V):
            for z in range(V):
                x, e = eye[x0], eye[z]
                expected = at * V * x * e + (ats - at) * e + (as_ - at) * x + (1 - ats) * (1 - as_) / V
                expected = expected / (at * V * x[z] + 1 - at)
                moved = (1 - kappa[x0, z]) * x + kappa[x0, z] / V
                np.testing.assert_allclose(rho[x0, z] * e + (1 - rho[x0, z]) * moved, expected, atol=1e-14)


def gidd_posterior(toy, x, z, t, s):
    """p(z_s) proportional to q_ts(z_t | z_s) q_s(z_s | x) / q_t(z_t | x), as GIDD's sampler writes it."""
    kept = toy.alpha(t) / toy.alpha(s)
    jumps = (1 - toy.alpha(t)) * toy.prior(t) - kept * (1 - toy.alpha(s)) * toy.prior(s)
    forward = kept * (np.arange(V) == z) + jumps[z]
    return forward * toy.matrix(s)[x] / toy.matrix(t)[x, z]


def test_hybrid_is_the_posterior_of_gidd(float64):
    toy = TOYS["hybrid"]
    _, stay, share = chances(toy)
    for (t, s), rho, kappa in zip(STEPS[:4], stay, share, strict=False):
        noise = toy.noise(s) / (1 - toy.alpha(s))
        for x in set(range(V)) - {toys.MASK}:
            for z in range(V):
                moved = (1 - kappa[x, z]) * np.eye(V)[x] + kappa[x, z] * noise[x]
                got = rho[x, z] * np.eye(V)[z] + (1 - rho[x, z]) * moved
                np.testing.assert_allclose(got, gidd_posterior(toy, x, z, t, s), atol=1e-13)


@every_toy
def test_rates_are_the_limit_of_small_steps(float64, toy):
    """The survival of noise, what arrives, and where from: (1 - b) / (t - s), (1 - rho) / (t - s), kappa."""
    kernel = toy.build()
    x0, xt = toys.pairs()
    for t in TIMES:
        if min(np.abs(np.array(toy.kinks) - t), default=1) < 0.02:
            continue
        now = jnp.array([t])
        rate = np.asarray(kernel.noise_kept_rate(now))[0]
        np.testing.assert_allclose(rate, toy.kept_rate(t), rtol=max(1e-9, 100 * toy.rtol), atol=1e-9)
        step = 1e-4 * (1 - t)
        kept, stay, share = (
            np.stack(x) for x in zip(*(_limits(kernel, x0, xt, t, t - h) for h in (step, step / 2)), strict=True)
        )
        loose = {"rtol": max(1e-5, 1e3 * toy.rtol), "atol": 1e-4}
        lost = (1 - kept) / np.array([step, step / 2])[:, None]
        np.testing.assert_allclose(rate, 2 * lost[1] - lost[0], **loose)

        fresh = np.asarray(kernel.arrival_rates(jnp.arange(V), jnp.full(V, t))).T
        occurs = toy.matrix(t) > 0
        arrived = (1 - stay) / np.array([step, step / 2])[:, None, None]
        np.testing.assert_allclose(fresh[occurs], (2 * arrived[1] - arrived[0])[occurs], **loose)
        pairwise = np.asarray(kernel.arrival_rate(xt, x0, jnp.full((V, 1), t)))
        np.testing.assert_allclose(pairwise[occurs], fresh[occurs], rtol=1e-9, atol=1e-9)

        returned, redrawn = (np.asarray(x)[0] for x in return_rates(kernel, now))
        np.testing.assert_allclose(returned, 1 - (2 * share[1] - share[0]), **loose)
        np.testing.assert_allclose(returned + redrawn * (1 - toy.alpha(t)), 1, rtol=1e-12)


@jax.jit
def _limits(kernel, x0, xt, t, s):
    kept = kernel.noise_kept(x0[:, 0], t, s)
    return kept, stay_probability(kernel, xt, x0, t, s), noise_share(kernel, kept, t, s)


@every_toy
def test_reverse_step_draws_from_the_posterior(toy):
    """False alarms: 1e-6 for each of 3 x 12 pairs a toy."""
    kernel = toy.build()
    chosen = ((0.31, 0.3), (0.62, 0.15), (0.97, 0.5))
    reachable = np.argwhere((toy.matrix(0.31) > 0) & (np.arange(V) != toy.mask_id)[:, None])
    x0, xt = reachable[np.linspace(0, len(reachable) - 1, 12).astype(int)].T
    shape = (3, 4000, len(x0))
    t, s = (jnp.array(column)[:, None, None] for column in zip(*chosen, strict=True))
    drawn = reverse_step(
        kernel, toys.key(8), jnp.broadcast_to(jnp.asarray(xt), shape), jnp.broadcast_to(jnp.asarray(x0), shape), t, s
    )
    drawn = np.asarray(drawn)
    for index, (t, s) in enumerate(chosen):
        posterior = toy.reverse(t, s)
        for place, (clean, noisy) in enumerate(zip(x0, xt, strict=True)):
            probs = np.where(posterior[clean, noisy] > 1e-12, posterior[clean, noisy], 0)
            toys.assert_frequencies(drawn[index, :, place], probs / probs.sum())


@pytest.mark.parametrize("name", ["late_growth", "practical_unfinished", "gapped", "hybrid", "late_knn"])
def test_steps_compose(name):
    """Three steps back from t = 0.99 reach q_0.2 by draws alone. False alarms: 1e-6 for each of 12 rows."""
    toy, kernel = TOYS[name], TOYS[name].build()
    x0 = jnp.tile(jnp.arange(V), (3, 4000, 1))
    keys = jax.random.split(toys.key(9), 4)
    x = kernel.corrupt(keys[0], x0, jnp.full((3, 1, 1), 0.99))
    for key, t, s in zip(keys[1:], (0.99, 0.8, 0.35), (0.8, 0.35, 0.2), strict=True):
        x = reverse_step(kernel, key, x, x0, jnp.full((3, 1, 1), t), jnp.full((3, 1, 1), s))
    for token in range(V):
        toys.assert_frequencies(np.asarray(x)[..., token], toy.matrix(0.2)[token])
