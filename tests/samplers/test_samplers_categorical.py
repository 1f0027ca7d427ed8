"""Draws, their rare events and truncation."""

import functools
import itertools

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toy_samplers import keep_reference

from semdlm_jax.kernels import LOG_ZERO
from semdlm_jax.samplers import draw, truncate

pytestmark = pytest.mark.usefixtures("quick_compile")

# Blocks of one token; one block; shorter last ones (5, 50, 101); as many as tokens in one (4 x 4), where one noise for
# both would show.
SIZES = (1, 2, 5, 12, 16, 50, 101)


def scores(vocab_size, seed=0, shape=()):
    """Not normalized; where there is room, some tokens and a whole block have no chance, as -inf or as LOG_ZERO, and
    the last token has one."""
    weights = 1.5 * np.random.default_rng(seed).standard_normal((*shape, vocab_size)) + 3
    if vocab_size >= 5:
        weights[..., 1], weights[..., -2], weights[..., -1] = LOG_ZERO, -np.inf, 4.0
    if vocab_size >= 12:
        weights[..., :4] = -np.inf
    if vocab_size >= 50:
        weights[..., 16:32] = LOG_ZERO
    return np.float32(weights)


@jax.jit
def draws(key, weights, greedy):
    return draw(key, weights, greedy=greedy)


@pytest.mark.parametrize("vocab_size", SIZES)
def test_draws_have_the_law_of_their_weights(vocab_size):
    """False alarm 1e-6 each. log_total to 4e-6 of the float64 sum: it is of size 10, and rounded a few times."""
    weights = scores(vocab_size)
    drawn, total = draws(toys.key(0), jnp.tile(weights, (100, 400, 1)), False)
    assert drawn.dtype == jnp.int32 and drawn.shape == total.shape == (100, 400)
    toys.assert_frequencies(drawn, scipy.special.softmax(np.float64(weights)))
    np.testing.assert_allclose(total, scipy.special.logsumexp(np.float64(weights)), atol=4e-6, rtol=0)


def test_draws_side_by_side_are_independent():
    """False alarm 1e-6: noise shared between positions would pair their tokens."""
    drawn = np.asarray(draws(toys.key(1), jnp.tile(scores(5), (40_000, 2, 1)), False)[0])
    chances = scipy.special.softmax(np.float64(scores(5)))
    toys.assert_frequencies(5 * drawn[:, 0] + drawn[:, 1], np.outer(chances, chances).ravel())


@pytest.mark.parametrize("vocab_size", SIZES)
def test_greedy_draws_are_the_most_likely_token(vocab_size):
    """Traced or not, whatever the sum of the block it lies in; of equals, one of them."""
    weights = scores(vocab_size, 2, (200,))
    fixed = {greedy: jax.jit(functools.partial(draw, greedy=greedy)) for greedy in (False, True)}
    np.testing.assert_array_equal(fixed[True](toys.key(2), weights)[0], weights.argmax(-1))
    np.testing.assert_array_equal(draws(toys.key(2), weights, True)[0], weights.argmax(-1))
    sampled = draws(toys.key(2), weights, False)[0]
    np.testing.assert_array_equal(fixed[False](toys.key(2), weights)[0], sampled)
    assert vocab_size == 1 or (sampled != weights.argmax(-1)).any()
    rounded = np.round(weights)
    tied = draws(toys.key(3), rounded, True)[0]
    np.testing.assert_array_equal(np.take_along_axis(rounded, np.asarray(tied)[:, None], -1)[:, 0], rounded.max(-1))


def test_a_likely_block_does_not_win_over_the_most_likely_token():
    weights = np.full(16, -5.0, np.float32)
    weights[4:8], weights[13] = 1.0, 1.1
    assert draws(toys.key(0), weights, True)[0] == 13


# Rare events. A token of chance 1e-8 would take 4e10 draws to count to 5 %. The random bits are drawn from another law
# instead: a share of the words begins with 22 equal bits, and what comes out is weighed by the likelihood ratio: an
# unbiased count, whatever the draw makes of its bits.
LEAD, SHARE, DRAWS, RARE = 22, 0.05, 2**19, 1e-8


