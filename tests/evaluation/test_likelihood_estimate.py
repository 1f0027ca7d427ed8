"""From the terms of rows to a number with its error: batches, draws, times."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_terms import ENDS, PARAMS, Prior, one_draw, texts
from toys import TOYS

from semdlm_jax.evaluation.likelihood import (
    compile_terms,
    evaluate_likelihood,
    summarize,
    with_error,
)
from semdlm_jax.evaluation.times import stratified_uniforms
from semdlm_jax.objectives import Scoring, SequenceTerms, make_objective
from semdlm_jax.runtime.mesh import make_mesh

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_standard_error_against_the_bootstrap():
    """Sequences of unequal length, resampled 4000 times: agreement to 5 %."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 20, 600)
    terms = one_draw(SequenceTerms(*(rng.gamma(2, 1, 600) * tokens for _ in range(3)), tokens))
    result = summarize(terms)
    total = sum(terms[:3])[0]
    assert result.nelbo == pytest.approx(total.sum() / tokens.sum())
    assert (result.tokens, result.sequences) == (tokens.sum(), np.count_nonzero(tokens))
    again = rng.integers(0, 600, (4000, 600))
    resampled = total[again].sum(1) / tokens[again].sum(1)
    assert result.standard_error == pytest.approx(resampled.std(), rel=0.05)
    assert (result.error_over, result.draw_error) == ("sequences", None)


def made_up(values, tokens):
    """Terms whose sum over a sequence of `tokens` [N] is values [D, N]."""
    values = np.asarray(values, np.float64)
    return SequenceTerms(values, 0 * values, 0 * values, np.broadcast_to(tokens, values.shape))


def test_standard_error_of_equal_lengths_is_that_of_a_mean():
    values = np.random.default_rng(4).normal(5, 2, (1, 400))
    result = summarize(made_up(values * 7, 7))
    assert result.standard_error == pytest.approx(values.std(ddof=1) / 20)


@pytest.mark.parametrize("tokens", [(64, 64, 5), (20, 11), (30, 20, 10, 1)])
def test_rows_of_unequal_lengths_have_an_honest_error(tokens):
    """20,000 times: the mean of the squared error is the variance, to 5 %, where a row's variance is as its length."""
    tokens = np.array(tokens)
    totals = np.random.default_rng(8).normal(5 * tokens, 2 * np.sqrt(tokens), (20_000, 1, len(tokens)))
    results = [summarize(made_up(total, tokens)) for total in totals]
    variance = np.var([result.nelbo for result in results])
    assert np.mean([result.standard_error**2 for result in results]) == pytest.approx(variance, rel=0.05)


def test_one_row_that_is_nearly_all_of_the_text_is_like_one_row():
    """What it has in common with itself, as a time, its residual does not show: a ratio of sums is nearly its own."""
    values = np.random.default_rng(9).normal(5, 1, (8, 1)) * [64, 1]
    result = summarize(made_up(values, np.array([64, 1])))
    assert result.error_over == "draws" and result.standard_error == result.draw_error
    assert summarize(made_up(values[:1], np.array([64, 1]))).standard_error is None


def test_terms_add_up_over_draws():
    """The NELBO is the sum of its terms, each the mean over draws of its own."""
    rng = np.random.default_rng(10)
    terms = SequenceTerms(*(rng.gamma(2, scale, (3, 5)) for scale in (3, 2, 1)), np.full((3, 5), 7))
    result = summarize(terms)
    for name in ("integral", "prior", "reconstruction"):
        assert getattr(result, name) == pytest.approx(getattr(terms, name).mean() / 7)
    assert result.nelbo == pytest.approx(result.integral + result.prior + result.reconstruction)


def test_a_single_sequence_has_the_error_of_its_draws():
    """Of one draw there is no telling, and nobody says 0."""
    one = summarize(made_up([[9.0]], 3))
    assert (one.nelbo, one.standard_error, one.error_over, one.draw_error, one.perplexity_error) == (3, *[None] * 4)
    assert with_error(one.nelbo, one.standard_error, 2) == "3.00 ± n/a"
    values = np.random.default_rng(5).normal(9, 2, (50, 1))
    several = summarize(made_up(values, 3))
    assert several.error_over == "draws" and several.standard_error == several.draw_error
    assert several.standard_error == pytest.approx(values.std(ddof=1) / 3 / np.sqrt(50))
    empty_beside = summarize(made_up(np.pad(values, ((0, 0), (0, 2))), [3, 0, 0]))
    assert empty_beside.error_over == "draws" and empty_beside.sequences == 1
    assert empty_beside.standard_error == pytest.approx(several.standard_error)


@pytest.mark.parametrize(("nelbo", "perplexity"), [(700.0, np.exp(700.0)), (709.9, None), (1e150, None)])
def test_perplexity_beyond_the_largest_float(nelbo, perplexity):
    result = summarize(made_up([[nelbo, nelbo * 1.01]], 1))
    result = dataclasses.replace(result, nelbo=nelbo)
    assert result.perplexity == pytest.approx(perplexity)
    assert result.perplexity_error is None or np.isfinite(result.perplexity_error)


def batched(tokens, mask, size):
    """The rows in batches of `size`, filled up with rows that are all padding."""
    for first in range(0, len(tokens), size):
        short = size - len(tokens[first : first + size])
        parts = (np.pad(x[first : first + size], ((0, short), (0, 0))) for x in (tokens, mask))
        yield dict(zip(("tokens", "mask"), parts), row=np.arange(first, first + size, dtype=np.int32))


