"""The likelihood estimator on texts whose law is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toys import ENTROPY, LOG_P_DATA, MASK, P_DATA, TOYS, V

from semdlm_jax.evaluation.likelihood import (
    SequenceTerms,
    bound_terms,
    compile_terms,
    evaluate_likelihood,
    exact_terms,
    summarise,
)
from semdlm_jax.objectives import Autoregressive, Objective, Posterior
from semdlm_jax.objectives.bound import prior_divergences
from semdlm_jax.runtime.mesh import make_mesh

pytestmark = pytest.mark.usefixtures("quick_compile")
ENDS = {"t_min": 1e-3, "t_max": 1 - 1e-5}


class Prior:
    """A network that knows the law of the text; under `bayes` that is the exact posterior."""

    def features(self, params, tokens, t):
        assert t.shape == tokens.shape[:1]
        return jnp.zeros((*tokens.shape, 1))

    def logits(self, params, features):
        return jnp.broadcast_to(params, (*features.shape[:-1], V))


class UniformPosterior:
    """The exact posterior of uniform noise as `direct` logits: depends on the noisy tokens and on their time."""

    def features(self, params, tokens, t):
        keep = (1 - t)[:, None, None]
        return params + jnp.log(keep * (tokens[..., None] == jnp.arange(V)) + (1 - keep) / V)

    def logits(self, params, features):
        return features


class UniformScores:
    """The exact scores of uniform noise, log q_t(y) - log q_t(x_t) with q_t = (1 - t) P_DATA + t / V."""

    def features(self, params, tokens, t):
        keep = (1 - t)[:, None, None]
        levels = jnp.broadcast_to(jnp.log(keep * jnp.exp(params) + (1 - keep) / V), (*tokens.shape, V))
        return levels - jnp.take_along_axis(levels, tokens[..., None], axis=-1)

    def logits(self, params, features):
        return features


class MaskedScores:
    """The same of masks, over the level that `score` adds: log (1 - t) / t less log(V - 1)."""

    def features(self, params, tokens, t):
        return jnp.broadcast_to(params + np.log(V - 1), (*tokens.shape, V))

    def logits(self, params, features):
        return features


PARAMS = jnp.asarray(np.maximum(LOG_P_DATA, -1e30), jnp.float32)
EXACT = [name for name, toy in TOYS.items() if toy.exact]


@pytest.mark.parametrize(
    ("name", "denoiser", "parameterisation"),
    [
        *((name, Prior(), "bayes") for name in EXACT),
        ("uniform", UniformPosterior(), "direct"),
        ("uniform", UniformScores(), "score"),
        ("absorbing", MaskedScores(), "score"),
    ],
)
def test_the_exact_denoiser_scores_the_entropy(name, denoiser, parameterisation):
    """Within 4 standard errors (false alarm 6e-5), over 64 keys of 512 sequences with 2 positions.

    And what the prior misses of the marginal at t_max, a divergence that schedules which keep something to the end owe.
    """
    toy, posterior = TOYS[name], Posterior(parameterisation)
    kernel = toy.build()
    prior_V = prior_divergences(kernel, ENDS["t_max"])
    x0 = jnp.asarray(np.random.default_rng(0).choice(V, (64, 512, 2), p=P_DATA))

    @jax.jit
    def score(keys, x0):
        def one(key, x0):
            everywhere = jnp.ones(x0.shape, bool)
            return bound_terms(denoiser, kernel, posterior, prior_V, PARAMS, key, x0, everywhere, **ENDS)

        return jax.lax.map(lambda pair: one(*pair), (keys, x0))

    result = summarise(SequenceTerms(*(x.reshape(-1) for x in score(jax.random.split(toys.key(0), 64), x0))))
    assert result.sequences == 64 * 512 and result.tokens == 2 * result.sequences
    assert result.standard_error < 0.035
    prior = toys.mixed_prior(toy, ENDS["t_max"])
    missed = toys.divergence(P_DATA @ toy.matrix(ENDS["t_max"]), prior)
    assert abs(result.nelbo - (ENTROPY + missed)) < 4 * result.standard_error
    assert result.nelbo == pytest.approx(result.integral + result.prior + result.reconstruction)
    rows = np.array([toys.divergence(row, prior) for row in toy.matrix(ENDS["t_max"])])
    assert result.prior == pytest.approx(rows[x0].mean(), rel=1e-4, abs=1e-6)
    # Some schedules have next to no noise at t_min.
    noisy = toy.alpha(ENDS["t_min"]) < 1 - 1e-5
    assert 0 <= result.reconstruction < 0.1 and (result.reconstruction > 0 or not noisy)
    assert result.perplexity == pytest.approx(np.exp(result.nelbo))
    assert result.perplexity_error == pytest.approx(result.perplexity * result.standard_error)


@pytest.mark.parametrize(("name", "denoiser"), [("uniform", UniformScores()), ("absorbing", MaskedScores())])
def test_exact_scores_and_the_law_of_the_text_are_scored_alike(name, denoiser):
    """At the same times and corruptions, within 0.01 nats of up to 1000 a sequence, for the least share of a token."""
    kernel = TOYS[name].build()
    prior_V = prior_divergences(kernel, ENDS["t_max"])
    x0 = jnp.asarray(np.random.default_rng(1).choice(V, (4000, 2), p=P_DATA))

    def score(denoiser, parameterisation):
        given = PARAMS, toys.key(2), x0, jnp.ones(x0.shape, bool)
        return bound_terms(denoiser, kernel, Posterior(parameterisation), prior_V, *given, **ENDS)

    found, wanted = jax.jit(lambda: (score(denoiser, "score"), score(Prior(), "bayes")))()
    for term, one, other in zip(found._fields, found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=0.01, err_msg=term)


def test_padding_never_counts():
    """Chunks change nothing beyond the rounding of their sums: 1e-5."""
    kernel, key = TOYS["semdlm_plus"].build(), toys.key(1)
    prior_V = prior_divergences(kernel, ENDS["t_max"])
    rng = np.random.default_rng(2)
    x0, mask = rng.choice(V, (5, 12), p=P_DATA), rng.random((5, 12)) < 0.6
    mask[3] = False

    @functools.partial(jax.jit, static_argnames="chunk")
    def score(x0, chunk=0):
        arrays = PARAMS, key, x0, jnp.asarray(mask)
        return bound_terms(Prior(), kernel, Posterior(), prior_V, *arrays, **ENDS, chunk=chunk)

    one, other = score(jnp.asarray(x0)), score(jnp.asarray(np.where(mask, x0, 0)))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a[3] == 0
    np.testing.assert_array_equal(one.tokens, mask.sum(1))
    for a, b in zip(one, score(jnp.asarray(x0), chunk=5), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


class Bigrams:
    """A network whose logits are the row of params [V, V] of the token it reads, and the mean of all rows so far."""

    def features(self, params, tokens, t):
        assert t.shape == tokens.shape[:1]
        read = params[tokens]
        return read + jnp.cumsum(read, axis=1) / (1 + jnp.arange(tokens.shape[1]))[:, None]

    def logits(self, params, features):
        return features


BIGRAMS = np.random.default_rng(5).normal(0, 1.5, (V, V))
AUTOREGRESSIVE = Autoregressive(MASK)


def texts(rows, length):
    """(tokens, mask): texts of every length, the last row padding alone."""
    rng = np.random.default_rng(6)
    mask = np.arange(length) < np.append(rng.integers(1, length + 1, rows - 1), 0)[:, None]
    return rng.choice(V, (rows, length), p=P_DATA), mask


def chain_rule(tokens, mask):
    """-log p of each text, a token at a time; the start is no token of text."""
    total = np.zeros(len(tokens))
    for row, text in enumerate(tokens):
        read = [MASK]
        for token, counts in zip(text, mask[row], strict=True):
            logits = BIGRAMS[read[-1]] + BIGRAMS[read].mean(0)
            logits[MASK] = -np.inf
            total[row] -= counts * scipy.special.log_softmax(logits)[token]
            read.append(token)
    return total


@pytest.mark.parametrize("chunk", [0, 3])
def test_the_chain_rule_by_hand(chunk):
    """To 1e-5 of sums in float32."""
    tokens, mask = texts(9, 12)
    params = jnp.asarray(BIGRAMS, jnp.float32)
    terms = exact_terms(Bigrams(), AUTOREGRESSIVE, params, jnp.asarray(tokens), jnp.asarray(mask), chunk=chunk)
    np.testing.assert_allclose(terms.integral, chain_rule(tokens, mask), rtol=1e-5)
    np.testing.assert_array_equal(terms.tokens, mask.sum(1))
    assert terms.integral[-1] == 0 and not terms.prior.any() and not terms.reconstruction.any()


def test_padding_never_counts_in_the_chain_rule():
    """Not even where it holds the start token, which has no chance; text before it sees nothing of it."""
    tokens, mask = texts(9, 12)
    params = jnp.asarray(BIGRAMS, jnp.float32)
    score = jax.jit(lambda tokens: exact_terms(Bigrams(), AUTOREGRESSIVE, params, tokens, jnp.asarray(mask)))
    one = score(jnp.asarray(tokens))
    for padding in (0, MASK):
        for a, b in zip(one, score(jnp.asarray(np.where(mask, tokens, padding))), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_chain_rule_of_a_known_law_scores_the_entropy():
    """Within 4 standard errors (false alarm 6e-5): a network that reads nothing, on tokens drawn one by one."""
    tokens = jnp.asarray(np.random.default_rng(7).choice(V, (2000, 4), p=P_DATA))
    compiled = compile_terms(Prior(), AUTOREGRESSIVE, make_mesh(-1, 1, 1), **ENDS, chunk=0)
    result = summarise(compiled(PARAMS, None, tokens, jnp.ones(tokens.shape, bool)))
    assert abs(result.nelbo - ENTROPY) < 4 * result.standard_error and result.standard_error < 0.02


def test_what_is_compiled_is_the_bound_of_the_objective():
    """Its own kernel and posterior, or another posterior in the place of that; to 1e-5, by the order of sums."""
    toy, mesh = TOYS["uniform"], make_mesh(-1, 1, 1)
    kernel, key = toy.build(), toys.key(8)
    objective = Objective("denoising", kernel, lambda_same=0.5)
    x0, mask = (jnp.asarray(x) for x in texts(8, 6))
    prior_V = prior_divergences(kernel, ENDS["t_max"])
    given = {"bayes": Posterior("bayes", tilt=0.5), "direct": Posterior("direct")}
    assert objective.posterior == given["bayes"]
    found = {}
    for name, posterior in given.items():
        other = {} if name == "bayes" else {"posterior": posterior}
        found[name] = compile_terms(Prior(), objective, mesh, **ENDS, chunk=3, **other)(PARAMS, key, x0, mask)
        score = functools.partial(bound_terms, Prior(), kernel, posterior, prior_V, **ENDS)
        wanted = jax.jit(score)(PARAMS, key, x0, mask)
        for a, b in zip(found[name], wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(found["bayes"].integral - found["direct"].integral).max() > 0.01


def test_standard_error_against_the_bootstrap():
    """Sequences of unequal length, resampled 4000 times: agreement to 5 %."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 20, 600)
    terms = SequenceTerms(*(rng.gamma(2, 1, 600) * tokens for _ in range(3)), tokens)
    result = summarise(terms)
    total = sum(terms[:3])
    assert result.nelbo == pytest.approx(total.sum() / tokens.sum())
    assert (result.tokens, result.sequences) == (tokens.sum(), np.count_nonzero(tokens))
    again = rng.integers(0, 600, (4000, 600))
    resampled = total[again].sum(1) / tokens[again].sum(1)
    assert result.standard_error == pytest.approx(resampled.std(), rel=0.05)


