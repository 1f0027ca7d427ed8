"""Training losses: what they are minimized by, and that nothing in them breaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import toys
from baseline_formulas import definition
from toy_objectives import loss_and_weight, objective
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS
from semdlm_jax.objectives import LOSSES, Autoregressive, make_objective, stratified_times


@pytest.mark.parametrize("name", ["semdlm_plus", "absorbing", "gapped"])
@pytest.mark.parametrize("parameterization", ["direct", "bayes"])
def test_weighted_denoising_is_undone_by_the_unchanged_weight(float64, name, parameterization):
    """Its minimizer in the logits, in closed form, is stationary and gives the exact posterior once tilted."""
    toy, t = TOYS[name], 0.62
    trained = make_objective("denoising", toy.build(), parameterization, lambda_changed=1.0, lambda_same=0.05)
    chances = P_DATA[:, None] * toy.matrix(t)
    x0, xt = np.argwhere(chances > 0).T

    @jax.jit
    @jax.value_and_grad
    def loss(logits):
        weight = jnp.asarray(chances[x0, xt])[None]
        total, norm = loss_and_weight(
            trained, logits[xt][None], jnp.asarray(x0)[None], jnp.asarray(xt)[None], jnp.array([t]), weight
        )
        return total / norm

    @jax.jit
    def posteriors(logits):
        of, arguments = trained.posterior, (trained.kernel, logits, jnp.arange(V), jnp.full(V, t))
        return of.log_probs(*arguments), of.trained_log_probs(*arguments)

    tilted = toy.bayes(t) * np.where(np.eye(V, dtype=bool), 0.05, 1.0)
    likelihood = toy.matrix(t).T if parameterization == "bayes" else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.where(tilted > 0, np.log(tilted) - np.log(likelihood), -50.0)
    least, slope = loss(logits)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    # Convex in the logits: what is stationary is minimal.
    for seed in range(3):
        assert loss(logits + np.random.default_rng(seed).standard_normal((V, V)))[0] > least + 1e-3

    posterior, untilted = posteriors(logits)
    reached = toy.bayes(t).sum(1) > 0
    np.testing.assert_allclose(np.exp(posterior)[reached], toy.bayes(t)[reached], atol=1e-12)
    if name != "absorbing":
        assert np.abs(np.exp(untilted) - toy.bayes(t))[reached].max() > 0.05


# Losses that are written for some kernels only.
KINDS = {
    "score_entropy": ("absorbing", "uniform", "unigram"),
    "gidd": ("hybrid",),
}
# One of every kind: the others differ in what the bound alone reads.
FEW = ("absorbing", "uniform", "hybrid", "semantic_knn", "semdlm_plus", "semantic_softmax")
SOME = KINDS | {"denoising": FEW, "d3pm": FEW}
PAIRS = [(name, kernel) for name in LOSSES for kernel in KERNELS if kernel in SOME.get(name, KERNELS)]

CHUNKED = ("semdlm_plus", "semantic_softmax")
OPTIONS = {"lambda_changed": 2.0, "lambda_same": 0.5, "t_max": 1.0, "ce_weight": 0.25, "gidd_weights": "none"}


def batch(trained):
    """(logits, x0, x_t, times, mask) of three rows, from one end of time to t = 1."""
    x0 = np.random.default_rng(0).choice(V, (3, 24), p=P_DATA)
    t = np.array([trained.t_min, 0.4, 1.0], np.float32)
    xt = np.asarray(jax.jit(type(trained.kernel).corrupt)(trained.kernel, toys.key(0), x0, t[:, None]))
    features = 3 * np.random.default_rng(2).standard_normal((3, 24, V), np.float32)
    return features, x0, xt, t, np.random.default_rng(1).random((3, 24)) < 0.7


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(("name", "kernel_name"), PAIRS)
def test_every_loss_on_every_kernel(name, kernel_name):
    """Finite, differentiable, blind to padding, and what it says: float32, from one end of time to t = 1."""
    trained = objective(name, kernel_name, **OPTIONS)
    features, x0, xt, t, mask = batch(trained)

    @jax.jit
    def slopes(features, mask):
        def mean(features):
            total, weight = loss_and_weight(trained, features, x0, xt, t, mask)
            return total / weight, (total, weight)

        return jax.value_and_grad(mean, has_aux=True)(features)

    (value, _), gradient = slopes(features, mask)
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert (np.asarray(gradient)[~mask] == 0).all()

    toy = TOYS[kernel_name]
    expected = sum(
        definition(name, toy, features[b, i], x0[b, i], xt[b, i], float(t[b]))
        for b, i in np.argwhere(mask)
        if float(t[b]) < 1
    )
    (_, got), _ = slopes(features, np.array([True, True, False])[:, None] & mask)
    # What leaves in a step of 1 / 1000 is a difference of two chances: float32 has lost three of its seven digits.
    np.testing.assert_allclose(got, expected, rtol=(2e-3 if name == "d3pm" else 1e-4) + 100 * toy.rtol)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    ("name", "kernel_name"), [pair for pair in PAIRS if pair[1] in (*CHUNKED, *KINDS.get(pair[0], ()))]
)
def test_chunks_padding_and_half_precision(name, kernel_name):
    """Neither chunks nor what padding holds change the sums; logits may be bfloat16, as an accelerator's network gives
    them. Of what depends on a kernel only the softmax puts positions into groups of its own."""
    trained = objective(name, kernel_name, **OPTIONS)
    features, x0, xt, t, mask = batch(trained)

    @jax.jit
    def found(features, x0_padded, xt_padded):
        def mean(features):
            total, weight = loss_and_weight(trained, features, x0, xt, t, mask)
            return total / weight

        low = jax.grad(mean)(features.astype(jnp.bfloat16))
        chunked = loss_and_weight(trained, features, x0_padded, xt_padded, t, mask, chunk=7)
        return low, loss_and_weight(trained, features, x0, xt, t, mask), chunked

    low, whole, chunked = found(features, np.where(mask, x0, 0), np.where(mask, xt, 0))
    np.testing.assert_allclose(chunked, whole, rtol=3e-6)
    assert low.dtype == jnp.bfloat16 and np.isfinite(low.astype(np.float32)).all()


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_one_time_in_every_stratum(batch_size):
    t = np.asarray(stratified_times(jax.random.key(0), batch_size, 0.25, 0.75), np.float64)
    strata = np.clip(np.floor((t - 0.25) / 0.5 * batch_size + 1e-4), 0, batch_size - 1)
    np.testing.assert_array_equal(np.sort(strata), np.arange(batch_size))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_times_are_uniform_within_their_strata(power):
    """False alarm 1e-6 (Kolmogorov-Smirnov); never outside [t_min, t_max]."""
    times = np.asarray(
        jax.vmap(lambda key: stratified_times(key, 4, 1e-3, 1 - 1e-5, power))(jax.random.split(toys.key(5), 2000))
    )
    assert times.min() >= np.float32(1e-3) and times.max() <= np.float32(1 - 1e-5)
    within = (np.maximum(times - 1e-3, 0) / (1 - 1e-5 - 1e-3)) ** (1 / power) * 4 - np.arange(4)
    assert scipy.stats.kstest(within.ravel(), "uniform").pvalue > 1e-6


@pytest.mark.parametrize(("name", "power"), [("denoising", 1.0), ("nelbo", 2.0)])
def test_a_batch_is_corrupted_at_a_time_of_every_stratum(name, power):
    """The times that training gets with its noisy tokens: each of 5 strata of [t_min, t_max] in every batch, the last
    up to t_max. False alarm 1e-6 (Kolmogorov-Smirnov)."""
    trained = objective(name, "absorbing", time_power=power, t_min=0.2, t_max=0.7)
    keys = jax.random.split(toys.key(6), 1000)
    x0 = jnp.zeros((5, 2), jnp.int32)
    times = jax.jit(jax.vmap(lambda key: trained.corrupt(key, x0, x0).t))(keys)
    u = np.clip((np.asarray(times, np.float64) - 0.2) / 0.5, 0, 1) ** (1 / power)
    within = np.sort(u, axis=1) * 5 - np.arange(5)
    assert within.min() > -1e-5 and within.max() < 1 + 1e-5
    for stratum in within.T:
        assert scipy.stats.kstest(stratum, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_importance_undoes_the_density_of_times(power):
    """The mean of f(t) over uniform times, whatever the times drawn: a midpoint rule of 4,096 strata, at random
    within."""
    trained = objective("nelbo", time_power=power)
    t = stratified_times(jax.random.key(2), 4096, trained.t_min, trained.t_max, power)
    weight = np.asarray(trained.importance(t), np.float64)
    for f, integral in [(np.ones_like, 1.0), (np.cos, np.sin(1.0)), (np.sqrt, 2 / 3)]:
        assert np.mean(weight * f(np.asarray(t, np.float64))) == pytest.approx(integral, abs=1e-3)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", LOSSES)
def test_importance_weighs_a_row(name):
    """Losses of every kind take the weight of their row's time once; the likelihoods' normalizer does not."""
    kernel = KINDS.get(name, ("semdlm_plus",))[-1]
    plain, drawn = objective(name, kernel), objective(name, kernel, time_power=2.0)
    t = jnp.array([0.3])
    x0, xt = jnp.arange(5)[None], jnp.arange(1, 6)[None]
    features = np.random.default_rng(3).standard_normal((1, 5, V), np.float32)
    weight = 2 * np.sqrt((0.3 - plain.t_min) / (plain.t_max - plain.t_min))
    weight = float(drawn.importance(t)[0]) if name == "d3pm" else weight  # of a whole step: test_baselines.py
    (loss, norm), (drawn_loss, drawn_norm) = jax.jit(
        lambda features: [loss_and_weight(o, features, x0, xt, t, jnp.ones((1, 5))) for o in (plain, drawn)]
    )(features)
    assert float(drawn_loss) == pytest.approx(weight * float(loss), rel=1e-5)
    assert float(drawn_norm) == pytest.approx(float(norm) * (weight if name == "denoising" else 1), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "denoisin"}, "unknown objective 'denoisin'.*'denoising'"),
        ({"parameterization": "bays"}, "unknown parameterization 'bays'"),
        ({"lambda_same": 0.0}, "lambda_same must be above 0"),
        ({"lambda_changed": 0.0}, "lambda_changed"),
        ({"time_power": 0.5}, "time_power = 0.5"),
        ({"t_min": 0.0}, "t_min"),
        ({"t_max": 1.1}, "t_max"),
        ({"name": "score_entropy"}, "only jump"),
        ({"name": "nelbo", "parameterization": "score"}, "go together"),
        ({"name": "gidd"}, "needs kernel 'hybrid'"),
        ({"name": "gidd", "gidd_weights": "dynamite"}, "'dynamite' is unknown.*'dynamic'"),
        ({"name": "d3pm", "timesteps": 0}, "timesteps = 0"),
        ({"name": "nelbo", "y_samples": -1}, "y_samples = -1"),
        ({"name": "d3pm", "ce_weight": -1.0}, "ce_weight = -1.0"),
        ({"t_min": 0.5, "t_max": 0.5}, "t_min"),
    ],
)
def test_refusals_come_at_once(options, says):
    with pytest.raises(UserError, match=says):
        objective(**{"name": "denoising", **options})


def test_tokens_of_another_shape_than_their_mask_are_refused():
    """Before anything is broadcast along the wrong axis."""
    key, tokens = jax.random.key(0), jnp.zeros((4, 6), jnp.int32)
    for trained in (make_objective("denoising", TOYS["uniform"].build()), Autoregressive(MASK)):
        trained.corrupt(key, tokens, jnp.ones((4, 6)))
        for x0, mask in [(tokens, jnp.ones(4)), (tokens[0], jnp.ones(6)), (tokens.astype(float), jnp.ones((4, 6)))]:
            with pytest.raises(UserError, match="mask is float32 |x0 is (int32 .6.|float32)"):
                trained.corrupt(key, x0, mask)
