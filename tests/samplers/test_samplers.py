"""Draws, plans and the scan, on toys whose law is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from toys import LOG_P_DATA, MASK, P_DATA, REMEMBERING, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, Kernel, make_kernel
from semdlm_jax.objectives import Posterior
from semdlm_jax.samplers import SAMPLERS, Sampler, draw, make_plan

LOGITS = jnp.asarray(np.maximum(LOG_P_DATA, -1e30), jnp.float32)


@pytest.mark.parametrize("forbid", [False, True])
def test_draw_frequencies(forbid):
    """False alarm 1e-6 each; log-probabilities need not be normalised."""
    scores = np.float32(np.random.default_rng(0).standard_normal(V) + 3)
    forbidden = np.isin(np.arange(V), [0, int(scores.argmax())]) if forbid else None
    drawn = draw(toys.key(0), jnp.tile(scores, (100, 400, 1)), forbidden=forbidden)
    assert drawn.dtype == jnp.int32 and drawn.shape == (100, 400)
    toys.assert_frequencies(drawn, scipy.special.softmax(np.where(forbidden, -np.inf, scores) if forbid else scores))


def test_greedy_draws_are_the_most_likely_token_allowed():
    scores = jax.random.normal(toys.key(1), (50, V))
    forbidden = np.arange(V) % 3 == 0
    np.testing.assert_array_equal(draw(toys.key(2), scores, greedy=jnp.array(True)), jnp.argmax(scores, -1))
    allowed = np.where(forbidden, -np.inf, scores).argmax(-1)
    np.testing.assert_array_equal(draw(toys.key(2), scores, greedy=True, forbidden=forbidden), allowed)


def test_rare_tokens_are_drawn_in_float32():
    """4096 tokens of 4e-8 each beside one that has the rest: 10.7 of 65,536 draws should be rare.

    The bounds raise a false alarm once in 100 keys; this key is fixed. Gumbel noise from one 24-bit uniform stops short
    of 16.6, so that it finds a sixth of them, and the same bounds refuse it.
    """
    copies, rare, draws, batch = 4096, 4e-8, 2**16, 2**11
    scores = jnp.append(jnp.full(copies, np.log(rare)), np.log1p(-copies * rare)).astype(jnp.float32)

    def hits(choose):
        def some(key):
            return jnp.sum(choose(key, jnp.broadcast_to(scores, (batch, copies + 1))) < copies)

        return int(
            jnp.sum(jax.jit(lambda keys: jax.lax.map(some, keys))(jax.random.split(toys.key(3), draws // batch)))
        )

    assert 4 <= hits(draw) <= 20
    assert hits(lambda key, scores: jnp.argmax(scores + jax.random.gumbel(key, scores.shape, mode="low"), -1)) < 4


@pytest.mark.parametrize(("steps", "strides"), [(1, 1), (7, 1), (8, 2), (7, 2), (5, 4), (4, 4), (129, 8)])
def test_plan(steps, strides):
    plan = make_plan(steps, strides, 16, 1e-3)
    assert all(column.shape == (steps,) for column in plan)
    starts, counts = np.unique(plan.start, return_counts=True)
    np.testing.assert_array_equal(starts, 16 // strides * np.arange(strides))
    assert counts.max() - counts.min() <= 1
    for start in starts:
        (now,) = np.nonzero(plan.start == start)
        np.testing.assert_array_equal(now, now[0] + np.arange(len(now)))
        t, s = plan.t[now], plan.s[now]
        assert t[0] == 1 and s[-1] == 0 and (plan.stop[now] == start + 16 // strides).all()
        np.testing.assert_array_equal(s[:-1], t[1:])
        assert (np.diff(t) < 0).all()
        if len(now) > 1:
            assert t[-1] == np.float32(1e-3)
    assert (np.diff(plan.start) >= 0).all()


@pytest.mark.parametrize(
    ("steps", "strides", "says"),
    [(8, 3, "divide"), (8, 0, "divide"), (8, -2, "divide"), (1, 2, "fewer"), (0, 1, "fewer")],
)
def test_impossible_plans(steps, strides, says):
    with pytest.raises(UserError, match=says):
        make_plan(steps, strides, 16, 1e-3)


def exact(kernel, steps, key=0, temperature=1.0, forbidden_V=None, name="ancestral"):
    """[4000, 4] text from the exact denoiser of independent positions, each drawn from P_DATA."""
    shape = (4000, 4)

    def logits(tokens, t, lengths):
        assert tokens.shape == shape and t.shape == lengths.shape == shape[:1]
        return jnp.broadcast_to(LOGITS, (*shape, V))

    sampler, given = Sampler(name, kernel, Posterior("bayes")), jnp.zeros(shape, jnp.int32)
    return np.asarray(
        sampler.sample(
            toys.key(key),
            logits,
            given,
            given > 0,
            make_plan(steps, 1, 4, 1e-3),
            temperature=temperature,
            forbidden_V=forbidden_V,
        )
    )


# Where noise forgets the text by t = 1, so that the prior is the right start.
FORGETTING = [name for name in KERNELS if TOYS[name].forgets]


@pytest.mark.parametrize(("name", "steps"), [(name, 2) for name in FORGETTING] + [("semdlm_plus", 1)])
def test_few_steps_of_any_kernel_give_the_data(name, steps):
    """Exact at any number of steps; false alarm 1e-6 each."""
    toys.assert_frequencies(exact(make_kernel(name, toys.vocabulary()), steps), P_DATA)


EIGHT = ("absorbing", "unigram", "hybrid", "semantic_softmax", "semantic_mask", "semdlm_plus_practical", "gapped")


@pytest.mark.parametrize("name", [*EIGHT, "plus_polynomial"])
def test_eight_steps_give_the_data(name):
    """False alarm 1e-6 each. Neighbouring positions stay independent."""
    assert_the_data(exact(TOYS[name].build(), 8, key=8))


def assert_the_data(text):
    toys.assert_frequencies(text, P_DATA)
    toys.assert_frequencies(V * text[:, 0] + text[:, 1], np.outer(P_DATA, P_DATA).ravel())


class FromText(Kernel):
    """A kernel whose sampling starts where its noise ends: from text at t = 1, instead of from the prior."""

    def sample_prior(self, key, shape):
        text_key, noise_key = jax.random.split(key)
        return self.corrupt(noise_key, draw(text_key, jnp.broadcast_to(LOGITS, (*shape, V))), jnp.ones(shape))


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_kernel_that_remembers_gives_the_data_from_the_right_start(name):
    """What t = 1 still tells of the text belongs to the start; the steps are exact. False alarm 1e-6 each."""
    kernel = TOYS[name].build()
    assert_the_data(exact(FromText(**vars(kernel)), 3, key=9))


def test_drift_alone_starts_from_what_the_training_text_becomes():
    """Exact where the training text has the law of the text, and nowhere else. False alarm 1e-6 each."""
    assert_the_data(exact(make_kernel("semantic_knn", toys.vocabulary(unigram=1e9 * P_DATA)), 3, key=9))
    with pytest.raises(AssertionError, match="^(?!.*drawn)"):
        toys.assert_frequencies(exact(TOYS["semantic_knn"].build(), 3, key=9), P_DATA)


@pytest.mark.parametrize("name", ["absorbing", "semdlm_plus"])
def test_temperature_sharpens_the_language_and_not_the_noise(name):
    """Divided out of the logits alone it leaves a denoiser that is exact for p^(1/T)."""
    kernel = TOYS[name].build()
    text = exact(kernel, 2, temperature=jnp.float32(0.5))
    toys.assert_frequencies(text, P_DATA**2 / np.sum(P_DATA**2))
    if name == "absorbing":
        assert (exact(kernel, 1, temperature=0.0) == P_DATA.argmax()).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_writes_text_with_many_steps(name):
    """Approximate samplers included: within 2 % of the data in total variation, and nothing forbidden."""
    forbidden = np.isin(np.arange(V), [0, 1, MASK])
    allowed = np.where(forbidden, 0, P_DATA) / P_DATA[~forbidden].sum()
    text = exact(TOYS["absorbing"].build(), 16, name=name, forbidden_V=jnp.asarray(forbidden))
    counts = np.bincount(text.ravel(), minlength=V) / text.size
    assert counts[forbidden].sum() == 0
    assert np.abs(counts - allowed).sum() / 2 < 0.02


def prefix_logits(tokens, t, lengths):
    """A network that sees what it may see: what it says depends on the visible tokens, their order and the time."""
    visible = jnp.where(jnp.arange(tokens.shape[1]) < lengths[:, None], tokens, 0)
    read = jnp.cumsum(visible, axis=1) + jnp.sum(visible, axis=1, keepdims=True)
    return 2 * jnp.sin(read[..., None] * (1 + jnp.arange(V)) + t[:, None, None])


@jax.jit
def _generate(kernel, key, given, is_given, plan, temperature):
    TRACES.append(1)
    return Sampler("ancestral", kernel, Posterior("bayes")).sample(
        key, prefix_logits, given, is_given, plan, temperature=temperature
    )


TRACES = []
PLAN = make_plan(12, 4, 16, 1e-3)
NOTHING = np.zeros((6, 16), bool)


def generate(given=None, is_given=NOTHING, key=0, temperature=1.0, name="semdlm_plus", plan=PLAN):
    given = jnp.zeros((6, 16), jnp.int32) if given is None else given
    return np.asarray(_generate(TOYS[name].build(), jax.random.key(key), given, is_given, plan, temperature))


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", ["absorbing", "semdlm_plus"])
def test_given_tokens_are_kept_wherever_they_stand(name):
    """Prompts, suffixes and holes, tokens that text may not hold included."""
    rng = np.random.default_rng(4)
    given, is_given = jnp.asarray(rng.integers(0, V, (6, 16)), jnp.int32), rng.random((6, 16)) < 0.4
    text = generate(given, is_given, name=name)
    np.testing.assert_array_equal(text[is_given], np.asarray(given)[is_given])
    if name == "absorbing":
        assert (text[~is_given] != MASK).all()
    np.testing.assert_array_equal(generate(given, ~NOTHING, name=name), given)


@pytest.mark.usefixtures("quick_compile")
def test_strides_are_written_one_after_another():
    """Step by step: the network is told where the text ends; what is finished stays; what is hidden has not moved."""
    seen = []

    def logits(tokens, t, lengths):
        seen.append((np.asarray(tokens), np.asarray(t), np.asarray(lengths)))
        return prefix_logits(tokens, t, lengths)

    sampler = Sampler("ancestral", TOYS["semdlm_plus"].build(), Posterior("bayes"))
    plan, given = make_plan(6, 2, 8, 1e-3), jnp.zeros((3, 8), jnp.int32)
    with jax.disable_jit():
        text = np.asarray(sampler.sample(toys.key(5), logits, given, given > 0, plan))
    assert len(seen) == 6
    for step, (tokens, t, lengths) in enumerate(seen):
        stop = 4 if step < 3 else 8
        assert (lengths == stop).all() and (t == plan.t[step]).all()
        np.testing.assert_array_equal(tokens[:, 4:], seen[0][0][:, 4:] if step <= 3 else tokens[:, 4:])
        if step >= 3:
            np.testing.assert_array_equal(tokens[:, :4], text[:, :4])


@pytest.mark.usefixtures("quick_compile")
def test_hidden_positions_do_not_influence_earlier_strides():
    """A suffix that lies in a later stride changes only what comes from its stride on."""
    position = np.broadcast_to(np.arange(16), (6, 16))
    one, other = (generate(jnp.full((6, 16), token), position >= 12) for token in (4, 7))
    np.testing.assert_array_equal(one[:, :12], other[:, :12])
    one, other = (generate(jnp.full((6, 16), token), position < 2) for token in (4, 7))
    assert (one[:, 12:] != other[:, 12:]).any()


@pytest.mark.usefixtures("quick_compile")
def test_one_key_one_text():
    np.testing.assert_array_equal(generate(key=1), generate(key=1))
    assert (generate(key=1) != generate(key=2)).any()


@pytest.mark.usefixtures("quick_compile")
def test_compiled_once_for_all_prompts_and_temperatures():
    first = generate(temperature=0.0)
    before = len(TRACES)
    later = plan_at(0.999)
    others = [
        generate(jnp.full((6, 16), 3 + i), jnp.asarray(NOTHING).at[i].set(True), i, 0.5 * i, plan=later)
        for i in range(3)
    ]
    assert len(TRACES) == before
    assert all((first != other).any() for other in others)


def plan_at(scale):
    return PLAN._replace(t=PLAN.t * np.float32(scale), s=PLAN.s * np.float32(scale))


def test_unknown_sampler():
    with pytest.raises(UserError, match="unknown sampler 'ancestrall'.*'ancestral'"):
        Sampler("ancestrall", TOYS["uniform"].build(), Posterior())
