"""Methods where the law of the text is known: independent positions and the exact denoiser."""

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_samplers import assert_independent, plan_of, right_start, sample, suits
from toys import MASK, P_DATA, REMEMBERING, TOYS, V

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, make_kernel
from semdlm_jax.objectives import make_posterior
from semdlm_jax.samplers import METHODS, Controls, Plan, Sampler, make_method

pytestmark = pytest.mark.usefixtures("quick_compile")

FORBIDDEN = np.isin(np.arange(V), [0, 1, MASK])
ALLOWED = np.where(FORBIDDEN, 0, P_DATA) / P_DATA[~FORBIDDEN].sum()


def padded(plan, steps):
    """The plan with steps added that act nowhere: one compilation serves plans of any length."""
    more = steps - len(plan.t)
    idle = Plan(t=0.5, s=0.25, remask=0, start=4, stop=4)
    return Plan(*(np.append(x, np.full(more, value, x.dtype)) for x, value in zip(plan, idle, strict=True)))


# Beside the kernels by name: noise that remembers, of neighbors, and of a schedule that has some at t = 0 too.
MORE = ("practical_unfinished", "uniform_geometric")
assert set(MORE) <= set(REMEMBERING)


@pytest.mark.parametrize("name", [*KERNELS, *MORE])
def test_ancestral_steps_are_exact_at_any_number(name):
    """1, 2 and 8 steps of every kernel give the data, and q_s on the way; those that remember start from what they
    remember. False alarm 1e-6 each, and as much for pairs of neighbors."""
    toy, method = TOYS[name], make_method("ancestral")
    kernel, initial = toy.build(), right_start(toy, (4000, 4))
    for steps in (1, 2, 8):
        plan = padded(plan_of(kernel, method, steps, 4), 8)
        text, record = sample(kernel, method, (4000, 4), plan, key=steps, initial=initial, recorded=4000)
        assert_independent(text)
        for s, tokens in zip(plan.s[: steps - 1], record.tokens, strict=False):
            toys.assert_frequencies(tokens, np.abs(P_DATA @ toy.matrix(np.float64(s))))


FROM_THE_START = "hybrid hybrid_loglinear absorbing_cosine semantic_softmax nested nested_mask mask_rates".split()


@pytest.mark.parametrize("name", FROM_THE_START)
def test_tau_leaping_from_the_start(name):
    """Independent positions after each of 4 steps from t = 1, where rates are infinite or most jumps are from noise to
    the same noise: as enumerated. False alarm 1e-6 each."""
    toy, method = TOYS[name], make_method("tau_leaping")
    kernel, initial = toy.build(), right_start(toy, (4000, 4))
    plan = plan_of(kernel, method, 4, 4, t_min=0.1)
    _, record = sample(kernel, method, (4000, 4), plan, initial=initial, recorded=4000)
    law = P_DATA @ toy.matrix(1.0)
    for t, s, tokens in zip(np.float64(plan.t[:3]), np.float64(plan.s[:3]), record.tokens, strict=False):
        law = np.einsum("x,xk,kxy->y", law, toy.bayes(t), toy.leap(t, s))
        toys.assert_frequencies(tokens, law / law.sum())


def test_drift_alone_starts_from_what_the_training_text_becomes():
    """Exact where the training text has the law of the text, and nowhere else. False alarm 1e-6 each."""
    kernel = make_kernel("semantic_knn", toys.vocabulary(unigram=1e9 * P_DATA))
    assert_independent(sample(kernel, "ancestral", (4000, 4), steps=3, key=9)[0])
    with pytest.raises(AssertionError, match="^(?!.*drawn)"):
        toys.assert_frequencies(sample("semantic_knn", "ancestral", (4000, 4), steps=3, key=9)[0], P_DATA)


@pytest.mark.parametrize("name", ["absorbing", "semdlm_plus"])
def test_temperature_sharpens_the_language_and_not_the_noise(name):
    """Divided out of the logits alone it leaves a denoiser that is exact for p^(1/T). False alarm 1e-6 each."""
    text, _ = sample(name, "ancestral", (4000, 4), steps=2, controls=Controls(temperature=jnp.float32(0.5)))
    toys.assert_frequencies(text, P_DATA**2 / np.sum(P_DATA**2))
    likeliest, _ = sample(name, "ancestral", (4000, 4), steps=2, controls=Controls(temperature=jnp.float32(0.0)))
    if name == "absorbing":
        assert (likeliest == P_DATA.argmax()).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exact_where_masks_are_all_the_noise(method):
    """Written tokens are drafts, forbidden ones never among them, whatever decides where: false alarm 1e-6."""
    kernel = "absorbing" if suits(method, "absorbing") else "semantic_mask"
    controls = Controls(forbidden_V=jnp.asarray(FORBIDDEN))
    text, record = sample(kernel, method, (2000, 4), steps=12, controls=controls, key=3, recorded=2)
    assert text.shape == (2000, 4) and text.dtype == np.int32 and not FORBIDDEN[text].any()
    assert record.tokens.shape[1:] == (2, 4) and np.isfinite(record.confidence).all()
    if kernel == "absorbing":
        assert_independent(text, ALLOWED)


def test_unknown_names_are_told_the_nearest():
    with pytest.raises(UserError, match="unknown sampler 'ancestrall'.*'ancestral'"):
        make_method("ancestrall")
    with pytest.raises(UserError, match="'remdm_cap' has no option 'etta': it has eta: did you mean 'eta'"):
        make_method("remdm_cap", etta=0.1)
    with pytest.raises(UserError, match="'ancestral' has no option 'eta': it has none"):
        make_method("ancestral", eta=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blockwise", {"rho": -1.0}),
        ("blockwise", {"freeze": 1.5}),
        ("remdm_cap", {"eta": 1.5}),
        ("remdm_rescale", {"eta": -0.1}),
        ("remdm_loop", {"t_on": 0.05, "t_off": 0.5}),
        ("remdm_loop", {"alpha_on": 1.0}),
        ("gidd_correct", {"patience": 0}),
        ("gidd_correct", {"correct_temperature": 0.0}),
        ("gidd_correct", {"correct_time": 2.0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make_method(name, **options)


@pytest.mark.parametrize(("steps", "strength"), [(-1, 0.1), (1, 1.5), (1, float("nan"))])
def test_impossible_correctors_are_refused(steps, strength):
    with pytest.raises(UserError, match="corrector"):
        Sampler(make_method("ancestral"), TOYS["uniform"].build(), make_posterior(), steps, strength)


def test_the_last_step_may_take_the_likeliest_token():
    """greedy_end: only a stride's last step; the steps before it draw."""
    controls = Controls(greedy_end=True)
    first, record = sample("absorbing", "ancestral", (500, 4), steps=4, controls=controls, recorded=500)
    written_last = record.tokens[-2] == MASK
    assert written_last.any() and (first[written_last] == P_DATA.argmax()).all()
    toys.assert_frequencies(first[~written_last], P_DATA)
    assert (sample("absorbing", "ancestral", (500, 4), steps=4)[0] != first)[written_last].any()