def test_standard_error_of_equal_lengths_is_that_of_a_mean():
    values = np.random.default_rng(4).normal(5, 2, 400)
    result = summarise(SequenceTerms(values * 7, 0 * values, 0 * values, np.full(400, 7)))
    assert result.standard_error == pytest.approx(values.std() / 20)


def test_batches_add_up_and_keys_differ():
    """Every batch has its own key; rows without a counted position are batch padding; no draw is told as done before
    the next is dispatched."""
    calls, told = [], []

    def compiled(params, key, tokens, mask):
        calls.append(np.asarray(jax.random.key_data(key)).tolist())
        told.append(len(seen))
        value = jnp.sum(jnp.where(mask, tokens, 0), 1).astype(jnp.float32)
        return SequenceTerms(value, 2 * value, 0 * value, jnp.sum(mask, 1))

    tokens = np.arange(24).reshape(2, 3, 4)
    mask = np.ones((2, 3, 4), bool)
    mask[1, 2] = False
    seen = []
    batches = [{"tokens": x, "mask": m} for x, m in zip(tokens, mask, strict=True)]
    result = evaluate_likelihood(compiled, None, batches, jax.random.key(0), progress=seen.append)
    assert seen == [1, 2] and told == [0, 0] and len({str(call) for call in calls}) == 2
    assert (result.tokens, result.sequences) == (20, 5)
    assert result.nelbo == pytest.approx(3 * tokens[mask].sum() / 20)


def test_draws_are_averaged_in_each_sequence():
    """Four draws of noise with standard deviation 1 a token: the error is that of the mean of four, and reported so."""

    def compiled(params, key, tokens, mask):
        noise = jax.random.normal(key, tokens.shape[:1])
        return SequenceTerms(5 + noise, 0 * noise, 0 * noise, jnp.sum(mask, 1))

    batches = [{"tokens": np.zeros((2000, 1), int), "mask": np.ones((2000, 1), bool)}]
    seen = []
    result = evaluate_likelihood(compiled, None, batches, jax.random.key(0), draws=4, progress=seen.append)
    assert seen == [1, 2, 3, 4] and (result.tokens, result.sequences) == (2000, 2000)
    assert result.standard_error == pytest.approx(0.5 / np.sqrt(2000), rel=0.08)  # 5 standard deviations of a variance
    assert result.nelbo == pytest.approx(5, abs=4 * result.standard_error)
