"""The sampler in exact continuous time: its law has no error of steps, for any kernel and any number of cells."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_pairs
import toys
from test_samplers_loop import TABLE
from test_samplers_methods import padded
from toy_pairs import JOINT
from toy_samplers import INDEPENDENT, plan_of, sample
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import make_kernel
from semdlm_jax.kernels.leaving import by_trying
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Controls, Network, Sampler, make_controls, make_method
from semdlm_jax.samplers.cells import check_rates, expected_candidates
from semdlm_jax.samplers.presets import make_settings

EXACT = make_method("exact")
QUICKLY = pytest.mark.usefixtures("quick_compile")  # where that takes longer than the run


def pairs_of(kernel, plan, count, name="exact", **more):
    """(pairs of tokens as numbers, Trajectory) of two positions that depend on each other, for the exact denoiser."""
    text, record = sample(kernel, name, (count, 2), plan, network=toy_pairs.network(kernel), **more)
    return V * text[:, 0] + text[:, 1], record


def symbols():
    return make_kernel("nested", toys.vocabulary(), blocks="4", resampled=0)


@QUICKLY
@pytest.mark.parametrize("name", ["absorbing", "nested", "mask_rates", "symbols"])
def test_the_law_of_the_text_is_that_of_the_data(name):
    """One cell and the last step: a chi-squared test of all pairs, false alarm 1e-6 each."""
    kernel = symbols() if name == "symbols" else TOYS[name].build()
    plan = plan_of(kernel, EXACT, 2, 2, t_min=1e-4)
    toys.assert_frequencies(pairs_of(kernel, plan, 2000)[0], JOINT.ravel())


@pytest.mark.parametrize(("name", "count"), [("uniform", 2000), ("semdlm_plus", 1000), ("two_digits", 500)])
def test_any_number_of_cells_has_it_and_any_kernel(name, count):
    """1, 2 and 8 cells of uniform noise. One cell of a kernel with kinks, and of a chain of one's own that knows no
    bound. False alarm 1e-6 each."""
    kernel = TOYS[name].build()
    for cells in (1, 2, 8) if name == "uniform" else (1,):
        plan = padded(plan_of(kernel, EXACT, cells + 1, 2, t_min=1e-4), 9)
        toys.assert_frequencies(pairs_of(kernel, plan, count, key=cells)[0], JOINT.ravel())


@QUICKLY
def test_the_tests_see_what_a_step_loses():
    """One ancestral step and the last one draw both positions of most texts independently: far from the data, as
    enumerated, and the same test of as many pairs sees it."""
    toy = TOYS["uniform"]
    plan = plan_of(toy.build(), make_method("ancestral"), 2, 2, t_min=1e-4)
    law = list(toy_pairs.laws(toy, "ancestral", plan))[-1]
    assert toy_pairs.variation(law, JOINT) > 0.1
    pairs, _ = pairs_of(toy.build(), plan, 1000, "ancestral")
    toys.assert_frequencies(pairs, law.ravel())
    with pytest.raises(AssertionError):
        toys.assert_frequencies(pairs, JOINT.ravel())


@QUICKLY
def test_a_trajectory_has_the_law_of_its_times():
    """Of pairs, at the end of each of 3 cells: false alarm 1e-6 each."""
    toy = TOYS["uniform"]
    plan = plan_of(toy.build(), EXACT, 4, 2, t_min=0.2)
    pairs, record = pairs_of(toy.build(), plan, 4000, recorded=4000)
    for s, tokens in zip(np.float64(plan.s[:3]), record.tokens, strict=False):
        law = np.einsum("kl,kx,ly->xy", JOINT, toy.matrix(s), toy.matrix(s))
        toys.assert_frequencies(V * tokens[..., 0] + tokens[..., 1], np.maximum(law, 0).ravel())
    np.testing.assert_array_equal(record.tokens[-1], pairs[:, None] // [V, 1] % V)
    changed = record.tokens[1] != record.tokens[0]
    assert (record.confidence[1][changed] > 0).all() and (record.confidence <= 1 + 1e-6).all()
    assert not record.frozen.any() and record.tokens.shape == (4, 4000, 2)


# A token for every eighth of the time at which it is written.
CLOCK = Network(
    lambda tokens, t, lengths: jnp.broadcast_to(t[:, None], tokens.shape),
    lambda times: 99.0 * jax.nn.one_hot(3 + jnp.floor(8 * times).astype(jnp.int32), V),
)


@QUICKLY
def test_masks_fall_when_the_schedule_says():
    """First hitting: the noise that is left when a mask falls is uniform, whatever the others do. The times of all
    pairs of positions, in eighths, in each of two strides: false alarm 1e-6 each."""
    toy = TOYS["absorbing_cosine"]
    left = 1 - toy.alpha(np.linspace(0, 1, 9))
    of_one = np.zeros(V)
    of_one[3:11] = np.diff(left) / left[-1]
    plan = plan_of(toy.build(), EXACT, 4, 4, strides=2, t_min=1e-5)
    text, _ = sample("absorbing_cosine", "exact", (10_000, 4), plan, network=CLOCK)
    for first in (0, 2):
        toys.assert_frequencies(V * text[:, first] + text[:, first + 1], np.outer(of_one, of_one).ravel())


def counting(network, asked):
    """The network, which notes every call."""

    def features(*seen):
        jax.debug.callback(lambda: asked.append(len(asked)))
        return network.features(*seen)

    return network._replace(features=features)


@QUICKLY
def test_masks_take_no_more_evaluations_than_there_are():
    """6 masks in each of 5 rows that run at times of their own, for any number of steps; all samplers count theirs."""
    asked = []
    network = counting(INDEPENDENT, asked)
    for steps, t_min in ((2, 1e-9), (20, 1e-9), (20, 0.3)):
        plan = padded(plan_of(TOYS["absorbing"].build(), EXACT, steps, 6, t_min=t_min), 20)
        for key in range(3):
            asked.clear()
            _, record = sample("absorbing", "exact", (5, 6), plan, network=network, key=key)
            jax.effects_barrier()
            assert len(asked) == record.evaluations <= 6
            assert t_min > 0.1 or len(asked) == 6
    text, record = sample("absorbing", "exact", (20, 8), steps=8, strides=4, network=network)
    assert record.evaluations <= 8 and not (text == MASK).any()  # rows are in different strides at once
    for name, more in (("ancestral", {"corrector": (2, 0.01)}), ("exact", {"recorded": 1})):
        asked.clear()
        _, record = sample("absorbing", name, (1, 4), steps=20, network=network, **more)
        jax.effects_barrier()
        assert len(asked) == record.evaluations > 0


@QUICKLY
def test_rows_walk_through_their_strides_and_see_no_further():
    """As other samplers: each row is told the end of its own stride, and what of it is clean."""
    echo = Network(
        lambda tokens, t, lengths, clean: 3 + (lengths[:, None] + jnp.sum(clean, 1, keepdims=True)).repeat(8, 1) // 2,
        lambda ends: 99.0 * jax.nn.one_hot(ends, V),
        reads_clean=True,
    )
    given = np.arange(8) == 1
    options = {"steps": 4, "strides": 2, "network": echo, "lengths": np.array([8, 8, 7]), "given": 11}
    text, record = sample("absorbing", "exact", (3, 8), is_given=given, **options)
    # 3 + (4 + 1) // 2; and 3 + (8 + 4) // 2, where the third row ends at 7.
    assert text.tolist() == [[5, 11, 5, 5, 9, 9, 9, 9]] * 2 + [[5, 11, 5, 5, 8, 8, 8, 8]]
    assert record.tokens.shape == (4, 0, 8)
    again, _ = sample("uniform", "exact", (3, 8), is_given=given, steps=4, strides=2, given=11, key=5)
    same, _ = sample("uniform", "exact", (3, 8), is_given=given, steps=4, strides=2, given=11, key=5)
    other, _ = sample("uniform", "exact", (3, 8), is_given=given, steps=4, strides=2, given=11, key=6)
    np.testing.assert_array_equal(again, same)
    assert (again[:, 1] == 11).all() and (other != again).any()


@QUICKLY
def test_controls_act():
    """A temperature as in `ancestral`: false alarm 1e-6. A large penalty lets no token occur twice, for tokens come one
    after the other; with a window, none twice within it."""
    text, _ = sample("uniform", "exact", (1500, 2), steps=2, controls=Controls(temperature=jnp.float32(0.5)))
    toys.assert_frequencies(text, P_DATA**2 / np.sum(P_DATA**2))
    plan = plan_of(TOYS["absorbing"].build(), EXACT, 2, 6, t_min=1e-6)
    options = {"forbidden_V": np.arange(V) == MASK}
    for window in (0, 3):
        controls = make_controls(TABLE, lambda_freq=99.0, window=window, **options)
        text, record = sample("absorbing", "exact", (200, 6), plan, controls=controls)
        assert record.evaluations == 6
        assert (np.diff(np.sort(text, axis=1)) > 0).all() == (not window)
        assert (text[:, 1:] != text[:, :-1]).all()
    controls = make_controls(TABLE, lambda_freq=1e-6, temperature=0, **options)
    likeliest, _ = sample("absorbing", "exact", (200, 6), plan, controls=controls)
    assert (likeliest == P_DATA.argmax()).all()


@pytest.mark.usefixtures("float64")
def test_the_rates_of_all_clean_tokens_are_tried():
    """Against the largest rate by Bayes' rule on V x V x V arrays."""
    for name in ("two_digits", "uniform", "semdlm_plus"):
        toy = TOYS[name]
        for t in (0.2, 0.9):
            q, rates = toy.matrix(t), np.maximum(toy.changed(t), 0) * (1 - np.eye(V))
            true = np.max(np.where(q > 0, rates.sum(-1) / np.where(q > 0, q, 1), 0), axis=0)
            found = jax.jit(by_trying)(toy.build(), jnp.arange(V), jnp.full(V, t))
            np.testing.assert_allclose(found, true, rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_kinks_are_where_a_neighbor_comes_within_reach():
    for name in ("semdlm_plus", "late_growth", "plus_polynomial"):
        np.testing.assert_allclose(TOYS[name].build().kinks(), TOYS[name].kinks, atol=1e-12)
    assert not len(TOYS["uniform"].build().kinks()) and not len(TOYS["nested"].build().kinks())


@QUICKLY
@pytest.mark.parametrize("name", ["late_growth", "hybrid_loglinear", "nested_deep", "uniform_geometric", "two_digits"])
def test_cells_hold_what_is_taken_for_their_rates(name):
    check_rates(TOYS[name].build())


def test_rates_that_are_only_rounding_are_not_refused():
    """Near t = 1 the uniform part of this hybrid noise is not left at all."""
    check_rates(make_kernel("hybrid", toys.vocabulary(), uniform_share=0.4, hybrid_gamma=4.0))


@QUICKLY
def test_float32_does_not_slow_the_clock():
    """From 1 - 2^-17 to 1 - 2^-16 uniform noise is drawn anew log 2 times at each of 1024 positions, with gaps of an
    eighth of float32's resolution: Poisson, within 5 standard deviations."""
    plan = plan_of(TOYS["uniform"].build(), EXACT, 2, 1024, t_min=1 - 2**-16)
    _, record = sample("uniform", "exact", (1, 1024), plan)
    expected = 1024 * np.log(2) * (1 - 1 / V)
    told = expected_candidates(TOYS["uniform"].build(), P_DATA, 1 - 2**-16)
    np.testing.assert_allclose(1024 * told, expected, rtol=1e-2)
    assert abs(record.evaluations - 1 - expected) < 5 * np.sqrt(expected)


@QUICKLY
def test_rates_that_no_cell_holds_are_refused():
    """Of drift alone: where tokens also jump, near noise of a new rank is drowned by far noise."""
    kernel = TOYS["semantic_knn"].build()
    fields = {field.name: getattr(kernel, field.name) for field in dataclasses.fields(kernel)}

    class Silent(type(kernel)):
        def kinks(self):
            return jnp.zeros(0)

    class Jumping(type(kernel)):
        def leaving_bound(self, xt, t, s=None):
            return super().leaving_bound(xt, t, s) + jnp.where((t > 0.3) & (t < 0.31), 1e4, 0.0)

    for kind in (Silent, Jumping):
        with pytest.raises(UserError, match=rf"cannot bound the rates of {kind.__name__} near t = 0\..*kinks"):
            Sampler(EXACT, kind(**fields), make_posterior())


def test_the_work_is_told_before_it_is_done():
    """Each mask falls once; and of a kernel with kinks as many as there were. Within 5 %."""
    np.testing.assert_allclose(expected_candidates(TOYS["absorbing"].build(), P_DATA, 0.1), 0.9, rtol=0.05)
    plan = plan_of(TOYS["semdlm_plus"].build(), EXACT, 2, 256, t_min=0.01)
    _, record = sample("semdlm_plus", "exact", (1, 256), plan)
    told = expected_candidates(TOYS["semdlm_plus"].build(), P_DATA, 0.01)
    np.testing.assert_allclose(256 * told, record.evaluations, rtol=0.05)


def test_steps_are_not_told_where_there_are_none():
    assert str(make_settings(sampler="exact", steps=99)) == "exact, continuous time, 1 stride, temperature 1"


def test_what_makes_no_sense_is_refused():
    kernel = TOYS["absorbing"].build()
    with pytest.raises(UserError, match="no steps that a corrector could follow"):
        Sampler(EXACT, kernel, make_posterior(), corrector_steps=1)
    with pytest.raises(UserError, match="at least twice as many steps as strides"):
        plan_of(kernel, EXACT, 3, 4, strides=2)
