"""SEDD's predictors against the mixture of exact reverse steps: two derivations of one process."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_samplers import INDEPENDENT, assert_independent, sample
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import make_kernel, schedules
from semdlm_jax.objectives import make_posterior
from semdlm_jax.objectives.posterior import T_SCORE_MAX
from semdlm_jax.samplers import Controls, Network, Sampler, make_controls, make_method

pytestmark = pytest.mark.usefixtures("quick_compile")

JUMPING = ("absorbing", "uniform", "unigram", "absorbing_cosine", "uniform_geometric")
STEPS = [(0.9, 0.4), (0.6, 0.55), (0.3, 0.01), (0.5, 0.0), (1.0, 0.7)]
XT = np.arange(V)


def posterior_and_logits(toy, parameterization, t, rng):
    """(p(k | x_t) [V, V] by x_t, logits [V, V]) of a network whose output says so. Scores know the data alone."""
    q = toy.matrix(t)
    if parameterization == "score":
        marginal = P_DATA @ q
        logits = np.log(np.maximum(marginal, 1e-300) / np.maximum(marginal[:, None], 1e-300))
        if toy.mask_id is not None:
            logits = logits - np.log(toy.alpha(t) / (1 - toy.alpha(t)) / (V - 1))
        return toy.bayes(t), logits
    logits = 2 * rng.standard_normal((V, V))
    weight = np.exp(logits) * (q.T if parameterization == "bayes" else q.T > 0)
    if toy.mask_id is not None:
        weight[:, MASK] = 0
    total = weight.sum(1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1), 0), logits


@functools.partial(jax.jit, static_argnames=("name", "parameterization"))
def _distribution(name, kernel, parameterization, logits, t, s):
    posterior = make_posterior(parameterization)
    times = jnp.full(V, t), jnp.full(V, s)
    weights = make_method(name).log_weights(kernel, posterior, logits, jnp.asarray(XT, jnp.int32), *times)
    return jax.nn.softmax(weights, axis=-1)


def distribution(name, kernel, parameterization, logits, t, s):
    """[V, V] by x_t: of x_s."""
    return np.asarray(_distribution(name, kernel, parameterization, logits, t, s))


def mixture(toy, posterior, t, s):
    """[V, V] by x_t: sum_k p(k | x_t) q(x_s | x_t, k)."""
    return np.einsum("xk,kxy->xy", posterior, toy.reverse(t, s))


def reachable(toy, t):
    return P_DATA @ toy.matrix(t) > 0


@pytest.mark.parametrize("name", JUMPING)
@pytest.mark.parametrize("parameterization", ["bayes", "direct", "score"])
def test_the_analytic_step_is_the_ancestral_step(float64, name, parameterization):
    """The law of x_s from every x_t, to 1e-9, for any posterior; with scores for the one that is that of the data."""
    toy, rng = TOYS[name], np.random.default_rng(1)
    for t, s in STEPS:
        if parameterization == "score" and toy.alpha(t) < 1e-6:
            continue  # there scores tell nothing of the text
        posterior, logits = posterior_and_logits(toy, parameterization, t, rng)
        got = distribution("sedd_analytic", toy.build(), parameterization, logits, t, s)
        real = reachable(toy, t)
        np.testing.assert_allclose(got[real], mixture(toy, posterior, t, s)[real], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", JUMPING)
def test_the_analytic_step_in_float32(name):
    """To 1e-5, as it is drawn."""
    toy, rng = TOYS[name], np.random.default_rng(2)
    for t, s in STEPS:
        posterior, logits = posterior_and_logits(toy, "bayes", t, rng)
        got = distribution("sedd_analytic", toy.build(), "bayes", np.float32(logits), np.float32(t), np.float32(s))
        real = reachable(toy, t)
        np.testing.assert_allclose(got[real], mixture(toy, posterior, t, s)[real], atol=1e-5)


@pytest.mark.parametrize("name", ["absorbing_cosine", "uniform", "unigram", "uniform_geometric"])
@pytest.mark.parametrize("parameterization", ["bayes", "direct", "score"])
def test_eulers_step_errs_with_the_square_of_its_length(float64, name, parameterization):
    """Halving it divides the largest error by 4, within 15 % once it is short."""
    toy, t = TOYS[name], 0.6
    posterior, logits = posterior_and_logits(toy, parameterization, t, np.random.default_rng(3))
    errors = []
    for length in 0.02 / 2.0 ** np.arange(4):
        got = distribution("sedd_euler", toy.build(), parameterization, logits, t, t - length)
        error = np.abs(got - mixture(toy, posterior, t, t - length)).sum(1)[reachable(toy, t)]
        errors.append(error.max())
    assert 0 < errors[0] < 0.1
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.15)


def test_eulers_step_is_exact_where_masks_are_written_at_an_even_rate(float64):
    """alpha = 1 - t: (t - s) / t of the masks, however long the step."""
    toy = TOYS["absorbing"]
    for t, s in STEPS[:3]:
        posterior, logits = posterior_and_logits(toy, "bayes", t, np.random.default_rng(4))
        got, real = distribution("sedd_euler", toy.build(), "bayes", logits, t, s), reachable(toy, t)
        np.testing.assert_allclose(got[real], mixture(toy, posterior, t, s)[real], atol=1e-9)


@pytest.mark.parametrize("parameterization", ["bayes", "score"])
@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_scores_write_the_data(name, parameterization):
    """From t = 1, where the linear schedule keeps nothing: the text, and at every step q_s. False alarm 1e-6 each."""
    toy, network = TOYS[name], INDEPENDENT if parameterization == "bayes" else exact_scores(TOYS[name])
    options = {"network": network, "parameterization": parameterization, "recorded": 4000}
    methods = ["sedd_analytic", *(["ancestral"] if name == "absorbing" else [])]
    for method in methods:
        text, record = sample(name, method, (4000, 4), steps=6, key=2, **options)
        assert_independent(text)
        for tokens, s in zip(record.tokens[:-1], np.linspace(1, 1e-3, 6)[1:], strict=True):
            toys.assert_frequencies(tokens, P_DATA @ toy.matrix(s))


def exact_scores(toy):
    """The network of a score model of independent positions: log q_t(y) / q_t(x_t), less what is expected of it. At
    t = 1 it says what it says a little before."""

    def features(tokens, t, lengths):
        alpha = jnp.broadcast_to(jnp.maximum(1 - t, 1 - T_SCORE_MAX)[:, None], tokens.shape)
        return jnp.stack([alpha, tokens.astype(jnp.float32)], -1)

    def logits(features):
        alpha, tokens = features[..., :1], features[..., 1].astype(jnp.int32)
        if toy.mask_id is not None:
            return jnp.broadcast_to(jnp.log(jnp.float32(np.maximum(P_DATA, 1e-30)) * (V - 1)), (*tokens.shape, V))
        marginal = alpha * jnp.float32(P_DATA) + (1 - alpha) * jnp.float32(toy.nu)
        at = jnp.take_along_axis(marginal, tokens[..., None], axis=-1)
        return jnp.log(marginal) - jnp.log(at)

    return Network(features, logits)


@pytest.mark.parametrize("method", ["sedd_euler", "sedd_analytic"])
def test_noise_may_hold_what_text_may_not(method):
    """Independent positions without the forbidden: the text is the data's rest. Uniform noise holds them until the last
    step. False alarm 1e-6; Euler's steps are not exact, and left to the share alone."""
    forbidden = np.isin(XT, [0, 1, MASK, 9])
    allowed = np.where(forbidden, 0, P_DATA) / P_DATA[~forbidden].sum()
    controls = Controls(forbidden_V=jnp.asarray(forbidden))
    text, record = sample("uniform", method, (4000, 4), steps=8, controls=controls, recorded=4000)
    assert not forbidden[text].any()
    assert forbidden[record.tokens[3]].mean() > 0.05 and forbidden[record.tokens[:-1]].any(axis=(1, 2)).all()
    if method == "sedd_analytic":
        toys.assert_frequencies(text, allowed)
    masked, record = sample("absorbing", method, (4000, 4), steps=8, controls=controls, recorded=4000)
    toys.assert_frequencies(masked, allowed)
    assert not (forbidden & (XT != MASK))[record.tokens].any()
    if method == "sedd_analytic":
        # A schedule that leaves noise at t = 0, where the loop forbids, whatever the method.
        noisy = make_kernel("uniform", toys.vocabulary(), schedule=schedules.Geometric(0.3))
        assert not forbidden[sample(noisy, method, (500, 4), steps=3, controls=controls)[0]].any()


@pytest.mark.parametrize("method", ["sedd_euler", "sedd_analytic"])
def test_scores_are_not_truncated_and_need_jumps(method):
    for limits in ({"top_p": 0.9}, {"top_k": 3}):
        with pytest.raises(UserError, match="top_k and top_p .* sedd"):
            sample("uniform", method, (2, 4), steps=2, controls=make_controls(None, **limits))
    for kernel in ("hybrid", "semdlm_plus", "semantic_mask", "semantic_softmax"):
        with pytest.raises(UserError, match="only jumps"):
            Sampler(make_method(method), TOYS[kernel].build(), make_posterior())
