"""What D3PM, SEDD and GIDD train, against the likelihood bound and against what they say of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toy_objectives import loss_and_weight, objective
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import Stages, bound, make_posterior


@pytest.mark.parametrize("weights", ["clip", "dynamic"])
def test_weights_of_gidd(float64, weights):
    """`clip` bounds the bound's own weight; `dynamic` is its shape over tokens without its size: the ratio of weights
    between a kept token, other noise and the mask is the bound's own, as long as none passes 2."""
    bound, other = (objective("gidd", "hybrid", gidd_weights=w, t_max=1.0) for w in ("none", weights))
    features = jax.random.normal(toys.key(1), (1, 3, V))
    x0, xt = jnp.array([[4, 4, 4]]), jnp.array([[4, 5, MASK]])
    for t in (0.02, 0.5, 0.9):
        one, two = (
            np.array(
                [
                    float(loss_and_weight(o, features, x0, xt, jnp.array([t]), jnp.arange(3)[None] == i)[0])
                    for i in range(3)
                ]
            )
            for o in (bound, other)
        )
        weight = 1 / (2 * t * (1 - t))  # of other noise; that of the mask is twice it
        if weights == "clip":
            np.testing.assert_allclose(two[1:], one[1:] * np.minimum(1, 2 / np.array([weight, 2 * weight])), rtol=1e-9)
        else:
            np.testing.assert_allclose(two[1:], one[1:] / weight, rtol=1e-9)
            # The bound's own ratio of a kept token to other noise, without what its denominator adds.
            share = 0.5 / (V - 1) * np.sqrt(t / (1 - t))
            assert two[0] == pytest.approx(one[0] / weight * (1 + share), rel=1e-9)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_score_entropy_is_the_likelihood_bound_of_consistent_scores(float64, name):
    """Scores that come from a distribution x_theta of text, s_y = q_t(y | x_theta) / q_t(z | x_theta): SEDD's loss
    is MDLM's and UDLM's integrand, and the posterior recovered from the scores is that of `bayes`."""
    toy, trained = TOYS[name], objective("score_entropy", name)
    loss_at = jax.jit(lambda *of: loss_and_weight(trained, *of, jnp.ones((1, 1)))[0])
    recover = jax.jit(trained.posterior.log_probs)
    x_theta = scipy.special.softmax(np.random.default_rng(0).standard_normal((V, V)), axis=1)
    if toy.mask_id is not None:
        x_theta[:, MASK] = 0
        x_theta /= x_theta.sum(1, keepdims=True)
    for t in (0.05, 0.4, 0.9):
        q = toy.matrix(t)
        noisy = x_theta @ q
        with np.errstate(divide="ignore"):
            scores = np.log(noisy) - np.log(noisy[np.arange(V), np.arange(V)])[:, None]
        occurs = q > 0
        if toy.mask_id is not None:
            occurs[MASK] = False
            scores[MASK, MASK] = 0
            scores = scores - np.log(toy.alpha(t) / (1 - toy.alpha(t)) / (V - 1))  # what the code adds to the output
        scores = np.where(np.isfinite(scores), scores, -50)
        posterior = np.array([x_theta[z] * q[:, z] for z in range(V)])
        total = posterior.sum(1, keepdims=True)
        posterior = np.where(total > 0, posterior / np.where(total > 0, total, 1), 0)
        expected = toys.true_rates(toy, posterior, t)
        for x0, xt in np.argwhere(occurs):
            loss = loss_at(scores[None, None, xt], np.array([[x0]]), np.array([[xt]]), np.array([t]))
            assert loss == pytest.approx((trained.t_max - trained.t_min) * expected[x0, xt], rel=1e-5, abs=1e-9)
        recovered = recover(trained.kernel, scores, np.arange(V), np.full(V, t))
        reached = (total > 0)[:, 0]
        np.testing.assert_allclose(np.exp(recovered)[reached], posterior[reached], atol=1e-3)
        if name == "uniform":
            np.testing.assert_allclose(np.exp(recovered)[reached], posterior[reached], rtol=2e-3)


