"""The likelihood estimator on texts of one known position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import ENTROPY, LOG_P_DATA, P_DATA, TOYS, V

from semdlm_jax.evaluation.likelihood import SequenceTerms, evaluate_likelihood, sequence_terms, summarise
from semdlm_jax.objectives import Posterior

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


PARAMS = jnp.asarray(np.maximum(LOG_P_DATA, -1e30), jnp.float32)


@pytest.mark.parametrize(
    ("name", "denoiser", "parameterisation"),
    [
        ("absorbing", Prior(), "bayes"),
        ("uniform", Prior(), "bayes"),
        ("unigram", Prior(), "bayes"),
        ("uniform", UniformPosterior(), "direct"),
    ],
)
def test_the_exact_denoiser_scores_the_entropy(name, denoiser, parameterisation):
    """Within 4 standard errors (false alarm 6e-5), over 64 keys of 512 sequences with 2 positions."""
    kernel, posterior = TOYS[name].build(), Posterior(parameterisation)
    x0 = jnp.asarray(np.random.default_rng(0).choice(V, (64, 512, 2), p=P_DATA))

    @jax.jit
    def score(keys, x0):
        def one(key, x0):
            return sequence_terms(denoiser, kernel, posterior, PARAMS, key, x0, jnp.ones(x0.shape, bool), **ENDS)

        return jax.lax.map(lambda pair: one(*pair), (keys, x0))

    result = summarise(SequenceTerms(*(x.reshape(-1) for x in score(jax.random.split(toys.key(0), 64), x0))))
    assert result.sequences == 64 * 512 and result.tokens == 2 * result.sequences
    assert result.standard_error < 0.035
    assert abs(result.nelbo - ENTROPY) < 4 * result.standard_error
    assert result.nelbo == pytest.approx(result.integral + result.prior + result.reconstruction)
    assert 0 <= result.prior < 1e-3 and 0 < result.reconstruction < 0.1
    assert result.perplexity == pytest.approx(np.exp(result.nelbo))
    assert result.perplexity_error == pytest.approx(result.perplexity * result.standard_error)


def test_padding_never_counts():
    kernel, key = TOYS["semdlm_plus"].build(), toys.key(1)
    rng = np.random.default_rng(2)
    x0, mask = rng.choice(V, (5, 12), p=P_DATA), rng.random((5, 12)) < 0.6
    mask[3] = False

    @jax.jit
    def score(x0):
        return sequence_terms(Prior(), kernel, Posterior(), PARAMS, key, x0, jnp.asarray(mask), **ENDS)

    one, other = score(jnp.asarray(x0)), score(jnp.asarray(np.where(mask, x0, 0)))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a[3] == 0
    np.testing.assert_array_equal(one.tokens, mask.sum(1))
    chunked = sequence_terms(
        Prior(), kernel, Posterior(), PARAMS, key, jnp.asarray(x0), jnp.asarray(mask), **ENDS, chunk=5
    )
    for a, b in zip(one, chunked, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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
    """Every batch has its own key; rows without a counted position are batch padding."""
    calls = []

    def compiled(params, key, tokens, mask):
        calls.append(np.asarray(jax.random.key_data(key)).tolist())
        value = jnp.sum(jnp.where(mask, tokens, 0), 1).astype(jnp.float32)
        return SequenceTerms(value, 2 * value, 0 * value, jnp.sum(mask, 1))

    tokens = np.arange(24).reshape(2, 3, 4)
    mask = np.ones((2, 3, 4), bool)
    mask[1, 2] = False
    seen = []
    batches = [{"tokens": x, "mask": m} for x, m in zip(tokens, mask, strict=True)]
    result = evaluate_likelihood(compiled, None, batches, jax.random.key(0), progress=seen.append)
    assert seen == [1, 2] and len({str(call) for call in calls}) == 2
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
