"""The methods that weigh what is already written: the paper's predictor and GIDD's self-correction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import toys
from toy_samplers import plan_of, sample
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Controls, Sampler, make_method
from semdlm_jax.samplers.methods import Proposal, StepContext

pytestmark = pytest.mark.usefixtures("quick_compile")

CURRENT = np.float32([0.0, 0.1, 0.5, 0.8, 0.95, 1.0])
ROWS = 40_000


def assert_share(hits, share):
    """Exact binomial test; false alarm 1e-6."""
    assert scipy.stats.binomtest(int(hits.sum()), hits.size, share).pvalue > 1e-6, (hits.mean(), share)


@pytest.mark.parametrize(
    ("name", "rho", "freeze"),
    [
        *(("semdlm_plus", *options) for options in ((1.0, 1.0), (0.0, 1.0), (3.0, 1.0), (1.0, 0.8), (0.0, 0.6))),
        ("absorbing", 1.0, 0.8),
        ("hybrid", 1.0, 0.8),
    ],
)
def test_blockwise_replaces_with_the_chance_of_its_equation(name, rho, freeze):
    """(p_t - p_s) / p_t (1 - current)^rho, 0 above `freeze`; in place comes the draft with the noise of s. False alarm
    1e-6 for each of six confidences: of what left x_t, and of where it went."""
    toy, shape, t, s, z, k = TOYS[name], (ROWS, len(CURRENT)), 0.7, 0.4, 8, 4
    xt, draft = jnp.full(shape, z), jnp.full(shape, k)
    current = jnp.broadcast_to(CURRENT, shape)
    context = StepContext(jnp.float32(t), jnp.float32(s), jnp.float32(0), jnp.ones(shape, bool))
    taken = make_method("blockwise", rho=rho, freeze=freeze).step(
        toy.build(), toys.key(1), xt, Proposal(draft, jnp.zeros(shape), current), context, None
    )
    tokens = np.asarray(taken.tokens)
    held = CURRENT > np.float32(freeze)
    np.testing.assert_array_equal(taken.frozen, np.broadcast_to(held, shape))
    noise_t, noise_s = 1 - toy.alpha(t), 1 - toy.alpha(s)
    projected = toy.matrix(s)[k]
    for place, confidence in enumerate(np.float64(CURRENT)):
        chance = 0 if held[place] else (noise_t - noise_s) / noise_t * (1 - confidence) ** rho
        law = chance * projected + (1 - chance) * np.eye(V)[z]
        toys.assert_frequencies(tokens[:, place], law)


def test_blockwise_at_rho_0_is_for_any_kernel_a_mixture_of_the_step():
    """Independent positions, step by step in the loop: a share is drawn anew, whatever the confidence. False alarm 1e-6
    each."""
    toy, shape = TOYS["uniform"], (ROWS // 4, 4)
    plan = plan_of(toy.build(), make_method("blockwise"), 4, 4)
    _, record = sample("uniform", "blockwise", shape, plan, options={"rho": 0.0}, recorded=shape[0])
    law = toy.prior(1.0)
    for t, s, tokens in zip(np.float64(plan.t[:-1]), np.float64(plan.s[:-1]), record.tokens[:-1], strict=True):
        chance = (t - s) / t
        replaced = np.einsum("z,zk,ky->y", law, toy.bayes(t), toy.matrix(s))
        law = (1 - chance) * law + chance * replaced
        toys.assert_frequencies(tokens, law)


def test_blockwise_holds_what_is_sure():
    """Through the loop: what a record says was held is what the exact denoiser is sure of, and it stays."""
    toy, freeze, shape = TOYS["semdlm_plus"], 0.6, (300, 4)
    plan = plan_of(toy.build(), make_method("blockwise"), 8, 4)
    given = np.arange(4) == 3
    _, record = sample(
        "semdlm_plus",
        "blockwise",
        shape,
        plan,
        options={"rho": 0.0, "freeze": freeze},
        recorded=300,
        given=4,
        is_given=given,
    )
    before = np.concatenate([record.initial[None], record.tokens[:-1]])
    for t, s, xt, xs, frozen in zip(plan.t, plan.s, before, record.tokens, record.frozen, strict=True):
        sure = np.diag(toy.bayes(np.float64(t)))[xt]
        assert (np.abs(sure - freeze) > 1e-4).all()
        np.testing.assert_array_equal(frozen, (sure > freeze) & ~given & (s > 0))
        np.testing.assert_array_equal(xs[frozen], xt[frozen])
    assert record.frozen.any()


def corrected(text, draft, confidence, active=True, progress=None, **options):
    text, draft, confidence = (jnp.asarray(x) for x in (text, draft, confidence))
    if progress is None:
        progress = jnp.full(len(text), -1.0), jnp.zeros(len(text), jnp.int32)
    method = make_method("gidd_correct", **options)
    proposal = Proposal(draft, confidence, jnp.zeros(text.shape))
    out, progress = method.correct(text, proposal, jnp.broadcast_to(active, text.shape), progress)
    return np.asarray(out), progress


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_a_correction_changes_the_likeliest_and_no_more(at_once, ties):
    """Of the active positions whose draft differs, the at_once most confident; as many where confidences are equal."""
    rng = np.random.default_rng(1)
    shape = (500, 9)
    text, draft, active = rng.integers(0, 3, shape), rng.integers(0, 3, shape), rng.random(shape) < 0.8
    confidence = np.float32(np.where(rng.random(shape) < 0.5, 1, 0.5) if ties else rng.random(shape))
    out, _ = corrected(text, draft, confidence, active, at_once=at_once)
    differs, changed = (text != draft) & active, out != text
    assert (out[changed] == draft[changed]).all() and not changed[~differs].any()
    np.testing.assert_array_equal(changed.sum(1), np.minimum(differs.sum(1), at_once))
    least = np.where(changed, confidence, np.inf).min(1)
    left = np.where(differs & ~changed, confidence, -np.inf).max(1)
    assert (left <= least).all()


def test_corrections_stop_for_good_without_better_accuracy():
    """Accuracy 3/4, then no better: with patience 2 the second repeat is the last change, even if it rises later."""
    text = np.array([[5, 5, 5, 5]])
    worse, better = np.array([[5, 5, 6, 6]]), np.array([[5, 5, 5, 6]])
    perfect = np.array([[5, 5, 5, 5]])
    confidence = np.full((1, 4), 0.5, np.float32)
    progress, changes = None, []
    for draft in (worse, better, better, better, perfect, worse):
        out, progress = corrected(text, draft, confidence, progress=progress, patience=2)
        changes.append(bool((out != text).any()))
    assert changes == [True, True, True, False, False, False]
    # Given positions count as kept.
    _, (best, _) = corrected(text, worse, confidence, np.arange(4) < 3)
    assert best == 0.75


GIVEN = np.array([False, True, False, False, False, True])


@pytest.mark.parametrize("name", ["hybrid", "uniform", "semdlm_plus"])
def test_corrections_through_the_loop(name):
    """One change a correction, from p(x0 | the other tokens) at its own temperature: here P_DATA^(1/T) whatever x_t
    is, and the confidence of a change is its value there, to 1e-4."""
    temperature, shape, steps, corrections = 0.5, (400, 6), 4, 5
    options = {"corrections": corrections, "correct_temperature": temperature, "correct_time": 0.05}
    flat = Controls(temperature=jnp.float32(3.0))
    _, record = sample(
        name, "gidd_correct", shape, steps=steps, options=options, recorded=400, controls=flat, given=7, is_given=GIVEN
    )
    assert record.tokens.shape == record.confidence.shape == record.frozen.shape == (steps + corrections, *shape)
    assert (record.tokens[:, :, GIVEN] == 7).all()
    sharp = P_DATA ** (1 / temperature) / np.sum(P_DATA ** (1 / temperature))
    for before, after, confidence in zip(
        record.tokens[steps - 1 : -1], record.tokens[steps:], record.confidence[steps:], strict=True
    ):
        changed = before != after
        assert (changed.sum(1) <= 1).all() and changed.any()
        np.testing.assert_allclose(confidence[changed], sharp[after[changed]], rtol=1e-4)
        # Nothing that would change was likelier: the other confidences are of drafts like their text, or lower.
        others = np.where(changed | (np.abs(confidence - sharp[before]) < 1e-5) | GIVEN, -1, confidence).max(1)
        assert (others <= confidence.max(1, where=changed, initial=-1) + 1e-6)[changed.any(1)].all()


def test_corrections_raise_the_likelihood():
    """At a low temperature every text ends as the likeliest token everywhere, but for what is given."""
    options = {"corrections": 12, "correct_temperature": 0.02}
    text, _ = sample("uniform", "gidd_correct", (50, 6), steps=3, options=options, given=7, is_given=GIVEN)
    assert (text[:, ~GIVEN] == P_DATA.argmax()).all() and (text[:, GIVEN] == 7).all()


def test_what_is_certain_cannot_be_corrected():
    for name in ("absorbing", "absorbing_cosine"):
        with pytest.raises(UserError, match="written tokens, which the kernel 'absorbing' takes for certain"):
            Sampler(make_method("gidd_correct"), TOYS[name].build(), make_posterior())
    for name in ("hybrid", "semantic_mask"):
        assert jax.tree.leaves(Sampler(make_method("gidd_correct"), TOYS[name].build(), make_posterior()).kernel)
    assert MASK not in sample("hybrid", "gidd_correct", (50, 4), steps=2, options={"corrections": 1})[0]