def test_a_thousand_steps_of_d3pm_are_the_continuous_bound(float64):
    """The sum of T = 1000 terms, the first of them the reconstruction, within 1 % of the integral, for random
    posteriors that are one and the same plug-in at every time."""
    x_theta = jnp.asarray(scipy.special.log_softmax(np.random.default_rng(0).standard_normal((V, V)), axis=1))
    for name in ("absorbing", "uniform", "semdlm_plus"):
        toy, steps = TOYS[name], 1000
        kernel, (x0, xt) = toy.build(), toys.pairs()
        t = jnp.arange(1, steps + 1) / steps
        fine = (jnp.arange(4 * steps) + 0.5) / (4 * steps)  # midpoints of the same range
        first = 4

        @jax.jit
        def terms(t, s, kernel=kernel, x0=x0, xt=xt):
            shape = (V, V)
            posterior = make_posterior("bayes").log_probs(kernel, x_theta[xt], xt, jnp.full(shape, t))
            step = bound.nelbo_step(kernel, posterior, x0, xt, jnp.full(shape, t), jnp.full(shape, s))
            return jnp.sum(chance_of(kernel, t) * jnp.where(chance_of(kernel, t) > 0, step, 0))

        @jax.jit
        def rate(t, kernel=kernel, x0=x0, xt=xt):
            posterior = make_posterior("bayes").log_probs(kernel, x_theta[xt], xt, jnp.full((V, V), t))
            value = bound.nelbo_rate(kernel, posterior, x0, xt, jnp.full((V, V), t))
            return jnp.sum(chance_of(kernel, t) * jnp.where(chance_of(kernel, t) > 0, value, 0))

        discrete = jax.lax.map(lambda pair: terms(*pair), (t, t - 1 / steps))
        continuous = jnp.sum(jax.lax.map(rate, fine[first:])) / (4 * steps)
        assert float(discrete[0] + continuous) == pytest.approx(float(jnp.sum(discrete)), rel=0.01)
        assert float(jnp.sum(discrete[1:])) == pytest.approx(float(continuous), rel=0.01)


def chance_of(kernel, t):
    """[V, V]: how often x0 becomes x_t at time t."""
    x0, xt = toys.pairs()
    return jnp.asarray(P_DATA)[:, None] * kernel.prob(xt, x0, t)


def test_times_of_d3pm_are_whole_steps():
    trained = objective("d3pm", "uniform", timesteps=8, t_min=1e-6, t_max=1.0)
    x0 = jnp.zeros((64, 2), jnp.int32)
    t = trained.corrupt(toys.key(0), x0, x0).t
    np.testing.assert_array_equal(np.unique(np.asarray(t) * 8, return_counts=True), (np.arange(1, 9), np.full(8, 8)))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize(("t_min", "t_max"), [(1e-6, 1.0), (0.05, 0.97), (1e-3, 1 - 1e-5)])
def test_every_step_of_d3pm_counts_the_same(power, t_min, t_max):
    """Chance times weight is 1 / T at each of T steps: the chance by counting where a million even u lead, each time
    drawn as in training. A range that ends between two steps cuts the first and last short, and they weigh more."""
    steps, many = 8, 2**20
    trained = objective("d3pm", "uniform", timesteps=steps, time_power=power, t_min=t_min, t_max=t_max)
    x0 = jnp.zeros((many, 1), jnp.int32)
    t = jax.jit(trained.corrupt)(toys.key(0), x0, x0).t
    counts = np.bincount(np.round(np.asarray(t) * steps).astype(int), minlength=steps + 1)[1:]
    chances = trained.loss.step_chances(trained)
    np.testing.assert_allclose(chances, counts / many, atol=3 / many)  # a stratum at either end
    worth = np.asarray(trained.importance(jnp.arange(1, steps + 1) / steps), np.float64)
    if power == 1:  # the loss as its authors have it
        np.testing.assert_array_equal(worth, 1)
    else:
        np.testing.assert_allclose(worth * counts / many, 1 / steps, rtol=1e-4)


def test_a_thousand_steps_of_d3pm_count_the_same_at_small_times():
    """The system's own range: 1.998, 1.172, 1.101, … is what u^2 gave where steps were weighed by a density."""
    trained = objective("d3pm", "uniform", time_power=2.0, t_min=1e-6, t_max=1.0)
    t = np.arange(1001) / 1000
    u = np.sqrt(np.clip((t - 1e-6) / (1 - 1e-6), 0, None))
    worth = np.asarray(trained.importance(jnp.arange(1, 1001) / 1000), np.float64)
    np.testing.assert_allclose(1000 * worth * np.diff(u), 1, rtol=1e-6)
    assert worth[0] == pytest.approx(1e-3 / np.sqrt(1e-3), rel=1e-3) and worth[-1] == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("t_min", "t_max", "missed"),
    [(1e-3, 1.0, 1), (0.0025, 1.0, 2), (1e-6, 0.999, 1), (1e-6, 0.9985, 1), (2e-3, 0.99, 12)],
)
def test_steps_that_are_never_drawn_are_not_trained(t_min, t_max, missed):
    """Scoring and sampling what was trained so goes on; training asks for the whole range."""
    never = objective("d3pm", "uniform", t_min=t_min, t_max=t_max)
    with pytest.raises(UserError, match=f"never train {missed} of its 1000 steps: set objective.t_min below"):
        Stages((never,), (0,))
    Stages((objective("d3pm", "uniform", t_min=9e-4, t_max=0.9995), objective("nelbo", t_min=0.1, t_max=0.9)), (0, 5))
