"""The likelihood estimator on texts whose law is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toy_terms import ENDS, PARAMS, Prior, one_draw, texts
from toys import ENTROPY, MASK, P_DATA, TOYS, V

from semdlm_jax.evaluation.likelihood import compile_terms, summarize
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.objectives import Autoregressive, Scoring, make_objective, make_posterior, stratified_times
from semdlm_jax.objectives.bound import prior_divergences
from semdlm_jax.objectives.scoring import ONE_IN, ScoredRows, bound_terms, rebuilt_rows
from semdlm_jax.runtime.mesh import make_mesh

pytestmark = pytest.mark.usefixtures("quick_compile")


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


EXACT = [name for name, toy in TOYS.items() if toy.exact]


def uniform_terms(denoiser, kernel, posterior, key, x0, mask, ends=ENDS, **options):
    """`bound_terms` at times stratified over the rows. x0, mask: [B, L]. Of the key's kind many draw side by side."""
    key, time_key = jax.random.split(key)
    rows, prior_V = len(x0), prior_divergences(kernel, ends["t_max"])
    t_B = stratified_times(time_key, rows, **ends)
    rows = ScoredRows(jax.random.split(key, rows), t_B, x0, mask)
    return bound_terms(denoiser, kernel, posterior, Scoring(**ends, **options), prior_V, PARAMS, rows).summed()


# Over a middle stretch of time the prior and the reconstruction pay for what lies outside of it: a bound that forgets
# the stretch's length, or takes its prior at another time, no longer adds up.
MIDDLE = {"t_min": 0.3, "t_max": 0.7}


@pytest.mark.parametrize(
    ("name", "denoiser", "parameterization", "ends"),
    [
        *((name, Prior(), "bayes", ENDS) for name in EXACT),
        ("uniform", UniformPosterior(), "direct", ENDS),
        ("uniform", UniformScores(), "score", ENDS),
        ("absorbing", MaskedScores(), "score", ENDS),
        ("absorbing", Prior(), "bayes", MIDDLE),
        ("uniform", Prior(), "bayes", MIDDLE),
    ],
)
def test_the_exact_denoiser_scores_the_entropy(name, denoiser, parameterization, ends):
    """Within 4 standard errors (false alarm 6e-5), over 64 keys of 512 sequences with 2 positions.

    And what the prior misses of the marginal at t_max, a divergence that schedules which keep something to the end owe.
    """
    toy, posterior = TOYS[name], make_posterior(parameterization)
    kernel = toy.build()
    x0 = jnp.asarray(np.random.default_rng(0).choice(V, (64, 512, 2), p=P_DATA))

    @jax.jit
    def score(keys, x0):
        everywhere = jnp.ones(x0.shape[1:], bool)
        return jax.lax.map(
            lambda pair: uniform_terms(denoiser, kernel, posterior, *pair, everywhere, ends=ends), (keys, x0)
        )

    result = summarize(one_draw(score(jax.random.split(jax.random.key(0), 64), x0)))
    assert result.sequences == 64 * 512 and result.tokens == 2 * result.sequences
    assert result.standard_error < 0.05  # by the seed 0.03 to 0.045: a few small times weigh much
    prior = toys.mixed_prior(toy, ends["t_max"])
    missed = toys.divergence(P_DATA @ toy.matrix(ends["t_max"]), prior)
    assert abs(result.nelbo - (ENTROPY + missed)) < 4 * result.standard_error
    assert result.nelbo == pytest.approx(result.integral + result.prior + result.reconstruction)
    rows = np.array([toys.divergence(row, prior) for row in toy.matrix(ends["t_max"])])
    assert result.prior == pytest.approx(rows[x0].mean(), rel=1e-4, abs=1e-6)
    # Some schedules have next to no noise at t_min.
    noisy = toy.alpha(ends["t_min"]) < 1 - 1e-5
    assert 0 <= result.reconstruction < (0.1 if ends is ENDS else ENTROPY)
    assert result.reconstruction > 0 or not noisy
    assert result.perplexity == pytest.approx(np.exp(result.nelbo))
    assert result.perplexity_error == pytest.approx(result.perplexity * result.standard_error)


def test_the_two_corruptions_of_a_row_are_independent():
    """With both at t = 1/2, a mask costs the reconstruction -log p and the integral -log p / t: the same rows and
    places masked twice would cost the same twice. They agree in half of the places, within 5 standard deviations."""
    kernel, rows = TOYS["absorbing"].build(), 4000
    x0 = jnp.asarray(np.random.default_rng(9).choice(V, (rows, 1), p=P_DATA))
    scored = ScoredRows(jax.random.split(jax.random.key(9), rows), jnp.full(rows, 0.5), x0, jnp.ones(x0.shape, bool))
    terms = bound_terms(Prior(), kernel, make_posterior(), Scoring(0.5, 0.75), jnp.zeros(V), PARAMS, scored)
    masked, again = np.asarray(terms.integral) > 0, np.asarray(terms.reconstruction) > 0
    for share in (masked.mean(), again.mean(), (masked == again).mean()):
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(rows)


