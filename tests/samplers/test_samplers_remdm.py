"""ReMDM: masks come back, and their share stays what the schedule says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import toys
from toy_samplers import NOISE_ONLY, assert_independent, plan_of, sample
from toys import MASK, P_DATA, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import Sampler, make_method
from semdlm_jax.samplers.methods import Proposal, StepContext

pytestmark = pytest.mark.usefixtures("quick_compile")

ABSORBING = TOYS["absorbing"].build()
SHAPE = (5000, 8)
CASES = [
    *(("remdm_cap", {"eta": eta}) for eta in (0.0, 0.3, 1.0)),
    *(("remdm_rescale", {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
    *(("remdm_loop", {"eta": eta, "alpha_on": 0.8, "t_off": 0.25}) for eta in (0.0, 0.1, 0.25)),
]


def assert_share(hits, share):
    """Exact binomial test; false alarm 1e-6."""
    hits = np.asarray(hits)
    assert scipy.stats.binomtest(int(hits.sum()), hits.size, min(float(share), 1.0)).pvalue > 1e-6, (hits.mean(), share)


def stepped(method, key, xt, context, state, draft, confidence=0.5):
    context = StepContext(*map(np.float32, context[:3]), np.asarray(context.active))
    return _stepped(method, toys.key(key), np.asarray(xt), context, state, np.asarray(draft), np.float32(confidence))


@functools.partial(jax.jit, static_argnums=0)
def _stepped(method, key, xt, context, state, draft, confidence):
    proposal = Proposal(draft, jnp.broadcast_to(confidence, xt.shape), jnp.zeros(xt.shape))
    return method.step(ABSORBING, key, xt, proposal, context, state)


def drafts(seed):
    """Of independent positions; a written token keeps its own under `step`, whatever is drafted for it."""
    return jnp.asarray(np.random.default_rng(seed).choice(V, SHAPE, p=P_DATA), jnp.int32)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_share_of_masks_is_that_of_the_schedule(name, options):
    """1 - alpha_s after each of 9 steps, and sigma of the written tokens are masked anew. False alarm 1e-6 each."""
    method = make_method(name, **options)
    plan = plan_of(ABSORBING, method, 10, SHAPE[1])
    np.testing.assert_array_equal(plan.t[1:], plan.s[:-1])
    xt, state, remasked = jnp.full(SHAPE, MASK), method.init(jnp.full(SHAPE, MASK)), 0
    for index, (t, s, remask) in enumerate(zip(plan.t, plan.s, plan.remask, strict=True)):
        context, draft = StepContext(t, s, remask, jnp.ones(SHAPE, bool)), drafts(index)
        if s == 0:
            toys.assert_frequencies(jnp.where(xt == MASK, draft, xt), P_DATA)
            break
        taken = stepped(method, index, xt, context, state, draft)
        assert not taken.frozen.any()
        tokens, written, masked = (np.asarray(x) for x in (taken.tokens, xt != MASK, xt == MASK))
        assert_share(tokens == MASK, s)
        largest = min(s / (1 - t), 1) if t < 1 else 1
        sigma = {"remdm_cap": min(options["eta"], largest), "remdm_rescale": options["eta"] * largest}.get(name, remask)
        sigma = min(sigma, largest)
        # Every token that was written stays or is masked; every mask stays or takes its draft.
        assert_share(tokens[written] == MASK, sigma) if written.any() else None
        assert ((tokens == xt) | (tokens == MASK))[written].all()
        assert ((tokens == np.asarray(draft)) | (tokens == MASK))[masked].all()
        toys.assert_frequencies(tokens[tokens != MASK], P_DATA)
        remasked += (tokens[written] == MASK).sum()
        xt, state = taken.tokens, taken.state
    assert (remasked > 0) == (options["eta"] > 0)


def test_the_loop_stands_still_at_its_noise():
    """Up to alpha_on while t > t_on, at it with sigma = eta in the loop, and from it down: each step starts where the
    last one ended."""
    method = make_method("remdm_loop", eta=0.1, t_on=0.55, t_off=0.25, alpha_on=0.8)
    plan, times = plan_of(ABSORBING, method, 20, 8), np.linspace(1, 1e-3, 20)
    loops = (times <= 0.55) & (times > 0.25)
    np.testing.assert_array_equal(plan.remask, np.where(loops, np.float32(0.1), 0))
    np.testing.assert_allclose(plan.s[loops], 0.2, rtol=1e-5)
    before, after = times > 0.55, times <= 0.25
    np.testing.assert_allclose(1 - plan.t[before], (1 - times[before]) * 0.8 / 0.45, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(plan.t[after][1:], times[after][1:] * 0.2 / 0.25, rtol=1e-5)
    np.testing.assert_allclose(plan.t[after][0], 0.2, rtol=1e-5)
    np.testing.assert_array_equal(plan.t[1:], plan.s[:-1])
    cosine = plan_of(TOYS["absorbing_cosine"].build(), method, 20, 8)
    for ours, theirs in ((plan.t, cosine.t), (plan.s[:-1], cosine.s[:-1])):
        kept = TOYS["absorbing_cosine"].alpha(np.float64(theirs))
        np.testing.assert_allclose(kept, np.maximum(1 - ours, 1e-3), atol=1e-5)


def test_confidence_chooses_what_is_masked_anew():
    """softmax of -confidence when written, over the tokens written in this stride, times min(1, (1 - alpha_s) /
    alpha_t); 0 elsewhere. Masks are written as ever: on average so much more is masked. False alarm 1e-6 each."""
    shape = (40_000, 8)
    confidence = np.float32([0.9, 0.05, 0.5, 0.4, 0.3, 0.7, 0.2, 0.6])
    place = np.arange(8)
    given, before, masked = place == 7, place == 5, np.isin(place, [2, 4, 6])
    method, draft, masks = make_method("remdm_conf"), jnp.full(shape, 4), jnp.full(shape, MASK)
    # A step that writes every mask where it may act, here and in the stride before.
    first = StepContext(0.7, 0.0, 0.0, jnp.broadcast_to(~masked & ~given, shape))
    taken = stepped(method, 0, masks, first, method.init(masks), draft, confidence)
    assert (taken.tokens == 4).all()
    xt, active = jnp.where(masked, masks, draft), ~given & ~before
    for seed, (t, s) in enumerate([(0.6, 0.2), (0.6, 0.55)]):
        context = StepContext(t, s, 0.0, jnp.broadcast_to(active, shape))
        again = stepped(method, seed, xt, context, taken.state, draft)
        tokens = np.asarray(again.tokens)
        assert (tokens[:, ~active] == 4).all()
        weight = np.exp(-np.float64(confidence)) * (active & ~masked)
        shares = np.where(masked, s / t, weight / weight.sum() * min(1, s / (1 - t)))
        for column, share in zip(tokens.T[active], shares[active], strict=True):
            assert_share(column == MASK, share)
        # What was masked anew is a mask like any other.
        third = np.asarray(stepped(method, 9, again.tokens, context, again.state, draft).tokens)
        assert_share(third[tokens[:, 0] == MASK, 0] == MASK, s / t)
        # And those that are still written share what it had.
        alone = (tokens == np.where(masked | (place == 0), MASK, 4)).all(1)
        assert_share(third[alone, 1] == MASK, weight[1] / (weight[1] + weight[3]) * min(1, s / (1 - t)))


@pytest.mark.parametrize("name", NOISE_ONLY)
def test_remasking_writes_the_data(name):
    """Through the loop, with much remasked. False alarm 2e-6 each."""
    options = {"remdm_conf": {}, "remdm_loop": {"eta": 0.2, "alpha_on": 0.6}}.get(name, {"eta": 0.5})
    text, record = sample("absorbing", name, (4000, 4), steps=10, options=options, recorded=4000)
    assert_independent(text)
    before, after = record.tokens[:-1], record.tokens[1:]
    assert ((before != MASK) & (after == MASK)).mean() > 0.02


@pytest.mark.parametrize("name", NOISE_ONLY)
@pytest.mark.parametrize("kernel", ["uniform", "hybrid", "semantic_mask", "semdlm_plus", "semantic_softmax"])
def test_remasking_is_for_masks_alone(name, kernel):
    with pytest.raises(UserError, match="remdm samplers .* need the kernel 'absorbing'"):
        Sampler(make_method(name), TOYS[kernel].build(), make_posterior())