def forged_key(rng, ratios):
    """A key of such words; appends to `ratios` those of the words handed out, of the shape asked for."""

    def words(key, width, shape):
        assert width == 32
        free, kind = rng.integers(0, 2**32, shape, np.uint32), rng.random(shape)
        low = free >> LEAD
        forged = np.where(kind < SHARE, low, np.where(kind < 2 * SHARE, ~low, free))
        at_an_end = np.minimum(forged, ~forged) >> (32 - LEAD) == 0
        ratios.append(1 / np.where(at_an_end, 1 - 2 * SHARE + SHARE * 2.0**LEAD, 1 - 2 * SHARE))
        return jnp.asarray(forged)

    def blank(*shape):
        return jnp.zeros((*shape, 1), jnp.uint32)

    generator = jax.extend.random.define_prng_impl(
        key_shape=(1,),
        seed=lambda seed: blank(),
        split=lambda key, shape: blank(*shape),
        random_bits=words,
        fold_in=lambda key, data: blank(),
        name="forged",
        tag="forged",
    )
    return jax.random.key(0, impl=generator)


def rare_chance(choose, weights, rare):
    """(estimate, its standard error) of the chance that choose(key, weights) is one of `rare`."""
    ratios = []
    with jax.disable_jit():
        key = forged_key(np.random.default_rng(5), ratios)
        drawn = choose(key, jnp.broadcast_to(jnp.float32(weights), (DRAWS, len(weights))))
    ratio = np.ones(DRAWS)
    for each in ratios:
        ratio *= np.moveaxis(each, each.shape.index(DRAWS), 0).reshape(DRAWS, -1).prod(1)
    assert abs(ratio.mean() - 1) < 6 * ratio.std() / DRAWS**0.5
    weighed = ratio * np.isin(drawn, rare)
    return weighed.mean(), weighed.std() / DRAWS**0.5


def naive(key, weights):
    return jnp.argmax(weights + jax.random.gumbel(key, weights.shape, weights.dtype, mode="low"), axis=-1)


# Two blocks of two tokens. The rare token beside the likely one: the token's noise must reach it; or in a block of its
# own: the block's noise must.
@pytest.mark.parametrize("rare", [1, 2, 3])
def test_chances_of_one_in_a_hundred_million_in_float32(rare):
    """Five standard errors of at most 5 % each: false alarm 1e-6. Noise from one uniform never exceeds 16, and finds a
    hundredth of these tokens at most."""
    weights = np.full(4, -np.inf)
    weights[0], weights[rare] = np.log1p(-RARE), np.log(RARE)
    found, error = rare_chance(lambda key, weights: draw(key, weights)[0], weights, rare)
    assert error < 0.05 * RARE and abs(found - RARE) < 5 * error
    found, error = rare_chance(naive, weights, rare)
    assert found + 5 * error < 0.01 * RARE


# Truncation.


ROWS = {
    "normal": lambda x: 2 * x,
    "negative": lambda x: x - 50,
    "positive": lambda x: x + 50,
    "near zero": lambda x: 1e-3 * x,
    "zeros": lambda x: 0 * x - (x > 1),  # of both signs
    "huge": lambda x: 1e38 * np.clip(x, -3, 3),
    "tied": np.round,
    "equal": np.ones_like,
    "holes": lambda x: np.where(np.sin(50 * x) > 0, x, -np.inf),
    "masked": lambda x: np.where(np.sin(50 * x) > 0, x, LOG_ZERO),
}


@functools.cache
def truncation(top_k, top_p):
    """Compiled once for all values: they are traced."""
    return jax.jit(lambda weights, k, p: truncate(weights, k if top_k else None, p if top_p else None))