@pytest.mark.parametrize(("name", "denoiser"), [("uniform", UniformScores()), ("absorbing", MaskedScores())])
def test_exact_scores_and_the_law_of_the_text_are_scored_alike(name, denoiser):
    """At the same times and corruptions, within 0.01 nats of up to 1000 a sequence, for the least share of a token."""
    kernel = TOYS[name].build()
    x0 = jnp.asarray(np.random.default_rng(1).choice(V, (4000, 2), p=P_DATA))

    def score(denoiser, parameterization):
        everywhere = jnp.ones(x0.shape, bool)
        return uniform_terms(denoiser, kernel, make_posterior(parameterization), jax.random.key(2), x0, everywhere)

    found, wanted = jax.jit(lambda: (score(denoiser, "score"), score(Prior(), "bayes")))()
    for term, one, other in zip(found._fields, found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=0.01, err_msg=term)


def test_padding_never_counts():
    """Chunks change nothing beyond the rounding of their sums: 1e-5."""
    kernel, key = TOYS["semdlm_plus"].build(), jax.random.key(1)
    rng = np.random.default_rng(2)
    x0, mask = rng.choice(V, (5, 12), p=P_DATA), rng.random((5, 12)) < 0.6
    mask[3] = False

    @functools.partial(jax.jit, static_argnames="chunk")
    def score(x0, chunk=0):
        return uniform_terms(Prior(), kernel, make_posterior(), key, x0, jnp.asarray(mask), chunk=chunk)

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
    score = AUTOREGRESSIVE.score_terms(Bigrams(), Scoring(**ENDS, chunk=chunk))
    terms = score(params, None, {"tokens": jnp.asarray(tokens), "mask": jnp.asarray(mask)}, 0)
    np.testing.assert_allclose(terms.integral, chain_rule(tokens, mask), rtol=1e-5)
    np.testing.assert_array_equal(terms.tokens, mask.sum(1))
    assert terms.integral[-1] == 0 and not terms.prior.any() and not terms.reconstruction.any()


def test_padding_never_counts_in_the_chain_rule():
    """Not even where it holds the start token, which has no chance; text before it sees nothing of it."""
    tokens, mask = texts(9, 12)
    params = jnp.asarray(BIGRAMS, jnp.float32)
    terms = jax.jit(AUTOREGRESSIVE.score_terms(Bigrams(), Scoring(**ENDS)))

    def score(tokens):
        return terms(params, None, {"tokens": jnp.asarray(tokens), "mask": jnp.asarray(mask)}, 0)

    one = score(tokens)
    for padding in (0, MASK):
        for a, b in zip(one, score(np.where(mask, tokens, padding)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_chain_rule_of_a_known_law_scores_the_entropy():
    """Within 4 standard errors (false alarm 6e-5): a network that reads nothing, on tokens drawn one by one."""
    tokens = jnp.asarray(np.random.default_rng(7).choice(V, (2000, 4), p=P_DATA))
    compiled = compile_terms(Prior(), AUTOREGRESSIVE, make_mesh(-1, 1, 1), Scoring(**ENDS))
    result = summarize(one_draw(compiled(PARAMS, None, {"tokens": tokens, "mask": jnp.ones(tokens.shape, bool)}, 0)))
    assert abs(result.nelbo - ENTROPY) < 4 * result.standard_error and result.standard_error < 0.02


def test_what_is_compiled_is_the_bound_of_the_objective():
    """Its own kernel and posterior, or another posterior in the place of that; to 1e-5, by the order of sums. Of the
    reconstructions it has those of the chosen rows, for all."""
    toy, mesh = TOYS["uniform"], make_mesh(-1, 1, 1)
    kernel, key = toy.build(), jax.random.key(8)
    objective = make_objective("denoising", kernel, lambda_same=0.5)
    x0, mask = (jnp.asarray(x) for x in texts(8, 6))
    uniform = jnp.asarray(stratified_uniforms(0, 8, 2))
    batch = {"tokens": x0, "mask": mask, "row": jnp.arange(8), "uniform": uniform}
    keys_B = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), 1))(jnp.arange(8))
    t_B = ENDS["t_min"] + (ENDS["t_max"] - ENDS["t_min"]) * uniform[:, 1]
    prior_V = prior_divergences(kernel, ENDS["t_max"])
    given = {"bayes": make_posterior("bayes", unchanged_weight=0.5), "direct": make_posterior("direct")}
    assert objective.posterior == given["bayes"]
    found = {}
    for name, posterior in given.items():
        other = None if name == "bayes" else posterior
        found[name] = compile_terms(Prior(), objective, mesh, Scoring(**ENDS, chunk=3), other)(PARAMS, key, batch, 1)
        score = functools.partial(bound_terms, Prior(), kernel, posterior, Scoring(**ENDS), prior_V, PARAMS)
        wanted = jax.jit(score)(ScoredRows(keys_B, t_B, x0, mask)).summed()
        chosen = ONE_IN * rebuilt_rows(key, jnp.arange(8), 1)
        assert chosen.sum() == ONE_IN
        wanted = wanted._replace(reconstruction=chosen * wanted.reconstruction)
        for a, b in zip(found[name], wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(found["bayes"].integral - found["direct"].integral).max() > 0.01
