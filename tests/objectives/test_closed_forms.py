"""The fast paths against the integrands as their papers write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.objectives import bound, closed_forms, make_posterior

TIMES = np.float32([1e-3, 0.05, 0.31, 0.62, 0.97, 1 - 1e-3, 1 - 1e-5]).astype(float)


def udlm(x_theta, x, z, t):
    """x_theta: the softmax of the network, not the posterior."""
    alpha = 1 - t
    true, model = V * alpha * np.eye(V)[x] + 1 - alpha, V * alpha * x_theta + 1 - alpha
    logs = np.log(model[z]) - np.log(model) + np.log(true) - np.log(true[z])
    return -1 / (V * alpha) * (V / true[z] - V / model[z] - np.sum(true / true[z] * logs))


def duo(x_theta, x, z, t):
    alpha, e = 1 - t, float(x == z)
    kappa = (1 - alpha) / (V * alpha + 1 - alpha)
    true, model = 1 - alpha + V * alpha * e, V * alpha * x_theta + 1 - alpha
    sums = -(e * kappa + 1 - e) * (np.log(model).sum() - V * np.log(model[z]))
    gathers = -(1 - e) * V * alpha / (1 - alpha) * (np.log(model[x]) - np.log(model[z]))
    constant = ((V - 1) * kappa * e - (1 - e) / kappa) * np.log(kappa)
    return -1 / (V * alpha) * (V * (1 / true - 1 / model[z]) - (sums + gathers + constant))


LOG_PROBS = jax.jit(make_posterior("bayes").log_probs)


def inputs(name):
    """The code's arguments [T, V, V] by (x0, x_t), with logits of their own for every x_t."""
    dtype = jnp.result_type(float)
    logits = 2 * np.random.default_rng(0).standard_normal((len(TIMES), V, V))
    x0, xt = (jnp.broadcast_to(x, (len(TIMES), V, V)) for x in toys.pairs())
    t = jnp.asarray(TIMES, dtype)[:, None, None]
    kernel = TOYS[name].build()
    log_posterior = LOG_PROBS(
        kernel, jnp.broadcast_to(jnp.asarray(logits, dtype)[:, None], (len(TIMES), V, V, V)), xt, t
    )
    return logits, (kernel, log_posterior, x0, xt, jnp.broadcast_to(t, x0.shape))


def both(name, *arguments):
    closed = closed_forms.closed_form(TOYS[name].build())
    rates = jax.jit(lambda *a: (closed(*a), bound.nelbo_rate(*a)))(*arguments)
    return [np.asarray(rate) for rate in rates]


def test_uniform_is_udlm_and_duo(float64):
    logits, arguments = inputs("uniform")
    closed, general = both("uniform", *arguments)
    np.testing.assert_allclose(closed, general, rtol=1e-6)
    for index, t in enumerate(TIMES[:-1]):
        for x in range(V):
            for z in range(V):
                x_theta = scipy.special.softmax(logits[index, z])
                expected = udlm(x_theta, x, z, t)
                # Terms of size 1 / alpha cancel in the papers' forms.
                assert duo(x_theta, x, z, t) == pytest.approx(expected, rel=1e-6, abs=1e-9)
                assert closed[index, x, z] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_absorbing_is_mdlm(float64):
    logits, arguments = inputs("absorbing")
    closed, general = both("absorbing", *arguments)
    for index, t in enumerate(TIMES):
        scores = np.where(np.arange(V) == MASK, -np.inf, logits[index, MASK])
        for x in set(range(V)) - {MASK}:
            expected = -scipy.special.log_softmax(scores)[x] / t
            assert closed[index, x, MASK] == pytest.approx(expected, rel=1e-9)
            assert general[index, x, MASK] == pytest.approx(expected, rel=1e-9)
            assert closed[index, x, x] == 0 and general[index, x, x] == pytest.approx(0, abs=1e-9)


CLOSED = [name for name, toy in TOYS.items() if closed_forms.closed_form(toy.build())]