@pytest.mark.parametrize("kind", ROWS)
def test_truncation_is_that_of_a_sorted_row(kind):
    """Rows that float32 sums of 101 weights (1e-5) cannot tell are passed over, one in twenty at most. Ties stay."""
    weights = np.float32(ROWS[kind](np.random.default_rng(6).standard_normal((3, 8, 101))))
    limits = list(itertools.product((None, 1, 2, 7, 100, 101, 5000), (None, 1e-30, 0.05, 0.5, 0.9, 0.99)))
    passed_over = 0
    for top_k, top_p in limits:
        kept = np.asarray(truncation(top_k is not None, top_p is not None)(weights, top_k or 0, top_p or 0))
        for row, out in zip(weights.reshape(-1, 101), kept.reshape(-1, 101), strict=True):
            expected, margin = keep_reference(row, top_k, top_p)
            if margin < 1e-5:
                passed_over += 1
                continue
            np.testing.assert_array_equal(out, np.where(expected, row, -np.inf), err_msg=f"{top_k}, {top_p}")
    assert passed_over <= len(limits) * 24 / 20


def test_truncation_at_the_ends():
    rng = np.random.default_rng(7)
    weights = np.float32(np.where(rng.random((20, 101)) < 0.3, -np.inf, 3 * rng.standard_normal((20, 101))))
    # Off: not even touched.
    assert truncate(weights) is weights
    # The least share keeps the likeliest alone, all but everything keeps what can be told from nothing, and no more.
    for top_p in (1e-45, 1e-9):
        kept = np.isfinite(truncation(False, True)(weights, 0, top_p))
        np.testing.assert_array_equal(kept, weights == weights.max(-1, keepdims=True))
    for top_p in (np.nextafter(np.float32(1), np.float32(0)), np.float32(1)):
        kept = np.isfinite(truncation(False, True)(weights, 0, top_p))
        chances = scipy.special.softmax(np.float64(weights), -1)
        assert kept[chances > 1e-5].all() and not kept[chances == 0].any()


def test_neighboring_floats_are_told_apart():
    """Of either sign, and across 0: the threshold is found to its last bit."""
    for around in (-3.0, 0.0, 3.0, -1e30):
        weights = [np.float32(around)]
        for _ in range(8):
            weights.append(np.nextafter(weights[-1], np.float32(np.inf)))
            weights.insert(0, np.nextafter(weights[0], np.float32(-np.inf)))
        for top_k in range(1, len(weights) + 1):
            kept = np.isfinite(truncation(True, False)(np.array(weights), top_k, 0))
            np.testing.assert_array_equal(kept, np.arange(len(weights)) >= len(weights) - top_k)


def test_top_p_is_of_what_top_k_left():
    """Of 0.4, 0.3, 0.2, 0.1 the two likeliest have 4/7 and 3/7: 0.5 keeps one of them, of all four it keeps two."""
    weights = jnp.log(jnp.float32([0.1, 0.4, 0.2, 0.3]))

    def kept(top_k=None, top_p=None):
        out = truncation(top_k is not None, top_p is not None)(weights, top_k or 0, top_p or 0)
        return np.flatnonzero(np.isfinite(out)).tolist()

    assert kept(top_k=2) == kept(top_p=0.5) == [1, 3] and kept(top_k=2, top_p=0.5) == [1]
    assert kept(top_k=3, top_p=0.99) == [1, 2, 3] and kept(top_p=0.65) == [1, 3]


@pytest.mark.parametrize("vocab_size", [16_500, 17_152])
def test_large_vocabularies_are_drawn_from_whole(vocab_size):
    """Blocks of 256, with and without a shorter last one: eight tokens of equal chance, at the edges of blocks and of
    the vocabulary, and nothing else. False alarm 1e-6. The total is as in float64."""
    tokens = np.array([0, 255, 256, 511, 8_000, vocab_size - 257, vocab_size - 2, vocab_size - 1])
    weights = np.full(vocab_size, -np.inf, np.float32)
    weights[tokens] = 2.0
    drawn, total = draws(toys.key(3), jnp.tile(weights, (40, 20, 1)), False)
    assert np.isin(drawn, tokens).all()
    toys.assert_frequencies(np.searchsorted(tokens, drawn), np.full(8, 1 / 8))
    np.testing.assert_allclose(total, 2 + np.log(8), rtol=1e-6)
