"""Keep or resample against Bayes' rule on V x V x V arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import TOYS, V

from semdlm_jax.kernels import keep_probability, redraw_rate, reverse_step, stay_probability

# Steps small and large, within a neighbourhood size and across several, from the start and to the end.
STEPS = ((0.31, 0.3), (0.62, 0.15), (0.97, 0.93), (0.999, 0.001), (1.0, 0.75), (0.4, 0.0), (1.0, 0.0))
every_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)


def steps():
    """(t, s), each [N, 1, 1]."""
    return (jnp.array(column)[:, None, None] for column in zip(*STEPS, strict=True))


@jax.jit
def _chances(kernel, x0, xt, t, s):
    return keep_probability(kernel, x0[:, :, 0], t[..., 0], s[..., 0]), stay_probability(kernel, xt, x0, t, s)


_redraw_rate = jax.jit(redraw_rate)


def chances(toy):
    """(a [N, V], rho [N, V, V] by x0, x_t) of the code."""
    x0, xt = (jnp.broadcast_to(x, (len(STEPS), V, V)) for x in toys.pairs())
    return [np.asarray(x) for x in _chances(toy.build(), x0, xt, *steps())]


@pytest.mark.parametrize("name", ["absorbing", "late_growth", "practical_unfinished", "gapped"])
def test_float32_chances_are_chances(name):
    for chance in chances(TOYS[name]):
        assert np.isfinite(chance).all() and chance.min() >= 0 and chance.max() <= 1 + 1e-6


@every_toy
def test_keep_or_resample(float64, toy):
    """The chance of keeping; the posterior by Bayes' rule; and so the marginals, to rounding."""
    keep, stay = chances(toy)
    for (t, s), a, rho in zip(STEPS, keep, stay, strict=True):
        at_t, at_s = toy.matrix(t), toy.matrix(s)
        np.testing.assert_allclose(a, toy.keep(t, s), atol=1e-12)
        assert (a <= toy.weights(t)[0] / toy.weights(s)[0] + 1e-15).all()
        # The largest possible: nothing above it leaves q_t - a q_s a distribution.
        assert (at_t - a[:, None] * at_s).min() > -1e-15

        posterior = rho[..., None] * np.eye(V) + (1 - rho)[..., None] * at_s[:, None, :]
        possible = at_t > 0
        np.testing.assert_allclose(posterior[possible], toy.reverse(t, s)[possible], atol=1e-12)
        assert (rho[~possible] == 0).all()
        marginals = np.einsum("ij,ijy->iy", at_t, posterior)
        np.testing.assert_allclose(marginals, at_s, atol=1e-12)


def test_slow_growth_keeps_as_much_as_alpha_allows_and_late_growth_does_not(float64):
    kept = np.array([(1 - t) / (1 - s) for t, s in STEPS])[:, None]
    for name in ("absorbing", "uniform", "slow_growth", "semdlm_plus", "semantic_mask"):
        np.testing.assert_allclose(chances(TOYS[name])[0], np.broadcast_to(kept, (len(STEPS), V)), atol=1e-14)
    # Near t = 1 the first neighbours lose mass faster than the token itself, and here no jump makes up for it.
    shortfall = kept - chances(TOYS["gapped"])[0]
    assert shortfall[2].max() > 0.03


def test_absorbing_is_the_ancestral_step_of_mdlm(float64):
    """A mask stays with chance s / t and else becomes x0; a visible token stays."""
    _, stay = chances(TOYS["absorbing"])
    for (t, s), rho in zip(STEPS, stay, strict=True):
        for x0 in set(range(V)) - {toys.MASK}:
            at_s = np.where(np.arange(V) == x0, 1 - s, 0) + np.where(np.arange(V) == toys.MASK, s, 0)
            masked = rho[x0, toys.MASK] * toys.AT_MASK + (1 - rho[x0, toys.MASK]) * at_s
            np.testing.assert_allclose(masked[[toys.MASK, x0]], [s / t, 1 - s / t], atol=1e-14)
            if t < 1:
                visible = rho[x0, x0] * np.eye(V)[x0] + (1 - rho[x0, x0]) * at_s
                np.testing.assert_allclose(visible[x0], 1, atol=1e-14)


def test_uniform_is_the_posterior_of_d3pm(float64):
    """As UDLM writes it, with the clean token plugged in."""
    _, stay = chances(TOYS["uniform"])
    eye = np.eye(V)
    for (t, s), rho in zip(STEPS, stay, strict=True):
        at, as_, ats = 1 - t, 1 - s, (1 - t) / (1 - s)
        for x0 in range(V):
            for z in range(V):
                x, e = eye[x0], eye[z]
                expected = at * V * x * e + (ats - at) * e + (as_ - at) * x + (1 - ats) * (1 - as_) / V
                expected = expected / (at * V * x[z] + 1 - at)
                got = rho[x0, z] * e + (1 - rho[x0, z]) * (as_ * x + (1 - as_) / V)
                np.testing.assert_allclose(got, expected, atol=1e-14)


@every_toy
def test_redraw_rate(float64, toy):
    kernel, x0 = toy.build(), jnp.arange(V)
    for t in (0.05, 0.31, 0.62, 0.9, 0.999):
        rate = np.asarray(_redraw_rate(kernel, x0, jnp.array(t)))
        np.testing.assert_allclose(rate, toy.leave_rate(t), rtol=1e-10)
        # (1 - a) / (t - s), extrapolated to a vanishing step.
        step = 1e-4 * (1 - t)
        one, half = ((1 - toy.keep(t, t - h)) / h for h in (step, step / 2))
        np.testing.assert_allclose(rate, 2 * half - one, rtol=1e-6)


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


@pytest.mark.parametrize("name", ["late_growth", "practical_unfinished", "gapped"])
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