def test_what_only_jumps_has_a_closed_form():
    assert CLOSED == [
        "absorbing",
        "uniform",
        "hybrid",
        "mask_rates",
        "absorbing_cosine",
        "uniform_geometric",
        "hybrid_loglinear",
    ]
    assert closed_forms.closed_form(toys.named("hybrid", uniform_share=0.0)()) is closed_forms.absorbing
    # The same formula as for uniform noise would be wrong for any other prior.
    assert closed_forms.closed_form(TOYS["unigram"].build()) is None
    # Uniform noise that vanishes faster than kept tokens is renewed more often than GIDD's formulas say.
    assert [toys.named("hybrid", hybrid_gamma=g)().closed_form for g in (2.0, 2.1)] == ["masks_and_uniform", None]


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_the_general_bound(float64, name):
    """For every schedule, wherever a text can be."""
    _, arguments = inputs(name)
    closed, general = both(name, *arguments)
    occurs = np.stack([TOYS[name].matrix(t) for t in TIMES]) > 0
    occurs[:, P_DATA == 0] = False
    # What the closed forms cancel by hand near t = 1, the general one does by subtraction.
    late = (TIMES > 0.999)[:, None, None]
    error = np.abs(closed - general) / (1e-5 * np.abs(general) + np.where(late, 1e-6, 1e-9))
    assert error[occurs].max() < 1


def gidd_elbo(toy, x_theta, x, z):
    """w (KL(q_t(. | x) || q_t(. | x_theta)) + r - log r - 1), w from the general form of GIDD's paper."""
    true, model, t = toy["q"][x], x_theta @ toy["q"], toy["t"]
    weight = (toy["jumps_dot"] - toy["alpha_dot"] / toy["alpha"] * toy["jumps"])[z] / true[z]
    r = true[z] / model[z]
    assert 0 < t < 1
    return weight * (toys.divergence(true, model) + r - np.log(r) - 1)


@pytest.mark.parametrize("name", ["hybrid", "hybrid_loglinear", "uniform"])
def test_hybrid_is_gidd(float64, name):
    """Uniform noise is GIDD's with pi = u; with the network's softmax for x_theta."""
    toy = TOYS[name]
    logits, arguments = inputs(name)
    general = np.asarray(jax.jit(bound.nelbo_rate)(*arguments))
    for index, t in enumerate(TIMES[:-2]):
        now = {"t": t, "q": toy.matrix(t), "alpha": toy.alpha(t), "alpha_dot": toy.alpha_derivative(t)}
        now |= {"jumps": toy.noise(t)[0], "jumps_dot": toy.noise_derivative(t)[0]}
        for x in set(range(V)) - {MASK}:
            for z in range(V):
                weight = np.exp(logits[index, z]) * (np.arange(V) != toy.mask_id)
                expected = gidd_elbo(now, weight / weight.sum(), x, z)
                assert general[index, x, z] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_hybrid_tends_to_mdlm(float64):
    """p_u -> 0: -log p / t at masks."""
    logits, (_, _, x0, xt, t) = inputs("absorbing")
    kernel = toys.named("hybrid", uniform_share=1e-9)()
    log_posterior = make_posterior("bayes").log_probs(
        kernel, jnp.broadcast_to(jnp.asarray(logits)[:, None], (*xt.shape, V)), xt, t
    )
    closed = np.asarray(jax.jit(closed_forms.hybrid)(kernel, log_posterior, x0, xt, t))
    for index, time in enumerate(TIMES[:-2]):
        scores = np.where(np.arange(V) == MASK, -np.inf, logits[index, MASK])
        for x in set(range(V)) - {MASK}:
            expected = -scipy.special.log_softmax(scores)[x] / time
            assert closed[index, x, MASK] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", CLOSED)
def test_float32(name):
    _, arguments = inputs(name)
    closed = closed_forms.closed_form(TOYS[name].build())
    single = np.asarray(jax.jit(closed)(*arguments))
    with jax.enable_x64(True):
        _, arguments = inputs(name)
        double = np.asarray(jax.jit(closed_forms.closed_form(TOYS[name].build()))(*arguments))
    occurs = np.stack([TOYS[name].matrix(t) for t in TIMES]) > 0
    occurs[:, P_DATA == 0] = False
    np.testing.assert_allclose(single[occurs], double[occurs], rtol=1e-4, atol=1e-5)
