"""What the network is told of given positions and finished strides, and what that is worth where x2 = x1 always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_pairs
import toys
from toy_samplers import sample
from toys import TOYS, V

from semdlm_jax.samplers import Network, make_plan

pytestmark = pytest.mark.usefixtures("quick_compile")

COPIES = np.diag(np.where(np.isin(np.arange(V), toy_pairs.TEXT), 0.25, 0))  # the law of (x1, x2)


def watched(seen):
    """A network that notes what it is told is clean, at each evaluation."""

    def features(tokens, t, lengths, clean):
        jax.debug.callback(lambda *told: seen.append(told), t[0], clean, ordered=True)
        return tokens

    return Network(features, lambda x: jnp.zeros((*x.shape, V)), reads_clean=True)


def test_given_positions_and_finished_strides_are_told():
    """In steps and correctors: what is given, wherever it stands, and all before the stride. In corrections of finished
    text, which may change it, what is given alone."""
    is_given = np.array([[0, 1, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0]], bool)
    seen, plan = [], make_plan(None, 4, 2, 8, 0.1)
    options = {"corrections": 2, "correct_time": 0.01}
    how = {"is_given": is_given, "given": 3, "corrector": (1, 0.5), "options": options}
    sample("uniform", "gidd_correct", is_given.shape, plan, network=watched(seen), **how)
    jax.effects_barrier()
    assert len(seen) == 4 + 2 + 2  # steps, a corrector's after all but a stride's last one, corrections
    for index, (_, clean) in enumerate(seen[:6]):
        np.testing.assert_array_equal(clean, is_given | (np.arange(8) < (0 if index < 3 else 4)))
    for t, clean in seen[6:]:
        assert t == np.float32(0.01)
        np.testing.assert_array_equal(clean, is_given)


def exact(kernel, marks):
    """log p(x0^i = k | the other noisy token), and with marks p(x0^i | the other one, clean where it is marked)."""

    def features(tokens_Bx2, t, lengths, clean=None):
        chances = kernel.prob(tokens_Bx2[..., None], jnp.arange(V), t[:, None, None])
        if clean is not None:
            chances = jnp.where(clean[..., None], jax.nn.one_hot(tokens_Bx2, V), chances)
        return chances[:, ::-1] * np.diag(COPIES)

    return Network(features, lambda x: jnp.log(jnp.maximum(x, 1e-30)), reads_clean=marks)


def copied(toy, plan):
    """The chance that the second token becomes a copy of a given first one that is read as noise: the exact law of a
    step's text, step by step."""
    total = 0
    for first in toy_pairs.TEXT:
        law = toy.prior(1.0)
        for t, s in zip(np.float64(plan.t), np.float64(plan.s), strict=True):
            _, second = toy_pairs.denoiser(toy, t, COPIES)
            step = toy.reverse(t, s) if s > 0 else np.broadcast_to(np.eye(V)[:, None], (V, V, V))
            law = np.einsum("x,xk,kxy->y", law, second[first], step)
        total += law[first] / 4
    return total


PLAN = make_plan(None, 16, 1, 2, 1e-3)


@pytest.mark.parametrize("name", ["semdlm_plus", "uniform"])
def test_a_prompt_is_copied_with_marks_alone(name):
    kernel, rows = TOYS[name].build(), 8192
    given = np.stack([np.tile(toy_pairs.TEXT, rows // 4), np.zeros(rows, int)], axis=1)
    how = {"given": given, "is_given": np.array([True, False]), "plan": PLAN}
    text, _ = sample(kernel, "ancestral", given.shape, network=exact(kernel, True), **how)
    np.testing.assert_array_equal(text[:, 1], given[:, 0])
    text, _ = sample(kernel, "ancestral", given.shape, network=exact(kernel, False), **how)
    chance = copied(TOYS[name], PLAN)
    assert 0.5 < chance < 0.97
    toys.assert_frequencies(text[:, 1] == given[:, 0], np.array([1 - chance, chance]))
