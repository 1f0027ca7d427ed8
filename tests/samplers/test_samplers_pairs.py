"""Two dependent positions: the exact law of the text, step by step in float64, and what simulations make of it."""

import jax.numpy as jnp
import numpy as np
import pytest
import toy_pairs
import toys
from toy_pairs import JOINT, denoiser, variation
from toy_samplers import plan_of, sample
from toys import TOYS, V

from semdlm_jax.samplers import Plan, make_method
from semdlm_jax.samplers.methods import Method, step_to

pytestmark = pytest.mark.usefixtures("quick_compile")

KERNELS = ("absorbing", "uniform", "semdlm_plus")
T = np.array([4, 8, 16, 32, 64])
N = 40_000
NETWORKS = {name: toy_pairs.network(TOYS[name].build()) for name in (*KERNELS, "hybrid")}

kernels = pytest.mark.parametrize("name", KERNELS)
methods = pytest.mark.parametrize("method", toy_pairs.STEPS)


def plan(name, method, steps):
    return plan_of(TOYS[name].build(), make_method(method), steps, 2, t_min=1e-4)


@kernels
@methods
def test_the_law_tends_to_the_text_as_one_over_the_steps(name, method):
    """A step moves both positions from the same x_t: an error of order (t - s)^2, so of 1 / T over T of them, for
    tau-leaping also in one position. The slope of log TV against log T is -1 in the limit, and within a quarter of it
    from 4 to 64 steps."""
    texts = [[*toy_pairs.laws(TOYS[name], method, plan(name, method, steps))][-1] for steps in T]
    errors = [variation(text, JOINT) for text in texts]
    assert (np.diff(errors) < 0).all() and errors[-1] < 0.02
    assert -1.25 < np.polyfit(np.log(T), np.log(errors), 1)[0] < -0.75


@kernels
@methods
def test_simulations_have_that_law(name, method):
    """After each of 8 steps, so few that the text is told from the data. False alarm 1e-6 each."""
    grid = plan(name, method, 8)
    text, record = sample(name, method, (N, 2), grid, network=NETWORKS[name], key=2, recorded=N)
    for law, tokens in zip(toy_pairs.laws(TOYS[name], method, grid), record.tokens, strict=True):
        toys.assert_frequencies(codes(tokens), law.ravel())
    with pytest.raises(AssertionError):
        toys.assert_frequencies(codes(text), JOINT.ravel())


def codes(text):
    return V * text[:, 0] + text[:, 1]


class Still(Method):
    """Leaves everything to the corrector."""

    def step(self, kernel, key, xt, proposal, context, state):
        return step_to(xt)


def noisy(toy, s):
    """[V, V]: q_s of the pair."""
    return toy.matrix(s).T @ JOINT @ toy.matrix(s)


def drawn(law, seed):
    """[N, 2] tokens."""
    pairs = np.random.default_rng(seed).choice(V * V, N, p=law.ravel() / law.sum())
    return jnp.asarray(np.stack(np.divmod(pairs, V), 1), jnp.int32)


def redrawn(toy, s, law, strength, steps, moving=(True, True)):
    """[V, V]: the law after `steps` redraws, written out: each position keeps its token or goes to q_s(. | x~_0)."""
    for _ in range(steps):
        posteriors = denoiser(toy, s)
        to = [np.einsum("xyk,ka->xya", p, toy.matrix(s)) for p in posteriors]
        eye = np.eye(V)
        stays = [eye[:, None, :], eye[None, :, :]]
        c = [strength * moves for moves in moving]
        first, second = ((1 - c[i]) * stays[i] + c[i] * to[i] for i in (0, 1))
        law = np.einsum("xy,xya,xyb->ab", law, first, second)
    return law


def corrected(name, s, initial, strength, steps, is_given=False):
    at = Plan(*(np.float32([x]) for x in (0.9, s, 0)), *(np.int32([x]) for x in (0, 2)))
    network, corrector = NETWORKS[name], (steps, strength)
    options = {"network": network, "corrector": corrector, "initial": initial, "given": initial, "is_given": is_given}
    return codes(sample(name, Still(), (N, 2), at, **options)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_corrector_leaves_its_time_as_it_is_and_repairs(name):
    """One position moves beside a given noisy one, which tells of it. From pairs of the law q_s the law stays q_s; from
    a first position that knows nothing it becomes what enumeration says, and that is nearer. False alarm 1e-6 each."""
    toy, s, fixed = TOYS[name], 0.35, np.array([False, True])
    q = noisy(toy, s)
    toys.assert_frequencies(corrected(name, s, drawn(q, 0), 0.7, 2, fixed), q.ravel())
    wrong = np.outer(np.full(V, 1 / V) if toy.mask_id is None else toy.prior(1.0), q.sum(0))
    repaired = redrawn(toy, s, wrong, 0.7, 2, (True, False))
    assert variation(repaired, q) < 0.4 * variation(wrong, q)
    toys.assert_frequencies(corrected(name, s, drawn(wrong, 1), 0.7, 2, fixed), repaired.ravel())


def test_the_corrector_of_many_positions_moves_them_from_the_same_tokens():
    """With both free it is not exact, and what enumeration says. False alarm 1e-6."""
    toy, s = TOYS["uniform"], 0.35
    wrong = np.full((V, V), 1 / V**2)
    law = redrawn(toy, s, wrong, 0.5, 2)
    assert variation(law, noisy(toy, s)) < 0.5 * variation(wrong, noisy(toy, s))
    toys.assert_frequencies(corrected("uniform", s, drawn(wrong, 1), 0.5, 2), law.ravel())


def test_independent_positions_keep_their_law_under_a_corrector():
    """All four positions redrawn often; the exact denoiser knows each alone. False alarm 1e-6."""
    toy, s = TOYS["semdlm_plus"], 0.35
    q = toys.P_DATA @ toy.matrix(s)
    at = Plan(*(np.float32([x]) for x in (0.9, s, 0)), *(np.int32([x]) for x in (0, 4)))
    initial = jnp.asarray(np.random.default_rng(4).choice(V, (N // 4, 4), p=q / q.sum()), jnp.int32)
    text, _ = sample("semdlm_plus", Still(), initial.shape, at, corrector=(3, 0.3), initial=initial)
    assert (text != initial).mean() > 0.2
    toys.assert_frequencies(text, q)