@pytest.mark.parametrize("name", ["absorbing", "semdlm_plus"])
def test_a_row_scores_the_same_in_any_batch(name):
    """17 rows in one batch, one by one, in fives and in a batch that is mostly filling: the same number, to the
    rounding of sums in another order."""
    objective = make_objective("denoising", TOYS[name].build())
    tokens, mask = texts(17, 6)
    compiled = compile_terms(Prior(), objective, make_mesh(-1, 1, 1), Scoring(**ENDS))
    found = [
        evaluate_likelihood(compiled, PARAMS, batched(tokens, mask, size), 17, seed=3, draws=3)
        for size in (17, 1, 5, 64)
    ]
    for one in found:
        assert (one.tokens, one.sequences) == (found[0].tokens, found[0].sequences)
        for name in ("nelbo", "integral", "prior", "reconstruction", "standard_error", "draw_error"):
            assert getattr(one, name) == pytest.approx(getattr(found[0], name), rel=1e-5, abs=1e-6)
    other = evaluate_likelihood(compiled, PARAMS, batched(tokens, mask, 17), 17, seed=4, draws=3)
    assert abs(other.nelbo - found[0].nelbo) > 1e-3


def test_each_row_gets_the_whole_range_of_time():
    """Whatever its place, and in each draw: of 4,000 seeds, the uniforms of every row and draw fall evenly into eight
    parts (chi squared below 34 at 7 degrees of freedom, false alarm 2e-5 each); every point alone in its stratum,
    and one of each row's draws in each of `draws` parts."""
    rows, draws, seeds = 5, 3, 4000
    points = np.stack([stratified_uniforms(seed, rows, draws) for seed in range(seeds)])
    assert points.shape == (seeds, rows, draws) and points.min() >= 0 and points.max() < 1
    strata = np.sort((points * rows * draws).astype(int).reshape(seeds, -1), axis=1)
    np.testing.assert_array_equal(strata, np.broadcast_to(np.arange(rows * draws), strata.shape))
    parts = np.sort((points * draws).astype(int), axis=2)
    np.testing.assert_array_equal(parts, np.broadcast_to(np.arange(draws), parts.shape))
    # Which stratum of its part a row has, and in which order a row visits the parts, differ between parts and rows.
    first, second = (np.sort(points, axis=2)[:, :, part] * draws * rows % rows // 1 for part in (0, 1))
    visited = points * draws // 1
    for same, chance in ((first == second, 1 / rows), (visited[:, :1] == visited[:, 1:], 1 / draws)):
        assert np.abs(same.mean(0) - chance).max() < 5 * np.sqrt(chance / seeds)
    counts = np.stack([(np.floor(points * 8) == part).sum(0) for part in range(8)])
    assert np.sum((counts - seeds / 8) ** 2 / (seeds / 8), axis=0).max() < 34


def test_errors_are_on_the_safe_side():
    """Of 400 evaluations of 6 sequences in 4 draws of a cost that rises with time: both errors are at least the spread
    over seeds, which strata make small, and the mean is exact within 4 standard errors of the 400."""
    rows, draws = 6, 4
    cost = np.linspace(1, 2, rows)[:, None]

    def compiled(params, key, batch, draw):
        value = cost[:, 0] * batch["uniform"][:, draw] ** 2
        return SequenceTerms(value, 0 * value, 0 * value, np.ones(rows))

    batch = {"tokens": np.zeros((rows, 1)), "mask": np.ones((rows, 1)), "row": np.arange(rows)}
    found = [evaluate_likelihood(compiled, None, [batch], rows, seed, draws=draws) for seed in range(400)]
    nelbos = np.array([one.nelbo for one in found])
    assert abs(nelbos.mean() - cost.mean() / 3) < 4 * nelbos.std() / 20
    assert np.mean([one.standard_error**2 for one in found]) > nelbos.var()
    assert np.mean([one.draw_error**2 for one in found]) > nelbos.var()


def test_batches_add_up_and_rows_differ():
    """Rows without a counted position are batch padding; no draw is told as done before the next is dispatched."""
    seen, told, rows = [], [], []

    def compiled(params, key, batch, draw):
        told.append(len(seen))
        rows.extend(batch["row"])
        value = np.sum(np.where(batch["mask"], batch["tokens"], 0), 1).astype(np.float32)
        return SequenceTerms(value, 2 * value, 0 * value, np.sum(batch["mask"], 1))

    tokens, mask = np.arange(20).reshape(5, 4), np.ones((5, 4), bool)
    result = evaluate_likelihood(compiled, None, batched(tokens, mask, 3), 5, progress=seen.append)
    assert seen == [1, 2] and told == [0, 0] and rows == list(range(6))
    assert (result.tokens, result.sequences) == (20, 5)
    assert result.nelbo == pytest.approx(3 * tokens.sum() / 20)


def test_draws_are_averaged_in_each_sequence():
    """Four draws of noise with standard deviation 1 a token: the error is that of the mean of four, and reported so."""

    def compiled(params, key, batch, draw):
        noise = jax.random.normal(jax.random.fold_in(key, draw), batch["row"].shape)
        return SequenceTerms(5 + noise, 0 * noise, 0 * noise, np.sum(batch["mask"], 1))

    batch = {"tokens": np.zeros((2000, 1), int), "mask": np.ones((2000, 1), bool), "row": np.arange(2000)}
    seen = []
    result = evaluate_likelihood(compiled, None, [batch], 2000, draws=4, progress=seen.append)
    assert seen == [1, 2, 3, 4] and (result.tokens, result.sequences) == (2000, 2000)
    for error in (result.standard_error, result.draw_error):
        assert error == pytest.approx(0.5 / np.sqrt(2000), rel=0.08)  # 5 standard deviations of a variance
    assert result.nelbo == pytest.approx(5, abs=4 * result.standard_error)
